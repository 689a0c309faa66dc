//! Actions of GitHub that are wrapped instead of a command: `action-ref`.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Call, Ended, Place, left_out, statement_of};

const COMMIT: &str = "08c6903cd8c0fde910a37f88322edcfb5dd907a8";
/// An action of scripts.
const GREET: &str = include_str!("../../fixtures/github-action/greet/action.yml");
/// A program, and its metadata.
const PROGRAM: [&str; 2] = [
    include_str!("../../fixtures/github-action/program/dist/index.js"),
    include_str!("../../fixtures/github-action/program/action.yaml"),
];

/// A place with a repository, an action of scripts in `greet` and one of a program in `program`.
fn made() -> Place {
    let place = Place::new();
    std::fs::create_dir_all(place.beside("temp/affiant")).expect("a folder");
    place.write("greet/action.yml", GREET);
    place.write("greet/bin/tool", "#!/bin/sh\necho \"$@\"\n");
    let tool = place.work().join("greet/bin/tool");
    std::fs::set_permissions(tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("may be run");
    place.write("out/.keep", "");
    place.write("program/action.yaml", PROGRAM[1]);
    place.write("program/dist/index.js", PROGRAM[0]);
    place
}

/// `affiant ci github` as the action calls it.
fn call(place: &Place, inputs: &Value) -> Call {
    let name = |name: &str| place.beside(name).display().to_string();
    place
        .affiant(["ci", "github", "--report", "env"])
        .env("AFFIANT_INPUTS", inputs.to_string())
        .env("AFFIANT_KEY", "../k.pem")
        .env("RUNNER_TEMP", name("temp"))
        .env("GITHUB_WORKSPACE", place.work())
        .env("GITHUB_OUTPUT", name("output"))
        .env("GITHUB_ENV", name("variables"))
        .env("GITHUB_PATH", name("path"))
        .env("GITHUB_RUN_ID", "7")
        .env("GITHUB_WORKFLOW", "build")
        .env("GITHUB_JOB", "greet")
}

fn inputs(action: &str, given: &Value) -> Value {
    json!({ "step": "greet", "attestations": "environment", "action-ref": action, "action-inputs": given.to_string(),
            "action-env": "EXTRA=and all=1\n\n" })
}

/// The predicate of the action, in its own envelope.
fn predicate(place: &Place) -> Value {
    let statement = statement_of(&place.beside("temp/affiant/greet.att.json-github-action.json"));
    assert_eq!(statement["predicateType"], "https://aflock.ai/attestations/github-action/v0.1");
    let named = statement["subject"][0]["name"].as_str().expect("a name").to_owned();
    assert_eq!(named, format!("actionref:{}", statement["predicate"]["actionref"].as_str().expect("a reference")));
    statement["predicate"].clone()
}

fn read(place: &Place, name: &str) -> String {
    std::fs::read_to_string(place.beside(name)).unwrap_or_default()
}

fn sh(place: &Place, script: &str) {
    let status = std::process::Command::new("sh").args(["-ec", script]).current_dir(place.work()).status();
    assert!(status.expect("sh starts").success(), "{script}");
}

/// Nothing of the secret in anything that was written.
fn no_canary(place: &Place, ended: &Ended) {
    for (path, bytes) in place.everything_written() {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("canary-4711-of-an-input"), "{}", path.display());
    }
    assert!(!ended.stderr_text().contains("canary-4711-of-an-input"));
}

