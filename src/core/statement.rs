//! in-toto statements: subjects and the frame around a predicate.
//!
//! Source: in-toto attestation framework, Statement v1; wire-formats §2.1.

use serde::{Deserialize, Serialize};

use crate::digest::DigestSet;

/// `payloadType` of a DSSE envelope that holds an in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// `_type` that is written.
pub const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";
/// `_type` that witness and cilock write.
pub const STATEMENT_V01: &str = "https://in-toto.io/Statement/v0.1";

/// What a statement is about: a name and its digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Name, unique within the statement.
    pub name: String,
    /// Digests of the thing named.
    pub digest: DigestSet,
}

impl Subject {
    /// A subject from its name and digests.
    pub fn new(name: impl Into<String>, digest: DigestSet) -> Self {
        Self { name: name.into(), digest }
    }

    /// A textual subject `<kind>:<text>`, whose digest is the SHA-256 of the text.
    pub fn of_text(kind: &str, text: &str) -> Self {
        Self::new(format!("{kind}:{text}"), DigestSet::of_text(text))
    }
}
