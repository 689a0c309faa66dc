//! What the index keeps of an envelope, read in one pass and in constant memory but for the subjects' keys.
//!
//! This is no check: it finds evidence, the gate judges it. So it takes whatever a tolerant reader can take and
//! notes what it could not index. A Sigstore bundle is read through its `dsseEnvelope`.

use std::io::{self, BufRead, BufReader, Read};

use base64::engine::general_purpose::STANDARD;
use base64::read::DecoderReader;
use sha2::Digest as _;

use super::outline::Statement;
use super::segment::Key;
use crate::digest::BUFFER;

/// Subjects of one envelope that get into the index; more are counted and noted.
pub const MAX_SUBJECTS: u64 = 1 << 20;
/// Digests of one subject that get into the index.
pub const MAX_DIGESTS_OF_SUBJECT: usize = 16;
/// Length in bytes of a step name, payload type, predicate type or attestation type in the index.
pub const MAX_TEXT: usize = 4096;
/// Attestation types of one collection that get into the index.
pub const MAX_TYPES: usize = 256;
/// Nesting of objects and arrays in an envelope, outside its payload.
const MAX_DEPTH: usize = 64;
/// Length in bytes of a member name in an envelope that can be one we look for.
const MAX_MEMBER: usize = 64;
/// Length in bytes of a parser's message that is kept in a note.
const MAX_NOTE: usize = 300;

/// What an envelope says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extract {
    pub(crate) payload_type: String,
    /// SHA-256 of the payload, lowercase hex.
    pub(crate) payload_sha256: String,
    pub(crate) signatures: u64,
    pub(crate) predicate_type: Option<String>,
    pub(crate) step: Option<String>,
    /// Sorted, without repetitions.
    pub(crate) attestations: Vec<String>,
    /// How many subjects the statement has.
    pub(crate) subjects: u64,
    /// One for each digest of each subject; sorted, without repetitions.
    pub(crate) keys: Vec<Key>,
    pub(crate) notes: Vec<String>,
}

/// Why something is no envelope.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExtractError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("{0} at byte {1}")]
    Syntax(&'static str, u64),
}

/// Reads an envelope to its end.
pub(crate) fn extract(reader: impl Read) -> Result<Extract, ExtractError> {
    let mut scanner = Scanner { input: BufReader::with_capacity(BUFFER, reader), at: 0 };
    let mut found = Found::default();
    scanner.space()?;
    scanner.envelope(&mut found, true)?;
    scanner.space()?;
    if scanner.peek()?.is_some() {
        return Err(scanner.wrong("data after the envelope"));
    }
    let (Some(payload), Some(payload_type)) = (found.payload, found.payload_type) else {
        return Err(scanner.wrong("no `payload` and `payloadType`: no DSSE envelope"));
    };
    let mut out = Extract {
        payload_sha256: hex::encode(payload.digest),
        signatures: found.signatures.unwrap_or(0),
        payload_type,
        ..Extract::default()
    };
    if out.payload_type.is_empty() {
        out.notes.push(format!("the payload type is empty or has more than {MAX_TEXT} bytes"));
    }
    match payload.statement {
        Ok(statement) => statement.into_extract(&mut out),
        // A policy is no statement: its payload type says what it is.
        Err(error) if out.payload_type == crate::statement::PAYLOAD_TYPE => {
            let mut text = error;
            if text.len() > MAX_NOTE {
                text.truncate(text.floor_char_boundary(MAX_NOTE));
            }
            out.notes.push(format!("the payload is no statement: {text}"));
        }
        Err(_) => {}
    }
    Ok(out)
}

pub(super) fn bounded(text: String, what: &str, notes: &mut Vec<String>) -> Option<String> {
    if text.len() <= MAX_TEXT {
        return Some(text);
    }
    notes.push(format!("the {what} of {} bytes is not indexed (limit {MAX_TEXT})", text.len()));
    None
}

/// The members of an envelope that matter here.
#[derive(Default)]
struct Found {
    payload: Option<Payload>,
    /// Empty if it is longer than [`MAX_TEXT`].
    payload_type: Option<String>,
    signatures: Option<u64>,
}

struct Payload {
    digest: [u8; 32],
    statement: Result<Statement, String>,
}

