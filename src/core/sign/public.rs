//! Public keys: reading, naming, checking signatures.

use std::fmt;

use aws_lc_rs::digest::{Digest, SHA256, SHA384};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPssSaltLength,
    VerificationAlgorithm as _,
};
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use der::{Decode as _, Encode as _, Reader as _, SliceReader};
use ed25519_dalek::VerifyingKey as Ed25519Key;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::pem::{self, Block};
use super::shape::{Shape, shape};
use super::{BadSignature, KeyError, KeyKind, MAX_KEY_FILE, MAX_RSA_BITS, MIN_RSA_BITS, Message, Scheme};
use crate::digest;

pub(super) const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
pub(super) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(super) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
pub(super) const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub(super) const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
pub(super) const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

/// Lengths of the PSS salt that are tried besides that of the hash (32, which cosign's KMS keys, cilock's
/// and our own signatures have) and the largest possible (which Go and openssl choose): none, and those of
/// SHA-1, SHA-384 and SHA-512, for signers that were set so. PSS itself does not say its salt length.
const OTHER_SALTS: [u16; 4] = [0, 20, 48, 64];

/// A public key: Ed25519, ECDSA on P-256, P-384 or P-521, or RSA.
#[derive(Clone)]
pub struct PublicKey {
    key: Key,
    spki: Vec<u8>,
    id: String,
}

#[derive(Clone)]
enum Key {
    Ed25519(Ed25519Key),
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
    /// `RSAPublicKey`, checked.
    Rsa {
        pkcs1: Vec<u8>,
        bits: u32,
    },
}

