//! The userinfo of URLs in text (RFC 3986, section 3.2.1), found without a parser that would refuse half of them.

use std::borrow::Cow;

use super::{MASK, PLACEHOLDER};

/// Where a URL's userinfo stands in a text: `start..end` without the `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Userinfo {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// All userinfo parts in `text` that are worth hiding, in order and without overlap.
///
/// The customary user `git` is not one, nor is what has been masked before. `docker://alpine@sha256:…` names an image,
/// not an account.
pub(super) fn find(text: &[u8]) -> Vec<Userinfo> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(position) = text[at..].windows(3).position(|w| w == b"://" || w == br":\/") {
        let colon = at + position;
        let separator: &[u8] = if text[colon + 1] == b'/' { b"://" } else { br":\/\/" };
        let start = colon + separator.len();
        at = colon + 3;
        if colon == 0 || !text[colon - 1].is_ascii_alphanumeric() || !text[colon..].starts_with(separator) {
            continue; // no scheme
        }
        let authority = &text[start..start + authority_length(&text[start..])];
        if let Some(sign) = authority.iter().rposition(|&b| b == b'@') {
            let (userinfo, host) = (&authority[..sign], &authority[sign + 1..]);
            let is_digest = host.starts_with(b"sha256:") || host.starts_with(b"sha512:");
            let is_harmless = userinfo.is_empty() || userinfo == b"git" || is_mask(userinfo);
            if !is_digest && !is_harmless {
                found.push(Userinfo { start, end: start + sign });
            }
            at = start + sign + 1;
        }
    }
    found
}

fn is_mask(userinfo: &[u8]) -> bool {
    userinfo == MASK.as_bytes() || userinfo == PLACEHOLDER.as_bytes()
}

/// Length of the authority at the start of `text`. It ends at `/`, `?`, `#` or at what cannot stand in a URL; a `?` or
/// `#` after `user:pass` is taken as part of a password that someone forgot to encode.
fn authority_length(text: &[u8]) -> usize {
    let hard = |b: u8| b == b'/' || b <= b' ' || b == 0x7f || matches!(b, b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\');
    let end = text.iter().position(|&b| hard(b)).unwrap_or(text.len());
    let Some(soft) = text[..end].iter().position(|&b| b == b'?' || b == b'#') else { return end };
    match text[..soft].iter().position(|&b| b == b':') {
        Some(colon) if !text[colon + 1..soft].iter().all(u8::is_ascii_digit) => end,
        _ => soft,
    }
}

/// `text` with the userinfo of each URL in it replaced by `mask`: `https://u:p@h` becomes `https://******@h`.
pub fn mask_userinfo<'a>(text: &'a str, mask: &str) -> Cow<'a, str> {
    let found = find(text.as_bytes());
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for Userinfo { start, end } in found {
        // Both ends lie beside an ASCII byte, so they are character boundaries.
        out.push_str(&text[at..start]);
        out.push_str(mask);
        at = end;
    }
    out.push_str(&text[at..]);
    Cow::Owned(out)
}

/// The secrets in the userinfo parts of `text`: the password, or the user where it stands alone or beside a filler
/// (`token@`, `token:x-oauth-basic@`), each as written and percent-decoded.
pub(super) fn secrets(text: &str) -> Vec<Vec<u8>> {
    let mut secrets = Vec::new();
    for Userinfo { start, end } in find(text.as_bytes()) {
        let userinfo = &text.as_bytes()[start..end];
        let (user, password) = match userinfo.iter().position(|&b| b == b':') {
            Some(colon) => (&userinfo[..colon], &userinfo[colon + 1..]),
            None => (userinfo, &b""[..]),
        };
        let secret = if matches!(password, b"" | b"x" | b"x-oauth-basic") { user } else { password };
        if let Some(decoded) = super::views::percent_decoded(secret) {
            secrets.push(decoded);
        }
        secrets.push(secret.to_vec());
    }
    secrets
}

/// Where a text that was cut off ends within a URL that may have a password: the number of bytes from the start of its
/// userinfo to the end.
pub(super) fn unfinished(text: &[u8]) -> Option<usize> {
    let start = text.windows(3).rposition(|w| w == b"://")? + 3;
    let rest = &text[start..];
    let has_password = match rest.iter().position(|&b| b == b':') {
        Some(colon) => !rest[colon + 1..].iter().all(u8::is_ascii_digit),
        None => false,
    };
    (authority_length(rest) == rest.len() && has_password && !rest.contains(&b'@')).then_some(rest.len())
}

/// Where a text whose front was cut off begins within something that ends with `@`: the position of the `@`.
pub(super) fn unbegun(text: &[u8]) -> Option<usize> {
    let sign = text[..authority_length(text)].iter().rposition(|&b| b == b'@')?;
    (sign > 0).then_some(sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userinfo_is_found_and_nothing_else() {
        for (text, expected) in [
            ("https://u:p@h/x", "https://M@h/x"),
            ("a https://token@h:1 b ssh://git@h/x ftp://x:y@z", "a https://M@h:1 b ssh://git@h/x ftp://M@z"),
            ("postgres://u:p#a?b@h/db", "postgres://M@h/db"),
            ("https://h:80?mail=a@b.c", "https://h:80?mail=a@b.c"),
            ("https://h?mail=a@b.c", "https://h?mail=a@b.c"),
            ("docker://alpine@sha256:abc", "docker://alpine@sha256:abc"),
            ("git+https://h/org/repo@v1", "git+https://h/org/repo@v1"),
            ("https://u:p@w@h", "https://M@h"),
            ("\"https://u:é@h\"", "\"https://M@h\""),
            ("https://******@h https://[redacted]@h", "https://******@h https://[redacted]@h"),
            ("://u:p@h", "://u:p@h"),
            ("https://@h", "https://@h"),
            ("https://u:p", "https://u:p"),
        ] {
            assert_eq!(mask_userinfo(text, "M"), expected, "{text}");
        }
    }

    #[test]
    fn the_secret_part_is_told_from_the_user() {
        let secrets = |text| {
            secrets(text).into_iter().map(|s| String::from_utf8(s).expect("ASCII in this test")).collect::<Vec<_>>()
        };
        assert_eq!(secrets("https://u:p%2Fw@h"), ["p/w", "p%2Fw"]);
        assert_eq!(secrets("https://tok:x-oauth-basic@h https://tik@h"), ["tok", "tik"]);
    }
}
