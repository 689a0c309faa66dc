//! `affiant image verify`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use affiant_core::image::found::{self, Accepted, Check, Demand, Found, Refused, Skipped, Sought, judge_signature};
use affiant_core::sign::PublicKey;
use affiant_core::sigstore::{Authority, TrustedRoot};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::annotations::AnnotationArgs;
use super::place::{Image, RegistryArgs, tell_skipped};
use super::targets::no_answer;
use crate::cli::failure::{Failure, Kind};
use crate::cli::inspect::read_file;
use crate::cli::names::Called;
use crate::cli::output::Output;
use crate::cli::{Ending, keys};

/// Refusals that are shown.
const SHOWN: usize = 10;
/// Images that are looked at at the same time.
const AT_ONCE: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    Json,
    Text,
}

/// Whom a check trusts. Only flags say it (security rule 8).
#[derive(Args)]
#[command(next_help_heading = "Trust")]
pub(super) struct TrustArgs {
    /// Public key that must have signed
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Demand no entry in a transparency log
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "TRUTH", conflicts_with = "rekor_url")]
    insecure_ignore_tlog: Option<bool>,
    /// The same as --insecure-ignore-tlog
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "TRUTH")]
    private_infrastructure: Option<bool>,
    /// Demand an entry in the log of this file, unless --insecure-ignore-tlog
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// Demand an entry in this log
    #[arg(long, value_name = "URL")]
    rekor_url: Option<String>,
    /// Demand a timestamp by an authority of --trusted-root
    #[arg(long, requires = "trusted_root")]
    use_signed_timestamps: bool,
    /// Compare image and annotations with what was signed; `--check-claims=false` does not
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "TRUTH", hide = true)]
    check_claims: Option<bool>,
    #[arg(skip)]
    pub(super) called: Called,
}

impl TrustArgs {
    pub(super) fn key(&self) -> Result<PublicKey, Failure> {
        let Some(path) = &self.key else {
            return Err(Failure::usage(
                "no key is named, and checking without one (keyless) is a part that this affiant does not have",
            )
            .hint("name a public key with `--key FILE`"));
        };
        let text = path.to_string_lossy();
        let schemes =
            ["env:", "http:", "https:", "awskms:", "gcpkms:", "azurekms:", "hashivault:", "k8s:", "gitlab:", "pkcs11:"];
        if let Some(scheme) = schemes.iter().find(|scheme| text.starts_with(**scheme)).filter(|_| !path.exists()) {
            return Err(Failure::usage(format!(
                "--key {text}: a key to check with is named by a file, not by {scheme}"
            ))
            .hint("write the public key into a file"));
        }
        let path = text.strip_prefix("file://").map_or(path.as_path(), Path::new);
        match keys::public_key(path) {
            // As cosign does: the public half of a private key in the clear.
            Err(failure) if failure.one_line().contains("private key") => {
                keys::signing_key(&path.to_string_lossy(), None)
                    .map(|loaded| {
                        use affiant_core::sign::Signer as _;
                        loaded.key.public_key().clone()
                    })
                    .map_err(|_| failure)
            }
            other => other,
        }
    }

    /// Whether an entry in a log is demanded: by naming one, and under cosign's name always, as cosign does.
    pub(super) fn demands_log(&self) -> bool {
        let ignored = self.insecure_ignore_tlog == Some(true) || self.private_infrastructure == Some(true);
        let named = self.rekor_url.is_some() || self.trusted_root.is_some() || self.insecure_ignore_tlog == Some(false);
        !ignored && (named || self.called == Called::Cosign)
    }

    /// The authorities that must vouch for the time, where one must.
    pub(super) fn authorities(&self) -> Result<Option<Vec<Authority>>, Failure> {
        let Some(file) = self.trusted_root.as_ref().filter(|_| self.use_signed_timestamps) else { return Ok(None) };
        let bytes = read_file(file)?;
        let root = TrustedRoot::parse(&bytes)
            .map_err(|error| Failure::because(Kind::NoAnswer, format!("{} cannot be used", file.display()), &error))?;
        Ok(Some(root.timestamp_authorities))
    }

