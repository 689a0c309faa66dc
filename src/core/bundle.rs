//! Evidence bundles: many envelopes in one file, to be carried to where there is no archive.
//!
//! Form: cilock's (wire-formats §8.3): a gzipped tar with `bundle.json`, which lists the envelopes, and
//! `attestations.jsonl`, which has one on each line. A bundle is no proof of anything: its envelopes are judged by their
//! own signatures.

use std::cell::Cell;
use std::io::{self, BufRead as _, BufReader, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::sha256_hex;
use crate::dsse::{Envelope, ParseError};
use crate::verify::MAX_ENVELOPE;

/// `schemaVersion` of the list.
pub const SCHEMA: &str = "https://aflock.ai/bundle/v0.1";
/// Envelopes of one bundle.
pub const MAX_ENVELOPES: usize = 10_000;
/// Bytes of one bundle when it is unpacked.
pub const MAX_BYTES: u64 = 1 << 30;
/// How far a bundle may unpack whatever its size, in bytes.
const FREE: u64 = 16 << 20;
/// How many times its size it may unpack to beyond that. Envelopes are base64: they become a few times smaller.
const MAX_RATIO: u64 = 100;
/// Bytes of the list.
const MAX_LIST: u64 = 16 << 20;
const LIST: &str = "bundle.json";
const LINES: &str = "attestations.jsonl";

/// A file that is no bundle, or one that was damaged.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not a gzipped tar.
    #[error("not a gzipped tar that can be read to its end")]
    Read(#[from] io::Error),
    /// A member is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A member stands there twice.
    #[error("`{0}` stands there twice")]
    Twice(&'static str),
    /// The list cannot be read.
    #[error("`{LIST}` cannot be read")]
    List(#[source] serde_json::Error),
    /// Another form.
    #[error("`{LIST}` is of the form `{0}`, expected `{SCHEMA}`")]
    Schema(String),
    /// Too much.
    #[error("more than {MAX_BYTES} bytes or {MAX_ENVELOPES} envelopes")]
    TooLarge,
    /// The list and the lines do not agree.
    #[error("line {line} of `{LINES}` is not what `{LIST}` says: {problem}")]
    Differs {
        /// Line, counted from 1.
        line: usize,
        /// In what.
        problem: String,
    },
    /// Something to be put into a bundle is no envelope.
    #[error("{label} is no envelope")]
    Envelope {
        /// Which.
        label: String,
        /// Why.
        source: ParseError,
    },
}

/// The list of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List {
    /// [`SCHEMA`].
    pub schema_version: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Where the envelopes came from: `file`, `archivista`, `verify-export`.
    pub source: String,
    /// The server they came from.
    #[serde(rename = "sourceURL", default, skip_serializing_if = "String::is_empty")]
    pub source_url: String,
    /// Digests that the bundle is about.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// How many envelopes there are.
    pub count: usize,
    /// The envelopes, in the order of the lines.
    pub envelopes: Vec<Listed>,
}

/// One envelope in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// SHA-256 of the line's bytes, lowercase hex.
    pub sha256: String,
    /// Payload type; not checked.
    #[serde(default)]
    pub payload_type: String,
    /// Ids of the keys that are said to have signed; not checked.
    #[serde(rename = "signerKeyIDs", default)]
    pub signer_key_ids: Vec<String>,
}

/// A bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The list.
    pub list: List,
    /// The envelopes as JSON, each without a line break.
    pub envelopes: Vec<Vec<u8>>,
}

impl Bundle {
    /// Makes a bundle of envelopes, each with its label. Envelopes with line breaks are written anew on one line, which
    /// changes no signed byte.
    pub fn make(
        envelopes: Vec<(String, Vec<u8>)>,
        source: &str,
        subjects: Vec<String>,
        created_at: Timestamp,
    ) -> Result<Self, BundleError> {
        if envelopes.len() > MAX_ENVELOPES {
            return Err(BundleError::TooLarge);
        }
        let mut listed = Vec::new();
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for (label, bytes) in envelopes {
            let envelope =
                Envelope::parse(&bytes, MAX_ENVELOPE).map_err(|source| BundleError::Envelope { label, source })?;
            let trimmed = bytes.trim_ascii();
            let line = if trimmed.contains(&b'\n') { envelope.to_json() } else { trimmed.to_vec() };
            listed.push(Listed {
                sha256: sha256_hex(&line),
                payload_type: envelope.payload_type,
                signer_key_ids: envelope.signatures.into_iter().map(|signature| signature.key_id).collect(),
            });
            lines.push(line);
        }
        let list = List {
            schema_version: SCHEMA.to_owned(),
            created_at,
            source: source.to_owned(),
            source_url: String::new(),
            subjects,
            count: lines.len(),
            envelopes: listed,
        };
        Ok(Self { list, envelopes: lines })
    }

