//! A verdict as one page of HTML that can be kept and printed: nothing in it runs, and nothing is fetched.

mod tables;

use affiant_core::verdict::{Answer, Candidate, Check, CheckKind, Outcome, Part, SCHEMA, Verdict};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::drawing::{drawing, icon, joins, outcome};
use super::markup::Text;
use super::reasons::{About, Group, Reason, advice, complaint, groups, listed, reasons};
use super::{VERSION, artifacts, counted, mode_note};
use crate::cli::output::one_line;

/// The look. The page's own policy allows this text and nothing else.
const STYLE: &str = include_str!("verdict.css");
/// Rows of one list; the rest is counted.
const ROWS: usize = 500;
/// Names within a line; the rest is counted.
const NAMES: usize = 4;
/// Hexadecimal digits in a row that are shown as a digest.
const DIGEST: usize = 32;

/// The whole page.
pub(crate) fn render(verdict: &Verdict) -> String {
    let (class, answer) = answer(verdict.answer);
    let named = artifacts(verdict);
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        STANDARD.encode(affiant_core::digest::sha256(STYLE.as_bytes()))
    );
    let reasons = reasons(verdict);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="generator" content={ "affiant " (VERSION) };
                title { (answer) @if !named.is_empty() { ": " (Text(&named)) } " – affiant verdict" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main class=(class) {
                    (head(verdict, class, answer, reasons.len()))
                    (failures(verdict, &reasons))
                    (chain(verdict))
                    (tables::images(verdict))
                    (tables::artifacts(verdict))
                    (parts("Steps", "step", &verdict.steps))
                    (parts("External attestations", "external", &verdict.external))
                    (policy_section(verdict))
                    (trust(verdict))
                    (sources(verdict))
                    (notes(verdict))
                }
                footer {
                    p {
                        "Written by affiant " (VERSION) " as the answer of " code { "affiant verify" } ". "
                        "The same verdict as JSON has the schema " code { (SCHEMA) } "."
                    }
                }
            }
        }
    };
    page.into_string() + "\n"
}

fn answer(answer: Answer) -> (&'static str, &'static str) {
    match answer {
        Answer::Passed => ("good", "Passed"),
        Answer::Denied => ("bad", "Denied"),
        Answer::NoEvidence => ("warn", "No evidence"),
    }
}

/// A phrase: names in backticks and digests are set as code.
fn phrase(text: &str) -> Markup {
    let text = one_line(text);
    let pieces: Vec<&str> = text.split('`').collect();
    // Only pairs are marks.
    let paired = pieces.len() % 2 == 1;
    let pieces = if paired { pieces } else { vec![text.as_str()] };
    html! {
        @for (number, piece) in pieces.iter().enumerate() {
            @if number % 2 == 1 { code { (Text(piece)) } } @else { (words(piece)) }
        }
    }
}

fn words(text: &str) -> Markup {
    let is_digest = |word: &str| word.split(|c: char| !c.is_ascii_hexdigit()).any(|run| run.len() >= DIGEST);
    html! {
        @for (number, word) in text.split(' ').enumerate() {
            @if number > 0 { " " }
            @if is_digest(word) { code { (Text(word)) } } @else { (Text(word)) }
        }
    }
}

/// Names of people and keys.
fn names(names: &[String]) -> Markup {
    phrase(&listed(names, NAMES))
}

fn time(at: jiff::Timestamp) -> Markup {
    html! { time datetime=(at) { (at.strftime("%Y-%m-%d %H:%M:%S UTC")) } }
}

fn section(id: &str, title: &str, count: Option<usize>, content: &Markup) -> Markup {
    html! {
        section id=(id) {
            h2 { (title) @if let Some(count) = count { " " span class="count" { (count) } } }
            (content)
        }
    }
}

fn were(count: usize) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

/// The digest of a payload that could be read.
fn payload(sha256: &str) -> Markup {
    html! {
        @if !sha256.is_empty() { (pair("Payload", &html! { code class="digest" { "sha256:" (Text(sha256)) } })) }
    }
}

/// One line of a list of names and values.
fn pair(name: &str, value: &Markup) -> Markup {
    html! { dt { (name) } dd { (value) } }
}

