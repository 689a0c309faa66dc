//! Views of a text: the text itself and what it says once an encoding is undone, each with the way back to the
//! positions of the original.
//!
//! Undoing the encoding finds a secret however it was escaped (`\u003c` or `\u003C`, `%2f` or `%2F`, only some of the
//! characters), where a list of spellings would miss mixtures.

/// How often JSON escapes are undone: a document inside a string inside a document.
const JSON_LEVELS: usize = 2;

/// How long an indentation after a line break may be, in bytes, to be taken as wrapping.
const MAX_INDENT: usize = 64;

/// From `.0` in a view on, positions run along with its parent's from `.1` on.
type Marks = Vec<(usize, usize)>;

/// A text or what it says decoded.
pub(super) struct View<'a> {
    pub(super) bytes: std::borrow::Cow<'a, [u8]>,
    marks: Marks,
    parent: Option<usize>,
}

/// The views of one text. The first is the text itself.
pub(super) struct Views<'a>(pub(super) Vec<View<'a>>);

impl<'a> Views<'a> {
    pub(super) fn of(text: &'a [u8]) -> Self {
        let mut views = vec![View { bytes: text.into(), marks: Vec::new(), parent: None }];
        let add = |views: &mut Vec<View<'a>>, parent: usize, rule: Rule| {
            let decoded = decode(&views[parent].bytes, rule);
            decoded.map(|(bytes, marks)| {
                views.push(View { bytes: bytes.into(), marks, parent: Some(parent) });
                views.len() - 1
            })
        };
        let mut unescaped = 0;
        for _ in 0..JSON_LEVELS {
            match add(&mut views, unescaped, json_escape) {
                Some(next) => unescaped = next,
                None => break,
            }
        }
        for parent in [0, unescaped] {
            add(&mut views, parent, percent_escape);
            add(&mut views, parent, line_break);
            if unescaped == 0 {
                break;
            }
        }
        Self(views)
    }

    /// Where the range `start..end` of the view `index` stands in the original text. `None` when nothing was decoded
    /// within it: the parent shows the same bytes.
    pub(super) fn to_source(&self, index: usize, start: usize, end: usize) -> Option<(usize, usize)> {
        let view = &self.0[index];
        let Some(mut parent) = view.parent else { return Some((start, end)) };
        let after_start = view.marks.partition_point(|&(at, _)| at < start);
        if view.marks.get(after_start).is_none_or(|&(at, _)| at >= end) {
            return None;
        }
        let (mut start, mut end) = (view.back(start), view.back(end));
        while let Some(next) = self.0[parent].parent {
            (start, end) = (self.0[parent].back(start), self.0[parent].back(end));
            parent = next;
        }
        Some((start, end))
    }
}

impl View<'_> {
    /// The position in the parent.
    fn back(&self, position: usize) -> usize {
        match self.marks.partition_point(|&(at, _)| at <= position) {
            0 => position,
            n => {
                let (at, there) = self.marks[n - 1];
                there + (position - at)
            }
        }
    }
}

/// What stands encoded at the start of the bytes given: how many bytes it takes, and what it says (up to 4 bytes).
type Rule = fn(&[u8]) -> Option<(usize, Decoded)>;
type Decoded = ([u8; 4], usize);

