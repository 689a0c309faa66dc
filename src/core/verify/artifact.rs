//! What is asked about: a file or folder that must have been made by accepted evidence.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::common::OfSigners;
use super::join::seeds_of;
use crate::digest::{DigestSet, sha256_reader};
use crate::store::SubjectDigest;

/// Files of one named folder.
const MAX_FILES: usize = 1_000_000;
/// Depth of a named folder.
const MAX_DEPTH: usize = 256;

/// Why an artifact cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// It cannot be read.
    #[error("{} cannot be read", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Neither a file nor a folder.
    #[error("{} is neither a file nor a folder", .path.display())]
    Kind {
        /// Which.
        path: PathBuf,
    },
    /// A name that cannot stand in the list of a folder.
    #[error("{} has a name that is not UTF-8, or has a line break in it", .path.display())]
    Name {
        /// Which.
        path: PathBuf,
    },
    /// Too many files, or too deep.
    #[error("{} has more than {MAX_FILES} files, or is deeper than {MAX_DEPTH} folders", .path.display())]
    TooMany {
        /// Which.
        path: PathBuf,
    },
    /// Nothing in it.
    #[error("the folder {} has no file", .path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
}

/// Something that must have been made by accepted evidence.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// As it was named.
    pub name: String,
    /// Its digests: of a file, or of a folder as a whole.
    pub digests: DigestSet,
    /// The files of a folder: path and SHA-256 in lowercase hex, sorted by path.
    pub files: Vec<(String, String)>,
    /// What it is where it is an image.
    pub(super) image: Option<OfImage>,
}

/// What digests must be of evidence that has made something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// Of a product, or of an image.
    Bytes,
    /// Of the manifest or index of an image: a copy of one among the products says nothing of what is in it.
    Image,
    /// Of the config of an image.
    ImageId,
}

/// An image as an artifact.
#[derive(Clone, Debug)]
pub(super) struct OfImage {
    /// What its own digest must be of the evidence.
    whole: Made,
    /// The digest of its config, where that was proven to stand for it.
    config: Option<DigestSet>,
    /// What evidence that has made it must have in common with who signed it.
    pub(super) signed: Option<Arc<OfSigners>>,
}

impl Artifact {
    /// A file, or anything else that is the bytes with these digests.
    pub fn of(name: impl Into<String>, digests: DigestSet) -> Self {
        Self { name: name.into(), digests, files: Vec::new(), image: None }
    }

    /// An image: its manifest, and the digest of the config where that was proven to stand for it.
    pub(super) fn image(name: String, digests: DigestSet, config: Option<DigestSet>) -> Self {
        Self { name, digests, files: Vec::new(), image: Some(OfImage { whole: Made::Bytes, config, signed: None }) }
    }

    /// An index as a whole (security rule 11).
    pub(super) fn index(name: String, digests: DigestSet) -> Self {
        Self {
            name,
            digests,
            files: Vec::new(),
            image: Some(OfImage { whole: Made::Image, config: None, signed: None }),
        }
    }

    /// The same image, where evidence of it must have something in common with who signed it.
    pub(super) fn signed_by(mut self, signed: Option<&Arc<OfSigners>>) -> Self {
        if let Some(image) = &mut self.image {
            image.signed = signed.cloned();
        }
        self
    }

    /// Whether it is an image.
    pub(super) fn is_image(&self) -> bool {
        self.image.is_some()
    }

    /// Whether somebody who has made the digests for which `has` says so has made it.
    pub(super) fn is_made(&self, has: impl Fn(&DigestSet, Made) -> bool) -> bool {
        let whole = self.image.as_ref().map_or(Made::Bytes, |image| image.whole);
        let config = self.image.as_ref().and_then(|image| image.config.as_ref());
        let file = |sha256: &String| has(&DigestSet::sha256_hex(sha256), Made::Bytes);
        has(&self.digests, whole)
            || config.is_some_and(|config| has(config, Made::ImageId))
            || (!self.files.is_empty() && self.files.iter().all(|(_, sha256)| file(sha256)))
    }

