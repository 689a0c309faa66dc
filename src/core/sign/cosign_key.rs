//! cosign's encrypted private keys: scrypt and `nacl/secretbox` (XSalsa20-Poly1305) around PKCS#8.
//!
//! Format: sigstore `pkg/cryptoutils` and `pkg/encrypted`; sigstore-oci §5. The box is put together here from the
//! `salsa20` and `poly1305` crates: the crate that has it ready is of an older generation of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit as _;
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit as _, StreamCipher as _};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{KeyError, pem};

/// The label that is written; `ENCRYPTED COSIGN PRIVATE KEY` is the older one.
const LABEL: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// The values of scrypt's N that cosign reads, with their binary logarithms.
const COSTS: [(u64, u8); 3] = [(32_768, 15), (65_536, 16), (131_072, 17)];
/// The N that is written, as cosign does, and its binary logarithm.
const COST: (u64, u8) = COSTS[1];
const BLOCK_SIZE: u32 = 8;
const PARALLEL: u32 = 1;
const SALT: usize = 32;
const NONCE: usize = 24;
const TAG: usize = 16;

#[derive(Serialize, Deserialize)]
struct File {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(rename = "N")]
    cost: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// Opens the JSON in a PEM block and gives the PKCS#8 in it.
pub(super) fn decrypt(json: &[u8], password: Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let file: File =
        serde_json::from_slice(json).map_err(|error| KeyError::damaged(format!("encrypted sigstore key: {error}")))?;
    if file.kdf.name != "scrypt" || file.cipher.name != "nacl/secretbox" {
        let what = format!("a sigstore key with {} and {}", short(&file.kdf.name), short(&file.cipher.name));
        return Err(KeyError::UnsupportedEncryption { what });
    }
    let Params { cost, r, p } = file.kdf.params;
    let known = COSTS.iter().find(|(known, _)| *known == cost && r == BLOCK_SIZE && p == PARALLEL);
    let Some(&(_, log_cost)) = known else {
        let what = format!("scrypt with N={cost}, r={r}, p={p}; cosign has N=32768, 65536 or 131072, r=8, p=1");
        return Err(KeyError::UnsupportedEncryption { what });
    };
    let salt: [u8; SALT] = fixed("kdf.salt", &file.kdf.salt)?;
    let nonce: [u8; NONCE] = fixed("cipher.nonce", &file.cipher.nonce)?;
    let mut data = Zeroizing::new(decode("ciphertext", &file.ciphertext)?);
    if data.len() < TAG {
        return Err(KeyError::damaged("encrypted sigstore key: `ciphertext` is too short"));
    }
    let password = password.ok_or(KeyError::PasswordNeeded)?;
    let key = derive(password, &salt, log_cost)?;
    let mut cipher = XSalsa20::new((&*key).into(), (&nonce).into());
    let (tag, text) = data.split_at_mut(TAG);
    let expected = authenticate(&mut cipher, text);
    // The tag is not secret and there is one try per run of scrypt, so the comparison need not be constant in time.
    if expected != *tag {
        return Err(KeyError::WrongPassword);
    }
    cipher.apply_keystream(text);
    data.drain(..TAG);
    Ok(data)
}

/// Seals PKCS#8 as cosign does and gives the PEM text.
pub(super) fn encrypt(pkcs8: &[u8], password: &[u8]) -> Result<Zeroizing<String>, KeyError> {
    let mut salt = [0; SALT];
    let mut nonce = [0; NONCE];
    super::random::fill(&mut salt).map_err(|_| KeyError::Write)?;
    super::random::fill(&mut nonce).map_err(|_| KeyError::Write)?;
    let key = derive(password, &salt, COST.1)?;
    let mut cipher = XSalsa20::new((&*key).into(), (&nonce).into());
    let mut poly_key = Zeroizing::new([0; 32]);
    cipher.apply_keystream(&mut poly_key[..]);
    let mut text = Zeroizing::new(pkcs8.to_vec());
    cipher.apply_keystream(&mut text);
    let mut data = Poly1305::new((&*poly_key).into()).compute_unpadded(&text).to_vec();
    data.extend_from_slice(&text);
    let file = File {
        kdf: Kdf {
            name: "scrypt".to_owned(),
            params: Params { cost: COST.0, r: BLOCK_SIZE, p: PARALLEL },
            salt: STANDARD.encode(salt),
        },
        cipher: Cipher { name: "nacl/secretbox".to_owned(), nonce: STANDARD.encode(nonce) },
        ciphertext: STANDARD.encode(data),
    };
    let json = serde_json::to_vec(&file).map_err(|_| KeyError::Write)?;
    Ok(pem::encode(LABEL, &json))
}

/// The tag over `text`. Takes the first 32 bytes of the key stream, after which the text's begin.
fn authenticate(cipher: &mut XSalsa20, text: &[u8]) -> [u8; TAG] {
    let mut key = Zeroizing::new([0; 32]);
    cipher.apply_keystream(&mut key[..]);
    Poly1305::new((&*key).into()).compute_unpadded(text).into()
}

fn derive(password: &[u8], salt: &[u8], log_cost: u8) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let parameters = scrypt::Params::new(log_cost, BLOCK_SIZE, PARALLEL).map_err(|_| KeyError::Write)?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password, salt, &parameters, &mut key[..]).map_err(|_| KeyError::Write)?;
    Ok(key)
}

fn decode(member: &str, base64: &str) -> Result<Vec<u8>, KeyError> {
    STANDARD.decode(base64).map_err(|_| KeyError::damaged(format!("encrypted sigstore key: `{member}` is not base64")))
}

fn fixed<const N: usize>(member: &str, base64: &str) -> Result<[u8; N], KeyError> {
    decode(member, base64)?
        .try_into()
        .map_err(|_| KeyError::damaged(format!("encrypted sigstore key: `{member}` has not {N} bytes")))
}

/// A name out of a file, cut and escaped for a message.
fn short(name: &str) -> String {
    format!("`{}`", name.escape_default().take(40).collect::<String>())
}
