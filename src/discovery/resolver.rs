//! DNS by the system's configuration, with the last good answer kept for when it fails.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::PrimaryAddress;
use super::order::{Service, Target, by_weight, interleave};

/// Where SRV records of a primary stand, before its host.
const SERVICE: &str = "_relayctl._tcp";

/// The name servers have this long, all retries counted; the system's own way has as long again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most names whose last answer is kept.
const MAX_KEPT: usize = 256;

/// A name led nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// Neither the name servers, nor the system, nor an earlier answer has it.
    #[error(
        "`{host}` has no address ({reason}): check the name, and the name servers in /etc/resolv.conf"
    )]
    Unknown {
        /// The name.
        host: String,
        /// What the name servers said.
        reason: String,
    },
}

/// Finds addresses and services. Cheap to clone; clones share what they know. Answers are kept as long as
/// their TTL says, and beyond that for as long as nobody gives a newer one.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` where the system's configuration cannot be read.
    dns: Option<TokioResolver>,
    /// What the name servers do not know is asked of the system.
    system: bool,
    addresses: Kept<Vec<IpAddr>>,
    services: Kept<Vec<Service>>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    /// By `/etc/resolv.conf` and `/etc/hosts`. Where the first cannot be read, by the system's own lookup only.
    pub fn system() -> Self {
        let read = hickory_resolver::system_conf::read_system_conf();
        let (config, ndots) = match read {
            Ok((config, options)) => (config, options.ndots),
            Err(error) => {
                tracing::warn!(%error, "no name servers from /etc/resolv.conf, using the system's lookup");
                return Self::with(None, true);
            }
        };
        Self::with(build(config, ndots), true)
    }

    /// By these name servers and `/etc/hosts` alone.
    pub fn by_servers(config: ResolverConfig) -> Self {
        Self::with(build(config, 1), false)
    }

    fn with(dns: Option<TokioResolver>, system: bool) -> Self {
        Self {
            shared: Arc::new(Shared {
                dns,
                system,
                addresses: Kept::default(),
                services: Kept::default(),
            }),
        }
    }

    /// Every address of `host` in an order to try: families in turn, shuffled within. A literal address is
    /// its own answer, in brackets or not.
    ///
    /// # Errors
    /// Where nobody knows the name and nobody ever did.
    pub async fn addresses(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, DiscoveryError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found = match bare.parse::<IpAddr>() {
            Ok(literal) => vec![literal],
            Err(_) => self.look_up(bare).await?,
        };
        Ok(interleave(found, &mut rand::rng())
            .into_iter()
            .map(|address| SocketAddr::new(address, port))
            .collect())
    }

    async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, DiscoveryError> {
        let asked = async {
            match &self.shared.dns {
                Some(dns) => match dns.lookup_ip(host).await {
                    Ok(answer) => Ok(answer.iter().collect::<Vec<_>>()),
                    Err(error) => Err(error.to_string()),
                },
                None => Err("no name server".to_owned()),
            }
        };
        let late = || Err("no answer in 5 s".to_owned());
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        let reason = match answer.unwrap_or_else(|_| late()) {
            Ok(found) if !found.is_empty() => {
                self.shared.addresses.keep(host, &found);
                return Ok(found);
            }
            Ok(_) => "an empty answer".to_owned(),
            Err(reason) => reason,
        };
        if let Some(found) = self.ask_system(host).await {
            self.shared.addresses.keep(host, &found);
            return Ok(found);
        }
        self.shared.addresses.last(host).ok_or_else(|| {
            let host = host.to_owned();
            DiscoveryError::Unknown { host, reason }
        })
    }

    /// What else the system knows: mDNS, LDAP and whatever nsswitch names.
    async fn ask_system(&self, host: &str) -> Option<Vec<IpAddr>> {
        if !self.shared.system {
            return None;
        }
        let asked = tokio::net::lookup_host((host, 0));
        let found = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
        let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        (!found.is_empty()).then_some(found)
    }

    /// The targets of `_relayctl._tcp.<host>`, by priority and weight; empty where there are none.
    pub async fn service(&self, host: &str) -> Vec<Target> {
        let Some(dns) = &self.shared.dns else {
            return Vec::new();
        };
        let asked = dns.srv_lookup(format!("{SERVICE}.{host}"));
        let answer = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => {
                let found: Vec<Service> = answer
                    .answers()
                    .iter()
                    .filter_map(|record| match &record.data {
                        RData::SRV(srv) => Some(Service {
                            priority: srv.priority,
                            weight: srv.weight,
                            target: Target {
                                host: srv.target.to_utf8().trim_end_matches('.').to_owned(),
                                port: srv.port,
                            },
                        }),
                        _ => None,
                    })
                    .collect();
                self.shared.services.keep(host, &found);
                Some(found)
            }
            // A name server that says that there are none is believed; one that is down is not.
            Ok(Err(error)) if error.is_no_records_found() || error.is_nx_domain() => {
                self.shared.services.forget(host);
                None
            }
            _ => self.shared.services.last(host),
        };
        by_weight(answer.unwrap_or_default(), &mut rand::rng())
    }

    /// Where a primary may be: its SRV targets where its address has no port and there are such records, else
    /// its host and port. Never empty.
    pub async fn targets(&self, primary: &PrimaryAddress) -> Vec<Target> {
        let literal = primary.host.parse::<IpAddr>().is_ok();
        if primary.port.is_none() && !literal {
            let found = self.service(&primary.host).await;
            if !found.is_empty() {
                return found;
            }
        }
        vec![Target {
            host: primary.host.clone(),
            port: primary.port(),
        }]
    }

    /// [`Resolver::targets`] as `http(s)://host:port`.
    pub async fn base_urls(&self, primary: &PrimaryAddress) -> Vec<String> {
        let targets = self.targets(primary).await;
        targets
            .iter()
            .map(|t| super::address::base_url(primary.tls, &t.host, t.port))
            .collect()
    }
}

/// So that reqwest asks us: `ClientBuilder::dns_resolver(Arc::new(resolver))`.
impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.addresses(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn build(config: ResolverConfig, ndots: usize) -> Option<TokioResolver> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(config, provider);
    let options = builder.options_mut();
    options.ndots = ndots;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = Duration::from_secs(2);
    options.attempts = 1;
    // A short outage must not be remembered longer than it lasts.
    options.negative_max_ttl = Some(Duration::from_secs(5));
    builder
        .build()
        .inspect_err(|error| tracing::warn!(%error, "no resolver, using the system's lookup"))
        .ok()
}

/// Last answers by name, at most [`MAX_KEPT`].
struct Kept<T>(Mutex<HashMap<String, T>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    fn keep(&self, name: &str, answer: &T) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= MAX_KEPT && !map.contains_key(name) {
            let any = map.keys().next().cloned();
            any.and_then(|key| map.remove(&key));
        }
        map.insert(name.to_owned(), answer.clone());
    }

    fn last(&self, name: &str) -> Option<T> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(name).cloned()
    }

    fn forget(&self, name: &str) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.remove(name);
    }
}
