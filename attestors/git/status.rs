//! How index and worktree differ from HEAD: what `git status --porcelain` says, found without running a program.
//!
//! Where git would run a clean filter, the file is compared as it is; for Git LFS the digest in the pointer decides.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use affiant_core::digest;
use gix::bstr::{BStr, BString, ByteSlice as _, ByteVec as _};
use gix::diff::Rewrites;
use gix::diff::index::ChangeRef;
use gix::index::entry::{Flags, Mode};
use gix::status::plumbing::index_as_worktree::traits::{CompareBlobs, FastEq, ReadData, SubmoduleStatus};
use gix::status::plumbing::index_as_worktree::{Change, Conflict, EntryStatus};
use gix::status::plumbing::index_as_worktree_with_renames::{Entry, VisitEntry};
use gix::status::tree_index::TrackRenames;
use gix::worktree::stack::state::attributes::Source;

use super::open;

/// How many entries of the status are recorded; more are counted only.
pub(super) const MAX_ENTRIES: usize = 100_000;
/// How deep submodules of submodules are looked into.
const MAX_DEPTH: usize = 8;
/// Longest Git LFS pointer, in bytes (Git LFS specification: less than 1024).
const MAX_POINTER: u64 = 1024;

/// The two letters of git's short format: index against HEAD, worktree against index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Letters {
    pub(super) staging: u8,
    pub(super) worktree: u8,
}

/// What differs.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// By path; a renamed file stands under `old -> new`, an untracked folder ends with `/`.
    pub(super) entries: BTreeMap<BString, Letters>,
    /// How many entries there were beyond [`MAX_ENTRIES`].
    pub(super) more: usize,
    /// Paths whose content passes a filter program that was not run; they are held modified.
    pub(super) filtered: Vec<BString>,
    /// What could not be compared, with the reason; it is held modified.
    pub(super) unchecked: Vec<(BString, String)>,
    /// Why untracked files are not listed.
    pub(super) untracked_unknown: Option<String>,
}

/// A status that cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("status of {}: {reason}", path.display())]
pub(super) struct StatusError {
    /// The worktree.
    path: PathBuf,
    /// Why.
    reason: String,
}

/// Takes the status of the repository's worktree; `None` when it has none.
pub(super) fn take(repository: &gix::Repository) -> Result<Option<Status>, StatusError> {
    let Some(root) = repository.workdir() else { return Ok(None) };
    take_at(repository, root, MAX_ENTRIES, 0)
        .map(Some)
        .map_err(|error| StatusError { path: root.to_owned(), reason: open::reason(&error) })
}

fn take_at(repository: &gix::Repository, root: &Path, limit: usize, depth: usize) -> gix::Result<Status> {
    let index = index(repository, root)?;
    let mut collector = Collector { root: root.to_owned(), limit, ..Collector::default() };
    staged(repository, &index, &mut collector)?;
    let is_walked = match worktree(repository, &index, &mut collector, depth, true) {
        Ok(()) => None,
        // A folder that cannot be read hides the untracked files, but not what became of the tracked ones.
        Err(error) => Some(open::reason(&error)),
    };
    if is_walked.is_some() {
        collector.forget_worktree();
        worktree(repository, &index, &mut collector, depth, false)?;
    }
    let mut status = collector.finish(repository, &index)?;
    status.untracked_unknown = is_walked;
    Ok(status)
}

/// The index, its marks removed that would keep files from being looked at.
fn index(repository: &gix::Repository, root: &Path) -> gix::Result<gix::index::File> {
    let mut index: gix::index::File = (**repository.index_or_empty()?).clone();
    let hiding = Flags::ASSUME_VALID | Flags::FSMONITOR_VALID | Flags::SKIP_WORKTREE;
    let (entries, paths) = index.entries_mut_and_pathbacking();
    for entry in entries.iter_mut().filter(|entry| entry.flags.intersects(hiding)) {
        entry.flags.remove(Flags::ASSUME_VALID | Flags::FSMONITOR_VALID);
        // A sparse checkout leaves files out; one that is there all the same counts.
        if entry.flags.contains(Flags::SKIP_WORKTREE) {
            let path = gix::path::from_bstr(entry.path_in(paths))?;
            if root.join(path).symlink_metadata().is_ok() {
                entry.flags.remove(Flags::SKIP_WORKTREE);
            }
        }
    }
    Ok(index)
}

