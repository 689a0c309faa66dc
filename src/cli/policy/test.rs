//! `affiant policy test`: cases of evidence with the verdict that is expected, and which lines of the rules they reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use affiant_core::nearest::nearest;
use affiant_core::policy::source::{Folder, compile};
use affiant_core::policy::{Document, Policy};
use affiant_core::rego::{Limits, Rules};
use affiant_core::store::SubjectDigest;
use affiant_core::verdict::{Answer, Verdict};
use affiant_core::verify::{Artifact, Files, Source};
use clap::Args;
use jiff::Timestamp;
use maud::{PreEscaped, html};
use serde_json::Value;

use super::cases::{Seen, is_kind, modules, seen, wrapped};
use super::{Loaded, counted, init, load};
use crate::cli::failure::{Failure, Kind};
use crate::cli::inspect::read_file;
use crate::cli::output::{Output, one_line};
use crate::cli::{Ending, surroundings, verify};

/// Most cases of a folder.
const MAX_CASES: usize = 10_000;
/// Members of a case.
const MEMBERS: [&str; 8] = ["name", "policy", "evidence", "artifacts", "subjects", "at", "expect", "reason"];

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant policy test tests/policy\n\nA case is a file `*.yaml`, or `case.yaml` in a folder of its own:\n  policy: ../policy.yaml\n  evidence: [build.att.json]\n  artifacts: [image.tar]\n  at: 2026-06-01T12:00:00Z\n  expect: denied\n  reason: banned\n\nExit codes: 0 all as expected, 1 a case differs, 2 usage, 3 no cases, 4 a file cannot be read."
)]
pub(crate) struct TestArgs {
    /// The folder of the cases
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Policy of cases that name none
    #[arg(short, long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write the results as well, as XML of junit
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Show the reasons of cases that are as expected, too
    #[arg(short, long)]
    verbose: bool,
}

/// A case as it is written.
struct Case {
    name: String,
    file: PathBuf,
    policy: PathBuf,
    evidence: Vec<PathBuf>,
    artifacts: Vec<PathBuf>,
    subjects: Vec<SubjectDigest>,
    at: Option<Timestamp>,
    passes: bool,
    reason: Option<String>,
}

/// What became of a case.
struct Outcome {
    name: String,
    /// What differs from what is expected.
    differs: Option<String>,
    /// Passed, or why not.
    found: String,
}

/// Lines of one module that were reached, and those that were not.
#[derive(Default)]
struct Reached {
    covered: BTreeSet<u32>,
    not_covered: BTreeSet<u32>,
}

/// By policy and module.
type Coverage = BTreeMap<(String, String), Reached>;

pub(crate) fn test(args: &TestArgs, output: &Output) -> Result<Ending, Failure> {
    let junit = args.junit.as_deref().map(verify::probe).transpose()?;
    let files = files(&args.dir)?;
    let mut cases = Vec::new();
    for file in &files {
        cases.extend(read(file, args.policy.as_deref())?);
    }
    if cases.is_empty() {
        return Err(Failure::new(Kind::NotFound, format!("there is no case in {}", args.dir.display()))
            .hint("a case is a YAML file with `policy`, `evidence`, `artifacts` and `expect: passed` or `denied`"));
    }
    let mut coverage = Coverage::new();
    let mut policies: BTreeMap<PathBuf, Loaded> = BTreeMap::new();
    let mut outcomes = Vec::new();
    for case in &cases {
        if !policies.contains_key(&case.policy) {
            policies.insert(case.policy.clone(), load(&case.policy)?);
        }
        let outcome = run(case, &policies[&case.policy], &mut coverage)?;
        let mut text = String::new();
        let word = if outcome.differs.is_some() { "DIFFERS" } else { "ok" };
        let _ = writeln!(text, "{word:<8} {}", one_line(&outcome.name));
        if let Some(differs) = &outcome.differs {
            let _ = writeln!(text, "         {}", one_line(differs));
        }
        if args.verbose || outcome.differs.is_some() {
            for line in outcome.found.lines() {
                let _ = writeln!(text, "         {}", one_line(line));
            }
        }
        output.data(text.as_bytes())?;
        outcomes.push(outcome);
    }
    let differ = outcomes.iter().filter(|outcome| outcome.differs.is_some()).count();
    let mut text = format!("{}, {differ} differ\n", counted(outcomes.len(), "case"));
    text.push_str(&told(&coverage));
    output.data(text.as_bytes())?;
    if let Some(junit) = junit {
        junit
            .write(as_junit(&outcomes).as_bytes())
            .map_err(|error| Failure::because(Kind::NoAnswer, "the results cannot be written", &error))?;
    }
    Ok(Ending::Code(i32::from(differ > 0)))
}

