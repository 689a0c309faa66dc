//! `--report` of a run: JSON for programs, Markdown for the page of a CI job, `JUnit` for its tests, and `NAME=VALUE` lines
//! for the jobs after it. All are made of the JSON, in which secrets are masked already.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use affiant_core::outfile::Outfile;
use maud::{PreEscaped, html};
use serde_json::Value;

use crate::cli::failure::{Failure, Kind};
use crate::cli::places;
use crate::cli::report::{Text, append, code, lines};
use crate::cli::surroundings::variable;

/// Gaps, notes or envelopes that are listed in one report; the rest is counted.
const LINES: usize = 50;

/// A form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Markdown,
    Junit,
    Env,
}

/// The forms, and the variable in which the runner of a CI job names the file of that form.
const FORMS: [(&str, Form, Option<&str>); 4] = [
    ("json", Form::Json, None),
    ("markdown", Form::Markdown, Some("GITHUB_STEP_SUMMARY")),
    ("junit", Form::Junit, None),
    ("env", Form::Env, Some("GITHUB_OUTPUT")),
];

/// Where a report goes.
enum Target {
    /// A file, replaced at once.
    File(Outfile),
    /// A file that others write to as well.
    Appended(PathBuf),
}

/// The reports that were asked for.
pub(super) struct Reports(Vec<(Form, Target)>);

/// The form and the file that one value of `--report` names: `FORM=FILE`, `FORM` alone for the file that the runner of
/// the job names, or a file alone for JSON.
fn split(value: &str) -> Result<(Form, PathBuf, bool), Failure> {
    let named = FORMS
        .iter()
        .find(|(name, ..)| value.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')));
    let Some((name, form, runner)) = named else { return Ok((Form::Json, PathBuf::from(value), false)) };
    let runners = runner.and_then(variable);
    match (value.get(name.len() + 1..).filter(|file| !file.is_empty()), runners) {
        (Some(file), runners) => {
            let appended = *form == Form::Env || runners.as_deref() == Some(file.as_ref());
            Ok((*form, PathBuf::from(file), appended))
        }
        (None, Some(file)) => Ok((*form, PathBuf::from(file), true)),
        (None, None) => {
            Err(Failure::usage(format!("--report {value}: no file is named")).hint(format!("--report {name}=FILE")))
        }
    }
}

/// The files that reports are written to, as far as their names can be read.
pub(super) fn files(values: &[String]) -> impl Iterator<Item = PathBuf> + '_ {
    values.iter().filter_map(|value| split(value).ok()).map(|(_, path, _)| path)
}

impl Reports {
    pub(super) fn parse(values: &[String]) -> Result<Self, Failure> {
        let mut reports = Vec::new();
        for value in values {
            let (form, path, appended) = split(value)?;
            let target = if appended {
                Target::Appended(path)
            } else {
                Target::File(Outfile::probe(&path).map_err(|error| {
                    Failure::because(Kind::Run, format!("the report {} cannot be written", path.display()), &error)
                })?)
            };
            reports.push((form, target));
        }
        let reports = Self(reports);
        let files: Vec<_> = reports.files().collect();
        for (number, (file, named)) in files.iter().enumerate() {
            if files[..number].iter().any(|(other, _)| places::is_same(other, file)) {
                return Err(Failure::usage(format!("two reports would go to {}", named.display())));
            }
        }
        Ok(reports)
    }

    /// The files that are written, behind all links, and as they were named.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.0.iter().map(|(_, target)| match target {
            Target::File(file) => (file.file().unwrap_or(file.path()), file.path()),
            Target::Appended(path) => (path.as_path(), path.as_path()),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them all, and says which could not be.
    pub(super) fn write(&self, report: &Value) -> Vec<String> {
        let mut problems = Vec::new();
        for (form, target) in &self.0 {
            let content = match form {
                Form::Json => format!("{report:#}\n"),
                Form::Markdown => markdown(report),
                Form::Junit => junit(report),
                Form::Env => env(report),
            };
            let (path, error) = match target {
                Target::File(file) => {
                    (file.path(), file.write(content.as_bytes()).err().map(|error| error.to_string()))
                }
                Target::Appended(path) => (path.as_path(), add(*form, path, &content)),
            };
            problems.extend(error.map(|error| format!("the report {} cannot be written: {error}", path.display())));
        }
        problems
    }
}

