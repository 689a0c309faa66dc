//! Envelopes for others than the readers of collections: SLSA provenance, in-toto links, exported SBOMs.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Call, Ended, Place, hex, statement_of};
use crate::schema::{fits, misfits};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const PEERS_PROVENANCE: &str = "https://slsa.dev/provenance/v1.0";
const LINK: &str = "https://in-toto.io/attestation/link/v0.3";

fn fixture(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

fn schema(path: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    serde_json::from_slice(&std::fs::read(path).expect("a schema")).expect("JSON")
}

/// The statement of an exported envelope: it fits SLSA's form and ours.
#[track_caller]
fn provenance(place: &Place) -> Value {
    let statement = statement_of(&place.beside("a.json-slsa.json"));
    fits(&schema("fixtures/slsa/provenance-v1.schema.json"), &statement, "SLSA's schema");
    fits(&schema("attestors/schemas/slsa.json"), &statement["predicate"], "ours");
    statement
}

#[track_caller]
fn link(place: &Place) -> Value {
    let statement = statement_of(&place.beside("a.json-link.json"));
    assert_eq!(statement["predicateType"], LINK);
    fits(&schema("attestors/schemas/link.json"), &statement["predicate"], "the schema of links");
    statement
}

/// The SHA-256 of a file's payload, as the subject `affiant:run` has it.
fn payload_digest(path: &Path) -> String {
    let envelope: Value = serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("JSON");
    let payload = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        envelope["payload"].as_str().expect("a payload"),
    );
    sha256(&payload.expect("base64"))
}

fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

fn subject_names(statement: &Value) -> Vec<&str> {
    let list = statement["subject"].as_array().expect("a list").iter();
    list.filter_map(|subject| subject["name"].as_str()).collect()
}

/// Compares with a fixture, with the place's folder as `[DIR]`; writes it anew under `AFFIANT_BLESS`.
#[track_caller]
fn golden(place: &Place, path: &str, found: &Value) {
    let folder = place.beside("").display().to_string();
    let folder = folder.trim_end_matches('/');
    let text = format!("{found:#}\n").replace(folder, "[DIR]");
    let path = fixture(path);
    if std::env::var_os("AFFIANT_BLESS").is_some() {
        std::fs::write(&path, &text).expect("writes");
    }
    assert_eq!(text, std::fs::read_to_string(&path).expect("a fixture"), "{}", path.display());
}

/// A build in `build`, with what follows before its command.
fn build(place: &Place, more: &[&str]) -> Call {
    place.capture(["-s", "build"]).with(more).with(["--", "sh", "-c", "cat a.txt a.txt > app; echo done"])
}

fn place() -> Place {
    let place = Place::new();
    place.write("a.txt", "hi\n");
    place
}

