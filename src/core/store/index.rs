//! The folder of segments: what is in the index, how it grows and how it is kept small.
//!
//! A put adds one segment of level 0, named after its envelope, **before** the envelope gets its name in the archive;
//! so whatever is in the archive is in the index, at any moment. When there are many, they are merged into one of
//! the next level, and so on. Segments never change and saying things twice is harmless, so neither writers nor
//! merging need a lock to be correct; locks only keep a reader from listing the folder while names are exchanged,
//! and two processes from doing the same work.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::disk::{self, Lock, Locked, Modes};
use super::merge;
use super::segment::{Key, Row, Segment};
use super::{ObjectId, Record, StoreError};

/// Segments of level 0 that are merged at once.
const LEVEL_0: usize = 64;
/// Segments of any higher level that are merged at once.
const LEVEL_N: usize = 8;
/// Segments read by one merge.
const MAX_MERGED: usize = 512;
/// Segments one archive may have; merging keeps them under a hundred, so more means that something is wrong.
const MAX_SEGMENTS: usize = 100_000;
/// Highest level. Level 10 would hold 64 × 8^9 envelopes.
const MAX_LEVEL: u8 = 9;
/// Listings that are tried until two are equal, where there are no locks.
const MAX_LISTINGS: usize = 100;
/// Age after which what an interrupted process left is removed.
pub(super) const STALE: Duration = Duration::from_hours(24);

const SUFFIX: &str = ".seg";
const PUBLISH_LOCK: &str = "publish.lock";
const MERGE_LOCK: &str = "merge.lock";

/// Name of a segment: its level, and the envelope (level 0) or its identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) level: u8,
    text: String,
}

impl Name {
    fn of_object(id: &ObjectId) -> Self {
        Self { level: 0, text: format!("0-{}{SUFFIX}", id.hex()) }
    }

    fn of_identity(level: u8, identity: &str) -> Self {
        Self { level, text: format!("{level}-{identity}{SUFFIX}") }
    }

    fn parse(text: &str) -> Option<Self> {
        let (level, rest) = text.split_once('-')?;
        let digits = rest.strip_suffix(SUFFIX)?;
        let [level @ b'0'..=b'9'] = level.as_bytes() else { return None };
        let level = level - b'0';
        let length = if level == 0 { 64 } else { 32 };
        let hex = digits.len() == length && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| Self { level, text: text.to_owned() })
    }

    /// The envelope of a segment of level 0.
    pub(super) fn object(&self) -> Option<ObjectId> {
        let digits = self.text.strip_prefix("0-")?.strip_suffix(SUFFIX)?;
        ObjectId::from_hex(digits)
    }
}

/// Everything that lies in the folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) segments: BTreeSet<Name>,
    /// Files that are being written, or were when their process ended.
    pub(super) temporary: Vec<PathBuf>,
    /// Anything else.
    pub(super) foreign: Vec<PathBuf>,
}

/// The index of one archive.
#[derive(Debug)]
pub(super) struct Index {
    folder: PathBuf,
    modes: Modes,
}

