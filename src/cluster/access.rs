//! Tokens that the operator hands out: `rctl1.<id>.<secret>`, each with one scope.
//!
//! Plain data: the caller loads and saves it, gives time and random bytes, and shows a new token once.
//! Only a digest of the secret is kept.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::keys::hex;
use crate::base::ids::NodeId;
use crate::base::secret::Secret;

/// What a token begins with.
const PREFIX: &str = "rctl1";

/// Random bytes that a new token takes: 4 for the id, 20 for the secret.
pub const RANDOM_LENGTH: usize = 24;

/// Most tokens in one store.
pub const MAX_TOKENS: usize = 10_000;

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To become a node.
    Join,
    /// Metrics, nodes, mounts, picks, events.
    Read,
    /// All of `read`; listeners, kick, drain, tokens, config.
    Admin,
}

impl Scope {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    /// True if a token of this scope opens what needs `wanted`.
    pub fn opens(self, wanted: Self) -> bool {
        self == wanted || (self == Self::Admin && wanted == Self::Read)
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Scope {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        [Self::Join, Self::Read, Self::Admin]
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| AccessError::NoScope(text.into()))
    }
}

/// Why a token does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// A word that is no scope.
    #[error("`{0}` is no scope: write join, read or admin")]
    NoScope(String),
    /// Not of our form, and none that the operator gave.
    #[error("the token is not known here: `relayctl token show join` on the primary prints one")]
    Unknown,
    /// Was taken back, or is from another cluster.
    #[error("token `{0}` is not known here: it was revoked, or it is of another cluster")]
    Revoked(String),
    /// Opens something else.
    #[error("token `{id}` has scope {scope}, but {wanted} is needed")]
    Scope {
        /// The token.
        id: String,
        /// What it has.
        scope: Scope,
        /// What it would take.
        wanted: Scope,
    },
    /// Serves once, and did.
    #[error(
        "token `{0}` serves once and was used: make a new one with `relayctl token create --scope join`"
    )]
    Used(String),
    /// What stands behind the secret.
    #[error("`{0}` in the join token is no SHA-256 in 64 hexadecimal digits: copy the whole token")]
    Pin(String),
    /// The store is full.
    #[error("there are {MAX_TOKENS} tokens already: revoke some with `relayctl token revoke`")]
    TooMany,
}

/// One token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Eight hexadecimal digits, public.
    pub id: String,
    /// What it opens.
    pub scope: Scope,
    /// Digest of the secret part, hexadecimal.
    pub secret_sha256: String,
    /// Unix milliseconds.
    pub created: u64,
    /// Serves one node only.
    pub once: bool,
    /// The node that used it up.
    #[serde(default)]
    pub used: Option<NodeId>,
    /// The node that used it up was removed: it opens nothing for that one either.
    #[serde(default)]
    pub ended: bool,
}

/// A token that the operator chose himself, taken as it is. Not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    scope: Scope,
    token: Secret,
}

/// All tokens of a primary.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenStore {
    #[serde(default)]
    tokens: Vec<TokenRecord>,
    #[serde(skip)]
    given: Vec<Given>,
}

impl TokenStore {
    /// Makes a token. The text is returned this once and kept nowhere.
    ///
    /// # Errors
    /// Where the store is full.
    pub fn create(
        &mut self,
        scope: Scope,
        once: bool,
        unix_millis: u64,
        random: [u8; RANDOM_LENGTH],
    ) -> Result<(TokenRecord, Secret), AccessError> {
        if self.tokens.len() >= MAX_TOKENS {
            return Err(AccessError::TooMany);
        }
        let (id, secret) = random.split_at(4);
        let (id, secret) = (hex(id), hex(secret));
        let record = TokenRecord {
            id: id.clone(),
            scope,
            secret_sha256: hex(&Sha256::digest(secret.as_bytes())),
            created: unix_millis,
            once,
            used: None,
            ended: false,
        };
        self.tokens.retain(|token| token.id != id);
        self.tokens.push(record.clone());
        Ok((record, Secret::new(format!("{PREFIX}.{id}.{secret}"))))
    }

    /// A token that the operator gave by file or environment: any text, reusable, never saved.
    pub fn give(&mut self, scope: Scope, token: Secret) {
        if !token.is_empty() {
            self.given.push(Given { scope, token });
        }
    }

    /// Forgets the given ones, before a reload gives them again.
    pub fn clear_given(&mut self) {
        self.given.clear();
    }

    /// All that are kept, oldest first.
    pub fn list(&self) -> &[TokenRecord] {
        &self.tokens
    }

    /// Takes a token back; false if there was none.
    pub fn revoke(&mut self, id: &str) -> bool {
        let before = self.tokens.len();
        self.tokens.retain(|token| token.id != id);
        self.tokens.len() < before
    }

