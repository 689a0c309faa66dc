//! What a policy says of logs and of short-lived certificates.

use serde_json::Value;

use super::{Check, Severity};
use crate::policy::{Demands, Functionary, Match, NamedLog};
use crate::sign::KeyKind;
use crate::trust::{Certificate, Constraint};

/// Names that authorities have which certify whoever logs in somewhere.
const KEYLESS: [&str; 2] = ["sigstore", "fulcio"];

impl Check<'_> {
    /// Whether there is anybody who can prove a time: an authority, or a log that promises one.
    pub(super) fn proves_times(&self) -> bool {
        let promises = |named: &NamedLog| named.logs.iter().any(|log| log.key.kind() != KeyKind::Ed25519);
        !self.policy.authorities.is_empty() || self.policy.logs.iter().any(promises)
    }

    pub(super) fn logs(&mut self) {
        let policy = self.policy;
        for (member, logs) in [("transparencyLogs", &policy.logs), ("certificateTransparencyLogs", &policy.ct_logs)] {
            for named in logs {
                for log in named.logs.iter().take(1) {
                    if let Some(end) = log.window.end.filter(|end| self.around.now > *end) {
                        let at = format!("{member}.{}.end", named.id);
                        let message = format!("trusted until {end} only: what was logged later does not count");
                        self.add(Severity::Note, &at, message, "add its successor");
                    }
                }
            }
        }
        for step in policy.steps.values() {
            let at = format!("steps.{}", step.name);
            self.demands(&at, step.demands, &step.functionaries);
            self.matches(&at, &step.matches, &step.functionaries);
        }
        for external in policy.external.values() {
            let at = format!("externalAttestations.{}", external.name);
            self.demands(&at, external.demands, &external.functionaries);
        }
        if let Some(images) = &policy.images {
            self.demands("images", images.demands, &images.functionaries);
            self.matches("images", &images.matches, &images.functionaries);
            if !images.time.is_empty() && !self.proves_times() {
                self.untimed("images.timestampConstraint");
            }
        }
        let asked = policy.steps.values().any(|step| step.demands.log)
            || policy.external.values().any(|external| external.demands.log)
            || policy.images.as_ref().is_some_and(|images| images.demands.log);
        if !policy.logs.is_empty() && !asked {
            self.add(
                Severity::Note,
                "transparencyLogs",
                "no step demands a log entry: one that is there may prove a time, and evidence without one passes",
                "add `log: required` to the steps whose evidence must be logged",
            );
        }
    }

    fn matches(&mut self, at: &str, matches: &[Match], functionaries: &[Functionary]) {
        let keys_only = functionaries.iter().all(|one| one.constraint.is_none());
        if !matches.is_empty() && keys_only && !functionaries.is_empty() {
            self.error(
                &format!("{at}.certificateMatches"),
                "asks for what a certificate says, and all functionaries are keys: no evidence can satisfy it",
                "name a functionary with a `certConstraint`",
            );
        }
    }

    fn demands(&mut self, at: &str, demands: Demands, functionaries: &[Functionary]) {
        if demands.log && self.policy.logs.is_empty() {
            self.error(
                &format!("{at}.log"),
                "a log entry is demanded, and the policy has no `transparencyLogs`: no evidence can satisfy it",
                "add the log, or `trustedRoot: FILE` to the source",
            );
        }
        if demands.timestamp && self.policy.authorities.is_empty() {
            self.error(
                &format!("{at}.timestamp"),
                "a timestamp is demanded, and the policy has no `timestampauthorities`: no evidence can satisfy it",
                "add the authority, or `trustedRoot: FILE` to the source",
            );
        }
        if !demands.sct {
            return;
        }
        let at = format!("{at}.sct");
        if self.policy.ct_logs.is_empty() {
            self.error(
                &at,
                "a logged certificate is demanded, and the policy has no `certificateTransparencyLogs`: no evidence can satisfy it",
                "add the log, or `trustedRoot: FILE` to the source",
            );
        }
        if !functionaries.is_empty() && functionaries.iter().all(|one| one.constraint.is_none()) {
            self.error(
                &at,
                "a logged certificate is demanded, and all functionaries are keys: no evidence can satisfy it",
                "name a functionary with a `certConstraint`",
            );
        }
    }

    /// Whether a constraint on identities says who vouches for them: the authority certifies those of several issuers,
    /// and one may let anybody choose the name that another one guards.
    pub(super) fn issuer(&mut self, at: &str, constraint: &Constraint, value: &Value) {
        let member = |value: &Value, wanted: &str| -> Option<Value> {
            let members = value.as_object()?;
            members.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.clone())
        };
        let issuer = member(value, "extensions").and_then(|extensions| member(&extensions, "Issuer"));
        if issuer.is_some_and(|issuer| !["", "*"].contains(&issuer.as_str().unwrap_or_default())) {
            return;
        }
        let is_theirs = |id: &str| constraint.roots().iter().any(|root| root == "*" || root == id);
        let is_keyless = self.policy.roots.iter().filter(|(id, _)| is_theirs(id)).any(|(_, text)| {
            let subject = Certificate::read(&text.certificate).map(|one| one.subject().to_ascii_lowercase());
            subject.is_ok_and(|subject| KEYLESS.iter().any(|name| subject.contains(name)))
        });
        if is_keyless || !self.policy.logs.is_empty() || !self.policy.ct_logs.is_empty() {
            self.warning(
                &format!("{at}.extensions"),
                "no issuer is named: the same name from any issuer that the authority takes identities from would do",
                "add `extensions: {Issuer: https://…}`, as `affiant inspect` shows it of a certificate",
            );
        }
    }
}
