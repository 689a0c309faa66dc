//! Entries of logs that wait: what the log has answered, and what can never be finished.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use super::{Kind, Spool, SpoolError, Want, disk};
use crate::keyless::rekor::MAX_ANSWER;
use crate::store::ObjectId;
use crate::store::disk::{Aside, Modes};

/// Longest record of an entry that is still to be made, in bytes: it may have an envelope of the longest bundle in it.
pub const MAX_LOG_ENTRY: u64 = 256 << 20;
/// Longest answer that is kept, in bytes: it may have a statement's digests, never the statement.
const MAX_KEPT_ANSWER: u64 = 2 * MAX_ANSWER as u64;
/// What its name ends with.
const SUFFIX: &str = ".answer.json";

/// Room that is taken for an answer, in bytes. Real ones have less than a tenth; longer ones are written all the same, if
/// the disk has more.
const ANSWER_ROOM: u64 = 128 * 1024;

/// Room for what a log will answer.
#[derive(Debug)]
pub struct AnswerRoom {
    file: Aside,
    folder: PathBuf,
    path: PathBuf,
}

impl AnswerRoom {
    /// Keeps what the log has answered. When this returns it is on the disk.
    pub fn keep(self, answer: &[u8]) -> Result<(), SpoolError> {
        let Self { file, folder, path } = self;
        let written = || -> io::Result<()> {
            file.as_file().write_all(answer)?;
            file.as_file().set_len(answer.len() as u64)?;
            disk::publish(file.named(&folder, Modes::PRIVATE)?, &path)
        };
        written().map_err(|source| SpoolError::Io { action: "write", path: path.clone(), source })
    }
}

/// Whether a file is one that keeps an answer.
pub(super) fn is_answer(name: &OsStr) -> bool {
    name.to_str().and_then(|name| ObjectId::from_hex(name.strip_suffix(SUFFIX)?)).is_some()
}

impl Spool {
    fn answer_path(&self, digest: &ObjectId) -> PathBuf {
        self.folder().join(format!("{}{SUFFIX}", digest.hex()))
    }

    /// Takes room on the disk, before a log is asked, for what it will answer about the entry that waits as `digest`: a
    /// log of the second generation says it once. It is given back when it is dropped.
    pub fn reserve_answer(&self, digest: &ObjectId) -> Result<AnswerRoom, SpoolError> {
        let file = self.take(ANSWER_ROOM)?;
        self.tidy(&file)?;
        Ok(AnswerRoom { file, folder: self.folder().to_owned(), path: self.answer_path(digest) })
    }

    /// What is kept as the log's answer. Nothing of it is checked; what cannot be read is none.
    pub fn answer(&self, digest: &ObjectId) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = disk::open_regular(&self.answer_path(digest)).ok()?;
        file.take(MAX_KEPT_ANSWER + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= MAX_KEPT_ANSWER).then_some(bytes)
    }

    /// Forgets what the log has answered.
    pub fn forget_answer(&self, digest: &ObjectId) -> Result<(), SpoolError> {
        disk::remove(&self.answer_path(digest)).map_err(self.failed("tidy"))
    }

    /// The record of an entry that a log is still to make, checked against its digest.
    pub fn load_log_entry(&self, digest: &ObjectId) -> Result<Vec<u8>, SpoolError> {
        if self.entry(digest, Kind::LogEntry)?.size > MAX_LOG_ENTRY {
            return Err(SpoolError::TooLarge { limit: MAX_LOG_ENTRY });
        }
        self.load(digest, Kind::LogEntry)
    }

    /// Writes down why what waits as `digest` will never be finished. It stays until it is removed.
    pub fn end(&self, digest: &ObjectId, kind: Kind, reason: &str) -> Result<(), SpoolError> {
        let entry = self.entry(digest, kind)?;
        let first = entry.wants.first().cloned().unwrap_or_default();
        let ended = Want { reason: reason.to_owned(), ended: true, ..first };
        if entry.wants.contains(&ended) {
            return Ok(());
        }
        let json = ended.to_json();
        let failed = self.failed("write to");
        let mut file = disk::temporary(self.folder(), Modes::PRIVATE).map_err(&failed)?;
        file.write_all(&json).map_err(&failed)?;
        disk::publish(file, &self.want_path(digest, &json)).map_err(failed)?;
        entry.wants.iter().try_for_each(|want| self.forget_want(digest, want))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_answer_is_kept_beside_what_waits_and_goes_with_it() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let spool = Spool::create(&folder.path().join("spool")).expect("a new spool");
        let want = Want { step: Some("app".to_owned()), reason: "502".to_owned(), ..Want::default() };
        let saved = spool.save(Kind::LogEntry, &want, b"{\"a\":1}").expect("spooled");
        assert_eq!(spool.answer(&saved.digest), None);
        drop(spool.reserve_answer(&saved.digest).expect("room"));
        assert_eq!(spool.answer(&saved.digest), None);
        spool.reserve_answer(&saved.digest).and_then(|room| room.keep(b"{}")).expect("kept");
        assert_eq!(spool.answer(&saved.digest).as_deref(), Some(&b"{}"[..]));
        for file in std::fs::read_dir(spool.folder()).expect("read") {
            let path = file.expect("an entry").path();
            assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600, "{path:?}");
        }
        // It is no entry, and nothing strange.
        let waiting = spool.list().expect("listed");
        assert_eq!((waiting.entries.len(), waiting.strange.len()), (1, 0), "{waiting:?}");
        assert_eq!(spool.load_log_entry(&saved.digest).expect("whole"), b"{\"a\":1}");

        spool.end(&saved.digest, Kind::LogEntry, "the certificate is over").expect("marked");
        spool.end(&saved.digest, Kind::LogEntry, "the certificate is over").expect("marked once more");
        let wants = spool.entry(&saved.digest, Kind::LogEntry).expect("it stays").wants;
        assert_eq!(wants.len(), 1, "{wants:?}");
        assert!(wants[0].ended && wants[0].reason.contains("over") && wants[0].step.as_deref() == Some("app"));

        spool.remove(&saved.digest, Kind::LogEntry).expect("removed");
        assert_eq!(std::fs::read_dir(spool.folder()).expect("read").count(), 0);
    }

    #[test]
    fn a_record_that_was_changed_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let spool = Spool::create(&folder.path().join("spool")).expect("a new spool");
        let saved = spool.save(Kind::LogEntry, &Want::default(), b"{\"a\":1}").expect("spooled");
        std::fs::write(&saved.path, b"{\"a\":2}").expect("changed");
        let error = spool.load_log_entry(&saved.digest).expect_err("changed");
        assert!(matches!(error, SpoolError::Changed { .. }), "{error}");
        // Nor is it delivered as evidence.
        let error = spool.resume(&saved.digest, None, jiff::Timestamp::UNIX_EPOCH, &|_, _| Ok(String::new()));
        assert!(matches!(error, Err(SpoolError::NotFound { .. })), "{error:?}");
    }
}
