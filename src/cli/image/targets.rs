//! Registries, layouts and archives, as they are named on the command line: opened to be read, added to, or written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use affiant_core::image::layout::{ANY_IMAGE, Edited, docker_archive, pack};
use affiant_core::image::{At, Digest, Inside, Layout, Reference, Repository, RepositoryError, Target};
use clap::Args;

use super::scratch::Scratch;
use crate::cli::failure::{Failure, Kind};
use crate::cli::surroundings::{Asking, OpenRegistries};

#[derive(Args, Default)]
#[command(next_help_heading = "Registry")]
pub(crate) struct TargetArgs {
    /// Ask the registry without TLS where it speaks none
    #[arg(long)]
    allow_http_registry: bool,
    /// The same as --allow-http-registry; certificates are checked nevertheless
    #[arg(long)]
    allow_insecure_registry: bool,
    /// Name at the one registry of the command, with --registry-password
    #[arg(long, value_name = "NAME", requires = "registry_password")]
    registry_username: Option<String>,
    /// Password at the registry; everybody on this machine can read a command line: `docker login` is better
    #[arg(long, value_name = "PASSWORD", requires = "registry_username")]
    registry_password: Option<String>,
    /// Token that the one registry of the command takes
    #[arg(long, value_name = "TOKEN", conflicts_with = "registry_username")]
    registry_token: Option<String>,
    /// Send blobs in pieces of at most so many megabytes, for a registry behind a proxy that takes no more at once
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    upload_chunk: Option<u16>,
    /// What was asked already.
    #[arg(skip)]
    opened: OpenRegistries,
}

/// What a place is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It is read.
    Read,
    /// Something is added to what is there, or taken away.
    Change,
}

/// A place, and which manifest in it is meant.
pub(crate) struct Place {
    pub(crate) repository: Arc<dyn Repository>,
    pub(crate) at: At,
    /// In a registry.
    pub(super) reference: Option<Reference>,
    /// The place without tag and digest, as it can be named.
    pub(super) shown: String,
    /// In a layout: the name of the repository that its entry says.
    pub(super) known_as: Option<String>,
    /// An archive that is changed, and the folder of its changes.
    edited: Option<(Arc<Edited>, Scratch)>,
}

/// A place that is written.
pub(super) struct Destination {
    pub(super) repository: Arc<dyn Repository>,
    pub(super) tag: Option<String>,
    pub(super) reference: Option<Reference>,
    /// The place without tag and digest, as it can be named.
    pub(super) shown: String,
    /// An archive is packed from this folder when all is in it.
    packs: Option<(Scratch, PathBuf)>,
}

/// Says what a target is; a file or folder without a prefix is looked at.
pub(super) fn parse(text: &str) -> Result<Target, Failure> {
    let has_prefix = ["oci:", "oci-archive:", "docker-archive:"].iter().any(|prefix| text.starts_with(prefix));
    if !has_prefix {
        let path = Path::new(text);
        if path.is_dir() {
            return Ok(Target::Layout(path.to_owned(), Inside::default()));
        }
        if path.is_file() {
            // What `docker save` writes today is both: the layout has the digests that were built.
            return Ok(if Layout::open_archive(path).is_ok() {
                Target::LayoutArchive(path.to_owned(), Inside::default())
            } else {
                Target::DockerArchive(path.to_owned(), None)
            });
        }
        if path.exists() {
            return Err(Failure::new(
                Kind::NoAnswer,
                format!("{text} is a device, a pipe or a socket: an image is in a plain file, or in a folder"),
            )
            .hint("`docker save -o image.tar NAME` writes a file"));
        }
        if text.starts_with(['/', '.']) {
            return Err(Failure::new(Kind::NoAnswer, format!("{text} is not there")));
        }
    }
    named(text)
}

