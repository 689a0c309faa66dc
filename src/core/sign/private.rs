//! Private keys in memory: making, signing, writing.
//!
//! Secrets are wiped when dropped (each library wipes its own key; the PKCS#8 copy is wiped here) and appear in no
//! `Debug` output and no error.

use std::fmt;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding,
};
use der::asn1::OctetStringRef;
use der::{Decode as _, Encode as _};
use ed25519_dalek::SigningKey as Ed25519Key;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign_byupdate};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use pkcs8::spki::AlgorithmIdentifierRef;
use pkcs8::{EncodePrivateKey as _, PrivateKeyInfoRef};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use super::public::{self, p521_prehash};
use super::{KeyError, KeyKind, Message, PublicKey, Scheme, SignError, Signer, cosign_key, key_file, pem, random};

/// OCTET STRING of 32 bytes: what stands before the seed of an Ed25519 key.
const ED25519_SEED_HEADER: [u8; 2] = [0x04, 0x20];

/// A private key in memory.
pub struct PrivateKey {
    key: Key,
    public: PublicKey,
    /// The key as PKCS#8, for writing.
    pkcs8: Zeroizing<Vec<u8>>,
}

enum Key {
    Ed25519(Ed25519Key),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
    Rsa(RsaKeyPair),
}

