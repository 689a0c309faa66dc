//! `affiant image attest`.

use std::path::PathBuf;

use affiant_core::image::attached::{self, Earlier, Kind as Tagged};
use affiant_core::image::shared::{Pace, SharedError};
use affiant_core::image::{Digest, claim};
use affiant_core::redact::{Redactor, VariableMask};
use clap::Args;

use super::place::RegistryArgs;
use super::sign::{Format, SealedStatement, SigningArgs, not_kept, refuse_secret};
use super::types::Named;
use crate::cli::failure::Failure;
use crate::cli::inspect::read_file;
use crate::cli::output::Output;
use crate::cli::{Ending, surroundings};

/// Why a text is in no bundle.
pub(super) const TEXT: &str = "its predicate is a text, and readers of bundles take a JSON object";
/// What to do about it.
pub(super) const OBJECT: &str = "`--type spdxjson` is for SPDX in JSON";

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant image attest --key cosign.key --type cyclonedx --predicate sbom.json registry.example/app@sha256:…\n\nExit codes: 0 attested, 1 the predicate holds a secret, 2 usage, 4 no answer, 11 no such image."
)]
pub(crate) struct AttestArgs {
    /// The image; by digest, or a tag is resolved once
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// File with the predicate; `-` for stdin
    #[arg(long, value_name = "FILE")]
    predicate: PathBuf,
    /// Type of the predicate: a URI, or custom, slsaprovenance, slsaprovenance1, link, spdx, spdxjson, cyclonedx, vuln, openvex
    #[arg(long = "type", value_name = "TYPE", default_value = "custom")]
    kind: String,
    /// Take the place of earlier attestations of this type under the tag; earlier bundles stay
    #[arg(long)]
    replace: bool,
    /// Of an index, attest the images for its platforms as well
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    pub(super) signing: SigningArgs,
    /// How the attestation is kept
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tag,bundle")]
    format: Vec<Format>,
    /// What stands in the attestation as the image's name, instead of its repository; a layout that says none needs it
    #[arg(long, alias = "identity", value_name = "NAME")]
    sign_container_identity: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) fn attest(args: &AttestArgs, output: &Output) -> Result<Ending, Failure> {
    let named = Named::read(&args.kind)?;
    let mut formats = args.format.clone();
    if named.is_text() && formats.contains(&Format::Bundle) {
        formats.retain(|format| *format != Format::Bundle);
        if formats.is_empty() {
            return Err(Failure::usage(format!("--type {}: {TEXT}", args.kind)).hint(OBJECT));
        }
        output.message(&format!("note: no bundle is written: {TEXT}; {OBJECT}"));
    }
    let redactor = Redactor::new(&surroundings::environment(), &[], &VariableMask::default());
    output.mask(redactor.clone());
    let file = args.predicate.display().to_string();
    let bytes = read_file(&args.predicate)?;
    let now = surroundings::clock()?.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let predicate = named.predicate(&file, &bytes, &now)?;
    // Before a certificate is asked for or an image attested; of each image, its own name as well.
    let identity = args.sign_container_identity.as_deref().unwrap_or_default();
    refuse_secret(&redactor, &bytes)?;
    refuse_secret(&redactor, &claim::attestation(identity, &Digest::of(b""), &named.written, &predicate))?;
    args.registry.check(&args.images)?;
    args.signing.find(&args.images, &args.registry, args.sign_container_identity.as_deref())?;
    let queue = args.signing.queue(&args.images, &args.registry)?;
    let sealer = args.signing.load(&args.images, output)?;
    let pace = Pace::default();
    for name in &args.images {
        let image = args.registry.image_to_change(name)?;
        if !image.is_pinned() {
            output.message(&format!("note: {name} is now {}; a tag may mean another image later", image.digest()));
        }
        let identity = image.identity(args.sign_container_identity.as_deref())?;
        let manifests = if args.recursive { image.with_children()? } else { vec![image.stored.descriptor()] };
        for manifest in &manifests {
            let digest = &manifest.digest;
            let place = format!("{}@{digest}", image.name());
            let failed = |error: SharedError| not_kept(&place, &error);
            let statement = claim::attestation(&identity, digest, &named.written, &predicate);
            refuse_secret(&redactor, &statement)?;
            let sealed = SealedStatement::new(&sealer, &statement, output)?;
            // All is proven before any of it is kept.
            let layer = formats.contains(&Format::Tag).then(|| sealed.layer(&sealer, &named.written)).transpose()?;
            let bundle = formats.contains(&Format::Bundle);
            queue.keep(&sealer, &sealed.proof, &image.places_of(digest, layer.as_ref(), bundle), output)?;
            if let Some(layer) = layer {
                let tag = format!("{}{}", image.prefix(), digest.tag(Tagged::Attestation.suffix()));
                let earlier = if args.replace { Earlier::Replace } else { Earlier::Keep };
                let new =
                    attached::append(image.keeper(), &tag, &layer, earlier, &pace, |one| layer.has_no_more_than(one))
                        .map_err(failed)?;
                let word = if new { "kept as" } else { "the same is already in" };
                image.tell(format!("attested: {place}; {word} {}:{tag}", image.keeper_name()), output);
            }
            if formats.contains(&Format::Bundle) {
                let bundle = sealed.bundle(&sealer);
                let referrer = attached::bundle_referrer(&bundle, &named.written, &now);
                let kept = attached::refer(image.keeper(), manifest, &referrer, &pace).map_err(failed)?;
                image.tell(format!("attested: {place}; kept as bundle {}@{kept}", image.keeper_name()), output);
            }
        }
        image.finish(output)?;
    }
    Ok(Ending::Done)
}