    pub(super) fn checks_claims(&self) -> bool {
        self.check_claims != Some(false)
    }
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant image verify --key cosign.pub -a tag=1.2 registry.example/app:1.2 | jq .\n\nExit codes: 0 signed, 2 usage, 4 no answer, 10 no signature, 11 no such image, 12 no signature that has what is demanded."
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
    let key = args.trust.key()?;
    let authorities = args.trust.authorities()?;
    let mut all = Vec::new();
    let look = |name: &String| {
        let image = args.registry.image(name)?;
        let demand = Demand {
            digest: image.digest(),
            key: &key,
            annotations: &annotations,
            log: args.trust.demands_log(),
            time: authorities.as_deref(),
            claims: args.trust.checks_claims(),
        };
        let looked = look(&image, &demand, Sought::Signatures, judge_signature)?;
        Ok((image, looked))
    };
    in_order(&args.images, look, |(image, looked)| {
        let accepted = looked.accepted(&image, "signature", output)?;
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

/// Does `work` for each of the images, some at the same time, and gives what came of it to `take` in their order. The first
/// failure ends it.
pub(super) fn in_order<T: Send>(
    images: &[String],
    work: impl Fn(&String) -> Result<T, Failure> + Sync,
    mut take: impl FnMut(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (send, done) = std::sync::mpsc::sync_channel(AT_ONCE);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(images.len()) {
            let send = send.clone();
            scope.spawn(|| {
                let send = send;
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(image) = images.get(at) else { return };
                    let result = work(image);
                    stop.fetch_or(result.is_err(), Ordering::Relaxed);
                    if send.send((at, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut early = BTreeMap::new();
        let mut wanted = 0;
        for (at, result) in done {
            early.insert(at, result);
            while let Some(result) = early.remove(&wanted) {
                wanted += 1;
                if let Err(failure) = result.and_then(&mut take) {
                    stop.store(true, Ordering::Relaxed);
                    return Err(failure);
                }
            }
        }
        Ok(())
    })
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
    pub(super) fn accepted(self, image: &Image, what: &str, output: &Output) -> Result<Vec<Accepted>, Failure> {
        let Self { accepted, refused, skipped } = self;
        tell_skipped(&skipped, output);
        if !accepted.is_empty() {
            return Ok(accepted);
        }
        if refused.is_empty() {
            let (kind, more) =
                if skipped.is_empty() { (Kind::NoSignature, "") } else { (Kind::NoMatch, " that can be read") };
            return Err(Failure::new(kind, format!("no {what}s found{more} of {}", image.pinned())));
        }
        for (place, why) in refused.iter().take(SHOWN) {
            output.message(&format!("refused: {place}: {why}"));
        }
        if refused.len() > SHOWN {
            output.message(&format!("refused: {} more", refused.len() - SHOWN));
        }
        // What came closest says most: a signature that holds, and misses something.
        let closest = refused.iter().find(|(_, why)| !matches!(why, Refused::Signature(_))).or(refused.first());
        let reason = closest.map(|(_, why)| why.to_string()).unwrap_or_default();
        let mut failure = Failure::new(Kind::NoMatch, format!("no matching {what}s of {}: {reason}", image.pinned()));
        if matches!(closest, Some((_, Refused::Log { .. }))) {
            failure =
                failure.hint("signatures of keys need no log: `--insecure-ignore-tlog` says that none is demanded");
        }
        Err(failure)
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
    if by_all(Check::Key) {
        output.message("  - The signatures were verified against the specified public key");
    }
    if by_all(Check::Time) {
        output.message("  - The signed timestamps were verified against the authorities of the trusted root");
    }
}

/// The payloads, each once: what the same key said in two forms is said once. A bundle has the name that was asked for.
fn distinct(accepted: Vec<Accepted>, image: &Image) -> Vec<Value> {
    let mut shown: Vec<(BTreeMap<String, Value>, Value)> = Vec::new();
    for mut one in accepted {
        let reference = &mut one.payload["critical"]["identity"]["docker-reference"];
        let is_bundle = reference.as_str() == Some("");
        if is_bundle && shown.iter().any(|(optional, _)| *optional == one.optional) {
            continue;
        }
        if is_bundle {
            *reference = image.asked().into();
        }
        shown.push((one.optional, one.payload));
    }
    shown.into_iter().map(|(_, payload)| payload).collect()
}
