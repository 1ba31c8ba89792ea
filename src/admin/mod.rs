//! stub
use crate::control::Control;
mod cluster;
use std::net::IpAddr;
use std::sync::Arc;
/// c
#[derive(Debug, Clone)]
pub struct Client {
    /// a
    pub address: IpAddr,
    /// b
    pub https: bool,
    /// c
    pub local: bool,
    /// d
    pub connection: u64,
}
/// p
pub fn page(_control: &Control) -> String {
    "<p>".into()
}
/// r
pub fn router(control: Arc<Control>) -> axum::Router {
    cluster::router().with_state(control)
}
