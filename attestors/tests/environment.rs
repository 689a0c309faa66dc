//! The attestor `environment`, compared with what witness recorded for the same variables.

use std::sync::Arc;

use affiant_attestors::BUILT_IN;
use affiant_core::attestor::{Before, Environment, Found, Host, Place, Predicate, Prepared};
use affiant_core::redact::{MaskOptions, VariableMask};
use serde_json::{Value, json};

fn world(variables: &[(&str, &str)], mask: &MaskOptions) -> Before {
    Before {
        step: "build".into(),
        dir: "/".into(),
        env: Arc::new(Environment(variables.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect())),
        mask: Arc::new(VariableMask::new(mask).expect("the patterns of this test are valid")),
        host: Host { hostname: "vm".into(), username: "root".into() },
        command: Vec::new(),
        ..Before::default()
    }
}

fn predicate(world: &Before) -> Value {
    let attestor = BUILT_IN.iter().find(|attestor| attestor.about.name == "environment").expect("it is built in");
    assert!((attestor.called_for)(world).is_some(), "it runs by default");
    let Ok((Prepared::Before(run), _)) = attestor.prepare(json!({}), &Before::default()) else {
        panic!("it runs before the command")
    };
    let Ok(Found::Evidence { mut pieces, shortfalls }) = run(world) else { panic!("there is always an environment") };
    assert!(shortfalls.is_empty() && pieces.len() == 1);
    let piece = pieces.remove(0);
    assert!(piece.subjects.is_empty() && piece.back_references.is_empty());
    assert_eq!(piece.place, Place::Collection);
    assert_eq!(piece.predicate_type, "https://witness.dev/attestations/environment/v0.1");
    let Predicate::Composed(predicate) = piece.predicate else { panic!("the predicate is ours") };
    predicate
}

#[test]
fn says_what_witness_recorded() {
    let variables = [
        ("BUILDX_CONFIG", "/home/ci/.docker/buildx"),
        ("DEMO_TOKEN", "Zx9canary4Qw7"),
        ("HOME", "/home/ci"),
        ("LANG", "C"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ];
    // The recording was made on Linux.
    let mut recorded: Value =
        serde_json::from_str(include_str!("../../fixtures/environment/witness.json")).expect("JSON");
    recorded["os"] = predicate(&world(&[], &MaskOptions::default()))["os"].clone();
    assert_eq!(predicate(&world(&variables, &MaskOptions::default())), recorded);
}

#[test]
fn without_variables_there_is_no_member() {
    let filter = MaskOptions { filter: true, ..MaskOptions::default() };
    let found = predicate(&world(&[("A_TOKEN", "x")], &filter));
    assert_eq!(found.get("variables"), None);
    assert_eq!(found["hostname"], "vm");
}

#[test]
fn unknown_options_are_refused() {
    for attestor in BUILT_IN.iter().filter(|attestor| ["environment", "git"].contains(&attestor.about.name)) {
        let error = attestor
            .prepare(json!({"no-such": 1}), &Before::default())
            .err()
            .expect("the option is not known")
            .to_string();
        assert!(error.contains(attestor.about.name) && error.contains("no-such"), "{error}");
        let schema: Value = serde_json::from_str(attestor.about.schema).expect("the schema is JSON");
        assert_eq!(schema["$id"], attestor.about.predicate_type);
    }
}
