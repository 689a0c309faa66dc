//! A tar file, read once from front to back: a digest of every entry, the inflated digest of every
//! compressed one, and the text of those that may be manifests, indexes or configurations.
//!
//! Formats: POSIX ustar and pax (IEEE 1003.1 `pax`), GNU long names. What a reader of images would take for
//! a file outside the archive, and what two readers would read differently, becomes a fault, never a panic.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use sha2::{Digest as _, Sha256};

use super::Limits;
use super::inflate::{self, Buffer, Compression, Inflated, Job, Pool, WAITING};

/// Size of a tar block.
const BLOCK: usize = 512;
/// Largest extended header (pax, GNU long name).
const EXTENDED_LIMIT: u64 = 1 << 20;
/// Longest name that is kept, in bytes.
const NAME_LIMIT: usize = 4096;
/// Links that are followed from one name to the file.
const LINK_HOPS: usize = 16;
/// Faults that are listed one by one.
const FAULTS_LISTED: usize = 32;
/// How a statement of build attestations begins: such blobs are never manifests, and can be large.
const STATEMENT: &[u8] = br#"{"_type":"https://in-toto.io/"#;

/// An archive of which nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The reader failed.
    #[error("at byte {at}: {source}")]
    Read {
        /// Number of bytes that were read before.
        at: u64,
        /// What the system or the product's reader said.
        source: std::io::Error,
    },
    /// The first header is no tar header.
    #[error("is no tar archive: {0}")]
    NotTar(String),
}

/// One file of an image archive or folder.
#[derive(Clone, Debug)]
pub struct File {
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// What it holds if it is compressed, or why that could not be found out.
    pub inflated: Option<Result<Inflated, String>>,
    /// Its content, where it may be a JSON document and is within the limits.
    pub text: Option<Vec<u8>>,
    /// Number of the inflating job that it was given to.
    job: Option<usize>,
}

/// What is in an archive or folder.
#[derive(Debug, Default)]
pub struct Contents {
    /// Files by their normalised names.
    pub files: BTreeMap<String, File>,
    /// Symbolic and hard links, by their normalised names.
    pub links: BTreeMap<String, String>,
    /// What is wrong, each naming the entry.
    pub faults: Vec<String>,
    /// What is worth saying but not wrong.
    pub notes: Vec<String>,
    /// Number of entries that were seen.
    pub entries: u64,
    /// Whether there is, or should be, more than was looked at.
    pub incomplete: bool,
    more_faults: u64,
}

impl Contents {
    /// Notes a fault; after [`FAULTS_LISTED`] they are only counted.
    pub(super) fn fault(&mut self, text: String) {
        if self.faults.len() < FAULTS_LISTED {
            self.faults.push(text);
        } else {
            self.more_faults += 1;
        }
    }

    /// Says how many faults were only counted.
    fn close(&mut self) {
        if self.more_faults > 0 {
            self.faults.push(format!("and {} more faults", self.more_faults));
        }
    }

    /// The file behind a name, links followed inside the archive.
    pub fn resolve(&self, name: &str) -> Option<(&str, &File)> {
        let mut name = normalise(name.as_bytes()).ok()?;
        for _ in 0..LINK_HOPS {
            if let Some((name, file)) = self.files.get_key_value(&name) {
                return Some((name.as_str(), file));
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }
}

/// Collects files of an archive as their bytes come by.
pub(super) struct Collector<'a> {
    contents: Contents,
    limits: &'a Limits,
    jobs: SyncSender<Job>,
    started: usize,
    kept: usize,
    open: Option<Open>,
    full: bool,
}

struct Open {
    name: String,
    state: Sha256,
    size: u64,
    head: Vec<u8>,
    sniffed: bool,
    job: Option<usize>,
    text: Option<Vec<u8>>,
}

impl<'a> Collector<'a> {
    fn new(limits: &'a Limits, jobs: SyncSender<Job>) -> Self {
        Self { contents: Contents::default(), limits, jobs, started: 0, kept: 0, open: None, full: false }
    }

