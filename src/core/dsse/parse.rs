//! Reading the JSON form of an envelope.
//!
//! The members are taken as borrowed slices of the file first, and then decoded one by one: so a large payload exists
//! only as text and decoded, and each error names its member.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserializer as _;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Envelope, MAX_INTERMEDIATES, MAX_MEMBERS, MAX_NAME, MAX_SIGNATURES, MAX_TIMESTAMPS, Signature, Timestamp};

/// A file is not an envelope. Members are named by their path, like `signatures[0].sig`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The file is larger than the caller allows.
    #[error("the envelope has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not JSON, or something follows the object.
    #[error("not a DSSE envelope: {reason}")]
    Json {
        /// What the JSON reader says, with line and column.
        reason: String,
    },
    /// A member has another JSON type.
    #[error("not a DSSE envelope: `{member}` is not {expected}")]
    Type {
        /// Which.
        member: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A member that must be there is not.
    #[error("not a DSSE envelope: `{member}` is missing")]
    Missing {
        /// Which.
        member: String,
    },
    /// A member stands twice in one object.
    #[error("the envelope has `{member}` twice")]
    Duplicate {
        /// Which.
        member: String,
    },
    /// A member differs from a known one only in letters that other readers hold to be the same.
    #[error("the envelope has `{member}`, which some readers take for `{known}`")]
    Lookalike {
        /// As it stands there.
        member: String,
        /// The known one.
        known: &'static str,
    },
    /// A member is not padded standard base64 (RFC 4648 §4).
    #[error("`{member}` is not padded standard base64: {reason}")]
    Base64 {
        /// Which.
        member: String,
        /// What the decoder says.
        reason: String,
    },
    /// A list, object or text is longer than its limit.
    #[error("`{member}` has more than {limit} {unit}")]
    TooMany {
        /// Which.
        member: String,
        /// The limit.
        limit: usize,
        /// Of what: `elements`, `members` or `bytes`.
        unit: &'static str,
    },
}

/// See [`Envelope::parse`].
pub(super) fn envelope(json: &[u8], limit: usize) -> Result<Envelope, ParseError> {
    if json.len() > limit {
        return Err(ParseError::TooLarge { size: json.len(), limit });
    }
    let text = std::str::from_utf8(json).map_err(|error| ParseError::Json { reason: error.to_string() })?;
    let object = Object::read("", text, &["payload", "payloadType", "signatures"])?;
    let payload = object.require("", "payload")?;
    let payload_type = object.require("", "payloadType")?;
    let signatures = object.member("", "signatures")?;
    Ok(Envelope {
        payload: bytes("payload", payload)?,
        payload_type: name("payloadType", payload_type)?,
        signatures: elements("signatures", signatures, MAX_SIGNATURES)?
            .into_iter()
            .enumerate()
            .map(|(index, raw)| signature(index, raw))
            .collect::<Result<_, _>>()?,
    })
}

fn signature(index: usize, raw: &RawValue) -> Result<Signature, ParseError> {
    let path = format!("signatures[{index}]");
    let known = ["keyid", "sig", "certificate", "intermediates", "timestamps"];
    let object = Object::read(&path, raw.get(), &known)?;
    let at = |member: &str| format!("{path}.{member}");
    let sig = bytes(&at("sig"), object.require(&path, "sig")?)?;
    let key_id = object.get("keyid").map(|raw| name(&at("keyid"), raw)).transpose()?.unwrap_or_default();
    let certificate = object.get("certificate").map(|raw| bytes(&at("certificate"), raw)).transpose()?;
    let intermediates = match object.get("intermediates") {
        None => Vec::new(),
        Some(raw) => elements(&at("intermediates"), raw, MAX_INTERMEDIATES)?
            .into_iter()
            .enumerate()
            .map(|(index, raw)| bytes(&format!("{path}.intermediates[{index}]"), raw))
            .collect::<Result<_, _>>()?,
    };
    let timestamps = match object.get("timestamps") {
        None => Vec::new(),
        Some(raw) => elements(&at("timestamps"), raw, MAX_TIMESTAMPS)?
            .into_iter()
            .enumerate()
            .map(|(index, raw)| timestamp(&format!("{path}.timestamps[{index}]"), raw))
            .collect::<Result<_, _>>()?,
    };
    // Go leaves an empty certificate out, and takes an empty one for none.
    let certificate = certificate.filter(|pem| !pem.is_empty());
    Ok(Signature { key_id, sig, certificate, intermediates, timestamps })
}

fn timestamp(path: &str, raw: &RawValue) -> Result<Timestamp, ParseError> {
    let object = Object::read(path, raw.get(), &["type", "data"])?;
    Ok(Timestamp {
        kind: name(&format!("{path}.type"), object.require(path, "type")?)?,
        data: bytes(&format!("{path}.data"), object.require(path, "data")?)?,
    })
}

const NULL: &str = "null";

