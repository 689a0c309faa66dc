//! The walk: a shared stack of folders and files that a few threads work on.
//!
//! A folder is listed once; its files are opened relative to its descriptor, in pieces of [`CHUNK`] for whoever
//! is free; its folders are taken one by one, so that a folder of a million folders costs one list of names. The
//! number of descriptors that wait is limited; past it folders are opened again by path.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use super::omission::{Omissions, Reason, show};
use super::pool::{Pool, lock};
use super::read::Content;
use super::rules::{Git, Rules};
use super::sys::{self, Key, Kind, Root, Stat};
use super::table::{self, Folder, MEMBER, NO_MATERIAL, NONE, NodeKind, RECHECK, Table};
use super::{Clock, MakeTap, Options, Progress};
use crate::digest::{Algorithm, BUFFER};

/// Files of one piece of work.
const CHUNK: usize = 64;
/// Folder descriptors that wait for somebody to use them; below the usual limit of 1024 for a process.
const OPEN_FOLDERS: usize = 192;
/// Longest path that is recorded, in bytes. The kernel takes 4096 at once; deeper trees are walked in steps.
pub(super) const MAX_PATH: usize = 64 * 1024;
/// Nodes that a thread gathers before it hands them over.
const BATCH: usize = 512;

/// A link that was found; it is resolved when all files are known.
#[derive(Debug)]
pub(super) struct FoundLink {
    pub(super) path: String,
    pub(super) folder: u32,
    pub(super) whole: u32,
    pub(super) flags: u8,
}

/// A folder that is recorded as one digest.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) number: u32,
    /// With a final `/`.
    pub(super) path: String,
    /// Digest and total size, `None` when something in it could not be hashed.
    pub(super) state: Option<([u8; 32], u64)>,
}

/// A file or link of the second look that was read.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) path: String,
    pub(super) whole: u32,
    pub(super) key: Key,
    pub(super) digests: Vec<u8>,
    pub(super) mime: Cow<'static, str>,
    /// Whether something of its own changed although the content is equal: a link was made again.
    pub(super) own_changed: bool,
}

/// What the threads find.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) table: Table,
    pub(super) links: Vec<FoundLink>,
    pub(super) wholes: Vec<Whole>,
    /// Wholes in which something could not be hashed, with its path.
    pub(super) broken: Vec<(u32, String)>,
    pub(super) omissions: Omissions,
    pub(super) fresh: Vec<Fresh>,
    /// Known files that were read again.
    pub(super) reread: u64,
    /// Nodes that are gone, and whether something is there that cannot be recorded.
    pub(super) gone: Vec<(u32, bool)>,
}

impl Found {
    fn new(stride: usize) -> Self {
        Self { table: Table::new(stride), ..Self::default() }
    }

    pub(super) fn absorb(&mut self, other: &mut Self) {
        self.table.absorb(&mut other.table);
        self.links.append(&mut other.links);
        self.wholes.append(&mut other.wholes);
        self.broken.append(&mut other.broken);
        self.omissions.absorb(std::mem::take(&mut other.omissions));
        self.fresh.append(&mut other.fresh);
        self.reread += std::mem::take(&mut other.reread);
        self.gone.append(&mut other.gone);
    }
}

/// The names of one folder that are still to be looked at.
pub(super) struct Listing {
    fd: Option<OpenFolder>,
    /// With a final `/`, empty for the root.
    path: Vec<u8>,
    number: u32,
    whole: u32,
    git: Git,
    names: Vec<u8>,
    files: Vec<(u32, u16)>,
    folders: Vec<(u32, u16)>,
}

/// A folder descriptor that counts against [`OPEN_FOLDERS`].
struct OpenFolder(OwnedFd, Arc<AtomicUsize>);

