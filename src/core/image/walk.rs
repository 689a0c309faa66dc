//! What is kept about a manifest, gone through: what lies under a tag, and what a list says refers to it. One way for
//! those who check, complete and show it, with the limits of what a stranger can make long.

use super::attached;
use super::manifest::{Descriptor, Manifest};
use super::reference::{At, Digest};
use super::repository::{Listed, Repository, RepositoryError, Skipped, Stored};

/// Most referrers of one image that are fetched.
pub const MAX_FETCHED: usize = 2000;

/// What a list says refers to a manifest, as it turned out to be.
#[derive(Debug)]
pub enum Referring {
    /// It does.
    Manifest(Box<Manifest>),
    /// It is about another manifest, or about none.
    Other(Box<Manifest>),
    /// It is listed, and not there.
    Absent,
    /// It is no manifest.
    Malformed(String),
    /// It cannot be read.
    Unreadable(RepositoryError),
}

impl Referring {
    /// The manifest; nothing, with the reason, where it is passed over.
    ///
    /// # Errors
    /// Where the repository refuses: then nothing is known of what it keeps.
    pub fn manifest(self) -> Result<Result<Manifest, String>, RepositoryError> {
        Ok(match self {
            Self::Manifest(manifest) => Ok(*manifest),
            Self::Other(_) => Err("it is about another manifest".to_owned()),
            Self::Absent => Err("it is listed, and not there".to_owned()),
            Self::Malformed(reason) => Err(reason),
            Self::Unreadable(error @ RepositoryError::Refused { .. }) => return Err(error),
            Self::Unreadable(error) => Err(error.to_string()),
        })
    }
}

/// What is under a tag of evidence; what cannot be read there hides something.
pub fn tagged(
    repository: &dyn Repository,
    tag: &str,
    skipped: &mut Vec<Skipped>,
) -> Result<Option<Stored>, RepositoryError> {
    match repository.manifest(&At::Tag(tag.to_owned())) {
        Ok(found) => Ok(found),
        Err(error) if error.is_outage() => Err(error),
        Err(error) => {
            skipped.push(Skipped::hiding(tag, error.one_line()));
            Ok(None)
        }
    }
}

/// Fetches, one after the other, what is said to refer to a manifest. Gives what of the lists could not be read.
pub fn referrers(
    repository: &dyn Repository,
    of: &Digest,
    take: impl FnMut(&Descriptor, Referring) -> Result<(), RepositoryError>,
) -> Result<Vec<Skipped>, RepositoryError> {
    let Listed { entries, skipped } = attached::referrers(repository, of)?;
    if entries.len() > MAX_FETCHED {
        return Err(RepositoryError::Large {
            what: format!("the list of referrers of {of}"),
            found: entries.len() as u64,
            limit: MAX_FETCHED as u64,
        });
    }
    fetched(repository, of, &entries, take)?;
    Ok(skipped)
}

/// As [`referrers`], for who looks only at what there is: of too many the first, and how many more there are.
pub fn first_referrers(
    repository: &dyn Repository,
    of: &Digest,
    take: impl FnMut(&Descriptor, Referring) -> Result<(), RepositoryError>,
) -> Result<Vec<Skipped>, RepositoryError> {
    let Listed { entries, mut skipped } = attached::referrers(repository, of)?;
    let (first, rest) = entries.split_at(entries.len().min(MAX_FETCHED));
    fetched(repository, of, first, take)?;
    if !rest.is_empty() {
        let more = format!("{} more are not fetched: {MAX_FETCHED} are", rest.len());
        skipped.push(Skipped::hiding(format!("the list of referrers of {of}"), more));
    }
    Ok(skipped)
}

fn fetched(
    repository: &dyn Repository,
    of: &Digest,
    entries: &[Descriptor],
    mut take: impl FnMut(&Descriptor, Referring) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    for entry in entries {
        // What a list says is not believed: the manifest says what it is.
        let found = match repository.manifest(&At::Digest(entry.digest.clone())) {
            Ok(Some(stored)) => match stored.manifest() {
                Ok(manifest) if manifest.subject.as_ref().is_some_and(|subject| subject.digest == *of) => {
                    Referring::Manifest(Box::new(manifest))
                }
                Ok(manifest) => Referring::Other(Box::new(manifest)),
                Err(error) => Referring::Malformed(error.to_string()),
            },
            Ok(None) => Referring::Absent,
            Err(error) => Referring::Unreadable(error),
        };
        take(entry, found)?;
    }
    Ok(())
}
