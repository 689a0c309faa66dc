//! Reading evidence: statements and collections of every producer, unknown types kept as raw JSON.
//!
//! Source: wire-formats §2 and §9.1. Nothing here says that a signature holds.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::collection::{COLLECTION_TYPE, COLLECTION_TYPE_CILOCK};
use crate::digest::DigestSet;
use crate::statement::Subject;

/// Evidence that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The payload is no in-toto statement.
    #[error("the payload is no in-toto statement")]
    Statement(#[source] serde_json::Error),
    /// The predicate is no collection although its type says so.
    #[error("the predicate is no collection")]
    Collection(#[source] serde_json::Error),
    /// The files of an entry are in no form that is known, or one stands there twice.
    #[error("the {kind} entry cannot be read")]
    Files {
        /// Short name of the entry's type.
        kind: String,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
}

/// An in-toto statement with its predicate as it was written.
#[derive(Debug, Deserialize)]
pub struct Statement<'a> {
    /// `_type`; both readers of the field ignore it, so it is only shown.
    #[serde(rename = "_type", default)]
    pub kind: String,
    /// Subjects; `null` counts as none.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub subject: Vec<Subject>,
    /// Type of the predicate.
    #[serde(rename = "predicateType", default)]
    pub predicate_type: String,
    /// The predicate.
    #[serde(borrow)]
    pub predicate: &'a RawValue,
}

/// A collection of either producer.
#[derive(Debug, Deserialize)]
pub struct CollectionView<'a> {
    /// Name of the step.
    pub name: String,
    /// The evidence, in written order.
    #[serde(borrow, default, deserialize_with = "null_is_empty")]
    pub attestations: Vec<EntryView<'a>>,
    /// Back-references, where the producer wrote them.
    #[serde(default)]
    pub backrefs: Option<BTreeMap<String, DigestSet>>,
    /// What is missing; ours alone.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub gaps: Vec<GapView>,
}

/// One entry of a collection.
#[derive(Debug, Deserialize)]
pub struct EntryView<'a> {
    /// The predicate type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The predicate as it was written.
    #[serde(borrow)]
    pub attestation: &'a RawValue,
    /// When the attestor began, as written.
    #[serde(default)]
    pub starttime: String,
    /// When it ended, as written.
    #[serde(default)]
    pub endtime: String,
}

/// A gap as it was written.
#[derive(Debug, Deserialize)]
pub struct GapView {
    /// The attestor.
    #[serde(default)]
    pub attestor: String,
    /// Why it is missing.
    #[serde(default)]
    pub reason: String,
}

/// A file in a material or product entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileView {
    /// Path as it was written.
    pub path: String,
    /// MIME type, where the form has one.
    pub mime: Option<String>,
    /// Digests.
    pub digest: DigestSet,
}

fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

impl<'a> Statement<'a> {
    /// Reads the payload of an envelope.
    pub fn parse(payload: &'a [u8]) -> Result<Self, EvidenceError> {
        serde_json::from_slice(payload).map_err(EvidenceError::Statement)
    }

    /// The predicate as a collection, when it is one.
    pub fn collection(&self) -> Option<Result<CollectionView<'a>, EvidenceError>> {
        matches!(self.predicate_type.as_str(), COLLECTION_TYPE | COLLECTION_TYPE_CILOCK)
            .then(|| serde_json::from_str(self.predicate.get()).map_err(EvidenceError::Collection))
    }
}

impl EntryView<'_> {
    /// The short name of the type: `git` for `https://witness.dev/attestations/git/v0.1`.
    pub fn short_name(&self) -> &str {
        short_name(&self.kind)
    }

    /// The files of a material or product entry, in either form (flat map, or leaves of a Merkle tree). `None` for other
    /// entries.
    pub fn files(&self) -> Option<Result<Vec<FileView>, EvidenceError>> {
        let product = match self.short_name() {
            "product" => true,
            "material" => false,
            _ => return None,
        };
        let kind = self.short_name().to_owned();
        Some(read_files(self.attestation.get(), product).map_err(|source| EvidenceError::Files { kind, source }))
    }
}

