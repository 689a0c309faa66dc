//! Blobs of a layout that nothing leads to any more, once what needed them was taken away.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use super::{Files, Layout, blob_name, failed};
use crate::image::manifest::{Descriptor, EMPTY, Kind, MAX_MANIFEST};
use crate::image::reference::{At, Digest};
use crate::image::repository::{Repository, RepositoryError};

/// Most blobs and manifests of a layout that are gone through.
const MAX_REACHED: usize = 1_000_000;

impl Layout {
    /// Takes away those of `left` that nothing in the layout leads to, and says which they were. Nothing goes where
    /// something cannot be read: nobody knows what it leads to.
    pub(super) fn take_away(&self, left: &BTreeSet<Digest>) -> Result<Vec<Digest>, RepositoryError> {
        let folder = self.folder("delete blobs")?;
        let mut outcome = Ok(Vec::new());
        // While nobody else changes the list. Who is about to list something has put its blobs already: the empty one,
        // which almost everything has, is left to them.
        self.change(folder, |_| {
            outcome = self.reached().and_then(|reached| {
                let empty = Digest::of(EMPTY);
                let gone = left.iter().filter(|digest| **digest != empty && !reached.contains(*digest));
                gone.filter_map(|digest| self.remove_blob(folder, digest).transpose()).collect()
            });
            false
        })?;
        outcome
    }

    /// Takes one away; `None` where it was not there.
    fn remove_blob(&self, folder: &Path, digest: &Digest) -> Result<Option<Digest>, RepositoryError> {
        if !self.has_blob(digest)? {
            return Ok(None);
        }
        let name = blob_name(digest);
        if let Files::Over(over) = &self.files {
            over.remove(&name);
        }
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(format!("{digest} of {}", self.path.display()))(error))
            }
            _ => Ok(Some(digest.clone())),
        }
    }

    /// Whether what nobody here can read may be a manifest of a kind of its own.
    fn may_name_others(&self, digest: &Digest) -> Result<bool, RepositoryError> {
        let repository: &dyn Repository = self;
        let bytes = match repository.blob_bytes(digest, MAX_MANIFEST as u64) {
            Ok(bytes) => bytes,
            Err(RepositoryError::Large { .. } | RepositoryError::Absent { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let read = serde_json::from_slice::<Map<String, Value>>(&bytes);
        Ok(read.is_ok_and(|members| !members.is_empty()))
    }

    /// All that the entries of the layout lead to.
    fn reached(&self) -> Result<BTreeSet<Digest>, RepositoryError> {
        let mut reached = BTreeSet::new();
        // What the list names may be anything; what a manifest names is one where its type says so.
        let mut next: Vec<(Descriptor, bool)> = self.entries()?.into_iter().map(|entry| (entry, true)).collect();
        while let Some((entry, is_listed)) = next.pop() {
            let is_manifest = Kind::of(&entry.media_type).is_some();
            if !reached.insert(entry.digest.clone()) || !is_manifest && !is_listed {
                continue;
            }
            if reached.len() > MAX_REACHED {
                let what = format!("what {} leads to", self.path.display());
                return Err(RepositoryError::Large { what, found: reached.len() as u64, limit: MAX_REACHED as u64 });
            }
            let wrong = |reason: String| RepositoryError::Wrong {
                what: format!("{} of {}", entry.digest, self.path.display()),
                reason,
            };
            let stored = match self.manifest(&At::Digest(entry.digest.clone())) {
                Ok(Some(stored)) => stored,
                Ok(None) | Err(_) if !is_manifest => {
                    if self.may_name_others(&entry.digest)? {
                        return Err(wrong(format!("what it needs is not known: {}", entry.media_type)));
                    }
                    continue;
                }
                Ok(None) => return Err(wrong("it is not there, or is no manifest".to_owned())),
                Err(error) => return Err(wrong(error.one_line())),
            };
            let manifest = stored.manifest().map_err(|error| wrong(error.to_string()))?;
            let below = manifest.config.iter().chain(manifest.layers());
            next.extend(below.map(|one| (one.clone(), false)));
            next.extend(manifest.entries().iter().map(|one| (one.clone(), true)));
        }
        Ok(reached)
    }
}
