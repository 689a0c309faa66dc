//! PEM blocks, read the way Go and openssl read them and written the way both write them (RFC 7468).
//!
//! Own code, because the strict readers refuse the headers and line lengths that real key files have,
//! and because the text of a private key must be wiped from memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Most blocks that are looked at in one file.
pub(crate) const MAX_BLOCKS: usize = 64;
/// Characters of base64 in a line.
const LINE: usize = 64;

/// One block. `body` is `None` when the base64 does not decode.
pub(crate) struct Block<'a> {
    pub(crate) label: &'a str,
    /// True when there are `Name: value` lines, as in the old encrypted form.
    pub(crate) encrypted_header: bool,
    pub(crate) body: Option<Zeroizing<Vec<u8>>>,
}

/// The blocks of `text`, in order, at most [`MAX_BLOCKS`]. Text between them is passed over; a block
/// without an end line ends the search.
pub(crate) fn blocks(text: &str) -> Vec<Block<'_>> {
    const BEGIN: &str = "-----BEGIN ";
    const DASHES: &str = "-----";
    let mut found = Vec::new();
    let mut rest = text;
    while found.len() < MAX_BLOCKS {
        let Some(start) = rest.find(BEGIN) else { break };
        let at_line_start = start == 0 || rest.as_bytes()[start - 1] == b'\n';
        rest = &rest[start + BEGIN.len()..];
        let line_end = rest.find('\n').unwrap_or(rest.len());
        let Some(label) = rest[..line_end].trim_end().strip_suffix(DASHES) else { continue };
        if !at_line_start {
            continue;
        }
        let end_line = format!("\n-----END {label}-----");
        let Some(end) = rest.find(&end_line) else { break };
        let inner = rest.get(line_end + 1..end).unwrap_or_default();
        let (encrypted_header, body) = split_headers(inner);
        found.push(Block { label, encrypted_header, body: decode(body) });
        rest = &rest[end + end_line.len()..];
    }
    found
}

/// Parts the header lines of RFC 1421 from the base64.
fn split_headers(inner: &str) -> (bool, &str) {
    let mut encrypted = false;
    let mut rest = inner;
    loop {
        let line_end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let line = &rest[..line_end];
        if !line.contains(':') {
            return (encrypted, rest);
        }
        encrypted |= line.starts_with("Proc-Type:") && line.contains("ENCRYPTED") || line.starts_with("DEK-Info:");
        rest = &rest[line_end..];
    }
}

fn decode(body: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut compact = Zeroizing::new(Vec::with_capacity(body.len()));
    compact.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut out = Zeroizing::new(vec![0; base64::decoded_len_estimate(compact.len())]);
    let length = STANDARD.decode_slice(&compact[..], &mut out).ok()?;
    out.truncate(length);
    Some(out)
}

/// Writes one block: lines of 64 characters, a newline after each, also after the last.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let mut base64 = Zeroizing::new(vec![0; der.len().div_ceil(3) * 4]);
    let length = STANDARD.encode_slice(der, &mut base64).expect("the buffer has the length of the base64");
    let mut text = Zeroizing::new(String::with_capacity(length + length / LINE + 2 * label.len() + 64));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in base64[..length].chunks(LINE) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_passes_over_text_between() {
        let bytes: Vec<u8> = (0..100).collect();
        let text = format!("Bag Attributes\n{}subject=x\r\n{}", *encode("A B", &bytes), *encode("C", &[1]));
        let found = blocks(&text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].label, "A B");
        assert_eq!(found[0].body.as_ref().map(|b| b.to_vec()), Some(bytes));
        assert_eq!(found[1].body.as_ref().map(|b| b.to_vec()), Some(vec![1]));
    }

    #[test]
    fn carriage_returns_long_lines_and_headers() {
        let found =
            blocks("-----BEGIN X-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES\r\n\r\nAQID\r\n-----END X-----");
        assert!(found[0].encrypted_header);
        assert_eq!(found[0].body.as_ref().map(|b| b.to_vec()), Some(vec![1, 2, 3]));
    }

    #[test]
    fn hostile_text_is_no_block() {
        for text in [
            "-----BEGIN ",
            "-----BEGIN X-----",
            "-----BEGIN X-----\n-----END Y-----",
            "-----BEGIN -----BEGIN -----BEGIN ",
            "a-----BEGIN X-----\nAQID\n-----END X-----",
        ] {
            assert_eq!(blocks(text).len(), 0, "{text}");
        }
        assert!(blocks("-----BEGIN X-----\n!!!\n-----END X-----")[0].body.is_none());
        assert_eq!(blocks(&encode("X", &[0]).repeat(MAX_BLOCKS + 9)).len(), MAX_BLOCKS);
    }
}
