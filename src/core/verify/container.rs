//! Envelopes inside other things: a Sigstore bundle, and a predicate that is an envelope itself.
//!
//! Repacking never improves a verdict (security rule 13): what comes out is judged by its own signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::source::MAX_ENVELOPE;
use crate::dsse::{Envelope, MAX_TIMESTAMPS, ParseError, TIMESTAMP_LOG_ENTRY, TIMESTAMP_TSP, Timestamp};
use crate::sign::pem;
use crate::statement;
use crate::trust::timestamp::token_of_response;

/// Reads an envelope, or the one in a Sigstore bundle (`application/vnd.dev.sigstore.bundle…+json`).
pub fn open(bytes: &[u8]) -> Result<Envelope, ParseError> {
    let plain = Envelope::parse(bytes, MAX_ENVELOPE);
    if plain.is_ok() {
        return plain;
    }
    match serde_json::from_slice::<Bundle<'_>>(bytes) {
        Ok(bundle) => bundle.into_envelope(),
        Err(_) => plain,
    }
}

/// The envelope that is the predicate of a statement in the envelope `bytes`, as `cosign attest --predicate FILE` makes
/// it: as an object, or as the text in `Data` of cosign's custom predicate.
pub(super) fn nested(bytes: &[u8]) -> Option<Vec<u8>> {
    let outer = open(bytes).ok()?;
    nested_in(&outer)
}

/// The same of an envelope that is read already.
pub(crate) fn nested_in(outer: &Envelope) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Statement<'a> {
        #[serde(borrow)]
        predicate: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Custom {
        #[serde(rename = "Data")]
        data: String,
    }
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow, rename = "payload")]
        _payload: &'a RawValue,
        #[serde(borrow, rename = "payloadType")]
        _payload_type: &'a RawValue,
        #[serde(borrow, rename = "signatures")]
        _signatures: &'a RawValue,
    }
    if outer.payload_type != statement::PAYLOAD_TYPE {
        return None;
    }
    let statement: Statement<'_> = serde_json::from_slice(&outer.payload).ok()?;
    let text = statement.predicate.get();
    if serde_json::from_str::<Shape<'_>>(text).is_ok() {
        return Some(text.as_bytes().to_vec());
    }
    let custom: Custom = serde_json::from_str(text).ok()?;
    serde_json::from_str::<Shape<'_>>(&custom.data).is_ok().then(|| custom.data.into_bytes())
}

