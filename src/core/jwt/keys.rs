//! The keys of an issuer: its discovery document (`OpenID` Connect Discovery 1.0 §4), its key set (RFC 7517), and what a
//! signature is checked with (RFC 7518, RFC 8037).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde_json::{Map, Value};

use super::{JwtError, decode, shown};
use crate::attestor::{Fetch, FetchError};

/// Longest discovery document, in bytes. Real ones have some two thousand.
const MAX_DISCOVERY: usize = 64 * 1024;
/// Longest key set, in bytes. Real ones have up to some ten thousand.
const MAX_KEY_SET: usize = 512 * 1024;
/// Most keys of a set.
const MAX_KEYS: usize = 128;
/// Most keys that are tried for one token, where it does not say which, or several have the same name.
const MAX_TRIALS: usize = 8;
/// Most bytes of a number of a key: 8192 bits.
const MAX_NUMBER: usize = 1024;

/// An algorithm of signatures.
#[derive(Debug)]
pub struct Algorithm {
    name: &'static str,
    key_type: &'static str,
    check: Check,
}

#[derive(Debug)]
enum Check {
    Rsa(&'static RsaParameters),
    /// A curve, its algorithm, and the bytes of a coordinate.
    Curve(&'static str, &'static dyn VerificationAlgorithm, usize),
    Ed25519,
}

/// What is taken: signatures that only the holder of a private key can make.
static ALGORITHMS: [Algorithm; 7] = [
    Algorithm { name: "RS256", key_type: "RSA", check: Check::Rsa(&RSA_PKCS1_2048_8192_SHA256) },
    Algorithm { name: "RS384", key_type: "RSA", check: Check::Rsa(&RSA_PKCS1_2048_8192_SHA384) },
    Algorithm { name: "RS512", key_type: "RSA", check: Check::Rsa(&RSA_PKCS1_2048_8192_SHA512) },
    Algorithm { name: "PS256", key_type: "RSA", check: Check::Rsa(&RSA_PSS_2048_8192_SHA256) },
    Algorithm { name: "ES256", key_type: "EC", check: Check::Curve("P-256", &ECDSA_P256_SHA256_FIXED, 32) },
    Algorithm { name: "ES384", key_type: "EC", check: Check::Curve("P-384", &ECDSA_P384_SHA384_FIXED, 48) },
    Algorithm { name: "EdDSA", key_type: "OKP", check: Check::Ed25519 },
];

pub(super) fn algorithm(name: &str) -> Option<&'static Algorithm> {
    ALGORITHMS.iter().find(|algorithm| algorithm.name == name)
}

pub(super) fn known() -> String {
    ALGORITHMS.iter().map(|algorithm| algorithm.name).collect::<Vec<_>>().join(", ")
}

/// The members of a key that are recorded: those that name it, and the public numbers.
const RECORDED: [&str; 9] = ["kty", "use", "alg", "kid", "n", "e", "crv", "x", "y"];

/// Why an issuer's keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It does not answer as it should.
    #[error("the keys of the issuer cannot be fetched: {0}")]
    Fetch(#[from] FetchError),
    /// The discovery document lies or is broken.
    #[error("the issuer's discovery document {url}: {reason}")]
    Discovery {
        /// Where it was read.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The key set is broken.
    #[error("the issuer's key set {url}: {reason}")]
    KeySet {
        /// Where it was read.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

/// The keys of an issuer, and where they were read.
#[derive(Debug)]
pub struct Keys {
    /// The URL of the key set.
    pub url: String,
    keys: Vec<Map<String, Value>>,
}

/// Fetches the keys of an issuer: its discovery document first, then the key set that it names, which must be on the
/// issuer's own host (a document that leads elsewhere would choose whom we ask, and whose keys count).
pub fn fetch(fetch: &dyn Fetch, issuer: &str) -> Result<Keys, KeysError> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let bad = |reason: &str| KeysError::Discovery { url: url.clone(), reason: reason.to_owned() };
    let bytes = fetch.get(&url, None, MAX_DISCOVERY)?;
    let document: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|_| bad("is no JSON object"))?;
    match document.get("issuer").and_then(Value::as_str) {
        Some(found) if found == issuer => {}
        Some(found) => return Err(bad(&format!("is that of the issuer `{}`, not of `{issuer}`", shown(found)))),
        None => return Err(bad("names no issuer")),
    }
    let keys = document.get("jwks_uri").and_then(Value::as_str).ok_or_else(|| bad("names no key set (`jwks_uri`)"))?;
    if origin(keys).is_none() || origin(keys) != origin(issuer) {
        return Err(bad(&format!("names a key set on another host: `{}`", shown(keys))));
    }
    fetch_set(fetch, keys)
}

/// Fetches a key set by its own URL.
pub fn fetch_set(fetch: &dyn Fetch, url: &str) -> Result<Keys, KeysError> {
    Keys::read(url, &fetch.get(url, None, MAX_KEY_SET)?)
}

/// Scheme, host and port of a URL; `None` where it has a user or is none.
fn origin(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty() && !host.contains(['@', '\\']))?;
    Some((scheme, host))
}

