//! The prediction: what a rule will say of an image, why, and what helps.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;

use super::condition::{self, CONTEXT, Held};
use super::evidence::{Attested, Evidence, Kept, Legacy, Listed, MAX_REFERRERS, Spot, WARN_REFERRERS};
use super::outcome::{Answer, Asked, Outcome, Part};
use super::policy::{Attestation, Attestor, AttestorSet, CtLog, Keyless, Kind, Policy, Rekor, Rule, VerifyImages};
use super::roots::Roots;
use super::who::{Belief, Made, NO_AUTHORITY, NO_LOG, Signed, Unknown, Who};
use super::{Version, bundles, rules};
use crate::dsse::pae_header;
use crate::image::claim::{Claim, SIGN};
use crate::image::payload::Payload;
use crate::statement::PAYLOAD_TYPE;

/// How deep attestors may lie in each other.
const MAX_DEPTH: usize = 8;
/// `predicateType` of `cosign attest --type custom`.
const CUSTOM: &str = "https://cosign.sigstore.dev/attestation/v1";

/// Gives what lies beside an image in its own repository, or in the one of this name.
pub type Beside<'a, E> = &'a mut dyn FnMut(Option<&str>) -> Result<Rc<Evidence>, E>;

/// What a payload says besides, by name.
type Optional = BTreeMap<String, Value>;

/// What a rule will say. `evidence` gives what lies beside the image in its own repository, or in one that the rule
/// names.
pub fn check<E>(
    policy: &Policy,
    rule: &Rule,
    asked: Asked<'_>,
    version: Version,
    evidence: Beside<'_, E>,
) -> Result<Outcome, E> {
    let mut outcome = Outcome {
        policy: format!("{} {}", policy.kind, policy.name),
        rule: rule.name.clone(),
        answer: Answer::NotMatched,
        audits: policy.audits,
        looks_for: Vec::new(),
        found: BTreeSet::new(),
        reasons: Vec::new(),
        fixes: BTreeSet::new(),
        warnings: BTreeSet::new(),
    };
    if version > Version::NEWEST {
        outcome.warn(format!(
            "Kyverno {version} is newer than {}, the newest that is known here: what it looks at may be another",
            Version::NEWEST
        ));
    }
    for entry in &rule.verify {
        if !rules::is_about(&entry.image_references, &entry.skip_image_references, asked.name) {
            continue;
        }
        if rule.has_preconditions {
            outcome.warn("`preconditions` are about the request: the rule is taken to apply");
        }
        if !rule.unknown.is_empty() {
            outcome.take(Part::NotJudged(format!("members that Kyverno does not know: {}", rule.unknown.join(", "))));
            continue;
        }
        outcome.audits = entry.audits().unwrap_or(outcome.audits);
        Judge { entry, asked, version, outcome: &mut outcome, evidence }.entry()?;
    }
    if outcome.answer == Answer::NotMatched {
        let patterns: Vec<_> =
            rule.verify.iter().flat_map(|entry| &entry.image_references).map(String::as_str).collect();
        outcome.reasons.push(format!(
            "not about {}: its images are {}",
            rules::known_as(asked.name),
            if patterns.is_empty() { "none".to_owned() } else { patterns.join(", ") }
        ));
    }
    Ok(outcome)
}

struct Judge<'a, E> {
    entry: &'a VerifyImages,
    asked: Asked<'a>,
    version: Version,
    outcome: &'a mut Outcome,
    evidence: Beside<'a, E>,
}

impl<'a, E> Judge<'a, E> {
    fn entry(&mut self) -> Result<(), E> {
        let entry = self.entry;
        let pins = entry.mutate_digest != Some(false);
        if !pins && entry.verify_digest != Some(false) && !self.asked.is_pinned {
            self.outcome.fix("name the image by its digest, or leave `mutateDigest` on");
            self.outcome.take(Part::Fail("missing digest: `verifyDigest` wants one, and `mutateDigest` is off".into()));
        }
        if entry.kind == Kind::Notary {
            self.outcome.take(Part::NotJudged("signatures of the type Notary".into()));
            return Ok(());
        }
        // A cluster refuses them or drops them: what would be judged is not what was meant.
        if !entry.unknown.is_empty() {
            let unknown = entry.unknown.join(", ");
            let why = format!("members of `verifyImages` that Kyverno does not know: {unknown}");
            self.outcome.take(Part::NotJudged(why));
            return self.traps();
        }
        if entry.validate.is_some() {
            self.outcome.warn("`validate` of the entry is not judged: it may deny what its attestations say");
        }
        let old = entry.old_members();
        if !old.is_empty() {
            self.outcome.take(Part::NotJudged(format!("members of early releases: {}", old.join(", "))));
        }
        self.traps()?;
        for set in &entry.attestors {
            let part = self.set(set, None, 0)?;
            self.outcome.take(part);
        }
        for attestation in &entry.attestations {
            self.attestation(attestation)?;
        }
        if entry.attestors.is_empty() && entry.attestations.is_empty() && old.is_empty() {
            self.outcome.warn("neither `attestors` nor `attestations`: no signature is asked for");
            self.outcome.take(Part::Pass);
        }
        Ok(())
    }

