//! Judging one piece of evidence for one step: signature, payload, functionary, time, command, attestations, rules.

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::artifact::Made;
use super::common::certificates;
use super::image;
use super::join::has_made;
use super::rules::rules;
use super::time::{ages, time_constraint};
use super::trusted::{Refusal, TrustedPolicy, Who, accepting_fix, claims, describe};
use crate::collection::FAILED_SUFFIX;
use crate::digest::{DigestSet, sha256_hex};
use crate::dsse::Envelope;
use crate::evidence::files::Files;
use crate::evidence::input::ImageFacts;
use crate::evidence::{CollectionView, EntryView, Statement, kinds, links};
use crate::policy::Step;
use crate::run::RUN_SUBJECT;
use crate::statement::PAYLOAD_TYPE;
pub(super) use crate::trust::with_causes as chain;
use crate::trust::{CheckError, Checked, Reason, Refused, SignerProof, distinct_identities};
use crate::verdict::{Candidate, Check, CheckKind};

/// The kinds of checks of a collection, in their order.
const COLLECTION_CHECKS: [CheckKind; 10] = [
    CheckKind::Envelope,
    CheckKind::Signature,
    CheckKind::Payload,
    CheckKind::Step,
    CheckKind::Functionary,
    CheckKind::Time,
    CheckKind::Command,
    CheckKind::Attestations,
    CheckKind::Age,
    CheckKind::Rules,
];
/// Differing paths, missing types and the like that are named in one text.
pub(super) const NAMED: usize = 5;

/// An envelope that was found, after the check of its signatures.
pub(super) struct Evidence {
    pub(super) label: String,
    /// SHA-256 of the payload, lowercase hex; empty where there is none.
    pub(super) sha256: String,
    /// The step it names. Unproven; what is judged is read from the payload.
    pub(super) step: Option<String>,
    pub(super) predicate_type: Option<String>,
    pub(super) state: State,
    /// What prints the trusted root that is kept with it, where that might help.
    pub(super) kept_root: Option<String>,
}

/// What became of an envelope.
pub(super) enum State {
    Unreadable(String),
    Refused(Box<Refused>),
    Checked(Box<Checked<Envelope>>),
}

/// A collection that satisfies its step by itself.
pub(super) struct Accepted {
    /// Place among the evidence.
    pub(super) evidence: usize,
    /// Places among the evidence of what was bound to it (security rule 12).
    pub(super) bound: Vec<usize>,
    pub(super) materials: Files,
    pub(super) products: Files,
    /// Real digests that it is about, as its statement has them.
    pub(super) subjects: Vec<(String, DigestSet)>,
    pub(super) backrefs: Vec<DigestSet>,
    /// What its rules see of images; at least one.
    pub(super) facts: Vec<ImageFacts>,
}

/// The checks of one candidate, stopped at the first that fails.
pub(super) struct Checks {
    all: &'static [CheckKind],
    done: Vec<Check>,
}

impl Checks {
    pub(super) fn new(all: &'static [CheckKind]) -> Self {
        Self { all, done: Vec::new() }
    }

    pub(super) fn pass(&mut self, kind: CheckKind, found: impl Into<String>) {
        self.done.push(Check::passed(kind, found));
    }

    /// The checks, with those that were not reached.
    pub(super) fn finish(mut self, failed: Option<Check>) -> Vec<Check> {
        self.done.extend(failed);
        for kind in self.all {
            if !self.done.iter().any(|check| check.kind == *kind) {
                let mut check = Check::passed(*kind, "");
                check.outcome = crate::verdict::Outcome::NotReached;
                self.done.push(check);
            }
        }
        self.done
    }
}

/// Turns what the checks said into the candidate that the verdict shows.
pub(super) fn candidate(evidence: &Evidence, checks: Vec<Check>, accepted: bool) -> Candidate {
    let signers = match &evidence.state {
        State::Checked(checked) => checked.signers().iter().map(describe).collect(),
        _ => Vec::new(),
    };
    Candidate { source: evidence.label.clone(), sha256: evidence.sha256.clone(), accepted, signers, checks }
}

