//! `affiant image import-buildkit`: the attestations that a build keeps in an index, signed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use affiant_core::image::Digest;
use affiant_core::image::attach::{self, Document};
use affiant_core::image::attached::{self, Earlier, Kind as Tagged, Referred};
use affiant_core::image::buildkit::{self, BuildKitError, Unsigned};
use affiant_core::image::found::{self, Demand, Sought, judge_attestation};
use affiant_core::image::shared::{Settling, SharedError};
use affiant_core::keyless::sealer::Sealer;
use affiant_core::redact::{Redactor, VariableMask};
use clap::Args;

use super::keeping::{Said, not_kept, say, together};
use super::place::{Image, RegistryArgs};
use super::sign::{Format, SealedStatement, Signed, SigningArgs, notes};
use super::targets::no_answer;
use super::verify::all_in_order;
use crate::cli::failure::{Failure, Kind};
use crate::cli::keyless::{Queue, not_signed};
use crate::cli::output::Output;
use crate::cli::{Ending, keys, surroundings};

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant image import-buildkit --key affiant.key --attested-by build.att.json registry.example/app@sha256:…\n\nSigns what BuildKit attests in an index and nobody has signed: for each platform, and only of an index that the named run has pushed. Nothing is signed where one of the attestations is not about its sibling. The index itself is not altered.\nExit codes: 0 signed, 1 refused, 2 usage, 4 no answer, 11 no such image."
)]
pub(crate) struct ImportArgs {
    /// The index; by digest, or a tag is resolved once
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The collection of the run that pushed it: an envelope, or its digest in the archive (`sha256:…`)
    #[arg(long, value_name = "FILE")]
    attested_by: PathBuf,
    /// Public key that must have signed the collection (default: that of --key)
    #[arg(long, value_name = "FILE")]
    attested_by_key: Option<PathBuf>,
    #[command(flatten)]
    pub(super) signing: SigningArgs,
    /// How the attestations are kept
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tag,bundle")]
    format: Vec<Format>,
    /// Archive to look the digest up in: `dir:PATH`
    #[arg(long, value_name = "dir:PATH", env = "AFFIANT_ARCHIVE", hide_env_values = true)]
    archive: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) fn import(args: &ImportArgs, output: &Output) -> Result<Ending, Failure> {
    let redactor = Redactor::new(&surroundings::environment(), &[], &VariableMask::default());
    output.mask(redactor.clone());
    let queue = args.signing.queue(std::slice::from_ref(&args.image), &args.registry)?;
    let sealer = args.signing.load(std::slice::from_ref(&args.image), output)?;
    let trusted = match &args.attested_by_key {
        Some(file) => keys::public_key(file)?,
        None if sealer.issued().is_some() => {
            return Err(Failure::usage("no key is named that must have signed the collection")
                .hint("write `--attested-by-key FILE`"));
        }
        None => sealer.public_key().clone(),
    };
    let files = std::slice::from_ref(&args.attested_by);
    let runs = super::attach::documents(files, args.archive.as_deref(), &[trusted])?;
    let image = args.registry.image_to_change(&args.image)?;
    observed(&runs, &image)?;
    let all = buildkit::unsigned(image.repository(), &image.stored).map_err(|error| match error {
        BuildKitError::Repository(error) => no_answer(&image.pinned(), &error),
        error => Failure::because(Kind::Denied, format!("{}: nothing was signed", image.pinned()), &error),
    })?;
    // What is signed is public from then on (security rule 4).
    if let Some(one) = all.iter().find(|one| redactor.hits_document(&one.statement)) {
        return Err(Failure::new(
            Kind::Denied,
            format!(
                "{} holds the value of {}, so nothing was signed",
                one.place,
                surroundings::secrets_in(&one.statement)
            ),
        )
        .hint("secrets go to a build with --secret, not with --build-arg"));
    }
    let created = surroundings::clock()?.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    // All that is said about one manifest is said by one signer.
    let signers: Mutex<BTreeMap<Digest, Sealer>> = Mutex::default();
    let signer_of = |about: &Digest| {
        let mut signers = signers.lock().unwrap_or_else(PoisonError::into_inner);
        let signer = sealer.continued(signers.get(about), surroundings::now()).map_err(|error| not_signed(&error))?;
        signers.insert(about.clone(), signer.clone());
        Ok::<_, Failure>(signer)
    };
    together(output, not_kept, |settling, said| {
        let sign = |one: &Unsigned| {
            let sealer = signer_of(&one.about.digest)?;
            keep(one, &image, (&sealer, &queue), (args, &created), settling, output)
        };
        let take = |signed: Signed<'_>| {
            signed.notes.iter().for_each(|note| output.message(note));
            say(said, signed.image, signed.said, output);
            Ok(())
        };
        let not_begun = |left: &[Unsigned]| {
            if !left.is_empty() {
                output.message(&format!("not begun: {} of {} statements", left.len(), all.len()));
            }
        };
        all_in_order(&all, sign, take, not_begun)
    })?;
    image.finish(output)?;
    Ok(Ending::Done)
}

