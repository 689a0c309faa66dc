//! Logging in for an identity token: by a browser on this machine, or by a code that is typed in elsewhere.
//!
//! What is asked and what is answered are texts here; the `remote` crate listens and asks. The signature of a token is not
//! checked: it comes from the issuer itself over TLS (`OpenID` Connect Core 1.0 §3.1.3.7, 6), and the certificate authority
//! proves it. What an answer must be is that to our own question: its `state`, its issuer, the token's `nonce`.
//!
//! Source: RFC 6749 (OAuth 2.0), RFC 7636 (PKCE), RFC 8252 (native apps), RFC 8628 (devices), RFC 9207 (`iss`), `OpenID`
//! Connect Core and Discovery 1.0.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::digest::sha256;
use crate::jwt::{Token, shown};
use crate::sign::fill_random;

/// What is asked for: who somebody is, with the address.
const SCOPE: &str = "openid email";
/// Where the browser is sent back to when nothing else is said.
const CALLBACK: &str = "/auth/callback";
/// Longest first line of what a browser asks, in bytes.
pub const MAX_LINE: usize = 8 * 1024;
/// Longest head of it.
pub const MAX_HEAD: usize = 64 * 1024;
/// Longest answer of an issuer, in bytes.
pub const MAX_ANSWER: usize = 256 * 1024;
/// Most parameters of an answer in the browser.
const MAX_PARAMETERS: usize = 32;
/// Longest words of an issuer that are shown, in characters.
const MAX_WORDS: usize = 300;
/// Longest code that a person types, and longest address, in characters.
const MAX_USER_CODE: usize = 64;
const MAX_ADDRESS: usize = 2048;
/// The pause between questions of a device where nothing is said, and by how much it grows (RFC 8628 §3.2, §3.5), in seconds.
const INTERVAL: u64 = 5;
/// Longest pause that is taken from an issuer, in seconds.
const MAX_INTERVAL: u64 = 60;
/// What a device's question for its token is called (RFC 8628 §3.4).
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Why nobody is logged in. No text holds a code, a token or a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// An address that the browser cannot be sent back to.
    #[error("the address `{address}` for the browser's answer {reason}")]
    Redirect {
        /// As it was given.
        address: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// No random numbers.
    #[error("the kernel gives no random numbers")]
    Random,
    /// The issuer's own description is no good.
    #[error("its discovery document {reason}")]
    Discovery {
        /// What is wrong.
        reason: String,
    },
    /// An answer to another login.
    #[error("what the browser brought is no answer to this login (`state`): somebody else may have sent it")]
    State,
    /// An answer of another issuer.
    #[error("what the browser brought is by the issuer `{found}` (`iss`)")]
    OtherIssuer {
        /// Whose it is.
        found: String,
    },
    /// The issuer says no.
    #[error("it refuses: {error}{words}")]
    Refused {
        /// Its word for it.
        error: String,
        /// What else it says, behind a colon.
        words: String,
    },
    /// Something that is no answer.
    #[error("{what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// A token of another login.
    #[error("the token is of another login (`nonce`)")]
    Nonce,
}

fn malformed(what: &'static str) -> LoginError {
    LoginError::Malformed { what }
}

/// Who asks.
#[derive(Clone)]
pub struct Client {
    /// Its name; the token's audience.
    pub id: String,
    /// Its secret, where it has one.
    pub secret: Option<Zeroizing<String>>,
}

