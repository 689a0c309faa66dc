//! When evidence was signed: limits of a step, and the age of each attestation, by proven times only.

use jiff::{SignedDuration, Timestamp};

use super::accept::{Checks, Fitting, Judged, fail, functionaries, signed};
use super::trusted::TrustedPolicy;
use crate::evidence::kinds;
use crate::policy::{Step, TimeConstraint};
use crate::trust::{SignerProof, distinct_identities};
use crate::verdict::{Check, CheckKind};

/// How far a proven time may lie behind the time judged at: clocks differ.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The earliest proven time of the signatures that count: a later timestamp can be had by anybody at any time.
fn proven_time(signers: &[&SignerProof]) -> Option<Timestamp> {
    signers.iter().filter_map(|signer| signer.time.as_ref().map(|proven| proven.time)).min()
}

pub(super) fn time_constraint(
    step: &Step,
    signers: &[&SignerProof],
    at: Timestamp,
    label: &str,
    checks: &mut Checks,
) -> Judged<()> {
    let constraint: TimeConstraint = step.time;
    let time = proven_time(signers);
    if constraint.is_empty() {
        checks.pass(CheckKind::Time, time.map_or_else(String::new, |time| format!("signed at {time}")));
        return Ok(());
    }
    let expected = format!("signed {} (steps.{}.timestampConstraint)", limits(constraint, at), step.name);
    let Some(time) = time else { return fail(unproven(CheckKind::Time, expected, label)) };
    let fits = |time: Timestamp| fits(constraint, time, at);
    if !fits(time) {
        let found = format!("signed at {time}, proven by a timestamp");
        return fail(Check::failed(CheckKind::Time, expected, found).at(label).fix("run the step again"));
    }
    // Each signature that the threshold needs has to be within it: a key that was stolen later must not help out.
    let within = signers.iter().copied().filter(|signer| signer.time.as_ref().is_some_and(|proven| fits(proven.time)));
    let count = distinct_identities(within);
    if count < step.threshold {
        let found = format!("{count} of {} signers at such a time, proven by a timestamp", step.threshold);
        return fail(
            Check::failed(CheckKind::Time, expected, found)
                .at(label)
                .fix("have every functionary sign with a timestamp, within that time"),
        );
    }
    checks.pass(CheckKind::Time, format!("signed at {time}"));
    Ok(())
}

/// When it must have been signed, in words.
pub(super) fn limits(constraint: TimeConstraint, at: Timestamp) -> String {
    let mut limits = Vec::new();
    limits.extend(constraint.not_before.map(|time| format!("not before {time}")));
    limits.extend(constraint.not_after.map(|time| format!("not after {time}")));
    limits.extend(constraint.max_age.map(|age| format!("at most {age:#} before {at}")));
    limits.join(", ")
}

/// Whether a proven time is one at which it must have been signed, as judged `at`.
pub(super) fn fits(constraint: TimeConstraint, time: Timestamp, at: Timestamp) -> bool {
    let too_early = constraint.not_before.is_some_and(|limit| time < limit);
    let too_late = constraint.not_after.is_some_and(|limit| time > limit);
    !too_early && !too_late && !constraint.max_age.is_some_and(|age| is_older(time, at, age))
}

/// Whether `time` is further back than `age`, or lies after the time judged at.
fn is_older(time: Timestamp, at: Timestamp, age: SignedDuration) -> bool {
    let passed = at.duration_since(time);
    passed > age || passed < -SKEW
}

fn unproven(kind: CheckKind, expected: String, label: &str) -> Check {
    Check::failed(kind, expected, "no proven time: the signature has no timestamp by an authority of the policy")
        .at(label)
        .fix("sign with an RFC 3161 timestamp, and name its authority in `timestampauthorities` of the policy")
}

