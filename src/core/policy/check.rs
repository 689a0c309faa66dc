//! What is wrong, weak or surprising in a policy, before evidence is judged by it.
//!
//! `verify` refuses a policy that cannot be relied on; this also says what it would accept and nobody may have meant.

mod keyless;
mod peers;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use self::peers::names_anybody;
use super::source::{SHORT_TYPES, spoken};
use super::{Document, External, Functionary, Policy, RegoModule, Requirement, SourceError, Step};
use crate::evidence::kinds;
use crate::nearest::nearest;
use crate::rego::{self, Cause};
use crate::trust::{Certificate, Constraint};

/// How long before its end a policy counts as ending soon.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Members of the document that rules see beside the evidence where a step sees other steps.
const WRAPPED: [&str; 3] = ["attestation", "steps", "external"];
/// Members of a command-run, in either form.
const COMMAND_RUN: [&str; 12] = [
    "cmd",
    "exitcode",
    "stdout",
    "stderr",
    "processes",
    "affiant",
    "_meta",
    "summary",
    "digests",
    "paths",
    "comms",
    "cmdlines",
];

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy cannot be relied on, or a part of it can never be satisfied.
    Error,
    /// It accepts more than its author may have meant, or will stop working.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Something that was found in a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The path of the member; empty for the whole policy.
    pub at: String,
    /// Its line in the source, counted from 1, where there is a source.
    pub line: Option<u64>,
    /// What is found.
    pub message: String,
    /// What to do.
    pub fix: String,
}

impl Finding {
    /// A source that cannot be read or compiled.
    pub fn of_error(error: &SourceError) -> Self {
        Self {
            severity: Severity::Error,
            at: error.at().unwrap_or_default().to_owned(),
            line: error.line(),
            message: error.to_string(),
            fix: "correct this; what comes behind it was not looked at".to_owned(),
        }
    }
}

/// What is known beside the policy.
pub struct Surroundings<'a> {
    /// The source, for lines.
    pub document: Option<&'a Document>,
    /// The time now.
    pub now: Timestamp,
    /// The members that evidence of a type can have, where all are known.
    pub members: &'a dyn Fn(&str) -> Option<Vec<String>>,
    /// Key ids of the policy's own signers.
    pub signers: &'a [String],
}

/// Looks at a policy and the JSON that it was read from. Errors first, then in the order of the policy.
pub fn check(policy: &Policy, value: &Value, around: &Surroundings<'_>) -> Vec<Finding> {
    let mut check = Check { policy, around, found: Vec::new() };
    check.unknown();
    check.validity();
    check.anchors();
    check.keys();
    for step in policy.steps.values() {
        check.step(step);
    }
    check.logs();
    check.joins();
    for external in policy.external.values() {
        check.external(external);
    }
    check.peers(value);
    let mut found = check.found;
    found.sort_by_key(|finding| finding.severity);
    found
}

struct Check<'a> {
    policy: &'a Policy,
    around: &'a Surroundings<'a>,
    found: Vec<Finding>,
}

