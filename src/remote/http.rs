//! HTTP to other machines: `https`, or `http` to this machine.
//!
//! Every question has an end: limits for the connection, for one attempt, for all attempts together, and for the length
//! of the answer. Redirects are not followed, so nothing that was meant for one host reaches another. Errors name the
//! place (scheme, host, port, path) and never a query, a header or a body.

mod authorities;
pub(crate) mod exchange;
mod names;
mod proxy;

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use affiant_core::attestor::{Fetch, FetchError};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use ureq::http::Uri;
use ureq::http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Timeout};

/// How often one question is asked at most.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Connections that are kept at most, and for how long.
const KEPT: usize = 8;
const KEPT_FOR: Duration = Duration::from_secs(5);
/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Where the way to other machines leads, and how long it may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The proxy for `https`: `http://[user:password@]host:port`.
    pub proxy: Option<String>,
    /// Hosts that are asked without the proxy, separated by commas: names with all below them, addresses, networks
    /// (`10.0.0.0/8`), `*`.
    pub no_proxy: Option<String>,
    /// A file of certificate authorities (PEM) to trust instead of those of the machine.
    pub authorities: Option<PathBuf>,
    /// A folder of such files.
    pub authorities_folder: Option<PathBuf>,
    /// How long it may take to find the host's address and to connect.
    pub connect: Duration,
    /// How long one attempt may take.
    pub attempt: Duration,
    /// How long all attempts together may take.
    pub whole: Duration,
    /// Whether connections are kept for the next question.
    pub keep: bool,
    /// Hosts (with their ports) that may be asked without TLS, besides this machine.
    pub plain: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxy: None,
            no_proxy: None,
            authorities: None,
            authorities_folder: None,
            connect: Duration::from_secs(10),
            attempt: Duration::from_secs(15),
            whole: Duration::from_secs(30),
            keep: false,
            plain: Vec::new(),
        }
    }
}

/// An HTTP client. Nothing is opened or read before the first question.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    /// For `http`, and for `https`: only the latter reads certificate authorities.
    agents: Mutex<[Option<Agent>; 2]>,
}

/// Why an attempt gave nothing, and whether another may give more.
struct Failed {
    reason: String,
    again: bool,
    /// How long the other side asked to wait.
    wait: Option<Duration>,
}

impl Failed {
    fn finally(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), again: false, wait: None }
    }
}