#[test]
fn provenance_and_link_stand_in_envelopes_of_their_own() {
    let place = place();
    build(&place, &["-a", "environment,slsa,link"]).env("LANG", "C").run().code(0).stdout("done\n").stderr(
        "affiant: build: 1 material, 1 product\n\
         affiant: slsa in ../a.json-slsa.json\n\
         affiant: link in ../a.json-link.json\n\
         affiant: evidence in ../a.json and the archive as sha256:[DIGEST]; next: affiant inspect --key ../k.pub ../a.json\n"
            .replace("[DIGEST]", &archived(&place)[..12])
            .as_str(),
    );
    let collection = place.statement();
    let types: Vec<_> = collection["predicate"]["attestations"].as_array().expect("a list").iter().collect();
    assert!(types.iter().all(|entry| !entry["type"].as_str().expect("a type").contains("slsa.dev")), "{types:?}");

    let (provenance, link) = (provenance(&place), link(&place));
    let run = json!({ "name": "affiant:run", "digest": { "sha256": payload_digest(&place.beside("a.json")) } });
    let app = json!({ "sha256": sha256(b"hi\nhi\n") });
    assert_eq!(provenance["subject"], json!([{ "name": "file:app", "digest": app }, run]));
    assert_eq!(link["subject"], json!([{ "name": "app", "digest": app }, run]));
    golden(&place, "slsa/local.json", &provenance["predicate"]);
    golden(&place, "link/local.json", &link["predicate"]);

    // The check itself can fail: on members of another case, on the peers' type.
    let strict = schema("fixtures/slsa/provenance-v1.schema.json");
    for (pointer, value) in [
        ("/predicate/buildDefinition", json!({ "build_type": "x", "externalParameters": { "a": 1 } })),
        ("/predicateType", json!(PEERS_PROVENANCE)),
        ("/predicate/runDetails/builder", json!({})),
        ("/subject", json!([])),
    ] {
        let mut wrong = provenance.clone();
        *wrong.pointer_mut(pointer).expect("it is there") = value;
        let mut found = Vec::new();
        misfits(&strict, &strict, &wrong, "", &mut found);
        assert!(!found.is_empty(), "{pointer}");
    }
    // Equal inputs, equal bytes.
    let before = std::fs::read(place.beside("a.json-slsa.json")).expect("reads");
    std::fs::remove_file(place.work().join("app")).expect("removes");
    build(&place, &["-a", "environment,slsa,link"]).env("LANG", "C").run().code(0);
    assert_eq!(before, std::fs::read(place.beside("a.json-slsa.json")).expect("reads"));
}

/// The digest of `a.json` as the last line of a run shows it.
fn archived(place: &Place) -> String {
    std::fs::read(place.beside("a.json")).map(|bytes| sha256(&bytes)).unwrap_or_default()
}

#[test]
fn an_export_flag_names_the_attestor() {
    let place = place();
    let files = |place: &Place| {
        ["slsa", "link", "sbom"]
            .into_iter()
            .filter(|name| std::fs::remove_file(place.beside(&format!("a.json-{name}.json"))).is_ok())
            .collect::<Vec<_>>()
    };
    for (more, found) in [
        (&["--attestor-slsa-export"][..], vec!["slsa"]),
        (&["-a", "environment", "--attestor-slsa-export=true", "--attestor-link-export"], vec!["slsa", "link"]),
        (&["-a", "environment", "--attestor-slsa-export=false", "--attestor-sbom-export=false"], vec![]),
        (&["-a", "slsa", "--attestor-slsa-export=false"], vec![]),
        (&["-a", PROVENANCE], vec!["slsa"]),
        // By default neither is written.
        (&[], vec![]),
        (&["--form", "cilock", "-a", "slsa,link"], vec!["slsa", "link"]),
    ] {
        let _ = std::fs::remove_file(place.work().join("app"));
        build(&place, more).run().code(0);
        assert_eq!(files(&place), found, "{more:?}");
    }
    // An option for something that does not run, and one that is none.
    build(&place, &["--attestor-slsa-builder-id=urn:x"]).run().code(125).stderr_has(&["does not run here"]);
    build(&place, &["-a", "slsa", "--attestor-slsa-export=maybe"]).run().code(125).stderr_has(&["attestor slsa"]);
    let attest = |list: &str| place.affiant(["attest", "-k", "../k.pem", "-s", "x", "-a", list, "a.txt"]).run();
    attest("slsa")
        .code(2)
        .stdout("")
        .stderr("error: `slsa` tells of a command, and `attest` runs none\nhint: `affiant run -- COMMAND` runs one\n");
    attest(LINK).code(2).stdout("");
}

