//! The words of the command line. Values are read by `settings`, so that a flag, a variable and a line of
//! YAML mean the same and fail alike.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// What carries the audio: embedded
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// How a listener reaches its relay: redirect
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
        if self.insecure_join {
            flags.push(("insecure_join", "true".into()));
        }
        flags
    }
}
