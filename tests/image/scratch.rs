//! What is in the image, how large it is, and that it runs as anybody who may do nothing.

use std::fs;

use serde_json::Value;

use crate::artefact::{IMAGE, engine, profile};
use crate::docker::said_by;
use crate::harness::peer::Peer;
use crate::harness::program::tool;
use crate::place::alone;

/// What all of it may take. The aim is 15 MB: four fifths of it are code, and a tenth is what unwinding needs, which stays, as
/// a panic of one task must not end the node (`src/silence` decodes behind it).
const LARGEST: u64 = 19_000_000;

/// The same for an image that is built fast, out of less optimised code.
const LARGEST_OF_TESTS: u64 = 27_000_000;

/// Lines of the archive that a container's files make, without the folders and what the engine puts over them.
fn files_of_image(listing: &str) -> Vec<&str> {
    let engine = [
        ".dockerenv",
        "dev/console",
        "etc/hostname",
        "etc/hosts",
        "etc/mtab",
        "etc/resolv.conf",
    ];
    let files = listing.lines().filter(|name| !name.ends_with('/'));
    files.filter(|name| !engine.contains(name)).collect()
}

#[test]
fn the_image_is_a_binary_and_the_certificates_of_authorities() {
    alone(async || {
        let docker = engine().await;
        let size: u64 = docker
            .inspect(IMAGE, "{{.Size}}")
            .parse()
            .expect("a size in bytes");
        let profile = profile();
        let largest = match profile.as_deref() {
            None | Some("release") => LARGEST,
            Some(_) => LARGEST_OF_TESTS,
        };
        println!("{IMAGE} ({profile:?}): {:.1} MB", size as f64 / 1e6);
        assert!(size < largest, "{size} bytes");

        let container = docker.run(&["create", IMAGE]);
        let archive = docker.folder().join("archive.tar");
        docker.run(&["export", "--output", archive.to_str().unwrap(), &container]);
        let mut list = tool("tar", "tar");
        let listing = said_by(list.arg("--list").arg("--file").arg(&archive));
        assert_eq!(
            files_of_image(&listing),
            ["etc/ssl/certs/ca-certificates.crt", "relayctl"]
        );
        assert!(listing.lines().any(|name| name == "var/lib/relayctl/"));

        let binary = docker.folder().join("relayctl");
        let from = format!("{container}:/relayctl");
        docker.run(&["cp", &from, binary.to_str().unwrap()]);
        let mut headers = tool("readelf", "binutils");
        let headers = said_by(headers.arg("--program-headers").arg(&binary));
        assert!(!headers.contains("INTERP"), "not static: {headers}");
        println!(
            "the binary: {:.1} MB",
            fs::metadata(&binary).unwrap().len() as f64 / 1e6
        );

        let config: Value =
            serde_json::from_str(&docker.inspect(IMAGE, "{{json .Config}}")).unwrap();
        assert_eq!(config["User"], "10001:0");
        let labels = config["Labels"].as_object().unwrap();
        for (name, value) in [
            ("title", "relayctl"),
            ("version", env!("CARGO_PKG_VERSION")),
            ("licenses", env!("CARGO_PKG_LICENSE")),
            ("description", env!("CARGO_PKG_DESCRIPTION")),
        ] {
            assert_eq!(labels[&format!("org.opencontainers.image.{name}")], value);
        }
        let version = docker.run(&["run", "--rm", "--network", "none", IMAGE, "version"]);
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    });
}

#[test]
fn it_runs_as_any_user_without_capabilities_on_a_root_that_cannot_be_written() {
    alone(async || {
        let docker = engine().await;
        let container = docker.start_container(&[
            "--user",
            "1234567:0",
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            IMAGE,
        ]);
        docker.healthy(&container).await;
        let address = docker.address(&container, 8000);
        let mut peer = Peer::connect_to(address).await;
        let (head, body) = peer.ask("GET /health HTTP/1.0\r\n\r\n").await;
        assert_eq!(head.status, 200, "{body}");
        let health: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(health["role"], "primary", "{body}");
        assert_eq!(health["source"], "waiting", "{body}");
        // Its own socket answers whoever runs in the container as the same user.
        let status = docker.run(&["exec", &container, "/relayctl", "status"]);
        assert!(status.contains("waiting"), "{status}");
        let log = docker.logs(&container);
        let password = docker.run(&["exec", &container, "/relayctl", "token", "show", "source"]);
        assert!(password.len() >= 16 && !log.contains(&password), "{log}");

        docker.run(&["stop", "--time", "20", &container]);
        let ended = docker.inspect(&container, "{{.State.ExitCode}} {{.State.OOMKilled}}");
        assert_eq!(ended, "0 false", "{}", docker.logs(&container));
    });
}

/// Nothing but one folder in memory can be written, and every secret is given: its own socket is there, and answers the
/// commands that `preStop` hooks run.
#[test]
fn it_is_drained_by_its_socket_where_no_data_can_be_written() {
    alone(async || {
        let docker = engine().await;
        let data = docker.folder();
        let volume = format!("{}:/var/lib/relayctl:ro", data.display());
        let container = docker.start_container(&[
            "--user",
            "1234567:0",
            "--read-only",
            "--cap-drop=ALL",
            "--tmpfs",
            "/tmp:rw,mode=1777",
            "--volume",
            &volume,
            "--env=TMPDIR=/tmp",
            "--env=RELAYCTL_SOURCE_PASSWORD=a-source-password",
            "--env=RELAYCTL_ADMIN_PASSWORD=an-admin-password",
            "--env=RELAYCTL_RELAY_PASSWORD=a-relay-password",
            "--env=RELAYCTL_JOIN_TOKEN=a-join-token-of-thirty-two-letters",
            IMAGE,
        ]);
        docker.healthy(&container).await;
        let relayctl =
            |words: &[&str]| docker.run(&[&["exec", &container, "/relayctl"], words].concat());
        assert!(relayctl(&["status"]).contains("waiting"));
        let said = relayctl(&["drain", "--local"]);
        assert!(said.contains("takes nobody new"), "{said}");
        let address = docker.address(&container, 8000);
        let mut peer = Peer::connect_to(address).await;
        let (head, body) = peer.ask("GET /readyz HTTP/1.0\r\n\r\n").await;
        assert_eq!(head.status, 503, "{body}");
        relayctl(&["resume", "--local"]);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
        docker.run(&["stop", "--time", "20", &container]);
        let ended = docker.inspect(&container, "{{.State.ExitCode}}");
        assert_eq!(ended, "0", "{}", docker.logs(&container));
    });
}