impl Keys {
    /// Reads a key set (RFC 7517 §5) that was found at `url`.
    pub fn read(url: &str, bytes: &[u8]) -> Result<Self, KeysError> {
        let bad = |reason: String| KeysError::KeySet { url: url.to_owned(), reason };
        let mut set: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|_| bad("is no JSON object".to_owned()))?;
        let Some(Value::Array(list)) = set.remove("keys") else { return Err(bad("lists no `keys`".to_owned())) };
        if list.len() > MAX_KEYS {
            return Err(bad(format!("lists {} keys, more than {MAX_KEYS}", list.len())));
        }
        // Keys of unknown shape are for others (RFC 7517 §5).
        let keys = list.into_iter().filter_map(|key| if let Value::Object(key) = key { Some(key) } else { None });
        Ok(Self { url: url.to_owned(), keys: keys.collect() })
    }

    /// The key whose signature it is.
    pub(super) fn prove(
        &self,
        algorithm: &Algorithm,
        key_id: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<Map<String, Value>, JwtError> {
        let is = |key: &Map<String, Value>, name: &str, value: &str| {
            key.get(name).is_none_or(|found| found.as_str() == Some(value))
        };
        let fitting: Vec<_> = self
            .keys
            .iter()
            .filter(|key| key.get("kty").and_then(Value::as_str) == Some(algorithm.key_type))
            .filter(|key| is(key, "use", "sig") && is(key, "alg", algorithm.name))
            .filter(|key| key_id.is_none_or(|id| key.get("kid").and_then(Value::as_str) == Some(id)))
            .collect();
        let named = key_id.map_or_else(|| "without a name".to_owned(), |id| format!("`{}`", shown(id)));
        if fitting.is_empty() {
            return Err(JwtError::NoKey(format!("{} key {named}, {} listed", algorithm.name, self.keys.len())));
        }
        if fitting.len() > MAX_TRIALS {
            return Err(JwtError::NoKey(format!("{} keys could be it, more than {MAX_TRIALS}", fitting.len())));
        }
        let key = fitting.into_iter().find(|key| algorithm.holds(key, message, signature));
        let key = key.ok_or(JwtError::Signature(named))?;
        Ok(RECORDED.iter().filter_map(|name| Some(((*name).to_owned(), key.get(*name)?.clone()))).collect())
    }
}

impl Algorithm {
    /// Whether the signature holds under this key. A key that cannot be read holds nothing.
    fn holds(&self, key: &Map<String, Value>, message: &[u8], signature: &[u8]) -> bool {
        self.checked(key, message, signature).unwrap_or(false)
    }

    fn checked(&self, key: &Map<String, Value>, message: &[u8], signature: &[u8]) -> Option<bool> {
        let number = |name: &str| decode(key.get(name)?.as_str()?).filter(|bytes| bytes.len() <= MAX_NUMBER);
        let curve = key.get("crv").and_then(Value::as_str);
        Some(match &self.check {
            Check::Rsa(parameters) => {
                let (n, e) = (number("n")?, number("e")?);
                // Some issuers write a leading zero, as in DER; RFC 7518 §6.3.1.1 has none.
                let strip = |bytes: &[u8]| bytes[bytes.iter().take_while(|byte| **byte == 0).count()..].to_vec();
                RsaPublicKeyComponents { n: strip(&n), e: strip(&e) }.verify(parameters, message, signature).is_ok()
            }
            Check::Curve(name, algorithm, size) => {
                let (x, y) = (number("x")?, number("y")?);
                if curve != Some(name) || x.len() != *size || y.len() != *size {
                    return None;
                }
                UnparsedPublicKey::new(*algorithm, [&[4], x.as_slice(), &y].concat()).verify(message, signature).is_ok()
            }
            Check::Ed25519 => {
                let x = number("x")?;
                curve == Some("Ed25519") && UnparsedPublicKey::new(&ED25519, x).verify(message, signature).is_ok()
            }
        })
    }
}
