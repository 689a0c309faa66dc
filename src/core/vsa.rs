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
    let subject: Vec<Subject> = verdict
        .artifacts
        .iter()
        .filter_map(|artifact| {
            let (algorithm, value) = artifact.digest.split_once(':')?;
            let digest = DigestSet([(algorithm.to_owned(), value.to_owned())].into());
            Some(Subject::new(artifact.name.clone(), digest))
        })
        .collect();
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