/// Says what a target is, by its name alone.
pub(super) fn named(text: &str) -> Result<Target, Failure> {
    text.parse().map_err(|error| {
        if Path::new(text).exists() {
            return Failure::because(Kind::Usage, format!("{text} names no image"), &error).hint(prefixes(text));
        }
        let shown = without_user(text);
        if shown != text {
            // What is wrong with the rest may quote the password.
            return Failure::usage(format!("{shown} names no image: behind `@` stands a digest, sha256:…, and a name or password before the host is not taken"))
                .hint("`docker login HOST`, or --registry-username and --registry-password");
        }
        let failure = Failure::because(Kind::Usage, format!("{text} names no image"), &error);
        match without_scheme(text) {
            Some(rest) if rest.parse::<Reference>().is_ok() => failure.hint(format!("leave the prefix out: {rest}")),
            Some(_) => failure.hint("an image in a registry is named without a prefix: HOST/REPOSITORY:TAG"),
            None => failure,
        }
    })
}

/// A name without what stands before its host as in `user:password@host`; a digest behind `@` is none.
fn without_user(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, behind)) if !is_digest_like(behind) => {
            let scheme = before.find("://").map_or("", |end| &before[..end + 3]);
            format!("{scheme}[user and password]@{behind}")
        }
        // The digest is what follows the last; before it may be another.
        Some((before, digest)) if before.contains('@') => format!("{}@{digest}", without_user(before)),
        _ => text.to_owned(),
    }
}

/// Whether what follows an `@` was meant as a digest, which has no host or path.
fn is_digest_like(text: &str) -> bool {
    !text.contains('/') && ["sha256", "sha384", "sha512", "md5", "blake3"].iter().any(|name| text.starts_with(name))
}

/// What follows a prefix with which other tools name an image in a registry.
fn without_scheme(text: &str) -> Option<&str> {
    ["docker://", "https://", "http://", "oci://"].iter().find_map(|prefix| text.strip_prefix(prefix))
}

/// How a file or folder is named where a name alone means a registry.
pub(super) fn prefixes(text: &str) -> String {
    format!("a folder or file is named as `oci:{text}`, `oci-archive:{text}` or `docker-archive:{text}`")
}

/// The name of a layout's folder. One that ends like a tag gets a slash, with which none is read from it.
fn layout_name(path: &Path) -> String {
    let name = format!("oci:{}", path.display());
    let is_whole = matches!(name.parse(), Ok(Target::Layout(_, named)) if named == Inside::default());
    if is_whole { name } else { name + "/" }
}

/// A place did not do what was asked, or has not what was asked for.
pub(crate) fn no_answer(what: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::because(Kind::NoAnswer, format!("{what}: no answer"), error)
}

/// A place has not the image that was asked for.
pub(super) fn no_tag(place: &Place) -> Failure {
    let asked = match (&place.reference, &place.at) {
        (_, At::Digest(digest)) => format!("{}@{digest}", place.shown),
        (_, At::Tag(tag)) => format!("{}:{tag}", place.shown),
    };
    Failure::new(Kind::NoTag, format!("{asked} is not there")).hint("is the name right, and was the image pushed?")
}

