//! Logging in for an identity token: by a browser on this machine, or by a code that is typed in elsewhere.
//!
//! What is asked and what is answered are texts here; the `remote` crate listens and asks. The signature of a token is not
//! checked: it comes from the issuer itself over TLS (`OpenID` Connect Core 1.0 §3.1.3.7, 6), and the certificate authority
//! proves it. What an answer must be is that to our own question: its `state`, its issuer, the token's `nonce`.
//!
//! Source: RFC 6749 (OAuth 2.0), RFC 7636 (PKCE), RFC 8252 (native apps), RFC 8628 (devices), RFC 9207 (`iss`), `OpenID`
//! Connect Core and Discovery 1.0.

mod device;
mod form;
mod provider;
mod redirect;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::digest::sha256;
use crate::jwt::{Token, shown};
use crate::sign::fill_random;

pub use self::device::Device;
pub use self::provider::Provider;
pub use self::redirect::{Asked, MAX_HEAD, MAX_LINE, Redirect, asked};

use self::form::{form, parameters, with_secret};

/// What is asked for: who somebody is, with the address.
const SCOPE: &str = "openid email";
/// Longest answer of an issuer, in bytes.
pub const MAX_ANSWER: usize = 256 * 1024;
/// Longest words of an issuer that are shown, in characters.
const MAX_WORDS: usize = 300;
/// Longest address, in characters.
const MAX_ADDRESS: usize = 2048;
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

/// A stranger's text without what steers a terminal.
fn plain(text: &str, limit: usize) -> String {
    let text: String = text.trim().chars().take(limit).collect();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::device::MAX_INTERVAL;
    use super::form::MAX_PARAMETERS;
    use super::*;

    pub(super) const ISSUER: &str = "https://login.example/auth";

    fn session() -> Session {
        let text = |text: &str| Zeroizing::new(text.to_owned());
        Session {
            state: text("state-of-a-test-0123"),
            nonce: text("nonce-of-a-test-0123"),
            // RFC 7636, appendix B.
            verifier: text("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        }
    }

    pub(super) fn document() -> Value {
        json!({"issuer": ISSUER, "authorization_endpoint": "https://login.example/auth/ask",
            "token_endpoint": "https://login.example/token", "device_authorization_endpoint": "https://login.example/device",
            "code_challenge_methods_supported": ["plain", "S256"]})
    }

    pub(super) fn read(document: &Value) -> Result<Provider, LoginError> {
        let permits = |url: &str| if url.starts_with("https:") { Ok(()) } else { Err("no TLS".to_owned()) };
        Provider::parse(document.to_string().as_bytes(), ISSUER, &permits)
    }

    fn client(secret: Option<&str>) -> Client {
        Client { id: "sigstore".to_owned(), secret: secret.map(|text| Zeroizing::new(text.to_owned())) }
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
