//! The file that `docker buildx build|bake --metadata-file` writes, of any size.
//!
//! Read as a stream: what is not asked for is passed over without being kept. Single builds have the members at the
//! top, bake has one object for each target. Provenance comes as SLSA v0.2 (`materials`) or v1
//! (`buildDefinition.resolvedDependencies`), under `buildx.build.provenance`, under
//! `buildx.build.provenance/<os>/<arch>[/<variant>]`, or as one object with a member for each platform.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Targets of a bake file that are kept.
const TARGET_LIMIT: usize = 4096;
/// Materials of one image that are kept.
const MATERIAL_LIMIT: usize = 65_536;
/// Objects within objects in which provenance is looked for.
const PROVENANCE_DEPTH: usize = 4;

const PROVENANCE: &str = "buildx.build.provenance";

/// One image of a metadata file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `containerimage.digest`.
    pub digest: Option<String>,
    /// `containerimage.config.digest`.
    pub config_digest: Option<String>,
    /// `containerimage.descriptor`.
    pub descriptor: Option<Descriptor>,
    /// `image.name`: one name or several, separated by commas.
    pub name: Option<String>,
    /// `buildx.build.ref`.
    pub build_ref: Option<String>,
    /// Provenance by platform; `""` where the key names none.
    pub provenance: BTreeMap<String, Provenance>,
}

impl Image {
    /// Whether it has any member of a build's metadata.
    pub fn is_metadata(&self) -> bool {
        *self != Self::default()
    }
}

/// A descriptor (OCI image-spec `descriptor.md`), as far as it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Media type of the manifest or index.
    pub media_type: Option<String>,
    /// Digest of it.
    pub digest: Option<String>,
    /// Its length in bytes.
    pub size: Option<u64>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
}

/// What provenance says of where things came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// `v0.2` or `v1`, by its members.
    pub slsa: Option<&'static str>,
    /// What the build took in.
    pub materials: Vec<Material>,
    /// Whether there were more than [`MATERIAL_LIMIT`].
    pub cut: bool,
}

/// Something that the build took in.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// Where it came from.
    pub uri: String,
    /// Digests by algorithm.
    pub digest: BTreeMap<String, String>,
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Metadata {
    /// The single build.
    pub single: Image,
    /// The targets of a bake file, in the order of the file.
    pub targets: Vec<(String, Image)>,
    /// Members that are there twice: two readers would read two different things.
    pub twice: Vec<String>,
    /// Whether there were more than [`TARGET_LIMIT`] targets.
    pub cut: bool,
}

impl Metadata {
    /// Whether the file is a build's metadata.
    pub fn is_metadata(&self) -> bool {
        self.single.is_metadata() || !self.targets.is_empty()
    }

    /// Reads a file. On an error, what was read so far stays in `self`.
    pub fn read(&mut self, reader: impl std::io::Read) -> Result<(), serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_reader(reader);
        let result = Object(Top { metadata: self }).deserialize(&mut deserializer);
        result.and_then(|()| deserializer.end())
    }
}

/// What is done with the members of an object.
trait Members {
    /// Takes the value of the member `key`.
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// An object whose members go to `M`; anything else is passed over.
struct Object<M>(M);

impl<'de, M: Members> DeserializeSeed<'de> for Object<M> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// The visits of values that are not asked for.
macro_rules! pass_over {
    ($value:expr; $($visit:ident($kind:ty)),*) => {
        $(fn $visit<E>(self, _: $kind) -> Result<Self::Value, E> { Ok($value) })*
        fn visit_unit<E>(self) -> Result<Self::Value, E> { Ok($value) }
    };
}

impl<'de, M: Members> Visitor<'de> for Object<M> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            self.0.member(&key, &mut map)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    pass_over!((); visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));
}

/// A list whose elements go to `F`; anything else is passed over.
struct List<F>(F);

impl<'de, F: FnMut(Material)> DeserializeSeed<'de> for List<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(Material)> Visitor<'de> for List<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        loop {
            let mut material = Material::default();
            if seq.next_element_seed(Object(Whence(&mut material)))?.is_none() {
                return Ok(());
            }
            self.0(material);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    pass_over!((); visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));
}

/// A scalar of type `T`; anything else is passed over and gives `None`.
struct Scalar<T>(PhantomData<T>);

macro_rules! scalar {
    ($($kind:ty { $($visit:ident($from:ty) => $into:expr),* })*) => {$(
        impl<'de> DeserializeSeed<'de> for Scalar<$kind> {
            type Value = Option<$kind>;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                deserializer.deserialize_any(self)
            }
        }

        impl<'de> Visitor<'de> for Scalar<$kind> {
            type Value = Option<$kind>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(None)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(None)
            }

            $(fn $visit<E>(self, value: $from) -> Result<Self::Value, E> { Ok($into(value)) })*
            pass_over!(None; visit_bool(bool), visit_i64(i64), visit_f64(f64));
        }
    )*};
}

