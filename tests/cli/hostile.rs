//! What a command, an environment, a user and a stranger's file can do to us.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::{Place, left_out, statement_of};

const CANARY: &str = "Zx9canary4Qw7Lm2Pt8Rk";

/// No byte that could steer a terminal, and no line that begins like one of ours but is none.
#[track_caller]
fn harmless(text: &str) {
    let bad = |c: char| (c.is_control() && c != '\n' && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!text.contains(bad), "{text:?}");
    assert!(!text.lines().any(|line| line.contains("FORGED") && line.trim_start().starts_with("signature    valid")));
    assert!(!text.lines().any(|line| line.starts_with("affiant: evidence in FORGED")), "{text}");
}

fn program(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(folder).expect("makes a folder");
    let path = folder.join(name);
    std::fs::write(&path, text).expect("writes");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// Security rule 7.
#[test]
fn own_helpers_are_never_found_through_path() {
    let place = Place::new();
    let (evil, trace) = (place.beside("evil"), place.beside("trace"));
    for name in [
        "sh", "bash", "git", "docker", "buildx", "podman", "syft", "openssl", "tar", "gpg", "ssh", "id", "hostname",
        "uname", "cat", "stty", "tput", "mount", "file",
    ] {
        program(&evil, name, &format!("#!/bin/sh\n/bin/echo {name} >> '{}'\n", trace.display()));
    }
    // A repository, whose own configuration names programs, too.
    let git = |args: &[&str]| {
        let done = Command::new("git").args(args).current_dir(place.work()).env("HOME", place.beside("home")).status();
        assert!(done.expect("git is needed for this test").success());
    };
    git(&["init", "-q"]);
    place.write("a", "x");
    place.write(".gitattributes", "a filter=x\n");
    let touch = format!("/bin/echo filter >> '{}'", trace.display());
    for key in ["filter.x.clean", "filter.x.process", "core.fsmonitor", "core.sshCommand", "diff.external"] {
        git(&["config", key, &touch]);
    }
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", evil.display());
    let calls: [&[&str]; 7] = [
        &["run", "-k", "../k.pem", "-o", "../a.json", "-s", "b", "--", "/bin/true"],
        &["inspect", "--key", "../k.pub", "../a.json"],
        &["archive", "check"],
        &["doctor"],
        &["sign", "-k", "../k.pem", "-t", "x", "../a.json"],
        &["key", "generate", "--no-password", "-o", "../new.pem"],
        &["resume"],
    ];
    for call in calls {
        let _ = place.affiant(call).env("PATH", &path).run();
        let traces = std::fs::read_to_string(&trace).unwrap_or_default();
        assert_eq!(traces, "", "{call:?} executed a program");
    }
    // The command itself is found there, as anybody would find it.
    place.affiant(["run", "-k", "../k.pem", "-s", "b", "--", "syft"]).env("PATH", &path).run().code(0);
    assert_eq!(std::fs::read_to_string(&trace).expect("a trace"), "syft\n");
}

/// The outfile and the report are never a file that this run reads.
#[test]
fn outputs_never_replace_the_key() {
    let place = Place::new();
    let key = std::fs::read(place.beside("k.pem")).expect("reads");
    std::os::unix::fs::symlink("k.pem", place.beside("link.pem")).expect("links");
    std::fs::hard_link(place.beside("k.pem"), place.beside("hard.pem")).expect("links");
    place.write("c.toml", "[run]\nstep = \"b\"\n");
    place.write("password", "x\n");
    let calls: [&[&str]; 8] = [
        &["run", "-k", "../k.pem", "-o", "../k.pem", "--", "touch", "trace"],
        &["run", "-k", "../k.pem", "-o", "../link.pem", "--", "touch", "trace"],
        &["run", "-k", "../k.pem", "-o", "../hard.pem", "--", "touch", "trace"],
        &["run", "-k", "../k.pem", "--report", "../k.pem", "--", "touch", "trace"],
        &["run", "-k", "../k.pem", "-o", "../x.json", "--report", "../x.json", "--", "touch", "trace"],
        &["run", "-k", "../k.pem", "-o", "c.toml", "--config", "c.toml", "--", "touch", "trace"],
        &["run", "-k", "../k.pem", "-o", "password", "--key-password-file", "password", "--", "touch", "trace"],
        &["run", "-k", "../k.pem", "--archive", "dir:.", "--", "touch", "trace"],
    ];
    for call in calls {
        place.affiant(call).run().code(125).stdout("");
        assert!(!place.work().join("trace").exists(), "{call:?} ran");
    }
    place.affiant(["sign", "-k", "../k.pem", "-t", "x", "-o", "../k.pem", "c.toml"]).run().code(2).stdout("");
    place.affiant(["key", "generate", "--no-password", "-o", "../new.pub"]).run().code(2).stdout("");
    assert!(!place.beside("new.pub").exists(), "a private key where the public one belongs");
    assert_eq!(std::fs::read(place.beside("k.pem")).expect("reads"), key);
    assert!(!place.work().join("affiant-archive.json").exists());
}

/// Nothing that `image sign-blob` and `attest-blob` read is overwritten, and no output replaces another.
#[cfg(feature = "remote")]
#[test]
fn outputs_of_files_never_replace_what_is_read() {
    let place = Place::without_key();
    place.affiant(["key", "generate", "--no-password", "-o", "k.key"]).run().code(0);
    std::os::unix::fs::symlink("k.key", place.work().join("link.key")).expect("links");
    std::fs::hard_link(place.work().join("k.key"), place.work().join("hard.key")).expect("links");
    for name in ["f", "p.json", "password", "config.json"] {
        place.write(name, "{}");
    }
    let statement = json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": "a:b", "predicate": {},
        "subject": [{"name": "f", "digest": {"sha256": "00".repeat(32)}}]});
    place.write("s.json", statement.to_string());
    let before: Vec<_> = place.all_paths();
    let read = || before.iter().filter(|path| path.is_file()).map(|path| std::fs::read(path).expect("reads"));
    let bytes: Vec<_> = read().collect();
    let blob = ["sign-blob", "--key", "k.key", "f"];
    let attest = ["attest-blob", "--key", "k.key", "--type", "a:b", "--predicate", "p.json", "f"];
    let ready = ["attest-blob", "--key", "k.key", "--statement", "s.json"];
    let proof = ["--output-certificate", "--rfc3161-timestamp"];
    let mut calls: Vec<Vec<&str>> = Vec::new();
    for (verb, flags, inputs) in [
        (&blob[..], &["--bundle", "--output-signature"][..], &["f"][..]),
        (&attest, &["--bundle", "--output-signature", "--output-attestation"], &["f", "p.json"]),
        (&ready, &["--bundle", "--output-signature", "--output-attestation"], &["s.json"]),
    ] {
        for flag in flags.iter().chain(&proof) {
            for input in ["k.key", "./k.key", "link.key", "hard.key"].iter().chain(inputs) {
                calls.push([verb, &[flag, input]].concat());
            }
            calls.push([verb, &["--key-password-file", "password", flag, "password"]].concat());
            calls.push([verb, &["--signing-config", "config.json", flag, "config.json"]].concat());
            calls.push([verb, &["--oidc-client-secret-file", "password", flag, "password"]].concat());
            for other in flags.iter().chain(&proof).filter(|other| *other != flag) {
                calls.push([verb, &[flag, "new", other, "./new"]].concat());
            }
        }
    }
    for call in calls {
        for (name, first) in [("affiant", Some("image")), ("cosign", None)] {
            let args: Vec<&str> = first.into_iter().chain(call.iter().copied()).collect();
            let ended = if name == "affiant" { place.affiant(&args) } else { place.called(name, &args) };
            let ended = ended.run();
            assert_eq!(ended.exit_code(), 2, "{name} {args:?}: {}", ended.stderr_text());
            assert!(ended.stdout_text().is_empty());
        }
    }
    assert_eq!(read().collect::<Vec<_>>(), bytes);
    assert!(!place.work().join("new").exists());
    // What is no file takes as much as it is given.
    let null = ["--bundle", "/dev/null", "--output-signature", "/dev/null"];
    place.affiant(["image"]).with(blob).with(null).run().code(0);
}

