//! stub
use crate::control::Control;
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
}
/// p
pub fn page(_control: &Control) -> String {
    "<p>".into()
}
/// r
pub fn router(_c: Arc<Control>) -> axum::Router {
    axum::Router::new()
}
