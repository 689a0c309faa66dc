//! The gate: may this artifact be promoted?
//!
//! ```text
//! Question ─trust()→ TrustedPolicy ─gather(sources)→ evidence ─accept()→ accepted ─chain()→ chains ─→ Verdict
//! ```
//! The policy is trusted first. Evidence is found by what was asked about and by what trusted evidence refers back to,
//! judged for each step by itself, and then put together: there must be a chain of accepted evidence, one of each step,
//! that hangs together, and for each named artifact one that has made it.

mod accept;
mod artifact;
mod common;
pub(crate) mod container;
mod edge;
mod image;
mod join;
mod judge;
mod rules;
mod signed;
mod source;
mod time;
mod trusted;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use self::accept::{Checks, Evidence, State};
pub use self::artifact::{Artifact, ArtifactError};
pub use self::container::open as open_envelope;
pub use self::image::{Image, Place};
pub use self::source::{Files, Handle, MAX_ENVELOPE, Source, SourceError};
use self::trusted::TrustedPolicy;
use crate::collection::FAILED_SUFFIX;
use crate::digest::sha256_hex;
use crate::dsse::ParseError;
use crate::evidence::{kinds, links};
use crate::image::RepositoryError;
use crate::policy::PolicyError;
use crate::sign::PublicKey;
use crate::sigstore::TrustedRoot;
use crate::sigstore::judge::Keyless;
use crate::store::SubjectDigest;
use crate::trust::{Constraint, Trust};
use crate::verdict::{Answer, ArtifactPart, Check, CheckKind, Outcome, SourcePart, TrustInput, Verdict, Walk};

/// Rounds of back-references that are walked at most. Both peers walk three; a chain of provider, commit and image
/// needs no more, and each round finds more of what a stranger may have made.
pub const MAX_ROUNDS: usize = 4;
/// Envelopes about one question that are read at most.
pub const MAX_EVIDENCE: usize = 20_000;
/// Bytes of envelopes about one question that are read at most.
pub const MAX_EVIDENCE_BYTES: usize = 2 << 30;
/// Candidates of a step that are about something else, for the text of a denial.
const OTHERS: usize = 3;

/// Why no answer can be given.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The policy's file holds no envelope.
    #[error("the policy {label} cannot be read")]
    Envelope {
        /// Which.
        label: String,
        /// Why.
        source: ParseError,
    },
    /// The policy is signed by the right key and cannot be relied on all the same.
    #[error("the policy is not one that can be relied on")]
    Policy(#[source] PolicyError),
    /// A source of evidence gave no answer.
    #[error("evidence cannot be looked for")]
    Source(#[source] SourceError),
    /// An image cannot be looked at.
    #[error("the image {image} cannot be judged")]
    Image {
        /// Which, as it was named.
        image: String,
        /// Why.
        source: RepositoryError,
    },
    /// The policy asks for something that only an image has, and none is named.
    #[error("the policy's `{member}` cannot be judged without an image")]
    Unsupported {
        /// The member.
        member: String,
    },
    /// Too much evidence is about what was asked.
    #[error("more than {MAX_EVIDENCE} envelopes or {MAX_EVIDENCE_BYTES} bytes of evidence are about what was asked")]
    TooMuch,
    /// It was not proven by the evidence that was found, and nobody knows whether there is more.
    #[error("{missing}; evidence of it may be in what cannot be read: {place}")]
    Hidden {
        /// What was not proven.
        missing: String,
        /// Where more may be.
        place: String,
        /// Why it cannot be read.
        #[source]
        source: Unread,
    },
    /// Nothing was asked about.
    #[error("nothing is named that evidence could be about")]
    NoSeed,
}

/// Why a place in which evidence may be was not read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unread(pub String);

/// The policy as it was given.
#[derive(Clone, Copy, Debug)]
pub struct PolicyFile<'a> {
    /// Where it came from, for the reader.
    pub label: &'a str,
    /// The envelope.
    pub bytes: &'a [u8],
}

