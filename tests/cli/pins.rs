//! What the pipeline runs on, and the rule that denies what is not pinned.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Call, Ended, Place, statement_of};

const COMMIT: &str = "08c6903cd8c0fde910a37f88322edcfb5dd907a8";
const DIGEST: &str = "sha256:beefdbd8a1da6d2915566fde36db9db0b524eb737fc57cd1367effd16dc0d06d";
/// Where in the workspace the workflow stands.
const WORKFLOW: &str = ".github/workflows/build.yml";

/// A workflow whose line 8 is an action, and line 6 an image.
fn workflow(action: &str, image: &str) -> String {
    format!(
        "name: build\non: push\njobs:\n  image:\n    runs-on: ubuntu-latest\n    container: {image}\n    steps:\n      \
         - uses: {action} # v4.1.0\n      - run: docker build .\n"
    )
}

fn dockerfile(base: &str) -> String {
    format!("# comment\n\nFROM {base} AS build\nFROM build\n")
}

/// A place with a stand-in for docker, which writes the product `app.txt`.
fn place(action: &str, image: &str, base: &str) -> Place {
    let place = Place::new();
    place.affiant(["key", "generate", "--kind", "ed25519", "--no-password", "-o", "../policy.pem"]).run().code(0);
    place.write("../bin/docker", "#!/bin/sh\necho built > app.txt\n");
    let program = place.beside("bin/docker");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("may be run");
    fill(&place, action, image, base);
    place
}

fn fill(place: &Place, action: &str, image: &str, base: &str) {
    place.write(WORKFLOW, workflow(action, image));
    place.write("Dockerfile", dockerfile(base));
}

/// The call as a job of GitHub.
fn job(place: &Place, call: Call) -> Call {
    call.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", place.beside("bin").display()))
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_REPOSITORY", "octo/app")
        .env("GITHUB_WORKFLOW_REF", format!("octo/app/{WORKFLOW}@refs/heads/main"))
        .env("GITHUB_WORKSPACE", place.work())
}

fn build(place: &Place, more: &[&str]) -> Ended {
    let call = place.capture(["-s", "build", "-a", "pins"]).with(more).with(["--", "docker", "build", "."]);
    job(place, call).run()
}

const OWN: &str = "../a.json-pins.json";

/// Writes a policy from the evidence, changes its source, compiles and signs it.
fn policy(place: &Place, change: impl FnOnce(String) -> String) {
    let from = format!("../a.json,{OWN}");
    let init =
        ["policy", "init", "--from", &from, "--key", "../k.pub", "--expires", "2100-01-01", "-o", "../policy.yaml"];
    place.affiant(init).run().code(0);
    let source = std::fs::read_to_string(place.beside("policy.yaml")).expect("a source");
    assert!(source.contains("      - type: pins\n"), "{source}");
    assert!(source.contains("\n        rego: affiant:pins\n"), "{source}");
    std::fs::write(place.beside("policy.yaml"), change(source)).expect("written");
    place.affiant(["policy", "check", "../policy.yaml"]).run().code(0);
    place.affiant(["policy", "compile", "../policy.yaml", "-o", "../policy.json"]).run().code(0);
    place
        .affiant(["policy", "sign", "../policy.json", "-k", "../policy.pem", "-o", "../policy.signed.json"])
        .run()
        .code(0);
}

fn verify(place: &Place) -> Ended {
    let fixed = ["verify", "-p", "../policy.signed.json", "-k", "../policy.pub", "-a", "../a.json", "-a", OWN];
    place.affiant(fixed).with(["app.txt"]).run()
}

/// What the rule said, without the breaks of lines.
fn reasons(place: &Place) -> Vec<String> {
    let fixed = ["verify", "-p", "../policy.signed.json", "-k", "../policy.pub", "-a", "../a.json", "-a", OWN];
    let ended = place.affiant(fixed).with(["app.txt", "-o", "json"]).run();
    let verdict: Value = serde_json::from_str(&ended.stdout_text()).expect("JSON");
    let mut found = Vec::new();
    collect(&verdict, &mut found);
    found.sort();
    found.dedup();
    found
}

