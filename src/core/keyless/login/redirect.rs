//! Where a browser comes back to, and what it brings: RFC 8252 §7.3.

use std::net::{IpAddr, Ipv4Addr};

use super::LoginError;
use crate::jwt::shown;

/// Where the browser is sent back to when nothing else is said.
const CALLBACK: &str = "/auth/callback";
/// Longest first line of what a browser asks, in bytes.
pub const MAX_LINE: usize = 8 * 1024;
/// Longest head of it.
pub const MAX_HEAD: usize = 64 * 1024;

/// Where a browser is sent back to: this machine, and nowhere else (RFC 8252 §7.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    host: String,
    /// The port; 0 for one that the system chooses.
    pub port: u16,
    /// The path.
    pub path: String,
}

impl Default for Redirect {
    fn default() -> Self {
        Self { host: Ipv4Addr::LOCALHOST.to_string(), port: 0, path: CALLBACK.to_owned() }
    }
}

impl Redirect {
    /// Reads `http://HOST[:PORT][/PATH]`, whose host is this machine.
    pub fn parse(text: &str) -> Result<Self, LoginError> {
        let bad = |reason| LoginError::Redirect { address: shown(text), reason };
        let rest = text.strip_prefix("http://").ok_or_else(|| bad("does not begin with http://"))?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| bad("has no port that is a number"))?)
            }
            _ => (authority, 80),
        };
        let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        if !path.bytes().all(is_path) {
            return Err(bad("has more than a path of letters, digits and -._~/"));
        }
        let path = if path.is_empty() { "/" } else { path };
        let redirect = Self { host: host.to_ascii_lowercase(), port, path: path.to_owned() };
        if redirect.parsed().is_none() {
            return Err(bad("is not on this machine (127.0.0.1, [::1] or localhost)"));
        }
        Ok(redirect)
    }

    fn parsed(&self) -> Option<IpAddr> {
        if self.host == "localhost" {
            return Some(Ipv4Addr::LOCALHOST.into());
        }
        let inner = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let address: IpAddr = match inner {
            Some(inner) => IpAddr::V6(inner.parse().ok()?),
            None => IpAddr::V4(self.host.parse().ok()?),
        };
        Some(address).filter(IpAddr::is_loopback)
    }

    /// The address to listen at.
    pub fn address(&self) -> IpAddr {
        self.parsed().unwrap_or(Ipv4Addr::LOCALHOST.into())
    }

    /// As it stands in questions, with the port that is listened at.
    pub fn url(&self, port: u16) -> String {
        format!("http://{}:{port}{}", self.host, self.path)
    }
}

/// What a browser asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// What we wait for: the query.
    Callback(&'a str),
    /// Something else.
    Stray,
    /// Nothing that is HTTP.
    Nonsense,
}

/// Reads the first line of a question, without its end.
pub fn asked<'a>(line: &'a str, path: &str) -> Asked<'a> {
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Asked::Nonsense;
    };
    if !version.starts_with("HTTP/1.") {
        return Asked::Nonsense;
    }
    match target.split_once('?') {
        Some((found, query)) if method == "GET" && found == path && !query.is_empty() => Asked::Callback(query),
        _ => Asked::Stray,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_comes_back_to_this_machine_only() {
        let redirect = Redirect::default();
        assert_eq!(
            (redirect.url(4711), redirect.address()),
            ("http://127.0.0.1:4711/auth/callback".into(), Ipv4Addr::LOCALHOST.into())
        );
        for (text, url) in [
            ("http://localhost:0/auth/callback", "http://localhost:1/auth/callback"),
            ("http://LOCALHOST", "http://localhost:1/"),
            ("http://[::1]:8080/a", "http://[::1]:1/a"),
            ("http://127.0.0.2:1/a", "http://127.0.0.2:1/a"),
        ] {
            let redirect = Redirect::parse(text).expect(text);
            assert_eq!(redirect.url(1), url);
            assert!(redirect.address().is_loopback());
        }
        for bad in [
            "https://localhost:0/a",
            "http://example.org:0/a",
            "http://127.0.0.1.example.org/a",
            "http://user@127.0.0.1/a",
            "http://127.0.0.1:99999/a",
            "http://127.0.0.1:/a",
            "http://127.0.0.1/a?b",
            "http://127.0.0.1/a#b",
            "http://0.0.0.0/a",
            "http://[::]/a",
            "http://",
            "",
        ] {
            assert!(matches!(Redirect::parse(bad), Err(LoginError::Redirect { .. })), "{bad}");
        }
    }

    #[test]
    fn first_lines_of_browsers() {
        let asked = |line: &str| match asked(line, "/auth/callback") {
            Asked::Callback(query) => query.to_owned(),
            other => format!("{other:?}"),
        };
        for (line, what) in [
            ("GET /auth/callback?a=b HTTP/1.1", "a=b"),
            ("GET /auth/callback?a=b?c HTTP/1.0", "a=b?c"),
            ("GET /auth/callback HTTP/1.1", "Stray"),
            ("GET /auth/callback? HTTP/1.1", "Stray"),
            ("GET /auth/callbacks?a=b HTTP/1.1", "Stray"),
            ("GET /favicon.ico HTTP/1.1", "Stray"),
            ("POST /auth/callback?a=b HTTP/1.1", "Stray"),
            ("GET /auth/callback?a=b", "Nonsense"),
            ("GET /auth/callback?a=b SSH-2.0", "Nonsense"),
            ("", "Nonsense"),
        ] {
            assert_eq!(asked(line), what, "{line}");
        }
    }
}
