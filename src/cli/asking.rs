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
    /// What happened: joins, deaths, failovers, drains, sources
    Events,
}

impl Listing {
    /// The word in the API's path and answer.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Mounts => "mounts",
            Self::Listeners => "listeners",
            Self::Picks => "picks",
            Self::Events => "events",
        }
    }
}

/// Flags of `drain`.
#[derive(Debug, Args)]
pub struct DrainFlags {
    /// The node, by its name or id; it stays drained over restarts, until `resume`
    #[arg(required_unless_present = "local")]
    pub node: Option<String>,
    /// The node of this machine, until its process ends; needs no token
    #[arg(long, conflicts_with_all = ["node", "addr"])]
    pub local: bool,
    /// Close its listeners in random order evenly over this time; without it they are left until they go
    #[arg(long, value_name = "DURATION")]
    pub spread: Option<String>,
    /// Wait no longer than this for the last listener; with `--local` wait at all
    #[arg(long, value_name = "DURATION")]
    pub wait: Option<String>,
    /// Give the order and do not follow it
    #[arg(long, conflicts_with = "wait")]
    pub detach: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
}

/// Flags of `resume`.
#[derive(Debug, Args)]
pub struct ResumeFlags {
    /// The node, by its name or id
    #[arg(required_unless_present = "local")]
    pub node: Option<String>,
    /// The node of this machine; needs no token
    #[arg(long, conflicts_with_all = ["node", "addr"])]
    pub local: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
}

/// Flags of `reflect`.
#[derive(Debug, Args)]
pub struct ReflectFlags {
    /// The node, by its name or id
    pub node: String,
    /// When it sends newcomers on
    pub word: ReflectWord,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
}

/// When a node sends newcomers on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReflectWord {
    /// Always
    On,
    /// Only when it has all the listeners that it may have
    Off,
    /// While it is over a limit
    Auto,
}

impl ReflectWord {
    /// The word in the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Auto => "auto",
        }
    }
}

/// Flags of `describe`.
#[derive(Debug, Args)]
pub struct DescribeFlags {
    /// What it is
    pub what: Subject,
    /// Id or name of the node, or the mount as `get mounts` prints it
    pub name: String,
    /// How to print it
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: Form,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
}

/// What can be described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// The primary or a relay
    Node,
    /// What is carried, and by which way it comes to every node
    Mount,
}

/// Flags of `reparent`.
#[derive(Debug, Args)]
pub struct ReparentFlags {
    /// Id or name of the relay
    pub node: String,
    /// Id or name of the node that it is to pull from; `auto` lets it choose again
    #[arg(long, value_name = "PARENT")]
    pub to: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
}

/// Flags of `forget`.
#[derive(Debug, Args)]
pub struct ForgetFlags {
    /// Id or name of the node
    #[arg(required_unless_present = "list")]
    pub node: Option<String>,
    /// It may not join again
    #[arg(long)]
    pub bar: bool,
    /// Let a barred node join again
    #[arg(long, conflicts_with = "bar")]
    pub unbar: bool,
    /// List the barred nodes
    #[arg(long, conflicts_with_all = ["node", "bar", "unbar"])]
    pub list: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
}

/// Flags of `kick`.
#[derive(Debug, Args)]
pub struct KickFlags {
    /// Id of the listener, as `get listeners` prints it; NODE/ID where several nodes have one of that id
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