/// Every text of a verdict that the rule's package begins.
fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.starts_with("affiant.pins: ") => {
            found.extend(
                text.split("affiant.pins: ")
                    .filter(|one| !one.is_empty())
                    .map(|one| one.trim_end_matches("; ").to_owned()),
            );
        }
        Value::Array(list) => list.iter().for_each(|one| collect(one, found)),
        Value::Object(members) => members.values().for_each(|one| collect(one, found)),
        _ => {}
    }
}

fn pinned() -> (String, String, String) {
    (format!("actions/checkout@{COMMIT}"), format!("node:20@{DIGEST}"), format!("alpine:3.20@{DIGEST}"))
}

#[test]
fn an_unpinned_action_image_or_base_is_denied_with_file_and_line() {
    let (action, image, base) = pinned();
    let place = place(&action, &image, &base);
    build(&place, &[]).code(0);
    policy(&place, |source| source);
    verify(&place).code(0);
    for (unpinned, reason) in [
        (
            ("actions/checkout@v4", image.as_str(), base.as_str()),
            ".github/workflows/build.yml:8: actions/checkout@v4 is not pinned: write its commit",
        ),
        (
            (&action, "node:20", &base),
            ".github/workflows/build.yml:6: node:20 is not pinned: write its digest (`@sha256:…`)",
        ),
        ((&action, &image, "alpine:3.20"), "Dockerfile:3: alpine:3.20 is not pinned: write its digest (`@sha256:…`)"),
        (
            (&action, "${{ matrix.image }}", &base),
            ".github/workflows/build.yml:6: ${{ matrix.image }} is not pinned: it is known only when the pipeline \
             runs; write it out, with its commit or digest",
        ),
    ] {
        fill(&place, unpinned.0, unpinned.1, unpinned.2);
        build(&place, &[]).code(0);
        verify(&place).code(1);
        assert_eq!(reasons(&place), [reason]);
    }
    // As people see it.
    fill(&place, "actions/checkout@v4", "node:20", "alpine");
    build(&place, &[]).code(0);
    let text = verify(&place).code(1).stdout_text();
    let (_, text) = text.split_once("What failed\n").expect("a part");
    let expected = "  \
  1. step build: a rule denies
     expected   no rule of steps.build.attestations[3].regopolicies denies
     found      affiant.pins: .github/workflows/build.yml:6: node:20 is not pinned: write its
                digest (`@sha256:…`); affiant.pins: .github/workflows/build.yml:8:
                actions/checkout@v4 is not pinned: write its commit; affiant.pins: Dockerfile:3:
                alpine is not pinned: write its digest (`@sha256:…`)
     where      ../a.json-pins.json, attestation urn:affiant:pins:v0.1
";
    let found = text.split_once("     to do").map(|(before, _)| before).unwrap_or_default();
    assert_eq!(found, expected);
}

#[test]
fn publishers_are_trusted_where_the_policy_says_so() {
    let (_, image, base) = pinned();
    let place = place("actions/checkout@v4", &image, &base);
    build(&place, &[]).code(0);
    let trusted = "package affiant.pins\n\nimport rego.v1\n\ntrusted contains \"actions\"\n";
    std::fs::write(place.beside("trusted.rego"), trusted).expect("written");
    policy(&place, |source| source.replace("rego: affiant:pins", "rego: [affiant:pins, trusted.rego]"));
    verify(&place).code(0);
    // Nobody else, and no image of that name.
    fill(&place, "action/checkout@v4", "actions/node", &base);
    build(&place, &[]).code(0);
    verify(&place).code(1);
    assert_eq!(reasons(&place).len(), 2);
}

#[test]
fn what_was_not_read_is_denied() {
    let (action, image, base) = pinned();
    let place = place(&action, &image, &base);
    build(&place, &[]).code(0);
    policy(&place, |source| source);
    place.write(WORKFLOW, "jobs:\n  a: {steps: [\n");
    // A gap of what was named fails the run; the evidence is there.
    build(&place, &[]).code(125).stderr_has(&["pins: .github/workflows/build.yml:"]);
    build(&place, &["--on-gap", "warn"]).code(0);
    verify(&place).code(1);
    let found = reasons(&place);
    assert!(found.len() == 1 && found[0].starts_with(".github/workflows/build.yml:"), "{found:?}");
    // Nothing at all was looked at.
    std::fs::remove_file(place.work().join(WORKFLOW)).expect("removed");
    std::fs::remove_file(place.work().join("Dockerfile")).expect("removed");
    build(&place, &["--on-gap", "warn"]).code(0);
    verify(&place).code(1);
    let found = reasons(&place);
    assert!(found.iter().any(|reason| reason.contains("no file of the pipeline was looked at")), "{found:?}");
    assert!(found.iter().any(|reason| reason.contains("build.yml, is not in the workspace")), "{found:?}");
}

