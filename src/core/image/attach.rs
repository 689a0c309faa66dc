//! Evidence of runs, kept with the image that it is about: what may be, and how.
//!
//! Whoever attaches to an image is believed by readers that take any signed statement for a signature of the image
//! (cosign v3 does). So nothing is attached of a run that failed, nor what does not name the image (security rule 16),
//! and nothing that is a signature.

mod alone;

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use super::attached::{self, Earlier, Kind as Tagged, Layer, MAX_LAYER, Referred, Referrer, envelope_referrer};
use super::claim::{Claim, SIGN};
use super::found::{self, Content, Sought};
use super::keyed::holds;
use super::manifest::{Descriptor, Manifest};
use super::reference::Digest;
use super::repository::{Repository, RepositoryError};
use super::shared::{Settling, SharedError, Ticket};
use super::sigstore::{self, MAX_BUNDLE};
use crate::collection::FAILED_SUFFIX;
use crate::dsse::{Envelope, Signature, TIMESTAMP_TSP, pae_header};
use crate::evidence::links::{Standing, is_real_external, standing};
use crate::evidence::{EvidenceError, Statement, SubjectView};
use crate::keyless::material::Material;
use crate::keyless::rekor::Verifier;
use crate::keyless::stamp;
use crate::run::RUN_SUBJECT;
use crate::sign::{PublicKey, Scheme};
use crate::statement::PAYLOAD_TYPE;
use crate::trust::Certificate;
use crate::vsa;

pub use alone::NotAlone;

/// Most documents that are attached together.
pub const MAX_DOCUMENTS: usize = 1000;
/// Most subjects of a statement in a bundle (sigstore-go).
const MAX_SUBJECTS: usize = 1024;

/// Why a document is not attached.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is no envelope of a statement.
    #[error("it is no signed statement")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nobody has signed it.
    #[error("it has no signature")]
    Unsigned,
    /// None of the keys that were named has signed it.
    #[error("none of the keys has signed it")]
    Key,
    /// It is a signature of an image.
    #[error("it is a signature of an image, which only its key makes (image sign)")]
    Signature,
    /// It is of a run that failed.
    #[error("it is of a run that failed ({reason})")]
    Failed {
        /// What says so.
        reason: String,
    },
    /// A collection does not say how its command ended.
    #[error("it does not say how its command ended")]
    NoCommand,
    /// Its run's collection is not among the documents.
    #[error("the collection of its run is not named with it: without that nobody knows whether the run failed")]
    NoCollection,
    /// A summary that says no.
    #[error("it is a verification summary that does not say {}", vsa::PASSED)]
    Summary,
    /// It is not about the image.
    #[error(
        "none of its subjects is {image}, a platform of it or its config: digests of materials, texts and commits do not count"
    )]
    Unrelated {
        /// The image.
        image: Digest,
    },
    /// Too long.
    #[error("{size} bytes; {MAX_LAYER} are read of what is kept with an image")]
    Large {
        /// Its length.
        size: usize,
    },
}

/// A signed document.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it is called in messages.
    pub label: String,
    /// Type of its predicate.
    pub predicate_type: String,
    envelope: Envelope,
    /// The digests that it says something of: those of manifests, and those of configs.
    about: Vec<(String, Standing)>,
    /// SHA-256 of the payload.
    payload: String,
    /// For an own envelope: the payload of the collection of its run.
    run: Option<String>,
    is_collection: bool,
    /// What is wrong with its run, where something is.
    failed: Option<String>,
    no_command: bool,
}