/// Whom the caller trusts to sign a policy.
#[derive(Clone, Default)]
pub struct PolicyTrust {
    /// Keys, roots and timestamp authorities.
    pub trust: Trust,
    /// Who, where it was signed with a certificate.
    pub constraint: Option<Constraint>,
    /// Whether that certificate must be in one of the logs of certificates of `trust`.
    pub sct: bool,
    /// The oldest version that may be used.
    pub minimum_version: Option<u64>,
}

/// Who must have signed an image, besides those that the policy asks for.
#[derive(Clone, Default)]
pub struct ImageTrust {
    /// Any of these keys; none: nobody.
    pub keys: Vec<PublicKey>,
    /// The holder of such a certificate.
    pub keyless: Option<ImageKeyless>,
    /// What the signature must say.
    pub annotations: BTreeMap<String, String>,
}

/// A signature without a key that is demanded of an image.
#[derive(Clone)]
pub struct ImageKeyless {
    /// Whose certificates count.
    pub keyless: Keyless,
    /// Which logs and authorities are believed.
    pub root: TrustedRoot,
    /// In how many logs it must be.
    pub logs: usize,
}

/// What is asked.
pub struct Question<'a> {
    /// The policy.
    pub policy: PolicyFile<'a>,
    /// Whom its signature is checked with.
    pub policy_trust: PolicyTrust,
    /// What must be proven, each of it.
    pub artifacts: Vec<Artifact>,
    /// Images that must be proven, each of them.
    pub images: Vec<Image<'a>>,
    /// Who must have signed them.
    pub image_trust: ImageTrust,
    /// What evidence is found by besides; it proves nothing.
    pub seeds: Vec<SubjectDigest>,
    /// Where evidence is looked for.
    pub sources: Vec<&'a dyn Source>,
    /// The time at which the policy and ages are judged.
    pub at: Timestamp,
    /// Where the inputs came from that decide whom to trust, for the verdict.
    pub origins: Vec<TrustInput>,
}

/// Answers the question.
pub fn verify(question: &Question<'_>) -> Result<Verdict, VerifyError> {
    verify_with_evidence(question).map(|(verdict, _)| verdict)
}

/// The same, and the envelopes that were looked at: the number of the source, and the handle.
pub fn verify_with_evidence(question: &Question<'_>) -> Result<(Verdict, Vec<(usize, Handle)>), VerifyError> {
    if question.artifacts.is_empty() && question.images.is_empty() && question.seeds.is_empty() {
        return Err(VerifyError::NoSeed);
    }
    let (part, policy) = trusted::trust(question)?;
    let mut verdict = Verdict {
        answer: Answer::Denied,
        at: question.at,
        policy: part,
        trust: question.origins.clone(),
        artifacts: Vec::new(),
        images: Vec::new(),
        steps: Vec::new(),
        external: Vec::new(),
        sources: Vec::new(),
        walk: Walk { rounds: 0, limit: MAX_ROUNDS },
        notes: Vec::new(),
    };
    let Some(policy) = policy else {
        verdict.artifacts = question.artifacts.iter().map(not_looked_at).collect();
        return Ok((verdict, Vec::new()));
    };
    describe_trust(&policy, &mut verdict);
    let images: Vec<image::Judged<'_>> = question
        .images
        .iter()
        .map(|image| image::Judged::judge(image, &policy, &question.image_trust, question.at))
        .collect::<Result<_, _>>()?;
    verdict.images = images.iter().map(|image| image.part.clone()).collect();
    let gathered = gather(&policy, question)?;
    verdict.walk.rounds = gathered.rounds;
    verdict.sources.clone_from(&gathered.sources);
    judge::judge(&policy, question, &images, &gathered, &mut verdict);
    match images.iter().find_map(image::Judged::error).or_else(|| hidden(question, &verdict)) {
        Some(error) => Err(error),
        None => Ok((verdict, gathered.handles)),
    }
}

/// What keeps a denial from being one: a place that cannot be read, and in which may be what was missed. What was found
/// against an image itself (its signature, the machine it is for) holds whatever evidence there is.
fn hidden(question: &Question<'_>, verdict: &Verdict) -> Option<VerifyError> {
    let bad_image = verdict.images.iter().any(|image| image.checks.iter().any(Check::has_failed));
    if verdict.answer == Answer::Passed || bad_image {
        return None;
    }
    let (place, reason) = question.sources.iter().find_map(|source| source.hiding())?;
    let missing = verdict.reasons().first().map_or_else(
        || "no evidence was found".to_owned(),
        |(part, check)| {
            [part.as_str(), &check.found].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ")
        },
    );
    Some(VerifyError::Hidden { missing, place: place.to_owned(), source: Unread(reason.to_owned()) })
}

