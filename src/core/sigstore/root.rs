//! The trusted root: which logs and authorities are believed, and in which time.
//!
//! Source: sigstore `protobuf-specs`, `sigstore_trustroot.proto`; ids of logs: RFC 6962 §3.2 and C2SP `signed-note`;
//! sigstore-oci §8, §9, §11.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::json::{Bytes, Time, base64, message};
use crate::digest::sha256;
use crate::evidence::strict;
use crate::sign::authority::{Algorithm, Hash};
use crate::sign::{KeyKind, PublicKey};
use crate::trust::{Anchor, Certificate, MAX_PATH};

/// Media type of the trusted roots that are written.
pub const TRUSTED_ROOT: &str = "application/vnd.dev.sigstore.trustedroot+json;version=0.1";
/// Longest trusted root, in bytes. The public one has less than 10 kB.
pub const MAX_ROOT: usize = 4 * 1024 * 1024;
/// Most logs, and most authorities, of one kind in a trusted root.
pub const MAX_OF_A_KIND: usize = 64;
/// Longest URL, name of an operator, in bytes.
const MAX_TEXT: usize = 2048;

/// Media types that are read.
const READ: [&str; 2] = [TRUSTED_ROOT, "application/vnd.dev.sigstore.trustedroot.v0.2+json"];

/// A document is no trusted root, or one that nothing can be done with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// It cannot be read.
    #[error("no trusted root: {reason}")]
    Malformed {
        /// What is wrong, and where.
        reason: String,
    },
    /// Nothing is in it.
    #[error("the trusted root is empty: it names neither a log nor an authority")]
    Empty,
    /// All that is in it was only to be believed in the past.
    #[error("the trusted root has expired: nothing in it is to be believed after {last}; a newer one is needed")]
    Expired {
        /// When the last of it ended.
        last: Timestamp,
    },
}

impl RootError {
    fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed { reason: reason.into() }
    }
}

/// From when until when something is to be believed, both included. Without one of them there is no end on that side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// From when.
    pub start: Option<Timestamp>,
    /// Until when.
    pub end: Option<Timestamp>,
}

impl Window {
    /// Whether every time lies inside.
    pub fn is_endless(&self) -> bool {
        self.start.is_none() && self.end.is_none()
    }

    /// Whether `time` lies inside.
    pub fn covers(&self, time: Timestamp) -> bool {
        self.start.is_none_or(|start| start <= time) && self.end.is_none_or(|end| time <= end)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.start, self.end) {
            (None, None) => f.write_str("at any time"),
            (Some(start), None) => write!(f, "from {start}"),
            (None, Some(end)) => write!(f, "until {end}"),
            (Some(start), Some(end)) => write!(f, "from {start} to {end}"),
        }
    }
}

/// What the name of a kind of key says: the key and how it signs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Details {
    name: &'static str,
    kind: Shape,
    algorithm: Algorithm,
}

/// Kinds of keys, without their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Ed25519,
    P256,
    P384,
    P521,
    Rsa(Option<u32>),
}

