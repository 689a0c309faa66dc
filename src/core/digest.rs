//! Digest algorithms, digest sets and hashing of streams.
//!
//! Wire names and forms: the digest sets that witness and cilock read (in-toto attestation
//! `DigestSet`, plus `gitoid:*` and `dirHash`).

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Size of the buffer that files are read through, in bytes.
pub const BUFFER: usize = 128 * 1024;

/// Length in bytes of the longest value of an [`Algorithm`] in a digest set.
pub const MAX_TEXT_SIZE: usize = Algorithm::GitoidSha256.text_size();

/// A digest algorithm that a material or product map may carry.
///
/// Both peers refuse a whole file when a digest set in a typed predicate has any other key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256 of the content, 64 lowercase hex digits.
    Sha256,
    /// SHA-1 of the content, 40 lowercase hex digits.
    Sha1,
    /// Git object id of the content as a blob, SHA-256 object format, with the prefix `gitoid:blob:sha256:`.
    GitoidSha256,
    /// Git object id of the content as a blob, SHA-1 object format, with the prefix `gitoid:blob:sha1:`.
    GitoidSha1,
    /// Digest of a folder: SHA-256 over the sorted lines `<sha256>  <path>`.
    DirHash,
}

/// An algorithm name that is not known.
#[derive(Debug, thiserror::Error)]
#[error("unknown digest algorithm `{name}` (known: sha256, sha1, gitoid:sha256, gitoid:sha1)")]
pub struct UnknownAlgorithm {
    /// What was given.
    pub name: String,
}

impl Algorithm {
    /// All algorithms that a file can be hashed with, in the order in which they are written.
    pub const FILE: [Self; 4] = [Self::Sha256, Self::Sha1, Self::GitoidSha256, Self::GitoidSha1];

    /// All algorithms in the order of their names in a digest set.
    pub const BY_NAME: [Self; 5] = [Self::DirHash, Self::GitoidSha1, Self::GitoidSha256, Self::Sha1, Self::Sha256];

    /// The key under which the digest stands in a digest set.
    pub const fn wire_name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha1 => "sha1",
            Self::GitoidSha256 => "gitoid:sha256",
            Self::GitoidSha1 => "gitoid:sha1",
            Self::DirHash => "dirHash",
        }
    }

    /// Length of the raw digest in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha256 | Self::GitoidSha256 | Self::DirHash => 32,
            Self::Sha1 | Self::GitoidSha1 => 20,
        }
    }

    /// What stands before the hex digits in a digest set.
    const fn prefix(self) -> &'static str {
        match self {
            Self::GitoidSha256 => "gitoid:blob:sha256:",
            Self::GitoidSha1 => "gitoid:blob:sha1:",
            _ => "",
        }
    }

    /// Length in bytes of the value in a digest set.
    pub const fn text_size(self) -> usize {
        self.prefix().len() + 2 * self.size()
    }

    /// The value that stands in a digest set for the raw digest `bytes`.
    pub fn format(self, bytes: &[u8]) -> String {
        self.prefix().to_owned() + &hex::encode(bytes)
    }

    /// The same in `buffer`: for a million digests in a row. Empty when `bytes` has not the length of the digest.
    pub fn format_into<'a>(self, bytes: &[u8], buffer: &'a mut [u8; MAX_TEXT_SIZE]) -> &'a str {
        let prefix = self.prefix().as_bytes();
        let text = &mut buffer[..self.text_size()];
        text[..prefix.len()].copy_from_slice(prefix);
        match hex::encode_to_slice(bytes, &mut text[prefix.len()..]) {
            Ok(()) => std::str::from_utf8(text).unwrap_or_default(),
            Err(_) => "",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.wire_name())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::FILE
            .into_iter()
            .find(|algorithm| algorithm.wire_name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownAlgorithm { name: name.to_owned() })
    }
}

/// A digest set: algorithm name to value, sorted by name.
///
/// Subjects of a statement may carry any algorithm, so the names are strings here.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DigestSet(pub BTreeMap<String, String>);

impl DigestSet {
    /// The set that holds one SHA-256 digest given as lowercase hex.
    pub fn sha256_hex(hex: impl Into<String>) -> Self {
        Self(BTreeMap::from([("sha256".to_owned(), hex.into())]))
    }

    /// The set that holds one SHA-1 digest given as lowercase hex.
    pub fn sha1_hex(hex: impl Into<String>) -> Self {
        Self(BTreeMap::from([("sha1".to_owned(), hex.into())]))
    }

