//! Signatures that name how they were made: those in certificates and timestamp tokens.
//!
//! Evidence is signed over SHA-256 with any key ([`PublicKey::verify`]). Authorities choose their hash: Sigstore's sign
//! with P-384 over SHA-384, older ones with RSA over SHA-512. SHA-1 and MD5 are not read.

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPssSaltLength, VerificationAlgorithm as _,
};
use der::asn1::{AnyRef, ContextSpecific, ObjectIdentifier};
use der::{Reader as _, SliceReader, TagNumber};
use pkcs8::spki::AlgorithmIdentifierRef;
use sha2::Digest as _;

use super::public::RSA;
use super::{BadSignature, KeyKind, PublicKey};

const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");

/// Longest PSS salt that is looked at, in bytes: that of the largest key.
const MAX_SALT: u16 = 1024;

/// A hash of the SHA-2 family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    /// 32 bytes.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

impl Hash {
    /// The hash that an `AlgorithmIdentifier` names; its parameters are absent or `NULL` (RFC 5754 §2).
    ///
    /// # Errors
    /// What it names instead.
    pub(crate) fn read(algorithm: AlgorithmIdentifierRef<'_>) -> Result<Self, String> {
        if !absent_or_null(algorithm.parameters) {
            return Err(format!("hash {} with parameters", algorithm.oid));
        }
        match algorithm.oid {
            SHA256 => Ok(Self::Sha256),
            SHA384 => Ok(Self::Sha384),
            SHA512 => Ok(Self::Sha512),
            other => Err(match other.to_string().as_str() {
                "1.3.14.3.2.26" => "SHA-1".to_owned(),
                "1.2.840.113549.2.5" => "MD5".to_owned(),
                "2.16.840.1.101.3.4.2.4" => "SHA-224".to_owned(),
                oid => format!("hash {oid}"),
            }),
        }
    }

    /// The digest of `bytes`.
    pub(crate) fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
            Self::Sha384 => sha2::Sha384::digest(bytes).to_vec(),
            Self::Sha512 => sha2::Sha512::digest(bytes).to_vec(),
        }
    }
}

/// How an authority signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// Pure Ed25519 (RFC 8410).
    Ed25519,
    /// ECDSA (RFC 5758 §3.2).
    Ecdsa(Hash),
    /// RSASSA-PKCS1-v1_5 (RFC 4055 §5).
    RsaPkcs1(Hash),
    /// RSASSA-PSS with MGF1 over the same hash (RFC 4055 §3.1).
    RsaPss(Hash, u16),
}

impl Algorithm {
    /// The algorithm that an `AlgorithmIdentifier` names.
    ///
    /// # Errors
    /// What it names instead.
    pub(crate) fn read(algorithm: AlgorithmIdentifierRef<'_>) -> Result<Self, String> {
        let parameters = algorithm.parameters;
        let without = |found: Self, allowed: bool| {
            if allowed { Ok(found) } else { Err(format!("algorithm {} with parameters", algorithm.oid)) }
        };
        match algorithm.oid {
            super::public::ED25519 => without(Self::Ed25519, parameters.is_none()),
            ECDSA_SHA256 => without(Self::Ecdsa(Hash::Sha256), parameters.is_none()),
            ECDSA_SHA384 => without(Self::Ecdsa(Hash::Sha384), parameters.is_none()),
            ECDSA_SHA512 => without(Self::Ecdsa(Hash::Sha512), parameters.is_none()),
            RSA_SHA256 => without(Self::RsaPkcs1(Hash::Sha256), absent_or_null(parameters)),
            RSA_SHA384 => without(Self::RsaPkcs1(Hash::Sha384), absent_or_null(parameters)),
            RSA_SHA512 => without(Self::RsaPkcs1(Hash::Sha512), absent_or_null(parameters)),
            RSA_PSS => {
                pss(parameters).ok_or_else(|| "RSA-PSS with other parameters than SHA-2 and its MGF1".to_owned())
            }
            other => Err(match other.to_string().as_str() {
                "1.2.840.113549.1.1.5" => "RSA with SHA-1".to_owned(),
                "1.2.840.113549.1.1.4" => "RSA with MD5".to_owned(),
                "1.2.840.10045.4.1" => "ECDSA with SHA-1".to_owned(),
                _ => super::public::name_of(other),
            }),
        }
    }

