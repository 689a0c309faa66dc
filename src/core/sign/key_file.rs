//! Reading private key files, and writing encrypted PKCS#8.

use der::asn1::{AnyRef, ContextSpecific, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode as _, Encode as _, Reader as _, SliceReader, TagNumber};
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::{self, pbes2};
use zeroize::Zeroizing;

use super::pem::{self, Block};
use super::shape::{Shape, shape};
use super::{KeyError, MAX_KEY_FILE, PrivateKey, cosign_key};

/// Most PBKDF2 rounds that are computed for a file: some seconds.
const MAX_PBKDF2_ROUNDS: u32 = 20_000_000;
/// Most memory that scrypt may take for a file, in bytes.
const MAX_SCRYPT_MEMORY: u64 = 256 * 1024 * 1024;
/// Most that scrypt may repeat (its parameter p).
const MAX_SCRYPT_PARALLEL: u16 = 16;
/// PBKDF2 rounds that are written (OWASP's figure for HMAC-SHA-256).
const PBKDF2_ROUNDS: u32 = 600_000;

/// See [`PrivateKey::from_file_bytes`].
pub(super) fn read(bytes: &[u8], password: Option<&[u8]>) -> Result<PrivateKey, KeyError> {
    if bytes.len() > MAX_KEY_FILE {
        return Err(KeyError::TooLarge { size: bytes.len() });
    }
    let blocks = match std::str::from_utf8(bytes) {
        Ok(text) => pem::blocks(text),
        Err(_) => Vec::new(),
    };
    if blocks.is_empty() {
        return match shape(bytes) {
            Some(shape) => from_der(shape, bytes, password),
            None => Err(KeyError::NotAKey { found: describe(bytes) }),
        };
    }
    let mut public = None;
    for block in &blocks {
        match from_block(block, password) {
            Some(Err(error @ KeyError::PublicKeyGiven { .. })) => {
                public.get_or_insert(error);
            }
            Some(result) => return result,
            None => {}
        }
    }
    Err(public.unwrap_or_else(|| KeyError::NotAKey { found: describe_blocks(&blocks) }))
}

/// Reads one block; `None` when it is no key at all.
fn from_block(block: &Block<'_>, password: Option<&[u8]>) -> Option<Result<PrivateKey, KeyError>> {
    if block.encrypted_header {
        let what = "the old form of openssl with `DEK-Info`".to_owned();
        return Some(Err(KeyError::UnsupportedEncryption { what }));
    }
    let labelled = block.label.ends_with("PRIVATE KEY");
    let Some(body) = &block.body else {
        return labelled.then(|| Err(KeyError::damaged(format!("the base64 of `{}` is broken", block.label))));
    };
    if body.starts_with(b"openssh-key-v1\0") {
        let what = "the OpenSSH form; `ssh-keygen -p -m PKCS8 -f KEY` converts it in place";
        return Some(Err(KeyError::unsupported(what)));
    }
    if body.first() == Some(&b'{') {
        return Some(cosign_key::decrypt(body, password).and_then(|der| opened(&der)));
    }
    match shape(body) {
        Some(shape) => Some(from_der(shape, body, password)),
        None => labelled.then(|| Err(KeyError::damaged(format!("`{}` holds no key in DER", block.label)))),
    }
}

fn from_der(shape: Shape, der: &[u8], password: Option<&[u8]>) -> Result<PrivateKey, KeyError> {
    match shape {
        Shape::Pkcs8 => PrivateKey::from_pkcs8(der),
        Shape::Sec1 => PrivateKey::from_sec1(der),
        Shape::Pkcs1Private => PrivateKey::from_pkcs1(der),
        Shape::EncryptedPkcs8 => opened(&decrypt(der, password)?),
        Shape::Spki | Shape::Pkcs1Public => Err(KeyError::PublicKeyGiven { what: "public key" }),
        Shape::Certificate => Err(KeyError::PublicKeyGiven { what: "certificate" }),
    }
}

