//! The second look: what the command made, changed or deleted.

use std::ops::Range;

use super::links::{self, Whereabouts};
use super::omission::{Omissions, Reason};
use super::pool;
use super::rules::Rules;
use super::sys::{Key, Kind, Root};
use super::table::{MEMBER, NONE, NodeKind, RECHECK, Table};
use super::walk::{self, Found, FoundLink, Fresh, Item, Place, Second, Walk, Whole, Worker};
use super::whole::{Lines, by_whole, sha256_of};
use super::{Clock, LeftOut, Link, MakeTap, Mode, Omission, Progress, Snapshot, digest_set};
use crate::digest::{Algorithm, DigestSet};
use crate::mime;
use crate::product::{Change, Product};

/// Known paths of one piece of the first pass.
const STAT_PIECE: usize = 512;
/// Known files and folders of one piece of the second pass.
const AGAIN_PIECE: usize = 32;

/// What differs from the first look.
#[derive(Debug, Default)]
pub struct Changes {
    /// Files and links that are new, changed, or written again with equal bytes, and folders with one digest in which
    /// something is; sorted by path.
    pub products: Vec<Product>,
    /// Files, links and whole folders (with a final `/`) that are gone, sorted by path.
    pub deleted: Vec<String>,
    /// What can not be recorded now, sorted by path; at most [`super::MAX_OMISSIONS`].
    pub omissions: Vec<Omission>,
    /// How many omissions there are, with those that are not listed.
    pub omitted: u64,
    /// What was left out in the folders that were listed again.
    pub left_out: Vec<LeftOut>,
    /// The links among the products, as path and text, sorted by path.
    pub links: Vec<(String, String)>,
    /// Known files that were read again because their keys proved nothing.
    pub reread: u64,
    /// How it was found.
    pub mode: Mode,
}

/// What the first pass says of a known node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Its keys prove that it is as it was.
    Same,
    /// To be read or listed again.
    Again,
    /// Not there any more, or something else is.
    Gone,
    /// There, but it cannot be recorded now.
    Lost,
}

/// The first pass's results, for the threads of the second.
struct Look<'a> {
    snapshot: &'a Snapshot,
    seen: &'a [Seen],
    /// Nodes to read or list again, in the order of their paths.
    list: &'a [u32],
}

impl Snapshot {
    /// Looks at the tree again.
    ///
    /// `tap` may listen to the bytes of each product that is hashed. The command has run: whatever is wrong with the
    /// tree is told as an omission, never as an error.
    pub fn second(&self, clock: &Clock<'_>, progress: &Progress, tap: Option<&MakeTap<'_>>) -> Changes {
        let rules = Rules::new(&self.options, &self.canonical);
        let mut seen = self.compare_keys();
        let dead = self.bury(&mut seen);
        let index = |at: usize| u32::try_from(at).unwrap_or(NONE);
        let list: Vec<u32> = (0..seen.len()).filter(|&at| seen[at] == Seen::Again).map(index).collect();

        let walk = || {
            let mut walk = Walk::new(&self.root, &self.options, &rules, clock, progress, &self.algorithms);
            walk.next_folder = index(self.table.folders.len()).into();
            walk.next_whole =
                index(self.wholes.iter().map(|whole| whole.number as usize + 1).max().unwrap_or(0)).into();
            walk.tap = tap;
            walk
        };
        let look = Look { snapshot: self, seen: &seen, list: &list };
        let mut pass = walk();
        pass.second = Some(&look);
        let pieces = (0..list.len()).step_by(AGAIN_PIECE);
        let items = pieces.rev().map(|from| Item::Again(from, list.len().min(from + AGAIN_PIECE))).collect();
        let mut found = pass.run(items);
        for &(at, lost) in &found.gone {
            seen[at as usize] = if lost { Seen::Lost } else { Seen::Gone };
        }
        sort_fresh(&mut found.fresh);

        let mut relink = walk();
        let look = Look { snapshot: self, seen: &seen, list: &[] };
        relink.second = Some(&look);
        let links = self.look_at_links(&relink, &look, &dead, &mut found);
        for (at, lost) in found.gone.drain(..) {
            seen[at as usize] = if lost { Seen::Lost } else { Seen::Gone };
        }

        let mut changes = Changes { mode: self.options.mode, reread: found.reread, ..Changes::default() };
        self.judge_wholes(&seen, &dead, &mut found, &mut changes);
        self.judge(&seen, &found.fresh, &mut changes);
        if !self.root_stands() {
            found.omissions.push(".".to_owned(), Reason::RootReplaced);
        }
        (changes.omissions, changes.omitted) = found.omissions.into_sorted();
        changes.deleted.retain(|path| changes.omissions.binary_search_by(|omission| omission.path.cmp(path)).is_err());
        changes.products.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        changes.deleted.sort_unstable();
        changes.links = links;
        changes
            .links
            .retain(|(path, _)| changes.products.binary_search_by(|product| product.path.as_str().cmp(path)).is_ok());
        changes.left_out = rules.applied();
        changes
    }

