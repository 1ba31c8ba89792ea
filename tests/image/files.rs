//! Images out of what is installed here: packages of Debian with all that they depend on, and files of our own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::docker::{Docker, said_by};
use crate::harness::program::tool;

/// Folders that no program needs.
const READING: [&str; 6] = [
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/locale",
    "/usr/share/info",
    "/usr/share/lintian",
    "/usr/share/bug",
];

/// What an image will have.
pub struct Files {
    /// Absolute, and not through a link.
    paths: BTreeSet<PathBuf>,
    own: TempDir,
}

impl Files {
    /// These packages, as they are installed, with what they depend on; and an empty `/tmp`.
    pub fn of_packages(names: &[&str]) -> Self {
        let own = tempfile::tempdir().unwrap();
        let mut files = Self {
            paths: BTreeSet::new(),
            own,
        };
        for link in ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
            files.add(Path::new(link));
        }
        let mut list = tool("dpkg-query", "dpkg");
        list.arg("--listfiles").args(closure(names));
        for line in said_by(&mut list).lines() {
            let skipped = READING.iter().any(|folder| line.starts_with(folder));
            if line.starts_with('/') && !skipped {
                files.add(Path::new(line));
            }
        }
        files.folder("tmp", 0o1777);
        files
    }

    /// A file or a link of this machine. Folders come with what is in them.
    pub fn add(&mut self, path: &Path) {
        let Some((folder, name)) = path.parent().zip(path.file_name()) else {
            return;
        };
        let Ok(folder) = folder.canonicalize() else {
            return;
        };
        let path = folder.join(name);
        match path.symlink_metadata() {
            Ok(meta) if !meta.is_dir() => self.paths.insert(path),
            _ => false,
        };
    }

    /// Every file below a folder of this machine for which `wanted` holds.
    pub fn add_below(&mut self, folder: &Path, wanted: impl Fn(&Path) -> bool + Copy) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                self.add_below(&entry.path(), wanted);
            } else if wanted(&entry.path()) {
                self.add(&entry.path());
            }
        }
    }

    /// A folder of the image's own.
    pub fn folder(&self, path: &str, mode: u32) {
        let path = self.own.path().join(path);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A file of the image's own.
    pub fn file(&self, path: &str, text: &str, mode: u32) {
        let path = self.own.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Makes the image.
    pub fn image(&self, docker: &Docker, name: &str, changes: &[&str]) {
        let list = docker.folder().join("list");
        let lines = self.paths.iter().map(|path| {
            let path = path.strip_prefix("/").unwrap();
            format!("{}\n", path.display())
        });
        fs::write(&list, lines.collect::<String>()).unwrap();
        let mut archive = tool("tar", "tar");
        archive.args(["--create", "--file=-", "--owner=0", "--group=0"]);
        archive.arg("-C").arg(self.own.path()).arg(".");
        archive.args(["-C", "/", "--no-recursion", "--verbatim-files-from"]);
        archive.arg("--files-from").arg(list);
        docker.import(name, archive, changes);
    }
}

/// The packages and all that they depend on, as far as installed.
fn closure(names: &[&str]) -> BTreeSet<String> {
    let mut query = tool("dpkg-query", "dpkg");
    query.args([
        "--show",
        "--showformat=${Package}\t${Provides}\t${Pre-Depends}, ${Depends}\n",
    ]);
    let said = said_by(&mut query);
    let (mut needs, mut providers) = (BTreeMap::new(), BTreeMap::new());
    for line in said.lines() {
        let mut parts = line.split('\t');
        let mut next = || parts.next().unwrap_or_default();
        let (package, provides, depends) = (next(), next(), next());
        needs.insert(package, depends);
        for name in provides.split(',').map(bare) {
            providers.entry(name).or_insert(package);
        }
    }
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = names.to_vec();
    while let Some(name) = open.pop() {
        let package = match needs.contains_key(name) {
            true => name,
            false => providers.get(name).copied().unwrap_or_default(),
        };
        assert!(
            !names.contains(&name) || !package.is_empty(),
            "install Debian's package `{name}`"
        );
        if !package.is_empty() && found.insert(package.to_owned()) {
            let all = needs[package].split([',', '|']);
            open.extend(all.map(bare).filter(|name| !name.is_empty()));
        }
    }
    found
}

/// `libc6:any (>= 2.36)` is `libc6`.
fn bare(text: &str) -> &str {
    let end = text.trim().find([' ', ':', '(']);
    let text = text.trim();
    &text[..end.unwrap_or(text.len())]
}

/// `rust:1.95-alpine` for our Dockerfile: this machine's Rust and what it has fetched of our dependencies, Debian's
/// linker and C library, and an `apk` that has nothing to do.
pub fn builder(docker: &Docker, name: &str) {
    let mut files = Files::of_packages(&["dash", "coreutils", "sed", "gcc", "libc6-dev"]);
    for path in [
        "/bin/sh",
        "/usr/bin/cc",
        "/etc/alternatives/cc",
        "/etc/ssl/certs/ca-certificates.crt",
    ] {
        files.add(Path::new(path));
    }
    files.file(
        "usr/local/bin/apk",
        "#!/bin/sh\n# Stands in for Alpine's package manager: the packages are there.\necho \"stand-in: apk $*\"\n",
        0o755,
    );
    let toolchain = said_by(Command::new("rustc").args(["--print", "sysroot"]));
    let toolchain = Path::new(&toolchain);
    files.add(&toolchain.join("bin/cargo"));
    files.add(&toolchain.join("bin/rustc"));
    files.add_below(&toolchain.join("lib"), |_| true);
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cargo"),
        PathBuf::from,
    );
    let home = home.canonicalize().unwrap();
    let locked = locked_crates();
    files.add_below(&home.join("registry/cache"), |path| {
        let name = path.file_name().unwrap().to_string_lossy();
        locked.contains(name.as_ref())
    });
    files.add_below(&home.join("registry/index"), |_| true);
    let path = format!(
        "ENV PATH={}/bin:/usr/local/bin:/usr/bin:/bin",
        toolchain.display()
    );
    let cargo_home = format!("ENV CARGO_HOME={} CARGO_NET_OFFLINE=true", home.display());
    files.image(docker, name, &[&path, &cargo_home]);
}

/// `serde-1.0.0.crate` for each package of the lock file.
fn locked_crates() -> BTreeSet<String> {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = fs::read_to_string(lock).unwrap();
    let value = |part: &str, key: &str| {
        let (_, rest) = part.split_once(&format!("{key} = \""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let crates = lock.split("[[package]]").skip(1).filter_map(|part| {
        let (name, version) = (value(part, "name")?, value(part, "version")?);
        Some(format!("{name}-{version}.crate"))
    });
    crates.collect()
}
