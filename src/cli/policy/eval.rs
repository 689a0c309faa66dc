//! `affiant policy eval`: what rules say about a document.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use affiant_core::policy::{Requirement, Step};
use affiant_core::rego::{Judgement, Limits, MAX_MODULE, Module, Rules};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::cases::{Seen, is_kind, modules, seen, wrapped};
use super::check::Form;
use super::load;
use crate::cli::failure::{Failure, Kind, nearest};
use crate::cli::inspect::read_file;
use crate::cli::output::{Output, one_line};
use crate::cli::{Ending, surroundings};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  affiant policy eval --rego branch.rego --input-of build.att.json --type git\n  affiant policy eval --policy policy.yaml --step build --input-of build.att.json --verbose\n\nExit codes: 0 no rule denies, 1 denied, 2 usage, 4 the rules or the document cannot be used. Signatures are not checked."
)]
pub(crate) struct EvalArgs {
    /// File of Rego (repeatable: all are loaded together)
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["policy", "step"])]
    rego: Vec<PathBuf>,
    /// Policy whose rules are asked
    #[arg(short, long, value_name = "FILE", requires = "step", required_unless_present = "rego")]
    policy: Option<PathBuf>,
    /// Step of the policy
    #[arg(short, long, value_name = "NAME")]
    step: Option<String>,
    /// The document that rules see, JSON
    #[arg(short, long, value_name = "FILE", required_unless_present = "input_of", conflicts_with = "input_of")]
    input: Option<PathBuf>,
    /// Evidence: rules see its attestations as they do at the gate
    #[arg(long, value_name = "FILE")]
    input_of: Option<PathBuf>,
    /// Only attestations, or rules about, this type: whole, or short like `git`
    #[arg(short, long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Ask this package only
    #[arg(long, visible_alias = "entry", value_name = "NAME")]
    package: Option<String>,
    /// Show what rules `print`
    #[arg(long)]
    print: bool,
    /// Show the document
    #[arg(short, long)]
    verbose: bool,
    /// What `time.now_ns()` gives (RFC 3339)
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Form of what is printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: Form,
}

/// Rules and a document to ask them about.
struct Asked {
    /// What the document is, for the reader.
    label: String,
    modules: Vec<Module>,
    input: Value,
}

pub(crate) fn eval(args: &EvalArgs, output: &Output) -> Result<Ending, Failure> {
    let asked = match &args.policy {
        Some(policy) => of_policy(args, policy)?,
        None => of_files(args)?,
    };
    // Whatever SOURCE_DATE_EPOCH says: the gate asks the real clock too (security rule 8).
    let now = args.at.unwrap_or_else(surroundings::now);
    let mut limits = Limits::at(now);
    limits.print = args.print;
    let mut text = String::new();
    let mut list = Vec::new();
    let mut denied = false;
    for one in &asked {
        let rules = Rules::compile(&one.modules)
            .map_err(|error| Failure::because(Kind::NoAnswer, "the rules cannot be used", &error))?;
        let all: Vec<&str> = rules.packages().collect();
        let packages = packages(args.package.as_deref(), &all)?;
        let judgement = rules
            .judge(&one.input, &limits)
            .map_err(|error| Failure::because(Kind::NoAnswer, "the rules gave no answer", &error))?;
        if args.verbose {
            let _ = writeln!(text, "input ({}): {:#}", one_line(&one.label), one.input);
        }
        for line in &judgement.prints {
            let _ = writeln!(text, "print: {}", one_line(line));
        }
        let mut results = Vec::new();
        for package in packages {
            let reasons = reasons(&judgement, package);
            denied |= !reasons.is_empty();
            if reasons.is_empty() {
                let _ = writeln!(text, "{}: package {package} passes", one_line(&one.label));
            }
            for reason in &reasons {
                let _ = writeln!(text, "{}: package {package} denies: {}", one_line(&one.label), one_line(reason));
            }
            results.push(json!({ "package": package, "denials": reasons }));
        }
        let mut document = json!({ "document": one.label, "packages": results });
        if args.print {
            document["prints"] = judgement.prints.into();
        }
        if args.verbose {
            document["input"] = one.input.clone();
        }
        list.push(document);
    }
    match args.output {
        Form::Text => output.data(text.as_bytes())?,
        Form::Json => output.data(format!("{:#}\n", Value::from(list)).as_bytes())?,
    }
    Ok(Ending::Code(i32::from(denied)))
}

fn reasons<'a>(judgement: &'a Judgement, package: &str) -> Vec<&'a str> {
    let of = judgement.denials.iter().filter(|denial| denial.package == package);
    of.map(|denial| denial.message.as_str()).collect()
}

/// The packages to ask: all, or the one that is named.
fn packages<'a>(named: Option<&str>, all: &[&'a str]) -> Result<Vec<&'a str>, Failure> {
    let list = || all.join(", ");
    if all.is_empty() {
        return Err(Failure::usage("no package of these modules has a rule `deny`")
            .hint("write `deny contains msg if { … }` in one of them"));
    }
    let Some(named) = named else { return Ok(all.to_vec()) };
    let name = named.strip_prefix("data.").unwrap_or(named);
    let name = name.strip_suffix(".deny").unwrap_or(name);
    if let Some(found) = all.iter().find(|package| **package == name) {
        return Ok(vec![found]);
    }
    let failure = Failure::usage(format!("no package `{name}` is asked; there is: {}", list()));
    Err(match nearest(name, all.iter().copied()) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure.hint("a package is asked where it has a rule `deny`"),
    })
}

