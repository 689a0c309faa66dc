//! From facts about images to evidence in the shape that witness reads.

use std::collections::{BTreeMap, BTreeSet};

use affiant_core::attestor::{Evidence, Place, Predicate};
use serde_json::{Map, Value, json};

use super::metadata::{Image, Material};
use super::{ABOUT, hex_of};
use crate::subjects::Subjects;

/// An engine's answer about one name.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) name: String,
    pub(super) endpoint: String,
    pub(super) id: String,
    /// Digests under which this repository holds the image, hex.
    pub(super) digests: Vec<String>,
    pub(super) repo_digests: Vec<String>,
    pub(super) layers: Vec<String>,
    pub(super) platform: Option<String>,
    pub(super) media_type: Option<String>,
    pub(super) descriptor_digest: Option<String>,
    /// Whether the engine's image id is the digest of a manifest or index, as with the containerd image store.
    pub(super) id_is_manifest: bool,
}

/// All that was found out, with its sources.
#[derive(Debug, Default)]
pub(super) struct Facts {
    images: Vec<(String, Option<String>, Image)>,
    /// Image ids, hex, and the files that hold them.
    pub(super) ids: Vec<(String, String)>,
    /// Digests of manifests, hex, and the files that hold them.
    pub(super) digests: Vec<(String, String)>,
    pub(super) answers: Vec<Answer>,
    /// Metadata of builds that made no image.
    pub(super) no_image: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// One entry of `products` in the predicate.
#[derive(Default)]
struct Entry {
    seen: BTreeSet<(String, Material)>,
    materials: BTreeMap<String, Vec<Value>>,
    references: Vec<String>,
}

impl Facts {
    pub(super) fn is_empty(&self) -> bool {
        self.images.is_empty() && self.ids.is_empty() && self.digests.is_empty() && self.answers.is_empty()
    }

    pub(super) fn add_image(&mut self, path: &str, target: Option<String>, image: Image) {
        self.images.push((path.to_owned(), target, image));
    }

    /// Attestations live in an index: a build that was asked for them and made a single manifest has none.
    pub(super) fn note_missing_attestations(&mut self, asked: &BTreeSet<String>) {
        if asked.is_empty() {
            return;
        }
        let asked = asked.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        for (path, target, image) in &self.images {
            let Some(media_type) = image.descriptor.as_ref().and_then(|one| one.media_type.as_deref()) else {
                continue;
            };
            if !media_type.contains("index") && !media_type.contains("manifest.list") {
                let target = target.as_ref().map(|target| format!(" (target `{target}`)")).unwrap_or_default();
                self.notes.push(format!(
                    "{path}{target}: attestations were asked for ({asked}), but the image is a single manifest ({media_type}), which holds none; this output or image store drops them"
                ));
            }
        }
    }

    /// Whether what the metadata calls the image's digest is its id. The engine's own builder writes it so, without a
    /// descriptor; an id file or the engine's answer proves it.
    fn is_image_id(&self, image: &Image) -> bool {
        let Some(hex) = image.digest.as_deref().and_then(hex_of) else { return false };
        image.descriptor.is_none()
            && (self.ids.iter().any(|(id, _)| id == hex)
                || self.answers.iter().any(|answer| !answer.id_is_manifest && answer.id == hex))
    }

    /// Whether an id file holds the digest of an index or manifest, as it does for several platforms.
    fn is_manifest(&self, id: &str) -> bool {
        self.images
            .iter()
            .any(|(_, _, image)| image.descriptor.is_some() && image.digest.as_deref().and_then(hex_of) == Some(id))
    }