    /// What one should know of the image, whatever the attestors are.
    fn traps(&mut self) -> Result<(), E> {
        let evidence = (self.evidence)(self.entry.repository.as_deref())?;
        for problem in &evidence.problems {
            self.outcome.warn(format!("cannot be read: {problem}"));
        }
        let found = &mut self.outcome.found;
        for (count, what) in [
            (evidence.signatures.len(), format!("signatures under the tag {}", evidence.tags.0)),
            (evidence.attestations.len(), format!("attestations under the tag {}", evidence.tags.1)),
            (evidence.referred.len(), "signatures in a referrer (oci-1-1)".to_owned()),
            (evidence.bundles.len(), "Sigstore bundles among the referrers".to_owned()),
        ] {
            if count > 0 {
                found.insert(format!("{count} {what}"));
            }
        }
        for in_bundles in [false, true] {
            let types = evidence.types(in_bundles);
            if !types.is_empty() {
                let types: Vec<_> = types.iter().map(|kind| kind.escape_debug().to_string()).collect();
                let place = if in_bundles { "in bundles" } else { "under the tag" };
                found.insert(format!("types {place}: {}", types.join(", ")));
            }
        }
        if found.is_empty() {
            found.insert("nothing is kept about it".to_owned());
        }
        if self.entry.kind == Kind::SigstoreBundle {
            if evidence.referrers > WARN_REFERRERS {
                self.outcome.warn(format!(
                    "{} referrers: above {MAX_REFERRERS} of any kind Kyverno refuses every rule of this type",
                    evidence.referrers
                ));
            }
            if evidence.bundles.iter().any(|one| !one.is_listed_as_bundle) {
                self.outcome.warn("the registry lists bundles under another artifactType: Kyverno does not see those");
            }
        }
        Ok(())
    }

    /// One attestation of a rule: for signatures `None` stands in its place.
    fn attestation(&mut self, attestation: &Attestation) -> Result<(), E> {
        let kind = attestation.predicate_type();
        if kind == CUSTOM {
            self.outcome.warn("what `--type custom` attests stands in `Data`, as text: conditions ask `{{ Data }}`");
        }
        let anybody = [AttestorSet { count: None, entries: vec![Attestor::default()] }];
        let sets = if attestation.attestors.is_empty() {
            self.outcome.warn(format!(
                "the attestation {} has no attestors: anybody with a certificate of the public Fulcio satisfies it",
                kind.escape_debug()
            ));
            self.outcome.fix(format!("add `attestors` to the attestation {}", kind.escape_debug()));
            &anybody[..]
        } else {
            &attestation.attestors[..]
        };
        for set in sets {
            let part = self.set(set, Some(attestation), 0)?;
            self.outcome.take(part);
        }
        Ok(())
    }

    /// As many attestors of a set as it counts; all where it does not count.
    fn set(&mut self, set: &AttestorSet, about: Option<&Attestation>, depth: usize) -> Result<Part, E> {
        if depth > MAX_DEPTH {
            return Ok(Part::NotJudged(format!("attestors that lie more than {MAX_DEPTH} deep in each other")));
        }
        let mut parts = Vec::new();
        for attestor in &set.entries {
            if let Some(inner) = &attestor.inner {
                parts.push(self.set(inner, about, depth + 1)?);
            } else {
                parts.extend(self.attestor(attestor, about)?);
            }
        }
        let wanted = set.count.filter(|count| *count > 0).and_then(|count| usize::try_from(count).ok());
        let wanted = wanted.unwrap_or(parts.len());
        let passed = parts.iter().filter(|part| matches!(part, Part::Pass)).count();
        let unknown = parts.iter().filter(|part| matches!(part, Part::NotJudged(_))).count();
        if passed >= wanted && !parts.is_empty() {
            return Ok(Part::Pass);
        }
        let reasons = |fails: bool| {
            let all = parts.iter().filter_map(|part| match part {
                Part::Fail(why) if fails => Some(why.as_str()),
                Part::NotJudged(why) if !fails => Some(why.as_str()),
                _ => None,
            });
            let count = if parts.len() > 1 { format!("{passed} of {wanted}: ") } else { String::new() };
            format!("{count}{}", all.collect::<Vec<_>>().join("; "))
        };
        if passed + unknown >= wanted && unknown > 0 {
            return Ok(Part::NotJudged(reasons(false)));
        }
        Ok(Part::Fail(if parts.is_empty() { "a set of attestors has no entries".to_owned() } else { reasons(true) }))
    }

