//! `affiant policy show`: who, what, rules and joins, as text.

use std::fmt::Write as _;
use std::path::PathBuf;

use affiant_core::policy::source::short_type;
use affiant_core::policy::{AnchorText, External, Functionary, Policy, RegoModule, Step};
use affiant_core::trust::Certificate;
use clap::Args;

use super::{Loaded, counted, load};
use crate::cli::Ending;
use crate::cli::failure::Failure;
use crate::cli::output::{Output, one_line};

#[derive(Args)]
pub(crate) struct ShowArgs {
    /// The policy: a source, what was compiled of it, or what was signed
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Show the text of the rules as well
    #[arg(short, long)]
    verbose: bool,
    /// Print the policy as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn show(args: &ShowArgs, output: &Output) -> Result<Ending, Failure> {
    let loaded = load(&args.file)?;
    if args.json {
        output.data(format!("{:#}\n", loaded.value).as_bytes())?;
    } else {
        output.data(text(&args.file.display().to_string(), &loaded, args.verbose).as_bytes())?;
    }
    Ok(Ending::Done)
}

fn text(file: &str, loaded: &Loaded, verbose: bool) -> String {
    let policy = &loaded.policy;
    let mut out = Out(String::new());
    let signed = match &loaded.envelope {
        None => "not signed".to_owned(),
        Some(envelope) => {
            let ids: Vec<&str> = envelope.signatures.iter().map(|one| one.key_id.as_str()).collect();
            format!("signed, not checked; it names {}", ids.join(", "))
        }
    };
    out.line(0, format!("policy {file} ({signed})"));
    let version = policy.version.map(|version| format!("version {version}, ")).unwrap_or_default();
    let begin = policy.not_before.map(|begin| format!("from {begin} ")).unwrap_or_default();
    let end = policy.expires.map_or("without an end, so expired".to_owned(), |end| format!("until {end}"));
    out.line(0, format!("{version}in force {begin}{end}"));
    if let Some(minimum) = policy.minimum_version {
        out.line(0, format!("versions before {minimum} are withdrawn"));
    }
    for step in policy.steps.values() {
        out.step(policy, step, verbose);
    }
    for external in policy.external.values() {
        out.external(policy, external, verbose);
    }
    out.anchors("root", &policy.roots);
    out.anchors("timestamp authority", &policy.authorities);
    for unknown in &policy.unknown {
        out.line(0, format!("\nnot known, so passed over: {}", unknown.at));
    }
    out.0
}

struct Out(String);

impl Out {
    fn line(&mut self, indent: usize, text: impl AsRef<str>) {
        for part in text.as_ref().split('\n') {
            let _ = writeln!(self.0, "{}", format!("{:indent$}{}", "", one_line(part)).trim_end());
        }
    }

    fn step(&mut self, policy: &Policy, step: &Step, verbose: bool) {
        self.line(0, format!("\nstep {}", step.name));
        self.who(policy, &step.functionaries, step.threshold);
        let codes: Vec<String> = step.exit_codes.iter().map(ToString::to_string).collect();
        match (codes.is_empty(), step.command_optional) {
            (false, _) => self.line(2, format!("the command ended with {}", codes.join(" or "))),
            (true, true) => self.line(2, "evidence without a command will do"),
            (true, false) => self.line(2, "the command ended with any code"),
        }
        if !step.artifacts_from.is_empty() {
            self.line(2, format!("its files are as {} left them", step.artifacts_from.join(" and ")));
        }
        for glob in &step.allowed_untracked {
            self.line(4, format!("but for {}", glob.pattern()));
        }
        let mut time = Vec::new();
        time.extend(step.time.not_before.map(|time| format!("not before {time}")));
        time.extend(step.time.not_after.map(|time| format!("not after {time}")));
        time.extend(step.time.max_age.map(|age| format!("at most {age:#} ago")));
        if !time.is_empty() {
            self.line(2, format!("signed {}", time.join(", ")));
        }
        self.line(2, if step.attestations.is_empty() { "attests nothing: no evidence fits" } else { "attests" });
        for requirement in &step.attestations {
            let age = requirement.max_age.map(|age| format!(", at most {age:#} old")).unwrap_or_default();
            self.line(4, format!("{}{age}", short_type(&requirement.kind)));
            self.rules(&requirement.modules, verbose);
        }
        let seen: Vec<&str> = step.attestations_from.iter().chain(&step.external_from).map(String::as_str).collect();
        if !seen.is_empty() {
            self.line(2, format!("its rules also see {}", seen.join(" and ")));
        }
    }

    fn external(&mut self, policy: &Policy, external: &External, verbose: bool) {
        let must = if external.required { "must be there" } else { "may be missing" };
        self.line(0, format!("\nexternal attestation {} ({must})", external.name));
        self.who(policy, &external.functionaries, 1);
        self.line(
            2,
            format!(
                "a statement of type {}, about something that a step has made",
                short_type(&external.predicate_type)
            ),
        );
        self.rules(&external.modules, verbose);
    }

    fn who(&mut self, policy: &Policy, functionaries: &[Functionary], threshold: usize) {
        if functionaries.is_empty() {
            return self.line(2, "signed by nobody: no evidence fits");
        }
        let number = if threshold == 1 { "one".to_owned() } else { threshold.to_string() };
        self.line(2, format!("signed by {number} of"));
        for functionary in functionaries {
            let mut parts = Vec::new();
            if let Some(id) = &functionary.key_id {
                let known = policy.keys.iter().find(|key| key.id == *id);
                let kind = known.map_or("not in the policy".to_owned(), |known| known.key.kind().to_string());
                parts.push(format!("key {id} ({kind})"));
            }
            if let Some(constraint) = &functionary.constraint {
                parts.push(format!("certificate with {constraint}"));
            }
            let parts = if parts.is_empty() { "nobody".to_owned() } else { parts.join(" and ") };
            self.line(4, parts);
        }
    }

    fn rules(&mut self, modules: &[RegoModule], verbose: bool) {
        for module in modules {
            let package = module.text.lines().find_map(|line| line.trim().strip_prefix("package "));
            let package = package.map(|name| format!(", package {}", name.trim())).unwrap_or_default();
            let lines = counted(module.text.lines().count(), "line");
            self.line(6, format!("rules {}{package} ({lines})", module.name));
            if verbose {
                self.line(8, module.text.trim_end());
            }
        }
    }

    fn anchors(&mut self, what: &str, anchors: &std::collections::BTreeMap<String, AnchorText>) {
        for (id, anchor) in anchors {
            let label = match Certificate::read(&anchor.certificate) {
                Ok(certificate) => format!("{}, until {}", certificate.label(), certificate.not_after()),
                Err(error) => format!("unreadable: {error}"),
            };
            self.line(0, format!("\n{what} {id}: {label}"));
        }
    }
}
