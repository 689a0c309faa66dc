//! What is written: forms that both peers read, equal bytes for equal inputs, and what `inspect` says of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use affiant_core::store::{Archive, ObjectId};
use serde_json::Value;

use crate::harness::{Place, left_out, statement_of};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn hello_image(place: &Place) {
    let from = fixtures().join("hello-image/.");
    let done = Command::new("cp").arg("-R").arg(from).arg(place.work()).status().expect("cp is there");
    assert!(done.success());
}

#[test]
fn the_example_build_is_attested_and_equal_inputs_give_equal_bytes() {
    let build = |_: u32| {
        let place = Place::new();
        hello_image(&place);
        let key = include_bytes!("../../fixtures/keys/functionary.pem");
        std::fs::write(place.beside("k.pem"), key).expect("writes");
        place
            .affiant([
                "run",
                "-k",
                "../k.pem",
                "-o",
                "../a.json",
                "-s",
                "docker-build",
                "--",
                "sh",
                "build.sh",
                "image.tar",
            ])
            .env("HOME", "/nonexistent")
            .env("AFFIANT_HOME", "/nonexistent")
            .run()
            .code(0);
        std::fs::read(place.beside("a.json")).expect("evidence")
    };
    let first = build(1);
    // The working directory's path is in PWD-like places only; both runs have none.
    assert!(first == build(2), "two runs with equal inputs and clock differ");
}

#[test]
fn the_form_is_portable() {
    let place = Place::new();
    hello_image(&place);
    place
        .capture([
            "-s",
            "docker-build",
            "--attestor-product-include-glob",
            "image.tar",
            "--",
            "sh",
            "-c",
            "sh build.sh image.tar; echo x > other",
        ])
        .run()
        .code(0);
    let statement = place.statement();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://witness.testifysec.com/attestation-collection/v0.1");
    let types: Vec<_> = statement["predicate"]["attestations"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["type"].as_str().expect("a type").to_owned())
        .collect();
    let witness = |name: &str| format!("https://witness.dev/attestations/{name}/v0.1");
    assert_eq!(types, ["environment", "material", "command-run", "product", "oci"].map(witness));
    let subjects: Vec<_> = statement["subject"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|subject| subject["name"].as_str().expect("a name").to_owned())
        .collect();
    assert!(subjects.contains(&format!("{}/file:image.tar", witness("product"))), "{subjects:?}");
    assert!(!subjects.iter().any(|name| name.ends_with("file:other")), "the glob chooses the subjects");
    assert!(place.predicate("product")["other"].is_object(), "the glob does not choose the predicate");
    assert_eq!(place.predicate("material")["hello.txt"]["sha256"].as_str().expect("a digest").len(), 64);
    assert!(place.statement()["predicate"]["gaps"].is_null());
}

#[test]
fn products_are_new_changed_and_rewritten_files() {
    let place = Place::new();
    place.write("same", "same");
    place.write("changed", "a");
    place.write("gone", "x");
    place.write("untouched", "x");
    place
        .capture([
            "-s",
            "b",
            "-a",
            "environment",
            "--",
            "sh",
            "-c",
            "sleep 0.05; echo new > new; echo b > changed; printf same > same; rm gone",
        ])
        .run()
        .code(0);
    let products = place.predicate("product");
    let names: Vec<_> = products.as_object().expect("a map").keys().cloned().collect();
    assert_eq!(names, ["changed", "new", "same"]);
    let ours = &place.predicate("command-run")["affiant"];
    assert_eq!(ours["deleted"], serde_json::json!(["gone"]));
    assert_eq!(ours["rewritten"], serde_json::json!(["same"]));
}