    /// The id of the token that opens `wanted`; `given` for one of the operator's own.
    ///
    /// # Errors
    /// Says why it does not open. One that serves once and was used is refused.
    pub fn verify(&self, text: &str, wanted: Scope) -> Result<String, AccessError> {
        let (id, used) = self.find(text, wanted)?;
        match used {
            Some(_) => Err(AccessError::Used(id)),
            None => Ok(id),
        }
    }

    /// True enough for a join request to be read: a join token of ours, used up or not. It uses up nothing.
    ///
    /// # Errors
    /// As [`join`](Self::join), but for a token that another node used up.
    pub fn may_join(&self, text: &str) -> Result<(), AccessError> {
        self.find(text, Scope::Join).map(|_| ())
    }

    /// As [`verify`](Self::verify) for a join, and uses the token up where it serves once. The node that
    /// used it may come again, since its answer may have been lost. True if the store changed and has to
    /// be saved before the node is answered.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn join(&mut self, text: &str, node: &NodeId) -> Result<bool, AccessError> {
        let id = self.may_use(text, node)?;
        let known = |record: &&TokenRecord| record.id == id && record.used.is_some();
        if self.tokens.iter().any(|record| known(&record)) {
            return Ok(false);
        }
        let record = self.tokens.iter_mut().find(|t| t.id == id && t.once);
        let changed = record.is_some();
        if let Some(record) = record {
            record.used = Some(node.clone());
        }
        Ok(changed)
    }

    /// The id of the token by which `node` may join, as [`join`](Self::join) without using it.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn may_use(&self, text: &str, node: &NodeId) -> Result<String, AccessError> {
        let (id, used) = self.find(text, Scope::Join)?;
        let ended = self
            .tokens
            .iter()
            .any(|record| record.id == id && record.ended);
        match used {
            Some(by) if ended || by != *node => Err(AccessError::Used(id)),
            _ => Ok(id),
        }
    }

    /// The tokens that `node` used up open nothing for it any more. True if there was one.
    pub fn end_uses(&mut self, node: &NodeId) -> bool {
        let mut any = false;
        let used = self
            .tokens
            .iter_mut()
            .filter(|record| record.used.as_ref() == Some(node));
        for record in used {
            any |= !std::mem::replace(&mut record.ended, true);
        }
        any
    }

    fn find(&self, text: &str, wanted: Scope) -> Result<(String, Option<NodeId>), AccessError> {
        // All given ones are compared, whichever matches: the time tells nothing.
        let mut given = None;
        for one in &self.given {
            if one.token.matches(text) {
                given = Some(one.scope);
            }
        }
        if let Some(scope) = given {
            return allow("given".into(), scope, wanted, None);
        }
        let (id, secret) = split(text).ok_or(AccessError::Unknown)?;
        let record = self.tokens.iter().find(|token| token.id == id);
        let record = record.ok_or_else(|| AccessError::Revoked(id.into()))?;
        let digest = hex(&Sha256::digest(secret.as_bytes()));
        if !bool::from(digest.as_bytes().ct_eq(record.secret_sha256.as_bytes())) {
            return Err(AccessError::Unknown);
        }
        allow(id.into(), record.scope, wanted, record.used.clone())
    }
}

fn allow(
    id: String,
    scope: Scope,
    wanted: Scope,
    used: Option<NodeId>,
) -> Result<(String, Option<NodeId>), AccessError> {
    if scope.opens(wanted) {
        Ok((id, used))
    } else {
        Err(AccessError::Scope { id, scope, wanted })
    }
}

/// A join token without the part that is for the one who shows it, and that part: the SHA-256 of the key that the
/// primary's certificate must have. A token of another form is whole.
///
/// # Errors
/// Where that part is no SHA-256.
pub fn without_pin(token: &Secret) -> Result<(Secret, Option<[u8; 32]>), AccessError> {
    let parts: Vec<&str> = token.reveal().split('.').collect();
    let [PREFIX, id, secret, pin] = parts[..] else {
        return Ok((token.clone(), None));
    };
    let bytes = unhex(pin).ok_or_else(|| AccessError::Pin(pin.into()))?;
    Ok((Secret::new(format!("{PREFIX}.{id}.{secret}")), Some(bytes)))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0_usize..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at.saturating_add(2))?, 16).ok()?;
    }
    Some(bytes)
}

