//! `controller.kubernetes.io/pod-deletion-cost`: a ReplicaSet that shrinks takes the cheapest pod, so each
//! relay's pod costs as many listeners as it has. Neither an HPA nor KEDA chooses by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::api::{Api, ApiError};

/// A pod is written at most this often: each write costs the API server one, for every watcher.
pub const PACE: Duration = Duration::from_secs(60);

/// A change below this share of what was written is not worth a write.
const CHANGE: f64 = 0.2;

/// What was written of each pod.
#[derive(Debug, Default)]
pub struct Costs {
    written: BTreeMap<String, u64>,
}

impl Costs {
    /// The pods to write now, of all `pods` with their listeners. Those that left are forgotten.
    pub fn due(&mut self, pods: &BTreeMap<String, u64>) -> Vec<(String, u64)> {
        self.written.retain(|pod, _| pods.contains_key(pod));
        pods.iter()
            .filter(|(pod, now)| self.has_changed(pod, **now))
            .map(|(pod, now)| (pod.clone(), *now))
            .collect()
    }

    /// Notes what was written.
    pub fn wrote(&mut self, pod: String, listeners: u64) {
        self.written.insert(pod, listeners);
    }

    fn has_changed(&self, pod: &str, now: u64) -> bool {
        match self.written.get(pod) {
            None => true,
            // The emptied pod is the very one to be taken.
            Some(&before) => {
                before != now
                    && (now == 0 || before.abs_diff(now) as f64 > before.max(1) as f64 * CHANGE)
            }
        }
    }
}

/// Writes a pod's cost; false where there is no such pod.
///
/// # Errors
/// Where Kubernetes does not answer, or may not.
pub async fn patch(api: &Api, pod: &str, listeners: u64) -> Result<bool, ApiError> {
    let cost = listeners.min(i32::MAX as u64).to_string();
    let change = json!({
        "metadata": { "annotations": { "controller.kubernetes.io/pod-deletion-cost": cost } }
    });
    api.patch(&format!("pods/{pod}"), &change).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(k, v)| ((*k).into(), *v)).collect()
    }

    #[test]
    fn written_at_first_on_a_fifth_and_when_empty() {
        let mut costs = Costs::default();
        let first = costs.due(&pods(&[("a", 100), ("b", 0)]));
        assert_eq!(first, [("a".to_owned(), 100), ("b".to_owned(), 0)]);
        for (pod, listeners) in first {
            costs.wrote(pod, listeners);
        }
        assert!(costs.due(&pods(&[("a", 120), ("b", 0)])).is_empty());
        assert_eq!(costs.due(&pods(&[("a", 121), ("b", 1)])).len(), 2);
        assert_eq!(
            costs.due(&pods(&[("a", 79), ("b", 0)])),
            [("a".to_owned(), 79)]
        );
        // One that left and came back is new.
        costs.due(&pods(&[("a", 100)]));
        assert_eq!(
            costs.due(&pods(&[("a", 100), ("b", 0)])),
            [("b".to_owned(), 0)]
        );
    }
}