/// `PublicKeyDetails` that are read. The first that fits a key is the one that is written for it.
static DETAILS: [Details; 11] = [
    Details { name: "PKIX_ECDSA_P256_SHA_256", kind: Shape::P256, algorithm: Algorithm::Ecdsa(Hash::Sha256) },
    Details { name: "PKIX_ED25519", kind: Shape::Ed25519, algorithm: Algorithm::Ed25519 },
    Details { name: "PKIX_ECDSA_P384_SHA_384", kind: Shape::P384, algorithm: Algorithm::Ecdsa(Hash::Sha384) },
    Details { name: "PKIX_ECDSA_P521_SHA_512", kind: Shape::P521, algorithm: Algorithm::Ecdsa(Hash::Sha512) },
    Details {
        name: "PKIX_RSA_PKCS1V15_2048_SHA256",
        kind: Shape::Rsa(Some(2048)),
        algorithm: Algorithm::RsaPkcs1(Hash::Sha256),
    },
    Details {
        name: "PKIX_RSA_PKCS1V15_3072_SHA256",
        kind: Shape::Rsa(Some(3072)),
        algorithm: Algorithm::RsaPkcs1(Hash::Sha256),
    },
    Details {
        name: "PKIX_RSA_PKCS1V15_4096_SHA256",
        kind: Shape::Rsa(Some(4096)),
        algorithm: Algorithm::RsaPkcs1(Hash::Sha256),
    },
    Details { name: "PKIX_RSA_PKCS1V5", kind: Shape::Rsa(None), algorithm: Algorithm::RsaPkcs1(Hash::Sha256) },
    Details { name: "PKCS1_RSA_PKCS1V5", kind: Shape::Rsa(None), algorithm: Algorithm::RsaPkcs1(Hash::Sha256) },
    Details { name: "PKIX_ECDSA_P384_SHA_256", kind: Shape::P384, algorithm: Algorithm::Ecdsa(Hash::Sha256) },
    Details { name: "PKIX_ECDSA_P521_SHA_256", kind: Shape::P521, algorithm: Algorithm::Ecdsa(Hash::Sha256) },
];

/// Further names that an entry has for the key of a signer: no log and no authority is read that signs so.
static OF_SIGNERS: [(&str, Shape); 4] = [
    ("PKIX_ED25519_PH", Shape::Ed25519),
    ("PKIX_RSA_PSS_2048_SHA256", Shape::Rsa(Some(2048))),
    ("PKIX_RSA_PSS_3072_SHA256", Shape::Rsa(Some(3072))),
    ("PKIX_RSA_PSS_4096_SHA256", Shape::Rsa(Some(4096))),
];
/// Names of keys in a `SubjectPublicKeyInfo` begin so.
const PKIX: &str = "PKIX_";

impl Shape {
    fn fits(self, key: &PublicKey) -> bool {
        match (self, key.kind()) {
            (Self::Ed25519, KeyKind::Ed25519)
            | (Self::P256, KeyKind::P256)
            | (Self::P384, KeyKind::P384)
            | (Self::P521, KeyKind::P521)
            | (Self::Rsa(None), KeyKind::Rsa { .. }) => true,
            (Self::Rsa(Some(length)), KeyKind::Rsa { bits }) => length == bits,
            _ => false,
        }
    }
}

/// Whether an entry of a log may say that the key of a signer is of the kind `name`.
pub(super) fn may_be_called(key: &PublicKey, name: &str) -> bool {
    let read = DETAILS.iter().filter(|one| one.name.starts_with(PKIX)).map(|one| (one.name, one.kind));
    read.chain(OF_SIGNERS).any(|(known, kind)| known == name && kind.fits(key))
}

impl Details {
    fn fits(&self, key: &PublicKey) -> bool {
        self.kind.fits(key)
    }

    fn of(key: &PublicKey) -> &'static Self {
        DETAILS.iter().find(|details| details.fits(key)).expect("there are details for every kind of key")
    }
}

/// A log that is believed.
#[derive(Clone, Debug)]
pub struct Log {
    /// Where it is.
    pub base_url: String,
    /// Its key.
    pub key: PublicKey,
    /// `logId.keyId`, by which entries name it.
    pub id: Vec<u8>,
    /// `checkpointKeyId` as it was written; without one it is the same as `id`.
    pub checkpoint_id: Option<Vec<u8>>,
    /// When its key is to be believed.
    pub window: Window,
    /// The host of `base_url`, without port; that is how a log of tiles calls itself. Empty where there is none.
    pub origin: String,
    /// Who runs it; may be empty.
    pub operator: String,
    pub(super) details: &'static Details,
}

impl PartialEq for Log {
    fn eq(&self, other: &Self) -> bool {
        let fields = |log: &Self| {
            (log.id.clone(), log.checkpoint_id.clone(), log.window, log.details.name, log.base_url.clone())
        };
        self.key == other.key && self.operator == other.operator && fields(self) == fields(other)
    }
}

