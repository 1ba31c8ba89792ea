//! The room through its door: requests in, bytes out.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::testing::{ADMIN, RELAY, SOURCE, Scene, config, ends, mount};
use crate::control::{Config, MetricsOpen, Visitor};
use crate::telemetry::{Class, EndReason};
use crate::wire::message::PublicUrls;

const TITLE: &str = "A <b> & \"q\" '; 🎵";

/// Cleaned as every title is.
const CLEAN: &str = "A <b> & \"q\" ' ; 🎵";

/// A list without the seconds that pass while a test runs.
fn without_age(text: &str) -> String {
    let (open, close) = ("<Connected>", "</Connected>");
    let mut parts = text.split(open);
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (age, rest) = part.split_once(close).unwrap();
        assert!(age.parse::<u64>().unwrap() < 3600, "{age}");
        out += &format!("{open}N{close}{rest}");
    }
    out
}

#[tokio::test]
async fn status_json_is_icecasts_with_no_one_and_many_mounts() {
    let scene = Scene::new();
    let none = scene.ask("/status-json.xsl").send().await;
    assert_eq!(
        none.header("content-type"),
        "application/json; charset=UTF-8"
    );
    assert_eq!(none.header("access-control-allow-origin"), "*");
    let keys: Vec<String> = none.json()["icestats"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(
        keys,
        [
            "admin",
            "host",
            "location",
            "server_id",
            "server_start",
            "server_start_iso8601"
        ]
    );
    let array = scene.ask("/status-json.xsl?array=1").send().await;
    assert_eq!(array.json()["icestats"]["source"], json!([]));

    let mut intake = scene.source("/live.mp3", TITLE);
    scene.push(&mut intake);
    let one = scene.ask("/status-json.xsl").send().await.json();
    let mut source = one["icestats"]["source"].clone();
    let since = source["stream_start_iso8601"].as_str().unwrap().to_owned();
    assert!(since.ends_with("+0000") && since.len() == 24, "{since}");
    let start = source["stream_start"].as_str().unwrap().to_owned();
    assert!(start.ends_with(" +0000") && start.len() == 31, "{start}");
    for key in ["stream_start", "stream_start_iso8601"] {
        source[key] = Value::Null;
    }
    assert_eq!(
        serde_json::to_string(&source).unwrap(),
        "{\"audio_info\":\"ice-samplerate=48000;ice-bitrate=128\",\"bitrate\":128,\"genre\":\"007\",\
         \"ice-bitrate\":128,\"ice-channels\":1,\"ice-samplerate\":48000,\"listener_peak\":0,\"listeners\":0,\
         \"listenurl\":\"http://radio.example:8000/live.mp3\",\
         \"server_description\":\"Unspecified description\",\"server_name\":\"Radio <&\\\" 🎵\",\
         \"server_type\":\"audio/mpeg\",\"stream_start\":null,\"stream_start_iso8601\":null,\
         \"title\":\"A <b> & \\\"q\\\" ' ; 🎵\",\"dummy\":null}"
    );

    let _other = scene.source("/other 1.mp3", "-");
    let many = scene.ask("/status-json.xsl").send().await.json();
    let sources = many["icestats"]["source"].as_array().unwrap();
    assert_eq!(sources.len(), 2);
    assert_eq!(sources[1]["title"], "-");
    assert_eq!(
        sources[1]["listenurl"],
        "http://radio.example:8000/other%201.mp3"
    );
    let filtered = scene
        .ask("/status-json.xsl?mount=/live.mp3")
        .send()
        .await
        .json();
    assert_eq!(filtered["icestats"]["source"]["title"], CLEAN);
    let unknown = scene.ask("/status-json.xsl?mount=nope").send().await.json();
    assert!(unknown["icestats"].get("source").is_none());
}

#[tokio::test]
async fn titles_come_in_any_character_set_and_from_those_who_may() {
    let scene = Scene::new();
    let mut intake = scene.source("/live.mp3", "first");
    let _own = scene.source("/own.mp3", "first");
    let path = "/admin/metadata?mount=/live.mp3&mode=updinfo";
    for (query, title) in [
        ("song=A+-+B%26C", "A - B&C"),
        ("song=Mot%F6rhead", "Motörhead"),
        ("song=Mot%C3%B6rhead", "Motörhead"),
        ("song=%C3%B6&charset=ISO-8859-1", "Ã¶"),
        ("artist=A&title=B", "A - B"),
        ("title=B", "B"),
        ("song=x%0D%0A%00y%27%3Bz", "xy' ;z"),
        ("song=", ""),
    ] {
        let answer = scene
            .ask(&format!("{path}&{query}"))
            .user("source", SOURCE)
            .send()
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(
            answer.text,
            "<?xml version=\"1.0\"?>\n<iceresponse><message>Metadata update successful</message>\
             <return>1</return></iceresponse>\n"
        );
        assert_eq!(answer.header("content-type"), "text/xml; charset=utf-8");
        scene.push(&mut intake);
        let now = scene
            .control
            .engine
            .mount(&mount("/live.mp3"))
            .unwrap()
            .title();
        assert_eq!(now.unwrap().text, title, "{query}");
    }
    let own = "/admin/metadata?mount=/own.mp3&mode=updinfo&song=x";
    for (user, password, target, status) in [
        ("source", "wrong", path, 401),
        ("source", SOURCE, own, 401),
        ("source", "own-secret", own, 200),
        ("source", "own-secret", path, 401),
        ("relay", RELAY, path, 401),
        ("admin", ADMIN, own, 200),
        ("admin", SOURCE, own, 401),
    ] {
        let target = format!("{target}&song=x");
        let answer = scene.ask(&target).user(user, password).send().await;
        assert_eq!(answer.status.as_u16(), status, "{user} {target}");
    }
    for (query, status, text) in [
        ("mode=updinfo&song=x", 400, "Missing parameter"),
        (
            "mode=updinfo&song=x&mount=/none",
            400,
            "Source does not exist",
        ),
        ("mode=updinfo&mount=/live.mp3", 400, "Missing parameter"),
        (
            "mode=other&mount=/live.mp3",
            200,
            "No such action</message><return>0",
        ),
    ] {
        let answer = scene
            .ask(&format!("/admin/metadata?{query}"))
            .admin()
            .send()
            .await;
        assert_eq!(answer.status.as_u16(), status, "{query}");
        assert!(answer.text.contains(text), "{}", answer.text);
    }
}

#[tokio::test]
async fn shoutcast_sets_titles_and_reads_statistics() {
    let scene = Scene::new();
    let empty = scene.ask("/7.html").send().await;
    assert_eq!(empty.text, "<html><body>0,0,0,100,0,0,</body></html>");
    let mut intake = scene.source("/live.mp3", "first");
    let song = "song=A+%3Cb%3E";
    for (pass, status) in [
        ("wrong", 401),
        ("", 401),
        (SOURCE, 200),
        (ADMIN, 200),
        ("/live.mp3:source-secret", 200),
    ] {
        let target = format!("/admin.cgi?mode=updinfo&pass={pass}&{song}");
        let answer = scene
            .ask(&target)
            .field("user-agent", "anything")
            .send()
            .await;
        assert_eq!(answer.status.as_u16(), status, "{pass}: {}", answer.text);
    }
    scene.push(&mut intake);
    let _client = scene.listener("/live.mp3", "x");
    let page = scene.ask("/7.html?sid=1").send().await;
    assert_eq!(
        page.text,
        "<html><body>1,1,1,100,1,128,A &lt;b&gt;</body></html>"
    );
    assert_eq!(page.header("access-control-allow-origin"), "*");
    let stats = scene.ask("/stats?sid=1&json=1").send().await.json();
    assert_eq!(stats["songtitle"], "A <b>");
    assert_eq!(
        (&stats["bitrate"], &stats["samplerate"]),
        (&json!("128"), &json!("48000"))
    );
    assert_eq!(
        (&stats["streamstatus"], &stats["currentlisteners"]),
        (&json!(1), &json!(1))
    );
    let xml = scene.ask("/stats").send().await.text;
    assert!(xml.starts_with(
        "<?xml version=\"1.0\"?>\n<SHOUTCASTSERVER><CURRENTLISTENERS>1</CURRENTLISTENERS>"
    ));
    assert!(xml.contains("<SONGTITLE>A &lt;b&gt;</SONGTITLE>"), "{xml}");
    assert_eq!(
        scene.ask("/stats?sid=9&json=1").send().await.json()["streamstatus"],
        0
    );
    let kick = format!("/admin.cgi?mode=kicksrc&pass={ADMIN}");
    assert_eq!(
        scene.ask(&kick).send().await.status,
        StatusCode::NOT_IMPLEMENTED
    );
}

#[tokio::test]
async fn icecasts_lists_are_well_formed_and_escaped() {
    let scene = Scene::new();
    let _intake = scene.source("/live.mp3", TITLE);
    let _client = scene.listener("/live.mp3", "agent <&\"> 🎵");
    let stats = scene.ask("/admin/stats").admin().send().await.text;
    assert!(stats.starts_with("<?xml version=\"1.0\"?>\n<icestats><admin>ops@radio.example</admin><banned_IPs>0</banned_IPs><build>9.9.9</build>"), "{stats}");
    assert!(stats.contains("<clients>2</clients><connections>0</connections><file_connections>0</file_connections><host>radio.example</host>"), "{stats}");
    assert!(
        stats.contains("<listener_connections>1</listener_connections><listeners>1</listeners>"),
        "{stats}"
    );
    assert!(stats.contains("<source mount=\"/live.mp3\"><audio_info>"));
    assert!(
        stats.contains("<title>A &lt;b&gt; &amp; &quot;q&quot; &apos; ; 🎵</title>"),
        "{stats}"
    );
    assert!(stats.contains("<source_ip>198.51.100.7</source_ip>"));
    let mut reader = quick_xml::Reader::from_str(&stats);
    let mut elements = 0;
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Eof => break,
            quick_xml::events::Event::Start(_) => elements += 1,
            _ => {}
        }
    }
    assert!(elements > 25, "{elements}");

    let mounts = scene.ask("/admin/listmounts").admin().send().await.text;
    assert!(without_age(&mounts).contains("<source mount=\"/live.mp3\"><fallback></fallback><listeners>1</listeners><Connected>N</Connected><content-type>audio/mpeg</content-type></source>"), "{mounts}");
    let clients = scene
        .ask("/admin/listclients?mount=/live.mp3")
        .admin()
        .send()
        .await
        .text;
    assert!(without_age(&clients).contains("<Listeners>1</Listeners><listener><IP>203.0.113.9</IP><UserAgent>agent &lt;&amp;&quot;&gt; 🎵</UserAgent><Connected>N</Connected><ID>1</ID></listener>"), "{clients}");
    for (user, password, status) in [
        ("relay", RELAY, 200),
        ("admin", ADMIN, 200),
        ("source", SOURCE, 401),
    ] {
        let list = scene
            .ask("/admin/streamlist.txt")
            .user(user, password)
            .send()
            .await;
        assert_eq!(list.status.as_u16(), status, "{user}");
        assert_eq!(list.text == "/live.mp3\r\n", status == 200);
    }
    assert_eq!(
        scene
            .ask("/admin/streams")
            .user("relay", RELAY)
            .send()
            .await
            .text,
        "/live.mp3\r\n"
    );
    let other = scene
        .ask("/admin/moveclients?mount=/a")
        .admin()
        .send()
        .await;
    assert_eq!(other.status, StatusCode::NOT_IMPLEMENTED);
    assert!(other.text.contains("`/admin/moveclients`"));
    assert_eq!(
        scene.ask("/admin/stats.xsl").admin().send().await.status,
        StatusCode::NOT_IMPLEMENTED
    );
    assert_eq!(
        scene.ask("/admin/nonsense").admin().send().await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        scene.ask("/admin/listclients").admin().send().await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn operators_end_listeners_and_sources() {
    let scene = Scene::new();
    let intake = scene.source("/live.mp3", "t");
    let mut first = scene.listener("/live.mp3", "one");
    let mut second = scene.listener("/live.mp3", "two");
    let wrong = scene
        .ask("/admin/killclient?mount=/other&id=1")
        .admin()
        .send()
        .await;
    assert!(
        wrong
            .text
            .contains("Client 1 not found</message><return>0<"),
        "{}",
        wrong.text
    );
    let killed = scene
        .ask("/admin/killclient?mount=/live.mp3&id=1")
        .admin()
        .send()
        .await;
    assert!(
        killed.text.contains("Client 1 removed</message><return>1<"),
        "{}",
        killed.text
    );
    assert!(ends(&mut first));
    assert_eq!(scene.first_end(), EndReason::Kicked);
    let killed = scene
        .ask("/admin/killsource?mount=/live.mp3")
        .admin()
        .send()
        .await;
    assert!(killed.text.contains("Source Removed"), "{}", killed.text);
    assert!(ends(&mut second) && intake.evicted().is_cancelled());
    let again = scene
        .ask("/admin/killsource?mount=/live.mp3")
        .admin()
        .send()
        .await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_api_lists_pages_and_kicks() {
    let scene = Scene::new();
    let _intake = scene.source("/live.mp3", TITLE);
    let mut clients: Vec<_> = (0..3)
        .map(|n| scene.listener("/live.mp3", &format!("agent {n}")))
        .collect();
    let mounts = scene.ask("/api/v1/mounts").admin().send().await.json();
    let live = &mounts["mounts"][0];
    assert_eq!(
        (&live["name"], &live["state"], &live["listeners"]),
        (&json!("/live.mp3"), &json!("live"), &json!(3))
    );
    assert_eq!(
        (&live["title"], &live["offset"]),
        (&json!(CLEAN), &json!(3840))
    );
    assert_eq!(live["content_type"], "audio/mpeg");
    assert!(live["epoch"].as_u64().unwrap() > 1_700_000_000_000);

    let first = scene.ask("/api/v1/listeners?limit=2").admin().send().await;
    assert_eq!(first.json()["next"], 2);
    let page = first.json();
    let rows = page["listeners"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (
            &rows[0]["id"],
            &rows[0]["mount"],
            &rows[0]["node"],
            &rows[0]["address"],
            &rows[0]["user_agent"]
        ),
        (
            &json!(1),
            &json!("/live.mp3"),
            &json!("head"),
            &json!("203.0.113.9"),
            &json!("agent 0")
        )
    );
    let rest = scene
        .ask("/api/v1/listeners?limit=2&after=2")
        .admin()
        .send()
        .await;
    assert_eq!(
        (
            rest.json()["listeners"][0]["id"].clone(),
            rest.json().get("next").is_none()
        ),
        (json!(3), true)
    );
    let none = scene
        .ask("/api/v1/listeners?mount=/other")
        .admin()
        .send()
        .await;
    assert_eq!(none.json(), json!({"listeners": []}));
    let bad = scene
        .ask("/api/v1/listeners?mount=other")
        .admin()
        .send()
        .await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);

    let end = scene.ask("/api/v1/listeners/3").method(Method::DELETE);
    assert_eq!(
        end.admin().send().await.json(),
        json!({"kicked": 3, "node": "head"})
    );
    assert!(ends(&mut clients[2]));
    let kick = scene
        .ask("/api/v1/listeners/2/kick")
        .method(Method::POST)
        .admin()
        .send()
        .await;
    assert_eq!(kick.json(), json!({"kicked": 2, "node": "head"}));
    assert!(ends(&mut clients[1]));
    for id in ["99", "x"] {
        let kick = scene
            .ask(&format!("/api/v1/listeners/{id}/kick"))
            .method(Method::POST)
            .admin()
            .send()
            .await;
        assert_eq!(kick.status, StatusCode::NOT_FOUND);
        assert!(kick.json()["hint"].is_string());
    }
    let status = scene.ask("/api/v1/status").admin().send().await.json();
    assert_eq!(
        (&status["name"], &status["role"], &status["source"]),
        (&json!("head"), &json!("primary"), &json!("live"))
    );
    let document = scene.ask("/api/v1/openapi.json").send().await.json();
    assert!(document["paths"]["/api/v1/mounts"]["get"].is_object());
    let lost = scene.ask("/api/v1/nothing").admin().send().await;
    assert_eq!(
        (lost.status, lost.json()["error"].as_str()),
        (StatusCode::NOT_FOUND, Some("no such path"))
    );
}

#[tokio::test]
async fn who_may_what() {
    let scene = Scene::new();
    let _intake = scene.source("/live.mp3", "t");
    let public = [
        "/",
        "/status-json.xsl",
        "/7.html",
        "/stats",
        "/live.mp3.m3u",
        "/live.mp3.pls",
        "/live.mp3.xspf",
        "/api/v1/openapi.json",
    ];
    let closed = [
        "/metrics",
        "/admin/stats",
        "/admin/listmounts",
        "/admin/listclients?mount=/live.mp3",
        "/admin/streamlist.txt",
        "/admin/moveclients",
        "/api/v1/mounts",
        "/api/v1/listeners",
        "/api/v1/status",
        "/api/v1/nodes",
        "/api/v1/picks",
        "/api/v1/tokens",
    ];
    for path in public {
        assert_eq!(
            scene.ask(path).send().await.status,
            StatusCode::OK,
            "{path}"
        );
    }
    for (number, path) in closed.into_iter().enumerate() {
        // Few enough guesses from each address to be compared.
        let from = format!("198.51.100.{}", 10 + number);
        let json = path.starts_with("/api");
        for (user, password) in [
            ("", ""),
            ("admin", "wrong"),
            ("admin", ""),
            ("source", SOURCE),
            ("admin", SOURCE),
            ("other", ADMIN),
        ] {
            let ask = scene.ask(path).from(&from, false, false);
            let ask = if user.is_empty() {
                ask
            } else {
                ask.user(user, password)
            };
            let answer = ask.send().await;
            assert_eq!(
                answer.status,
                StatusCode::UNAUTHORIZED,
                "{path} {user}:{password}"
            );
            assert_eq!(
                answer.header("www-authenticate"),
                "Basic realm=\"relayctl\""
            );
            assert_eq!(answer.header("access-control-allow-origin"), "");
            assert!(
                answer.text.contains("relayctl token show admin"),
                "{}",
                answer.text
            );
            assert!(!json || answer.json()["error"].is_string());
            assert!(!answer.text.contains(ADMIN));
        }
        for ask in [
            scene.ask(path).admin(),
            scene
                .ask(path)
                .field("authorization", &format!("Bearer {ADMIN}")),
            scene.ask(path).from("127.0.0.1", false, true),
        ] {
            let status = ask.send().await.status;
            assert!(
                status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN,
                "{path}"
            );
        }
        let bearer = scene
            .ask(path)
            .from(&from, false, false)
            .field("authorization", "Bearer wrong")
            .send()
            .await;
        assert_eq!(bearer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    let foreign = scene.ask("/admin/killsource?mount=/live.mp3").admin();
    let foreign = foreign.field("sec-fetch-site", "cross-site").send().await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    let kick = scene
        .ask("/api/v1/listeners/1/kick")
        .method(Method::POST)
        .send()
        .await;
    assert_eq!(kick.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn metrics_are_open_nearby_and_by_setting() {
    let scene = Scene::new();
    for (open, near, far) in [
        (MetricsOpen::Auto, 200, 401),
        (MetricsOpen::Always, 200, 200),
        (MetricsOpen::Never, 401, 401),
    ] {
        let config = Config {
            metrics_open: open,
            ..config()
        };
        scene.control.reconfigure(config);
        let from = |address| scene.ask("/metrics").from(address, false, false);
        assert_eq!(
            from("10.0.0.9").send().await.status.as_u16(),
            near,
            "{open:?}"
        );
        assert_eq!(
            from("203.0.113.1").send().await.status.as_u16(),
            far,
            "{open:?}"
        );
        assert_eq!(
            from("203.0.113.1").admin().send().await.status,
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn promtool_takes_the_metrics_of_a_node() {
    assert!(crate::telemetry::export::install());
    let scene = Scene::new();
    let mut intake = scene.source("/live.mp3", "t");
    let _client = scene.listener("/live.mp3", "x");
    let answer = scene.ask("/metrics").admin().send().await;
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    for line in [
        "relayctl_listeners{mount=\"/live.mp3\"} 1",
        "relayctl_source_up{mount=\"/live.mp3\"} 1",
        "relayctl_received_bytes_total{mount=\"/live.mp3\"} 3840",
        "relayctl_sessions_total{mount=\"/live.mp3\"} 1",
        "relayctl_build_info{version=\"9.9.9\",role=\"primary\",node=\"head\"} 1",
        "icecast_listeners{listenurl=\"http://radio.example:8000/live.mp3\",server_type=\"audio/mpeg\"} 1",
    ] {
        assert!(
            answer.text.lines().any(|l| l == line),
            "{line} is not in\n{}",
            answer.text
        );
    }
    assert!(answer.text.contains("relayctl_first_byte_seconds_bucket"));
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: install the Debian package `prometheus`");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(answer.text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    scene.push(&mut intake);
    drop(intake);
    let held = scene.ask("/metrics").admin().send().await.text;
    assert!(held.contains("relayctl_source_up{mount=\"/live.mp3\"} 0"));
    scene.control.engine.end(&mount("/live.mp3"));
    let gone = scene.ask("/metrics").admin().send().await.text;
    assert!(!gone.contains("relayctl_source_up{") && !gone.contains("icecast_listeners{"));
    assert!(gone.contains("relayctl_received_bytes_total{mount=\"/live.mp3\"} 7680"));
}

#[tokio::test]
async fn playlists_name_the_url_of_the_clients_scheme() {
    let scene = Scene::new();
    let missing = scene.ask("/live.mp3.m3u").send().await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let _intake = scene.source("/live.mp3", "t");
    let _spaced = scene.source("/a b.mp3", "t");
    let m3u = scene.ask("/live.mp3.m3u").send().await;
    assert_eq!(
        (m3u.text.as_str(), m3u.header("content-type")),
        ("http://radio.example:8000/live.mp3\r\n", "audio/x-mpegurl")
    );
    assert_eq!(m3u.header("access-control-allow-origin"), "*");
    let secure = scene
        .ask("/a%20b.mp3.m3u")
        .from("198.51.100.1", true, false)
        .send()
        .await;
    assert_eq!(secure.text, "https://radio.example/a%20b.mp3\r\n");
    let pls = scene.ask("/listen.pls").send().await;
    assert_eq!(pls.header("content-type"), "audio/x-scpls");
    assert!(
        pls.text
            .contains("\nFile1=http://radio.example:8000/live.mp3\nTitle1=Radio <&\" 🎵\n"),
        "{}",
        pls.text
    );
    let xspf = scene.ask("/live.mp3.xspf").send().await;
    assert!(
        xspf.text
            .contains("<title>Radio &lt;&amp;&quot; 🎵</title>"),
        "{}",
        xspf.text
    );

    let only_https = PublicUrls {
        http: None,
        https: Some("https://radio.example/".into()),
        ..PublicUrls::default()
    };
    scene.control.reconfigure(Config {
        public_urls: only_https,
        ..config()
    });
    assert_eq!(
        scene.ask("/live.mp3.m3u").send().await.text,
        "https://radio.example/live.mp3\r\n"
    );
    scene.control.reconfigure(Config {
        public_urls: PublicUrls::default(),
        ..config()
    });
    assert_eq!(
        scene.ask("/live.mp3.m3u").send().await.text,
        "http://asked.example:8000/live.mp3\r\n"
    );
    let evil = scene
        .ask("/live.mp3.m3u")
        .field("host", "evil/<x>")
        .send()
        .await;
    assert_eq!(evil.text, "http://localhost:8000/live.mp3\r\n");
}

#[tokio::test]
async fn the_page_is_escaped_and_tells_no_secret() {
    let scene = Scene::new();
    let empty = scene.ask("/").send().await;
    assert!(empty.text.contains("Nothing plays yet"));
    let _intake = scene.source("/live.mp3", "<script>alert(1)</script> & 🎵");
    let _client = scene.listener("/live.mp3", "x");
    let page = scene.ask("/").send().await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.text, super::page(&scene.control));
    assert!(
        page.text
            .contains("&lt;script&gt;alert(1)&lt;&#x2F;script&gt; &amp; 🎵"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("<script"));
    assert!(page.text.contains("href=\"/live.mp3.m3u\"") && page.text.contains("1 listening"));
    for secret in [
        SOURCE,
        ADMIN,
        RELAY,
        "203.0.113.9",
        "198.51.100.7",
        "ops@radio.example",
    ] {
        assert!(!page.text.contains(secret), "{secret}");
    }
    let unknown = scene.ask("/stats-of-nothing").send().await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(unknown.text.starts_with("no such path"));
}

#[tokio::test]
async fn nodes_and_picks_are_listed() {
    let scene = Scene::new();
    let _intake = scene.source("/live.mp3", "t");
    let _client = scene.listener("/live.mp3", "x");
    scene.control.tick(Instant::now());
    let nodes = scene.ask("/api/v1/nodes").admin().send().await.json();
    let rows = nodes["nodes"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    for (field, value) in [
        ("id", json!(scene.control.identity.id.as_str())),
        ("name", json!("head")),
        ("role", json!("primary")),
        ("state", json!("ready")),
        ("public_url", json!("http://radio.example:8000")),
        ("listeners", json!(1)),
        ("max_listeners", json!(100)),
        ("weight", json!(100)),
        ("parent", Value::Null),
        ("version", json!("9.9.9")),
    ] {
        assert_eq!(rows[0][field], value, "{field}");
    }
    let mounts = scene.ask("/api/v1/mounts").admin().send().await.json();
    assert_eq!(
        mounts["mounts"][0]["listeners"], 1,
        "counted here and in the table, once"
    );
    let text = scene.ask("/metrics").admin().send().await.text;
    for line in [
        "relayctl_nodes{state=\"ready\"} 1",
        "relayctl_nodes{state=\"dead\"} 0",
        "relayctl_node_listeners{node=\"head\"} 1",
        "relayctl_node_listeners_limit{node=\"head\"} 100",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }

    let visitor = Visitor {
        mount: &mount("/live.mp3"),
        target: "/live.mp3",
        address: "198.51.100.1".parse().unwrap(),
        from: crate::base::reach::Reach::Internet,
        https: false,
        agent: "x",
        session: None,
        behind: false,
        avoid: Vec::new(),
        reserves: true,
        class: Class::Listener,
    };
    let _ = scene
        .control
        .place(&visitor, Duration::ZERO, Instant::now());
    let picks = scene.ask("/api/v1/picks").admin().send().await.json();
    let first = &picks["picks"][0];
    assert_eq!(
        (&first["mount"], &first["node"], &first["mode"]),
        (&json!("/live.mp3"), &json!("head"), &json!("serve")),
        "{picks}"
    );
    assert!(first["reason"].is_string() && first["time"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn tokens_open_what_their_scope_says() {
    let scene = Scene::new();
    let made = |scope: &'static str| {
        let ask = scene.ask("/api/v1/tokens").method(Method::POST).admin();
        ask.body(format!("{{\"scope\": \"{scope}\"}}")).send()
    };
    let read = made("read").await;
    assert_eq!(read.status, StatusCode::CREATED, "{}", read.text);
    let read = read.json();
    let token = format!("Bearer {}", read["token"].as_str().unwrap());
    for (path, status) in [
        ("/api/v1/mounts", 200),
        ("/api/v1/nodes", 200),
        ("/metrics", 200),
        ("/api/v1/listeners", 403),
        ("/api/v1/tokens", 403),
        ("/admin/stats", 403),
    ] {
        let answer = scene.ask(path).field("authorization", &token).send().await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
    }
    let admin = made("admin").await.json();
    let bearer = format!("Bearer {}", admin["token"].as_str().unwrap());
    let list = scene
        .ask("/api/v1/tokens")
        .field("authorization", &bearer)
        .send()
        .await;
    assert_eq!(list.json()["tokens"].as_array().unwrap().len(), 2);
    assert!(!list.text.contains(read["token"].as_str().unwrap()));
    let join = made("join").await.json();
    assert_eq!(
        (&join["scope"], &join["once"]),
        (&json!("join"), &json!(true))
    );
    let bearer = format!("Bearer {}", join["token"].as_str().unwrap());
    let closed = scene
        .ask("/api/v1/mounts")
        .field("authorization", &bearer)
        .send()
        .await;
    assert_eq!(closed.status, StatusCode::UNAUTHORIZED);
    assert_eq!(made("everything").await.status, StatusCode::BAD_REQUEST);

    let path = format!("/api/v1/tokens/{}", read["id"].as_str().unwrap());
    for status in [200, 404] {
        let ask = scene.ask(&path).method(Method::DELETE).admin();
        assert_eq!(ask.send().await.status.as_u16(), status);
    }
    let gone = scene
        .ask("/api/v1/mounts")
        .field("authorization", &token)
        .send()
        .await;
    assert_eq!(gone.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_child_shows_its_mark_and_over_the_bound_it_is_sent_away() {
    use axum::http::Request;
    use tower::ServiceExt as _;
    let scene = Scene::new();
    scene.control.reconfigure(crate::control::Config {
        max_children: 2,
        ..config()
    });
    let _source = scene.source("/live.mp3", "Title");
    let ask = async |child: &str, token: String| {
        let request = Request::get("/cluster/v1/stream/live.mp3")
            .header("x-relayctl-node", child)
            .header("authorization", format!("Bearer {token}"))
            .body(axum::body::Body::empty())
            .unwrap();
        scene.router.clone().oneshot(request).await.unwrap()
    };
    let mark = |child: &str| {
        let credential = scene.control.credential_of(&child.parse().unwrap());
        credential.reveal().to_owned()
    };
    let first = ask("r1", mark("r1")).await;
    assert_eq!(first.status(), StatusCode::OK);
    let again = ask("r1", mark("r1")).await;
    assert_eq!(again.status(), StatusCode::OK);
    let second = ask("r2", mark("r2")).await;
    assert_eq!(
        (second.status(), scene.control.children()),
        (StatusCode::OK, 2)
    );
    assert_eq!(
        ask("r3", mark("r3")).await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    drop((first, again));
    assert_eq!(ask("r3", mark("r3")).await.status(), StatusCode::OK);
    // What any node can sign under the cluster's key opens nothing at the primary, and a node does not feed itself.
    let forged = scene.control.child_token();
    assert_eq!(ask("r4", forged).await.status(), StatusCode::UNAUTHORIZED);
    let own = scene.control.identity.id.to_string();
    assert_eq!(
        ask(&own, mark(&own)).await.status(),
        StatusCode::MISDIRECTED_REQUEST
    );
}

/// Parameters are judged for callers that may make the request.
#[tokio::test]
async fn nobody_learns_what_is_missing_before_who_asks_is_known() {
    let scene = Scene::new();
    for path in [
        "/admin/metadata?mode=updinfo&song=x",
        "/admin/metadata?mount=..",
        "/admin/metadata?mode=updinfo&mount=/none.mp3&charset=klingon&song=x",
        "/admin/listclients",
        "/admin/killclient?mount=/none.mp3",
        "/admin/killsource",
        "/admin/stats?mount=/none.mp3",
        "/admin.cgi?mode=updinfo&mount=..&song=x",
    ] {
        assert_eq!(scene.ask(path).send().await.status, 401, "{path}");
        let guess = scene.ask(path).user("source", "guess").send().await;
        assert_eq!(guess.status, 401, "{path}");
        let known = scene.ask(path).admin().send().await;
        assert_eq!(known.status, 400, "{path}: {}", known.text);
    }
}
