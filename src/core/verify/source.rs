//! Where evidence is looked for: files, and archives.
//!
//! Finding is no judging: what is found here is judged by its signatures. So the readers are tolerant, and whatever
//! they take for a subject only finds.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::accept::chain;
use super::container;
use super::trusted::POLICY_TYPES;
use crate::bundle::Bundle;
use crate::digest::sha256;
use crate::statement;
use crate::store::{Archive, Found, Query, StoreError, SubjectDigest};

/// The largest file that is read as evidence, in bytes: a collection of a million files fits.
pub const MAX_ENVELOPE: usize = 256 << 20;
/// The largest file that is looked into for an envelope in its predicate, in bytes.
const MAX_NESTED: u64 = 32 << 20;

/// Why a source gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file cannot be read.
    #[error("{} cannot be read", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another place gave no answer.
    #[error("{place} gives no answer")]
    Elsewhere {
        /// Which.
        place: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The archive gave no answer.
    #[error("the archive {archive} gives no answer")]
    Archive {
        /// Which.
        archive: String,
        /// Why.
        source: Box<StoreError>,
    },
}

/// An envelope that was found, not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    /// Where it is, for the reader of the verdict.
    pub label: String,
    /// The step that it names, where it is a collection.
    pub step: Option<String>,
    /// Its predicate type.
    pub predicate_type: Option<String>,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Number of an entry of [`Files`].
    Entry(usize),
    Object(crate::store::ObjectId),
    /// What a source outside of this crate calls it.
    Elsewhere(String),
}

impl Handle {
    /// An envelope that a source outside of this crate found, and calls `id`.
    pub fn elsewhere(label: String, step: Option<String>, predicate_type: Option<String>, id: String) -> Self {
        Self { label, step, predicate_type, place: Place::Elsewhere(id) }
    }

    /// What such a source calls it.
    pub fn id(&self) -> Option<&str> {
        match &self.place {
            Place::Elsewhere(id) => Some(id),
            Place::Entry(_) | Place::Object(_) => None,
        }
    }
}

/// A place where evidence is looked for.
pub trait Source {
    /// Its name.
    fn name(&self) -> String;

    /// How many envelopes it holds, where that is known without looking.
    fn count(&self) -> Option<usize>;

    /// The envelopes about any of `digests`.
    fn about(&self, digests: &[SubjectDigest]) -> Result<Vec<Handle>, SourceError>;

    /// At most `limit` envelopes of a step, whatever they are about: for the text of a denial.
    fn of_step(&self, step: &str, limit: usize) -> Result<Vec<Handle>, SourceError>;

    /// Policies that lie among the evidence: a newer one may withdraw the one that was given.
    fn policies(&self) -> Vec<Handle>;

    /// What was named and holds no evidence, or some that could not be read in full, and why.
    fn unreadable(&self) -> &[(String, String)] {
        &[]
    }

    /// A place that belongs to it, and why nobody can read what evidence is there, if any.
    fn hiding(&self) -> Option<(&str, &str)> {
        None
    }

    /// The bytes of an envelope.
    fn read(&self, handle: &Handle) -> Result<Vec<u8>, SourceError>;

    /// The command that prints the trusted root of the day on which an envelope was stored, where one is kept with it.
    /// Nothing of it is believed: whoever writes the policy decides that.
    fn kept_root(&self, _: &Handle) -> Option<String> {
        None
    }
}

/// Envelopes in files that were named.
#[derive(Debug, Default)]
pub struct Files {
    entries: Vec<Entry>,
    /// Files that hold no envelope, and why.
    unreadable: Vec<(String, String)>,
}

#[derive(Debug)]
struct Entry {
    label: String,
    content: Content,
    found: Found,
}

#[derive(Debug)]
enum Content {
    /// A file with this envelope alone, read again when it is wanted.
    Path(PathBuf),
    Bytes(Vec<u8>),
}

