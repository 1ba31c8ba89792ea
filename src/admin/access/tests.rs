//! The gate through the room's door: what a browser's request reaches, and by which of its fields.

use axum::http::{Method, StatusCode};

use crate::admin::testing::{ADMIN, Ask, SOURCE, Scene, config, mount};
use crate::control::{Config, GetActions, Web};

const CHROMIUM: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0";
const KILL: &str = "/admin/killsource?mount=/live.mp3";
const TITLE: &str = "/admin/metadata?mount=/live.mp3&mode=updinfo&song=new";

impl Scene {
    fn browse(&self, method: Method, target: &str) -> Ask<'_> {
        self.ask(target)
            .method(method)
            .field("user-agent", CHROMIUM)
            .field("accept-language", "de-DE,de;q=0.9")
    }
}

#[tokio::test]
async fn every_route_that_changes_something_wants_a_page_of_ours() {
    let scene = Scene::new();
    let intake = scene.source("/live.mp3", "old");
    let document = serde_json::to_value(crate::admin::api_description()).unwrap();
    let mut routes = vec![
        (Method::GET, KILL.to_owned()),
        (Method::HEAD, KILL.to_owned()),
        (Method::POST, KILL.to_owned()),
        (
            Method::GET,
            "/admin/killclient?mount=/live.mp3&id=1".to_owned(),
        ),
        (Method::GET, TITLE.to_owned()),
        (Method::POST, TITLE.to_owned()),
        (
            Method::GET,
            format!("/admin.cgi?mode=updinfo&pass={ADMIN}&song=new"),
        ),
        (
            Method::GET,
            format!("/admin.cgi?mode=updinfo&pass={SOURCE}&song=new"),
        ),
    ];
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| *name != "get")
        {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            routes.push((method, path.replace("{id}", "1").replace("{name}", "head")));
        }
    }
    assert!(routes.len() > 16, "{routes:?}");
    for (method, target) in routes {
        for (name, value) in [
            ("accept", "text/html"),
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("referer", "http://evil.example/asked.example:8000"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let asked = scene
                .browse(method.clone(), &target)
                .admin()
                .field(name, value);
            let answer = asked.send().await;
            assert_eq!(
                answer.status,
                StatusCode::FORBIDDEN,
                "{method} {target} {name}: {value}"
            );
            assert_eq!(answer.header("referrer-policy"), "same-origin");
        }
        let bare = scene.ask(&target).method(method.clone()).admin();
        let bare = bare.field("origin", "http://evil.example").send().await;
        assert_eq!(bare.status, StatusCode::FORBIDDEN, "{method} {target}");
    }
    assert!(!intake.evicted().is_cancelled());
    let title = scene
        .control
        .engine
        .mount(&mount("/live.mp3"))
        .unwrap()
        .title();
    assert_eq!(title.unwrap().text, "old");
    assert!(!scene.control.is_draining());
}

#[tokio::test]
async fn a_link_leads_to_a_page_whose_button_does_it() {
    let scene = Scene::new();
    let intake = scene.source("/live.mp3", "old");
    let target = format!("{KILL}&x=%22%3E'%3Cb%3E\"");
    let page = scene
        .browse(Method::GET, &target.replace('"', "%22"))
        .admin()
        .send()
        .await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("x-frame-options"), "DENY");
    assert!(
        page.header("content-security-policy")
            .contains("frame-ancestors 'none'")
    );
    assert!(
        page.text.contains("<form method=\"post\" action=\""),
        "{}",
        page.text
    );
    assert!(
        !page.text.contains("<b>") && !page.text.contains("'<"),
        "{}",
        page.text
    );
    assert!(!intake.evicted().is_cancelled());
    let own = ("origin", "http://asked.example:8000");
    let pressed = scene.browse(Method::POST, KILL).admin().field(own.0, own.1);
    let pressed = pressed.field("sec-fetch-site", "same-origin").send().await;
    // The scene's Host is no name of this node, as after DNS rebinding.
    assert_eq!(pressed.status, StatusCode::FORBIDDEN);
    let web = Web {
        hosts: vec!["asked.example".into()],
        get_actions: GetActions::All,
    };
    scene.control.reconfigure(Config { web, ..config() });
    let pressed = scene
        .browse(Method::POST, KILL)
        .field(own.0, own.1)
        .send()
        .await;
    assert_eq!(
        pressed.status,
        StatusCode::UNAUTHORIZED,
        "the browser asks for the password"
    );
    let pressed = scene
        .browse(Method::POST, KILL)
        .admin()
        .field(own.0, own.1)
        .send()
        .await;
    assert_eq!(pressed.status, StatusCode::OK, "{}", pressed.text);
    assert!(intake.evicted().is_cancelled());
}

