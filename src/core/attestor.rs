//! What an attestor is: a name, typed options, and one function from the world to an outcome.
//!
//! Attestors write to no shared state. The pipeline runs those of one phase in parallel, each with a
//! time limit and a panic guard, and puts the results back in the order of the list.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::product::{Product, Products};
use crate::redact::Redactor;
use crate::snapshot::{EntryRef, Snapshot};
use crate::statement::Subject;

/// What is said of an attestor in lists, in help and in the documentation.
#[derive(Debug)]
pub struct About {
    /// The name that `-a` takes, lower case.
    pub name: &'static str,
    /// The predicate type that is written in the portable form.
    pub predicate_type: &'static str,
    /// One line, a full sentence.
    pub summary: &'static str,
    /// When it runs without being named, as a clause that follows "runs by default ".
    pub default_when: &'static str,
    /// The subjects that it adds, as `name: what the digest is`.
    pub subjects: &'static [&'static str],
    /// The options that it takes.
    pub options: &'static [OptionAbout],
    /// The JSON schema of the predicate (draft 2020-12), as text.
    pub schema: &'static str,
}

/// One option of an attestor.
#[derive(Debug)]
pub struct OptionAbout {
    /// The option's name; the flag is `--attestor-<attestor>-<name>`.
    pub name: &'static str,
    /// One line that says what it does and what the default is.
    pub help: &'static str,
}

/// The environment variables of this process, in the order of their names. Names and values that are
/// not UTF-8 are kept with U+FFFD in place of what cannot be shown.
#[derive(Clone, Debug, Default)]
pub struct Environment(pub BTreeMap<String, String>);

impl Environment {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// Facts of the machine and the account, found by the binary.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Host name as the kernel tells it.
    pub hostname: String,
    /// Name of the account, or its number where it has no name.
    pub username: String,
}

/// What an attestor sees before the command runs. There are no products: asking does not compile.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// Name of the step.
    pub step: String,
    /// The working directory of the command, absolute.
    pub dir: PathBuf,
    /// The environment of this process.
    pub env: Arc<Environment>,
    /// How the variables are masked.
    pub mask: Arc<crate::redact::VariableMask>,
    /// Machine and account.
    pub host: Host,
    /// The command, program first. Empty for evidence without a command.
    pub command: Vec<OsString>,
    /// The real time at which the run was planned: for what is valid only until a time. It is not that of the evidence.
    pub now: Timestamp,
    /// Other machines, where they may be asked.
    pub network: Network,
}

/// Whether other machines may be asked.
#[derive(Clone)]
pub enum Network {
    /// They may be.
    Open(Arc<dyn Fetch>),
    /// They may not; a clause says why.
    Closed(&'static str),
}

impl Default for Network {
    fn default() -> Self {
        Self::Closed("this build of affiant asks no other machine")
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(_) => f.write_str("Open"),
            Self::Closed(why) => f.debug_tuple("Closed").field(why).finish(),
        }
    }
}

/// Asks other machines over HTTP.
pub trait Fetch: Send + Sync {
    /// The body of the answer 200 to `GET <url>`, at most `limit` bytes of it.
    ///
    /// The URL is `https`, or `http` to this machine. Redirects are not followed. `bearer` goes into the header
    /// `Authorization`; it is in no error, nor is the URL's query.
    fn get(&self, url: &str, bearer: Option<&str>, limit: usize) -> Result<Vec<u8>, FetchError>;
}

/// A machine that gave no usable answer.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct FetchError {
    /// Scheme, host, port and path of the URL.
    pub place: String,
    /// What went wrong and what can be done, as a lower-case fragment.
    pub reason: String,
}

/// What is known of an attestor's work before anything runs.
#[derive(Debug, Default)]
pub struct Foresight {
    /// Variables that only the attestor needs and that are secrets: they are taken from the command's environment
    /// (security rule 2).
    pub consumes: Vec<String>,
    /// What the user should know, as a clause.
    pub note: Option<String>,
}

