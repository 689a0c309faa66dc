//! The plan: what will run, and why. Everything that can be refused is refused here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use affiant_supervise as supervise;
use serde_json::{Map, Value};

use super::at_rest::AtRest;
use super::command_run::Observation;
use crate::attestor::{About, Attestor, Before, Engine, Foresight, Listen, OptionError, Phase, Prepared};
use crate::form::Form;
use crate::redact::Redactor;
use crate::select::Selection;
use crate::snapshot;
use crate::statement::Subject;
use crate::step::{StepNameError, check_step_name};

/// Which attestors run.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Those that the step calls for.
    Automatic,
    /// Those that the user named, in any order.
    Named(Vec<Named>),
    /// Those that the user named, and those that the step calls for.
    Both(Vec<Named>),
}

/// An attestor that the user named, by name or type.
#[derive(Clone, Debug)]
pub struct Named(pub String);

/// What the user wants, already read from flags and files.
pub struct Request {
    /// What attestors see.
    pub before: Before,
    /// Which attestors run.
    pub choice: Choice,
    /// Options of attestors, by attestor name.
    pub options: std::collections::BTreeMap<String, Map<String, Value>>,
    /// How the snapshots are taken.
    pub snapshot: snapshot::Options,
    /// Which products become subjects.
    pub product_subjects: Selection,
    /// Subjects that the user named.
    pub subjects: Vec<Subject>,
    /// The command, `None` for evidence without one.
    pub child: Option<supervise::Request>,
    /// Without a command: what counts as product.
    pub at_rest: AtRest,
    /// In which form the evidence is written.
    pub form: Form,
    /// Whether a failing command still makes a passing step.
    pub ignore_exit_code: bool,
    /// Masks secrets.
    pub redactor: Redactor,
    /// How much of the command's work could be observed.
    pub observation: Observation,
    /// The container engine that attestors may ask.
    pub engine: Option<Arc<dyn Engine>>,
    /// How long one phase of attestors may take.
    pub time_limit: Duration,
}

/// An attestor that will run.
pub struct Planned {
    /// Its name, type and description.
    pub about: &'static About,
    /// Whether the user named it.
    pub named: bool,
    /// When it runs.
    pub phase: Phase,
    /// Why it runs.
    pub reason: String,
    /// What is known of its work before anything runs.
    pub foresight: Foresight,
    /// Listens to products while they are hashed.
    pub(super) listen: Listen,
    /// The function, until it has run.
    pub(super) prepared: Option<Prepared>,
}

