//! OCI layouts: images in a folder, or in a tar file of one.
//!
//! Source: OCI image specification 1.1, "Image Layout". `index.json` lists what has a name (annotation
//! `org.opencontainers.image.ref.name`) and what nothing else leads to; referrers are found among its entries.

mod docker;
mod files;
mod pack;
mod sweep;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

pub use docker::docker_archive;
pub use pack::{Edited, pack};

use super::manifest::{Descriptor, Kind, MAX_MANIFEST, Manifest, OCI_INDEX, OCI_MANIFEST};
use super::reference::{At, Digest, Reference};
use super::repository::{Checked, Listed, MAX_REFERRERS, Put, Repository, RepositoryError, Skipped, Stored};
use crate::store::disk::{self, Aside, Modes};
use files::{Files, Over};

/// The annotation of an entry that has its name.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation of an entry that has the image's whole name (containerd, docker).
const IMAGE_NAME: &str = "io.containerd.image.name";
/// The annotation by which cosign's `save` tells image, signatures and attestations apart.
const COSIGN_KIND: &str = "kind";
/// How its values begin.
const COSIGN_KINDS: &str = "dev.cosignproject.cosign/";
/// What `oci-layout` says.
const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// Longest `oci-layout`, in bytes.
const MAX_MARKER: usize = 4096;
/// How deep indexes lie in each other.
const MAX_DEPTH: usize = 8;
/// Size of the buffer in which a blob passes.
const CHUNK: usize = 256 * 1024;

/// What is absent ([`RepositoryError::Absent`]) from a layout in which there is no image.
pub const ANY_IMAGE: &str = "any image";

/// An OCI layout as a repository.
pub struct Layout {
    path: PathBuf,
    files: Files,
}

