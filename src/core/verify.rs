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
pub(crate) mod container;
mod image;
mod join;
mod rules;
mod source;
mod time;
mod trusted;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use self::accept::{Accepted, Checks, Evidence, State, candidate};
pub use self::artifact::{Artifact, ArtifactError};
pub use self::container::open as open_envelope;
pub use self::image::{Image, Place};
use self::join::{Broken, ExternalEvidence, Pool};
pub use self::source::{Files, Handle, MAX_ENVELOPE, Source, SourceError};
use self::trusted::TrustedPolicy;
use crate::collection::FAILED_SUFFIX;
use crate::digest::{DigestSet, sha256_hex};
use crate::dsse::{Envelope, ParseError};
use crate::evidence::input::ImageFacts;
use crate::evidence::{kinds, links};
use crate::image::RepositoryError;
use crate::policy::{External, PolicyError, Step};
use crate::sign::PublicKey;
use crate::store::SubjectDigest;
use crate::trust::{Checked, Constraint, Trust};
use crate::verdict::{
    Answer, ArtifactPart, Candidate, Check, CheckKind, MAX_CANDIDATES, Outcome, Part, SourcePart, TrustInput, Verdict,
    Walk,
};

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
    /// Nothing was asked about.
    #[error("nothing is named that evidence could be about")]
    NoSeed,
}

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
    /// The oldest version that may be used.
    pub minimum_version: Option<u64>,
}

