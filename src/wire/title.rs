//! A title as it is carried from the source to every listener, page and relay: cleaned, and its parts apart where they came apart.

use serde::{Deserialize, Serialize};

use super::icy::{MAX_URL, clean_field, clean_title};

/// Title of what plays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Title {
    /// The text that players show, usually `artist - title`; cleaned by [`clean_title`].
    pub text: String,
    /// The artist, where it came apart from the title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artist: Option<String>,
    /// The title alone, where it came apart from the artist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `StreamUrl` of an ICY block: a page or a picture of what plays, at most [`MAX_URL`] bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl Title {
    /// A title in one text.
    pub fn of(text: &str) -> Self {
        Self {
            text: clean_title(text),
            ..Self::default()
        }
    }

    /// A title of which artist and name came apart; an empty one of them counts as missing. `None` where both are missing.
    pub fn of_parts(artist: Option<&str>, name: Option<&str>) -> Option<Self> {
        let part = |text: &str| Some(clean_title(text)).filter(|text| !text.is_empty());
        let (artist, name) = (artist.and_then(part), name.and_then(part));
        let text = match (&artist, &name) {
            (Some(artist), Some(name)) => clean_title(&format!("{artist} - {name}")),
            (one, other) => one.as_ref().or(other.as_ref())?.clone(),
        };
        Some(Self {
            text,
            artist,
            name,
            url: None,
        })
    }

    /// Sets the URL that belongs to it; one that is empty or longer than [`MAX_URL`] is left out.
    #[must_use]
    pub fn with_url(mut self, url: Option<&str>) -> Self {
        let url = url.map(clean_field);
        self.url = url.filter(|url| !url.is_empty() && url.len() <= MAX_URL);
        self
    }

    /// A title from another node, whose texts are cleaned again.
    #[must_use]
    pub fn cleaned(self) -> Self {
        let part = |text: Option<String>| {
            let text = text.map(|text| clean_title(&text));
            text.filter(|text| !text.is_empty())
        };
        let url = self.url;
        Self {
            text: clean_title(&self.text),
            artist: part(self.artist),
            name: part(self.name),
            url: None,
        }
        .with_url(url.as_deref())
    }

    /// Bytes of its texts.
    pub fn weight(&self) -> usize {
        let parts = [&self.artist, &self.name, &self.url].into_iter().flatten();
        self.text.len() + parts.map(String::len).sum::<usize>()
    }

    /// True where it has more than its text.
    pub fn has_details(&self) -> bool {
        self.artist.is_some() || self.name.is_some() || self.url.is_some()
    }

    /// True if there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.url.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_apart_and_make_one_text() {
        let both = Title::of_parts(Some(" A\r\n"), Some("B")).unwrap();
        assert_eq!(both.text, "A - B");
        assert_eq!(
            (both.artist.as_deref(), both.name.as_deref()),
            (Some("A"), Some("B"))
        );
        let name = Title::of_parts(Some(" "), Some("B")).unwrap();
        assert_eq!((name.text.as_str(), name.artist), ("B", None));
        assert_eq!(Title::of_parts(Some("A"), None).unwrap().text, "A");
        assert_eq!(Title::of_parts(None, Some("")), None);
    }

    #[test]
    fn a_url_is_kept_where_it_can_be_sent() {
        let of = |url: &str| Title::of("x").with_url(Some(url)).url;
        assert_eq!(of("https://x/a.jpg\0").as_deref(), Some("https://x/a.jpg"));
        assert_eq!(of(" "), None);
        assert_eq!(of(&"x".repeat(MAX_URL + 1)), None);
        assert!(Title::of("").is_empty() && !Title::of("").with_url(Some("u")).is_empty());
    }

    #[test]
    fn another_nodes_texts_are_cleaned() {
        let sent = r#"{"text":"a\r\nb';","artist":"\u0000","url":"u\n","more":1}"#;
        let title = serde_json::from_str::<Title>(sent).unwrap().cleaned();
        assert_eq!(title, Title::of("ab' ;").with_url(Some("u")));
    }
}
