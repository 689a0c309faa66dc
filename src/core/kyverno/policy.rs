//! Policies of Kyverno, as far as their `verifyImages` go. Members that say nothing about images are passed over.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::members;
use crate::policy::{Document, SourceError};

/// Most documents of one file.
const MAX_DOCUMENTS: usize = 1000;

/// A file that has no policy that can be read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not YAML.
    #[error("document {number}: {source}")]
    Syntax {
        /// Counted from 1.
        number: usize,
        /// What is wrong.
        source: SourceError,
    },
    /// Not as policies of Kyverno are.
    #[error("document {number}: {reason}")]
    Form {
        /// Counted from 1.
        number: usize,
        /// What is wrong.
        reason: String,
    },
    /// Nothing in it verifies images.
    #[error("no ClusterPolicy or Policy with a `verifyImages` rule{0}")]
    None(String),
    /// Too much in one file.
    #[error("more than {MAX_DOCUMENTS} documents")]
    TooMany,
}

/// A `ClusterPolicy` or `Policy`.
#[derive(Debug)]
pub struct Policy {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether a failure is reported only (`Audit`).
    pub audits: bool,
    /// Its rules that verify images.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Whether it has `preconditions`, `match` and `exclude` conditions that are not about images.
    pub has_preconditions: bool,
    /// Its members that no release knows.
    pub(super) unknown: Vec<String>,
    /// What it verifies.
    pub verify: Vec<VerifyImages>,
}

