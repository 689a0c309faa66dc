//! The tree over files in cilock's material and product entries v0.3.
//!
//! Source: wire-formats §3.2 and RFC 6962 §2.1. What is hashed into the tree is the SHA-256 of the raw digest of a
//! file, not its path: the paths are proven by the signature of the whole payload only.
//!
//! A leaf has one path. Where several files have one content cilock forgets the others; affiant writes them beside the
//! leaves, in the member `affiant.alike`, which cilock passes over. One implementation writes and reads the tree.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::digests::{Digests, lower_hex};
use super::files::{Builder, Files, FilesError};
use super::strict::{self, Name};
use crate::digest::sha256;

/// Most leaves of a tree; cilock refuses more.
pub const MAX_LEAVES: usize = 1 << 20;
/// The value of `hashAlgorithm`.
pub const HASH_ALGORITHM: &str = "sha256";
/// The value of `construction`.
pub const CONSTRUCTION: &str = "RFC6962";

/// Suffixes of products and their `kind` in a tree.
const PRODUCT_KINDS: [(&str, &[&str]); 7] = [
    ("slsa-provenance", &[".slsa-provenance.json"]),
    ("intoto", &[".intoto.jsonl", ".intoto.json"]),
    ("intoto-dsse", &[".intoto.dsse", ".dsse"]),
    ("spdx", &[".spdx.json", ".spdx.yaml", ".spdx.yml"]),
    ("cyclonedx", &[".cdx.json", ".cdx.xml", "/bom.json"]),
    ("sarif", &[".sarif", ".sarif.json"]),
    ("vex", &[".vex.json", ".csaf.json"]),
];

/// A tree that is not what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// The hash is another one.
    #[error("`hashAlgorithm` is {found}, not `{HASH_ALGORITHM}`")]
    Algorithm {
        /// As it stands there.
        found: String,
    },
    /// The tree is built in another way.
    #[error("`construction` is {found}, not `{CONSTRUCTION}`")]
    Construction {
        /// As it stands there.
        found: String,
    },
    /// A digest or hash is no lowercase hex of 32 bytes.
    #[error("`{member}` of {path} is {found}, not 64 lowercase hex digits")]
    Hex {
        /// Which member.
        member: &'static str,
        /// Of which leaf; `the tree` for the root.
        path: String,
        /// As it stands there.
        found: String,
    },
    /// The hash of a leaf is not that of its digest.
    #[error("`leafHash` of {path} is {written}, its `fileDigest` gives {computed}")]
    Leaf {
        /// Which leaf.
        path: String,
        /// As it stands there.
        written: String,
        /// Lowercase hex.
        computed: String,
    },
    /// There are more or fewer leaves.
    #[error("`treeSize` is {written}, the leaves give {computed}")]
    Size {
        /// As it stands there.
        written: u64,
        /// Leaves with different content.
        computed: usize,
    },
    /// The leaves do not lead to the root.
    #[error("`merkleRoot` is {written}, the leaves give {computed}")]
    Root {
        /// As it stands there, lowercase hex.
        written: String,
        /// Lowercase hex.
        computed: String,
    },
    /// There are more leaves than a tree may have.
    #[error("more than {MAX_LEAVES} leaves")]
    TooMany,
    /// A file without a SHA-256 has no place in a tree.
    #[error("{path} has no sha256")]
    NoSha256 {
        /// Its path.
        path: String,
    },
    /// Two paths are one when `\\` is written as `/`.
    #[error("{path} is also the path of another file when it is written with `/`")]
    Path {
        /// The one with `\\`.
        path: String,
    },
    /// A further path has the content of no leaf.
    #[error("`affiant.alike` names {path}, whose `fileDigest` is that of no leaf")]
    Alike {
        /// Its path.
        path: String,
    },
}

/// The hash of a file's leaf: SHA-256 of its raw digest.
pub fn leaf_hash(digest: &[u8; 32]) -> [u8; 32] {
    sha256(digest)
}

/// The root over leaf hashes in their order.
pub fn root(leaf_hashes: impl IntoIterator<Item = [u8; 32]>) -> [u8; 32] {
    let node = |left: &[u8; 32], right: &[u8; 32]| -> [u8; 32] {
        Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
    };
    // The whole subtrees so far, the largest first: the bits of how many leaves there were.
    let mut whole: Vec<[u8; 32]> = Vec::new();
    for (count, hash) in leaf_hashes.into_iter().enumerate() {
        let mut top: [u8; 32] = Sha256::new().chain_update([0]).chain_update(hash).finalize().into();
        let mut full = count;
        while full & 1 == 1
            && let Some(left) = whole.pop()
        {
            top = node(&left, &top);
            full >>= 1;
        }
        whole.push(top);
    }
    let Some(last) = whole.pop() else { return sha256(&[]) };
    whole.iter().rev().fold(last, |right, left| node(left, &right))
}

