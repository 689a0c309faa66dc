//! Makes keys, evidence and policies of any content, and asks the gate in this process.

use std::path::PathBuf;

use affiant_core::digest::{DigestSet, sha256_hex};
use affiant_core::dsse::Envelope;
use affiant_core::sign::{PrivateKey, PublicKey, Signer};
use affiant_core::store::SubjectDigest;
use affiant_core::trust::Trust;
use affiant_core::verdict::{Answer, CheckKind, Verdict};
use affiant_core::verify::{
    Artifact, Files, ImageTrust, PolicyFile, PolicyTrust, Question, Source, VerifyError, verify,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub(crate) const COLLECTION: &str = "https://witness.testifysec.com/attestation-collection/v0.1";
pub(crate) const STATEMENT: &str = "https://in-toto.io/Statement/v0.1";
pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";
pub(crate) const POLICY: &str = "https://witness.testifysec.com/policy/v0.1";
pub(crate) const GIT: &str = "https://witness.dev/attestations/git/v0.1";
pub(crate) const MATERIAL: &str = "https://witness.dev/attestations/material/v0.1";
pub(crate) const PRODUCT: &str = "https://witness.dev/attestations/product/v0.1";
pub(crate) const COMMAND: &str = "https://witness.dev/attestations/command-run/v0.1";
pub(crate) const OCI: &str = "https://witness.dev/attestations/oci/v0.1";
pub(crate) const SBOM: &str = "https://cyclonedx.org/bom";
pub(crate) const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// When questions are asked.
pub(crate) const AT: &str = "2026-11-21T18:00:00Z";
/// What the build makes.
pub(crate) const APP: &str = "the application\n";
/// The commit that is built, its parent and its child.
pub(crate) const COMMIT: &str = "b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1";
pub(crate) const PARENT: &str = "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0";
pub(crate) const CHILD: &str = "c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2";

pub(crate) fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// One of the keys in `fixtures/verdicts/collections/keys`: `policy`, `functionary`, `sbom-functionary`, `stranger`.
/// Always the same, so that texts are.
pub(crate) fn key(name: &str) -> PrivateKey {
    let path = fixtures().join(format!("verdicts/collections/keys/{name}.pem"));
    PrivateKey::from_file_bytes(&std::fs::read(path).expect("reads"), None).expect("a key")
}

pub(crate) fn builder() -> PrivateKey {
    key("functionary")
}

pub(crate) fn tester() -> PrivateKey {
    key("sbom-functionary")
}

pub(crate) fn stranger() -> PrivateKey {
    key("stranger")
}

/// An envelope around any payload.
pub(crate) fn seal(payload: &str, payload_type: &str, keys: &[&PrivateKey]) -> Vec<u8> {
    if keys.is_empty() {
        let (payload, payload_type) = (payload.as_bytes().to_vec(), payload_type.to_owned());
        return Envelope { payload, payload_type, signatures: Vec::new() }.to_json();
    }
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| *key as &dyn Signer).collect();
    Envelope::seal(payload.as_bytes().to_vec(), payload_type, &signers).expect("signs").to_json()
}

/// A signed in-toto statement.
pub(crate) fn statement(predicate_type: &str, subjects: &Value, predicate: &Value, keys: &[&PrivateKey]) -> Vec<u8> {
    let statement =
        json!({"_type": STATEMENT, "subject": subjects, "predicateType": predicate_type, "predicate": predicate});
    seal(&statement.to_string(), IN_TOTO, keys)
}

pub(crate) fn subject(name: &str, sha256: &str) -> Value {
    json!({"name": name, "digest": {"sha256": sha256}})
}

/// The subject of a commit, as cilock and affiant write it.
pub(crate) fn commit(label: &str, commit: &str) -> Value {
    json!({"name": format!("{GIT}/{label}:{commit}"), "digest": {"sha1": commit}})
}

/// Evidence of one run.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) subjects: Vec<Value>,
    pub(crate) entries: Vec<(String, Value)>,
    /// Members of the collection besides `name` and `attestations`.
    pub(crate) more: Vec<(String, Value)>,
}

impl Run {
    /// A run of `commit` that makes and takes these files, given as path and content.
    pub(crate) fn of(name: &str, commit_id: &str, materials: &[(&str, &str)], products: &[(&str, &str)]) -> Self {
        let digest = |content: &str| json!({"sha256": sha256_hex(content.as_bytes())});
        let materials: serde_json::Map<_, _> =
            materials.iter().map(|(path, content)| ((*path).to_owned(), digest(content))).collect();
        let mut subjects = vec![commit("commithash", commit_id)];
        for (path, content) in products {
            subjects.push(subject(&format!("{PRODUCT}/file:{path}"), &sha256_hex(content.as_bytes())));
        }
        let products: serde_json::Map<_, _> = products
            .iter()
            .map(|(path, content)| {
                ((*path).to_owned(), json!({"mime_type": "application/octet-stream", "digest": digest(content)}))
            })
            .collect();
        let entries = vec![
            (GIT.to_owned(), json!({"commithash": commit_id, "parenthashes": [], "branch": "main"})),
            (MATERIAL.to_owned(), Value::Object(materials)),
            (COMMAND.to_owned(), json!({"cmd": ["make"], "exitcode": 0, "stdout": "", "stderr": ""})),
            (PRODUCT.to_owned(), Value::Object(products)),
        ];
        Self { name: name.to_owned(), subjects, entries, more: Vec::new() }
    }