#[test]
fn an_action_of_scripts_is_run_and_told() {
    let place = made();
    let given = json!({ "Who-To-Greet": "crew", "api-token": "canary-4711-of-an-input" });
    let ended = call(&place, &inputs("./greet", &given)).run().code(0);
    assert_eq!(ended.stdout_text(), "token canary-4711-of-an-input\n", "the command's own output is not changed");
    no_canary(&place, &ended);
    assert_eq!(read(&place, "work/out/greeting.txt"), "Hello, crew, and all=1\n");
    let told = predicate(&place);
    assert_eq!(told["actiontype"], "composite");
    assert_eq!(told["actionname"], "greet");
    let workspace = place.work().canonicalize().expect("a folder").display().to_string();
    let all = json!({ "api-token": "******", "where": workspace, "who-to-greet": "crew" });
    assert_eq!(told["actioninputs"], all);
    assert_eq!(told["actionoutputs"], json!({ "greeting": "Hello, crew", "lines": "one\ntwo=2" }));
    assert_eq!((&told["exitcode"], &told["refpinned"]), (&json!(0), &json!(false)));
    assert_eq!(
        (&told["runid"], &told["workflowname"], &told["jobname"]),
        (&json!("7"), &json!("build"), &json!("greet"))
    );
    let digest = affiant_core::digest::sha256_hex(GREET.as_bytes());
    assert_eq!(told["affiant"]["metadata"], json!({ "path": "action.yml", "digest": { "sha256": digest } }));

    // What the job gets, after which ours stands.
    let output = read(&place, "output");
    assert!(output.contains("\nHello, crew\n") && output.contains("\none\ntwo=2\n"), "{output}");
    assert!(output.contains("{\"greeting\":\"Hello, crew\",\"lines\":\"one\\ntwo=2\"}\n"), "{output}");
    assert!(output.find("attestation_file=") > output.find("action-outputs<<"), "{output}");
    assert_eq!(read(&place, "variables"), "PASSED=on\n");
    assert_eq!(read(&place, "path"), format!("{workspace}/greet/bin\n"));
    // Nothing of it is left.
    let left: Vec<_> = std::fs::read_dir(place.beside("temp")).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let collection = statement_of(&place.beside("temp/affiant/greet.att.json"));
    let text = collection.to_string();
    assert!(text.contains("file:out/greeting.txt") && !text.contains("github-action/v0.1"), "{text}");
}

#[test]
fn a_program_of_node_is_run_and_told() {
    if std::process::Command::new("node").arg("--version").output().is_err() {
        return left_out("there is no node");
    }
    let place = made();
    // What the runner has fetched, as its folders are.
    let fetched = place.beside(&format!("_actions/octo/tools/{COMMIT}"));
    std::fs::create_dir_all(&fetched).expect("a folder");
    std::fs::rename(place.work().join("program"), fetched.join("program")).expect("moved");
    let reference = format!("octo/tools/program@{COMMIT}");
    let mut all = inputs(&reference, &json!({}));
    all["action-inputs"] = "who-to-greet=a: b\n# more\napi-token = canary-4711-of-an-input\n".into();
    all["cilock-args"] = "--form cilock".into();
    let ended = call(&place, &all).run().code(0);
    no_canary(&place, &ended);
    assert!(ended.stderr_text().contains("note: `post` of the action is not run"), "{}", ended.stderr_text());
    assert_eq!(read(&place, "work/made.txt"), "a: band all=1");
    // In cilock's form it stands in the collection.
    let statement = statement_of(&place.beside("temp/affiant/greet.att.json"));
    let entries = statement["predicate"]["attestations"].as_array().expect("a list");
    let kind = "https://aflock.ai/attestations/github-action/v0.1";
    let told = &entries.iter().find(|entry| entry["type"] == kind).expect("the action")["attestation"];
    assert_eq!((&told["actiontype"], &told["refpinned"]), (&json!("javascript"), &json!(true)));
    assert_eq!(told["actioninputs"], json!({ "api-token": "******", "code": "0", "who-to-greet": "a: b" }));
    assert_eq!(told["actionoutputs"], json!({ "greeting": "Hello\na: b", "path": "/x" }));
    assert_eq!(told["affiant"]["notRun"], json!(["post"]));
    let names: Vec<_> =
        statement["subject"].as_array().expect("subjects").iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.iter().any(|name| name.ends_with(&format!("actionref:{reference}"))), "{names:?}");

    // One that fails: the same code, and evidence of it.
    all["action-inputs"] = "who-to-greet: x\ncode: 3\n".into();
    all["cilock-args"] = "".into();
    call(&place, &all).run().code(3);
    assert_eq!(statement_of(&place.beside("temp/affiant/greet.att.json"))["predicate"]["name"], "greet#failed");
    let told = predicate(&place);
    assert_eq!((&told["exitcode"], &told["actionoutputs"]["path"]), (&json!(3), &json!("/x")));
}

#[test]
fn an_action_of_the_checked_out_commit_is_pinned() {
    let place = made();
    sh(
        &place,
        "git init -q . && git config user.email a@b.c && git config user.name a && git add -A && git commit -qm one",
    );
    let pinned = || {
        call(&place, &inputs("./greet", &json!({}))).run().code(0);
        predicate(&place)["refpinned"] == json!(true)
    };
    assert!(pinned());
    // What the step itself made lies elsewhere.
    assert!(pinned());
    place.write("greet/more", "x");
    assert!(!pinned());
    sh(&place, "rm greet/more && echo >> greet/bin/tool");
    assert!(!pinned());
    sh(&place, "git checkout -q greet && rm -rf .git/index.lock && git init -q greet");
    assert!(!pinned(), "another repository");
}

