//! Children that hang, and children on a machine whose ports are in use.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::engine::{children, engine_is, icecast_child, icecast_primary, shoutcast_primary};
use crate::harness::net::{Net, Place};
use crate::harness::node::Plan;
use crate::harness::program::{Program, tool};
use crate::harness::source::{Source, listen};
use crate::harness::{eventually, within};

/// Ten times the 15 s after which a child hangs.
const HANG: Duration = Duration::from_secs(150);

#[tokio::test]
async fn a_child_that_hangs_is_killed_and_another_carries_on() {
    let mut node = icecast_primary().start().await;
    engine_is(&node, "up").await;
    let source = Source::start(&node, "/live.mp3").await;
    let pid = icecast_child(&node).await;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    within(HANG, "another icecast2 runs", async || {
        let (head, body) = node.get("/health").await;
        assert_eq!(head.status, 200, "{body}");
        let found = children(&node);
        let other = found.iter().any(|(new, _)| *new != pid);
        (other && found.iter().all(|(new, _)| *new != pid)).then_some(())
    })
    .await;
    engine_is(&node, "up").await;
    let log = node.log();
    assert!(
        log.contains("`icecast2` answered nothing for 15s, and was killed"),
        "{log}"
    );
    drop(source);
    let _source = Source::start(&node, "/live.mp3").await;
    let (mut listener, _) = listen(node.port, "/live.mp3").await;
    listener.exact(10_000).await;
    assert!(node.terminate().await.success());
}

/// Two hundred ports for outgoing connections, every even one of them taken.
async fn busy(net: &mut Net) -> (Place, Program) {
    const SCRIPT: &str = "\
import socket, signal
open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('40000 40199')
server = socket.create_server(('127.0.0.1', 5000), backlog=200)
held = [socket.create_connection(('127.0.0.1', 5000)) for _ in range(100)]
odd = sum(s.getsockname()[1] % 2 for s in held)
print('busy:', odd, 'odd', flush=True)
signal.pause()
";
    let place = net.place("busy");
    let mut python = tool("python3", "python3");
    python.args(["-c", SCRIPT]);
    let program = Program::start(place.inside(&python));
    let said = eventually("the ports are taken", async || {
        Some(program.stdout()).filter(|said| said.ends_with('\n'))
    })
    .await;
    assert_eq!(said, "busy: 0 odd\n");
    (place, program)
}

/// Its child comes up, and again after it was killed.
async fn comes_back(plan: Plan, place: &Place) {
    let mut node = plan.at(place).start().await;
    engine_is(&node, "up").await;
    let (pid, _) = children(&node).pop().expect("a child");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    eventually("another child runs", async || {
        let (again, _) = children(&node).pop()?;
        (again != pid).then_some(())
    })
    .await;
    engine_is(&node, "up").await;
    let log = node.log();
    assert!(!log.contains("no free port"), "{log}");
    assert!(node.terminate().await.success());
}

#[tokio::test]
async fn a_child_comes_back_on_a_machine_with_many_connections() {
    let mut net = Net::new();
    let (place, _busy) = busy(&mut net).await;
    comes_back(icecast_primary(), &place).await;
    comes_back(shoutcast_primary(), &place).await;
}