fn head(verdict: &Verdict, class: &str, answer: &str, reasons: usize) -> Markup {
    let policy = &verdict.policy;
    let (envelopes, related) = verdict
        .sources
        .iter()
        .fold((0, 0), |(envelopes, related), source| (envelopes + source.envelopes, related + source.related));
    let named: Vec<&str> = verdict.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    let about = html! {
        @for (number, name) in named.iter().take(NAMES).enumerate() {
            @if number > 0 { @if number + 1 == named.len() { " and " } @else { ", " } }
            code { (Text(name)) }
        }
        @if named.len() > NAMES { " and " (named.len() - NAMES) " more" }
        @if named.is_empty() { "what was asked" }
    };
    html! {
        header {
            p class="brand" { span { b { "affiant" } " verdict" } span { "Judged at " (time(verdict.at)) } }
            div class="answer" {
                (icon(class, 60))
                div {
                    h1 { (answer) }
                    p class="lead" {
                        @match verdict.answer {
                            Answer::Passed => { "All that the policy asks for was proven about " (about) "." }
                            Answer::Denied => {
                                (counted(reasons, "thing")) " " (were(reasons)) " not proven about " (about) "."
                            }
                            Answer::NoEvidence => { "Nothing that was found is about " (about) "." }
                        }
                    }
                    @if let Some(note) = mode_note(verdict) { p class="mode" { (Text(&note)) } }
                }
            }
            dl class="facts" {
                div {
                    dt { "Policy" }
                    dd {
                        code { (Text(&policy.source)) }
                        @if let Some(version) = policy.version { ", version " (version) }
                    }
                }
                div {
                    dt { "Policy signed by" }
                    dd { @if policy.signers.is_empty() { "nobody who was proven" } @else { (names(&policy.signers)) } }
                }
                @if let Some(expires) = policy.expires { div { (pair("In force until", &time(expires))) } }
                div { (pair("Evidence", &html! { (related) " of " (counted(envelopes, "envelope")) " about it" })) }
            }
        }
    }
}

/// Where a part stands on the page.
fn anchor(verdict: &Verdict, about: &About<'_>) -> String {
    let position = |parts: &[Part]| parts.iter().position(|part| part.name == about.name).unwrap_or(0);
    match about.kind {
        "step" => format!("#step-{}", position(&verdict.steps)),
        "external attestation" => format!("#external-{}", position(&verdict.external)),
        "image" => "#images".to_owned(),
        "artifact" => "#artifacts".to_owned(),
        _ => "#policy".to_owned(),
    }
}

