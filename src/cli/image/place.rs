//! An image in its place, and the places in which something is kept about it.

use std::sync::{Mutex, PoisonError};

use affiant_core::image::found::Skipped;
use affiant_core::image::platforms::{Member, members};
use affiant_core::image::{At, Descriptor, Digest, Platform, Reference, Repository, Stored, Target, buildkit};
use clap::Args;

use super::targets::{self, Place, TargetArgs, Use, no_answer};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::Output;
use crate::cli::surroundings;

#[derive(Args, Default)]
#[command(next_help_heading = "Registry")]
pub(in crate::cli) struct RegistryArgs {
    #[command(flatten)]
    targets: TargetArgs,
    /// What stands before the tags of signatures and attestations
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    attachment_tag_prefix: String,
    /// Repository, or oci:FOLDER, in which signatures and attestations are kept, instead of the image's
    #[arg(long, value_name = "NAME", env = EVIDENCE, hide_env_values = true)]
    evidence_repository: Option<String>,
}

/// An image, resolved once, and where things are kept about it.
pub(in crate::cli) struct Image {
    place: Place,
    pub(in crate::cli) stored: Stored,
    evidence: Option<Place>,
    prefix: String,
    /// As it was named.
    asked: String,
    /// What is told when all is kept.
    later: Mutex<Vec<String>>,
}

/// The variable of `--evidence-repository`, as cosign calls it.
pub(super) const EVIDENCE: &str = "COSIGN_REPOSITORY";

impl RegistryArgs {
    /// The place that was named for evidence beside that of the images.
    pub(in crate::cli) fn evidence_repository(&self) -> Option<&str> {
        self.evidence_repository.as_deref().filter(|name| !name.is_empty())
    }

    /// As the variables say it, for a verb that has none of these flags itself.
    pub(super) fn of_variables() -> Result<Self, Failure> {
        let Some(name) = surroundings::variable(EVIDENCE) else { return Ok(Self::default()) };
        let name =
            name.into_string().map_err(|name| Failure::usage(format!("{EVIDENCE}={}: no UTF-8", name.display())))?;
        TargetArgs::names_keeper(&name).map_err(|failure| failure.hint(format!("{EVIDENCE} says it")))?;
        Ok(Self { evidence_repository: Some(name), ..Self::default() })
    }

    /// Refuses an image of a registry, or whose evidence is kept in one, where nobody may be asked.
    pub(in crate::cli) fn refuse_offline(&self, name: &str) -> Result<(), Failure> {
        let keeper = self.evidence_repository.as_deref().filter(|name| !name.is_empty());
        match [Some(name), keeper].into_iter().flatten().find(|name| is_elsewhere(name)) {
            None => Ok(()),
            Some(missing) => Err(Failure::usage(format!("--offline: the registry of {missing} cannot be asked")).hint(
                format!("keep the image in a folder where it can be, `affiant image save --dir FOLDER {name}`, and name it as `oci:FOLDER`"),
            )),
        }
    }

    /// How registries are asked.
    pub(super) fn targets(&self) -> &TargetArgs {
        &self.targets
    }

    /// Refuses what cannot be asked of all of these, before anything is asked of one.
    pub(super) fn check(&self, images: &[String]) -> Result<(), Failure> {
        let names = images.iter().chain(&self.evidence_repository).filter(|name| !name.is_empty());
        let registries: Vec<Reference> = names
            .filter_map(|name| match targets::named(name) {
                Ok(Target::Registry(reference)) => Some(reference),
                _ => None,
            })
            .collect();
        self.targets.one_registry(&registries)
    }

    /// Resolves an image that is read.
    pub(in crate::cli) fn image(&self, name: &str) -> Result<Image, Failure> {
        self.resolved(name, Use::Read)
    }

    /// Resolves an image about which something is kept, or taken away. [`Image::finish`] must follow.
    pub(super) fn image_to_change(&self, name: &str) -> Result<Image, Failure> {
        self.resolved(name, Use::Change)
    }

