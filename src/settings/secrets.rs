//! Secrets that are given, kept or generated once. No default password exists.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::data_dir::{DataDir, DataDirError};
use super::role::Role;
use super::secret_file;
use super::types::Given;
use crate::base::ids::NodeId;
use crate::base::secret::Secret;

/// Files of the data directory, mode 0600, each one line.
pub const SOURCE_FILE: &str = "source-password";
/// See [`SOURCE_FILE`].
pub const ADMIN_FILE: &str = "admin-password";
/// See [`SOURCE_FILE`].
pub const RELAY_FILE: &str = "relay-password";
/// See [`SOURCE_FILE`].
pub const JOIN_FILE: &str = "join-token";
/// See [`SOURCE_FILE`].
pub const CLUSTER_KEY_FILE: &str = "cluster-key";
/// See [`SOURCE_FILE`].
pub const NODE_ID_FILE: &str = "node-id";

/// What a node knows. An empty secret matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    /// User `source`; empty on a relay that was given none.
    pub source: Secret,
    /// User `admin`.
    pub admin: Secret,
    /// On a primary the reusable join token that it accepts, on a relay the one it joins with.
    pub join: Secret,
    /// User `relay`; empty on a relay that was given none.
    pub relay: Secret,
    /// Key of the MACs in `rt=` of a primary; a relay gets its primary's at join.
    pub cluster_key: ClusterKey,
    /// This node's lasting identity.
    pub node_id: NodeId,
    /// What was generated now, and where it lies: to be shown or named once.
    pub generated: Vec<(&'static str, PathBuf)>,
}

/// Thirty-two bytes that never show themselves.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey(pub [u8; 32]);

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Why there are no secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The directory takes nothing and these were not given.
    #[error(
        "the data directory `{path}` cannot be written, so nothing can be generated: make it writable, \
         name another one (`--data-dir` or RELAYCTL_DATA_DIR), or give {missing}"
    )]
    Missing {
        /// Which directory.
        path: PathBuf,
        /// Environment names, joined.
        missing: String,
    },
    /// A file that is no such secret.
    #[error("`{path}` {what}: mend it, or remove it and a new one is generated")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
}

/// Takes each secret from `given`, else from its file, else generates it and keeps it.
///
/// In a directory that cannot be written nothing is kept: the cluster key is drawn anew at each start
/// (tokens of before count as absent), and the node's id follows from `name` and the join token where
/// there is a name.
///
/// # Errors
/// Where a secret is neither there nor can be kept, or a file is damaged.
pub fn open(
    data_dir: &DataDir,
    given: &Given,
    name: Option<&NodeId>,
    role: Role,
) -> Result<Secrets, SecretsError> {
    let mut store = Store {
        data_dir,
        generated: Vec::new(),
        missing: Vec::new(),
    };
    let passwords = passwords(&mut store, given, role)?;
    if !store.missing.is_empty() {
        return Err(SecretsError::Missing {
            path: data_dir.path().into(),
            missing: store.missing.join(" and "),
        });
    }
    let cluster_key = store.cluster_key()?;
    let node_id = store.node_id(name, &passwords.join)?;
    // Identities are no secrets that anybody must be told.
    let generated = store
        .generated
        .into_iter()
        .filter(|(name, _)| !matches!(*name, CLUSTER_KEY_FILE | NODE_ID_FILE))
        .collect();
    Ok(Secrets {
        source: passwords.source,
        admin: passwords.admin,
        join: passwords.join,
        relay: passwords.relay,
        cluster_key,
        node_id,
        generated,
    })
}

/// What people type or paste.
struct Passwords {
    source: Secret,
    admin: Secret,
    join: Secret,
    relay: Secret,
}

fn passwords(store: &mut Store<'_>, given: &Given, role: Role) -> Result<Passwords, SecretsError> {
    let writable = store.data_dir.is_writable();
    let primary = role == Role::Primary;
    let password = || Secret::generate(12);
    let source = match primary {
        true => store.secret(
            SOURCE_FILE,
            "RELAYCTL_SOURCE_PASSWORD",
            &given.source,
            password,
        )?,
        false => given.source.clone().unwrap_or_default(),
    };
    let admin = if primary || writable {
        store.secret(
            ADMIN_FILE,
            "RELAYCTL_ADMIN_PASSWORD",
            &given.admin,
            password,
        )?
    } else {
        // Nobody could read a generated one; client commands use the node's own socket.
        match &given.admin {
            Some(admin) => admin.clone(),
            None => password()?,
        }
    };
    let join = match primary {
        true => store.secret(JOIN_FILE, "RELAYCTL_TOKEN", &given.join_token, join_token)?,
        false => given.token.clone().unwrap_or_default(),
    };
    // The relay password is not worth refusing to start: without it rendered relays cannot log in.
    let relay = match &given.relay {
        Some(relay) => relay.clone(),
        None if primary && writable => {
            store.secret(RELAY_FILE, "RELAYCTL_RELAY_PASSWORD", &None, password)?
        }
        None => Secret::default(),
    };
    Ok(Passwords {
        source,
        admin,
        join,
        relay,
    })
}

