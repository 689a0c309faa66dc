//! Verification summaries: the gate's answer as evidence for others.
//!
//! Format: SLSA Verification Summary Attestation v1 (<https://slsa.dev/spec/v1.1/verification_summary>), an in-toto
//! statement v1 whose subjects are the artifacts that were judged.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::DigestSet;
use crate::dsse::Envelope;
use crate::evidence::{EvidenceError, Statement};
use crate::statement::{PAYLOAD_TYPE, STATEMENT_V1, Subject};
use crate::trust::Checked;
use crate::verdict::{Check, CheckKind, Verdict};

/// Predicate type.
pub const TYPE: &str = "https://slsa.dev/verification_summary/v1";
/// The result of a verification that passed.
pub const PASSED: &str = "PASSED";
/// The result of one that did not, and of one that nobody was held to.
pub const FAILED: &str = "FAILED";
/// The level of an artifact whose level was not looked at: a policy says more than a level, and nothing about one.
pub const UNEVALUATED: &str = "SLSA_BUILD_LEVEL_UNEVALUATED";

/// The predicate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Who verified.
    pub verifier: Verifier,
    /// When.
    pub time_verified: Timestamp,
    /// What the artifact is called where it is used.
    pub resource_uri: String,
    /// The policy.
    pub policy: Resource,
    /// The evidence that the answer rests on.
    #[serde(default)]
    pub input_attestations: Vec<Resource>,
    /// [`PASSED`] or [`FAILED`].
    pub verification_result: String,
    /// Levels of the artifact; [`FAILED`] alone where it did not pass.
    #[serde(default)]
    pub verified_levels: Vec<String>,
    /// Version of the specification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slsa_version: Option<String>,
}

/// Who verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    /// A name that the reader knows.
    pub id: String,
}

/// A document: where it is, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Where it came from.
    #[serde(default)]
    pub uri: String,
    /// Its digest.
    #[serde(default)]
    pub digest: DigestSet,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(rename = "_type")]
    kind: &'a str,
    subject: Vec<Subject>,
    predicate_type: &'a str,
    predicate: Summary,
}

/// The statement about a verdict, to be signed as an in-toto payload. Without an artifact there is nothing that it could
/// be about: `None`.
///
/// `enforced` is whether the answer was binding: a verdict that nobody is held to never says [`PASSED`] (security
/// rule 15).
pub fn statement(verdict: &Verdict, verifier: &str, resource: Option<&str>, enforced: bool) -> Option<Vec<u8>> {
    let mut subject: Vec<Subject> = Vec::new();
    // What may be deployed of an image comes first: the index, where its images were judged one by one.
    let images =
        verdict.images.iter().filter_map(|image| Some((&image.reference, image.reference.rsplit_once('@')?.1)));
    let artifacts = verdict.artifacts.iter().map(|artifact| (&artifact.name, artifact.digest.as_str()));
    for (name, digest) in images.chain(artifacts) {
        let Some((algorithm, value)) = digest.split_once(':') else { continue };
        let digest = DigestSet([(algorithm.to_owned(), value.to_owned())].into());
        if !subject.iter().any(|known| known.digest == digest) {
            subject.push(Subject::new(name.clone(), digest));
        }
    }
    let first = subject.first()?;
    let resource_uri = resource.map_or_else(|| first.name.clone(), str::to_owned);
    let passed = enforced && verdict.answer == crate::verdict::Answer::Passed;
    let accepted = verdict.steps.iter().chain(&verdict.external).flat_map(|part| &part.candidates);
    let mut input_attestations: Vec<Resource> = accepted
        .filter(|candidate| !candidate.sha256.is_empty() && (candidate.accepted || !passed))
        .map(|candidate| Resource {
            uri: candidate.source.clone(),
            digest: DigestSet::sha256_hex(candidate.sha256.clone()),
        })
        .collect();
    input_attestations.dedup();
    let summary = Summary {
        verifier: Verifier { id: verifier.to_owned() },
        time_verified: verdict.at,
        resource_uri,
        policy: Resource {
            uri: verdict.policy.source.clone(),
            digest: DigestSet::sha256_hex(verdict.policy.sha256.clone()),
        },
        input_attestations,
        verification_result: if passed { PASSED } else { FAILED }.to_owned(),
        verified_levels: vec![if passed { UNEVALUATED } else { FAILED }.to_owned()],
        slsa_version: Some("1.1".to_owned()),
    };
    let document = Document { kind: STATEMENT_V1, subject, predicate_type: TYPE, predicate: summary };
    serde_json::to_vec(&document).ok()
}

