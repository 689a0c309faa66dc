//! The archivista that the evidence of a run goes to.

use std::cell::Cell;

use affiant_core::run::SealedEnvelope;

use super::CaptureArgs;
use crate::cli::archivista::Archivista;
use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// A server, checked as far as it can be without asking it: one that is down stops no build.
pub(super) struct Server {
    store: Archivista,
    has_headers: bool,
    /// It could not be reached: each further envelope would wait in vain as long.
    is_out: Cell<bool>,
}

impl Server {
    pub(super) fn check(args: &CaptureArgs, named: Option<String>) -> Result<Option<Self>, Failure> {
        let has_headers = !args.archivista.header_args().headers().is_empty();
        let store = args.archivista.open(named, args.offline)?;
        Ok(store.map(|store| Self { store, has_headers, is_out: Cell::new(false) }))
    }

    pub(super) fn address(&self) -> &str {
        self.store.address()
    }

    /// Stores an envelope; gives its git object id, or why it is not there.
    pub(super) fn keep(&self, envelope: &SealedEnvelope, output: &Output) -> Result<String, String> {
        if self.is_out.get() {
            return Err(format!("{} gave no answer a moment ago", self.address()));
        }
        let mut bytes = Vec::new();
        envelope.write(&mut bytes).map_err(|error| error.to_string())?;
        match self.store.put(&bytes) {
            Ok(kept) => {
                // What witness and cilock say: scripts look for it.
                output.message(&format!("Stored in archivista as {}", kept.gitoid));
                Ok(kept.gitoid)
            }
            Err(error) => {
                self.is_out.set(error.is_outage);
                Err(error.to_string())
            }
        }
    }

    /// What `affiant resume` needs besides, to bring it there.
    pub(super) fn resume_flags(&self) -> String {
        if self.has_headers {
            format!(" --archivista-server {} --archivista-headers 'NAME: VALUE'", self.address())
        } else {
            String::new()
        }
    }

    /// The command that shows what is kept there alone.
    pub(super) fn next(&self, gitoid: &str) -> String {
        format!("affiant archive get --archive archivista+{} {gitoid}", self.address())
    }
}
