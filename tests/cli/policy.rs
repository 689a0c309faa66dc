//! Policies: made from a real pipeline's evidence, checked, tried, and what they deny.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::harness::{Ended, Place, left_out};

/// Writes the SBOM of `image.tar` with one component: `sh sbom.sh NAME VERSION`.
const SBOM: &str = r#"digest=$(sha256sum image.tar | cut -d' ' -f1)
printf '{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,"components":[{"type":"library","name":"%s","version":"%s"}],' "$1" "$2" > image.cdx.json
printf '"metadata":{"component":{"type":"container","name":"image","hashes":[{"alg":"SHA-256","content":"%s"}]}}}' "$digest" >> image.cdx.json
"#;
/// The same as SPDX 3, which gets an envelope of its own.
const SBOM3: &str = r#"digest=$(sha256sum image.tar | cut -d' ' -f1)
printf '{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[{"type":"CreationInfo","@id":"_:c","specVersion":"3.0.1","created":"2026-01-01T00:00:00Z"},' > image.spdx3.json
printf '{"type":"SpdxDocument","spdxId":"urn:d","name":"%s","rootElement":["urn:s"],"creationInfo":"_:c"},' "$digest" >> image.spdx3.json
printf '{"type":"software_Sbom","spdxId":"urn:s","rootElement":["urn:p"],"creationInfo":"_:c"},' >> image.spdx3.json
printf '{"type":"software_Package","spdxId":"urn:p","name":"zlib","software_packageVersion":"1.3","creationInfo":"_:c"}]}' >> image.spdx3.json
"#;
/// Builds what is never the same twice, as real images are.
const BUILD: &str = "date +%s%N > stamp && tar cf image.tar src stamp";

fn git(place: &Place, args: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@b"])
        .args(args)
        .current_dir(place.work())
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", place.beside("home"))
        .output()
        .expect("git runs");
    assert!(done.status.success(), "{done:?}");
}

/// A repository with one commit, its policy key, and a second signer; `None` where git is missing.
fn repository() -> Option<Place> {
    if Command::new("git").arg("--version").output().is_err() {
        left_out("git is not there");
        return None;
    }
    let place = Place::new();
    for name in ["policy", "other"] {
        let out = format!("../{name}.pem");
        place.affiant(["key", "generate", "--kind", "ed25519", "--no-password", "-o", &out]).run().code(0);
    }
    place.write("src/a.txt", "hello\n");
    place.write("sbom.sh", SBOM);
    place.write("sbom3.sh", SBOM3);
    git(&place, &["init", "-q", "-b", "main"]);
    git(&place, &["add", "."]);
    git(&place, &["commit", "-qm", "one"]);
    Some(place)
}

/// A run of one step: `../NAME.json` is its evidence.
fn step(place: &Place, name: &str, step: &str, key: &str, script: &str, code: i32) -> String {
    let out = format!("../{name}.json");
    let key = format!("../{key}.pem");
    if step == "build" {
        // What a run before left would be a material of this build, and change under the steps after it.
        git(place, &["clean", "-fdxq"]);
    }
    place
        .affiant(["run", "-k", &key, "-o", &out, "-s", step, "-a", "environment,git,sbom", "--on-gap", "warn"])
        .with(["--", "sh", "-c", script])
        .run()
        .code(code);
    out
}

/// A whole run of the pipeline: the evidence of build, sbom and test.
fn pipeline(place: &Place, prefix: &str) -> [String; 3] {
    [
        step(place, &format!("{prefix}build"), "build", "k", BUILD, 0),
        step(place, &format!("{prefix}sbom"), "sbom", "k", "sh sbom.sh zlib 1.3", 0),
        step(place, &format!("{prefix}test"), "test", "k", "tar tf image.tar > test.log", 0),
    ]
}

/// Makes a policy from evidence, lets `change` change its source, checks and signs it.
fn policy(place: &Place, evidence: &[String], more: &[&str], change: impl FnOnce(String) -> String) {
    place
        .affiant(["policy", "init", "--from", &evidence.join(","), "--key", "../k.pub", "-o", "../policy.yaml"])
        .with(more)
        .run()
        .code(0);
    let source = std::fs::read_to_string(place.beside("policy.yaml")).expect("the source");
    std::fs::write(place.beside("policy.yaml"), change(source)).expect("writes");
    let checked = place.affiant(["policy", "check", "../policy.yaml"]).run().code(0).stderr("");
    assert!(checked.stdout_text().contains("0 errors"), "{}", checked.stdout_text());
    // The gate has the real clock, so the policy must end after it.
    place
        .affiant(["policy", "sign", "../policy.yaml", "-k", "../policy.pem", "-o", "../policy.signed.json"])
        .env_remove("SOURCE_DATE_EPOCH")
        .run()
        .code(0)
        .stdout("")
        .stderr("");
}