    /// One attestor; several keys of one are several.
    fn attestor(&mut self, attestor: &Attestor, about: Option<&Attestation>) -> Result<Vec<Part>, E> {
        let repository = attestor.repository.as_deref().or(self.entry.repository.as_deref());
        let evidence = (self.evidence)(repository)?;
        let place = match (self.entry.kind, about) {
            (Kind::SigstoreBundle, _) => "Sigstore bundles among the referrers".to_owned(),
            (_, Some(_)) => format!("envelopes under the tag {}", evidence.tags.1),
            (_, None) if self.entry.cosign_oci11 => {
                format!("signatures in a referrer (oci-1-1), else under the tag {}", evidence.tags.0)
            }
            (_, None) => format!("signatures under the tag {}", evidence.tags.0),
        };
        let kind = about.map(|one| format!(" of the type {}", one.predicate_type().escape_debug())).unwrap_or_default();
        let notes: Vec<_> = attestor.annotations.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let notes = if notes.is_empty() { String::new() } else { format!(", annotated {}", notes.join(", ")) };
        let kept = repository.map(|name| format!(", in {name}")).unwrap_or_default();
        let mut look = |who: &str| {
            let line = format!("{place}{kind}, {who}{notes}{kept}");
            if !self.outcome.looks_for.contains(&line) {
                self.outcome.looks_for.push(line);
            }
        };
        let who = match (&attestor.keys, &attestor.keyless, &attestor.certificates) {
            (Some(keys), ..) => {
                let known = match rules::keys(keys) {
                    Ok(known) => known,
                    Err(why) => {
                        look("by a key that is not in the policy");
                        let part = self.there(about, &evidence).unwrap_or(Part::NotJudged(why));
                        return Ok(vec![part]);
                    }
                };
                for key in &known {
                    look(&format!("by the key {}", key.key_id()));
                }
                if known.len() > 1 {
                    self.outcome.warn(
                        "several keys in one `publicKeys` are several attestors: without `count` each must have signed",
                    );
                }
                let belief = self.belief(None, &keys.rekor, &keys.ctlog);
                return Ok(known
                    .iter()
                    .map(|key| self.signed(&Who::Key(key, keys, belief.clone()), about, attestor, &evidence))
                    .collect());
            }
            (None, Some(keyless), _) => {
                look(&format!("by a certificate of {}", rules::wanted(keyless)));
                if !keyless.additional_extensions.is_empty() {
                    self.outcome.warn("`additionalExtensions` knows 1.3.6.1.4.1.57264.1.1 to .6 and their names only");
                }
                Who::Identity(keyless, self.belief(keyless.roots.as_deref(), &keyless.rekor, &keyless.ctlog))
            }
            (None, None, Some(_)) => {
                look("by the certificate in the policy");
                let why = "attestors of the kind `certificates`".to_owned();
                return Ok(vec![self.there(about, &evidence).unwrap_or(Part::NotJudged(why))]);
            }
            (None, None, None) => {
                look("by a certificate of any identity of the public Fulcio");
                let anybody = Keyless::default();
                let who = Who::Identity(&anybody, self.belief(None, &anybody.rekor, &anybody.ctlog));
                return Ok(vec![self.signed(&who, about, attestor, &evidence)]);
            }
        };
        Ok(vec![self.signed(&who, about, attestor, &evidence)])
    }

