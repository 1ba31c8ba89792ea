//! The words of the commands that ask a node.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::args::Form;

/// Where the node is that a client command asks.
#[derive(Debug, Default, Args)]
pub struct Target {
    /// URL of the node (else RELAYCTL_ADDR), with the token of RELAYCTL_API_TOKEN; without it the node of
    /// this machine is asked over its own socket
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    pub addr: Option<String>,
    /// Data directory of a node of this machine
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
}

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusFlags {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
    /// How to print it
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: Form,
    /// Print it again whenever it changes
    #[arg(long)]
    pub watch: bool,
}

/// Flags of `get`.
#[derive(Debug, Args)]
pub struct GetFlags {
    /// What to list
    pub what: Listing,
    /// How to print it
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: Form,
    /// Print it again whenever it changes
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// The primary and its relays
    Nodes,
    /// What is carried
    Mounts,
    /// Who listens; a primary asks its relays
    Listeners,
    /// The last decisions and their reasons
    Picks,
}

impl Listing {
    /// The word in the API's path and answer.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Mounts => "mounts",
            Self::Listeners => "listeners",
            Self::Picks => "picks",
        }
    }
}

/// Flags of `kick`.
#[derive(Debug, Args)]
pub struct KickFlags {
    /// Id of the listener, as `get listeners` prints it
    pub listener: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
}

/// Flags of `health`.
#[derive(Debug, Args)]
pub struct HealthFlags {
    /// URL to ask; default RELAYCTL_ADDR, else the node of this machine
    pub url: Option<String>,
    /// Data directory of a node of this machine
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub data_dir: Option<String>,
}

/// Flags of `token`.
#[derive(Debug, Args)]
pub struct TokenFlags {
    /// What to do
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a secret that this machine's node was given or made
    Show {
        /// Which
        secret: SecretWord,
        /// Settings file (YAML)
        #[arg(long, value_name = "FILE", env = "RELAYCTL_CONFIG")]
        config: Option<PathBuf>,
        /// Data directory of the node
        #[arg(long, value_name = "DIR")]
        data_dir: Option<String>,
    },
    /// Make a token; it is shown this once
    Create {
        /// What it permits: one join, reading, or everything
        #[arg(long)]
        scope: Scope,
        #[command(flatten)]
        #[allow(missing_docs)]
        target: Target,
    },
    /// List the tokens without their secrets
    List {
        /// How to print it
        #[arg(short, long, value_name = "FORM", default_value = "table")]
        output: Form,
        #[command(flatten)]
        #[allow(missing_docs)]
        target: Target,
    },
    /// Make a token worthless
    Revoke {
        /// Id of the token, as `token list` prints it
        id: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        target: Target,
    },
}

/// A secret of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SecretWord {
    /// Password of sources
    Source,
    /// Password of the administrator
    Admin,
    /// Token that relays join with
    Join,
}

/// What a token permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// One relay may join, once
    Join,
    /// Metrics, nodes, mounts, picks
    Read,
    /// Everything
    Admin,
}

impl Scope {
    /// The word in the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}
