//! Whether a signature holds with all that must vouch for it, in the order of sigstore-oci §12: logs, times, certificate,
//! certificate transparency, identity, and the signature itself. What it says is judged by whoever asks.
//!
//! The clock is never asked: a certificate counts at the times that a log or a timestamp authority has signed, at each of
//! them. Logs and timestamps are demanded by whoever judges, never by the form in which a signature came (security rule
//! 13).

use std::cell::OnceCell;
use std::collections::BTreeSet;

use jiff::Timestamp;

use super::budget::{Budget, MAX_CHECKS, SHARE_CHECKS, Share};
use super::identity::{Identity, Mismatch, Wanted};
use super::time::proven_times_within;
use super::{Entry, EntryError, Logged, Signed, TrustedRoot, Verifier, check, check_scts};
use crate::dsse::Envelope;
use crate::image::keyed::{NoSignature, holds};
use crate::sign::PublicKey;
use crate::trust::timestamp::ProvenTime;
use crate::trust::{Anchors, Certificate, CertificateError, ChainError, Constraint, Purpose, Work};

/// Most certificates that a signature brings besides the signer's.
pub const MAX_CHAIN: usize = 32;

/// What the first look at a signature's certificate may cost, in bytes hashed: two or three checks of the costliest kind.
const FIRST_LOOK: u64 = 8 * 1024 * 1024;

/// What a signature brings besides itself; nothing of it is proven.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Material {
    /// The signer's certificate, PEM or DER.
    pub certificate: Option<Vec<u8>>,
    /// Certificates between it and a root, PEM (one or several) or DER.
    pub chain: Vec<Vec<u8>>,
    /// Entries of logs.
    pub entries: Vec<Entry>,
    /// Timestamps, `TimeStampResp` in DER.
    pub timestamps: Vec<Vec<u8>>,
    /// Proof of certificate transparency that is not in the certificate: Fulcio's JSON.
    pub detached_sct: Option<Vec<u8>>,
    /// What of it could not be read, and why.
    pub unread: Vec<String>,
}

/// A signature and the bytes that it is said to be over.
#[derive(Clone, Copy, Debug)]
pub struct Unproven<'a> {
    /// The bytes, in parts: a payload, or the pre-authentication encoding of an envelope.
    pub message: &'a [&'a [u8]],
    /// The signature.
    pub signature: &'a [u8],
    /// The envelope that the message was made of.
    pub envelope: Option<&'a Envelope>,
    /// The envelope's bytes as they are kept under a tag, which logs and authorities may have seen instead.
    pub envelope_bytes: Option<&'a [u8]>,
}

/// Who must have signed.
#[derive(Clone, Copy, Debug)]
pub enum Signer<'a> {
    /// A key.
    Key(&'a PublicKey),
    /// The holder of a certificate.
    Certificate(&'a Keyless),
}

/// Whose certificates count.
#[derive(Clone, Debug)]
pub enum Whose {
    /// Those of somebody whom flags describe.
    Wanted(Wanted),
    /// Those that meet one of a policy's constraints, which are asked by whoever reads the policy, with all that was
    /// proven. Here they only say which certificates can be the right ones.
    OneOf(Vec<Constraint>),
}

impl From<Wanted> for Whose {
    fn from(wanted: Wanted) -> Self {
        Self::Wanted(wanted)
    }
}

impl Whose {
    /// Whether a certificate that nobody has proven yet can be the right one.
    fn may_be(&self, leaf: &Certificate) -> bool {
        match self {
            Self::Wanted(wanted) => wanted.check(leaf).is_ok(),
            Self::OneOf(constraints) => constraints.iter().any(|constraint| constraint.may_be(leaf)),
        }
    }

    /// Whose a proven certificate is.
    fn check(&self, leaf: &Certificate) -> Result<Identity, Box<Mismatch>> {
        match self {
            Self::Wanted(wanted) => wanted.check(leaf),
            Self::OneOf(_) => Ok(Identity::loosely(leaf)),
        }
    }
}

/// Which certificates count.
#[derive(Clone, Debug)]
pub struct Keyless {
    /// Whose.
    pub whose: Whose,
    /// The certificate itself, where it is known: a signature that brings another does not count.
    pub certificate: Option<Certificate>,
    /// Whether certificate transparency must vouch for it.
    pub sct: bool,
    /// Its proof that it was seen by a log of certificates, where that was kept beside: Fulcio's JSON.
    pub detached_sct: Option<Vec<u8>>,
}

impl Keyless {
    /// Whether the certificate that a signature brings can be the right one, proven or not; else whose it is said to be,
    /// where it brings one.
    pub(crate) fn may_be_theirs(&self, material: &Material) -> Result<(), Option<Identity>> {
        let leaf = leaf(material, self).map_err(|_| None)?;
        if self.whose.may_be(&leaf) { Ok(()) } else { Err(Some(Identity::loosely(&leaf))) }
    }
}

/// What is demanded of a signature.
#[derive(Clone, Copy, Debug)]
pub struct Demands<'a> {
    /// Who must have signed.
    pub signer: Signer<'a>,
    /// Which logs and authorities are believed.
    pub root: &'a TrustedRoot,
    /// In how many logs of it the signature must be.
    pub logs: usize,
    /// How many of its timestamp authorities must have seen the signature.
    pub timestamps: usize,
    /// What may still be spent on checks, where strangers decide how many there are.
    pub share: Option<&'a Share<'a>>,
}

