//! Log entries that wait: they are made, and come to the signatures that they belong to.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use affiant_core::image::complete::Completed;
use affiant_core::image::sigstore::MAX_BUNDLE;
use affiant_core::keyless::fulcio::{Form, Issued};
use affiant_core::keyless::queue::{Place, QueueError, Queued};
use affiant_core::keyless::rekor::{LogEntry, Submission, Version};
use affiant_core::keyless::stamp::Stamped;
use affiant_core::keyless::token::IdentityToken;
use affiant_core::keyless::{AgentJob, ServiceError, Services, Whose};
use affiant_core::outfile::Outfile;
use affiant_core::sign::PrivateKey;
use affiant_core::store::ObjectId;
use affiant_core::store::spool::{AnswerRoom, Entry, Kind as Spooled, Spool};
use zeroize::Zeroizing;

use super::ResumeArgs;
use crate::cli::Ending;
use crate::cli::failure::{Failure, Kind};
use crate::cli::image::queued;
use crate::cli::inspect::read_file_within;
use crate::cli::output::Output;
use crate::cli::surroundings;

/// About the entry that is asked for now.
#[derive(Default)]
struct Noted {
    /// What an earlier attempt was answered, which a log of the second generation does not say again.
    answer: Option<Vec<u8>>,
    /// Where what the log answers now is kept.
    room: Option<AnswerRoom>,
    /// Why it was not.
    failure: Option<String>,
}

/// A log whose answers are written down before anything else is done with them.
struct Noting {
    inner: Arc<dyn Services>,
    noted: Mutex<Noted>,
}

impl Services for Noting {
    fn check(&self, url: &str) -> Result<(), ServiceError> {
        self.inner.check(url)
    }

    fn certificate(&self, url: &str, _: Form, _: &IdentityToken, _: &PrivateKey) -> Result<Issued, ServiceError> {
        Err(ServiceError::bad(url, "no certificate is asked for here"))
    }

    fn entry(&self, url: &str, version: Version, submission: &Submission<'_>) -> Result<LogEntry, ServiceError> {
        if let Some(answer) = &self.noted().answer {
            return submission.answer(version, answer).map_err(|error| ServiceError::bad(url, error));
        }
        let made = self.inner.entry(url, version, submission)?;
        self.noted().note(&made);
        Ok(made)
    }

    fn existing(&self, url: &str, submission: &Submission<'_>, whose: Whose<'_>) -> Result<LogEntry, ServiceError> {
        let made = self.inner.existing(url, submission, whose)?;
        self.noted().note(&made);
        Ok(made)
    }

    fn made(&self, url: &str, submission: &Submission<'_>) -> Result<Option<LogEntry>, ServiceError> {
        let made = self.inner.made(url, submission)?;
        if let Some(made) = &made {
            self.noted().note(made);
        }
        Ok(made)
    }

    fn timestamp(&self, url: &str, _: &[u8]) -> Result<Stamped, ServiceError> {
        Err(ServiceError::bad(url, "no timestamp is asked for here"))
    }

    fn buildkite(&self, job: &AgentJob, _: &str) -> Result<Zeroizing<String>, ServiceError> {
        Err(ServiceError::bad(&job.endpoint, "no token is asked for here"))
    }
}

impl Noting {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noted {
    /// What cannot be written down is used all the same, and [`Self::failure`] says so.
    fn note(&mut self, made: &LogEntry) {
        // The first answer has the entry; one that comes after it takes no failure back.
        if let Some(room) = self.room.take() {
            self.failure = room.keep(&made.answer).err().map(|error| error.to_string());
        }
    }
}

/// The logs, asked with one budget of time for all entries.
pub(super) struct Logs<'a> {
    args: &'a ResumeArgs,
    spool: &'a Spool,
    asked: Option<(Arc<Noting>, Arc<dyn Services>)>,
}

/// Drops a log entry that is not to be made any more.
pub(super) fn forget(spool: &Spool, entries: &[&Entry], output: &Output) -> Result<Ending, Failure> {
    for entry in entries {
        let digest = &entry.digest;
        if entry.kind != Spooled::LogEntry {
            return Err(Failure::usage(format!("--forget: {digest} is evidence, and no log entry"))
                .hint("a file of the spool that is not wanted can be deleted"));
        }
        spool
            .remove(digest, Spooled::LogEntry)
            .map_err(|error| Failure::because(Kind::NoAnswer, format!("{digest} is not dropped"), &error))?;
        output.message(&format!("{digest} is dropped: its signature stays without this log entry"));
    }
    Ok(Ending::Done)
}

