//! `affiant image sign-blob` and `verify-blob`: files, with keys.

use std::path::{Path, PathBuf};

use affiant_core::image::sigstore::{self, Bundle, Content};
use affiant_core::image::{keyed, sigstore::MAX_BUNDLE};
use affiant_core::keyless::material::stamp_json;
use affiant_core::keyless::sealer::{Proof, Sealer, What};
use affiant_core::sigstore::proven_time;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;

use super::sign::{SigningArgs, tell};
use super::verify::TrustArgs;
use crate::cli::failure::{Failure, Kind};
use crate::cli::inspect::read_file;
use crate::cli::keyless::not_signed;
use crate::cli::names::Called;
use crate::cli::output::Output;
use crate::cli::{Ending, verify};

#[derive(Args)]
#[command(after_help = "Example:\n  affiant image sign-blob --key cosign.key --bundle app.sigstore.json app.tar.gz")]
pub(crate) struct SignBlobArgs {
    /// The file; `-` for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    pub(super) signing: SigningArgs,
    /// Where the Sigstore bundle goes
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Where the signature alone goes, in base64 (without --bundle: stdout)
    #[arg(long, value_name = "FILE")]
    output_signature: Option<PathBuf>,
    /// Where the certificate goes, as PEM
    #[arg(long, value_name = "FILE")]
    output_certificate: Option<PathBuf>,
    /// Where the timestamp goes, as JSON
    #[arg(long, value_name = "FILE")]
    rfc3161_timestamp: Option<PathBuf>,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant image verify-blob --key cosign.pub --bundle app.sigstore.json app.tar.gz\n\nExit codes: 0 signed, 2 usage, 4 no answer, 12 the signature does not hold."
)]
pub(crate) struct VerifyBlobArgs {
    /// The file; `-` for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// The Sigstore bundle
    #[arg(long, value_name = "FILE", conflicts_with = "signature", required_unless_present = "signature")]
    bundle: Option<PathBuf>,
    /// The signature: a file, or base64
    #[arg(long, value_name = "SIGNATURE")]
    signature: Option<String>,
}

impl VerifyBlobArgs {
    pub(crate) fn call(&mut self, called: Called) {
        self.trust.called = called;
    }
}

pub(super) fn sign_blob(args: &SignBlobArgs, output: &Output) -> Result<Ending, Failure> {
    let bytes = read_file(&args.file)?;
    let sealer = args.signing.load(&[], output)?;
    let signature = sealer.sign(&[&bytes]).map_err(|error| not_signed(&error))?;
    let proof = sealer.prove(What::Message, &[&bytes], &signature).map_err(|error| not_signed(&error))?;
    tell(&proof, output);
    write_proof(&sealer, &proof, args.output_certificate.as_deref(), args.rfc3161_timestamp.as_deref())?;
    if let Some(file) = &args.bundle {
        let sha256 = affiant_core::digest::sha256(&bytes);
        let mut bundle = sealer.material(&proof).bundle_of_message(&sha256, &signature);
        bundle.push(b'\n');
        write(file, &bundle)?;
    }
    let text = STANDARD.encode(&signature);
    match (&args.output_signature, &args.bundle) {
        (Some(file), _) => write(file, text.as_bytes())?,
        (None, None) => output.data(format!("{text}\n").as_bytes())?,
        (None, Some(_)) => {}
    }
    Ok(Ending::Done)
}

/// Writes what proves a signature into files of its own, for readers that take no bundle.
pub(super) fn write_proof(
    sealer: &Sealer,
    proof: &Proof,
    certificate: Option<&Path>,
    timestamp: Option<&Path>,
) -> Result<(), Failure> {
    if let Some(file) = certificate {
        let issued = sealer.issued().ok_or_else(|| {
            Failure::usage("--output-certificate: a key has none").hint("leave it out, or sign without --key")
        })?;
        write(file, issued.leaf.to_pem().as_bytes())?;
    }
    if let Some(file) = timestamp {
        let response = proof.timestamps.first().ok_or_else(|| {
            Failure::usage("--rfc3161-timestamp: no timestamp was made")
                .hint("name an authority with `--timestamp-servers URL`")
        })?;
        write(file, stamp_json(response).as_bytes())?;
    }
    Ok(())
}

pub(super) fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    verify::probe(file)?
        .write(bytes)
        .map_err(|error| Failure::because(Kind::NoAnswer, format!("{} cannot be written", file.display()), &error))
}

pub(super) fn verify_blob(args: &VerifyBlobArgs, output: &Output) -> Result<Ending, Failure> {
    let key = args.trust.key()?;
    let no = |reason: String| Failure::new(Kind::NoMatch, format!("{}: {reason}", args.file.display()));
    let authorities = args.trust.authorities()?;
    let (signature, has_log, timestamps) = match (&args.bundle, &args.signature) {
        (Some(file), _) => {
            let bytes = read_file(file)?;
            if bytes.len() > MAX_BUNDLE {
                return Err(no(format!("{} is longer than {MAX_BUNDLE} bytes", file.display())));
            }
            let bundle = Bundle::parse(&bytes).map_err(|error| no(format!("{}: {error}", file.display())))?;
            match (bundle.content, bundle.signer) {
                (Content::Message { signature, .. }, sigstore::Signer::Key { .. }) => {
                    (signature, !bundle.entries.is_empty(), bundle.timestamps)
                }
                (Content::Envelope(_), _) => {
                    return Err(no("the bundle has an attestation, not a signature".to_owned()));
                }
                (_, sigstore::Signer::Certificate { .. }) => {
                    return Err(no("the bundle is signed by a certificate, not by a key".to_owned()));
                }
            }
        }
        (None, Some(text)) => {
            let text = match read_file(Path::new(text)) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(_) => text.clone(),
            };
            let signature = STANDARD.decode(text.trim());
            (signature.map_err(|_| Failure::usage("--signature: neither a file nor base64"))?, false, Vec::new())
        }
        (None, None) => return Err(Failure::usage("no signature is named").hint("write `--bundle FILE`")),
    };
    if args.trust.demands_log() {
        let has = if has_log {
            "its log entry was not checked: this affiant has no keys of logs"
        } else {
            "it has no log entry, and one is demanded"
        };
        return Err(no(has.to_owned())
            .hint("signatures of keys need no log: `--insecure-ignore-tlog` says that none is demanded"));
    }
    let bytes = read_file(&args.file)?;
    keyed::holds(&key, &[&bytes], &signature).map_err(|error| no(error.to_string()))?;
    if let Some(authorities) = authorities {
        proven_time(&timestamps, &signature, &authorities)
            .map_err(|reason| no(format!("no timestamp that holds: {reason}")))?;
    }
    output.message("Verified OK");
    Ok(Ending::Done)
}