/// The files that may be cases, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::because(Kind::NoAnswer, format!("the folder {} cannot be read", folder.display()), &error)
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        if path.is_dir() {
            found.extend(Some(path.join("case.yaml")).filter(|case| case.is_file()));
        } else if is_yaml {
            found.push(path);
        }
        if found.len() > MAX_CASES {
            return Err(Failure::new(Kind::NoAnswer, format!("{} has more than {MAX_CASES} cases", folder.display())));
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a case; a policy's source beside the cases is none.
fn read(file: &Path, policy: Option<&Path>) -> Result<Option<Case>, Failure> {
    let wrong = |line: Option<u64>, reason: &str| {
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        Failure::usage(format!("{}{line}: {reason}", file.display()))
    };
    let document = Document::parse(&read_file(file)?).map_err(|error| wrong(error.line(), &error.to_string()))?;
    let at = |member: &str| document.line(member);
    let Some(members) = document.value.as_object() else { return Err(wrong(Some(1), "a case is an object")) };
    if members.contains_key("steps") && !members.contains_key("expect") {
        return Ok(None);
    }
    if let Some(name) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        let hint = nearest(name, MEMBERS).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
        return Err(wrong(at(name), &format!("`{name}` is not known{hint}")));
    }
    let folder = file.parent().unwrap_or(Path::new(""));
    let text = |member: &str| -> Result<Option<&str>, Failure> {
        match members.get(member) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(at(member), &format!("`{member}` is no text"))),
        }
    };
    let texts = |member: &str| -> Result<Vec<&str>, Failure> {
        let fault = || wrong(at(member), &format!("`{member}` is no list of texts"));
        match members.get(member) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(Value::Array(list)) => list.iter().map(|one| one.as_str().ok_or_else(fault)).collect(),
            Some(_) => Err(fault()),
        }
    };
    let paths = |member: &str| -> Result<Vec<PathBuf>, Failure> {
        Ok(texts(member)?.into_iter().map(|name| folder.join(name)).collect())
    };
    let policy = match (text("policy")?, policy) {
        (Some(name), _) => plain(&folder.join(name)),
        (None, Some(policy)) => policy.to_owned(),
        (None, None) => {
            return Err(wrong(None, "the case names no policy").hint("name one in `policy`, or with `--policy FILE`"));
        }
    };
    let passes = match text("expect")? {
        Some("passed") => true,
        Some("denied") => false,
        _ => return Err(wrong(at("expect"), "`expect` is neither `passed` nor `denied`")),
    };
    let reason = text("reason")?.map(str::to_owned);
    if passes && reason.is_some() {
        return Err(wrong(at("reason"), "what passes has no `reason`"));
    }
    let time = text("at")?.map(str::parse::<Timestamp>).transpose();
    let file_name = if file.ends_with("case.yaml") { folder.file_name() } else { file.file_stem() };
    let name = file_name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Some(Case {
        name: text("name")?.map_or(name, str::to_owned),
        file: file.to_owned(),
        policy,
        evidence: paths("evidence")?,
        artifacts: paths("artifacts")?,
        subjects: texts("subjects")?.into_iter().map(SubjectDigest::parse).collect(),
        at: time.map_err(|error| wrong(at("at"), &format!("`at` is no time: {error}")))?,
        passes,
        reason,
    }))
}

/// A path without `.` and `FOLDER/..`, so that one policy has one name.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

fn run(case: &Case, loaded: &Loaded, coverage: &mut Coverage) -> Result<Outcome, Failure> {
    // Whatever SOURCE_DATE_EPOCH says: the gate asks the real clock too (security rule 8).
    let at = case.at.unwrap_or_else(surroundings::now);
    // `expires: 90d` counts from the time of the case: with the clock, an old case would never be in force.
    let json = match (&loaded.document, &loaded.envelope) {
        (Some(document), None) => compile(document, &Folder::of(&case.policy), at)
            .map_or_else(|_| loaded.json.clone(), |compiled| compiled.to_json()),
        _ => loaded.json.clone(),
    };
    let (paths, _) = verify::evidence_files(&case.evidence)?;
    let fault = |what: String, error: &dyn std::error::Error| {
        Failure::because(Kind::NoAnswer, format!("{}: {what}", case.file.display()), error)
    };
    let files = Files::load(&paths).map_err(|error| fault("evidence cannot be read".to_owned(), &error))?;
    let mut all = Vec::new();
    for path in &paths {
        // What is no evidence may be the very thing that the case is about.
        all.extend(seen(path, &read_file(path)?).unwrap_or_default());
    }
    let mut artifacts = Vec::new();
    for path in &case.artifacts {
        let artifact = Artifact::read(path);
        artifacts
            .push(artifact.map_err(|error| fault(format!("the artifact {} cannot be read", path.display()), &error))?);
    }
    if artifacts.is_empty() && case.subjects.is_empty() {
        return Err(Failure::usage(format!("{}: nothing is named that must be proven", case.file.display()))
            .hint("name a file in `artifacts`, or a digest in `subjects`"));
    }
    let sources: [&dyn Source; 1] = [&files];
    let verdict = init::judge(&json, &sources, artifacts, case.subjects.clone(), at);
    cover(&loaded.policy, &case.policy, &all, at, coverage)?;
    Ok(match verdict {
        Ok(verdict) => outcome(case, &verdict),
        Err(error) => {
            let found = Failure::because(Kind::NoAnswer, "no answer can be given", &error).one_line();
            let wanted = if case.passes { "passed" } else { "denied" };
            Outcome { name: case.name.clone(), differs: Some(format!("expected {wanted}, found no answer")), found }
        }
    })
}

