//! The embedded archive: a folder that keeps envelopes and finds them again.
//!
//! ```text
//! affiant-archive.json          says that this is an archive, and its format
//! objects/sha256/ab/cdef…       the exact bytes of each envelope, named by their SHA-256
//! index/                        what is known of each envelope and its subjects (see `index`)
//! trust/                        the trusted roots that were current when keyless evidence was stored (see `trust`)
//! ```
//! An envelope is stored in this order: its bytes are written aside and flushed; its record goes into the index and
//! is flushed; it gets its name. So an envelope that has a name is whole and can be found, whenever a process is
//! killed or the power fails, and any number of processes can write at the same time. The index can be made again
//! from the objects at any time ([`Archive::reindex`]).
//!
//! Why it is made so, and what else was considered: `docs/decisions/004-archive-layout.md`.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use nix::unistd::AccessFlags;
use serde::{Deserialize, Serialize};

mod check;
pub(crate) mod disk;
mod extract;
mod index;
mod merge;
mod outline;
mod put;
mod query;
mod segment;
pub mod spool;
mod stream;
mod trust;

pub use check::{Problem, Reindexed, Report};
pub use extract::{MAX_DIGESTS_OF_SUBJECT, MAX_SUBJECTS, MAX_TEXT, MAX_TYPES};
pub use put::{Outline, Stored};
pub use query::{Cursor, Found, MIN_PREFIX, Query, SubjectDigest};
pub use stream::CheckedReader;
pub use trust::TrustLink;

use disk::Modes;
use index::Index;
use segment::Position;

use crate::sigstore::RootError;

/// Length in bytes of the largest envelope that an archive takes or gives, unless told otherwise: 1 GiB.
pub const MAX_OBJECT: u64 = 1 << 30;
/// Length in bytes of the format file.
const MAX_MARKER: u64 = 4096;
/// The format that this code writes and reads.
const FORMAT: u32 = 1;
const MARKER: &str = "affiant-archive.json";

/// What went wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("{}: cannot {action} it: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no archive at this place.
    #[error("{}: no archive (it has no {MARKER})", path.display())]
    NotAnArchive {
        /// The folder.
        path: PathBuf,
    },
    /// An archive is not made in a folder with other things in it.
    #[error("{}: neither an archive nor an empty folder", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// The archive was made by a later version.
    #[error("{}: archive format {found}, this version knows {FORMAT}", path.display())]
    Format {
        /// The folder.
        path: PathBuf,
        /// What its format file says.
        found: String,
    },
    /// The file that says that this is an archive says nothing that can be read. [`Archive::repair`] writes it again.
    #[error("{}: not what says that this is an archive", path.display())]
    Marker {
        /// The file.
        path: PathBuf,
    },
    /// The envelope is longer than the limit.
    #[error("the envelope has more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// What was given is no DSSE envelope.
    #[error("not an envelope: {reason}")]
    NotAnEnvelope {
        /// Why, and at which byte.
        reason: String,
    },
    /// What was given is no trusted root.
    #[error("what should be kept as a trusted root is none: {source}")]
    NotARoot {
        /// Why.
        source: RootError,
    },
    /// Whoever should write the envelope failed.
    #[error("the envelope cannot be written: {0}")]
    Producer(#[source] io::Error),
    /// A reference that is no digest.
    #[error("`{reference}` is no digest: sha256:<hex>, at least {MIN_PREFIX} hex digits, or gitoid:blob:sha256:<hex>")]
    Reference {
        /// What was given.
        reference: String,
    },
    /// No envelope has this digest.
    #[error("no envelope `{reference}` in {}", archive.display())]
    NotFound {
        /// What was asked for.
        reference: String,
        /// The archive.
        archive: PathBuf,
    },
    /// A shortened digest fits several envelopes.
    #[error("`{reference}` fits several envelopes: {}", candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        reference: String,
        /// The first few that fit.
        candidates: Vec<String>,
    },
    /// A stored envelope does not have the digest that it is named by.
    #[error("{}: the content has changed: expected {expected}, found {found}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Its name.
        expected: ObjectId,
        /// Digest of what it holds.
        found: ObjectId,
    },
    /// A part of the index cannot be read. It can be made again from the envelopes.
    #[error("{}: the index is damaged: {reason}", path.display())]
    DamagedIndex {
        /// The part.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Other processes changed the index faster than it could be read.
    #[error("{}: the index changes too fast to be read", path.display())]
    Busy {
        /// The index.
        path: PathBuf,
    },
}