/// The members of a JSON object.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads the object `text`, whose path is `path`, and looks for doubles and lookalikes of the `known` members.
    fn read(path: &str, text: &'a str, known: &[&'static str]) -> Result<Self, ParseError> {
        if !text.trim_start().starts_with('{') {
            return Err(ParseError::Type { member: whole(path), expected: "an object" });
        }
        let mut reader = serde_json::Deserializer::from_str(text);
        let list = reader
            .deserialize_map(Members)
            .and_then(|list| reader.end().map(|()| list))
            .map_err(|error| ParseError::Json { reason: format!("{}: {error}", whole(path)) })?
            .ok_or_else(|| ParseError::TooMany { member: whole(path), limit: MAX_MEMBERS, unit: "members" })?;
        for (index, (name, _)) in list.iter().enumerate() {
            if list[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(ParseError::Duplicate { member: join(path, &shown(name)) });
            }
            if let Some(known) = known.iter().find(|known| **known != name && fold(known) == fold(name)) {
                return Err(ParseError::Lookalike { member: join(path, &shown(name)), known });
            }
        }
        Ok(Self(list))
    }

    /// The member, if it is there and not `null`.
    fn get(&self, member: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(name, raw)| name == member && raw.get() != NULL).map(|(_, raw)| *raw)
    }

    /// The member, which must be there and not `null`.
    fn require(&self, path: &str, member: &str) -> Result<&'a RawValue, ParseError> {
        self.get(member).ok_or_else(|| ParseError::Missing { member: join(path, member) })
    }

    /// The member, which must be there and may be `null`.
    fn member(&self, path: &str, member: &str) -> Result<&'a RawValue, ParseError> {
        let found = self.0.iter().find(|(name, _)| name == member).map(|(_, raw)| *raw);
        found.ok_or_else(|| ParseError::Missing { member: join(path, member) })
    }
}

fn join(path: &str, member: &str) -> String {
    if path.is_empty() { member.to_owned() } else { format!("{path}.{member}") }
}

/// A name for the object at `path`.
fn whole(path: &str) -> String {
    if path.is_empty() { "envelope".to_owned() } else { path.to_owned() }
}

/// Makes equal what Go's JSON reader holds to be equal: case, and the two letters beyond ASCII that fold to one in it.
pub(crate) fn fold(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

/// A member's name out of a stranger's file, cut and escaped for a message.
fn shown(name: &str) -> String {
    const SHOWN: usize = 64;
    name.escape_debug().take(SHOWN).collect()
}

/// Collects members; `None` when there are more than [`MAX_MEMBERS`].
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Option<Vec<(Cow<'de, str>, &'de RawValue)>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            let value = map.next_value::<&RawValue>()?;
            if list.len() <= MAX_MEMBERS {
                list.push((name, value));
            }
        }
        Ok((list.len() <= MAX_MEMBERS).then_some(list))
    }
}

/// The name of a member, borrowed when it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> de::Deserialize<'de> for Name<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The elements of a list; `None` when there are more than the limit.
struct Elements(usize);

impl<'de> Visitor<'de> for Elements {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element::<&RawValue>()? {
            if list.len() <= self.0 {
                list.push(value);
            }
        }
        Ok((list.len() <= self.0).then_some(list))
    }
}

fn elements<'a>(path: &str, raw: &'a RawValue, limit: usize) -> Result<Vec<&'a RawValue>, ParseError> {
    if raw.get() == NULL {
        return Ok(Vec::new()); // how Go writes a list that was never made
    }
    if !raw.get().starts_with('[') {
        return Err(ParseError::Type { member: path.to_owned(), expected: "a list" });
    }
    serde_json::Deserializer::from_str(raw.get())
        .deserialize_seq(Elements(limit))
        .map_err(|error| ParseError::Json { reason: format!("`{path}`: {error}") })?
        .ok_or_else(|| ParseError::TooMany { member: path.to_owned(), limit, unit: "elements" })
}

/// The text of a JSON string, borrowed when it has no escapes.
fn text<'a>(path: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, ParseError> {
    let quoted = raw.get();
    let inner = quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or_else(|| ParseError::Type { member: path.to_owned(), expected: "a string" })?;
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str(quoted)
        .map(Cow::Owned)
        .map_err(|error| ParseError::Json { reason: format!("`{path}`: {error}") })
}

fn name(path: &str, raw: &RawValue) -> Result<String, ParseError> {
    let text = text(path, raw)?;
    if text.len() > MAX_NAME {
        return Err(ParseError::TooMany { member: path.to_owned(), limit: MAX_NAME, unit: "bytes" });
    }
    Ok(text.into_owned())
}

fn bytes(path: &str, raw: &RawValue) -> Result<Vec<u8>, ParseError> {
    let mut base64 = text(path, raw)?;
    // A line break can only stand in a JSON string as an escape, and then the text is a copy already.
    if let Cow::Owned(text) = &mut base64 {
        text.retain(|c| !matches!(c, '\r' | '\n'));
    }
    STANDARD
        .decode(base64.as_bytes())
        .map_err(|error| ParseError::Base64 { member: path.to_owned(), reason: error.to_string() })
}
