//! From a policy's envelope to a policy that may be relied on: signature, type, validity, and everything in it that can
//! be prepared before evidence is looked at.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::accept::chain as chain_of;
use super::{Question, VerifyError, container};
use crate::digest::sha256_hex;
use crate::nearest::nearest;
use crate::policy::{self, Demands, External, Functionary, Policy, RegoModule, Step};
use crate::rego;
use crate::sigstore::{Authority, Log, TrustedRoot};
use crate::trust::timestamp::{ProvenTime, Windows};
use crate::trust::{
    Anchor, Certificate, CertificateError, CheckError, Checked, Constraint, EXTENSIONS, Identity, Note, SignerProof,
    Trust,
};
use crate::verdict::{Check, CheckKind, PolicyPart};

/// Payload types of policies.
pub(super) const POLICY_TYPES: [&str; 2] = [policy::PAYLOAD_TYPE, policy::PAYLOAD_TYPE_CILOCK];

/// A policy whose signature holds and which is in force.
pub(super) struct TrustedPolicy {
    pub(super) policy: Policy,
    /// Whom evidence is checked with.
    pub(super) trust: Trust,
    /// The same as signatures of images are checked with.
    pub(super) sigstore: TrustedRoot,
    /// Constraints of functionaries, by their path.
    constraints: BTreeMap<String, Constraint>,
    /// Rules, by step and number of the requirement.
    rules: BTreeMap<(String, usize), Rules>,
    external_rules: BTreeMap<String, Rules>,
}

/// The members of a `certConstraint`, for the nearest name to one that is not known.
const MEMBERS: [&str; 8] =
    ["commonname", "dnsnames", "emails", "organizations", "uris", "roots", "extensions", "requiredpolicyoids"];
/// Longest time that the first rule may take that does not come to an end.
const PATIENCE: Duration = Duration::from_secs(4);

/// Compiled rules, with the time that they see.
pub(super) struct Rules {
    compiled: rego::Rules,
    at: Timestamp,
    /// How long a rule may take: half of it after each that took too long, so that all together come to an end.
    patience: Rc<Cell<Duration>>,
}

impl Rules {
    fn compile(
        modules: &[RegoModule],
        at: Timestamp,
        patience: &Rc<Cell<Duration>>,
    ) -> Result<Option<Self>, rego::RegoError> {
        if modules.is_empty() {
            return Ok(None);
        }
        let modules: Vec<rego::Module> = modules
            .iter()
            .map(|module| rego::Module { name: module.name.clone(), text: module.text.clone() })
            .collect();
        Ok(Some(Self { compiled: rego::Rules::compile(&modules)?, at, patience: patience.clone() }))
    }

    /// What the rules say against `input`: nothing, or the denials; or why they could not be asked.
    pub(super) fn judge(&self, input: &Value) -> Result<Vec<String>, String> {
        let limits = rego::Limits { time: self.patience.get(), ..rego::Limits::at(self.at) };
        let judgement = self.compiled.judge(input, &limits).map_err(|error| {
            if matches!(error, rego::RegoError::Time { .. } | rego::RegoError::Memory { .. }) {
                self.patience.set(self.patience.get() / 2);
            }
            chain_of(&error)
        })?;
        Ok(judgement.denials.iter().map(|denial| format!("{}: {}", denial.package, denial.message)).collect())
    }
}

/// A constraint in one line, as the policy has it.
pub(super) fn shown(constraint: &Constraint) -> String {
    serde_json::to_string(constraint).unwrap_or_default()
}

/// Claims of a certificate that are told in one text, and the longest.
const CLAIMS: usize = 24;
const MAX_CLAIM: usize = 160;