impl PublicKey {
    /// Reads a key file: PEM (`PUBLIC KEY`, `RSA PUBLIC KEY`, or a certificate, whose key is taken), or the
    /// same in DER. The first PEM block that is a key counts; labels are only hints.
    ///
    /// # Errors
    /// [`KeyError::PrivateKeyGiven`] for a private key; see there for the others.
    pub fn from_file_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() > MAX_KEY_FILE {
            return Err(KeyError::TooLarge { size: bytes.len() });
        }
        let blocks = match std::str::from_utf8(bytes) {
            Ok(text) => pem::blocks(text),
            Err(_) => Vec::new(),
        };
        if blocks.is_empty() {
            return match shape(bytes) {
                Some(_) => Self::from_der(bytes),
                None => Err(KeyError::NotAKey { found: super::key_file::describe(bytes) }),
            };
        }
        for block in &blocks {
            if let Some(result) = Self::from_block(block) {
                return result;
            }
        }
        Err(KeyError::NotAKey { found: super::key_file::describe_blocks(&blocks) })
    }

    /// Reads one block; `None` when it is no key at all.
    fn from_block(block: &Block<'_>) -> Option<Result<Self, KeyError>> {
        let body = block.body.as_deref().map(Vec::as_slice);
        if let Some(body) = body.filter(|body| shape(body).is_some()) {
            return Some(Self::from_der(body));
        }
        // By their labels: the keys that are no DER of their own, and those that are damaged.
        if block.label.ends_with("PRIVATE KEY") {
            return Some(Err(KeyError::PrivateKeyGiven));
        }
        if !block.label.ends_with("PUBLIC KEY") && !block.label.ends_with("CERTIFICATE") {
            return None;
        }
        let reason = if body.is_some() { "holds no key in DER" } else { "is broken base64" };
        Some(Err(KeyError::damaged(format!("`{}` {reason}", block.label))))
    }

    /// Reads `SubjectPublicKeyInfo`, `RSAPublicKey` or a certificate in DER. Trailing bytes are refused.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        match shape(der) {
            Some(Shape::Spki) => Self::from_spki(der),
            Some(Shape::Pkcs1Public) => Self::from_pkcs1(der),
            Some(Shape::Certificate) => Self::from_spki(certificate_spki(der)?),
            Some(Shape::Pkcs8 | Shape::EncryptedPkcs8 | Shape::Sec1 | Shape::Pkcs1Private) => {
                Err(KeyError::PrivateKeyGiven)
            }
            None => Err(KeyError::damaged("neither a public key nor a certificate in DER")),
        }
    }

    pub(crate) fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let spki = SubjectPublicKeyInfoRef::try_from(der)
            .map_err(|error| KeyError::damaged(format!("SubjectPublicKeyInfo: {error}")))?;
        let bits = spki.subject_public_key.as_bytes().ok_or_else(|| KeyError::damaged("bits left over in the key"))?;
        let oid = spki.algorithm.oid;
        if oid == ED25519 {
            if spki.algorithm.parameters.is_some() {
                return Err(KeyError::damaged("Ed25519 key with parameters"));
            }
            let bytes = bits.try_into().map_err(|_| KeyError::damaged("Ed25519 key that has not 32 bytes"))?;
            return Self::from_ed25519(bytes);
        }
        if oid == EC {
            let curve = curve_of(spki.algorithm)?;
            let damaged = |_| KeyError::damaged("the point is not on the curve");
            return if curve == P256 {
                Self::from_key(Key::P256(p256::ecdsa::VerifyingKey::from_sec1_bytes(bits).map_err(damaged)?))
            } else if curve == P384 {
                Self::from_key(Key::P384(p384::ecdsa::VerifyingKey::from_sec1_bytes(bits).map_err(damaged)?))
            } else {
                Self::from_key(Key::P521(p521::ecdsa::VerifyingKey::from_sec1_bytes(bits).map_err(damaged)?))
            };
        }
        if oid == RSA {
            return Self::from_pkcs1(bits);
        }
        Err(KeyError::unsupported(name_of(oid)))
    }

    fn from_ed25519(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = Ed25519Key::from_bytes(bytes).map_err(|_| KeyError::damaged("Ed25519 point that does not exist"))?;
        // Points of small order have signatures that hold for every message; a second spelling of a point
        // would give one key two names.
        if key.is_weak() || key.to_edwards().compress().as_bytes() != bytes {
            return Err(KeyError::damaged("Ed25519 point that no honest key has"));
        }
        Self::from_key(Key::Ed25519(key))
    }

    pub(super) fn from_pkcs1(der: &[u8]) -> Result<Self, KeyError> {
        let damaged = |_| KeyError::damaged("RSA public key");
        let mut reader = SliceReader::new(der).map_err(damaged)?;
        let modulus = reader
            .sequence(|reader| {
                let modulus = UintRef::decode(reader)?;
                UintRef::decode(reader)?;
                Ok::<_, der::Error>(modulus)
            })
            .map_err(damaged)?;
        reader.finish().map_err(damaged)?;
        let bits = rsa_bits(modulus.as_bytes())?;
        let checked = aws_lc_rs::rsa::PublicKey::from_der(der)
            .map_err(|_| KeyError::damaged("RSA modulus or exponent that no key has"))?;
        Self::from_key(Key::Rsa { pkcs1: checked.as_ref().to_vec(), bits })
    }

    fn from_key(key: Key) -> Result<Self, KeyError> {
        let spki = encode_spki(&key).map_err(|_| KeyError::damaged("the key cannot be encoded"))?;
        let id = digest::sha256_hex(pem::encode("PUBLIC KEY", &spki).as_bytes());
        Ok(Self { key, spki, id })
    }

    pub(super) fn of_ed25519(key: Ed25519Key) -> Result<Self, KeyError> {
        Self::from_ed25519(key.as_bytes())
    }

    pub(super) fn of_p256(key: p256::ecdsa::VerifyingKey) -> Result<Self, KeyError> {
        Self::from_key(Key::P256(key))
    }

    pub(super) fn of_p384(key: p384::ecdsa::VerifyingKey) -> Result<Self, KeyError> {
        Self::from_key(Key::P384(key))
    }

    pub(super) fn of_p521(key: p521::ecdsa::VerifyingKey) -> Result<Self, KeyError> {
        Self::from_key(Key::P521(key))
    }

    /// The kind of key.
    pub fn kind(&self) -> KeyKind {
        match &self.key {
            Key::Ed25519(_) => KeyKind::Ed25519,
            Key::P256(_) => KeyKind::P256,
            Key::P384(_) => KeyKind::P384,
            Key::P521(_) => KeyKind::P521,
            Key::Rsa { bits, .. } => KeyKind::Rsa { bits: *bits },
        }
    }

    /// The key id of witness and cilock: lowercase hex SHA-256 of [`PublicKey::to_pem`] (wire-formats §1.3).
    ///
    /// Computed from the key, not from the file, so that every spelling of a key has the same id.
    pub fn key_id(&self) -> &str {
        &self.id
    }

    /// `SubjectPublicKeyInfo` in DER; points of curves are not compressed.
    pub fn to_der(&self) -> &[u8] {
        &self.spki
    }

    /// The PEM text `PUBLIC KEY`, with a newline at its end.
    pub fn to_pem(&self) -> String {
        String::clone(&pem::encode("PUBLIC KEY", &self.spki))
    }

    /// Checks `signature` over the concatenation of `message` and says how it was made.
    ///
    /// RSA keys take PSS with any of the usual salt lengths, and PKCS#1 v1.5 as witness does. High-S ECDSA
    /// signatures are taken, because openssl and Go make them: a signature is not an identity, and nothing
    /// here counts signatures, only keys. DER must be strict, Ed25519 is checked as strictly as RFC 8032 allows.
    pub fn verify(&self, message: &[&[u8]], signature: &[u8]) -> Result<Scheme, BadSignature> {
        self.verify_message(&Message::new(message), signature)
    }

    pub(crate) fn verify_message(&self, message: &Message<'_>, signature: &[u8]) -> Result<Scheme, BadSignature> {
        match &self.key {
            Key::Ed25519(key) => verify_ed25519(key, message, signature).map(|()| Scheme::Ed25519),
            Key::P256(_) | Key::P384(_) | Key::P521(_) => {
                self.verify_ecdsa_prehash(message.sha256(), signature).map(|()| Scheme::EcdsaSha256)
            }
            Key::Rsa { pkcs1, bits } => verify_rsa(pkcs1, *bits, message.sha256(), signature),
        }
    }

    /// Checks an ECDSA signature over the hash that is as long as the curve, where that is not SHA-256: SHA-384 of P-384,
    /// SHA-512 of P-521. So cosign signs with keys that were brought to it; other keys have no such signature.
    pub fn verify_with_hash_of_curve(&self, message: &[&[u8]], signature: &[u8]) -> Result<(), BadSignature> {
        match &self.key {
            Key::P384(_) => self.verify_ecdsa_prehash(&hash::<sha2::Sha384>(message), signature),
            Key::P521(_) => self.verify_ecdsa_prehash(&hash::<sha2::Sha512>(message), signature),
            Key::P256(_) | Key::Ed25519(_) | Key::Rsa { .. } => Err(BadSignature),
        }
    }

    /// Checks an ECDSA signature over a hash of 32, 48 or 64 bytes; other keys have none.
    ///
    /// The DER is read by the crates of the curves, which are stricter; AWS-LC computes where it has curve and hash, because
    /// it is several times faster (chains of certificates are on P-384).
    pub(super) fn verify_ecdsa_prehash(&self, prehash: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        match &self.key {
            Key::P256(key) => {
                let read = p256::ecdsa::DerSignature::try_from(signature).map_err(|_| BadSignature)?;
                match prehash.len() {
                    32 => self.by_aws_lc(&ECDSA_P256_SHA256_ASN1, prehash, signature),
                    48 => self.by_aws_lc(&ECDSA_P256_SHA384_ASN1, prehash, signature),
                    _ => key.verify_prehash(prehash, &read).map_err(|_| BadSignature),
                }
            }
            Key::P384(key) => {
                let read = p384::ecdsa::DerSignature::try_from(signature).map_err(|_| BadSignature)?;
                match prehash.len() {
                    32 => self.by_aws_lc(&ECDSA_P384_SHA256_ASN1, prehash, signature),
                    48 => self.by_aws_lc(&ECDSA_P384_SHA384_ASN1, prehash, signature),
                    _ => key.verify_prehash(prehash, &read).map_err(|_| BadSignature),
                }
            }
            Key::P521(key) => {
                let signature = p521::ecdsa::DerSignature::try_from(signature).map_err(|_| BadSignature)?;
                let padded = <&[u8; 32]>::try_from(prehash).map(p521_prehash);
                key.verify_prehash(padded.as_ref().map_or(prehash, |padded| padded), &signature)
                    .map_err(|_| BadSignature)
            }
            Key::Ed25519(_) | Key::Rsa { .. } => Err(BadSignature),
        }
    }

    /// The same by AWS-LC; the hash is the one of the algorithm, of 32 or 48 bytes.
    fn by_aws_lc(
        &self,
        algorithm: &'static EcdsaVerificationAlgorithm,
        prehash: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        let hash = if prehash.len() == 32 { &SHA256 } else { &SHA384 };
        let digest = Digest::import_less_safe(prehash, hash).map_err(|_| BadSignature)?;
        algorithm.verify_digest_sig(&self.spki, &digest, signature).map_err(|_| BadSignature)
    }

    /// The `RSAPublicKey`, if it is an RSA key.
    pub(crate) fn rsa_key(&self) -> Option<&[u8]> {
        match &self.key {
            Key::Rsa { pkcs1, .. } => Some(pkcs1),
            _ => None,
        }
    }

    /// Whether a signature of this length can come from this key. Saves hashing a large message for nothing.
    pub(crate) fn may_have_made(&self, signature: &[u8]) -> bool {
        match &self.key {
            Key::Ed25519(_) => signature.len() == 64,
            Key::Rsa { bits, .. } => signature.len() == *bits as usize / 8 + usize::from(bits % 8 != 0),
            // SEQUENCE of two integers: two bytes of header each, three where the length needs it.
            Key::P256(_) => (8..=72).contains(&signature.len()),
            Key::P384(_) => (8..=104).contains(&signature.len()),
            Key::P521(_) => (8..=139).contains(&signature.len()),
        }
    }
}

