//! Whom a keyless attestor believes: authorities, logs, and logs of certificates, where the policy itself has them.

use super::policy::Keyless;
use super::who::Unknown;
use crate::sign::PublicKey;
use crate::sigstore::{Log, Window};
use crate::trust::{Anchor, Certificate};

/// What a rule believes. `None` stands for Sigstore's own, for which Kyverno asks its TUF repository.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// Each certificate is one by itself, as in Go's pool of roots.
    pub(super) anchors: Option<Vec<Anchor>>,
    pub(super) logs: Option<Vec<Log>>,
    pub(super) ct_logs: Option<Vec<Log>>,
}

impl Roots {
    /// Those of an attestor. What is in the policy and cannot be read here may be readable there: it is not judged.
    pub(super) fn of(keyless: &Keyless) -> Result<Self, Unknown> {
        let unknown = |what: &str, error: &dyn std::fmt::Display| Unknown(format!("`{what}` of the rule: {error}"));
        let is_there = |text: &&str| !text.trim().is_empty();
        let log = |what: &str, pem: Option<&str>| {
            let Some(pem) = pem.filter(is_there) else { return Ok(None) };
            let key = PublicKey::from_file_bytes(pem.as_bytes()).map_err(|error| unknown(what, &error))?;
            Ok(Some(vec![Log::new("", key, Window::default())]))
        };
        let anchors = match keyless.roots.as_deref().filter(is_there) {
            None => None,
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
        Ok(Self {
            anchors,
            logs: log("rekor.pubkey", keyless.rekor.pubkey.as_deref())?,
            ct_logs: log("ctlog.pubkey", keyless.ctlog.pubkey.as_deref())?,
        })
    }
}
