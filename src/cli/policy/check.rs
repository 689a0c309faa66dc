//! `affiant policy check` and `validate`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use affiant_attestors::BUILT_IN;
use affiant_core::evidence::kinds;
use affiant_core::policy::check::{Finding, Severity, Surroundings, check as look};
use affiant_core::trust::Trust;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{LoadError, Loaded, counted, try_load};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, one_line};
use crate::cli::{Ending, keys, surroundings};

/// Members that evidence of peers has besides ours, and those that the gate adds.
const MORE_MEMBERS: [(&str, &[&str]); 3] = [
    ("git", &["gitbinpath", "gitbinhash"]),
    ("oci", &["image_digest", "cosign_subject"]),
    ("docker", &["image_digest", "cosign_subject"]),
];

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    Text,
    Json,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant policy check policy.yaml\n\nExit codes: 0 nothing that must be corrected, 1 errors (with --strict: or warnings), 2 usage, 4 the file cannot be read."
)]
pub(crate) struct CheckArgs {
    /// The policy: a source, what was compiled of it, or what was signed
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Public key of the policy's signer: its signature is checked as well (repeatable: any of them)
    #[arg(short = 'k', long = "key", visible_alias = "publickey", value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Form of what is printed
    #[arg(short, long, value_enum, default_value = "text", conflicts_with = "json")]
    output: Form,
    /// The same as `--output json`
    #[arg(long)]
    json: bool,
    /// Warnings fail as well
    #[arg(long)]
    strict: bool,
    /// Show notes as well
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Print nothing: the exit code says it
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Args)]
pub(crate) struct ValidateArgs {
    /// The policy
    #[arg(short, long, value_name = "FILE")]
    policy: PathBuf,
    /// Public key of the policy's signer
    #[arg(short = 'k', long = "publickey", visible_alias = "key", value_name = "FILE")]
    publickey: Vec<PathBuf>,
    /// Form of what is printed
    #[arg(short, long, value_enum, default_value = "text", visible_alias = "format")]
    output: Form,
}

pub(crate) fn validate(args: &ValidateArgs, output: &Output) -> Result<Ending, Failure> {
    let args = CheckArgs {
        file: args.policy.clone(),
        key: args.publickey.clone(),
        output: args.output,
        json: false,
        strict: false,
        verbose: false,
        quiet: false,
    };
    check(&args, output)
}

pub(crate) fn check(args: &CheckArgs, output: &Output) -> Result<Ending, Failure> {
    let keys = args.key.iter().map(|path| keys::public_key(path)).collect::<Result<Vec<_>, _>>()?;
    let (mut found, signature) = match try_load(&args.file) {
        Err(LoadError::File(failure)) => return Err(failure),
        Err(LoadError::Source(error)) => (vec![Finding::of_error(&error)], None),
        Ok(loaded) => {
            let (signature, mut found) = signature(&loaded, keys);
            let signers = match &signature {
                Some(Signature::Checked(ids)) => ids.clone(),
                _ => Vec::new(),
            };
            found.extend(findings(&loaded, &signers)?);
            (found, signature)
        }
    };
    found.sort_by_key(|finding| finding.severity);
    let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings, notes) = (count(Severity::Error), count(Severity::Warning), count(Severity::Note));
    let file = args.file.display().to_string();
    let text = if args.json || args.output == Form::Json {
        let document = json!({
            "schema": "affiant.policy-findings/v1",
            "policy": file,
            "signature": signature.as_ref().map(Signature::json),
            "findings": found.iter().map(as_json).collect::<Vec<_>>(),
            "errors": errors,
            "warnings": warnings,
            "notes": notes,
        });
        format!("{document:#}\n")
    } else {
        let mut text = String::new();
        for finding in found.iter().filter(|finding| args.verbose || finding.severity != Severity::Note) {
            let _ = writeln!(text, "{}", line(&file, finding));
            let _ = writeln!(text, "  fix: {}", one_line(&finding.fix));
        }
        if let Some(signature) = &signature {
            let _ = writeln!(text, "{}: {}", one_line(&file), signature.text());
        }
        let hidden = if notes > 0 && !args.verbose { " (`--verbose` shows them)" } else { "" };
        let _ = writeln!(
            text,
            "{}: {}, {}, {}{hidden}",
            one_line(&file),
            counted(errors, "error"),
            counted(warnings, "warning"),
            counted(notes, "note")
        );
        text
    };
    if !args.quiet {
        output.data(text.as_bytes())?;
    }
    let fails = errors > 0 || (args.strict && warnings > 0);
    Ok(Ending::Code(i32::from(fails)))
}