    /// Whether one more name may be kept; the entry points of an image always may.
    fn room(&mut self, name: &str) -> bool {
        let held = self.contents.files.len() + self.contents.links.len();
        if held < self.limits.names || matches!(name, "manifest.json" | "index.json" | "oci-layout") {
            return true;
        }
        if !self.full {
            self.full = true;
            self.contents.incomplete = true;
            let limit = self.limits.names;
            self.contents.fault(format!("has more than {limit} entries; those after them are not looked at"));
        }
        false
    }

    /// A file of `size` bytes begins.
    pub(super) fn begin(&mut self, name: String, size: u64) {
        if self.room(&name) {
            let text = (size <= self.limits.json as u64).then(Vec::new);
            self.open =
                Some(Open { name, state: Sha256::new(), size: 0, head: Vec::new(), sniffed: false, job: None, text });
        }
    }

    /// Bytes of the file that began last.
    pub(super) fn data(&mut self, buffer: &Buffer, range: Range<usize>) {
        let Some(open) = &mut self.open else { return };
        let bytes = &buffer[range.clone()];
        open.state.update(bytes);
        open.size += bytes.len() as u64;
        if let Some(text) = &mut open.text {
            text.extend_from_slice(bytes);
            if !may_be_json(text) {
                open.text = None;
            }
        }
        if open.sniffed {
            if open.job.is_some() {
                // The inflating thread ends only when this sender is dropped.
                let _ = self.jobs.send(Job::Data(Arc::clone(buffer), range));
            }
            return;
        }
        let before = open.head.len();
        let missing = Compression::SNIFF - before;
        open.head.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        if open.head.len() == Compression::SNIFF {
            open.sniffed = true;
            if let Some(compression) = Compression::sniff(&open.head) {
                open.job = Some(self.started);
                self.started += 1;
                let _ = self.jobs.send(Job::Start(compression));
                if before > 0 {
                    let head = Arc::new(open.head[..before].to_vec());
                    let _ = self.jobs.send(Job::Data(head, 0..before));
                }
                let _ = self.jobs.send(Job::Data(Arc::clone(buffer), range));
            }
        }
    }

    /// The file that began last is complete.
    pub(super) fn end(&mut self) {
        let Some(open) = self.open.take() else { return };
        let text = open.text.filter(|text| !text.starts_with(STATEMENT) && !text.is_empty());
        self.kept += text.as_ref().map_or(0, Vec::len);
        let file = File { size: open.size, sha256: open.state.finalize().into(), inflated: None, text, job: open.job };
        if open.job.is_some() {
            let _ = self.jobs.send(Job::End);
        }
        let name = open.name;
        self.contents.links.remove(&name);
        if let Some(earlier) = self.contents.files.insert(name.clone(), file) {
            self.kept -= earlier.text.map_or(0, |text| text.len());
            let same = self.contents.files.get(&name).is_some_and(|now| now.sha256 == earlier.sha256);
            if !same {
                self.contents.fault(format!(
                    "`{name}` is there twice with different content; the last one is taken, as `docker load` does"
                ));
            }
        }
        if self.kept > self.limits.json_total {
            self.drop_largest();
        }
    }

    /// The file that began last is cut off: nothing is known of it.
    fn abandon(&mut self) {
        if let Some(open) = self.open.take()
            && open.job.is_some()
        {
            let _ = self.jobs.send(Job::End);
        }
    }

    fn link(&mut self, name: String, target: String) {
        if !self.room(&name) {
            return;
        }
        let replaced = self.contents.files.remove(&name);
        if let Some(replaced) = replaced {
            self.kept -= replaced.text.map_or(0, |text| text.len());
            self.contents.fault(format!("`{name}` is there as a file and as a link; the link is taken"));
        }
        if self.contents.links.get(&name).is_some_and(|earlier| *earlier != target) {
            self.contents.fault(format!("`{name}` is there twice as a link; the last one is taken"));
        }
        self.contents.links.insert(name, target);
    }

