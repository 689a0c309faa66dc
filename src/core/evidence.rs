//! Reading evidence: statements and collections of every producer, unknown types kept as raw JSON.
//!
//! Source: wire-formats §2, §3 and §9.1. Nothing here says that a signature holds.
//!
//! | module | says |
//! |---|---|
//! | [`kinds`] | which types stand for each other |
//! | [`files`] | the materials and products of an entry, as a compact table |
//! | [`merkle`] | the tree over files that cilock signs |
//! | [`links`] | what connects a collection to others, and which subjects prove anything |
//! | [`input`] | the document that a rule sees |

mod digests;
pub mod files;
pub mod input;
pub mod kinds;
pub mod links;
pub mod merkle;
pub(crate) mod strict;
pub mod subjects;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

pub use self::kinds::short_name;
use self::subjects::Digests;
pub use self::subjects::{SubjectView, Subjects};
use crate::collection::{COLLECTION_TYPE, COLLECTION_TYPE_CILOCK};
use crate::digest::DigestSet;
use crate::statement::{STATEMENT_V01, STATEMENT_V1};

/// Checks that a document has one reading: JSON to its end, no member twice in any object.
pub(crate) fn one_reading(text: &str) -> Result<(), serde_json::Error> {
    strict::document(text)
}

/// Most entries of a collection, and most gaps.
pub const MAX_ENTRIES: usize = 4096;
/// Most back-references of a collection.
pub const MAX_BACKREFS: usize = 1 << 16;

/// Evidence that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The payload is no in-toto statement, or not one that everybody reads alike.
    #[error("the payload is no in-toto statement")]
    Statement(#[source] serde_json::Error),
    /// `_type` is none of the known ones.
    #[error("`_type` is {found}, not {STATEMENT_V1} or {STATEMENT_V01}")]
    StatementType {
        /// As it stands there.
        found: String,
    },
    /// The statement does not say what its predicate is.
    #[error("the statement has no `predicateType`")]
    NoPredicateType,
    /// The predicate is no collection although its type says so.
    #[error("the predicate is no collection")]
    Collection(#[source] serde_json::Error),
    /// The files of an entry cannot be read.
    #[error("the {kind} entry cannot be read")]
    Files {
        /// Short name of the entry's type.
        kind: String,
        /// What is wrong with them.
        source: files::FilesError,
    },
    /// A command-run entry does not say how the command ended.
    #[error("the command-run entry has no exit code: {reason}")]
    ExitCode {
        /// What stands there.
        reason: String,
    },
    /// An entry cannot be shown in the form that the policy's type asks for.
    #[error("the {kind} entry cannot be shown to a rule")]
    Input {
        /// Short name of the entry's type.
        kind: String,
        /// Why.
        source: input::InputError,
    },
}

/// An in-toto statement with its predicate as it was written.
#[derive(Debug, Deserialize)]
pub struct Statement<'a> {
    /// `_type`. [`Statement::parse`] takes any: both peers ignore it.
    #[serde(rename = "_type", default)]
    pub kind: String,
    /// Subjects; `null` counts as none.
    #[serde(borrow, default)]
    pub subject: Subjects<'a>,
    /// Type of the predicate.
    #[serde(rename = "predicateType", default)]
    pub predicate_type: String,
    /// The predicate.
    #[serde(borrow)]
    pub predicate: &'a RawValue,
}

/// A collection of either producer.
#[derive(Debug)]
pub struct CollectionView<'a> {
    /// Name of the step.
    pub name: String,
    /// The evidence, in written order.
    pub attestations: Vec<EntryView<'a>>,
    /// Back-references, where the producer wrote them.
    pub backrefs: Option<BTreeMap<String, DigestSet>>,
    /// What is missing; ours alone.
    pub gaps: Vec<GapView>,
}

/// One entry of a collection.
#[derive(Debug, Deserialize)]
pub struct EntryView<'a> {
    /// The predicate type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The predicate as it was written.
    #[serde(borrow)]
    pub attestation: &'a RawValue,
    /// When the attestor began, as written.
    #[serde(default)]
    pub starttime: String,
    /// When it ended, as written.
    #[serde(default)]
    pub endtime: String,
}

/// A gap as it was written.
#[derive(Debug, Deserialize)]
pub struct GapView {
    /// The attestor.
    #[serde(default)]
    pub attestor: String,
    /// Why it is missing.
    #[serde(default)]
    pub reason: String,
}

impl<'a> Statement<'a> {
    /// Reads the payload of an envelope to show it. The gate uses [`Statement::parse_strict`].
    pub fn parse(payload: &'a [u8]) -> Result<Self, EvidenceError> {
        serde_json::from_slice(payload).map_err(EvidenceError::Statement)
    }

