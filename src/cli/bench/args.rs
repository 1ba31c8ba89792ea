//! The words of `relayctl bench`.

use std::time::Duration;

use anyhow::{bail, ensure};
use clap::{Args, Subcommand, ValueEnum};

use super::audio::Audio;
use crate::base::units::{Rate, parse_duration};

/// Flags of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchFlags {
    /// Listeners at once [default: 1000, or what the limit of open files allows]
    #[arg(long, value_name = "N")]
    pub listeners: Option<u32>,
    /// How long is measured once everybody listens
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// Bit rate of the audio
    #[arg(long, value_name = "RATE", default_value = "128kbit")]
    pub bitrate: String,
    /// Listeners ask for titles, and titles change
    #[arg(long)]
    pub metadata: bool,
    /// Listeners speak TLS; `--against icecast` is icecast2 behind an HAProxy that terminates it, whose processor time
    /// alone counts
    #[arg(long, conflicts_with_all = ["url", "redirects"])]
    pub tls: bool,
    /// Listeners that come in a second
    #[arg(long, value_name = "N", default_value_t = 500.0)]
    pub join_rate: f64,
    /// Listeners that leave and are replaced in a second while it is measured
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    pub churn: f64,
    /// Listeners that are there before the others come, for the time to the first byte under load
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub onto: u32,
    /// Listeners besides that never read, for what the system keeps for them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub never_read: u32,
    /// Listeners that stop reading at the end, until the server closes them
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        conflicts_with = "against"
    )]
    pub stop_reading: u32,
    /// Measure so many times and print medians
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeat: u32,
    /// Measure another server in turn with ours, and print how much more it costs
    #[arg(long, value_name = "SERVER", value_delimiter = ',')]
    pub against: Vec<Rival>,
    /// Measure the stream at this URL instead of a primary of its own
    #[arg(long, value_name = "URL", conflicts_with = "against")]
    pub url: Option<String>,
    /// The server at `--url` is mine, though it is not on this machine
    #[arg(long, requires = "url")]
    pub i_own_this_server: bool,
    /// Source password at `--url`: the bench plays its own audio there, so that bytes and delay are checked;
    /// `@FILE` keeps it out of the process list
    #[arg(long, value_name = "PASSWORD", requires = "url")]
    pub source_password: Option<String>,
    /// Process of the server at `--url`, for its processor time and memory
    #[arg(long, value_name = "PID", requires = "url", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// `fanout.max_delay` of the server
    #[arg(long, value_name = "TIME", conflicts_with = "url")]
    pub max_delay: Option<String>,
    /// `fanout.backend` of the server: auto, plain or io_uring
    #[arg(long, value_name = "NAME", conflicts_with = "url")]
    pub backend: Option<String>,
    /// Server processes on the one core: a primary and relays of it
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "url", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub servers: u8,
    /// Different agents and referers among the listeners
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub agents: u32,
    /// Check the bytes of one listener in so many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub check_one_in: u32,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub redirect: RedirectFlags,
    /// How to print it
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: BenchForm,
}

/// Flags of `bench --redirects`.
#[derive(Debug, Clone, Args)]
pub struct RedirectFlags {
    /// Measure answers that send listeners to relays, instead of audio
    #[arg(long, conflicts_with_all = ["url", "metadata", "churn", "listeners", "servers"])]
    pub redirects: bool,
    /// Relays that join
    #[arg(long, value_name = "N", default_value_t = 10, requires = "redirects", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub relays: u8,
    /// Requests a second; 0 is as fast as they are answered. What relays may get (a twentieth of what each carries in
    /// a second) bounds it
    #[arg(
        long,
        value_name = "N",
        default_value_t = 8000.0,
        requires = "redirects"
    )]
    pub rate: f64,
    /// Connections that are kept, in the half of the run that keeps them
    #[arg(long, value_name = "N", default_value_t = 64, requires = "redirects", value_parser = clap::value_parser!(u32).range(1..=4000))]
    pub connections: u32,
}

/// Servers to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Rival {
    /// The installed icecast2
    Icecast,
    /// A bare loop of sends of the same sizes, or of the same answers, with all other work left out
    Floor,
    /// The installed HAProxy and its `http-request redirect`, with --redirects
    Haproxy,
}

/// Forms of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchForm {
    /// For people
    Table,
    /// For programs; stable
    Json,
    /// For documents
    Markdown,
}

/// What the bench starts of itself.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchPart {
    /// Listeners, ordered about by standard input
    Load,
    /// The bare loop
    Floor,
    /// Requests that are answered by redirects
    Redirects,
    /// The bare loop of answers
    Answers,
    /// Another program, ended with the bench
    #[command(trailing_var_arg = true)]
    Keep {
        /// The program and its words
        #[arg(required = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// The flags, read and checked.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub listeners: u32,
    pub time: Duration,
    pub kbit: u32,
    pub audio: Audio,
    pub metadata: bool,
    pub tls: bool,
    pub join_rate: f64,
    pub churn: f64,
    pub repeat: u32,
    pub max_delay: Option<Duration>,
    pub backend: Option<String>,
    pub servers: u8,
    pub agents: u32,
    pub check_one_in: u32,
    pub onto: u32,
    pub never_read: u32,
    pub stop_reading: u32,
}