    /// The build of [`COMMIT`], which makes `app` with [`APP`] in it.
    pub(crate) fn build() -> Self {
        Self::of("build", COMMIT, &[("main.c", "int main;\n")], &[("app", APP)])
    }

    /// The tests of [`COMMIT`], which take `app`.
    pub(crate) fn test() -> Self {
        Self::of("test", COMMIT, &[("app", APP)], &[("report.xml", "<ok/>\n")])
    }

    pub(crate) fn entry(&mut self, kind: &str) -> &mut Value {
        let found = self.entries.iter_mut().find(|(known, _)| known == kind);
        &mut found.expect("an entry of this kind").1
    }

    pub(crate) fn with(mut self, kind: &str, predicate: Value) -> Self {
        self.entries.push((kind.to_owned(), predicate));
        self
    }

    pub(crate) fn without(mut self, kind: &str) -> Self {
        self.entries.retain(|(known, _)| known != kind);
        self
    }

    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    pub(crate) fn exit(mut self, code: &Value) -> Self {
        self.entry(COMMAND)["exitcode"] = code.clone();
        self
    }

    pub(crate) fn backrefs(mut self, backrefs: Value) -> Self {
        self.more.push(("backrefs".to_owned(), backrefs));
        self
    }

    pub(crate) fn payload(&self) -> String {
        let entry = |(kind, predicate): &(String, Value)| {
            json!({"type": kind, "attestation": predicate,
                "starttime": "2026-11-21T17:00:00Z", "endtime": "2026-11-21T17:00:01Z"})
        };
        let mut predicate =
            json!({"name": self.name, "attestations": self.entries.iter().map(entry).collect::<Vec<_>>()});
        for (name, value) in &self.more {
            predicate[name] = value.clone();
        }
        let kind = COLLECTION;
        json!({"_type": STATEMENT, "subject": self.subjects, "predicateType": kind, "predicate": predicate}).to_string()
    }

    pub(crate) fn signed(&self, keys: &[&PrivateKey]) -> Vec<u8> {
        seal(&self.payload(), IN_TOTO, keys)
    }

    /// The subject by which evidence in its own envelope names this run.
    pub(crate) fn run_subject(&self) -> Value {
        subject("affiant:run", &sha256_hex(self.payload().as_bytes()))
    }
}

pub(crate) fn functionary(key: &PrivateKey) -> Value {
    json!({"type": "publickey", "publickeyid": key.public_key().key_id()})
}

/// A step that asks for types, without rules.
pub(crate) fn step(name: &str, by: &[&PrivateKey], types: &[&str]) -> Value {
    let functionaries: Vec<Value> = by.iter().map(|key| functionary(key)).collect();
    let attestations: Vec<Value> = types.iter().map(|kind| json!({"type": kind, "regopolicies": []})).collect();
    json!({"name": name, "functionaries": functionaries, "attestations": attestations})
}

/// A policy with the keys of builder, tester and stranger, so that being named is not enough.
pub(crate) fn policy(steps: &[Value]) -> Value {
    let entry = |key: PrivateKey| {
        let public = key.public_key();
        (public.key_id().to_owned(), json!({"keyid": public.key_id(), "key": STANDARD.encode(public.to_pem())}))
    };
    let keys: serde_json::Map<_, _> = [builder(), tester(), stranger()].map(entry).into_iter().collect();
    let steps: serde_json::Map<_, _> =
        steps.iter().map(|step| (step["name"].as_str().expect("a name").to_owned(), step.clone())).collect();
    json!({"expires": "2036-01-01T00:00:00Z", "publickeys": keys, "steps": steps})
}

/// Build and test of one commit; the files of the test are those of the build.
pub(crate) fn two_steps() -> Value {
    let mut test = step("test", &[&tester()], &[COMMAND]);
    test["artifactsFrom"] = json!(["build"]);
    policy(&[step("build", &[&builder()], &[PRODUCT]), test])
}

pub(crate) fn one_step() -> Value {
    policy(&[step("build", &[&builder()], &[PRODUCT])])
}

/// A rule for the first requirement of a step.
pub(crate) fn with_rule(policy: &mut Value, step: &str, module: &str) {
    let rules = &mut policy["steps"][step]["attestations"][0]["regopolicies"];
    rules.as_array_mut().expect("a list").push(json!({"name": "rule.rego", "module": STANDARD.encode(module)}));
}