/// The shipped rule at the gate, on our evidence.
#[test]
fn the_gate_denies_an_action_without_a_pin() {
    let place = made();
    place.affiant(["key", "generate", "--kind", "ed25519", "--no-password", "-o", "../policy.pem"]).run().code(0);
    let fetch = |version: &str| {
        sh(&place, &format!("mkdir -p ../_actions/octo/tools && cp -R . ../_actions/octo/tools/{version}"));
    };
    fetch(COMMIT);
    fetch("v1");
    let (one, own) = ("../temp/affiant/greet.att.json", "../temp/affiant/greet.att.json-github-action.json");
    let made = |version: &str| {
        call(&place, &inputs(&format!("octo/tools/greet@{version}"), &json!({}))).run().code(0);
    };
    made(COMMIT);
    let from = format!("{one},{own}");
    let init = ["policy", "init", "--from", &from, "--key", "../k.pub", "--expires", "2100-01-01", "-o", "../p.yaml"];
    place.affiant(init).run().code(0);
    let source = read(&place, "p.yaml");
    let line = "      - type: github-action\n";
    assert!(source.contains(line), "{source}");
    let source = if source.contains("affiant:github-action") {
        source
    } else {
        source.replace(line, &format!("{line}        rego: affiant:github-action\n"))
    };
    std::fs::write(place.beside("p.yaml"), source).expect("written");
    place.affiant(["policy", "compile", "../p.yaml", "-o", "../p.json"]).run().code(0);
    place.affiant(["policy", "sign", "../p.json", "-k", "../policy.pem", "-o", "../p.signed.json"]).run().code(0);
    let verify = || {
        let fixed = ["verify", "-p", "../p.signed.json", "-k", "../policy.pub", "-a", one, "-a", own];
        place.affiant(fixed).with(["out/greeting.txt"]).run()
    };
    verify().code(0);
    made("v1");
    let denied = verify().code(1).stdout_text();
    let words = denied.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("the action octo/tools/greet@v1 is not pinned: write its commit"), "{denied}");
}

