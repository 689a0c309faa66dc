//! From JSON to [`Policy`].

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::Value;

use super::keyless;
use super::members::{Members, Seen, base64, below};
use super::{
    AnchorText, External, Functionary, Images, Policy, PolicyError, PolicyKey, RegoModule, Requirement, Step,
    TimeConstraint,
};
use crate::select::{Glob, GlobError};
use crate::sign::PublicKey;

/// Schemes of keys that a key service holds: such an id is not computed from the key.
const KEY_SERVICES: [&str; 6] = ["awskms:", "gcpkms:", "azurekms:", "hashivault:", "pkcs11:", "k8s:"];

pub(super) fn policy(value: &Value) -> Result<Policy, PolicyError> {
    let mut seen = Seen::default();
    let top = Members::read(
        "",
        value,
        &["expires", "roots", "timestampauthorities", "publickeys", "steps", "externalAttestations"],
        &["version", "minimumVersion", "notBefore", "images", "transparencyLogs", "certificateTransparencyLogs"],
        &mut seen,
    )?;
    let policy = Policy {
        expires: top.time("expires")?,
        not_before: top.time("notBefore")?,
        version: top.number("version")?,
        minimum_version: top.number("minimumVersion")?,
        roots: anchors(&top, "roots", &mut seen)?,
        authorities: anchors(&top, "timestampauthorities", &mut seen)?,
        logs: keyless::logs(&top, "transparencyLogs", &mut seen)?,
        ct_logs: keyless::logs(&top, "certificateTransparencyLogs", &mut seen)?,
        keys: keys(&top, &mut seen)?,
        steps: steps(&top, &mut seen)?,
        external: external(&top, &mut seen)?,
        images: images(&top, &mut seen)?,
        unknown: Vec::new(),
        notes: Vec::new(),
    };
    if seen.ours
        && let Some(unknown) = seen.unknown.first()
    {
        return Err(PolicyError::Unknown { at: unknown.at.clone(), nearest: unknown.nearest.clone() });
    }
    Ok(Policy { unknown: seen.unknown, notes: seen.notes, ..policy })
}

fn anchors(top: &Members<'_>, name: &str, seen: &mut Seen) -> Result<BTreeMap<String, AnchorText>, PolicyError> {
    let mut anchors = BTreeMap::new();
    for (id, value) in top.map(name)? {
        let at = below(&top.at(name), id);
        let members = Members::read(&at, value, &["certificate", "intermediates"], &["start", "end"], seen)?;
        let certificate = members
            .base64("certificate")?
            .filter(|pem| !pem.is_empty())
            .ok_or_else(|| PolicyError::Missing { at: members.at("certificate") })?;
        let intermediates = members
            .list("intermediates")?
            .into_iter()
            .map(|(at, value)| {
                let text = value.as_str().ok_or(PolicyError::Type { at: at.clone(), expected: "a text" })?;
                base64(&at, text)
            })
            .collect::<Result<_, _>>()?;
        anchors.insert(id.clone(), AnchorText { certificate, intermediates, window: keyless::window(&members)? });
    }
    Ok(anchors)
}

fn keys(top: &Members<'_>, seen: &mut Seen) -> Result<Vec<PolicyKey>, PolicyError> {
    let mut keys = Vec::new();
    for (name, value) in top.map("publickeys")? {
        let at = below(&top.at("publickeys"), name);
        let members = Members::read(&at, value, &["keyid", "key"], &[], seen)?;
        let id = members.text("keyid")?.filter(|id| !id.is_empty()).unwrap_or(name);
        let pem = members.base64("key")?.ok_or_else(|| PolicyError::Missing { at: members.at("key") })?;
        let key =
            PublicKey::from_file_bytes(&pem).map_err(|source| PolicyError::Key { at: members.at("key"), source })?;
        let is_reference = KEY_SERVICES.iter().any(|scheme| id.starts_with(scheme));
        if !is_reference && id != key.key_id() {
            let (said, computed) = (id.to_owned(), key.key_id().to_owned());
            return Err(PolicyError::KeyId { at: members.at("keyid"), said, computed });
        }
        keys.push(PolicyKey { id: id.to_owned(), key });
    }
    Ok(keys)
}

fn steps(top: &Members<'_>, seen: &mut Seen) -> Result<BTreeMap<String, Step>, PolicyError> {
    let mut steps = BTreeMap::new();
    for (key, value) in top.map("steps")? {
        let step = step(key, &below("steps", key), value, seen)?;
        steps.insert(key.clone(), step);
    }
    Ok(steps)
}

