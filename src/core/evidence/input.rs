//! The document that a rule sees as `input`: the predicate in the form that the policy's type names.
//!
//! What is not converted stays as it was written, also each number. Conversions: flat maps of files and trees,
//! command-run v0.1 and v0.2 (wire-formats §3.1 to §3.3). Source of the rules: security rules 14 and 17.
//!
//! The peers leave members out that have nothing to say. Where rules want them empty (`count(input.status) > 0`) their
//! zero value is added, so that a comparison has something to compare. Where rules want them there (`not
//! input.signature`) they stay out: a zero value would say that there is one.

mod run;

use std::borrow::Cow;
use std::io;

use serde::ser::Error as _;
use serde_json::value::RawValue;

use super::files::Files;
use super::kinds::{self, Kind};
use super::merkle::{self, MerkleError};
use super::{EntryView, EvidenceError, strict};

/// Most bytes of a document that was converted: the interned form of a command-run can name a long path often.
pub const MAX_INPUT: usize = 128 << 20;

/// A predicate that cannot be shown to a rule.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The policy asks for another type.
    #[error("it is no {wanted}")]
    Type {
        /// What the policy asks for.
        wanted: String,
    },
    /// It is not in the form of its type, or readers disagree about it.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The files have no place in a tree.
    #[error(transparent)]
    Merkle(#[from] MerkleError),
    /// A process refers to what is not there.
    #[error("`{member}` is {index}, but `{list}` has {length} elements")]
    Index {
        /// Which member of a process.
        member: &'static str,
        /// What stands there.
        index: i64,
        /// The list it counts in.
        list: &'static str,
        /// Length of the list.
        length: usize,
    },
    /// The converted document would be too long.
    #[error("in the form of the policy it would have more than {MAX_INPUT} bytes")]
    TooLong,
}

/// Members with the JSON text of their values.
type Members = &'static [(&'static str, &'static str)];

