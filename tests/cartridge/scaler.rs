//! The autoscaler's rule, by the real `ruby`.

use crate::harness::program::{output_of, tool};
use crate::platform::source;

/// What the rule decides, look by look. Each row: the gears as `name:listeners` (`H` is the head, `!` drains), 100
/// listeners a gear, one second between looks.
async fn decided(calm: u32, dwell: u32, looks: &[&str]) -> Vec<String> {
    let looks: Vec<String> = looks.iter().map(|look| format!("'{look}'")).collect();
    let script = format!(
        "rule = Relayctl::Rule.new(100, {calm}, {dwell})\n\
         [{}].each_with_index do |look, now|\n\
           gears = look.split(' ').map {{ |text| name, count = text.sub('!', '').split(':'); \
             Relayctl::Gear.new(name, name == 'H', count.to_i, text.include?('!')) }}\n\
           puts((rule.decide(gears, now) || ['-']).join(' '))\n\
         end",
        looks.join(", ")
    );
    let mut ruby = tool("ruby", "ruby");
    ruby.arg("-r")
        .arg(source().join("usr/lib/scaler.rb"))
        .arg("-e")
        .arg(script);
    let text = String::from_utf8(output_of(ruby).await).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_gear_is_added_at_nine_tenths() {
    assert_eq!(decided(20, 600, &["H:89", "H:90"]).await, ["-", "add"]);
    assert_eq!(
        decided(20, 600, &["H:90 a:89", "H:90 a:90"]).await,
        ["-", "add"]
    );
}

#[tokio::test]
async fn the_newest_is_drained_and_taken_only_when_nobody_listens() {
    let looks = [
        "H:5 a:5 b:5",
        "H:5 a:5 b:5",
        "H:5 a:5 b:5",
        "H:5 a:5 b:5!",
        "H:5 a:6 b:1!",
        "H:5 a:6 b:0!",
        "H:5 a:6",
    ];
    assert_eq!(
        decided(3, 0, &looks).await,
        ["-", "-", "drain b", "-", "-", "remove b", "-"]
    );
}

#[tokio::test]
async fn one_busy_look_begins_the_quiet_anew() {
    let looks = ["H:5 a:5", "H:80 a:80", "H:5 a:5", "H:5 a:5"];
    assert_eq!(decided(2, 0, &looks).await, ["-", "-", "-", "drain a"]);
}

#[tokio::test]
async fn nothing_is_drained_soon_after_an_addition() {
    let looks = ["H:90", "H:9 a:9", "H:9 a:9", "H:9 a:9", "H:9 a:9"];
    assert_eq!(
        decided(1, 3, &looks).await,
        ["add", "-", "-", "drain a", "drain a"]
    );
}

#[tokio::test]
async fn an_audience_that_comes_back_keeps_its_gear() {
    assert_eq!(
        decided(1, 0, &["H:5 a:5", "H:5 a:5!", "H:88 a:5!"]).await,
        ["drain a", "-", "resume a"]
    );
}

#[tokio::test]
async fn the_head_is_never_taken() {
    assert_eq!(decided(1, 0, &["H:0", "H:0", "H:0"]).await, ["-", "-", "-"]);
}
