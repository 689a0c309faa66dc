//! What is kept about an image, found and judged: signatures and attestations in every form.
//!
//! Nothing is believed that is not signed: lists and annotations only find. What cannot be read is passed over with a
//! reason, and the rest is judged (security rule 13: the form never matters).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::attached::{self, ENVELOPE, Kind, MAX_LAYER, SIGNATURE_ARTIFACT};
use super::claim::{Claim, SIGN};
use super::keyed::{NoSignature, holds};
use super::manifest::{Descriptor, Kind as ManifestKind, Manifest};
use super::payload::{Payload, missing_annotation};
use super::reference::{At, Digest};
use super::repository::{Repository, RepositoryError, Stored};
use super::sigstore::{BUNDLE, Bundle, Content as Signed, MAX_BUNDLE, Signer};
use crate::dsse::{Envelope, pae_header};
use crate::sign::PublicKey;
use crate::sigstore::{Authority, proven_time};
use crate::statement::PAYLOAD_TYPE;

/// Most referrers of one image that are fetched.
pub const MAX_FETCHED: usize = 2000;
/// Most bytes of all signatures and attestations of one image that are fetched.
pub const MAX_TOTAL: u64 = 512 * 1024 * 1024;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    /// Signatures: payloads, and statements of the type [`SIGN`].
    Signatures,
    /// Attestations: other statements.
    Attestations,
}

/// Something signed about an image; nothing says yet that the signature holds.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it was, for the reader.
    pub place: String,
    /// What it is.
    pub content: Content,
    /// Whether it brings something from a log.
    pub has_log: bool,
    /// Timestamps that it brings, `TimeStampResp` in DER.
    pub timestamps: Vec<Vec<u8>>,
}

/// The forms of what is signed.
#[derive(Clone, Debug)]
pub enum Content {
    /// A payload and its signature.
    Simple {
        /// The bytes that were signed.
        payload: Vec<u8>,
        /// The signature.
        signature: Vec<u8>,
    },
    /// An envelope under a tag, with its bytes.
    Envelope(Envelope, Vec<u8>),
    /// A Sigstore bundle with an envelope.
    Bundle(Envelope),
}

/// Something that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Where it was.
    pub place: String,
    /// Why.
    pub reason: String,
}

/// Something that is kept about an image, as it is kept.
struct Kept {
    /// The repository.
    keeper: String,
    /// Where in it, for the reader.
    place: String,
    form: Form,
    bytes: Vec<u8>,
}

/// The forms of what is kept.
enum Form {
    /// A layer of a manifest that holds signatures or attestations.
    Layer(Kind, Box<Descriptor>),
    /// A Sigstore bundle.
    Bundle,
    /// An envelope that is a referrer by itself.
    Envelope,
}

/// Looks through one repository for what is kept about a manifest, one after the other.
struct Search<'a> {
    repository: &'a dyn Repository,
    of: &'a Digest,
    sought: Sought,
    total: u64,
    skipped: Vec<Skipped>,
    take: &'a mut dyn FnMut(Kept) -> Result<(), Skipped>,
}

/// Finds what is kept about a manifest in these repositories: tags (with `prefix` before them), referrers, and referrers
/// listed by tag.
pub fn each(
    repositories: &[&dyn Repository],
    prefix: &str,
    of: &Digest,
    sought: Sought,
    mut take: impl FnMut(Found),
) -> Result<Vec<Skipped>, RepositoryError> {
    each_kept(repositories, prefix, of, sought, &mut |kept| {
        if let Some(found) = kept.read(sought)? {
            take(found);
        }
        Ok(())
    })
}

/// Finds what may be evidence about a manifest, in the same places: attestations of every form, with the bytes of the
/// envelope or bundle, whoever signed them and however.
pub fn each_evidence(
    repositories: &[&dyn Repository],
    prefix: &str,
    of: &Digest,
    mut take: impl FnMut(String, Vec<u8>),
) -> Result<Vec<Skipped>, RepositoryError> {
    each_kept(repositories, prefix, of, Sought::Attestations, &mut |kept| {
        take(format!("{}, {}", kept.keeper, kept.place), kept.bytes);
        Ok(())
    })
}

