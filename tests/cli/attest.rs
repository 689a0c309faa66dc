//! `affiant attest`: evidence without a command.

use std::os::unix::fs::symlink;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::{Call, Place};

/// `affiant attest -k ../k.pem -o ../a.json -s pack` and these arguments.
fn attest(place: &Place, more: &[&str]) -> Call {
    place.affiant(["attest", "-k", "../k.pem", "-o", "../a.json", "-s", "pack"]).with(more)
}

fn products(place: &Place) -> Vec<String> {
    place.predicate("product").as_object().expect("a map").keys().cloned().collect()
}

#[test]
fn evidence_without_a_command_says_so() {
    let place = Place::new();
    place.write("dist/app.tar", "app");
    place.write("dist/notes.txt", "notes");
    place.write("other", "x");
    symlink("other", place.work().join("link")).expect("links");
    symlink("/etc/hostname", place.work().join("out")).expect("links");
    let ended = attest(&place, &["dist/app.tar", "link", "--subjects", "release=1"]).run().code(0).stdout("");
    assert!(ended.stderr_text().starts_with("affiant: pack: "), "{}", ended.stderr_text());
    let statement = place.statement();
    let predicate = &statement["predicate"];
    assert_eq!(predicate["name"], "pack");
    let types = predicate["attestations"].as_array().expect("a list").iter();
    let types: Vec<_> = types.map(|entry| entry["type"].as_str().expect("a type")).collect();
    assert_eq!(
        types,
        ["environment", "material", "product"].map(|name| format!("https://witness.dev/attestations/{name}/v0.1"))
    );
    assert_eq!(products(&place), ["dist/app.tar", "link"]);
    assert_eq!(place.predicate("product")["link"]["digest"], place.predicate("material")["other"]);
    let names: Vec<_> =
        statement["subject"].as_array().expect("a list").iter().map(|one| one["name"].clone()).collect();
    assert!(names.contains(&json!("https://witness.dev/attestations/product/v0.1/file:dist/app.tar")), "{names:?}");
    assert!(names.contains(&json!("release=1")), "{names:?}");
    // What a command-run entry would tell stands in the collection.
    let ours = &predicate["affiant"];
    assert_eq!((&ours["ending"]["kind"], &ours["snapshot"]["method"]), (&json!("none"), &json!("once")));
    assert_eq!(ours["omissions"][0]["path"], "out");
    assert_eq!(ours["links"][0]["path"], "link");
    let shown = place.affiant(["inspect", "--key", "../k.pub", "../a.json"]).run().code(0).stdout_text();
    assert!(shown.contains("command      none is recorded"), "{shown}");
}

#[test]
fn products_are_files_folders_and_what_globs_find() {
    let place = Place::new();
    place.write("dist/a/x", "1");
    place.write("dist/b", "2");
    place.write("c.tar", "3");
    attest(&place, &["dist"]).run().code(0);
    assert_eq!(products(&place), ["dist/a/x", "dist/b"]);
    attest(&place, &["--products", "*.tar", "dist/b"]).run().code(0);
    assert_eq!(products(&place), ["c.tar", "dist/b"]);
    attest(&place, &[]).run().code(0);
    assert_eq!(products(&place), [""; 0]);
    let call = place.affiant(["attest", "-k", "../k.pem", "-o", "../a.json", "-s", "pack", "-d", "dist", "dist/b"]);
    call.run().code(0);
    assert_eq!(products(&place), ["b"]);
    attest(&place, &["--form", "cilock", "dist"]).run().code(0);
    assert_eq!(place.predicate("product")["leaves"].as_array().map(Vec::len), Some(2));
}

#[test]
fn attestors_look_at_named_products() {
    let place = Place::new();
    let sbom = r#"{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,"metadata":{"component":{"type":"application","name":"app","version":"1"}}}"#;
    place.write("app.cdx.json", sbom);
    attest(&place, &["-a", "sbom", "--products", "*.cdx.json"]).run().code(0);
    assert_eq!(place.predicate("cyclonedx")["bomFormat"], "CycloneDX");
    // Nothing is named for it: a gap, and the evidence is kept.
    attest(&place, &["-a", "sbom"]).run().code(1).stderr_has(&["gap: sbom: nothing to attest"]);
    assert_eq!(place.statement()["predicate"]["gaps"][0]["attestor"], "sbom");
    attest(&place, &["-a", "sbom", "--on-gap", "warn"]).run().code(0);
}

