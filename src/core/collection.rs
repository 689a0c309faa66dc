//! The collection: one statement that holds the evidence of one step.
//!
//! Source: wire-formats §2.3 and §2.4. Entries stand in list order, so equal inputs give equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use jiff::Timestamp;
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::evidence::files::Files;
use crate::evidence::merkle::Tree;
use crate::form::Form;
use crate::product::Products;
use crate::snapshot::Snapshot;
use crate::statement::Subject;

/// Predicate type of a collection that witness, cilock and archivista index.
pub const COLLECTION_TYPE: &str = "https://witness.testifysec.com/attestation-collection/v0.1";
/// Predicate type of a collection that cilock writes.
pub const COLLECTION_TYPE_CILOCK: &str = "https://aflock.ai/attestation-collection/v0.1";
/// Type of the materials entry.
pub const MATERIAL_TYPE: &str = "https://witness.dev/attestations/material/v0.1";
/// Type of the products entry.
pub const PRODUCT_TYPE: &str = "https://witness.dev/attestations/product/v0.1";
/// Type of the command entry.
pub const COMMAND_RUN_TYPE: &str = "https://witness.dev/attestations/command-run/v0.1";
/// Type of the materials entry as a tree.
pub const MATERIAL_TREE_TYPE: &str = "https://aflock.ai/attestations/material/v0.3";
/// Type of the products entry as a tree.
pub const PRODUCT_TREE_TYPE: &str = "https://aflock.ai/attestations/product/v0.3";
/// Type of the command entry with lists that count.
pub const COMMAND_RUN_TYPE_CILOCK: &str = "https://aflock.ai/attestations/command-run/v0.2";

/// The suffix of the collection name of a run that failed (security rule 1).
pub const FAILED_SUFFIX: &str = "#failed";

/// Something that was asked for and is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The attestor, or `snapshot`.
    pub attestor: String,
    /// Why it is missing.
    pub reason: String,
    /// Whether the user named the attestor; such a gap fails the run.
    pub named: bool,
}

/// The evidence of one attestor, or of the pipeline itself.
pub struct Entry {
    /// The predicate type.
    pub predicate_type: String,
    /// The predicate.
    pub body: Body,
    /// Subjects without the type prefix.
    pub subjects: Vec<Subject>,
    /// Back-references without the type prefix.
    pub back_references: Vec<Subject>,
    /// When the attestor began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
}

/// The predicate of an entry. Snapshots are written straight from their compact form.
pub enum Body {
    /// The materials, less the paths that hold a secret.
    Materials(Arc<Snapshot>, BTreeSet<String>),
    /// The products, less the paths that hold a secret.
    Products(Arc<Products>, BTreeSet<String>),
    /// The materials as a tree, less the paths that hold a secret.
    MaterialTree(Box<Tree<Files>>),
    /// The products as a tree, less the paths that hold a secret.
    ProductTree(Box<Tree<Files>>),
    /// A predicate that we composed.
    Composed(Value),
    /// A document kept as it was written.
    Verbatim(Box<RawValue>),
}

/// The evidence of one step.
pub struct Collection {
    /// In which form it is written; the entries have its types.
    pub form: Form,
    /// The step's name, with [`FAILED_SUFFIX`] when the run failed.
    pub name: String,
    /// Evidence in list order.
    pub entries: Vec<Entry>,
    /// What is missing.
    pub gaps: Vec<Gap>,
    /// Subjects that the user named, without a prefix.
    pub subjects: Vec<Subject>,
    /// Where no command was run: what the snapshot left out, and that there was no command. Otherwise the
    /// command-run entry says it.
    pub facts: Option<Value>,
}

