//! Checking the signatures of an envelope with public keys.
//!
//! Certificates are not looked at here: a signature that has one also counts when its key is one of those given, as
//! with both peers.

use std::collections::BTreeSet;
use std::fmt;

use super::{Envelope, Signature, pae_header};
use crate::sign::{Message, PublicKey, Scheme};

/// Most that is spent on one envelope, in bytes hashed: about ten seconds. Fifty keys on a payload of 300 MB, or sixty on
/// a thousand signatures, stay below it; a stranger who adds a thousand signatures to a large payload does not get hours.
pub(crate) const MAX_COST: u64 = 16 * 1024 * 1024 * 1024;

/// An envelope of which at least one signature holds for one of the keys asked for. Made only by [`Envelope::verify`].
#[derive(Clone, Debug)]
pub struct Verified {
    envelope: Envelope,
    signatures: Vec<VerifiedSignature>,
    failed: Vec<FailedSignature>,
}

/// A signature that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSignature {
    /// Its place in the envelope.
    pub index: usize,
    /// The place of its key among those asked for.
    pub key: usize,
    /// The id of that key, computed from it: not what the envelope says.
    pub key_id: String,
    /// How it was made, for callers that allow less than [`PublicKey::verify`].
    pub scheme: Scheme,
}

/// A signature that does not hold for any of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedSignature {
    /// Its place in the envelope.
    pub index: usize,
    /// What the envelope says who signed; unproven.
    pub key_id: String,
    /// Why.
    pub mismatch: Mismatch,
}

/// Why a signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Its key id is that of one of the keys, but the signature is not by this key over this payload and type:
    /// something was altered.
    Altered,
    /// Its key id is none of the keys', and none of the keys made it.
    UnknownKey,
}

impl fmt::Display for FailedSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, key_id, mismatch } = self;
        let key_id = key_id.escape_debug();
        match mismatch {
            Mismatch::Altered => write!(f, "signature {index} is not by its key {key_id} over this payload"),
            Mismatch::UnknownKey if self.key_id.is_empty() => write!(f, "signature {index} is by none of the keys"),
            Mismatch::UnknownKey => write!(f, "signature {index} is by another key ({key_id})"),
        }
    }
}

/// No signature of an envelope holds; the envelope comes back, unproven.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Unverified {
    /// The envelope as it was given.
    pub envelope: Envelope,
    /// Why.
    #[source]
    pub reason: VerifyError,
}

/// Why no signature counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The envelope has no signature.
    #[error("the envelope has no signature")]
    NoSignature,
    /// There is no key to check with.
    #[error("there is no public key to check the envelope with")]
    NoKey,
    /// None of the signatures holds.
    #[error("no signature of the envelope holds: {}", list(.failed))]
    NoneHolds {
        /// Each signature with its reason.
        failed: Vec<FailedSignature>,
    },
    /// Too many signatures and keys for so large a payload.
    #[error("checking {signatures} signatures with {keys} keys over {payload} bytes would take too long")]
    TooMuchWork {
        /// Number of signatures.
        signatures: usize,
        /// Number of keys.
        keys: usize,
        /// Size of the payload in bytes.
        payload: usize,
    },
}

/// The payload is of another type than the caller reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload type is `{}`, expected `{expected}`", .found.escape_debug())]
pub struct WrongPayloadType {
    /// What was signed.
    pub found: String,
    /// What the caller reads.
    pub expected: String,
}

fn list(failed: &[FailedSignature]) -> String {
    const SHOWN: usize = 3;
    let mut parts: Vec<String> = failed.iter().take(SHOWN).map(ToString::to_string).collect();
    if failed.len() > SHOWN {
        parts.push(format!("and {} more", failed.len() - SHOWN));
    }
    parts.join("; ")
}

impl Envelope {
    /// Checks the signatures with `keys`.
    ///
    /// The key id of a signature chooses the keys with that id, which must then prove it; when no key has that id, all
    /// are tried, because both peers do not look at it and cosign leaves it empty.
    ///
    /// # Errors
    /// The envelope and the reason when no signature holds. A signature that does not hold beside one that does is no
    /// error: see [`Verified::failed`].
    pub fn verify(self, keys: &[PublicKey]) -> Result<Verified, Box<Unverified>> {
        match check(&self, keys) {
            Ok((signatures, failed)) => Ok(Verified { envelope: self, signatures, failed }),
            Err(reason) => Err(Box::new(Unverified { envelope: self, reason })),
        }
    }
}

