//! A stand-in for the API server, since no kube-apiserver can run here: for the tests of this room and for those with
//! containers.
//!
//! It keeps Secrets and pods as the real one does (RFC 7396 patches, 404, 409), lets a rule of the scene say who may do what
//! (401, 403), and refuses a wrong media type. It has no watches, no versions and no admission.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde_json::{Value, json};

/// What is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The bearer token; empty where there is none.
    pub token: String,
    /// get, create, patch.
    pub verb: &'static str,
    /// The namespace of the path.
    pub namespace: String,
    /// The plural: `secrets`, `pods`.
    pub kind: String,
    /// Empty where something is made: it has no name yet.
    pub name: String,
}

/// 200, or why not: 401, 403.
type Rule = dyn Fn(&Question) -> StatusCode + Send + Sync;

/// See the module. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    rule: Arc<Rule>,
    state: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    /// By `namespace/kind/name`.
    objects: BTreeMap<String, Value>,
    refused: Vec<Question>,
}

// Each of the two programs that read this file uses a part of it.
#[allow(dead_code)]
impl ApiServer {
    /// An empty one that asks `rule` first.
    pub fn new(rule: impl Fn(&Question) -> StatusCode + Send + Sync + 'static) -> Self {
        Self {
            rule: Arc::new(rule),
            state: Arc::default(),
        }
    }

    /// Its paths.
    pub fn router(&self) -> Router {
        let kind = "/api/v1/namespaces/{namespace}/{kind}";
        Router::new()
            .route(kind, any(answer))
            .route(&format!("{kind}/{{name}}"), any(answer))
            .with_state(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, Kept> {
        self.state.lock().unwrap()
    }

    /// Puts an object there, as somebody else would; `what` is `secrets/NAME` or `pods/NAME`.
    pub fn set(&self, namespace: &str, what: &str, object: Value) {
        let key = format!("{namespace}/{what}");
        self.state().objects.insert(key, object);
    }

    /// An object as it is now.
    pub fn object(&self, namespace: &str, what: &str) -> Option<Value> {
        let key = format!("{namespace}/{what}");
        self.state().objects.get(&key).cloned()
    }

    /// Everything that was refused to somebody so far.
    pub fn refused(&self) -> Vec<Question> {
        self.state().refused.clone()
    }

    fn get(&self, key: &str) -> Response {
        match self.state().objects.get(key) {
            Some(object) => Json(object.clone()).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn patch(&self, key: &str, change: &Value) -> Response {
        match self.state().objects.get_mut(key) {
            Some(object) => {
                merge(object, change);
                Json(object.clone()).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn create(&self, kind: &str, object: Value) -> Response {
        let Some(name) = object["metadata"]["name"].as_str() else {
            return StatusCode::UNPROCESSABLE_ENTITY.into_response();
        };
        let key = format!("{kind}/{name}");
        let objects = &mut self.state().objects;
        if objects.contains_key(&key) {
            return StatusCode::CONFLICT.into_response();
        }
        objects.insert(key, object.clone());
        (StatusCode::CREATED, Json(object)).into_response()
    }
}

async fn answer(
    State(server): State<ApiServer>,
    Path(path): Path<BTreeMap<String, String>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let part = |name: &str| path.get(name).cloned().unwrap_or_default();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (verb, media) = match method {
        Method::GET => ("get", None),
        Method::POST => ("create", Some("application/json")),
        Method::PATCH => ("patch", Some("application/merge-patch+json")),
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    };
    let question = Question {
        token: header("authorization")
            .and_then(|value| value.strip_prefix("Bearer "))
            .unwrap_or_default()
            .to_owned(),
        verb,
        namespace: part("namespace"),
        kind: part("kind"),
        name: part("name"),
    };
    let may = (server.rule)(&question);
    if may != StatusCode::OK {
        server.state().refused.push(question);
        return may.into_response();
    }
    if media.is_some() && header("content-type") != media {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let kind = format!("{}/{}", question.namespace, question.kind);
    let key = format!("{kind}/{}", question.name);
    match (verb, serde_json::from_slice(&body)) {
        ("get", _) => server.get(&key),
        ("patch", Ok(change)) => server.patch(&key, &change),
        ("create", Ok(object)) => server.create(&kind, object),
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
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
