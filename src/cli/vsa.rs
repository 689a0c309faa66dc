//! `affiant verify-vsa`: is this summary one to rely on?

use std::fmt::Write as _;
use std::path::PathBuf;

use affiant_core::digest::sha256_hex;
use affiant_core::dsse::Envelope;
use affiant_core::image::Digest;
use affiant_core::trust::{CheckError, Trust};
use affiant_core::verdict::{Check, CheckKind};
use affiant_core::verify::MAX_ENVELOPE;
use affiant_core::vsa::{self, Expected};
use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::failure::{Failure, Kind};
use super::output::{Output, one_line};
use super::verify::{artifact, refuse_trust_from_environment};
use super::{Ending, inspect, keys};

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant verify-vsa vsa.json -k gate.pub --resource-uri image.tar image.tar\n\nExit codes: 0 the summary says passed, and all that was asked holds; 1 denied; 2 usage; 4 no answer possible."
)]
pub(crate) struct VerifyVsaArgs {
    /// The signed summary; `-` for stdin
    #[arg(value_name = "VSA")]
    summary: PathBuf,
    /// What it must be about: a file, a folder, or the digest of an image, `[NAME@]sha256:HEX`
    #[arg(value_name = "ARTIFACT")]
    artifact: PathBuf,
    /// Public key of the gate (repeatable: any of them)
    #[arg(short = 'k', long = "publickey", visible_alias = "key", value_name = "FILE", required = true)]
    publickey: Vec<PathBuf>,
    /// Who must have verified
    #[arg(long, value_name = "ID", default_value = "affiant")]
    verifier_id: String,
    /// What the artifact must be called
    #[arg(long, value_name = "URI")]
    resource_uri: String,
    /// The policy that it must have been verified under: its file, or `sha256:` and the digest of its payload
    #[arg(short, long, value_name = "FILE|DIGEST")]
    policy: Option<String>,
    /// A level that must be among the verified ones
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// How long ago it may have been verified, such as `24h`
    #[arg(long, value_name = "DURATION")]
    max_age: Option<SignedDuration>,
}

/// The digest of a name of an image that has one. A file of such a name is meant by `./`.
fn digest_of(name: &std::path::Path) -> Option<(String, String)> {
    let name = name.to_str()?;
    let digest: Digest = name.rsplit_once('@').map_or(name, |(_, digest)| digest).parse().ok()?;
    Some(("sha256".to_owned(), digest.hex().to_owned()))
}

pub(crate) fn verify_vsa(args: &VerifyVsaArgs, output: &Output) -> Result<Ending, Failure> {
    refuse_trust_from_environment()?;
    let keys = args.publickey.iter().map(|path| keys::public_key(path)).collect::<Result<Vec<_>, _>>()?;
    let artifact = match digest_of(&args.artifact) {
        Some(digest) => digest,
        None => artifact(&args.artifact)?.digests.0.into_iter().next().unwrap_or_default(),
    };
    let label = args.summary.display().to_string();
    let bytes = inspect::read_file(&args.summary)?;
    let envelope = Envelope::parse(&bytes, MAX_ENVELOPE)
        .map_err(|error| Failure::because(Kind::NoAnswer, format!("{label} is no envelope"), &error))?;
    let expected = Expected {
        artifact: Some(artifact),
        verifier: args.verifier_id.clone(),
        resource: args.resource_uri.clone(),
        policy: args.policy.as_deref().map(policy_digest).transpose()?,
        level: args.level.clone(),
        since: args.max_age.map(|age| Timestamp::now() - age),
    };
    let trust = Trust { keys, ..Trust::default() };
    let checks = match trust.check(envelope) {
        Ok(checked) => vsa::check(&checked, &expected, &label),
        Err(refused) => {
            let fix = match &refused.reason {
                CheckError::NoneCounts { refused } => refused.first().map_or("", |first| first.reason.remedy()),
                _ => "name the key of the gate that signed it",
            };
            let expected = "a signature by a key that was named";
            vec![Check::failed(CheckKind::Signature, expected, refused.reason.to_string()).at(label.as_str()).fix(fix)]
        }
    };
    let failed = checks.iter().find(|check| check.has_failed());
    let mut text = format!("{}: {}\n", if failed.is_some() { "DENIED" } else { "PASSED" }, one_line(&label));
    match failed {
        None => {
            for check in &checks {
                let _ = writeln!(text, "  {:<12} {}", check.kind.word(), one_line(&check.found));
            }
        }
        Some(check) => {
            let _ = writeln!(text, "  check      {}", check.kind.word());
            let _ = writeln!(text, "  expected   {}", one_line(&check.expected));
            let _ = writeln!(text, "  found      {}", one_line(&check.found));
            let _ = writeln!(text, "  to do      {}", one_line(&check.fix));
        }
    }
    output.data(text.as_bytes())?;
    Ok(Ending::Code(i32::from(failed.is_some())))
}

/// The SHA-256 of a policy's payload.
fn policy_digest(text: &str) -> Result<String, Failure> {
    if let Some(digest) = text.strip_prefix("sha256:") {
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        return if is_digest {
            Ok(digest.to_ascii_lowercase())
        } else {
            Err(Failure::usage(format!("--policy {text}: not a digest")).hint("write `sha256:` and 64 hex digits"))
        };
    }
    let bytes = inspect::read_file(&PathBuf::from(text))?;
    let envelope = Envelope::parse(&bytes, MAX_ENVELOPE)
        .map_err(|error| Failure::because(Kind::NoAnswer, format!("the policy {text} is no envelope"), &error))?;
    Ok(sha256_hex(&envelope.payload))
}