impl Files {
    /// Reads what each file says of itself, with all cores.
    pub fn load(paths: &[PathBuf]) -> Result<Self, SourceError> {
        let next = AtomicUsize::new(0);
        let loaded = Mutex::new(Vec::new());
        let threads = thread::available_parallelism().map_or(1, usize::from).min(paths.len().div_ceil(16));
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(path) = paths.get(index) else { return };
                let result = load(path);
                loaded.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, result));
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        let mut loaded = loaded.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        loaded.sort_by_key(|(index, _)| *index);
        let mut files = Self::default();
        for (index, result) in loaded {
            let label = paths[index].display().to_string();
            match result? {
                Loaded::Entries(entries) => files.take(entries),
                Loaded::Unreadable(reason) => files.unreadable.push((label, reason)),
            }
        }
        Ok(files)
    }

    /// Adds envelopes that came in another container.
    pub fn add(&mut self, label: &str, bytes: Vec<u8>) {
        match from_bytes(label, bytes) {
            Loaded::Entries(entries) => self.take(entries),
            Loaded::Unreadable(reason) => self.unreadable.push((label.to_owned(), reason)),
        }
    }

    /// Adds one envelope, or Sigstore bundle, that a stranger may have put there: forms that grow when they are read, and
    /// lists, are not looked into.
    pub fn add_one(&mut self, label: &str, bytes: Vec<u8>) {
        match Found::read(&bytes) {
            Ok(whole) => self.take(with_nested(label, bytes, whole)),
            Err(reason) => self.unreadable.push((label.to_owned(), reason)),
        }
    }

    /// Tells of something that was named and holds no evidence.
    pub fn tell(&mut self, label: String, reason: String) {
        self.unreadable.push((label, reason));
    }

    /// An envelope that nothing can be found in is told of as well: it would be missed without a word.
    fn take(&mut self, entries: Vec<Entry>) {
        for entry in &entries {
            let found = &entry.found;
            let reason = match found.notes() {
                // A policy is no evidence, and may lie beside it: it can withdraw an older one.
                [] if found.payload_type() == statement::PAYLOAD_TYPE => continue,
                [] if POLICY_TYPES.contains(&found.payload_type()) => continue,
                [] => {
                    let (is, should) = (found.payload_type().escape_debug(), statement::PAYLOAD_TYPE);
                    format!("it says nothing: its payload is of the type `{is}`, not `{should}`")
                }
                notes => notes.join("; "),
            };
            self.unreadable.push((entry.label.clone(), reason));
        }
        self.entries.extend(entries);
    }

    /// Files that hold no evidence, or some that could not be read in full, and why.
    pub fn unreadable(&self) -> &[(String, String)] {
        &self.unreadable
    }

    /// All envelopes.
    pub fn handles(&self) -> impl Iterator<Item = Handle> + '_ {
        (0..self.entries.len()).map(|index| self.handle(index))
    }

    fn handle(&self, index: usize) -> Handle {
        let entry = &self.entries[index];
        Handle {
            label: entry.label.clone(),
            step: entry.found.step().map(str::to_owned),
            predicate_type: entry.found.predicate_type().map(str::to_owned),
            place: Place::Entry(index),
        }
    }
}

enum Loaded {
    Entries(Vec<Entry>),
    Unreadable(String),
}

