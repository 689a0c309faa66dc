//! What a run says: the plan, the last lines on stderr, and the report file.

use std::fmt::Write as _;
use std::time::Instant;

use affiant_core::attestor::Phase;
use affiant_core::evidence::short_name;
use affiant_core::redact::Redactor;
use affiant_core::run::{Collected, Outcome, Plan, is_digest, not_started};
use affiant_core::sign::Signer;
use affiant_supervise::Ending;
use serde_json::{Map, Value, json};

use super::keep::Keep;
use super::kept::Kept;
use crate::cli::output::{Output, one_line};

/// How many gaps that do not fail the run are told one by one.
const NOTES: usize = 10;

/// How many subjects the report names; the evidence has them all.
const SUBJECTS: usize = 20;

/// The plan for people: what would run, in which order, and why.
pub(super) fn plan_text(plan: &Plan, keep: &Keep, signers: &[Box<dyn Signer>]) -> String {
    let mut text = String::new();
    let redactor = plan.redactor();
    let command: Vec<_> =
        plan.command().iter().map(|word| redactor.redact_text(&word.to_string_lossy()).into_owned()).collect();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12} {}", one_line(value));
    };
    line("step", &plan.before.step);
    line("folder", &plan.dir().display().to_string());
    if command.is_empty() {
        line("command", "none: things are recorded as they are");
    } else {
        line("command", &command.join(" "));
        line("observation", &format!("{} ({})", plan.observation().level.wire_name(), plan.observation().reason));
    }
    line("form", plan.form().name());
    for attestor in &plan.attestors {
        let when = if attestor.phase == Phase::Before { "before" } else { "after" };
        let note = attestor.foresight.note.as_deref().map(|note| format!("; {note}")).unwrap_or_default();
        line("attestor", &format!("{:<12} {when:<6}  {}{note}", attestor.about.name, attestor.reason));
    }
    line("attestor", "material     before  always: every file of the folder");
    if command.is_empty() {
        line("attestor", "product      after   always: what is named");
    } else {
        line("attestor", "command-run  during  always");
        line("attestor", "product      after   always: what the command made or changed");
    }
    if signers.is_empty() {
        line("key", "none: name one with --key before this can run");
    }
    for signer in signers {
        line("key", &format!("{} {}", signer.public_key().kind(), signer.public_key().key_id()));
    }
    for place in keep.describe() {
        line("kept in", &place);
    }
    text
}

/// What is known of the run so far; becomes the report.
#[derive(Default)]
pub(super) struct Log {
    pub(super) redactor: Option<Redactor>,
    pub(super) failure: Option<String>,
    pub(super) code: i32,
    /// The command's own exit code, once it has ended.
    ended: Option<i32>,
    /// Seconds that each phase took, in order.
    pub(super) timings: Map<String, Value>,
    plan: Option<Value>,
    result: Option<Value>,
}

impl Log {
    /// Notes how long a phase took.
    pub(super) fn took(&mut self, phase: &str, since: Instant) {
        self.timings.insert(phase.to_owned(), json!(since.elapsed().as_secs_f64()));
    }

    pub(super) fn planned(&mut self, plan: &Plan) {
        self.plan = Some(json!({
            "step": plan.before.step,
            "form": plan.form().name(),
            "workingDirectory": plan.dir().display().to_string(),
            "command": plan.command().iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>(),
            "observation": (!plan.command().is_empty()).then(|| {
                json!({ "level": plan.observation().level.wire_name(), "reason": plan.observation().reason })
            }),
            "attestors": plan.attestors.iter().map(|attestor| json!({
                "name": attestor.about.name,
                "type": plan.form().spell(attestor.about.predicate_type),
                "named": attestor.named,
                "reason": attestor.reason,
            })).collect::<Vec<_>>(),
        }));
    }

    /// The plan as `--plan-output json` prints it.
    pub(super) fn plan_json(&self) -> String {
        let mut plan = self.plan.clone().unwrap_or_default();
        if let Some(redactor) = &self.redactor {
            redactor.redact_json(&mut plan, "", &is_digest, &mut Vec::new());
        }
        format!("{plan:#}\n")
    }

    pub(super) fn collected(&mut self, collected: &Collected, kept: &Kept, evidence_failed: bool) {
        let counts = collected.counts;
        self.ended = Some(collected.outcome.code());
        self.result = Some(json!({
            "collection": collected.collection.name,
            "ending": ending(&collected.outcome),
            "commandCode": match &collected.outcome {
                Outcome::NoCommand => None,
                Outcome::Ran(_) | Outcome::NotStarted(_) => Some(collected.outcome.code()),
            },
            "materials": counts.materials,
            "products": counts.products,
            "deleted": counts.deleted,
            "omissions": counts.omissions,
            "redactions": counts.redactions,
            "gaps": collected.collection.gaps,
            "attested": attested(collected),
            "about": about(collected),
            "evidenceFailed": evidence_failed,
            "evidence": kept.report(),
            "attached": kept.attached(),
        }));
    }

