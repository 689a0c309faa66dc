//! From the graph of an image archive to evidence in the shape that witness reads.

use std::collections::{BTreeMap, BTreeSet};

use affiant_core::attestor::{Evidence, Place, Predicate};
use affiant_core::digest::sha256_hex;
use affiant_core::product::Product;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::contents::{Contents, File};
use super::inflate::{Compression, Inflated};
use super::model::{DockerImage, Graph, Image, candidate, is_hex64};
use super::{ABOUT, One};
use crate::subjects::Subjects;

/// Shortfalls that are listed one by one.
const SHORTFALLS_LISTED: usize = 64;

/// What was looked at.
pub(super) enum Whole<'a> {
    /// One file.
    Archive {
        /// The product.
        product: &'a Product,
        /// How it is compressed as a whole, and the tar inside.
        compressed: Option<(Compression, Option<Inflated>)>,
    },
    /// An OCI layout that is a folder.
    Folder {
        /// Its path, empty for the working directory.
        path: &'a str,
    },
}

/// Whether an archive without entry point was meant to be an image.
pub(super) fn looks_like_image(files: &BTreeMap<String, File>) -> bool {
    files.keys().any(|name| name.starts_with("blobs/sha256/") || name == "oci-layout" || names_a_digest(name))
}

/// Names as docker and crane give them in archives: `<id>/layer.tar`, `<id>.json`, `sha256:<id>`, `<id>.tar.gz`.
pub(super) fn names_a_digest(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or(name);
    let first = first.strip_prefix("sha256:").unwrap_or(first);
    let first = [".json", ".tar", ".tar.gz"].iter().find_map(|end| first.strip_suffix(end)).unwrap_or(first);
    is_hex64(first)
}

/// Whether an archive whose first entry has this name may hold an image.
pub(super) fn begins_image(name: &str) -> bool {
    matches!(name, "blobs" | "oci-layout" | "index.json" | "manifest.json" | "repositories")
        || name.starts_with("blobs/")
        || names_a_digest(name)
}

fn set(hex: Option<&String>) -> Value {
    hex.map_or_else(|| json!({}), |hex| json!({ "sha256": hex }))
}

