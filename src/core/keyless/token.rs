//! Identity tokens for a certificate authority: looked at before anything is done that cannot be done again.
//!
//! The authority proves the token; what is looked at here says beforehand what it would refuse, with the cause and what to
//! change, which the authority does not say.

use std::fmt;

use jiff::Timestamp;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::jwt::{JwtError, LEEWAY, Token, shown};

/// The audience that Fulcio takes when nothing else is agreed.
pub const AUDIENCE: &str = "sigstore";
/// Host of GitHub's issuer.
const GITHUB: &str = "token.actions.githubusercontent.com";

/// A token that was looked at. It is wiped when it is dropped, and stands in no message.
pub struct IdentityToken {
    text: Zeroizing<String>,
    claims: Claims,
}

impl fmt::Debug for IdentityToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityToken").field("claims", &self.claims).finish_non_exhaustive()
    }
}

/// What of a token matters here. Nothing is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who made it.
    pub issuer: String,
    /// Who made it for an issuer that passes on what others say (`federated_claims.connector_id`).
    pub connector: Option<String>,
    /// Whose it is.
    pub subject: String,
    /// The verified e-mail address of whom it is.
    pub email: Option<String>,
    /// When it expires.
    pub expires: Timestamp,
    /// What of the CI system made it.
    pub provider: Provider,
}

impl Claims {
    /// What a key must sign to prove that it is in the hands of whoever has the token.
    pub fn challenge(&self) -> &str {
        self.email.as_deref().unwrap_or(&self.subject)
    }
}

/// Who gives tokens, as far as it says what to do when one is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// GitHub Actions.
    GitHub,
    /// GitLab CI.
    GitLab,
    /// Somebody else.
    Other,
}

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its audience, or one of them.
    pub audience: &'a str,
    /// Its issuer, where one is demanded.
    pub issuer: Option<&'a str>,
}

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFault {
    /// It is no token that anybody could prove.
    #[error("{0}")]
    Jwt(#[from] JwtError),
    /// Too old.
    #[error("the identity token expired at {at}, {seconds} s ago")]
    Expired {
        /// When.
        at: Timestamp,
        /// How long ago.
        seconds: i64,
        /// Who gave it.
        provider: Provider,
    },
    /// From the future.
    #[error("the identity token is valid from {at} only, in {seconds} s; is this machine's clock right?")]
    NotYet {
        /// From when.
        at: Timestamp,
        /// How long till then.
        seconds: i64,
    },
    /// For somebody else.
    #[error("the identity token is for the audience {found}, and not for `{expected}`")]
    Audience {
        /// For whom.
        found: String,
        /// For whom it should be.
        expected: String,
        /// Who gave it.
        provider: Provider,
    },
    /// By somebody else.
    #[error("the identity token is by the issuer `{found}`, and not by `{expected}`")]
    Issuer {
        /// By whom.
        found: String,
        /// By whom it should be.
        expected: String,
    },
    /// A claim that a certificate needs.
    #[error("the identity token has no claim `{name}`, so it says nobody's identity")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// An address that anybody could have given.
    #[error(
        "the identity token has the e-mail address `{email}`, which its issuer has not verified (`email_verified`)"
    )]
    Unverified {
        /// The address.
        email: String,
    },
}

impl TokenFault {
    /// What to do.
    pub fn remedy(&self) -> &'static str {
        let provider = match self {
            Self::Expired { provider, .. } | Self::Audience { provider, .. } => *provider,
            Self::NotYet { .. } => return "set the clock of this machine",
            Self::Issuer { .. } => {
                return "name the issuer that the certificate authority trusts with `--oidc-issuer URL`, or get a token of it";
            }
            Self::Unverified { .. } => return "verify the address with the issuer, then get another token",
            Self::Missing { .. } | Self::Jwt(JwtError::Claim(_)) => {
                return "get an identity token (OpenID Connect), not an access token";
            }
            Self::Jwt(_) => return "give the token itself, three parts between dots, or the name of a file with it",
        };
        match (provider, matches!(self, Self::Audience { .. })) {
            (Provider::GitHub, _) => {
                "the job needs `permissions: id-token: write`, and no token given to it: affiant asks for its own"
            }
            (Provider::GitLab, true) => "write in the job: `id_tokens: SIGSTORE_ID_TOKEN: aud: sigstore`",
            (Provider::GitLab, false) => {
                "GitLab makes it when the job begins, for as long as the job may take (`timeout:`); sign earlier"
            }
            (Provider::Other, true) => {
                "get a token for that audience, or name the other one with `--oidc-client-id NAME`"
            }
            (Provider::Other, false) => "get another token, right before it is used",
        }
    }
}