#[test]
fn a_workflow_that_is_not_the_one_that_runs_is_told() {
    let (action, image, base) = pinned();
    let place = place("actions/checkout@v4", &image, &base);
    let git = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]).args(args);
        command.current_dir(place.work()).env("HOME", place.beside("home")).env("GIT_CONFIG_NOSYSTEM", "1").output()
    };
    let Ok(output) = git(&["init", "-q"]) else { return crate::harness::left_out("git is not there") };
    assert!(output.status.success());
    assert!(git(&["add", "."]).is_ok_and(|output| output.status.success()));
    assert!(git(&["commit", "-q", "-m", "first"]).is_ok_and(|output| output.status.success()));
    let head = git(&["rev-parse", "HEAD"]).expect("a commit").stdout;
    let head = String::from_utf8(head).expect("hex").trim().to_owned();
    let run = |commit: &str| {
        let call = place.capture(["-s", "build", "-a", "pins", "--on-gap", "warn", "--", "docker", "build", "."]);
        job(&place, call).env("GITHUB_WORKFLOW_SHA", commit).run().code(0);
        statement_of(&place.beside("a.json-pins.json"))["predicate"]["gaps"].clone()
    };
    assert_eq!(run(&head), Value::Null);
    // Pinned in the workspace only.
    place.write(WORKFLOW, workflow(&action, &image));
    let gaps = run(&head);
    assert_eq!((&gaps[0]["file"], &gaps[0]["kind"]), (&Value::from(WORKFLOW), &Value::from("differs")), "{gaps}");
    // A commit that is not there says nothing.
    assert_eq!(run(COMMIT), Value::Null);
}

#[test]
fn it_runs_by_default_where_there_is_something_to_read() {
    let (action, image, base) = pinned();
    let place = place(&action, &image, &base);
    let plain = |place: &Place, line: &[&str]| {
        std::fs::remove_file(place.beside("a.json-pins.json")).ok();
        place
            .capture(["-s", "build", "--"])
            .with(line)
            .env("PATH", format!("{}:/usr/bin:/bin", place.beside("bin").display()))
    };
    plain(&place, &["true"]).run().code(0);
    assert!(!place.beside("a.json-pins.json").exists());
    plain(&place, &["docker", "build", "."]).run().code(0);
    let statement = statement_of(&place.beside("a.json-pins.json"));
    assert_eq!(statement["predicate"]["files"].as_array().map(Vec::len), Some(1));
    // Without the Dockerfile there is nothing by itself.
    plain(&place, &["docker", "build", "--file", "none", "."]).run().code(0);
    assert!(!place.beside("a.json-pins.json").exists());
    job(&place, plain(&place, &["true"])).run().code(0);
    let statement = statement_of(&place.beside("a.json-pins.json"));
    assert_eq!(statement["predicateType"], "urn:affiant:pins:v0.1");
    assert_eq!(statement["subject"][0]["name"], format!("pipelinefile:{WORKFLOW}"));
    assert_eq!(statement["predicate"]["pins"].as_array().map(Vec::len), Some(2));
    // In cilock's form it stands in the collection.
    std::fs::remove_file(place.beside("a.json-pins.json")).expect("removed");
    job(&place, place.capture(["-s", "build", "--form", "cilock", "-a", "pins", "--", "true"])).run().code(0);
    assert!(!place.beside("a.json-pins.json").exists());
    assert_eq!(place.predicate("urn:affiant:pins:v0.1")["pins"].as_array().map(Vec::len), Some(2));
}

