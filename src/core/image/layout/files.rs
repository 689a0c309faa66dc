//! The files of a layout: in a folder, or in a tar file that is read in place.
//!
//! No name leads out: nothing that is a link is followed, and nothing but plain files is read (security rules, "hostile
//! files"). An archive is looked through once; what two readers would read differently is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

/// Most entries of an archive.
const MAX_FILES: usize = 100_000;
/// Longest name in an archive, in bytes.
const MAX_NAME: usize = 4096;

/// A folder or an archive.
pub(super) enum Files {
    /// A folder, by its path.
    Folder(PathBuf),
    /// A tar file, and where in it the files are: offset and size.
    Tar(Arc<File>, BTreeMap<String, (u64, u64)>),
    /// A tar file with a folder over it, in which its changes are.
    Over(Over),
}

/// A tar file that is changed: what is in the folder counts, then what is in the file and was not taken away.
pub(super) struct Over {
    pub(super) folder: PathBuf,
    pub(super) file: Arc<File>,
    pub(super) files: BTreeMap<String, (u64, u64)>,
    gone: Mutex<BTreeSet<String>>,
}

impl Over {
    pub(super) fn new(folder: PathBuf, file: Arc<File>, files: BTreeMap<String, (u64, u64)>) -> Self {
        Self { folder, file, files, gone: Mutex::default() }
    }

    /// Takes a file away.
    pub(super) fn remove(&self, name: &str) {
        if self.files.contains_key(name) {
            self.gone().insert(name.to_owned());
        }
    }

    fn gone(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of what is left of the tar file.
    pub(super) fn left(&self) -> Vec<&String> {
        let gone = self.gone();
        self.files.keys().filter(|name| !gone.contains(*name)).collect()
    }
}

/// A file that is read, and its size.
pub(super) type Opened = (u64, Box<dyn Read + Send>);

fn odd(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

impl Files {
    /// Looks through a tar file.
    pub(super) fn of_tar(path: &Path) -> io::Result<Self> {
        // Opening a FIFO would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(odd("it is no plain file"));
        }
        let size = file.metadata()?.len();
        let mut magic = [0; 4];
        let count = read_full(&mut file, &mut magic)?;
        if let Some(compression) = crate::inflate::Compression::sniff(&magic[..count]) {
            return Err(odd(format!("it is compressed with {}: decompress it first", compression.name())));
        }
        file.seek(SeekFrom::Start(0))?;
        let files = index(&mut file, size)?;
        Ok(Self::Tar(Arc::new(file), files))
    }

    /// Opens a file by a name with `/` between its parts; `None` where it is not there.
    pub(super) fn open(&self, name: &str) -> io::Result<Option<Opened>> {
        match self {
            Self::Folder(folder) => open_below(folder, name),
            Self::Tar(file, files) => Ok(slice(file, files, name)),
            Self::Over(over) => match open_below(&over.folder, name)? {
                Some(opened) => Ok(Some(opened)),
                None if over.gone().contains(name) => Ok(None),
                None => Ok(slice(&over.file, &over.files, name)),
            },
        }
    }

    /// A whole file of at most `limit` bytes.
    pub(super) fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let Some((size, reader)) = self.open(name)? else { return Ok(None) };
        if size > limit as u64 {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{size} bytes; {limit} are read")));
        }
        let mut bytes = Vec::new();
        reader.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it grew above {limit} bytes")));
        }
        Ok(Some(bytes))
    }
}

fn slice(file: &Arc<File>, files: &BTreeMap<String, (u64, u64)>, name: &str) -> Option<Opened> {
    files.get(name).map(|&(at, left)| {
        let slice: Box<dyn Read + Send> = Box::new(Slice { file: Arc::clone(file), at, left });
        (left, slice)
    })
}

