//! The images, indexes and attestations that were found in an image archive.

use affiant_core::digest::sha256_hex;
use serde::{Deserialize, Serialize};

use super::contents::Contents;
use super::inflate::Compression;

/// One image of docker's `manifest.json`, with the member names of the file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DockerImage {
    /// Name of the configuration's file.
    #[serde(rename = "Config")]
    pub config: String,
    /// Full names with tags.
    #[serde(rename = "RepoTags")]
    pub repo_tags: Option<Vec<String>>,
    /// Names of the layers' files, lowest first.
    #[serde(rename = "Layers")]
    pub layers: Option<Vec<String>>,
}

/// A layer of an image.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Name of its file in the archive.
    pub name: String,
    /// SHA-256 of the file as stored, hex; `None` where it is absent.
    pub sha256: Option<String>,
    /// Length of the file.
    pub size: Option<u64>,
    /// Media type, where a manifest says one.
    pub media_type: Option<String>,
    /// SHA-256 of the inflated layer, hex, as computed.
    pub diff_id: Option<String>,
    /// How it is compressed.
    pub compression: Option<Compression>,
    /// Why it could not be inflated.
    pub broken: Option<String>,
}

/// An image for one platform.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// SHA-256 of its manifest, hex; `None` where there is only docker's `manifest.json`.
    pub manifest: Option<String>,
    /// Media type of the manifest.
    pub media_type: Option<String>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// SHA-256 of its configuration, hex: the image id.
    pub config: Option<String>,
    /// Name of the configuration's file.
    pub config_name: String,
    /// Full names with tags.
    pub tags: Vec<String>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// SHA-256 of the index that lists it, hex, where that is a blob.
    pub index: Option<String>,
    /// `org.opencontainers.image.ref.name` of the descriptor that leads to it.
    pub ref_name: Option<String>,
}

/// An index that a registry would hold.
#[derive(Clone, Debug)]
pub struct Index {
    /// SHA-256, hex.
    pub sha256: String,
    /// Media type.
    pub media_type: Option<String>,
    /// Full names with tags.
    pub tags: Vec<String>,
    /// `org.opencontainers.image.ref.name` of the descriptor that leads to it.
    pub ref_name: Option<String>,
    /// SHA-256 of what it lists, hex, in its order.
    pub lists: Vec<String>,
}

/// A manifest that is no image.
#[derive(Clone, Debug)]
pub struct Other {
    /// SHA-256 of the manifest, hex.
    pub sha256: String,
    /// `attestation-manifest` (`BuildKit`) or the artifact type.
    pub kind: String,
    /// SHA-256 of the manifest that it is about, hex.
    pub about: Option<String>,
    /// Predicate types of the statements in it.
    pub predicate_types: Vec<String>,
}

/// Everything that was found out.
#[derive(Debug, Default)]
pub struct Graph {
    /// docker's `manifest.json`, with its raw bytes.
    pub docker: Option<(Vec<DockerImage>, Vec<u8>)>,
    /// The images that it lists.
    pub docker_images: Vec<Image>,
    /// Whether there is an OCI layout.
    pub is_layout: bool,
    /// SHA-256 of the layout's `index.json`, hex.
    pub layout_index: Option<String>,
    /// The images of the layout.
    pub images: Vec<Image>,
    /// The raw manifest of the first of them.
    pub first_manifest: Option<Vec<u8>>,
    /// The indexes of the layout, without `index.json`.
    pub indexes: Vec<Index>,
    /// Attestations and artifacts.
    pub others: Vec<Other>,
    /// What is wrong.
    pub faults: Vec<String>,
}

/// Whether a text is a SHA-256 digest in lowercase hex.
pub(crate) fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The manifest that a push of an archive with compressed layers makes, where it is obvious: Docker's image
/// manifest, version 2, schema 2, as the writers of such archives (`crane`) put it, in hex.
pub fn candidate(image: &Image, contents: &Contents) -> Option<String> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry<'a> {
        media_type: &'a str,
        size: u64,
        digest: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Manifest<'a> {
        schema_version: u8,
        media_type: &'a str,
        config: Entry<'a>,
        layers: Vec<Entry<'a>>,
    }
    let (_, config) = contents.resolve(&image.config_name)?;
    let layers: Option<Vec<Entry<'_>>> = image
        .layers
        .iter()
        .map(|layer| {
            (layer.compression == Some(Compression::Gzip)).then_some(())?;
            Some(Entry {
                media_type: "application/vnd.docker.image.rootfs.diff.tar.gzip",
                size: layer.size?,
                digest: format!("sha256:{}", layer.sha256.as_deref()?),
            })
        })
        .collect();
    let manifest = Manifest {
        schema_version: 2,
        media_type: "application/vnd.docker.distribution.manifest.v2+json",
        config: Entry {
            media_type: "application/vnd.docker.container.image.v1+json",
            size: config.size,
            digest: format!("sha256:{}", hex::encode(config.sha256)),
        },
        layers: layers.filter(|layers| !layers.is_empty())?,
    };
    Some(sha256_hex(&serde_json::to_vec(&manifest).ok()?))
}
