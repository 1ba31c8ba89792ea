//! One node, from its settings to its end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::announce::Announced;
use super::ending::{Refused, broken};
use super::foreign::ForeignPulls;
use super::keeper::{Keeper, RENDERED_DIR};
use super::kubernetes::Pod;
use super::names::local_url;
use super::parts;
use super::service::Sockets;
use super::signals::Word;
use super::{configs, kubernetes, limits, local, outside, reload, service, signals, silence, tls};
use crate::admin;
use crate::agent::{self, Agent};
use crate::control::{Control, ProbeOrder, Role};
use crate::discovery::{Connector, Resolver};
use crate::edge::{Edge, Kind};
use crate::engine::Engine;
use crate::kubernetes::Kept;
use crate::settings::data_dir::DataDir;
use crate::settings::secrets::{self, Secrets};
use crate::settings::types::{Primary, Settings};
use crate::settings::{Loaded, Sources, role};
use crate::telemetry::access::AccessLog;
use crate::telemetry::log::Log;
use crate::telemetry::panics::{self, Vital, vital};
use crate::telemetry::{Telemetry, export};
use crate::wire::tls::Tickets;

/// Places of the sockets that a socket unit hands over.
const DATA_SOCKET: usize = 0;
/// See [`DATA_SOCKET`].
const SHOUTCAST_SOCKET: usize = 1;

/// All that a node starts from.
pub struct Launch {
    /// Where the settings came from, for a reload.
    pub sources: Sources,
    /// The settings.
    pub loaded: Loaded,
    /// Primary or relay.
    pub role: Role,
    /// On a relay: whom it joins.
    pub primary: Option<Primary>,
    /// The process's log, so that a reload can change its level.
    pub log: Log,
    /// How role and primary were chosen: a reload asks again, and what is refused is refused then.
    pub choose: Choose,
}

/// Role and primary by the settings.
pub type Choose = fn(&Sources, &Settings) -> anyhow::Result<(Role, Option<Primary>)>;

