//! The digests of one file, and when two of them say the same (wire-formats §2.2).

use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

use super::strict::{self, Name};
use crate::digest::{Algorithm, DigestSet};

/// The digests of one file. Two sets are compared with [`Digests::same`], not member by member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// SHA-256 of the content.
    pub sha256: Option<[u8; 32]>,
    /// Git object id, SHA-256 object format.
    pub gitoid_sha256: Option<[u8; 32]>,
    /// Digest of a folder.
    pub dir_hash: Option<[u8; 32]>,
    /// SHA-1 of the content.
    pub sha1: Option<[u8; 20]>,
    /// Git object id, SHA-1 object format.
    pub gitoid_sha1: Option<[u8; 20]>,
}

impl Digests {
    /// The set that holds one SHA-256.
    pub const fn of_sha256(sha256: [u8; 32]) -> Self {
        Self { sha256: Some(sha256), gitoid_sha256: None, dir_hash: None, sha1: None, gitoid_sha1: None }
    }

    /// Whether both say that the content is the same (wire-formats §2.2): an algorithm of the strongest class that
    /// either side has is shared and equal, and no shared algorithm differs. So an equal SHA-1 says nothing where one
    /// side has a SHA-256, and two empty sets are not the same.
    pub fn same(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.strong(), other.strong());
        let (mine_weak, theirs_weak) = (self.weak(), other.weak());
        let (strong, weak) = (compare(&mine, &theirs), compare(&mine_weak, &theirs_weak));
        let has_strong = mine.iter().chain(&theirs).any(Option::is_some);
        strong != Shared::Different
            && weak != Shared::Different
            && (if has_strong { strong } else { weak }) == Shared::Equal
    }

    fn strong(&self) -> [Option<[u8; 32]>; 3] {
        [self.sha256, self.gitoid_sha256, self.dir_hash]
    }

    fn weak(&self) -> [Option<[u8; 20]>; 2] {
        [self.sha1, self.gitoid_sha1]
    }

    /// The raw digest of an algorithm.
    pub fn get(&self, algorithm: Algorithm) -> Option<&[u8]> {
        match algorithm {
            Algorithm::Sha256 => self.sha256.as_ref().map(<[u8; 32]>::as_slice),
            Algorithm::GitoidSha256 => self.gitoid_sha256.as_ref().map(<[u8; 32]>::as_slice),
            Algorithm::DirHash => self.dir_hash.as_ref().map(<[u8; 32]>::as_slice),
            Algorithm::Sha1 => self.sha1.as_ref().map(<[u8; 20]>::as_slice),
            Algorithm::GitoidSha1 => self.gitoid_sha1.as_ref().map(<[u8; 20]>::as_slice),
        }
    }

    /// The digests in wire form, sorted by algorithm as in a [`DigestSet`].
    pub fn digest_set(&self) -> DigestSet {
        let all = Algorithm::FILE.into_iter().chain([Algorithm::DirHash]);
        let value =
            |algorithm: Algorithm| Some((algorithm.wire_name().to_owned(), algorithm.format(self.get(algorithm)?)));
        DigestSet(all.filter_map(value).collect())
    }

    /// Takes a digest in wire form.
    fn set(&mut self, algorithm: &str, value: &str) -> Result<(), String> {
        let Some((algorithm, raw)) = raw(algorithm, value) else {
            let (algorithm, value) = (strict::shown(algorithm), strict::shown(value));
            return Err(format!("{algorithm}: {value} is no digest that is known"));
        };
        let (strong, weak): (&mut Option<[u8; 32]>, &mut Option<[u8; 20]>) = match algorithm {
            Algorithm::Sha256 => (&mut self.sha256, &mut None),
            Algorithm::GitoidSha256 => (&mut self.gitoid_sha256, &mut None),
            Algorithm::DirHash => (&mut self.dir_hash, &mut None),
            Algorithm::Sha1 => (&mut None, &mut self.sha1),
            Algorithm::GitoidSha1 => (&mut None, &mut self.gitoid_sha1),
        };
        let twice = match raw {
            Raw::Strong(raw) => strong.replace(raw).is_some(),
            Raw::Weak(raw) => weak.replace(raw).is_some(),
        };
        if twice { Err(format!("{algorithm} stands there twice")) } else { Ok(()) }
    }
}

#[derive(PartialEq)]
enum Shared {
    None,
    Equal,
    Different,
}

fn compare<const N: usize, const L: usize>(a: &[Option<[u8; N]>; L], b: &[Option<[u8; N]>; L]) -> Shared {
    let mut shared = Shared::None;
    for (a, b) in a.iter().zip(b) {
        if let (Some(a), Some(b)) = (a, b) {
            if a != b {
                return Shared::Different;
            }
            shared = Shared::Equal;
        }
    }
    shared
}

pub(super) enum Raw {
    Strong([u8; 32]),
    Weak([u8; 20]),
}

/// A digest from its wire form; lowercase hex of the right length only.
pub(super) fn raw(algorithm: &str, value: &str) -> Option<(Algorithm, Raw)> {
    let strong = |hex: &str| lower_hex(hex).map(Raw::Strong);
    let weak = |hex: &str| lower_hex(hex).map(Raw::Weak);
    Some(match algorithm {
        "sha256" => (Algorithm::Sha256, strong(value)?),
        "sha1" => (Algorithm::Sha1, weak(value)?),
        "gitoid:sha256" => (Algorithm::GitoidSha256, strong(value.strip_prefix("gitoid:blob:sha256:")?)?),
        "gitoid:sha1" => (Algorithm::GitoidSha1, weak(value.strip_prefix("gitoid:blob:sha1:")?)?),
        "dirHash" => (Algorithm::DirHash, strong(value)?),
        _ => return None,
    })
}

/// The values of lowercase hex digits; [`NO_DIGIT`] for other bytes.
const DIGITS: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit as usize] as usize] = digit;
        digit += 1;
    }
    table
};
/// No digit has this bit.
const NO_DIGIT: u8 = 0x80;

/// Bytes from lowercase hex.
pub(super) fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let (mut out, mut seen) = ([0; N], 0);
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
        seen |= high | low;
        *byte = high << 4 | low;
    }
    (seen & NO_DIGIT == 0).then_some(out)
}

/// A digest set of a file. `null` is Go's empty map.
pub(super) struct OfFile(pub(super) Digests);

impl<'de> Deserialize<'de> for OfFile {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Digests;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest set")
            }

            fn visit_unit<E>(self) -> Result<Digests, E> {
                Ok(Digests::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Digests, A::Error> {
                let mut digests = Digests::default();
                while let Some((Name(algorithm), Name(value))) = members.next_entry()? {
                    digests.set(&algorithm, &value).map_err(A::Error::custom)?;
                }
                Ok(digests)
            }
        }

        deserializer.deserialize_any(Members).map(Self)
    }
}
