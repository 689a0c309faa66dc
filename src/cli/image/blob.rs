//! `affiant image sign-blob` and `verify-blob`: files.

use std::path::{Path, PathBuf};

use affiant_core::image::sigstore::{Bundle, Content, MAX_BUNDLE};
use affiant_core::image::{attached, found};
use affiant_core::keyless::material::stamp_json;
use affiant_core::keyless::sealer::{Kind as Sealed, Proof, Sealer};
use affiant_core::sigstore::OldBundle;
use affiant_core::sigstore::judge::{Material, Unproven, judge};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;

use super::sign::{SigningArgs, no_certificate, no_timestamp, tell};
use super::trust::{TrustArgs, Trusted};
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
    after_help = "Example:\n  affiant image verify-blob --key cosign.pub --bundle app.sigstore.json app.tar.gz\n\nExit codes: 0 signed, 2 usage, 4 no answer, 12 the signature does not hold, 13 no certificate."
)]
pub(crate) struct VerifyBlobArgs {
    /// The file; `-` for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// The Sigstore bundle, or cosign's older one
    #[arg(long, value_name = "FILE", required_unless_present = "signature")]
    bundle: Option<PathBuf>,
    /// The signature: a file, or base64
    #[arg(long, value_name = "SIGNATURE")]
    signature: Option<String>,
    #[command(flatten)]
    beside: BesideArgs,
}

/// What came with a signature in files of its own.
#[derive(Args)]
pub(super) struct BesideArgs {
    /// The timestamp of the signature, where it is beside: as cosign writes it, or `TimeStampResp`
    #[arg(long, value_name = "FILE", hide = true, alias = "rfc3161-timestamp-bundle")]
    rfc3161_timestamp: Option<PathBuf>,
}

impl BesideArgs {
    /// Adds it.
    pub(super) fn add_to(&self, material: &mut Material) -> Result<(), Failure> {
        let Some(file) = &self.rfc3161_timestamp else { return Ok(()) };
        let bytes = read_file(file)?;
        let response = match std::str::from_utf8(&bytes) {
            Ok(text) if text.trim_start().starts_with('{') => attached::timestamp_of(text).map_err(|reason| {
                Failure::new(Kind::NoAnswer, format!("{} is no timestamp: {reason}", file.display()))
            })?,
            _ => bytes,
        };
        material.timestamps.push(response);
        Ok(())
    }
}

impl VerifyBlobArgs {
    pub(crate) fn call(&mut self, called: Called) {
        self.trust.called = called;
    }
}