/// The run that is named has made this very index (security rule 16).
fn observed(runs: &[Document], image: &Image) -> Result<(), Failure> {
    let refused =
        |reason: String| Err(Failure::new(Kind::Denied, format!("{}: nothing was signed: {reason}", image.pinned())));
    let judged = attach::judge_runs(runs, false);
    let mut reasons = Vec::new();
    for (run, judged) in runs.iter().zip(judged) {
        match judged {
            Err(error) => reasons.push(format!("{}: {error}", run.label)),
            Ok(()) if !run.is_collection() => reasons.push(format!("{} is no collection", run.label)),
            Ok(()) if run.names_manifest(image.digest()) => return Ok(()),
            Ok(()) => reasons.push(format!("the run of {} has made no such index", run.label)),
        }
    }
    refused(reasons.join("; "))
}

fn keep<'a>(
    one: &Unsigned,
    image: &'a Image,
    (sealer, queue): (&Sealer, &Queue),
    (args, created): (&ImportArgs, &str),
    settling: &Settling<'a>,
    output: &Output,
) -> Result<Signed<'a>, Failure> {
    let digest = &one.about.digest;
    let place = format!("{}@{digest}", image.name());
    let failed = |error: SharedError| not_kept(&place, &error);
    let kind = &one.predicate_type;
    let there = there(one, image, sealer)?;
    let sealed = SealedStatement::new(sealer, &one.statement)?;
    let mut signed = Signed { image, notes: notes(&sealed.proof), said: Vec::new() };
    let wants = |format: Format, is_there: bool| args.format.contains(&format) && !is_there;
    let layer = wants(Format::Tag, there.under_tag).then(|| sealed.layer(sealer, kind)).transpose()?;
    let places = image.places_of(digest, layer.as_ref(), wants(Format::Bundle, there.in_bundle));
    queue.keep(sealer, &sealed.proof, &places, output)?;
    for format in &args.format {
        let (ticket, text) = match (format, &layer) {
            (Format::Tag, None) => (None, "this key has signed it already under the tag".to_owned()),
            (Format::Bundle, _) if there.in_bundle => (None, "this key has signed it already in a bundle".to_owned()),
            (Format::Tag, Some(layer)) => {
                let tag = format!("{}{}", image.prefix(), digest.tag(Tagged::Attestation.suffix()));
                let new = attached::append(settling, image.keeper(), &tag, layer, Earlier::Keep, |_| true);
                (new.map_err(failed)?, format!("kept as {}:{tag}", image.keeper_name()))
            }
            (Format::Bundle, _) => {
                let bundle = sealed.bundle(sealer);
                let referrer = attached::bundle_referrer(&bundle, kind, created);
                let kept = attached::refer(settling, image.keeper(), &one.about, &referrer);
                let Referred { digest, ticket } = kept.map_err(failed)?;
                (ticket, format!("kept as bundle {}@{digest}", image.keeper_name()))
            }
        };
        signed.said.push(Said::new(ticket, &place, format!("attested: {place}, {kind}; {text}")));
    }
    Ok(signed)
}

/// Where this key has signed the statement already.
struct There {
    under_tag: bool,
    in_bundle: bool,
}

fn there(one: &Unsigned, image: &Image, sealer: &Sealer) -> Result<There, Failure> {
    if sealer.has_new_key() {
        return Ok(There { under_tag: false, in_bundle: false });
    }
    let wanted = BTreeMap::new();
    let demand = Demand::of_key(&one.about.digest, sealer.public_key(), &wanted);
    let mut there = There { under_tag: false, in_bundle: false };
    let look = |found: found::Found| {
        let is_same = judge_attestation(&found, &demand)
            .is_ok_and(|one_there| one_there.statement.is_some_and(|said| said.envelope.payload == one.statement));
        if is_same && matches!(found.content, found::Content::Bundle(_)) {
            there.in_bundle = true;
        } else if is_same {
            there.under_tag = true;
        }
    };
    found::each(&[image.keeper()], image.prefix(), &one.about.digest, Sought::Attestations, look)
        .map_err(|error| no_answer(&image.pinned(), &error))?;
    Ok(there)
}
