//! Signatures and attestations kept as layers of one manifest: under a tag beside the image, or as a referrer of it.
//!
//! Source: cosign's `SIGNATURE_SPEC.md` and `ATTESTATION_SPEC.md`; sigstore-oci §2, §3.1.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::manifest::{
    Descriptor, EMPTY, Kind as ManifestKind, Manifest, OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST,
};
use super::reference::{At, Digest};
use super::repository::{Listed, Put, Repository, RepositoryError, Skipped};
use super::shared::{self, Change, Pace, Settling, SharedError, Ticket};
use super::sigstore::BUNDLE_V03;
use crate::sigstore::Entry;
use crate::sigstore::judge::Material;

/// Media type of a layer that is a simple-signing payload.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Media type of a layer that is a DSSE envelope.
pub const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// Artifact type of signatures kept as a referrer.
pub const SIGNATURE_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// The annotation of a layer that has the signature, in base64.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The annotation of a layer that has the signer's certificate.
pub const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// The annotation of a layer that has the certificates above the signer's.
pub const CHAIN: &str = "dev.sigstore.cosign/chain";
/// The annotation of a layer that has a log's promise.
pub const LOG: &str = "dev.sigstore.cosign/bundle";
/// The annotation of a layer that has a timestamp.
pub const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";
/// The annotation of a layer that says what an attestation is; not proven.
pub const PREDICATE_TYPE: &str = "predicateType";
/// The annotation that says of what type a statement is; not proven. `BuildKit` and others write it.
pub const IN_TOTO_TYPE: &str = "in-toto.io/predicate-type";
/// The annotation that says of what type the statement in a bundle is; not proven.
pub const BUNDLE_TYPE: &str = "dev.sigstore.bundle.predicateType";
/// Most layers of such a manifest (cosign).
pub const MAX_LAYERS: usize = 1000;
/// Longest layer that is read, in bytes (cosign).
pub const MAX_LAYER: u64 = 128 * 1024 * 1024;

/// What is kept under a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `.sig`
    Signature,
    /// `.att`
    Attestation,
}

impl Kind {
    /// What the tag ends with.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Signature => ".sig",
            Self::Attestation => ".att",
        }
    }

    /// Media type of its layers.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Signature => SIMPLE_SIGNING,
            Self::Attestation => ENVELOPE,
        }
    }
}

/// A layer that is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it is.
    pub kind: Kind,
    /// The payload or envelope.
    pub bytes: Vec<u8>,
    /// Its notes.
    pub annotations: BTreeMap<String, String>,
}

impl Layer {
    /// A payload and its signature.
    pub fn signature(payload: Vec<u8>, signature: &[u8]) -> Self {
        let annotations = BTreeMap::from([(SIGNATURE.to_owned(), STANDARD.encode(signature))]);
        Self { kind: Kind::Signature, bytes: payload, annotations }
    }

    /// Whether a layer that is there has notes of all sorts that this one has: certificate, entry of a log, timestamp.
    pub fn has_no_more_than(&self, there: &Descriptor) -> bool {
        self.annotations.keys().all(|name| there.annotation(name).is_some())
    }

    /// An envelope.
    pub fn attestation(envelope: Vec<u8>, predicate_type: &str) -> Self {
        let annotations = BTreeMap::from([
            (SIGNATURE.to_owned(), String::new()),
            (PREDICATE_TYPE.to_owned(), predicate_type.to_owned()),
        ]);
        Self { kind: Kind::Attestation, bytes: envelope, annotations }
    }

    fn descriptor(&self) -> Descriptor {
        let annotations = Some(self.annotations.clone());
        Descriptor { annotations, ..Descriptor::of(self.kind.media_type(), &self.bytes) }
    }
}

/// The layers of a manifest that are of this kind, with their places.
pub fn layers(manifest: &Manifest, kind: Kind) -> Result<Vec<(usize, &Descriptor)>, String> {
    let layers = manifest.layers();
    if layers.len() > MAX_LAYERS {
        return Err(format!("{} layers; {MAX_LAYERS} are read", layers.len()));
    }
    Ok(layers.iter().enumerate().filter(|(_, layer)| layer.media_type == kind.media_type()).collect())
}

/// The signature of a layer.
pub fn signature_of(layer: &Descriptor) -> Result<Vec<u8>, String> {
    let text = layer.annotation(SIGNATURE).ok_or_else(|| format!("it has no annotation {SIGNATURE}"))?;
    STANDARD.decode(text).map_err(|error| format!("its signature is no base64: {error}"))
}

