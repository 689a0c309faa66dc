//! Envelopes inside other things: a Sigstore bundle, and a predicate that is an envelope itself.
//!
//! Repacking never improves a verdict (security rule 13): what comes out is judged by its own signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::source::MAX_ENVELOPE;
use crate::dsse::{Envelope, ParseError, TIMESTAMP_TSP, Timestamp};
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
    #[serde(default)]
    verification_material: Material,
    #[serde(borrow)]
    dsse_envelope: &'a RawValue,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Material {
    certificate: Option<Certificate>,
    x509_certificate_chain: Option<Chain>,
    timestamp_verification_data: Stamps,
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
        for stamp in &self.verification_material.timestamp_verification_data.rfc3161_timestamps {
            let data = bytes("timestampVerificationData", &stamp.signed_timestamp)?;
            // A bundle has whole responses, an envelope the tokens in them.
            let data = token_of_response(&data).map(<[u8]>::to_vec).unwrap_or(data);
            timestamps.push(Timestamp { kind: TIMESTAMP_TSP.to_owned(), data });
        }
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
    use crate::trust::Certificate;

    #[test]
    fn the_material_of_a_bundle_is_that_of_its_signature() {
        let envelope =
            open(include_bytes!("../../../fixtures/certificates/sigstore/bundle.json")).expect("a recorded bundle");
        let [signature] = envelope.signatures.as_slice() else { panic!("one signature") };
        let pem = signature.certificate.as_deref().expect("a certificate");
        assert!(Certificate::read(pem).expect("reads").may_sign_messages());
        let [stamp] = signature.timestamps.as_slice() else { panic!("one timestamp") };
        assert_eq!(stamp.kind, TIMESTAMP_TSP);
        // The token, not the answer that it came in.
        assert!(token_of_response(&stamp.data).is_err());
    }
}
