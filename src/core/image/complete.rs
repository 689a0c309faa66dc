//! An entry that a log has made later comes to the signature that is kept about an image.
//!
//! The completed one is there before the other goes, and whatever is found half done is finished: killed anywhere, a
//! second attempt gets to the same end.

use std::collections::BTreeMap;

use super::attached::{
    self, CERTIFICATE, ENVELOPE, Kind, LOG, Layer, MAX_LAYER, Referrer, SIGNATURE_ARTIFACT, SIMPLE_SIGNING, delist,
};
use super::manifest::{Descriptor, EMPTY, Manifest, OCI_EMPTY};
use super::reference::{At, Digest};
use super::repository::{Repository, RepositoryError, Skipped};
use super::shared::{self, Change, Pace, SharedError};
use super::sigstore::{BUNDLE, BUNDLE_V03, Bundle, MAX_BUNDLE};
use super::walk;
use crate::dsse::{Envelope, pae_header};
use crate::keyless::queue::{Place, QueueError, Queued};
use crate::keyless::rekor::LogEntry;
use crate::keyless::sha256_of;
use crate::trust::Certificate;

/// An entry did not come to its signature.
#[derive(Debug, thiserror::Error)]
pub enum CompleteError {
    /// The place cannot be asked, or does not do it.
    #[error(transparent)]
    Shared(#[from] SharedError),
    /// What is there has no room for the entry.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The signature is not there.
    #[error("{place} has no such signature: was signing ended before it was kept, or was it taken away?")]
    Absent {
        /// Where it should be.
        place: String,
    },
}

impl From<RepositoryError> for CompleteError {
    fn from(error: RepositoryError) -> Self {
        Self::Shared(error.into())
    }
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completed {
    /// Where the signature has its entry now.
    pub place: String,
    /// What went otherwise, as sentences.
    pub notes: Vec<String>,
}

/// Whether the signature is where it is kept about an image, before a log is asked for its entry. Nothing is written.
///
/// # Errors
/// [`CompleteError::Absent`] or [`QueueError::Other`] where it is not, or no longer. A file is none of our business.
pub fn look(repository: &dyn Repository, place: &Place, queued: &Queued) -> Result<(), CompleteError> {
    let (subject, is_absent) = match place {
        Place::File(path) => return Err(CompleteError::Absent { place: path.display().to_string() }),
        Place::Tag { tag, layer, .. } => return in_tag(repository, tag, layer, queued),
        Place::Bundle { subject, .. } => (subject, bundles(repository, subject, queued)?.is_empty()),
        Place::Referrer { subject, layer, .. } => (subject, signatures(repository, subject, layer, queued)?.is_empty()),
    };
    if is_absent { Err(absent(repository, subject)) } else { Ok(()) }
}

/// Puts an entry where the signature is kept about an image. A file is none of our business.
pub fn complete(
    repository: &dyn Repository,
    place: &Place,
    queued: &Queued,
    entry: &LogEntry,
    pace: &Pace,
) -> Result<Completed, CompleteError> {
    match place {
        Place::File(path) => Err(CompleteError::Absent { place: path.display().to_string() }),
        Place::Bundle { subject, .. } => bundle(repository, subject, queued, entry, pace),
        Place::Tag { subject: _, tag, layer, .. } => under_tag(repository, tag, layer, queued, entry, pace),
        Place::Referrer { subject, layer, .. } => signature(repository, subject, layer, queued, entry, pace),
    }
}

/// Manifests that refer to an image and are of this kind.
fn referrers(
    repository: &dyn Repository,
    subject: &Digest,
    is_sought: impl Fn(&Manifest) -> bool,
) -> Result<Vec<(Digest, Manifest)>, RepositoryError> {
    let mut found = Vec::new();
    let skipped = walk::referrers(repository, subject, |entry, referring| {
        // What is gone, or cannot be read, is not the signature.
        if let Ok(manifest) = referring.manifest()?
            && is_sought(&manifest)
        {
            found.push((entry.digest.clone(), manifest));
        }
        Ok(())
    })?;
    match skipped.into_iter().find(|one| one.hides) {
        // It may be in what cannot be read: then nobody can say that it is not there.
        Some(Skipped { place, reason, .. }) if found.is_empty() => Err(RepositoryError::Wrong { what: place, reason }),
        _ => Ok(found),
    }
}

/// The bytes of the one layer of a manifest, where they can be read.
fn only_layer(
    repository: &dyn Repository,
    manifest: &Manifest,
    limit: u64,
) -> Result<Option<Vec<u8>>, RepositoryError> {
    let [layer] = manifest.layers() else { return Ok(None) };
    if layer.size > limit {
        return Ok(None);
    }
    match repository.blob_bytes(&layer.digest, layer.size) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error @ RepositoryError::Refused { .. }) => Err(error),
        Err(_) => Ok(None),
    }
}

