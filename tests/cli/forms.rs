//! `--form cilock`: what is written, and that the gate takes both forms, also mixed.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::{Place, statement_of};

fn types(statement: &Value) -> Vec<String> {
    let entries = statement["predicate"]["attestations"].as_array().expect("a list").iter();
    entries.map(|entry| entry["type"].as_str().expect("a type").to_owned()).collect()
}

fn aflock(name: &str) -> String {
    format!("https://aflock.ai/attestations/{name}")
}

#[test]
fn cilocks_form_has_its_types_trees_and_back_references() {
    let place = Place::new();
    place.write("in.txt", "hi");
    place.write("z/one.txt", "same");
    place
        .capture(["--form", "cilock", "-s", "build", "--", "sh", "-c", "echo x > x.bin; cp in.txt alike"])
        .run()
        .code(0);
    let statement = place.statement();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v0.1");
    assert_eq!(statement["predicateType"], "https://aflock.ai/attestation-collection/v0.1");
    assert_eq!(
        types(&statement),
        ["environment/v0.1", "material/v0.3", "command-run/v0.2", "product/v0.3"].map(aflock)
    );
    let subjects = statement["subject"].as_array().expect("a list").iter();
    let subjects: Vec<_> = subjects.map(|subject| subject["name"].as_str().expect("a name")).collect();
    assert!(subjects.is_sorted(), "{subjects:?}");
    for name in ["material/v0.3/tree:materials", "product/v0.3/tree:products", "product/v0.3/file:x.bin"] {
        assert!(subjects.contains(&aflock(name).as_str()), "{name} in {subjects:?}");
    }
    let references = statement["predicate"]["backrefs"].as_object().expect("a map");
    let names: Vec<_> = references.keys().collect();
    assert_eq!(names, [&aflock("material/v0.3/tree:materials"), &aflock("product/v0.3/tree:products")]);

    let product = place.predicate("product");
    // The leaf of `x\n`, as cilock recorded it for a file of this content.
    let leaves = product["leaves"].as_array().expect("a list");
    let leaf = leaves.iter().find(|leaf| leaf["path"] == "x.bin").expect("x.bin");
    assert_eq!(leaf["fileDigest"], "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac");
    assert_eq!(leaf["leafHash"], "af783de711a03d4e784d3cd52d07738e879f8e3004e6bab584d4f5986f26ef1f");
    assert_eq!((&product["treeSize"], &product["construction"]), (&json!(2), &json!("RFC6962")));
    assert_eq!(references[&aflock("product/v0.3/tree:products")]["sha256"], product["merkleRoot"]);
    let command = place.predicate("command-run");
    assert_eq!((&command["_meta"]["version"], &command["exitcode"]), (&json!("v0.2"), &json!(0)));
    assert!(command["paths"].is_null() && command["processes"] == json!([]));
    assert_eq!(command["affiant"]["ending"]["kind"], "exited");
}

/// One file of the content that cilock recorded has the root that it recorded.
#[test]
fn the_root_is_that_of_cilock() {
    let place = Place::new();
    place.capture(["--form", "cilock", "-s", "extras", "--", "sh", "-c", "echo x > x.bin"]).run().code(0);
    let root = "7ff8d1544964abb142efe6df62717ce6b43b08d659ec4ba8a28309f20071f5db";
    assert_eq!(place.predicate("product")["merkleRoot"], root);
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let material = place.predicate("material");
    assert_eq!((&material["merkleRoot"], &material["leaves"]), (&json!(empty), &json!([])));
    std::fs::remove_file(place.work().join("x.bin")).expect("is there");
    place.capture(["--form", "cilock", "-s", "extras", "--", "true"]).run().code(0);
    let product = place.predicate("product");
    assert_eq!((&product["merkleRoot"], product.get("leaves")), (&json!(empty), None));
}

#[test]
fn paths_of_equal_content_are_not_lost() {
    let place = Place::new();
    place.capture(["--form", "cilock", "-s", "b", "--", "sh", "-c", "echo x > b; echo x > a"]).run().code(0);
    let product = place.predicate("product");
    assert_eq!((&product["leaves"][0]["path"], &product["treeSize"]), (&json!("a"), &json!(1)));
    assert_eq!(product["affiant"]["alike"][0]["path"], "b");
    let shown = place.affiant(["inspect", "--key", "../k.pub", "../a.json"]).run().code(0).stdout_text();
    assert!(shown.contains("products (2)"), "{shown}");
}

#[test]
fn equal_inputs_give_equal_bytes_in_cilocks_form() {
    let run = || {
        let place = Place::new();
        let key = include_bytes!("../../fixtures/keys/functionary.pem");
        std::fs::write(place.beside("k.pem"), key).expect("writes");
        place.write("a", "1");
        place.write("b", "1");
        let line = ["--form", "cilock", "-s", "b", "--", "sh", "-c", "cat a b > c; cp c d"];
        place.capture(line).env("HOME", "/nonexistent").env("AFFIANT_HOME", "/nonexistent").run().code(0);
        std::fs::read(place.beside("a.json")).expect("evidence")
    };
    assert!(run() == run(), "two runs with equal inputs and clock differ");
}

