//! `github-action`: an action of GitHub that was wrapped instead of a command (wire-formats §3.27).
//!
//! The binary finds the action, runs it, and says here what it was: see [`Wrapped`].

pub mod expression;
pub mod files;
pub mod metadata;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use affiant_core::attestor::{About, AttestError, AttestWhole, Evidence, Found, Outcome, Place, Predicate, Whole};
use affiant_core::digest::DigestSet;
use affiant_core::redact::MASK;
use affiant_core::statement::Subject;
use serde::{Deserialize, Serialize};

/// Most bytes of outputs that are recorded.
pub const MAX_OUTPUTS: u64 = 1 << 20;

/// The attestor `github-action`.
pub(crate) struct GithubAction;

/// What the binary knows of the action that it runs: the options of the attestor. No flag gives them.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wrapped {
    /// As the user names it: `./path`, `owner/repository/path@ref`.
    pub reference: String,
    /// `javascript` or `composite`.
    pub kind: String,
    /// Its name in `action.yml`.
    pub name: String,
    /// Its folder.
    pub folder: String,
    /// Whether the reference is a full commit, or the folder is that of the checked-out commit.
    pub pinned: bool,
    /// Inputs by name, defaults too.
    pub inputs: BTreeMap<String, String>,
    /// Names of inputs that are secrets whatever their names are.
    pub secrets: Vec<String>,
    /// `action.yml` or `action.yaml`, and its SHA-256 in hex.
    pub metadata: (String, String),
    /// Which of `pre` and `post` were not run.
    pub not_run: Vec<String>,
    /// Where the outputs are once the action has ended: a JSON object of texts.
    pub outputs: PathBuf,
}

/// The predicate, its members in cilock's order.
#[derive(Serialize)]
struct Shown {
    actionref: String,
    actiontype: String,
    actionname: String,
    actioninputs: BTreeMap<String, String>,
    actionoutputs: BTreeMap<String, String>,
    exitcode: i64,
    actiondir: String,
    refpinned: bool,
    runid: String,
    workflowname: String,
    jobname: String,
    affiant: Own,
}

/// What cilock has no member for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Own {
    metadata: File,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_run: Vec<String>,
}

#[derive(Serialize)]
struct File {
    path: String,
    digest: DigestSet,
}

static ABOUT: About = About {
    name: "github-action",
    predicate_type: "https://aflock.ai/attestations/github-action/v0.1",
    summary: "Says which GitHub action was wrapped, whether it is pinned, its inputs and outputs, and how it ended.",
    default_when: "where an action is wrapped: the input `action-ref` of affiant's GitHub action",
    subjects: &["actionref:<reference>: SHA-256 of the text"],
    options: &[],
    schema: include_str!("schemas/github-action.json"),
};

/// The outputs that the action left.
fn outputs(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = files::read(path, MAX_OUTPUTS).map_err(|error| format!("its outputs are not recorded: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("its outputs are not recorded: {error}"))
}

impl AttestWhole for GithubAction {
    type Options = Wrapped;
    const ABOUT: &'static About = &ABOUT;

    fn attest(options: Wrapped, world: &Whole<'_>) -> Outcome {
        if options.reference.is_empty() {
            return Ok(Found::Nothing("no action was wrapped: the input `action-ref` names one".to_owned()));
        }
        let (mut actionoutputs, mut shortfalls) = (BTreeMap::new(), Vec::new());
        match outputs(&options.outputs) {
            Ok(outputs) => actionoutputs = outputs,
            Err(reason) => shortfalls.push(reason),
        }
        let mask = &world.before.mask;
        let Wrapped { mut inputs, secrets, .. } = options;
        for (name, value) in &mut inputs {
            if !value.is_empty() && (secrets.contains(name) || mask.is_sensitive(&format!("INPUT_{name}"))) {
                MASK.clone_into(value);
            }
        }
        for (name, value) in &mut actionoutputs {
            if !value.is_empty() && mask.is_sensitive(name) {
                MASK.clone_into(value);
            }
        }
        let variable = |name: &str| world.before.env.get(name).unwrap_or_default().to_owned();
        let exitcode = world.predicate("command-run").and_then(|run| run.get("exitcode")?.as_i64());
        let (file, digest) = options.metadata;
        let shown = Shown {
            actionref: options.reference.clone(),
            actiontype: options.kind,
            actionname: options.name,
            actioninputs: inputs,
            actionoutputs,
            exitcode: exitcode.ok_or_else(|| AttestError::new("it is not known how the action ended"))?,
            actiondir: options.folder,
            refpinned: options.pinned,
            runid: variable("GITHUB_RUN_ID"),
            workflowname: variable("GITHUB_WORKFLOW"),
            jobname: variable("GITHUB_JOB"),
            affiant: Own {
                metadata: File { path: file, digest: DigestSet::sha256_hex(&digest) },
                not_run: options.not_run,
            },
        };
        let predicate = serde_json::to_value(shown).map_err(|error| AttestError::new(error.to_string()))?;
        Ok(Found::Evidence {
            pieces: vec![Evidence {
                predicate_type: ABOUT.predicate_type.to_owned(),
                predicate: Predicate::Composed(predicate),
                subjects: vec![Subject::new(
                    format!("actionref:{}", options.reference),
                    DigestSet::of_text(&options.reference),
                )],
                back_references: Vec::new(),
                // witness does not know the type.
                place: Place::OwnEnvelope,
            }],
            shortfalls,
        })
    }
}
