//! Text: scripts by their first line, tables by their commas, and the character set.

use std::borrow::Cow;

use super::{HEAD, find, json, markup};

const BOMS: [(&[u8], &str); 5] = [
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\0\0\xfe\xff", "utf-32be"),
    (b"\xff\xfe\0\0", "utf-32le"),
    (b"\xfe\xff", "utf-16be"),
    (b"\xff\xfe", "utf-16le"),
];

/// Programs that run scripts: the paths before `bin/`, the program, and whether its name ends there. `env` means
/// `/usr/bin/env` with or without `-S`.
struct Program {
    mime: &'static str,
    paths: &'static [&'static str],
    whole: bool,
}

const fn program(mime: &'static str, whole: bool, paths: &'static [&'static str]) -> Program {
    Program { mime, paths, whole }
}

const PHP: Program = program("text/x-php", false, &["/usr/local/bin/php", "/usr/bin/php", "env php"]);

const PROGRAMS: [Program; 5] = [
    program(
        "text/javascript",
        false,
        &["/bin/node", "/usr/bin/node", "/bin/nodejs", "/usr/bin/nodejs", "env node", "env nodejs"],
    ),
    program("text/x-lua", true, &["/usr/bin/lua", "/usr/local/bin/lua", "env lua"]),
    program("text/x-perl", true, &["/usr/bin/perl", "env perl"]),
    program("text/x-python", false, &["/usr/bin/python", "/usr/local/bin/python", "env python"]),
    program("text/x-ruby", false, &["/usr/bin/ruby", "/usr/local/bin/ruby", "env ruby"]),
];

const TCL: Program = program(
    "text/x-tcl",
    false,
    &["/usr/bin/tcl", "/usr/local/bin/tcl", "env tcl", "/usr/bin/wish", "/usr/local/bin/wish", "env wish"],
);

const SHELL: Program = program(
    "text/x-shellscript",
    true,
    &[
        "/bin/sh",
        "/bin/bash",
        "/usr/local/bin/bash",
        "env bash",
        "/bin/csh",
        "/usr/local/bin/csh",
        "env csh",
        "/bin/dash",
        "/usr/local/bin/dash",
        "env dash",
        "/bin/ksh",
        "/usr/local/bin/ksh",
        "env ksh",
        "/bin/tcsh",
        "/usr/local/bin/tcsh",
        "env tcsh",
        "/bin/zsh",
        "/usr/local/bin/zsh",
        "env zsh",
    ],
);

/// Beginnings of lines in the head of a mail; those in capitals in any case.
const MAIL: [&[u8]; 15] = [
    b"From: ",
    b"To: ",
    b"CC: ",
    b"Date: ",
    b"Subject: ",
    b"Received: ",
    b"Relay-Version: ",
    b"#! rnews",
    b"N#! rnews",
    b"Forward to",
    b"Pipe to",
    b"DELIVERED-TO: ",
    b"RETURN-PATH: ",
    b"Content-Type: ",
    b"Content-Transfer-Encoding: ",
];

pub(super) fn space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0C | b'\r' | b' ')
}

pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().position(|&byte| !space(byte)).unwrap_or(bytes.len())..]
}

/// The lines without `\n` or `\r\n`; nothing follows a final newline.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|&byte| byte == b'\n').map(|line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    })
}

pub(super) fn bom(head: &[u8]) -> Option<&'static str> {
    BOMS.iter().find(|(mark, _)| head.starts_with(mark)).map(|(_, name)| *name)
}

/// Whether there is a byte order mark or no byte that text does not have.
pub(super) fn is_text(head: &[u8]) -> bool {
    let binary = |byte: &u8| matches!(byte, 0..=0x08 | 0x0B | 0x0E..=0x1A | 0x1C..=0x1F);
    bom(head).is_some() || !head.iter().any(binary)
}

