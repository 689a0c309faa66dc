//! Files that survive a crash: written aside, flushed, renamed, and the folder flushed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;
use tempfile::{Builder, NamedTempFile};

/// First bytes of the name of every file that is still being written.
pub(crate) const TEMPORARY_PREFIX: &str = ".affiant-";
/// How long one waits for another process that holds a lock before going on without it.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two attempts to take a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Permissions of what is created, before the umask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Modes {
    /// Of folders.
    pub(crate) folder: u32,
    /// Of files.
    pub(crate) file: u32,
}

impl Modes {
    /// For what a team shares: the umask decides.
    pub(crate) const SHARED: Self = Self { folder: 0o777, file: 0o666 };
    /// For what only its owner may see.
    pub(crate) const PRIVATE: Self = Self { folder: 0o700, file: 0o600 };
}

/// Makes the folder `path` if it is not there; its parent must exist. A link to a folder is taken as one.
pub(crate) fn make_folder(path: &Path, modes: Modes) -> io::Result<()> {
    step()?;
    match DirBuilder::new().mode(modes.folder).create(path) {
        Ok(()) => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
            _ => sync_folder(Path::new(".")),
        },
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::metadata(path)?.is_dir() {
                Ok(())
            } else {
                Err(io::Error::from(io::ErrorKind::NotADirectory))
            }
        }
        Err(error) => Err(error),
    }
}

/// Makes `path` and the folders above it that are missing.
pub(crate) fn make_folders(path: &Path, modes: Modes) -> io::Result<()> {
    match make_folder(path, modes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                make_folders(parent, modes)?;
                make_folder(path, modes)
            }
            _ => Err(error),
        },
        other => other,
    }
}

/// Makes the names in the folder `path` survive a power loss.
///
/// Some network file systems cannot do that for folders and say so with `EINVAL` or `EOPNOTSUPP`; they
/// write names through by themselves.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    step()?;
    match File::open(path)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

/// Opens a file for reading, and only a file: no link at its last name, no FIFO that would hang.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// A new file with a name of its own in `folder`; dropped, it is removed.
pub(crate) fn temporary(folder: &Path, modes: Modes) -> io::Result<NamedTempFile> {
    step()?;
    Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .suffix(".tmp")
        .permissions(fs::Permissions::from_mode(modes.file))
        .tempfile_in(folder)
}

/// A new file in `folder` without a name, which leaves nothing behind when this process is killed; `None` where the file
/// system has no such files, or [`link`] could not name it.
pub(crate) fn unnamed(folder: &Path, modes: Modes) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(modes.file).custom_flags(OFlag::O_TMPFILE.bits());
    options.open(folder).ok().filter(|file| descriptor_path(file).try_exists().is_ok_and(|there| there))
}

fn descriptor_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Gives a file of [`unnamed`] the name `path`, where nothing may have that name.
pub(crate) fn link(file: &File, path: &Path) -> io::Result<()> {
    step()?;
    Ok(linkat(AT_FDCWD, &descriptor_path(file), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?)
}

/// Gives a file of [`unnamed`] a name as that of [`temporary`].
pub(crate) fn named(file: &File, folder: &Path) -> io::Result<NamedTempFile> {
    Builder::new().prefix(TEMPORARY_PREFIX).suffix(".tmp").make_in(folder, |path| {
        link(file, path)?;
        file.try_clone()
    })
}

/// A file that is written beside its place: without a name, so that nothing of it is left when this process is killed,
/// where the file system has such files.
#[derive(Debug)]
pub(crate) enum Aside {
    /// It vanishes with this process.
    Unnamed(File),
    /// It is removed when it is dropped, and stays when this process is killed.
    Named(NamedTempFile),
}

impl Aside {
    /// A new one in `folder`.
    pub(crate) fn new(folder: &Path, modes: Modes) -> io::Result<Self> {
        match unnamed(folder, modes) {
            Some(file) => Ok(Self::Unnamed(file)),
            None => temporary(folder, modes).map(Self::Named),
        }
    }

    /// The file.
    pub(crate) fn as_file(&self) -> &File {
        match self {
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Gives it a name in `folder`, the one in which it was made, to be renamed. What cannot be linked is copied.
    pub(crate) fn named(self, folder: &Path, modes: Modes) -> io::Result<NamedTempFile> {
        let mut file = match self {
            Self::Named(file) => return Ok(file),
            Self::Unnamed(file) => file,
        };
        if let Ok(named) = named(&file, folder) {
            return Ok(named);
        }
        let mut copy = temporary(folder, modes)?;
        file.rewind()?;
        io::copy(&mut file, copy.as_file_mut())?;
        copy.as_file().set_permissions(file.metadata()?.permissions())?;
        Ok(copy)
    }
}

/// Gives `file` its final name `target`, in a folder of the same file system, so that after a crash either the
/// whole content is there or nothing.
pub(crate) fn publish(mut file: NamedTempFile, target: &Path) -> io::Result<()> {
    file.flush()?;
    step()?;
    file.as_file().sync_all()?;
    rename(file, target)?;
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// Only the renaming of [`publish`]: for a file that is flushed, where the caller flushes the folder.
pub(crate) fn rename(file: NamedTempFile, target: &Path) -> io::Result<()> {
    step()?;
    file.persist(target).map(drop).map_err(|error| error.error)
}

/// Removes a file; one that another process removed is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    step()?;
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// How a lock was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Held by many at once.
    Shared,
    /// Held by one, waited for.
    Exclusive,
    /// Held by one, not waited for.
    ExclusiveNow,
}

/// What became of asking for a lock.
#[derive(Debug)]
pub(crate) enum Locked {
    /// Held until the file is dropped.
    Held(#[expect(dead_code, reason = "kept open: closing it gives the lock back")] File),
    /// Another process holds it.
    Elsewhere,
    /// There are no locks here (read-only folder, or a file system without them).
    Without,
}

/// Takes the advisory lock `path`, which is created where it is missing and can be.
pub(crate) fn lock(path: &Path, how: Lock, modes: Modes) -> Locked {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let open = || match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            OpenOptions::new().read(true).write(true).create(true).mode(modes.file).custom_flags(flags).open(path)
        }
        other => other,
    };
    let Ok(file) = open() else { return Locked::Without };
    let attempts = if how == Lock::ExclusiveNow { 1 } else { LOCK_PATIENCE.as_millis() / LOCK_PAUSE.as_millis() };
    for attempt in 0..attempts {
        if attempt > 0 {
            std::thread::sleep(LOCK_PAUSE);
        }
        let outcome = if how == Lock::Shared { file.try_lock_shared() } else { file.try_lock() };
        match outcome {
            Ok(()) => return Locked::Held(file),
            Err(fs::TryLockError::WouldBlock) => {}
            Err(fs::TryLockError::Error(_)) => return Locked::Without,
        }
    }
    Locked::Elsewhere
}

/// A place where a crash can happen: in tests it can be made to.
#[cfg(not(test))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "it fails in tests")]
fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use fuse::{burn, step};

#[cfg(test)]
mod fuse {
    use std::cell::Cell;
    use std::io;

    thread_local! { static LEFT: Cell<Option<u32>> = const { Cell::new(None) } }

    /// After `steps` more operations on the disk every further one of this thread fails; `None`: never.
    pub(crate) fn burn(steps: Option<u32>) {
        LEFT.set(steps);
    }

    pub(crate) fn step() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the power failed")),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}
