//! From evidence to the verdict: each part of the policy, and what must be proven.

use std::collections::{BTreeMap, BTreeSet};

use super::accept::{self, Accepted, Checks, Evidence, candidate};
use super::artifact::Made;
use super::join::{self, Broken, Chain, ExternalEvidence, Pool};
use super::trusted::TrustedPolicy;
use super::{Artifact, Gathered, Question, image, rules, step_of};
use crate::digest::DigestSet;
use crate::dsse::Envelope;
use crate::evidence::input::ImageFacts;
use crate::evidence::kinds;
use crate::policy::{External, Step};
use crate::trust::Checked;
use crate::verdict::{Answer, ArtifactPart, Candidate, Check, CheckKind, MAX_CANDIDATES, Outcome, Part, Verdict};

pub(super) fn judge(
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
    for Target { artifact, why, chain } in targets(policy, question, images, &pool, complete) {
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
            match chain.map_or_else(|| pool.chain(Some(&artifact)), Ok) {
                Ok(chain) => {
                    let made =
                        chain.iter().find(|(step, number)| join::proves(&pool.steps[*step][**number], &artifact));
                    let by = made.map_or_else(|| "by the chain".to_owned(), |(step, _)| format!("by step {step}"));
                    part.check = Check::passed(CheckKind::Product, format!("made {by}"));
                    part.chain = pool.links(&chain);
                    chains.push(chain);
                }
                Err(reason) => {
                    part.check = unproven(&artifact, why.as_deref(), &pool, &reason);
                    // An unproven layer breaks no chain: the rest of it would only distract.
                    if reason.check.is_some() && why.is_none() && !reason.is_mismatch {
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

/// Something that must be proven by a chain.
struct Target<'a> {
    artifact: Artifact,
    /// Why a config does not stand for its image.
    why: Option<String>,
    /// The chain that proves it, where that was looked for already.
    chain: Option<Chain<'a>>,
}

/// What must be proven: the artifacts, and of each image the index as a whole where that is enough, else every image in
/// it.
fn targets<'a>(
    policy: &TrustedPolicy,
    question: &Question<'_>,
    images: &[image::Judged<'_>],
    pool: &'a Pool<'a>,
    complete: bool,
) -> Vec<Target<'a>> {
    let target = |(artifact, why): (Artifact, Option<String>)| Target { artifact, why, chain: None };
    let mut targets: Vec<Target<'a>> =
        question.artifacts.iter().map(|artifact| target((artifact.clone(), None))).collect();
    let per_platform = policy.policy.steps.values().any(|step| step.per_platform);
    let is_image_id =
        |digests: &DigestSet| pool.steps.values().flatten().any(|accepted| accepted.has_made(digests, Made::ImageId));
    for judged in images {
        let whole = judged.whole().filter(|_| complete && !per_platform);
        let whole = whole.map(|whole| (pool.chain(Some(&whole)), whole));
        match whole {
            Some((Ok(chain), artifact)) => targets.push(Target { artifact, why: None, chain: Some(chain) }),
            whole => {
                let each = judged.images(&is_image_id);
                let is_made = |(artifact, _): &(Artifact, _)| {
                    pool.steps.values().flatten().any(|accepted| join::proves(accepted, artifact))
                };
                match whole {
                    // What is said of the index says more than that nothing is said of its images.
                    Some((Err(broken), artifact)) if broken.is_mismatch && !each.iter().any(is_made) => {
                        targets.push(target((artifact, None)));
                    }
                    _ => targets.extend(each.into_iter().map(target)),
                }
            }
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
    if let Some(check) = broken.check.as_ref().filter(|_| broken.is_mismatch) {
        return check.clone();
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