#[test]
fn under_the_peers_names_it_stands_in_the_collection_unless_exported() {
    let place = place();
    for name in ["witness", "cilock"] {
        let program = place.beside(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_affiant"), &program).expect("links");
        let run = |more: &[&str]| {
            let _ = std::fs::remove_file(place.work().join("app"));
            let line = ["run", "-s", "build", "-k", "../k.pem", "-o", "../a.json", "-a", "slsa,link"];
            let mut command = place.affiant([""]).command();
            command = {
                let mut named = std::process::Command::new(&program);
                named.current_dir(place.work()).env_clear();
                named.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
                named
            };
            let done = command.args(line).args(more).args(["--", "sh", "-c", "cat a.txt a.txt > app"]).output();
            assert!(done.expect("starts").status.success());
        };
        run(&[]);
        assert!(!place.beside("a.json-slsa.json").exists());
        let entry = place.predicate(PEERS_PROVENANCE);
        fits(&schema("attestors/schemas/slsa.json"), &entry, "ours");
        let statement = place.statement();
        let names = subject_names(&statement);
        assert!(names.contains(&"https://slsa.dev/provenance/v1.0/file:app"), "{names:?}");
        assert!(names.contains(&"https://in-toto.io/attestation/link/v0.3/file:app"), "{names:?}");

        run(&["--attestor-slsa-export"]);
        provenance(&place);
        std::fs::remove_file(place.beside("a.json-slsa.json")).expect("removes");
    }
}

#[cfg(feature = "remote")]
#[test]
fn the_builder_is_that_of_the_ci() {
    use crate::issuer::{Issuer, Lies};

    for (provider, token) in [
        ("github", None),
        ("github", Some("ACTIONS_ID_TOKEN_REQUEST_URL")),
        ("gitlab", None),
        ("gitlab", Some("AFFIANT_ID_TOKEN")),
    ] {
        let place = place();
        let issuer = Issuer::start(provider, Lies::default());
        let mut call = place.capture(["-s", "build", "-a", provider, "-a", "slsa"]);
        for (name, value) in issuer.variables(provider) {
            call = call.env(&name, value);
        }
        if let Some(token) = token {
            call = call.env_remove(token);
        }
        call.with(["--", "sh", "-c", "echo > app"]).run().code(0);
        let statement = provenance(&place);
        let predicate = &statement["predicate"];
        let text = predicate.to_string().replace(issuer.url().as_str(), "[SERVER]");
        let mut predicate: Value = serde_json::from_str(&text).expect("JSON");
        let who = json!({
            "builder": predicate["runDetails"]["builder"]["id"].take(),
            "invocation": predicate["runDetails"]["metadata"]["invocationId"].take(),
            "identity": predicate["buildDefinition"]["internalParameters"]["builderIdentity"].take(),
            "first source": predicate["buildDefinition"]["resolvedDependencies"][0].take(),
        });
        let name = if token.is_none() { "proven" } else { "unverified" };
        assert_eq!(who["identity"]["verified"], token.is_none());
        golden(&place, &format!("slsa/{provider}-{name}.json"), &who);
    }
}

#[test]
fn a_jenkins_build_and_a_named_builder_are_not_verified() {
    let place = place();
    let variables: Value =
        serde_json::from_slice(&std::fs::read(fixture("jenkins/environment.json")).expect("reads")).expect("JSON");
    let run = |more: &[&str]| {
        let call = variables
            .as_object()
            .expect("variables")
            .iter()
            .fold(place.capture(["-s", "b"]), |call, (n, v)| call.env(n, v.as_str().expect("text")));
        call.with(["-a", "jenkins,slsa"]).with(more).with(["--", "sh", "-c", "date +%N > app"]).run().code(0);
        provenance(&place)["predicate"].clone()
    };
    let found = run(&[]);
    assert_eq!(found["runDetails"]["builder"]["id"], "https://jenkins.example.com/");
    assert_eq!(found["runDetails"]["metadata"]["invocationId"], "https://jenkins.example.com/job/octo/job/main/27/");
    assert_eq!(found["buildDefinition"]["internalParameters"]["builderIdentity"]["source"], "jenkins");
    let found = run(&["--attestor-slsa-builder-id=https://builds.example/release"]);
    assert_eq!(found["runDetails"]["builder"]["id"], "https://builds.example/release");
    let identity = &found["buildDefinition"]["internalParameters"]["builderIdentity"];
    assert_eq!((&identity["source"], &identity["verified"]), (&json!("option"), &json!(false)));
}

#[test]
fn what_the_pipeline_runs_on_is_a_source_of_what_it_makes() {
    let place = place();
    let commit = "08c6903cd8c0fde910a37f88322edcfb5dd907a8";
    place.write(
        ".github/workflows/build.yml",
        format!("name: build\non: push\njobs:\n  a:\n    runs-on: x\n    container: node:20\n    steps:\n      - uses: actions/checkout@{commit} # v4\n      - uses: ./local\n"),
    );
    place.write("local/action.yml", "runs: {using: composite, steps: []}\n");
    let job = build(&place, &["-a", "pins,slsa"]).env("GITHUB_ACTIONS", "true").env("GITHUB_WORKFLOW", "build");
    let _ = job.env("GITHUB_WORKSPACE", place.work()).run().code(0);
    let statement = provenance(&place);
    let sources = statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().expect("a list");
    assert_eq!(
        sources[..2],
        [
            json!({
                "uri": "docker://node:20", "name": "node:20",
                "annotations": {"kind": "image", "at": ".github/workflows/build.yml:6", "pinned": false},
            }),
            json!({
                "uri": format!("git+https://github.com/actions/checkout@{commit}"), "name": format!("actions/checkout@{commit}"),
                "digest": {"gitCommit": commit},
                "annotations": {"kind": "action", "at": ".github/workflows/build.yml:8", "pinned": true},
            }),
        ]
    );
    assert_eq!(sources[2]["name"], "materials", "what lies in the repository is none of its own");
}

#[test]
fn a_commit_and_many_materials_are_told_within_bounds() {
    let place = place();
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"];
        let mut git = std::process::Command::new("git");
        git.args(who).args(args).current_dir(place.work()).env("HOME", place.beside("home"));
        git.output().is_ok_and(|done| done.status.success())
    };
    if !git(&["init", "-q", "-b", "main"]) {
        crate::harness::left_out("git is not there");
        return;
    }
    assert!(git(&["add", "."]) && git(&["commit", "-qm", "first"]));
    assert!(git(&["remote", "add", "origin", "https://user:geheim@git.example/a.git"]));
    assert!(git(&["remote", "add", "ssh", "git@git.example:a.git"]));
    for number in 0..1200 {
        place.write(&format!("many/{number}"), number.to_string());
    }
    build(&place, &["-a", "git,slsa,link", "--material-exclude-glob", ".git/**"]).run().code(0);
    let statement = provenance(&place);
    let sources = statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().expect("a list");
    let uris: Vec<_> = sources.iter().filter_map(|one| one["uri"].as_str()).collect();
    assert_eq!(
        uris,
        ["git+ssh://git@git.example/a.git@refs/heads/main", "git+https://git.example/a.git@refs/heads/main"],
        "no password"
    );
    assert_eq!(sources[0]["digest"]["gitCommit"], place.predicate("/git/v0.1")["commithash"]);
    // One digest for all of them: Go's Hash1, as in-toto's digest sets have it.
    let mut files: Vec<(String, Vec<u8>)> =
        (0..1200).map(|n| (format!("many/{n}"), n.to_string().into_bytes())).collect();
    files.push(("a.txt".to_owned(), b"hi\n".to_vec()));
    files.sort();
    let lines: Vec<_> = files.iter().map(|(path, content)| format!("{}  {path}\n", sha256(content))).collect();
    assert_eq!(sources.len(), 3);
    assert_eq!(
        sources[2],
        json!({
            "name": "materials",
            "digest": { "dirHash": sha256(lines.concat().as_bytes()) },
            "annotations": { "files": 1201, "listed": false },
        })
    );
    // A link has all of them: rules of layouts are about each.
    assert_eq!(link(&place)["predicate"]["materials"].as_array().map(Vec::len), Some(1201));
}

