//! `affiant image copy`, `save`, `load`: an image and its evidence from one place to another.

use std::path::{Path, PathBuf};

use affiant_core::image::beside::Beside;
use affiant_core::image::carry::{CarryError, Chosen, Options, Report, carry, choose};
use affiant_core::image::{At, Inside, Layout, Target};
use clap::Args;

use super::place::EVIDENCE;
use super::targets::{Destination, Place, TargetArgs, Use, named, no_answer, no_tag, prefixes};
use crate::cli::Ending;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::Output;

/// Notes that are shown.
const SHOWN: usize = 20;

#[derive(Args)]
struct HowArgs {
    /// Leave signatures, attestations and other referrers behind
    #[arg(long)]
    no_evidence: bool,
    /// Of an index, the image for this machine alone: os/architecture[/variant]. The index stays behind, with what
    /// is kept about it
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Read all layers again at the destination
    #[arg(long)]
    reread: bool,
    /// Blobs that are carried at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    at_once: u8,
    /// What stands before the tags of signatures and attestations
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    attachment_tag_prefix: String,
    /// Repository, or oci:FOLDER, in which evidence is kept about what is carried, besides its own; all arrives in one
    /// place
    #[arg(long, value_name = "NAME", env = EVIDENCE, hide_env_values = true)]
    evidence_repository: Option<String>,
    #[command(flatten)]
    targets: TargetArgs,
}

#[derive(Args)]
#[command(
    after_help = "Places: host/repository[:tag][@digest], oci:FOLDER[:tag][@digest], oci-archive:FILE[:tag][@digest]; read only:\ndocker-archive:FILE[:name]. What arrives has the bytes and digests that it had; it is read again at the\ndestination. Prints the name or place with the digest.\n\n  affiant image copy build.example.com/app:1 registry.example.com/app:1\n  affiant image copy registry.example.com/app@sha256:… oci:app:1"
)]
pub(crate) struct CopyArgs {
    /// What is carried
    #[arg(value_name = "SRC")]
    from: String,
    /// Where it is carried
    #[arg(value_name = "DST")]
    to: String,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Args)]
pub(crate) struct SaveArgs {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Folder that becomes an OCI layout
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Args)]
pub(crate) struct LoadArgs {
    /// Where in a registry it is put
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Folder that `save` wrote
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    #[command(flatten)]
    how: HowArgs,
}

/// Where something is carried, and how.
pub(super) struct Way<'a> {
    pub(super) to: &'a Destination,
    pub(super) tag: Option<&'a str>,
    pub(super) options: &'a Options,
}

impl Way<'_> {
    /// Carries, and says on stderr what was carried.
    pub(super) fn transfer(&self, from: &Place, chosen: Chosen, output: &Output) -> Result<Report, Failure> {
        let report = self.carried(from, chosen, output)?;
        self.to.finish()?;
        Ok(report)
    }

    /// The same without the end: more may come. [`Destination::finish`] must follow.
    fn carried(&self, from: &Place, chosen: Chosen, output: &Output) -> Result<Report, Failure> {
        let Self { to, tag, options } = *self;
        let mut options = options.clone();
        if let (Some(source), Some(destination)) = (&from.reference, &to.reference)
            && source.registry == destination.registry
            && source.repository != destination.repository
        {
            options.mount_from = Some(source.repository.clone());
        }
        let report = carry(&*from.repository, chosen, &*to.repository, tag, &options)
            .map_err(|error| failed(&format!("{} to {}", from.repository.name(), to.shown), &error))?;
        tell(&report, output);
        Ok(report)
    }
}

/// What was carried.
fn tell(report: &Report, output: &Output) {
    for note in report.notes.iter().take(SHOWN) {
        output.message(&format!("passed over: {note}"));
    }
    if report.notes.len() > SHOWN {
        output.message(&format!("passed over: {} more", report.notes.len() - SHOWN));
    }
    if let Some(index) = &report.taken_from {
        output.message(&format!(
            "one image of the index {index} was carried: the index, and what is signed about it, stayed behind"
        ));
    }
    let Report { manifests, evidence, sent, mounted, present, .. } = report;
    output.message(&format!(
        "{manifests} manifests and {evidence} of evidence; {} blobs sent ({} bytes), {mounted} taken over, {present} there already",
        sent.0, sent.1
    ));
}

fn failed(what: &str, error: &CarryError) -> Failure {
    let kind = match error {
        CarryError::Absent { .. } | CarryError::Choice(_) => Kind::NoTag,
        CarryError::Image(_)
        | CarryError::NotThere { .. }
        | CarryError::Repository(_)
        | CarryError::Shared(_)
        | CarryError::Evidence { .. } => Kind::NoAnswer,
    };
    let failure = Failure::because(kind, format!("{what}: not carried"), error);
    match error {
        CarryError::Evidence { .. } => failure.hint("`--no-evidence` carries the image alone"),
        _ => failure,
    }
}

