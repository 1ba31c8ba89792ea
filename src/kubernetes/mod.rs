//! What a pod asks of its Kubernetes: the Secret that its relays mount, and what it costs to delete a pod.
//!
//! Must never: be needed for audio, or be asked by anything but the pod's own service account. Below it:
//! `base` and `discovery`. Above it: `app`, which says what the secrets are and how many listen where.

mod api;
mod cost;
mod secret;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use api::{Api, ApiError};
pub use cost::{Costs, PACE, patch};
pub use secret::{Kept, keep, read};