fn read_files(text: &str, product: bool) -> Result<Vec<FileView>, serde_json::Error> {
    if let Ok(tree) = serde_json::from_str::<Tree>(text) {
        return Ok(tree.leaves.unwrap_or_default().into_iter().map(Leaf::file).collect());
    }
    if product {
        let Unique(map) = serde_json::from_str::<Unique<ProductView>>(text)?;
        let file = |(path, view): (_, ProductView)| FileView { path, mime: Some(view.mime_type), digest: view.digest };
        Ok(map.into_iter().map(file).collect())
    } else {
        let Unique(map) = serde_json::from_str::<Unique<DigestSet>>(text)?;
        Ok(map.into_iter().map(|(path, digest)| FileView { path, mime: None, digest }).collect())
    }
}

/// A map in which no name stands twice: readers differ in which of the two they take.
struct Unique<T>(BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = BTreeMap<String, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some(name) = members.next_key::<String>()? {
                    let value = members.next_value()?;
                    match map.entry(name) {
                        Entry::Vacant(entry) => entry.insert(value),
                        Entry::Occupied(entry) => {
                            return Err(A::Error::custom(format_args!("{:?} stands there twice", entry.key())));
                        }
                    };
                }
                Ok(map)
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// The short name of a predicate type: its attestor for the attestation types of both peers, else the whole type.
pub fn short_name(kind: &str) -> &str {
    ["https://witness.dev/attestations/", "https://aflock.ai/attestations/"]
        .iter()
        .find_map(|prefix| kind.strip_prefix(prefix))
        .and_then(|rest| rest.split('/').next())
        .unwrap_or(match kind {
            "https://cyclonedx.org/bom" | "https://spdx.dev/Document" => "sbom",
            other => other,
        })
}

#[derive(Deserialize)]
struct ProductView {
    #[serde(default)]
    mime_type: String,
    digest: DigestSet,
}

#[derive(Deserialize)]
struct Tree<'a> {
    #[serde(rename = "merkleRoot", borrow)]
    _root: Cow<'a, str>,
    #[serde(default)]
    leaves: Option<Vec<Leaf>>,
}

#[derive(Deserialize)]
struct Leaf {
    path: String,
    #[serde(rename = "fileDigest")]
    digest: String,
}

impl Leaf {
    fn file(self) -> FileView {
        FileView { path: self.path, mime: None, digest: DigestSet::sha256_hex(self.digest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_products_are_read() {
        let flat = r#"{"type":"https://witness.dev/attestations/product/v0.1","attestation":{"a":{"mime_type":"text/plain","digest":{"sha256":"00"}}}}"#;
        let entry: EntryView = serde_json::from_str(flat).expect("reads");
        assert_eq!(entry.files().expect("files").expect("known")[0].mime.as_deref(), Some("text/plain"));
        let tree = r#"{"type":"https://aflock.ai/attestations/product/v0.3","attestation":{"merkleRoot":"00","treeSize":1,"leaves":[{"path":"a","fileDigest":"11","leafHash":"22"}]}}"#;
        let entry: EntryView = serde_json::from_str(tree).expect("reads");
        assert_eq!(entry.files().expect("files").expect("known")[0].digest, DigestSet::sha256_hex("11"));
    }

    #[test]
    fn files_in_no_known_form_are_no_empty_list() {
        for attestation in [
            r#"{"f":{"digest":{"sha256":"aa"}},"f":{"digest":{"sha256":"bb"}}}"#,
            r#"{"merkleRoot":"00","leaves":[{"path":null}]}"#,
            r#"{"a":{"a":{}}}"#,
            "[]",
        ] {
            let text =
                format!(r#"{{"type":"https://witness.dev/attestations/product/v0.1","attestation":{attestation}}}"#);
            let entry: EntryView = serde_json::from_str(&text).expect("reads");
            assert!(entry.files().expect("files").is_err(), "{attestation}");
        }
    }

    #[test]
    fn null_lists_are_empty() {
        let statement = Statement::parse(br#"{"_type":"x","subject":null,"predicateType":"https://aflock.ai/attestation-collection/v0.1","predicate":{"name":"a","attestations":null}}"#)
            .expect("reads");
        assert!(statement.collection().expect("a collection").expect("reads").attestations.is_empty());
    }
}
