//! Questions to the relays about their listeners, within bounds of time and memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{Listener, Listeners, PAGE, Page, merge, own_page};
use crate::base::ids::{MountId, NodeId};
use crate::cluster::snapshot::{NodeView, State as NodeState};
use crate::control::{Control, Role};
use crate::discovery::read_at_most;
use crate::wire::message::NodeRole;

/// How long a relay may take to list its own.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long all relays together may take to list theirs; who has not answered by then counts as silent.
const ALL_PATIENCE: Duration = Duration::from_secs(8);

/// Most listeners of one mount that [`everybody`] lists.
const MAX_LISTED: usize = 100_000;

/// Most relays asked at once.
const AT_ONCE: usize = 16;

/// Bytes that a relay's list may have for itself, beside [`PER_LISTENER`] for each listener that was asked for. Texts are cut at
/// 256 bytes, and few come near.
const PER_LIST: usize = 64 * 1024;
/// Bytes that a listener may have in a relay's list.
const PER_LISTENER: usize = 1024;

/// Bytes of relays' lists that are read at once.
const MAX_READ: usize = 16 << 20;

/// Own listeners, and on a primary those of every live relay, asked now.
pub(in crate::admin::api) async fn gather(control: &Control, page: &Page) -> Vec<Listeners> {
    let mut pages = vec![own_page(control, page)];
    // What does not fit the page is let go at once, however many relays there are.
    let mut whole = Listeners::default();
    let deadline = Instant::now() + ALL_PATIENCE;
    ask_all(control, relays(control), page, deadline, |_, answer| {
        whole = merge(vec![std::mem::take(&mut whole), answer], page.limit);
    })
    .await;
    pages.push(whole);
    pages
}

/// On a primary the relays that are not dead.
fn relays(control: &Control) -> Vec<Arc<NodeView>> {
    if control.identity.role != Role::Primary {
        return Vec::new();
    }
    let mut relays: Vec<Arc<NodeView>> = control.snapshot().nodes.clone();
    relays.retain(|node| node.role == NodeRole::Relay && node.state != NodeState::Dead);
    relays
}

/// Asks `relays` for the same page. Each one's answer is taken as it comes; one that has not answered by `deadline` is
/// silent.
async fn ask_all(
    control: &Control,
    relays: Vec<Arc<NodeView>>,
    page: &Page,
    deadline: Instant,
    mut take: impl FnMut(&NodeView, Listeners),
) {
    let mut waiting: HashMap<NodeId, Arc<NodeView>> = HashMap::new();
    let Ok(client) = client() else {
        relays.iter().for_each(|node| take(node, silent(node)));
        return;
    };
    let path = path_of(page);
    let questions: Vec<_> = relays
        .into_iter()
        .map(|node| {
            waiting.insert(node.id.clone(), Arc::clone(&node));
            let mark = control.question_token(&node.id, "GET", &path);
            let asked = ask(
                client.clone(),
                Arc::clone(&node),
                mark,
                path.clone(),
                page.limit,
            );
            async move { (node, asked.await) }
        })
        .collect();
    let at_once = (MAX_READ / longest(page.limit)).clamp(1, AT_ONCE);
    let mut answers = futures_util::stream::iter(questions).buffer_unordered(at_once);
    while let Ok(Some((node, answer))) = timeout_at(deadline, answers.next()).await {
        waiting.remove(&node.id);
        take(&node, answer);
    }
    for node in waiting.values() {
        take(node, silent(node));
    }
}

/// URL at which a relay is asked: its public one, else one of the address that its beats come from.
pub(in crate::admin::api) fn base_of(node: &NodeView) -> &str {
    let public = Some(node.public_url()).filter(|url| !url.is_empty());
    let url = public.or(node.peer_url.as_deref()).unwrap_or_default();
    url.trim_end_matches('/')
}

/// The answer of a relay that gives none.
fn silent(node: &NodeView) -> Listeners {
    Listeners {
        silent: vec![node.name.to_string()],
        ..Listeners::default()
    }
}

/// A listener and the node that has it; none is this one.
pub(in crate::admin) struct Located {
    pub listener: Listener,
    pub at: Option<NodeId>,
}

/// All listeners of a mount, as far as the nodes answered.
#[derive(Default)]
pub(in crate::admin) struct Everybody {
    /// Own ones first, then by node and number.
    pub listeners: Vec<Located>,
    /// Names of nodes whose listeners are missing.
    pub silent: Vec<String>,
    /// There are more than are listed.
    pub cut: bool,
}