/// What an attestor sees after the command has ended.
#[derive(Clone)]
pub struct After {
    /// What was known before.
    pub before: Arc<Before>,
    /// The files that the command made or changed.
    pub products: Arc<Products>,
    /// Whether the command ended with 0.
    pub success: bool,
    /// What listeners of the attestors heard while products were hashed.
    pub heard: Arc<Heard>,
    /// The container engine, where one may be asked. Absent offline.
    pub engine: Option<Arc<dyn Engine>>,
}

/// What an attestor sees that tells of the run as a whole. All of it is masked as it is written.
pub struct Whole<'a> {
    /// What was known before.
    pub before: &'a Before,
    /// Name of the collection: the step's, with a suffix where it failed.
    pub name: &'a str,
    /// Whether the step passed: the command ended with 0, or its exit code was to be ignored.
    pub passed: bool,
    /// When the command began and ended.
    pub lasted: (Timestamp, Timestamp),
    /// The evidence that was composed so far, in the order of the collection.
    pub entries: Vec<Told<'a>>,
    /// The materials, less the paths that hold a secret.
    pub materials: Materials<'a>,
    /// The products, less the paths that hold a secret and those that the user wants to be no subjects.
    pub products: Vec<&'a Product>,
    /// Masks what does not come from the entries.
    pub redactor: &'a Redactor,
}

/// Other evidence of the run.
pub struct Told<'a> {
    /// Name of the attestor by its type: `git`, `command-run`.
    pub attestor: &'a str,
    /// The predicate, secrets masked.
    pub predicate: &'a Value,
    /// Its subjects, without a prefix.
    pub subjects: &'a [Subject],
}

/// The materials that may be told.
pub struct Materials<'a> {
    snapshot: &'a Snapshot,
    hidden: &'a BTreeSet<String>,
}

impl<'a> Materials<'a> {
    /// Those of a snapshot, less these paths.
    pub fn new(snapshot: &'a Snapshot, hidden: &'a BTreeSet<String>) -> Self {
        Self { snapshot, hidden }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.snapshot.len() - self.hidden.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'a>> {
        self.snapshot.iter().filter(|entry| !self.hidden.contains(entry.path))
    }
}

impl Whole<'_> {
    /// The predicate of an attestor.
    pub fn predicate(&self, attestor: &str) -> Option<&Value> {
        self.entries.iter().find(|entry| entry.attestor == attestor).map(|entry| entry.predicate)
    }

    /// A text that does not come from the entries, secrets masked.
    pub fn masked(&self, text: &str) -> String {
        self.redactor.redact_text(text).into_owned()
    }
}

/// Hears the bytes of one product while it is hashed, so that a large one is read once. What it says is about the very
/// bytes whose digest is recorded.
pub trait Listener: Send {
    /// The next bytes, in order.
    fn bytes(&mut self, chunk: &[u8]);
    /// The bytes are complete and the file did not change while it was read. Gives what was learnt, for
    /// [`Heard::take`]. A listener that is dropped without this call heard bytes that do not count.
    fn done(self: Box<Self>) -> Learnt;
}

/// Decides whether an attestor listens to a product, from its path, its first bytes (up to [`crate::mime::HEAD`]) and
/// its length in bytes.
pub type Listen = fn(path: &str, head: &[u8], length: u64) -> Option<Box<dyn Listener>>;