/// What is known of the signature of a signed policy.
enum Signature {
    Unchecked,
    Checked(Vec<String>),
    Bad,
}

impl Signature {
    fn json(&self) -> Value {
        match self {
            Self::Unchecked => json!({ "checked": false }),
            Self::Checked(ids) => json!({ "checked": true, "valid": true, "keyids": ids }),
            Self::Bad => json!({ "checked": true, "valid": false }),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Unchecked => "signed; name a key with `--key FILE` to check the signature".to_owned(),
            Self::Checked(ids) => format!("signed by {}", ids.join(", ")),
            Self::Bad => "signed, but not by a key that was named".to_owned(),
        }
    }
}

fn signature(loaded: &Loaded, keys: Vec<affiant_core::sign::PublicKey>) -> (Option<Signature>, Vec<Finding>) {
    let finding = |message: String, fix: &str| Finding {
        severity: Severity::Error,
        at: String::new(),
        line: None,
        message,
        fix: fix.to_owned(),
    };
    match (&loaded.envelope, keys.is_empty()) {
        (None, true) => (None, Vec::new()),
        (None, false) => {
            let found = finding("the policy is not signed".to_owned(), "sign it with `affiant policy sign`");
            (None, vec![found])
        }
        (Some(_), true) => (Some(Signature::Unchecked), Vec::new()),
        (Some(envelope), false) => {
            let trust = Trust { keys, ..Trust::default() };
            match trust.check(envelope.clone()) {
                Ok(checked) => {
                    let ids = checked.signers().iter().map(|signer| signer.key_id.clone()).collect();
                    (Some(Signature::Checked(ids)), Vec::new())
                }
                Err(refused) => {
                    let found =
                        finding(refused.reason.to_string(), "name the key of its signer, or have it signed again");
                    (Some(Signature::Bad), vec![found])
                }
            }
        }
    }
}

/// What there is to say about a policy that could be read.
pub(super) fn findings(loaded: &Loaded, signers: &[String]) -> Result<Vec<Finding>, Failure> {
    // A source whose `expires` counts from now was compiled with this clock; what is signed already ends when it ends.
    let now = if loaded.envelope.is_some() { surroundings::now() } else { surroundings::clock()?.now() };
    let around = Surroundings { document: loaded.document.as_ref(), now, members: &members, signers };
    Ok(look(&loaded.policy, &loaded.value, &around))
}

/// Tells of errors on the way to a signature: a policy that nobody can satisfy may be signed all the same.
pub(super) fn warn(file: &Path, loaded: &Loaded, output: &Output) -> Result<(), Failure> {
    for finding in findings(loaded, &[])?.iter().filter(|finding| finding.severity == Severity::Error) {
        output.message(&line(&file.display().to_string(), finding));
    }
    Ok(())
}

/// `FILE:LINE: severity: member: text`.
fn line(file: &str, finding: &Finding) -> String {
    let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
    // What a member's error says begins with the member.
    let at = if finding.at.is_empty() || finding.message.starts_with(&format!("`{}`", finding.at)) {
        String::new()
    } else {
        format!("{}: ", finding.at)
    };
    one_line(&format!("{file}{line}: {}: {at}{}", finding.severity.word(), finding.message))
}

fn as_json(finding: &Finding) -> Value {
    json!({
        "severity": finding.severity.word(),
        "at": finding.at,
        "line": finding.line,
        "message": finding.message,
        "fix": finding.fix,
    })
}

/// The members that evidence of a type can have, by the schema of the attestor that makes it.
fn members(kind: &str) -> Option<Vec<String>> {
    let about = BUILT_IN.iter().map(|attestor| attestor.about).find(|about| kinds::same(about.predicate_type, kind))?;
    let schema: Value = serde_json::from_str(about.schema).ok()?;
    let mut names: Vec<String> = schema.get("properties")?.as_object()?.keys().cloned().collect();
    if names.is_empty() {
        return None;
    }
    let more = MORE_MEMBERS.iter().find(|(name, _)| *name == about.name);
    names.extend(more.into_iter().flat_map(|(_, more)| more.iter().map(|name| (*name).to_owned())));
    Some(names)
}