/// Walks through the JSON of an envelope without holding it.
struct Scanner<R> {
    input: R,
    at: u64,
}

impl<R: BufRead> Scanner<R> {
    fn wrong(&self, what: &'static str) -> ExtractError {
        ExtractError::Syntax(what, self.at)
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.input.fill_buf()?.first().copied())
    }

    fn bump(&mut self) {
        self.input.consume(1);
        self.at += 1;
    }

    fn next(&mut self) -> Result<u8, ExtractError> {
        match self.peek()? {
            Some(byte) => {
                self.bump();
                Ok(byte)
            }
            None => Err(self.wrong("the JSON ends too early")),
        }
    }

    fn space(&mut self) -> io::Result<()> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek()? {
            self.bump();
        }
        Ok(())
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), ExtractError> {
        if self.next()? == byte { Ok(()) } else { Err(self.wrong(what)) }
    }

    /// An object that may be an envelope, or (`outer`) hold one in `dsseEnvelope`.
    fn envelope(&mut self, found: &mut Found, outer: bool) -> Result<(), ExtractError> {
        self.expect(b'{', "not a JSON object")?;
        self.space()?;
        if self.peek()? == Some(b'}') {
            self.bump();
            return Ok(());
        }
        loop {
            self.space()?;
            self.expect(b'"', "expected a member name")?;
            let name = self.text(MAX_MEMBER)?;
            self.space()?;
            self.expect(b':', "expected `:`")?;
            self.space()?;
            match name.as_deref() {
                Some("payload") if found.payload.is_some() => return Err(self.wrong("`payload` stands twice")),
                Some("payload") => {
                    self.expect(b'"', "`payload` is not a string")?;
                    found.payload = Some(self.payload()?);
                }
                Some("payloadType") if found.payload_type.is_some() => {
                    return Err(self.wrong("`payloadType` stands twice"));
                }
                Some("payloadType") => {
                    self.expect(b'"', "`payloadType` is not a string")?;
                    found.payload_type = Some(self.text(MAX_TEXT)?.unwrap_or_default());
                }
                Some("signatures") if found.signatures.is_some() => {
                    return Err(self.wrong("`signatures` stands twice"));
                }
                Some("signatures") => found.signatures = Some(self.skip()?),
                Some("dsseEnvelope") if outer => self.envelope(found, false)?,
                _ => {
                    self.skip()?;
                }
            }
            self.space()?;
            match self.next()? {
                b',' => {}
                b'}' => return Ok(()),
                _ => return Err(self.wrong("expected `,` or `}`")),
            }
        }
    }

    /// The rest of a string after its opening quote; `None` when it is longer than `limit` bytes.
    fn text(&mut self, limit: usize) -> Result<Option<String>, ExtractError> {
        let mut raw = vec![b'"'];
        let mut long = false;
        loop {
            let byte = self.next()?;
            // An escape is at most six times as long as what it stands for.
            if raw.len() > limit.saturating_mul(6) + 2 {
                long = true;
            }
            if !long {
                raw.push(byte);
            }
            match byte {
                b'"' => break,
                b'\\' => {
                    let escaped = self.next()?;
                    if !long {
                        raw.push(escaped);
                    }
                }
                _ => {}
            }
        }
        if long {
            return Ok(None);
        }
        let text: String = serde_json::from_slice(&raw).map_err(|_| self.wrong("not a valid string"))?;
        Ok(Some(text).filter(|text| text.len() <= limit))
    }

    /// Passes over one value; the number of elements if it is an array.
    fn skip(&mut self) -> Result<u64, ExtractError> {
        let mut open: Vec<u8> = Vec::new();
        let mut elements = 0;
        let mut separators = 0;
        loop {
            self.space()?;
            let byte = self.next()?;
            if open.len() == 1 && open[0] == b']' && byte != b']' {
                elements = 1;
            }
            match byte {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    if open.len() == MAX_DEPTH {
                        return Err(self.wrong("nested too deeply"));
                    }
                    open.push(byte + 2); // `}` and `]` stand two after their opening ones in ASCII
                }
                b'}' | b']' => {
                    if open.pop() != Some(byte) {
                        return Err(self.wrong("brackets do not match"));
                    }
                }
                b',' | b':' => {
                    if open.len() == 1 && byte == b',' {
                        separators += 1;
                    }
                }
                b'0'..=b'9' | b'-' | b'a'..=b'z' => {
                    while let Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'a'..=b'z' | b'E') = self.peek()? {
                        self.bump();
                    }
                }
                _ => return Err(self.wrong("not JSON")),
            }
            if open.is_empty() {
                return Ok(elements + if elements == 0 { 0 } else { separators });
            }
        }
    }

    fn skip_string(&mut self) -> Result<(), ExtractError> {
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Err(self.wrong("the JSON ends too early"));
            }
            let (used, byte) = match buffer.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
                Some(position) => (position + 1, Some(buffer[position])),
                None => (buffer.len(), None),
            };
            self.input.consume(used);
            self.at += used as u64;
            match byte {
                Some(b'"') => return Ok(()),
                Some(_) => drop(self.next()?),
                None => {}
            }
        }
    }

    fn payload(&mut self) -> Result<Payload, ExtractError> {
        let mut text = PayloadText { scanner: self, ended: false, failed: None };
        let mut decoded = Digested { inner: DecoderReader::new(&mut text, &STANDARD), state: sha2::Sha256::new() };
        let statement = serde_json::from_reader(BufReader::with_capacity(BUFFER, &mut decoded))
            .map_err(|error: serde_json::Error| error.to_string());
        // The digest covers the whole payload, also where it is no statement.
        let rest = io::copy(&mut decoded, &mut io::sink());
        let digest = decoded.state.finalize().into();
        if let Some(error) = text.failed.take() {
            return Err(error);
        }
        rest.map_err(|_| text.scanner.wrong("`payload` is not base64"))?;
        if !text.ended {
            return Err(text.scanner.wrong("`payload` is not base64"));
        }
        Ok(Payload { digest, statement })
    }
}