/// The id and the secret of `rctl1.<id>.<secret>[.<spki-sha256>]`.
fn split(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix(PREFIX)?.strip_prefix('.')?;
    let (id, rest) = rest.split_once('.')?;
    let secret = rest.split_once('.').map_or(rest, |(secret, _)| secret);
    let hexadecimal = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
    (id.len() == 8 && hexadecimal(id) && hexadecimal(secret)).then_some((id, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (TokenStore, Secret) {
        let mut store = TokenStore::default();
        let (record, token) = store
            .create(Scope::Join, false, 7, [0xab; RANDOM_LENGTH])
            .unwrap();
        assert_eq!((record.id.as_str(), record.created), ("abababab", 7));
        (store, token)
    }

    #[test]
    fn a_token_round_trips_through_the_kept_data() {
        let (store, token) = store();
        let text = serde_json::to_string(&store).unwrap();
        let secret = token.reveal().rsplit('.').next().unwrap();
        assert!(!text.contains(secret));
        let back: TokenStore = serde_json::from_str(&text).unwrap();
        assert_eq!(
            back.verify(token.reveal(), Scope::Join),
            Ok("abababab".into())
        );
        let pinned = format!("{}.0011", token.reveal());
        assert!(back.verify(&pinned, Scope::Join).is_ok());
    }

    #[test]
    fn a_pin_is_for_the_one_who_joins() {
        let digits = "00ff".repeat(16);
        let token = Secret::new(format!("rctl1.abababab.cd.{digits}"));
        let (bare, pin) = without_pin(&token).unwrap();
        assert_eq!(bare.reveal(), "rctl1.abababab.cd");
        let pin = pin.unwrap();
        assert_eq!((pin[0], pin[1], pin[31]), (0, 255, 255));
        for whole in ["rctl1.abababab.cd", "let.me.in.please", "x"] {
            let whole = Secret::new(whole);
            assert_eq!(without_pin(&whole), Ok((whole.clone(), None)));
        }
        for bad in ["0011", "", &"g".repeat(64), &"\u{e9}".repeat(32)] {
            let error = without_pin(&Secret::new(format!("rctl1.a.b.{bad}")));
            assert_eq!(error, Err(AccessError::Pin(bad.into())));
        }
    }

    #[test]
    fn wrong_revoked_and_narrow_tokens_are_refused() {
        let (mut store, token) = store();
        let wrong = token.reveal().replace(".abab", ".abac");
        assert!(store.verify(&wrong, Scope::Join).is_err());
        let wrong = format!("{}0", token.reveal());
        assert_eq!(store.verify(&wrong, Scope::Join), Err(AccessError::Unknown));
        assert!(matches!(
            store.verify(token.reveal(), Scope::Read),
            Err(AccessError::Scope { .. })
        ));
        for bad in ["", "rctl1", "rctl1..", "rctl1.abababab.", "hackme"] {
            assert!(store.verify(bad, Scope::Join).is_err(), "{bad}");
        }
        assert!(store.revoke("abababab"));
        assert!(!store.revoke("abababab"));
        assert_eq!(
            store.verify(token.reveal(), Scope::Join),
            Err(AccessError::Revoked("abababab".into()))
        );
    }

    #[test]
    fn one_that_serves_once_serves_one_node() {
        let mut store = TokenStore::default();
        let (_, token) = store
            .create(Scope::Join, true, 0, [1; RANDOM_LENGTH])
            .unwrap();
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(store.join(token.reveal(), &a), Ok(true));
        assert_eq!(store.join(token.reveal(), &a), Ok(false));
        assert_eq!(store.may_use(token.reveal(), &a), Ok("01010101".into()));
        assert!(store.end_uses(&a) && !store.end_uses(&a) && !store.end_uses(&b));
        assert!(store.join(token.reveal(), &a).is_err());
        assert_eq!(
            store.join(token.reveal(), &b),
            Err(AccessError::Used("01010101".into()))
        );
    }

    #[test]
    fn the_operators_own_token_is_taken_as_it_is() {
        let mut store = TokenStore::default();
        store.give(Scope::Join, Secret::new("let me in"));
        store.give(Scope::Read, Secret::default());
        let node: NodeId = "a".parse().unwrap();
        assert_eq!(store.join("let me in", &node), Ok(false));
        assert_eq!(store.join("let me in", &node), Ok(false));
        assert!(store.verify("", Scope::Read).is_err());
        assert!(store.verify("let me in", Scope::Admin).is_err());
        assert!(!serde_json::to_string(&store).unwrap().contains("let me in"));
    }

    #[test]
    fn admin_reads_but_does_not_join() {
        assert!(Scope::Admin.opens(Scope::Read));
        assert!(!Scope::Admin.opens(Scope::Join));
        assert!(!Scope::Read.opens(Scope::Admin));
        assert_eq!("read".parse(), Ok(Scope::Read));
        assert!("root".parse::<Scope>().is_err());
    }
}