fn step(key: &str, at: &str, value: &Value, seen: &mut Seen) -> Result<Step, PolicyError> {
    let members = Members::read(
        at,
        value,
        &[
            "name",
            "functionaries",
            "attestations",
            "artifactsFrom",
            "attestationsFrom",
            "externalFrom",
            "allowedUntracked",
            "timestampConstraint",
        ],
        &["threshold", "exitcode", "commandRun", "perPlatform", "log", "sct", "timestamp", "certificateMatches"],
        seen,
    )?;
    let name = members.text("name")?.unwrap_or(key);
    if name != key {
        return Err(PolicyError::StepName { at: members.at("name"), name: name.to_owned(), key: key.to_owned() });
    }
    if name.contains('#') {
        return Err(PolicyError::Reserved { name: name.to_owned() });
    }
    let mut attestations = Vec::new();
    for (at, value) in members.list("attestations")? {
        attestations.push(requirement(&at, value, seen)?);
    }
    if attestations.is_empty() {
        seen.notes.push(format!("the step {name} asks for no attestation: no evidence can satisfy it"));
    }
    Ok(Step {
        name: name.to_owned(),
        functionaries: functionaries(&members, seen)?,
        threshold: threshold(&members)?,
        attestations,
        artifacts_from: members.texts("artifactsFrom")?,
        allowed_untracked: compiled(&members, "allowedUntracked", Glob::new)?,
        attestations_from: members.texts("attestationsFrom")?,
        external_from: members.texts("externalFrom")?,
        time: time_constraint(&members, seen)?,
        exit_codes: exit_codes(&members)?,
        command_optional: command_optional(&members)?,
        per_platform: members.flag("perPlatform")?.unwrap_or(false),
        demands: keyless::demands(&members)?,
        matches: keyless::matches(&members)?,
    })
}

fn threshold(members: &Members<'_>) -> Result<usize, PolicyError> {
    let threshold = members.number("threshold")?.unwrap_or(1);
    usize::try_from(threshold).ok().filter(|number| *number > 0).ok_or_else(|| PolicyError::Value {
        at: members.at("threshold"),
        reason: "a threshold is 1 or more".to_owned(),
    })
}

/// Members of `images`.
pub(super) const IMAGES: &[&str] = &[
    "functionaries",
    "threshold",
    "annotations",
    "names",
    "log",
    "sct",
    "timestamp",
    "timestampConstraint",
    "certificateMatches",
];

/// What is asked of an image; all members are ours.
fn images(top: &Members<'_>, seen: &mut Seen) -> Result<Option<Images>, PolicyError> {
    let Some(value) = top.get("images") else { return Ok(None) };
    let members = Members::read("images", value, &[], IMAGES, seen)?;
    let annotation = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Ok((name.clone(), text.clone())),
        _ => Err(PolicyError::Type { at: below("images.annotations", name), expected: "a text" }),
    };
    if let Some(Value::Object(asked)) = members.get("timestampConstraint")
        && let Some((name, _)) = asked.iter().find(|(_, value)| is_empty(value))
    {
        // In a step that is how the peers say none. Here nothing may be passed over.
        let at = below(&members.at("timestampConstraint"), name);
        return Err(PolicyError::Value { at, reason: "empty: leave it out if it asks for nothing".to_owned() });
    }
    let images = Images {
        functionaries: functionaries(&members, seen)?,
        threshold: threshold(&members)?,
        annotations: members.map("annotations")?.into_iter().map(annotation).collect::<Result<_, _>>()?,
        names: compiled(&members, "names", Glob::of_names)?,
        demands: keyless::demands(&members)?,
        time: time_constraint(&members, seen)?,
        matches: keyless::matches(&members)?,
    };
    if images.time.is_empty() && members.get("timestampConstraint").is_some() {
        let reason = "asks for nothing: leave it out if any time will do".to_owned();
        return Err(PolicyError::Value { at: members.at("timestampConstraint"), reason });
    }
    if images.functionaries.is_empty() {
        if members.get("functionaries").is_some() {
            let reason = "an empty list: leave it out if no signature is asked for".to_owned();
            return Err(PolicyError::Value { at: members.at("functionaries"), reason });
        }
        let without = [
            ("annotations", !images.annotations.is_empty()),
            ("threshold", members.get("threshold").is_some()),
            ("log", images.demands.log),
            ("sct", images.demands.sct),
            ("timestamp", images.demands.timestamp),
            ("timestampConstraint", !images.time.is_empty()),
            ("certificateMatches", !images.matches.is_empty()),
        ];
        // A demand without anybody who could meet it was meant to be one.
        if let Some((name, _)) = without.into_iter().find(|(_, is_there)| *is_there) {
            let reason = "asks something of signatures, and `images.functionaries` names nobody".to_owned();
            return Err(PolicyError::Value { at: members.at(name), reason });
        }
        if images.names.is_empty() {
            return Err(PolicyError::Missing { at: members.at("functionaries") });
        }
    }
    Ok(Some(images))
}

fn compiled(
    members: &Members<'_>,
    name: &str,
    compile: impl Fn(&str) -> Result<Glob, GlobError>,
) -> Result<Vec<Glob>, PolicyError> {
    let glob = |(index, pattern): (usize, String)| {
        compile(&pattern).map_err(|source| PolicyError::Glob { at: format!("{}[{index}]", members.at(name)), source })
    };
    members.texts(name)?.into_iter().enumerate().map(glob).collect()
}

