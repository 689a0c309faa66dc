//! The only code that writes to stdout and stderr. stdout carries data only; messages, progress and hints go to stderr.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};

use affiant_core::redact::Redactor;

use super::failure::{Failure, Kind};

/// Where a command writes.
pub(crate) struct Output {
    redactor: RefCell<Option<Redactor>>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { redactor: RefCell::new(None) }
    }

    /// From now on secrets in messages are masked.
    pub(crate) fn mask(&self, redactor: Redactor) {
        self.redactor.replace(Some(redactor));
    }

    /// Writes data to stdout. A reader that went away is no failure of ours.
    #[expect(clippy::unused_self, reason = "who writes says where to")]
    pub(crate) fn data(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::because(Kind::NoAnswer, "stdout cannot be written", &error))
            }
            _ => Ok(()),
        }
    }

    /// Writes a message to stderr, on lines of its own. stderr that cannot be written is not our command's business.
    pub(crate) fn message(&self, text: &str) {
        let masked = match &*self.redactor.borrow() {
            Some(redactor) => redactor.redact_text(text).into_owned(),
            None => text.to_owned(),
        };
        let _ = writeln!(io::stderr().lock(), "{}", plain(&masked));
    }

    /// Whether stderr is a terminal, for progress.
    pub(crate) fn on_terminal() -> bool {
        io::stderr().is_terminal()
    }
}

/// Text from files, names and servers must not steer the reader's terminal: control characters are shown escaped.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_shown_not_obeyed() {
        assert_eq!(plain("a\x1b[2Jb\tc\n"), "a\\u{1b}[2Jb\tc\n");
    }
}
