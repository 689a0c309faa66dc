//! The command-run entry: what was run, how it ended, what it printed, and how much of it could be observed.
//!
//! Source: wire-formats §3.3. What is ours alone stands in its `affiant` member, which both peers ignore; where no command
//! was run it stands in the collection itself.

use affiant_supervise::{self as supervise, Ending};
use serde_json::{Value, json};

use super::{Outcome, is_digest};
use crate::form::Form;
use crate::redact::{Cut, Redactor};
use crate::snapshot::Omission;

/// Bytes of text kept from the beginning of each stream, and as many from its end.
pub const KEPT_TEXT: usize = 64 * 1024;
/// How many paths a list in the `affiant` member holds at most. Its length is always told.
const MAX_LISTED: usize = 10_000;

/// How much of the command's work could be observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservationLevel {
    /// The command did the work below us: its inputs and outputs in the working directory were seen.
    Command,
    /// The command merely talked to a daemon that did the work elsewhere.
    ClientOnly,
}

/// The observation level and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The level.
    pub level: ObservationLevel,
    /// Why, for people.
    pub reason: String,
}

impl ObservationLevel {
    /// The word in the evidence.
    pub const fn wire_name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::ClientOnly => "client-only",
        }
    }
}

/// What stands in the entry beside the ending.
pub(super) struct Facts<'a> {
    pub(super) command: &'a [std::ffi::OsString],
    pub(super) outcome: &'a Outcome,
    pub(super) observation: &'a Observation,
    pub(super) withheld: &'a [String],
    pub(super) snapshot_method: &'a str,
    pub(super) omissions: Vec<&'a Omission>,
    pub(super) left_out: Vec<Value>,
    pub(super) links: Vec<(&'a str, &'a str)>,
    pub(super) deleted: Vec<&'a str>,
    pub(super) rewritten: Vec<&'a str>,
    pub(super) selection: Value,
}

/// Composes the predicate. Texts are masked here already; `pointer` is where the predicate will stand, and `masked`
/// receives the places.
pub(super) fn predicate(
    facts: &Facts<'_>,
    form: Form,
    redactor: &Redactor,
    pointer: &str,
    masked: &mut Vec<String>,
) -> Value {
    let cmd: Vec<String> = facts
        .command
        .iter()
        .enumerate()
        .map(|(at, word)| {
            let word = word.to_string_lossy();
            let shown = redactor.redact_text(&word);
            if shown != word {
                masked.push(format!("{pointer}/cmd/{at}"));
            }
            shown.into_owned()
        })
        .collect();
    let mut predicate = match form {
        Form::Portable => json!({ "cmd": cmd }),
        // v0.2 without tracing: nothing stands in its lists.
        Form::Cilock => json!({
            "_meta": {
                "version": "v0.2",
                "counts": { "processes": 0, "uniquePaths": 0, "uniqueDigests": 0, "uniqueComms": 0 },
            },
            "digests": null,
            "paths": null,
            "comms": null,
            "processes": [],
            "cmd": cmd,
        }),
    };
    let mut ours = json!({
        "observation": { "level": facts.observation.level.wire_name(), "reason": facts.observation.reason },
        "ending": ending(facts.outcome, redactor),
    });
    if let Outcome::Ran(ran) = facts.outcome {
        for (name, stream) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
            let (text, left_out) = text(stream, redactor);
            if let Some(text) = text {
                if text.masked {
                    masked.push(format!("{pointer}/{name}"));
                }
                predicate[name] = Value::String(text.text);
            }
            ours[name] = json!({
                "sha256": hex::encode(stream.sha256),
                "length": stream.length,
                "leftOut": left_out,
            });
        }
        ours["terminal"] = Value::Bool(ran.terminal);
        if ran.left_behind {
            ours["leftBehind"] = Value::Bool(true);
        }
    }
    // cilock leaves a 0 out. Here it is always written: what does not say how the command ended is no success.
    predicate["exitcode"] = json!(facts.outcome.code());
    add_snapshot(&mut ours, facts);
    mask(&mut ours, redactor, &format!("{pointer}/affiant"), masked);
    predicate["affiant"] = ours;
    predicate
}

/// What is known where no command was run, for the collection's own `affiant` member at `pointer`.
pub(super) fn without_command(
    facts: &Facts<'_>,
    redactor: &Redactor,
    pointer: &str,
    masked: &mut Vec<String>,
) -> Value {
    let mut ours = json!({ "ending": ending(facts.outcome, redactor) });
    add_snapshot(&mut ours, facts);
    mask(&mut ours, redactor, pointer, masked);
    ours
}

