//! SBOM documents: what they are, what they describe, and the form in which they are kept.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead as _, BufReader, Read};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::oci::is_hex64;

/// Objects and arrays within one another: readers (Go's at 10,000, ours at 128) refuse more, and with the document all
/// evidence around it.
const DEPTH_LIMIT: usize = 100;

/// What some editors put before UTF-8; no part of JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Versions of `CycloneDX` that are known.
const CYCLONEDX: &[&str] = &["1.2", "1.3", "1.4", "1.5", "1.6", "1.7"];
/// Versions of SPDX with one JSON object as their document.
const SPDX: &[&str] = &["SPDX-2.2", "SPDX-2.3"];

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    CycloneDx,
    Spdx,
    Spdx3,
}

/// What is described.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
}

/// A document that may be kept.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) format: Format,
    /// Its text, the marker member first.
    pub(super) text: Box<RawValue>,
    pub(super) about: Described,
    /// Digests of the image that it describes, hex.
    pub(super) images: BTreeSet<String>,
}

/// Whether a JSON text has the marker of an SBOM among the members at its top. Reads up to the marker.
pub(super) fn probe(reader: impl Read) -> bool {
    struct Probe<'a>(&'a mut bool);

    impl<'de> Visitor<'de> for Probe<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<String>()? {
                match key.as_str() {
                    "bomFormat" | "spdxVersion" => *self.0 = true,
                    "@context" => *self.0 = mentions_spdx3(&map.next_value::<Value>()?),
                    _ => {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                }
                if *self.0 {
                    return Err(serde::de::Error::custom("found"));
                }
            }
            Ok(())
        }
    }

    let mut found = false;
    let mut reader = BufReader::new(reader);
    if reader.fill_buf().is_ok_and(|start| start.starts_with(BYTE_ORDER_MARK)) {
        reader.consume(BYTE_ORDER_MARK.len());
    }
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    // A text that breaks before the marker is no SBOM for us: its name may still say so.
    let _ = deserializer.deserialize_map(Probe(&mut found));
    found
}

fn mentions_spdx3(context: &Value) -> bool {
    match context {
        Value::String(text) => text.starts_with("https://spdx.org/rdf/3"),
        Value::Array(list) => list.iter().any(mentions_spdx3),
        _ => false,
    }
}

/// The members of an object, in their order, with the text of each value.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(InOrder).map(Self)
    }
}

impl<'a> Members<'a> {
    fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// A member as `T`; an absent one as its default.
    fn read<T: Deserialize<'a> + Default>(&self, key: &str) -> Result<T, String> {
        let Some(raw) = self.get(key) else { return Ok(T::default()) };
        serde_json::from_str(raw.get()).map_err(|error| format!("`{key}` is not as its format says: {error}"))
    }
}

/// Reads a document.
pub(super) fn read(bytes: &[u8]) -> Result<Document, String> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| format!("is not UTF-8: {error}"))?;
    let depth = depth(text);
    if depth > DEPTH_LIMIT {
        return Err(format!("its JSON is {depth} levels deep, more than {DEPTH_LIMIT}"));
    }
    let members: Members<'_> = serde_json::from_str(text).map_err(|error| format!("is not valid JSON: {error}"))?;
    let mut names = BTreeSet::new();
    if let Some((twice, _)) = members.0.iter().find(|(name, _)| !names.insert(name.as_str())) {
        return Err(format!("has the member `{twice}` twice, so that two readers may read two documents"));
    }
    match (members.get("bomFormat"), members.get("spdxVersion"), members.get("@context")) {
        (Some(_), Some(_), _) => Err("says that it is CycloneDX and SPDX".into()),
        (Some(_), None, _) => cyclonedx(&members),
        (None, Some(_), _) => spdx(&members),
        (None, None, Some(context))
            if serde_json::from_str(context.get()).is_ok_and(|value| mentions_spdx3(&value)) =>
        {
            spdx3(&members, text)
        }
        _ => Err("has no `bomFormat` and no `spdxVersion` at its top".into()),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CdxMetadata<'a> {
    #[serde(borrow)]
    component: Option<CdxComponent<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CdxComponent<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    purl: Option<Cow<'a, str>>,
}

fn cyclonedx(members: &Members<'_>) -> Result<Document, String> {
    let format: String = members.read("bomFormat")?;
    if format != "CycloneDX" {
        return Err(format!("`bomFormat` is `{format}`, not `CycloneDX`"));
    }
    let version: Option<String> = members.read("specVersion")?;
    known("specVersion", version, CYCLONEDX)?;
    let metadata: CdxMetadata<'_> = members.read("metadata")?;
    let _: Option<Vec<IgnoredAny>> = members.read("components")?;
    let component = metadata.component.unwrap_or_default();
    let mut images = BTreeSet::new();
    images.extend(component.purl.as_deref().and_then(image_in_purl));
    if component.kind.as_deref() == Some("container") {
        images.extend(component.version.as_deref().and_then(digest));
    }
    Ok(Document {
        format: Format::CycloneDx,
        text: marker_first(members, "bomFormat")?,
        about: Described { name: component.name.map(Cow::into_owned), version: component.version.map(Cow::into_owned) },
        images,
    })
}

