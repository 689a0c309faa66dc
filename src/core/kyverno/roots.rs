//! Whom a keyless attestor believes: authorities, logs, and logs of certificates, where the policy itself has them, or
//! where it is known what Kyverno gets from its TUF repository.

use super::policy::{CtLog, Rekor};
use super::who::Unknown;
use crate::sign::PublicKey;
use crate::sigstore::{Authority, Log, TrustedRoot, Window};
use crate::trust::{Anchor, Certificate};

/// What a rule believes. `None` stands for Sigstore's own, for which Kyverno asks its TUF repository.
#[derive(Clone, Debug, Default)]
pub(super) struct Roots {
    /// Each certificate is one by itself, as in Go's pool of roots.
    pub(super) anchors: Option<Vec<Anchor>>,
    pub(super) logs: Option<Vec<Log>>,
    pub(super) ct_logs: Option<Vec<Log>>,
    /// Of the rule alone: where it names none, Kyverno knows none.
    pub(super) timestamp_authorities: Option<Vec<Authority>>,
}

impl Roots {
    /// Those of an attestor, and what it leaves out from `root`. What is in the policy and cannot be read here may be
    /// readable there: it is not judged.
    pub(super) fn of(
        certificates: Option<&str>,
        rekor: &Rekor,
        ctlog: &CtLog,
        root: Option<&TrustedRoot>,
    ) -> Result<Self, Unknown> {
        let unknown = |what: &str, error: &dyn std::fmt::Display| Unknown(format!("`{what}` of the rule: {error}"));
        let is_there = |text: &&str| !text.trim().is_empty();
        let log = |what: &str, pem: Option<&str>, given: Option<&Vec<Log>>| {
            let Some(pem) = pem.filter(is_there) else { return Ok(given.cloned()) };
            let key = PublicKey::from_file_bytes(pem.as_bytes()).map_err(|error| unknown(what, &error))?;
            Ok(Some(vec![Log::new("", key, Window::default())]))
        };
        let anchors = match certificates.filter(is_there) {
            None => root.map(|root| root.authorities.iter().map(|one| one.anchor.clone()).collect()),
            Some(pem) => {
                let read = Certificate::read_all(pem.as_bytes()).map_err(|error| unknown("roots", &error))?;
                let anchor = |(number, certificate)| Anchor {
                    id: format!("roots[{number}]"),
                    certificate,
                    intermediates: Vec::new(),
                };
                Some(read.into_iter().enumerate().map(anchor).collect())
            }
        };
        let authority = |pem: &str| {
            let what = "ctlog.tsaCertChain";
            Authority::new(pem.as_bytes(), what, Window::default()).map_err(|error| unknown(what, &error))
        };
        let timestamps = ctlog.tsa_cert_chain.as_deref().filter(is_there).map(authority).transpose()?;
        Ok(Self {
            anchors,
            logs: log("rekor.pubkey", rekor.pubkey.as_deref(), root.map(|root| &root.logs))?,
            ct_logs: log("ctlog.pubkey", ctlog.pubkey.as_deref(), root.map(|root| &root.ct_logs))?,
            timestamp_authorities: timestamps.map(|authority| vec![authority]),
        })
    }
}