/// What a layer brings besides its signature. Annotations are not proven; what cannot be read is listed, and proves
/// nothing.
pub fn material_of(layer: &Descriptor) -> Material {
    // cosign writes some of them empty.
    let text = |name: &str| layer.annotation(name).filter(|text| !text.trim().is_empty());
    let mut material = Material {
        certificate: text(CERTIFICATE).map(|pem| pem.as_bytes().to_vec()),
        chain: text(CHAIN).map(|pem| pem.as_bytes().to_vec()).into_iter().collect(),
        ..Material::default()
    };
    match text(LOG).map(Entry::from_annotation).transpose() {
        Ok(entry) => material.entries.extend(entry),
        Err(error) => material.unread.push(error.to_string()),
    }
    match text(TIMESTAMP).map(timestamp_of).transpose() {
        Ok(timestamp) => material.timestamps.extend(timestamp),
        Err(reason) => material.unread.push(format!("its timestamp: {reason}")),
    }
    material
}

/// A timestamp as cosign keeps it: `{"SignedRFC3161Timestamp": base64 of TimeStampResp}`.
pub fn timestamp_of(text: &str) -> Result<Vec<u8>, String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Stamped {
        #[serde(rename = "SignedRFC3161Timestamp")]
        response: String,
    }
    let stamped: Stamped = serde_json::from_str(text).map_err(|error| error.to_string())?;
    STANDARD.decode(stamped.response).map_err(|error| error.to_string())
}

/// The config of a manifest with these layers: nothing in it is compressed.
pub(super) fn config(layers: &[Descriptor]) -> Vec<u8> {
    const NEVER: &str = "0001-01-01T00:00:00Z";
    let history: Vec<_> = layers.iter().map(|_| json!({ "created": NEVER })).collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.digest).collect();
    json!({
        "architecture": "", "created": NEVER, "history": history, "os": "",
        "rootfs": { "type": "layers", "diff_ids": diff_ids }, "config": {},
    })
    .to_string()
    .into_bytes()
}

/// What earlier layers a new one takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// None.
    Keep,
    /// Those with the same annotation [`PREDICATE_TYPE`] that are there when writing begins.
    Replace,
}

/// Adds a layer to the manifest under a tag. Gives `None` where it is there already: `is_same` says of which layer of the
/// same bytes that is so.
pub fn append<'a>(
    settling: &Settling<'a>,
    repository: &'a dyn Repository,
    tag: &str,
    layer: &Layer,
    earlier: Earlier,
    is_same: impl Fn(&Descriptor) -> bool + Send + 'a,
) -> Result<Option<Ticket>, SharedError> {
    let new = layer.descriptor();
    repository.keep(&new.media_type, &layer.bytes)?;
    let kept = new.clone();
    // Those of another writer who replaces at the same time stay.
    let mut replaced: Option<BTreeSet<Digest>> = None;
    let change = move |there: Option<&Manifest>| {
        let mut layers = there.map(|manifest| manifest.layers().to_vec()).unwrap_or_default();
        if there.is_some_and(|manifest| manifest.manifests.is_some()) {
            return Err("an index is there".to_owned());
        }
        let same = |one: &Descriptor| {
            is_layer(one, &new) || one.digest == new.digest && one.media_type == new.media_type && is_same(one)
        };
        if layers.iter().any(same) && (earlier == Earlier::Keep || replaced.is_some()) {
            return Ok(Change::Nothing);
        }
        if earlier == Earlier::Replace {
            let wanted = new.annotation(PREDICATE_TYPE);
            let replaced = replaced.get_or_insert_with(|| {
                let old = layers.iter().filter(|one| one.annotation(PREDICATE_TYPE) == wanted);
                old.map(|one| one.digest.clone()).collect()
            });
            layers.retain(|one| !replaced.contains(&one.digest));
        }
        layers.push(new.clone());
        if layers.len() > MAX_LAYERS {
            return Err(format!("it has {MAX_LAYERS} layers, and no more are read"));
        }
        let config = config(&layers);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Some(Descriptor::of(OCI_CONFIG, &config)),
            layers: Some(layers),
            manifests: None,
            subject: None,
            // What others noted there stays.
            annotations: there.and_then(|manifest| manifest.annotations.clone()),
        };
        Ok(Change::Write(Box::new(manifest), vec![(OCI_CONFIG, config)]))
    };
    settling.write(repository, tag, change, move |manifest| manifest.layers().iter().any(|one| is_layer(one, &kept)))
}

/// Whether a layer that is there is the other, with all of its notes. It may have more: somebody may have completed it
/// since with the entry that a log made later.
fn is_layer(there: &Descriptor, other: &Descriptor) -> bool {
    let mut notes = other.annotations.iter().flatten();
    there.digest == other.digest
        && there.media_type == other.media_type
        && notes.all(|(name, value)| there.annotation(name) == Some(value))
}

