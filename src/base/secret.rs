//! A text that never shows itself.

use std::fmt;

use subtle::ConstantTimeEq;

/// A password or token. `Debug` and `Display` print `***`; it compares in constant time.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// `bytes` random bytes as lower-case hexadecimal.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn generate(bytes: usize) -> Result<Self, getrandom::Error> {
        let mut raw = vec![0_u8; bytes];
        getrandom::fill(&mut raw)?;
        Ok(Self(raw.iter().map(|b| format!("{b:02x}")).collect()))
    }

    /// The text itself: for comparing, sending and the one time that it is shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// True if `other` is the same text; takes as long for a near miss as for a far one.
    pub fn matches(&self, other: &str) -> bool {
        !self.0.is_empty() && self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }

    /// True if nothing was set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shows_itself_and_never_matches_empty() {
        let secret = Secret::new("hackme");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert!(secret.matches("hackme"));
        assert!(!secret.matches("hackme2"));
        assert!(!Secret::default().matches(""));
        assert_eq!(Secret::generate(16).unwrap().reveal().len(), 32);
    }
}
