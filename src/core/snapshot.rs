//! Snapshots of the working folder: what was there before the command, and what the command changed.
//!
//! [`first`] reads and hashes the whole tree with all threads it is given. [`Snapshot::second`] looks at each known
//! path again and reads only what its keys do not prove unchanged (security rule 3): files whose device, inode, size,
//! modification or change time differ, whose change time was within two seconds of the first reading, or whose file
//! system does not keep a change time that can be believed. [`Mode::Full`] reads everything again.
//!
//! What is recorded, and what witness does there, stands in wire-formats §4; links and what is left out, in DESIGN §5.
//! Nothing is left out silently: see [`Snapshot::omissions`] and [`Snapshot::left_out`].

mod links;
mod omission;
mod pool;
mod read;
mod rules;
mod second;
mod sys;
mod table;
#[cfg(test)]
mod tests;
mod walk;
mod whole;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::digest::{Algorithm, DigestSet, MAX_TEXT_SIZE};
use crate::select::{Glob, Selection};

pub use omission::{MAX_OMISSIONS, Omission, Reason};
pub use second::Changes;

use links::Whereabouts;
use omission::Omissions;
use rules::Rules;
use sys::{Key, Root};
use table::{MEMBER, NO_MATERIAL, NodeKind, RECHECK, Table};
use walk::{FoundLink, Item, Walk, Whole};

/// Most threads that are used, whatever the caller says.
pub const MAX_THREADS: usize = 256;

/// A moment of the real clock. A clock that stands still or that `SOURCE_DATE_EPOCH` fixed must not be given: the
/// snapshot compares it with the file system's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanos: u32,
}

impl Timestamp {
    fn nanos(self) -> i64 {
        self.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(self.nanos))
    }
}

/// The real clock, asked by all threads.
pub type Clock<'a> = dyn Fn() -> Timestamp + Sync + 'a;

/// How the second look finds what changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By device, inode, size, modification and change time, as described above.
    #[default]
    Keys,
    /// By reading every file again. Finds also what was written through a mapping without a new time.
    Full,
}

impl Mode {
    /// The word that is recorded: `keys` or `full`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Full => "full",
        }
    }
}

/// What is recorded, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder whose tree is recorded, absolute.
    pub root: PathBuf,
    /// The algorithms, in the order in which digests are written; [`Algorithm::DirHash`] is passed over.
    pub hashes: Vec<Algorithm>,
    /// Folders (by their path without a final `/`) that become one entry with the algorithm `dirHash`.
    pub dirhash: Vec<Glob>,
    /// Which files are materials.
    pub materials: Selection,
    /// Which files can be products. What neither this nor `materials` takes is not read.
    pub products: Selection,
    /// Files and folders that this run itself writes, absolute. Such as do not lie below the root are passed over.
    pub own_outputs: Vec<PathBuf>,
    /// The outfile whose siblings `<outfile>-*.json` this run writes, absolute.
    pub own_exports_of: Option<PathBuf>,
    /// How many threads read and hash, at least 1.
    pub threads: usize,
    /// How the second look works.
    pub mode: Mode,
}

impl Options {
    /// SHA-256 of everything below `root`, with one thread.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            hashes: vec![Algorithm::Sha256],
            dirhash: Vec::new(),
            materials: Selection::default(),
            products: Selection::default(),
            own_outputs: Vec::new(),
            own_exports_of: None,
            threads: 1,
            mode: Mode::Keys,
        }
    }
}

/// How far a look is; may be read by another thread at any time.
#[derive(Debug, Default)]
pub struct Progress {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// Files read to their end so far.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add_file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Listens to the bytes of one file while the second look hashes it, so that a large product is read once.
pub trait Tap: Send {
    /// The next bytes of the file, in order.
    fn bytes(&mut self, chunk: &[u8]);
    /// The file is at its end, did not change while it was read, and is a product with these digests. A tap that is
    /// dropped without this call heard bytes that do not count.
    fn done(self: Box<Self>, digests: &DigestSet);
}

/// Decides whether somebody listens to a file, from its path, its first bytes (up to [`crate::mime::HEAD`]) and its
/// length. Called by any thread, once for each attempt to read the file.
pub type MakeTap<'a> = dyn Fn(&str, &[u8], u64) -> Option<Box<dyn Tap>> + Sync + 'a;

/// A tree that cannot be recorded at all.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The root cannot be opened.
    #[error("{path}: {reason}")]
    Root {
        /// The root as given.
        path: PathBuf,
        /// What the system said, lower case.
        reason: String,
    },
    /// The root is not an absolute path.
    #[error("{path}: not an absolute path")]
    NotAbsolute {
        /// The root as given.
        path: PathBuf,
    },
    /// No algorithm to hash with.
    #[error("no digest algorithm is given")]
    NoAlgorithm,
    /// More entries than the table can number.
    #[error("{path}: more than {MAX_ENTRIES} files and folders")]
    TooMany {
        /// The root as given.
        path: PathBuf,
    },
}