fn refused(place: &Path, reason: impl Into<String>) -> RepositoryError {
    RepositoryError::Refused {
        place: place.display().to_string(),
        reason: reason.into(),
        permission: false,
        again: None,
    }
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> RepositoryError {
    let what = what.into();
    move |source| RepositoryError::Io { what, source }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Layout {
    /// The layout in a folder.
    pub fn open(folder: &Path) -> Result<Self, RepositoryError> {
        Self::checked(folder, Files::Folder(folder.to_owned()))
    }

    /// The layout in a tar file; it can be read only.
    pub fn open_archive(file: &Path) -> Result<Self, RepositoryError> {
        let files = Files::of_tar(file).map_err(failed(file.display().to_string()))?;
        Self::checked(file, files)
    }

    /// The layout in a folder, which is made where there is none. A folder with other things in it is refused.
    pub fn create(folder: &Path) -> Result<Self, RepositoryError> {
        let what = || folder.display().to_string();
        fs::create_dir_all(folder).map_err(failed(what()))?;
        if !folder.join("oci-layout").exists() {
            if fs::read_dir(folder).map_err(failed(what()))?.next().is_some() {
                return Err(refused(folder, "it has other things in it, and is no OCI layout"));
            }
            fs::create_dir_all(folder.join("blobs/sha256")).map_err(failed(what()))?;
            replace(folder, "index.json", &empty_index()).map_err(failed(what()))?;
            replace(folder, "oci-layout", MARKER).map_err(failed(what()))?;
        }
        Self::open(folder)
    }

    fn marker(&self) -> Result<Vec<u8>, RepositoryError> {
        self.files
            .read("oci-layout", MAX_MARKER)
            .map_err(failed(format!("oci-layout of {}", self.path.display())))?
            .ok_or_else(|| refused(&self.path, "it is no OCI layout: the file oci-layout is not there"))
    }

    fn checked(path: &Path, files: Files) -> Result<Self, RepositoryError> {
        let layout = Self { path: path.to_owned(), files };
        let marker = layout.marker()?;
        let version = serde_json::from_slice::<Value>(&marker)
            .ok()
            .and_then(|marker| marker.get("imageLayoutVersion")?.as_str().map(str::to_owned));
        match version {
            Some(version) if version.starts_with("1.") => Ok(layout),
            Some(version) => Err(refused(path, format!("an OCI layout of the version `{version}` is not known"))),
            None => Err(refused(path, "its oci-layout does not say which version it has")),
        }
    }

    fn index_bytes(&self) -> Result<Vec<u8>, RepositoryError> {
        self.files
            .read("index.json", MAX_MANIFEST)
            .map_err(failed(format!("index.json of {}", self.path.display())))?
            .ok_or_else(|| refused(&self.path, "it has no index.json"))
    }

    fn entries(&self) -> Result<Vec<Descriptor>, RepositoryError> {
        let bytes = self.index_bytes()?;
        parsed(&bytes).map(|index| named(index.manifests.unwrap_or_default()))
    }

    /// What an image without a name may be: the entries that are neither evidence nor about something, each once. One that
    /// cannot be read may be an image, too.
    pub fn roots(&self) -> Result<Vec<Descriptor>, RepositoryError> {
        let mut roots: Vec<Descriptor> = Vec::new();
        for entry in self.entries()? {
            let is_evidence = entry.annotation(REF_NAME).is_some_and(is_evidence_tag);
            if is_evidence || roots.iter().any(|root| root.digest == entry.digest) {
                continue;
            }
            let stored = match self.manifest(&At::Digest(entry.digest.clone())) {
                Ok(stored) => stored,
                Err(error) if error.is_outage() => return Err(error),
                Err(_) => None,
            };
            let about = stored.and_then(|stored| stored.manifest().ok());
            if about.is_none() && entry.artifact_type.is_some() {
                // What says what it is, and cannot be read, is no image.
                continue;
            }
            if about.is_none_or(|manifest| manifest.subject.is_none()) {
                roots.push(entry);
            }
        }
        Ok(roots)
    }

    /// The one image that is meant where none was named.
    pub fn only_root(&self) -> Result<At, RepositoryError> {
        let roots = self.roots()?;
        match &roots[..] {
            [root] => Ok(At::Digest(root.digest.clone())),
            [] => Err(RepositoryError::Absent { what: ANY_IMAGE.to_owned(), place: self.name() }),
            several => {
                let names: Vec<String> = several
                    .iter()
                    .take(10)
                    .map(|root| root.annotation(REF_NAME).map_or_else(|| root.digest.to_string(), str::to_owned))
                    .collect();
                Err(refused(&self.path, format!("it has several images, name one: {}", names.join(", "))))
            }
        }
    }

    /// The name of a repository under which an image in it is known, where an entry says one: the annotation of
    /// containerd and docker, or a name in OCI's own that is more than a tag.
    pub fn known_as(&self, at: &At) -> Result<Option<String>, RepositoryError> {
        let is_meant = |entry: &&Descriptor| match at {
            At::Digest(digest) => entry.digest == *digest,
            At::Tag(tag) => entry.annotation(REF_NAME) == Some(tag),
        };
        let entries = self.entries()?;
        let names = entries.iter().filter(is_meant).flat_map(|entry| {
            let name = entry.annotation(REF_NAME).filter(|name| name.contains('/'));
            entry.annotation(IMAGE_NAME).into_iter().chain(name)
        });
        Ok(names.filter_map(|name| name.parse::<Reference>().ok()).map(|name| name.name()).next())
    }

    /// Says of one image, and of what is kept about it under tags, what cosign's `load` wants to know: their kinds. It takes
    /// one image from a layout: what another had loses it.
    pub fn mark(&self, image: &Digest, prefix: &str) -> Result<(), RepositoryError> {
        let folder = self.folder("take manifests")?;
        let tagged = [("sigs", ".sig"), ("atts", ".att"), ("sboms", ".sbom")];
        self.change(folder, |entries| {
            let before = entries.clone();
            for entry in &mut *entries {
                let is_index = entry["mediaType"].as_str().and_then(Kind::of) == Some(Kind::Index);
                let name = entry["annotations"][REF_NAME].as_str();
                let kept = tagged.iter().find(|(_, suffix)| {
                    name.and_then(|name| name.strip_prefix(prefix)).is_some_and(|name| name == image.tag(suffix))
                });
                let kind = match kept {
                    Some((kind, _)) => Some(*kind),
                    None if entry["digest"] == *image.as_str() && is_index => Some("imageIndex"),
                    None if entry["digest"] == *image.as_str() => Some("image"),
                    None => None,
                };
                if let Some(kind) = kind {
                    entry["annotations"][COSIGN_KIND] = json!(format!("{COSIGN_KINDS}{kind}"));
                } else if let Some(annotations) = entry.get_mut("annotations").and_then(Value::as_object_mut) {
                    annotations.remove(COSIGN_KIND);
                }
            }
            *entries != before
        })
    }

    fn folder(&self, what: &'static str) -> Result<&Path, RepositoryError> {
        match &self.files {
            Files::Folder(folder) | Files::Over(Over { folder, .. }) => Ok(folder),
            Files::Tar(..) => Err(RepositoryError::Cannot { place: self.name(), what }),
        }
    }

    /// Changes `index.json` while nobody else does.
    fn change(&self, folder: &Path, change: impl FnOnce(&mut Vec<Value>) -> bool) -> Result<(), RepositoryError> {
        let what = || format!("index.json of {}", folder.display());
        let lock = File::open(folder.join("oci-layout")).map_err(failed(what()))?;
        lock.lock().map_err(failed(what()))?;
        let bytes = self.index_bytes()?;
        parsed(&bytes)?;
        // Members that are not known stay.
        let mut index: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|error| refused(folder, error.to_string()))?;
        let entries = index.entry("manifests").or_insert_with(|| json!([]));
        let Some(entries) = entries.as_array_mut() else {
            return Err(refused(folder, "index.json has no list of manifests"));
        };
        if change(entries) {
            let bytes = Value::Object(index).to_string().into_bytes();
            // Neither do others read more.
            parsed(&bytes)?;
            replace(folder, "index.json", &bytes).map_err(failed(what()))?;
        }
        Ok(())
    }

    /// All digests that an index leads to.
    fn below(&self, manifest: &Manifest) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mut next: Vec<(Descriptor, usize)> = manifest.entries().iter().map(|entry| (entry.clone(), 0)).collect();
        while let Some((entry, depth)) = next.pop() {
            if !all.insert(entry.digest.to_string())
                || depth == MAX_DEPTH
                || Kind::of(&entry.media_type) != Some(Kind::Index)
            {
                continue;
            }
            let stored = self.manifest(&At::Digest(entry.digest)).ok().flatten();
            if let Some(manifest) = stored.and_then(|stored| stored.manifest().ok()) {
                next.extend(manifest.entries().iter().map(|entry| (entry.clone(), depth + 1)));
            }
        }
        all
    }
}

