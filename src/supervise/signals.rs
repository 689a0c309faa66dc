//! Signals: which are caught while the child runs, what is forwarded, and what the child starts with.
//!
//! The handler only writes a two-byte record into a pipe that the event loop reads: everything else happens there. The
//! pipe and its number are the one global of this crate, since a signal handler can be given nothing else; the pipe is
//! made once and never closed, so that a handler which is still running in another thread cannot write into a descriptor
//! that has been given to somebody else.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::libc::{self, c_int, c_void, siginfo_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction};
use nix::unistd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The signals that are passed on to the child.
pub(crate) const FORWARDED: [Signal; 9] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];

/// Caught even where they were ignored at our start, because the supervisor itself needs them; being ignored is still
/// what the child gets. (With `SIGCHLD` ignored the kernel would throw the child's exit status away.)
const NEEDED: [Signal; 3] = [Signal::SIGCHLD, Signal::SIGWINCH, Signal::SIGCONT];

static EVENTS: AtomicI32 = AtomicI32::new(-1);
static PIPE: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();

/// A signal that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) signal: Signal,
    /// Sent by the kernel, that is by the terminal: then every process of the terminal's foreground group has it too.
    pub(crate) by_terminal: bool,
}

/// What a signal that we catch was set to before, for the child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherited {
    pub(crate) signal: Signal,
    pub(crate) ignored: bool,
}

/// The caught signals; dropping it gives every disposition back.
pub(crate) struct Signals {
    events: AsyncFd<OwnedFd>,
    previous: Vec<(Signal, SigAction)>,
    /// Read from the pipe, not yet handed out.
    waiting: Vec<Event>,
}

impl Signals {
    /// Starts catching. Needs a running tokio runtime with I/O enabled.
    pub(crate) fn catch() -> io::Result<Self> {
        let (read, write) = pipe()?;
        drain(read.as_fd(), &mut Vec::new());
        EVENTS.store(write.as_raw_fd(), Ordering::SeqCst);
        let events = watch(read.try_clone()?, Interest::READABLE)?;
        let mut signals = Self { events, previous: Vec::new(), waiting: Vec::new() };
        for signal in FORWARDED.into_iter().chain([Signal::SIGCHLD]) {
            if is_ignored(signal) && !NEEDED.contains(&signal) {
                continue;
            }
            signals.previous.push((signal, install(signal)?));
        }
        // Writing to a reader that has gone must be an error for the tee and not the end of us.
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: SIG_IGN is no function of ours; nothing can be called.
        let previous = unsafe { sigaction(Signal::SIGPIPE, &ignore) }?;
        signals.previous.push((Signal::SIGPIPE, previous));
        Ok(signals)
    }

    /// The dispositions that the child has to be given back: of all that were changed here, `SIGPIPE` among them.
    ///
    /// Rust's runtime ignores `SIGPIPE` before `main`, and nothing tells afterwards whether it was ignored before that,
    /// so the child always starts with the default, as under a shell.
    pub(crate) fn inherited(&self) -> Vec<Inherited> {
        self.previous
            .iter()
            .map(|(signal, action)| Inherited {
                signal: *signal,
                ignored: *signal != Signal::SIGPIPE && matches!(action.handler(), SigHandler::SigIgn),
            })
            .collect()
    }

    /// The next signal. Cancel-safe.
    pub(crate) async fn next(&mut self) -> io::Result<Event> {
        loop {
            if !self.waiting.is_empty() {
                return Ok(self.waiting.remove(0));
            }
            let mut ready = self.events.readable().await?;
            // The pipe is empty when `drain` returns, so the readiness can be cleared.
            drain(ready.get_inner().as_fd(), &mut self.waiting);
            ready.clear_ready();
        }
    }