/// What is expected of a summary.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The artifact: its digest as `algorithm`, `value`.
    pub artifact: Option<(String, String)>,
    /// Who must have verified.
    pub verifier: String,
    /// What the artifact must be called.
    pub resource: String,
    /// SHA-256 of the policy's payload, lowercase hex.
    pub policy: Option<String>,
    /// A level that must be among the verified ones.
    pub level: Option<String>,
    /// Not older than this.
    pub since: Option<Timestamp>,
}

/// Checks a summary whose signature holds: type, subject, verifier, resource, policy, result, level, age. The checks end
/// at the first that fails.
pub fn check(checked: &Checked<Envelope>, expected: &Expected, label: &str) -> Vec<Check> {
    let mut done = Vec::new();
    if let Err(failed) = check_all(checked, expected, label, &mut done) {
        done.push(*failed);
    }
    done
}

fn check_all(
    checked: &Checked<Envelope>,
    expected: &Expected,
    label: &str,
    done: &mut Vec<Check>,
) -> Result<(), Box<Check>> {
    let wrong = |kind, expected: &str, found: String, fix: &str| {
        Err(Box::new(Check::failed(kind, expected, found).at(label).fix(fix)))
    };
    let payload = match checked.payload(PAYLOAD_TYPE) {
        Ok(payload) => payload,
        Err(error) => return wrong(CheckKind::Payload, "an in-toto statement", error.to_string(), "name a summary"),
    };
    let statement = match Statement::parse_strict(payload) {
        Ok(statement) => statement,
        Err(error) => return wrong(CheckKind::Payload, "an in-toto statement", text(&error), "name a summary"),
    };
    if statement.predicate_type != TYPE {
        let found = format!("`{}`", statement.predicate_type);
        return wrong(CheckKind::Payload, &format!("the predicate type `{TYPE}`"), found, "name a summary");
    }
    let summary: Summary = match serde_json::from_str(statement.predicate.get()) {
        Ok(summary) => summary,
        Err(error) => {
            return wrong(CheckKind::Payload, "a verification summary", error.to_string(), "have it made again");
        }
    };
    done.push(Check::passed(CheckKind::Payload, "a verification summary"));
    if let Some((algorithm, value)) = &expected.artifact {
        if !statement.subject.iter().any(|subject| subject.value(algorithm) == Some(value.as_str())) {
            let found: Vec<String> = statement.subject.iter().take(3).map(|subject| subject.name.to_string()).collect();
            let found = format!("it is about {}", found.join(", "));
            return wrong(CheckKind::Subject, &format!("{algorithm}:{value}"), found, "have this artifact verified");
        }
        done.push(Check::passed(CheckKind::Subject, format!("{algorithm}:{value}")));
    }
    let same = [
        (CheckKind::Functionary, "the verifier", &expected.verifier, &summary.verifier.id),
        (CheckKind::Product, "the resource", &expected.resource, &summary.resource_uri),
    ];
    for (kind, what, wanted, found) in same {
        if wanted != found {
            return wrong(kind, &format!("{what} `{wanted}`"), format!("`{found}`"), "name the one that is meant");
        }
        done.push(Check::passed(kind, format!("{what} `{found}`")));
    }
    if let Some(wanted) = &expected.policy {
        let found = summary.policy.digest.sha256().unwrap_or("none");
        if found != wanted {
            let found = format!("sha256:{found}");
            return wrong(
                CheckKind::Version,
                &format!("the policy sha256:{wanted}"),
                found,
                "have it verified under this policy",
            );
        }
        done.push(Check::passed(CheckKind::Version, format!("the policy sha256:{found}")));
    }
    if summary.verification_result != PASSED {
        let found = format!("`{}`", summary.verification_result);
        return wrong(CheckKind::Validity, PASSED, found, "see why it was denied, and mend that");
    }
    if let Some(level) = &expected.level
        && !summary.verified_levels.contains(level)
    {
        let found = summary.verified_levels.join(", ");
        return wrong(
            CheckKind::Attestations,
            &format!("the level {level}"),
            found,
            "build it so that it reaches the level",
        );
    }
    if let Some(since) = expected.since
        && summary.time_verified < since
    {
        let found = format!("verified at {}", summary.time_verified);
        return wrong(CheckKind::Age, &format!("verified at {since} or later"), found, "have it verified again");
    }
    done.push(Check::passed(CheckKind::Validity, format!("{PASSED} at {}", summary.time_verified)));
    Ok(())
}

