//! A verdict as Markdown, for the summary of a CI job.
//!
//! What a stranger wrote stands in `<code>` with marks of structure as character references: a reference is never
//! structure (`CommonMark` 0.31, section 2.5), and within `code` the sites that show Markdown make no mentions, links
//! to issues or emoji of it.

use std::fmt::Write as _;

use affiant_core::verdict::{Answer, Candidate, Check, Outcome, Part, Verdict};

use super::reasons::{About, Group, Reason, advice, complaint, reasons};
use super::{VERSION, counted, mode_note};
use crate::cli::output::one_line;

/// The longest summary, in bytes. GitHub refuses one over 1 MiB, and other steps of the job write to it too.
const MAX: usize = 512 * 1024;
/// The longest text of a stranger, in characters.
const MAX_VALUE: usize = 500;
/// Rows of one table; the rest is counted.
const ROWS: usize = 100;
/// Names within a cell; the rest is counted.
const NAMES: usize = 4;

/// The whole summary.
pub(crate) fn render(verdict: &Verdict) -> String {
    let mut summary = Summary { text: head(verdict), left_out: 0 };
    let reasons = reasons(verdict);
    if !reasons.is_empty() {
        summary.add("### What failed\n\n");
    }
    for (number, reason) in reasons.iter().enumerate() {
        summary.add(&block(number + 1, reason));
    }
    summary.add(&images(verdict));
    summary.add(&artifacts(verdict));
    summary.add(&parts("Steps", "Step", &verdict.steps));
    summary.add(&parts("External attestations", "Attestation", &verdict.external));
    summary.add(&trust(verdict));
    summary.add(&sources(verdict));
    if !verdict.notes.is_empty() {
        summary.add(&folded("Notes", &table(&["Note"], verdict.notes.iter().map(|note| vec![code(note)]))));
    }
    if summary.left_out > 0 {
        let _ = write!(
            summary.text,
            "{} too long for a summary: see another form of this report.\n\n",
            counted(summary.left_out, "part")
        );
    }
    let _ = writeln!(summary.text, "<sub>affiant {VERSION}, judged at {}</sub>", code(&verdict.at.to_string()));
    summary.text
}

/// Markdown that grows by whole pieces up to [`MAX`].
struct Summary {
    text: String,
    left_out: usize,
}

impl Summary {
    fn add(&mut self, piece: &str) {
        if self.text.len() + piece.len() <= MAX {
            self.text.push_str(piece);
        } else {
            self.left_out += 1;
        }
    }
}

/// A stranger's text.
pub(crate) fn code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut out = String::from("<code>");
    let text = one_line(text);
    let mut chars = text.chars();
    let mut last = ' ';
    for c in chars.by_ref().take(MAX_VALUE) {
        // Whoever reads the source can read these; none of them is structure within a line, but for a link from `www.`.
        let plain = "-,/();=+%?".contains(c) || (c == '.' && !last.eq_ignore_ascii_case(&'w'));
        last = c;
        if c == '@' {
            // GitHub's dialect looks for addresses in what references have become, but not past a comment.
            out.push_str("<!-- -->&#64;");
        } else if c.is_ascii_punctuation() && !plain {
            let _ = write!(out, "&#{};", u32::from(c));
        } else {
            out.push(c);
        }
    }
    if chars.next().is_some() {
        out.push('…');
    }
    out.push_str("</code>");
    out
}

/// Several of a stranger's texts.
fn codes<'a>(texts: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = texts.len();
    let mut words: Vec<_> = texts.take(NAMES).map(code).collect();
    if count > NAMES {
        words.push(format!("{} more", count - NAMES));
    }
    words.join(", ")
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "✅ passed",
        Outcome::Failed => "❌ failed",
        Outcome::NotReached => "➖ not looked at",
    }
}

fn head(verdict: &Verdict) -> String {
    let answer = match verdict.answer {
        Answer::Passed => "✅ Passed",
        Answer::Denied => "❌ Denied",
        Answer::NoEvidence => "❔ No evidence",
    };
    let named = codes(verdict.artifacts.iter().map(|artifact| artifact.name.as_str()));
    let mut text = format!("## {answer}{}{named}\n\n", if named.is_empty() { "" } else { ": " });
    let policy = &verdict.policy;
    let _ = write!(text, "Policy {}", code(&policy.source));
    if let Some(version) = policy.version {
        let _ = write!(text, ", version {version}");
    }
    if !policy.signers.is_empty() {
        let _ = write!(text, ", signed by {}", codes(policy.signers.iter().map(String::as_str)));
    }
    text.push('\n');
    if let Some(note) = mode_note(verdict) {
        let _ = write!(text, "\n**{note}**\n");
    }
    text.push('\n');
    text
}

