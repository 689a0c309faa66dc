//! The files of a material or product entry: a compact table, and what can be asked of it.
//!
//! A collection of 100,000 files as strings and maps takes 80 MB; here a file takes its path and 48 bytes. The table
//! is filled while the JSON is read. Source: wire-formats §2.2, §3.1, §3.2, §5.5.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};

pub use super::digests::Digests;
use super::digests::{OfFile, Raw, raw};
use super::merkle::{self, MerkleError};
use super::strict::{self, Name};
use super::{EntryView, EvidenceError, kinds};
use crate::digest::{Algorithm, DigestSet};

/// Most files of one entry.
pub const MAX_FILES: usize = 1 << 22;
/// Most files with different digests that a comparison lists; all are counted.
pub const MAX_DIFFERENCES: usize = 100;

/// The files of an entry that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// They are in no form that the type allows, or a path stands there twice.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The tree is not what it says.
    #[error(transparent)]
    Merkle(#[from] MerkleError),
}

/// A file of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRef<'a> {
    /// Path as it was written.
    pub path: &'a str,
    /// MIME type, where the form has one; empty where it was not known.
    pub mime: Option<&'a str>,
    /// Digests.
    pub digests: Digests,
}

/// The files of an entry, sorted by path, no path twice.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// All paths, one after the other.
    paths: String,
    rows: Vec<Row>,
    /// Digest sets that are more or other than a SHA-256.
    sets: Vec<Digests>,
    /// MIME types, each once.
    mimes: Vec<Box<str>>,
    merkle: bool,
    /// Whether some of the paths stood beside the leaves.
    alike: bool,
    by_sha256: OnceLock<Vec<u32>>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    /// Where the path stands. The limit of a payload is below 4 GB.
    path: u32,
    length: u32,
    /// The SHA-256; where `set` is not [`NONE`], only if the set has one.
    sha256: [u8; 32],
    set: u32,
    mime: u32,
}

/// No set, no MIME type.
const NONE: u32 = u32::MAX;

/// A file in which two steps differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its path.
    pub path: String,
    /// What the later step found.
    pub found: DigestSet,
    /// What the earlier step left.
    pub expected: DigestSet,
}

/// What `artifactsFrom` compares (wire-formats §5.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// How many paths both sides have.
    pub shared: usize,
    /// How many of them differ.
    pub different_total: usize,
    /// The first of those, by path; at most [`MAX_DIFFERENCES`].
    pub different: Vec<Difference>,
}

impl Files {
    /// The files of a material or product entry of a known version; `None` for other entries.
    ///
    /// v0.1 and v0.2 are a flat map, v0.3 a tree, whose root, size and leaf hashes are computed again. Refused: a path
    /// that stands there twice, a digest that is none of [`Algorithm`]'s in lowercase hex (both peers refuse the whole
    /// entry too), more than [`MAX_FILES`] files.
    pub fn read(entry: &EntryView<'_>) -> Option<Result<Self, EvidenceError>> {
        let product = kinds::is(&entry.kind, "product");
        if !product && !kinds::is(&entry.kind, "material") {
            return None;
        }
        let text = entry.attestation.get();
        let files = if kinds::version(&entry.kind) == "v0.3" { merkle::read(text) } else { Self::flat(text, product) };
        Some(files.map_err(|source| EvidenceError::Files { kind: entry.short_name().to_owned(), source }))
    }

    /// Reads a flat map: path to digest set, or to MIME type and digest set.
    fn flat(text: &str, product: bool) -> Result<Self, FilesError> {
        let mut builder = Builder::default();
        let mut reader = serde_json::Deserializer::from_str(text);
        Flat { builder: &mut builder, product }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(builder.finish()?)
    }

