//! The command line: words to actions, outcomes to exit codes.
//!
//! Must never: hold a rule or a connection of the data plane. Below it: everything.

mod args;
mod asking;
mod bench;
mod check;
mod client;
mod demo;
mod describe;
mod effects;
mod events;
mod following;
mod health;
mod list;
mod man;
mod node;
mod not_yet;
mod orders;
mod place;
mod print;
mod render;
mod status;
mod table;
mod token;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command};

/// Exit codes that scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Fine = 0,
    /// It failed.
    Failed = 1,
    /// Wrong use.
    Usage = 2,
    /// Cannot reach the node.
    Unreachable = 3,
    /// Not allowed.
    Denied = 4,
    /// The check found something.
    Found = 5,
}

/// An error with its exit code.
#[derive(Debug)]
pub struct Failure {
    /// What the process ends with.
    pub exit: Exit,
    /// What is said.
    pub error: anyhow::Error,
}

impl Failure {
    /// A failure with a code of its own.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }

    /// A failure that is a sentence.
    pub fn said(exit: Exit, sentence: impl std::fmt::Display) -> Self {
        Self {
            exit,
            error: anyhow::anyhow!("{sentence}"),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            exit: Exit::Failed,
            error: error.into(),
        }
    }
}

/// What a command ends with.
pub type Outcome = Result<Exit, Failure>;

/// Runs the program.
pub fn main() -> ExitCode {
    // Before anything else: this process may have been started to become an audio engine.
    crate::outside::take_place();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_yet::refuse(&error),
    };
    match run(cli.command) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            eprintln!("relayctl: {:#}", failure.error);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// The words of the command line, for completions, the manual page and the tests of the documents.
pub fn command() -> clap::Command {
    Cli::command()
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Primary(flags) => node::primary(&flags),
        Command::Join(flags) => node::join(&flags),
        Command::Run(flags) => node::run(&flags),
        Command::Demo(flags) => demo::run(&flags),
        Command::Bench(flags) => bench::run(&flags),
        Command::BenchPart { part } => bench::part(&part),
        Command::Render(flags) => render::run(&flags),
        Command::Check(flags) => check::run(&flags),
        Command::Status(flags) => status::run(&flags),
        Command::Get(flags) => list::get(&flags),
        Command::Drain(flags) => orders::drain(&flags),
        Command::Resume(flags) => orders::resume(&flags),
        Command::Reflect(flags) => orders::reflect(&flags),
        Command::Describe(flags) => describe::run(&flags),
        Command::Reparent(flags) => describe::reparent(&flags),
        Command::Forget(flags) => orders::forget(&flags),
        Command::Kick(flags) => list::kick(&flags),
        Command::Health(flags) => health::run(&flags),
        Command::Token(flags) => token::run(&flags.command),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut self::command(), "relayctl", &mut text);
            print::bytes(&text)
        }
        Command::Man { dir } => man::run(dir.as_deref()),
        Command::Version => print::text(&format!("relayctl {}\n", env!("CARGO_PKG_VERSION"))),
    }
}
