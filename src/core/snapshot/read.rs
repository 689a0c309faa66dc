//! Reading one file: its digests, its first bytes, and whether it stood still.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;

use super::Tap;
use super::omission::Reason;
use super::pool::lock;
use super::sys::{self, Key, Kind};
use super::table::NONE;
use super::walk::{Fresh, Walk, Worker, refusal};
use crate::digest::Hasher;
use crate::mime;

/// How often a file that changes while it is read is tried.
const ATTEMPTS: u32 = 3;
/// Pause before such a file is tried again.
const PAUSE: Duration = Duration::from_millis(5);
/// A file whose change time is this close to the moment of reading may change again without a new time.
const YOUNG_NANOS: i64 = 2_000_000_000;
/// A file that was read to its end.
pub(super) struct Content {
    pub(super) key: Key,
    pub(super) recheck: bool,
    pub(super) digests: Vec<u8>,
    tap: Option<Box<dyn Tap>>,
}

impl Walk<'_> {
    /// Reads and hashes a file; tries again while it changes.
    pub(super) fn read(
        &self,
        worker: &mut Worker,
        path: &str,
        open: &dyn Fn() -> Result<OwnedFd, Errno>,
    ) -> Result<Content, Reason> {
        let mut attempt = 1;
        loop {
            match self.read_once(worker, path, open) {
                Err(Reason::Changing) if attempt < ATTEMPTS => {
                    std::thread::sleep(PAUSE * attempt);
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn read_once(
        &self,
        worker: &mut Worker,
        path: &str,
        open: &dyn Fn() -> Result<OwnedFd, Errno>,
    ) -> Result<Content, Reason> {
        let now = self.now();
        let mut file = File::from(open().map_err(refusal)?);
        let before = sys::stat_fd(file.as_fd()).map_err(refusal)?;
        if before.kind != Kind::File {
            return Err(Reason::Replaced);
        }
        let size = before.key.size;
        let mut hasher = Hasher::new(self.algorithms, size);
        let mut tap = None;
        let mut first = true;
        loop {
            let filled = fill(&mut file, &mut worker.buffer, if first { mime::HEAD } else { 1 })
                .map_err(|error| Reason::Unreadable(describe(&error)))?;
            let bytes = &worker.buffer[..filled];
            if first && self.second.is_some() {
                worker.head.clear();
                worker.head.extend_from_slice(&bytes[..filled.min(mime::HEAD)]);
                tap = self
                    .tap
                    .filter(|_| self.options.products.takes(path))
                    .and_then(|tap| tap(path, &worker.head, size));
            }
            first = false;
            hasher.update(bytes);
            if let Some(tap) = &mut tap {
                tap.bytes(bytes);
            }
            self.progress.add_bytes(filled as u64);
            // A regular file that filled less than was asked for has ended; past its size it grows.
            if filled == 0 || hasher.length() > size || (hasher.length() == size && filled < worker.buffer.len()) {
                break;
            }
        }
        let after = sys::stat_fd(file.as_fd()).map_err(refusal)?;
        if after.key != before.key {
            return Err(Reason::Changing);
        }
        if hasher.length() != size {
            return Err(Reason::SizeDiffers);
        }
        self.progress.add_file();
        let recheck = self.recheck(worker, &file, &before.key, now);
        Ok(Content { key: before.key, recheck, digests: hasher.finish(), tap })
    }

    pub(super) fn now(&self) -> i64 {
        (self.clock)().nanos()
    }

    /// Whether the key of an entry that was looked at after `now` does not tell if it changes.
    pub(super) fn recheck(&self, worker: &mut Worker, fd: &impl AsFd, key: &Key, now: i64) -> bool {
        if key.ctime >= now.saturating_sub(YOUNG_NANOS) {
            return true;
        }
        if let Some((device, keeps)) = worker.device
            && device == key.device
        {
            return !keeps;
        }
        let mut devices = lock(&self.devices);
        let known = devices.iter().find(|(device, _)| *device == key.device).map(|(_, keeps)| *keeps);
        let keeps = known.unwrap_or_else(|| {
            let keeps = sys::keeps_change_time(fd.as_fd());
            devices.push((key.device, keeps));
            keeps
        });
        worker.device = Some((key.device, keeps));
        !keeps
    }
}

impl Content {
    /// The result of a second look; what listened to the bytes is told the digests.
    pub(super) fn fresh(mut self, walk: &Walk<'_>, worker: &Worker, path: &str, whole: u32) -> Fresh {
        if let Some(tap) = self.tap.take()
            && whole == NONE
        {
            tap.done(&super::digest_set(&walk.options.hashes, &self.digests));
        }
        Fresh {
            path: path.to_owned(),
            whole,
            key: self.key,
            digests: self.digests,
            mime: mime::detect(&worker.head),
            own_changed: false,
        }
    }
}

/// Fills `buffer` with at least `wanted` bytes, fewer only at the end of the file.
fn fill(file: &mut File, buffer: &mut [u8], wanted: usize) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < wanted {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn describe(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |raw| Errno::from_raw(raw).desc().to_lowercase())
}
