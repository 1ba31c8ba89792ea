//! stub
use crate::base::{ids::*, secret::Secret};
use crate::engine::Engine;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
/// p
#[derive(Debug, Clone)]
pub struct Parent {
    /// u
    pub url: String,
    /// c
    pub credential: Secret,
    /// n
    pub node: String,
}
/// r
pub async fn run(
    _e: Arc<Engine>,
    _m: MountId,
    _p: watch::Receiver<Vec<Parent>>,
    _o: NodeId,
    c: CancellationToken,
) {
    c.cancelled().await
}
