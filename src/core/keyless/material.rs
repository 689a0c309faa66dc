//! What is written of a certificate, log entries and timestamps: into bundles, and beside images' signatures.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::rekor::{LogEntry, Verifier};
use crate::dsse::{Envelope, Signature};
use crate::image::attached::{CERTIFICATE, LOG, TIMESTAMP};
use crate::image::sigstore::{BUNDLE_V03, hint};
use crate::trust::Certificate;

/// The annotation of a layer that has the certificates between the signer's and a root, and the root.
pub const CHAIN: &str = "dev.sigstore.cosign/chain";

/// What proves who signed, and when.
#[derive(Clone, Copy)]
pub struct Material<'a> {
    /// Who signed.
    pub verifier: Verifier<'a>,
    /// The certificates above that of the signer. Bundles of version 0.3 have none of them.
    pub chain: &'a [Certificate],
    /// Entries of logs.
    pub entries: &'a [LogEntry],
    /// Answers of timestamp authorities.
    pub timestamps: &'a [Vec<u8>],
}

impl Material<'_> {
    fn to_json(self) -> Value {
        let mut material = match self.verifier {
            Verifier::Certificate(leaf) => json!({ "certificate": { "rawBytes": STANDARD.encode(leaf.der()) } }),
            Verifier::Key(key) => json!({ "publicKey": { "hint": hint(key) } }),
        };
        if !self.entries.is_empty() {
            material["tlogEntries"] = self.entries.iter().map(|entry| entry.bundled.clone()).collect();
        }
        if !self.timestamps.is_empty() {
            let all: Vec<_> =
                self.timestamps.iter().map(|one| json!({ "signedTimestamp": STANDARD.encode(one) })).collect();
            material["timestampVerificationData"] = json!({ "rfc3161Timestamps": all });
        }
        material
    }

    /// The bundle of a statement. The envelope's key id is left out: readers refuse others than their own.
    pub fn bundle_of_envelope(self, envelope: &Envelope, signature: &Signature) -> Vec<u8> {
        let bundle = json!({
            "mediaType": BUNDLE_V03,
            "verificationMaterial": self.to_json(),
            "dsseEnvelope": {
                "payload": STANDARD.encode(&envelope.payload),
                "payloadType": envelope.payload_type,
                "signatures": [{ "sig": STANDARD.encode(&signature.sig) }],
            },
        });
        bundle.to_string().into_bytes()
    }

    /// The bundle of bytes that are not in it.
    pub fn bundle_of_message(self, sha256: &[u8; 32], signature: &[u8]) -> Vec<u8> {
        let bundle = json!({
            "mediaType": BUNDLE_V03,
            "verificationMaterial": self.to_json(),
            "messageSignature": {
                "messageDigest": { "algorithm": "SHA2_256", "digest": STANDARD.encode(sha256) },
                "signature": STANDARD.encode(signature),
            },
        });
        bundle.to_string().into_bytes()
    }

    /// Puts it among the annotations of a layer, which have room for one promise of a log and one timestamp.
    pub fn annotate(self, annotations: &mut BTreeMap<String, String>) {
        if let Verifier::Certificate(leaf) = self.verifier {
            annotations.insert(CERTIFICATE.to_owned(), leaf.to_pem());
            if !self.chain.is_empty() {
                annotations.insert(CHAIN.to_owned(), self.chain_pem());
            }
        }
        if let Some(promise) = self.entries.iter().find_map(|entry| entry.annotation.clone()) {
            annotations.insert(LOG.to_owned(), promise);
        }
        if let Some(response) = self.timestamps.first() {
            annotations.insert(TIMESTAMP.to_owned(), stamp_json(response));
        }
    }

    /// The certificates above that of the signer, as PEM.
    pub fn chain_pem(self) -> String {
        self.chain.iter().map(Certificate::to_pem).collect()
    }
}

/// A timestamp as annotations and files of cosign hold it.
pub fn stamp_json(response: &[u8]) -> String {
    json!({ "SignedRFC3161Timestamp": STANDARD.encode(response) }).to_string()
}