impl<'a> Logs<'a> {
    pub(super) fn new(args: &'a ResumeArgs, spool: &'a Spool) -> Self {
        Self { args, spool, asked: None }
    }

    /// Has an entry made, and puts it where its signature is.
    pub(super) fn finish(&mut self, entry: &Entry, output: &Output) -> Result<(), Failure> {
        let digest = &entry.digest;
        let waits = |error: &dyn std::error::Error| {
            Failure::because(Kind::NoAnswer, format!("{digest}: the log entry still waits"), error)
        };
        let dropping = self.dropping(digest);
        let unusable = |error: &dyn std::error::Error| {
            Failure::because(Kind::NoAnswer, format!("{digest}: the log entry cannot be made"), error)
                .hint(dropping.clone())
        };
        let record = self.spool.load_log_entry(digest).map_err(|error| unusable(&error))?;
        let queued = Queued::parse(&record).map_err(|error| unusable(&error))?;
        let places = self.places(&queued)?;
        let made = self.made(digest, &queued, &places, output).map_err(|error| match error {
            Asked::Failure(failure) => failure,
            Asked::Queue(error) if error.is_final() => {
                let _ = self.spool.end(digest, Spooled::LogEntry, &output.masked(&error.to_string()));
                let failure = Failure::because(
                    Kind::NoAnswer,
                    format!("{digest}: the log entry will never be made, and the timestamp stays as proof"),
                    &error,
                );
                failure.hint(dropping.clone())
            }
            Asked::Queue(QueueError::Service(error)) if error.is_duplicate => {
                let root = if self.args.signer.names_root() { "" } else { " --trusted-root ROOT" };
                waits(&error).hint(format!(
                    "`{}{root}`, with a root that has this log's key, takes its entry from its tiles",
                    self.again(digest)
                ))
            }
            Asked::Queue(error) => waits(&error),
        })?;
        let mut first = None;
        for place in &places {
            match self.complete(place, &queued, &made) {
                Ok(completed) => {
                    output.message(&format!(
                        "{digest}: the entry {} of {} is in {}",
                        made.index, queued.log, completed.place
                    ));
                    for note in completed.notes {
                        output.message(&format!("note: {note}"));
                    }
                }
                Err(failure) => {
                    let failure = failure.hint(self.left(&queued, digest, output));
                    if first.is_none() {
                        first = Some(failure);
                    } else {
                        output.failure(&failure);
                    }
                }
            }
        }
        match first {
            Some(failure) => Err(failure),
            None => self.spool.remove(digest, Spooled::LogEntry).map_err(|error| waits(&error)),
        }
    }

    /// The line that tries again.
    fn again(&self, digest: &ObjectId) -> String {
        let (flags, targets) = (self.args.signer.log_flags(), self.args.targets.resume_flags());
        format!("affiant resume{}{flags}{targets} --digest {digest}", self.args.spool_flag())
    }

    fn dropping(&self, digest: &ObjectId) -> String {
        format!("`affiant resume{} --forget --digest {digest}` drops it", self.args.spool_flag())
    }

    /// What there is of an entry that was made, and could not be put where it belongs.
    fn left(&self, queued: &Queued, digest: &ObjectId, output: &Output) -> String {
        let failure = self.asked.as_ref().and_then(|(noting, _)| noting.noted().failure.clone());
        let (again, dropping) = (self.again(digest), self.dropping(digest));
        let Some(failure) = failure else {
            return format!("what the log has answered is kept: `{again}` tries again; {dropping}");
        };
        let root =
            if queued.version == Version::Two && !self.args.signer.names_root() { " --trusted-root ROOT" } else { "" };
        let failure = output.masked(&failure);
        format!("what the log has answered could not be kept ({failure}): `{again}{root}` asks it again; {dropping}")
    }

    /// The places, or the file that the user names.
    fn places(&self, queued: &Queued) -> Result<Vec<Place>, Failure> {
        let Some(file) = &self.args.outfile else { return Ok(queued.places.clone()) };
        if queued.places.iter().any(|place| !matches!(place, Place::File(_))) {
            return Err(Failure::usage("--outfile: the log entry is for an image, not for a bundle in a file"));
        }
        Ok(vec![Place::File(std::path::absolute(file).unwrap_or_else(|_| file.clone()))])
    }

