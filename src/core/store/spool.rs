//! The spool: where evidence waits that could not be written, stored or signed.
//!
//! ```text
//! <sha256>.envelope.json        a signed envelope
//! <sha256>.payload.json         a payload that waits for its signature
//! <sha256>.log.json             an entry that a log is still to make ([`crate::keyless::queue`])
//! <sha256>.answer.json          what the log has answered to that, until it is kept where it belongs
//! <sha256>.<8 hex digits>.want.json   where it should have gone, and why it did not
//! ```
//! The folder is its owner's alone (0700, files 0600): what waits may be unsigned. A file whose content has not the
//! digest that it is named by is never used (security rule 6): a payload is signed only if the caller gives the digest
//! that was printed when it was spooled.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Seek as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::{FallocateFlags, fallocate};
use serde::Serialize;

mod answer;
mod want;

pub use answer::{AnswerRoom, MAX_LOG_ENTRY};
pub use want::Want;

use super::disk::{self, Aside, Modes};
use super::stream::{HashingWriter, WriteFailure};
use super::{Access, Archive, CheckedReader, MAX_OBJECT, ObjectId, StoreError, extract, index};
use crate::outfile::{Outfile, OutfileError};

/// Room in bytes that is good to have before a build, which may fill the disk (see [`Spool::reserve`]).
pub const RESERVE: u64 = 16 << 20;
/// Room in bytes that is kept for a want.
const RESERVE_WANT: u64 = 64 << 10;
/// Length in bytes of a want.
const MAX_WANT: u64 = 64 << 10;

/// What went wrong with the spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The system refused.
    #[error("{}: cannot {action} it: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others could change what waits here.
    #[error("{}: a spool must belong to its user, and only the user may write to it ({reason})", path.display())]
    Unsafe {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// What should be spooled is too long.
    #[error("more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Whoever should write the content failed.
    #[error("the content cannot be written: {0}")]
    Producer(#[source] io::Error),
    /// Nothing with this digest waits.
    #[error("nothing waits as {digest} in {}", spool.display())]
    NotFound {
        /// What was asked for.
        digest: ObjectId,
        /// The folder.
        spool: PathBuf,
    },
    /// The content is not what was spooled. It is not used.
    #[error("{}: the content has changed: expected {expected}, found {found}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its name.
        expected: ObjectId,
        /// Digest of what it holds.
        found: ObjectId,
    },
    /// It waits for a signature; it cannot be delivered as it is.
    #[error("{digest}: not signed")]
    NotSigned {
        /// What was asked for.
        digest: ObjectId,
    },
    /// An outfile that came into being meanwhile and is no evidence is not overwritten.
    #[error("{}: there is another file by now", path.display())]
    Occupied {
        /// The outfile.
        path: PathBuf,
    },
    /// Nobody wrote down where it should go.
    #[error("{digest}: nothing tells where it should go")]
    NoDestination {
        /// What was asked for.
        digest: ObjectId,
    },
    /// The outfile cannot be written.
    #[error(transparent)]
    Outfile(#[from] OutfileError),
    /// The archive does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server does not take it.
    #[error("{server}: it is not stored there")]
    Server {
        /// Its address.
        server: String,
        /// What it said.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Stores an envelope on the archivista at an address; gives what it is called there.
pub type Upload<'a> = &'a dyn Fn(&str, &[u8]) -> Result<String, Box<dyn Error + Send + Sync>>;

/// What waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A signed envelope.
    Envelope,
    /// A payload without signature.
    Payload,
    /// An entry that a log is still to make.
    LogEntry,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Envelope, Self::Payload, Self::LogEntry];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Envelope => ".envelope.json",
            Self::Payload => ".payload.json",
            Self::LogEntry => ".log.json",
        }
    }
}

/// Something that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// SHA-256 of the content, by which it is named. Only loading checks it.
    pub digest: ObjectId,
    /// Whether it is signed.
    pub kind: Kind,
    /// Length in bytes.
    pub size: u64,
    /// Where it lies.
    pub path: PathBuf,
    /// Where it should go, the oldest first. Empty when the process was ended while it spooled.
    pub wants: Vec<Want>,
}