/// A node that runs.
pub struct Node {
    /// The node's knowledge.
    pub control: Arc<Control>,
    /// The address of its data port.
    pub address: SocketAddr,
    /// Its secrets.
    pub secrets: Secrets,
    pub(super) edge: Arc<Edge>,
    /// Outlive a certificate, so that sessions are resumed over a reload.
    pub(super) tickets: Tickets,
    pub(super) data_dir: Arc<DataDir>,
    pub(super) access_log: Arc<AccessLog>,
    pub(super) settings: watch::Sender<Settings>,
    /// How a relay's primary is reached, by everybody here.
    pub(super) connector: Connector,
    pub(super) foreign: ForeignPulls,
    agent: OnceLock<Arc<Agent>>,
    /// What the platform keeps of its secrets.
    pub(super) kept: Kept,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

/// Runs a node until a signal ends it.
///
/// # Errors
/// Where it cannot start: the address is taken, the data directory is in use, a secret is missing.
pub async fn run(launch: Launch) -> anyhow::Result<()> {
    let mut fatal = panics::watch_process();
    let mut signals = signals::listen()?;
    let node = Node::start(&launch).await?;
    let mut reloads = reload::Reloads::new(launch);
    let mut standing = node.control.watch_standing();
    standing.mark_changed();
    let mut announced = Announced::default();
    service::ready(&node.control);
    loop {
        tokio::select! {
            Ok(()) = standing.changed() => {
                let now = standing.borrow_and_update().clone();
                announced.tell(&node, &now);
                service::status(&node.control);
                if let Some(refused) = Refused::on_terminal(&now, announced.was_ready()) {
                    service::stopping();
                    node.stop().await;
                    return Err(refused.into());
                }
            }
            word = signals.recv() => match word {
                Some(Word::Reload) => {
                    service::reloading();
                    reloads.apply(&node);
                    service::ready(&node.control);
                }
                Some(Word::End) | None => break,
            },
            () = reloads.changed() => reloads.apply(&node),
            why = broken(&mut fatal) => return node.give_up(why).await,
        }
    }
    service::stopping();
    let grace = node.settings.borrow().grace;
    let end = async {
        node.empty(grace).await;
        node.stop().await;
    };
    tokio::select! {
        () = end => {}
        why = broken(&mut fatal) => return node.give_up(why).await,
        _ = signals.recv() => tracing::warn!("ended at once by a second signal"),
    }
    Ok(())
}

impl Node {
    /// Opens the data directory and the ports, builds the rooms and starts their tasks.
    ///
    /// # Errors
    /// See [`run`].
    pub async fn start(launch: &Launch) -> anyhow::Result<Self> {
        let settings = &launch.loaded.settings;
        let mut sockets = Sockets::handed();
        let listener = sockets.take(DATA_SOCKET, settings.bind.socket_address())?;
        let address = listener.local_addr()?;
        let data_dir = Arc::new(DataDir::open(&parts::data_path(launch, address.port()))?);
        let swept = data_dir.sweep(&[RENDERED_DIR]);
        if swept > 0 {
            tracing::info!(swept, "files that a crash left half written are taken away");
        }
        let role = match launch.role {
            Role::Primary => role::Role::Primary,
            Role::Relay => role::Role::Relay,
        };
        let pair = tls::read_pair(settings)?;
        let tickets = Tickets::new().context("no keys for TLS tickets")?;
        let pod = Pod::of(settings, &launch.sources.environment)?;
        let kept = match &pod {
            Some(pod) => pod.kept(&settings.given, launch.role).await?,
            None => Kept::default(),
        };
        let given = kubernetes::completed(&settings.given, &kept);
        let secrets = secrets::open(&data_dir, &given, settings.name.as_ref(), role)?;
        if let Some(pod) = pod.as_ref().filter(|_| launch.role == Role::Primary) {
            pod.publish(&secrets).await?;
        }
        if !export::install() {
            tracing::warn!(
                "another recorder has the metrics: `/metrics` lacks what is counted as it happens"
            );
        }
        let access_log = Arc::new(parts::open_access_log(settings)?);
        let sink = Arc::clone(&access_log);
        let telemetry = Telemetry::new(Box::new(move |record, reason| sink.write(record, reason)));
        let engine = Engine::start(configs::engine(settings), Arc::clone(&telemetry))?;
        engine.epochs().raise(parts::persisted_epoch(&data_dir));
        let shutdown = CancellationToken::new();
        let mut parts = parts::parts(
            launch,
            &secrets,
            address.port(),
            &data_dir,
            engine,
            telemetry,
            tls::shown(pair.as_ref()),
        );
        parts.stopping = shutdown.clone();
        let outside = outside::build(settings)?;
        parts.outside = outside.clone();
        let (control, probes) = Control::new(parts);
        let control = Arc::new(control);
        let router = admin::router(Arc::clone(&control));
        let descriptors = limits::raise_descriptors();
        limits::report(descriptors, settings.limits.max_listeners);
        let trust = configs::trust(settings, launch.primary.as_ref(), &secrets)?;
        let connector = Connector::trusting(Resolver::system(), trust);
        let tasks = TaskTracker::new();
        let edge = Edge::new(
            configs::edge(settings, descriptors),
            Arc::clone(&control),
            router,
            connector.clone(),
            shutdown.clone(),
        );
        edge.set_tls(tls::server(pair.as_ref(), &tickets)?);
        let foreign = ForeignPulls::new(Arc::clone(&control), tasks.clone(), shutdown.clone());
        let node = Self {
            control,
            address,
            secrets,
            edge,
            tickets,
            data_dir,
            access_log,
            settings: watch::Sender::new(settings.clone()),
            kept,
            connector,
            foreign,
            agent: OnceLock::new(),
            tasks,
            shutdown,
        };
        if node.data_dir.is_writable()
            && let Err(error) = node.control.begin_epochs().await
        {
            tracing::warn!(%error, "after a restart the clock alone tells new audio from old");
        }
        let environment = &launch.sources.environment;
        let socket = local::open(&node.data_dir, environment, address.port());
        local::tell(&node.data_dir, socket.as_ref(), &local_url(address));
        node.open_ports(listener, sockets, settings);
        let serving = local::serve(socket, Arc::clone(&node.edge), node.shutdown.clone());
        node.keep(Vital::Socket, serving);
        let watching = tls::watch(Arc::clone(&node.control), node.shutdown.clone());
        node.keep(Vital::Certificate, watching);
        node.spawn_keepers();
        let keeper = node.keeper(launch);
        let renders = keeper.clone();
        node.control
            .set_render(Box::new(move |kind, old| renders.render(kind, old)));
        if let Some(outside) = &outside {
            outside::spawn(outside, keeper.clone(), &node.tasks, &node.shutdown)?;
        }
        node.keep(Vital::Keeper, keeper.run(node.shutdown.clone()));
        node.spawn_cluster(launch, probes)?;
        if let Some(pod) = pod.filter(|_| launch.role == Role::Primary) {
            let control = Arc::clone(&node.control);
            node.keep(Vital::Costs, pod.keep_costs(control, node.shutdown.clone()));
        }
        Ok(node)
    }

