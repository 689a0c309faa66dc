//! Entries of logs that are made later: what is written down while a log does not answer, and how its entry comes to the
//! signature afterwards. No key is needed for it, and nothing of it is secret.
//!
//! ```json
//! {"version": 1, "log": "https://rekor.example", "generation": 2, "sha256": "<hex>", "signature": "<base64>",
//!  "certificate": "<PEM>", "envelope": "<base64>", "registries": ["registry.example"],
//!  "places": [{"kind": "bundle", "keeper": "registry.example/app", "subject": "sha256:<hex>"}]}
//! ```
//! A record may have been written by somebody else. So the entry is compared with the record, and what it is put into must
//! hold the record's signature, digest and signer already.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rekor::{LogEntry, RekorError, Submission, Verifier, Version};
use super::sealer::Pending;
use super::{ServiceError, Services, sha256_of};
use crate::dsse::pae_header;
use crate::evidence::strict;
use crate::image::Digest;
use crate::image::sigstore::{self, Bundle, Content, MAX_PARTS, hint};
use crate::sign::PublicKey;
use crate::sigstore::Entry;
use crate::trust::Certificate;

/// The form of record that is written and read.
const FORM: u32 = 1;
/// Most places of one signature.
pub const MAX_PLACES: usize = 16;

/// Who signed.
#[derive(Clone, Debug, PartialEq)]
pub enum Signer {
    /// Who a certificate names.
    Certificate(Certificate),
    /// A key.
    Key(Box<PublicKey>),
}

/// Where the signature is kept that the entry belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
pub enum Place {
    /// A bundle in this file.
    File(#[serde(with = "written_path")] PathBuf),
    /// A bundle that refers to an image.
    Bundle {
        /// The repository, layout or archive, as it is named on the command line.
        keeper: String,
        /// The image.
        subject: Digest,
    },
    /// A layer of the manifest under a tag.
    Tag {
        /// As above.
        keeper: String,
        /// The image.
        subject: Digest,
        /// The tag.
        tag: String,
        /// Digest of the layer: of what was signed, or of the envelope.
        layer: Digest,
    },
    /// The layer of a referrer of an image.
    Referrer {
        /// As above.
        keeper: String,
        /// The image.
        subject: Digest,
        /// Digest of the layer.
        layer: Digest,
    },
}

/// An entry that is still to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Queued {
    /// The log.
    pub log: String,
    /// Its generation.
    pub version: Version,
    /// SHA-256 of what was signed.
    pub sha256: [u8; 32],
    /// The signature.
    pub signature: Vec<u8>,
    /// Who signed.
    pub signer: Signer,
    /// The envelope, where the log is to have it whole: then somebody has said that it may.
    pub envelope: Option<Vec<u8>>,
    /// Hosts of the registries of what was signed; of a file there are none.
    pub registries: Vec<String>,
    /// Where the entry goes.
    pub places: Vec<Place>,
}

/// An entry cannot be made, or has no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// Not a record.
    #[error("the record cannot be read: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// It has no place in any log.
    #[error(transparent)]
    Log(#[from] RekorError),
    /// The log does not make it.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The log would say a time at which the certificate was over.
    #[error(
        "the certificate was valid until {until}, and a log of the first generation says when it made an entry: one that it makes now would have every verifier refuse the signature, which its timestamp proves"
    )]
    Over {
        /// End of the certificate.
        until: Timestamp,
    },
    /// The log has said such a time.
    #[error(
        "the log made its entry at {time}, when the certificate (valid from {from} to {until}) was not valid: with it every verifier would refuse the signature, which its timestamp proves"
    )]
    Late {
        /// The log's time.
        time: Timestamp,
        /// Of the certificate.
        from: Timestamp,
        /// Of the certificate.
        until: Timestamp,
    },
    /// What is kept is something else.
    #[error("what is kept there is another signature by now: its {what} is not that of the record")]
    Other {
        /// Which part.
        what: &'static str,
    },
    /// What is kept cannot be read.
    #[error("what is kept there cannot be read: {reason}")]
    Unreadable {
        /// Why.
        reason: String,
    },
    /// There is no room.
    #[error("the bundle has {MAX_PARTS} log entries, and no more are read")]
    Full,
}

