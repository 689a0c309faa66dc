//! The entries of materials and products in the form that is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::collection::{Body, Gap, MATERIAL_TREE_TYPE, MATERIAL_TYPE, PRODUCT_TREE_TYPE, PRODUCT_TYPE};
use crate::digest::{Algorithm, DigestSet};
use crate::evidence::files::{Digests, Files};
use crate::evidence::merkle::{self, Tree};
use crate::form::Form;
use crate::product::Products;
use crate::select::Selection;
use crate::snapshot::Snapshot;
use crate::statement::Subject;

/// An entry of the pipeline itself.
pub(super) struct Part {
    pub(super) predicate_type: String,
    pub(super) body: Body,
    pub(super) subjects: Vec<Subject>,
    pub(super) back_references: Vec<Subject>,
    /// Why it is not in the form that was asked for.
    pub(super) gap: Option<Gap>,
}

impl Part {
    pub(super) fn new(predicate_type: impl Into<String>, body: Body) -> Self {
        Self {
            predicate_type: predicate_type.into(),
            body,
            subjects: Vec::new(),
            back_references: Vec::new(),
            gap: None,
        }
    }

    /// A tree is found by its root, and refers to evidence with the same.
    fn with_root(mut self, name: &str, root: [u8; 32]) -> Self {
        let subject = Subject::new(name, DigestSet::sha256_hex(hex::encode(root)));
        self.subjects.push(subject.clone());
        self.back_references.push(subject);
        self
    }
}

/// The materials, less the paths that hold a secret.
pub(super) fn materials(form: Form, snapshot: &Arc<Snapshot>, hidden: BTreeSet<String>) -> Part {
    let flat = |hidden| Body::Materials(Arc::clone(snapshot), hidden);
    if form == Form::Portable {
        return Part::new(MATERIAL_TYPE, flat(hidden));
    }
    let files = snapshot.iter().filter(|entry| !hidden.contains(entry.path)).map(|entry| {
        let sha256 = entry.digests().find(|(algorithm, _)| *algorithm == Algorithm::Sha256);
        (entry.path, sha256.and_then(|(_, raw)| raw.try_into().ok()))
    });
    match tree(files) {
        Ok(tree) => {
            let root = tree.root;
            Part::new(MATERIAL_TREE_TYPE, Body::MaterialTree(Box::new(tree))).with_root("tree:materials", root)
        }
        Err(reason) => {
            let gap = Some(flat_gap("material", &reason));
            Part { gap, ..Part::new(form.spell(MATERIAL_TYPE), flat(hidden)) }
        }
    }
}

/// The products, less the paths that hold a secret. Each that `selection` takes is a subject.
///
/// cilock's own tree is found by its root only; the subjects of the files lead to it from each of them.
pub(super) fn products(form: Form, products: &Arc<Products>, hidden: BTreeSet<String>, selection: &Selection) -> Part {
    let subjects = products
        .iter()
        .filter(|product| !hidden.contains(&product.path) && selection.takes(&product.path))
        .map(|product| Subject::new(format!("file:{}", product.path), product.digests.clone()))
        .collect::<Vec<_>>();
    let flat = |hidden| Body::Products(Arc::clone(products), hidden);
    let mut part = if form == Form::Portable {
        Part::new(PRODUCT_TYPE, flat(hidden))
    } else {
        let files = products.iter().filter(|product| !hidden.contains(&product.path)).map(|product| {
            let raw = |hex: &str| {
                let mut raw = [0; 32];
                hex::decode_to_slice(hex, &mut raw).ok().map(|()| raw)
            };
            (product.path.as_str(), product.digests.sha256().and_then(raw))
        });
        match tree(files) {
            Ok(tree) => {
                let root = tree.root;
                Part::new(PRODUCT_TREE_TYPE, Body::ProductTree(Box::new(tree))).with_root("tree:products", root)
            }
            Err(reason) => {
                let gap = Some(flat_gap("product", &reason));
                Part { gap, ..Part::new(form.spell(PRODUCT_TYPE), flat(hidden)) }
            }
        }
    };
    part.subjects.extend(subjects);
    part
}

fn tree<'p>(files: impl Iterator<Item = (&'p str, Option<[u8; 32]>)>) -> Result<Tree<Files>, String> {
    let none = Digests { sha256: None, ..Digests::default() };
    let files = Files::of(files.map(|(path, sha256)| (path, sha256.map_or(none, Digests::of_sha256))));
    let files = files.map_err(|error| error.to_string())?;
    merkle::build(files).map_err(|error| error.to_string())
}

/// Nothing is lost: cilock reads the flat map of its former versions.
fn flat_gap(part: &str, reason: &str) -> Gap {
    Gap {
        attestor: part.to_owned(),
        reason: format!("written as a list (v0.1), for the files have no tree: {reason}"),
        named: false,
    }
}
