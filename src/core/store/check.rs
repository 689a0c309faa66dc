//! Looks whether an archive is whole, and makes its index again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::disk::{self, Locked, TEMPORARY_PREFIX};
use super::extract::ExtractError;
use super::index::Name;
use super::put::describe;
use super::segment::{Key, Segment};
use super::{Archive, CheckedReader, ObjectId, Record, StoreError, refuse_occupied};

/// Records that are put into one segment when the index is made again.
const BATCH_RECORDS: usize = 4096;
/// Subject digests that are put into one segment when the index is made again.
const BATCH_KEYS: usize = 1 << 20;
/// Attempts to read an index that others are merging.
const MAX_ATTEMPTS: usize = 20;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where; a name that is not UTF-8 is shown escaped.
    pub path: String,
    /// What.
    pub reason: String,
}

impl Problem {
    pub(super) fn new(path: &Path, reason: &dyn ToString) -> Self {
        Self { path: shown(path), reason: reason.to_string() }
    }
}

fn shown(path: &Path) -> String {
    path.to_str().map_or_else(|| path.as_os_str().as_bytes().escape_ascii().to_string(), ToOwned::to_owned)
}

/// The state of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Envelopes that are whole.
    pub objects: u64,
    /// Their length in bytes, all together.
    pub bytes: u64,
    /// Trusted roots that are whole.
    pub roots: u64,
    /// How often one of them is linked to an envelope.
    pub links: u64,
    /// Envelopes and trusted roots whose bytes are not those that they are named by.
    pub mismatched: Vec<Problem>,
    /// Objects that cannot be read, or are no envelopes; links to trusted roots that lead nowhere.
    pub unreadable: Vec<Problem>,
    /// Whole envelopes that the index does not know. [`Archive::reindex`] adds them.
    pub unindexed: Vec<ObjectId>,
    /// Envelopes that the index knows and that are gone.
    pub missing: Vec<ObjectId>,
    /// Envelopes of which the index says something else than they do.
    pub differing: Vec<ObjectId>,
    /// Parts of the index that cannot be read. [`Archive::reindex`] replaces them.
    pub damaged: Vec<Problem>,
    /// Files and folders that are no part of an archive.
    pub foreign: Vec<String>,
    /// Puts that did not come to their end, or are under way: nothing was promised of them.
    pub interrupted: u64,
    /// Files that such puts left, or are writing. They are removed when they are a day old.
    pub temporary: u64,
}

impl Report {
    /// Whether everything that was ever stored is there, whole, and can be found.
    pub fn is_sound(&self) -> bool {
        self.mismatched.is_empty()
            && self.unreadable.is_empty()
            && self.unindexed.is_empty()
            && self.missing.is_empty()
            && self.differing.is_empty()
            && self.damaged.is_empty()
    }
}

/// What [`Archive::reindex`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reindexed {
    /// Envelopes that are in the index now.
    pub indexed: u64,
    /// Objects that are not, and why.
    pub left_out: Vec<Problem>,
}

/// The files below `objects/`, sorted.
#[derive(Default)]
struct Objects {
    ids: BTreeSet<ObjectId>,
    temporary: Vec<PathBuf>,
    foreign: Vec<PathBuf>,
}

impl Archive {
    /// Reads every envelope and the whole index.
    pub fn check(&self) -> Result<Report, StoreError> {
        let mut report = Report::default();
        // Envelopes first, then the index: a put that ends in between is in both.
        let mut content = BTreeMap::new();
        let objects = self.objects_on_disk()?;
        for id in &objects.ids {
            match self.describe_object(id) {
                Ok((record, _)) => {
                    report.objects += 1;
                    report.bytes += record.size;
                    content.insert(*id, fingerprint(record));
                }
                Err(Bad::Mismatch(problem)) => report.mismatched.push(problem),
                Err(Bad::Unreadable(problem)) => report.unreadable.push(problem),
            }
        }
        let listing = self.index.list()?;
        let temporary = objects.temporary.len() + listing.temporary.len();
        report.temporary = temporary as u64;
        report.foreign = objects.foreign.iter().chain(&listing.foreign).map(|path| shown(path)).collect();

        let trust = self.check_trust()?;
        (report.roots, report.links) = (trust.roots, trust.links);
        report.mismatched.extend(trust.mismatched);
        report.unreadable.extend(trust.unreadable);
        report.foreign.extend(trust.foreign.iter().map(|path| shown(path)));

        let mut known = BTreeSet::new();
        for (name, segment) in self.open_leniently(&mut report.damaged)? {
            if let Err(error) = self.check_segment(&name, &segment, &content, &mut known, &mut report) {
                report.damaged.push(Problem::new(segment.path(), &error));
            }
        }
        report.unindexed = content.keys().filter(|id| !known.contains(*id)).copied().collect();
        report.missing.sort_unstable();
        report.missing.dedup();
        report.differing.sort_unstable();
        report.differing.dedup();
        Ok(report)
    }