    pub(super) fn evidence(&self) -> Evidence {
        let mut products: BTreeMap<String, Entry> = BTreeMap::new();
        let mut subjects = Subjects::default();
        for (_, _, image) in &self.images {
            let Some(hex) = image.digest.as_deref().and_then(hex_of) else { continue };
            let entry = products.entry(hex.to_owned()).or_default();
            subjects.digest(if self.is_image_id(image) { "imageid" } else { "imagedigest" }, hex);
            if let Some(id) = image.config_digest.as_deref().and_then(hex_of) {
                subjects.digest("imageid", id);
            }
            let name = image.name.clone().unwrap_or_default();
            entry.refer(&name, &mut subjects);
            for (platform, provenance) in &image.provenance {
                let platform = if platform.is_empty() { platform_of(image) } else { platform.clone() };
                let list = entry.materials.entry(platform.clone()).or_default();
                for material in &provenance.materials {
                    if entry.seen.insert((platform.clone(), material.clone())) {
                        list.push(as_witness(material, &platform));
                    }
                    if let Some(hex) = material.digest.get("sha256").filter(|hex| super::is_hex64(hex)) {
                        subjects.digest("materialdigest", hex);
                    }
                    subjects.text("materialuri", &material.uri);
                }
                if list.is_empty() {
                    entry.materials.remove(&platform);
                }
            }
        }
        for (hex, _) in &self.digests {
            products.entry(hex.clone()).or_default();
            subjects.digest("imagedigest", hex);
        }
        for (hex, _) in self.ids.iter().filter(|(hex, _)| !self.is_manifest(hex)) {
            subjects.digest("imageid", hex);
        }
        for answer in &self.answers {
            for hex in &answer.digests {
                subjects.digest("imagedigest", hex);
                products.entry(hex.clone()).or_default().refer(&answer.name, &mut subjects);
            }
            if answer.id_is_manifest {
                subjects.digest("imagedigest", &answer.id);
                products.entry(answer.id.clone()).or_default().refer(&answer.name, &mut subjects);
            } else {
                subjects.digest("imageid", &answer.id);
            }
            subjects.text("imagereference", &answer.name);
        }
        let products: Map<String, Value> = products
            .into_iter()
            .map(|(hex, entry)| {
                let value = json!({
                    "materials": entry.materials,
                    "imagereferences": entry.references,
                    "imagedigest": {"sha256": hex.clone()},
                });
                (hex, value)
            })
            .collect();
        Evidence {
            predicate_type: ABOUT.predicate_type.into(),
            predicate: Predicate::Composed(json!({"products": products, "affiant": self.ours()})),
            back_references: Vec::new(),
            subjects: subjects.into_list(),
            place: Place::Collection,
        }
    }

    /// What witness's type has no place for, each fact with its source.
    fn ours(&self) -> Value {
        let mut ours = Map::new();
        let images: Vec<Value> =
            self.images.iter().map(|(path, target, image)| told(path, target.as_deref(), image)).collect();
        if !images.is_empty() {
            ours.insert("images".into(), images.into());
        }
        let files = |list: &[(String, String)], member: &str, what: &str| -> Vec<Value> {
            list.iter()
                .map(|(hex, path)| json!({member: format!("sha256:{hex}"), "source": format!("{what} {path}")}))
                .collect()
        };
        let (manifests, ids): (Vec<_>, Vec<_>) = self.ids.iter().cloned().partition(|(hex, _)| self.is_manifest(hex));
        let mut from_files = files(&ids, "imageId", "image id file");
        from_files.extend(files(&manifests, "digest", "image id file"));
        from_files.extend(files(&self.digests, "digest", "digest file"));
        if !from_files.is_empty() {
            ours.insert("files".into(), from_files.into());
        }
        if !self.answers.is_empty() {
            let list = self.answers.iter().map(|answer| {
                let mut one = Map::from_iter([
                    ("reference".into(), Value::from(answer.name.clone())),
                    ("imageId".into(), format!("sha256:{}", answer.id).into()),
                    ("repoDigests".into(), json!(answer.repo_digests)),
                    ("layers".into(), json!(answer.layers)),
                ]);
                optional(&mut one, "platform", answer.platform.as_deref());
                optional(&mut one, "mediaType", answer.media_type.as_deref());
                optional(&mut one, "descriptor", answer.descriptor_digest.as_deref());
                one.insert("source".into(), format!("engine at {}", answer.endpoint).into());
                Value::Object(one)
            });
            ours.insert("engine".into(), list.collect());
        }
        let ids = self.images.iter().filter(|(_, _, image)| image.descriptor.is_none()).map(|(path, target, image)| {
            let target = target.as_ref().map(|target| format!(" (target `{target}`)")).unwrap_or_default();
            let word = if self.is_image_id(image) { "is" } else { "may be" };
            format!("{path}{target}: there is no descriptor beside `containerimage.digest`: it {word} the image id, which no registry knows")
        });
        let no_image = self.no_image.iter().map(|place| format!("{place}: the build made no image"));
        let notes: Vec<Value> = self.notes.iter().cloned().chain(ids).chain(no_image).map(Value::from).collect();
        if !notes.is_empty() {
            ours.insert("notes".into(), notes.into());
        }
        Value::Object(ours)
    }
}

impl Entry {
    /// Adds the raw text of the names, as witness does, and each name of a list as a subject of its own.
    fn refer(&mut self, names: &str, subjects: &mut Subjects) {
        if !names.is_empty() && !self.references.iter().any(|reference| reference == names) {
            self.references.push(names.to_owned());
        }
        subjects.text("imagereference", names);
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            subjects.text("imagereference", name);
        }
    }
}

