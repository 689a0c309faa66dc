//! Classic in-toto metadata of a step: `<step>.<first 8 digits of the key's id>.link`.
//!
//! Sources: in-toto specification 1.0 §4.2 to §4.4 (metadata, links), its canonical JSON (OLPC), and for the conversion
//! `spec/predicates/link.md` of the in-toto attestation framework. The key's id and scheme are those that
//! securesystemslib, which in-toto's own verifier loads keys with, gives to a key file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::digest::{DigestSet, sha256_hex};
use crate::run::RUN_SUBJECT;
use crate::sign::{KeyKind, PublicKey, SignError, Signer};
use crate::statement::Subject;

/// Predicate type of a link in a statement.
pub const TYPE: &str = "https://in-toto.io/attestation/link/v0.3";

/// Why there is no classic metadata.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The payload is not a statement that holds a link.
    #[error("not a link statement")]
    Statement(#[from] serde_json::Error),
    /// A value that canonical JSON has no form for.
    #[error("canonical JSON has no form for the number {0}")]
    Number(serde_json::Number),
    /// in-toto's verifier demands another hash of this kind of key.
    #[error("in-toto takes no signature of a {0} key over SHA-256; keys of P-256, Ed25519 and RSA will do")]
    Key(KeyKind),
    /// The key refused.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// How in-toto names a key.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// 64 hex digits.
    pub id: String,
    /// `{"keytype", "scheme", "keyval": {"public"}}`, as it stands in a layout.
    pub metadata: Value,
}

impl Key {
    /// The name of a public key. Signatures of [`Signer::sign`] are those of its scheme.
    pub fn of(key: &PublicKey) -> Result<Self, LinkError> {
        let (keytype, scheme, public) = match key.kind() {
            KeyKind::Ed25519 => {
                // The last 32 bytes of the SubjectPublicKeyInfo (RFC 8410 §4).
                let der = key.to_der();
                ("ed25519", "ed25519", hex::encode(&der[der.len().saturating_sub(32)..]))
            }
            KeyKind::P256 => ("ecdsa", "ecdsa-sha2-nistp256", key.to_pem()),
            KeyKind::Rsa { .. } => ("rsa", "rsassa-pss-sha256", key.to_pem()),
            other @ (KeyKind::P384 | KeyKind::P521) => return Err(LinkError::Key(other)),
        };
        let metadata = json!({ "keytype": keytype, "scheme": scheme, "keyval": { "public": public } });
        Ok(Self { id: sha256_hex(canonical(&metadata)?.as_bytes()), metadata })
    }

    /// The name of the file of a step's link.
    pub fn file_name(&self, step: &str) -> String {
        format!("{step}.{}.link", &self.id[..8])
    }
}

/// The content of a link file: the link of a statement, converted, and signed with this key.
pub fn classic(payload: &[u8], signer: &dyn Signer) -> Result<Vec<u8>, LinkError> {
    #[derive(Deserialize)]
    struct Statement {
        subject: Vec<Subject>,
        predicate: Predicate,
    }
    #[derive(Deserialize)]
    struct Predicate {
        name: String,
        command: Vec<String>,
        materials: Vec<Subject>,
        byproducts: Value,
        environment: Value,
    }

    let Statement { subject, predicate } = serde_json::from_slice(payload)?;
    let key = Key::of(signer.public_key())?;
    let products = subject.into_iter().filter(|subject| subject.name != RUN_SUBJECT);
    let signed = json!({
        "_type": "link",
        "name": predicate.name,
        "command": predicate.command,
        "materials": artifacts(predicate.materials),
        "products": artifacts(products),
        "byproducts": predicate.byproducts,
        "environment": predicate.environment,
    });
    let sig = signer.sign(&[canonical(&signed)?.as_bytes()])?;
    let file = json!({ "signatures": [{ "keyid": key.id, "sig": hex::encode(sig) }], "signed": signed });
    Ok(serde_json::to_vec(&file)?)
}