/// A bundle that refers to an image.
struct Kept {
    digest: Digest,
    manifest: Manifest,
    bytes: Vec<u8>,
    read: Bundle,
}

/// The bundles of the signature that refer to an image.
fn bundles(repository: &dyn Repository, subject: &Digest, queued: &Queued) -> Result<Vec<Kept>, CompleteError> {
    let is_bundle = |manifest: &Manifest| matches!(manifest.layers(), [one] if one.media_type.starts_with(BUNDLE));
    let mut kept = Vec::new();
    for (digest, manifest) in referrers(repository, subject, is_bundle)? {
        let Some(bytes) = only_layer(repository, &manifest, MAX_BUNDLE as u64)? else { continue };
        let Ok(read) = Bundle::parse(&bytes) else { continue };
        if queued.is_of(&read).is_ok() {
            kept.push(Kept { digest, manifest, bytes, read });
        }
    }
    Ok(kept)
}

fn bundle(
    repository: &dyn Repository,
    subject: &Digest,
    queued: &Queued,
    entry: &LogEntry,
    pace: &Pace,
) -> Result<Completed, CompleteError> {
    let mut done = Vec::new();
    let mut halves = Vec::new();
    for Kept { digest, manifest, bytes, read } in bundles(repository, subject, queued)? {
        match queued.complete(&bytes, entry)? {
            None => done.push((digest, read)),
            Some(completed) => halves.push((digest, manifest, read, completed)),
        }
    }
    // The one that has most first: then it stands for those that have less.
    halves.sort_by_key(|(_, _, read, _)| std::cmp::Reverse(read.entries.len() + read.timestamps.len()));
    let mut old = Vec::new();
    for (digest, manifest, read, completed) in halves {
        if !done.iter().any(|(_, whole)| has_all(whole, &read)) {
            let referrer = Referrer {
                artifact_type: BUNDLE_V03,
                config: (OCI_EMPTY, EMPTY.to_vec()),
                layer: Descriptor::of(BUNDLE_V03, &completed),
                bytes: &completed,
                // The same as before, with its time: the same again gives the same digest.
                annotations: manifest.annotations.clone(),
            };
            let whole = Bundle::parse(&completed).map_err(|error| QueueError::Unreadable { reason: error.reason })?;
            done.push((refer(repository, &manifest, &referrer, pace)?, whole));
        }
        old.push(digest);
    }
    let Some((first, _)) = done.first() else { return Err(absent(repository, subject)) };
    let place = format!("{}@{first}", repository.name());
    old.retain(|digest| done.iter().all(|(whole, _)| whole != digest));
    Ok(Completed { place, notes: remove(repository, subject, old.into_iter(), pace) })
}

/// Whether a bundle proves all that another of the same signature does: nothing is taken away that is not elsewhere.
fn has_all(whole: &Bundle, half: &Bundle) -> bool {
    half.entries.iter().all(|entry| whole.entries.contains(entry))
        && half.timestamps.iter().all(|timestamp| whole.timestamps.contains(timestamp))
}

fn absent(repository: &dyn Repository, subject: &Digest) -> CompleteError {
    CompleteError::Absent { place: format!("{}, about {subject},", repository.name()) }
}

fn refer(
    repository: &dyn Repository,
    old: &Manifest,
    referrer: &Referrer<'_>,
    pace: &Pace,
) -> Result<Digest, CompleteError> {
    // Only manifests with a subject are looked at.
    let subject = old.subject.as_ref().ok_or_else(|| CompleteError::Absent { place: repository.name() })?;
    let referred = shared::settled(pace, |settling| attached::refer(settling, repository, subject, referrer))?;
    Ok(referred.digest)
}

