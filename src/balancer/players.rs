//! Players, known by their agents: a list, compiled in.

use std::sync::LazyLock;

/// Two sections with one part of an agent a line, see there.
const LIST: &str = include_str!("players.txt");

/// Heading of those that do not follow redirects.
const STAY: &str = "[stay]";

static PLAYERS: LazyLock<Vec<Player>> = LazyLock::new(|| read(LIST));

#[derive(Debug, PartialEq, Eq)]
struct Player {
    /// In small letters.
    part: String,
    follows: bool,
}

/// True for an agent of a player that stays where it is or fails.
pub fn cannot_follow(agent: &str) -> bool {
    is_one_of(agent, |player| !player.follows)
}

/// True for an agent of a player: what it asks for is audio, never a page.
pub fn is_player(agent: &str) -> bool {
    is_one_of(agent, |_| true)
}

fn is_one_of(agent: &str, wanted: impl Fn(&Player) -> bool) -> bool {
    if agent.is_empty() {
        return false;
    }
    let agent = agent.to_ascii_lowercase();
    let mut players = PLAYERS.iter().filter(|player| wanted(player));
    players.any(|player| player.is_named(&agent))
}

impl Player {
    /// True where an agent in small letters names it. Devices put their libraries' names anywhere, and those are long.
    fn is_named(&self, agent: &str) -> bool {
        if self.follows {
            has_word(agent, &self.part)
        } else {
            agent.contains(&self.part)
        }
    }
}

/// True where `part` begins a word of `agent`: `Compass/1.0` is no `BASS/`.
fn has_word(agent: &str, part: &str) -> bool {
    agent.match_indices(part).any(|(at, _)| {
        let before = agent.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(char::is_alphanumeric)
    })
}

fn read(list: &str) -> Vec<Player> {
    let mut follows = true;
    let mut players = Vec::new();
    for line in list.lines() {
        match line.split('#').next().unwrap_or_default().trim() {
            "" => {}
            heading if heading.starts_with('[') => follows = heading != STAY,
            part => players.push(Player {
                part: part.to_ascii_lowercase(),
                follows,
            }),
        }
    }
    players
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_ones_are_told_from_all_others() {
        assert!(PLAYERS.len() > 10);
        for agent in [
            "ESP8266Audio/1.9 (esp8266)",
            "esp32-audioi2s",
            "KaRadio32/2.1",
        ] {
            assert!(cannot_follow(agent), "{agent}");
        }
        for agent in [
            "",
            "VLC/3.0.18 LibVLC/3.0.18",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
            "AppleCoreMedia/1.0.0.21E236 (iPhone; U; CPU OS 17_4 like Mac OS X)",
            "ExoPlayerLib/2.18.1",
            "Lavf/60.3.100",
            "mpv 0.35.1",
            "Winamp/5.9",
            "curl/7.88.1",
        ] {
            assert!(!cannot_follow(agent), "{agent}");
        }
    }

    #[test]
    fn players_are_told_from_browsers_and_checks() {
        for agent in [
            "WinampMPEG/5.66, Ultravox/2.1",
            "VLC/3.0.18 LibVLC/3.0.18",
            "Lavf/60.3.100",
            "NSPlayer/12.00.19041.0 WMFSDK/12.00.19041.0",
            "foobar2000/1.6.16",
            "Music Player Daemon 0.23.5",
            "ESP8266Audio/1.9 (esp8266)",
            "mpv 0.35.1",
        ] {
            assert!(is_player(agent), "{agent}");
        }
        for agent in [
            "",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) Version/17.4 Mobile Safari/604.1",
            "curl/7.88.1",
            "Wget/1.21",
            "kube-probe/1.29",
            "Go-http-client/1.1",
            "Uptime-Kuma/1.23",
            "Compass/1.0",
        ] {
            assert!(!is_player(agent), "{agent}");
        }
    }

    #[test]
    fn remarks_and_empty_lines_are_left_out() {
        let one = |part: &str, follows| Player {
            part: part.to_owned(),
            follows,
        };
        let list = "# all\n\n[stay]\nAbc # why\n[follow] # x\n  d e\n";
        assert_eq!(read(list), [one("abc", false), one("d e", true)]);
    }
}