fn verify(place: &Place, evidence: &[&str], artifacts: &[&str]) -> Ended {
    let evidence = evidence.join(",");
    let mut call =
        place.affiant(["verify", "-p", "../policy.signed.json", "-k", "../policy.pub", "-a", evidence.as_str()]);
    for artifact in artifacts {
        call = call.with(["-f", *artifact]);
    }
    call.run()
}

#[track_caller]
fn denied(ended: Ended, because: &str) {
    let ended = ended.code(1);
    // Long lines are wrapped.
    let text = ended.stdout_text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("DENIED"), "{text}");
    assert!(text.contains(because), "`{because}` is not in: {text}");
}

fn all(evidence: &[String]) -> Vec<&str> {
    evidence.iter().map(String::as_str).collect()
}

/// Issue 4, "It must show" 3.
#[test]
fn a_policy_from_evidence_passes_it_and_denies_what_it_must() {
    let Some(place) = repository() else { return };
    let good = pipeline(&place, "good-");
    policy(&place, &good, &[], |source| source);
    let [build, sbom, test] = all(&good)[..] else { return };
    verify(&place, &[build, sbom, test], &["image.tar"]).code(0);
    verify(&place, &[build, sbom, test], &["image.tar", "image.cdx.json"]).code(0);

    // The artifact was replaced.
    std::fs::copy(place.work().join("image.tar"), place.beside("good.tar")).expect("copies");
    std::fs::write(place.beside("evil.tar"), "evil").expect("writes");
    denied_or_missing(&verify(&place, &[build, sbom, test], &["../evil.tar"]), "none of what there is");
    // `-f evil -s good`: what only finds evidence proves nothing.
    let digest = Command::new("sha256sum").arg(place.beside("good.tar")).output().expect("sha256sum").stdout;
    let digest = format!("sha256:{}", String::from_utf8_lossy(&digest[..64]));
    let call = verify_with(&place, &[build, sbom, test], &["-f", "../evil.tar", "-s", &digest]);
    denied(call, "no accepted evidence has made");

    denied(verify(&place, &[build, test], &["../good.tar"]), "evidence of step `sbom`");

    // Everything of another run of the same commit, and its SBOM among the evidence of this one.
    let other = pipeline(&place, "other-");
    verify(&place, &all(&other), &["image.tar"]).code(0);
    denied(verify(&place, &[build, &other[1], test], &["../good.tar"]), "artifactsFrom");
    denied(verify(&place, &[&other[0], &other[1], test], &["image.tar"]), "artifactsFrom");

    // Another functionary, who is somebody, but not of this policy.
    let signed = step(&place, "stranger", "sbom", "other", "sh sbom.sh zlib 1.3", 0);
    denied(verify(&place, &[&other[0], &signed, &other[2]], &["image.tar"]), "step sbom");

    let banned = step(&place, "banned", "sbom", "k", "sh sbom.sh event-stream 3.3.6", 0);
    let test = step(&place, "banned-test", "test", "k", "tar tf image.tar > test.log", 0);
    denied(verify(&place, &[&other[0], &banned, &test], &["image.tar"]), "the component event-stream@3.3.6 is banned");

    // The image was edited between build and the steps after it.
    let build = step(&place, "edit-build", "build", "k", BUILD, 0);
    std::fs::copy(place.work().join("image.tar"), place.beside("unedited.tar")).expect("copies");
    let edited = std::fs::read(place.work().join("image.tar")).expect("reads");
    place.write("image.tar", [edited.as_slice(), &[0; 512]].concat());
    let sbom = step(&place, "edit-sbom", "sbom", "k", "sh sbom.sh zlib 1.3", 0);
    let test = step(&place, "edit-test", "test", "k", "tar tf image.tar > test.log", 0);
    denied(verify(&place, &[&build, &sbom, &test], &["../unedited.tar"]), "image.tar was sha256:");
    denied_or_missing(&verify(&place, &[&build, &sbom, &test], &["image.tar"]), "image.tar");

    // A build that failed, and one whose failure was passed over.
    let failed = step(&place, "failed", "build", "k", &format!("{BUILD}; exit 3"), 3);
    let sbom = step(&place, "failed-sbom", "sbom", "k", "sh sbom.sh zlib 1.3", 0);
    let test = step(&place, "failed-test", "test", "k", "tar tf image.tar > test.log", 0);
    denied(verify(&place, &[&failed, &sbom, &test], &["image.tar"]), "it failed: exit code 3");
    let passed_over = "../ignored.json";
    git(&place, &["clean", "-fdxq"]);
    place
        .affiant(["run", "-k", "../k.pem", "-o", passed_over, "-s", "build", "-a", "environment,git"])
        .with(["--ignore-command-exit-code", "--", "sh", "-c", &format!("{BUILD}; exit 3")])
        .run()
        .code(0);
    let sbom = step(&place, "ignored-sbom", "sbom", "k", "sh sbom.sh zlib 1.3", 0);
    let test = step(&place, "ignored-test", "test", "k", "tar tf image.tar > test.log", 0);
    denied(verify(&place, &[passed_over, &sbom, &test], &["image.tar"]), "exit code 3");
}

