//! What the operator says of a mount, whatever its source says. Pure.

use super::detours::Fallback;
use super::format::normalise_content_type;
use super::ring::Burst;
use super::{Content, Offer};
use crate::base::charset::Charset;

/// Settings of one mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preset {
    /// Its media type, instead of the source's.
    pub content_type: Option<String>,
    /// Carried headers (`icy-name`), instead of the source's of the same name.
    pub headers: Vec<(String, String)>,
    /// Bytes that a newcomer is given at once at most; never less audio than [`Burst::shortest`].
    pub burst: Option<u64>,
    /// Character set of titles that do not name one.
    pub charset: Option<Charset>,
    /// Where its listeners go when its source is gone.
    pub fallback: Option<Fallback>,
}

impl Preset {
    /// What a source offers, as the operator has it.
    pub(super) fn describe(&self, offer: &mut Offer) {
        if let Some(own) = &self.content_type {
            offer.content_type.clone_from(own);
        }
        self.put_headers(&mut offer.headers);
    }

    /// Puts the operator's words in the place of the parent's.
    pub(super) fn describe_replica(&self, content: &mut Content) {
        if let Some(own) = &self.content_type {
            content.content_type = normalise_content_type(own);
        }
        self.put_headers(&mut content.headers);
    }

    fn put_headers(&self, headers: &mut Vec<(String, String)>) {
        for (name, own) in &self.headers {
            match headers.iter_mut().find(|(known, _)| known == name) {
                Some((_, value)) => value.clone_from(own),
                None => headers.push((name.clone(), own.clone())),
            }
        }
    }

    /// The burst of this mount where others have `usual`.
    pub(super) fn burst(&self, usual: Burst) -> Burst {
        Burst {
            bytes: self.burst.unwrap_or(usual.bytes),
            ..usual
        }
    }
}
