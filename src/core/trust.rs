//! Who signed: the only check of signatures at the gate.
//!
//! [`Trust::check`] makes a [`Checked`] value of an envelope, and nothing else does; policies and evidence are read from
//! nothing else. A signature counts in one of two ways:
//!
//! * by a **key** that is trusted: one of [`Trust::keys`] made it;
//! * by a **certificate**: the key of the leaf made it, a timestamp authority, or the promise of a transparency log,
//!   vouches for a time of this very signature, and at every such time the leaf was for signing code and led to one of
//!   [`Trust::roots`]. Without a proven time it does not count: what the clock says when somebody verifies says nothing
//!   about when somebody signed.
//!
//! Entries in transparency logs ride among the timestamps of a signature, in whatever form it comes. Whether there must be
//! one is the policy's question (security rule 13).
//!
//! Sources: DSSE v1, RFC 5280, RFC 3161, wire-formats §1.6, §5.3 and §7; the choices in `docs/decisions/009-chains.md`.

mod certificate;
mod chain;
mod constraint;
mod fulcio;
mod known;
mod material;
mod names;
mod proof;
mod raw;
pub mod timestamp;
mod work;

use std::fmt;

use jiff::Timestamp;

pub use self::certificate::{Certificate, CertificateError, MAX_CERTIFICATE, MAX_CERTIFICATES, MAX_NAMES};
pub(crate) use self::chain::Anchors;
pub use self::chain::{Anchor, Chain, ChainError, MAX_PATH, Purpose, chain};
pub use self::constraint::{Constraint, ConstraintError, MAX_VALUES, Mismatch};
pub use self::fulcio::EXTENSIONS;
use self::material::{Material, earliest};
pub use self::proof::{Identity, LogProblem, Note, SignerProof, distinct_identities};
use self::timestamp::{ProvenTime, TimestampError, Windows};
pub(crate) use self::work::Work;
use crate::dsse::{self, Envelope, FailedSignature, Signature, WrongPayloadType};
use crate::sign::{Message, PublicKey};
use crate::sigstore::{Log, Verifier, Window};

/// Reading a certificate or token costs at the most about as much as hashing it so many times: one of nothing but names
/// does.
pub(crate) const COST_OF_READING: u64 = 64;

/// Who is believed.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Keys whose signatures count by themselves.
    pub keys: Vec<PublicKey>,
    /// What certificates of signers must lead to.
    pub roots: Vec<Anchor>,
    /// What the signers of timestamps must lead to.
    pub authorities: Vec<Anchor>,
    /// When roots are trusted, by id: the proven time must be within; one that is not there always is.
    pub root_windows: Windows,
    /// The same of authorities, for the time of the token.
    pub authority_windows: Windows,
    /// Transparency logs whose entries count.
    pub logs: Vec<Log>,
    /// Logs of certificates. Nothing here asks for them: whoever demands that a certificate be logged does.
    pub ct_logs: Vec<Log>,
}

/// A value whose signatures were checked, with those that hold; at least one does. Made only by [`Trust::check`], and from
/// another checked value.
#[derive(Clone)]
pub struct Checked<T> {
    value: T,
    signers: Vec<SignerProof>,
    refused: Vec<RefusedSignature>,
}

