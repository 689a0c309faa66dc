//! The members of a statement that the index needs, read without holding the rest.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::extract::{Extract, MAX_DIGESTS_OF_SUBJECT, MAX_SUBJECTS, MAX_TEXT, MAX_TYPES, bounded};
use super::segment::Key;

/// The members of a statement that are indexed. Unknown members are passed over.
#[derive(Deserialize)]
pub(super) struct Statement {
    #[serde(default)]
    subject: Subjects,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(default)]
    predicate: Loose<Predicate>,
}

impl Statement {
    pub(super) fn into_extract(self, out: &mut Extract) {
        out.subjects = self.subject.count;
        out.keys = self.subject.keys;
        out.keys.sort_unstable();
        out.keys.dedup();
        if self.subject.left_out > 0 {
            out.notes.push(format!(
                "{} subject digests are not indexed (limits {MAX_SUBJECTS} subjects, {MAX_DIGESTS_OF_SUBJECT} digests each)",
                self.subject.left_out
            ));
        }
        // Other predicates also have members of these names, with other meanings.
        if self.predicate_type.contains("/attestation-collection/") {
            let Loose(predicate) = self.predicate;
            out.step = predicate.name.and_then(|name| bounded(name, "step name", &mut out.notes));
            // The files of a Merkle tree are no subjects of the statement, its root is: they find the evidence too.
            let room = usize::try_from(MAX_SUBJECTS).unwrap_or(usize::MAX).saturating_sub(out.keys.len());
            out.keys.extend(predicate.types.leaves.into_iter().take(room));
            out.keys.sort_unstable();
            out.keys.dedup();
            out.attestations = predicate.types.names;
            out.attestations.sort_unstable();
            out.attestations.dedup();
            if predicate.types.left_out > 0 {
                out.notes.push(format!(
                    "{} attestation types are not indexed (limits {MAX_TYPES} types, {MAX_TEXT} bytes each)",
                    predicate.types.left_out
                ));
            }
        }
        out.predicate_type = bounded(self.predicate_type, "predicate type", &mut out.notes);
    }
}

/// Subjects, each digest turned into its key as soon as it is read.
#[derive(Default)]
struct Subjects {
    keys: Vec<Key>,
    count: u64,
    left_out: u64,
}

impl<'de> Deserialize<'de> for Subjects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Subjects;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of subjects")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Subjects, E> {
                Ok(Subjects::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Subjects, A::Error> {
                let mut out = Subjects::default();
                while list.next_element_seed(One(&mut out))?.is_some() {}
                Ok(out)
            }
        }
        deserializer.deserialize_any(List)
    }
}

/// One subject, or its digest set.
struct One<'a>(&'a mut Subjects);

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a subject")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.count += 1;
        while let Some(name) = map.next_key::<Member>()? {
            match name {
                Member::Digest => map.next_value_seed(Digests(self.0))?,
                Member::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Digest,
    #[serde(other)]
    Other,
}

struct Digests<'a>(&'a mut Subjects);

impl<'de> DeserializeSeed<'de> for Digests<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Digests<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a digest set")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut digests = 0;
        while let Some(algorithm) = map.next_key::<String>()? {
            let value = map.next_value::<Loose<Text>>()?.0;
            digests += 1;
            match value {
                Some(value) if self.0.count <= MAX_SUBJECTS && digests <= MAX_DIGESTS_OF_SUBJECT => {
                    self.0.keys.push(Key::of_subject(&algorithm, &value));
                }
                _ => self.0.left_out += 1,
            }
        }
        Ok(())
    }
}

/// What is made of any JSON value: the kinds that a type does not care for give its default.
trait FromAny<'de>: Default {
    fn from_text(_: &str) -> Self {
        Self::default()
    }

    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

/// Reads any JSON value through [`FromAny`].
struct Loose<T>(T);

impl<T: Default> Default for Loose<T> {
    fn default() -> Self {
        Self(T::default())
    }
}