fn load(path: &Path) -> Result<Loaded, SourceError> {
    let read = |source| SourceError::Read { path: path.to_owned(), source };
    let label = path.display().to_string();
    let mut file = File::open(path).map_err(read)?;
    let data = file.metadata().map_err(read)?;
    if data.is_file() {
        if data.len() > MAX_ENVELOPE as u64 {
            return Ok(Loaded::Unreadable(format!("more than {MAX_ENVELOPE} bytes")));
        }
        // A collection is not held until it is wanted. Anything else may have an envelope inside it.
        if let Ok(found) = Found::read_from(&mut file)
            && (found.step().is_some() || data.len() > MAX_NESTED)
        {
            return Ok(Loaded::Entries(vec![Entry { label, content: Content::Path(path.to_owned()), found }]));
        }
        file.rewind().map_err(read)?;
    }
    let mut bytes = Vec::new();
    file.take(MAX_ENVELOPE as u64 + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() > MAX_ENVELOPE {
        return Ok(Loaded::Unreadable(format!("more than {MAX_ENVELOPE} bytes")));
    }
    Ok(from_bytes(&label, bytes))
}

fn from_bytes(label: &str, bytes: Vec<u8>) -> Loaded {
    if Bundle::is_one(&bytes) {
        return match Bundle::read(bytes.as_slice()) {
            Ok(bundle) => lines(label, bundle.envelopes.iter().map(Vec::as_slice)),
            Err(error) => Loaded::Unreadable(chain(&error)),
        };
    }
    let whole = match Found::read(&bytes) {
        Ok(found) => found,
        Err(error) => {
            // JSON lines: each line an envelope.
            let parts: Vec<&[u8]> =
                bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
            return if parts.len() < 2 { Loaded::Unreadable(error) } else { lines(label, parts.into_iter()) };
        }
    };
    Loaded::Entries(with_nested(label, bytes, whole))
}

/// An envelope, and the one inside it.
fn with_nested(label: &str, bytes: Vec<u8>, whole: Found) -> Vec<Entry> {
    let nested = if whole.step().is_none() { container::nested(&bytes) } else { None };
    let mut entries = Vec::new();
    if let Some(inner) = nested {
        let mut label = label.to_owned();
        let _ = write!(label, ", the envelope inside it");
        if let Ok(found) = Found::read(&inner) {
            entries.push(Entry { label, content: Content::Bytes(inner), found });
        }
    }
    entries.insert(0, Entry { label: label.to_owned(), content: Content::Bytes(bytes), found: whole });
    entries
}

/// Envelopes that stand one after the other. One that is none spoils all: a file that was cut off is not read in part.
fn lines<'a>(label: &str, parts: impl Iterator<Item = &'a [u8]>) -> Loaded {
    let mut entries = Vec::new();
    for (number, line) in parts.enumerate() {
        let label = format!("{label}, line {}", number + 1);
        match Found::read(line) {
            Ok(found) => entries.push(Entry { label, content: Content::Bytes(line.to_vec()), found }),
            Err(error) => return Loaded::Unreadable(format!("line {}: {error}", number + 1)),
        }
    }
    Loaded::Entries(entries)
}

impl Source for Files {
    fn name(&self) -> String {
        "files".to_owned()
    }

    fn count(&self) -> Option<usize> {
        Some(self.entries.len())
    }

    fn about(&self, digests: &[SubjectDigest]) -> Result<Vec<Handle>, SourceError> {
        let about = |entry: &Entry| digests.iter().any(|digest| entry.found.is_about(digest));
        Ok((0..self.entries.len())
            .filter(|index| about(&self.entries[*index]))
            .map(|index| self.handle(index))
            .collect())
    }

    fn of_step(&self, step: &str, limit: usize) -> Result<Vec<Handle>, SourceError> {
        let of_step = |index: &usize| self.entries[*index].found.step() == Some(step);
        Ok((0..self.entries.len()).filter(of_step).take(limit).map(|index| self.handle(index)).collect())
    }

    fn unreadable(&self) -> &[(String, String)] {
        &self.unreadable
    }

    fn policies(&self) -> Vec<Handle> {
        let is_policy = |index: &usize| POLICY_TYPES.contains(&self.entries[*index].found.payload_type());
        (0..self.entries.len()).filter(is_policy).map(|index| self.handle(index)).collect()
    }

    fn read(&self, handle: &Handle) -> Result<Vec<u8>, SourceError> {
        let Place::Entry(index) = handle.place else { return Ok(Vec::new()) };
        match &self.entries[index].content {
            Content::Bytes(bytes) => Ok(bytes.clone()),
            // It may have grown since; what is read is judged by its signature.
            Content::Path(path) => {
                let mut bytes = Vec::new();
                let limit = MAX_ENVELOPE as u64 + 1;
                File::open(path)
                    .and_then(|file| file.take(limit).read_to_end(&mut bytes))
                    .map_err(|source| SourceError::Read { path: path.clone(), source })?;
                Ok(bytes)
            }
        }
    }
}

