//! The GitHub Actions job: its variables, and its identity token (wire-formats §3.6).

use affiant_core::attestor::{
    About, AttestBefore, AttestError, Before, Evidence, Fetch, Foresight, Found, Network, OptionAbout, Outcome, Place,
    Predicate,
};
use serde::{Deserialize, Serialize};

use crate::ci_token::{self, AUDIENCE, Identity, Jwt, KeySource, Standing, variable};
use crate::subjects::Subjects;

/// Longest answer of the service that gives tokens, in bytes: a token and a little JSON around it.
const MAX_ANSWER: usize = 128 * 1024;
/// Where tokens are asked for, and what permits it.
pub const REQUEST: [&str; 2] = ["ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"];
/// Claims that say what variables of the predicate say.
const SAME: [(&str, &str); 4] = [
    ("repository", "GITHUB_REPOSITORY"),
    ("repository_id", "GITHUB_REPOSITORY_ID"),
    ("run_id", "GITHUB_RUN_ID"),
    ("run_attempt", "GITHUB_RUN_ATTEMPT"),
];

/// The attestor `github`.
pub(crate) struct Github;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// Whom the token is for.
    #[serde(default = "audience")]
    audience: String,
    /// Who makes the tokens, where it is not the server's own service.
    issuer: Option<String>,
}

fn audience() -> String {
    AUDIENCE.to_owned()
}

/// The predicate, its members in witness's order.
#[derive(Serialize)]
struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<Jwt>,
    ciconfigpath: String,
    pipelineid: String,
    pipelinename: String,
    pipelineurl: String,
    projecturl: String,
    runnerid: String,
    cihost: String,
    ciserverurl: String,
    runnerarch: String,
    runneros: String,
    affiant: Standing,
}

static ABOUT: About = About {
    name: "github",
    predicate_type: "https://witness.dev/attestations/github/v0.1",
    summary: "Records the GitHub Actions job, and proves it with the job's identity token where the job may ask for one.",
    default_when: "where GITHUB_ACTIONS is `true`",
    subjects: &["pipelineurl:<url>: SHA-256 of the text", "projecturl:<url>: SHA-256 of the text"],
    options: &[
        OptionAbout { name: "audience", help: "Audience of the identity token (default: affiant)" },
        OptionAbout {
            name: "issuer",
            help: "Issuer of the identity token (default: that of the server which GITHUB_SERVER_URL names)",
        },
    ],
    schema: include_str!("schemas/github.json"),
};

fn is_here(world: &Before) -> bool {
    world.env.get("GITHUB_ACTIONS") == Some("true")
}

/// Why no token can be asked for; `None` where one can.
fn no_request(world: &Before) -> Option<String> {
    let missing = REQUEST.into_iter().find(|name| world.env.get(name).is_none_or(str::is_empty))?;
    Some(format!("{missing} is not set: the job needs `permissions: id-token: write`"))
}

impl AttestBefore for Github {
    type Options = Options;
    const ABOUT: &'static About = &ABOUT;

    fn called_for(world: &Before) -> Option<String> {
        is_here(world).then(|| "GITHUB_ACTIONS is `true`".to_owned())
    }

    fn foresee(_: &Options, world: &Before) -> Foresight {
        if !is_here(world) {
            return Foresight::default();
        }
        let why = no_request(world).or_else(|| match world.network {
            Network::Open(_) => None,
            Network::Closed(why) => Some(why.to_owned()),
        });
        ci_token::foresee(&REQUEST, why.map(|why| format!("the variables of the job will not be verified: {why}")))
    }

    fn attest(options: Options, world: &Before) -> Outcome {
        if !is_here(world) {
            return Ok(Found::Nothing("GITHUB_ACTIONS is not `true`".to_owned()));
        }
        let server = variable(world, "GITHUB_SERVER_URL");
        let identity = identity(&options, world, &server);
        if let Identity::Proven(jwt) = &identity
            && let Some(reason) = ci_token::contradiction(world, jwt, &SAME)
        {
            return Err(AttestError::new(reason));
        }
        let (jwt, standing, shortfalls) = identity.parts();
        let below = |url: &str, path: &str, name: &str| match variable(world, name) {
            end if end.is_empty() || url.is_empty() => String::new(),
            end => format!("{url}{path}{end}"),
        };
        let projecturl = below(server.trim_end_matches('/'), "/", "GITHUB_REPOSITORY");
        let shown = Shown {
            jwt,
            ciconfigpath: variable(world, "GITHUB_ACTION_PATH"),
            pipelineid: variable(world, "GITHUB_RUN_ID"),
            pipelinename: variable(world, "GITHUB_WORKFLOW"),
            pipelineurl: below(&projecturl, "/actions/runs/", "GITHUB_RUN_ID"),
            projecturl,
            runnerid: variable(world, "RUNNER_NAME"),
            // witness leaves it empty, though its GitLab attestor has it.
            cihost: ci_token::host_of(&server).to_owned(),
            ciserverurl: server,
            runnerarch: variable(world, "RUNNER_ARCH"),
            runneros: variable(world, "RUNNER_OS"),
            affiant: standing,
        };
        let mut subjects = Subjects::default();
        subjects.text("pipelineurl", &shown.pipelineurl);
        subjects.text("projecturl", &shown.projecturl);
        let predicate = serde_json::to_value(shown).map_err(|error| AttestError::new(error.to_string()))?;
        Ok(Found::Evidence {
            pieces: vec![Evidence {
                predicate_type: ABOUT.predicate_type.to_owned(),
                predicate: Predicate::Composed(predicate),
                back_references: subjects.of_kinds(&["pipelineurl"]),
                subjects: subjects.into_list(),
                place: Place::Collection,
            }],
            shortfalls,
        })
    }
}