impl Eq for Log {}

impl Log {
    /// A log of certificates, or Rekor 1: its id is the SHA-256 of its key.
    pub fn new(base_url: &str, key: PublicKey, window: Window) -> Self {
        Self {
            base_url: base_url.to_owned(),
            id: sha256(key.to_der()).to_vec(),
            checkpoint_id: None,
            window,
            origin: host(base_url).to_owned(),
            operator: String::new(),
            details: Details::of(&key),
            key,
        }
    }

    /// A log of tiles, Rekor 2: its id is made of its key and the host of its URL.
    ///
    /// # Errors
    /// When the URL has no host, or the key is of a kind that signs no notes.
    pub fn tiled(base_url: &str, key: PublicKey, window: Window) -> Result<Self, RootError> {
        let mut log = Self::new(base_url, key, window);
        if log.origin.is_empty() {
            return Err(RootError::malformed(format!("the URL {} of a log has no host", strict::shown(base_url))));
        }
        log.id = log.tiled_id().to_vec();
        Ok(log)
    }

    /// What to call it in a message: its id and where it is.
    pub fn label(&self) -> String {
        format!("{} ({})", hex::encode(&self.id), self.base_url.escape_debug())
    }

    /// The id that Rekor 1 and logs of certificates have.
    pub(super) fn plain_id(&self) -> [u8; 32] {
        sha256(self.key.to_der())
    }

    /// The id that a log of tiles has, whose first four bytes stand before its signatures: over name and key for Ed25519,
    /// over the key for others.
    pub(super) fn tiled_id(&self) -> [u8; 32] {
        const ED25519: [u8; 2] = [b'\n', 1];
        match self.key.kind() {
            KeyKind::Ed25519 => {
                let spki = self.key.to_der();
                let key = &spki[spki.len() - 32..];
                sha256(&[self.origin.as_bytes(), &ED25519, key].concat())
            }
            _ => self.plain_id(),
        }
    }

    /// Whether `signature` over `message` is by this log.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_as(self.details.algorithm, message, signature).is_ok()
    }

    fn read(written: WrittenLog, place: &str) -> Result<Self, RootError> {
        let failed = |reason: String| RootError::malformed(format!("{place}: {reason}"));
        let missing = |what: &str| failed(format!("`{what}` is missing"));
        let base_url = limited(written.base_url, "baseUrl").map_err(&failed)?;
        if written.hash_algorithm.as_deref() != Some("SHA2_256") {
            let found = written.hash_algorithm.as_deref().unwrap_or("none");
            return Err(failed(format!("the hash {}; SHA2_256 is read", strict::shown(found))));
        }
        let key = written.public_key.ok_or_else(|| missing("publicKey"))?;
        let bytes = key.raw_bytes.ok_or_else(|| missing("publicKey.rawBytes"))?.0;
        let name = key.key_details.ok_or_else(|| missing("publicKey.keyDetails"))?;
        let details = DETAILS.iter().find(|details| details.name == name);
        let details =
            details.ok_or_else(|| failed(format!("a key of the kind {}, which is not read", strict::shown(&name))))?;
        let read = if details.name.starts_with(PKIX) { PublicKey::from_spki } else { PublicKey::from_der };
        let public = read(&bytes).map_err(|error| failed(error.to_string()))?;
        if !details.fits(&public) {
            return Err(failed(format!("a key of the kind {} that is said to be {name}", public.kind())));
        }
        let id = written.log_id.and_then(|id| id.key_id).ok_or_else(|| missing("logId.keyId"))?.0;
        let log = Self {
            id,
            checkpoint_id: written.checkpoint_key_id.map(|id| id.0),
            operator: limited(written.operator, "operator").map_err(&failed)?,
            details,
            ..Self::new(&base_url, public, window(key.valid_for, place)?)
        };
        // An Ed25519 key makes its id together with the host in the URL. One that does not fit is found when an entry of
        // that log is checked: a wrong URL is no reason to believe none of the others.
        let named = log.key.kind() == KeyKind::Ed25519;
        let fits = |id: &[u8]| named && id.len() == 32 || id == log.plain_id();
        if !fits(&log.id) || !log.checkpoint_id.as_deref().is_none_or(fits) {
            let (found, expected) = (hex::encode(&log.id), hex::encode(log.plain_id()));
            return Err(failed(format!("its id {found} is not that of its key, {expected}")));
        }
        Ok(log)
    }

    fn to_json(&self) -> Value {
        let bytes = if self.details.name.starts_with("PKIX") {
            self.key.to_der()
        } else {
            self.key.rsa_key().expect("only RSA keys have details of PKCS #1")
        };
        let mut written = json!({
            "baseUrl": self.base_url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": base64(bytes),
                "keyDetails": self.details.name,
                "validFor": written_window(&self.window),
            },
            "logId": { "keyId": base64(&self.id) },
        });
        if let Some(id) = &self.checkpoint_id {
            written["checkpointKeyId"] = base64(id).into();
        }
        if !self.operator.is_empty() {
            written["operator"] = self.operator.as_str().into();
        }
        written
    }
}

