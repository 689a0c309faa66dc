//! Folders that are recorded as one digest (wire-formats §4.4, `dirHash`).
//!
//! The digest is SHA-256 over one line `<hex sha256>  <path>\n` for each file, sorted by path, the path relative to
//! the folder. Everything in the folder counts, git's objects too: who checks it with `sha256sum` sees the same files.

use std::collections::BTreeMap;

use sha2::Digest as _;

use super::Options;
use super::omission::{Omissions, Reason, show};
use super::sys::Key;
use super::table::{self, NO_MATERIAL, NONE, NodeKind, RECHECK, Table};
use super::walk::Whole;
use crate::digest::Algorithm;

/// Where the SHA-256 stands among the raw digests of a file.
pub(super) fn sha256_of<'a>(algorithms: &[Algorithm], raw: &'a [u8]) -> &'a [u8] {
    super::pairs(algorithms, raw)
        .find(|(algorithm, _)| *algorithm == Algorithm::Sha256)
        .map_or(&[][..], |(_, digest)| digest)
}

/// The digest of a folder that is being put together.
#[derive(Default)]
pub(super) struct Lines {
    state: sha2::Sha256,
    size: u64,
    /// The first name with a newline: the lines would be ambiguous.
    bad: Option<String>,
}

impl Lines {
    /// Adds a file; files come sorted by path. `path` is relative to the folder.
    pub(super) fn add(&mut self, path: &[u8], sha256: &[u8], size: u64) {
        if path.contains(&b'\n') && self.bad.is_none() {
            self.bad = Some(show(path));
        }
        self.state.update(hex::encode(sha256).as_bytes());
        self.state.update(b"  ");
        self.state.update(path);
        self.state.update(b"\n");
        self.size += size;
    }

    /// Digest and total size, or the file whose name cannot stand in a line.
    pub(super) fn finish(self) -> Result<([u8; 32], u64), String> {
        match self.bad {
            Some(path) => Err(path),
            None => Ok((self.state.finalize().into(), self.size)),
        }
    }
}

/// Computes the digests of the whole folders of a first look and adds their nodes.
pub(super) fn compute(
    table: &mut Table,
    wholes: &mut [Whole],
    broken: &[(u32, String)],
    omissions: &mut Omissions,
    options: &Options,
    algorithms: &[Algorithm],
) {
    if wholes.is_empty() {
        return;
    }
    // The links that were resolved last.
    table.sort();
    wholes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let mut nodes = Vec::new();
    let broken = by_whole(broken);
    for (index, whole) in wholes.iter_mut().enumerate() {
        let path = whole.path.as_bytes();
        let flags = if options.materials.takes(&whole.path) { 0 } else { NO_MATERIAL };
        let outcome = match broken.get(&whole.number) {
            Some(path) => Err((*path).to_owned()),
            None => of_nodes(table, path, algorithms).finish().map_err(|name| format!("{}{name}", whole.path)),
        };
        match outcome {
            Ok(state) => {
                whole.state = Some(state);
                let mut node = table::node(NodeKind::Whole, NONE, Key::default(), flags);
                node.index = u32::try_from(index).unwrap_or(NONE);
                nodes.push((whole.path.clone(), node));
            }
            Err(path) => {
                omissions.push(whole.path.clone(), Reason::FolderNotWhole(path));
                let node = table::node(NodeKind::Whole, NONE, Key::default(), flags | RECHECK | NO_MATERIAL);
                nodes.push((whole.path.clone(), node));
            }
        }
    }
    for (path, node) in nodes {
        table.push(path.as_bytes(), b"", node, &[]);
    }
}

/// The first path of each whole that cannot be hashed.
pub(super) fn by_whole(broken: &[(u32, String)]) -> BTreeMap<u32, &str> {
    let mut map = BTreeMap::new();
    for (whole, path) in broken {
        let first = map.entry(*whole).or_insert(path.as_str());
        *first = (*first).min(path.as_str());
    }
    map
}

/// The lines of the files that a sorted table holds below `path` (with a final `/`).
fn of_nodes(table: &Table, path: &[u8], algorithms: &[Algorithm]) -> Lines {
    let mut lines = Lines::default();
    for node in &table.nodes[table.below(path)] {
        if matches!(node.kind, NodeKind::File | NodeKind::Link) {
            let name = table.path(node).strip_prefix(path).unwrap_or_default();
            lines.add(name, sha256_of(algorithms, table.digests(node)), node.key.size);
        }
    }
    lines
}
