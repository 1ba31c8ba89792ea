//! Becoming a member.

use serde::{Deserialize, Serialize};

use super::{
    Capabilities, Limits, MAX_KEYS, MAX_TEXT, MessageError, NodeName, PublicUrls, at_most,
    check_node, fits, millis,
};
use crate::base::ids::NodeId;
use crate::base::secret::Secret;
use crate::wire::bounds::Clock;

/// The header of a join that has the credential of an earlier one, where the node kept it.
pub const CREDENTIAL_HEADER: &str = "x-relayctl-credential";

/// The header of a join that has the node's name, for whoever reads of a refusal; nothing proves it.
pub const NODE_NAME_HEADER: &str = "x-relayctl-name";

/// `POST /cluster/v1/join`, with a join token as bearer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// [`VERSION`] of the sender.
    pub v: u16,
    /// Lasting identity, from the data directory.
    pub id: NodeId,
    /// What people call it.
    pub name: NodeName,
    /// Unix milliseconds of the process' start: fences an older process of the same id.
    pub incarnation: u64,
    /// The program's version.
    pub version: String,
    /// As set by the operator; empty means: the address that the primary saw and `data_port`.
    #[serde(default)]
    pub public_urls: PublicUrls,
    /// The port that serves listeners.
    pub data_port: u16,
    /// Of its engine.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Of the node.
    pub limits: Limits,
    /// Share beside the others, 100 is the normal one.
    #[serde(default = "super::default_weight")]
    pub weight: u32,
    /// Since the process started.
    #[serde(default)]
    pub uptime_millis: u64,
    /// The node keeps its credential over a restart, and shows it then.
    #[serde(default)]
    pub keeps_credential: bool,
}

impl JoinRequest {
    /// Checks every text and number; a weight and the limits are cut to their ranges where they are used.
    ///
    /// # Errors
    /// Where a bound is broken.
    pub fn check(&self, clock: &Clock) -> Result<(), MessageError> {
        check_node(
            self.v,
            &self.version,
            &self.public_urls,
            self.data_port,
            &self.limits,
            (self.incarnation, clock),
        )?;
        millis("uptime_millis", self.uptime_millis)
    }
}

/// A key that signs redirect tokens, valid in the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterKey {
    /// Named in each token.
    pub id: u8,
    /// 64 hexadecimal digits.
    #[serde(with = "super::revealed")]
    pub secret: Secret,
    /// Unix milliseconds after which nothing is signed with it; 0 is never.
    #[serde(default)]
    pub expires: u64,
}

/// What the operator can do about a public URL that does not answer.
pub const URL_HINT: &str =
    "set --public-url (or RELAYCTL_PUBLIC_URL) on the relay to a URL that works from the primary";

/// What came of fetching the node's public URL from the primary.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeResult {
    /// The URL that was tried.
    pub url: String,
    /// It answered as it should.
    pub ok: bool,
    /// What went wrong.
    pub error: Option<String>,
    /// What the operator can set.
    pub hint: Option<String>,
}

impl ProbeResult {
    /// Of a node that tells no URL: nothing was tried, and nothing is wrong.
    pub fn unasked() -> Self {
        Self {
            ok: true,
            ..Self::default()
        }
    }

    /// Leaves one text for every failure; true where there was one. What the primary found at a URL would tell whoever holds
    /// a join token which ports of the primary's network are open (SSRF).
    pub fn blur(&mut self) -> bool {
        if !self.ok {
            self.error = Some(UNFETCHED.to_owned());
        }
        !self.ok
    }
}

/// The text for every failure of a probe where the relay reads it.
pub const UNFETCHED: &str =
    "it does not answer there as this node; the primary's log and its `relayctl get nodes` say why";

/// The answer to a [`JoinRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// [`VERSION`] of the sender.
    pub v: u16,
    /// The id that joined.
    pub id: NodeId,
    /// The bearer of every later request.
    #[serde(with = "super::revealed")]
    pub credential: Secret,
    /// Who answers.
    pub primary_id: NodeId,
    /// What people call it.
    pub primary_name: NodeName,
    /// Current one first.
    pub cluster_keys: Vec<ClusterKey>,
    /// What foreign servers that relay this station log in with: rendered files have it.
    #[serde(default, with = "super::revealed")]
    pub relay_password: Secret,
    /// Pace of the beats.
    pub beat_millis: u64,
    /// Where the primary sends listeners of this node.
    pub public_url: String,
    /// Whether it got through there.
    pub probe: ProbeResult,
    /// Listeners that do not reach the node's URL, and what to set.
    #[serde(default)]
    pub warning: Option<String>,
    /// The primary's clock: token expiries are in its time.
    #[serde(default)]
    pub unix_millis: u64,
}

/// Longest pace of beats that a primary may ask for, in milliseconds.
const MAX_BEAT: u64 = 60_000;

impl JoinAnswer {
    /// Checks every text and number.
    ///
    /// # Errors
    /// Where a bound is broken.
    pub fn check(&self) -> Result<(), MessageError> {
        fits("cluster_keys", self.cluster_keys.len(), MAX_KEYS)?;
        fits("public_url", self.public_url.len(), MAX_TEXT)?;
        fits("credential", self.credential.reveal().len(), MAX_TEXT)?;
        fits(
            "relay_password",
            self.relay_password.reveal().len(),
            MAX_TEXT,
        )?;
        let warning = self.warning.as_ref().map_or(0, String::len);
        fits("warning", warning, 4 * MAX_TEXT)?;
        at_most("beat_millis", self.beat_millis, MAX_BEAT)?;
        millis("unix_millis", self.unix_millis)
    }
}