/// Takes away what was completed in another manifest. Where a registry does not do that both stay, and both hold.
fn remove(
    repository: &dyn Repository,
    subject: &Digest,
    old: impl Iterator<Item = Digest>,
    pace: &Pace,
) -> Vec<String> {
    let mut notes = Vec::new();
    for digest in old {
        let removed = delist(repository, subject, &digest, pace)
            .and_then(|()| Ok(repository.delete(&At::Digest(digest.clone()))?));
        if let Err(error) = removed {
            notes.push(format!(
                "{}@{digest}, without the log entry, stays beside the one with it, and holds as before: {error}",
                repository.name()
            ));
        }
    }
    notes
}

/// Whether the signature is in a layer under a tag.
fn in_tag(repository: &dyn Repository, tag: &str, layer: &Digest, queued: &Queued) -> Result<(), CompleteError> {
    let stored = repository.manifest(&At::Tag(tag.to_owned()))?;
    let there = stored.and_then(|stored| stored.manifest().ok());
    let own = there.iter().flat_map(Manifest::layers).find(|one| one.digest == *layer && is_layer_of(one, queued));
    let absent = || CompleteError::Absent { place: format!("{}:{tag}", repository.name()) };
    is_signed(repository, own.ok_or_else(absent)?, queued)
}

fn under_tag(
    repository: &dyn Repository,
    tag: &str,
    layer: &Digest,
    queued: &Queued,
    entry: &LogEntry,
    pace: &Pace,
) -> Result<Completed, CompleteError> {
    let promise = promise(entry)?;
    in_tag(repository, tag, layer, queued)?;
    let place = format!("{}:{tag}", repository.name());
    let is_own = |one: &Descriptor| one.digest == *layer && is_layer_of(one, queued);
    let holds = |manifest: &Manifest| {
        let mut own = manifest.layers().iter().filter(|one| is_own(one)).peekable();
        own.peek().is_some() && own.all(|one| one.annotation(LOG).is_some())
    };
    let change = |there: Option<&Manifest>| {
        let Some(there) = there.filter(|there| there.layers().iter().any(is_own)) else {
            return Err(
                "it has no such signature: was signing ended before it was kept, or was it taken away?".to_owned()
            );
        };
        if holds(there) {
            return Ok(Change::Nothing);
        }
        let mut layers = there.layers().to_vec();
        // There is room for one entry.
        for one in layers.iter_mut().filter(|one| is_own(one) && one.annotation(LOG).is_none()) {
            one.annotations.get_or_insert_default().insert(LOG.to_owned(), promise.clone());
        }
        // The config lists digests of layers, and these stay.
        Ok(Change::Write(Box::new(Manifest { layers: Some(layers), ..there.clone() }), Vec::new()))
    };
    shared::settled(pace, |settling| settling.write(repository, tag, change, holds))?;
    Ok(Completed { place, notes: Vec::new() })
}

/// The manifests that refer to an image, and have the signature as their layer.
fn signatures(
    repository: &dyn Repository,
    subject: &Digest,
    layer: &Digest,
    queued: &Queued,
) -> Result<Vec<(Digest, Manifest)>, CompleteError> {
    let is_signature = |manifest: &Manifest| manifest.artifact_type() == Some(SIGNATURE_ARTIFACT);
    let is_own = |manifest: &Manifest| match manifest.layers() {
        [one] => one.digest == *layer && is_signed(repository, one, queued).is_ok(),
        _ => false,
    };
    let mut kept = referrers(repository, subject, is_signature)?;
    kept.retain(|(_, manifest)| is_own(manifest));
    Ok(kept)
}

