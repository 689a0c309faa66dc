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
    Ok(Extract::of(payload, payload_type, found.signatures.unwrap_or(0)))
}

/// What [`extract`] would find in an envelope with this payload and no signature.
pub(crate) fn of_payload(payload: &[u8], payload_type: &str) -> Extract {
    let statement = serde_json::from_slice(payload).map_err(|error: serde_json::Error| error.to_string());
    let payload_type = if payload_type.len() <= MAX_TEXT { payload_type } else { "" };
    Extract::of(Payload { digest: crate::digest::sha256(payload), statement }, payload_type.to_owned(), 0)
}

impl Extract {
    fn of(payload: Payload, payload_type: String, signatures: u64) -> Self {
        let mut out = Self { payload_sha256: hex::encode(payload.digest), signatures, payload_type, ..Self::default() };
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
        out
    }
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

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;
    use crate::statement::PAYLOAD_TYPE;

    fn read(text: &str) -> Result<Extract, ExtractError> {
        extract(text.as_bytes())
    }

    fn statement(text: &str) -> Extract {
        let payload = STANDARD.encode(text);
        read(&format!(r#"{{"payload":"{payload}","payloadType":"{PAYLOAD_TYPE}","signatures":[{{"sig":""}}]}}"#))
            .expect("an envelope")
    }

    #[test]
    fn members_come_in_any_order_with_any_space_and_any_escape() {
        let text = r#"{"_type":"t","subject":[{"digest":{"sha256":"aa"},"name":"n"}],"predicateType":"??>>~~","predicate":[1]}"#;
        let payload = STANDARD.encode(text);
        assert!(payload.contains('/') || payload.contains('+'), "{payload}");
        let escaped = payload.replace('/', "\\/").replace('+', "\\u002b");
        let (left, right) = payload.split_at(17);
        let plain = statement(text);
        assert_eq!((plain.subjects, plain.predicate_type.as_deref()), (1, Some("??>>~~")));
        assert_eq!(plain.keys, [Key::of_subject("sha256", "aa")]);
        assert_eq!(plain.payload_sha256, crate::digest::sha256_hex(text.as_bytes()));
        for other in [
            format!(r#"{{"signatures":[ {{"sig":"]}}\""}} ],"payloadType":"{PAYLOAD_TYPE}","payload":"{payload}"}}"#),
            format!(
                "\n{{ \"x\" : {{\"payload\":[1,{{}}]}} ,\t\"payload\":\"{escaped}\",\"payloadType\":\"{PAYLOAD_TYPE}\",\"signatures\":[{{}}]}}\n"
            ),
            format!(r#"{{"payload":"{left}\r\n{right}","payloadType":"{PAYLOAD_TYPE}","signatures":[null]}}"#),
            format!(
                r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","dsseEnvelope":{{"payload":"{payload}","payloadType":"{PAYLOAD_TYPE}","signatures":[{{"sig":"x"}}]}}}}"#
            ),
        ] {
            assert_eq!(read(&other).expect("an envelope"), plain, "{other}");
        }
    }

    #[test]
    fn signatures_are_counted() {
        for (list, count) in
            [("[]", 0), ("[ ]", 0), ("[{}]", 1), ("[{\"a\":[1,2]},{\"b\":{},\"c\":1}]", 2), ("{}", 0), ("null", 0)]
        {
            let text = format!(r#"{{"payload":"","payloadType":"x","signatures":{list}}}"#);
            assert_eq!(read(&text).expect("an envelope").signatures, count, "{list}");
        }
    }

    #[test]
    fn only_a_collection_has_a_step() {
        let body = r#"{"name":"build","attestations":[{"type":"b"},{"type":"a"},{"type":"b"},{"type":7},3]}"#;
        let of = |predicate_type: &str, body: &str| {
            statement(&format!(r#"{{"subject":[],"predicateType":"{predicate_type}","predicate":{body}}}"#))
        };
        for address in ["https://witness.testifysec.com", "https://aflock.ai"] {
            let found = of(&format!("{address}/attestation-collection/v0.1"), body);
            assert_eq!(
                (found.step.as_deref(), found.attestations),
                (Some("build"), vec!["a".to_owned(), "b".to_owned()])
            );
        }
        let found = of("https://spdx.dev/Document", body);
        assert_eq!((found.step, found.attestations.len(), found.notes.len()), (None, 0, 0));
        for body in ["null", "1", "\"x\"", "[{}]", r#"{"name":{},"attestations":{"type":"a"}}"#, "-1.5", "true"] {
            let found = of("https://aflock.ai/attestation-collection/v0.1", body);
            assert_eq!((found.step, found.notes), (None, vec![]), "{body}");
        }
    }

    #[test]
    fn what_is_not_indexed_is_noted() {
        let twice = statement(r#"{"subject":[],"subject":[],"predicateType":"x"}"#);
        assert!(twice.notes[0].contains("duplicate field"), "{:?}", twice.notes);
        let twice = statement(r#"{"predicateType":"x/attestation-collection/1","predicate":{"name":"a","name":"b"}}"#);
        assert!(twice.notes[0].contains("twice"), "{:?}", twice.notes);
        for text in ["", "[]", "{}", "{\"predicateType\":1}", "{\"predicateType\":\"x\"} more"] {
            let found = statement(text);
            assert_eq!((found.notes.len(), found.predicate_type), (1, None), "{text}");
        }
        let long = "x".repeat(MAX_TEXT + 1);
        let found = statement(&format!(
            r#"{{"predicateType":"x/attestation-collection/1","predicate":{{"name":"{long}","attestations":[{{"type":"{long}"}}]}}}}"#
        ));
        assert_eq!((found.step, found.attestations.len(), found.notes.len()), (None, 0, 2));
        let digests: Vec<_> = (0..=MAX_DIGESTS_OF_SUBJECT).map(|index| format!("\"a{index}\":\"1\"")).collect();
        let found =
            statement(&format!(r#"{{"predicateType":"x","subject":[{{"digest":{{{}}}}}]}}"#, digests.join(",")));
        assert_eq!((found.keys.len(), found.notes.len()), (MAX_DIGESTS_OF_SUBJECT, 1));
        let long_type = format!(r#"{{"payload":"","payloadType":"{long}"}}"#);
        let found = read(&long_type).expect("an envelope");
        assert_eq!((found.payload_type.as_str(), found.notes.len()), ("", 1));
    }

    #[test]
    fn more_subjects_than_the_limit_are_counted_and_noted() {
        let count = MAX_SUBJECTS + 3;
        let mut text = String::from(r#"{"predicateType":"x","subject":["#);
        for index in 0..count {
            text.push_str(if index == 0 { "" } else { "," });
            text.push_str(r#"{"digest":{"a":"1"}}"#);
        }
        text.push_str("]}");
        let found = statement(&text);
        assert_eq!((found.subjects, found.keys.len()), (count, 1));
        assert!(found.notes[0].starts_with("3 subject digests"), "{:?}", found.notes);
    }

    #[test]
    fn what_is_cut_short_or_no_envelope_is_an_error() {
        let payload = STANDARD.encode(r#"{"predicateType":"x","subject":[{"digest":{"sha256":"aa"}}]}"#);
        let good =
            format!(r#"{{"payload":"{payload}","payloadType":"{PAYLOAD_TYPE}","signatures":[{{"sig":"a\"b"}}]}}"#);
        read(&good).expect("an envelope");
        for length in 0..good.len() {
            read(&good[..length]).expect_err("cut short");
        }
        let member = |text: &str| format!(r#"{{"payload":"e30=","payloadType":"x"{text}}}"#);
        read(&member("")).expect("an envelope");
        for text in [
            r#","payload":"e30=""#,
            r#","payloadType":"y""#,
            r#","dsseEnvelope":{"payload":"e30="}"#,
            r#","a":[}"#,
            r#","a":"#,
            r#","a""#,
            ",",
            r#","a":@"#,
            &format!(r#","a":{}{}"#, "[".repeat(1000), "]".repeat(1000)),
            &format!(r#","a":{}"#, "[".repeat(100_000)),
        ] {
            read(&member(text)).expect_err("no envelope");
        }
        for payload in ["e30", "e3_=", "e30=x", "e30=\\u00e9", "e30=\\x", "\u{1}", "====", "e30=e30="] {
            read(&format!(r#"{{"payload":"{payload}","payloadType":"x"}}"#)).expect_err(payload);
        }
        read(&format!("{}x", member(""))).expect_err("more data");
    }
}