/// What is asked, as far as one collection is judged by it.
pub(super) struct About<'a> {
    /// The time at which ages are judged.
    pub(super) at: Timestamp,
    /// The named images.
    pub(super) images: &'a [image::Judged<'a>],
}

/// Judges `evidence[place]` as the collection of `step`, apart from rules that see other steps.
pub(super) fn collection(
    policy: &TrustedPolicy,
    step: &Step,
    all: &[Evidence],
    place: usize,
    about: &About<'_>,
) -> (Candidate, Option<Accepted>) {
    let mut checks = Checks::new(&COLLECTION_CHECKS);
    let result = judge(policy, step, all, place, about, &mut checks);
    let (failed, accepted) = match result {
        Ok(accepted) => (None, Some(accepted)),
        Err(failed) => (Some(*failed), None),
    };
    let is_accepted = accepted.is_some();
    (candidate(&all[place], checks.finish(failed), is_accepted), accepted)
}

/// What was judged, or the check that failed.
pub(super) type Judged<T> = Result<T, Box<Check>>;

pub(super) fn fail<T>(check: Check) -> Judged<T> {
    Err(Box::new(check))
}

/// The envelope with its proofs, or the check that failed.
pub(super) fn signed<'a>(evidence: &'a Evidence, checks: &mut Checks) -> Judged<&'a Checked<Envelope>> {
    let label = evidence.label.as_str();
    match &evidence.state {
        State::Unreadable(reason) => fail(
            Check::failed(CheckKind::Envelope, "a DSSE envelope, or a Sigstore bundle with one", reason)
                .at(label)
                .fix("name the file that `affiant run` wrote, or fetch it again: it may be cut off"),
        ),
        State::Refused(refused) => {
            checks.pass(CheckKind::Envelope, "");
            let kept = evidence.kept_root.as_ref().map(|command| {
                format!("; the trusted root of the day on which it was stored is kept: `{command}` prints it for `trustedRoot` in the policy, where it is to be trusted")
            });
            fail(
                Check::failed(
                    CheckKind::Signature,
                    "a signature by a key or certificate that the policy knows",
                    refused.reason.to_string(),
                )
                .at(label)
                .fix(format!("{}{}", refused_fix(refused), kept.unwrap_or_default())),
            )
        }
        State::Checked(checked) => {
            checks.pass(CheckKind::Envelope, "");
            let signers: Vec<String> = checked.signers().iter().map(describe).collect();
            checks.pass(CheckKind::Signature, format!("signed by {}", signers.join(", ")));
            Ok(checked)
        }
    }
}

/// What would make a signature count; of the first that does not.
pub(super) fn refused_fix(refused: &Refused) -> &'static str {
    match &refused.reason {
        CheckError::NoneCounts { refused } => refused.first().map_or("", |first| first.reason.remedy()),
        CheckError::NoSignature => "have it signed: evidence of `affiant run` is, where a key is named",
        CheckError::NoTrust => "name keys or roots in the policy",
    }
}

/// Whether a certificate does not count for what is not trusted: then another trusted root might help.
pub(super) fn is_for_trust(refused: &Refused) -> bool {
    let CheckError::NoneCounts { refused } = &refused.reason else {
        return matches!(refused.reason, CheckError::NoTrust);
    };
    let of_trust = |reason: &Reason| {
        matches!(reason, Reason::NoRoot { .. } | Reason::NoTime { .. } | Reason::Chain { .. } | Reason::Window { .. })
    };
    refused.iter().any(|one| of_trust(&one.reason))
}

/// The statement of checked evidence.
pub(super) fn statement<'a>(checked: &'a Checked<Envelope>, label: &str) -> Judged<Statement<'a>> {
    let wrong = |expected: &str, found: String| {
        Check::failed(CheckKind::Payload, expected, found)
            .at(label)
            .fix("name evidence of a run; a policy, or a document of another type, is none")
    };
    let payload = match checked.payload(PAYLOAD_TYPE) {
        Ok(payload) => payload,
        Err(error) => return fail(wrong(&format!("the payload type `{PAYLOAD_TYPE}`"), error.to_string())),
    };
    match Statement::parse_strict(payload) {
        Ok(statement) => Ok(statement),
        Err(error) => fail(wrong("an in-toto statement", chain(&error))),
    }
}