/// A signer, as a policy can name it; when that was, who says so, and in which log it is.
pub(super) fn describe(signer: &SignerProof) -> String {
    let mut time = signer.time.as_ref().map(proven).unwrap_or_default();
    for logged in &signer.logged {
        let sure = if logged.included { "" } else { ", promised" };
        time = format!("{time}, entry {} of the log {}{sure}", logged.index, logged.log);
    }
    match signer.certificate() {
        None => format!("key {}{time}", signer.key_id),
        Some(certificate) => {
            let mut names = vec![certificate.label()];
            for list in [certificate.dns_names(), certificate.emails(), certificate.uris()] {
                names.extend(list.iter().filter(|name| **name != names[0]).cloned().collect::<Vec<_>>());
            }
            let issuer = certificate.extension("Issuer").map(|issuer| format!(" by {}", cut(issuer)));
            format!("certificate of {}{}{time}", names.join(", "), issuer.unwrap_or_default())
        }
    }
}

/// A proven time and who proves it.
fn proven(proven: &ProvenTime) -> String {
    format!(" at {} by {}", proven.time, proven.authority)
}

fn cut(text: &str) -> String {
    text.escape_debug().take(MAX_CLAIM).collect()
}

/// What the certificate authority says of the identity behind a certificate, in one text; `None` without any.
pub(super) fn claims(signer: &SignerProof) -> Option<String> {
    let claims: Vec<String> = signer
        .certificate()?
        .extensions()
        .take(CLAIMS)
        .map(|(name, value)| format!("{name} `{}`", cut(value)))
        .collect();
    (!claims.is_empty()).then(|| claims.join(", "))
}

/// A constraint that the signer's certificate meets, without what differs from run to run.
fn accepting(signer: &SignerProof) -> Option<String> {
    let certificate = signer.certificate()?;
    let issuer = certificate.extension("Issuer")?;
    let mut value = serde_json::json!({
        "commonname": certificate.common_name().unwrap_or_default(), "dnsnames": certificate.dns_names(),
        "emails": certificate.emails(), "organizations": certificate.organizations(), "uris": certificate.uris(),
        "roots": signer.roots(),
    });
    value
        .as_object_mut()?
        .retain(|_, value| value.as_str() != Some("") && value.as_array().is_none_or(|list| !list.is_empty()));
    value["extensions"] = serde_json::json!({ "Issuer": issuer });
    let (constraint, _) = Constraint::read(&value).ok()?;
    constraint.check(signer).is_ok().then(|| value.to_string())
}

/// What would make one of the signers a functionary, for a denial.
pub(super) fn accepting_fix(signers: &[SignerProof]) -> Option<String> {
    let constraint = signers.iter().find_map(accepting)?;
    Some(format!("; `\"certConstraint\": {constraint}` would accept it: review that before use"))
}

fn anchor(id: &str, text: &policy::AnchorText) -> Result<Anchor, CertificateError> {
    let intermediates =
        text.intermediates.iter().map(|pem| Certificate::read_all(pem)).collect::<Result<Vec<_>, _>>()?;
    Ok(Anchor {
        id: id.to_owned(),
        certificate: Certificate::read(&text.certificate)?,
        intermediates: intermediates.concat(),
    })
}

/// Whom a policy believes, in the form of a trusted root.
fn trusted_root(trust: &Trust) -> TrustedRoot {
    let authorities = |anchors: &[Anchor], windows: &Windows, is_closed: fn(&Anchor) -> bool| {
        let window = |anchor: &Anchor| windows.get(&anchor.id).copied().unwrap_or_default();
        let mut authorities = Vec::new();
        for anchor in anchors {
            let one = Authority {
                anchor: anchor.clone(),
                window: window(anchor),
                uri: String::new(),
                operator: String::new(),
            };
            // A trusted root lets nothing lead to an authority but the certificates that it names; a policy does, unless
            // the root is trusted for some time only.
            let mut same = anchors.iter().filter(|other| other.certificate == anchor.certificate);
            if !anchor.intermediates.is_empty() && same.all(|other| window(other).is_endless()) && !is_closed(anchor) {
                let open = Anchor { intermediates: Vec::new(), ..anchor.clone() };
                authorities.push(Authority { anchor: open, ..one.clone() });
            }
            authorities.push(one);
        }
        authorities
    };
    // An authority that names what it stamps with stamps with nothing else.
    let names_signer = |anchor: &Anchor| anchor.intermediates.iter().any(|certificate| !certificate.is_ca());
    TrustedRoot {
        authorities: authorities(&trust.roots, &trust.root_windows, |_| false),
        timestamp_authorities: authorities(&trust.authorities, &trust.authority_windows, names_signer),
        logs: trust.logs.clone(),
        ct_logs: trust.ct_logs.clone(),
    }
}