impl TargetArgs {
    /// What of this `resume` has to be told. A password is not among it.
    pub(crate) fn resume_flags(&self) -> &'static str {
        if self.allow_http_registry || self.allow_insecure_registry { " --allow-http-registry" } else { "" }
    }

    /// Opens a place that is read. What it is, its name alone says: what lies in the working directory under the name of
    /// an image never stands for that image.
    pub(crate) fn source(&self, text: &str) -> Result<Place, Failure> {
        self.open_target(text, named(text)?, Use::Read)
    }

    /// Opens a place that is read; a file or folder needs no prefix.
    pub(super) fn source_or_path(&self, text: &str) -> Result<Place, Failure> {
        self.open_target(text, parse(text)?, Use::Read)
    }

    /// Opens a place in which an image is, and in which things may be kept about it.
    pub(super) fn open_target(&self, text: &str, target: Target, purpose: Use) -> Result<Place, Failure> {
        let named_inside = match &target {
            Target::DockerArchive(_, name) => name.clone(),
            _ => None,
        };
        let failed = |error: RepositoryError| match error {
            RepositoryError::Absent { ref what, ref place } if what == ANY_IMAGE => {
                Failure::new(Kind::NoTag, format!("there is no image in {place}"))
            }
            RepositoryError::Absent { ref what, .. } if named_inside.as_ref() == Some(what) => {
                Failure::because(Kind::NoTag, format!("{text} is not there"), &error)
            }
            _ => no_answer(text, &error),
        };
        match (target, purpose) {
            (Target::Registry(reference), _) => Ok(Place {
                repository: self.open(&reference)?,
                at: reference.at(),
                shown: reference.name(),
                reference: Some(reference),
                known_as: None,
                edited: None,
            }),
            (Target::Layout(path, at), _) => {
                let shown = layout_name(&path);
                in_layout(Layout::open(&path).map_err(failed)?, &at, shown).map_err(failed)
            }
            (Target::LayoutArchive(path, at), Use::Read) => {
                let shown = format!("oci-archive:{}", path.display());
                in_layout(Layout::open_archive(&path).map_err(failed)?, &at, shown).map_err(failed)
            }
            (Target::LayoutArchive(path, at), Use::Change) => {
                let folder = Scratch::beside(&path).map_err(|error| no_answer(text, &error))?;
                let changed = Arc::new(Edited::open(&path, folder.path()).map_err(failed)?);
                let layout = changed.layout();
                let at = at.at().map_or_else(|| layout.only_root(), Ok).map_err(failed)?;
                let known_as = layout.known_as(&at).map_err(failed)?;
                Ok(Place {
                    repository: changed.layout().clone(),
                    at,
                    reference: None,
                    shown: format!("oci-archive:{}", path.display()),
                    known_as,
                    edited: Some((changed, folder)),
                })
            }
            (Target::DockerArchive(path, name), Use::Read) => {
                let (repository, at) = docker_archive(&path, name.as_deref()).map_err(failed)?;
                let known_as = name.as_deref().and_then(|name| name.parse::<Reference>().ok()).map(|one| one.name());
                let shown = format!("docker-archive:{}", path.display());
                Ok(Place {
                    repository: repository.into(),
                    at: At::Digest(at),
                    reference: None,
                    shown,
                    known_as,
                    edited: None,
                })
            }
            (Target::DockerArchive(..), Use::Change) => Err(Failure::usage(format!(
                "{text}: nothing can be kept in a docker archive"
            ))
            .hint(format!(
                "copy it first, into a layout that has room for signatures: affiant image copy {text} oci-archive:FILE"
            ))),
        }
    }

    /// Opens a place in which things are kept about images of other places. A layout is made where there is none.
    pub(super) fn keeper(&self, text: &str, purpose: Use) -> Result<Place, Failure> {
        match named(text)? {
            Target::Registry(reference) if reference.tag.is_some() || reference.digest.is_some() => {
                Err(no_keeper(text))
            }
            target @ Target::Registry(_) => self.open_target(text, target, purpose),
            Target::Layout(path, named) if named == Inside::default() => {
                let layout = if purpose == Use::Change { Layout::create(&path) } else { Layout::open(&path) };
                let layout = layout.map_err(|error| no_answer(text, &error))?;
                let shown = layout_name(&path);
                let at = At::Tag(String::new());
                Ok(Place { repository: Arc::new(layout), at, reference: None, shown, known_as: None, edited: None })
            }
            _ => Err(no_keeper(text)),
        }
    }

    /// Whether a name is one of a place that [`Self::keeper`] opens.
    pub(super) fn names_keeper(text: &str) -> Result<(), Failure> {
        match named(text)? {
            Target::Registry(reference) if reference.tag.is_none() && reference.digest.is_none() => Ok(()),
            Target::Layout(_, named) if named == Inside::default() => Ok(()),
            _ => Err(no_keeper(text)),
        }
    }

    /// Opens a place that is written with an image of this digest. Where another digest is named, nothing is made there.
    pub(super) fn destination(&self, text: &str, target: Target, image: &Digest) -> Result<Destination, Failure> {
        let failed = |error: RepositoryError| no_answer(text, &error);
        let expects = |wanted: Option<&Digest>| match wanted {
            Some(wanted) if wanted != image => Err(Failure::new(
                Kind::NoAnswer,
                format!("the image is {image}, and the destination is named {wanted}: nothing was written"),
            )),
            _ => Ok(()),
        };
        match target {
            Target::Registry(reference) => {
                expects(reference.digest.as_ref())?;
                let repository = self.open(&reference)?;
                let tag = match (&reference.tag, &reference.digest) {
                    (None, None) => Some("latest".to_owned()),
                    (tag, _) => tag.clone(),
                };
                Ok(Destination { repository, tag, shown: reference.name(), reference: Some(reference), packs: None })
            }
            Target::Layout(path, named) => {
                expects(named.digest.as_ref())?;
                let repository = Arc::new(Layout::create(&path).map_err(failed)?);
                let shown = layout_name(&path);
                Ok(Destination { repository, tag: named.tag, reference: None, shown, packs: None })
            }
            Target::LayoutArchive(path, named) => {
                expects(named.digest.as_ref())?;
                if path.symlink_metadata().is_ok() {
                    return Err(Failure::new(Kind::NoAnswer, format!("{} is there already", path.display()))
                        .hint("an archive is written whole: choose another name, or take it away"));
                }
                let folder = Scratch::beside(&path).map_err(|error| no_answer(text, &error))?;
                let repository = Arc::new(Layout::create(&folder.path().join("layout")).map_err(failed)?);
                let shown = format!("oci-archive:{}", path.display());
                Ok(Destination { repository, tag: named.tag, reference: None, shown, packs: Some((folder, path)) })
            }
            Target::DockerArchive(..) => Err(Failure::usage(format!("{text}: docker archives are read only"))
                .hint("write `oci-archive:FILE`, which docker and skopeo load too")),
        }
    }

    /// The repository that a name means.
    fn open(&self, reference: &Reference) -> Result<Arc<dyn Repository>, Failure> {
        self.opened.repository(&self.asking(vec![reference.registry.clone()]), reference)
    }

    /// Refuses a password or token of the command line where several registries are named.
    pub(super) fn one_registry<'a>(&self, names: impl IntoIterator<Item = &'a Reference>) -> Result<(), Failure> {
        if self.registry_username.is_none() && self.registry_token.is_none() {
            return Ok(());
        }
        names.into_iter().try_for_each(|reference| self.open(reference).map(|_| ()))
    }

    /// How these registries are asked.
    fn asking(&self, registries: Vec<String>) -> Asking {
        let may_be_plain = self.allow_http_registry || self.allow_insecure_registry;
        Asking {
            plain: if may_be_plain { registries } else { Vec::new() },
            password: self.registry_username.clone().zip(self.registry_password.clone()),
            token: self.registry_token.clone(),
            chunk: self.upload_chunk.map(|megabytes| u64::from(megabytes) << 20),
        }
    }
}

