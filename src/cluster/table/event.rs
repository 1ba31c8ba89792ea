//! What the table hears, and what it wants done.

use std::net::IpAddr;
use std::time::Duration;

use crate::base::ids::NodeId;
use crate::cluster::snapshot::State;
use crate::wire::message::{Beat, JoinRequest, NodeName};

/// Something happened. Joins and beats have been checked before: the credential, so that a beat is of the node that it
/// names, and every text and number.
#[derive(Debug, Clone)]
pub enum Event {
    /// A node asks to be a member.
    Joined {
        /// Its words.
        request: JoinRequest,
        /// The address it came from.
        seen: IpAddr,
    },
    /// A node reports.
    Beat {
        /// Its words.
        beat: Beat,
        /// The address it came from.
        seen: IpAddr,
        /// Names the connection, unlike every other one of this process.
        connection: u64,
    },
    /// The primary reports about itself; its row is not judged.
    Own(Beat),
    /// A connection that carried beats of this node ended.
    ConnectionLost {
        /// Whose.
        id: NodeId,
        /// Which; ignored unless it carried the newest beat.
        connection: u64,
    },
    /// A probe that an effect asked for came back.
    Probed {
        /// Whose.
        id: NodeId,
        /// The URL that was fetched.
        url: String,
        /// What came of it.
        outcome: Probe,
    },
    /// The node says goodbye.
    Leave(NodeId),
    /// The operator wants the row gone.
    Forget(NodeId),
    /// The operator wants no newcomers there.
    Drain(NodeId),
    /// The operator takes that back.
    Resume(NodeId),
    /// Time passed. Sent at least once a second.
    Tick,
}

/// What came of fetching a public URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It answered as it should.
    Fine,
    /// Nothing listens there.
    Refused(String),
    /// Anything else that went wrong.
    Failed(String),
}

/// Something is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The join or the beat was applied.
    Accepted(NodeId),
    /// The join or the beat was not applied.
    Refused(NodeId, Refusal),
    /// Fetch this URL and send what came of it. Urgent: its connection was just lost.
    Probe {
        /// Whose.
        id: NodeId,
        /// Without a path.
        url: String,
        /// Now, not when convenient.
        urgent: bool,
    },
    /// A node is good for something else now. For the log and the events.
    Changed {
        /// Which.
        id: NodeId,
        /// What people call it.
        name: NodeName,
        /// Before; `None` where it is new.
        from: Option<State>,
        /// Now.
        to: State,
        /// Why, where there is more to say.
        why: Option<String>,
    },
    /// Listeners by https are sent to this URL from now on, or no more. For the log.
    Secure {
        /// Name under which tables and logs show the node.
        name: NodeName,
        /// The URL.
        url: String,
        /// They are.
        usable: bool,
        /// Why not.
        why: Option<String>,
    },
    /// A node left the table: its reservations and buckets can go.
    Gone {
        /// Which.
        id: NodeId,
        /// What people called it.
        name: NodeName,
    },
    /// The operator's drains changed: keep them.
    DrainsChanged,
    /// Our own clock stood still: all deadlines began anew.
    ClockJumped(Duration),
    /// Panic began or ended.
    Panic(bool),
}

/// Why a join or a beat was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An older process of the same id.
    #[error(
        "a newer process of node `{id}` is live at {address}: two nodes run with one id; give this one a data directory of its own"
    )]
    Older {
        /// The id.
        id: NodeId,
        /// Of the newer.
        address: IpAddr,
    },
    /// This process said goodbye already.
    #[error("node `{0}` has left: join again with a new process")]
    Left(NodeId),
    /// The sequence did not rise.
    #[error("beat {seq} of node `{id}` came already")]
    Replayed {
        /// The id.
        id: NodeId,
        /// The sequence.
        seq: u64,
    },
    /// Another node is called that.
    #[error(
        "a node named `{name}` is live at {address} (id `{by}`): give this one another name with --name"
    )]
    NameTaken {
        /// The name.
        name: NodeName,
        /// Who has it.
        by: NodeId,
        /// Where that one is.
        address: IpAddr,
    },
    /// The primary called itself.
    #[error("node `{0}` is this primary itself: --primary must name another node")]
    Itself(NodeId),
    /// The table is full.
    #[error("the table is full: {0} nodes")]
    TooMany(usize),
}

/// The refusal among the effects of a join or a beat, if there is one.
pub fn refusal(effects: &[Effect]) -> Option<&Refusal> {
    effects.iter().find_map(|effect| match effect {
        Effect::Refused(_, refusal) => Some(refusal),
        _ => None,
    })
}
