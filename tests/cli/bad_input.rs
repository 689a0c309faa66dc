//! Bad input. Before the command: 125, nothing run, the message names it. After it: evidence kept, a gap with the reason.

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Place, left_out};

/// Runs `args` before a command that would leave a trace, and checks that it was refused.
#[track_caller]
fn refused(place: &Place, args: &[&str], message: &[&str]) {
    let mut line = vec!["run"];
    line.extend(args);
    line.extend(["--", "touch", "trace"]);
    place.affiant(line).run().code(125).stdout("").stderr_has(message);
    assert!(!place.work().join("trace").exists(), "the command ran: {args:?}");
}

#[test]
fn refused_before_the_command() {
    let place = Place::new();
    let key = ["-k", "../k.pem"];
    let with = |more: &[&'static str]| [&key[..], more].concat();
    refused(&place, &with(&["-a", "enviroment"]), &["unknown attestor `enviroment`", "did you mean `environment`?"]);
    refused(&place, &with(&["--atestations", "git"]), &["--atestations", "--attestations"]);
    refused(&place, &with(&["--attestor-product-include-glob", "a[b"]), &["--attestor-product-…-glob", "a[b"]);
    refused(&place, &with(&["--dirhash-glob", "[a"]), &["--dirhash-glob", "[a"]);
    refused(&place, &with(&["--hashes", "md5"]), &["--hashes", "md5", "sha256"]);
    refused(&place, &with(&["-o", "no/such/folder/a.json"]), &["no/such/folder/a.json"]);
    refused(&place, &with(&["--archive", "dir:/proc/nothing"]), &["/proc/nothing"]);
    refused(&place, &with(&["--archive", "s3://bucket"]), &["--archive s3://bucket", "dir:PATH"]);
    refused(&place, &with(&["-d", "nowhere"]), &["working directory nowhere"]);
    refused(&place, &with(&["--timeout", "soon"]), &["--timeout", "soon"]);
    refused(&place, &with(&["--subjects", "x=md5:00"]), &["--subjects x=md5:00"]);
    refused(&place, &["-k", "missing.pem"], &["missing.pem", "cannot be used"]);
    refused(&place, &["-k", "../k.pub"], &["../k.pub", "private key is wanted"]);
    refused(&place, &["-k", "awskms:///alias/x"], &["awskms"]);
    refused(
        &place,
        &[],
        &[
            "there is no signing key, so nothing was run",
            "affiant key generate",
            "affiant run --key affiant.key -- touch …",
        ],
    );
    place
        .affiant(["run", "-k", "../k.pem"])
        .run()
        .code(125)
        .stdout("")
        .stderr_has(&["there is no command to run", "affiant run -- make"]);
}

/// `--plan` says where the evidence would go, and makes no folder for it.
#[test]
fn a_plan_makes_nothing() {
    let place = Place::new();
    place.write("taken/file", "x");
    let before = place.all_paths();
    for archive in [&["--archive", "dir:../new/archive"][..], &[]] {
        let plan = ["run", "--plan", "-k", "../k.pem", "-o", "../a.json"];
        let ended = place.affiant(plan).with(archive).with(["--", "touch", "trace"]).run().code(0);
        assert!(ended.stdout_text().contains("archive"), "{}", ended.stdout_text());
        assert_eq!(place.all_paths(), before);
    }
    refused(
        &place,
        &["--plan", "-k", "../k.pem", "--archive", "dir:taken"],
        &["taken", "neither an archive nor an empty"],
    );
    refused(&place, &["--plan", "-k", "../k.pem", "--archive", "dir:taken/file/x"], &["taken/file/x"]);
    assert_eq!(place.all_paths(), before);
}

#[test]
fn a_key_that_is_locked_or_broken() {
    let place = Place::new();
    place.affiant(["key", "generate", "-o", "../locked.pem"]).env("AFFIANT_KEY_PASSWORD", "right").run().code(0);
    refused(&place, &["-k", "../locked.pem"], &["is encrypted, and there is no password", "AFFIANT_KEY_PASSWORD"]);
    place
        .affiant(["run", "-k", "../locked.pem", "--", "touch", "trace"])
        .env("AFFIANT_KEY_PASSWORD", "wrong")
        .run()
        .code(125)
        .stdout("")
        .stderr_has(&["../locked.pem cannot be used", "password", "came from AFFIANT_KEY_PASSWORD"]);
    place.write("broken.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    refused(&place, &["-k", "broken.pem"], &["broken.pem cannot be used"]);
    if nix::unistd::Uid::effective().is_root() {
        left_out("an unreadable key cannot be made as root");
    } else {
        std::fs::set_permissions(place.beside("k.pem"), std::fs::Permissions::from_mode(0o000)).expect("chmod");
        refused(&place, &["-k", "../k.pem"], &["../k.pem cannot be used", "ermission denied"]);
    }
}

/// What the command leaves behind is bad: the evidence is kept, and the gap says why.
#[track_caller]
fn gap(place: &Place, attestor: &str, script: &str, reason: &str) {
    place.capture(["-s", "b", "-a", attestor, "--", "sh", "-c", script]).run().code(125).stderr_has(&["gap"]);
    let statement = place.statement();
    let gaps = statement["predicate"]["gaps"].as_array().expect("gaps");
    assert!(
        gaps.iter().any(|gap| gap["attestor"] == attestor && gap["reason"].as_str().expect("text").contains(reason)),
        "no gap of {attestor} with `{reason}`: {gaps:?}"
    );
    assert_eq!(statement["predicate"]["name"], "b", "the command itself succeeded");
}

#[test]
fn bad_products_become_gaps() {
    let place = Place::new();
    gap(&place, "docker", "true", "");
    gap(&place, "docker", r#"printf '{"containerimage.digest":"md5:00"}' > m.json"#, "m.json");
    gap(&place, "sbom", r#"printf '{"bomFormat":"CycloneDX","specVersion":' > b.cdx.json"#, "b.cdx.json");
    gap(
        &place,
        "oci",
        "mkdir d && echo '[]' > d/manifest.json && tar -C d -cf image.tar manifest.json && head -c 700 image.tar > t && mv t image.tar",
        "image.tar",
    );
    gap(&place, "git", "true", "");
}

#[test]
fn on_gap_warn_keeps_the_commands_code() {
    let place = Place::new();
    place.capture(["-s", "b", "-a", "sbom", "--on-gap", "warn", "--", "true"]).run().code(0).stderr_has(&["gap: sbom"]);
}

#[test]
fn bad_configuration_is_refused() {
    let place = Place::new();
    place.write("c.toml", "[run]\nstepp = \"x\"\n");
    refused(&place, &["--config", "c.toml"], &["c.toml", "run.stepp", "did you mean `step`?"]);
    place.write("c.toml", "[run]\nstep = [1, {a=1}]\n");
    refused(&place, &["--config", "c.toml"], &["run.step"]);
    place.write("c.toml", "[run\n");
    refused(&place, &["--config", "c.toml"], &["c.toml"]);
    refused(&place, &["--config", "nowhere.toml"], &["nowhere.toml"]);
}

#[test]
fn nothing_asked_for_shows_the_help() {
    let place = Place::new();
    let none: [&str; 0] = [];
    place.affiant(none).run().code(2).stdout("").stderr_has(&["\nUsage: affiant <COMMAND>\n", "\n  run  "]);
    place.affiant(["key"]).run().code(2).stdout("").stderr_has(&["\nUsage: affiant key <COMMAND>\n"]);
}

/// CI systems set variables that nobody filled.
#[test]
fn an_empty_variable_is_none() {
    let place = Place::new();
    let mut call = place.capture(["-a", "environment", "--", "false"]);
    for name in
        ["AFFIANT_STEP", "AFFIANT_REPORT", "AFFIANT_TIMEOUT", "AFFIANT_ON_GAP", "AFFIANT_IGNORE_COMMAND_EXIT_CODE"]
    {
        call = call.env(name, "");
    }
    call.run().code(1);
    for (value, code) in [("1", 0), ("yes", 0), ("off", 1)] {
        let call = place.capture(["-a", "environment", "--", "false"]);
        call.env("AFFIANT_IGNORE_COMMAND_EXIT_CODE", value).run().code(code);
    }
}

/// Class K of user needs: a file in the working directory steers nothing.
#[test]
fn files_in_the_working_directory_are_not_configuration() {
    let place = Place::new();
    for name in [
        "affiant.toml",
        ".affiant.toml",
        ".affiant/config.toml",
        ".witness.yaml",
        "config.toml",
        ".config/affiant/config.toml",
    ] {
        place.write(name, "[run]\nstep = \"evil\"\nkey = \"evil.pem\"\n");
    }
    place.capture(["-a", "environment", "--", "true"]).run().code(0);
    assert_eq!(place.statement()["predicate"]["name"], "true");
}

#[test]
fn flag_before_variable_before_file() {
    let place = Place::new();
    place.write("c.toml", "[run]\nstep = \"file\"\nattestations = [\"environment\"]\n");
    let step = |call: crate::harness::Call| {
        call.run().code(0);
        place.statement()["predicate"]["name"].as_str().expect("a name").to_owned()
    };
    assert_eq!(step(place.capture(["--config", "c.toml", "--", "true"])), "file");
    assert_eq!(step(place.capture(["--config", "c.toml", "--", "true"]).env("AFFIANT_STEP", "variable")), "variable");
    assert_eq!(
        step(place.capture(["--config", "c.toml", "-s", "flag", "--", "true"]).env("AFFIANT_STEP", "variable")),
        "flag"
    );
}