/// A tree over files, which it owns or refers to.
#[derive(Clone, Debug)]
pub struct Tree<F> {
    /// Its root.
    pub root: [u8; 32],
    /// How many leaves it has: files of equal content share one.
    pub size: usize,
    files: F,
    /// All files, sorted by digest, then path.
    order: Vec<u32>,
}

/// A leaf of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf<'f> {
    /// Path, with `/`.
    pub path: Cow<'f, str>,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// What is hashed into the tree.
    pub leaf_hash: [u8; 32],
}

/// Builds the tree over `files` as cilock does. Each needs a SHA-256, and a path of its own when `\` is written as `/`.
pub fn build<F: Borrow<Files>>(files: F) -> Result<Tree<F>, MerkleError> {
    let all: &Files = files.borrow();
    let mut order = Vec::with_capacity(all.len());
    let mut changed = BTreeSet::new();
    for (at, file) in (0..).zip(all.iter()) {
        if file.digests.sha256.is_none() {
            return Err(MerkleError::NoSha256 { path: strict::shown(file.path) });
        }
        if let Cow::Owned(path) = slashed(file.path)
            && (all.get(&path).is_some() || !changed.insert(path))
        {
            return Err(MerkleError::Path { path: strict::shown(file.path) });
        }
        order.push(at);
    }
    let file = |at: u32| all.at(at as usize);
    order.sort_unstable_by(|a, b| {
        let (a, b) = (file(*a), file(*b));
        a.digests.sha256.cmp(&b.digests.sha256).then_with(|| slashed(a.path).cmp(&slashed(b.path)))
    });
    let tree = Tree { root: [0; 32], size: 0, files, order };
    let mut size = 0;
    let root = root(tree.leaves().map(|leaf| leaf.leaf_hash).inspect(|_| size += 1));
    if size > MAX_LEAVES { Err(MerkleError::TooMany) } else { Ok(Tree { root, size, ..tree }) }
}

impl<F: Borrow<Files>> Tree<F> {
    /// The leaves in their order, with the first path of each content.
    pub fn leaves(&self) -> impl Iterator<Item = Leaf<'_>> {
        self.marked().filter_map(|(first, leaf)| first.then_some(leaf))
    }

    /// Like [`Tree::leaves`], with all paths.
    pub fn files(&self) -> impl Iterator<Item = Leaf<'_>> {
        let files: &Files = self.files.borrow();
        self.order.iter().filter_map(|at| {
            let file = files.at(*at as usize);
            let digest = file.digests.sha256?;
            Some(Leaf { path: slashed(file.path), digest, leaf_hash: leaf_hash(&digest) })
        })
    }

    /// All files, and whether each is the first of its content.
    fn marked(&self) -> impl Iterator<Item = (bool, Leaf<'_>)> {
        let mut last = None;
        self.files().map(move |leaf| (last.replace(leaf.digest) != Some(leaf.digest), leaf))
    }

    /// About how many bytes the predicate takes.
    pub fn size_hint(&self) -> usize {
        /// Two digests, the names of the members, and a `kind`.
        const AROUND: usize = 224;
        self.files().map(|leaf| leaf.path.len() + AROUND).sum::<usize>() + AROUND
    }

    /// The predicate of a v0.3 entry: a leaf for each content, further paths in `affiant.alike`.
    pub fn predicate(&self, product: bool) -> Predicate<'_, F> {
        Predicate { tree: self, product, all: false }
    }

    /// The same with a leaf for each path, for rules about paths.
    pub(super) fn for_rules(&self, product: bool) -> Predicate<'_, F> {
        Predicate { tree: self, product, all: true }
    }
}

/// Serializes as the predicate of a v0.3 entry (wire-formats §3.1, §3.2).
#[derive(Clone, Copy, Debug)]
pub struct Predicate<'t, F> {
    tree: &'t Tree<F>,
    product: bool,
    all: bool,
}

