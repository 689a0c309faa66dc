//! Terminals: which of the child's streams get one, our own in raw mode, window sizes and keystrokes.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::{self, c_int, c_void, siginfo_t};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, grantpt, posix_openpt, unlockpt};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{self, getpgrp, isatty, tcgetpgrp};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::child::{Place, Stdio};
use crate::signals::watch;
use crate::tee;

/// While our terminal belongs to somebody else it is looked this often whether it is ours again: a shell's `fg` on a
/// running job sends nothing.
const FOREGROUND_LOOK: Duration = Duration::from_millis(200);

/// How the child's streams are connected, and what is needed to serve them.
pub(crate) struct Layout {
    pub(crate) place: Place,
    pub(crate) stdio: [Stdio; 3],
    /// Where our stdout and stderr are fed from.
    pub(crate) outputs: [Output; 2],
    pub(crate) ptys: Vec<Pty>,
    pub(crate) session: Option<Session>,
    /// The child's ends of pipes, to be closed here once it has them.
    pub(crate) given: Vec<OwnedFd>,
}

/// One of the child's output streams, as we see it.
pub(crate) enum Output {
    /// Our own is closed, so the child's is too.
    Closed,
    /// Copied from `source` to `sink`.
    Copied { source: OwnedFd, sink: OwnedFd, terminal: bool },
    /// Stderr on the terminal that stdout has already: its bytes come with that.
    WithStdout,
}

/// What one of our own streams is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Closed,
    /// A terminal, with its device number.
    Terminal(u64),
    /// Somebody else is at the other end.
    Pipe,
    Other,
}

fn kind(stream: BorrowedFd<'_>) -> Kind {
    let Ok(stat) = fstat(stream) else { return Kind::Closed };
    if isatty(stream).unwrap_or(false) {
        return Kind::Terminal(stat.st_rdev);
    }
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFIFO | SFlag::S_IFSOCK => Kind::Pipe,
        _ => Kind::Other,
    }
}

impl Layout {
    /// Looks at our own streams and connects the child's accordingly (the table in the crate's documentation).
    pub(crate) fn arrange() -> io::Result<Self> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let kinds = [kind(stdin.as_fd()), kind(stdout.as_fd()), kind(stderr.as_fd())];
        let mut layout = Self {
            place: if has_controlling_terminal() { Place::OurGroup } else { Place::OwnGroup },
            stdio: [Stdio::Inherit; 3],
            outputs: [Output::Closed, Output::Closed],
            ptys: Vec::new(),
            session: None,
            given: Vec::new(),
        };
        // A pipe on an output means that we are probably in a pipeline whose other members use the terminal as well (a
        // pager behind us): taking it would break them, and the child can have it as they do.
        let takes_over = matches!(kinds[0], Kind::Terminal(_))
            && kinds[1..].contains(&kinds[0])
            && !kinds[1..].contains(&Kind::Pipe)
            && tcgetpgrp(&stdin) == Ok(getpgrp());
        if takes_over && let Ok(pty) = Pty::open(stdin.as_fd(), true) {
            layout.session = Some(Session::new(&pty)?);
            layout.place = Place::Session(pty.slave_number());
            layout.stdio[0] = Stdio::Use(pty.slave_number());
            layout.ptys.push(pty);
        }
        layout.connect(0, &kinds, stdout.as_fd())?;
        layout.connect(1, &kinds, stderr.as_fd())?;
        Ok(layout)
    }

    /// Connects stdout (0) or stderr (1).
    fn connect(&mut self, output: usize, kinds: &[Kind; 3], ours: BorrowedFd<'_>) -> io::Result<()> {
        let kind = kinds[output + 1];
        if kind == Kind::Closed {
            return Ok(());
        }
        if output == 1 && kind == kinds[1] && matches!(self.outputs[0], Output::Copied { terminal: true, .. }) {
            self.stdio[2] = self.stdio[1];
            self.outputs[1] = Output::WithStdout;
            return Ok(());
        }
        let sink = ours.try_clone_to_owned()?;
        if matches!(kind, Kind::Terminal(_)) {
            let of_session = self.session.is_some() && kind == kinds[0];
            if !of_session && let Ok(pty) = Pty::open(ours, false) {
                self.ptys.push(pty);
            }
            let pty = if of_session { self.ptys.first() } else { self.ptys.last() };
            if let Some(pty) = pty {
                self.stdio[output + 1] = Stdio::Use(pty.slave_number());
                self.outputs[output] = Output::Copied { source: pty.master.try_clone()?, sink, terminal: true };
                return Ok(());
            }
            // No pty to be had (an empty root has no /dev/ptmx): a pipe serves, though the child can tell.
        }
        let (source, end) = tee::output_pipe()?;
        self.stdio[output + 1] = Stdio::Use(end.as_raw_fd());
        self.given.push(end);
        self.outputs[output] = Output::Copied { source, sink, terminal: false };
        Ok(())
    }
}

