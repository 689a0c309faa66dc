//! Identity tokens of CI providers: JSON Web Tokens (RFC 7519, RFC 7515) that an `OpenID` Connect issuer has signed.
//!
//! A token is judged in two steps: [`Token::read`] and [`Token::check`] need no network, so that nobody is asked about a
//! token that cannot hold; then [`Keys`] of the issuer, fetched by [`keys::fetch`], prove the signature. Which issuer is
//! asked is never taken from the token. No error holds a part of a token.

pub mod keys;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::evidence;

pub use keys::Keys;

/// Longest token that is read, in bytes. Real ones have one to four thousand.
pub const MAX_TOKEN: usize = 64 * 1024;
/// How far the issuer's clock and ours may be apart, in seconds.
pub const LEEWAY: i64 = 60;
/// Most audiences that are read.
const MAX_AUDIENCES: usize = 64;
/// How much of a stranger's text stands in a message, in characters.
const MAX_SHOWN: usize = 100;

/// Why a token does not hold.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// It is no token.
    #[error("the token is no JSON Web Token: {0}")]
    Malformed(&'static str),
    /// It has no signature.
    #[error("the token is not signed (`alg` is `none`)")]
    Unsigned,
    /// It is signed with a secret, which proves nothing.
    #[error("the token is signed with a shared secret (`alg` is `{0}`), which no public key can prove")]
    Symmetric(String),
    /// An algorithm that is not known.
    #[error("the token is signed with `{0}`, none of {known}", known = keys::known())]
    Algorithm(String),
    /// Its header demands what is not known.
    #[error("the token's header has `crit`: it demands what is not known here")]
    Critical,
    /// Another issuer.
    #[error("the token is by the issuer `{found}`, and not by `{expected}`")]
    Issuer {
        /// What it says.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Another audience.
    #[error("the token is for the audience {found}, and not for `{expected}`")]
    Audience {
        /// What it says.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Too old.
    #[error("the token expired at {0}")]
    Expired(Timestamp),
    /// From the future.
    #[error("the token is valid from {0} only; is this machine's clock right?")]
    NotYet(Timestamp),
    /// A claim that must be there.
    #[error("the token has no claim `{0}` of the right kind")]
    Claim(&'static str),
    /// No key of the issuer.
    #[error("none of the issuer's keys is the token's ({0})")]
    NoKey(String),
    /// A signature that does not hold.
    #[error("the token's signature does not hold under the issuer's key {0}")]
    Signature(String),
}

/// A token that has been read; nothing is proven.
#[derive(Debug)]
pub struct Token<'a> {
    algorithm: &'static keys::Algorithm,
    key_id: Option<String>,
    claims: Map<String, Value>,
    /// What is signed: header and claims as they were written.
    signed: &'a [u8],
    signature: Vec<u8>,
}

/// What a token must say.
#[derive(Debug)]
pub struct Expected<'a> {
    /// Its issuer, exactly.
    pub issuer: &'a str,
    /// Its audience, or one of them.
    pub audience: &'a str,
    /// The real time.
    pub now: Timestamp,
}

/// A token whose signature holds and which says what is expected.
#[derive(Debug)]
pub struct Proven {
    /// All that it says.
    pub claims: Map<String, Value>,
    /// The key that signed it (RFC 7517), the members that matter.
    pub jwk: Map<String, Value>,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    pub fn read(text: &'a str) -> Result<Self, JwtError> {
        if text.len() > MAX_TOKEN {
            return Err(JwtError::Malformed("it is too long"));
        }
        let text = text.trim();
        let (signed, signature) = text.rsplit_once('.').ok_or(JwtError::Malformed("it has no parts"))?;
        let (header, claims) = signed.split_once('.').ok_or(JwtError::Malformed("it has not three parts"))?;
        if claims.contains('.') {
            return Err(JwtError::Malformed("it has not three parts"));
        }
        let header = object(header, "its header is no JSON object")?;
        let algorithm = match header.get("alg").and_then(Value::as_str) {
            None => return Err(JwtError::Malformed("its header names no algorithm")),
            Some(name) if name.eq_ignore_ascii_case("none") => return Err(JwtError::Unsigned),
            Some(name) if name.starts_with("HS") => return Err(JwtError::Symmetric(shown(name))),
            Some(name) => keys::algorithm(name).ok_or_else(|| JwtError::Algorithm(shown(name)))?,
        };
        if header.contains_key("crit") {
            return Err(JwtError::Critical);
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(JwtError::Malformed("its `kid` is no text")),
        };
        Ok(Self {
            algorithm,
            key_id,
            claims: object(claims, "its claims are no JSON object")?,
            signed: signed.as_bytes(),
            signature: decode(signature)
                .filter(|signature| !signature.is_empty())
                .ok_or(JwtError::Malformed("its signature is empty, or no base64url"))?,
        })
    }

    /// Who it says has made it. Nothing is proven.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// All that it says. Nothing is proven.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Compares what it says with what is expected. The signature is not looked at.
    pub fn check(&self, expected: &Expected<'_>) -> Result<(), JwtError> {
        let issuer = self.issuer().ok_or(JwtError::Claim("iss"))?;
        if issuer != expected.issuer {
            return Err(JwtError::Issuer { found: shown(issuer), expected: expected.issuer.to_owned() });
        }
        let audiences = self.audiences()?;
        if !audiences.contains(&expected.audience) {
            let found = audiences.iter().map(|one| format!("`{}`", shown(one))).collect::<Vec<_>>().join(", ");
            return Err(JwtError::Audience { found, expected: expected.audience.to_owned() });
        }
        let now = expected.now.as_second();
        let expires = self.time("exp")?.ok_or(JwtError::Claim("exp"))?;
        if expires.as_second().saturating_add(LEEWAY) <= now {
            return Err(JwtError::Expired(expires));
        }
        self.time("iat")?.ok_or(JwtError::Claim("iat"))?;
        for name in ["nbf", "iat"] {
            if let Some(from) = self.time(name)?.filter(|from| from.as_second().saturating_sub(LEEWAY) > now) {
                return Err(JwtError::NotYet(from));
            }
        }
        Ok(())
    }

    /// Whom it is for.
    pub(crate) fn audiences(&self) -> Result<Vec<&str>, JwtError> {
        match self.claims.get("aud") {
            Some(Value::String(one)) => Ok(vec![one]),
            Some(Value::Array(list)) if list.len() <= MAX_AUDIENCES => {
                list.iter().map(Value::as_str).collect::<Option<_>>().ok_or(JwtError::Claim("aud"))
            }
            _ => Err(JwtError::Claim("aud")),
        }
    }

    /// A claim that is a time in seconds since 1970 (RFC 7519 §2 `NumericDate`).
    pub(crate) fn time(&self, name: &'static str) -> Result<Option<Timestamp>, JwtError> {
        let Some(value) = self.claims.get(name) else { return Ok(None) };
        #[allow(clippy::cast_possible_truncation)] // a cast saturates, and what is out of range is refused next
        let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
        let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        time.map(Some).ok_or(JwtError::Claim(name))
    }

    /// Proves the signature with the keys of the issuer. Call [`Token::check`] first.
    pub fn prove(self, keys: &Keys) -> Result<Proven, JwtError> {
        let jwk = keys.prove(self.algorithm, self.key_id.as_deref(), self.signed, &self.signature)?;
        Ok(Proven { claims: self.claims, jwk })
    }
}

/// A base64url part that is a JSON object in which no member stands twice.
fn object(part: &str, what: &'static str) -> Result<Map<String, Value>, JwtError> {
    let bytes = decode(part).ok_or(JwtError::Malformed(what))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| JwtError::Malformed(what))?;
    evidence::one_reading(text).map_err(|_| JwtError::Malformed(what))?;
    serde_json::from_str(text).map_err(|_| JwtError::Malformed(what))
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// A stranger's text, cut off and escaped for a message.
pub(crate) fn shown(text: &str) -> String {
    let cut: Cow<'_, str> = match text.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]).into(),
        None => text.into(),
    };
    cut.escape_debug().to_string()
}

#[cfg(test)]
mod tests;
