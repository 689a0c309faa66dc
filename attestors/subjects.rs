//! Lists of subjects in which each name stands once.

use std::collections::BTreeSet;

use affiant_core::digest::DigestSet;
use affiant_core::statement::Subject;

/// Subjects in the order in which they come, each name once.
#[derive(Default)]
pub(crate) struct Subjects {
    list: Vec<Subject>,
    names: BTreeSet<String>,
}

impl Subjects {
    /// Adds `<kind>:<hex>` with this SHA-256 digest.
    pub(crate) fn digest(&mut self, kind: &str, hex: &str) {
        self.add(Subject::new(format!("{kind}:{hex}"), DigestSet::sha256_hex(hex)));
    }

    /// Like [`Subjects::digest`], where the digest is known.
    pub(crate) fn known(&mut self, kind: &str, hex: Option<&String>) {
        if let Some(hex) = hex {
            self.digest(kind, hex);
        }
    }

    /// Adds `<kind>:<text>` with the SHA-256 of the text; an empty text is no subject.
    pub(crate) fn text(&mut self, kind: &str, text: &str) {
        if !text.is_empty() {
            self.add(Subject::of_text(kind, text));
        }
    }

    /// Adds a subject, unless its name is there.
    pub(crate) fn add(&mut self, subject: Subject) {
        if self.names.insert(subject.name.clone()) {
            self.list.push(subject);
        }
    }

    /// Copies of the subjects of these kinds.
    pub(crate) fn of_kinds(&self, kinds: &[&str]) -> Vec<Subject> {
        let is_one = |subject: &&Subject| subject.name.split_once(':').is_some_and(|(kind, _)| kinds.contains(&kind));
        self.list.iter().filter(is_one).cloned().collect()
    }

    /// All subjects.
    pub(crate) fn into_list(self) -> Vec<Subject> {
        self.list
    }
}