/// What an issuer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its name, as tokens have it.
    pub issuer: String,
    /// Where a browser goes.
    authorization: String,
    /// Where tokens are given.
    pub token: String,
    /// Where devices ask.
    pub device: Option<String>,
    /// It names itself in what the browser brings (RFC 9207).
    says_issuer: bool,
    /// A client shows its secret in the body, and not in a header.
    secret_in_body: bool,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Provider {
    /// Where an issuer describes itself.
    pub fn url(issuer: &str) -> String {
        format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
    }

    /// Reads what is found there. `permits` says whether an address may be asked.
    pub fn parse(body: &[u8], issuer: &str, permits: &dyn Fn(&str) -> Result<(), String>) -> Result<Self, LoginError> {
        let bad = |reason: String| LoginError::Discovery { reason };
        let read: Discovery = serde_json::from_slice(body).map_err(|error| bad(format!("is none: {error}")))?;
        // A signing configuration is read without the last `/`.
        if read.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') {
            return Err(bad(format!("is that of the issuer `{}`", shown(&read.issuer))));
        }
        let permitted = |name: &str, url: Option<String>| match url {
            Some(url) if url.len() > MAX_ADDRESS || url.contains('#') => Err(bad(format!("has no usable `{name}`"))),
            Some(url) => match permits(&url) {
                Ok(()) => Ok(Some(url)),
                Err(reason) => Err(bad(format!("has a `{name}` that may not be asked: {reason}"))),
            },
            None => Ok(None),
        };
        let needed = |name: &str, url: Option<String>| {
            permitted(name, url)?.ok_or_else(|| bad(format!("has no `{name}`, so nobody can log in there")))
        };
        if read.code_challenge_methods_supported.is_some_and(|all| all.iter().all(|one| one != "S256")) {
            return Err(bad("says that it does not know PKCE with `S256`".to_owned()));
        }
        let methods = read.token_endpoint_auth_methods_supported.unwrap_or_default();
        let has = |name: &str| methods.iter().any(|one| one == name);
        Ok(Self {
            authorization: needed("authorization_endpoint", read.authorization_endpoint)?,
            token: needed("token_endpoint", read.token_endpoint)?,
            device: permitted("device_authorization_endpoint", read.device_authorization_endpoint)?,
            issuer: read.issuer,
            says_issuer: read.authorization_response_iss_parameter_supported,
            secret_in_body: has("client_secret_post") && !has("client_secret_basic"),
        })
    }
}

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

/// One login: what only we know of it. Nothing of it is shown.
pub struct Session {
    state: Zeroizing<String>,
    nonce: Zeroizing<String>,
    verifier: Zeroizing<String>,
}

/// What is sent to an issuer.
pub struct Form {
    /// The body, as a form.
    pub body: Zeroizing<String>,
    /// The header `Authorization`.
    pub authorization: Option<Zeroizing<String>>,
}