fn exit_codes(members: &Members<'_>) -> Result<Vec<i64>, PolicyError> {
    let wrong = || PolicyError::Type { at: members.at("exitcode"), expected: "an exit code or a list of them" };
    match members.get("exitcode") {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) if !list.is_empty() => {
            list.iter().map(|value| value.as_i64().ok_or_else(wrong)).collect()
        }
        Some(value) => Ok(vec![value.as_i64().ok_or_else(wrong)?]),
    }
}

fn command_optional(members: &Members<'_>) -> Result<bool, PolicyError> {
    match members.text("commandRun")? {
        None | Some("required") => Ok(false),
        Some("optional") => Ok(true),
        Some(_) => Err(PolicyError::Type { at: members.at("commandRun"), expected: "`required` or `optional`" }),
    }
}

fn time_constraint(members: &Members<'_>, seen: &mut Seen) -> Result<TimeConstraint, PolicyError> {
    let Some(value) = members.get("timestampConstraint") else { return Ok(TimeConstraint::default()) };
    let at = members.at("timestampConstraint");
    let members = Members::read(&at, value, &["notBefore", "notAfter", "maxAge"], &[], seen)?;
    Ok(TimeConstraint {
        not_before: members.time("notBefore")?,
        not_after: members.time("notAfter")?,
        max_age: members.duration("maxAge")?,
    })
}

fn functionaries(members: &Members<'_>, seen: &mut Seen) -> Result<Vec<Functionary>, PolicyError> {
    let mut functionaries = Vec::new();
    for (at, value) in members.list("functionaries")? {
        let members = Members::read(&at, value, &["type", "publickeyid", "certConstraint"], &[], seen)?;
        let key_id = members.text("publickeyid")?.filter(|id| !id.is_empty()).map(str::to_owned);
        // Go writes an empty constraint beside a key id.
        let constraint = members.get("certConstraint").filter(|value| !is_empty(value)).cloned();
        if key_id.is_none() && constraint.is_none() {
            seen.notes.push(format!("{at} names neither a key nor a certificate: nobody is this functionary"));
        }
        functionaries.push(Functionary { key_id, constraint, at });
    }
    Ok(functionaries)
}

/// Whether there is nothing in it: what Go writes for a constraint that was not given.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn requirement(at: &str, value: &Value, seen: &mut Seen) -> Result<Requirement, PolicyError> {
    let members = Members::read(at, value, &["type", "regopolicies", "aipolicies"], &["maxAge"], seen)?;
    refuse_ai(&members)?;
    Ok(Requirement {
        kind: members.require_text("type")?.to_owned(),
        modules: modules(&members, seen)?,
        max_age: own_duration(&members, "maxAge")?,
        at: at.to_owned(),
    })
}

/// A duration of ours: empty is no way to say that there is none.
fn own_duration(members: &Members<'_>, name: &str) -> Result<Option<SignedDuration>, PolicyError> {
    match members.duration(name)? {
        None if members.get(name).is_some() => {
            Err(PolicyError::Value { at: members.at(name), reason: "is empty".to_owned() })
        }
        duration => Ok(duration),
    }
}

/// A rule that is asked of a language model cannot be judged here, and must not be left out either.
fn refuse_ai(members: &Members<'_>) -> Result<(), PolicyError> {
    if members.list("aipolicies")?.is_empty() {
        return Ok(());
    }
    let reason = "such rules cannot be judged here; write them in Rego".to_owned();
    Err(PolicyError::Value { at: members.at("aipolicies"), reason })
}

fn modules(members: &Members<'_>, seen: &mut Seen) -> Result<Vec<RegoModule>, PolicyError> {
    let mut modules = Vec::new();
    for (at, value) in members.list("regopolicies")? {
        let members = Members::read(&at, value, &["name", "module"], &[], seen)?;
        let text = members.base64("module")?.ok_or_else(|| PolicyError::Missing { at: members.at("module") })?;
        let text = String::from_utf8(text)
            .map_err(|_| PolicyError::Value { at: members.at("module"), reason: "not UTF-8".to_owned() })?;
        let name = members.text("name")?.filter(|name| !name.is_empty()).unwrap_or(&at).to_owned();
        modules.push(RegoModule { name, text });
    }
    Ok(modules)
}

fn external(top: &Members<'_>, seen: &mut Seen) -> Result<BTreeMap<String, External>, PolicyError> {
    let mut external = BTreeMap::new();
    for (key, value) in top.map("externalAttestations")? {
        let at = below("externalAttestations", key);
        let members = Members::read(
            &at,
            value,
            &["name", "predicateType", "functionaries", "regopolicies", "aipolicies", "required"],
            &["log", "sct", "timestamp"],
            seen,
        )?;
        refuse_ai(&members)?;
        let name = members.text("name")?.unwrap_or(key);
        if name != key {
            return Err(PolicyError::StepName { at: members.at("name"), name: name.to_owned(), key: key.clone() });
        }
        let entry = External {
            name: name.to_owned(),
            predicate_type: members.require_text("predicateType")?.to_owned(),
            functionaries: functionaries(&members, seen)?,
            modules: modules(&members, seen)?,
            required: members.flag("required")?.unwrap_or(true),
            demands: keyless::demands(&members)?,
        };
        external.insert(key.clone(), entry);
    }
    Ok(external)
}
