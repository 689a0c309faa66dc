//! The machine, the account and the variables of the environment (wire-formats §3.4).

use std::collections::BTreeMap;

use affiant_core::attestor::{About, AttestBefore, AttestError, Before, Evidence, Found, Outcome, Place, Predicate};
use serde::{Deserialize, Serialize};

/// The attestor `environment`.
pub(crate) struct Environment;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {}

#[derive(Serialize)]
struct Shown {
    os: &'static str,
    hostname: String,
    username: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    variables: BTreeMap<String, String>,
}

static ABOUT: About = About {
    name: "environment",
    predicate_type: "https://witness.dev/attestations/environment/v0.1",
    summary: "Records the operating system, the host, the account and the environment variables, secrets masked.",
    default_when: "always",
    subjects: &[],
    options: &[],
    schema: include_str!("schemas/environment.json"),
};

impl AttestBefore for Environment {
    type Options = Options;
    const ABOUT: &'static About = &ABOUT;

    fn called_for(_: &Before) -> Option<String> {
        Some("every command has an environment".to_owned())
    }

    fn attest(_: Options, world: &Before) -> Outcome {
        let shown = Shown {
            os: goos(std::env::consts::OS),
            hostname: world.host.hostname.clone(),
            username: world.host.username.clone(),
            variables: world.mask.apply(&world.env),
        };
        let predicate = serde_json::to_value(shown).map_err(|error| AttestError::new(error.to_string()))?;
        Ok(Found::Evidence {
            pieces: vec![Evidence {
                predicate_type: ABOUT.predicate_type.to_owned(),
                predicate: Predicate::Composed(predicate),
                subjects: Vec::new(),
                back_references: Vec::new(),
                place: Place::Collection,
            }],
            shortfalls: Vec::new(),
        })
    }
}

/// The name of an operating system as Go spells it, which is what policies for the peers compare with.
fn goos(rust: &'static str) -> &'static str {
    match rust {
        "macos" => "darwin",
        other => other,
    }
}
