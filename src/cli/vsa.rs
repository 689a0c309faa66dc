//! `affiant verify-vsa`: is this summary one to rely on?

use std::fmt::Write as _;
use std::path::PathBuf;

use affiant_core::digest::sha256_hex;
use affiant_core::dsse::Envelope;
use affiant_core::image::Digest;
use affiant_core::policy::source::believe;
use affiant_core::sigstore::identity::Wanted;
use affiant_core::sigstore::{Log, TrustedRoot};
use affiant_core::trust::{CheckError, SignerProof, Trust};
use affiant_core::verdict::{Check, CheckKind};
use affiant_core::verify::{MAX_ENVELOPE, open_envelope};
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
    #[arg(
        short = 'k',
        long = "publickey",
        visible_alias = "key",
        value_name = "FILE",
        required_unless_present = "trusted_root"
    )]
    publickey: Vec<PathBuf>,
    /// Sigstore's trusted root (`trusted_root.json`), for a summary that an identity signed
    #[arg(long, value_name = "FILE", requires_all = ["certificate_identity", "certificate_oidc_issuer"])]
    trusted_root: Option<PathBuf>,
    /// Who that must be, as its certificate says
    #[arg(long, value_name = "NAME", requires = "trusted_root")]
    certificate_identity: Option<String>,
    /// Who must have identified it
    #[arg(long, value_name = "URL", requires = "trusted_root")]
    certificate_oidc_issuer: Option<String>,
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
    let no_envelope = |error| Failure::because(Kind::NoAnswer, format!("{label} is no envelope"), &error);
    let envelope = open_envelope(&bytes).map_err(no_envelope)?;
    let expected = Expected {
        artifact: Some(artifact),
        verifier: args.verifier_id.clone(),
        resource: args.resource_uri.clone(),
        policy: args.policy.as_deref().map(policy_digest).transpose()?,
        level: args.level.clone(),
        since: args.max_age.map(|age| Timestamp::now() - age),
    };
    let mut trust = Trust { keys, ..Trust::default() };
    let wanted = args.wanted(&mut trust)?;
    let checks = match trust.check(envelope) {
        Ok(checked) => match is_wanted(checked.signers(), wanted.as_ref(), &trust.ct_logs) {
            Ok(()) => vsa::check(&checked, &expected, &label),
            Err(found) => {
                let expected = args.certificate_identity.as_deref().unwrap_or_default();
                let expected = format!("a signature by {expected}, or by a key that was named");
                let fix = "name the identity of the gate that signed it, after a look at who that is";
                vec![Check::failed(CheckKind::Functionary, expected, found).at(label.as_str()).fix(fix)]
            }
        },
        Err(refused) => {
            let fix = match &refused.reason {
                CheckError::NoneCounts { refused } => refused.first().map_or("", |first| first.reason.remedy()),
                _ => "name the key of the gate that signed it",
            };
            let expected = "a signature by a key that was named, or by an identity of the trusted root";
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

impl VerifyVsaArgs {
    /// Whose certificate counts, and who is believed for it.
    fn wanted(&self, trust: &mut Trust) -> Result<Option<Wanted>, Failure> {
        let (Some(file), Some(identity), Some(issuer)) =
            (&self.trusted_root, &self.certificate_identity, &self.certificate_oidc_issuer)
        else {
            return Ok(None);
        };
        let root = TrustedRoot::parse(&inspect::read_file(file)?).map_err(|error| {
            Failure::because(Kind::NoAnswer, format!("{} is no trusted root", file.display()), &error)
        })?;
        believe(trust, &root);
        Wanted::exactly(identity, issuer)
            .map(Some)
            .map_err(|error| Failure::because(Kind::Usage, "--certificate-identity names nobody", &error))
    }
}

/// Whether one of those who signed is a named key, or the wanted identity, whose certificate stands in a log where the root
/// names any; else who it is.
fn is_wanted(signers: &[SignerProof], wanted: Option<&Wanted>, ct_logs: &[Log]) -> Result<(), String> {
    let mut found = Vec::new();
    for signer in signers {
        match (signer.certificate(), wanted) {
            (None, _) => return Ok(()),
            (Some(leaf), Some(wanted)) => match wanted.check(leaf) {
                Ok(_) if ct_logs.is_empty() => return Ok(()),
                Ok(_) => match signer.is_logged(ct_logs) {
                    Ok(()) => return Ok(()),
                    Err(why) => found.push(format!("the certificate must be in a log of the trusted root: {why}")),
                },
                Err(mismatch) => found.push(mismatch.to_string()),
            },
            (Some(leaf), None) => found.push(format!("signed by {}", leaf.label())),
        }
    }
    Err(found.join("; "))
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
