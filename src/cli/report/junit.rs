//! A verdict as `JUnit` XML: a test case for the policy, each image, artifact, step and external attestation. The form is that
//! which CI systems read (`junit-10.xsd` of Jenkins' xUnit plugin).

use affiant_core::verdict::{Answer, Check, Outcome, Part, Verdict};
use maud::{Markup, PreEscaped, html};

use super::markup::{Text, lines};
use super::reasons::{About, Reason, complaint};
use super::{VERSION, artifacts, image_phrase, text, word};

/// What the suite is called.
const SUITE: &str = "affiant verify";

/// How a case ended.
enum End<'a> {
    Passed(String),
    Failed(Option<Reason<'a>>),
    Skipped,
}

struct Case<'a> {
    about: About<'a>,
    end: End<'a>,
}

/// The whole document.
pub(crate) fn render(verdict: &Verdict) -> String {
    let mut cases = cases(verdict);
    // A report must not be green where the answer is not.
    let all = artifacts(verdict);
    if verdict.answer != Answer::Passed && !cases.iter().any(|case| matches!(case.end, End::Failed(_))) {
        cases.insert(0, Case { about: About { kind: "answer", name: &all }, end: End::Failed(None) });
    }
    let failures = cases.iter().filter(|case| matches!(case.end, End::Failed(_))).count();
    let skipped = cases.iter().filter(|case| matches!(case.end, End::Skipped)).count();
    let at = verdict.at.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let line = || PreEscaped("\n");
    let document = html! {
        testsuites name=(SUITE) tests=(cases.len()) failures=(failures) errors="0" time="0" { (line())
            testsuite name=(SUITE) tests=(cases.len()) failures=(failures) errors="0"
                skipped=(skipped) time="0" timestamp=(at) { (line())
                properties { (line())
                    (property("answer", word(verdict.answer)))
                    (property("policy", &verdict.policy.source))
                    (property("policy sha256", &verdict.policy.sha256))
                    @for input in &verdict.trust {
                        (property(&input.what, &format!("{}, from {}", input.value, input.from)))
                    }
                    (property("version of affiant", VERSION))
                }
                (line())
                @for case in &cases { (one(case, verdict)) (line()) }
            }
            (line())
        }
        (line())
    };
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", document.into_string())
}

fn property(name: &str, value: &str) -> Markup {
    html! { property name=(Text(name)) value=(Text(value)) {} (PreEscaped("\n")) }
}

fn cases(verdict: &Verdict) -> Vec<Case<'_>> {
    let policy = &verdict.policy;
    let about = About { kind: "policy", name: &policy.source };
    let end = match policy.checks.iter().find(|check| check.has_failed()) {
        Some(check) => End::Failed(Some(Reason::plain(about, check))),
        None => End::Passed(format!("signed by {}", policy.signers.join(", "))),
    };
    let mut cases = vec![Case { about, end }];
    for image in &verdict.images {
        let about = About { kind: "image", name: &image.name };
        let end = match image.checks.iter().find(|check| check.has_failed()) {
            Some(check) => End::Failed(Some(Reason::plain(about, check))),
            None => End::Passed(image_phrase(image)),
        };
        cases.push(Case { about, end });
    }
    for artifact in &verdict.artifacts {
        let about = About { kind: "artifact", name: &artifact.name };
        let end = match artifact.check.outcome {
            Outcome::Passed => End::Passed(format!("{}: {}", artifact.digest, artifact.check.found)),
            Outcome::Failed => End::Failed(Some(Reason::plain(about, &artifact.check))),
            Outcome::NotReached => End::Skipped,
        };
        cases.push(Case { about, end });
    }
    for (kind, parts) in [("step", &verdict.steps), ("external attestation", &verdict.external)] {
        cases.extend(parts.iter().map(|part| of_part(About { kind, name: &part.name }, part)));
    }
    cases
}

fn of_part<'a>(about: About<'a>, part: &'a Part) -> Case<'a> {
    let end = match part.outcome {
        Outcome::Passed => {
            let sources: Vec<_> =
                part.candidates.iter().filter(|one| one.accepted).map(|one| one.source.as_str()).collect();
            End::Passed(sources.join(", "))
        }
        Outcome::Failed => End::Failed(Reason::of(about, part)),
        Outcome::NotReached => End::Skipped,
    };
    Case { about, end }
}

fn one(case: &Case<'_>, verdict: &Verdict) -> Markup {
    let class = format!("affiant.{}", case.about.kind.replace(' ', "-"));
    html! {
        testcase classname=(class) name=(Text(case.about.name)) time="0" {
            @match &case.end {
                End::Passed(what) => { @if !what.is_empty() { system-out { (Text(what)) } } },
                End::Skipped => { skipped message="not looked at: something before it failed" {} },
                End::Failed(Some(reason)) => {
                    failure type=(reason.check.kind.word()) message=(Text(&message(reason.check))) {
                        (lines(&text::reason(reason)))
                    }
                },
                End::Failed(None) => {
                    failure type="answer" message=(word(verdict.answer)) { (lines(&text::render(verdict))) }
                },
            }
        }
    }
}

fn message(check: &Check) -> String {
    match (check.expected.is_empty(), check.found.is_empty()) {
        (false, false) => format!("{}: expected {}, found {}", complaint(check.kind), check.expected, check.found),
        (false, true) => format!("{}: expected {}", complaint(check.kind), check.expected),
        (true, _) => format!("{}: {}", complaint(check.kind), check.found),
    }
}