impl Collection {
    /// All subjects of the statement: each entry's with its type as prefix, then the user's. A name that
    /// stands twice keeps its first digest. Cilock's form has them sorted by name.
    pub fn statement_subjects(&self) -> Box<dyn Iterator<Item = Subject> + '_> {
        let listed = self.listed_subjects();
        if self.form == Form::Portable {
            return Box::new(listed);
        }
        let mut sorted: Vec<_> = listed.collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        Box::new(sorted.into_iter())
    }

    fn listed_subjects(&self) -> impl Iterator<Item = Subject> + '_ {
        let mut seen = BTreeSet::new();
        self.entries
            .iter()
            .flat_map(|entry| {
                entry.subjects.iter().map(|subject| {
                    Subject::new(format!("{}/{}", entry.predicate_type, subject.name), subject.digest.clone())
                })
            })
            .chain(self.subjects.iter().cloned())
            .filter(move |subject| seen.insert(subject.name.clone()))
    }

    /// About how many bytes [`Collection::write_statement`] writes, rather too many than too few.
    pub fn size_hint(&self) -> usize {
        /// What stands around an entry, and the small predicates.
        const AROUND: usize = 16 * 1024;
        /// Digests and MIME type of a product, and its subject but for the names.
        const PRODUCT: usize = 1024;
        let subjects = |list: &[Subject]| list.iter().map(|one| one.name.len() + PRODUCT).sum::<usize>();
        let entry = |entry: &Entry| {
            let body = match &entry.body {
                Body::Materials(snapshot, _) => snapshot.map_size(),
                Body::Products(products, _) => products.iter().map(|one| one.path.len() + PRODUCT).sum(),
                Body::MaterialTree(tree) | Body::ProductTree(tree) => tree.size_hint(),
                Body::Composed(_) => 0,
                Body::Verbatim(text) => text.get().len(),
            };
            AROUND + body + subjects(&entry.subjects) + subjects(&entry.back_references)
        };
        AROUND + self.entries.iter().map(entry).sum::<usize>() + subjects(&self.subjects)
    }

    /// Writes the statement as compact JSON: the payload of the envelope.
    pub fn write_statement(&self, out: impl Write) -> Result<(), serde_json::Error> {
        serde_json::to_writer(out, &StatementOf(self))
    }
}

struct StatementOf<'a>(&'a Collection);

impl Serialize for StatementOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("_type", self.0.form.statement_type())?;
        map.serialize_entry("subject", &SubjectsOf(self.0))?;
        map.serialize_entry("predicateType", self.0.form.collection_type())?;
        map.serialize_entry("predicate", &PredicateOf(self.0))?;
        map.end()
    }
}

struct SubjectsOf<'a>(&'a Collection);

impl Serialize for SubjectsOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for subject in self.0.statement_subjects() {
            list.serialize_element(&subject)?;
        }
        list.end()
    }
}

struct PredicateOf<'a>(&'a Collection);

impl Serialize for PredicateOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.0.name)?;
        map.serialize_entry("attestations", &self.0.entries)?;
        if self.0.entries.iter().any(|entry| !entry.back_references.is_empty()) {
            map.serialize_entry("backrefs", &BackReferencesOf(self.0))?;
        }
        if !self.0.gaps.is_empty() {
            map.serialize_entry("gaps", &self.0.gaps)?;
        }
        if let Some(facts) = &self.0.facts {
            map.serialize_entry("affiant", facts)?;
        }
        map.end()
    }
}

struct BackReferencesOf<'a>(&'a Collection);

impl Serialize for BackReferencesOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = self.0.entries.iter().flat_map(|entry| {
            let name = |reference: &Subject| format!("{}/{}", entry.predicate_type, reference.name);
            entry.back_references.iter().map(move |reference| (name(reference), &reference.digest))
        });
        let mut map = serializer.serialize_map(None)?;
        if self.0.form == Form::Portable {
            let mut seen = BTreeSet::new();
            for (name, digest) in all {
                if seen.insert(name.clone()) {
                    map.serialize_entry(&name, digest)?;
                }
            }
        } else {
            let mut sorted = BTreeMap::new();
            for (name, digest) in all {
                sorted.entry(name).or_insert(digest);
            }
            for (name, digest) in sorted {
                map.serialize_entry(&name, digest)?;
            }
        }
        map.end()
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("type", &self.predicate_type)?;
        match &self.body {
            Body::Materials(snapshot, without) => {
                let hidden = |path: &str| without.contains(path);
                map.serialize_entry("attestation", &snapshot.material_map_without(&hidden))?;
            }
            Body::Products(products, without) => {
                map.serialize_entry("attestation", &ProductsOf(products, without))?;
            }
            Body::MaterialTree(tree) => map.serialize_entry("attestation", &tree.predicate(false))?,
            Body::ProductTree(tree) => map.serialize_entry("attestation", &tree.predicate(true))?,
            Body::Composed(value) => map.serialize_entry("attestation", value)?,
            Body::Verbatim(text) => map.serialize_entry("attestation", text)?,
        }
        map.serialize_entry("starttime", &self.start.to_string())?;
        map.serialize_entry("endtime", &self.end.to_string())?;
        map.end()
    }
}

struct ProductsOf<'a>(&'a Products, &'a BTreeSet<String>);

impl Serialize for ProductsOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'a> {
            mime_type: &'a str,
            digest: &'a crate::digest::DigestSet,
        }
        let mut map = serializer.serialize_map(None)?;
        for product in self.0.iter().filter(|product| !self.1.contains(&product.path)) {
            map.serialize_entry(&product.path, &Wire { mime_type: &product.mime, digest: &product.digests })?;
        }
        map.end()
    }
}