    /// The report; its schema is `docs/reference/run-report.schema.json`.
    pub(super) fn report(&self) -> Value {
        let kind = match (&self.failure, self.ended) {
            (Some(_), _) => "refused",
            (None, None) => "planned",
            (None, Some(_)) if self.code == 0 => "passed",
            // The command's own code may be 125 too.
            (None, Some(own)) if own == self.code => "command-failed",
            (None, Some(_)) => "evidence-failed",
        };
        let mut report = json!({
            "schema": "affiant/run-report/v1",
            "version": env!("CARGO_PKG_VERSION"),
            "kind": kind,
            "exitCode": self.code,
            "error": self.failure,
            "timings": self.timings,
            "plan": self.plan,
            "result": self.result,
        });
        if let Some(redactor) = &self.redactor {
            redactor.redact_json(&mut report, "", &is_digest, &mut Vec::new());
        }
        report
    }
}

/// What there is evidence of, by the names of the attestors.
fn attested(collected: &Collected) -> Vec<String> {
    let entries = collected.collection.entries.iter().map(|entry| entry.predicate_type.as_str());
    entries
        .chain(collected.own.iter().map(|own| own.predicate_type.as_str()))
        .map(|kind| short_name(kind).to_owned())
        .collect()
}

/// The files, images and commits that later questions can be asked about; the digests of texts are left out.
fn about(collected: &Collected) -> Vec<Value> {
    const KINDS: [&str; 6] = ["file", "imageid", "imagedigest", "manifestdigest", "tardigest", "commithash"];
    let subjects = collected.collection.entries.iter().rev().flat_map(|entry| &entry.subjects);
    subjects
        .filter_map(|subject| {
            let (kind, name) = subject.name.split_once(':')?;
            let (algorithm, digest) = subject.digest.0.iter().min_by_key(|(name, _)| name.as_str() != "sha256")?;
            KINDS
                .contains(&kind)
                .then(|| json!({ "kind": kind, "name": name, "digest": format!("{algorithm}:{digest}") }))
        })
        .take(SUBJECTS)
        .collect()
}

fn ending(outcome: &Outcome) -> String {
    match outcome {
        Outcome::NoCommand => "no command".to_owned(),
        Outcome::NotStarted(error) => format!("not started: {}", not_started(error)),
        Outcome::Ran(ran) => match ran.ending {
            Ending::Exited(code) => format!("exited with {code}"),
            Ending::Signalled { signal, .. } => format!("ended by signal {signal}"),
            Ending::TimedOut { .. } => "ended by --timeout".to_owned(),
        },
    }
}

/// The last lines of a run on stderr: how it ended, what is missing, where the evidence is, and the next command.
pub(super) fn tell(collected: &Collected, kept: &Kept, output: &Output) {
    let counts = collected.counts;
    if !collected.outcome.success() {
        let was = if matches!(&collected.outcome, Outcome::Ran(ran) if matches!(ran.ending, Ending::Exited(_))) {
            ""
        } else {
            "was "
        };
        output.message(&format!("affiant: the command {was}{}", ending(&collected.outcome)));
    }
    let (named, notes): (Vec<_>, Vec<_>) = collected.collection.gaps.iter().partition(|gap| gap.named);
    for gap in named {
        output.message(&format!("affiant: gap: {}: {}", gap.attestor, gap.reason));
    }
    for note in notes.iter().take(NOTES) {
        output.message(&format!("affiant: note: {}: {}", note.attestor, note.reason));
    }
    if notes.len() > NOTES {
        output.message(&format!("affiant: note: and {} more, which stand in the evidence", notes.len() - NOTES));
    }
    let mut line = format!(
        "affiant: {}: {} material{}, {} product{}",
        collected.collection.name,
        counts.materials,
        if counts.materials == 1 { "" } else { "s" },
        counts.products,
        if counts.products == 1 { "" } else { "s" },
    );
    for (count, what) in
        [(counts.deleted, "deleted"), (counts.omissions, "left out with a reason"), (counts.redactions, "masked")]
    {
        if count > 0 {
            let _ = write!(line, ", {count} {what}");
        }
    }
    output.message(&line);
    for (attestor, place) in kept.beside() {
        output.message(&format!("affiant: {attestor} in {place}"));
    }
    if let Some(line) = kept.last_line() {
        output.message(&format!("affiant: {line}"));
    }
}
