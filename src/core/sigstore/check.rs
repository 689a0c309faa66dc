//! Whether a log has an entry, and whether the entry is about just this signature.
//!
//! Every binding is compared: the bytes that were signed, the signature, the certificate or key, then the log's promise, its
//! checkpoint, the place in its tree, and the time in which its key is to be believed (sigstore-oci §8, §9, §12).

use std::cell::OnceCell;

use jiff::Timestamp;
use sha2::Digest as _;

use super::body::{Body, Named, Pair, Tiled};
use super::entry::{Entry, Proof};
use super::json::base64;
use super::note::{Checkpoint, NoteError};
use super::root::{Log, Window, may_be_called};
use super::tree::{self, TreeError};
use crate::digest::sha256_hex;
use crate::dsse::Envelope;
use crate::evidence::strict;
use crate::sign::{PublicKey, pem};
use crate::trust::Certificate;

/// Who is said to have signed.
#[derive(Clone, Copy, Debug)]
pub enum Verifier<'a> {
    /// The leaf certificate of the signer.
    Certificate(&'a Certificate),
    /// A key that is trusted.
    Key(&'a PublicKey),
}

impl Verifier<'_> {
    fn public_key(&self) -> &PublicKey {
        match self {
            Self::Certificate(certificate) => certificate.public_key(),
            Self::Key(key) => key,
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Certificate(certificate) => certificate_label(certificate.der()),
            Self::Key(key) => key_label(key),
        }
    }

    /// Whether these bytes in DER are the very certificate, or the key in whatever form.
    fn is(&self, der: &[u8], is_certificate: bool) -> bool {
        match self {
            Self::Certificate(certificate) => is_certificate && certificate.der() == der,
            Self::Key(key) => !is_certificate && PublicKey::from_spki(der).is_ok_and(|other| other == **key),
        }
    }
}

fn certificate_label(der: &[u8]) -> String {
    format!("the certificate {}", sha256_hex(der))
}

fn key_label(key: &PublicKey) -> String {
    format!("the key {}", key.key_id())
}

/// What an entry must be about. Digests are computed once, however many entries are compared with them.
#[derive(Debug)]
pub struct Signed<'a> {
    message: &'a [&'a [u8]],
    signature: &'a [u8],
    verifier: Verifier<'a>,
    envelope: Option<&'a Envelope>,
    envelope_bytes: Option<&'a [u8]>,
    sha256: OnceCell<[u8; 32]>,
    sha384: OnceCell<Vec<u8>>,
    sha512: OnceCell<Vec<u8>>,
    payload: OnceCell<String>,
    document: OnceCell<String>,
}

impl<'a> Signed<'a> {
    /// A signature over the concatenation of `message`: a payload or file; for an envelope header and payload of its
    /// pre-authentication encoding.
    pub fn new(message: &'a [&'a [u8]], signature: &'a [u8], verifier: Verifier<'a>) -> Self {
        Self {
            message,
            signature,
            verifier,
            envelope: None,
            envelope_bytes: None,
            sha256: OnceCell::new(),
            sha384: OnceCell::new(),
            sha512: OnceCell::new(),
            payload: OnceCell::new(),
            document: OnceCell::new(),
        }
    }

    /// The envelope that the signature is in.
    #[must_use]
    pub fn with_envelope(mut self, envelope: &'a Envelope) -> Self {
        self.envelope = Some(envelope);
        self
    }

    /// The envelope as it was stored and as the log must have got it: that of an attestation under a tag.
    #[must_use]
    pub fn with_envelope_bytes(mut self, bytes: &'a [u8]) -> Self {
        self.envelope_bytes = Some(bytes);
        self
    }

    /// The SHA-256 of the message, where it is known and the message may not be here.
    #[must_use]
    pub fn with_sha256(self, sha256: [u8; 32]) -> Self {
        let _ = self.sha256.set(sha256);
        self
    }

    fn hash<H: sha2::Digest>(&self) -> Vec<u8> {
        self.message.iter().fold(H::new(), H::chain_update).finalize().to_vec()
    }

    /// The digest of the message, by either of the names that logs have for the hash.
    fn digest(&self, algorithm: &str) -> Option<&[u8]> {
        match algorithm {
            "sha256" | "SHA2_256" => Some(self.sha256.get_or_init(|| {
                self.message.iter().fold(sha2::Sha256::new(), sha2::Digest::chain_update).finalize().into()
            })),
            "sha384" | "SHA2_384" => Some(self.sha384.get_or_init(|| self.hash::<sha2::Sha384>())),
            "sha512" | "SHA2_512" => Some(self.sha512.get_or_init(|| self.hash::<sha2::Sha512>())),
            _ => None,
        }
    }
}