#[test]
fn outfiles_of_every_kind() {
    let place = Place::new();
    std::os::unix::fs::symlink("nowhere.json", place.beside("dangling")).expect("links");
    std::os::unix::fs::symlink("loop", place.beside("loop")).expect("links");
    std::fs::create_dir(place.beside("folder")).expect("makes a folder");
    let call = |outfile: &str| {
        place.affiant(["run", "-k", "../k.pem", "-s", "b", "-a", "environment", "-o", outfile, "--", "echo", "x"]).run()
    };
    for refused in ["../folder", "../folder/", "../loop", "/proc/self/nothing", "-", "../k.pub/x"] {
        call(refused).code(125).stdout("");
    }
    call("/dev/full").code(125).stdout("x\n").stderr_has(&["No space left", "the evidence waits in"]);
    call("/dev/null").code(0).stdout("x\n");
    call("../dangling").code(0).stdout("x\n");
    assert_eq!(statement_of(&place.beside("nowhere.json"))["predicate"]["name"], "b");
    let out = call("/dev/stdout").code(0).stdout_text();
    let envelope = out.strip_prefix("x\n").expect("the command's output comes first");
    assert!(serde_json::from_str::<Value>(envelope).is_ok(), "{envelope}");
    // Read-only, and its folder, too.
    std::fs::write(place.beside("folder/old.json"), "old").expect("writes");
    if !nix::unistd::Uid::effective().is_root() {
        std::fs::set_permissions(place.beside("folder"), std::fs::Permissions::from_mode(0o500)).expect("chmod");
        call("../folder/new.json").code(125).stdout("").stderr_has(&["../folder/new.json", "ermission denied"]);
        std::fs::set_permissions(place.beside("folder"), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    }
}

#[test]
fn the_command_takes_the_working_directory_away() {
    let place = Place::new();
    place.write("inner/a", "x");
    let call = |script: &str| {
        place
            .affiant(["run", "-k", "../k.pem", "-s", "b", "-a", "environment", "-d", "inner", "-o", "../a.json"])
            .with(["--report", "../r.json", "--", "sh", "-c", script])
            .run()
    };
    call("rm -rf ../inner; exit 4").code(4);
    assert_eq!(place.statement()["predicate"]["name"], "b#failed");
    place.write("inner/a", "x");
    place.write("other/secret", "of somebody else");
    call("cd ..; mv inner moved; ln -s other inner; cat inner/secret").code(0).stdout("of somebody else");
    let products = place.predicate("product");
    assert!(products["secret"].is_null(), "what the link leads to was recorded: {products}");
    let omissions = place.predicate("command-run")["affiant"]["omissions"].to_string();
    assert!(omissions.contains("another folder than before the command"), "{omissions}");
    assert!(place.beside("r.json").exists());

    // Our own folder: the outfile was named relative to it.
    let deep = Place::new();
    std::fs::create_dir(deep.work().join("here")).expect("makes a folder");
    let mut call = deep
        .affiant(["run", "-k", "../../k.pem", "-s", "b", "-a", "environment", "-o", "../../a.json"])
        .with(["--report", "../../r.json", "--", "rm", "-r", "../here"])
        .command();
    let done = call.current_dir(deep.work().join("here")).output().expect("starts");
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(deep.beside("a.json").exists() && deep.beside("r.json").exists());
}

#[test]
fn products_of_every_kind() {
    let place = Place::new();
    let script = "mkfifo fifo; ln -s /dev/zero zero; ln -s fifo to-fifo; touch -- -rf; touch \"$(printf 'a\\naffiant: evidence in FORGED')\"; \
                  touch \"$(printf 'esc\\033[2J\\033]0;x\\007')\"; touch \"$(printf '\\377bad')\"; touch \"$(printf '\\342\\200\\256rtl')\"; \
                  touch \"$(printf 'x%.0s' $(seq 1 255))\"; mkdir -p $(printf 'd/%.0s' $(seq 1 500)); touch $(printf 'd/%.0s' $(seq 1 500))f; \
                  chmod 000 zero 2>/dev/null; mknod device c 1 5 2>/dev/null; true";
    let ended = place.capture(["-s", "b", "-a", "environment", "--", "sh", "-c", script]).run().code(0).stdout("");
    harmless(&ended.stderr_text());
    let products = place.predicate("product");
    let deep = format!("{}f", "d/".repeat(500));
    for name in
        ["-rf", "a\naffiant: evidence in FORGED", "esc\u{1b}[2J\u{1b}]0;x\u{7}", "\u{202e}rtl", &"x".repeat(255), &deep]
    {
        assert!(products[name].is_object(), "{name:?} is missing");
    }
    let omissions = place.predicate("command-run")["affiant"]["omissions"].to_string();
    for name in ["fifo", "zero", "to-fifo", "bad"] {
        assert!(omissions.contains(name), "{name}: {omissions}");
    }
    let shown = place.affiant(["inspect", "--all", "../a.json"]).run().code(0);
    harmless(&shown.stdout_text());
    let lines = shown.stdout_text().lines().filter(|line| line.contains("FORGED")).count();
    assert_eq!(lines, 3, "the command, a product and a subject, each on a line");
}

/// Products that change or go while attestors read them: evidence is written, and what could not be read is a gap.
#[test]
fn snapshot_products_that_change_under_the_attestors() {
    let place = Place::new();
    let document = r#"{"bomFormat":"CycloneDX","specVersion":"1.5","version":1}"#;
    // The grandchild goes on after the command has ended.
    let script = format!(
        "printf '%s' '{document}' > b.cdx.json; (trap '' HUP; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); printf '%s ' '{document}' > n; mv n b.cdx.json; rm -f b.cdx.json; done) >/dev/null 2>&1 </dev/null & sleep 0.05"
    );
    for _ in 0..3 {
        let ended = place.capture(["-s", "b", "-a", "sbom", "--", "sh", "-c", &script]).run();
        assert!([0, 125].contains(&ended.exit_code()), "{}", ended.stderr_text());
        let statement = place.statement();
        let entries = statement["predicate"]["attestations"].as_array().expect("a list");
        let sbom = entries.iter().any(|entry| entry["type"].as_str().expect("text").contains("cyclonedx"));
        let gap = statement["predicate"]["gaps"]
            .as_array()
            .is_some_and(|gaps| gaps.iter().any(|gap| gap["attestor"] == "sbom"));
        assert!(sbom || gap, "neither evidence nor gap: {statement}");
        assert_eq!(ended.exit_code() == 125, gap);
    }
}

/// The command writes where we write.
#[test]
fn the_command_writes_into_our_own_files() {
    let place = Place::new();
    let script = "echo evil > ../a.json; find ../home -type f | while read f; do echo evil > \"$f\"; done; \
                  echo x > ../home/.local/state/affiant/spool/strange; rm -rf ../home/.local/share/affiant/archive/index";
    place
        .capture(["-s", "b", "-a", "environment", "--", "sh", "-c", script])
        .run()
        .code(0)
        .stderr_has(&["not archived", "the spool"]);
    place.affiant(["inspect", "--key", "../k.pub", "../a.json"]).run().code(0);
    place.affiant(["resume", "--list"]).run().code(0).stderr_has(&["strange is nothing of ours"]);
}

/// What the command can spoil of an archive, `archive check --repair` makes again from the envelopes.
#[test]
fn a_spoilt_archive_is_repaired() {
    let place = Place::new();
    let archive = ["--archive", "dir:../arch"];
    let run =
        |script: &str| place.capture(["-s", "b", "-a", "environment"]).with(archive).with(["--", "sh", "-c", script]);
    run("true").run().code(0);
    run("echo evil > ../arch/affiant-archive.json; rm -r ../arch/index").run().code(125).stderr_has(&["not archived"]);
    place
        .affiant(["archive", "check"])
        .with(archive)
        .run()
        .code(4)
        .stderr_has(&["../arch cannot be used", "affiant archive check --repair"]);
    let repaired = place.affiant(["archive", "check", "--repair"]).with(archive).run().code(0);
    assert!(repaired.stdout_text().ends_with("sound\n"), "{}", repaired.stdout_text());
    let _ = repaired.stderr_has(&["../arch", "is there again"]);
    place.affiant(["resume"]).run().code(0);
    let list = place.affiant(["archive", "list"]).with(archive).run().code(0).stdout_text();
    assert_eq!(list.lines().count(), 2, "{list}");
    place.affiant(["archive", "check", "--repair", "--archive", "dir:."]).run().code(3);
    assert!(!place.work().join("affiant-archive.json").exists());
}

#[test]
fn environments_of_every_kind() {
    let place = Place::new();
    let call = || place.capture(["-s", "b", "-a", "environment", "--", "true"]);
    let mut many = call();
    for number in 0..2000 {
        many = many.env(&format!("V{number}_TOKEN"), format!("{number:032x}"));
    }
    many.run().code(0).stdout("").stderr_has(&["b: 0 materials"]);
    assert_eq!(place.predicate("environment")["variables"].as_object().expect("a map").len(), 2004);
    // The largest that the system takes.
    call().env("BIG", "v".repeat(128 * 1024 - 5)).run().code(0);
    let odd = OsString::from_vec(b"\xff\xfe".to_vec());
    call().env("LINES", "a\nb\x1b[2J").env("ODD", &odd).run().code(0);
    assert_eq!(place.predicate("environment")["variables"]["LINES"], "a\nb\x1b[2J");
    for (name, value) in [("XDG_DATA_HOME", "rel"), ("XDG_STATE_HOME", "rel"), ("XDG_CONFIG_HOME", "rel")] {
        call().env(name, value).run().code(0);
    }
    assert!(!place.work().join("rel").exists(), "a relative folder of the environment was used");
    call().env("AFFIANT_HOME", "kept").run().code(0);
    assert!(place.work().join("kept/archive").exists(), "our own variable may be relative");
    for bad in ["garbage", "1e9", "99999999999999", "0x10"] {
        call().env("SOURCE_DATE_EPOCH", bad).run().code(125).stdout("").stderr_has(&["SOURCE_DATE_EPOCH", bad]);
    }
    place
        .affiant(["run", "--", "true"])
        .env("AFFIANT_KEY", "/nowhere.pem")
        .run()
        .code(125)
        .stdout("")
        .stderr_has(&["/nowhere.pem cannot be used"]);
    // Arguments that are no text reach the command as they are.
    let odd = OsStr::from_bytes(b"a\xff\xfeb");
    let done = place.capture(["-s", "b", "-a", "environment", "--", "printf", "%s"]).with([odd]).command().output();
    assert_eq!(done.expect("starts").stdout, odd.as_bytes());
}

/// Another account: what it may not read is an omission, and no home is no obstacle.
#[test]
fn another_account() {
    if !nix::unistd::Uid::effective().is_root() {
        left_out("only root can run as another account");
        return;
    }
    let place = Place::new();
    let root = place.beside("");
    let binary = place.beside("affiant");
    std::fs::copy(env!("CARGO_BIN_EXE_affiant"), &binary).expect("copies");
    place.write("unreadable", "x");
    place.write("locked/inner", "x");
    place.write("open", "x");
    let mode =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    for path in [&root, &binary, &place.work()] {
        mode(path, 0o755);
    }
    mode(&place.work().join("unreadable"), 0);
    mode(&place.work().join("locked"), 0o700);
    mode(&place.beside("k.pem"), 0o644);
    std::fs::create_dir(place.beside("out")).expect("makes a folder");
    mode(&place.beside("out"), 0o777);
    let call = |homes: &[(&str, &str)], outfile: &str| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&binary)
            .args(["run", "-k", "../k.pem", "-s", "b", "-a", "environment", "-o", outfile, "--", "id", "-u"])
            .current_dir(place.work())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(homes.iter().copied());
        let done = command.output().expect("setpriv is needed for this test");
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stdout).into_owned(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    };
    for homes in
        [&[][..], &[("HOME", "/")], &[("HOME", "/root")], &[("HOME", "/dev/null")], &[("AFFIANT_HOME", "/root/x")]]
    {
        let (code, out, err) = call(homes, "../out/a.json");
        assert_eq!((code, out.as_str()), (Some(0), "65534\n"), "{homes:?}: {err}");
    }
    let statement = statement_of(&place.beside("out/a.json"));
    let entries = statement["predicate"]["attestations"].as_array().expect("a list");
    assert!(entries[1]["attestation"]["open"].is_object());
    let omissions = entries[2]["attestation"]["affiant"]["omissions"].to_string();
    assert!(omissions.contains("unreadable") && omissions.contains("locked"), "{omissions}");
    let (code, out, err) = call(&[], "/etc/affiant-test.json");
    assert_eq!((code, out.as_str()), (Some(125), ""), "{err}");
    assert!(err.contains("/etc/affiant-test.json") && err.contains("ermission denied"), "{err}");
    mode(&place.beside("k.pem"), 0o600);
    let (code, _, err) = call(&[], "../out/a.json");
    assert!(code == Some(125) && err.contains("../k.pem cannot be used"), "{err}");
}

