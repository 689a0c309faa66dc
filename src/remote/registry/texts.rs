//! Addresses and texts in a registry's answers.

use ureq::http::Uri;

/// Characters of a registry's own words that are shown.
const MAX_WORDS: usize = 300;

/// Most errors of one answer that are shown.
const MAX_ERRORS: usize = 8;

/// What a registry says of an error: the codes, and all of it in one line. What it says twice is said once.
pub(super) fn said(body: &[u8]) -> (Vec<String>, Option<String>) {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Error>,
    }
    #[derive(serde::Deserialize)]
    struct Error {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Errors { mut errors }) = serde_json::from_slice(body) else { return (Vec::new(), None) };
    errors.truncate(MAX_ERRORS);
    let mut texts: Vec<String> = Vec::new();
    for Error { code, message } in &errors {
        let text = if message.is_empty() { code.clone() } else { format!("{message} ({code})") };
        if !text.is_empty() && !texts.contains(&text) {
            texts.push(text);
        }
    }
    let line: String = texts.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect();
    (errors.into_iter().map(|error| error.code).collect(), (!line.is_empty()).then_some(line))
}

/// `<URL>; rel="next"` (RFC 8288).
pub(super) fn next_page(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').any(|one| matches!(one.trim(), "rel=\"next\"" | "rel=next"));
    is_next.then_some(target)
}

/// An address as it stands in another one's answer: whole, or a path.
pub(super) fn join(base: &str, to: &str) -> Option<String> {
    if to.contains("://") {
        return to.parse::<Uri>().ok().map(|_| to.to_owned());
    }
    let uri: Uri = base.parse().ok()?;
    let root = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
    let joined = if to.starts_with('/') {
        format!("{root}{to}")
    } else if to.starts_with('?') {
        format!("{root}{}{to}", uri.path())
    } else {
        let folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{root}{folder}/{to}")
    };
    joined.parse::<Uri>().ok().map(|_| joined)
}

/// Whether what is for one is for the other: the same scheme, host and port.
pub(super) fn same_host(one: &str, other: &str) -> bool {
    let parts = |url: &str| {
        let uri: Uri = url.parse().ok()?;
        Some((uri.scheme_str()?.to_owned(), uri.authority()?.as_str().to_ascii_lowercase()))
    };
    parts(one).is_some_and(|one| parts(other) == Some(one))
}

/// A text as a part of a query (RFC 3986 §2.3).
pub(super) fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}