#[test]
fn what_cannot_be_wrapped_is_refused_by_name_before_anything_runs() {
    let place = made();
    let composite = |steps: &str| format!("name: x\nruns:\n  using: composite\n  steps:\n{steps}");
    for (folder, text) in [
        ("none", None),
        ("docker", Some("runs: {using: docker, image: Dockerfile}".to_owned())),
        ("ruby", Some("runs: {using: ruby, main: a.rb}".to_owned())),
        ("gone", Some("runs: {using: node20, main: index.js}".to_owned())),
        ("escape", Some("runs: {using: node20, main: ../program/dist/index.js}".to_owned())),
        ("uses", Some(composite("    - run: touch ran\n      shell: sh\n    - uses: actions/checkout@v4\n"))),
        ("if", Some(composite("    - run: touch ran\n      shell: sh\n      if: failure()\n"))),
        (
            "secret",
            Some(composite(
                "    - run: touch ran\n      shell: sh\n    - run: echo ${{ secrets.X }}\n      shell: sh\n",
            )),
        ),
        ("event", Some(composite("    - run: echo ${{ github.event.issue.title }}\n      shell: sh\n"))),
        ("later", Some(composite("    - run: echo ${{ steps.x.outputs.y }}\n      shell: sh\n"))),
        ("default", Some("inputs: {a: {default: \"${{ a && b }}\"}}\nruns: {using: composite, steps: []}".to_owned())),
        (
            "token",
            Some("inputs: {t: {default: \"${{ github.token }}\"}}\nruns: {using: composite, steps: []}".to_owned()),
        ),
        ("broken", Some("a: [".to_owned())),
        ("large", Some("#".repeat(2 << 20))),
    ] {
        place.write(&format!("{folder}/.keep"), "");
        if let Some(text) = text {
            place.write(&format!("{folder}/action.yml"), text);
        }
    }
    std::fs::create_dir_all(place.beside("outside")).expect("a folder");
    std::fs::write(place.beside("outside/action.yml"), GREET).expect("written");
    std::os::unix::fs::symlink("../outside", place.work().join("link")).expect("a link");
    std::fs::create_dir_all(place.work().join("linked")).expect("a folder");
    std::os::unix::fs::symlink("../../outside/action.yml", place.work().join("linked/action.yml")).expect("a link");
    let refused = |inputs: &Value, said: &str| {
        let ended = call(&place, inputs).run();
        assert_eq!(ended.exit_code(), 2, "{inputs}: {}", ended.stderr_text());
        assert!(ended.stderr_text().contains(said), "{inputs}: {}", ended.stderr_text());
        assert!(!place.work().join("ran").exists() && !place.beside("temp/affiant/greet.att.json").exists());
        let left = std::fs::read_dir(place.beside("temp")).expect("a folder").count();
        assert_eq!(left, 1, "{inputs}");
    };
    for (action, said) in [
        ("./none", "neither action.yml nor action.yaml"),
        ("./nowhere", "the input action-ref: "),
        ("./docker", "a docker action is not wrapped"),
        ("./ruby", "`using: ruby` is not known"),
        ("./gone", "index.js: "),
        ("./escape", "leads out of"),
        ("./uses", "line 7: a step with `uses`"),
        ("./if", "a step with `if`"),
        ("./secret", "step 2: the expression `${{ secrets.X }}` is not evaluated here"),
        ("./event", "`${{ github.event.issue.title }}`"),
        ("./later", "no earlier step has the id `x`"),
        ("./default", "the default of the input `a`: the expression `${{ a && b }}`"),
        ("./token", "`${{ github.token }}` is not handed on"),
        ("./broken", "not YAML"),
        ("./large", "more than 1048576 bytes"),
        ("./link", "leads out of"),
        ("./linked", "leads out of"),
        ("./../outside", "leads out of"),
        ("/etc", "names no action"),
        ("octo/tools@v1", "the runner has not fetched it: add a step `uses: octo/tools@v1` with `if: false`"),
        ("octo/../tools@v1", "names no action"),
        ("octo/tools@../../v1", "names no action"),
        ("octo/tools", "names no action"),
        ("docker://alpine", "an image is not wrapped"),
        ("./greet\nx", "is no reference"),
        ("${{ x }}/y@z", "is no reference"),
        ("-x/$(touch${IFS}ran)@v1", "names no action"),
    ] {
        refused(&inputs(action, &json!({})), said);
    }
    refused(&inputs("./program", &json!({})), "the action needs the input `who-to-greet`");
    refused(&inputs("./greet", &json!({ "who": "x" })), "the action has no input `who`");
    refused(&inputs("./greet", &json!({ "who-to-greet": ["x"] })), "who-to-greet is neither text");
    let with = |name: &str, value: &str| {
        let mut all = inputs("./greet", &json!({}));
        all[name] = value.into();
        all
    };
    refused(&with("command", "touch ran"), "the input action-ref: is given beside `command`");
    refused(&with("action-inputs", "{"), "is no JSON object");
    refused(&with("action-inputs", "who-to-greet=a\nb\n"), "line 2 has no `=`");
    refused(&with("action-inputs", "- a\n"), "no map of names and values");
    refused(&with("action-inputs", "who-to-greet: a\nWHO-TO-GREET: b\n"), "is given twice");
    refused(&with("action-env", "A"), "line 1 has no `=`");
    refused(&with("action-env", "GITHUB_TOKEN=x"), "GITHUB_TOKEN is not set by a step");
    refused(&with("action-env", "A B=x"), "no name of a variable");
    let gitlab = place.affiant(["ci", "gitlab"]).env("CILOCK_STEP", "s").env("CILOCK_ACTION_REF", "./greet");
    gitlab.run().code(2).stderr_has(&["CILOCK_ACTION_REF: actions are of GitHub"]);
    place.affiant(["ci", "action", "./greet"]).run().code(1).stderr_has(&["this is called by `affiant ci github`"]);
}

#[test]
fn the_jobs_token_is_given_where_it_is_there_and_never_told() {
    let place = made();
    place.write(
        "token/action.yml",
        "inputs: {gh: {default: \"${{ github.token }}\"}}\nruns:\n  using: composite\n  steps:\n    - shell: sh\n      \
         run: test '${{ inputs.gh }}' = canary-4711-of-an-input && echo x > made\n",
    );
    let mut all = inputs("./token", &json!({}));
    // Without a list there are those that the step calls for, and this one.
    all["attestations"] = Value::Null;
    let ended = call(&place, &all).env("GITHUB_TOKEN", "canary-4711-of-an-input").run().code(0);
    no_canary(&place, &ended);
    assert_eq!(predicate(&place)["actioninputs"], json!({ "gh": "******" }));
}