#[test]
fn images_are_subjects_and_their_bases_are_sources() {
    let place = Place::new();
    let copy = |name: &str| fixture(name).display().to_string();
    let script = format!(
        "cp '{}' docker-metadata.json; cp '{}' .",
        copy("docker/materials-v02/products/m.json"),
        copy("buildx/docker-max/image.tar")
    );
    place.capture(["-s", "image", "-a", "docker,oci,slsa", "--", "sh", "-c", &script]).run().code(0);
    let statement = provenance(&place);
    let of_collection = |kinds: &[&str]| {
        let collection = place.statement();
        let list = collection["subject"].as_array().expect("a list").clone();
        let short = |subject: &Value| {
            let name = subject["name"].as_str().expect("a name").rsplit('/').next().expect("a name").to_owned();
            kinds.iter().any(|kind| name.starts_with(kind)).then_some(name)
        };
        list.iter().filter_map(short).collect::<std::collections::BTreeSet<_>>()
    };
    let names: std::collections::BTreeSet<_> = subject_names(&statement).into_iter().map(str::to_owned).collect();
    let mut expected = of_collection(&["imagedigest:", "imageid:", "tardigest:"]);
    assert!(expected.len() >= 3, "{expected:?}");
    expected.extend(["affiant:run", "file:docker-metadata.json", "file:image.tar"].map(str::to_owned));
    assert_eq!(names, expected, "no texts, no materials");

    let sources = statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().expect("a list");
    let docker = place.predicate("/docker/v0.1");
    let materials =
        docker["products"].as_object().expect("a map").values().filter_map(|one| one["materials"].as_object());
    let mut count = 0;
    for material in materials.flat_map(|map| map.values()).flat_map(|list| list.as_array().expect("a list")) {
        count += 1;
        let source = json!({ "uri": material["uri"], "digest": material["digest"] });
        assert!(sources.contains(&source), "{source} is not in {sources:?}");
    }
    assert!(count > 0, "the fixture has base images");
}

