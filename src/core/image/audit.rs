//! What a repository has of its images: which are signed, which tags mean another image than the one that was signed, and
//! what is kept about images that are gone.
//!
//! Evidence of images that no tag names is known by its tags (`sha256-….sig`, `.att`, the list of referrers). A registry
//! that lists referrers itself does not say of which images it has any.

use std::collections::{BTreeMap, BTreeSet};

use super::claim::Claim;
use super::found::{self, Content, Demand, Found, Skipped, Sought, judge_attestation, judge_signature};
use super::layout::is_evidence_tag;
use super::manifest::Manifest;
use super::payload::Payload;
use super::reference::{At, Digest, Reference};
use super::repository::{Repository, RepositoryError};
use crate::at_once;
use crate::evidence::Statement;
use crate::sign::PublicKey;

/// Most images of a repository that are looked at, with and without a tag.
pub const MAX_IMAGES: usize = 20_000;
/// Most reasons of what could not be read that are kept.
const MAX_SKIPPED: usize = 1000;
/// The annotation by which signatures bind a tag.
const TAG: &str = "tag";

/// How it is looked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only what this key has signed counts. Without it everything that looks like a signature does.
    pub key: Option<PublicKey>,
    /// What stands before the tags of evidence.
    pub prefix: String,
    /// Images that are looked at at the same time.
    pub at_once: usize,
}

/// An image that a tag names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// The tag.
    pub tag: String,
    /// What it means.
    pub digest: Digest,
    /// Signatures that count.
    pub signatures: usize,
    /// Attestations that count.
    pub attestations: usize,
}

/// A tag that something signed says of another image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replaced {
    /// The tag.
    pub tag: String,
    /// The image that it was said to mean.
    pub was: Digest,
    /// What it means now.
    pub now: Digest,
    /// Whether that is signed.
    pub is_signed: bool,
}

/// Evidence of an image that is not there, or that no tag leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// The image.
    pub digest: Digest,
    /// The tags under which something is kept about it.
    pub tags: Vec<String>,
}

/// What a repository has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Its images, by tag.
    pub images: Vec<Tagged>,
    /// Tags that mean another image than the one that was signed.
    pub replaced: Vec<Replaced>,
    /// Evidence of images that are there, and that no tag leads to.
    pub untagged: Vec<Left>,
    /// Evidence of images that are not there.
    pub orphaned: Vec<Left>,
    /// What could not be read.
    pub skipped: Vec<Skipped>,
}

/// What is known of one image.
#[derive(Default)]
struct Seen {
    is_there: bool,
    signatures: usize,
    attestations: usize,
    /// Tags that evidence says of it.
    tags: BTreeSet<String>,
    /// What its index leads to.
    below: Vec<Digest>,
    skipped: Vec<Skipped>,
}

/// Looks through a repository; `name` is its path in the registry, where it has one.
pub fn audit(repository: &dyn Repository, name: Option<&str>, options: &Options) -> Result<Audit, RepositoryError> {
    let mut tags: BTreeMap<String, Digest> = BTreeMap::new();
    let mut evidence: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    let mut plain = Vec::new();
    for tag in repository.tags()? {
        match evidence_of(&tag, &options.prefix) {
            Some(digest) => evidence.entry(digest).or_default().push(tag),
            None => plain.push(tag),
        }
    }
    let count = plain.len() + evidence.len();
    if count > MAX_IMAGES {
        return Err(RepositoryError::Large { what: repository.name(), found: count as u64, limit: MAX_IMAGES as u64 });
    }
    let named = at_once::all(&plain, options.at_once, |tag| repository.resolve(&At::Tag(tag.clone())))?;
    for (tag, digest) in plain.iter().zip(named) {
        // One that went away meanwhile is none.
        if let Some(found) = digest {
            tags.insert(tag.clone(), found.digest);
        }
    }
    let all: BTreeSet<Digest> = tags.values().chain(evidence.keys()).cloned().collect();
    let all: Vec<Digest> = all.into_iter().collect();
    let seen = at_once::all(&all, options.at_once, |digest| look(repository, name, digest, options))?;
    let seen: BTreeMap<&Digest, Seen> = all.iter().zip(seen).collect();
    let mut found = Audit::default();
    let mut reached: BTreeSet<Digest> = tags.values().cloned().collect();
    reached.extend(tags.values().filter_map(|digest| seen.get(digest)).flat_map(|seen| seen.below.clone()));
    let signed: BTreeSet<Digest> =
        seen.iter().filter(|(_, seen)| seen.signatures > 0).map(|(digest, _)| (*digest).clone()).collect();
    for (tag, digest) in &tags {
        let Some(seen) = seen.get(digest) else { continue };
        let (signatures, attestations) = (seen.signatures, seen.attestations);
        found.images.push(Tagged { tag: tag.clone(), digest: digest.clone(), signatures, attestations });
    }
    for (digest, seen) in seen {
        for tag in &seen.tags {
            if let Some(now) = tags.get(tag).filter(|now| *now != digest) {
                let is_signed = signed.contains(now);
                found.replaced.push(Replaced { tag: tag.clone(), was: digest.clone(), now: now.clone(), is_signed });
            }
        }
        if let Some(tags) = evidence.get(digest) {
            let left = Left { digest: digest.clone(), tags: tags.clone() };
            match (seen.is_there, reached.contains(digest)) {
                (false, _) => found.orphaned.push(left),
                (true, false) => found.untagged.push(left),
                (true, true) => {}
            }
        }
        found.skipped.extend(seen.skipped);
    }
    if let Some(more) = found.skipped.len().checked_sub(MAX_SKIPPED).filter(|more| *more > 0) {
        found.skipped.truncate(MAX_SKIPPED);
        found.skipped.push(Skipped::one(repository.name(), format!("{more} more cannot be read")));
    }
    found.replaced.sort();
    Ok(found)
}

