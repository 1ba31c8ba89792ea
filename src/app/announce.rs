//! What a node says on standard output: that it is ready, or what it waits for.

use std::io::{IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::Path;

use super::names::local_url;
use super::node::Node;
use crate::base::reach::Reach;
use crate::control::{Role, Standing};

/// The lines that were printed so far.
#[derive(Debug, Default)]
pub(super) struct Announced {
    waiting: bool,
    ready: bool,
}

impl Announced {
    /// True once the node was ready.
    pub fn was_ready(&self) -> bool {
        self.ready
    }

    /// Prints what a person and a script need to know of a new standing: that the node waits to join and why, once, or
    /// that it is ready. Behind the first of these lines come the secrets that were made now.
    pub fn tell(&mut self, node: &Node, standing: &Standing) {
        let first = !self.waiting && !self.ready;
        let line = match standing {
            Standing::Member if !self.ready => {
                self.ready = true;
                format!(
                    "relayctl: ready role={} url={}",
                    node.control.identity.role.as_str(),
                    local_url(node.address)
                )
            }
            Standing::Waiting(waiting) if first => {
                self.waiting = true;
                format!("relayctl: {waiting}")
            }
            _ => return,
        };
        let mut out = std::io::stdout();
        let mut lines = vec![line];
        if first {
            lines.extend(node.made(out.is_terminal()));
        }
        for line in lines {
            // Whoever reads may have gone: that ends no node.
            let _ = writeln!(out, "{line}");
        }
    }
}

impl Node {
    /// The secrets that were made at this start, and how a relay is added.
    fn made(&self, on_terminal: bool) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, path) in &self.secrets.generated {
            let secret = on_terminal.then(|| self.data_dir.read(file_name(path)).ok().flatten());
            lines.push(match secret.flatten() {
                Some(secret) => format!("{name}: {}", String::from_utf8_lossy(&secret).trim()),
                None => format!("{name} generated: {}", path.display()),
            });
        }
        if self.control.identity.role == Role::Primary {
            lines.push(self.how_to_add_a_relay());
        }
        lines
    }

    /// Never the token itself: every user of a machine can read command lines.
    fn how_to_add_a_relay(&self) -> String {
        let config = self.control.config();
        let url = config.public_urls.first().unwrap_or_default();
        if config.urls_are_guessed {
            say_guess(url, self.address.ip());
        }
        let folder = self.data_dir.path();
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        format!(
            "to add a relay: on its machine `relayctl join --primary {url} --token @FILE`; the token that FILE is to hold \
             is printed here by `relayctl token show join --data-dir {}`",
            folder.display()
        )
    }
}

/// Says what follows where nobody set a public URL.
fn say_guess(url: &str, bound: IpAddr) {
    const SET: &str = "set --public-url (RELAYCTL_PUBLIC_URL) to the URL that they reach";
    match (Reach::of_url(url), Reach::of_address(bound)) {
        (Reach::Machine, Reach::Machine) if !bound.is_unspecified() => tracing::info!(
            "this node listens on {bound} alone: listeners and relays on other machines do not reach it; bind another \
             address (--bind) for them"
        ),
        (Reach::Machine, _) => tracing::warn!(
            "no public URL is set, and this machine has no address that others reach: relays elsewhere cannot use {url}; \
             {SET}"
        ),
        _ => tracing::info!(
            "no public URL is set: relays and redirected listeners are told {url}, this machine's own address; where \
             they come by another name, {SET}"
        ),
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("")
}
