//! stub
use super::{EndReason, SessionRecord};
use std::path::PathBuf;
/// t
pub enum Target {
    /// o
    Off,
    /// o
    Output,
    /// f
    File(PathBuf),
}
/// f
pub enum Format {
    /// c
    Combined,
    /// j
    Json,
}
/// a
pub struct AccessLog;
impl AccessLog {
    /// o
    pub fn open(_t: Target, _f: Format) -> std::io::Result<Self> {
        Ok(Self)
    }
    /// w
    pub fn write(&self, _r: &SessionRecord, _e: EndReason) {}
    /// r
    pub fn reopen(&self) {}
}