    /// The entry, made now or by an earlier attempt.
    fn made(
        &mut self,
        digest: &ObjectId,
        queued: &Queued,
        places: &[Place],
        output: &Output,
    ) -> Result<LogEntry, Asked> {
        let answer = self.spool.answer(digest);
        let answer = answer.filter(|bytes| queued.submission().answer(queued.version, bytes).is_ok());
        let asks = if answer.is_none() { queued.can_enter(surroundings::now()) } else { Ok(()) };
        if self.args.offline {
            let failure =
                Failure::new(Kind::NoAnswer, format!("{digest}: --offline, and {} is to be asked", queued.log));
            return Err(Asked::Failure(failure.hint("leave --offline out")));
        }
        let (noting, services) = self.services(output)?;
        self.args.signer.permit_log(services.as_ref(), &queued.log)?;
        if answer.is_none() {
            self.look(digest, queued, places, output)?;
        }
        *noting.noted() = Noted::default();
        // Before the log is asked: it says it once.
        let room = answer.is_none().then(|| self.spool.reserve_answer(digest)).transpose();
        let room = room.map_err(|error| {
            let message = format!("{digest}: the log entry still waits, for its answer could not be kept");
            Failure::because(Kind::NoAnswer, message, &error)
                .hint(format!("make room there, then `{}`", self.again(digest)))
        })?;
        *noting.noted() = Noted { answer, room, failure: None };
        if let Err(over) = asks {
            // The log may have it since an attempt whose answer was lost: its time may do.
            return match services.made(&queued.log, &queued.submission()) {
                Ok(Some(made)) if queued.in_time(&made).is_ok() => Ok(made),
                Ok(_) => Err(over.into()),
                Err(error) => Err(QueueError::Service(error).into()),
            };
        }
        Ok(queued.enter(services.as_ref())?)
    }

    /// Looks whether the signature is still in one of its places: a log is told nothing of one that is nowhere.
    fn look(&self, digest: &ObjectId, queued: &Queued, places: &[Place], output: &Output) -> Result<(), Failure> {
        let mut failures = Vec::new();
        for place in places {
            let found = match place {
                Place::File(path) => bundle_in(path, queued).map(|_| ()),
                place => queued::look(&self.args.targets, place, queued),
            };
            match found {
                Ok(()) => return Ok(()),
                Err(failure) => failures.push(failure),
            }
        }
        let mut failures = failures.into_iter();
        let Some(first) = failures.next() else { return Ok(()) };
        failures.for_each(|failure| output.failure(&failure));
        Err(first.hint(format!(
            "{} is not asked before the signature is found; where it is gone for good, {}",
            queued.log,
            self.dropping(digest)
        )))
    }

    fn services(&mut self, output: &Output) -> Result<(Arc<Noting>, Arc<dyn Services>), Failure> {
        if let Some((noting, services)) = &self.asked {
            return Ok((Arc::clone(noting), Arc::clone(services)));
        }
        let inner = self.args.signer.logs()?;
        let noting = Arc::new(Noting { inner, noted: Mutex::default() });
        let services = self.args.signer.checked(Arc::clone(&noting) as Arc<dyn Services>, output)?;
        self.asked = Some((Arc::clone(&noting), Arc::clone(&services)));
        Ok((noting, services))
    }

    fn complete(&self, place: &Place, queued: &Queued, made: &LogEntry) -> Result<Completed, Failure> {
        match place {
            Place::File(path) => in_file(path, queued, made),
            place => queued::complete(&self.args.targets, place, queued, made),
        }
    }
}

/// Why there is no entry.
enum Asked {
    Failure(Failure),
    Queue(QueueError),
}

impl From<Failure> for Asked {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<QueueError> for Asked {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

/// The bundle in a file, where it is that of the signature.
fn bundle_in(path: &Path, queued: &Queued) -> Result<(Outfile, Vec<u8>), Failure> {
    let shown = path.display();
    let elsewhere = |failure: Failure| failure.hint("`--outfile FILE` names the file that has the bundle now");
    let file = Outfile::probe(path).map_err(|error| stays(path, &error))?;
    if file.file().is_none() {
        return Err(elsewhere(Failure::new(Kind::NoAnswer, format!("{shown} is no file"))));
    }
    let bytes = read_file_within(path, MAX_BUNDLE).map_err(elsewhere)?;
    queued.is_in(&bytes).map_err(|error| elsewhere(stays(path, &error)))?;
    Ok((file, bytes))
}

fn stays(path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::because(Kind::NoAnswer, format!("{} stays as it is, and gets no log entry", path.display()), error)
}

/// Puts an entry into the bundle in a file, which is replaced at once, and only where it is still that of the signature.
fn in_file(path: &Path, queued: &Queued, made: &LogEntry) -> Result<Completed, Failure> {
    let (file, bytes) = bundle_in(path, queued)?;
    if let Some(completed) = queued.complete(&bytes, made).map_err(|error| stays(path, &error))? {
        file.write(&completed).map_err(|error| stays(path, &error))?;
    }
    Ok(Completed { place: path.display().to_string(), notes: Vec::new() })
}
