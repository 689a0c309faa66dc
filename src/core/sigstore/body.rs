//! What a log keeps of an entry: the kinds of records, read strictly.
//!
//! Sources: sigstore/rekor, `pkg/types/{hashedrekord,dsse,intoto}`; sigstore/rekor-tiles, `rekor/v2/hashedrekord.proto`;
//! sigstore-oci §8, §9.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::base64;
use crate::evidence::strict;

/// Most signatures of an envelope in an entry.
const MAX_SIGNATURES: usize = 32;

/// A record.
#[derive(Debug)]
pub(super) enum Body {
    /// `hashedrekord` 0.0.1: the hash of bytes, and a signature over them.
    Hashed { hash: Named, signed: Pair },
    /// `dsse` 0.0.1 or `intoto` 0.0.2: an envelope of which only hashes are kept.
    Envelope {
        /// Of the document as it was sent.
        document: Named,
        payload: Named,
        /// Where it is kept (`intoto`).
        payload_type: Option<String>,
        signatures: Vec<Pair>,
    },
    /// `hashedrekord` 0.0.2.
    Tiled(Tiled),
}

/// A hash and its name, the hash in hex.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) algorithm: String,
    pub(super) value: String,
}

/// A signature and a PEM file with a certificate or key.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) signature: Vec<u8>,
    pub(super) pem: Vec<u8>,
}