    /// Reads a bundle, and checks each line against the list.
    pub fn read(file: impl Read) -> Result<Self, BundleError> {
        let packed = Cell::new(0);
        let unpacked = MultiGzDecoder::new(Counted { file, packed: &packed }).take(MAX_BYTES + 1);
        let mut archive = tar::Archive::new(Limited { unpacked, count: 0, packed: &packed });
        let (mut list, mut lines): (Option<List>, Option<Vec<Vec<u8>>>) = (None, None);
        let mut members = 0;
        for entry in archive.entries()? {
            let mut entry = entry?;
            members += 1;
            if members > 64 || entry.size() > MAX_BYTES {
                return Err(BundleError::TooLarge);
            }
            let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            // A sparse file has a gigabyte of zeros in a few bytes.
            if [LIST, LINES].contains(&name.as_str()) && !entry.header().entry_type().is_file() {
                return Err(io::Error::other(format!("`{name}` is no regular file")).into());
            }
            match name.as_str() {
                LIST => {
                    let mut text = Vec::new();
                    entry.by_ref().take(MAX_LIST).read_to_end(&mut text)?;
                    let read = serde_json::from_slice(&text).map_err(BundleError::List)?;
                    if list.replace(read).is_some() {
                        return Err(BundleError::Twice(LIST));
                    }
                }
                LINES => {
                    let read = read_lines(entry)?;
                    if lines.replace(read).is_some() {
                        return Err(BundleError::Twice(LINES));
                    }
                }
                _ => {}
            }
        }
        let list = list.ok_or(BundleError::Missing(LIST))?;
        let envelopes = lines.ok_or(BundleError::Missing(LINES))?;
        if list.schema_version != SCHEMA {
            return Err(BundleError::Schema(list.schema_version));
        }
        if envelopes.len() != list.count || list.envelopes.len() != list.count {
            let problem = format!("{} lines, the list has {} of {}", envelopes.len(), list.envelopes.len(), list.count);
            return Err(BundleError::Differs { line: envelopes.len(), problem });
        }
        for (number, (line, listed)) in envelopes.iter().zip(&list.envelopes).enumerate() {
            let found = sha256_hex(line);
            if found != listed.sha256 {
                let problem = format!("its SHA-256 is {found}, the list has {}", listed.sha256);
                return Err(BundleError::Differs { line: number + 1, problem });
            }
        }
        Ok(Self { list, envelopes })
    }

    /// Writes the bundle. Equal bundles give equal bytes.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(GzEncoder::new(out, Compression::default()));
        let list = serde_json::to_vec_pretty(&self.list).map_err(io::Error::other)?;
        let mut lines = Vec::new();
        for envelope in &self.envelopes {
            lines.extend_from_slice(envelope);
            lines.push(b'\n');
        }
        let time = u64::try_from(self.list.created_at.as_second()).unwrap_or(0);
        for (name, content) in [(LIST, list), (LINES, lines)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(time);
            archive.append_data(&mut header, name, content.as_slice())?;
        }
        archive.into_inner()?.finish()?.flush()
    }

    /// Whether bytes begin as a bundle does: gzip.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(&[0x1f, 0x8b])
    }
}

/// The lines that are not empty.
fn read_lines(text: impl Read) -> Result<Vec<Vec<u8>>, BundleError> {
    let mut text = BufReader::new(text);
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if text.read_until(b'\n', &mut line)? == 0 {
            return Ok(lines);
        }
        line.pop_if(|last| *last == b'\n');
        if lines.len() == MAX_ENVELOPES && !line.is_empty() {
            return Err(BundleError::TooLarge);
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }
}

/// A file of which is known how much was read.
struct Counted<'c, R> {
    file: R,
    packed: &'c Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.packed.set(self.packed.get() + read as u64);
        Ok(read)
    }
}

