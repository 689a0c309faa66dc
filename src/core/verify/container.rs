//! Envelopes inside other things: a Sigstore bundle, and a predicate that is an envelope itself.
//!
//! Repacking never improves a verdict (security rule 13): what comes out is judged by its own signatures.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::source::MAX_ENVELOPE;
use crate::dsse::{Envelope, ParseError, TIMESTAMP_LOG_ENTRY, TIMESTAMP_TSP, Timestamp};
use crate::image::sigstore::{self, Signer};
use crate::sign::pem;
use crate::statement;
use crate::trust::timestamp::token_of_response;

/// Reads an envelope, or the one in a Sigstore bundle (`application/vnd.dev.sigstore.bundle…+json`).
pub fn open(bytes: &[u8]) -> Result<Envelope, ParseError> {
    #[derive(Deserialize)]
    struct Holder {
        #[serde(rename = "dsseEnvelope", alias = "dsse_envelope")]
        _envelope: IgnoredAny,
    }
    let plain = Envelope::parse(bytes, MAX_ENVELOPE);
    if plain.is_ok() {
        return plain;
    }
    match serde_json::from_slice::<Holder>(bytes) {
        Ok(_) => of_bundle(bytes),
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

/// The PEM text that an envelope holds.
fn as_pem(der: &[u8]) -> Vec<u8> {
    pem::encode("CERTIFICATE", der).as_bytes().to_vec()
}

/// The envelope in a bundle, whose one signature has what the bundle brings.
fn of_bundle(bytes: &[u8]) -> Result<Envelope, ParseError> {
    let malformed = |reason: String| ParseError::Json { reason };
    let (envelope, (signer, entries, stamps)) =
        sigstore::around_envelope(bytes).map_err(|error| malformed(error.to_string()))?;
    let mut envelope = Envelope::parse(envelope.get().as_bytes(), MAX_ENVELOPE)?;
    let certificates = match signer {
        Signer::Key { .. } => Vec::new(),
        Signer::Certificate { chain } => chain,
    };
    let brings_nothing = certificates.is_empty() && stamps.is_empty() && entries.is_empty();
    let [signature] = envelope.signatures.as_mut_slice() else {
        // Whose it would be, nobody could say.
        let many = format!("a bundle of {} signatures with material for one", envelope.signatures.len());
        return if brings_nothing { Ok(envelope) } else { Err(malformed(many)) };
    };
    let mut certificates = certificates.iter().map(|der| as_pem(der));
    signature.certificate = certificates.next().or(signature.certificate.take());
    signature.intermediates.extend(certificates);
    // A bundle has whole responses, an envelope the tokens in them.
    let stamps = stamps.into_iter().map(|data| Timestamp {
        kind: TIMESTAMP_TSP.to_owned(),
        data: token_of_response(&data).map(<[u8]>::to_vec).unwrap_or(data),
    });
    let entries = entries.iter().map(|entry| Timestamp {
        kind: TIMESTAMP_LOG_ENTRY.to_owned(),
        data: entry.to_json().to_string().into_bytes(),
    });
    signature.timestamps.extend(stamps.chain(entries));
    Ok(envelope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::sigstore::MAX_PARTS;
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
        let many = format!("{}{}{}", &text[..start], "{},".repeat(MAX_PARTS), &text[start..]);
        assert!(reason(&many).contains("more than 32 elements"), "{}", reason(&many));
    }

    fn reason(text: &str) -> String {
        open(text.as_bytes()).expect_err("must be refused").to_string()
    }

    #[test]
    fn bundles_are_read_as_strictly_as_those_of_images() {
        let bundle = include_bytes!("../../../fixtures/cosign/bundles/attblob-keyless-rekor2.sigstore.json");
        let text = std::str::from_utf8(bundle).expect("text");
        open(bundle).expect("as it was recorded");
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let chain = serde_json::json!({"certificates": [value["verificationMaterial"]["certificate"]]});
        let changed = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut value = value.clone();
            change(&mut value);
            reason(&value.to_string())
        };
        for (error, expected) in [
            (
                reason(&text.replacen('{', r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","#, 1)),
                "twice",
            ),
            (reason(&text.replace("bundle.v0.3+json", "bundle.v9.9+json")), "media type"),
            (changed(&|value| drop(value.as_object_mut().expect("an object").remove("mediaType"))), "media type"),
            (changed(&|value| value["extra"] = 1.into()), "unknown field"),
            (changed(&|value| value["verificationMaterial"]["extra"] = 1.into()), "unknown field"),
            (
                changed(&|value| value["verificationMaterial"]["x509CertificateChain"] = chain.clone()),
                "not exactly one of `certificate`",
            ),
            (
                changed(&|value| {
                    value["verificationMaterial"]["x509CertificateChain"] = chain.clone();
                    value["verificationMaterial"].as_object_mut().expect("an object").remove("certificate");
                }),
                "which version 0.3 has not",
            ),
            (
                changed(&|value| {
                    let entries = value["verificationMaterial"]["tlogEntries"].as_array_mut().expect("a list");
                    entries.push(entries[0].clone());
                }),
                "twice",
            ),
            (
                changed(&|value| {
                    let signatures = value["dsseEnvelope"]["signatures"].as_array_mut().expect("a list");
                    signatures.push(signatures[0].clone());
                }),
                "2 signatures with material for one",
            ),
        ] {
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