/// No evidence may be about what was asked at all: then the code is 3.
#[track_caller]
fn denied_or_missing(ended: &Ended, because: &str) {
    let code = ended.exit_code();
    assert!(code == 1 || code == 3, "{code}: {}", ended.stdout_text());
    let text = ended.stdout_text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(because), "`{because}` is not in: {text}");
}

fn verify_with(place: &Place, evidence: &[&str], args: &[&str]) -> Ended {
    let evidence = evidence.join(",");
    place
        .affiant(["verify", "-p", "../policy.signed.json", "-k", "../policy.pub", "-a", evidence.as_str()])
        .with(args)
        .run()
}

#[test]
fn tests_of_the_parent_commit_do_not_count() {
    let Some(place) = repository() else { return };
    let old = pipeline(&place, "old-");
    // Joined by nothing but the commit: the weakest policy that is still one.
    policy(&place, &old, &[], |source| source.replace("artifactsFrom: [build, sbom]", "artifactsFrom: []"));
    verify(&place, &all(&old), &["image.tar"]).code(0);
    git(&place, &["commit", "-q", "--allow-empty", "-m", "two"]);
    let build = step(&place, "new-build", "build", "k", BUILD, 0);
    let sbom = step(&place, "new-sbom", "sbom", "k", "sh sbom.sh zlib 1.3", 0);
    denied(verify(&place, &[&build, &sbom, &old[2]], &["image.tar"]), "evidence of step `test`");
    let test = step(&place, "new-test", "test", "k", "tar tf image.tar > test.log", 0);
    verify(&place, &[&build, &sbom, &test], &["image.tar"]).code(0);
}

/// Security rule 12, with the SBOM in an envelope of its own.
#[test]
fn an_sbom_in_its_own_envelope_belongs_to_its_run() {
    let Some(place) = repository() else { return };
    let run = |prefix: &str| {
        let build = step(&place, &format!("{prefix}build"), "build", "k", BUILD, 0);
        let sbom = step(&place, &format!("{prefix}sbom"), "sbom", "k", "sh sbom3.sh", 0);
        let own = format!("{sbom}-sbom.json");
        assert!(place.work().join(&own).exists(), "the SBOM has an own envelope");
        [build, sbom, own]
    };
    let first = run("a-");
    policy(&place, &first, &[], |source| {
        assert!(source.contains("type: https://spdx.dev/Document/v3"), "{source}");
        source
    });
    verify(&place, &all(&first), &["image.tar"]).code(0);
    let second = run("b-");
    verify(&place, &all(&second), &["image.tar"]).code(0);
    denied(verify(&place, &[&second[0], &second[1], &first[2]], &["image.tar"]), "https://spdx.dev/Document/v3");
    denied(verify(&place, &[&second[0], &second[1]], &["image.tar"]), "missing https://spdx.dev/Document/v3");
}

const TSA: &str = "\
[req]
distinguished_name = dn
[dn]
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[time]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[tsa]
serial = serial
crypto_device = builtin
default_policy = 1.2.3.4.1
digests = sha256
ess_cert_id_chain = no
";

