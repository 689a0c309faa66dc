//! `affiant promote`: an image goes where it may be deployed from, once the gate has said yes, here and there.

use std::path::PathBuf;

use affiant_core::image::attached::{self, Earlier, Kind as Tagged};
use affiant_core::image::carry::Options;
use affiant_core::image::shared::{Pace, SharedError, settled};
use affiant_core::image::{At, Descriptor, Digest, Target};
use affiant_core::keyless::sealer::Sealer;
use affiant_core::redact::{Redactor, VariableMask};
use affiant_core::verdict::{Answer, Verdict};
use affiant_core::vsa;
use clap::Args;

use super::copy::{Way, chosen};
use super::keeping::not_kept;
use super::place::Image;
use super::sign::{SealedStatement, registries, tell};
use super::targets::{named, no_answer};
use crate::cli::failure::{Failure, Kind};
use crate::cli::keyless::{Later, Queue, ServiceArgs, Subject};
use crate::cli::names::Called;
use crate::cli::output::Output;
use crate::cli::report::{Reports, text};
use crate::cli::verify::{Asked, GateArgs, HowArgs, Mode, Opened, Trusted, probe, refuse_trust_from_environment};
use crate::cli::{Ending, keys, outputs, surroundings};

#[derive(Args)]
#[command(
    mut_arg("fulcio_url", |arg| arg.help("Certificate authority (Fulcio) for the summary; without --vsa-key, an identity signs it")),
    mut_arg("trusted_root", |arg| arg.help("Check what these services answer with this root of trust: a file, or `public`; it says nothing of whom the gate trusts")),
    after_help = "Example:\n  affiant promote build.example/app:1.4 prod.example/app:1.4 -p policy.signed.json -k policy.pub --vsa-key gate.key\n\nPrints the name that can be deployed. Exit codes: 0 promoted, 1 denied, 2 usage, 3 no evidence found, 4 no answer possible."
)]
pub(crate) struct PromoteArgs {
    /// The image; a tag is resolved once
    #[arg(value_name = "SRC")]
    from: String,
    /// Where it goes: a repository with a tag, or oci:FOLDER
    #[arg(value_name = "DST")]
    to: String,
    #[command(flatten)]
    gate: GateArgs,
    #[command(flatten)]
    how: HowArgs,
    /// Key that signs the verification summary (VSA) that is kept with the image: a file, or `env:NAME`
    #[arg(long, value_name = "KEY", visible_alias = "signer-file-key-path")]
    vsa_key: Option<String>,
    /// File whose first line is the password of that key
    #[arg(long, value_name = "FILE", hide = true, visible_alias = "signer-file-key-passphrase-path")]
    key_password_file: Option<PathBuf>,
    #[command(flatten)]
    services: ServiceArgs,
    /// Write the summary to a file as well: an envelope by the key, or the bundle where more vouches for it
    #[arg(long, value_name = "FILE")]
    vsa_outfile: Option<PathBuf>,
    /// Who the summary says has verified
    #[arg(long, value_name = "ID", hide = true, default_value = "affiant")]
    vsa_verifier_id: String,
    /// What the summary calls the image (default: its new name, by digest)
    #[arg(long, value_name = "URI", hide = true)]
    vsa_resource_uri: Option<String>,
    /// Write the verdict about the new place to a file: json, markdown, junit, html, text or env (repeatable)
    #[arg(long, value_name = "FORM=FILE")]
    report: Vec<String>,
}

