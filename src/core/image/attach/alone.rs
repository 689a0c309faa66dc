//! Statements about an image alone: what readers of bundles get of a statement that has more subjects than they take.
//!
//! Such a statement is attached whole, as an envelope, which verifiers of Sigstore bundles do not read. Beside it stands
//! the same predicate about the image, and nothing else, signed anew by who signed the whole: nobody else may say it.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Document, MAX_SUBJECTS, no_bundle, subjects_of};
use crate::dsse::Envelope;
use crate::evidence::Statement;
use crate::evidence::links::Standing;
use crate::image::reference::Digest;
use crate::run::RUN_SUBJECT;
use crate::sign::{PublicKey, SignError, Signer};
use crate::statement::PAYLOAD_TYPE;

/// Why there is no statement about the image alone.
#[derive(Debug, thiserror::Error)]
pub enum NotAlone {
    /// What the image is, it says by something else than the digest of the manifest.
    #[error("it does not name {image} by its digest")]
    Unnamed {
        /// The manifest.
        image: Digest,
    },
    /// No bundle can be made of it either.
    #[error("{0}")]
    NoBundle(String),
    /// It cannot be read again.
    #[error("it cannot be written: {0}")]
    Unwritable(String),
    /// The signer refuses.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Document {
    /// How many subjects it has, where readers of bundles do not take so many.
    pub fn is_crowded(&self) -> Option<usize> {
        Some(subjects_of(&self.envelope.payload)).filter(|subjects| *subjects > MAX_SUBJECTS)
    }

