//! URLs that not every listener reaches, in words.

use super::Control;
use crate::base::reach::Reach;
use crate::cluster::snapshot::{NodeView, Snapshot, State};
use crate::wire::message::NodeRole;

impl Control {
    /// Clients that a relay's URL keeps from it: nobody elsewhere is sent to a loopback URL, and nobody from the Internet to a
    /// private one. None where everybody who reaches this cluster reaches that relay.
    pub fn address_warning(&self, node: &NodeView) -> Option<String> {
        if node.role != NodeRole::Relay || node.state == State::Dead {
            return None;
        }
        warning(node.public_url(), widest(&self.snapshot(), node))
    }
}

/// The widest circle that another node's URL is reached from.
fn widest(snapshot: &Snapshot, node: &NodeView) -> Reach {
    let others = snapshot.nodes.iter();
    let others = others.filter(|other| other.id != node.id && other.state != State::Dead);
    let urls = others.filter_map(|other| other.public_urls.first());
    urls.map(Reach::of_url).max().unwrap_or(Reach::Machine)
}

fn warning(url: &str, widest: Reach) -> Option<String> {
    let (who, sent) = match (Reach::of_url(url), widest) {
        (Reach::Machine, Reach::Network | Reach::Internet) => {
            ("elsewhere", "only those on its own machine are sent there")
        }
        (Reach::Network, Reach::Internet) => (
            "on the Internet",
            "only those in its own network are sent there",
        ),
        _ => return None,
    };
    Some(format!(
        "listeners {who} cannot reach {url}, so {sent}: set --public-url (RELAYCTL_PUBLIC_URL) on it to a URL that they reach"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_url_is_told_where_others_are_reached_from_further() {
        let says = |url: &str, widest| warning(url, widest).unwrap_or_default();
        let (loopback, private) = ("http://127.0.0.1:8100", "http://10.0.0.1:8000");
        assert!(
            says(loopback, Reach::Network)
                .starts_with("listeners elsewhere cannot reach http://127.0.0.1:8100")
        );
        assert!(
            says(private, Reach::Internet).starts_with("listeners on the Internet cannot reach")
        );
        assert!(says(private, Reach::Internet).contains("--public-url"));
        assert_eq!(says(loopback, Reach::Machine), "");
        assert_eq!(says(private, Reach::Network), "");
        assert_eq!(says("http://radio.example:8000", Reach::Internet), "");
    }
}
