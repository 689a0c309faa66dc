//! The subjects of a statement, read from the payload when they are asked for.
//!
//! A collection has a subject for each product: a million of them as lists and maps would take several times the
//! memory of the payload.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::strict::{self, Name};
use crate::digest::DigestSet;

/// Most digests of one subject or back-reference.
pub const MAX_DIGESTS: usize = 64;

/// The subjects of a statement, checked, in written order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subjects<'a> {
    /// What stands between the brackets, from the first subject on.
    text: &'a str,
    count: usize,
}

/// What a statement is about: a name and its digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectView<'a> {
    /// Name; empty where there is none.
    pub name: Cow<'a, str>,
    /// Algorithm and value as they were written, sorted by algorithm, none twice.
    pub digest: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Subjects<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Reads them one by one.
    pub fn iter(&self) -> impl Iterator<Item = SubjectView<'a>> + use<'a> {
        let mut rest = self.text;
        // All were read once already, by `of`; none can fail here.
        (0..self.count).map_while(move |_| next(&mut rest).ok())
    }

    /// Takes the JSON text of a list.
    fn of(list: &'a str) -> Result<Self, serde_json::Error> {
        let wrong = || serde_json::Error::custom("`subject` is no list");
        let text = list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).ok_or_else(wrong)?.trim_start();
        let (mut rest, mut count) = (text, 0);
        while !rest.is_empty() {
            next(&mut rest)?;
            count += 1;
        }
        Ok(Self { text, count })
    }
}

/// Reads the subject that `rest` begins with, and moves to the next. The commas are known to be right.
fn next<'a>(rest: &mut &'a str) -> Result<SubjectView<'a>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(rest).into_iter::<SubjectView<'a>>();
    let subject = reader.next().unwrap_or_else(|| Err(serde_json::Error::custom("a subject is missing")))?;
    let read = reader.byte_offset();
    *rest = rest[read..].trim_start();
    *rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    Ok(subject)
}

impl SubjectView<'_> {
    /// The value for this algorithm.
    pub fn value(&self, algorithm: &str) -> Option<&str> {
        self.digest.iter().find(|(name, _)| name == algorithm).map(|(_, value)| &**value)
    }

    /// The digests as a set of their own.
    pub fn digest_set(&self) -> DigestSet {
        DigestSet(self.digest.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Subjects<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<&'de RawValue>::deserialize(deserializer)? {
            None => Ok(Self::default()),
            Some(list) => Self::of(list.get()).map_err(D::Error::custom),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for SubjectView<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(borrow, default)]
            name: Option<Name<'a>>,
            #[serde(borrow)]
            digest: Digests<'a>,
        }

        let Wire { name, digest: Digests(digest) } = Wire::deserialize(deserializer)?;
        Ok(Self { name: name.map(|Name(name)| name).unwrap_or_default(), digest })
    }
}

/// A digest set of any algorithms, sorted, none twice. `null` is Go's empty map.
pub(super) struct Digests<'a>(pub(super) Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Digests<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(Cow<'de, str>, Cow<'de, str>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest set")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Vec::new())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::with_capacity(1);
                while let Some((Name(algorithm), Name(value))) = members.next_entry()? {
                    if list.len() == MAX_DIGESTS {
                        return Err(A::Error::custom(format_args!("more than {MAX_DIGESTS} digests")));
                    }
                    list.push((algorithm, value));
                }
                list.sort_unstable();
                match list.iter().zip(list.iter().skip(1)).find(|(a, b)| a.0 == b.0) {
                    Some(((name, _), _)) => Err(strict::twice(name)),
                    None => Ok(list),
                }
            }
        }

        deserializer.deserialize_any(Members).map(Self)
    }
}
