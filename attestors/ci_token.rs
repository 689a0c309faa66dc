//! The identity token of a CI job: fetched or found by an attestor, proven with the issuer's keys, never recorded.

use affiant_core::attestor::{Before, Foresight, Network};
use affiant_core::jwt::keys::{fetch, fetch_set};
use affiant_core::jwt::{Expected, Proven, Token};
use serde::Serialize;
use serde_json::{Map, Value};

/// The audience that is asked for when nothing else is said.
pub(crate) const AUDIENCE: &str = "affiant";

/// The members of witness's `jwt` (wire-formats §3.19).
#[derive(Debug, Serialize)]
pub(crate) struct Jwt {
    pub(crate) claims: Map<String, Value>,
    #[serde(rename = "verifiedBy")]
    verified_by: VerifiedBy,
}

#[derive(Debug, Serialize)]
struct VerifiedBy {
    #[serde(rename = "jwksUrl")]
    jwks_url: String,
    jwk: Map<String, Value>,
}

/// What the peers have no member for: whether what stands beside it is proven.
#[derive(Debug, Serialize)]
pub(crate) struct Standing {
    /// Whether a token of the provider, proven with its keys, says who ran this.
    verified: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What came of the job's token.
#[derive(Debug)]
pub(crate) enum Identity {
    /// A token that holds.
    Proven(Jwt),
    /// There is none, and none was to be expected; says why.
    Absent(String),
    /// There is one, or there should be, and it does not hold or cannot be checked.
    Refused(String),
}

impl Identity {
    /// The proven token, how the variables stand, and what is missing.
    pub(crate) fn parts(self) -> (Option<Jwt>, Standing, Vec<String>) {
        match self {
            Self::Proven(jwt) => (Some(jwt), Standing { verified: true, reason: None }, Vec::new()),
            Self::Absent(reason) => (None, Standing { verified: false, reason: Some(reason) }, Vec::new()),
            Self::Refused(reason) => {
                let shortfall = format!("{reason}; so the variables are not verified");
                (None, Standing { verified: false, reason: Some(reason) }, vec![shortfall])
            }
        }
    }
}

/// Where an issuer's keys are.
#[derive(Debug)]
pub(crate) enum KeySource<'a> {
    /// In the key set that the issuer's discovery document names.
    Discovered,
    /// At this URL.
    At(&'a str),
}

/// Proves a token: what it says is compared first, then the keys are fetched from the issuer.
pub(crate) fn prove(
    world: &Before,
    token: &str,
    issuer: &str,
    audience: &str,
    source: &KeySource<'_>,
) -> Result<Jwt, String> {
    let token = Token::read(token).map_err(|error| error.to_string())?;
    token.check(&Expected { issuer, audience, now: world.now }).map_err(|error| error.to_string())?;
    let network = match &world.network {
        Network::Open(network) => network.as_ref(),
        Network::Closed(why) => return Err(format!("the keys of the issuer {issuer} cannot be asked for: {why}")),
    };
    let keys = match source {
        KeySource::Discovered => fetch(network, issuer),
        KeySource::At(url) => fetch_set(network, url),
    };
    let keys = keys.map_err(|error| error.to_string())?;
    let Proven { claims, jwk } = token.prove(&keys).map_err(|error| error.to_string())?;
    Ok(Jwt { claims, verified_by: VerifiedBy { jwks_url: keys.url, jwk } })
}

/// What is known beforehand of an attestor that takes secrets from these variables.
pub(crate) fn foresee(consumed: &[&str], note: Option<String>) -> Foresight {
    Foresight { consumes: consumed.iter().map(|name| (*name).to_owned()).collect(), note }
}

/// Compares claims with the variables that say the same. A variable that is not set contradicts nothing.
pub(crate) fn contradiction(world: &Before, jwt: &Jwt, pairs: &[(&str, &str)]) -> Option<String> {
    pairs.iter().find_map(|(claim, variable)| {
        let said = match jwt.claims.get(*claim)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        let set = world.env.get(variable).filter(|value| !value.is_empty())?;
        (set != said).then(|| {
            format!(
                "{variable} is `{set}`, but the job's identity token says `{said}`: the variables are not the job's"
            )
        })
    })
}

/// A variable, empty where it is not set.
pub(crate) fn variable(world: &Before, name: &str) -> String {
    world.env.get(name).unwrap_or_default().to_owned()
}

/// Host and port of a URL; empty where it has none.
pub(crate) fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}
