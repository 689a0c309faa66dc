//! The bytes of one output stream: from the child to where our own stream goes, digested on the way.
//!
//! Each stream has a thread of its own, because our own stdout and stderr must never be made non-blocking: the flag would
//! belong to the open file that we share with the shell. A blocked write is then exactly the backpressure that the child
//! would have felt without us.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::signals::{Blocked, retry};
use crate::{LINGER, LINGER_LIMIT, Stream};

/// How much is read at a time, in bytes: what stays in a core's cache until it is digested.
const CHUNK: usize = 1 << 18;
/// What a pipe to the child is grown to, where the kernel allows it.
const PIPE_SIZE: i32 = 1 << 20;
/// After this many bytes a second thread takes over the digest: short output is not worth a thread.
const LONG: u64 = 4 << 20;
/// Buffers under way to the digest thread; with the one being filled this bounds the memory of a stream.
const UNDER_WAY: usize = 3;

/// A pipe whose ends are neither inherited nor numbered 0 to 2, whatever was closed when we were started.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = unistd::pipe2(OFlag::O_CLOEXEC)?;
    Ok((lift(read)?, lift(write)?))
}

/// Moves a descriptor out of the numbers that a child takes for its standard streams.
pub(crate) fn lift(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    if descriptor.as_raw_fd() > 2 {
        return Ok(descriptor);
    }
    // `try_clone` takes a number of at least 3 and keeps close-on-exec.
    descriptor.try_clone()
}

/// A pipe for the child's output: our reading end is non-blocking (it is ours alone), the child's end is not.
pub(crate) fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe()?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    grow(read.as_fd());
    Ok((read, write))
}

/// Makes a pipe larger: fewer turns between its two ends.
fn grow(pipe: BorrowedFd<'_>) {
    // Refused when it is no pipe or the user's pipe memory is used up; a smaller pipe is only slower.
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
}

/// What is kept of a stream.
struct Kept {
    sha256: Sha256,
    length: u64,
    head: Vec<u8>,
    head_limit: usize,
    /// The newest bytes; up to twice the limit, so that forgetting costs little.
    tail: Vec<u8>,
    tail_limit: usize,
}

impl Kept {
    fn take(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.length += bytes.len() as u64;
        let room = (self.head_limit - self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        if rest.len() >= self.tail_limit {
            self.tail.clear();
            self.tail.extend_from_slice(&rest[rest.len() - self.tail_limit..]);
        } else {
            if self.tail.len() + rest.len() > 2 * self.tail_limit {
                self.tail.drain(..self.tail.len() + rest.len() - self.tail_limit);
            }
            self.tail.extend_from_slice(rest);
        }
    }
}

/// How reading came to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finish {
    /// Why our own stream took no more bytes, if it did not.
    pub(crate) cut: Option<io::ErrorKind>,
    /// Somebody still held the other end.
    pub(crate) left_behind: bool,
}

/// One stream under way.
pub(crate) struct Tee {
    kept: Arc<Mutex<Kept>>,
    done: oneshot::Receiver<Finish>,
    finish: Option<Finish>,
    /// A terminal's bytes, both streams of the child in one.
    terminal: bool,
}

/// Where a tee reads and writes.
pub(crate) struct Route {
    /// Read end of a pipe or the master of a pty, non-blocking.
    pub(crate) source: OwnedFd,
    /// Our own stdout or stderr.
    pub(crate) sink: OwnedFd,
    /// Hangs up when the child has ended.
    pub(crate) ended: OwnedFd,
    pub(crate) terminal: bool,
    pub(crate) shared: Arc<Shared>,
}

/// What the two streams of a child have in common.
#[derive(Default)]
pub(crate) struct Shared {
    /// Set when nobody waits for the streams any more: nothing is written after that.
    pub(crate) given_up: AtomicBool,
    /// How many streams are passing bytes on just now.
    busy: AtomicUsize,
    /// How many chunks have been read. A descendant that writes to one stream may still want to write to the other.
    chunks: AtomicUsize,
}

impl Tee {
    /// Starts copying. `head` and `tail` are in bytes.
    pub(crate) fn start(route: Route, head: usize, tail: usize) -> io::Result<Self> {
        let kept = Arc::new(Mutex::new(Kept {
            sha256: Sha256::new(),
            length: 0,
            head: Vec::new(),
            head_limit: head,
            tail: Vec::new(),
            tail_limit: tail,
        }));
        let (send, done) = oneshot::channel();
        let terminal = route.terminal;
        let sums = Arc::clone(&kept);
        // Signals are the main thread's: a stop must not be taken here while it thinks that it has been discarded. Only
        // the terminal's answer to a write from the background has to come, where `stty tostop` asks for it.
        let _blocked = Blocked::all()?;
        thread::Builder::new().name("tee".into()).spawn(move || {
            let _ = SigSet::from(Signal::SIGTTOU).thread_unblock();
            let finish = copy(route, &sums);
            // Nobody listens any more when the supervisor has given up waiting.
            let _ = send.send(finish);
        })?;
        Ok(Self { kept, done, finish: None, terminal })
    }

