//! HTML, XML and SVG, and the character sets that they declare.

use std::borrow::Cow;

use super::find;
use super::text::{bom, limited, plain_charset, same, space, trim, with_charset};

/// The tags that make HTML, in capitals.
const HTML: [&[u8]; 17] = [
    b"<!DOCTYPE HTML",
    b"<HTML",
    b"<HEAD",
    b"<SCRIPT",
    b"<IFRAME",
    b"<H1",
    b"<DIV",
    b"<FONT",
    b"<TABLE",
    b"<A",
    b"<STYLE",
    b"<TITLE",
    b"<B",
    b"<BODY",
    b"<BR",
    b"<P",
    b"<!--",
];

/// Kinds of XML: the root's tag and its name space, of which one may be missing.
const XML: [(&[u8], &[u8], &str); 17] = [
    (b"<rss", b"", "application/rss+xml"),
    (b"<feed", b"xmlns=\"http://www.w3.org/2005/Atom\"", "application/atom+xml"),
    (b"<X3D", b"xmlns:xsd=\"http://www.w3.org/2001/XMLSchema-instance\"", "model/x3d+xml"),
    (b"<kml", b"xmlns=\"http://www.opengis.net/kml/2.2\"", "application/vnd.google-earth.kml+xml"),
    (b"<kml", b"xmlns=\"http://earth.google.com/kml/2.0\"", "application/vnd.google-earth.kml+xml"),
    (b"<kml", b"xmlns=\"http://earth.google.com/kml/2.1\"", "application/vnd.google-earth.kml+xml"),
    (b"<kml", b"xmlns=\"http://earth.google.com/kml/2.2\"", "application/vnd.google-earth.kml+xml"),
    (b"<xliff", b"xmlns=\"urn:oasis:names:tc:xliff:document:1.2\"", "application/x-xliff+xml"),
    (b"<COLLADA", b"xmlns=\"http://www.collada.org/2005/11/COLLADASchema\"", "model/vnd.collada+xml"),
    (b"", b"xmlns:gml=\"http://www.opengis.net/gml", "application/gml+xml"),
    (b"<gpx", b"xmlns=\"http://www.topografix.com/GPX/1/1\"", "application/gpx+xml"),
    (
        b"<TrainingCenterDatabase",
        b"xmlns=\"http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2\"",
        "application/vnd.garmin.tcx+xml",
    ),
    (b"<amf", b"", "application/x-amf"),
    (
        b"<model",
        b"xmlns=\"http://schemas.microsoft.com/3dmanufacturing/core/2015/02\"",
        "application/vnd.ms-package.3dmanufacturing-3dmodel+xml",
    ),
    (b"<xfdf", b"xmlns=\"http://ns.adobe.com/xfdf/\"", "application/vnd.adobe.xfdf"),
    (b"<Ontology", b"xmlns=\"http://www.w3.org/2002/07/owl#\"", "application/owl+xml"),
    (b"", b"\0", ""),
];

/// The type of markup, `None` when it is none.
pub(super) fn detect(head: &[u8]) -> Option<Cow<'static, str>> {
    if svg(head) {
        return Some("image/svg+xml".into());
    }
    let start = trim(head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head));
    if HTML.iter().any(|tag| begins_with_tag(start, tag)) {
        return Some(with_charset("text/html", &html_charset(limited(head))));
    }
    begins_with_tag(start, b"<?XML").then(|| xml(head))
}

/// A tag, with space or `>` behind it.
fn begins_with_tag(bytes: &[u8], tag: &[u8]) -> bool {
    same(bytes, tag) && bytes.get(tag.len()).is_some_and(|&byte| space(byte) || byte == b'>')
}

