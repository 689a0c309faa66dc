//! Signed certificate timestamps: a certificate is in a log of certificates.
//!
//! Source: RFC 6962 §3.2, §3.3; Fulcio's answers for those that are not in the certificate; sigstore-oci §7.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Encode as _, Header, Length, Reader as _, SliceReader, Tag};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::root::{Log, Window};
use crate::digest::sha256;
use crate::evidence::strict;
use crate::sign::KeyKind;
use crate::sign::authority::{Algorithm, Hash};
use crate::trust::Certificate;

/// Most timestamps of one certificate.
pub const MAX_SCTS: usize = 32;
/// Longest document with a timestamp, in bytes.
const MAX_DETACHED: usize = 64 * 1024;

/// How long before a certificate becomes valid it may have been logged: authorities log it just before they issue it, and
/// no two clocks are the same.
const EARLIER: SignedDuration = SignedDuration::from_hours(1);

/// The extension with the list, in certificates.
const LIST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");
/// `[0] EXPLICIT`: the version of a certificate.
const VERSION: u8 = 0xa0;
/// `[3] EXPLICIT`: the extensions of a certificate.
const EXTENSIONS: u8 = 0xa3;

/// No log of certificates that is believed has the certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SctError {
    /// There is nobody to believe.
    #[error("no log of certificates is trusted: the trusted root names none")]
    NoLogs,
    /// The certificate brings none.
    #[error("the certificate has no signed certificate timestamp")]
    NoTimestamp,
    /// What it brings cannot be read.
    #[error("the signed certificate timestamps of the certificate cannot be read: {reason}")]
    Malformed {
        /// Why.
        reason: String,
    },
    /// Another log.
    #[error("the certificate is in the log of certificates {id}, which is not trusted")]
    UnknownLog {
        /// Its id in hex.
        id: String,
    },
    /// The log has not signed this.
    #[error("the signed certificate timestamp is not by the log {log} over this certificate")]
    BadSignature {
        /// The log.
        log: String,
    },
    /// Signed as this log's key cannot sign.
    #[error(
        "the signed certificate timestamp is signed in a way ({hash}, {signature}) that is not read for the log {log}"
    )]
    Algorithm {
        /// The log.
        log: String,
        /// Number of the hash (RFC 5246 §7.4.1.4.1).
        hash: u8,
        /// Number of the kind of signature.
        signature: u8,
    },
    /// The log says a time at which nobody would have logged this certificate.
    #[error(
        "the log of certificates {log} says {time}, and the certificate is valid from {from} to {until}: it is logged when it is issued"
    )]
    Time {
        /// The log.
        log: String,
        /// The time of the timestamp.
        time: Timestamp,
        /// Of the certificate.
        from: Timestamp,
        /// Of the certificate.
        until: Timestamp,
    },
    /// The log's key is not to be believed then.
    #[error("the log of certificates {log} is not trusted for {time}, only {window}")]
    Window {
        /// The log.
        log: String,
        /// The time of the timestamp.
        time: Timestamp,
        /// When the log is trusted.
        window: Window,
    },
}

fn malformed(reason: impl std::fmt::Display) -> SctError {
    SctError::Malformed { reason: reason.to_string() }
}

/// One timestamp.
#[derive(Debug, PartialEq, Eq)]
struct Sct<'a> {
    log_id: &'a [u8],
    /// Milliseconds.
    timestamp: u64,
    extensions: &'a [u8],
    hash: u8,
    algorithm: u8,
    signature: &'a [u8],
}

/// Reads the forms of TLS: numbers, and bytes with their length before them.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], SctError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<u64, SctError> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn vector(&mut self) -> Result<&'a [u8], SctError> {
        let length = self.number(2)?;
        self.take(usize::try_from(length).map_err(malformed)?)
    }

    fn end(self) -> Result<(), SctError> {
        if self.0.is_empty() { Ok(()) } else { Err(malformed("bytes after its end")) }
    }
}

