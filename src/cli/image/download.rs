//! `affiant image download` and `clean`: what is kept about an image, given out as it lies there, or taken away.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;

use affiant_core::dsse::Envelope;
use affiant_core::evidence::Statement;
use affiant_core::image::attached::{self, CERTIFICATE, LOG, MAX_LAYER, SIGNATURE, TIMESTAMP};
use affiant_core::image::found::MAX_TOTAL;
use affiant_core::image::kept::{self, Kept, Place, Sort};
use affiant_core::image::platforms::choose_entry;
use affiant_core::image::shared::Pace;
use affiant_core::image::sigstore::{Bundle, Content};
use affiant_core::image::{At, Descriptor, Digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::copy::check_platform;
use super::place::{Image, RegistryArgs, tell_skipped};
use super::targets::no_answer;
use crate::cli::Ending;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{Output, one_line};

#[derive(Subcommand)]
pub(crate) enum DownloadVerb {
    /// Print the signatures of an image, one on a line, as cosign does; nothing is checked
    Signature(DownloadArgs),
    /// Print the attestations of an image: envelopes and bundles, one on a line; nothing is checked
    Attestation(AttestationArgs),
    /// Print the bill of materials that `cosign attach` has put beside an image; nobody has signed it
    Sbom(DownloadArgs),
    /// Print all Sigstore bundles of an image, one on a line; nothing is checked
    Bundle(DownloadArgs),
}

#[derive(Args)]
pub(crate) struct DownloadArgs {
    /// The image; a tag is resolved once
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Of an index, what is kept about the image for this machine: os/architecture[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Args)]
pub(crate) struct AttestationArgs {
    #[command(flatten)]
    from: DownloadArgs,
    /// Only those of this type: a URI, or a short name as of `attest`
    #[arg(long, value_name = "TYPE")]
    predicate_type: Option<String>,
}

/// What is kept about an image, or about one of an index.
struct About {
    image: Image,
    digest: Digest,
    kept: Vec<Kept>,
}

impl DownloadArgs {
    /// What of one sort is kept; layers that are too long are left out with a message.
    fn find(&self, is_asked: impl Fn(&Kept) -> bool, output: &Output) -> Result<About, Failure> {
        let image = self.registry.image(&self.image)?;
        let digest = match &self.platform {
            None => image.digest().clone(),
            Some(wanted) => image.platform(wanted)?,
        };
        let mut all = Vec::new();
        for keeper in image.keepers() {
            let (kept, skipped) = kept::list(keeper, image.prefix(), &digest)
                .map_err(|error| no_answer(&format!("{}@{digest}", image.name()), &error))?;
            tell_skipped(&skipped, output);
            all.extend(kept.into_iter().filter(&is_asked));
        }
        for one in &mut all {
            one.layers.retain(|layer| {
                let fits = layer.size <= MAX_LAYER;
                if !fits {
                    let text = format!("{}: {} bytes; {MAX_LAYER} are read", layer.digest, layer.size);
                    output.message(&format!("passed over: {text}"));
                }
                fits
            });
        }
        // Bundles were read, and counted, already.
        let unread = all.iter().filter(|one| one.bundle.is_none());
        let total = unread.flat_map(|one| &one.layers).fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        if total > MAX_TOTAL {
            return Err(Failure::new(
                Kind::NoAnswer,
                format!("{total} bytes are kept about {}@{digest}; {MAX_TOTAL} are read", image.name()),
            ));
        }
        Ok(About { image, digest, kept: all })
    }
}

impl About {
    /// A layer's bytes, from the place that has them.
    fn bytes(&self, layer: &Descriptor) -> Result<Vec<u8>, Failure> {
        let mut last = None;
        for keeper in self.image.keepers() {
            match keeper.blob_bytes(&layer.digest, layer.size) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(
            || Failure::new(Kind::NoAnswer, "there is no place to ask"),
            |error| no_answer(&layer.digest.to_string(), &error),
        ))
    }

    fn nothing(&self, what: &str) -> Failure {
        Failure::new(Kind::NoSignature, format!("no {what} of {}@{}", self.image.name(), self.digest))
    }
}

pub(super) fn download(verb: &DownloadVerb, output: &Output) -> Result<Ending, Failure> {
    match verb {
        DownloadVerb::Signature(args) => {
            let about = args.find(|one| one.sort == Sort::Signature, output)?;
            let mut lines = Vec::new();
            for one in &about.kept {
                lines.extend(signatures(one, &about)?);
            }
            print(lines, about.nothing("signatures found"), output)
        }
        DownloadVerb::Attestation(args) => {
            let about = args.from.find(|one| one.sort == Sort::Attestation, output)?;
            let named = args.predicate_type.as_deref().map(super::types::Named::read).transpose()?;
            let mut lines = Vec::new();
            for one in &about.kept {
                for (text, kind) in attestations(one, &about)? {
                    if named.as_ref().is_none_or(|named| kind.is_some_and(|kind| named.is(&kind))) {
                        lines.push(text);
                    }
                }
            }
            let of_type = args.predicate_type.as_deref().map(|kind| format!(" of the type {kind}")).unwrap_or_default();
            print(lines, about.nothing(&format!("attestations found{of_type}")), output)
        }
        DownloadVerb::Bundle(args) => {
            let about = args.find(|one| one.bundle.is_some(), output)?;
            let bundles = about.kept.iter().filter_map(|one| one.bundle.as_deref());
            let lines = bundles.filter_map(|bytes| line(bytes).ok()).collect();
            print(lines, about.nothing("bundles found"), output)
        }
        DownloadVerb::Sbom(args) => {
            let about = args.find(|one| one.sort == Sort::Sbom, output)?;
            let found = about.kept.iter().find_map(|one| one.layers.first());
            let Some(layer) = found else { return Err(about.nothing("SBOM attached")) };
            output.message(
                "warning: nobody has signed this document; `download attestation --predicate-type cyclonedx` gives a signed one",
            );
            output.data(&about.bytes(layer)?)?;
            Ok(Ending::Done)
        }
    }
}

fn print(lines: Vec<String>, nothing: Failure, output: &Output) -> Result<Ending, Failure> {
    if lines.is_empty() {
        return Err(nothing);
    }
    output.data(lines.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect::<String>().as_bytes())?;
    Ok(Ending::Done)
}

/// A document as one line.
fn line(bytes: &[u8]) -> Result<String, serde_json::Error> {
    let text = String::from_utf8_lossy(bytes);
    let trimmed = text.trim();
    if !trimmed.contains('\n') && std::str::from_utf8(bytes).is_ok() {
        return Ok(trimmed.to_owned());
    }
    serde_json::from_slice::<Value>(bytes).map(|value| value.to_string())
}

/// Signatures as cosign prints them: a bundle as it is, others as an object of six members.
fn signatures(kept: &Kept, about: &About) -> Result<Vec<String>, Failure> {
    if let Some(bundle) = &kept.bundle {
        return Ok(line(bundle).ok().into_iter().collect());
    }
    let mut lines = Vec::new();
    for layer in kept.layers.iter().filter(|layer| layer.media_type == attached::SIMPLE_SIGNING) {
        let text = |name: &str| layer.annotation(name).map(str::to_owned);
        let parsed = |name: &str| layer.annotation(name).and_then(|text| serde_json::from_str::<Value>(text).ok());
        let one = [
            ("Base64Signature", json!(text(SIGNATURE).unwrap_or_default())),
            ("Payload", json!(STANDARD.encode(about.bytes(layer)?))),
            ("Cert", json!(text(CERTIFICATE))),
            ("Chain", json!(text("dev.sigstore.cosign/chain"))),
            ("Bundle", json!(parsed(LOG))),
            ("RFC3161Timestamp", json!(parsed(TIMESTAMP))),
        ];
        let members: Vec<String> = one.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        lines.push(format!("{{{}}}", members.join(",")));
    }
    Ok(lines)
}

/// Attestations with their types.
fn attestations(kept: &Kept, about: &About) -> Result<Vec<(String, Option<String>)>, Failure> {
    let kind_of = |envelope: &Envelope| Statement::parse(&envelope.payload).ok().map(|said| said.predicate_type);
    if let Some(bytes) = &kept.bundle {
        let Ok(Bundle { content: Content::Envelope(envelope), .. }) = Bundle::parse(bytes) else {
            return Ok(Vec::new());
        };
        return Ok(line(bytes).ok().map(|text| (text, kind_of(&envelope))).into_iter().collect());
    }
    let mut found = Vec::new();
    for layer in kept.layers.iter().filter(|layer| layer.media_type == attached::ENVELOPE) {
        let bytes = about.bytes(layer)?;
        let kind = Envelope::parse(&bytes, bytes.len()).ok().as_ref().and_then(kind_of);
        found.extend(line(&bytes).ok().map(|text| (text, kind)));
    }
    Ok(found)
}

/// What is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Signatures
    Signature,
    /// Attestations
    Attestation,
    /// Bills of materials under the tag `.sbom`
    Sbom,
    /// All that refers to the image, of whatever kind; no tags
    Referrer,
    /// Signatures, attestations and bills of materials
    All,
}