fn xml(head: &[u8]) -> Cow<'static, str> {
    const ROOT: usize = 512;
    const CYCLONEDX: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?><bom xmlns=\"http://cyclonedx.org/schema/bom/";
    // The Go library looks for a document type or name space in this part.
    const XHTML: usize = 1024;
    if head.starts_with(CYCLONEDX) {
        return "application/vnd.cyclonedx+xml".into();
    }
    let start = trim(head);
    let start = &start[..start.len().min(ROOT)];
    let kind = XML.iter().find(|(tag, space, _)| match (find_some(start, tag), find_some(start, space)) {
        (Some(tag), None) => space.is_empty() && tag > 0,
        (None, Some(at)) => tag.is_empty() && at > 0,
        (Some(tag), Some(space)) => tag < space,
        (None, None) => false,
    });
    if let Some((_, _, name)) = kind {
        return (*name).into();
    }
    let start = &head[..head.len().min(XHTML)];
    if (0..start.len()).any(|at| spaced(&start[at..], b"<!DOCTYPE HTML") || spaced(&start[at..], b"<HTML XMLNS=")) {
        return "application/xhtml+xml".into();
    }
    with_charset("text/xml", &xml_charset(limited(head)))
}

/// Where a needle stands; an empty one stands nowhere.
fn find_some(hay: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() { None } else { find(hay, needle) }
}

/// As [`same`], where a space of the pattern stands for one or more.
fn spaced(mut bytes: &[u8], pattern: &[u8]) -> bool {
    for (at, want) in pattern.iter().enumerate() {
        match bytes.first() {
            Some(&byte) if space(*want) => {
                if !space(byte) {
                    return false;
                }
                bytes = if pattern.get(at + 1).is_some_and(|&next| space(next)) { &bytes[1..] } else { trim(bytes) };
            }
            Some(&byte) if byte == *want || (want.is_ascii_uppercase() && byte.to_ascii_uppercase() == *want) => {
                bytes = &bytes[1..];
            }
            _ => return false,
        }
    }
    true
}

/// Skips comments of markup.
fn skip_comments(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = skip_comment(bytes) {
        bytes = rest;
    }
    bytes
}

fn skip_comment(bytes: &[u8]) -> Option<&[u8]> {
    // The dashes that begin it may end it.
    let rest = bytes.starts_with(b"<!--").then(|| &bytes[2..])?;
    find(rest, b"-->").map(|at| &rest[at + 3..])
}

fn svg(head: &[u8]) -> bool {
    let start = trim(head);
    let mut plain = skip_comments(start);
    if plain.starts_with(b"<svg") {
        loop {
            let Attribute { name, value, more } = attribute(&mut plain);
            if name == b"xmlns" && value == b"http://www.w3.org/2000/svg" {
                return true;
            }
            if !more {
                return false;
            }
        }
    }
    let mut declared = start;
    if !declared.starts_with(b"<?xml") {
        return false;
    }
    loop {
        let Attribute { name, more, .. } = attribute(&mut declared);
        if name == b"version" {
            return find(declared, b"<svg").is_some();
        }
        if !more {
            return false;
        }
    }
}

/// An attribute of a tag.
struct Attribute<'a> {
    name: &'a [u8],
    value: &'a [u8],
    more: bool,
}

/// Takes the next attribute, as HTML's prescan of a byte stream for its encoding does.
fn attribute<'a>(bytes: &mut &'a [u8]) -> Attribute<'a> {
    const NONE: Attribute<'static> = Attribute { name: b"", value: b"", more: false };
    while bytes.first().is_some_and(|&byte| space(byte) || byte == b'/') {
        *bytes = &bytes[1..];
    }
    if bytes.first() == Some(&b'>') {
        return NONE;
    }
    let start = *bytes;
    let mut length = 0;
    loop {
        let Some(byte) = pop(bytes) else { return NONE };
        if byte == b'=' && length > 0 {
            let (value, more) = attribute_value(bytes);
            return Attribute { name: &start[..length], value, more };
        }
        if space(byte) {
            *bytes = trim(bytes);
            if bytes.first() != Some(&b'=') {
                return Attribute { name: &start[..length], value: b"", more: true };
            }
            *bytes = &bytes[1..];
            let (value, more) = attribute_value(bytes);
            return Attribute { name: &start[..length], value, more };
        }
        if byte == b'/' || byte == b'>' {
            return Attribute { name: &start[..length], value: b"", more: false };
        }
        length += 1;
    }
}