/// The host of a URL, without port; empty where there is none.
pub(crate) fn host(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("://") else { return "" };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => place.split_once(':').map_or(place, |(host, _)| host),
    }
}

/// An authority that is believed: one that certifies signers, or one that vouches for times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The last certificate of its chain, and those before it. Its id is the URL, or its place in the document.
    pub anchor: Anchor,
    /// When it is to be believed.
    pub window: Window,
    /// Where it is; may be empty.
    pub uri: String,
    /// Who runs it; may be empty.
    pub operator: String,
}

impl Authority {
    /// An authority from a file of certificates, the root last.
    pub fn new(chain: &[u8], uri: &str, window: Window) -> Result<Self, RootError> {
        let chain = Certificate::read_all(chain).map_err(|error| RootError::malformed(error.to_string()))?;
        Self::of(chain, uri, window, "an authority")
    }

    fn of(mut chain: Vec<Certificate>, uri: &str, window: Window, place: &str) -> Result<Self, RootError> {
        if chain.len() > MAX_PATH {
            return Err(RootError::malformed(format!("{place}: {} certificates; {MAX_PATH} are read", chain.len())));
        }
        let certificate = chain.pop().ok_or_else(|| RootError::malformed(format!("{place} has no certificate")))?;
        let id = if uri.is_empty() { place.to_owned() } else { uri.to_owned() };
        let anchor = Anchor { id, certificate, intermediates: chain };
        Ok(Self { anchor, window, uri: uri.to_owned(), operator: String::new() })
    }

    fn read(written: WrittenAuthority, place: &str) -> Result<Self, RootError> {
        let failed = |reason: String| RootError::malformed(format!("{place}: {reason}"));
        let uri = limited(written.uri, "uri").map_err(&failed)?;
        let chain = written.cert_chain.and_then(|chain| chain.certificates).unwrap_or_default();
        if chain.len() > MAX_PATH {
            return Err(failed(format!("{} certificates; {MAX_PATH} are read", chain.len())));
        }
        let certificate = |raw: Raw| {
            let der = raw.raw_bytes.ok_or_else(|| failed("a certificate without `rawBytes`".to_owned()))?.0;
            Certificate::from_der(&der).map_err(|error| failed(error.to_string()))
        };
        let chain = chain.into_iter().map(certificate).collect::<Result<Vec<_>, _>>()?;
        let operator = limited(written.operator, "operator").map_err(&failed)?;
        Ok(Self { operator, ..Self::of(chain, &uri, window(written.valid_for, place)?, place)? })
    }