#[test]
fn rules_are_listed_and_printed() {
    let place = Place::without_key();
    let listed = place.affiant(["policy", "rules"]).run().code(0).stderr("");
    assert_eq!(
        listed.stdout_text(),
        "affiant:github-action  denies an action that ran without a pin (cilock's `github-action`)\n\
         affiant:pins           denies actions, images, bases and includes without a pin (`pins`)\n"
    );
    let printed = place.affiant(["policy", "rules", "affiant:pins"]).run().code(0).stderr("").stdout_text();
    assert!(printed.contains("\npackage affiant.pins\n"), "{printed}");
    place.affiant(["policy", "rules", "pin"]).run().code(2).stdout("").stderr_has(&["no rule `pin`", "`pins`"]);
    place.write(
        "policy.yaml",
        "expires: 90d\nsteps: {a: {functionaries: [], attestations: [{type: pins, rego: affiant:pinz}]}}\n",
    );
    let ended = place.affiant(["policy", "compile", "policy.yaml"]).run().code(2).stdout("");
    ended.stderr_has(&["`affiant:pinz` is no rule of affiant, did you mean `affiant:pins`?"]);
}

/// cilock's own evidence of an action that it wrapped, by the other rule.
#[test]
fn an_action_of_cilock_is_denied_without_a_pin() {
    let place = Place::without_key();
    let ask = |reference: &str, pinned: &str, more: &[&str]| {
        place.write("input.json", format!("{{\"actionref\": \"{reference}\", \"refpinned\": {pinned}}}"));
        place.affiant(["policy", "rules", "github-action"]).run().code(0);
        let rule = place.affiant(["policy", "rules", "github-action"]).run().stdout_text();
        place.write("rule.rego", rule);
        place.affiant(["policy", "eval", "--rego", "rule.rego", "--input", "input.json"]).with(more).run()
    };
    ask(&format!("actions/checkout@{COMMIT}"), "true", &[]).code(0);
    let denied = ask("actions/checkout@v4", "false", &[]).code(1);
    assert!(
        denied.stdout_text().contains("the action actions/checkout@v4 is not pinned: write its commit"),
        "{denied:?}"
    );
    place.write("trusted.rego", "package affiant.github_action\n\nimport rego.v1\n\ntrusted contains \"actions\"\n");
    ask("actions/checkout@v4", "false", &["--rego", "trusted.rego"]).code(0);
    ask("other/checkout@v4", "false", &["--rego", "trusted.rego"]).code(1);
}

/// The kept evidence (`fixtures/samples/pins`); `AFFIANT_SAMPLES=1` makes it anew.
#[test]
fn kept_evidence_of_pins_reads_as_it_was_made() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let folder = root.join("samples/pins");
    let line = "affiant run -k functionary.pem -s docker-build -o evidence.json -a pins -- docker build .";
    if std::env::var_os("AFFIANT_SAMPLES").is_some() {
        let (action, _, base) = pinned();
        let place = place(&action, "node:20", &base);
        std::fs::copy(root.join("keys/functionary.pem"), place.beside("k.pem")).expect("copies");
        let args = ["run", "-k", "../k.pem", "-s", "docker-build", "-o", "../evidence.json", "-a", "pins"];
        job(&place, place.affiant(args).with(["--", "docker", "build", "."])).run().code(0);
        std::fs::create_dir_all(&folder).expect("makes a folder");
        for (from, to) in [
            ("evidence.json", "evidence.json"),
            ("evidence.json-pins.json", "evidence.json-pins.json"),
            ("work/app.txt", "app.txt"),
        ] {
            std::fs::copy(place.beside(from), folder.join(to)).expect("copies");
        }
        std::fs::copy(root.join("keys/functionary.pub"), folder.join("functionary.pub")).expect("copies");
        std::fs::write(folder.join("command"), format!("{line}\n")).expect("writes");
    }
    let place = Place::without_key();
    let public = folder.join("functionary.pub");
    for name in ["evidence.json", "evidence.json-pins.json"] {
        let evidence = folder.join(name);
        place.affiant(["inspect".as_ref(), "--key".as_ref(), public.as_os_str(), evidence.as_os_str()]).run().code(0);
    }
    let statement = statement_of(&folder.join("evidence.json-pins.json"));
    let pins = statement["predicate"]["pins"].as_array().expect("a list");
    let told: Vec<(&str, &Value, &Value)> =
        pins.iter().map(|pin| (pin["file"].as_str().unwrap_or_default(), &pin["line"], &pin["pinned"])).collect();
    let (yes, no) = (Value::Bool(true), Value::Bool(false));
    let (three, six, eight) = (3.into(), 6.into(), 8.into());
    assert_eq!(told, [(WORKFLOW, &six, &no), (WORKFLOW, &eight, &yes), ("Dockerfile", &three, &yes)]);
}
