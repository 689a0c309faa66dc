//! Runs one command so that it cannot tell: same standard input, terminal, signals, output bytes and exit code as without
//! us; and says afterwards how it ended and what it wrote. Knows nothing of attestation.
//!
//! # Theory of operation
//!
//! [`supervise`] blocks its caller. It catches the signals that have to be passed on, makes this process the one that
//! gets orphaned descendants (so that they are reaped and can be found), starts the child, and then waits in one event
//! loop, on a current-thread tokio runtime, for signals, the child, and the timeout. Each output stream is copied and
//! digested by a thread of its own, because our stdout and stderr must stay blocking: the flag belongs to the open file
//! that we share with the shell.
//!
//! How the child is placed depends on the terminal:
//!
//! | we have | the child |
//! |---|---|
//! | no controlling terminal (CI) | leads a process group of its own; signals and timeouts go to the group |
//! | a terminal that we share (in a pipeline, in the background, stdin or output redirected to a pipe) | stays in our process group, so the terminal's foreground, ^C, ^Z and `SIGTTIN` work as without us; where its output goes to the terminal it gets a pty for that, so that `isatty` holds |
//! | the foreground of a terminal, on stdin and an output, no pipes | gets a session of its own on a new pty; ours is raw, keystrokes are passed on, stops are mirrored |
//!
//! Staying in our process group is what lets the kernel do the rest: a pager behind us in a pipeline keeps its keys, a
//! background job that reads is stopped, `fg` continues it, and the terminal's signals reach the child once (those that
//! the kernel has sent to the whole group are not passed on again).
//!
//! Not transparent, and known: the `SIGPIPE` disposition (see [`Request`]); a grandchild that keeps the output open
//! after the child's end loses its reader after [`LINGER`] (it gets `SIGPIPE`, or a hangup on a pty); `KILL` sent to us
//! cannot be passed on: the child then sees broken pipes, or a hangup on a pty; a standard stream that was closed when
//! we were started is `/dev/null` for the child, since Rust's runtime opens that in its place; a signal that somebody
//! sends to our whole process group while the child is in it (`kill %1`) reaches the child twice; what a child writes to
//! stdout and to stderr at the same time may pass each other where these are pipes or files.

mod child;
mod interrupt;
mod prompt;
mod protect;
mod signals;
mod supervisor;
mod tee;
mod terminal;

pub use interrupt::Interrupts;
pub use prompt::ask_unseen;
pub use protect::{protect_process, wipe_arguments, wipe_variables};

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// How long after a timeout's `TERM` everything that is still alive gets `KILL`, when [`Request::kill_after`] is not given.
pub const DEFAULT_KILL_AFTER: Duration = Duration::from_secs(10);
/// After the child's end, reading goes on until the streams end or have been silent for this long.
pub const LINGER: Duration = Duration::from_millis(200);
/// After the child's end, what descendants write without a pause is read for this long; what the child itself has
/// written is always read.
pub const LINGER_LIMIT: Duration = Duration::from_secs(10);
/// The exit code of a run that was ended by its timeout, as `timeout` has it.
pub const TIMED_OUT: i32 = 124;

/// What to run and how.
///
/// The child gets the signal mask and the ignored signals of this process, except `SIGPIPE`: Rust's runtime ignores it
/// before `main`, and what was there before cannot be known any more, so the child starts with the default.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// A path, or a name that is searched in the `PATH` of [`Request::env`] as `execvp` does.
    pub program: OsString,
    /// The arguments after the program's name.
    pub args: Vec<OsString>,
    /// The working directory of the child (a relative program path is relative to it); ours when `None`.
    pub dir: Option<PathBuf>,
    /// The complete environment of the child.
    pub env: Vec<(OsString, OsString)>,
    /// After this time `TERM` (and `CONT`) goes to the child's process group and all descendants.
    pub timeout: Option<Duration>,
    /// This long after the timeout, `KILL` goes to all that are left; [`DEFAULT_KILL_AFTER`] when `None`.
    pub kill_after: Option<Duration>,
    /// Bytes kept from the beginning of each stream.
    pub head: usize,
    /// Bytes kept from the end of each stream.
    pub tail: usize,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// How the child ended.
    pub ending: Ending,
    /// What it wrote to stdout; to its terminal, where `terminal` is set.
    pub stdout: Stream,
    /// What it wrote to stderr; empty where `terminal` is set.
    pub stderr: Stream,
    /// Stdout and stderr were one terminal: their bytes are together in `stdout`, as the terminal sent them on (with
    /// `\r\n` for `\n`, and the echo of what was typed).
    pub terminal: bool,
    /// The last of `INT`, `TERM`, `HUP` and `QUIT` that reached us while we supervised, as a signal number.
    pub interrupted: Option<i32>,
    /// Descendants still held an output when we stopped reading it.
    pub left_behind: bool,
    /// What the child and the descendants it waited for have used.
    pub usage: Usage,
}