pub(super) fn sign_blob(args: &SignBlobArgs, output: &Output) -> Result<Ending, Failure> {
    let bytes = read_file(&args.file)?;
    let (certificate, timestamp) = (args.output_certificate.as_deref(), args.rfc3161_timestamp.as_deref());
    let read = [("the file that is signed", Some(args.file.as_path()))];
    let written = [("--bundle", args.bundle.as_deref()), ("--output-signature", args.output_signature.as_deref())];
    args.signing.check_outputs(&read, &written, certificate, timestamp)?;
    let (queue, places) = args.signing.queue_of_file(args.bundle.as_deref())?;
    let sealer = args.signing.load(&[], output)?;
    let (signature, proof) =
        sealer.seal(Sealed::Message, &[&bytes], &|_| Vec::new()).map_err(|error| not_signed(&error))?;
    tell(&proof, output);
    queue.keep(&sealer, &proof, &places, output)?;
    // First what holds all of it.
    if let Some(file) = &args.bundle {
        let sha256 = affiant_core::digest::sha256(&bytes);
        let mut bundle = sealer.material(&proof).bundle_of_message(&sha256, &signature);
        bundle.push(b'\n');
        write(file, &bundle)?;
    }
    // Then its parts, what proves it before the signature: whoever is killed leaves none that nobody can check.
    write_proof(&sealer, &proof, certificate, timestamp)?;
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
        let issued = sealer.issued().ok_or_else(no_certificate)?;
        write(file, issued.leaf.to_pem().as_bytes())?;
    }
    if let Some(file) = timestamp {
        let response = proof.timestamps.first().ok_or_else(no_timestamp)?;
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
    let trusted = args.trust.read(output)?;
    let no = |reason: String| Failure::new(Kind::NoMatch, format!("{}: {reason}", args.file.display()));
    let given = args.signature.as_deref().map(signature).transpose()?;
    let (signature, mut material) = match (&args.bundle, given) {
        (Some(file), given) => {
            let bytes = read_file(file)?;
            let (signature, material) = of_bundle(file, &bytes).map_err(no)?;
            if given.is_some_and(|given| given != signature) {
                return Err(no(format!("--signature is another than that of {}", file.display())));
            }
            (signature, material)
        }
        (None, Some(signature)) => (signature, Material::default()),
        (None, None) => return Err(Failure::usage("no signature is named").hint("write `--bundle FILE`")),
    };
    args.beside.add_to(&mut material)?;
    let bytes = read_file(&args.file)?;
    let message: [&[u8]; 1] = [&bytes];
    let unproven = Unproven { message: &message, signature: &signature, envelope: None, envelope_bytes: None };
    judge(&material, &unproven, &trusted.demands()).map_err(|refused| {
        let failure = Failure::new(Trusted::kind(&refused), format!("{}: {refused}", args.file.display()));
        trusted.advise(&refused, failure, output)
    })?;
    output.message("Verified OK");
    Ok(Ending::Done)
}

/// A signature: a file, or base64.
fn signature(text: &str) -> Result<Vec<u8>, Failure> {
    let text = match read_file(Path::new(text)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => text.to_owned(),
    };
    STANDARD.decode(text.trim()).map_err(|_| Failure::usage("--signature: neither a file nor base64"))
}

/// The signature over bytes in a bundle of either form, with what it brings.
fn of_bundle(file: &Path, bytes: &[u8]) -> Result<(Vec<u8>, Material), String> {
    let shown = file.display();
    if bytes.len() > MAX_BUNDLE {
        return Err(format!("{shown} is longer than {MAX_BUNDLE} bytes"));
    }
    if is_old(bytes) {
        let old = OldBundle::parse(bytes).map_err(|error| format!("{shown}: {error}"))?;
        let entries = old.entry.into_iter().collect();
        return Ok((old.signature, Material { certificate: old.certificate, entries, ..Material::default() }));
    }
    let bundle = Bundle::parse(bytes).map_err(|error| format!("{shown}: {error}"))?;
    let material = found::material_of(&bundle);
    match bundle.content {
        Content::Message { signature, .. } => Ok((signature, material)),
        Content::Envelope(_) => Err("the bundle has an attestation, not a signature".to_owned()),
    }
}

/// Whether it says that it is cosign's older form.
fn is_old(bytes: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Old {
        #[serde(rename = "base64Signature")]
        _signature: serde::de::IgnoredAny,
    }
    // A list would be read as the members in their order.
    bytes.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<Old>(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_form_is_known_by_its_signature() {
        for (text, old) in [
            (r#"{"base64Signature":"c2ln","rekorBundle":{}}"#, true),
            (r#"{"base64Signature":null}"#, true),
            (r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","messageSignature":{}}"#, false),
            // Said twice, and beside what it is not, it is judged by the reader of that form, which refuses it.
            (r#"{"base64Signature":"c2ln","base64Signature":"c2ln"}"#, false),
            (r#"{"messageSignature":{"base64Signature":"c2ln"}}"#, false),
            (r#"["base64Signature"]"#, false),
            (r#"{"base64Signature":"c2ln"} x"#, false),
            ("", false),
        ] {
            assert_eq!(is_old(text.as_bytes()), old, "{text}");
        }
        let deep = format!("{{\"base64Signature\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        // What is passed over is passed over without recursion; the reader of that form refuses it.
        assert!(is_old(deep.as_bytes()));
    }
}
