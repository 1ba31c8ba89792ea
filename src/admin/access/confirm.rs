//! The page between a link and its action: its button sends the same request as a POST, which a browser says the
//! origin of.

use std::sync::LazyLock;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_FRAME_OPTIONS,
};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tera::{Context, Tera};

/// Values are escaped, since the name ends in `.html`.
const NAME: &str = "confirm.html";

static PAGE: LazyLock<Result<Tera, tera::Error>> = LazyLock::new(|| {
    let mut tera = Tera::default();
    tera.add_raw_template(NAME, include_str!("../../../templates/confirm.html"))?;
    Ok(tera)
});

/// Nobody may frame the page, or a click could be stolen (clickjacking); its form leads here only.
const FIELDS: [(HeaderName, &str); 5] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    (CACHE_CONTROL, "no-store"),
    (REFERRER_POLICY, "same-origin"),
    (X_FRAME_OPTIONS, "DENY"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
];

/// The page for `uri`, which named an action: status 403, since nothing was done.
pub(super) fn page(uri: &Uri) -> Response {
    let mut response = (StatusCode::FORBIDDEN, text(uri)).into_response();
    for (name, value) in FIELDS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

fn text(uri: &Uri) -> String {
    let action = uri.path_and_query().map_or("", |target| target.as_str());
    let mut context = Context::new();
    context.insert("path", uri.path());
    context.insert("action", action);
    let rendered = PAGE.as_ref().map_err(ToString::to_string).and_then(|tera| {
        tera.render(NAME, &context)
            .map_err(|error| error.to_string())
    });
    rendered.unwrap_or_else(|error| {
        tracing::error!(%error, "the page of confirmation cannot be written");
        "<!doctype html><title>relayctl</title><p>send this as a POST; nothing was done\n"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_kept_and_escaped() {
        let target = "/admin/metadata?mount=/a&song='%22%3Cscript%3E&mode=updinfo";
        let page = text(&target.parse().unwrap());
        let action =
            "action=\"/admin/metadata?mount=/a&amp;song=&#x27;%22%3Cscript%3E&amp;mode=updinfo\"";
        assert!(page.replace("&#x2F;", "/").contains(action), "{page}");
        assert!(
            page.contains("method=\"post\"") && !page.contains("<script"),
            "{page}"
        );
    }
}
