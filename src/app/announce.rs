//! What a node says on standard output once it is ready.

use std::path::Path;

use super::names::local_url;
use super::node::Node;
use crate::control::Role;

impl Node {
    /// Prints what a person and a script need: the ready line, and once the secrets made now.
    pub fn announce(&self) {
        use std::io::{IsTerminal, Write};
        let mut out = std::io::stdout();
        for line in self.announcement(out.is_terminal()) {
            // Whoever reads may have gone: that ends no node.
            let _ = writeln!(out, "{line}");
        }
    }

    fn announcement(&self, on_terminal: bool) -> Vec<String> {
        let role = self.control.identity.role.as_str();
        let mut lines = vec![format!(
            "relayctl: ready role={role} url={}",
            local_url(self.address)
        )];
        for (name, path) in &self.secrets.generated {
            let secret = on_terminal.then(|| self.data_dir.read(file_name(path)).ok().flatten());
            lines.push(match secret.flatten() {
                Some(secret) => format!("{name}: {}", String::from_utf8_lossy(&secret).trim()),
                None => format!("{name} generated: {}", path.display()),
            });
        }
        if self.control.identity.role == Role::Primary {
            let config = self.control.config();
            let url = config.public_urls.first().unwrap_or_default();
            // Never the token itself: every user of a machine can read command lines.
            lines.push(format!(
                "to add a relay: relayctl join --primary {url} --token @FILE, with what `relayctl token show join` prints in FILE"
            ));
        }
        lines
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("")
}
