//! JSON that may be cut off, as the Go library reads it: commas before a closing bracket and raw control characters
//! in strings are let pass.

use super::HEAD;

/// How far a scan came.
pub(super) struct Scan {
    /// Bytes that could belong to a value.
    pub(super) inspected: usize,
    /// Whether the value ended.
    complete: bool,
    /// First byte of the value.
    first: u8,
    /// `type` of the object itself is one of those of `GeoJSON`.
    geo: bool,
    /// `asset.version` is one of glTF's.
    gltf: bool,
}

const GEO: [&[u8]; 9] = [
    br#""Feature""#,
    br#""FeatureCollection""#,
    br#""Point""#,
    br#""LineString""#,
    br#""Polygon""#,
    br#""MultiPoint""#,
    br#""MultiLineString""#,
    br#""MultiPolygon""#,
    br#""GeometryCollection""#,
];

fn space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn spaces(&mut self) {
        while self.peek().is_some_and(space) {
            self.at += 1;
        }
    }

    fn digits(&mut self) -> bool {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at > from
    }

    fn take(&mut self, wanted: &[u8]) -> bool {
        let found = self.peek().is_some_and(|byte| wanted.contains(&byte));
        self.at += usize::from(found);
        found
    }

    /// The rest of a string behind its first quote; its content when it ends.
    fn string(&mut self) -> Option<&'a [u8]> {
        let from = self.at;
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(&self.bytes[from..self.at - 1]),
                b'\\' => {
                    if !self.take(b"\"\\/bfnrtu") {
                        return None;
                    }
                    if self.bytes[self.at - 1] == b'u' {
                        for _ in 0..4 {
                            if !self.peek()?.is_ascii_hexdigit() {
                                return None;
                            }
                            self.at += 1;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn number(&mut self) -> bool {
        self.take(b"-");
        let whole = self.digits();
        self.take(b".");
        let mut some = self.digits() || whole;
        if some && self.take(b"eE") {
            self.take(b"+-");
            some = self.digits();
        }
        some
    }

    fn word(&mut self, word: &[u8]) -> bool {
        for &letter in word {
            if self.peek() != Some(letter) {
                return false;
            }
            self.at += 1;
        }
        true
    }

    /// A string, number or word.
    fn scalar(&mut self, byte: u8) -> bool {
        match byte {
            b'"' => {
                self.at += 1;
                self.string().is_some()
            }
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }
}

/// What a scan stands before.
enum Want {
    Value,
    /// A value, or the end of the array.
    Element,
    /// A key, or the end of the object.
    Key,
    /// A comma, or the end of what is open.
    Next,
}

/// Reads one value and the space behind it.
pub(super) fn scan(bytes: &[u8]) -> Scan {
    let mut cursor = Cursor { bytes, at: 0 };
    let mut scan = Scan { inspected: 0, complete: false, first: 0, geo: false, gltf: false };
    // Brackets that are open, and the keys that lead to the value.
    let mut open: Vec<u8> = Vec::new();
    let mut keys: Vec<&[u8]> = Vec::new();
    // The Go library loses its way behind the first array that holds something.
    let mut lost = false;
    let mut want = Want::Value;
    loop {
        cursor.spaces();
        let Some(byte) = cursor.peek() else { break };
        match want {
            Want::Element if byte == b']' => {
                cursor.at += 1;
                open.pop();
                want = Want::Next;
            }
            Want::Value | Want::Element => {
                if matches!(want, Want::Element) {
                    lost = true;
                }
                if open.is_empty() && scan.first == 0 {
                    scan.first = byte;
                }
                match byte {
                    b'[' => {
                        cursor.at += 1;
                        open.push(byte);
                        want = Want::Element;
                    }
                    b'{' => {
                        cursor.at += 1;
                        open.push(byte);
                        want = Want::Key;
                    }
                    _ => {
                        let from = cursor.at;
                        if !cursor.scalar(byte) {
                            break;
                        }
                        let value = &bytes[from..cursor.at];
                        scan.geo |= !lost && keys.as_slice() == [b"type".as_slice()] && GEO.contains(&value);
                        scan.gltf |= !lost
                            && keys.as_slice() == [b"asset".as_slice(), b"version"]
                            && [br#""1.0""#.as_slice(), br#""2.0""#].contains(&value);
                        want = Want::Next;
                    }
                }
            }
            Want::Key => {
                cursor.at += 1;
                if byte == b'}' {
                    open.pop();
                    want = Want::Next;
                } else if byte == b'"' {
                    let Some(key) = cursor.string() else { break };
                    cursor.spaces();
                    if !cursor.take(b":") {
                        break;
                    }
                    keys.push(key);
                    want = Want::Value;
                } else {
                    cursor.at -= 1;
                    break;
                }
            }
            Want::Next => {
                let Some(&bracket) = open.last() else { break };
                let end = if bracket == b'{' { b'}' } else { b']' };
                if byte != b',' && byte != end {
                    break;
                }
                cursor.at += 1;
                if bracket == b'{' {
                    keys.pop();
                }
                if byte == end {
                    open.pop();
                } else {
                    want = if bracket == b'{' { Want::Key } else { Want::Element };
                }
            }
        }
        if open.is_empty() && matches!(want, Want::Next) {
            scan.complete = true;
            cursor.spaces();
            break;
        }
    }
    scan.inspected = cursor.at;
    scan
}

/// The type of an object or array of JSON that fills `head`, where that is the beginning of a longer file as far as
/// it goes.
pub(super) fn document(head: &[u8]) -> Option<&'static str> {
    // The cheap look at the first byte: most text is no JSON.
    if !matches!(head.iter().find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'[')) {
        return None;
    }
    let found = scan(head);
    if found.inspected != head.len() || (head.len() < HEAD && !found.complete) {
        return None;
    }
    Some(if found.geo && found.first == b'{' {
        "application/geo+json"
    } else if found.gltf && found.first == b'{' {
        "model/gltf+json"
    } else {
        "application/json"
    })
}

/// Whether each line is a value of JSON, or the beginning of one, and at least one an object or array.
pub(super) fn lines(head: &[u8]) -> bool {
    let (mut count, mut structured) = (0, false);
    for line in super::text::lines(head) {
        let found = scan(line);
        if found.inspected != line.len() {
            return false;
        }
        structured |= matches!(found.first, b'{' | b'[');
        count += 1;
    }
    count > 1 && structured
}
