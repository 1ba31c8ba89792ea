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
        if self.trouble.as_ref() == Some(&text) {
            return false;
        }
        tracing::warn!(%mount, "{text}");
        self.trouble = Some(text);
        true
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
