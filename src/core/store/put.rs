//! Storing an envelope: see [`super`] for the order of the steps.

use std::io::{self, Read, Seek as _, Write};
use std::time::SystemTime;

use jiff::Timestamp;
use sha2::Digest as _;
use tempfile::NamedTempFile;

use super::extract::{self, Extract, ExtractError};
use super::segment::Key;
use super::stream::{self, HashingWriter, Tee, WriteFailure};
use super::{Archive, ObjectId, Record, StoreError, disk};
use crate::dsse::{self, Signature};

/// What became of [`Archive::put`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// SHA-256 of the envelope's bytes.
    pub digest: ObjectId,
    /// Git object id, 64 hex digits.
    pub gitoid: String,
    /// Length in bytes.
    pub size: u64,
    /// It was there before; nothing was changed.
    pub already: bool,
    /// The envelope is stored, but tidying the index afterwards failed: worth a warning.
    pub warning: Option<String>,
}

/// What the index keeps of a payload, found in memory before its envelope is stored.
#[derive(Clone, Debug)]
pub struct Outline {
    found: Extract,
    payload_type: String,
    /// Length of the payload in bytes.
    length: u64,
}

impl Outline {
    /// Reads `payload`; `payload_type` is that of its envelope.
    pub fn of(payload: &[u8], payload_type: &str) -> Self {
        let found = extract::of_payload(payload, payload_type);
        Self { found, payload_type: payload_type.to_owned(), length: payload.len() as u64 }
    }

    /// SHA-256 of the payload, 64 hex digits.
    pub fn payload_sha256(&self) -> &str {
        &self.found.payload_sha256
    }
}

impl Archive {
    /// Stores an envelope that is in memory. `stored` is the time that is kept with it.
    pub fn put(&self, envelope: &[u8], stored: Timestamp) -> Result<Stored, StoreError> {
        self.put_with(stored, |out| out.write_all(envelope))
    }

    /// Stores an envelope that `produce` writes. When this returns, the envelope is on the disk and can be found;
    /// when it fails, nothing is changed. Equal bytes are stored once, and keep the time of the first.
    pub fn put_with(
        &self,
        stored: Timestamp,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Stored, StoreError> {
        let failed = |source| StoreError::Io { action: "write to", path: self.objects.clone(), source };
        let mut file = disk::temporary(&self.objects, self.modes).map_err(failed)?;
        let mut writer = HashingWriter::new(file.as_file_mut(), self.max_object);
        self.write(&mut writer, produce)?;
        let (id, size) = writer.finish();
        file.rewind().map_err(failed)?;
        let (record, keys) = describe(file.as_file_mut(), id, size, stored).map_err(|error| match error {
            ExtractError::Read(source) => failed(source),
            error @ ExtractError::Syntax(..) => StoreError::NotAnEnvelope { reason: error.to_string() },
        })?;
        self.keep(file, record, keys)
    }

    /// As [`Archive::put_with`], for an envelope of ours: what the index keeps of it is known, and so is its length,
    /// so it is not read back.
    pub fn put_outlined(
        &self,
        stored: Timestamp,
        outline: &Outline,
        signatures: &[Signature],
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Stored, StoreError> {
        let failed = |source| StoreError::Io { action: "write to", path: self.objects.clone(), source };
        let mut file = disk::temporary(&self.objects, self.modes).map_err(failed)?;
        let size = dsse::envelope_size(outline.length, &outline.payload_type, signatures);
        let mut writer = HashingWriter::new(file.as_file_mut(), self.max_object).of_size(size);
        self.write(&mut writer, produce)?;
        let gitoid = writer.gitoid();
        let (id, written) = writer.finish();
        if written != size {
            return Err(StoreError::Producer(io::Error::other("the envelope has not the length that it should have")));
        }
        let found = Extract { signatures: signatures.len() as u64, ..outline.found.clone() };
        let (record, keys) = record_of(found, id, gitoid, size, stored);
        self.keep(file, record, keys)
    }

    fn write(
        &self,
        writer: &mut HashingWriter<impl Write>,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let outcome = produce(writer).and_then(|()| writer.flush());
        match (outcome, writer.failed.take()) {
            (_, Some(WriteFailure::TooLarge)) => Err(StoreError::TooLarge { limit: self.max_object }),
            (_, Some(WriteFailure::Io(source))) => {
                Err(StoreError::Io { action: "write to", path: self.objects.clone(), source })
            }
            (Err(error), None) => Err(StoreError::Producer(error)),
            (Ok(()), None) => Ok(()),
        }
    }

    /// Gives a written envelope its record and its name.
    fn keep(&self, file: NamedTempFile, record: Record, keys: Vec<Key>) -> Result<Stored, StoreError> {
        let failed = |source| StoreError::Io { action: "write to", path: self.objects.clone(), source };
        let Record { digest: id, size, stored, .. } = record;
        let mut answer = Stored { digest: id, gitoid: record.gitoid.clone(), size, already: false, warning: None };

        // One that is there but no longer whole is replaced.
        if self.verify(&id).is_ok() {
            answer.already = true;
            // A damaged index does not keep evidence out: saying a thing twice is harmless.
            if self.index.contains(&id).unwrap_or(false) {
                return Ok(answer);
            }
        }
        // The time is on the file too: the index can be made again from the files alone.
        let times = std::fs::FileTimes::new().set_modified(SystemTime::from(stored));
        file.as_file().set_times(times).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        self.index.add(record.clone(), keys.clone())?;
        let path = self.path(&id);
        if !answer.already {
            let folder = path.parent().unwrap_or(&self.objects);
            disk::make_folder(folder, self.modes).map_err(failed)?;
            disk::publish(file, &path).map_err(failed)?;
        }
        // A process that stood still between the last two steps for long may find its record tidied away.
        if !self.index.has_own_segment(&id) && !self.index.contains(&id).unwrap_or(false) {
            self.index.add(record, keys)?;
        }
        if let Err(error) = self.index.tidy(|id| self.exists(id), |now| self.tidy_objects(now)) {
            answer.warning = Some(error.to_string());
        }
        Ok(answer)
    }
}

/// Reads a stored envelope from its beginning and makes the record that the index keeps.
pub(super) fn describe(
    file: impl Read,
    digest: ObjectId,
    size: u64,
    stored: Timestamp,
) -> Result<(Record, Vec<Key>), ExtractError> {
    let mut reader = Tee { inner: file, state: stream::git_blob(size) };
    let found = extract::extract(&mut reader)?;
    Ok(record_of(found, digest, hex::encode(reader.state.finalize()), size, stored))
}

fn record_of(found: Extract, digest: ObjectId, gitoid: String, size: u64, stored: Timestamp) -> (Record, Vec<Key>) {
    let record = Record {
        digest,
        gitoid,
        size,
        stored,
        payload_type: found.payload_type,
        payload_sha256: found.payload_sha256,
        predicate_type: found.predicate_type,
        step: found.step,
        attestations: found.attestations,
        subjects: found.subjects,
        signatures: found.signatures,
        notes: found.notes,
    };
    (record, found.keys)
}
