//! The rule between the fallbacks of several mounts: they have an end.

use super::reader::Reader;
use super::trees::Mount;

/// Fallbacks that lead back to where they began have no end. `places` are the keys of `mounts`.
pub(super) fn refuse_circles(mounts: &[Mount], places: &[String], reader: &mut Reader<'_>) {
    let next = |at: usize| -> Option<usize> {
        let fallback = mounts.get(at)?.fallback.as_ref()?;
        mounts.iter().position(|mount| mount.id == *fallback)
    };
    for begin in 0..mounts.len() {
        let mut circle = vec![begin];
        while let Some(at) = circle.last().copied().and_then(next) {
            if circle.contains(&at) {
                break;
            }
            circle.push(at);
        }
        let closes = circle.last().copied().and_then(next) == Some(begin);
        // Each circle is told once, from its first entry. One that is its own fallback is told already.
        if circle.len() < 2 || !closes || circle.iter().any(|at| *at < begin) {
            continue;
        }
        let keys = circle.iter().filter_map(|at| places.get(*at));
        let keys: Vec<String> = keys.map(|place| format!("`{place}.fallback`")).collect();
        let ids = circle.iter().filter_map(|at| mounts.get(*at));
        let ids: Vec<String> = ids.map(|mount| mount.id.to_string()).collect();
        let (Some(place), Some(first)) = (places.get(begin), ids.first()) else {
            continue;
        };
        reader.problem(
            &format!("{place}.fallback"),
            format!(
                "is a circle of {}: {} → {first}",
                keys.join(" and "),
                ids.join(" → ")
            ),
            "leave one of them out",
        );
    }
}
