//! Credentials in `Authorization`: Basic and Bearer.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::base::secret::Secret;

use super::head::Headers;
use super::headers::field_text;

/// With or without padding: encoders do both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A user and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basic {
    /// Without `:`; may be empty.
    pub user: String,
    /// May be empty.
    pub password: Secret,
}

impl Basic {
    /// A pair; the user's part cannot hold a `:`.
    pub fn new(user: impl Into<String>, password: Secret) -> Self {
        Self {
            user: user.into(),
            password,
        }
    }

    /// The value of `Authorization`: `Basic …`.
    pub fn encode(&self) -> String {
        let pair = format!("{}:{}", self.user, self.password.reveal());
        format!("Basic {}", BASE64.encode(pair))
    }
}

/// What a client shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `Basic`.
    Basic(Basic),
    /// `Bearer`.
    Bearer(Secret),
    /// Nothing, or nothing that can be read.
    None,
}

impl Credentials {
    /// The credentials of the first `Authorization` field. The pair is UTF-8, else Latin-1; the user ends
    /// at the first `:`.
    pub fn of(headers: &Headers) -> Self {
        headers
            .get("authorization")
            .and_then(Self::parse)
            .unwrap_or(Self::None)
    }

    fn parse(value: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return (!rest.is_empty()).then(|| Self::Bearer(Secret::new(rest)));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = field_text(&BASE64.decode(rest).ok()?);
        let (user, password) = pair.split_once(':')?;
        Some(Self::Basic(Basic::new(user, Secret::new(password))))
    }

    /// The value of `Authorization`, where there is one.
    pub fn encode(&self) -> Option<String> {
        match self {
            Self::Basic(basic) => Some(basic.encode()),
            Self::Bearer(token) => Some(format!("Bearer {}", token.reveal())),
            Self::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(value: &str) -> Credentials {
        let mut headers = Headers::new();
        headers.push("AUTHORIZATION", value);
        Credentials::of(&headers)
    }

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic(Basic::new(user, Secret::new(password)))
    }

    #[test]
    fn what_encoders_send() {
        assert_eq!(of("Basic c291cmNlOmhhY2ttZQ=="), basic("source", "hackme"));
        assert_eq!(of("basic  c291cmNlOmhhY2ttZQ"), basic("source", "hackme"));
        assert_eq!(of("Basic OmE6Yg=="), basic("", "a:b"));
        assert_eq!(of("Basic czrp"), basic("s", "é"));
        assert_eq!(
            of("Bearer rctl1.a.b"),
            Credentials::Bearer(Secret::new("rctl1.a.b"))
        );
        for bad in [
            "",
            "Basic",
            "Basic !!!",
            "Basic c291cmNl",
            "Bearer ",
            "Digest x",
        ] {
            assert_eq!(of(bad), Credentials::None, "{bad}");
        }
        assert_eq!(Credentials::of(&Headers::new()), Credentials::None);
    }

    #[test]
    fn written_and_never_shown() {
        let credentials = basic("source", "hackme");
        assert_eq!(
            credentials.encode().as_deref(),
            Some("Basic c291cmNlOmhhY2ttZQ==")
        );
        assert!(!format!("{credentials:?}").contains("hackme"));
        assert_eq!(Credentials::None.encode(), None);
    }

    proptest! {
        #[test]
        fn reads_back(user in "[^:]{0,20}", password in ".{0,30}", token in "[!-~]{1,40}") {
            let pair = basic(&user, &password);
            prop_assert_eq!(of(&pair.encode().unwrap()), pair);
            let bearer = Credentials::Bearer(Secret::new(token));
            prop_assert_eq!(of(&bearer.encode().unwrap()), bearer);
        }
    }
}