/// What the snapshots did not record, and what they found beside the files.
fn add_snapshot(ours: &mut Value, facts: &Facts<'_>) {
    ours["snapshot"] = json!({ "method": facts.snapshot_method });
    if let Value::Object(selection) = &facts.selection
        && !selection.is_empty()
    {
        ours["snapshot"]["globs"] = facts.selection.clone();
    }
    list(ours, "omissions", &facts.omissions, |omission| serde_json::to_value(omission).unwrap_or_default());
    list(ours, "links", &facts.links, |(path, text)| json!({ "path": path, "link": text }));
    if !facts.left_out.is_empty() {
        ours["leftOut"] = Value::Array(facts.left_out.clone());
    }
    for (name, paths) in [("deleted", &facts.deleted), ("rewritten", &facts.rewritten)] {
        list(ours, name, paths, |path| Value::String((*path).to_owned()));
    }
    if !facts.withheld.is_empty() {
        ours["withheldVariables"] = json!(facts.withheld);
    }
}

/// Masks secrets in our own member.
fn mask(ours: &mut Value, redactor: &Redactor, pointer: &str, masked: &mut Vec<String>) {
    // Paths, link texts, globs and reasons may all hold a secret.
    let keep = |place: &str, value: &Value| is_digest(place, value) || is_harmless_name(place, value, redactor);
    redactor.redact_json(ours, pointer, &keep, masked);
}

/// Whether a value is the path of a file that the rule for names lets stand: it is shown in the lists as in the maps of
/// materials and products.
fn is_harmless_name(pointer: &str, value: &Value, redactor: &Redactor) -> bool {
    let mut members = pointer.rsplit('/');
    let is_path = match members.next() {
        Some("path") => members.nth(1).is_some_and(|list| matches!(list, "links" | "omissions")),
        Some(_) => members.next().is_some_and(|list| matches!(list, "deleted" | "rewritten")),
        None => false,
    };
    is_path && value.as_str().is_some_and(|path| !redactor.hits_name(path.as_bytes()))
}

fn list<T>(ours: &mut Value, name: &str, items: &[T], mut show: impl FnMut(&T) -> Value) {
    if items.is_empty() {
        return;
    }
    ours[name] = items.iter().take(MAX_LISTED).map(&mut show).collect();
    if items.len() > MAX_LISTED {
        ours[format!("{name}Total")] = json!(items.len());
    }
}

fn ending(outcome: &Outcome, redactor: &Redactor) -> Value {
    match outcome {
        Outcome::NoCommand => json!({ "kind": "none" }),
        Outcome::NotStarted(error) => {
            json!({ "kind": "not-started", "reason": redactor.redact_text(&super::not_started(error)) })
        }
        Outcome::Ran(ran) => match &ran.ending {
            Ending::Exited(code) => json!({ "kind": "exited", "code": code }),
            Ending::Signalled { signal, core } => json!({ "kind": "signalled", "signal": signal, "core": core }),
            Ending::TimedOut { .. } => json!({ "kind": "timed-out" }),
        },
    }
}

struct Text {
    text: String,
    masked: bool,
}

/// The kept text of a stream, secrets masked, and the number of bytes between head and tail that are not kept.
fn text(stream: &supervise::Stream, redactor: &Redactor) -> (Option<Text>, u64) {
    if stream.length == 0 {
        return (None, 0);
    }
    let kept = (stream.head.len() + stream.tail.len()) as u64;
    if kept >= stream.length {
        let whole = [stream.head.as_slice(), stream.tail.as_slice()].concat();
        let shown = redactor.redact_bytes(&whole);
        let masked = *shown != *whole;
        return (Some(Text { text: String::from_utf8_lossy(&shown).into_owned(), masked }), 0);
    }
    let head = redactor.redact_cut(&stream.head, Cut { before: false, after: true });
    let tail = redactor.redact_cut(&stream.tail, Cut { before: true, after: false });
    let masked = *head != *stream.head || *tail != *stream.tail;
    let left_out = stream.length - kept;
    let text = format!(
        "{}\n[affiant: text left out here; the digest covers all {} bytes]\n{}",
        String::from_utf8_lossy(&head),
        stream.length,
        String::from_utf8_lossy(&tail)
    );
    (Some(Text { text, masked }), left_out)
}