/// What holds of a signature.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// Whose certificate it is; nothing where a key has signed.
    pub identity: Option<Identity>,
    /// The certificate and those above it, the trusted one last; empty where a key has signed.
    pub path: Vec<Certificate>,
    /// The ids of the authorities that it leads to, at each of the times.
    pub anchors: Vec<String>,
    /// The entries that hold: their places in [`Material::entries`], and what they prove.
    pub logged: Vec<(usize, Logged)>,
    /// The timestamps that hold: their places in [`Material::timestamps`], and what they prove.
    pub stamped: Vec<(usize, ProvenTime)>,
    /// How many logs of certificates vouch for the certificate.
    pub scts: usize,
    /// What was there, does not hold, and was not needed.
    pub notes: Vec<String>,
}

impl Proof {
    /// All times that are proven, earliest first.
    pub fn times(&self) -> BTreeSet<Timestamp> {
        let logged = self.logged.iter().filter_map(|(_, logged)| logged.time);
        logged.chain(self.stamped.iter().map(|(_, proven)| proven.time)).collect()
    }
}

/// A signature does not have what is demanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A certificate is demanded.
    #[error("it has no certificate, and one is demanded{}", also(.unread))]
    NoCertificate {
        /// What could not be read.
        unread: Vec<String>,
    },
    /// The certificate cannot be read.
    #[error("its certificate cannot be read: {reason}")]
    Certificate {
        /// Why.
        #[source]
        reason: CertificateError,
    },
    /// A certificate was named, and it brings another.
    #[error("it brings another certificate than the one that was given")]
    OtherCertificate,
    /// It is not in the logs that are demanded.
    #[error("no entry of a trusted log that holds: {reason}")]
    Log {
        /// Whether it brings an entry.
        has: bool,
        /// Whether its certificate cannot be the right one either.
        of_stranger: bool,
        /// Why.
        reason: String,
    },
    /// A timestamp is demanded.
    #[error("no timestamp that holds: {reason}")]
    Time {
        /// Why.
        reason: String,
    },
    /// A certificate counts only at a proven time.
    #[error("nothing proves when it was signed, so its certificate does not count: {reason}")]
    NoTime {
        /// Why.
        reason: String,
    },
    /// No certificate authority is believed at a time that is proven.
    #[error("no certificate authority is trusted at {at}{}", when(.windows))]
    Authority {
        /// The time.
        at: Timestamp,
        /// When those that there are would be.
        windows: Vec<String>,
    },
    /// The certificate leads to no authority, or was not valid then.
    #[error("its certificate does not count at {at}: {reason}")]
    Chain {
        /// The time that is proven.
        at: Timestamp,
        /// Why.
        #[source]
        reason: ChainError,
    },
    /// No log of certificates vouches for the certificate.
    #[error("no log of certificates vouches for its certificate: {reason}")]
    Sct {
        /// Why.
        reason: String,
    },
    /// The certificate is of somebody else.
    #[error(transparent)]
    Identity(#[from] Box<Mismatch>),
    /// The signature is not one of the key.
    #[error(transparent)]
    Signature(#[from] NoSignature),
    /// A first look shows that it does not count, and so many like it are kept that none of them is looked at again.
    #[error("{reason} (not looked at any further: too many of others are kept about the image)")]
    Stranger {
        /// What the first look shows; nobody has proven it.
        reason: String,
    },
    /// More is kept about the image than is checked.
    #[error(
        "it brings more than {SHARE_CHECKS} log entries and timestamps, and the {MAX_CHECKS} that are checked for all signatures of the image together are used up; no more are checked"
    )]
    Budget,
    /// Strangers have signed more than is checked.
    #[error(
        "more signatures than are checked are kept about the image, or they are over too much; no more are checked"
    )]
    Signatures,
}