#[test]
fn outputs_that_are_large_or_wrong_are_told() {
    let place = made();
    let action = |run: &str, outputs: &str| {
        let text = format!(
            "outputs: {outputs}\nruns:\n  using: composite\n  steps:\n    - id: a\n      shell: sh\n      run: {run}\n"
        );
        place.write("out-puts/action.yml", text);
        let mut all = inputs("./out-puts", &json!({}));
        all["cilock-args"] = "--on-gap warn".into();
        call(&place, &all).run()
    };
    let large = "head -c 1500000 /dev/zero | tr '\\0' x | (printf o=; cat; echo) >> $GITHUB_OUTPUT";
    let ended = action(large, "{o: {value: '${{ steps.a.outputs.o }}'}}").code(0);
    assert!(ended.stderr_text().contains("its outputs are not recorded: more than 1048576 bytes"), "{ended:?}");
    assert_eq!(predicate(&place)["actionoutputs"], json!({}));
    assert!(read(&place, "output").len() > 3_000_000, "the job gets them");
    // Ours are not written over.
    let ours = "echo evidence_folder=/x >> $GITHUB_OUTPUT";
    action(ours, "{evidence_folder: {value: '${{ steps.a.outputs.evidence_folder }}'}}").code(0);
    assert_eq!(predicate(&place)["actionoutputs"], json!({ "evidence_folder": "/x" }));
    assert!(!read(&place, "output").contains("evidence_folder<<"));
    // GitHub's runner fails such a step as well.
    for bad in [
        "echo nothing >> $GITHUB_OUTPUT",
        "echo 'a<<E' >> $GITHUB_OUTPUT",
        "rm $GITHUB_OUTPUT && mkfifo $GITHUB_OUTPUT",
    ] {
        let ended = action(bad, "{}");
        assert_eq!(ended.exit_code(), 1, "{bad}: {}", ended.stderr_text());
        assert!(ended.stderr_text().contains("GITHUB_OUTPUT: "), "{}", ended.stderr_text());
        assert_eq!(statement_of(&place.beside("temp/affiant/greet.att.json"))["predicate"]["name"], "greet#failed");
    }
}

/// The kept evidence (`fixtures/samples/github-action`); `AFFIANT_SAMPLES=1` makes it anew.
#[test]
fn kept_evidence_of_an_action_reads_as_it_was_made() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let folder = root.join("samples/github-action");
    if std::env::var_os("AFFIANT_SAMPLES").is_some() {
        let place = made();
        place.write("greet/action.yml", GREET.replace("      working-directory: out\n", ""));
        std::fs::copy(root.join("keys/functionary.pem"), place.beside("k.pem")).expect("copies");
        let fetched = place.beside(&format!("_actions/octo/tools/{COMMIT}"));
        std::fs::create_dir_all(fetched.parent().expect("a folder")).expect("a folder");
        std::fs::rename(place.work(), &fetched).expect("moved");
        std::fs::create_dir_all(place.work()).expect("a folder");
        let mut all = inputs(&format!("octo/tools/greet@{COMMIT}"), &json!({ "api-token": "canary-4711-of-an-input" }));
        all["step"] = "docker-build".into();
        all["attestations"] = "github-action".into();
        // Where a binary would be, since that stands in the evidence.
        let binary = place.beside("bin/affiant");
        std::fs::create_dir_all(place.beside("bin")).expect("a folder");
        std::fs::copy(env!("CARGO_BIN_EXE_affiant"), &binary).expect("copies");
        let call = call(&place, &all).command();
        let mut command = std::process::Command::new(binary);
        command.args(call.get_args()).current_dir(place.work()).env_clear();
        command.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
        assert!(command.status().expect("affiant starts").success());
        std::fs::create_dir_all(&folder).expect("makes a folder");
        for (from, to) in [
            ("temp/affiant/docker-build.att.json", "evidence.json"),
            ("temp/affiant/docker-build.att.json-github-action.json", "evidence.json-github-action.json"),
            ("work/greeting.txt", "greeting.txt"),
        ] {
            std::fs::copy(place.beside(from), folder.join(to)).expect("copies");
        }
        std::fs::copy(root.join("keys/functionary.pub"), folder.join("functionary.pub")).expect("copies");
        std::fs::write(
            folder.join("command"),
            format!("affiant ci github, with step: docker-build, action-ref: octo/tools/greet@{COMMIT}\n"),
        )
        .expect("writes");
    }
    let place = Place::without_key();
    let public = folder.join("functionary.pub");
    for name in ["evidence.json", "evidence.json-github-action.json"] {
        let evidence = folder.join(name);
        place.affiant(["inspect".as_ref(), "--key".as_ref(), public.as_os_str(), evidence.as_os_str()]).run().code(0);
    }
    let told = &statement_of(&folder.join("evidence.json-github-action.json"))["predicate"];
    assert_eq!(told["actionref"], format!("octo/tools/greet@{COMMIT}"));
    assert_eq!((&told["refpinned"], &told["actioninputs"]["api-token"]), (&json!(true), &json!("******")));
}