/// A table; cells are Markdown.
fn table(head: &[&str], rows: impl ExactSizeIterator<Item = Vec<String>>) -> String {
    let count = rows.len();
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows.take(ROWS) {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text.push('\n');
    if count > ROWS {
        let _ = write!(text, "And {} more, which stand in the JSON form.\n\n", count - ROWS);
    }
    text
}

fn folded(title: &str, content: &str) -> String {
    format!("<details><summary>{title}</summary>\n\n{content}</details>\n\n")
}

fn titled(about: &[About<'_>]) -> String {
    let mut words: Vec<_> =
        about.iter().take(NAMES).map(|about| format!("{} {}", about.kind, code(about.name))).collect();
    if about.len() > NAMES {
        words.push(format!("{} more", about.len() - NAMES));
    }
    words.join(", ")
}

/// One reason: what failed, and what to do about it.
fn block(number: usize, reason: &Reason<'_>) -> String {
    let check = reason.check;
    let mut text = format!("**{number}. {}: {}**\n\n", titled(&reason.about), complaint(check.kind));
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![name.to_owned(), value]);
        }
    };
    row("Expected", code(&check.expected));
    row("Found", code(&check.found));
    row("Where", code(&check.place));
    row("**To do**", code(&advice(check)));
    if let Some(candidate) = reason.nearest {
        row("Evidence", code(&candidate.source));
        row("Signed by", codes(candidate.signers.iter().map(String::as_str)));
    }
    row("Asked for", codes(reason.requires.iter().map(String::as_str)));
    for check in &reason.also {
        row("Also", inline(check));
    }
    text.push_str(&table(&["", ""], rows.into_iter()));
    let count = reason.more();
    if count > 0 {
        let title = counted(count, "other candidate");
        let mut groups = table(&["Candidates", "Reason", "Evidence"], reason.others.iter().map(other));
        if reason.left_out > 0 {
            let _ = write!(groups, "{} came less near.\n\n", counted(reason.left_out, "more candidate"));
        }
        text.push_str(&folded(&title, &groups));
    }
    text
}

fn other(group: &Group<'_>) -> Vec<String> {
    let why = match group.check {
        Some(_) if group.same => "the same".to_owned(),
        Some(check) => inline(check),
        None => "accepted".to_owned(),
    };
    let names = group.candidates.iter().map(|candidate| candidate.source.as_str());
    vec![group.candidates.len().to_string(), why, codes(names)]
}

/// A check in one line.
fn inline(check: &Check) -> String {
    let mut text = complaint(check.kind).to_owned();
    if !check.expected.is_empty() {
        let _ = write!(text, ": expected {}", code(&check.expected));
    }
    if !check.found.is_empty() {
        let _ = write!(text, "{} found {}", if check.expected.is_empty() { ":" } else { "," }, code(&check.found));
    }
    text
}

fn images(verdict: &Verdict) -> String {
    if verdict.images.is_empty() {
        return String::new();
    }
    let rows = verdict.images.iter().map(|image| {
        let failed = image.checks.iter().any(Check::has_failed);
        let outcome = outcome(if failed { Outcome::Failed } else { Outcome::Passed }).to_owned();
        let signers = codes(image.signers.iter().map(String::as_str));
        vec![code(&image.name), outcome, signers, code(&image.reference)]
    });
    format!("### Images\n\n{}", table(&["Image", "Outcome", "Signed by", "Deployable as"], rows))
}

fn artifacts(verdict: &Verdict) -> String {
    if verdict.artifacts.is_empty() {
        return String::new();
    }
    let rows = verdict.artifacts.iter().map(|artifact| {
        let by = codes(artifact.chain.iter().map(|link| link.step.as_str()));
        vec![code(&artifact.name), outcome(artifact.check.outcome).to_owned(), by, code(&artifact.digest)]
    });
    format!("### Artifacts\n\n{}", table(&["Artifact", "Outcome", "Proven by steps", "Digest"], rows))
}

fn parts(title: &str, column: &str, parts: &[Part]) -> String {
    if parts.is_empty() {
        return String::new();
    }
    let rows = parts.iter().map(|part| {
        let accepted: Vec<&Candidate> = part.candidates.iter().filter(|candidate| candidate.accepted).collect();
        let signers = accepted.iter().flat_map(|candidate| &candidate.signers).map(String::as_str).collect::<Vec<_>>();
        let evidence = if accepted.is_empty() {
            counted(part.candidates.len() + part.left_out, "candidate") + ", none accepted"
        } else {
            codes(accepted.iter().map(|candidate| candidate.source.as_str()))
        };
        vec![code(&part.name), outcome(part.outcome).to_owned(), evidence, codes(signers.into_iter())]
    });
    format!("### {title}\n\n{}", table(&[column, "Outcome", "Evidence", "Signed by"], rows))
}

fn trust(verdict: &Verdict) -> String {
    let rows = verdict.trust.iter().map(|input| vec![code(&input.what), code(&input.value), code(&input.from)]);
    folded("What was trusted, and where it came from", &table(&["Input", "Value", "From"], rows))
}

fn sources(verdict: &Verdict) -> String {
    let rows = verdict
        .sources
        .iter()
        .map(|source| vec![code(&source.name), source.envelopes.to_string(), source.related.to_string()]);
    folded("Where evidence was looked for", &table(&["Place", "Envelopes", "About what was asked"], rows))
}