fn also(unread: &[String]) -> String {
    unread.iter().flat_map(|one| ["; ", one]).collect()
}

fn when(windows: &[String]) -> String {
    if windows.is_empty() { ": the trusted root has none".to_owned() } else { format!("; {}", windows.join(", ")) }
}

/// Judges a signature with what it brings.
pub fn judge(material: &Material, unproven: &Unproven<'_>, demands: &Demands<'_>) -> Result<Proof, Refused> {
    let budget = Budget::default();
    let own = budget.share();
    let share = demands.share.unwrap_or(&own);
    share.spend_signature(unproven.message)?;
    // First, where the key is known: what a stranger brings then costs nothing.
    if let Signer::Key(key) = demands.signer {
        holds(key, unproven.message, unproven.signature)?;
    }
    let leaf = match demands.signer {
        Signer::Key(_) => None,
        Signer::Certificate(keyless) => Some(leaf(material, keyless)?),
    };
    let once = OnceCell::new();
    let held =
        |leaf: &Certificate| *once.get_or_init(|| holds(leaf.public_key(), unproven.message, unproven.signature));
    let doubt = match (demands.signer, &leaf) {
        (Signer::Certificate(keyless), Some(leaf)) => doubt(material, leaf, keyless, demands.root, held),
        _ => None,
    };
    let work = match &doubt {
        None => share.spend_checks(material)?,
        // Judged all the same while there is room: what is said of it is then proven.
        Some(reason) => {
            share.spend_on_stranger(material).ok_or_else(|| Refused::Stranger { reason: reason.clone() })?
        }
    };
    let verifier = match (demands.signer, &leaf) {
        (Signer::Key(key), _) => Verifier::Key(key),
        (Signer::Certificate(_), Some(leaf)) => Verifier::Certificate(leaf),
        (Signer::Certificate(_), None) => return Err(Refused::NoCertificate { unread: material.unread.clone() }),
    };
    let mut proof = Proof { notes: material.unread.clone(), ..Proof::default() };
    // Logs without promises prove no time: whether their key was trusted is asked for the times of timestamps.
    let mut no_stamp = None;
    for (place, response) in material.timestamps.iter().enumerate() {
        match stamped(response, unproven, demands.root, work) {
            Ok(time) => proof.stamped.push((place, time)),
            Err(reason) => {
                proof.notes.push(format!("timestamp {place}: {reason}"));
                no_stamp.get_or_insert(reason);
            }
        }
    }
    logs(material, unproven, verifier, demands, doubt.is_some(), &mut proof)?;
    let no_stamp = no_stamp.unwrap_or_else(|| "it has no timestamp".to_owned());
    let authorities: BTreeSet<&str> = proof.stamped.iter().map(|(_, time)| time.authority.as_str()).collect();
    if authorities.len() < demands.timestamps {
        let reason = match authorities.len() {
            0 => no_stamp,
            1 => format!("{} authorities must vouch for the time, and 1 does", demands.timestamps),
            found => format!("{} authorities must vouch for the time, and {found} do", demands.timestamps),
        };
        return Err(Refused::Time { reason });
    }
    if let (Signer::Certificate(keyless), Some(leaf)) = (demands.signer, leaf.as_ref()) {
        certificate(material, leaf, keyless, (demands.root, work), no_stamp, &mut proof)?;
        // Before the identity: what a mismatch tells is then who has really signed.
        held(leaf)?;
        proof.identity = Some(keyless.whose.check(leaf)?);
    }
    Ok(proof)
}