impl QueueError {
    /// Whether no later attempt can do better.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Over { .. } | Self::Late { .. })
    }
}

fn malformed(reason: impl Into<String>) -> QueueError {
    QueueError::Malformed { reason: reason.into() }
}

/// The record as it is written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    version: u32,
    log: String,
    generation: u8,
    sha256: String,
    signature: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    envelope: Option<String>,
    registries: Vec<String>,
    places: Vec<Place>,
}

/// A path as it is written: one that is not UTF-8 in hex.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPath {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

impl WrittenPath {
    fn of(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self { path: Some(text.to_owned()), hex: None },
            None => Self { path: None, hex: Some(hex::encode(path.as_os_str().as_bytes())) },
        }
    }

    fn read(self) -> Result<PathBuf, String> {
        match (self.path, self.hex) {
            (Some(path), None) => Ok(path.into()),
            (None, Some(digits)) => {
                let bytes = hex::decode(digits).map_err(|error| error.to_string())?;
                Ok(std::ffi::OsString::from_vec(bytes).into())
            }
            _ => Err("a file without exactly one path".to_owned()),
        }
    }
}

/// [`WrittenPath`] in place of a path.
mod written_path {
    use super::{Deserialize, Path, PathBuf, Serialize, WrittenPath};

    pub(super) fn serialize<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        WrittenPath::of(path).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        WrittenPath::deserialize(deserializer)?.read().map_err(serde::de::Error::custom)
    }
}

impl Place {
    /// Whether it has room for an entry of this generation: annotations hold a promise, and Rekor 2 makes none.
    pub fn has_room(&self, version: Version) -> bool {
        match self {
            Self::File(_) | Self::Bundle { .. } => true,
            Self::Tag { .. } | Self::Referrer { .. } => version == Version::One,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Bundle { keeper, subject } | Self::Referrer { keeper, subject, .. } => {
                write!(f, "{keeper}, about {subject}")
            }
            Self::Tag { keeper, tag, .. } => write!(f, "{keeper}:{tag}"),
        }
    }
}

impl Signer {
    /// By what a log checks the signature.
    pub fn verifier(&self) -> Verifier<'_> {
        match self {
            Self::Certificate(certificate) => Verifier::Certificate(certificate),
            Self::Key(key) => Verifier::Key(key),
        }
    }

    /// Of the one who signed.
    pub fn of(verifier: Verifier<'_>) -> Self {
        match verifier {
            Verifier::Certificate(certificate) => Self::Certificate(certificate.clone()),
            Verifier::Key(key) => Self::Key(Box::new(key.clone())),
        }
    }

    fn certificate(&self) -> Option<&Certificate> {
        match self {
            Self::Certificate(certificate) => Some(certificate),
            Self::Key(_) => None,
        }
    }
}

impl Queued {
    /// The record of an entry that a log did not make. Places without room for it are left out.
    pub fn new(pending: &Pending, signer: Signer, registries: &[String], places: &[Place]) -> Self {
        Self {
            log: pending.log.clone(),
            version: pending.version,
            sha256: pending.sha256,
            signature: pending.signature.clone(),
            signer,
            envelope: pending.envelope.clone(),
            registries: registries.to_vec(),
            places: places.iter().filter(|place| place.has_room(pending.version)).cloned().collect(),
        }
    }