/// What is proven about an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The log, for people: its id and where it is.
    pub log: String,
    /// The log's id.
    pub log_id: Vec<u8>,
    /// The place in the log. Where there is only a proof of Rekor 1, the log has not signed this number.
    pub index: u64,
    /// When the log took it. Only a promise proves a time.
    pub time: Option<Timestamp>,
    /// Whether it was shown to be in the log's tree, and not only promised.
    pub included: bool,
    /// What kind of entry it is.
    pub kind: String,
    /// Version of the kind.
    pub version: String,
}

/// An entry does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// There is nobody to believe.
    #[error("no log is trusted: the trusted root names none")]
    NoLogs,
    /// Another log.
    #[error("the log entry is of the log {id}, which is not trusted")]
    UnknownLog {
        /// Its id in hex.
        id: String,
    },
    /// The trusted log has an id that no log of this kind has with this key.
    #[error("the trusted log {log} cannot have this entry: its id is not that of its key{}", named(.origin))]
    Origin {
        /// The log.
        log: String,
        /// The name that its URL gives it, where its id is made of one.
        origin: String,
    },
    /// A kind that is not known.
    #[error("a log entry of the kind {kind} {version} is not read")]
    Kind {
        /// The kind.
        kind: String,
        /// Its version.
        version: String,
    },
    /// The record cannot be read.
    #[error("the body of the log entry cannot be read: {reason}")]
    Body {
        /// Why.
        reason: String,
    },
    /// An entry about an envelope beside something that is none.
    #[error("the log entry is about an envelope, and this is none")]
    NotAnEnvelope,
    /// Other bytes were signed.
    #[error("the log entry is about another artifact: its digest is {found}, and what was signed here has {expected}")]
    Artifact {
        /// Digest of what is here.
        expected: String,
        /// Digest in the entry.
        found: String,
    },
    /// Another statement was signed.
    #[error(
        "the log entry is about another payload: its {what} is {found}, and that of the envelope here is {expected}"
    )]
    Payload {
        /// `digest` or `type`.
        what: &'static str,
        /// That of the payload here.
        expected: String,
        /// That in the entry.
        found: String,
    },
    /// Another document.
    #[error("the log entry is about another envelope: its digest is {found}, and the one here has {expected}")]
    Envelope {
        /// Digest of the envelope here.
        expected: String,
        /// Digest in the entry.
        found: String,
    },
    /// Another signature.
    #[error("the log entry is about another signature: it has {found}, and the one here is {expected}")]
    Signature {
        /// The one here, as the SHA-256 of its bytes.
        expected: String,
        /// The one in the entry.
        found: String,
    },
    /// Another signer.
    #[error("the log entry is about another signer: it has {found}, and the one here is {expected}")]
    Verifier {
        /// Who signed here.
        expected: String,
        /// Who signed what is in the entry.
        found: String,
    },
    /// Other bytes than the log makes of the same.
    #[error("the body of the log entry is not what the log writes for this signature")]
    Leaf,
    /// No log has signed anything about it.
    #[error("the log entry has neither a promise of the log nor a signed proof")]
    Unsigned,
    /// The promise does not hold.
    #[error("the promise in the log entry (signed entry timestamp) is not by the log {log} over this entry")]
    Promise {
        /// The log.
        log: String,
    },
    /// The checkpoint does not hold.
    #[error("the checkpoint in the log entry does not hold: {reason}")]
    Checkpoint {
        /// Why.
        #[source]
        reason: NoteError,
    },
    /// The proof says of the tree something else than the log.
    #[error("the proof in the log entry has the {what} {found}, and the log's checkpoint {expected}")]
    Copy {
        /// `tree size` or `root`.
        what: &'static str,
        /// What the log has signed.
        expected: String,
        /// What the proof says.
        found: String,
    },
    /// The log's tree was too small to have the entry.
    #[error(
        "the checkpoint in the log entry is older than the entry: it is about {size} entries, and this one is number {index}"
    )]
    Rewound {
        /// Leaves of the tree.
        size: u64,
        /// Place of the entry, counted from 0.
        index: u64,
    },
    /// Two places.
    #[error("the log entry has the index {index}, and its proof {proof}")]
    Index {
        /// That of the entry.
        index: u64,
        /// That of the proof.
        proof: u64,
    },
    /// The proof does not lead to the tree.
    #[error("the proof in the log entry does not hold: {reason}")]
    Inclusion {
        /// Why.
        #[source]
        reason: TreeError,
    },
    /// The log's key is not to be believed then.
    #[error("the log {log} is not trusted for {time}, only {window}")]
    Window {
        /// The log.
        log: String,
        /// The time of the entry.
        time: Timestamp,
        /// When it is trusted.
        window: Window,
    },
    /// The log's key is not to be believed any more, and nothing says that the entry is older.
    #[error("the log {log} is trusted only {window}, and nothing proves that the entry is of that time")]
    Retired {
        /// The log.
        log: String,
        /// When it is trusted.
        window: Window,
    },
}

