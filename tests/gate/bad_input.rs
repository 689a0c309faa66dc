//! Bad input: each has its exit code, names the file, and says what to do; little memory, little time. The texts are
//! kept in `golden/`.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::kit::{
    APP, COMMIT, Case, IN_TOTO, POLICY, Run, SBOM, builder, key, one_step, policy, seal, statement, step, stranger,
    subject, tester, two_steps, with_rule,
};
use super::place::{Ended, Place};

/// Longest time that a call may take; ten seconds on a quiet machine, which this may not be.
const PATIENCE: u64 = 60;

/// Keeps the whole text of a call beside those that were read by somebody.
#[track_caller]
pub(crate) fn golden(name: &str, ended: &Ended, code: i32) {
    let text = format!("exit code {}\n--- stdout\n{}--- stderr\n{}", ended.code, ended.stdout, ended.stderr);
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/gate/golden/{name}.txt"));
    if std::env::var_os("AFFIANT_BLESS").is_some() {
        std::fs::write(&file, &text).expect("writes");
    }
    assert_eq!(ended.code, code, "{text}");
    assert!(ended.took.as_secs() < PATIENCE, "{:?}", ended.took);
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, known, "{name}: AFFIANT_BLESS=1 cargo test --test gate");
}

fn base() -> Place {
    let place = Place::new();
    place.write("policy.json", seal(&one_step().to_string(), POLICY, &[&key("policy")]));
    place.write("build.json", Run::build().signed(&[&builder()]));
    place.write("app", APP);
    place
}

fn ask(place: &Place) -> Ended {
    place.verify(&["-p", "policy.json", "-k", "policy.pub", "-a", "build.json", "app"])
}

#[track_caller]
fn with_policy(name: &str, code: i32, text: &str, policy: impl AsRef<[u8]>) {
    let place = base();
    place.write("policy.json", policy);
    let ended = ask(&place).says("policy.json").says(text);
    golden(name, &ended, code);
}

fn signed(policy: &Value) -> Vec<u8> {
    seal(&policy.to_string(), POLICY, &[&key("policy")])
}

#[test]
fn bad_policies() {
    with_policy("policy-not-signed", 1, "a policy that nobody signed", one_step().to_string());
    with_policy("policy-without-signatures", 1, "no signature", seal(&one_step().to_string(), POLICY, &[]));
    with_policy(
        "policy-by-a-stranger",
        1,
        "none of the trusted keys",
        seal(&one_step().to_string(), POLICY, &[&stranger()]),
    );
    with_policy("policy-of-another-type", 1, IN_TOTO, seal(&one_step().to_string(), IN_TOTO, &[&key("policy")]));
    let mut asked = one_step();
    asked["expires"] = json!("2026-11-01T00:00:00Z");
    with_policy("policy-expired", 1, "it expired at 2026-11-01", signed(&asked));
    asked["expires"] = json!(null);
    with_policy("policy-without-expiry", 1, "does not say when it expires", signed(&asked));
    let mut asked = one_step();
    asked["notBefore"] = json!("2027-01-01T00:00:00Z");
    with_policy("policy-not-yet-valid", 1, "not in force before 2027-01-01", signed(&asked));
    with_policy("policy-no-json", 4, "policy.json", "expires: tomorrow\n");
    with_policy("policy-empty", 4, "policy.json", "");
    let twice = one_step().to_string().replacen("\"expires\":", "\"expires\":null,\"expires\":", 1);
    with_policy("policy-member-twice", 4, "stands there twice", seal(&twice, POLICY, &[&key("policy")]));
    let mut asked = one_step();
    asked["steps"]["build"]["treshold"] = json!(2);
    with_policy("policy-unknown-member", 4, "did you mean `threshold`", signed(&asked));
    let mut asked = one_step();
    asked["steps"]["build"]["functionaries"] =
        json!([{"type": "root", "certConstraint": {"commonname": "*", "roots": ["*"], "emials": ["a@b.c"]}}]);
    with_policy("policy-unknown-identity", 4, "emials", signed(&asked));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    with_policy("policy-deep", 4, "policy.json", seal(&deep, POLICY, &[&key("policy")]));
    let mut asked = one_step();
    with_rule(&mut asked, "build", "package a\nimport rego.v1\ndeny contains msg if {\n  msg := \n}");
    with_policy("policy-rego-syntax", 4, "rule.rego", signed(&asked));
    let mut asked = one_step();
    asked["images"] = json!({"names": ["registry.example/*"]});
    with_policy("policy-images", 4, "images", signed(&asked));
    // A file of a gigabyte that is sparse, and one that never ends.
    let place = base();
    File::create(place.work().join("policy.json")).expect("makes").set_len(1 << 30).expect("grows");
    golden("policy-huge", &ask(&place).says("policy.json"), 4);
    std::fs::remove_file(place.work().join("policy.json")).expect("removes");
    symlink("/dev/zero", place.work().join("policy.json")).expect("links");
    golden("policy-endless", &ask(&place).says("policy.json"), 4);
}