/// A functionary with its constraint, ready to be asked.
pub(super) struct Who<'a> {
    functionary: &'a Functionary,
    constraint: Option<&'a Constraint>,
    policy: &'a Policy,
    demands: Demands,
    /// Logs that the certificate must be in where that is demanded.
    ct_logs: &'a [Log],
}

/// Why a signature does not count for a functionary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is by somebody else.
    Somebody(String),
    /// It is by the functionary, and in no log.
    NotLogged(String),
    /// It is by the functionary, and its certificate is in no log.
    Certificate(String),
    /// It is by the functionary, and no timestamp authority says when it was made.
    NotStamped(String),
}

impl Who<'_> {
    /// Whether `signer` is this functionary, or why not. Where key and certificate are named, both must hold.
    pub(super) fn is(&self, signer: &SignerProof) -> Result<(), Refusal> {
        self.is_somebody(signer).map_err(Refusal::Somebody)?;
        if self.demands.log && signer.logged.is_empty() {
            let why = signer.notes.iter().find(|note| matches!(note, Note::Log { .. }));
            let why = why.map_or_else(|| "it has no log entry".to_owned(), |note| chain_of(note));
            return Err(Refusal::NotLogged(format!("{}: {why}", describe(signer))));
        }
        if self.demands.timestamp && signer.stamped.is_none() {
            let why = signer.notes.iter().find(|note| matches!(note, Note::Timestamp { .. }));
            let why = why.map_or_else(|| "it has no timestamp".to_owned(), |note| chain_of(note));
            return Err(Refusal::NotStamped(format!("{}: {why}", describe(signer))));
        }
        if self.demands.sct {
            signer
                .is_logged(self.ct_logs)
                .map_err(|why| Refusal::Certificate(format!("{}: {why}", describe(signer))))?;
        }
        Ok(())
    }

    /// What its certificate must say.
    pub(super) fn constraint(&self) -> Option<&Constraint> {
        self.constraint
    }

    /// What it demands of every signature.
    pub(super) fn demands(&self) -> Demands {
        self.demands
    }

    fn is_somebody(&self, signer: &SignerProof) -> Result<(), String> {
        let Functionary { key_id, constraint, .. } = self.functionary;
        if key_id.is_none() && constraint.is_none() {
            return Err("the functionary names nobody".to_owned());
        }
        if let Some(wanted) = key_id {
            let is_key = match &signer.identity {
                Identity::Key => self.policy.ids_of(&signer.key_id).any(|id| id == wanted),
                Identity::Certificate(_) => signer.key_id == *wanted,
            };
            if !is_key {
                return Err(format!("not the key {wanted}"));
            }
        }
        match (self.constraint, &signer.identity) {
            (None, _) => Ok(()),
            (Some(_), Identity::Key) => Err("signed by a key, not by a certificate".to_owned()),
            (Some(constraint), Identity::Certificate(_)) => constraint
                .check(signer)
                .map_err(|mismatches| mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.functionary.key_id, self.constraint) {
            (Some(key_id), None) => write!(f, "key {key_id}"),
            (None, Some(constraint)) => write!(f, "certificate with {}", shown(constraint)),
            (Some(key_id), Some(constraint)) => write!(f, "certificate of key {key_id} with {}", shown(constraint)),
            (None, None) => f.write_str("nobody"),
        }
    }
}

