//! Certificates of Sigstore's authority for the identity of a token.
//!
//! Source: sigstore/fulcio `fulcio.proto` (API v2), its API v1, and recorded questions and answers; sigstore-oci §7.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::Decode as _;
use der::asn1::ObjectIdentifier;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::der_element;
use super::token::{Claims, IdentityToken};
use crate::image::keyed;
use crate::sign::{KeyKind, PrivateKey, PublicKey, SignError, Signer as _, pem};
use crate::trust::{Certificate, CertificateError};

/// Longest answer, in bytes.
pub const MAX_ANSWER: usize = 256 * 1024;
/// Longest text of a refusal that is shown, in characters.
const MAX_WORDS: usize = 300;
/// The list of signed certificate timestamps in a certificate (RFC 6962 §3.3).
const SCT_LIST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");
/// Purpose of a certificate: signing code.
const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
/// `ecdsa-with-SHA256`, `sha256WithRSAEncryption`, `id-Ed25519` as `AlgorithmIdentifier`.
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const RSA_SHA256: &[u8] = &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00];
const ED25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];

/// How a certificate is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// API v2, with the public key.
    #[default]
    Key,
    /// API v2, with a signing request (PKCS#10).
    Csr,
    /// API v1.
    V1,
}

impl Form {
    /// Where it is asked for, below the service's address.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Key | Self::Csr => "/api/v2/signingCert",
            Self::V1 => "/api/v1/signingCert",
        }
    }

    /// The media type of the answer.
    pub const fn accepts(self) -> &'static str {
        match self {
            Self::Key | Self::Csr => "application/json",
            Self::V1 => "application/pem-certificate-chain",
        }
    }

    /// Whether the token goes in a header, and not in the document.
    pub const fn has_bearer(self) -> bool {
        matches!(self, Self::V1)
    }
}

/// A certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FulcioError {
    /// Not an answer.
    #[error("its answer is no certificate: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// A certificate that cannot be read.
    #[error("its certificate cannot be used: {0}")]
    Certificate(#[from] CertificateError),
    /// A certificate for another key.
    #[error("its certificate is for another key than the one that it was asked for")]
    OtherKey,
    /// A certificate that is signed by another than the next in the chain.
    #[error("its certificate is not signed by the authority that it sends with it")]
    OtherIssuer,
    /// A certificate for something else.
    #[error("its certificate {what}")]
    Unfit {
        /// What is wrong.
        what: &'static str,
    },
    /// A certificate that does not name exactly one signer.
    #[error("{reason}, so no verifier takes it")]
    Nobody {
        /// What it has.
        reason: String,
    },
    /// A certificate that no log was told of.
    #[error("its certificate has no signed certificate timestamp (SCT), so no verifier takes it")]
    NoSct,
    /// A certificate for somebody else.
    #[error("its certificate is for {what} `{found}`, and the token for `{expected}`")]
    OtherIdentity {
        /// Of what.
        what: &'static str,
        /// What it says.
        found: String,
        /// What the token says.
        expected: String,
    },
}

/// The proof that a log knows the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sct {
    /// In the certificate.
    Embedded,
    /// Beside it, as it was sent.
    Detached(Vec<u8>),
}

/// A certificate that was issued.
#[derive(Clone)]
pub struct Issued {
    /// For the key.
    pub leaf: Certificate,
    /// Its issuer, and so on up to the root, as far as they were sent.
    pub chain: Vec<Certificate>,
    /// That a log knows it.
    pub sct: Sct,
}