#[test]
fn what_cannot_be_recorded_is_said() {
    let place = Place::new();
    nix::unistd::mkfifo(&place.work().join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("makes a fifo");
    std::os::unix::fs::symlink("/etc/passwd", place.work().join("out")).expect("links");
    std::os::unix::fs::symlink("nowhere", place.work().join("dangling")).expect("links");
    place.capture(["-s", "b", "-a", "environment", "--", "true"]).run().code(0);
    let omissions = place.predicate("command-run")["affiant"]["omissions"].clone();
    let paths: Vec<_> =
        omissions.as_array().expect("a list").iter().map(|one| one["path"].as_str().expect("a path")).collect();
    assert_eq!(paths, ["dangling", "fifo", "out"]);
}

/// "Recorded collections of both peers parse and `inspect` without loss."
#[test]
fn evidence_of_both_peers_is_shown_without_loss() {
    let place = Place::new();
    let key = fixtures().join("keys/functionary.pub");
    for peer in ["witness", "cilock"] {
        let file = fixtures().join(format!("envelopes/{peer}/docker-build.json"));
        let ended = place
            .affiant(["inspect", "-o", "json", "--key"])
            .with([key.as_os_str(), file.as_os_str()])
            .run()
            .code(0)
            .stderr("");
        let shown: Value = serde_json::from_str(&ended.stdout_text()).expect("JSON");
        assert_eq!(shown["payload"], statement_of(&file), "{peer}");
        assert_eq!(shown["signatures"][0]["state"], "valid", "{peer}");
        let text =
            place.affiant(["inspect", "--key"]).with([key.as_os_str(), file.as_os_str()]).run().code(0).stdout_text();
        for part in ["step         docker-build", "image.tar", "signature    valid", "Ada <ada@example.org>"] {
            assert!(text.contains(part), "{peer}: no `{part}` in {text}");
        }
        let tampered = fixtures().join(format!("envelopes/{peer}/docker-build.tampered.json"));
        place.affiant(["inspect", "--key"]).with([key.as_os_str(), tampered.as_os_str()]).run().code(1);
    }
}

/// "openssl verifies our signature over the PAE; a tampered byte is seen by `inspect --key`."
#[test]
fn signatures_hold_for_others_and_only_as_written() {
    use base64::Engine as _;
    let place = Place::new();
    place.capture(["-s", "b", "-a", "environment", "--", "true"]).run().code(0);
    let bytes = std::fs::read(place.beside("a.json")).expect("evidence");
    let envelope: Value = serde_json::from_slice(&bytes).expect("JSON");
    let decode = |value: &Value| {
        base64::engine::general_purpose::STANDARD.decode(value.as_str().expect("text")).expect("base64")
    };
    let payload = decode(&envelope["payload"]);
    let kind = envelope["payloadType"].as_str().expect("text");
    let mut pae = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    pae.extend(&payload);
    place.write("pae", &pae);
    place.write("sig", decode(&envelope["signatures"][0]["sig"]));
    match Command::new("openssl")
        .args(["pkeyutl", "-verify", "-pubin", "-inkey", "../k.pub", "-rawin", "-in", "pae", "-sigfile", "sig"])
        .current_dir(place.work())
        .output()
    {
        Ok(done) => assert!(done.status.success(), "{done:?}"),
        Err(_) => left_out("openssl is not there"),
    }
    let text = String::from_utf8(bytes).expect("text");
    let at = text.find("\"payload\":\"").expect("a payload") + 20;
    for position in [at, at + 101, at + 1001] {
        let mut tampered = text.clone().into_bytes();
        tampered[position] = if tampered[position] == b'A' { b'B' } else { b'A' };
        place.write("tampered.json", tampered);
        place.affiant(["inspect", "--key", "../k.pub", "tampered.json"]).run().code(1);
    }
}

#[test]
fn inspect_prints_one_predicate() {
    let place = Place::new();
    place.capture(["-s", "b", "-a", "environment", "--", "true"]).run().code(0);
    let text =
        place.affiant(["inspect", "--predicate", "command-run", "../a.json"]).run().code(0).stderr("").stdout_text();
    let predicate: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(predicate["cmd"], serde_json::json!(["true"]));
    place
        .affiant(["inspect", "--predicate", "nothing", "../a.json"])
        .run()
        .code(3)
        .stdout("")
        .stderr_has(&["no predicate of type `nothing`"]);
    place.affiant(["inspect", "nowhere.json"]).run().code(4).stdout("").stderr_has(&["nowhere.json cannot be read"]);
    place.write("text", "no envelope");
    place.affiant(["inspect", "text"]).run().code(4).stdout("").stderr_has(&["text is no envelope"]);
}

#[test]
fn the_archive_keeps_finds_and_gives_back() {
    let place = Place::new();
    place.capture(["-s", "b", "-a", "environment", "--", "sh", "-c", "echo x > product"]).run().code(0);
    let found = place.affiant(["archive", "find", "product"]).run().code(0).stderr("").stdout_text();
    let digest = found.split_whitespace().next().expect("a digest").to_owned();
    let given = place.affiant(["archive", "get", &digest]).run().code(0).stderr("").stdout_text();
    assert_eq!(given.as_bytes(), std::fs::read(place.beside("a.json")).expect("evidence"));
    place.affiant(["archive", "find", &"0".repeat(64)]).run().code(3).stdout("").stderr("nothing found\n");
    place.affiant(["archive", "list", "--archive", "dir:../none"]).run().code(3).stdout("");
    place.affiant(["archive", "check"]).run().code(0);
    place.affiant(["inspect", "--key", "../k.pub", &digest]).run().code(0);
}

#[test]
fn the_archive_gives_the_roots_of_the_day_back() {
    let place = Place::new();
    let envelope = fixtures().join("gate/good.json");
    let here = ["--archive", "dir:../arch"];
    let kept = place.affiant(["archive", "put"]).with([&envelope]).with(here).run().code(0).stdout_text();
    let digest = kept.split_whitespace().next().expect("a digest").to_owned();
    let get = || place.affiant(["archive", "get", "--trust", &digest]).with(here).run();
    let check = || place.affiant(["archive", "check"]).with(here).run();
    get().code(3).stdout("").stderr_has(&["no trusted root was kept with"]);
    let root = std::fs::read(fixtures().join("cosign/trust/trusted_root.json")).expect("a root");
    let archive = Archive::open(&place.beside("arch")).expect("opens");
    let id = ObjectId::parse(&digest).expect("a digest");
    let kept = archive.put_trust(&id, &root, "2026-11-21T12:00:00Z".parse().expect("a time")).expect("keeps");
    let ended = get().code(0).stderr_has(&[&kept.to_string(), "current at 2026-11-21T12:00:00Z"]);
    assert_eq!(ended.stdout_text().as_bytes(), root);
    let checked = check().code(0).stdout_text();
    assert!(checked.contains("1 trusted roots, linked to envelopes 1 times"), "{checked}");
    std::fs::write(archive.trust_path(&kept), "{}").expect("writes");
    get().code(1).stdout("").stderr_has(&["the content has changed"]);
    let checked = check().code(1).stdout_text();
    assert!(checked.contains("changed: ") && checked.contains("NOT SOUND"), "{checked}");
}

#[test]
fn what_cannot_be_written_waits_in_the_spool() {
    let place = Place::new();
    std::fs::create_dir(place.beside("out")).expect("makes a folder");
    place
        .affiant([
            "run",
            "-k",
            "../k.pem",
            "-o",
            "../out/a.json",
            "--archive",
            "dir:../archive",
            "-s",
            "b",
            "-a",
            "environment",
            "--",
        ])
        .with(["sh", "-c", "rm -rf ../out ../archive; echo > ../out; echo > ../archive"])
        .run()
        .code(125)
        .stdout("")
        .stderr_has(&["the outfile was not written", "not archived", "waits in", "affiant resume"]);
    place.affiant(["resume", "--list"]).run().code(0).stderr("");
    // Headers and a server that are exported for others concern nobody here.
    let header = ("AFFIANT_ARCHIVISTA_HEADERS", "Authorization: Bearer of-another-server");
    place.affiant(["resume", "--list"]).env(header.0, header.1).run().code(0).stderr("");
    std::fs::remove_file(place.beside("out")).expect("removes");
    std::fs::remove_file(place.beside("archive")).expect("removes");
    std::fs::create_dir(place.beside("out")).expect("makes a folder");
    place.affiant(["resume"]).env(header.0, header.1).run().code(0).stdout("").stderr_has(&["out/a.json"]);
    place.affiant(["inspect", "--key", "../k.pub", "../out/a.json"]).run().code(0);
    place.affiant(["archive", "list", "--archive", "dir:../archive"]).run().code(0);
    let elsewhere = ["resume", "--archive", "dir:../archive"];
    let server = ("AFFIANT_ARCHIVISTA_SERVER", "https://archivista.example");
    place.affiant(elsewhere).env(server.0, server.1).run().code(0).stdout("").stderr("nothing waits\n");
}