    /// The same predicate about this manifest alone, signed anew. A document of a run goes on naming the run: without
    /// that, nobody knows whether it failed.
    pub fn alone(&self, image: &Digest, signers: &[&dyn Signer]) -> Result<Self, NotAlone> {
        #[derive(serde::Serialize)]
        struct Written<'a> {
            #[serde(rename = "_type")]
            kind: &'a str,
            subject: Vec<Value>,
            #[serde(rename = "predicateType")]
            predicate_type: &'a str,
            predicate: &'a RawValue,
        }
        let cannot = |error: &dyn std::error::Error| NotAlone::Unwritable(error.to_string());
        if !self.names_manifest(image) {
            return Err(NotAlone::Unnamed { image: image.clone() });
        }
        let statement = Statement::parse_strict(&self.envelope.payload).map_err(|error| cannot(&error))?;
        let mut subject = Vec::new();
        let mut has_image = false;
        for one in statement.subject.iter() {
            let Some(sha256) = one.value("sha256") else { continue };
            let is_run = !self.is_collection && one.name == RUN_SUBJECT;
            let is_image =
                !is_run && !has_image && sha256 == image.hex() && self.standing_of(&one) == Some(Standing::Image);
            if is_run || is_image {
                has_image |= is_image;
                subject.push(json!({ "name": one.name, "digest": { "sha256": sha256 } }));
            }
        }
        let written = Written {
            kind: &statement.kind,
            subject,
            predicate_type: &statement.predicate_type,
            predicate: statement.predicate,
        };
        let payload = serde_json::to_vec(&written).map_err(|error| cannot(&error))?;
        let mut envelope = Envelope::seal(payload, PAYLOAD_TYPE, signers)?;
        let keys: Vec<PublicKey> = signers.iter().map(|signer| signer.public_key().clone()).collect();
        // What is in no bundle either stands in the whole already.
        let mut why = None;
        let (signatures, mut kept) = (std::mem::take(&mut envelope.signatures), Vec::new());
        for one in signatures {
            match no_bundle(&envelope, &one, &keys) {
                Some(reason) => why = why.or(Some(reason)),
                None => kept.push(one),
            }
        }
        if kept.is_empty() {
            return Err(NotAlone::NoBundle(why.unwrap_or_else(|| "nobody signs it".to_owned())));
        }
        envelope.signatures = kept;
        let label = format!("{}, about the image alone", self.label);
        Self::read(label, &envelope.to_json(), &keys).map_err(|error| cannot(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::COLLECTION_TYPE;
    use crate::image::manifest::{Descriptor, OCI_MANIFEST};
    use crate::sign::{KeyKind, PrivateKey};

    const DOCKER: &str = "https://witness.dev/attestations/docker/v0.1";

    fn document(kind: &str, subjects: &[Value], key: &PrivateKey) -> Document {
        let predicate = json!({"name": "build", "attestations": [], "n": 1.0});
        let statement = json!({"_type": crate::statement::STATEMENT_V1, "subject": subjects, "predicateType": kind,
            "predicate": predicate});
        let envelope = Envelope::seal(statement.to_string().into_bytes(), PAYLOAD_TYPE, &[key]).expect("signed");
        Document::read("d", &envelope.to_json(), &[]).expect("a document")
    }

    fn files(count: usize) -> Vec<Value> {
        let hex = |number: usize| crate::digest::sha256_hex(number.to_string().as_bytes());
        (0..count).map(|number| json!({"name": format!("f{number}"), "digest": {"sha256": hex(number)}})).collect()
    }

    fn statement(document: &Document) -> Value {
        serde_json::from_slice(&document.envelope.payload).expect("a statement")
    }

    #[test]
    fn a_statement_of_many_subjects_is_also_made_of_the_image_alone() {
        let key = PrivateKey::generate(KeyKind::P256).expect("a key");
        let image = Descriptor::of(OCI_MANIFEST, b"image").digest;
        let name = format!("{DOCKER}/imagedigest:x");
        let named = |name: &str| json!({"name": name, "digest": {"sha256": image.hex(), "sha1": "00"}});
        let many = [files(MAX_SUBJECTS), vec![named(&name), named(&format!("{name}y"))]].concat();
        let whole = document(COLLECTION_TYPE, &many, &key);
        assert_eq!(whole.is_crowded(), Some(MAX_SUBJECTS + 2));
        assert_eq!(document(COLLECTION_TYPE, &many[..MAX_SUBJECTS], &key).is_crowded(), None);
        let alone = whole.alone(&image, &[&key]).expect("a document");
        assert!(alone.is_crowded().is_none() && alone.is_collection() && alone.names_manifest(&image));
        let (of_whole, of_alone) = (statement(&whole), statement(&alone));
        assert_eq!(of_alone["subject"], json!([{"name": name, "digest": {"sha256": image.hex()}}]));
        assert_eq!(of_alone["predicateType"], of_whole["predicateType"]);
        let text = String::from_utf8(alone.envelope.payload.clone()).expect("text");
        assert!(text.contains(r#""n":1.0"#), "the predicate is as it was written: {text}");
        assert_eq!(no_bundle(&alone.envelope, &alone.envelope.signatures[0], &[key.public_key().clone()]), None);
    }

    #[test]
    fn nothing_is_said_of_an_image_that_the_whole_does_not_name() {
        let key = PrivateKey::generate(KeyKind::P256).expect("a key");
        let image = Descriptor::of(OCI_MANIFEST, b"image").digest;
        let by = |name: &str| json!({"name": name, "digest": {"sha256": image.hex()}});
        // By its config, as a material, as a file: none of it is the manifest.
        for name in [&format!("{DOCKER}/imageid:x"), &format!("{DOCKER}/materialdigest:x"), "file:image"] {
            let whole = document(COLLECTION_TYPE, &[files(MAX_SUBJECTS), vec![by(name)]].concat(), &key);
            assert!(matches!(whole.alone(&image, &[&key]), Err(NotAlone::Unnamed { .. })), "{name}");
        }
    }

    #[test]
    fn a_document_of_a_run_goes_on_naming_it() {
        let key = PrivateKey::generate(KeyKind::P256).expect("a key");
        let image = Descriptor::of(OCI_MANIFEST, b"image").digest;
        let run = json!({"name": RUN_SUBJECT, "digest": {"sha256": "ab".repeat(32)}});
        let own = json!({"name": "r.example/app", "digest": {"sha256": image.hex()}});
        let whole =
            document("https://slsa.dev/provenance/v1", &[files(1100), vec![own.clone(), run.clone()]].concat(), &key);
        let alone = whole.alone(&image, &[&key]).expect("a document");
        assert_eq!(statement(&alone)["subject"], json!([own, run]));
        assert_eq!(alone.run, whole.run);
    }

    #[test]
    fn signatures_that_no_bundle_holds_are_left_out() {
        let (key, rsa) = (PrivateKey::generate(KeyKind::P256), PrivateKey::generate(KeyKind::Rsa { bits: 2048 }));
        let (key, rsa) = (key.expect("a key"), rsa.expect("a key"));
        let image = Descriptor::of(OCI_MANIFEST, b"image").digest;
        let own = json!({"name": format!("{DOCKER}/imagedigest:x"), "digest": {"sha256": image.hex()}});
        let whole = document(COLLECTION_TYPE, &[files(1100), vec![own]].concat(), &key);
        assert_eq!(whole.alone(&image, &[&rsa, &key]).expect("a document").envelope.signatures.len(), 1);
        assert!(matches!(whole.alone(&image, &[&rsa]), Err(NotAlone::NoBundle(_))));
        assert!(whole.alone(&image, &[]).is_err(), "nobody signs");
    }
}
