//! What connects a collection to others, and which subjects prove anything.
//!
//! Many subjects are the SHA-256 of a text that anybody can write into a file: a tag, a URL, an e-mail address. They
//! and commits lead the gate to evidence, and prove nothing (security rules 9 and 10).

use super::digests::raw;
use super::kinds::split_subject;
use super::{CollectionView, Statement, SubjectView};
use crate::digest::{DigestSet, sha256_hex};

/// How many parts of a subject's name are compared with its digest.
const MAX_PARTS: usize = 64;
/// Longest name, in bytes, that is compared with its digest; it is hashed once for each part.
const MAX_NAME: usize = 4096;

/// What a subject says of the thing that has its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It is a file, folder or document that the step made.
    Product,
    /// It is the manifest or index of an image that the step made.
    Image,
    /// It is the configuration of such an image: another manifest may name the same one (security rule 11).
    ImageId,
    /// Nothing: the digest is that of a text, of a commit, or of what the step only used.
    Finds,
}

/// Subjects of collections that say something of what the step made: attestation, name up to the colon.
const REAL: [(&str, &str, Standing); 10] = [
    ("product", "file", Standing::Product),
    ("product", "dir", Standing::Product),
    ("sbom", "file", Standing::Product),
    ("secretscan", "product", Standing::Product),
    ("go-build", "binary", Standing::Product),
    ("oci", "tardigest", Standing::Product),
    ("oci", "imagedigest", Standing::Image),
    ("docker", "imagedigest", Standing::Image),
    ("oci", "imageid", Standing::ImageId),
    ("docker", "imageid", Standing::ImageId),
];

/// Subjects of the peers' own envelopes (there without a type) that say nothing of what the step made.
const TEXTS: [&str; 26] = [
    "commithash",
    "parenthash",
    "authoremail",
    "committeremail",
    "refnameshort",
    "remote",
    "imagetag",
    "imagereference",
    "layerdiffid",
    "manifestdigest",
    "materialdigest",
    "materialuri",
    "pipelineurl",
    "projecturl",
    "joburl",
    "jenkinsurl",
    "name",
    "version",
    "project",
    "dependency",
    "codebuild-build-id",
    "codebuild-project",
    "codebuild-source-version",
    "policy",
    "accountid",
    "instanceid",
];

/// Digests of nothing, which all empty files and trees have in common.
const EMPTY: [&str; 4] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "gitoid:blob:sha256:473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
    "gitoid:blob:sha1:e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
];

/// Back-references that are taken from the subjects of attestors, as witness does: attestation, name up to the colon.
/// Not the project and the source version of `CodeBuild`: all runs of a project, or of a branch, have these in common.
const LINKS: [(&str, &str); 5] = [
    ("git", "commithash"),
    ("github", "pipelineurl"),
    ("gitlab", "pipelineurl"),
    ("jenkins", "pipelineurl"),
    ("aws-codebuild", "codebuild-build-id"),
];

/// Names of [`TEXTS`] that only evidence of one commit, pipeline or image has in common.
const OF_ONE_RUN: [&str; 3] = ["commithash", "pipelineurl", "manifestdigest"];

/// A digest under which other collections are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackReference {
    /// `<type>/<name>`, as in the subjects of a collection.
    pub name: String,
    /// Well-formed digests, at least one. They match subjects with the same algorithm and value only.
    pub digest: DigestSet,
}

/// What a subject of a collection says, from its name: `<type>/<name>`. Names that the user gave have no type and say
/// nothing.
pub fn standing(subject_name: &str) -> Standing {
    let Some((attestation, name)) = split_subject(subject_name) else { return Standing::Finds };
    if (attestation, name) == ("product", "tree:products") {
        return Standing::Product;
    }
    let label = label(name);
    REAL.iter()
        .find(|(of, real, _)| *of == attestation && *real == label)
        .map_or(Standing::Finds, |(_, _, standing)| *standing)
}

/// Whether a subject of a collection is a real digest of something that the step made.
pub fn is_real(subject_name: &str) -> bool {
    standing(subject_name) != Standing::Finds
}

/// The image that a collection is about by its own words, `sha256:<hex>`: its manifest or index, else its config.
pub fn attested_image(statement: &Statement<'_>) -> Option<String> {
    let of = |wanted: Standing| {
        let subject = statement.subject.iter().find(|subject| standing(&subject.name) == wanted)?;
        subject.value("sha256").map(|value| format!("sha256:{value}"))
    };
    of(Standing::Image).or_else(|| of(Standing::ImageId))
}