/// The bytes decoded, with marks; `None` when nothing is encoded.
fn decode(bytes: &[u8], rule: Rule) -> Option<(Vec<u8>, Marks)> {
    let mut at = 0;
    let mut out = Vec::new();
    let mut marks = Vec::new();
    while at < bytes.len() {
        // Encoded parts begin with one of these in all the rules; the rest is copied in runs.
        let run = bytes[at..].iter().position(|&b| matches!(b, b'\\' | b'%' | b'\r' | b'\n'));
        let run = run.unwrap_or(bytes.len() - at);
        out.extend_from_slice(&bytes[at..at + run]);
        at += run;
        if at == bytes.len() {
            break;
        }
        if let Some((taken, (decoded, length))) = rule(&bytes[at..]) {
            marks.push((out.len(), at));
            out.extend_from_slice(&decoded[..length]);
            at += taken;
            marks.push((out.len(), at));
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    (!marks.is_empty()).then_some((out, marks))
}

/// `bytes` with `%XX` decoded, `None` when there is none.
pub(super) fn percent_decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    decode(bytes, percent_escape).map(|(bytes, _)| bytes)
}

fn percent_escape(bytes: &[u8]) -> Option<(usize, Decoded)> {
    match bytes {
        [b'%', high, low, ..] => Some((3, one(hex_digit(*high)? << 4 | hex_digit(*low)?))),
        _ => None,
    }
}

fn json_escape(bytes: &[u8]) -> Option<(usize, Decoded)> {
    let [b'\\', kind, rest @ ..] = bytes else { return None };
    let byte = match kind {
        b'"' | b'\\' | b'/' => *kind,
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 8,
        b'f' => 12,
        b'u' => {
            let unit = hex_unit(rest)?;
            let low = match rest {
                [_, _, _, _, b'\\', b'u', low @ ..] if (0xd800..0xdc00).contains(&unit) => hex_unit(low),
                _ => None,
            };
            let (taken, code) = match low {
                Some(low) if (0xdc00..0xe000).contains(&low) => {
                    (12, 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00))
                }
                _ => (6, unit),
            };
            let mut buffer = [0; 4];
            let length = char::from_u32(code)?.encode_utf8(&mut buffer).len();
            return Some((taken, (buffer, length)));
        }
        _ => return None,
    };
    Some((2, one(byte)))
}

/// A line break with the indentation that follows says nothing: wrapped text.
fn line_break(bytes: &[u8]) -> Option<(usize, Decoded)> {
    let breaks = match bytes {
        [b'\r', b'\n', ..] => 2,
        [b'\n' | b'\r', ..] => 1,
        _ => return None,
    };
    let indent = bytes[breaks..].iter().take(MAX_INDENT).take_while(|&&b| b == b' ' || b == b'\t').count();
    Some((breaks + indent, ([0; 4], 0)))
}

fn one(byte: u8) -> Decoded {
    ([byte, 0, 0, 0], 1)
}

fn hex_unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.get(..4)?;
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | u32::from(hex_digit(digit)?)))
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source_of(text: &str, needle: &str) -> Option<String> {
        let views = Views::of(text.as_bytes());
        (0..views.0.len()).find_map(|index| {
            let bytes = &views.0[index].bytes;
            let at = bytes.windows(needle.len()).position(|w| w == needle.as_bytes())?;
            let (start, end) = views.to_source(index, at, at + needle.len())?;
            Some(text[start..end].to_owned())
        })
    }

    #[test]
    fn positions_lead_back_to_the_original() {
        for (text, needle, source) in [
            ("x a<b y", "a<b", "a<b"),
            (r"x a\u003cb y", "a<b", r"a\u003cb"),
            (r"x a\u003Cb y", "a<b", r"a\u003Cb"),
            (r"x \\\u0061\\n y", "\\a\\n", r"\\\u0061\\n"),
            (r"x \ud83d\ude00! y", "😀!", r"\ud83d\ude00!"),
            ("x a%3cb%3C y", "a<b<", "a%3cb%3C"),
            ("x abc\r\n  def y", "abcdef", "abc\r\n  def"),
            (r"x abc\ndef y", "abcdef", r"abc\ndef"),
            (r"x a\\\/b y", r"a/b", r"a\\\/b"),
        ] {
            assert_eq!(source_of(text, needle).as_deref(), Some(source), "{text}");
        }
    }

    #[test]
    fn broken_escapes_are_left_as_they_are() {
        for text in [r"\", r"\u", r"\u12", r"\ud83d", r"\ud83d\u0041", "%", "%4", "%zz", r"\x41"] {
            assert_eq!(source_of(text, text).as_deref(), Some(text));
        }
    }
}