fn each_kept(
    repositories: &[&dyn Repository],
    prefix: &str,
    of: &Digest,
    sought: Sought,
    take: &mut dyn FnMut(Kept) -> Result<(), Skipped>,
) -> Result<Vec<Skipped>, RepositoryError> {
    let mut skipped = Vec::new();
    for repository in repositories {
        let mut search =
            Search { repository: *repository, of, sought, total: 0, skipped: Vec::new(), take: &mut *take };
        let kind = match sought {
            Sought::Signatures => Kind::Signature,
            Sought::Attestations => Kind::Attestation,
        };
        let tag = format!("{prefix}{}", of.tag(kind.suffix()));
        if let Some(stored) = repository.manifest(&At::Tag(tag.clone()))? {
            search.layers(&tag, &stored, kind)?;
        }
        let entries = attached::referrers(*repository, of)?;
        if entries.len() > MAX_FETCHED {
            return Err(RepositoryError::Large {
                what: format!("the list of referrers of {of}"),
                found: entries.len() as u64,
                limit: MAX_FETCHED as u64,
            });
        }
        for entry in &entries {
            search.referrer(entry)?;
        }
        skipped.append(&mut search.skipped);
    }
    Ok(skipped)
}

impl Kept {
    /// What it says it is; nothing where it is none of what is sought.
    fn read(self, sought: Sought) -> Result<Option<Found>, Skipped> {
        let Self { place, form, bytes, .. } = self;
        let skip = |reason: String| Skipped { place: place.clone(), reason };
        let envelope = |bytes: Vec<u8>| {
            Envelope::parse(&bytes, bytes.len())
                .map(|envelope| Content::Envelope(envelope, bytes))
                .map_err(|error| skip(error.to_string()))
        };
        let (content, has_log, timestamps) = match form {
            Form::Layer(kind, layer) => {
                let content = match kind {
                    Kind::Signature => attached::signature_of(&layer)
                        .map(|signature| Content::Simple { payload: bytes, signature })
                        .map_err(skip)?,
                    Kind::Attestation => envelope(bytes)?,
                };
                (content, layer.annotation(attached::LOG).is_some(), attached::timestamps_of(&layer))
            }
            Form::Envelope => (envelope(bytes)?, false, Vec::new()),
            Form::Bundle => match Bundle::parse(&bytes) {
                Ok(Bundle {
                    content: Signed::Envelope(envelope),
                    signer: Signer::Key { .. },
                    entries,
                    timestamps,
                    ..
                }) => {
                    // What it is, as it says itself; judged again once its signature holds.
                    let is_signature = Claim::parse(&envelope.payload).is_ok_and(|claim| claim.predicate_type == SIGN);
                    if is_signature != (sought == Sought::Signatures) {
                        return Ok(None);
                    }
                    (Content::Bundle(envelope), !entries.is_empty(), timestamps)
                }
                Ok(Bundle { content: Signed::Message { .. }, .. }) => {
                    return Err(skip("it signs bytes, not a statement about an image".to_owned()));
                }
                Ok(_) => return Err(skip("it is signed by a certificate, not by a key".to_owned())),
                Err(error) => return Err(skip(error.to_string())),
            },
        };
        Ok(Some(Found { place, content, has_log, timestamps }))
    }
}