/// Opens a plain file below a folder, without following a link below it.
fn open_below(folder: &Path, name: &str) -> io::Result<Option<Opened>> {
    let absent = |error: Errno| if error == Errno::NOENT { Ok(None) } else { Err(io::Error::from(error)) };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut at: OwnedFd = match rustix::fs::open(folder, flags | OFlags::DIRECTORY, Mode::empty()) {
        Ok(at) => at,
        Err(error) => return absent(error),
    };
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        let kind = if parts.peek().is_some() { OFlags::DIRECTORY } else { OFlags::NONBLOCK };
        at = match openat(&at, part, flags | OFlags::NOFOLLOW | kind, Mode::empty()) {
            Ok(at) => at,
            Err(Errno::LOOP) => return Err(odd(format!("`{part}` is a link, and links are not followed"))),
            // What a folder is looked for and a link is found says so too.
            Err(Errno::NOTDIR) => return Err(odd(format!("`{part}` is no folder"))),
            Err(error) => return absent(error),
        };
    }
    let file = File::from(at);
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(odd("it is no plain file"));
    }
    Ok(Some((about.len(), Box::new(file))))
}

/// Where the files of an archive are.
fn index(file: &mut File, size: u64) -> io::Result<BTreeMap<String, (u64, u64)>> {
    let mut files = BTreeMap::new();
    let mut links = BTreeMap::new();
    let mut archive = tar::Archive::new(file);
    for (count, entry) in archive.entries_with_seek()?.enumerate() {
        let mut entry = entry.map_err(|error| odd(reason(&error)))?;
        if count == MAX_FILES {
            return Err(odd(format!("it has more than {MAX_FILES} entries")));
        }
        let name = String::from_utf8(entry.path_bytes().into_owned()).map_err(|_| odd("a name in it is no UTF-8"))?;
        let shown = name.escape_debug().take(200).collect::<String>();
        if name.len() > MAX_NAME {
            return Err(odd(format!("the name `{shown}…` has {} bytes", name.len())));
        }
        let kind = entry.header().entry_type();
        let sparse = entry
            .pax_extensions()?
            .into_iter()
            .flatten()
            .any(|one| one.is_ok_and(|one| one.key_bytes().starts_with(b"GNU.sparse.")));
        if sparse || kind.is_gnu_sparse() {
            return Err(odd(format!("`{shown}` is a sparse file, which readers read differently")));
        }
        if kind.is_dir() {
            continue;
        }
        let name = plain(&name).ok_or_else(|| odd(format!("`{shown}` is no name below the archive")))?;
        if kind.is_symlink() || kind.is_hard_link() {
            // `docker save` of old engines shares layers by links within the archive.
            let to = entry.link_name_bytes().and_then(|to| String::from_utf8(to.into_owned()).ok()).unwrap_or_default();
            let folder = if kind.is_symlink() { name.rsplit_once('/').map_or("", |(folder, _)| folder) } else { "" };
            let to = within(folder, &to).ok_or_else(|| odd(format!("`{shown}` is a link out of the archive")))?;
            if links.insert(name, to).is_some() {
                return Err(odd(format!("`{shown}` is in it twice")));
            }
            continue;
        }
        if !kind.is_file() && !kind.is_contiguous() {
            return Err(odd(format!("`{shown}` is neither a file nor a folder")));
        }
        let (at, length) = (entry.raw_file_position(), entry.size());
        if at.checked_add(length).is_none_or(|end| end > size) {
            return Err(odd(format!("`{shown}` is cut off")));
        }
        if files.insert(name, (at, length)).is_some() {
            return Err(odd(format!("`{shown}` is in it twice")));
        }
    }
    for (name, to) in links {
        // A link to a link is nothing that engines write.
        let Some(&place) = files.get(&to) else { continue };
        if files.insert(name.clone(), place).is_some() {
            return Err(odd(format!("`{}` is in it twice", name.escape_debug())));
        }
    }
    Ok(files)
}

/// Why a file cannot be read as an archive. What the reader says of its bytes is not passed on: it may be any file, and
/// hold a key.
fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof || error.get_ref().is_some() {
        return "it is no tar archive, or damaged".to_owned();
    }
    format!("it is no tar archive: {error}")
}

/// Where a link in `folder` leads; `None` where that is out of the archive.
fn within(folder: &str, to: &str) -> Option<String> {
    if to.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in to.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// A name without `.` and empty parts; `None` where it leads out or nowhere.
pub(super) fn plain(name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!parts.is_empty() && !parts.contains(&"..") && !name.contains('\0')).then(|| parts.join("/"))
}

fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    crate::inflate::fill(reader, buffer).map(|(count, _)| count)
}

/// A part of a file, read without moving the place of other readers.
struct Slice {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
