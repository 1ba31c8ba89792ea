//! Settings of what people and pages may ask over HTTP.

use super::Control;

/// Names of this node and the reach of GET requests, for requests of browsers and administration tools.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Web {
    /// Names besides the public URLs under which this node is administered, in lower case; a leading `*.` stands for
    /// one or more labels.
    pub hosts: Vec<String>,
    /// Actions that a GET may do.
    pub get_actions: GetActions,
}

/// Actions of the administration that a GET may do; a POST may do all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GetActions {
    /// Each of them, as Icecast and Shoutcast have it.
    #[default]
    All,
    /// Titles only, which encoders set so.
    Titles,
    /// None.
    None,
}

/// Condition under which `/metrics` is read without a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsOpen {
    /// Loopback and private networks, unless an untrusted proxy stands between.
    Auto,
    /// Every address.
    Always,
    /// No address.
    Never,
}

impl Control {
    /// The URLs at which this node and the others of its table are reached: a request that a relay carried here was
    /// sent to the relay's.
    pub fn public_urls(&self) -> Vec<String> {
        let config = self.config();
        let snapshot = self.snapshot();
        let nodes = snapshot.nodes.iter().map(|node| &node.public_urls);
        let urls = std::iter::once(&config.public_urls).chain(nodes);
        urls.flat_map(|urls| [&urls.http, &urls.https])
            .flatten()
            .cloned()
            .collect()
    }
}