/// What an entry that cannot be read is by its own words, where these say that it is not about the image `of`: another
/// image, by its name or its machine, or what is kept about another. Whoever lists referrers names neither.
fn neighbour(entry: &Descriptor, of: &Digest) -> Option<String> {
    if entry.artifact_type.is_some() {
        return None;
    }
    match (entry.annotation(REF_NAME), &entry.platform) {
        (Some(name), _) if is_evidence_tag(name) && name.starts_with(&of.tag("")) => None,
        (Some(name), _) => Some(format!("`{name}`")),
        (None, Some(platform)) => Some(format!("the image for {platform}")),
        (None, None) => None,
    }
}

/// Whether a tag is one under which something is kept about an image.
pub fn is_evidence_tag(tag: &str) -> bool {
    tag.strip_prefix("sha256-").is_some_and(|rest| {
        rest.get(..64).is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            && matches!(&rest[64..], "" | ".sig" | ".att" | ".sbom")
    })
}

fn empty_index() -> Vec<u8> {
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }).to_string().into_bytes()
}

fn parsed(bytes: &[u8]) -> Result<Manifest, RepositoryError> {
    Manifest::parse(OCI_INDEX, bytes)
        .map_err(|source| RepositoryError::Manifest { digest: "index.json".to_owned(), source })
}