/// Security rule 4, in the places that a name or a path can reach.
#[test]
fn redaction_of_names_and_paths() {
    let place = Place::new();
    let inner = format!("in-{CANARY}");
    std::fs::create_dir(place.work().join(&inner)).expect("makes a folder");
    std::fs::copy(place.beside("k.pem"), place.beside(&format!("k-{CANARY}.pem"))).expect("copies");
    let script = format!(
        "mkdir d-{CANARY}; echo 1 > d-{CANARY}/f; ln -s {CANARY} link; ln -s /x/{CANARY} out; mkfifo f-{CANARY}; rm old-{CANARY}"
    );
    place.write(&format!("{inner}/old-{CANARY}"), "x");
    let mut told = place
        .affiant(["run", "-s", "b", "-a", "environment", "-o", "../a.json", "--report", "../r.json", "-d", &inner])
        .with(["-k", &format!("../k-{CANARY}.pem"), "--archive", &format!("dir:../arch-{CANARY}")])
        .with([
            "--material-exclude-glob",
            &format!("x{CANARY}"),
            "--attestor-product-include-glob",
            &format!("*{CANARY}*"),
        ])
        .with(["--dirhash-glob", CANARY, "--", "sh", "-c", &script])
        .env("DEPLOY_TOKEN", CANARY)
        .env("type", format!("text/{CANARY}"))
        .env("digest", CANARY)
        .env("sha256", CANARY)
        .run()
        .code(0)
        .stderr_text();
    let calls: [&[&str]; 12] = [
        &["run", "--plan", "-k", "../k.pem", "-d", &inner, "-o", CANARY, "--", "echo", CANARY],
        &["run", &format!("--{CANARY}"), "--", "true"],
        &["run", "--timeout", CANARY, "--", "true"],
        &["run", "-a", CANARY, "-k", "../k.pem", "--", "true"],
        &["run", "--config", CANARY, "--", "true"],
        &["run", "-k", CANARY, "--", "true"],
        &["run", "-k", "../k.pem", "--", &format!("/nothing/{CANARY}")],
        &["run", "-k", "../k.pem", "-o", &format!("/nothing/{CANARY}/a"), "--", "true"],
        &["run", "-k", "../k.pem", "--archive", &format!("dir:/proc/{CANARY}"), "--", "true"],
        &["run", "-k", "../k.pem", "-s", CANARY, "--", "true"],
        &["run", "-k", "../k.pem", "--subjects", CANARY, "--", "true"],
        &["sign", "-k", "../k.pem", CANARY],
    ];
    for call in calls {
        let ended = place.affiant(call).env("DEPLOY_TOKEN", CANARY).run();
        told += &ended.stderr_text();
        told += &ended.stdout_text();
    }
    assert!(!told.contains(CANARY), "{told}");
    std::fs::remove_file(place.beside(&format!("k-{CANARY}.pem"))).expect("removes");
    for (path, bytes) in place.everything_written() {
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "in {}: {}", path.display(), String::from_utf8_lossy(&bytes));
    }
    let ours = &place.predicate("command-run")["affiant"];
    assert_eq!(ours["deleted"], json!(["old-[redacted]"]));
    assert!(ours["redactions"].as_array().expect("a list").len() >= 6, "{ours}");
}