pub(crate) fn promote(args: &PromoteArgs, output: &Output) -> Result<Ending, Failure> {
    refuse_trust_from_environment()?;
    let reports = Reports::parse(&args.report)?;
    let mut files = outputs::Files::default();
    args.gate.reads(&mut files);
    args.how.reads(std::slice::from_ref(&args.from), &mut files);
    files.reads_keys(&args.vsa_key);
    args.services.reads(&mut files);
    files.reads("the password file", &args.key_password_file);
    files.writes("--vsa-outfile", &args.vsa_outfile);
    files.writes("--report", reports.files());
    files.check()?;
    let outfile = args.vsa_outfile.as_deref().map(probe).transpose()?;
    output.mask(Redactor::new(&surroundings::environment(), &[], &VariableMask::default()));
    let (sealer, queue) = signer(args, output)?;
    let targets = args.how.registry.targets();
    let target = named(&args.to)?;
    if matches!(target, Target::LayoutArchive(..) | Target::DockerArchive(..)) {
        return Err(Failure::usage(format!("{}: an archive is no place to deploy from", args.to))
            .hint("promote to a registry or to oci:FOLDER; `affiant image copy` makes archives"));
    }
    if args.gate.offline && matches!(target, Target::Registry(_)) {
        return Err(Failure::usage(format!("--offline: nothing can be sent to {}", args.to))
            .hint("promote to oci:FOLDER, or leave out --offline"));
    }
    let mut trusted = args.gate.trusted()?;
    let opened = args.how.open(&args.from, args.gate.offline)?;
    let here = ask(args, &mut trusted, &opened, output)?;
    if here.answer != Answer::Passed {
        return refused(&here, &args.from, &reports, output);
    }
    // From here on the digest that was judged is meant, wherever the tag may point by now (security rule 15).
    let judged = deployable(&here)?;
    if let Some(signed) =
        here.images.first().and_then(|image| image.signed.as_deref()).filter(|one| *one != judged.as_str())
    {
        return Err(Failure::new(
            Kind::Denied,
            format!("the signature is of {signed}, which stays behind, and not of {judged}: nothing was sent"),
        )
        .hint("sign the image itself as well: `affiant image sign --recursive`"));
    }
    // And the place that was judged, whatever else has its name.
    let source = opened.image.source(&judged);
    let chosen = chosen(&source, None).map_err(unanswered)?;
    let destination = targets.destination(&args.to, target, &judged)?;
    let options = Options { prefix: opened.image.prefix().to_owned(), ..Options::default() };
    let way = Way { to: &destination, tag: None, options: &options };
    way.transfer(&source, chosen, output).map_err(unanswered)?;

    let name = format!("{}@{judged}", destination.shown);
    let mut trusted = args.gate.trusted()?;
    let opened = args.how.open_whole(&name, args.gate.offline)?;
    let there = ask(args, &mut trusted, &opened, output)?;
    if there.answer != Answer::Passed {
        output.message(&format!("{name} was copied, and gets no tag"));
        return refused(&there, &name, &reports, output);
    }
    let resource = args.vsa_resource_uri.as_deref().unwrap_or(&name);
    let statement = vsa::statement(&there, &args.vsa_verifier_id, Some(resource), true)
        .ok_or_else(|| Failure::new(Kind::NoAnswer, "the summary is about nothing"))?;
    let image = args.how.registry.image_to_change(&name).map_err(unanswered)?;
    let sealer = sealer().map_err(unanswered)?;
    let sealed = SealedStatement::new(&sealer, &statement)?;
    if let Some(outfile) = &outfile {
        let failed = |error| Failure::because(Kind::NoAnswer, "the summary cannot be written", &error);
        outfile.write(&in_file(&sealer, &sealed)).map_err(failed)?;
    }
    keep_summary(&image, &sealer, &sealed, &queue, output)?;
    // The tag comes last: what has it was judged here.
    if let Some(tag) = &destination.tag {
        let stored = &image.stored;
        destination
            .repository
            .put_patiently(&At::Tag(tag.clone()), stored.media_type(), stored.bytes())
            .map_err(|error| no_answer(&args.to, &error))?;
    }
    reports.write(&there)?;
    output.data(format!("{name}\n").as_bytes())?;
    Ok(Ending::Done)
}

/// After the answer nothing is denied any more: what fails is no answer about the new place.
fn unanswered(mut failure: Failure) -> Failure {
    failure.kind = Kind::NoAnswer;
    failure
}

fn ask(args: &PromoteArgs, trusted: &mut Trusted, opened: &Opened<'_>, output: &Output) -> Result<Verdict, Failure> {
    let image_trust = args.how.trust(&mut trusted.origins, output)?;
    // Never an earlier time, and never a mode that lets a denial pass.
    let at = surroundings::now();
    trusted.origin("time", at.to_string(), "the clock".to_owned());
    trusted.origin("mode", Mode::Enforce.word().to_owned(), "promote".to_owned());
    let opened = std::slice::from_ref(opened);
    let asked = Asked { gate: &args.gate, trusted, at, artifacts: Vec::new(), opened, image_trust };
    asked.answer(false).map(|(verdict, _)| verdict)
}

