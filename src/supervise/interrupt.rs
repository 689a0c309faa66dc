//! Hearing of `INT`, `TERM` and `HUP` instead of ending: for a wait that a person may break off, behind which there is
//! something that must still be done.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::libc::c_int;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signals that end a wait.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// The last one; 0: none.
static ARRIVED: AtomicI32 = AtomicI32::new(0);

/// While it lives, the signals end nothing, and are only told of. One at a time, and not while a command is supervised,
/// which catches them itself.
#[derive(Debug)]
pub struct Interrupts {
    previous: Vec<(Signal, SigAction)>,
}

impl Interrupts {
    /// Starts catching.
    ///
    /// # Errors
    /// When the kernel refuses, which it does not.
    pub fn catch() -> io::Result<Self> {
        ARRIVED.store(0, Ordering::SeqCst);
        let mut caught = Self { previous: Vec::new() };
        let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
        for signal in ENDING {
            // SAFETY: `on_signal` only stores into an atomic.
            let previous = unsafe { sigaction(signal, &action) }?;
            if matches!(previous.handler(), SigHandler::SigIgn) {
                // Whoever started us wants it to do nothing (`nohup`).
                // SAFETY: puts back the action that was just taken away.
                unsafe { sigaction(signal, &previous) }?;
            } else {
                caught.previous.push((signal, previous));
            }
        }
        Ok(caught)
    }

    /// Whether one has arrived since.
    #[must_use]
    pub fn arrived(&self) -> bool {
        self.signal().is_some()
    }

    /// Which one, the last of several.
    pub(crate) fn signal(&self) -> Option<Signal> {
        let number = ARRIVED.load(Ordering::SeqCst);
        Signal::try_from(number).ok().filter(|_| !self.previous.is_empty())
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        for (signal, action) in &self.previous {
            // SAFETY: puts back an action that was in force when `catch` was called.
            let _ = unsafe { sigaction(*signal, action) };
        }
    }
}

/// The handler. Async-signal-safe: one atomic store.
extern "C" fn on_signal(signal: c_int) {
    ARRIVED.store(signal, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_told_of_and_ends_nothing() {
        let caught = Interrupts::catch().expect("catches");
        assert!(!caught.arrived());
        nix::sys::signal::raise(Signal::SIGINT).expect("raises");
        assert!(caught.arrived());
        drop(caught);
        assert!(!Interrupts::catch().expect("catches").arrived());
    }
}
