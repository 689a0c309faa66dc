//! Keys and signatures: what signs evidence and what checks it.
//!
//! | key | what is signed | signature |
//! |---|---|---|
//! | Ed25519 | the message itself | 64 bytes, RFC 8032 |
//! | ECDSA on P-256, P-384, P-521 | its SHA-256, on every curve | DER `SEQUENCE { r, s }`, RFC 6979 |
//! | RSA of 2048 to 8192 bits | its SHA-256 | RSASSA-PSS, MGF1-SHA-256, salt of 32 bytes |
//!
//! That is how witness and cilock sign (wire-formats §1.4). PKCS#1 v1.5, which witness also accepts and
//! cosign demands, is a [`Scheme`] of its own, so that a caller can ask for it or refuse it.
//! Which crate does what, and why: `docs/decisions/003-crypto-backends.md`.
//!
//! A message comes in parts, so that a DSSE header and a payload of hundreds of megabytes need not be
//! joined in memory.

pub(crate) mod authority;
mod cosign_key;
mod key_file;
pub(crate) mod pem;
mod private;
mod public;
mod random;
mod shape;

use std::cell::OnceCell;
use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

use crate::dsse::Signature;

pub use self::private::PrivateKey;
pub use self::public::PublicKey;
pub(crate) use self::random::{fill as fill_random, number as some_number};

/// Largest key file that is looked at, in bytes. An RSA key of 8192 bits needs 7 kB, a chain of
/// certificates before it some more.
pub const MAX_KEY_FILE: usize = 1024 * 1024;
/// Smallest RSA modulus, in bits.
pub const MIN_RSA_BITS: u32 = 2048;
/// Largest RSA modulus, in bits: more makes each check needlessly slow.
pub const MAX_RSA_BITS: u32 = 8192;

/// Signs messages: a key in memory, or one that is kept elsewhere.
pub trait Signer: Send + Sync {
    /// The key that the signatures can be checked with.
    fn public_key(&self) -> &PublicKey;

    /// Signs the concatenation of `message` with the default scheme of the key.
    fn sign(&self, message: &[&[u8]]) -> Result<Vec<u8>, SignError>;

    /// Signs the same for an envelope, with what proves whose the key is and when it signed, where the signer has that.
    fn seal(&self, message: &[&[u8]]) -> Result<Signature, SignError> {
        let sig = self.sign(message)?;
        Ok(Signature { key_id: self.public_key().key_id().to_owned(), sig, ..Signature::default() })
    }
}

/// A signature could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The cryptographic library refused.
    #[error("signing with the {kind} key failed")]
    Failed {
        /// The key.
        kind: KeyKind,
    },
    /// The scheme belongs to another kind of key.
    #[error("a {kind} key cannot sign as {scheme}")]
    WrongScheme {
        /// The key.
        kind: KeyKind,
        /// What was asked for.
        scheme: Scheme,
    },
    /// Nobody signs.
    #[error("nobody is there to sign it")]
    NoSigner,
    /// What proves whose the key is, or when it signed, was not had.
    #[error("what vouches for the signature was not had: {0}")]
    Vouching(String),
}

/// The signature is not one of this key over this message.
///
/// On purpose without a reason: every cause is the same answer, and a finer one would only help a forger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not match the key and the message")]
pub struct BadSignature;

/// How a signature was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Pure Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA over SHA-256, whatever the curve (FIPS 186-5), in DER.
    EcdsaSha256,
    /// RSASSA-PSS with SHA-256 and MGF1-SHA-256 (RFC 8017 §8.1).
    RsaPssSha256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 §8.2).
    RsaPkcs1Sha256,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519 => "Ed25519",
            Self::EcdsaSha256 => "ECDSA with SHA-256",
            Self::RsaPssSha256 => "RSA-PSS with SHA-256",
            Self::RsaPkcs1Sha256 => "RSA PKCS#1 v1.5 with SHA-256",
        })
    }
}

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// ECDSA on NIST P-521.
    P521,
    /// RSA.
    Rsa {
        /// Length of the modulus, [`MIN_RSA_BITS`] to [`MAX_RSA_BITS`].
        bits: u32,
    },
}