    /// The algorithm of a CMS signer (RFC 5652 §5.3), which may name only the kind of key, or must fit its digest.
    pub(crate) fn read_cms(algorithm: AlgorithmIdentifierRef<'_>, digest: Hash) -> Result<Self, String> {
        if algorithm.oid == RSA && absent_or_null(algorithm.parameters) {
            return Ok(Self::RsaPkcs1(digest));
        }
        let found = Self::read(algorithm)?;
        let fits = match found {
            Self::Ecdsa(hash) | Self::RsaPkcs1(hash) | Self::RsaPss(hash, _) => hash == digest,
            // RFC 8419 §3.1.
            Self::Ed25519 => digest == Hash::Sha512,
        };
        if fits { Ok(found) } else { Err("a signature over another hash than the digest's".to_owned()) }
    }
}

fn absent_or_null(parameters: Option<AnyRef<'_>>) -> bool {
    parameters.is_none_or(AnyRef::is_null)
}

/// `RSASSA-PSS-params`. The defaults are SHA-1, so hash and mask function must be there.
fn pss(parameters: Option<AnyRef<'_>>) -> Option<Algorithm> {
    let field = |reader: &mut SliceReader<'_>, number| -> Option<Option<Vec<u8>>> {
        let found = ContextSpecific::<AnyRef<'_>>::decode_explicit(reader, TagNumber(number)).ok()?;
        Some(match found {
            Some(found) => Some(der::Encode::to_der(&found.value).ok()?),
            None => None,
        })
    };
    let mut reader = SliceReader::new(parameters?.value()).ok()?;
    let hash = field(&mut reader, 0)??;
    let hash = Hash::read(AlgorithmIdentifierRef::try_from(&hash[..]).ok()?).ok()?;
    let mask = field(&mut reader, 1)??;
    let mask = AlgorithmIdentifierRef::try_from(&mask[..]).ok()?;
    let inner = der::Encode::to_der(&mask.parameters?).ok()?;
    let inner = Hash::read(AlgorithmIdentifierRef::try_from(&inner[..]).ok()?).ok()?;
    let salt = match field(&mut reader, 2)? {
        Some(salt) => <u16 as der::Decode>::from_der(&salt).ok()?,
        None => 20,
    };
    let trailer = match field(&mut reader, 3)? {
        Some(trailer) => <u8 as der::Decode>::from_der(&trailer).ok()?,
        None => 1,
    };
    let plain = mask.oid == MGF1 && inner == hash && trailer == 1 && salt <= MAX_SALT;
    (plain && reader.is_finished()).then_some(Algorithm::RsaPss(hash, salt))
}

impl PublicKey {
    /// Checks a signature that says how it was made. The key must be of the kind that the algorithm needs.
    pub(crate) fn verify_as(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let rsa = |parameters: RsaParameters| {
            let key = self.rsa_key().ok_or(BadSignature)?;
            parameters.verify_sig(key, message, signature).map_err(|_| BadSignature)
        };
        match algorithm {
            Algorithm::Ed25519 if self.kind() == KeyKind::Ed25519 => self.verify(&[message], signature).map(drop),
            Algorithm::Ed25519 => Err(BadSignature),
            Algorithm::Ecdsa(hash) => self.verify_ecdsa_prehash(&hash.digest(message), signature),
            Algorithm::RsaPkcs1(Hash::Sha256) => rsa(RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RsaPkcs1(Hash::Sha384) => rsa(RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RsaPkcs1(Hash::Sha512) => rsa(RSA_PKCS1_2048_8192_SHA512),
            Algorithm::RsaPss(hash, salt) => {
                let parameters = match hash {
                    Hash::Sha256 => RSA_PSS_2048_8192_SHA256,
                    Hash::Sha384 => RSA_PSS_2048_8192_SHA384,
                    Hash::Sha512 => RSA_PSS_2048_8192_SHA512,
                };
                rsa(parameters.with_pss_salt_length(RsaPssSaltLength::Custom(salt)))
            }
        }
    }
}
