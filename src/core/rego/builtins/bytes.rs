//! Digests, encodings and tokens.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use regorus::Value;
use sha2::Digest as _;

use super::{Fault, fault, string};

/// Length of the blocks of SHA-1 and SHA-256, in bytes.
const BLOCK: usize = 64;
/// Length of the blocks of SHA-512, in bytes.
const LONG_BLOCK: usize = 128;

fn sha1_of(bytes: &[u8]) -> Vec<u8> {
    sha1::Sha1::digest(bytes).to_vec()
}

fn sha256_of(bytes: &[u8]) -> Vec<u8> {
    sha2::Sha256::digest(bytes).to_vec()
}

fn sha512_of(bytes: &[u8]) -> Vec<u8> {
    sha2::Sha512::digest(bytes).to_vec()
}

fn hexadecimal(bytes: &[u8]) -> Value {
    Value::from(hex::encode(bytes))
}

pub(super) fn sha1(arguments: &[Value]) -> Result<Value, Fault> {
    Ok(hexadecimal(&sha1_of(string("crypto.sha1", arguments, 0)?.as_bytes())))
}

pub(super) fn sha256(arguments: &[Value]) -> Result<Value, Fault> {
    Ok(hexadecimal(&sha256_of(string("crypto.sha256", arguments, 0)?.as_bytes())))
}

pub(super) fn hmac_sha1(arguments: &[Value]) -> Result<Value, Fault> {
    hmac("crypto.hmac.sha1", arguments, sha1_of, BLOCK)
}

pub(super) fn hmac_sha256(arguments: &[Value]) -> Result<Value, Fault> {
    hmac("crypto.hmac.sha256", arguments, sha256_of, BLOCK)
}

pub(super) fn hmac_sha512(arguments: &[Value]) -> Result<Value, Fault> {
    hmac("crypto.hmac.sha512", arguments, sha512_of, LONG_BLOCK)
}

/// RFC 2104.
fn hmac(function: &str, arguments: &[Value], digest: fn(&[u8]) -> Vec<u8>, block: usize) -> Result<Value, Fault> {
    let (message, key) = (string(function, arguments, 0)?, string(function, arguments, 1)?);
    let mut key = if key.len() > block { digest(key.as_bytes()) } else { key.as_bytes().to_vec() };
    key.resize(block, 0);
    let padded = |byte: u8| key.iter().map(|key| key ^ byte).collect::<Vec<u8>>();
    let inner = digest(&[padded(0x36), message.as_bytes().to_vec()].concat());
    Ok(hexadecimal(&digest(&[padded(0x5c), inner].concat())))
}

pub(super) fn hmac_equal(arguments: &[Value]) -> Result<Value, Fault> {
    let [first, second] = [0, 1].map(|number| string("crypto.hmac.equal", arguments, number));
    Ok(Value::Bool(first? == second?))
}

pub(super) fn base64url_encode_no_pad(arguments: &[Value]) -> Result<Value, Fault> {
    Ok(Value::from(URL_SAFE_NO_PAD.encode(string("base64url.encode_no_pad", arguments, 0)?)))
}

/// Header, payload and signature (in hexadecimal) of a token whose signature is not looked at.
pub(super) fn jwt_decode(arguments: &[Value]) -> Result<Value, Fault> {
    let token = string("io.jwt.decode", arguments, 0)?;
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else {
        return fault(format!("io.jwt.decode: encoded JWT must have 3 sections, found {}", parts.len()));
    };
    let decode = |name: &str, text: &str| {
        let bare = text.trim_end_matches('=');
        URL_SAFE_NO_PAD.decode(bare).map_err(|error| Fault(format!("io.jwt.decode: {name}: {error}")))
    };
    let object = |name: &str, text: &str| {
        let value: Value = serde_json::from_slice(&decode(name, text)?)
            .map_err(|error| Fault(format!("io.jwt.decode: {name}: {error}")))?;
        if value.as_object().is_err() {
            return fault(format!("io.jwt.decode: {name} is no object"));
        }
        Ok(value)
    };
    let header = object("header", header)?;
    if header["enc"] != Value::Undefined {
        return fault("io.jwt.decode: the token is encrypted");
    }
    if header["cty"].as_string().is_ok_and(|kind| kind.eq_ignore_ascii_case("jwt")) {
        return fault("io.jwt.decode: tokens in tokens are not read");
    }
    let payload = object("payload", payload)?;
    Ok(Value::from(vec![header, payload, hexadecimal(&decode("signature", signature)?)]))
}

/// Base64 as OPA takes it for certificates.
pub(super) fn base64_of(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.trim()).or_else(|_| URL_SAFE.decode(text.trim())).ok()
}

/// Bytes as Go's JSON writes them.
pub(super) fn as_base64(bytes: &[u8]) -> Value {
    Value::from(STANDARD.encode(bytes))
}
