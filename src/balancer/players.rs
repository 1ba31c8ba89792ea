//! Players that are known not to follow redirects: a list of agents, compiled in.

use std::sync::LazyLock;

/// One a line, see there.
const LIST: &str = include_str!("players.txt");

static PARTS: LazyLock<Vec<String>> = LazyLock::new(|| read(LIST));

/// True for an agent of a player that stays where it is or fails.
pub fn cannot_follow(agent: &str) -> bool {
    if agent.is_empty() {
        return false;
    }
    let agent = agent.to_ascii_lowercase();
    PARTS.iter().any(|part| agent.contains(part))
}

fn read(list: &str) -> Vec<String> {
    let lines = list
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|part| !part.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_ones_are_told_from_all_others() {
        assert!(PARTS.len() > 10);
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
    fn remarks_and_empty_lines_are_left_out() {
        assert_eq!(read("# all\n\nAbc # why\n  d e\n"), ["abc", "d e"]);
    }
}