/// SHA-256 of the exact bytes of a stored envelope.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId(pub [u8; 32]);

impl ObjectId {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(crate::digest::sha256(bytes))
    }

    /// 64 lowercase hex digits.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads 64 hex digits.
    pub fn from_hex(digits: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Reads `sha256:<64 hex digits>`, the form in which it is printed, or the digits alone.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_hex(text.strip_prefix("sha256:").unwrap_or(text))
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ObjectId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a SHA-256"))
    }
}

/// What the index knows of an envelope. Nothing of it is checked: it serves to find, not to judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// SHA-256 of the envelope's bytes.
    pub digest: ObjectId,
    /// Git object id of the same bytes as a blob in SHA-256 format, 64 hex digits: the name that archivista gives.
    pub gitoid: String,
    /// Length in bytes.
    pub size: u64,
    /// When it was stored.
    #[serde(with = "time")]
    pub stored: Timestamp,
    /// `payloadType` of the envelope; empty if it is longer than [`MAX_TEXT`].
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// SHA-256 of the payload, 64 hex digits.
    #[serde(rename = "payloadSha256")]
    pub payload_sha256: String,
    /// `predicateType` of the statement, if the payload is one.
    #[serde(rename = "predicateType", default, skip_serializing_if = "Option::is_none")]
    pub predicate_type: Option<String>,
    /// Name of the collection, which is the name of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Types of the collection's attestations, sorted, none twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<String>,
    /// Number of subjects of the statement.
    #[serde(default)]
    pub subjects: u64,
    /// Number of signatures.
    #[serde(default)]
    pub signatures: u64,
    /// What could not be indexed, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Record {
    fn position(&self) -> Position {
        Position::new(self.stored, self.digest)
    }
}

/// RFC 3339 in UTC, to the nanosecond.
mod time {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who may read a new archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever the umask lets: for a folder that the user named.
    Shared,
    /// The owner alone (folders 0700, files 0600): for the default one.
    Private,
}

impl Access {
    fn modes(self) -> Modes {
        match self {
            Self::Shared => Modes::SHARED,
            Self::Private => Modes::PRIVATE,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
}

/// An archive in a folder.
#[derive(Debug)]
pub struct Archive {
    root: PathBuf,
    objects: PathBuf,
    index: Index,
    modes: Modes,
    max_object: u64,
}

impl Archive {
    /// Opens the archive in the folder `root`, which must be there.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let path = root.join(MARKER);
        let failed = |source| StoreError::Io { action: "read", path: path.clone(), source };
        let mut text = Vec::new();
        match disk::open_regular(&path) {
            Ok(file) => file.take(MAX_MARKER).read_to_end(&mut text).map_err(failed)?,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(StoreError::NotAnArchive { path: root.to_owned() });
            }
            Err(error) => return Err(failed(error)),
        };
        match serde_json::from_slice::<Marker>(&text) {
            Ok(Marker { format: FORMAT }) => Self::at_modes_of(root),
            Ok(Marker { format }) => Err(StoreError::Format { path: root.to_owned(), found: format.to_string() }),
            Err(_) => Err(StoreError::Marker { path }),
        }
    }

    /// What is added to a private archive is private too.
    fn at_modes_of(root: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io { action: "read", path: root.to_owned(), source };
        let mode = std::fs::metadata(root).map_err(failed)?.permissions().mode();
        Ok(Self::at(root, if mode & 0o077 != 0 { Modes::SHARED } else { Modes::PRIVATE }))
    }