impl<F: Borrow<Files>> Serialize for Predicate<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { tree, product, all } = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("merkleRoot", &hex::encode(tree.root))?;
        map.serialize_entry("treeSize", &tree.size)?;
        map.serialize_entry("hashAlgorithm", HASH_ALGORITHM)?;
        map.serialize_entry("construction", CONSTRUCTION)?;
        if tree.size > 0 || !product || all {
            map.serialize_entry("leaves", &LeavesOf(self))?;
        }
        if !all && tree.size < tree.order.len() {
            map.serialize_entry("affiant", &Ours { alike: AlikeOf(self) })?;
        }
        map.end()
    }
}

struct LeavesOf<'p, 't, F>(&'p Predicate<'t, F>);

impl<F: Borrow<Files>> Serialize for LeavesOf<'_, '_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            path: &'a str,
            file_digest: String,
            leaf_hash: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            kind: Option<&'static str>,
        }
        let mut list = serializer.serialize_seq(None)?;
        for (_, leaf) in self.0.tree.marked().filter(|(first, _)| *first || self.0.all) {
            list.serialize_element(&Wire {
                path: &leaf.path,
                file_digest: hex::encode(leaf.digest),
                leaf_hash: hex::encode(leaf.leaf_hash),
                kind: product_kind(&leaf.path).filter(|_| self.0.product),
            })?;
        }
        list.end()
    }
}

/// What is ours alone in a tree.
#[derive(Serialize)]
#[serde(bound = "")]
struct Ours<'p, 't, F: Borrow<Files>> {
    alike: AlikeOf<'p, 't, F>,
}

struct AlikeOf<'p, 't, F>(&'p Predicate<'t, F>);

impl<F: Borrow<Files>> Serialize for AlikeOf<'_, '_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            path: &'a str,
            file_digest: String,
        }
        let mut list = serializer.serialize_seq(None)?;
        for (_, leaf) in self.0.tree.marked().filter(|(first, _)| !first) {
            list.serialize_element(&Wire { path: &leaf.path, file_digest: hex::encode(leaf.digest) })?;
        }
        list.end()
    }
}

/// What cilock calls a product of this name (wire-formats §3.2).
fn product_kind(path: &str) -> Option<&'static str> {
    let path = format!("/{}", path.to_lowercase());
    let known = PRODUCT_KINDS.iter().find(|(_, suffixes)| suffixes.iter().any(|suffix| path.ends_with(suffix)));
    known.map(|(kind, _)| *kind)
}

fn slashed(path: &str) -> Cow<'_, str> {
    if path.contains('\\') { path.replace('\\', "/").into() } else { path.into() }
}

/// Reads the predicate of a v0.3 entry and computes everything in it again.
///
/// Leaves may stand in any order and may name several paths of one content: the tree is that of their contents.
pub(super) fn read(text: &str) -> Result<Files, FilesError> {
    let mut seen = Seen::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let result = (&mut seen).deserialize(&mut reader).and_then(|()| reader.end());
    if let Some(fault) = seen.fault {
        return Err(fault.into());
    }
    result?;
    let missing = |member| FilesError::Json(serde_json::Error::missing_field(member));
    let algorithm = seen.algorithm.ok_or_else(|| missing("hashAlgorithm"))?;
    let construction = seen.construction.ok_or_else(|| missing("construction"))?;
    let written = seen.root.ok_or_else(|| missing("merkleRoot"))?;
    let size = seen.size.ok_or_else(|| missing("treeSize"))?;
    if algorithm != HASH_ALGORITHM {
        return Err(MerkleError::Algorithm { found: strict::shown(&algorithm) }.into());
    }
    if construction != CONSTRUCTION {
        return Err(MerkleError::Construction { found: strict::shown(&construction) }.into());
    }
    let written: [u8; 32] = digest("merkleRoot", || "the tree".to_owned(), &written)?;
    let Seen { builder, mut digests, alike, .. } = seen;
    digests.sort_unstable();
    digests.dedup();
    if let Some((path, _)) = alike.iter().find(|(_, digest)| digests.binary_search(digest).is_err()) {
        return Err(MerkleError::Alike { path: path.clone() }.into());
    }
    let files = builder.finish_tree(!alike.is_empty())?;
    if usize::try_from(size) != Ok(digests.len()) {
        return Err(MerkleError::Size { written: size, computed: digests.len() }.into());
    }
    let computed = root(digests.iter().map(leaf_hash));
    if computed != written {
        return Err(MerkleError::Root { written: hex::encode(written), computed: hex::encode(computed) }.into());
    }
    Ok(files)
}

