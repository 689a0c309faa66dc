//! Tokens of an issuer whose keys are made here, and what is wrong with others.

use std::collections::BTreeMap;
use std::sync::Mutex;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaKeyPair,
};
use serde_json::json;

use super::*;
use crate::attestor::{Fetch, FetchError};

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://ci.example.com";

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Pair {
    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key"))
    }

    fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().expect("a key"))
    }

    fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                // `RSAPublicKey`: two headers of four bytes, a zero, 256 bytes, and the exponent 65537.
                let n = encode(&pair.public_key().as_ref()[9..265]);
                json!({"kty": "RSA", "use": "sig", "kid": id, "n": n, "e": "AQAB", "x5c": ["not recorded"]})
            }
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x": encode(&point[1..33]), "y": encode(&point[33..])})
            }
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": encode(pair.public_key().as_ref())})
            }
        }
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let how = if algorithm == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                pair.sign(how, &random, message, &mut signature).expect("signs");
                signature
            }
            Self::P256(pair) => pair.sign(&random, message).expect("signs").as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, algorithm: &str, header: &Value, claims: &Value) -> String {
        let mut header = header.clone();
        header["alg"] = json!(algorithm);
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "affiant", "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 300, "sub": "repo:a/b"})
}

fn expected() -> Expected<'static> {
    Expected { issuer: ISSUER, audience: "affiant", now: Timestamp::from_second(NOW).expect("a time") }
}

fn keys(list: &[Value]) -> Keys {
    Keys::read("https://ci.example.com/keys", json!({ "keys": list }).to_string().as_bytes()).expect("a key set")
}

fn judge(token: &str, keys: &Keys) -> Result<Proven, JwtError> {
    let token = Token::read(token)?;
    token.check(&expected())?;
    token.prove(keys)
}

#[test]
fn tokens_of_each_algorithm_hold() {
    for (pair, algorithm) in
        [(Pair::rsa(), "RS256"), (Pair::rsa(), "PS256"), (Pair::p256(), "ES256"), (Pair::ed25519(), "EdDSA")]
    {
        let keys = keys(&[Pair::p256().jwk("other"), pair.jwk("mine")]);
        let token = pair.token(algorithm, &json!({"kid": "mine", "typ": "JWT"}), &claims());
        let proven = judge(&token, &keys).unwrap_or_else(|error| panic!("{algorithm}: {error}"));
        assert_eq!(proven.claims["sub"], "repo:a/b");
        assert_eq!(proven.jwk["kid"], "mine");
        assert!(!proven.jwk.contains_key("x5c"));
        // Without a name each fitting key is tried.
        assert!(judge(&pair.token(algorithm, &json!({}), &claims()), &keys).is_ok());
        // Any change of the signed text or the signature.
        let claims_at = token.find('.').expect("three parts") + 5;
        for at in [claims_at, token.len() - 8] {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(judge(std::str::from_utf8(&changed).expect("text"), &keys).is_err(), "{algorithm} at {at}");
        }
    }
}

/// The reason for which a token with these claims is refused.
fn refused(change: impl FnOnce(&mut Value)) -> String {
    let pair = Pair::ed25519();
    let mut claims = claims();
    change(&mut claims);
    let token = pair.token("EdDSA", &json!({"kid": "k"}), &claims);
    let error = judge(&token, &keys(&[pair.jwk("k")])).expect_err("it is refused").to_string();
    assert!(!error.contains(&token[..20]), "{error}");
    error
}

#[test]
fn claims_must_be_as_expected() {
    for (reason, name, value) in [
        ("expired at", "exp", json!(NOW - 61)),
        ("no claim `exp`", "exp", json!("soon")),
        ("no claim `exp`", "exp", Value::Null),
        ("no claim `exp`", "exp", json!(1e300)),
        ("valid from", "nbf", json!(NOW + 61)),
        ("valid from", "iat", json!(NOW + 61)),
        ("no claim `iat`", "iat", Value::Null),
        ("for the audience `other`, and not for `affiant`", "aud", json!("other")),
        ("for the audience `a`, `b`", "aud", json!(["a", "b"])),
        ("no claim `aud`", "aud", json!([1])),
        ("no claim `aud`", "aud", json!(vec!["affiant"; 65])),
        ("by the issuer `https://ci.example.com/`", "iss", json!("https://ci.example.com/")),
        ("by the issuer `https://ci.example.com.evil.test`", "iss", json!("https://ci.example.com.evil.test")),
        ("no claim `iss`", "iss", json!(["https://ci.example.com"])),
    ] {
        let error = refused(|claims| claims[name] = value.clone());
        assert!(error.contains(reason), "{name}={value}: {error}");
    }
    let long = refused(|claims| claims["aud"] = json!("\u{1b}[31m".repeat(1000)));
    assert!(long.len() < 1500 && !long.contains('\u{1b}'), "{long}");
}

