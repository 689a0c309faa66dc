//! What the files of an image archive mean: docker's `manifest.json` and the graph of an OCI image layout.
//!
//! Sources: OCI image-spec v1.1 (`image-layout.md`, `descriptor.md`, `image-index.md`, `manifest.md`,
//! `config.md`), the archive format of `docker save`, and `BuildKit`'s attestation storage, whose manifests are
//! marked with the annotation `vnd.docker.reference.type`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::contents::{Contents, File};
use super::model::{DockerImage, Graph, Image, Index, Layer, Other, is_hex64};

/// Indexes within indexes that are followed.
const DEPTH_LIMIT: usize = 8;
/// Descriptors that are looked at in all indexes together.
const DESCRIPTOR_LIMIT: usize = 16_384;
/// Images of `manifest.json` that are looked at.
const IMAGE_LIMIT: usize = 4096;
/// Layers of one image that are looked at: engines take 127.
const LAYER_LIMIT: usize = 1024;
/// Layers of all images together.
const LAYERS_LIMIT: usize = 65_536;
/// Names of all images together.
const TAG_LIMIT: usize = 16_384;
/// Bytes of configurations that are parsed, each counted as often as it is named.
const PARSE_LIMIT: usize = 256 << 20;
/// Faults that are kept.
const FAULT_LIMIT: usize = 1000;

/// What a descriptor may say (image-spec `descriptor.md`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Descriptor {
    media_type: Option<String>,
    digest: Option<String>,
    size: Option<i64>,
    platform: Option<Platform>,
    annotations: Option<BTreeMap<String, String>>,
    urls: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Platform {
    architecture: Option<String>,
    os: Option<String>,
    variant: Option<String>,
}

/// An index or a manifest: told apart by its members where no media type does.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    media_type: Option<String>,
    artifact_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    architecture: Option<String>,
    os: Option<String>,
    variant: Option<String>,
    rootfs: Option<RootFs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RootFs {
    diff_ids: Option<Vec<String>>,
}

/// Reads the graph. `None`: neither `manifest.json` nor `index.json` is there, so it is no image archive.
pub fn understand(contents: &Contents) -> Option<Graph> {
    let docker = contents.resolve("manifest.json");
    let layout = contents
        .resolve("index.json")
        .filter(|_| docker.is_some() || contents.resolve("oci-layout").is_some() || has_blobs(contents));
    if docker.is_none() && layout.is_none() {
        return None;
    }
    let mut reader = Reader {
        contents,
        graph: Graph::default(),
        seen: BTreeSet::new(),
        descriptors: 0,
        layers: 0,
        tags: 0,
        parsed: 0,
        broken: BTreeSet::new(),
    };
    reader.check_names();
    let is_image = docker.is_none_or(|(_, file)| reader.docker(file));
    if let Some((_, file)) = layout {
        reader.graph.is_layout = true;
        reader.graph.layout_index = Some(hex::encode(file.sha256));
        reader.layout(file);
    } else if !is_image {
        return None;
    }
    Some(reader.graph)
}

fn has_blobs(contents: &Contents) -> bool {
    contents.files.range("blobs/".to_owned()..).next().is_some_and(|(name, _)| name.starts_with("blobs/"))
}

struct Reader<'a> {
    contents: &'a Contents,
    graph: Graph,
    seen: BTreeSet<String>,
    descriptors: usize,
    layers: usize,
    tags: usize,
    parsed: usize,
    /// Layers that could not be inflated and are told.
    broken: BTreeSet<String>,
}

/// What is inherited from the descriptor that leads somewhere.
#[derive(Clone, Default)]
struct Path {
    index: Option<String>,
    tags: Vec<String>,
    ref_name: Option<String>,
    depth: usize,
}