/// Whether a collection says that it is of things as they were, without a command that could have failed.
fn is_at_rest(statement: &Statement<'_>) -> bool {
    #[derive(serde::Deserialize)]
    struct Collection {
        affiant: Ours,
    }
    #[derive(serde::Deserialize)]
    struct Ours {
        ending: Ending,
    }
    #[derive(serde::Deserialize)]
    struct Ending {
        kind: String,
    }
    serde_json::from_str::<Collection>(statement.predicate.get()).is_ok_and(|read| read.affiant.ending.kind == "none")
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Refused {
    Refused::Unreadable(Box::new(error))
}

impl Document {
    /// Reads the JSON form of an envelope. With keys, only the signatures that one of them made are kept; what none of
    /// them has signed is refused.
    pub fn read(label: impl Into<String>, bytes: &[u8], keys: &[PublicKey]) -> Result<Self, Refused> {
        let mut envelope = Envelope::parse(bytes, bytes.len()).map_err(unreadable)?;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(Refused::Unreadable(
                format!("the payload type is `{}`", envelope.payload_type.escape_debug()).into(),
            ));
        }
        if envelope.signatures.is_empty() {
            return Err(Refused::Unsigned);
        }
        if !keys.is_empty() {
            let message = (pae_header(&envelope.payload_type, envelope.payload.len()), &envelope.payload);
            let holds = |one: &Signature| keys.iter().any(|key| key.verify(&[&message.0, message.1], &one.sig).is_ok());
            let kept: Vec<_> = envelope.signatures.iter().filter(|one| holds(one)).cloned().collect();
            if kept.is_empty() {
                return Err(Refused::Key);
            }
            envelope.signatures = kept;
        }
        let mut document = Self {
            label: label.into(),
            predicate_type: String::new(),
            about: Vec::new(),
            payload: crate::digest::sha256_hex(&envelope.payload),
            run: None,
            is_collection: false,
            failed: None,
            no_command: false,
            envelope: Envelope { payload: Vec::new(), payload_type: String::new(), signatures: Vec::new() },
        };
        document.look(&Statement::parse_strict(&envelope.payload).map_err(unreadable)?)?;
        document.envelope = envelope;
        Ok(document)
    }

    fn look(&mut self, statement: &Statement<'_>) -> Result<(), Refused> {
        self.predicate_type.clone_from(&statement.predicate_type);
        if self.predicate_type == SIGN {
            return Err(Refused::Signature);
        }
        if self.predicate_type == vsa::TYPE {
            let predicate: serde_json::Value = serde_json::from_str(statement.predicate.get()).map_err(unreadable)?;
            if predicate["verificationResult"] != vsa::PASSED {
                return Err(Refused::Summary);
            }
        }
        if let Some(collection) = statement.collection() {
            let collection = collection.map_err(unreadable)?;
            self.is_collection = true;
            let codes = collection.exit_codes().map_err(|error: EvidenceError| unreadable(error))?;
            self.no_command = codes.is_empty() && !is_at_rest(statement);
            self.failed = match codes.iter().find(|code| **code != 0) {
                _ if collection.name.ends_with(FAILED_SUFFIX) => {
                    Some(format!("it is called `{}`", collection.name.escape_debug()))
                }
                Some(code) => Some(format!("exit code {code}")),
                None => None,
            };
        }
        for subject in statement.subject.iter() {
            let Some(sha256) = subject.value("sha256") else { continue };
            if !self.is_collection && subject.name == RUN_SUBJECT {
                self.run = Some(sha256.to_owned());
                continue;
            }
            if let Some(standing) = self.standing_of(&subject) {
                self.about.push((sha256.to_owned(), standing));
            }
        }
        Ok(())
    }

    /// As what of an image a subject stands, where it stands for one.
    fn standing_of(&self, subject: &SubjectView<'_>) -> Option<Standing> {
        match standing(&subject.name) {
            found @ (Standing::Image | Standing::ImageId) => Some(found),
            // What is no collection names what it is about in its own way.
            _ if !self.is_collection && is_real_external(subject) => Some(Standing::Image),
            _ => None,
        }
    }

    /// SHA-256 of its payload, in hex.
    pub fn payload_sha256(&self) -> &str {
        &self.payload
    }

    /// Whether it is a collection.
    pub fn is_collection(&self) -> bool {
        self.is_collection
    }

    fn names(&self, digest: &Digest, by: &[Standing]) -> bool {
        self.about.iter().any(|(sha256, standing)| sha256 == digest.hex() && by.contains(standing))
    }

    /// Whether it says of this manifest or index that it is what was made or is described.
    pub fn names_manifest(&self, digest: &Digest) -> bool {
        self.names(digest, &[Standing::Image])
    }
}

/// Whether the documents may be attached to any image at all, each: not those of a run that failed. `command_optional`
/// lets collections through in which no command was run.
pub fn judge_runs<D: Borrow<Document>>(documents: &[D], command_optional: bool) -> Vec<Result<(), Refused>> {
    let documents = || documents.iter().map(Borrow::<Document>::borrow);
    let own = |document: &Document| match &document.failed {
        Some(reason) => Err(Refused::Failed { reason: reason.clone() }),
        None if document.is_collection && document.no_command && !command_optional => Err(Refused::NoCommand),
        None => Ok(()),
    };
    let collections: BTreeMap<&str, &Document> =
        documents().filter(|one| one.is_collection).map(|one| (one.payload.as_str(), one)).collect();
    let judge = |document: &Document| match &document.run {
        None => own(document),
        Some(run) => collections.get(run.as_str()).map_or(Err(Refused::NoCollection), |collection| own(collection)),
    };
    documents().map(judge).collect()
}

