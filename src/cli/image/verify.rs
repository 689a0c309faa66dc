//! `affiant image verify`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use affiant_core::at_once::{self, UnderWay};
use affiant_core::image::found::{self, Accepted, Check, Demand, Found, Refused, Skipped, Sought, judge_signature};
use affiant_core::sigstore::budget::Budget;
use affiant_core::sigstore::judge;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::annotations::AnnotationArgs;
use super::place::{Image, RegistryArgs, tell_skipped};
use super::targets::no_answer;
use super::trust::{TrustArgs, Trusted, of_proof};
use crate::cli::Ending;
use crate::cli::failure::{Failure, Kind};
use crate::cli::names::Called;
use crate::cli::output::Output;

/// Refusals that are shown.
const SHOWN: usize = 10;
/// Images that are looked at, or signed, at the same time.
const AT_ONCE: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    Json,
    Text,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant image verify --key cosign.pub -a tag=1.2 registry.example/app:1.2 | jq .\n\nExit codes: 0 signed, 2 usage, 4 no answer, 10 no signature, 11 no such image, 12 no signature that has what is demanded, 13 no certificate."
)]
pub(crate) struct VerifyArgs {
    /// The image; a tag is resolved once
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    #[command(flatten)]
    annotations: AnnotationArgs,
    #[command(flatten)]
    pub(super) trust: TrustArgs,
    /// Form of what is printed
    #[arg(short, long, value_enum, default_value = "json")]
    output: Shape,
    #[command(flatten)]
    registry: RegistryArgs,
}

impl VerifyArgs {
    pub(crate) fn call(&mut self, called: Called) {
        self.trust.called = called;
    }
}

pub(super) fn verify(args: &VerifyArgs, output: &Output) -> Result<Ending, Failure> {
    let annotations = args.annotations.read(output)?;
    if args.trust.asks_no_registry() {
        args.images.iter().try_for_each(|name| args.registry.refuse_offline(name))?;
    }
    args.trust.needs_claims(&annotations, output)?;
    let trusted = args.trust.read(output)?;
    let mut all = Vec::new();
    let look = |name: &String| {
        let image = args.registry.image(name)?;
        let budget = Budget::default();
        let demand = trusted.demand(image.digest(), &annotations, &budget);
        let looked = look(&image, &demand, Sought::Signatures, judge_signature)?;
        Ok((image, looked))
    };
    in_order(&args.images, look, |(image, looked)| {
        let accepted = looked.accepted(&image, "signature", &trusted, output)?;
        tell(&image, &accepted, output);
        all.extend(distinct(accepted, &image));
        Ok(())
    })?;
    let text = match args.output {
        Shape::Json => format!("{}\n", Value::from(all)),
        Shape::Text => all.iter().flat_map(|payload| [payload.to_string(), "\n".to_owned()]).collect(),
    };
    output.data(text.as_bytes())?;
    Ok(Ending::Done)
}