/// What a `verifyImages` entry reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// Tags of cosign.
    #[default]
    Cosign,
    /// Sigstore bundles among the referrers.
    SigstoreBundle,
    /// Notation.
    Notary,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    validation_failure_action: String,
    #[serde(default)]
    rules: Vec<WrittenRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenRule {
    #[serde(default)]
    name: String,
    preconditions: Option<Value>,
    #[serde(default)]
    verify_images: Vec<Value>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// An entry of `verifyImages`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyImages {
    #[serde(default)]
    pub(super) image_references: Vec<String>,
    #[serde(default)]
    pub(super) skip_image_references: Vec<String>,
    /// What it reads.
    #[serde(rename = "type", default)]
    pub kind: Kind,
    #[serde(default)]
    pub(super) attestors: Vec<AttestorSet>,
    #[serde(default)]
    pub(super) attestations: Vec<Attestation>,
    pub(super) repository: Option<String>,
    #[serde(rename = "cosignOCI11", default)]
    pub(super) cosign_oci11: bool,
    pub(super) mutate_digest: Option<bool>,
    pub(super) verify_digest: Option<bool>,
    failure_action: Option<String>,
    /// Conditions on what attestations say together.
    pub(super) validate: Option<Value>,
    /// Members that no release knows, here and below.
    #[serde(skip)]
    pub(super) unknown: Vec<String>,
    /// Members of early releases, which say what `attestors` says today.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct AttestorSet {
    pub(super) count: Option<u64>,
    #[serde(default)]
    pub(super) entries: Vec<Attestor>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Attestor {
    pub(super) keys: Option<Keys>,
    pub(super) keyless: Option<Keyless>,
    pub(super) certificates: Option<Value>,
    #[serde(rename = "attestor")]
    pub(super) inner: Option<Box<AttestorSet>>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) repository: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Keys {
    #[serde(rename = "publicKeys")]
    pub(super) pem: Option<String>,
    pub(super) kms: Option<String>,
    pub(super) secret: Option<Value>,
    pub(super) signature_algorithm: Option<String>,
    #[serde(default)]
    pub(super) rekor: Rekor,
    #[serde(default)]
    pub(super) ctlog: CtLog,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Keyless {
    #[serde(default)]
    pub(super) issuer: String,
    #[serde(default)]
    pub(super) subject: String,
    #[serde(rename = "issuerRegExp", default)]
    pub(super) issuer_reg_exp: String,
    #[serde(rename = "subjectRegExp", default)]
    pub(super) subject_reg_exp: String,
    pub(super) roots: Option<String>,
    #[serde(default)]
    pub(super) additional_extensions: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) rekor: Rekor,
    #[serde(default)]
    pub(super) ctlog: CtLog,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rekor {
    #[serde(default)]
    pub(super) ignore_tlog: bool,
    /// The log's key, in PEM.
    pub(super) pubkey: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct CtLog {
    #[serde(rename = "ignoreSCT", default)]
    pub(super) ignore_sct: bool,
    /// The key of the log of certificates, in PEM.
    pub(super) pubkey: Option<String>,
    /// Timestamp authorities.
    #[serde(rename = "tsaCertChain")]
    pub(super) tsa_cert_chain: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attestation {
    #[serde(rename = "type")]
    kind: Option<String>,
    predicate_type: Option<String>,
    #[serde(default)]
    pub(super) attestors: Vec<AttestorSet>,
    #[serde(default)]
    pub(super) conditions: Vec<AnyAll>,
}

/// All of `all`, and one of `any` where there are any.
#[derive(Debug, Deserialize)]
pub(super) struct AnyAll {
    #[serde(default)]
    pub(super) any: Vec<Condition>,
    #[serde(default)]
    pub(super) all: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Condition {
    #[serde(default)]
    pub(super) key: Value,
    pub(super) operator: String,
    #[serde(default)]
    pub(super) value: Value,
}

impl Attestation {
    /// The predicate type, today's member before the old one.
    pub(super) fn predicate_type(&self) -> &str {
        self.kind.as_deref().or(self.predicate_type.as_deref()).unwrap_or_default()
    }
}

impl VerifyImages {
    /// Members that are not known here and are about trust: what they demand is not judged.
    pub(super) fn old_members(&self) -> Vec<&str> {
        const OLD: [&str; 8] =
            ["image", "key", "keys", "roots", "subject", "issuer", "annotations", "additionalExtensions"];
        self.rest.keys().map(String::as_str).filter(|name| OLD.contains(name)).collect()
    }

    pub(super) fn audits(&self) -> Option<bool> {
        self.failure_action.as_ref().map(|action| action.eq_ignore_ascii_case("audit"))
    }
}

impl Policy {
    /// The policies of a YAML file that verify images.
    pub fn read(bytes: &[u8]) -> Result<Vec<Self>, PolicyError> {
        let text = String::from_utf8_lossy(bytes);
        let mut documents = vec![String::new()];
        for line in text.lines() {
            if line == "---" || line.starts_with("--- ") {
                documents.push(String::new());
            } else if let Some(last) = documents.last_mut() {
                last.push_str(line);
                last.push('\n');
            }
        }
        if documents.len() > MAX_DOCUMENTS {
            return Err(PolicyError::TooMany);
        }
        let (mut policies, mut others) = (Vec::new(), Vec::new());
        for (number, document) in (1..).zip(&documents) {
            let is_empty = document.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
            if is_empty {
                continue;
            }
            let read = Document::parse(document.as_bytes()).map_err(|source| PolicyError::Syntax { number, source })?;
            let written: Written = serde_json::from_value(read.value)
                .map_err(|error| PolicyError::Form { number, reason: error.to_string() })?;
            if written.kind != "ClusterPolicy" && written.kind != "Policy" {
                others.push(written.kind);
                continue;
            }
            let form = |reason: String| PolicyError::Form { number, reason };
            let mut rules = Vec::new();
            for rule in written.spec.rules {
                if let Some(name) = rule.rest.keys().find(|name| members::is_like_verify_images(name)) {
                    let (rule, name) = (rule.name.escape_debug(), name.escape_debug());
                    return Err(form(format!("rule {rule}: `{name}` is no member: `verifyImages` is")));
                }
                if rule.verify_images.is_empty() {
                    continue;
                }
                let read = |value: Value| {
                    let unknown = members::of_entry(&value);
                    let entry: VerifyImages = serde_json::from_value(value).map_err(|error| form(error.to_string()))?;
                    Ok(VerifyImages { unknown, ..entry })
                };
                rules.push(Rule {
                    name: rule.name,
                    has_preconditions: rule.preconditions.is_some(),
                    unknown: members::of_rule(rule.rest.keys()),
                    verify: rule.verify_images.into_iter().map(read).collect::<Result<_, _>>()?,
                });
            }
            if !rules.is_empty() {
                let audits = written.spec.validation_failure_action.eq_ignore_ascii_case("audit");
                policies.push(Self { kind: written.kind, name: written.metadata.name, audits, rules });
            }
        }
        if policies.is_empty() {
            others.retain(|kind| !kind.is_empty());
            let found = if others.is_empty() { String::new() } else { format!(" (there is: {})", others.join(", ")) };
            return Err(PolicyError::None(found));
        }
        Ok(policies)
    }
}