fn outcome(case: &Case, verdict: &Verdict) -> Outcome {
    let passed = verdict.answer == Answer::Passed;
    let mut found = String::new();
    for (name, check) in verdict.reasons() {
        let place = if check.place.is_empty() { String::new() } else { format!(" ({})", check.place) };
        let _ = writeln!(
            found,
            "{}",
            one_line(&format!("{name}: expected {}, found {}{place}", check.expected, check.found))
        );
    }
    let word = |passed: bool| if passed { "passed" } else { "denied" };
    let differs = if passed == case.passes {
        let missing = case.reason.as_ref().filter(|reason| !found.contains(reason.as_str()));
        missing.map(|reason| format!("denied as expected, but not because of `{reason}`"))
    } else {
        Some(format!("expected {}, found {}", word(case.passes), word(passed)))
    };
    Outcome { name: case.name.clone(), differs, found: if found.is_empty() { word(passed).to_owned() } else { found } }
}

/// Asks all rules of a policy about all evidence of a case, whatever the verdict is, to learn which lines are reached.
fn cover(policy: &Policy, file: &Path, all: &[Seen], at: Timestamp, coverage: &mut Coverage) -> Result<(), Failure> {
    let mut limits = Limits::at(at);
    limits.coverage = true;
    let mut ask = |list: &[affiant_core::policy::RegoModule], input: Option<Value>| {
        let modules = modules(list);
        let Ok(rules) = Rules::compile(&modules) else { return };
        // Without evidence the lines still are there to be reached.
        let is_real = input.is_some();
        let Ok(judgement) = rules.judge(&input.unwrap_or(Value::Null), &limits) else { return };
        for lines in judgement.coverage {
            let reached = coverage.entry((file.display().to_string(), lines.module)).or_default();
            if is_real {
                reached.covered.extend(&lines.covered);
            } else {
                reached.not_covered.extend(&lines.covered);
            }
            reached.not_covered.extend(&lines.not_covered);
        }
    };
    for step in policy.steps.values() {
        for requirement in step.attestations.iter().filter(|one| !one.modules.is_empty()) {
            ask(&requirement.modules, None);
            let is_step = |one: &&Seen| one.step.as_ref().is_none_or(|name| *name == step.name);
            for one in all.iter().filter(is_step).filter(|one| is_kind(&requirement.kind, &one.kind)) {
                ask(&requirement.modules, Some(wrapped(step, one.input(&requirement.kind)?, all)?));
            }
        }
    }
    for external in policy.external.values().filter(|one| !one.modules.is_empty()) {
        ask(&external.modules, None);
        for one in all.iter().filter(|one| one.step.is_none() && is_kind(&external.predicate_type, &one.kind)) {
            ask(&external.modules, Some(one.input(&external.predicate_type)?));
        }
    }
    Ok(())
}

/// Which lines of which rules no case has reached.
fn told(coverage: &Coverage) -> String {
    let mut text = String::new();
    let (mut reached, mut total) = (0, 0);
    for ((policy, module), lines) in coverage {
        let missed: Vec<u32> = lines.not_covered.difference(&lines.covered).copied().collect();
        reached += lines.covered.len();
        total += lines.covered.len() + missed.len();
        if !missed.is_empty() {
            let list: Vec<String> = missed.iter().map(ToString::to_string).collect();
            let word = if missed.len() == 1 { "line" } else { "lines" };
            let _ =
                writeln!(text, "  {}, {}: {word} {} not reached", one_line(policy), one_line(module), list.join(", "));
        }
    }
    match total {
        0 => "the policies have no rules\n".to_owned(),
        _ => format!("rules: {reached} of {total} lines reached\n{text}"),
    }
}

fn as_junit(outcomes: &[Outcome]) -> String {
    let failures = outcomes.iter().filter(|outcome| outcome.differs.is_some()).count();
    let clean = |text: &str| text.lines().map(one_line).collect::<Vec<_>>().join("\n");
    let line = || PreEscaped("\n");
    let document = html! {
        testsuites name="affiant policy test" tests=(outcomes.len()) failures=(failures) errors="0" time="0" { (line())
            testsuite name="affiant policy test" tests=(outcomes.len()) failures=(failures) errors="0" skipped="0" time="0" { (line())
                @for outcome in outcomes {
                    testcase classname="policy" name=(clean(&outcome.name)) time="0" {
                        @if let Some(differs) = &outcome.differs {
                            failure message=(clean(differs)) { (clean(&outcome.found)) }
                        } @else {
                            system-out { (clean(&outcome.found)) }
                        }
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
