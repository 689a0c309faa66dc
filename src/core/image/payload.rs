//! What a cosign signature of an image signs: the simple-signing payload.
//!
//! Source: sigstore `pkg/signature/payload`, containers/image "atomic signature"; sigstore-oci §1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::reference::Digest;
use crate::evidence::strict;

/// `critical.type` of a payload.
pub const TYPE: &str = "cosign container image signature";
/// Longest payload, in bytes.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// A payload: which image was signed, and what was said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// Repository that the image was signed in. Nobody compares it: a copied signature stays one.
    pub reference: String,
    /// The manifest.
    pub digest: Digest,
    /// What was said about the image. Values that are written are strings; others are read.
    pub optional: BTreeMap<String, Value>,
}

/// Why bytes are no payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Too long.
    #[error("a payload of {size} bytes; {MAX_PAYLOAD} are read")]
    Large {
        /// Its size.
        size: usize,
    },
    /// Not JSON, or not what a payload is.
    #[error("no payload of a signature: {reason}")]
    Json {
        /// What is wrong, with line and column.
        reason: String,
    },
    /// The payload of something else.
    #[error("a payload of the type `{}`", .found.escape_debug())]
    Type {
        /// What it says that it is.
        found: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Written {
    critical: Critical,
    optional: Option<BTreeMap<String, Value>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

impl Payload {
    /// A payload about an image in a repository.
    pub fn new(reference: impl Into<String>, digest: Digest, annotations: &BTreeMap<String, String>) -> Self {
        let optional = annotations.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        Self { reference: reference.into(), digest, optional }
    }

    /// The bytes that cosign writes for the same: members and names in their order, `<`, `>` and `&` escaped, `null`
    /// where nothing was said.
    ///
    /// # Panics
    ///
    /// Never: texts and JSON values are JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let written = Written {
            critical: Critical {
                identity: Identity { reference: self.reference.clone() },
                image: Image { digest: self.digest.clone() },
                kind: TYPE.to_owned(),
            },
            optional: (!self.optional.is_empty()).then(|| self.optional.clone()),
        };
        go_escaped(&serde_json::to_string(&written).expect("texts and JSON values are JSON")).into_bytes()
    }

    /// Reads a payload. Members twice, further members below `critical` and another type are refused; further members
    /// beside `critical` and `optional` are not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, PayloadError> {
        if bytes.len() > MAX_PAYLOAD {
            return Err(PayloadError::Large { size: bytes.len() });
        }
        let json = |error: &dyn std::fmt::Display| PayloadError::Json { reason: error.to_string() };
        let text = std::str::from_utf8(bytes).map_err(|error| json(&error))?;
        strict::document(text).map_err(|error| json(&error))?;
        let read: Written = serde_json::from_str(text).map_err(|error| json(&error))?;
        if read.critical.kind != TYPE {
            return Err(PayloadError::Type { found: read.critical.kind });
        }
        Ok(Self {
            reference: read.critical.identity.reference,
            digest: read.critical.image.digest,
            optional: read.optional.unwrap_or_default(),
        })
    }
}

/// The first annotation that is wanted and is not among `found` with just this value.
pub fn missing_annotation<'w>(
    found: &BTreeMap<String, Value>,
    wanted: &'w BTreeMap<String, String>,
) -> Option<(&'w str, &'w str)> {
    let has = |name: &str, value: &str| found.get(name).is_some_and(|found| found.as_str() == Some(value));
    wanted.iter().find(|(name, value)| !has(name, value)).map(|(name, value)| (name.as_str(), value.as_str()))
}

/// JSON in which the letters that Go escapes are escaped. They stand in strings only.
pub(crate) fn go_escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "b15245ece36593766b17936ef079a207be686c6db2e2a91da27a757a61c1832f";

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn digest() -> Digest {
        Digest::from_hex(HEX).expect("hex")
    }

    #[test]
    fn the_bytes_are_those_of_cosign() {
        // What cosign v2.6.5 and v3 wrote for the same (vectors `keyed-legacy`, `index-recursive`).
        let payload = Payload::new(
            "127.0.0.1:5001/vec/keyed-legacy",
            digest(),
            &annotations(&[("tag", "v1"), ("com.gitlab.ci.pipeline.id", "574")]),
        );
        let written = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"127.0.0.1:5001/vec/keyed-legacy"}},"image":{{"docker-manifest-digest":"sha256:{HEX}"}},"type":"cosign container image signature"}},"optional":{{"com.gitlab.ci.pipeline.id":"574","tag":"v1"}}}}"#
        );
        assert_eq!(String::from_utf8(payload.to_json()).expect("text"), written);
        assert_eq!(Payload::parse(written.as_bytes()).expect("a payload"), payload);
        let none = Payload::new("r", digest(), &annotations(&[])).to_json();
        assert!(String::from_utf8(none).expect("text").ends_with(r#""optional":null}"#));
        let escaped = Payload::new("r", digest(), &annotations(&[("a<&>", "\u{2028}é\n\"")]));
        let text = String::from_utf8(escaped.to_json()).expect("text");
        assert!(text.ends_with("\"optional\":{\"a\\u003c\\u0026\\u003e\":\"\\u2028é\\n\\\"\"}}"), "{text}");
        assert_eq!(Payload::parse(text.as_bytes()).expect("a payload"), escaped);
    }

    #[test]
    fn other_documents_are_refused() {
        let good = String::from_utf8(Payload::new("r", digest(), &annotations(&[])).to_json()).expect("text");
        for bad in [
            String::new(),
            "null".to_owned(),
            "[]".to_owned(),
            "{}".to_owned(),
            format!("{good} x"),
            good.replace("\"optional\":null", "\"optional\":null,\"optional\":{}"),
            good.replace("\"optional\":null", "\"optional\":[]"),
            good.replace("\"critical\":{", "\"critical\":{\"x\":1,"),
            good.replace("sha256:", "sha512:"),
            good.replace("\"image\":{", "\"image\":{\"docker-manifest-digest\":\"sha256:00\","),
            good.replace(TYPE, "atomic container signature"),
        ] {
            assert!(Payload::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(matches!(Payload::parse(&vec![b' '; MAX_PAYLOAD + 1]), Err(PayloadError::Large { .. })));
        assert!(Payload::parse(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn annotations_are_compared_as_json() {
        let text = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"r"}},"image":{{"docker-manifest-digest":"sha256:{HEX}"}},"type":"{TYPE}"}},"optional":{{"n":574,"s":"574","t":true}}}}"#
        );
        let found = Payload::parse(text.as_bytes()).expect("a payload").optional;
        let missing =
            |pairs: &[(&str, &str)]| missing_annotation(&found, &annotations(pairs)).map(|(n, _)| n.to_owned());
        assert_eq!(missing(&[]), None);
        assert_eq!(missing(&[("s", "574")]), None);
        assert_eq!(missing(&[("n", "574")]), Some("n".to_owned()), "a number is not its text");
        assert_eq!(missing(&[("t", "true")]), Some("t".to_owned()));
        assert_eq!(missing(&[("s", "574"), ("x", "")]), Some("x".to_owned()));
    }
}