impl IdentityToken {
    /// Looks at a token. White space around it does not count.
    pub fn look(text: &Zeroizing<String>, wanted: &Wanted<'_>, now: Timestamp) -> Result<Self, TokenFault> {
        let text = Zeroizing::new(text.trim().to_owned());
        let token = Token::read(&text)?;
        let said = token.claims();
        let text_of = |name: &str| said.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let issuer = text_of("iss").ok_or(TokenFault::Missing { name: "iss" })?;
        let host = issuer.split_once("://").map_or(issuer, |(_, host)| host);
        let provider = if host.starts_with(GITHUB) {
            Provider::GitHub
        } else if said.contains_key("project_path") && said.contains_key("namespace_path") {
            Provider::GitLab
        } else {
            Provider::Other
        };
        if let Some(expected) = wanted.issuer.filter(|expected| *expected != issuer) {
            return Err(TokenFault::Issuer { found: shown(issuer), expected: expected.to_owned() });
        }
        let audiences = token.audiences()?;
        if !audiences.contains(&wanted.audience) {
            let found = audiences.iter().map(|one| format!("`{}`", shown(one))).collect::<Vec<_>>().join(", ");
            return Err(TokenFault::Audience { found, expected: wanted.audience.to_owned(), provider });
        }
        let expires = token.time("exp")?.ok_or(TokenFault::Missing { name: "exp" })?;
        let seconds = now.as_second() - expires.as_second();
        if seconds >= LEEWAY {
            return Err(TokenFault::Expired { at: expires, seconds, provider });
        }
        for name in ["nbf", "iat"] {
            let from = token.time(name)?;
            if let Some(at) = from.filter(|from| from.as_second() - now.as_second() > LEEWAY) {
                return Err(TokenFault::NotYet { at, seconds: at.as_second() - now.as_second() });
            }
        }
        let email = match text_of("email") {
            None => None,
            Some(email) => match said.get("email_verified") {
                Some(Value::Bool(true)) => Some(email.to_owned()),
                // Some issuers write it as text.
                Some(Value::String(text)) if text == "true" => Some(email.to_owned()),
                _ => return Err(TokenFault::Unverified { email: shown(email) }),
            },
        };
        let subject = text_of("sub").ok_or(TokenFault::Missing { name: "sub" })?.to_owned();
        let connector = said.get("federated_claims").and_then(|claims| claims.get("connector_id"));
        let connector = connector.and_then(Value::as_str).map(str::to_owned);
        let claims = Claims { issuer: issuer.to_owned(), connector, subject, email, expires, provider };
        Ok(Self { text, claims })
    }

    /// What it says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The token itself, for whoever it is sent to.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// `text`, unless it holds a part of the token, cut off or not: a service may say back what it was told.
    pub fn keep_out_of(&self, text: &str) -> String {
        /// So many characters of a part are no accident.
        const TELLING: usize = 16;
        let begins = |part: &str| part.get(..TELLING.min(part.len())).is_some_and(|begin| text.contains(begin));
        if self.text.split('.').any(|part| !part.is_empty() && begins(part)) {
            "(what it says holds the token, and is not shown)".to_owned()
        } else {
            text.to_owned()
        }
    }
}

