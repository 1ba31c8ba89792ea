//! Whom a pull may ask, and in which turn.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Doubt, Left, Pace};
use crate::base::retry::Backoff;
use crate::base::secret::Secret;

/// Below this pace of the same news a parent is asked again at once.
const NEWS: Duration = Duration::from_millis(100);

/// A node that the mount may be pulled from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// `http(s)://host:port`.
    pub url: String,
    /// This node's credential there; `None` where a mark of the cluster's key opens.
    pub credential: Option<Secret>,
    /// The parent's node id.
    pub node: String,
}

/// All of them, the first one to be tried first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parents {
    /// In order.
    pub list: Vec<Parent>,
    /// The operator has named this node: another is left for it, once it takes us.
    pub ordered: Option<String>,
    /// This node is worth a move, if it takes us: it is tried while the parent still feeds.
    pub better: Option<String>,
    /// The parent is on its way out: the move is not to wait.
    pub leaving: bool,
}

impl Parents {
    /// True if `node` is one to be tried for this reason.
    pub(in crate::upstream) fn wants(&self, doubt: Doubt, node: &str) -> bool {
        let is_better = self.better.as_deref() == Some(node);
        match doubt {
            Doubt::Starved | Doubt::Late => true,
            Doubt::Better => is_better,
            // Where the parent goes, the next best will do as well.
            Doubt::Ordered => self.ordered.as_deref() == Some(node) || (self.leaving && is_better),
        }
    }
}

impl From<Vec<Parent>> for Parents {
    fn from(list: Vec<Parent>) -> Self {
        Self {
            list,
            ..Self::default()
        }
    }
}

impl Parent {
    pub(in crate::upstream) fn failed(&self, why: String) -> Left {
        Left::Failed {
            node: self.node.clone(),
            url: self.url.clone(),
            why,
        }
    }
}

/// What is remembered from one connection to the next: who has failed since the last good one.
pub(super) struct Turn {
    tried: Vec<String>,
    /// The next request names no position.
    pub fresh: bool,
    backoff: Backoff,
    news_at: Option<Instant>,
}

impl Turn {
    pub fn new(pace: &Pace) -> Self {
        Self {
            tried: Vec::new(),
            fresh: false,
            backoff: Backoff::new(pace.floor, pace.ceiling),
            news_at: None,
        }
    }

    /// The first parent that has not failed yet.
    pub fn next<'l>(&self, list: &'l [Parent]) -> Option<&'l Parent> {
        let untried = list.iter().find(|parent| !self.tried.contains(&parent.url));
        untried.or_else(|| list.first())
    }

    /// What comes after a connection to `parent`: how long to wait before the next one. The next parent is
    /// asked at once; only when all have failed there is a wait.
    pub fn after(
        &mut self,
        left: &Left,
        parent: &Parent,
        good: bool,
        list: &[Parent],
        now: Instant,
    ) -> Option<Duration> {
        if good {
            self.tried.clear();
            self.backoff.reset();
        }
        match left {
            Left::Dropped => {
                self.tried.clear();
                return None;
            }
            Left::EpochChanged | Left::Gone => {
                self.fresh |= *left == Left::Gone;
                let last = self.news_at.replace(now);
                let calm = last.is_none_or(|last| now.saturating_duration_since(last) >= NEWS);
                return (!calm).then(|| self.backoff.next_wait());
            }
            _ if self.tried.contains(&parent.url) => {}
            _ => self.tried.push(parent.url.clone()),
        }
        if list.iter().any(|one| !self.tried.contains(&one.url)) {
            return None;
        }
        self.tried.clear();
        Some(self.backoff.next_wait())
    }
}

pub(super) async fn any_change(parents: &mut watch::Receiver<Parents>) {
    if parents.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Completes when `current` is in the list no more.
pub(super) async fn dropped(parents: &mut watch::Receiver<Parents>, current: &Parent) {
    let is_gone = |now: &Parents| !now.list.contains(current);
    if parents.wait_for(is_gone).await.is_err() {
        std::future::pending().await
    }
}

/// Completes when the list has somebody whom it had not.
pub(super) async fn grown(parents: &mut watch::Receiver<Parents>, before: &[Parent]) {
    loop {
        any_change(parents).await;
        let now = parents.borrow_and_update();
        if now.list.iter().any(|parent| !before.contains(parent)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(name: &str) -> Parent {
        Parent {
            url: name.to_owned(),
            credential: None,
            node: name.to_owned(),
        }
    }

    #[test]
    fn turns_are_taken_and_waits_grow() {
        let pace = Pace::default();
        let mut turn = Turn::new(&pace);
        let list = [parent("a"), parent("b")];
        let now = Instant::now();
        let (mut waits, mut asked) = (Vec::new(), Vec::new());
        for _ in 0..14 {
            let next = turn.next(&list).unwrap().clone();
            let failed = next.failed(String::new());
            waits.push(turn.after(&failed, &next, false, &list, now));
            asked.push(next.node);
        }
        assert_eq!(asked[..4], ["a", "b", "a", "b"]);
        for (round, wait) in waits.chunks(2).enumerate() {
            let full = Duration::from_millis((100 << round).min(5000));
            let second = wait[1].unwrap();
            assert_eq!(wait[0], None);
            assert!(second >= full / 2 && second <= full, "{round}: {second:?}");
        }
        // One that was good and broke is not asked again before the others.
        let failed = list[0].failed(String::new());
        assert_eq!(turn.after(&failed, &list[0], true, &list, now), None);
        assert_eq!(turn.next(&list).unwrap().node, "b");
        let wait = turn.after(&failed, &list[1], false, &list, now).unwrap();
        assert!(wait <= pace.floor);
        // A change of the epoch is followed at once, a storm of them is not.
        let mut after = |left: Left| turn.after(&left, &list[0], false, &list, now);
        assert_eq!(after(Left::EpochChanged), None);
        assert!(after(Left::EpochChanged).is_some());
        assert!(after(Left::Gone).is_some());
        assert_eq!(after(Left::Dropped), None);
        assert!(turn.fresh);
        assert_eq!(turn.next(&list).unwrap().node, "a");
    }

    #[tokio::test]
    async fn only_a_shorter_list_takes_a_parent_away() {
        use futures_util::FutureExt as _;
        let list =
            |names: &[&str]| Parents::from(names.iter().map(|n| parent(n)).collect::<Vec<_>>());
        let (sender, mut receiver) = watch::channel(list(&["a", "b"]));
        let b = parent("b");
        // The one whom the operator names is tried first, beside the one that feeds.
        let ordered = Parents {
            ordered: Some("a".into()),
            ..list(&["a", "b"])
        };
        for (next, leaves) in [
            (list(&["c", "a", "b"]), false),
            (ordered, false),
            (list(&["a"]), true),
        ] {
            let mut waiting = Box::pin(dropped(&mut receiver, &b));
            assert!((&mut waiting).now_or_never().is_none());
            sender.send_replace(next.clone());
            assert_eq!(waiting.now_or_never().is_some(), leaves, "{next:?}");
        }
    }
}
