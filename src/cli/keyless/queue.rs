//! What waits when a log does not answer while something is signed (`--on-log-failure queue`).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use affiant_core::keyless::queue::{Place, Queued, Signer};
use affiant_core::keyless::sealer::{Proof, Sealer, Sources};
use affiant_core::outfile::Outfile;
use affiant_core::store::spool::{Kind as Spooled, Spool, Want};

use super::{LogFailure, ServiceArgs, is_public, word};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::Output;
use crate::cli::{places, surroundings};

/// Where entries wait that a log did not make.
pub(crate) struct Queue {
    /// Nothing waits where nobody said so.
    spool: Option<Spool>,
    /// Hosts of the registries of what is signed.
    registries: Vec<String>,
    /// What `resume` has to be told.
    flags: String,
    has_hinted: AtomicBool,
}

impl ServiceArgs {
    /// The queue, looked at before anything is signed. `flags` are for `resume`.
    pub(crate) fn queue(&self, registries: Vec<String>, flags: &str) -> Result<Queue, Failure> {
        let mut queue = Queue { spool: None, registries, flags: String::new(), has_hinted: AtomicBool::new(false) };
        if self.on_log_failure != LogFailure::Queue {
            return Ok(queue);
        }
        let named = self.spool.as_ref().filter(|folder| !folder.as_os_str().is_empty());
        let folder = named.cloned().or_else(|| places::places().spool).ok_or_else(|| {
            Failure::usage("--on-log-failure queue: there is no spool, for neither HOME nor AFFIANT_HOME is set")
                .hint("name a folder with `--spool DIR`")
        })?;
        let folder = absolute(&folder);
        let spool = Spool::create(&folder).map_err(|error| {
            Failure::because(Kind::NoAnswer, "log entries cannot wait: the spool cannot be used", &error)
        })?;
        if named.is_some() {
            queue.flags = format!(" --spool {}", word(&folder.display().to_string()));
        }
        if let Some(root) = self.named.root.named() {
            queue.flags.extend([" --trusted-root ", &word(root)]);
        }
        queue.flags.push_str(flags);
        queue.spool = Some(spool);
        Ok(queue)
    }

    /// The same for what is kept in a bundle in a file.
    pub(crate) fn queue_of_file(&self, bundle: Option<&Path>) -> Result<(Queue, Vec<Place>), Failure> {
        let queue = self.queue(Vec::new(), "")?;
        if queue.spool.is_none() {
            return Ok((queue, Vec::new()));
        }
        let none = || {
            Failure::usage("--on-log-failure queue: no file is written that has room for the log entry")
                .hint("add `--bundle FILE`")
        };
        let bundle = bundle.ok_or_else(none)?;
        // A device keeps nothing; what cannot be written at all is said elsewhere.
        if Outfile::probe(bundle).is_ok_and(|outfile| outfile.file().is_none()) {
            return Err(none());
        }
        Ok((queue, vec![Place::File(absolute(bundle))]))
    }

    /// Refuses a queue in which a signature could not be used: its time is proven now, or by nobody.
    pub(super) fn can_wait(&self, sources: &Sources) -> Result<(), Failure> {
        if self.on_log_failure == LogFailure::Queue && !sources.logs.is_empty() && sources.timestamps.is_empty() {
            return Err(Failure::usage(
                "--on-log-failure queue: nothing would prove when the certificate signed, if the log does not answer",
            )
            .hint("add `--timestamp-servers URL`, or `tsaUrls` to the signing configuration"));
        }
        Ok(())
    }
}

impl Queue {
    /// Writes down what a log did not make an entry of, before the signature is kept: there is none of which nobody knows
    /// that its entry is missing. `places` are those in which the signature will be.
    pub(crate) fn keep(
        &self,
        sealer: &Sealer,
        proof: &Proof,
        places: &[Place],
        output: &Output,
    ) -> Result<(), Failure> {
        let Some(spool) = &self.spool else { return Ok(()) };
        for pending in &proof.pending {
            let reason = &pending.reason;
            let queued = Queued::new(pending, Signer::of(sealer.verifier()), &self.registries, places);
            let Some(first) = queued.places.first() else {
                output.message(&format!(
                    "note: no log entry was made ({reason}), and none is queued: what is kept has no room for one"
                ));
                continue;
            };
            let want = Want {
                step: Some(first.to_string()),
                reason: output.masked(reason),
                saved: surroundings::now(),
                ..Want::default()
            };
            let saved = spool.save(Spooled::LogEntry, &want, &queued.to_json()).map_err(|error| {
                Failure::because(
                    Kind::NoAnswer,
                    format!("no log entry was made ({reason}), and it cannot be queued: nothing was kept"),
                    &error,
                )
            })?;
            output.message(&format!("note: no log entry was made ({reason}); it waits in {}", saved.path.display()));
            if !self.has_hinted.swap(true, Ordering::Relaxed) {
                let consent = if is_public(&pending.log) { " --log-public-ok" } else { "" };
                output.message(&format!("hint: finish with `affiant resume{}{consent}`", self.flags));
            }
        }
        Ok(())
    }
}

/// The path by which a file is found from anywhere, with the links that lead to its folder resolved.
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (path.parent().and_then(|folder| folder.canonicalize().ok()), path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path,
    }
}