fn judge(
    policy: &TrustedPolicy,
    step: &Step,
    all: &[Evidence],
    place: usize,
    about: &About<'_>,
    checks: &mut Checks,
) -> Judged<Accepted> {
    let at = about.at;
    let evidence = &all[place];
    let label = evidence.label.as_str();
    let checked = signed(evidence, checks)?;
    let statement = statement(checked, label)?;
    let collection = read_collection(&statement, label)?;
    checks.pass(CheckKind::Payload, "an in-toto statement with a collection");

    let (name, failed) = match collection.name.strip_suffix(FAILED_SUFFIX) {
        Some(name) => (name, true),
        None => (collection.name.as_str(), false),
    };
    if name != step.name {
        return fail(
            Check::failed(CheckKind::Step, format!("a collection named `{}`", step.name), format!("`{name}`"))
                .at(label)
                .fix(format!("run the command with `--step {}`", step.name)),
        );
    }
    checks.pass(CheckKind::Step, format!("`{name}`"));

    let signers = functionaries(&policy.functionaries_of(&step.name), step.threshold, checked, label, checks)?;
    let signers = certificates(step, &signers, &collection, label, checks)?;
    time_constraint(step, &signers, at, label, checks)?;
    command(step, &collection, failed, label, checks)?;

    let materials = files(&collection, "material", label)?;
    let products = files(&collection, "product", label)?;
    let bound = attestations(policy, step, &collection, &products, all, place, label, checks)?;
    let subjects = real_subjects(&statement);
    let facts = if asks_about_images(policy) {
        let has_made = |digests: &DigestSet, made: Made| has_made(&products, &subjects, digests, made);
        image::facts(about.images, &has_made, links::attested_image(&statement))
    } else {
        vec![ImageFacts::default()]
    };
    let fitting = Fitting { step, collection: &collection, all, bound: &bound, facts: &facts };
    ages(policy, &fitting, &signers, at, label, checks)?;
    if policy.sees_others(step) {
        checks.pass(CheckKind::Rules, "judged together with the attestations that they see");
    } else {
        let modules = rules(policy, &fitting, None, label)?;
        checks.pass(CheckKind::Rules, if modules == 0 { "none".to_owned() } else { format!("{modules} do not deny") });
    }
    Ok(Accepted {
        evidence: place,
        bound: bound.into_iter().map(|(place, _)| place).collect(),
        materials,
        products,
        subjects,
        facts,
        backrefs: links::backrefs(&statement, &collection).into_iter().map(|one| one.digest).collect(),
    })
}

/// Whether a rule sees what was found out about an image: only then its layers may have to be fetched. A rule that names
/// the members in another way sees that no image was judged, and so denies.
fn asks_about_images(policy: &TrustedPolicy) -> bool {
    let requirements = policy.policy.steps.values().flat_map(|step| &step.attestations);
    let mut modules = requirements.flat_map(|requirement| &requirement.modules);
    modules.any(|module| module.text.contains("image_digest") || module.text.contains("cosign_subject"))
}

/// The subjects of a statement that is no collection which stand for bytes, with their digests.
pub(super) fn real_external_subjects(statement: &Statement<'_>) -> Vec<(String, DigestSet)> {
    statement
        .subject
        .iter()
        .filter(links::is_real_external)
        .map(|subject| (subject.name.to_string(), subject.digest_set()))
        .collect()
}

/// The subjects of a collection that stand for bytes, with their digests.
pub(super) fn real_subjects(statement: &Statement<'_>) -> Vec<(String, DigestSet)> {
    let real = |name: &str| links::is_real(name);
    statement
        .subject
        .iter()
        .filter(|subject| real(&subject.name))
        .map(|subject| (subject.name.to_string(), subject.digest_set()))
        .collect()
}

pub(super) fn read_collection<'a>(statement: &Statement<'a>, label: &str) -> Judged<CollectionView<'a>> {
    let wrong = |found: String| {
        Check::failed(CheckKind::Payload, "a collection of attestations", found)
            .at(label)
            .fix("name the collection of the run: other statements count only beside one")
    };
    match statement.collection() {
        Some(Ok(collection)) => Ok(collection),
        Some(Err(error)) => fail(wrong(chain(&error))),
        None => fail(wrong(format!("a statement of type `{}`", statement.predicate_type))),
    }
}

