//! Log entries as bundles and annotations bring them. Nothing is proven here.
//!
//! Sources: sigstore `protobuf-specs`, `sigstore_rekor.proto`; cosign's `SIGNATURE_SPEC.md` and `RekorBundle`;
//! sigstore-oci §2, §4, §8, §9.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body;
use super::json::{Bytes, Whole, base64, message};
use super::tree::MAX_HASHES;
use crate::evidence::strict::{self, List};

/// Longest body of an entry, in bytes. One with a certificate has less than 10 kB.
pub const MAX_BODY: usize = 1024 * 1024;
/// Longest entry and longest old bundle, in bytes of JSON.
const MAX_DOCUMENT: usize = 4 * MAX_BODY;
/// Longest id of a log, in bytes.
const MAX_ID: usize = 64;

/// A document is no log entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log entry malformed: {reason}")]
pub struct EntryMalformed {
    /// What is wrong.
    pub reason: String,
}

fn malformed(reason: impl Into<String>) -> EntryMalformed {
    EntryMalformed { reason: reason.into() }
}

/// A log entry as it was read; nothing says yet that the log has it, or what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log, over all of the log's trees.
    pub index: u64,
    /// The id of the log.
    pub log_id: Vec<u8>,
    /// What kind of entry it is: `hashedrekord`, `dsse`, `intoto`.
    pub kind: String,
    /// Version of the kind.
    pub version: String,
    /// When the log says that it took it.
    pub integrated_time: Option<Timestamp>,
    /// The log's promise to keep it (`signedEntryTimestamp`), a signature.
    pub promise: Option<Vec<u8>>,
    /// What shows that it is in the log's tree.
    pub proof: Option<Proof>,
    /// What the log keeps, as it keeps it.
    pub body: Vec<u8>,
}

/// What shows that an entry is in a log's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The place in this tree.
    pub index: u64,
    /// The root of the tree, as it is said to be.
    pub root: Vec<u8>,
    /// How many leaves the tree is said to have.
    pub size: u64,
    /// The hashes beside the path from the leaf to the root.
    pub hashes: Vec<Vec<u8>>,
    /// What the log has signed about the tree. Bundles of version 0.1 may lack it; then the proof shows nothing by itself.
    pub checkpoint: Option<String>,
}

message!(WrittenEntry {
    log_index / "log_index": Whole,
    log_id / "log_id": LogId,
    kind_version / "kind_version": KindVersion,
    integrated_time / "integrated_time": Whole,
    inclusion_promise / "inclusion_promise": Promise,
    inclusion_proof / "inclusion_proof": WrittenProof,
    canonicalized_body / "canonicalized_body": Bytes,
});
message!(LogId { key_id / "key_id": Bytes });
message!(KindVersion { kind / "kind": String, version / "version": String });
message!(Promise { signed_entry_timestamp / "signed_entry_timestamp": Bytes });
message!(WrittenProof {
    log_index / "log_index": Whole,
    root_hash / "root_hash": Bytes,
    tree_size / "tree_size": Whole,
    hashes / "hashes": List<Bytes, MAX_HASHES>,
    checkpoint / "checkpoint": Checkpoint,
});
message!(Checkpoint { envelope / "envelope": String });

/// cosign's annotation, and the same in its old bundle of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotation {
    #[serde(rename = "SignedEntryTimestamp")]
    promise: String,
    #[serde(rename = "Payload")]
    payload: Payload,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    body: String,
    #[serde(rename = "integratedTime")]
    integrated_time: i64,
    #[serde(rename = "logIndex")]
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