/// `rctl1.<id>.<secret>`: eight hexadecimal digits that name it, and 32 that nobody guesses.
pub fn join_token() -> Result<Secret, getrandom::Error> {
    let id = Secret::generate(4)?;
    let secret = Secret::generate(16)?;
    Ok(Secret::new(format!(
        "rctl1.{}.{}",
        id.reveal(),
        secret.reveal()
    )))
}

struct Store<'a> {
    data_dir: &'a DataDir,
    generated: Vec<(&'static str, PathBuf)>,
    missing: Vec<&'static str>,
}

impl Store<'_> {
    fn secret(
        &mut self,
        file: &'static str,
        variable: &'static str,
        given: &Option<Secret>,
        make: impl Fn() -> Result<Secret, getrandom::Error>,
    ) -> Result<Secret, SecretsError> {
        if let Some(given) = given {
            return Ok(given.clone());
        }
        if let Some(kept) = self.kept(file)? {
            return Ok(Secret::new(kept));
        }
        if !self.data_dir.is_writable() {
            self.missing.push(variable);
            return Ok(Secret::default());
        }
        let secret = make()?;
        self.keep(file, secret.reveal())?;
        Ok(secret)
    }

    fn kept(&self, file: &'static str) -> Result<Option<String>, SecretsError> {
        let Some(content) = self.data_dir.read(file)? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&content);
        match secret_file::clean(&text) {
            Ok(text) => Ok(Some(text)),
            Err(what) => Err(self.malformed(file, what)),
        }
    }

    fn keep(&mut self, file: &'static str, text: &str) -> Result<(), SecretsError> {
        let path = self.data_dir.write(file, format!("{text}\n").as_bytes())?;
        self.generated.push((file, path));
        Ok(())
    }

    fn malformed(&self, file: &str, what: impl Into<String>) -> SecretsError {
        SecretsError::Malformed {
            path: self.data_dir.path().join(Path::new(file)),
            what: what.into(),
        }
    }

    fn cluster_key(&mut self) -> Result<ClusterKey, SecretsError> {
        if let Some(text) = self.kept(CLUSTER_KEY_FILE)? {
            return decode(&text)
                .map(ClusterKey)
                .ok_or_else(|| self.malformed(CLUSTER_KEY_FILE, "is no 64 hexadecimal digits"));
        }
        let secret = Secret::generate(32)?;
        if self.data_dir.is_writable() {
            self.keep(CLUSTER_KEY_FILE, secret.reveal())?;
        }
        decode(secret.reveal())
            .map(ClusterKey)
            .ok_or_else(|| self.malformed(CLUSTER_KEY_FILE, "is no 64 hexadecimal digits"))
    }

    fn node_id(&mut self, name: Option<&NodeId>, join: &Secret) -> Result<NodeId, SecretsError> {
        if let Some(text) = self.kept(NODE_ID_FILE)? {
            return text
                .parse()
                .map_err(|_| self.malformed(NODE_ID_FILE, "is no node id"));
        }
        if self.data_dir.is_writable() {
            let id = NodeId::random();
            self.keep(NODE_ID_FILE, id.as_str())?;
            return Ok(id);
        }
        Ok(name
            .and_then(|name| derived(name, join).parse().ok())
            .unwrap_or_else(NodeId::random))
    }
}

