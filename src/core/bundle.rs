//! Evidence bundles: many envelopes in one file, to be carried to where there is no archive.
//!
//! Form: cilock's (wire-formats §8.3): a gzipped tar with `bundle.json`, which lists the envelopes, and
//! `attestations.jsonl`, which has one on each line. A bundle is no proof of anything: its envelopes are judged by their
//! own signatures.

use std::io::{self, Read, Write};

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
        let limited = MultiGzDecoder::new(file).take(MAX_BYTES + 1);
        let mut archive = tar::Archive::new(limited);
        let (mut list, mut lines): (Option<List>, Option<Vec<u8>>) = (None, None);
        let mut members = 0;
        for entry in archive.entries()? {
            let mut entry = entry?;
            members += 1;
            if members > 64 || entry.size() > MAX_BYTES {
                return Err(BundleError::TooLarge);
            }
            let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
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
                    let mut text = Vec::new();
                    entry.read_to_end(&mut text)?;
                    if lines.replace(text).is_some() {
                        return Err(BundleError::Twice(LINES));
                    }
                }
                _ => {}
            }
        }
        let list = list.ok_or(BundleError::Missing(LIST))?;
        let lines = lines.ok_or(BundleError::Missing(LINES))?;
        if list.schema_version != SCHEMA {
            return Err(BundleError::Schema(list.schema_version));
        }
        let envelopes: Vec<Vec<u8>> =
            lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
        if envelopes.len() > MAX_ENVELOPES {
            return Err(BundleError::TooLarge);
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
}