/// openssl in a folder.
fn openssl(folder: &Path, args: &str) {
    let done = Command::new("openssl").args(args.split(' ')).current_dir(folder).output().expect("openssl runs");
    assert!(done.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A timestamp authority in `../tsa`, with its root in `root.pem`.
fn timestamp_authority(place: &Place) {
    let tsa = place.beside("tsa");
    std::fs::create_dir(&tsa).expect("makes a folder");
    std::fs::write(tsa.join("cnf"), TSA).expect("writes");
    std::fs::write(tsa.join("serial"), "01\n").expect("writes");
    let generate = "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out";
    openssl(&tsa, &format!("{generate} root.key"));
    openssl(&tsa, &format!("{generate} leaf.key"));
    openssl(&tsa, "req -x509 -new -key root.key -subj /CN=root -days 100 -config cnf -extensions root -out root.pem");
    openssl(&tsa, "req -new -key leaf.key -subj /CN=tsa -config cnf -out csr");
    let sign = "x509 -req -in csr -CA root.pem -CAkey root.key -CAcreateserial -days 90";
    openssl(&tsa, &format!("{sign} -extfile cnf -extensions time -out leaf.pem"));
}

/// Adds a timestamp of now to each signature of an envelope, as `--timestamp-servers` does in the peers.
fn timestamp(place: &Place, file: &str) {
    let tsa = place.beside("tsa");
    let path = place.work().join(file);
    let mut envelope: Value = serde_json::from_slice(&std::fs::read(&path).expect("reads")).expect("JSON");
    for signature in envelope["signatures"].as_array_mut().expect("signatures") {
        let bytes = STANDARD.decode(signature["sig"].as_str().expect("a signature")).expect("base64");
        std::fs::write(tsa.join("signature"), bytes).expect("writes");
        openssl(&tsa, "ts -query -data signature -sha256 -no_nonce -cert -out query");
        openssl(
            &tsa,
            "ts -reply -queryfile query -config cnf -section tsa -sha256 -signer leaf.pem -inkey leaf.key -token_out -out token",
        );
        let token = STANDARD.encode(std::fs::read(tsa.join("token")).expect("reads"));
        signature["timestamps"] = serde_json::json!([{ "type": "tsp", "data": token }]);
    }
    std::fs::write(path, envelope.to_string()).expect("writes");
}

fn days_from_now(days: i64) -> String {
    let output = Command::new("date").args(["-u", "-d", &format!("{days} days"), "+%Y-%m-%dT%H:%M:%SZ"]).output();
    String::from_utf8(output.expect("date runs").stdout).expect("text").trim().to_owned()
}

#[test]
fn evidence_older_than_its_greatest_age_is_denied() {
    if Command::new("openssl").arg("version").output().is_err() {
        left_out("openssl is not there");
        return;
    }
    let Some(place) = repository() else { return };
    timestamp_authority(&place);
    let good = pipeline(&place, "");
    let bare = std::fs::read(place.work().join(&good[0])).expect("reads");
    for file in &good {
        timestamp(&place, file);
    }
    policy(&place, &good, &["--timestamp-authority", "../tsa/root.pem"], |source| {
        assert!(source.contains("timestampauthorities:\n  root:\n"), "{source}");
        let changed = source.replacen("# maxAge: 30d", "maxAge: 30d", 1);
        assert_ne!(changed, source);
        changed
    });
    verify(&place, &all(&good), &["image.tar"]).code(0);
    let at = |days| verify_with(&place, &all(&good), &["-f", "image.tar", "--at", &days_from_now(days)]);
    at(29).code(0);
    denied(at(31), "at most 720h old");
    // Without its timestamp nobody knows how old it is.
    std::fs::write(place.work().join(&good[0]), bare).expect("writes");
    denied(verify(&place, &all(&good), &["image.tar"]), "no proven time");
}

#[test]
fn a_signer_who_is_not_proven_is_no_functionary() {
    let place = Place::new();
    place.affiant(["key", "generate", "--kind", "ed25519", "--no-password", "-o", "../other.pem"]).run().code(0);
    place.capture(["-s", "build", "-a", "environment", "--", "sh", "-c", "echo x > x"]).run().code(0);
    let init = |args: &[&str]| place.affiant(["policy", "init", "--from", "../a.json"]).with(args).run();
    for args in [&[][..], &["--key", "../other.pub"]] {
        init(args).code(1).stdout("").stderr_has(&[
            "error: no policy can be made of this evidence",
            "../a.json: nothing that was given proves its signature (it names the key ",
            "hint: name the public key of its signer with `--key FILE`",
        ]);
    }
    init(&["--key", "../k.pem"]).code(4).stdout("").stderr_has(&["the public key ../k.pem cannot be used", "private"]);
    // Failed builds make no policy.
    place.capture(["-s", "build", "-a", "environment", "--", "false"]).run().code(1);
    init(&["--key", "../k.pub"]).code(1).stderr_has(&["there is no evidence of a step that succeeded"]);
}

/// The recorded evidence of witness and cilock, with keys and with certificates.
#[test]
fn policies_are_made_from_evidence_of_both_peers() {
    let place = Place::without_key();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for peer in ["witness", "cilock"] {
        let file = fixtures.join(format!("envelopes/{peer}/docker-build.json")).display().to_string();
        let key = fixtures.join("keys/functionary.pub").display().to_string();
        let made = place.affiant(["policy", "init", "--from", &file, "--key", &key]).run().code(0).stderr("");
        std::fs::write(place.beside("policy.yaml"), made.stdout_text()).expect("writes");
        place.affiant(["policy", "check", "../policy.yaml"]).run().code(0).stderr("");

        let file = fixtures.join(format!("certificates/{peer}/good.json")).display().to_string();
        let keys = |name: &str| fixtures.join(format!("certificates/keys/{name}.pem")).display().to_string();
        let made = place
            .affiant([
                "policy",
                "init",
                "--from",
                &file,
                "--root",
                &keys("root"),
                "--intermediate",
                &keys("intermediate"),
            ])
            .with(["--timestamp-authority", &keys("tsa-root")])
            .run()
            .code(0)
            .stderr("");
        let source = made.stdout_text();
        assert!(source.contains("certConstraint:") && source.contains("roots: [\"root\"]"), "{source}");
        std::fs::write(place.beside("policy.yaml"), source).expect("writes");
        place.affiant(["policy", "check", "../policy.yaml"]).run().code(0).stderr("");
        // Without the authority the time is not proven, and nobody is.
        place
            .affiant(["policy", "init", "--from", &file, "--root", &keys("root")])
            .run()
            .code(1)
            .stderr_has(&["the time of its certificate"]);
    }
}

#[test]
fn sources_are_compiled_and_their_mistakes_have_lines() {
    let place = Place::new();
    std::fs::copy(place.beside("k.pub"), place.work().join("k.pub")).expect("copies");
    place.write("rules/a.rego", "package a\nimport rego.v1\ndeny contains \"no\" if input.exitcode != 0\n");
    let source = "expires: 90d\npublickeys:\n  ci: k.pub\nsteps:\n  build:\n    functionaries: [ci]\n    exitcode: 0\n    attestations:\n      - type: command-run\n        rego: rules/a.rego\n";
    place.write("policy.yaml", source);
    let compiled = place.affiant(["policy", "compile", "policy.yaml"]).run().code(0).stderr("");
    let json: Value = serde_json::from_str(&compiled.stdout_text()).expect("JSON");
    assert_eq!(json["expires"], "2024-02-12T22:13:20Z", "90 days behind SOURCE_DATE_EPOCH");
    assert_eq!(json["steps"]["build"]["attestations"][0]["regopolicies"][0]["name"], "rules/a.rego");
    place.affiant(["policy", "compile", "policy.yaml", "-o", "policy.json"]).run().code(0).stdout("").stderr("");
    let sign = |file: &str, out: &str| {
        place.affiant(["policy", "sign", file, "-k", "../k.pem", "-o", out]).run().code(0).stdout("").stderr("");
        std::fs::read(place.work().join(out)).expect("an envelope")
    };
    assert!(sign("policy.yaml", "1.json") == sign("policy.json", "2.json"), "a source and what is made of it");
    for (find, replace, expected) in [
        ("90d", "soon", "error: policy.yaml:1: `expires`: `soon` is no time"),
        ("exitcode", "exit-code", "error: policy.yaml:7: `steps.build.exit-code`: not known, did you mean `exitcode`?"),
        (
            "rules/a.rego",
            "rules/b.rego",
            "error: policy.yaml:10: `steps.build.attestations[0].rego`: the file rules/b.rego cannot be read",
        ),
        (
            "rules/a.rego",
            "../k.pem",
            "error: policy.yaml:10: `steps.build.attestations[0].rego`: the file ../k.pem is outside",
        ),
        ("k.pub", "k.pub\n  ci: k.pub", "error: policy.yaml:4: not YAML or JSON: duplicate"),
        ("[ci]", "[cj]", "error: policy.yaml:6: `steps.build.functionaries[0]`: the file cj cannot be read"),
    ] {
        place.write("bad.yaml", "");
        place.write("policy.yaml", source.replacen(find, replace, 1));
        let ended = place.affiant(["policy", "compile", "policy.yaml"]).run().code(2).stdout("");
        assert!(ended.stderr_text().starts_with(expected), "{}\n{expected}", ended.stderr_text());
        let checked = place.affiant(["policy", "check", "policy.yaml"]).run().code(1).stderr("");
        assert!(checked.stdout_text().contains("1 error,"), "{}", checked.stdout_text());
    }
    // No key is printed, whatever is named.
    place.write("policy.yaml", source.replace("rules/a.rego", &place.beside("k.pem").display().to_string()));
    let ended = place.affiant(["policy", "compile", "policy.yaml"]).run().code(2).stdout("");
    let key = std::fs::read_to_string(place.beside("k.pem")).expect("a key");
    let secret = key.lines().nth(1).expect("base64");
    assert!(!ended.stderr_text().contains(&secret[..20]), "{}", ended.stderr_text());
    place.write("policy.yaml", source.replace("ci: k.pub", &format!("ci: {}", place.beside("k.pem").display())));
    place.affiant(["policy", "compile", "policy.yaml"]).run().code(2).stdout("").stderr_has(&["private key"]);
}

#[test]
fn a_signed_policy_is_checked_and_shown() {
    let place = Place::new();
    place.affiant(["key", "generate", "--kind", "ed25519", "--no-password", "-o", "../other.pem"]).run().code(0);
    std::fs::copy(place.beside("k.pub"), place.work().join("k.pub")).expect("copies");
    place.write("policy.yaml", "expires: 90d\nsteps:\n  build: {functionaries: [k.pub], attestations: [product]}\n");
    let sign = |key: &str, file: &str| place.affiant(["policy", "sign", "policy.yaml", "-k", key, "-o", file]);
    let check = |args: &[&str]| place.affiant(["policy", "check"]).with(args).run();
    // Of 90 days after 2023: what is signed is over when it is over, whatever SOURCE_DATE_EPOCH says here too.
    sign("../other.pem", "old.json").run().code(0);
    let text = check(&["old.json"]).code(1).stderr("").stdout_text();
    assert!(text.contains("the policy expired at 2024-02-12T22:13:20Z"), "{text}");
    sign("../other.pem", "p.json").env_remove("SOURCE_DATE_EPOCH").run().code(0);
    let text = check(&["p.json", "-k", "../other.pub"]).code(0).stderr("").stdout_text();
    assert!(text.contains("p.json: warning: steps.build: no exit code is demanded"), "{text}");
    assert!(text.contains("p.json: signed by "), "{text}");
    check(&["p.json", "--strict"]).code(1);
    let text = check(&["p.json", "-k", "../k.pub"]).code(1).stderr("").stdout_text();
    assert!(text.contains("signed, but not by a key that was named"), "{text}");
    let text = check(&["policy.yaml", "-k", "../k.pub"]).code(1).stderr("").stdout_text();
    assert!(text.contains("the policy is not signed"), "{text}");
    check(&["p.json", "-q"]).code(0).stdout("").stderr("");
    let json = check(&["p.json", "--json"]).code(0).stderr("").stdout_text();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["errors"], &json["warnings"]), (&Value::from(0), &Value::from(1)));
    // A key that signs policies and evidence alike.
    sign("../k.pem", "own.json").env_remove("SOURCE_DATE_EPOCH").run().code(0);
    let text = check(&["own.json", "-k", "../k.pub"]).code(0).stderr("").stdout_text();
    assert!(text.contains("signs the policy and is a functionary"), "{text}");
    let text = place.affiant(["policy", "validate", "-p", "p.json", "-k", "../other.pub"]).run().code(0).stdout_text();
    assert!(text.contains("0 errors, 1 warning"), "{text}");
    let text = place.affiant(["policy", "show", "p.json"]).run().code(0).stderr("").stdout_text();
    assert!(text.starts_with("policy p.json (signed, not checked; it names "), "{text}");
    assert!(text.contains("step build\n  signed by one of\n    key "), "{text}");
    place
        .affiant(["policy", "sign", "p.json", "-k", "../k.pem"])
        .run()
        .code(2)
        .stdout("")
        .stderr_has(&["is signed already"]);
}

