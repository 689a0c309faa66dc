//! Writes segments: of new records, and of what several segments hold together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::segment::{BLOCK_ENTRIES, Entry, HEADER, Key, MAGIC, Position, Row, Segment, block_check, first, sha256_of};
use super::{ObjectId, Record, StoreError};

/// Rows of one segment.
const MAX_ROWS: usize = u32::MAX as usize;

/// Writes a segment of new records, each with the keys of its subjects. `path` is for messages.
///
/// Returns the segment's identity: 32 hex digits over its content, so that equal segments get equal names.
pub(crate) fn write(out: &mut File, path: &Path, records: &mut [(Record, Vec<Key>)]) -> Result<String, StoreError> {
    records.sort_by_key(|(record, _)| record.position());
    let failed = |source| StoreError::Io { action: "write", path: path.to_owned(), source };
    let mut rows = Vec::with_capacity(records.len());
    let mut bodies = Vec::new();
    let mut entries = Vec::new();
    for (index, (record, keys)) in (0_u32..).zip(records.iter()) {
        let start = bodies.len();
        serde_json::to_writer(&mut bodies, record).map_err(|error| failed(error.into()))?;
        rows.push(Row::new(record.position(), &bodies[start..]).at(start as u64));
        let own = [Key::of_object(&record.digest), Key::of_gitoid(&record.gitoid)];
        entries.extend(own.iter().chain(keys).map(|key| key.entry(index)));
    }
    entries.sort_unstable();
    let mut composer = Composer::start(out, &rows, bodies.len() as u64).map_err(failed)?;
    composer.body(&bodies).map_err(failed)?;
    for entry in entries {
        composer.entry(entry).map_err(failed)?;
    }
    composer.finish().map_err(failed)
}

/// Writes what all of `segments` hold into one. Of several rows of one envelope the one stored last stays, as in
/// answers. `path` is for messages; the result is that of [`write`].
pub(crate) fn merge(out: &mut File, path: &Path, segments: &[Segment]) -> Result<String, StoreError> {
    let failed = |source| StoreError::Io { action: "write", path: path.to_owned(), source };
    let mut chosen: BTreeMap<ObjectId, (Position, usize, u32)> = BTreeMap::new();
    for (number, segment) in segments.iter().enumerate() {
        for index in 0..segment.rows() {
            let position = segment.row(index)?.position();
            let candidate = (position, number, index);
            let best = chosen.entry(position.id).or_insert(candidate);
            *best = candidate.min(*best);
        }
    }
    let mut order: Vec<_> = chosen.into_values().collect();
    order.sort_unstable();
    if order.len() > MAX_ROWS {
        return Err(failed(io::Error::from(io::ErrorKind::FileTooLarge)));
    }
    let mut numbers: BTreeMap<ObjectId, u32> = BTreeMap::new();
    let mut rows = Vec::with_capacity(order.len());
    let mut offset = 0;
    for (index, &(position, number, row)) in (0_u32..).zip(&order) {
        numbers.insert(position.id, index);
        let row = segments[number].row(row)?.at(offset);
        offset += u64::from(row.length());
        rows.push(row);
    }
    let mut renumbered = Vec::with_capacity(segments.len());
    for segment in segments {
        let mut new = Vec::with_capacity(segment.rows() as usize);
        for index in 0..segment.rows() {
            let number = numbers.get(&segment.row(index)?.id()).copied();
            new.push(number.ok_or_else(|| segment.damaged("it changed while it was read"))?);
        }
        renumbered.push(new);
    }
    drop(numbers);

    let mut composer = Composer::start(out, &rows, offset).map_err(failed)?;
    for &(_, number, row) in &order {
        let segment = &segments[number];
        composer.body(&segment.body(&segment.row(row)?)?).map_err(failed)?;
    }
    let mut cursors = Vec::with_capacity(segments.len());
    for (segment, rows) in segments.iter().zip(&renumbered) {
        cursors.push(Cursor { segment, rows, next_block: 0, block: Vec::new(), at: 0 });
    }
    let mut heap = BinaryHeap::new();
    for (number, cursor) in cursors.iter_mut().enumerate() {
        if let Some(entry) = cursor.peek()? {
            heap.push(Reverse((entry.value, number)));
        }
    }
    // All entries of one value: renumbering can change their order within a segment.
    let mut group: Vec<Entry> = Vec::new();
    while let Some(Reverse((value, number))) = heap.pop() {
        if group.first().is_some_and(|entry| entry.value != value) {
            composer.group(&mut group).map_err(failed)?;
        }
        let cursor = &mut cursors[number];
        while let Some(entry) = cursor.peek()? {
            if entry.value != value {
                heap.push(Reverse((entry.value, number)));
                break;
            }
            group.push(entry);
            cursor.at += 1;
        }
    }
    composer.group(&mut group).map_err(failed)?;
    composer.finish().map_err(failed)
}