/// All listeners of `mount`; a primary asks its relays, page by page, within [`ALL_PATIENCE`].
pub(in crate::admin) async fn everybody(control: &Control, mount: &MountId) -> Everybody {
    let mut page = Page {
        mount: Some(mount.clone()),
        limit: MAX_LISTED,
        after: 0,
    };
    let mut all = Everybody::default();
    all.take(None, own_page(control, &page));
    let deadline = Instant::now() + ALL_PATIENCE;
    page.limit = PAGE;
    let mut rest: Vec<(u64, Vec<Arc<NodeView>>)> = vec![(0, relays(control))];
    while let Some((after, relays)) = rest.pop() {
        page.after = after;
        ask_all(control, relays.clone(), &page, deadline, |node, answer| {
            let next = answer.next.filter(|next| *next > after);
            all.take(Some(&node.id), answer);
            let again = relays.iter().find(|known| known.id == node.id);
            if let (Some(next), Some(again)) = (next, again) {
                rest.push((next, vec![Arc::clone(again)]));
            }
        })
        .await;
        if all.listeners.len() >= MAX_LISTED {
            all.cut |= !rest.is_empty() || all.listeners.len() > MAX_LISTED;
            all.listeners.truncate(MAX_LISTED);
            break;
        }
    }
    all.listeners
        .sort_by(|a, b| (&a.at, a.listener.id).cmp(&(&b.at, b.listener.id)));
    all.silent.sort();
    all.silent.dedup();
    all
}

impl Everybody {
    fn take(&mut self, at: Option<&NodeId>, page: Listeners) {
        self.cut |= at.is_none() && page.next.is_some();
        self.silent.extend(page.silent);
        let located = page.listeners.into_iter().map(|listener| Located {
            listener,
            at: at.cloned(),
        });
        self.listeners.extend(located);
    }
}

/// True where `node` has listener `number` at `mount`.
///
/// # Errors
/// Where it does not answer.
pub(in crate::admin) async fn is_at(
    control: &Control,
    node: &Arc<NodeView>,
    mount: &MountId,
    number: u64,
) -> Result<bool, String> {
    let page = Page {
        mount: Some(mount.clone()),
        limit: 1,
        after: number.saturating_sub(1),
    };
    let mut found = Ok(false);
    let deadline = Instant::now() + ALL_PATIENCE;
    ask_all(
        control,
        vec![Arc::clone(node)],
        &page,
        deadline,
        |_, answer| {
            found = if answer.silent.is_empty() {
                Ok(answer.listeners.iter().any(|one| one.id == number))
            } else {
                Err(format!("{} did not answer", node.name))
            };
        },
    )
    .await;
    found
}

/// Most bytes of a relay's list of at most `limit` listeners.
fn longest(limit: usize) -> usize {
    PER_LIST.saturating_add(limit.saturating_mul(PER_LISTENER))
}

/// A client for questions to relays.
pub(in crate::admin::api) fn client() -> reqwest::Result<reqwest::Client> {
    crate::discovery::http_client().timeout(PATIENCE).build()
}

async fn ask(
    client: reqwest::Client,
    node: Arc<NodeView>,
    mark: String,
    path: String,
    limit: usize,
) -> Listeners {
    let base = base_of(&node);
    let Ok(url) = Url::parse(&format!("{base}{path}")) else {
        return silent(&node);
    };
    let asked = async {
        let answer = client
            .get(url)
            .bearer_auth(mark)
            .send()
            .await?
            .error_for_status()?;
        let bytes = read_at_most(answer, longest(limit)).await?;
        let mut list = serde_json::from_slice::<Listeners>(&bytes)?;
        // More than was asked for, or a word on other nodes, is not its to say.
        list.listeners.truncate(limit);
        list.silent = Vec::new();
        anyhow::Ok(list)
    };
    asked.await.unwrap_or_else(|error| {
        tracing::debug!(node = %node.name, %error, "a relay did not list its listeners");
        silent(&node)
    })
}

/// Path and query of the question, as they are sent and signed.
fn path_of(page: &Page) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("limit", &page.limit.to_string())
        .append_pair("after", &page.after.to_string());
    if let Some(mount) = &page.mount {
        query.append_pair("mount", &mount.to_string());
    }
    format!("/cluster/v1/listeners?{}", query.finish())
}