/// Who of `who` signed; each counts once.
pub(super) fn functionaries<'a>(
    who: &[Who<'_>],
    threshold: usize,
    checked: &'a Checked<Envelope>,
    label: &str,
    checks: &mut Checks,
) -> Judged<Vec<&'a SignerProof>> {
    let mut fitting = Vec::new();
    let mut reasons = Vec::new();
    let mut lacking = None;
    for signer in checked.signers() {
        let mut is_functionary = false;
        for who in who {
            match who.is(signer) {
                Ok(()) => is_functionary = true,
                Err(Refusal::Somebody(reason)) => reasons.push(reason),
                Err(refusal) => lacking = lacking.or(Some(refusal)),
            }
        }
        if is_functionary {
            fitting.push(signer);
        }
    }
    let count = distinct_identities(fitting.iter().copied());
    if count >= threshold && count > 0 {
        checks.pass(CheckKind::Functionary, format!("{count} of {threshold} needed"));
        let demands = who.first().map(Who::demands).unwrap_or_default();
        if demands.log {
            checks.pass(CheckKind::Log, format!("{} signatures are in a log", fitting.len()));
        }
        if demands.sct {
            checks.pass(CheckKind::Certificate, "logged");
        }
        return Ok(fitting);
    }
    match lacking {
        None => {}
        Some(Refusal::NotLogged(found)) => {
            return fail(
                Check::failed(CheckKind::Log, "a signature with an entry in a log of `transparencyLogs`, as the policy demands", found)
                    .at(label)
                    .fix("name its bundle, which has the entry, or finish an upload that waits with `affiant resume`; else sign with a log"),
            );
        }
        Some(Refusal::NotStamped(found)) => {
            return fail(
                Check::failed(
                    CheckKind::Time,
                    "a signature with a timestamp by one of `timestampauthorities`, as the policy demands",
                    found,
                )
                .at(label)
                .fix("sign with `--timestamp-servers`, and name the authority in `timestampauthorities` of the policy"),
            );
        }
        Some(Refusal::Certificate(found) | Refusal::Somebody(found)) => {
            return fail(
                Check::failed(
                    CheckKind::Certificate,
                    "a certificate in a log of `certificateTransparencyLogs`, as the policy demands",
                    found,
                )
                .at(label)
                .fix(
                    "sign with a certificate of an authority that logs what it issues, and name its log in the policy",
                ),
            );
        }
    }
    let expected = match who {
        [] => "a functionary, but the policy names none".to_owned(),
        who => {
            let names: Vec<String> = who.iter().map(ToString::to_string).collect();
            let needed = if threshold == 1 { "one".to_owned() } else { threshold.to_string() };
            format!("{needed} of: {}", names.join("; "))
        }
    };
    reasons.dedup();
    let mut found: Vec<String> = checked.signers().iter().map(describe).collect();
    if !fitting.is_empty() {
        found = vec![format!("only {count} of them")];
    } else if !reasons.is_empty() {
        found.push(format!("({})", reasons.join("; ")));
        found.extend(
            checked.signers().iter().find_map(claims).map(|claims| format!("; its certificate says: {claims}")),
        );
    }
    let accepting = accepting_fix(checked.signers()).unwrap_or_default();
    fail(Check::failed(CheckKind::Functionary, expected, found.join(" ")).at(label).fix(format!(
        "have the step signed by one of its functionaries, or name the signer as a functionary of the step and \
         sign the policy again{accepting}"
    )))
}