/// Reads the entries of one segment in order, with their new row numbers.
struct Cursor<'a> {
    segment: &'a Segment,
    rows: &'a [u32],
    next_block: u64,
    block: Vec<Entry>,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&mut self) -> Result<Option<Entry>, StoreError> {
        while self.at == self.block.len() {
            if self.next_block == self.segment.blocks() {
                return Ok(None);
            }
            self.block = self.segment.block(self.next_block)?;
            self.next_block += 1;
            self.at = 0;
        }
        let mut entry = self.block[self.at];
        let number = self.rows.get(entry.row as usize);
        entry.row = *number.ok_or_else(|| self.segment.damaged("an entry points to no row"))?;
        Ok(Some(entry))
    }
}

/// Writes the parts of a segment one after the other.
struct Composer<'a> {
    out: BufWriter<&'a mut File>,
    rows: u32,
    bodies: u64,
    block: Vec<u8>,
    blocks: u64,
    entries: u64,
    last: Option<Entry>,
    identity: Sha256,
}

impl<'a> Composer<'a> {
    fn start(out: &'a mut File, rows: &[Row], bodies: u64) -> io::Result<Self> {
        let mut composer = Self {
            out: BufWriter::with_capacity(256 * 1024, out),
            rows: u32::try_from(rows.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?,
            bodies,
            block: Vec::with_capacity(BLOCK_ENTRIES * Entry::SIZE),
            blocks: 0,
            entries: 0,
            last: None,
            identity: Sha256::new(),
        };
        composer.out.write_all(&[0; HEADER])?;
        for row in rows {
            composer.out.write_all(row.bytes())?;
            composer.identity.update(row.bytes());
        }
        Ok(composer)
    }

    fn body(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    fn group(&mut self, entries: &mut Vec<Entry>) -> io::Result<()> {
        entries.sort_unstable();
        entries.drain(..).try_for_each(|entry| self.entry(entry))
    }

    fn entry(&mut self, entry: Entry) -> io::Result<()> {
        if self.last == Some(entry) {
            return Ok(());
        }
        self.last = Some(entry);
        self.block.extend_from_slice(&entry.bytes());
        self.entries += 1;
        if self.block.len() == BLOCK_ENTRIES * Entry::SIZE { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        let check = block_check(self.blocks, &self.block);
        self.identity.update(check);
        self.out.write_all(&self.block)?;
        self.out.write_all(&check)?;
        self.block.clear();
        self.blocks += 1;
        Ok(())
    }

    fn finish(mut self) -> io::Result<String> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&self.rows.to_le_bytes());
        header[16..24].copy_from_slice(&self.entries.to_le_bytes());
        header[24..32].copy_from_slice(&self.bodies.to_le_bytes());
        let check: [u8; 16] = first(&sha256_of(&header[..48]));
        header[48..].copy_from_slice(&check);
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header)?;
        self.out.flush()?;
        Ok(hex::encode(first::<16>(&self.identity.finalize().into())))
    }
}