fn attribute_value<'a>(bytes: &mut &'a [u8]) -> (&'a [u8], bool) {
    *bytes = trim(bytes);
    let start = *bytes;
    match pop(bytes) {
        None | Some(b'>') => (b"", false),
        Some(quote @ (b'"' | b'\'')) => {
            let Some(end) = bytes.iter().position(|&byte| byte == quote) else {
                *bytes = b"";
                return (b"", false);
            };
            let value = &bytes[..end];
            *bytes = &bytes[end + 1..];
            (value, bytes.first().is_some_and(|&byte| byte != b'>' && byte != 0))
        }
        Some(_) => {
            let mut length = 1;
            loop {
                match pop(bytes) {
                    None => return (b"", false),
                    Some(byte) if space(byte) => return (&start[..length], true),
                    Some(b'>') => return (&start[..length], false),
                    Some(_) => length += 1,
                }
            }
        }
    }
}

/// The next byte; a NUL counts as the end.
fn pop(bytes: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = bytes.split_first()?;
    *bytes = rest;
    (first != 0).then_some(first)
}

fn owned(bytes: &[u8]) -> Cow<'static, str> {
    String::from_utf8_lossy(bytes).into_owned().into()
}

fn xml_charset(bytes: &[u8]) -> Cow<'static, str> {
    let mut rest = bytes;
    while let Some(at) = find(rest, b"<?xml") {
        rest = &rest[at + 5..];
        loop {
            let Attribute { name, value, more } = attribute(&mut rest);
            if name.starts_with(b"encoding") && !value.is_empty() {
                return owned(value);
            }
            if !more {
                break;
            }
        }
    }
    plain_charset(bytes)
}

fn html_charset(bytes: &[u8]) -> Cow<'static, str> {
    if let Some(mark) = bom(bytes) {
        return mark.into();
    }
    match declared_charset(bytes) {
        Some(charset) if !charset.is_empty() => owned(charset),
        _ => plain_charset(bytes),
    }
}

/// The character set that a `meta` before the body names.
fn declared_charset(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    loop {
        if let Some(after) = skip_comment(rest) {
            rest = after;
            continue;
        }
        if rest.len() <= b"<META".len() || same(rest, b"<BODY") {
            return None;
        }
        if !same(rest, b"<META") {
            rest = &rest[1..];
            continue;
        }
        rest = &rest[b"<META".len()..];
        if !pop(&mut rest).is_some_and(|byte| space(byte) || byte == b'/') {
            return None;
        }
        let mut seen: Vec<Vec<u8>> = Vec::new();
        let (mut pragma, mut needs_pragma) = (false, None);
        let mut charset: &[u8] = b"";
        loop {
            let Attribute { name, value, more } = attribute(&mut rest);
            let name = name.to_ascii_lowercase();
            if !seen.contains(&name) {
                match name.as_slice() {
                    b"http-equiv" => pragma |= same(value, b"CONTENT-TYPE"),
                    b"content" => {
                        charset = content_charset(value);
                        if !charset.is_empty() {
                            needs_pragma = Some(true);
                        }
                    }
                    b"charset" => {
                        charset = value;
                        needs_pragma = Some(false);
                    }
                    _ => {}
                }
                seen.push(name);
            }
            if !more {
                break;
            }
        }
        if needs_pragma == Some(false) || (needs_pragma == Some(true) && pragma) {
            return Some(charset);
        }
    }
}

/// The character set in `text/html; charset=…`.
fn content_charset(mut value: &[u8]) -> &[u8] {
    while let Some(at) = find(value, b"charset") {
        value = trim(&value[at + 7..]);
        let Some(rest) = value.strip_prefix(b"=") else {
            value = value.get(1..).unwrap_or_default();
            continue;
        };
        let rest = trim(rest);
        return match rest.first() {
            Some(quote @ (b'"' | b'\'')) => {
                rest[1..].split(|byte| byte == quote).next().unwrap_or_default().trim_ascii()
            }
            _ => rest.split(|&byte| byte == b';' || space(byte)).next().unwrap_or_default(),
        };
    }
    b""
}
