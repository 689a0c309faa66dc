//! What an issuer says of itself: `OpenID` Connect Discovery 1.0 §3, RFC 8414.

use serde::Deserialize;

use super::{LoginError, MAX_ADDRESS};
use crate::jwt::shown;

/// What an issuer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its name, as tokens have it.
    pub issuer: String,
    /// Where a browser goes.
    pub(super) authorization: String,
    /// Where tokens are given.
    pub token: String,
    /// Where devices ask.
    pub device: Option<String>,
    /// It names itself in what the browser brings (RFC 9207).
    pub(super) says_issuer: bool,
    /// A client shows its secret in the body, and not in a header.
    pub(super) secret_in_body: bool,
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{ISSUER, document, read};
    use super::*;

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
}
