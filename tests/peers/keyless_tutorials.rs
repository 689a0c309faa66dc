//! Tutorials of others that sign without a key, with affiant under the name `cosign`. The Sigstore instance is a private
//! one: its services are named by variables, and what is trusted by `--trusted-root`; its issuers' URLs stand where those
//! of GitLab and GitHub do. Everything else is word for word.

use serde_json::Value;

use crate::harness::{Ended, Place, text};
use crate::hosts::{call, place, registries, sh};
use crate::stack::{GITLAB, Stack, need_sigstore, proofs};
use crate::tutorials::{Annotate, instead, link_cosign};

#[test]
fn the_annotate_tutorials_of_gitlab() {
    need_sigstore!("dockerd", "docker", "crane", "git", "jq");
    let stack = Stack::new();
    let [_, with_password, with_tokens, _] = registries();
    let files = ["gitlab-annotate.gitlab-ci.yml", "gitlab-annotate.ja.gitlab-ci.yml"];
    for (proof, file) in proofs().flat_map(|proof| files.map(|file| (proof.clone(), file))) {
        // A timestamp alone is a choice of the verifier, which the tutorial does not make.
        if proof.name == "tsa" {
            continue;
        }
        let refers = file.contains(".ja.");
        let host = if refers { &with_tokens } else { &with_password };
        let mut job = Annotate::new(file, host, "Doe, Jane");
        assert_eq!(job.script.contains("--registry-referrers-mode oci-1-1"), refers);
        let sha = format!("sha={}", job.sha);
        job.give("CI_SERVER_URL", &stack.service("gitlab"));
        job.give("SIGSTORE_ID_TOKEN", &stack.gitlab(&job.place, &[&sha, &format!("ci_config_{sha}")]));
        job.give("COSIGN_SIGNING_CONFIG", &stack.config(proof.name));
        job.give("COSIGN_TRUSTED_ROOT", &stack.root());
        // Statements may be sent to the log as they are.
        job.give("COSIGN_LOG", if proof.name == "rekor1" { "rekor1" } else { "auto" });
        let root = format!("cosign verify --trusted-root {} \\\n", stack.root());
        let script = instead(&job.script, "cosign verify \\\n", &root);
        let ended = job.run(&script).code(0);
        job.shows_the_payload(&ended);
        let refused = job.verify_another_tag(&script).code(12);
        assert!(refused.stderr.contains("missing or incorrect annotation: tag=other"), "{}", refused.stderr);
        // As another project would ask, and without the root.
        let asked = script.split("cosign verify").nth(1).expect("the last step");
        let asked = asked.split(" | jq").next().expect("a command");
        let other = instead(asked, "$CI_PROJECT_URL//", "$CI_SERVER_URL/group/other//");
        let refused = job.run(&format!("cosign verify{other}")).code(12);
        assert!(refused.stderr.contains(GITLAB), "{}", refused.stderr);
        job.end();
    }
}

/// The steps of cilock's container tutorial that are cosign's, with a job of GitHub.
#[test]
fn the_cosign_steps_of_the_container_tutorial() {
    need_sigstore!("buildkitd", "docker", "crane", "jq");
    let stack = Stack::new();
    for host in registries() {
        let place = place();
        link_cosign(&place);
        let plugins = crate::harness::variable("DOCKER_CONFIG").expect("it is set");
        sh(&place, &format!("ln -s '{plugins}/cli-plugins' ../home/.docker/cli-plugins"));
        let image = format!("{host}/example/{}:{}", place.unique(), sh(&place, "git rev-parse HEAD"));
        let token = stack.github(
            &place,
            &[
                "repository=example/myapp",
                "sub=repo:example/myapp:ref:refs/heads/main",
                "workflow_ref=example/myapp/.github/workflows/release.yml@refs/heads/main",
                "job_workflow_ref=example/myapp/.github/workflows/release.yml@refs/heads/main",
            ],
        );
        let job = Job { place: &place, stack: &stack, token, proof: "rekor2" };
        let _ = job.run(&format!("docker buildx build \\\n-t {image} \\\n--push .")).code(0);
        let _ = job.run(&format!("cosign sign --yes \\\n{image}")).code(0);
        let verify = |identity: &str| {
            job.run(&format!(
                "cosign verify --trusted-root {} \\\n--certificate-identity-regexp '{identity}' \\\n\
                 --certificate-oidc-issuer '{}' \\\n{image}",
                stack.root(),
                stack.service("github")
            ))
        };
        let taken = verify("https://github.com/example/myapp/.+").code(0);
        let shown: Value = serde_json::from_str(&taken.stdout).expect("one array and nothing else");
        let digest = sh(&place, &format!("crane digest {image}"));
        assert_eq!(shown[0]["critical"]["image"]["docker-manifest-digest"], digest);
        let refused = verify("https://github.com/example/other/.+").code(12);
        assert!(refused.stderr.contains("https://github.com/example/myapp/"), "{}", refused.stderr);
        // A part of the identity is not the identity.
        let _ = verify("https://github.com/example/my").code(12);
    }
}

/// A job's shell, in which `cosign` is affiant.
struct Job<'a> {
    place: &'a Place,
    stack: &'a Stack,
    token: String,
    proof: &'static str,
}