/// Paths and their digests. in-toto's reader takes hex only, so of gitoids (`gitoid:blob:sha1:<hex>`) nothing is told.
fn artifacts(list: impl IntoIterator<Item = Subject>) -> Map<String, Value> {
    let is_hex = |value: &String| value.bytes().all(|byte| byte.is_ascii_hexdigit());
    list.into_iter()
        .map(|Subject { name, digest: DigestSet(digest) }| {
            let digest: BTreeMap<_, _> = digest.into_iter().filter(|(_, value)| is_hex(value)).collect();
            (name, json!(digest))
        })
        .collect()
}

/// Canonical JSON (OLPC): members sorted by code points, no white space, only `"` and `\` escaped, whole numbers.
pub fn canonical(value: &Value) -> Result<String, LinkError> {
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(text)
}

fn write(value: &Value, out: &mut String) -> Result<(), LinkError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) if number.is_i64() || number.is_u64() => out.push_str(&number.to_string()),
        Value::Number(number) => return Err(LinkError::Number(number.clone())),
        Value::String(text) => quote(text, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            // The order of UTF-8 is that of code points, as Python sorts.
            let sorted: BTreeMap<_, _> = members.iter().collect();
            out.push('{');
            for (at, (name, member)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                quote(name, out);
                out.push(':');
                write(member, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::PrivateKey;

    #[test]
    fn canonical_json_is_sorted_and_escapes_two_characters() {
        let value: Value =
            serde_json::from_str(r#"{"ä":[1,-2,true,null],"a\n":"q\"b\\c\u0001","Z":{"😀":"","ﬁ":0}}"#).expect("JSON");
        let expected = "{\"Z\":{\"ﬁ\":0,\"😀\":\"\"},\"a\n\":\"q\\\"b\\\\c\u{1}\",\"ä\":[1,-2,true,null]}";
        assert_eq!(canonical(&value).expect("canonical"), expected);
        assert!(matches!(canonical(&json!([0.5])), Err(LinkError::Number(_))));
    }

    #[test]
    fn a_statement_is_converted_and_signed() {
        let digest = "ab".repeat(32);
        let payload = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [
                { "name": "app", "digest": { "sha256": digest, "gitoid:sha1": "gitoid:blob:sha1:00" } },
                { "name": RUN_SUBJECT, "digest": { "sha256": digest } },
            ],
            "predicateType": TYPE,
            "predicate": {
                "name": "build", "command": ["make"], "materials": [{ "name": "src", "digest": { "sha256": digest } }],
                "byproducts": { "return-value": 0 }, "environment": {},
            },
        });
        let payload = serde_json::to_vec(&payload).expect("JSON");
        for kind in [KeyKind::Ed25519, KeyKind::P256, KeyKind::Rsa { bits: 2048 }] {
            let key = PrivateKey::generate(kind).expect("a key");
            let file = classic(&payload, &key).expect("a link");
            let file: Value = serde_json::from_slice(&file).expect("JSON");
            assert_eq!(file["signed"]["products"], json!({ "app": { "sha256": digest } }));
            assert_eq!(file["signed"]["materials"], json!({ "src": { "sha256": digest } }));
            let signature = &file["signatures"][0];
            let named = Key::of(key.public_key()).expect("a name");
            assert_eq!(signature["keyid"], named.id);
            assert_eq!(named.file_name("build"), format!("build.{}.link", &named.id[..8]));
            let sig = hex::decode(signature["sig"].as_str().expect("text")).expect("hex");
            let signed = canonical(&file["signed"]).expect("canonical");
            key.public_key().verify(&[signed.as_bytes()], &sig).expect("it holds");
        }
        let key = PrivateKey::generate(KeyKind::P384).expect("a key");
        assert!(matches!(classic(&payload, &key), Err(LinkError::Key(KeyKind::P384))));
        assert!(matches!(classic(b"{}", &key), Err(LinkError::Statement(_))));
    }
}
