//! One immutable file of the index: rows, one for each envelope, and entries, one for each digest of a subject.
//!
//! ```text
//! header   64 bytes   magic "affidx1\n", rows u32, zero u32, entries u64, bytes of bodies u64, zero, check 16
//! rows     72 bytes   digest of the envelope 32, seconds i64, nanoseconds u32, length of the body u32, (check) 16,
//!                     offset of the body u64
//! bodies              each the JSON of a record
//! entries  4096 bytes up to 170 × (key 16, algorithm 4, row u32), check 16; the last block is shorter
//! ```
//! Numbers are little-endian. A check is the beginning of a SHA-256. Rows are sorted newest first, then by digest;
//! entries by key, row, algorithm. So a digest is found with a few reads, and the newest rows are the first.
//! Two segments say the same as one that holds the rows and entries of both: they are merged without harm.

use std::cmp::{Ordering, Reverse};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::disk;
use super::{ObjectId, Record, StoreError};

/// First bytes of a segment.
pub(super) const MAGIC: &[u8; 8] = b"affidx1\n";
/// Length of the header in bytes.
pub(super) const HEADER: usize = 64;
const ROW: usize = 72;
/// Bytes of a row that its check covers, together with the body.
const ROW_CHECKED: usize = 48;
const CHECK: usize = 16;
/// Entries in a full block.
pub(super) const BLOCK_ENTRIES: usize = 170;
const BLOCK: usize = BLOCK_ENTRIES * Entry::SIZE + CHECK;
/// Segments up to this length in bytes are held in memory, so that many small ones need no open files.
const HELD: u64 = 64 * 1024;
/// Length in bytes of the JSON of one record. What makes a record long is limited before (see `extract`).
const MAX_BODY: u32 = 16 << 20;

/// A digest in the index.
///
/// The beginning of the SHA-256 of the value and of the algorithm's name: values have many lengths and alphabets.
/// Somebody who makes two values with equal keys (2^64 work) gets an envelope into an answer; it is judged there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) value: [u8; 16],
    pub(crate) algorithm: [u8; 4],
}

impl Key {
    /// For a digest of a subject. Letter case does not matter.
    pub(crate) fn of_subject(algorithm: &str, value: &str) -> Self {
        Self { value: Self::value(value), algorithm: Self::algorithm(algorithm) }
    }

    /// For the digest of the envelope itself.
    pub(crate) fn of_object(id: &ObjectId) -> Self {
        Self::of_subject("@object", &id.hex())
    }

    /// For the git object id of the envelope as a blob, 64 hex digits.
    pub(crate) fn of_gitoid(hex: &str) -> Self {
        Self::of_subject("@gitoid", hex)
    }

    /// Whether the key is one of the archive's own and not of a subject. `@` begins no algorithm's name.
    pub(crate) fn is_internal(self) -> bool {
        self.algorithm == Self::algorithm("@object") || self.algorithm == Self::algorithm("@gitoid")
    }

    pub(super) fn entry(&self, row: u32) -> Entry {
        Entry { value: self.value, row, algorithm: self.algorithm }
    }

    pub(crate) fn value(value: &str) -> [u8; 16] {
        first(&sha256_of(value.trim().to_ascii_lowercase().as_bytes()))
    }

    pub(crate) fn algorithm(name: &str) -> [u8; 4] {
        first(&sha256_of(name.to_ascii_lowercase().as_bytes()))
    }
}

pub(super) fn sha256_of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The first `N` bytes of a longer digest.
pub(super) fn first<const N: usize>(bytes: &[u8; 32]) -> [u8; N] {
    std::array::from_fn(|index| bytes[index])
}

/// `N` bytes at `at`; the callers' buffers have fixed sizes.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes.get(at + index).copied().unwrap_or(0))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: [u8; 16],
    pub(super) row: u32,
    algorithm: [u8; 4],
}

impl Entry {
    /// Length in bytes.
    pub(super) const SIZE: usize = 24;

    pub(super) fn bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..16].copy_from_slice(&self.value);
        bytes[16..20].copy_from_slice(&self.algorithm);
        bytes[20..].copy_from_slice(&self.row.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Self {
        Self { value: part(bytes, 0), algorithm: part(bytes, 16), row: u32::from_le_bytes(part(bytes, 20)) }
    }

    fn order(&self) -> ([u8; 16], u32, [u8; 4]) {
        (self.value, self.row, self.algorithm)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

/// When an envelope was stored and which it is: the order of all answers, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    stored: Reverse<i128>,
    pub(crate) id: ObjectId,
}

impl Position {
    pub(crate) fn new(stored: Timestamp, id: ObjectId) -> Self {
        Self { stored: Reverse(stored.as_nanosecond()), id }
    }
}

/// The fixed part of a row.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    bytes: [u8; ROW],
}

