//! Whether `relayctl run` is a primary or a relay, and why. Pure.

use super::types::{Primary, Settings};
use crate::base::ids::NodeId;
use url::Url;

/// Who names the primary of a gear that is a member.
const GEAR_SAYS: &str = "$OPENSHIFT_APP_DNS";

impl Primary {
    /// True where the platform's variables name it: then the token comes from the head gear, a while after
    /// the start.
    pub fn is_by_gear(&self) -> bool {
        self.said_by == GEAR_SAYS
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes the source, is the head of the tree.
    Primary,
    /// Pulls what its primary carries.
    Relay,
}

impl Role {
    /// The word in tables, metrics and the ready line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Relay => "relay",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A role, why, and whom a relay joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What `run` is.
    pub role: Role,
    /// For people.
    pub reason: String,
    /// On a relay, always.
    pub primary: Option<Primary>,
}

/// The role by what the environment and the settings say.
///
/// A primary that was named (`RELAYCTL_PRIMARY`, `RelayServer`, YAML, flag) makes a relay, but for the node
/// whose own name it is. Else
/// `OPENSHIFT_APP_UUID` and `OPENSHIFT_GEAR_UUID` decide: equal is a primary, different a relay of
/// `OPENSHIFT_APP_DNS`. Else a primary.
///
/// # Errors
/// A sentence, where the gear is a member and nothing says whose.
pub fn choose_role(
    environment: &[(String, String)],
    settings: &Settings,
) -> Result<Choice, String> {
    if let Some(primary) = &settings.primary {
        if is_named(settings.name.as_ref(), &primary.url) {
            return Ok(Choice {
                role: Role::Primary,
                reason: format!(
                    "{} names {}, which is this very node",
                    primary.said_by, primary.url
                ),
                primary: None,
            });
        }
        return Ok(Choice {
            role: Role::Relay,
            reason: format!("{} names the primary {}", primary.said_by, primary.url),
            primary: Some(primary.clone()),
        });
    }
    let variable = |wanted: &str| {
        environment
            .iter()
            .find(|(name, value)| name == wanted && !value.is_empty())
            .map(|(_, value)| value.as_str())
    };
    let head = |reason: &str| Choice {
        role: Role::Primary,
        reason: reason.into(),
        primary: None,
    };
    match (
        variable("OPENSHIFT_APP_UUID"),
        variable("OPENSHIFT_GEAR_UUID"),
    ) {
        (Some(app), Some(gear)) if app == gear => Ok(head(
            "$OPENSHIFT_APP_UUID and $OPENSHIFT_GEAR_UUID are equal: this gear is the head",
        )),
        (Some(_), Some(_)) => member(variable("OPENSHIFT_APP_DNS")),
        _ => Ok(head("nothing names a primary to join")),
    }
}

/// True if the URL's host is `name`, or begins with it: so every pod of one StatefulSet gets the same
/// `RELAYCTL_PRIMARY=http://radio-0.radio:8000`, and the first is the primary.
fn is_named(name: Option<&NodeId>, url: &Url) -> bool {
    let label = url.host_str().and_then(|host| host.split('.').next());
    name.is_some() && name.map(NodeId::as_str) == label
}

fn member(host: Option<&str>) -> Result<Choice, String> {
    let host = host.ok_or(
        "$OPENSHIFT_APP_UUID and $OPENSHIFT_GEAR_UUID differ, so this gear is a member, and neither \
         $OPENSHIFT_APP_DNS nor RELAYCTL_PRIMARY says of which primary",
    )?;
    let url = Url::parse(&format!("http://{host}/"))
        .map_err(|error| format!("$OPENSHIFT_APP_DNS `{host}` is no host: {error}"))?;
    Ok(Choice {
        role: Role::Relay,
        reason: format!(
            "$OPENSHIFT_APP_UUID and $OPENSHIFT_GEAR_UUID differ: this gear is a member of {host}"
        ),
        primary: Some(Primary {
            any_port: true,
            url,
            assumed_port: true,
            said_by: GEAR_SAYS.into(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};
    use super::*;

    fn choose(pairs: &[(&str, &str)]) -> Result<Choice, String> {
        let environment: Vec<(String, String)> = pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let sources = Sources {
            environment: environment.clone(),
            ..Sources::default()
        };
        choose_role(&environment, &load(&sources).unwrap().settings)
    }

    #[test]
    fn the_contracts_table() {
        const APP: (&str, &str) = ("OPENSHIFT_APP_UUID", "a");
        const SAME: (&str, &str) = ("OPENSHIFT_GEAR_UUID", "a");
        const OTHER: (&str, &str) = ("OPENSHIFT_GEAR_UUID", "b");
        const DNS: (&str, &str) = ("OPENSHIFT_APP_DNS", "app.example");
        type Row = (
            &'static [(&'static str, &'static str)],
            Role,
            Option<&'static str>,
            &'static str,
        );
        let rows: [Row; 8] = [
            (&[], Role::Primary, None, "nothing names"),
            (
                &[("RelayServer", "h")],
                Role::Relay,
                Some("http://h/"),
                "$RelayServer",
            ),
            (
                &[("RELAYCTL_PRIMARY", "http://p:8000")],
                Role::Relay,
                Some("http://p:8000/"),
                "$RELAYCTL_PRIMARY",
            ),
            (&[APP, SAME, DNS], Role::Primary, None, "the head"),
            (
                &[APP, OTHER, DNS],
                Role::Relay,
                Some("http://app.example/"),
                "a member",
            ),
            (&[APP], Role::Primary, None, "nothing names"),
            (
                &[APP, SAME, ("RelayServer", "h"), ("RelayPort", "8000")],
                Role::Relay,
                Some("http://h:8000/"),
                "$RelayServer",
            ),
            (&[("RelayServer", "")], Role::Primary, None, "nothing names"),
        ];
        for (pairs, role, primary, reason) in rows {
            let choice = choose(pairs).unwrap();
            assert_eq!(choice.role, role, "{pairs:?}");
            let url = choice.primary.map(|primary| primary.url.to_string());
            assert_eq!(url.as_deref(), primary, "{pairs:?}");
            assert!(choice.reason.contains(reason), "{}", choice.reason);
        }
        let by_gear = choose(&[APP, OTHER, DNS]).unwrap().primary;
        assert!(by_gear.is_some_and(|primary| primary.is_by_gear()));
        let by_name = choose(&[APP, OTHER, ("RelayServer", "h")]).unwrap();
        assert!(!by_name.primary.is_some_and(|primary| primary.is_by_gear()));
        assert!(
            choose(&[APP, OTHER])
                .unwrap_err()
                .contains("OPENSHIFT_APP_DNS")
        );
    }

    #[test]
    fn the_first_pod_of_a_stateful_set_is_the_primary() {
        let of = |name| {
            let primary = ("RELAYCTL_PRIMARY", "http://radio-0.radio:8000");
            choose(&[primary, ("RELAYCTL_NAME", name)]).unwrap()
        };
        let first = of("radio-0");
        assert_eq!((first.role, &first.primary), (Role::Primary, &None));
        assert!(first.reason.contains("this very node"), "{}", first.reason);
        for other in ["radio-1", "radio-00", "radio"] {
            assert_eq!(of(other).role, Role::Relay, "{other}");
        }
    }
}