fn document(file: &Path) -> Result<Value, Failure> {
    let bytes = read_file(file)?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::because(Kind::NoAnswer, format!("{} is no JSON", file.display()), &error))?;
    if value.get("payload").is_some() && value.get("signatures").is_some() {
        return Err(Failure::usage(format!("{} is an envelope, not a document that rules see", file.display()))
            .hint(format!("name it with `--input-of {}`", file.display())));
    }
    Ok(value)
}

fn evidence(file: &Path) -> Result<Vec<Seen>, Failure> {
    seen(file, &read_file(file)?)
}

/// The attestations that are asked about; there must be one.
fn chosen<'a>(all: &'a [Seen], file: &Path, is_wanted: impl Fn(&Seen) -> bool) -> Result<Vec<&'a Seen>, Failure> {
    let found: Vec<&Seen> = all.iter().filter(|one| is_wanted(one)).collect();
    if found.is_empty() {
        let kinds: Vec<&str> = all.iter().map(|one| affiant_core::policy::source::short_type(&one.kind)).collect();
        return Err(Failure::new(Kind::NotFound, format!("{} has no attestation of that type", file.display()))
            .hint(format!("it has: {}", kinds.join(", "))));
    }
    Ok(found)
}

fn of_files(args: &EvalArgs) -> Result<Vec<Asked>, Failure> {
    let mut modules = Vec::new();
    for path in &args.rego {
        let message = || format!("the rules {} cannot be read", path.display());
        let bytes = read_file(path)?;
        if bytes.len() > MAX_MODULE {
            return Err(Failure::new(Kind::NoAnswer, format!("{}: more than {MAX_MODULE} bytes", message())));
        }
        let text = String::from_utf8(bytes).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
        modules.push(Module { name: path.display().to_string(), text });
    }
    if let Some(file) = &args.input {
        let label = file.display().to_string();
        return Ok(vec![Asked { label, modules, input: document(file)? }]);
    }
    let Some(file) = &args.input_of else { return Ok(Vec::new()) };
    let Some(kind) = &args.kind else {
        return Err(Failure::usage("which attestation of the evidence is not said").hint("name it with `--type git`"));
    };
    let all = evidence(file)?;
    chosen(&all, file, |one| is_kind(kind, &one.kind))?
        .into_iter()
        .map(|one| Ok(Asked { label: label(file, one), modules: modules.clone(), input: one.input(&one.kind)? }))
        .collect()
}

fn label(file: &Path, one: &Seen) -> String {
    format!("{}, {}", file.display(), affiant_core::policy::source::short_type(&one.kind))
}

fn of_policy(args: &EvalArgs, policy: &Path) -> Result<Vec<Asked>, Failure> {
    let loaded = load(policy)?;
    let name = args.step.as_deref().unwrap_or_default();
    let Some(step) = loaded.policy.steps.get(name) else {
        let all: Vec<&str> = loaded.policy.steps.keys().map(String::as_str).collect();
        return Err(Failure::usage(format!("the policy has no step `{name}`; it has: {}", all.join(", "))));
    };
    let ruled: Vec<&Requirement> = step
        .attestations
        .iter()
        .filter(|one| !one.modules.is_empty() && args.kind.as_ref().is_none_or(|kind| is_kind(kind, &one.kind)))
        .collect();
    if ruled.is_empty() {
        let all: Vec<&str> =
            step.attestations.iter().filter(|one| !one.modules.is_empty()).map(|one| one.kind.as_str()).collect();
        let has =
            if all.is_empty() { "no rules at all".to_owned() } else { format!("rules about: {}", all.join(", ")) };
        return Err(Failure::usage(format!("the step `{name}` has no such rules; it has {has}")));
    }
    if let Some(file) = &args.input {
        let [one] = ruled.as_slice() else {
            return Err(Failure::usage(format!("the step `{name}` has rules about several types"))
                .hint("say which with `--type`, or name evidence with `--input-of`"));
        };
        let label = file.display().to_string();
        return Ok(vec![Asked { label, modules: modules(&one.modules), input: document(file)? }]);
    }
    let Some(file) = &args.input_of else { return Ok(Vec::new()) };
    let all = evidence(file)?;
    let mut asked = Vec::new();
    for requirement in ruled {
        for one in all.iter().filter(|one| is_kind(&requirement.kind, &one.kind)) {
            asked.push(ask(step, requirement, one, &all, file)?);
        }
    }
    if asked.is_empty() {
        chosen(&all, file, |_| false)?;
    }
    Ok(asked)
}

fn ask(step: &Step, requirement: &Requirement, one: &Seen, all: &[Seen], file: &Path) -> Result<Asked, Failure> {
    let input = wrapped(step, one.input(&requirement.kind)?, all)?;
    Ok(Asked { label: label(file, one), modules: modules(&requirement.modules), input })
}
