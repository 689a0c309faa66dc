//! The patterns under which the values of secrets are searched for.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

use super::search::MIN_DOCUMENT_SECRET;

/// Values from this length on count in names of files and subjects whatever they are made of (decision 8), in bytes.
pub const MIN_NAME_SECRET: usize = 16;

/// Values longer than this are searched for in pieces of this length, so that every hit spans few bytes.
pub(super) const PIECE: usize = 1024;
/// Lines of a value from this length on are searched for by themselves, in bytes.
const MIN_LINE: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pattern {
    pub(super) bytes: Vec<u8>,
    /// Length of the secret, in bytes.
    pub(super) secret: usize,
    /// Whether it counts in names.
    pub(super) names: bool,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    Raw,
    Hex,
    /// The characters that the secret alone decides. With `left` (`right`), the character before (after) them holds a
    /// few of its bits, too.
    Base64 {
        left: bool,
        right: bool,
    },
}

impl Pattern {
    fn new(bytes: Vec<u8>, secret: &[u8], form: Form) -> Self {
        Self { bytes, secret: secret.len(), names: counts_in_names(secret), form }
    }

    /// What of `text` is replaced when this pattern stands at `start`.
    pub(super) fn extent(&self, text: &[u8], start: usize) -> (usize, usize) {
        let end = start + self.bytes.len();
        let Form::Base64 { left, right } = self.form else { return (start, end) };
        let is_base64 = |at: usize| text.get(at).copied().is_some_and(base64_character);
        let start = if left && start > 0 && is_base64(start - 1) { start - 1 } else { start };
        let end = if right && is_base64(end) { end + 1 } else { end };
        (start, end)
    }
}

/// Whether `secret`, which has 8 bytes or more, counts in names: it is long, or made of at least two of lower-case
/// letters, upper-case letters, digits and anything else. Words, dates and numbers are not.
fn counts_in_names(secret: &[u8]) -> bool {
    let class = |byte: &u8| match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let mut classes = secret.iter().map(class);
    let first = classes.next();
    secret.len() >= MIN_NAME_SECRET || classes.any(|class| Some(class) != first)
}

pub(super) fn base64_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// The patterns of all `secrets`, sorted, none twice.
pub(super) fn of(secrets: &BTreeSet<Vec<u8>>) -> Vec<Pattern> {
    let mut patterns = BTreeSet::new();
    for secret in secrets {
        for piece in pieces(secret) {
            encodings(piece, &mut patterns);
        }
        for line in lines(secret) {
            patterns.insert(Pattern::new(line.to_vec(), line, Form::Raw));
        }
    }
    Vec::from_iter(patterns)
}

/// The secret itself or, where it is long, consecutive pieces of it.
fn pieces(secret: &[u8]) -> impl Iterator<Item = &[u8]> {
    // A short rest would be a pattern of its own that hits by chance.
    let whole = secret.len() / PIECE * PIECE;
    let (front, rest) = match secret.len() - whole {
        rest if rest >= MIN_DOCUMENT_SECRET || whole == 0 => (whole, rest),
        rest => (whole - PIECE, rest + PIECE),
    };
    let rest = (rest > 0).then(|| &secret[front..]);
    secret[..front].chunks(PIECE).chain(rest)
}

/// The long lines of a value with several lines; a `\n` written as two characters ends a line, too (keys in JSON).
/// The frame of a PEM block is no secret.
fn lines(secret: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = secret;
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(at..)?;
            let breaks = |w: &[u8]| w[0] == b'\n' || w == br"\n";
            let length = rest.windows(2).position(breaks).unwrap_or(rest.len());
            at += length + if rest.get(length) == Some(&b'\n') { 1 } else { 2 };
            let line = rest[..length].trim_ascii();
            if line.len() >= MIN_LINE && line.len() < text.len() && !line.starts_with(b"-----") {
                return Some(line);
            }
        }
    })
}

/// Adds the patterns under which `secret` is searched for.
fn encodings(secret: &[u8], patterns: &mut BTreeSet<Pattern>) {
    let mut add = |bytes: Vec<u8>, form: Form| {
        patterns.insert(Pattern::new(bytes, secret, form));
    };
    add(secret.to_vec(), Form::Raw);
    if secret.contains(&b' ') {
        // In a form (application/x-www-form-urlencoded).
        add(secret.iter().map(|&b| if b == b' ' { b'+' } else { b }).collect(), Form::Raw);
    }
    add(hex::encode(secret).into_bytes(), Form::Hex);
    add(hex::encode_upper(secret).into_bytes(), Form::Hex);
    for shift in 0..3 {
        // The bytes before the secret are not known, so neither are the characters that they have a share in.
        let mut shifted = vec![0; shift];
        shifted.extend_from_slice(secret);
        let (first, last) = ((shift * 8).div_ceil(6), shifted.len() * 8 / 6);
        let form = Form::Base64 { left: shift > 0, right: !(shifted.len() * 8).is_multiple_of(6) };
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            add(engine.encode(&shifted).as_bytes()[first..last].to_vec(), form);
        }
    }
}
