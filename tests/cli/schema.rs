//! Whether a document fits a JSON schema: as much of draft 2020-12 as our schemas use.

use serde_json::Value;

/// What of `value` does not fit `schema`. Knows the words that our schemas use, and refuses others.
pub(crate) fn misfits(schema: &Value, whole: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let Some(members) = schema.as_object() else {
        if schema == &Value::Bool(false) {
            found.push(format!("{at}: may not be there"));
        }
        return;
    };
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    };
    for (word, wanted) in members {
        match word.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" | "pattern" | "contentEncoding" | "format" => {}
            "type" => {
                let fits = match wanted {
                    Value::Array(list) => list.iter().filter_map(Value::as_str).any(is),
                    one => is(one.as_str().expect("a type")),
                };
                if !fits {
                    found.push(format!("{at}: is not {wanted}"));
                }
            }
            "enum" => {
                if !wanted.as_array().expect("a list").contains(value) {
                    found.push(format!("{at}: {value} is none of {wanted}"));
                }
            }
            "const" if value == wanted => {}
            "const" => found.push(format!("{at}: {value} is not {wanted}")),
            "required" => {
                for name in wanted.as_array().expect("a list").iter().filter_map(Value::as_str) {
                    if value.is_object() && value.get(name).is_none() {
                        found.push(format!("{at}: `{name}` is missing"));
                    }
                }
            }
            "properties" => {
                for (name, inner) in wanted.as_object().expect("an object") {
                    if let Some(value) = value.get(name) {
                        misfits(inner, whole, value, &format!("{at}/{name}"), found);
                    }
                }
            }
            "additionalProperties" => {
                let known = members.get("properties").and_then(Value::as_object);
                for (name, value) in value.as_object().into_iter().flatten() {
                    if known.is_none_or(|known| !known.contains_key(name)) {
                        misfits(wanted, whole, value, &format!("{at}/{name}"), found);
                    }
                }
            }
            "items" => {
                for (number, value) in value.as_array().into_iter().flatten().enumerate() {
                    misfits(wanted, whole, value, &format!("{at}/{number}"), found);
                }
            }
            "$ref" => {
                let pointer = wanted.as_str().expect("a reference").trim_start_matches('#');
                misfits(whole.pointer(pointer).expect("what is referred to"), whole, value, at, found);
            }
            "minProperties" | "minItems" | "minLength" => {
                let least = wanted.as_u64().expect("a number");
                let length = match value {
                    Value::Object(members) => members.len(),
                    Value::Array(items) => items.len(),
                    Value::String(text) => text.chars().count(),
                    _ => continue,
                };
                if (length as u64) < least {
                    found.push(format!("{at}: fewer than {least}"));
                }
            }
            "minimum" => {
                if value.as_f64().is_some_and(|number| number < wanted.as_f64().expect("a number")) {
                    found.push(format!("{at}: {value} is less than {wanted}"));
                }
            }
            "oneOf" | "anyOf" => {
                let fitting = wanted.as_array().expect("a list").iter().filter(|schema| {
                    let mut inner = Vec::new();
                    misfits(schema, whole, value, at, &mut inner);
                    inner.is_empty()
                });
                let count = fitting.count();
                if count == 0 || (word == "oneOf" && count > 1) {
                    found.push(format!("{at}: fits {count} of the forms"));
                }
            }
            other => panic!("the schema's word `{other}` is not known here"),
        }
    }
}

#[track_caller]
pub(crate) fn fits(schema: &Value, value: &Value, what: &str) {
    let mut found = Vec::new();
    misfits(schema, schema, value, "", &mut found);
    assert!(found.is_empty(), "{what}: {found:#?}\n{value:#}");
}
