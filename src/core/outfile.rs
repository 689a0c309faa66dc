//! Writing the file that the user named: looked at before the run, replaced at once after it.
//!
//! A regular file is written aside (without a name where the file system can do that), flushed and named: whoever reads
//! it sees the old content or the new. A link stays, its target is replaced. A device, a FIFO or an open descriptor (`/dev/stdout`) is written directly.

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
use crate::store::disk::{self, Aside, Modes};

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
#[derive(Clone, Debug)]
pub struct Outfile {
    given: PathBuf,
    target: Target,
}

/// Content that is on the disk and has not got its name, if it was written aside. Dropped, it is removed.
#[derive(Debug)]
pub struct Staged(Option<Aside>);

#[derive(Clone, Debug, PartialEq, Eq)]
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
        let mut target = Self::resolve(path, &std::path::absolute(path).map_err(failed("find"))?)?;
        // `..` and links to folders are followed now: what they lead through may be gone when this is written.
        if let Target::Replace(file) = &mut target
            && let (Some(folder), Some(name)) = (file.parent(), file.file_name())
            && let Ok(folder) = folder.canonicalize()
        {
            *file = folder.join(name);
        }
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
            Target::Replace(path) => self.replace(self.write_aside(path, produce)?, path),
            Target::InPlace(path) => {
                let file = OpenOptions::new().write(true).truncate(true).open(path).map_err(failed)?;
                self.fill(&file, produce)?;
                file.sync_all().map_err(failed)
            }
            Target::Stream(path) => self.fill(&self.open_stream(path)?, produce),
            Target::Stdout => {
                self.fill(&File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?), produce)
            }
            Target::Stderr => {
                self.fill(&File::from(io::stderr().as_fd().try_clone_to_owned().map_err(failed)?), produce)
            }
        }
    }

    /// The longer half of [`Outfile::write_with`], for whoever does something else meanwhile: what can be written aside
    /// is, so that [`Outfile::commit`] only gives it its name. Everything else is left to `commit`.
    pub fn stage(&self, produce: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Staged, OutfileError> {
        Ok(Staged(match &self.target {
            Target::Replace(path) => Some(self.write_aside(path, produce)?),
            _ => None,
        }))
    }

    /// The other half; `produce` writes the same as it did for [`Outfile::stage`].
    pub fn commit(
        &self,
        staged: Staged,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), OutfileError> {
        match (staged.0, &self.target) {
            (Some(file), Target::Replace(path)) => self.replace(file, path),
            _ => self.write_with(produce),
        }
    }

    /// Writes the content beside `path` and flushes it.
    fn write_aside(
        &self,
        path: &Path,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Aside, OutfileError> {
        let failed = |source| OutfileError::Io { action: "write", path: self.given.clone(), source };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let aside = Aside::new(folder, Modes::SHARED).map_err(failed)?;
        let file = aside.as_file();
        self.fill(file, produce)?;
        keep_owner_and_mode(path, file).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        Ok(aside)
    }

    fn fill(&self, file: &File, produce: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), OutfileError> {
        let mut out = Noting { out: BufWriter::with_capacity(BUFFER, file), failed: None };
        let outcome = produce(&mut out).and_then(|()| out.flush());
        let path = || self.given.clone();
        match (outcome, out.failed.take()) {
            (_, Some(source)) => Err(OutfileError::Io { action: "write", path: path(), source }),
            (Err(source), None) => Err(OutfileError::Producer { path: path(), source }),
            (Ok(()), None) => Ok(()),
        }
    }

    fn replace(&self, aside: Aside, path: &Path) -> Result<(), OutfileError> {
        let failed = |source| OutfileError::Io { action: "write", path: self.given.clone(), source };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut file = match aside {
            Aside::Named(file) => file,
            Aside::Unnamed(file) => match disk::link(&file, path) {
                Ok(()) => return disk::sync_folder(folder).map_err(failed),
                // A link replaces nothing, so what is there is replaced by renaming.
                Err(_) => to_rename(Aside::Unnamed(file), folder, path).map_err(failed)?,
            },
        };
        match fs::rename(file.path(), path) {
            Ok(()) => {
                // The name is the outfile's now: nothing is left to remove.
                file.disable_cleanup(true);
                disk::sync_folder(folder).map_err(failed)
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

/// What is written, with a name.
fn to_rename(aside: Aside, folder: &Path, path: &Path) -> io::Result<NamedTempFile> {
    let named = aside.named(folder, Modes::SHARED)?;
    keep_owner_and_mode(path, named.as_file())?;
    named.as_file().sync_all()?;
    Ok(named)
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::store::tests::SmallDisk;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("read")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn probing_changes_nothing_and_writing_replaces_at_once() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("build.att.json");
        let outfile = Outfile::probe(&path).expect("it can be written");
        assert_eq!(names(folder.path()), [""; 0]);
        outfile.write(b"one").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"one");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        let outfile = Outfile::probe(&path).expect("it can be written");
        assert_eq!(fs::read(&path).expect("read"), b"one");
        let mut reader = File::open(&path).expect("opened");
        outfile.write(b"two").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640);
        let mut old = String::new();
        reader.read_to_string(&mut old).expect("read");
        assert_eq!(old, "one", "who has the old file open keeps it");
        assert_eq!(names(folder.path()), ["build.att.json"]);
    }

    #[test]
    fn what_is_staged_is_the_file_when_it_is_committed() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("out");
        fs::write(&path, "old").expect("written");
        let outfile = Outfile::probe(&path).expect("it can be written");
        let write = |out: &mut dyn Write| out.write_all(b"new");
        drop(outfile.stage(write).expect("staged"));
        assert_eq!((fs::read(&path).expect("read"), names(folder.path())), (b"old".to_vec(), vec!["out".to_owned()]));
        let staged = outfile.stage(write).expect("staged");
        assert_eq!(fs::read(&path).expect("read"), b"old");
        outfile.commit(staged, |_| panic!("it is written already")).expect("committed");
        assert_eq!((fs::read(&path).expect("read"), names(folder.path())), (b"new".to_vec(), vec!["out".to_owned()]));

        // What is no regular file is written by `commit`.
        let descriptor = File::create(folder.path().join("open")).expect("made");
        let number = std::os::fd::AsRawFd::as_raw_fd(&descriptor);
        let stream = Outfile::probe(Path::new(&format!("/proc/self/fd/{number}"))).expect("it can be written");
        let staged = stream.stage(|_| panic!("it is not written yet")).expect("nothing to do");
        stream.commit(staged, write).expect("written");
        assert_eq!(fs::read(folder.path().join("open")).expect("read"), b"new");
    }

    #[test]
    fn while_it_is_written_nothing_stands_beside_it() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("out");
        if disk::unnamed(folder.path(), Modes::SHARED).is_none() {
            let _ = writeln!(
                io::stderr(),
                "SKIPPED while_it_is_written_nothing_stands_beside_it: every file has a name here"
            );
            return;
        }
        for (text, before) in [("one", vec![]), ("two", vec!["out".to_owned()])] {
            let outfile = Outfile::probe(&path).expect("it can be written");
            outfile
                .write_with(|out| {
                    out.write_all(text.as_bytes())?;
                    out.flush()?;
                    assert_eq!(names(folder.path()), before);
                    Ok(())
                })
                .expect("written");
            assert_eq!(
                (fs::read_to_string(&path).expect("read"), names(folder.path())),
                (text.to_owned(), vec!["out".to_owned()])
            );
            let umask = fs::metadata(folder.path().join("out")).expect("there").permissions().mode();
            let new = File::create(folder.path().join("new")).and_then(|file| file.metadata()).expect("made");
            assert_eq!(umask, new.permissions().mode(), "the umask decides");
            fs::remove_file(folder.path().join("new")).expect("removed");
        }
        // What cannot be linked is copied.
        let file = disk::unnamed(folder.path(), Modes::SHARED).expect("as before");
        (&file).write_all(b"copy").expect("written");
        let copy = to_rename(Aside::Unnamed(file), folder.path(), &path).expect("copied");
        assert_eq!(fs::read(copy.path()).expect("read"), b"copy");
        drop(copy);

        // What came into being meanwhile is replaced.
        fs::remove_file(&path).expect("removed");
        let outfile = Outfile::probe(&path).expect("it can be written");
        let staged = outfile.stage(|out| out.write_all(b"three")).expect("staged");
        assert!(matches!(staged, Staged(Some(Aside::Unnamed(_)))));
        fs::write(&path, "of another").expect("written");
        outfile.commit(staged, |_| panic!("it is written already")).expect("committed");
        assert_eq!(
            (fs::read_to_string(&path).expect("read"), names(folder.path())),
            ("three".to_owned(), vec!["out".to_owned()])
        );
    }

    #[test]
    fn a_producer_that_fails_leaves_the_old_content() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("out");
        fs::write(&path, "old").expect("written");
        let outfile = Outfile::probe(&path).expect("it can be written");
        let error = outfile
            .write_with(|out| {
                out.write_all(&vec![b'x'; 300_000])?;
                Err(io::Error::other("the signer failed"))
            })
            .expect_err("the producer failed");
        assert!(matches!(error, OutfileError::Producer { .. }), "{error}");
        assert_eq!(fs::read(&path).expect("read"), b"old");
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn a_link_stays_and_its_target_is_written() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let real = folder.path().join("real");
        fs::create_dir(&real).expect("made");
        let (link, second) = (folder.path().join("link"), folder.path().join("second"));
        symlink("real/out", &link).expect("linked");
        symlink("link", &second).expect("linked");
        for text in ["made", "replaced"] {
            let outfile = Outfile::probe(&second).expect("it can be written");
            assert_eq!(outfile.file(), Some(real.join("out").as_path()));
            outfile.write(text.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(real.join("out")).expect("read"), text);
        }
        assert!(fs::symlink_metadata(&second).expect("there").is_symlink());
        symlink("circle", folder.path().join("circle")).expect("linked");
        let error = Outfile::probe(&folder.path().join("circle")).expect_err("a circle");
        assert!(matches!(error, OutfileError::Links { .. }), "{error}");
    }

    #[test]
    fn what_cannot_be_written_is_told_before() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "x").expect("written");
        let missing = Outfile::probe(&path("no/such/out")).expect_err("no folder");
        assert!(missing.to_string().contains("no/such/out"), "{missing}");
        Outfile::probe(&path("file/out")).expect_err("a file is no folder");
        for name in ["", ".", "..", "new/"] {
            let error = Outfile::probe(&path(name)).expect_err("a folder");
            assert!(matches!(error, OutfileError::Folder { .. }), "`{name}`: {error}");
        }
        Outfile::probe(Path::new("")).expect_err("no name");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_read_only_place_is_told_before_and_after() {
        let Some(disk) = SmallDisk::mount("size=256k") else { return };
        let path = disk.path().join("out");
        fs::write(&path, "old").expect("written");
        let before = Outfile::probe(&path).expect("it can be written");
        let mut filler = File::create(disk.path().join("filler")).expect("made");
        while filler.write_all(&[0; 512]).is_ok() {}
        let error = before.write(&[b'x'; 10_000]).expect_err("the disk is full");
        let OutfileError::Io { source, path: named, .. } = &error else { panic!("{error}") };
        assert_eq!((source.kind(), named), (io::ErrorKind::StorageFull, &path));
        drop(filler);
        disk.remount("ro");
        for path in [&path, &disk.path().join("new")] {
            let error = Outfile::probe(path).expect_err("nothing can be written");
            assert!(error.to_string().contains("Read-only"), "{error}");
        }
        before.write(b"new").expect_err("nothing can be written");
        assert_eq!(fs::read(&path).expect("read"), b"old");
    }

    #[test]
    fn a_file_that_is_a_mount_of_its_own_is_written_in_place() {
        let Some(disk) = SmallDisk::mount("size=256k") else { return };
        let (inner, outer) = (disk.path().join("inner"), disk.path().join("outer"));
        fs::write(&inner, "a long old content").expect("written");
        fs::write(&outer, "").expect("written");
        let mount = |arguments: &[&std::ffi::OsStr]| {
            std::process::Command::new(arguments[0]).args(&arguments[1..]).status().is_ok_and(|status| status.success())
        };
        assert!(mount(&["mount".as_ref(), "--bind".as_ref(), inner.as_ref(), outer.as_ref()]), "it could mount before");
        let outcome = Outfile::probe(&outer).and_then(|outfile| outfile.write(b"new"));
        assert!(mount(&["umount".as_ref(), outer.as_ref()]));
        outcome.expect("written");
        assert_eq!(fs::read(&inner).expect("read"), b"new");
        assert_eq!(names(disk.path()), ["inner", "outer"]);
    }

    #[test]
    fn devices_and_fifos_are_written_directly() {
        let null = Outfile::probe(Path::new("/dev/null")).expect("it can be written");
        assert_eq!(null.target, Target::Stream("/dev/null".into()));
        null.write(b"gone").expect("written");
        for (path, target) in [("/dev/stdout", Target::Stdout), ("/dev/fd/2", Target::Stderr)] {
            assert_eq!(Outfile::probe(Path::new(path)).expect("it can be written").target, target);
        }
        let folder = tempfile::tempdir().expect("a folder for the test");
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("made");
        let outfile = Outfile::probe(&fifo).expect("it can be written");
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || {
                let mut out = Vec::new();
                File::open(fifo).and_then(|mut file| file.read_to_end(&mut out)).expect("read");
                out
            }
        });
        // More than a pipe holds: the writer must wait, not fail.
        let content = vec![b'x'; 1 << 20];
        outfile.write(&content).expect("written");
        assert_eq!(reader.join().expect("read").len(), content.len());
        let descriptor = File::create(folder.path().join("open")).expect("made");
        let number = std::os::fd::AsRawFd::as_raw_fd(&descriptor);
        (&descriptor).write_all(b"before ").expect("written");
        let outfile = Outfile::probe(Path::new(&format!("/proc/self/fd/{number}"))).expect("it can be written");
        outfile.write(b"after").expect("written");
        assert_eq!(fs::read(folder.path().join("open")).expect("read"), b"before after");
    }
}