    /// Hashes a file, or all files of a folder (`dirHash` of wire-formats §4.4).
    pub fn read(path: &Path) -> Result<Self, ArtifactError> {
        let name = path.display().to_string();
        let data = fs::metadata(path).map_err(|source| ArtifactError::Read { path: path.to_owned(), source })?;
        if data.is_file() {
            return Ok(Self::of(name, DigestSet::sha256_hex(hash(path)?)));
        }
        if !data.is_dir() {
            return Err(ArtifactError::Kind { path: path.to_owned() });
        }
        let mut files = Vec::new();
        collect(path, "", 0, &mut files)?;
        files.sort();
        if files.is_empty() {
            return Err(ArtifactError::Empty { path: path.to_owned() });
        }
        let mut whole = Sha256::new();
        for (path, sha256) in &files {
            whole.update(format!("{sha256}  {path}\n"));
        }
        let digests = DigestSet([("dirHash".to_owned(), hex::encode(whole.finalize()))].into());
        Ok(Self { files, ..Self::of(name, digests) })
    }

    /// What evidence of it is found by.
    pub(super) fn seeds(&self) -> impl Iterator<Item = SubjectDigest> + '_ {
        let sha256 = |value: &String| SubjectDigest { algorithm: Some("sha256".to_owned()), value: value.clone() };
        let config = self.image.iter().filter_map(|image| image.config.as_ref());
        seeds_of(&self.digests)
            .chain(config.flat_map(seeds_of))
            .chain(self.files.iter().map(move |(_, value)| sha256(value)))
    }

    /// Its digest, `sha256:<hex>` or `dirHash:<hex>`.
    pub fn digest(&self) -> String {
        self.digests.0.iter().next().map_or_else(String::new, |(name, value)| format!("{name}:{value}"))
    }
}

fn hash(path: &Path) -> Result<String, ArtifactError> {
    let read = |source| ArtifactError::Read { path: path.to_owned(), source };
    let (digest, _) = sha256_reader(File::open(path).map_err(read)?).map_err(read)?;
    Ok(hex::encode(digest))
}

/// Files below `folder`. A link to a file counts as that file, as in a snapshot; anything else is an error: what is not
/// looked at would not be proven.
fn collect(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<(String, String)>) -> Result<(), ArtifactError> {
    let read = |source| ArtifactError::Read { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        let path = entry.path();
        let name = entry.file_name().into_string().ok().filter(|name| !name.contains('\n'));
        let Some(name) = name else { return Err(ArtifactError::Name { path }) };
        let name = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(read)?;
        if kind.is_dir() {
            if depth == MAX_DEPTH {
                return Err(ArtifactError::TooMany { path: folder.to_owned() });
            }
            collect(&path, &format!("{name}/"), depth + 1, files)?;
        } else if kind.is_file() || fs::metadata(&path).is_ok_and(|data| data.is_file()) {
            if files.len() == MAX_FILES {
                return Err(ArtifactError::TooMany { path: folder.to_owned() });
            }
            files.push((name, hash(&path)?));
        } else {
            return Err(ArtifactError::Kind { path });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_its_lines() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("b")).expect("made");
        fs::write(dir.path().join("b/x"), "1").expect("written");
        fs::write(dir.path().join("a"), "2").expect("written");
        let artifact = Artifact::read(dir.path()).expect("reads");
        let line = |name: &str, text: &str| format!("{}  {name}\n", crate::digest::sha256_hex(text.as_bytes()));
        let lines = line("a", "2") + &line("b/x", "1");
        assert_eq!(artifact.digests.0["dirHash"], crate::digest::sha256_hex(lines.as_bytes()));
        assert_eq!(artifact.files.len(), 2);
        std::os::unix::fs::symlink("/nonexistent", dir.path().join("l")).expect("linked");
        assert!(matches!(Artifact::read(dir.path()), Err(ArtifactError::Kind { .. })));
    }
}