#[test]
fn policies_from_bundles_are_raw_json() {
    let place = Place::new();
    place.capture(["-s", "build", "-a", "environment", "--", "sh", "-c", "echo x > x"]).run().code(0);
    let args = [
        "policy",
        "from-bundles",
        "-k",
        "../k.pub",
        "../a.json",
        "--step-prefix",
        "ci-",
        "--expires",
        "2035-01-01T00:00:00Z",
    ];
    let made = place.affiant(args).run().code(0).stderr("").stdout_text();
    let json: Value = serde_json::from_str(&made).expect("JSON");
    assert_eq!(json["expires"], "2035-01-01T00:00:00Z");
    assert_eq!(json["steps"]["ci-build"]["name"], "ci-build");
}

#[test]
fn rules_are_asked_about_documents_and_evidence() {
    let place = Place::new();
    place.capture(["-s", "build", "-a", "environment", "--", "sh", "-c", "echo x > x"]).run().code(0);
    place.write("a.rego", "package a\nimport rego.v1\ndeny contains msg if {\n  print(\"os\", input.os)\n  input.os != \"plan9\"\n  msg := \"not plan9\"\n}\n");
    place.write("lib.rego", "package lib\nx := 1\n");
    place.write("plan9.json", "{\"os\": \"plan9\"}");
    place.write("linux.json", "{\"os\": \"linux\"}");
    let eval = |args: &[&str]| place.affiant(["policy", "eval", "--rego", "a.rego"]).with(args).run();
    eval(&["--input", "plan9.json"]).code(0).stdout("plan9.json: package a passes\n").stderr("");
    eval(&["--input", "linux.json"]).code(1).stdout("linux.json: package a denies: not plan9\n").stderr("");
    let text = eval(&["--input", "linux.json", "--print", "-v"]).code(1).stderr("").stdout_text();
    assert!(text.contains("print: a.rego:4: os linux\n") && text.contains("\"os\": \"linux\""), "{text}");
    eval(&["--input-of", "../a.json", "--type", "environment"]).code(1).stderr("");
    eval(&["--input-of", "../a.json", "--type", "git"])
        .code(3)
        .stdout("")
        .stderr_has(&["it has: environment, material"]);
    eval(&["--input", "../a.json"]).code(2).stdout("").stderr_has(&["is an envelope", "--input-of"]);
    eval(&["--input", "plan9.json", "--package", "data.b.deny"])
        .code(2)
        .stdout("")
        .stderr_has(&["no package `b` is asked; there is: a"]);
    eval(&["--input", "plan9.json", "--entry", "data.a.deny"]).code(0).stderr("");
    let lib = place.affiant(["policy", "eval", "--rego", "lib.rego", "--input", "plan9.json"]).run();
    assert!(lib.stdout_text().contains("package lib denies: package lib has no rule deny"), "{}", lib.stdout_text());
    place.write("bad.rego", "package a\ndeny[\n");
    place
        .affiant(["policy", "eval", "--rego", "bad.rego", "--input", "plan9.json"])
        .run()
        .code(4)
        .stdout("")
        .stderr_has(&["bad.rego"]);
    place.write(
        "policy.yaml",
        "expires: 90d\nsteps:\n  build:\n    attestations:\n      - {type: environment, rego: a.rego}\n",
    );
    let of_policy = |step: &str| {
        place.affiant(["policy", "eval", "--policy", "policy.yaml", "--step", step, "--input-of", "../a.json"]).run()
    };
    of_policy("build").code(1).stdout("../a.json, environment: package a denies: not plan9\n").stderr("");
    of_policy("bild").code(2).stdout("").stderr_has(&["the policy has no step `bild`; it has: build"]);
}

