//! Evidence as the interpreter's values, and its values as reasons.

use regorus::Value;

use super::check::Package;
use super::{Cause, Denial, MAX_DENIALS, MAX_INPUT_DEPTH, MAX_REASON, RegoError, builtins};

/// Evidence as `input`.
pub(super) fn input(evidence: &serde_json::Value) -> Result<Value, RegoError> {
    if depth_exceeds(evidence, MAX_INPUT_DEPTH) {
        return Err(RegoError::DeepInput);
    }
    Ok(convert(evidence))
}

fn depth_exceeds(value: &serde_json::Value, limit: usize) -> bool {
    let mut waiting = vec![(value, 1)];
    while let Some((value, depth)) = waiting.pop() {
        if depth > limit {
            return true;
        }
        match value {
            serde_json::Value::Array(items) => waiting.extend(items.iter().map(|item| (item, depth + 1))),
            serde_json::Value::Object(members) => waiting.extend(members.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    false
}

fn convert(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        // The text of a number is a number to the interpreter as well.
        Json::Number(value) => Value::from_numeric_string(&value.to_string()).unwrap_or(Value::Undefined),
        Json::String(value) => Value::from(value.as_str()),
        Json::Array(items) => Value::from(items.iter().map(convert).collect::<Vec<_>>()),
        Json::Object(members) => {
            let members = members.iter().map(|(name, value)| (Value::from(name.as_str()), convert(value)));
            Value::from(members.collect::<std::collections::BTreeMap<_, _>>())
        }
    }
}

/// What the value of `deny` says.
pub(super) fn denials(package: &Package, deny: &Value) -> Vec<Denial> {
    let reason = |value: &Value| package.denial(text(value), Cause::Rule);
    let mut found: Vec<Denial> = match deny {
        Value::Set(reasons) => reasons.iter().take(MAX_DENIALS + 1).map(reason).collect(),
        Value::Array(reasons) => reasons.iter().take(MAX_DENIALS + 1).map(reason).collect(),
        Value::Object(reasons) => reasons.iter_sorted().take(MAX_DENIALS + 1).map(|(key, _)| reason(key)).collect(),
        Value::Undefined => {
            let message = format!("deny of package {} is undefined: no statement about the evidence", package.name);
            vec![package.denial(message, Cause::Undefined)]
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            vec![not_a_set(package, scalar(deny))]
        }
    };
    if found.len() > MAX_DENIALS {
        found.truncate(MAX_DENIALS);
        let message = format!("package {} has more than {MAX_DENIALS} reasons", package.name);
        found.push(package.denial(message, Cause::Rule));
    }
    found
}

/// `deny` is something that cannot hold reasons.
pub(super) fn not_a_set(package: &Package, found: String) -> Denial {
    let message = format!("deny of package {} is {found}, not a set of reasons", package.name);
    package.denial(message, Cause::NotASet { found })
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(_) => format!("the number {}", text(value)),
        _ => format!("the string {value}"),
    }
}

/// A reason as text: a string as it is, everything else as JSON.
fn text(value: &Value) -> String {
    if builtins::text_exceeds(value, MAX_REASON) {
        return format!("a reason of more than {MAX_REASON} bytes");
    }
    match value {
        Value::String(text) => text.to_string(),
        other => serde_json::to_string(other).unwrap_or_else(|error| format!("a value that is no JSON: {error}")),
    }
}