fn has_controlling_terminal() -> bool {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    nix::fcntl::open("/dev/tty", flags, nix::sys::stat::Mode::empty()).is_ok()
        || tcgetpgrp(io::stdin()).is_ok()
        || tcgetpgrp(io::stdout()).is_ok()
        || tcgetpgrp(io::stderr()).is_ok()
}

/// A pseudo-terminal that stands for a terminal of ours.
pub(crate) struct Pty {
    /// Our side, non-blocking.
    master: OwnedFd,
    /// The child's side. Held until the child has ended, since the master is at its end while nobody holds it.
    slave: Option<OwnedFd>,
    slave_number: c_int,
    /// The terminal it stands for.
    real: OwnedFd,
}

impl Pty {
    /// Makes one with the modes and the window size of `real`. `processed`: output is processed (`\n` to `\r\n`) on this
    /// side, because `real` will be raw; otherwise `real` goes on doing it.
    fn open(real: BorrowedFd<'_>, processed: bool) -> io::Result<Self> {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        // SAFETY: TIOCGPTPEER takes flags and returns a new descriptor, without needing a path in /dev/pts.
        let slave = Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags.bits()) })?;
        // SAFETY: just made, and nobody else knows its number.
        let slave = tee::lift(unsafe { OwnedFd::from_raw_fd(slave) })?;
        let mut modes = tcgetattr(real)?;
        if !processed {
            modes.output_flags.remove(OutputFlags::OPOST);
        }
        tcsetattr(&slave, SetArg::TCSANOW, &modes)?;
        let pty = Self {
            master: tee::lift(master.as_fd().try_clone_to_owned()?)?,
            slave_number: slave.as_raw_fd(),
            slave: Some(slave),
            real: real.try_clone_to_owned()?,
        };
        pty.resize();
        Ok(pty)
    }

    fn slave_number(&self) -> c_int {
        self.slave_number
    }

    /// Takes over the window size. Says whether it was another one; then the kernel tells the processes of the pty.
    pub(crate) fn resize(&self) -> bool {
        match (window_size(self.real.as_fd()), window_size(self.master.as_fd())) {
            (Some(real), Some(now)) if real != now => {
                // SAFETY: TIOCSWINSZ reads the struct, which lives through the call.
                let result = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const real) };
                result == 0
            }
            _ => false,
        }
    }

    /// Lets go of the child's side, so that the master comes to its end when the last holder is gone.
    pub(crate) fn close_slave(&mut self) {
        self.slave = None;
    }
}

fn window_size(terminal: BorrowedFd<'_>) -> Option<Winsize> {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes the struct, which lives through the call.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0).then_some(size)
}

/// Our own terminal while the child has a session of its own on a pty.
pub(crate) struct Session {
    real: OwnedFd,
    /// The modes of our terminal as we found them.
    found: Termios,
    /// The modes of the pty as we made it.
    given: Termios,
    raw: bool,
    keys: AsyncFd<OwnedFd>,
    master: AsyncFd<OwnedFd>,
    /// Typed, not yet passed on.
    typed: Vec<u8>,
    hung_up: bool,
}

impl Session {
    fn new(pty: &Pty) -> io::Result<Self> {
        Ok(Self {
            real: pty.real.try_clone()?,
            found: tcgetattr(&pty.real)?,
            given: tcgetattr(&pty.master)?,
            raw: false,
            keys: watch(pty.real.try_clone()?, Interest::READABLE)?,
            master: watch(pty.master.try_clone()?, Interest::WRITABLE)?,
            typed: Vec::new(),
            hung_up: false,
        })
    }

