//! Writing the file that the user named: looked at before the run, replaced at once after it.
//!
//! A regular file is written aside, flushed and renamed: whoever reads it sees the old content or the new. A link
//! stays, its target is replaced. A device, a FIFO or an open descriptor (`/dev/stdout`) is written directly.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{AccessFlags, access};
use tempfile::NamedTempFile;

use crate::digest::BUFFER;
use crate::store::disk::{self, Modes};

/// Links that are followed to the file that is meant.
const MAX_LINKS: usize = 40;
/// How long one waits for somebody to read from a FIFO.
const FIFO_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks at a FIFO.
const FIFO_PAUSE: Duration = Duration::from_millis(20);

/// A file that is a mount of its own, or another's in a sticky folder, can be written but not replaced.
const MUST_STAY: [Errno; 3] = [Errno::EBUSY, Errno::EPERM, Errno::EXDEV];

/// Why an outfile cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutfileError {
    /// The path names a folder.
    #[error("{}: a folder, not a file", path.display())]
    Folder {
        /// As given.
        path: PathBuf,
    },
    /// Too many links, or links in a circle.
    #[error("{}: too many links", path.display())]
    Links {
        /// As given.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: cannot {action} it: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody reads from the FIFO.
    #[error("{}: a FIFO that nobody reads from", path.display())]
    NoReader {
        /// As given.
        path: PathBuf,
    },
    /// Whoever should write the content failed; the file is as it was.
    #[error("{}: the content cannot be written: {source}", path.display())]
    Producer {
        /// As given.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A file that can be written, as far as one can know before.
#[derive(Debug)]
pub struct Outfile {
    given: PathBuf,
    target: Target,
}

#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// A regular file, there or not, whose folder takes new files.
    Replace(PathBuf),
    /// A regular file in a folder that takes no new files, such as a single file mounted into a container.
    InPlace(PathBuf),
    /// A FIFO, a device, or an open descriptor by its path.
    Stream(PathBuf),
    /// Descriptor 1 or 2.
    Stdout,
    Stderr,
}

impl Outfile {
    /// Looks whether `path` can be written, without changing anything: an existing file keeps its content.
    pub fn probe(path: &Path) -> Result<Self, OutfileError> {
        let folder = || OutfileError::Folder { path: path.to_owned() };
        let failed = |action| move |source| OutfileError::Io { action, path: path.to_owned(), source };
        if path.as_os_str().as_bytes().ends_with(b"/") || path.file_name().is_none() {
            return Err(if path.as_os_str().is_empty() {
                failed("write")(io::Error::from(io::ErrorKind::NotFound))
            } else {
                folder()
            });
        }
        let target = Self::resolve(path, &std::path::absolute(path).map_err(failed("find"))?)?;
        if let Target::Replace(file) = &target {
            let exists = match fs::symlink_metadata(file) {
                Ok(_) => true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(failed("write")(error)),
            };
            if exists {
                access(file.as_path(), AccessFlags::W_OK).map_err(|error| failed("write")(error.into()))?;
            }
            // Only trying tells: permissions, access lists, read-only file systems, quotas. The file has no name where
            // the system can do that, so the folder does not change.
            return match tempfile::tempfile_in(file.parent().unwrap_or(Path::new("/"))) {
                Ok(_) => Ok(Self { given: path.to_owned(), target }),
                Err(_) if exists => Ok(Self { given: path.to_owned(), target: Target::InPlace(file.clone()) }),
                Err(error) => Err(failed("create")(error)),
            };
        }
        if let Target::Stream(file) = &target {
            access(file.as_path(), AccessFlags::W_OK).map_err(|error| failed("write")(error.into()))?;
        }
        Ok(Self { given: path.to_owned(), target })
    }

    fn resolve(given: &Path, absolute: &Path) -> Result<Target, OutfileError> {
        let mut path = absolute.to_owned();
        for _ in 0..MAX_LINKS {
            match path.to_str() {
                Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => return Ok(Target::Stdout),
                Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => return Ok(Target::Stderr),
                _ => {}
            }
            let data = match fs::symlink_metadata(&path) {
                Ok(data) => data,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Target::Replace(path)),
                Err(source) => return Err(OutfileError::Io { action: "find", path: given.to_owned(), source }),
            };
            let kind = data.file_type();
            if kind.is_dir() {
                return Err(OutfileError::Folder { path: given.to_owned() });
            }
            if !kind.is_symlink() {
                return Ok(if kind.is_file() { Target::Replace(path) } else { Target::Stream(path) });
            }
            // A descriptor: what its link says is not the way to what it stands for.
            if path.starts_with("/dev/fd")
                || (path.starts_with("/proc") && path.parent().is_some_and(|p| p.ends_with("fd")))
            {
                return Ok(Target::Stream(path));
            }
            let link = fs::read_link(&path).map_err(|source| OutfileError::Io {
                action: "find",
                path: given.to_owned(),
                source,
            })?;
            path = path.parent().unwrap_or(Path::new("/")).join(link);
        }
        Err(OutfileError::Links { path: given.to_owned() })
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.given
    }

    /// The file that changes when this is written, with links resolved; `None` for what is no regular file.
    pub fn file(&self) -> Option<&Path> {
        match &self.target {
            Target::Replace(path) | Target::InPlace(path) => Some(path),
            _ => None,
        }
    }

    /// Writes `content`.
    pub fn write(&self, content: &[u8]) -> Result<(), OutfileError> {
        self.write_with(|out| out.write_all(content))
    }

    /// Writes what `produce` writes. When this returns, the content is on the disk; when it fails, a regular file is
    /// as it was before (but one in a folder that takes no new files may be cut short).
    pub fn write_with(&self, produce: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), OutfileError> {
        let failed = |source| OutfileError::Io { action: "write", path: self.given.clone(), source };
        match &self.target {
            Target::Replace(path) => {
                let folder = path.parent().unwrap_or(Path::new("/"));
                let mut file = disk::temporary(folder, Modes::SHARED).map_err(failed)?;
                self.fill(file.as_file_mut(), produce)?;
                keep_owner_and_mode(path, file.as_file()).map_err(failed)?;
                self.replace(file, path)
            }
            Target::InPlace(path) => {
                let mut file = OpenOptions::new().write(true).truncate(true).open(path).map_err(failed)?;
                self.fill(&mut file, produce)?;
                file.sync_all().map_err(failed)
            }
            Target::Stream(path) => self.fill(&mut self.open_stream(path)?, produce),
            Target::Stdout => {
                self.fill(&mut File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?), produce)
            }
            Target::Stderr => {
                self.fill(&mut File::from(io::stderr().as_fd().try_clone_to_owned().map_err(failed)?), produce)
            }
        }
    }

    fn fill(
        &self,
        file: &mut File,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), OutfileError> {
        let mut out = Noting { out: BufWriter::with_capacity(BUFFER, file), failed: None };
        let outcome = produce(&mut out).and_then(|()| out.flush());
        let path = || self.given.clone();
        match (outcome, out.failed.take()) {
            (_, Some(source)) => Err(OutfileError::Io { action: "write", path: path(), source }),
            (Err(source), None) => Err(OutfileError::Producer { path: path(), source }),
            (Ok(()), None) => Ok(()),
        }
    }

    fn replace(&self, mut file: NamedTempFile, path: &Path) -> Result<(), OutfileError> {
        let failed = |source| OutfileError::Io { action: "write", path: self.given.clone(), source };
        file.as_file().sync_all().map_err(failed)?;
        match fs::rename(file.path(), path) {
            Ok(()) => {
                // The name is the outfile's now: nothing is left to remove.
                file.disable_cleanup(true);
                disk::sync_folder(path.parent().unwrap_or(Path::new("/"))).map_err(failed)
            }
            Err(error) if MUST_STAY.into_iter().any(|errno| error.raw_os_error() == Some(errno as i32)) => {
                let Ok(mut target) = OpenOptions::new().write(true).open(path) else { return Err(failed(error)) };
                file.rewind().map_err(failed)?;
                let length = io::copy(file.as_file_mut(), &mut target).map_err(failed)?;
                target.set_len(length).map_err(failed)?;
                target.sync_all().map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn open_stream(&self, path: &Path) -> Result<File, OutfileError> {
        let failed = |source| OutfileError::Io { action: "write", path: self.given.clone(), source };
        // Appending: a descriptor may stand for a file that others write to as well.
        let open = |flags: OFlag| OpenOptions::new().append(true).custom_flags(flags.bits()).open(path);
        if !fs::metadata(path).map_err(failed)?.file_type().is_fifo() {
            return open(OFlag::empty()).map_err(failed);
        }
        // Opening a FIFO waits for a reader, forever if there is none.
        for _ in 0..FIFO_PATIENCE.as_millis() / FIFO_PAUSE.as_millis() {
            match open(OFlag::O_NONBLOCK) {
                Ok(file) => {
                    let flags = fcntl(&file, FcntlArg::F_GETFL).map_err(|error| failed(error.into()))?;
                    let flags = OFlag::from_bits_retain(flags) - OFlag::O_NONBLOCK;
                    fcntl(&file, FcntlArg::F_SETFL(flags)).map_err(|error| failed(error.into()))?;
                    return Ok(file);
                }
                Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => std::thread::sleep(FIFO_PAUSE),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(OutfileError::NoReader { path: self.given.clone() })
    }
}

/// Gives the new file the permissions of the one that it replaces and, where that is allowed, its owner.
fn keep_owner_and_mode(path: &Path, new: &File) -> io::Result<()> {
    let Ok(old) = fs::symlink_metadata(path) else { return Ok(()) };
    if !old.is_file() {
        return Ok(());
    }
    let made = new.metadata()?;
    if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
        // Not allowed to most users, and no reason to fail.
        let _ = fchown(new, Some(old.uid()), Some(old.gid()));
    }
    new.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777))
}

/// Keeps what the file system said apart from what the producer says.
struct Noting<W: Write> {
    out: BufWriter<W>,
    failed: Option<io::Error>,
}

impl<W: Write> Noting<W> {
    fn note(&mut self, error: io::Error) -> io::Error {
        let kind = error.kind();
        if kind == io::ErrorKind::Interrupted {
            return error;
        }
        self.failed = Some(error);
        io::Error::from(kind)
    }
}

impl<W: Write> Write for Noting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).map_err(|error| self.note(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush().map_err(|error| self.note(error))
    }
}