/// Evidence of one archive or folder.
pub(super) fn one(whole: &Whole<'_>, contents: &Contents, graph: &Graph) -> One {
    let name = match whole {
        Whole::Archive { product, .. } => product.path.as_str(),
        Whole::Folder { path: "" } => "oci-layout",
        Whole::Folder { path } => path,
    };
    let mut shortfalls: Vec<String> =
        contents.faults.iter().chain(&graph.faults).map(|fault| format!("{name}: {fault}")).collect();
    if shortfalls.len() > SHORTFALLS_LISTED {
        let more = shortfalls.len() - SHORTFALLS_LISTED;
        shortfalls.truncate(SHORTFALLS_LISTED);
        shortfalls.push(format!("{name}: and {more} more"));
    }

    // docker's list of images, where there is one, says what an engine would load.
    let main = if graph.docker.is_some() { &graph.docker_images } else { &graph.images };
    let made;
    let (manifest, raw): (&[DockerImage], &[u8]) = if let Some((list, raw)) = &graph.docker {
        (list, raw)
    } else {
        made = graph.images.iter().map(as_docker).collect::<Vec<_>>();
        (&made, graph.first_manifest.as_deref().unwrap_or_default())
    };
    let (mut tags, mut tags_seen): (Vec<&String>, BTreeSet<&String>) = (Vec::new(), BTreeSet::new());
    let indexes = graph.indexes.iter().map(|index| &index.tags);
    for tag in main.iter().chain(&graph.images).map(|image| &image.tags).chain(indexes).flatten() {
        if tags_seen.insert(tag) {
            tags.push(tag);
        }
    }
    let first = main.first();
    let diff_ids: Vec<Value> =
        first.iter().flat_map(|image| &image.layers).map(|layer| set(layer.diff_id.as_ref())).collect();
    let manifest_digest = (!raw.is_empty()).then(|| sha256_hex(raw));
    let tar_digest = match whole {
        Whole::Archive { product, .. } => product.digests.sha256().map(str::to_owned),
        Whole::Folder { .. } => None,
    };

    let predicate = json!({
        "tardigest": set(tar_digest.as_ref()),
        "manifest": manifest,
        "imagetags": tags,
        "diffids": diff_ids,
        "imageid": set(first.and_then(|image| image.config.as_ref())),
        "manifestraw": STANDARD.encode(raw),
        "manifestdigest": set(manifest_digest.as_ref()),
        "affiant": ours(whole, name, contents, graph),
    });

    let mut subjects = Subjects::default();
    subjects.known("tardigest", tar_digest.as_ref());
    subjects.known("manifestdigest", manifest_digest.as_ref());
    let runnable: BTreeSet<&String> = graph.images.iter().filter_map(|image| image.manifest.as_ref()).collect();
    let inner: BTreeSet<&String> = graph.indexes.iter().map(|index| &index.sha256).collect();
    for index in &graph.indexes {
        // An index of attestations or artifacts only is no image.
        if index.lists.iter().any(|hex| runnable.contains(hex) || inner.contains(hex)) {
            subjects.digest("imagedigest", &index.sha256);
        }
    }
    for image in &graph.images {
        subjects.known("imagedigest", image.manifest.as_ref());
    }
    if !graph.images.is_empty() {
        // `index.json` is an index itself, and `crane push --index` pushes it as it is.
        subjects.known("imagedigest", graph.layout_index.as_ref());
    }
    for image in main.iter().chain(&graph.images) {
        subjects.known("imageid", image.config.as_ref());
    }
    for tag in tags {
        subjects.text("imagetag", tag);
    }
    for image in main.iter().chain(&graph.images) {
        for (at, layer) in image.layers.iter().enumerate() {
            subjects.known(&format!("layerdiffid{at:02}"), layer.diff_id.as_ref());
        }
    }

    let piece = Evidence {
        predicate_type: ABOUT.predicate_type.into(),
        predicate: Predicate::Composed(predicate),
        back_references: subjects.of_kinds(&["manifestdigest", "imageid", "imagedigest", "imagetag"]),
        subjects: subjects.into_list(),
        place: Place::Collection,
    };
    One { piece: Some(piece), shortfalls }
}

/// An image of an OCI layout as docker's `manifest.json` would list it.
fn as_docker(image: &Image) -> DockerImage {
    DockerImage {
        config: image.config_name.clone(),
        repo_tags: Some(image.tags.clone()),
        layers: Some(image.layers.iter().map(|layer| layer.name.clone()).collect()),
    }
}

