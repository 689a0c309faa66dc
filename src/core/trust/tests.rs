//! Recorded evidence of the peers, and the rules that they do not have.

use std::path::PathBuf;

mod chains;
mod constraints;
mod envelopes;
mod keyless;
pub(crate) mod logs;
pub(crate) mod make;
mod properties;
mod tokens;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::*;

const LIMIT: usize = 1024 * 1024;

fn fixture(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/certificates").join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn envelope(path: &str) -> Envelope {
    Envelope::parse(&fixture(path), LIMIT).expect("an envelope")
}

fn certificate(path: &str) -> Certificate {
    Certificate::read(&fixture(path)).expect("a certificate")
}

/// `roots` or `timestampauthorities` of a policy.
fn anchors(map: &Value) -> Vec<Anchor> {
    let read = |text: &Value| {
        let pem = STANDARD.decode(text.as_str().expect("text")).expect("base64");
        Certificate::read(&pem).expect("a certificate")
    };
    map.as_object()
        .into_iter()
        .flatten()
        .map(|(id, anchor)| Anchor {
            id: id.clone(),
            certificate: read(&anchor["certificate"]),
            intermediates: anchor["intermediates"].as_array().into_iter().flatten().map(read).collect(),
        })
        .collect()
}

/// The trust of a recorded policy, and the policy.
fn policy(path: &str) -> (Trust, Value) {
    let policy: Value = serde_json::from_slice(&envelope(path).payload).expect("a policy");
    let trust = Trust {
        keys: Vec::new(),
        roots: anchors(&policy["roots"]),
        authorities: anchors(&policy["timestampauthorities"]),
        ..Trust::default()
    };
    (trust, policy)
}

#[test]
fn what_stands_in_a_certificate() {
    let leaf = certificate("keys/leaf.pem");
    assert_eq!(leaf.subject(), "CN=leaf,O=Example a");
    assert_eq!(leaf.issuer(), "CN=intermediate,O=Example a");
    assert_eq!(leaf.common_name(), Some("leaf"));
    assert_eq!(leaf.organizations(), ["Example a"]);
    assert_eq!(leaf.emails(), ["builder-a@example.org"]);
    assert_eq!(leaf.uris(), ["https://ci.example/shop/web/.ci.yml@refs/heads/main"]);
    assert!(leaf.dns_names().is_empty() && !leaf.is_ca() && !leaf.is_self_issued());
    assert_eq!(leaf.not_before().to_string(), "2026-11-21T12:32:58Z");
    assert_eq!(leaf.not_after().to_string(), "2026-11-22T12:32:58Z");
    assert_eq!(leaf.to_pem().as_bytes(), fixture("keys/leaf.pem"));
    assert_eq!(leaf.key_id(), "448f111d8d218cd4e214f75b22d4ff930e4f41a2650387e7410e41012d319566");
    assert_eq!(leaf.purposes().expect("has some").collect::<Vec<_>>(), ["1.3.6.1.5.5.7.3.3"]);
    assert_eq!(Certificate::from_der(leaf.der()).expect("reads"), leaf);
    let root = certificate("keys/root.pem");
    assert!(root.is_ca() && root.is_self_issued());
}

#[test]
fn recorded_evidence_counts_by_certificate_and_timestamp() {
    for peer in ["cilock", "witness"] {
        let (trust, _) = policy(&format!("{peer}/policy-good.signed.json"));
        let checked = trust.check(envelope(&format!("{peer}/good.json"))).expect("counts");
        let [proof] = checked.signers() else { panic!("one signer") };
        assert_eq!(proof.certificate(), Some(&certificate("keys/leaf.pem")));
        assert_eq!(proof.roots(), ["07250621b7e696ec3dae65c70cdd537e5ddd3986538d55867a42f40b88496c9a"]);
        let time = proof.time.as_ref().expect("a time");
        assert!(time.time.to_string().starts_with("2026-11-21T12:3"), "{}", time.time);
        assert_eq!(time.authority, "d30f2b43bcd9ac12f84a738c1e313da56fda12bfaf4a0a6c4f52570e294855c6");
        assert!(proof.notes.is_empty() && checked.refused().is_empty());
    }
}