#[test]
fn a_failed_command_gets_no_provenance_and_a_link_that_says_so() {
    let place = place();
    let run = |more: &[&str], script: &str| {
        let call = place.capture(["-s", "build", "-a", "slsa", "--attestor-link-classic"]).with(more);
        call.with(["--", "sh", "-c", script]).run()
    };
    let ended = run(&[], "echo > app; exit 7").code(7);
    assert!(ended.stderr_text().contains("provenance cannot say so"), "{}", ended.stderr_text());
    assert!(!place.beside("a.json-slsa.json").exists());
    let found = link(&place);
    assert_eq!(found["predicate"]["name"], "build#failed");
    assert_eq!(found["predicate"]["byproducts"]["return-value"], 7);
    // in-toto-verify looks neither at the name within nor at the value.
    assert_eq!(classic_files(&place.beside("")), [""; 0]);

    run(&["--ignore-command-exit-code"], "echo 2 > app; exit 7").code(0);
    provenance(&place);
    assert_eq!(link(&place)["predicate"]["name"], "build");
    assert_eq!(classic_files(&place.beside("")).len(), 1);

    // Nothing was made: there is nothing to tell the provenance of.
    std::fs::remove_file(place.beside("a.json-slsa.json")).expect("removes");
    run(&[], "true").code(125).stderr_has(&["neither a product nor an image"]);
    assert!(!place.beside("a.json-slsa.json").exists());
}

fn classic_files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).expect("a folder").flatten().map(|one| one.file_name());
    let is_link = |name: &String| Path::new(name).extension().is_some_and(|ending| ending == "link");
    names.filter_map(|name| name.into_string().ok()).filter(is_link).collect()
}

