//! Entries in transparency logs: Rekor 1 (`hashedrekord` 0.0.1, `dsse` 0.0.1) and Rekor 2 (`hashedrekord` 0.0.2).
//!
//! Source: sigstore/rekor `openapi.yaml` and its types, sigstore/rekor-tiles `rekor_service.proto`, recorded questions and
//! answers; sigstore-oci §8, §9. Logs are told digests and signatures; only `dsse` 0.0.1 sends what is signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::digest::sha256;
use crate::sign::{KeyKind, PublicKey};
use crate::trust::Certificate;

/// Where entries are made, below the service's address.
const PATHS: [&str; 2] = ["/api/v1/log/entries", "/api/v2/log/entries"];
/// Longest answer beside what was sent, in bytes.
pub const MAX_ANSWER: usize = 1024 * 1024;
/// Most hashes of a proof: a tree of 2^63 leaves has no more.
const MAX_HASHES: usize = 63;

/// A generation of logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Rekor 1: promises an entry, and proves a time by it.
    One,
    /// Rekor 2: proves that the entry is there, and no time.
    Two,
}

impl Version {
    /// Where entries are made.
    pub const fn path(self) -> &'static str {
        match self {
            Self::One => PATHS[0],
            Self::Two => PATHS[1],
        }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// The generation of this number.
    pub const fn of_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::One),
            2 => Some(Self::Two),
            _ => None,
        }
    }
}

/// By what a signature is checked.
#[derive(Clone, Copy)]
pub enum Verifier<'a> {
    /// The key of a certificate.
    Certificate(&'a Certificate),
    /// A key.
    Key(&'a PublicKey),
}

impl Verifier<'_> {
    fn pem(self) -> String {
        match self {
            Self::Certificate(certificate) => certificate.to_pem(),
            Self::Key(key) => key.to_pem(),
        }
    }

    fn key(&self) -> &PublicKey {
        match self {
            Self::Certificate(certificate) => certificate.public_key(),
            Self::Key(key) => key,
        }
    }
}

/// What an entry is made of.
pub struct Submission<'a> {
    /// The signed bytes, in parts.
    pub message: &'a [&'a [u8]],
    /// SHA-256 of the signed bytes: of the message, or of the pre-authentication encoding of an envelope.
    pub sha256: [u8; 32],
    /// The signature over them.
    pub signature: &'a [u8],
    /// Who signed.
    pub verifier: Verifier<'a>,
    /// The envelope as it is stored, where the log is to have it whole (`dsse` 0.0.1).
    pub envelope: Option<&'a [u8]>,
}

/// A signature has no place in a log, or what the log answered is not about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RekorError {
    /// Logs know no such keys, as we sign with them.
    #[error("a log takes no signature of a {kind} key; P-256 and RSA are taken")]
    Kind {
        /// The key.
        kind: KeyKind,
    },
    /// Not an answer.
    #[error("its answer is no entry: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// The entry of something else.
    #[error("its answer is the entry of another artifact: its {what} is not ours")]
    Other {
        /// Which part.
        what: &'static str,
    },
    /// A proof of something else.
    #[error("its answer proves another entry: {reason}")]
    Proof {
        /// What does not fit.
        reason: String,
    },
}

pub(super) fn malformed(reason: impl Into<String>) -> RekorError {
    RekorError::Malformed { reason: reason.into() }
}

/// An entry that a log has made.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// `TransparencyLogEntry` as bundles hold it.
    pub bundled: Value,
    /// What an annotation beside an image's signature holds: only an entry with a promise has it.
    pub annotation: Option<String>,
    /// The time that the log promises, in seconds since 1970.
    pub time: Option<i64>,
    /// Its number in the log.
    pub index: u64,
    /// What the log answered, as it did: [`Submission::answer`] reads it again.
    pub answer: Vec<u8>,
}

