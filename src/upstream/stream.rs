//! stub
use crate::base::ids::*;
use crate::engine::Mount;
use bytes::Bytes;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
/// f
pub fn frames(
    _m: Arc<Mount>,
    _own: NodeId,
    _p: Vec<String>,
    _a: Option<Position>,
    _s: CancellationToken,
) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    futures_util::stream::empty()
}
