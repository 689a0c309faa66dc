//! The forms in which evidence is written (DESIGN §5, wire-formats §2.3, §9.1).
//!
//! Attestors write witness's types. In cilock's form everything stands in one collection, under cilock's types, and the
//! files of a step are a tree. The gate takes either for a policy that was written for the other.

use std::borrow::Cow;

use crate::collection::{COLLECTION_TYPE, COLLECTION_TYPE_CILOCK};
use crate::digest::DigestSet;
use crate::statement::{STATEMENT_V01, STATEMENT_V1, Subject};

/// Prefix of witness's attestation types.
const WITNESS: &str = "https://witness.dev/attestations/";
/// Prefix of cilock's.
const CILOCK: &str = "https://aflock.ai/attestations/";

/// In which form evidence is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Witness's types and flat maps of files: witness, cilock and archivista read it.
    #[default]
    Portable,
    /// Cilock's types, trees of files, one collection for everything: cilock reads it.
    Cilock,
}

impl Form {
    /// All forms.
    pub const ALL: [Self; 2] = [Self::Portable, Self::Cilock];

    /// The word of `--form`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Cilock => "cilock",
        }
    }

    /// `_type` of the statement: cilock's is v0.1. No reader looks at it but ours, which takes both.
    pub(crate) const fn statement_type(self) -> &'static str {
        match self {
            Self::Portable => STATEMENT_V1,
            Self::Cilock => STATEMENT_V01,
        }
    }

    /// The predicate type of the collection.
    pub const fn collection_type(self) -> &'static str {
        match self {
            Self::Portable => COLLECTION_TYPE,
            Self::Cilock => COLLECTION_TYPE_CILOCK,
        }
    }

    /// How the type of evidence is spelled, given as attestors write it. Types that are of neither peer stay.
    pub fn spell(self, predicate_type: &str) -> Cow<'_, str> {
        match predicate_type.strip_prefix(WITNESS) {
            Some(rest) if self == Self::Cilock => format!("{CILOCK}{rest}").into(),
            _ => predicate_type.into(),
        }
    }

    /// A subject as the form has it: cilock gives a parent commit its own hash, witness that of the text.
    pub(crate) fn subject(self, subject: Subject) -> Subject {
        let hash = subject.name.strip_prefix("parenthash:").filter(|_| self == Self::Cilock);
        let digest = match hash.map(|hash| (hash, hash.len())) {
            Some((hash, 40)) => DigestSet::sha1_hex(hash),
            Some((hash, 64)) => DigestSet::sha256_hex(hash),
            _ => return subject,
        };
        Subject { digest, ..subject }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_spelled_as_the_form_has_them() {
        let git = "https://witness.dev/attestations/git/v0.1";
        assert_eq!(Form::Portable.spell(git), git);
        assert_eq!(Form::Cilock.spell(git), "https://aflock.ai/attestations/git/v0.1");
        assert_eq!(Form::Cilock.spell("https://cyclonedx.org/bom"), "https://cyclonedx.org/bom");
    }

    #[test]
    fn a_parent_commit_has_its_own_hash_in_cilocks_form() {
        let hash = "ddaa95d7ced5316b4c0613b6ba34f4cdeec25eb4";
        let parent = || Subject::of_text("parenthash", hash);
        assert_eq!(Form::Portable.subject(parent()), parent());
        assert_eq!(Form::Cilock.subject(parent()).digest, DigestSet::sha1_hex(hash));
        let mail = || Subject::of_text("authoremail", "ada@example.org");
        assert_eq!(Form::Cilock.subject(mail()), mail());
    }
}