impl Session {
    /// A new one.
    pub fn new() -> Result<Self, LoginError> {
        let one = || {
            let mut bytes = Zeroizing::new([0; 32]);
            fill_random(&mut bytes[..]).map_err(|_| LoginError::Random)?;
            Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(&bytes[..])))
        };
        Ok(Self { state: one()?, nonce: one()?, verifier: one()? })
    }

    /// What proves later that whoever has the code is who asked for it (RFC 7636 §4.2).
    fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(sha256(self.verifier.as_bytes()))
    }

    /// Where the browser goes.
    pub fn url(&self, provider: &Provider, client: &Client, redirect: &str) -> String {
        let form = form(&[
            ("response_type", "code"),
            ("client_id", &client.id),
            ("redirect_uri", redirect),
            ("scope", SCOPE),
            ("state", &self.state),
            ("nonce", &self.nonce),
            ("code_challenge", &self.challenge()),
            ("code_challenge_method", "S256"),
        ]);
        let url = &provider.authorization;
        format!("{url}{}{}", if url.contains('?') { '&' } else { '?' }, form.as_str())
    }

    /// The code in what the browser brought.
    pub fn code(&self, provider: &Provider, query: &str) -> Result<Zeroizing<String>, LoginError> {
        let members = parameters(query)?;
        let member = |name: &str| members.iter().find(|(own, _)| own == name).map(|(_, value)| value);
        let state = member("state").ok_or(LoginError::State)?;
        verify_slices_are_equal(state.as_bytes(), self.state.as_bytes()).map_err(|_| LoginError::State)?;
        match member("iss") {
            Some(found) if **found != provider.issuer => {
                return Err(LoginError::OtherIssuer { found: shown(found) });
            }
            None if provider.says_issuer => return Err(malformed("what the browser brought names no issuer (`iss`)")),
            _ => {}
        }
        if let Some(error) = member("error") {
            let words = member("error_description").map(|text| text.as_str()).unwrap_or_default();
            return Err(self.refused(error, words, &[]));
        }
        let code = member("code").filter(|code| !code.is_empty());
        Ok(code.ok_or(malformed("what the browser brought has no code"))?.clone())
    }

    /// What asks for the token of a code.
    pub fn redeem(&self, provider: &Provider, client: &Client, code: &str, redirect: &str) -> Form {
        let members = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("client_id", &client.id),
            ("code_verifier", &self.verifier),
        ];
        with_secret(&members, provider, client)
    }

    /// What asks for a code that somebody types in elsewhere.
    pub fn device(&self, provider: &Provider, client: &Client) -> Form {
        let challenge = self.challenge();
        let members = [
            ("client_id", &*client.id),
            ("scope", SCOPE),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        with_secret(&members, provider, client)
    }

    /// What asks whether it was typed in.
    pub fn poll(&self, provider: &Provider, client: &Client, device: &Device) -> Form {
        let members = [
            ("grant_type", DEVICE_GRANT),
            ("device_code", &device.code),
            ("client_id", &client.id),
            ("code_verifier", &self.verifier),
        ];
        with_secret(&members, provider, client)
    }

    /// The token in what an issuer answers; `told` is what it was told in the question, and may say back.
    pub fn token(&self, status: u16, body: &[u8], told: &[&str]) -> Result<Given, LoginError> {
        // What is wrong with it is not shown: it may hold the token.
        let answer: Answer = serde_json::from_slice(body).map_err(|_| malformed("gives no token"))?;
        if let Some(error) = answer.error {
            return match &*error {
                "authorization_pending" => Ok(Given::NotYet),
                "slow_down" => Ok(Given::Slower),
                _ => Err(self.refused(&error, &answer.error_description.unwrap_or_default(), told)),
            };
        }
        let token = answer.id_token.map(Zeroizing::new).filter(|token| status == 200 && !token.is_empty());
        token.map(Given::Token).ok_or(malformed("gives no token of an identity (`id_token`)"))
    }

    /// Whether a token that a browser's login led to is of this login.
    pub fn check(&self, token: &str) -> Result<(), LoginError> {
        let read = Token::read(token).map_err(|_| malformed("gives a token that cannot be read"))?;
        let nonce = read.claims().get("nonce").and_then(serde_json::Value::as_str).unwrap_or_default();
        verify_slices_are_equal(nonce.as_bytes(), self.nonce.as_bytes()).map_err(|_| LoginError::Nonce)
    }

    /// What an issuer says with its refusal, where it says nothing back that is secret.
    fn refused(&self, error: &str, words: &str, told: &[&str]) -> LoginError {
        /// So many characters are no accident.
        const TELLING: usize = 16;
        let secrets = told.iter().copied().chain([self.verifier.as_str(), self.state.as_str(), self.nonce.as_str()]);
        let mut begins =
            secrets.filter_map(|secret| secret.get(..TELLING.min(secret.len()))).filter(|one| !one.is_empty());
        if begins.any(|begin| error.contains(begin) || words.contains(begin)) {
            let words = " (what else it says holds a secret, and is not shown)".to_owned();
            return LoginError::Refused { error: "error".to_owned(), words };
        }
        let words = plain(words, MAX_WORDS);
        let words = if words.is_empty() { words } else { format!(": {words}") };
        LoginError::Refused { error: plain(error, MAX_WORDS), words }
    }
}

/// What an issuer answers to a question for a token.
#[derive(Debug, PartialEq, Eq)]
pub enum Given {
    /// The token.
    Token(Zeroizing<String>),
    /// Nobody has typed the code yet.
    NotYet,
    /// The same, and it is to be asked less often.
    Slower,
}