impl<'a> Sct<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, SctError> {
        let mut bytes = Bytes(bytes);
        if bytes.number(1)? != 0 {
            return Err(malformed("a timestamp of another version than 1"));
        }
        let log_id = bytes.take(32)?;
        let timestamp = bytes.number(8)?;
        let extensions = bytes.vector()?;
        let [hash, algorithm] = *bytes.take(2)? else { return Err(malformed("it ends too early")) };
        let sct = Self { log_id, timestamp, extensions, hash, algorithm, signature: bytes.vector()? };
        bytes.end()?;
        Ok(sct)
    }

    /// Whether one of the logs has signed it over an entry of this type.
    fn check(&self, entry_type: u8, entry: &[u8], leaf: &Certificate, logs: &[Log]) -> Result<(), SctError> {
        let mut result = Err(SctError::UnknownLog { id: hex::encode(self.log_id) });
        for log in logs.iter().filter(|log| log.id == self.log_id) {
            result = self.check_with(entry_type, entry, leaf, log);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn check_with(&self, entry_type: u8, entry: &[u8], leaf: &Certificate, log: &Log) -> Result<(), SctError> {
        // SHA-256 with the kind of the log's key and nothing else (RFC 6962 §2.1.4).
        let algorithm = match (self.hash, self.algorithm, log.key.kind()) {
            (4, 3, KeyKind::P256 | KeyKind::P384 | KeyKind::P521) => Algorithm::Ecdsa(Hash::Sha256),
            (4, 1, KeyKind::Rsa { .. }) => Algorithm::RsaPkcs1(Hash::Sha256),
            (hash, signature, _) => return Err(SctError::Algorithm { log: log.label(), hash, signature }),
        };
        let mut message = vec![0, 0];
        message.extend(self.timestamp.to_be_bytes());
        message.extend([0, entry_type]);
        message.extend(entry);
        let length = u16::try_from(self.extensions.len()).map_err(malformed)?;
        message.extend(length.to_be_bytes());
        message.extend(self.extensions);
        if log.key.verify_as(algorithm, &message, self.signature).is_err() {
            return Err(SctError::BadSignature { log: log.label() });
        }
        let time = i64::try_from(self.timestamp).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
        let time = time.ok_or_else(|| malformed("a time after the end of all times"))?;
        if !log.window.covers(time) {
            return Err(SctError::Window { log: log.label(), time, window: log.window });
        }
        let (from, until) = (leaf.not_before(), leaf.not_after());
        if time > until || from.duration_since(time) > EARLIER {
            return Err(SctError::Time { log: log.label(), time, from, until });
        }
        Ok(())
    }
}

/// How many signed certificate timestamps of `leaf` are by logs that are believed; at least one.
///
/// They stand in the certificate, or come beside it (`detached`): the document that Fulcio sends then. `issuer` is the
/// certificate whose key signed `leaf`.
pub fn check_scts(
    leaf: &Certificate,
    issuer: &Certificate,
    ct_logs: &[Log],
    detached: Option<&[u8]>,
) -> Result<usize, SctError> {
    if ct_logs.is_empty() {
        return Err(SctError::NoLogs);
    }
    let (without, list) = precertificate(leaf.der()).map_err(|error| malformed(format!("the certificate: {error}")))?;
    let mut good = 0;
    let mut why = SctError::NoTimestamp;
    let mut count = |result: Result<(), SctError>| match result {
        Ok(()) => good += 1,
        Err(error) => why = error,
    };
    if let Some(list) = list {
        let key = raw_key(issuer.der()).map_err(|error| malformed(format!("the issuer's certificate: {error}")))?;
        let mut entry = sha256(key).to_vec();
        with_length(&mut entry, &without)?;
        for sct in read_list(&list)? {
            count(Sct::parse(sct)?.check(1, &entry, leaf, ct_logs));
        }
    }
    if let Some(document) = detached {
        let mut entry = Vec::new();
        with_length(&mut entry, leaf.der())?;
        count(of_document(document, |sct| sct.check(0, &entry, leaf, ct_logs)));
    }
    if good == 0 { Err(why) } else { Ok(good) }
}

/// The key of a certificate as it is encoded there.
fn raw_key(certificate: &[u8]) -> der::Result<&[u8]> {
    let mut outer = SliceReader::new(AnyRef::from_der(certificate)?.value())?;
    let mut fields = SliceReader::new(AnyRef::from_der(outer.tlv_bytes()?)?.value())?;
    if fields.tlv_bytes()?.first() == Some(&VERSION) {
        fields.tlv_bytes()?; // the serial number; old certificates begin with it
    }
    for _ in ["signature", "issuer", "validity", "subject"] {
        fields.tlv_bytes()?;
    }
    fields.tlv_bytes()
}

fn with_length(entry: &mut Vec<u8>, bytes: &[u8]) -> Result<(), SctError> {
    let length = u32::try_from(bytes.len()).map_err(malformed)?.to_be_bytes();
    if length[0] != 0 {
        return Err(malformed("a certificate that is too long"));
    }
    entry.extend(&length[1..]);
    entry.extend(bytes);
    Ok(())
}

fn read_list(list: &[u8]) -> Result<Vec<&[u8]>, SctError> {
    let mut outer = Bytes(list);
    let mut inner = Bytes(outer.vector()?);
    outer.end()?;
    let mut found = Vec::new();
    while !inner.0.is_empty() {
        if found.len() == MAX_SCTS {
            return Err(malformed(format!("more than {MAX_SCTS} timestamps")));
        }
        found.push(inner.vector()?);
    }
    if found.is_empty() { Err(SctError::NoTimestamp) } else { Ok(found) }
}

/// What a log of certificates answers (RFC 6962 §4.1), as Fulcio hands it on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detached {
    sct_version: u8,
    id: String,
    timestamp: u64,
    #[serde(default)]
    extensions: String,
    signature: String,
}

