//! The Jenkins build: its variables (wire-formats §3.8). Jenkins proves nothing of them.

use affiant_core::attestor::{
    About, AttestBefore, AttestError, Before, Evidence, Foresight, Found, Outcome, Place, Predicate,
};
use serde::{Deserialize, Serialize};

use crate::ci_token::{self, Identity, Standing, variable};
use crate::subjects::Subjects;

const UNPROVEN: &str = "Jenkins itself gives a build no identity token";

/// The attestor `jenkins`.
pub(crate) struct Jenkins;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {}

/// The predicate, its members in witness's order.
#[derive(Serialize)]
struct Shown {
    buildid: String,
    buildnumber: String,
    buildtag: String,
    pipelineurl: String,
    executornumber: String,
    javahome: String,
    jenkinsurl: String,
    jobname: String,
    nodename: String,
    workspace: String,
    affiant: Standing,
}

static ABOUT: About = About {
    name: "jenkins",
    predicate_type: "https://witness.dev/attestations/jenkins/v0.1",
    summary: "Records the Jenkins build as its variables say; nothing proves them.",
    default_when: "where JENKINS_URL is set",
    subjects: &["pipelineurl:<url>: SHA-256 of the text", "jenkinsurl:<url>: SHA-256 of the text"],
    options: &[],
    schema: include_str!("schemas/jenkins.json"),
};

fn is_here(world: &Before) -> bool {
    world.env.get("JENKINS_URL").is_some_and(|url| !url.is_empty())
}

impl AttestBefore for Jenkins {
    type Options = Options;
    const ABOUT: &'static About = &ABOUT;

    fn called_for(world: &Before) -> Option<String> {
        is_here(world).then(|| "JENKINS_URL is set".to_owned())
    }

    fn foresee(_: &Options, world: &Before) -> Foresight {
        let note = is_here(world).then(|| format!("the variables of the build will not be verified: {UNPROVEN}"));
        ci_token::foresee(&[], note)
    }

    fn attest(_: Options, world: &Before) -> Outcome {
        if !is_here(world) {
            return Ok(Found::Nothing("JENKINS_URL is not set".to_owned()));
        }
        let (_, standing, shortfalls) = Identity::Absent(UNPROVEN.to_owned()).parts();
        let shown = Shown {
            buildid: variable(world, "BUILD_ID"),
            buildnumber: variable(world, "BUILD_NUMBER"),
            buildtag: variable(world, "BUILD_TAG"),
            pipelineurl: variable(world, "BUILD_URL"),
            executornumber: variable(world, "EXECUTOR_NUMBER"),
            javahome: variable(world, "JAVA_HOME"),
            jenkinsurl: variable(world, "JENKINS_URL"),
            jobname: variable(world, "JOB_NAME"),
            nodename: variable(world, "NODE_NAME"),
            workspace: variable(world, "WORKSPACE"),
            affiant: standing,
        };
        let mut subjects = Subjects::default();
        subjects.text("pipelineurl", &shown.pipelineurl);
        subjects.text("jenkinsurl", &shown.jenkinsurl);
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
