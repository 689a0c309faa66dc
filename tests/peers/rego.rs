//! OPA itself on the rules of `fixtures/rego/table.json`: the recorded answers are what it says.
//!
//! `AFFIANT_BLESS=1` writes them anew.

use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::harness::need;

/// What OPA says about a row: the value of `deny`, nothing, or its first complaint.
fn ask(opa: &Path, row: &Value) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(opa);
    command.current_dir(&folder).args(["eval", "--format", "json", "--strict-builtin-errors", "--input", "input.json"]);
    if row["v0"] == true {
        command.arg("--v0-compatible");
    }
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writes a file");
    write("input.json", &row["input"].to_string());
    let lines = |module: &Value| {
        let lines = module.as_array().expect("lines").iter().filter_map(Value::as_str);
        lines.collect::<Vec<_>>().join("\n")
    };
    let modules: Vec<String> = row["modules"].as_array().expect("modules").iter().map(lines).collect();
    for (number, text) in modules.iter().enumerate() {
        write(&format!("{number}.rego"), text);
        command.arg("--data").arg(format!("{number}.rego"));
    }
    let (_, package) = modules[0].split_once("package ").expect("a package");
    let package = package.lines().next().expect("a name").trim();
    let output = command.arg(format!("data.{package}.deny")).output().expect("opa runs");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("opa writes JSON");
    let complaint = answer["errors"][0]["message"].as_str();
    match (complaint, answer["result"].is_array()) {
        (Some(complaint), _) => json!({ "error": complaint }),
        (None, true) => json!({ "deny": answer["result"][0]["expressions"][0]["value"] }),
        (None, false) => json!({ "undefined": true }),
    }
}

#[test]
fn opa_says_what_is_recorded() {
    need!("opa");
    let opa = Path::new(&std::env::var_os("AFFIANT_PEERS_BIN").expect("the peers' folder")).join("opa");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rego");
    let read = |name: &str| std::fs::read_to_string(fixtures.join(name)).expect("a fixture");
    let table: Value = serde_json::from_str(&read("table.json")).expect("JSON");
    let asked: Vec<&Value> =
        table.as_array().expect("rows").iter().filter(|row| row["opa"] != Value::Bool(false)).collect();
    let name = |row: &Value| row["name"].as_str().expect("a name").to_owned();
    let answers: Map<String, Value> = asked.iter().map(|row| (name(row), ask(&opa, row))).collect();
    assert_eq!(answers.len(), asked.len(), "two rows have one name");
    if std::env::var_os("AFFIANT_BLESS").is_some() {
        // One line for each row.
        let lines: Vec<String> = answers.iter().map(|(name, answer)| format!("{}: {answer}", json!(name))).collect();
        let text = format!("{{\n{}\n}}\n", lines.join(",\n"));
        std::fs::write(fixtures.join("opa.json"), text).expect("writes the answers");
    } else {
        let recorded: Map<String, Value> = serde_json::from_str(&read("opa.json")).expect("JSON");
        let changed: Vec<_> = answers.iter().filter(|(name, answer)| recorded.get(*name) != Some(answer)).collect();
        assert!(changed.is_empty() && recorded.len() == answers.len(), "OPA says otherwise: {changed:#?}");
    }
}