    /// Resolves an image before anything is done, and looks whether it has a name that can be signed. One in a registry is
    /// given: it is not asked for again.
    pub(super) fn find(&self, name: &str, called: Option<&str>) -> Result<Option<Image>, Failure> {
        let keeper = self.evidence_repository.as_deref().filter(|name| !name.is_empty());
        let is_remote = is_elsewhere(name) && keeper.is_none_or(is_elsewhere);
        let image = self.resolved(name, if is_remote { Use::Change } else { Use::Read })?;
        image.identity(called)?;
        Ok(is_remote.then_some(image))
    }

    /// Opens images to change them, as far as they are not `found` already, and does `work` with several at a time. An
    /// archive is written anew as a whole, so each is alone.
    pub(super) fn in_batches(
        &self,
        names: &[String],
        found: Vec<Option<Image>>,
        output: &Output,
        mut work: impl FnMut(&[Image]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut finish = |batch: &mut Vec<Image>| {
            work(batch)?;
            batch.drain(..).try_for_each(|image| image.finish(output))
        };
        let mut found = found.into_iter();
        let mut batch = Vec::new();
        for name in names {
            let image = found.next().flatten().map_or_else(|| self.image_to_change(name), Ok)?;
            let is_archive = image.keeping().repository.is_own();
            if is_archive && !batch.is_empty() {
                finish(&mut batch)?;
            }
            batch.push(image);
            if is_archive {
                finish(&mut batch)?;
            }
        }
        if batch.is_empty() { Ok(()) } else { finish(&mut batch) }
    }

    fn resolved(&self, name: &str, purpose: Use) -> Result<Image, Failure> {
        let target = targets::named(name)?;
        let elsewhere = self.evidence_repository.as_deref().filter(|name| !name.is_empty());
        if !self.attachment_tag_prefix.is_empty()
            && !affiant_core::image::reference::is_tag(&self.attachment_tag_prefix)
        {
            return Err(Failure::usage(format!("--attachment-tag-prefix {}: no tag", self.attachment_tag_prefix)));
        }
        // What is kept elsewhere leaves the image's own place as it is.
        let (own, other) = if elsewhere.is_some() { (Use::Read, purpose) } else { (purpose, Use::Read) };
        let place = self.targets.open_target(name, target, own)?;
        let evidence = elsewhere.map(|name| self.targets.keeper(name, other)).transpose()?;
        let evidence = evidence.filter(|evidence| evidence.shown != place.shown);
        let asked = place.reference.as_ref().map_or_else(|| name.to_owned(), ToString::to_string);
        let stored = place.repository.manifest(&place.at).map_err(|error| no_answer(name, &error))?;
        let stored = stored.ok_or_else(|| {
            let failure = Failure::new(Kind::NoTag, format!("{asked} is not there"));
            if std::path::Path::new(name).exists() {
                failure.hint(targets::prefixes(name))
            } else {
                failure.hint("is the name right, and was the image pushed?")
            }
        })?;
        stored.manifest().map_err(|error| Failure::because(Kind::NoAnswer, format!("{asked} is no image"), &error))?;
        Ok(Image {
            place,
            stored,
            evidence,
            prefix: self.attachment_tag_prefix.clone(),
            asked,
            later: Mutex::default(),
        })
    }
}

impl Image {
    pub(super) fn digest(&self) -> &Digest {
        self.stored.digest()
    }

    /// `host/repository`, or the layout's or archive's name.
    pub(in crate::cli) fn name(&self) -> &str {
        &self.place.shown
    }

    /// As it was named.
    pub(super) fn asked(&self) -> &str {
        &self.asked
    }

    /// Whether it was named by its digest.
    pub(super) fn is_pinned(&self) -> bool {
        matches!(self.place.at, At::Digest(_))
    }

    /// The image's own place.
    pub(in crate::cli) fn repository(&self) -> &dyn Repository {
        &*self.place.repository
    }

    /// The name of the image that is written into what is signed: the one that is given, else its repository in a
    /// registry, else the name that a layout says.
    pub(super) fn identity(&self, given: Option<&str>) -> Result<String, Failure> {
        let own = self.place.reference.as_ref().map(Reference::name);
        given.map(str::to_owned).or(own).or_else(|| self.place.known_as.clone()).ok_or_else(|| {
            Failure::usage(format!("{}: the image has no name of a registry, and one is signed", self.asked))
                .hint("say which: --sign-container-identity registry.example/team/app")
        })
    }

