//! Links, images and scripts of other sites that a signed-in operator's browser follows.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer};
use crate::harness::program::{Program, tool};
use crate::harness::source::login;
use crate::harness::under_attack::{MOUNT, UnderAttack};

const CHROMIUM: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                        Chrome/156.0.0.0 Safari/537.36\r\nAccept-Language: de-DE,de;q=0.9\r\n\
                        Upgrade-Insecure-Requests: 1\r\n";

/// A request as a browser sends it to a plain-http host, with the password that it has kept.
async fn browse(node: &Node, method: &str, target: &str, fields: &str) -> (Head, String) {
    let login = login("admin", &node.secret("admin-password"));
    let host = format!("radio.example:{}", node.port);
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\n{login}{CHROMIUM}{fields}\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    Peer::connect(node.port).await.ask(request).await
}

fn actions(node: &Node) -> Vec<(&'static str, String)> {
    let pass = node.source_password();
    vec![
        ("GET", format!("/admin/killsource?mount={MOUNT}")),
        ("HEAD", format!("/admin/killsource?mount={MOUNT}")),
        ("POST", format!("/admin/killsource?mount={MOUNT}")),
        ("GET", format!("/admin/killclient?mount={MOUNT}&id=1")),
        (
            "GET",
            format!("/admin/metadata?mount={MOUNT}&mode=updinfo&song=PWNED"),
        ),
        (
            "GET",
            format!("/admin.cgi?pass={pass}&mode=updinfo&mount={MOUNT}&song=PWNED"),
        ),
        ("POST", "/api/v1/drain".into()),
        ("POST", "/api/v1/listeners/1/kick".into()),
        ("DELETE", "/api/v1/listeners/1".into()),
        ("POST", "/api/v1/tokens".into()),
    ]
}

#[tokio::test]
async fn a_link_ends_no_source_and_sets_no_title() {
    let plan = Plan::primary().flag("--public-url", "http://radio.example");
    let scene = UnderAttack::primary(plan).await;
    let node = &scene.node;
    let mut refused = 0;
    for (method, target) in actions(node) {
        for fields in [
            "",
            "Referer: http://evil.example/\r\n",
            "Origin: null\r\n",
            "Origin: http://evil.example\r\n",
            "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n",
            "Sec-Fetch-Site: same-site\r\n",
        ] {
            // HEAD has no body to read, and HTTP/1.1 would announce one.
            if method == "HEAD" {
                continue;
            }
            let (head, _) = browse(node, method, &target, fields).await;
            assert_eq!(head.status, 403, "{method} {target} {fields}");
            refused += 1;
        }
    }
    assert!(refused > 50);
    let (_, status) = node.get("/status-json.xsl").await;
    assert!(
        status.contains(MOUNT) && !status.contains("PWNED"),
        "{status}"
    );
    assert_eq!(node.get("/readyz").await.0.status, 200);
    let (_, report) = scene.finish("links and pages of other sites").await;
    assert!(
        report.peak_mib < report.first_mib + 32 && report.peak_descriptors < 300,
        "{report:?}"
    );
}

/// Opens `url` in a headless Chromium that finds both names on this machine, and gives the page that it ends at.
async fn chromium(url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut command = tool("chromium", "chromium");
    command
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--no-first-run",
            "--virtual-time-budget=20000",
            "--disable-popup-blocking",
            "--dump-dom",
        ])
        .arg("--host-resolver-rules=MAP radio.example 127.0.0.1, MAP evil.example 127.0.0.1")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .env("HOME", profile.path())
        .arg(url);
    let mut program = Program::start(command);
    program.ended().await;
    program.stdout()
}

/// A server of two pages of another host: `/` signs the browser in at the node, as an operator did by typing the
/// password; `/evil` leads it to `target`. The node's page is left by its own time, so the first one is a redirect.
struct Evil {
    port: u16,
    serving: tokio::task::JoinHandle<()>,
}

impl Evil {
    async fn serve(node: &Node, target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, target) = (node.port, target.to_owned());
        let password = node.secret("admin-password");
        let own = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let script = if head[..read].starts_with(b"GET /evil") {
                    format!("location = 'http://radio.example:{port}{target}'")
                } else {
                    format!(
                        "window.open('http://admin:{password}@radio.example:{port}/admin/stats'); \
                         setTimeout(() => location = '/evil', 3000)"
                    )
                };
                let body = format!("<title>evil</title><script>{script}</script>");
                let page = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(page.as_bytes()).await;
            }
        });
        Self { port: own, serving }
    }

    async fn lead(self) -> String {
        let page = chromium(&format!("http://evil.example:{}/", self.port)).await;
        self.serving.abort();
        page
    }
}

#[tokio::test]
async fn a_real_browser_is_led_to_a_page_that_asks() {
    let plan = Plan::primary().flag("--public-url", "http://radio.example");
    let scene = UnderAttack::primary(plan).await;
    // The browser is signed in: what only reads is answered.
    let read = Evil::serve(&scene.node, "/admin/listmounts")
        .await
        .lead()
        .await;
    assert!(read.contains(MOUNT), "{read}");
    let kill = format!("/admin/killsource?mount={MOUNT}");
    let page = Evil::serve(&scene.node, &kill).await.lead().await;
    // It names the page that led here, so no button is offered.
    assert!(page.contains("nothing was done"), "{page}");
    let reason = "reason=\"foreign_origin\"";
    assert!(scene.node.metric("relayctl_refusals_total", reason).await >= 1.0);
    scene.finish("a page of another host in Chromium").await;
}
