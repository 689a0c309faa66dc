//! Our GitHub action under `act`, on this machine itself: the steps of the container tutorial, and what their evidence
//! is worth at the gate.

use std::path::Path;

use serde_json::json;

use crate::harness::{Place, need};
use crate::issuer::{Issuer, Lies};

/// The two steps as the tutorial has them, with the line that says which action it is.
const WORKFLOW: &str = r#"
name: release
on: push
permissions:
  contents: read
jobs:
  image:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - name: docker-build
        id: build
        uses: ./.github/actions/affiant
        with:
          step: docker-build
          command: docker buildx build --metadata-file docker-metadata.json -t ghcr.io/${{ github.repository }}:${{ github.sha }} -o type=docker,dest=image.tar .
          attestations: environment git github docker oci
          cilock-args: --attestor-product-include-glob "{docker-metadata.json,image.tar}"
      - name: docker-sbom
        uses: ./.github/actions/affiant
        with:
          step: docker-sbom
          command: syft image.tar -o cyclonedx-json=image-bom.cdx.json
          attestations: environment git github sbom
          cilock-args: --attestor-product-include-glob "image-bom.cdx.json"
      - name: keep
        env:
          DIGEST: ${{ steps.build.outputs.digest }}
          FOLDER: ${{ steps.build.outputs.evidence-folder }}
        run: |
          cp -R "$FOLDER/." "$KEPT"
          cp image.tar "$KEPT"
          printf '%s' "$DIGEST" >"$KEPT/digest"
"#;
/// The rule of a release gate on the attestation of the provider.
const RULE: &str = r#"package github

deny contains "the job is not proven" if not input.jwt

deny contains sprintf("keys of %s", [input.jwt.verifiedBy.jwksUrl]) if input.jwt.verifiedBy.jwksUrl != "KEYS"

deny contains sprintf("built for %s", [input.jwt.claims.repository]) if input.jwt.claims.repository != "REPOSITORY"

deny contains sprintf("built from %s", [input.jwt.claims.ref]) if input.jwt.claims.ref != "REF"
"#;

/// The action as a release has it: with the digest of the binary, which the runner has fetched already.
fn release(place: &Place) {
    let action = place.work().join(".github/actions/affiant");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/actions/affiant");
    place.sh(&format!("mkdir -p .github/actions .github/workflows && cp -R '{}' .github/actions/", source.display()));
    let binary = env!("CARGO_BIN_EXE_affiant");
    let digest = place.sh(&format!("sha256sum '{binary}' | cut -c1-64"));
    let cached = place.beside("home/.cache/act/tool_cache/affiant").join(&digest);
    std::fs::create_dir_all(&cached).expect("a folder");
    std::fs::copy(binary, cached.join("affiant")).expect("copied");
    std::fs::write(action.join("release.txt"), format!("version v0.1.0\nlinux-amd64 {digest}\nlinux-arm64 {digest}\n"))
        .expect("written");
    std::fs::write(place.work().join(".github/workflows/release.yml"), WORKFLOW).expect("written");
    place.sh("git remote add origin https://github.com/example/myapp && git add -A && git commit -qm 'a release'");
}

