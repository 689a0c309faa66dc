//! `affiant image attest-blob` and `verify-blob-attestation`: statements about files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use affiant_core::dsse::Envelope;
use affiant_core::image::Digest;
use affiant_core::image::claim::{self, Claim};
use affiant_core::image::found::{self, Content, Found, Refused, judge_attestation};
use affiant_core::image::sigstore::{self, Bundle, MAX_BUNDLE};
use affiant_core::redact::{Redactor, VariableMask};
use affiant_core::sigstore::budget::Budget;
use affiant_core::sigstore::judge::Material;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;

use super::attest::{OBJECT, TEXT};
use super::blob::{BesideArgs, write, write_proof};
use super::sign::{SealedStatement, SigningArgs, tell};
use super::trust::{TrustArgs, Trusted, of_proof};
use super::types::Named;
use crate::cli::failure::{Failure, Kind};
use crate::cli::inspect::read_file;
use crate::cli::names::Called;
use crate::cli::output::Output;
use crate::cli::{Ending, surroundings};

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant image attest-blob --key cosign.key --type cyclonedx --predicate sbom.json --bundle app.att.json app.tar.gz\n\nExit codes: 0 attested, 1 the predicate holds a secret, 2 usage, 4 no answer."
)]
pub(crate) struct AttestBlobArgs {
    /// The file; `-` for stdin
    #[arg(value_name = "FILE", required_unless_present_any = ["hash", "statement"])]
    file: Option<PathBuf>,
    /// SHA-256 of the file in hex, where it is not here; FILE is then its name
    #[arg(long, value_name = "HEX")]
    hash: Option<String>,
    /// File with the predicate
    #[arg(long, value_name = "FILE", required_unless_present = "statement")]
    predicate: Option<PathBuf>,
    /// Type of the predicate: a URI, or a short name as of `attest`
    #[arg(long = "type", value_name = "TYPE", default_value = "custom")]
    kind: String,
    /// Sign this statement as it is, instead of making one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["predicate", "hash", "file"])]
    statement: Option<PathBuf>,
    #[command(flatten)]
    pub(super) signing: SigningArgs,
    /// Where the Sigstore bundle goes
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Where the envelope goes (without --bundle: stdout)
    #[arg(long, value_name = "FILE")]
    output_signature: Option<PathBuf>,
    /// Where the statement goes
    #[arg(long, value_name = "FILE")]
    output_attestation: Option<PathBuf>,
    /// Where the certificate goes, as PEM
    #[arg(long, value_name = "FILE")]
    output_certificate: Option<PathBuf>,
    /// Where the timestamp goes, as JSON
    #[arg(long, value_name = "FILE")]
    rfc3161_timestamp: Option<PathBuf>,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant image verify-blob-attestation --key cosign.pub --type cyclonedx --bundle app.att.json app.tar.gz\n\nExit codes: 0 attested, 2 usage, 4 no answer, 12 not what is demanded, 13 no certificate."
)]
pub(crate) struct VerifyBlobAttestationArgs {
    /// The file; `-` for stdin
    #[arg(value_name = "FILE", required_unless_present = "digest")]
    file: Option<PathBuf>,
    /// SHA-256 of the file in hex, where it is not here
    #[arg(long, value_name = "HEX", conflicts_with = "file")]
    digest: Option<String>,
    /// Algorithm of --digest: sha256
    #[arg(long = "digestAlg", value_name = "NAME", default_value = "sha256", hide = true, value_parser = ["sha256"])]
    algorithm: String,
    /// Type of the predicate: a URI, or a short name as of `attest`
    #[arg(long = "type", value_name = "TYPE", default_value = "custom")]
    kind: String,
    #[command(flatten)]
    trust: TrustArgs,
    /// The Sigstore bundle
    #[arg(long, value_name = "FILE", conflicts_with = "signature", required_unless_present = "signature")]
    bundle: Option<PathBuf>,
    /// The envelope: a file, as JSON or in base64
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    #[command(flatten)]
    beside: BesideArgs,
}

impl VerifyBlobAttestationArgs {
    pub(crate) fn call(&mut self, called: Called) {
        self.trust.called = called;
    }
}

/// A digest in hex, with or without its algorithm.
fn digest(flag: &str, text: &str) -> Result<Digest, Failure> {
    Digest::from_hex(text.strip_prefix("sha256:").unwrap_or(text))
        .map_err(|error| Failure::because(Kind::Usage, format!("{flag} {text}"), &error))
}