/// Who must have signed an image, besides those that the policy asks for.
#[derive(Clone, Default)]
pub struct ImageTrust {
    /// Any of these keys; none: nobody.
    pub keys: Vec<PublicKey>,
    /// What the signature must say.
    pub annotations: BTreeMap<String, String>,
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
        .map(|image| image::Judged::judge(image, &policy, &question.image_trust))
        .collect::<Result<_, _>>()?;
    verdict.images = images.iter().map(|image| image.part.clone()).collect();
    let gathered = gather(&policy, question)?;
    verdict.walk.rounds = gathered.rounds;
    verdict.sources.clone_from(&gathered.sources);
    judge(&policy, question, &images, &gathered, &mut verdict);
    match images.iter().find_map(image::Judged::error) {
        Some(error) => Err(error),
        None => Ok((verdict, gathered.handles)),
    }
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
                let one = examine(policy, handle, &bytes);
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
fn examine(policy: &TrustedPolicy, handle: Handle, bytes: &[u8]) -> Evidence {
    let Handle { label, step, predicate_type, .. } = handle;
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
    Evidence { label, sha256, step, predicate_type, state }
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

fn judge(
    policy: &TrustedPolicy,
    question: &Question<'_>,
    images: &[image::Judged<'_>],
    gathered: &Gathered,
    verdict: &mut Verdict,
) {
    let evidence = &gathered.evidence;
    let about = accept::About { at: question.at, images };
    let mut pool = Pool::new(policy, question, evidence);
    let mut parts: BTreeMap<&str, Vec<(Candidate, Option<usize>)>> = BTreeMap::new();
    for (name, step) in &policy.policy.steps {
        let mut accepted: Vec<Accepted> = Vec::new();
        let mut candidates = Vec::new();
        for (place, one) in evidence.iter().enumerate() {
            if one.step.as_deref().is_some_and(|named| step_of(named) == name) {
                let (candidate, fits) = accept::collection(policy, step, evidence, place, &about);
                candidates.push((candidate, fits.as_ref().map(|_| accepted.len())));
                accepted.extend(fits);
            }
        }
        parts.insert(name, candidates);
        pool.steps.insert(name, accepted);
    }
    let mut external_parts: BTreeMap<&str, Vec<Candidate>> = BTreeMap::new();
    for (name, external) in &policy.policy.external {
        let (candidates, accepted) = judge_external(policy, external, evidence);
        external_parts.insert(name, candidates);
        pool.external.insert(name, accepted);
    }

    let mut chains = Vec::new();
    let mut broken: Option<Box<Broken>> = None;
    let complete = pool.steps.values().all(|accepted| !accepted.is_empty())
        && policy.policy.external.values().all(|one| !one.required || !pool.external[one.name.as_str()].is_empty());
    if complete && question.artifacts.is_empty() && images.is_empty() {
        match pool.chain(None) {
            Ok(chain) => chains.push(chain),
            Err(reason) => broken = Some(reason),
        }
    }
    for (artifact, why) in &targets(policy, question, images, &pool, complete) {
        let mut part = ArtifactPart {
            name: artifact.name.clone(),
            digest: artifact.digest(),
            check: Check::failed(
                CheckKind::Product,
                "a product, or an image subject, of accepted evidence",
                "the steps are not all satisfied",
            ),
            chain: Vec::new(),
        };
        if complete {
            match pool.chain(Some(artifact)) {
                Ok(chain) => {
                    let made = chain.iter().find(|(step, number)| join::proves(&pool.steps[*step][**number], artifact));
                    let by = made.map_or_else(|| "by the chain".to_owned(), |(step, _)| format!("by step {step}"));
                    part.check = Check::passed(CheckKind::Product, format!("made {by}"));
                    part.chain = pool.links(&chain);
                    chains.push(chain);
                }
                Err(reason) => {
                    part.check = unproven(artifact, why.as_deref(), &pool, &reason);
                    // An unproven layer breaks no chain: the rest of it would only distract.
                    if reason.check.is_some() && why.is_none() {
                        broken.get_or_insert(reason);
                    }
                }
            }
        }
        verdict.artifacts.push(part);
    }

    let used: BTreeSet<(&str, usize)> =
        chains.iter().flat_map(|chain| chain.iter().map(|(step, number)| (*step, *number))).collect();
    for (name, step) in &policy.policy.steps {
        let candidates = parts.remove(name.as_str()).unwrap_or_default();
        let failed = broken.as_ref().filter(|broken| broken.step == *name).and_then(|broken| broken.check.clone());
        let part = step_part(step, candidates, &used, failed, !chains.is_empty(), gathered);
        verdict.steps.push(part);
    }
    for (name, external) in &policy.policy.external {
        let failed = broken.as_ref().filter(|broken| broken.step == *name).and_then(|broken| broken.check.clone());
        let candidates = external_parts.remove(name.as_str()).unwrap_or_default();
        verdict.external.push(external_part(external, candidates, failed));
    }
    let bad_image = verdict.images.iter().any(|image| image.checks.iter().any(Check::has_failed));
    let denied = bad_image
        || verdict.artifacts.iter().any(|artifact| artifact.check.has_failed())
        || verdict.steps.iter().chain(&verdict.external).any(|part| part.outcome == Outcome::Failed)
        || chains.is_empty();
    verdict.answer = if !denied {
        Answer::Passed
    } else if evidence.is_empty() && !bad_image {
        Answer::NoEvidence
    } else {
        Answer::Denied
    };
    if denied && chains.is_empty() && verdict.reasons().is_empty() {
        // A chain that breaks at no step's own check.
        let check = broken.and_then(|broken| broken.check).unwrap_or_else(|| {
            Check::failed(CheckKind::Subject, "evidence that hangs together", "no chain of the accepted evidence")
        });
        verdict.policy.checks.push(check);
    }
}

/// What must be proven, each by a chain: the artifacts, and of each image the index as a whole where that is enough, else
/// every image in it; with why a config does not stand for its image.
fn targets<'a>(
    policy: &TrustedPolicy,
    question: &Question<'_>,
    images: &[image::Judged<'_>],
    pool: &'a Pool<'a>,
    complete: bool,
) -> Vec<(Artifact, Option<String>)> {
    let mut targets: Vec<(Artifact, Option<String>)> =
        question.artifacts.iter().map(|artifact| (artifact.clone(), None)).collect();
    let per_platform = policy.policy.steps.values().any(|step| step.per_platform);
    let has_made = |digests: &DigestSet| pool.steps.values().flatten().any(|accepted| accepted.has_made(digests));
    for judged in images {
        let whole = judged.whole().filter(|whole| complete && !per_platform && pool.chain(Some(whole)).is_ok());
        match whole {
            Some(whole) => targets.push((whole, None)),
            None => targets.extend(judged.images(&has_made)),
        }
    }
    targets
}

fn unproven(artifact: &Artifact, why: Option<&str>, pool: &Pool<'_>, broken: &Broken) -> Check {
    let expected = "a product, or an image subject, of accepted evidence";
    if let Some(why) = why {
        return Check::failed(CheckKind::Product, expected, why)
            .at(artifact.name.clone())
            .fix("push the image that was built (`affiant image push`), or have its manifest signed and demand that in the policy");
    }
    let is_proven = pool.steps.values().flatten().any(|accepted| join::proves(accepted, artifact));
    let check = match (&broken.check, is_proven) {
        (Some(_), true) => Check::failed(
            CheckKind::Product,
            expected,
            "accepted evidence has made it, but the rest of its chain is missing",
        ),
        _ => Check::failed(
            CheckKind::Product,
            expected,
            format!(
                "no accepted evidence has made {}: it is another {}, or was changed since",
                artifact.digest(),
                if artifact.is_image() { "image" } else { "file" }
            ),
        ),
    };
    let fix = if artifact.is_image() {
        "name the image that the pipeline made; where it was pushed in another form, run the build with the docker or \
         oci attestor"
    } else {
        "name the file that the pipeline made, or build it again with `affiant run`"
    };
    check.at(artifact.name.clone()).fix(fix)
}

fn judge_external<'a>(
    policy: &'a TrustedPolicy,
    external: &'a External,
    all: &[Evidence],
) -> (Vec<Candidate>, Vec<ExternalEvidence>) {
    const CHECKS: [CheckKind; 5] =
        [CheckKind::Envelope, CheckKind::Signature, CheckKind::Payload, CheckKind::Functionary, CheckKind::Rules];
    let mut candidates = Vec::new();
    let mut accepted = Vec::new();
    for (place, evidence) in all.iter().enumerate() {
        let is_type =
            evidence.predicate_type.as_deref().is_some_and(|kind| kinds::same(&external.predicate_type, kind));
        if evidence.step.is_some() || !is_type {
            continue;
        }
        let mut checks = Checks::new(&CHECKS);
        let result = (|| {
            let checked: &Checked<Envelope> = accept::signed(evidence, &mut checks)?;
            let statement = accept::statement(checked, &evidence.label)?;
            if !kinds::same(&external.predicate_type, &statement.predicate_type) {
                return accept::fail(Check::failed(
                    CheckKind::Payload,
                    external.predicate_type.clone(),
                    statement.predicate_type.clone(),
                ));
            }
            checks.pass(CheckKind::Payload, format!("a statement of type {}", statement.predicate_type));
            let who = policy.functionaries_of_external(external);
            accept::functionaries(&who, 1, checked, &evidence.label, &mut checks)?;
            if let Some(module) = policy.external_rules(&external.name) {
                let entry = accept::entry_of(&statement);
                let at = format!("externalAttestations.{}", external.name);
                let input =
                    rules::present(&entry, &external.predicate_type, &ImageFacts::default()).map_err(|error| {
                        let check = Check::failed(CheckKind::Rules, "a predicate that rules can look at", error);
                        Box::new(check.at(&evidence.label).fix("have it made again"))
                    })?;
                rules::ask(module, &input, &at, &evidence.label)?;
            }
            checks.pass(CheckKind::Rules, format!("{} do not deny", external.modules.len()));
            Ok(accept::real_external_subjects(&statement))
        })();
        match result {
            Ok(subjects) => {
                candidates.push(candidate(evidence, checks.finish(None), true));
                accepted.push(ExternalEvidence { evidence: place, subjects });
            }
            Err(failed) => candidates.push(candidate(evidence, checks.finish(Some(*failed)), false)),
        }
    }
    (candidates, accepted)
}

fn step_part(
    step: &Step,
    candidates: Vec<(Candidate, Option<usize>)>,
    used: &BTreeSet<(&str, usize)>,
    broken: Option<Check>,
    proven: bool,
    gathered: &Gathered,
) -> Part {
    let mut checks = Vec::new();
    let any_accepted = candidates.iter().any(|(_, accepted)| accepted.is_some());
    let is_used = |number: Option<usize>| number.is_some_and(|number| used.contains(&(step.name.as_str(), number)));
    if candidates.is_empty() {
        let others = gathered.unrelated.get(&step.name).map(Vec::as_slice).unwrap_or_default();
        let check = if let (true, Some((file, reason))) = (others.is_empty(), gathered.unreadable.first()) {
            let more = match gathered.unreadable.len() - 1 {
                0 => String::new(),
                more => format!("; {more} more files hold none, see the notes"),
            };
            Check::failed(
                CheckKind::Found,
                format!("evidence of step `{}`", step.name),
                format!("none; {file}: {reason}{more}"),
            )
            .at(file.clone())
            .fix("name the file that `affiant run` wrote, or fetch it again: it may be cut off, or something else")
        } else if let (true, Some((label, kind))) = (others.is_empty(), gathered.statement()) {
            Check::failed(
                CheckKind::Found,
                format!("evidence of step `{}`", step.name),
                format!("none; {label} is a statement of type `{kind}`, which counts only beside that of a run"),
            )
            .at(label)
            .fix(format!("name the evidence that `affiant run --step {}` wrote as well", step.name))
        } else if others.is_empty() {
            Check::failed(CheckKind::Found, format!("evidence of step `{}`", step.name), "none at all")
                .fix(format!("run it with `affiant run --step {} …`, and name its evidence with `--attestations` or its archive with `--archive`", step.name))
        } else {
            Check::failed(
                CheckKind::Subject,
                format!("evidence of step `{}` about what was asked", step.name),
                format!("none of what there is ({}) is about it", others.join(", ")),
            )
            .at(others[0].clone())
            .fix("name the artifact that this evidence is about, or fetch the evidence of this artifact")
        };
        checks.push(check);
    } else {
        checks.push(Check::passed(CheckKind::Found, format!("{} candidates", candidates.len())));
        checks.extend(broken);
    }
    let mut shown: Vec<(bool, Candidate)> =
        candidates.into_iter().map(|(candidate, number)| (is_used(number), candidate)).collect();
    shown.sort_by(|(used, one), (other_used, other)| {
        (other_used, other.accepted, other.nearness(), &one.source).cmp(&(
            used,
            one.accepted,
            one.nearness(),
            &other.source,
        ))
    });
    let left_out = shown.len().saturating_sub(MAX_CANDIDATES);
    let candidates: Vec<Candidate> = shown.into_iter().take(MAX_CANDIDATES).map(|(_, candidate)| candidate).collect();
    let failed = !any_accepted || (!proven && checks.iter().any(Check::has_failed));
    Part {
        name: step.name.clone(),
        outcome: if failed { Outcome::Failed } else { Outcome::Passed },
        artifacts_from: step.artifacts_from.clone(),
        requires: requires(step),
        checks,
        candidates,
        left_out,
    }
}

/// What a step asks for, a phrase each.
fn requires(step: &Step) -> Vec<String> {
    let mut requires = Vec::new();
    if step.threshold > 1 {
        requires.push(format!("{} functionaries", step.threshold));
    }
    for requirement in &step.attestations {
        let mut text = crate::evidence::short_name(&requirement.kind).to_owned();
        if !requirement.modules.is_empty() {
            let names: Vec<&str> = requirement.modules.iter().map(|module| module.name.as_str()).collect();
            text = format!("{text} (rules: {})", names.join(", "));
        }
        if let Some(age) = requirement.max_age {
            text = format!("{text}, at most {age:#} old");
        }
        requires.push(text);
    }
    if !step.exit_codes.is_empty() {
        requires.push("an exit code that is allowed".to_owned());
    }
    requires
}

fn external_part(external: &External, mut candidates: Vec<Candidate>, broken: Option<Check>) -> Part {
    let mut checks = Vec::new();
    let any = candidates.iter().any(|candidate| candidate.accepted);
    if candidates.is_empty() {
        let text = format!("a statement of type {}", external.predicate_type);
        if external.required {
            checks.push(
                Check::failed(CheckKind::Found, text, "none that is about what was asked")
                    .fix("fetch it and name it with `--attestations`"),
            );
        } else {
            checks.push(Check::passed(CheckKind::Found, "none, and none is required"));
        }
    }
    checks.extend(broken);
    candidates.sort_by_key(|candidate| std::cmp::Reverse((candidate.accepted, candidate.nearness())));
    let left_out = candidates.len().saturating_sub(MAX_CANDIDATES);
    candidates.truncate(MAX_CANDIDATES);
    let failed = external.required && (!any || checks.iter().any(Check::has_failed));
    Part {
        name: external.name.clone(),
        outcome: if failed { Outcome::Failed } else { Outcome::Passed },
        artifacts_from: Vec::new(),
        requires: vec![external.predicate_type.clone()],
        checks,
        candidates,
        left_out,
    }
}