#[tokio::test]
async fn encoders_and_scripts_go_on() {
    let scene = Scene::new();
    let _intake = scene.source("/live.mp3", "old");
    for agent in [
        "",
        "ShoutcastDSP (Mozilla Compatible)",
        "curl/8.5.0",
        "BUTT/0.1.40",
    ] {
        for target in [
            TITLE.to_owned(),
            format!("/admin.cgi?mode=updinfo&pass={SOURCE}&song=new"),
        ] {
            let asked = scene
                .ask(&target)
                .user("source", SOURCE)
                .field("user-agent", agent);
            assert_eq!(
                asked.send().await.status,
                StatusCode::OK,
                "{agent} {target}"
            );
        }
    }
    for (method, target) in [
        (Method::POST, "/api/v1/nodes/head/drain"),
        (Method::GET, KILL),
    ] {
        let script = scene.ask(target).method(method).admin();
        assert_eq!(script.send().await.status, StatusCode::OK, "{target}");
    }
}

#[tokio::test]
async fn a_get_acts_as_the_setting_says() {
    let scene = Scene::new();
    let intake = scene.source("/live.mp3", "old");
    let set = |get_actions| {
        let web = Web {
            hosts: Vec::new(),
            get_actions,
        };
        scene.control.reconfigure(Config { web, ..config() });
    };
    for (get_actions, title) in [(GetActions::Titles, 200), (GetActions::None, 405)] {
        set(get_actions);
        for method in [Method::GET, Method::HEAD] {
            let kill = scene.ask(KILL).method(method).admin().send().await;
            assert_eq!(kill.status, StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(kill.header("allow"), "POST");
        }
        let titled = scene.ask(TITLE).user("source", SOURCE).send().await;
        assert_eq!(titled.status.as_u16(), title);
        let posted = scene.ask(TITLE).method(Method::POST).user("source", SOURCE);
        assert_eq!(posted.send().await.status, StatusCode::OK);
        let page = scene.browse(Method::GET, KILL).admin().send().await;
        assert_eq!(page.status, StatusCode::FORBIDDEN);
        assert!(!intake.evicted().is_cancelled());
    }
    let kill = scene.ask(KILL).method(Method::POST).admin().send().await;
    assert_eq!(kill.status, StatusCode::OK);
    assert!(intake.evicted().is_cancelled());
}

#[tokio::test]
async fn a_name_that_is_not_ours_opens_nothing_to_a_page() {
    let scene = Scene::new();
    let page = |target: &str, host: &str| {
        let asked = scene.browse(Method::GET, target).admin();
        asked
            .field("host", host)
            .field("sec-fetch-site", "same-origin")
    };
    for target in [
        "/admin/stats",
        "/api/v1/listeners",
        "/api/v1/status",
        "/metrics",
    ] {
        let foreign = page(target, "evil.example:8000").send().await;
        assert_eq!(foreign.status, StatusCode::FORBIDDEN, "{target}");
        for own in [
            "radio.example:8000",
            "127.0.0.1:8000",
            "[::1]:8000",
            "localhost",
        ] {
            assert_eq!(
                page(target, own).send().await.status,
                StatusCode::OK,
                "{target} {own}"
            );
        }
    }
    for target in [
        "/",
        "/status-json.xsl",
        "/7.html",
        "/stats",
        "/api/v1/openapi.json",
    ] {
        assert_eq!(
            page(target, "any.name").send().await.status,
            StatusCode::OK,
            "{target}"
        );
    }
    let origin = scene.ask("/api/v1/drain").method(Method::POST).admin();
    let origin = origin
        .field("host", "evil.example")
        .field("origin", "http://evil.example");
    assert_eq!(origin.send().await.status, StatusCode::FORBIDDEN);
    let bearer = format!("Bearer {ADMIN}");
    let script = page("/api/v1/status", "any.name").field("authorization", &bearer);
    assert_eq!(script.send().await.status, StatusCode::OK);
}