    /// As it is kept.
    pub fn to_json(&self) -> Vec<u8> {
        let (certificate, public_key) = match &self.signer {
            Signer::Certificate(certificate) => (Some(certificate.to_pem()), None),
            Signer::Key(key) => (None, Some(key.to_pem())),
        };
        let written = Written {
            version: FORM,
            log: self.log.clone(),
            generation: self.version.number(),
            sha256: hex::encode(self.sha256),
            signature: STANDARD.encode(&self.signature),
            certificate,
            public_key,
            envelope: self.envelope.as_ref().map(|bytes| STANDARD.encode(bytes)),
            registries: self.registries.clone(),
            places: self.places.clone(),
        };
        // Strings and numbers only: this cannot fail.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// Reads a record.
    pub fn parse(bytes: &[u8]) -> Result<Self, QueueError> {
        let text = std::str::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
        strict::document(text).map_err(|error| malformed(error.to_string()))?;
        let written: Written = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        if written.version != FORM {
            return Err(malformed(format!("it is of the form {}, and {FORM} is read", written.version)));
        }
        let base64 = |text: &str| STANDARD.decode(text).map_err(|error| malformed(error.to_string()));
        let version = Version::of_number(written.generation).ok_or_else(|| malformed("no known generation of logs"))?;
        let sha256 = hex::decode(&written.sha256).ok().and_then(|bytes| bytes.try_into().ok());
        let signer = match (&written.certificate, &written.public_key) {
            (Some(pem), None) => Certificate::read(pem.as_bytes())
                .map(Signer::Certificate)
                .map_err(|error| malformed(error.to_string()))?,
            (None, Some(pem)) => PublicKey::from_file_bytes(pem.as_bytes())
                .map(|key| Signer::Key(Box::new(key)))
                .map_err(|error| malformed(error.to_string()))?,
            _ => return Err(malformed("not exactly one of certificate and key")),
        };
        if written.places.is_empty() || written.places.len() > MAX_PLACES {
            return Err(malformed(format!("{} places; 1 to {MAX_PLACES} are read", written.places.len())));
        }
        let places = written.places;
        if places.iter().any(|place| !place.has_room(version)) {
            return Err(malformed("a place without room for an entry of this generation"));
        }
        Ok(Self {
            log: written.log,
            version,
            sha256: sha256.ok_or_else(|| malformed("its digest is no SHA-256"))?,
            signature: base64(&written.signature)?,
            signer,
            envelope: written.envelope.as_deref().map(base64).transpose()?,
            registries: written.registries,
            places,
        })
    }

    /// What the log is asked.
    pub fn submission(&self) -> Submission<'_> {
        Submission {
            message: &[],
            sha256: self.sha256,
            signature: &self.signature,
            verifier: self.signer.verifier(),
            envelope: self.envelope.as_deref(),
        }
    }

    /// Has the entry made. Whoever asks a log has looked at [`Self::can_enter`] before.
    ///
    /// # Errors
    /// Also where the log's time is one at which the certificate was over.
    pub fn enter(&self, services: &dyn Services) -> Result<LogEntry, QueueError> {
        let submission = self.submission();
        submission.check()?;
        let entry = services.entry(&self.log, self.version, &submission)?;
        self.in_time(&entry)?;
        Ok(entry)
    }

    /// Whether an entry that is made now would do.
    pub fn can_enter(&self, now: Timestamp) -> Result<(), QueueError> {
        match self.signer.certificate() {
            Some(leaf) if self.version == Version::One && now > leaf.not_after() => {
                Err(QueueError::Over { until: leaf.not_after() })
            }
            _ => Ok(()),
        }
    }

    /// Whether the time that an entry says is one of the certificate.
    pub fn in_time(&self, entry: &LogEntry) -> Result<(), QueueError> {
        let (Some(leaf), Some(time)) = (self.signer.certificate(), entry.time) else { return Ok(()) };
        let time = Timestamp::from_second(time).unwrap_or_default();
        let (from, until) = (leaf.not_before(), leaf.not_after());
        // The log's time has no fraction, and the certificate begins in a second too.
        if time.as_second() < from.as_second() || time > until {
            return Err(QueueError::Late { time, from, until });
        }
        Ok(())
    }