/// A step name and the user's subjects are no free text: such a run is refused, and nothing is run.
#[test]
fn redaction_never_alters_step_names() {
    let place = Place::new();
    for args in [["-s", CANARY], ["--subjects", CANARY]] {
        place
            .capture(args)
            .with(["--", "touch", "trace"])
            .env("DEPLOY_TOKEN", CANARY)
            .run()
            .code(125)
            .stdout("")
            .stderr_has(&["holds the value of a secret variable, so nothing was run", "--env-allow-sensitive-key"]);
        assert!(!place.work().join("trace").exists());
    }
    // A weak password is no reason: the step keeps its name.
    place.capture(["-s", "postgres-db", "--", "true"]).env("DB_PASSWORD", "postgres").run().code(0);
    assert_eq!(place.statement()["predicate"]["name"], "postgres-db");
}

#[test]
fn redaction_by_length_and_form() {
    let place = Place::new();
    let run = |secret: &OsStr| {
        place
            .capture(["-s", "b", "-a", "environment", "--", "sh", "-c"])
            .with([r#"printf %s "$A_TOKEN"; printf %s "$A_TOKEN" | base64; echo "$0" >&2"#])
            .with([secret])
            .env("A_TOKEN", secret)
            .command()
            .stderr(Stdio::null())
            .output()
            .expect("starts");
        std::fs::read(place.beside("a.json")).map(|_| place.statement().to_string()).expect("evidence")
    };
    assert!(run("1234567".as_ref()).contains("1234567"), "7 bytes are too short to be searched for");
    for secret in [
        "12345678",
        "abcdefghijklmno",
        "abcdefghijklmnop",
        "a.*+?[x]{2}$",
        r#"{"a":"b\"c"}x"#,
        "ab/cd?e=f&g#h%20",
        "line one of it\nline two of it",
        "ünïcödé-секрет",
        "  with spaces  ",
    ] {
        let written = run(secret.as_ref());
        let quoted = json!(secret.trim()).to_string();
        let encoded = base64::engine::general_purpose::STANDARD.encode(secret);
        for form in [&quoted[1..quoted.len() - 1], &encoded[..encoded.len() - 4]] {
            assert!(!written.contains(form), "{secret:?} as {form}");
        }
    }
    // One that is no text is printed as it is, and shown in another form.
    let written = run(OsStr::from_bytes(b"ab\xff\xfesecret-of-bytes\x80"));
    assert!(!written.contains("secret-of-bytes"), "{written}");
}

/// A name is shown or left out, never altered: an ordinary word as password must not make a product vanish.
#[test]
fn names_are_left_out_by_what_the_value_is_made_of() {
    for (secret, shown) in [
        ("postgres", true),
        ("20261121", true),
        ("hunter2hunter2", false),
        ("Passw0rd!", false),
        ("kubernetesclusters", false),
    ] {
        let place = Place::new();
        place.write(&format!("old-{secret}"), "old");
        place.write(&format!("same-{secret}"), "same");
        let script =
            format!("echo 1 > {secret}.tar; rm old-{secret}; touch same-{secret}; mkfifo fifo-{secret}; echo {secret}");
        place
            .capture(["-s", "b", "-a", "environment", "--", "sh", "-c", &script])
            .env("DB_PASSWORD", secret)
            .run()
            .code(0);
        let statement = place.statement();
        let product = format!("{secret}.tar");
        let run = place.predicate("command-run");
        let subjects = statement["subject"].to_string();
        let gaps = statement["predicate"]["gaps"].to_string();
        assert_eq!(place.predicate("product").get(&product).is_some(), shown, "{secret}");
        assert_eq!(place.predicate("material").get(format!("old-{secret}")).is_some(), shown, "{secret}");
        assert_eq!(subjects.contains(&format!("file:{product}\"")), shown, "{secret}: {subjects}");
        assert_eq!(gaps.contains("whose name holds a secret"), !shown, "{secret}: {gaps}");
        // The lists of paths say the same as the maps.
        let deleted = if shown { format!("old-{secret}") } else { "old-[redacted]".to_owned() };
        assert_eq!(run["affiant"]["deleted"], json!([deleted]));
        let omitted = if shown { format!("fifo-{secret}") } else { "fifo-[redacted]".to_owned() };
        assert_eq!(run["affiant"]["omissions"][0]["path"], json!(omitted));
        // Free text is masked either way.
        assert_eq!(run["stdout"], "[redacted]\n", "{secret}");
        assert!(!run["cmd"].to_string().contains(secret), "{run}");
        assert_eq!(place.predicate("environment")["variables"]["DB_PASSWORD"], "******");
        if !shown {
            assert!(!statement.to_string().contains(secret), "{secret} in {statement}");
        }
    }
}

/// Where the kept text was cut, no part of a secret stays.
#[test]
fn redaction_at_the_cut() {
    let place = Place::new();
    for head in [65_520, 65_530, 65_535, 65_537] {
        let script = format!(
            "head -c {head} /dev/zero | tr '\\0' a; printf {CANARY}; head -c 200000 /dev/zero | tr '\\0' b; printf {CANARY}; \
             head -c {head} /dev/zero | tr '\\0' c"
        );
        place.capture(["-s", "b", "-a", "environment", "--", "sh", "-c", &script]).env("A_TOKEN", CANARY).run().code(0);
        let text = place.predicate("command-run")["stdout"].to_string();
        for part in ["Zx9c", "canary", "Pt8Rk"] {
            assert!(!text.contains(part), "{head}: {part}");
        }
    }
}

/// `CACHE_KEY` is often a digest: digests stay digests.
#[test]
fn redaction_leaves_digests_alone() {
    let place = Place::new();
    place.write("f", "hello\n");
    let digest = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    place
        .capture(["-s", "b", "-a", "environment", "--", "sh", "-c", "cp f g; echo sha256:$(sha256sum < g)"])
        .env("CACHE_KEY", digest)
        .run()
        .code(0);
    assert_eq!(place.predicate("material")["f"]["sha256"], digest);
    assert_eq!(place.predicate("product")["g"]["digest"]["sha256"], digest);
    assert_eq!(place.predicate("command-run")["stdout"], format!("sha256:{digest} -\n"));
    assert_eq!(place.predicate("environment")["variables"]["CACHE_KEY"], "******");
}

fn envelope(payload: &str, kind: &str, signatures: &Value) -> String {
    json!({ "payload": base64::engine::general_purpose::STANDARD.encode(payload), "payloadType": kind, "signatures": signatures })
        .to_string()
}

fn collection(attestations: &str) -> String {
    let statement = format!(
        r#"{{"_type":"x","subject":[],"predicateType":"https://witness.testifysec.com/attestation-collection/v0.1","predicate":{{"name":"s","attestations":{attestations}}}}}"#
    );
    envelope(&statement, "application/vnd.in-toto+json", &json!([{ "keyid": "x", "sig": "AAAA" }]))
}

/// Class Q of user needs: what strangers wrote steers neither the terminal nor the reader.
#[test]
fn terminal_escapes_in_every_member() {
    let place = Place::new();
    let evil = "\u{1b}[2J\u{1b}]0;own\u{7}\n  signature    valid: key FORGED\r\u{9b}31m\u{202e}";
    let entry = |name: &str, attestation: Value| {
        let kind =
            if name.is_empty() { evil.to_owned() } else { format!("https://witness.dev/attestations/{name}/v0.1") };
        json!({ "type": kind, "attestation": attestation, "starttime": evil, "endtime": evil })
    };
    let attestations = json!([
        entry("environment", json!({ "os": evil, "hostname": evil, "username": evil })),
        entry(
            "git",
            json!({ "commithash": evil, "author": evil, "branch": evil, "authoremail": evil, "status": { evil: {} } })
        ),
        entry("material", json!({ evil: { "sha256": evil } })),
        entry(
            "command-run",
            json!({ "cmd": [evil], "exitcode": evil, "affiant": { "ending": { "kind": evil }, "observation": { "level": evil, "reason": evil } } })
        ),
        entry("product", json!({ format!("{evil}/{evil}"): { "mime_type": evil, "digest": { evil: evil } } })),
        entry("", json!({})),
    ]);
    let statement = json!({
        "_type": evil,
        "subject": [{ "name": evil, "digest": { evil: evil } }],
        "predicateType": "https://witness.testifysec.com/attestation-collection/v0.1",
        "predicate": { "name": evil, "attestations": attestations, "gaps": [{ "attestor": evil, "reason": evil }] },
    });
    let signatures = json!([{ "keyid": evil, "sig": "AAAA" }]);
    place.write("all.json", envelope(&statement.to_string(), "application/vnd.in-toto+json", &signatures));
    place.write("type.json", envelope("{}", evil, &signatures));
    let bare = json!({ "_type": "x", "subject": [], "predicateType": evil, "predicate": {} });
    place.write("bare.json", envelope(&bare.to_string(), "application/vnd.in-toto+json", &signatures));
    let odd = format!("{evil}.json").replace('/', "-");
    place.write(&odd, envelope("no statement", "application/vnd.in-toto+json", &signatures));
    for file in ["all.json", "type.json", "bare.json", &odd] {
        for more in [&[][..], &["--all"], &["--key", "../k.pub"]] {
            let ended = place.affiant(["inspect", file]).with(more).run();
            harmless(&ended.stdout_text());
            harmless(&ended.stderr_text());
        }
        let put = place.affiant(["archive", "put", file]).run();
        harmless(&put.stdout_text());
        harmless(&put.stderr_text());
    }
    for call in [
        &["archive", "list"][..],
        &["archive", "find", "--step", evil],
        &["archive", "get", evil],
        &["archive", "check"],
    ] {
        let ended = place.affiant(call).run();
        harmless(&ended.stdout_text());
        harmless(&ended.stderr_text());
    }
    let listed = place.affiant(["archive", "list"]).run().code(0).stdout_text();
    assert_eq!(listed.lines().count(), 4, "{listed}");
}

/// What cannot be read is never shown as fine.
#[test]
fn unreadable_evidence_is_said() {
    let place = Place::new();
    let entry = |name: &str, attestation: &str| {
        collection(&format!(
            r#"[{{"type":"https://witness.dev/attestations/{name}/v0.1","attestation":{attestation}}}]"#
        ))
    };
    let deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    for (name, attestation) in [
        ("command-run", r#"{"cmd":["x"],"exitcode":1e999999}"#),
        ("command-run", &deep),
        ("command-run", "[]"),
        ("git", &deep),
        ("product", &deep),
        ("product", r#"{"f":{"digest":{"sha256":"aa"}},"f":{"digest":{"sha256":"bb"}}}"#),
        ("material", r#"{"f":{"sha256":"aa"},"f":{"sha256":"bb"}}"#),
    ] {
        place.write("e.json", entry(name, attestation));
        let text = place.affiant(["inspect", "e.json"]).run().code(0).stdout_text();
        assert!(text.lines().any(|line| line.contains(name) && line.contains("UNREADABLE")), "{text}");
        assert!(!text.contains("code 0"), "{text}");
    }
    place.write("e.json", entry("command-run", r#"{"cmd":["x"],"exitcode":"0"}"#));
    let text = place.affiant(["inspect", "e.json"]).run().code(0).stdout_text();
    assert!(text.contains(r#"code "0""#), "{text}");
}

/// Class H of user needs.
#[test]
fn hostile_files_are_refused_in_time() {
    let place = Place::new();
    let nested = "[".repeat(100_000);
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("empty", Vec::new(), "not an object"),
        ("nested", nested.clone().into_bytes(), "not an object"),
        ("cut", envelope("{}", "x", &json!([])).into_bytes()[..30].to_vec(), "EOF"),
        (
            "double",
            br#"{"payload":"AA==","payload":"AA==","payloadType":"x","signatures":[]}"#.to_vec(),
            "`payload` twice",
        ),
        ("bytes", b"{\"payload\":\"\xff\xfe\",\"payloadType\":\"x\",\"signatures\":[]}".to_vec(), "utf-8"),
        (
            "signatures",
            envelope("{}", "x", &json!(vec![json!({ "keyid": "x", "sig": "AAAA" }); 5000])).into_bytes(),
            "more than 1024",
        ),
        ("url-safe", br#"{"payload":"_-_-","payloadType":"x","signatures":[]}"#.to_vec(), "base64"),
        (
            "case",
            br#"{"Payload":"AA==","payload":"AA==","payloadType":"x","signatures":[]}"#.to_vec(),
            "some readers take for",
        ),
        ("trailing", br#"{"payload":"AA==","payloadType":"x","signatures":[]} {}"#.to_vec(), "trailing"),
    ];
    for (name, bytes, reason) in cases {
        place.write(name, bytes);
        for call in [&["inspect", name][..], &["archive", "put", name]] {
            place.affiant(call).run().code(4).stdout("").stderr_has(&[name, reason]);
        }
    }
    place.write("folder/x", "");
    for call in [
        &["inspect", "folder"][..],
        &["archive", "put", "folder"],
        &["sign", "-k", "../k.pem", "folder"],
        &["key", "id", "folder"],
    ] {
        place.affiant(call).run().code(4).stdout("").stderr_has(&["folder", "directory"]);
    }
    // More than the limit: not a byte of it is read, and nothing is signed in part.
    let huge = std::fs::File::create(place.work().join("huge")).expect("creates");
    huge.set_len(3 << 30).expect("a file with a hole");
    for call in [
        &["inspect", "huge"][..],
        &["archive", "put", "huge"],
        &["sign", "-k", "../k.pem", "-t", "x", "huge"],
        &["key", "id", "huge"],
    ] {
        place.affiant(call).run().code(4).stdout("").stderr_has(&["huge"]);
    }
    for key in ["/dev/null", "/dev/zero", "huge", "folder", "nested"] {
        place.affiant(["run", "-k", key, "--", "touch", "trace"]).run().code(125).stdout("").stderr_has(&[key]);
    }
    assert!(!place.work().join("trace").exists());
    // A pipe is a file as good as any.
    nix::unistd::mkfifo(&place.work().join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("makes a fifo");
    let path = place.work().join("pipe");
    let feeder = std::thread::spawn(move || {
        let mut pipe = std::fs::File::options().write(true).open(path).expect("opens");
        pipe.write_all(envelope("{}", "x", &json!([])).as_bytes()).expect("writes");
    });
    place.affiant(["inspect", "pipe"]).run().code(0).stderr("");
    feeder.join().expect("fed");
}

#[test]
fn archive_questions_of_every_kind() {
    let place = Place::new();
    place.capture(["-s", "b", "-a", "environment", "--", "true"]).run().code(0);
    for reference in ["", "sha256:", "sha256:zz", "sha256:../../etc/passwd", "../../etc/passwd", "%", "a\nb"] {
        place.affiant(["archive", "get", reference]).run().code(2).stdout("");
    }
    place.affiant(["archive", "get", "00000000"]).run().code(3).stdout("");
    place.affiant(["archive", "find", "nothing-of-this-name"]).run().code(3).stdout("").stderr_has(&["nothing"]);
    place.affiant(["archive", "find", "--limit", "99999999999999999999999"]).run().code(2).stdout("");
    for folder in ["dir:/etc", "dir:/nonexistent", "dir:../k.pem"] {
        place
            .affiant(["archive", "list", "--archive", folder])
            .run()
            .code(3)
            .stdout("")
            .stderr_has(&["cannot be used"]);
    }
}
