//! What a node answers besides audio.
use std::net::IpAddr;
use crate::control::Control;
/// c
#[derive(Debug,Clone)]
pub struct Client { /// a
 pub address: IpAddr, /// b
 pub https: bool, /// c
 pub local: bool }
/// p
pub fn page(_control: &Control) -> String { "<p>".into() }