/// What will run.
pub struct Plan {
    /// What attestors see.
    pub before: Arc<Before>,
    /// The attestors, in list order.
    pub attestors: Vec<Planned>,
    /// What was named but always runs, for a note.
    pub always: Vec<&'static str>,
    pub(super) snapshot: snapshot::Options,
    pub(super) product_subjects: Selection,
    pub(super) subjects: Vec<Subject>,
    pub(super) child: Option<supervise::Request>,
    pub(super) at_rest: AtRest,
    pub(super) form: Form,
    pub(super) withheld: Vec<String>,
    pub(super) ignore_exit_code: bool,
    pub(super) redactor: Redactor,
    pub(super) observation: Observation,
    pub(super) engine: Option<Arc<dyn Engine>>,
    pub(super) time_limit: Duration,
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The step name cannot be used.
    #[error(transparent)]
    Step(#[from] StepNameError),
    /// An attestor that is not known.
    #[error("unknown attestor `{name}`")]
    UnknownAttestor {
        /// What was given.
        name: String,
    },
    /// An option that an attestor does not take.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// An option for an attestor that will not run.
    #[error("an option was given for the attestor `{attestor}`, which does not run here")]
    OptionUnused {
        /// The attestor.
        attestor: String,
    },
}

/// Names of what always runs: accepted in a list of attestors, with a note.
pub const ALWAYS: [&str; 3] = ["command-run", "material", "product"];

/// Reads a request into a plan.
pub fn plan(mut request: Request, known: &'static [Attestor]) -> Result<Plan, PlanError> {
    check_step_name(&request.before.step)?;
    let mut always = Vec::new();
    let mut attestors = Vec::new();
    let mut chosen: Vec<(&'static Attestor, bool, String)> = Vec::new();
    let (names, automatic): (&[Named], bool) = match &request.choice {
        Choice::Automatic => (&[], true),
        Choice::Named(names) => (names, false),
        Choice::Both(names) => (names, true),
    };
    for Named(name) in names {
        if let Some(name) = ALWAYS.into_iter().find(|always| always == name) {
            always.push(name);
        } else if !known.iter().any(|attestor| answers_to(attestor, name)) {
            return Err(PlanError::UnknownAttestor { name: name.clone() });
        }
    }
    for attestor in known {
        if names.iter().any(|Named(name)| answers_to(attestor, name)) {
            chosen.push((attestor, true, "named with -a".to_owned()));
        } else if automatic {
            match (attestor.called_for)(&request.before) {
                Some(reason) => chosen.push((attestor, false, reason)),
                // Only the products can tell whether there is something for it.
                None if attestor.phase == Phase::After => {
                    chosen.push((attestor, false, attestor.about.default_when.to_owned()));
                }
                None => {}
            }
        }
    }
    for (attestor, named, reason) in chosen {
        let options = request.options.remove(attestor.about.name).unwrap_or_default();
        let (prepared, foresight) = attestor.prepare(Value::Object(options), &request.before)?;
        attestors.push(Planned {
            about: attestor.about,
            named,
            phase: attestor.phase,
            reason,
            foresight,
            listen: attestor.listen,
            prepared: Some(prepared),
        });
    }
    if let Some((attestor, _)) = request.options.pop_first() {
        return Err(PlanError::OptionUnused { attestor });
    }
    Ok(Plan {
        before: Arc::new(request.before),
        attestors,
        always,
        snapshot: request.snapshot,
        product_subjects: request.product_subjects,
        subjects: request.subjects,
        child: request.child,
        at_rest: request.at_rest,
        form: request.form,
        withheld: Vec::new(),
        ignore_exit_code: request.ignore_exit_code,
        redactor: request.redactor,
        observation: request.observation,
        engine: request.engine,
        time_limit: request.time_limit,
    })
}

/// Whether `name` means this attestor: its name, its type, or cilock's spelling of its type.
fn answers_to(attestor: &Attestor, name: &str) -> bool {
    let about = attestor.about;
    about.name == name
        || about.predicate_type == name
        || name
            .strip_prefix("https://aflock.ai/attestations/")
            .is_some_and(|rest| about.predicate_type.strip_prefix("https://witness.dev/attestations/") == Some(rest))
}

impl Plan {
    /// The arguments of the command, program first.
    pub fn command(&self) -> &[OsString] {
        &self.before.command
    }

    /// Where the command runs.
    pub fn dir(&self) -> &PathBuf {
        &self.before.dir
    }

    /// Secrets among the variables that only the attestors need.
    pub fn consumed(&self) -> impl Iterator<Item = &str> {
        self.attestors.iter().flat_map(|attestor| &attestor.foresight.consumes).map(String::as_str)
    }

    /// What the user should know before the command runs: attestor and clause.
    pub fn notes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.attestors.iter().filter_map(|attestor| Some((attestor.about.name, attestor.foresight.note.as_deref()?)))
    }

    /// Gives the command this environment, which lacks the variables `withheld`.
    pub fn set_environment(&mut self, environment: Vec<(OsString, OsString)>, withheld: Vec<String>) {
        if let Some(child) = &mut self.child {
            child.env = environment;
        }
        self.withheld = withheld;
    }

    /// Variables that the command does not get.
    pub fn withheld(&self) -> Vec<String> {
        self.withheld.clone()
    }

    /// Whether a failing command still makes a passing step.
    pub fn ignores_exit_code(&self) -> bool {
        self.ignore_exit_code
    }

    /// What is known of the observation level.
    pub fn observation(&self) -> &Observation {
        &self.observation
    }

    /// In which form the evidence is written.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Masks secrets in texts that are shown to people.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}