/// The document that asks for a certificate. It holds the token, unless [`Form::has_bearer`].
pub fn request(form: Form, token: &IdentityToken, key: &PrivateKey) -> Result<Zeroizing<Vec<u8>>, SignError> {
    let proof = || keyed::sign(key, &[token.claims().challenge().as_bytes()]).map(|proof| STANDARD.encode(proof));
    let public = key.public_key();
    let (v2, v1) = match public.kind() {
        KeyKind::Ed25519 => ("ED25519", "ed25519"),
        KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => ("ECDSA", "ecdsa"),
        KeyKind::Rsa { .. } => ("RSA_PSS", "rsa"),
    };
    let document = match form {
        Form::Key => json!({
            "credentials": { "oidcIdentityToken": token.expose() },
            "publicKeyRequest": {
                "publicKey": { "algorithm": v2, "content": public.to_pem() },
                "proofOfPossession": proof()?,
            },
        }),
        Form::Csr => json!({
            "credentials": { "oidcIdentityToken": token.expose() },
            "certificateSigningRequest": STANDARD.encode(csr(key)?.as_bytes()),
        }),
        Form::V1 => json!({
            "publicKey": { "algorithm": v1, "content": STANDARD.encode(public.to_der()) },
            "signedEmailAddress": proof()?,
        }),
    };
    Ok(Zeroizing::new(document.to_string().into_bytes()))
}