/// What lies in the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// What waits, the oldest first.
    pub entries: Vec<Entry>,
    /// Files that cannot be understood.
    pub strange: Vec<PathBuf>,
}

/// What was spooled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// SHA-256 of the content: the argument of `resume --digest`.
    pub digest: ObjectId,
    /// Where it lies.
    pub path: PathBuf,
    /// Length in bytes.
    pub size: u64,
}

/// Where something was delivered to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Outfiles that hold it now.
    pub outfiles: Vec<PathBuf>,
    /// Archives that keep it now.
    pub archives: Vec<PathBuf>,
    /// Servers that keep it now, and what it is called there.
    pub servers: Vec<(String, String)>,
}

/// A spool in a folder.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
}

/// Room on the disk that was taken before it was needed.
#[derive(Debug)]
pub struct Reserve<'a> {
    spool: &'a Spool,
    content: Aside,
    want: Aside,
}

impl Spool {
    /// Opens the spool in `folder`, which is made if it is missing.
    pub fn create(folder: &Path) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Io { action: "create", path: folder.to_owned(), source };
        disk::make_folders(folder, Modes::PRIVATE).map_err(failed)?;
        Self::open(folder)
    }

    /// A new spool in a folder of its own below `parent`, where others may have folders as well: for when the usual one
    /// is missing or full.
    pub fn fresh_below(parent: &Path) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Io { action: "create a folder in", path: parent.to_owned(), source };
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        let folder = tempfile::Builder::new()
            .prefix("affiant-spool-")
            .permissions(permissions)
            .tempdir_in(parent)
            .map_err(failed)?;
        Self::open(&folder.keep())
    }

    /// Opens the spool in `folder`, which must be there.
    pub fn open(folder: &Path) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Io { action: "read", path: folder.to_owned(), source };
        let data = fs::metadata(folder).map_err(failed)?;
        let unsafe_because = |reason| SpoolError::Unsafe { path: folder.to_owned(), reason };
        if !data.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::NotADirectory)));
        }
        if data.uid() != nix::unistd::geteuid().as_raw() {
            return Err(unsafe_because("it belongs to another user"));
        }
        if data.mode() & 0o022 != 0 {
            return Err(unsafe_because("others may write to it"));
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> SpoolError {
        let path = self.folder.clone();
        move |source| SpoolError::Io { action, path: path.clone(), source }
    }

    /// Takes `bytes` of room on the disk now, so that evidence can be spooled even when the build fills the disk.
    /// It is given back when the reserve is dropped. Where the file system cannot promise room, nothing is promised.
    pub fn reserve(&self, bytes: u64) -> Result<Reserve<'_>, SpoolError> {
        let (content, want) = (self.take(bytes)?, self.take(RESERVE_WANT)?);
        self.tidy(&content)?;
        Ok(Reserve { spool: self, content, want })
    }

    /// A file that has room for `bytes`.
    fn take(&self, bytes: u64) -> Result<Aside, SpoolError> {
        let tried = disk::unnamed(&self.folder, Modes::PRIVATE);
        let may_be_named = tried.is_some_and(|file| disk::named(&file, &self.folder).is_ok());
        let file = match disk::unnamed(&self.folder, Modes::PRIVATE) {
            Some(file) if may_be_named => Aside::Unnamed(file),
            // One that had to be copied would have no room when the disk is full.
            _ => Aside::Named(disk::temporary(&self.folder, Modes::PRIVATE).map_err(self.failed("write to"))?),
        };
        let length = i64::try_from(bytes).unwrap_or(i64::MAX);
        match fallocate(file.as_file(), FallocateFlags::empty(), 0, length) {
            Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => Ok(file),
            Err(error) => Err(self.failed("reserve room in")(error.into())),
        }
    }

    /// Removes reserves of processes that were killed; `new` has just been made.
    fn tidy(&self, new: &Aside) -> Result<(), SpoolError> {
        let now = new.as_file().metadata().and_then(|data| data.modified()).map_err(self.failed("read"))?;
        for entry in fs::read_dir(&self.folder).map_err(self.failed("read"))? {
            let entry = entry.map_err(self.failed("read"))?;
            if entry.file_name().as_bytes().starts_with(disk::TEMPORARY_PREFIX.as_bytes()) {
                index::remove_if_stale(&entry.path(), now).map_err(self.failed("tidy"))?;
            }
        }
        Ok(())
    }

    /// Spools `content`. When this returns it is on the disk.
    pub fn save(&self, kind: Kind, want: &Want, content: &[u8]) -> Result<Saved, SpoolError> {
        self.save_with(kind, want, |out| out.write_all(content))
    }

    /// Spools what `produce` writes. When this returns it is on the disk.
    pub fn save_with(
        &self,
        kind: Kind,
        want: &Want,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Saved, SpoolError> {
        let file = || Aside::new(&self.folder, Modes::PRIVATE).map_err(self.failed("write to"));
        Reserve { spool: self, content: file()?, want: file()? }.save_with(kind, want, produce)
    }

    fn content_path(&self, digest: &ObjectId, kind: Kind) -> PathBuf {
        self.folder.join(format!("{}{}", digest.hex(), kind.suffix()))
    }

    /// What waits. Nothing is checked yet but the form of the names.
    pub fn list(&self) -> Result<Waiting, SpoolError> {
        let failed = self.failed("read");
        let mut entries: BTreeMap<(ObjectId, Kind), Entry> = BTreeMap::new();
        let mut wants: BTreeMap<ObjectId, Vec<Want>> = BTreeMap::new();
        let mut strange = Vec::new();
        for file in fs::read_dir(&self.folder).map_err(&failed)? {
            let file = file.map_err(&failed)?;
            let (name, path) = (file.file_name(), file.path());
            if name.as_bytes().starts_with(disk::TEMPORARY_PREFIX.as_bytes()) || answer::is_answer(&name) {
                continue;
            }
            match Self::parse_name(&name) {
                Some((digest, Some(kind))) => {
                    let data = match fs::symlink_metadata(&path) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        other => other.map_err(&failed)?,
                    };
                    if data.is_file() {
                        let entry = Entry { digest, kind, size: data.len(), path, wants: Vec::new() };
                        entries.insert((digest, kind), entry);
                    } else {
                        strange.push(path);
                    }
                }
                Some((digest, None)) => match Self::read_want(&path) {
                    Some(want) => wants.entry(digest).or_default().push(want),
                    None => strange.push(path),
                },
                None => strange.push(path),
            }
        }
        let mut entries: Vec<Entry> = entries.into_values().collect();
        for entry in &mut entries {
            entry.wants = wants.get(&entry.digest).cloned().unwrap_or_default();
            entry.wants.sort_by(|a, b| a.order().cmp(&b.order()));
        }
        entries.sort_by_key(|entry| (entry.wants.first().map(|want| want.saved), entry.digest, entry.kind));
        strange.sort();
        Ok(Waiting { entries, strange })
    }

    /// The digest and, for content, the kind that a name tells.
    fn parse_name(name: &OsStr) -> Option<(ObjectId, Option<Kind>)> {
        let name = name.to_str()?;
        if let Some(rest) = name.strip_suffix(".want.json") {
            let (digest, _) = rest.split_once('.')?;
            return Some((ObjectId::from_hex(digest)?, None));
        }
        let kind = Kind::ALL.into_iter().find(|kind| name.ends_with(kind.suffix()))?;
        Some((ObjectId::from_hex(name.strip_suffix(kind.suffix())?)?, Some(kind)))
    }

    fn read_want(path: &Path) -> Option<Want> {
        let mut text = Vec::new();
        disk::open_regular(path).ok()?.take(MAX_WANT).read_to_end(&mut text).ok()?;
        Want::from_json(&text)
    }

    /// What waits under `digest`.
    pub fn entry(&self, digest: &ObjectId, kind: Kind) -> Result<Entry, SpoolError> {
        let found = self.list()?.entries.into_iter().find(|entry| entry.digest == *digest && entry.kind == kind);
        found.ok_or_else(|| SpoolError::NotFound { digest: *digest, spool: self.folder.clone() })
    }

    /// The content of what waits under `digest`, checked against it: for a payload, to be signed.
    pub fn load(&self, digest: &ObjectId, kind: Kind) -> Result<Vec<u8>, SpoolError> {
        let mut reader = self.reader(digest, kind)?;
        let mut content = Vec::new();
        match reader.read_to_end(&mut content) {
            Ok(_) => Ok(content),
            Err(error) => Err(explain(&reader, error)),
        }
    }

    fn reader(&self, digest: &ObjectId, kind: Kind) -> Result<CheckedReader, SpoolError> {
        let path = self.content_path(digest, kind);
        let failed = |source| SpoolError::Io { action: "read", path: path.clone(), source };
        let file = match disk::open_regular(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SpoolError::NotFound { digest: *digest, spool: self.folder.clone() });
            }
            other => other.map_err(failed)?,
        };
        let length = file.metadata().map_err(failed)?.len();
        if length > MAX_OBJECT {
            return Err(SpoolError::TooLarge { limit: MAX_OBJECT });
        }
        Ok(CheckedReader::new(file, path, length, MAX_OBJECT, *digest))
    }

    /// Brings a signed envelope where it should go, and forgets it when that is done. `stored` is the time that an
    /// archive keeps with it. `instead` goes before what was written down; without it, an existing outfile is
    /// overwritten only if it is empty or an envelope itself: what was written down may come from another machine.
    /// `upload` stores on servers.
    ///
    /// What fails stays in the spool; the first failure is returned after everything was tried.
    pub fn resume(
        &self,
        digest: &ObjectId,
        instead: Option<&Want>,
        stored: Timestamp,
        upload: Upload<'_>,
    ) -> Result<Delivered, SpoolError> {
        let entry = match self.entry(digest, Kind::Envelope) {
            Err(SpoolError::NotFound { .. }) if self.content_path(digest, Kind::Payload).exists() => {
                return Err(SpoolError::NotSigned { digest: *digest });
            }
            other => other?,
        };
        // First the bytes: nothing is delivered before all of them are known to be the right ones.
        let mut reader = self.reader(digest, Kind::Envelope)?;
        let extract = extract::extract(&mut reader);
        io::copy(&mut reader, &mut io::sink()).map_err(|error| explain(&reader, error))?;
        if !extract.is_ok_and(|extract| extract.signatures > 0) {
            return Err(SpoolError::NotSigned { digest: *digest });
        }
        let wants = instead.map_or(entry.wants, |want| vec![want.clone()]);
        if !wants.iter().any(Want::has_place) {
            return Err(SpoolError::NoDestination { digest: *digest });
        }
        let mut done = Delivered::default();
        let mut first_failure = None;
        let mut delivered = Vec::new();
        for want in &wants {
            match self.deliver(digest, want, instead.is_some(), stored, upload, &mut done) {
                Ok(()) => delivered.push(want),
                Err(error) => first_failure = first_failure.or(Some(error)),
            }
        }
        let Some(error) = first_failure else {
            return self.remove(digest, Kind::Envelope).map(|()| done);
        };
        // Only now, and only beside one that stays: whoever is ended in between must not leave an envelope of which
        // nobody knows where it should go.
        if instead.is_none() {
            for want in delivered {
                self.forget_want(digest, want)?;
            }
        }
        Err(error)
    }

    fn deliver(
        &self,
        digest: &ObjectId,
        want: &Want,
        is_explicit: bool,
        stored: Timestamp,
        upload: Upload<'_>,
        done: &mut Delivered,
    ) -> Result<(), SpoolError> {
        let copy = |out: &mut dyn Write| -> io::Result<()> {
            let mut reader = self.reader(digest, Kind::Envelope).map_err(io::Error::other)?;
            io::copy(&mut reader, out).map(drop)
        };
        if let Some(folder) = &want.archive {
            let archive = match Archive::open(folder) {
                Err(StoreError::NotAnArchive { .. }) => Archive::create(folder, Access::Private)?,
                other => other?,
            };
            archive.put_with(stored, copy)?;
            done.archives.push(folder.clone());
        }
        if let Some(path) = &want.outfile {
            let outfile = Outfile::probe(path)?;
            if !is_explicit && outfile.file().is_some_and(|file| !may_be_replaced(file)) {
                return Err(SpoolError::Occupied { path: path.clone() });
            }
            outfile.write_with(copy)?;
            done.outfiles.push(path.clone());
        }
        // Last: what is kept here does not wait for another machine.
        if let Some(server) = &want.archivista {
            let envelope = self.load(digest, Kind::Envelope)?;
            let failed = |source| SpoolError::Server { server: server.clone(), source };
            let name = upload(server, &envelope).map_err(failed)?;
            done.servers.push((server.clone(), name));
        }
        Ok(())
    }

    fn want_path(&self, digest: &ObjectId, json: &[u8]) -> PathBuf {
        let own = ObjectId::of(json).hex();
        self.folder.join(format!("{}.{}.want.json", digest.hex(), &own[..8]))
    }

    fn forget_want(&self, digest: &ObjectId, want: &Want) -> Result<(), SpoolError> {
        disk::remove(&self.want_path(digest, &want.to_json())).map_err(self.failed("tidy"))
    }

    /// Forgets what waits under `digest`: after it was delivered, or signed and delivered.
    pub fn remove(&self, digest: &ObjectId, kind: Kind) -> Result<(), SpoolError> {
        let failed = self.failed("tidy");
        disk::remove(&self.content_path(digest, kind)).map_err(&failed)?;
        for file in fs::read_dir(&self.folder).map_err(&failed)? {
            let file = file.map_err(&failed)?;
            if matches!(Self::parse_name(&file.file_name()), Some((found, None)) if found == *digest) {
                disk::remove(&file.path()).map_err(&failed)?;
            }
        }
        if kind == Kind::LogEntry {
            self.forget_answer(digest)?;
        }
        disk::sync_folder(&self.folder).map_err(failed)
    }
}