fn command(step: &Step, collection: &CollectionView<'_>, failed: bool, label: &str, checks: &mut Checks) -> Judged<()> {
    let codes = match collection.exit_codes() {
        Ok(codes) => codes,
        Err(error) => {
            return fail(
                Check::failed(CheckKind::Command, "a command-run attestation that can be read", chain(&error))
                    .at(label)
                    .fix("run the step again"),
            );
        }
    };
    let list = |codes: &[i64]| codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let found = format!("exit code {}", list(&codes));
    if failed {
        return fail(
            Check::failed(CheckKind::Command, "a command that succeeded", format!("it failed: {found}"))
                .at(label)
                .fix("make the build pass and run the step again; this evidence tells how it failed"),
        );
    }
    if codes.is_empty() {
        if step.command_optional {
            checks.pass(CheckKind::Command, "none, which the policy allows");
            return Ok(());
        }
        return fail(
            Check::failed(CheckKind::Command, "a command that was run", "no command-run attestation")
                .at(label)
                .fix("run the step with a command, or say `\"commandRun\": \"optional\"` in the policy's step"),
        );
    }
    if !step.exit_codes.is_empty() && codes.iter().any(|code| !step.exit_codes.contains(code)) {
        let expected = format!("exit code {} (steps.{}.exitcode)", list(&step.exit_codes), step.name);
        return fail(
            Check::failed(CheckKind::Command, expected, found)
                .at(label)
                .fix("make the command succeed and run it again"),
        );
    }
    checks.pass(CheckKind::Command, found);
    Ok(())
}

/// All files of one sort, of all entries that have any.
fn files(collection: &CollectionView<'_>, sort: &str, label: &str) -> Judged<Files> {
    let mut all = Files::default();
    for entry in collection.attestations.iter().filter(|entry| entry.short_name() == sort) {
        match Files::read(entry) {
            None => {}
            Some(Ok(files)) if all.is_empty() => all = files,
            Some(Ok(files)) => all = all.overlay(&files),
            Some(Err(error)) => {
                return fail(
                    Check::failed(
                        CheckKind::Attestations,
                        format!("a {sort} attestation that can be read"),
                        chain(&error),
                    )
                    .at(label)
                    .fix("run the step again"),
                );
            }
        }
    }
    Ok(all)
}

/// The evidence that answers a requirement.
pub(super) struct Fitting<'a> {
    pub(super) step: &'a Step,
    pub(super) collection: &'a CollectionView<'a>,
    pub(super) all: &'a [Evidence],
    /// Place of own evidence, and the type that it answers.
    pub(super) bound: &'a [(usize, String)],
    /// What rules see of images; at least one.
    pub(super) facts: &'a [ImageFacts],
}

/// A statement's predicate as an entry.
pub(super) fn entry_of<'a>(statement: &Statement<'a>) -> EntryView<'a> {
    EntryView {
        kind: statement.predicate_type.clone(),
        attestation: statement.predicate,
        starttime: String::new(),
        endtime: String::new(),
    }
}

/// Which types are there: in the collection, or in own envelopes that belong to it.
#[expect(clippy::too_many_arguments, reason = "the parts of one candidate")]
fn attestations(
    policy: &TrustedPolicy,
    step: &Step,
    collection: &CollectionView<'_>,
    products: &Files,
    all: &[Evidence],
    place: usize,
    label: &str,
    checks: &mut Checks,
) -> Judged<Vec<(usize, String)>> {
    if step.attestations.is_empty() {
        return fail(
            Check::failed(CheckKind::Attestations, "an attestation to look at", "the policy asks for none")
                .at(format!("steps.{}.attestations", step.name))
                .fix("list the types that the step must attest in the policy"),
        );
    }
    let mut bound = Vec::new();
    let mut missing = Vec::new();
    let mut nearly = Vec::new();
    for requirement in &step.attestations {
        if collection.attestations.iter().any(|entry| kinds::same(&requirement.kind, &entry.kind)) {
            continue;
        }
        let before = bound.len();
        for (own_place, own) in all.iter().enumerate() {
            let is_type = own.predicate_type.as_deref().is_some_and(|kind| kinds::same(&requirement.kind, kind));
            if own.step.is_some() || !is_type {
                continue;
            }
            match belongs(policy, step, &requirement.kind, own, &all[place].sha256, collection, products) {
                Ok(()) => bound.push((own_place, requirement.kind.clone())),
                Err(reason) => nearly.push(format!("{}: {reason}", own.label)),
            }
        }
        if bound.len() == before {
            missing.push(requirement.kind.as_str());
        }
    }
    if missing.is_empty() {
        checks.pass(CheckKind::Attestations, format!("all {} asked for", step.attestations.len()));
        return Ok(bound);
    }
    let there: Vec<&str> = collection.attestations.iter().map(EntryView::short_name).collect();
    let mut found = format!("missing {}; there are {}", missing.join(", "), there.join(", "));
    if !nearly.is_empty() {
        nearly.truncate(NAMED);
        found = format!("{found}; not bound to this run: {}", nearly.join("; "));
    }
    let names: Vec<&str> = missing.iter().map(|kind| crate::evidence::short_name(kind)).collect();
    fail(
        Check::failed(CheckKind::Attestations, format!("{} (steps.{})", missing.join(", "), step.name), found)
            .at(label)
            .fix(format!("run the step with these attestors as well: {}", names.join(","))),
    )
}

