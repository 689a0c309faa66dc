//! Which predicate types stand for each other.
//!
//! witness and cilock write the same attestations under two hosts, and some of them in several forms (wire-formats
//! §3.0, §9.1). A policy written for one of them accepts the other; the form is converted where a rule looks at it
//! ([`super::input`]).

use crate::collection::{COLLECTION_TYPE, COLLECTION_TYPE_CILOCK};

/// The prefixes of the attestation types of both peers: `<prefix><name>/<version>`.
const PREFIXES: [&str; 2] = ["https://witness.dev/attestations/", "https://aflock.ai/attestations/"];

/// Attestations of which several versions stand for each other.
const FORMS: [(&str, &[&str]); 3] = [
    ("material", &["v0.1", "v0.2", "v0.3"]),
    ("product", &["v0.1", "v0.2", "v0.3"]),
    ("command-run", &["v0.1", "v0.2"]),
];

/// Provenance of SLSA: its own type, and what witness and cilock call it (wire-formats §3.17).
const PROVENANCE: [&str; 2] = ["https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v1.0"];

/// What a predicate type means, whoever wrote it. Equal kinds stand for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind<'a> {
    /// An attestation of the peers, by name: `git`, `command-run`.
    Attestation {
        /// The name.
        name: &'a str,
        /// `v0.1`; empty where all known versions stand for each other.
        version: &'a str,
    },
    /// A collection.
    Collection,
    /// Anything else: the whole type.
    Other(&'a str),
}

/// What `predicate_type` means.
pub fn canonical(predicate_type: &str) -> Kind<'_> {
    if matches!(predicate_type, COLLECTION_TYPE | COLLECTION_TYPE_CILOCK) {
        return Kind::Collection;
    }
    match split(predicate_type) {
        Some((name, version)) => {
            let one_of_many = FORMS.iter().any(|(form, versions)| *form == name && versions.contains(&version));
            Kind::Attestation { name, version: if one_of_many { "" } else { version } }
        }
        None if PROVENANCE.contains(&predicate_type) => Kind::Other(PROVENANCE[0]),
        None => Kind::Other(predicate_type),
    }
}

/// Whether evidence of type `evidence` answers a policy that asks for `policy`.
pub fn same(policy: &str, evidence: &str) -> bool {
    canonical(policy) == canonical(evidence)
}

/// Whether `predicate_type` is a form that is known of `material`, `product` or `command-run`.
pub(super) fn is(predicate_type: &str, name: &str) -> bool {
    canonical(predicate_type) == Kind::Attestation { name, version: "" }
}

/// `v0.1` of an attestation type of the peers; empty for others.
pub(super) fn version(predicate_type: &str) -> &str {
    split(predicate_type).map_or("", |(_, version)| version)
}

/// Name and version of an attestation type of the peers.
fn split(predicate_type: &str) -> Option<(&str, &str)> {
    let rest = PREFIXES.iter().find_map(|prefix| predicate_type.strip_prefix(prefix))?;
    rest.split_once('/').filter(|(name, version)| !name.is_empty() && !version.is_empty() && !version.contains('/'))
}

/// Splits the name of a collection's subject or back-reference (`<type>/<name>`, wire-formats §2.4) into the name of
/// its attestation and the rest: `git` and `commithash:…`. `None` without a known type.
pub(super) fn split_subject(name: &str) -> Option<(&str, &str)> {
    for sbom in ["https://spdx.dev/Document/", "https://cyclonedx.org/bom/"] {
        if let Some(rest) = name.strip_prefix(sbom) {
            return Some(("sbom", rest));
        }
    }
    let rest = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let (attestation, rest) = rest.split_once('/')?;
    let (_version, rest) = rest.split_once('/')?;
    Some((attestation, rest))
}

/// The short name of a predicate type: its attestor for the attestation types of both peers, else the whole type.
pub fn short_name(kind: &str) -> &str {
    PREFIXES.iter().find_map(|prefix| kind.strip_prefix(prefix)).and_then(|rest| rest.split('/').next()).unwrap_or(
        match kind {
            "https://cyclonedx.org/bom" | "https://spdx.dev/Document" => "sbom",
            "https://in-toto.io/attestation/link/v0.3" => "link",
            kind if PROVENANCE.contains(&kind) => "slsa",
            other => other,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_hosts_and_the_known_versions_stand_for_each_other() {
        let (witness, cilock) = ("https://witness.dev/attestations/", "https://aflock.ai/attestations/");
        for (policy, evidence, expected) in [
            ("git/v0.1", "git/v0.1", true),
            ("git/v0.1", "git/v0.2", false),
            ("git/v0.1", "github/v0.1", false),
            ("material/v0.1", "material/v0.3", true),
            ("material/v0.2", "material/v0.3", true),
            ("product/v0.3", "product/v0.2", true),
            ("product/v0.1", "material/v0.1", false),
            ("product/v0.1", "product/v0.4", false),
            ("product/v0.4", "product/v0.4", true),
            ("command-run/v0.1", "command-run/v0.2", true),
            ("command-run/v0.1", "command-run/v0.3", false),
            ("unknown/v1", "unknown/v1", true),
        ] {
            for (a, b) in [(witness, cilock), (cilock, witness), (witness, witness), (cilock, cilock)] {
                assert_eq!(
                    same(&format!("{a}{policy}"), &format!("{b}{evidence}")),
                    expected,
                    "{a}{policy} {b}{evidence}"
                );
            }
        }
        assert!(same(COLLECTION_TYPE, COLLECTION_TYPE_CILOCK));
        assert!(same("https://cyclonedx.org/bom", "https://cyclonedx.org/bom"));
        for evidence in PROVENANCE {
            assert!(PROVENANCE.iter().all(|policy| same(policy, evidence)));
            assert!(!same("https://slsa.dev/provenance/v0.2", evidence));
            assert_eq!(short_name(evidence), "slsa");
        }
        // What only looks like a type of the peers is a type of its own.
        assert!(!same("git/v0.1", &format!("{witness}git/v0.1")));
        assert!(!same(&format!("{witness}git/v0.1/x"), &format!("{cilock}git/v0.1/x")));
        assert!(!same(&format!("{witness}git"), &format!("{cilock}git")));
    }

    #[test]
    fn subjects_are_split_from_their_type() {
        let split = |name| split_subject(name);
        assert_eq!(split("https://witness.dev/attestations/product/v0.1/file:a/b:c"), Some(("product", "file:a/b:c")));
        assert_eq!(split("https://cyclonedx.org/bom/name:x"), Some(("sbom", "name:x")));
        assert_eq!(split("release=1"), None);
        assert_eq!(split("https://witness.dev/attestations/product"), None);
    }
}