impl Row {
    pub(super) fn new(position: Position, body: &[u8]) -> Self {
        let mut bytes = [0; ROW];
        let nanoseconds = position.stored.0;
        // A `Timestamp` is within ±10^4 years: its seconds fit.
        let seconds = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).unwrap_or_default();
        let rest = u32::try_from(nanoseconds.rem_euclid(1_000_000_000)).unwrap_or_default();
        bytes[..32].copy_from_slice(&position.id.0);
        bytes[32..40].copy_from_slice(&seconds.to_le_bytes());
        bytes[40..44].copy_from_slice(&rest.to_le_bytes());
        bytes[44..48].copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        let check = Self { bytes }.check_of(body);
        bytes[48..64].copy_from_slice(&check);
        Self { bytes }
    }

    pub(crate) fn position(&self) -> Position {
        let seconds = i64::from_le_bytes(part(&self.bytes, 32));
        let rest = u32::from_le_bytes(part(&self.bytes, 40));
        Position { stored: Reverse(i128::from(seconds) * 1_000_000_000 + i128::from(rest)), id: self.id() }
    }

    pub(crate) fn id(&self) -> ObjectId {
        ObjectId(part(&self.bytes, 0))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn length(&self) -> u32 {
        u32::from_le_bytes(part(&self.bytes, 44))
    }

    fn offset(&self) -> u64 {
        u64::from_le_bytes(part(&self.bytes, 64))
    }

    pub(super) fn at(mut self, offset: u64) -> Self {
        self.bytes[64..72].copy_from_slice(&offset.to_le_bytes());
        self
    }

    fn check_of(&self, body: &[u8]) -> [u8; CHECK] {
        let mut state = Sha256::new();
        state.update(&self.bytes[..ROW_CHECKED]);
        state.update(body);
        first(&state.finalize().into())
    }
}

enum Source {
    Held(Vec<u8>),
    File(File),
}

/// A segment that is open for reading.
pub(crate) struct Segment {
    path: PathBuf,
    source: Source,
    rows: u32,
    entries: u64,
    bodies: u64,
}