    fn to_json(&self) -> Value {
        let root = &self.anchor.certificate;
        let chain = self.anchor.intermediates.iter().chain(std::iter::once(root));
        let chain: Vec<Value> = chain.map(|one| json!({ "rawBytes": base64(one.der()) })).collect();
        let mut written = json!({
            "subject": {
                "organization": root.organizations().first().map_or("", String::as_str),
                "commonName": root.common_name().unwrap_or_default(),
            },
            "uri": self.uri,
            "certChain": { "certificates": chain },
            "validFor": written_window(&self.window),
        });
        if !self.operator.is_empty() {
            written["operator"] = self.operator.as_str().into();
        }
        written
    }

    /// When it cannot be believed any more: at the end of its window, or of its root.
    fn end(&self) -> Timestamp {
        let last = self.anchor.certificate.not_after();
        self.window.end.map_or(last, |end| end.min(last))
    }
}

/// Who is believed about signatures: logs, logs of certificates, authorities that certify signers, and those that vouch for
/// times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedRoot {
    /// Logs of signatures.
    pub logs: Vec<Log>,
    /// Logs of certificates.
    pub ct_logs: Vec<Log>,
    /// Authorities that certify signers.
    pub authorities: Vec<Authority>,
    /// Authorities that vouch for times.
    pub timestamp_authorities: Vec<Authority>,
}

message!(Document {
    media_type / "media_type": String,
    tlogs / "tlogs": Vec<WrittenLog>,
    certificate_authorities / "certificate_authorities": Vec<WrittenAuthority>,
    ctlogs / "ctlogs": Vec<WrittenLog>,
    timestamp_authorities / "timestamp_authorities": Vec<WrittenAuthority>,
});
message!(WrittenLog {
    base_url / "base_url": String,
    hash_algorithm / "hash_algorithm": String,
    public_key / "public_key": WrittenKey,
    log_id / "log_id": LogId,
    checkpoint_key_id / "checkpoint_key_id": Bytes,
    operator / "operator": String,
});
message!(WrittenKey {
    raw_bytes / "raw_bytes": Bytes,
    key_details / "key_details": String,
    valid_for / "valid_for": Range,
});
message!(LogId { key_id / "key_id": Bytes });
message!(#[allow(dead_code, reason = "the root certificate says who its subject is")] WrittenAuthority {
    subject / "subject": Subject,
    uri / "uri": String,
    cert_chain / "cert_chain": Chain,
    valid_for / "valid_for": Range,
    operator / "operator": String,
});
message!(#[allow(dead_code, reason = "read so that nothing else stands there; the certificate says it")] Subject {
    organization / "organization": String,
    common_name / "common_name": String,
});
message!(Chain { certificates / "certificates": Vec<Raw> });
message!(Raw { raw_bytes / "raw_bytes": Bytes });
message!(Range { start / "start": Time, end / "end": Time });

fn limited(text: Option<String>, what: &str) -> Result<String, String> {
    let text = text.unwrap_or_default();
    if text.len() > MAX_TEXT {
        return Err(format!("`{what}` of {} bytes; {MAX_TEXT} are read", text.len()));
    }
    Ok(text)
}

fn window(range: Option<Range>, place: &str) -> Result<Window, RootError> {
    let range = range.unwrap_or(Range { start: None, end: None });
    let window = Window { start: range.start.map(|time| time.0), end: range.end.map(|time| time.0) };
    match (window.start, window.end) {
        (Some(start), Some(end)) if end < start => {
            Err(RootError::malformed(format!("{place}: `validFor` ends at {end}, before it begins at {start}")))
        }
        _ => Ok(window),
    }
}

/// Other readers want a beginning.
fn written_window(window: &Window) -> Value {
    let mut written = json!({ "start": window.start.unwrap_or(Timestamp::UNIX_EPOCH).to_string() });
    if let Some(end) = window.end {
        written["end"] = end.to_string().into();
    }
    written
}

fn each<W, T>(
    list: Option<Vec<W>>,
    name: &str,
    read: impl Fn(W, &str) -> Result<T, RootError>,
) -> Result<Vec<T>, RootError> {
    let list = list.unwrap_or_default();
    if list.len() > MAX_OF_A_KIND {
        return Err(RootError::malformed(format!("{} `{name}`; {MAX_OF_A_KIND} are read", list.len())));
    }
    list.into_iter().enumerate().map(|(number, written)| read(written, &format!("{name}[{number}]"))).collect()
}