    /// The digest set that every textual subject carries: SHA-256 of the UTF-8 text.
    pub fn of_text(text: &str) -> Self {
        Self::sha256_hex(sha256_hex(text.as_bytes()))
    }

    /// The SHA-256 value, if the set has one.
    pub fn sha256(&self) -> Option<&str> {
        self.0.get("sha256").map(String::as_str)
    }
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

/// SHA-256 of `bytes` as 64 lowercase hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(sha256(bytes))
}

/// Hashes one stream with several algorithms in one pass.
pub struct Hasher {
    states: Vec<(Algorithm, State)>,
    length: u64,
}

enum State {
    Sha256(sha2::Sha256),
    Sha1(sha1::Sha1),
}

impl Hasher {
    /// Starts hashing with `algorithms`. `length` is the number of bytes that will come: the gitoid
    /// forms begin with it. [`Algorithm::DirHash`] is no hash of a stream and is passed over.
    pub fn new(algorithms: &[Algorithm], length: u64) -> Self {
        let states = algorithms
            .iter()
            .filter_map(|&algorithm| {
                let mut state = match algorithm {
                    Algorithm::Sha256 | Algorithm::GitoidSha256 => State::Sha256(sha2::Sha256::new()),
                    Algorithm::Sha1 | Algorithm::GitoidSha1 => State::Sha1(sha1::Sha1::new()),
                    Algorithm::DirHash => return None,
                };
                if matches!(algorithm, Algorithm::GitoidSha256 | Algorithm::GitoidSha1) {
                    state.update(format!("blob {length}\0").as_bytes());
                }
                Some((algorithm, state))
            })
            .collect();
        Self { states, length: 0 }
    }

    /// Takes the next bytes of the stream.
    pub fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        for (_, state) in &mut self.states {
            state.update(bytes);
        }
    }

    /// Number of bytes taken so far. Differs from the length given to [`Hasher::new`] when the file
    /// changed while it was read; the gitoid values are wrong then.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The raw digests, one after the other, in the order of the algorithms given.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 * self.states.len());
        for (_, state) in self.states {
            match state {
                State::Sha256(state) => out.extend_from_slice(&state.finalize()),
                State::Sha1(state) => out.extend_from_slice(&state.finalize()),
            }
        }
        out
    }
}

impl State {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Sha1(state) => state.update(bytes),
        }
    }
}

/// Reads `reader` to its end and returns the SHA-256 and the number of bytes.
pub fn sha256_reader(mut reader: impl Read) -> io::Result<([u8; 32], u64)> {
    let mut state = sha2::Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut length = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((state.finalize().into(), length)),
            Ok(n) => {
                state.update(&buffer[..n]);
                length += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_of_a_small_file() {
        let text = b"built\n";
        let algorithms = Algorithm::FILE;
        let mut hasher = Hasher::new(&algorithms, text.len() as u64);
        hasher.update(&text[..2]);
        hasher.update(&text[2..]);
        let raw = hasher.finish();
        let mut at = 0;
        let mut values = Vec::new();
        for algorithm in algorithms {
            values.push(algorithm.format(&raw[at..at + algorithm.size()]));
            let mut buffer = [0; MAX_TEXT_SIZE];
            assert_eq!(algorithm.format_into(&raw[at..at + algorithm.size()], &mut buffer), values[values.len() - 1]);
            assert_eq!(algorithm.format_into(&raw[at..=at], &mut buffer), "");
            at += algorithm.size();
        }
        assert_eq!(values[0], "56f6e6304d02d413bb7d5d463ac5cdc58551266dc7269b467fc385815f39b913");
        assert_eq!(values[2], "gitoid:blob:sha256:902055874027603d028a5a30ebdaeefb2f7bd8bd3d59d19f4a9ba624b781a5b1");
        assert_eq!(values[3], "gitoid:blob:sha1:e0c2b391a5e2a8ea8847c5eaaaa44bb14c5963f3");
    }

    #[test]
    fn text_subjects_are_hashed_as_the_peers_do() {
        assert_eq!(
            DigestSet::of_text("a@b.c").sha256(),
            Some("d648b243a3e817eaa3309e00e183483f2867baadf522099f0c2121770536b25a")
        );
    }

    #[test]
    fn unknown_algorithm_is_named() {
        let error = "sha512".parse::<Algorithm>().expect_err("sha512 is not for predicates");
        assert!(error.to_string().contains("`sha512`"));
    }
}
