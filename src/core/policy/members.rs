//! Reading JSON of which every reader must see the same: no member twice, names in any letter case, unknown ones told.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{MAX_ENTRIES, PolicyError, UnknownMember};
use crate::dsse::fold;
use crate::nearest::nearest;

/// Reads JSON in which no member stands twice and nothing follows the value.
pub fn strict_json(text: &[u8]) -> Result<Value, PolicyError> {
    let json = |error: serde_json::Error| PolicyError::Json { reason: error.to_string() };
    serde_json::from_slice::<Strict>(text).map(|strict| strict.0).map_err(json)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the member {name:?} stands there twice")));
            }
            let Strict(value) = members.next_value()?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// What is seen on the way through a policy.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) unknown: Vec<UnknownMember>,
    pub(super) notes: Vec<String>,
    /// A member of ours was seen: then unknown ones are refused.
    pub(super) ours: bool,
}

/// The members of one object, by their proper names; `null` counts as absent, as in Go.
pub(super) struct Members<'a> {
    at: String,
    members: BTreeMap<&'static str, &'a Value>,
}

/// The path of a member.
pub(super) fn below(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

impl<'a> Members<'a> {
    /// Reads an object that may have the members `peers` (known to witness or cilock) and `own` (ours).
    pub(super) fn read(
        at: &str,
        value: &'a Value,
        peers: &[&'static str],
        own: &[&'static str],
        seen: &mut Seen,
    ) -> Result<Self, PolicyError> {
        let object = object(at, value)?;
        let mut members = BTreeMap::new();
        for (name, value) in object {
            let folded = fold(name);
            let known = |list: &[&'static str]| list.iter().find(|known| fold(known) == folded).copied();
            let proper = match (known(peers), known(own)) {
                (Some(proper), _) => proper,
                (None, Some(proper)) => {
                    seen.ours |= !value.is_null();
                    proper
                }
                (None, None) => {
                    let nearest = nearest(name, peers.iter().chain(own).copied());
                    // A slip in a member of ours would take a demand away that nobody else makes.
                    seen.ours |= nearest.is_some_and(|name| own.contains(&name));
                    let nearest = nearest.map(str::to_owned);
                    seen.unknown.push(UnknownMember { at: below(at, name), nearest });
                    continue;
                }
            };
            if members.insert(proper, value).is_some() {
                return Err(PolicyError::Twice { at: below(at, proper) });
            }
        }
        members.retain(|_, value| !value.is_null());
        Ok(Self { at: at.to_owned(), members })
    }

    pub(super) fn at(&self, name: &str) -> String {
        below(&self.at, name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name).copied()
    }

    fn wrong(&self, name: &str, expected: &'static str) -> PolicyError {
        PolicyError::Type { at: self.at(name), expected }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, PolicyError> {
        self.get(name).map(|value| value.as_str().ok_or_else(|| self.wrong(name, "a text"))).transpose()
    }

    pub(super) fn require_text(&self, name: &str) -> Result<&'a str, PolicyError> {
        self.text(name)?.ok_or_else(|| PolicyError::Missing { at: self.at(name) })
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, PolicyError> {
        self.get(name).map(|value| value.as_bool().ok_or_else(|| self.wrong(name, "true or false"))).transpose()
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, PolicyError> {
        self.get(name).map(|value| value.as_u64().ok_or_else(|| self.wrong(name, "a whole number"))).transpose()
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, PolicyError> {
        let parse = |text: &str| {
            text.parse().map_err(|error: jiff::Error| PolicyError::Value {
                at: self.at(name),
                reason: format!("not an RFC 3339 time: {error}"),
            })
        };
        self.text(name)?.filter(|text| !text.is_empty()).map(parse).transpose()
    }

    pub(super) fn duration(&self, name: &str) -> Result<Option<SignedDuration>, PolicyError> {
        let parse = |text: &str| {
            duration(text).ok_or_else(|| PolicyError::Value {
                at: self.at(name),
                reason: format!("`{text}` is no positive duration such as `24h`, `1h30m` or `7d`"),
            })
        };
        self.text(name)?.filter(|text| !text.is_empty()).map(parse).transpose()
    }

    /// Standard base64 with padding, in which line breaks do not count.
    pub(super) fn base64(&self, name: &str) -> Result<Option<Vec<u8>>, PolicyError> {
        self.text(name)?.map(|text| base64(&self.at(name), text)).transpose()
    }

    /// The elements of a list with their paths.
    pub(super) fn list(&self, name: &str) -> Result<Vec<(String, &'a Value)>, PolicyError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| self.wrong(name, "a list"))?;
        self.bounded(name, list.len())?;
        let at = self.at(name);
        Ok(list.iter().enumerate().map(|(index, value)| (format!("{at}[{index}]"), value)).collect())
    }

    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, PolicyError> {
        let text = |(at, value): (String, &Value)| {
            value.as_str().map(str::to_owned).ok_or(PolicyError::Type { at, expected: "a text" })
        };
        self.list(name)?.into_iter().map(text).collect()
    }

    /// The members of an object whose names are data.
    pub(super) fn map(&self, name: &str) -> Result<Vec<(&'a String, &'a Value)>, PolicyError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let map = object(&self.at(name), value)?;
        self.bounded(name, map.len())?;
        Ok(map.iter().collect())
    }

    fn bounded(&self, name: &str, length: usize) -> Result<(), PolicyError> {
        if length > MAX_ENTRIES {
            let reason = format!("{length} entries, the limit is {MAX_ENTRIES}");
            return Err(PolicyError::Value { at: self.at(name), reason });
        }
        Ok(())
    }
}

fn object<'a>(at: &str, value: &'a Value) -> Result<&'a Map<String, Value>, PolicyError> {
    let at = if at.is_empty() { "the policy" } else { at };
    value.as_object().ok_or_else(|| PolicyError::Type { at: at.to_owned(), expected: "an object" })
}

/// See [`Members::base64`].
pub(super) fn base64(at: &str, text: &str) -> Result<Vec<u8>, PolicyError> {
    let compact: String = text.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect();
    let value = |error: base64::DecodeError| PolicyError::Value {
        at: at.to_owned(),
        reason: format!("not padded standard base64: {error}"),
    };
    STANDARD.decode(compact).map_err(value)
}

/// Reads a duration as Go writes it (`1h30m`, `1.5h`), with `d` and `w` besides; positive.
pub(super) fn duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut seconds = 0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    SignedDuration::try_from_secs_f64(seconds).ok().filter(SignedDuration::is_positive)
}
