//! What is said of files that lead from one step to another.

use super::accept::NAMED;
use crate::digest::DigestSet;
use crate::evidence::files::Edge;
use crate::verdict::{Check, CheckKind};

/// The check that fails where files of `step` that come from `from` are not as that left them.
pub(super) fn edge_check(step: &str, from: &str, edge: &Edge, taker: &str, giver: &str) -> Option<Check> {
    let expected = format!("files as `{from}` left them (steps.{step}.artifactsFrom, {giver})");
    let fix = format!(
        "run `{step}` again on the files of that very run of `{from}`, with nothing in between that changes them"
    );
    if edge.different_total > 0 {
        let named: Vec<String> = edge
            .different
            .iter()
            .take(NAMED)
            .map(|one| format!("{} was {} and is {}", one.path, short(&one.expected), short(&one.found)))
            .collect();
        let more = edge.different_total - named.len();
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let found =
            format!("{} of {} shared files differ: {}{more}", edge.different_total, edge.shared, named.join("; "));
        return Some(Check::failed(CheckKind::Artifacts, expected, found).at(taker).fix(fix));
    }
    if edge.shared == 0 {
        let found = "no file of the one is a file of the other";
        return Some(Check::failed(CheckKind::Artifacts, expected, found).at(taker).fix(fix));
    }
    None
}

/// A digest set in one short phrase.
fn short(digests: &DigestSet) -> String {
    let best = digests.0.iter().find(|(name, _)| *name == "sha256").or_else(|| digests.0.iter().next());
    best.map_or_else(|| "nothing".to_owned(), |(name, value)| format!("{name}:{}", value.get(..12).unwrap_or(value)))
}