impl Index {
    pub(super) fn new(folder: PathBuf, modes: Modes) -> Self {
        Self { folder, modes }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn path(&self, name: &Name) -> PathBuf {
        self.folder.join(&name.text)
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> StoreError {
        let path = self.folder.clone();
        move |source| StoreError::Io { action, path, source }
    }

    /// Adds a record, so that it survives a power loss.
    pub(super) fn add(&self, record: Record, keys: Vec<Key>) -> Result<(), StoreError> {
        let name = Name::of_object(&record.digest);
        self.publish(&mut [(record, keys)], |_| name)
    }

    /// Adds many records at once, at the level that fits their number; returns the segment's name.
    pub(super) fn add_many(&self, records: &mut [(Record, Vec<Key>)]) -> Result<Name, StoreError> {
        let (mut level, mut room) = (1, LEVEL_0);
        while level < MAX_LEVEL && records.len() > room {
            level += 1;
            room *= LEVEL_N;
        }
        let mut added = None;
        self.publish(records, |identity| added.insert(Name::of_identity(level, identity)).clone())?;
        added.ok_or_else(|| StoreError::Io {
            action: "write",
            path: self.folder.clone(),
            source: io::Error::from(io::ErrorKind::InvalidInput),
        })
    }

    fn publish(&self, records: &mut [(Record, Vec<Key>)], name: impl FnOnce(&str) -> Name) -> Result<(), StoreError> {
        let mut file = disk::temporary(&self.folder, self.modes).map_err(self.failed("write to"))?;
        let identity = merge::write(file.as_file_mut(), &self.folder, records)?;
        disk::publish(file, &self.path(&name(&identity))).map_err(self.failed("write to"))
    }

    /// Whether the segment that [`Index::add`] wrote is still there and not merged.
    pub(super) fn has_own_segment(&self, id: &ObjectId) -> bool {
        fs::symlink_metadata(self.path(&Name::of_object(id))).is_ok()
    }

    pub(super) fn list(&self) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        for entry in fs::read_dir(&self.folder).map_err(self.failed("read"))? {
            let entry = entry.map_err(self.failed("read"))?;
            let file_name = entry.file_name();
            let text = file_name.to_str();
            if let Some(name) = text.and_then(Name::parse) {
                listing.segments.insert(name);
                if listing.segments.len() > MAX_SEGMENTS {
                    return Err(StoreError::DamagedIndex {
                        path: self.folder.clone(),
                        reason: "it has far too many segments",
                    });
                }
            } else if text.is_some_and(|text| text.starts_with(disk::TEMPORARY_PREFIX)) {
                listing.temporary.push(entry.path());
            } else if !matches!(text, Some(PUBLISH_LOCK | MERGE_LOCK)) {
                listing.foreign.push(entry.path());
            }
        }
        listing.temporary.sort();
        listing.foreign.sort();
        Ok(listing)
    }

    /// Opens all segments of one moment.
    ///
    /// A name can vanish between listing and opening, because merging replaced the segment; then all is done again.
    /// While one lists, a folder can even show neither the old names nor the new: the lock keeps merging out, and
    /// without it two listings in a row must be equal.
    pub(super) fn open(&self) -> Result<Vec<(Name, Segment)>, StoreError> {
        let lock = disk::lock(&self.folder.join(PUBLISH_LOCK), Lock::Shared, self.modes);
        let mut before: Option<BTreeSet<Name>> = None;
        for _ in 0..MAX_LISTINGS {
            let listing = self.list()?.segments;
            let stable = matches!(lock, Locked::Held(_)) || before.as_ref() == Some(&listing);
            if stable && let Some(segments) = self.open_all(&listing)? {
                return Ok(segments);
            }
            before = Some(listing);
        }
        Err(StoreError::Busy { path: self.folder.clone() })
    }

    fn open_all(&self, listing: &BTreeSet<Name>) -> Result<Option<Vec<(Name, Segment)>>, StoreError> {
        let mut out = Vec::with_capacity(listing.len());
        for name in listing {
            match Segment::open(&self.path(name)) {
                Ok(segment) => out.push((name.clone(), segment)),
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(out))
    }

    /// Merges what has become many, if nobody else does; removes what interrupted puts left long ago.
    ///
    /// `exists` tells whether an envelope has got its name: an entry of level 0 whose envelope has not may belong to
    /// a put that is under way, and stays as it is. `others` tidies what lies elsewhere, and is given the time.
    pub(super) fn tidy(
        &self,
        exists: impl Fn(&ObjectId) -> bool,
        others: impl FnOnce(SystemTime) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if !Self::is_due(&self.list()?.segments) {
            return Ok(());
        }
        let lock = disk::lock(&self.folder.join(MERGE_LOCK), Lock::ExclusiveNow, self.modes);
        if matches!(lock, Locked::Elsewhere) {
            return Ok(());
        }
        let listing = self.list()?;
        let mut file = disk::temporary(&self.folder, self.modes).map_err(self.failed("write to"))?;
        // The clock of the file system itself, which may be another machine's.
        let now = file.as_file().metadata().and_then(|data| data.modified()).map_err(self.failed("read"))?;
        for path in &listing.temporary {
            remove_if_stale(path, now).map_err(self.failed("tidy"))?;
        }
        others(now)?;

        let mut levels: BTreeMap<u8, Vec<Name>> = BTreeMap::new();
        for name in listing.segments {
            match name.object() {
                Some(id) if !exists(&id) => remove_if_stale(&self.path(&name), now).map_err(self.failed("tidy"))?,
                _ => levels.entry(name.level).or_default().push(name),
            }
        }
        // From the lowest full level up: as long as a level with what comes from below is full, it goes up too.
        let mut names: Vec<Name> = Vec::new();
        let mut level = 0;
        while level < MAX_LEVEL {
            let here = levels.remove(&level).unwrap_or_default();
            let full = if level == 0 { LEVEL_0 } else { LEVEL_N };
            if here.len() + usize::from(!names.is_empty()) >= full {
                names.extend(here);
            } else if !names.is_empty() {
                break;
            }
            level += 1;
        }
        names.truncate(MAX_MERGED);
        let (mut inputs, mut segments) = (Vec::new(), Vec::new());
        for name in names {
            // One that is damaged stays where it is, for `check` and `reindex`.
            if let Ok(segment) = Segment::open(&self.path(&name))
                && segment.check().is_ok()
            {
                segments.push(segment);
                inputs.push(name);
            }
        }
        if segments.len() < 2 {
            return Ok(());
        }
        let identity = merge::merge(file.as_file_mut(), &self.folder, &segments)?;
        self.exchange(file, &Name::of_identity(level, &identity), &inputs)
    }

    fn is_due(segments: &BTreeSet<Name>) -> bool {
        let mut counts = [0_usize; MAX_LEVEL as usize + 1];
        for name in segments {
            counts[usize::from(name.level)] += 1;
        }
        counts[0] >= LEVEL_0 || counts[1..usize::from(MAX_LEVEL)].iter().any(|&count| count >= LEVEL_N)
    }

    fn exchange(&self, new: tempfile::NamedTempFile, name: &Name, old: &[Name]) -> Result<(), StoreError> {
        new.as_file().sync_all().map_err(self.failed("write to"))?;
        let lock = self.publish_lock();
        if matches!(lock, Locked::Elsewhere) {
            return Ok(()); // A reader is slow or stopped: another time.
        }
        disk::publish(new, &self.path(name)).map_err(self.failed("write to"))?;
        self.remove(old.iter().filter(|old| *old != name))
    }

    /// Keeps other processes from merging, if there are locks.
    pub(super) fn merge_lock(&self) -> Locked {
        disk::lock(&self.folder.join(MERGE_LOCK), Lock::Exclusive, self.modes)
    }

    /// Keeps readers from listing the folder while names are exchanged.
    pub(super) fn publish_lock(&self) -> Locked {
        disk::lock(&self.folder.join(PUBLISH_LOCK), Lock::Exclusive, self.modes)
    }

    /// Removes segments whose content stands in others.
    pub(super) fn remove<'a>(&self, names: impl IntoIterator<Item = &'a Name>) -> Result<(), StoreError> {
        names.into_iter().try_for_each(|name| disk::remove(&self.path(name)).map_err(self.failed("tidy")))
    }

    /// Whether the envelope has a row.
    pub(super) fn contains(&self, id: &ObjectId) -> Result<bool, StoreError> {
        let key = Key::of_object(id);
        for (_, segment) in self.open()? {
            for row in segment.lookup(key.value, Some(key.algorithm))? {
                if segment.row(row)?.id() == *id {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Removes a file that was last changed long before `now`; a younger one may be in use. The time of modification does
/// not tell: a put sets it to the time that it is given.
pub(super) fn remove_if_stale(path: &Path, now: SystemTime) -> io::Result<()> {
    let data = match fs::symlink_metadata(path) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let changed = u64::try_from(data.ctime()).ok().map(Duration::from_secs);
    let age =
        now.duration_since(SystemTime::UNIX_EPOCH).ok().zip(changed).and_then(|(now, then)| now.checked_sub(then));
    if age.is_some_and(|age| age > STALE) { disk::remove(path) } else { Ok(()) }
}

/// Some rows of one segment, newest first.
pub(super) enum Rows {
    /// All.
    All,
    /// Those that a lookup gave.
    These(Vec<u32>),
}

/// Walks through the rows of many segments in the order of answers: newest first, then by digest; no envelope twice.
pub(super) struct Walk {
    segments: Vec<(Name, Segment, Rows)>,
    heap: std::collections::BinaryHeap<std::cmp::Reverse<(super::segment::Position, usize, usize)>>,
    seen: BTreeSet<ObjectId>,
}

impl Walk {
    pub(super) fn new(segments: Vec<(Name, Segment, Rows)>) -> Result<Self, StoreError> {
        let mut walk = Self { segments, heap: std::collections::BinaryHeap::new(), seen: BTreeSet::new() };
        for number in 0..walk.segments.len() {
            walk.advance(number, 0)?;
        }
        Ok(walk)
    }

    fn row(&self, number: usize, at: usize) -> Option<u32> {
        let (_, segment, rows) = &self.segments[number];
        match rows {
            Rows::All => u32::try_from(at).ok().filter(|&row| row < segment.rows()),
            Rows::These(rows) => rows.get(at).copied(),
        }
    }

    fn advance(&mut self, number: usize, at: usize) -> Result<(), StoreError> {
        if let Some(row) = self.row(number, at) {
            let position = self.segments[number].1.row(row)?.position();
            self.heap.push(std::cmp::Reverse((position, number, at)));
        }
        Ok(())
    }

    /// The next row with its segment.
    pub(super) fn next(&mut self) -> Result<Option<(&Name, &Segment, Row)>, StoreError> {
        while let Some(std::cmp::Reverse((position, number, at))) = self.heap.pop() {
            self.advance(number, at + 1)?;
            if self.seen.insert(position.id)
                && let Some(row) = self.row(number, at)
            {
                let (name, segment, _) = &self.segments[number];
                return Ok(Some((name, segment, segment.row(row)?)));
            }
        }
        Ok(None)
    }
}