/// A token with these claims, for tests.
#[cfg(test)]
pub(super) fn token_of(claims: &Value) -> Zeroizing<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    Zeroizing::new(format!("{}.{}.c2lnbmF0dXJl", part(&serde_json::json!({"alg": "RS256"})), part(claims)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({"iss": "https://gitlab.example", "aud": "sigstore", "sub": "project_path:a/b", "exp": 2000, "iat": 1000})
    }

    fn look(claims: &Value) -> Result<IdentityToken, TokenFault> {
        let now = Timestamp::from_second(1500).expect("a time");
        IdentityToken::look(&token_of(claims), &Wanted { audience: AUDIENCE, issuer: None }, now)
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    #[test]
    fn what_an_authority_would_refuse_is_said_before() {
        assert_eq!(look(&good()).expect("good").claims().challenge(), "project_path:a/b");
        for (claims, part) in [
            (with("exp", json!(1400)), "100 s ago"),
            (with("exp", Value::Null), "`exp`"),
            (with("aud", json!("affiant")), "audience `affiant`"),
            (with("aud", json!(["a", "b"])), "`a`, `b`"),
            (with("aud", Value::Null), "`aud`"),
            (with("iss", Value::Null), "`iss`"),
            (with("sub", Value::Null), "`sub`"),
            (with("sub", json!("")), "`sub`"),
            (with("iat", json!(8700)), "clock"),
            (with("nbf", json!(8700)), "clock"),
            (with("email", json!("a@b.example")), "not verified"),
        ] {
            let fault = look(&claims).expect_err("refused").to_string();
            assert!(fault.contains(part), "{part}: {fault}");
        }
        let none = Zeroizing::new("eyJhbGciOiJub25lIn0.e30.".to_owned());
        let now = Timestamp::from_second(1500).expect("a time");
        let wanted = Wanted { audience: AUDIENCE, issuer: None };
        assert!(matches!(IdentityToken::look(&none, &wanted, now), Err(TokenFault::Jwt(JwtError::Unsigned))));
        let other = Wanted { audience: AUDIENCE, issuer: Some("https://other.example") };
        assert!(matches!(IdentityToken::look(&token_of(&good()), &other, now), Err(TokenFault::Issuer { .. })));
    }

    #[test]
    fn a_token_without_signature_or_claims_is_told_as_such() {
        let (signed, _) = token_of(&good()).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("parts");
        let now = Timestamp::from_second(1500).expect("a time");
        let unsigned = Zeroizing::new(format!("{signed}."));
        let fault = IdentityToken::look(&unsigned, &Wanted { audience: AUDIENCE, issuer: None }, now);
        let fault = fault.expect_err("nobody signed it");
        assert!(fault.to_string().contains("its signature is empty"), "{fault}");
        assert!(fault.remedy().contains("three parts"));
        for name in ["aud", "exp", "iss", "sub"] {
            let fault = look(&with(name, Value::Null)).expect_err("refused");
            assert!(fault.remedy().contains("OpenID Connect"), "{name}: {}", fault.remedy());
        }
    }

    #[test]
    fn the_challenge_is_a_verified_address_where_there_is_one() {
        let mut claims = with("email", json!("a@b.example"));
        claims["email_verified"] = json!(true);
        assert_eq!(look(&claims).expect("good").claims().challenge(), "a@b.example");
        claims["email_verified"] = json!("true");
        assert_eq!(look(&claims).expect("good").claims().challenge(), "a@b.example");
    }

    #[test]
    fn remedies_name_what_the_job_needs() {
        let mut claims = with("aud", json!("x"));
        claims["iss"] = json!(format!("https://{GITHUB}/enterprise"));
        assert!(look(&claims).expect_err("refused").remedy().contains("id-token: write"));
        let mut claims = with("aud", json!("x"));
        claims["project_path"] = json!("a/b");
        claims["namespace_path"] = json!("a");
        assert!(look(&claims).expect_err("refused").remedy().contains("id_tokens:"));
    }

    #[test]
    fn the_token_stands_in_no_text() {
        let token = look(&good()).expect("good");
        assert!(!format!("{token:?}").contains("c2lnbmF0dXJl"));
        assert!(!token.keep_out_of(&format!("bad {}", token.expose())).contains("c2ln"));
        assert_eq!(token.keep_out_of("bad audience"), "bad audience");
    }
}