impl TrustedRoot {
    /// Reads a trusted root strictly: members that are not known, members twice, keys of unknown kinds and logs whose id
    /// is not that of their key are refused.
    ///
    /// # Errors
    /// [`RootError::Empty`] for one that names nobody; whether it is too old is for [`TrustedRoot::check_current`] to say.
    pub fn parse(bytes: &[u8]) -> Result<Self, RootError> {
        if bytes.len() > MAX_ROOT {
            return Err(RootError::malformed(format!("{} bytes; {MAX_ROOT} are read", bytes.len())));
        }
        let failed = |error: &dyn fmt::Display| RootError::malformed(error.to_string());
        let text = std::str::from_utf8(bytes).map_err(|error| failed(&error))?;
        strict::document(text).map_err(|error| failed(&error))?;
        let document: Document = serde_json::from_str(text).map_err(|error| failed(&error))?;
        let media_type = document.media_type.unwrap_or_default();
        if !READ.contains(&media_type.as_str()) {
            return Err(RootError::malformed(format!("its media type is {}", strict::shown(&media_type))));
        }
        let root = Self {
            logs: each(document.tlogs, "tlogs", Log::read)?,
            ct_logs: each(document.ctlogs, "ctlogs", Log::read)?,
            authorities: each(document.certificate_authorities, "certificateAuthorities", Authority::read)?,
            timestamp_authorities: each(document.timestamp_authorities, "timestampAuthorities", Authority::read)?,
        };
        if root.is_empty() { Err(RootError::Empty) } else { Ok(root) }
    }

    /// The document, of the type [`TRUSTED_ROOT`], on lines of its own for people.
    ///
    /// # Panics
    ///
    /// Never: texts are JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let logs = |list: &[Log]| list.iter().map(Log::to_json).collect::<Vec<_>>();
        let authorities = |list: &[Authority]| list.iter().map(Authority::to_json).collect::<Vec<_>>();
        let document = json!({
            "mediaType": TRUSTED_ROOT,
            "tlogs": logs(&self.logs),
            "certificateAuthorities": authorities(&self.authorities),
            "ctlogs": logs(&self.ct_logs),
            "timestampAuthorities": authorities(&self.timestamp_authorities),
        });
        let mut text = serde_json::to_vec_pretty(&document).expect("texts are JSON");
        text.push(b'\n');
        text
    }

    /// Believes also whom `other` believes; nobody twice.
    pub fn merge(&mut self, other: Self) {
        fn add<T: PartialEq>(list: &mut Vec<T>, more: Vec<T>) {
            for one in more {
                if !list.contains(&one) {
                    list.push(one);
                }
            }
        }
        add(&mut self.logs, other.logs);
        add(&mut self.ct_logs, other.ct_logs);
        add(&mut self.authorities, other.authorities);
        add(&mut self.timestamp_authorities, other.timestamp_authorities);
    }

    /// Whether it names nobody.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
            && self.ct_logs.is_empty()
            && self.authorities.is_empty()
            && self.timestamp_authorities.is_empty()
    }

    /// Whether something in it is still to be believed at `now`. What was signed before can be judged by a root of its
    /// time, so this is no question for a verifier.
    ///
    /// # Errors
    /// [`RootError::Empty`] and [`RootError::Expired`].
    pub fn check_current(&self, now: Timestamp) -> Result<(), RootError> {
        let logs = self.logs.iter().chain(&self.ct_logs).map(|log| log.window.end.unwrap_or(Timestamp::MAX));
        let authorities = self.authorities.iter().chain(&self.timestamp_authorities).map(Authority::end);
        match logs.chain(authorities).max() {
            None => Err(RootError::Empty),
            Some(last) if last < now => Err(RootError::Expired { last }),
            Some(_) => Ok(()),
        }
    }
}