fn identity(options: &Options, world: &Before, server: &str) -> Identity {
    if let Some(reason) = no_request(world) {
        return Identity::Absent(reason);
    }
    if let Network::Closed(why) = world.network {
        return Identity::Absent(format!("no token was asked for: {why}"));
    }
    match request(options, world) {
        Ok(token) => {
            let issuer = options.issuer.clone().or_else(|| issuer_of(server));
            let Some(issuer) = issuer else {
                return Identity::Refused(
                    "GITHUB_SERVER_URL names no server, so nobody can have made a token".to_owned(),
                );
            };
            // An enterprise may have an issuer of its own below the common one, and it is the one that has the keys.
            let issuer = own_issuer(&token, &issuer).unwrap_or(issuer);
            match ci_token::prove(world, &token, &issuer, &options.audience, &KeySource::Discovered) {
                Ok(jwt) => Identity::Proven(jwt),
                Err(reason) => Identity::Refused(reason),
            }
        }
        Err(reason) => Identity::Refused(reason),
    }
}

/// Asks the service that the variables name for a token with our audience.
fn request(options: &Options, world: &Before) -> Result<String, String> {
    let Network::Open(network) = &world.network else { return Err("no token can be asked for".to_owned()) };
    token(network.as_ref(), &variable(world, REQUEST[0]), &variable(world, REQUEST[1]), &options.audience)
}

/// Asks GitHub's service for an identity token of the job: `url` and `bearer` are what [`REQUEST`] hold. No error has a
/// part of either.
pub fn token(network: &dyn Fetch, url: &str, bearer: &str, audience: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Answer {
        value: String,
    }

    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}audience={}", escaped(audience));
    let answer = network
        .get(&url, Some(bearer), MAX_ANSWER)
        .map_err(|error| format!("the job's identity token cannot be had: {error}"))?;
    // What is wrong with it is not shown: it may hold the token.
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| format!("the service for identity tokens ({}) gives no token", REQUEST[0]))?;
    Ok(answer.value)
}

/// Who makes the tokens of a server, as GitHub documents it: github.com and its tenants have a host for it, an
/// Enterprise Server a path.
fn issuer_of(server: &str) -> Option<String> {
    let server = server.trim_end_matches('/');
    let (scheme, host) = server.split_once("://")?;
    if host.is_empty() || host.contains(['/', '?', '#', '@']) {
        return None;
    }
    let common = if host == "github.com" {
        "token.actions.githubusercontent.com".to_owned()
    } else if let Some(tenant) = host.strip_suffix(".ghe.com").filter(|tenant| !tenant.contains('.')) {
        format!("token.actions.{tenant}.ghe.com")
    } else {
        return Some(format!("{server}/_services/token"));
    };
    (scheme == "https").then(|| format!("{scheme}://{common}"))
}

/// `<issuer>/<enterprise>`, where that is what the token says.
fn own_issuer(token: &str, issuer: &str) -> Option<String> {
    let token = affiant_core::jwt::Token::read(token).ok()?;
    let found = token.issuer()?;
    let enterprise = found.strip_prefix(issuer)?.strip_prefix('/')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (!enterprise.is_empty() && enterprise.chars().all(is_name)).then(|| found.to_owned())
}

/// A text as a part of a query (RFC 3986 §2.3).
fn escaped(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_follow_from_the_server() {
        for (server, issuer) in [
            ("https://github.com", Some("https://token.actions.githubusercontent.com")),
            ("https://acme.ghe.com/", Some("https://token.actions.acme.ghe.com")),
            ("https://github.corp.test", Some("https://github.corp.test/_services/token")),
            ("https://github.com.evil.test", Some("https://github.com.evil.test/_services/token")),
            ("http://github.com", None),
            ("https://a@github.com", None),
            ("https://", None),
            ("", None),
        ] {
            assert_eq!(issuer_of(server).as_deref(), issuer, "{server}");
        }
    }

    #[test]
    fn audiences_are_escaped() {
        assert_eq!(escaped("https://a.b/c?d&e=é"), "https%3A%2F%2Fa.b%2Fc%3Fd%26e%3D%C3%A9");
    }
}