impl TrustedPolicy {
    /// Prepares a policy that is trusted already.
    fn prepare(policy: Policy, at: Timestamp) -> Result<Self, VerifyError> {
        let value = |at: String, reason: String| VerifyError::Policy(policy::PolicyError::Value { at, reason });
        let mut constraints = BTreeMap::new();
        let of_steps = policy.steps.values().flat_map(|step| &step.functionaries);
        let of_external = policy.external.values().flat_map(|external| &external.functionaries);
        let of_images = policy.images.iter().flat_map(|images| &images.functionaries);
        for functionary in of_steps.chain(of_external).chain(of_images) {
            if let Some(text) = &functionary.constraint {
                let member = format!("{}.certConstraint", functionary.at);
                let (constraint, unknown) =
                    Constraint::read(text).map_err(|error| value(member.clone(), chain_of(&error)))?;
                // Passed over, it would let in whom it was meant to keep out.
                if let Some(name) = unknown.first() {
                    let known = MEMBERS.into_iter().chain(EXTENSIONS.iter().map(|(name, _)| *name));
                    let last = name.rsplit('.').next().unwrap_or_default();
                    let nearest = nearest(last, known).map(str::to_owned);
                    let at = format!("{member}.{name}");
                    return Err(VerifyError::Policy(policy::PolicyError::Unknown { at, nearest }));
                }
                for root in constraint.roots() {
                    if root != "*" && !policy.roots.contains_key(root) {
                        return Err(value(format!("{member}.roots"), format!("the policy has no root `{root}`")));
                    }
                }
                constraints.insert(functionary.at.clone(), constraint);
            }
        }
        let patience = Rc::new(Cell::new(PATIENCE));
        let mut rules = BTreeMap::new();
        for step in policy.steps.values() {
            for (index, requirement) in step.attestations.iter().enumerate() {
                let compiled = Rules::compile(&requirement.modules, at, &patience)
                    .map_err(|error| value(format!("{}.regopolicies", requirement.at), chain_of(&error)))?;
                rules.extend(compiled.map(|compiled| ((step.name.clone(), index), compiled)));
            }
        }
        let mut external_rules = BTreeMap::new();
        for external in policy.external.values() {
            let compiled = Rules::compile(&external.modules, at, &patience).map_err(|error| {
                value(format!("externalAttestations.{}.regopolicies", external.name), chain_of(&error))
            })?;
            external_rules.extend(compiled.map(|compiled| (external.name.clone(), compiled)));
        }
        let anchors = |name: &str, anchors: &BTreeMap<String, policy::AnchorText>| {
            anchors
                .iter()
                .map(|(id, text)| anchor(id, text).map_err(|error| value(format!("{name}.{id}"), chain_of(&error))))
                .collect::<Result<Vec<_>, _>>()
        };
        let windows = |anchors: &BTreeMap<String, policy::AnchorText>| {
            anchors.iter().map(|(id, text)| (id.clone(), text.window)).collect()
        };
        let trust = Trust {
            keys: policy.public_keys(),
            roots: anchors("roots", &policy.roots)?,
            authorities: anchors("timestampauthorities", &policy.authorities)?,
            root_windows: windows(&policy.roots),
            authority_windows: windows(&policy.authorities),
            logs: policy.logs.iter().flat_map(|named| named.logs.iter().cloned()).collect(),
            ct_logs: policy.ct_logs.iter().flat_map(|named| named.logs.iter().cloned()).collect(),
        };
        let sigstore = trusted_root(&trust);
        Ok(Self { policy, trust, sigstore, constraints, rules, external_rules })
    }

    /// These functionaries, ready to be asked.
    pub(super) fn who<'a>(&'a self, functionaries: &'a [Functionary], demands: Demands) -> Vec<Who<'a>> {
        let who = |functionary: &'a Functionary| Who {
            functionary,
            constraint: self.constraints.get(&functionary.at),
            policy: &self.policy,
            demands,
            ct_logs: &self.trust.ct_logs,
        };
        functionaries.iter().map(who).collect()
    }

    /// Who may sign for a step.
    pub(super) fn functionaries_of(&self, step: &str) -> Vec<Who<'_>> {
        self.policy.steps.get(step).map(|step| self.who(&step.functionaries, step.demands)).unwrap_or_default()
    }

    /// Who may sign an external attestation.
    pub(super) fn functionaries_of_external(&self, external: &External) -> Vec<Who<'_>> {
        self.policy
            .external
            .get(&external.name)
            .map(|one| self.who(&one.functionaries, one.demands))
            .unwrap_or_default()
    }

    /// The rules of a step's requirement.
    pub(super) fn rules(&self, step: &str, requirement: usize) -> Option<&Rules> {
        self.rules.get(&(step.to_owned(), requirement))
    }

    /// The rules of an external attestation.
    pub(super) fn external_rules(&self, name: &str) -> Option<&Rules> {
        self.external_rules.get(name)
    }

    /// Whether the rules of a step see the attestations of others: then their input has another shape, as in cilock.
    #[expect(clippy::unused_self, reason = "a question about the policy")]
    pub(super) fn sees_others(&self, step: &Step) -> bool {
        !step.attestations_from.is_empty() || !step.external_from.is_empty()
    }
}