#[track_caller]
fn with_evidence(name: &str, code: i32, text: &str, envelope: impl AsRef<[u8]>) {
    let place = base();
    place.write("build.json", envelope);
    let ended = ask(&place).says("build.json").says(text);
    golden(name, &ended, code);
}

#[test]
fn bad_evidence() {
    let good = Run::build().signed(&[&builder()]);
    let text = String::from_utf8(good.clone()).expect("text");
    let envelope: Value = serde_json::from_slice(&good).expect("JSON");
    with_evidence("evidence-broken-json", 3, "ends too early", &good[..good.len() / 2]);
    with_evidence("evidence-empty", 3, "build.json", "");
    with_evidence("evidence-no-json", 3, "build.json", "\u{1}\u{2}\u{3} not json\n\u{1b}[2J");
    let twice = text.replacen("\"payload\":", "\"payload\":\"e30=\",\"payload\":", 1);
    with_evidence("evidence-member-twice", 3, "stands twice", twice);
    let twice = text.replacen("\"signatures\":", "\"Signatures\":[],\"signatures\":", 1);
    with_evidence("evidence-lookalike", 1, "some readers take for", twice);
    let inside = Run::build().payload().replacen("\"exitcode\":0", "\"exitcode\":1,\"exitcode\":0", 1);
    with_evidence("evidence-member-twice-inside", 1, "twice", seal(&inside, IN_TOTO, &[&builder()]));
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let levels = text.replacen("\"payload\":", &format!("\"x\":{},\"payload\":", deep(100_000)), 1);
    with_evidence("evidence-deep", 3, "nested too deeply", levels);
    let inside =
        Run::build().payload().replacen("\"exitcode\":0", &format!("\"exitcode\":0,\"x\":{}", deep(100_000)), 1);
    with_evidence("evidence-deep-inside", 1, "recursion limit", seal(&inside, IN_TOTO, &[&builder()]));
    let change = |to: &dyn Fn(&mut Value)| {
        let mut changed = envelope.clone();
        to(&mut changed);
        changed.to_string()
    };
    let none = change(&|envelope| drop(envelope.as_object_mut().expect("an object").remove("signatures")));
    with_evidence("evidence-no-signatures", 1, "`signatures` is missing", none);
    with_evidence(
        "evidence-empty-signatures",
        1,
        "no signature",
        change(&|envelope| envelope["signatures"] = json!([])),
    );
    let many = change(&|envelope| {
        let one = envelope["signatures"][0].clone();
        envelope["signatures"] = vec![one; 100_000].into();
    });
    with_evidence("evidence-many-signatures", 1, "more than 1024", many);
    let url = change(&|envelope| {
        let payload = STANDARD.decode(envelope["payload"].as_str().expect("text")).expect("base64");
        envelope["payload"] = URL_SAFE_NO_PAD.encode(payload).into();
    });
    with_evidence("evidence-base64url", 3, "base64", url);
    with_evidence(
        "evidence-base64url-signature",
        1,
        "base64",
        change(&|envelope| envelope["signatures"][0]["sig"] = json!("-_-_")),
    );
    with_evidence(
        "evidence-of-another-type",
        3,
        "its payload is of the type `text/plain`",
        seal("hello", "text/plain", &[&builder()]),
    );
    let other = seal(&Run::build().payload(), "application/json", &[&builder()]);
    with_evidence("evidence-under-another-type", 1, "application/json", other);
    let sbom = statement(
        SBOM,
        &json!([subject("app", &affiant_core::digest::sha256_hex(APP.as_bytes()))]),
        &json!({}),
        &[&builder()],
    );
    with_evidence("evidence-of-no-run", 1, "counts only beside that of a run", sbom);
    with_evidence(
        "evidence-altered",
        1,
        "something was altered",
        change(&|envelope| {
            let payload = STANDARD.decode(envelope["payload"].as_str().expect("text")).expect("base64");
            let changed = String::from_utf8(payload).expect("text").replace("\"make\"", "\"fake\"");
            envelope["payload"] = STANDARD.encode(changed).into();
        }),
    );
    with_evidence(
        "evidence-unknown-statement",
        1,
        "https://in-toto.io/Statement/v9",
        seal(&Run::build().payload().replace("Statement/v0.1", "Statement/v9"), IN_TOTO, &[&builder()]),
    );

    let place = base();
    File::create(place.work().join("build.json")).expect("makes").set_len(1 << 30).expect("grows");
    golden("evidence-huge", &ask(&place).says("build.json"), 3);
    std::fs::remove_file(place.work().join("build.json")).expect("removes");
    golden("evidence-missing", &ask(&place).says("build.json"), 4);
    std::fs::create_dir(place.work().join("build.json")).expect("makes a folder");
    golden("evidence-empty-folder", &ask(&place).says("build.json"), 3);
}

