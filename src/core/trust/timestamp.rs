//! RFC 3161 timestamps: proof that a signature existed at a time.
//!
//! A token is a CMS `SignedData` (RFC 5652) around a `TSTInfo`. It is checked from the cheap to the costly: first whether
//! it speaks of this signature at all, then its attributes, then the chain of its signer, then its signature.

mod token;

use std::collections::BTreeMap;

use jiff::Timestamp;

use self::token::{SignerId, Token};
use super::certificate::{Certificate, CertificateError};
use super::chain::{Anchor, Anchors, ChainError, Purpose, chain_within};
use super::work::Work;
use crate::sign::authority::{Algorithm, Hash};
use crate::sigstore::Window;

/// Largest token that is read, in bytes. One with a chain of four certificates has less than 10 kB.
pub const MAX_TOKEN: usize = 128 * 1024;
/// Most certificates in the bag of a token.
pub const MAX_BAG: usize = 32;
/// From when until when authorities are trusted, by [`Anchor::id`]; one that is not there always is.
pub type Windows = BTreeMap<String, Window>;

/// What one token may cost when nobody counts over several.
const COST_OF_ONE: u64 = 1024 * 1024 * 1024;

/// A time that an authority vouches for: the signature existed then. It may have been made earlier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProvenTime {
    /// The time of the token (`genTime`).
    pub time: Timestamp,
    /// The [`Anchor::id`] of the authority.
    pub authority: String,
}

/// A token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// There is nobody to believe.
    #[error("no timestamp authority is trusted")]
    NoAuthority,
    /// The type of the timestamp is not one that is known.
    #[error("a timestamp of type `{}` is not supported", .kind.escape_debug())]
    UnknownKind {
        /// Its type.
        kind: String,
    },
    /// Larger than [`MAX_TOKEN`].
    #[error("the token has {size} bytes, the limit is {MAX_TOKEN}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Not an RFC 3161 token.
    #[error("not a timestamp token: {reason}")]
    Damaged {
        /// Which part, and how.
        reason: String,
    },
    /// A part of it is of a kind that is not supported.
    #[error("the token has {what}, which is not supported")]
    Unsupported {
        /// Which part.
        what: String,
    },
    /// The token speaks of other bytes.
    #[error("the token is for another signature")]
    OtherMessage,
    /// A certificate in the token cannot be read.
    #[error("a certificate in the token cannot be read: {reason}")]
    Certificate {
        /// Why.
        #[source]
        reason: CertificateError,
    },
    /// The certificate of the signer is not in the token; or not among those of the authorities, if the token has none.
    #[error("the certificate of the token's signer is missing")]
    NoCertificate,
    /// The token names another certificate than the one that its signer id leads to.
    #[error("the token was signed with another certificate than the one it names")]
    OtherCertificate,
    /// What is signed is not what the token contains.
    #[error("the content of the token was altered")]
    Altered,
    /// The signature is not by the key of the certificate.
    #[error("the signature of the token is not by the key of its certificate")]
    BadSignature,
    /// The certificate of the signer leads to no trusted authority at the time of the token.
    #[error("the signer of the token is not a trusted authority: {reason}")]
    Chain {
        /// Why.
        #[source]
        reason: ChainError,
    },
    /// The authority is trusted, but not for the time of the token.
    #[error("the authority `{authority}` is trusted only {window}, and the token is of {time}")]
    Window {
        /// The id of the authority.
        authority: String,
        /// When it is trusted.
        window: Window,
        /// The time of the token.
        time: Timestamp,
    },
    /// The authority names the certificate that it signs with, and the token is by another.
    #[error("the token is not by the certificate that the authority `{authority}` is trusted with")]
    NotListed {
        /// The id of the authority.
        authority: String,
    },
    /// The work for one envelope is used up.
    #[error("checking the token would take too long")]
    TooMuchWork,
}