/// Compares HEAD and index.
fn staged(repository: &gix::Repository, index: &gix::index::State, collector: &mut Collector) -> gix::Result {
    let tree = repository.head_tree_id_or_empty()?;
    let run = |rewrites: Rewrites| {
        // Without this, paths would be limited to the folder that this process happens to run in.
        let everything = gix::index::State::new(repository.object_hash());
        let mut pathspec = repository.pathspec(false, None::<&str>, false, &everything, Source::IdMapping)?;
        let mut changes = Vec::new();
        repository.tree_index_status(
            &tree,
            index,
            Some(&mut pathspec),
            TrackRenames::Given(rewrites),
            |change, _, _| {
                changes.push(staged_letter(&change));
                Ok(std::ops::ControlFlow::Continue(()))
            },
        )?;
        gix::Result::Ok(changes)
    };
    // Likeness needs both contents; of a partial clone they may be missing.
    let changes = run(Rewrites::default()).or_else(|_| run(Rewrites { percentage: None, ..Rewrites::default() }))?;
    for (path, old, letter) in changes {
        collector.stage(path, old, letter);
    }
    Ok(())
}

fn staged_letter(change: &ChangeRef<'_, '_>) -> (BString, Option<BString>, u8) {
    match change {
        ChangeRef::Addition { location, .. } => (location.clone().into_owned(), None, b'A'),
        ChangeRef::Deletion { location, .. } => (location.clone().into_owned(), None, b'D'),
        ChangeRef::Modification { location, previous_entry_mode, entry_mode, .. } => {
            let kind = |mode: Mode| if mode == Mode::FILE_EXECUTABLE { Mode::FILE } else { mode };
            let letter = if kind(*previous_entry_mode) == kind(*entry_mode) { b'M' } else { b'T' };
            (location.clone().into_owned(), None, letter)
        }
        ChangeRef::Rewrite { source_location, location, copy, .. } => {
            let letter = if *copy { b'C' } else { b'R' };
            (location.clone().into_owned(), Some(source_location.clone().into_owned()), letter)
        }
    }
}

/// Compares index and worktree.
fn worktree(
    repository: &gix::Repository,
    index: &gix::index::State,
    collector: &mut Collector,
    depth: usize,
    with_untracked: bool,
) -> gix::Result {
    let walk = repository.dirwalk_options()?.emit_untracked(gix::dir::walk::EmissionMode::CollapseDirectory);
    let nested = Nested { root: collector.root.clone(), depth: depth + 1 };
    repository.index_worktree_status(
        index,
        None::<&str>,
        collector,
        Content,
        nested,
        &mut gix::progress::Discard,
        &AtomicBool::new(false),
        gix::status::index_worktree::Options {
            sorting: None,
            dirwalk_options: with_untracked.then_some(walk),
            rewrites: None,
            thread_limit: None,
        },
    )?;
    Ok(())
}

/// Collects what differs, in bounded memory: of too many entries the first by path are kept.
#[derive(Default)]
struct Collector {
    root: PathBuf,
    limit: usize,
    entries: BTreeMap<BString, Letters>,
    more: usize,
    /// New path to old path.
    renamed: BTreeMap<BString, BString>,
    /// Files whose content differs: a filter may explain it.
    differing: Vec<(BString, gix::ObjectId)>,
    unchecked: Vec<(BString, String)>,
}

impl Collector {
    fn set(&mut self, path: BString, change: impl FnOnce(&mut Letters)) {
        change(self.entries.entry(path).or_insert(Letters { staging: b' ', worktree: b' ' }));
        if self.entries.len() > self.limit {
            self.entries.pop_last();
            self.more += 1;
        }
    }

    fn stage(&mut self, path: BString, old: Option<BString>, letter: u8) {
        if let Some(old) = old {
            self.renamed.insert(path.clone(), old);
        }
        self.set(path, |letters| letters.staging = letter);
    }

    fn forget_worktree(&mut self) {
        self.entries.retain(|_, letters| {
            letters.worktree = b' ';
            letters.staging != b' ' && letters.staging != b'?'
        });
        self.differing.clear();
        self.unchecked.clear();
    }

