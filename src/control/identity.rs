//! Who a node is.

use serde::{Deserialize, Serialize};

use crate::base::ids::NodeId;

/// What a node is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes the sources, keeps the table.
    Primary,
    /// Pulls, serves, reports.
    Relay,
}

impl Role {
    /// The word in logs, the API and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Relay => "relay",
        }
    }
}

/// What stays the same as long as the process runs.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Lasting, from the data directory.
    pub id: NodeId,
    /// For people; the host's name where none is set.
    pub name: NodeId,
    /// What it is.
    pub role: Role,
    /// Milliseconds since 1970 at which the process began.
    pub incarnation: u64,
    /// The program's version.
    pub version: &'static str,
    /// The data port.
    pub data_port: u16,
}