    /// Asks the file system for the keys of all known paths.
    fn compare_keys(&self) -> Vec<Seen> {
        let nodes = &self.table.nodes;
        let full = self.options.mode == Mode::Full;
        let parts =
            pool::spread(self.options.threads, nodes.len(), STAT_PIECE, Vec::new, |out, range: Range<usize>| {
                for at in range {
                    let node = &nodes[at];
                    let wanted = match node.kind {
                        NodeKind::File => Kind::File,
                        NodeKind::Folder => Kind::Folder,
                        NodeKind::Omitted => {
                            out.push((at, Seen::Again));
                            continue;
                        }
                        // Told by their targets and by what is in them.
                        NodeKind::Link | NodeKind::Whole => continue,
                    };
                    let seen = match walk::look(&self.root, self.table.path(node)) {
                        Err(Reason::Unreadable(_)) => Seen::Again,
                        Err(_) => Seen::Gone,
                        Ok(stat) if stat.kind != wanted => Seen::Gone,
                        Ok(stat) if stat.key == node.key && !node.has(RECHECK) && !full => continue,
                        Ok(_) => Seen::Again,
                    };
                    out.push((at, seen));
                }
            });
        let mut seen = vec![Seen::Same; nodes.len()];
        for (at, state) in parts.into_iter().flatten() {
            seen[at] = state;
        }
        seen
    }

    /// Marks everything below a folder that is gone: its path may lead elsewhere now, through a link that took its
    /// place. Returns which folders are gone, by number.
    fn bury(&self, seen: &mut [Seen]) -> Vec<bool> {
        let folders = &self.table.folders;
        let mut dead = vec![false; folders.len()];
        // A folder's number is larger than its parent's.
        for (number, folder) in folders.iter().enumerate() {
            dead[number] = dead.get(folder.parent as usize).copied().unwrap_or(false)
                || seen.get(folder.node as usize) == Some(&Seen::Gone);
        }
        if dead.contains(&true) {
            for (at, node) in self.table.nodes.iter().enumerate() {
                if dead.get(node.folder as usize) == Some(&true) {
                    seen[at] = Seen::Gone;
                }
            }
        }
        dead
    }

    /// Whether the root's path still leads to the folder that was recorded.
    fn root_stands(&self) -> bool {
        let identity = |root: &Root| root.stat(b"").map(|stat| (stat.key.device, stat.key.inode));
        match (Root::open(&self.options.root).and_then(|root| identity(&root)), identity(&self.root)) {
            (Ok(now), Ok(then)) => now == then,
            _ => false,
        }
    }

