//! Waiting for gix: it opens the files of a repository and of its worktree as they come, so a FIFO in the place of one
//! would keep it waiting for ever.
//!
//! The work is done by a thread of its own. When it takes long, it is looked for FIFOs that somebody waits at, which
//! costs nothing where there are none.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nix::fcntl::OFlag;

/// How long one waits before looking for the first time; each time twice as long as the time before.
const PATIENCE: Duration = Duration::from_secs(1);
/// Folders that are looked into at one time; what hides behind more ends with the attestor's time limit.
const MAX_FOLDERS: usize = 1 << 20;
/// What gix reads wherever it stands in a worktree.
const READ_EVERYWHERE: [&str; 2] = [".gitattributes", ".gitignore"];

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum WaitError {
    /// It would never come.
    #[error("{} is a FIFO", fifo.display())]
    Fifo {
        /// What was waited for.
        fifo: PathBuf,
    },
    /// Nobody can do the work.
    #[error("no thread for it: {0}")]
    NoThread(#[source] io::Error),
}

/// Does `work`, which reads these folders of a worktree and these git folders.
pub(super) fn patiently<T: Send + 'static>(
    worktrees: &[&Path],
    git_dirs: &[PathBuf],
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, WaitError> {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("git".to_owned());
    let thread = thread
        .spawn(move || {
            // A send fails only when nobody waits any more.
            let _ = sender.send(work());
        })
        .map_err(WaitError::NoThread)?;
    let mut patience = PATIENCE;
    loop {
        match receiver.recv_timeout(patience) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(fifo) = waited_for(worktrees, git_dirs) {
                    return Err(WaitError::Fifo { fifo });
                }
                patience = patience.saturating_mul(2);
            }
            // It panicked: so do we, as if it had been done here.
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => return Err(WaitError::NoThread(io::ErrorKind::BrokenPipe.into())),
            },
        }
    }
}

/// A FIFO that git reads and that somebody has opened for reading.
fn waited_for(worktrees: &[&Path], git_dirs: &[PathBuf]) -> Option<PathBuf> {
    // In a git folder no FIFO has its place, whatever its name.
    let mut folders: Vec<(PathBuf, bool)> = git_dirs.iter().map(|dir| (dir.clone(), true)).collect();
    folders.extend(worktrees.iter().map(|dir| ((*dir).to_owned(), false)));
    let mut looked = 0;
    while let Some((folder, any_name)) = folders.pop() {
        looked += 1;
        if looked > MAX_FOLDERS {
            return None;
        }
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let (Ok(kind), name) = (entry.file_type(), entry.file_name()) else { continue };
            if kind.is_dir() {
                folders.push((entry.path(), any_name || name == ".git"));
            } else if kind.is_fifo() && (any_name || READ_EVERYWHERE.iter().any(|read| name == *read)) {
                let path = entry.path();
                if has_reader(&path) {
                    return Some(path);
                }
            }
        }
    }
    None
}

/// Whether somebody has opened the FIFO for reading, or waits to. Who waits is let go, and reads nothing.
fn has_reader(fifo: &Path) -> bool {
    OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(fifo).is_ok()
}