    /// Gives up the largest documents until a quarter of the room is free: manifests and configurations are small.
    fn drop_largest(&mut self) {
        let mut held: Vec<&mut Option<Vec<u8>>> =
            self.contents.files.values_mut().map(|file| &mut file.text).filter(|text| text.is_some()).collect();
        held.sort_by_key(|text| std::cmp::Reverse(text.as_ref().map_or(0, Vec::len)));
        for text in held {
            if self.kept <= self.limits.json_total / 4 * 3 {
                break;
            }
            self.kept -= text.take().map_or(0, |text| text.len());
        }
    }
}

/// Whether a text can still be a JSON object or array.
fn may_be_json(text: &[u8]) -> bool {
    text.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|byte| matches!(byte, b'{' | b'['))
}

/// Runs `drive` with a collector, and the threads behind it; returns what was collected.
fn collect<E>(limits: &Limits, drive: impl FnOnce(&mut Collector<'_>) -> Result<(), E>) -> Result<Contents, E> {
    std::thread::scope(|scope| {
        let (jobs, from_walker) = sync_channel(WAITING);
        let (inflated, from_inflater) = sync_channel(WAITING);
        scope.spawn(move || inflate::inflate_all(&from_walker, &inflated, limits));
        let hasher = scope.spawn(move || inflate::hash_all(&from_inflater));
        let mut collector = Collector::new(limits, jobs);
        let driven = drive(&mut collector);
        let Collector { mut contents, jobs, .. } = collector;
        // Without a sender the threads end.
        drop(jobs);
        let mut results = hasher.join().unwrap_or_default();
        for file in contents.files.values_mut() {
            if let Some(job) = file.job {
                let gone = || Err("the inflating thread ended".to_owned());
                file.inflated =
                    Some(results.get_mut(job).map_or_else(gone, |result| std::mem::replace(result, gone())));
            }
        }
        contents.close();
        driven.map(|()| contents)
    })
}

/// Reads a tar archive to its end.
pub(super) fn read_tar(reader: impl Read + Send, limits: &Limits) -> Result<Contents, ArchiveError> {
    collect(limits, |collector| {
        std::thread::scope(|scope| {
            let (chunks, from_reader) = sync_channel(WAITING);
            scope.spawn(move || read_chunks(reader, &chunks));
            let mut walker = Walker::new(collector);
            while let Ok(chunk) = from_reader.recv() {
                match chunk {
                    Ok((buffer, length)) => {
                        if !walker.push(&buffer, length)? {
                            break;
                        }
                    }
                    Err(source) => return Err(ArchiveError::Read { at: walker.offset, source }),
                }
            }
            walker.finish();
            Ok(())
        })
    })
}

/// Reads files one after the other: `open` gives the reader of each.
pub(super) fn read_files<R: Read, E>(
    names: impl Iterator<Item = (String, u64)>,
    limits: &Limits,
    mut open: impl FnMut(&str) -> Result<R, E>,
    mut close: impl FnMut(R) -> Result<(), E>,
    failed: impl Fn(&str, std::io::Error) -> E,
) -> Result<Contents, E> {
    collect(limits, |collector| {
        let mut pool = Pool::default();
        for (name, size) in names {
            let mut reader = open(&name)?;
            collector.contents.entries += 1;
            collector.begin(name.clone(), size);
            loop {
                let (buffer, filled) = pool.filled(|buffer| inflate::fill(&mut reader, buffer));
                let (n, end) = filled.map_err(|error| failed(&name, error))?;
                if n > 0 {
                    collector.data(&buffer, 0..n);
                }
                if end {
                    break;
                }
            }
            collector.end();
            close(reader)?;
        }
        Ok(())
    })
}

type Chunk = std::io::Result<(Buffer, usize)>;

fn read_chunks(mut reader: impl Read, chunks: &SyncSender<Chunk>) {
    let mut pool = Pool::default();
    loop {
        let (buffer, filled) = pool.filled(|buffer| inflate::fill(&mut reader, buffer));
        let (message, end) = match filled {
            Ok((n, end)) => (Ok((buffer, n)), end),
            Err(error) => (Err(error), true),
        };
        if chunks.send(message).is_err() || end {
            return;
        }
    }
}

/// Where the walk through a tar file is.
enum State {
    /// In a header; the bytes of it that came with earlier chunks.
    Header(Vec<u8>),
    /// In an extended header.
    Extended { kind: tar::EntryType, text: Vec<u8>, left: u64, padding: u64 },
    /// In further sparse maps of an entry.
    SparseMap { map: Vec<u8>, size: u64 },
    /// In a file whose bytes are collected.
    File { left: u64, padding: u64 },
    /// In bytes that nobody wants.
    Skip { left: u64 },
    /// After the end of the archive.
    End { noted: bool },
}

struct Walker<'c, 'l> {
    collector: &'c mut Collector<'l>,
    state: State,
    offset: u64,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax_size: Option<u64>,
    pax_sparse: bool,
    name: String,
    headers: u64,
}

impl<'c, 'l> Walker<'c, 'l> {
    fn new(collector: &'c mut Collector<'l>) -> Self {
        Self {
            collector,
            state: State::Header(Vec::new()),
            offset: 0,
            long_name: None,
            long_link: None,
            pax_size: None,
            pax_sparse: false,
            name: String::new(),
            headers: 0,
        }
    }

    fn fault(&mut self, text: String) {
        self.collector.contents.fault(text);
    }

    /// Notes a fault after which nothing is known of the rest.
    fn stop(&mut self, text: String) {
        self.collector.contents.incomplete = true;
        self.fault(text);
    }

    /// Takes the next bytes. `false`: no more are wanted.
    fn push(&mut self, buffer: &Buffer, length: usize) -> Result<bool, ArchiveError> {
        let mut at = 0;
        while at < length {
            let before = at;
            match &mut self.state {
                State::Header(partial) => {
                    let n = (BLOCK - partial.len()).min(length - at);
                    partial.extend_from_slice(&buffer[at..at + n]);
                    at += n;
                    if partial.len() == BLOCK {
                        let block = std::mem::take(partial);
                        if !self.header(&block)? {
                            return Ok(false);
                        }
                    }
                }
                State::Extended { kind, text, left, padding } => {
                    let n = take(left, length - at);
                    text.extend_from_slice(&buffer[at..at + n]);
                    at += n;
                    if *left == 0 {
                        let (kind, text, padding) = (*kind, std::mem::take(text), *padding);
                        self.state = State::Skip { left: padding };
                        self.extended(kind, &text);
                    }
                }
                State::SparseMap { map, size } => {
                    let n = (BLOCK - map.len()).min(length - at);
                    map.extend_from_slice(&buffer[at..at + n]);
                    at += n;
                    if map.len() == BLOCK {
                        // GNU tar: byte 504 says whether one more map follows.
                        let more = map[504] != 0;
                        map.clear();
                        if !more {
                            let left = padded(*size);
                            self.state = State::Skip { left };
                        }
                    }
                }
                State::File { left, padding } => {
                    let n = take(left, length - at);
                    let (done, padding) = (*left == 0, *padding);
                    self.collector.data(buffer, at..at + n);
                    at += n;
                    if done {
                        self.collector.end();
                        self.state = State::Skip { left: padding };
                    }
                }
                State::Skip { left } => {
                    at += take(left, length - at);
                }
                State::End { noted } => {
                    if !*noted && buffer[at..length].iter().any(|&byte| byte != 0) {
                        *noted = true;
                        self.collector.contents.notes.push("has data after its end".into());
                    }
                    at = length;
                }
            }
            self.offset += (at - before) as u64;
            if matches!(self.state, State::Skip { left: 0 }) {
                self.state = State::Header(Vec::new());
            }
        }
        Ok(true)
    }

    /// The archive has no more bytes.
    fn finish(&mut self) {
        let text = match &self.state {
            State::Header(partial) if partial.is_empty() => return,
            State::End { .. } => return,
            State::File { left, .. } => {
                let text = format!("is cut off: `{}` has {left} bytes less than its header says", self.name);
                self.collector.abandon();
                text
            }
            _ => format!("is cut off after byte {}", self.offset),
        };
        self.stop(text);
    }

    fn header(&mut self, block: &[u8]) -> Result<bool, ArchiveError> {
        if block.iter().all(|&byte| byte == 0) {
            // One zero block is enough: no header begins with zeros, and some writers leave out the second.
            self.state = State::End { noted: false };
            return Ok(true);
        }
        let header = tar::Header::from_byte_slice(block);
        let size = match check(header).and_then(|()| size(header)) {
            Ok(size) => size,
            Err(reason) if self.headers == 0 => return Err(ArchiveError::NotTar(reason)),
            Err(reason) => {
                self.stop(format!("header at byte {}: {reason}; nothing after it is known", self.offset));
                return Ok(false);
            }
        };
        self.headers += 1;
        let kind = header.entry_type();
        if kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions() {
            if size > EXTENDED_LIMIT {
                self.stop(format!("header at byte {}: an extended header of {size} bytes", self.offset));
                return Ok(false);
            }
            self.state = State::Extended { kind, text: Vec::new(), left: size, padding: padded(size) - size };
            if size == 0 {
                self.state = State::Header(Vec::new());
            }
            return Ok(true);
        }
        self.collector.contents.entries += 1;
        if self.collector.contents.entries > self.collector.limits.entries {
            self.stop(format!("has more than {} entries; it was not read further", self.collector.limits.entries));
            return Ok(false);
        }
        let name = self.long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let link = self.long_link.take().or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let size = self.pax_size.take().unwrap_or(size);
        let sparse = std::mem::take(&mut self.pax_sparse);
        self.state = State::Skip { left: padded(size) };
        if kind.is_dir() || kind.is_character_special() || kind.is_block_special() || kind.is_fifo() {
            // As Go's reader does, and so docker: such entries have no content, whatever size they say.
            self.state = State::Header(Vec::new());
            return Ok(true);
        }
        let name = match normalise(&name) {
            Ok(name) => name,
            Err(reason) => {
                self.fault(format!("entry `{}` {reason}; it is not looked at", shown(&name)));
                if kind.is_hard_link() || kind.is_symlink() {
                    self.state = State::Header(Vec::new());
                }
                return Ok(true);
            }
        };
        if kind.is_hard_link() || kind.is_symlink() {
            self.state = State::Header(Vec::new());
            self.link(name, &link.unwrap_or_default(), kind.is_symlink());
        } else if kind.is_gnu_sparse() || sparse {
            self.fault(format!("`{name}` is stored as a sparse file, which no image writer does; it is not read"));
            if header.as_gnu().is_some_and(tar::GnuHeader::is_extended) {
                self.state = State::SparseMap { map: Vec::new(), size };
            }
        } else if kind.is_file() || kind.is_contiguous() {
            self.name.clone_from(&name);
            self.collector.begin(name, size);
            self.state = State::File { left: size, padding: padded(size).saturating_sub(size) };
            if size == 0 {
                self.collector.end();
                self.state = State::Header(Vec::new());
            }
        }
        if matches!(self.state, State::Skip { left: 0 }) {
            self.state = State::Header(Vec::new());
        }
        Ok(true)
    }

    fn link(&mut self, name: String, target: &[u8], symbolic: bool) {
        // A symbolic link is relative to its folder, a hard link to the archive.
        let target = match name.rsplit_once('/').filter(|_| symbolic) {
            Some((folder, _)) => relative(folder, target),
            None => normalise(target),
        };
        match target {
            Ok(target) => self.collector.link(name, target),
            Err(reason) => self.fault(format!("link `{name}` {reason}; it is not followed")),
        }
    }

    fn extended(&mut self, kind: tar::EntryType, text: &[u8]) {
        let until_nul = || text.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        if kind.is_gnu_longname() {
            self.long_name = Some(until_nul());
        } else if kind.is_gnu_longlink() {
            self.long_link = Some(until_nul());
        } else {
            for extension in tar::PaxExtensions::new(text) {
                let Ok(extension) = extension else {
                    self.fault(format!("header at byte {}: a broken pax record", self.offset));
                    return;
                };
                match extension.key() {
                    Ok("path") => self.long_name = Some(extension.value_bytes().to_vec()),
                    Ok("linkpath") => self.long_link = Some(extension.value_bytes().to_vec()),
                    Ok("size") => {
                        self.pax_size = extension.value().ok().and_then(|value| value.parse().ok());
                        if self.pax_size.is_none() {
                            self.fault(format!("header at byte {}: a pax size that is no number", self.offset));
                        }
                    }
                    Ok(key) if key.starts_with("GNU.sparse.") => self.pax_sparse = true,
                    _ => {}
                }
            }
        }
    }
}

/// Takes up to `n` from what is left and says how much.
fn take(left: &mut u64, n: usize) -> usize {
    let n = usize::try_from(*left).map_or(n, |left| left.min(n));
    *left -= n as u64;
    n
}

/// Length with the padding to whole blocks.
fn padded(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK as u64).unwrap_or(u64::MAX)
}

