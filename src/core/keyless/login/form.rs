//! Forms and queries (`application/x-www-form-urlencoded`): RFC 6749 §3.1, appendix B.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Client, Form, LoginError, Provider, malformed};

/// Most parameters of an answer in the browser.
pub(super) const MAX_PARAMETERS: usize = 32;

/// `name=value&…` (`application/x-www-form-urlencoded`).
pub(super) fn form(members: &[(&str, &str)]) -> Zeroizing<String> {
    let length = members.iter().map(|(name, value)| name.len() + 3 * value.len() + 2).sum();
    // Grown, it would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(length));
    for (name, value) in members {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        escape(&mut text, value);
    }
    text
}

fn escape(text: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// A form, with the client's secret where it has one (RFC 6749 §2.3.1).
pub(super) fn with_secret(members: &[(&str, &str)], provider: &Provider, client: &Client) -> Form {
    let Some(secret) = client.secret.as_ref() else { return Form { body: form(members), authorization: None } };
    if provider.secret_in_body {
        let members: Vec<_> = members.iter().copied().chain([("client_secret", secret.as_str())]).collect();
        return Form { body: form(&members), authorization: None };
    }
    let mut pair = Zeroizing::new(String::with_capacity(3 * (client.id.len() + secret.len()) + 1));
    escape(&mut pair, &client.id);
    pair.push(':');
    escape(&mut pair, secret);
    let authorization = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    Form { body: form(members), authorization: Some(authorization) }
}

/// The members of a query, each at most once (RFC 6749 §3.1).
pub(super) fn parameters(query: &str) -> Result<Vec<(String, Zeroizing<String>)>, LoginError> {
    const UNREADABLE: &str = "what the browser brought cannot be read";
    let mut members: Vec<(String, Zeroizing<String>)> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let decoded = |text: &str| unescape(text).ok_or(malformed(UNREADABLE));
        let (name, value) = (decoded(name)?, Zeroizing::new(decoded(value)?));
        if members.len() == MAX_PARAMETERS || members.iter().any(|(own, _)| *own == name) {
            return Err(malformed("what the browser brought has a member twice, or too many"));
        }
        members.push((name, value));
    }
    Ok(members)
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}