impl Source for Archive {
    fn name(&self) -> String {
        format!("archive dir:{}", self.root().display())
    }

    fn count(&self) -> Option<usize> {
        None
    }

    fn about(&self, digests: &[SubjectDigest]) -> Result<Vec<Handle>, SourceError> {
        let mut handles = Vec::new();
        for digest in digests {
            let query = Query { subject: Some(digest.clone()), ..Query::default() };
            handles.extend(records(self, &query)?);
        }
        Ok(handles)
    }

    fn of_step(&self, step: &str, limit: usize) -> Result<Vec<Handle>, SourceError> {
        records(self, &Query { step: Some(step.to_owned()), limit: Some(limit), ..Query::default() })
    }

    /// None: the index finds statements by what they are about, and a policy is about nothing.
    fn policies(&self) -> Vec<Handle> {
        Vec::new()
    }

    fn read(&self, handle: &Handle) -> Result<Vec<u8>, SourceError> {
        let Place::Object(id) = &handle.place else { return Ok(Vec::new()) };
        self.get(id).map_err(|error| silent(self, error))
    }

    fn kept_root(&self, handle: &Handle) -> Option<String> {
        let Place::Object(id) = &handle.place else { return None };
        let is_kept = self.trust_of(id).is_ok_and(|links| !links.is_empty());
        let folder = self.root().display();
        is_kept.then(|| format!("affiant archive get --trust --archive 'dir:{folder}' sha256:{}", id.hex()))
    }
}

fn records(archive: &Archive, query: &Query) -> Result<Vec<Handle>, SourceError> {
    let records = archive.find(query).map_err(|error| silent(archive, error))?;
    let handle = |record: crate::store::Record| Handle {
        label: format!("sha256:{}", record.digest.hex()),
        step: record.step,
        predicate_type: record.predicate_type,
        place: Place::Object(record.digest),
    };
    Ok(records.into_iter().map(handle).collect())
}

fn silent(archive: &Archive, error: StoreError) -> SourceError {
    SourceError::Archive { archive: archive.name(), source: Box::new(error) }
}