    /// Opens the archive in the folder `root`, or makes it there: in a new or an empty folder.
    pub fn create(root: &Path, access: Access) -> Result<Self, StoreError> {
        let modes = access.modes();
        match Self::open(root) {
            Err(StoreError::NotAnArchive { .. }) => {}
            other => return other,
        }
        let archive = Self::at(root, modes);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { action: "create", path, source }
        };
        disk::make_folders(root, modes).map_err(failed(root))?;
        refuse_occupied(root)?;
        archive.make_folders()?;
        archive.write_marker()?;
        Ok(archive)
    }

    fn write_marker(&self) -> Result<(), StoreError> {
        let failed = |source| StoreError::Io { action: "create", path: self.root.join(MARKER), source };
        let mut file = disk::temporary(&self.root, self.modes).map_err(failed)?;
        writeln!(file, "{{\"format\":{FORMAT}}}").map_err(failed)?;
        disk::publish(file, &self.root.join(MARKER)).map_err(failed)
    }

    /// Looks whether [`Archive::create`] could be called, and makes nothing: the answer is the archive that is there, or
    /// that would be.
    pub fn foresee(root: &Path, access: Access) -> Result<Self, StoreError> {
        match Self::open(root) {
            Err(StoreError::NotAnArchive { .. }) => {}
            other => return other,
        }
        match refuse_occupied(root) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        let failed = |source| StoreError::Io { action: "create", path: root.to_owned(), source };
        let absolute = std::path::absolute(root).map_err(failed)?;
        let nearest = absolute.ancestors().find(|folder| folder.exists()).unwrap_or(root);
        nix::unistd::access(nearest, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|error| failed(error.into()))?;
        Ok(Self::at(root, access.modes()))
    }

    fn at(root: &Path, modes: Modes) -> Self {
        Self {
            root: root.to_owned(),
            objects: root.join("objects"),
            index: Index::new(root.join("index"), modes),
            modes,
            max_object: MAX_OBJECT,
        }
    }

    /// Takes and gives envelopes up to `bytes` long instead of [`MAX_OBJECT`].
    #[must_use]
    pub fn with_max_object(self, bytes: u64) -> Self {
        Self { max_object: bytes, ..self }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Tries whether envelopes can be stored, before there is one: writes and removes a small file in each folder.
    pub fn probe(&self) -> Result<(), StoreError> {
        for folder in [self.objects.as_path(), self.index.folder()] {
            let failed = |source| StoreError::Io { action: "write to", path: folder.to_owned(), source };
            let mut file = disk::temporary(folder, self.modes).map_err(failed)?;
            file.write_all(b"probe\n").map_err(failed)?;
        }
        Ok(())
    }

    /// Removes what writers that were ended long before `now` left beside the envelopes.
    fn tidy_objects(&self, now: SystemTime) -> Result<(), StoreError> {
        let failed = |source| StoreError::Io { action: "tidy", path: self.objects.clone(), source };
        for entry in std::fs::read_dir(&self.objects).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().as_encoded_bytes().starts_with(disk::TEMPORARY_PREFIX.as_bytes()) {
                index::remove_if_stale(&entry.path(), now).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The file of an envelope, whether it is there or not. Its name is made of the digest alone, never of anything that
    /// an envelope says.
    pub fn path(&self, id: &ObjectId) -> PathBuf {
        let digits = id.hex();
        let (folder, name) = digits.split_at(2);
        self.objects.join("sha256").join(folder).join(name)
    }

    fn exists(&self, id: &ObjectId) -> bool {
        std::fs::symlink_metadata(self.path(id)).is_ok()
    }

    fn verify(&self, id: &ObjectId) -> Result<(), StoreError> {
        let mut reader = self.reader(id)?;
        io::copy(&mut reader, &mut io::sink()).map_err(|error| reader.explain(error))?;
        Ok(())
    }

    /// The bytes of an envelope, checked against its digest.
    pub fn get(&self, id: &ObjectId) -> Result<Vec<u8>, StoreError> {
        let mut reader = self.reader(id)?;
        let mut bytes = Vec::with_capacity(usize::try_from(reader.length()).unwrap_or_default());
        match reader.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(reader.explain(error)),
        }
    }

    /// Reads an envelope in pieces. The last read fails if the bytes do not have the digest: whoever uses them before
    /// the end was reached uses bytes that are not checked.
    pub fn reader(&self, id: &ObjectId) -> Result<CheckedReader, StoreError> {
        let path = self.path(id);
        let failed = |source| StoreError::Io { action: "read", path: path.clone(), source };
        let file = match disk::open_regular(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotFound { reference: id.to_string(), archive: self.root.clone() });
            }
            other => other.map_err(failed)?,
        };
        let length = file.metadata().map_err(failed)?.len();
        if length > self.max_object {
            return Err(StoreError::TooLarge { limit: self.max_object });
        }
        Ok(CheckedReader::new(file, path, length, self.max_object, *id))
    }
}

/// An archive is not made beside other things.
fn refuse_occupied(root: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io { action: "create", path: root.to_owned(), source };
    for entry in std::fs::read_dir(root).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        // Others may be making the same archive at this moment.
        let ours = name.to_str().is_some_and(|name| {
            matches!(name, "objects" | "index" | "trust" | MARKER) || name.starts_with(disk::TEMPORARY_PREFIX)
        });
        if !ours {
            return Err(StoreError::Occupied { path: root.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "store/tests.rs"]
pub(crate) mod tests;
