//! `oci`: image archives and image layouts among the products.
//!
//! Reads what `docker save`, `docker buildx build -o type=docker|oci`, `podman save`, `skopeo` and `crane` write:
//! docker archives, OCI layouts as tar or folder, and the tars of today that are both. One pass, constant memory.
//!
//! The predicate keeps the members of witness's `oci/v0.1` (wire-formats §3.13); what it has no place for stands in
//! `affiant`. `diffids` follow the manifest, not the tar as witness's do: so an index into them is the index of the
//! layer, and a layer that is used twice is there twice. No reader depends on the order. For a pure OCI layout
//! `manifest` lists the images with the paths of their blobs, and `manifestraw`/`manifestdigest` are the first image's manifest.

mod contents;
mod evidence;
mod inflate;
mod layout;
mod listen;
mod model;
mod tarball;

use std::collections::BTreeMap;
use std::io::Read;

use affiant_core::attestor::{About, After, AttestAfter, AttestError, Before, Found, Listener, Outcome};
use affiant_core::product::{CheckedReader, Product, ProductError, Products};
use serde::Deserialize;

pub use contents::{Contents, File};
pub use inflate::{Compression, Inflated};
pub use layout::understand;
pub(crate) use model::is_hex64;
pub use model::{DockerImage, Graph, Image, Index, Layer, Other, candidate};
pub use tarball::ArchiveError;

use crate::container_command::{self, Action};
use crate::kinds::has_extension;

/// What an archive may ask of us.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Entries that are walked over.
    pub entries: u64,
    /// Names that are kept.
    pub names: usize,
    /// Largest document that is kept, in bytes: registries take manifests up to this size.
    pub json: usize,
    /// All documents together, in bytes.
    pub json_total: usize,
    /// Bytes that a layer may inflate to whatever its length …
    pub inflated_free: u64,
    /// … and as a multiple of its length, whichever is more.
    pub inflated_ratio: u64,
    /// Bytes that all layers may inflate to …
    pub total_free: u64,
    /// … and as a multiple of their length, whichever is more.
    pub total_ratio: u64,
}