scalar! {
    String { visit_str(&str) => |value: &str| Some(value.to_owned()), visit_u64(u64) => |_| None }
    u64 { visit_u64(u64) => Some, visit_str(&str) => |_| None }
}

fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<String>, A::Error> {
    map.next_value_seed(Scalar::<String>(PhantomData))
}

fn ignore<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

/// The top of the file.
struct Top<'a> {
    metadata: &'a mut Metadata,
}

impl Members for Top<'_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let Metadata { single, targets, twice, cut } = &mut *self.metadata;
        if is_known(key) {
            return Build { image: single, twice }.member(key, map);
        }
        if targets.len() >= TARGET_LIMIT {
            *cut = true;
            return ignore(map);
        }
        // Perhaps a target of a bake file. It is put in place first: a broken file keeps what was read.
        targets.push((key.to_owned(), Image::default()));
        let mut of_target = Vec::new();
        let result = match targets.last_mut() {
            Some((_, image)) => map.next_value_seed(Object(Build { image, twice: &mut of_target })),
            None => ignore(map),
        };
        twice.extend(of_target.into_iter().map(|member| format!("{key}.{member}")));
        if !targets.last().is_some_and(|(_, image)| image.is_metadata()) {
            targets.pop();
        } else if targets.iter().filter(|(name, _)| name == key).count() > 1 {
            twice.push(key.to_owned());
        }
        result
    }
}

fn is_known(key: &str) -> bool {
    matches!(
        key,
        "containerimage.digest"
            | "containerimage.config.digest"
            | "containerimage.descriptor"
            | "image.name"
            | "buildx.build.ref"
    ) || key.contains(PROVENANCE)
}

/// The members of one build.
struct Build<'a> {
    image: &'a mut Image,
    twice: &'a mut Vec<String>,
}

impl Members for Build<'_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let image = &mut *self.image;
        let field = match key {
            "containerimage.digest" => &mut image.digest,
            "containerimage.config.digest" => &mut image.config_digest,
            "image.name" => &mut image.name,
            "buildx.build.ref" => &mut image.build_ref,
            "containerimage.descriptor" => {
                if image.descriptor.is_some() {
                    self.twice.push(key.to_owned());
                }
                let mut descriptor = Descriptor::default();
                map.next_value_seed(Object(Describe(&mut descriptor)))?;
                image.descriptor = Some(descriptor);
                return Ok(());
            }
            _ if key.contains(PROVENANCE) => {
                let platform = key.split_once(PROVENANCE).map_or("", |(_, rest)| rest.trim_start_matches('/'));
                if image.provenance.contains_key(platform) {
                    self.twice.push(key.to_owned());
                }
                let found = Provenances { platform: platform.to_owned(), into: &mut image.provenance, depth: 0 };
                return map.next_value_seed(Object(found));
            }
            _ => return ignore(map),
        };
        if field.is_some() {
            self.twice.push(key.to_owned());
        }
        *field = text(map)?;
        Ok(())
    }
}

struct Describe<'a>(&'a mut Descriptor);

impl Members for Describe<'_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "mediaType" => self.0.media_type = text(map)?,
            "digest" => self.0.digest = text(map)?,
            "size" => self.0.size = map.next_value_seed(Scalar::<u64>(PhantomData))?,
            "platform" => {
                let mut parts = [None, None, None];
                map.next_value_seed(Object(Platform(&mut parts)))?;
                let [os, architecture, variant] = parts;
                if let (Some(os), Some(architecture)) = (os, architecture) {
                    let variant = variant.filter(|variant| !variant.is_empty());
                    self.0.platform = Some(match variant {
                        Some(variant) => format!("{os}/{architecture}/{variant}"),
                        None => format!("{os}/{architecture}"),
                    });
                }
            }
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct Platform<'a>(&'a mut [Option<String>; 3]);

impl Members for Platform<'_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "os" => self.0[0] = text(map)?,
            "architecture" => self.0[1] = text(map)?,
            "variant" => self.0[2] = text(map)?,
            _ => ignore(map)?,
        }
        Ok(())
    }
}

/// Provenance, or an object that holds it by platform or wrapped in one more member.
struct Provenances<'a> {
    platform: String,
    into: &'a mut BTreeMap<String, Provenance>,
    depth: usize,
}

impl Provenances<'_> {
    fn found(&mut self, slsa: &'static str) -> &mut Provenance {
        let one = self.into.entry(self.platform.clone()).or_default();
        one.slsa = Some(slsa);
        one
    }
}

impl Members for Provenances<'_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "materials" => {
                let one = self.found("v0.2");
                map.next_value_seed(List(|material| one.take(material)))
            }
            "buildDefinition" => {
                let one = self.found("v1");
                map.next_value_seed(Object(Definition(one)))
            }
            // Members of SLSA provenance beside the two above: only these tell it from a map of platforms.
            "buildType" => {
                let one = self.found("v0.2");
                one.slsa = Some("v0.2");
                ignore(map)
            }
            "runDetails" => {
                self.found("v1");
                ignore(map)
            }
            "builder" | "invocation" | "metadata" | "buildConfig" => ignore(map),
            _ if self.depth < PROVENANCE_DEPTH => {
                let platform = if is_platform(key) { key.to_owned() } else { self.platform.clone() };
                map.next_value_seed(Object(Provenances { platform, into: &mut *self.into, depth: self.depth + 1 }))
            }
            _ => ignore(map),
        }
    }
}