/// Whether each attestation that must be young is: the collection by its signers that count, and evidence in its own
/// envelope by those of them who signed that.
pub(super) fn ages(
    policy: &TrustedPolicy,
    fitting: &Fitting<'_>,
    signers: &[&SignerProof],
    at: Timestamp,
    label: &str,
    checks: &mut Checks,
) -> Judged<()> {
    let step = fitting.step;
    let mut told = Vec::new();
    for requirement in &step.attestations {
        let Some(age) = requirement.max_age else { continue };
        let expected = format!("{} at most {age:#} old at {at} ({}.maxAge)", requirement.kind, requirement.at);
        let mut own = Vec::new();
        for (place, _) in fitting.bound.iter().filter(|(_, kind)| kinds::same(&requirement.kind, kind)) {
            let evidence = &fitting.all[*place];
            let mut unseen = Checks::new(&[]);
            let checked = signed(evidence, &mut unseen)?;
            let who = policy.functionaries_of(&step.name);
            let by = functionaries(&who, step.threshold, checked, &evidence.label, &mut unseen)?;
            own.push((evidence.label.as_str(), by));
        }
        if own.is_empty() {
            own.push((label, signers.to_vec()));
        }
        for (label, signers) in own {
            told.push(young(&signers, step.threshold, age, at, &expected, label)?);
        }
    }
    told.dedup();
    checks.pass(CheckKind::Age, told.join(", "));
    Ok(())
}