impl Submission<'_> {
    /// Whether it can be entered.
    pub fn check(&self) -> Result<(), RekorError> {
        details(self.verifier.key()).map(drop)
    }

    /// The document that asks for an entry.
    pub fn request(&self, version: Version) -> Result<Vec<u8>, RekorError> {
        let details = details(self.verifier.key())?;
        let document = match (version, self.envelope) {
            (Version::One, None) => self.hashed_one(),
            (Version::One, Some(envelope)) => json!({
                "apiVersion": "0.0.1", "kind": "dsse",
                "spec": { "proposedContent": {
                    "envelope": String::from_utf8_lossy(envelope),
                    "verifiers": [STANDARD.encode(self.verifier.pem())],
                } },
            }),
            (Version::Two, _) => json!({ "hashedRekordRequestV002": {
                "digest": STANDARD.encode(self.sha256),
                "signature": { "content": STANDARD.encode(self.signature), "verifier": self.verifier_two(details) },
            } }),
        };
        Ok(document.to_string().into_bytes())
    }

    fn hashed_one(&self) -> Value {
        json!({
            "apiVersion": "0.0.1", "kind": "hashedrekord",
            "spec": {
                "data": { "hash": { "algorithm": "sha256", "value": hex::encode(self.sha256) } },
                "signature": {
                    "content": STANDARD.encode(self.signature),
                    "publicKey": { "content": STANDARD.encode(self.verifier.pem()) },
                },
            },
        })
    }

    fn verifier_two(&self, details: &str) -> Value {
        let mut verifier = match self.verifier {
            Verifier::Certificate(certificate) => {
                json!({ "x509Certificate": { "rawBytes": STANDARD.encode(certificate.der()) } })
            }
            Verifier::Key(key) => json!({ "publicKey": { "rawBytes": STANDARD.encode(key.to_der()) } }),
        };
        verifier["keyDetails"] = details.into();
        verifier
    }

    /// The body that the entry must have.
    fn expected(&self, version: Version) -> Result<Value, RekorError> {
        Ok(match (version, self.envelope) {
            (Version::One, None) => self.hashed_one(),
            (Version::One, Some(envelope)) => json!({
                "apiVersion": "0.0.1", "kind": "dsse",
                "spec": {
                    "envelopeHash": { "algorithm": "sha256", "value": hex::encode(sha256(envelope)) },
                    "payloadHash": { "algorithm": "sha256", "value": hex::encode(payload_sha256(envelope)?) },
                    "signatures": [{
                        "signature": STANDARD.encode(self.signature),
                        "verifier": STANDARD.encode(self.verifier.pem()),
                    }],
                },
            }),
            (Version::Two, _) => json!({
                "apiVersion": "0.0.2", "kind": "hashedrekord",
                "spec": { "hashedRekordV002": {
                    "data": { "algorithm": "SHA2_256", "digest": STANDARD.encode(self.sha256) },
                    "signature": {
                        "content": STANDARD.encode(self.signature),
                        "verifier": self.verifier_two(details(self.verifier.key())?),
                    },
                } },
            }),
        })
    }

    /// What a log of the first generation calls its entry: the hash of its leaf in hex. All members of the body are written
    /// in the order of RFC 8785, and no text in it needs an escape.
    pub fn id(&self) -> Result<String, RekorError> {
        let body = self.expected(Version::One)?.to_string();
        Ok(hex::encode(sha256(&[&[0], body.as_bytes()].concat())))
    }

    /// Takes the answer, if it is an entry of just this submission, with a proof that fits itself. Whether the log is one
    /// to be believed is another question.
    pub fn answer(&self, version: Version, body: &[u8]) -> Result<LogEntry, RekorError> {
        let sent = self.envelope.map_or(0, |envelope| envelope.len() * 2);
        if body.len() > MAX_ANSWER + sent {
            return Err(malformed(format!("{} bytes", body.len())));
        }
        let (entry, own) = match version {
            Version::One => of_one(body)?,
            Version::Two => of_two(body)?,
        };
        let found: Value = serde_json::from_slice(&own).map_err(|error| malformed(error.to_string()))?;
        differs(&found, &self.expected(version)?, "body").map_or(Ok(()), |what| Err(RekorError::Other { what }))?;
        entry.proof.check(&own)?;
        Ok(LogEntry { answer: body.to_vec(), ..entry.entry })
    }
}

