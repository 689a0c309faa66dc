//! `link`: the step as in-toto's link (predicate `link` v0.3 of the in-toto attestation framework).
//!
//! The products are the subjects, under their paths: rules of layouts are about these names. `affiant_core::link`
//! makes the classic metadata of it.

use affiant_core::attestor::{
    About, AttestError, AttestWhole, Evidence, Found, Materials, OptionAbout, Outcome, Place, Predicate, Whole,
};
use affiant_core::digest::DigestSet;
use affiant_core::statement::Subject;
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::to_raw_value;
use serde_json::{Map, Value};

/// The attestor `link`.
pub(crate) struct Link;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// In an envelope of its own, or in the collection.
    #[serde(default = "yes")]
    export: bool,
    /// Whether, and where, the classic metadata is written: the binary writes it, from the envelope.
    classic: Option<Classic>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Classic {
    Beside(bool),
    Folder(#[expect(dead_code, reason = "read by the binary")] String),
}

fn yes() -> bool {
    true
}

static ABOUT: About = About {
    name: "link",
    predicate_type: "https://in-toto.io/attestation/link/v0.3",
    summary: "Writes an in-toto link of the step in an envelope of its own, and classic `.link` metadata where it is asked for.",
    default_when: "nowhere: it is named with -a or --attestor-link-export",
    subjects: &["<path>: digests of the product"],
    options: &[
        OptionAbout {
            name: "export",
            help: "Write it in an envelope of its own (default: true; under the names witness and cilock false)",
        },
        OptionAbout {
            name: "classic",
            help: "Also write classic metadata, `<step>.<key>.link`, into this folder (default: that of the outfile)",
        },
    ],
    schema: include_str!("schemas/link.json"),
};

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    command: Value,
    materials: Listed<'a>,
    byproducts: Map<String, Value>,
    environment: Map<String, Value>,
}

/// The materials, written from their compact form: there may be a million.
struct Listed<'a>(&'a Materials<'a>);

#[derive(Serialize)]
struct Resource<'a> {
    name: &'a str,
    digest: DigestSet,
}

impl Serialize for Listed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for entry in self.0.iter() {
            list.serialize_element(&Resource { name: entry.path, digest: entry.digest_set() })?;
        }
        list.end()
    }
}

impl AttestWhole for Link {
    type Options = Options;
    const ABOUT: &'static About = &ABOUT;

    fn attest(options: Options, world: &Whole<'_>) -> Outcome {
        let run = world.predicate("command-run");
        let of_run = |name: &str| run.and_then(|run| run.get(name)).cloned();
        let mut byproducts = Map::new();
        // The names of in-toto's specification (4.4), and of its own runner, which writes all three.
        let none = || Value::String(String::new());
        byproducts.extend(of_run("exitcode").map(|code| ("return-value".to_owned(), code)));
        for name in ["stdout", "stderr"] {
            byproducts.insert(name.to_owned(), of_run(name).unwrap_or_else(none));
        }
        // Texts by name, as witness and cilock have it: some readers take nothing else here.
        let variables = world.predicate("environment").and_then(|found| found.get("variables")?.as_object());
        let environment = variables.cloned().unwrap_or_default();
        let shown = Shown {
            name: world.name,
            command: of_run("cmd").unwrap_or_else(|| Value::Array(Vec::new())),
            materials: Listed(&world.materials),
            byproducts,
            environment,
        };
        let predicate = to_raw_value(&shown).map_err(|error| AttestError::new(error.to_string()))?;
        let exported = options.export || !matches!(options.classic, None | Some(Classic::Beside(false)));
        let (prefix, place) = if exported { ("", Place::Exported) } else { ("file:", Place::Collection) };
        let subjects =
            world.products.iter().map(|one| Subject::new(format!("{prefix}{}", one.path), one.digests.clone()));
        Ok(Found::Evidence {
            pieces: vec![Evidence {
                predicate_type: ABOUT.predicate_type.to_owned(),
                predicate: Predicate::Masked(predicate),
                subjects: subjects.collect(),
                back_references: Vec::new(),
                place,
            }],
            shortfalls: Vec::new(),
        })
    }
}
