//! What holds images: the one interface of registries, layouts and archives.
//!
//! Everything that is read has the digest that it was asked for, or it is not given: a [`Stored`] is made of bytes that
//! hash to its digest, and a [`Checked`] reader fails at the end of bytes that do not.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::manifest::{Descriptor, Manifest, ManifestError};
use super::reference::{At, Digest};

/// Most referrers that are looked at of one image.
pub const MAX_REFERRERS: usize = 10_000;
/// How often something is tried at most that may pass, the pause before the second time (it doubles with each), and how
/// long after the first time another is begun at most.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

/// A manifest as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    media_type: String,
    digest: Digest,
    bytes: Vec<u8>,
}

impl Stored {
    /// A manifest of which only the bytes are known.
    pub fn of(media_type: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { media_type: media_type.into(), digest: Digest::of(&bytes), bytes }
    }

    /// A manifest that was asked for by its digest.
    pub fn checked(media_type: impl Into<String>, bytes: Vec<u8>, wanted: &Digest) -> Result<Self, RepositoryError> {
        let stored = Self::of(media_type, bytes);
        if stored.digest != *wanted {
            return Err(RepositoryError::Digest { wanted: wanted.clone(), found: stored.digest });
        }
        Ok(stored)
    }

    /// Media type, as the place that holds it says.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// Digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What points at it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(&self.media_type, &self.bytes)
    }

    /// What it says.
    pub fn manifest(&self) -> Result<Manifest, ManifestError> {
        Manifest::parse(&self.media_type, &self.bytes)
    }
}

/// Something that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Where it was.
    pub place: String,
    /// Why.
    pub reason: String,
    /// Whether nobody knows what was in it: then what was looked for may be there nevertheless.
    pub hides: bool,
}

impl Skipped {
    /// One thing, which is what it is.
    pub fn one(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { place: place.into(), reason: reason.into(), hides: false }
    }

    /// Something in which more may be.
    pub fn hiding(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { hides: true, ..Self::one(place, reason) }
    }
}

/// What is listed as referring to a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// As the list says them: the manifest of each decides.
    pub entries: Vec<Descriptor>,
    /// What of the list cannot be read.
    pub skipped: Vec<Skipped>,
}

impl Listed {
    /// Adds the entries of one list, or says why there are none.
    pub fn add(&mut self, place: &str, media_type: &str, bytes: &[u8]) {
        match Manifest::parse_list(media_type, bytes) {
            Ok((list, passed_over)) => {
                self.entries.extend(list.manifests.unwrap_or_default());
                self.skipped.extend(passed_over.into_iter().map(|reason| Skipped::one(place, reason)));
            }
            Err(error) => self.skipped.push(Skipped::hiding(place, error.to_string())),
        }
    }
}

