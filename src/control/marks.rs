//! Marks by which nodes of one cluster know each other's requests: `p.<key id>.<unix seconds>.<MAC>` on a
//! probe, so that it is never taken for a listener, `n.…` on a question from node to node, and `c.…` on the request
//! of a child, whose id it vouches for.

use subtle::ConstantTimeEq;

use super::Control;
use crate::base::ids::NodeId;
use crate::cluster::keys::KeyRing;

/// How far the clock of whoever signed may differ from ours, in seconds.
const VALID: u64 = 60;

/// What a mark is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Probe,
    Question,
    Child,
}

impl Purpose {
    fn letter(self) -> char {
        match self {
            Self::Probe => 'p',
            Self::Question => 'n',
            Self::Child => 'c',
        }
    }
}

impl Control {
    /// Marks a request as a probe of ours; empty before the first join.
    pub fn probe_token(&self) -> String {
        self.mark(Purpose::Probe, "")
    }

    /// True for the mark of a probe of this cluster.
    pub fn is_probe(&self, token: Option<&str>) -> bool {
        token.is_some_and(|token| self.is_mark(Purpose::Probe, "", token))
    }

    /// Marks a question from node to node.
    pub fn question_token(&self) -> String {
        self.mark(Purpose::Question, "")
    }

    /// True for a question of a node of this cluster.
    pub fn is_question(&self, token: &str) -> bool {
        self.is_mark(Purpose::Question, "", token)
    }

    /// Marks this node's request for a stream: any node of the cluster can tell that it is this node's.
    pub fn child_token(&self) -> String {
        self.mark(Purpose::Child, self.identity.id.as_str())
    }

    /// True for a request of the node `child` of this cluster.
    pub fn is_child(&self, child: &NodeId, token: &str) -> bool {
        self.is_mark(Purpose::Child, child.as_str(), token)
    }

    /// The mark that `child` would show.
    #[cfg(test)]
    pub fn mark_of(&self, child: &NodeId) -> String {
        self.mark(Purpose::Child, child.as_str())
    }

    fn mark(&self, purpose: Purpose, who: &str) -> String {
        let keys = self.keys.load();
        let id = keys.current();
        id.and_then(|id| sign(purpose, who, &keys, id, self.cluster_millis() / 1000))
            .unwrap_or_default()
    }

    fn is_mark(&self, purpose: Purpose, who: &str, token: &str) -> bool {
        verify(
            purpose,
            who,
            token,
            &self.keys.load(),
            self.cluster_millis() / 1000,
        )
    }
}

fn sign(purpose: Purpose, who: &str, keys: &KeyRing, id: u8, seconds: u64) -> Option<String> {
    let letter = purpose.letter();
    let seconds_bytes = seconds.to_be_bytes();
    let parts: [&[u8]; 4] = [b"mark\0", &[letter as u8], &seconds_bytes, who.as_bytes()];
    let mac = keys.mac(id, &parts)?;
    let mac: String = mac
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Some(format!("{letter}.{id}.{seconds}.{mac}"))
}

fn verify(purpose: Purpose, who: &str, token: &str, keys: &KeyRing, now: u64) -> bool {
    let mut parts = token.splitn(4, '.').skip(1);
    let id = parts.next().and_then(|text| text.parse().ok());
    let seconds = parts.next().and_then(|text| text.parse::<u64>().ok());
    let (Some(id), Some(seconds)) = (id, seconds) else {
        return false;
    };
    let Some(wanted) = sign(purpose, who, keys, id, seconds) else {
        return false;
    };
    seconds.abs_diff(now) <= VALID && wanted.as_bytes().ct_eq(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_holds_for_a_minute_and_for_this_cluster() {
        let (ours, theirs) = (KeyRing::new([1; 32], 0), KeyRing::new([2; 32], 0));
        let token = sign(Purpose::Probe, "", &ours, 1, 1000).unwrap();
        assert!(verify(Purpose::Probe, "", &token, &ours, 1060));
        assert!(!verify(Purpose::Probe, "", &token, &ours, 1061));
        assert!(!verify(Purpose::Probe, "", &token, &theirs, 1000));
        assert!(!verify(
            Purpose::Probe,
            "",
            &token.replace("1000", "1001"),
            &ours,
            1000
        ));
        assert!(!verify(Purpose::Question, "", &token, &ours, 1000));
        let token = sign(Purpose::Child, "r1", &ours, 1, 1000).unwrap();
        assert!(verify(Purpose::Child, "r1", &token, &ours, 1000));
        assert!(!verify(Purpose::Child, "r2", &token, &ours, 1000));
        for junk in ["", "p", "p.1", "p.1.1000", "p.x.y.z", "p.999.1000.00"] {
            assert!(!verify(Purpose::Probe, "", junk, &ours, 1000), "{junk}");
        }
    }
}
