//! The gate's answer, as a value: what was asked, what was looked at, and the first check that failed of each part.
//!
//! A verdict is a tree: the policy, the named artifacts, and one part for each step and each external attestation, with
//! the candidates that were found for it. It is the same content in every form that the binary prints.

use jiff::Timestamp;
use serde::Serialize;

/// Version of the JSON form of a [`Verdict`].
pub const SCHEMA: &str = "affiant.verdict/v1";
/// Candidates of one part that are told of, the nearest first.
pub const MAX_CANDIDATES: usize = 20;
/// Longest text of one check's `expected`, `found` or `fix`, in bytes.
pub const MAX_TEXT: usize = 2000;

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Everything that the policy asks for was proven.
    Passed,
    /// Something was not proven.
    Denied,
    /// No evidence was found about what was asked.
    NoEvidence,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// It was not reached, because an earlier one failed.
    NotReached,
}

/// What a check looks at, in the order in which a candidate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckKind {
    /// Candidates were found at all.
    Found,
    /// The file is an envelope that can be read.
    Envelope,
    /// A signature holds, at a proven time where it needs one.
    Signature,
    /// Payload type, statement type and form of the payload.
    Payload,
    /// The name of the step.
    Step,
    /// Who signed is who may.
    Functionary,
    /// The signatures that count are in a trusted log.
    Log,
    /// The signer's certificate is in a trusted log, and says of the run what the evidence says.
    Certificate,
    /// The signature's proven time is within what the policy allows.
    Time,
    /// The command was run and ended as it should.
    Command,
    /// The attestations that the policy asks for are there.
    Attestations,
    /// The attestations are not too old.
    Age,
    /// The rules do not deny.
    Rules,
    /// The evidence is about what was asked.
    Subject,
    /// Files are the same as those of the step they come from.
    Artifacts,
    /// A named artifact was made by an accepted step.
    Product,
    /// The policy is in force.
    Validity,
    /// The version of the policy is not too old.
    Version,
    /// What the policy asks for that could not be judged.
    Support,
}

impl CheckKind {
    /// The word for it, as in the JSON form.
    pub fn word(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Envelope => "envelope",
            Self::Signature => "signature",
            Self::Payload => "payload",
            Self::Step => "step",
            Self::Functionary => "functionary",
            Self::Log => "log",
            Self::Certificate => "certificate",
            Self::Time => "time",
            Self::Command => "command",
            Self::Attestations => "attestations",
            Self::Age => "age",
            Self::Rules => "rules",
            Self::Subject => "subject",
            Self::Artifacts => "artifacts",
            Self::Product => "product",
            Self::Validity => "validity",
            Self::Version => "version",
            Self::Support => "support",
        }
    }
}

/// One thing that was looked at. The texts are whole phrases, empty where there is nothing to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub kind: CheckKind,
    /// How it ended.
    pub outcome: Outcome,
    /// What the policy or the form asks for.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// Where: a member of the policy or of the evidence, a file.
    #[serde(rename = "where")]
    pub place: String,
    /// What would change the outcome; only of a failed check.
    pub fix: String,
}

impl Check {
    /// A check that holds; `found` says what was proven.
    pub fn passed(kind: CheckKind, found: impl Into<String>) -> Self {
        Self {
            kind,
            outcome: Outcome::Passed,
            expected: String::new(),
            found: clip(found.into()),
            place: String::new(),
            fix: String::new(),
        }
    }

    /// A check that does not hold.
    pub fn failed(kind: CheckKind, expected: impl Into<String>, found: impl Into<String>) -> Self {
        let (expected, found) = (clip(expected.into()), clip(found.into()));
        Self { kind, outcome: Outcome::Failed, expected, found, place: String::new(), fix: String::new() }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = clip(place.into());
        self
    }

    /// Says what would change the outcome.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = clip(fix.into());
        self
    }

    /// Whether it does not hold.
    pub fn has_failed(&self) -> bool {
        self.outcome == Outcome::Failed
    }
}

/// Cuts what a stranger may have made long.
fn clip(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push('…');
    }
    text
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The answer.
    pub answer: Answer,
    /// The time at which the policy and ages were judged.
    pub at: Timestamp,
    /// The policy; its checks come first.
    pub policy: PolicyPart,
    /// Where each input that decides whom to trust came from.
    pub trust: Vec<TrustInput>,
    /// The named artifacts, and the images that a machine would run of those that were named.
    pub artifacts: Vec<ArtifactPart>,
    /// The named images: what was resolved, and who has signed it.
    pub images: Vec<ImagePart>,
    /// The steps of the policy, by name.
    pub steps: Vec<Part>,
    /// The external attestations of the policy, by name.
    pub external: Vec<Part>,
    /// Where evidence was looked for.
    pub sources: Vec<SourcePart>,
    /// How many rounds of back-references were walked, and how many are walked at most.
    pub walk: Walk,
    /// What the reader should know beside the answer: members that were ignored, evidence that could not be read.
    pub notes: Vec<String>,
}

