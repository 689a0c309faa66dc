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
    let mut expected = Vec::new();
    expected.extend(constraint.not_before.map(|time| format!("not before {time}")));
    expected.extend(constraint.not_after.map(|time| format!("not after {time}")));
    expected.extend(constraint.max_age.map(|age| format!("at most {age:#} before {at}")));
    let expected = format!("signed {} (steps.{}.timestampConstraint)", expected.join(", "), step.name);
    let Some(time) = time else { return fail(unproven(CheckKind::Time, expected, label)) };
    let fits = |time: Timestamp| {
        let too_early = constraint.not_before.is_some_and(|limit| time < limit);
        let too_late = constraint.not_after.is_some_and(|limit| time > limit);
        !too_early && !too_late && !constraint.max_age.is_some_and(|age| is_older(time, at, age))
    };
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
            own.push(functionaries(&who, step.threshold, checked, &evidence.label, &mut unseen)?);
        }
        let each: Vec<&[&SignerProof]> =
            if own.is_empty() { vec![signers] } else { own.iter().map(Vec::as_slice).collect() };
        for signers in each {
            told.push(young(signers, step.threshold, age, at, &expected, label)?);
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
    use super::*;
    use crate::policy::Policy;
    use crate::sign::Scheme;
    use crate::trust::Identity;
    use crate::trust::timestamp::ProvenTime;

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
}