/// Descriptors of a process that are not listeners.
pub(super) const SPARE: u64 = 600;

impl Plan {
    /// Everybody who connects.
    pub fn all(&self) -> u64 {
        u64::from(self.onto) + u64::from(self.listeners) + u64::from(self.never_read)
    }

    /// Reads `flags` for a machine where a process may hold `descriptors`.
    ///
    /// # Errors
    /// Where a value is no such thing, or asks for more than this machine can hold.
    pub fn new(flags: &BenchFlags, descriptors: u64) -> anyhow::Result<Self> {
        let bits = flags.bitrate.parse::<Rate>()?.0;
        let kbit = u32::try_from(bits / 1000)?;
        let Some(audio) = Audio::new(kbit).filter(|_| bits % 1000 == 0) else {
            bail!(
                "`--bitrate {}` is no rate of MPEG audio: use one of {} kbit",
                flags.bitrate,
                Audio::rates()
            );
        };
        let room = descriptors.saturating_sub(SPARE) * u64::from(flags.servers);
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let listeners = flags.listeners.unwrap_or(1000.min(room));
        let all = u64::from(flags.onto) + u64::from(flags.never_read) + u64::from(listeners);
        ensure!(
            listeners > 0,
            "`--listeners 0` measures nothing: name at least one"
        );
        ensure!(
            flags.url.is_some() || all <= u64::from(room),
            "{all} listeners are more than {} server process(es) can hold here ({room}): raise the \
             limit of open files (`ulimit -n`, now {descriptors}) or use more --servers",
            flags.servers,
        );
        let sane = |rate: f64| rate.is_finite() && (0.0..=1e6).contains(&rate);
        ensure!(
            sane(flags.join_rate) && flags.join_rate > 0.0,
            "`--join-rate {}` is no number of listeners a second: use one above 0",
            flags.join_rate
        );
        ensure!(
            sane(flags.churn),
            "`--churn {}` is no number of listeners a second: use 0 or more",
            flags.churn
        );
        ensure!(
            flags.servers == 1 || !flags.against.contains(&Rival::Icecast),
            "`--servers {}` cannot be compared with icecast2, which has no cluster: use `--against floor`",
            flags.servers
        );
        ensure!(
            !flags.tls || !flags.against.contains(&Rival::Floor),
            "`--tls` has no bare loop to be compared with: use `--against icecast`, or leave it out"
        );
        ensure!(
            !flags.tls || flags.servers == 1,
            "`--tls` is measured in one process: leave out `--servers`"
        );
        let misfit = match flags.redirect.redirects {
            true => Rival::Icecast,
            false => Rival::Haproxy,
        };
        ensure!(
            !flags.against.contains(&misfit),
            "`--against` does not fit: redirects are measured against haproxy and floor, audio against icecast and floor"
        );
        ensure!(
            sane(flags.redirect.rate),
            "`--rate {}` is no number of requests a second: use 0 or more",
            flags.redirect.rate
        );
        let max_delay = flags.max_delay.as_deref().map(parse_duration).transpose()?;
        Ok(Self {
            listeners,
            time: Duration::from_secs(flags.seconds.into()),
            kbit,
            audio,
            metadata: flags.metadata,
            tls: flags.tls,
            join_rate: flags.join_rate,
            churn: flags.churn,
            repeat: flags.repeat,
            max_delay,
            backend: flags.backend.clone(),
            servers: if flags.redirect.redirects {
                flags.redirect.relays + 1
            } else {
                flags.servers
            },
            agents: flags.agents,
            check_one_in: flags.check_one_in,
            onto: flags.onto,
            never_read: flags.never_read,
            stop_reading: flags.stop_reading,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Words {
        #[command(flatten)]
        flags: BenchFlags,
    }

    fn plan(words: &[&str]) -> Result<Plan, String> {
        let words = Words::try_parse_from(["bench"].iter().chain(words));
        let words = words.map_err(|error| error.to_string())?;
        Plan::new(&words.flags, 1_024).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_fit_the_machine() {
        let plan = plan(&[]).unwrap();
        assert_eq!((plan.listeners, plan.kbit, plan.repeat), (424, 128, 1));
        assert_eq!(plan.audio.frame_len(), 384);
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        for (words, said) in [
            (&["--bitrate=100kbit"][..], "use one of 32, 40"),
            (&["--listeners=5000"], "raise the limit of open files"),
            (&["--listeners=0"], "at least one"),
            (&["--join-rate=0"], "above 0"),
            (&["--servers=2", "--against=icecast"], "--against floor"),
            (&["--pid=1"], "--url"),
            (&["--against=haproxy"], "does not fit"),
            (&["--redirects", "--against=icecast"], "does not fit"),
        ] {
            let error = plan(words).unwrap_err();
            assert!(error.contains(said), "{words:?}: {error}");
        }
        assert_eq!(
            plan(&["--servers=3", "--listeners=1200"])
                .unwrap()
                .listeners,
            1200
        );
    }
}