impl Reserve<'_> {
    /// Spools `content` in the reserved room. When this returns it is on the disk.
    pub fn save(self, kind: Kind, want: &Want, content: &[u8]) -> Result<Saved, SpoolError> {
        self.save_with(kind, want, |out| out.write_all(content))
    }

    /// Spools what `produce` writes in the reserved room. When this returns it is on the disk.
    pub fn save_with(
        self,
        kind: Kind,
        want: &Want,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Saved, SpoolError> {
        let Self { spool, content, want: want_file } = self;
        let failed = spool.failed("write to");
        let publish = |aside: Aside, path: &Path| disk::publish(aside.named(&spool.folder, Modes::PRIVATE)?, path);
        let mut writer = HashingWriter::new(content.as_file(), MAX_OBJECT);
        let outcome = produce(&mut writer).and_then(|()| writer.flush());
        let (digest, size) = match (outcome, writer.failed.take()) {
            (_, Some(WriteFailure::TooLarge)) => return Err(SpoolError::TooLarge { limit: MAX_OBJECT }),
            (_, Some(WriteFailure::Io(source))) => return Err(failed(source)),
            (Err(source), None) => return Err(SpoolError::Producer(source)),
            (Ok(()), None) => writer.finish(),
        };
        // Gives back what was reserved and not needed.
        content.as_file().set_len(size).map_err(&failed)?;
        let path = spool.content_path(&digest, kind);
        publish(content, &path).map_err(&failed)?;
        // The content comes first: without a want it can still be delivered by hand.
        let json = want.to_json();
        let mut out = want_file.as_file();
        out.rewind().and_then(|()| out.write_all(&json)).map_err(&failed)?;
        want_file.as_file().set_len(json.len() as u64).map_err(&failed)?;
        publish(want_file, &spool.want_path(&digest, &json)).map_err(&failed)?;
        Ok(Saved { digest, path, size })
    }
}

