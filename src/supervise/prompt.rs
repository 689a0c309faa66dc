//! Asking for a password on the terminal: nothing of it is seen, and the terminal is as before whatever ends the question.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::raise;
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};

use crate::interrupt::Interrupts;

/// How often is looked whether a signal has come, in milliseconds.
const LOOK: u16 = 50;
/// Longest line that is read, in bytes.
const MAX_LINE: usize = 4096;
/// What says that no key does something (`_POSIX_VDISABLE` of Linux).
const NO_KEY: u8 = 0;

/// A terminal that shows nothing of what is typed, until it is dropped.
struct Unseen {
    terminal: File,
    before: Termios,
}

impl Unseen {
    fn new(terminal: File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut modes = before.clone();
        modes.local_flags.remove(LocalFlags::ECHO);
        modes.local_flags.insert(LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG);
        // Stopped or ended by these, nobody would put back what was there.
        for key in [SpecialCharacterIndices::VSUSP, SpecialCharacterIndices::VQUIT] {
            modes.control_chars[key as usize] = NO_KEY;
        }
        let unseen = Self { terminal, before };
        // What was typed before the question is no answer to it.
        tcsetattr(&unseen.terminal, SetArg::TCSAFLUSH, &modes)?;
        Ok(unseen)
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

/// Asks on the controlling terminal, and gives the line that is typed, without its end. `INT`, `TERM` and `HUP` end this
/// process as they would have, after the terminal was put back.
///
/// # Errors
/// Where there is no terminal, it ends, or the line is longer than 4096 bytes.
pub fn ask_unseen(prompt: &str) -> io::Result<Vec<u8>> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let interrupts = Interrupts::catch()?;
    let unseen = Unseen::new(terminal)?;
    let answer = ask(&unseen, prompt, &interrupts);
    drop(unseen);
    let signal = interrupts.signal();
    drop(interrupts);
    if let Some(signal) = signal {
        raise(signal)?;
        // Only where somebody has it do something else.
        return Err(io::Error::other("the question was broken off"));
    }
    answer
}

fn ask(unseen: &Unseen, prompt: &str, interrupts: &Interrupts) -> io::Result<Vec<u8>> {
    let mut terminal = &unseen.terminal;
    terminal.write_all(prompt.as_bytes())?;
    let mut line = Vec::new();
    let mut piece = [0; 256];
    while !interrupts.arrived() {
        let mut ready = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::from(LOOK)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let count = match terminal.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        line.extend_from_slice(&piece[..count]);
        if line.len() > MAX_LINE {
            return Err(io::Error::other(format!("more than {MAX_LINE} bytes")));
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            return Ok(line);
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}