/// Most files and folders of one tree.
pub const MAX_ENTRIES: usize = u32::MAX as usize - 1;

/// Something that is left out on purpose.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// What is left out: a path, or a sentence about it.
    pub rule: String,
    /// How many entries; a folder counts once, whatever is in it.
    pub count: u64,
}

/// A link below the root, as it was found.
#[derive(Debug)]
struct Link {
    path: String,
    text: String,
    /// The link's own key.
    own: Key,
    folder: u32,
    whole: u32,
    flags: u8,
}

/// The tree as it was.
#[derive(Debug)]
pub struct Snapshot {
    options: Options,
    /// The algorithms of the run, and SHA-256 behind them where whole folders need it.
    algorithms: Vec<Algorithm>,
    canonical: PathBuf,
    root: Root,
    table: Table,
    links: Vec<Link>,
    wholes: Vec<Whole>,
    omissions: Vec<Omission>,
    omitted: u64,
    left_out: Vec<LeftOut>,
}

/// One material.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    /// Path relative to the root; of a folder with one digest with a final `/`.
    pub path: &'a str,
    kind: NodeKind,
    algorithms: &'a [Algorithm],
    raw: &'a [u8],
    /// Size in bytes; of a link that of its target, of a folder that of all files in it.
    pub length: u64,
}

impl<'a> EntryRef<'a> {
    /// Algorithms and raw digests, in the order of [`Options::hashes`].
    pub fn digests(&self) -> impl Iterator<Item = (Algorithm, &'a [u8])> {
        const DIR_HASH: &[Algorithm] = &[Algorithm::DirHash];
        let algorithms = if self.kind == NodeKind::Whole { DIR_HASH } else { self.algorithms };
        pairs(algorithms, self.raw)
    }

    /// The digests as they are written.
    pub fn digest_set(&self) -> DigestSet {
        DigestSet(
            self.digests().map(|(algorithm, raw)| (algorithm.wire_name().to_owned(), algorithm.format(raw))).collect(),
        )
    }

    /// Whether it is a link to a file, recorded with the digests of its target.
    pub fn is_link(&self) -> bool {
        self.kind == NodeKind::Link
    }
}

/// Algorithms with their part of `raw`.
fn pairs<'a, 'r>(
    algorithms: &'a [Algorithm],
    raw: &'r [u8],
) -> impl Iterator<Item = (Algorithm, &'r [u8])> + use<'a, 'r> {
    let mut at = 0;
    algorithms.iter().map(move |&algorithm| {
        let digest = raw.get(at..at + algorithm.size()).unwrap_or_default();
        at += algorithm.size();
        (algorithm, digest)
    })
}

/// The digest set of a file from its raw digests.
pub(crate) fn digest_set(algorithms: &[Algorithm], raw: &[u8]) -> DigestSet {
    DigestSet(
        pairs(algorithms, raw)
            .map(|(algorithm, digest)| (algorithm.wire_name().to_owned(), algorithm.format(digest)))
            .collect(),
    )
}

/// Reads and hashes the tree.
///
/// What cannot be read is an omission, not an error; an error means that there is no tree to read.
pub fn first(mut options: Options, clock: &Clock<'_>, progress: &Progress) -> Result<Snapshot, SnapshotError> {
    options.hashes.retain(|&algorithm| algorithm != Algorithm::DirHash);
    if options.hashes.is_empty() {
        return Err(SnapshotError::NoAlgorithm);
    }
    if !options.root.is_absolute() {
        return Err(SnapshotError::NotAbsolute { path: options.root });
    }
    let unreachable = |reason: String| SnapshotError::Root { path: options.root.clone(), reason };
    let root = Root::open(&options.root).map_err(|errno| unreachable(errno.desc().to_lowercase()))?;
    let canonical = options.root.canonicalize().map_err(|error| unreachable(error.to_string()))?;
    first_of(root, canonical, options, clock, progress)
}