/// Checks the token `token_der` over `message` (for envelopes: the bytes of the signature, not those that it signs).
///
/// The token has one signer, whose certificate is the one its id names, is for timestamps alone and leads to one of
/// `authorities` at the time of the token. The imprint is over SHA-256, SHA-384 or SHA-512.
pub fn verify(token_der: &[u8], message: &[u8], authorities: &[Anchor]) -> Result<ProvenTime, TimestampError> {
    verify_within(token_der, message, authorities, &Work::new(COST_OF_ONE))
}

fn verify_within(
    token_der: &[u8],
    message: &[u8],
    authorities: &[Anchor],
    work: &Work,
) -> Result<ProvenTime, TimestampError> {
    verify_in_windows(token_der, message, authorities, &Windows::new(), work)
}

/// The same, where authorities may be trusted for some times only.
pub(crate) fn verify_in_windows(
    token_der: &[u8],
    message: &[u8],
    authorities: &[Anchor],
    windows: &Windows,
    work: &Work,
) -> Result<ProvenTime, TimestampError> {
    if authorities.is_empty() {
        return Err(TimestampError::NoAuthority);
    }
    if token_der.len() > MAX_TOKEN {
        return Err(TimestampError::TooLarge { size: token_der.len() });
    }
    let token = Token::read(token_der)?;
    work.spend((token_der.len() + message.len()) as u64).map_err(|_| TimestampError::TooMuchWork)?;
    if token.info.imprint_hash.digest(message) != token.info.imprint {
        return Err(TimestampError::OtherMessage);
    }
    if token.digest.digest(token.content) != token.message_digest {
        return Err(TimestampError::Altered);
    }
    let known = || authorities.iter().flat_map(|one| std::iter::once(&one.certificate).chain(&one.intermediates));
    let bag = read_bag(&token, known)?;
    // The authorities' own certificates are asked only when the token brings none (`certReq` false): one that was altered
    // in the token must not be made good from elsewhere.
    let offered: Vec<&Certificate> = if bag.is_empty() { known().collect() } else { bag.iter().collect() };
    let mut signers: Vec<&Certificate> = Vec::new();
    for certificate in offered.into_iter().filter(|certificate| is_signer(certificate, token.signer)) {
        if !signers.contains(&certificate) {
            signers.push(certificate);
        }
    }
    // Several only where somebody put a second certificate with the same issuer and number into the token.
    let mut failure = None;
    for signer in signers {
        match check_signer(&token, signer, &bag, authorities, windows, work) {
            Ok(proven) => return Ok(proven),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or(TimestampError::NoCertificate))
}

/// The token in a `TimeStampResp` (RFC 3161 §2.4.2), which is what authorities answer and Sigstore bundles hold.
pub fn token_of_response(der: &[u8]) -> Result<&[u8], TimestampError> {
    token::of_response(der)
}

/// What a token says whose authority is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// The time of the token.
    pub time: Timestamp,
    /// The number of the question that it answers: the value of an `INTEGER` in DER.
    pub nonce: Option<Vec<u8>>,
}

/// Checks what can be checked of the token `token_der` over `message` without knowing whom to believe: that it is over
/// these bytes, whole, and signed by the key of the certificate that it brings. It proves nothing to anybody else.
pub fn consistent(token_der: &[u8], message: &[u8]) -> Result<Unproven, TimestampError> {
    if token_der.len() > MAX_TOKEN {
        return Err(TimestampError::TooLarge { size: token_der.len() });
    }
    let token = Token::read(token_der)?;
    if token.info.imprint_hash.digest(message) != token.info.imprint {
        return Err(TimestampError::OtherMessage);
    }
    if token.digest.digest(token.content) != token.message_digest {
        return Err(TimestampError::Altered);
    }
    let bag = read_bag(&token, std::iter::empty)?;
    let mut signers = bag.iter().filter(|certificate| is_signer(certificate, token.signer));
    let signer = signers.next().ok_or(TimestampError::NoCertificate)?;
    signer
        .public_key()
        .verify_as(token.algorithm, &token.signed_attributes, token.signature)
        .map_err(|_| TimestampError::BadSignature)?;
    Ok(Unproven { time: token.info.time, nonce: token.info.nonce })
}