#[test]
fn cases_are_judged_and_their_rules_covered() {
    let place = Place::new();
    place.capture(["-s", "build", "-a", "environment", "--", "sh", "-c", "echo x > x"]).run().code(0);
    std::fs::create_dir(place.work().join("cases")).expect("makes a folder");
    for (from, to) in [("a.json", "cases/build.json"), ("k.pub", "cases/k.pub")] {
        std::fs::copy(place.beside(from), place.work().join(to)).expect("copies");
    }
    std::fs::copy(place.work().join("x"), place.work().join("cases/x")).expect("copies");
    place.write("cases/y", "another file");
    place.write(
        "cases/a.rego",
        "package a\nimport rego.v1\ndeny contains msg if {\n  input.os == \"plan9\"\n  msg := \"plan9\"\n}\n",
    );
    place.write("cases/policy.yaml", "expires: 90d\nsteps:\n  build:\n    functionaries: [k.pub]\n    exitcode: 0\n    attestations:\n      - {type: environment, rego: a.rego}\n      - product\n");
    place.write("cases/good.yaml", "policy: policy.yaml\nevidence: [build.json]\nartifacts: [x]\nexpect: passed\n");
    place.write("cases/swapped/case.yaml", "policy: ../policy.yaml\nevidence: [../build.json]\nartifacts: [../x, ../y]\nexpect: denied\nreason: has made\n");
    let test = || place.affiant(["policy", "test", "cases", "--junit", "../junit.xml"]).run();
    let expected = "ok       good\nok       swapped\n2 cases, 0 differ\n";
    let text = test().code(0).stderr("").stdout_text();
    assert!(text.starts_with(expected), "{text}");
    assert!(
        text.contains("rules: 1 of 3 lines reached\n  cases/policy.yaml, a.rego: lines 3, 5 not reached\n"),
        "{text}"
    );
    place.write(
        "cases/wrong.yaml",
        "policy: policy.yaml\nevidence: [build.json]\nartifacts: [y]\nsubjects: []\nexpect: passed\n",
    );
    place.write(
        "cases/reason.yaml",
        "policy: policy.yaml\nevidence: [build.json]\nartifacts: [x, y]\nexpect: denied\nreason: nonsense\n",
    );
    let text = test().code(1).stderr("").stdout_text();
    assert!(text.contains("DIFFERS  wrong\n         expected passed, found denied\n"), "{text}");
    assert!(text.contains("DIFFERS  reason\n         denied as expected, but not because of `nonsense`\n"), "{text}");
    assert!(text.contains("4 cases, 2 differ"), "{text}");
    let junit = std::fs::read_to_string(place.beside("junit.xml")).expect("results");
    assert!(junit.contains("tests=\"4\" failures=\"2\"") && junit.contains("name=\"wrong\""), "{junit}");
    place.write("cases/typo.yaml", "policy: policy.yaml\nevidense: [build.json]\nexpect: passed\n");
    place
        .affiant(["policy", "test", "cases"])
        .run()
        .code(2)
        .stdout("")
        .stderr_has(&["cases/typo.yaml:2: `evidense` is not known, did you mean `evidence`?"]);
    std::fs::create_dir(place.work().join("none")).expect("makes a folder");
    place.affiant(["policy", "test", "none"]).run().code(3).stdout("").stderr_has(&["there is no case in none"]);
}