#[test]
fn what_has_no_tree_is_a_list() {
    let place = Place::new();
    place.write("whole/x", "1");
    let line = ["--form", "cilock", "-s", "b", "--dirhash-glob", "whole", "--", "sh", "-c", "echo x > x"];
    let ended = place.capture(line).run().code(0);
    assert!(ended.stderr_text().contains("note: material: written as a list (v0.1)"), "{}", ended.stderr_text());
    let statement = place.statement();
    assert!(
        types(&statement).contains(&aflock("material/v0.1")) && types(&statement).contains(&aflock("product/v0.3"))
    );
    assert!(place.predicate("material")["whole/"]["dirHash"].is_string());
    // `a\b` and `a/b` are one path to cilock.
    let line = ["--form", "cilock", "-s", "b", "--", "sh", "-c", r"mkdir a; echo 1 > a/b; echo 2 > 'a\b'"];
    place.capture(line).run().code(0).stderr_has(&["note: product: written as a list"]);
    assert_eq!(place.predicate("product").as_object().expect("a map").len(), 2);
    place.affiant(["inspect", "--key", "../k.pub", "../a.json"]).run().code(0);
}

#[test]
fn the_form_may_come_from_a_variable() {
    let place = Place::new();
    place.capture(["-s", "b", "--", "true"]).env("AFFIANT_FORM", "cilock").run().code(0);
    assert_eq!(place.statement()["predicateType"], "https://aflock.ai/attestation-collection/v0.1");
    place.capture(["-s", "b", "--form", "witness", "--", "true"]).run().code(125).stderr_has(&["--form"]);
}

/// A policy for two steps, the second of which must have found what the first left, asking for types of `host`.
fn policy(place: &Place, host: &str, versions: [&str; 3]) {
    let pem = std::fs::read(place.beside("k.pub")).expect("a key");
    let id = place.affiant(["key", "id", "../k.pub"]).run().code(0).stdout_text().trim().to_owned();
    let wanted =
        |(name, version): (&str, &str)| json!({"type": format!("https://{host}/attestations/{name}/{version}")});
    let wanted: Vec<_> = ["material", "command-run", "product"].into_iter().zip(versions).map(wanted).collect();
    let step = |name: &str, from: Value| {
        json!({
            "name": name,
            "functionaries": [{"type": "publickey", "publickeyid": id}],
            "attestations": wanted,
            "artifactsFrom": from,
        })
    };
    let key = base64::engine::general_purpose::STANDARD.encode(pem);
    let policy = json!({
        "expires": "2100-01-01T00:00:00Z",
        "publickeys": {id.clone(): {"keyid": id, "key": key}},
        "steps": {"build": step("build", json!([])), "pack": step("pack", json!(["build"]))},
    });
    std::fs::write(place.beside("policy.json"), policy.to_string()).expect("written");
    place.affiant(["sign", "-k", "../k.pem", "-f", "../policy.json", "-o", "../policy.signed.json"]).run().code(0);
}

#[test]
fn the_gate_takes_both_forms_for_policies_of_either_tool() {
    for forms in [["cilock", "cilock"], ["cilock", "portable"], ["portable", "cilock"], ["portable", "portable"]] {
        for changed in [false, true] {
            let place = Place::new();
            let run = |form: &str, step: &str, out: &str, script: &str| {
                let line = ["run", "-k", "../k.pem", "-a", "environment", "--form", form, "-s", step, "-o", out];
                place.affiant(line).with(["--", "sh", "-c", script]).run().code(0);
            };
            // Two files of one content: cilock's tree alone would have forgotten one of them.
            run(forms[0], "build", "../build.json", "echo 1 > app; cp app copy");
            if changed {
                place.write("copy", "2");
            }
            run(forms[1], "pack", "../pack.json", "cat app copy > pack.tar");
            for (host, versions) in [
                ("witness.dev", ["v0.1", "v0.1", "v0.1"]),
                ("aflock.ai", ["v0.3", "v0.2", "v0.3"]),
                ("aflock.ai", ["v0.1", "v0.1", "v0.1"]),
            ] {
                policy(&place, host, versions);
                let line =
                    ["verify", "-p", "../policy.signed.json", "-k", "../k.pub", "-a", "../build.json,../pack.json"];
                // The digest of `app` leads to the first step.
                let seed = "sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865";
                let ended = place.affiant(line).with(["-s", seed, "pack.tar"]).run();
                let what = format!("{forms:?} {host} {versions:?}: {}", ended.stdout_text());
                assert_eq!(ended.exit_code(), i32::from(changed), "{what}");
                assert_eq!(what.contains("copy"), changed, "{what}");
            }
        }
    }
}

#[test]
fn evidence_in_cilocks_form_is_found_by_the_digest_of_a_product() {
    let place = Place::new();
    let line = ["run", "-k", "../k.pem", "-a", "environment", "--form", "cilock", "-s", "build"];
    place.affiant(line).with(["--", "sh", "-c", "echo 1 > app"]).run().code(0);
    let sum = "sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865";
    place.affiant(["archive", "find", sum]).run().code(0);
}

#[test]
fn a_failed_build_does_not_pass_in_cilocks_form() {
    let place = Place::new();
    place.capture(["--form", "cilock", "-s", "build", "--", "sh", "-c", "echo 1 > app; exit 3"]).run().code(3);
    assert_eq!(place.statement()["predicate"]["name"], "build#failed");
    assert_eq!(place.predicate("command-run")["exitcode"], 3);
    let statement = statement_of(&place.beside("a.json"));
    assert!(types(&statement).contains(&aflock("command-run/v0.2")));
}