pub(super) fn attest_blob(args: &AttestBlobArgs, output: &Output) -> Result<Ending, Failure> {
    let redactor = Redactor::new(&surroundings::environment(), &[], &VariableMask::default());
    output.mask(redactor.clone());
    let statement = statement(args)?;
    // What is signed is public from then on (security rule 4).
    if redactor.hits_document(&statement) {
        return Err(Failure::new(
            Kind::Denied,
            format!("the predicate holds the value of {}, so it is not signed", surroundings::secrets_in(&statement)),
        )
        .hint("take the value out of the document, or the variable out of the environment"));
    }
    if args.bundle.is_some() && args.statement.is_none() && Named::read(&args.kind)?.is_text() {
        output.message(&format!("note: not every reader takes this bundle: {TEXT}; {OBJECT}"));
    }
    let (certificate, timestamp) = (args.output_certificate.as_deref(), args.rfc3161_timestamp.as_deref());
    let read = [
        ("the file that is attested", args.file.as_deref()),
        ("the predicate", args.predicate.as_deref()),
        ("the statement", args.statement.as_deref()),
    ];
    let written = [
        ("--bundle", args.bundle.as_deref()),
        ("--output-signature", args.output_signature.as_deref()),
        ("--output-attestation", args.output_attestation.as_deref()),
    ];
    args.signing.check_outputs(&read, &written, certificate, timestamp)?;
    let (queue, places) = args.signing.queue_of_file(args.bundle.as_deref())?;
    let sealer = args.signing.load(&[], output)?;
    let sealed = SealedStatement::new(&sealer, &statement)?;
    tell(&sealed.proof, output);
    queue.keep(&sealer, &sealed.proof, &places, output)?;
    // First what holds all of it.
    if let Some(file) = &args.bundle {
        let mut bundle = sealed.bundle(&sealer);
        bundle.push(b'\n');
        write(file, &bundle)?;
    }
    // Then its parts, what proves it before the signature.
    write_proof(&sealer, &sealed.proof, certificate, timestamp)?;
    if let Some(file) = &args.output_attestation {
        write(file, &sealed.envelope.payload)?;
    }
    let json = &sealed.json;
    match (&args.output_signature, &args.bundle) {
        (Some(file), _) => write(file, json)?,
        (None, None) => output.data(&[&json[..], b"\n"].concat())?,
        (None, Some(_)) => {}
    }
    Ok(Ending::Done)
}

fn statement(args: &AttestBlobArgs) -> Result<Vec<u8>, Failure> {
    if let Some(file) = &args.statement {
        let bytes = read_file(file)?;
        let shown = file.display();
        let claim = Claim::parse(&bytes)
            .map_err(|error| Failure::because(Kind::Usage, format!("{shown} is no statement"), &error))?;
        Named::read(&claim.predicate_type)?;
        return Ok(bytes);
    }
    let (Some(predicate), named) = (&args.predicate, Named::read(&args.kind)?) else {
        return Err(Failure::usage("no predicate is named").hint("write `--predicate FILE`"));
    };
    let now = surroundings::clock()?.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let predicate = named.predicate(&predicate.display().to_string(), &read_file(predicate)?, &now)?;
    let file = args.file.as_deref().unwrap_or(Path::new(""));
    let digest = match &args.hash {
        Some(hex) => digest("--hash", hex)?,
        None => Digest::of(&read_file(file)?),
    };
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(claim::attestation(&name, &digest, &named.written, &predicate))
}

pub(super) fn verify_blob_attestation(args: &VerifyBlobAttestationArgs, output: &Output) -> Result<Ending, Failure> {
    let shown = args.file.as_ref().map_or_else(|| "the digest".to_owned(), |file| file.display().to_string());
    let no = |reason: String| Failure::new(Kind::NoMatch, format!("{shown}: {reason}"));
    let named = Named::read(&args.kind)?;
    let trusted = args.trust.read(output)?;
    let mut found = match (&args.bundle, &args.signature) {
        (Some(file), _) => of_bundle(file)?,
        (None, Some(file)) => of_envelope(file)?,
        (None, None) => return Err(Failure::usage("no attestation is named").hint("write `--bundle FILE`")),
    };
    args.beside.add_to(&mut found.material)?;
    let digest = match (&args.digest, &args.file) {
        (Some(text), _) => digest("--digest", text)?,
        (None, Some(file)) => Digest::of(&read_file(file)?),
        (None, None) => return Err(Failure::usage("no file is named")),
    };
    let wanted = BTreeMap::new();
    let budget = Budget::default();
    let demand = trusted.demand(&digest, &wanted, &budget);
    let accepted = judge_attestation(&found, &demand).map_err(|refused| match (&refused, of_proof(&refused)) {
        (Refused::Digest { .. }, _) => no(format!("none of the attestation's subjects is sha256:{}", digest.hex())),
        (_, None) => no(refused.to_string()),
        (_, Some(reason)) => {
            let failure = Failure::new(Trusted::kind(reason), format!("{shown}: {refused}"));
            trusted.advise(reason, failure, output)
        }
    })?;
    let kind = accepted.statement.map(|said| said.predicate_type).unwrap_or_default();
    if !named.is(&kind) {
        return Err(no(format!("the attestation is of the type {kind}, and {} is wanted", named.written)));
    }
    output.message("Verified OK");
    Ok(Ending::Done)
}

fn refused(file: &Path, reason: &str) -> Failure {
    Failure::new(Kind::NoMatch, format!("{}: {reason}", file.display()))
}

fn of_bundle(file: &Path) -> Result<Found, Failure> {
    let bytes = read_file(file)?;
    if bytes.len() > MAX_BUNDLE {
        return Err(refused(file, &format!("longer than {MAX_BUNDLE} bytes")));
    }
    let bundle = Bundle::parse(&bytes).map_err(|error| refused(file, &error.to_string()))?;
    let material = found::material_of(&bundle);
    match bundle.content {
        sigstore::Content::Envelope(envelope) => {
            Ok(Found { place: file.display().to_string(), content: Content::Bundle(envelope), material })
        }
        sigstore::Content::Message { .. } => Err(refused(file, "the bundle has a signature, and no attestation")),
    }
}

/// An envelope as JSON, or the same in base64.
fn of_envelope(file: &Path) -> Result<Found, Failure> {
    let mut bytes = read_file(file)?;
    if !bytes.trim_ascii_start().starts_with(b"{")
        && let Ok(decoded) = STANDARD.decode(bytes.trim_ascii())
    {
        bytes = decoded;
    }
    let envelope = Envelope::parse(&bytes, bytes.len()).map_err(|error| refused(file, &error.to_string()))?;
    let place = file.display().to_string();
    Ok(Found { place, content: Content::Envelope(envelope, bytes), material: Material::default() })
}
