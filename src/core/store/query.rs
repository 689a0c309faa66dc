//! Finding envelopes: by digest, by what they are about, by what they hold.

use std::io;

use jiff::Timestamp;

use super::extract::{Extract, extract};
use super::index::{Rows, Walk};
use super::segment::{Key, Position};
use super::{Archive, ObjectId, Record, StoreError};

/// Hex digits that a shortened digest must have at least.
pub const MIN_PREFIX: usize = 8;
/// Candidates that are named when a shortened digest fits several envelopes.
const MAX_CANDIDATES: usize = 8;

/// Which envelopes to find. What is `None` does not matter; the others must all fit.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// A digest of a subject.
    pub subject: Option<SubjectDigest>,
    /// Name of the step (collection).
    pub step: Option<String>,
    /// `predicateType` of the statement.
    pub predicate_type: Option<String>,
    /// A type among the collection's attestations.
    pub attestation_type: Option<String>,
    /// Stored at this time or later.
    pub since: Option<Timestamp>,
    /// Stored before this time.
    pub until: Option<Timestamp>,
    /// How many at most, the newest first.
    pub limit: Option<usize>,
    /// Only those that come after this one in the answer: to go on where a limited answer ended.
    pub after: Option<Cursor>,
}

/// A place in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the last envelope seen was stored.
    pub stored: Timestamp,
    /// Its digest.
    pub digest: ObjectId,
}

impl From<&Record> for Cursor {
    fn from(record: &Record) -> Self {
        Self { stored: record.stored, digest: record.digest }
    }
}

/// A digest to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectDigest {
    /// Its algorithm as it stands in digest sets; `None`: any.
    pub algorithm: Option<String>,
    /// Its value as it stands in digest sets; letter case does not matter.
    pub value: String,
}

impl SubjectDigest {
    /// Reads `<algorithm>:<value>` or a value alone. `gitoid:…` is a value of its own kind.
    pub fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((algorithm, value)) if !algorithm.eq_ignore_ascii_case("gitoid") => {
                Self { algorithm: Some(algorithm.to_owned()), value: value.to_owned() }
            }
            _ => Self { algorithm: None, value: text.to_owned() },
        }
    }
}

/// What an envelope says about itself, for finding it: nothing of it is checked.
#[derive(Debug)]
pub struct Found(Extract);

impl Found {
    /// Reads an envelope, or a Sigstore bundle with one.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        Self::read_from(bytes)
    }

    /// The same, in constant memory but for the subjects.
    pub fn read_from(reader: impl io::Read) -> Result<Self, String> {
        extract(reader).map(Self).map_err(|error| error.to_string())
    }

    /// Name of the collection.
    pub fn step(&self) -> Option<&str> {
        self.0.step.as_deref()
    }

    /// `predicateType` of the statement.
    pub fn predicate_type(&self) -> Option<&str> {
        self.0.predicate_type.as_deref()
    }

    /// Whether it is a collection with an attestation of this type.
    pub fn has_type(&self, attestation_type: &str) -> bool {
        self.0.attestations.iter().any(|one| one == attestation_type)
    }

    /// `payloadType` of the envelope.
    pub fn payload_type(&self) -> &str {
        &self.0.payload_type
    }

    /// What could not be read.
    pub fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// Whether a subject, or a file of a Merkle tree, has this digest.
    pub fn is_about(&self, digest: &SubjectDigest) -> bool {
        let value = Key::value(&digest.value);
        let algorithm = digest.algorithm.as_deref().map(Key::algorithm);
        let first = self.0.keys.partition_point(|key| key.value < value);
        let equal = self.0.keys[first..].iter().take_while(|key| key.value == value);
        equal.into_iter().any(|key| algorithm.is_none_or(|algorithm| key.algorithm == algorithm))
    }
}

impl Query {
    fn fits(&self, record: &Record) -> bool {
        let equal = |wanted: &Option<String>, found: Option<&String>| wanted.is_none() || wanted.as_ref() == found;
        equal(&self.step, record.step.as_ref())
            && equal(&self.predicate_type, record.predicate_type.as_ref())
            && self.attestation_type.as_ref().is_none_or(|wanted| record.attestations.contains(wanted))
    }

    fn is_bare(&self) -> bool {
        self.step.is_none() && self.predicate_type.is_none() && self.attestation_type.is_none()
    }
}

