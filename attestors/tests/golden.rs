//! Golden cases: `fixtures/<attestor>/<case>/` holds the products that a command left behind, what the command and
//! the engine said, and what the attestor made of it.
//!
//! * `products/` – the files, as they are
//! * `case.json` – optional: `command`, `options`, `success`, `engine` (path to answer)
//! * `peer.json` – optional: type, predicate and subjects that witness or cilock recorded for the same files
//! * `expected.json` – the outcome; written anew with `AFFIANT_BLESS=1`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use affiant_attestors::BUILT_IN;
use affiant_core::attestor::{
    After, Before, Engine, EngineError, Environment, Evidence, Found, Host, Outcome, Place, Predicate, Prepared,
};
use affiant_core::digest::{DigestSet, sha256_hex};
use affiant_core::product::{Change, Product, Products};
use affiant_core::statement::Subject;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Case {
    command: Vec<String>,
    options: Value,
    success: bool,
    engine: Option<BTreeMap<String, Value>>,
}

impl Default for Case {
    fn default() -> Self {
        Self { command: Vec::new(), options: json!({}), success: true, engine: None }
    }
}

#[derive(Deserialize)]
struct Peer {
    /// Members and kinds of subjects that differ, because the recorded tar was packed again.
    #[serde(default)]
    except: Vec<String>,
    predicate: serde_json::Map<String, Value>,
    subjects: Vec<Subject>,
}

struct Recorded(BTreeMap<String, Value>);

impl Engine for Recorded {
    fn endpoint(&self) -> String {
        "unix:///run/docker.sock".into()
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.0.get(path).map(|answer| answer.to_string().into_bytes()))
    }
}

/// The MIME type as the snapshot finds it (wire-formats §4.5).
fn mime(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(3072)];
    let mime = mimetype_detector::detect(head).mime().to_owned();
    if mime.starts_with("application/json") {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(500)]).into_owned();
        let has = |texts: [&str; 2]| texts.iter().any(|text| start.contains(text));
        if has(["\"bomFormat\":\"CycloneDX\"", "\"bomFormat\": \"CycloneDX\""]) {
            return "application/vnd.cyclonedx+json".into();
        }
        if has(["\"spdxVersion\":\"SPDX-", "\"spdxVersion\": \"SPDX-"]) {
            return "application/spdx+json".into();
        }
    }
    mime
}

fn walk(root: &Path, folder: &Path, list: &mut Vec<Product>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder of the fixture").path();
        if path.is_dir() {
            walk(root, &path, list);
            continue;
        }
        let bytes = std::fs::read(&path).expect("a file of the fixture");
        list.push(Product {
            path: path.strip_prefix(root).expect("below the root").to_str().expect("UTF-8").to_owned(),
            mime: mime(&bytes),
            digests: DigestSet::sha256_hex(sha256_hex(&bytes)),
            length: bytes.len() as u64,
            change: Change::New,
        });
    }
}

fn run(attestor: &str, folder: &Path) -> Outcome {
    let case: Case = match std::fs::read(folder.join("case.json")) {
        Ok(bytes) => serde_json::from_slice(&bytes).expect("case.json"),
        Err(_) => Case::default(),
    };
    let root = folder.join("products");
    let mut list = Vec::new();
    walk(&root, &root, &mut list);
    let before = Before {
        step: "build".into(),
        dir: root.clone(),
        env: Arc::new(Environment::default()),
        mask: Arc::default(),
        host: Host::default(),
        command: case.command.iter().map(Into::into).collect(),
        ..Before::default()
    };
    let world = After {
        before: Arc::new(before),
        products: Arc::new(Products::new(root, list)),
        success: case.success,
        heard: Arc::default(),
        engine: case.engine.map(|answers| Arc::new(Recorded(answers)) as Arc<dyn Engine>),
    };
    let entry = BUILT_IN.iter().find(|entry| entry.about.name == attestor).expect("a built-in attestor");
    match entry.prepare(case.options, &world.before).expect("options").0 {
        Prepared::After(attest) => attest(&world),
        Prepared::Before(_) | Prepared::Whole(_) => panic!("{attestor} does not run after the command"),
    }
}

