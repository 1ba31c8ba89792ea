//! `relayctl check`: every setting as a node would have it. Changes nothing.

use std::fmt::Write as _;

use serde_json::json;

use super::args::{CheckFlags, Form};
use super::{Exit, Outcome, node, print};
use crate::app;
use crate::base::reach::Reach;
use crate::base::wall::unix_millis;
use crate::settings::types::{Open, Settings};
use crate::settings::{self, Problem, SettingsError, Sources, effect, role};

/// Prints the report, or every problem.
pub(super) fn run(flags: &CheckFlags) -> Outcome {
    let sources = Sources {
        file: flags.config.clone(),
        environment: node::environment(),
        flags: Vec::new(),
    };
    let loaded = match settings::load(&sources) {
        Ok(loaded) => loaded,
        Err(error) => return problems(&error, flags.output),
    };
    if let Err(error) = effect::refuse_without_effect(&loaded.settings) {
        return problems(&error, flags.output);
    }
    let pair = match app::tls::read_pair(&loaded.settings) {
        Ok(pair) => pair,
        Err(error) => return problem("tls", &format!("{error:#}"), flags.output),
    };
    let choice = match role::choose_role(&sources.environment, &loaded.settings) {
        Ok(choice) => choice,
        Err(sentence) => return problem("role", &sentence, flags.output),
    };
    let mut loaded = loaded;
    let warning = pair.and_then(|pair| pair.certificate().warning(unix_millis() / 1000));
    loaded.report.notes.extend(warning);
    let idle = effect::without_effect_here(&loaded.settings, choice.role);
    loaded.report.warnings.extend(idle);
    loaded.report.notes.extend(open_metrics(&loaded.settings));
    loaded.report.notes.extend(narrow_url(&loaded.settings));
    loaded.report.notes.extend(narrow_band(&loaded.settings));
    let port = loaded.settings.bind.port;
    let data_dir = settings::data_dir::default_path(&sources.environment, port);
    loaded
        .report
        .set_default("data_dir", data_dir.display().to_string());
    if flags.output == Form::Json {
        let mut report = serde_json::to_value(&loaded.report)?;
        if let Some(object) = report.as_object_mut() {
            object.insert("role".into(), json!(choice.role.name()));
            object.insert("reason".into(), json!(choice.reason));
            object.insert("problems".into(), json!([]));
        }
        return print::json(&report);
    }
    let mut text = loaded.report.to_string();
    let _ = writeln!(
        text,
        "`relayctl run` would be a {}: {}",
        choice.role, choice.reason
    );
    print::text(&text)
}

/// Tells by what `metrics.open: auto` opens `/metrics`, since a proxy in front changes it.
fn open_metrics(settings: &Settings) -> Option<String> {
    let proxies = if settings.trusted_proxies.is_empty() {
        "`trusted_proxies` names none"
    } else {
        "`trusted_proxies` names those that are"
    };
    (settings.metrics_open == Open::Auto).then(|| {
        format!(
            "`metrics.open` is `auto`: loopback and private networks read /metrics without a token, unless the \
             request shows a proxy that is not trusted ({proxies}); behind a proxy that adds no field set \
             `metrics.open: never`"
        )
    })
}

/// Tells who does not reach the URL that listeners are told.
fn narrow_url(settings: &Settings) -> Option<String> {
    const SET: &str = "set `public_url` (RELAYCTL_PUBLIC_URL) to a URL that they reach";
    let urls = settings.public.urls(settings.bind.port);
    let Some(url) = urls.first() else {
        let bound = settings.bind.address;
        let alone = Reach::of_address(bound) == Reach::Machine && !bound.is_unspecified();
        return alone.then(|| {
            format!("`bind` is {bound}: listeners elsewhere cannot reach this node; bind another address, or {SET}")
        });
    };
    match Reach::of_url(url.as_str()) {
        Reach::Machine => Some(format!(
            "listeners elsewhere cannot reach `public_url` {url}, and none of them is sent there: {SET}"
        )),
        Reach::Network => Some(format!(
            "`public_url` {url} is private: listeners on the Internet are not sent there; if there are any, {SET}"
        )),
        Reach::Internet => None,
    }
}

/// Tells of a bandwidth that hardly one listener fits into.
fn narrow_band(settings: &Settings) -> Option<String> {
    const LEAN: u64 = 32_000;
    let rate = settings.limits.max_bandwidth.filter(|rate| rate.0 < LEAN)?;
    Some(format!(
        "`max_bandwidth` is {} bit/s, less than one listener of most streams takes: nobody would be served; write a rate \
         such as 100Mbit",
        rate.0
    ))
}

fn problems(error: &SettingsError, form: Form) -> Outcome {
    if form == Form::Json {
        let entry = |problem: &Problem| {
            json!({
                "key": problem.key,
                "origin": problem.origin.to_string(),
                "what": problem.what,
                "hint": problem.hint,
            })
        };
        let list: Vec<_> = error.problems.iter().map(entry).collect();
        print::json(&json!({ "problems": list }))?;
    } else {
        for problem in &error.problems {
            eprintln!("relayctl: {problem}");
        }
    }
    Ok(Exit::Usage)
}

fn problem(key: &str, sentence: &str, form: Form) -> Outcome {
    if form == Form::Json {
        let entry = json!({"key": key, "origin": "", "what": sentence, "hint": ""});
        print::json(&json!({ "problems": [entry] }))?;
    } else {
        eprintln!("relayctl: {sentence}");
    }
    Ok(Exit::Usage)
}
