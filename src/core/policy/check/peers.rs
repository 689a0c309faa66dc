//! What witness and cilock make of a policy, and what a constraint lets through.

use serde_json::Value;

use super::{Check, Severity};

impl Check<'_> {
    /// Members that witness or cilock read with a weaker meaning.
    pub(super) fn peers(&mut self, value: &Value) {
        let mut ours = Vec::new();
        let mut cilock = Vec::new();
        members_of(value, &mut ours, &mut cilock);
        if !ours.is_empty() {
            self.add(
                Severity::Note,
                "",
                format!("witness and cilock pass over {}: they accept more by this policy", ours.join(", ")),
                "say the same in Rego where the peers must hold to it",
            );
        }
        if !cilock.is_empty() {
            self.add(
                Severity::Note,
                "",
                format!("witness passes over {}: it accepts more by this policy", cilock.join(", ")),
                "do not judge by witness what rests on these",
            );
        }
    }
}

fn members_of(value: &Value, ours: &mut Vec<String>, cilock: &mut Vec<String>) {
    let note = |list: &mut Vec<String>, at: &str, object: &Value, names: &[&str]| {
        for (name, value) in object.as_object().into_iter().flatten() {
            let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            if !empty && names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                list.push(format!("`{at}{name}`"));
            }
        }
    };
    let top = ["version", "minimumVersion", "notBefore", "images", "transparencyLogs", "certificateTransparencyLogs"];
    note(ours, "", value, &top);
    note(cilock, "", value, &["externalAttestations"]);
    let member = |value: &Value, name: &str| -> Option<Value> {
        let object = value.as_object()?;
        object.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    };
    for list in ["roots", "timestampauthorities"] {
        for (name, anchor) in member(value, list).as_ref().and_then(Value::as_object).into_iter().flatten() {
            note(ours, &format!("{list}.{name}."), anchor, &["start", "end"]);
        }
    }
    for (name, one) in member(value, "externalAttestations").as_ref().and_then(Value::as_object).into_iter().flatten() {
        note(ours, &format!("externalAttestations.{name}."), one, &["log", "sct", "timestamp"]);
    }
    for (name, step) in member(value, "steps").as_ref().and_then(Value::as_object).into_iter().flatten() {
        let at = format!("steps.{name}.");
        note(
            ours,
            &at,
            step,
            &["threshold", "exitcode", "commandRun", "perPlatform", "log", "sct", "timestamp", "certificateMatches"],
        );
        note(cilock, &at, step, &["attestationsFrom", "externalFrom", "timestampConstraint"]);
        // cilock knows the member and enforces it nowhere.
        note(ours, &at, step, &["allowedUntracked"]);
        let attestations = member(step, "attestations");
        for (index, one) in attestations.as_ref().and_then(Value::as_array).into_iter().flatten().enumerate() {
            note(ours, &format!("{at}attestations[{index}]."), one, &["maxAge"]);
        }
        let functionaries = member(step, "functionaries");
        for (index, one) in functionaries.as_ref().and_then(Value::as_array).into_iter().flatten().enumerate() {
            if let Some(constraint) = member(one, "certConstraint") {
                let at = format!("{at}functionaries[{index}].certConstraint.");
                note(cilock, &at, &constraint, &["requiredpolicyoids"]);
            }
        }
    }
}

/// Whether a constraint allows every certificate of its roots.
pub(super) fn names_anybody(constraint: &Value) -> bool {
    let is_any = |value: &Value| value == "*" || value.as_array().is_some_and(|list| list.iter().any(|one| one == "*"));
    let Some(members) = constraint.as_object() else { return false };
    let get = |wanted: &str| members.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
    let lists = ["commonname", "dnsnames", "emails", "organizations", "uris"];
    let extensions = get("extensions").and_then(Value::as_object);
    let oids = get("requiredpolicyoids").and_then(Value::as_array);
    lists.iter().all(|name| get(name).is_some_and(is_any))
        && extensions.is_none_or(|map| map.values().all(|value| value == "" || is_any(value)))
        && oids.is_none_or(Vec::is_empty)
}