impl Client {
    /// A client with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings, agents: Mutex::default() }
    }

    fn agent(&self, uri: &Uri) -> Result<Agent, String> {
        let https = uri.scheme_str() == Some("https");
        let mut agents = self.agents.lock().map_err(|_| "another question ended in a panic".to_owned())?;
        let place = &mut agents[usize::from(https)];
        if let Some(agent) = place {
            return Ok(agent.clone());
        }
        let agent = self.new_agent(https)?;
        *place = Some(agent.clone());
        Ok(agent)
    }

    fn new_agent(&self, https: bool) -> Result<Agent, String> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(MAX_HEAD)
            // A kept connection that the other side has closed meanwhile costs an attempt.
            .max_idle_connections(if self.settings.keep { KEPT } else { 0 })
            .max_idle_connections_per_host(if self.settings.keep { KEPT } else { 0 })
            .max_idle_age(KEPT_FOR)
            .timeout_connect(Some(self.settings.connect))
            .timeout_resolve(Some(self.settings.connect))
            .user_agent(concat!("affiant/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .proxy(None);
        if https {
            let roots = authorities::load(&self.settings)?;
            let provider = CryptoProvider { ..aws_lc_rs::default_provider() };
            config = config.tls_config(
                TlsConfig::builder()
                    .unversioned_rustls_crypto_provider(Arc::new(provider))
                    .root_certs(RootCerts::Specific(Arc::new(roots)))
                    .build(),
            );
        }
        Ok(Agent::with_parts(config.build(), DefaultConnector::default(), names::Names::default()))
    }

    /// The address, if it may be asked; otherwise what may be shown of it, and why not.
    fn permitted(&self, url: &str) -> Result<Uri, (String, String)> {
        let refused = |reason: &str| ("an address".to_owned(), reason.to_owned());
        let uri: Uri = url.parse().map_err(|_| refused("that is no URL"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| refused("that names no host"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let reason = if authority.contains('@') {
            "a user or password in an address is not taken"
        } else {
            match uri.scheme_str() {
                Some("https") => return Ok(uri),
                Some("http") if is_local(host) => return Ok(uri),
                Some("http") if self.settings.plain.iter().any(|plain| plain.eq_ignore_ascii_case(authority)) => {
                    return Ok(uri);
                }
                _ => "only https is spoken to other machines",
            }
        };
        Err((place(&uri), reason.to_owned()))
    }

    /// Whether an address may be asked; else what may be shown of it, and why not. Asks nobody.
    pub(crate) fn check(&self, url: &str) -> Result<(), (String, String)> {
        self.permitted(url).map(drop)
    }

    fn attempt(&self, uri: &Uri, bearer: Option<&str>, limit: usize, left: Duration) -> Result<Vec<u8>, Failed> {
        let agent = self.agent(uri).map_err(Failed::finally)?;
        let proxy = proxy::to(uri, &self.settings).map_err(Failed::finally)?;
        let mut request = agent.get(uri);
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let limits = request.config().proxy(proxy).timeout_global(Some(self.settings.attempt.min(left))).build();
        let mut answer = limits.call().map_err(|error| self.failed_at(uri, &error))?;
        let status = answer.status().as_u16();
        match status {
            200 => {
                let mut body = Vec::new();
                let mut reader = answer.body_mut().as_reader().take(limit as u64 + 1);
                reader.read_to_end(&mut body).map_err(|error| self.broken(&error))?;
                if body.len() > limit {
                    return Err(Failed::finally(format!("answers with more than {limit} bytes")));
                }
                Ok(body)
            }
            300..=399 => {
                let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
                let to = to.parse::<Uri>().map(|to| place(&to)).unwrap_or_default();
                Err(Failed::finally(format!("answers {status}, a redirect to `{to}`; redirects are not followed")))
            }
            429 | 502..=504 => {
                let wait = answer.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok());
                Err(Failed {
                    reason: format!("answers {status}: it is busy or down; try again later"),
                    again: true,
                    wait: wait.and_then(|wait| wait_of(wait, jiff::Timestamp::now())),
                })
            }
            401 | 403 => Err(Failed::finally(format!("answers {status}: it does not permit the question"))),
            _ => Err(Failed::finally(format!("answers {status}"))),
        }
    }

    /// What an error of the library means for this question; where no connection came about, the proxy is named.
    fn failed_at(&self, uri: &Uri, error: &ureq::Error) -> Failed {
        let mut failed = self.failed(error);
        let is_about_tls = failed.reason.starts_with("TLS") || failed.reason.contains("certificate");
        if !is_about_tls && !failed.reason.contains("HTTPS_PROXY)") {
            failed.reason += &proxy::told(uri, &self.settings);
        }
        failed
    }

    /// What an error of the library means. Only texts that hold nothing of the request are taken over.
    fn failed(&self, error: &ureq::Error) -> Failed {
        let again = |reason: String| Failed { reason, again: true, wait: None };
        match error {
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => again(format!(
                "does not accept a connection within {} s; is the host reachable, or is a proxy needed (HTTPS_PROXY)?",
                self.settings.connect.as_secs_f32()
            )),
            ureq::Error::Timeout(_) => again("does not answer in time".to_owned()),
            ureq::Error::HostNotFound => {
                again("the host's address is not found; is its name right, and DNS reachable?".to_owned())
            }
            ureq::Error::Rustls(error) => Failed::finally(tls_reason(error)),
            ureq::Error::Io(error) => self.broken(error),
            ureq::Error::ConnectProxyFailed(_) => Failed::finally("the proxy refuses the connection (HTTPS_PROXY)"),
            ureq::Error::ConnectionFailed => again("the connection fails".to_owned()),
            ureq::Error::LargeResponseHeader(..) => {
                Failed::finally(format!("answers with a head of more than {MAX_HEAD} bytes"))
            }
            ureq::Error::Protocol(_) => Failed::finally("does not answer in HTTP"),
            ureq::Error::Tls(reason) => Failed::finally(format!("TLS: {reason}")),
            _ => Failed::finally("cannot be asked"),
        }
    }

    fn broken(&self, error: &std::io::Error) -> Failed {
        if let Some(inner) = error.get_ref() {
            if let Some(error) = inner.downcast_ref::<rustls::Error>() {
                return Failed::finally(tls_reason(error));
            }
            if let Some(error) = inner.downcast_ref::<ureq::Error>() {
                return self.failed(error);
            }
        }
        Failed { reason: error.kind().to_string(), again: true, wait: None }
    }
}

fn tls_reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => {
            format!("its certificate is not trusted ({why:?}); a private authority is named with SSL_CERT_FILE")
        }
        _ => format!("TLS fails: {error}"),
    }
}

impl Fetch for Client {
    fn get(&self, url: &str, bearer: Option<&str>, limit: usize) -> Result<Vec<u8>, FetchError> {
        let uri = self.permitted(url).map_err(|(place, reason)| FetchError { place, reason })?;
        let error = |reason: String| FetchError { place: place(&uri), reason };
        if bearer.is_some_and(|bearer| bearer.is_empty() || !bearer.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(error("the token for it is no token".to_owned()));
        }
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let left = self.settings.whole.saturating_sub(begun.elapsed());
            let failed = match self.attempt(&uri, bearer, limit, left) {
                Ok(body) => return Ok(body),
                Err(failed) => failed,
            };
            let wait = failed.wait.unwrap_or(pause);
            let left = self.settings.whole.saturating_sub(begun.elapsed());
            if !failed.again || attempts == ATTEMPTS || wait >= left {
                let times = if attempts > 1 { format!(" ({attempts} attempts)") } else { String::new() };
                return Err(error(format!("{}{times}", failed.reason)));
            }
            std::thread::sleep(wait);
            pause *= 2;
        }
    }
}

/// How long a `Retry-After` asks to wait (RFC 9110 §10.2.3): seconds, or a date. One that is over asks for no time.
fn wait_of(text: &str, now: jiff::Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()?;
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

/// Scheme, host, port and path: what may be shown of a URL.
fn place(uri: &Uri) -> String {
    let scheme = uri.scheme_str().map(|scheme| format!("{scheme}://")).unwrap_or_default();
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}{}{port}{}", uri.host().unwrap_or_default(), uri.path())
}

/// Whether a host is this machine, by its address or by the name that always means it (RFC 6761 §6.3).
pub(crate) fn is_local(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || proxy::address(host).is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