    /// Whether `signal` has arrived and was not handed out yet; it stays in the queue.
    pub(crate) fn has_arrived(&mut self, signal: Signal) -> bool {
        drain(self.events.get_ref().as_fd(), &mut self.waiting);
        self.waiting.iter().any(|event| event.signal == signal)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (signal, action) in &self.previous {
            // SAFETY: puts back an action that was in force when `catch` was called.
            let _ = unsafe { sigaction(*signal, action) };
        }
        EVENTS.store(-1, Ordering::SeqCst);
    }
}

/// Takes the default action of `signal` (a stop), on ourselves or on our whole process group, and returns when we
/// run again. Where the kernel discards the stop (an orphaned process group) it returns at once.
pub(crate) fn stop_here(signal: Signal, whole_group: bool) -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: SIG_DFL is no function of ours; nothing can be called.
    let caught = unsafe { sigaction(signal, &default) }?;
    let mut unblocked = SigSet::empty();
    unblocked.add(signal);
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&unblocked), Some(&mut before))?;
    let target = if whole_group { unistd::Pid::from_raw(0) } else { unistd::getpid() };
    let sent = nix::sys::signal::kill(target, signal);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    // SAFETY: puts back the action that `sigaction` returned above, which is `on_signal` or what our caller had.
    unsafe { sigaction(signal, &caught) }?;
    Ok(sent?)
}

/// Blocks every signal of this thread until dropped: around a fork, so that no handler of ours runs in the new process.
pub(crate) struct Blocked(SigSet);

impl Blocked {
    pub(crate) fn all() -> io::Result<Self> {
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
        Ok(Self(before))
    }

    /// The mask that was in force before, and will be again.
    pub(crate) fn before(&self) -> &SigSet {
        &self.0
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.0), None);
    }
}

fn install(signal: Signal) -> nix::Result<SigAction> {
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_RESTART;
    let action = SigAction::new(SigHandler::SigAction(on_signal), flags, SigSet::all());
    // SAFETY: `on_signal` calls nothing but `write`, keeps `errno`, and touches one atomic.
    unsafe { sigaction(signal, &action) }
}

fn is_ignored(signal: Signal) -> bool {
    // SAFETY: an all-zero sigaction is a valid value of this plain C struct, and it is overwritten below.
    let mut current: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: with a null new action nothing is changed; `current` lives through the call.
    let result = unsafe { libc::sigaction(signal as c_int, ptr::null(), &raw mut current) };
    result == 0 && current.sa_sigaction == libc::SIG_IGN
}

fn pipe() -> io::Result<&'static (OwnedFd, OwnedFd)> {
    if let Some(made) = PIPE.get() {
        return Ok(made);
    }
    let (read, write) = crate::tee::pipe()?;
    for end in [&read, &write] {
        nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    }
    Ok(PIPE.get_or_init(|| (read, write)))
}

/// Takes everything out of the pipe.
fn drain(read: BorrowedFd<'_>, into: &mut Vec<Event>) {
    let mut records = [0_u8; 512];
    // Records are two bytes and pipe writes of that size are whole, so a read never splits one.
    while let Ok(length @ 1..) = retry(|| unistd::read(read, &mut records)) {
        for record in records[..length].chunks_exact(2) {
            if let Ok(signal) = Signal::try_from(c_int::from(record[0])) {
                into.push(Event { signal, by_terminal: record[1] == 1 });
            }
        }
    }
}

/// Lets the event loop watch a descriptor. It is not made non-blocking.
pub(crate) fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the `AsyncFd` owns the descriptor, which therefore stays open and the same as long as it is watched.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Repeats a call that a signal has interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// The handler. Async-signal-safe: an atomic load, `write`, and `errno` kept.
extern "C" fn on_signal(signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: installed with SA_SIGINFO, so the kernel passes a valid siginfo_t.
    let code = unsafe { (*info).si_code };
    let record = [u8::try_from(signal).unwrap_or(0), u8::from(code == libc::SI_KERNEL)];
    // SAFETY: `write` is async-signal-safe, the record outlives the call, and a closed or full pipe is only an error.
    unsafe { libc::write(EVENTS.load(Ordering::SeqCst), record.as_ptr().cast(), record.len()) };
    Errno::set_raw(errno);
}
