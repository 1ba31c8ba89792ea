//! Machines of their own: a network namespace for each node, joined by a switch, with links that can be cut,
//! stalled, or made slow and lossy.
//!
//! Every namespace and interface has a name that no other has (the process's id is in it), and is taken away by
//! that name when the net is dropped. Needs root, and Debian's `iproute2` and `python3`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::eventually;
use super::program::{Program, tool};

/// See the module.
pub struct Net {
    tag: String,
    third: u8,
    second: u8,
    spaces: Vec<String>,
    places: Vec<Place>,
    next: u8,
}

/// One machine's place in the net.
#[derive(Debug, Clone)]
pub struct Place {
    name: String,
    /// The namespace.
    pub space: String,
    /// Its address.
    pub address: IpAddr,
    switch: String,
    port: String,
}

/// A place whose link takes time and loses frames.
pub struct SlowLink {
    /// The machine.
    pub place: Place,
    file: PathBuf,
    _folder: TempDir,
    _program: Program,
}

fn ip(words: &str) -> std::process::Output {
    let mut command = tool("ip", "iproute2");
    command.args(words.split_whitespace());
    command.output().unwrap()
}

/// `link.py`, here.
fn link_here() -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/link.py");
    let mut python = tool("python3", "python3");
    python.arg(script);
    python
}

/// The same in a namespace.
fn link(space: &str) -> Command {
    let here = link_here();
    let mut command = tool("ip", "iproute2");
    command.args(["netns", "exec", space]);
    command.arg(here.get_program()).args(here.get_args());
    command
}

/// Runs `ip` with these words.
#[track_caller]
fn must(words: &str) {
    let output = ip(words);
    assert!(
        output.status.success(),
        "`ip {words}` (it needs root): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Net {
    /// A switch, and this process's own way into it.
    pub fn new() -> Self {
        static NETS: AtomicU32 = AtomicU32::new(0);
        let (pid, net) = (std::process::id(), NETS.fetch_add(1, Ordering::Relaxed));
        let number = pid.wrapping_mul(16).wrapping_add(net);
        let mut net = Self {
            tag: format!("rf{pid:x}{net:x}"),
            second: u8::try_from(200 + number / 250 % 50).unwrap(),
            third: u8::try_from(number % 250).unwrap(),
            spaces: Vec::new(),
            places: Vec::new(),
            next: 2,
        };
        let switch = net.space("sw");
        must(&format!("-n {switch} link add br0 type bridge"));
        must(&format!("-n {switch} link set br0 up"));
        let tag = net.tag.clone();
        must(&format!(
            "link add {tag}h type veth peer name host netns {switch}"
        ));
        must(&format!("-n {switch} link set dev host master br0 up"));
        must(&format!("addr add {}/24 dev {tag}h", net.address(1)));
        must(&format!("link set {tag}h up"));
        // Else a slow link would carry our frames with checksums that somebody was still to fill in.
        let plain = link_here().arg(format!("{tag}h")).status();
        assert!(plain.unwrap().success());
        net
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, self.third, last)
    }

    fn space(&mut self, name: &str) -> String {
        let space = format!("{}-{name}", self.tag);
        must(&format!("netns add {space}"));
        self.spaces.push(space.clone());
        must(&format!("-n {space} link set lo up"));
        space
    }

    fn switch(&self) -> String {
        self.spaces[0].clone()
    }

    /// A machine of its own, called so in the names of its parts (a few letters).
    pub fn place(&mut self, name: &str) -> Place {
        let port = format!("p-{name}");
        let place = self.unplugged(name, &port);
        must(&format!(
            "-n {} link set {port} master br0 up",
            place.switch
        ));
        place
    }

    /// A machine behind a link whose delay and loss can be set; first it has neither.
    pub async fn slow_place(&mut self, name: &str) -> SlowLink {
        let (near, far, port) = (
            format!("q-{name}"),
            format!("r-{name}"),
            format!("p-{name}"),
        );
        let mut place = self.unplugged(name, &near);
        // What is pulled or taken from the switch is the far end: the wire in between goes on.
        place.port.clone_from(&port);
        if let Some(known) = self.places.last_mut() {
            known.port.clone_from(&port);
        }
        let switch = &place.switch;
        must(&format!(
            "-n {switch} link add {far} type veth peer name {port}"
        ));
        must(&format!("-n {switch} link set {port} master br0 up"));
        must(&format!("-n {switch} link set {far} up"));
        must(&format!("-n {switch} link set {near} up"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("link");
        std::fs::write(&file, "0 0").unwrap();
        let mut command = link(switch);
        command.args([&near, &far]).arg(&file);
        let program = Program::start(command);
        eventually("the slow link is up", async || {
            program.stdout().contains("link: up").then_some(())
        })
        .await;
        SlowLink {
            place,
            file,
            _folder: folder,
            _program: program,
        }
    }

    fn unplugged(&mut self, name: &str, port: &str) -> Place {
        let (space, switch) = (self.space(name), self.switch());
        let address = self.address(self.next);
        self.next += 1;
        must(&format!(
            "link add e0 netns {space} type veth peer name {port} netns {switch}"
        ));
        must(&format!("-n {space} addr add {address}/24 dev e0"));
        must(&format!("-n {space} link set e0 up"));
        assert!(link(&space).arg("e0").status().unwrap().success());
        let place = Place {
            name: name.to_owned(),
            space,
            address: IpAddr::V4(address),
            switch,
            port: port.to_owned(),
        };
        self.places.push(place.clone());
        place
    }

    /// The machine of that name.
    pub fn find(&self, name: &str) -> Place {
        let found = self.places.iter().find(|place| place.name == name);
        found
            .unwrap_or_else(|| panic!("no machine `{name}`"))
            .clone()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // With the switch goes our own end of its link.
        for space in self.spaces.iter().rev() {
            ip(&format!("netns del {space}"));
        }
        ip(&format!("link del {}h", self.tag));
    }
}

impl Place {
    /// `command`, run in this place: it becomes the program, under the same process id.
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = tool("ip", "iproute2");
        inside.args(["netns", "exec", &self.space]);
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// The plug is pulled: the switch's port is down.
    pub fn cut(&self) {
        must(&format!("-n {} link set {} down", self.switch, self.port));
    }

    /// And put back.
    pub fn mend(&self) {
        must(&format!("-n {} link set {} up", self.switch, self.port));
    }

    /// Nothing of this place reaches that one any more; all others are reached as ever.
    pub fn lose(&self, other: &Self) {
        must(&format!(
            "-n {} route add blackhole {}/32",
            self.space, other.address
        ));
    }

    /// And again.
    pub fn regain(&self, other: &Self) {
        must(&format!(
            "-n {} route del blackhole {}/32",
            self.space, other.address
        ));
    }

    /// Frames vanish both ways, and no interface says so.
    pub fn stall(&self) {
        must(&format!(
            "-n {} link set {} nomaster",
            self.switch, self.port
        ));
    }

    /// And come again.
    pub fn flow(&self) {
        must(&format!(
            "-n {} link set {} master br0",
            self.switch, self.port
        ));
    }
}

impl SlowLink {
    /// From now on every frame takes so long, and so many in a thousand are lost; each way.
    pub fn set(&self, millis: u32, permille: u32) {
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{millis} {permille}")).unwrap();
        std::fs::rename(&next, &self.file).unwrap();
    }
}
