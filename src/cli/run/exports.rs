//! Which attestors run, and with which options: `--attestor-<name>-export` names an attestor as `-a` does.

use std::collections::BTreeMap;

use affiant_attestors::BUILT_IN;
use affiant_core::attestor::{Attestor, Phase};
use affiant_core::run::{Choice, Named};
use serde_json::{Map, Value};

use super::Work;
use crate::cli::failure::Failure;
use crate::cli::names::Called;

/// The attestor that tells of a wrapped action.
const ACTION: &str = "github-action";

/// What is asked of the attestors.
pub(super) struct Chosen {
    pub(super) choice: Choice,
    /// Options by attestor.
    pub(super) options: BTreeMap<String, Map<String, Value>>,
}

/// Reads `-a` and the options of those that export.
pub(super) fn choose(work: Work<'_>) -> Result<Chosen, Failure> {
    let args = work.args();
    let mut named = args.named();
    let automatic = named.is_empty() || args.also_automatic;
    let mut options = args.attestor_options.clone();
    for attestor in BUILT_IN.iter().filter(|one| one.about.options.iter().any(|option| option.name == "export")) {
        let about = attestor.about;
        let is_named = named.iter().any(|Named(name)| name == about.name || name == about.predicate_type);
        if asks(&options, about.name) && !is_named {
            // It runs by itself where it may find something: naming it would make a gap where there is nothing.
            if !automatic || attestor.phase == Phase::Whole {
                named.push(Named(about.name.to_owned()));
            }
        } else if !is_named && (!automatic || attestor.phase == Phase::Whole) {
            let rest = options.remove(about.name).unwrap_or_default();
            if rest.keys().any(|name| name != "export" && name != "classic") {
                options.insert(about.name.to_owned(), rest);
            }
        } else if is_named && attestor.phase == Phase::Whole && args.called != Called::Affiant {
            // Theirs stand in the collection unless they are exported.
            options.entry(about.name.to_owned()).or_default().entry("export").or_insert(Value::Bool(false));
        }
    }
    if let Some(action) = work.action() {
        named.push(Named(ACTION.to_owned()));
        options.insert(ACTION.to_owned(), action.options());
    }
    refuse_without_command(work, &named)?;
    let choice = match (named.is_empty(), automatic) {
        (true, _) => Choice::Automatic,
        (false, false) => Choice::Named(named),
        (false, true) => Choice::Both(named),
    };
    Ok(Chosen { choice, options })
}

/// Whether an option asks for an envelope, or a file, of its own.
fn asks(options: &BTreeMap<String, Map<String, Value>>, attestor: &str) -> bool {
    let Some(options) = options.get(attestor) else { return false };
    ["export", "classic"].iter().any(|name| options.get(*name).is_some_and(|value| *value != Value::Bool(false)))
}

fn refuse_without_command(work: Work<'_>, named: &[Named]) -> Result<(), Failure> {
    let tells_of_command = |Named(name): &Named| {
        let is_it = |one: &&Attestor| one.about.name == name || one.about.predicate_type == name;
        BUILT_IN.iter().find(is_it).filter(|one| one.phase == Phase::Whole)
    };
    match (work, named.iter().find_map(tells_of_command)) {
        (Work::AtRest(_), Some(attestor)) => {
            let failure = format!("`{}` tells of a command, and `attest` runs none", attestor.about.name);
            Err(Failure::usage(failure).hint("`affiant run -- COMMAND` runs one"))
        }
        _ => Ok(()),
    }
}
