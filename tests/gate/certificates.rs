//! Certificates at the gate (classes D, F and G): `fixtures/gate` has one payload under certificates of several sorts,
//! all timestamped when they were made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::bad_input::golden;
use super::kit::{APP, POLICY, PRODUCT, fixtures, key, seal};
use super::place::{Ended, Place};

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join("gate").join(name)).expect("reads")
}

/// The constraint of the good leaf.
fn names() -> Value {
    json!({"commonname": "leaf", "dnsnames": [], "emails": ["builder@example.org"], "organizations": [], "uris": [],
        "roots": ["root"]})
}

fn policy(constraint: &Value, root: &str, authority: &str) -> Value {
    let anchor = |file: &str| json!({"certificate": STANDARD.encode(read(file))});
    json!({"expires": "2036-01-01T00:00:00Z",
        "roots": {"root": anchor(root)}, "timestampauthorities": {"tsa": anchor(authority)},
        "steps": {"build": {"name": "build", "functionaries": [{"type": "root", "certConstraint": constraint}],
            "attestations": [{"type": PRODUCT, "regopolicies": []}]}}})
}

fn ask(policy: &Value, evidence: &str) -> Ended {
    let place = Place::new();
    place.write("policy.json", seal(&policy.to_string(), POLICY, &[&key("policy")]));
    place.write("build.json", read(evidence));
    place.write("app", APP);
    let at = ["--at", "2026-12-01T00:00:00Z"];
    place.verify(&[&at[..], &["-p", "policy.json", "-k", "policy.pub", "-a", "build.json", "app"]].concat())
}

#[test]
fn certificates_count_when_their_chain_held_at_the_proven_time() {
    let good = policy(&names(), "root.pem", "tsa-root.pem");
    ask(&good, "good.json").code(0);
    // Anybody of this root, so that only the chain can be the reason.
    let anybody = json!({"commonname": "*", "dnsnames": ["*"], "emails": ["*"], "organizations": ["*"], "uris": ["*"], "roots": ["*"]});
    let all = policy(&anybody, "root.pem", "tsa-root.pem");
    ask(&all, "good.json").code(0);
    for (evidence, text) in [
        ("expired", "was not valid at"),
        ("early", "was not valid at"),
        ("server", "does not have codeSigning"),
        ("any", "does not have codeSigning"),
        ("old-intermediate", "was not valid at"),
        ("offered-root", "certificate does not count"),
        ("leaf-as-authority", "basic constraints"),
        ("self-signed", "certificate does not count"),
        ("no-intermediate", "neither a root nor among the intermediates"),
    ] {
        let ended = ask(&all, &format!("{evidence}.json")).says("build.json").says(text);
        golden(&format!("certificate-{evidence}"), &ended, 1);
    }
    let unknown = policy(&anybody, "evil-root.pem", "tsa-root.pem");
    golden("certificate-unknown-root", &ask(&unknown, "good.json").says("build.json"), 1);
    // A root of the same name does not stand in, nor does the certificate of the timestamp authority.
    ask(&policy(&anybody, "tsa-root.pem", "tsa-root.pem"), "good.json").code(1);
    // A leaf as root lets nobody below it in.
    ask(&policy(&anybody, "leaf.pem", "tsa-root.pem"), "leaf-as-authority.json").code(1).says("basic constraints");
    // Whoever names an intermediate as a root means it: it is the end of the chain.
    ask(&policy(&anybody, "intermediate.pem", "tsa-root.pem"), "good.json").code(0);
    ask(&policy(&anybody, "intermediate.pem", "tsa-root.pem"), "old-intermediate.json").code(1);
}

#[test]
fn times_are_proven_by_authorities_of_the_policy() {
    for authority in ["root.pem", "evil-root.pem", "leaf.pem"] {
        ask(&policy(&names(), "root.pem", authority), "good.json").code(1).says("is not proven");
    }
    let mut without = policy(&names(), "root.pem", "tsa-root.pem");
    without["timestampauthorities"] = json!({});
    ask(&without, "good.json").code(1).says("no timestamp authority is trusted");
    let mut timed = policy(&names(), "root.pem", "tsa-root.pem");
    timed["steps"]["build"]["timestampConstraint"] = json!({"notAfter": "2026-01-01T00:00:00Z"});
    ask(&timed, "good.json").code(1).says("not after 2026-01-01");
    timed["steps"]["build"]["timestampConstraint"] = json!({"notBefore": "2026-01-01T00:00:00Z"});
    ask(&timed, "good.json").code(0);
    timed["steps"]["build"]["timestampConstraint"] = json!({"maxAge": "1ns"});
    ask(&timed, "good.json").code(1).says("signed at");
    let mut aged = policy(&names(), "root.pem", "tsa-root.pem");
    aged["steps"]["build"]["attestations"][0]["maxAge"] = json!("1ns");
    golden("denied-too-old", &ask(&aged, "good.json").says("signed at"), 1);
    aged["steps"]["build"]["attestations"][0]["maxAge"] = json!("240h");
    ask(&aged, "good.json").code(0);
}