/// Where a key names no platform: the platform of the image; for an index, as witness does, the last that the
/// materials name.
fn platform_of(image: &Image) -> String {
    if let Some(platform) = image.descriptor.as_ref().and_then(|descriptor| descriptor.platform.clone()) {
        return platform;
    }
    let materials = image.provenance.values().flat_map(|provenance| &provenance.materials);
    materials.filter_map(|material| platform_in(&material.uri)).next_back().unwrap_or_default()
}

/// The `platform` qualifier of a package URL.
fn platform_in(uri: &str) -> Option<String> {
    let (_, query) = uri.split_once('?')?;
    let query = query.split('#').next().unwrap_or(query);
    let value = query.split('&').find_map(|pair| pair.strip_prefix("platform="))?;
    Some(value.replace("%2F", "/").replace("%2f", "/"))
}

fn as_witness(material: &Material, platform: &str) -> Value {
    // Other algorithms make witness refuse the whole file.
    let digest: BTreeMap<&String, &String> =
        material.digest.iter().filter(|(algorithm, _)| matches!(algorithm.as_str(), "sha256" | "sha1")).collect();
    json!({"uri": material.uri, "architecture": platform, "digest": digest})
}

fn told(path: &str, target: Option<&str>, image: &Image) -> Value {
    let mut one = Map::new();
    optional(&mut one, "target", target);
    optional(&mut one, "digest", image.digest.as_deref());
    optional(&mut one, "imageId", image.config_digest.as_deref());
    if let Some(descriptor) = &image.descriptor {
        optional(&mut one, "mediaType", descriptor.media_type.as_deref());
        if let Some(size) = descriptor.size {
            one.insert("size".into(), size.into());
        }
        optional(&mut one, "platform", descriptor.platform.as_deref());
        if descriptor.digest != image.digest {
            optional(&mut one, "descriptor", descriptor.digest.as_deref());
        }
    }
    let names: Vec<&str> =
        image.name.iter().flat_map(|name| name.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect();
    one.insert("references".into(), json!(names));
    optional(&mut one, "buildRef", image.build_ref.as_deref());
    let provenance = image.provenance.iter().map(|(platform, provenance)| {
        let mut one = Map::new();
        optional(&mut one, "platform", Some(platform.as_str()).filter(|platform| !platform.is_empty()));
        optional(&mut one, "slsa", provenance.slsa);
        one.insert("materials".into(), provenance.materials.len().into());
        Value::Object(one)
    });
    one.insert("provenance".into(), provenance.collect());
    one.insert("source".into(), format!("buildx metadata file {path}").into());
    Value::Object(one)
}

fn optional(map: &mut Map<String, Value>, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        map.insert(key.into(), value.into());
    }
}
