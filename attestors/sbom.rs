//! `sbom`: software bills of material among the products.
//!
//! The document is kept as it was written. Only its marker member is put first, because witness looks for it in the
//! first 500 bytes of the predicate, without a space (wire-formats, corrections); the text of every other member and
//! their order stay. SPDX 3 has no such marker: witness and cilock would refuse the whole collection, so it gets an
//! envelope of its own.
//!
//! Formats: `CycloneDX` 1.2 to 1.7 as JSON (ECMA-424), SPDX 2.2 and 2.3 as JSON, SPDX 3 as JSON-LD.

mod document;

use affiant_core::attestor::{
    About, After, AttestAfter, AttestError, Before, Evidence, Found, OptionAbout, Outcome, Place, Predicate,
};
use affiant_core::product::{Product, Products};
use affiant_core::statement::Subject;
use serde::Deserialize;

use crate::kinds::{has_extension, may_be_json};
use crate::subjects::Subjects;

use document::{Format, probe, read};
pub use document::{SbomSummary, describe};

/// Largest document that is kept, in bytes. Real ones have reached 130 MB (cosign#3599).
const DOCUMENT_LIMIT: u64 = 256 << 20;

/// Options of the attestor.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Each in an envelope of its own, whatever its format.
    export: bool,
}

/// The attestor.
#[derive(Debug)]
pub struct Sbom;

const ABOUT: About = About {
    name: "sbom",
    predicate_type: "https://witness.dev/attestations/sbom/v0.1",
    summary: "Keeps software bills of material as they were written (CycloneDX 1.2 to 1.7, SPDX 2.2, 2.3 and 3, as JSON).",
    default_when: "when a product is an SBOM in JSON",
    subjects: &[
        "file:<path>: digests of the product",
        "name:<name>: SHA-256 of the text; the component or document that is described",
        "version:<version>: SHA-256 of the text (CycloneDX)",
        "imagedigest:<hex>: digest of the image that is described, where the document says one",
    ],
    options: &[OptionAbout {
        name: "export",
        help: "Write each in an envelope of its own, instead of in the collection (default: only SPDX 3)",
    }],
    schema: include_str!("schemas/sbom.json"),
};

impl AttestAfter for Sbom {
    type Options = Options;
    const ABOUT: &'static About = &ABOUT;

    fn called_for(world: &Before) -> Option<String> {
        let words: Vec<String> = world.command.iter().map(|word| word.to_string_lossy().to_lowercase()).collect();
        let program = words.first()?.rsplit('/').next()?;
        if matches!(program, "syft" | "cdxgen" | "trivy" | "bom" | "sbom-tool" | "cyclonedx") {
            return Some(format!("the command is `{program}`"));
        }
        let format = ["cyclonedx", "spdx", ".cdx.json"];
        let word = format.iter().find(|format| words.iter().any(|word| word.contains(*format)))?;
        Some(format!("the command line speaks of `{word}`"))
    }

    fn attest(options: Options, world: &After) -> Outcome {
        let mut pieces = Vec::new();
        let mut shortfalls = Vec::new();
        for product in world.products.iter() {
            match one(&world.products, product) {
                Ok(Some(piece)) if options.export => pieces.push(Evidence { place: Place::Exported, ..piece }),
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => {}
                Err(reason) => shortfalls.push(format!("{}: {reason}", product.path)),
            }
        }
        match (pieces.is_empty(), shortfalls.is_empty()) {
            (true, true) => Ok(Found::Nothing("no product is an SBOM".into())),
            (true, false) => Err(AttestError::new(shortfalls.join("; "))),
            _ => Ok(Found::Evidence { pieces, shortfalls }),
        }
    }
}

/// Evidence of one product; `None` where it is no SBOM.
fn one(products: &Products, product: &Product) -> Result<Option<Evidence>, String> {
    let path = product.path.as_str();
    match product.mime.split(';').next().unwrap_or_default().trim() {
        "application/vnd.cyclonedx+xml" => {
            return Err("is CycloneDX in XML, which readers of evidence do not take; convert it to JSON".into());
        }
        _ if may_be_json(product) => {}
        "text/plain" if has_extension(path, "spdx") => {
            return Err("is SPDX as tag-value text, which readers of evidence do not take; convert it to JSON".into());
        }
        "text/xml" | "application/xml" if ends(path, &[".cdx.xml", "bom.xml"]) => {
            return Err("is CycloneDX in XML, which readers of evidence do not take; convert it to JSON".into());
        }
        _ => return Ok(None),
    }
    // The detector's word is not enough: a marker in an inner object (a statement about an SBOM) makes no SBOM. What is
    // read here only decides whether to look; what is attested is read again and checked.
    if !named(path) && !probe(products.open(product).map_err(|error| reason(&error, path))?) {
        return Ok(None);
    }
    let bytes = products.read(product, DOCUMENT_LIMIT).map_err(|error| reason(&error, path))?;
    let document = read(&bytes)?;
    let mut subjects = Subjects::default();
    subjects.add(Subject::new(format!("file:{path}"), product.digests.clone()));
    subjects.text("name", document.about.name.as_deref().unwrap_or_default());
    if document.format == Format::CycloneDx {
        subjects.text("version", document.about.version.as_deref().unwrap_or_default());
    }
    for hex in &document.images {
        subjects.digest("imagedigest", hex);
    }
    let (predicate_type, place) = match document.format {
        Format::CycloneDx => ("https://cyclonedx.org/bom", Place::Collection),
        Format::Spdx => ("https://spdx.dev/Document", Place::Collection),
        Format::Spdx3 => ("https://spdx.dev/Document/v3", Place::OwnEnvelope),
    };
    Ok(Some(Evidence {
        predicate_type: predicate_type.into(),
        predicate: Predicate::Verbatim(document.text),
        back_references: subjects.of_kinds(&["imagedigest"]),
        subjects: subjects.into_list(),
        place,
    }))
}

/// Names that tools and specifications give to SBOMs.
fn named(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == "bom.json" || ends(name, &[".cdx.json", ".spdx.json"])
}

fn ends(path: &str, ends: &[&str]) -> bool {
    ends.iter().any(|end| path.ends_with(end))
}

/// The reason of an error whose text begins with the path.
fn reason(error: &affiant_core::product::ProductError, path: &str) -> String {
    let text = error.to_string();
    text.strip_prefix(path).and_then(|rest| rest.strip_prefix(": ")).map(str::to_owned).unwrap_or(text)
}