/// A signing request without a name (RFC 2986): the authority takes names from the token alone.
fn csr(key: &PrivateKey) -> Result<String, SignError> {
    const VERSION: [u8; 3] = [0x02, 0x01, 0x00];
    const NO_NAME: [u8; 2] = [0x30, 0x00];
    const NO_ATTRIBUTES: [u8; 2] = [0xa0, 0x00];
    let info = der_element(0x30, &[&VERSION, &NO_NAME, key.public_key().to_der(), &NO_ATTRIBUTES]);
    let algorithm = match key.public_key().kind() {
        KeyKind::Ed25519 => ED25519,
        KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => ECDSA_SHA256,
        KeyKind::Rsa { .. } => RSA_SHA256,
    };
    let signature = keyed::sign(key, &[&info])?;
    let request = der_element(0x30, &[&info, algorithm, &der_element(0x03, &[&[0], &signature])]);
    Ok(pem::encode("CERTIFICATE REQUEST", &request).to_string())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    signed_certificate_embedded_sct: Option<Chained>,
    signed_certificate_detached_sct: Option<Chained>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chained {
    chain: Chain,
    signed_certificate_timestamp: Option<String>,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<String>,
}

/// Reads an answer that is no refusal; `sct` is the header `SCT` of API v1. Nothing says yet that it is for us.
pub fn answer(form: Form, body: &[u8], sct: Option<&str>) -> Result<Issued, FulcioError> {
    let malformed = |reason: String| FulcioError::Malformed { reason };
    if body.len() > MAX_ANSWER {
        return Err(malformed(format!("{} bytes, of at most {MAX_ANSWER}", body.len())));
    }
    let (texts, detached) = match form {
        Form::Key | Form::Csr => {
            let answer: Answer = serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
            let (chained, is_detached) =
                match (answer.signed_certificate_embedded_sct, answer.signed_certificate_detached_sct) {
                    (Some(chained), None) => (chained, false),
                    (None, Some(chained)) => (chained, true),
                    _ => return Err(malformed("it has not exactly one chain".to_owned())),
                };
            let sct = chained.signed_certificate_timestamp.filter(|_| is_detached);
            (chained.chain.certificates.join("\n").into_bytes(), sct)
        }
        Form::V1 => (body.to_vec(), sct.map(str::to_owned)),
    };
    let all = Certificate::read_all(&texts)?;
    let (authorities, mut leaves): (Vec<_>, Vec<_>) = all.into_iter().partition(Certificate::is_ca);
    let leaf = leaves.pop().filter(|_| leaves.is_empty());
    let leaf = leaf.ok_or_else(|| malformed("it has not exactly one certificate of a signer".to_owned()))?;
    let detached = detached
        .map(|text| STANDARD.decode(text.trim()).map_err(|_| malformed("its SCT is no base64".to_owned())))
        .transpose()?
        .filter(|sct| !sct.is_empty());
    let sct = match detached {
        _ if has_scts(&leaf) => Sct::Embedded,
        Some(sct) => Sct::Detached(sct),
        None => return Err(FulcioError::NoSct),
    };
    Ok(Issued { leaf, chain: authorities, sct })
}

/// Whether the certificate has a list of SCTs.
fn has_scts(leaf: &Certificate) -> bool {
    let parsed = x509_cert::Certificate::from_der(leaf.der()).ok();
    let extensions = parsed.as_ref().and_then(|parsed| parsed.tbs_certificate().extensions());
    extensions.is_some_and(|all| all.iter().any(|one| one.extn_id == SCT_LIST && !one.extn_value.as_bytes().is_empty()))
}

impl Issued {
    /// Whether the certificate is for this key and the identity of these claims, and fit for signing.
    pub fn check(&self, key: &PublicKey, claims: &Claims) -> Result<(), FulcioError> {
        if self.leaf.public_key() != key {
            return Err(FulcioError::OtherKey);
        }
        if !self.leaf.purposes().is_some_and(|mut all| all.any(|one| one == CODE_SIGNING)) {
            return Err(FulcioError::Unfit { what: "is not for signing code" });
        }
        if let Some(issuer) = self.chain.first()
            && self.leaf.is_signed_by(issuer).is_err()
        {
            return Err(FulcioError::OtherIssuer);
        }
        let other = |what, found: &str, expected: &str| FulcioError::OtherIdentity {
            what,
            found: found.to_owned(),
            expected: expected.to_owned(),
        };
        let issuer = self.leaf.extension("Issuer");
        let issuer = issuer.ok_or(FulcioError::Unfit { what: "does not say who identified its holder" })?;
        if issuer != claims.issuer && Some(issuer) != claims.connector.as_deref() {
            return Err(other("the issuer", issuer, &claims.issuer));
        }
        if let Some(subject) = self.leaf.extension("Subject").filter(|subject| *subject != claims.subject) {
            return Err(other("the subject", subject, &claims.subject));
        }
        // What an authority makes of a workflow's token is its own business; an address is taken over as it is.
        if let Some(email) = &claims.email
            && let Some(found) = self.leaf.emails().first().filter(|found| *found != email)
        {
            return Err(other("the address", found, email));
        }
        if claims.subject.starts_with("spiffe://") && !self.leaf.uris().contains(&claims.subject) {
            return Err(other("the identity", &self.leaf.label(), &claims.subject));
        }
        self.leaf.signer_name().map(drop).map_err(|reason| FulcioError::Nobody { reason })
    }
}

/// What a service says with a refusal: the message of its JSON, or its text; at most a line.
pub fn words_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let message = json.as_ref().and_then(|json| json.get("message")?.as_str()).unwrap_or(&text);
    message.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::Value;

    use super::super::token::{Provider, Wanted};
    use super::*;

    fn recorded(text: &str) -> (Value, Vec<u8>) {
        let record: Value = serde_json::from_str(text).expect("JSON");
        let response = match &record["response"] {
            Value::String(text) => text.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        };
        (record, response)
    }

    const V1: &str = include_str!("../../../fixtures/cosign/api/fulcio-v1.json");
    const KEY: &str = include_str!("../../../fixtures/cosign/api/fulcio-v2-key.json");
    const CSR: &str = include_str!("../../../fixtures/cosign/api/fulcio-v2-csr.json");

    fn claims_of(record: &Value) -> Claims {
        let token = zeroize::Zeroizing::new(
            record["request"]["credentials"]["oidcIdentityToken"].as_str().expect("a token").to_owned(),
        );
        let wanted = Wanted { audience: "sigstore", issuer: None };
        IdentityToken::look(&token, &wanted, Timestamp::from_second(1_795_259_385).expect("a time"))
            .expect("a token")
            .claims()
            .clone()
    }

    #[test]
    fn recorded_certificates_are_for_the_key_and_token_that_asked() {
        for (form, text) in [(Form::V1, V1), (Form::Key, KEY), (Form::Csr, CSR)] {
            let (_, response) = recorded(text);
            let issued = answer(form, &response, None).expect("a certificate");
            assert_eq!(issued.sct, Sct::Embedded);
            assert_eq!(issued.chain.len(), 2, "issuer and root");
            let claims = claims_of(&recorded(KEY).0);
            let asked = recorded(KEY).0;
            let pem = asked["request"]["publicKeyRequest"]["publicKey"]["content"].as_str().expect("a key");
            let key = PublicKey::from_file_bytes(pem.as_bytes()).expect("a key");
            issued.check(&key, &claims).expect("for us");
            let other = PrivateKey::generate(KeyKind::P256).expect("a key");
            assert_eq!(issued.check(other.public_key(), &claims), Err(FulcioError::OtherKey));
            let elsewhere = Claims { issuer: "https://other.example".to_owned(), ..claims.clone() };
            assert!(matches!(issued.check(&key, &elsewhere), Err(FulcioError::OtherIdentity { .. })));
            let somebody = Claims { subject: "spiffe://a.example/b".to_owned(), ..claims };
            assert!(matches!(issued.check(&key, &somebody), Err(FulcioError::OtherIdentity { .. })));
        }
    }

    #[test]
    fn documents_have_the_members_of_recorded_ones() {
        fn members(value: &Value) -> Vec<String> {
            let Some(map) = value.as_object() else { return Vec::new() };
            let inner = |(name, value): (&String, &Value)| {
                std::iter::once(name.clone())
                    .chain(members(value).into_iter().map(move |one| format!("{name}.{one}")))
                    .collect::<Vec<_>>()
            };
            let mut all: Vec<_> = map.iter().flat_map(inner).collect();
            all.sort();
            all
        }
        let key = PrivateKey::generate(KeyKind::P256).expect("a key");
        let now = Timestamp::from_second(1500).expect("a time");
        let text = super::super::token::token_of(&json!({"iss": "https://gitlab.example", "aud": "sigstore",
            "sub": "project_path:a/b", "exp": 2000, "iat": 1000}));
        let token = IdentityToken::look(&text, &Wanted { audience: "sigstore", issuer: None }, now).expect("good");
        assert_eq!(token.claims().provider, Provider::Other);
        for (form, text) in [(Form::V1, V1), (Form::Key, KEY), (Form::Csr, CSR)] {
            let own: Value = serde_json::from_slice(&request(form, &token, &key).expect("signs")).expect("JSON");
            assert_eq!(members(&own), members(&recorded(text).0["request"]), "{form:?}");
        }
        let own: Value = serde_json::from_slice(&request(Form::Key, &token, &key).expect("signs")).expect("JSON");
        let proof = own["publicKeyRequest"]["proofOfPossession"].as_str().expect("text");
        let proof = STANDARD.decode(proof).expect("base64");
        key.public_key().verify(&[b"project_path:a/b"], &proof).expect("it is ours");
        let own = csr(&key).expect("signs");
        let der = pem::blocks(&own).remove(0).body.expect("base64");
        x509_cert::request::CertReq::from_der(&der).expect("a request");
    }

    #[test]
    fn other_answers_are_refused() {
        let (_, good) = recorded(KEY);
        let value: Value = serde_json::from_slice(&good).expect("JSON");
        let chain = &value["signedCertificateEmbeddedSct"]["chain"]["certificates"];
        let leaf = chain[0].as_str().expect("PEM");
        for bad in [
            json!({}),
            json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": []}}}),
            json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": [chain[1]]}}}),
            json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": [leaf, leaf]}}}),
            json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": ["x"]}}}),
        ] {
            assert!(answer(Form::Key, bad.to_string().as_bytes(), None).is_err(), "{bad}");
        }
        assert!(answer(Form::Key, &vec![b' '; MAX_ANSWER + 1], None).is_err());
        assert_eq!(words_of(br#"{"code":3,"message":"no\ngood"}"#), "no good");
        assert_eq!(words_of(b"<html>"), "<html>");
    }
}
