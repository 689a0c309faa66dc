//! `affiant image attest`.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use affiant_core::image::attached::{self, Earlier, Kind as Tagged, Referred};
use affiant_core::image::kept::Kept;
use affiant_core::image::shared::{Pace, Settling, SharedError};
use affiant_core::image::{Descriptor, Digest, claim, replace};
use affiant_core::keyless::sealer::Sealer;
use affiant_core::redact::{Redactor, VariableMask};
use clap::Args;

use super::download::tell_swept;
use super::keeping::{Said, both, not_begun, not_kept, say, together};
use super::place::{Image, RegistryArgs};
use super::sign::{Format, SealedStatement, Signed, SigningArgs, manifests, notes, refuse_secret};
use super::types::Named;
use super::verify::all_in_order;
use crate::cli::failure::{Failure, Kind};
use crate::cli::inspect::read_file;
use crate::cli::keyless::{Queue, not_signed};
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
    /// Take the place of earlier attestations of this type: under the tag of all, as bundles of those by the same key
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
    #[arg(
        long,
        alias = "identity",
        value_name = "NAME",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
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
    let identity = args.sign_container_identity.as_deref();
    let named_as = identity.unwrap_or_default();
    refuse_secret(&redactor, &file, &bytes)?;
    let what = format!("the image's name, the type or {file}");
    refuse_secret(&redactor, &what, &claim::attestation(named_as, &Digest::of(b""), &named.written, &predicate))?;
    args.registry.check(&args.images)?;
    let found = args.signing.find(&args.images, &args.registry, identity)?;
    let queue = args.signing.queue(&args.images, &args.registry)?;
    let sealer = args.signing.load(&args.images, output)?;
    let (sealer, queue, kind, predicate, now) = (&sealer, &queue, &*named.written, &*predicate, &*now);
    let attesting =
        Attesting { sealer, queue, args, kind, predicate, now, formats: &formats, redactor: &redactor, output };
    let mut failures = Vec::new();
    args.registry.in_batches(&args.images, found, output, |images| {
        images.iter().try_for_each(|image| image.identity(identity).map(drop))?;
        let manifests = manifests(images, args.recursive, output)?;
        let replaced = Mutex::default();
        together(output, not_kept, |settling, said| {
            let attest = |job: &(_, Descriptor)| attesting.one(job.0, &job.1, settling, &replaced);
            let take = |attested: Signed<'_>| {
                attested.notes.iter().for_each(|note| output.message(note));
                say(said, attested.image, attested.said, output);
                Ok(())
            };
            all_in_order(&manifests, attest, take, |left| not_begun(left, output))
        })?;
        // What is new is there, and stays: it is kept, whatever becomes of the others.
        let replaced = replaced.into_inner().unwrap_or_else(PoisonError::into_inner);
        failures.extend(replaced.iter().filter_map(|one| one.finish(output).err()));
        Ok(())
    })?;
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { return Ok(Ending::Done) };
    failures.for_each(|failure| output.failure(&failure));
    Err(first)
}

struct Attesting<'a> {
    sealer: &'a Sealer,
    queue: &'a Queue,
    args: &'a AttestArgs,
    kind: &'a str,
    predicate: &'a serde_json::value::RawValue,
    now: &'a str,
    formats: &'a [Format],
    redactor: &'a Redactor,
    output: &'a Output,
}

/// Bundles that a new one takes the place of.
struct Replaces<'a> {
    image: &'a Image,
    of: Digest,
    old: Vec<Kept>,
}

impl Replaces<'_> {
    /// Takes them away, once the new one is there.
    fn finish(&self, output: &Output) -> Result<(), Failure> {
        let keeper = self.image.keeper_name();
        let done = replace::remove(self.image.keeper(), &self.of, &self.old, &Pace::default()).map_err(|error| {
            let what = format!("{keeper}: the new attestation is kept, and not all earlier ones were taken away");
            Failure::because(Kind::NoAnswer, what, &error)
        })?;
        for digest in &done.gone {
            self.image.tell(format!("replaced: the bundle {keeper}@{digest}"), output);
        }
        for (digest, reason) in &done.stay {
            output.message(&format!(
                "note: the earlier bundle {keeper}@{digest} stays, and counts beside the new one: {reason}"
            ));
        }
        tell_swept(self.image, done.swept, output);
        Ok(())
    }
}

