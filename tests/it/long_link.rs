//! A long link: what one send after a pause costs there. Loopback cannot show it.
//!
//! `long_link.py` holds the link: two network namespaces, a TUN device in each, and a program between them.

use serde::Deserialize;

use crate::harness::program::{output_of, tool};

/// One send as it went over the link.
#[derive(Debug, Deserialize)]
struct Sending {
    bytes: u64,
    /// Parts that left with a wait for acknowledgements between them.
    flights: u32,
    /// From the first byte's leaving to the last one's arrival.
    ms: Option<f64>,
}

async fn over_the_link(one_way: &str, loss: &str, sends: &str, idle: &str) -> Vec<Sending> {
    let mut command = tool("python3", "python3");
    command.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/long_link.py"
    ));
    command.arg(env!("CARGO_BIN_EXE_relayctl"));
    command.args([one_way, loss, sends, idle, "reno"]);
    let text = String::from_utf8(output_of(command).await).unwrap();
    let sendings: Vec<Sending> = serde_json::from_str(text.trim()).unwrap();
    assert!(!sendings.is_empty());
    sendings
}

/// Ten segments of 1,448 bytes: what any connection may send at once after a pause.
const TEN_SEGMENTS: u64 = 10 * 1_448;

#[tokio::test]
async fn a_send_after_a_pause_costs_one_round_trip_whatever_the_machine_is_set_to() {
    for idle in ["1", "0"] {
        let sendings = over_the_link("0.1", "0", "6", idle).await;
        println!("tcp_slow_start_after_idle={idle}: {sendings:?}");
        // A turn is a bit below that. On a machine that is busy elsewhere one may come late and find more.
        let turns = sendings.iter().filter(|one| one.bytes <= TEN_SEGMENTS);
        let flights: Vec<u32> = turns.map(|one| one.flights).collect();
        assert!(flights.len() * 2 > sendings.len(), "{sendings:?}");
        assert!(flights.iter().all(|count| *count == 1), "{sendings:?}");
        let most = sendings.iter().map(|one| one.bytes).max();
        assert!(
            most > Some(9 * 1_448),
            "no whole turn was seen: {sendings:?}"
        );
    }
}

#[tokio::test]
async fn with_loss_every_send_arrives_and_the_distribution_is_printed() {
    let sendings = over_the_link("0.025", "0.01", "20", "1").await;
    let mut times: Vec<f64> = sendings.iter().filter_map(|one| one.ms).collect();
    times.sort_by(f64::total_cmp);
    assert!(times.len() + 1 >= sendings.len(), "lost: {sendings:?}");
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!(
        "1 % loss, 50 ms: {} sends, ms: least {:.0}, median {:.0}, p90 {:.0}, most {:.0}",
        times.len(),
        at(0),
        at(50),
        at(90),
        at(100)
    );
}
