//! Our GitLab component under `gitlab-ci-local`, with its shell executor: the job of the GitLab tutorial with the component
//! in front of `docker build`, and an identity token as GitLab gives it.

use std::path::Path;

use crate::harness::{Place, need};
use crate::issuer::{Issuer, Lies};

const PIPELINE: &str = r#"
stages:
  - build
variables:
  IMAGE_URI: NAME:$CI_COMMIT_SHORT_SHA
include:
  - local: .gitlab/affiant/template.yml
    inputs:
      job: build_and_sign
      step: docker-build
      command: docker build -t "$IMAGE_URI" . && echo "$IMAGE_URI" >image.txt
      attestations: environment git gitlab docker
      binary: affiant
"#;
/// The same as one who comes from cilock's template has it.
const PLAIN: &str = r#"
include:
  - local: .gitlab/affiant/template.yml
compile:
  extends: .cilock
  image: docker:latest
  variables:
    CILOCK_STEP: compile
    CILOCK_COMMAND:
      value: echo "made on $CI_COMMIT_REF_NAME" >made
      expand: false
    CILOCK_ATTESTATIONS: "environment git"
"#;

fn job(place: &Place, name: &str, pipeline: &str, variables: &[(String, String)]) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(".gitlab/affiant");
    place.sh(&format!("mkdir -p .gitlab && cp -R '{}' .gitlab/", source.display()));
    std::fs::write(place.work().join(".gitlab-ci.yml"), pipeline).expect("written");
    place.sh("git add -A && git commit -qm 'a pipeline' && git config user.name Ada && git config user.email ada@example.org");
    place.sh("git remote add origin git@gitlab.example.com:my-group/my-project.git");
    let mut command = place.command("gitlab-ci-local");
    command.args(["--force-shell-executor", "--variable"]);
    command.arg(format!("AFFIANT_KEY={}", place.beside("affiant.key").display()));
    for (name, value) in variables {
        command.arg("--variable").arg(format!("{name}={value}"));
    }
    let output = command.arg(name).output().expect("gitlab-ci-local starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn the_component_wraps_docker_build() {
    need!("dockerd", "docker", "git", "gitlab-ci-local", "rsync");
    let place = Place::on_the_real_clock();
    place.sh("cd .. && affiant key generate");
    let issuer = Issuer::start("gitlab", Lies::default());
    let mut variables: Vec<(String, String)> = issuer.variables("gitlab").into_iter().collect();
    variables.push(("DOCKER_HOST".to_owned(), std::env::var("DOCKER_HOST").unwrap_or_default()));
    variables.push(("DOCKER_API_VERSION".to_owned(), std::env::var("DOCKER_API_VERSION").unwrap_or_default()));
    let image = format!("affiant/{}", place.unique());
    let said = job(&place, "build_and_sign", &PIPELINE.replace("NAME", &image), &variables);

    let folder = place.work().join(".gitlab-ci-local/artifacts/build_and_sign/affiant-evidence");
    let evidence = crate::harness::Evidence::read(&folder.join("docker-build.att.json"));
    let gitlab = evidence.predicate("gitlab");
    assert_eq!(gitlab["affiant"]["verified"], true, "{gitlab}\n{said}");
    assert_eq!(gitlab["jwt"]["claims"]["project_path"], "my-group/my-project");
    let built = std::fs::read_to_string(place.work().join("image.txt")).expect("the command ran");
    let id = place.sh(&format!("docker image inspect --format '{{{{.Id}}}}' {}", built.trim()));
    assert!(evidence.statement.to_string().contains(id.trim_start_matches("sha256:")), "{id}");
    place.sh(&format!("docker rmi -f {} >/dev/null", built.trim()));

    let junit = std::fs::read_to_string(folder.join("junit.xml")).expect("a report");
    assert!(junit.contains("failures=\"0\""), "{junit}");
    let handed = std::fs::read_to_string(place.work().join("cilock.env")).expect("a dotenv report");
    let digest = place.sh(&format!("sha256sum '{}' | cut -c1-64", folder.join("docker-build.att.json").display()));
    assert!(handed.contains(&format!("attestation_digest=sha256:{digest}\n")), "{handed}");
    for token in issuer.tokens() {
        assert!(!said.contains(&token) && !evidence.statement.to_string().contains(&token));
    }
}

#[test]
fn a_job_of_cilocks_template_stays_as_it_is() {
    need!("git", "gitlab-ci-local", "rsync");
    let place = Place::on_the_real_clock();
    place.sh("cd .. && affiant key generate");
    place.sh("git checkout -q -b release/1");
    job(&place, "compile", PLAIN, &[]);
    let made = std::fs::read_to_string(place.work().join("made")).expect("the command ran");
    assert_eq!(made, "made on release/1\n");
    let folder = place.work().join(".gitlab-ci-local/artifacts/compile/affiant-evidence");
    let evidence = crate::harness::Evidence::read(&folder.join("compile.att.json"));
    assert_eq!(evidence.statement["predicate"]["name"], "compile");
}