    /// Reads the payload of a verified envelope for the gate (security rule 17).
    ///
    /// Refused beyond what [`Statement::parse`] refuses: a `_type` other than Statement v0.1 or v1, no `predicateType`,
    /// a member that stands twice in any object of the payload, one of the statement's members in other letters (some
    /// readers take it for the same), and 128 levels of nesting or more anywhere.
    pub fn parse_strict(payload: &'a [u8]) -> Result<Self, EvidenceError> {
        strict::statement(payload).map_err(EvidenceError::Statement)?;
        let statement = Self::parse(payload)?;
        if !matches!(statement.kind.as_str(), STATEMENT_V1 | STATEMENT_V01) {
            return Err(EvidenceError::StatementType { found: strict::shown(&statement.kind) });
        }
        if statement.predicate_type.is_empty() {
            return Err(EvidenceError::NoPredicateType);
        }
        Ok(statement)
    }

    /// The predicate as a collection, when it is one.
    pub fn collection(&self) -> Option<Result<CollectionView<'a>, EvidenceError>> {
        matches!(self.predicate_type.as_str(), COLLECTION_TYPE | COLLECTION_TYPE_CILOCK)
            .then(|| serde_json::from_str(self.predicate.get()).map_err(EvidenceError::Collection))
    }
}

impl CollectionView<'_> {
    /// The exit codes of all command-run entries, in written order; empty where there is none.
    ///
    /// Absent counts as 0 in v0.2, whose producer leaves a 0 out, and is an error in v0.1, whose producers all write it
    /// (wire-formats §3.3): what does not say that the command succeeded is no success.
    pub fn exit_codes(&self) -> Result<Vec<i64>, EvidenceError> {
        let entries = self.attestations.iter();
        entries.filter(|entry| kinds::is(&entry.kind, "command-run")).map(EntryView::exit_code).collect()
    }
}

impl EntryView<'_> {
    /// The short name of the type: `git` for `https://witness.dev/attestations/git/v0.1`.
    pub fn short_name(&self) -> &str {
        short_name(&self.kind)
    }

    fn exit_code(&self) -> Result<i64, EvidenceError> {
        let fault = |reason: String| EvidenceError::ExitCode { reason };
        let members =
            strict::object(self.attestation.get(), strict::MAX_MEMBERS).map_err(|error| fault(error.to_string()))?;
        match members.iter().find(|(name, _)| name == "exitcode") {
            Some((_, code)) => {
                code.get().parse().map_err(|_| fault(format!("`exitcode` is {}", strict::shown(code.get()))))
            }
            None if kinds::version(&self.kind) == "v0.2" => Ok(0),
            None => Err(fault("`exitcode` is missing".to_owned())),
        }
    }
}

type Entries<T> = strict::List<T, MAX_ENTRIES>;

/// A written map of back-references.
struct Backrefs(BTreeMap<String, DigestSet>);

impl<'de> Deserialize<'de> for Backrefs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Backrefs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of back-references")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((name, Digests(digests))) = members.next_entry::<String, Digests<'de>>()? {
                    if map.len() == MAX_BACKREFS {
                        return Err(A::Error::custom(format_args!("more than {MAX_BACKREFS} back-references")));
                    }
                    let digests = digests.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned()));
                    match map.entry(name) {
                        Entry::Vacant(entry) => entry.insert(DigestSet(digests.collect())),
                        Entry::Occupied(entry) => return Err(strict::twice(entry.key())),
                    };
                }
                Ok(Backrefs(map))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for CollectionView<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = CollectionView<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a collection")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let (mut name, mut attestations, mut backrefs, mut gaps) = (None, None, None, None);
                while let Some(strict::Name(member)) = members.next_key()? {
                    let mut first = true;
                    match &*member {
                        "name" => first = name.replace(members.next_value::<String>()?).is_none(),
                        "attestations" => first = attestations.replace(members.next_value::<Entries<_>>()?).is_none(),
                        "backrefs" => first = backrefs.replace(members.next_value::<Option<Backrefs>>()?).is_none(),
                        "gaps" => first = gaps.replace(members.next_value::<Entries<_>>()?).is_none(),
                        other => {
                            if let Some(known) = strict::lookalike(other, &["name", "attestations", "backrefs"]) {
                                return Err(strict::taken_for(other, known));
                            }
                            members.next_value::<IgnoredAny>()?;
                        }
                    }
                    if !first {
                        return Err(strict::twice(&member));
                    }
                }
                Ok(CollectionView {
                    name: name.ok_or_else(|| A::Error::missing_field("name"))?,
                    attestations: attestations.unwrap_or_default().0,
                    backrefs: backrefs.flatten().map(|Backrefs(map)| map),
                    gaps: gaps.unwrap_or_default().0,
                })
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests;