#[test]
fn classic_metadata_is_the_same_link_signed_by_each_key() {
    let place = place();
    place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "../second.pem"]).run().code(0);
    std::fs::create_dir(place.beside("links")).expect("makes a folder");
    build(&place, &["-k", "../second.pem", "--attestor-link-classic=../links"]).run().code(0);
    let names = classic_files(&place.beside("links"));
    assert_eq!(names.len(), 2, "{names:?}");
    let statement = link(&place);
    for name in names {
        let file: Value =
            serde_json::from_slice(&std::fs::read(place.beside("links").join(&name)).expect("reads")).expect("JSON");
        let key = file["signatures"][0]["keyid"].as_str().expect("a key id");
        assert_eq!(name, format!("build.{}.link", &key[..8]));
        assert_eq!(
            file["signed"],
            json!({
                "_type": "link",
                "name": "build",
                "command": statement["predicate"]["command"],
                "materials": { "a.txt": { "sha256": sha256(b"hi\n") } },
                "products": { "app": { "sha256": sha256(b"hi\nhi\n") } },
                "byproducts": { "return-value": 0, "stdout": "done\n", "stderr": "" },
                "environment": statement["predicate"]["environment"],
            })
        );
    }
    // Beside the outfile, or in the working directory, where it is no product and no material.
    std::fs::remove_file(place.work().join("app")).expect("removes");
    let here = |place: &Place| {
        place.affiant(["run", "-k", "../k.pem", "-s", "build", "--attestor-link-classic", "--", "touch", "app"]).run()
    };
    here(&place).code(0);
    assert_eq!(classic_files(&place.work()).len(), 1);
    here(&place).code(0).stderr_has(&["2 materials, 1 product\n"]);
}

