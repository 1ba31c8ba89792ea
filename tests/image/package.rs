//! The Debian package in a bare Debian: installed, run as its unit does, removed, installed again, purged.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::artefact::{IMAGE, engine, root};
use crate::debian::{Debian, package};
use crate::docker::said_by;
use crate::harness::eventually;
use crate::harness::peer::get;
use crate::harness::program::{Program, tool};
use crate::place::alone;

/// Every path of a root but for what dpkg and adduser keep of what they did.
fn paths(debian: &Debian) -> BTreeSet<String> {
    let mut find = tool("find", "findutils");
    find.arg(debian.path("/"))
        .args(["-mindepth", "1", "-printf", "%P\n"]);
    let kept = |path: &&str| {
        let records = ["run/", "var/lib/dpkg/", "var/log/", "var/cache/", "tmp/"];
        let backup = path.starts_with("etc/") && path.ends_with('-');
        !backup && !records.iter().any(|folder| path.starts_with(folder))
    };
    let said = said_by(&mut find);
    said.lines().filter(kept).map(str::to_owned).collect()
}

/// The value of a key of the primary's unit.
fn unit(key: &str) -> String {
    let text = fs::read_to_string(root().join("deploy/systemd/relayctl-primary.service")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    value.unwrap_or_else(|| panic!("no {key}")).to_owned()
}

/// The unit's command in that root, as its user and with its state directory; not by systemd, which `service` does.
fn start(debian: &Debian) -> Program {
    let line = unit("ExecStart=");
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command: Command = debian.command(&unit("User="), &words);
    command.env(
        "STATE_DIRECTORY",
        format!("/var/lib/{}", unit("StateDirectory=")),
    );
    Program::start(command)
}

fn owner_and_mode(path: &Path) -> (u32, u32, u32) {
    let meta = fs::metadata(path).unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

/// The names of the manual's pages: one of each command that help shows, inner ones as `relayctl-token-create`.
fn manual_pages(command: &clap::Command, name: &str, found: &mut Vec<String>) {
    found.push(name.to_owned());
    let shown = |inner: &&clap::Command| !inner.is_hide_set() && inner.get_name() != "help";
    for inner in command.get_subcommands().filter(shown) {
        manual_pages(inner, &format!("{name}-{}", inner.get_name()), found);
    }
}

fn holds_what_belongs_in_it(deb: &Path) {
    let mut list = tool("dpkg-deb", "dpkg");
    let contents = said_by(list.arg("--contents").arg(deb));
    let mut pages = Vec::new();
    manual_pages(&relayctl::cli::command(), "relayctl", &mut pages);
    assert!(pages.len() > 20, "{pages:?}");
    let pages = pages
        .iter()
        .map(|name| format!("./usr/share/man/man1/{name}.1.gz"));
    let files = [
        "./usr/bin/relayctl",
        "./usr/share/bash-completion/completions/relayctl",
        "./usr/share/zsh/vendor-completions/_relayctl",
        "./usr/share/fish/vendor_completions.d/relayctl.fish",
        "./usr/lib/systemd/system/relayctl-primary.service",
        "./usr/lib/systemd/system/relayctl-primary.socket",
        "./usr/lib/systemd/system/relayctl-relay.service",
        "./usr/lib/systemd/system/relayctl-relay.socket",
        "./usr/share/doc/relayctl/copyright",
        "./usr/share/doc/relayctl/docs/settings.md",
    ];
    for path in files.map(str::to_owned).into_iter().chain(pages) {
        let there = contents
            .lines()
            .any(|line| line.ends_with(&format!(" {path}")));
        assert!(there, "no {path} in\n{contents}");
    }
    let mut ask = tool("dpkg-deb", "dpkg");
    let conffiles = said_by(ask.arg("--info").arg(deb).arg("conffiles"));
    assert_eq!(conffiles.lines().count(), 4, "{conffiles}");
    let mut ask = tool("dpkg-deb", "dpkg");
    let depends = said_by(ask.arg("--field").arg(deb).arg("Depends"));
    println!(
        "{}: Depends: {depends}",
        deb.file_name().unwrap().to_string_lossy()
    );
    assert!(depends.contains("adduser, ca-certificates"), "{depends}");
}

fn is_installed(debian: &Debian) {
    let version = debian.run(&["relayctl", "version"]);
    assert!(version.ends_with(env!("CARGO_PKG_VERSION")), "{version}");
    let passwd = debian.run(&["getent", "passwd", "relayctl"]);
    let mut fields = passwd.split(':').skip(2);
    let mut id = || fields.next().unwrap().parse::<u32>().unwrap();
    let (user, group) = (id(), id());
    assert!(user < 1000 && passwd.ends_with("nologin"), "{passwd}");
    let state = owner_and_mode(&debian.path("/var/lib/relayctl"));
    assert_eq!(state, (user, group, 0o700));
    let config = owner_and_mode(&debian.path("/etc/relayctl/relay.yaml"));
    assert_eq!(config, (0, group, 0o640));
    for role in ["primary", "relay"] {
        let file = format!("/etc/relayctl/{role}.yaml");
        debian.run(&["relayctl", "check", "--config", &file]);
    }
    let completions = "/usr/share/bash-completion/completions/relayctl";
    let script = format!("source {completions} && complete -p relayctl");
    let complete = debian.run(&["bash", "-c", &script]);
    assert!(complete.contains("_relayctl"), "{complete}");
    for (file, first) in [
        ("zsh/vendor-completions/_relayctl", "#compdef relayctl"),
        (
            "fish/vendor_completions.d/relayctl.fish",
            "complete -c relayctl",
        ),
    ] {
        let script = debian.run(&["cat", &format!("/usr/share/{file}")]);
        assert!(script.contains(first) && script.contains("drain"), "{file}");
    }
    for name in ["relayctl", "relayctl-join", "relayctl-token-create"] {
        let file = format!("/usr/share/man/man1/{name}.1.gz");
        let page = debian.run(&["gzip", "-dc", &file]);
        assert!(page.contains(&format!(".TH {name} 1")), "{page}");
    }
}

#[test]
fn the_package_comes_runs_and_goes_without_a_trace() {
    let debian = Debian::new();
    alone(async || {
        let docker = engine().await;
        let deb = package(&docker, IMAGE);
        holds_what_belongs_in_it(&deb);
        fs::copy(&deb, debian.path("/tmp/relayctl.deb")).unwrap();
        let before = paths(&debian);
        debian.run(&["dpkg", "--install", "/tmp/relayctl.deb"]);
        is_installed(&debian);

        let mut primary = start(&debian);
        eventually("the unit's command is ready", async || {
            let ended = primary.status();
            assert!(ended.is_none(), "{ended:?}\n{}", primary.stderr());
            primary
                .stdout()
                .contains("ready role=primary")
                .then_some(())
        })
        .await;
        let (head, body) = get(8000, "/health").await;
        assert!(head.status == 200 && body.contains("waiting"), "{body}");
        let asked = debian.command("relayctl", &["relayctl", "token", "show", "source"]);
        let password = said_by(&mut { asked });
        assert!(password.len() >= 16);
        primary.signal(Signal::TERM);
        assert!(primary.ended().await.success());

        // An operator's line outlives removal and a second installation; purging takes all of it.
        let settings = debian.path("/etc/relayctl/primary.yaml");
        fs::write(&settings, "max_listeners: 77\n").unwrap();
        debian.run(&["dpkg", "--remove", "relayctl"]);
        assert!(!debian.path("/usr/bin/relayctl").exists());
        let secret = debian.path("/var/lib/relayctl/source-password");
        assert_eq!(fs::read_to_string(&secret).unwrap().trim_end(), password);
        debian.run(&["dpkg", "--install", "--force-confold", "/tmp/relayctl.deb"]);
        assert_eq!(
            fs::read_to_string(&settings).unwrap(),
            "max_listeners: 77\n"
        );
        debian.run(&["dpkg", "--purge", "relayctl"]);
        let after = paths(&debian);
        let left: Vec<_> = after.symmetric_difference(&before).collect();
        assert!(left.is_empty(), "{left:?}");
        let users = fs::read_to_string(debian.path("/etc/passwd")).unwrap();
        assert!(!users.contains("relayctl"), "{users}");
    });
}
