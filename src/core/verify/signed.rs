//! Who has signed an image: functionaries of the policy by key or certificate, and whom the command line names besides.
//!
//! A certificate counts as it does for `image verify`: at every proven time, by the authorities, logs and windows of the
//! policy alone. Whether its holder is a functionary is asked as for the evidence of a step. Nothing that is kept beside the
//! right signature keeps it from being judged: each has a share of the work to itself.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::image::Image;
use super::time::{fits, limits};
use super::trusted::{Refusal, TrustedPolicy, Who, accepting_fix, claims, describe};
use super::{ImageKeyless, ImageTrust};
use crate::image::found::{self, Demand, Found, Refused, Skipped, Sought};
use crate::image::{Digest, RepositoryError, keyed};
use crate::policy::{Demands, Images, TimeConstraint};
use crate::sign::PublicKey;
use crate::sigstore::TrustedRoot;
use crate::sigstore::budget::{Budget, Share};
use crate::sigstore::identity::gate_flag;
use crate::sigstore::judge::{self, Keyless, Proof, Signer, Whose};
use crate::trust::timestamp::ProvenTime;
use crate::trust::{Chain, Constraint, Identity, SignerProof, distinct_identities};
use crate::verdict::{Check, CheckKind};

/// Reasons for which signatures do not count that are named in one text.
const REASONS: usize = 3;

/// A signature that is demanded.
pub(super) struct SignatureDemand<'a> {
    /// Functionaries of the policy; none: whoever has one of the keys or such a certificate.
    functionaries: Vec<Who<'a>>,
    /// Keys that may have signed.
    keys: Vec<&'a PublicKey>,
    /// Certificates that may have signed.
    keyless: Option<Keyless>,
    /// Which logs and authorities are believed; nothing: nobody.
    root: Option<&'a TrustedRoot>,
    /// What each signature must have.
    demands: Demands,
    /// When each of them must have been made.
    time: TimeConstraint,
    /// The time at which that is judged.
    at: Timestamp,
    threshold: usize,
    annotations: &'a BTreeMap<String, String>,
    /// What may have signed, for the reader.
    names: Vec<String>,
    /// Functionaries that nobody can be, and why.
    nobody: Vec<String>,
    /// Who demands it.
    from: &'static str,
}

/// Why a signature does not count.
struct Reason {
    /// The less, the more it says of what was looked for.
    distance: u8,
    kind: CheckKind,
    text: String,
    /// What would accept it.
    accepting: Option<String>,
}

/// What was found out about the signatures of an image.
pub(super) struct Signatures {
    /// The digest in the signatures that were demanded and hold.
    pub(super) digest: Option<Digest>,
    pub(super) checks: Vec<Check>,
    /// Who has signed, proven.
    pub(super) signers: Vec<String>,
    /// Those of them whom the policy itself asks for.
    pub(super) functionaries: Vec<SignerProof>,
}

impl<'a> SignatureDemand<'a> {
    /// What policy and command line demand: neither takes anything away from the other.
    pub(super) fn all(policy: &'a TrustedPolicy, trust: &'a ImageTrust, at: Timestamp) -> Vec<Self> {
        let images = policy.policy.images.as_ref().filter(|images| !images.functionaries.is_empty());
        let mut all: Vec<Self> = images.map(|images| Self::of_policy(policy, images, at)).into_iter().collect();
        let by_flags = |from| Self {
            functionaries: Vec::new(),
            keys: Vec::new(),
            keyless: None,
            root: None,
            demands: Demands::default(),
            time: TimeConstraint::default(),
            at,
            threshold: 1,
            annotations: &trust.annotations,
            names: Vec::new(),
            nobody: Vec::new(),
            from,
        };
        if !trust.keys.is_empty() {
            all.push(Self {
                keys: trust.keys.iter().collect(),
                names: trust.keys.iter().map(|key| format!("key {}", key.key_id())).collect(),
                ..by_flags("--image-key")
            });
        }
        if let Some(ImageKeyless { keyless, root, logs }) = &trust.keyless {
            let name = match &keyless.whose {
                Whose::Wanted(wanted) => {
                    let flags = wanted.constraints().map(|(flag, text)| format!("--{} {text}", gate_flag(flag)));
                    flags.collect::<Vec<_>>().join(" ")
                }
                Whose::OneOf(_) => "such a certificate".to_owned(),
            };
            all.push(Self {
                keyless: Some(keyless.clone()),
                root: Some(root),
                demands: Demands { log: *logs > 0, sct: keyless.sct, timestamp: false },
                names: vec![name],
                ..by_flags("--image-identity")
            });
        }
        all
    }

