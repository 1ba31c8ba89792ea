//! Against a stand-in for the API server, since no kube-apiserver can run here: it keeps Secrets and pods as
//! the real one does (RFC 7396 patches, 404, 409, 403) and refuses a wrong token or media type.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::{Path as Segments, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::*;
use crate::base::secret::Secret;

type Objects = Arc<Mutex<BTreeMap<String, Value>>>;

async fn object(
    State(objects): State<Objects>,
    Segments((kind, name)): Segments<(String, String)>,
    request: Request,
) -> Response {
    if request.headers().get("authorization").map(|v| v.as_bytes()) != Some(b"Bearer t0ken") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let key = format!("{kind}/{name}");
    if key == "secrets/forbidden" {
        return StatusCode::FORBIDDEN.into_response();
    }
    let is_patch = request.method() == Method::PATCH;
    let media = request.headers().get("content-type").cloned();
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 20)
        .await
        .unwrap();
    let mut objects = objects.lock().unwrap();
    let Some(object) = objects.get_mut(&key) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if is_patch {
        assert_eq!(media.unwrap(), "application/merge-patch+json");
        merge(object, &serde_json::from_slice(&bytes).unwrap());
    }
    Json(object.clone()).into_response()
}

async fn create(State(objects): State<Objects>, Json(object): Json<Value>) -> Response {
    let name = object["metadata"]["name"].as_str().unwrap();
    let mut objects = objects.lock().unwrap();
    if objects.contains_key(&format!("secrets/{name}")) {
        return StatusCode::CONFLICT.into_response();
    }
    objects.insert(format!("secrets/{name}"), object.clone());
    (StatusCode::CREATED, Json(object)).into_response()
}

/// RFC 7396, without removal.
fn merge(target: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in change {
        merge(&mut target[key], value);
    }
}

struct Scene {
    api: Api,
    objects: Objects,
    _account: tempfile::TempDir,
}

async fn scene(objects: Value) -> Scene {
    let account = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(account.path().join(name), text).unwrap();
    write("token", "t0ken\n");
    write("namespace", "radio");
    let objects: BTreeMap<String, Value> = serde_json::from_value(objects).unwrap();
    let objects = Arc::new(Mutex::new(objects));
    let router = Router::new()
        .route(
            "/api/v1/namespaces/radio/secrets",
            axum::routing::post(create),
        )
        .route("/api/v1/namespaces/radio/{kind}/{name}", any(object))
        .with_state(Arc::clone(&objects));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    Scene {
        api: Api::at(base, account.path(), None).unwrap(),
        objects,
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
    let made = scene.objects.lock().unwrap()["secrets/station"].clone();
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
    let pod = scene.objects.lock().unwrap()["pods/relay-1"].clone();
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