#[test]
fn each_name_of_a_certificate_alone_turns_yes_into_no() {
    for (member, value) in [
        ("commonname", json!("other")),
        ("commonname", json!("")),
        ("commonname", json!("LEAF")),
        ("commonname", json!("lea")),
        ("emails", json!([])),
        ("emails", json!([""])),
        ("emails", json!(["builder@example.org.evil.example"])),
        ("emails", json!(["uilder@example.org"])),
        ("emails", json!(["builder@example.org", "other@example.org"])),
        ("emails", json!(["*@example.com"])),
        ("dnsnames", json!(["example.org"])),
        ("organizations", json!(["Example"])),
        ("uris", json!(["https://example.org"])),
        ("roots", json!([])),
        ("extensions", json!({"Issuer": "https://token.actions.githubusercontent.com"})),
        ("requiredpolicyoids", json!(["1.2.3"])),
    ] {
        let mut constraint = names();
        constraint[member] = value.clone();
        let ended = ask(&policy(&constraint, "root.pem", "tsa-root.pem"), "good.json");
        assert_eq!(ended.code, 1, "{member} {value}: {}{}", ended.stdout, ended.stderr);
        ended.says(member);
    }
    // A constraint that names nobody, or only a root, is refused; so is one with a slip.
    for (constraint, code) in [
        (json!({}), 1),
        (json!({"roots": ["root"]}), 1),
        (json!({"roots": ["*"], "emails": [], "commonname": ""}), 1),
        (json!({"roots": ["root"], "emails": ["builder@example.org"], "extensions": {"Issuer": ""}}), 4),
        (json!({"roots": ["nobody"], "emails": ["builder@example.org"]}), 4),
        (
            json!({"roots": ["root"], "commonname": "*", "dnsnames": ["*"], "emails": ["*"], "organizations": ["*"], "uris": ["*"], "extensions": {"Isuer": "x"}}),
            4,
        ),
        (
            json!({"roots": ["root"], "commonname": "*", "dnsnames": ["*"], "emails": ["*"], "organizations": ["*"], "uris": ["*"], "extention": {"Issuer": "x"}}),
            4,
        ),
        (json!({"roots": "root", "commonname": "leaf"}), 4),
    ] {
        let ended = ask(&policy(&constraint, "root.pem", "tsa-root.pem"), "good.json");
        assert_eq!(ended.code, code, "{constraint}: {}{}", ended.stdout, ended.stderr);
    }
}

#[test]
fn identities_of_the_policys_signer_are_all_asked_for() {
    let place = Place::new();
    place.write("root.pem", read("root.pem"));
    place.write("tsa.pem", read("tsa-root.pem"));
    place.write("policy.json", seal("{}", POLICY, &[&key("policy")]));
    place.write("app", APP);
    let args = ["-p", "policy.json", "--policy-ca-roots", "root.pem", "--policy-timestamp-servers", "tsa.pem", "app"];
    place.verify(&args).code(2).says("alone would let anybody");
    place.verify(&[&args[..], &["--policy-emails", "a@b.c"]].concat()).code(1).says("DENIED");
    // Evidence with a good certificate is no policy, and says whose it is.
    place.write("policy.json", read("good.json"));
    place.verify(&[&args[..], &["--policy-emails", "a@b.c"]].concat()).code(1).says("emails: expected");
    place.verify(&[&args[..], &["--policy-emails", "*"]].concat()).code(1).says("payload type");
    for flag in [
        "--policy-commonname",
        "--policy-dns-names",
        "--policy-organizations",
        "--policy-uris",
        "--policy-fulcio-oidc-issuer",
        "--policy-fulcio-source-repository-ref",
        "--policy-fulcio-runner-environment",
    ] {
        let ended = place.verify(&[&args[..], &["--policy-emails", "builder@example.org", flag, "x"]].concat()).code(1);
        ended.says("expected `x`");
    }
}
