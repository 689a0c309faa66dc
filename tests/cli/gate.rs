//! The gate on what `affiant run` has just made: verdict, summary, bundle.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::Place;

/// A place with a product `app.tar`, its evidence in the archive and in `../a.json`, and a signed policy.
pub(crate) fn place(step: &Value) -> Place {
    let place = Place::new();
    place.affiant(["key", "generate", "--kind", "ed25519", "--no-password", "-o", "../policy.pem"]).run().code(0);
    place.write("a.txt", "hi");
    place.capture(["-s", "build", "--", "sh", "-c", "cat a.txt a.txt > app.tar"]).run().code(0);
    policy(&place, step);
    place
}

fn policy(place: &Place, step: &Value) {
    policy_with(place, &json!({}), step, "../policy.signed.json");
}

/// Writes and signs a policy with the members `top` and the one step `build`, whose members are the usual ones and
/// `step`.
fn policy_with(place: &Place, top: &Value, step: &Value, file: &str) {
    let pem = std::fs::read(place.beside("k.pub")).expect("a key");
    let id = place.affiant(["key", "id", "../k.pub"]).run().code(0).stdout_text().trim().to_owned();
    let mut build = json!({
        "name": "build",
        "functionaries": [{"type": "publickey", "publickeyid": id}],
        "attestations": [{"type": "https://witness.dev/attestations/product/v0.1"}],
    });
    for (name, value) in step.as_object().expect("an object") {
        build[name] = value.clone();
    }
    let key = base64::engine::general_purpose::STANDARD.encode(pem);
    let mut policy = json!({
        "expires": "2100-01-01T00:00:00Z",
        "publickeys": {id.clone(): {"keyid": id, "key": key}},
        "steps": {"build": build},
    });
    for (name, value) in top.as_object().expect("an object") {
        policy[name] = value.clone();
    }
    std::fs::write(place.beside("policy.json"), policy.to_string()).expect("written");
    place.affiant(["sign", "-k", "../policy.pem", "-f", "../policy.json", "-o", file]).run().code(0);
}

const VERIFY: [&str; 5] = ["verify", "-p", "../policy.signed.json", "-k", "../policy.pub"];

fn ask(place: &Place, more: &[&str]) -> (i32, String, String) {
    let ended = place.affiant(VERIFY.iter().chain(more)).run();
    (ended.exit_code(), ended.stdout_text(), ended.stderr_text())
}

