//! A request's query, undecoded until somebody asks: titles come in any character set.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::base::ids::MountId;
use crate::wire::head::decode_component;

/// What stands behind the `?`.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(String);

impl Query {
    /// The first value of `key`, decoded to bytes.
    pub fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        let pairs = self
            .0
            .split('&')
            .map(|p| p.split_once('=').unwrap_or((p, "")));
        let mut found = pairs.filter(|(name, _)| decode_component(name) == key.as_bytes());
        found.next().map(|(_, value)| decode_component(value))
    }

    /// The first value of `key`; what is no UTF-8 is replaced.
    pub fn text(&self, key: &str) -> Option<String> {
        let bytes = self.bytes(key)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The first value of `key` as a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.trim().parse().ok()
    }

    /// The mount that `mount=` names. `None` without it, an error where it is no mount.
    pub fn mount(&self) -> Option<Result<MountId, String>> {
        let name = self.bytes("mount").filter(|name| !name.is_empty())?;
        Some(MountId::from_octets(&name).map_err(|error| error.to_string()))
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.uri.query().unwrap_or_default().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_bytes() {
        let query = Query("song=Mot%F6r+head%26&mount=%2Flive.mp3&id=7&song=x&flag".into());
        assert_eq!(query.bytes("song").unwrap(), b"Mot\xf6r head&");
        assert_eq!(query.mount().unwrap().unwrap().path(), "/live.mp3");
        assert_eq!((query.number("id"), query.number("song")), (Some(7), None));
        assert_eq!(query.text("flag").as_deref(), Some(""));
        assert!(query.bytes("none").is_none());
        // Octets in any character set; and the same as the API shows them.
        for name in ["%2Fcaf%E9", "/caf%25E9"] {
            let named = Query(format!("mount={name}")).mount().unwrap();
            assert_eq!(named.unwrap().path(), "/caf%E9");
        }
        assert!(Query("mount=live".into()).mount().unwrap().is_err());
        assert!(Query("mount=".into()).mount().is_none());
    }
}
