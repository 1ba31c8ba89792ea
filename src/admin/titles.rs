//! A mount's title and the end of its source, wherever the source is: in our own engine, or in one that is not ours.

use axum::http::StatusCode;

use super::access::Caller;
use crate::base::ids::MountId;
use crate::base::secret::Secret;
use crate::control::{Control, Denied};
use crate::engine::TitleError;
use crate::wire::basic::Basic;
use crate::wire::title::Title;

/// Why a title was not set.
pub(super) enum NotSet {
    /// Nobody feeds the mount.
    NoSource,
    /// The engine is not asked: the client failed too often.
    Denied(Denied),
    /// The engine says no, by this status and in these words.
    Engine(StatusCode, String),
}

/// True where an attached server judges passwords itself: it asks for its own, which nobody told us.
pub(super) fn is_judged_there(control: &Control) -> bool {
    control
        .outside
        .as_ref()
        .is_some_and(|outside| outside.is_attached() && outside.admin().is_none())
}

/// Sets it. `password` is what the caller gave besides its credentials.
///
/// # Errors
/// See [`NotSet`].
pub(super) async fn set(
    control: &Control,
    mount: &MountId,
    title: Title,
    caller: &Caller,
    password: Option<&str>,
) -> Result<(), NotSet> {
    let Some(outside) = &control.outside else {
        let set = control.engine.set_title(mount, title);
        return set.map_err(|error| match error {
            TitleError::NoSource => NotSet::NoSource,
            TitleError::Closed => NotSet::Engine(StatusCode::BAD_REQUEST, error.to_string()),
        });
    };
    let by_password = || password.map(|text| Basic::new("source", Secret::new(text)).encode());
    let login = caller.login().or_else(by_password);
    let permit = if is_judged_there(control) {
        let permit = caller.knock_elsewhere(control, mount, password);
        permit.map_err(NotSet::Denied)?
    } else {
        None
    };
    let set = outside.set_title(mount, &title, login.as_deref(), password);
    let set = set.await;
    match (&set, permit) {
        (Ok(()), Some(permit)) => permit.right(),
        (Err(refused), Some(permit)) if refused.status == 401 => permit.wrong(),
        _ => {}
    }
    set.map_err(|refused| {
        let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_GATEWAY);
        NotSet::Engine(status, refused.text)
    })
}

/// Ends a mount's source. False if there is none.
pub(super) async fn end_source(control: &Control, mount: &MountId) -> bool {
    match &control.outside {
        Some(outside) => outside.end_source(mount).await,
        None => control.engine.end(mount),
    }
}