/// `NAME=VALUE` lines stand one below the other; Markdown wants a line between.
fn add(form: Form, path: &Path, content: &str) -> Option<String> {
    append(path, content, form != Form::Env).err().map(|error| error.to_string())
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The step's name; before it is known, what was to be run.
fn step(report: &Value) -> &str {
    match text(report, "/result/collection") {
        "" => text(report, "/plan/step"),
        name => name,
    }
}

/// Where the collection's envelope is: the outfile, else the archive, else the spool.
fn place(envelope: &Value) -> &str {
    ["/outfile", "/archive", "/spool"]
        .into_iter()
        .map(|at| text(envelope, at))
        .find(|path| !path.is_empty())
        .unwrap_or("")
}

fn envelopes(report: &Value) -> &[Value] {
    report.pointer("/result/evidence").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn gaps(report: &Value) -> impl Iterator<Item = (bool, &str, &str)> {
    let gaps = report.pointer("/result/gaps").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    gaps.iter().map(|gap| (gap["named"] == true, text(gap, "/attestor"), text(gap, "/reason")))
}

/// How the run ended, in a phrase.
fn ended(report: &Value) -> String {
    match text(report, "/kind") {
        "passed" => "passed".to_owned(),
        "planned" => "planned, not run".to_owned(),
        "refused" => format!("refused: {}", text(report, "/error")),
        "command-failed" => format!("the command {}", text(report, "/result/ending")),
        _ => "the command succeeded, its evidence did not".to_owned(),
    }
}

/// Names that a shell, GitHub's runner and GitLab's dotenv reports take alike, and values of one line.
fn env(report: &Value) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: &str| {
        // A break would begin a line of its own, and with it another variable.
        if !value.is_empty() && !value.contains(|c: char| c.is_control()) {
            let _ = writeln!(lines, "{name}={value}");
        }
    };
    line("attestation_step", step(report));
    line("attestation_kind", text(report, "/kind"));
    if let Some(envelope) = envelopes(report).first() {
        line("attestation_file", place(envelope));
        let digest = text(envelope, "/sha256");
        line("attestation_digest", &if digest.is_empty() { String::new() } else { format!("sha256:{digest}") });
        line("git_oid", text(envelope, "/gitoid"));
    }
    lines
}

/// Words of ours as they are; what has others' in it, as code.
fn phrase(text: &str) -> String {
    if text.chars().all(|c| c.is_ascii_alphanumeric() || " ,-".contains(c)) { text.to_owned() } else { code(text) }
}

fn markdown(report: &Value) -> String {
    let passed = matches!(text(report, "/kind"), "passed" | "planned");
    let mark = if passed { "✅" } else { "❌" };
    let name = match step(report) {
        "" => "affiant".to_owned(),
        step => code(step),
    };
    let mut page = format!("## {mark} {name}: {}\n\n", phrase(&ended(report)));
    let mut rows: Vec<(&str, String)> = Vec::new();
    let words = |at: &str| -> Vec<&str> {
        report.pointer(at).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let command = words("/plan/command");
    if !command.is_empty() {
        rows.push(("Command", code(&command.join(" "))));
        rows.push(("Ending", phrase(text(report, "/result/ending"))));
    }
    if text(report, "/plan/observation/level") == "client-only" {
        rows.push(("Observed", format!("the client only: {}", code(text(report, "/plan/observation/reason")))));
    }
    let count = |name: &str| report.pointer(&format!("/result/{name}")).and_then(Value::as_u64).unwrap_or(0);
    if report["result"].is_object() {
        let mut files = format!("{} in, {} out", count("materials"), count("products"));
        for (label, name) in
            [("deleted", "deleted"), ("left out with a reason", "omissions"), ("secrets masked", "redactions")]
        {
            if count(name) > 0 {
                let _ = write!(files, ", {} {label}", count(name));
            }
        }
        rows.push(("Files", files));
        rows.push(("Attested", words("/result/attested").into_iter().map(code).collect::<Vec<_>>().join(", ")));
    }
    // The first row is the head: a table has to have one.
    for (number, (name, value)) in rows.iter().enumerate() {
        let _ = writeln!(page, "| {name} | {value} |");
        if number == 0 {
            page.push_str("|:---|:---|\n");
        }
    }
    if !rows.is_empty() {
        page.push('\n');
    }
    let about = report.pointer("/result/about").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if !about.is_empty() {
        page.push_str("| About | Digest |\n|:---|:---|\n");
        for subject in about {
            let (kind, name, digest) = (text(subject, "/kind"), text(subject, "/name"), text(subject, "/digest"));
            let named = if digest.ends_with(name) { String::new() } else { format!(" {}", code(name)) };
            let _ = writeln!(page, "| {kind}{named} | {} |", code(digest));
        }
        page.push('\n');
    }
    let all: Vec<_> = gaps(report).collect();
    if !all.is_empty() {
        page.push_str("| Not attested | Why |\n|:---|:---|\n");
        for (named, attestor, reason) in all.iter().take(LINES) {
            let mark = if *named { "❌ " } else { "" };
            let _ = writeln!(page, "| {mark}{} | {} |", code(attestor), code(reason));
        }
        if all.len() > LINES {
            let _ = writeln!(page, "| | and {} more, which stand in the evidence |", all.len() - LINES);
        }
        page.push('\n');
    }
    let kept = envelopes(report);
    if !kept.is_empty() {
        page.push_str("| Evidence | SHA-256 |\n|:---|:---|\n");
        for envelope in kept.iter().take(LINES) {
            let _ = writeln!(page, "| {} | {} |", code(place(envelope)), code(text(envelope, "/sha256")));
        }
        if kept.len() > LINES {
            let _ = writeln!(page, "| and {} more | |", kept.len() - LINES);
        }
        page.push('\n');
    }
    let _ = writeln!(page, "<sub>affiant {}</sub>", text(report, "/version"));
    page
}

fn junit(report: &Value) -> String {
    let kind = text(report, "/kind");
    let seconds: f64 =
        report["timings"].as_object().into_iter().flatten().filter_map(|(_, value)| value.as_f64()).sum();
    let command = report.pointer("/timings/command").and_then(Value::as_f64).unwrap_or(0.0);
    // Each with what is wrong with it.
    let mut cases = vec![("command", command, matches!(kind, "refused" | "command-failed").then(|| ended(report)))];
    let failed = report.pointer("/result/evidenceFailed") == Some(&Value::Bool(true));
    let named: Vec<String> = gaps(report)
        .filter(|(named, ..)| *named)
        .take(LINES)
        .map(|(_, attestor, reason)| format!("{attestor}: {reason}"))
        .collect();
    if report["result"].is_object() {
        let why = if named.is_empty() { "the evidence could not be kept".to_owned() } else { named.join("\n") };
        cases.push(("evidence", seconds - command, failed.then_some(why)));
    }
    let failures = cases.iter().filter(|(.., wrong)| wrong.is_some()).count();
    let line = || PreEscaped("\n");
    let document = html! {
        testsuites name="affiant run" tests=(cases.len()) failures=(failures) errors="0" time=(format!("{seconds:.3}")) { (line())
            testsuite name="affiant run" tests=(cases.len()) failures=(failures) errors="0" skipped="0"
                time=(format!("{seconds:.3}")) { (line())
                @for (name, time, wrong) in &cases {
                    testcase classname=(Text(&format!("affiant run.{}", step(report)))) name=(name) time=(format!("{time:.3}")) {
                        @if let Some(wrong) = wrong { failure message=(Text(wrong.lines().next().unwrap_or_default())) { (lines(wrong)) } }
                    }
                    (line())
                }
            }
            (line())
        }
        (line())
    };
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", document.into_string())
}
