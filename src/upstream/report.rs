//! Trouble that lasts is logged once, not at every attempt.

use std::fmt::Display;

/// What was said last about one upstream.
#[derive(Debug, Default)]
pub(super) struct Report {
    trouble: Option<String>,
}

impl Report {
    /// Something is wrong. True, and logged as a warning, if it is not what was said last.
    pub(super) fn trouble(&mut self, mount: impl Display, text: impl Display) -> bool {
        let text = text.to_string();
        let is_news = self.is_news(&text);
        if is_news {
            tracing::warn!(%mount, "{text}");
        }
        is_news
    }

    /// Notes trouble that the caller says; true if it is not what was noted last.
    pub(super) fn is_news(&mut self, text: &str) -> bool {
        let is_news = self.trouble.as_deref() != Some(text);
        self.trouble = Some(text.to_owned());
        is_news
    }

    /// Ends the trouble; true if there was one.
    pub(super) fn is_over(&mut self) -> bool {
        self.trouble.take().is_some()
    }

    /// All is well; said if it was not before.
    pub(super) fn fine(&mut self, mount: impl Display, text: impl Display) {
        if self.trouble.take().is_some() {
            tracing::info!(%mount, "{text}");
        } else {
            tracing::debug!(%mount, "{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_per_change() {
        let mut report = Report::default();
        assert!(report.trouble("/live", "refused"));
        assert!(!report.trouble("/live", "refused"));
        assert!(report.trouble("/live", "no such mount"));
        assert!(report.trouble("/live", "refused"));
        report.fine("/live", "back");
        assert!(report.trouble("/live", "refused"));
    }
}
