//! `affiant kyverno check`: what Kyverno's `verifyImages` rules will say of an image.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::rc::Rc;

use affiant_core::image::Digest;
use affiant_core::kyverno::{Answer, Asked, Evidence, Outcome, Policy, Version, check};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::Ending;
use super::failure::{Failure, Kind};
use super::image::{TargetArgs, no_answer};
use super::inspect::read_file_within;
use super::output::{Output, one_line};
use super::surroundings;
use super::trust::{self, Getting};

/// Largest policy file, in bytes.
const MAX_FILE: usize = 16 << 20;

#[derive(Subcommand)]
pub(crate) enum KyvernoVerb {
    /// Say what the `verifyImages` rules of policies look for beside an image, and whether it is there and would pass
    Check(Box<CheckArgs>),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant kyverno check registry.example/app:1.2 -f policy.yaml\n\nExit codes: 0 every rule about the image would pass, 1 one would fail, 2 usage, 3 no rule is about the image, 4 no answer, or one is not judged."
)]
pub(crate) struct CheckArgs {
    /// The image; a tag is resolved once
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Policies of Kyverno (YAML; repeatable, comma-separated)
    #[arg(short, long = "policy", value_name = "FILE", value_delimiter = ',', required = true)]
    file: Vec<PathBuf>,
    /// The image's name in the cluster, where it is another one than IMAGE
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The release of Kyverno
    #[arg(long, value_name = "VERSION", default_value_t = Version::NEWEST)]
    kyverno: Version,
    /// Whom Kyverno believes where the rule does not say, and about bundles: what its TUF repository has, a file or `public`
    #[arg(long, value_name = "ROOT")]
    trusted_root: Option<String>,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value = "text")]
    output: Form,
    #[command(flatten)]
    targets: TargetArgs,
}

pub(crate) fn kyverno(verb: &KyvernoVerb, output: &Output) -> Result<Ending, Failure> {
    match verb {
        KyvernoVerb::Check(args) => predict(args, output),
    }
}

fn predict(args: &CheckArgs, output: &Output) -> Result<Ending, Failure> {
    let mut policies = Vec::new();
    for file in &args.file {
        let bytes = read_file_within(file, MAX_FILE)?;
        let read = Policy::read(&bytes)
            .map_err(|error| Failure::because(Kind::NoAnswer, format!("{} cannot be used", file.display()), &error))?;
        policies.extend(read);
    }
    let image = args.targets.source(&args.image)?;
    let stored = image.repository.manifest(&image.at).map_err(|error| no_answer(&args.image, &error))?;
    let stored = stored.ok_or_else(|| {
        Failure::new(Kind::NoAnswer, format!("{} is not there", args.image))
            .hint("is the name right, and was the image pushed?")
    })?;
    let digest = stored.digest().clone();
    let mut gathered: Vec<(Option<String>, Rc<Evidence>)> = Vec::new();
    let mut evidence = |repository: Option<&str>| -> Result<Rc<Evidence>, Failure> {
        if let Some((_, known)) = gathered.iter().find(|(name, _)| name.as_deref() == repository) {
            return Ok(Rc::clone(known));
        }
        let other = repository.map(|name| args.targets.source(name)).transpose()?;
        let place = other.as_ref().unwrap_or(&image);
        let found = Evidence::gather(&*place.repository, &digest)
            .map_err(|error| no_answer(repository.unwrap_or(&args.image), &error))?;
        let found = Rc::new(found);
        gathered.push((repository.map(str::to_owned), Rc::clone(&found)));
        Ok(found)
    };
    let name = args.name.as_deref().unwrap_or(&args.image);
    let now = surroundings::clock()?.now();
    let root = args
        .trusted_root
        .as_deref()
        .map(|root| trust::load(root, Getting { flag: "--trusted-root", offline: false }, output));
    let root = root.transpose()?;
    let asked = Asked { name, digest: &digest, is_pinned: name.contains('@'), now, root: root.as_ref() };
    let mut outcomes = Vec::new();
    for policy in &policies {
        for rule in &policy.rules {
            outcomes.push(check(policy, rule, asked, args.kyverno, &mut evidence)?);
        }
    }
    let text = match args.output {
        Form::Text => outcomes.iter().map(|outcome| text(outcome, name, &digest)).collect(),
        Form::Json => {
            let list: Vec<_> = outcomes.iter().map(shown).collect();
            let all = json!({ "image": name, "digest": digest, "kyverno": args.kyverno.to_string(), "rules": list });
            format!("{all:#}\n")
        }
    };
    output.data(text.as_bytes())?;
    Ok(Ending::Code(match outcomes.iter().map(|outcome| outcome.answer).max() {
        Some(Answer::Pass) => 0,
        Some(Answer::Fail) => 1,
        Some(Answer::NotJudged) => 4,
        Some(Answer::NotMatched) | None => 3,
    }))
}

fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Pass => "pass",
        Answer::Fail => "fail",
        Answer::NotJudged => "not judged",
        Answer::NotMatched => "not matched",
    }
}

fn shown(outcome: &Outcome) -> serde_json::Value {
    json!({
        "policy": outcome.policy,
        "rule": outcome.rule,
        "answer": word(outcome.answer),
        "audits": outcome.audits,
        "looksFor": outcome.looks_for,
        "found": outcome.found,
        "reasons": outcome.reasons,
        "fixes": outcome.fixes,
        "warnings": outcome.warnings,
    })
}

fn text(outcome: &Outcome, name: &str, digest: &Digest) -> String {
    let mut text = String::new();
    let head = format!("{}, rule {}: {name} ({digest})", outcome.policy, outcome.rule);
    let _ = writeln!(text, "{}: {}", word(outcome.answer).to_uppercase(), one_line(&head));
    let lines = |text: &mut String, what: &str, lines: &mut dyn Iterator<Item = &String>| {
        for line in lines {
            let _ = writeln!(text, "  {what:<10} {}", one_line(line));
        }
    };
    lines(&mut text, "looks for", &mut outcome.looks_for.iter());
    lines(&mut text, "found", &mut outcome.found.iter());
    lines(&mut text, "because", &mut outcome.reasons.iter());
    if outcome.answer == Answer::Fail && outcome.audits {
        text.push_str("  but        it is reported only (Audit): nothing is kept out\n");
    }
    if outcome.answer != Answer::Pass {
        lines(&mut text, "fix", &mut outcome.fixes.iter());
    }
    lines(&mut text, "warning", &mut outcome.warnings.iter());
    text
}