    /// Waits until everything was passed on. Cancel-safe.
    pub(crate) async fn finished(&mut self) {
        if self.finish.is_none() {
            self.finish = Some((&mut self.done).await.unwrap_or_default());
        }
    }

    /// What was seen. Where copying has not come to its end (a reader that blocks us for ever) it is what was passed on
    /// until now, and counts as cut.
    pub(crate) fn stream(self) -> (Stream, bool) {
        let finish = self.finish.unwrap_or(Finish { cut: Some(io::ErrorKind::Interrupted), left_behind: true });
        let kept = lock(&self.kept);
        let tail = &kept.tail[kept.tail.len().saturating_sub(kept.tail_limit)..];
        let stream = Stream {
            sha256: kept.sha256.clone().finalize().into(),
            length: kept.length,
            head: kept.head.clone(),
            tail: tail.to_vec(),
            connected: true,
            terminal: self.terminal,
            cut: finish.cut,
        };
        (stream, finish.left_behind)
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A second thread that digests, and the buffers that go round between it and us.
struct Digester {
    /// Buffers, and how many bytes of each are filled.
    full: SyncSender<(Vec<u8>, usize)>,
    empty: Receiver<Vec<u8>>,
    thread: thread::JoinHandle<()>,
}

impl Digester {
    fn start(kept: &Arc<Mutex<Kept>>) -> io::Result<Self> {
        let (full, to_do) = sync_channel::<(Vec<u8>, usize)>(UNDER_WAY);
        let (give_back, empty) = sync_channel(UNDER_WAY);
        for _ in 0..UNDER_WAY {
            // Fits: the channel holds as many.
            let _ = give_back.send(vec![0; CHUNK]);
        }
        let kept = Arc::clone(kept);
        let thread = thread::Builder::new().name("digest".into()).spawn(move || {
            while let Ok((buffer, filled)) = to_do.recv() {
                lock(&kept).take(&buffer[..filled]);
                // Never blocks: there are no more buffers than the channel holds and the one being filled.
                let _ = give_back.send(buffer);
            }
        })?;
        Ok(Self { full, empty, thread })
    }

    /// Hands over a filled buffer and takes an empty one for it.
    fn exchange(&self, buffer: Vec<u8>, filled: usize) -> Vec<u8> {
        // Both ends live as long as the thread, which ends only when `full` is dropped.
        let next = self.empty.recv().unwrap_or_else(|_| vec![0; CHUNK]);
        let _ = self.full.send((buffer, filled));
        next
    }
}

/// What waiting for the source has brought.
enum Wait {
    Readable,
    ChildEnded,
    Silence,
}

fn copy(route: Route, kept: &Arc<Mutex<Kept>>) -> Finish {
    let mut buffer = vec![0_u8; CHUNK];
    let mut length = 0_u64;
    let mut digester = None;
    let mut finish = Finish::default();
    let mut ended: Option<Instant> = None;
    // What the child had written when it ended is passed on without any limit; only what comes after can be too much.
    let mut owed = 0_u64;
    let mut chunks = 0;
    loop {
        let filled = match retry(|| unistd::read(&route.source, &mut buffer)) {
            Ok(0) | Err(Errno::EIO) => break,
            Ok(filled) => filled,
            Err(Errno::EAGAIN) => match wait(&route, ended.is_some()) {
                Ok(Wait::Readable) => continue,
                Ok(Wait::ChildEnded) => {
                    ended = Some(Instant::now());
                    continue;
                }
                Ok(Wait::Silence) if others_are_active(&route.shared, &mut chunks) => continue,
                Ok(Wait::Silence) | Err(_) => {
                    finish.left_behind = true;
                    break;
                }
            },
            Err(_) => break,
        };
        route.shared.busy.fetch_add(1, Ordering::Relaxed);
        chunks = route.shared.chunks.fetch_add(1, Ordering::Relaxed) + 1;
        if finish.cut.is_none()
            && let Err(error) = write_all(route.sink.as_fd(), &buffer[..filled])
        {
            finish.cut = Some(io::Error::from(error).kind());
        }
        if route.shared.given_up.load(Ordering::Relaxed) {
            break;
        }
        length += filled as u64;
        if digester.is_none() && length > LONG {
            digester = Digester::start(kept).ok();
            // Ours and the reader's: the default of 64 KiB costs a switch between them for each quarter of a chunk.
            grow(route.sink.as_fd());
        }
        match &digester {
            None => lock(kept).take(&buffer[..filled]),
            Some(digester) => buffer = digester.exchange(buffer, filled),
        }
        route.shared.busy.fetch_sub(1, Ordering::Relaxed);
        if finish.cut.is_some() && !route.terminal {
            // Closing our end tells the child what our reader told us. A pty has no such way, so its bytes are only
            // read and dropped; where the terminal is gone the hangup tells the child.
            break;
        }
        if ended.is_none() && matches!(peek_ended(&route), Ok(true)) {
            ended = Some(Instant::now());
            owed = pending(route.source.as_fd());
        } else if let Some(since) = ended {
            owed = owed.saturating_sub(filled as u64);
            if owed == 0 && since.elapsed() > LINGER_LIMIT {
                finish.left_behind = true;
                break;
            }
        }
    }
    drop(route);
    if let Some(Digester { full, empty, thread }) = digester {
        drop(full);
        let _ = thread.join();
        drop(empty);
    }
    finish
}

/// After a silence of this stream: has the other one had bytes meanwhile, or is it still passing some on? `chunks` is the
/// number at the last look.
fn others_are_active(shared: &Shared, chunks: &mut usize) -> bool {
    let now = shared.chunks.load(Ordering::Relaxed);
    let active = now != *chunks || shared.busy.load(Ordering::Relaxed) > 0;
    *chunks = now;
    active
}

/// Waits for bytes; before the child's end also for that, after it at most [`LINGER`].
fn wait(route: &Route, ended: bool) -> nix::Result<Wait> {
    let mut set =
        [PollFd::new(route.source.as_fd(), PollFlags::POLLIN), PollFd::new(route.ended.as_fd(), PollFlags::POLLIN)];
    let (set, timeout) = if ended { (&mut set[..1], millis(LINGER)) } else { (&mut set[..], PollTimeout::NONE) };
    let ready = retry(|| poll(set, timeout))?;
    if ready == 0 {
        return Ok(Wait::Silence);
    }
    if set[0].any() == Some(true) { Ok(Wait::Readable) } else { Ok(Wait::ChildEnded) }
}

fn peek_ended(route: &Route) -> nix::Result<bool> {
    let mut set = [PollFd::new(route.ended.as_fd(), PollFlags::POLLIN)];
    Ok(retry(|| poll(&mut set, PollTimeout::ZERO))? > 0)
}

fn millis(duration: Duration) -> PollTimeout {
    PollTimeout::try_from(duration).unwrap_or(PollTimeout::MAX)
}

/// How many bytes wait in a pipe or pty.
fn pending(source: BorrowedFd<'_>) -> u64 {
    use std::os::fd::AsRawFd;
    let mut bytes: nix::libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, and `bytes` lives through the call.
    let result = unsafe { nix::libc::ioctl(source.as_raw_fd(), nix::libc::FIONREAD, &raw mut bytes) };
    if result == 0 { u64::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Writes everything, waiting where somebody else has made our stream non-blocking.
pub(crate) fn write_all(sink: BorrowedFd<'_>, mut bytes: &[u8]) -> nix::Result<()> {
    while !bytes.is_empty() {
        match unistd::write(sink, bytes) {
            Ok(0) => return Err(Errno::EIO),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                retry(|| poll(&mut [PollFd::new(sink, PollFlags::POLLOUT)], PollTimeout::NONE))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Head and tail after these pieces, with room for three bytes each.
    fn kept(pieces: &[&str]) -> (String, String, u64) {
        let mut kept =
            Kept { sha256: Sha256::new(), length: 0, head: Vec::new(), head_limit: 3, tail: Vec::new(), tail_limit: 3 };
        for piece in pieces {
            kept.take(piece.as_bytes());
        }
        assert!(kept.tail.len() <= 2 * kept.tail_limit);
        assert_eq!(kept.sha256.clone().finalize(), Sha256::digest(pieces.concat()));
        let tail = kept.tail[kept.tail.len().saturating_sub(3)..].to_vec();
        let text = |bytes| String::from_utf8(bytes).expect("the pieces are text");
        (text(kept.head), text(tail), kept.length)
    }

    #[test]
    fn head_and_tail_do_not_overlap() {
        assert_eq!(kept(&[]), (String::new(), String::new(), 0));
        assert_eq!(kept(&["ab"]), ("ab".into(), String::new(), 2));
        assert_eq!(kept(&["abcd"]), ("abc".into(), "d".into(), 4));
        assert_eq!(kept(&["abcdef"]), ("abc".into(), "def".into(), 6));
        assert_eq!(kept(&["abcdefghi"]), ("abc".into(), "ghi".into(), 9));
        assert_eq!(kept(&["a", "bc", "d", "e", "f", "g", "h", "i", "j", "k"]), ("abc".into(), "ijk".into(), 11));
        assert_eq!(kept(&["abcde", "fg", "hijklm", "n"]), ("abc".into(), "lmn".into(), 14));
    }
}