#[derive(Deserialize)]
struct SpdxPackage<'a> {
    #[serde(borrow, rename = "SPDXID")]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "versionInfo")]
    version: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "primaryPackagePurpose")]
    purpose: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "externalRefs")]
    references: Option<Vec<SpdxReference<'a>>>,
}

#[derive(Deserialize)]
struct SpdxReference<'a> {
    #[serde(borrow, rename = "referenceLocator")]
    locator: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct SpdxRelationship<'a> {
    #[serde(borrow, rename = "spdxElementId")]
    from: Cow<'a, str>,
    #[serde(borrow, rename = "relationshipType")]
    kind: Cow<'a, str>,
    #[serde(borrow, rename = "relatedSpdxElement")]
    to: Cow<'a, str>,
}

fn spdx(members: &Members<'_>) -> Result<Document, String> {
    let version: Option<String> = members.read("spdxVersion")?;
    known("spdxVersion", version, SPDX)?;
    let name: Option<String> = members.read("name")?;
    let described: Option<Vec<Cow<'_, str>>> = members.read("documentDescribes")?;
    let relationships: Option<Vec<SpdxRelationship<'_>>> = members.read("relationships")?;
    let packages: Option<Vec<SpdxPackage<'_>>> = members.read("packages")?;
    let mut ids: BTreeSet<&str> = described.iter().flatten().map(Cow::as_ref).collect();
    for relationship in relationships.iter().flatten() {
        match &*relationship.kind {
            "DESCRIBES" if relationship.from == "SPDXRef-DOCUMENT" => ids.insert(&relationship.to),
            "DESCRIBED_BY" if relationship.to == "SPDXRef-DOCUMENT" => ids.insert(&relationship.from),
            _ => false,
        };
    }
    let mut images = BTreeSet::new();
    for package in packages.iter().flatten().filter(|package| ids.contains(&*package.id)) {
        for reference in package.references.iter().flatten() {
            images.extend(reference.locator.as_deref().and_then(image_in_purl));
        }
        if package.purpose.as_deref() == Some("CONTAINER") {
            images.extend(package.version.as_deref().and_then(digest));
        }
    }
    Ok(Document {
        format: Format::Spdx,
        text: marker_first(members, "spdxVersion")?,
        about: Described { name, version: None },
        images,
    })
}

/// An element of an SPDX 3 graph, as far as it is used.
#[derive(Deserialize)]
struct Spdx3Element<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "spdxId")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "rootElement")]
    roots: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, rename = "software_packageUrl")]
    purl: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "specVersion")]
    spec_version: Option<Cow<'a, str>>,
}

fn spdx3(members: &Members<'_>, text: &str) -> Result<Document, String> {
    let graph: Option<Vec<Spdx3Element<'_>>> = members.read("@graph")?;
    let graph = graph.ok_or("is SPDX 3 without an `@graph`")?;
    if !graph.iter().any(|one| one.spec_version.as_deref().is_some_and(|version| version.starts_with("3."))) {
        return Err("is SPDX 3 by its context, but no element of its graph says `specVersion` 3".into());
    }
    let kind = |one: &&Spdx3Element<'_>, kind: &str| one.kind.as_deref() == Some(kind);
    let document = graph.iter().find(|one| kind(one, "SpdxDocument"));
    let boms: Vec<&Spdx3Element<'_>> = graph.iter().filter(|one| kind(one, "software_Sbom")).collect();
    let roots: BTreeSet<&str> =
        document.into_iter().chain(boms).flat_map(|one| one.roots.iter().flatten()).map(Cow::as_ref).collect();
    let images = graph
        .iter()
        .filter(|one| one.id.as_deref().is_some_and(|id| roots.contains(id)))
        .filter_map(|one| image_in_purl(one.purl.as_deref()?))
        .collect();
    Ok(Document {
        format: Format::Spdx3,
        text: RawValue::from_string(text.trim().to_owned()).map_err(|error| error.to_string())?,
        about: Described { name: document.and_then(|one| one.name.as_deref()).map(str::to_owned), version: None },
        images,
    })
}

fn known(member: &str, version: Option<String>, versions: &[&str]) -> Result<(), String> {
    match version {
        Some(version) if versions.contains(&version.as_str()) => Ok(()),
        Some(version) => Err(format!("`{member}` is `{version}`; known are {}", versions.join(", "))),
        None => Err(format!("has no `{member}`")),
    }
}

