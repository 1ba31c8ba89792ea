//! Fields of every answer that bind a browser: it takes the type that is told, runs no script, is framed by nobody, and tells no
//! other site where it came from.

use crate::harness::node::Plan;
use crate::harness::peer::ask;
use crate::harness::source::login;
use crate::harness::under_attack::UnderAttack;

/// First lines of requests, each answered with a text of the node's own, and the status that it has.
const ASKED: [(&str, u16); 22] = [
    ("GET / HTTP/1.1", 200),
    ("GET /status-json.xsl HTTP/1.1", 200),
    ("GET /7.html HTTP/1.1", 200),
    ("GET /stats HTTP/1.1", 200),
    ("GET /live.mp3.m3u HTTP/1.1", 200),
    ("GET /health HTTP/1.1", 200),
    ("GET /healthz HTTP/1.0", 200),
    ("GET /metrics HTTP/1.1", 200),
    ("GET /api/v1/openapi.json HTTP/1.1", 200),
    ("GET /api/v1/none HTTP/1.1", 404),
    ("GET /nothing.mp3 HTTP/1.1", 404),
    ("GET /nothing HTTP/1.0", 404),
    ("GET /nothing.mp3.m3u HTTP/1.1", 404),
    ("DELETE / HTTP/1.1", 405),
    ("GET /live.mp3?rt=%zz HTTP/2.7", 505),
    ("GET /%00.mp3 HTTP/1.1", 400),
    ("PUT /live.mp3 HTTP/1.1", 401),
    ("POST /cluster/v1/join HTTP/1.1", 401),
    // These by the administrator.
    ("GET /admin/stats HTTP/1.1", 200),
    ("GET /admin/listmounts HTTP/1.1", 200),
    ("GET /admin/killsource?mount=/live.mp3 HTTP/1.1", 403),
    ("GET /admin/none HTTP/1.1", 404),
];

const GUARDS: [(&str, &str); 4] = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),
    ("Referrer-Policy", "same-origin"),
];

#[tokio::test]
async fn every_page_says_what_a_browser_may_do_with_it() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let login = login("admin", &scene.node.secret("admin-password"));
    for (first, status) in ASKED {
        let more = match first.contains("/admin") {
            // In a browser, where what changes state is answered with a page that asks again.
            true => format!("{login}Accept-Language: de\r\n"),
            false => String::new(),
        };
        let request = format!(
            "{first}\r\nHost: localhost\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let (head, body) = ask(scene.node.port, request).await;
        assert_eq!(head.status, status, "{first}: {body}");
        assert!(!body.is_empty(), "{first}");
        assert!(status != 405 || head.get("allow").is_some(), "{first}");
        for (name, value) in GUARDS {
            let said = head.get(name).unwrap_or_default();
            assert!(said.contains(value), "{first}: {name}: {said:?}");
        }
    }
    let (_, report) = scene.finish("a browser at every page").await;
    assert!(report.peak_mib < report.first_mib + 16, "{report:?}");
}
