//! What is in an image archive or folder, collected as its bytes come by: a digest of every file, the inflated digest of
//! every compressed one, and the text of those that may be manifests, indexes or configurations.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use sha2::{Digest as _, Sha256};

use super::Limits;
use super::inflate::{self, Buffer, Compression, Inflated, Job, Pool, WAITING};

/// Longest name that is kept, in bytes.
const NAME_LIMIT: usize = 4096;
/// Links that are followed from one name to the file.
const LINK_HOPS: usize = 16;
/// Faults that are listed one by one.
const FAULTS_LISTED: usize = 32;
/// How a statement of build attestations begins: such blobs are never manifests, and can be large.
const STATEMENT: &[u8] = br#"{"_type":"https://in-toto.io/"#;

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
    pub(super) contents: Contents,
    pub(super) limits: &'a Limits,
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
    pub(super) fn abandon(&mut self) {
        if let Some(open) = self.open.take()
            && open.job.is_some()
        {
            let _ = self.jobs.send(Job::End);
        }
    }

    /// A symbolic or hard link, its target seen from the top of the archive.
    pub(super) fn link(&mut self, name: String, target: String) {
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
pub(super) fn collect<E>(
    limits: &Limits,
    drive: impl FnOnce(&mut Collector<'_>) -> Result<(), E>,
) -> Result<Contents, E> {
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

/// A name relative to the archive, without `.` and empty parts.
pub(super) fn normalise(name: &[u8]) -> Result<String, &'static str> {
    relative("", name)
}

/// `name` as seen from `folder`; `..` may go up, but not out.
pub(super) fn relative(folder: &str, name: &[u8]) -> Result<String, &'static str> {
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