impl HowArgs {
    /// The source together with the repository in which evidence is kept about it, where that is another.
    fn elsewhere(&self, source: &Place) -> Result<Option<Place>, Failure> {
        let Some(name) = self.evidence_repository.as_deref().filter(|name| !name.is_empty() && !self.no_evidence)
        else {
            return Ok(None);
        };
        let keeper = self.targets.keeper(name, Use::Read)?;
        if keeper.shown == source.shown {
            return Ok(None);
        }
        let both = Beside::new(source.repository.clone(), keeper.repository, &self.attachment_tag_prefix);
        Ok(Some(source.with(std::sync::Arc::new(both))))
    }

    fn options(&self) -> Options {
        Options {
            evidence: !self.no_evidence,
            at_once: usize::from(self.at_once),
            prefix: self.attachment_tag_prefix.clone(),
            mount_from: None,
            reread: self.reread,
        }
    }
}

/// Finds what is carried.
pub(super) fn chosen(from: &Place, platform: Option<&str>) -> Result<Chosen, Failure> {
    if let Some(platform) = platform {
        check_platform(platform)?;
    }
    choose(&*from.repository, &from.at, platform).map_err(|error| match error {
        CarryError::Absent { .. } => no_tag(from),
        other => failed(&from.repository.name(), &other),
    })
}

/// Whether a text has the form of a platform.
pub(super) fn check_platform(text: &str) -> Result<(), Failure> {
    let parts: Vec<&str> = text.split('/').collect();
    // What follows a version of the system, as of Windows, stands behind a colon.
    let is_part = |part: &&str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:()".contains(&byte))
    };
    if (2..=4).contains(&parts.len()) && parts.iter().all(is_part) {
        return Ok(());
    }
    Err(Failure::usage(format!("--platform {text}: that is no platform"))
        .hint("write os/architecture[/variant], as `linux/arm64` or `linux/arm/v7`"))
}

/// A place, as it was named.
type Named<'a> = (&'a str, Target);

fn run(from: Named<'_>, to: Named<'_>, how: &HowArgs, output: &Output) -> Result<Report, Failure> {
    let source = how.targets.open_target(from.0, from.1, Use::Read)?;
    let elsewhere = how.elsewhere(&source)?;
    if let Target::Registry(reference) = &to.1 {
        how.targets.one_registry([reference])?;
    }
    let chosen = chosen(&source, how.platform.as_deref()).map_err(|failure| {
        let is_path = source.reference.is_some() && Path::new(from.0).exists();
        if is_path { failure.hint(prefixes(from.0)) } else { failure }
    })?;
    let destination = how.targets.destination(to.0, to.1, chosen.digest())?;
    // In a layout an image keeps the tag that it was named with.
    let kept = match (&destination.reference, &source.at, &destination.tag) {
        (None, At::Tag(tag), None) => Some(tag.clone()),
        _ => destination.tag.clone(),
    };
    let way = Way { to: &destination, tag: kept.as_deref(), options: &how.options() };
    let report = way.carried(&source, chosen.clone(), output)?;
    if let Some(both) = elsewhere {
        // Where both have something under the same tag, the image's own was put first, and this is added to it.
        way.carried(&both, chosen, output)?;
    }
    destination.finish()?;
    output.data(format!("{}@{}\n", destination.shown, report.root.digest).as_bytes())?;
    Ok(report)
}

fn place(name: &str) -> Result<Named<'_>, Failure> {
    Ok((name, named(name)?))
}

/// A folder as a place, whatever its name looks like.
fn in_folder(folder: &Path) -> Named<'_> {
    (folder.to_str().unwrap_or("--dir"), Target::Layout(folder.to_owned(), Inside::default()))
}

pub(super) fn copy(args: &CopyArgs, output: &Output) -> Result<Ending, Failure> {
    run(place(&args.from)?, place(&args.to)?, &args.how, output).map(|_| Ending::Done)
}

pub(super) fn save(args: &SaveArgs, output: &Output) -> Result<Ending, Failure> {
    let report = run(place(&args.image)?, in_folder(&args.dir), &args.how, output)?;
    // So that cosign's `load` takes it too.
    Layout::open(&args.dir)
        .and_then(|layout| layout.mark(&report.root.digest, &args.how.attachment_tag_prefix))
        .map_err(|error| no_answer(&args.dir.display().to_string(), &error))?;
    Ok(Ending::Done)
}

pub(super) fn load(args: &LoadArgs, output: &Output) -> Result<Ending, Failure> {
    run(in_folder(&args.dir), place(&args.image)?, &args.how, output).map(|_| Ending::Done)
}