#[test]
fn denials() {
    let place = base();
    place.write("other", "another application\n");
    let ended = place.verify(&["-p", "policy.json", "-k", "policy.pub", "-a", "build.json", "other"]);
    golden("denied-unknown-artifact", &ended, 3);
    let ended = place.verify(&["-p", "policy.json", "-k", "policy.pub", "-a", "build.json", "app", "other"]);
    golden("denied-one-of-two-artifacts", &ended, 1);
    golden("passed", &ask(&place), 0);
    let ended = place.verify(&["-p", "policy.json", "-k", "policy.pub", "app"]);
    golden("denied-no-evidence", &ended, 3);

    let of = |name: &str, policy: &Value, runs: &[(&str, Vec<u8>)], code: i32| {
        let place = base();
        place.write("policy.json", signed(policy));
        std::fs::remove_file(place.work().join("build.json")).expect("removes");
        for (file, envelope) in runs {
            place.write(&format!("evidence/{file}"), envelope);
        }
        let ended = place.verify(&["-p", "policy.json", "-k", "policy.pub", "-a", "evidence", "app"]);
        golden(name, &ended, code);
    };
    let build = || ("build.json", Run::build().signed(&[&builder()]));
    let test = |run: &Run| ("test.json", run.signed(&[&tester()]));
    of("denied-step-missing", &two_steps(), &[build()], 1);
    of(
        "denied-file-edited-between-steps",
        &two_steps(),
        &[build(), test(&Run::of("test", COMMIT, &[("app", "edited\n")], &[]))],
        1,
    );
    let mut loose = two_steps();
    loose["steps"]["test"].as_object_mut().expect("an object").remove("artifactsFrom");
    of(
        "denied-tests-of-another-commit",
        &loose,
        &[build(), test(&Run::of("test", super::kit::PARENT, &[], &[("report.xml", "<ok/>\n")]))],
        1,
    );
    of("denied-other-functionary", &one_step(), &[("build.json", Run::build().signed(&[&tester()]))], 1);
    of("denied-stranger", &one_step(), &[("build.json", Run::build().signed(&[&stranger()]))], 1);
    of(
        "denied-failed-build",
        &one_step(),
        &[("build.json", Run::build().named("build#failed").exit(&json!(2)).signed(&[&builder()]))],
        1,
    );
    of(
        "denied-no-command",
        &one_step(),
        &[("build.json", Run::build().without(super::kit::COMMAND).signed(&[&builder()]))],
        1,
    );
    let mut with_code = one_step();
    with_code["steps"]["build"]["exitcode"] = json!(0);
    of("denied-exit-code", &with_code, &[("build.json", Run::build().exit(&json!(137)).signed(&[&builder()]))], 1);
    let sbom = policy(&[step("build", &[&builder()], &[super::kit::PRODUCT, SBOM])]);
    of("denied-sbom-missing", &sbom, &[build()], 1);
    let other = Run::of("build", COMMIT, &[], &[("app", "x")]);
    let own = statement(
        SBOM,
        &json!([other.run_subject(), subject("app", &affiant_core::digest::sha256_hex(APP.as_bytes()))]),
        &json!({"bomFormat": "CycloneDX"}),
        &[&builder()],
    );
    of("denied-sbom-of-another-run", &sbom, &[build(), ("sbom.json", own)], 1);
    let mut banned = one_step();
    with_rule(
        &mut banned,
        "build",
        "package shop\nimport rego.v1\ndeny contains sprintf(\"%s is banned\", [path]) if some path, _ in input",
    );
    of("denied-by-a-rule", &banned, &[build()], 1);
    let mut two = policy(&[step("build", &[&builder(), &tester()], &[super::kit::PRODUCT])]);
    two["steps"]["build"]["threshold"] = json!(2);
    of("denied-threshold", &two, &[("build.json", Run::build().signed(&[&builder(), &builder()]))], 1);
    let mut aged = one_step();
    aged["steps"]["build"]["attestations"][0]["maxAge"] = json!("24h");
    of("denied-no-proven-time", &aged, &[build()], 1);
}