/// The type of text.
pub(super) fn detect(head: &[u8]) -> Cow<'static, str> {
    // What witness adds comes first.
    if head.starts_with(b"sha256:") {
        return "text/sha256+text".into();
    }
    if let Some(markup) = markup::detect(head) {
        return markup;
    }
    other(head).map_or_else(|| with_charset("text/plain", &plain_charset(limited(head))), Cow::Borrowed)
}

/// Text that is neither markup nor plain; asked in the order of the Go library.
fn other(head: &[u8]) -> Option<&'static str> {
    let first = lines(head).next().unwrap_or_default();
    let script = first.strip_prefix(b"#!").map(trim);
    let by_program = |program: &Program| script.is_some_and(|line| program.runs(line)).then_some(program.mime);
    if [&b"<?PHP"[..], b"<?\n", b"<?\r", b"<? "].iter().any(|tag| head.len() > tag.len() && same(head, tag)) {
        return Some(PHP.mime);
    }
    let known = by_program(&PHP).or_else(|| PROGRAMS.iter().find_map(by_program));
    known
        .or_else(|| json_type(head))
        .or_else(|| json::lines(head).then_some("application/x-ndjson"))
        .or_else(|| head.starts_with(b"{\\rtf").then_some("text/rtf"))
        .or_else(|| subtitles(head).then_some("application/x-subrip"))
        .or_else(|| by_program(&TCL))
        .or_else(|| table(head, b',').then_some("text/csv"))
        .or_else(|| table(head, b'\t').then_some("text/tab-separated-values"))
        .or_else(|| card(head))
        .or_else(|| head.starts_with(b"WARC/1.").then_some("application/warc"))
        .or_else(|| web_subtitles(head).then_some("text/vtt"))
        .or_else(|| by_program(&SHELL))
        .or_else(|| portable_map(head))
        .or_else(|| mail(head).then_some("message/rfc822"))
}

/// JSON, and the kinds of it that witness adds.
fn json_type(head: &[u8]) -> Option<&'static str> {
    const MARKERS: usize = 500;
    let found = json::document(head)?;
    let start = &head[..head.len().min(MARKERS)];
    let has = |tight: &[u8], loose: &[u8]| find(start, tight).is_some() || find(start, loose).is_some();
    Some(if head.starts_with(b"{\"@context\":\"https://openvex.dev/ns") {
        "application/vex+json"
    } else if has(b"\"bomFormat\":\"CycloneDX\"", b"\"bomFormat\": \"CycloneDX\"") {
        "application/vnd.cyclonedx+json"
    } else if has(b"\"spdxVersion\":\"SPDX-", b"\"spdxVersion\": \"SPDX-") {
        "application/spdx+json"
    } else {
        found
    })
}

impl Program {
    /// Whether the line behind `#!` runs it.
    fn runs(&self, line: &[u8]) -> bool {
        self.paths.iter().any(|path| match path.strip_prefix("env ") {
            None => self.ends(line.strip_prefix(path.as_bytes())),
            Some(name) => line.strip_prefix(b"/usr/bin/env").is_some_and(|rest| {
                let exact = rest.strip_prefix(b" ").map(|rest| if self.whole { rest } else { trim(rest) });
                let Some(rest) = exact.or_else(|| (!self.whole).then(|| between(rest)).flatten()) else { return false };
                let split = rest.strip_prefix(b"-S ").map(|rest| if self.whole { rest } else { trim(rest) });
                self.ends(rest.strip_prefix(name.as_bytes()))
                    || self.ends(split.and_then(|rest| rest.strip_prefix(name.as_bytes())))
            }),
        })
    }

    fn ends(&self, rest: Option<&[u8]>) -> bool {
        rest.is_some_and(|rest| !self.whole || rest.first().is_none_or(|&byte| space(byte)))
    }
}

/// What stands behind at least one space.
fn between(rest: &[u8]) -> Option<&[u8]> {
    rest.first().filter(|&&byte| space(byte)).map(|_| trim(rest))
}

/// Whether `bytes` begin with `pattern`, whose capitals stand for small letters too.
pub(super) fn same(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.len() >= pattern.len()
        && bytes
            .iter()
            .zip(pattern)
            .all(|(byte, want)| byte == want || (want.is_ascii_uppercase() && byte.to_ascii_uppercase() == *want))
}

