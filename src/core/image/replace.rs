//! Earlier attestations of a type that a new one takes the place of, where they are kept as bundles.
//!
//! Nothing is taken away on somebody's word: a bundle goes where the key that signs the new one has signed it, about the
//! same image, of the same type. What others have signed stays, and so does what nobody can tell: each certificate
//! without a key of its own has another.

use std::collections::BTreeSet;

use super::attached::{self, delist};
use super::claim::Claim;
use super::kept::{self, Kept, Place};
use super::keyed;
use super::reference::{At, Digest};
use super::repository::{Repository, RepositoryError};
use super::shared::{Pace, SharedError};
use super::sigstore::{Bundle, Content};
use crate::dsse::{Envelope, pae_header};
use crate::sign::PublicKey;

/// Bundles of a type about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// Those of the same key.
    pub own: Vec<Kept>,
    /// How many others have signed.
    pub others: usize,
    /// What cannot be read, each with its reason.
    pub unread: Vec<String>,
}

/// What became of earlier bundles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Those that are gone.
    pub gone: Vec<Digest>,
    /// Those that stay, each with its reason.
    pub stay: Vec<(Digest, String)>,
    /// Blobs of a layout that went with them, or why none went.
    pub swept: Result<usize, String>,
}

/// Finds the bundles of this predicate type that are kept about a manifest.
pub fn earlier(
    repository: &dyn Repository,
    of: &Digest,
    predicate_type: &str,
    key: &PublicKey,
) -> Result<Earlier, RepositoryError> {
    let (all, skipped) = kept::list(repository, "", of)?;
    let mut earlier = Earlier::default();
    earlier.unread.extend(skipped.iter().map(|one| format!("{}: {}", one.place, one.reason)));
    for kept in all.into_iter().filter(|kept| kept.place == Place::Referrer) {
        let bundle = kept.bundle.as_deref().and_then(|bytes| Bundle::parse(bytes).ok());
        let Some(Content::Envelope(envelope)) = bundle.map(|bundle| bundle.content) else { continue };
        if Claim::type_of(&envelope.payload).ok().as_deref() != Some(predicate_type) {
            continue;
        }
        if is_by(&envelope, key, of) { earlier.own.push(kept) } else { earlier.others += 1 }
    }
    Ok(earlier)
}

/// Whether this key has signed a statement about this manifest.
fn is_by(envelope: &Envelope, key: &PublicKey, of: &Digest) -> bool {
    let header = pae_header(&envelope.payload_type, envelope.payload.len());
    let holds = |sig: &[u8]| keyed::holds(key, &[&header, &envelope.payload], sig).is_ok();
    matches!(&envelope.signatures[..], [one] if holds(&one.sig))
        && Claim::parse(&envelope.payload).is_ok_and(|claim| !claim.about(of).is_empty())
}

/// Takes bundles away that a new one has taken the place of. Where a registry does not delete, they are taken out of the
/// list that writers keep; out of its own nobody can.
pub fn remove(repository: &dyn Repository, of: &Digest, old: &[Kept], pace: &Pace) -> Result<Replaced, SharedError> {
    let mut left = BTreeSet::new();
    let mut refused: Vec<(Digest, String)> = Vec::new();
    for kept in old {
        left.extend(kept::blobs(repository, kept));
        if let Err(error) = repository.delete(&At::Digest(kept.digest.clone())) {
            refused.push((kept.digest.clone(), error.one_line()));
        }
        if let Err(error) = delist(repository, of, &kept.digest, pace) {
            refused.push((kept.digest.clone(), error.to_string()));
        }
    }
    let listed = attached::referrers(repository, of)?;
    let (mut gone, mut stay) = (Vec::new(), Vec::new());
    for kept in old {
        let is_listed = listed.entries.iter().any(|entry| entry.digest == kept.digest);
        // Some lists have it for a while although it is gone.
        let is_there = is_listed && repository.manifest(&At::Digest(kept.digest.clone()))?.is_some();
        if is_there {
            let reason = refused.iter().find(|(digest, _)| *digest == kept.digest).map(|(_, reason)| reason.clone());
            let reason = reason.unwrap_or_else(|| format!("{} says that it is deleted", repository.name()));
            stay.push((kept.digest.clone(), reason));
        } else {
            gone.push(kept.digest.clone());
        }
    }
    let swept = repository.sweep(&left).map(|swept| swept.len()).map_err(|error| error.one_line());
    Ok(Replaced { gone, stay, swept })
}