/// An artifact that nobody could say anything about.
fn not_looked_at(artifact: &Artifact) -> ArtifactPart {
    let mut check = Check::passed(CheckKind::Product, "");
    check.outcome = Outcome::NotReached;
    ArtifactPart { name: artifact.name.clone(), digest: artifact.digest(), check, chain: Vec::new() }
}

/// What the policy adds to whom is trusted.
fn describe_trust(policy: &TrustedPolicy, verdict: &mut Verdict) {
    let from = format!("the policy {}", verdict.policy.source);
    let mut add = |what: &str, value: String| {
        verdict.trust.push(TrustInput { what: what.to_owned(), value, from: from.clone() });
    };
    for key in &policy.policy.keys {
        add("functionary key", key.id.clone());
    }
    for id in policy.policy.roots.keys() {
        add("functionary root", id.clone());
    }
    for id in policy.policy.authorities.keys() {
        add("timestamp authority", id.clone());
    }
    for log in &policy.policy.logs {
        add("transparency log", log.id.clone());
    }
    for log in &policy.policy.ct_logs {
        add("log of certificates", log.id.clone());
    }
    for unknown in &policy.policy.unknown {
        let nearest = unknown.nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        verdict.notes.push(format!("the policy's member `{}` is not known and was passed over{nearest}", unknown.at));
    }
    verdict.notes.extend(policy.policy.notes.iter().cloned());
}

/// The evidence that was found.
struct Gathered {
    evidence: Vec<Evidence>,
    /// Envelopes of the policy's steps that are about something else, for the text of a denial.
    unrelated: BTreeMap<String, Vec<String>>,
    rounds: usize,
    sources: Vec<SourcePart>,
    /// What holds no evidence, and why.
    unreadable: Vec<(String, String)>,
    handles: Vec<(usize, Handle)>,
}

impl Gathered {
    /// A statement that is no collection: its place and its type.
    fn statement(&self) -> Option<(&str, &str)> {
        let mut statements = self.evidence.iter().filter(|one| one.step.is_none());
        statements.find_map(|one| Some((one.label.as_str(), one.predicate_type.as_deref()?)))
    }
}

fn gather(policy: &TrustedPolicy, question: &Question<'_>) -> Result<Gathered, VerifyError> {
    let mut evidence: Vec<Evidence> = Vec::new();
    let mut handles = Vec::new();
    let mut seen: BTreeSet<[u8; 32]> = BTreeSet::new();
    let mut labels: BTreeSet<String> = BTreeSet::new();
    let mut related = vec![0; question.sources.len()];
    let mut known: BTreeSet<(Option<String>, String)> = BTreeSet::new();
    let mut frontier: Vec<SubjectDigest> = Vec::new();
    let mut bytes_read = 0;
    let mut rounds = 0;
    let add = |digest: SubjectDigest, known: &mut BTreeSet<_>, frontier: &mut Vec<_>| {
        if known.insert((digest.algorithm.clone(), digest.value.to_ascii_lowercase())) {
            frontier.push(digest);
        }
    };
    let of_artifacts = question.artifacts.iter().flat_map(Artifact::seeds);
    let of_images = question.images.iter().flat_map(Image::seeds);
    for digest in of_artifacts.chain(of_images).chain(question.seeds.iter().cloned()) {
        add(digest, &mut known, &mut frontier);
    }
    while !frontier.is_empty() && rounds < MAX_ROUNDS {
        rounds += 1;
        let digests = std::mem::take(&mut frontier);
        for (number, source) in question.sources.iter().enumerate() {
            for handle in source.about(&digests).map_err(VerifyError::Source)? {
                if !is_wanted(policy, &handle) || !labels.insert(handle.label.clone()) {
                    continue;
                }
                let bytes = source.read(&handle).map_err(VerifyError::Source)?;
                if !seen.insert(source::identity(&bytes)) {
                    continue;
                }
                related[number] += 1;
                bytes_read += bytes.len();
                if evidence.len() == MAX_EVIDENCE || bytes_read > MAX_EVIDENCE_BYTES {
                    return Err(VerifyError::TooMuch);
                }
                handles.push((number, handle.clone()));
                let one = examine(policy, *source, handle, &bytes);
                drop(bytes);
                for digest in refers_to(policy, &one) {
                    add(digest, &mut known, &mut frontier);
                }
                evidence.push(one);
            }
        }
    }
    let sources = question
        .sources
        .iter()
        .zip(related)
        .map(|(source, related)| SourcePart {
            name: source.name(),
            envelopes: source.count().unwrap_or(related),
            related,
        })
        .collect();
    let mut unrelated = BTreeMap::new();
    for step in policy.policy.steps.keys() {
        let is_step = |one: &Evidence| one.step.as_deref().is_some_and(|name| step_of(name) == step);
        if evidence.iter().any(is_step) {
            continue;
        }
        let mut others = Vec::new();
        for source in &question.sources {
            let handles = source.of_step(step, OTHERS).map_err(VerifyError::Source)?;
            others.extend(handles.into_iter().map(|handle| handle.label));
        }
        others.truncate(OTHERS);
        unrelated.insert(step.clone(), others);
    }
    let unreadable = question.sources.iter().flat_map(|source| source.unreadable()).cloned().collect();
    Ok(Gathered { evidence, unrelated, rounds, sources, unreadable, handles })
}

