//! A primary behind a real HAProxy that ends TLS: whose certificate a relay believes.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::harness::cluster::nodes_of;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
use crate::harness::program::{Program, output_of, tool};
use crate::harness::source::{Framing, Source, listen, on_air, source_head};
use crate::harness::tone::{self, FRAME};
use crate::harness::{eventually, two_free_ports};

const MOUNT: &str = "/live.mp3";

/// An authority of our own and its certificate for `localhost`.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    async fn make() -> Self {
        let made = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        made.openssl(&format!(
            "req -x509 {key} -keyout ca.key -out ca.pem -days 30 -subj /CN=Ours \
             -addext basicConstraints=critical,CA:TRUE"
        ))
        .await;
        made.openssl(&format!(
            "req {key} -keyout server.key -out server.csr -subj /CN=localhost"
        ))
        .await;
        std::fs::write(made.file("more"), "subjectAltName=DNS:localhost\n").unwrap();
        made.openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile more -out server.pem",
        )
        .await;
        let parts = ["server.pem", "server.key"];
        let both = parts.map(|part| std::fs::read(made.file(part)).unwrap());
        std::fs::write(made.file("both.pem"), both.concat()).unwrap();
        made
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn openssl(&self, words: &str) -> Vec<u8> {
        let mut openssl = tool("openssl", "openssl");
        openssl.args(words.split_whitespace());
        openssl.current_dir(self.folder.path());
        output_of(openssl).await
    }

    /// What a join token ends in.
    async fn pin(&self) -> String {
        self.openssl("x509 -in server.pem -pubkey -noout -out server.pub")
            .await;
        let key = self
            .openssl("pkey -pubin -in server.pub -outform DER")
            .await;
        let digest = Sha256::digest(key);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// HAProxy that ends TLS in front of a node.
async fn front(node: &Node, certificates: &Certificates) -> (u16, Program) {
    let port = two_free_ports();
    let text = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend tls\n  bind 127.0.0.1:{port} ssl crt {}\n  default_backend head\n\
         backend head\n  server head 127.0.0.1:{}\n",
        certificates.file("both.pem").display(),
        node.port
    );
    let file = certificates.file("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let mut haproxy: Command = tool("haproxy", "haproxy");
    haproxy.arg("-db").arg("-f").arg(&file);
    let haproxy = Program::start(haproxy);
    eventually("HAProxy answers", async || {
        let peer = Peer::try_connect(std::net::Ipv4Addr::LOCALHOST.into(), port).await;
        peer.is_ok().then_some(())
    })
    .await;
    (port, haproxy)
}

fn joining(port: u16, token: &str, name: &str) -> Plan {
    Plan::joining_at(&format!("https://localhost:{port}"), token).name(name)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test]
async fn an_https_primary_is_joined_by_whoever_knows_its_certificate() {
    let certificates = Certificates::make().await;
    let primary = Plan::primary().name("head").start().await;
    let (port, _haproxy) = front(&primary, &certificates).await;
    let _source = Source::start(&primary, MOUNT).await;
    let token = primary.secret("join-token");
    let authority = shown(&certificates.file("ca.pem"));
    let pinned = format!("{token}.{}", certificates.pin().await);
    let plans = [
        (
            "system",
            joining(port, &token, "system").variable("SSL_CERT_FILE", &authority),
        ),
        (
            "flag",
            joining(port, &token, "flag").flag("--primary-ca", &authority),
        ),
        (
            "file",
            joining(port, &token, "file").yaml(&format!("primary_ca: {authority}")),
        ),
        ("pinned", joining(port, &pinned, "pinned")),
    ];
    let mut relays = Vec::new();
    for (name, plan) in plans {
        let relay = plan.start().await;
        on_air(relay.port, MOUNT).await;
        let (mut listener, _) = listen(relay.port, MOUNT).await;
        tone::run(&listener.exact(50 * FRAME).await);
        assert!(
            !relay.log().contains("not joined yet"),
            "{name}: {}",
            relay.log()
        );
        relays.push(relay);
    }
    // What lands on a relay goes to the primary by TLS too.
    let mut peer = Peer::connect(relays[0].port).await;
    let more = "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n";
    let password = primary.source_password();
    peer.send(source_head("PUT /talk.mp3 HTTP/1.1", &password, more))
        .await;
    assert_eq!(peer.head().await.status, 100);
    let _talk = Source::over(peer, Framing::Chunked, 0);
    on_air(primary.port, "/talk.mp3").await;
    // Beats of several relays share HAProxy's connections: nobody is suspected for one that it closes.
    eventually("they have beaten for a while", async || {
        let rows = nodes_of(&primary).await;
        let old = rows.iter().filter(|row| {
            row["state"] == "ready" && row["uptime_seconds"].as_u64().is_some_and(|s| s >= 8)
        });
        (old.count() == 5).then_some(())
    })
    .await;
    let log = primary.log();
    assert!(!log.contains("suspect"), "{log}");
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_and_said() {
    let certificates = Certificates::make().await;
    let primary = Plan::primary().start().await;
    let (port, _haproxy) = front(&primary, &certificates).await;
    let token = primary.secret("join-token");
    let wrong = format!("{token}.{}", "00".repeat(32));
    let authority = shown(&certificates.file("ca.pem"));
    let plans = [
        (joining(port, &token, "stranger"), "--primary-ca"),
        // A pin is not helped by an authority.
        (
            joining(port, &wrong, "fooled").flag("--primary-ca", &authority),
            "not the one that the join token names",
        ),
    ];
    for (plan, said) in plans {
        let relay = plan.start().await;
        eventually("the relay says why", async || {
            let log = relay.log();
            let line = log.lines().find(|line| line.contains("not joined yet"))?;
            assert!(
                line.contains("certificate") && line.contains(said),
                "{line}"
            );
            Some(())
        })
        .await;
        assert_eq!(relay.get("/readyz").await.0.status, 503);
    }
    assert_eq!(nodes_of(&primary).await.len(), 1);
    // What can be known at the start is refused then.
    for (plan, said) in [
        (joining(port, &format!("{token}.12"), "torn"), "SHA-256"),
        (
            joining(port, &token, "nothing").flag("--primary-ca", "/nowhere.pem"),
            "/nowhere.pem",
        ),
    ] {
        let mut program = plan.spawn();
        assert_eq!(program.ended().await.code(), Some(1));
        assert!(program.stderr().contains(said), "{}", program.stderr());
    }
}

/// As in a root that is empty but for the program: what needs no certificate works, and what needs one says what to install.
#[tokio::test]
async fn authorities_of_the_system_are_missed_by_https_alone() {
    let bare = |plan: Plan| {
        let plan = plan.variable("SSL_CERT_FILE", "/nowhere.pem");
        plan.variable("SSL_CERT_DIR", "/nowhere")
    };
    let primary = bare(Plan::primary().name("head")).start().await;
    let _source = Source::start(&primary, MOUNT).await;
    let token = primary.secret("join-token");
    let relay = bare(Plan::joining(primary.port, &token).name("clear"));
    let relay = relay.start().await;
    on_air(relay.port, MOUNT).await;
    eventually("the primary has asked the relay's URL", async || {
        let rows = nodes_of(&primary).await;
        rows.iter()
            .any(|row| row["name"] == "clear" && row["state"] == "ready")
            .then_some(())
    })
    .await;
    for node in [&primary, &relay] {
        let log = node.log();
        assert!(!log.to_lowercase().contains("certificate"), "{log}");
    }

    let certificates = Certificates::make().await;
    let (port, _haproxy) = front(&primary, &certificates).await;
    // A key or an authority that was named is enough.
    let pinned = format!("{token}.{}", certificates.pin().await);
    let authority = shown(&certificates.file("ca.pem"));
    for plan in [
        joining(port, &pinned, "pinned"),
        joining(port, &token, "named").flag("--primary-ca", &authority),
    ] {
        let relay = bare(plan).start().await;
        on_air(relay.port, MOUNT).await;
    }
    let stranger = bare(joining(port, &token, "stranger")).start().await;
    eventually("the relay says what is missing", async || {
        let log = stranger.log();
        let line = log.lines().find(|line| line.contains("not joined yet"))?;
        assert!(line.contains("install `ca-certificates`"), "{line}");
        assert!(line.contains("--primary-ca"), "{line}");
        Some(())
    })
    .await;
    // A client's question, with and without TLS.
    let client = |address: String| {
        let mut command = primary.words(&["status", "--addr", &address]);
        command.env("RELAYCTL_API_TOKEN", primary.secret("admin-password"));
        command.env("SSL_CERT_FILE", "/nowhere.pem");
        command.env_remove("RELAYCTL_DATA_DIR");
        Program::start(command)
    };
    let mut clear = client(primary.url());
    assert!(clear.ended().await.success(), "{}", clear.stderr());
    let mut asking = client(format!("https://localhost:{port}"));
    assert_eq!(asking.ended().await.code(), Some(3), "{}", asking.stderr());
    let said = asking.stderr();
    assert!(said.contains("install `ca-certificates`"), "{said}");
}
