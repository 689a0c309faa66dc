//! What readers of JSON disagree about, and what is refused therefore (security rule 17).
//!
//! Of a member that stands twice, some readers take the first, some the last; Go's also takes `Name` for `name`. The
//! depth is limited by the JSON reader itself, at 128 levels.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Most members of an object whose members are known to us.
pub(super) const MAX_MEMBERS: usize = 4096;
/// Most members of all objects that are open at a time: those of a map with as many files as a table may have, and of
/// the objects around it.
const MAX_OPEN: usize = super::files::MAX_FILES + 128 * MAX_MEMBERS;
// The largest table can be read, and the names that are kept fill 128 MiB at most.
const _: () = assert!(MAX_OPEN > super::files::MAX_FILES && MAX_OPEN * size_of::<Cow<'_, str>>() <= 128 << 20);
/// How many bytes of a stranger's text stand in a message.
const MAX_SHOWN: usize = 200;

/// The members of a statement.
const STATEMENT: [&str; 4] = ["_type", "subject", "predicateType", "predicate"];

/// Checks a whole payload: JSON to its end, no member twice in any object, and none of the outermost one that is a
/// statement's member in other letters.
pub(super) fn statement(payload: &[u8]) -> Result<(), serde_json::Error> {
    let text = std::str::from_utf8(payload).map_err(serde_json::Error::custom)?;
    check(text, true)
}

/// Checks a document: JSON to its end, no member twice in any object.
pub(crate) fn document(text: &str) -> Result<(), serde_json::Error> {
    check(text, false)
}

fn check(text: &str, statement: bool) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Checked { names: &mut Vec::new(), outermost: statement }.deserialize(&mut reader)?;
    reader.end()
}

/// The members of the object `text` as they were written, none twice, at most `limit`.
pub(super) fn object(text: &str, limit: usize) -> Result<Vec<(Cow<'_, str>, &RawValue)>, serde_json::Error> {
    struct Members(usize);

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some((Name(name), value)) = members.next_entry()? {
                if list.len() == self.0 {
                    return Err(A::Error::custom(format_args!("more than {} members", self.0)));
                }
                list.push((name, value));
            }
            let mut names: Vec<_> = list.iter().map(|(name, _)| &**name).collect();
            match double(&mut names) {
                Some(name) => Err(twice(name)),
                None => Ok(list),
            }
        }
    }

    let mut reader = serde_json::Deserializer::from_str(text);
    let list = serde::Deserializer::deserialize_map(&mut reader, Members(limit))?;
    reader.end()?;
    Ok(list)
}

/// The one of `known` that `name` is in other letters: Go's reader folds case, and two letters beyond ASCII.
pub(super) fn lookalike(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    known.iter().copied().find(|known| *known != name && known.chars().map(fold).eq(name.chars().map(fold)))
}

/// The error for a member that stands twice.
pub(super) fn twice<E: Error>(name: &str) -> E {
    E::custom(format_args!("{} stands there twice", shown(name)))
}

/// The error for a lookalike.
pub(super) fn taken_for<E: Error>(name: &str, known: &str) -> E {
    E::custom(format_args!("{} stands there, which some readers take for `{known}`", shown(name)))
}

/// A stranger's text as a message can hold it: quoted, escaped, cut.
pub(crate) fn shown(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(MAX_SHOWN)];
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

/// A name that stands twice. Sorts the names.
fn double<'n>(names: &mut [&'n str]) -> Option<&'n str> {
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// A member's name or another text, borrowed from the document unless it has escapes.
pub(super) struct Name<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// A list with at most `MOST` elements; `null` is Go's empty list.
#[derive(Debug)]
pub(crate) struct List<T, const MOST: usize>(pub(crate) Vec<T>);

impl<T, const MOST: usize> Default for List<T, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T, const MOST: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Elements<T, MOST> {
            type Value = List<T, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(List::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = elements.next_element()? {
                    if list.len() == MOST {
                        return Err(A::Error::custom(format_args!("more than {MOST} elements")));
                    }
                    list.push(element);
                }
                Ok(List(list))
            }
        }

        deserializer.deserialize_any(Elements(PhantomData))
    }
}

/// An object with at most `MOST` members, none twice; `null` is Go's empty one.
#[derive(Debug)]
pub(crate) struct Map<T, const MOST: usize>(pub(crate) BTreeMap<String, T>);

impl<T, const MOST: usize> Default for Map<T, MOST> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Map<T, MOST> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T, const MOST: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Members<T, MOST> {
            type Value = Map<T, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Map::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some(name) = members.next_key::<String>()? {
                    if map.len() == MOST {
                        return Err(A::Error::custom(format_args!("more than {MOST} members")));
                    }
                    if map.contains_key(&name) {
                        return Err(twice(&name));
                    }
                    map.insert(name, members.next_value()?);
                }
                Ok(Map(map))
            }
        }

        deserializer.deserialize_any(Members(PhantomData))
    }
}

/// Walks through a value. `names` is shared by all objects that are open: each has its names at the end of the list.
struct Checked<'n, 'de> {
    names: &'n mut Vec<Cow<'de, str>>,
    outermost: bool,
}

impl<'de> DeserializeSeed<'de> for Checked<'_, 'de> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Checked { names: &mut *self.names, outermost: false })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let begin = self.names.len();
        // What was written in order needs no sorting: file maps are.
        let mut ordered = true;
        while let Some(Name(name)) = members.next_key()? {
            if self.outermost
                && let Some(known) = lookalike(&name, &STATEMENT)
            {
                return Err(taken_for(&name, known));
            }
            if ordered && self.names.len() > begin {
                match self.names[self.names.len() - 1].cmp(&name) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return Err(twice(&name)),
                    std::cmp::Ordering::Greater => ordered = false,
                }
            }
            if self.names.len() == MAX_OPEN {
                return Err(A::Error::custom(format_args!("more than {MAX_OPEN} members")));
            }
            self.names.push(name);
            members.next_value_seed(Checked { names: &mut *self.names, outermost: false })?;
        }
        let found = &mut self.names[begin..];
        if !ordered {
            found.sort_unstable();
            if let Some((name, _)) = found.iter().zip(&found[1..]).find(|(a, b)| a == b) {
                return Err(twice(name));
            }
        }
        self.names.truncate(begin);
        Ok(())
    }
}
