//! Sigstore bundles: one signature with what is needed to check it, in one JSON document.
//!
//! Source: sigstore `protobuf-specs`, `sigstore_bundle.proto` and `sigstore_rekor.proto`, in protobuf's JSON form;
//! sigstore-oci §4. What comes from a log or a timestamp authority is read, not checked here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::dsse::{Envelope, Signature};
use crate::evidence::strict::{self, List};
use crate::sign::PublicKey;
use crate::sigstore::json::{Bytes, message};
use crate::sigstore::{Entry, WrittenEntry, no_duplicates};
use crate::statement::PAYLOAD_TYPE;

/// Media type of the bundles that are written.
pub const BUNDLE_V03: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What the media types of all bundles begin with.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// Longest bundle, in bytes.
pub const MAX_BUNDLE: usize = 128 * 1024 * 1024;
/// Most log entries, timestamps and certificates of a bundle (sigstore-go).
pub const MAX_PARTS: usize = 32;

/// Media types that are read, with their version.
const READ: [(&str, Version); 5] = [
    ("application/vnd.dev.sigstore.bundle+json;version=0.1", Version::V01),
    ("application/vnd.dev.sigstore.bundle+json;version=0.2", Version::V02),
    ("application/vnd.dev.sigstore.bundle+json;version=0.3", Version::V03),
    (BUNDLE_V03, Version::V03),
    ("application/vnd.dev.sigstore.bundle.v0.3.1+json", Version::V03),
];

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.1
    V01,
    /// 0.2
    V02,
    /// 0.3
    V03,
}

/// A bundle as it was read; nothing says yet that the signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Version of its format.
    pub version: Version,
    /// What is said who signed.
    pub signer: Signer,
    /// What is signed.
    pub content: Content,
    /// The log entries, none twice.
    pub entries: Vec<Entry>,
    /// The timestamps, `TimeStampResp` in DER.
    pub timestamps: Vec<Vec<u8>>,
}

/// What a bundle says who signed. A verifier that has a key does not believe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// A key, with a hint which.
    Key {
        /// [`hint`] of the key, with cosign.
        hint: String,
    },
    /// A certificate in DER, and those between it and a root.
    Certificate {
        /// Leaf first.
        chain: Vec<Vec<u8>>,
    },
}

/// What a bundle's signature is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An in-toto statement in an envelope of one signature.
    Envelope(Envelope),
    /// Bytes that are not in the bundle.
    Message {
        /// The SHA-256 that is said to be theirs; not proven by the signature.
        sha256: Option<Vec<u8>>,
        /// The signature over the bytes.
        signature: Vec<u8>,
    },
}

/// A document is no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bundle malformed: {reason}")]
pub struct Malformed {
    /// What is wrong.
    pub reason: String,
}

impl Malformed {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// The hint by which cosign names a key: base64 of the SHA-256 of its `SubjectPublicKeyInfo`.
pub fn hint(key: &PublicKey) -> String {
    STANDARD.encode(crate::digest::sha256(key.to_der()))
}

/// A bundle of a statement that a key has signed, without log and timestamp. The envelope's key id is left out: readers
/// refuse others than their own.
pub fn of_envelope(envelope: &Envelope, signature: &Signature, hint: &str) -> Vec<u8> {
    let text = serde_json::json!({
        "mediaType": BUNDLE_V03,
        "verificationMaterial": { "publicKey": { "hint": hint } },
        "dsseEnvelope": {
            "payload": STANDARD.encode(&envelope.payload),
            "payloadType": envelope.payload_type,
            "signatures": [{ "sig": STANDARD.encode(&signature.sig) }],
        },
    });
    text.to_string().into_bytes()
}

/// A bundle of bytes that a key has signed, without log and timestamp.
pub fn of_message(sha256: &[u8; 32], signature: &[u8], hint: &str) -> Vec<u8> {
    let text = serde_json::json!({
        "mediaType": BUNDLE_V03,
        "verificationMaterial": { "publicKey": { "hint": hint } },
        "messageSignature": {
            "messageDigest": { "algorithm": "SHA2_256", "digest": STANDARD.encode(sha256) },
            "signature": STANDARD.encode(signature),
        },
    });
    text.to_string().into_bytes()
}

message!(Document {
    media_type / "media_type": String,
    verification_material / "verification_material": Material,
    dsse_envelope / "dsse_envelope": Dsse,
    message_signature / "message_signature": Message,
});
message!(Holder {
    media_type / "media_type": String,
    verification_material / "verification_material": Material,
    dsse_envelope / "dsse_envelope": Box<RawValue>,
    message_signature / "message_signature": IgnoredAny,
});
message!(Material {
    certificate / "certificate": Certificate,
    public_key / "public_key": Key,
    x509_certificate_chain / "x509_certificate_chain": Chain,
    tlog_entries / "tlog_entries": List<WrittenEntry, MAX_PARTS>,
    timestamp_verification_data / "timestamp_verification_data": Timestamps,
});
message!(Certificate { raw_bytes / "raw_bytes": Bytes });
message!(Key { hint / "hint": String });
message!(Chain { certificates / "certificates": List<Certificate, MAX_PARTS> });
message!(Timestamps { rfc3161_timestamps / "rfc3161_timestamps": List<Timestamp, MAX_PARTS> });
message!(Timestamp { signed_timestamp / "signed_timestamp": Bytes });
message!(Dsse {
    payload / "payload": Bytes,
    payload_type / "payload_type": String,
    signatures / "signatures": List<Signed, 2>,
});
message!(Signed { sig / "sig": Bytes, keyid / "keyid": String });
message!(Message { message_digest / "message_digest": Hash, signature / "signature": Bytes });
message!(Hash { algorithm / "algorithm": String, digest / "digest": Bytes });

impl Bundle {
    /// Reads a bundle strictly: members that are not known, members twice, two contents, two signers or signatures, and
    /// material that its version does not have are refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let document: Document = document(bytes)?;
        let version = version_of(document.media_type)?;
        let (signer, entries, timestamps) = of_material(document.verification_material, version)?;
        let content = match (document.dsse_envelope, document.message_signature) {
            (Some(envelope), None) => Content::Envelope(of_dsse(envelope)?),
            (None, Some(message)) => of_bytes(message)?,
            _ => return Err(Malformed::new("it has not exactly one of `dsseEnvelope` and `messageSignature`")),
        };
        Ok(Self { version, signer, content, entries, timestamps })
    }
}