/// The characters of a JSON string up to its closing quote, without line ends, which Go's decoder passes over too.
struct PayloadText<'a, R> {
    scanner: &'a mut Scanner<R>,
    ended: bool,
    failed: Option<ExtractError>,
}

impl<R: BufRead> PayloadText<'_, R> {
    fn fill(&mut self, out: &mut [u8]) -> Result<usize, ExtractError> {
        while !self.ended {
            let buffer = self.scanner.input.fill_buf()?;
            if buffer.is_empty() {
                return Err(self.scanner.wrong("the JSON ends too early"));
            }
            let plain = buffer
                .iter()
                .take(out.len())
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
                .unwrap_or_else(|| buffer.len().min(out.len()));
            if plain > 0 {
                out[..plain].copy_from_slice(&buffer[..plain]);
                self.scanner.input.consume(plain);
                self.scanner.at += plain as u64;
                return Ok(plain);
            }
            match self.scanner.next()? {
                b'"' => self.ended = true,
                b'\\' => match self.scanner.next()? {
                    b'n' | b'r' => {}
                    b'/' => {
                        out[0] = b'/';
                        return Ok(1);
                    }
                    b'u' => {
                        let mut digits = [0; 4];
                        for digit in &mut digits {
                            *digit = self.scanner.next()?;
                        }
                        let code = std::str::from_utf8(&digits)
                            .ok()
                            .and_then(|digits| u16::from_str_radix(digits, 16).ok())
                            .and_then(|code| u8::try_from(code).ok())
                            .ok_or_else(|| self.scanner.wrong("`payload` is not base64"))?;
                        if !matches!(code, b'\r' | b'\n') {
                            out[0] = code;
                            return Ok(1);
                        }
                    }
                    _ => return Err(self.scanner.wrong("`payload` is not base64")),
                },
                _ => return Err(self.scanner.wrong("a control character in `payload`")),
            }
        }
        Ok(0)
    }
}

impl<R: BufRead> Read for PayloadText<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.failed.is_some() {
            return Ok(0);
        }
        self.fill(out).map_err(|error| {
            let text = error.to_string();
            self.failed = Some(error);
            io::Error::other(text)
        })
    }
}

struct Digested<R> {
    inner: R,
    state: sha2::Sha256,
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.state.update(&out[..count]);
        Ok(count)
    }
}
