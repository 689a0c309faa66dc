//! Manifests and indexes, OCI's and Docker's.
//!
//! Source: OCI image specification 1.1 (manifest, index, descriptor, artifact guidance), Docker image manifest v2 schema 2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::reference::Digest;
use crate::dsse::fold;

/// Longest digest of another algorithm that is shown, in bytes.
const MAX_DIGEST: usize = 256;
/// Longest manifest or index, in bytes: what registries must take (distribution specification, "Pushing manifests").
pub const MAX_MANIFEST: usize = 4 * 1024 * 1024;
/// Most layers, or most entries of an index.
pub const MAX_ENTRIES: usize = 10_000;

/// An OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// A Docker image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The config of an OCI image.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The config of an artifact that has none: the two bytes `{}`.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The two bytes of the empty config.
pub const EMPTY: &[u8] = b"{}";

/// All forms of manifests that are asked for.
pub const ALL: [&str; 4] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST];

/// What points at bytes: media type, digest and size, perhaps more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of what it points at.
    pub media_type: String,
    /// Digest of it.
    pub digest: Digest,
    /// Length of it, in bytes.
    pub size: u64,
    /// What kind of artifact a manifest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// For which machine an image is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    /// A descriptor of these bytes.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.into(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            artifact_type: None,
            platform: None,
            annotations: None,
        }
    }

    /// The annotation with this name.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }
}

/// For which machine an image is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH.
    pub architecture: String,
    /// GOOS.
    pub os: String,
    /// Version of the system.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the system.
    #[serde(rename = "os.features", default, skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
    /// Variant of the machine (`v7`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl Platform {
    /// An entry in which `BuildKit` keeps attestations about its sibling: nothing runs it.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }

    /// Whether somebody who writes `os/architecture` or `os/architecture/variant` means it.
    pub fn is_called(&self, wanted: &str) -> bool {
        self.to_string() == wanted || format!("{}/{}", self.os, self.architecture) == wanted
    }
}

/// An image, or a list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One image or artifact: a config and layers.
    Image,
    /// A list of manifests.
    Index,
}

impl Kind {
    /// What a media type means; none for those that are no manifests.
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            OCI_MANIFEST | DOCKER_MANIFEST => Some(Self::Image),
            OCI_INDEX | DOCKER_LIST => Some(Self::Index),
            _ => None,
        }
    }
}

/// A manifest or an index. What a writer added beside these members is not kept: bytes are never written anew from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// Media type of the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Config of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Descriptor>,
    /// Layers of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<Descriptor>>,
    /// Entries of an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<Descriptor>>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Too long.
    #[error("a manifest of {size} bytes; {MAX_MANIFEST} are read")]
    Large {
        /// Its size.
        size: usize,
    },
    /// Not JSON, or without what a manifest has.
    #[error("no manifest: {reason}")]
    Json {
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A form that is not known.
    #[error("a manifest of the type `{media_type}` is not known")]
    Type {
        /// Its media type.
        media_type: String,
    },
    /// The media type inside is another than outside, or the members are those of another form.
    #[error("it says that it is `{outside}`, and is {inside}")]
    Contradiction {
        /// As it was named.
        outside: String,
        /// As it is.
        inside: String,
    },
    /// A member that readers in Go take for another one.
    #[error("its member `{}` is read as `{meant}` by others", .name.escape_debug())]
    Case {
        /// As it stands there.
        name: String,
        /// For which it is taken.
        meant: &'static str,
    },
    /// Too many layers or entries.
    #[error("{count} layers or entries; {MAX_ENTRIES} are read")]
    Entries {
        /// How many.
        count: usize,
    },
}

/// Members of a manifest or index, of a descriptor, and of a platform (OCI image specification 1.1).
const OF_MANIFEST: [&str; 8] =
    ["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"];
const OF_DESCRIPTOR: [&str; 8] =
    ["mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"];
const OF_PLATFORM: [&str; 6] = ["architecture", "os", "os.version", "os.features", "variant", "features"];

