//! A key with what vouches for it, as envelopes of witness and cilock carry it: the certificate, those above it, timestamps
//! over the signature, and, among those, entries of logs about it.
//!
//! A certificate that is to be issued is asked for when the first signature is made, after the command and not before it:
//! it lives for minutes.

use std::sync::{Arc, Mutex, PoisonError};

use super::fulcio::Issued;
use super::rekor::{Submission, Verifier, Version};
use super::sealer::SealerError;
use super::{ServiceError, Services, sha256_of};
use crate::dsse::{Signature, TIMESTAMP_LOG_ENTRY, TIMESTAMP_TSP, Timestamp};
use crate::sign::{PrivateKey, PublicKey, SignError, Signer};
use crate::trust::Certificate;

/// Gets a certificate for a key.
pub type Issue = Box<dyn Fn(&PrivateKey) -> Result<Issued, String> + Send + Sync>;

/// Whose a key is.
pub enum Certified {
    /// Nobody says so.
    No,
    /// A certificate says so: it, and those above it.
    By(Certificate, Vec<Certificate>),
    /// A certificate will.
    Later(Issue, Mutex<Option<(Certificate, Vec<Certificate>)>>),
}

/// A key with what vouches for it.
pub struct Vouched {
    key: PrivateKey,
    certified: Certified,
    /// Timestamp authorities.
    timestamps: Vec<String>,
    /// Logs of the first generation; they are told a digest, the signature, and who signed.
    logs: Vec<String>,
    services: Arc<dyn Services>,
}

/// A certificate is not the key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is for another key")]
pub struct OtherKey;

impl Vouched {
    /// A key that timestamp authorities vouch for, and a certificate where there is one.
    pub fn new(
        key: PrivateKey,
        certificate: Option<(Certificate, Vec<Certificate>)>,
        timestamps: Vec<String>,
        services: Arc<dyn Services>,
    ) -> Result<Self, OtherKey> {
        let certified = match certificate {
            None => Certified::No,
            Some((leaf, _)) if leaf.public_key() != key.public_key() => return Err(OtherKey),
            Some((leaf, chain)) => Certified::By(leaf, chain),
        };
        Ok(Self { key, certified, timestamps, logs: Vec::new(), services })
    }

    /// A key whose certificate `issue` gets when it signs.
    pub fn later(key: PrivateKey, issue: Issue, timestamps: Vec<String>, services: Arc<dyn Services>) -> Self {
        Self { key, certified: Certified::Later(issue, Mutex::default()), timestamps, logs: Vec::new(), services }
    }

    /// The same, with entries in these logs of the first generation.
    #[must_use]
    pub fn logged_in(mut self, logs: Vec<String>) -> Self {
        self.logs = logs;
        self
    }

    /// The certificate, and those above it.
    fn certificate(&self) -> Result<Option<(Certificate, Vec<Certificate>)>, SignError> {
        match &self.certified {
            Certified::No => Ok(None),
            Certified::By(leaf, chain) => Ok(Some((leaf.clone(), chain.clone()))),
            Certified::Later(issue, issued) => {
                let mut issued = issued.lock().unwrap_or_else(PoisonError::into_inner);
                if issued.is_none() {
                    let Issued { leaf, chain, .. } = issue(&self.key).map_err(SignError::Vouching)?;
                    *issued = Some((leaf, chain));
                }
                Ok(issued.clone())
            }
        }
    }
}

impl Signer for Vouched {
    fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    fn sign(&self, message: &[&[u8]]) -> Result<Vec<u8>, SignError> {
        self.key.sign(message)
    }

    fn seal(&self, message: &[&[u8]]) -> Result<Signature, SignError> {
        let certificate = self.certificate()?;
        let sig = self.key.sign(message)?;
        let vouching = |error: &dyn std::error::Error| SignError::Vouching(error.to_string());
        let inside = |place: &'static str, time: jiff::Timestamp| {
            let Some((leaf, _)) = &certificate else { return Ok(()) };
            let (from, until) = (leaf.not_before(), leaf.not_after());
            if time.as_second() < from.as_second() || time > until {
                return Err(vouching(&SealerError::OtherTime { place, time, from, until }));
            }
            Ok(())
        };
        let mut timestamps = Vec::new();
        for url in &self.logs {
            let verifier = match &certificate {
                Some((leaf, _)) => Verifier::Certificate(leaf),
                None => Verifier::Key(self.key.public_key()),
            };
            // The digest is told, not the document.
            let submission =
                Submission { message, sha256: sha256_of(message), signature: &sig, verifier, envelope: None };
            submission.check().map_err(|error| vouching(&error))?;
            let entry = self.services.entry(url, Version::One, &submission).map_err(|error| vouching(&error))?;
            let time = entry.time.and_then(|time| jiff::Timestamp::from_second(time).ok());
            inside("the log", time.ok_or_else(|| vouching(&SealerError::NoTime))?)?;
            timestamps
                .push(Timestamp { kind: TIMESTAMP_LOG_ENTRY.to_owned(), data: entry.bundled.to_string().into_bytes() });
        }
        for url in &self.timestamps {
            let stamped = self.services.timestamp(url, &sig).map_err(|error: ServiceError| vouching(&error))?;
            inside("the timestamp authority", stamped.time)?;
            timestamps.push(Timestamp { kind: TIMESTAMP_TSP.to_owned(), data: stamped.token().to_vec() });
        }
        if certificate.is_some() && timestamps.is_empty() && matches!(self.certified, Certified::Later(..)) {
            return Err(vouching(&SealerError::NoTime));
        }
        let (certificate, intermediates) = match certificate {
            None => (None, Vec::new()),
            Some((leaf, chain)) => {
                (Some(leaf.to_pem().into_bytes()), chain.iter().map(|one| one.to_pem().into_bytes()).collect())
            }
        };
        let key_id = self.key.public_key().key_id().to_owned();
        Ok(Signature { key_id, sig, certificate, intermediates, timestamps })
    }
}