#[test]
fn bad_policies_end_with_a_word_not_a_crash() {
    let place = Place::new();
    let deep = format!("x: {}", "[".repeat(100_000));
    let lists = format!("x:\n  {}1", "- ".repeat(100_000));
    let levels = (1..10).map(|level| {
        let before = vec![format!("*a{}", level - 1); 9].join(", ");
        format!("a{level}: &a{level} [{before}]\n")
    });
    let bomb = format!("a0: &a0 [x, x, x, x, x, x, x, x, x]\n{}", levels.collect::<String>());
    let json = format!("{{\"steps\": {}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_001));
    for (name, text) in [
        ("deep", deep.as_str()),
        ("lists", &lists),
        ("bomb", &bomb),
        ("json", &json),
        ("empty", ""),
        ("scalar", "x"),
        ("list", "- a\n"),
        ("twice", "steps: {}\nsteps: {}\n"),
        ("binary", "\u{0}\u{1}"),
        ("none", "expires: 90d\nsteps: {}\n"),
    ] {
        place.write(name, text);
        let compiled = place.affiant(["policy", "compile", name]).run().code(2).stdout("");
        assert!(compiled.stderr_text().starts_with(&format!("error: {name}")), "{}", compiled.stderr_text());
        let checked = place.affiant(["policy", "check", name]).run().code(1).stderr("");
        assert!(checked.stdout_text().contains("1 error, 0 warnings"), "{}", checked.stdout_text());
    }
    place.affiant(["policy", "check", "nothing"]).run().code(4).stdout("").stderr_has(&["nothing cannot be read"]);
    place.affiant(["policy", "check", "../k.pem"]).run().code(1).stderr("");
}