    /// Whether a bundle holds the signature; where it does, the same with the entry, or nothing where it has that already.
    /// All else in it stays.
    pub fn complete(&self, bytes: &[u8], entry: &LogEntry) -> Result<Option<Vec<u8>>, QueueError> {
        let unreadable = |reason: String| QueueError::Unreadable { reason };
        let bundle = self.is_in(bytes)?;
        let made = Entry::parse(entry.bundled.to_string().as_bytes()).map_err(|error| malformed(error.to_string()))?;
        if bundle.entries.iter().any(|there| there.log_id == made.log_id && there.body == made.body) {
            return Ok(None);
        }
        if bundle.entries.len() >= MAX_PARTS {
            return Err(QueueError::Full);
        }
        let mut whole: Value = serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        // Both spellings of protobuf's JSON form are read.
        let material = ["verificationMaterial", "verification_material"]
            .into_iter()
            .find(|name| whole.get(*name).is_some())
            .and_then(|name| whole[name].as_object_mut())
            .ok_or_else(|| unreadable("no `verificationMaterial`".to_owned()))?;
        let name = if material.contains_key("tlog_entries") { "tlog_entries" } else { "tlogEntries" };
        match material.entry(name).or_insert(Value::Null) {
            Value::Array(entries) => entries.push(entry.bundled.clone()),
            other => *other = Value::Array(vec![entry.bundled.clone()]),
        }
        let mut completed = whole.to_string().into_bytes();
        Bundle::parse(&completed).map_err(|error| unreadable(format!("with its log entry: {}", error.reason)))?;
        if bytes.ends_with(b"\n") {
            completed.push(b'\n');
        }
        Ok(Some(completed))
    }

    /// The bundle in these bytes, where it is that of the signature.
    pub fn is_in(&self, bytes: &[u8]) -> Result<Bundle, QueueError> {
        let bundle = Bundle::parse(bytes).map_err(|error| QueueError::Unreadable { reason: error.reason })?;
        self.is_of(&bundle)?;
        Ok(bundle)
    }