/// Compares the sum of a header's bytes with the sum that it says; signed sums are what old writers made.
fn check(header: &tar::Header) -> Result<(), String> {
    let want = header.cksum().map_err(|error| error.to_string())?;
    let bytes = header.as_bytes();
    let with_blanks = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
    let unsigned: u32 = bytes.iter().enumerate().map(|(at, &byte)| u32::from(with_blanks(at, byte))).sum();
    let signed: i32 = bytes.iter().enumerate().map(|(at, &byte)| i32::from(with_blanks(at, byte).cast_signed())).sum();
    if want == unsigned || i64::from(want) == i64::from(signed) { Ok(()) } else { Err("its checksum is wrong".into()) }
}

/// The size that a header says; a blank one is 0, as Go's reader takes it.
fn size(header: &tar::Header) -> Result<u64, String> {
    let blank = header.as_bytes()[124..136].iter().all(|byte| matches!(byte, 0 | b' '));
    if blank { Ok(0) } else { header.entry_size().map_err(|error| error.to_string()) }
}

/// A name as it is shown in messages.
fn shown(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(&name[..name.len().min(200)]);
    name.escape_debug().collect()
}

/// A name relative to the archive, without `.` and empty parts.
pub(super) fn normalise(name: &[u8]) -> Result<String, &'static str> {
    relative("", name)
}

/// `name` as seen from `folder`; `..` may go up, but not out.
fn relative(folder: &str, name: &[u8]) -> Result<String, &'static str> {
    if name.len() > NAME_LIMIT {
        return Err("has a name of more than 4096 bytes");
    }
    let name = std::str::from_utf8(name).map_err(|_| "has a name that is not UTF-8")?;
    if name.starts_with('/') {
        return Err("has an absolute name");
    }
    if name.contains('\0') {
        return Err("has a name with a NUL byte");
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                // Only below a folder that was given: an entry's own name never needs to go up.
                if folder.is_empty() || parts.pop().is_none() {
                    return Err("has a name that leads out of the archive");
                }
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err("has an empty name");
    }
    Ok(parts.join("/"))
}

/// The name in a tar header, where it is one.
pub(super) fn header_name(block: &[u8]) -> Option<String> {
    let header = tar::Header::from_byte_slice(block);
    check(header).ok()?;
    normalise(&header.path_bytes()).ok()
}
