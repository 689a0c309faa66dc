//! Rules as OPA evaluates them, and as they judge here: `fixtures/rego`.

use std::collections::BTreeMap;

use affiant_core::rego::{Cause, Limits, Module, Rules};
use serde_json::{Value, json};

fn read(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/rego").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("the table is JSON")
}

/// What the rules of a row say, in the words of the table: reasons, or what is wrong.
fn ours(row: &Value) -> Vec<String> {
    let texts = row["modules"].as_array().expect("modules");
    let modules: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(number, text)| Module {
            name: format!("{number}.rego"),
            text: text.as_array().expect("lines").iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"),
        })
        .collect();
    let rules = match Rules::compile(&modules) {
        Ok(rules) => rules,
        Err(error) => return vec![format!("refused: {error}")],
    };
    let limits = Limits::at("2023-11-14T22:13:20Z".parse().expect("a time"));
    match rules.judge(&row["input"], &limits) {
        Ok(judgement) => judgement
            .denials
            .into_iter()
            .map(|denial| match denial.cause {
                Cause::Rule => denial.message,
                Cause::Missing { reference, .. } => format!("missing: {reference}"),
                _ => format!("error: {}", denial.message),
            })
            .collect(),
        Err(error) => vec![format!("error: {error}")],
    }
}

/// What ours would be if it said what OPA does.
fn as_opa(answer: &Value) -> Result<Vec<String>, &'static str> {
    let text = |value: &Value| value.as_str().map_or_else(|| whole(value.clone()).to_string(), str::to_owned);
    match &answer["deny"] {
        Value::Array(reasons) => Ok(reasons.iter().map(text).collect()),
        Value::Object(reasons) => Ok(reasons.keys().cloned().collect()),
        _ if answer["error"].is_string() => Err("an error"),
        Value::Null if answer["undefined"] == json!(true) => Err("undefined"),
        _ => Err("no set"),
    }
}

/// Numbers like `1000.0` as `1000`: it is one number.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e15 && !number.is_i64());
            float.map_or(Value::Number(number), |float| {
                format!("{float:.0}").parse::<i64>().map_or(Value::Null, Value::from)
            })
        }
        Value::Array(items) => items.into_iter().map(whole).collect(),
        Value::Object(members) => members.into_iter().map(|(key, value)| (key, whole(value))).collect(),
        other => other,
    }
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

#[test]
fn rules_say_what_opa_says() {
    let (table, answers) = (read("table.json"), read("opa.json"));
    let mut wrong = BTreeMap::new();
    for row in table.as_array().expect("rows") {
        let name = row["name"].as_str().expect("a name");
        let ours = sorted(ours(row));
        let opa = as_opa(&answers[name]);
        let fits = match (&row["ours"], opa) {
            (Value::Null, Ok(opa)) => ours == sorted(opa),
            // Where OPA has no list of reasons, we deny and say so.
            (Value::Null, Err(_)) => {
                !ours.is_empty() && ours.iter().all(|text| text.starts_with("error: ") || text.starts_with("refused: "))
            }
            // A row that says the same as OPA needs no reason of its own.
            (expected, opa) => {
                let differs = opa.map_or(true, |opa| ours != sorted(opa));
                json!(ours) == *expected && row["why"].is_string() && differs
            }
        };
        if !fits {
            wrong.insert(name, json!({ "ours": ours, "opa": answers[name] }));
        }
    }
    assert!(wrong.is_empty(), "{}", serde_json::to_string_pretty(&wrong).expect("JSON"));
}