    /// A table of given files, in any order.
    pub fn of<'p>(files: impl IntoIterator<Item = (&'p str, Digests)>) -> Result<Self, FilesError> {
        let mut builder = Builder::default();
        for (path, digests) in files {
            builder.push(path, digests, None).map_err(serde_json::Error::custom)?;
        }
        Ok(builder.finish()?)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether they were written as a tree, which has one path for each content only: that a path is missing says
    /// nothing then.
    pub fn is_tree(&self) -> bool {
        self.merkle
    }

    /// Whether a tree names paths beside its leaves, which a rule about leaves would not see.
    pub(super) fn has_alike(&self) -> bool {
        self.alike
    }

    /// All files, sorted by path.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = FileRef<'_>> + ExactSizeIterator {
        (0..self.len()).map(|at| self.at(at))
    }

    /// The file at `index` in the order of the paths.
    ///
    /// # Panics
    /// Where there is none.
    pub fn at(&self, index: usize) -> FileRef<'_> {
        let row = &self.rows[index];
        let mime = (row.mime != NONE).then(|| &*self.mimes[row.mime as usize]);
        FileRef { path: self.path(row), mime, digests: self.digests(row) }
    }

    fn path(&self, row: &Row) -> &str {
        &self.paths[row.range()]
    }

    fn digests(&self, row: &Row) -> Digests {
        if row.set == NONE { Digests::of_sha256(row.sha256) } else { self.sets[row.set as usize] }
    }

    /// The file with this path.
    pub fn get(&self, path: &str) -> Option<FileRef<'_>> {
        self.rows.binary_search_by(|row| self.path(row).cmp(path)).ok().map(|at| self.at(at))
    }

    /// The first path whose file has this digest: `sha256`, `sha1`, `gitoid:sha256`, `gitoid:sha1` or `dirHash`, and
    /// the value in lowercase hex, for the gitoid algorithms with or without their `gitoid:blob:…:`.
    pub fn find(&self, algorithm: &str, value: &str) -> Option<&str> {
        let raw = match algorithm {
            "gitoid:sha256" if !value.starts_with("gitoid:") => raw(algorithm, &format!("gitoid:blob:sha256:{value}")),
            "gitoid:sha1" if !value.starts_with("gitoid:") => raw(algorithm, &format!("gitoid:blob:sha1:{value}")),
            _ => raw(algorithm, value),
        };
        match raw? {
            (Algorithm::Sha256, Raw::Strong(sha256)) => self.find_sha256(&sha256),
            (algorithm, Raw::Strong(raw)) => self.find_raw(algorithm, &raw),
            (algorithm, Raw::Weak(raw)) => self.find_raw(algorithm, &raw),
        }
    }

    /// The first path whose file has this SHA-256. The first call sorts the table, later ones search it.
    pub fn find_sha256(&self, sha256: &[u8; 32]) -> Option<&str> {
        let value = |at: &u32| &self.rows[*at as usize].sha256;
        let index = self.by_sha256.get_or_init(|| {
            let with = |(at, row): (usize, &Row)| self.digests(row).sha256.map(|_| row_number(at));
            let mut index: Vec<u32> = self.rows.iter().enumerate().filter_map(with).collect();
            index.sort_unstable_by(|a, b| value(a).cmp(value(b)).then(a.cmp(b)));
            index
        });
        let first = index.partition_point(|at| value(at) < sha256);
        let at = index.get(first).filter(|at| value(at) == sha256)?;
        Some(self.path(&self.rows[*at as usize]))
    }

    fn find_raw(&self, algorithm: Algorithm, raw: &[u8]) -> Option<&str> {
        let found = self.rows.iter().find(|row| self.digests(row).get(algorithm) == Some(raw))?;
        Some(self.path(found))
    }

    /// These files (materials) overlaid by others (products): what a step leaves behind (wire-formats §5.5).
    #[must_use]
    pub fn overlay(&self, over: &Self) -> Self {
        let mut out = Self {
            paths: String::with_capacity(self.paths.len() + over.paths.len()),
            rows: Vec::with_capacity(self.rows.len() + over.rows.len()),
            mimes: over.mimes.clone(),
            merkle: self.merkle || over.merkle,
            ..Self::default()
        };
        for (below, above) in joined(self, over) {
            // MIME types of materials are not known; those of products keep their numbers.
            let (files, row) = match (above, below) {
                (Some(row), _) => (over, row),
                (None, Some(row)) => (self, row),
                (None, None) => continue,
            };
            let set = if row.set == NONE {
                NONE
            } else {
                out.sets.push(files.digests(row));
                row_number(out.sets.len() - 1)
            };
            let path = row_number(out.paths.len());
            out.paths.push_str(files.path(row));
            let mime = if above.is_some() { row.mime } else { NONE };
            out.rows.push(Row { path, set, mime, ..*row });
        }
        out
    }

    /// Compares these files (what a later step found) with `artifacts` (what an earlier one left), by path.
    pub fn compare(&self, artifacts: &Self) -> Edge {
        let mut edge = Edge::default();
        for pair in joined(self, artifacts) {
            let (Some(found), Some(expected)) = pair else { continue };
            edge.shared += 1;
            let path = self.path(found);
            let (found, expected) = (self.digests(found), artifacts.digests(expected));
            if found.same(&expected) {
                continue;
            }
            edge.different_total += 1;
            if edge.different.len() < MAX_DIFFERENCES {
                let (found, expected) = (found.digest_set(), expected.digest_set());
                edge.different.push(Difference { path: path.to_owned(), found, expected });
            }
        }
        edge
    }
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Files {}