/// The digest that the verdict names.
fn deployable(verdict: &Verdict) -> Result<Digest, Failure> {
    let digest = verdict.images.first().and_then(|image| image.reference.rsplit_once('@')?.1.parse().ok());
    digest.ok_or_else(|| Failure::new(Kind::NoAnswer, "the verdict names no digest"))
}

/// Tells why not, and goes on with nothing.
fn refused(verdict: &Verdict, name: &str, reports: &Reports, output: &Output) -> Result<Ending, Failure> {
    text::render(verdict).lines().for_each(|line| output.message(line));
    reports.write(verdict)?;
    output.message(&format!("{name} is not promoted"));
    Ok(Ending::Code(if verdict.answer == Answer::NoEvidence { 3 } else { 1 }))
}

/// Who signs the summary, looked at before anything is asked: a key, or an identity whose certificate is had once there is
/// something to sign. And where log entries wait.
fn signer<'a>(args: &'a PromoteArgs, output: &'a Output) -> Result<(Later<'a>, Queue), Failure> {
    let key = args.vsa_key.as_ref().filter(|key| !key.is_empty());
    if key.is_none() {
        if !args.services.are_named() {
            return Err(Failure::usage("nobody is named who signs the verification summary").hint(
                "name a key with `--vsa-key FILE`, or sign with an identity token: `--fulcio-url URL --timestamp-servers URL`",
            ));
        }
        args.services.can_prove_statements()?;
    }
    let key = key.map(|key| keys::signing_key(key, args.key_password_file.as_deref())).transpose();
    let key = key.map_err(unanswered)?.map(|loaded| loaded.key);
    // The summary names both places.
    let registries = registries(&[args.from.clone(), args.to.clone()]);
    let subject = Subject { registries: &registries, called: Called::Affiant, yes: false };
    let sealer = args.services.sealer_later(key, &subject, output)?;
    let queue = args.services.queue(registries.clone(), args.how.registry.targets().resume_flags())?;
    Ok((sealer, queue))
}

/// The summary as a file: by a key alone an envelope that names it, else the bundle, which holds what vouches for it.
fn in_file(sealer: &Sealer, sealed: &SealedStatement) -> Vec<u8> {
    let is_bare = sealer.issued().is_none() && sealed.proof.entries.is_empty() && sealed.proof.timestamps.is_empty();
    if !is_bare {
        return sealed.bundle(sealer);
    }
    let mut envelope = sealed.envelope.clone();
    for signature in &mut envelope.signatures {
        sealer.public_key().key_id().clone_into(&mut signature.key_id);
    }
    envelope.to_json()
}

/// Keeps the summary with the image, as an attestation under its tag and as a bundle.
fn keep_summary(
    image: &Image,
    sealer: &Sealer,
    sealed: &SealedStatement,
    queue: &Queue,
    output: &Output,
) -> Result<(), Failure> {
    let place = image.pinned();
    let failed = |error: SharedError| not_kept(&place, &error);
    let layer = sealed.layer(sealer, vsa::TYPE)?;
    queue.keep(sealer, &sealed.proof, &image.places_of(image.digest(), Some(&layer), true), output)?;
    let tag = format!("{}{}", image.prefix(), image.digest().tag(Tagged::Attestation.suffix()));
    let created = surroundings::clock()?.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let bundle = sealed.bundle(sealer);
    let referrer = attached::bundle_referrer(&bundle, vsa::TYPE, &created);
    settled(&Pace::default(), |settling| -> Result<(), SharedError> {
        let own = layer.clone();
        let is_same = move |one: &Descriptor| own.has_no_more_than(one);
        attached::append(settling, image.keeper(), &tag, &layer, Earlier::Keep, is_same)?;
        attached::refer(settling, image.keeper(), &image.stored.descriptor(), &referrer)?;
        Ok(())
    })
    .map_err(failed)?;
    image.finish(output)?;
    tell(&sealed.proof, output);
    output.message(&format!("the verification summary is kept with {place}"));
    Ok(())
}