#[test]
fn what_cannot_be_attested_is_refused_or_a_gap() {
    let place = Place::new();
    place.write("app", "1");
    std::fs::write(place.beside("outside"), "x").expect("writes");
    symlink("../outside", place.work().join("leads-out")).expect("links");
    nix_fifo(&place);
    for (more, code, part) in [
        (&["missing"][..], 2, "the product missing cannot be read"),
        (&["../outside"], 2, "does not lie in [DIR]/work"),
        (&["leads-out"], 2, "does not lie in [DIR]/work"),
        (&["fifo"], 2, "is neither a file nor a folder"),
        (&["--products", "[", "app"], 2, "a glob of --products cannot be used"),
        (&["--timeout", "3s", "app"], 2, "unexpected argument '--timeout'"),
        (&["-a", "nonsense", "app"], 4, "unknown attestor `nonsense`"),
        (&["-a", "omnitrail", "app"], 2, "the attestor `omnitrail` needs further attestors"),
        (&["-a", "command-run", "app"], 2, "`command-run` needs a command"),
        (&["-d", "missing"], 4, "the working directory missing cannot be used"),
    ] {
        attest(&place, more).run().code(code).stdout("").stderr_has(&[part]);
        assert!(!place.beside("a.json").exists(), "{more:?}");
    }
    attest(&place, &["app", "--products", "*.tar"])
        .run()
        .code(1)
        .stderr_has(&["gap: product: `*.tar` takes no recorded file"]);
    assert_eq!(products(&place), ["app"], "the evidence is kept");
    place.affiant(["attest", "-k", "../k.pem", "app"]).run().code(2).stderr_has(&["no step is named"]);
    place
        .affiant(["attest", "-s", "x", "app"])
        .run()
        .code(4)
        .stderr_has(&["there is no signing key, so nothing was signed"]);
    place.affiant(["attest", "-s", "x#failed", "-k", "../k.pem", "app"]).run().code(4);
}

fn nix_fifo(place: &Place) {
    let done = std::process::Command::new("mkfifo").arg(place.work().join("fifo")).status().expect("mkfifo is there");
    assert!(done.success());
}

/// Security rule 4: `attest` can be done again, so it refuses where `run` keeps a gap.
#[test]
fn a_document_with_a_secret_is_refused() {
    let place = Place::new();
    let secret = "a-very-secret-value-0815";
    let sbom = format!(
        r#"{{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,"metadata":{{"component":{{"type":"application","name":"{secret}","version":"1"}}}}}}"#
    );
    place.write("app.cdx.json", sbom);
    let ended = attest(&place, &["app.cdx.json"]).env("MY_TOKEN", secret).run().code(1);
    ended.stdout("").stderr_has(&["a document holds the value of a secret variable", "nothing was signed"]);
    assert!(!place.beside("a.json").exists());
    for (path, bytes) in place.everything_written() {
        assert!(!String::from_utf8_lossy(&bytes).contains(secret), "{}", path.display());
    }
    attest(&place, &["app.cdx.json", "--subjects", secret]).env("MY_TOKEN", secret).run().code(4);
}

#[test]
fn the_gate_takes_it_only_where_the_policy_allows() {
    let place = Place::new();
    place.write("app", "1");
    attest(&place, &["app"]).run().code(0);
    let pem = std::fs::read(place.beside("k.pub")).expect("a key");
    let id = place.affiant(["key", "id", "../k.pub"]).run().code(0).stdout_text().trim().to_owned();
    let key = base64::engine::general_purpose::STANDARD.encode(pem);
    for (member, code, part) in [(None, 1, "no command-run attestation"), (Some("optional"), 0, "PASSED: app")] {
        let mut step = json!({
            "name": "pack",
            "functionaries": [{"type": "publickey", "publickeyid": id}],
            "attestations": [{"type": "https://aflock.ai/attestations/product/v0.3"}],
        });
        if let Some(member) = member {
            step["commandRun"] = json!(member);
        }
        let policy = json!({
            "expires": "2100-01-01T00:00:00Z",
            "publickeys": {id.clone(): {"keyid": id, "key": key}},
            "steps": {"pack": step},
        });
        std::fs::write(place.beside("policy.json"), policy.to_string()).expect("written");
        place.affiant(["sign", "-k", "../k.pem", "-f", "../policy.json", "-o", "../policy.signed.json"]).run().code(0);
        let ended = place.affiant(["verify", "-p", "../policy.signed.json", "-k", "../k.pub", "app"]).run();
        assert_eq!(ended.exit_code(), code, "{}", ended.stdout_text());
        assert!(ended.stdout_text().contains(part), "{}", ended.stdout_text());
    }
}

#[test]
fn plan_report_and_determinism() {
    let place = Place::new();
    place.write("app", "1");
    let plan = attest(&place, &["--plan", "app"]).run().code(0).stdout_text();
    assert!(plan.contains("command      none: things are recorded as they are"), "{plan}");
    assert!(!plan.contains("command-run") && !place.beside("a.json").exists(), "{plan}");
    let made = |_: u32| {
        attest(&place, &["--report", "../report.json", "app"]).run().code(0);
        std::fs::read(place.beside("a.json")).expect("evidence")
    };
    assert!(made(1) == made(2), "equal inputs and clock give equal bytes");
    let report: Value =
        serde_json::from_slice(&std::fs::read(place.beside("report.json")).expect("a report")).expect("JSON");
    assert_eq!((&report["kind"], &report["exitCode"]), (&json!("passed"), &json!(0)));
    assert!(report["result"]["commandCode"].is_null() && report["plan"]["observation"].is_null(), "{report}");
    assert_eq!(report["result"]["ending"], "no command");
    attest(&place, &["--report", "../report.json", "missing"]).run().code(2);
    let report: Value =
        serde_json::from_slice(&std::fs::read(place.beside("report.json")).expect("a report")).expect("JSON");
    assert_eq!((&report["kind"], &report["exitCode"]), (&json!("refused"), &json!(2)));
}