    /// Whether a bundle is that of the signature.
    pub fn is_of(&self, bundle: &Bundle) -> Result<(), QueueError> {
        let other = |what| Err(QueueError::Other { what });
        let (signature, sha256) = match &bundle.content {
            Content::Envelope(envelope) => {
                let header = pae_header(&envelope.payload_type, envelope.payload.len());
                let signature = envelope.signatures.first().map(|signature| signature.sig.as_slice());
                (signature.unwrap_or_default(), Some(sha256_of(&[&header, &envelope.payload]).to_vec()))
            }
            Content::Message { sha256, signature } => (signature.as_slice(), sha256.clone()),
        };
        if signature != self.signature {
            return other("signature");
        }
        if sha256.is_some_and(|sha256| sha256 != self.sha256) {
            return other("digest");
        }
        let is_signer = match (&bundle.signer, &self.signer) {
            (sigstore::Signer::Key { hint: found }, Signer::Key(key)) => *found == hint(key),
            (sigstore::Signer::Certificate { chain }, Signer::Certificate(certificate)) => {
                chain.first().is_some_and(|der| der == certificate.der())
            }
            _ => false,
        };
        if is_signer { Ok(()) } else { other("signer") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::sigstore::of_message;
    use crate::sign::{KeyKind, PrivateKey, Signer as _};

    const TWO: &str = include_str!("../../../fixtures/cosign/api/rekor2-hashedrekord-key.json");
    const BUNDLE: &[u8] = include_bytes!("../../../fixtures/cosign/bundles/attblob-keyless-rekor1.sigstore.json");

    fn queued(key: &PrivateKey) -> Queued {
        let message = b"what is signed";
        let place = Place::File("b.json".into());
        let pending = Pending {
            log: "https://rekor.example".to_owned(),
            version: Version::Two,
            sha256: sha256_of(&[message]),
            signature: key.sign(&[message]).expect("signs"),
            envelope: None,
            reason: "502".to_owned(),
        };
        Queued::new(
            &pending,
            Signer::Key(Box::new(key.public_key().clone())),
            &["registry.example".to_owned()],
            &[place],
        )
    }

    /// An entry whose log has made it of something else: only its form matters here.
    fn entry() -> LogEntry {
        let record: Value = serde_json::from_str(TWO).expect("JSON");
        LogEntry { bundled: record["response"].clone(), annotation: None, time: None, index: 1, answer: Vec::new() }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_nothing_else_is() {
        let key = PrivateKey::generate(KeyKind::P256).expect("a key");
        let mut one = queued(&key);
        let digest = Digest::of(b"x");
        one.places.push(Place::File(std::ffi::OsString::from_vec(b"not \xff text".to_vec()).into()));
        one.places.push(Place::Bundle { keeper: "registry.example/app".to_owned(), subject: digest.clone() });
        let text = String::from_utf8(one.to_json()).expect("text");
        assert_eq!(Queued::parse(text.as_bytes()).expect("a record"), one);
        assert!(!text.contains("PRIVATE"));
        let layer = digest.clone();
        one.version = Version::One;
        one.places = vec![
            Place::Tag {
                keeper: "oci:/x".to_owned(),
                subject: digest.clone(),
                tag: "t".to_owned(),
                layer: layer.clone(),
            },
            Place::Referrer { keeper: "oci:/x".to_owned(), subject: digest, layer },
        ];
        one.envelope = Some(b"{}".to_vec());
        assert_eq!(Queued::parse(&one.to_json()).expect("a record"), one);
        // Annotations have no room for an entry of the second generation.
        one.version = Version::Two;
        Queued::parse(&one.to_json()).expect_err("no room");
        for (what, bad) in [
            ("nothing", String::new()),
            ("no object", "[]".to_owned()),
            ("a member twice", text.replacen('{', "{\"version\":1,", 1)),
            ("an unknown member", text.replacen('{', "{\"x\":1,", 1)),
            ("another form", text.replacen("\"version\":1", "\"version\":2", 1)),
            ("a generation", text.replacen("\"generation\":2", "\"generation\":3", 1)),
            ("a digest", text.replacen("\"sha256\":\"", "\"sha256\":\"00", 1)),
            ("base64", text.replacen("\"signature\":\"", "\"signature\":\"*", 1)),
            ("a signer", text.replacen("BEGIN PUBLIC KEY", "BEGIN", 1)),
            ("no signer", text.replacen("publicKey", "public_key", 1)),
            ("a place", text.replacen("\"kind\":\"file\"", "\"kind\":\"other\"", 1)),
            ("a member of a file", text.replacen("\"path\":", "\"x\":1,\"path\":", 1)),
            ("a member of a place", text.replacen("\"keeper\":", "\"layer\":\"x\",\"keeper\":", 1)),
            ("two paths", text.replacen("\"path\":", "\"hex\":\"00\",\"path\":", 1)),
            ("a path in no hex", text.replacen("\"hex\":\"", "\"hex\":\"x", 1)),
            ("cut", text[..text.len() - 1].to_owned()),
        ] {
            assert_ne!(bad, text, "{what}");
            let error = Queued::parse(bad.as_bytes()).expect_err(what);
            assert!(matches!(error, QueueError::Malformed { .. }), "{what}: {error}");
        }
    }

    #[test]
    fn an_entry_goes_only_into_the_bundle_of_its_signature() {
        let key = PrivateKey::generate(KeyKind::P256).expect("a key");
        let one = queued(&key);
        let good = [&of_message(&one.sha256, &one.signature, &hint(key.public_key()))[..], b"\n"].concat();
        let completed = one.complete(&good, &entry()).expect("its own").expect("it had none");
        assert!(completed.ends_with(b"\n"));
        let bundle = Bundle::parse(&completed).expect("a bundle");
        assert_eq!(bundle.entries.len(), 1);
        // All else stays.
        let mut without: Value = serde_json::from_slice(&completed).expect("JSON");
        without["verificationMaterial"].as_object_mut().expect("members").remove("tlogEntries");
        assert_eq!(without, serde_json::from_slice::<Value>(&good).expect("JSON"));
        // A second time nothing is left to do.
        assert_eq!(one.complete(&completed, &entry()), Ok(None));
        let empty = String::from_utf8(good.clone()).expect("text").replacen(
            "\"publicKey\"",
            "\"tlog_entries\":[],\"publicKey\"",
            1,
        );
        assert!(one.complete(empty.as_bytes(), &entry()).expect("read").is_some());

        let other = PrivateKey::generate(KeyKind::P256).expect("a key");
        for (what, bytes) in [
            ("signature", of_message(&one.sha256, b"another", &hint(key.public_key()))),
            ("digest", of_message(&[7; 32], &one.signature, &hint(key.public_key()))),
            ("signer", of_message(&one.sha256, &one.signature, &hint(other.public_key()))),
        ] {
            assert_eq!(one.complete(&bytes, &entry()), Err(QueueError::Other { what }));
        }
        for bytes in [&b""[..], b"{}", &good[..good.len() / 2]] {
            assert!(matches!(one.complete(bytes, &entry()), Err(QueueError::Unreadable { .. })));
        }
    }

    /// Of an envelope: what is compared is what was signed, not what somebody says of it.
    #[test]
    fn an_envelope_is_known_by_what_was_signed() {
        let bundle = Bundle::parse(BUNDLE).expect("a bundle");
        let (Content::Envelope(envelope), sigstore::Signer::Certificate { chain }) = (&bundle.content, &bundle.signer)
        else {
            panic!("an envelope by a certificate")
        };
        let header = pae_header(&envelope.payload_type, envelope.payload.len());
        let certificate = Certificate::from_der(&chain[0]).expect("a certificate");
        let mut one = Queued {
            log: "https://rekor.example".to_owned(),
            version: Version::One,
            sha256: sha256_of(&[&header, &envelope.payload]),
            signature: envelope.signatures[0].sig.clone(),
            signer: Signer::Certificate(certificate.clone()),
            envelope: None,
            registries: Vec::new(),
            places: vec![Place::File("a".into())],
        };
        assert_eq!(one.is_of(&bundle), Ok(()));
        assert_eq!(Queued::parse(&one.to_json()), Ok(one.clone()));
        // A log of the first generation says a time: not any more when the certificate is over.
        let (before, after) = (certificate.not_after(), certificate.not_after() + jiff::SignedDuration::from_secs(1));
        assert_eq!(one.can_enter(before), Ok(()));
        assert_eq!(one.can_enter(after), Err(QueueError::Over { until: before }));
        let late = LogEntry { time: Some(after.as_second()), ..entry() };
        assert!(one.in_time(&late).is_err_and(|error| error.is_final()));
        assert_eq!(one.in_time(&LogEntry { time: Some(before.as_second()), ..entry() }), Ok(()));
        one.version = Version::Two;
        assert_eq!((one.can_enter(after), one.in_time(&entry())), (Ok(()), Ok(())));
        one.sha256 = [1; 32];
        assert_eq!(one.is_of(&bundle), Err(QueueError::Other { what: "digest" }));
        let key = PrivateKey::generate(KeyKind::P256).expect("a key");
        one.sha256 = sha256_of(&[&header, &envelope.payload]);
        one.signer = Signer::Key(Box::new(key.public_key().clone()));
        assert_eq!(one.is_of(&bundle), Err(QueueError::Other { what: "signer" }));
    }
}
