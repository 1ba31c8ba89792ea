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

/// Where listeners reach a node, by scheme; without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PublicUrls {
    /// `http://host:port`.
    pub http: Option<String>,
    /// `https://host`.
    pub https: Option<String>,
}

impl PublicUrls {
    /// The URL of a scheme.
    pub fn of(&self, https: bool) -> Option<&str> {
        if https {
            self.https.as_deref()
        } else {
            self.http.as_deref()
        }
    }

    /// The one to show: https where there is one only.
    pub fn first(&self) -> &str {
        self.http.as_deref().or(self.https.as_deref()).unwrap_or("")
    }
}

/// What stays the same as long as the process runs.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Lasting, from the data directory.
    pub id: NodeId,
    /// For people; the host's name where none is set.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Milliseconds since 1970 at which the process began.
    pub incarnation: u64,
    /// The program's version.
    pub version: &'static str,
    /// The data port.
    pub data_port: u16,
}