    /// Makes our terminal raw, if it is ours now.
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        if self.raw || tcgetpgrp(&self.real) != Ok(getpgrp()) {
            return Ok(());
        }
        self.found = tcgetattr(&self.real)?;
        let mut raw = self.found.clone();
        cfmakeraw(&mut raw);
        rescue::arm(&self.real, &self.found);
        tcsetattr(&self.real, SetArg::TCSANOW, &raw)?;
        self.raw = true;
        Ok(())
    }

    /// Gives our terminal back as we found it.
    pub(crate) fn leave(&mut self) {
        let modes = self.found.clone();
        self.restore(&modes);
    }

    /// Gives our terminal back as the child has left its own, if it has changed anything, as `stty` does.
    pub(crate) fn leave_as_the_child_did(&mut self) {
        match tcgetattr(self.master.get_ref()) {
            Ok(modes) if modes != self.given => self.restore(&modes),
            _ => self.leave(),
        }
    }

    fn restore(&mut self, modes: &Termios) {
        if !self.raw {
            return;
        }
        self.raw = false;
        // Also right when somebody has put us into the background meanwhile: the raw mode is ours to take back.
        let mut ttou = SigSet::empty();
        ttou.add(Signal::SIGTTOU);
        let mut before = SigSet::empty();
        let blocked = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&ttou), Some(&mut before));
        let _ = tcsetattr(&self.real, SetArg::TCSANOW, modes);
        if blocked.is_ok() {
            let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
        }
        rescue::disarm();
    }

    /// Passes keystrokes on, for ever. Cancel-safe: what was read and not yet written is kept.
    pub(crate) async fn pass_keys(&mut self) {
        loop {
            if self.hung_up {
                return std::future::pending().await;
            }
            if !self.raw {
                tokio::time::sleep(FOREGROUND_LOOK).await;
                if self.enter().is_err() {
                    self.hung_up = true;
                }
                continue;
            }
            if !self.typed.is_empty() {
                let Ok(mut ready) = self.master.writable().await else {
                    self.hung_up = true;
                    continue;
                };
                match ready.try_io(|master| Ok(unistd::write(master, &self.typed)?)) {
                    Ok(Ok(written)) => drop(self.typed.drain(..written)),
                    Ok(Err(_)) => self.hung_up = true,
                    Err(_would_block) => {}
                }
                continue;
            }
            let Ok(mut ready) = self.keys.readable().await else {
                self.hung_up = true;
                continue;
            };
            let mut buffer = [0; 1024];
            // Our terminal is blocking, since the flag would be everybody's; so it is asked first.
            let read = ready.try_io(|keys| {
                let mut set = [PollFd::new(keys.as_fd(), PollFlags::POLLIN)];
                if poll(&mut set, PollTimeout::ZERO)? == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(unistd::read(keys, &mut buffer)?)
            });
            match read {
                Ok(Ok(0)) => self.hung_up = true,
                Ok(Ok(length)) => self.typed.extend_from_slice(&buffer[..length]),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => self.hung_up = true,
                Err(_would_block) => {}
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The last resort for a terminal that is raw: a panic (which may abort) and signals that end us without being asked.
///
/// A signal handler and a panic hook can be given nothing, hence the statics.
mod rescue {
    use super::{
        AsRawFd, AtomicPtr, Once, Ordering, OwnedFd, SaFlags, SigAction, SigHandler, SigSet, Signal, Termios, Write,
        c_int, c_void, libc, ptr, sigaction, siginfo_t,
    };

    /// The terminal and its modes; leaked (once per stop and continue), since a handler may be reading them.
    struct Armed {
        terminal: c_int,
        modes: libc::termios,
    }

    static ARMED: AtomicPtr<Armed> = AtomicPtr::new(ptr::null_mut());
    static INSTALLED: Once = Once::new();

    /// Those whose default ends the process, and which nobody forwards. Not `SEGV` and `BUS`, which Rust uses itself.
    const FATAL: [Signal; 10] = [
        Signal::SIGABRT,
        Signal::SIGALRM,
        Signal::SIGIO,
        Signal::SIGPROF,
        Signal::SIGPWR,
        Signal::SIGSYS,
        Signal::SIGTRAP,
        Signal::SIGVTALRM,
        Signal::SIGXCPU,
        Signal::SIGXFSZ,
    ];

    pub(super) fn arm(terminal: &OwnedFd, modes: &Termios) {
        let armed = Armed { terminal: terminal.as_raw_fd(), modes: modes.clone().into() };
        ARMED.store(Box::leak(Box::new(armed)), Ordering::SeqCst);
        INSTALLED.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                let _ = std::io::stderr().flush();
                next(info);
            }));
            for signal in FATAL {
                let flags = SaFlags::SA_SIGINFO | SaFlags::SA_RESETHAND | SaFlags::SA_NODEFER;
                let action = SigAction::new(SigHandler::SigAction(on_fatal), flags, SigSet::empty());
                // SAFETY: `on_fatal` makes async-signal-safe calls only.
                if let Ok(previous) = unsafe { sigaction(signal, &action) }
                    && !matches!(previous.handler(), SigHandler::SigDfl)
                {
                    // SAFETY: puts back what was there.
                    let _ = unsafe { sigaction(signal, &previous) };
                }
            }
        });
    }

    pub(super) fn disarm() {
        ARMED.store(ptr::null_mut(), Ordering::SeqCst);
    }

    fn restore() {
        let armed = ARMED.swap(ptr::null_mut(), Ordering::SeqCst);
        // SAFETY: null, or a leaked box that lives for ever.
        if let Some(armed) = unsafe { armed.as_ref() } {
            // SAFETY: async-signal-safe, and `modes` lives for ever.
            unsafe { libc::tcsetattr(armed.terminal, libc::TCSANOW, &raw const armed.modes) };
        }
    }

    /// Runs once: `SA_RESETHAND` has put the default action back, which `raise` then takes.
    extern "C" fn on_fatal(signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {
        restore();
        // SAFETY: async-signal-safe.
        unsafe { libc::raise(signal) };
    }
}