/// Checks the policy. Without a policy that may be relied on, the part that says why.
pub(super) fn trust(question: &Question<'_>) -> Result<(PolicyPart, Option<TrustedPolicy>), VerifyError> {
    let mut part = PolicyPart { source: question.policy.label.to_owned(), ..PolicyPart::default() };
    let label = part.source.clone();
    let envelope = match container::open(question.policy.bytes) {
        Ok(envelope) => envelope,
        Err(error) if is_bare_policy(question.policy.bytes) => {
            let check = Check::failed(
                CheckKind::Signature,
                "a policy in a signed DSSE envelope",
                format!("a policy that nobody signed ({error})"),
            )
            .at(label)
            .fix("sign it: `affiant sign --infile POLICY --outfile POLICY.signed.json --key KEY`");
            part.checks.push(check);
            return Ok((part, None));
        }
        Err(error) => return Err(VerifyError::Envelope { label, source: error }),
    };
    part.sha256 = sha256_hex(&envelope.payload);
    let checked = match question.policy_trust.trust.check(envelope) {
        Ok(checked) => checked,
        Err(refused) => {
            let check = Check::failed(
                CheckKind::Signature,
                "a signature by a key or certificate named on the command line",
                refused.reason.to_string(),
            )
            .at(label)
            .fix(match refused.reason {
                CheckError::NoSignature => "have the policy signed: `affiant sign --infile POLICY --outfile POLICY.signed.json --key KEY`",
                _ if question.policy_trust.trust.roots.is_empty() => "name the public key of the policy's signer with `--publickey`, or have the policy signed by the right key",
                _ => "name who vouches for the policy's signature with `--policy-trusted-root`, or with `--policy-ca-roots` and `--policy-timestamp-servers`; or have it signed again, with a timestamp or an entry in a log of the first generation",
            });
            part.checks.push(check);
            return Ok((part, None));
        }
    };
    part.signers = checked.signers().iter().map(describe).collect();
    let signed = Check::passed(CheckKind::Signature, format!("signed by {}", part.signers.join(", ")));
    part.checks.push(signed);
    if let Some(check) = who_signed(question, &checked, &label) {
        part.checks.push(check);
        return Ok((part, None));
    }
    let payload_type = &checked.value().payload_type;
    if !POLICY_TYPES.contains(&payload_type.as_str()) {
        let check = Check::failed(
            CheckKind::Payload,
            format!("the payload type `{}` or `{}`", policy::PAYLOAD_TYPE, policy::PAYLOAD_TYPE_CILOCK),
            format!("`{payload_type}`"),
        )
        .at(label)
        .fix("sign the policy as one: `affiant sign` does so unless `--datatype` says otherwise");
        part.checks.push(check);
        return Ok((part, None));
    }
    let policy = Policy::parse(&checked.value().payload).map_err(VerifyError::Policy)?;
    part.version = policy.version;
    part.expires = policy.expires;
    part.checks.push(validity(&policy, question.at, &label));
    part.checks.extend(version(&policy, question, &label)?);
    if part.checks.iter().any(Check::has_failed) {
        return Ok((part, None));
    }
    let unsupported = policy.images.as_ref().map(|_| "images".to_owned()).or_else(|| {
        policy.steps.values().find(|step| step.per_platform).map(|step| format!("steps.{}.perPlatform", step.name))
    });
    if let Some(member) = unsupported.filter(|_| question.images.is_empty()) {
        return Err(VerifyError::Unsupported { member });
    }
    TrustedPolicy::prepare(policy, question.at).map(|policy| (part, Some(policy)))
}