#[test]
fn clocks_may_differ_a_little() {
    let pair = Pair::ed25519();
    let mut claims = claims();
    claims["exp"] = json!(NOW - 59);
    claims["nbf"] = json!(NOW + 59);
    claims["aud"] = json!(["x", "affiant"]);
    assert!(judge(&pair.token("EdDSA", &json!({}), &claims), &keys(&[pair.jwk("k")])).is_ok());
}

#[test]
fn only_signatures_that_prove_something_count() {
    let pair = Pair::rsa();
    let part = |value: &Value| encode(value.to_string());
    let with = |header: Value| format!("{}.{}.{}", part(&header), part(&claims()), encode("x"));
    for (token, reason) in [
        (with(json!({"alg": "none"})), "not signed"),
        (with(json!({"alg": "NonE"})), "not signed"),
        (format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims())), "not signed"),
        (with(json!({"alg": "HS256"})), "shared secret"),
        (with(json!({"alg": "RS1"})), "`RS1`, none of RS256"),
        (with(json!({"kid": "k"})), "names no algorithm"),
        (with(json!({"alg": "RS256", "crit": ["b64"], "b64": false})), "`crit`"),
        (with(json!({"alg": "RS256", "kid": 7})), "`kid` is no text"),
        (format!("{}.{}.{}", encode(r#"{"alg":"HS256","alg":"RS256"}"#), part(&claims()), encode("x")), "header"),
        (format!("{}.{}.{}", part(&json!({"alg": "RS256"})), encode("[]"), encode("x")), "claims"),
        (format!("{}.{}.{}.{}", part(&json!({"alg": "RS256"})), encode("{}"), "x", "y"), "three parts"),
        ("not a token".to_owned(), "no parts"),
        (String::new(), "no parts"),
        ("a".repeat(MAX_TOKEN + 1), "too long"),
    ] {
        let error = judge(&token, &keys(&[pair.jwk("k")])).expect_err("refused").to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    // A key in the header, or where to find one, changes nothing.
    let own = Pair::rsa();
    let header = json!({"jwk": own.jwk("k"), "jku": "https://evil.test/keys", "kid": "k"});
    let error = judge(&own.token("RS256", &header, &claims()), &keys(&[pair.jwk("k")])).expect_err("refused");
    assert!(matches!(error, JwtError::Signature(_)), "{error}");
    // PKCS#1 is not PSS, and a key for one algorithm is for no other.
    let token = pair.token("RS256", &json!({}), &claims());
    let mut bound = pair.jwk("k");
    bound["alg"] = json!("PS256");
    assert!(matches!(judge(&token, &keys(&[bound])), Err(JwtError::NoKey(_))));
    let mut encryption = pair.jwk("k");
    encryption["use"] = json!("enc");
    assert!(matches!(judge(&token, &keys(&[encryption])), Err(JwtError::NoKey(_))));
}

#[test]
fn keys_that_cannot_be_read_hold_nothing() {
    let pair = Pair::p256();
    let token = pair.token("ES256", &json!({"kid": "k"}), &claims());
    for (name, value) in [
        ("crv", json!("P-384")),
        ("x", json!("")),
        ("x", json!("!!")),
        ("y", json!(encode([0; 32]))),
        ("y", json!(encode([7; 2000]))),
        ("x", json!(7)),
    ] {
        let mut jwk = pair.jwk("k");
        jwk[name] = value;
        assert!(matches!(judge(&token, &keys(&[jwk])), Err(JwtError::Signature(_))), "{name}");
    }
    let pair = Pair::rsa();
    let token = pair.token("RS256", &json!({"kid": "k"}), &claims());
    let mut jwk = pair.jwk("k");
    let n = decode(jwk["n"].as_str().expect("text")).expect("base64");
    jwk["n"] = json!(encode([&[0], n.as_slice()].concat()));
    assert!(judge(&token, &keys(&[jwk.clone()])).is_ok(), "a leading zero is borne");
    jwk["n"] = json!(encode([0; 256]));
    jwk["e"] = json!(encode([0]));
    assert!(judge(&token, &keys(&[jwk])).is_err());
}

#[test]
fn key_sets_are_limited() {
    let pair = Pair::ed25519();
    let token = pair.token("EdDSA", &json!({}), &claims());
    let many = vec![Pair::ed25519().jwk("k"); 9];
    assert!(matches!(judge(&token, &keys(&many)), Err(JwtError::NoKey(reason)) if reason.contains("9 keys could")));
    let set = json!({"keys": vec![json!({"kty": "RSA"}); 10_000]}).to_string();
    let error = Keys::read("https://ci.example.com/keys", set.as_bytes()).expect_err("too many").to_string();
    assert!(error.contains("lists 10000 keys, more than 128"), "{error}");
    for broken in ["", "[]", "{}", r#"{"keys": {}}"#, "<html>"] {
        assert!(Keys::read("u", broken.as_bytes()).is_err(), "{broken}");
    }
    assert!(Keys::read("u", br#"{"keys": [1, {"kty": "new"}]}"#).is_ok());
}

/// Answers from a table, and notes what was asked.
#[derive(Default)]
struct Table(BTreeMap<String, String>, Mutex<Vec<String>>);

impl Fetch for Table {
    fn get(&self, url: &str, _: Option<&str>, _: usize) -> Result<Vec<u8>, FetchError> {
        self.1.lock().expect("no panic").push(url.to_owned());
        let body = self.0.get(url).ok_or_else(|| FetchError { place: url.into(), reason: "answers 404".into() })?;
        Ok(body.clone().into_bytes())
    }
}

#[test]
fn an_issuer_that_lies_is_not_followed() {
    const PLACE: &str = "https://ci.example.com/.well-known/openid-configuration";
    let ask = |document: Value| {
        let table = Table([(PLACE.to_owned(), document.to_string())].into(), Mutex::default());
        let error = keys::fetch(&table, ISSUER).expect_err("refused").to_string();
        (error, table.1.into_inner().expect("no panic").len())
    };
    for (document, reason) in [
        (
            json!({"issuer": "https://evil.test", "jwks_uri": "https://ci.example.com/keys"}),
            "issuer `https://evil.test`",
        ),
        (json!({"jwks_uri": "https://ci.example.com/keys"}), "names no issuer"),
        (json!({"issuer": ISSUER}), "names no key set"),
        (json!({"issuer": ISSUER, "jwks_uri": "https://evil.test/keys"}), "another host"),
        (json!({"issuer": ISSUER, "jwks_uri": "http://ci.example.com/keys"}), "another host"),
        (json!({"issuer": ISSUER, "jwks_uri": "https://ci.example.com:8443/keys"}), "another host"),
        (json!({"issuer": ISSUER, "jwks_uri": "https://ci.example.com@evil.test/keys"}), "another host"),
        (json!({"issuer": ISSUER, "jwks_uri": "/keys"}), "another host"),
        (json!([]), "no JSON object"),
    ] {
        let (error, asked) = ask(document);
        assert!(error.contains(reason) && asked == 1, "{reason}: {error}");
    }
    let (error, _) = ask(json!({"issuer": ISSUER, "jwks_uri": "https://ci.example.com/keys"}));
    assert!(error.contains("https://ci.example.com/keys: answers 404"), "{error}");
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    #[test]
    fn nothing_that_is_read_panics(text in "\\PC{0,200}", at in 0usize..500, byte: u8) {
        let _ = Token::read(&text).map(|token| token.check(&expected()));
        let _ = Keys::read("u", text.as_bytes());
        let header = json!({"alg": "EdDSA", "kid": text}).to_string();
        let claims = json!({"iss": ISSUER, "aud": text, "exp": text, "iat": -1, "nbf": 1e18}).to_string();
        let mut token = format!("{}.{}.{}", encode(header), encode(claims), encode(&text)).into_bytes();
        let length = token.len();
        token[at % length] = byte & 0x7f;
        let token = String::from_utf8(token).expect("ASCII");
        let keys = keys(&[json!({"kty": "OKP", "crv": "Ed25519", "x": text}), json!({"kty": text})]);
        proptest::prop_assert!(judge(&token, &keys).is_err());
    }
}