    fn check_segment(
        &self,
        name: &Name,
        segment: &Segment,
        content: &BTreeMap<ObjectId, [u8; 32]>,
        known: &mut BTreeSet<ObjectId>,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        segment.check()?;
        for index in 0..segment.rows() {
            let row = segment.row(index)?;
            let id = row.id();
            if let Some(expected) = content.get(&id) {
                known.insert(id);
                if fingerprint(segment.record(&row)?) != *expected {
                    report.differing.push(id);
                }
            } else if !self.exists(&id) {
                if name.level == 0 {
                    report.interrupted += 1;
                } else {
                    report.missing.push(id);
                }
            }
        }
        Ok(())
    }

    /// Opens what can be opened of the index.
    fn open_leniently(&self, damaged: &mut Vec<Problem>) -> Result<Vec<(Name, Segment)>, StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let _merging = self.index.merge_lock();
            let mut out = Vec::new();
            let mut bad = Vec::new();
            let mut vanished = false;
            for name in self.index.list()?.segments {
                let path = self.index.path(&name);
                match Segment::open(&path) {
                    Ok(segment) => out.push((name, segment)),
                    Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => vanished = true,
                    Err(error) => bad.push(Problem::new(&path, &error)),
                }
            }
            if !vanished {
                damaged.append(&mut bad);
                return Ok(out);
            }
        }
        Err(StoreError::Busy { path: self.index.folder().to_owned() })
    }

    /// Opens the archive in the folder `root`, for [`Archive::reindex`]: where the file is missing or damaged that says
    /// that this is an archive, it is written again, and so are missing folders; whether so, is the second part of the
    /// answer. What the folder holds must say that it is an archive: an envelope that is named by its digest, or nothing
    /// but our own empty folders. An archive of a later format is left alone.
    pub fn repair(root: &Path) -> Result<(Self, bool), StoreError> {
        let refused = match Self::open(root) {
            Ok(archive) => {
                let made = archive.make_folders()?;
                return Ok((archive, made));
            }
            Err(error @ StoreError::Format { .. }) => return Err(error),
            Err(error) => error,
        };
        let Ok(archive) = Self::at_modes_of(root) else { return Err(refused) };
        let Ok(objects) = archive.objects_on_disk() else { return Err(refused) };
        let is_ours = if objects.ids.is_empty() {
            refuse_occupied(root).is_ok() && archive.index.list().is_ok_and(|listing| listing.foreign.is_empty())
        } else {
            objects.ids.iter().any(|id| archive.describe_object(id).is_ok())
        };
        if !is_ours {
            return Err(refused);
        }
        archive.make_folders()?;
        archive.write_marker()?;
        Ok((archive, true))
    }

    /// Makes the folders that are missing.
    pub(super) fn make_folders(&self) -> Result<bool, StoreError> {
        let mut made = false;
        for folder in [self.objects.clone(), self.objects.join("sha256"), self.index.folder().to_owned()] {
            if !folder.is_dir() {
                let failed = |source| StoreError::Io { action: "create", path: folder.clone(), source };
                disk::make_folder(&folder, self.modes).map_err(failed)?;
                made = true;
            }
        }
        Ok(made)
    }

    /// Makes the index again from the envelopes. Others can go on reading and writing meanwhile.
    ///
    /// The time at which an envelope was stored is taken from the old index where that is readable, else from the
    /// file's modification time, which a put sets to the same.
    pub fn reindex(&self) -> Result<Reindexed, StoreError> {
        let merging = self.index.merge_lock();
        if matches!(merging, Locked::Elsewhere) {
            return Err(StoreError::Busy { path: self.index.folder().to_owned() });
        }
        let mut old = Vec::new();
        let mut times = BTreeMap::new();
        for name in self.index.list()?.segments {
            if let Ok(segment) = Segment::open(&self.index.path(&name)) {
                for index in 0..segment.rows() {
                    if let Ok(record) = segment.row(index).and_then(|row| segment.record(&row)) {
                        times.insert(record.digest, record.stored);
                    }
                }
            }
            old.push(name);
        }
        let mut out = Reindexed::default();
        let objects = self.objects_on_disk()?;
        let mut new = BTreeSet::new();
        let mut batch: Vec<(Record, Vec<Key>)> = Vec::new();
        let mut keys_in_batch = 0;
        for id in &objects.ids {
            match self.describe_object(id) {
                Ok((mut record, keys)) => {
                    record.stored = times.get(id).copied().unwrap_or(record.stored);
                    keys_in_batch += keys.len();
                    batch.push((record, keys));
                    out.indexed += 1;
                }
                Err(Bad::Mismatch(problem) | Bad::Unreadable(problem)) => out.left_out.push(problem),
            }
            if batch.len() == BATCH_RECORDS || keys_in_batch > BATCH_KEYS {
                new.insert(self.index.add_many(&mut batch)?);
                batch.clear();
                keys_in_batch = 0;
            }
        }
        if !batch.is_empty() {
            new.insert(self.index.add_many(&mut batch)?);
        }

        // A record of level 0 whose envelope was not seen belongs to a put that was under way, if it is whole.
        let replaced = |name: &&Name| {
            let of_others = name.object().is_some_and(|id| !objects.ids.contains(&id))
                && Segment::open(&self.index.path(name)).is_ok();
            !new.contains(*name) && !of_others
        };
        {
            let _publishing = self.index.publish_lock();
            self.index.remove(old.iter().filter(replaced))?;
        }
        let failed = |source| StoreError::Io { action: "tidy", path: self.objects.clone(), source };
        let now = disk::temporary(&self.objects, self.modes)
            .and_then(|file| file.as_file().metadata()?.modified())
            .map_err(failed)?;
        self.tidy_objects(now)?;
        Ok(out)
    }

    fn objects_on_disk(&self) -> Result<Objects, StoreError> {
        let mut out = Objects::default();
        let each = |folder: &Path, on: &mut dyn FnMut(&str, PathBuf) -> bool| -> Result<Vec<PathBuf>, StoreError> {
            let failed = |source| StoreError::Io { action: "read", path: folder.to_owned(), source };
            let mut strange = Vec::new();
            for entry in fs::read_dir(folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let path = entry.path();
                if !entry.file_name().to_str().is_some_and(|name| on(name, path.clone())) {
                    strange.push(path);
                }
            }
            Ok(strange)
        };
        let is_hex = |name: &str| name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let temporary = &mut out.temporary;
        let strange = each(&self.objects, &mut |name, path| {
            if name.starts_with(TEMPORARY_PREFIX) {
                temporary.push(path);
                return true;
            }
            name == "sha256"
        })?;
        out.foreign.extend(strange);
        let mut folders = Vec::new();
        let strange = each(&self.objects.join("sha256"), &mut |name, path| {
            let ours = name.len() == 2 && is_hex(name) && path.is_dir();
            if ours {
                folders.push((name.to_owned(), path));
            }
            ours
        })?;
        out.foreign.extend(strange);
        folders.sort();
        for (first, folder) in folders {
            let strange = each(&folder, &mut |name, _| {
                let id = Some(name)
                    .filter(|name| is_hex(name))
                    .and_then(|name| ObjectId::from_hex(&format!("{first}{name}")));
                id.is_some_and(|id| out.ids.insert(id))
            })?;
            out.foreign.extend(strange);
        }
        out.temporary.sort();
        out.foreign.sort();
        Ok(out)
    }

    /// Reads a stored envelope: its record, with the file's time, and its keys.
    fn describe_object(&self, id: &ObjectId) -> Result<(Record, Vec<Key>), Bad> {
        let path = self.path(id);
        let unreadable = |error: &dyn ToString| Bad::Unreadable(Problem::new(&path, &error.to_string()));
        let mut reader = self.reader(id).map_err(|error| unreadable(&error))?;
        let size = reader.length();
        let stored = file_time(&path).map_err(|error| unreadable(&error))?;
        let outcome = describe(&mut reader, *id, size, stored);
        // Whatever the parser made of it: first of all the bytes must be the right ones.
        finish(&mut reader).map_err(|error| match error {
            StoreError::Mismatch { expected, found, .. } => Bad::Mismatch(Problem::new(
                &path,
                &format!("the content has changed: expected {expected}, found {found}"),
            )),
            other => unreadable(&other),
        })?;
        outcome.map_err(|error| match error {
            ExtractError::Read(error) => unreadable(&error),
            error @ ExtractError::Syntax(..) => unreadable(&format!("not an envelope: {error}")),
        })
    }
}

fn file_time(path: &Path) -> io::Result<Timestamp> {
    let modified = fs::symlink_metadata(path)?.modified()?;
    Ok(Timestamp::try_from(modified).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Why an object cannot be indexed.
enum Bad {
    Mismatch(Problem),
    Unreadable(Problem),
}

fn finish(reader: &mut CheckedReader) -> Result<(), StoreError> {
    match io::copy(&mut reader.by_ref(), &mut io::sink()) {
        Ok(_) => Ok(()),
        Err(error) => Err(reader.explain(error)),
    }
}

/// Of all that a record tells but the time.
fn fingerprint(mut record: Record) -> [u8; 32] {
    record.stored = Timestamp::UNIX_EPOCH;
    let mut state = Sha256::new();
    // A `Record` has only strings and numbers: it can be written.
    state.update(serde_json::to_vec(&record).unwrap_or_default());
    state.finalize().into()
}
