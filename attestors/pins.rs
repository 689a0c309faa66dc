//! `pins`: what the pipeline itself runs on, and whether each of it is pinned.
//!
//! The running workflow of GitHub or pipeline of GitLab, what it takes from the repository, and the Dockerfile of a
//! container build: every action, image, include and base, with file and line, whether it is pinned by a commit or a
//! digest, and who publishes it. Nothing is asked of another machine.

mod builds;
mod collector;
mod dockerfile;
mod files;
mod github;
mod gitlab;
mod reference;

use affiant_core::attestor::{About, AttestBefore, AttestError, Before, Evidence, Found, Outcome, Place, Predicate};
use affiant_core::digest::DigestSet;
use affiant_core::statement::Subject;
use serde::{Deserialize, Serialize};

use self::collector::{At, Collector, Gap, Pin};
use self::files::Repository;
use crate::subjects::Subjects;

/// The attestor `pins`.
pub(crate) struct Pins;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {}

/// The predicate.
#[derive(Serialize)]
struct Shown<'a> {
    files: Vec<Read<'a>>,
    pins: &'a [Pin],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    gaps: &'a [Gap],
}

/// A file that was read.
#[derive(Serialize)]
struct Read<'a> {
    path: &'a str,
    digest: DigestSet,
}

static ABOUT: About = About {
    name: "pins",
    predicate_type: "urn:affiant:pins:v0.1",
    summary: "Records what the pipeline itself runs on (actions, includes, images, bases), and whether it is pinned.",
    default_when: "where the workflow or pipeline that runs now is found in the repository, or the command is a container build with a Dockerfile",
    subjects: &["pipelinefile:<path>: digest of the file"],
    options: &[],
    schema: include_str!("schemas/pins.json"),
};

fn is_set(world: &Before, name: &str, value: &str) -> bool {
    world.env.get(name) == Some(value)
}

/// A collector at the root of the repository.
fn collector(world: &Before) -> Option<Collector<'_>> {
    let named = builds::root(world).and_then(Repository::at).filter(|repository| repository.holds(&world.dir));
    Some(Collector::new(named.or_else(|| Repository::around(&world.dir))?, &world.env))
}

/// Notes the files of the pipeline that runs. Whether a provider is there at all.
fn pipelines(collector: &mut Collector<'_>, world: &Before) -> bool {
    let (github, gitlab) = (is_set(world, "GITHUB_ACTIONS", "true"), is_set(world, "GITLAB_CI", "true"));
    let jenkins = world.env.get("JENKINS_URL").is_some_and(|url| !url.is_empty());
    if github {
        let at = At::outside("GITHUB_WORKFLOW_REF");
        match github::running(collector) {
            Ok(files) => {
                for file in files {
                    if let Some(commit) = world.env.get("GITHUB_WORKFLOW_SHA").filter(|commit| !commit.is_empty()) {
                        collector.compare(&file, commit);
                    }
                    collector.workflow(file, at.clone());
                }
            }
            Err(reason) => collector.gap(Some(&at), "missing", reason),
        }
    }
    if gitlab && let Some(file) = gitlab::running(collector) {
        if let Some(commit) = world.env.get("CI_COMMIT_SHA").filter(|commit| !commit.is_empty()) {
            collector.compare(&file, commit);
        }
        collector.gitlab(file, At::outside("CI_CONFIG_PATH"));
    }
    if jenkins {
        let reason = "the pipeline was not read: a Jenkinsfile is a program, and what it takes in shows when it runs";
        collector.gap(Some(&At::outside("Jenkins")), "jenkins", reason);
    }
    github || gitlab || jenkins
}

impl AttestBefore for Pins {
    type Options = Options;
    const ABOUT: &'static About = &ABOUT;

    fn called_for(world: &Before) -> Option<String> {
        if let Some(mut collector) = collector(world) {
            if is_set(world, "GITHUB_ACTIONS", "true")
                && let Ok(files) = github::running(&mut collector)
            {
                return Some(format!("{} runs now", files.join(" or ")));
            }
            if is_set(world, "GITLAB_CI", "true")
                && let Some(file) = gitlab::running(&mut collector)
            {
                return Some(format!("{file} runs now"));
            }
        }
        Some(format!("the command is `{}`", builds::called_for(world)?))
    }

    fn attest(_: Options, world: &Before) -> Outcome {
        let Some(mut collector) = collector(world) else {
            return Err(AttestError::new("the working directory cannot be read"));
        };
        let in_ci = pipelines(&mut collector, world);
        let builds = builds::collect(&mut collector, world);
        if !in_ci && !builds {
            return Ok(Found::Nothing("no pipeline runs here, and the command builds no container".to_owned()));
        }
        collector.run();
        collector.pins.sort_by(|one, other| one.place().cmp(&other.place()));
        let digests = || collector.repository.read.iter().map(|(path, hex)| (path, DigestSet::sha256_hex(hex)));
        let mut subjects = Subjects::default();
        for (path, digest) in digests() {
            subjects.add(Subject::new(format!("pipelinefile:{path}"), digest));
        }
        let shown = Shown {
            files: digests().map(|(path, digest)| Read { path, digest }).collect(),
            pins: &collector.pins,
            gaps: &collector.gaps,
        };
        let predicate = serde_json::to_value(shown).map_err(|error| AttestError::new(error.to_string()))?;
        Ok(Found::Evidence {
            pieces: vec![Evidence {
                predicate_type: ABOUT.predicate_type.to_owned(),
                predicate: Predicate::Composed(predicate),
                back_references: Vec::new(),
                subjects: subjects.into_list(),
                // witness does not know the type.
                place: Place::OwnEnvelope,
            }],
            shortfalls: collector.gaps.iter().map(Gap::text).collect(),
        })
    }
}