/// A signature that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedSignature {
    /// Its place in the envelope.
    pub index: usize,
    /// Who is said to have signed; unproven.
    pub key_id: String,
    /// Why it does not count.
    pub reason: Reason,
    /// What else did not hold.
    pub notes: Vec<Note>,
}

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It has no certificate, and no key is trusted.
    #[error("it has no certificate, and no public key is trusted")]
    NoKey,
    /// It has the key id of a trusted key, but is not by it over this payload.
    #[error("it is not by its key {} over this payload: something was altered", shown(.key_id))]
    Altered {
        /// The key id.
        key_id: String,
    },
    /// No trusted key made it.
    #[error("it is by none of the trusted keys{}", claimed(.key_id))]
    UnknownKey {
        /// The key id that it has; may be empty.
        key_id: String,
    },
    /// Its certificate cannot be read.
    #[error("its certificate cannot be read: {reason}")]
    Certificate {
        /// Why.
        #[source]
        reason: CertificateError,
    },
    /// It has a certificate, and no root is trusted that one could lead to.
    #[error("it has a certificate (`{subject}`), and no root is trusted")]
    NoRoot {
        /// The subject of the certificate.
        subject: String,
    },
    /// Its certificate counts only at a proven time, and there is none.
    #[error("the time of its certificate (`{subject}`) is not proven: {problem}")]
    NoTime {
        /// The subject of the certificate.
        subject: String,
        /// Why not.
        problem: NoTime,
    },
    /// Its certificate leads nowhere, or must not be used for this.
    #[error("its certificate does not count: {reason}")]
    Chain {
        /// Why.
        #[source]
        reason: ChainError,
    },
    /// Its certificate leads to a root that is not trusted for the time.
    #[error("its certificate (`{subject}`) leads to `{root}`, which is trusted only {window}; it was signed at {at}")]
    Window {
        /// The subject of the certificate.
        subject: String,
        /// The id of the root.
        root: String,
        /// When it is trusted.
        window: Window,
        /// The proven time.
        at: Timestamp,
    },
    /// The key of its certificate did not make it.
    #[error("it is not by the key of its certificate (`{subject}`) over this payload: something was altered")]
    NotByCertificate {
        /// The subject of the certificate.
        subject: String,
    },
    /// The work for one envelope is used up.
    #[error("the envelope has more to check than is checked for one envelope")]
    TooMuchWork,
}

/// Why no time is proven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTime {
    /// There is no timestamp.
    #[error("it has no timestamp")]
    NoTimestamp,
    /// It is in a log, which does not say when.
    #[error("it has no timestamp, and the log that has it promises no time")]
    NoPromise,
    /// There is no timestamp, and the log entry does not hold.
    #[error("it has no timestamp, and its log entry proves nothing: {first}")]
    Log {
        /// What is wrong with the first entry.
        #[source]
        first: Box<LogProblem>,
    },
    /// There is nobody to believe.
    #[error("it has a timestamp, but no timestamp authority is trusted")]
    NoAuthority,
    /// No timestamp holds.
    #[error("{}{first}", one_of(*.count))]
    NoneHolds {
        /// How many there are.
        count: usize,
        /// What is wrong with the first.
        #[source]
        first: TimestampError,
    },
}

fn claimed(key_id: &str) -> String {
    if key_id.is_empty() { String::new() } else { format!(" (it names {})", shown(key_id)) }
}

/// A key id out of a stranger's file, cut and escaped for a message.
fn shown(key_id: &str) -> String {
    const SHOWN: usize = 128;
    key_id.escape_debug().take(SHOWN).collect()
}

fn one_of(count: usize) -> String {
    if count == 1 { String::new() } else { format!("none of {count} timestamps holds; the first: ") }
}

impl Reason {
    /// What would make the signature count, as an instruction; for the reader of a denial.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoKey | Self::UnknownKey { .. } => {
                "if its signer is to be trusted, give the public key; else have it signed by one that is"
            }
            Self::Altered { .. } | Self::NotByCertificate { .. } => "get the file anew from where it was signed",
            Self::Certificate { .. } => "have it signed again with a certificate that is whole",
            Self::NoRoot { .. } => "give the root certificate that the signer's certificate leads to",
            Self::NoTime { problem: NoTime::Log { .. }, .. } => {
                "name the log in `transparencyLogs` of the policy, or have it signed again with a timestamp"
            }
            Self::Window { .. } => "have it signed again with a certificate of a root that is in use",
            Self::NoTime { problem: NoTime::NoTimestamp | NoTime::NoPromise, .. } => {
                "have it signed again with a timestamp (`--timestamp-servers`)"
            }
            Self::NoTime { problem: NoTime::NoAuthority, .. } => {
                "give the certificate of the timestamp authority that the signer used"
            }
            Self::NoTime { .. } => {
                "give the certificate of the authority that made the timestamp, or have it signed again with a timestamp of one that is trusted"
            }
            Self::Chain { reason } => reason.remedy(),
            Self::TooMuchWork => "remove signatures, certificates and timestamps that are not needed",
        }
    }
}