impl<'de, T: FromAny<'de>> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<T>(PhantomData<T>);

        impl<'de, T: FromAny<'de>> Visitor<'de> for Any<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<T, E> {
                Ok(T::default())
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<T, E> {
                Ok(T::default())
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<T, E> {
                Ok(T::default())
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<T, E> {
                Ok(T::default())
            }

            fn visit_unit<E: de::Error>(self) -> Result<T, E> {
                Ok(T::default())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
                Ok(T::from_text(text))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::from_map(map)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
                T::from_list(list)
            }
        }

        deserializer.deserialize_any(Any(PhantomData)).map(Self)
    }
}

/// A string, or `None` for any other value.
type Text = Option<String>;

impl FromAny<'_> for Text {
    fn from_text(text: &str) -> Self {
        Some(text.to_owned())
    }
}

/// What a collection says; empty for any other predicate.
#[derive(Default)]
struct Predicate {
    name: Text,
    types: Types,
}

impl<'de> FromAny<'de> for Predicate {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "lowercase")]
        enum Member {
            Name,
            Attestations,
            #[serde(other)]
            Other,
        }

        let (mut name, mut types) = (None, None);
        while let Some(member) = map.next_key::<Member>()? {
            let twice = match member {
                Member::Name => name.replace(map.next_value::<Loose<Text>>()?.0).is_some(),
                Member::Attestations => types.replace(map.next_value::<Loose<Types>>()?.0).is_some(),
                Member::Other => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if twice {
                return Err(de::Error::custom("a member of the predicate stands twice"));
            }
        }
        Ok(Self { name: name.flatten(), types: types.unwrap_or_default() })
    }
}

/// The types of the attestations of a collection.
#[derive(Default)]
struct Types {
    names: Vec<String>,
    left_out: u64,
    /// Of the digests of files in Merkle trees.
    leaves: Vec<Key>,
}

impl<'de> FromAny<'de> for Types {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut out = Self::default();
        while let Some(Loose(Attestation { name, leaves })) = list.next_element()? {
            out.leaves.extend(leaves.0);
            match name {
                Some(name) if name.len() <= MAX_TEXT && out.names.len() < MAX_TYPES => out.names.push(name),
                Some(_) => out.left_out += 1,
                None => {}
            }
        }
        Ok(out)
    }
}

/// One attestation of a collection.
#[derive(Default)]
struct Attestation {
    name: Text,
    leaves: Leaves,
}

impl<'de> FromAny<'de> for Attestation {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "lowercase")]
        enum Member {
            Type,
            Attestation,
            #[serde(other)]
            Other,
        }

        let mut out = Self::default();
        while let Some(member) = map.next_key::<Member>()? {
            match member {
                Member::Type => out.name = map.next_value::<Loose<Text>>()?.0,
                Member::Attestation => out.leaves = map.next_value::<Loose<Tree>>()?.0.0,
                Member::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(out)
    }
}

/// The leaves of a material or product attestation in Merkle form; empty for any other.
#[derive(Default)]
struct Tree(Leaves);

impl<'de> FromAny<'de> for Tree {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "lowercase")]
        enum Member {
            Leaves,
            #[serde(other)]
            Other,
        }

        let mut out = Self::default();
        while let Some(member) = map.next_key::<Member>()? {
            match member {
                Member::Leaves => out.0 = map.next_value::<Loose<Leaves>>()?.0,
                Member::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(out)
    }
}

/// Digests of files.
#[derive(Default)]
struct Leaves(Vec<Key>);

impl<'de> FromAny<'de> for Leaves {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut out = Self::default();
        while let Some(Loose(Leaf(digest))) = list.next_element()? {
            let room = (out.0.len() as u64) < MAX_SUBJECTS;
            out.0.extend(digest.filter(|_| room).map(|digest| Key::of_subject("sha256", &digest)));
        }
        Ok(out)
    }
}

/// The digest of one file.
#[derive(Default)]
struct Leaf(Text);

impl<'de> FromAny<'de> for Leaf {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier)]
        enum Member {
            #[serde(rename = "fileDigest")]
            FileDigest,
            #[serde(other)]
            Other,
        }

        let mut out = Self::default();
        while let Some(member) = map.next_key::<Member>()? {
            match member {
                Member::FileDigest => out.0 = map.next_value::<Loose<Text>>()?.0,
                Member::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(out)
    }
}
