//! Folders beside archives in which their changes are.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

/// How the name of a folder begins in which the changes of an archive are.
const SCRATCH: &str = ".affiant-layout-";

/// A folder beside a file, in which its changes are. It is removed in the end, or by the next one where this process is killed.
pub(super) struct Scratch {
    folder: tempfile::TempDir,
    /// Locked: who has no lock on such a folder is gone.
    _held: File,
}

impl Scratch {
    /// A new one. What processes left that were killed is removed.
    pub(super) fn beside(file: &Path) -> io::Result<Self> {
        let place = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for left in fs::read_dir(place)?.flatten() {
            let is_one = left.file_name().as_encoded_bytes().starts_with(SCRATCH.as_bytes())
                && left.file_type().is_ok_and(|kind| kind.is_dir());
            // The lock is kept until it is gone: another process may just be making it its own.
            if is_one && let Some(_held) = locked(&left.path()) {
                // Another process may be as fast.
                let _ = fs::remove_dir_all(left.path());
            }
        }
        loop {
            let folder = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(place)?;
            let held = match File::open(folder.path()) {
                // Another process took it for one that was left.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            match held.try_lock() {
                Ok(()) if !folder.path().exists() => {}
                Err(TryLockError::WouldBlock) => {}
                // Where there are no locks, nobody takes it away either.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(Self { folder, _held: held }),
            }
        }
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A folder that nobody else holds, held.
fn locked(folder: &Path) -> Option<File> {
    let file = File::open(folder).ok()?;
    file.try_lock().is_ok().then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_killed_left_goes_and_what_is_in_use_stays() {
        let place = tempfile::tempdir().expect("a folder");
        let archive = place.path().join("a.tar");
        let left = place.path().join(".affiant-layout-left");
        fs::create_dir_all(left.join("layout/blobs")).expect("made");
        fs::write(left.join("layout/index.json"), "{}").expect("written");
        let other = place.path().join(".affiant-layout-link");
        let kept = place.path().join("kept");
        fs::create_dir(&kept).expect("made");
        std::os::unix::fs::symlink(&kept, &other).expect("linked");
        let one = Scratch::beside(&archive).expect("a folder");
        assert!(!left.exists());
        fs::write(one.path().join("index.json"), "{}").expect("written");
        let two = Scratch::beside(&archive).expect("another");
        assert!(one.path().join("index.json").exists() && two.path().exists() && other.exists() && kept.exists());
        let was = one.path().to_owned();
        drop(one);
        assert!(!was.exists());
    }
}
