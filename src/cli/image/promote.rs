//! `affiant promote`: an image goes where it may be deployed from, once the gate has said yes, here and there.

use std::path::PathBuf;

use affiant_core::dsse::Envelope;
use affiant_core::image::attached::{self, Earlier, Kind as Tagged, Layer};
use affiant_core::image::carry::Options;
use affiant_core::image::shared::{Pace, SharedError, settled};
use affiant_core::image::{At, Digest, Target};
use affiant_core::sign::PrivateKey;
use affiant_core::statement::PAYLOAD_TYPE;
use affiant_core::verdict::{Answer, Verdict};
use affiant_core::vsa;
use clap::Args;

use super::copy::{Way, chosen};
use super::keeping::not_kept;
use super::place::Image;
use super::sign::sealed_by_key;
use super::targets::{named, no_answer};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::Output;
use crate::cli::report::{Reports, text};
use crate::cli::verify::{Asked, GateArgs, HowArgs, Mode, Opened, Trusted, probe, refuse_trust_from_environment};
use crate::cli::{Ending, keys, outputs, surroundings};

#[derive(Args)]
#[command(
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
    #[arg(long, value_name = "KEY", visible_alias = "signer-file-key-path", required = true)]
    vsa_key: String,
    /// File whose first line is the password of that key
    #[arg(long, value_name = "FILE", hide = true, visible_alias = "signer-file-key-passphrase-path")]
    key_password_file: Option<PathBuf>,
    /// Write the summary to a file as well
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
    files.reads_keys([&args.vsa_key]);
    files.reads("the password file", &args.key_password_file);
    files.writes("--vsa-outfile", &args.vsa_outfile);
    files.writes("--report", reports.files());
    files.check()?;
    let outfile = args.vsa_outfile.as_deref().map(probe).transpose()?;
    let key = keys::signing_key(&args.vsa_key, args.key_password_file.as_deref()).map_err(|mut failure| {
        failure.kind = Kind::NoAnswer;
        failure
    })?;
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
    if let Some(outfile) = &outfile {
        let envelope = Envelope::seal(statement.clone(), PAYLOAD_TYPE, &[&key.key])
            .map_err(|error| Failure::because(Kind::NoAnswer, "the summary cannot be signed", &error))?;
        let failed = |error| Failure::because(Kind::NoAnswer, "the summary cannot be written", &error);
        outfile.write(&envelope.to_json()).map_err(failed)?;
    }
    let image = args.how.registry.image_to_change(&name).map_err(unanswered)?;
    keep_summary(&image, &key.key, statement, output)?;
    // The tag comes last: what has it was judged here.
    if let Some(tag) = &destination.tag {
        let stored = &image.stored;
        destination
            .repository
            .put_manifest(&At::Tag(tag.clone()), stored.media_type(), stored.bytes())
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

/// Keeps the summary with the image, as an attestation under its tag and as a bundle.
fn keep_summary(image: &Image, key: &PrivateKey, statement: Vec<u8>, output: &Output) -> Result<(), Failure> {
    let place = image.pinned();
    let failed = |error: SharedError| not_kept(&place, &error);
    let (envelope, bundle) = sealed_by_key(key, statement)?;
    let tag = format!("{}{}", image.prefix(), image.digest().tag(Tagged::Attestation.suffix()));
    let layer = Layer::attestation(envelope.to_json(), vsa::TYPE);
    let created = surroundings::clock()?.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let referrer = attached::bundle_referrer(&bundle, vsa::TYPE, &created);
    settled(&Pace::default(), |settling| -> Result<(), SharedError> {
        attached::append(settling, image.keeper(), &tag, &layer, Earlier::Keep, |_| true)?;
        attached::refer(settling, image.keeper(), &image.stored.descriptor(), &referrer)?;
        Ok(())
    })
    .map_err(failed)?;
    image.finish(output)?;
    output.message(&format!("the verification summary is kept with {place}"));
    Ok(())
}