/// The image that a tag keeps something about.
fn evidence_of(tag: &str, prefix: &str) -> Option<Digest> {
    let tag = tag.strip_prefix(prefix).filter(|tag| is_evidence_tag(tag)).or_else(|| {
        // The list of referrers never has a prefix.
        Some(tag).filter(|tag| is_evidence_tag(tag))
    })?;
    Digest::from_hex(tag.strip_prefix("sha256-")?.get(..64)?).ok()
}

/// Looks at one image and what is kept about it.
fn look(
    repository: &dyn Repository,
    name: Option<&str>,
    digest: &Digest,
    options: &Options,
) -> Result<Seen, RepositoryError> {
    let mut seen = Seen::default();
    if let Some(stored) = repository.manifest(&At::Digest(digest.clone()))? {
        seen.is_there = true;
        match stored.manifest() {
            Ok(manifest) => seen.below = below(repository, &manifest)?,
            Err(error) => seen.skipped.push(Skipped::one(digest.to_string(), error.to_string())),
        }
    }
    let wanted = BTreeMap::new();
    for sought in [Sought::Signatures, Sought::Attestations] {
        let mut payloads = 0;
        let mut statements = BTreeSet::new();
        let mut tags = BTreeSet::new();
        let take = |found: Found| {
            let counts = options.key.as_ref().is_none_or(|key| {
                let demand = Demand::of_key(digest, key, &wanted);
                match sought {
                    Sought::Signatures => judge_signature(&found, &demand).is_ok(),
                    Sought::Attestations => judge_attestation(&found, &demand).is_ok(),
                }
            });
            if counts {
                match &found.content {
                    Content::Simple { .. } => payloads += 1,
                    Content::Envelope(envelope, _) | Content::Bundle(envelope) => {
                        statements.insert(crate::digest::sha256(&envelope.payload));
                    }
                }
                tags.extend(said(&found.content, name));
            }
        };
        let skipped = found::each(&[repository], &options.prefix, digest, sought, take)?;
        seen.skipped.extend(skipped);
        seen.tags.extend(tags);
        // What is kept in both forms is one: no more are signed than the form has of which there are most.
        let count = statements.len().max(payloads);
        match sought {
            Sought::Signatures => seen.signatures = count,
            Sought::Attestations => seen.attestations = count,
        }
    }
    Ok(seen)
}

/// What an index leads to, one deep and one more.
fn below(repository: &dyn Repository, manifest: &Manifest) -> Result<Vec<Digest>, RepositoryError> {
    let mut all: Vec<Digest> = Vec::new();
    for entry in manifest.entries() {
        all.push(entry.digest.clone());
        if super::Kind::of(&entry.media_type) == Some(super::Kind::Index)
            && let Some(stored) = repository.manifest(&At::Digest(entry.digest.clone()))?
            && let Ok(inner) = stored.manifest()
        {
            all.extend(inner.entries().iter().map(|entry| entry.digest.clone()));
        }
    }
    Ok(all)
}

/// The tags of this repository that something signed says of its image: the annotation `tag`, and names with a tag.
fn said(content: &Content, name: Option<&str>) -> BTreeSet<String> {
    let mut tags = BTreeSet::new();
    let mut names = Vec::new();
    match content {
        Content::Simple { payload, .. } => {
            if let Ok(payload) = Payload::parse(payload) {
                tags.extend(payload.optional.get(TAG).and_then(|tag| tag.as_str()).map(str::to_owned));
                names.push(payload.reference);
            }
        }
        Content::Envelope(envelope, _) | Content::Bundle(envelope) => {
            if let Ok(claim) = Claim::parse(&envelope.payload) {
                tags.extend(claim.annotation(TAG));
            }
            if let Ok(statement) = Statement::parse(&envelope.payload) {
                names.extend(statement.subject.iter().map(|subject| {
                    let name = &*subject.name;
                    name.split_once("/imagereference:").map_or(name, |(_, name)| name).to_owned()
                }));
            }
        }
    }
    let named =
        names.iter().filter_map(|one| one.parse::<Reference>().ok()).filter(|one| Some(&*one.repository) == name);
    tags.extend(named.filter_map(|one| one.tag));
    tags
}