fn text(error: &EvidenceError) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sign::{KeyKind, PrivateKey, Signer as _};
    use crate::trust::Trust;
    use crate::verdict::{Answer, ArtifactPart, Candidate, Outcome, Part, PolicyPart, Walk};

    const AT: &str = "2026-06-01T12:00:00Z";

    fn signed(payload_type: &str, statement: &Value) -> Checked<Envelope> {
        let key = PrivateKey::generate(KeyKind::Ed25519).expect("a key");
        let trust = Trust { keys: vec![key.public_key().clone()], ..Trust::default() };
        let envelope = Envelope::seal(statement.to_string().into_bytes(), payload_type, &[&key]).expect("signs");
        trust.check(envelope).expect("signed by the key")
    }

    fn summary() -> Value {
        json!({
            "_type": STATEMENT_V1,
            "subject": [{"name": "app", "digest": {"sha256": "aa"}}],
            "predicateType": TYPE,
            "predicate": {
                "verifier": {"id": "gate"}, "timeVerified": AT, "resourceUri": "app",
                "policy": {"uri": "p", "digest": {"sha256": "bb"}},
                "verificationResult": PASSED, "verifiedLevels": ["SLSA_BUILD_LEVEL_2"],
            },
        })
    }

    fn everything() -> Expected {
        Expected {
            artifact: Some(("sha256".to_owned(), "aa".to_owned())),
            verifier: "gate".to_owned(),
            resource: "app".to_owned(),
            policy: Some("bb".to_owned()),
            level: Some("SLSA_BUILD_LEVEL_2".to_owned()),
            since: Some(AT.parse().expect("a time")),
        }
    }

    fn failed(payload_type: &str, statement: &Value) -> Vec<CheckKind> {
        let checks = check(&signed(payload_type, statement), &everything(), "summary.json");
        assert!(!checks.is_empty());
        checks.iter().filter(|check| check.has_failed()).map(|check| check.kind).collect()
    }

    #[test]
    fn each_part_of_a_summary_alone_turns_yes_into_no() {
        assert!(failed(PAYLOAD_TYPE, &summary()).is_empty());
        assert_eq!(failed("text/plain", &summary()), [CheckKind::Payload]);
        for (place, value, kind) in [
            ("/_type", json!("other"), CheckKind::Payload),
            ("/predicateType", json!("https://slsa.dev/provenance/v1"), CheckKind::Payload),
            ("/predicate/timeVerified", json!("yesterday"), CheckKind::Payload),
            ("/subject/0/digest/sha256", json!("ab"), CheckKind::Subject),
            ("/subject/0/digest", json!({"sha512": "aa"}), CheckKind::Subject),
            ("/subject", json!([]), CheckKind::Subject),
            ("/predicate/verifier/id", json!("gate2"), CheckKind::Functionary),
            ("/predicate/resourceUri", json!("application"), CheckKind::Product),
            ("/predicate/policy/digest/sha256", json!("bc"), CheckKind::Version),
            ("/predicate/policy/digest", json!({}), CheckKind::Version),
            ("/predicate/verificationResult", json!(FAILED), CheckKind::Validity),
            ("/predicate/verificationResult", json!("passed"), CheckKind::Validity),
            ("/predicate/verifiedLevels", json!(["SLSA_BUILD_LEVEL_1"]), CheckKind::Attestations),
            ("/predicate/verifiedLevels", json!([]), CheckKind::Attestations),
            ("/predicate/timeVerified", json!("2026-06-01T11:59:59Z"), CheckKind::Age),
        ] {
            let mut other = summary();
            *other.pointer_mut(place).expect("a member") = value;
            assert_eq!(failed(PAYLOAD_TYPE, &other), [kind], "{place}");
        }
        let mut later = summary();
        later["predicate"]["timeVerified"] = json!("2026-06-01T12:00:01Z");
        assert!(failed(PAYLOAD_TYPE, &later).is_empty());
    }

    /// A verdict about one artifact, with a candidate that was accepted and one that was not.
    fn verdict(answer: Answer) -> Verdict {
        let candidate = |sha256: &str, accepted| Candidate {
            source: sha256.to_owned(),
            sha256: sha256.to_owned(),
            accepted,
            signers: Vec::new(),
            checks: Vec::new(),
        };
        let step = Part {
            name: "build".to_owned(),
            outcome: Outcome::Passed,
            artifacts_from: Vec::new(),
            requires: Vec::new(),
            checks: Vec::new(),
            candidates: vec![candidate("cc", true), candidate("dd", false), candidate("", true)],
            left_out: 0,
        };
        let artifact = ArtifactPart {
            name: "app".to_owned(),
            digest: "sha256:aa".to_owned(),
            check: Check::passed(CheckKind::Product, ""),
            chain: Vec::new(),
        };
        Verdict {
            answer,
            at: AT.parse().expect("a time"),
            policy: PolicyPart { sha256: "bb".to_owned(), ..PolicyPart::default() },
            trust: Vec::new(),
            artifacts: vec![artifact],
            images: Vec::new(),
            steps: vec![step],
            external: Vec::new(),
            sources: Vec::new(),
            walk: Walk::default(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn only_a_binding_yes_is_summed_up_as_passed() {
        for (answer, enforced, result, inputs) in [
            (Answer::Passed, true, PASSED, &["cc"][..]),
            (Answer::Passed, false, FAILED, &["cc", "dd"]),
            (Answer::Denied, true, FAILED, &["cc", "dd"]),
            (Answer::NoEvidence, true, FAILED, &["cc", "dd"]),
        ] {
            let bytes = statement(&verdict(answer), "gate", None, enforced).expect("about an artifact");
            let value: Value = serde_json::from_slice(&bytes).expect("JSON");
            assert_eq!(value["predicate"]["verificationResult"], result, "{answer:?} {enforced}");
            assert_eq!(
                value["predicate"]["verifiedLevels"],
                json!([if result == PASSED { UNEVALUATED } else { FAILED }])
            );
            let found: Vec<&str> = value["predicate"]["inputAttestations"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|input| input["digest"]["sha256"].as_str())
                .collect();
            assert_eq!(found, inputs, "{answer:?} {enforced}");
            let expected = Expected { level: None, ..everything() };
            let checks = check(&signed(PAYLOAD_TYPE, &value), &expected, "summary.json");
            assert_eq!(checks.iter().any(Check::has_failed), result == FAILED, "{answer:?} {enforced}");
        }
        let without = Verdict { artifacts: Vec::new(), ..verdict(Answer::Passed) };
        assert_eq!(statement(&without, "gate", None, true), None);
    }
}