impl KeyKind {
    /// The kinds that [`PrivateKey::generate`] makes, under their names.
    pub const GENERATED: [(&'static str, Self); 7] = [
        ("p256", Self::P256),
        ("p384", Self::P384),
        ("p521", Self::P521),
        ("ed25519", Self::Ed25519),
        ("rsa2048", Self::Rsa { bits: 2048 }),
        ("rsa3072", Self::Rsa { bits: 3072 }),
        ("rsa4096", Self::Rsa { bits: 4096 }),
    ];
}

impl Default for KeyKind {
    /// P-256, which witness, cilock and cosign all read.
    fn default() -> Self {
        Self::P256
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::P521 => f.write_str("P-521"),
            Self::Rsa { bits } => write!(f, "RSA-{bits}"),
        }
    }
}

/// A name that is not one of [`KeyKind::GENERATED`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of key `{name}` (known: p256, p384, p521, ed25519, rsa2048, rsa3072, rsa4096)")]
pub struct UnknownKeyKind {
    /// What was given.
    pub name: String,
}

impl FromStr for KeyKind {
    type Err = UnknownKeyKind;

    /// Takes the names of [`KeyKind::GENERATED`] in any case, with or without hyphens.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let plain: String = name.chars().filter(|&c| c != '-').collect();
        Self::GENERATED
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(&plain))
            .map(|(_, kind)| kind)
            .ok_or_else(|| UnknownKeyKind { name: name.to_owned() })
    }
}

/// A key could not be read, made or written. No text of it holds any part of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The file is larger than [`MAX_KEY_FILE`].
    #[error("not a key file: {size} bytes, the limit is {MAX_KEY_FILE}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// There is no key in the file.
    #[error("not a key file: {found}")]
    NotAKey {
        /// What is there instead.
        found: String,
    },
    /// A private key was given where a public one is wanted.
    #[error("this is a private key; a public key is wanted here: `openssl pkey -in KEY -pubout` writes it")]
    PrivateKeyGiven,
    /// A public key or certificate was given where a private key is wanted.
    #[error("this is a {what}; a private key is wanted here")]
    PublicKeyGiven {
        /// `public key` or `certificate`.
        what: &'static str,
    },
    /// A key that is well formed, but of a kind or form that is not supported.
    #[error("unsupported key: {what}")]
    UnsupportedKind {
        /// Kind, curve, size or form, and what to do where something can be done.
        what: String,
    },
    /// The key is encrypted in a way that is not supported.
    #[error(
        "unsupported encryption of the private key: {what}; `openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY -out NEW` converts it"
    )]
    UnsupportedEncryption {
        /// The method.
        what: String,
    },
    /// The key is encrypted and no password was given. An empty password is a password.
    #[error("the private key is encrypted and there is no password for it")]
    PasswordNeeded,
    /// The password does not open the key.
    #[error("wrong password for the private key")]
    WrongPassword,
    /// Something that should be a key is damaged.
    #[error("damaged key: {reason}")]
    Damaged {
        /// Which part, and how.
        reason: String,
    },
    /// The operating system gave no random bytes, or the library could not make a key.
    #[error("a {kind} key could not be made")]
    Generate {
        /// What was asked for.
        kind: KeyKind,
    },
    /// The operating system gave no random bytes, or the key could not be encrypted.
    #[error("the private key could not be written")]
    Write,
}

impl KeyError {
    fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged { reason: reason.into() }
    }

    fn unsupported(what: impl Into<String>) -> Self {
        Self::UnsupportedKind { what: what.into() }
    }
}

/// A message in parts, whose SHA-256 is computed at most once, however many keys are tried on it.
pub(crate) struct Message<'a> {
    parts: &'a [&'a [u8]],
    sha256: OnceCell<[u8; 32]>,
}

impl<'a> Message<'a> {
    pub(crate) fn new(parts: &'a [&'a [u8]]) -> Self {
        Self { parts, sha256: OnceCell::new() }
    }

    pub(crate) fn parts(&self) -> &'a [&'a [u8]] {
        self.parts
    }

    pub(crate) fn sha256(&self) -> &[u8; 32] {
        self.sha256.get_or_init(|| {
            let mut state = sha2::Sha256::new();
            for part in self.parts {
                state.update(part);
            }
            state.finalize().into()
        })
    }
}

#[cfg(test)]
mod tests;