impl Search<'_> {
    fn skip(&mut self, place: impl Into<String>, reason: impl Into<String>) {
        self.skipped.push(Skipped { place: place.into(), reason: reason.into() });
    }

    fn give(&mut self, place: &str, form: Form, bytes: Vec<u8>) {
        let taken = (self.take)(Kept { keeper: self.repository.name(), place: place.to_owned(), form, bytes });
        self.skipped.extend(taken.err());
    }

    /// A blob; `None` where it is not there or not what its digest says.
    fn blob(&mut self, place: &str, layer: &Descriptor, limit: u64) -> Result<Option<Vec<u8>>, RepositoryError> {
        if layer.size > limit {
            self.skip(place, format!("{} bytes; {limit} are read", layer.size));
            return Ok(None);
        }
        self.total = self.total.saturating_add(layer.size);
        if self.total > MAX_TOTAL {
            return Err(RepositoryError::Large {
                what: format!("all that is kept about {}", self.of),
                found: self.total,
                limit: MAX_TOTAL,
            });
        }
        match self.repository.blob_bytes(&layer.digest, layer.size) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error @ RepositoryError::Refused { .. }) => Err(error),
            Err(error) => {
                let why = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
                self.skip(place, format!("{error}{why}"));
                Ok(None)
            }
        }
    }

    /// The layers of a manifest.
    fn layers(&mut self, place: &str, stored: &Stored, kind: Kind) -> Result<(), RepositoryError> {
        let manifest = match stored.manifest() {
            Ok(manifest) => manifest,
            Err(error) => {
                self.skip(place, error.to_string());
                return Ok(());
            }
        };
        let layers = match attached::layers(&manifest, kind) {
            Ok(layers) => layers,
            Err(reason) => {
                self.skip(place, reason);
                return Ok(());
            }
        };
        if layers.is_empty() {
            self.skip(place, format!("it has no layer of the type {}", kind.media_type()));
        }
        for (index, layer) in layers {
            let place = format!("{place}, layer {index}");
            if let Some(bytes) = self.blob(&place, layer, MAX_LAYER)? {
                self.give(&place, Form::Layer(kind, Box::new(layer.clone())), bytes);
            }
        }
        Ok(())
    }

    /// What a list says is a referrer.
    fn referrer(&mut self, entry: &Descriptor) -> Result<(), RepositoryError> {
        let place = format!("referrer {}", entry.digest);
        let stored = match self.repository.manifest(&At::Digest(entry.digest.clone())) {
            Ok(Some(stored)) => stored,
            Ok(None) => {
                self.skip(place, "it is listed, and not there");
                return Ok(());
            }
            Err(error @ RepositoryError::Refused { .. }) => return Err(error),
            Err(error) => {
                self.skip(place, error.to_string());
                return Ok(());
            }
        };
        let manifest = match stored.manifest() {
            Ok(manifest) if manifest.kind() == ManifestKind::Image => manifest,
            Ok(_) => return Ok(()),
            Err(error) => {
                self.skip(place, error.to_string());
                return Ok(());
            }
        };
        if manifest.subject.as_ref().is_none_or(|subject| subject.digest != *self.of) {
            self.skip(place, "it is about another manifest");
            return Ok(());
        }
        let kind = manifest.artifact_type().unwrap_or_default();
        if self.sought == Sought::Signatures && kind == SIGNATURE_ARTIFACT {
            return self.layers(&place, &stored, Kind::Signature);
        }
        let has = |wanted: &str| {
            kind.starts_with(wanted) || manifest.layers().iter().any(|layer| layer.media_type.starts_with(wanted))
        };
        if has(BUNDLE) {
            self.document(&place, &manifest, BUNDLE, Form::Bundle)
        } else if self.sought == Sought::Attestations && has(ENVELOPE) {
            self.document(&place, &manifest, ENVELOPE, Form::Envelope)
        } else {
            Ok(())
        }
    }

    /// The one layer of a referrer that is a bundle or an envelope.
    fn document(
        &mut self,
        place: &str,
        manifest: &Manifest,
        media_type: &str,
        form: Form,
    ) -> Result<(), RepositoryError> {
        let what = if matches!(form, Form::Bundle) { "bundle" } else { "envelope" };
        let [layer] = manifest.layers() else {
            self.skip(place, format!("{what} malformed: {} layers instead of one", manifest.layers().len()));
            return Ok(());
        };
        if !layer.media_type.starts_with(media_type) {
            self.skip(place, format!("{what} malformed: the layer is of another type"));
            return Ok(());
        }
        if let Some(bytes) = self.blob(place, layer, MAX_BUNDLE as u64)? {
            self.give(place, form, bytes);
        }
        Ok(())
    }
}

