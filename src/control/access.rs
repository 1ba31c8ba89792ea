//! Who may: tokens and their scopes.

use crate::base::secret::Secret;
use crate::base::wall::unix_millis;
use crate::cluster::access::{AccessError, RANDOM_LENGTH, Scope, TokenRecord};

use super::Control;

/// File of the data directory that holds the tokens' digests.
const TOKENS_FILE: &str = "tokens.json";

/// File of the data directory that holds what operators want of nodes.
const ORDERS_FILE: &str = "orders.json";

impl Control {
    /// The widest scope that a bearer token opens.
    pub fn scope_of(&self, bearer: &str) -> Option<Scope> {
        let tokens = self.tokens();
        [Scope::Admin, Scope::Read]
            .into_iter()
            .find(|scope| tokens.verify(bearer, *scope).is_ok())
    }

    /// Makes a token; its text is returned this once.
    ///
    /// # Errors
    /// Where the store is full, cannot be saved, or the system gives no randomness.
    pub fn create_token(&self, scope: Scope) -> anyhow::Result<(TokenRecord, Secret)> {
        let mut random = [0_u8; RANDOM_LENGTH];
        getrandom::fill(&mut random)?;
        let once = scope == Scope::Join;
        let made = self.tokens().create(scope, once, unix_millis(), random)?;
        self.save_tokens().map_err(anyhow::Error::msg)?;
        Ok(made)
    }

    /// The join tokens that are reusable, in place of those of before.
    pub fn accept_tokens(&self, tokens: impl IntoIterator<Item = Secret>) {
        let mut store = self.tokens();
        store.clear_given();
        for token in tokens {
            store.give(Scope::Join, token);
        }
    }

    /// The tokens that were made, without their secrets.
    pub fn list_tokens(&self) -> Vec<TokenRecord> {
        self.tokens().list().to_vec()
    }

    /// Takes a token back; false if there was none.
    ///
    /// # Errors
    /// Where the store cannot be saved.
    pub fn revoke_token(&self, id: &str) -> Result<bool, AccessError> {
        let known = self.tokens().revoke(id);
        if known && let Err(error) = self.save_tokens() {
            tracing::error!(error, "the revocation holds until this node restarts");
        }
        Ok(known)
    }

    pub(super) fn save_tokens(&self) -> Result<(), String> {
        let text = serde_json::to_vec_pretty(&*self.tokens()).map_err(|error| error.to_string())?;
        (self.store)(TOKENS_FILE, &text)
    }

    pub(super) fn save_orders(&self) {
        let orders = self.drains().orders.clone();
        let saved = serde_json::to_vec_pretty(&orders)
            .map_err(|error| error.to_string())
            .and_then(|text| (self.store)(ORDERS_FILE, &text));
        if let Err(error) = saved {
            tracing::warn!(error, "the order is not kept over a restart");
        }
    }
}

/// What a node remembered of its last run, for [`super::Control::new`].
#[derive(Debug, Default)]
pub struct Remembered {
    /// Tokens.
    pub tokens: crate::cluster::access::TokenStore,
    /// What operators want of nodes.
    pub orders: super::Orders,
}

impl Remembered {
    /// Reads it by `load`, which gives a file's content or nothing. What is damaged counts as absent, and
    /// is said.
    pub fn read(load: impl Fn(&str) -> Option<Vec<u8>>) -> Self {
        Self {
            tokens: parse(TOKENS_FILE, &load),
            orders: parse(ORDERS_FILE, &load),
        }
    }
}

fn parse<T: Default + serde::de::DeserializeOwned>(
    file: &str,
    load: impl Fn(&str) -> Option<Vec<u8>>,
) -> T {
    let Some(bytes) = load(file) else {
        return T::default();
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::error!(file, %error, "a damaged file of the data directory is left out");
        T::default()
    })
}