/// Reads what decryption gave. CBC has no seal: by chance one wrong password in 256 gives a valid padding, and then no key.
fn opened(der: &[u8]) -> Result<PrivateKey, KeyError> {
    match shape(der) {
        Some(Shape::Pkcs8) => PrivateKey::from_pkcs8(der),
        Some(Shape::Sec1) => PrivateKey::from_sec1(der),
        Some(Shape::Pkcs1Private) => PrivateKey::from_pkcs1(der),
        _ => Err(KeyError::WrongPassword),
    }
}

fn decrypt(der: &[u8], password: Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let info = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|error| match error {
        pkcs8::Error::Asn1(error) => match error.kind() {
            der::ErrorKind::OidUnknown { oid } => unsupported_encryption(&oid),
            _ => algorithm_of(der).map_or_else(
                || KeyError::damaged(format!("EncryptedPrivateKeyInfo: {error}")),
                |oid| {
                    if oid == PBES2 {
                        KeyError::UnsupportedEncryption {
                            what: format!("PBES2 with parameters that are not known ({error})"),
                        }
                    } else {
                        unsupported_encryption(&oid)
                    }
                },
            ),
        },
        error => KeyError::damaged(format!("EncryptedPrivateKeyInfo: {error}")),
    })?;
    let pkcs5::EncryptionScheme::Pbes2(parameters) = &info.encryption_algorithm else {
        return Err(unsupported_encryption(&info.encryption_algorithm.oid()));
    };
    check_cost(&parameters.kdf)?;
    let password = password.ok_or(KeyError::PasswordNeeded)?;
    match parameters.decrypt(password, info.encrypted_data.as_bytes()) {
        Ok(clear) => Ok(Zeroizing::new(clear)),
        Err(pkcs5::Error::UnsupportedAlgorithm { oid } | pkcs5::Error::AlgorithmParametersInvalid { oid }) => {
            Err(unsupported_encryption(&oid))
        }
        Err(_) => Err(KeyError::WrongPassword),
    }
}

const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");

/// The object identifier with which an `EncryptedPrivateKeyInfo` begins.
fn algorithm_of(der: &[u8]) -> Option<ObjectIdentifier> {
    let outer = AnyRef::from_der(der).ok()?;
    let mut reader = SliceReader::new(outer.value()).ok()?;
    let algorithm = AnyRef::decode(&mut reader).ok()?;
    ObjectIdentifier::decode(&mut SliceReader::new(algorithm.value()).ok()?).ok()
}

fn unsupported_encryption(oid: &ObjectIdentifier) -> KeyError {
    let text = oid.to_string();
    let what = if text.starts_with("1.2.840.113549.1.5.") {
        "PBES1, which is weak".to_owned()
    } else if text.starts_with("1.2.840.113549.1.12.1.") {
        "the method of PKCS#12, which is weak".to_owned()
    } else {
        format!("method {text}")
    };
    KeyError::UnsupportedEncryption { what }
}

