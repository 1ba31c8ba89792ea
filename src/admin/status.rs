//! The page at `/`: what plays, for a person with a browser. Nothing secret, nothing from elsewhere.

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tera::{Context, Tera};

use super::stats::{listed, listen_url, said};
use super::xml::answer;
use crate::base::text::replaced;
use crate::control::{Control, Role};
use crate::engine::{Mount, MountState};

/// Escaped by its name's ending.
const NAME: &str = "status.html";

static PAGE: LazyLock<Result<Tera, tera::Error>> = LazyLock::new(|| {
    let mut tera = Tera::default();
    tera.add_raw_template(NAME, include_str!("../../templates/status.html"))?;
    Ok(tera)
});

#[derive(Serialize)]
struct Row {
    name: String,
    path: String,
    /// Encoded, relative to this page.
    url: String,
    title: String,
    listeners: u64,
    kilobits: u64,
    content_type: String,
    live: bool,
    silent: bool,
    /// The mount that is heard instead.
    hears: Option<String>,
}

impl Row {
    fn of(control: &Control, mount: &Mount) -> Self {
        let content = mount.content();
        Self {
            name: replaced(&said(&content, "name").unwrap_or_default()).into_owned(),
            path: mount.id.path().to_owned(),
            url: listen_url("", &mount.id),
            title: mount
                .title()
                .map(|title| replaced(&title.text).into_owned())
                .unwrap_or_default(),
            listeners: control.telemetry.audience(&mount.counters).share.listeners,
            kilobits: mount.kilobits(),
            content_type: content.content_type.clone(),
            live: mount.state() == MountState::Live,
            silent: mount.is_silent() == Some(true),
            hears: control
                .engine
                .stand_in(&mount.id)
                .map(|to| to.id.path().to_owned()),
        }
    }
}

/// The whole page, as HTML.
pub fn page(control: &Control) -> String {
    render(control).unwrap_or_else(|error| {
        tracing::error!(%error, "the status page cannot be written");
        "<!doctype html><title>relayctl</title><p>relayctl is up\n".to_owned()
    })
}

fn render(control: &Control) -> Result<String, String> {
    let rows: Vec<Row> = listed(control)
        .iter()
        .map(|mount| Row::of(control, mount))
        .collect();
    let mut context = Context::new();
    context.insert("node", control.identity.name.as_str());
    context.insert("role", control.identity.role.as_str());
    context.insert("version", control.identity.version);
    context.insert("draining", &control.is_draining());
    context.insert("is_primary", &(control.identity.role == Role::Primary));
    context.insert(
        "listeners",
        &rows
            .iter()
            .map(|row| row.listeners)
            .fold(0, u64::saturating_add),
    );
    context.insert("mounts", &rows);
    let tera = PAGE.as_ref().map_err(ToString::to_string)?;
    tera.render(NAME, &context)
        .map_err(|error| error.to_string())
}

/// `GET /` where the request comes through the router (on the node's own socket).
pub(super) async fn root(State(control): State<Arc<Control>>) -> Response {
    answer(StatusCode::OK, "text/html; charset=utf-8", page(&control))
}
