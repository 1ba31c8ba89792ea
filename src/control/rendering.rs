//! Files for other servers, made by whoever holds the node's settings.

use std::sync::OnceLock;

use super::Control;

/// Makes the file of a kind (`icecast`, `shoutcast`, `haproxy`), in the place of an old one's text if there is one.
pub type Render = Box<dyn Fn(&str, Option<&str>) -> Result<String, String> + Send + Sync>;

/// See the module; unset until the node has its settings.
#[derive(Default)]
pub(super) struct Rendering(OnceLock<Render>);

impl Control {
    /// Says once how files are made.
    pub fn set_render(&self, render: Render) {
        let _ = self.rendering.0.set(render);
    }

    /// The file of a kind as this node's settings have it now; none where it makes no files.
    ///
    /// # Errors
    /// A sentence, where the file cannot be made.
    pub fn render(&self, kind: &str, old: Option<&str>) -> Option<Result<String, String>> {
        self.rendering.0.get().map(|render| render(kind, old))
    }
}
