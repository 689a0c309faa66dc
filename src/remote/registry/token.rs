//! What a registry asks for as a proof of who asks, and how it is got.
//!
//! Source: RFC 7235 (challenges), RFC 6750 (bearer), the distribution project's "Token Authentication Specification" and
//! its "`OAuth2` Token Authentication".

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::Method;

use super::Credential;
use super::texts::escaped;
use crate::http::Client;
use crate::http::exchange::Question;

/// Longest answer of a token service, in bytes.
const MAX_ANSWER: usize = 256 * 1024;
/// How long a token is good for where its service does not say (the specification's value).
const LIFE: Duration = Duration::from_secs(60);
/// Longest time for which a token is used, whatever its service says.
const MAX_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long before its end a token is not used any more.
const MARGIN: Duration = Duration::from_secs(10);
/// Longest token, in bytes.
const MAX_TOKEN: usize = 64 * 1024;

/// How a registry wants to know who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A password with each question.
    Basic,
    /// A token from a service.
    Bearer {
        /// The service's address.
        realm: String,
        /// What it calls the registry.
        service: Option<String>,
        /// What the registry wants to have permitted; ours is asked for instead where it names none.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads one `WWW-Authenticate` header.
    pub(super) fn read(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut parameters = parameters(rest);
        Some(Self::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
            scope: parameters.remove("scope").filter(|scope| !scope.is_empty()),
        })
    }
}

/// `name="value"` pairs, separated by commas; a backslash escapes within quotes.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
        let (value, behind) = if let Some(quoted) = after.strip_prefix('"') {
            let mut value = String::new();
            let mut characters = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, c)) = characters.next() {
                match c {
                    '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    c => value.push(c),
                }
            }
            (value, &quoted[end..])
        } else {
            let end = after.find(',').unwrap_or(after.len());
            (after[..end].trim().to_owned(), &after[end..])
        };
        found.entry(name).or_insert(value);
        rest = behind;
    }
    found
}

/// What is to be permitted: actions on a repository, and reading of another.
pub(super) fn scope(repository: &str, actions: &str, also: Option<&str>) -> String {
    let other = also.map(|other| format!(" repository:{other}:pull")).unwrap_or_default();
    format!("repository:{repository}:{actions}{other}")
}

/// Proofs that were got, by registry and scope.
#[derive(Default)]
pub(super) struct Tokens(Mutex<BTreeMap<(String, String), Proof>>);

/// An `Authorization` header, until when it is good, and what it answers.
type Proof = (String, Option<Instant>, Challenge);

impl Tokens {
    /// The `Authorization` header that is known to do.
    pub(super) fn known(&self, registry: &str, scope: &str) -> Option<String> {
        let tokens = self.0.lock().ok()?;
        let (header, until, _) = tokens.get(&(registry.to_owned(), scope.to_owned()))?;
        until.is_none_or(|until| Instant::now() < until).then(|| header.clone())
    }

    /// How the registry wanted to know who asks, where it was told once.
    pub(super) fn challenge(&self, registry: &str, scope: &str) -> Option<Challenge> {
        let tokens = self.0.lock().ok()?;
        tokens.get(&(registry.to_owned(), scope.to_owned())).map(|(_, _, challenge)| challenge.clone())
    }

    /// Whether a text holds a proof that was given, or the password in one.
    pub(super) fn are_in(&self, text: &str) -> bool {
        let Ok(tokens) = self.0.lock() else { return true };
        tokens.values().any(|(header, ..)| {
            let proof = header.split_once(' ').map_or(header.as_str(), |(_, proof)| proof);
            let password = STANDARD.decode(proof).ok().and_then(|both| String::from_utf8(both).ok());
            let password = password.as_deref().and_then(|both| both.split_once(':')).map(|(_, password)| password);
            text.contains(proof) || password.is_some_and(|password| !password.is_empty() && text.contains(password))
        })
    }

    /// Gets a proof; an error is a clause that holds nothing secret.
    pub(super) fn get(
        &self,
        client: &Client,
        registry: &str,
        scope: &str,
        challenge: &Challenge,
        credential: Option<&Credential>,
    ) -> Result<String, String> {
        let (header, until) = match (challenge, credential) {
            (_, Some(Credential::Bearer(token))) => (format!("Bearer {token}"), None),
            (Challenge::Basic, Some(password @ Credential::Password { .. })) => {
                (password.basic().unwrap_or_default(), None)
            }
            (Challenge::Basic, Some(Credential::Identity(_))) => {
                return Err("it wants a password, and an identity token is what is known".to_owned());
            }
            (Challenge::Basic, None) => return Err("it wants a password".to_owned()),
            (Challenge::Bearer { realm, .. }, _) if is_here(realm) && !is_here(&format!("//{registry}")) => {
                // No registry elsewhere makes this machine ask itself.
                return Err("it names a token service on this machine".to_owned());
            }
            (Challenge::Bearer { realm, service, scope: theirs }, _) => {
                // The registry's own idea of the scope, unless it asks for less than is needed.
                let enough =
                    |theirs: &&String| !scope.contains(' ') && theirs.contains("push") == scope.contains("push");
                let wanted = theirs.as_ref().filter(enough).map_or(scope, String::as_str);
                ask(client, realm, service.as_deref(), wanted, credential)?
            }
        };
        if let Ok(mut tokens) = self.0.lock() {
            tokens.insert((registry.to_owned(), scope.to_owned()), (header.clone(), until, challenge.clone()));
        }
        Ok(header)
    }
}

/// Whether an address is of this machine.
pub(super) fn is_here(url: &str) -> bool {
    let authority =
        url.split_once("//").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or_default();
    authority.parse::<ureq::http::uri::Authority>().is_ok_and(|authority| crate::http::is_local(authority.host()))
}

