//! The request for a mount's stream between nodes, written and read.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

use crate::base::ids::{DEFAULT_SERVICE, Epoch, MountError, MountId, Position};
use crate::wire::head::decode_component;

/// What comes before the mount's path. A mount of another service than the default one adds `service=` to the
/// query.
pub const STREAM_PATH: &str = "/cluster/v1/stream";

const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What a child asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The mount.
    pub mount: MountId,
    /// The next byte that the child wants, if it has any before it.
    pub position: Option<Position>,
}

/// Why a request is none for a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Another path.
    #[error("the path does not begin with `/cluster/v1/stream/`")]
    Path,
    /// No mount behind it.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// One of `epoch` and `offset` without the other, or no numbers.
    #[error("`epoch` and `offset` are two numbers, given together or not at all")]
    Position,
}

impl Ask {
    /// The request's target.
    pub fn target(&self) -> String {
        let mut out = STREAM_PATH.to_owned();
        self.mount.write_encoded(&mut out, PATH);
        let mut mark = '?';
        let service = self.mount.service();
        if service != DEFAULT_SERVICE {
            let _ = write!(out, "?service={service}");
            mark = '&';
        }
        if let Some(Position { epoch, offset }) = self.position {
            let _ = write!(out, "{mark}epoch={epoch}&offset={offset}");
        }
        out
    }

    /// Reads a request's path, still percent-encoded, and its query.
    ///
    /// # Errors
    /// Answered with 400.
    pub fn parse(path: &str, query: Option<&str>) -> Result<Self, AskError> {
        let rest = path.strip_prefix(STREAM_PATH).ok_or(AskError::Path)?;
        if !rest.starts_with('/') {
            return Err(AskError::Path);
        }
        let value = |key: &str| {
            let pairs = query.unwrap_or_default().split('&');
            pairs
                .filter_map(|pair| pair.split_once('='))
                .find(|(name, _)| *name == key)
                .map(|(_, value)| String::from_utf8_lossy(&decode_component(value)).into_owned())
        };
        let service = value("service");
        let mount = MountId::of_service(service.as_deref().unwrap_or(DEFAULT_SERVICE), rest)?;
        let number = |text: String| text.parse::<u64>().map_err(|_| AskError::Position);
        let position = match (value("epoch"), value("offset")) {
            (None, None) => None,
            (Some(epoch), Some(offset)) => Some(Position {
                epoch: Epoch(number(epoch)?),
                offset: number(offset)?,
            }),
            _ => return Err(AskError::Position),
        };
        Ok(Self { mount, position })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_as_written() {
        let position = Some(Position {
            epoch: Epoch(1_700_000_000_000),
            offset: 417,
        });
        for (mount, position, target) in [
            ("/live.mp3", None, "/cluster/v1/stream/live.mp3"),
            (
                "/live.mp3",
                position,
                "/cluster/v1/stream/live.mp3?epoch=1700000000000&offset=417",
            ),
            (
                "talk:/a b/ü.ogg",
                position,
                "/cluster/v1/stream/a%20b/%C3%BC.ogg?service=talk&epoch=1700000000000&offset=417",
            ),
            ("/dir/", None, "/cluster/v1/stream/dir/"),
            ("/caf%E9", None, "/cluster/v1/stream/caf%E9"),
            ("/x%25E1", None, "/cluster/v1/stream/x%25E1"),
            ("/a?b&c=d%", None, "/cluster/v1/stream/a%3Fb%26c%3Dd%25"),
        ] {
            let mount = mount.parse().unwrap();
            let ask = Ask { mount, position };
            assert_eq!(ask.target(), target);
            let (path, query) = match target.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (target, None),
            };
            assert_eq!(Ask::parse(path, query), Ok(ask));
        }
    }

    #[test]
    fn what_is_refused() {
        let parse = |path, query| Ask::parse(path, query).unwrap_err();
        assert_eq!(parse("/cluster/v1/feed", None), AskError::Path);
        assert_eq!(parse("/cluster/v1/stream", None), AskError::Path);
        assert_eq!(parse("/cluster/v1/streams/a", None), AskError::Path);
        let path = "/cluster/v1/stream/live";
        for query in [
            "epoch=1",
            "offset=1",
            "epoch=x&offset=1",
            "epoch=1&offset=-1",
        ] {
            assert_eq!(parse(path, Some(query)), AskError::Position, "{query}");
        }
        assert_eq!(
            parse("/cluster/v1/stream/a/%2e%2e/b", None),
            AskError::Mount(MountError::Segments)
        );
    }
}
