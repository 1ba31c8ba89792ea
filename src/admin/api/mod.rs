//! Our own API: JSON under `/api/v1`, described by `/api/v1/openapi.json`, which is made from this code.

mod events;
pub(super) mod kick;
pub(super) mod listeners;
mod members;
mod mounts;
mod node;
mod nodes;
mod orders;
mod picks;
mod render;
mod tokens;

use std::sync::LazyLock;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Serialize;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

use super::Routes;
pub use tokens::MAX_BODY as TOKEN_BODY;

/// What went wrong, and what to do.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Error {
    #[serde(skip)]
    status: StatusCode,
    /// What went wrong.
    error: String,
    /// What to do next.
    hint: String,
}

impl Error {
    pub fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            hint: hint.into(),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.error, self.hint)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

/// Every route of the API; the description is checked against this table.
pub(super) fn table() -> Routes {
    vec![
        ("/api/v1/openapi.json", get(openapi)),
        ("/api/v1/status", get(node::status)),
        ("/api/v1/mounts", get(mounts::mounts)),
        ("/api/v1/nodes", get(nodes::nodes)),
        ("/api/v1/nodes/{name}/drain", post(orders::drain)),
        ("/api/v1/nodes/{name}/resume", post(orders::resume)),
        ("/api/v1/nodes/{name}/reflect", post(orders::reflect)),
        (
            "/api/v1/drain",
            get(orders::own_drain).post(orders::drain_here),
        ),
        ("/api/v1/resume", post(orders::resume_here)),
        ("/api/v1/nodes/{name}/parent", post(nodes::reparent)),
        ("/api/v1/nodes/{name}/forget", post(members::forget)),
        ("/api/v1/nodes/{name}/unbar", post(members::unbar)),
        ("/api/v1/barred", get(members::barred)),
        ("/api/v1/picks", get(picks::picks)),
        ("/api/v1/render/{kind}", post(render::render)),
        ("/api/v1/events", get(events::events)),
        ("/api/v1/listeners", get(listeners::listeners)),
        ("/api/v1/listeners/{id}", delete(kick::end)),
        ("/api/v1/listeners/{id}/kick", post(kick::kick)),
        ("/api/v1/tokens", get(tokens::list).post(tokens::create)),
        ("/api/v1/tokens/{id}", delete(tokens::revoke)),
    ]
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "relayctl",
        description = "What a node tells and takes. Sizes are bytes, times RFC 3339 or seconds, states lower case."
    ),
    paths(
        openapi,
        node::status,
        mounts::mounts,
        nodes::nodes,
        orders::drain,
        orders::resume,
        orders::reflect,
        orders::drain_here,
        orders::own_drain,
        orders::resume_here,
        nodes::reparent,
        members::forget,
        members::unbar,
        members::barred,
        picks::picks,
        render::render,
        events::events,
        listeners::listeners,
        kick::end,
        kick::kick,
        tokens::list,
        tokens::create,
        tokens::revoke
    ),
    components(schemas(Error)),
    modifiers(&Credentials)
)]
struct Description;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        for (name, scheme) in [
            ("password", HttpAuthScheme::Basic),
            ("token", HttpAuthScheme::Bearer),
        ] {
            components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
        }
    }
}

/// The description of the API, as `/api/v1/openapi.json` has it.
pub fn description() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, description = "OpenAPI 3.1")))]
async fn openapi() -> Json<&'static utoipa::openapi::OpenApi> {
    // It is never another one, and making it takes a millisecond.
    static DESCRIPTION: LazyLock<utoipa::openapi::OpenApi> = LazyLock::new(description);
    Json(&DESCRIPTION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described() {
        let routes: BTreeSet<&str> = table().into_iter().map(|(path, _)| path).collect();
        let document = serde_json::to_value(Description::openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
        assert_eq!(routes, described);
        assert!(routes.len() >= 5);
        for (path, item) in paths {
            let methods: Vec<&str> = item
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            let expected: &[&str] = match path.as_str() {
                "/api/v1/tokens" | "/api/v1/drain" => &["get", "post"],
                path if [
                    "/kick", "/drain", "/resume", "/reflect", "/parent", "/forget", "/unbar",
                ]
                .iter()
                .any(|word| path.ends_with(word)) =>
                {
                    &["post"]
                }
                path if path.ends_with("/{kind}") => &["post"],
                path if path.ends_with("/{id}") => &["delete"],
                _ => &["get"],
            };
            assert_eq!(methods, expected, "{path}");
        }
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(
            document["components"]["securitySchemes"]["token"]["scheme"],
            "bearer"
        );
        assert_eq!(
            document["components"]["schemas"]["Mount"]["properties"]["sent_bytes"]["type"],
            "integer"
        );
    }
}