/// A record in a log of tiles.
#[derive(Debug)]
pub(super) struct Tiled {
    /// `SHA2_256`, `SHA2_384` or `SHA2_512`.
    pub(super) algorithm: String,
    pub(super) digest: Vec<u8>,
    pub(super) signature: Vec<u8>,
    pub(super) key_details: String,
    pub(super) is_certificate: bool,
    /// Certificate or key in DER.
    pub(super) verifier: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Outer<'a> {
    api_version: String,
    kind: String,
    #[serde(borrow)]
    spec: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HashedSpec {
    data: HashedData,
    signature: HashedSignature,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HashedData {
    hash: Named,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HashedSignature {
    content: String,
    public_key: Content,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    content: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DsseSpec {
    envelope_hash: Named,
    payload_hash: Named,
    signatures: Vec<DsseSignature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DsseSignature {
    signature: String,
    verifier: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntotoSpec {
    content: IntotoContent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct IntotoContent {
    envelope: IntotoEnvelope,
    hash: Named,
    payload_hash: Named,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct IntotoEnvelope {
    payload_type: String,
    signatures: Vec<IntotoSignature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct IntotoSignature {
    sig: String,
    public_key: String,
    /// Said by whoever sent it.
    #[serde(default, rename = "keyid")]
    _key_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TiledSpec {
    #[serde(rename = "hashedRekordV002")]
    record: TiledRecord,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TiledRecord {
    data: TiledData,
    signature: TiledSignature,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TiledData {
    algorithm: String,
    digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TiledSignature {
    content: String,
    verifier: TiledVerifier,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TiledVerifier {
    key_details: String,
    public_key: Option<Raw>,
    x509_certificate: Option<Raw>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    raw_bytes: String,
}

/// Kind and version as a record says them itself.
pub(super) fn kind_of(bytes: &[u8]) -> Result<(String, String), String> {
    let outer = outer(bytes)?;
    Ok((outer.kind, outer.api_version))
}

fn outer(bytes: &[u8]) -> Result<Outer<'_>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    strict::document(text).map_err(|error| error.to_string())?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn decoded(text: &str, what: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("`{what}` is no base64: {error}"))
}

impl Body {
    /// Whether records of this kind and version are read.
    pub(super) fn is_known(kind: &str, version: &str) -> bool {
        matches!((kind, version), ("hashedrekord", "0.0.1" | "0.0.2") | ("dsse", "0.0.1") | ("intoto", "0.0.2"))
    }

    /// Whether records of this kind and version are in logs of tiles, and only there.
    pub(super) fn is_tiled(kind: &str, version: &str) -> bool {
        (kind, version) == ("hashedrekord", "0.0.2")
    }

    /// Reads a record of a kind and version that [`Body::is_known`].
    ///
    /// # Errors
    /// What is wrong with it, for a message.
    pub(super) fn parse(bytes: &[u8], kind: &str, version: &str) -> Result<Self, String> {
        let outer = outer(bytes)?;
        if outer.kind != kind || outer.api_version != version {
            let (found, other) = (strict::shown(&outer.kind), strict::shown(&outer.api_version));
            return Err(format!("it is of the kind {found} {other}, and is said to be {kind} {version}"));
        }
        let spec = outer.spec.get();
        match (kind, version) {
            ("hashedrekord", "0.0.1") => Self::hashed(read(spec)?),
            ("dsse", "0.0.1") => Self::dsse(read(spec)?),
            ("intoto", "0.0.2") => Self::intoto(read(spec)?),
            ("hashedrekord", "0.0.2") => Tiled::of(read(spec)?).map(Self::Tiled),
            _ => Err(format!("the kind {kind} {version} is not known")),
        }
    }

    fn hashed(spec: HashedSpec) -> Result<Self, String> {
        let signature = decoded(&spec.signature.content, "signature.content")?;
        let pem = decoded(&spec.signature.public_key.content, "publicKey.content")?;
        Ok(Self::Hashed { hash: spec.data.hash, signed: Pair { signature, pem } })
    }

    fn dsse(spec: DsseSpec) -> Result<Self, String> {
        let pair = |one: &DsseSignature| {
            Ok(Pair { signature: decoded(&one.signature, "signature")?, pem: decoded(&one.verifier, "verifier")? })
        };
        let signatures = pairs(&spec.signatures, pair)?;
        Ok(Self::Envelope { document: spec.envelope_hash, payload: spec.payload_hash, payload_type: None, signatures })
    }

    fn intoto(spec: IntotoSpec) -> Result<Self, String> {
        let IntotoContent { envelope, hash, payload_hash } = spec.content;
        // In base64 twice.
        let pair = |one: &IntotoSignature| {
            let once = decoded(&one.sig, "sig")?;
            let once = std::str::from_utf8(&once).map_err(|_| "`sig` is not base64 twice".to_owned())?;
            Ok(Pair { signature: decoded(once, "sig")?, pem: decoded(&one.public_key, "publicKey")? })
        };
        let signatures = pairs(&envelope.signatures, pair)?;
        let payload_type = Some(envelope.payload_type);
        Ok(Self::Envelope { document: hash, payload: payload_hash, payload_type, signatures })
    }
}

fn read<'a, T: Deserialize<'a>>(spec: &'a str) -> Result<T, String> {
    serde_json::from_str(spec).map_err(|error| error.to_string())
}

fn pairs<T>(list: &[T], pair: impl Fn(&T) -> Result<Pair, String>) -> Result<Vec<Pair>, String> {
    if list.is_empty() || list.len() > MAX_SIGNATURES {
        return Err(format!("{} signatures; 1 to {MAX_SIGNATURES} are read", list.len()));
    }
    list.iter().map(pair).collect()
}

impl Tiled {
    fn of(spec: TiledSpec) -> Result<Self, String> {
        let TiledRecord { data, signature } = spec.record;
        let (is_certificate, verifier) = match (signature.verifier.x509_certificate, signature.verifier.public_key) {
            (Some(raw), None) => (true, raw),
            (None, Some(raw)) => (false, raw),
            _ => return Err("its verifier has not exactly one of certificate and key".to_owned()),
        };
        Ok(Self {
            algorithm: data.algorithm,
            digest: decoded(&data.digest, "digest")?,
            signature: decoded(&signature.content, "content")?,
            key_details: signature.verifier.key_details,
            is_certificate,
            verifier: decoded(&verifier.raw_bytes, "rawBytes")?,
        })
    }

    /// The leaf that the log makes of it (RFC 8785). The two names in it are among those that are known.
    pub(super) fn leaf(&self) -> Vec<u8> {
        let verifier = if self.is_certificate { "x509Certificate" } else { "publicKey" };
        format!(
            concat!(
                r#"{{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{{"hashedRekordV002":{{"#,
                r#""data":{{"algorithm":"{}","digest":"{}"}},"signature":{{"content":"{}","verifier":{{"#,
                r#""keyDetails":"{}","{}":{{"rawBytes":"{}"}}}}}}}}}}}}"#
            ),
            self.algorithm,
            base64(&self.digest),
            base64(&self.signature),
            self.key_details,
            verifier,
            base64(&self.verifier),
        )
        .into_bytes()
    }
}