impl Entry {
    /// Reads one `TransparencyLogEntry` in protobuf's JSON form, which is what Rekor 2 answers.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryMalformed> {
        let written: WrittenEntry = document(bytes)?;
        Self::of(written)
    }

    pub(crate) fn of(written: WrittenEntry) -> Result<Self, EntryMalformed> {
        let missing = |what: &str| malformed(format!("`{what}` is missing"));
        let log_id = written.log_id.and_then(|id| id.key_id).ok_or_else(|| missing("logId.keyId"))?.0;
        let said = written.kind_version.ok_or_else(|| missing("kindVersion"))?;
        let promise = match written.inclusion_promise {
            None => None,
            Some(promise) => Some(
                promise
                    .signed_entry_timestamp
                    .filter(|signature| !signature.0.is_empty())
                    .ok_or_else(|| missing("inclusionPromise.signedEntryTimestamp"))?
                    .0,
            ),
        };
        let body = written.canonicalized_body.map(|body| body.0).unwrap_or_default();
        Self {
            index: natural(written.log_index, "logIndex")?,
            log_id,
            kind: said.kind.unwrap_or_default(),
            version: said.version.unwrap_or_default(),
            integrated_time: time(written.integrated_time.unwrap_or_default().0)?,
            promise,
            proof: written.inclusion_proof.map(Proof::of).transpose()?,
            body,
        }
        .limited()
    }

    /// Reads cosign's annotation `dev.sigstore.cosign/bundle`. What kind it is, is taken from the body.
    pub fn from_annotation(text: &str) -> Result<Self, EntryMalformed> {
        Self::of_annotation(&document(text.as_bytes())?)
    }

    fn of_annotation(annotation: &Annotation) -> Result<Self, EntryMalformed> {
        // The promise is over the text of the base64, so only the one that is written counts.
        let decoded = |text: &str, what: &str| {
            STANDARD.decode(text).map_err(|error| malformed(format!("`{what}` is no base64: {error}")))
        };
        let body = decoded(&annotation.payload.body, "body")?;
        let (kind, version) = body::kind_of(&body).map_err(malformed)?;
        let log_id = &annotation.payload.log_id;
        if log_id.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(malformed("`logID` has capital letters"));
        }
        Self {
            index: annotation.payload.log_index,
            log_id: hex::decode(log_id).map_err(|error| malformed(format!("`logID` is no hex: {error}")))?,
            kind,
            version,
            integrated_time: time(annotation.payload.integrated_time)?,
            promise: Some(decoded(&annotation.promise, "SignedEntryTimestamp")?),
            proof: None,
            body,
        }
        .limited()
    }

    fn limited(self) -> Result<Self, EntryMalformed> {
        if self.body.is_empty() {
            return Err(malformed("`canonicalizedBody` is missing"));
        }
        if self.body.len() > MAX_BODY {
            return Err(malformed(format!("a body of {} bytes; {MAX_BODY} are read", self.body.len())));
        }
        if self.log_id.is_empty() || self.log_id.len() > MAX_ID {
            return Err(malformed(format!("an id of {} bytes", self.log_id.len())));
        }
        if self.promise.is_some() && self.integrated_time.is_none() {
            return Err(malformed("a promise without the time that it is about"));
        }
        Ok(self)
    }

    /// The `TransparencyLogEntry` of a bundle.
    pub fn to_json(&self) -> Value {
        let mut written = json!({
            "logIndex": self.index.to_string(),
            "logId": { "keyId": base64(&self.log_id) },
            "kindVersion": { "kind": self.kind, "version": self.version },
        });
        if let Some(time) = self.integrated_time {
            written["integratedTime"] = time.as_second().to_string().into();
        }
        if let Some(promise) = &self.promise {
            written["inclusionPromise"] = json!({ "signedEntryTimestamp": base64(promise) });
        }
        if let Some(proof) = &self.proof {
            written["inclusionProof"] = json!({
                "logIndex": proof.index.to_string(),
                "rootHash": base64(&proof.root),
                "treeSize": proof.size.to_string(),
                "hashes": proof.hashes.iter().map(|hash| base64(hash)).collect::<Vec<_>>(),
            });
            if let Some(checkpoint) = &proof.checkpoint {
                written["inclusionProof"]["checkpoint"] = json!({ "envelope": checkpoint });
            }
        }
        written["canonicalizedBody"] = base64(&self.body).into();
        written
    }

    /// cosign's annotation `dev.sigstore.cosign/bundle`; there is none for an entry without promise.
    pub fn to_annotation(&self) -> Option<String> {
        let (promise, time) = (self.promise.as_ref()?, self.integrated_time?);
        let payload = json!({
            "body": base64(&self.body),
            "integratedTime": time.as_second(),
            "logIndex": self.index,
            "logID": hex::encode(&self.log_id),
        });
        Some(json!({ "SignedEntryTimestamp": base64(promise), "Payload": payload }).to_string())
    }
}