/// How long a token is used that its service says to be good for so many seconds: [`MAX_LIFE`] at most, and not at all
/// where that is no time.
fn life_of(seconds: f64) -> Duration {
    let seconds = if seconds.is_nan() { 0.0 } else { seconds.clamp(0.0, MAX_LIFE.as_secs_f64()) };
    Duration::from_secs_f64(seconds)
}

#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    #[serde(rename = "access_token")]
    access: Option<String>,
    /// A number of seconds; some write it with a fraction.
    #[serde(rename = "expires_in")]
    life: Option<f64>,
}

fn ask(
    client: &Client,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    credential: Option<&Credential>,
) -> Result<(String, Option<Instant>), String> {
    let service_part = service.map(|service| format!("&service={}", escaped(service))).unwrap_or_default();
    let scopes: Vec<String> = scope.split(' ').map(|scope| format!("&scope={}", escaped(scope))).collect();
    let scopes = scopes.concat();
    let begun = Instant::now();
    let (method, url, mut headers, form) = if let Some(Credential::Identity(token)) = credential {
        let form = format!(
            "grant_type=refresh_token&client_id=affiant{service_part}&scope={}&refresh_token={}",
            escaped(scope),
            escaped(token)
        );
        let kind = ("content-type", "application/x-www-form-urlencoded".to_owned());
        (Method::POST, realm.to_owned(), vec![kind], Some(form))
    } else {
        let separator = if realm.contains('?') { "&" } else { "?" };
        let query = format!("{service_part}{scopes}");
        (Method::GET, format!("{realm}{separator}{}", query.trim_start_matches('&')), Vec::new(), None)
    };
    headers.extend(credential.and_then(Credential::basic).map(|basic| ("authorization", basic)));
    let mut bytes = form.as_deref().unwrap_or_default().as_bytes();
    let body: Option<(u64, &mut dyn std::io::Read)> = form.is_some().then_some((bytes.len() as u64, &mut bytes));
    let answer = client
        .exchange(Question { method, url: &url, headers, more: &[], body, expected: 0, repeats: false })
        .map_err(|failed| format!("the token service {}: {}", failed.place, failed.reason))?;
    let place = answer.place.clone();
    match answer.status {
        200 => {}
        401 | 403 => return Err(format!("the token service {place} does not accept the password")),
        status => return Err(format!("the token service {place} answers {status}")),
    }
    let bytes = answer.bytes(MAX_ANSWER).map_err(|reason| format!("the token service {place} {reason}"))?;
    // What is wrong with it is not shown: it may hold the token.
    let granted: Granted =
        serde_json::from_slice(&bytes).map_err(|_| format!("the token service {place} gives no token"))?;
    let life = granted.life.map_or(LIFE, life_of);
    let text = [granted.token, granted.access]
        .into_iter()
        .flatten()
        .find(|text| !text.is_empty())
        .filter(|text| text.len() <= MAX_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic()));
    let text = text.ok_or_else(|| format!("the token service {place} gives no token"))?;
    Ok((format!("Bearer {text}"), Some(begun + life.saturating_sub(MARGIN))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text = r#"Bearer realm="https://auth.example/token?x=1",service="registry.example",scope="repository:a/b:pull,push""#;
        assert_eq!(
            Challenge::read(text),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token?x=1".to_owned(),
                service: Some("registry.example".to_owned()),
                scope: Some("repository:a/b:pull,push".to_owned()),
            })
        );
        let text = r#"bearer service=x, realm="https://a.example/\"t\"" , error="invalid_token""#;
        let Some(Challenge::Bearer { realm, service, scope }) = Challenge::read(text) else { panic!("{text}") };
        assert_eq!((realm.as_str(), service.as_deref(), scope), (r#"https://a.example/"t""#, Some("x"), None));
        assert_eq!(Challenge::read("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(Challenge::read("Basic"), Some(Challenge::Basic));
        for text in ["", "Negotiate", "Bearer", "Bearer service=\"x\"", "Bearer realm"] {
            assert_eq!(Challenge::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_registry_elsewhere_does_not_make_this_machine_ask_itself() {
        let ask = |registry: &str, realm: &str| {
            let client = Client::new(crate::http::Settings { whole: Duration::from_secs(1), ..Default::default() });
            let challenge = Challenge::Bearer { realm: realm.to_owned(), service: None, scope: None };
            Tokens::default()
                .get(&client, registry, "repository:a:pull", &challenge, None)
                .expect_err("no such service")
        };
        for realm in ["http://127.0.0.1:1/token", "http://localhost:1/token", "http://[::1]:1/token"] {
            assert!(ask("registry.example", realm).contains("on this machine"), "{realm}");
            assert!(ask("127.0.0.1:5000", realm).contains("the token service"), "{realm}");
        }
    }

    #[test]
    fn a_token_is_used_for_a_day_at_most() {
        for (seconds, life) in
            [(300.0, 300), (1.9e19, 86_400), (f64::INFINITY, 86_400), (-1.0, 0), (f64::NAN, 0), (60.5, 60)]
        {
            assert_eq!(life_of(seconds).as_secs(), life, "{seconds}");
        }
        for text in [
            r#"{"token": "", "access_token": "good", "expires_in": 18446744073709551615}"#,
            r#"{"token": "good", "expires_in": 300.0}"#,
        ] {
            let granted: Granted = serde_json::from_str(text).expect(text);
            assert!(Instant::now().checked_add(granted.life.map_or(LIFE, life_of)).is_some());
        }
    }

    #[test]
    fn scopes_name_both_repositories_of_a_mount() {
        assert_eq!(scope("a/b", "pull,push", Some("c")), "repository:a/b:pull,push repository:c:pull");
    }
}
