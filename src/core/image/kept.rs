//! What is kept about an image, as it lies there: to be given out, or taken away.

use std::collections::BTreeSet;

use super::attached::{ENVELOPE, MAX_LAYER, SIGNATURE_ARTIFACT, SIMPLE_SIGNING, delist};
use super::claim::{Claim, SIGN};
use super::found::MAX_TOTAL;
use super::manifest::{Descriptor, Manifest};
use super::reference::{At, Digest};
use super::repository::{Repository, RepositoryError, Skipped};
use super::shared::{Pace, SharedError};
use super::sigstore::{BUNDLE, Bundle, Content};
use super::walk;

/// What the media type of a bill of materials has in it (`cosign attach sbom`).
const SBOMS: [&str; 4] = ["spdx", "cyclonedx", "syft", "sbom"];

/// What something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A signature.
    Signature,
    /// A signed statement that is no signature.
    Attestation,
    /// A bill of materials, unsigned.
    Sbom,
    /// Something else, by its artifact type.
    Other(String),
}

/// How something is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a manifest under a tag.
    Tag(String),
    /// In a manifest that refers to the image.
    Referrer,
}

/// A manifest that is kept about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How.
    pub place: Place,
    /// What it is; a bundle is looked into, and its signature is not checked.
    pub sort: Sort,
    /// Its digest.
    pub digest: Digest,
    /// Its layers.
    pub layers: Vec<Descriptor>,
    /// The bundle, where it is one.
    pub bundle: Option<Vec<u8>>,
}

impl Sort {
    /// Whether a layer under a tag of this sort is what the tag is for.
    fn is_in(&self, layer: &Descriptor) -> bool {
        let media_type = layer.media_type.to_ascii_lowercase();
        match self {
            Self::Signature => media_type == SIMPLE_SIGNING,
            Self::Attestation => media_type == ENVELOPE,
            Self::Sbom => SBOMS.iter().any(|name| media_type.contains(name)),
            Self::Other(_) => false,
        }
    }
}

/// Lists all that is kept about a manifest: tags, then referrers. What somebody put under such a tag that is none of it,
/// the image itself above all, is passed over with a reason.
pub fn list(
    repository: &dyn Repository,
    prefix: &str,
    of: &Digest,
) -> Result<(Vec<Kept>, Vec<Skipped>), RepositoryError> {
    let mut kept = Vec::new();
    let mut skipped = Vec::new();
    for (suffix, sort) in [(".sig", Sort::Signature), (".att", Sort::Attestation), (".sbom", Sort::Sbom)] {
        let tag = format!("{prefix}{}", of.tag(suffix));
        let Some(stored) = walk::tagged(repository, &tag, &mut skipped)? else { continue };
        let manifest = stored.manifest();
        let layers = manifest.as_ref().map(|manifest| manifest.layers().to_vec()).unwrap_or_default();
        let reason = match manifest {
            _ if stored.digest() == of => Some("it is the image itself".to_owned()),
            Err(error) => Some(error.to_string()),
            Ok(_) if !layers.iter().any(|layer| sort.is_in(layer)) => {
                Some("it has no layer of the media type that such a tag is for".to_owned())
            }
            Ok(_) => None,
        };
        if let Some(reason) = reason {
            skipped.push(Skipped::one(tag, reason));
            continue;
        }
        kept.push(Kept { place: Place::Tag(tag), sort, digest: stored.digest().clone(), layers, bundle: None });
    }
    let mut total = 0_u64;
    let mut passed = Vec::new();
    let unread = walk::referrers(repository, of, |entry, referring| {
        let mut skip = |reason: String| {
            passed.push(Skipped::one(format!("referrer {}", entry.digest), reason));
            Ok(())
        };
        let manifest = match referring.manifest()? {
            Ok(manifest) => manifest,
            Err(reason) => return skip(reason),
        };
        if let Some(layer) = bundle_of(&manifest) {
            if layer.size > MAX_LAYER {
                return skip(format!("{} bytes; {MAX_LAYER} are read", layer.size));
            }
            total = total.saturating_add(layer.size);
            if total > MAX_TOTAL {
                let what = format!("all that is kept about {of}");
                return Err(RepositoryError::Large { what, found: total, limit: MAX_TOTAL });
            }
        }
        let (sort, bundle) = match look(repository, &manifest) {
            Ok(found) => found,
            Err(error @ RepositoryError::Refused { .. }) => return Err(error),
            Err(error) => return skip(error.to_string()),
        };
        let layers = manifest.layers().to_vec();
        kept.push(Kept { place: Place::Referrer, sort, digest: entry.digest.clone(), layers, bundle });
        Ok(())
    })?;
    skipped.extend(unread);
    skipped.append(&mut passed);
    Ok((kept, skipped))
}

