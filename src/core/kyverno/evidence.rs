//! What lies beside an image, in the places where Kyverno looks.

use std::collections::{BTreeMap, BTreeSet};

use super::who::Material;
use crate::dsse::Envelope;
use crate::image;
use crate::image::attached::{self, CERTIFICATE, Kind, LOG, MAX_LAYER, SIGNATURE_ARTIFACT, TIMESTAMP};
use crate::image::claim::Claim;
use crate::image::found::{self, MAX_TOTAL};
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::sigstore::{BUNDLE, Bundle, Content, Signer};
use crate::image::{At, Digest, Repository, RepositoryError, Skipped, Stored};
use crate::keyless::material::CHAIN;
use crate::sigstore::judge;

/// More referrers than these, of any kind, and Kyverno refuses to look for bundles.
pub const MAX_REFERRERS: usize = 50;
/// From how many on one should know.
pub const WARN_REFERRERS: usize = 40;
/// Longest bundle that Kyverno reads, in bytes.
pub const MAX_BUNDLE_LAYER: u64 = 10 << 20;
/// Most referrers that are fetched here.
const MAX_FETCHED: usize = 200;

/// A payload with its signature, under a tag or as a referrer.
#[derive(Clone, Debug)]
pub(super) struct Legacy {
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
    pub(super) material: Material,
}

/// An attestation, and what it says that it is.
#[derive(Clone, Debug)]
pub(super) struct Attested {
    pub(super) envelope: Envelope,
    pub(super) predicate_type: String,
    pub(super) by_certificate: bool,
    pub(super) kept: Kept,
}

/// How an attestation is kept.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    /// Under the tag, in these bytes.
    Tagged(Vec<u8>, Material),
    /// In a bundle.
    Bundle(judge::Material),
}

/// A list entry that is a bundle, or says so.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// Whether the list says that it is one.
    pub(super) is_listed_as_bundle: bool,
    /// `None` for one that signs bytes: it counts for nothing, and spoils nothing.
    pub(super) content: Result<Option<Attested>, String>,
}

impl Listed {
    /// The attestation that is in it.
    pub(super) fn attested(&self) -> Option<&Attested> {
        self.content.as_ref().ok()?.as_ref()
    }
}

/// Where evidence lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spot {
    /// Under the tag of signatures.
    Signatures,
    /// Under the tag of attestations.
    Attestations,
    Referrers,
}

/// What lies beside one image in one repository.
#[derive(Debug)]
pub struct Evidence {
    pub(super) tags: (String, String),
    /// Payloads under the tag of signatures.
    pub(super) signatures: Vec<Legacy>,
    /// Those of the last referrer that has any.
    pub(super) referred: Vec<Legacy>,
    /// Under the tag of attestations.
    pub(super) attestations: Vec<Attested>,
    pub(super) bundles: Vec<Listed>,
    /// How many referrers there are.
    pub(super) referrers: usize,
    /// What could not be read.
    pub(super) problems: Vec<String>,
    /// Where something lies that was not read, and the first of it: what it says might count, so nothing is judged by it.
    unread: BTreeMap<Spot, String>,
    /// Bytes that were fetched.
    total: u64,
}

impl Evidence {
    /// Looks beside the image of this digest. What cannot be read is a problem, told with the answer; a repository that
    /// gives no answer is an error.
    pub fn gather(repository: &dyn Repository, of: &Digest) -> Result<Self, RepositoryError> {
        let tags = (of.tag(Kind::Signature.suffix()), of.tag(Kind::Attestation.suffix()));
        let mut found = Self {
            tags,
            signatures: Vec::new(),
            referred: Vec::new(),
            attestations: Vec::new(),
            bundles: Vec::new(),
            referrers: 0,
            problems: Vec::new(),
            unread: BTreeMap::new(),
            total: 0,
        };
        if let Some(stored) = repository.manifest(&At::Tag(found.tags.0.clone()))? {
            found.signatures = found.signatures_of(repository, Spot::Signatures, &found.tags.0.clone(), &stored)?;
        }
        if let Some(stored) = repository.manifest(&At::Tag(found.tags.1.clone()))? {
            found.attestations_of(repository, &stored)?;
        }
        let image::Listed { entries, skipped } = attached::referrers(repository, of)?;
        for Skipped { place, reason, hides } in skipped {
            if hides {
                found.unread(Spot::Referrers, &place, reason);
            } else {
                found.problem(&place, reason);
            }
        }
        found.referrers = entries.len();
        for entry in entries.iter().take(MAX_FETCHED) {
            found.referrer(repository, of, entry)?;
        }
        if entries.len() > MAX_FETCHED {
            let reason = format!("{} of them; {MAX_FETCHED} are read", entries.len());
            found.unread(Spot::Referrers, "the referrers", reason);
        }
        Ok(found)
    }