impl Limits {
    /// What no image of today comes near, and what ends a bomb of 10 MB within seconds.
    pub const DEFAULT: Self = Self {
        entries: 1 << 20,
        names: 1 << 16,
        json: 4 << 20,
        json_total: 16 << 20,
        inflated_free: 4 << 30,
        inflated_ratio: 100,
        total_free: 16 << 30,
        total_ratio: 20,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What is in an archive, and what it means.
#[derive(Debug)]
pub struct Analysis {
    /// Its files.
    pub contents: Contents,
    /// Its images; `None` where it is no image archive.
    pub graph: Option<Graph>,
}

/// Reads a tar archive in one pass. The reader need not be at a file: what hashes a product for the snapshot can
/// feed it. Bytes after the end of the archive may be left unread.
pub fn analyse(reader: impl Read + Send, limits: &Limits) -> Result<Analysis, ArchiveError> {
    let contents = tarball::read_tar(reader, limits)?;
    let graph = understand(&contents);
    Ok(Analysis { contents, graph })
}

/// Options of the attestor.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {}

/// The attestor.
#[derive(Debug)]
pub struct Oci;

const ABOUT: About = About {
    name: "oci",
    predicate_type: "https://witness.dev/attestations/oci/v0.1",
    summary: "Opens image archives and image layouts among the products: image ids, layers and the digests that a registry would give.",
    default_when: "when a product is a tar archive that holds an image, or an OCI layout",
    subjects: &[
        "tardigest:<hex>: SHA-256 of the archive",
        "imageid:<hex>: SHA-256 of an image's configuration",
        "manifestdigest:<hex>: SHA-256 of docker's `manifest.json` in the archive; of the first image's manifest in a pure OCI layout",
        "imagedigest:<hex>: SHA-256 of an index or a platform's manifest, as a registry names it, and of `index.json` (OCI layouts)",
        "imagetag:<name>: SHA-256 of the text",
        "layerdiffid<NN>:<hex>: SHA-256 of an inflated layer",
    ],
    options: &[],
    schema: include_str!("schemas/oci.json"),
};

impl AttestAfter for Oci {
    type Options = Options;
    const ABOUT: &'static About = &ABOUT;

    fn called_for(world: &Before) -> Option<String> {
        container_command::find_with(&world.command, &|name| world.env.get(name).map(str::to_owned))
            .into_iter()
            .find_map(|command| {
                let writes = match command.action {
                    Action::Save => true,
                    Action::Build | Action::Bake => command.values(&["-o", "--output", "--set"]).iter().any(|output| {
                        output.contains("type=docker") || output.contains("type=oci") || output.contains("type=tar")
                    }),
                    Action::Copy => command.words.iter().any(|word| {
                        word.starts_with("oci:")
                            || word.starts_with("oci-archive:")
                            || word.starts_with("docker-archive:")
                    }),
                    _ => false,
                };
                writes.then(|| format!("the command is `{}` with an image archive as its output", command.name()))
            })
    }

    fn listen(path: &str, head: &[u8], length: u64) -> Option<Box<dyn Listener>> {
        listen::listen(path, head, length)
    }

    fn attest(_: Options, world: &After) -> Outcome {
        let mut pieces = Vec::new();
        let mut shortfalls = Vec::new();
        let mut looked = 0_usize;
        for product in world.products.iter() {
            let found = match Kind::of(product) {
                Some(Kind::Tar) => {
                    match world.heard.take::<Option<listen::Learnt>>(ABOUT.name, &product.path).flatten() {
                        Some(analysis) => finish(product, None, analysis, None),
                        None => plain(&world.products, product),
                    }
                }
                Some(Kind::Compressed(compression)) => compressed(&world.products, product, compression),
                None => match layout_folder(product, &world.products) {
                    Some(folder) => from_folder(&world.products, &folder, product),
                    None => continue,
                },
            };
            looked += 1;
            match found {
                Ok(Some(found)) => {
                    pieces.extend(found.piece);
                    shortfalls.extend(found.shortfalls);
                }
                Ok(None) => {}
                Err(reason) => shortfalls.push(reason),
            }
        }
        if pieces.is_empty() && shortfalls.is_empty() {
            return Ok(Found::Nothing(match looked {
                0 => "no product is an archive or an OCI layout".into(),
                _ => format!("none of {looked} archives among the products holds an image"),
            }));
        }
        if pieces.is_empty() {
            return Err(AttestError::new(shortfalls.join("; ")));
        }
        Ok(Found::Evidence { pieces, shortfalls })
    }
}

/// What a product may be.
enum Kind {
    Tar,
    Compressed(Compression),
}

impl Kind {
    fn of(product: &Product) -> Option<Self> {
        let mime = product.mime.as_str();
        match mime {
            "application/x-tar" => Some(Self::Tar),
            "application/gzip" | "application/x-gzip" => Some(Self::Compressed(Compression::Gzip)),
            "application/zstd" | "application/x-zstd" => Some(Self::Compressed(Compression::Zstd)),
            // Damaged in its first header, it is no tar for the detector; its name still asks for an answer.
            "application/octet-stream" if has_extension(&product.path, "tar") => Some(Self::Tar),
            _ => None,
        }
    }
}

/// Evidence of one archive or folder.
struct One {
    piece: Option<affiant_core::attestor::Evidence>,
    shortfalls: Vec<String>,
}

/// A tar as it is.
fn plain(products: &Products, product: &Product) -> Result<Option<One>, String> {
    let mut reader = products.open(product).map_err(|error| error.to_string())?;
    let analysis = analyse(&mut reader, &Limits::DEFAULT);
    finish(product, Some(reader), analysis, None)
}

/// A tar that is compressed as a whole. `Ok(None)` where the first entry is not of an image.
fn compressed(products: &Products, product: &Product, compression: Compression) -> Result<Option<One>, String> {
    let reader = products.open(product).map_err(|error| error.to_string())?;
    match inflate::first_block(reader, compression) {
        Ok(block) => {
            let first = block.and_then(|block| tarball::header_name(&block));
            if !first.is_some_and(|name| evidence::begins_image(&name)) {
                return Ok(None);
            }
        }
        // A broken file is ours to tell of only where its name says that it is an archive.
        Err(error) if is_archive_name(&product.path) => return Err(format!("{}: {error}", product.path)),
        Err(_) => return Ok(None),
    }
    let mut reader = products.open(product).map_err(|error| error.to_string())?;
    let mut inflating = inflate::Inflating::new(&mut reader, compression, &Limits::DEFAULT);
    let analysis = analyse(&mut inflating, &Limits::DEFAULT);
    let inflated = analysis.is_ok().then(|| inflating.finish());
    let (inflated, fault) = match inflated {
        Some(Ok(inflated)) => (Some(inflated), None),
        Some(Err(reason)) => (None, Some(format!("{}: {reason}", product.path))),
        None => (None, None),
    };
    let found = finish(product, Some(reader), analysis, Some((compression, inflated)))?;
    Ok(found.map(|mut one| {
        one.shortfalls.extend(fault);
        one
    }))
}

/// Names of compressed tar archives.
fn is_archive_name(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    [".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".tzst"].iter().any(|end| path.ends_with(end))
}

fn finish(
    product: &Product,
    reader: Option<CheckedReader>,
    analysis: Result<Analysis, ArchiveError>,
    compressed: Option<(Compression, Option<Inflated>)>,
) -> Result<Option<One>, String> {
    let path = &product.path;
    // First the check of the bytes: if they are not the recorded ones, no word about them counts. What was heard while
    // they were hashed is about the recorded ones.
    if let Some(reader) = reader {
        reader.finish().map_err(|error| error.to_string())?;
    }
    let analysis = analysis.map_err(|error| format!("{path}: {error}"))?;
    let Some(graph) = &analysis.graph else {
        let mut reasons = analysis.contents.faults;
        if evidence::looks_like_image(&analysis.contents.files) {
            reasons.insert(0, "has the files of an image, but neither `manifest.json` nor `index.json`".into());
        } else if analysis.contents.incomplete {
            reasons.push("whether it holds an image cannot be said".into());
        } else {
            return Ok(None);
        }
        return Err(format!("{path}: {}", reasons.join("; ")));
    };
    let subject = evidence::Whole::Archive { product, compressed };
    Ok(Some(evidence::one(&subject, &analysis.contents, graph)))
}

/// The folder of an OCI layout whose marker the product is; `""` is the working directory.
fn layout_folder(product: &Product, products: &Products) -> Option<String> {
    let folder = product.path.strip_suffix("oci-layout")?;
    if !(folder.is_empty() || folder.ends_with('/')) {
        return None;
    }
    products.get(&format!("{folder}index.json"))?;
    Some(folder.to_owned())
}

/// An OCI layout as a folder: only what is a product can be read.
fn from_folder(products: &Products, folder: &str, marker: &Product) -> Result<Option<One>, String> {
    let blobs = format!("{folder}blobs/");
    let members: BTreeMap<String, &Product> = products
        .iter()
        .filter(|product| {
            product.path.starts_with(&blobs)
                || product.path.strip_prefix(folder).is_some_and(|name| matches!(name, "index.json" | "oci-layout"))
        })
        .map(|product| (product.path[folder.len()..].to_owned(), product))
        .collect();
    let gone = |name: &str| ProductError::Changed { path: format!("{folder}{name}") };
    let contents = contents::read_files(
        members.iter().map(|(name, product)| (name.clone(), product.length)),
        &Limits::DEFAULT,
        |name| products.open(members.get(name).ok_or_else(|| gone(name))?),
        CheckedReader::finish,
        |name, source| ProductError::Read { path: format!("{folder}{name}"), source },
    )
    .map_err(|error| error.to_string())?;
    let Some(graph) = understand(&contents) else { return Ok(None) };
    let subject = evidence::Whole::Folder { path: marker.path.trim_end_matches("oci-layout").trim_end_matches('/') };
    Ok(Some(evidence::one(&subject, &contents, &graph)))
}