impl Envelope {
    /// The payload, if it is of this type; for those who know who signed it.
    pub(crate) fn payload_of(&self, expected: &str) -> Result<&[u8], WrongPayloadType> {
        if self.payload_type == expected {
            Ok(&self.payload)
        } else {
            Err(WrongPayloadType { found: self.payload_type.clone(), expected: expected.to_owned() })
        }
    }
}

fn check(
    envelope: &Envelope,
    keys: &[PublicKey],
) -> Result<(Vec<VerifiedSignature>, Vec<FailedSignature>), VerifyError> {
    if envelope.signatures.is_empty() {
        return Err(VerifyError::NoSignature);
    }
    if keys.is_empty() {
        return Err(VerifyError::NoKey);
    }
    let header = pae_header(&envelope.payload_type, envelope.payload.len());
    let parts: [&[u8]; 2] = [&header, &envelope.payload];
    let message = Message::new(&parts);
    if worst_cost(envelope, keys) > MAX_COST {
        let (signatures, payload) = (envelope.signatures.len(), envelope.payload.len());
        return Err(VerifyError::TooMuchWork { signatures, keys: keys.len(), payload });
    }
    let mut verified = Vec::new();
    let mut failed = Vec::new();
    for (index, signature) in envelope.signatures.iter().enumerate() {
        match by_keys(&message, index, signature, keys) {
            Ok(signature) => verified.push(signature),
            Err(failure) => failed.push(failure),
        }
    }
    if verified.is_empty() { Err(VerifyError::NoneHolds { failed }) } else { Ok((verified, failed)) }
}

/// Checks one signature with `keys`: those with its key id, or all when none has it.
pub(crate) fn by_keys(
    message: &Message<'_>,
    index: usize,
    signature: &Signature,
    keys: &[PublicKey],
) -> Result<VerifiedSignature, FailedSignature> {
    let holds = candidates(signature, keys).find_map(|(place, key)| {
        let scheme = key.verify_message(message, &signature.sig).ok()?;
        Some(VerifiedSignature { index, key: place, key_id: key.key_id().to_owned(), scheme })
    });
    holds.ok_or_else(|| {
        let mismatch = if is_named(signature, keys) { Mismatch::Altered } else { Mismatch::UnknownKey };
        FailedSignature { index, key_id: signature.key_id.clone(), mismatch }
    })
}

fn is_named(signature: &Signature, keys: &[PublicKey]) -> bool {
    keys.iter().any(|key| key.key_id() == signature.key_id)
}

/// The keys that may have made `signature`, with their places.
fn candidates<'a>(signature: &'a Signature, keys: &'a [PublicKey]) -> impl Iterator<Item = (usize, &'a PublicKey)> {
    let named = is_named(signature, keys);
    keys.iter()
        .enumerate()
        .filter(move |(_, key)| !named || key.key_id() == signature.key_id)
        .filter(|(_, key)| key.may_have_made(&signature.sig))
}

/// What checking costs when no signature holds, in bytes hashed.
fn worst_cost(envelope: &Envelope, keys: &[PublicKey]) -> u64 {
    let cost = |signature| cost_of_keys(envelope.payload.len(), signature, keys);
    envelope.signatures.iter().map(cost).fold(0, u64::saturating_add)
}

/// What [`by_keys`] costs when the signature does not hold, in bytes hashed. Ed25519 hashes the payload at each try.
pub(crate) fn cost_of_keys(payload: usize, signature: &Signature, keys: &[PublicKey]) -> u64 {
    let payload = payload as u64;
    let cost = |key: &PublicKey| key.cost_of_check() + if key.hashes_message() { payload } else { 0 };
    candidates(signature, keys).map(|(_, key)| cost(key)).fold(0, u64::saturating_add)
}

impl Verified {
    /// The envelope.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The envelope, given back.
    pub fn into_envelope(self) -> Envelope {
        self.envelope
    }

    /// The payload, if it is of the type that the caller reads. A key that signs policies and evidence alike must not
    /// let one pass for the other.
    pub fn payload(&self, expected: &str) -> Result<&[u8], WrongPayloadType> {
        self.envelope.payload_of(expected)
    }

    /// The signatures that hold, in the order of the envelope; at least one.
    pub fn signatures(&self) -> &[VerifiedSignature] {
        &self.signatures
    }

    /// The signatures that do not hold.
    pub fn failed(&self) -> &[FailedSignature] {
        &self.failed
    }

    /// The ids of the keys that signed, each once however often it signed: what thresholds count.
    pub fn key_ids(&self) -> BTreeSet<&str> {
        self.signatures.iter().map(|signature| signature.key_id.as_str()).collect()
    }
}