impl fmt::Display for RefusedSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signature {}: {}", self.index, self.reason)
    }
}

/// No signature of an envelope counts; the envelope comes back, unproven.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// The envelope as it was given.
    pub envelope: Envelope,
    /// Why.
    #[source]
    pub reason: CheckError,
}

/// Why no signature counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The envelope has no signature.
    #[error("the envelope has no signature")]
    NoSignature,
    /// Nobody is trusted.
    #[error("there is neither a public key nor a root certificate to check the envelope with")]
    NoTrust,
    /// None of the signatures counts.
    #[error("no signature of the envelope counts: {}", list(.refused))]
    NoneCounts {
        /// Each signature with its reason.
        refused: Vec<RefusedSignature>,
    },
}

fn list(refused: &[RefusedSignature]) -> String {
    const SHOWN: usize = 3;
    let mut parts: Vec<String> = refused.iter().take(SHOWN).map(ToString::to_string).collect();
    if refused.len() > SHOWN {
        parts.push(format!("and {} more", refused.len() - SHOWN));
    }
    parts.join("; ")
}

impl Trust {
    /// Whether nobody is trusted, so that no signature can count.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.roots.is_empty()
    }

    /// Checks every signature of `envelope`.
    ///
    /// A signature with a certificate is judged by it first; when that does not count, and for those without one, the
    /// keys with its key id are tried, or all when none has it. A timestamp that holds also proves the time of a
    /// signature by a key. Anybody can add signatures, timestamps and certificates to an envelope, so one that does not
    /// hold is no error beside one that does: it is listed.
    ///
    /// # Errors
    /// The envelope and the reasons when no signature counts.
    pub fn check(&self, envelope: Envelope) -> Result<Checked<Envelope>, Box<Refused>> {
        match self.check_all(&envelope) {
            Ok((signers, refused)) => Ok(Checked { value: envelope, signers, refused }),
            Err(reason) => Err(Box::new(Refused { envelope, reason })),
        }
    }

    fn check_all(&self, envelope: &Envelope) -> Result<(Vec<SignerProof>, Vec<RefusedSignature>), CheckError> {
        if envelope.signatures.is_empty() {
            return Err(CheckError::NoSignature);
        }
        if self.is_empty() {
            return Err(CheckError::NoTrust);
        }
        let header = dsse::pae_header(&envelope.payload_type, envelope.payload.len());
        let parts: [&[u8]; 2] = [&header, &envelope.payload];
        let one = OneEnvelope {
            trust: self,
            message: Message::new(&parts),
            parts: &parts,
            envelope,
            payload: envelope.payload.len(),
            work: Work::new(dsse::MAX_COST),
        };
        let mut signers = Vec::new();
        let mut refused = Vec::new();
        for (index, signature) in envelope.signatures.iter().enumerate() {
            match one.check(index, signature) {
                Ok(proof) => signers.push(proof),
                Err(refusal) => refused.push(*refusal),
            }
        }
        if signers.is_empty() { Err(CheckError::NoneCounts { refused }) } else { Ok((signers, refused)) }
    }
}

/// What the checks of one envelope share.
struct OneEnvelope<'a> {
    trust: &'a Trust,
    message: Message<'a>,
    /// The parts of the message.
    parts: &'a [&'a [u8]],
    envelope: &'a Envelope,
    payload: usize,
    work: Work,
}