/// The same id at each start for the same name in the same cluster, and no way back to the token.
fn derived(name: &NodeId, join: &Secret) -> String {
    let mut hash = Sha256::new();
    hash.update(b"relayctl node id\0");
    hash.update(name.as_str());
    hash.update([0]);
    hash.update(join.reveal());
    let digest = hash.finalize();
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn decode(text: &str) -> Option<[u8; 32]> {
    if !text.is_ascii() || text.len() != 64 {
        return None;
    }
    let mut key = [0_u8; 32];
    for (place, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *place = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn given(source: &str, admin: &str, token: &str) -> Given {
        Given {
            source: Some(Secret::new(source)),
            admin: Some(Secret::new(admin)),
            token: Some(Secret::new(token)),
            join_token: Some(Secret::new(token)),
            relay: None,
        }
    }

    #[test]
    fn generated_once_private_and_stable() {
        let scene = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(scene.path()).unwrap();
        let first = open(&data_dir, &Given::default(), None, Role::Primary).unwrap();
        let names: Vec<&str> = first.generated.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [SOURCE_FILE, ADMIN_FILE, JOIN_FILE, RELAY_FILE]);
        let files = [
            SOURCE_FILE,
            ADMIN_FILE,
            JOIN_FILE,
            RELAY_FILE,
            CLUSTER_KEY_FILE,
            NODE_ID_FILE,
        ];
        for file in files {
            let metadata = fs::metadata(scene.path().join(file)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{file}");
        }
        let text = fs::read_to_string(scene.path().join(SOURCE_FILE)).unwrap();
        assert_eq!(text, format!("{}\n", first.source.reveal()));
        assert_eq!(first.source.reveal().len(), 24);
        let parts: Vec<&str> = first.join.reveal().split('.').collect();
        assert_eq!(parts[0], "rctl1");
        assert_eq!((parts.len(), parts[1].len(), parts[2].len()), (3, 8, 32));
        let second = open(&data_dir, &Given::default(), None, Role::Primary).unwrap();
        assert_eq!(second.generated, []);
        assert_eq!(
            Secrets {
                generated: Vec::new(),
                ..first.clone()
            },
            second
        );
        let all = [&first.source, &first.admin, &first.join, &first.relay];
        for (index, one) in all.iter().enumerate() {
            assert!(all.iter().skip(index + 1).all(|other| one != other));
        }
        assert!(!format!("{first:?}").contains(first.source.reveal()));
    }

    #[test]
    fn what_is_given_wins_and_is_not_kept() {
        let scene = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(scene.path()).unwrap();
        let secrets = open(
            &data_dir,
            &given("s", "a", "my own token"),
            None,
            Role::Primary,
        )
        .unwrap();
        assert!(secrets.join.matches("my own token"));
        assert!(secrets.source.matches("s") && secrets.admin.matches("a"));
        assert!(!scene.path().join(SOURCE_FILE).exists());
        assert!(!scene.path().join(JOIN_FILE).exists());
    }

    #[test]
    fn a_relay_generates_neither_source_password_nor_token() {
        let scene = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(scene.path()).unwrap();
        let secrets = open(&data_dir, &Given::default(), None, Role::Relay).unwrap();
        assert!(secrets.source.is_empty() && secrets.join.is_empty());
        assert!(!secrets.admin.is_empty());
        assert!(!scene.path().join(JOIN_FILE).exists());
        assert!(scene.path().join(NODE_ID_FILE).exists());
    }

    #[test]
    fn a_directory_that_takes_nothing_wants_every_secret() {
        let scene = tempfile::tempdir().unwrap();
        fs::write(scene.path().join("file"), "").unwrap();
        let data_dir = DataDir::open(&scene.path().join("file/data")).unwrap();
        let error = open(&data_dir, &Given::default(), None, Role::Primary).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(
                "RELAYCTL_SOURCE_PASSWORD and RELAYCTL_ADMIN_PASSWORD and RELAYCTL_TOKEN"
            ),
            "{text}"
        );
        let name: NodeId = "relay-0".parse().unwrap();
        let start = || open(&data_dir, &given("s", "a", "t"), Some(&name), Role::Primary).unwrap();
        let (first, second) = (start(), start());
        assert_eq!(first.node_id, second.node_id);
        assert_eq!(first.node_id.as_str().len(), 16);
        assert!(first.cluster_key != second.cluster_key);
        assert!(open(&data_dir, &Given::default(), None, Role::Relay).is_ok());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let scene = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(scene.path()).unwrap();
        for (file, content) in [
            (CLUSTER_KEY_FILE, "zz"),
            (SOURCE_FILE, ""),
            (NODE_ID_FILE, "a b"),
            (JOIN_FILE, "a\nb\n"),
        ] {
            fs::write(scene.path().join(file), content).unwrap();
            let error = open(&data_dir, &Given::default(), None, Role::Primary).unwrap_err();
            assert!(error.to_string().contains(file), "{error}");
            fs::remove_file(scene.path().join(file)).unwrap();
        }
    }
}
