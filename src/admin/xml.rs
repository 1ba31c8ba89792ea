//! XML, escaped by the library and without what XML 1.0 cannot hold.

use std::fmt::Display;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

/// A document in the making.
pub(super) struct Xml(Writer<Vec<u8>>);

impl Xml {
    /// A whole document, as Icecast lays it out: the declaration, a line's end, and one line with the rest.
    pub fn document(root: &str, fill: impl FnOnce(&mut Self)) -> String {
        Self::document_with(root, &[], fill)
    }

    /// The same with attributes on the root.
    pub fn document_with(
        root: &str,
        attributes: &[(&str, &str)],
        fill: impl FnOnce(&mut Self),
    ) -> String {
        let mut xml = Self(Writer::new(Vec::new()));
        xml.put(Event::Decl(BytesDecl::new("1.0", None, None)));
        xml.put(Event::Text(BytesText::from_escaped("\n")));
        xml.element(root, attributes, fill);
        xml.put(Event::Text(BytesText::from_escaped("\n")));
        String::from_utf8(xml.0.into_inner()).unwrap_or_default()
    }

    /// An element with others in it.
    pub fn element(
        &mut self,
        name: &str,
        attributes: &[(&str, &str)],
        fill: impl FnOnce(&mut Self),
    ) {
        let mut start = BytesStart::new(name);
        for (key, value) in attributes {
            start.push_attribute((*key, clean(value).as_str()));
        }
        self.put(Event::Start(start));
        fill(self);
        self.put(Event::End(BytesEnd::new(name)));
    }

    /// An element with text in it.
    pub fn text(&mut self, name: &str, value: impl Display) {
        let text = clean(&value.to_string());
        self.element(name, &[], |xml| {
            xml.put(Event::Text(BytesText::new(&text)));
        });
    }

    /// A comment, for people who read the document.
    pub fn comment(&mut self, text: &str) {
        let text = clean(text).replace("--", "- -");
        self.put(Event::Comment(BytesText::from_escaped(format!(" {text} "))));
    }

    fn put(&mut self, event: Event<'_>) {
        // Into a vector nothing fails.
        let _ = self.0.write_event(event);
    }
}

fn clean(text: &str) -> String {
    let allowed = |c: &char| {
        matches!(c, '\t' | '\n' | '\r') || !(c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
    };
    text.chars().filter(allowed).collect()
}

/// The answer that carries a document.
pub(super) fn answer(status: StatusCode, content_type: &'static str, text: String) -> Response {
    (status, [(CONTENT_TYPE, content_type)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_byte_for_byte() {
        let text = Xml::document("a", |xml| {
            xml.element("b", &[("m", "/x\"<&>")], |xml| {
                xml.text("c", "1 < 2 & \"é🎵\"\u{0}\u{1b}\u{ffff}");
            });
        });
        assert_eq!(
            text,
            "<?xml version=\"1.0\"?>\n<a><b m=\"/x&quot;&lt;&amp;&gt;\"><c>1 &lt; 2 &amp; &quot;é🎵&quot;</c></b></a>\n"
        );
    }
}