impl PublicKey {
    /// Whether each check hashes the message anew: Ed25519 does, the others share one SHA-256.
    pub(crate) fn hashes_message(&self) -> bool {
        matches!(self.key, Key::Ed25519(_))
    }

    /// What one check costs besides hashing the message, as the number of bytes that SHA-256 hashes meanwhile. Measured
    /// on an optimised build and rounded up; RSA with all its salts.
    pub(crate) fn cost_of_check(&self) -> u64 {
        const KIB: u64 = 1024;
        match self.kind() {
            KeyKind::Ed25519 | KeyKind::P256 | KeyKind::Rsa { bits: ..=3072 } => 256 * KIB,
            KeyKind::Rsa { bits: ..=4096 } => 512 * KIB,
            KeyKind::P384 => 1024 * KIB,
            KeyKind::P521 => 2048 * KIB,
            KeyKind::Rsa { .. } => 4096 * KIB,
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kind", &self.kind()).field("id", &self.id).finish_non_exhaustive()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for PublicKey {}

/// P-521 takes at least half a field element (33 bytes); a shorter hash counts as a number
/// (FIPS 186-5 §6.4.1), so zeros in front change nothing.
pub(super) fn p521_prehash(sha256: &[u8; 32]) -> [u8; 66] {
    let mut padded = [0; 66];
    padded[34..].copy_from_slice(sha256);
    padded
}

/// The hash of the concatenation of `parts`.
fn hash<H: sha2::Digest>(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().fold(H::new(), H::chain_update).finalize().to_vec()
}

/// As strict as `VerifyingKey::verify_strict`, which needs the message in one piece: the key is known not
/// to be weak, R must not be of small order, and R and S must be canonical (the stream verifier compares
/// R as bytes and refuses S of the group order or more).
fn verify_ed25519(key: &Ed25519Key, message: &Message<'_>, signature: &[u8]) -> Result<(), BadSignature> {
    let bytes: &[u8; 64] = signature.try_into().map_err(|_| BadSignature)?;
    let signature = ed25519_dalek::Signature::from_bytes(bytes);
    let commitment = Ed25519Key::from_bytes(signature.r_bytes()).map_err(|_| BadSignature)?;
    if commitment.is_weak() {
        return Err(BadSignature);
    }
    let mut verifier = key.verify_stream(&signature).map_err(|_| BadSignature)?;
    for part in message.parts() {
        verifier.update(part);
    }
    verifier.finalize_and_verify().map_err(|_| BadSignature)
}

fn verify_rsa(pkcs1: &[u8], bits: u32, sha256: &[u8; 32], signature: &[u8]) -> Result<Scheme, BadSignature> {
    let digest = aws_lc_rs::digest::Digest::import_less_safe(sha256, &aws_lc_rs::digest::SHA256)
        .expect("the digest has the length of SHA-256");
    let salts =
        [RsaPssSaltLength::Digest, RsaPssSaltLength::Max].into_iter().chain(OTHER_SALTS.map(RsaPssSaltLength::Custom));
    debug_assert!(bits >= MIN_RSA_BITS, "shorter keys are refused when they are read");
    for salt in salts {
        let parameters = RSA_PSS_2048_8192_SHA256.with_pss_salt_length(salt);
        if parameters.verify_digest_sig(pkcs1, &digest, signature).is_ok() {
            return Ok(Scheme::RsaPssSha256);
        }
    }
    RSA_PKCS1_2048_8192_SHA256
        .verify_digest_sig(pkcs1, &digest, signature)
        .map(|()| Scheme::RsaPkcs1Sha256)
        .map_err(|_| BadSignature)
}

/// Length of an RSA modulus given as big-endian bytes without leading zeros, if it is allowed.
pub(super) fn rsa_bits(modulus: &[u8]) -> Result<u32, KeyError> {
    let zeros = modulus.first().map_or(8, |first| first.leading_zeros());
    let bits = u32::try_from(modulus.len()).unwrap_or(u32::MAX).saturating_mul(8).saturating_sub(zeros);
    if bits < MIN_RSA_BITS {
        return Err(KeyError::unsupported(format!("RSA of {bits} bits, at least {MIN_RSA_BITS} are needed")));
    }
    if bits > MAX_RSA_BITS {
        return Err(KeyError::unsupported(format!("RSA of {bits} bits, at most {MAX_RSA_BITS} are read")));
    }
    Ok(bits)
}

/// The named curve of an EC algorithm, one of the three that are supported.
pub(super) fn curve_of(algorithm: AlgorithmIdentifierRef<'_>) -> Result<ObjectIdentifier, KeyError> {
    let curve = algorithm
        .parameters
        .and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok())
        .ok_or_else(|| KeyError::unsupported("an EC key without a named curve"))?;
    if [P256, P384, P521].contains(&curve) { Ok(curve) } else { Err(KeyError::unsupported(name_of(curve))) }
}

/// A name for an algorithm or curve that is not supported.
pub(super) fn name_of(oid: ObjectIdentifier) -> String {
    let oid = oid.to_string();
    let name = match oid.as_str() {
        "1.3.101.110" => "X25519 (it cannot sign)",
        "1.3.101.111" => "X448 (it cannot sign)",
        "1.3.101.113" => "Ed448",
        "1.2.840.10040.4.1" => "DSA",
        "1.2.840.113549.1.1.10" => "RSA with parameters for PSS (the plain RSA form of the same key is read)",
        "1.2.840.113549.1.3.1" => "Diffie-Hellman (it cannot sign)",
        "1.2.840.10045.3.1.1" => "curve P-192",
        "1.3.132.0.33" => "curve P-224",
        "1.3.132.0.10" => "curve secp256k1",
        "1.3.36.3.3.2.8.1.1.7" => "curve brainpoolP256r1",
        "1.2.156.10197.1.301" => "SM2",
        "2.16.840.1.101.3.4.3.17" => "ML-DSA-44",
        "2.16.840.1.101.3.4.3.18" => "ML-DSA-65",
        "2.16.840.1.101.3.4.3.19" => "ML-DSA-87",
        _ => return format!("algorithm {oid}"),
    };
    name.to_owned()
}

fn encode_spki(key: &Key) -> der::Result<Vec<u8>> {
    let named = |curve: &'static ObjectIdentifier| AlgorithmIdentifierRef { oid: EC, parameters: Some(curve.into()) };
    match key {
        Key::Ed25519(key) => spki(AlgorithmIdentifierRef { oid: ED25519, parameters: None }, key.as_bytes()),
        Key::P256(key) => spki(named(&P256), key.to_sec1_point(false).as_bytes()),
        Key::P384(key) => spki(named(&P384), key.to_sec1_point(false).as_bytes()),
        Key::P521(key) => spki(named(&P521), key.to_sec1_point(false).as_bytes()),
        Key::Rsa { pkcs1, .. } => spki(AlgorithmIdentifierRef { oid: RSA, parameters: Some(AnyRef::NULL) }, pkcs1),
    }
}

fn spki(algorithm: AlgorithmIdentifierRef<'_>, key: &[u8]) -> der::Result<Vec<u8>> {
    SubjectPublicKeyInfoRef { algorithm, subject_public_key: BitStringRef::from_bytes(key)? }.to_der()
}

/// The `subjectPublicKeyInfo` of a certificate. Nothing else of it is looked at: whether a certificate is to be
/// trusted is not asked here.
fn certificate_spki(der: &[u8]) -> Result<&[u8], KeyError> {
    let damaged = |error: der::Error| KeyError::damaged(format!("certificate: {error}"));
    let certificate = AnyRef::from_der(der).map_err(damaged)?;
    let mut outer = SliceReader::new(certificate.value()).map_err(damaged)?;
    let tbs = AnyRef::decode(&mut outer).map_err(damaged)?;
    let mut reader = SliceReader::new(tbs.value()).map_err(damaged)?;
    let version = reader.tlv_bytes().map_err(damaged)?;
    if version.first() == Some(&0xa0) {
        reader.tlv_bytes().map_err(damaged)?; // the serial number; old certificates begin with it
    }
    for _ in ["signature", "issuer", "validity", "subject"] {
        reader.tlv_bytes().map_err(damaged)?;
    }
    reader.tlv_bytes().map_err(damaged)
}