/// Comma or tab separated values: two or more fields, as many in each line, quotes as in RFC 4180.
fn table(head: &[u8], comma: u8) -> bool {
    const ENOUGH: usize = 10;
    let mut rest = head;
    if head.len() >= HEAD
        && let Some(end) = head.iter().rposition(|&byte| byte == b'\n').filter(|&end| end > 0)
    {
        rest = &head[..end];
    }
    let columns = fields(&mut rest, comma);
    if columns < 2 {
        return false;
    }
    let mut rows = 1;
    loop {
        match fields(&mut rest, comma) {
            0 => return rows >= 2,
            count if count != columns => return false,
            _ => rows += 1,
        }
        if rows >= ENOUGH {
            return true;
        }
    }
}

/// One line with its newline; of `\r\n` neither is left, and that is said.
fn row<'a>(rest: &mut &'a [u8]) -> (&'a [u8], bool) {
    let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
    let (line, after) = rest.split_at(end);
    *rest = after;
    if let Some(line) = line.strip_suffix(b"\r") {
        (line, false)
    } else if let Some(line) = line.strip_suffix(b"\r\n") {
        (line, true)
    } else {
        (line, false)
    }
}

/// The number of fields of the next row that is neither empty nor a comment, 0 at the end.
fn fields(rest: &mut &[u8], comma: u8) -> usize {
    let (mut line, mut cut) = loop {
        if rest.is_empty() {
            return 0;
        }
        let (line, cut) = row(rest);
        if !line.is_empty() && line != b"\n" && line[0] != b'#' {
            break (line, cut);
        }
    };
    let mut count = 0;
    'field: loop {
        count += 1;
        let Some(quoted) = line.strip_prefix(b"\"") else {
            match line.iter().position(|&byte| byte == comma) {
                Some(at) => line = &line[at + 1..],
                None => return count,
            }
            continue;
        };
        line = quoted;
        loop {
            if let Some(at) = line.iter().position(|&byte| byte == b'"') {
                line = &line[at + 1..];
                match line.first() {
                    Some(b'"') => line = &line[1..],
                    Some(&byte) if byte == comma => {
                        line = &line[1..];
                        continue 'field;
                    }
                    None => return count,
                    Some(b'\n') if line.len() == 1 => return count,
                    Some(_) => {}
                }
            } else if !line.is_empty() || cut {
                (line, cut) = row(rest);
            } else {
                return count;
            }
        }
    }
}

fn card(head: &[u8]) -> Option<&'static str> {
    let begins = |line: &[u8]| {
        same(head, line) && head.len() > line.len() + 1 && {
            let rest = &head[line.len()..];
            rest.starts_with(b"\n") || (rest.starts_with(b"\r\n") && rest.len() > 2)
        }
    };
    if begins(b"BEGIN:VCARD") {
        Some("text/vcard")
    } else if begins(b"BEGIN:VCALENDAR") {
        Some("text/calendar")
    } else {
        None
    }
}

/// Subtitles: `1`, then `hh:mm:ss,mmm --> hh:mm:ss,mmm`, then text.
fn subtitles(head: &[u8]) -> bool {
    let mut lines = lines(head);
    if lines.next() != Some(b"1") {
        return false;
    }
    let times = lines.next().and_then(|line| {
        let arrow = find(line, b" --> ")?;
        (line.len() == 29).then(|| (clock(&line[..arrow]), clock(&line[arrow + 5..])))
    });
    let ordered = matches!(times, Some((Some(from), Some(to))) if from <= to);
    ordered && lines.next().is_some_and(|line| !line.is_empty())
}

/// `hh:mm:ss,mmm` in milliseconds.
fn clock(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    let (time, millis) = text.split_once(',')?;
    let mut parts = time.split(':').map(|part| (part.len() <= 2).then(|| part.parse::<u32>().ok()).flatten());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let millis = (millis.len() == 3).then(|| millis.parse::<u32>().ok()).flatten()?;
    (parts.next().is_none() && hours < 24 && minutes < 60 && seconds < 60)
        .then(|| ((hours * 60 + minutes) * 60 + seconds) * 1000 + millis)
}

