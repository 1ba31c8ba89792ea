//! `cartridge/pack`, and a cartridge that fetches its program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::gear::Gear;
use crate::harness::program::output_of;
use crate::platform::{source, yaml};

/// Stands for the program where nothing of it is run but its version.
const PROGRAM: &str = "#!/bin/sh\necho relayctl 0.1.0\n";

fn executable(file: &Path) {
    fs::write(file, PROGRAM).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

async fn pack(out: &Path, binary: &Path) -> (Vec<u8>, serde_json::Value) {
    let mut command = Command::new(source().join("pack"));
    command.args([
        "--url",
        "https://files.example.org/cart/relayctl-cartridge.tar.gz",
    ]);
    command.arg("--binary").arg(binary).arg("--out").arg(out);
    let said = String::from_utf8(output_of(command).await).unwrap();
    assert!(
        said.contains("rhc app-create APP https://files.example.org/cart/manifest.yml"),
        "{said}"
    );
    let archive = fs::read(out.join("relayctl-cartridge.tar.gz")).unwrap();
    (archive, yaml(&out.join("manifest.yml")))
}

#[tokio::test]
async fn an_archive_with_the_program_and_the_manifest_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("1"), folder.path().join("2"));
    let binary = folder.path().join("program");
    executable(&binary);
    let (archive, manifest) = pack(&one, &binary).await;
    assert_eq!(
        pack(&two, &binary).await.0,
        archive,
        "the same input, the same archive"
    );
    assert_eq!(
        manifest["Source-Url"],
        "https://files.example.org/cart/relayctl-cartridge.tar.gz"
    );
    let mut sum = Command::new("md5sum");
    sum.arg(one.join("relayctl-cartridge.tar.gz"));
    let sum = String::from_utf8(output_of(sum).await).unwrap();
    assert_eq!(manifest["Source-Md5"], sum.split(' ').next().unwrap());
    let unpacked = folder.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xzf")
        .arg(one.join("relayctl-cartridge.tar.gz"))
        .arg("-C")
        .arg(&unpacked);
    output_of(tar).await;
    assert_eq!(
        fs::read_to_string(unpacked.join("usr/bin/relayctl")).unwrap(),
        PROGRAM
    );
    for file in [
        "metadata/manifest.yml",
        "bin/control",
        "template/relayctl.yaml",
        "env/RELAYCTL_DATA_DIR.erb",
    ] {
        assert!(unpacked.join(file).is_file(), "{file}");
    }
    assert!(!unpacked.join("pack").exists());
}

#[tokio::test]
async fn a_program_is_fetched_only_with_its_checksum() {
    let node = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/relayctl", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 2000];
            let _ = stream.read(&mut head).await;
            let length = PROGRAM.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{PROGRAM}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let right: String = Sha256::digest(PROGRAM)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let gear = Gear::new(
        node.path(),
        "5430000000000000000000aa",
        &[("OPENSHIFT_APP_UUID", "other")],
    );
    let mut copy = Command::new("cp");
    copy.arg("-R").arg(source()).arg(gear.cartridge());
    output_of(copy).await;
    gear.set(
        "OPENSHIFT_SCS_DIR",
        &format!("{}/", gear.cartridge().display()),
    );
    let setup = async || gear.script("bin/setup", &["--version", "0.1"]).await;
    let none = setup().await;
    assert_eq!(none.code, 1);
    assert!(none.out.contains("cartridge/pack"), "{none:?}");
    gear.set("OPENSHIFT_SCS_BINARY_URL", &url);
    let unchecked = setup().await;
    assert_eq!(unchecked.code, 1);
    assert!(
        unchecked.out.contains("OPENSHIFT_SCS_BINARY_SHA256"),
        "{unchecked:?}"
    );
    gear.set("OPENSHIFT_SCS_BINARY_SHA256", &"0".repeat(64));
    let wrong = setup().await;
    assert_eq!(wrong.code, 1);
    assert!(wrong.out.contains(&right), "{wrong:?}");
    assert!(!gear.cartridge().join("run/bin/relayctl").exists());
    gear.set("OPENSHIFT_SCS_BINARY_SHA256", &right);
    setup().await.fine();
    assert_eq!(
        fs::read_to_string(gear.cartridge().join("run/bin/relayctl")).unwrap(),
        PROGRAM
    );
}
