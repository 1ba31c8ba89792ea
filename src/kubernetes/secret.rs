//! The Secret that holds what the first node generated, so that relays can mount it and people can read it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::api::{Api, ApiError};
use crate::base::secret::Secret;

/// What a Secret holds, by key.
pub type Kept = BTreeMap<String, Secret>;

/// The Secret `name`; none where there is no such thing.
///
/// # Errors
/// Where Kubernetes does not answer, or may not.
pub async fn read(api: &Api, name: &str) -> Result<Option<Kept>, ApiError> {
    let Some(object) = api.get(&format!("secrets/{name}")).await? else {
        return Ok(None);
    };
    let data = object.get("data").and_then(Value::as_object);
    Ok(Some(data.map(decode).unwrap_or_default()))
}

/// Adds to the Secret `name` what it lacks of `secrets`, and makes it where it is not there. What it has
/// already stays. True if something was added.
///
/// # Errors
/// Where Kubernetes does not answer, or may not.
pub async fn keep(api: &Api, name: &str, secrets: &Kept) -> Result<bool, ApiError> {
    let Some(there) = read(api, name).await? else {
        let made = api.create("secrets", &object(name, secrets)).await;
        return made.map(|()| true);
    };
    let lacking = missing(&there, secrets);
    if lacking.is_empty() {
        return Ok(false);
    }
    api.patch(&format!("secrets/{name}"), &json!({ "data": lacking }))
        .await
}

fn object(name: &str, secrets: &Kept) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": name,
            "labels": { "app.kubernetes.io/managed-by": "relayctl" },
        },
        "data": missing(&Kept::new(), secrets),
    })
}

fn missing(there: &Kept, secrets: &Kept) -> Map<String, Value> {
    secrets
        .iter()
        .filter(|(key, secret)| !secret.is_empty() && !there.contains_key(*key))
        .map(|(key, secret)| (key.clone(), Value::from(STANDARD.encode(secret.reveal()))))
        .collect()
}

/// What is no base64, no UTF-8 or empty counts as not there: it could be no secret of ours.
fn decode(data: &Map<String, Value>) -> Kept {
    let text = |value: &Value| {
        let bytes = STANDARD.decode(value.as_str()?).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let text = text.trim_end_matches(['\r', '\n']);
        (!text.is_empty()).then(|| Secret::new(text))
    };
    data.iter()
        .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pairs: &[(&str, &str)]) -> Kept {
        let pair = |(key, text): &(&str, &str)| ((*key).to_owned(), Secret::new(*text));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_what_is_missing_is_added() {
        let there = kept(&[("join-token", "old")]);
        let ours = kept(&[
            ("join-token", "new"),
            ("source-password", "s"),
            ("empty", ""),
        ]);
        let added = missing(&there, &ours);
        assert_eq!(Value::from(added), json!({ "source-password": "cw==" }));
    }

    #[test]
    fn what_is_no_text_is_not_there() {
        let data = json!({ "a": "c2VjcmV0Cg==", "b": "%%", "c": "/w==", "d": "", "e": 4 });
        let read = decode(data.as_object().unwrap());
        assert_eq!(read, kept(&[("a", "secret")]));
    }
}