#[test]
fn the_tutorials_steps_run_under_act() {
    need!("act", "actionlint", "buildkitd", "docker", "git", "syft");
    let place = Place::on_the_real_clock();
    place.sh("cd .. && affiant key generate");
    release(&place);
    place.sh("actionlint .github/workflows/release.yml");
    std::fs::create_dir(place.beside("kept")).expect("a folder");

    // act gives a job no identity token; a provider on this machine does, for what act says the job is.
    let claims = json!({
        "repository": "example/myapp",
        "sha": place.sh("git rev-parse HEAD"),
        "ref": "refs/heads/main",
        "run_id": "1", "run_number": "1", "run_attempt": "1",
        "actor": "nektos/act", "event_name": "push",
        "iss": "[SERVER]/_services/token",
    });
    let issuer = Issuer::start("github", Lies { claims, ..Lies::default() });
    let mut act = place.command("act");
    for (name, value) in issuer.variables("github").iter().filter(|(name, _)| name.starts_with("ACTIONS_ID_TOKEN")) {
        act.arg("--env").arg(format!("{name}={value}"));
    }
    act.arg("--env").arg(format!("AFFIANT_ATTESTOR_GITHUB_ISSUER={}/_services/token", issuer.url()));
    act.args(["push", "--platform", "ubuntu-latest=-self-hosted", "--env"]);
    act.arg(format!("AFFIANT_KEY={}", place.beside("affiant.key").display()));
    act.arg("--env").arg(format!("KEPT={}", place.beside("kept").display()));
    // act gives a job no variables of its own.
    for name in ["BUILDKIT_HOST", "BUILDX_BUILDER", "BUILDX_CONFIG", "DOCKER_CONFIG", "SYFT_CHECK_FOR_APP_UPDATE"] {
        if let Some(value) = std::env::var_os(name) {
            act.arg("--env").arg(format!("{name}={}", value.display()));
        }
    }
    let output = act.output().expect("act starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Summary - ## ✅ <code>docker-build</code>"), "{said}");

    let build = place.evidence("kept/docker-build.att.json");
    assert_eq!(build.kinds(), ["environment", "git", "github", "material", "command-run", "product", "docker", "oci"]);
    let github = build.predicate("github");
    assert_eq!(github["projecturl"], "https://github.com/example/myapp");
    assert_eq!(github["affiant"]["verified"], true, "{github}\n{said}");
    let digest = std::fs::read_to_string(place.beside("kept/digest")).expect("the output of the step");
    assert_eq!(digest, format!("sha256:{}", place.sh("sha256sum ../kept/docker-build.att.json | cut -c1-64")));
    place.affiant("archive check --archive dir:../kept/archive").code(0);

    // The gate: a policy made of this evidence, with a rule on the attestation of the provider.
    place.affiant("policy init --from ../kept/docker-build.att.json,../kept/docker-sbom.att.json --key ../affiant.pub --outfile ../policy.yaml").code(0);
    let source = std::fs::read_to_string(place.beside("policy.yaml")).expect("a policy");
    assert_eq!(source.matches("- type: github\n").count(), 2, "{source}");
    let keys = format!("{}/_services/token/keys", issuer.url());
    let keys = keys.as_str();
    for (keys, repository, branch, code, says) in [
        (keys, "example/myapp", "main", 0, "PASSED"),
        (keys, "example/other", "main", 1, "built for example/myapp"),
        (keys, "example/myapp", "release", 1, "built from refs/heads/main"),
        (
            "https://token.actions.githubusercontent.com/.well-known/jwks",
            "example/myapp",
            "main",
            1,
            "keys of http://127.0.0.1",
        ),
    ] {
        let with_rule = source.replace("- type: github\n", "- type: github\n        rego: github.rego\n");
        std::fs::write(place.beside("policy.yaml"), with_rule).expect("written");
        let rule = RULE
            .replace("KEYS", keys)
            .replace("REPOSITORY", repository)
            .replace("REF", &format!("refs/heads/{branch}"));
        std::fs::write(place.beside("github.rego"), rule).expect("written");
        place.affiant("policy sign --key ../affiant.key --outfile ../policy.signed.json ../policy.yaml").code(0);
        let verdict = place
            .affiant(
                "verify -p ../policy.signed.json -k ../affiant.pub --archive dir:../kept/archive ../kept/image.tar",
            )
            .code(code);
        verdict.stdout_has(&[says]);
    }
}

/// A job whose action is wrapped, by the path of the workspace.
const WRAPS: &str = r#"
name: release
on: push
jobs:
  scan:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - id: scan
        uses: ./.github/actions/affiant
        env:
          SCANNER_TOKEN: canary-of-the-scanner
        with:
          step: scan
          action-ref: ./greet
          action-inputs: |
            who-to-greet: crew
            api-token: ${{ env.SCANNER_TOKEN }}
          action-env: EXTRA=and all
      - name: what later steps get
        env:
          GREETING: ${{ fromJSON(steps.scan.outputs.action-outputs).greeting }}
          FOLDER: ${{ steps.scan.outputs.evidence-folder }}
        run: |
          test "$GREETING $PASSED" = "Hello, crew on"
          tool "on the path"
          cp -R "$FOLDER/." "$KEPT"
"#;

#[test]
fn an_action_is_wrapped_under_act() {
    need!("act", "actionlint", "git");
    let place = Place::on_the_real_clock();
    place.sh("cd .. && affiant key generate");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/github-action/greet");
    place.sh(&format!("cp -R '{}' . && mkdir -p greet/bin out && touch out/.keep", fixture.display()));
    place.sh("printf '#!/bin/sh\necho \"$@\"\n' > greet/bin/tool && chmod +x greet/bin/tool");
    release(&place);
    std::fs::write(place.work().join(".github/workflows/release.yml"), WRAPS).expect("written");
    place.sh("git commit -qam 'an action' && actionlint .github/workflows/release.yml && mkdir ../kept");
    let mut act = place.command("act");
    act.args(["push", "--platform", "ubuntu-latest=-self-hosted", "--env"]);
    act.arg(format!("AFFIANT_KEY={}", place.beside("affiant.key").display()));
    act.arg("--env").arg(format!("KEPT={}", place.beside("kept").display()));
    let output = act.output().expect("act starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));

    let envelope = place.evidence("kept/scan.att.json-github-action.json");
    let told = &envelope.statement["predicate"];
    assert_eq!((&told["actionref"], &told["actiontype"]), (&json!("./greet"), &json!("composite")));
    assert_eq!((&told["refpinned"], &told["jobname"]), (&json!(true), &json!("scan")), "{told}");
    assert_eq!(told["actioninputs"]["api-token"], "******");
    assert_eq!(told["actionoutputs"]["greeting"], "Hello, crew");
    let kept = place.sh("cat ../kept/*.json | jq -r '.payload | values' | base64 -d");
    assert!(!kept.contains("canary-of-the-scanner"));
}
