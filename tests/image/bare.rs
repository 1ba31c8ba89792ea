//! A bare Debian follows `docs/start.md` from its first line: every command of the page's first part, as it stands there, to
//! two relays and a listener who hears the source. The one thing given is the package, which the page says to download.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::artefact::{IMAGE, engine, root};
use crate::debian::{Debian, package};
use crate::docker::said_by;
use crate::harness::program::Program;
use crate::harness::source::on_air;
use crate::harness::{eventually, within};
use crate::place::alone;

/// Stands before a command that has a terminal of its own and goes on.
const GOES_ON: &str = "<!-- goes on -->";

/// A block of commands.
struct Block {
    /// The heading that it stands under.
    heading: String,
    script: String,
    goes_on: bool,
}

/// A shell that runs a block which goes on. Its pipeline outlives it, so that is ended first, by the ids of its processes.
struct Shell(Program);

impl Drop for Shell {
    fn drop(&mut self) {
        let id = self.0.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            if let Some(child) = child.parse().ok().and_then(Pid::from_raw) {
                let _ = kill_process(child, Signal::TERM);
            }
        }
    }
}

/// The commands of the page, up to where its first part ends.
fn blocks() -> Vec<Block> {
    let page = fs::read_to_string(root().join("docs/start.md")).unwrap();
    let (part, _) = page
        .split_once("\n## The commands")
        .expect("the part after the first");
    let (mut found, mut heading, mut goes_on) = (Vec::new(), String::new(), false);
    let mut lines = part.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('#') {
            heading = line.to_owned();
        } else if line == GOES_ON {
            goes_on = true;
        } else if line == "```sh" {
            let script: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            found.push(Block {
                heading: heading.clone(),
                script: script.join("\n"),
                goes_on,
            });
            goes_on = false;
        }
    }
    found
}

#[test]
fn a_bare_debian_follows_the_page_to_two_relays_and_a_listener() {
    let debian = Debian::new();
    alone(async || {
        let docker = engine().await;
        let deb = package(&docker, IMAGE);
        let name = deb.file_name().unwrap().to_string_lossy().into_owned();
        // The first command is about the file in the folder where one is.
        let home = debian.path("/root");
        fs::copy(&deb, home.join(&name)).unwrap();
        let blocks = blocks();
        assert!(blocks.len() >= 8, "{} blocks", blocks.len());
        assert!(blocks[0].script.contains(&format!("./{name}")), "{name}");
        let mut running: Vec<Shell> = Vec::new();
        for block in blocks {
            let script = format!("cd; set -eu; {}", block.script);
            println!("{}\n{}", block.heading, block.script);
            let mut command = debian.command("root", &["bash", "-c", &script]);
            if !block.goes_on {
                let said = within(Duration::from_secs(60), "done", async || {
                    // A relay that has just come has no audio yet, as for whoever types fast.
                    let output = command.output().unwrap();
                    let text = String::from_utf8_lossy(&output.stdout).into_owned();
                    println!("{}", String::from_utf8_lossy(&output.stderr));
                    output.status.success().then_some(text)
                })
                .await;
                println!("{said}");
                continue;
            }
            let nodes = running.len();
            running.push(Shell(Program::start(command)));
            if block.script.starts_with("relayctl") {
                let node = &mut running.last_mut().unwrap().0;
                eventually("the node is ready", async || {
                    let ended = node.status();
                    assert!(ended.is_none(), "{ended:?}: {}", node.stderr());
                    node.stdout()
                        .contains("relayctl: ready role=")
                        .then_some(())
                })
                .await;
                assert!(nodes > 0 || running[0].0.stdout().contains("role=primary"));
            } else {
                // Nobody types the next command before the encoder has said that it sends.
                on_air(8000, "/live.mp3").await;
            }
        }
        // What the page's last commands told: three nodes, and what was heard is audio of ten seconds or so.
        let table = debian.run(&["relayctl", "get", "nodes", "-o", "json"]);
        let table: serde_json::Value = serde_json::from_str(&table).unwrap();
        let states: Vec<_> = table["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (&row["role"], &row["state"]))
            .collect();
        assert_eq!(
            states.iter().filter(|(role, _)| *role == "relay").count(),
            2
        );
        assert!(
            states.iter().all(|(_, state)| *state == "ready"),
            "{states:?}"
        );
        let probe =
            "ffprobe -v error -show_entries stream=codec_name,bit_rate -of csv=p=0 /root/heard.mp3";
        let codec = said_by(&mut debian.command("root", &["bash", "-c", probe]));
        assert_eq!(codec, "mp3,128000");
        for mut shell in running.into_iter().rev() {
            assert!(shell.0.status().is_none(), "{}", shell.0.stderr());
        }
    });
}