/// Reads all of a bundle but its envelope, as strictly as [`Bundle::parse`]. The envelope comes as it is written: at the
/// gate it may have what Sigstore's have not, such as several signatures.
pub(crate) fn around_envelope(bytes: &[u8]) -> Result<(Box<RawValue>, Vouched), Malformed> {
    let holder: Holder = document(bytes)?;
    let version = version_of(holder.media_type)?;
    let vouched = of_material(holder.verification_material, version)?;
    match (holder.dsse_envelope, holder.message_signature) {
        (Some(envelope), None) => Ok((envelope, vouched)),
        _ => Err(Malformed::new("it has not exactly one of `dsseEnvelope` and `messageSignature`")),
    }
}

fn document<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    if bytes.len() > MAX_BUNDLE {
        return Err(Malformed::new(format!("{} bytes; {MAX_BUNDLE} are read", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| Malformed::new(error.to_string()))?;
    strict::document(text).map_err(|error| Malformed::new(error.to_string()))?;
    serde_json::from_str(text).map_err(|error| Malformed::new(error.to_string()))
}

fn version_of(media_type: Option<String>) -> Result<Version, Malformed> {
    let media_type = media_type.unwrap_or_default();
    let version = READ.iter().find(|(known, _)| *known == media_type).map(|(_, version)| *version);
    version.ok_or_else(|| Malformed::new(format!("media type `{}`", strict::shown(&media_type).trim_matches('"'))))
}

/// Who is said to have signed, the log entries, the timestamps.
pub(crate) type Vouched = (Signer, Vec<Entry>, Vec<Vec<u8>>);

fn of_material(material: Option<Material>, version: Version) -> Result<Vouched, Malformed> {
    let material = material.ok_or_else(|| Malformed::new("`verificationMaterial` is missing"))?;
    let raw = |certificate: Certificate| {
        certificate.raw_bytes.map(|bytes| bytes.0).ok_or_else(|| Malformed::new("a certificate without `rawBytes`"))
    };
    let signer = match (material.certificate, material.public_key, material.x509_certificate_chain) {
        (Some(certificate), None, None) => Signer::Certificate { chain: vec![raw(certificate)?] },
        (None, Some(key), None) => Signer::Key { hint: key.hint.unwrap_or_default() },
        (None, None, Some(_)) if version == Version::V03 => {
            return Err(Malformed::new("a chain of certificates, which version 0.3 has not"));
        }
        (None, None, Some(chain)) => {
            let chain = chain.certificates.unwrap_or_default().0;
            if chain.is_empty() {
                return Err(Malformed::new("a chain of no certificates"));
            }
            Signer::Certificate { chain: chain.into_iter().map(raw).collect::<Result<_, _>>()? }
        }
        _ => return Err(Malformed::new("it has not exactly one of `certificate` and `publicKey`")),
    };
    let entries = material.tlog_entries.unwrap_or_default().0;
    let timestamps = material.timestamp_verification_data.and_then(|data| data.rfc3161_timestamps);
    let timestamps = timestamps.unwrap_or_default().0;
    let entries = entries.into_iter().map(Entry::of).collect::<Result<Vec<_>, _>>();
    let entries = entries.map_err(|error| Malformed::new(error.to_string()))?;
    no_duplicates(&entries).map_err(|error| Malformed::new(error.to_string()))?;
    for entry in &entries {
        if version == Version::V01 && entry.promise.is_none() {
            return Err(Malformed::new("a log entry without inclusion promise"));
        }
        if version != Version::V01 && entry.proof.as_ref().is_none_or(|proof| proof.checkpoint.is_none()) {
            return Err(Malformed::new("a log entry without inclusion proof"));
        }
    }
    let timestamps = timestamps.into_iter().filter_map(|one| one.signed_timestamp).map(|bytes| bytes.0).collect();
    Ok((signer, entries, timestamps))
}

fn of_dsse(envelope: Dsse) -> Result<Envelope, Malformed> {
    let missing = |what: &str| Malformed::new(format!("`dsseEnvelope.{what}` is missing"));
    let payload = envelope.payload.ok_or_else(|| missing("payload"))?.0;
    let payload_type = envelope.payload_type.ok_or_else(|| missing("payloadType"))?;
    if payload_type != PAYLOAD_TYPE {
        return Err(Malformed::new(format!("payload type {}", strict::shown(&payload_type))));
    }
    let mut signatures = envelope.signatures.unwrap_or_default().0.into_iter();
    let (Some(signed), None) = (signatures.next(), signatures.next()) else {
        return Err(Malformed::new("it has not exactly one signature"));
    };
    let sig = signed.sig.filter(|sig| !sig.0.is_empty()).ok_or_else(|| missing("signatures[0].sig"))?.0;
    let signature = Signature { key_id: signed.keyid.unwrap_or_default(), sig, ..Signature::default() };
    Ok(Envelope { payload, payload_type, signatures: vec![signature] })
}

fn of_bytes(message: Message) -> Result<Content, Malformed> {
    let signature = message
        .signature
        .filter(|signature| !signature.0.is_empty())
        .ok_or_else(|| Malformed::new("`messageSignature.signature` is missing"))?
        .0;
    // Unproven, and demanded all the same: cosign refuses a bundle without it.
    let missing = || Malformed::new("`messageSignature.messageDigest` is missing");
    let hash = message.message_digest.ok_or_else(missing)?;
    let digest = hash.digest.filter(|digest| !digest.0.is_empty()).ok_or_else(missing)?.0;
    let sha256 = match hash.algorithm.as_deref() {
        Some("SHA2_256") => Some(digest),
        Some("SHA2_384" | "SHA2_512" | "SHA3_256" | "SHA3_384") => None,
        _ => return Err(Malformed::new("`messageSignature.messageDigest` is of no known algorithm")),
    };
    Ok(Content::Message { sha256, signature })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> String {
        let payload = STANDARD.encode("{}");
        format!(
            r#"{{"mediaType":"{BUNDLE_V03}","verificationMaterial":{{"publicKey":{{"hint":"aGludA=="}}}},"dsseEnvelope":{{"payload":"{payload}","payloadType":"{PAYLOAD_TYPE}","signatures":[{{"sig":"c2ln"}}]}}}}"#
        )
    }

    #[test]
    fn both_spellings_of_members_are_read() {
        let bundle = Bundle::parse(good().as_bytes()).expect("a bundle");
        assert_eq!(bundle.signer, Signer::Key { hint: "aGludA==".to_owned() });
        let snake = good()
            .replace("mediaType", "media_type")
            .replace("verificationMaterial", "verification_material")
            .replace("publicKey", "public_key")
            .replace("dsseEnvelope", "dsse_envelope")
            .replace("payloadType", "payload_type");
        assert_eq!(Bundle::parse(snake.as_bytes()).expect("a bundle"), bundle);
        let Content::Envelope(envelope) = &bundle.content else { panic!("an envelope") };
        let again = of_envelope(envelope, &envelope.signatures[0], "aGludA==");
        assert_eq!(Bundle::parse(&again).expect("a bundle"), bundle);
        let message = of_message(&[7; 32], b"sig", "h");
        let content = Content::Message { sha256: Some(vec![7; 32]), signature: b"sig".to_vec() };
        assert_eq!(Bundle::parse(&message).expect("a bundle").content, content);
    }

    #[test]
    fn lists_that_are_too_long_fail_while_they_are_read() {
        let good = good();
        let inside = |member: &str| good.replace(r#""publicKey""#, &format!(r#"{member},"publicKey""#));
        // What comes after the last that is read is not even JSON.
        let many = |one: &str, count: usize| format!("{}!", format!("{one},").repeat(count));
        for (bad, limit) in [
            (inside(&format!(r#""tlogEntries":[{}]"#, many("{}", MAX_PARTS + 1))), MAX_PARTS),
            (
                inside(&format!(
                    r#""timestampVerificationData":{{"rfc3161Timestamps":[{}]}}"#,
                    many("{}", MAX_PARTS + 1)
                )),
                MAX_PARTS,
            ),
            (
                inside(&format!(r#""x509CertificateChain":{{"certificates":[{}]}}"#, many("{}", MAX_PARTS + 1))),
                MAX_PARTS,
            ),
            (good.replace(r#"[{"sig":"c2ln"}]"#, &format!("[{}]", many("{}", 3))), 2),
        ] {
            let error = serde_json::from_str::<Document>(&bad).err().expect("too many").to_string();
            assert!(error.contains(&format!("more than {limit} elements")), "{error}");
        }
        let number = r#""tlogEntries":[{"logIndex":[[1,2],[3,4]]}]"#;
        let error = serde_json::from_str::<Document>(&inside(number)).err().expect("no number").to_string();
        assert!(error.contains("expected a 64-bit number"), "{error}");
    }

    #[test]
    fn everything_else_is_malformed() {
        let good = good();
        let signed_bytes = |digest: &str| {
            format!(
                r#"{{"mediaType":"{BUNDLE_V03}","verificationMaterial":{{"publicKey":{{"hint":"aGludA=="}}}},"messageSignature":{{{digest}"signature":"c2ln"}}}}"#
            )
        };
        let digest = r#""messageDigest":{"algorithm":"SHA2_512","digest":"AA=="},"#;
        Bundle::parse(signed_bytes(digest).as_bytes()).expect("with a digest");
        for (what, bad) in [
            ("trailing data", format!("{good}x")),
            ("unknown member", good.replacen('{', r#"{"x":1,"#, 1)),
            ("unknown member inside", good.replace(r#"{"sig""#, r#"{"x":1,"sig""#)),
            ("member twice", good.replacen('{', &format!(r#"{{"mediaType":"{BUNDLE_V03}","#), 1)),
            ("member in both spellings", good.replacen('{', &format!(r#"{{"media_type":"{BUNDLE_V03}","#), 1)),
            ("media type", good.replace("v0.3+json", "v0.4+json")),
            ("no media type", good.replace(&format!(r#""mediaType":"{BUNDLE_V03}","#), "")),
            ("two signatures", good.replace(r#"[{"sig":"c2ln"}]"#, r#"[{"sig":"c2ln"},{"sig":"c2ln"}]"#)),
            ("no signature", good.replace(r#"[{"sig":"c2ln"}]"#, "[]")),
            ("empty signature", good.replace("c2ln", "")),
            ("payload type", good.replace(PAYLOAD_TYPE, "text/plain")),
            ("two signers", good.replace(r#""publicKey""#, r#""certificate":{"rawBytes":""},"publicKey""#)),
            ("no signer", good.replace(r#""publicKey":{"hint":"aGludA=="}"#, "")),
            (
                "chain in 0.3",
                good.replace(
                    r#""publicKey":{"hint":"aGludA=="}"#,
                    r#""x509CertificateChain":{"certificates":[{"rawBytes":"AA=="}]}"#,
                ),
            ),
            ("two contents", good.replacen('{', r#"{"messageSignature":{"signature":"AA=="},"#, 1)),
            ("base64", good.replace("c2ln", "c2l*")),
            ("no digest", signed_bytes("")),
            ("digest without a value", signed_bytes(r#""messageDigest":{"algorithm":"SHA2_256"},"#)),
            ("empty digest", signed_bytes(r#""messageDigest":{"algorithm":"SHA2_256","digest":""},"#)),
            ("digest of no kind", signed_bytes(r#""messageDigest":{"digest":"AA=="},"#)),
            (
                "log entry without proof",
                good.replace(r#""publicKey""#, r#""tlogEntries":[{"logIndex":"1"}],"publicKey""#),
            ),
            (
                "log index",
                good.replace(r#""publicKey""#, r#""tlogEntries":[{"logIndex":"x","inclusionProof":{}}],"publicKey""#),
            ),
            (
                "many entries",
                good.replace(
                    r#""publicKey""#,
                    &format!(r#""tlogEntries":[{}],"publicKey""#, vec![r#"{"inclusionProof":{}}"#; 33].join(",")),
                ),
            ),
        ] {
            assert_ne!(bad, good, "{what}");
            assert!(Bundle::parse(bad.as_bytes()).is_err(), "{what}: {bad}");
        }
        for text in ["", "null", "[]", "{}", "\u{feff}{}", "not json"] {
            assert!(Bundle::parse(text.as_bytes()).is_err(), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Bundle::parse(deep.as_bytes()).is_err());
    }
}
