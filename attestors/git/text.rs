//! Texts of git objects: their encodings, their times, the secrets in their URLs.

use gix::bstr::{BStr, ByteSlice as _};
use gix::date::Time;

/// Longest message or signature that is taken, in bytes.
pub(super) const MAX_MESSAGE: usize = 1 << 20;
/// Longest name, address or URL that is taken, in bytes.
pub(super) const MAX_NAME: usize = 4096;

/// The text of `bytes`, which an object's `encoding` header may say to be something else than UTF-8. What cannot be
/// decoded becomes U+FFFD.
pub(super) fn decode(bytes: &[u8], encoding: Option<&BStr>) -> String {
    if let Some(encoding) = encoding.and_then(|label| encoding_rs::Encoding::for_label(label)) {
        let (text, malformed) = encoding.decode_without_bom_handling(bytes);
        if !malformed {
            return text.into_owned();
        }
    }
    bytes.to_str_lossy().into_owned()
}

/// `text` cut to `limit` bytes, and whether it was longer.
pub(super) fn cut(mut text: String, limit: usize) -> (String, bool) {
    let is_longer = text.len() > limit;
    text.truncate(text.floor_char_boundary(limit));
    (text, is_longer)
}

/// A time as Go's `time.String()` shows one whose zone has no name: `2026-11-21 10:32:15 +0000 +0000`.
pub(super) fn go_time(time: Time) -> Option<String> {
    let offset = offset(time, "");
    Some(format!("{} {offset} {offset}", local(time)?.strftime("%Y-%m-%d %H:%M:%S")))
}

/// A time in RFC 3339.
pub(super) fn rfc3339(time: Time) -> Option<String> {
    let offset = if time.offset == 0 { "Z".to_owned() } else { offset(time, ":") };
    Some(format!("{}{offset}", local(time)?.strftime("%Y-%m-%dT%H:%M:%S")))
}

fn local(time: Time) -> Option<jiff::civil::DateTime> {
    let seconds = time.seconds.checked_add(i64::from(time.offset))?;
    Some(jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_second(seconds).ok()?))
}

fn offset(time: Time, separator: &str) -> String {
    let minutes = time.offset.unsigned_abs() / 60;
    let sign = if time.offset < 0 { '-' } else { '+' };
    format!("{sign}{:02}{separator}{:02}", minutes / 60, minutes % 60)
}

/// A remote's URL without userinfo. The user of the form `user@host:path` stays, its password does not.
pub(super) fn without_userinfo(url: &str) -> String {
    if let Some((scheme, rest)) = url.split_once("://") {
        let end = rest.find('/').unwrap_or(rest.len());
        return match rest[..end].rfind('@') {
            Some(sign) => format!("{scheme}://{}", &rest[sign + 1..]),
            None => url.to_owned(),
        };
    }
    // `user:password@host:path`; a path with `@` in it has a `/` before it, and no userinfo.
    match url.split('/').next().and_then(|front| front.rfind('@')) {
        Some(sign) => match url[..sign].split_once(':') {
            Some((user, _)) => format!("{user}{}", &url[sign..]),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        let time = |seconds, offset| Time { seconds, offset };
        assert_eq!(go_time(time(1_795_257_135, 0)).as_deref(), Some("2026-11-21 10:32:15 +0000 +0000"));
        assert_eq!(go_time(time(1_795_257_135, 19_800)).as_deref(), Some("2026-11-21 16:02:15 +0530 +0530"));
        assert_eq!(go_time(time(0, -12_600)).as_deref(), Some("1969-12-31 20:30:00 -0330 -0330"));
        assert_eq!(rfc3339(time(1_795_257_135, 0)).as_deref(), Some("2026-11-21T10:32:15Z"));
        assert_eq!(rfc3339(time(1_795_257_135, 3600)).as_deref(), Some("2026-11-21T11:32:15+01:00"));
        assert_eq!(go_time(time(i64::MAX, 3600)), None);
        assert_eq!(go_time(time(i64::MAX / 2, 0)), None);
    }

    #[test]
    fn userinfo_is_taken_from_urls() {
        for (url, expected) in [
            ("https://u:p@h/x", "https://h/x"),
            ("https://token@h:8443/x@y", "https://h:8443/x@y"),
            ("https://u:p@ss@h/x", "https://h/x"),
            ("ssh://git@h/x", "ssh://h/x"),
            ("git@h:org/x.git", "git@h:org/x.git"),
            ("u:p@h:org/x.git", "u@h:org/x.git"),
            ("/srv/git/a@b.git", "/srv/git/a@b.git"),
            ("../a:b@c", "../a:b@c"),
            ("C:\\x", "C:\\x"),
        ] {
            assert_eq!(without_userinfo(url), expected, "{url}");
        }
    }

    #[test]
    fn texts_are_decoded_and_cut() {
        assert_eq!(decode(b"gr\xfc\xdf", Some("ISO-8859-1".into())), "grüß");
        assert_eq!(decode("grüß".as_bytes(), Some("ISO-2022-JP".into())), "grüß");
        assert_eq!(decode(b"gr\xfc", None), "gr\u{fffd}");
        assert_eq!(decode(b"gr\xfc", Some("no-such".into())), "gr\u{fffd}");
        assert_eq!(cut("grü".to_owned(), 3), ("gr".to_owned(), true));
        assert_eq!(cut("grü".to_owned(), 4), ("grü".to_owned(), false));
    }
}