/// The names and digests of the images that a collection says were made: those of its docker attestation whose digests
/// are subjects as manifests or indexes. What is no such collection names none.
pub fn made(envelope: &[u8]) -> Vec<(String, Digest)> {
    #[derive(serde::Deserialize)]
    struct Docker {
        #[serde(default)]
        products: BTreeMap<String, Made>,
    }
    #[derive(serde::Deserialize)]
    struct Made {
        #[serde(default)]
        imagereferences: Vec<String>,
    }
    let Ok(envelope) = Envelope::parse(envelope, envelope.len()) else { return Vec::new() };
    let Ok(statement) = Statement::parse_strict(&envelope.payload) else { return Vec::new() };
    let Some(Ok(collection)) = statement.collection() else { return Vec::new() };
    let is_image = |subject: &SubjectView<'_>| standing(&subject.name) == Standing::Image;
    let images: BTreeSet<String> = statement
        .subject
        .iter()
        .filter(is_image)
        .filter_map(|subject| subject.value("sha256").map(str::to_owned))
        .collect();
    let mut made = Vec::new();
    for entry in collection.attestations.iter().filter(|entry| entry.short_name() == "docker") {
        let Ok(docker) = serde_json::from_str::<Docker>(entry.attestation.get()) else { continue };
        for (hex, product) in docker.products {
            let (true, Ok(digest)) = (images.contains(&hex), Digest::from_hex(&hex)) else { continue };
            let names = product.imagereferences.iter().flat_map(|names| names.split(',')).map(str::trim);
            made.extend(names.filter(|name| !name.is_empty()).map(|name| (name.to_owned(), digest.clone())));
        }
    }
    made.truncate(MAX_DOCUMENTS);
    made
}

/// A manifest of an image, and the config that proves what it runs.
#[derive(Clone, Debug)]
pub struct Part {
    /// What points at it.
    pub manifest: Descriptor,
    /// Digest of its config; an index has none.
    pub config: Option<Digest>,
}

impl Part {
    /// A manifest or index that was read.
    pub fn of(descriptor: Descriptor, manifest: &Manifest) -> Self {
        Self { manifest: descriptor, config: manifest.config.as_ref().map(|config| config.digest.clone()) }
    }
}

/// The manifests of an image, the whole first, that a document is about: the whole where it is named, else what of it is
/// named by digest, else what has a config that is named.
pub fn named<'p>(document: &Document, parts: &'p [Part]) -> Result<Vec<&'p Part>, Refused> {
    let by_digest: Vec<&Part> = parts.iter().filter(|part| document.names_manifest(&part.manifest.digest)).collect();
    if let (Some(first), Some(root)) = (by_digest.first(), parts.first())
        && first.manifest.digest == root.manifest.digest
    {
        return Ok(vec![first]);
    }
    if !by_digest.is_empty() {
        return Ok(by_digest);
    }
    let both = [Standing::ImageId, Standing::Image];
    let by_config: Vec<&Part> =
        parts.iter().filter(|part| part.config.as_ref().is_some_and(|config| document.names(config, &both))).collect();
    match (by_config.is_empty(), parts.first()) {
        (true, Some(root)) => Err(Refused::Unrelated { image: root.manifest.digest.clone() }),
        _ => Ok(by_config),
    }
}

/// How a document is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As a referrer: a Sigstore bundle for each signature, or the envelope itself where it is none.
    Referrer,
    /// As a layer under the tag `.att`.
    Tag,
}

/// What was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// As a bundle that refers to the image.
    Bundle(Digest),
    /// As an envelope that refers to the image, and why it is no bundle.
    Envelope(Digest, String),
    /// Under a tag.
    Tag(String),
    /// It was there already.
    Already,
}

/// Where things are kept.
#[derive(Clone, Copy)]
pub struct Keeper<'a, 's> {
    /// What is written under shared tags.
    pub settling: &'s Settling<'a>,
    /// The place.
    pub repository: &'a dyn Repository,
    /// What stands before tags.
    pub prefix: &'s str,
    /// When it is done, RFC 3339.
    pub created: &'s str,
}