/// Refuses a file that would keep the machine busy for minutes before its password can be checked.
fn check_cost(kdf: &pbes2::Kdf) -> Result<(), KeyError> {
    let too_costly = |what: String| Err(KeyError::UnsupportedEncryption { what });
    match kdf {
        pbes2::Kdf::Pbkdf2(parameters) if parameters.iteration_count > MAX_PBKDF2_ROUNDS => {
            too_costly(format!("PBKDF2 with {} rounds, the limit is {MAX_PBKDF2_ROUNDS}", parameters.iteration_count))
        }
        pbes2::Kdf::Scrypt(parameters) => {
            let memory = parameters.cost_parameter.saturating_mul(128 * u64::from(parameters.block_size));
            if memory > MAX_SCRYPT_MEMORY || parameters.parallelization > MAX_SCRYPT_PARALLEL {
                return too_costly(format!(
                    "scrypt with N={}, r={}, p={}, the limit is {MAX_SCRYPT_MEMORY} bytes of memory and p={MAX_SCRYPT_PARALLEL}",
                    parameters.cost_parameter, parameters.block_size, parameters.parallelization
                ));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// See [`PrivateKey::to_encrypted_pem`].
pub(super) fn encrypt(pkcs8: &[u8], password: &[u8]) -> Result<Zeroizing<String>, KeyError> {
    let mut salt = [0; 16];
    let mut iv = [0; 16];
    super::random::fill(&mut salt).map_err(|_| KeyError::Write)?;
    super::random::fill(&mut iv).map_err(|_| KeyError::Write)?;
    let parameters =
        pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(PBKDF2_ROUNDS, &salt, iv).map_err(|_| KeyError::Write)?;
    let encrypted = parameters.encrypt(password, pkcs8).map_err(|_| KeyError::Write)?;
    let info = EncryptedPrivateKeyInfoRef {
        encryption_algorithm: parameters.into(),
        encrypted_data: OctetStringRef::new(&encrypted).map_err(|_| KeyError::Write)?,
    };
    let der = info.to_der().map_err(|_| KeyError::Write)?;
    Ok(pem::encode("ENCRYPTED PRIVATE KEY", &der))
}

/// The named curve of an `ECPrivateKey` (RFC 5915).
pub(super) fn sec1_curve(der: &[u8]) -> Result<ObjectIdentifier, KeyError> {
    let damaged = |_| KeyError::damaged("EC private key");
    let outer = AnyRef::from_der(der).map_err(damaged)?;
    let mut reader = SliceReader::new(outer.value()).map_err(damaged)?;
    u8::decode(&mut reader).map_err(damaged)?;
    <&OctetStringRef>::decode(&mut reader).map_err(damaged)?;
    ContextSpecific::<AnyRef<'_>>::decode_explicit(&mut reader, TagNumber(0))
        .map_err(damaged)?
        .and_then(|parameters| parameters.value.decode_as::<ObjectIdentifier>().ok())
        .ok_or_else(|| KeyError::unsupported("an EC key without a named curve"))
}

/// The modulus of an `RSAPrivateKey` (RFC 8017 §A.1.2).
pub(super) fn pkcs1_modulus(der: &[u8]) -> Result<&[u8], KeyError> {
    let damaged = |_| KeyError::damaged("RSA private key");
    let outer = AnyRef::from_der(der).map_err(damaged)?;
    let mut reader = SliceReader::new(outer.value()).map_err(damaged)?;
    let mut integers = 0;
    let version = UintRef::decode(&mut reader).map_err(damaged)?;
    let modulus = UintRef::decode(&mut reader).map_err(damaged)?;
    while !reader.is_finished() && integers < 8 {
        UintRef::decode(&mut reader).map_err(damaged)?;
        integers += 1;
    }
    match (version.as_bytes(), integers, reader.is_finished()) {
        ([0], 7, true) => Ok(modulus.as_bytes()),
        ([0], 4, true) => Err(KeyError::unsupported("DSA")),
        _ => Err(KeyError::unsupported("RSA with more than two primes")),
    }
}

/// Says in a few words what a file without a key is, without quoting it: it may be a secret of another kind.
pub(super) fn describe(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "the file is empty".to_owned();
    }
    let start = bytes.trim_ascii_start();
    match start.first() {
        Some(b'{' | b'[') => "JSON".to_owned(),
        Some(_) if start.starts_with(b"ssh-") || start.starts_with(b"ecdsa-sha2-") => {
            "an OpenSSH public key; `ssh-keygen -e -m PKCS8 -f KEY.pub` converts it".to_owned()
        }
        Some(_) if start.starts_with(b"-----BEGIN ") => "a PEM block that has no end".to_owned(),
        Some(b'0') if !bytes.is_ascii() => "binary data that is not DER of a key".to_owned(),
        Some(_) if bytes.is_ascii() => "text without a PEM block".to_owned(),
        _ => "binary data".to_owned(),
    }
}

/// Names the labels of blocks that are no keys.
pub(super) fn describe_blocks(blocks: &[Block<'_>]) -> String {
    const SHOWN: usize = 3;
    let mut labels: Vec<String> = blocks
        .iter()
        .take(SHOWN)
        .map(|block| format!("`{}`", block.label.escape_default().take(64).collect::<String>()))
        .collect();
    if blocks.len() > SHOWN {
        labels.push("…".to_owned());
    }
    format!("only {}", labels.join(", "))
}