/// The rows of two tables in the order of their paths, those of one path together.
fn joined<'a>(a: &'a Files, b: &'a Files) -> impl Iterator<Item = (Option<&'a Row>, Option<&'a Row>)> {
    let (mut left, mut right) = (a.rows.iter().peekable(), b.rows.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return None,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(x), Some(y)) => a.path(x).cmp(b.path(y)),
        };
        let first = if order.is_le() { left.next() } else { None };
        let second = if order.is_ge() { right.next() } else { None };
        Some((first, second))
    })
}

impl Row {
    fn range(&self) -> Range<usize> {
        self.path as usize..self.path as usize + self.length as usize
    }
}

/// A number of a table that [`Builder`] has kept below 2^32.
fn row_number(at: usize) -> u32 {
    u32::try_from(at).expect("the table is limited to what a u32 counts")
}

/// Fills a table.
#[derive(Default)]
pub(super) struct Builder {
    files: Files,
    numbers: BTreeMap<Box<str>, u32>,
}

impl Builder {
    /// Adds a file.
    pub(super) fn push(&mut self, path: &str, digests: Digests, mime: Option<&str>) -> Result<(), String> {
        let files = &mut self.files;
        if files.rows.len() == MAX_FILES {
            return Err(format!("more than {MAX_FILES} files"));
        }
        // Twice the length: an overlay joins two tables.
        let limit = u32::MAX as usize / 2;
        if files.paths.len() + path.len() > limit {
            return Err(format!("more than {limit} bytes of paths"));
        }
        let sha256 = digests.sha256.unwrap_or_default();
        let set = if digests == Digests::of_sha256(sha256) {
            NONE
        } else {
            files.sets.push(digests);
            row_number(files.sets.len() - 1)
        };
        let mime = match mime.map(|mime| (mime, self.numbers.get(mime))) {
            None => NONE,
            Some((_, Some(number))) => *number,
            Some((mime, None)) => {
                files.mimes.push(mime.into());
                let number = row_number(files.mimes.len() - 1);
                self.numbers.insert(mime.into(), number);
                number
            }
        };
        let row = Row { path: row_number(files.paths.len()), length: row_number(path.len()), sha256, set, mime };
        files.paths.push_str(path);
        files.rows.push(row);
        Ok(())
    }

    /// Like [`Builder::finish`], for the leaves of a tree; `alike` says whether there are paths beside them.
    pub(super) fn finish_tree(self, alike: bool) -> Result<Files, serde_json::Error> {
        Ok(Files { merkle: true, alike, ..self.finish()? })
    }

    /// The table, sorted; an error where a path stands there twice.
    pub(super) fn finish(self) -> Result<Files, serde_json::Error> {
        let Files { paths, mut rows, .. } = self.files;
        let path = |row: &Row| &paths[row.range()];
        // Most are written sorted.
        if !rows.is_sorted_by(|a, b| path(a) < path(b)) {
            rows.sort_unstable_by(|a, b| path(a).cmp(path(b)));
            if let Some((row, _)) = rows.iter().zip(&rows[1..]).find(|(a, b)| path(a) == path(b)) {
                return Err(strict::twice(path(row)));
            }
        }
        Ok(Files { paths, rows, ..self.files })
    }
}

/// A value of a flat map of products.
struct OfProduct<'a> {
    mime: Name<'a>,
    digests: Digests,
}

impl<'de: 'a, 'a> Deserialize<'de> for OfProduct<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = OfProduct<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a product")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let (mut mime, mut digests) = (None, None);
                while let Some(Name(member)) = members.next_key()? {
                    let first = match &*member {
                        "mime_type" => mime.replace(members.next_value()?).is_none(),
                        "digest" => digests.replace(members.next_value::<OfFile>()?).is_none(),
                        _ => {
                            members.next_value::<IgnoredAny>()?;
                            true
                        }
                    };
                    if !first {
                        return Err(strict::twice(&member));
                    }
                }
                let OfFile(digests) = digests.ok_or_else(|| A::Error::missing_field("digest"))?;
                Ok(OfProduct { mime: mime.unwrap_or(Name("".into())), digests })
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Reads a flat map into a table. `null` is Go's empty map.
struct Flat<'b> {
    builder: &'b mut Builder,
    product: bool,
}

impl<'de> DeserializeSeed<'de> for Flat<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Flat<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of files")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(Name(path)) = members.next_key()? {
            let (digests, mime) = if self.product {
                let product: OfProduct<'de> = members.next_value()?;
                (product.digests, Some(product.mime))
            } else {
                (members.next_value::<OfFile>()?.0, None)
            };
            self.builder.push(&path, digests, mime.as_ref().map(|Name(mime)| &**mime)).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