/// Refuses members that differ from known ones in letter case alone: Go, and with it every container runtime, takes them
/// for those, and would run another image than the one that was judged (security rule 17).
fn refuse_aliases(manifest: &Value) -> Result<(), ManifestError> {
    let check = |object: &Value, known: &[&'static str]| {
        for name in object.as_object().into_iter().flat_map(serde_json::Map::keys) {
            let folded = fold(name);
            if let Some(meant) = known.iter().find(|known| **known != name && fold(known) == folded) {
                return Err(ManifestError::Case { name: name.clone(), meant });
            }
        }
        Ok(())
    };
    check(manifest, &OF_MANIFEST)?;
    let list = |name: &str| manifest.get(name).and_then(Value::as_array).into_iter().flatten();
    let single = ["config", "subject"].into_iter().filter_map(|name| manifest.get(name));
    for descriptor in single.chain(list("layers")).chain(list("manifests")) {
        check(descriptor, &OF_DESCRIPTOR)?;
        descriptor.get("platform").map_or(Ok(()), |platform| check(platform, &OF_PLATFORM))?;
    }
    Ok(())
}

/// Whether a text is a digest of another algorithm than SHA-256 (OCI image specification, "Digests").
fn is_other_digest(text: &str) -> bool {
    let is_algorithm = |name: &str| {
        let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+._-".contains(&byte);
        !name.is_empty() && name != "sha256" && name.bytes().all(is_part)
    };
    let is_encoded = |byte: u8| byte.is_ascii_alphanumeric() || b"=_-".contains(&byte);
    text.len() <= MAX_DIGEST
        && text.split_once(':').is_some_and(|(algorithm, encoded)| {
            is_algorithm(algorithm) && !encoded.is_empty() && encoded.bytes().all(is_encoded)
        })
}