/// Why a signature is in no bundle; `None` where it can be.
fn no_bundle(envelope: &Envelope, signature: &Signature, keys: &[PublicKey]) -> Option<String> {
    if signature.certificate.is_some() && certificate_of(signature).is_none() {
        return Some("its certificate cannot be read".to_owned());
    }
    if signature.certificate.is_some() && signature.timestamps.is_empty() {
        return Some("nothing proves when its certificate signed".to_owned());
    }
    if let Err(error) = Claim::parse(&envelope.payload) {
        return Some(error.to_string());
    }
    let subjects = subjects_of(&envelope.payload);
    if subjects > MAX_SUBJECTS {
        return Some(format!("it has {subjects} subjects, and readers of bundles take {MAX_SUBJECTS}"));
    }
    if envelope.payload.len() > MAX_BUNDLE / 2 {
        return Some("it is too long for a bundle".to_owned());
    }
    let header = pae_header(&envelope.payload_type, envelope.payload.len());
    let scheme = keys.iter().find_map(|key| key.verify(&[&header, &envelope.payload], &signature.sig).ok());
    (scheme == Some(Scheme::RsaPssSha256)).then(|| format!("its signature is {}", Scheme::RsaPssSha256))
}

/// How many subjects a statement has.
fn subjects_of(payload: &[u8]) -> usize {
    #[derive(serde::Deserialize)]
    struct Statement {
        #[serde(default)]
        subject: Vec<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Statement>(payload).map_or(0, |statement| statement.subject.len())
}

/// The certificate of a signature.
fn certificate_of(signature: &Signature) -> Option<Certificate> {
    Certificate::read(signature.certificate.as_deref()?).ok()
}

/// The bundle of a signature, with its certificate and timestamps.
fn bundle_of(envelope: &Envelope, signature: &Signature, keys: &[PublicKey]) -> Vec<u8> {
    let tokens = signature.timestamps.iter().filter(|one| one.kind == TIMESTAMP_TSP);
    let timestamps: Vec<Vec<u8>> = tokens.map(|one| stamp::response_of(&one.data)).collect();
    let material = |verifier| Material { verifier, chain: &[], entries: &[], timestamps: &timestamps };
    if let Some(leaf) = certificate_of(signature) {
        return material(Verifier::Certificate(&leaf)).bundle_of_envelope(envelope, signature);
    }
    let header = pae_header(&envelope.payload_type, envelope.payload.len());
    let made = |key: &&PublicKey| holds(key, &[&header, &envelope.payload], &signature.sig).is_ok();
    match keys.iter().find(made) {
        Some(key) => material(Verifier::Key(key)).bundle_of_envelope(envelope, signature),
        None => sigstore::of_envelope(envelope, signature, &signature.key_id),
    }
}

/// Keeps a document with a manifest. The signatures are not made anew. With each comes what of it is written under a tag
/// that others write too: it is kept once that is settled.
pub fn keep(
    document: &Document,
    to: &Descriptor,
    form: Form,
    keys: &[PublicKey],
    keeper: &Keeper<'_, '_>,
) -> Result<Vec<(Kept, Option<Ticket>)>, SharedError> {
    let envelope = &document.envelope;
    let bytes = envelope.to_json();
    if form == Form::Tag {
        let tag = format!("{}{}", keeper.prefix, to.digest.tag(Tagged::Attestation.suffix()));
        let layer = Layer::attestation(bytes, &document.predicate_type);
        let new = attached::append(keeper.settling, keeper.repository, &tag, &layer, Earlier::Keep, |_| true)?;
        return Ok(vec![if new.is_some() { (Kept::Tag(tag), new) } else { (Kept::Already, None) }]);
    }
    let there = there(&to.digest, document, keeper)?;
    let mut kept = Vec::new();
    let mut whole = None;
    for signature in &envelope.signatures {
        if let Some(reason) = no_bundle(envelope, signature, keys) {
            whole.get_or_insert(reason);
        } else if there.contains(&signature.sig) {
            kept.push((Kept::Already, None));
        } else {
            let bundle = bundle_of(envelope, signature, keys);
            let referrer = attached::bundle_referrer(&bundle, &document.predicate_type, keeper.created);
            let Referred { digest, ticket } = refer(to, &referrer, keeper)?;
            kept.push((Kept::Bundle(digest), ticket));
        }
    }
    if let Some(reason) = whole {
        kept.push(if envelope.signatures.iter().all(|one| there.contains(&one.sig)) {
            (Kept::Already, None)
        } else {
            let referrer = envelope_referrer(&bytes, &document.predicate_type, keeper.created);
            let Referred { digest, ticket } = refer(to, &referrer, keeper)?;
            (Kept::Envelope(digest, reason), ticket)
        });
    }
    Ok(kept)
}

fn refer(to: &Descriptor, referrer: &Referrer<'_>, keeper: &Keeper<'_, '_>) -> Result<Referred, SharedError> {
    attached::refer(keeper.settling, keeper.repository, to, referrer)
}

/// The signatures of this very payload that referrers have already.
fn there(of: &Digest, document: &Document, keeper: &Keeper<'_, '_>) -> Result<Vec<Vec<u8>>, RepositoryError> {
    let mut there = Vec::new();
    found::each(&[keeper.repository], keeper.prefix, of, Sought::Attestations, |found| {
        let (Content::Bundle(envelope) | Content::Envelope(envelope, _)) = found.content else { return };
        if found.place.starts_with("referrer ") && envelope.payload == document.envelope.payload {
            there.extend(envelope.signatures.into_iter().map(|one| one.sig));
        }
    })?;
    Ok(there)
}

/// Whether a document is not too long to be kept.
pub fn judge_length(document: &Document) -> Result<(), Refused> {
    let size = document.envelope.payload.len().div_ceil(3) * 4;
    if size as u64 > MAX_LAYER - (1 << 20) { Err(Refused::Large { size }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::collection::{COLLECTION_TYPE, COMMAND_RUN_TYPE};
    use crate::image::manifest::OCI_MANIFEST;
    use crate::sign::{KeyKind, PrivateKey, Signer};

    const DOCKER: &str = "https://witness.dev/attestations/docker/v0.1";

    fn hex(text: &str) -> String {
        Digest::of(text.as_bytes()).hex().to_owned()
    }

    fn subject(name: &str, of: &str) -> Value {
        json!({"name": name, "digest": {"sha256": hex(of)}})
    }

    fn document(kind: &str, subjects: &[Value], predicate: &Value) -> Document {
        try_document(kind, subjects, predicate).expect("a document")
    }

    fn try_document(kind: &str, subjects: &[Value], predicate: &Value) -> Result<Document, Refused> {
        let key = PrivateKey::generate(KeyKind::Ed25519).expect("a key");
        let statement = json!({"_type": crate::statement::STATEMENT_V1, "subject": subjects, "predicateType": kind,
            "predicate": predicate});
        let signers: [&dyn Signer; 1] = [&key];
        let envelope = Envelope::seal(statement.to_string().into_bytes(), PAYLOAD_TYPE, &signers).expect("signed");
        Document::read("d", &envelope.to_json(), std::slice::from_ref(key.public_key()))
    }

    fn collection(name: &str, code: Option<i64>, subjects: &[Value]) -> Document {
        let run = code.map(|code| json!({"type": COMMAND_RUN_TYPE, "attestation": {"cmd": ["x"], "exitcode": code}}));
        let entries: Vec<_> = run.into_iter().collect();
        document(COLLECTION_TYPE, subjects, &json!({"name": name, "attestations": entries}))
    }

    fn part(text: &str, config: Option<&str>) -> Part {
        Part {
            manifest: Descriptor::of(OCI_MANIFEST, text.as_bytes()),
            config: config.map(|config| Digest::of(config.as_bytes())),
        }
    }

    #[test]
    fn rule_16_nothing_of_a_failed_run_is_attached() {
        let judged = |documents: &[Document], optional| -> Vec<bool> {
            judge_runs(documents, optional).iter().map(Result::is_ok).collect()
        };
        let good = collection("build", Some(0), &[]);
        let own = |of: &Document| {
            let run = json!({"name": RUN_SUBJECT, "digest": {"sha256": of.payload_sha256()}});
            document("https://slsa.dev/provenance/v1", &[run], &json!({}))
        };
        assert_eq!(judged(&[good.clone(), own(&good)], false), [true, true]);
        assert_eq!(judged(&[own(&good)], true), [false], "nobody knows how its run ended");
        for (failed, optional) in [
            (collection("build#failed", Some(0), &[]), true),
            (collection("build#failed", Some(1), &[]), true),
            (collection("build", Some(1), &[]), true),
            (collection("build", Some(143), &[]), true),
            (collection("build", None, &[]), false),
        ] {
            let own = own(&failed);
            assert_eq!(judged(&[good.clone(), failed, own], optional), [true, false, false]);
        }
        assert_eq!(judged(&[collection("scan", None, &[])], true), [true]);
        let at_rest = json!({"name": "scan", "attestations": [], "affiant": {"ending": {"kind": "none"}}});
        assert_eq!(judged(&[document(COLLECTION_TYPE, &[], &at_rest)], false), [true], "no command was run");
        let summary = |result: &str| try_document(vsa::TYPE, &[], &json!({"verificationResult": result}));
        assert!(summary(vsa::PASSED).is_ok());
        assert!(matches!(summary(vsa::FAILED), Err(Refused::Summary)));
        assert!(matches!(try_document(SIGN, &[], &json!({})), Err(Refused::Signature)));
    }

    #[test]
    fn only_what_names_the_image_is_attached() {
        let parts = [part("index", None), part("one", Some("config one")), part("two", Some("config two"))];
        let found = |document: &Document| -> Option<Vec<usize>> {
            let places = named(document, &parts).ok()?;
            let at = |part: &&Part| parts.iter().position(|one| one.manifest.digest == part.manifest.digest);
            Some(places.iter().filter_map(at).collect())
        };
        let of = |subjects: &[Value]| collection("build", Some(0), subjects);
        let docker = |label: &str, text: &str| subject(&format!("{DOCKER}/{label}:x"), text);
        assert_eq!(found(&of(&[docker("imagedigest", "index"), docker("imagedigest", "one")])), Some(vec![0]));
        assert_eq!(found(&of(&[docker("imagedigest", "two")])), Some(vec![2]));
        assert_eq!(found(&of(&[docker("imageid", "config one")])), Some(vec![1]));
        for other in [
            docker("materialdigest", "index"),
            docker("imagereference", "one"),
            // An id is no digest of a manifest, and a user's name says nothing.
            docker("imageid", "one"),
            docker("imagedigest", "other"),
            subject("image", "index"),
            subject("https://witness.dev/attestations/product/v0.1/file:index", "index"),
        ] {
            assert!(
                matches!(named(&of(std::slice::from_ref(&other)), &parts), Err(Refused::Unrelated { .. })),
                "{other}"
            );
        }
        let external = |name: &str, text: &str| document("https://a.example/t", &[subject(name, text)], &json!({}));
        assert_eq!(found(&external("r.example/app", "one")), Some(vec![1]));
        assert_eq!(found(&external("materialdigest:x", "one")), None);
        assert_eq!(found(&external("imagereference:one", "one")), None, "the digest of a text");
    }

    #[test]
    fn what_the_keys_have_not_signed_is_refused() {
        let key = |kind| PrivateKey::generate(kind).expect("a key");
        let (one, two, other) = (key(KeyKind::P256), key(KeyKind::Rsa { bits: 2048 }), key(KeyKind::P256));
        let statement = json!({"_type": crate::statement::STATEMENT_V1, "subject": [], "predicateType": "https://a.example/t",
            "predicate": {}});
        let signers: [&dyn Signer; 2] = [&one, &two];
        let envelope = Envelope::seal(statement.to_string().into_bytes(), PAYLOAD_TYPE, &signers).expect("signed");
        let read = |keys: &[PublicKey]| Document::read("d", &envelope.to_json(), keys);
        assert!(matches!(read(&[other.public_key().clone()]), Err(Refused::Key)));
        let kept = read(&[one.public_key().clone(), other.public_key().clone()]).expect("signed").envelope;
        assert_eq!(kept.signatures.len(), 1);
        assert_eq!(no_bundle(&kept, &kept.signatures[0], &[one.public_key().clone()]), None);
        let both = read(&[]).expect("not checked").envelope;
        assert_eq!(both.signatures.len(), 2);
        let keys = [one.public_key().clone(), two.public_key().clone()];
        assert!(
            no_bundle(&both, &both.signatures[1], &keys).is_some_and(|why| why.contains("PSS")),
            "cosign reads no PSS"
        );
        let bare = Envelope { signatures: Vec::new(), ..both };
        assert!(Document::read("d", &bare.to_json(), &[]).is_err());
    }
}