    /// Resolves the links again and the new ones; returns the texts of those that are there.
    fn look_at_links(
        &self,
        walk: &Walk<'_>,
        look: &Look<'_>,
        dead: &[bool],
        found: &mut Found,
    ) -> Vec<(String, String)> {
        const PIECE: usize = 64;
        let whereabouts = Whereabouts::new(&self.options.root, &self.canonical);
        let new = std::mem::take(&mut found.links).into_iter().map(|link| (link, None));
        let old = self.links.iter().filter(|link| dead.get(link.folder as usize) != Some(&true));
        let old = old.map(|link| {
            let again =
                FoundLink { path: link.path.clone(), folder: link.folder, whole: link.whole, flags: link.flags };
            (again, Some(link))
        });
        let mut all: Vec<(FoundLink, Option<&Link>)> = new.chain(old).collect();
        all.sort_by(|a, b| a.0.path.cmp(&b.0.path));
        let fresh = &found.fresh;
        let gathered = pool::spread(
            walk.options.threads,
            all.len(),
            PIECE,
            || (walk.worker(), Vec::new()),
            |(worker, texts), range| {
                for (link, old) in &all[range] {
                    if let Some(text) = look.link(walk, &whereabouts, fresh, worker, link, *old) {
                        texts.push((link.path.clone(), text));
                    }
                }
            },
        );
        let mut texts = Vec::new();
        for (mut worker, some) in gathered {
            found.absorb(&mut worker.found);
            texts.extend(some);
        }
        sort_fresh(&mut found.fresh);
        texts.sort_unstable();
        texts
    }

    /// Products and deletions among files and links.
    fn judge(&self, seen: &[Seen], fresh: &[Fresh], changes: &mut Changes) {
        for file in fresh.iter().filter(|file| file.whole == NONE && self.options.products.takes(&file.path)) {
            let change = match self.table.find_content(file.path.as_bytes()).map(|at| &self.table.nodes[at]) {
                None => Change::New,
                Some(old) if self.table.digests(old) != file.digests => Change::Changed,
                Some(old) if old.key == file.key && !file.own_changed => continue,
                Some(_) => Change::Rewritten,
            };
            changes.products.push(Product {
                path: file.path.clone(),
                mime: file.mime.clone().into_owned(),
                digests: digest_set(&self.options.hashes, &file.digests),
                length: file.key.size,
                change,
            });
        }
        for (at, node) in self.table.nodes.iter().enumerate() {
            if seen[at] == Seen::Gone
                && matches!(node.kind, NodeKind::File | NodeKind::Link)
                && !node.has(MEMBER)
                && find_fresh(fresh, self.table.path(node)).is_none()
            {
                changes.deleted.push(self.table.text(node).to_owned());
            }
        }
    }

    /// Folders with one digest in which something changed.
    fn judge_wholes(&self, seen: &[Seen], dead: &[bool], found: &mut Found, changes: &mut Changes) {
        if self.wholes.is_empty() && found.wholes.is_empty() {
            return;
        }
        let broken = by_whole(&found.broken);
        let mut omissions = Omissions::default();
        let fresh: Vec<&Fresh> = found.fresh.iter().filter(|file| file.whole != NONE).collect();
        for whole in self.wholes.iter().chain(&found.wholes) {
            let path = whole.path.as_bytes();
            let node = self.table.find_folder(path).map(|at| &self.table.nodes[at]);
            let is_new = node.is_none_or(|node| dead.get(node.index as usize) == Some(&true));
            if is_new && self.wholes.iter().any(|old| old.number == whole.number) {
                // A new folder of this name is another whole, further down.
                if whole.state.is_some() && !found.wholes.iter().any(|new| new.path == whole.path) {
                    changes.deleted.push(whole.path.clone());
                }
                continue;
            }
            if let Some(path) = broken.get(&whole.number) {
                omissions.push(whole.path.clone(), Reason::FolderNotWhole((*path).to_owned()));
                continue;
            }
            let own = fresh.partition_point(|file| file.path.as_bytes() < path);
            let own = fresh[own..].iter().take_while(|file| file.path.as_bytes().starts_with(path));
            let own: Vec<&Fresh> = own.copied().collect();
            let old = if is_new { 0..0 } else { self.table.below(path) };
            let lost = old.clone().any(|at| {
                matches!(seen[at], Seen::Gone | Seen::Lost)
                    && matches!(self.table.nodes[at].kind, NodeKind::File | NodeKind::Link)
            });
            if !is_new && !lost && own.is_empty() && whole.state.is_some() {
                continue;
            }
            match members(&self.table, seen, old, &own, path, &self.algorithms).finish() {
                Err(name) => {
                    omissions.push(whole.path.clone(), Reason::FolderNotWhole(format!("{}{name}", whole.path)));
                }
                Ok((digest, length)) => {
                    let change = match self.before(&whole.path) {
                        Some((before, _)) if before == digest => Change::Rewritten,
                        Some(_) => Change::Changed,
                        None => Change::New,
                    };
                    if self.options.products.takes(&whole.path) {
                        changes.products.push(Product {
                            path: whole.path.clone(),
                            // What witness says of folders.
                            mime: "unknown".to_owned(),
                            digests: DigestSet(std::iter::once(("dirHash".to_owned(), hex::encode(digest))).collect()),
                            length,
                            change,
                        });
                    }
                }
            }
        }
        found.omissions.absorb(omissions);
    }