/// The certificates of the token. One that is `known` byte for byte need not be read again.
fn read_bag<'a, I: Iterator<Item = &'a Certificate>>(
    token: &Token<'_>,
    known: impl Fn() -> I,
) -> Result<Vec<Certificate>, TimestampError> {
    let read = |der: &&[u8]| match known().find(|one| one.der() == *der) {
        Some(one) => Ok(one.clone()),
        None => Certificate::from_der(der).map_err(|reason| TimestampError::Certificate { reason }),
    };
    token.bag.iter().map(read).collect()
}

fn is_signer(certificate: &Certificate, id: SignerId<'_>) -> bool {
    match id {
        SignerId::IssuerAndSerial { issuer, serial } => {
            certificate.raw_issuer() == issuer && certificate.raw_serial() == serial
        }
        SignerId::KeyId(id) => certificate.subject_key_id() == Some(id),
    }
}

fn check_signer(
    token: &Token<'_>,
    signer: &Certificate,
    bag: &[Certificate],
    authorities: &[Anchor],
    windows: &Windows,
    work: &Work,
) -> Result<ProvenTime, TimestampError> {
    if token.named_sha1.as_ref().is_some_and(|named| **named != sha1_of(signer.der())[..]) {
        return Err(TimestampError::OtherCertificate);
    }
    if token.named.as_ref().is_some_and(|(hash, named)| hash.digest(signer.der()) != *named) {
        return Err(TimestampError::OtherCertificate);
    }
    let time = token.info.time;
    let failed = |reason: ChainError| match reason {
        ChainError::TooMuchWork { .. } => TimestampError::TooMuchWork,
        reason => TimestampError::Chain { reason },
    };
    let window = |id: &str| windows.get(id).copied().unwrap_or_default();
    let purpose = Purpose::TimeStamping;
    let open = Anchors::open(authorities, windows, time, |authority| may_sign(authority, signer));
    let authority = match open.chain(signer, bag, time, purpose, work) {
        Ok(chain) => chain.anchors.into_iter().next().ok_or(TimestampError::NoAuthority),
        Err(reason) if open.bare.len() == authorities.len() => return Err(failed(reason)),
        // Is it for the time, or for the signer, that nobody vouches?
        Err(reason) => {
            let chain = chain_within(signer, bag, authorities, time, purpose, work).map_err(failed)?;
            let reached = || authorities.iter().filter(|authority| chain.anchors.contains(&authority.id));
            let closed = reached().find(|one| may_sign(one, signer) && !window(&one.id).covers(time));
            let other = reached().find(|one| !may_sign(one, signer));
            Err(match (closed, other) {
                (Some(one), _) => TimestampError::Window { authority: one.id.clone(), window: window(&one.id), time },
                (None, Some(one)) => TimestampError::NotListed { authority: one.id.clone() },
                (None, None) => failed(reason),
            })
        }
    };
    work.spend_check(signer.public_key()).map_err(|_| TimestampError::TooMuchWork)?;
    signer
        .public_key()
        .verify_as(token.algorithm, &token.signed_attributes, token.signature)
        .map_err(|_| TimestampError::BadSignature)?;
    Ok(ProvenTime { time, authority: authority? })
}

/// Whether an authority may have signed with this certificate. One that names what it signs with, and not only who
/// certifies that, signs with nothing else: another under the same root need not be its own.
fn may_sign(authority: &Anchor, signer: &Certificate) -> bool {
    let named = std::iter::once(&authority.certificate).chain(&authority.intermediates);
    let mut signing = named.filter(|certificate| !certificate.is_ca()).peekable();
    signing.peek().is_none() || signing.any(|certificate| certificate == signer)
}

/// The first version of the attribute names certificates by SHA-1 (RFC 2634 §5.4); the signature covers it.
fn sha1_of(bytes: &[u8]) -> [u8; 20] {
    use sha1::Digest as _;
    sha1::Sha1::digest(bytes).into()
}