fn named(origin: &str) -> String {
    if origin.is_empty() { String::new() } else { format!(" under the name `{}`", origin.escape_debug()) }
}

/// Whether one of `logs` has `entry`, and the entry is about `signed`.
///
/// `times` are those that timestamp authorities vouch for, or the real time where a trusted key signed and nothing else is
/// known. They matter where the log has promised no time: its key must be believed at each of them. Without any, the key
/// must be one that was never retired. A proof of inclusion proves no time.
pub fn check(entry: &Entry, signed: &Signed<'_>, logs: &[Log], times: &[Timestamp]) -> Result<Logged, EntryError> {
    if logs.is_empty() {
        return Err(EntryError::NoLogs);
    }
    let mut candidates = logs.iter().filter(|log| log.id == entry.log_id).peekable();
    if candidates.peek().is_none() {
        return Err(EntryError::UnknownLog { id: hex::encode(&entry.log_id) });
    }
    let (kind, version) = (entry.kind.as_str(), entry.version.as_str());
    if !Body::is_known(kind, version) {
        let shown = |text| strict::shown(text);
        return Err(EntryError::Kind { kind: shown(kind), version: shown(version) });
    }
    let body = Body::parse(&entry.body, kind, version).map_err(|reason| EntryError::Body { reason })?;
    match &body {
        Body::Hashed { hash, signed: pair } => {
            same_signature(signed, &pair.signature)?;
            same_verifier(signed, &pair.pem)?;
            same_artifact(signed, hash)?;
        }
        Body::Envelope { document, payload, payload_type, signatures } => {
            same_envelope(signed, document, payload, payload_type.as_deref(), signatures)?;
        }
        Body::Tiled(tiled) => same_leaf(signed, tiled, &entry.body)?,
    }
    // One key may be believed in several windows; the reason is that of the last.
    let mut result = Err(EntryError::NoLogs);
    for log in candidates {
        result = by_log(entry, log, times);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn same_signature(signed: &Signed<'_>, found: &[u8]) -> Result<(), EntryError> {
    if found == signed.signature {
        return Ok(());
    }
    let label = |signature: &[u8]| format!("one with the digest {}", sha256_hex(signature));
    Err(EntryError::Signature { expected: label(signed.signature), found: label(found) })
}

/// The certificate or key in a PEM file with just this one block.
fn same_verifier(signed: &Signed<'_>, file: &[u8]) -> Result<(), EntryError> {
    let text = std::str::from_utf8(file).unwrap_or_default();
    let blocks = pem::blocks(text);
    let found = match blocks.as_slice() {
        [block] => block.body.as_ref().map(|der| (der, block.label.ends_with("CERTIFICATE"))),
        _ => None,
    };
    let Some((der, is_certificate)) = found else {
        return Err(EntryError::Body { reason: "its verifier is not one certificate or key in PEM".to_owned() });
    };
    same_der(signed, der, is_certificate)
}

fn same_der(signed: &Signed<'_>, der: &[u8], is_certificate: bool) -> Result<(), EntryError> {
    if signed.verifier.is(der, is_certificate) {
        return Ok(());
    }
    let found = match PublicKey::from_spki(der) {
        Ok(key) if !is_certificate => key_label(&key),
        Err(error) if !is_certificate => format!("a key that cannot be read ({error})"),
        _ => certificate_label(der),
    };
    Err(EntryError::Verifier { expected: signed.verifier.label(), found })
}

fn same_artifact(signed: &Signed<'_>, hash: &Named) -> Result<(), EntryError> {
    let expected = signed.digest(&hash.algorithm).map(hex::encode);
    let expected =
        expected.ok_or_else(|| EntryError::Body { reason: format!("the hash {}", strict::shown(&hash.algorithm)) })?;
    if expected == hash.value {
        return Ok(());
    }
    let name = &hash.algorithm;
    Err(EntryError::Artifact {
        expected: format!("{name}:{expected}"),
        found: format!("{name}:{}", hash.value.escape_debug()),
    })
}

fn same_envelope(
    signed: &Signed<'_>,
    document: &Named,
    payload: &Named,
    payload_type: Option<&str>,
    signatures: &[Pair],
) -> Result<(), EntryError> {
    let envelope = signed.envelope.ok_or(EntryError::NotAnEnvelope)?;
    if let Some(other) = [document, payload].into_iter().find(|hash| hash.algorithm != "sha256") {
        return Err(EntryError::Body { reason: format!("the hash {}", strict::shown(&other.algorithm)) });
    }
    let with_signature: Vec<&Pair> = signatures.iter().filter(|pair| pair.signature == signed.signature).collect();
    if with_signature.is_empty() {
        return same_signature(signed, &signatures[0].signature);
    }
    let verifiers: Result<Vec<()>, _> = with_signature.iter().map(|pair| same_verifier(signed, &pair.pem)).collect();
    verifiers?;
    if let Some(found) = payload_type.filter(|found| *found != envelope.payload_type) {
        let (expected, found) = (strict::shown(&envelope.payload_type), strict::shown(found));
        return Err(EntryError::Payload { what: "type", expected, found });
    }
    let expected = signed.payload.get_or_init(|| sha256_hex(&envelope.payload));
    if *expected != payload.value {
        let (expected, found) = (expected.clone(), payload.value.escape_debug().to_string());
        return Err(EntryError::Payload { what: "digest", expected, found });
    }
    if let Some(bytes) = signed.envelope_bytes {
        let expected = signed.document.get_or_init(|| sha256_hex(bytes));
        if *expected != document.value {
            let (expected, found) = (expected.clone(), document.value.escape_debug().to_string());
            return Err(EntryError::Envelope { expected, found });
        }
    }
    Ok(())
}

/// A record in a log of tiles: all of it is known, so it is made anew and compared byte for byte.
fn same_leaf(signed: &Signed<'_>, tiled: &Tiled, body: &[u8]) -> Result<(), EntryError> {
    same_signature(signed, &tiled.signature)?;
    same_der(signed, &tiled.verifier, tiled.is_certificate)?;
    let expected = signed.digest(&tiled.algorithm);
    let expected =
        expected.ok_or_else(|| EntryError::Body { reason: format!("the hash {}", strict::shown(&tiled.algorithm)) })?;
    if expected != tiled.digest {
        let label = |digest: &[u8]| format!("{}:{}", tiled.algorithm, hex::encode(digest));
        return Err(EntryError::Artifact { expected: label(expected), found: label(&tiled.digest) });
    }
    let key = signed.verifier.public_key();
    if !may_be_called(key, &tiled.key_details) {
        let (kind, name) = (key.kind(), strict::shown(&tiled.key_details));
        return Err(EntryError::Body { reason: format!("a key of the kind {kind} that is said to be {name}") });
    }
    if tiled.leaf() == body { Ok(()) } else { Err(EntryError::Leaf) }
}

fn by_log(entry: &Entry, log: &Log, times: &[Timestamp]) -> Result<Logged, EntryError> {
    let tiled = Body::is_tiled(&entry.kind, &entry.version);
    let fits = if tiled {
        !log.origin.is_empty() && log.checkpoint_id.as_ref().unwrap_or(&log.id)[..] == log.tiled_id()
    } else {
        log.id == log.plain_id()
    };
    if !fits {
        let origin = if tiled { log.origin.clone() } else { String::new() };
        return Err(EntryError::Origin { log: log.label(), origin });
    }
    let time = match (&entry.promise, entry.integrated_time) {
        (Some(promise), Some(time)) => {
            if !log.has_signed(promised(entry, time).as_bytes(), promise) {
                return Err(EntryError::Promise { log: log.label() });
            }
            Some(time)
        }
        (Some(_), None) => return Err(EntryError::Promise { log: log.label() }),
        (None, _) => None,
    };
    let included = match &entry.proof {
        Some(proof) => by_proof(entry, proof, log, tiled)?,
        None => false,
    };
    if time.is_none() && !included {
        return Err(EntryError::Unsigned);
    }
    let promised = time.as_slice();
    let counted = if promised.is_empty() { times } else { promised };
    if let Some(time) = counted.iter().copied().find(|time| !log.window.covers(*time)) {
        return Err(EntryError::Window { log: log.label(), time, window: log.window });
    }
    if counted.is_empty() && log.window.end.is_some() {
        return Err(EntryError::Retired { log: log.label(), window: log.window });
    }
    Ok(Logged {
        log: log.label(),
        log_id: log.id.clone(),
        index: entry.index,
        time,
        included,
        kind: entry.kind.clone(),
        version: entry.version.clone(),
    })
}

/// What a promise is over: RFC 8785 of the four members. No text in it needs an escape.
fn promised(entry: &Entry, time: Timestamp) -> String {
    format!(
        r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
        base64(&entry.body),
        time.as_second(),
        hex::encode(&entry.log_id),
        entry.index
    )
}

/// Whether the proof shows that the log has the entry; without a checkpoint it shows nothing, but must not be wrong.
fn by_proof(entry: &Entry, proof: &Proof, log: &Log, tiled: bool) -> Result<bool, EntryError> {
    if tiled && proof.index != entry.index {
        return Err(EntryError::Index { index: entry.index, proof: proof.index });
    }
    let root = tree::Hash::try_from(proof.root.as_slice());
    let hashes = proof.hashes.iter().map(|hash| tree::Hash::try_from(hash.as_slice())).collect::<Result<Vec<_>, _>>();
    let (Ok(root), Ok(hashes)) = (root, hashes) else {
        return Err(EntryError::Body { reason: "a hash in its proof is no SHA-256".to_owned() });
    };
    if let Some(note) = &proof.checkpoint {
        let failed = |reason| EntryError::Checkpoint { reason };
        let checkpoint = Checkpoint::parse(note).map_err(failed)?;
        let verified = if tiled { checkpoint.verify_tiled(log) } else { checkpoint.verify_rekor1(log) };
        verified.map_err(failed)?;
        if checkpoint.size <= proof.index {
            return Err(EntryError::Rewound { size: checkpoint.size, index: proof.index });
        }
        if checkpoint.size != proof.size {
            let (expected, found) = (checkpoint.size.to_string(), proof.size.to_string());
            return Err(EntryError::Copy { what: "tree size", expected, found });
        }
        if checkpoint.root != root {
            let (expected, found) = (hex::encode(checkpoint.root), hex::encode(root));
            return Err(EntryError::Copy { what: "root", expected, found });
        }
    }
    let leaf = tree::leaf_hash(&entry.body);
    tree::check_inclusion(proof.index, proof.size, &leaf, &hashes, &root)
        .map_err(|reason| EntryError::Inclusion { reason })?;
    Ok(proof.checkpoint.is_some())
}