impl OneEnvelope<'_> {
    fn check(&self, index: usize, signature: &Signature) -> Result<SignerProof, Box<RefusedSignature>> {
        let mut notes = Vec::new();
        let material = self.material(signature, &mut notes);
        let mut reason = None;
        if let Some(pem) = &signature.certificate {
            match self.by_certificate(index, signature, pem, &material, &mut notes) {
                Ok(proof) => return Ok(SignerProof { notes, ..proof }),
                Err(why) => reason = Some(why),
            }
        }
        let key_id = signature.key_id.clone();
        let refused = |reason, notes| Box::new(RefusedSignature { index, key_id, reason, notes });
        if self.trust.keys.is_empty() {
            return Err(refused(reason.unwrap_or(Reason::NoKey), notes));
        }
        if self.work.spend(dsse::cost_of_keys(self.payload, signature, &self.trust.keys)).is_err() {
            return Err(refused(Reason::TooMuchWork, notes));
        }
        match dsse::by_keys(&self.message, index, signature, &self.trust.keys) {
            Ok(verified) => {
                let key = self.trust.keys.iter().find(|key| key.key_id() == verified.key_id);
                let logged = key.map(|key| self.logged(signature, Verifier::Key(key), &material, &mut notes));
                let logged = logged.unwrap_or_default();
                notes.extend(reason.map(|reason| Note::Certificate { reason }));
                let (key_id, scheme) = (verified.key_id, verified.scheme);
                Ok(SignerProof {
                    index,
                    key_id,
                    identity: Identity::Key,
                    time: earliest(&material.times, &logged).into_iter().next(),
                    stamped: material.times.iter().min().cloned(),
                    logged,
                    scheme,
                    notes,
                })
            }
            Err(failure) => Err(refused(reason.unwrap_or_else(|| Reason::of(failure)), notes)),
        }
    }

    fn by_certificate(
        &self,
        index: usize,
        signature: &Signature,
        pem: &[u8],
        material: &Material,
        notes: &mut Vec<Note>,
    ) -> Result<SignerProof, Reason> {
        let too_much = |_| Reason::TooMuchWork;
        self.work.spend(pem.len() as u64 * COST_OF_READING).map_err(too_much)?;
        let leaf = Certificate::read(pem).map_err(|reason| Reason::Certificate { reason })?;
        if self.trust.roots.is_empty() {
            return Err(Reason::NoRoot { subject: leaf.label() });
        }
        let logged = self.logged(signature, Verifier::Certificate(&leaf), material, notes);
        let times = earliest(&material.times, &logged);
        if times.is_empty() {
            let problem = match self.no_time(signature, notes) {
                NoTime::NoTimestamp if !logged.is_empty() => NoTime::NoPromise,
                problem => problem,
            };
            return Err(Reason::NoTime { subject: leaf.label(), problem });
        }
        let mut intermediates = Vec::new();
        for (place, pem) in signature.intermediates.iter().enumerate() {
            self.work.spend(pem.len() as u64 * COST_OF_READING).map_err(too_much)?;
            match Certificate::read(pem) {
                Ok(certificate) => intermediates.push(certificate),
                Err(error) => notes.push(Note::Intermediate { place, error }),
            }
        }
        let (time, chain) = self.chain_at(&leaf, &intermediates, &times)?;
        if !leaf.public_key().may_have_made(&signature.sig) {
            return Err(Reason::NotByCertificate { subject: leaf.label() });
        }
        let payload = if leaf.public_key().hashes_message() { self.payload as u64 } else { 0 };
        self.work.spend(payload).map_err(too_much)?;
        self.work.spend_check(leaf.public_key()).map_err(too_much)?;
        let scheme = leaf
            .public_key()
            .verify_message(&self.message, &signature.sig)
            .map_err(|_| Reason::NotByCertificate { subject: leaf.label() })?;
        let (key_id, identity) = (leaf.key_id().to_owned(), Identity::Certificate(chain));
        let stamped = material.times.iter().min().cloned();
        Ok(SignerProof { index, key_id, identity, time: Some(time), stamped, logged, scheme, notes: Vec::new() })
    }

    /// The earliest proven time, and the chain: there must be one at every time that is proven, and the roots that count
    /// are those that all of them lead to.
    fn chain_at(
        &self,
        leaf: &Certificate,
        intermediates: &[Certificate],
        times: &[ProvenTime],
    ) -> Result<(ProvenTime, Chain), Reason> {
        let no_anchor = || Reason::Chain { reason: ChainError::NoAnchor { subject: leaf.label() } };
        let mut whole: Option<Chain> = None;
        for time in times {
            let open = Anchors::open(&self.trust.roots, &self.trust.root_windows, time.time, |_| true);
            let found = open.chain(leaf, intermediates, time.time, Purpose::CodeSigning, &self.work);
            let found = found.map_err(|reason| {
                if open.bare.len() == self.trust.roots.len() {
                    Reason::Chain { reason }
                } else {
                    self.closed(leaf, intermediates, time.time, reason)
                }
            })?;
            match &mut whole {
                None => whole = Some(found),
                Some(chain) => chain.anchors.retain(|anchor| found.anchors.contains(anchor)),
            }
        }
        let chain = whole.filter(|chain| !chain.anchors.is_empty()).ok_or_else(no_anchor)?;
        times.first().map(|time| (time.clone(), chain)).ok_or_else(no_anchor)
    }

    /// Why there is no chain to those roots that are trusted at the time, where there are others; `reason` if it is not
    /// for the time.
    fn closed(&self, leaf: &Certificate, intermediates: &[Certificate], at: Timestamp, reason: ChainError) -> Reason {
        let window = |root: &String| self.trust.root_windows.get(root).copied().unwrap_or_default();
        let purpose = Purpose::CodeSigning;
        match chain::chain_within(leaf, intermediates, &self.trust.roots, at, purpose, &self.work) {
            Ok(chain) => match chain.anchors.into_iter().find(|root| !window(root).covers(at)) {
                Some(root) => Reason::Window { subject: leaf.label(), window: window(&root), root, at },
                None => Reason::Chain { reason },
            },
            Err(reason) => Reason::Chain { reason },
        }
    }
}