/// The document with one member first and without a space after its colon; all else as it was written.
fn marker_first(members: &Members<'_>, marker: &str) -> Result<Box<RawValue>, String> {
    let first = members.0.iter().filter(|(name, _)| name == marker);
    let others = members.0.iter().filter(|(name, _)| name != marker);
    let mut text =
        String::with_capacity(members.0.iter().map(|(name, value)| name.len() + value.get().len() + 8).sum());
    for (name, value) in first.chain(others) {
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(&Value::from(name.as_str()).to_string());
        text.push(':');
        text.push_str(value.get());
    }
    text.push('}');
    RawValue::from_string(text).map_err(|error| error.to_string())
}

/// How deep objects and arrays lie within one another.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The digest of an image in its package URL: `pkg:oci/name@sha256:<hex>?…`, the colon plain or encoded.
fn image_in_purl(purl: &str) -> Option<String> {
    let rest = purl.strip_prefix("pkg:oci/").or_else(|| purl.strip_prefix("pkg:docker/"))?;
    let path = rest.split(['?', '#']).next()?;
    let (_, version) = path.rsplit_once('@')?;
    digest(&version.replace("%3A", ":").replace("%3a", ":"))
}

/// The hex digits of `sha256:<hex>`.
fn digest(text: &str) -> Option<String> {
    text.strip_prefix("sha256:").filter(|hex| is_hex64(hex)).map(str::to_owned)
}

/// What an SBOM says of itself, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SbomSummary {
    /// `CycloneDX` or `SPDX`.
    pub format: String,
    /// Version of the format: `1.6`, `2.3`.
    pub spec_version: String,
    /// The tools that made it, as `name version`.
    pub tool: Option<String>,
    /// Name of what it describes.
    pub name: Option<String>,
    /// Version of what it describes.
    pub version: Option<String>,
    /// Components or packages that it lists.
    pub components: usize,
}

/// What an SBOM says of itself; empty fields where it says nothing or is no SBOM.
pub fn describe(document: &Value) -> SbomSummary {
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let count = |member: &str| document.get(member).and_then(Value::as_array).map_or(0, Vec::len);
    if document.get("bomFormat").is_some() {
        return SbomSummary {
            format: text("/bomFormat").unwrap_or_default(),
            spec_version: text("/specVersion").unwrap_or_default(),
            tool: cyclonedx_tools(document),
            name: text("/metadata/component/name"),
            version: text("/metadata/component/version"),
            components: count("components"),
        };
    }
    if let Some(version) = text("/spdxVersion") {
        let creators = document.pointer("/creationInfo/creators").and_then(Value::as_array);
        let tools =
            creators.into_iter().flatten().filter_map(Value::as_str).filter_map(|one| one.strip_prefix("Tool: "));
        return SbomSummary {
            format: "SPDX".into(),
            spec_version: version.trim_start_matches("SPDX-").to_owned(),
            tool: joined(tools.map(str::to_owned)),
            name: text("/name"),
            version: None,
            components: count("packages"),
        };
    }
    let Some(graph) = document.get("@graph").and_then(Value::as_array) else { return SbomSummary::default() };
    let member = |one: &Value, name: &str| one.get(name).and_then(Value::as_str).map(str::to_owned);
    let of_kind =
        |kind: &'static str| graph.iter().filter(move |one| one.get("type").and_then(Value::as_str) == Some(kind));
    SbomSummary {
        format: "SPDX".into(),
        spec_version: graph.iter().find_map(|one| member(one, "specVersion")).unwrap_or_default(),
        tool: joined(of_kind("Tool").filter_map(|one| member(one, "name"))),
        name: of_kind("SpdxDocument").find_map(|one| member(one, "name")),
        version: None,
        components: of_kind("software_Package").count(),
    }
}

/// The tools of a `CycloneDX` document: a list up to 1.4, since 1.5 also an object with components.
fn cyclonedx_tools(document: &Value) -> Option<String> {
    let tools = document.pointer("/metadata/tools")?;
    let list = tools.as_array().or_else(|| tools.get("components")?.as_array())?;
    joined(list.iter().filter_map(|tool| {
        let name = tool.get("name")?.as_str()?;
        let version = tool.get("version").and_then(Value::as_str).filter(|version| !version.starts_with('['));
        Some(version.map_or_else(|| name.to_owned(), |version| format!("{name} {version}")))
    }))
}

fn joined(list: impl Iterator<Item = String>) -> Option<String> {
    let mut once: BTreeMap<String, usize> = BTreeMap::new();
    for (at, one) in list.enumerate() {
        once.entry(one).or_insert(at);
    }
    let mut in_order: Vec<(usize, String)> = once.into_iter().map(|(one, at)| (at, one)).collect();
    in_order.sort();
    let text = in_order.into_iter().map(|(_, one)| one).collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then_some(text)
}
