//! `affiant image verify-attestation`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use affiant_core::image::found::{Accepted, Sought, judge_attestation};
use affiant_core::rego::{Limits, MAX_MODULE, Module, Rules};
use affiant_core::sigstore::judge::Budget;
use clap::Args;

use super::place::{Image, RegistryArgs};
use super::trust::TrustArgs;
use super::types::Named;
use super::verify::{Shape, in_order, look, tell};
use crate::cli::failure::{Failure, Kind};
use crate::cli::inspect::read_file;
use crate::cli::names::Called;
use crate::cli::output::Output;
use crate::cli::{Ending, surroundings};

/// What a policy is asked.
const ALLOW: [&str; 2] = ["signature", "allow"];

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant image verify-attestation --key cosign.pub --type cyclonedx --policy sbom.rego registry.example/app:1.2\n\nA policy is Rego: package `signature`, whose `allow` must be true; `input` is the statement. All attestations of the type must have it.\nExit codes: 0 attested, 1 a policy says no, 2 usage, 4 no answer, 10 no attestation, 11 no such image, 12 none that has what is demanded, 13 no certificate."
)]
pub(crate) struct VerifyAttestationArgs {
    /// The image; a tag is resolved once
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Type of the predicate: a URI, or a short name as of `attest`
    #[arg(long = "type", value_name = "TYPE", default_value = "custom")]
    kind: String,
    /// Policy in Rego (repeatable: all must say yes)
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
    /// Form of what is printed: envelopes, or predicate types
    #[arg(short, long, value_enum, default_value = "json")]
    output: Shape,
    #[command(flatten)]
    registry: RegistryArgs,
}

impl VerifyAttestationArgs {
    pub(crate) fn call(&mut self, called: Called) {
        self.trust.called = called;
    }
}

/// A policy that was read.
struct Policy {
    name: String,
    rules: Rules,
}

fn policies(files: &[PathBuf]) -> Result<Vec<Policy>, Failure> {
    let read = |file: &PathBuf| {
        let name = file.display().to_string();
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("rego") => {}
            Some("cue") => {
                return Err(Failure::usage(format!("{name}: policies in CUE are not read"))
                    .hint("write it in Rego: package `signature`, rule `allow`"));
            }
            _ => return Err(Failure::usage(format!("{name}: a policy's name ends with `.rego`"))),
        }
        let bytes = read_file(file)?;
        if bytes.len() > MAX_MODULE {
            return Err(Failure::new(Kind::NoAnswer, format!("{name} is longer than {MAX_MODULE} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| Failure::new(Kind::NoAnswer, format!("{name} is no text")))?;
        let rules = Rules::compile(&[Module { name: name.clone(), text }])
            .map_err(|error| Failure::because(Kind::NoAnswer, format!("{name} cannot be used"), &error))?;
        if !rules.packages().any(|package| package == ALLOW[0]) {
            let found: Vec<&str> = rules.packages().collect();
            return Err(Failure::new(Kind::NoAnswer, format!("{name} has no package `{}`", ALLOW[0])).hint(format!(
                "the rule `{}` of the package `{}` is asked for; the file has the package {}",
                ALLOW[1],
                ALLOW[0],
                found.join(", ")
            )));
        }
        Ok(Policy { name, rules })
    };
    files.iter().map(read).collect()
}

pub(super) fn verify_attestation(args: &VerifyAttestationArgs, output: &Output) -> Result<Ending, Failure> {
    let named = Named::read(&args.kind)?;
    let policies = policies(&args.policy)?;
    let trusted = args.trust.read(output)?;
    let wanted = BTreeMap::new();
    let mut text = String::new();
    let look = |name: &String| {
        let image = args.registry.image(name)?;
        let budget = Budget::default();
        let demand = trusted.demand(image.digest(), &wanted, &budget);
        let looked = look(&image, &demand, Sought::Attestations, judge_attestation)?;
        Ok((image, looked))
    };
    in_order(&args.images, look, |(image, looked)| {
        let mut accepted = looked.accepted(&image, "attestation", &trusted, output)?;
        let kinds = kinds(&accepted);
        accepted.retain(|one| one.statement.as_ref().is_some_and(|said| named.is(&said.predicate_type)));
        if accepted.is_empty() {
            let found: Vec<String> = kinds.into_iter().collect();
            return Err(Failure::new(
                Kind::NoMatch,
                format!(
                    "none of the attestations of {} is of the type {}; found: {}",
                    image.pinned(),
                    named.written,
                    found.join(", ")
                ),
            ));
        }
        ask(&policies, &accepted, &image)?;
        tell(&image, &accepted, output);
        for policy in &policies {
            output.message(&format!("  - The policy {} allows each of them", policy.name));
        }
        text += &shown(&accepted, args.output);
        Ok(())
    })?;
    output.data(text.as_bytes())?;
    Ok(Ending::Done)
}

fn kinds(accepted: &[Accepted]) -> BTreeSet<String> {
    accepted.iter().filter_map(|one| one.statement.as_ref()).map(|said| said.predicate_type.clone()).collect()
}

/// Asks each policy about each attestation.
fn ask(policies: &[Policy], accepted: &[Accepted], image: &Image) -> Result<(), Failure> {
    let limits = Limits::at(surroundings::clock()?.now());
    for policy in policies {
        for one in accepted {
            let Some(said) = &one.statement else { continue };
            let input = serde_json::from_slice(&said.envelope.payload)
                .map_err(|error| Failure::because(Kind::NoAnswer, "the statement is no JSON", &error))?;
            let allowed = policy
                .rules
                .allows(&ALLOW, &input, &limits)
                .map_err(|error| Failure::because(Kind::NoAnswer, format!("{} gave no answer", policy.name), &error))?;
            if !allowed {
                return Err(Failure::new(
                    Kind::Denied,
                    format!("{} does not allow the attestation {} of {}", policy.name, one.place, image.pinned()),
                )
                .hint("`data.signature.allow` must be true"));
            }
        }
    }
    Ok(())
}

/// The envelopes, each on a line and each statement once.
fn shown(accepted: &[Accepted], shape: Shape) -> String {
    let mut seen = BTreeSet::new();
    let mut text = String::new();
    for said in accepted.iter().filter_map(|one| one.statement.as_ref()) {
        if !seen.insert(&said.envelope.payload) {
            continue;
        }
        match shape {
            Shape::Text => {
                text.push_str(&crate::cli::output::one_line(&said.predicate_type));
                text.push('\n');
            }
            Shape::Json => {
                let kept = said.bytes.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok());
                let line = kept.filter(|kept| !kept.trim().contains('\n')).map(|kept| kept.trim().to_owned());
                let own = || String::from_utf8_lossy(&said.envelope.to_json()).into_owned();
                text += &line.unwrap_or_else(own);
                text.push('\n');
            }
        }
    }
    text
}