#[test]
fn rules_that_loop() {
    let place = base();
    let mut asked = one_step();
    let module = "package a\nimport rego.v1\ndeny contains \"no\" if {\n  some a in numbers.range(1, 100000)\n  some b in numbers.range(1, 100000)\n  a + b == 0\n}";
    with_rule(&mut asked, "build", module);
    place.write("policy.json", signed(&asked));
    golden("rego-loops", &ask(&place).says("takes longer than"), 1);
    // Grows without end.
    let mut asked = one_step();
    let module = "package a\nimport rego.v1\nall := [[a, b] | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000)]\ndeny contains \"no\" if count(all) == 0";
    with_rule(&mut asked, "build", module);
    place.write("policy.json", signed(&asked));
    let ended = ask(&place).code(1);
    assert!(ended.stdout.contains("MiB of memory") || ended.stdout.contains("takes longer than"), "{}", ended.stdout);
    let mut asked = one_step();
    with_rule(
        &mut asked,
        "build",
        "package a\nimport rego.v1\ndeny contains \"no\" if count(numbers.range(1, 1000000000)) == 0",
    );
    place.write("policy.json", signed(&asked));
    golden("rego-explodes", &ask(&place).says("the result would be too large"), 1);
}

#[test]
fn a_thousand_envelopes_in_one_file_are_read() {
    let place = base();
    let mut lines = String::new();
    for number in 0..1000 {
        let run = Run::of("build", COMMIT, &[("n", &number.to_string())], &[("other", &number.to_string())]);
        let _ = writeln!(lines, "{}", String::from_utf8(run.signed(&[&stranger()])).expect("text"));
    }
    let _ = writeln!(lines, "{}", String::from_utf8(Run::build().signed(&[&builder()])).expect("text"));
    place.write("build.json", &lines);
    ask(&place).code(0);
    place.write("build.json", format!("{lines}half of"));
    let ended = ask(&place).code(3).says("line 1002");
    assert!(ended.took.as_secs() < PATIENCE);
    Case::of(&one_step()).with(lines.into_bytes()).passes();
}
