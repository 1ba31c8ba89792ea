//! Who may: tokens and their scopes.

use std::fmt::Display;
use std::path::PathBuf;

use super::disk::{SaveError, Saving};
use super::drain::Drains;
use super::registry::{CREDENTIAL_FILE, KeptCredential, MEMBERS_FILE};
use super::{Control, Denied, MemberError, Permit};
use crate::base::ids::NodeId;
use crate::base::secret::Secret;
use crate::base::wall::unix_millis;
use crate::cluster::access::{AccessError, RANDOM_LENGTH, Scope, TokenRecord};
use crate::cluster::registry::Registry;
use crate::throttle::{Door, Remote};

/// File of the data directory that holds the tokens' digests.
const TOKENS_FILE: &str = "tokens.json";

/// File of the data directory that holds what operators want of nodes.
const ORDERS_FILE: &str = "orders.json";

impl Control {
    /// The widest scope that a bearer token opens.
    pub fn scope_of(&self, _permit: &Permit<'_>, bearer: &str) -> Option<Scope> {
        let tokens = self.tokens();
        [Scope::Admin, Scope::Read]
            .into_iter()
            .find(|scope| tokens.verify(bearer, *scope).is_ok())
    }

    /// Makes a token; its text is returned this once, when the token is on the disk.
    ///
    /// # Errors
    /// Where the store is full, cannot be saved, or the system gives no randomness: then there is no such token.
    pub async fn create_token(&self, scope: Scope) -> anyhow::Result<(TokenRecord, Secret)> {
        let mut random = [0_u8; RANDOM_LENGTH];
        getrandom::fill(&mut random)?;
        let once = scope == Scope::Join;
        let (made, saving) = {
            let mut tokens = self.tokens();
            let made = tokens.create(scope, once, unix_millis(), random)?;
            (made, self.disk.save(TOKENS_FILE, &*tokens))
        };
        if let Err(error) = saving.on_disk().await {
            let mut tokens = self.tokens();
            tokens.revoke(&made.0.id);
            self.disk.save(TOKENS_FILE, &*tokens).later();
            return Err(error.into());
        }
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

    /// Takes a token back and waits until the disk has it no more; false if there was none.
    ///
    /// # Errors
    /// Where the store cannot be saved: the token opens nothing while this process runs, and would again after a
    /// restart.
    pub async fn revoke_token(&self, id: &str) -> Result<bool, SaveError> {
        let (known, saving) = {
            let mut tokens = self.tokens();
            match tokens.revoke(id) {
                true => (true, self.disk.save(TOKENS_FILE, &*tokens)),
                // That there is none is true when the disk says so too.
                false => (false, self.disk.newest(TOKENS_FILE)),
            }
        };
        match saving.on_disk().await {
            Err(SaveError::ReadOnly { .. }) if !known => Ok(false),
            other => other.map(|()| known),
        }
    }

    /// Judges whether somebody with this bearer may ask to join, so that a request is worth reading. It uses up nothing.
    ///
    /// # Errors
    /// Where the token is not known here; [`MemberError::Delayed`] for one who guessed too often.
    pub fn may_join(
        &self,
        bearer: &str,
        credential: Option<&str>,
        remote: Remote,
    ) -> Result<(), MemberError> {
        self.only_primary()?;
        // A node's own credential cannot be guessed, and is never slowed.
        if self.verified(credential.unwrap_or(bearer)).is_ok() {
            return Ok(());
        }
        if bearer.is_empty() {
            return Err(AccessError::Unknown.into());
        }
        let permit = self.knock(Door::Join, remote, "", bearer);
        let permit = permit.map_err(|denied| match denied {
            Denied::Delayed(seconds) => MemberError::Delayed(seconds),
            Denied::Missing | Denied::Wrong => AccessError::Unknown.into(),
        })?;
        let known = self.tokens().may_join(bearer);
        match known {
            Ok(()) => {
                permit.right();
                Ok(())
            }
            Err(error @ (AccessError::Unknown | AccessError::Revoked(_))) => {
                permit.wrong();
                Err(error.into())
            }
            // A token of ours with another scope is no guess.
            Err(error) => Err(error.into()),
        }
    }

    /// A node uses its join token up. The disk knows it before the node is welcome.
    pub(super) async fn use_token(&self, token: &str, node: &NodeId) -> Result<(), MemberError> {
        let saving = {
            let mut tokens = self.tokens();
            if tokens.join(token, node)? {
                self.disk.save(TOKENS_FILE, &*tokens)
            } else if tokens.verify(token, Scope::Join).is_ok() {
                // One that serves many times changes nothing, and waits for no disk.
                return Ok(());
            } else {
                // The node used it before, and the write of then may have failed.
                self.disk.newest(TOKENS_FILE)
            }
        };
        Ok(saving.on_disk().await?)
    }

    /// Waits for what is on its way to the disk; for the end of the process.
    pub async fn settle_disk(&self) {
        self.disk.settle().await;
    }

    /// A node was removed: the tokens that it used up open nothing for it any more.
    pub(super) fn end_token_uses(&self, node: &NodeId) {
        let mut tokens = self.tokens();
        if tokens.end_uses(node) {
            self.disk.save(TOKENS_FILE, &*tokens).later();
        }
    }

    /// The orders as they were put last.
    pub(super) fn newest_orders(&self) -> Saving {
        self.disk.newest(ORDERS_FILE)
    }

    /// The orders as they are now, whose lock the caller holds.
    pub(super) fn save_orders(&self, drains: &Drains) -> Saving {
        self.disk.save(ORDERS_FILE, &drains.orders)
    }
}

/// What a node remembered of its last run, for [`super::Control::new`].
#[derive(Debug, Default)]
pub struct Remembered {
    /// Tokens.
    pub tokens: crate::cluster::access::TokenStore,
    /// What operators want of nodes.
    pub orders: super::Orders,
    /// On a primary, the node ids that have joined.
    pub members: Registry,
    /// On a relay, its own credential; empty where it has none.
    pub credential: Secret,
    /// Titles of the sources.
    pub titles: super::KeptTitles,
}

impl Remembered {
    /// Reads it by `load`, which gives a file's content or nothing. What cannot be read counts as absent, is said, and
    /// is handed to `set_aside`, so that the next write does not destroy it.
    pub fn read<E: Display>(
        load: impl Fn(&str) -> Result<Option<Vec<u8>>, E>,
        set_aside: impl Fn(&str) -> Result<PathBuf, E>,
    ) -> Self {
        Self {
            tokens: parse(TOKENS_FILE, &load, &set_aside),
            orders: parse(ORDERS_FILE, &load, &set_aside),
            members: parse(MEMBERS_FILE, &load, &set_aside),
            credential: parse::<KeptCredential, E>(CREDENTIAL_FILE, &load, &set_aside).secret(),
            titles: parse(super::titles::TITLES_FILE, &load, &set_aside),
        }
    }
}

fn parse<T: Default + serde::de::DeserializeOwned, E: Display>(
    file: &str,
    load: impl Fn(&str) -> Result<Option<Vec<u8>>, E>,
    set_aside: impl Fn(&str) -> Result<PathBuf, E>,
) -> T {
    let why = match load(file) {
        Ok(None) => return T::default(),
        Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
            Ok(known) => return known,
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    match set_aside(file) {
        Ok(path) => tracing::error!(
            file,
            why,
            kept = %path.display(),
            "a damaged file of the data directory is set aside and counts as absent"
        ),
        Err(error) => tracing::error!(
            file,
            why,
            %error,
            "a damaged file of the data directory counts as absent, and cannot be set aside"
        ),
    }
    T::default()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn what_is_damaged_is_set_aside_and_nothing_else() {
        let aside = RefCell::new(Vec::new());
        let remembered = Remembered::read(
            |file| match file {
                TOKENS_FILE => Ok(Some(b"{\"tokens\": [{".to_vec())),
                _ => Ok::<_, String>(None),
            },
            |file| {
                aside.borrow_mut().push(file.to_owned());
                Ok(file.into())
            },
        );
        assert!(remembered.tokens.list().is_empty());
        assert_eq!(aside.take(), [TOKENS_FILE]);
        let _ = Remembered::read(
            |file| match file {
                ORDERS_FILE => Err("input/output error".to_owned()),
                _ => Ok(Some(b"{}".to_vec())),
            },
            |file| {
                aside.borrow_mut().push(file.to_owned());
                Ok(file.into())
            },
        );
        assert_eq!(aside.take(), [ORDERS_FILE]);
    }
}