/// Members that are added where they are absent: attestation, version, members.
const ZERO: [(&str, &str, Members); 6] = [
    ("command-run", "v0.1", &[("exitcode", "0"), ("stdout", r#""""#), ("stderr", r#""""#), ("processes", "[]")]),
    (
        "command-run",
        "v0.2",
        &[
            ("digests", "null"),
            ("paths", "null"),
            ("comms", "null"),
            ("processes", "[]"),
            ("exitcode", "0"),
            ("stdout", r#""""#),
            ("stderr", r#""""#),
        ],
    ),
    ("environment", "v0.1", &[("variables", "{}")]),
    // Not signature, commitdigest, treehash, tags, remotes, gitbinpath and gitbinhash: rules ask whether they are there.
    ("git", "v0.1", &[("status", "{}"), ("parenthashes", "[]"), ("refs", "[]"), ("branch", r#""""#)]),
    ("material", "v0.3", &[("leaves", "[]")]),
    ("product", "v0.3", &[("leaves", "[]")]),
];

/// Attestations about images: beside what they say, rules see what the gate found out about the image.
const OF_IMAGES: [&str; 2] = ["oci", "docker"];

/// What the gate found out about an image. A builder cannot choose it (security rule 14).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// `image_digest`: the digest of the object that was named where it reaches the attested image, else that of the
    /// attested image; `null` as long as no image is judged.
    pub image_digest: Option<String>,
    /// `cosign_subject`: the digest in the verified signature of the image; empty without one.
    pub cosign_subject: String,
}

/// The predicate of `entry` as a rule of a policy that asks for the type `wanted` sees it, before any image is judged.
pub fn present<'a>(entry: &EntryView<'a>, wanted: &str) -> Result<Cow<'a, RawValue>, EvidenceError> {
    present_of_image(entry, wanted, &ImageFacts::default())
}

/// The same beside an image.
///
/// Refused: a type that does not stand for that of the entry ([`kinds::same`]), a member that stands twice anywhere,
/// 128 levels of nesting or more, files that [`Files::read`] refuses, and a command-run whose parts do not fit.
pub fn present_of_image<'a>(
    entry: &EntryView<'a>,
    wanted: &str,
    image: &ImageFacts,
) -> Result<Cow<'a, RawValue>, EvidenceError> {
    let text = entry.attestation.get();
    let fault = |source| EvidenceError::Input { kind: entry.short_name().to_owned(), source };
    if !kinds::same(wanted, &entry.kind) {
        return Err(fault(InputError::Type { wanted: strict::shown(wanted) }));
    }
    strict::document(text).map_err(|error| fault(error.into()))?;
    let Kind::Attestation { name, .. } = kinds::canonical(&entry.kind) else {
        return Ok(Cow::Borrowed(entry.attestation));
    };
    let (has, wants) = (kinds::version(&entry.kind), kinds::version(wanted));
    let converted = match Files::read(entry).transpose()? {
        Some(files) if files.is_tree() && wants != "v0.3" => Some(flat_files(&files, name == "product")),
        Some(files) if (!files.is_tree() || files.has_alike()) && wants == "v0.3" => {
            Some(tree(&files, name == "product"))
        }
        None if kinds::is(&entry.kind, "command-run") && has != wants => Some(match wants {
            "v0.1" => run::flat(text),
            _ => run::interned(text),
        }),
        _ => None,
    };
    match converted {
        Some(converted) => converted.map(Cow::Owned),
        None => with_zero_values(entry.attestation, name, wants, image),
    }
    .map_err(fault)
}

/// The predicate as it was written, with the members that rules may rely on.
fn with_zero_values<'a>(
    predicate: &'a RawValue,
    name: &str,
    version: &str,
    image: &ImageFacts,
) -> Result<Cow<'a, RawValue>, InputError> {
    let table = ZERO.iter().find(|(of, at, _)| (*of, *at) == (name, version));
    let zero = table.map_or(&[][..], |(.., members)| *members);
    let mut forced = Vec::new();
    if OF_IMAGES.contains(&name) {
        forced.push(("image_digest", json(&image.image_digest)?));
        forced.push(("cosign_subject", json(&image.cosign_subject)?));
    }
    if zero.is_empty() && forced.is_empty() {
        return Ok(Cow::Borrowed(predicate));
    }
    let members = strict::object(predicate.get(), strict::MAX_MEMBERS)?;
    let mut out = Out::default();
    let mut object = out.object()?;
    for (name, value) in members.iter().filter(|(name, _)| forced.iter().all(|(forced, _)| name != forced)) {
        object.member(name, value.get())?;
    }
    for (name, value) in zero.iter().filter(|(zero, _)| members.iter().all(|(name, _)| name != zero)) {
        object.member(name, value)?;
    }
    for (name, value) in &forced {
        object.member(name, value)?;
    }
    object.end()?;
    out.finish().map(Cow::Owned)
}

/// Files as a flat map.
fn flat_files(files: &Files, product: bool) -> Result<Box<RawValue>, InputError> {
    let mut out = Out::default();
    let mut object = out.object()?;
    for file in files.iter() {
        let digest = json(&file.digests.digest_set())?;
        if product {
            // A tree has no MIME types.
            object.member(file.path, &format!(r#"{{"mime_type":"","digest":{digest}}}"#))?;
        } else {
            object.member(file.path, &digest)?;
        }
    }
    object.end()?;
    out.finish()
}

/// Files as a tree. Its leaves have all paths: cilock would leave out all but one of each content, and a rule about
/// paths would not see them.
fn tree(files: &Files, product: bool) -> Result<Box<RawValue>, InputError> {
    let tree = merkle::build(files)?;
    let mut out = Limited::default();
    let written = serde_json::to_writer(&mut out, &tree.for_rules(product));
    if out.full {
        return Err(InputError::TooLong);
    }
    written?;
    let text = String::from_utf8(out.bytes).map_err(|error| serde_json::Error::custom(error.utf8_error()))?;
    strict::document(&text)?;
    Ok(RawValue::from_string(text)?)
}

/// Takes at most [`MAX_INPUT`] bytes.
#[derive(Default)]
struct Limited {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_INPUT {
            self.full = true;
            return Err(io::Error::other("too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string(value)
}

/// A document that is being written.
#[derive(Default)]
struct Out(String);

impl Out {
    fn push(&mut self, text: &str) -> Result<(), InputError> {
        if self.0.len() + text.len() > MAX_INPUT {
            return Err(InputError::TooLong);
        }
        self.0.push_str(text);
        Ok(())
    }

    /// Begins an object.
    fn object(&mut self) -> Result<Object<'_>, InputError> {
        self.push("{")?;
        Ok(Object { out: self, first: true })
    }

    /// The whole document. What was put together may have a member twice that was not so before.
    fn finish(self) -> Result<Box<RawValue>, InputError> {
        strict::document(&self.0)?;
        Ok(RawValue::from_string(self.0)?)
    }
}

/// An object that is being written.
struct Object<'o> {
    out: &'o mut Out,
    first: bool,
}

impl Object<'_> {
    fn name(&mut self, name: &str) -> Result<(), InputError> {
        self.raw_name(&json(name)?)
    }

    /// A name that is JSON already.
    fn raw_name(&mut self, name: &str) -> Result<(), InputError> {
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(",")?;
        }
        self.out.push(name)?;
        self.out.push(":")
    }

    fn member(&mut self, name: &str, value: &str) -> Result<(), InputError> {
        self.name(name)?;
        self.out.push(value)
    }

    fn end(self) -> Result<(), InputError> {
        self.out.push("}")
    }
}

#[cfg(test)]
mod tests;
