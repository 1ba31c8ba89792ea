//! Against the stand-in for the API server in `testing`.

use std::collections::BTreeMap;
use std::path::Path;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::testing::{ApiServer, Question};
use super::*;
use crate::base::secret::Secret;

/// One account, and one Secret that is not its.
fn rule(question: &Question) -> StatusCode {
    match (question.token.as_str(), question.name.as_str()) {
        ("t0ken", "forbidden") => StatusCode::FORBIDDEN,
        ("t0ken", _) => StatusCode::OK,
        _ => StatusCode::UNAUTHORIZED,
    }
}

struct Scene {
    api: Api,
    server: ApiServer,
    _account: tempfile::TempDir,
}

async fn scene(objects: Value) -> Scene {
    let account = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(account.path().join(name), text).unwrap();
    write("token", "t0ken\n");
    write("namespace", "radio");
    let server = ApiServer::new(rule);
    let objects: BTreeMap<String, Value> = serde_json::from_value(objects).unwrap();
    for (what, object) in objects {
        server.set("radio", &what, object);
    }
    let router = server.router();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    Scene {
        api: Api::at(base, account.path(), None).unwrap(),
        server,
        _account: account,
    }
}

fn ours() -> Kept {
    let pair = |key: &str, text| (key.to_owned(), Secret::new(text));
    [
        pair("join-token", "rctl1.a.b"),
        pair("source-password", "s"),
    ]
    .into()
}

#[tokio::test]
async fn made_then_read_then_left_alone() {
    let scene = scene(json!({})).await;
    assert_eq!(read(&scene.api, "station").await.unwrap(), None);
    assert!(keep(&scene.api, "station", &ours()).await.unwrap());
    assert_eq!(read(&scene.api, "station").await.unwrap(), Some(ours()));
    assert!(!keep(&scene.api, "station", &ours()).await.unwrap());
    let made = scene.server.object("radio", "secrets/station").unwrap();
    assert_eq!(made["type"], "Opaque");
}

#[tokio::test]
async fn what_an_operator_put_there_stays() {
    let there =
        json!({ "secrets/station": { "data": { "source-password": "aGlz", "tls": "eA==" } } });
    let scene = scene(there).await;
    assert!(keep(&scene.api, "station", &ours()).await.unwrap());
    let kept = read(&scene.api, "station").await.unwrap().unwrap();
    assert_eq!(kept["source-password"].reveal(), "his");
    assert_eq!(kept["join-token"].reveal(), "rctl1.a.b");
    assert_eq!(kept["tls"].reveal(), "x");
}

#[tokio::test]
async fn a_pod_gets_its_cost_and_a_missing_one_does_not() {
    let scene =
        scene(json!({ "pods/relay-1": { "metadata": { "annotations": { "a": "b" } } } })).await;
    assert!(patch(&scene.api, "relay-1", 42).await.unwrap());
    assert!(!patch(&scene.api, "relay-2", 1).await.unwrap());
    let pod = scene.server.object("radio", "pods/relay-1").unwrap();
    let written = json!({ "a": "b", "controller.kubernetes.io/pod-deletion-cost": "42" });
    assert_eq!(pod["metadata"]["annotations"], written);
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let scene = scene(json!({})).await;
    let forbidden = read(&scene.api, "forbidden").await.unwrap_err().to_string();
    assert!(
        forbidden.contains("may not get secrets/forbidden (HTTP 403)")
            && forbidden.contains("Role"),
        "{forbidden}"
    );
    let nowhere = Api::of_pod(&[]).unwrap_err().to_string();
    assert!(nowhere.contains("KUBERNETES_SERVICE_HOST"), "{nowhere}");
    let unmounted = Api::at("http://127.0.0.1:1".into(), Path::new("/nowhere"), None);
    let unmounted = unmounted.unwrap_err().to_string();
    assert!(
        unmounted.contains("/nowhere/namespace")
            && unmounted.contains("automountServiceAccountToken"),
        "{unmounted}"
    );
}