fn piece(evidence: &Evidence) -> Value {
    let predicate = match &evidence.predicate {
        Predicate::Composed(value) => value.clone(),
        Predicate::Verbatim(text) | Predicate::Masked(text) => serde_json::from_str(text.get()).expect("JSON"),
    };
    json!({
        "predicateType": evidence.predicate_type,
        "verbatim": matches!(evidence.predicate, Predicate::Verbatim(_)),
        "place": match evidence.place { Place::Collection => "collection", Place::OwnEnvelope => "own envelope", Place::Exported => "exported" },
        "subjects": evidence.subjects,
        "backReferences": evidence.back_references,
        "predicate": predicate,
    })
}

fn told(outcome: &Outcome) -> Value {
    match outcome {
        Ok(Found::Evidence { pieces, shortfalls }) => {
            json!({"pieces": pieces.iter().map(piece).collect::<Vec<_>>(), "shortfalls": shortfalls})
        }
        Ok(Found::Nothing(reason)) => json!({"nothing": reason}),
        Err(error) => json!({"error": error.to_string()}),
    }
}

/// What a peer recorded of the same files stands in ours, member by member.
fn compare(peer: &Peer, outcome: &Outcome) -> Result<(), String> {
    let Ok(Found::Evidence { pieces, .. }) = outcome else { return Err("no evidence".into()) };
    let ours = piece(&pieces[0]);
    for (name, value) in &peer.predicate {
        // cilock puts this member into the document.
        if name != "_sbomFormat" && !peer.except.contains(name) && ours["predicate"][name] != *value {
            return Err(format!("predicate.{name}: peer has {value}, we have {}", ours["predicate"][name]));
        }
    }
    for subject in &peer.subjects {
        let excepted = peer.except.iter().any(|kind| subject.name.starts_with(&format!("{kind}:")));
        if !excepted && !pieces[0].subjects.contains(subject) {
            return Err(format!("the peer's subject {} is missing", subject.name));
        }
    }
    Ok(())
}

fn cases(attestor: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(attestor);
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("fixtures").map(|entry| entry.expect("a case").path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    assert!(cases.len() >= 2, "too few cases of {attestor}");
    cases
}

fn check(attestor: &str) {
    let bless = std::env::var_os("AFFIANT_BLESS").is_some();
    let mut wrong = String::new();
    for folder in cases(attestor) {
        let outcome = run(attestor, &folder);
        let text = serde_json::to_string_pretty(&told(&outcome)).expect("JSON") + "\n";
        let expected = folder.join("expected.json");
        if bless {
            std::fs::write(&expected, &text).expect("writes");
        }
        // The text, not the value: the order of members counts.
        if std::fs::read_to_string(&expected).unwrap_or_default() != text {
            let _ = writeln!(wrong, "{}: differs from expected.json; it is now:\n{text}", folder.display());
        }
        if let Ok(bytes) = std::fs::read(folder.join("peer.json")) {
            let peer: Peer = serde_json::from_slice(&bytes).expect("peer.json");
            if let Err(reason) = compare(&peer, &outcome) {
                let _ = writeln!(wrong, "{}: {reason}", folder.display());
            }
        }
        let again = serde_json::to_string_pretty(&told(&run(attestor, &folder))).expect("JSON") + "\n";
        if again != text {
            let _ = writeln!(wrong, "{}: two runs differ", folder.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn docker() {
    check("docker");
}

#[test]
fn oci() {
    check("oci");
}

#[test]
fn sbom() {
    check("sbom");
}

/// What buildx says of an image in its metadata is what we find in the archive that it wrote.
#[test]
fn metadata_and_archive_agree() {
    let mut compared = 0;
    for folder in cases("oci") {
        if !folder.join("products/out/metadata.json").exists() {
            continue;
        }
        let subjects = |attestor: &str, kinds: &[&str]| -> Vec<String> {
            let Ok(Found::Evidence { pieces, .. }) = run(attestor, &folder) else { panic!("{}", folder.display()) };
            let all = pieces.iter().flat_map(|piece| &piece.subjects).map(|subject| subject.name.clone());
            all.filter(|name| kinds.iter().any(|kind| name.starts_with(kind))).collect()
        };
        let archive = subjects("oci", &["imagedigest:", "imageid:"]);
        for name in subjects("docker", &["imagedigest:", "imageid:"]) {
            assert!(archive.contains(&name), "{}: {name} is not in {archive:?}", folder.display());
            compared += 1;
        }
    }
    assert!(compared >= 10, "{compared}");
}

#[test]
fn schemas_are_json_objects() {
    for attestor in BUILT_IN {
        let schema: Value = serde_json::from_str(attestor.about.schema).expect("the schema is JSON");
        assert_eq!(schema["type"], "object", "{}", attestor.about.name);
    }
}