    /// Whom the rule believes.
    fn belief(&self, certificates: Option<&str>, rekor: &Rekor, ctlog: &CtLog) -> Belief<'a> {
        let root = self.asked.root;
        let roots = Roots::of(certificates, rekor, ctlog, root);
        Belief { roots, root, now: self.asked.now, version: self.version }
    }

    /// Whether one attestor has signed, or attested, what is wanted.
    fn signed(&mut self, who: &Who<'_>, about: Option<&Attestation>, attestor: &Attestor, evidence: &Evidence) -> Part {
        if let Some(part) = self.there(about, evidence) {
            return part;
        }
        if self.entry.kind == Kind::SigstoreBundle
            && let Some(why) = bundles::unfit(who, attestor, self.version, self.outcome)
        {
            return Part::Fail(why);
        }
        let notes = &attestor.annotations;
        match (self.entry.kind, about) {
            (Kind::SigstoreBundle, _) => {
                let bundles = evidence.bundles.iter().filter(|one| one.is_listed_as_bundle);
                let bundles: Vec<_> = bundles.filter_map(Listed::attested).collect();
                self.statements(who, about, notes, &bundles)
            }
            (_, Some(_)) => {
                let all: Vec<_> = evidence.attestations.iter().collect();
                self.statements(who, about, notes, &all)
            }
            (_, None) => {
                if self.entry.cosign_oci11 && !evidence.referred.is_empty() {
                    let first = self.simple(who, notes, &evidence.referred);
                    if matches!(first, Part::Pass) || evidence.signatures.is_empty() {
                        return first;
                    }
                }
                self.simple(who, notes, &evidence.signatures)
            }
        }
    }

    /// `Some` where nothing that could count is there, whoever has signed.
    fn there(&mut self, about: Option<&Attestation>, evidence: &Evidence) -> Option<Part> {
        let has_bundles = !evidence.bundles.is_empty();
        if self.entry.kind != Kind::SigstoreBundle {
            let spots = match about {
                Some(_) => &[Spot::Attestations][..],
                None if self.entry.cosign_oci11 => &[Spot::Signatures, Spot::Referrers],
                None => &[Spot::Signatures],
            };
            if let Some(why) = spots.iter().find_map(|spot| evidence.not_read(*spot)) {
                return Some(Part::NotJudged(format!("not all could be read: {why}")));
            }
        }
        match (self.entry.kind, about) {
            (Kind::SigstoreBundle, _) => {
                if evidence.referrers > MAX_REFERRERS {
                    self.outcome.fix("take old referrers away");
                    let why = format!(
                        "{} referrers, and Kyverno looks for bundles among {MAX_REFERRERS}",
                        evidence.referrers
                    );
                    return Some(Part::Fail(why));
                }
                if let Some(why) = evidence.not_read(Spot::Referrers) {
                    return Some(Part::NotJudged(format!("not all could be read: {why}")));
                }
                // Before 1.19 a key is refused whatever is there: told by the caller.
                if evidence.bundles.iter().all(|one| !one.is_listed_as_bundle) {
                    if has_bundles {
                        self.outcome.fix("use a registry that lists the artifactType of referrers, or `type: Cosign`");
                        let why = "bundles are there, and the registry lists them under another artifactType";
                        return Some(Part::Fail(why.into()));
                    }
                    let verb = if about.is_some() { "attest" } else { "sign" };
                    self.outcome.fix(format!("affiant image {verb} --format tag,bundle --key KEY {}", self.asked.name));
                    return Some(Part::Fail("no bundle is there".into()));
                }
                let mut bundles = evidence.bundles.iter().filter(|one| one.is_listed_as_bundle);
                let broken = bundles.find_map(|one| one.content.as_ref().err())?;
                self.outcome.fix("take the bundle that cannot be read away");
                Some(Part::Fail(format!("one bundle that cannot be read fails all: {broken}")))
            }
            (_, Some(attestation)) if evidence.attestations.is_empty() => {
                let kind = attestation.predicate_type();
                let in_bundles = evidence.types(true).contains(kind);
                self.outcome.fix(format!(
                    "affiant image attest --format tag,bundle --key KEY --type {} --predicate FILE {}",
                    kind.escape_debug(),
                    self.asked.name
                ));
                let beside = if in_bundles {
                    "; it is there as a bundle, which a rule of the type Cosign does not read"
                } else {
                    ""
                };
                if in_bundles {
                    self.outcome.fix("or write `type: SigstoreBundle` into the rule");
                }
                Some(Part::Fail(format!("no matching attestations: nothing under the tag {}{beside}", evidence.tags.1)))
            }
            (_, None)
                if evidence.signatures.is_empty() && (!self.entry.cosign_oci11 || evidence.referred.is_empty()) =>
            {
                let mut beside = "";
                if !evidence.referred.is_empty() {
                    beside = "; there is one in a referrer (oci-1-1)";
                    self.outcome.fix("write `cosignOCI11: true` into the rule");
                } else if has_bundles {
                    beside = "; there are bundles, which a rule of the type Cosign does not read";
                    self.outcome.fix("or write `type: SigstoreBundle` into the rule");
                }
                self.outcome.fix(format!("affiant image sign --format tag,bundle --key KEY {}", self.asked.name));
                Some(Part::Fail(format!("no signatures found: nothing under the tag {}{beside}", evidence.tags.0)))
            }
            _ => None,
        }
    }

    /// Whether payloads of cosign have what is wanted.
    fn simple(&mut self, who: &Who<'_>, notes: &BTreeMap<String, String>, all: &[Legacy]) -> Part {
        let mut closest = Part::Fail("no matching signatures".into());
        // All that verify, whoever they are by: with what is not judged, and why it is by somebody else.
        let mut passed: Vec<(Optional, Option<Unknown>, Option<String>)> = Vec::new();
        for one in all {
            let made =
                Made { message: &[&one.payload], signature: &one.signature, material: &one.material, envelope: None };
            match who.signed(made) {
                Signed::No(why) => closest = Part::Fail(format!("no matching signatures: {why}")),
                Signed::Yes { unknown, other } => match Payload::parse(&one.payload) {
                    Ok(payload) if payload.digest == *self.asked.digest => {
                        if let Some(why) = &other {
                            closest = Part::Fail(format!("no matching signatures: {why}"));
                        }
                        passed.push((payload.optional, unknown, other));
                    }
                    Ok(payload) => {
                        closest = Part::Fail(format!("no matching signatures: it is about {}", payload.digest));
                    }
                    Err(error) => closest = Part::Fail(format!("no matching signatures: {error}")),
                },
            }
        }
        self.explain(who, &closest);
        if passed.iter().all(|(.., other)| other.is_some()) {
            return closest;
        }
        let misses = |optional: &Optional| {
            notes.iter().find_map(|(name, value)| match optional.get(name) {
                Some(Value::String(found)) if found == value => None,
                found => {
                    let found = found.map_or_else(
                        || "nothing".to_owned(),
                        |found| found.as_str().map_or_else(|| found.to_string(), str::to_owned),
                    );
                    Some(format!("annotations mismatch: {found} does not match expected value {value} for key {name}"))
                }
            })
        };
        let missed: Vec<_> = passed.iter().map(|(optional, ..)| misses(optional)).collect();
        match (missed.iter().flatten().next(), missed.iter().all(Option::is_some)) {
            (Some(why), true) => {
                let flags: Vec<_> = notes.iter().map(|(name, value)| format!("-a '{name}={value}'")).collect();
                self.outcome.fix(format!("affiant image sign {} --key KEY {}", flags.join(" "), self.asked.name));
                Part::Fail(why.clone())
            }
            (Some(_), false) => {
                Part::NotJudged("one signature has the annotations, another that verifies has not".into())
            }
            (None, _) => {
                let theirs = passed.into_iter().filter(|(.., other)| other.is_none());
                match theirs.map(|(_, unknown, _)| unknown).min() {
                    Some(Some(Unknown(why))) => Part::NotJudged(why),
                    _ => Part::Pass,
                }
            }
        }
    }

    /// Whether statements have what is wanted: for an attestation all of its type that the attestor signed.
    fn statements(
        &mut self,
        who: &Who<'_>,
        about: Option<&Attestation>,
        notes: &BTreeMap<String, String>,
        all: &[&Attested],
    ) -> Part {
        let what = if about.is_some() { "attestations" } else { "signatures" };
        let mut closest = format!("no matching {what}");
        let mut verified = Vec::new();
        for one in all {
            if one.by_certificate && matches!(who, Who::Key(..)) {
                closest = format!("no matching {what}: it is signed by a certificate, not by a key");
                continue;
            }
            if one.envelope.payload_type != PAYLOAD_TYPE {
                continue;
            }
            let header = pae_header(&one.envelope.payload_type, one.envelope.payload.len());
            let message: [&[u8]; 2] = [&header, &one.envelope.payload];
            let mut signed = Signed::No("it has no signature".into());
            for signature in &one.envelope.signatures {
                signed = match &one.kept {
                    Kept::Bundle(material) => who.signed_in_bundle(&message, &signature.sig, (&one.envelope, material)),
                    Kept::Tagged(bytes, material) => who.signed(Made {
                        message: &message,
                        signature: &signature.sig,
                        material,
                        envelope: Some((&one.envelope, bytes)),
                    }),
                };
                if matches!(signed, Signed::Yes { .. }) {
                    break;
                }
            }
            match signed {
                Signed::No(why) => closest = format!("no matching {what}: {why}"),
                Signed::Yes { unknown, other } => {
                    let claim = Claim::parse(&one.envelope.payload);
                    if claim.is_ok_and(|claim| !claim.about(self.asked.digest).is_empty()) {
                        verified.push((*one, unknown, other));
                    } else {
                        closest = format!("no matching {what}: it is about another image");
                    }
                }
            }
        }
        let closest = Part::Fail(closest);
        self.explain(who, &closest);
        if verified.is_empty() {
            return closest;
        }
        let Some(attestation) = about else {
            if verified.iter().all(|(one, ..)| one.predicate_type != SIGN) {
                self.outcome
                    .warn("what passes is an attestation by the same signer: Kyverno takes any bundle for a signature");
            }
            return match verified.into_iter().map(|(_, unknown, _)| unknown).min() {
                Some(Some(Unknown(why))) => Part::NotJudged(why),
                _ => Part::Pass,
            };
        };
        if let Some((name, value)) = notes.iter().next().filter(|_| self.entry.kind != Kind::SigstoreBundle) {
            // It compares them with those of a payload of `sign`, which an envelope is not.
            self.outcome.fix("take `annotations` away from the attestor of the attestation");
            return Part::Fail(format!(
                "annotations mismatch: nothing does not match expected value {value} for key {name}: an attestation has none"
            ));
        }
        let wanted = attestation.predicate_type();
        let found: BTreeSet<_> =
            verified.iter().map(|(one, ..)| one.predicate_type.escape_debug().to_string()).collect();
        verified.retain(|(one, ..)| one.predicate_type == wanted);
        if verified.is_empty() {
            let found: Vec<_> = found.into_iter().collect();
            self.outcome.fix(format!(
                "affiant image attest --format tag,bundle --key KEY --type {} --predicate FILE {}",
                wanted.escape_debug(),
                self.asked.name
            ));
            return Part::Fail(format!(
                "attestations not found for predicate type {}; there are: {}",
                wanted.escape_debug(),
                found.join(", ")
            ));
        }
        // Each of the type that verifies must be by whom is wanted.
        if let Some((unknown, why)) = verified.iter().find_map(|(_, unknown, other)| Some((unknown, other.as_ref()?))) {
            if unknown.is_none() || verified.iter().all(|(.., other)| other.is_some()) {
                return Part::Fail(format!("no matching attestations: {why}"));
            }
            return Part::NotJudged(format!("whether one by somebody else verifies: {why}"));
        }
        let mut unknown = verified.iter().find_map(|(_, unknown, _)| unknown.clone().map(|Unknown(why)| why));
        for (one, ..) in &verified {
            let predicate = predicate(one);
            if let Some(hidden) =
                predicate.as_object().and_then(|members| CONTEXT.iter().find(|name| members.contains_key(**name)))
            {
                self.outcome.warn(format!("the predicate has a member `{hidden}`, which hides Kyverno's own"));
            }
            match condition::all(&attestation.conditions, &predicate) {
                Held::Yes => {}
                Held::No(why) => {
                    if verified.len() > 1 {
                        self.outcome.warn("every attestation of the type must satisfy the conditions, old ones too: `attest --replace` takes their place");
                    }
                    return Part::Fail(format!("attestation checks failed for {}: {why}", wanted.escape_debug()));
                }
                Held::NotJudged(why) => unknown = Some(why),
            }
        }
        unknown.map_or(Part::Pass, Part::NotJudged)
    }

    /// What helps where nobody that is wanted has signed.
    fn explain(&mut self, who: &Who<'_>, closest: &Part) {
        let Part::Fail(why) = closest else { return };
        if matches!(who, Who::Key(..)) && why.contains(NO_LOG) {
            self.outcome.fix("write `rekor: {ignoreTlog: true}` and `ctlog: {ignoreSCT: true}` beside the key, where nothing is logged");
        }
        if why.contains(NO_AUTHORITY) {
            self.outcome.fix(format!(
                "write the certificates of the timestamp authority into the rule (`ctlog.tsaCertChain`), or use Kyverno {} or newer",
                Version::NO_AUTHORITY_NEEDED
            ));
        }
    }
}

fn predicate(one: &Attested) -> Value {
    let claim = Claim::parse(&one.envelope.payload).ok();
    let text = claim.and_then(|claim| claim.predicate).map(|raw| raw.get().to_owned()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
