//! The commands that run a node.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;

use super::args::{JoinFlags, NodeFlags};
use super::{Exit, Failure, Outcome};
use crate::app::{self, Choose, Launch};
use crate::control::{Refusal, Role};
use crate::settings::{self, Loaded, Sources, effect, role};
use crate::telemetry::log;

/// Longest wait for threads that are blocked when the node has stopped.
const LAST: Duration = Duration::from_secs(1);

/// `relayctl primary`.
pub(super) fn primary(flags: &NodeFlags) -> Outcome {
    let (sources, loaded) = load(flags.config.clone(), flags.settings())?;
    start(sources, loaded, |_, settings| match &settings.primary {
        Some(primary) => Err(anyhow!(
            "{} names a primary ({}), so this node is to be a relay: use `relayctl join`, or take it out",
            primary.said_by,
            primary.url
        )),
        None => Ok((Role::Primary, None)),
    })
}

/// `relayctl join`.
pub(super) fn join(flags: &JoinFlags) -> Outcome {
    let (sources, loaded) = load(flags.node.config.clone(), flags.settings())?;
    start(sources, loaded, |_, settings| {
        let primary = settings.primary.clone().ok_or_else(|| {
            anyhow!("whom to join is not said: `relayctl join --primary URL --token @FILE`")
        })?;
        Ok((Role::Relay, Some(primary)))
    })
}

/// `relayctl run`.
pub(super) fn run(flags: &JoinFlags) -> Outcome {
    let (sources, loaded) = load(flags.node.config.clone(), flags.settings())?;
    let choice = role::choose_role(&sources.environment, &loaded.settings)
        .map_err(|text| Failure::new(Exit::Usage, anyhow!(text)))?;
    eprintln!("relayctl: {} because {}", choice.role, choice.reason);
    start(sources, loaded, |sources, settings| {
        let choice =
            role::choose_role(&sources.environment, settings).map_err(|text| anyhow!(text))?;
        let role = match choice.role {
            role::Role::Primary => Role::Primary,
            role::Role::Relay => Role::Relay,
        };
        Ok((role, choice.primary))
    })
}

/// Reads every setting; what is wrong is wrong use.
pub(super) fn load(
    file: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
) -> Result<(Sources, Loaded), Failure> {
    let sources = Sources {
        file,
        environment: environment(),
        flags,
    };
    let usage = |error| Failure::new(Exit::Usage, anyhow::Error::new(error));
    let sources = sources.with_input(&mut std::io::stdin()).map_err(usage)?;
    let loaded = settings::load(&sources).map_err(usage)?;
    Ok((sources, loaded))
}

/// The process's variables; those that are no UTF-8 are none of ours.
pub(super) fn environment() -> Vec<(String, String)> {
    let text = |part: std::ffi::OsString| part.into_string().ok();
    std::env::vars_os()
        .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
        .collect()
}

fn start(sources: Sources, loaded: Loaded, choose: Choose) -> Outcome {
    let chosen = choose(&sources, &loaded.settings);
    let (role, primary) = chosen.map_err(|error| Failure::new(Exit::Usage, error))?;
    let settings_role = match role {
        Role::Primary => role::Role::Primary,
        Role::Relay => role::Role::Relay,
    };
    effect::refuse_without_effect(&loaded.settings)
        .map_err(|error| Failure::new(Exit::Usage, anyhow::Error::new(error)))?;
    super::demo::end_with_parent();
    // Before there are threads.
    app::limits::prepare_descriptors();
    let settings = &loaded.settings;
    let log = log::start(settings.log.name(), settings.log_format.name())?;
    for warning in &loaded.report.warnings {
        tracing::warn!("{warning}");
    }
    for warning in effect::without_effect_here(settings, settings_role) {
        tracing::warn!("{warning}");
    }
    for note in &loaded.report.notes {
        tracing::info!("{note}");
    }
    let launch = Launch {
        sources,
        loaded,
        role,
        primary,
        log,
        choose,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(app::run(launch));
    // A thread that waits for a disk that hangs is not waited for.
    runtime.shutdown_timeout(LAST);
    match ended {
        Ok(()) => Ok(Exit::Fine),
        Err(error) => Err(Failure::new(exit_of(&error), error)),
    }
}

/// The exit code of a node that could not go on.
fn exit_of(error: &anyhow::Error) -> Exit {
    match error.downcast_ref::<app::Refused>() {
        Some(refused) => match refused.refusal {
            Refusal::Denied => Exit::Denied,
            Refusal::ClearText => Exit::Usage,
        },
        None => Exit::Failed,
    }
}
