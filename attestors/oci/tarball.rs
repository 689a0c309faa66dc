//! A tar file, read once from front to back.
//!
//! Formats: POSIX ustar and pax (IEEE 1003.1 `pax`), GNU long names. What a reader of images would take for
//! a file outside the archive, and what two readers would read differently, becomes a fault, never a panic.

use std::io::Read;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::Limits;
use super::contents::{Collector, Contents, collect, normalise, relative};
use super::inflate::{self, Buffer, Pool, WAITING};

/// Size of a tar block.
const BLOCK: usize = 512;
/// Largest extended header (pax, GNU long name).
const EXTENDED_LIMIT: u64 = 1 << 20;

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

/// The name in a tar header, where it is one.
pub(super) fn header_name(block: &[u8]) -> Option<String> {
    let header = tar::Header::from_byte_slice(block);
    check(header).ok()?;
    normalise(&header.path_bytes()).ok()
}