fn first_of(
    root: Root,
    canonical: PathBuf,
    options: Options,
    clock: &Clock<'_>,
    progress: &Progress,
) -> Result<Snapshot, SnapshotError> {
    let mut algorithms = options.hashes.clone();
    if !options.dirhash.is_empty() && !algorithms.contains(&Algorithm::Sha256) {
        algorithms.push(Algorithm::Sha256);
    }
    let rules = Rules::new(&options, &canonical);
    let walk = || Walk::new(&root, &options, &rules, clock, progress, &algorithms);
    let mut found = walk().run(vec![Item::Root]);
    if found.table.nodes.len() > MAX_ENTRIES {
        return Err(SnapshotError::TooMany { path: options.root });
    }
    found.table.sort();
    let whereabouts = Whereabouts::new(&options.root, &canonical);
    let links =
        resolve_links(&walk(), &whereabouts, &mut found.table, found.links, &mut found.omissions, &mut found.broken);
    whole::compute(&mut found.table, &mut found.wholes, &found.broken, &mut found.omissions, &options, &algorithms);
    if !links.is_empty() || !found.wholes.is_empty() {
        found.table.sort();
    }
    found.table.shrink();
    let (omissions, omitted) = found.omissions.into_sorted();
    let left_out = rules.applied();
    Ok(Snapshot {
        algorithms,
        canonical,
        root,
        table: found.table,
        links,
        wholes: found.wholes,
        omissions,
        omitted,
        left_out,
        options,
    })
}

/// What resolving one link gave: the link, and the key and digests of its target unless it is omitted.
struct Resolved {
    link: Link,
    node: Option<(table::Node, Vec<u8>)>,
}

/// Resolves the links of a first look and adds their nodes; the table is sorted before and unsorted after.
fn resolve_links(
    walk: &Walk<'_>,
    whereabouts: &Whereabouts,
    table: &mut Table,
    mut found: Vec<FoundLink>,
    omissions: &mut Omissions,
    broken: &mut Vec<(u32, String)>,
) -> Vec<Link> {
    const PIECE: usize = 64;
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let known = &*table;
    let gathered = pool::spread(
        walk.options.threads,
        found.len(),
        PIECE,
        || (walk.worker(), Vec::new()),
        |(worker, out), range| {
            for link in &found[range] {
                if let Some(resolved) = resolve_link(walk, whereabouts, known, worker, link) {
                    out.push(resolved);
                }
            }
        },
    );
    let mut links = Vec::with_capacity(found.len());
    for (worker, resolved) in gathered {
        omissions.absorb(worker.found.omissions);
        broken.extend(worker.found.broken);
        for Resolved { link, node } in resolved {
            let node = node.unwrap_or_else(|| {
                (table::node(NodeKind::Omitted, link.folder, Key::default(), RECHECK | link.flags), Vec::new())
            });
            table.push(link.path.as_bytes(), b"", node.0, &node.1);
            links.push(link);
        }
    }
    links.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    links
}

fn resolve_link(
    walk: &Walk<'_>,
    whereabouts: &Whereabouts,
    table: &Table,
    worker: &mut walk::Worker,
    found: &FoundLink,
) -> Option<Resolved> {
    let path = found.path.as_bytes();
    let own = match walk::look(walk.root, path) {
        Ok(stat) => stat.key,
        Err(reason) => {
            walk.omit(worker, path, b"", found.whole, reason);
            return None;
        }
    };
    let mut link = Link {
        path: found.path.clone(),
        text: String::new(),
        own,
        folder: found.folder,
        whole: found.whole,
        flags: found.flags,
    };
    let outcome = links::resolve(walk.root, whereabouts, path).and_then(|target| {
        link.text = target.text;
        if walk.rules.is_own(&target.path) {
            return Ok(None);
        }
        let node = |key, recheck: bool| {
            let flags = found.flags | if recheck { RECHECK } else { 0 };
            table::node(NodeKind::Link, found.folder, key, flags)
        };
        if let Some(at) = table.find(&target.path)
            && table.nodes[at].kind == NodeKind::File
            && table.nodes[at].key == target.stat.key
        {
            // The digests are those of the file, which is recorded under its own path as well.
            let mut node = node(target.stat.key, table.nodes[at].has(RECHECK));
            node.index = table.nodes[at].index;
            return Ok(Some((node, Vec::new())));
        }
        let content = walk
            .read(worker, &found.path, &|| walk.root.open_file(&target.path))
            .map_err(|reason| Reason::LinkToOther(link.text.clone(), reason.to_string()))?;
        Ok(Some((node(content.key, content.recheck), content.digests)))
    });
    match outcome {
        Ok(Some(node)) => Some(Resolved { link, node: Some(node) }),
        // A link to one of our own outputs is left out with it.
        Ok(None) => None,
        Err(reason) => {
            if let Some(text) = reason.link_text() {
                text.clone_into(&mut link.text);
            }
            walk.omit(worker, path, b"", found.whole, reason);
            Some(Resolved { link, node: None })
        }
    }
}

