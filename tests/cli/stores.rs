//! Evidence in an archivista, at the gate.

use affiant_remote::archivista::gitoid;
use serde_json::json;

use crate::archivista::{Lie, honest, serve};
use crate::harness::Place;

/// A file, signed evidence of it, and a policy that wants it.
fn made() -> Place {
    let place = Place::new();
    place.capture(["-s", "build", "--", "sh", "-c", "echo hello >app"]).run().code(0);
    let say = |line: &str| {
        let _ = place.affiant(line.split(' ')).env_remove("SOURCE_DATE_EPOCH").run().code(0);
    };
    say("policy init --from ../a.json --key ../k.pub --outfile ../policy.yaml");
    say("policy sign ../policy.yaml --key ../k.pem --outfile ../policy.json");
    place
}

fn verify(place: &Place, base: &str, more: &[&str]) -> crate::harness::Ended {
    let store = format!("archivista+{base}");
    let call = place.affiant(["verify", "-p", "../policy.json", "-k", "../k.pub", "--archive", &store]);
    call.env_remove("SOURCE_DATE_EPOCH").with(more).with(["app"]).run()
}

#[test]
fn the_gate_finds_evidence_in_an_archivista() {
    let place = made();
    let (base, served) = serve(honest);
    let none = verify(&place, &base, &[]).code(3);
    assert!(none.stdout_text().contains(&format!("archivista {base}")), "{}", none.stdout_text());

    let envelope = std::fs::read(place.beside("a.json")).expect("evidence");
    let id = gitoid(&envelope);
    let mut held = served.lock().expect("no panic");
    held.held.insert(id.clone(), envelope.clone());
    held.found = vec![json!({ "gitoidSha256": id, "statement": {
        "predicate": "https://witness.testifysec.com/attestation-collection/v0.1",
        "attestationCollections": { "name": "build" } } })];
    held.variables.clear();
    drop(held);
    let header = "X-Api-Key: canary-of-a-key-0123";
    let passed = verify(&place, &base, &["--archivista-headers", header]).code(0);
    assert!(passed.stdout_text().contains("PASSED"), "{}", passed.stdout_text());
    assert!(!(passed.stdout_text() + &passed.stderr_text()).contains("canary-of-a-key"));
    let held = served.lock().expect("no panic");
    assert!(held.asked.last().expect("asked").contains("x-api-key: canary-of-a-key-0123"));
    let app = affiant_core::digest::sha256_hex(b"hello\n");
    assert!(held.variables[0]["digests"].as_array().expect("a list").contains(&json!(app)));
}

/// A store can hold back evidence, and nothing else.
#[test]
fn what_an_archivista_changes_is_no_evidence() {
    let place = made();
    let (base, served) = serve(honest);
    let mut edited = std::fs::read(place.beside("a.json")).expect("evidence");
    let at = edited.len() / 2;
    edited[at] ^= 1;
    let id = gitoid(&edited);
    let mut held = served.lock().expect("no panic");
    held.held.insert(id.clone(), edited);
    held.found = vec![json!({ "gitoidSha256": id, "statement": null })];
    drop(held);
    assert_ne!(verify(&place, &base, &[]).exit_code(), 0);

    let down: Lie = |_| Some((500, "out of order".to_owned()));
    let silent = verify(&place, &serve(down).0, &[]).code(4);
    silent.stderr_has(&["gives no answer", "answers 500: out of order"]);
    verify(&place, "https://archivista.invalid", &["--offline"]).code(2).stderr_has(&["--offline"]);
    verify(&place, "ftp://archivista.invalid", &[]).code(2).stderr_has(&["only https"]);
}
