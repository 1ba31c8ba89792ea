//! `relayctl man`: the manual page, and a page for each command, from the words themselves.

use std::path::Path;

use anyhow::Context as _;

use super::{Outcome, print};

/// Prints the page of the program, or writes one of each command into `folder`: `relayctl.1`, `relayctl-join.1`,
/// `relayctl-token-create.1` and so on.
pub(super) fn run(folder: Option<&Path>) -> Outcome {
    let Some(folder) = folder else {
        let mut text = Vec::new();
        clap_mangen::Man::new(super::command()).render(&mut text)?;
        return print::bytes(&text);
    };
    let place = || folder.display().to_string();
    std::fs::create_dir_all(folder).with_context(place)?;
    clap_mangen::generate_to(super::command(), folder).with_context(place)?;
    print::text("")
}
