//! Streams that digest what passes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::{ObjectId, StoreError};
use crate::digest::BUFFER;

/// Digests what is read through it.
pub(super) struct Tee<R> {
    pub(super) inner: R,
    pub(super) state: Sha256,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.state.update(&out[..count]);
        Ok(count)
    }
}

/// A git object id is the digest of a header and the content.
pub(super) fn git_blob(size: u64) -> Sha256 {
    Sha256::new_with_prefix(format!("blob {size}\0"))
}

/// Why a [`HashingWriter`] failed.
pub(super) enum WriteFailure {
    TooLarge,
    Io(io::Error),
}

/// Writes to a file, digests what it writes, and keeps its own failures apart from those of whoever calls it.
pub(super) struct HashingWriter<W: Write> {
    out: io::BufWriter<W>,
    state: Sha256,
    /// The state of the git object id, where the length is known beforehand.
    git: Option<Sha256>,
    size: u64,
    limit: u64,
    pub(super) failed: Option<WriteFailure>,
}

impl<W: Write> HashingWriter<W> {
    pub(super) fn new(out: W, limit: u64) -> Self {
        let out = io::BufWriter::with_capacity(BUFFER, out);
        Self { out, state: Sha256::new(), git: None, size: 0, limit, failed: None }
    }

    /// Digests as a git blob as well, which begins with its length.
    pub(super) fn of_size(self, size: u64) -> Self {
        Self { git: Some(git_blob(size)), ..self }
    }

    pub(super) fn finish(self) -> (ObjectId, u64) {
        (ObjectId(self.state.finalize().into()), self.size)
    }

    /// The git object id, 64 hex digits; empty without [`Self::of_size`].
    pub(super) fn gitoid(&self) -> String {
        self.git.as_ref().map(|git| hex::encode(git.clone().finalize())).unwrap_or_default()
    }

    fn fail(&mut self, failure: WriteFailure) -> io::Error {
        let error = match &failure {
            WriteFailure::TooLarge => io::Error::from(io::ErrorKind::FileTooLarge),
            WriteFailure::Io(error) => io::Error::from(error.kind()),
        };
        self.failed = Some(failure);
        error
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size + bytes.len() as u64 > self.limit {
            return Err(self.fail(WriteFailure::TooLarge));
        }
        match self.out.write(bytes) {
            Ok(count) => {
                self.state.update(&bytes[..count]);
                if let Some(git) = &mut self.git {
                    git.update(&bytes[..count]);
                }
                self.size += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(self.fail(WriteFailure::Io(error))),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush().map_err(|error| self.fail(WriteFailure::Io(error)))
    }
}

/// Reads a stored envelope; the read that reaches the end fails if the digest is wrong.
#[derive(Debug)]
pub struct CheckedReader {
    file: File,
    path: PathBuf,
    length: u64,
    left: u64,
    expected: ObjectId,
    state: Option<Sha256>,
    mismatch: Option<ObjectId>,
}

impl CheckedReader {
    pub(super) fn new(file: File, path: PathBuf, length: u64, limit: u64, expected: ObjectId) -> Self {
        Self { file, path, length, left: limit, expected, state: Some(Sha256::new()), mismatch: None }
    }

    /// Length in bytes when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The error that stands behind a failed read.
    pub fn explain(&self, error: io::Error) -> StoreError {
        match self.mismatch {
            Some(found) => StoreError::Mismatch { path: self.path.clone(), expected: self.expected, found },
            None => StoreError::Io { action: "read", path: self.path.clone(), source: error },
        }
    }
}

impl Read for CheckedReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let changed = || io::Error::new(io::ErrorKind::InvalidData, "the content does not have its digest");
        if self.mismatch.is_some() {
            return Err(changed());
        }
        if out.is_empty() {
            return Ok(0);
        }
        let count = self.file.read(out)?;
        let Some(state) = &mut self.state else { return Ok(0) };
        if count > 0 {
            self.left = self.left.checked_sub(count as u64).ok_or(io::ErrorKind::FileTooLarge)?;
            state.update(&out[..count]);
        } else if let Some(state) = self.state.take() {
            let found = ObjectId(state.finalize().into());
            if found != self.expected {
                self.mismatch = Some(found);
                return Err(changed());
            }
        }
        Ok(count)
    }
}