/// What cosign's `save` has written has kinds in place of names: the tags that they mean are put in.
fn named(mut entries: Vec<Descriptor>) -> Vec<Descriptor> {
    let kind = |entry: &Descriptor| {
        entry.annotation(COSIGN_KIND).and_then(|kind| kind.strip_prefix(COSIGN_KINDS)).map(str::to_owned)
    };
    let mut images = entries.iter().filter(|entry| matches!(kind(entry).as_deref(), Some("image" | "imageIndex")));
    let (Some(image), None) = (images.next().map(|image| image.digest.clone()), images.next()) else {
        return entries;
    };
    for entry in &mut entries {
        let suffix = match kind(entry).as_deref() {
            Some("sigs") => ".sig",
            Some("atts") => ".att",
            Some("sboms") => ".sbom",
            _ => continue,
        };
        let annotations = entry.annotations.get_or_insert_default();
        annotations.entry(REF_NAME.to_owned()).or_insert_with(|| image.tag(suffix));
    }
    entries
}

/// Takes away the entry that has a tag only by its kind, and gives the kind.
fn take_kind(entries: &mut Vec<Value>, tag: &str) -> Option<Value> {
    let read: Option<Vec<Descriptor>> =
        entries.iter().map(|entry| serde_json::from_value(entry.clone()).ok()).collect();
    let at = named(read?).iter().position(|entry| entry.annotation(REF_NAME) == Some(tag))?;
    let kind = entries[at].get("annotations")?.get(COSIGN_KIND)?.clone();
    entries.remove(at);
    Some(kind)
}

/// Writes a file of a layout aside, and gives it its name.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let aside = Aside::new(folder, Modes::SHARED)?;
    aside.as_file().write_all(bytes)?;
    disk::rename(aside.named(folder, Modes::SHARED)?, &folder.join(name))
}

/// The type of a manifest that nothing else tells: as it says itself, else by its members.
fn media_type(bytes: &[u8]) -> Option<String> {
    let Value::Object(manifest) = serde_json::from_slice(bytes).ok()? else { return None };
    manifest.get("schemaVersion")?;
    match manifest.get("mediaType").and_then(Value::as_str) {
        Some(said) => Kind::of(said).map(|_| said.to_owned()),
        None if manifest.contains_key("manifests") => Some(OCI_INDEX.to_owned()),
        None if manifest.contains_key("layers") => Some(OCI_MANIFEST.to_owned()),
        None => None,
    }
}

impl Repository for Layout {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn resolve(&self, at: &At) -> Result<Option<Descriptor>, RepositoryError> {
        Ok(self.manifest(at)?.map(|stored| stored.descriptor()))
    }

    fn manifest(&self, at: &At) -> Result<Option<Stored>, RepositoryError> {
        let (digest, said) = match at {
            At::Digest(digest) => (digest.clone(), None),
            At::Tag(tag) => {
                let all = self.entries()?;
                let mut found = all.into_iter().filter(|entry| entry.annotation(REF_NAME) == Some(tag));
                let Some(first) = found.next() else { return Ok(None) };
                if found.any(|other| other.digest != first.digest) {
                    return Err(refused(&self.path, format!("index.json gives the name {tag} to several images")));
                }
                (first.digest.clone(), Some(first))
            }
        };
        let place = || format!("{digest} of {}", self.path.display());
        let name = blob_name(&digest);
        let Some(bytes) = self.files.read(&name, MAX_MANIFEST).map_err(failed(place()))? else {
            return match said {
                Some(_) => Err(RepositoryError::Wrong {
                    what: format!("{digest} of {}, which {at} means", self.path.display()),
                    reason: "it is not there".to_owned(),
                }),
                None => Ok(None),
            };
        };
        if let Some(said) = said {
            if said.size != bytes.len() as u64 {
                return Err(RepositoryError::Wrong {
                    what: place(),
                    reason: format!("it has {} bytes, and index.json says {}", bytes.len(), said.size),
                });
            }
            return Stored::checked(said.media_type, bytes, &digest).map(Some);
        }
        let Some(media_type) = media_type(&bytes) else { return Ok(None) };
        Stored::checked(media_type, bytes, &digest).map(Some)
    }

