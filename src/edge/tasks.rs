//! The tasks of open connections, each of which ends alone.

use std::future::Future;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::telemetry::panics::guarded;

/// See the module.
#[derive(Debug, Default)]
pub struct Tasks(TaskTracker);

impl Tasks {
    /// Begins the task of one connection. A panic in it ends that connection and nothing else.
    pub(super) fn spawn_on(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        runtime: &Handle,
    ) {
        self.0.spawn_on(guarded("connection", task), runtime);
    }

    /// The node goes down: there will be no more.
    pub fn close(&self) {
        self.0.close();
    }

    /// Waits for the end of all, after [`Self::close`].
    pub async fn wait(&self) {
        self.0.wait().await;
    }
}