#[derive(Deserialize)]
struct Answer {
    id_token: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// A code that somebody types in elsewhere.
pub struct Device {
    code: Zeroizing<String>,
    /// What is typed.
    pub user_code: String,
    /// Where.
    pub address: String,
    /// Where it is typed already.
    pub complete: Option<String>,
    /// How long it counts, in seconds.
    pub expires: u64,
    /// The pause between questions, in seconds.
    pub interval: u64,
}

#[derive(Deserialize)]
struct DeviceAnswer {
    device_code: Option<String>,
    user_code: Option<String>,
    // Some issuers are older than the specification.
    #[serde(alias = "verification_url")]
    verification_uri: Option<String>,
    #[serde(alias = "verification_url_complete")]
    verification_uri_complete: Option<String>,
    expires_in: Option<u64>,
    interval: Option<u64>,
    error: Option<String>,
    error_description: Option<String>,
}

impl Device {
    /// Reads an answer to [`Session::device`]. `permits` says whether an address may be asked.
    pub fn parse(
        session: &Session,
        body: &[u8],
        permits: &dyn Fn(&str) -> Result<(), String>,
    ) -> Result<Self, LoginError> {
        const NONE: &str = "gives no code to type";
        let answer: DeviceAnswer = serde_json::from_slice(body).map_err(|_| malformed(NONE))?;
        if let Some(error) = answer.error {
            return Err(session.refused(&error, &answer.error_description.unwrap_or_default(), &[]));
        }
        let code = answer.device_code.filter(|code| !code.is_empty()).ok_or(malformed(NONE))?;
        let fits = |text: &String, limit: usize| !text.is_empty() && text.len() <= limit && plain(text, limit) == *text;
        let user_code = answer.user_code.filter(|text| fits(text, MAX_USER_CODE)).ok_or(malformed(NONE))?;
        let is_address = |url: &String| fits(url, MAX_ADDRESS) && permits(url).is_ok();
        let address = answer.verification_uri.filter(is_address);
        Ok(Self {
            code: Zeroizing::new(code),
            user_code,
            address: address.ok_or(malformed("gives no address that a code could be typed at"))?,
            complete: answer.verification_uri_complete.filter(is_address),
            expires: answer.expires_in.ok_or(malformed("gives a code that does not say how long it counts"))?,
            interval: answer.interval.unwrap_or(INTERVAL).clamp(1, MAX_INTERVAL),
        })
    }

    /// What was told of it in a question for its token.
    pub fn told(&self) -> &str {
        &self.code
    }