fn explain(reader: &CheckedReader, error: io::Error) -> SpoolError {
    match reader.explain(error) {
        StoreError::Mismatch { path, expected, found } => SpoolError::Changed { path, expected, found },
        StoreError::Io { action, path, source } => SpoolError::Io { action, path, source },
        other => SpoolError::Store(other),
    }
}

/// Whether a file that lies where an outfile should go is missing, empty, or evidence itself.
fn may_be_replaced(path: &Path) -> bool {
    match disk::open_regular(path) {
        Err(error) => error.kind() == io::ErrorKind::NotFound,
        Ok(file) => file.metadata().is_ok_and(|data| data.len() == 0) || extract::extract(file).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::Query;
    use super::super::tests::{SmallDisk, envelope_of};
    use super::*;

    const TIME: Timestamp = Timestamp::UNIX_EPOCH;

    fn nowhere(server: &str, _: &[u8]) -> Result<String, Box<dyn Error + Send + Sync>> {
        Err(format!("nothing is sent to {server}").into())
    }

    fn spool() -> (tempfile::TempDir, Spool) {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let spool = Spool::create(&folder.path().join("data/spool")).expect("a new spool");
        (folder, spool)
    }

    fn envelope(text: &str) -> Vec<u8> {
        envelope_of("text/plain", text.as_bytes())
    }

    fn files(spool: &Spool) -> usize {
        fs::read_dir(spool.folder()).expect("read").count()
    }

    #[test]
    fn what_is_spooled_is_its_owners_alone_and_is_resumed() {
        let (folder, spool) = spool();
        let (outfile, archive) = (folder.path().join("out.json"), folder.path().join("archive"));
        let want = Want {
            outfile: Some(outfile.clone()),
            archive: Some(archive.clone()),
            step: Some("build".into()),
            reason: "no space left on device".into(),
            ..Want::default()
        };
        let envelope = envelope("one");
        let saved = spool.save(Kind::Envelope, &want, &envelope).expect("spooled");
        assert_eq!((saved.digest, saved.size), (ObjectId::of(&envelope), envelope.len() as u64));
        assert_eq!(fs::read(&saved.path).expect("read"), envelope, "the file is usable as it is");
        assert_eq!(fs::metadata(spool.folder()).expect("there").permissions().mode() & 0o777, 0o700);
        for file in fs::read_dir(spool.folder()).expect("read") {
            let path = file.expect("an entry").path();
            assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
        let waiting = spool.list().expect("listed");
        assert_eq!((waiting.entries.len(), waiting.strange.len()), (1, 0));
        assert_eq!(waiting.entries[0].wants, [want]);

        let done = spool.resume(&saved.digest, None, TIME, &nowhere).expect("delivered");
        assert_eq!((done.outfiles, done.archives), (vec![outfile.clone()], vec![archive.clone()]));
        assert_eq!(fs::read(&outfile).expect("read"), envelope);
        let records = Archive::open(&archive).and_then(|archive| archive.find(&Query::default())).expect("an answer");
        assert_eq!(records[0].digest, saved.digest);
        assert_eq!(files(&spool), 0);
        let error = spool.resume(&saved.digest, None, TIME, &nowhere).expect_err("it is gone");
        assert!(matches!(error, SpoolError::NotFound { .. }), "{error}");
    }

    #[test]
    fn what_cannot_be_delivered_yet_stays() {
        let (folder, spool) = spool();
        let good = Want { outfile: Some(folder.path().join("good")), ..Want::default() };
        let bad = Want { outfile: Some(folder.path().join("no/bad")), ..Want::default() };
        let envelope = envelope("one");
        spool.save(Kind::Envelope, &bad, &envelope).expect("spooled");
        let id = spool.save(Kind::Envelope, &good, &envelope).expect("spooled once more").digest;
        let error = spool.resume(&id, None, TIME, &nowhere).expect_err("one place is missing");
        assert!(error.to_string().contains("no/bad"), "{error}");
        assert_eq!(fs::read(folder.path().join("good")).expect("read"), envelope);
        assert_eq!(spool.entry(&id, Kind::Envelope).expect("it is there").wants, [bad]);
        fs::create_dir(folder.path().join("no")).expect("made");
        spool.resume(&id, None, TIME, &nowhere).expect("delivered");
        assert_eq!(fs::read(folder.path().join("no/bad")).expect("read"), envelope);
        assert_eq!(files(&spool), 0);
    }

    #[test]
    fn what_a_server_should_have_waits_for_it() {
        let (folder, spool) = spool();
        let outfile = folder.path().join("out.json");
        let server = "https://archivista.example";
        let want = Want { outfile: Some(outfile.clone()), archivista: Some(server.to_owned()), ..Want::default() };
        let envelope = envelope("one");
        let id = spool.save(Kind::Envelope, &want, &envelope).expect("spooled").digest;
        let error = spool.resume(&id, None, TIME, &nowhere).expect_err("the server is down");
        assert!(error.source().is_some_and(|why| why.to_string().contains("nothing is sent to https://")), "{error}");
        assert_eq!(fs::read(&outfile).expect("what can be delivered is"), envelope);
        assert_eq!(spool.entry(&id, Kind::Envelope).expect("it is there").wants, [want]);
        let sent = std::cell::RefCell::new(Vec::new());
        let upload = |to: &str, bytes: &[u8]| {
            sent.borrow_mut().push((to.to_owned(), bytes.to_vec()));
            Ok("its name".to_owned())
        };
        let done = spool.resume(&id, None, TIME, &upload).expect("delivered");
        assert_eq!(done.servers, [(server.to_owned(), "its name".to_owned())]);
        assert_eq!(sent.into_inner(), [(server.to_owned(), envelope)]);
        assert_eq!(files(&spool), 0);
    }

    /// Security rule 6.
    #[test]
    fn rule_6_what_was_changed_in_the_spool_is_not_used() {
        let (folder, spool) = spool();
        let want = Want { outfile: Some(folder.path().join("out")), ..Want::default() };
        let saved = spool.save(Kind::Payload, &want, b"{\"honest\":1}").expect("spooled");
        assert_eq!(spool.load(&saved.digest, Kind::Payload).expect("it is whole"), b"{\"honest\":1}");
        let error = spool.resume(&saved.digest, None, TIME, &nowhere).expect_err("it is not signed");
        assert!(matches!(error, SpoolError::NotSigned { .. }), "{error}");
        fs::write(&saved.path, b"{\"honest\":0}").expect("changed");
        let error = spool.load(&saved.digest, Kind::Payload).expect_err("it was changed");
        assert!(matches!(&error, SpoolError::Changed { expected, .. } if *expected == saved.digest), "{error}");

        let saved = spool.save(Kind::Envelope, &want, &envelope("one")).expect("spooled");
        fs::write(&saved.path, envelope("two")).expect("changed");
        let error = spool.resume(&saved.digest, None, TIME, &nowhere).expect_err("it was changed");
        assert!(matches!(error, SpoolError::Changed { .. }), "{error}");
        assert!(!folder.path().join("out").exists());

        // A name that says "signed" proves nothing.
        for unsigned in [&b"{\"payload\":\"e30=\",\"payloadType\":\"x\",\"signatures\":[]}"[..], b"not an envelope"] {
            let id = spool.save(Kind::Envelope, &want, unsigned).expect("spooled").digest;
            let error = spool.resume(&id, None, TIME, &nowhere).expect_err("it is not signed");
            assert!(matches!(error, SpoolError::NotSigned { .. }), "{error}");
        }
        // A link to what has the right digest is not followed.
        let text = envelope("three");
        let id = ObjectId::of(&text);
        fs::write(folder.path().join("elsewhere"), &text).expect("written");
        symlink(folder.path().join("elsewhere"), spool.content_path(&id, Kind::Envelope)).expect("linked");
        spool.load(&id, Kind::Envelope).expect_err("a link");
        assert!(!folder.path().join("out").exists());
    }

    #[test]
    fn a_file_that_is_no_evidence_is_not_overwritten_on_somebody_elses_word() {
        let (folder, spool) = spool();
        let path = folder.path().join("authorized_keys");
        let want = Want { outfile: Some(path.clone()), ..Want::default() };
        let one = envelope("one");
        let id = spool.save(Kind::Envelope, &want, &one).expect("spooled").digest;
        fs::write(&path, "ssh-ed25519 AAAA").expect("written");
        let error = spool.resume(&id, None, TIME, &nowhere).expect_err("there is another file");
        assert!(matches!(error, SpoolError::Occupied { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("read"), "ssh-ed25519 AAAA");
        fs::write(&path, envelope("an older one")).expect("written");
        spool.resume(&id, None, TIME, &nowhere).expect("evidence replaces evidence");
        assert_eq!(fs::read(&path).expect("read"), one);

        fs::write(&path, "anything").expect("written");
        let id = spool.save(Kind::Envelope, &Want::default(), &one).expect("spooled").digest;
        let error = spool.resume(&id, None, TIME, &nowhere).expect_err("nothing tells where to");
        assert!(matches!(error, SpoolError::NoDestination { .. }), "{error}");
        spool.resume(&id, Some(&want), TIME, &nowhere).expect("the user named the file");
        assert_eq!(fs::read(&path).expect("read"), one);
    }

    #[test]
    fn a_spool_that_others_could_change_is_refused() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        for (mode, fits) in [(0o777, false), (0o770, false), (0o702, false), (0o755, true), (0o700, true)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("changed");
            let outcome = Spool::create(folder.path());
            assert_eq!(outcome.is_ok(), fits, "{mode:o}: {outcome:?}");
            assert!(fits || matches!(outcome, Err(SpoolError::Unsafe { .. })));
        }
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(folder.path(), Some(12345), None).expect("given away");
            assert!(matches!(Spool::open(folder.path()), Err(SpoolError::Unsafe { .. })));
        }
        Spool::open(&folder.path().join("none")).expect_err("it is not there");
    }

    #[test]
    fn names_that_are_not_text_and_strange_files_are_kept_apart() {
        let (folder, spool) = spool();
        let name = OsStr::from_bytes(b"out-\xff.json");
        let want = Want { outfile: Some(folder.path().join(name)), archive: Some(name.into()), ..Want::default() };
        let id = spool.save(Kind::Envelope, &want, &envelope("one")).expect("spooled").digest;
        assert_eq!(spool.entry(&id, Kind::Envelope).expect("it is there").wants, [want]);
        for (name, content) in [("notes.txt", "x"), ("zz.envelope.json", "x"), ("\u{fe}.want.json", "{}")] {
            fs::write(spool.folder().join(name), content).expect("written");
        }
        fs::write(spool.folder().join(format!("{}.12345678.want.json", id.hex())), "{").expect("written");
        fs::create_dir(spool.content_path(&ObjectId::of(b""), Kind::Payload)).expect("made");
        fs::write(spool.folder().join(OsStr::from_bytes(b"\xff")), "").expect("written");
        let waiting = spool.list().expect("listed");
        assert_eq!((waiting.entries.len(), waiting.strange.len()), (1, 6), "{waiting:?}");
        assert_eq!(waiting.entries[0].wants.len(), 1);
    }

    #[test]
    fn reserved_room_takes_evidence_when_the_disk_is_full() {
        let Some(disk) = SmallDisk::mount("size=2m") else { return };
        let spool = Spool::create(&disk.path().join("spool")).expect("a new spool");
        let reserve = spool.reserve(200_000).expect("there is room");
        assert_eq!(spool.list().expect("listed"), Waiting::default(), "a reserve is no entry");
        if disk::unnamed(spool.folder(), Modes::PRIVATE).is_some() {
            assert_eq!(files(&spool), 0, "a reserve of a process that is killed leaves nothing");
        }
        let mut filler = fs::File::create(disk.path().join("filler")).expect("made");
        while filler.write_all(&[0; 512]).is_ok() {}
        let content = envelope(&"x".repeat(100_000));
        let want = Want { outfile: Some(disk.path().join("out")), ..Want::default() };
        let error = spool.save(Kind::Envelope, &want, &content).expect_err("the disk is full");
        assert!(error.to_string().contains("No space left"), "{error}");
        assert_eq!(spool.list().expect("listed"), Waiting::default());
        let id = reserve.save(Kind::Envelope, &want, &content).expect("there was room in reserve").digest;
        assert_eq!(spool.load(&id, Kind::Envelope).expect("it is whole"), content);
        spool.reserve(1 << 20).expect_err("there is no room to reserve");
        fs::remove_file(disk.path().join("filler")).expect("removed");
        drop(filler);
        spool.resume(&id, None, TIME, &nowhere).expect("delivered");
        assert_eq!(fs::read(disk.path().join("out")).expect("read"), content);
        drop(spool.reserve(1 << 20).expect("there is room"));
        assert_eq!(files(&spool), 0, "a reserve leaves nothing");
    }
}
