//! The primary fetches the URLs that its relays advertise: what beats cannot see (a firewall, a wrong name).

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::cluster::table::Probe;
use crate::control::{Control, ProbeOrder};
use crate::telemetry::panics::guarded;
use crate::upstream::probe::{ProbeError, Prober};

/// Probes under way at once.
const AT_ONCE: usize = 32;

/// Carries out the table's orders until the shutdown.
///
/// # Errors
/// Where the HTTP client cannot be built.
pub fn probe(
    control: Arc<Control>,
    mut orders: mpsc::Receiver<ProbeOrder>,
    shutdown: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let prober = Prober::new()?;
    Ok(async move {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let order = tokio::select! {
                () = shutdown.cancelled() => return,
                order = orders.recv() => order,
            };
            let (Some(order), Ok(place)) = (order, Arc::clone(&places).acquire_owned().await)
            else {
                return;
            };
            let (control, prober) = (Arc::clone(&control), prober.clone());
            let probing = async move {
                let outcome = match prober
                    .fetch(&order.url, &order.id, &control.probe_token("/health"))
                    .await
                {
                    Ok(()) => Probe::Fine,
                    Err(ProbeError::Refused(text)) => Probe::Refused(text),
                    Err(error) => Probe::Failed(error.to_string()),
                };
                control.probed(&order.id, order.url, outcome);
                drop(place);
            };
            tokio::spawn(guarded("probe", probing));
        }
    })
}
