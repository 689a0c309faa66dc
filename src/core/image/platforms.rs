//! The images of an index: what a machine would run.

use super::carry::fits;
use super::manifest::{Kind, Manifest, Platform};
use super::reference::{At, Digest};
use super::repository::{Repository, RepositoryError, Stored};

/// Most images of an index.
pub const MAX_IMAGES: usize = 1000;
/// How deep indexes may lie in each other.
pub const MAX_DEPTH: usize = 8;

/// A manifest that a machine may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runnable {
    /// Its digest.
    pub digest: Digest,
    /// What it says.
    pub manifest: Manifest,
    /// For which machines, as the index says; `None` where there is no index, or it does not say.
    pub platform: Option<Platform>,
}

/// The images of an index and of those in it, or the one image that is no index. `BuildKit`'s attestations are none;
/// whatever else an index names has to be a manifest, as a machine may take it for one.
pub fn runnable(repository: &dyn Repository, root: Stored) -> Result<Vec<Runnable>, RepositoryError> {
    let invalid = |reason: String| RepositoryError::Refused { place: repository.name(), reason, permission: false };
    let mut found = Vec::new();
    let mut next: Vec<(Stored, Option<Platform>, usize)> = vec![(root, None, 0)];
    while let Some((stored, platform, depth)) = next.pop() {
        let manifest = stored
            .manifest()
            .map_err(|source| RepositoryError::Manifest { digest: stored.digest().to_string(), source })?;
        if manifest.kind() == Kind::Image {
            found.push(Runnable { digest: stored.digest().clone(), manifest, platform });
            continue;
        }
        if depth == MAX_DEPTH || found.len() + next.len() + manifest.entries().len() > MAX_IMAGES {
            return Err(invalid(format!(
                "{} has more than {MAX_IMAGES} images, or is deeper than {MAX_DEPTH}",
                stored.digest()
            )));
        }
        for entry in manifest.entries().iter().rev() {
            if entry.platform.as_ref().is_some_and(Platform::is_unknown) {
                continue;
            }
            let child = repository.need(&At::Digest(entry.digest.clone()))?;
            fits(entry, &child).map_err(&invalid)?;
            next.push((child, entry.platform.clone(), depth + 1));
        }
    }
    Ok(found)
}