    fn has_blob(&self, digest: &Digest) -> Result<bool, RepositoryError> {
        let found =
            self.files.open(&blob_name(digest)).map_err(failed(format!("{digest} of {}", self.path.display())))?;
        Ok(found.is_some())
    }

    fn blob(&self, digest: &Digest, limit: u64) -> Result<Box<dyn Read + Send + '_>, RepositoryError> {
        let what = || format!("{digest} of {}", self.path.display());
        let Some((size, reader)) = self.files.open(&blob_name(digest)).map_err(failed(what()))? else {
            return Err(RepositoryError::Absent { what: digest.to_string(), place: self.name() });
        };
        if size > limit {
            return Err(RepositoryError::Large { what: format!("bytes of {digest}"), found: size, limit });
        }
        Ok(Box::new(Checked::new(reader, digest.clone(), limit)))
    }

    fn put_blob(&self, digest: &Digest, size: u64, bytes: &mut dyn Read) -> Result<(), RepositoryError> {
        let root = self.folder("take blobs")?;
        let folder = root.join("blobs/sha256");
        let what = || format!("{digest} for {}", self.path.display());
        // Nothing is written through a link that leads out.
        for part in ["blobs", "blobs/sha256"] {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::open(root.join(part), flags, Mode::empty()) {
                Ok(_) => {}
                Err(rustix::io::Errno::NOENT) => fs::create_dir(root.join(part)).map_err(failed(what()))?,
                Err(error) => return Err(failed(what())(error.into())),
            }
        }
        let aside = Aside::new(&folder, Modes::SHARED).map_err(failed(what()))?;
        let mut buffer = vec![0; CHUNK];
        let mut hasher = Sha256::new();
        let mut count: u64 = 0;
        loop {
            let (read, ended) = crate::inflate::fill(&mut &mut *bytes, &mut buffer).map_err(failed(what()))?;
            count += read as u64;
            if count > size {
                return Err(RepositoryError::Large { what: format!("bytes of {digest}"), found: count, limit: size });
            }
            hasher.update(&buffer[..read]);
            aside.as_file().write_all(&buffer[..read]).map_err(failed(what()))?;
            if ended {
                break;
            }
        }
        let found = Digest::finished(hasher);
        if found != *digest || count != size {
            return Err(RepositoryError::Digest { wanted: digest.clone(), found });
        }
        let named = aside.named(&folder, Modes::SHARED).map_err(failed(what()))?;
        disk::rename(named, &folder.join(digest.hex())).map_err(failed(what()))
    }

    fn put_manifest(&self, at: &At, media_type: &str, bytes: &[u8]) -> Result<Put, RepositoryError> {
        let folder = self.folder("take manifests")?;
        let stored = Stored::of(media_type, bytes.to_vec());
        let digest = stored.digest().clone();
        if let At::Digest(wanted) = at
            && *wanted != digest
        {
            return Err(RepositoryError::Digest { wanted: wanted.clone(), found: digest });
        }
        let manifest =
            stored.manifest().map_err(|source| RepositoryError::Manifest { digest: digest.to_string(), source })?;
        self.put_blob(&digest, bytes.len() as u64, &mut &bytes[..])?;
        let below = self.below(&manifest);
        let mut new = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        if let Some(kind) = manifest.artifact_type.as_deref().filter(|_| manifest.subject.is_some()) {
            new["artifactType"] = json!(kind);
        }
        let name_of = |entry: &Value| entry["annotations"][REF_NAME].as_str().map(str::to_owned);
        self.change(folder, |entries| {
            let before = entries.clone();
            match at {
                At::Tag(tag) => {
                    new["annotations"] = json!({ REF_NAME: tag });
                    // What cosign's `save` has put there under its kind stays of this kind.
                    if let Some(kind) = take_kind(entries, tag) {
                        new["annotations"][COSIGN_KIND] = kind;
                    }
                    // The name may have meant something else, and it may have been there without a name.
                    entries.retain(|entry| {
                        name_of(entry).as_ref() != Some(tag)
                            && !(entry["digest"] == *digest.as_str() && name_of(entry).is_none())
                    });
                    entries.push(new);
                }
                At::Digest(_) if entries.iter().any(|entry| entry["digest"] == *digest.as_str()) => {}
                At::Digest(_) => entries.push(new),
            }
            // What an index leads to need not be listed beside it.
            entries.retain(|entry| {
                let is_below = entry["digest"].as_str().is_some_and(|digest| below.contains(digest));
                !is_below || name_of(entry).is_some()
            });
            *entries != before
        })?;
        Ok(Put::Known)
    }

    fn referrers(&self, of: &Digest) -> Result<Option<Listed>, RepositoryError> {
        let mut found: Vec<Descriptor> = Vec::new();
        let mut skipped = Vec::new();
        for entry in self.entries()? {
            if entry.digest == *of || found.iter().any(|one| one.digest == entry.digest) {
                continue;
            }
            let mut skip = |reason: String| {
                let place = format!("{}, which index.json of {} lists", entry.digest, self.path.display());
                skipped.push(match neighbour(&entry, of) {
                    Some(what) => Skipped::one(format!("{place} as {what}"), reason),
                    // It may refer to anything.
                    None => Skipped::hiding(place, reason),
                });
            };
            let stored = match self.manifest(&At::Digest(entry.digest.clone())) {
                Ok(Some(stored)) => stored,
                // An entry may be anything, and then it refers to nothing.
                Ok(None) if Kind::of(&entry.media_type).is_none() => continue,
                Ok(None) => {
                    skip("it is not there, or is no manifest".to_owned());
                    continue;
                }
                Err(error) => {
                    skip(error.one_line());
                    continue;
                }
            };
            let manifest = match stored.manifest() {
                Ok(manifest) => manifest,
                Err(error) => {
                    skip(error.to_string());
                    continue;
                }
            };
            if manifest.subject.as_ref().is_some_and(|subject| subject.digest == *of) {
                found.push(Descriptor {
                    artifact_type: manifest.artifact_type().map(str::to_owned),
                    annotations: manifest.annotations.clone(),
                    ..stored.descriptor()
                });
            }
            if found.len() > MAX_REFERRERS {
                return Err(RepositoryError::Large {
                    what: format!("the list of referrers of {of}"),
                    found: found.len() as u64,
                    limit: MAX_REFERRERS as u64,
                });
            }
        }
        Ok(Some(Listed { entries: found, skipped }))
    }

    fn tags(&self) -> Result<Vec<String>, RepositoryError> {
        let all = self.entries()?;
        let tags: BTreeSet<String> =
            all.iter().filter_map(|entry| entry.annotation(REF_NAME)).map(str::to_owned).collect();
        Ok(tags.into_iter().collect())
    }

    fn delete(&self, at: &At) -> Result<(), RepositoryError> {
        let folder = self.folder("delete manifests")?;
        self.change(folder, |entries| {
            let before = entries.len();
            entries.retain(|entry| match at {
                At::Tag(tag) => entry["annotations"][REF_NAME] != *tag.as_str(),
                At::Digest(digest) => entry["digest"] != *digest.as_str(),
            });
            entries.len() != before
        })?;
        if let At::Digest(digest) = at {
            if let Files::Over(over) = &self.files {
                over.remove(&blob_name(digest));
            }
            match fs::remove_file(folder.join(blob_name(digest))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(format!("{digest} of {}", self.path.display()))(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn sweep(&self, left: &BTreeSet<Digest>) -> Result<Vec<Digest>, RepositoryError> {
        self.take_away(left)
    }

    /// The changes of an archive lie in a folder of our own until the archive is written anew.
    fn is_own(&self) -> bool {
        matches!(self.files, Files::Over(_))
    }
}

#[cfg(test)]
#[path = "layout/tests.rs"]
mod tests;