impl Provenance {
    fn take(&mut self, material: Material) {
        if material.uri.is_empty() && material.digest.is_empty() {
            return;
        }
        if self.materials.len() < MATERIAL_LIMIT {
            self.materials.push(material);
        } else {
            self.cut = true;
        }
    }
}

/// A URL without the name and password before its host: they may be a secret, and are no part of what was fetched.
fn without_userinfo(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}{path}"),
        None => uri.to_owned(),
    }
}

/// `linux/amd64`, `linux/arm/v7`.
fn is_platform(key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    (2..=3).contains(&parts.len())
        && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

struct Definition<'a>(&'a mut Provenance);

impl Members for Definition<'_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key == "resolvedDependencies" {
            return map.next_value_seed(List(|material| self.0.take(material)));
        }
        ignore(map)
    }
}

struct Whence<'a>(&'a mut Material);

impl Members for Whence<'_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "uri" => self.0.uri = without_userinfo(&text(map)?.unwrap_or_default()),
            "digest" => map.next_value_seed(Object(Digests(&mut self.0.digest)))?,
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct Digests<'a>(&'a mut BTreeMap<String, String>);

impl Members for Digests<'_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if let Some(value) = text(map)? {
            self.0.insert(key.to_owned(), value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Metadata, Option<String>) {
        let mut metadata = Metadata::default();
        let error = metadata.read(text.as_bytes()).err().map(|error| error.to_string());
        (metadata, error)
    }

    #[test]
    fn any_json_is_passed_over() {
        for text in ["{}", "[1,[2]]", "3", "\"x\"", "null", r#"{"a":{"b":[{"c":1.5}]},"d":true,"e":-1,"f":null}"#] {
            let (metadata, error) = read(text);
            assert_eq!((metadata.is_metadata(), error), (false, None), "{text}");
        }
    }

    #[test]
    fn provenance_in_all_shapes() {
        let materials = r#"[{"uri":"pkg:docker/a@1","digest":{"sha256":"11"}},{"uri":"b"},3]"#;
        let table = [
            (format!(r#"{{"buildx.build.provenance":{{"buildType":"t","materials":{materials}}}}}"#), "", "v0.2"),
            (
                format!(r#"{{"buildx.build.provenance/linux/arm/v7":{{"materials":{materials},"buildType":"t"}}}}"#),
                "linux/arm/v7",
                "v0.2",
            ),
            (
                format!(
                    r#"{{"buildx.build.provenance":{{"linux/amd64":{{"buildDefinition":{{"resolvedDependencies":{materials}}}}}}}}}"#
                ),
                "linux/amd64",
                "v1",
            ),
            (
                format!(
                    r#"{{"buildx.build.provenance":{{"SLSA":{{"runDetails":{{}},"buildDefinition":{{"resolvedDependencies":{materials}}}}}}}}}"#
                ),
                "",
                "v1",
            ),
        ];
        for (text, platform, slsa) in table {
            let (metadata, error) = read(&text);
            assert_eq!(error, None, "{text}");
            let one = metadata.single.provenance.get(platform).unwrap_or_else(|| panic!("{platform} in {text}"));
            assert_eq!((one.slsa, one.materials.len(), metadata.single.provenance.len()), (Some(slsa), 2, 1), "{text}");
            assert_eq!(one.materials[0].digest.get("sha256").map(String::as_str), Some("11"));
        }
    }

    #[test]
    fn userinfo_is_left_out() {
        for (uri, want) in [
            ("https://user:token@git.example/a.git#main", "https://git.example/a.git#main"),
            ("https://git.example/a@b", "https://git.example/a@b"),
            ("pkg:docker/a@1?platform=linux%2Famd64", "pkg:docker/a@1?platform=linux%2Famd64"),
            ("git@host:a.git", "git@host:a.git"),
        ] {
            assert_eq!(without_userinfo(uri), want);
        }
    }

    #[test]
    fn bake_targets_and_broken_files() {
        let (metadata, error) = read(
            r#"{"buildx.build.warnings":[{}],"app":{"containerimage.digest":"sha256:1"},"x":{"y":1},"db":{"image.name":"n"#,
        );
        assert!(error.is_some());
        let names: Vec<&str> = metadata.targets.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["app"]);
        let (metadata, _) = read(r#"{"image.name":"a","image.name":"b","t":{"image.name":"a","image.name":"b"}}"#);
        assert_eq!(metadata.twice, ["image.name", "t.image.name"]);
        let (metadata, _) = read(r#"{"image.name":7,"containerimage.digest":["x"]}"#);
        assert!(!metadata.is_metadata());
    }
}
