//! A verdict for people at a terminal or in a log: the answer, what failed and what to do, what holds, and whom was
//! trusted why.

use affiant_core::verdict::{Answer, Candidate, Check, Outcome, Part, Verdict};

use super::reasons::{Group, Reason, advice, complaint, listed, reasons};
use super::{artifacts, counted, image_phrase, mode_note, word};
use crate::cli::output::one_line;

/// Width that text is wrapped at, in characters. Words are not broken: paths and digests can be copied.
const WIDTH: usize = 96;
/// Lines of one list; the rest is counted.
const LINES: usize = 40;
/// Widest column of kinds, in characters.
const MAX_LABEL: usize = 20;
/// Names within a line; the rest is counted.
const NAMES: usize = 4;

/// The whole verdict, in lines that end with a break.
pub(crate) fn render(verdict: &Verdict) -> String {
    let mut page = Page::default();
    head(&mut page, verdict);
    let reasons = reasons(verdict);
    if !reasons.is_empty() {
        page.heading("What failed");
        let numbered: Vec<_> = reasons.iter().enumerate().collect();
        page.list(&numbered, |page, (number, reason)| block(page, number + 1, reason));
    } else if verdict.answer != Answer::Passed {
        page.heading("What failed");
        page.wrapped("  ", 4, "no check says what: please report this, with the verdict as JSON");
    }
    if verdict.answer == Answer::NoEvidence {
        looked_at(&mut page, verdict);
        holds(&mut page, verdict);
    } else {
        holds(&mut page, verdict);
        looked_at(&mut page, verdict);
    }
    trust(&mut page, verdict);
    if !verdict.notes.is_empty() {
        page.heading("Notes");
        page.list(&verdict.notes, |page, note| page.wrapped("  - ", 4, note));
    }
    page.0
}

fn head(page: &mut Page, verdict: &Verdict) {
    let named = artifacts(verdict);
    let policy = format!("under policy {}", verdict.policy.source);
    let about = if named.is_empty() { policy } else { format!("{named} {policy}") };
    page.wrapped("", 4, &format!("{}: {about}", word(verdict.answer).to_uppercase()));
    if let Some(note) = mode_note(verdict) {
        page.wrapped("", 4, &note);
    }
}

/// One reason in lines, without what it is about.
pub(super) fn reason(reason: &Reason<'_>) -> String {
    let mut page = Page::default();
    rows(&mut page, reason);
    page.0
}

/// One reason: what failed, and what to do about it.
fn block(page: &mut Page, number: usize, reason: &Reason<'_>) {
    if number > 1 {
        page.0.push('\n');
    }
    page.wrapped(&format!("  {number}. "), 5, &format!("{}: {}", reason.title(), complaint(reason.check.kind)));
    rows(page, reason);
}

fn rows(page: &mut Page, reason: &Reason<'_>) {
    page.check(reason.check);
    page.row("to do", &advice(reason.check));
    if let Some(candidate) = reason.nearest {
        page.row("evidence", &evidence(candidate));
        if !candidate.sha256.is_empty() {
            page.row("", &format!("payload sha256:{}", candidate.sha256));
        }
        let held: Vec<_> = held(candidate);
        if !held.is_empty() {
            page.row("", &format!("holds there: {}", held.join(", ")));
        }
    }
    if !reason.requires.is_empty() {
        page.row("asked for", &reason.requires.join("; "));
    }
    for check in &reason.also {
        page.row("also", &short_check(check));
    }
    let mut label = "others";
    for group in &reason.others {
        page.row(std::mem::take(&mut label), &other(group));
    }
    if reason.left_out > 0 {
        page.row(label, &format!("{} came less near and stay out of this verdict", more(reason.left_out)));
    }
}

/// The checks that a candidate passed.
fn held(candidate: &Candidate) -> Vec<&'static str> {
    candidate.checks.iter().filter(|check| check.outcome == Outcome::Passed).map(|check| check.kind.word()).collect()
}

fn more(count: usize) -> String {
    format!("{count} more candidate{}", if count == 1 { "" } else { "s" })
}

fn other(group: &Group<'_>) -> String {
    let names: Vec<_> = group.candidates.iter().map(|candidate| candidate.source.as_str()).collect();
    let names = listed(&names, NAMES);
    let count = group.candidates.len();
    match group.check {
        Some(_) if group.same => format!("{} for the same reason: {names}", more(count)),
        Some(check) => format!("{}: {}: {names}", counted(count, "candidate"), short_check(check)),
        None => format!("{} accepted: {names}", counted(count, "candidate")),
    }
}

/// A check in one line.
fn short_check(check: &Check) -> String {
    match (check.expected.is_empty(), check.found.is_empty()) {
        (false, false) => format!("{}: expected {}, found {}", complaint(check.kind), check.expected, check.found),
        (false, true) => format!("{}: expected {}", complaint(check.kind), check.expected),
        (true, false) => format!("{}: {}", complaint(check.kind), check.found),
        (true, true) => complaint(check.kind).to_owned(),
    }
}

fn evidence(candidate: &Candidate) -> String {
    let mut text = candidate.source.clone();
    if !candidate.signers.is_empty() {
        text = format!("{text}, signed by {}", listed(&candidate.signers, NAMES));
    }
    text
}