/// The policy and what was checked of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PolicyPart {
    /// Where it came from: a file, an object of the archive.
    pub source: String,
    /// SHA-256 of its payload, lowercase hex; empty where no payload could be read.
    pub sha256: String,
    /// Who signed it, proven.
    pub signers: Vec<String>,
    /// Its `version`, where it has one.
    pub version: Option<u64>,
    /// Until when it is in force.
    pub expires: Option<Timestamp>,
    /// What was checked.
    pub checks: Vec<Check>,
}

/// An input that decides whom to trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrustInput {
    /// What it is: `policy key`, `policy root`, `time`, `mode` …
    pub what: String,
    /// Which one: a key id, a digest, a value.
    pub value: String,
    /// Where it came from: `--publickey policy.pub`, `the policy`, `the clock`.
    pub from: String,
}

/// A named artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArtifactPart {
    /// As it was named: a path.
    pub name: String,
    /// Its digest, `sha256:<hex>` or `dirHash:<hex>`.
    pub digest: String,
    /// Whether accepted evidence proves it.
    pub check: Check,
    /// The steps of the chain of evidence that proves it, the one that made it last: name, and the source of its evidence.
    pub chain: Vec<Link>,
}

/// A named image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImagePart {
    /// As it was named.
    pub name: String,
    /// What may be deployed if the answer is yes: `repository@sha256:<hex>` of the index, the image, or the chosen image
    /// of an index.
    pub reference: String,
    /// The digest that the name was resolved to, once.
    pub resolved: String,
    /// Of an index: for which machines the images are that were judged.
    pub platforms: Vec<String>,
    /// The digest in the signature that was asked for and holds.
    pub signed: Option<String>,
    /// Who signed it, proven.
    pub signers: Vec<String>,
    /// What was checked of it beside its evidence: where it is, and its signature.
    pub checks: Vec<Check>,
}

/// One step of a chain of accepted evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The step.
    pub step: String,
    /// Where its evidence came from.
    pub source: String,
    /// SHA-256 of its payload, lowercase hex.
    pub sha256: String,
}

/// A step, or an external attestation, of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// Its name in the policy.
    pub name: String,
    /// Whether it is satisfied.
    pub outcome: Outcome,
    /// The steps whose files it takes, for a drawing of the chain.
    pub artifacts_from: Vec<String>,
    /// What the policy asks for, a phrase each.
    pub requires: Vec<String>,
    /// Checks of the part as a whole: that there are candidates, that one of them fits the others.
    pub checks: Vec<Check>,
    /// The candidates: accepted ones first, then the nearest; at most [`MAX_CANDIDATES`].
    pub candidates: Vec<Candidate>,
    /// How many more there were.
    pub left_out: usize,
}

/// Evidence that was looked at for a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Where it came from: a file, an object of the archive.
    pub source: String,
    /// SHA-256 of its payload, lowercase hex; empty where it could not be read.
    pub sha256: String,
    /// Whether it was accepted.
    pub accepted: bool,
    /// Who signed it, proven; as the policy can name them.
    pub signers: Vec<String>,
    /// Its checks, up to the first that failed and those not reached.
    pub checks: Vec<Check>,
}

impl Candidate {
    /// The first check that failed.
    pub fn first_failed(&self) -> Option<&Check> {
        self.checks.iter().find(|check| check.has_failed())
    }

    /// How many checks it passed before one failed: the more, the nearer.
    pub fn nearness(&self) -> usize {
        self.checks.iter().take_while(|check| !check.has_failed()).count()
    }
}

/// A place where evidence was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourcePart {
    /// Its name: `files`, `archive dir:…`.
    pub name: String,
    /// How many envelopes it gave.
    pub envelopes: usize,
    /// How many of them are about what was asked, directly or by back-references.
    pub related: usize,
}

/// The walk over back-references.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Walk {
    /// Rounds that were walked.
    pub rounds: usize,
    /// Rounds that are walked at most.
    pub limit: usize,
}

impl Verdict {
    /// The first failed checks of all parts, with the part's name: what a short message says. Each reason once.
    pub fn reasons(&self) -> Vec<(String, &Check)> {
        let mut reasons: Vec<(String, &Check)> = Vec::new();
        let mut add = |name: String, check| {
            if !reasons.iter().any(|(_, known)| *known == check) {
                reasons.push((name, check));
            }
        };
        for check in self.policy.checks.iter().filter(|check| check.has_failed()) {
            add("policy".to_owned(), check);
        }
        for (word, parts) in [("step", &self.steps), ("external attestation", &self.external)] {
            for part in parts.iter().filter(|part| part.outcome == Outcome::Failed) {
                let name = format!("{word} {}", part.name);
                let nearest = part.candidates.first().and_then(Candidate::first_failed);
                let own = part.checks.iter().find(|check| check.has_failed());
                if let Some(check) = nearest.or(own) {
                    add(name, check);
                }
            }
        }
        for image in &self.images {
            for check in image.checks.iter().filter(|check| check.has_failed()) {
                add(format!("image {}", image.name), check);
            }
        }
        for artifact in self.artifacts.iter().filter(|artifact| artifact.check.has_failed()) {
            add(format!("artifact {}", artifact.name), &artifact.check);
        }
        reasons
    }
}