/// Something that refers to an image.
pub struct Referrer<'a> {
    /// What kind of artifact it is.
    pub artifact_type: &'a str,
    /// Its config: media type and bytes.
    pub config: (&'a str, Vec<u8>),
    /// Its layer.
    pub layer: Descriptor,
    /// The bytes of the layer.
    pub bytes: &'a [u8],
    /// Its notes.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A Sigstore bundle as a referrer (sigstore-oci §3.2).
pub fn bundle_referrer<'a>(bundle: &'a [u8], predicate_type: &str, created: &str) -> Referrer<'a> {
    let annotations = [
        ("dev.sigstore.bundle.content", "dsse-envelope"),
        (BUNDLE_TYPE, predicate_type),
        ("org.opencontainers.image.created", created),
    ];
    Referrer {
        artifact_type: BUNDLE_V03,
        config: (OCI_EMPTY, EMPTY.to_vec()),
        layer: Descriptor::of(BUNDLE_V03, bundle),
        bytes: bundle,
        annotations: Some(annotations.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
    }
}

/// An envelope as a referrer, where it cannot be a bundle: the layer is the envelope in JSON.
pub fn envelope_referrer<'a>(envelope: &'a [u8], predicate_type: &str, created: &str) -> Referrer<'a> {
    let annotations = [(IN_TOTO_TYPE, predicate_type), ("org.opencontainers.image.created", created)];
    Referrer {
        artifact_type: ENVELOPE,
        config: (OCI_EMPTY, EMPTY.to_vec()),
        layer: Descriptor::of(ENVELOPE, envelope),
        bytes: envelope,
        annotations: Some(annotations.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
    }
}

/// A signature as a referrer, in the form that cosign calls `oci-1-1` (sigstore-oci §3.1).
pub fn signature_referrer(layer: &Layer) -> Referrer<'_> {
    let descriptor = layer.descriptor();
    Referrer {
        artifact_type: SIGNATURE_ARTIFACT,
        config: (SIGNATURE_ARTIFACT, config(std::slice::from_ref(&descriptor))),
        layer: descriptor,
        bytes: &layer.bytes,
        annotations: None,
    }
}

/// Something that refers to an image and was put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referred {
    /// Its digest.
    pub digest: Digest,
    /// Where the registry keeps no list of referrers: the entry in the tag that does.
    pub ticket: Option<Ticket>,
}

/// Puts a referrer of `subject` into a repository; where the registry keeps no list of referrers, the tag that does is
/// written. Where it keeps one, nothing is shared with other writers.
pub fn refer<'a>(
    settling: &Settling<'a>,
    repository: &'a dyn Repository,
    subject: &Descriptor,
    referrer: &Referrer<'_>,
) -> Result<Referred, SharedError> {
    repository.keep(&referrer.layer.media_type, referrer.bytes)?;
    let (config_type, config_bytes) = &referrer.config;
    let mut config = repository.keep(config_type, config_bytes)?;
    if *config_type == OCI_EMPTY {
        config.artifact_type = Some(referrer.artifact_type.to_owned());
    }
    let subject = Descriptor { annotations: None, platform: None, artifact_type: None, ..subject.clone() };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        artifact_type: Some(referrer.artifact_type.to_owned()),
        config: Some(config),
        layers: Some(vec![referrer.layer.clone()]),
        manifests: None,
        subject: Some(subject.clone()),
        annotations: referrer.annotations.clone(),
    };
    let bytes = manifest.to_json();
    let digest = Digest::of(&bytes);
    let mut ticket = None;
    if repository.put_patiently(&At::Digest(digest.clone()), OCI_MANIFEST, &bytes)? == Put::Unlisted {
        let entry = Descriptor {
            artifact_type: Some(referrer.artifact_type.to_owned()),
            annotations: referrer.annotations.clone(),
            ..Descriptor::of(OCI_MANIFEST, &bytes)
        };
        ticket = enlist(settling, repository, &subject.digest, &[entry])?;
    }
    Ok(Referred { digest, ticket })
}

/// Adds entries to the tag that lists an image's referrers (distribution specification, "Referrers tag schema"). Gives
/// `None` where they were there already, or the place lists them itself. Where the place refuses the list because
/// something in it was deleted, that is left out.
pub fn enlist<'a>(
    settling: &Settling<'a>,
    repository: &'a dyn Repository,
    subject: &Digest,
    new: &[Descriptor],
) -> Result<Option<Ticket>, SharedError> {
    // Some places keep the list, and do not say so when they take a referrer: who asks them for it looks at no tag. Where
    // that cannot be found out, the tag is written.
    let listed = repository.referrers(subject).ok().flatten().unwrap_or_default();
    let new: Vec<Descriptor> =
        new.iter().filter(|entry| !listed.entries.iter().any(|one| one.digest == entry.digest)).cloned().collect();
    if new.is_empty() {
        return Ok(None);
    }
    match enlist_with(settling, repository, subject, new.clone(), |_| Ok(true)) {
        Err(SharedError::Repository(refused @ RepositoryError::Refused { permission: false, .. })) => {
            let why = refused.to_string();
            let is_there = move |entry: &Descriptor| match repository.resolve(&At::Digest(entry.digest.clone())) {
                Ok(found) => Ok(found.is_some()),
                Err(error) => Err(format!("{error}, after: {why}")),
            };
            let all = attached_list(repository, subject)?;
            if all.iter().all(|entry| is_there(entry).unwrap_or(true)) {
                return Err(refused.into());
            }
            enlist_with(settling, repository, subject, new, is_there)
        }
        other => other,
    }
}

