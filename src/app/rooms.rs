//! What each room is told of the settings: made in one place, so that a reload reaches all of them.

use super::configs;
use crate::base::secret::Secret;
use crate::control::Role;
use crate::discovery::Trust;
use crate::settings::choices::Level;
use crate::settings::secrets::Secrets;
use crate::settings::types::{ForeignRelay, Primary, Settings};
use crate::telemetry::access;
use crate::wire::message::PublicUrls;
use crate::wire::tls::Certificate;
use crate::{agent, cluster, control, edge, engine};

/// The configurations of a running node. What follows the settings by itself is not among them: the rendered files,
/// the watch over silence, the time at the end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rooms {
    /// Rings, bursts, fan-out.
    pub engine: engine::Config,
    /// Passwords, limits, the way listeners are placed.
    pub control: control::Config,
    /// How the table of nodes judges.
    pub table: cluster::table::Config,
    /// The data port.
    pub edge: edge::Config,
    /// A relay's membership; `None` on a primary, and on a gear that waits for its token.
    pub agent: Option<agent::Config>,
    /// By what the primary's certificate is known.
    pub trust: Trust,
    /// The foreign upstreams of a primary.
    pub foreign: Vec<ForeignRelay>,
    /// The join token that a primary accepts beside those that it made, and that a relay joins with.
    pub join_token: Secret,
    /// The level of the log.
    pub log: Level,
    /// Where access lines go, and how they look.
    pub access_log: (access::Target, access::Format),
}

/// What is known of the node beside its settings.
pub(super) struct Known<'a> {
    /// Role of the node; it never changes.
    pub role: Role,
    /// Primary that a relay joined.
    pub primary: Option<&'a Primary>,
    /// Passwords and tokens.
    pub secrets: &'a Secrets,
    /// Where it is reached.
    pub urls: PublicUrls,
    /// What it shows in TLS.
    pub certificate: Option<Certificate>,
    /// Descriptors that the process may open.
    pub descriptors: u64,
}

impl Rooms {
    /// The configurations by `settings`.
    ///
    /// # Errors
    /// A sentence, where a file of them cannot be read, or a relay has no token.
    pub fn of(settings: &Settings, known: Known<'_>) -> anyhow::Result<Self> {
        let agent = match known.primary {
            Some(primary) if !(primary.is_by_gear() && known.secrets.join.is_empty()) => {
                let config = configs::agent(settings, primary, known.secrets)?;
                config.check()?;
                Some(config)
            }
            _ => None,
        };
        let foreign = match known.role {
            Role::Primary => settings.relays.clone(),
            Role::Relay => Vec::new(),
        };
        Ok(Self {
            engine: configs::engine(settings),
            table: configs::table(settings),
            edge: configs::edge(settings, known.descriptors),
            agent,
            trust: configs::trust(settings, known.primary, known.secrets)?,
            foreign,
            join_token: known.secrets.join.clone(),
            log: settings.log,
            access_log: configs::access_log(settings),
            control: configs::control(
                settings,
                known.secrets,
                known.urls,
                known.certificate,
                known.descriptors,
            ),
        })
    }
}