fn web_subtitles(head: &[u8]) -> bool {
    let rest = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).strip_prefix(b"WEBVTT");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'\n' | b'\r' | b' ' | b'\t')))
}

fn portable_map(head: &[u8]) -> Option<&'static str> {
    const LINES: usize = 128;
    let (start, rest) = head.split_at_checked(3)?;
    let mime = match start {
        b"P1\n" | b"P4\n" => "image/x-portable-bitmap",
        b"P2\n" | b"P5\n" => "image/x-portable-graymap",
        b"P3\n" | b"P6\n" => "image/x-portable-pixmap",
        b"P7\n" => {
            let mut left = vec!["WIDTH ", "HEIGHT ", "DEPTH ", "MAXVAL "];
            for line in lines(rest).take(LINES) {
                if line.starts_with(b"ENDHDR") {
                    return left.is_empty().then_some("image/x-portable-arbitrarymap");
                }
                left.retain(|field| !line.starts_with(field.as_bytes()));
            }
            return None;
        }
        _ => return None,
    };
    let line = lines(rest).take(LINES).map(trim).find(|line| !line.is_empty() && !line.starts_with(b"#"))?;
    let mut sizes = line.split(|&byte| space(byte)).filter(|part| !part.is_empty());
    let mut size = || std::str::from_utf8(sizes.next()?).ok()?.parse::<i64>().ok().filter(|&size| size > 0);
    size().and_then(|_| size()).map(|_| mime)
}

/// A mail: its first line and one of the next twenty are such as a mail has.
fn mail(head: &[u8]) -> bool {
    let hint = |line: &[u8]| {
        MAIL.iter().any(|hint| {
            // Of these the capitals are meant as they stand, except in names that are all capitals.
            if hint.iter().any(u8::is_ascii_lowercase) || hint.starts_with(b"#") || hint.starts_with(b"N#") {
                line.starts_with(hint)
            } else {
                same(line, hint)
            }
        })
    };
    let mut lines = lines(head);
    lines.next().is_some_and(hint) && lines.take(20).any(hint)
}

/// The part in which the character set is looked for.
pub(super) fn limited(head: &[u8]) -> &[u8] {
    &head[..head.len().min(1024)]
}

pub(super) fn with_charset(mime: &'static str, charset: &str) -> Cow<'static, str> {
    match (mime, charset) {
        (_, "") => mime.into(),
        ("text/plain", "utf-8") => "text/plain; charset=utf-8".into(),
        (_, charset) => format!("{mime}; charset={charset}").into(),
    }
}

pub(super) fn plain_charset(bytes: &[u8]) -> Cow<'static, str> {
    if bytes.is_empty() {
        return "".into();
    }
    if let Some(mark) = bom(bytes) {
        return mark.into();
    }
    // A character may be cut off at the end.
    let ascii_end = bytes.iter().rposition(u8::is_ascii).map_or(0, |at| at + 1);
    let mut whole = bytes;
    for at in (bytes.len().saturating_sub(3).max(ascii_end)..bytes.len()).rev() {
        if bytes[at] & 0xC0 != 0x80 {
            whole = &bytes[..at];
            break;
        }
    }
    if !whole.is_ascii() && std::str::from_utf8(whole).is_ok() {
        return "utf-8".into();
    }
    // What libmagic calls text: 0x7F is none, 0x85 is.
    let plain = |byte: u8| matches!(byte, 0x07..=0x0D | 0x1B | 0x20..=0x7E | 0x85);
    if bytes.iter().all(|&byte| plain(byte)) {
        return "utf-8".into();
    }
    if !bytes.iter().all(|&byte| plain(byte) || byte >= 0xA0) {
        return "".into();
    }
    if bytes.contains(&0x85) { "windows-1252" } else { "iso-8859-1" }.into()
}