    fn problem(&mut self, place: &str, reason: impl std::fmt::Display) {
        self.problems.push(format!("{place}: {reason}"));
    }

    /// A problem behind which there may be something that counts.
    fn unread(&mut self, spot: Spot, place: &str, reason: impl std::fmt::Display) {
        self.unread.entry(spot).or_insert_with(|| format!("{place}: {reason}"));
        self.problem(place, reason);
    }

    /// Why what lies there cannot be judged.
    pub(super) fn not_read(&self, spot: Spot) -> Option<&str> {
        self.unread.get(&spot).map(String::as_str)
    }

    /// A layer; `None` where it is too long, not there, or other bytes.
    fn blob(
        &mut self,
        repository: &dyn Repository,
        (spot, place): (Spot, &str),
        layer: &Descriptor,
    ) -> Result<Option<Vec<u8>>, RepositoryError> {
        if layer.size > MAX_LAYER || self.is_too_much(layer) {
            self.unread(spot, place, format!("{} bytes", layer.size));
            return Ok(None);
        }
        match repository.blob_bytes(&layer.digest, layer.size) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_outage(&error) => Err(error),
            Err(error) => {
                self.unread(spot, place, error);
                Ok(None)
            }
        }
    }

    /// Counts what is to be fetched.
    fn is_too_much(&mut self, layer: &Descriptor) -> bool {
        let total = self.total.saturating_add(layer.size);
        let is_too_much = total > MAX_TOTAL;
        if !is_too_much {
            self.total = total;
        }
        is_too_much
    }

    fn layers(&mut self, spot: Spot, place: &str, stored: &Stored, kind: Kind) -> Vec<(String, Descriptor)> {
        let manifest = match stored.manifest() {
            Ok(manifest) => manifest,
            Err(error) => {
                self.unread(spot, place, error);
                return Vec::new();
            }
        };
        match attached::layers(&manifest, kind) {
            Ok(layers) => {
                layers.into_iter().map(|(index, layer)| (format!("{place}, layer {index}"), layer.clone())).collect()
            }
            Err(reason) => {
                self.unread(spot, place, reason);
                Vec::new()
            }
        }
    }

    fn signatures_of(
        &mut self,
        repository: &dyn Repository,
        spot: Spot,
        place: &str,
        stored: &Stored,
    ) -> Result<Vec<Legacy>, RepositoryError> {
        let mut all = Vec::new();
        for (place, layer) in self.layers(spot, place, stored, Kind::Signature) {
            let signature = match attached::signature_of(&layer) {
                Ok(signature) => signature,
                Err(reason) => {
                    self.problem(&place, reason);
                    continue;
                }
            };
            let Some(payload) = self.blob(repository, (spot, &place), &layer)? else { continue };
            all.push(Legacy { payload, signature, material: material(&layer) });
        }
        Ok(all)
    }

    fn attestations_of(&mut self, repository: &dyn Repository, stored: &Stored) -> Result<(), RepositoryError> {
        let (spot, place) = (Spot::Attestations, self.tags.1.clone());
        for (place, layer) in self.layers(spot, &place, stored, Kind::Attestation) {
            let Some(bytes) = self.blob(repository, (spot, &place), &layer)? else { continue };
            match Envelope::parse(&bytes, bytes.len()) {
                Ok(envelope) => {
                    let material = material(&layer);
                    let by_certificate = material.certificate.is_some();
                    self.attestations.push(attested(envelope, by_certificate, Kept::Tagged(bytes, material)));
                }
                Err(error) => self.problem(&place, error),
            }
        }
        Ok(())
    }

    fn referrer(
        &mut self,
        repository: &dyn Repository,
        of: &Digest,
        entry: &Descriptor,
    ) -> Result<(), RepositoryError> {
        let place = format!("referrer {}", entry.digest);
        let is_listed_as_bundle = entry.artifact_type.as_deref().is_some_and(|kind| kind.starts_with(BUNDLE));
        let stored = match repository.manifest(&At::Digest(entry.digest.clone())) {
            Ok(Some(stored)) => stored,
            Ok(None) => {
                let reason = "it is listed, and not there";
                if is_listed_as_bundle {
                    self.unread(Spot::Referrers, &place, reason);
                } else {
                    self.problem(&place, reason);
                }
                return Ok(());
            }
            Err(error) if is_outage(&error) => return Err(error),
            Err(error) => {
                self.unread(Spot::Referrers, &place, error);
                return Ok(());
            }
        };
        let manifest = match stored.manifest() {
            Ok(manifest) => manifest,
            Err(error) => {
                self.unread(Spot::Referrers, &place, error);
                return Ok(());
            }
        };
        if manifest.subject.as_ref().is_none_or(|subject| subject.digest != *of) {
            self.problem(&place, "it is about another manifest");
            return Ok(());
        }
        if manifest.artifact_type() == Some(SIGNATURE_ARTIFACT) {
            // The last one counts.
            self.referred = self.signatures_of(repository, Spot::Referrers, &place, &stored)?;
            return Ok(());
        }
        if is_listed_as_bundle || manifest.artifact_type().is_some_and(|kind| kind.starts_with(BUNDLE)) {
            let content = self.bundle(repository, &place, &manifest)?;
            self.bundles.push(Listed { is_listed_as_bundle, content });
        }
        Ok(())
    }

    /// The bundle that a manifest has in its first layer, as Kyverno reads it.
    fn bundle(
        &mut self,
        repository: &dyn Repository,
        place: &str,
        manifest: &Manifest,
    ) -> Result<Result<Option<Attested>, String>, RepositoryError> {
        let Some(layer) = manifest.layers().first() else { return Ok(Err("it has no layer".to_owned())) };
        if layer.size > MAX_BUNDLE_LAYER {
            return Ok(Err(format!("a bundle of {} bytes; Kyverno reads {MAX_BUNDLE_LAYER}", layer.size)));
        }
        if self.is_too_much(layer) {
            let reason = format!("{} bytes more than {MAX_TOTAL} in all", layer.size);
            self.unread(Spot::Referrers, place, &reason);
            return Ok(Err(reason));
        }
        match repository.blob_bytes(&layer.digest, layer.size) {
            Ok(bytes) => Ok(read_bundle(&bytes)),
            Err(error) if is_outage(&error) => Err(error),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// The predicate types that lie under the tag, or in bundles.
    pub(super) fn types(&self, in_bundles: bool) -> BTreeSet<&str> {
        let all: Box<dyn Iterator<Item = &Attested>> = if in_bundles {
            Box::new(self.bundles.iter().filter_map(Listed::attested))
        } else {
            Box::new(self.attestations.iter())
        };
        all.map(|one| one.predicate_type.as_str()).filter(|kind| !kind.is_empty()).collect()
    }
}

/// Whether a place gave no answer: what it has may be all right.
fn is_outage(error: &RepositoryError) -> bool {
    matches!(error, RepositoryError::Refused { .. } | RepositoryError::Io { .. })
}

/// What a layer's annotations have beside its signature.
fn material(layer: &Descriptor) -> Material {
    let text = |name: &str| layer.annotation(name).filter(|text| !text.is_empty()).map(str::to_owned);
    Material { certificate: text(CERTIFICATE), chain: text(CHAIN), log: text(LOG), timestamp: text(TIMESTAMP) }
}

fn attested(envelope: Envelope, by_certificate: bool, kept: Kept) -> Attested {
    let predicate_type = Claim::type_of(&envelope.payload).unwrap_or_default();
    Attested { envelope, predicate_type, by_certificate, kept }
}

fn read_bundle(bytes: &[u8]) -> Result<Option<Attested>, String> {
    let read = Bundle::parse(bytes).map_err(|error| error.to_string())?;
    let material = found::material_of(&read);
    let by_certificate = matches!(read.signer, Signer::Certificate { .. });
    Ok(match read.content {
        Content::Envelope(envelope) => Some(attested(envelope, by_certificate, Kept::Bundle(material))),
        Content::Message { .. } => None,
    })
}
