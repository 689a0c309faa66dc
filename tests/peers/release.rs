//! The release workflow under `act`: affiant records its own build, its gate judges what is published, and an installer
//! takes it. What costs minutes or leaves this machine is replaced: compiling, and the last word to the forge.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::{Place, need};
use crate::issuer::{Issuer, Lies};

/// `.ci/release` with the parts that compile replaced.
const PARTS: &str = r#"#!/usr/bin/env bash
set -euo pipefail
case $1 in
    build) mkdir -p "$2" && for machine in amd64 arm64; do install -m 755 "$BUILT" "$2/affiant-linux-$machine"; done ;;
    syft) ;;
    share) mkdir -p share/man/man1 && echo page >share/man/man1/affiant.1 && tar -czf "$3/affiant-share.tar.gz" share && rm -r share ;;
    *) exec .ci/release.whole "$@" ;;
esac
"#;
/// The two actions that carry files from job to job.
const UPLOAD: &str = r#"
name: upload
inputs: {name: {}, path: {}, if-no-files-found: {}}
runs:
  using: composite
  steps:
    - shell: bash
      env: {NAME: "${{ inputs.name }}", FROM: "${{ inputs.path }}"}
      run: mkdir -p "$ARTIFACTS/$NAME" && if [ -d "$FROM" ]; then cp -R "$FROM/." "$ARTIFACTS/$NAME/"; else cp $FROM "$ARTIFACTS/$NAME/"; fi && chmod -R a-x,a+X "$ARTIFACTS/$NAME"
"#;
const DOWNLOAD: &str = r#"
name: download
inputs: {name: {}, path: {}, pattern: {}, merge-multiple: {}}
runs:
  using: composite
  steps:
    - shell: bash
      env: {NAME: "${{ inputs.name }}${{ inputs.pattern }}", TO: "${{ inputs.path }}"}
      run: mkdir -p "$TO" && for folder in $ARTIFACTS/$NAME; do cp -R "$folder/." "$TO/"; done
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A repository with the release's files, at `<place>/work`, and what stands in for the rest beside it.
fn repository(place: &Place, issuer: &Issuer) {
    place.sh(&format!(
        "cp -R '{0}/.ci' '{0}/.github' '{0}/LICENSE' '{0}/Cargo.lock' . && mkdir docs && cp '{0}/docs/changelog.md' docs",
        root().display()
    ));
    place.sh("mv .ci/release .ci/release.whole && printf '/dist/\\n/share/\\n' >.gitignore");
    std::fs::write(place.work().join(".ci/release"), PARTS).expect("written");
    place.sh("chmod 755 .ci/release && mkdir -p ../bin ../artifacts ../upload ../download");
    std::fs::write(place.beside("upload/action.yml"), UPLOAD).expect("written");
    std::fs::write(place.beside("download/action.yml"), DOWNLOAD).expect("written");
    for program in ["gh", "skopeo"] {
        let script = format!("#!/bin/sh\necho {program} \"$@\" >>\"$SAID\"\n");
        std::fs::write(place.beside("bin").join(program), script).expect("written");
    }
    place.sh("chmod 755 ../bin/*");
    // The builder of the other tests serves as the release's.
    place.sh("sed -i \"s/BUILDX_BUILDER: release/BUILDX_BUILDER: $BUILDX_BUILDER/; /docker buildx inspect release/d\" .github/workflows/release.yml");

    // What the maintainers do once: docs/how-to/release.md.
    place.affiant("key generate --no-password -o ../release.key").code(0);
    place.affiant("key generate --no-password -o ../policy.key").code(0);
    place.sh(&format!(
        "cp ../release.pub .ci/ && sed -i 's|OWNER/affiant|example/affiant|; s|https://token.actions.githubusercontent.com/.well-known/jwks|{}/_services/token/keys|' .ci/release-job.rego",
        issuer.url()
    ));
    place
        .affiant("policy sign .ci/release-policy.yaml --key ../policy.key --outfile .ci/release-policy.signed.json")
        .code(0);
    place.sh("git remote add origin https://github.com/example/affiant && git add -A && git commit -qm 'a release'");
    place.sh("git init -q --bare ../forge && git remote set-url --push origin \"$(cd ../forge && pwd)\"");
}