#[test]
fn recorded_evidence_that_must_not_count() {
    for peer in ["cilock", "witness"] {
        let (trust, _) = policy(&format!("{peer}/policy-good.signed.json"));
        for (file, expected) in [
            (
                "bare",
                "signature 0: the time of its certificate (`CN=leaf,O=Example a`) is not proven: it has no timestamp",
            ),
            (
                "eku",
                "signature 0: its certificate does not count: `CN=leaf-eku,O=Example a` is not for signing evidence: its extended key usage does not have codeSigning",
            ),
            ("token-of-another", "is not proven: the token is for another signature"),
            ("token-edited", "is not proven: a certificate in the token cannot be read: damaged certificate: "),
        ] {
            let error = trust.check(envelope(&format!("{peer}/{file}.json"))).expect_err(file).to_string();
            assert!(error.contains(expected), "{peer} {file}: {error}");
        }
        let (without, _) = policy(&format!("{peer}/policy-notsa.signed.json"));
        let error = without.check(envelope(&format!("{peer}/good.json"))).expect_err("no authority").to_string();
        assert!(error.contains("no timestamp authority is trusted"), "{error}");
    }
}

#[test]
fn what_is_made_here_counts() {
    let world = make::World::new();
    let checked = world.trust().check(world.envelope()).expect("counts");
    let [proof] = checked.signers() else { panic!("one signer") };
    assert_eq!(proof.certificate().map(Certificate::label).as_deref(), Some("CN=leaf,O=Example"));
    assert_eq!(proof.time.as_ref().map(|time| time.time), Some(make::noon()));
}

/// `certConstraint` of the only functionary of a recorded policy.
fn constraint_of(policy: &Value) -> Constraint {
    let value = &policy["steps"]["build"]["functionaries"][0]["certConstraint"];
    let (constraint, unknown) = Constraint::read(value).expect("a constraint");
    assert!(unknown.is_empty(), "{unknown:?}");
    constraint
}

/// Whether the recorded evidence counts, and its signer is the one that the policy wants.
fn accepted(policy_file: &str, evidence: &str) -> Result<(), String> {
    let (trust, policy) = policy(policy_file);
    let checked = trust.check(envelope(evidence)).map_err(|refused| refused.to_string())?;
    let constraint = constraint_of(&policy);
    let judge = |proof| constraint.check(proof).map_err(|list: Vec<Mismatch>| list[0].to_string());
    checked.signers().iter().map(judge).find(Result::is_ok).unwrap_or_else(|| judge(&checked.signers()[0]))
}

#[test]
fn every_recorded_question_has_the_peers_answer() {
    let mut asked = 0;
    for peer in ["cilock", "witness"] {
        let questions: Value = serde_json::from_slice(&fixture(&format!("{peer}/verdicts.json"))).expect("JSON");
        for question in questions.as_array().expect("a list") {
            let text = |member: &str| question[member].as_str().expect("text");
            let evidence = question["attestations"][0].as_str().expect("one file");
            let answer = accepted(text("policy"), evidence);
            // witness judges a certificate at the time of asking when no authority is named; here it does not count.
            let by_the_clock = text("verifier") == "witness" && text("name") == "no timestamp authority in the policy";
            let expected = question["exit"] == 0 && !by_the_clock;
            assert_eq!(answer.is_ok(), expected, "{} {}: {answer:?}", text("verifier"), text("name"));
            asked += 1;
        }
    }
    assert_eq!(asked, 27);
}

#[test]
fn denials_name_field_expected_and_found() {
    for (policy, evidence, expected) in [
        (
            "uri",
            "good",
            "uris: expected `https://ci.example/shop/web/.ci.yml@refs/heads/mainx`, found `https://ci.example/shop/web/.ci.yml@refs/heads/main`",
        ),
        (
            "mail",
            "good",
            "emails: expected `builder-a@example.org`, `second@example.org`, found `builder-a@example.org`",
        ),
        ("less", "good", "emails: expected none, found `builder-a@example.org`"),
        (
            "root",
            "good",
            "no signature of the envelope counts: signature 0: its certificate does not count: the issuer `CN=root,O=Example a` of `CN=intermediate,O=Example a` is neither a root nor among the intermediates",
        ),
        (
            "notsa",
            "good",
            "no signature of the envelope counts: signature 0: the time of its certificate (`CN=leaf,O=Example a`) is not proven: it has a timestamp, but no timestamp authority is trusted",
        ),
    ] {
        for peer in ["cilock", "witness"] {
            let answer = accepted(&format!("{peer}/policy-{policy}.signed.json"), &format!("{peer}/{evidence}.json"));
            assert_eq!(answer, Err(expected.to_owned()), "{peer} {policy}");
        }
    }
}