/// The one layer of a referrer that is a bundle.
fn bundle_of(manifest: &Manifest) -> Option<&Descriptor> {
    match manifest.layers() {
        [layer] if layer.media_type.starts_with(BUNDLE) => Some(layer),
        _ => None,
    }
}

/// What a referrer is.
fn look(repository: &dyn Repository, manifest: &Manifest) -> Result<(Sort, Option<Vec<u8>>), RepositoryError> {
    let kind = manifest.artifact_type().unwrap_or_default();
    let Some(layer) = bundle_of(manifest) else {
        return Ok(match kind {
            SIGNATURE_ARTIFACT => (Sort::Signature, None),
            ENVELOPE => (Sort::Attestation, None),
            other => (Sort::Other(other.to_owned()), None),
        });
    };
    let bytes = repository.blob_bytes(&layer.digest, layer.size)?;
    let sort = match Bundle::parse(&bytes).map(|bundle| bundle.content) {
        Ok(Content::Envelope(envelope)) => match Claim::type_of(&envelope.payload) {
            Ok(kind) if kind == SIGN => Sort::Signature,
            _ => Sort::Attestation,
        },
        Ok(Content::Message { .. }) => Sort::Signature,
        Err(_) => Sort::Other(kind.to_owned()),
    };
    Ok((sort, Some(bytes)))
}

/// What a place need not keep any more once something is taken away, unless something else needs it: the manifest itself,
/// its config and layers.
pub fn blobs(repository: &dyn Repository, kept: &Kept) -> BTreeSet<Digest> {
    let stored = repository.manifest(&At::Digest(kept.digest.clone())).ok().flatten();
    let config = stored.and_then(|stored| stored.manifest().ok()).and_then(|manifest| manifest.config);
    let layers = kept.layers.iter().map(|layer| layer.digest.clone());
    layers.chain(config.map(|config| config.digest)).chain([kept.digest.clone()]).collect()
}

/// Takes manifests away that are kept about `of`. A tag that is still there afterwards is a failure.
pub fn remove(repository: &dyn Repository, of: &Digest, kept: &Kept, pace: &Pace) -> Result<(), SharedError> {
    match &kept.place {
        Place::Referrer => {
            repository.delete(&At::Digest(kept.digest.clone()))?;
            // There may be such a list beside that of the registry.
            delist(repository, of, &kept.digest, pace)?;
        }
        Place::Tag(tag) => {
            // Some registries take a tag away by its name, others the manifest by its digest alone, and then the tag. By
            // the digest only where the tag stays: the manifest may have other names.
            let at = At::Tag(tag.clone());
            let is_there = || -> Result<bool, RepositoryError> {
                Ok(repository.resolve(&at)?.is_some_and(|found| found.digest == kept.digest))
            };
            let by_tag = repository.delete(&at);
            if !is_there()? {
                return Ok(());
            }
            let by_digest = repository.delete(&At::Digest(kept.digest.clone()));
            if !is_there()? {
                return Ok(());
            }
            by_digest.and(by_tag)?;
            let (place, reason) = (repository.name(), format!("says that it deleted {tag}, which is there"));
            return Err(RepositoryError::Refused { place, reason, permission: false, again: None }.into());
        }
    }
    Ok(())
}
