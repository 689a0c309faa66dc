//! Golden cases of `pins`: `fixtures/pins/<case>/` holds a repository and what was made of it.
//!
//! * `repository/` – the files, as they are
//! * `case.json` – optional: `command`, `env` (`{root}` stands for the repository), `dir` (where the command runs)
//! * `expected.txt` – one line for each reference and gap; written anew with `AFFIANT_BLESS=1`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use affiant_attestors::BUILT_IN;
use affiant_core::attestor::{Attestor, Before, Environment, Found, Outcome, Predicate, Prepared};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Case {
    command: Vec<String>,
    env: BTreeMap<String, String>,
    dir: String,
}

fn attestor() -> &'static Attestor {
    BUILT_IN.iter().find(|entry| entry.about.name == "pins").expect("a built-in attestor")
}

fn world(root: &Path, case: &Case) -> Before {
    let root_text = root.to_str().expect("UTF-8");
    let env = case.env.iter().map(|(name, value)| (name.clone(), value.replace("{root}", root_text))).collect();
    Before {
        step: "build".into(),
        dir: root.join(&case.dir),
        env: Arc::new(Environment(env)),
        command: case.command.iter().map(Into::into).collect(),
        ..Before::default()
    }
}

fn run(world: &Before) -> Outcome {
    match attestor().prepare(json!({}), world).expect("options").0 {
        Prepared::Before(attest) => attest(world),
        Prepared::After(_) => panic!("pins runs before the command"),
    }
}

/// The predicate; what was not read stands in the gaps of the run as well.
#[track_caller]
fn predicate(outcome: Outcome) -> Value {
    let Ok(Found::Evidence { mut pieces, shortfalls }) = outcome else { panic!("no evidence: {outcome:?}") };
    assert_eq!(pieces.len(), 1);
    let Predicate::Composed(value) = pieces.remove(0).predicate else { panic!("composed") };
    assert_eq!(shortfalls.len(), value["gaps"].as_array().map_or(0, Vec::len), "{shortfalls:?}");
    value
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// One line for each thing.
fn told(predicate: &Value) -> String {
    let mut out = String::new();
    for file in predicate["files"].as_array().expect("a list") {
        let _ = writeln!(out, "read {}", text(file, "path"));
    }
    for pin in predicate["pins"].as_array().expect("a list") {
        let _ = write!(out, "{}:{} {} {}", text(pin, "file"), pin["line"], text(pin, "kind"), text(pin, "reference"));
        if pin["expanded"].is_string() {
            let _ = write!(out, " = {}", text(pin, "expanded"));
        }
        let _ = match pin["pinned"].as_bool() {
            Some(true) => write!(out, " PINNED by {}", text(pin, "by")),
            _ if pin["dynamic"] == true => write!(out, " dynamic"),
            _ => write!(out, " not pinned"),
        };
        for (name, value) in pin["digest"].as_object().into_iter().flatten() {
            let _ = write!(out, " {name}:{}…", &value.as_str().expect("hex")[..6]);
        }
        for name in ["publisher", "version", "why"] {
            if pin[name].is_string() {
                let _ = write!(out, "; {name} {}", text(pin, name));
            }
        }
        out.push('\n');
    }
    for gap in predicate["gaps"].as_array().into_iter().flatten() {
        let _ =
            writeln!(out, "GAP {} {}:{} {}", text(gap, "kind"), text(gap, "file"), gap["line"], text(gap, "reason"));
    }
    out
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/pins").canonicalize().expect("fixtures");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("fixtures").map(|entry| entry.expect("a case").path()).collect();
    cases.sort();
    assert!(cases.len() >= 4, "too few cases");
    cases
}

/// A copy of a case's repository in a folder of its own: around the fixture is a repository, too.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[test]
fn cases_are_as_recorded() {
    let bless = std::env::var_os("AFFIANT_BLESS").is_some();
    let mut wrong = String::new();
    for folder in cases() {
        let case: Case = match std::fs::read(folder.join("case.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).expect("case.json"),
            Err(_) => Case::default(),
        };
        let place = tempfile::tempdir().expect("a folder");
        let root = place.path().canonicalize().expect("a folder").join("repository");
        copy(&folder.join("repository"), &root);
        let world = world(&root, &case);
        let found = predicate(run(&world));
        assert_eq!(found, predicate(run(&world)), "{}: two runs differ", folder.display());
        let text = told(&found).replace(root.to_str().expect("UTF-8"), "{root}");
        let expected = folder.join("expected.txt");
        if bless {
            std::fs::write(&expected, &text).expect("writes");
        }
        if std::fs::read_to_string(&expected).unwrap_or_default() != text {
            let _ = writeln!(wrong, "{}: differs from expected.txt; it is now:\n{text}", folder.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