/// The signer's certificate.
fn leaf(material: &Material, keyless: &Keyless) -> Result<Certificate, Refused> {
    let brought = material.certificate.as_ref().map(|bytes| Certificate::read(bytes));
    match (brought.transpose().map_err(|reason| Refused::Certificate { reason })?, &keyless.certificate) {
        (Some(brought), Some(given)) if brought != *given => Err(Refused::OtherCertificate),
        (Some(leaf), _) => Ok(leaf),
        (None, Some(given)) => Ok(given.clone()),
        (None, None) => Err(Refused::NoCertificate { unread: material.unread.clone() }),
    }
}

/// The time that an authority vouches for. Under a tag the whole envelope may have been stamped, as cosign v2 does, or
/// the signature, as v3 does.
fn stamped(response: &[u8], unproven: &Unproven<'_>, root: &TrustedRoot, work: &Work) -> Result<ProvenTime, String> {
    let responses = [response.to_vec()];
    let earliest = |message: &[u8]| {
        let times = proven_times_within(&responses, message, &root.timestamp_authorities, work)?;
        times.into_iter().next().ok_or_else(|| "it proves nothing".to_owned())
    };
    let over_signature = earliest(unproven.signature);
    match (over_signature, unproven.envelope_bytes) {
        (Err(reason), Some(bytes)) => earliest(bytes).map_err(|_| reason),
        (result, _) => result,
    }
}

/// Checks every entry. One of a trusted log that does not hold is an error where logs are demanded, even beside one that
/// does: nobody writes such a thing.
fn logs(
    material: &Material,
    unproven: &Unproven<'_>,
    verifier: Verifier<'_>,
    demands: &Demands<'_>,
    of_stranger: bool,
    proof: &mut Proof,
) -> Result<(), Refused> {
    let refused = |reason: String| Refused::Log { has: !material.entries.is_empty(), of_stranger, reason };
    let mut signed = Signed::new(unproven.message, unproven.signature, verifier);
    if let Some(envelope) = unproven.envelope {
        signed = signed.with_envelope(envelope);
    }
    if let Some(bytes) = unproven.envelope_bytes {
        signed = signed.with_envelope_bytes(bytes);
    }
    let times: Vec<Timestamp> = proof.stamped.iter().map(|(_, proven)| proven.time).collect();
    let mut why = None;
    for (place, entry) in material.entries.iter().enumerate() {
        match check(entry, &signed, &demands.root.logs, &times) {
            Ok(logged) => proof.logged.push((place, logged)),
            Err(error) => {
                let is_stranger = matches!(error, EntryError::NoLogs | EntryError::UnknownLog { .. });
                if demands.logs > 0 && !is_stranger {
                    return Err(refused(error.to_string()));
                }
                proof.notes.push(format!("log entry {place}: {error}"));
                why.get_or_insert(error.to_string());
            }
        }
    }
    let logs: BTreeSet<&[u8]> = proof.logged.iter().map(|(_, logged)| &*logged.log_id).collect();
    if logs.len() >= demands.logs {
        return Ok(());
    }
    let unread = material.unread.first().cloned();
    Err(refused(match logs.len() {
        0 => why.or(unread).unwrap_or_else(|| "it has no log entry, and one is demanded".to_owned()),
        found => format!("it must be in {} logs, and it is in {found}", demands.logs),
    }))
}