impl PrivateKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`KeyError::Generate`] when the system gives no random bytes; [`KeyError::UnsupportedKind`] for RSA of
    /// another length than 2048, 3072, 4096 or 8192 bits.
    pub fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        let failed = || KeyError::Generate { kind };
        match kind {
            KeyKind::Ed25519 => {
                let mut seed = Zeroizing::new([0; 32]);
                random::fill(&mut seed[..]).map_err(|_| failed())?;
                Self::from_ed25519(&Ed25519Key::from_bytes(&seed))
            }
            KeyKind::P256 => {
                Self::from_p256(&random::scalar(32, 0xff, p256::SecretKey::from_slice).ok_or_else(failed)?)
            }
            KeyKind::P384 => {
                Self::from_p384(&random::scalar(48, 0xff, p384::SecretKey::from_slice).ok_or_else(failed)?)
            }
            // 521 bits: one in the first of 66 bytes.
            KeyKind::P521 => {
                Self::from_p521(&random::scalar(66, 0x01, p521::SecretKey::from_slice).ok_or_else(failed)?)
            }
            KeyKind::Rsa { bits } => {
                let size = match bits {
                    2048 => KeySize::Rsa2048,
                    3072 => KeySize::Rsa3072,
                    4096 => KeySize::Rsa4096,
                    8192 => KeySize::Rsa8192,
                    _ => return Err(KeyError::unsupported(format!("making RSA of {bits} bits"))),
                };
                Self::from_rsa(RsaKeyPair::generate(size).map_err(|_| failed())?)
            }
        }
    }

    /// Reads a key file: PEM or DER holding PKCS#8 (plain, or encrypted by PBES2), SEC1, PKCS#1, or cosign's encrypted
    /// form. The first block that is a key counts; labels are only hints.
    ///
    /// `password` is used when the key is encrypted, and only then; `Some` of nothing is an empty password.
    ///
    /// # Errors
    /// [`KeyError`] tells apart what is no key, what is not supported, what is damaged, a missing and a wrong password.
    pub fn from_file_bytes(bytes: &[u8], password: Option<&[u8]>) -> Result<Self, KeyError> {
        key_file::read(bytes, password)
    }

    /// Reads `PrivateKeyInfo`. Trailing bytes are refused, and a public key in it must belong to the private one.
    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let info = PrivateKeyInfoRef::from_der(der).map_err(|error| KeyError::damaged(format!("PKCS#8: {error}")))?;
        let oid = info.algorithm.oid;
        if oid == public::ED25519 {
            return Self::from_ed25519(&ed25519_of(&info)?);
        }
        if oid == public::EC {
            let curve = public::curve_of(info.algorithm)?;
            let damaged = |_| KeyError::damaged("EC private key, or its public key is another's");
            return if curve == public::P256 {
                Self::from_p256(&p256::SecretKey::try_from(info).map_err(damaged)?)
            } else if curve == public::P384 {
                Self::from_p384(&p384::SecretKey::try_from(info).map_err(damaged)?)
            } else {
                Self::from_p521(&p521::SecretKey::try_from(info).map_err(damaged)?)
            };
        }
        if oid == public::RSA {
            return Self::from_pkcs1(info.private_key.as_bytes());
        }
        Err(KeyError::unsupported(public::name_of(oid)))
    }

    /// Reads `ECPrivateKey`; the curve must be named in it.
    pub(super) fn from_sec1(der: &[u8]) -> Result<Self, KeyError> {
        let damaged = |_| KeyError::damaged("EC private key, or its public key is another's");
        match key_file::sec1_curve(der)? {
            curve if curve == public::P256 => Self::from_p256(&p256::SecretKey::from_sec1_der(der).map_err(damaged)?),
            curve if curve == public::P384 => Self::from_p384(&p384::SecretKey::from_sec1_der(der).map_err(damaged)?),
            curve if curve == public::P521 => Self::from_p521(&p521::SecretKey::from_sec1_der(der).map_err(damaged)?),
            curve => Err(KeyError::unsupported(public::name_of(curve))),
        }
    }

    /// Reads `RSAPrivateKey`.
    pub(super) fn from_pkcs1(der: &[u8]) -> Result<Self, KeyError> {
        public::rsa_bits(key_file::pkcs1_modulus(der)?)?;
        let key = RsaKeyPair::from_der(der).map_err(|_| KeyError::damaged("RSA private key that does not compute"))?;
        Self::from_rsa(key)
    }

    fn from_ed25519(key: &Ed25519Key) -> Result<Self, KeyError> {
        // PKCS#8 holds the seed as an OCTET STRING within one (RFC 8410 §7). The public key is left out: openssl and Go
        // do not read the newer form that has it.
        let mut inner = Zeroizing::new([0; 34]);
        inner[..2].copy_from_slice(&ED25519_SEED_HEADER);
        inner[2..].copy_from_slice(key.as_bytes());
        let encode = || {
            let algorithm = AlgorithmIdentifierRef { oid: public::ED25519, parameters: None };
            PrivateKeyInfoRef::new(algorithm, OctetStringRef::new(&inner[..])?).to_der().map(Zeroizing::new)
        };
        let pkcs8 = encode().map_err(|_| KeyError::damaged("Ed25519 private key"))?;
        let public = PublicKey::of_ed25519(key.verifying_key())?;
        Ok(Self { key: Key::Ed25519(key.clone()), public, pkcs8 })
    }

    fn from_p256(key: &p256::SecretKey) -> Result<Self, KeyError> {
        let pkcs8 = key.to_pkcs8_der().map_err(|_| KeyError::damaged("EC private key"))?.to_bytes();
        let key = p256::ecdsa::SigningKey::from(key);
        Ok(Self { public: PublicKey::of_p256(*key.verifying_key())?, key: Key::P256(key), pkcs8 })
    }

    fn from_p384(key: &p384::SecretKey) -> Result<Self, KeyError> {
        let pkcs8 = key.to_pkcs8_der().map_err(|_| KeyError::damaged("EC private key"))?.to_bytes();
        let key = p384::ecdsa::SigningKey::from(key);
        Ok(Self { public: PublicKey::of_p384(*key.verifying_key())?, key: Key::P384(key), pkcs8 })
    }

    fn from_p521(key: &p521::SecretKey) -> Result<Self, KeyError> {
        let pkcs8 = key.to_pkcs8_der().map_err(|_| KeyError::damaged("EC private key"))?.to_bytes();
        let key = p521::ecdsa::SigningKey::from(key);
        Ok(Self { public: PublicKey::of_p521(*key.verifying_key())?, key: Key::P521(key), pkcs8 })
    }

    fn from_rsa(key: RsaKeyPair) -> Result<Self, KeyError> {
        let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| KeyError::damaged("RSA private key"))?;
        let pkcs8 = Zeroizing::new(der.as_ref().to_vec());
        Ok(Self { public: PublicKey::from_pkcs1(key.public_key().as_ref())?, key: Key::Rsa(key), pkcs8 })
    }

    /// Signs the concatenation of `message` with a scheme other than the default one: cosign takes only PKCS#1 v1.5 of
    /// an RSA key.
    pub fn sign_as(&self, scheme: Scheme, message: &[&[u8]]) -> Result<Vec<u8>, SignError> {
        let message = Message::new(message);
        match (&self.key, scheme) {
            (Key::Ed25519(key), Scheme::Ed25519) => self.sign_ed25519(key, message.parts()),
            (Key::P256(key), Scheme::EcdsaSha256) => {
                let signature: p256::ecdsa::DerSignature = self.sign_ecdsa(key, message.sha256())?;
                Ok(signature.as_bytes().to_vec())
            }
            (Key::P384(key), Scheme::EcdsaSha256) => {
                let signature: p384::ecdsa::DerSignature = self.sign_ecdsa(key, message.sha256())?;
                Ok(signature.as_bytes().to_vec())
            }
            (Key::P521(key), Scheme::EcdsaSha256) => {
                let signature: p521::ecdsa::DerSignature = self.sign_ecdsa(key, &p521_prehash(message.sha256()))?;
                Ok(signature.as_bytes().to_vec())
            }
            (Key::Rsa(key), Scheme::RsaPssSha256) => self.sign_rsa(key, &RSA_PSS_SHA256, message.sha256()),
            (Key::Rsa(key), Scheme::RsaPkcs1Sha256) => self.sign_rsa(key, &RSA_PKCS1_SHA256, message.sha256()),
            _ => Err(SignError::WrongScheme { kind: self.public.kind(), scheme }),
        }
    }

    /// Signs the concatenation of `message` as [`Scheme::EcdsaSha256`] with another random number than RFC 6979 makes, so
    /// that the signature is a new one: for a log that takes none twice. `None` for keys whose signatures repeat.
    pub fn sign_anew(&self, message: &[&[u8]]) -> Option<Result<Vec<u8>, SignError>> {
        let Key::P256(_) = &self.key else { return None };
        let sign = || {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.pkcs8).ok()?;
            let signature = pair.sign(&SystemRandom::new(), &message.concat()).ok()?;
            Some(signature.as_ref().to_vec())
        };
        Some(sign().ok_or_else(|| self.failed()))
    }

    fn failed(&self) -> SignError {
        SignError::Failed { kind: self.public.kind() }
    }

    fn sign_ed25519(&self, key: &Ed25519Key, parts: &[&[u8]]) -> Result<Vec<u8>, SignError> {
        let expanded = ExpandedSecretKey::from(key.as_bytes());
        let update = |state: &mut Sha512| {
            for part in parts {
                state.update(part);
            }
            Ok(())
        };
        // The public key is the one of this private key: with another, a signature would give the key away.
        let signature = raw_sign_byupdate::<Sha512, _>(&expanded, update, &key.verifying_key());
        signature.map(|signature| signature.to_vec()).map_err(|_| self.failed())
    }

    fn sign_ecdsa<S>(&self, key: &impl PrehashSigner<S>, prehash: &[u8]) -> Result<S, SignError> {
        key.sign_prehash(prehash).map_err(|_| self.failed())
    }

    fn sign_rsa(
        &self,
        key: &RsaKeyPair,
        padding: &'static dyn RsaEncoding,
        sha256: &[u8; 32],
    ) -> Result<Vec<u8>, SignError> {
        let digest = aws_lc_rs::digest::Digest::import_less_safe(sha256, &aws_lc_rs::digest::SHA256)
            .expect("the digest has the length of SHA-256");
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign_digest(padding, &digest, &mut signature).map_err(|_| self.failed())?;
        Ok(signature)
    }

    /// The PEM text `PRIVATE KEY` (PKCS#8, not encrypted).
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        pem::encode("PRIVATE KEY", &self.pkcs8)
    }

    /// The PEM text `ENCRYPTED PRIVATE KEY` (PKCS#8, PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC, which openssl and
    /// witness read). Takes some tenths of a second on purpose.
    pub fn to_encrypted_pem(&self, password: &[u8]) -> Result<Zeroizing<String>, KeyError> {
        key_file::encrypt(&self.pkcs8, password)
    }

    /// The PEM text `ENCRYPTED SIGSTORE PRIVATE KEY`, as cosign writes it. Takes some tenths of a second on purpose.
    pub fn to_cosign_pem(&self, password: &[u8]) -> Result<Zeroizing<String>, KeyError> {
        cosign_key::encrypt(&self.pkcs8, password)
    }
}

/// The key in the PKCS#8 of an Ed25519 key, with or without its public key (RFC 8410 §7, RFC 5958).
fn ed25519_of(info: &PrivateKeyInfoRef<'_>) -> Result<Ed25519Key, KeyError> {
    let damaged = || KeyError::damaged("Ed25519 private key, or its public key is another's");
    let seed = info.private_key.as_bytes().strip_prefix(&ED25519_SEED_HEADER).ok_or_else(damaged)?;
    let key = Ed25519Key::from_bytes(seed.try_into().map_err(|_| damaged())?);
    let public_fits = info.public_key.is_none_or(|public| public.as_bytes() == Some(key.verifying_key().as_bytes()));
    if info.algorithm.parameters.is_some() || !public_fits { Err(damaged()) } else { Ok(key) }
}

impl Signer for PrivateKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[&[u8]]) -> Result<Vec<u8>, SignError> {
        let scheme = match &self.key {
            Key::Ed25519(_) => Scheme::Ed25519,
            Key::P256(_) | Key::P384(_) | Key::P521(_) => Scheme::EcdsaSha256,
            Key::Rsa(_) => Scheme::RsaPssSha256,
        };
        self.sign_as(scheme, message)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.public).finish_non_exhaustive()
    }
}