/// Does `work` for each of the jobs, some at the same time, and gives what came of it to `take` in their order. The first
/// failure ends it.
pub(super) fn in_order<J: Sync, T: Send>(
    jobs: &[J],
    work: impl Fn(&J) -> Result<T, Failure> + Sync,
    take: impl FnMut(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    at_once::in_order(jobs, AT_ONCE, UnderWay::Dropped, work, take)
}

/// The same; what was under way when one failed is given to `take` as well, for it was done. Nothing more is begun, and
/// `left` gets those jobs.
pub(super) fn all_in_order<J: Sync, T: Send>(
    jobs: &[J],
    work: impl Fn(&J) -> Result<T, Failure> + Sync,
    take: impl FnMut(T) -> Result<(), Failure>,
    left: impl FnOnce(&[J]),
) -> Result<(), Failure> {
    let begun = AtomicUsize::new(0);
    let counted = |job: &J| {
        begun.fetch_add(1, Ordering::Relaxed);
        work(job)
    };
    let ended = at_once::in_order(jobs, AT_ONCE, UnderWay::Taken, counted, take);
    if ended.is_err() {
        // They are begun in their order.
        left(jobs.get(begun.into_inner()..).unwrap_or_default());
    }
    ended
}

/// What was found about an image.
pub(super) struct Looked {
    accepted: Vec<Accepted>,
    refused: Vec<(String, Refused)>,
    skipped: Vec<Skipped>,
}

/// Finds and judges.
pub(super) fn look(
    image: &Image,
    demand: &Demand<'_>,
    sought: Sought,
    judge: impl Fn(&Found, &Demand<'_>) -> Result<Accepted, Refused>,
) -> Result<Looked, Failure> {
    let mut accepted = Vec::new();
    let mut refused: Vec<(String, Refused)> = Vec::new();
    let skipped =
        found::each(&image.keepers(), image.prefix(), demand.digest, sought, |found| match judge(&found, demand) {
            Ok(one) => accepted.push(one),
            Err(why) => refused.push((found.place, why)),
        })
        .map_err(|error| no_answer(&image.pinned(), &error))?;
    Ok(Looked { accepted, refused, skipped })
}

impl Looked {
    /// What has what is demanded; fails, with the reasons, where nothing has.
    pub(super) fn accepted(
        self,
        image: &Image,
        what: &str,
        trusted: &Trusted,
        output: &Output,
    ) -> Result<Vec<Accepted>, Failure> {
        let Self { accepted, refused, skipped } = self;
        tell_skipped(&skipped, output);
        if !accepted.is_empty() {
            return Ok(accepted);
        }
        // What is demanded may be in what cannot be read.
        let hidden = skipped.iter().find(|one| one.hides);
        if refused.is_empty() {
            let (kind, more) =
                if skipped.is_empty() { (Kind::NoSignature, "") } else { (Kind::NoMatch, " that can be read") };
            let kind = if hidden.is_some() { Kind::NoAnswer } else { kind };
            return Err(Failure::new(kind, format!("no {what}s found{more} of {}", image.pinned())));
        }
        for (place, why) in refused.iter().take(SHOWN) {
            output.message(&format!("refused: {place}: {why}"));
        }
        if refused.len() > SHOWN {
            output.message(&format!("refused: {} more", refused.len() - SHOWN));
        }
        if let Some(Skipped { place, .. }) = hidden {
            let message = format!("no matching {what}s of {} were found, and {place} cannot be read", image.pinned());
            return Err(Failure::new(Kind::NoAnswer, message));
        }
        // What came closest says most: a signature that holds, and misses something.
        let closest = refused.iter().rev().map(|(_, why)| why).max_by_key(|why| nearness(why));
        let Some(closest) = closest else { return Ok(accepted) };
        let message = format!("no matching {what}s of {}: {closest}", image.pinned());
        let Some(reason) = of_proof(closest) else { return Err(Failure::new(Kind::NoMatch, message)) };
        Err(trusted.advise(reason, Failure::new(Trusted::kind(reason), message), output))
    }
}

/// How much a refusal says about what was looked for: one of somebody else's signatures says little.
fn nearness(refused: &Refused) -> u8 {
    match refused {
        Refused::Proof(judge::Refused::NoCertificate { .. }) => 0,
        Refused::Proof(
            judge::Refused::Signature(_)
            | judge::Refused::Certificate { .. }
            | judge::Refused::Stranger { .. }
            // Somebody else's; whoever is told so by an identity that is proven learns more.
            | judge::Refused::Log { of_stranger: true, .. },
        ) => 1,
        Refused::Proof(judge::Refused::Identity(_)) => 2,
        _ => 3,
    }
}

/// Says what was checked, and nothing that was not.
pub(super) fn tell(image: &Image, accepted: &[Accepted], output: &Output) {
    let checks: Vec<&BTreeSet<Check>> = accepted.iter().map(|one| &one.checks).collect();
    let by_all = |check: Check| checks.iter().all(|checks| checks.contains(&check));
    output.message("");
    output.message(&format!("Verification for {} --", image.pinned()));
    output.message("The following checks were performed on each of these signatures:");
    if by_all(Check::Claims) {
        output.message("  - The cosign claims were validated");
    }
    for (check, text) in [
        (Check::Log, "Existence of the claims in the transparency log was verified offline"),
        (Check::Key, "The signatures were verified against the specified public key"),
        (
            Check::Certificate,
            "The code-signing certificate was verified using trusted certificate authority certificates",
        ),
        (Check::Transparency, "The code-signing certificate is in a trusted log of certificates"),
        (Check::Identity, "The identity and issuer of the certificate are those that were demanded"),
        (Check::Time, "The signed timestamps were verified against trusted authorities"),
    ] {
        if by_all(check) {
            output.message(&format!("  - {text}"));
        }
    }
}

/// The payloads, each once: what the same signer said in two forms is said once. A bundle has the name that was asked for.
fn distinct(mut accepted: Vec<Accepted>, image: &Image) -> Vec<Value> {
    let is_bundle = |one: &Accepted| one.payload["critical"]["identity"]["docker-reference"].as_str() == Some("");
    // Where both forms are referrers, a list has them in any order.
    accepted.sort_by_key(is_bundle);
    let mut shown: Vec<(Vec<String>, BTreeMap<String, Value>, Value)> = Vec::new();
    for mut one in accepted {
        let signer =
            one.proof.identity.iter().flat_map(|signer| std::iter::once(&signer.subject).chain(&signer.issuer));
        let signer: Vec<String> = signer.cloned().collect();
        let is_bundle = is_bundle(&one);
        let is_same = |(other, optional, _): &(Vec<String>, _, _)| *other == signer && *optional == one.optional;
        if is_bundle && shown.iter().any(is_same) {
            continue;
        }
        if is_bundle {
            one.payload["critical"]["identity"]["docker-reference"] = image.asked().into();
        }
        shown.push((signer, one.optional, one.payload));
    }
    shown.into_iter().map(|(_, _, payload)| payload).collect()
}