fn no_keeper(text: &str) -> Failure {
    Failure::usage(format!("{text}: evidence is kept in a repository, or in `oci:FOLDER`"))
}

fn in_layout(layout: Layout, named: &Inside, shown: String) -> Result<Place, RepositoryError> {
    let at = named.at().map_or_else(|| layout.only_root(), Ok)?;
    let known_as = layout.known_as(&at)?;
    Ok(Place { repository: Arc::new(layout), at, reference: None, shown, known_as, edited: None })
}

impl Place {
    /// Whether it is an archive that is changed.
    pub(super) fn is_edited(&self) -> bool {
        self.edited.is_some()
    }

    /// An image in the same place, by its digest.
    pub(super) fn pinned(&self, digest: &Digest) -> Self {
        Self { at: At::Digest(digest.clone()), ..self.with(Arc::clone(&self.repository)) }
    }

    /// The same image, read through another repository.
    pub(super) fn with(&self, repository: Arc<dyn Repository>) -> Self {
        Self {
            repository,
            at: self.at.clone(),
            reference: self.reference.clone(),
            shown: self.shown.clone(),
            known_as: self.known_as.clone(),
            edited: None,
        }
    }

    /// All is done: an archive that was changed is written anew.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        let Some((changed, _)) = &self.edited else { return Ok(()) };
        changed.finish().map_err(|error| no_answer(&self.shown, &error))
    }
}

impl Destination {
    /// All is there: what is an archive becomes one.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        let Some((folder, path)) = &self.packs else { return Ok(()) };
        pack(&folder.path().join("layout"), path).map_err(|error| no_answer(&path.display().to_string(), &error))
    }
}