fn holds(page: &mut Page, verdict: &Verdict) {
    let mut lines: Vec<(&str, &str, String)> = Vec::new();
    let policy = &verdict.policy;
    if !policy.checks.iter().any(Check::has_failed) {
        let mut text = String::new();
        if !policy.signers.is_empty() {
            text = format!("signed by {}", listed(&policy.signers, NAMES));
        }
        if let Some(expires) = policy.expires {
            text = format!("{text}{}in force until {expires}", if text.is_empty() { "" } else { ", " });
        }
        if let Some(version) = policy.version {
            text = format!("{text}{}version {version}", if text.is_empty() { "" } else { ", " });
        }
        lines.push(("policy", &policy.source, text));
    }
    for (kind, parts) in [("step", &verdict.steps), ("external", &verdict.external)] {
        for part in parts {
            match part.outcome {
                Outcome::Passed => lines.push((kind, &part.name, accepted(part))),
                Outcome::NotReached => lines.push((kind, &part.name, "not looked at".to_owned())),
                Outcome::Failed => {}
            }
        }
    }
    for image in verdict.images.iter().filter(|image| !image.checks.iter().any(Check::has_failed)) {
        lines.push(("image", &image.name, image_phrase(image)));
    }
    for artifact in &verdict.artifacts {
        let text = match artifact.check.outcome {
            Outcome::Failed => continue,
            Outcome::NotReached => format!("{} not looked at", artifact.digest),
            Outcome::Passed if artifact.chain.is_empty() => format!("{} {}", artifact.digest, artifact.check.found),
            Outcome::Passed => {
                let chain: Vec<_> = artifact.chain.iter().map(|link| link.step.as_str()).collect();
                format!("{} by {}", artifact.digest, listed(&chain, NAMES))
            }
        };
        lines.push(("artifact", &artifact.name, text));
    }
    if !lines.is_empty() {
        page.heading("What holds");
        page.list(&lines, |page, (kind, name, text)| page.labelled(kind, 8, &format!("{name}: {text}")));
    }
}

fn accepted(part: &Part) -> String {
    let found: Vec<_> = part.candidates.iter().filter(|candidate| candidate.accepted).map(evidence).collect();
    match &found[..] {
        [] => part.checks.iter().map(|check| check.found.as_str()).collect::<Vec<_>>().join("; "),
        found => listed(found, NAMES),
    }
}

fn looked_at(page: &mut Page, verdict: &Verdict) {
    if verdict.sources.is_empty() {
        return;
    }
    page.heading("Where evidence was looked for");
    page.list(&verdict.sources, |page, source| {
        let text = format!(
            "{}: {}, {} about what was asked",
            source.name,
            counted(source.envelopes, "envelope"),
            source.related
        );
        page.wrapped("  ", 4, &text);
    });
    if verdict.walk.limit > 0 {
        let walk = verdict.walk;
        let stopped = if walk.rounds >= walk.limit { ": stopped at the limit" } else { "" };
        page.wrapped(
            "  ",
            4,
            &format!("back-references: {} of at most {}{stopped}", counted(walk.rounds, "round"), walk.limit),
        );
    }
}

fn trust(page: &mut Page, verdict: &Verdict) {
    page.heading("Trusted");
    let width = verdict.trust.iter().take(LINES).map(|input| input.what.chars().count()).max().unwrap_or(0).max(9);
    page.list(&verdict.trust, |page, input| {
        page.labelled(&input.what, width, &format!("{}, from {}", input.value, input.from));
    });
    // The command line says it as one of what is trusted, with where it came from.
    if !verdict.trust.iter().any(|input| input.what == "time") {
        page.labelled("judged at", width, &verdict.at.to_string());
    }
}

/// Text that grows by lines. Everything that it takes is a stranger's.
#[derive(Default)]
struct Page(String);

impl Page {
    fn heading(&mut self, text: &str) {
        self.0.push('\n');
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// `lead`, then `text` in lines of at most [`WIDTH`], further ones indented.
    fn wrapped(&mut self, lead: &str, indent: usize, text: &str) {
        let text = one_line(text);
        self.0.push_str(lead);
        let mut at = lead.chars().count();
        let mut first = true;
        for word in text.split(' ') {
            let length = word.chars().count();
            if !first && at + 1 + length > WIDTH {
                self.0.push('\n');
                self.0.push_str(&" ".repeat(indent));
                at = indent;
            } else if !first {
                self.0.push(' ');
                at += 1;
            }
            self.0.push_str(word);
            at += length;
            first = false;
        }
        self.0.truncate(self.0.trim_end_matches(' ').len());
        self.0.push('\n');
    }

    /// A line of a block: name and text.
    fn row(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.wrapped(&format!("     {name:<9}  "), 16, text);
        }
    }

    /// A line of a list: kind, at least `width` wide, and text.
    fn labelled(&mut self, kind: &str, width: usize, text: &str) {
        let width = width.min(MAX_LABEL);
        self.wrapped(&format!("  {:<width$}  ", one_line(kind)), width + 4, text);
    }

    fn check(&mut self, check: &Check) {
        self.row("expected", &check.expected);
        self.row("found", &check.found);
        self.row("where", &check.place);
    }

    /// At most [`LINES`] entries, and how many more there are.
    fn list<T>(&mut self, entries: &[T], mut line: impl FnMut(&mut Self, &T)) {
        for entry in entries.iter().take(LINES) {
            line(self, entry);
        }
        if entries.len() > LINES {
            self.wrapped("  ", 4, &format!("and {} more, which stand in the JSON form", entries.len() - LINES));
        }
    }
}