/// What witness's type has no place for.
fn ours(whole: &Whole<'_>, name: &str, contents: &Contents, graph: &Graph) -> Value {
    let mut ours = Map::new();
    let form = match (graph.docker.is_some(), graph.is_layout) {
        (true, true) => "docker archive and OCI layout",
        (true, false) => "docker archive",
        _ => "OCI layout",
    };
    ours.insert("form".into(), form.into());
    ours.insert("path".into(), name.into());
    if let Whole::Archive { compressed: Some((compression, inflated)), .. } = whole {
        ours.insert("compression".into(), compression.name().into());
        if let Some(inflated) = inflated {
            ours.insert("inflated".into(), json!({"sha256": hex::encode(inflated.sha256), "size": inflated.size}));
        }
    }
    if let Some(index) = &graph.layout_index {
        ours.insert("layoutIndex".into(), json!({ "sha256": index }));
    }
    if !graph.indexes.is_empty() {
        let list = graph.indexes.iter().map(|index| {
            let mut one = Map::from_iter([("digest".into(), format!("sha256:{}", index.sha256).into())]);
            optional(&mut one, "mediaType", index.media_type.as_deref());
            optional(&mut one, "refName", index.ref_name.as_deref());
            one.insert("manifests".into(), digests(&index.lists));
            Value::Object(one)
        });
        ours.insert("indexes".into(), list.collect());
    }
    // An image of docker's list that is the same as one of the layout is told once, with its manifest.
    let mut by_config: BTreeMap<Option<&String>, Vec<&Image>> = BTreeMap::new();
    for image in &graph.images {
        by_config.entry(image.config.as_ref()).or_default().push(image);
    }
    let told_already = |image: &&Image| {
        by_config.get(&image.config.as_ref()).is_some_and(|list| list.iter().any(|one| same(image, one)))
    };
    let only_docker = graph.docker_images.iter().filter(|image| !told_already(image));
    let all: Vec<&Image> = graph.images.iter().chain(only_docker).collect();
    ours.insert("images".into(), all.iter().map(|image| told(image)).collect());
    if !graph.others.is_empty() {
        let list = graph.others.iter().map(|other| {
            let mut one = Map::from_iter([
                ("digest".into(), format!("sha256:{}", other.sha256).into()),
                ("kind".into(), other.kind.clone().into()),
            ]);
            if let Some(about) = &other.about {
                one.insert("about".into(), format!("sha256:{about}").into());
            }
            if !other.predicate_types.is_empty() {
                one.insert("predicateTypes".into(), json!(other.predicate_types));
            }
            Value::Object(one)
        });
        ours.insert("notImages".into(), list.collect());
    }
    if graph.docker.is_some() {
        let candidates: Vec<Value> = graph
            .docker_images
            .iter()
            .filter_map(|image| Some((image, candidate(image, contents)?)))
            .map(|(image, hex)| {
                json!({
                    "imageId": image.config.as_ref().map(|hex| format!("sha256:{hex}")),
                    "digest": format!("sha256:{hex}"),
                    "if": "the layers are pushed as stored, under a Docker schema 2 manifest",
                })
            })
            .collect();
        let text = if graph.is_layout {
            "those of the layout; who loads or pushes the docker archive instead makes a manifest anew"
        } else {
            "none: a docker archive holds no registry manifest, and a push makes one"
        };
        ours.insert("registryDigests".into(), json!({"known": text, "candidates": candidates}));
    }
    if !contents.notes.is_empty() {
        ours.insert("notes".into(), json!(contents.notes));
    }
    Value::Object(ours)
}

fn same(a: &Image, b: &Image) -> bool {
    a.config == b.config
        && a.tags.iter().all(|tag| b.tags.contains(tag))
        && a.layers.len() == b.layers.len()
        && a.layers.iter().zip(&b.layers).all(|(a, b)| a.sha256 == b.sha256)
}

fn told(image: &Image) -> Value {
    let mut one = Map::new();
    if let Some(manifest) = &image.manifest {
        one.insert("digest".into(), format!("sha256:{manifest}").into());
    }
    optional(&mut one, "mediaType", image.media_type.as_deref());
    optional(&mut one, "platform", image.platform.as_deref());
    if let Some(config) = &image.config {
        one.insert("imageId".into(), format!("sha256:{config}").into());
    }
    if let Some(index) = &image.index {
        one.insert("index".into(), format!("sha256:{index}").into());
    }
    optional(&mut one, "refName", image.ref_name.as_deref());
    one.insert("tags".into(), json!(image.tags));
    let layers = image.layers.iter().map(|layer| {
        let mut one = Map::new();
        match &layer.sha256 {
            Some(hex) => one.insert("digest".into(), format!("sha256:{hex}").into()),
            None => one.insert("missing".into(), layer.name.clone().into()),
        };
        if let Some(size) = layer.size {
            one.insert("size".into(), size.into());
        }
        optional(&mut one, "mediaType", layer.media_type.as_deref());
        optional(&mut one, "compression", layer.compression.map(Compression::name));
        if let Some(hex) = &layer.diff_id {
            one.insert("diffId".into(), format!("sha256:{hex}").into());
        }
        Value::Object(one)
    });
    one.insert("layers".into(), layers.collect());
    Value::Object(one)
}

fn optional(map: &mut Map<String, Value>, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        map.insert(key.into(), value.into());
    }
}

fn digests(list: &[String]) -> Value {
    list.iter().map(|hex| Value::from(format!("sha256:{hex}"))).collect()
}