fn failures(verdict: &Verdict, reasons: &[Reason<'_>]) -> Markup {
    if verdict.answer == Answer::Passed && reasons.is_empty() {
        return html! {};
    }
    section(
        "failed",
        "What failed, and what to do",
        None,
        &html! {
            @if reasons.is_empty() { p { "No check says what: please report this, with the verdict as JSON." } }
            ol class="reasons" {
                @for reason in reasons.iter().take(ROWS) {
                    li {
                        h3 {
                            @for (number, about) in reason.about.iter().take(NAMES).enumerate() {
                                @if number > 0 { ", " }
                                (about.kind) " " a href=(anchor(verdict, about)) { (Text(about.name)) }
                            }
                            @if reason.about.len() > NAMES { " and " (reason.about.len() - NAMES) " more" }
                            span class="complaint" { (complaint(reason.check.kind)) }
                        }
                        (failed(reason.check))
                        @if let Some(candidate) = reason.nearest {
                            p class="from" {
                                "Evidence: " code { (Text(&candidate.source)) }
                                @if !candidate.signers.is_empty() { ", signed by " (names(&candidate.signers)) }
                            }
                        }
                        @let more = reason.more();
                        @if more > 0 { p class="from" { (counted(more, "other candidate")) ": see the step below." } }
                    }
                }
            }
            (rest(reasons.len()))
        },
    )
}

/// That a list is longer than what is shown of it.
fn rest(count: usize) -> Markup {
    html! { @if count > ROWS { p class="rest" { "And " (count - ROWS) " more, which stand in the JSON form." } } }
}

/// A failed check: what was expected, what is there, and what to do.
fn failed(check: &Check) -> Markup {
    html! {
        dl class="failed" {
            @if !check.expected.is_empty() { (pair("Expected", &phrase(&check.expected))) }
            @if !check.found.is_empty() { (pair("Found", &phrase(&check.found))) }
            @if !check.place.is_empty() { (pair("Where", &phrase(&check.place))) }
            dt class="todo" { "To do" }
            dd class="todo" { (phrase(&advice(check))) }
        }
    }
}

fn chain(verdict: &Verdict) -> Markup {
    let drawing = drawing(verdict);
    if verdict.steps.is_empty() && verdict.external.is_empty() {
        return html! {};
    }
    section(
        "chain",
        "The chain",
        None,
        &html! {
            @match drawing {
                Some(drawing) => {
                    (drawing)
                    p class="caption" {
                        @if joins(verdict) {
                            "An arrow leads from a step to what takes its files."
                        @if verdict.steps.iter().any(|step| step.outcome != Outcome::Passed) {
                            " A dashed arrow was not proven."
                        }
                        @if !verdict.external.is_empty() { " A dashed frame is an external attestation." }
                        } @else {
                            "The policy does not join these steps by their files."
                        }
                    }
                }
                None => { p { "There are too many steps to draw: see the list below." } }
            }
        },
    )
}

fn status(state: Outcome) -> Markup {
    let (class, word) = outcome(state);
    html! { span class={ "status " (class) } { (icon(class, 16)) (word) } }
}

fn parts(title: &str, id: &str, parts: &[Part]) -> Markup {
    if parts.is_empty() {
        return html! {};
    }
    let list = if id == "step" { "steps" } else { "externals" };
    section(
        list,
        title,
        Some(parts.len()),
        &html! {
            @for (number, part) in parts.iter().take(ROWS).enumerate() { (one_part(&format!("{id}-{number}"), part)) }
            (rest(parts.len()))
        },
    )
}

fn one_part(id: &str, part: &Part) -> Markup {
    let (class, _) = outcome(part.outcome);
    let nearest = part.candidates.iter().find(|one| !one.accepted && one.first_failed().is_some());
    let accepted = part.candidates.iter().filter(|one| one.accepted).count();
    let others = part
        .candidates
        .iter()
        .filter(|one| !one.accepted && nearest.is_none_or(|nearest| !std::ptr::eq(*one, nearest)));
    let others = groups(others, nearest.and_then(Candidate::first_failed));
    let all = part.candidates.len() + part.left_out;
    html! {
        article id=(id) class=(class) {
            header {
                h3 { (Text(&part.name)) }
                (status(part.outcome))
                span class="tally" {
                    @if all == 0 { "no candidates" } @else { (accepted) " of " (counted(all, "candidate")) " accepted" }
                }
            }
            @if !part.requires.is_empty() || !part.artifacts_from.is_empty() {
                dl class="asked" {
                    @if !part.requires.is_empty() {
                        dt { "Asked for" }
                        dd {
                            ul { @for asked in part.requires.iter().take(ROWS) { li { (phrase(asked)) } } }
                            (rest(part.requires.len()))
                        }
                    }
                    @if !part.artifacts_from.is_empty() {
                        dt { "Files of" }
                        dd { (Text(&listed(&part.artifacts_from, ROWS))) }
                    }
                }
            }
            @if !part.checks.is_empty() { (checks(&part.checks)) }
            @for candidate in part.candidates.iter().filter(|one| one.accepted) {
                (one_candidate(candidate, "accepted", false))
            }
            @if let Some(candidate) = nearest {
                (one_candidate(candidate, if all == 1 { "not accepted" } else { "not accepted, the nearest" }, true))
            }
            @for group in &others { (others_of(group)) }
            @if part.left_out > 0 {
                p class="rest" { (counted(part.left_out, "more candidate")) " came less near and stay out of this verdict." }
            }
        }
    }
}

fn one_candidate(candidate: &Candidate, word: &str, open: bool) -> Markup {
    let class = if candidate.accepted { "good" } else { "bad" };
    html! {
        details class={ "candidate " (class) } open[open] {
            summary {
                (icon(class, 14))
                code class="strong" { (Text(&candidate.source)) }
                span class="verb" {
                    (word)
                    @if candidate.accepted && !candidate.signers.is_empty() {
                        span class="who" { ", signed by " (names(&candidate.signers)) }
                    }
                }
            }
            dl class="asked" {
                (payload(&candidate.sha256))
                @if !candidate.signers.is_empty() { (pair("Signed by", &names(&candidate.signers))) }
            }
            (checks(&candidate.checks))
        }
    }
}

/// Candidates with the same reason: it is told once.
fn others_of(group: &Group<'_>) -> Markup {
    let count = group.candidates.len();
    // What is the same for all is told once.
    let signers = &group.candidates[0].signers;
    let common = count > 1 && !signers.is_empty() && group.candidates.iter().all(|one| one.signers == *signers);
    html! {
        details class="candidate bad" open {
            summary {
                (icon(if group.check.is_some() { "bad" } else { "idle" }, 14))
                span {
                    @match group.check {
                        Some(_) if group.same => { (counted(count, "more candidate")) " with the same reason" }
                        Some(check) => { (counted(count, "candidate")) ": " (complaint(check.kind)) }
                        None => { (counted(count, "candidate")) " not used" }
                    }
                }
            }
            @if let Some(check) = group.check.filter(|_| !group.same) { (failed(check)) }
            @if common { p class="from" { (if count == 2 { "Both" } else { "All" }) " signed by " (names(signers)) } }
            ul class="sources" {
                @for candidate in &group.candidates {
                    li {
                        code { (Text(&candidate.source)) }
                        @if !common && !candidate.signers.is_empty() {
                            " " small { "signed by " (names(&candidate.signers)) }
                        }
                    }
                }
            }
        }
    }
}

/// What a check looks at, as a label.
fn label(kind: CheckKind) -> String {
    let word = kind.word();
    word.get(..1).map_or_else(String::new, str::to_uppercase) + word.get(1..).unwrap_or_default()
}

fn checks(checks: &[Check]) -> Markup {
    let later: Vec<_> =
        checks.iter().filter(|check| check.outcome == Outcome::NotReached).map(|check| check.kind.word()).collect();
    html! {
        ul class="checks" {
            @for check in checks.iter().filter(|check| check.outcome != Outcome::NotReached).take(ROWS) {
                @let (class, word) = outcome(check.outcome);
                li class=(class) {
                    (icon(class, 14))
                    span class="kind" { (label(check.kind)) span class="unseen" { " " (word) } }
                    @if check.has_failed() {
                        div { p class="complaint" { (complaint(check.kind)) } (failed(check)) }
                    } @else {
                        div { (phrase(&check.found)) }
                    }
                }
            }
            @if !later.is_empty() {
                li class="idle" {
                    (icon("idle", 14))
                    span class="kind" { "Not looked at" }
                    div { (listed(&later, later.len())) }
                }
            }
        }
    }
}

fn policy_section(verdict: &Verdict) -> Markup {
    let policy = &verdict.policy;
    section(
        "policy",
        "Policy",
        None,
        &html! {
            dl class="asked" {
                (pair("From", &html! { code { (Text(&policy.source)) } }))
                (payload(&policy.sha256))
                @if !policy.signers.is_empty() { (pair("Signed by", &names(&policy.signers))) }
                @if let Some(version) = policy.version { (pair("Version", &html! { (version) })) }
                @if let Some(expires) = policy.expires { (pair("Expires", &time(expires))) }
            }
            (checks(&policy.checks))
        },
    )
}

fn trust(verdict: &Verdict) -> Markup {
    section(
        "trust",
        "What was trusted, and where it came from",
        None,
        &html! {
            table {
                thead { tr { th { "Input" } th { "Value" } th { "From" } } }
                tbody {
                    @for input in verdict.trust.iter().take(ROWS) {
                        tr {
                            td data-label="Input" { (Text(&input.what)) }
                            td data-label="Value" { (phrase(&input.value)) }
                            td data-label="From" { (phrase(&input.from)) }
                        }
                    }
                }
            }
            (rest(verdict.trust.len()))
        },
    )
}

fn sources(verdict: &Verdict) -> Markup {
    if verdict.sources.is_empty() {
        return html! {};
    }
    let walk = verdict.walk;
    section(
        "sources",
        "Where evidence was looked for",
        None,
        &html! {
            table {
                thead {
                    tr { th { "Place" } th class="number" { "Envelopes" } th class="number" { "About what was asked" } }
                }
                tbody {
                    @for source in verdict.sources.iter().take(ROWS) {
                        tr {
                            td data-label="Place" { code { (Text(&source.name)) } }
                            td class="number" data-label="Envelopes" { (source.envelopes) }
                            td class="number" data-label="About what was asked" { (source.related) }
                        }
                    }
                }
            }
            (rest(verdict.sources.len()))
            @if walk.limit > 0 {
                p class="caption" {
                    "Back-references were followed for " (counted(walk.rounds, "round")) " of at most " (walk.limit) "."
                    @if walk.rounds >= walk.limit { " That is the limit: evidence further away was not looked at." }
                }
            }
        },
    )
}

fn notes(verdict: &Verdict) -> Markup {
    if verdict.notes.is_empty() {
        return html! {};
    }
    section(
        "notes",
        "Notes",
        None,
        &html! {
            ul class="notes" { @for note in verdict.notes.iter().take(ROWS) { li { (phrase(note)) } } }
            (rest(verdict.notes.len()))
        },
    )
}