impl Job<'_> {
    fn run(&self, script: &str) -> Ended {
        let mut command = self.place.command("sh");
        command.args(["-euc", &format!("PATH=\"{}:$PATH\"\n{script}", self.place.beside("bin").display())]);
        command.env("DOCKER_CONFIG", self.place.beside("home/.docker"));
        command.env("SIGSTORE_ID_TOKEN", &self.token);
        command.env("COSIGN_SIGNING_CONFIG", self.stack.config(self.proof));
        command.env("COSIGN_TRUSTED_ROOT", self.stack.root());
        command.env("COSIGN_LOG", if self.proof == "rekor1" { "rekor1" } else { "auto" });
        Ended::of(&command.output().expect("a shell is there"))
    }
}

/// What trivy 0.58.1 wrote for `image --format cosign-vuln`, recorded: an image of Debian's with one package, and a
/// database that knows one weakness of it.
const VULNERABILITIES: &str = include_str!("../../fixtures/tutorials/trivy.vuln.json");

/// "Why Sign Container Images": sign, attest an SBOM of syft and the report of a scanner, verify.
#[test]
fn the_pipeline_tutorial() {
    need_sigstore!("dockerd", "docker", "crane", "syft", "jq");
    let stack = Stack::new();
    let [open, .., with_list] = registries();
    for proof in proofs().filter(|proof| proof.name != "tsa") {
        let host = if proof.name == "rekor1" { &open } else { &with_list };
        let place = place();
        link_cosign(&place);
        std::fs::write(place.beside("trivy.json"), VULNERABILITIES).expect("written");
        // Nothing but the recorded document is behind this name.
        std::fs::write(place.beside("bin/trivy"), "#!/bin/sh\nexec cat ../trivy.json\n").expect("written");
        sh(&place, "chmod +x ../bin/trivy");
        let name = format!("{host}/{}/app:{}", place.unique(), sh(&place, "git rev-parse HEAD"));
        // The engine would name an image that it knows by the name that it knows.
        sh(&place, &format!("echo '# {name}' >>app/hello"));
        let token = stack.gitlab(
            &place,
            &[
                "project_path=myorg/app",
                "namespace_path=myorg",
                "sub=project_path:myorg/app:ref_type:branch:ref:main",
                "ci_config_ref_uri=gitlab.com/myorg/app//.gitlab-ci.yml@refs/heads/main",
            ],
        );
        let job = Job { place: &place, stack: &stack, token, proof: proof.name };
        let _ = job.run(&format!("docker build -t {name} . && docker push {name}")).code(0);
        let digest = sh(&place, &format!("docker inspect --format='{{{{index .RepoDigests 0}}}}' {name}"));
        let lines = [
            "cosign sign --yes $DIGEST",
            "syft registry:$DIGEST -o cyclonedx-json > sbom.cdx.json",
            "cosign attest --yes --predicate sbom.cdx.json --type cyclonedx $DIGEST",
            "trivy image $DIGEST --format cosign-vuln > vuln.json",
            "cosign attest --yes --predicate vuln.json --type vuln $DIGEST",
        ];
        let _ = job
            .run(&format!("export DIGEST={digest} SYFT_REGISTRY_INSECURE_USE_HTTP=true\n{}", lines.join("\n")))
            .code(0);
        let asked = |verb: &str, organization: &str| {
            job.run(&format!(
                "DIGEST={digest}\ncosign {verb} \\\n--trusted-root {} \\\n--certificate-identity-regexp=\"https://gitlab.com/{organization}/.*\" \\\n\
                 --certificate-oidc-issuer=\"{}\"",
                stack.root(),
                stack.service("gitlab")
            ))
        };
        let shown = asked("verify $DIGEST", "myorg").code(0);
        let shown: Value = serde_json::from_str(&shown.stdout).expect("one array and nothing else");
        assert_eq!(
            format!("@{}", text(&shown[0]["critical"]["image"]["docker-manifest-digest"])),
            digest[digest.find('@').expect("a digest")..]
        );
        for kind in ["cyclonedx", "vuln"] {
            let verb = format!("verify-attestation $DIGEST --type {kind}");
            let taken = asked(&verb, "myorg").code(0);
            let envelope: Value = serde_json::from_str(taken.stdout.lines().next().expect("a line")).expect("JSON");
            let statement: Value = serde_json::from_slice(&crate::harness::decode(&envelope["payload"])).expect("JSON");
            let file = if kind == "vuln" { "vuln.json" } else { "sbom.cdx.json" };
            assert_eq!(statement["predicate"], place.json(file), "{kind}");
            let _ = asked(&verb, "other").code(12);
            // And for cosign itself.
            let theirs = call(
                &place,
                "cosign3",
                &[
                    "verify-attestation",
                    &digest,
                    "--type",
                    kind,
                    "--trusted-root",
                    &stack.root(),
                    "--certificate-identity-regexp=https://gitlab.com/myorg/.*",
                    "--certificate-oidc-issuer",
                    &stack.service("gitlab"),
                ],
            );
            assert!(theirs.passed(), "{kind}: {}", theirs.stderr);
        }
        let _ = asked("verify $DIGEST", "other").code(12);
        let _ = asked("verify-attestation $DIGEST --type spdx", "myorg").code(12);
        sh(&place, &format!("docker rmi -f {name}"));
    }
}