/// Whether bytes are a policy that was not signed.
fn is_bare_policy(bytes: &[u8]) -> bool {
    matches!(policy::strict_json(bytes), Ok(Value::Object(map)) if map.contains_key("steps"))
}

/// Who the command line says must have signed with a certificate.
fn who_signed(question: &Question<'_>, checked: &Checked<crate::dsse::Envelope>, label: &str) -> Option<Check> {
    let mut reasons = Vec::new();
    let mut fix = "name the policy's signer with `--policy-emails`, `--policy-uris` and the like";
    let is_identified = |certificate: &Certificate| certificate.extension("Issuer").is_some();
    for signer in checked.signers() {
        match (&signer.identity, &question.policy_trust.constraint) {
            (Identity::Key, _) => return None,
            (Identity::Certificate(_), None) => reasons.push("no identity was asked for".to_owned()),
            (Identity::Certificate(_), Some(constraint)) => match constraint.check(signer) {
                // One authority certifies the identities of several issuers, and each lets others choose their names.
                Ok(()) if !constraint.names_issuer() && signer.certificate().is_some_and(is_identified) => {
                    reasons.push(format!(
                        "{}, and nothing says which issuer must have identified the signer",
                        describe(signer)
                    ));
                    fix = "name the issuer with `--policy-fulcio-oidc-issuer URL` (`'*'` for any)";
                }
                Ok(()) if question.policy_trust.sct => match signer.is_logged(&question.policy_trust.trust.ct_logs) {
                    Ok(()) => return None,
                    Err(why) => {
                        reasons.push(format!("the certificate must be in a log of the trusted root: {why}"));
                    }
                },
                Ok(()) => return None,
                Err(mismatches) => reasons.extend(mismatches.iter().map(ToString::to_string)),
            },
        }
    }
    let expected = question.policy_trust.constraint.as_ref().map_or_else(String::new, shown);
    Some(
        Check::failed(CheckKind::Functionary, format!("a certificate with {expected}"), reasons.join("; "))
            .at(label)
            .fix(fix),
    )
}

fn validity(policy: &Policy, at: Timestamp, label: &str) -> Check {
    let fix = "have the policy renewed and signed again";
    let expected = format!("a policy in force at {at}");
    match (policy.not_before, policy.expires) {
        (_, None) => {
            Check::failed(CheckKind::Validity, expected, "it does not say when it expires, which counts as expired")
                .at(format!("{label}, `expires`"))
                .fix(fix)
        }
        (_, Some(expires)) if at > expires => {
            Check::failed(CheckKind::Validity, expected, format!("it expired at {expires}"))
                .at(format!("{label}, `expires`"))
                .fix(fix)
        }
        (Some(not_before), _) if at < not_before => {
            Check::failed(CheckKind::Validity, expected, format!("it is not in force before {not_before}"))
                .at(format!("{label}, `notBefore`"))
                .fix("use the policy that is in force now, or wait")
        }
        (_, Some(expires)) => Check::passed(CheckKind::Validity, format!("until {expires}")),
    }
}

/// The policies among the evidence that the same signers have signed: which version they ask for at least. So a policy
/// that was withdrawn is refused wherever its successor lies beside the evidence.
fn asked_by_others(question: &Question<'_>) -> Result<Option<(u64, String)>, VerifyError> {
    let mut asked: Option<(u64, String)> = None;
    for source in &question.sources {
        for handle in source.policies() {
            let bytes = source.read(&handle).map_err(VerifyError::Source)?;
            let Ok(envelope) = container::open(&bytes) else { continue };
            let Ok(checked) = question.policy_trust.trust.check(envelope) else { continue };
            let is_theirs = who_signed(question, &checked, "").is_none();
            let is_policy = POLICY_TYPES.contains(&checked.value().payload_type.as_str());
            let Ok(policy) = Policy::parse(&checked.value().payload) else { continue };
            if let Some(minimum) = policy.minimum_version.filter(|_| is_theirs && is_policy)
                && asked.as_ref().is_none_or(|(known, _)| *known < minimum)
            {
                asked = Some((minimum, format!("the policy {}", handle.label)));
            }
        }
    }
    Ok(asked)
}

