//! Tutorials of others, line by line, with affiant under the names that stand in them.

use serde_json::{Value, json};

use crate::harness::{Ended, Place, fixture, need, variable};
use crate::hosts::{call, place, registries, sh};

/// The items of a list in a pipeline file: `name:`, then `- line` or `- |` with a block.
fn items(pipeline: &str, name: &str) -> Vec<String> {
    let begin = format!("  {name}:");
    let mut items: Vec<String> = Vec::new();
    let list = pipeline.lines().skip_while(|line| *line != begin).skip(1);
    for line in list.take_while(|line| line.is_empty() || line.starts_with("    ")) {
        let line = line.strip_prefix("    ").unwrap_or_default();
        if let Some(item) = line.strip_prefix("- ") {
            items.push(if item == "|" { String::new() } else { item.to_owned() });
        } else if let Some(rest) = line.strip_prefix("  ") {
            let block = items.last_mut().expect("a block is part of an item");
            block.push_str(rest);
            block.push('\n');
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{line}");
        }
    }
    items
}

/// The value of each variable of the job, as it stands there.
fn variables(pipeline: &str) -> Vec<(&str, &str)> {
    let list = pipeline.lines().skip_while(|line| *line != "  variables:").skip(1);
    list.map_while(|line| line.strip_prefix("    "))
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name, value.split(" #").next().unwrap_or_default().trim().trim_matches('"')))
        .collect()
}

/// One line of a script in place of another.
#[track_caller]
pub(crate) fn instead(script: &str, before: &str, after: &str) -> String {
    let (head, tail) = script.split_once(before).unwrap_or_else(|| panic!("`{before}` is not in the tutorial"));
    assert!(!tail.contains(before), "`{before}` stands there twice");
    format!("{head}{after}{tail}")
}

/// A folder with affiant as `cosign`, and an `apk` that has nothing to install.
pub(crate) fn link_cosign(place: &Place) {
    sh(
        place,
        &format!(
            "mkdir ../bin && ln -s '{}' ../bin/cosign && printf '#!/bin/sh\\n' >../bin/apk && chmod +x ../bin/apk",
            env!("CARGO_BIN_EXE_affiant")
        ),
    );
}

/// GitLab's "Annotate container images with build provenance data" as a job: build, push, inspect, sign with eleven
/// annotations, verify by tag.
pub(crate) struct Annotate {
    pub(crate) place: Place,
    /// `host/group/name`, what GitLab calls the project's registry.
    pub(crate) project: String,
    /// The commit.
    pub(crate) sha: String,
    user: String,
    given: Vec<(&'static str, String)>,
    own: String,
    /// All lines of the job.
    pub(crate) script: String,
}

impl Annotate {
    /// A job of the pipeline file of this name for a registry that wants a password, by this user.
    pub(crate) fn new(file: &str, host: &str, user: &str) -> Self {
        let pipeline = std::fs::read_to_string(fixture("tutorials").join(file)).expect("the example");
        let place = place();
        link_cosign(&place);
        let project = format!("{host}/group/{}", place.unique());
        // The image to build from is in the same closed registry, and not in the engine.
        sh(&place, &format!("docker build -q --label of={project} --target text -t {project}/base:1 . >/dev/null"));
        sh(&place, &format!("docker push -q {project}/base:1; docker rmi -f {project}/base:1"));
        sh(&place, &format!("printf 'FROM {project}/base:1\\nCOPY app/hello /app/\\n' >Dockerfile"));
        // The job has no password but the one that it logs in with.
        std::fs::write(place.beside("home/.docker/config.json"), "{}").expect("written");
        let sha = sh(&place, "git rev-parse HEAD");
        let given = vec![
            ("CI_REGISTRY", host.to_owned()),
            ("CI_REGISTRY_IMAGE", project.clone()),
            ("CI_JOB_TOKEN", variable("AFFIANT_PEERS_REGISTRY_SECRET").expect("it is set")),
            ("GITLAB_USER_NAME", user.to_owned()),
            ("CI_PIPELINE_ID", "1001".to_owned()),
            ("CI_PIPELINE_URL", "https://gitlab.example.com/group/project/-/pipelines/1001".to_owned()),
            ("CI_JOB_ID", "2002".to_owned()),
            ("CI_JOB_URL", "https://gitlab.example.com/group/project/-/jobs/2002".to_owned()),
            ("CI_COMMIT_SHA", sha.clone()),
            ("CI_COMMIT_SHORT_SHA", sha[..8].to_owned()),
            ("CI_COMMIT_REF_NAME", "main".to_owned()),
            ("CI_PROJECT_PATH", "group/project".to_owned()),
            ("CI_PROJECT_URL", "https://gitlab.example.com/group/project".to_owned()),
            ("CI_SERVER_URL", "https://gitlab.example.com".to_owned()),
        ];
        // The job's own variables: the shell puts in what GitLab puts in.
        let own: Vec<String> =
            variables(&pipeline).iter().map(|(name, value)| format!("export {name}=\"{value}\"")).collect();
        assert_eq!(own.len(), 4, "{own:?}");
        let lines = [items(&pipeline, "before_script"), items(&pipeline, "script")].concat();
        assert_eq!(lines.len(), 7, "{lines:?}");
        let (own, script) = (own.join("\n"), lines.join("\n"));
        Self { place, project, sha, user: user.to_owned(), given, own, script }
    }

    /// Another variable of GitLab's, or one that it gives otherwise.
    pub(crate) fn give(&mut self, name: &'static str, value: &str) {
        self.given.retain(|(given, _)| *given != name);
        self.given.push((name, value.to_owned()));
    }