impl Check<'_> {
    fn add(&mut self, severity: Severity, at: &str, message: impl Into<String>, fix: impl Into<String>) {
        let line = self.around.document.and_then(|document| document.line(at));
        self.found.push(Finding { severity, at: at.to_owned(), line, message: message.into(), fix: fix.into() });
    }

    fn error(&mut self, at: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Error, at, message, fix);
    }

    fn warning(&mut self, at: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Warning, at, message, fix);
    }

    fn unknown(&mut self) {
        for unknown in &self.policy.unknown {
            match &unknown.nearest {
                Some(name) => self.error(
                    &unknown.at,
                    format!("the member is not known, so every reader passes it over; `{name}` may be meant"),
                    format!("write `{name}`, or remove it"),
                ),
                None => self.warning(&unknown.at, "the member is not known: every reader passes it over", "remove it"),
            }
        }
    }

    fn validity(&mut self) {
        let (policy, now) = (self.policy, self.around.now);
        match policy.expires {
            None => self.error("expires", "missing: a policy without an end counts as expired", "add `expires`"),
            Some(end) if now > end => {
                self.error(
                    "expires",
                    format!("the policy expired at {end}"),
                    "set a later `expires` and sign it again",
                );
            }
            Some(end) if end.duration_since(now) < SOON => {
                let left = end.duration_since(now).as_hours() / 24;
                self.warning(
                    "expires",
                    format!("the policy expires at {end}, in {left} days"),
                    "set a later `expires` and sign it again",
                );
            }
            Some(_) => {}
        }
        if let Some(begin) = policy.not_before {
            if policy.expires.is_some_and(|end| begin >= end) {
                self.error("notBefore", "the policy ends before it begins", "set an earlier `notBefore`");
            } else if begin > now {
                self.warning("notBefore", format!("not in force before {begin}"), "wait, or set an earlier time");
            }
        }
        if policy.minimum_version.is_some_and(|minimum| policy.version.is_none_or(|version| version < minimum)) {
            self.error(
                "minimumVersion",
                "the policy's own `version` is smaller: it withdraws itself",
                "set `version` to this number or a larger one",
            );
        }
        if let Some(images) = &policy.images
            && !images.functionaries.is_empty()
        {
            self.who("images", &images.functionaries, images.threshold);
        }
    }

    fn anchors(&mut self) {
        let policy = self.policy;
        for (member, anchors) in [("roots", &policy.roots), ("timestampauthorities", &policy.authorities)] {
            for (id, text) in anchors {
                let at = format!("{member}.{id}");
                let certificate = match Certificate::read(&text.certificate) {
                    Ok(certificate) => certificate,
                    Err(error) => {
                        self.error(&at, format!("the certificate cannot be read: {error}"), "give it as PEM");
                        continue;
                    }
                };
                if !certificate.is_ca() && member == "roots" {
                    self.warning(
                        &at,
                        format!(
                            "`{}` is no certificate authority: only this very certificate can sign",
                            certificate.label()
                        ),
                        "name the root that the signers' certificates lead to",
                    );
                } else if !certificate.is_self_issued() {
                    self.add(
                        Severity::Note,
                        &at,
                        format!("`{}` is an intermediate certificate that is trusted like a root", certificate.label()),
                        "name the root, unless only this intermediate is to be trusted",
                    );
                }
                if let Some(end) = text.window.end.filter(|end| self.around.now > *end) {
                    let message = format!("trusted until {end} only: older signatures alone lead to it");
                    self.add(Severity::Note, &format!("{at}.end"), message, "add its successor");
                }
                if self.around.now > certificate.not_after() {
                    self.warning(
                        &at,
                        format!(
                            "the certificate ended at {}: only older signatures lead to it",
                            certificate.not_after()
                        ),
                        "add its successor",
                    );
                }
                for (index, pem) in text.intermediates.iter().enumerate() {
                    if let Err(error) = Certificate::read_all(pem) {
                        let at = format!("{at}.intermediates[{index}]");
                        self.error(&at, format!("the certificate cannot be read: {error}"), "give it as PEM");
                    }
                }
            }
        }
    }

    fn functionaries(&self) -> impl Iterator<Item = &Functionary> {
        let external = self.policy.external.values().flat_map(|external| &external.functionaries);
        let images = self.policy.images.iter().flat_map(|images| &images.functionaries);
        self.policy.steps.values().flat_map(|step| &step.functionaries).chain(external).chain(images)
    }

    fn keys(&mut self) {
        let policy = self.policy;
        let used: BTreeSet<&str> = self.functionaries().filter_map(|one| one.key_id.as_deref()).collect();
        let constraints: Vec<Constraint> = self
            .functionaries()
            .filter_map(|one| one.constraint.as_ref())
            .filter_map(|value| Constraint::read(value).ok())
            .map(|(constraint, _)| constraint)
            .collect();
        let unused: Vec<&str> = policy.keys.iter().map(|key| key.id.as_str()).filter(|id| !used.contains(id)).collect();
        let roots: Vec<&str> = policy
            .roots
            .keys()
            .map(String::as_str)
            .filter(|id| !constraints.iter().any(|one| one.roots().iter().any(|root| root == "*" || root == id)))
            .collect();
        let both: Vec<&String> = self.around.signers.iter().filter(|id| used.contains(id.as_str())).collect();
        for id in unused {
            self.add(Severity::Note, &format!("publickeys.{id}"), "no functionary has this key", "remove it");
        }
        for id in roots {
            self.add(Severity::Note, &format!("roots.{id}"), "no functionary names this root", "remove it");
        }
        for id in both {
            self.warning(
                "",
                format!("the key {id} signs the policy and is a functionary: who holds it can change the rules"),
                "sign the policy with a key that no build has",
            );
        }
    }

    fn step(&mut self, step: &Step) {
        let at = format!("steps.{}", step.name);
        self.who(&at, &step.functionaries, step.threshold);
        if step.attestations.is_empty() {
            self.error(
                &format!("{at}.attestations"),
                "the step asks for no attestation: no evidence can satisfy it",
                "list the types that the step must attest",
            );
        }
        let mut seen: BTreeSet<kinds::Kind<'_>> = BTreeSet::new();
        for requirement in &step.attestations {
            if !seen.insert(kinds::canonical(&requirement.kind)) {
                let message = format!("`{}` is asked for twice in this step", spoken(&requirement.kind));
                self.warning(&requirement.at, message, "put all its rules in one place");
            }
            self.kind(requirement);
            let wrapped = !step.attestations_from.is_empty() || !step.external_from.is_empty();
            self.rules(&requirement.at, &requirement.kind, &requirement.modules, wrapped);
            if requirement.max_age.is_some() && !self.proves_times() {
                self.untimed(&format!("{}.maxAge", requirement.at));
            }
        }
        if !step.time.is_empty() && !self.proves_times() {
            self.untimed(&format!("{at}.timestampConstraint"));
        }
        self.exit_code(&at, step);
        if !step.allowed_untracked.is_empty() && step.artifacts_from.is_empty() {
            self.warning(
                &format!("{at}.allowedUntracked"),
                "without `artifactsFrom` all other files are refused",
                "name the steps that the files come from in `artifactsFrom`",
            );
        }
        if step.artifacts_from.contains(&step.name) {
            self.warning(&format!("{at}.artifactsFrom"), "the step names itself", "name the step before it");
        }
    }

    pub(super) fn untimed(&mut self, at: &str) {
        self.error(
            at,
            "asks for a proven time, and the policy has neither `timestampauthorities` nor `transparencyLogs`: no evidence can satisfy it",
            "add the authority that timestamps the signatures",
        );
    }

    fn exit_code(&mut self, at: &str, step: &Step) {
        let ruled =
            step.attestations.iter().filter(|one| kinds::canonical(&one.kind) == command_run()).any(|one| {
                references(&one.modules).iter().any(|found| found.path.iter().any(|name| name == "exitcode"))
            });
        if step.exit_codes.is_empty() && !ruled && !step.command_optional {
            self.warning(
                at,
                "no exit code is demanded: evidence of a command that failed would do",
                "add `exitcode: 0`, and for the peers a rule on `input.exitcode` of command-run",
            );
        }
        if step.exit_codes.iter().any(|code| *code != 0) {
            let codes: Vec<String> = step.exit_codes.iter().map(ToString::to_string).collect();
            let message = format!("a command may end with {}", codes.join(" or "));
            self.add(Severity::Note, &format!("{at}.exitcode"), message, "write 0 unless that is meant");
        }
    }

    fn who(&mut self, at: &str, functionaries: &[Functionary], threshold: usize) {
        let list = format!("{at}.functionaries");
        if functionaries.is_empty() {
            let message = "nobody may sign: no evidence can satisfy it";
            return self.error(&list, message, "name a key or a certificate in `functionaries`");
        }
        let mut keys = BTreeSet::new();
        let mut certificates = false;
        for functionary in functionaries {
            let mut alive = true;
            match (&functionary.key_id, &functionary.constraint) {
                (None, None) => {
                    let message = "names neither a key nor a certificate: nobody is this functionary";
                    self.error(&functionary.at, message, "add `key` or `certConstraint`");
                    alive = false;
                }
                (_, Some(constraint)) => alive = self.constraint(&functionary.at, constraint),
                (Some(id), None) if !self.policy.keys.iter().any(|key| key.id == *id) => {
                    let known = self.policy.keys.iter().map(|key| key.id.as_str());
                    let hint = nearest(id, known).map(|id| format!("; `{id}` may be meant")).unwrap_or_default();
                    self.error(
                        &format!("{}.publickeyid", functionary.at),
                        format!("no key of `publickeys` has the id `{id}`{hint}: nobody is this functionary"),
                        "add the key to `publickeys`",
                    );
                    alive = false;
                }
                (Some(_), None) => {}
            }
            if !alive {
                continue;
            }
            match (&functionary.key_id, &functionary.constraint) {
                (Some(id), None) => {
                    if !keys.insert(id.clone()) {
                        self.warning(&functionary.at, "the same key stands here twice", "remove one");
                    }
                }
                _ => certificates = true,
            }
        }
        if !certificates && threshold > keys.len() {
            self.error(
                &format!("{at}.threshold"),
                format!("{threshold} functionaries must sign, and there are {}: each counts once", keys.len()),
                "name more functionaries, or lower the threshold",
            );
        }
    }

    /// Whether a certificate can satisfy it at all.
    fn constraint(&mut self, at: &str, value: &Value) -> bool {
        let at = format!("{at}.certConstraint");
        let (constraint, unknown) = match Constraint::read(value) {
            Ok(read) => read,
            Err(error) => {
                self.error(&at, error.to_string(), "correct the constraint");
                return false;
            }
        };
        let mut alive = unknown.is_empty();
        for name in unknown {
            let message = "the member is not known: the gate refuses the policy, and others would pass it over";
            self.error(&format!("{at}.{name}"), message, "correct the name, or remove it");
        }
        if constraint.is_vacuous() {
            let fix = "say what the certificate must have: `commonname`, `emails`, `uris` …; `*` stands for anything";
            self.error(&at, "the constraint names nobody, so everybody with such a certificate is refused", fix);
            alive = false;
        }
        let roots = format!("{at}.roots");
        if constraint.roots().is_empty() {
            self.error(&roots, "no root is named: no certificate can lead to one", "name an id of `roots`, or `*`");
            alive = false;
        }
        for root in constraint.roots() {
            if root == "*" && self.policy.roots.is_empty() {
                self.error(&roots, "`*` stands for all roots, and the policy has none", "add the root to `roots`");
                alive = false;
            } else if root != "*" && !self.policy.roots.contains_key(root) {
                let hint = nearest(root, self.policy.roots.keys().map(String::as_str));
                let hint = hint.map(|id| format!("; `{id}` may be meant")).unwrap_or_default();
                self.error(&roots, format!("the policy has no root `{root}`{hint}"), "add it to `roots`");
                alive = false;
            }
        }
        self.issuer(&at, &constraint, value);
        if !self.proves_times() {
            self.error(
                &at,
                "a certificate counts only at a proven time, and the policy has neither `timestampauthorities` nor `transparencyLogs`: nobody is this functionary",
                "add the authority that timestamps the signatures",
            );
            alive = false;
        }
        if names_anybody(value) {
            self.warning(
                &at,
                "everything is `*`: anybody with a certificate of the root is this functionary",
                "name who signs, for example in `emails` or `uris`",
            );
        }
        alive
    }

    fn kind(&mut self, requirement: &Requirement) {
        let kind = requirement.kind.as_str();
        let at = format!("{}.type", requirement.at);
        if !kind.contains(':') {
            let short = nearest(kind, SHORT_TYPES.iter().map(|(short, _)| *short));
            let hint = short.and_then(|short| SHORT_TYPES.iter().find(|(known, _)| *known == short));
            let fix = hint.map_or("write the whole type, a URI".to_owned(), |(_, full)| format!("write `{full}`"));
            return self.error(&at, format!("`{kind}` is no type: no evidence has it"), fix);
        }
        let known: Vec<&str> = SHORT_TYPES.iter().map(|(_, full)| *full).collect();
        if known.iter().any(|full| kinds::same(full, kind)) {
            return;
        }
        // The host of the other peer is no mistake.
        let asked = kind.replace("https://aflock.ai/attestations/", "https://witness.dev/attestations/");
        if let Some(near) = nearest(&asked, known).filter(|near| strsim::levenshtein(near, &asked) <= 3) {
            self.warning(
                &at,
                format!("nothing that is known makes `{kind}`; `{near}` may be meant"),
                format!("write `{near}`, unless an attestor of yours makes it"),
            );
        }
    }

    fn rules(&mut self, at: &str, kind: &str, modules: &[RegoModule], wrapped: bool) {
        if modules.is_empty() {
            return;
        }
        let list = format!("{at}.regopolicies");
        let texts = as_rego(modules);
        let rules = match rego::Rules::compile(&texts) {
            Ok(rules) => rules,
            Err(error) => {
                return self.error(&list, error.to_string(), "correct the rule; `affiant policy eval` tries it");
            }
        };
        // What a package without `deny` says does not depend on the evidence.
        let limits = rego::Limits::at(self.around.now);
        if let Ok(judgement) = rules.judge(&Value::Object(serde_json::Map::new()), &limits) {
            for denial in judgement.denials {
                if matches!(denial.cause, Cause::NoDeny | Cause::NotASet { .. }) {
                    let fix = "write `deny contains msg if { … }`; witness passes such a package, cilock refuses it";
                    self.error(&list, format!("everything is denied: {}", denial.message), fix);
                }
            }
        }
        let Some(members) = self.members(kind) else { return };
        for found in references(modules) {
            let path = match (wrapped, found.path.as_slice()) {
                (false, path) => path,
                (true, [first, rest @ ..]) if first == "attestation" => rest,
                (true, [first, ..]) if WRAPPED.contains(&first.as_str()) => continue,
                (true, path) => {
                    let module = &modules[found.module].name;
                    self.error(
                        &list,
                        format!(
                            "{module}:{}: `input.{}`: a step that sees others has the evidence in `input.attestation`",
                            found.line,
                            path.join(".")
                        ),
                        "write `input.attestation`, `input.steps` or `input.external`",
                    );
                    continue;
                }
            };
            let Some(first) = path.first().filter(|first| !members.contains(first)) else { continue };
            let hint = nearest(first, members.iter().map(String::as_str));
            let hint = hint.map(|name| format!("; `{name}` may be meant")).unwrap_or_default();
            let module = &modules[found.module].name;
            self.warning(
                &list,
                format!("{module}:{}: no {} evidence that is known has `{first}`{hint}", found.line, spoken(kind)),
                "a rule that compares what is not there denies; correct the name",
            );
        }
    }

    fn members(&self, kind: &str) -> Option<Vec<String>> {
        if kinds::canonical(kind) == command_run() {
            return Some(COMMAND_RUN.map(str::to_owned).to_vec());
        }
        (self.around.members)(kind)
    }

    /// Steps that hang together by files, and those that only share a commit (security rule 10).
    fn joins(&mut self) {
        let policy = self.policy;
        if policy.steps.len() < 2 {
            return;
        }
        let mut groups: Vec<BTreeSet<&str>> = policy.steps.keys().map(|name| BTreeSet::from([name.as_str()])).collect();
        for step in policy.steps.values() {
            for from in &step.artifacts_from {
                let is_in =
                    |group: &BTreeSet<&str>| group.contains(step.name.as_str()) || group.contains(from.as_str());
                let (joined, mut rest): (Vec<_>, Vec<_>) = groups.into_iter().partition(is_in);
                rest.push(joined.into_iter().flatten().collect());
                groups = rest;
            }
        }
        if groups.len() < 2 {
            return;
        }
        // The largest group is the pipeline; the others hang beside it.
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let alone: BTreeSet<&str> = groups.iter().skip(1).flatten().copied().collect();
        for name in alone {
            self.warning(
                &format!("steps.{name}"),
                "nothing but a shared commit or digest joins this step to the others: evidence of another run of the same commit would do",
                "name the step whose files it uses in `artifactsFrom`",
            );
        }
    }

    fn external(&mut self, external: &External) {
        let at = format!("externalAttestations.{}", external.name);
        self.who(&at, &external.functionaries, 1);
        self.rules(&at, &external.predicate_type, &external.modules, false);
        let seen = self.policy.steps.values().any(|step| step.external_from.contains(&external.name));
        if !external.required && !seen && external.modules.is_empty() {
            self.warning(
                &at,
                "neither required, nor ruled, nor seen by a step: it decides nothing",
                "set `required: true`",
            );
        }
    }
}

fn command_run() -> kinds::Kind<'static> {
    kinds::canonical(crate::collection::COMMAND_RUN_TYPE)
}

pub(super) fn as_rego(modules: &[RegoModule]) -> Vec<rego::Module> {
    modules.iter().map(|one| rego::Module { name: one.name.clone(), text: one.text.clone() }).collect()
}

fn references(modules: &[RegoModule]) -> Vec<rego::InputReference> {
    rego::input_references(&as_rego(modules)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