impl Archive {
    /// Finds the one envelope that `reference` names: `sha256:<hex>` or the digits alone, of which the first eight
    /// are enough if no other begins so; or its git object id, `gitoid:blob:sha256:<hex>` or the 64 digits alone.
    pub fn resolve(&self, reference: &str) -> Result<ObjectId, StoreError> {
        let wrong = || StoreError::Reference { reference: reference.to_owned() };
        let missing = || StoreError::NotFound { reference: reference.to_owned(), archive: self.root.clone() };
        let lower = reference.trim().to_ascii_lowercase();
        let gitoid = lower.strip_prefix("gitoid:blob:sha256:");
        let digits = gitoid.unwrap_or_else(|| lower.strip_prefix("sha256:").unwrap_or(&lower));
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || digits.len() < MIN_PREFIX || digits.len() > 64 || (gitoid.is_some() && digits.len() != 64) {
            return Err(wrong());
        }
        if gitoid.is_none() {
            if let Some(id) = ObjectId::from_hex(digits) {
                if self.exists(&id) {
                    return Ok(id);
                }
            } else {
                return self.resolve_prefix(reference, digits);
            }
        }
        let key = Key::of_gitoid(digits);
        for (_, segment) in self.index.open()? {
            for row in segment.lookup(key.value, Some(key.algorithm))? {
                let record = segment.record(&segment.row(row)?)?;
                if record.gitoid == digits && self.exists(&record.digest) {
                    return Ok(record.digest);
                }
            }
        }
        Err(missing())
    }

    fn resolve_prefix(&self, reference: &str, digits: &str) -> Result<ObjectId, StoreError> {
        let (folder_name, prefix) = digits.split_at(2);
        let folder = self.objects.join("sha256").join(folder_name);
        let failed = |source| StoreError::Io { action: "read", path: folder.clone(), source };
        let mut found = Vec::new();
        match std::fs::read_dir(&folder) {
            Ok(entries) => {
                for entry in entries {
                    let name = entry.map_err(failed)?.file_name();
                    if let Some(name) = name.to_str().filter(|name| name.starts_with(prefix))
                        && let Some(id) = ObjectId::from_hex(&format!("{folder_name}{name}"))
                    {
                        found.push(id);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        found.sort_unstable();
        match found.as_slice() {
            [id] => Ok(*id),
            [] => Err(StoreError::NotFound { reference: reference.to_owned(), archive: self.root.clone() }),
            several => Err(StoreError::Ambiguous {
                reference: reference.to_owned(),
                candidates: several.iter().take(MAX_CANDIDATES).map(ToString::to_string).collect(),
            }),
        }
    }

    /// The record of an envelope, if it is in the index.
    pub fn record(&self, id: &ObjectId) -> Result<Option<Record>, StoreError> {
        let mut walk = self.walk(Some(Key::of_object(id).value), Some(Key::of_object(id).algorithm))?;
        while let Some((_, segment, row)) = walk.next()? {
            if row.id() == *id && self.exists(id) {
                return segment.record(&row).map(Some);
            }
        }
        Ok(None)
    }

    /// Finds envelopes, those stored last first; equal times are ordered by digest.
    pub fn find(&self, query: &Query) -> Result<Vec<Record>, StoreError> {
        let value = query.subject.as_ref().map(|subject| Key::value(&subject.value));
        let algorithm = query.subject.as_ref().and_then(|subject| subject.algorithm.as_deref().map(Key::algorithm));
        let limit = query.limit.unwrap_or(usize::MAX);
        let after = query.after.map(|cursor| Position::new(cursor.stored, cursor.digest));
        let first = query.until.map(|until| Position::new(until, ObjectId([0xff; 32])));
        let last = query.since.map(|since| Position::new(since, ObjectId([0xff; 32])));
        let mut walk = self.walk(value, algorithm)?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some((name, segment, row)) = walk.next()?
        {
            let position = row.position();
            if after.is_some_and(|after| position <= after) || first.is_some_and(|first| position <= first) {
                continue;
            }
            if last.is_some_and(|last| position > last) {
                break;
            }
            // An entry of level 0 stands before its envelope has its name: not stored yet, or never.
            if name.level == 0 && !self.exists(&row.id()) {
                continue;
            }
            let record = segment.record(&row)?;
            if query.is_bare() || query.fits(&record) {
                found.push(record);
            }
        }
        Ok(found)
    }

    /// All envelopes, those stored last first: at most `limit`, from the one that comes after `after`.
    pub fn list(&self, limit: usize, after: Option<Cursor>) -> Result<Vec<Record>, StoreError> {
        self.find(&Query { limit: Some(limit), after, ..Query::default() })
    }

    fn walk(&self, value: Option<[u8; 16]>, algorithm: Option<[u8; 4]>) -> Result<Walk, StoreError> {
        let mut segments = Vec::new();
        for (name, segment) in self.index.open()? {
            let rows = match value {
                None => Rows::All,
                Some(value) => Rows::These(segment.lookup(value, algorithm)?),
            };
            segments.push((name, segment, rows));
        }
        Walk::new(segments)
    }
}