/// What listeners heard, by attestor and path of the product.
#[derive(Default)]
pub struct Heard(Mutex<BTreeMap<(&'static str, String), Learnt>>);

/// What one listener learnt; its attestor knows the type.
pub type Learnt = Box<dyn Any + Send>;

impl Heard {
    /// Puts what the listener of an attestor learnt of a product.
    pub fn put(&self, attestor: &'static str, path: String, learnt: Learnt) {
        if let Ok(mut heard) = self.0.lock() {
            heard.insert((attestor, path), learnt);
        }
    }

    /// Takes what the listener of an attestor learnt of a product.
    pub fn take<T: 'static>(&self, attestor: &'static str, path: &str) -> Option<T> {
        let learnt = self.0.lock().ok()?.remove(&(attestor, path.to_owned()))?;
        learnt.downcast().ok().map(|learnt| *learnt)
    }
}

/// Read-only questions to a container engine over its local socket.
pub trait Engine: Send + Sync {
    /// Where the engine is, for people: `unix:///run/docker.sock`.
    fn endpoint(&self) -> String;
    /// The body of `GET <path>`, `None` when the engine answers 404.
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError>;
}

/// A container engine that gave no usable answer.
#[derive(Debug, thiserror::Error)]
#[error("the container engine at {endpoint}: {reason}")]
pub struct EngineError {
    /// Where it was looked for.
    pub endpoint: String,
    /// What went wrong, as a lower-case fragment.
    pub reason: String,
}

/// One piece of evidence.
#[derive(Debug)]
pub struct Evidence {
    /// The type under which it is written; differs from [`About::predicate_type`] for SBOMs.
    pub predicate_type: String,
    /// The predicate.
    pub predicate: Predicate,
    /// Subjects without the type prefix, in the order in which they are written.
    pub subjects: Vec<Subject>,
    /// Subjects that lead to other collections (wire-formats §2.3 `backrefs`), without the type prefix.
    pub back_references: Vec<Subject>,
    /// In the collection, or in an envelope of its own.
    pub place: Place,
}

/// The predicate of one piece of evidence.
#[derive(Debug)]
pub enum Predicate {
    /// Composed by us: free text in it is redacted.
    Composed(Value),
    /// A document kept as it was written, as JSON text of one object: never altered. A secret in it makes a gap.
    Verbatim(Box<serde_json::value::RawValue>),
    /// Composed by us of other evidence, in which secrets are masked already: it may be large.
    Masked(Box<serde_json::value::RawValue>),
}

/// Where evidence is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the collection.
    Collection,
    /// In an envelope of its own, because readers of the collection would refuse the type.
    OwnEnvelope,
    /// In an envelope of its own in every form, because it is for others than the readers of the collection.
    Exported,
}

/// What an attestor found.
#[derive(Debug)]
pub enum Found {
    /// Evidence, at least one piece, and what it could not attest (one reason each).
    Evidence {
        /// The pieces, in a deterministic order.
        pieces: Vec<Evidence>,
        /// What was there but could not be attested; each becomes a gap.
        shortfalls: Vec<String>,
    },
    /// Nothing to attest; the clause follows "nothing to attest: ".
    Nothing(String),
}

/// Why an attestor failed. Becomes a gap.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AttestError(pub String);

impl AttestError {
    /// An error from its text, a lower-case fragment that names file or field.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The outcome of an attestor.
pub type Outcome = Result<Found, AttestError>;

/// Attests to something that holds before the command runs.
pub trait AttestBefore: 'static {
    /// Options, read before the command runs; unknown keys are refused (`deny_unknown_fields`).
    type Options: DeserializeOwned + Send + 'static;
    /// Name, type and description.
    const ABOUT: &'static About;
    /// Why it runs without being named, `None` when it does not.
    fn called_for(world: &Before) -> Option<String>;
    /// What is known before anything runs.
    fn foresee(_options: &Self::Options, _world: &Before) -> Foresight {
        Foresight::default()
    }
    /// The one function from the world to an outcome.
    fn attest(options: Self::Options, world: &Before) -> Outcome;
}

/// Attests to something that the command left behind.
pub trait AttestAfter: 'static {
    /// Options, read before the command runs; unknown keys are refused (`deny_unknown_fields`).
    type Options: DeserializeOwned + Send + 'static;
    /// Name, type and description.
    const ABOUT: &'static About;
    /// Why the command line calls for it, `None` where only the products can tell.
    fn called_for(world: &Before) -> Option<String>;
    /// Listens to a product while it is hashed; most attestors do not.
    fn listen(_path: &str, _head: &[u8], _length: u64) -> Option<Box<dyn Listener>> {
        None
    }
    /// The one function from the world to an outcome.
    fn attest(options: Self::Options, world: &After) -> Outcome;
}