/// Whether these signed at most `age` before `at`, all that the threshold needs: none may borrow another's timestamp.
fn young(
    signers: &[&SignerProof],
    threshold: usize,
    age: SignedDuration,
    at: Timestamp,
    expected: &str,
    label: &str,
) -> Judged<String> {
    let Some(time) = proven_time(signers) else { return fail(unproven(CheckKind::Age, expected.to_owned(), label)) };
    let failed = |found: String, fix: &str| fail(Check::failed(CheckKind::Age, expected, found).at(label).fix(fix));
    if is_older(time, at, age) {
        let found = if time > at {
            format!("signed at {time}, which is later")
        } else {
            format!("signed at {time}, {:#} before", at.duration_since(time))
        };
        return failed(found, "run the step again");
    }
    let fits = |signer: &&SignerProof| signer.time.as_ref().is_some_and(|proven| !is_older(proven.time, at, age));
    let count = distinct_identities(signers.iter().copied().filter(fits));
    if count < threshold {
        let found = format!("{count} of {threshold} signers at such a time, proven by a timestamp");
        return failed(found, "have every functionary sign with a timestamp");
    }
    Ok(format!("signed at {time}"))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::*;
    use crate::collection::COLLECTION_TYPE;
    use crate::digest::{DigestSet, sha256_hex};
    use crate::dsse::Envelope;
    use crate::policy::PAYLOAD_TYPE as POLICY_TYPE;
    use crate::policy::Policy;
    use crate::run::RUN_SUBJECT;
    use crate::sign::{Scheme, Signer};
    use crate::statement::PAYLOAD_TYPE;
    use crate::trust::tests::make::{World, key, stamped};
    use crate::trust::timestamp::ProvenTime;
    use crate::trust::{Identity, Trust};
    use crate::verdict::{Answer, Verdict};
    use crate::verify::{Artifact, Files, ImageTrust, PolicyFile, PolicyTrust, Question, verify};

    const AT: &str = "2026-06-01T12:00:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn step(members: &str) -> Step {
        let text = format!(r#"{{"expires":"2036-01-01T00:00:00Z","steps":{{"a":{{"name":"a"{members}}}}}}}"#);
        Policy::parse(text.as_bytes()).expect("a policy").steps.remove("a").expect("its step")
    }

    fn signer(key_id: &str, time: Option<&str>) -> SignerProof {
        let proven = |text| ProvenTime { time: at(text), authority: "t".to_owned() };
        SignerProof {
            index: 0,
            key_id: key_id.to_owned(),
            identity: Identity::Key,
            time: time.map(proven),
            stamped: time.map(proven),
            logged: Vec::new(),
            scheme: Scheme::Ed25519,
            notes: Vec::new(),
        }
    }

    fn in_time(members: &str, signers: &[SignerProof]) -> bool {
        let signers: Vec<&SignerProof> = signers.iter().collect();
        time_constraint(&step(members), &signers, at(AT), "", &mut Checks::new(&[])).is_ok()
    }

    #[test]
    fn each_limit_of_a_time_constraint_holds_to_the_second() {
        for (constraint, time, holds) in [
            (r#""notBefore":"2026-06-01T11:00:00Z""#, "2026-06-01T10:59:59Z", false),
            (r#""notBefore":"2026-06-01T11:00:00Z""#, "2026-06-01T11:00:00Z", true),
            (r#""notBefore":"2026-06-01T11:00:00Z""#, "2026-06-01T11:30:00Z", true),
            (r#""notAfter":"2026-06-01T11:00:00Z""#, "2026-06-01T10:30:00Z", true),
            (r#""notAfter":"2026-06-01T11:00:00Z""#, "2026-06-01T11:00:00Z", true),
            (r#""notAfter":"2026-06-01T11:00:00Z""#, "2026-06-01T11:00:01Z", false),
            (r#""maxAge":"1h""#, "2026-06-01T10:59:59Z", false),
            (r#""maxAge":"1h""#, "2026-06-01T11:00:00Z", true),
            (r#""maxAge":"1h""#, AT, true),
            // Clocks differ, by minutes.
            (r#""maxAge":"1h""#, "2026-06-01T12:05:00Z", true),
            (r#""maxAge":"1h""#, "2026-06-01T12:05:01Z", false),
            (r#""maxAge":"1h""#, "2027-06-01T12:00:00Z", false),
        ] {
            let members = format!(r#","timestampConstraint":{{{constraint}}}"#);
            assert_eq!(in_time(&members, &[signer("k", Some(time))]), holds, "{constraint} {time}");
            assert!(!in_time(&members, &[signer("k", None)]), "{constraint}");
        }
        assert!(in_time("", &[signer("k", None)]));
    }

    #[test]
    fn every_signer_that_is_needed_signed_in_time() {
        let two = r#","threshold":2,"timestampConstraint":{"notAfter":"2026-06-01T11:00:00Z"}"#;
        let one = r#","timestampConstraint":{"notAfter":"2026-06-01T11:00:00Z"}"#;
        let early = || signer("a", Some("2026-06-01T10:00:00Z"));
        for (other, holds) in [
            (signer("b", Some("2026-06-01T10:30:00Z")), true),
            (signer("b", Some("2026-06-01T11:30:00Z")), false),
            (signer("b", None), false),
            (early(), false),
        ] {
            let signers = [early(), other];
            assert_eq!(in_time(two, &signers), holds, "{:?}", signers[1].time);
            assert!(in_time(one, &signers));
        }
    }

    #[test]
    fn nobody_borrows_a_timestamp() {
        let hour = SignedDuration::from_hours(1);
        let young = |signers: &[SignerProof], threshold| {
            let signers: Vec<&SignerProof> = signers.iter().collect();
            young(&signers, threshold, hour, at(AT), "", "").is_ok()
        };
        let fresh = |key| signer(key, Some("2026-06-01T11:30:00Z"));
        assert!(young(&[fresh("a"), fresh("b")], 2));
        assert!(!young(&[fresh("a"), signer("b", None)], 2));
        assert!(!young(&[fresh("a"), fresh("a")], 2));
        assert!(young(&[fresh("a"), signer("b", None)], 1));
        assert!(!young(&[fresh("a"), signer("b", Some("2026-06-01T10:30:00Z"))], 1));
        assert!(!young(&[signer("a", None)], 1));
    }

    const PRODUCT: &str = "https://witness.dev/attestations/product/v0.1";
    const COMMAND: &str = "https://witness.dev/attestations/command-run/v0.1";
    const SBOM: &str = "https://cyclonedx.org/bom";
    const APP: &[u8] = b"the application";
    const FRESH: &str = "20260601110000Z";
    const OLD: &str = "20260601105959Z";

    /// A statement, signed by the keys with these numbers, each with a token of its time if one is given.
    fn evidence(statement: &Value, by: &[(usize, Option<&'static str>)]) -> Vec<u8> {
        let signers: Vec<&dyn Signer> = by.iter().map(|(number, _)| key(*number) as _).collect();
        let payload = statement.to_string().into_bytes();
        let mut envelope = Envelope::seal(payload, PAYLOAD_TYPE, &signers).expect("signs");
        for (signature, (_, time)) in envelope.signatures.iter_mut().zip(by) {
            let mut stamp = World::new().stamp(&signature.sig);
            if let Some(time) = *time {
                stamp.time = time;
                signature.timestamps = vec![stamped(stamp.token())];
            }
        }
        envelope.to_json()
    }

    fn statement(kind: &str, subjects: &Value, predicate: &Value) -> Value {
        json!({"_type": "https://in-toto.io/Statement/v1", "subject": subjects, "predicateType": kind, "predicate": predicate})
    }

    /// A build that made [`APP`], and its SBOM.
    fn run() -> (Value, Value) {
        let app = json!({"sha256": sha256_hex(APP)});
        let entries = json!([
            {"type": COMMAND, "attestation": {"cmd": ["make"], "exitcode": 0}},
            {"type": PRODUCT, "attestation": {"app": {"digest": app}}},
        ]);
        let subjects = json!([{"name": format!("{PRODUCT}/file:app"), "digest": app}]);
        let build = statement(COLLECTION_TYPE, &subjects, &json!({"name": "build", "attestations": entries}));
        let run = json!({"name": RUN_SUBJECT, "digest": {"sha256": sha256_hex(build.to_string().as_bytes())}});
        let sbom = statement(SBOM, &json!([run, {"name": "app", "digest": app}]), &json!({"bomFormat": "CycloneDX"}));
        (build, sbom)
    }

    /// Asks about [`APP`] at [`AT`]; `aged` of the types that the step must attest have to be an hour old at most.
    fn ask(aged: &[&str], threshold: usize, files: &[Vec<u8>]) -> Verdict {
        let attestations: Vec<Value> = [PRODUCT, SBOM]
            .iter()
            .map(|kind| {
                let mut requirement = json!({"type": kind, "regopolicies": []});
                if aged.contains(kind) {
                    requirement["maxAge"] = json!("1h");
                }
                requirement
            })
            .collect();
        let keys = [5, 6].map(|number| key(number).public_key());
        let known = |key: &crate::sign::PublicKey| {
            (key.key_id().to_owned(), json!({"keyid": key.key_id(), "key": STANDARD.encode(key.to_pem())}))
        };
        let step = json!({"name": "build", "threshold": threshold, "attestations": attestations,
            "functionaries": keys.map(|key| json!({"type": "publickey", "publickeyid": key.key_id()}))});
        let authority = STANDARD.encode(World::new().time_root.self_signed().to_pem());
        let policy = json!({"expires": "2036-01-01T00:00:00Z", "steps": {"build": step},
            "publickeys": keys.map(known).into_iter().collect::<serde_json::Map<_, _>>(),
            "timestampauthorities": {"tsa": {"certificate": authority}}});
        let policy = Envelope::seal(policy.to_string().into_bytes(), POLICY_TYPE, &[key(7)]).expect("signs");
        let mut source = Files::default();
        for (number, file) in files.iter().enumerate() {
            source.add(&format!("{number}.json"), file.clone());
        }
        verify(&Question {
            policy: PolicyFile { label: "policy.json", bytes: &policy.to_json() },
            policy_trust: PolicyTrust {
                trust: Trust { keys: vec![key(7).public_key().clone()], ..Trust::default() },
                ..PolicyTrust::default()
            },
            artifacts: vec![Artifact::of("app", DigestSet::sha256_hex(sha256_hex(APP)))],
            images: Vec::new(),
            image_trust: ImageTrust::default(),
            seeds: Vec::new(),
            sources: vec![&source],
            at: at(AT),
            origins: Vec::new(),
        })
        .expect("an answer")
    }

    /// Why it is denied for its age: the file, and what was found. `None` if it passes.
    fn too_old(verdict: &Verdict) -> Option<(String, String)> {
        if verdict.answer == Answer::Passed {
            return None;
        }
        let reasons = verdict.reasons();
        let check = reasons.iter().map(|(_, check)| check).find(|check| check.kind == CheckKind::Age);
        let check = check.unwrap_or_else(|| panic!("denied for another reason than its age: {reasons:?}"));
        assert!(check.expected.contains("1h old"), "{}", check.expected);
        Some((check.place.clone(), check.found.clone()))
    }

    #[test]
    fn evidence_in_its_own_envelope_is_as_old_as_its_own_signature() {
        let (build, sbom) = run();
        let asked = |build_time, sbom_time| {
            too_old(&ask(&[SBOM], 1, &[evidence(&build, &[(5, build_time)]), evidence(&sbom, &[(5, sbom_time)])]))
        };
        let denied = |found: &str| Some(("1.json".to_owned(), found.to_owned()));
        let unproven = "no proven time: the signature has no timestamp by an authority of the policy";
        let old = "signed at 2026-06-01T10:59:59Z, 1h 1s before";
        for (build_time, sbom_time, expected) in [
            (Some(FRESH), Some(FRESH), None),
            // The time of the collection neither helps nor harms.
            (Some(OLD), Some(FRESH), None),
            (None, Some(FRESH), None),
            (Some(FRESH), Some(OLD), denied(old)),
            (Some(FRESH), None, denied(unproven)),
            (None, Some(OLD), denied(old)),
            (None, None, denied(unproven)),
            (Some(FRESH), Some("20260601120501Z"), denied("signed at 2026-06-01T12:05:01Z, which is later")),
        ] {
            assert_eq!(asked(build_time, sbom_time), expected, "{build_time:?} {sbom_time:?}");
        }
        // Without `maxAge` its time does not matter.
        let files = [evidence(&build, &[(5, None)]), evidence(&sbom, &[(5, Some(OLD))])];
        assert_eq!(too_old(&ask(&[], 1, &files)), None);
        // A fresh one does not make up for an old one beside it: rules see both.
        let mut other = sbom.clone();
        other["predicate"]["version"] = json!(2);
        let old_too = evidence(&other, &[(5, Some(OLD))]);
        let files = [evidence(&build, &[(5, None)]), evidence(&sbom, &[(5, Some(FRESH))]), old_too];
        assert_eq!(too_old(&ask(&[SBOM], 1, &files)), Some(("2.json".to_owned(), old.to_owned())));
    }

    #[test]
    fn evidence_in_its_own_envelope_lends_its_age_to_nothing_else() {
        let (build, sbom) = run();
        let asked = |build_time, sbom_time| {
            too_old(&ask(&[PRODUCT], 1, &[evidence(&build, &[(5, build_time)]), evidence(&sbom, &[(5, sbom_time)])]))
        };
        assert_eq!(asked(Some(FRESH), None), None);
        assert_eq!(asked(Some(FRESH), Some(OLD)), None);
        let (place, found) = asked(Some(OLD), Some(FRESH)).expect("denied");
        assert_eq!((place.as_str(), found.as_str()), ("0.json", "signed at 2026-06-01T10:59:59Z, 1h 1s before"));
        assert!(asked(None, Some(FRESH)).is_some());
    }

    #[test]
    fn everybody_who_must_sign_own_evidence_signed_it_in_time() {
        let (build, sbom) = run();
        let asked = |first, second| {
            let build = evidence(&build, &[(5, Some(FRESH)), (6, Some(FRESH))]);
            too_old(&ask(&[SBOM], 2, &[build, evidence(&sbom, &[(5, first), (6, second)])])).map(|(_, found)| found)
        };
        assert_eq!(asked(Some(FRESH), Some(FRESH)), None);
        assert!(asked(Some(FRESH), Some(OLD)).is_some_and(|found| found.contains("1h 1s before")));
        let found = asked(Some(FRESH), None).expect("denied");
        assert_eq!(found, "1 of 2 signers at such a time, proven by a timestamp");
    }
}
