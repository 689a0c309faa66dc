//! What a check proves about a signer, and how many signers there are.

use std::collections::{BTreeMap, BTreeSet};

use super::certificate::{Certificate, CertificateError};
use super::chain::Chain;
use super::timestamp::{ProvenTime, TimestampError};
use super::{Reason, with_causes};
use crate::sign::Scheme;
use crate::sigstore::{EntryError, EntryMalformed, Log, Logged, check_scts};

/// A signature that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerProof {
    /// Its place in the envelope.
    pub index: usize,
    /// The id of the key that made it, computed from the key: not what the envelope says. For certificates that of the
    /// leaf's key.
    pub key_id: String,
    /// Who the signer is.
    pub identity: Identity,
    /// When it existed, if an authority or a log vouches for it; always there with a certificate.
    pub time: Option<ProvenTime>,
    /// The earliest time that a timestamp authority vouches for; a log's promise is none.
    pub stamped: Option<ProvenTime>,
    /// The entries about it in trusted logs, each once.
    pub logged: Vec<Logged>,
    /// How it was made, for callers that allow less.
    pub scheme: Scheme,
    /// What was there and did not hold.
    pub notes: Vec<Note>,
}

/// How a signer is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By one of the trusted keys.
    Key,
    /// By a certificate that leads to a trusted root; the first of [`Chain::path`] is the signer's.
    Certificate(Chain),
}

/// Something at a signature that did not hold, and was not needed for the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// A timestamp proves nothing.
    #[error("timestamp {place}: {error}")]
    Timestamp {
        /// Its place at the signature.
        place: usize,
        /// Why.
        #[source]
        error: TimestampError,
    },
    /// A log entry proves nothing.
    #[error("log entry {place}: {error}")]
    Log {
        /// Its place at the signature, among the timestamps.
        place: usize,
        /// Why.
        #[source]
        error: LogProblem,
    },
    /// An intermediate certificate cannot be read.
    #[error("intermediate certificate {place}: {error}")]
    Intermediate {
        /// Its place at the signature.
        place: usize,
        /// Why.
        #[source]
        error: CertificateError,
    },
    /// The certificate does not count; the signature is by a trusted key all the same.
    #[error("certificate: {reason}")]
    Certificate {
        /// Why.
        #[source]
        reason: Reason,
    },
}

/// Why a log entry proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogProblem {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] EntryMalformed),
    /// It is about something else, or no trusted log has it.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The work for one envelope is used up.
    #[error("checking the log entry would take too long")]
    TooMuchWork,
}

impl SignerProof {
    /// The signer's certificate, if that is how it is known.
    pub fn certificate(&self) -> Option<&Certificate> {
        match &self.identity {
            Identity::Certificate(chain) => chain.path.first(),
            Identity::Key => None,
        }
    }

    /// Whether one of the logs of certificates vouches for the signer's; else why not.
    pub fn is_logged(&self, logs: &[Log]) -> Result<(), String> {
        let Identity::Certificate(chain) = &self.identity else {
            return Err("a key is in no log of certificates".to_owned());
        };
        match &chain.path[..] {
            [leaf, issuer, ..] => check_scts(leaf, issuer, logs, None).map(drop).map_err(|error| with_causes(&error)),
            _ => Err("it is trusted by itself, and has no issuer".to_owned()),
        }
    }

    /// The ids ([`super::Anchor::id`]) of the roots that the certificate leads to; none for a key.
    pub fn roots(&self) -> &[String] {
        match &self.identity {
            Identity::Certificate(chain) => &chain.anchors,
            Identity::Key => &[],
        }
    }

    /// What two signatures of one signer have in common, one of these: the key, or the names of the certificate together
    /// with a root. Short-lived certificates have a new key each time, so keys alone would let one signer count twice. A
    /// certificate of Fulcio is of whoever its issuer identified, whichever authority wrote that down.
    fn marks(&self) -> Vec<Mark<'_>> {
        let mut marks = vec![Mark::Key(&self.key_id)];
        if let Some(certificate) = self.certificate() {
            let names = [
                certificate.common_names(),
                certificate.organizations(),
                certificate.dns_names(),
                certificate.emails(),
                certificate.uris(),
            ]
            .map(|list| list.iter().map(String::as_str).collect::<BTreeSet<_>>());
            match (certificate.extension("Issuer"), certificate.signer_name()) {
                (Some(issuer), Ok(name)) => marks.push(Mark::Identified(issuer, name)),
                _ => marks.extend(self.roots().iter().map(|root| Mark::Names(root, names.clone()))),
            }
        }
        marks
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Mark<'a> {
    Key(&'a str),
    Names(&'a str, [BTreeSet<&'a str>; 5]),
    Identified(&'a str, String),
}

/// How many signers there are, each counted once however often and with how many keys it signed: what thresholds count.
///
/// Two are one when they have a key in common, or the names of their certificates and a root, or of Fulcio's certificates
/// the issuer; and two that are one with a third are one.
pub fn distinct_identities<'a>(proofs: impl IntoIterator<Item = &'a SignerProof>) -> usize {
    let mut groups: Vec<usize> = Vec::new();
    let mut seen: BTreeMap<Mark<'_>, usize> = BTreeMap::new();
    for (place, proof) in proofs.into_iter().enumerate() {
        groups.push(place);
        for mark in proof.marks() {
            let other = *seen.entry(mark).or_insert(place);
            let (group, other) = (top(&groups, place), top(&groups, other));
            groups[group.max(other)] = group.min(other);
        }
    }
    groups.iter().enumerate().filter(|(place, group)| place == *group).count()
}

/// The first member of the group of `place`.
fn top(groups: &[usize], mut place: usize) -> usize {
    while groups[place] != place {
        place = groups[place];
    }
    place
}
