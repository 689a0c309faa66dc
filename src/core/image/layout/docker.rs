//! What `docker save` writes, read as an image.
//!
//! Such an archive has no manifest of a registry. One is made from its config and its layers, in OCI's form and always
//! with the same bytes: `schemaVersion`, `mediaType`, `config`, `layers`, without spaces; a layer is
//! `application/vnd.oci.image.layer.v1.tar`, with `+gzip` or `+zstd` where it is compressed. Its digest is that of no
//! other tool's push. Each layer is proven by the config's diff id before anything is given.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::{Files, Opened, plain};
use super::{failed, refused};
use crate::image::compare::diff_id;
use crate::image::manifest::{Descriptor, MAX_MANIFEST, Manifest, OCI_CONFIG, OCI_MANIFEST};
use crate::image::reference::{At, Digest};
use crate::image::repository::{Checked, Listed, Put, Repository, RepositoryError, Stored};
use crate::inflate::Compression;

/// Most layers of an image.
const MAX_LAYERS: usize = 1024;

/// One image of a docker archive.
struct DockerArchive {
    path: PathBuf,
    files: Files,
    manifest: Stored,
    tags: Vec<String>,
    /// Config and layers: where they are.
    blobs: BTreeMap<Digest, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// Names that are shown of an archive of several images.
const MAX_NAMES: usize = 10;

/// The image with a name, or the only image, of a docker archive, and the digest of its manifest. Reads all layers once.
pub fn docker_archive(path: &Path, name: Option<&str>) -> Result<(Box<dyn Repository>, Digest), RepositoryError> {
    let files = Files::of_tar(path).map_err(failed(path.display().to_string()))?;
    let list = read(path, &files, "manifest.json")?;
    let list: Vec<Saved> =
        serde_json::from_slice(&list).map_err(|error| refused(path, format!("manifest.json: {error}")))?;
    let image = match (name, &list[..]) {
        (None, [image]) => image,
        (None, all) => {
            let names: Vec<&str> =
                all.iter().flat_map(|image| image.repo_tags.iter().flatten()).map(String::as_str).collect();
            let shown = names.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
            let more = if names.len() > MAX_NAMES { ", …" } else { "" };
            let colon = if names.is_empty() { "; none has a name" } else { ": " };
            return Err(refused(path, format!("it has {} images, name one{colon}{shown}{more}", all.len())));
        }
        (Some(name), _) => list
            .iter()
            .find(|image| image.repo_tags.iter().flatten().any(|tag| tag == name))
            .ok_or_else(|| RepositoryError::Absent { what: name.to_owned(), place: path.display().to_string() })?,
    };
    let config = read(path, &files, &image.config)?;
    let says: Config = serde_json::from_slice(&config)
        .map_err(|error| refused(path, format!("the config {}: {error}", image.config)))?;
    let names = image.layers.as_deref().unwrap_or_default();
    if names.len() > MAX_LAYERS || names.len() != says.rootfs.diff_ids.len() {
        return Err(refused(
            path,
            format!("{} layers, and its config says {}", names.len(), says.rootfs.diff_ids.len()),
        ));
    }
    let mut blobs = BTreeMap::from([(Digest::of(&config), image.config.clone())]);
    let mut layers = Vec::new();
    for (name, wanted) in names.iter().zip(&says.rootfs.diff_ids) {
        let (layer, found) = layer(path, &files, name)?;
        if found != *wanted {
            return Err(refused(path, format!("the layer {name} is {found}, and its config says {wanted}")));
        }
        blobs.insert(layer.digest.clone(), name.clone());
        layers.push(layer);
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Some(Descriptor::of(OCI_CONFIG, &config)),
        layers: Some(layers),
        manifests: None,
        subject: None,
        annotations: None,
    };
    let manifest = Stored::of(OCI_MANIFEST, manifest.to_json());
    let digest = manifest.digest().clone();
    let repository = DockerArchive {
        path: path.to_owned(),
        manifest,
        tags: image.repo_tags.clone().unwrap_or_default(),
        files,
        blobs,
    };
    Ok((Box::new(repository), digest))
}

fn open(path: &Path, files: &Files, name: &str) -> Result<Opened, RepositoryError> {
    let place = plain(name).ok_or_else(|| refused(path, format!("`{}` is no name below it", name.escape_debug())))?;
    files
        .open(&place)
        .map_err(failed(format!("{name} of {}", path.display())))?
        .ok_or_else(|| RepositoryError::Absent { what: name.to_owned(), place: path.display().to_string() })
}

fn read(path: &Path, files: &Files, name: &str) -> Result<Vec<u8>, RepositoryError> {
    let (size, reader) = open(path, files, name)?;
    if size > MAX_MANIFEST as u64 {
        return Err(RepositoryError::Large {
            what: format!("bytes of {name}"),
            found: size,
            limit: MAX_MANIFEST as u64,
        });
    }
    let mut bytes = Vec::new();
    reader.take(size).read_to_end(&mut bytes).map_err(failed(format!("{name} of {}", path.display())))?;
    Ok(bytes)
}

/// A layer as it lies there, and its diff id.
fn layer(path: &Path, files: &Files, name: &str) -> Result<(Descriptor, Digest), RepositoryError> {
    let what = || format!("{name} of {}", path.display());
    let (size, mut reader) = open(path, files, name)?;
    let mut head = [0; Compression::SNIFF];
    let (count, _) = crate::inflate::fill(&mut reader, &mut head).map_err(failed(what()))?;
    let compression = Compression::sniff(&head[..count]);
    let (_, reader) = open(path, files, name)?;
    // What is stored is hashed as it is, and once more for what it inflates to.
    let digest = diff_id(BufReader::new(reader), None).map_err(failed(what()))?;
    let found = match compression {
        None => digest.clone(),
        Some(_) => diff_id(BufReader::new(open(path, files, name)?.1), compression).map_err(failed(what()))?,
    };
    let kind = match compression {
        None => "application/vnd.oci.image.layer.v1.tar",
        Some(Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
        Some(Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    let descriptor = Descriptor {
        media_type: kind.to_owned(),
        digest,
        size,
        artifact_type: None,
        platform: None,
        annotations: None,
    };
    Ok((descriptor, found))
}

impl DockerArchive {
    fn cannot(&self, what: &'static str) -> RepositoryError {
        RepositoryError::Cannot { place: self.name(), what }
    }
}

impl Repository for DockerArchive {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn resolve(&self, at: &At) -> Result<Option<Descriptor>, RepositoryError> {
        Ok(self.manifest(at)?.map(|stored| stored.descriptor()))
    }

    /// Its one manifest, by its digest.
    fn manifest(&self, at: &At) -> Result<Option<Stored>, RepositoryError> {
        let is_it = match at {
            At::Digest(digest) => digest == self.manifest.digest(),
            At::Tag(tag) => self.tags.iter().any(|name| name.rsplit_once(':').is_some_and(|(_, its)| its == tag)),
        };
        Ok(is_it.then(|| self.manifest.clone()))
    }

    fn has_blob(&self, digest: &Digest) -> Result<bool, RepositoryError> {
        Ok(self.blobs.contains_key(digest))
    }

    fn blob(&self, digest: &Digest, limit: u64) -> Result<Box<dyn Read + Send + '_>, RepositoryError> {
        let absent = || RepositoryError::Absent { what: digest.to_string(), place: self.name() };
        let (size, reader) = open(&self.path, &self.files, self.blobs.get(digest).ok_or_else(absent)?)?;
        if size > limit {
            return Err(RepositoryError::Large { what: format!("bytes of {digest}"), found: size, limit });
        }
        Ok(Box::new(Checked::new(reader, digest.clone(), limit)))
    }

    fn put_blob(&self, _: &Digest, _: u64, _: &mut dyn Read) -> Result<(), RepositoryError> {
        Err(self.cannot("take blobs"))
    }

    fn put_manifest(&self, _: &At, _: &str, _: &[u8]) -> Result<Put, RepositoryError> {
        Err(self.cannot("take manifests"))
    }

    fn referrers(&self, _: &Digest) -> Result<Option<Listed>, RepositoryError> {
        Ok(Some(Listed::default()))
    }

    fn tags(&self) -> Result<Vec<String>, RepositoryError> {
        let mut tags: Vec<String> =
            self.tags.iter().filter_map(|name| Some(name.rsplit_once(':')?.1.to_owned())).collect();
        tags.sort_unstable();
        tags.dedup();
        Ok(tags)
    }

    fn delete(&self, _: &At) -> Result<(), RepositoryError> {
        Err(self.cannot("delete manifests"))
    }
}