/// The first part in which two bodies differ, by its name.
fn differs(found: &Value, expected: &Value, name: &'static str) -> Option<&'static str> {
    const NAMES: [&str; 8] =
        ["kind", "data", "signature", "verifier", "envelopeHash", "payloadHash", "publicKey", "digest"];
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            if found.len() != expected.len() {
                return Some(name);
            }
            expected.iter().find_map(|(member, expected)| {
                let name = NAMES.iter().find(|known| **known == member.as_str()).copied().unwrap_or(name);
                found.get(member).map_or(Some(name), |found| differs(found, expected, name))
            })
        }
        _ => (found != expected).then_some(name),
    }
}

fn payload_sha256(envelope: &[u8]) -> Result<[u8; 32], RekorError> {
    let envelope =
        crate::dsse::Envelope::parse(envelope, envelope.len()).map_err(|error| malformed(error.to_string()))?;
    Ok(sha256(&envelope.payload))
}

/// How Rekor 2 calls a key, as we sign with it.
pub(super) fn details(key: &PublicKey) -> Result<&'static str, RekorError> {
    match key.kind() {
        KeyKind::P256 => Ok("PKIX_ECDSA_P256_SHA_256"),
        KeyKind::Rsa { bits: 2048 } => Ok("PKIX_RSA_PKCS1V15_2048_SHA256"),
        KeyKind::Rsa { bits: 3072 } => Ok("PKIX_RSA_PKCS1V15_3072_SHA256"),
        KeyKind::Rsa { bits: 4096 } => Ok("PKIX_RSA_PKCS1V15_4096_SHA256"),
        kind => Err(RekorError::Kind { kind }),
    }
}

struct Read {
    entry: LogEntry,
    proof: Proof,
}