    /// The digest of a whole folder at the first look.
    fn before(&self, path: &str) -> Option<([u8; 32], u64)> {
        let at = self.wholes.binary_search_by(|whole: &Whole| whole.path.as_str().cmp(path)).ok()?;
        self.wholes[at].state
    }
}

/// The lines of a whole folder as it is now: what was read, and of the rest what was known.
fn members(
    table: &Table,
    seen: &[Seen],
    old: Range<usize>,
    fresh: &[&Fresh],
    path: &[u8],
    algorithms: &[Algorithm],
) -> Lines {
    let mut lines = Lines::default();
    let mut known = old
        .filter(|&at| matches!(seen[at], Seen::Same | Seen::Again))
        .map(|at| &table.nodes[at])
        .filter(|node| matches!(node.kind, NodeKind::File | NodeKind::Link))
        .peekable();
    let name = |full: &[u8]| full.strip_prefix(path).unwrap_or_default().to_vec();
    for file in fresh {
        while let Some(node) = known.next_if(|node| table.path(node) < file.path.as_bytes()) {
            lines.add(&name(table.path(node)), sha256_of(algorithms, table.digests(node)), node.key.size);
        }
        let _ = known.next_if(|node| table.path(node) == file.path.as_bytes());
        lines.add(&name(file.path.as_bytes()), sha256_of(algorithms, &file.digests), file.key.size);
    }
    for node in known {
        lines.add(&name(table.path(node)), sha256_of(algorithms, table.digests(node)), node.key.size);
    }
    lines
}

fn sort_fresh(fresh: &mut Vec<Fresh>) {
    fresh.sort_by(|a, b| a.path.cmp(&b.path));
    fresh.dedup_by(|b, a| a.path == b.path);
}

fn find_fresh<'f>(fresh: &'f [Fresh], path: &[u8]) -> Option<&'f Fresh> {
    fresh.binary_search_by(|file| file.path.as_bytes().cmp(path)).ok().map(|at| &fresh[at])
}

/// Folder (with a final `/`) and name of a path.
fn cut(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1))
}

impl Second for Look<'_> {
    fn knows(&self, folder: &[u8], name: &[u8], kind: Kind) -> bool {
        let table = &self.snapshot.table;
        let mut path = [folder, name].concat();
        if let Some(at) = table.find(&path) {
            match (table.nodes[at].kind, kind) {
                // All of them are looked at again.
                (NodeKind::Omitted, _) | (NodeKind::Link, Kind::Link) => return true,
                (NodeKind::File, Kind::File) => return self.seen[at] != Seen::Gone,
                _ => {}
            }
        }
        if kind != Kind::Folder {
            return false;
        }
        path.push(b'/');
        table.find_folder(&path).is_some_and(|at| self.seen[at] != Seen::Gone)
    }

    fn again(&self, walk: &Walk<'_>, worker: &mut Worker, from: usize, mut to: usize) {
        let mut next = from;
        while next < to {
            let at = self.list[next];
            next += 1;
            to = walk.share(next, to, Item::Again);
            let node = &self.snapshot.table.nodes[at as usize];
            match node.kind {
                NodeKind::File => self.file(walk, worker, at),
                NodeKind::Folder => self.folder(walk, worker, at),
                _ => self.omitted(walk, worker, at),
            }
        }
    }
}