#[test]
fn an_artifact_passes_by_the_evidence_of_its_run() {
    let place = place(&json!({"exitcode": 0}));
    let (code, stdout, stderr) = ask(&place, &["app.tar"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.starts_with("PASSED: app.tar under policy ../policy.signed.json\n"), "{stdout}");
    // The same from a file, and as JSON.
    let (code, stdout, _) = ask(&place, &["-a", "../a.json", "-f", "app.tar", "-o", "json"]);
    let verdict: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((code, &verdict["answer"]), (0, &json!("passed")));
    assert_eq!(verdict["artifacts"][0]["chain"][0]["step"], "build");
}

#[test]
fn rule_9_named_artifacts_must_be_proven() {
    let place = place(&json!({}));
    place.write("evil.tar", "evil");
    let sha256 = sha256_of(&place.work().join("app.tar"));
    for (more, code, text) in [
        (vec!["evil.tar"], 3, "NO EVIDENCE: evil.tar"),
        (vec!["-f", "evil.tar", "-s", sha256.as_str()], 1, "DENIED: evil.tar"),
        (vec!["app.tar", "evil.tar"], 1, "evil.tar"),
        // A material is no product.
        (vec!["-f", "a.txt", "-s", sha256.as_str()], 1, "DENIED: a.txt"),
        (vec!["-s", sha256.as_str()], 0, "PASSED"),
    ] {
        let (found, stdout, stderr) = ask(&place, &more);
        assert_eq!((found, stderr.as_str()), (code, ""), "{more:?}: {stdout}");
        assert!(stdout.contains(text), "{more:?}: {stdout}");
    }
}

fn sha256_of(path: &std::path::Path) -> String {
    let bytes = std::fs::read(path).expect("a file");
    format!("sha256:{}", affiant_core::digest::sha256_hex(&bytes))
}

#[test]
fn a_summary_says_what_was_answered() {
    let place = place(&json!({}));
    place.affiant(["key", "generate", "--kind", "ed25519", "--no-password", "-o", "../gate.pem"]).run().code(0);
    let vsa = ["--vsa-outfile", "../vsa.json", "--signer-file-key-path", "../gate.pem"];
    let (code, stdout, _) = ask(&place, &[&["app.tar"], &vsa[..]].concat());
    assert_eq!(code, 0, "{stdout}");
    let check = ["verify-vsa", "../vsa.json", "app.tar", "-k", "../gate.pub", "--resource-uri", "app.tar"];
    let ended = place.affiant(check.iter().chain(&["-p", "../policy.signed.json"])).run().code(0);
    assert!(ended.stdout_text().starts_with("PASSED: ../vsa.json\n"), "{}", ended.stdout_text());
    let statement = crate::harness::statement_of(&place.beside("vsa.json"));
    assert_eq!(statement["subject"][0]["name"], "app.tar");
    assert_eq!(statement["predicate"]["verificationResult"], "PASSED");
    assert_eq!(statement["predicate"]["inputAttestations"].as_array().map(Vec::len), Some(1));
    for (more, reason) in [
        (
            vec!["verify-vsa", "../vsa.json", "a.txt", "-k", "../gate.pub", "--resource-uri", "app.tar"],
            "check      subject",
        ),
        (
            vec!["verify-vsa", "../vsa.json", "app.tar", "-k", "../k.pub", "--resource-uri", "app.tar"],
            "check      signature",
        ),
        (vec!["verify-vsa", "../vsa.json", "app.tar", "-k", "../gate.pub", "--resource-uri", "x"], "the resource `x`"),
        (
            vec![
                "verify-vsa",
                "../vsa.json",
                "app.tar",
                "-k",
                "../gate.pub",
                "--resource-uri",
                "app.tar",
                "--verifier-id",
                "x",
            ],
            "the verifier `x`",
        ),
        (
            vec!["verify-vsa", "../a.json", "app.tar", "-k", "../k.pub", "--resource-uri", "app.tar"],
            "check      payload",
        ),
    ] {
        let ended = place.affiant(&more).run().code(1);
        assert!(
            ended.stdout_text().starts_with("DENIED") && ended.stdout_text().contains(reason),
            "{}",
            ended.stdout_text()
        );
    }
}

#[test]
fn rule_15_a_summary_of_an_answer_that_binds_nobody_says_failed() {
    let place = place(&json!({"exitcode": 7}));
    place.affiant(["key", "generate", "--kind", "ed25519", "--no-password", "-o", "../gate.pem"]).run().code(0);
    let vsa = ["--vsa-outfile", "../vsa.json", "--signer-file-key-path", "../gate.pem"];
    for (mode, code) in [("enforce", 1), ("warn", 0), ("audit", 0)] {
        let (found, stdout, _) = ask(&place, &[&["app.tar", "--mode", mode], &vsa[..]].concat());
        assert_eq!(found, code, "{stdout}");
        assert!(stdout.starts_with("DENIED"), "{stdout}");
        let statement = crate::harness::statement_of(&place.beside("vsa.json"));
        assert_eq!(statement["predicate"]["verificationResult"], "FAILED", "{mode}");
        assert_eq!(statement["predicate"]["verifiedLevels"], json!(["FAILED"]), "{mode}");
    }
    policy(&place, &json!({}));
    let (code, ..) = ask(&place, &[&["app.tar", "--mode", "warn"], &vsa[..]].concat());
    let statement = crate::harness::statement_of(&place.beside("vsa.json"));
    assert_eq!((code, &statement["predicate"]["verificationResult"]), (0, &json!("FAILED")));
    // A time that somebody chose is no time of verification.
    let (code, _, stderr) = ask(&place, &[&["app.tar", "--at", "2026-01-01T00:00:00Z"], &vsa[..]].concat());
    assert_eq!(code, 2, "{stderr}");
    let (code, _, stderr) = ask(&place, &["app.tar", "--vsa-outfile", "../vsa.json"]);
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn a_bundle_carries_evidence_to_another_machine() {
    let place = place(&json!({}));
    let sha256 = sha256_of(&place.work().join("app.tar"));
    let ended = place.affiant(["bundle", "create", "-s", &sha256, "-o", "../e.tar.gz"]).run().code(0);
    assert_eq!(ended.stderr_text(), "1 envelopes in ../e.tar.gz\n");
    let (code, stdout, _) = ask(&place, &["app.tar", "--output-bundle", "../f.tar.gz"]);
    assert_eq!(code, 0, "{stdout}");
    std::fs::remove_dir_all(place.beside("home")).expect("removed");
    assert_eq!(ask(&place, &["app.tar"]).0, 3);
    for bundle in ["../e.tar.gz", "../f.tar.gz"] {
        let (code, stdout, stderr) = ask(&place, &["app.tar", "--bundle", bundle]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
        let listed = place.affiant(["bundle", "inspect", "--json", bundle]).run().code(0).stdout_text();
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        assert_eq!((&listed["count"], &listed["envelopes"][0]["step"]), (&json!(1), &json!("build")));
    }
    place.write("cut.tar.gz", &std::fs::read(place.beside("e.tar.gz")).expect("read")[..60]);
    let ended = place.affiant(["bundle", "inspect", "cut.tar.gz"]).run().code(4);
    assert!(ended.stderr_text().contains("the bundle cut.tar.gz cannot be read"), "{}", ended.stderr_text());
    let (code, stdout, _) = ask(&place, &["app.tar", "--bundle", "cut.tar.gz"]);
    assert_eq!(code, 3, "{stdout}");
    assert!(stdout.contains("cut.tar.gz: not a gzipped tar"), "{stdout}");
}

/// What a bundle or a policy is made from is not overwritten by it.
#[test]
fn bundles_and_policies_do_not_replace_what_they_are_made_from() {
    let place = place(&json!({}));
    std::fs::create_dir(place.beside("evidence")).expect("a folder");
    std::fs::copy(place.beside("a.json"), place.beside("evidence/b.json")).expect("copied");
    std::os::unix::fs::symlink("a.json", place.beside("link.json")).expect("links");
    place.write("../policy.yaml", "steps: {}");
    let refused = |args: &[&str], file: &str| {
        let before = std::fs::read(place.beside(file)).expect("it is there");
        let ended = place.affiant(args).run().code(2).stdout("");
        assert!(ended.stderr_text().contains("would be overwritten"), "{}", ended.stderr_text());
        assert_eq!(std::fs::read(place.beside(file)).expect("it is there"), before, "{args:?}");
    };
    for (out, file) in [("../a.json", "a.json"), ("../link.json", "a.json"), ("../work/../a.json", "a.json")] {
        refused(&["bundle", "create", "-a", "../a.json", "-o", out], file);
        refused(&["policy", "init", "--from", "../a.json", "--key", "../k.pub", "-o", out], file);
        refused(&["policy", "from-bundles", "../a.json", "-k", "../k.pub", "-o", out], file);
    }
    refused(&["bundle", "create", "-a", "../evidence", "-o", "../evidence/b.json"], "evidence/b.json");
    refused(&["policy", "init", "--from", "../a.json", "--key", "../k.pub", "-o", "../k.pub"], "k.pub");
    refused(&["policy", "compile", "../policy.yaml", "-o", "../policy.yaml"], "policy.yaml");
    // Beside it there is room.
    place.affiant(["bundle", "create", "-a", "../evidence", "-o", "../evidence/new.tar.gz"]).run().code(0);
}

#[test]
fn rule_8_trust_comes_from_flags_only() {
    let place = place(&json!({}));
    for name in ["AFFIANT_PUBLICKEY", "AFFIANT_POLICY", "AFFIANT_MODE", "AFFIANT_AT", "SIGSTORE_ROOT_FILE"] {
        let ended = place.affiant(VERIFY.iter().chain(&["app.tar"])).env(name, "x").run().code(2);
        assert!(ended.stderr_text().contains(&format!("{name} is set")), "{}", ended.stderr_text());
        assert_eq!(ended.stdout_text(), "");
    }
    // Set but empty is not set, as CI systems do it.
    place.affiant(VERIFY.iter().chain(&["app.tar"])).env("AFFIANT_POLICY", "").run().code(0);
}

#[test]
fn class_l_a_policy_that_was_withdrawn_is_refused() {
    let place = place(&json!({}));
    policy_with(&place, &json!({"version": 1}), &json!({}), "../policy.signed.json");
    policy_with(&place, &json!({"version": 2, "minimumVersion": 2}), &json!({}), "../new.signed.json");
    let old = ["-a", "../a.json", "app.tar"];
    assert_eq!(ask(&place, &old).0, 0);
    let (code, stdout, _) = ask(&place, &["-a", "../a.json,../new.signed.json", "app.tar"]);
    assert_eq!(code, 1, "{stdout}");
    let flat = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("version 2 or later, as the policy ../new.signed.json asks"), "{stdout}");
    let (code, stdout, _) = ask(&place, &[&old[..], &["--policy-minimum-version", "2"]].concat());
    assert_eq!(code, 1, "{stdout}");
    // A stranger's policy withdraws nothing.
    place.affiant(["sign", "-k", "../k.pem", "-f", "../policy.json", "-o", "../strange.json"]).run().code(0);
    let (code, stdout, _) = ask(&place, &["-a", "../a.json,../strange.json", "app.tar"]);
    assert_eq!(code, 0, "{stdout}");
}

#[test]
fn each_word_about_a_policy_says_what_to_do() {
    let place = place(&json!({}));
    let day = "2100-01-02T00:00:00Z";
    let later = json!({"notBefore": "2090-01-01T00:00:00Z"});
    policy_with(&place, &later, &json!({}), "../later.json");
    place.affiant(["sign", "-k", "../k.pem", "-f", "../policy.json", "-o", "../stranger.json"]).run().code(0);
    place
        .affiant(["sign", "-k", "../policy.pem", "-t", "text/plain", "-f", "../policy.json", "-o", "../type.json"])
        .run()
        .code(0);
    policy_with(&place, &json!({"images": {"names": ["registry.example/*"]}}), &json!({}), "../images.json");
    for (policy, more, code, text) in [
        ("../policy.json", vec![], 1, "a policy that nobody signed"),
        ("../stranger.json", vec![], 1, "it is by none of the trusted keys"),
        ("../type.json", vec![], 1, "`text/plain`"),
        ("../policy.signed.json", vec!["--at", day], 1, "it expired at 2100-01-01T00:00:00Z"),
        ("../later.json", vec![], 1, "it is not in force before 2090-01-01T00:00:00Z"),
        ("../images.json", vec![], 4, "the policy's `images` cannot be judged without an image"),
        ("../a.json", vec![], 1, "it is by none of the trusted keys"),
        ("app.tar", vec![], 4, "the policy app.tar cannot be read"),
        ("../nowhere", vec![], 4, "../nowhere cannot be read"),
    ] {
        let args = ["verify", "-p", policy, "-k", "../policy.pub", "app.tar"];
        let ended = place.affiant(args.iter().chain(&more)).run();
        let all = format!("{}{}", ended.stdout_text(), ended.stderr_text());
        assert_eq!(ended.exit_code(), code, "{policy}: {all}");
        // The text is wrapped where the line ends.
        let flat = all.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(text), "{policy}: {all}");
    }
}