#[test]
fn classic_metadata_that_cannot_be_made_is_refused_before_the_command() {
    let place = place();
    place.affiant(["key", "generate", "--kind", "p384", "--no-password", "-o", "../p384.pem"]).run().code(0);
    let refused = |more: &[&str], text: &str| {
        let ended: Ended = place
            .affiant(["run", "-o", "../a.json"])
            .with(more)
            .with(["--", "touch", "made"])
            .run()
            .code(125)
            .stdout("");
        assert!(ended.stderr_text().contains(text), "{}", ended.stderr_text());
        assert!(!place.work().join("made").exists());
    };
    refused(&["-k", "../p384.pem", "--attestor-link-classic"], "in-toto takes no signature of a P-384 key");
    refused(&["-k", "../k.pem", "--attestor-link-classic=../missing"], "cannot be written");
    refused(&["-k", "../k.pem", "--step", "a/b", "--attestor-link-classic"], "cannot be the name of a file");
    // An identity has a new key each time, and the readers of such links know keys; also beside a key.
    let services = ["--fulcio-url", "http://127.0.0.1:1", "--timestamp-servers", "http://127.0.0.1:1"];
    let identity =
        [&services[..], &["--log-public-ok", "--identity-token", "../token", "--attestor-link-classic"]].concat();
    let claims = r#"{"iss":"https://i.example","sub":"s","aud":"sigstore","exp":99999999999}"#;
    let part = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    let token = format!("{}.{}.{}", part(r#"{"alg":"RS256"}"#), part(claims), part("signature of a test"));
    std::fs::write(place.beside("token"), token).expect("writes");
    refused(&identity, "its readers know keys only");
    refused(&[&["-k", "../k.pem"][..], &identity].concat(), "its readers know keys only");
}

#[test]
fn what_cannot_be_written_waits_in_the_spool() {
    let place = place();
    std::fs::create_dir(place.beside("a.json-slsa.json")).expect("makes a folder");
    let ended = build(&place, &["-a", "slsa,link"]).run().code(125).stdout("done\n");
    assert!(ended.stderr_text().contains("finish with `affiant resume`"), "{}", ended.stderr_text());
    link(&place);
    std::fs::remove_dir(place.beside("a.json-slsa.json")).expect("removes");
    place.affiant(["resume"]).run().code(0);
    provenance(&place);
}

#[test]
fn without_an_outfile_the_archive_has_them() {
    let place = place();
    let call = place.affiant(["run", "-k", "../k.pem", "-s", "build", "-a", "slsa,link", "--report", "../r.json"]);
    let ended = call.with(["--", "sh", "-c", "echo > app"]).run().code(0);
    let ended =
        ended.stderr_has(&["affiant: slsa in the archive as sha256:", "affiant: link in the archive as sha256:"]);
    drop(ended);
    // witness writes a file `-slsa.json`.
    let left: Vec<_> = place.all_paths().into_iter().filter(|path| path.to_string_lossy().contains("-slsa")).collect();
    assert_eq!(left, [""; 0].map(std::path::PathBuf::from));
    let report: Value = serde_json::from_slice(&std::fs::read(place.beside("r.json")).expect("reads")).expect("JSON");
    let kept = report["result"]["evidence"].as_array().expect("envelopes");
    let names: Vec<_> = kept.iter().map(|one| one["attestor"].as_str()).collect();
    assert_eq!(names, [None, Some("slsa"), Some("link")]);
    for one in kept {
        assert!(one["archive"].is_string(), "{one}");
        let digest = format!("sha256:{}", one["sha256"].as_str().expect("a digest"));
        place.affiant(["inspect", "--key", "../k.pub", &digest]).run().code(0);
    }
}

#[test]
fn no_secret_stands_in_them() {
    const CANARY: &str = "Zx9canary4Qw7Lm2Pt8Rk";
    let place = place();
    let script = format!("echo {CANARY}; touch f-{CANARY} app");
    place
        .capture(["-s", "b", "-a", "environment,slsa,link", "--attestor-link-classic"])
        .with([&format!("--attestor-slsa-builder-id=https://{CANARY}.example/")])
        .with(["--", "sh", "-c", &script, CANARY])
        .env("DEPLOY_TOKEN", CANARY)
        .run()
        .code(0);
    assert_eq!(subject_names(&provenance(&place)), ["file:app", "affiant:run"]);
    assert_eq!(subject_names(&link(&place)), ["app", "affiant:run"]);
    let classic = classic_files(&place.beside(""));
    assert_eq!(classic.len(), 1);
    for (path, bytes) in place.everything_written() {
        let found = bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes());
        assert!(!found, "{} holds a secret", path.display());
    }
}

#[test]
fn names_that_are_no_text_are_left_out() {
    let place = place();
    let name = std::ffi::OsStr::from_bytes(b"na\xffme");
    std::fs::write(place.work().join(name), "x").expect("writes");
    place.write("line\nfeed", "x");
    build(&place, &["-a", "slsa,link", "--attestor-link-classic"]).run().code(0);
    let statement = provenance(&place);
    let sources = statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().expect("a list");
    let names: Vec<_> = sources.iter().filter_map(|one| one["name"].as_str()).collect();
    // A line feed in a name: there is no digest of all of them.
    assert_eq!(names, ["a.txt", "line\nfeed"]);
    link(&place);
}

#[test]
fn an_sbom_is_exported_where_that_is_asked_for() {
    let place = place();
    let sbom = r#"{"bomFormat":"CycloneDX","specVersion":"1.5","metadata":{"component":{"name":"app"}}}"#;
    let run = |more: &[&str]| {
        let _ = std::fs::remove_file(place.work().join("s.cdx.json"));
        place.capture(["-s", "scan"]).with(more).with(["--", "sh", "-c", &format!("echo '{sbom}' > s.cdx.json")]).run()
    };
    for more in [&["--attestor-sbom-export"][..], &["-a", "sbom", "--attestor-sbom-export", "--form", "cilock"]] {
        run(more).code(0);
        let statement = statement_of(&place.beside("a.json-sbom.json"));
        assert_eq!(statement["predicateType"], "https://cyclonedx.org/bom");
        assert!(subject_names(&statement).contains(&"file:s.cdx.json"));
        assert!(!place.statement().to_string().contains("https://cyclonedx.org/bom\""));
        std::fs::remove_file(place.beside("a.json-sbom.json")).expect("removes");
    }
    run(&[]).code(0);
    assert!(!place.beside("a.json-sbom.json").exists());
    place.predicate("cyclonedx.org");
}

/// A policy that asks for this type in the step `build`.
fn policy(place: &Place, kind: &str) {
    policy_with(place, &json!({ "type": kind }));
}

fn policy_with(place: &Place, attestation: &Value) {
    let id = place.affiant(["key", "id", "../k.pub"]).run().code(0).stdout_text().trim().to_owned();
    let pem = std::fs::read(place.beside("k.pub")).expect("a key");
    let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    let policy = json!({
        "expires": "2100-01-01T00:00:00Z",
        "publickeys": { id.clone(): { "keyid": id, "key": key } },
        "steps": { "build": {
            "name": "build",
            "functionaries": [{ "type": "publickey", "publickeyid": id }],
            "attestations": [attestation],
        } },
    });
    std::fs::write(place.beside("policy.json"), policy.to_string()).expect("writes");
    place.affiant(["sign", "-k", "../k.pem", "-f", "../policy.json", "-o", "../policy.signed.json"]).run().code(0);
}

#[test]
fn the_gate_takes_provenance_under_either_type_and_of_this_run_only() {
    let place = place();
    let ask = |evidence: &[&str]| {
        let list = evidence.join(",");
        place.affiant(["verify", "-p", "../policy.signed.json", "-k", "../k.pub", "-a", &list, "app"]).run()
    };
    build(&place, &["-a", "environment,slsa,link"]).run().code(0);
    for (kind, own) in
        [(PROVENANCE, "../a.json-slsa.json"), (PEERS_PROVENANCE, "../a.json-slsa.json"), (LINK, "../a.json-link.json")]
    {
        policy(&place, kind);
        ask(&["../a.json", own]).code(0);
        let ended = ask(&["../a.json"]).code(1);
        assert!(ended.stdout_text().contains("run the step with these attestors as well"), "{}", ended.stdout_text());
    }
    // The same product by another run: the provenance names the first.
    std::fs::rename(place.beside("a.json-slsa.json"), place.beside("old-slsa.json")).expect("renames");
    std::fs::remove_file(place.work().join("app")).expect("removes");
    place.write("b.txt", "another material");
    build(&place, &["-a", "environment"]).run().code(0);
    policy(&place, PROVENANCE);
    let ended = ask(&["../a.json", "../old-slsa.json"]).code(1);
    assert!(ended.stdout_text().contains("not bound to this run: ../old-slsa.json"), "{}", ended.stdout_text());

    // Rules see the predicate as it is written; one for witness's spelling rests on nothing, and denies.
    std::fs::remove_file(place.work().join("app")).expect("removes");
    build(&place, &["-a", "environment,slsa"]).run().code(0);
    for (path, code) in [
        ("buildDefinition.internalParameters.builderIdentity.verified == true", 0),
        ("buildDefinition.internalParameters.builderIdentity.verified == false", 1),
        ("build_definition.build_type == \"another\"", 1),
    ] {
        let module = format!("package provenance\nimport rego.v1\ndeny contains \"denied\" if input.{path}\n");
        let module = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, module);
        let rules = json!([{ "name": "provenance", "module": module }]);
        policy_with(&place, &json!({ "type": PEERS_PROVENANCE, "regopolicies": rules }));
        ask(&["../a.json", "../a.json-slsa.json"]).code(code);
    }

    // In the collection, as the peers have it, it answers both types as well.
    std::fs::remove_file(place.work().join("app")).expect("removes");
    build(&place, &["-a", "environment,slsa", "--attestor-slsa-export=false"]).run().code(0);
    for kind in [PROVENANCE, PEERS_PROVENANCE] {
        policy(&place, kind);
        ask(&["../a.json"]).code(0);
    }
}