fn signature(
    repository: &dyn Repository,
    subject: &Digest,
    layer: &Digest,
    queued: &Queued,
    entry: &LogEntry,
    pace: &Pace,
) -> Result<Completed, CompleteError> {
    let promise = promise(entry)?;
    let mut done: Vec<(Digest, Option<BTreeMap<String, String>>)> = Vec::new();
    let mut halves = Vec::new();
    for (digest, manifest) in signatures(repository, subject, layer, queued)? {
        let [one] = manifest.layers() else { continue };
        let annotations = one.annotations.clone();
        if one.annotation(LOG).is_some() { done.push((digest, annotations)) } else { halves.push((digest, manifest)) }
    }
    halves.sort_by_key(|(_, manifest)| {
        let annotations = manifest.layers().first().and_then(|one| one.annotations.as_ref());
        std::cmp::Reverse(annotations.map_or(0, BTreeMap::len))
    });
    let mut old = Vec::new();
    for (digest, manifest) in halves {
        let annotations = manifest.layers().first().and_then(|one| one.annotations.clone()).unwrap_or_default();
        let has_all = |whole: &Option<BTreeMap<String, String>>| {
            annotations.iter().all(|(name, value)| whole.as_ref().and_then(|whole| whole.get(name)) == Some(value))
        };
        if !done.iter().any(|(_, whole)| has_all(whole)) {
            let bytes = only_layer(repository, &manifest, MAX_LAYER)?.ok_or_else(|| absent(repository, subject))?;
            let mut annotations = annotations;
            annotations.insert(LOG.to_owned(), promise.clone());
            let layer = Layer { kind: Kind::Signature, bytes, annotations: annotations.clone() };
            let whole = refer(repository, &manifest, &attached::signature_referrer(&layer), pace)?;
            done.push((whole, Some(annotations)));
        }
        old.push(digest);
    }
    let Some((first, _)) = done.first() else { return Err(absent(repository, subject)) };
    let place = format!("{}@{first}", repository.name());
    old.retain(|digest| done.iter().all(|(whole, _)| whole != digest));
    Ok(Completed { place, notes: remove(repository, subject, old.into_iter(), pace) })
}

/// What an annotation holds of an entry.
fn promise(entry: &LogEntry) -> Result<String, QueueError> {
    entry.annotation.clone().ok_or_else(|| QueueError::Unreadable { reason: "an entry without a promise".to_owned() })
}

/// Whether the annotations of a layer are those of the signature. That of an envelope stands in the layer.
fn is_layer_of(layer: &Descriptor, queued: &Queued) -> bool {
    let is_signature = layer.media_type == ENVELOPE
        || (layer.media_type == SIMPLE_SIGNING
            && attached::signature_of(layer).is_ok_and(|signature| signature == queued.signature));
    let certificate = layer.annotation(CERTIFICATE).filter(|pem| !pem.trim().is_empty());
    let read = certificate.map(|pem| Certificate::read(pem.as_bytes()).ok());
    let is_signer = match &queued.signer {
        crate::keyless::queue::Signer::Key(_) => true,
        crate::keyless::queue::Signer::Certificate(own) => read.is_some_and(|read| read.as_ref() == Some(own)),
    };
    is_signature && is_signer
}

/// Whether the layer is what was signed.
fn is_signed(repository: &dyn Repository, layer: &Descriptor, queued: &Queued) -> Result<(), CompleteError> {
    let other = |what| CompleteError::Queue(QueueError::Other { what });
    if !is_layer_of(layer, queued) {
        return Err(other("signature"));
    }
    if layer.media_type == SIMPLE_SIGNING {
        let is_payload = layer.digest.hex() == hex::encode(queued.sha256);
        return if is_payload { Ok(()) } else { Err(other("digest")) };
    }
    if layer.size > MAX_LAYER {
        return Err(QueueError::Unreadable { reason: format!("{} bytes; {MAX_LAYER} are read", layer.size) }.into());
    }
    let bytes = repository.blob_bytes(&layer.digest, layer.size)?;
    let envelope =
        Envelope::parse(&bytes, bytes.len()).map_err(|error| QueueError::Unreadable { reason: error.to_string() })?;
    if !envelope.signatures.iter().any(|one| one.sig == queued.signature) {
        return Err(other("signature"));
    }
    let header = pae_header(&envelope.payload_type, envelope.payload.len());
    if sha256_of(&[&header, &envelope.payload]) == queued.sha256 { Ok(()) } else { Err(other("digest")) }
}
