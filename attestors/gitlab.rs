//! The GitLab CI job: its variables, and its identity token (wire-formats §3.7).

use affiant_core::attestor::{
    About, AttestBefore, AttestError, Before, Evidence, Foresight, Found, Network, OptionAbout, Outcome, Place,
    Predicate,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ci_token::{self, AUDIENCE, Identity, Jwt, KeySource, Standing, variable};
use crate::subjects::Subjects;

/// Where the job's token stands when nothing else is said.
const TOKEN: &str = "AFFIANT_ID_TOKEN";
/// Claims that say what variables of the predicate say.
const SAME: [(&str, &str); 3] =
    [("project_id", "CI_PROJECT_ID"), ("pipeline_id", "CI_PIPELINE_ID"), ("job_id", "CI_JOB_ID")];

/// The attestor `gitlab`.
pub(crate) struct Gitlab;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// Whom the token is for.
    #[serde(default = "audience")]
    audience: String,
    /// The variable that holds the token.
    #[serde(default = "token")]
    token_variable: String,
    /// Who makes the tokens, where it is not `CI_SERVER_URL`.
    issuer: Option<String>,
}

fn audience() -> String {
    AUDIENCE.to_owned()
}

fn token() -> String {
    TOKEN.to_owned()
}

/// The predicate, its members in witness's order.
#[derive(Serialize)]
struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<Jwt>,
    ciconfigpath: String,
    jobid: String,
    jobimage: String,
    jobname: String,
    jobstage: String,
    joburl: String,
    pipelineid: String,
    pipelineurl: String,
    projectid: String,
    projecturl: String,
    runnerid: String,
    cihost: String,
    ciserverurl: String,
    affiant: Standing,
}

static ABOUT: About = About {
    name: "gitlab",
    predicate_type: "https://witness.dev/attestations/gitlab/v0.1",
    summary: "Records the GitLab CI job, and proves it with the job's identity token where the job has one.",
    default_when: "where GITLAB_CI is `true`",
    subjects: &[
        "pipelineurl:<url>: SHA-256 of the text",
        "joburl:<url>: SHA-256 of the text",
        "projecturl:<url>: SHA-256 of the text",
    ],
    options: &[
        OptionAbout { name: "audience", help: "Audience of the identity token (default: affiant)" },
        OptionAbout {
            name: "token-variable",
            help: "Variable of `id_tokens:` that holds the identity token (default: AFFIANT_ID_TOKEN)",
        },
        OptionAbout { name: "issuer", help: "Issuer of the identity token (default: CI_SERVER_URL)" },
    ],
    schema: include_str!("schemas/gitlab.json"),
};

fn is_here(world: &Before) -> bool {
    world.env.get("GITLAB_CI") == Some("true")
}

fn no_token(options: &Options, world: &Before) -> Option<String> {
    let name = &options.token_variable;
    world
        .env
        .get(name)
        .is_none_or(str::is_empty)
        .then(|| format!("{name} is not set: the job needs `id_tokens: {{ {name}: {{ aud: {} }} }}`", options.audience))
}

impl AttestBefore for Gitlab {
    type Options = Options;
    const ABOUT: &'static About = &ABOUT;

    fn called_for(world: &Before) -> Option<String> {
        is_here(world).then(|| "GITLAB_CI is `true`".to_owned())
    }

    fn foresee(options: &Options, world: &Before) -> Foresight {
        if !is_here(world) {
            return Foresight::default();
        }
        let why = no_token(options, world).or_else(|| match world.network {
            Network::Open(_) => None,
            Network::Closed(why) => Some(why.to_owned()),
        });
        let note = why.map(|why| format!("the variables of the job will not be verified: {why}"));
        ci_token::foresee(&[&options.token_variable], note)
    }

    fn attest(options: Options, world: &Before) -> Outcome {
        if !is_here(world) {
            return Ok(Found::Nothing("GITLAB_CI is not `true`".to_owned()));
        }
        let identity = identity(&options, world);
        if let Identity::Proven(jwt) = &identity
            && let Some(reason) = ci_token::contradiction(world, jwt, &SAME).or_else(|| other_urls(world, jwt))
        {
            return Err(AttestError::new(reason));
        }
        let (jwt, standing, shortfalls) = identity.parts();
        let shown = Shown {
            jwt,
            ciconfigpath: variable(world, "CI_CONFIG_PATH"),
            jobid: variable(world, "CI_JOB_ID"),
            jobimage: variable(world, "CI_JOB_IMAGE"),
            jobname: variable(world, "CI_JOB_NAME"),
            jobstage: variable(world, "CI_JOB_STAGE"),
            joburl: variable(world, "CI_JOB_URL"),
            pipelineid: variable(world, "CI_PIPELINE_ID"),
            pipelineurl: variable(world, "CI_PIPELINE_URL"),
            projectid: variable(world, "CI_PROJECT_ID"),
            projecturl: variable(world, "CI_PROJECT_URL"),
            runnerid: variable(world, "CI_RUNNER_ID"),
            cihost: variable(world, "CI_SERVER_HOST"),
            ciserverurl: variable(world, "CI_SERVER_URL"),
            affiant: standing,
        };
        let mut subjects = Subjects::default();
        subjects.text("pipelineurl", &shown.pipelineurl);
        subjects.text("joburl", &shown.joburl);
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

fn identity(options: &Options, world: &Before) -> Identity {
    if let Some(reason) = no_token(options, world) {
        return Identity::Absent(reason);
    }
    if let Network::Closed(why) = world.network {
        return Identity::Absent(format!("the issuer's keys were not asked for: {why}"));
    }
    let issuer = options.issuer.clone().unwrap_or_else(|| variable(world, "CI_SERVER_URL"));
    if issuer.is_empty() {
        return Identity::Refused("CI_SERVER_URL is not set, so nobody can have made a token".to_owned());
    }
    let token = variable(world, &options.token_variable);
    match ci_token::prove(world, &token, &issuer, &options.audience, &KeySource::Discovered) {
        Ok(jwt) => Identity::Proven(jwt),
        Err(reason) => Identity::Refused(format!("{}: {reason}", options.token_variable)),
    }
}

/// Whether the URLs, which become subjects, are others than the token's project, pipeline and job have.
fn other_urls(world: &Before, jwt: &Jwt) -> Option<String> {
    let server = variable(world, "CI_SERVER_URL");
    let claim = |name: &str| match jwt.claims.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let project = format!("{}/{}", server.trim_end_matches('/'), claim("project_path")?);
    let wanted = [
        ("CI_PROJECT_URL", Some(project.clone())),
        ("CI_PIPELINE_URL", claim("pipeline_id").map(|id| format!("{project}/-/pipelines/{id}"))),
        ("CI_JOB_URL", claim("job_id").map(|id| format!("{project}/-/jobs/{id}"))),
    ];
    wanted.into_iter().find_map(|(name, wanted)| {
        let (set, wanted) = (variable(world, name), wanted?);
        (!set.is_empty() && set != wanted).then(|| {
            format!(
                "{name} is `{set}`, but by the job's identity token it is `{wanted}`: the variables are not the job's"
            )
        })
    })
}