/// What the tag lists, where it is one.
fn attached_list(repository: &dyn Repository, subject: &Digest) -> Result<Vec<Descriptor>, RepositoryError> {
    let stored = repository.manifest(&At::Tag(subject.tag("")))?;
    Ok(stored.and_then(|stored| stored.manifest().ok()).map(|list| list.entries().to_vec()).unwrap_or_default())
}

fn enlist_with<'a>(
    settling: &Settling<'a>,
    repository: &'a dyn Repository,
    subject: &Digest,
    new: Vec<Descriptor>,
    stays: impl Fn(&Descriptor) -> Result<bool, String> + Send + 'a,
) -> Result<Option<Ticket>, SharedError> {
    let has = |manifest: &Manifest, entry: &Descriptor| manifest.entries().iter().any(|one| one.digest == entry.digest);
    let wanted = new.clone();
    let change = move |there: Option<&Manifest>| {
        if there.is_some_and(|manifest| manifest.kind() != ManifestKind::Index) {
            return Err("it is no index, and referrers are listed in one".to_owned());
        }
        if there.is_some_and(|there| new.iter().all(|entry| has(there, entry))) {
            return Ok(Change::Nothing);
        }
        let mut entries = Vec::new();
        for entry in there.iter().flat_map(|there| there.entries()) {
            if stays(entry)? {
                entries.push(entry.clone());
            }
        }
        entries.extend(new.iter().filter(|entry| !there.is_some_and(|there| has(there, entry))).cloned());
        let index = Manifest {
            schema_version: 2,
            media_type: Some(OCI_INDEX.to_owned()),
            artifact_type: None,
            config: None,
            layers: None,
            manifests: Some(entries),
            subject: None,
            annotations: there.and_then(|manifest| manifest.annotations.clone()),
        };
        Ok(Change::Write(Box::new(index), Vec::new()))
    };
    settling.write(repository, &subject.tag(""), change, move |there| wanted.iter().all(|entry| has(there, entry)))
}

/// Takes an entry out of the tag that lists an image's referrers; the tag goes with the last one.
pub fn delist(repository: &dyn Repository, subject: &Digest, entry: &Digest, pace: &Pace) -> Result<(), SharedError> {
    let tag = subject.tag("");
    let mut is_empty = false;
    let change = |there: Option<&Manifest>| {
        let Some(there) = there.filter(|there| there.kind() == ManifestKind::Index) else { return Ok(Change::Nothing) };
        let mut entries = there.entries().to_vec();
        entries.retain(|one| one.digest != *entry);
        is_empty = entries.is_empty();
        if entries.len() == there.entries().len() {
            return Ok(Change::Nothing);
        }
        Ok(Change::Write(Box::new(Manifest { manifests: Some(entries), ..there.clone() }), Vec::new()))
    };
    let holds = |there: &Manifest| there.entries().iter().all(|one| one.digest != *entry);
    shared::settled(pace, |settling| settling.write(repository, &tag, change, holds))?;
    if is_empty && let Some(list) = repository.resolve(&At::Tag(tag.clone()))? {
        // Another writer may have begun: then it is another manifest, and that one stays.
        let by_digest = repository.delete(&At::Digest(list.digest));
        if repository.resolve(&At::Tag(tag))?.is_some() {
            by_digest?;
        }
    }
    Ok(())
}

/// What is said to refer to an image: by the registry, and by the tag. Entries are not proven: the manifest decides.
pub fn referrers(repository: &dyn Repository, of: &Digest) -> Result<Listed, RepositoryError> {
    let mut listed = repository.referrers(of)?.unwrap_or_default();
    // A registry that learned to keep lists later has the tag beside it.
    let tag = of.tag("");
    let place = format!("the list of referrers {tag}");
    match repository.manifest(&At::Tag(tag)) {
        Ok(Some(list)) => listed.add(&place, list.media_type(), list.bytes()),
        Ok(None) => {}
        Err(error) if error.is_outage() => return Err(error),
        Err(error) => listed.skipped.push(Skipped::hiding(place, error.one_line())),
    }
    let mut seen = BTreeSet::new();
    listed.entries.retain(|entry| seen.insert(entry.digest.clone()));
    Ok(listed)
}
