//! Statements about an image: which manifests they are about, and what they say of it.
//!
//! Source: in-toto attestation framework, Statement v0.1 and v1; cosign's `sign/v1` statement (sigstore-oci §3.2, §6).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::payload::go_escaped;
use super::reference::Digest;
use crate::evidence::strict::{self, List, Map};
use crate::statement::{STATEMENT_V01, STATEMENT_V1};

/// `predicateType` of the statement that is a signature. No other statement is one.
pub const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// Most subjects of a statement (sigstore-go).
pub const MAX_SUBJECTS: usize = 1024;
/// Most digests of a subject (sigstore-go).
pub const MAX_DIGESTS: usize = 32;

/// Most annotations of a subject.
pub const MAX_ANNOTATIONS: usize = 1024;

/// A statement about images.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(default)]
    subject: List<Subject, MAX_SUBJECTS>,
    /// What kind of predicate it has.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// The predicate, as it was written.
    #[serde(default)]
    pub predicate: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
struct Subject {
    #[serde(default)]
    digest: Map<String, MAX_DIGESTS>,
    /// As they were written: what a value is, is asked where the signature holds.
    #[serde(default)]
    annotations: Map<Box<RawValue>, MAX_ANNOTATIONS>,
}

/// Why a payload is no statement, or a text no predicate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ClaimError {
    /// What is wrong.
    pub reason: String,
}

fn read<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, ClaimError> {
    let text = std::str::from_utf8(payload).map_err(ClaimError::of)?;
    strict::document(text).map_err(ClaimError::of)?;
    serde_json::from_str(text).map_err(ClaimError::of)
}

fn known(kind: &str) -> Result<(), ClaimError> {
    let is_known = kind == STATEMENT_V1 || kind == STATEMENT_V01;
    if is_known { Ok(()) } else { Err(ClaimError { reason: format!("its type is {}", strict::shown(kind)) }) }
}

impl ClaimError {
    #[allow(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
    fn of(error: impl ToString) -> Self {
        Self { reason: error.to_string() }
    }
}

impl Claim {
    /// Reads a statement; members twice or not known are refused.
    pub fn parse(payload: &[u8]) -> Result<Self, ClaimError> {
        let claim: Self = read(payload)?;
        known(&claim.kind)?;
        Ok(claim)
    }

    /// What a statement says that it is, where nobody knows yet who signed it: nothing else of it is read.
    pub fn type_of(payload: &[u8]) -> Result<String, ClaimError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Typed<'a> {
            #[serde(borrow, rename = "_type")]
            kind: Cow<'a, str>,
            #[serde(default, rename = "subject")]
            _subject: IgnoredAny,
            #[serde(rename = "predicateType")]
            predicate_type: String,
            #[serde(default, rename = "predicate")]
            _predicate: IgnoredAny,
        }
        let typed: Typed<'_> = read(payload)?;
        known(&typed.kind)?;
        Ok(typed.predicate_type)
    }

    /// What the statement says of a manifest, one set of annotations for each subject that is this manifest. Nothing:
    /// it is not about it.
    pub fn about(&self, digest: &Digest) -> Vec<BTreeMap<String, Value>> {
        let is_it = |subject: &&Subject| subject.digest.0.get("sha256").is_some_and(|hex| hex == digest.hex());
        let said = |subject: &Subject| {
            let value = |text: &RawValue| serde_json::from_str(text.get()).unwrap_or_default();
            subject.annotations.0.iter().map(|(name, text)| (name.clone(), value(text))).collect()
        };
        self.subject.0.iter().filter(is_it).map(said).collect()
    }
}

impl Claim {
    /// The values of an annotation, over all subjects.
    pub fn annotation(&self, name: &str) -> Vec<String> {
        let values = self.subject.0.iter().filter_map(|subject| subject.annotations.0.get(name));
        values.filter_map(|value| serde_json::from_str(value.get()).ok()).collect()
    }
}

/// Checks that a text is a predicate: a JSON object, no member twice.
pub fn predicate(text: &str) -> Result<(), ClaimError> {
    let failed = |reason: String| ClaimError { reason };
    strict::document(text).map_err(|error| failed(error.to_string()))?;
    if text.trim_start().starts_with('{') { Ok(()) } else { Err(failed("it is no JSON object".to_owned())) }
}

/// The statement that is a signature of an image, as cosign v3 writes it.
///
/// # Panics
///
/// Never: texts are JSON.
pub fn signature(digest: &Digest, annotations: &BTreeMap<String, String>) -> Vec<u8> {
    let mut subject = serde_json::json!({ "digest": { "sha256": digest.hex() } });
    if !annotations.is_empty() {
        subject["annotations"] = serde_json::to_value(annotations).expect("texts are JSON");
    }
    serde_json::json!({ "_type": STATEMENT_V1, "subject": [subject], "predicateType": SIGN, "predicate": {} })
        .to_string()
        .into_bytes()
}