    /// Its own place, to be carried from by this digest.
    pub(super) fn source(&self, digest: &Digest) -> Place {
        self.place.pinned(digest)
    }

    /// Where new things are kept about it.
    pub(super) fn keeper(&self) -> &dyn Repository {
        &*self.keeping().repository
    }

    /// The name of that place.
    pub(super) fn keeper_name(&self) -> &str {
        &self.keeping().shown
    }

    fn keeping(&self) -> &Place {
        self.evidence.as_ref().unwrap_or(&self.place)
    }

    /// All places in which something may be kept.
    pub(in crate::cli) fn keepers(&self) -> Vec<&dyn Repository> {
        self.evidence.iter().chain([&self.place]).map(|place| &*place.repository).collect()
    }

    /// The same, with their names.
    pub(super) fn keepers_shown(&self) -> Vec<(&str, &dyn Repository)> {
        let places = self.evidence.iter().chain([&self.place]);
        places.map(|place| (place.shown.as_str(), &*place.repository)).collect()
    }

    /// What stands before tags.
    pub(in crate::cli) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `name@digest`
    pub(super) fn pinned(&self) -> String {
        format!("{}@{}", self.name(), self.digest())
    }

    /// Tells that something was kept, or taken away: of an archive only when it is written.
    pub(super) fn tell(&self, text: String, output: &Output) {
        if self.keeping().is_edited() {
            self.later.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        } else {
            output.message(&text);
        }
    }

    /// All is kept: an archive is written anew.
    pub(super) fn finish(&self, output: &Output) -> Result<(), Failure> {
        self.keeping().finish()?;
        let told: Vec<String> = std::mem::take(&mut *self.later.lock().unwrap_or_else(PoisonError::into_inner));
        for text in told {
            output.message(&text);
        }
        Ok(())
    }

    /// The image, and with it all manifests of an index.
    pub(super) fn members(&self) -> Result<Vec<Member>, Failure> {
        members(self.repository(), &self.stored, |entry| Some(entry.digest.clone()))
            .map_err(|error| no_answer(&self.pinned(), &error))
    }

    /// What points at the image, and at all images of an index that a machine may run: what `BuildKit` says of a build is
    /// none of them.
    pub(super) fn with_children(&self) -> Result<Vec<Descriptor>, Failure> {
        let runnable = members(self.repository(), &self.stored, |entry| {
            let is_run = !entry.platform.as_ref().is_some_and(Platform::is_unknown) && !buildkit::is_attestation(entry);
            is_run.then(|| entry.digest.clone())
        });
        let runnable = runnable.map_err(|error| no_answer(&self.pinned(), &error))?;
        Ok(runnable.iter().map(|one| one.stored.descriptor()).collect())
    }
}

/// The file that an image is read from, where it is an archive.
pub(in crate::cli) fn archive_of(name: &str) -> Option<std::path::PathBuf> {
    match targets::named(name) {
        Ok(Target::LayoutArchive(path, _) | Target::DockerArchive(path, _)) => Some(path),
        _ => None,
    }
}

/// The folder that an image is read from, where it is in a layout.
pub(in crate::cli) fn layout_of(name: &str) -> Option<std::path::PathBuf> {
    match targets::named(name) {
        Ok(Target::Layout(path, _)) => Some(path),
        _ => None,
    }
}

/// Whether a name is one of an image in a registry.
fn is_elsewhere(name: &str) -> bool {
    matches!(targets::named(name), Ok(Target::Registry(_)))
}

/// Says what was passed over.
pub(super) fn tell_skipped(skipped: &[Skipped], output: &Output) {
    const SHOWN: usize = 20;
    for Skipped { place, reason, .. } in skipped.iter().take(SHOWN) {
        output.message(&format!("passed over: {place}: {reason}"));
    }
    if skipped.len() > SHOWN {
        output.message(&format!("passed over: {} more", skipped.len() - SHOWN));
    }
}