/// Whether evidence in its own envelope belongs to the run with this collection (security rule 12): signed by a
/// functionary of the step, with a certificate of the run where that is demanded, and either the document is a product
/// of the run, or it names the run.
fn belongs(
    policy: &TrustedPolicy,
    step: &Step,
    kind: &str,
    own: &Evidence,
    run: &str,
    collection: &CollectionView<'_>,
    products: &Files,
) -> Result<(), String> {
    let mut checks = Checks::new(&[]);
    let text = |check: Box<Check>| check.found;
    let checked = signed(own, &mut checks).map_err(text)?;
    let statement = statement(checked, &own.label).map_err(text)?;
    // Where it was found says what it is; only the payload is signed.
    if !kinds::same(kind, &statement.predicate_type) {
        return Err(format!("it is a statement of type `{}`", statement.predicate_type));
    }
    let signers = functionaries(&policy.functionaries_of(&step.name), step.threshold, checked, &own.label, &mut checks)
        .map_err(|_| "not signed by a functionary of the step".to_owned())?;
    certificates(step, &signers, collection, &own.label, &mut checks)
        .map_err(|check| format!("{}, and it is {}", check.expected, check.found))?;
    let names_run =
        statement.subject.iter().any(|subject| subject.name == RUN_SUBJECT && subject.value("sha256") == Some(run));
    if names_run || is_product(statement.predicate, products) {
        Ok(())
    } else {
        Err("it names another run, and is no product of this one".to_owned())
    }
}

/// Whether the document, as it was written, is among the products.
fn is_product(document: &RawValue, products: &Files) -> bool {
    let text = document.get();
    let with_newline = format!("{text}\n");
    [text, with_newline.as_str()].iter().any(|text| products.find("sha256", &sha256_hex(text.as_bytes())).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_is_about_what_it_made() {
        let text = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[
                {{"name":"https://witness.dev/attestations/product/v0.1/file:app","digest":{{"sha256":"{0}"}}}},
                {{"name":"https://witness.dev/attestations/git/v0.1/commithash:x","digest":{{"sha1":"x"}}}},
                {{"name":"app","digest":{{"sha256":"{0}"}}}}
            ],"predicateType":"t","predicate":{{}}}}"#,
            "ab".repeat(32)
        );
        let statement = Statement::parse_strict(text.as_bytes()).expect("a statement");
        let digest = DigestSet::sha256_hex("ab".repeat(32));
        assert_eq!(
            real_subjects(&statement),
            [("https://witness.dev/attestations/product/v0.1/file:app".to_owned(), digest.clone())]
        );
        // In a statement that is no collection a name without a type is the producer's own.
        assert_eq!(real_external_subjects(&statement).len(), 2);
    }

    #[test]
    fn files_of_every_entry_count() {
        let entry = |path: &str| {
            format!(
                r#"{{"type":"https://witness.dev/attestations/material/v0.1","attestation":{{"{path}":{{"sha256":"{}"}}}}}}"#,
                "ab".repeat(32)
            )
        };
        let text = format!(r#"{{"name":"a","attestations":[{},{}]}}"#, entry("a"), entry("b"));
        let collection: CollectionView<'_> = serde_json::from_str(&text).expect("a collection");
        let materials = files(&collection, "material", "").expect("reads");
        assert_eq!(materials.iter().map(|file| file.path).collect::<Vec<_>>(), ["a", "b"]);
        assert!(files(&collection, "product", "").expect("reads").is_empty());
    }
}