    fn of_policy(policy: &'a TrustedPolicy, images: &'a Images, at: Timestamp) -> Self {
        let functionaries = policy.who(&images.functionaries, images.demands);
        let mut keys: Vec<&PublicKey> = Vec::new();
        let (mut names, mut nobody) = (Vec::new(), Vec::new());
        for (functionary, who) in images.functionaries.iter().zip(&functionaries) {
            let named = functionary.key_id.as_ref().filter(|_| functionary.constraint.is_none());
            let key = named.and_then(|id| policy.policy.keys.iter().find(|key| key.id == *id));
            if let Some(key) = key {
                keys.push(&key.key);
            } else if functionary.constraint.is_none() {
                nobody.push(format!("{}: no key of `publickeys` has this id", functionary.at));
                continue;
            }
            names.push(who.to_string());
        }
        // Each is tried once, however many functionaries name it.
        let mut seen = BTreeSet::new();
        keys.retain(|key| seen.insert(key.key_id()));
        let constraints: Vec<Constraint> = functionaries.iter().filter_map(Who::constraint).cloned().collect();
        let keyless = (!constraints.is_empty()).then(|| Keyless {
            whose: Whose::OneOf(constraints),
            certificate: None,
            sct: images.demands.sct,
            detached_sct: None,
        });
        Self {
            functionaries,
            keys,
            keyless,
            root: Some(&policy.sigstore),
            demands: images.demands,
            time: images.time,
            at,
            threshold: images.threshold,
            annotations: &images.annotations,
            names,
            nobody,
            from: "images.functionaries",
        }
    }

    fn wanted(&self) -> String {
        let who = if self.names.is_empty() { "nobody".to_owned() } else { self.names.join(" or ") };
        let count =
            if self.threshold > 1 { format!("{} signatures", self.threshold) } else { "a signature".to_owned() };
        let annotations: Vec<String> = self.annotations.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut with =
            if annotations.is_empty() { String::new() } else { format!(", with {}", annotations.join(", ")) };
        if self.demands.log {
            with += ", in a trusted log";
        }
        if self.demands.sct {
            with += ", the certificate in a trusted log";
        }
        if self.demands.timestamp {
            with += ", with a timestamp by a trusted authority";
        }
        if !self.time.is_empty() {
            with.extend([", signed ", &limits(self.time, self.at)]);
        }
        format!("{count} of the image by {who}{with} ({})", self.from)
    }