fn version(policy: &Policy, question: &Question<'_>, label: &str) -> Result<Option<Check>, VerifyError> {
    let by_flag = question.policy_trust.minimum_version.map(|minimum| (minimum, "the command line".to_owned()));
    let by_itself = policy.minimum_version.map(|minimum| (minimum, "the policy itself".to_owned()));
    let asked =
        [asked_by_others(question)?, by_flag, by_itself].into_iter().flatten().max_by_key(|(minimum, _)| *minimum);
    let Some((minimum, who)) = asked else { return Ok(None) };
    let found = policy.version.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"));
    Ok(Some(if policy.version.is_some_and(|version| version >= minimum) {
        Check::passed(CheckKind::Version, format!("{found}, at least {minimum}"))
    } else {
        Check::failed(CheckKind::Version, format!("version {minimum} or later, as {who} asks"), found)
            .at(format!("{label}, `version`"))
            .fix("use the newest policy: this one was withdrawn")
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sign::Scheme;
    use crate::trust::Chain;

    #[test]
    fn where_key_and_certificate_are_named_both_must_hold() {
        let leaf = Certificate::read(include_bytes!("../../../fixtures/certificates/keys/leaf.pem")).expect("reads");
        let key_id = leaf.key_id().to_owned();
        let by = |identity| SignerProof {
            index: 0,
            key_id: key_id.clone(),
            identity,
            time: None,
            stamped: None,
            logged: Vec::new(),
            scheme: Scheme::EcdsaSha256,
            notes: Vec::new(),
        };
        let certified = by(Identity::Certificate(Chain { path: vec![leaf], anchors: vec!["r".to_owned()] }));
        let bare = by(Identity::Key);
        let policy = Policy::parse(br#"{"steps":{"a":{"name":"a"}}}"#).expect("a policy");
        let is = |key: Option<&str>, common_name: Option<&str>, signer: &SignerProof| {
            let value = common_name.map(|name| {
                json!({"commonname": name, "dnsnames": ["*"], "emails": ["*"], "organizations": ["*"], "uris": ["*"], "roots": ["*"]})
            });
            let constraint = value.as_ref().map(|value| Constraint::read(value).expect("a constraint").0);
            let functionary =
                Functionary { key_id: key.map(str::to_owned), constraint: value, at: "functionaries[0]".to_owned() };
            let (constraint, demands) = (constraint.as_ref(), Demands::default());
            Who { functionary: &functionary, constraint, policy: &policy, demands, ct_logs: &[] }.is(signer).is_ok()
        };
        for (key, common_name, holds) in [
            (Some(key_id.as_str()), Some("leaf"), true),
            (Some("another"), Some("leaf"), false),
            (Some(key_id.as_str()), Some("another"), false),
            (None, Some("leaf"), true),
            (None, Some("another"), false),
            (Some(key_id.as_str()), None, true),
            (Some("another"), None, false),
            (None, None, false),
        ] {
            assert_eq!(is(key, common_name, &certified), holds, "{key:?} {common_name:?}");
            // The policy has no keys: a key that it does not know is nobody's.
            assert!(!is(key, common_name, &bare), "{key:?} {common_name:?}");
        }
    }

    #[test]
    fn rules_without_end_share_their_patience() {
        let text = "package a\nimport rego.v1\ndeny contains \"no\" if {\n  some a in numbers.range(1, 100000)\n  some b in numbers.range(1, 100000)\n  a + b == 0\n}";
        let module = RegoModule { name: "loop.rego".to_owned(), text: text.to_owned() };
        let patience = Rc::new(Cell::new(Duration::from_millis(400)));
        let now = "2026-06-01T12:00:00Z".parse().expect("a time");
        let rules = Rules::compile(&[module], now, &patience).expect("compiles").expect("a module");
        for (seconds, left) in [("0.4", 200), ("0.2", 100)] {
            let reason = rules.judge(&json!({})).expect_err("has no end");
            assert!(reason.contains(&format!("takes longer than {seconds} s")), "{reason}");
            assert_eq!(patience.get(), Duration::from_millis(left));
        }
    }
}