impl What {
    fn takes(self, kept: &Kept) -> bool {
        match self {
            Self::Signature => kept.sort == Sort::Signature,
            Self::Attestation => kept.sort == Sort::Attestation,
            Self::Sbom => kept.sort == Sort::Sbom,
            Self::Referrer => kept.place == Place::Referrer,
            Self::All => !matches!(kept.sort, Sort::Other(_)),
        }
    }
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant image clean --type signature --yes registry.example/app@sha256:…\n\nWithout --yes a terminal is asked. The image itself, and what is kept about the images of an index, stay.\nExit codes: 0 taken away, or there was nothing; 2 usage, or it was not confirmed; 4 no answer, or the registry does not delete; 11 no such image."
)]
pub(crate) struct CleanArgs {
    /// The image; a tag is resolved once
    #[arg(value_name = "IMAGE")]
    image: String,
    /// What is taken away
    #[arg(long = "type", value_enum, default_value = "all")]
    what: What,
    /// Do not ask
    #[arg(short, long, visible_short_alias = 'f', visible_alias = "force")]
    yes: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) fn clean(args: &CleanArgs, output: &Output) -> Result<Ending, Failure> {
    let image = args.registry.image_to_change(&args.image)?;
    let failed = |error: &(dyn std::error::Error + 'static)| no_answer(&image.pinned(), error);
    let keeper = image.keeper();
    let (all, skipped) = kept::list(keeper, image.prefix(), image.digest()).map_err(|error| failed(&error))?;
    tell_skipped(&skipped, output);
    let (taken, stays): (Vec<Kept>, Vec<Kept>) = all.into_iter().partition(|one| args.what.takes(one));
    for one in &stays {
        output.message(&format!("stays: {}", shown(one, &image)));
    }
    if taken.is_empty() {
        output.message(&format!("nothing to take away is kept about {}", image.pinned()));
        return Ok(Ending::Done);
    }
    if !args.yes {
        for one in &taken {
            output.message(&format!("would be deleted: {}", shown(one, &image)));
        }
        confirm(taken.len(), &image, output)?;
    }
    let pace = Pace::default();
    let mut left = BTreeSet::new();
    for (number, one) in taken.iter().enumerate() {
        left.extend(kept::blobs(keeper, one));
        kept::remove(keeper, image.digest(), one, &pace).map_err(|error| {
            let place = shown(one, &image);
            let failure = Failure::because(
                Kind::NoAnswer,
                format!("{place} was not deleted; {number} of {} were", taken.len()),
                &error,
            );
            failure.hint("many registries delete only where that is allowed to the account and switched on")
        })?;
        image.tell(format!("deleted: {}", shown(one, &image)), output);
    }
    tell_swept(&image, keeper.sweep(&left).map(|gone| gone.len()).map_err(|error| error.one_line()), output);
    image.finish(output)?;
    Ok(Ending::Done)
}

/// Says what became of the blobs that a layout had only for what was taken away.
pub(super) fn tell_swept(image: &Image, swept: Result<usize, String>, output: &Output) {
    match swept {
        Ok(0) => {}
        Ok(1) => image.tell("deleted: 1 blob that nothing else needs".to_owned(), output),
        Ok(count) => image.tell(format!("deleted: {count} blobs that nothing else needs"), output),
        Err(reason) => {
            output.message(&format!(
                "note: blobs stay in {}, for something may need them: {reason}",
                image.keeper_name()
            ));
        }
    }
}

fn shown(kept: &Kept, image: &Image) -> String {
    let what = match &kept.sort {
        Sort::Signature => "signatures",
        Sort::Attestation => "attestations",
        Sort::Sbom => "SBOM",
        Sort::Other(kind) => &one_line(kind),
    };
    match &kept.place {
        Place::Tag(tag) => {
            format!("{what} {}:{tag} ({}, {} layers)", image.keeper_name(), kept.digest, kept.layers.len())
        }
        Place::Referrer => format!("{what} {}@{}", image.keeper_name(), kept.digest),
    }
}

fn confirm(count: usize, image: &Image, output: &Output) -> Result<(), Failure> {
    let refused = || Failure::usage("nothing was deleted").hint("`--yes` deletes without asking");
    if !std::io::stdin().is_terminal() {
        return Err(refused());
    }
    output.message(&format!("Delete these {count} of {}? They cannot be brought back. [y/N]", image.pinned()));
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => Err(refused()),
    }
}

impl Image {
    /// The image of an index that is for a machine.
    fn platform(&self, wanted: &str) -> Result<Digest, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| no_answer(&self.pinned(), error);
        let manifest = self.stored.manifest().map_err(|error| failed(&error))?;
        check_platform(wanted)?;
        let entry = choose_entry(&self.stored, &manifest, wanted).map_err(|error| {
            Failure::because(Kind::NoTag, format!("{}: --platform {wanted}", self.pinned()), &error)
        })?;
        let stored = self.repository().need(&At::Digest(entry.digest.clone())).map_err(|error| failed(&error))?;
        Ok(stored.digest().clone())
    }
}