    /// What is demanded of one signature by `signer`.
    fn of<'d>(&'d self, digest: &'d Digest, signer: Signer<'d>) -> Demand<'d> {
        let base = Demand::of_nobody(digest, signer, self.annotations);
        let Demands { log, timestamp, .. } = self.demands;
        let root = self.root.unwrap_or(base.root);
        Demand { root, logs: usize::from(log), timestamps: usize::from(timestamp), ..base }
    }

    /// Whether a signature is by somebody who may sign, with all that is demanded of it.
    fn judge(&self, one: &Found, digest: &Digest, share: &Share<'_>) -> Result<SignerProof, Reason> {
        let mut nearest: Option<Reason> = None;
        let mut add = |reason: Reason| {
            if nearest.as_ref().is_none_or(|known| reason.distance < known.distance) {
                nearest = Some(reason);
            }
        };
        for key in &self.keys {
            match found::judge_signature_within(one, &self.of(digest, Signer::Key(key)), share) {
                Ok(accepted) => {
                    let signer = signer_of(accepted.proof, Some(key));
                    match self.counts(&signer) {
                        Ok(()) => return Ok(signer),
                        Err(reason) => add(reason),
                    }
                }
                Err(refused) => add(Reason::of(&refused, None, one)),
            }
        }
        if let Some(keyless) = &self.keyless {
            match found::judge_signature_within(one, &self.of(digest, Signer::Certificate(keyless)), share) {
                Ok(accepted) => {
                    let signer = signer_of(accepted.proof, None);
                    match self.counts(&signer) {
                        Ok(()) => return Ok(signer),
                        Err(reason) => add(reason),
                    }
                }
                Err(refused) => add(Reason::of(&refused, Some(keyless), one)),
            }
        }
        let nobody = Reason { distance: u8::MAX, kind: CheckKind::Signature, text: String::new(), accepting: None };
        Err(nearest.unwrap_or(nobody))
    }

    /// Whether a signer whose signature holds is one of the functionaries, and signed when one must have.
    fn counts(&self, signer: &SignerProof) -> Result<(), Reason> {
        self.is_one(signer)?;
        if self.time.is_empty() {
            return Ok(());
        }
        // Each by its own time: a key that was stolen later must not help out.
        let text = match &signer.time {
            Some(proven) if fits(self.time, proven.time, self.at) => return Ok(()),
            Some(_) => format!("signed by {}", describe(signer)),
            None => format!("signed by {}, and nothing proves when", describe(signer)),
        };
        Err(Reason { distance: 0, kind: CheckKind::Time, text, accepting: None })
    }

    /// Whether a signer whose signature holds is one of the functionaries.
    fn is_one(&self, signer: &SignerProof) -> Result<(), Reason> {
        if self.functionaries.is_empty() {
            return Ok(());
        }
        let mut others = BTreeSet::new();
        for who in &self.functionaries {
            let (kind, text) = match who.is(signer) {
                Ok(()) => return Ok(()),
                Err(Refusal::Somebody(reason)) => {
                    others.insert(reason);
                    continue;
                }
                Err(Refusal::NotLogged(text)) => (CheckKind::Log, text),
                Err(Refusal::Certificate(text)) => (CheckKind::Certificate, text),
                Err(Refusal::NotStamped(text)) => (CheckKind::Time, text),
            };
            return Err(Reason { distance: 0, kind, text, accepting: None });
        }
        let others: Vec<String> = others.into_iter().collect();
        let says = claims(signer).map(|claims| format!("; its certificate says: {claims}")).unwrap_or_default();
        Err(Reason {
            distance: 1,
            kind: CheckKind::Functionary,
            text: format!("signed by {} ({}){says}", describe(signer), others.join("; ")),
            accepting: accepting_fix(std::slice::from_ref(signer)),
        })
    }

    /// Who has signed the digest, or the check that failed.
    fn holds(&self, digest: &Digest, found: &[Found], image: &Image<'_>) -> Result<Vec<SignerProof>, Failed> {
        let budget = Budget::default().of_signers(self.keys.len() + usize::from(self.keyless.is_some()));
        let (mut signers, mut reasons) = (Vec::new(), Vec::new());
        for one in found {
            match self.judge(one, digest, &budget.share()) {
                Ok(signer) => signers.push(signer),
                Err(reason) => reasons.push((one.place.as_str(), reason)),
            }
        }
        let count = distinct_identities(&signers);
        if count > 0 && count >= self.threshold {
            return Ok(signers);
        }
        reasons.sort_by_key(|(_, reason)| reason.distance);
        let first = reasons.first().filter(|_| count == 0).map(|(_, reason)| reason);
        let accepting = first.and_then(|reason| reason.accepting.clone()).unwrap_or_default();
        let kind = first.map_or(CheckKind::Signature, |reason| reason.kind);
        let how = if self.keys.is_empty() { "--signing-config CONFIG" } else { "--key KEY" };
        let fix = format!("have it signed: `affiant image sign {how} {}@{digest}`{accepting}", image.place);
        let mut texts = Vec::new();
        if count > 0 {
            texts.push(format!("only {count} of {} signed it", self.threshold));
        }
        texts.extend(reasons.into_iter().map(|(place, reason)| format!("{place}: {}", reason.text)));
        texts.extend(self.nobody.iter().cloned());
        Err(Failed { kind, texts, fix })
    }

    /// What is said of signatures that hold.
    fn passed(&self, digest: &Digest, signers: &[SignerProof]) -> Vec<Check> {
        let by: Vec<String> = signers.iter().map(describe).collect();
        let mut checks = vec![Check::passed(CheckKind::Signature, format!("{digest} is signed by {}", by.join(", ")))];
        if self.demands.log {
            checks.push(Check::passed(CheckKind::Log, format!("{} signatures are in a log", signers.len())));
        }
        if self.demands.sct {
            checks.push(Check::passed(CheckKind::Certificate, "logged"));
        }
        if self.demands.timestamp || !self.time.is_empty() {
            let proven = signers
                .iter()
                .filter_map(|one| if self.demands.timestamp { one.stamped.as_ref() } else { one.time.as_ref() });
            let times: Vec<String> = proven.map(|one| format!("{} by {}", one.time, one.authority)).collect();
            checks.push(Check::passed(CheckKind::Time, format!("signed at {}", times.join(", "))));
        }
        checks
    }
}

/// A demand that is not met.
struct Failed {
    kind: CheckKind,
    texts: Vec<String>,
    fix: String,
}