/// The step that a collection's name is of, failed or not.
fn step_of(name: &str) -> &str {
    name.strip_suffix(FAILED_SUFFIX).unwrap_or(name)
}

/// Whether an envelope can matter to the policy at all: it is a collection of one of its steps, or no collection.
fn is_wanted(policy: &TrustedPolicy, handle: &Handle) -> bool {
    handle.step.as_deref().is_none_or(|name| policy.policy.steps.contains_key(step_of(name)))
}

/// Reads an envelope and checks its signatures.
fn examine(policy: &TrustedPolicy, source: &dyn Source, handle: Handle, bytes: &[u8]) -> Evidence {
    let (sha256, state) = match container::open(bytes) {
        Err(error) => (String::new(), State::Unreadable(error.to_string())),
        Ok(envelope) => {
            let sha256 = sha256_hex(&envelope.payload);
            match policy.trust.check(envelope) {
                Ok(checked) => (sha256, State::Checked(Box::new(checked))),
                Err(refused) => (sha256, State::Refused(refused)),
            }
        }
    };
    let kept_root = match &state {
        State::Refused(refused) if accept::is_for_trust(refused) => source.kept_root(&handle),
        _ => None,
    };
    let Handle { label, step, predicate_type, .. } = handle;
    Evidence { label, sha256, step, predicate_type, state, kept_root }
}

/// What evidence refers back to, and the run that it is of: only where a functionary of its step has signed it.
fn refers_to(policy: &TrustedPolicy, evidence: &Evidence) -> Vec<SubjectDigest> {
    let State::Checked(checked) = &evidence.state else { return Vec::new() };
    let Ok(statement) = accept::statement(checked, &evidence.label) else { return Vec::new() };
    let Some(Ok(collection)) = statement.collection() else { return Vec::new() };
    let Some(step) = policy.policy.steps.get(step_of(&collection.name)) else { return Vec::new() };
    let who = policy.functionaries_of(&step.name);
    let mut checks = Checks::new(&[]);
    if accept::functionaries(&who, step.threshold, checked, "", &mut checks).is_err() {
        return Vec::new();
    }
    let mut digests: Vec<SubjectDigest> =
        links::backrefs(&statement, &collection).iter().flat_map(|one| join::seeds_of(&one.digest)).collect();
    let has = |kind: &str| collection.attestations.iter().any(|entry| kinds::same(kind, &entry.kind));
    if step.attestations.iter().any(|requirement| !has(&requirement.kind)) {
        // Evidence in its own envelope names its run.
        let run = SubjectDigest { algorithm: Some("sha256".to_owned()), value: evidence.sha256.clone() };
        digests.push(run);
    }
    digests
}

#[cfg(test)]
mod tests;
