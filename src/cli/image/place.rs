//! Where images and what is kept about them are: registries, and how they are asked.

use affiant_core::image::found::Skipped;
use affiant_core::image::{At, Descriptor, Digest, Manifest, Reference, Repository, RepositoryError, Stored, Target};
use clap::Args;

use super::targets::{TargetArgs, no_answer};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::Output;
use crate::cli::surroundings;

/// Most entries of an index that are signed with it.
const MAX_CHILDREN: usize = 1000;
/// How deep indexes may lie in each other.
const MAX_DEPTH: usize = 4;

#[derive(Args)]
#[command(next_help_heading = "Registry")]
pub(super) struct RegistryArgs {
    #[command(flatten)]
    targets: TargetArgs,
    /// What stands before the tags of signatures and attestations
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    attachment_tag_prefix: String,
    /// Repository in which signatures and attestations are kept, instead of the image's
    #[arg(long, value_name = "NAME", env = "COSIGN_REPOSITORY", hide_env_values = true)]
    evidence_repository: Option<String>,
}

/// An image, resolved once, and where things are kept about it.
pub(super) struct Image {
    pub(super) reference: Reference,
    pub(super) stored: Stored,
    repository: Box<dyn Repository>,
    evidence: Option<(Reference, Box<dyn Repository>)>,
    prefix: String,
}

impl RegistryArgs {
    /// Resolves an image.
    pub(super) fn image(&self, name: &str) -> Result<Image, Failure> {
        let reference = registry_reference(name)?;
        let evidence = self.evidence_repository.as_deref().filter(|name| !name.is_empty());
        let evidence = evidence.map(registry_reference).transpose()?;
        if !self.attachment_tag_prefix.is_empty()
            && !affiant_core::image::reference::is_tag(&self.attachment_tag_prefix)
        {
            return Err(Failure::usage(format!("--attachment-tag-prefix {}: no tag", self.attachment_tag_prefix)));
        }
        let mut hosts = vec![reference.registry.clone()];
        hosts.extend(evidence.iter().map(|evidence| evidence.registry.clone()));
        let open = surroundings::registries(&self.targets.asking(hosts))?;
        let repository = open(&reference);
        let evidence = evidence
            .filter(|evidence| evidence.name() != reference.name())
            .map(|evidence| (evidence.clone(), open(&evidence)));
        let at = reference.at();
        let stored = repository.manifest(&at).map_err(|error| no_answer(name, &error))?;
        let stored = stored.ok_or_else(|| {
            Failure::new(Kind::NoTag, format!("{reference} is not there"))
                .hint("is the name right, and was the image pushed?")
        })?;
        stored
            .manifest()
            .map_err(|error| Failure::because(Kind::NoAnswer, format!("{reference} is no image"), &error))?;
        Ok(Image { reference, stored, repository, evidence, prefix: self.attachment_tag_prefix.clone() })
    }
}

/// A name of an image in a registry.
pub(super) fn registry_reference(name: &str) -> Result<Reference, Failure> {
    match name.parse::<Target>() {
        Ok(Target::Registry(reference)) => Ok(reference),
        Ok(_) => Err(Failure::usage(format!("{name}: only images in registries can be worked with so far"))
            .hint("push it with skopeo or docker, and name it as `host/repository@sha256:…`")),
        Err(error) => Err(Failure::because(Kind::Usage, format!("{name} is no image"), &error)),
    }
}

impl Image {
    pub(super) fn digest(&self) -> &Digest {
        self.stored.digest()
    }

    /// Where new things are kept about it.
    pub(super) fn keeper(&self) -> &dyn Repository {
        self.evidence.as_ref().map_or(&*self.repository, |(_, repository)| &**repository)
    }

    /// The name of that repository.
    pub(super) fn keeper_name(&self) -> String {
        self.evidence.as_ref().map_or_else(|| self.reference.name(), |(reference, _)| reference.name())
    }

    /// All places in which something may be kept.
    pub(super) fn keepers(&self) -> Vec<&dyn Repository> {
        let mut all: Vec<&dyn Repository> = Vec::new();
        all.extend(self.evidence.as_ref().map(|(_, repository)| &**repository));
        all.push(&*self.repository);
        all
    }

    /// What stands before tags.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `name@digest`
    pub(super) fn pinned(&self) -> String {
        self.reference.pinned(self.digest())
    }

    /// The image, and with it all manifests of an index.
    pub(super) fn with_children(&self) -> Result<Vec<Descriptor>, Failure> {
        let mut all = Vec::new();
        let failed = |error: RepositoryError| no_answer(&self.pinned(), &error);
        let mut next = vec![(self.stored.clone(), 0)];
        while let Some((stored, depth)) = next.pop() {
            if all.iter().any(|one: &Descriptor| one.digest == *stored.digest()) {
                continue;
            }
            all.push(stored.descriptor());
            let manifest: Manifest = stored.manifest().map_err(|error| no_answer(&self.pinned(), &error))?;
            for entry in manifest.entries().iter().rev() {
                if depth == MAX_DEPTH || all.len() + next.len() >= MAX_CHILDREN {
                    return Err(Failure::new(
                        Kind::NoAnswer,
                        format!("{}: more than {MAX_CHILDREN} manifests, or deeper than {MAX_DEPTH}", self.pinned()),
                    ));
                }
                let child = self.repository.manifest(&At::Digest(entry.digest.clone())).map_err(failed)?;
                let child = child.ok_or_else(|| {
                    Failure::new(Kind::NoAnswer, format!("{} of the index is not there", entry.digest))
                })?;
                next.push((child, depth + 1));
            }
        }
        Ok(all)
    }
}

/// Says what was passed over.
pub(super) fn tell_skipped(skipped: &[Skipped], output: &Output) {
    const SHOWN: usize = 20;
    for Skipped { place, reason } in skipped.iter().take(SHOWN) {
        output.message(&format!("passed over: {place}: {reason}"));
    }
    if skipped.len() > SHOWN {
        output.message(&format!("passed over: {} more", skipped.len() - SHOWN));
    }
}