impl Reason {
    /// Why something that is kept does not count. What of it can be the right one says more than what cannot.
    fn of(refused: &Refused, keyless: Option<&Keyless>, one: &Found) -> Self {
        let proof = match refused {
            Refused::Proof(judge::Refused::Identity(mismatch)) => {
                let flags = mismatch.accepting().into_iter();
                let flags = flags.map(|(flag, value)| (gate_flag(flag), value.replace('\'', r"'\''")));
                let flags: Vec<String> = flags.map(|(flag, value)| format!("--{flag} '{value}'")).collect();
                let accepting = format!("; review before use: it would be accepted by {}", flags.join(" "));
                return Self {
                    distance: 1,
                    kind: CheckKind::Functionary,
                    text: mismatch.told_at_the_gate(),
                    accepting: (!flags.is_empty()).then_some(accepting),
                };
            }
            Refused::Proof(proof) => proof,
            _ => {
                let text = refused.to_string();
                return Self { distance: 0, kind: CheckKind::Signature, text, accepting: None };
            }
        };
        let kind = match proof {
            judge::Refused::Log { .. } => CheckKind::Log,
            judge::Refused::Sct { .. } => CheckKind::Certificate,
            judge::Refused::Time { .. } => CheckKind::Time,
            _ => CheckKind::Signature,
        };
        let (distance, text) = match (proof, keyless.map(|keyless| keyless.may_be_theirs(&one.material))) {
            (judge::Refused::Signature(_) | judge::Refused::Stranger { .. }, _) | (_, Some(Err(None))) => {
                (2, refused.to_string())
            }
            (_, Some(Err(Some(identity)))) => {
                (2, format!("{refused}; its certificate says that it is of {identity}, nobody who may sign"))
            }
            // By a key, its signature held before anything else was asked.
            (_, None | Some(Ok(()))) => (0, refused.to_string()),
        };
        Self { distance, kind, text, accepting: None }
    }
}

/// What is proven of a signer, as for the evidence of a step.
fn signer_of(proof: Proof, key: Option<&PublicKey>) -> SignerProof {
    let mut logged = Vec::new();
    for (_, entry) in proof.logged {
        if !logged.contains(&entry) {
            logged.push(entry);
        }
    }
    let stamped = proof.stamped.into_iter().map(|(_, time)| time).min();
    let promised = logged.iter().filter_map(|one| Some(ProvenTime { time: one.time?, authority: one.log.clone() }));
    let time = stamped.iter().cloned().chain(promised).min();
    let key = key.or_else(|| proof.path.first().map(crate::trust::Certificate::public_key));
    let (key_id, scheme) = match key {
        Some(key) => (key.key_id().to_owned(), keyed::scheme(key)),
        None => (String::new(), crate::sign::Scheme::EcdsaSha256),
    };
    let identity = match proof.identity {
        Some(_) => Identity::Certificate(Chain { path: proof.path, anchors: proof.anchors }),
        None => Identity::Key,
    };
    SignerProof { index: 0, key_id, identity, time, stamped, logged, scheme, notes: Vec::new() }
}

/// Looks for signatures of what may be deployed, then of the index that it is in; all that are demanded are of the same.
pub(super) fn signatures(image: &Image<'_>, demands: &[SignatureDemand<'_>]) -> Result<Signatures, RepositoryError> {
    let mut failed = Vec::new();
    let mut hidden = None;
    for digest in image.objects() {
        let mut found = Vec::new();
        let skipped = found::each(&image.keepers, &image.prefix, digest, Sought::Signatures, |one| found.push(one))?;
        let mut checks = Vec::new();
        let mut signers = Vec::new();
        let mut functionaries = Vec::new();
        for demand in demands {
            match demand.holds(digest, &found, image) {
                Ok(by) => {
                    checks.extend(demand.passed(digest, &by));
                    signers.extend(by.iter().map(describe));
                    if !demand.functionaries.is_empty() {
                        functionaries = by;
                    }
                }
                Err(Failed { kind, texts: mut reasons, fix }) => {
                    reasons.extend(skipped.iter().map(|one| format!("{}: {}", one.place, one.reason)));
                    reasons.dedup();
                    let more = reasons.len().saturating_sub(REASONS);
                    reasons.truncate(REASONS);
                    let mut text =
                        if reasons.is_empty() { format!("none is kept with {digest}") } else { reasons.join("; ") };
                    if more > 0 {
                        text = format!("{text}; and {more} more reasons");
                    }
                    checks.push(Check::failed(kind, demand.wanted(), text).at(image.name.clone()).fix(fix));
                }
            }
        }
        if !checks.iter().any(Check::has_failed) {
            signers.dedup();
            return Ok(Signatures { digest: Some(digest.clone()), checks, signers, functionaries });
        }
        if failed.is_empty() {
            failed = checks;
        }
        hidden = hidden.or_else(|| skipped.into_iter().find(|one| one.hides));
    }
    // What is demanded may be in what cannot be read: then nobody can say that it is not there.
    if let Some(Skipped { place, reason, .. }) = hidden {
        return Err(RepositoryError::Wrong { what: place, reason });
    }
    Ok(Signatures { digest: None, checks: failed, signers: Vec::new(), functionaries: Vec::new() })
}
