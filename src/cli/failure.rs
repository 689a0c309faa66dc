//! How a command ends when it does not do what was asked: kind, text, hints, exit code.
//!
//! The table in `docs/reference/exit-codes.md` is printed from [`TABLE`].

use std::error::Error;
use std::fmt::{self, Write as _};

pub(crate) use affiant_core::nearest::nearest;

use super::output::one_line;

/// What kind of thing went wrong; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command line or a configuration file is wrong.
    Usage,
    /// `run` said no before anything ran, or its evidence failed although the command succeeded.
    Run,
    /// Denied, not valid, not found: the answer is no.
    Denied,
    /// Nothing that answers the question was found.
    NotFound,
    /// `image`: nothing is signed, as cosign says it.
    NoSignature,
    /// `image`: the image is not there.
    NoTag,
    /// `image`: what is signed is not what is demanded.
    NoMatch,
    /// `image`: a certificate is demanded, and the signature has none.
    NoCertificate,
    /// No answer could be given: a file cannot be read, a store cannot be reached.
    NoAnswer,
}

/// Exit codes with their meaning, for the reference.
pub(crate) const TABLE: &[(&str, &str, &str)] = &[
    ("run", "0", "the command ended with 0 and its evidence is sealed and kept"),
    ("run", "1–255", "the command's own code"),
    ("run", "124", "the command was ended by `--timeout`"),
    (
        "run",
        "125",
        "affiant's own: refused before the command ran, or the evidence failed although the command succeeded",
    ),
    ("run", "126", "the command was found but cannot be executed"),
    ("run", "127", "the command was not found"),
    ("run", "128+n", "the command was ended by signal n"),
    ("attest", "0", "the evidence is sealed and kept"),
    (
        "attest",
        "1",
        "a named attestor or product was not found, or the evidence was not kept where it should be; or a document holds a secret, so nothing was signed",
    ),
    ("attest", "2", "usage: the command line or a configuration file is wrong"),
    ("attest", "4", "nothing was signed: a key, folder or place cannot be used"),
    ("verify", "0", "passed; or denied in `--mode warn` or `audit`, which the verdict says"),
    ("verify", "1", "denied"),
    ("verify", "2", "usage; or something other than a flag says whom to trust"),
    ("verify", "3", "no evidence about what was asked was found"),
    (
        "verify",
        "4",
        "no answer possible: a key, policy or archive cannot be read; or what was missed may be in a list or tag of the image that cannot be read; or the summary (`--vsa-outfile`) could not be signed, whatever the answer",
    ),
    ("image", "0", "done; the answer is yes"),
    ("image", "1", "a policy says no; or what should be signed holds a secret, so nothing was signed"),
    ("image", "2", "usage: the command line is wrong"),
    (
        "image",
        "4",
        "no answer possible: a registry, key, token, service or file cannot be used; or what was signed could not be kept",
    ),
    ("image", "10", "nothing is signed, or attested"),
    ("image", "11", "the image is not there"),
    ("image", "12", "what is signed is not what is demanded"),
    ("image", "13", "a certificate is demanded, and no signature has one"),
    ("kyverno check", "0", "every rule about the image would pass"),
    ("kyverno check", "1", "a rule would fail"),
    ("kyverno check", "3", "no rule is about the image"),
    ("kyverno check", "4", "no answer possible, or something in a rule is not judged"),
    ("other commands", "0", "done; the answer is yes"),
    ("other commands", "1", "the answer is no: a signature does not verify, a check found damage"),
    ("other commands", "2", "usage: the command line or a configuration file is wrong"),
    ("other commands", "3", "nothing found"),
    ("other commands", "4", "no answer possible: a file cannot be read, a store is missing"),
];

/// A failure as it is shown: one error line, its causes, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hints: Vec::new() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// A failure with the chain of an error as its causes.
    pub(crate) fn because(kind: Kind, message: impl Into<String>, error: &dyn Error) -> Self {
        let mut failure = Self::new(kind, message);
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // An error whose text has that of its source already.
            if !failure.causes.last().is_some_and(|cause| cause.ends_with(&text)) {
                failure.causes.push(text);
            }
            next = error.source();
        }
        failure
    }

    /// Adds what the reader can do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self.kind {
            Kind::Denied => 1,
            Kind::Usage => 2,
            Kind::NotFound => 3,
            Kind::NoAnswer => 4,
            Kind::NoSignature => 10,
            Kind::NoTag => 11,
            Kind::NoMatch => 12,
            Kind::NoCertificate => 13,
            Kind::Run => 125,
        }
    }

    /// The whole text in one line, for reports.
    pub(crate) fn one_line(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).cloned().collect::<Vec<_>>().join(": ")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A name with a line break in it cannot begin a line that looks like ours.
        write!(f, "error: {}", one_line(&self.message))?;
        for cause in &self.causes {
            write!(f, "\n  caused by: {}", one_line(cause))?;
        }
        for hint in &self.hints {
            write!(f, "\nhint: {}", one_line(hint))?;
        }
        Ok(())
    }
}

/// The reference page of the exit codes.
pub(crate) fn reference() -> String {
    let mut page = String::from(
        "# Exit codes\n\nPrinted from the code (`affiant docs exit-codes`). `run --report FILE` tells the cases of one code apart: see\n[evidence](evidence.md#the-report-of-a-run).\n\n| command | code | meaning |\n|---|---|---|\n",
    );
    for (command, code, meaning) in TABLE {
        let _ = writeln!(page, "| {command} | {code} | {meaning} |");
    }
    page
}