impl Drop for OpenFolder {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Listing {
    fn name(&self, (at, len): (u32, u16)) -> &[u8] {
        &self.names[at as usize..at as usize + usize::from(len)]
    }
}

/// A piece of work.
pub(super) enum Item {
    /// The root of a first look.
    Root,
    /// Folders of a listing, taken one by one.
    Folders(Arc<Listing>, usize, usize),
    /// Files of a listing.
    Files(Arc<Listing>, usize, usize),
    /// A piece of the second look's own list.
    Again(usize, usize),
}

/// What a second look adds to the walk.
pub(super) trait Second: Sync {
    /// Whether an entry that a listing shows is looked at elsewhere.
    fn knows(&self, folder: &[u8], name: &[u8], kind: Kind) -> bool;
    /// Works on a piece of its own list.
    fn again(&self, walk: &Walk<'_>, worker: &mut Worker, from: usize, to: usize);
}

/// What all threads of a walk share.
pub(super) struct Walk<'a> {
    pub(super) root: &'a Root,
    pub(super) options: &'a Options,
    pub(super) rules: &'a Rules,
    pub(super) clock: &'a Clock<'a>,
    pub(super) progress: &'a Progress,
    /// The algorithms of the run, and SHA-256 behind them where whole folders need it.
    pub(super) algorithms: &'a [Algorithm],
    pub(super) second: Option<&'a dyn Second>,
    pub(super) tap: Option<&'a MakeTap<'a>>,
    pub(super) next_folder: AtomicU32,
    pub(super) next_whole: AtomicU32,
    open: Arc<AtomicUsize>,
    /// File systems seen, and whether their change times count.
    pub(super) devices: Mutex<Vec<(u64, bool)>>,
    pool: Pool,
    found: Mutex<Found>,
}

/// What one thread keeps.
pub(super) struct Worker {
    pub(super) buffer: Vec<u8>,
    path: Vec<u8>,
    /// Where the kernel puts names.
    listing: Vec<u8>,
    /// The first bytes of the file that was read last.
    pub(super) head: Vec<u8>,
    pub(super) device: Option<(u64, bool)>,
    pub(super) found: Found,
}

/// The part of `errno` that people read.
pub(super) fn refusal(errno: Errno) -> Reason {
    match errno {
        Errno::ENOENT => Reason::Vanished,
        Errno::ELOOP | Errno::ENOTDIR | Errno::EISDIR | Errno::ENXIO => Reason::Replaced,
        _ => Reason::Unreadable(errno.desc().to_lowercase()),
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        root: &'a Root,
        options: &'a Options,
        rules: &'a Rules,
        clock: &'a Clock<'a>,
        progress: &'a Progress,
        algorithms: &'a [Algorithm],
    ) -> Self {
        Self {
            root,
            options,
            rules,
            clock,
            progress,
            algorithms,
            second: None,
            tap: None,
            next_folder: AtomicU32::new(0),
            next_whole: AtomicU32::new(0),
            open: Arc::new(AtomicUsize::new(0)),
            devices: Mutex::default(),
            pool: Pool::default(),
            found: Mutex::new(Found::new(stride(algorithms))),
        }
    }

    /// Works until nothing is left and returns what was found, in no order.
    pub(super) fn run(self, items: Vec<Item>) -> Found {
        self.pool.start(items);
        let work = || {
            let mut worker = self.worker();
            while let Some(item) = self.pool.take() {
                let done = self.pool.working();
                self.item(&mut worker, item);
                if worker.found.table.nodes.len() >= BATCH {
                    lock(&self.found).absorb(&mut worker.found);
                }
                drop(done);
            }
            lock(&self.found).absorb(&mut worker.found);
        };
        let threads = self.options.threads.clamp(1, super::MAX_THREADS);
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // A system that gives no more threads is served by those there are.
                let _ = std::thread::Builder::new().name("snapshot".to_owned()).spawn_scoped(scope, work);
            }
            work();
        });
        self.found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn worker(&self) -> Worker {
        Worker {
            buffer: vec![0; BUFFER],
            path: Vec::new(),
            listing: Vec::with_capacity(sys::LISTING),
            head: Vec::new(),
            device: None,
            found: Found::new(stride(self.algorithms)),
        }
    }

    fn item(&self, worker: &mut Worker, item: Item) {
        match item {
            Item::Root => {
                let fd = self.root.open_folder(b"");
                let number = self.next_folder.fetch_add(1, Ordering::Relaxed);
                self.folder(worker, b"", fd, Place { number, folder: NONE, whole: NONE, git: Git::No });
            }
            Item::Folders(listing, at, _) => self.child_folder(worker, &listing, listing.folders[at]),
            Item::Files(listing, from, to) => self.files(worker, &listing, from, to, Some(&listing)),
            Item::Again(from, to) => {
                if let Some(second) = self.second {
                    second.again(self, worker, from, to);
                }
            }
        }
    }

    fn child_folder(&self, worker: &mut Worker, parent: &Listing, entry: (u32, u16)) {
        let name = parent.name(entry);
        let fd = match &parent.fd {
            Some(fd) => sys::open_child_folder(fd.0.as_fd(), name),
            None => self.root.open_folder(&[&parent.path, name].concat()),
        };
        self.new_folder(worker, &parent.path, name, fd, parent.number, parent.whole, parent.git.child(name));
    }

    /// Enters a folder that was not known.
    #[allow(clippy::too_many_arguments)] // the facts of one folder, used once
    pub(super) fn new_folder(
        &self,
        worker: &mut Worker,
        parent: &[u8],
        name: &[u8],
        fd: Result<OwnedFd, Errno>,
        folder: u32,
        mut whole: u32,
        git: Git,
    ) {
        let mut path = Vec::with_capacity(parent.len() + name.len() + 1);
        path.extend_from_slice(parent);
        path.extend_from_slice(name);
        if whole == NONE && !self.options.dirhash.is_empty() {
            let text = String::from_utf8_lossy(&path);
            if self.options.dirhash.iter().any(|glob| glob.matches(&text)) {
                whole = self.next_whole.fetch_add(1, Ordering::Relaxed);
                worker.found.wholes.push(Whole { number: whole, path: format!("{text}/"), state: None });
            }
        }
        path.push(b'/');
        let number = self.next_folder.fetch_add(1, Ordering::Relaxed);
        self.folder(worker, &path, fd, Place { number, folder, whole, git });
    }

    /// Records a folder and lists it.
    fn folder(&self, worker: &mut Worker, path: &[u8], fd: Result<OwnedFd, Errno>, place: Place) {
        let now = self.now();
        let opened = fd.and_then(|fd| sys::stat_fd(fd.as_fd()).map(|stat| (fd, stat.key)));
        let (key, flags) = match &opened {
            Ok((fd, key)) => (*key, if self.recheck(worker, fd, key, now) { RECHECK } else { 0 }),
            Err(_) => (Key::default(), RECHECK),
        };
        let Place { number, folder: parent, whole, git } = place;
        let mut node = table::node(NodeKind::Folder, parent, key, flags);
        node.index = number;
        worker.found.table.folders.push(Folder { number, parent, whole, git, node: NONE });
        worker.found.table.push(path, b"", node, &[]);
        match opened {
            Ok((fd, _)) => self.list(worker, path, fd, place),
            Err(errno) => self.omit(worker, path, b"", whole, refusal(errno)),
        }
    }

    /// Lists an open folder and hands out what is in it.
    pub(super) fn list(&self, worker: &mut Worker, path: &[u8], fd: OwnedFd, place: Place) {
        let Place { number, whole, git, .. } = place;
        let mut names = Vec::new();
        let mut entries: Vec<(Kind, u32, u16)> = Vec::new();
        let listed = sys::list(&fd, &mut worker.listing, |name, kind| {
            // A name has at most 255 bytes, and a folder less than 4 GB of names.
            if let (Ok(at), Ok(len)) = (u32::try_from(names.len()), u16::try_from(name.len())) {
                names.extend_from_slice(name);
                entries.push((kind, at, len));
            }
        });
        if let Err(errno) = listed {
            self.omit(worker, path, b"", whole, refusal(errno));
        }
        let name = |(_, at, len): &(Kind, u32, u16)| &names[*at as usize..*at as usize + usize::from(*len)];
        entries.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        let git = git.with_names(|wanted| entries.binary_search_by(|entry| name(entry).cmp(wanted)).is_ok());
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        for entry in &entries {
            let (kind, at, len) = *entry;
            let name = name(entry);
            if whole == NONE && self.rules.leaves_out(path, git, name) {
                continue;
            }
            if self.second.is_some_and(|second| second.knows(path, name, kind)) {
                continue;
            }
            if let Some(reason) = unfit(path, name) {
                self.omit_node(worker, path, name, place, reason);
                continue;
            }
            match kind {
                Kind::File => files.push((at, len)),
                Kind::Folder => folders.push((at, len)),
                Kind::Link => self.link(worker, path, name, place),
                _ => self.omit_node(worker, path, name, place, Reason::of_kind(kind)),
            }
        }
        if files.is_empty() && folders.is_empty() {
            return;
        }
        let waiting = self.open.fetch_add(1, Ordering::Relaxed);
        let fd = OpenFolder(fd, Arc::clone(&self.open));
        // Its own files are read with it in any case; only what waits gives it back.
        let few = files.len() <= CHUNK;
        let mut listing = Listing { fd: Some(fd), path: path.to_vec(), number, whole, git, names, files, folders };
        if waiting >= OPEN_FOLDERS {
            let count = listing.files.len();
            if few {
                self.files(worker, &listing, 0, count, None);
                listing.files.clear();
            }
            listing.fd = None;
        }
        self.hand_out(worker, listing);
    }

    /// Shares the folders and files of a listing; a few files are read at once.
    fn hand_out(&self, worker: &mut Worker, listing: Listing) {
        let listing = Arc::new(listing);
        let (files, folders) = (listing.files.len(), listing.folders.len());
        let mut items = Vec::with_capacity(1 + files / CHUNK);
        if folders > 0 {
            items.push(Item::Folders(Arc::clone(&listing), 0, folders));
        }
        let here = files.min(CHUNK);
        let mut from = here;
        while from < files {
            let to = files.min(from + CHUNK);
            items.push(Item::Files(Arc::clone(&listing), from, to));
            from = to;
        }
        self.pool.give(items);
        self.files(worker, &listing, 0, here, Some(&listing));
    }

    /// Gives the second half of `at..to` away when a thread waits; returns the new end.
    pub(super) fn share(&self, at: usize, to: usize, item: impl FnOnce(usize, usize) -> Item) -> usize {
        if at >= to || !self.pool.someone_waits() {
            return to;
        }
        let middle = at + (to - at) / 2;
        self.pool.give(vec![item(middle, to)]);
        middle
    }

    pub(super) fn link(&self, worker: &mut Worker, path: &[u8], name: &[u8], place: Place) {
        let text = String::from_utf8_lossy(&[path, name].concat()).into_owned();
        let Some(flags) = self.select(&text, place.whole) else { return };
        worker.found.links.push(FoundLink { path: text, folder: place.number, whole: place.whole, flags });
    }

    /// The flags of a path, `None` when the globs do not select it.
    pub(super) fn select(&self, path: &str, whole: u32) -> Option<u8> {
        if whole != NONE {
            return Some(MEMBER);
        }
        let flags = if self.options.materials.takes(path) { 0 } else { NO_MATERIAL };
        if flags != 0 && !self.options.products.takes(path) {
            self.rules.count_unselected();
            return None;
        }
        Some(flags)
    }

    /// Reads files of a listing; gives half of the rest to a thread that has nothing to do, where it can be `shared`.
    fn files(&self, worker: &mut Worker, listing: &Listing, from: usize, mut to: usize, shared: Option<&Arc<Listing>>) {
        if from == to {
            return;
        }
        let again;
        let fd = if let Some(fd) = &listing.fd {
            fd.0.as_fd()
        } else {
            match self.root.open_folder(&listing.path) {
                Ok(fd) => again = fd,
                Err(errno) => {
                    for &entry in &listing.files[from..to] {
                        let name = listing.name(entry);
                        self.omit_node(worker, &listing.path, name, listing.place(), refusal(errno));
                    }
                    return;
                }
            }
            again.as_fd()
        };
        let mut path = std::mem::take(&mut worker.path);
        let mut at = from;
        while at < to {
            let entry = listing.files[at];
            at += 1;
            if let Some(shared) = shared {
                to = self.share(at, to, |from, to| Item::Files(Arc::clone(shared), from, to));
            }
            let name = listing.name(entry);
            path.clear();
            path.extend_from_slice(&listing.path);
            path.extend_from_slice(name);
            // Names that are not UTF-8 were sorted out with the listing.
            let text = std::str::from_utf8(&path).unwrap_or_default();
            let Some(flags) = self.select(text, listing.whole) else { continue };
            match self.read(worker, text, &|| sys::open_child_file(fd, name)) {
                Ok(content) => self.record(worker, text, listing.place(), flags, content),
                Err(reason) => self.omit_node(worker, &listing.path, name, listing.place(), reason),
            }
        }
        worker.path = path;
    }

    /// Keeps a file that was not known.
    pub(super) fn record(&self, worker: &mut Worker, path: &str, place: Place, flags: u8, content: Content) {
        if self.second.is_some() {
            let fresh = content.fresh(self, worker, path, place.whole);
            worker.found.fresh.push(fresh);
        } else {
            let flags = flags | if content.recheck { RECHECK } else { 0 };
            let node = table::node(NodeKind::File, place.number, content.key, flags);
            worker.found.table.push(path.as_bytes(), b"", node, &content.digests);
        }
    }

    /// Notes an omission, and keeps a node for it, so that the second look asks again.
    pub(super) fn omit_node(&self, worker: &mut Worker, path: &[u8], name: &[u8], place: Place, reason: Reason) {
        if self.second.is_none() {
            let flags = RECHECK | if place.whole == NONE { 0 } else { MEMBER };
            let node = table::node(NodeKind::Omitted, place.number, Key::default(), flags);
            worker.found.table.push(path, name, node, &[]);
        }
        self.omit(worker, path, name, place.whole, reason);
    }

    #[allow(clippy::unused_self)] // one of a family
    pub(super) fn omit(&self, worker: &mut Worker, path: &[u8], name: &[u8], whole: u32, reason: Reason) {
        let shown = show(&[path, name].concat());
        if whole != NONE && !reason.is_link_to_folder() {
            worker.found.broken.push((whole, shown.clone()));
        }
        worker.found.omissions.push(shown, reason);
    }
}

/// Where something is found.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Number of the folder (of a folder its own).
    pub(super) number: u32,
    /// Of a folder the number of the one that holds it.
    pub(super) folder: u32,
    pub(super) whole: u32,
    pub(super) git: Git,
}

impl Listing {
    fn place(&self) -> Place {
        Place { number: self.number, folder: NONE, whole: self.whole, git: self.git }
    }
}

/// Why a name cannot be recorded, whatever it stands for.
pub(super) fn unfit(path: &[u8], name: &[u8]) -> Option<Reason> {
    if std::str::from_utf8(name).is_err() {
        Some(Reason::NotUtf8)
    } else if path.len() + name.len() >= MAX_PATH {
        Some(Reason::PathTooLong)
    } else {
        None
    }
}

/// Bytes of the digests of one file.
pub(super) fn stride(algorithms: &[Algorithm]) -> usize {
    algorithms.iter().map(|algorithm| algorithm.size()).sum()
}

/// The answer to "what is there now", for entries that are looked at by path.
pub(super) fn look(root: &Root, path: &[u8]) -> Result<Stat, Reason> {
    root.stat(path).map_err(refusal)
}