/// What is demanded of something signed.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The manifest it must be about.
    pub digest: &'a Digest,
    /// The key that must have signed.
    pub key: &'a PublicKey,
    /// Annotations that must stand in it.
    pub annotations: &'a BTreeMap<String, String>,
    /// Whether it must be in a log.
    pub log: bool,
    /// Who must vouch for a time at which it was signed, where somebody must.
    pub time: Option<&'a [Authority]>,
    /// Whether what it says is compared with the image and the annotations.
    pub claims: bool,
}

/// A check that something signed has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The digest is that of the image, the annotations are there.
    Claims,
    /// The signature is one of the key.
    Key,
    /// An authority vouches for the time of the signature.
    Time,
}

/// Something signed that has what was demanded.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Where it was.
    pub place: String,
    /// What was said about the image.
    pub optional: BTreeMap<String, Value>,
    /// The payload that was signed, as JSON; for a bundle the one that says the same.
    pub payload: Value,
    /// What was checked.
    pub checks: BTreeSet<Check>,
    /// An attestation's envelope and statement.
    pub statement: Option<Statement>,
}

/// An attestation that has what was demanded.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The envelope.
    pub envelope: Envelope,
    /// The bytes of the envelope as it was kept under a tag.
    pub bytes: Option<Vec<u8>>,
    /// What it is, as it was signed.
    pub predicate_type: String,
}