/// A proof that an entry is in a tree.
struct Proof {
    index: u64,
    size: u64,
    root: Vec<u8>,
    hashes: Vec<Vec<u8>>,
    checkpoint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct One {
    body: String,
    integrated_time: i64,
    #[serde(rename = "logID")]
    log_id: String,
    log_index: u64,
    verification: Verification,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verification {
    signed_entry_timestamp: String,
    inclusion_proof: ProofOne,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProofOne {
    checkpoint: String,
    hashes: Vec<String>,
    log_index: u64,
    root_hash: String,
    tree_size: u64,
}

/// An answer of Rekor 1, and the entry's body.
fn of_one(body: &[u8]) -> Result<(Read, Vec<u8>), RekorError> {
    let all: Map<String, Value> = serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
    let mut all = all.into_iter();
    let (Some((_, entry)), None) = (all.next(), all.next()) else { return Err(malformed("not exactly one entry")) };
    let one: One = serde_json::from_value(entry).map_err(|error| malformed(error.to_string()))?;
    let hex = |text: &str| hex::decode(text).map_err(|_| malformed("a hash that is no hex"));
    let proof = &one.verification.inclusion_proof;
    let (log_id, root) = (hex(&one.log_id)?, hex(&proof.root_hash)?);
    let hashes = proof.hashes.iter().map(|hash| hex(hash)).collect::<Result<Vec<_>, _>>()?;
    let own = STANDARD.decode(&one.body).map_err(|_| malformed("a body that is no base64"))?;
    let kind: Value = serde_json::from_slice(&own).map_err(|error| malformed(error.to_string()))?;
    let set = &one.verification.signed_entry_timestamp;
    STANDARD.decode(set).map_err(|_| malformed("a promise that is no base64"))?;
    let bundled = json!({
        "logIndex": one.log_index.to_string(),
        "logId": { "keyId": STANDARD.encode(&log_id) },
        "kindVersion": { "kind": kind["kind"], "version": kind["apiVersion"] },
        "integratedTime": one.integrated_time.to_string(),
        "inclusionPromise": { "signedEntryTimestamp": set },
        "inclusionProof": proof_json(proof.log_index, &root, proof.tree_size, &hashes, &proof.checkpoint),
        "canonicalizedBody": one.body,
    });
    let annotation = json!({
        "SignedEntryTimestamp": set,
        "Payload": {
            "body": one.body, "integratedTime": one.integrated_time, "logIndex": one.log_index, "logID": one.log_id,
        },
    });
    let entry = LogEntry {
        bundled,
        annotation: Some(annotation.to_string()),
        time: Some(one.integrated_time),
        index: one.log_index,
        answer: Vec::new(),
    };
    let proof =
        Proof { index: proof.log_index, size: proof.tree_size, root, hashes, checkpoint: proof.checkpoint.clone() };
    Ok((Read { entry, proof }, own))
}

fn proof_json(index: u64, root: &[u8], size: u64, hashes: &[Vec<u8>], checkpoint: &str) -> Value {
    let hashes: Vec<_> = hashes.iter().map(|hash| STANDARD.encode(hash)).collect();
    json!({
        "logIndex": index.to_string(), "rootHash": STANDARD.encode(root), "treeSize": size.to_string(),
        "hashes": hashes, "checkpoint": { "envelope": checkpoint },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Two {
    #[serde(default)]
    log_index: String,
    log_id: LogId,
    kind_version: KindVersion,
    inclusion_proof: ProofTwo,
    canonicalized_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    key_id: String,
}

#[derive(Deserialize)]
struct KindVersion {
    kind: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProofTwo {
    #[serde(default)]
    log_index: String,
    root_hash: String,
    #[serde(default)]
    tree_size: String,
    #[serde(default)]
    hashes: Vec<String>,
    checkpoint: Checkpoint,
}

#[derive(Deserialize)]
struct Checkpoint {
    envelope: String,
}

/// An answer of Rekor 2, and the entry's body.
fn of_two(body: &[u8]) -> Result<(Read, Vec<u8>), RekorError> {
    let two: Two = serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
    let base64 = |text: &str| STANDARD.decode(text).map_err(|_| malformed("bytes that are no base64"));
    // What is zero is left out.
    let number = |text: &str| match text {
        "" => Ok(0),
        text => text.parse::<u64>().map_err(|_| malformed("a number that is none")),
    };
    let proof = two.inclusion_proof;
    let index = number(&two.log_index)?;
    let root = base64(&proof.root_hash)?;
    let hashes = proof.hashes.iter().map(|hash| base64(hash)).collect::<Result<Vec<_>, _>>()?;
    let own = base64(&two.canonicalized_body)?;
    base64(&two.log_id.key_id)?;
    let proof = Proof {
        index: number(&proof.log_index)?,
        size: number(&proof.tree_size)?,
        root,
        hashes,
        checkpoint: proof.checkpoint.envelope,
    };
    if proof.index != index {
        return Err(RekorError::Proof { reason: format!("of the entry {}, and not {index}", proof.index) });
    }
    let bundled = json!({
        "logIndex": index.to_string(),
        "logId": { "keyId": two.log_id.key_id },
        "kindVersion": { "kind": two.kind_version.kind, "version": two.kind_version.version },
        "inclusionProof": proof_json(index, &proof.root, proof.size, &proof.hashes, &proof.checkpoint),
        "canonicalizedBody": two.canonicalized_body,
    });
    let entry = LogEntry { bundled, annotation: None, time: None, index, answer: Vec::new() };
    Ok((Read { entry, proof }, own))
}

impl Proof {
    /// Whether it leads from the entry to its root (RFC 9162 §2.1.3.2), and the checkpoint is of that root.
    fn check(&self, body: &[u8]) -> Result<(), RekorError> {
        let wrong = |reason: &str| RekorError::Proof { reason: reason.to_owned() };
        if self.index >= self.size || self.hashes.len() > MAX_HASHES {
            return Err(wrong("it does not lie in its own tree"));
        }
        let mut hash = sha256(&[&[0], body].concat());
        let (mut at, mut last) = (self.index, self.size - 1);
        for sibling in &self.hashes {
            if last == 0 {
                return Err(wrong("it has hashes left over"));
            }
            if at & 1 == 1 || at == last {
                hash = sha256(&[&[1], &sibling[..], &hash].concat());
                while at & 1 == 0 && at != 0 {
                    at >>= 1;
                    last >>= 1;
                }
            } else {
                hash = sha256(&[&[1], &hash[..], sibling].concat());
            }
            at >>= 1;
            last >>= 1;
        }
        if last != 0 {
            return Err(wrong("hashes are missing"));
        }
        if self.root != hash {
            return Err(wrong("its hashes do not lead to its root"));
        }
        let mut lines = self.checkpoint.lines().skip(1);
        let (size, root) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        if size != self.size.to_string() || STANDARD.decode(root).ok().as_deref() != Some(&self.root) {
            return Err(wrong("its checkpoint is of another tree"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{PrivateKey, Signer as _};

    const ONE: &str = include_str!("../../../fixtures/cosign/api/rekor1-hashedrekord-cert.json");
    const DSSE: &str = include_str!("../../../fixtures/cosign/api/rekor1-dsse.json");
    const TWO: &str = include_str!("../../../fixtures/cosign/api/rekor2-hashedrekord-key.json");
    const PAE: &str = include_str!("../../../fixtures/cosign/api/rekor2-hashedrekord-cert-pae.json");

    fn base64(value: &Value) -> Vec<u8> {
        STANDARD.decode(value.as_str().expect("text")).expect("base64")
    }

    /// Of a recorded question: what it was made of.
    struct Recorded {
        version: Version,
        sha256: [u8; 32],
        signature: Vec<u8>,
        certificate: Option<Certificate>,
        key: Option<PublicKey>,
        envelope: Option<Vec<u8>>,
        request: Value,
        response: Value,
    }

    fn recorded(text: &str) -> Recorded {
        let record: Value = serde_json::from_str(text).expect("JSON");
        let (request, response) = (record["request"].clone(), record["response"].clone());
        let mut out = Recorded {
            version: Version::One,
            sha256: [0; 32],
            signature: Vec::new(),
            certificate: None,
            key: None,
            envelope: None,
            request: request.clone(),
            response,
        };
        if let Some(two) = request.get("hashedRekordRequestV002") {
            out.version = Version::Two;
            out.sha256 = base64(&two["digest"]).try_into().expect("32 bytes");
            out.signature = base64(&two["signature"]["content"]);
            let verifier = &two["signature"]["verifier"];
            if let Some(certificate) = verifier.get("x509Certificate") {
                out.certificate = Certificate::from_der(&base64(&certificate["rawBytes"])).ok();
            } else {
                out.key = PublicKey::from_der(&base64(&verifier["publicKey"]["rawBytes"])).ok();
            }
        } else if request["kind"] == "dsse" {
            let proposed = &request["spec"]["proposedContent"];
            let envelope = proposed["envelope"].as_str().expect("text");
            let value: Value = serde_json::from_str(envelope).expect("JSON");
            out.signature = base64(&value["signatures"][0]["sig"]);
            out.envelope = Some(envelope.as_bytes().to_vec());
            out.certificate = Certificate::read(&base64(&proposed["verifiers"][0])).ok();
        } else {
            let spec = &request["spec"];
            let hash = hex::decode(spec["data"]["hash"]["value"].as_str().expect("text")).expect("hex");
            out.sha256 = hash.try_into().expect("32 bytes");
            out.signature = base64(&spec["signature"]["content"]);
            out.certificate = Certificate::read_all(&base64(&spec["signature"]["publicKey"]["content"]))
                .ok()
                .map(|mut all| all.remove(0));
        }
        out
    }

    impl Recorded {
        fn submission(&self) -> Submission<'_> {
            let verifier = match (&self.certificate, &self.key) {
                (Some(certificate), _) => Verifier::Certificate(certificate),
                (None, Some(key)) => Verifier::Key(key),
                (None, None) => panic!("a recorded question has a certificate or key"),
            };
            let envelope = self.envelope.as_deref();
            Submission { message: &[], sha256: self.sha256, signature: &self.signature, verifier, envelope }
        }
    }

    #[test]
    fn recorded_questions_and_answers_of_rekor_2() {
        for text in [TWO, PAE] {
            let one = recorded(text);
            let own: Value =
                serde_json::from_slice(&one.submission().request(one.version).expect("a question")).expect("JSON");
            assert_eq!(own, one.request);
            let body = one.response.to_string();
            let entry = one.submission().answer(one.version, body.as_bytes()).expect("an entry");
            assert_eq!(entry.time, None);
            assert_eq!(entry.annotation, None);
            assert_eq!(entry.bundled["canonicalizedBody"], one.response["canonicalizedBody"]);
            // Of another artifact, with another proof, of another tree.
            let other = Submission { sha256: [7; 32], ..one.submission() };
            assert_eq!(other.answer(one.version, body.as_bytes()), Err(RekorError::Other { what: "digest" }));
            let mut wrong = one.response.clone();
            wrong["inclusionProof"]["hashes"][0] = STANDARD.encode([0; 32]).into();
            let refused = one.submission().answer(one.version, wrong.to_string().as_bytes());
            assert!(matches!(refused, Err(RekorError::Proof { .. })));
            let mut wrong = one.response.clone();
            let note = wrong["inclusionProof"]["checkpoint"]["envelope"].as_str().expect("text").to_owned();
            wrong["inclusionProof"]["checkpoint"]["envelope"] = note.replacen('\n', "\n1", 1).into();
            let refused = one.submission().answer(one.version, wrong.to_string().as_bytes());
            assert!(matches!(refused, Err(RekorError::Proof { .. })));
        }
    }

    #[test]
    fn recorded_questions_and_answers_of_rekor_1() {
        for text in [ONE, DSSE] {
            let one = recorded(text);
            let own: Value =
                serde_json::from_slice(&one.submission().request(one.version).expect("a question")).expect("JSON");
            let kind = &one.request["kind"];
            assert_eq!(&own["kind"], kind);
            let Value::Object(entry) = &one.response else { panic!("an entry") };
            let body = entry.values().next().expect("an entry")["body"].as_str().expect("text").to_owned();
            // The recorded question has a chain, of which the log keeps what it was sent: so its answer is not to ours.
            let mut answer = one.response.clone();
            let found: Value = serde_json::from_slice(&STANDARD.decode(&body).expect("base64")).expect("JSON");
            let expected = one.submission().expected(one.version).expect("a body");
            if found == expected {
                // The log calls it by the tree and this.
                let name = one.response.as_object().and_then(|all| all.keys().next()).expect("an entry");
                assert!(name.ends_with(&one.submission().id().expect("an id")), "{name}");
                let entry = one.submission().answer(one.version, answer.to_string().as_bytes()).expect("an entry");
                assert!(entry.time.is_some() && entry.annotation.is_some());
                continue;
            }
            assert!(matches!(
                one.submission().answer(one.version, answer.to_string().as_bytes()),
                Err(RekorError::Other { .. })
            ));
            let first = answer.as_object_mut().and_then(|all| all.values_mut().next()).expect("an entry");
            first["body"] = STANDARD.encode(expected.to_string()).into();
            // Now the proof is of another body.
            assert!(matches!(
                one.submission().answer(one.version, answer.to_string().as_bytes()),
                Err(RekorError::Proof { .. })
            ));
        }
    }

    #[test]
    fn other_keys_and_answers_are_refused() {
        let one = recorded(TWO);
        for bad in ["", "null", "[]", "{}", "{\"a\": {}}", "{\"a\": {}, \"b\": {}}"] {
            for version in [Version::One, Version::Two] {
                let refused = one.submission().answer(version, bad.as_bytes());
                assert!(matches!(refused, Err(RekorError::Malformed { .. })), "{bad}");
            }
        }
        let key = PrivateKey::generate(KeyKind::Ed25519).expect("a key");
        let submission = Submission { verifier: Verifier::Key(key.public_key()), ..one.submission() };
        assert!(matches!(submission.request(Version::Two), Err(RekorError::Kind { .. })));
    }
}
