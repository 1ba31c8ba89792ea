//! The words of the command line. Values are read by `settings`, so that a flag, a variable and a line of
//! YAML mean the same and fail alike. Those that ask a node stand in `asking`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use super::asking::{
    DescribeFlags, DrainFlags, ForgetFlags, GetFlags, HealthFlags, KickFlags, Listing,
    ReflectFlags, ReflectWord, ReparentFlags, ResumeFlags, SecretWord, StatusFlags, Subject,
    Target, TokenCommand, TokenFlags,
};
pub use super::bench::args::{BenchFlags, BenchPart};

/// One static binary that turns any number of machines into one radio station.
#[derive(Debug, Parser)]
#[command(name = "relayctl", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take the source; be the head
    Primary(NodeFlags),
    /// Be a relay of a primary
    Join(JoinFlags),
    /// Primary or relay by what the environment says; prints which, and why
    Run(JoinFlags),
    /// Primary, relays and a source on loopback; prints what to paste into a player
    Demo(DemoFlags),
    /// What this machine carries, measured
    Bench(Box<BenchFlags>),
    /// A process that the bench starts of itself
    #[command(hide = true)]
    BenchPart {
        /// Which
        #[command(subcommand)]
        part: BenchPart,
    },
    /// Print the configuration of another server, from the same settings
    Render(RenderFlags),
    /// Read every setting, say what is wrong, change nothing
    Check(CheckFlags),
    /// One screen: health, source, nodes, mounts
    Status(StatusFlags),
    /// List nodes, mounts, listeners, the last picks or events
    Get(GetFlags),
    /// Take no newcomers to a node, and let go of its listeners
    Drain(DrainFlags),
    /// Take newcomers to a node again
    Resume(ResumeFlags),
    /// Make a node send newcomers on, or not
    Reflect(ReflectFlags),
    /// All that is known of one node or mount
    Describe(DescribeFlags),
    /// Let a relay pull from another node, until that one dies
    Reparent(ReparentFlags),
    /// Remove a node: its credential, feed and streams end; with --bar it cannot come back
    Forget(ForgetFlags),
    /// End one listener's connection
    Kick(KickFlags),
    /// Exit 0 if a node is healthy, 1 if not
    Health(HealthFlags),
    /// Make, show, list and revoke tokens
    Token(TokenFlags),
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the manual page, or write one of each command into a folder
    Man {
        /// The folder; made where it is not there
        dir: Option<PathBuf>,
    },
    /// Print the version
    Version,
}

/// Flags of every node.
#[derive(Debug, Default, Args)]
pub struct NodeFlags {
    /// Address and port of the data port; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT")]
    pub bind: Option<String>,
    /// URL that listeners are told; once for each scheme
    #[arg(long, value_name = "URL")]
    pub public_url: Vec<String>,
    /// Settings file (YAML)
    #[arg(long, value_name = "FILE", env = "RELAYCTL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Directory for secrets and small state
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// The node's name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Join token; `@FILE` or `-` keep it out of the process list
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Most listeners at once
    #[arg(long, value_name = "N")]
    pub max_listeners: Option<String>,
    /// Most bandwidth for listeners, such as 100Mbit or 12MB (a second)
    #[arg(long, value_name = "RATE")]
    pub max_bandwidth: Option<String>,
    /// Share of newcomers beside other relays
    #[arg(long, value_name = "N")]
    pub weight: Option<String>,
    /// What carries the audio: embedded, icecast or shoutcast
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// Icecast or Shoutcast server that runs already, to pass listeners and sources to
    #[arg(long, value_name = "URL")]
    pub external: Option<String>,
    /// How a listener reaches its audio: redirect, proxy or auto
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
    /// Whether this node serves listeners itself: auto, always or never
    #[arg(long, value_name = "WHEN")]
    pub serve: Option<String>,
    /// How a relay is chosen
    #[arg(long, value_name = "NAME")]
    pub strategy: Option<String>,
}

/// Flags of a relay.
#[derive(Debug, Default, Args)]
pub struct JoinFlags {
    /// The primary's URL
    #[arg(long, value_name = "URL")]
    pub primary: Option<String>,
    /// PEM file of the authorities that an https primary's certificate may also be signed by
    #[arg(long, value_name = "FILE")]
    pub primary_ca: Option<String>,
    /// Send the token in clear over a network that is neither loopback nor private
    #[arg(long)]
    pub insecure_join: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub node: NodeFlags,
}

impl NodeFlags {
    /// The flags given, by the keys that they set.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let single = [
            ("bind", &self.bind),
            ("data_dir", &self.data_dir),
            ("name", &self.name),
            ("token", &self.token),
            ("max_listeners", &self.max_listeners),
            ("max_bandwidth", &self.max_bandwidth),
            ("weight", &self.weight),
            ("engine", &self.engine),
            ("external", &self.external),
            ("mode", &self.mode),
            ("serve", &self.serve),
            ("strategy", &self.strategy),
        ];
        let mut flags: Vec<_> = single
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.clone()?)))
            .collect();
        if !self.public_url.is_empty() {
            flags.push(("public_url", self.public_url.join(",")));
        }
        flags
    }
}

impl JoinFlags {
    /// The flags given, by the keys that they set.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut flags = self.node.settings();
        if let Some(primary) = &self.primary {
            flags.push(("primary", primary.clone()));
        }
        if let Some(file) = &self.primary_ca {
            flags.push(("primary_ca", file.clone()));
        }
        if self.insecure_join {
            flags.push(("insecure_join", "true".into()));
        }
        flags
    }
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct DemoFlags {
    /// How many relays
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub relays: u8,
}

/// Flags of `render`.
#[derive(Debug, Args)]
pub struct RenderFlags {
    /// Which server
    pub kind: RenderKind,
    /// Write the file, whole or not at all, instead of printing it
    #[arg(long, value_name = "FILE", conflicts_with = "diff")]
    pub out: Option<PathBuf>,
    /// Print the difference from this file; exit 5 if there is one
    #[arg(long, value_name = "FILE")]
    pub diff: Option<PathBuf>,
    /// Role of the rendered server, instead of the one that `run` would choose
    #[arg(long, value_name = "ROLE")]
    pub role: Option<RoleWord>,
    /// Settings file (YAML)
    #[arg(long, value_name = "FILE", env = "RELAYCTL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data directory of the node, where its passwords lie
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
}

/// A server that there is a file for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RenderKind {
    /// icecast.xml
    Icecast,
    /// sc_serv.conf
    Shoutcast,
    /// haproxy.cfg
    Haproxy,
}

/// A node's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleWord {
    /// Takes the sources
    Primary,
    /// Pulls from the primary
    Relay,
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckFlags {
    /// Settings file (YAML)
    #[arg(long, value_name = "FILE", env = "RELAYCTL_CONFIG")]
    pub config: Option<PathBuf>,
    /// How to print it
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: Form,
}

/// Forms of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    Table,
    /// For people with wide terminals
    Wide,
    /// For programs; stable
    Json,
}
