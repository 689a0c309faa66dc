//! What rules see of evidence that nobody has checked: for trying rules, never for a verdict.

use std::path::Path;

use affiant_core::evidence::{EntryView, Statement, input, kinds};
use affiant_core::policy::{RegoModule, Step};
use affiant_core::rego::Module;
use affiant_core::statement::PAYLOAD_TYPE;
use affiant_core::verify::open_envelope;
use serde_json::{Map, Value};

use crate::cli::failure::{Failure, Kind};

/// An attestation of a file, or a statement that is one by itself.
pub(super) struct Seen {
    /// The step of its collection.
    pub(super) step: Option<String>,
    pub(super) kind: String,
    predicate: String,
}

impl Seen {
    /// The document that rules see where a policy asks for `wanted`.
    pub(super) fn input(&self, wanted: &str) -> Result<Value, Failure> {
        let fault = |error: &dyn std::error::Error| {
            Failure::because(Kind::NoAnswer, format!("the attestation {} cannot be shown to rules", self.kind), error)
        };
        let attestation = serde_json::from_str(&self.predicate).map_err(|error| fault(&error))?;
        let (starttime, endtime) = (String::new(), String::new());
        let entry = EntryView { kind: self.kind.clone(), attestation, starttime, endtime };
        let text = input::present(&entry, wanted).map_err(|error| fault(&error))?;
        serde_json::from_str(text.get()).map_err(|error| fault(&error))
    }
}

/// The attestations in the bytes of an envelope, or of JSON lines of them.
pub(super) fn seen(label: &Path, bytes: &[u8]) -> Result<Vec<Seen>, Failure> {
    let unreadable = |error: &dyn std::error::Error| {
        Failure::because(Kind::NoAnswer, format!("{} is no evidence", label.display()), error)
    };
    let envelopes = match open_envelope(bytes) {
        Ok(envelope) => vec![envelope],
        Err(error) => {
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            lines.map(open_envelope).collect::<Result<Vec<_>, _>>().map_err(|_| unreadable(&error))?
        }
    };
    let mut all = Vec::new();
    for envelope in envelopes {
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(Failure::new(
                Kind::NoAnswer,
                format!("{} is no evidence: its payload type is `{}`", label.display(), envelope.payload_type),
            ));
        }
        let statement = Statement::parse_strict(&envelope.payload).map_err(|error| unreadable(&error))?;
        match statement.collection() {
            None => all.push(Seen {
                step: None,
                kind: statement.predicate_type.clone(),
                predicate: statement.predicate.get().to_owned(),
            }),
            Some(collection) => {
                let collection = collection.map_err(|error| unreadable(&error))?;
                all.extend(collection.attestations.into_iter().map(|entry| Seen {
                    step: Some(collection.name.clone()),
                    kind: entry.kind,
                    predicate: entry.attestation.get().to_owned(),
                }));
            }
        }
    }
    Ok(all)
}

/// What a step's rules see: the attestation, or the document with those of other steps beside it.
pub(super) fn wrapped(step: &Step, own: Value, all: &[Seen]) -> Result<Value, Failure> {
    if step.attestations_from.is_empty() && step.external_from.is_empty() {
        return Ok(own);
    }
    let mut steps = Map::new();
    for name in &step.attestations_from {
        let mut predicates = Map::new();
        for seen in all.iter().filter(|seen| seen.step.as_ref() == Some(name)) {
            if !predicates.contains_key(&seen.kind) {
                predicates.insert(seen.kind.clone(), seen.input(&seen.kind)?);
            }
        }
        steps.insert(name.clone(), Value::Object(predicates));
    }
    let mut document = Map::new();
    document.insert("attestation".to_owned(), own);
    document.insert("steps".to_owned(), Value::Object(steps));
    Ok(Value::Object(document))
}

/// Whether evidence of type `kind` is what `wanted` asks for: a type, or its short name.
pub(super) fn is_kind(wanted: &str, kind: &str) -> bool {
    kinds::same(wanted, kind)
        || affiant_core::evidence::short_name(kind) == wanted
        || affiant_core::policy::source::short_type(kind) == wanted
}

/// A policy's modules as the interpreter takes them.
pub(super) fn modules(list: &[RegoModule]) -> Vec<Module> {
    list.iter().map(|one| Module { name: one.name.clone(), text: one.text.clone() }).collect()
}