    fn tracked(&mut self, path: &BStr, id: gix::ObjectId, status: EntryStatus<Comparison, NestedState>) {
        let path = path.to_owned();
        let change = match status {
            EntryStatus::NeedsUpdate(_) => return,
            EntryStatus::IntentToAdd => {
                return self.set(path, |letters| *letters = Letters { staging: b' ', worktree: b'A' });
            }
            EntryStatus::Conflict { summary, .. } => {
                return self.set(path, |letters| *letters = conflict_letters(summary));
            }
            EntryStatus::Change(change) => change,
        };
        let letter = match change {
            Change::Removed => b'D',
            Change::Type { .. } => b'T',
            Change::Modification { content_change: Some(Comparison::Unreadable(reason)), .. }
            | Change::SubmoduleModification(NestedState::Unreadable(reason)) => {
                self.note_unchecked(path.clone(), reason);
                b'M'
            }
            Change::Modification { content_change: Some(Comparison::Differs), executable_bit_changed, .. } => {
                if !executable_bit_changed && self.differing.len() < self.limit {
                    self.differing.push((path.clone(), id));
                }
                b'M'
            }
            Change::Modification { content_change: None, .. } | Change::SubmoduleModification(NestedState::Differs) => {
                b'M'
            }
        };
        self.set(path, |letters| letters.worktree = letter);
    }

    fn note_unchecked(&mut self, path: BString, reason: String) {
        if self.unchecked.len() < self.limit {
            self.unchecked.push((path, reason));
        }
    }

    fn untracked(&mut self, entry: &gix::dir::Entry) {
        use gix::dir::entry::{Kind, Status};
        if entry.status != Status::Untracked || entry.disk_kind == Some(Kind::Untrackable) {
            return;
        }
        let mut path = entry.rela_path.clone();
        if matches!(entry.disk_kind, Some(Kind::Directory | Kind::Repository)) {
            path.push_byte(b'/');
        }
        self.set(path, |letters| {
            // A file that was removed from the index only is both deleted and untracked.
            if letters.staging == b' ' {
                letters.staging = b'?';
            }
            letters.worktree = b'?';
        });
    }

    fn finish(mut self, repository: &gix::Repository, index: &gix::index::State) -> gix::Result<Status> {
        let mut filtered = Vec::new();
        if !self.differing.is_empty() {
            let mut attributes = repository.attributes_only(index, Source::WorktreeThenIdMapping)?;
            let mut found = attributes.selected_attribute_matches(["filter"]);
            for (path, id) in &self.differing {
                found.reset();
                let platform = attributes.at_entry(path.as_bstr(), None)?;
                platform.matching_attributes(&mut found);
                let filter = found.iter_selected().find_map(|m| match m.assignment.state {
                    gix::attrs::StateRef::Value(value) => Some(value.as_bstr().to_owned()),
                    _ => None,
                });
                let Some(filter) = filter else { continue };
                if filter != "lfs" {
                    filtered.push(path.clone());
                } else if is_lfs_content(repository, id, &self.root.join(gix::path::from_bstr(path.as_bstr())?)) {
                    match self.entries.get_mut(path) {
                        Some(letters) if letters.staging != b' ' => letters.worktree = b' ',
                        _ => drop(self.entries.remove(path)),
                    }
                }
            }
        }
        filtered.sort_unstable();
        self.unchecked.sort_unstable();
        let mut entries = self.entries;
        for (new, old) in self.renamed {
            if let Some(letters) = entries.remove(&new) {
                let mut key = old;
                key.push_str(" -> ");
                key.push_str(&new);
                entries.insert(key, letters);
            }
        }
        Ok(Status { entries, more: self.more, filtered, unchecked: self.unchecked, untracked_unknown: None })
    }
}

impl VisitEntry<'_> for Collector {
    type ContentChange = Comparison;
    type SubmoduleStatus = NestedState;

    fn visit_entry(&mut self, entry: Entry<'_, Comparison, NestedState>) {
        match entry {
            Entry::Modification { entry, rela_path, status, .. } => self.tracked(rela_path, entry.id, status),
            Entry::DirectoryContents { entry, .. } => self.untracked(&entry),
            // Only with rename tracking of the worktree, which git status does not do either.
            Entry::Rewrite { dirwalk_entry, .. } => self.untracked(&dirwalk_entry),
        }
    }
}

/// How conflicts are shown (git-status, "Short Format").
fn conflict_letters(conflict: Conflict) -> Letters {
    let [staging, worktree] = *match conflict {
        Conflict::BothDeleted => b"DD",
        Conflict::AddedByUs => b"AU",
        Conflict::DeletedByThem => b"UD",
        Conflict::AddedByThem => b"UA",
        Conflict::DeletedByUs => b"DU",
        Conflict::BothAdded => b"AA",
        Conflict::BothModified => b"UU",
    };
    Letters { staging, worktree }
}

/// The outcome of comparing a file with its blob.
#[derive(Clone)]
enum Comparison {
    Differs,
    Unreadable(String),
}

/// Compares contents; a file that cannot be read, or not be converted, is different and does not end the comparison.
#[derive(Clone)]
struct Content;