/// Why a signature cannot be the right one, by what costs little to look at: the names in its certificate, whether the
/// certificate's key made it, and where it brings more than its share also whether an authority that is believed has
/// issued the certificate. Whether the times are right is not asked.
fn doubt(
    material: &Material,
    leaf: &Certificate,
    keyless: &Keyless,
    root: &TrustedRoot,
    held: impl Fn(&Certificate) -> Result<(), NoSignature>,
) -> Option<String> {
    if !keyless.whose.may_be(leaf) {
        return Some(format!("its certificate says that it is of {}", Identity::loosely(leaf)));
    }
    if let Err(reason) = held(leaf) {
        return Some(reason.to_string());
    }
    if material.entries.len() + material.timestamps.len() <= SHARE_CHECKS {
        return None;
    }
    let intermediates = intermediates(material, &mut Vec::new());
    let (anchors, work) = (anchors(root, |_| true), Work::new(FIRST_LOOK));
    let chain = anchors.chain(leaf, &intermediates, leaf.not_before(), Purpose::CodeSigning, &work);
    chain.err().map(|reason| format!("its certificate does not count: {reason}"))
}

/// The certificates that a signature brings beside the signer's.
fn intermediates(material: &Material, notes: &mut Vec<String>) -> Vec<Certificate> {
    let mut intermediates = Vec::new();
    for bytes in &material.chain {
        match Certificate::read_all(bytes) {
            Ok(read) if intermediates.len() + read.len() <= MAX_CHAIN => intermediates.extend(read),
            Ok(_) => notes.push(format!("more than {MAX_CHAIN} certificates beside the signer's")),
            Err(error) => notes.push(format!("a certificate beside the signer's: {error}")),
        }
    }
    intermediates
}

/// The authorities that are believed.
fn anchors(root: &TrustedRoot, is_believed: impl Fn(&super::Authority) -> bool) -> Anchors {
    let believed = root.authorities.iter().filter(|authority| is_believed(authority));
    // One root may stand above several authorities: those that name intermediates are not reached by others.
    let (bare, whole) =
        believed.map(|authority| authority.anchor.clone()).partition(|anchor| anchor.intermediates.is_empty());
    Anchors { whole, bare }
}

/// Whether the certificate counts: at every proven time, and seen by a log of certificates.
fn certificate(
    material: &Material,
    leaf: &Certificate,
    keyless: &Keyless,
    (root, work): (&TrustedRoot, &Work),
    no_stamp: String,
    proof: &mut Proof,
) -> Result<(), Refused> {
    let times = proof.times();
    if times.is_empty() {
        let reason = match (material.timestamps.is_empty(), proof.logged.is_empty()) {
            (false, _) => no_stamp,
            (true, true) => "it has no timestamp, and no log entry with a signed time that holds".to_owned(),
            (true, false) => "its log entry has no signed time, and there is no timestamp".to_owned(),
        };
        return Err(Refused::NoTime { reason });
    }
    let intermediates = intermediates(material, &mut proof.notes);
    for at in times {
        let anchors = anchors(root, |authority| authority.window.covers(at));
        if anchors.is_empty() {
            let window =
                |authority: &super::Authority| format!("{} is trusted {}", authority.anchor.id, authority.window);
            return Err(Refused::Authority { at, windows: root.authorities.iter().map(window).collect() });
        }
        let chain = anchors
            .chain(leaf, &intermediates, at, Purpose::CodeSigning, work)
            .map_err(|reason| Refused::Chain { at, reason })?;
        if proof.path.is_empty() {
            (proof.path, proof.anchors) = (chain.path, chain.anchors);
        } else {
            proof.anchors.retain(|anchor| chain.anchors.contains(anchor));
            if proof.anchors.is_empty() {
                // Each time has an authority, and no authority all times: as at the gate, that is none.
                let reason = ChainError::NoAnchor { subject: leaf.label() };
                return Err(Refused::Chain { at, reason });
            }
        }
    }
    if keyless.sct {
        let refused = |reason: String| Refused::Sct { reason };
        let issuer = proof.path.get(1).ok_or_else(|| refused("its issuer is not known".to_owned()))?;
        let detached = keyless.detached_sct.as_deref().or(material.detached_sct.as_deref());
        proof.scts = check_scts(leaf, issuer, &root.ct_logs, detached).map_err(|error| refused(error.to_string()))?;
    }
    Ok(())
}