/// The statement that attests a predicate of an image, as cosign writes it. The predicate stands there as it was
/// written.
///
/// # Panics
///
/// Never: texts and JSON are JSON.
pub fn attestation(name: &str, digest: &Digest, predicate_type: &str, predicate: &RawValue) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Written<'a> {
        #[serde(rename = "_type")]
        kind: &'a str,
        #[serde(rename = "predicateType")]
        predicate_type: &'a str,
        subject: [Value; 1],
        predicate: &'a RawValue,
    }
    let subject = serde_json::json!({ "name": name, "digest": { "sha256": digest.hex() } });
    let written = Written { kind: STATEMENT_V01, predicate_type, subject: [subject], predicate };
    go_escaped(&serde_json::to_string(&written).expect("texts and JSON are JSON")).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let (digest, other) = (Digest::of(b"a"), Digest::of(b"b"));
        let annotations = BTreeMap::from([("k".to_owned(), "v,w".to_owned())]);
        let claim = Claim::parse(&signature(&digest, &annotations)).expect("a statement");
        assert_eq!(claim.predicate_type, SIGN);
        assert_eq!(claim.about(&digest), [BTreeMap::from([("k".to_owned(), Value::from("v,w"))])]);
        assert!(claim.about(&other).is_empty());
        assert!(!String::from_utf8_lossy(&signature(&digest, &BTreeMap::new())).contains("annotations"));
        let predicate = RawValue::from_string(r#"{"n": 9007199254740993, "t":"<&>"}"#.to_owned()).expect("JSON");
        let bytes = attestation("r.example/app", &digest, "https://a.example/b", &predicate);
        let text = String::from_utf8(bytes.clone()).expect("text");
        assert!(text.contains("9007199254740993") && text.contains("\\u003c\\u0026\\u003e"), "{text}");
        assert_eq!(Claim::parse(&bytes).expect("a statement").about(&digest).len(), 1);
    }

    #[test]
    fn hostile_statements_are_refused() {
        let good = String::from_utf8(signature(&Digest::of(b"a"), &BTreeMap::new())).expect("text");
        for bad in [
            good.replacen('{', r#"{"x":1,"#, 1),
            good.replacen('{', r#"{"predicateType":"x","#, 1),
            good.replace(STATEMENT_V1, "https://in-toto.io/Statement/v2"),
            good.replace(r#""predicateType":"#, r#""predicatetype":"#),
            format!("{good}{good}"),
            good.replace(r#""subject":["#, &format!(r#""subject":[{}"#, r#"{"digest":{}},"#.repeat(MAX_SUBJECTS))),
        ] {
            assert_ne!(bad, good);
            assert!(Claim::parse(bad.as_bytes()).is_err());
        }
    }

    #[test]
    fn lists_that_are_too_long_fail_while_they_are_read() {
        let good = String::from_utf8(signature(&Digest::of(b"a"), &BTreeMap::new())).expect("text");
        let subject = |inside: &str| good.replace(r#""subject":["#, &format!(r#""subject":[{{{inside}}},"#));
        let many = |count: usize| (0..count).map(|number| format!(r#""{number}":"""#)).collect::<Vec<_>>().join(",");
        let digests = |count| subject(&format!(r#""digest":{{{}}}"#, many(count)));
        let annotations = |count| subject(&format!(r#""annotations":{{{}}}"#, many(count)));
        for (bad, good, limit) in [
            (digests(MAX_DIGESTS + 1), digests(MAX_DIGESTS), MAX_DIGESTS),
            (annotations(MAX_ANNOTATIONS + 1), annotations(MAX_ANNOTATIONS), MAX_ANNOTATIONS),
        ] {
            let error = Claim::parse(bad.as_bytes()).expect_err("too many").to_string();
            assert!(error.contains(&format!("more than {limit} members")), "{error}");
            Claim::parse(good.as_bytes()).expect("as many as may be");
            // What it is can be told of both: nothing of the list is kept.
            assert_eq!(Claim::type_of(bad.as_bytes()).expect("a type"), SIGN);
        }
        assert!(Claim::type_of(good.replacen('{', r#"{"x":1,"#, 1).as_bytes()).is_err());
        assert!(Claim::type_of(good.replace(STATEMENT_V1, "https://in-toto.io/Statement/v2").as_bytes()).is_err());
    }
}
