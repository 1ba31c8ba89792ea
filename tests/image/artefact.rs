//! The image of these sources: built once by `deploy/docker/Dockerfile`, kept in `target/tmp`, loaded by every scene.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use crate::docker::{Docker, said_by};
use crate::files::builder;

/// As compose file and manifests call it.
pub const IMAGE: &str = concat!("relayctl/relayctl:", env!("CARGO_PKG_VERSION"));

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the Dockerfile lies.
const DOCKERFILE: &str = "deploy/docker/Dockerfile";

/// Names a file of `docker save` to hold to the same scenes: an image that was built on Alpine, say.
const GIVEN: &str = "RELAYCTL_TEST_IMAGE";

/// An engine that has the image.
pub async fn engine() -> Docker {
    let docker = Docker::start().await;
    let given = std::env::var_os(GIVEN).map(PathBuf::from);
    docker.load(&given.unwrap_or_else(|| image(&docker)));
    docker
}

/// The image as a file; built by this engine if no scene before did.
fn image(docker: &Docker) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = File::create(folder.join("image.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let file = folder.join(format!("image-{}.tar", digest()));
    if !file.is_file() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("image-") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        build(docker);
        let part = folder.join("image-part");
        docker.run(&["save", "--output", part.to_str().unwrap(), IMAGE]);
        fs::rename(&part, &file).unwrap();
    }
    file
}

/// Names the cargo profile to build with: `release` for the very image that is published.
const PROFILE: &str = "RELAYCTL_TEST_IMAGE_PROFILE";

/// The cargo profile of the image; `None` for an image that was given.
pub fn profile() -> Option<String> {
    if std::env::var_os(GIVEN).is_some() {
        return None;
    }
    Some(std::env::var(PROFILE).unwrap_or_else(|_| "image-test".into()))
}

fn build(docker: &Docker) {
    let begin = Instant::now();
    builder(docker, &base_image());
    println!("the builder: {:.0} s", begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    let mut build = docker.command(&["build", "--network", "none", "--tag", IMAGE]);
    let profile = profile().unwrap();
    build.args(["--build-arg", &format!("PROFILE={profile}"), "--file"]);
    build.arg(root().join(DOCKERFILE)).arg(root());
    let said = said_by(&mut build);
    assert!(said.contains("stand-in: apk"), "{said}");
    println!(
        "docker build with {profile}: {:.0} s",
        begin.elapsed().as_secs_f64()
    );
}

/// What the first stage stands on.
fn base_image() -> String {
    let text = fs::read_to_string(root().join(DOCKERFILE)).unwrap();
    let name = text.lines().find_map(|line| {
        let rest = line.strip_prefix("FROM ")?;
        rest.strip_suffix(" AS build").map(str::to_owned)
    });
    name.expect("a stage called `build`")
}

/// Of all that the binary is made of.
fn digest() -> String {
    let mut hash = Sha256::new();
    hash.update(said_by(Command::new("rustc").arg("--version")));
    hash.update(profile().unwrap());
    for name in ["Cargo.toml", "Cargo.lock", DOCKERFILE, "src", "templates"] {
        add(&mut hash, &root().join(name));
    }
    let digest = hash.finalize();
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

fn add(hash: &mut Sha256, path: &Path) {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        entries.iter().for_each(|entry| add(hash, entry));
    } else {
        hash.update(path.display().to_string());
        hash.update(fs::read(path).unwrap());
    }
}