/// Why a repository did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The place cannot be asked, refuses, or answers something else than was asked.
    #[error("{place}: {reason}")]
    Refused {
        /// What was asked, without a query or a secret.
        place: String,
        /// Why, as a clause.
        reason: String,
        /// Whether it is for want of a permission.
        permission: bool,
        /// Where the same question may get another answer soon: after how many seconds at least. The place was busy, had an error of its
        /// own, or broke the connection; or it looked at a thing while another writer wrote it.
        again: Option<u16>,
    },
    /// What was asked for is not there.
    #[error("{what} is not in {place}")]
    Absent {
        /// What.
        what: String,
        /// Where.
        place: String,
    },
    /// What came has another digest.
    #[error("bytes of {found} came where {wanted} was asked for")]
    Digest {
        /// What was asked for.
        wanted: Digest,
        /// What came.
        found: Digest,
    },
    /// A manifest that cannot be read.
    #[error("the manifest {digest}")]
    Manifest {
        /// Which.
        digest: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// Something is larger, or there is more of it, than is read.
    #[error("{what}: {found}, and no more than {limit} are read")]
    Large {
        /// What.
        what: String,
        /// How much.
        found: u64,
        /// How much is read.
        limit: u64,
    },
    /// What is there is not what it is said to be.
    #[error("{what}: {reason}")]
    Wrong {
        /// What.
        what: String,
        /// Why, as a clause.
        reason: String,
    },
    /// This place cannot do that.
    #[error("{place} cannot {what}")]
    Cannot {
        /// Where.
        place: String,
        /// What.
        what: &'static str,
    },
    /// Reading or writing failed.
    #[error("{what}")]
    Io {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl RepositoryError {
    /// Whether the place gives no answer: what it has may be all right. Otherwise one thing in it is not.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// With what is behind it, in one line.
    pub fn one_line(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }

    /// Whether the same question may get another answer soon: the place is busy or had an error of its own, as registries
    /// have that keep tags and links in files while another writes one.
    pub fn is_passing(&self) -> bool {
        self.again().is_some()
    }

    /// After how long the same question may get another answer, where it may.
    pub fn again(&self) -> Option<Duration> {
        match self {
            Self::Refused { again, .. } => again.map(|seconds| Duration::from_secs(seconds.into())),
            _ => None,
        }
    }
}

/// What became of a manifest that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there; if it has a subject, whoever asks for the subject's referrers will be told.
    Known,
    /// It is there, and the place keeps no list of referrers: the writer must (distribution specification, "Pushing
    /// manifests with subject").
    Unlisted,
}

/// A repository of images.
pub trait Repository: Send + Sync {
    /// `host/repository`, or the folder or file.
    fn name(&self) -> String;

    /// The digest, type and size of a manifest, without its bytes where that is cheaper; `None` where it is not there.
    fn resolve(&self, at: &At) -> Result<Option<Descriptor>, RepositoryError>;

    /// A manifest; `None` where it is not there.
    fn manifest(&self, at: &At) -> Result<Option<Stored>, RepositoryError>;

    /// Whether a blob is there.
    fn has_blob(&self, digest: &Digest) -> Result<bool, RepositoryError>;

    /// The bytes of a blob, of which at most `limit` are given. The reader fails at the end where they have another
    /// digest.
    fn blob(&self, digest: &Digest, limit: u64) -> Result<Box<dyn Read + Send + '_>, RepositoryError>;

    /// Stores a blob of a known digest and size.
    fn put_blob(&self, digest: &Digest, size: u64, bytes: &mut dyn Read) -> Result<(), RepositoryError>;

    /// Takes over a blob from another repository of the same place; `false` where it must be put.
    fn mount_blob(&self, digest: &Digest, from: &str) -> Result<bool, RepositoryError> {
        let _ = (digest, from);
        Ok(false)
    }

    /// Stores a manifest, under its digest or also under a tag.
    fn put_manifest(&self, at: &At, media_type: &str, bytes: &[u8]) -> Result<Put, RepositoryError>;

    /// What the place itself lists as referrers of a manifest; `None` where it keeps no such list. An entry is what the
    /// list says: the manifest decides.
    fn referrers(&self, of: &Digest) -> Result<Option<Listed>, RepositoryError>;

    /// All tags, sorted.
    fn tags(&self) -> Result<Vec<String>, RepositoryError>;

    /// Takes a manifest or a tag away.
    fn delete(&self, at: &At) -> Result<(), RepositoryError>;

    /// Does what puts a blob there, if this process has not done so before: many that need one blob at the same time put
    /// it once, and the others wait for that.
    fn once(
        &self,
        digest: &Digest,
        put: &mut dyn FnMut() -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let _ = digest;
        put()
    }

    /// Takes away those of `left`, what deleted manifests needed, that nothing else leads to, and says which went.
    /// Registries do that by themselves.
    fn sweep(&self, left: &BTreeSet<Digest>) -> Result<Vec<Digest>, RepositoryError> {
        let _ = left;
        Ok(Vec::new())
    }

    /// Whether nobody else writes here meanwhile, so that what was written stays.
    fn is_own(&self) -> bool {
        false
    }
}

impl dyn Repository + '_ {
    /// A manifest that has to be there.
    pub fn need(&self, at: &At) -> Result<Stored, RepositoryError> {
        self.manifest(at)?.ok_or_else(|| RepositoryError::Absent { what: at.to_string(), place: self.name() })
    }

    /// A manifest that has to be there, with what it says.
    pub fn need_parsed(&self, at: &At) -> Result<(Stored, Manifest), RepositoryError> {
        let stored = self.need(at)?;
        let manifest = stored
            .manifest()
            .map_err(|source| RepositoryError::Manifest { digest: stored.digest().to_string(), source })?;
        Ok((stored, manifest))
    }

    /// A whole blob of at most `limit` bytes.
    pub fn blob_bytes(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, RepositoryError> {
        let mut bytes = Vec::new();
        self.blob(digest, limit)?
            .read_to_end(&mut bytes)
            .map_err(|source| RepositoryError::Io { what: format!("{digest} of {}", self.name()), source })?;
        Ok(bytes)
    }

    /// Stores bytes under their digest, unless they are there.
    pub fn keep(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, RepositoryError> {
        let descriptor = Descriptor::of(media_type, bytes);
        let put = || {
            if self.has_blob(&descriptor.digest)? {
                return Ok(());
            }
            self.put_blob(&descriptor.digest, descriptor.size, &mut &bytes[..])
        };
        self.once(&descriptor.digest, &mut || patiently(put))?;
        Ok(descriptor)
    }

    /// Stores a manifest, and tries again what may pass. Not for a tag that several writers share: what one of them wrote
    /// meanwhile would be lost.
    pub fn put_patiently(&self, at: &At, media_type: &str, bytes: &[u8]) -> Result<Put, RepositoryError> {
        patiently(|| self.put_manifest(at, media_type, bytes))
    }
}

/// Does something that does no harm when it is done twice again and again while it fails with what may pass
/// ([`RepositoryError::is_passing`]), within limits.
///
/// # Errors
/// The last failure.
pub fn patiently<T>(mut work: impl FnMut() -> Result<T, RepositoryError>) -> Result<T, RepositoryError> {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match work() {
            Err(error) if begun.elapsed() < PATIENCE => {
                let Some(wait) = error.again() else { return Err(error) };
                // Those that were refused together do not try again together.
                std::thread::sleep(wait.max(pause.mul_f64(0.5 + jitter())));
                pause *= 2;
            }
            ended => return ended,
        }
    }
    work()
}

/// Between 0 and 1.
pub(super) fn jitter() -> f64 {
    f64::from(crate::sign::some_number()) / f64::from(u16::MAX)
}

/// Bytes that must have a digest: reading fails at the end where they do not, and behind `limit`.
pub struct Checked<R> {
    inner: R,
    hasher: Sha256,
    wanted: Digest,
    left: u64,
    ended: bool,
}

impl<R: Read> Checked<R> {
    /// A reader of at most `limit` bytes that have the digest `wanted`.
    pub fn new(inner: R, wanted: Digest, limit: u64) -> Self {
        Self { inner, hasher: Sha256::new(), wanted, left: limit, ended: false }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        if count == 0 {
            self.ended = true;
            let found = hex::encode(std::mem::take(&mut self.hasher).finalize());
            if found != self.wanted.hex() {
                let reason = RepositoryError::Digest {
                    wanted: self.wanted.clone(),
                    found: Digest::from_hex(&found).expect("a SHA-256 in hex is a digest"),
                };
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            return Ok(0);
        }
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, format!("{} is longer than may be read", self.wanted))
        })?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_another_digest_are_not_given_as_whole() {
        let digest = Digest::of(b"hello");
        let read = |bytes: &[u8], limit| {
            let mut out = Vec::new();
            Checked::new(bytes, digest.clone(), limit).read_to_end(&mut out).map(|_| out)
        };
        assert_eq!(read(b"hello", 5).expect("whole"), b"hello");
        assert_eq!(read(b"hellp", 5).expect_err("edited").kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(b"hell", 5).expect_err("cut").kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(b"hello", 4).expect_err("long").kind(), io::ErrorKind::FileTooLarge);
        assert!(Stored::checked("a/b", b"hello".to_vec(), &digest).is_ok());
        assert!(matches!(Stored::checked("a/b", b"other".to_vec(), &digest), Err(RepositoryError::Digest { .. })));
    }
}