/// How the child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It ended itself, with this code (0 to 255).
    Exited(i32),
    /// A signal ended it.
    Signalled {
        /// The signal's number.
        signal: i32,
        /// Whether a core was dumped.
        core: bool,
    },
    /// Our timeout ended it. Exactly one of `code` and `signal` says how it then really ended.
    TimedOut {
        /// Its exit code, if it ended itself after `TERM`.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// Whether `KILL` had to be sent, to it or to its descendants.
        killed: bool,
    },
}

impl Ending {
    /// The exit code that stands for this ending, 0 to 255: its own, 128 + the signal's number, or 124 after a timeout.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Exited(code) => code & 0xff,
            Self::Signalled { signal, .. } => (128 + signal) & 0xff,
            Self::TimedOut { .. } => TIMED_OUT,
        }
    }

    /// Whether the child ended itself with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        matches!(self, Self::Exited(0))
    }
}

/// What went through one output stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// SHA-256 of all bytes.
    pub sha256: [u8; 32],
    /// Number of all bytes.
    pub length: u64,
    /// The first bytes, up to [`Request::head`].
    pub head: Vec<u8>,
    /// The last bytes that are not in `head`, up to [`Request::tail`]: together they are everything when nothing is
    /// missing between them, that is when their lengths add up to `length`.
    pub tail: Vec<u8>,
    /// False when the child had no stream of its own here: ours was closed, or it is the other half of a terminal.
    pub connected: bool,
    /// The child had a terminal here.
    pub terminal: bool,
    /// Why our own stream took no more bytes: `BrokenPipe` when its reader has gone, `Interrupted` when we stopped
    /// waiting for a reader that blocked. The digest covers what was read from the child.
    pub cut: Option<io::ErrorKind>,
}

/// What the child and the descendants it waited for have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Largest resident memory of one process, in bytes.
    pub peak_memory: u64,
    /// Processor time outside the kernel.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
}

/// Why the child could not be started, or not be supervised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such program: 127.
    #[error("{} not found", .program.display())]
    NotFound {
        /// As it was asked for.
        program: OsString,
    },
    /// It is there but cannot be run: 126.
    #[error("{} cannot be executed", .program.display())]
    NotExecutable {
        /// As it was asked for.
        program: OsString,
        /// What the kernel said.
        source: io::Error,
    },
    /// The working directory cannot be entered: 125.
    #[error("cannot enter the working directory {}", .dir.display())]
    WorkingDir {
        /// As it was asked for.
        dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program's name, an argument, a variable or the directory contains a NUL byte: 125.
    #[error("NUL byte in {}", .text.display())]
    Nul {
        /// The text that contains it.
        text: OsString,
    },
    /// Anything else that is needed to start a child: 125.
    #[error("cannot start the command: {what}")]
    Spawn {
        /// What failed.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The child was started, but hearing from it failed: 125.
    #[error("lost the command")]
    Lost {
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// The exit code that stands for this error, as `env` and `timeout` have it: 127 not found, 126 not executable,
    /// 125 anything else.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }
}

/// Runs a command to its end.
///
/// Blocks, and starts a tokio runtime of its own, so it must not be called from within one. One call at a time: a second
/// one waits. While it runs it reaps every child of this process, so no other thread may wait for a child meanwhile.
///
/// # Errors
/// When the child could not be started (then nothing has run), or could not be waited for.
pub fn supervise(request: &Request) -> Result<Ran, Error> {
    supervisor::run(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let timed_out = Ending::TimedOut { code: Some(0), signal: None, killed: false };
        let killed = Ending::Signalled { signal: 9, core: false };
        for (ending, code) in [(Ending::Exited(0), 0), (Ending::Exited(7), 7), (killed, 137), (timed_out, 124)] {
            assert_eq!((ending.code(), ending.success()), (code, code == 0));
        }
    }
}