impl Segment {
    /// Opens a segment; its header and its length are checked here, rows and entries when they are read.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let read = |source| StoreError::Io { action: "read", path: path.to_owned(), source };
        let file = disk::open_regular(path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let source = if length <= HELD {
            let mut held = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
            (&file).take(HELD + 1).read_to_end(&mut held).map_err(read)?;
            Source::Held(held)
        } else {
            Source::File(file)
        };
        let mut segment = Self { path: path.to_owned(), source, rows: 0, entries: 0, bodies: 0 };
        let mut header = [0; HEADER];
        segment.read(0, &mut header)?;
        if &header[..8] != MAGIC {
            return Err(segment.damaged("it does not begin as a segment"));
        }
        if header[48..] != first::<CHECK>(&sha256_of(&header[..48])) {
            return Err(segment.damaged("its header does not match its check"));
        }
        segment.rows = u32::from_le_bytes(part(&header, 8));
        segment.entries = u64::from_le_bytes(part(&header, 16));
        segment.bodies = u64::from_le_bytes(part(&header, 24));
        let expected = segment.entries_at().and_then(|at| at.checked_add(length_of_entries(segment.entries)?));
        if expected == Some(length) {
            Ok(segment)
        } else {
            Err(segment.damaged("it does not have the length that its header tells"))
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Where the segment lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The fixed part of row `index`, which is below [`Segment::rows`]. It is checked with its body.
    pub(crate) fn row(&self, index: u32) -> Result<Row, StoreError> {
        if index >= self.rows {
            return Err(self.damaged("an entry points to no row"));
        }
        let mut bytes = [0; ROW];
        self.read(HEADER as u64 + u64::from(index) * ROW as u64, &mut bytes)?;
        Ok(Row { bytes })
    }

    pub(super) fn body(&self, row: &Row) -> Result<Vec<u8>, StoreError> {
        let end = row.offset().checked_add(u64::from(row.length()));
        if row.length() > MAX_BODY || end.is_none_or(|end| end > self.bodies) {
            return Err(self.damaged("a row points to no record"));
        }
        let mut body = vec![0; row.length() as usize];
        self.read(self.bodies_at() + row.offset(), &mut body)?;
        if row.check_of(&body) == row.bytes[48..64] {
            Ok(body)
        } else {
            Err(self.damaged("a row does not match its check"))
        }
    }

    /// The record of a row.
    pub(crate) fn record(&self, row: &Row) -> Result<Record, StoreError> {
        let record: Record =
            serde_json::from_slice(&self.body(row)?).map_err(|_| self.damaged("a record is not readable"))?;
        if Position::new(record.stored, record.digest) == row.position() {
            Ok(record)
        } else {
            Err(self.damaged("a record is not that of its row"))
        }
    }

    /// The rows with an entry for `value`, ascending, so newest first. Without `algorithm`: of any subject.
    pub(crate) fn lookup(&self, value: [u8; 16], algorithm: Option<[u8; 4]>) -> Result<Vec<u32>, StoreError> {
        let blocks = self.blocks();
        // The last block whose first entry lies below the value: the value may begin in it.
        let (mut low, mut high) = (0, blocks);
        while high - low > 1 {
            let middle = u64::midpoint(low, high);
            let below = self.block(middle)?.first().is_some_and(|entry| entry.value < value);
            if below { low = middle } else { high = middle }
        }
        let mut rows = Vec::new();
        for index in low..blocks {
            for entry in self.block(index)?.into_iter().skip_while(|entry| entry.value < value) {
                if entry.value > value {
                    return Ok(rows);
                }
                let wanted = match algorithm {
                    Some(algorithm) => entry.algorithm == algorithm,
                    None => !Key { value, algorithm: entry.algorithm }.is_internal(),
                };
                if wanted && rows.last() != Some(&entry.row) {
                    rows.push(entry.row);
                }
            }
        }
        Ok(rows)
    }

    /// Reads everything and checks it.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let mut before = None;
        for index in 0..self.rows {
            let row = self.row(index)?;
            self.record(&row)?;
            if before.is_some_and(|before| before >= row.position()) {
                return Err(self.damaged("its rows are not in order"));
            }
            before = Some(row.position());
        }
        let mut before = None;
        for index in 0..self.blocks() {
            for entry in self.block(index)? {
                if entry.row >= self.rows {
                    return Err(self.damaged("an entry points to no row"));
                }
                if before.is_some_and(|before| before >= entry) {
                    return Err(self.damaged("its entries are not in order"));
                }
                before = Some(entry);
            }
        }
        Ok(())
    }

    /// Number of blocks of entries.
    pub(super) fn blocks(&self) -> u64 {
        self.entries.div_ceil(BLOCK_ENTRIES as u64)
    }

    /// The entries of block `index`.
    pub(super) fn block(&self, index: u64) -> Result<Vec<Entry>, StoreError> {
        let left = self.entries.saturating_sub(index.saturating_mul(BLOCK_ENTRIES as u64));
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK_ENTRIES);
        let mut bytes = vec![0; count * Entry::SIZE + CHECK];
        let start = self.entries_at().unwrap_or(u64::MAX);
        self.read(start.saturating_add(index.saturating_mul(BLOCK as u64)), &mut bytes)?;
        let (entries, check) = bytes.split_at(count * Entry::SIZE);
        if check == block_check(index, entries) {
            Ok(entries.chunks_exact(Entry::SIZE).map(Entry::read).collect())
        } else {
            Err(self.damaged("a block of entries does not match its check"))
        }
    }

    fn bodies_at(&self) -> u64 {
        HEADER as u64 + u64::from(self.rows) * ROW as u64
    }

    fn entries_at(&self) -> Option<u64> {
        self.bodies_at().checked_add(self.bodies)
    }

    fn read(&self, at: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let outcome = match &self.source {
            Source::File(file) => file.read_exact_at(out, at),
            Source::Held(held) => usize::try_from(at)
                .ok()
                .and_then(|at| held.get(at..at.checked_add(out.len())?))
                .map(|bytes| out.copy_from_slice(bytes))
                .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof)),
        };
        outcome.map_err(|source| {
            if source.kind() == io::ErrorKind::UnexpectedEof {
                self.damaged("it is too short")
            } else {
                StoreError::Io { action: "read", path: self.path.clone(), source }
            }
        })
    }

    pub(super) fn damaged(&self, reason: &'static str) -> StoreError {
        StoreError::DamagedIndex { path: self.path.clone(), reason }
    }
}

fn length_of_entries(entries: u64) -> Option<u64> {
    let blocks = entries.div_ceil(BLOCK_ENTRIES as u64);
    entries.checked_mul(Entry::SIZE as u64)?.checked_add(blocks.checked_mul(CHECK as u64)?)
}

pub(super) fn block_check(index: u64, entries: &[u8]) -> [u8; CHECK] {
    let mut state = Sha256::new();
    state.update(index.to_le_bytes());
    state.update(entries);
    first(&state.finalize().into())
}