impl<'a> Attesting<'a> {
    /// Earlier bundles of the type by the same key. What cannot be told apart stays, and that is said.
    fn earlier(&self, image: &Image, of: &Digest, has_pending: bool) -> Vec<Kept> {
        let (sealer, keeper) = (self.sealer, image.keeper_name());
        let stay = |why: &str| self.output.message(&format!("note: earlier bundles about {keeper}@{of} stay: {why}"));
        let found = match replace::earlier(image.keeper(), of, self.kind, sealer.public_key()) {
            Ok(found) => found,
            Err(error) => {
                stay(&error.one_line());
                return Vec::new();
            }
        };
        for unread in &found.unread {
            stay(unread);
        }
        if found.others > 0 {
            let whose = if sealer.has_new_key() { "made with other certificates" } else { "signed by other keys" };
            stay(&format!("{} of this type, {whose}", found.others));
        }
        if has_pending && !found.own.is_empty() {
            stay("the new one has not all log entries yet");
            return Vec::new();
        }
        found.own
    }

    fn one(
        &self,
        image: &'a Image,
        manifest: &Descriptor,
        settling: &Settling<'a>,
        replaced: &Mutex<Vec<Replaces<'a>>>,
    ) -> Result<Signed<'a>, Failure> {
        let (args, digest) = (self.args, &manifest.digest);
        let sealer = &self.sealer.fresh(surroundings::now()).map_err(|error| not_signed(&error))?;
        let place = format!("{}@{digest}", image.name());
        let failed = |error: SharedError| not_kept(&place, &error);
        let identity = image.identity(args.sign_container_identity.as_deref())?;
        let statement = claim::attestation(&identity, digest, self.kind, self.predicate);
        refuse_secret(self.redactor, "the image's name", &statement)?;
        let sealed = SealedStatement::new(sealer, &statement)?;
        // All is proven before any of it is kept.
        let has = |form| self.formats.contains(&form);
        let layer = has(Format::Tag).then(|| sealed.layer(sealer, self.kind)).transpose()?;
        let places = image.places_of(digest, layer.as_ref(), has(Format::Bundle));
        self.queue.keep(sealer, &sealed.proof, &places, self.output)?;
        let replaces = args.replace && has(Format::Bundle);
        let old = if replaces { self.earlier(image, digest, !sealed.proof.pending.is_empty()) } else { Vec::new() };
        let keep_layer = || -> Result<Option<Said>, SharedError> {
            let Some(layer) = layer else { return Ok(None) };
            let tag = format!("{}{}", image.prefix(), digest.tag(Tagged::Attestation.suffix()));
            let earlier = if args.replace { Earlier::Replace } else { Earlier::Keep };
            let own = layer.clone();
            let is_same = move |one: &Descriptor| own.has_no_more_than(one);
            let new = attached::append(settling, image.keeper(), &tag, &layer, earlier, is_same)?;
            let word = if new.is_some() { "kept as" } else { "the same is already in" };
            let text = format!("attested: {place}; {word} {}:{tag}", image.keeper_name());
            Ok(Some(Said::new(new, &place, text)))
        };
        let keep_bundle = || -> Result<Option<Said>, SharedError> {
            if !has(Format::Bundle) {
                return Ok(None);
            }
            let bundle = sealed.bundle(sealer);
            let referrer = attached::bundle_referrer(&bundle, self.kind, self.now);
            let Referred { digest, ticket } = attached::refer(settling, image.keeper(), manifest, &referrer)?;
            let old: Vec<Kept> = old.into_iter().filter(|kept| kept.digest != digest).collect();
            if !old.is_empty() {
                let one = Replaces { image, of: manifest.digest.clone(), old };
                replaced.lock().unwrap_or_else(PoisonError::into_inner).push(one);
            }
            let text = format!("attested: {place}; kept as bundle {}@{digest}", image.keeper_name());
            Ok(Some(Said::new(ticket, &place, text)))
        };
        let (layer, bundle) = both(keep_layer, keep_bundle);
        let said = [layer.map_err(failed)?, bundle.map_err(failed)?].into_iter().flatten().collect();
        Ok(Signed { image, notes: notes(&sealed.proof), said })
    }
}
