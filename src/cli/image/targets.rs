//! Registries, layouts and archives, as they are named on the command line.

use std::path::{Path, PathBuf};

use affiant_core::image::layout::{docker_archive, pack};
use affiant_core::image::{At, Layout, Reference, Repository, Target};
use clap::Args;

use crate::cli::failure::{Failure, Kind};
use crate::cli::surroundings::{self, Asking};

#[derive(Args)]
#[command(next_help_heading = "Registry")]
pub(crate) struct TargetArgs {
    /// Ask the registry without TLS where it speaks none
    #[arg(long)]
    allow_http_registry: bool,
    /// The same as --allow-http-registry; certificates are checked nevertheless
    #[arg(long)]
    allow_insecure_registry: bool,
    /// Name at the registry, with --registry-password
    #[arg(long, value_name = "NAME", requires = "registry_password")]
    registry_username: Option<String>,
    /// Password at the registry; everybody on this machine can read a command line: `docker login` is better
    #[arg(long, value_name = "PASSWORD", requires = "registry_username")]
    registry_password: Option<String>,
    /// Token that the registry takes
    #[arg(long, value_name = "TOKEN", conflicts_with = "registry_username")]
    registry_token: Option<String>,
}

/// A place, and which manifest in it is meant.
pub(crate) struct Place {
    pub(crate) repository: Box<dyn Repository>,
    pub(crate) at: At,
    /// In a registry.
    pub(super) reference: Option<Reference>,
}

/// A place that is written.
pub(super) struct Destination {
    pub(super) repository: Box<dyn Repository>,
    pub(super) tag: Option<String>,
    /// The digest that whatever is put there must have.
    pub(super) digest: Option<affiant_core::image::Digest>,
    pub(super) reference: Option<Reference>,
    /// The place without tag and digest, as it can be named.
    pub(super) shown: String,
    /// An archive is packed from this folder when all is in it.
    packs: Option<(tempfile::TempDir, PathBuf)>,
}

/// Says what a target is; a file or folder without a prefix is looked at.
pub(super) fn parse(text: &str) -> Result<Target, Failure> {
    let has_prefix = ["oci:", "oci-archive:", "docker-archive:"].iter().any(|prefix| text.starts_with(prefix));
    if !has_prefix {
        let path = Path::new(text);
        if path.is_dir() {
            return Ok(Target::Layout(path.to_owned(), None));
        }
        if path.is_file() {
            // What `docker save` writes today is both: the layout has the digests that were built.
            return Ok(if Layout::open_archive(path).is_ok() {
                Target::LayoutArchive(path.to_owned(), None)
            } else {
                Target::DockerArchive(path.to_owned(), None)
            });
        }
        if text.starts_with(['/', '.']) {
            return Err(Failure::new(Kind::NoAnswer, format!("{text} is not there")));
        }
    }
    text.parse().map_err(|error| Failure::because(Kind::Usage, format!("{text} names no image"), &error))
}

/// A place did not do what was asked.
pub(crate) fn no_answer(what: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::because(Kind::NoAnswer, format!("{what}: no answer"), error)
}

impl TargetArgs {
    /// Opens a place that is read.
    pub(crate) fn source(&self, text: &str) -> Result<Place, Failure> {
        let failed = |error: affiant_core::image::RepositoryError| no_answer(text, &error);
        let in_layout = |layout: Layout, at: Option<At>| -> Result<Place, Failure> {
            let at = at.map_or_else(|| layout.only_root(), Ok).map_err(failed)?;
            Ok(Place { repository: Box::new(layout), at, reference: None })
        };
        match parse(text)? {
            Target::Registry(reference) => {
                let repository = self.open(&reference)?;
                Ok(Place { repository, at: reference.at(), reference: Some(reference) })
            }
            Target::Layout(path, at) => in_layout(Layout::open(&path).map_err(failed)?, at),
            Target::LayoutArchive(path, at) => in_layout(Layout::open_archive(&path).map_err(failed)?, at),
            Target::DockerArchive(path, name) => {
                let (repository, at) = docker_archive(&path, name.as_deref()).map_err(failed)?;
                Ok(Place { repository, at: At::Digest(at), reference: None })
            }
        }
    }