/// A Sigstore bundle (protobuf-specs, `sigstore_bundle.proto`) with an envelope.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle<'a> {
    #[serde(borrow, default)]
    verification_material: Material<'a>,
    #[serde(borrow)]
    dsse_envelope: &'a RawValue,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Material<'a> {
    certificate: Option<Certificate>,
    x509_certificate_chain: Option<Chain>,
    timestamp_verification_data: Option<Stamps>,
    #[serde(borrow)]
    tlog_entries: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    raw_bytes: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Chain {
    certificates: Vec<Certificate>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stamps {
    rfc3161_timestamps: Vec<Stamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stamp {
    signed_timestamp: String,
}

/// The PEM text that an envelope holds.
fn as_pem(der: &[u8]) -> Vec<u8> {
    pem::encode("CERTIFICATE", der).as_bytes().to_vec()
}

impl Bundle<'_> {
    fn into_envelope(self) -> Result<Envelope, ParseError> {
        let mut envelope = Envelope::parse(self.dsse_envelope.get().as_bytes(), MAX_ENVELOPE)?;
        let bytes = |member: &str, text: &str| {
            STANDARD.decode(text).map_err(|error| ParseError::Base64 {
                member: format!("verificationMaterial.{member}"),
                reason: error.to_string(),
            })
        };
        let mut certificates = Vec::new();
        if let Some(one) = &self.verification_material.certificate {
            certificates.push(as_pem(&bytes("certificate", &one.raw_bytes)?));
        }
        for one in self.verification_material.x509_certificate_chain.iter().flat_map(|chain| &chain.certificates) {
            certificates.push(as_pem(&bytes("x509CertificateChain", &one.raw_bytes)?));
        }
        let mut timestamps = Vec::new();
        let stamps = self.verification_material.timestamp_verification_data.unwrap_or_default();
        let entries = self.verification_material.tlog_entries.unwrap_or_default();
        if stamps.rfc3161_timestamps.len().max(entries.len()) > MAX_TIMESTAMPS {
            let member = "verificationMaterial".to_owned();
            return Err(ParseError::TooMany { member, limit: MAX_TIMESTAMPS, unit: "timestamps or log entries" });
        }
        for stamp in &stamps.rfc3161_timestamps {
            let data = bytes("timestampVerificationData", &stamp.signed_timestamp)?;
            // A bundle has whole responses, an envelope the tokens in them.
            let data = token_of_response(&data).map(<[u8]>::to_vec).unwrap_or(data);
            timestamps.push(Timestamp { kind: TIMESTAMP_TSP.to_owned(), data });
        }
        timestamps.extend(
            entries
                .into_iter()
                .map(|entry| Timestamp { kind: TIMESTAMP_LOG_ENTRY.to_owned(), data: entry.get().as_bytes().to_vec() }),
        );
        // A bundle has one signature, and its material is that signature's.
        if let [signature] = envelope.signatures.as_mut_slice() {
            let mut certificates = certificates.into_iter();
            signature.certificate = certificates.next().or(signature.certificate.take());
            signature.intermediates.extend(certificates);
            signature.timestamps.extend(timestamps);
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigstore::Entry;
    use crate::trust::Certificate;

    #[test]
    fn the_material_of_a_bundle_is_that_of_its_signature() {
        let envelope =
            open(include_bytes!("../../../fixtures/certificates/sigstore/bundle.json")).expect("a recorded bundle");
        let [signature] = envelope.signatures.as_slice() else { panic!("one signature") };
        let pem = signature.certificate.as_deref().expect("a certificate");
        assert!(Certificate::read(pem).expect("reads").may_sign_messages());
        let [stamp, entry] = signature.timestamps.as_slice() else { panic!("timestamp and entry") };
        assert_eq!(entry.kind, TIMESTAMP_LOG_ENTRY);
        assert_eq!(stamp.kind, TIMESTAMP_TSP);
        // The token, not the answer that it came in.
        assert!(token_of_response(&stamp.data).is_err());
    }

    #[test]
    fn the_log_entries_of_a_bundle_are_those_of_its_signature() {
        let bundle = include_bytes!("../../../fixtures/cosign/bundles/attblob-keyless-rekor2.sigstore.json");
        let envelope = open(bundle).expect("a recorded bundle");
        let [stamp, entry] = envelope.signatures[0].timestamps.as_slice() else { panic!("timestamp and entry") };
        assert_eq!((stamp.kind.as_str(), entry.kind.as_str()), (TIMESTAMP_TSP, TIMESTAMP_LOG_ENTRY));
        assert_eq!(Entry::parse(&entry.data).expect("reads").version, "0.0.2");
        // The same in an envelope: written and read, nothing is lost.
        let again = open(&envelope.to_json()).expect("reads");
        assert_eq!(again, envelope);
        let text = std::str::from_utf8(bundle).expect("text");
        let start = text.find("\"tlogEntries\":[").expect("entries") + "\"tlogEntries\":[".len();
        let many = format!("{}{}{}", &text[..start], "{},".repeat(MAX_TIMESTAMPS), &text[start..]);
        assert!(matches!(open(many.as_bytes()), Err(ParseError::TooMany { .. })));
        let null = text.replacen("\"tlogEntries\":[", "\"tlogEntries\":null,\"x\":[", 1);
        assert_eq!(open(null.as_bytes()).expect("reads").signatures[0].timestamps.len(), 1);
    }
}