impl Look<'_> {
    fn place(&self, folder: u32) -> Place {
        let folders = &self.snapshot.table.folders;
        folders.get(folder as usize).map_or(
            Place { number: folder, folder: NONE, whole: NONE, git: super::rules::Git::No },
            |found| Place { number: folder, folder: found.parent, whole: found.whole, git: found.git },
        )
    }

    /// Reads a known file again.
    fn file(&self, walk: &Walk<'_>, worker: &mut Worker, at: u32) {
        let table = &self.snapshot.table;
        let node = &table.nodes[at as usize];
        let path = table.path(node);
        let place = self.place(node.folder);
        match walk.read(worker, table.text(node), &|| walk.root.open_file(path)) {
            Ok(content) => {
                worker.found.reread += 1;
                if content.key != node.key || content.digests != table.digests(node) {
                    let fresh = content.fresh(walk, worker, table.text(node), place.whole);
                    worker.found.fresh.push(fresh);
                }
            }
            Err(Reason::Vanished) => worker.found.gone.push((at, false)),
            Err(reason) => {
                worker.found.gone.push((at, true));
                walk.omit(worker, path, b"", place.whole, reason);
            }
        }
    }

    /// Lists a known folder again.
    fn folder(&self, walk: &Walk<'_>, worker: &mut Worker, at: u32) {
        let table = &self.snapshot.table;
        let node = &table.nodes[at as usize];
        let path = table.path(node);
        let place = self.place(node.index);
        match walk.root.open_folder(path) {
            Ok(fd) => walk.list(worker, path, fd, place),
            Err(errno) => match walk::refusal(errno) {
                Reason::Vanished => {}
                reason => walk.omit(worker, path, b"", place.whole, reason),
            },
        }
    }

    /// Looks again at what could not be recorded.
    fn omitted(&self, walk: &Walk<'_>, worker: &mut Worker, at: u32) {
        let table = &self.snapshot.table;
        let node = &table.nodes[at as usize];
        let path = table.path(node);
        let (folder, name) = cut(path);
        let place = self.place(node.folder);
        let stat = match walk::look(walk.root, path) {
            Ok(stat) => stat,
            Err(Reason::Vanished) => return,
            Err(reason) => return walk.omit(worker, folder, name, place.whole, reason),
        };
        if let Some(reason) = walk::unfit(folder, name) {
            return walk.omit(worker, folder, name, place.whole, reason);
        }
        match stat.kind {
            Kind::File => {
                let text = table.text(node);
                let Some(flags) = walk.select(text, place.whole) else { return };
                match walk.read(worker, text, &|| walk.root.open_file(path)) {
                    Ok(content) => walk.record(worker, text, place, flags, content),
                    Err(reason) => walk.omit(worker, folder, name, place.whole, reason),
                }
            }
            Kind::Folder => {
                let fd = walk.root.open_folder(path);
                walk.new_folder(worker, folder, name, fd, place.number, place.whole, place.git.child(name));
            }
            Kind::Link => {
                let known = &self.snapshot.links;
                if known.binary_search_by(|link| link.path.as_bytes().cmp(path)).is_err() {
                    walk.link(worker, folder, name, place);
                }
            }
            kind => walk.omit(worker, folder, name, place.whole, Reason::of_kind(kind)),
        }
    }

    /// Resolves a link again; returns its text while it leads to a file.
    fn link(
        &self,
        walk: &Walk<'_>,
        whereabouts: &Whereabouts,
        fresh: &[Fresh],
        worker: &mut Worker,
        link: &FoundLink,
        old: Option<&Link>,
    ) -> Option<String> {
        let table = &self.snapshot.table;
        let path = link.path.as_bytes();
        let node = table.find(path).filter(|&at| table.nodes[at].kind == NodeKind::Link);
        let gone = |worker: &mut Worker, lost| {
            if let Some(at) = node {
                worker.found.gone.push((u32::try_from(at).unwrap_or(NONE), lost));
            }
        };
        let own = match walk::look(walk.root, path) {
            // What took a link's place was found in its folder's listing.
            Ok(stat) if stat.kind != Kind::Link => {
                gone(worker, false);
                return None;
            }
            Ok(stat) => stat.key,
            Err(Reason::Vanished) => {
                gone(worker, false);
                return None;
            }
            Err(reason) => {
                gone(worker, true);
                walk.omit(worker, path, b"", link.whole, reason);
                return None;
            }
        };
        let target = match links::resolve(walk.root, whereabouts, path) {
            Ok(target) => target,
            Err(reason) => {
                gone(worker, true);
                walk.omit(worker, path, b"", link.whole, reason);
                return None;
            }
        };
        if walk.rules.is_own(&target.path) {
            gone(worker, true);
            return None;
        }
        let own_changed = old.is_none_or(|old| old.own != own || old.text != target.text);
        let now = target.stat.key;
        // What is known of the target: read just now, or proven unchanged.
        let read = find_fresh(fresh, &target.path);
        let known = table
            .find(&target.path)
            .filter(|&at| matches!(self.seen[at], Seen::Same | Seen::Again))
            .filter(|&at| table.nodes[at].kind == NodeKind::File && table.nodes[at].key == now && read.is_none());
        let before = node.map(|at| &table.nodes[at]);
        let same = |key: Key, digests: &[u8]| {
            !own_changed && before.is_some_and(|before| before.key == key && table.digests(before) == digests)
        };
        let entry = if let Some(read) = read {
            Fresh {
                own_changed,
                path: link.path.clone(),
                whole: link.whole,
                digests: read.digests.clone(),
                mime: read.mime.clone(),
                key: read.key,
            }
        } else if let Some(at) = known {
            let digests = table.digests(&table.nodes[at]);
            if same(now, digests) {
                return Some(target.text);
            }
            let mime = head(walk, &target.path);
            Fresh { own_changed, path: link.path.clone(), whole: link.whole, digests: digests.to_vec(), mime, key: now }
        } else {
            let full = self.snapshot.options.mode == Mode::Full;
            if let Some(before) = before
                && !own_changed
                && before.key == now
                && !before.has(RECHECK)
                && !full
            {
                return Some(target.text);
            }
            match walk.read(worker, &link.path, &|| walk.root.open_file(&target.path)) {
                Ok(content) => Fresh { own_changed, ..content.fresh(walk, worker, &link.path, link.whole) },
                Err(reason) => {
                    gone(worker, true);
                    let reason = Reason::LinkToOther(target.text, reason.to_string());
                    walk.omit(worker, path, b"", link.whole, reason);
                    return None;
                }
            }
        };
        if !same(entry.key, &entry.digests) {
            worker.found.fresh.push(entry);
        }
        Some(target.text)
    }
}

/// The type of a file whose content is known.
fn head(walk: &Walk<'_>, path: &[u8]) -> std::borrow::Cow<'static, str> {
    use std::io::Read as _;
    let mut head = Vec::with_capacity(mime::HEAD);
    let read = walk
        .root
        .open_file(path)
        .map_err(std::io::Error::from)
        .and_then(|fd| std::fs::File::from(fd).take(mime::HEAD as u64).read_to_end(&mut head));
    // What witness says of what it cannot read.
    read.map_or("unknown".into(), |_| mime::detect(&head))
}