fn digest(member: &'static str, path: impl FnOnce() -> String, found: &str) -> Result<[u8; 32], MerkleError> {
    lower_hex(found).ok_or_else(|| MerkleError::Hex { member, path: path(), found: strict::shown(found) })
}

/// What was read of a tree so far.
#[derive(Default)]
struct Seen {
    root: Option<String>,
    size: Option<u64>,
    algorithm: Option<String>,
    construction: Option<String>,
    leaves: bool,
    ours: bool,
    builder: Builder,
    /// What the leaves have.
    digests: Vec<[u8; 32]>,
    /// Further paths, as they are shown, with their digests.
    alike: Vec<(String, [u8; 32])>,
    /// Why reading ended; the JSON reader keeps texts only.
    fault: Option<MerkleError>,
}

impl Seen {
    fn leaf(&mut self, leaf: &Wire<'_>) -> Result<(), MerkleError> {
        if self.digests.len() == MAX_LEAVES {
            return Err(MerkleError::TooMany);
        }
        let path = || strict::shown(&leaf.path.0);
        let sha256 = digest("fileDigest", path, &leaf.digest.0)?;
        if let Some(Name(written)) = &leaf.hash {
            let computed = leaf_hash(&sha256);
            if lower_hex(written) != Some(computed) {
                let (written, computed) = (strict::shown(written), hex::encode(computed));
                return Err(MerkleError::Leaf { path: path(), written, computed });
            }
        }
        self.digests.push(sha256);
        self.builder.push(&leaf.path.0, Digests::of_sha256(sha256), None).map_err(|_| MerkleError::TooMany)
    }

    fn alike(&mut self, leaf: &Wire<'_>) -> Result<(), MerkleError> {
        let path = strict::shown(&leaf.path.0);
        let sha256 = digest("fileDigest", || path.clone(), &leaf.digest.0)?;
        self.alike.push((path, sha256));
        self.builder.push(&leaf.path.0, Digests::of_sha256(sha256), None).map_err(|_| MerkleError::TooMany)
    }
}

impl<'de> DeserializeSeed<'de> for &mut Seen {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Seen {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tree")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(Name(member)) = members.next_key()? {
            let first = match &*member {
                "merkleRoot" => self.root.replace(members.next_value()?).is_none(),
                "treeSize" => self.size.replace(members.next_value()?).is_none(),
                "hashAlgorithm" => self.algorithm.replace(members.next_value()?).is_none(),
                "construction" => self.construction.replace(members.next_value()?).is_none(),
                "leaves" => {
                    members.next_value_seed(Leaves(self, Seen::leaf))?;
                    !std::mem::replace(&mut self.leaves, true)
                }
                "affiant" => {
                    members.next_value_seed(OursOf(self))?;
                    !std::mem::replace(&mut self.ours, true)
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                    true
                }
            };
            if !first {
                return Err(strict::twice(&member));
            }
        }
        Ok(())
    }
}

/// A leaf as it was written.
#[derive(serde::Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    path: Name<'a>,
    #[serde(borrow, rename = "fileDigest")]
    digest: Name<'a>,
    // The root is computed from the digests, so nothing depends on it.
    #[serde(borrow, rename = "leafHash", default)]
    hash: Option<Name<'a>>,
}

/// Our own member. What else stands in it is passed over.
struct OursOf<'s>(&'s mut Seen);

impl<'de> DeserializeSeed<'de> for OursOf<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OursOf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(Name(member)) = members.next_key()? {
            if &*member != "alike" {
                members.next_value::<IgnoredAny>()?;
            } else if std::mem::replace(&mut seen, true) {
                return Err(strict::twice(&member));
            } else {
                members.next_value_seed(Leaves(self.0, Seen::alike))?;
            }
        }
        Ok(())
    }
}

/// A list of leaves, and what takes each.
struct Leaves<'s>(&'s mut Seen, fn(&mut Seen, &Wire<'_>) -> Result<(), MerkleError>);

impl<'de> DeserializeSeed<'de> for Leaves<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Leaves<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of leaves")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(leaf) = list.next_element::<Wire<'de>>()? {
            if let Err(fault) = self.1(self.0, &leaf) {
                let error = A::Error::custom(&fault);
                self.0.fault = Some(fault);
                return Err(error);
            }
        }
        Ok(())
    }
}