/// Whether a subject of a statement that is no collection is a real digest: its name is none of those that the peers
/// give to texts, commits and materials, and its SHA-256 is not that of a part of its name.
pub fn is_real_external(subject: &SubjectView<'_>) -> bool {
    let name = &*subject.name;
    if name == "tree:materials" {
        return false;
    }
    // A collection's name in another statement keeps its meaning.
    if split_subject(name).is_some() {
        return is_real(name);
    }
    let label = label(name).trim_end_matches(|c: char| c.is_ascii_digit());
    if name.contains(':') && TEXTS.contains(&label) {
        return false;
    }
    !subject.value("sha256").is_some_and(|value| is_text(name, value))
}

/// Whether `sha256` is the digest of `name` or of what follows a colon or slash in it.
fn is_text(name: &str, sha256: &str) -> bool {
    let after = name.char_indices().filter(|(_, c)| matches!(c, ':' | '/')).map(|(at, _)| at + 1);
    // What is longer or has more parts than can be compared is not taken for real.
    if name.len() > MAX_NAME {
        return true;
    }
    let mut starts = [0].into_iter().chain(after);
    starts.by_ref().take(MAX_PARTS).any(|at| sha256_hex(&name.as_bytes()[at..]) == sha256) || starts.next().is_some()
}

/// What leads from this collection to others: the signed map where the producer wrote one, else the subjects that
/// witness takes for it. Sorted by name where the map was written, in the order of the subjects otherwise.
///
/// Never a parent commit, whoever wrote it (security rule 10): tests of the commit before say nothing of this one.
/// Values that are no digests (wire-formats §2.2) link nothing and are left out.
pub fn backrefs(statement: &Statement<'_>, collection: &CollectionView<'_>) -> Vec<BackReference> {
    if let Some(written) = &collection.backrefs {
        return written
            .iter()
            .filter_map(|(name, digest)| {
                let digests = digest.0.iter().map(|(algorithm, value)| (algorithm.as_str(), value.as_str()));
                reference(name, digests)
            })
            .collect();
    }
    let is_link =
        |name: &str| split_subject(name).is_some_and(|(attestation, name)| LINKS.contains(&(attestation, label(name))));
    statement
        .subject
        .iter()
        .filter(|subject| is_link(&subject.name))
        .filter_map(|subject| {
            reference(&subject.name, subject.digest.iter().map(|(algorithm, value)| (&**algorithm, &**value)))
        })
        .collect()
}

fn reference<'d>(name: &str, digests: impl Iterator<Item = (&'d str, &'d str)> + Clone) -> Option<BackReference> {
    if is_parent(name) || is_shared_text(name, digests.clone()) {
        return None;
    }
    let digest: DigestSet = DigestSet(
        digests
            .filter(|(algorithm, value)| raw(algorithm, value).is_some() && !EMPTY.contains(value))
            .map(|(algorithm, value)| (algorithm.to_owned(), value.to_owned()))
            .collect(),
    );
    (!digest.0.is_empty()).then(|| BackReference { name: name.to_owned(), digest })
}

/// Whether a back-reference is the digest of a text that many runs have in common: a tag, a branch, a project. cilock
/// writes some of them.
fn is_shared_text<'d>(name: &str, mut digests: impl Iterator<Item = (&'d str, &'d str)>) -> bool {
    let (attestation, name) = split_subject(name).unwrap_or(("", name));
    let label = label(name).trim_end_matches(|c: char| c.is_ascii_digit());
    if LINKS.contains(&(attestation, label)) || OF_ONE_RUN.contains(&label) {
        return false;
    }
    TEXTS.contains(&label) || digests.any(|(algorithm, value)| algorithm == "sha256" && is_text(name, value))
}

/// Whether a name, or a part of it after a slash, is `parenthash:…`: the commit before.
pub(crate) fn is_parent(name: &str) -> bool {
    name.split('/').any(|part| label(part).eq_ignore_ascii_case("parenthash"))
}

/// What stands before the colon.
fn label(name: &str) -> &str {
    name.split_once(':').map_or(name, |(label, _)| label)
}