    /// The tag that the job makes.
    pub(crate) fn tag(&self) -> &str {
        &self.sha[..8]
    }

    /// Lines of the job in its shell.
    pub(crate) fn run(&self, script: &str) -> Ended {
        let mut command = self.place.command("sh");
        let bin = self.place.beside("bin");
        command.args(["-euc", &format!("PATH=\"{}:$PATH\"\n{}\n{script}", bin.display(), self.own)]);
        command.env("DOCKER_CONFIG", self.place.beside("home/.docker")).env("COSIGN_PASSWORD", "pass word");
        Ended::of(&command.envs(self.given.clone()).output().expect("a shell is there"))
    }

    /// That the job has shown, with `jq`, one payload with the digest of the image and the eleven annotations.
    #[track_caller]
    pub(crate) fn shows_the_payload(&self, ended: &Ended) {
        let tag = self.tag();
        // What jq prints is the end of stdout; docker's own words are before it.
        let begin = ended.stdout.find("\n[\n").expect("an array, as jq writes it");
        let shown: Value = serde_json::from_str(&ended.stdout[begin..]).expect("one array and nothing else");
        let of = |name: &str| self.given.iter().find(|(given, _)| *given == name).expect("a variable").1.clone();
        let digest = sh(&self.place, &format!("crane digest {}:{tag}", self.project));
        let payloads = shown.as_array().expect("an array");
        assert_eq!(payloads.len(), 1, "{shown}");
        assert_eq!(payloads[0]["critical"]["image"]["docker-manifest-digest"], digest);
        let mut optional = payloads[0]["optional"].as_object().expect("annotations").clone();
        // What the verifier says of a certificate stands under names of its own.
        optional.retain(|name, _| name.starts_with(|letter: char| letter.is_ascii_lowercase()));
        assert_eq!(
            Value::Object(optional),
            json!({
                "com.gitlab.ci.user.name": self.user,
                "com.gitlab.ci.pipeline.id": of("CI_PIPELINE_ID"),
                "com.gitlab.ci.pipeline.url": of("CI_PIPELINE_URL"),
                "com.gitlab.ci.job.id": of("CI_JOB_ID"),
                "com.gitlab.ci.job.url": of("CI_JOB_URL"),
                "com.gitlab.ci.commit.sha": of("CI_COMMIT_SHA"),
                "com.gitlab.ci.commit.ref.name": of("CI_COMMIT_REF_NAME"),
                "com.gitlab.ci.project.path": of("CI_PROJECT_PATH"),
                "org.opencontainers.image.source": of("CI_PROJECT_URL"),
                "org.opencontainers.image.revision": of("CI_COMMIT_SHA"),
                "tag": tag,
            })
        );
    }

    /// The verification of the script, with another tag on the image.
    pub(crate) fn verify_another_tag(&self, script: &str) -> Ended {
        let other = script.split("cosign verify").nth(1).expect("the last step");
        let other = other.split(" | jq").next().expect("a command");
        let (project, tag) = (&self.project, self.tag());
        self.run(&format!(
            "crane tag {project}:{tag} other; IMAGE_TAG=other; IMAGE_URI={project}:other\ncosign verify{other}"
        ))
    }

    /// Takes what it has built out of the engine.
    pub(crate) fn end(&self) {
        sh(&self.place, &format!("docker rmi -f {0}:{1} {0}/base:1", self.project, self.tag()));
    }
}

#[test]
fn the_annotate_tutorial_of_gitlab_with_a_key() {
    need!("dockerd", "docker", "registry-password", "registry-token", "crane", "cosign2", "cosign3", "git", "jq");
    let [_, with_password, with_tokens, _] = registries();
    for (host, user) in [(&with_password, "Doe, Jane"), (&with_tokens, "Jane \"JD\" Doe, Ph. D., x=y")] {
        let job = Annotate::new("gitlab-annotate.gitlab-ci.yml", host, user);
        let script = instead(
            &job.script,
            "cosign sign \"$IMAGE_DIGEST\" \\\n",
            "cosign sign --key ../k.key \"$IMAGE_DIGEST\" \\\n",
        );
        let script = instead(
            &script,
            "--certificate-identity \"$CI_PROJECT_URL//.gitlab-ci.yml@refs/heads/$CI_COMMIT_REF_NAME\" \\\n",
            "--key ../k.pub \\\n",
        );
        let script =
            instead(&script, "--certificate-oidc-issuer \"$CI_SERVER_URL\" \\\n", "--private-infrastructure \\\n");
        let _ = job.run("cosign generate-key-pair --output-key-prefix ../k").code(0);
        let ended = job.run(&script).code(0);
        job.shows_the_payload(&ended);
        // cosign itself finds the same, in both forms.
        let quoted = format!("\"com.gitlab.ci.user.name={}\"", user.replace('"', "\"\""));
        for form in ["true", "false"] {
            let form = format!("--new-bundle-format={form}");
            let name = format!("{}:{}", job.project, job.tag());
            let line = ["verify", "--key", "../k.pub", "--private-infrastructure", &form, "-a", &quoted, &name];
            let _ = call(&job.place, "cosign3", &line).code(0);
        }
        // Another tag on the same image is not the one that was signed.
        let refused = job.verify_another_tag(&script).code(12);
        assert!(refused.stderr.contains("missing or incorrect annotation: tag=other"), "{}", refused.stderr);
        job.end();
    }
}