/// Why something signed does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The signature is not one of the key, or not made as images are signed.
    #[error(transparent)]
    Signature(#[from] NoSignature),
    /// It says something that cannot be read.
    #[error("{reason}")]
    Content {
        /// Why.
        reason: String,
    },
    /// It is about another image.
    #[error("it is about another image ({found})")]
    Digest {
        /// The digest in it.
        found: String,
    },
    /// An annotation is not there, or has another value.
    #[error("missing or incorrect annotation: {name}={value} is wanted")]
    Annotation {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// It is an attestation.
    #[error("an attestation ({}) is not a signature", .predicate_type.escape_debug())]
    Attestation {
        /// Its type.
        predicate_type: String,
    },
    /// It is a signature.
    #[error("a signature is not an attestation")]
    NoAttestation,
    /// A timestamp is demanded.
    #[error("no timestamp that holds: {reason}")]
    Time {
        /// Why.
        reason: String,
    },
    /// A log entry is demanded.
    #[error("{}", if *.has { "its log entry was not checked: this affiant has no keys of logs" } else { "it has no log entry, and one is demanded" })]
    Log {
        /// Whether it brings one.
        has: bool,
    },
}

/// Whether a signature has what is demanded.
pub fn judge_signature(found: &Found, demand: &Demand<'_>) -> Result<Accepted, Refused> {
    let mut checks = BTreeSet::new();
    let (reference, said) = match &found.content {
        Content::Simple { payload, signature } => {
            holds(demand.key, &[payload], signature)?;
            checks.insert(Check::Key);
            let read = Payload::parse(payload).map_err(|error| Refused::Content { reason: error.to_string() })?;
            if demand.claims && read.digest != *demand.digest {
                return Err(Refused::Digest { found: read.digest.to_string() });
            }
            (Some((read.reference, read.digest)), vec![read.optional])
        }
        Content::Bundle(envelope) | Content::Envelope(envelope, _) => {
            let claim = judge_envelope(envelope, demand)?;
            checks.insert(Check::Key);
            if claim.predicate_type != SIGN {
                return Err(Refused::Attestation { predicate_type: claim.predicate_type });
            }
            (None, about(&claim, demand)?)
        }
    };
    bounds(found, demand, &mut checks)?;
    let optional = pick(said, demand)?;
    if demand.claims {
        checks.insert(Check::Claims);
    }
    let shown = if optional.is_empty() { Value::Null } else { json!(optional) };
    let (reference, digest, kind) = match reference {
        Some((reference, digest)) => (reference, digest, super::payload::TYPE),
        None => (String::new(), demand.digest.clone(), SIGN),
    };
    let payload = json!({
        "critical": {
            "identity": { "docker-reference": reference },
            "image": { "docker-manifest-digest": digest },
            "type": kind,
        },
        "optional": shown,
    });
    Ok(Accepted { place: found.place.clone(), optional, payload, checks, statement: None })
}

/// Whether an attestation has what is demanded, whatever its type.
pub fn judge_attestation(found: &Found, demand: &Demand<'_>) -> Result<Accepted, Refused> {
    let (envelope, bytes) = match &found.content {
        Content::Simple { .. } => return Err(Refused::NoAttestation),
        Content::Bundle(envelope) => (envelope, None),
        Content::Envelope(envelope, bytes) => (envelope, Some(bytes.clone())),
    };
    let claim = judge_envelope(envelope, demand)?;
    if claim.predicate_type == SIGN {
        return Err(Refused::NoAttestation);
    }
    let optional = pick(about(&claim, demand)?, demand)?;
    let mut checks = BTreeSet::from([Check::Key]);
    bounds(found, demand, &mut checks)?;
    if demand.claims {
        checks.insert(Check::Claims);
    }
    let statement = Statement { envelope: envelope.clone(), bytes, predicate_type: claim.predicate_type };
    Ok(Accepted { place: found.place.clone(), optional, payload: Value::Null, checks, statement: Some(statement) })
}

/// What must vouch for a signature besides its key.
fn bounds(found: &Found, demand: &Demand<'_>, checks: &mut BTreeSet<Check>) -> Result<(), Refused> {
    if let Some(authorities) = demand.time {
        let message = match &found.content {
            Content::Simple { signature, .. } => signature,
            // cosign stamps the whole envelope there.
            Content::Envelope(_, bytes) => bytes,
            Content::Bundle(envelope) => {
                envelope.signatures.first().map_or(&found.place.as_bytes()[..0], |one| &one.sig)
            }
        };
        proven_time(&found.timestamps, message, authorities).map_err(|reason| Refused::Time { reason })?;
        checks.insert(Check::Time);
    }
    if demand.log { Err(Refused::Log { has: found.has_log }) } else { Ok(()) }
}

/// The statement of an envelope that the key has signed.
fn judge_envelope(envelope: &Envelope, demand: &Demand<'_>) -> Result<Claim, Refused> {
    let header = pae_header(&envelope.payload_type, envelope.payload.len());
    let message: [&[u8]; 2] = [&header, &envelope.payload];
    let mut refused = NoSignature::Bad;
    // Each of them is tried with one key: a stranger's thousand cost a thousand checks.
    let is_signed = envelope.signatures.iter().any(|signature| match holds(demand.key, &message, &signature.sig) {
        Ok(()) => true,
        Err(why) => {
            refused = why;
            false
        }
    });
    if !is_signed {
        return Err(refused.into());
    }
    if envelope.payload_type != PAYLOAD_TYPE {
        let reason = format!("the payload type is `{}`", envelope.payload_type.escape_debug());
        return Err(Refused::Content { reason });
    }
    Claim::parse(&envelope.payload).map_err(|error| Refused::Content { reason: error.to_string() })
}

/// What a statement says of the image, subject by subject.
fn about(claim: &Claim, demand: &Demand<'_>) -> Result<Vec<BTreeMap<String, Value>>, Refused> {
    let said = claim.about(demand.digest);
    match said.is_empty() {
        true if demand.claims => Err(Refused::Digest { found: "none of its subjects is this one".to_owned() }),
        true => Ok(vec![BTreeMap::new()]),
        false => Ok(said),
    }
}

/// The set of annotations that has all that are wanted.
fn pick(said: Vec<BTreeMap<String, Value>>, demand: &Demand<'_>) -> Result<BTreeMap<String, Value>, Refused> {
    let mut refused = Refused::Content { reason: "it says nothing".to_owned() };
    for one in said {
        match missing_annotation(&one, demand.annotations) {
            Some((name, value)) if demand.claims => {
                refused = Refused::Annotation { name: name.to_owned(), value: value.to_owned() };
            }
            _ => return Ok(one),
        }
    }
    Err(refused)
}