impl Manifest {
    /// Reads a manifest that was named with this media type. A manifest that says in itself that it is of another type
    /// is refused: the same bytes would be an image for one reader and an index for another.
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(ManifestError::Large { size: bytes.len() });
        }
        let json = |error: serde_json::Error| ManifestError::Json { reason: error.to_string() };
        let manifest: Self = serde_json::from_slice(bytes).map_err(json)?;
        refuse_aliases(&serde_json::from_slice(bytes).map_err(json)?)?;
        let kind = Kind::of(media_type).ok_or_else(|| ManifestError::Type { media_type: media_type.to_owned() })?;
        let contradiction =
            |inside: &str| ManifestError::Contradiction { outside: media_type.to_owned(), inside: inside.to_owned() };
        if let Some(inside) = manifest.media_type.as_deref().filter(|inside| *inside != media_type) {
            return Err(contradiction(&format!("`{inside}`")));
        }
        match kind {
            Kind::Image if manifest.manifests.is_some() => return Err(contradiction("a list of manifests")),
            Kind::Image if manifest.config.is_none() => return Err(contradiction("without a config")),
            Kind::Index if manifest.layers.is_some() || manifest.config.is_some() => {
                return Err(contradiction("an image"));
            }
            Kind::Image | Kind::Index => {}
        }
        let count = manifest.layers().len().max(manifest.entries().len());
        if count > MAX_ENTRIES {
            return Err(ManifestError::Entries { count });
        }
        Ok(manifest)
    }

    /// Reads a list of referrers. Entries whose digest is of an algorithm that is not read are left out, each with a
    /// reason: whoever lists something cannot keep others from being found.
    pub fn parse_list(media_type: &str, bytes: &[u8]) -> Result<(Self, Vec<String>), ManifestError> {
        let read = |bytes: &[u8]| {
            Self::parse(media_type, bytes).and_then(|list| match list.kind() {
                Kind::Index => Ok(list),
                Kind::Image => Err(ManifestError::Contradiction {
                    outside: "a list of referrers".to_owned(),
                    inside: "an image".to_owned(),
                }),
            })
        };
        let failed = match read(bytes) {
            Ok(list) => return Ok((list, Vec::new())),
            Err(error @ ManifestError::Large { .. }) => return Err(error),
            Err(error) => error,
        };
        let mut passed_over = Vec::new();
        let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return Err(failed) };
        if let Some(entries) = value.get_mut("manifests").and_then(Value::as_array_mut) {
            entries.retain(|entry| {
                let other = entry.get("digest").and_then(Value::as_str).filter(|digest| is_other_digest(digest));
                passed_over.extend(other.map(|digest| format!("its entry {digest} has a digest that is not read")));
                other.is_none()
            });
        }
        if passed_over.is_empty() {
            return Err(failed);
        }
        read(value.to_string().as_bytes()).map(|list| (list, passed_over))
    }

    /// An image or a list.
    pub fn kind(&self) -> Kind {
        if self.manifests.is_some() || (self.config.is_none() && self.layers.is_none()) {
            Kind::Index
        } else {
            Kind::Image
        }
    }

    /// The layers of an image.
    pub fn layers(&self) -> &[Descriptor] {
        self.layers.as_deref().unwrap_or_default()
    }

    /// The entries of an index.
    pub fn entries(&self) -> &[Descriptor] {
        self.manifests.as_deref().unwrap_or_default()
    }

    /// What kind of artifact it is: as it says, else by its config (OCI image specification, "Guidelines for artifact
    /// usage").
    pub fn artifact_type(&self) -> Option<&str> {
        self.artifact_type.as_deref().filter(|kind| !kind.is_empty()).or_else(|| {
            let config = self.config.as_ref()?;
            (config.media_type != OCI_EMPTY).then_some(config.media_type.as_str())
        })
    }

    /// The bytes of a manifest that we compose.
    ///
    /// # Panics
    ///
    /// Never: texts, numbers and maps with texts as keys are JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts, numbers and maps with texts as keys are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(more: &str) -> String {
        let digest = Digest::of(b"{}");
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{OCI_EMPTY}","digest":"{digest}","size":2}},"layers":[]{more}}}"#
        )
    }

    #[test]
    fn one_form_is_not_taken_for_another() {
        assert_eq!(Manifest::parse(OCI_MANIFEST, image("").as_bytes()).expect("an image").kind(), Kind::Image);
        for (media_type, text) in [
            (OCI_INDEX, image("")),
            (OCI_MANIFEST, image(r#","manifests":[]"#)),
            (OCI_MANIFEST, image(&format!(r#","mediaType":"{OCI_INDEX}""#))),
            (DOCKER_MANIFEST, image(&format!(r#","mediaType":"{OCI_MANIFEST}""#))),
            (OCI_MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#.to_owned()),
            (OCI_INDEX, r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.to_owned()),
        ] {
            let refused = Manifest::parse(media_type, text.as_bytes());
            assert!(matches!(refused, Err(ManifestError::Contradiction { .. })), "{text}: {refused:?}");
        }
    }

    #[test]
    fn hostile_manifests_are_refused() {
        for text in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"schemaVersion":2,"schemaVersion":2,"manifests":[]}"#,
            r#"{"schemaVersion":-1}"#,
            r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:zz","size":1}]}"#,
            r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"md5:00","size":1}]}"#,
        ] {
            assert!(matches!(Manifest::parse(OCI_INDEX, text.as_bytes()), Err(ManifestError::Json { .. })), "{text}");
        }
        let entry = format!(r#"{{"mediaType":"x","digest":"{}","size":1}}"#, Digest::of(b""));
        let many = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, vec![entry; MAX_ENTRIES + 1].join(","));
        assert!(matches!(Manifest::parse(OCI_INDEX, many.as_bytes()), Err(ManifestError::Entries { .. })));
        assert!(matches!(Manifest::parse("text/plain", image("").as_bytes()), Err(ManifestError::Type { .. })));
        let large = vec![b' '; MAX_MANIFEST + 1];
        assert!(matches!(Manifest::parse(OCI_INDEX, &large), Err(ManifestError::Large { .. })));
    }

    #[test]
    fn artifact_types_are_told_by_the_config_too() {
        let of = |more: &str| Manifest::parse(OCI_MANIFEST, image(more).as_bytes()).expect("an image");
        assert_eq!(of("").artifact_type(), None);
        assert_eq!(of(r#","artifactType":"a/b""#).artifact_type(), Some("a/b"));
        let config = image("").replace(OCI_EMPTY, "c/d");
        assert_eq!(Manifest::parse(OCI_MANIFEST, config.as_bytes()).expect("an image").artifact_type(), Some("c/d"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            artifact_type: Some("a/b".to_owned()),
            config: Some(Descriptor::of(OCI_EMPTY, EMPTY)),
            layers: Some(vec![Descriptor::of("text/plain", b"x")]),
            manifests: None,
            subject: Some(Descriptor::of(OCI_INDEX, b"y")),
            annotations: Some(BTreeMap::from([("k".to_owned(), "v".to_owned())])),
        };
        let bytes = manifest.to_json();
        assert_eq!(Manifest::parse(OCI_MANIFEST, &bytes).expect("an image"), manifest);
        assert!(bytes.starts_with(br#"{"schemaVersion":2,"mediaType":"#));
    }
}