pub(crate) fn artifact(name: &str, content: &str) -> Artifact {
    let digests = DigestSet::sha256_hex(sha256_hex(content.as_bytes()));
    Artifact::of(name, digests)
}

/// A question.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) policy: Vec<u8>,
    pub(crate) keys: Vec<PublicKey>,
    pub(crate) evidence: Vec<(String, Vec<u8>)>,
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) seeds: Vec<SubjectDigest>,
    pub(crate) at: String,
    pub(crate) minimum_version: Option<u64>,
}

impl Case {
    /// Whether `app` with [`APP`] in it fulfils a policy.
    pub(crate) fn of(policy: &Value) -> Self {
        Self::signed(seal(&policy.to_string(), POLICY, &[&key("policy")]))
    }

    /// The same of a policy in any envelope.
    pub(crate) fn signed(policy: Vec<u8>) -> Self {
        Self {
            policy,
            keys: vec![key("policy").public_key().clone()],
            evidence: Vec::new(),
            artifacts: vec![artifact("app", APP)],
            seeds: Vec::new(),
            at: AT.to_owned(),
            minimum_version: None,
        }
    }

    /// Adds a file of evidence.
    pub(crate) fn with(mut self, envelope: Vec<u8>) -> Self {
        let name = format!("{}.json", self.evidence.len() + 1);
        self.evidence.push((name, envelope));
        self
    }

    pub(crate) fn build(self, run: &Run) -> Self {
        self.with(run.signed(&[&builder()]))
    }

    pub(crate) fn test(self, run: &Run) -> Self {
        self.with(run.signed(&[&tester()]))
    }

    pub(crate) fn about(mut self, artifacts: &[(&str, &str)]) -> Self {
        self.artifacts = artifacts.iter().map(|(name, content)| artifact(name, content)).collect();
        self
    }

    pub(crate) fn seed(mut self, digest: &str) -> Self {
        self.seeds.push(SubjectDigest::parse(digest));
        self
    }

    pub(crate) fn ask(&self) -> Result<Verdict, VerifyError> {
        let mut files = Files::default();
        for (name, bytes) in &self.evidence {
            files.add(name, bytes.clone());
        }
        self.ask_of(&files)
    }

    pub(crate) fn ask_of(&self, source: &dyn Source) -> Result<Verdict, VerifyError> {
        verify(&Question {
            policy: PolicyFile { label: "policy.json", bytes: &self.policy },
            policy_trust: PolicyTrust {
                trust: Trust { keys: self.keys.clone(), ..Trust::default() },
                constraint: None,
                minimum_version: self.minimum_version,
            },
            artifacts: self.artifacts.clone(),
            images: Vec::new(),
            image_trust: ImageTrust::default(),
            seeds: self.seeds.clone(),
            sources: vec![source],
            at: self.at.parse().expect("a time"),
            origins: Vec::new(),
        })
    }

    #[track_caller]
    pub(crate) fn passes(&self) {
        match self.ask() {
            Ok(verdict) => assert_eq!(verdict.answer, Answer::Passed, "{}", told(&verdict)),
            Err(error) => panic!("no answer: {error:?}"),
        }
    }

    /// Denied, and a reason is of this kind and has this text in what was expected or found.
    #[track_caller]
    pub(crate) fn denied(&self, kind: CheckKind, text: &str) {
        match self.ask() {
            Ok(verdict) => is_denied(&verdict, kind, text),
            Err(error) => panic!("no answer: {error:?}"),
        }
    }

    /// No answer, for a reason that has this text.
    #[track_caller]
    pub(crate) fn no_answer(&self, text: &str) {
        let error = self.ask().expect_err("an answer");
        let mut whole = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            whole = format!("{whole}: {error}");
            cause = error.source();
        }
        assert!(whole.contains(text), "{whole}");
    }
}

#[track_caller]
pub(crate) fn is_denied(verdict: &Verdict, kind: CheckKind, text: &str) {
    assert_ne!(verdict.answer, Answer::Passed, "{}", told(verdict));
    let fits = verdict.reasons().into_iter().any(|(_, check)| {
        check.kind == kind && (check.found.contains(text) || check.expected.contains(text)) && !check.fix.is_empty()
    });
    assert!(fits, "no reason {kind:?} with {text:?}:\n{}", told(verdict));
}

/// The reasons of a verdict.
pub(crate) fn told(verdict: &Verdict) -> String {
    let reasons = verdict.reasons().into_iter().map(|(name, check)| {
        let (expected, found, fix) = (&check.expected, &check.found, &check.fix);
        format!("  {name}: {:?}: expected {expected}; found {found}; to do: {fix}\n", check.kind)
    });
    format!("{:?}\n{}", verdict.answer, reasons.collect::<String>())
}