/// `act` for one release; the whole of what it says.
fn act(place: &Place, issuer: &Issuer) -> (bool, String) {
    let mut act = place.command("act");
    act.args(["workflow_dispatch", "--workflows", ".github/workflows/release.yml", "--input", "version=v1.2.3"]);
    for platform in ["ubuntu-24.04", "ubuntu-24.04-arm"] {
        act.args(["--platform", &format!("{platform}=-self-hosted")]);
    }
    for (name, folder) in [
        ("actions/upload-artifact@ea165f8d65b6e75b540449e92b4886f43607fa02", "upload"),
        ("actions/download-artifact@d3f86a106a0bac45b974a628896c90dbdf5c8093", "download"),
    ] {
        act.arg("--local-repository").arg(format!("{name}={}", place.beside(folder).display()));
    }
    let text = |name: &str| std::fs::read_to_string(place.beside(name)).expect("a key");
    act.arg("--secret").arg(format!("RELEASE_KEY={}", text("release.key")));
    act.arg("--secret").arg("GITHUB_TOKEN=nothing");
    act.args(["--var", "RELEASE_IMAGE=registry.example/affiant"]);
    act.arg("--var").arg(format!("RELEASE_POLICY_PUB={}", text("policy.pub")));
    let path = std::env::join_paths(
        std::iter::once(place.beside("bin")).chain(std::env::split_paths(
            &place
                .command("act")
                .get_envs()
                .find(|(name, _)| *name == "PATH")
                .and_then(|(_, value)| value.map(ToOwned::to_owned))
                .expect("a path"),
        )),
    )
    .expect("a path");
    act.env("PATH", path);
    let mut variables: Vec<(String, String)> =
        issuer.variables("github").into_iter().filter(|(name, _)| name.starts_with("ACTIONS_ID_TOKEN")).collect();
    let of = |path: PathBuf| path.display().to_string();
    variables.extend([
        ("AFFIANT_ATTESTOR_GITHUB_ISSUER".to_owned(), format!("{}/_services/token", issuer.url())),
        ("ARTIFACTS".to_owned(), of(place.beside("artifacts"))),
        ("BUILT".to_owned(), env!("CARGO_BIN_EXE_affiant").to_owned()),
        ("SAID".to_owned(), of(place.beside("said"))),
    ]);
    for name in ["BUILDKIT_HOST", "BUILDX_CONFIG", "DOCKER_CONFIG"] {
        variables.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
    }
    for (name, value) in variables {
        act.arg("--env").arg(format!("{name}={value}"));
    }
    let output = act.output().expect("act starts");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Who gives the tokens of the release's jobs.
fn job_of(runner: &str) -> Issuer {
    let claims = json!({
        "repository": "example/affiant", "ref": "refs/heads/main", "event_name": "workflow_dispatch",
        "run_id": "1", "run_number": "1", "run_attempt": "1", "iss": "[SERVER]/_services/token",
        "job_workflow_ref": "example/affiant/.github/workflows/release.yml@refs/heads/main",
        "runner_environment": runner,
    });
    Issuer::start("github", Lies { claims, ..Lies::default() })
}

#[test]
fn a_release_is_recorded_judged_and_installed() {
    need!("act", "actionlint", "buildkitd", "docker", "git", "syft");
    let place = Place::on_the_real_clock();
    place.sh(&format!("cd '{}' && actionlint .github/workflows/release.yml", root().display()));
    let issuer = job_of("github-hosted");
    repository(&place, &issuer);

    let (passed, said) = act(&place, &issuer);
    assert!(passed, "{said}");
    let published = std::fs::read_to_string(place.beside("said")).expect("the forge was spoken to");
    assert!(
        published.contains("gh release create v1.2.3")
            && published.contains("docker://registry.example/affiant:v1.2.3"),
        "{published}"
    );
    let release = place.beside("artifacts/release");
    place.sh("git --git-dir ../forge show v1.2.3:.github/actions/affiant/release.txt | grep -q 'linux-arm64 '");

    // What was published is what a user installs.
    place.sh("git --git-dir ../forge tag | grep -qx v1.2.3");
    place.sh(&format!(
        ".ci/release seal v1.2.3 '{0}' && sh '{0}/install.sh' --from '{0}' --prefix ../usr",
        release.display()
    ));
    place.sh("../usr/bin/affiant version");
}

#[test]
fn nothing_is_published_that_the_gate_denies() {
    need!("act", "buildkitd", "docker", "git", "syft");
    let place = Place::on_the_real_clock();
    let issuer = job_of("self-hosted");
    repository(&place, &issuer);
    let (passed, said) = act(&place, &issuer);
    assert!(!passed && said.contains("DENIED") && said.contains("made on a runner that is self-hosted"), "{said}");
    assert!(!place.beside("said").exists() && !place.beside("artifacts/release").exists(), "{said}");
}
