//! A node in a pod: its secrets in a Secret, its relays' cost of deletion.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::control::{Control, Role};
use crate::kubernetes::{self, Api, ApiError, Costs, Kept};
use crate::settings::secrets::{ADMIN_FILE, JOIN_FILE, RELAY_FILE, SOURCE_FILE, Secrets};
use crate::settings::types::{Given, Kubernetes, Settings};
use crate::wire::message::NodeRole;

/// What a node has of its cluster.
pub(super) struct Pod {
    api: Api,
    settings: Kubernetes,
}

impl Pod {
    /// None where no setting asks for Kubernetes.
    ///
    /// # Errors
    /// Where this process is in no pod.
    pub fn of(
        settings: &Settings,
        environment: &[(String, String)],
    ) -> anyhow::Result<Option<Self>> {
        let settings = settings.kubernetes.clone();
        if settings.secret.is_none() && !settings.deletion_cost {
            return Ok(None);
        }
        let api = Api::of_pod(environment)?;
        Ok(Some(Self { api, settings }))
    }

    /// What the Secret holds.
    ///
    /// # Errors
    /// Where Kubernetes does not answer; on a relay, where neither `given` nor the Secret has a join token.
    pub async fn kept(&self, given: &Given, role: Role) -> anyhow::Result<Kept> {
        let Some(name) = &self.settings.secret else {
            return Ok(Kept::default());
        };
        let kept = kubernetes::read(&self.api, name).await?.unwrap_or_default();
        anyhow::ensure!(
            role == Role::Primary || completed(given, &kept).token.is_some(),
            "the Secret `{name}` (`kubernetes.secret`) has no `{JOIN_FILE}` yet: the primary adds it when it starts"
        );
        Ok(kept)
    }

    /// Adds to the Secret what a primary generated.
    ///
    /// # Errors
    /// Where Kubernetes does not answer, or may not.
    pub async fn publish(&self, secrets: &Secrets) -> anyhow::Result<()> {
        let Some(name) = &self.settings.secret else {
            return Ok(());
        };
        let ours: Kept = [
            (SOURCE_FILE, &secrets.source),
            (ADMIN_FILE, &secrets.admin),
            (RELAY_FILE, &secrets.relay),
            (JOIN_FILE, &secrets.join),
        ]
        .map(|(key, secret)| (key.to_owned(), secret.clone()))
        .into();
        let added = kubernetes::keep(&self.api, name, &ours)
            .await
            .context("the secrets are in the data directory alone")?;
        if added {
            tracing::info!(
                secret = name,
                "secrets added: `kubectl get secret {name} -o yaml` has them"
            );
        }
        Ok(())
    }

    /// Keeps the cost of each relay's pod at its listeners, until the shutdown.
    pub async fn keep_costs(self, control: Arc<Control>, shutdown: CancellationToken) {
        if !self.settings.deletion_cost {
            return;
        }
        let mut costs = Costs::default();
        let mut rounds = tokio::time::interval(kubernetes::PACE);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = rounds.tick() => {}
            }
            for (pod, listeners) in costs.due(&relays(&control)) {
                match kubernetes::patch(&self.api, &pod, listeners).await {
                    Ok(_) => costs.wrote(pod, listeners),
                    Err(error @ ApiError::Forbidden { .. }) => {
                        return tracing::warn!(%error, "pods keep their cost of deletion");
                    }
                    Err(error) => tracing::debug!(%error, pod, "a pod keeps its cost of deletion"),
                }
            }
        }
    }
}

/// Relays by name, which in a pod is the pod's.
fn relays(control: &Control) -> BTreeMap<String, u64> {
    let table = control.snapshot();
    let relays = table
        .nodes
        .iter()
        .filter(|node| node.role == NodeRole::Relay);
    relays
        .map(|node| (node.name.as_str().to_owned(), node.listeners))
        .collect()
}

/// `given` and, where it says nothing, what the platform keeps.
pub(super) fn completed(given: &Given, kept: &Kept) -> Given {
    let or = |given: &Option<_>, key: &str| given.clone().or_else(|| kept.get(key).cloned());
    Given {
        token: or(&given.token, JOIN_FILE),
        join_token: or(&given.join_token, JOIN_FILE),
        source: or(&given.source, SOURCE_FILE),
        admin: or(&given.admin, ADMIN_FILE),
        relay: or(&given.relay, RELAY_FILE),
    }
}