impl Proof {
    fn of(written: WrittenProof) -> Result<Self, EntryMalformed> {
        let hash = |bytes: Bytes, what: &str| {
            if bytes.0.len() == 32 { Ok(bytes.0) } else { Err(malformed(format!("`{what}` is no SHA-256"))) }
        };
        let hashes = written.hashes.unwrap_or_default().0;
        let root = written.root_hash.ok_or_else(|| malformed("`inclusionProof.rootHash` is missing"))?;
        Ok(Self {
            index: natural(written.log_index, "inclusionProof.logIndex")?,
            root: hash(root, "inclusionProof.rootHash")?,
            size: natural(written.tree_size, "inclusionProof.treeSize")?,
            hashes: hashes.into_iter().map(|one| hash(one, "inclusionProof.hashes")).collect::<Result<_, _>>()?,
            checkpoint: written.checkpoint.and_then(|checkpoint| checkpoint.envelope),
        })
    }
}

/// Refuses entries that stand twice: one entry is no two witnesses.
pub(crate) fn no_duplicates(entries: &[Entry]) -> Result<(), EntryMalformed> {
    for (at, entry) in entries.iter().enumerate() {
        if entries[..at].iter().any(|other| other.index == entry.index && other.log_id == entry.log_id) {
            return Err(malformed(format!("entry {} of the log {} twice", entry.index, hex::encode(&entry.log_id))));
        }
    }
    Ok(())
}

/// cosign's bundle of a file, from before Sigstore bundles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldBundle {
    /// The signature over the file.
    pub signature: Vec<u8>,
    /// The signer's certificate, a PEM file.
    pub certificate: Option<Vec<u8>>,
    /// The signer's key where that stands in the place of a certificate, a PEM file. Nothing makes it a trusted one.
    pub key: Option<Vec<u8>>,
    /// What the log has about it.
    pub entry: Option<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOld {
    #[serde(rename = "base64Signature")]
    signature: String,
    cert: Option<String>,
    #[serde(rename = "rekorBundle")]
    log: Option<Annotation>,
}

impl OldBundle {
    /// Reads `{"base64Signature", "cert", "rekorBundle"}`; the certificate is PEM, or that in base64.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryMalformed> {
        let written: WrittenOld = document(bytes)?;
        let signature = STANDARD.decode(&written.signature);
        let signature = signature.map_err(|error| malformed(format!("`base64Signature` is no base64: {error}")))?;
        if signature.is_empty() {
            return Err(malformed("`base64Signature` is empty"));
        }
        let pem = written.cert.filter(|text| !text.is_empty()).map(|text| match STANDARD.decode(text.trim()) {
            Ok(pem) => pem,
            Err(_) => text.into_bytes(),
        });
        let contains = |pem: &[u8], what: &str| std::str::from_utf8(pem).is_ok_and(|text| text.contains(what));
        let (certificate, key) = match pem {
            None => (None, None),
            Some(pem) if contains(&pem, "PUBLIC KEY-----") => (None, Some(pem)),
            Some(pem) if contains(&pem, "-----BEGIN CERTIFICATE-----") => (Some(pem), None),
            Some(_) => return Err(malformed("`cert` is neither a certificate nor a key")),
        };
        Ok(Self { signature, certificate, key, entry: written.log.as_ref().map(Entry::of_annotation).transpose()? })
    }
}

/// A document whose objects have no member twice.
fn document<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, EntryMalformed> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(malformed(format!("{} bytes; {MAX_DOCUMENT} are read", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
    strict::document(text).map_err(|error| malformed(error.to_string()))?;
    serde_json::from_str(text).map_err(|error| malformed(error.to_string()))
}

fn natural(number: Option<Whole>, what: &str) -> Result<u64, EntryMalformed> {
    u64::try_from(number.unwrap_or_default().0).map_err(|_| malformed(format!("`{what}` is negative")))
}

/// None is written as 0.
fn time(seconds: i64) -> Result<Option<Timestamp>, EntryMalformed> {
    match seconds {
        0 => Ok(None),
        1.. => Timestamp::from_second(seconds).map(Some).map_err(|_| malformed(format!("the time {seconds}"))),
        _ => Err(malformed(format!("the time {seconds}"))),
    }
}