impl Reader<'_> {
    fn fault(&mut self, text: String) {
        match self.graph.faults.len() {
            FAULT_LIMIT => self.graph.faults.push("there is more".into()),
            n if n < FAULT_LIMIT => self.graph.faults.push(text),
            _ => {}
        }
    }

    /// Says once that a limit was passed.
    fn past(&mut self, count: usize, limit: usize, what: &str) -> bool {
        if count == limit + 1 {
            self.fault(format!("has more than {limit} {what}; the others are not looked at"));
        }
        count > limit
    }

    /// Names of an image, as far as there is room.
    fn tags(&mut self, tags: &[String]) -> Vec<String> {
        let mut kept = Vec::new();
        for tag in tags {
            self.tags += 1;
            if self.past(self.tags, TAG_LIMIT, "names of images") {
                break;
            }
            kept.push(tag.clone());
        }
        kept
    }

    /// Whether one more layer is looked at.
    fn one_more_layer(&mut self, image: &Image) -> bool {
        self.layers += 1;
        if image.layers.len() == LAYER_LIMIT {
            self.fault(format!("`{}` has more than {LAYER_LIMIT} layers", image.config_name));
        }
        image.layers.len() < LAYER_LIMIT && !self.past(self.layers, LAYERS_LIMIT, "layers")
    }

    /// Every file below `blobs/sha256/` is what its name says.
    fn check_names(&mut self) {
        let prefix = "blobs/sha256/";
        let wrong: Vec<String> = self
            .contents
            .files
            .range(prefix.to_owned()..)
            .take_while(|(name, _)| name.starts_with(prefix))
            .filter(|(name, file)| name[prefix.len()..] != *hex::encode(file.sha256))
            .map(|(name, file)| format!("`{name}` has the digest {}", hex::encode(file.sha256)))
            .collect();
        for text in wrong {
            self.fault(text);
        }
    }

    /// Reads `manifest.json`. `false`: it is some other program's file of this name.
    fn docker(&mut self, file: &File) -> bool {
        let Some(text) = &file.text else {
            self.fault(format!("`manifest.json` of {} bytes is no JSON document within the limits", file.size));
            return has_blobs(self.contents);
        };
        let list: Vec<DockerImage> = match serde_json::from_slice(text) {
            Ok(list) => list,
            Err(error) => {
                self.fault(format!("`manifest.json`: {error}"));
                // Only an array may be docker's; a web application's manifest is an object.
                return text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
            }
        };
        if list.is_empty() {
            self.fault("`manifest.json` lists no image".into());
        }
        for (at, image) in list.iter().enumerate() {
            if self.past(at + 1, IMAGE_LIMIT, "images") {
                break;
            }
            let image = self.docker_image(image);
            self.graph.docker_images.push(image);
        }
        self.graph.docker = Some((list, text.clone()));
        true
    }

    fn docker_image(&mut self, docker: &DockerImage) -> Image {
        let mut image = Image {
            config_name: docker.config.clone(),
            tags: self.tags(docker.repo_tags.as_deref().unwrap_or_default()),
            ..Image::default()
        };
        let config = self.config("manifest.json", &docker.config, &mut image);
        for name in docker.layers.iter().flatten() {
            if !self.one_more_layer(&image) {
                break;
            }
            let layer = self.layer("manifest.json", name, None, false);
            image.layers.push(layer);
        }
        self.check_diff_ids("manifest.json", &mut image, config);
        image
    }

    /// Reads the configuration of an image, if it is there.
    fn config(&mut self, from: &str, name: &str, image: &mut Image) -> Option<Config> {
        let Some((_, file)) = self.contents.resolve(name) else {
            self.fault(format!("`{from}` names the configuration `{name}`, which is not there"));
            return None;
        };
        let sha256 = hex::encode(file.sha256);
        let stem = name.rsplit('/').next().unwrap_or(name);
        let stem = stem.strip_suffix(".json").unwrap_or(stem);
        let stem = stem.strip_prefix("sha256:").unwrap_or(stem);
        if !name.starts_with("blobs/") && is_hex64(stem) && stem != sha256 {
            self.fault(format!("`{name}` has the digest {sha256}"));
        }
        image.config = Some(sha256);
        let before = self.parsed;
        self.parsed += file.text.as_ref().map_or(0, Vec::len);
        if self.parsed > PARSE_LIMIT {
            if before <= PARSE_LIMIT {
                self.fault("its configurations are named so often that not all are read".into());
            }
            return None;
        }
        let config: Config = match file.text.as_deref().map(serde_json::from_slice) {
            Some(Ok(config)) => config,
            Some(Err(error)) => {
                self.fault(format!("`{name}`: {error}"));
                return None;
            }
            None => {
                self.fault(format!("`{name}` of {} bytes is no JSON document within the limits", file.size));
                return None;
            }
        };
        let platform = Platform {
            architecture: config.architecture.clone(),
            os: config.os.clone(),
            variant: config.variant.clone(),
        };
        if image.platform.is_none() {
            image.platform = platform.text();
        }
        Some(config)
    }

    fn layer(&mut self, from: &str, name: &str, media_type: Option<String>, elsewhere: bool) -> Layer {
        let mut layer = Layer {
            name: name.to_owned(),
            sha256: None,
            size: None,
            media_type,
            diff_id: None,
            compression: None,
            broken: None,
        };
        let Some((_, file)) = self.contents.resolve(name) else {
            if !elsewhere {
                self.fault(format!("`{from}` names the layer `{name}`, which is not there"));
            }
            return layer;
        };
        layer.sha256 = Some(hex::encode(file.sha256));
        layer.size = Some(file.size);
        match &file.inflated {
            None => layer.diff_id = layer.sha256.clone(),
            Some(Ok(inflated)) => {
                layer.diff_id = Some(hex::encode(inflated.sha256));
                layer.compression = Some(inflated.compression);
            }
            Some(Err(reason)) => layer.broken = Some(reason.clone()),
        }
        layer
    }

    /// Compares the diff ids with what the configuration says.
    fn check_diff_ids(&mut self, from: &str, image: &mut Image, config: Option<Config>) {
        let known = config.is_some();
        let says = config.and_then(|config| config.rootfs).and_then(|rootfs| rootfs.diff_ids).unwrap_or_default();
        let says: Vec<&str> = says.iter().map(|says| says.strip_prefix("sha256:").unwrap_or(says)).collect();
        for (at, layer) in image.layers.iter_mut().enumerate() {
            let Some(reason) = layer.broken.take() else { continue };
            // A stored layer may begin as a compressed one does: then the configuration means the very file.
            if layer.sha256.is_some() && layer.sha256.as_deref() == says.get(at).copied() {
                layer.diff_id.clone_from(&layer.sha256);
                continue;
            }
            if self.broken.insert(layer.name.clone()) {
                self.fault(format!("layer `{}`: {reason}", layer.name));
            }
            layer.broken = Some(reason);
        }
        if !known {
            return;
        }
        if says.len() != image.layers.len() {
            self.fault(format!(
                "`{from}` has {} layers for the configuration `{}`, which has {}",
                image.layers.len(),
                image.config_name,
                says.len()
            ));
        }
        let mut wrong = Vec::new();
        for (at, (layer, says)) in image.layers.iter_mut().zip(&says).enumerate() {
            let says = *says;
            if layer.diff_id.as_deref().is_some_and(|diff_id| diff_id != says) {
                // It can be inflated, but the configuration means the file as stored.
                if layer.sha256.as_deref() == Some(says) {
                    layer.diff_id = layer.sha256.clone();
                    layer.compression = None;
                } else {
                    wrong.push(format!(
                        "layer {at} (`{}`) inflates to {}, but `{}` says {says}",
                        layer.name,
                        layer.diff_id.as_deref().unwrap_or_default(),
                        image.config_name
                    ));
                }
            }
        }
        for text in wrong {
            self.fault(text);
        }
    }

    fn layout(&mut self, file: &File) {
        if let Some((_, marker)) = self.contents.resolve("oci-layout") {
            #[derive(Deserialize)]
            struct Marker {
                #[serde(rename = "imageLayoutVersion")]
                version: String,
            }
            match marker.text.as_deref().map(serde_json::from_slice::<Marker>) {
                Some(Ok(marker)) if marker.version.starts_with("1.") => {}
                Some(Ok(marker)) => self.fault(format!("`oci-layout` says version `{}`", marker.version)),
                _ => self.fault("`oci-layout` is not what the image layout asks for".into()),
            }
        }
        if let Some(document) = self.document("index.json", file) {
            self.index("index.json", &document, &Path::default());
        }
    }

    fn document(&mut self, name: &str, file: &File) -> Option<Document> {
        match file.text.as_deref().map(serde_json::from_slice) {
            Some(Ok(document)) => return Some(document),
            Some(Err(error)) => self.fault(format!("`{name}`: {error}")),
            None => self.fault(format!("`{name}` of {} bytes is no JSON document within the limits", file.size)),
        }
        None
    }

    fn index(&mut self, from: &str, document: &Document, path: &Path) {
        for descriptor in document.manifests.iter().flatten() {
            self.descriptors += 1;
            if self.descriptors > DESCRIPTOR_LIMIT {
                if self.descriptors == DESCRIPTOR_LIMIT + 1 {
                    self.fault(format!("its indexes list more than {DESCRIPTOR_LIMIT} manifests"));
                }
                return;
            }
            self.listed(from, descriptor, path);
        }
    }

    /// Looks up what a descriptor points to, and checks digest and size.
    fn blob(&mut self, from: &str, descriptor: &Descriptor, what: &str) -> Option<(String, String)> {
        let digest = descriptor.digest.as_deref().unwrap_or_default();
        let Some(hex) = digest.strip_prefix("sha256:").filter(|hex| is_hex64(hex)) else {
            self.fault(format!("`{from}` names {what} `{digest}`, which is no sha256 digest"));
            return None;
        };
        let name = format!("blobs/sha256/{hex}");
        if let Some((_, file)) = self.contents.resolve(&name)
            && let Some(size) = descriptor.size
            && u64::try_from(size).ok() != Some(file.size)
        {
            self.fault(format!("`{from}` says {size} bytes for `{name}`, which has {}", file.size));
        }
        Some((name, hex.to_owned()))
    }

    fn listed(&mut self, from: &str, descriptor: &Descriptor, path: &Path) {
        let Some((name, hex)) = self.blob(from, descriptor, "the manifest") else { return };
        let Some((_, file)) = self.contents.resolve(&name) else {
            self.fault(format!("`{from}` names the manifest `{name}`, which is not there"));
            return;
        };
        if hex::encode(file.sha256) != hex {
            return; // Said by check_names: what stands there is not what is meant.
        }
        let annotations = descriptor.annotations.clone().unwrap_or_default();
        let mut path = path.clone();
        if let Some(tag) = annotations.get("io.containerd.image.name") {
            path.tags = vec![tag.clone()];
        }
        if let Some(name) = annotations.get("org.opencontainers.image.ref.name") {
            path.ref_name = Some(name.clone());
        }
        if !self.seen.insert(hex.clone()) {
            self.also_tagged(&hex, &path);
            return;
        }
        let Some(document) = self.document(&name, file) else { return };
        if let (Some(a), Some(b)) = (&descriptor.media_type, &document.media_type)
            && a != b
        {
            self.fault(format!("`{from}` says `{a}` for `{name}`, which says `{b}` itself"));
        }
        if document.manifests.is_some() && (document.config.is_some() || document.layers.is_some()) {
            self.fault(format!("`{name}` can be read as an index and as a manifest; it is not looked at"));
        } else if document.manifests.is_some() {
            if path.depth >= DEPTH_LIMIT {
                self.fault(format!("`{name}` is an index more than {DEPTH_LIMIT} indexes deep"));
                return;
            }
            let lists = document.manifests.iter().flatten().filter_map(|one| one.digest.as_deref());
            self.graph.indexes.push(Index {
                sha256: hex.clone(),
                media_type: descriptor.media_type.clone().or_else(|| document.media_type.clone()),
                tags: path.tags.clone(),
                ref_name: path.ref_name.clone(),
                lists: lists.map(|digest| digest.trim_start_matches("sha256:").to_owned()).collect(),
            });
            path.index = Some(hex);
            path.depth += 1;
            self.index(&name, &document, &path);
        } else {
            self.manifest(&name, hex, descriptor, &document, path, file);
        }
    }

    /// The same manifest under one more name.
    fn also_tagged(&mut self, hex: &str, path: &Path) {
        let images = self.graph.images.iter_mut().filter(|image| image.manifest.as_deref() == Some(hex));
        let indexes = self.graph.indexes.iter_mut().filter(|index| index.sha256 == hex);
        for tags in images.map(|image| &mut image.tags).chain(indexes.map(|index| &mut index.tags)) {
            for tag in &path.tags {
                if tags.len() < TAG_LIMIT && !tags.contains(tag) {
                    tags.push(tag.clone());
                }
            }
        }
    }

    fn manifest(
        &mut self,
        name: &str,
        hex: String,
        descriptor: &Descriptor,
        document: &Document,
        path: Path,
        file: &File,
    ) {
        let annotations = descriptor.annotations.clone().unwrap_or_default();
        let layers = document.layers.as_deref().unwrap_or_default();
        let config = document.config.clone().unwrap_or_default();
        let config_type = config.media_type.as_deref().unwrap_or_default();
        let reference = annotations.get("vnd.docker.reference.type");
        let is_image = matches!(
            config_type,
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
        );
        if reference.is_some() || document.artifact_type.is_some() || !is_image {
            for layer in layers.iter().chain(&document.config) {
                if let Some((blob, _)) = self.blob(name, layer, "the blob")
                    && self.contents.resolve(&blob).is_none()
                {
                    self.fault(format!("`{name}` names the blob `{blob}`, which is not there"));
                }
            }
            let about = annotations.get("vnd.docker.reference.digest");
            let kind = reference.or(document.artifact_type.as_ref()).cloned();
            self.graph.others.push(Other {
                sha256: hex,
                kind: kind.unwrap_or_else(|| config_type.to_owned()),
                about: about.map(|digest| digest.trim_start_matches("sha256:").to_owned()),
                predicate_types: layers
                    .iter()
                    .filter_map(|layer| layer.annotations.as_ref()?.get("in-toto.io/predicate-type").cloned())
                    .collect(),
            });
            return;
        }
        let mut image = Image {
            manifest: Some(hex),
            media_type: descriptor.media_type.clone().or_else(|| document.media_type.clone()),
            platform: descriptor.platform.as_ref().and_then(Platform::text),
            tags: path.tags,
            index: path.index,
            ref_name: path.ref_name,
            ..Image::default()
        };
        let mut says = None;
        if let Some((config, _)) = self.blob(name, &config, "the configuration") {
            image.config_name.clone_from(&config);
            says = self.config(name, &config, &mut image);
        }
        for layer in layers {
            if !self.one_more_layer(&image) {
                break;
            }
            if let Some((blob, _)) = self.blob(name, layer, "the layer") {
                let elsewhere = layer.urls.as_ref().is_some_and(|urls| !urls.is_empty());
                let layer = self.layer(name, &blob, layer.media_type.clone(), elsewhere);
                image.layers.push(layer);
            }
        }
        self.check_diff_ids(name, &mut image, says);
        if self.graph.images.is_empty() {
            self.graph.first_manifest.clone_from(&file.text);
        }
        self.graph.images.push(image);
    }
}

impl Platform {
    fn text(&self) -> Option<String> {
        let (os, architecture) = (self.os.as_deref()?, self.architecture.as_deref()?);
        if os.is_empty() || architecture.is_empty() {
            return None;
        }
        let variant = self.variant.as_deref().filter(|variant| !variant.is_empty());
        Some(variant.map_or_else(|| format!("{os}/{architecture}"), |variant| format!("{os}/{architecture}/{variant}")))
    }
}