    /// Begins a task that this node cannot live without.
    fn keep(&self, part: Vital, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(vital(part, task));
    }

    fn open_ports(&self, listener: TcpListener, mut sockets: Sockets, settings: &Settings) {
        let accepting = Arc::clone(&self.edge).accept(listener, Kind::Data);
        self.keep(Vital::Port, accepting);
        let Some(port) = settings.shoutcast.port else {
            return;
        };
        if self.control.identity.role != Role::Primary {
            return;
        }
        match sockets.take(
            SHOUTCAST_SOCKET,
            SocketAddr::new(settings.bind.address, port),
        ) {
            Ok(listener) => {
                let accepting = Arc::clone(&self.edge).accept(listener, Kind::Shoutcast);
                self.keep(Vital::Port, accepting);
            }
            Err(error) => tracing::warn!(
                %error,
                "Shoutcast v1 sources have no port of their own (they may use the data port): set `shoutcast.port`"
            ),
        }
    }

    /// What must happen now and then, whatever the role.
    fn spawn_keepers(&self) {
        let (edge, control) = (Arc::clone(&self.edge), Arc::clone(&self.control));
        let watching = service::watch(edge, control, self.shutdown.clone());
        self.keep(Vital::Watchdog, watching);
        let (control, shutdown) = (Arc::clone(&self.control), self.shutdown.clone());
        self.keep(Vital::Tick, async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(250));
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                panics::drill("tick");
                control.tick(Instant::now());
                export::upkeep();
            }
        });
    }

    /// Who keeps the files for other servers.
    fn keeper(&self, launch: &Launch) -> Keeper {
        Keeper {
            control: Arc::clone(&self.control),
            data_dir: Arc::clone(&self.data_dir),
            role: match launch.role {
                Role::Primary => crate::render::Role::Primary,
                Role::Relay => crate::render::Role::Relay,
            },
            primary: launch.primary.clone(),
            port: self.address.port(),
            settings: self.settings.subscribe(),
        }
    }

    /// The node's part in its cluster.
    fn spawn_cluster(
        &self,
        launch: &Launch,
        probes: mpsc::Receiver<ProbeOrder>,
    ) -> anyhow::Result<()> {
        let control = Arc::clone(&self.control);
        match &launch.primary {
            None => {
                let heard = silence::watch(
                    Arc::clone(&control),
                    self.settings.subscribe(),
                    self.shutdown.clone(),
                );
                self.keep(Vital::Silence, heard);
                self.foreign.apply(&launch.loaded.settings.relays);
                let probing = agent::probe(control, probes, self.shutdown.clone())?;
                self.keep(Vital::Probes, probing);
            }
            // The platform starts a gear before it hands over what the head publishes, and checks it at once.
            Some(primary) if primary.is_by_gear() && self.secrets.join.is_empty() => {
                let why = "this gear is a member and has no join token yet: it answers health and waits; the cartridge's \
                           hook starts it again with RELAYCTL_PRIMARY and RELAYCTL_TOKEN of the head";
                control.waits_to_join(primary.url.as_str(), why, None);
                control.tell_waiting();
            }
            Some(primary) => {
                let settings = &launch.loaded.settings;
                let config = configs::agent(settings, primary, &self.secrets)?;
                let connector = self.connector.clone();
                let member = Agent::new(config, control, connector, self.shutdown.clone())?;
                let member = self.agent.get_or_init(|| Arc::new(member));
                self.keep(Vital::Member, Arc::clone(member).run());
            }
        }
        Ok(())
    }

    /// A relay's side of the cluster.
    pub(super) fn agent(&self) -> Option<&Arc<Agent>> {
        self.agent.get()
    }
}