    /// Opens a place that is written.
    pub(super) fn destination(&self, text: &str) -> Result<Destination, Failure> {
        let failed = |error: affiant_core::image::RepositoryError| no_answer(text, &error);
        let split = |at: Option<At>| match at {
            Some(At::Tag(tag)) => (Some(tag), None),
            Some(At::Digest(digest)) => (None, Some(digest)),
            None => (None, None),
        };
        // A folder is only written where it is called one: `copy IMAGE work` means Docker Hub's image of this name.
        let target: Target =
            text.parse().map_err(|error| Failure::because(Kind::Usage, format!("{text} names no place"), &error))?;
        match target {
            Target::Registry(reference) => {
                let repository = self.open(&reference)?;
                let tag = match (&reference.tag, &reference.digest) {
                    (None, None) => Some("latest".to_owned()),
                    (tag, _) => tag.clone(),
                };
                Ok(Destination {
                    repository,
                    tag,
                    digest: reference.digest.clone(),
                    shown: reference.name(),
                    reference: Some(reference),
                    packs: None,
                })
            }
            Target::Layout(path, at) => {
                let (tag, digest) = split(at);
                let repository = Box::new(Layout::create(&path).map_err(failed)?);
                let shown = format!("oci:{}", path.display());
                Ok(Destination { repository, tag, digest, reference: None, shown, packs: None })
            }
            Target::LayoutArchive(path, at) => {
                if path.symlink_metadata().is_ok() {
                    return Err(Failure::new(Kind::NoAnswer, format!("{} is there already", path.display()))
                        .hint("an archive is written whole: choose another name, or take it away"));
                }
                let (tag, digest) = split(at);
                let io = |error: std::io::Error| no_answer(text, &error);
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let folder = tempfile::Builder::new()
                    .prefix(".affiant-layout-")
                    .tempdir_in(folder.unwrap_or(Path::new(".")))
                    .map_err(io)?;
                let repository = Box::new(Layout::create(&folder.path().join("layout")).map_err(failed)?);
                let shown = format!("oci-archive:{}", path.display());
                Ok(Destination { repository, tag, digest, reference: None, shown, packs: Some((folder, path)) })
            }
            Target::DockerArchive(..) => Err(Failure::usage(format!("{text}: docker archives are read only"))
                .hint("write `oci-archive:FILE`, which docker and skopeo load too")),
        }
    }

    /// The repository that a name means.
    fn open(&self, reference: &Reference) -> Result<Box<dyn Repository>, Failure> {
        let open = surroundings::registries(&self.asking(vec![reference.registry.clone()]))?;
        Ok(open(reference))
    }

    /// How these registries are asked.
    pub(super) fn asking(&self, registries: Vec<String>) -> Asking {
        let may_be_plain = self.allow_http_registry || self.allow_insecure_registry;
        Asking {
            plain: if may_be_plain { registries } else { Vec::new() },
            password: self.registry_username.clone().zip(self.registry_password.clone()),
            token: self.registry_token.clone(),
        }
    }
}

impl Destination {
    /// All is there: what is an archive becomes one.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        let Some((folder, path)) = &self.packs else { return Ok(()) };
        pack(&folder.path().join("layout"), path).map_err(|error| no_answer(&path.display().to_string(), &error))
    }

    /// Refuses what has another digest than the one that was named.
    pub(super) fn expects(&self, digest: &affiant_core::image::Digest) -> Result<(), Failure> {
        match &self.digest {
            Some(wanted) if wanted != digest => Err(Failure::new(
                Kind::Denied,
                format!("the image is {digest}, and the destination is named {wanted}: nothing was written"),
            )),
            _ => Ok(()),
        }
    }
}