impl Reason {
    fn of(failure: FailedSignature) -> Self {
        let FailedSignature { key_id, mismatch, .. } = failure;
        match mismatch {
            dsse::Mismatch::Altered => Self::Altered { key_id },
            dsse::Mismatch::UnknownKey => Self::UnknownKey { key_id },
        }
    }
}

impl<T> fmt::Debug for Checked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signers, refused, .. } = self;
        f.debug_struct("Checked").field("signers", signers).field("refused", refused).finish_non_exhaustive()
    }
}

impl<T> Checked<T> {
    /// What was signed.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// What was signed, without who signed it.
    pub fn into_value(self) -> T {
        self.value
    }

    /// The signatures that count, in the order of the envelope; at least one. Not all need be by different signers: see
    /// [`distinct_identities`].
    pub fn signers(&self) -> &[SignerProof] {
        &self.signers
    }

    /// The signatures that do not count.
    pub fn refused(&self) -> &[RefusedSignature] {
        &self.refused
    }

    /// What is read from the value, signed by the same signers.
    pub fn try_map<U, E>(self, read: impl FnOnce(T) -> Result<U, E>) -> Result<Checked<U>, E> {
        let Self { value, signers, refused } = self;
        Ok(Checked { value: read(value)?, signers, refused })
    }
}

impl Checked<Envelope> {
    /// The payload, if it is of the type that the caller reads. A key that signs policies and evidence alike must not
    /// let one pass for the other.
    pub fn payload(&self, expected: &str) -> Result<&[u8], WrongPayloadType> {
        self.value.payload_of(expected)
    }
}

/// An error with its causes in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
pub(crate) mod tests;
