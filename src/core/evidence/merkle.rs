//! The tree over files in cilock's material and product entries v0.3.
//!
//! Source: wire-formats §3.2 and RFC 6962 §2.1. What is hashed into the tree is the SHA-256 of the raw digest of a
//! file, not its path: the paths are proven by the signature of the whole payload only.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
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

/// A tree over files.
#[derive(Clone, Debug)]
pub struct Tree<'f> {
    /// Its root.
    pub root: [u8; 32],
    /// How many leaves it has: files of equal content share one.
    pub size: usize,
    files: &'f Files,
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

/// Builds the tree over `files` as cilock does. Each needs a SHA-256.
pub fn build(files: &Files) -> Result<Tree<'_>, MerkleError> {
    let mut order = Vec::with_capacity(files.len());
    for (at, file) in (0..).zip(files.iter()) {
        if file.digests.sha256.is_none() {
            return Err(MerkleError::NoSha256 { path: strict::shown(file.path) });
        }
        order.push(at);
    }
    let file = |at: u32| files.at(at as usize);
    order.sort_unstable_by(|a, b| {
        let (a, b) = (file(*a), file(*b));
        a.digests.sha256.cmp(&b.digests.sha256).then_with(|| slashed(a.path).cmp(&slashed(b.path)))
    });
    let tree = Tree { root: [0; 32], size: 0, files, order };
    let mut size = 0;
    let root = root(tree.leaves().map(|leaf| leaf.leaf_hash).inspect(|_| size += 1));
    if size > MAX_LEAVES { Err(MerkleError::TooMany) } else { Ok(Tree { root, size, ..tree }) }
}

impl<'f> Tree<'f> {
    /// The leaves in their order, with the first path of each content.
    pub fn leaves(&self) -> impl Iterator<Item = Leaf<'f>> {
        let mut last = None;
        self.files().filter(move |leaf| last.replace(leaf.digest) != Some(leaf.digest))
    }

    /// Like [`Tree::leaves`], with all paths.
    pub fn files(&self) -> impl Iterator<Item = Leaf<'f>> {
        let files = self.files;
        self.order.iter().filter_map(|at| {
            let file = files.at(*at as usize);
            let digest = file.digests.sha256?;
            Some(Leaf { path: slashed(file.path), digest, leaf_hash: leaf_hash(&digest) })
        })
    }
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
    let files = seen.builder.finish_tree()?;
    let mut digests: Vec<[u8; 32]> = files.iter().filter_map(|file| file.digests.sha256).collect();
    digests.sort_unstable();
    digests.dedup();
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
    builder: Builder,
    /// Why reading ended; the JSON reader keeps texts only.
    fault: Option<MerkleError>,
}

impl Seen {
    fn leaf(&mut self, leaf: &Wire<'_>) -> Result<(), MerkleError> {
        if self.builder.len() == MAX_LEAVES {
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
                    members.next_value_seed(Leaves(self))?;
                    !std::mem::replace(&mut self.leaves, true)
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

struct Leaves<'s>(&'s mut Seen);

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
            if let Err(fault) = self.0.leaf(&leaf) {
                let error = A::Error::custom(&fault);
                self.0.fault = Some(fault);
                return Err(error);
            }
        }
        Ok(())
    }
}
