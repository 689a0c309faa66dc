//! `slsa`: provenance of what the command made (SLSA Provenance v1, <https://slsa.dev/spec/v1.1/provenance>).
//!
//! It says nothing that the other evidence of the run does not say: it is that evidence in the words of SLSA, for
//! readers who know no collections. `docs/reference/slsa.md` describes each parameter.

mod builder;
mod sources;

use affiant_core::attestor::{
    About, AttestError, AttestWhole, Evidence, Found, OptionAbout, Outcome, Place, Predicate, Whole,
};
use affiant_core::digest::DigestSet;
use affiant_core::statement::Subject;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};

use crate::subjects::Subjects;

/// What witness and cilock call it within a collection (wire-formats §3.17); cilock reads the right type as well.
const TYPE_IN_COLLECTION: &str = "https://slsa.dev/provenance/v1.0";
/// How the parameters are to be read: `docs/reference/slsa.md`.
const BUILD_TYPE: &str = "urn:affiant:slsa:build-type:run:1";

/// The attestor `slsa`.
pub(crate) struct Slsa;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// In an envelope of its own, or in the collection.
    #[serde(default = "yes")]
    export: bool,
    /// Who the provenance says has built, where it is not found out.
    builder_id: Option<String>,
}

fn yes() -> bool {
    true
}

static ABOUT: About = About {
    name: "slsa",
    predicate_type: "https://slsa.dev/provenance/v1",
    summary: "Writes SLSA provenance v1 of the products and images, in an envelope of its own.",
    default_when: "nowhere: it is named with -a or --attestor-slsa-export",
    subjects: &[
        "file:<path>: digests of the product",
        "imagedigest:<hex>: digest of an image that `docker` or `oci` found",
        "imageid:<hex>: digest of its configuration",
        "tardigest:<hex>: digest of its archive",
    ],
    options: &[
        OptionAbout {
            name: "export",
            help: "Write it in an envelope of its own (default: true; under the names witness and cilock false)",
        },
        OptionAbout { name: "builder-id", help: "URI of who builds (default: what the attestor of the CI says)" },
    ],
    schema: include_str!("schemas/slsa.json"),
};

/// The predicate, as the specification spells it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Provenance<'a> {
    build_definition: BuildDefinition<'a>,
    run_details: RunDetails,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition<'a> {
    build_type: &'static str,
    external_parameters: Value,
    internal_parameters: Map<String, Value>,
    resolved_dependencies: Vec<Resource<'a>>,
}

#[derive(Serialize)]
struct RunDetails {
    builder: Value,
    metadata: Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    byproducts: Vec<Value>,
}

/// A `ResourceDescriptor` of in-toto.
#[derive(Serialize)]
struct Resource<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "is_empty")]
    digest: DigestSet,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Value>,
}

fn is_empty(digest: &DigestSet) -> bool {
    digest.0.is_empty()
}

impl AttestWhole for Slsa {
    type Options = Options;
    const ABOUT: &'static About = &ABOUT;

    fn attest(options: Options, world: &Whole<'_>) -> Outcome {
        if !world.passed {
            // Provenance has no word for it, and its readers ask for none.
            return Ok(Found::Nothing("the command failed, and provenance cannot say so".to_owned()));
        }
        let subjects = subjects(world);
        if subjects.is_empty() {
            return Ok(Found::Nothing("the command made neither a product nor an image".to_owned()));
        }
        let run = world.predicate("command-run");
        let of_run = |name: &str| run.and_then(|run| run.pointer(name)).cloned();
        let who = builder::find(world, options.builder_id.as_deref());
        let (resolved_dependencies, shortfalls) = sources::all(world);

        let mut internal = Map::new();
        internal.insert("builderIdentity".to_owned(), who.identity);
        for (name, place) in [("observation", "/affiant/observation"), ("snapshot", "/affiant/snapshot")] {
            internal.extend(of_run(place).map(|value| (name.to_owned(), value)));
        }
        if let Some(variables) = world.predicate("environment").and_then(|found| found.get("variables")) {
            internal.insert("environment".to_owned(), json!({ "variables": variables }));
        }
        let mut metadata = Map::new();
        metadata.extend(who.invocation.map(|url| ("invocationId".to_owned(), url.into())));
        for (name, time) in [("startedOn", world.lasted.0), ("finishedOn", world.lasted.1)] {
            metadata.insert(name.to_owned(), time.to_string().into());
        }
        let provenance = Provenance {
            build_definition: BuildDefinition {
                build_type: BUILD_TYPE,
                external_parameters: json!({ "step": world.before.step, "command": of_run("/cmd") }),
                internal_parameters: internal,
                resolved_dependencies,
            },
            run_details: RunDetails {
                builder: json!({ "id": who.id, "version": { "affiant": env!("CARGO_PKG_VERSION") } }),
                metadata: metadata.into(),
                byproducts: run.map(byproducts).unwrap_or_default(),
            },
        };
        let predicate = to_raw_value(&provenance).map_err(|error| AttestError::new(error.to_string()))?;
        let (predicate_type, place) = if options.export {
            (ABOUT.predicate_type, Place::Exported)
        } else {
            (TYPE_IN_COLLECTION, Place::Collection)
        };
        Ok(Found::Evidence {
            pieces: vec![Evidence {
                predicate_type: predicate_type.to_owned(),
                predicate: Predicate::Masked(predicate),
                subjects,
                back_references: Vec::new(),
                place,
            }],
            shortfalls,
        })
    }
}

/// What the command made: real digests only, for readers of provenance compare nothing else.
fn subjects(world: &Whole<'_>) -> Vec<Subject> {
    let mut subjects = Subjects::default();
    for product in &world.products {
        subjects.add(Subject::new(format!("file:{}", product.path), product.digests.clone()));
    }
    for entry in world.entries.iter().filter(|entry| matches!(entry.attestor, "docker" | "oci")) {
        let is_image = |name: &str| {
            name.split_once(':').is_some_and(|(kind, _)| matches!(kind, "imagedigest" | "imageid" | "tardigest"))
        };
        entry.subjects.iter().filter(|one| is_image(&one.name)).for_each(|one| subjects.add(one.clone()));
    }
    subjects.into_list()
}

/// What the command printed, by its digests.
fn byproducts(run: &Value) -> Vec<Value> {
    let streams = ["stdout", "stderr"].into_iter().filter_map(|name| {
        let stream = run.get("affiant")?.get(name)?;
        let length = stream.get("length").filter(|length| length.as_u64() != Some(0))?;
        Some(json!({
            "name": name,
            "digest": { "sha256": stream.get("sha256")? },
            "annotations": { "length": length },
        }))
    });
    streams.collect()
}