/// Tells of the run as a whole, in a form of its own. It asks nobody, and reads no file but what this run itself left
/// in a folder of its own.
pub trait AttestWhole: 'static {
    /// Options, read before the command runs; unknown keys are refused (`deny_unknown_fields`).
    type Options: DeserializeOwned + Send + 'static;
    /// Name, type and description.
    const ABOUT: &'static About;
    /// The one function from the world to an outcome.
    fn attest(options: Self::Options, world: &Whole<'_>) -> Outcome;
}

/// An attestor's function for the time before the command, its options already read.
pub type BeforeFn = Box<dyn FnOnce(&Before) -> Outcome + Send>;
/// An attestor's function for the time after the command, its options already read.
pub type AfterFn = Box<dyn FnOnce(&After) -> Outcome + Send>;
/// An attestor's function for the time when all else is known, its options already read.
pub type WholeFn = Box<dyn FnOnce(&Whole<'_>) -> Outcome + Send>;

/// An attestor that is ready to run.
pub enum Prepared {
    /// Runs before the command.
    Before(BeforeFn),
    /// Runs after the command.
    After(AfterFn),
    /// Runs when all else is known.
    Whole(WholeFn),
}

/// When an attestor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the command.
    Before,
    /// After it.
    After,
    /// When all other evidence is there; only where it is named.
    Whole,
}

/// An option that an attestor does not take, or whose value it cannot read.
#[derive(Debug, thiserror::Error)]
#[error("attestor {attestor}: {reason}")]
pub struct OptionError {
    /// Name of the attestor.
    pub attestor: &'static str,
    /// What is wrong with the options.
    pub reason: String,
}

/// An entry of the list of built-in attestors.
#[derive(Clone, Copy)]
pub struct Attestor {
    /// Name, type and description.
    pub about: &'static About,
    /// Why it runs without being named, from what is known before the command runs.
    pub called_for: fn(&Before) -> Option<String>,
    /// When it runs.
    pub phase: Phase,
    /// Listens to products while they are hashed.
    pub listen: Listen,
    prepare: Prepare,
}

/// Reads the options of an attestor and looks ahead.
type Prepare = fn(Value, &Before) -> Result<(Prepared, Foresight), serde_json::Error>;

impl Attestor {
    /// The entry of an attestor that runs before the command.
    pub const fn before<A: AttestBefore>() -> Self {
        Self {
            about: A::ABOUT,
            called_for: A::called_for,
            phase: Phase::Before,
            listen: |_, _, _| None,
            prepare: |options, world| {
                let options: A::Options = serde_json::from_value(options)?;
                let foresight = A::foresee(&options, world);
                Ok((Prepared::Before(Box::new(move |world| A::attest(options, world))), foresight))
            },
        }
    }

    /// The entry of an attestor that runs after the command.
    pub const fn after<A: AttestAfter>() -> Self {
        Self {
            about: A::ABOUT,
            called_for: A::called_for,
            phase: Phase::After,
            listen: A::listen,
            prepare: |options, _| {
                let options: A::Options = serde_json::from_value(options)?;
                Ok((Prepared::After(Box::new(move |world| A::attest(options, world))), Foresight::default()))
            },
        }
    }

    /// The entry of an attestor that tells of the run as a whole. It runs only where it is named, and for a command.
    pub const fn whole<A: AttestWhole>() -> Self {
        Self {
            about: A::ABOUT,
            called_for: |_| None,
            phase: Phase::Whole,
            listen: |_, _, _| None,
            prepare: |options, _| {
                let options: A::Options = serde_json::from_value(options)?;
                Ok((Prepared::Whole(Box::new(move |world| A::attest(options, world))), Foresight::default()))
            },
        }
    }

    /// Reads the options (a JSON object) and returns the function to run, and what is known of its work.
    pub fn prepare(&self, options: Value, world: &Before) -> Result<(Prepared, Foresight), OptionError> {
        (self.prepare)(options, world)
            .map_err(|error| OptionError { attestor: self.about.name, reason: error.to_string() })
    }
}