impl Snapshot {
    fn materials(&self) -> impl Iterator<Item = &table::Node> {
        self.table.nodes.iter().filter(|node| {
            matches!(node.kind, NodeKind::File | NodeKind::Link | NodeKind::Whole)
                && !node.has(NO_MATERIAL)
                && !node.has(MEMBER)
        })
    }

    fn entry(&self, node: &table::Node) -> EntryRef<'_> {
        let (raw, length) = if node.kind == NodeKind::Whole {
            let state = self.wholes.get(node.index as usize).and_then(|whole| whole.state.as_ref());
            state.map_or((&[][..], 0), |(digest, length)| (&digest[..], *length))
        } else {
            (self.table.digests(node), node.key.size)
        };
        EntryRef { path: self.table.text(node), kind: node.kind, algorithms: &self.options.hashes, raw, length }
    }

    /// Number of materials.
    pub fn len(&self) -> usize {
        self.materials().count()
    }

    /// Whether there is no material.
    pub fn is_empty(&self) -> bool {
        self.materials().next().is_none()
    }

    /// The materials, sorted by the bytes of their paths.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        self.materials().map(|node| self.entry(node))
    }

    /// The material with this path.
    pub fn get(&self, path: &str) -> Option<EntryRef<'_>> {
        let at = self.table.find(path.as_bytes())?;
        // A folder and the whole that it is stand side by side.
        let around = at.saturating_sub(1)..(at + 2).min(self.table.nodes.len());
        let node = self.table.nodes[around].iter().find(|node| {
            self.table.path(node) == path.as_bytes()
                && matches!(node.kind, NodeKind::File | NodeKind::Link | NodeKind::Whole)
                && !node.has(NO_MATERIAL)
                && !node.has(MEMBER)
        })?;
        Some(self.entry(node))
    }

    /// The links that were found, recorded or not, as path and text, sorted by path.
    pub fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.links.iter().map(|link| (link.path.as_str(), link.text.as_str()))
    }

    /// What could not be recorded, sorted by path; at most [`MAX_OMISSIONS`].
    pub fn omissions(&self) -> &[Omission] {
        &self.omissions
    }

    /// How many omissions there are, with those that are not listed.
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    /// What was left out on purpose.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// How the second look works.
    pub fn mode(&self) -> Mode {
        self.options.mode
    }

    /// The folder that the paths are relative to, as given.
    pub fn root(&self) -> &Path {
        &self.options.root
    }

    /// The options of the snapshot, with the globs, which belong into the evidence.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Number of folders, and of files and links that are known, materials or not.
    pub fn known(&self) -> (usize, usize) {
        let files = self.table.nodes.iter().filter(|node| matches!(node.kind, NodeKind::File | NodeKind::Link)).count();
        (self.table.folders.len(), files)
    }

    /// About how many bytes the material map takes: more only where many names have to be escaped.
    pub fn map_size(&self) -> usize {
        // Quotes, colons, commas and braces.
        const AROUND: usize = 8;
        let digests: usize =
            self.options.hashes.iter().map(|one| one.wire_name().len() + one.text_size() + AROUND).sum();
        self.materials().map(|node| self.table.path(node).len() + digests + AROUND).sum()
    }

    /// The material map of witness's material v0.1 (wire-formats §3.1): path to digest set, sorted by path, written
    /// straight from the table.
    pub fn material_map(&self) -> MaterialMap<'_> {
        MaterialMap { snapshot: self, without: None }
    }

    /// The material map without the paths that `without` says yes to: a path with a secret in it is left out and
    /// becomes a gap that carries its digest only (security rule 4).
    pub fn material_map_without<'a>(&'a self, without: &'a dyn Fn(&str) -> bool) -> MaterialMap<'a> {
        MaterialMap { snapshot: self, without: Some(without) }
    }
}

/// Serializes as the material map of witness's material v0.1.
#[derive(Clone, Copy)]
pub struct MaterialMap<'a> {
    snapshot: &'a Snapshot,
    without: Option<&'a dyn Fn(&str) -> bool>,
}

impl Serialize for MaterialMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for entry in self.snapshot.iter() {
            if !self.without.is_some_and(|without| without(entry.path)) {
                map.serialize_entry(entry.path, &Digests(entry))?;
            }
        }
        map.end()
    }
}

struct Digests<'a>(EntryRef<'a>);

impl Serialize for Digests<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut buffer = [0; MAX_TEXT_SIZE];
        for wanted in Algorithm::BY_NAME {
            for (algorithm, raw) in self.0.digests().filter(|(algorithm, _)| *algorithm == wanted) {
                map.serialize_entry(algorithm.wire_name(), algorithm.format_into(raw, &mut buffer))?;
            }
        }
        map.end()
    }
}
