//! The only code that writes to stdout and stderr. stdout carries data only; messages, progress and hints go to stderr.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use affiant_core::redact::{Redactor, VariableMask};

use super::failure::{Failure, Kind};
use super::surroundings;

/// Where a command writes.
#[derive(Clone)]
pub(crate) struct Output {
    redactor: Arc<Mutex<Option<Redactor>>>,
}

impl Output {
    /// From now on what a panic says goes the way of messages.
    pub(crate) fn new() -> Self {
        let output = Self { redactor: Arc::default() };
        let panics = output.clone();
        std::panic::set_hook(Box::new(move |panic| {
            panics.message(&format!("affiant: internal error: {panic}"));
        }));
        output
    }

    /// From now on these secrets in messages are masked. Until then, those of the environment are.
    pub(crate) fn mask(&self, redactor: Redactor) {
        *self.redactor.lock().unwrap_or_else(PoisonError::into_inner) = Some(redactor);
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

    /// Writes a message to stderr, on a line of its own, with secrets masked. stderr that cannot be written is not our
    /// command's business.
    pub(crate) fn message(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", one_line(&self.masked(text)));
    }

    /// Writes why a command ends to stderr, as [`Self::message`] does.
    pub(crate) fn failure(&self, failure: &Failure) {
        // Its parts are escaped already.
        let _ = writeln!(io::stderr().lock(), "{}", self.masked(&failure.to_string()));
    }

    /// `text` with secrets masked.
    pub(crate) fn masked(&self, text: &str) -> String {
        // Not within the lock: a panic in there would come back here.
        let known = self.redactor.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let redactor = known.unwrap_or_else(|| {
            let redactor = Redactor::new(&surroundings::environment(), &[], &VariableMask::default());
            self.mask(redactor.clone());
            redactor
        });
        redactor.redact_text(text).into_owned()
    }

    /// Whether stderr is a terminal, for progress.
    pub(crate) fn on_terminal() -> bool {
        io::stderr().is_terminal()
    }
}

/// Text from files, names and servers must not steer the reader's terminal, nor look like a line of ours: control
/// characters, and those that turn the direction of writing or are invisible, are shown escaped.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Unicode's format characters, line separators and tags that change how other text looks (Unicode Standard Annex 9,
/// Unicode Technical Report 36).
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_shown_not_obeyed() {
        assert_eq!(one_line("a\x1b[2Jb\tc\n"), "a\\u{1b}[2Jb\\tc\\n");
        assert_eq!(one_line("a\nerror: b\u{9b}2J"), "a\\nerror: b\\u{9b}2J");
        assert_eq!(one_line("exe\u{202e}gpj.\u{2066}"), "exe\\u{202e}gpj.\\u{2066}");
        assert_eq!(one_line("naïve 日本語 👍"), "naïve 日本語 👍");
    }
}