impl CompareBlobs for Content {
    type Output = Comparison;

    fn compare_blobs<'a, 'b>(
        &mut self,
        entry: &gix::index::Entry,
        worktree_blob_size: u64,
        data: impl ReadData<'a>,
        buf: &mut Vec<u8>,
    ) -> gix::Result<Option<Comparison>> {
        Ok(match FastEq.compare_blobs(entry, worktree_blob_size, data, buf) {
            Ok(None) => None,
            Ok(Some(())) => Some(Comparison::Differs),
            Err(error) => Some(Comparison::Unreadable(open::reason(&error))),
        })
    }
}

/// The outcome of looking into a submodule.
#[derive(Clone)]
enum NestedState {
    Differs,
    Unreadable(String),
}

/// Looks into submodules. Not gix's own: that one trusts the configuration of a submodule that we own.
#[derive(Clone)]
struct Nested {
    root: PathBuf,
    depth: usize,
}

impl SubmoduleStatus for Nested {
    type Output = NestedState;

    fn status(&mut self, entry: &gix::index::Entry, rela_path: &BStr) -> gix::Result<Option<NestedState>> {
        let folder = self.root.join(gix::path::from_bstr(rela_path)?);
        if folder.join(".git").symlink_metadata().is_err() {
            return Ok(None); // not checked out
        }
        let repository = match open::open(&folder) {
            Ok(repository) => repository,
            Err(error) => return Ok(Some(NestedState::Unreadable(error.to_string()))),
        };
        if !repository.head_id().is_ok_and(|id| id == entry.id) {
            return Ok(Some(NestedState::Differs));
        }
        if self.depth > MAX_DEPTH {
            let reason = format!("more than {MAX_DEPTH} submodules in one another");
            return Ok(Some(NestedState::Unreadable(reason)));
        }
        Ok(match take_at(&repository, &folder, 1, self.depth) {
            Ok(status) => match status.unchecked.into_iter().next() {
                Some((path, reason)) => Some(NestedState::Unreadable(format!("{path}: {reason}"))),
                None if !status.entries.is_empty() => Some(NestedState::Differs),
                None => status.untracked_unknown.map(NestedState::Unreadable),
            },
            Err(error) => Some(NestedState::Unreadable(open::reason(&error))),
        })
    }
}

/// Whether the file at `path` is the content that the Git LFS pointer `id` names.
fn is_lfs_content(repository: &gix::Repository, id: &gix::ObjectId, path: &Path) -> bool {
    let Ok(header) = repository.find_header(*id) else { return false };
    if header.size() > MAX_POINTER {
        return false;
    }
    let Ok(blob) = repository.find_object(*id) else { return false };
    let Some((oid, size)) = lfs_pointer(&blob.data) else { return false };
    let hash = || -> io::Result<([u8; 32], u64)> {
        if !path.symlink_metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        digest::sha256_reader(std::fs::File::open(path)?)
    };
    matches!(hash(), Ok((found, length)) if found == oid && length == size)
}

/// SHA-256 and length in a Git LFS pointer (Git LFS specification, "The Pointer").
fn lfs_pointer(text: &[u8]) -> Option<([u8; 32], u64)> {
    let text = text.to_str().ok()?;
    if !text.starts_with("version https://git-lfs.github.com/spec/") {
        return None;
    }
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let mut oid = [0; 32];
    gix::hash::ObjectId::from_hex(value("oid")?.strip_prefix("sha256:")?.as_bytes())
        .ok()
        .filter(|id| id.as_bytes().len() == oid.len())
        .map(|id| oid.copy_from_slice(id.as_bytes()))?;
    Some((oid, value("size")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lfs_pointers_are_read() {
        let hex = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
        let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{hex}\nsize 12345\n");
        let (oid, size) = lfs_pointer(pointer.as_bytes()).expect("this is a pointer");
        assert_eq!((oid[0], size), (0x4d, 12345));
        for broken in
            ["", "version x\n", &pointer.replace("sha256:4d", "sha256:"), &pointer.replace("size 1", "size x")]
        {
            assert_eq!(lfs_pointer(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn too_many_entries_keep_the_first_by_path() {
        let mut collector = Collector { limit: 3, ..Collector::default() };
        for n in [7, 3, 9, 1, 5] {
            collector.stage(format!("f{n}").into(), None, b'A');
        }
        let names: Vec<_> = collector.entries.keys().map(ToString::to_string).collect();
        assert_eq!((names, collector.more), (vec!["f1".to_owned(), "f3".to_owned(), "f5".to_owned()], 2));
    }
}