/// What comes out of a file: it must bear some relation to what was in it.
struct Limited<'c, R> {
    unpacked: R,
    count: u64,
    packed: &'c Cell<u64>,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.unpacked.read(buffer)?;
        self.count += read as u64;
        if self.count > FREE + MAX_RATIO * self.packed.get() {
            let size = self.packed.get();
            return Err(io::Error::other(format!(
                "more than {FREE} bytes and {MAX_RATIO} times the {size} it is made of"
            )));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> Bundle {
        let envelope = br#"{"payload":"e30=","payloadType":"t","signatures":[{"keyid":"k","sig":"AA=="}]}"#;
        let pretty =
            b"{\"payload\":\"e30=\",\n\"payloadType\":\"t\",\"signatures\":[{\"keyid\":\"k\",\"sig\":\"AA==\"}]}\n";
        let envelopes = vec![("a".to_owned(), envelope.to_vec()), ("b".to_owned(), pretty.to_vec())];
        Bundle::make(envelopes, "file", vec!["sha256:00".to_owned()], Timestamp::UNIX_EPOCH).expect("envelopes")
    }

    #[test]
    fn a_bundle_is_read_as_it_was_written() {
        let bundle = bundle();
        let mut bytes = Vec::new();
        bundle.write(&mut bytes).expect("written");
        let mut again = Vec::new();
        bundle.write(&mut again).expect("written");
        assert_eq!(bytes, again);
        assert!(Bundle::is_one(&bytes));
        let read = Bundle::read(bytes.as_slice()).expect("reads");
        assert_eq!(read, bundle);
        assert_eq!(read.envelopes[0], read.envelopes[1]);
    }

    #[test]
    fn a_line_that_was_changed_is_seen() {
        let mut bundle = bundle();
        bundle.envelopes[1][12] = b'f';
        let mut bytes = Vec::new();
        bundle.write(&mut bytes).expect("written");
        assert!(matches!(Bundle::read(bytes.as_slice()), Err(BundleError::Differs { line: 2, .. })));
        bundle.envelopes.pop();
        let mut bytes = Vec::new();
        bundle.write(&mut bytes).expect("written");
        assert!(matches!(Bundle::read(bytes.as_slice()), Err(BundleError::Differs { .. })));
        assert!(matches!(Bundle::read(&b"x"[..]), Err(BundleError::Read(_))));
    }
    /// A gzipped tar with a list, and with `content` under the name and type of `header`.
    fn packed(mut header: tar::Header, content: impl Read) -> Vec<u8> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let list = serde_json::to_vec(&bundle().list).expect("JSON");
        let mut plain = tar::Header::new_gnu();
        plain.set_size(list.len() as u64);
        archive.append_data(&mut plain, LIST, list.as_slice()).expect("written");
        header.set_path(LINES).expect("a path");
        header.set_cksum();
        archive.append(&header, content).expect("written");
        // Without the end of the archive: more may follow.
        std::mem::replace(archive.get_mut(), GzEncoder::new(Vec::new(), Compression::fast())).finish().expect("written")
    }

    #[test]
    fn a_sparse_file_in_a_bundle_is_no_gigabyte() {
        let size = MAX_BYTES - 4096;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_size(1);
        let gnu = header.as_gnu_mut().expect("of GNU's form");
        gnu.sparse[0].offset.copy_from_slice(format!("{:011o}\0", size - 1).as_bytes());
        gnu.sparse[0].numbytes.copy_from_slice(format!("{:011o}\0", 1).as_bytes());
        gnu.realsize.copy_from_slice(format!("{size:011o}\0").as_bytes());
        let bytes = packed(header, &b"x"[..]);
        assert!(bytes.len() < 1024);
        let error = Bundle::read(bytes.as_slice()).expect_err("sparse");
        assert!(matches!(&error, BundleError::Read(why) if why.to_string().contains("regular")), "{error:?}");
    }

    #[test]
    fn a_small_bundle_does_not_unpack_without_end() {
        let mut header = tar::Header::new_gnu();
        header.set_size(FREE + (8 << 20));
        let mut bytes = packed(header, io::empty());
        let mut piece = GzEncoder::new(Vec::new(), Compression::best());
        piece.write_all(&vec![b'a'; 1 << 20]).expect("written");
        bytes.extend(piece.finish().expect("written").repeat(24));
        assert!((bytes.len() as u64) * MAX_RATIO < 8 << 20, "{}", bytes.len());
        let error = Bundle::read(bytes.as_slice()).expect_err("a bomb");
        assert!(matches!(&error, BundleError::Read(why) if why.to_string().contains("times")), "{error:?}");
    }
}
