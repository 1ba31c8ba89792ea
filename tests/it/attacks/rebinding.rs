//! Pages whose host name suddenly leads to this machine: to the browser they are of the node's own origin.

use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer};
use crate::harness::source::{basic, login};
use crate::harness::under_attack::{MOUNT, UnderAttack};

async fn ask(node: &Node, request: &str, host: &str, fields: &str) -> Head {
    let request = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    Peer::connect(node.port).await.ask(request).await.0
}

#[tokio::test]
async fn a_page_whose_name_leads_here_neither_reads_nor_acts() {
    let plan = Plan::primary().yaml("hosts: [radio.lan, '*.studio.example']");
    let scene = UnderAttack::primary(plan).await;
    let node = &scene.node;
    let admin = login("admin", &node.secret("admin-password"));
    let (evil, own) = (
        format!("evil.example:{}", node.port),
        format!("127.0.0.1:{}", node.port),
    );
    for (request, allowed) in [
        ("GET /metrics".to_owned(), 200),
        ("GET /api/v1/listeners".to_owned(), 200),
        ("GET /admin/stats".to_owned(), 200),
        ("POST /api/v1/resume".to_owned(), 200),
        ("POST /admin/killclient?mount=/none&id=1".to_owned(), 200),
    ] {
        for host in [
            &evil,
            "x.evil.example",
            "radio.lan.evil.example",
            "127.0.0.1.evil.example",
        ] {
            let origin = format!("{admin}Origin: http://{host}\r\n");
            assert_eq!(
                ask(node, &request, host, &origin).await.status,
                403,
                "{request} {host}"
            );
            let fetch =
                format!("{admin}Sec-Fetch-Site: same-origin\r\nReferer: http://{host}/\r\n");
            assert_eq!(
                ask(node, &request, host, &fetch).await.status,
                403,
                "{request} {host}"
            );
        }
        for host in [
            &own,
            "radio.lan",
            "a.studio.example",
            "localhost",
            "[::1]:8000",
        ] {
            let origin = format!("{admin}Origin: http://{host}\r\n");
            let head = ask(node, &request, host, &origin).await;
            assert_eq!(head.status, allowed, "{request} {host}");
        }
    }
    // Any name may lead listeners, encoders and programs here.
    let page = "Origin: https://any.name\r\nSec-Fetch-Site: cross-site\r\n";
    for path in [
        "/",
        "/health",
        "/status-json.xsl",
        "/live.mp3.m3u",
        "/api/v1/openapi.json",
    ] {
        assert_eq!(
            ask(node, &format!("GET {path}"), "any.name", page)
                .await
                .status,
            200,
            "{path}"
        );
    }
    assert_eq!(
        ask(node, &format!("HEAD {MOUNT}"), "any.name", page)
            .await
            .status,
        200
    );
    let title = format!("GET /admin/metadata?mount={MOUNT}&mode=updinfo&song=x");
    let encoder = basic(&node.source_password());
    assert_eq!(ask(node, &title, "any.name", &encoder).await.status, 200);
    let bearer = format!(
        "Authorization: Bearer {}\r\n{page}",
        node.secret("admin-password")
    );
    assert_eq!(
        ask(node, "GET /api/v1/listeners", "any.name", &bearer)
            .await
            .status,
        200
    );
    assert!(
        node.metric("relayctl_refusals_total", "reason=\"foreign_host\"")
            .await
            >= 40.0
    );
    scene.finish("pages after DNS rebinding").await;
}

#[tokio::test]
async fn metrics_are_closed_behind_a_proxy_that_is_not_trusted() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let node = &scene.node;
    for field in [
        "X-Forwarded-For: 198.51.100.9",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: https",
        "Forwarded: for=127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "Via: 1.1 front",
    ] {
        let head = ask(node, "GET /metrics", "localhost", &format!("{field}\r\n")).await;
        assert_eq!(head.status, 401, "{field}");
    }
    assert_eq!(ask(node, "GET /metrics", "localhost", "").await.status, 200);
    scene.finish("metrics by way of a proxy").await;

    let trusting = Plan::primary()
        .yaml("trusted_proxies: [127.0.0.1/32]")
        .start()
        .await;
    for (field, status) in [
        ("X-Forwarded-For: 198.51.100.9", 401),
        ("Via: 1.1 front", 401),
        ("X-Forwarded-For: 10.0.0.9", 200),
        ("Accept: */*", 200),
    ] {
        let head = ask(
            &trusting,
            "GET /metrics",
            "localhost",
            &format!("{field}\r\n"),
        )
        .await;
        assert_eq!(head.status, status, "{field}");
    }
}
