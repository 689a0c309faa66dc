//! An image whose evidence is kept in another repository (`COSIGN_REPOSITORY`), read as one place.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use super::attached;
use super::layout::is_evidence_tag;
use super::manifest::Descriptor;
use super::reference::{At, Digest};
use super::repository::{Listed, Put, Repository, RepositoryError, Stored};

/// Two repositories, read as one. Images are looked for in their own first, evidence in the other first. Nothing is written
/// through it.
pub struct Beside {
    images: Arc<dyn Repository>,
    evidence: Arc<dyn Repository>,
    prefix: String,
}

impl Beside {
    /// The repository of `images` with that of their `evidence`; `prefix` stands before the tags of evidence.
    pub fn new(images: Arc<dyn Repository>, evidence: Arc<dyn Repository>, prefix: &str) -> Self {
        Self { images, evidence, prefix: prefix.to_owned() }
    }

    /// In their order of looking.
    fn places(&self, at: &At) -> [&dyn Repository; 2] {
        let is_evidence =
            matches!(at, At::Tag(tag) if tag.strip_prefix(self.prefix.as_str()).is_some_and(is_evidence_tag));
        if is_evidence { [&*self.evidence, &*self.images] } else { [&*self.images, &*self.evidence] }
    }

    fn cannot(&self) -> RepositoryError {
        RepositoryError::Cannot { place: self.name(), what: "be written together with another repository" }
    }
}

impl Repository for Beside {
    fn name(&self) -> String {
        self.images.name()
    }

    fn resolve(&self, at: &At) -> Result<Option<Descriptor>, RepositoryError> {
        Ok(self.manifest(at)?.map(|stored| stored.descriptor()))
    }

    fn manifest(&self, at: &At) -> Result<Option<Stored>, RepositoryError> {
        let [first, second] = self.places(at);
        match first.manifest(at)? {
            None => second.manifest(at),
            there => Ok(there),
        }
    }

    fn has_blob(&self, digest: &Digest) -> Result<bool, RepositoryError> {
        Ok(self.images.has_blob(digest)? || self.evidence.has_blob(digest)?)
    }

    fn blob(&self, digest: &Digest, limit: u64) -> Result<Box<dyn Read + Send + '_>, RepositoryError> {
        let is_own = self.images.has_blob(digest)?;
        if is_own { self.images.blob(digest, limit) } else { self.evidence.blob(digest, limit) }
    }

    fn put_blob(&self, _: &Digest, _: u64, _: &mut dyn Read) -> Result<(), RepositoryError> {
        Err(self.cannot())
    }

    fn put_manifest(&self, _: &At, _: &str, _: &[u8]) -> Result<Put, RepositoryError> {
        Err(self.cannot())
    }

    fn referrers(&self, of: &Digest) -> Result<Option<Listed>, RepositoryError> {
        let mut all = attached::referrers(&*self.evidence, of)?;
        let Listed { entries, skipped } = attached::referrers(&*self.images, of)?;
        all.entries.extend(entries);
        all.skipped.extend(skipped);
        let mut seen = BTreeSet::new();
        all.entries.retain(|entry| seen.insert(entry.digest.clone()));
        Ok(Some(all))
    }

    fn tags(&self) -> Result<Vec<String>, RepositoryError> {
        let of_evidence = |tag: &String| tag.strip_prefix(self.prefix.as_str()).is_some_and(is_evidence_tag);
        let mut tags: BTreeSet<String> = self.images.tags()?.into_iter().collect();
        tags.extend(self.evidence.tags()?.into_iter().filter(of_evidence));
        Ok(tags.into_iter().collect())
    }

    fn delete(&self, _: &At) -> Result<(), RepositoryError> {
        Err(self.cannot())
    }
}