fn of_document(document: &[u8], check: impl Fn(&Sct<'_>) -> Result<(), SctError>) -> Result<(), SctError> {
    if document.len() > MAX_DETACHED {
        return Err(malformed(format!("{} bytes; {MAX_DETACHED} are read", document.len())));
    }
    let text = std::str::from_utf8(document).map_err(malformed)?;
    strict::document(text).map_err(malformed)?;
    let written: Detached = serde_json::from_str(text).map_err(malformed)?;
    if written.sct_version != 0 {
        return Err(malformed("a timestamp of another version than 1"));
    }
    let decoded = |text: &str| STANDARD.decode(text).map_err(malformed);
    let (log_id, extensions, signed) =
        (decoded(&written.id)?, decoded(&written.extensions)?, decoded(&written.signature)?);
    let mut signed = Bytes(&signed);
    let [hash, algorithm] = *signed.take(2)? else { return Err(malformed("it ends too early")) };
    let signature = signed.vector()?;
    signed.end()?;
    let timestamp = written.timestamp;
    check(&Sct { log_id: &log_id, timestamp, extensions: &extensions, hash, algorithm, signature })
}

/// The part of a certificate that its issuer signs, as it was before the list of timestamps was put in, and the list.
///
/// Everything else is taken over byte for byte; only the three lengths around the list are written anew.
fn precertificate(certificate: &[u8]) -> der::Result<(Vec<u8>, Option<Vec<u8>>)> {
    let mut outer = SliceReader::new(AnyRef::from_der(certificate)?.value())?;
    let tbs = AnyRef::from_der(outer.tlv_bytes()?)?;
    let mut fields = SliceReader::new(tbs.value())?;
    let mut content = Vec::with_capacity(tbs.value().len());
    let mut list = None;
    while !fields.is_finished() {
        let field = fields.tlv_bytes()?;
        if field.first() == Some(&EXTENSIONS) {
            content.extend(without_list(field, &mut list)?);
        } else {
            content.extend(field);
        }
    }
    Ok((framed(Tag::Sequence, &content)?, list))
}

fn without_list(field: &[u8], list: &mut Option<Vec<u8>>) -> der::Result<Vec<u8>> {
    let outer = AnyRef::from_der(field)?;
    let tag = der::Tagged::tag(&outer);
    let mut extensions = SliceReader::new(AnyRef::from_der(outer.value())?.value())?;
    let mut kept = Vec::with_capacity(field.len());
    while !extensions.is_finished() {
        let extension = extensions.tlv_bytes()?;
        let mut parts = SliceReader::new(AnyRef::from_der(extension)?.value())?;
        if ObjectIdentifier::decode(&mut parts)? != LIST {
            kept.extend(extension);
            continue;
        }
        let mut value = AnyRef::decode(&mut parts)?;
        if der::Tagged::tag(&value) == Tag::Boolean {
            value = AnyRef::decode(&mut parts)?;
        }
        let bytes = value.decode_as::<&OctetStringRef>()?.as_bytes();
        *list = Some(<&OctetStringRef>::from_der(bytes)?.as_bytes().to_vec());
    }
    if kept.is_empty() { Ok(kept) } else { framed(tag, &framed(Tag::Sequence, &kept)?) }
}

/// `content` with tag and length before it.
fn framed(tag: Tag, content: &[u8]) -> der::Result<Vec<u8>> {
    let mut bytes = Header::new(tag, Length::try_from(content.len())?).to_der()?;
    bytes.extend(content);
    Ok(bytes)
}