    /// The pause is to be longer.
    pub fn slow_down(&mut self) {
        self.interval = (self.interval + INTERVAL).min(MAX_INTERVAL);
    }
}

/// A stranger's text without what steers a terminal.
fn plain(text: &str, limit: usize) -> String {
    let text: String = text.trim().chars().take(limit).collect();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// `name=value&…` (`application/x-www-form-urlencoded`).
fn form(members: &[(&str, &str)]) -> Zeroizing<String> {
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
fn with_secret(members: &[(&str, &str)], provider: &Provider, client: &Client) -> Form {
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
fn parameters(query: &str) -> Result<Vec<(String, Zeroizing<String>)>, LoginError> {
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://login.example/auth";

    fn session() -> Session {
        let text = |text: &str| Zeroizing::new(text.to_owned());
        Session {
            state: text("state-of-a-test-0123"),
            nonce: text("nonce-of-a-test-0123"),
            // RFC 7636, appendix B.
            verifier: text("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        }
    }

    fn document() -> Value {
        json!({"issuer": ISSUER, "authorization_endpoint": "https://login.example/auth/ask",
            "token_endpoint": "https://login.example/token", "device_authorization_endpoint": "https://login.example/device",
            "code_challenge_methods_supported": ["plain", "S256"]})
    }

    fn read(document: &Value) -> Result<Provider, LoginError> {
        let permits = |url: &str| if url.starts_with("https:") { Ok(()) } else { Err("no TLS".to_owned()) };
        Provider::parse(document.to_string().as_bytes(), ISSUER, &permits)
    }

    fn client(secret: Option<&str>) -> Client {
        Client { id: "sigstore".to_owned(), secret: secret.map(|text| Zeroizing::new(text.to_owned())) }
    }

    #[test]
    fn an_issuer_describes_itself() {
        assert_eq!(Provider::url("https://a.example/"), "https://a.example/.well-known/openid-configuration");
        let provider = read(&document()).expect("good");
        assert_eq!((provider.issuer.as_str(), provider.says_issuer), (ISSUER, false));
        let mut slash = document();
        slash["issuer"] = json!(format!("{ISSUER}/"));
        assert_eq!(read(&slash).expect("good").issuer, format!("{ISSUER}/"));
        for (name, value, part) in [
            ("issuer", json!("https://other.example"), "https://other.example"),
            ("issuer", Value::Null, "is none"),
            ("token_endpoint", Value::Null, "no `token_endpoint`"),
            ("authorization_endpoint", json!("http://login.example"), "no TLS"),
            ("authorization_endpoint", json!("https://login.example/#a"), "usable"),
            ("device_authorization_endpoint", json!("http://login.example"), "no TLS"),
            ("code_challenge_methods_supported", json!(["plain"]), "S256"),
        ] {
            let mut bad = document();
            bad[name] = value;
            let error = read(&bad).expect_err(name).to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
    }

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
    fn the_question_has_what_binds_the_answer() {
        let (session, provider) = (session(), read(&document()).expect("good"));
        assert_eq!(session.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        let url = session.url(&provider, &client(None), "http://127.0.0.1:1/auth/callback");
        assert_eq!(
            url,
            "https://login.example/auth/ask?response_type=code&client_id=sigstore&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fauth%2Fcallback\
             &scope=openid%20email&state=state-of-a-test-0123&nonce=nonce-of-a-test-0123\
             &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
        );
        let with_query = Provider { authorization: "https://login.example/?a=b".to_owned(), ..provider.clone() };
        assert!(session.url(&with_query, &client(None), "x").starts_with("https://login.example/?a=b&response_type="));
        let form = session.redeem(&provider, &client(None), "c&d", "http://127.0.0.1:1/auth/callback");
        assert!(form.authorization.is_none());
        assert!(form.body.contains("&code=c%26d&") && form.body.ends_with(session.verifier.as_str()), "{}", *form.body);
        // A secret goes into the header, escaped first, or into the body where an issuer knows that only.
        let form = session.redeem(&provider, &client(Some("s:t")), "c", "x");
        let basic = form.authorization.expect("a header");
        assert_eq!(STANDARD.decode(&basic["Basic ".len()..]).expect("base64"), b"sigstore:s%3At");
        assert!(!form.body.contains("secret"));
        let posts = Provider { secret_in_body: true, ..provider };
        let form = session.poll(&posts, &client(Some("s:t")), &device());
        assert!(form.authorization.is_none() && form.body.ends_with("&client_secret=s%3At"));
    }

    fn device() -> Device {
        let answer = json!({"device_code": "device-code-0123456789", "user_code": "ABCD-EFGH",
            "verification_uri": "https://login.example/device", "expires_in": 300});
        Device::parse(&session(), answer.to_string().as_bytes(), &|_| Ok(())).expect("good")
    }

    #[test]
    fn only_the_answer_to_this_login_is_taken() {
        let (session, provider) = (session(), read(&document()).expect("good"));
        let good = "code=a%2Bb+c&state=state-of-a-test-0123";
        assert_eq!(*session.code(&provider, good).expect("good"), "a+b c");
        let says = Provider { says_issuer: true, ..provider.clone() };
        let own = format!("{good}&iss=https%3A%2F%2Flogin.example%2Fauth");
        assert!(session.code(&says, &own).is_ok() && session.code(&provider, &own).is_ok());
        for (provider, query, error) in [
            (&provider, "code=a", LoginError::State),
            (&provider, "code=a&state=", LoginError::State),
            (&provider, "code=a&state=state-of-a-test-0124", LoginError::State),
            (&provider, "error=access_denied", LoginError::State),
            (&says, good, malformed("what the browser brought names no issuer (`iss`)")),
            (&provider, "state=state-of-a-test-0123", malformed("what the browser brought has no code")),
            (&provider, "code=&state=state-of-a-test-0123", malformed("what the browser brought has no code")),
            (&provider, "code=%zz&state=state-of-a-test-0123", malformed("what the browser brought cannot be read")),
            (&provider, "code=%ff&state=state-of-a-test-0123", malformed("what the browser brought cannot be read")),
        ] {
            assert_eq!(session.code(provider, query), Err(error), "{query}");
        }
        let other = format!("{good}&iss=https%3A%2F%2Fother.example");
        assert_eq!(
            session.code(&provider, &other),
            Err(LoginError::OtherIssuer { found: "https://other.example".into() })
        );
        assert!(session.code(&provider, &format!("{good}&code=c")).is_err(), "twice");
        let many = (0..MAX_PARAMETERS).map(|number| format!("&m{number}=")).collect::<Vec<_>>().concat();
        assert!(session.code(&provider, &format!("{good}{many}")).is_err(), "too many");
        let denied = "state=state-of-a-test-0123&error=access_denied&error_description=no%1b%5b2J%0Away";
        let error = session.code(&provider, denied).expect_err("denied").to_string();
        assert_eq!(error, "it refuses: access_denied: no [2J way");
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

    #[test]
    fn tokens_are_taken_and_refusals_told_without_what_is_secret() {
        let session = session();
        let of =
            |status, value: &Value| session.token(status, value.to_string().as_bytes(), &["device-code-0123456789"]);
        assert_eq!(
            of(200, &json!({"id_token": "a.b.c", "access_token": "x"})),
            Ok(Given::Token("a.b.c".to_owned().into()))
        );
        assert_eq!(of(400, &json!({"error": "authorization_pending"})), Ok(Given::NotYet));
        assert_eq!(of(400, &json!({"error": "slow_down"})), Ok(Given::Slower));
        for (status, value, part) in [
            (200, json!({"access_token": "x"}), "id_token"),
            (500, json!({"id_token": "a.b.c"}), "id_token"),
            (200, json!("a.b.c"), "no token"),
            (400, json!({"error": "expired_token"}), "expired_token"),
            (400, json!({"error": "invalid_grant", "error_description": "too\u{7} late"}), "invalid_grant: too  late"),
            (400, json!({"error": "e", "error_description": "bad device-code-012345 is"}), "not shown"),
            (400, json!({"error": session.verifier.as_str()}), "not shown"),
        ] {
            let error = of(status, &value).expect_err("refused").to_string();
            assert!(
                error.contains(part) && !error.contains("device-code") && !error.contains("dBjft"),
                "{part}: {error}"
            );
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let token = |claims: &Value| format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims));
        assert_eq!(session.check(&token(&json!({"nonce": "nonce-of-a-test-0123"}))), Ok(()));
        for claims in [json!({}), json!({"nonce": ""}), json!({"nonce": 1}), json!({"nonce": "nonce-of-a-test-0124"})] {
            assert_eq!(session.check(&token(&claims)), Err(LoginError::Nonce));
        }
        assert!(session.check("x").is_err());
    }

    #[test]
    fn devices_have_limits() {
        let mut one = device();
        assert_eq!((one.interval, one.expires, one.told()), (5, 300, "device-code-0123456789"));
        one.slow_down();
        assert_eq!(one.interval, 10);
        for _ in 0..100 {
            one.slow_down();
        }
        assert_eq!(one.interval, MAX_INTERVAL);
        let good = json!({"device_code": "d", "user_code": "u", "verification_uri": "https://a.example", "expires_in": 9,
            "interval": 0, "verification_uri_complete": "ftp://a.example"});
        let permits = |url: &str| if url.starts_with("https:") { Ok(()) } else { Err(String::new()) };
        let read = |value: &Value| Device::parse(&session(), value.to_string().as_bytes(), &permits);
        let device = read(&good).expect("good");
        assert_eq!((device.interval, device.complete), (1, None));
        for (name, value) in [
            ("device_code", json!("")),
            ("user_code", json!("\u{1b}[2J")),
            ("user_code", json!("u".repeat(65))),
            ("verification_uri", json!("ftp://a.example")),
            ("expires_in", Value::Null),
            ("error", json!("invalid_client")),
        ] {
            let mut bad = good.clone();
            bad[name] = value;
            assert!(read(&bad).is_err(), "{name}");
        }
    }

    #[test]
    fn logins_differ() {
        let (one, other) = (Session::new().expect("random"), Session::new().expect("random"));
        assert!(one.state != other.state && one.nonce != other.nonce && one.verifier != other.verifier);
        assert_eq!(one.verifier.len(), 43);
        assert!(one.state != one.nonce && one.nonce != one.verifier);
    }
}
