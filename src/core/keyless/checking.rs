//! What services answer, checked with a root of trust that the signer names: what a verifier would refuse later is refused
//! now. Of a kind that the root does not name nothing is checked, and [`Checking::unchecked`] says so.

use std::sync::Arc;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::fulcio::{Form, Issued, Sct};
use super::rekor::{self, LogEntry, Submission, Version};
use super::stamp::Stamped;
use super::token::IdentityToken;
use super::{AgentJob, ServiceError, Services};
use crate::dsse::Envelope;
use crate::sign::PrivateKey;
use crate::sigstore::note::Checkpoint;
use crate::sigstore::{Entry, Signed, TrustedRoot, Verifier, check, check_scts, proven_time};
use crate::trust::{Anchor, Purpose, chain};

/// What is said not to be checked of a log.
pub const LOG: &str = "whose the log is";

/// Services whose answers are checked.
pub struct Checking {
    inner: Arc<dyn Services>,
    root: TrustedRoot,
    now: Timestamp,
}

impl Checking {
    /// The answers of `inner`, checked with `root` at the time `now`.
    pub fn new(inner: Arc<dyn Services>, root: TrustedRoot, now: Timestamp) -> Self {
        Self { inner, root, now }
    }

    /// What `root` names nobody for, so that it is not checked.
    pub fn unchecked(root: &TrustedRoot) -> Vec<&'static str> {
        let kinds = [
            (root.authorities.is_empty(), "who issued the certificate"),
            (root.ct_logs.is_empty(), "its SCT"),
            (root.logs.is_empty(), LOG),
            (root.timestamp_authorities.is_empty(), "whose the timestamp is"),
        ];
        kinds.into_iter().filter(|(is_empty, _)| *is_empty).map(|(_, what)| what).collect()
    }
}

impl Checking {
    /// The entry that a log has already. Whose the log is, its key says, which a trusted root has: it may be asked under
    /// another address than the root's.
    fn again(&self, error: ServiceError, url: &str, submission: &Submission<'_>) -> Result<LogEntry, ServiceError> {
        if self.root.logs.is_empty() {
            return Err(error);
        }
        let whose = |note: &str| {
            let checkpoint = Checkpoint::parse(note).ok()?;
            let mut logs = self.root.logs.iter();
            logs.find(|log| checkpoint.verify_tiled(log).is_ok()).map(|log| log.id.clone())
        };
        self.inner.existing(url, submission, &whose).map_err(|why| ServiceError {
            reason: format!("{}; nor is it found in its tiles: {}", error.reason, why.reason),
            is_outage: why.is_outage,
            ..error
        })
    }

    /// An entry, if it holds.
    fn judged(&self, url: &str, made: LogEntry, submission: &Submission<'_>) -> Result<LogEntry, ServiceError> {
        if self.root.logs.is_empty() {
            return Ok(made);
        }
        let bad = |error: &dyn std::fmt::Display| ServiceError::bad(url, format!("its entry does not hold: {error}"));
        let entry = Entry::parse(made.bundled.to_string().as_bytes()).map_err(|error| bad(&error))?;
        let verifier = match submission.verifier {
            rekor::Verifier::Certificate(certificate) => Verifier::Certificate(certificate),
            rekor::Verifier::Key(key) => Verifier::Key(key),
        };
        let envelope = submission.envelope.map(|bytes| Envelope::parse(bytes, bytes.len())).transpose();
        let envelope = envelope.map_err(|error| bad(&error))?;
        let signed = Signed::new(submission.message, submission.signature, verifier);
        let mut signed = signed.with_sha256(submission.sha256);
        if let Some(envelope) = &envelope {
            signed = signed.with_envelope(envelope);
        }
        check(&entry, &signed, &self.root.logs, &[self.now]).map_err(|error| bad(&error))?;
        Ok(made)
    }
}

impl Services for Checking {
    fn check(&self, url: &str) -> Result<(), ServiceError> {
        self.inner.check(url)
    }

    fn certificate(
        &self,
        url: &str,
        form: Form,
        token: &IdentityToken,
        key: &PrivateKey,
    ) -> Result<Issued, ServiceError> {
        let issued = self.inner.certificate(url, form, token, key)?;
        let at = issued.leaf.not_before();
        let current = self.root.authorities.iter().filter(|one| one.window.covers(at));
        let anchors: Vec<Anchor> = current.map(|one| one.anchor.clone()).collect();
        let mut issuer = issued.chain.first().cloned();
        if !self.root.authorities.is_empty() {
            let found = chain(&issued.leaf, &issued.chain, &anchors, at, Purpose::CodeSigning).map_err(|error| {
                let error = token.keep_out_of(&error.to_string());
                ServiceError::bad(url, format!("its certificate is not one of the trusted root: {error}"))
            })?;
            issuer = found.path.get(1).cloned();
        }
        if !self.root.ct_logs.is_empty() {
            let detached = match &issued.sct {
                Sct::Embedded => None,
                Sct::Detached(sct) => Some(&sct[..]),
            };
            let issuer =
                issuer.ok_or_else(|| ServiceError::bad(url, "its certificate comes without that of its issuer"))?;
            check_scts(&issued.leaf, &issuer, &self.root.ct_logs, detached).map_err(|error| {
                ServiceError::bad(url, format!("the SCT of its certificate does not hold: {error}"))
            })?;
        }
        Ok(issued)
    }

    fn entry(&self, url: &str, version: Version, submission: &Submission<'_>) -> Result<LogEntry, ServiceError> {
        let made = match self.inner.entry(url, version, submission) {
            Err(error) if error.is_duplicate => self.again(error, url, submission)?,
            made => made?,
        };
        self.judged(url, made, submission)
    }

    fn made(&self, url: &str, submission: &Submission<'_>) -> Result<Option<LogEntry>, ServiceError> {
        let made = self.inner.made(url, submission)?;
        made.map(|made| self.judged(url, made, submission)).transpose()
    }

    fn timestamp(&self, url: &str, message: &[u8]) -> Result<Stamped, ServiceError> {
        let stamped = self.inner.timestamp(url, message)?;
        if !self.root.timestamp_authorities.is_empty() {
            proven_time(std::slice::from_ref(&stamped.response), message, &self.root.timestamp_authorities)
                .map_err(|reason| ServiceError::bad(url, format!("its timestamp does not hold: {reason}")))?;
        }
        Ok(stamped)
    }

    fn buildkite(&self, job: &AgentJob, audience: &str) -> Result<Zeroizing<String>, ServiceError> {
        self.inner.buildkite(job, audience)
    }
}