/// The digest that tells equal bytes from different sources.
pub(super) fn identity(bytes: &[u8]) -> [u8; 32] {
    sha256(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::collection::COLLECTION_TYPE;
    use crate::dsse::Envelope;
    use crate::policy::PAYLOAD_TYPE as POLICY_TYPE;
    use crate::store::Access;
    use crate::trust::tests::make::{key, noon};

    fn envelope(payload: &Value, kind: &str) -> Vec<u8> {
        Envelope::seal(payload.to_string().into_bytes(), kind, &[key(5)]).expect("signs").to_json()
    }

    /// A statement about a file with this digest, repeated.
    fn statement(kind: &str, digit: &str, predicate: &Value) -> Vec<u8> {
        let subjects = json!([{"name": "app", "digest": {"sha256": digit.repeat(64)}}]);
        let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": subjects,
            "predicateType": kind, "predicate": predicate});
        envelope(&statement, statement::PAYLOAD_TYPE)
    }

    fn run(step: &str, digit: &str) -> Vec<u8> {
        statement(COLLECTION_TYPE, digit, &json!({"name": step, "attestations": []}))
    }

    fn digest(digit: &str) -> SubjectDigest {
        SubjectDigest { algorithm: Some("sha256".to_owned()), value: digit.repeat(64) }
    }

    fn labels(handles: &[Handle]) -> Vec<&str> {
        handles.iter().map(|handle| handle.label.rsplit('/').next().expect("a name")).collect()
    }

    /// What was loaded from files with these contents, named by their number.
    fn load(contents: &[Vec<u8>]) -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().expect("a folder");
        let paths: Vec<PathBuf> = (0..contents.len()).map(|number| folder.path().join(number.to_string())).collect();
        for (path, content) in paths.iter().zip(contents) {
            std::fs::write(path, content).expect("writes");
        }
        let files = Files::load(&paths).expect("reads");
        (folder, files)
    }

    fn lines(parts: &[&[u8]]) -> Vec<u8> {
        parts.join(&b'\n')
    }

    /// What a stranger may have put beside an image is one envelope, as long as it is: nothing that grows when it is read.
    #[test]
    fn what_was_attached_is_not_unpacked() {
        let (build, test) = (run("build", "a"), run("test", "b"));
        let subjects = [digest("a"), digest("b")];
        let both = lines(&[&build, &test]);
        let mut packed = Vec::new();
        let bundle =
            Bundle::make(vec![("1".to_owned(), build.clone()), ("2".to_owned(), test)], "file", Vec::new(), noon())
                .expect("a bundle");
        bundle.write(&mut packed).expect("written");
        for (content, count) in [(packed, 2), (both, 2), (build.clone(), 1)] {
            let (mut named, mut attached) = (Files::default(), Files::default());
            named.add("x", content.clone());
            assert_eq!(named.about(&subjects).expect("found").len(), count);
            attached.add_one("x", content);
            let found = attached.about(&subjects).expect("found").len();
            assert_eq!((found, attached.unreadable().len()), if count == 1 { (1, 0) } else { (0, 1) });
        }
        // The envelope inside an envelope is no longer than that: it counts.
        let inside: Value = serde_json::from_slice(&build).expect("JSON");
        let mut attached = Files::default();
        attached.add_one("x", statement("custom", "c", &inside));
        assert_eq!(attached.about(&[digest("a")]).expect("found").len(), 1);
    }

    #[test]
    fn each_envelope_of_a_file_is_found() {
        let (build, test, sbom) = (run("build", "a"), run("test", "b"), statement("sbom", "c", &json!({})));
        let inside: Value = serde_json::from_slice(&run("build", "d")).expect("JSON");
        let outside = statement("custom", "c", &inside);
        let policy = envelope(&json!({}), POLICY_TYPE);
        let (_folder, files) = load(&[
            build.clone(),
            sbom.clone(),
            outside.clone(),
            lines(&[&test, b" ", &build, b""]),
            policy.clone(),
            lines(&[&build, b"half of", &test]),
        ]);
        let all: Vec<Handle> = files.handles().collect();
        let expected = ["0", "1", "2", "2, the envelope inside it", "3, line 1", "3, line 2", "4"];
        assert_eq!(labels(&all), expected);
        assert_eq!((files.name().as_str(), files.count()), ("files", Some(expected.len())));
        let inside = serde_json::to_vec(&inside).expect("JSON");
        for (handle, content) in all.iter().zip([&build, &sbom, &outside, &inside, &test, &build, &policy]) {
            assert_eq!(&files.read(handle).expect("reads"), content, "{}", handle.label);
        }
        let steps: Vec<Option<&str>> = all.iter().map(|handle| handle.step.as_deref()).collect();
        assert_eq!(steps, [Some("build"), None, None, Some("build"), Some("test"), Some("build"), None]);
        assert_eq!(all[1].predicate_type.as_deref(), Some("sbom"));

        let about = |digits: &[&str]| {
            files.about(&digits.iter().map(|digit| digest(digit)).collect::<Vec<_>>()).expect("an answer")
        };
        assert_eq!(labels(&about(&["a"])), ["0", "3, line 2"]);
        assert_eq!(labels(&about(&["b", "d"])), ["2, the envelope inside it", "3, line 1"]);
        assert!(about(&["e"]).is_empty());
        let of_step = |step, limit| files.of_step(step, limit).expect("an answer");
        assert_eq!(labels(&of_step("build", 2)), ["0", "2, the envelope inside it"]);
        assert_eq!(labels(&of_step("test", 2)), ["3, line 1"]);
        // A newer one may withdraw the policy that was given.
        assert_eq!(labels(&files.policies()), ["4"]);
        // A file that was cut off is not read in part, and is told of.
        let [(label, reason)] = Source::unreadable(&files) else { panic!("{:?}", files.unreadable()) };
        assert!(label.ends_with("/5") && reason.starts_with("line 2: "), "{label}: {reason}");
    }

    #[test]
    fn what_holds_no_evidence_is_told_of() {
        let (folder, mut files) = load(&[
            envelope(&json!({}), "text/plain"),
            envelope(&json!([]), statement::PAYLOAD_TYPE),
            b"half of".to_vec(),
            Vec::new(),
            b"half of\n".to_vec(),
        ]);
        files.add("added", b"{}".to_vec());
        files.tell("told".to_owned(), "empty".to_owned());
        let told = files.unreadable();
        assert_eq!(told.len(), 7, "{told:?}");
        assert!(told[0].1.contains("of the type `text/plain`, not `application/vnd.in-toto+json`"), "{told:?}");
        assert!(!told[1].1.is_empty() && !told[1].1.contains("says nothing"), "{told:?}");
        assert!(!told[4].1.starts_with("line"), "{told:?}");
        assert_eq!((told[5].0.as_str(), &told[6]), ("added", &("told".to_owned(), "empty".to_owned())));
        assert_eq!(Source::unreadable(&files), told);
        // Those that are envelopes are there all the same, and found by nothing.
        assert_eq!(files.count(), Some(2));
        assert!(files.policies().is_empty());

        let huge = folder.path().join("huge");
        File::create(&huge).and_then(|file| file.set_len(MAX_ENVELOPE as u64 + 1)).expect("makes a hole");
        let files = Files::load(&[huge]).expect("reads");
        assert_eq!((files.count(), files.unreadable()[0].1.as_str()), (Some(0), "more than 268435456 bytes"));
        let missing = folder.path().join("missing");
        let error = Files::load(std::slice::from_ref(&missing)).expect_err("not there");
        assert!(matches!(error, SourceError::Read { path, .. } if path == missing));
    }

    #[test]
    fn an_archive_is_a_source() {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = Archive::create(&folder.path().join("archive"), Access::Shared).expect("a new archive");
        let (build, again, test) = (run("build", "a"), run("build", "b"), run("test", "b"));
        for envelope in [&build, &again, &test] {
            archive.put(envelope, noon()).expect("stores");
        }
        assert_eq!(archive.name(), format!("archive dir:{}", folder.path().join("archive").display()));
        assert_eq!((archive.count(), archive.unreadable().len()), (None, 0));
        assert!(archive.policies().is_empty());
        let read = |handles: Vec<Handle>| {
            let mut all: Vec<Vec<u8>> = handles.iter().map(|handle| archive.read(handle).expect("reads")).collect();
            all.sort();
            all
        };
        let sorted = |mut all: Vec<Vec<u8>>| {
            all.sort();
            all
        };
        let about = |digests: &[SubjectDigest]| archive.about(digests).expect("an answer");
        assert_eq!(read(about(&[digest("a")])), std::slice::from_ref(&build));
        assert_eq!(read(about(&[digest("b")])), sorted(vec![again.clone(), test.clone()]));
        assert_eq!(about(&[digest("a"), digest("b")]).len(), 3);
        assert!(about(&[digest("c")]).is_empty());
        let [handle] = about(&[digest("a")]).try_into().expect("one");
        assert_eq!((handle.step.as_deref(), handle.predicate_type.as_deref()), (Some("build"), Some(COLLECTION_TYPE)));
        let of_step = |step, limit| archive.of_step(step, limit).expect("an answer");
        assert_eq!(read(of_step("build", 9)), sorted(vec![build, again]));
        assert_eq!(read(of_step("test", 9)), [test]);
        assert_eq!(of_step("build", 1).len(), 1);
    }
}
