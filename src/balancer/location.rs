//! The address in a redirect: the node's public URL, the mount, the listener's own query, and the token.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::base::ids::MountId;

/// The query parameter that is ours.
pub const PARAMETER: &str = "rt";

/// What may not stand as itself in a path.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What may not stand as itself in a header; `%` may, for the query is encoded already.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

/// The token in path and query as sent; the last one, should there be more.
pub fn token_of(target: &str) -> Option<&str> {
    let query = query_of(target)?;
    let mut ours = query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name == PARAMETER).then_some(value)
    });
    ours.next_back().filter(|value| !value.is_empty())
}

/// Path and query without any token: for the log, and for whoever is asked next.
pub fn without_token(target: &str) -> Cow<'_, str> {
    let Some(query) = query_of(target).filter(|query| query.split('&').any(is_ours)) else {
        return Cow::Borrowed(target);
    };
    let path = target.split('?').next().unwrap_or_default();
    let kept = kept(query);
    if kept.is_empty() {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(format!("{path}?{kept}"))
    }
}

/// `base` + mount + query of `target` without its token + the new token.
pub fn location(base: &str, mount: &MountId, target: &str, token: Option<&str>) -> String {
    let mut text =
        String::with_capacity(base.len().saturating_add(target.len()).saturating_add(80));
    text.push_str(base.trim_end_matches('/'));
    mount.write_encoded(&mut text, PATH);
    let mut separator = '?';
    let kept = query_of(target).map(kept).unwrap_or_default();
    if !kept.is_empty() {
        text.push(separator);
        text.extend(utf8_percent_encode(&kept, QUERY));
        separator = '&';
    }
    if let Some(token) = token {
        text.push(separator);
        text.push_str(PARAMETER);
        text.push('=');
        text.push_str(token);
    }
    text
}

fn query_of(target: &str) -> Option<&str> {
    let target = target.split('#').next()?;
    target.split_once('?').map(|(_, query)| query)
}

fn kept(query: &str) -> Cow<'_, str> {
    if !query.split('&').any(is_ours) {
        return Cow::Borrowed(query);
    }
    let pairs: Vec<&str> = query.split('&').filter(|pair| !is_ours(pair)).collect();
    Cow::Owned(pairs.join("&"))
}

fn is_ours(pair: &str) -> bool {
    pair.split('=').next() == Some(PARAMETER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(path: &str) -> MountId {
        MountId::new(path).unwrap()
    }

    #[test]
    fn everything_but_the_old_token_is_kept_and_the_new_one_is_last() {
        let target = "/live.mp3?token=a%20b&rt=OLD&x&rt=&part=1&y=1=2";
        assert_eq!(
            location("http://r1:8000", &mount("/live.mp3"), target, Some("NEW")),
            "http://r1:8000/live.mp3?token=a%20b&x&part=1&y=1=2&rt=NEW"
        );
        assert_eq!(
            location(
                "http://r1:8000/",
                &mount("/live.mp3"),
                "/live.mp3?rt=OLD",
                None
            ),
            "http://r1:8000/live.mp3"
        );
        assert_eq!(
            location("http://r1/a", &mount("/l"), "/;", Some("N")),
            "http://r1/a/l?rt=N"
        );
    }

    #[test]
    fn nothing_breaks_out_of_the_header() {
        let made = location(
            "http://r1",
            &mount("/a b%?#é"),
            "/x?q=\r\nSet-Cookie: a\u{e9}#frag",
            None,
        );
        assert_eq!(
            made,
            "http://r1/a%20b%25%3F%23%C3%A9?q=%0D%0ASet-Cookie:%20a%C3%A9"
        );
    }

    #[test]
    fn the_token_is_found_and_taken_out() {
        assert_eq!(token_of("/a?x=1&rt=T&y=2"), Some("T"));
        assert_eq!(token_of("/a?start=1"), None);
        assert_eq!(token_of("/a?rt="), None);
        assert_eq!(token_of("/rt=T"), None);
        assert_eq!(without_token("/a?x=1&rt=T&y=2"), "/a?x=1&y=2");
        assert_eq!(without_token("/a?rt=T"), "/a");
        assert_eq!(without_token("/a"), "/a");
    }
}
