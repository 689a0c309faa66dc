//! Evidence that goes to an archivista: from a run, by hand, in a bundle, and after an outage.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use affiant_remote::archivista::gitoid;
use serde_json::{Value, json};

use crate::archivista::{Lie, Store, honest, serve};
use crate::harness::{Ended, Place};
use crate::registry::Registry;

const KEY: &str = "canary-of-a-key-0123";
/// What the wrapped command can see of a header: nothing in its variables, nor in the arguments of its ancestors.
const SPY: &str = "env >spied; cat /proc/$PPID/cmdline | tr '\\0' ' ' >>spied; echo hello >app";

type Held = Arc<Mutex<Store>>;

fn run(place: &Place, more: &[&str]) -> Ended {
    place.capture(["-s", "build"]).with(more).with(["--", "sh", "-c", SPY]).run()
}

fn held(served: &Held) -> Vec<Vec<u8>> {
    served.lock().expect("no panic").held.values().cloned().collect()
}

/// The server finds this from now on.
fn finds(served: &Held, envelope: &[u8], step: &str) {
    served.lock().expect("no panic").found.push(json!({ "gitoidSha256": gitoid(envelope), "statement": {
        "predicate": "https://witness.testifysec.com/attestation-collection/v0.1",
        "attestationCollections": { "name": step } } }));
}

/// No file, no line and no variable of the command has the header.
#[track_caller]
fn is_secret(place: &Place, ended: &Ended) {
    assert!(!(ended.stdout_text() + &ended.stderr_text()).contains(KEY), "{}", ended.stderr_text());
    for (path, bytes) in place.everything_written() {
        assert!(!String::from_utf8_lossy(&bytes).contains(KEY), "{}", path.display());
    }
    let spied = std::fs::read_to_string(place.work().join("spied")).expect("the command ran");
    assert!(spied.contains("PATH=") && !spied.contains(KEY), "{spied}");
}

#[test]
fn a_run_stores_its_evidence_on_a_server() {
    let (base, served) = serve(honest);
    let store = format!("archivista+{base}/");
    let place = Place::new();
    let header = format!("Authorization: Bearer {KEY}");
    let report = place.beside("report.json").display().to_string();
    let ended = place
        .capture(["-s", "build", "--archive", &store, "--archivista-headers", &header, "--report", &report])
        .env("API_KEY_OF_A_TEST", format!("Bearer {KEY}"))
        .env("TENANT_OF_A_TEST", KEY)
        .with(["--", "sh", "-c", SPY])
        .run()
        .code(0);
    let envelope = std::fs::read(place.beside("a.json")).expect("the outfile");
    let id = gitoid(&envelope);
    assert_eq!(held(&served), [envelope], "the bytes of the outfile");
    let ended =
        ended.stderr_has(&[&format!("Stored in archivista as {id}\n"), &format!("and archivista as {}", &id[..12])]);
    is_secret(&place, &ended);
    let spied = std::fs::read_to_string(place.work().join("spied")).expect("the command ran");
    assert!(!spied.contains("_OF_A_TEST="), "variables that hold it are not the command's: {spied}");
    assert!(spied.contains("--archivista-headers ***"), "{spied}");
    assert!(!place.beside("home/.local/share/affiant/archive").exists(), "the server instead of the default archive");
    let report: Value = serde_json::from_slice(&std::fs::read(report).expect("a report")).expect("JSON");
    let kept = &report["result"]["evidence"][0];
    assert_eq!((kept["archivista"].as_str(), kept["gitoid"].as_str()), (Some(base.as_str()), Some(id.as_str())));
    assert!(served.lock().expect("no panic").asked[0].contains(&format!("authorization: bearer {KEY}")));
    // The same bytes once more are there already: the clock is fixed, but the signature is a new one.
    let text = place.beside("a.json").display().to_string();
    let put = |more: &[&str]| place.affiant(["archive", "put", "--archive", &store]).with(more).with([&text]).run();
    put(&[]).code(0).stdout(&format!("gitoid:blob:sha256:{id}  [DIR]/a.json  there already\n"));
}

#[test]
fn beside_folders_and_as_the_peers_spell_it() {
    let (base, served) = serve(honest);
    let place = Place::new();
    let folder = format!("dir:{}", place.beside("archive").display());
    let store = format!("archivista+{base}");
    run(&place, &["--archive", &folder, "--archive", &store]).code(0);
    assert!(place.beside("archive/affiant-archive.json").exists());
    assert_eq!(held(&served).len(), 1);
    // A flag that enables it leaves the default archive as it is.
    for (name, flags) in [
        ("witness", ["--enable-archivista", "--archivista-server"]),
        ("witness", ["--enable-archivist=true", "--archivist-server"]),
        ("cilock", ["--enable-archivista", "--archivista-server"]),
        ("affiant", ["--enable-archivista=true", "--archivista-server"]),
    ] {
        let (base, served) = serve(honest);
        let place = Place::new();
        let call = if name == "affiant" { place.affiant(["run"]) } else { place.called(name, ["run"]) };
        let header = ["--archivista-headers", "X-Api-Key: canary-of-a-key-0123"];
        call.with(["-s", "b", "-k", "../k.pem"])
            .with(flags)
            .with([&base])
            .with(header)
            .with(["--", "true"])
            .run()
            .code(0);
        let archive = place.beside("home/.local/share/affiant/archive");
        let files = archive.join("objects").exists();
        assert!(files, "{name}: the default archive too");
        assert_eq!(held(&served).len(), 1, "{name} {flags:?}");
        assert!(served.lock().expect("no panic").asked[0].contains("x-api-key: canary-of-a-key-0123"));
    }
    // By variables, which the command does not get.
    let (base, served) = serve(honest);
    let place = Place::new();
    let ended = place
        .capture(["-s", "build"])
        .env("AFFIANT_ENABLE_ARCHIVISTA", "1")
        .env("AFFIANT_ARCHIVISTA_SERVER", &base)
        .env("AFFIANT_ARCHIVISTA_HEADERS", format!("X-One: {KEY}\nX-Two: b"))
        .with(["--", "sh", "-c", SPY])
        .run()
        .code(0);
    is_secret(&place, &ended);
    let asked = served.lock().expect("no panic").asked[0].clone();
    assert!(asked.contains(&format!("x-one: {KEY}\r\n")) && asked.contains("x-two: b\r\n"), "{asked}");
    // Only said to be there.
    let (base, served) = serve(honest);
    run(&place, &["--archivista-server", &base]).code(0).stderr_has(&["`--enable-archivista` uses it"]);
    run(&place, &["--archivista-server", &base, "--enable-archivista=false"]).code(0);
    assert!(held(&served).is_empty());
}

#[test]
fn what_cannot_be_a_store_is_refused_before_the_build() {
    let place = Place::new();
    let header = format!("Authorization {KEY}");
    for (flags, says) in [
        (&["--enable-archivista"][..], "--archivista-server URL"),
        (&["--enable-archivista", "--archivista-server", "http://archivista.example"], "only https"),
        (&["--archive", "archivista+ftp://archivista.example"], "only https"),
        (&["--archive", "archivista+https://user:pw@archivista.example"], "a user or password in an address"),
        (&["--archive", "archivista+https://a.example", "--archive", "archivista+https://b.example"], "one server"),
        (&["--archive", "archivista+https://a.example", "--archivista-headers", &header], "no `Name: value`"),
        (&["--archive", "archivista+https://a.example", "--offline"], "--offline: a server cannot be asked"),
        (
            &[
                "--archive",
                "archivista+https://a.example",
                "--enable-archivista",
                "--archivista-server",
                "https://b.example",
            ],
            "two servers",
        ),
    ] {
        let ended = run(&place, flags).code(125).stderr_has(&[says]);
        assert!(!place.work().join("spied").exists(), "{flags:?}");
        assert!(
            !ended.stderr_text().contains(KEY) && !ended.stderr_text().contains("user:pw"),
            "{}",
            ended.stderr_text()
        );
    }
}

/// A server in the variable stands in nobody's way.
#[test]
fn a_server_in_the_variable_is_no_trouble_for_files() {
    let (base, served) = serve(honest);
    let place = Place::new();
    let named = |args: &[&str]| place.affiant(args).env("AFFIANT_ARCHIVE", format!("archivista+{base}")).run();
    named(&["run", "-k", "../k.pem", "-o", "../a.json", "--", "true"]).code(0);
    assert_eq!(held(&served).len(), 1);
    named(&["inspect", "../a.json"]).code(0);
    let said = named(&["doctor"]).stdout_text();
    assert!(said.contains(&format!("archive     archivista {base}, which was not asked")), "{said}");
}

/// Evidence is never lost to an outage.
#[test]
fn an_outage_is_finished_by_resume() {
    let down: Lie = |head| head.contains(" /upload").then(|| (503, "busy".to_owned()));
    let place = Place::new();
    let (base, _) = serve(down);
    let store = format!("archivista+{base}");
    let header = format!("X-Api-Key: {KEY}");
    let ended = run(&place, &["--archive", &store, "--archivista-headers", &header]).code(125).stderr_has(&[
        "error: not stored in archivista",
        "answers 503",
        "(3 attempts)",
        &format!("hint: finish with `affiant resume --archivista-server {base} --archivista-headers 'NAME: VALUE'`"),
    ]);
    is_secret(&place, &ended);
    assert!(place.beside("a.json").exists(), "the outfile is written all the same");
    let told = format!("note: goes to {base}, which the spool names and this command does not\n");
    place.affiant(["resume"]).run().code(4).stderr_has(&[&told, "still waits", "answers 503"]);
    let named = place.affiant(["resume", "--archivista-server", &base]).run().code(4);
    assert!(!named.stderr_text().contains("note: goes to"), "{}", named.stderr_text());
    // Another server, named instead; headers go nowhere else.
    place.affiant(["resume", "--archivista-headers", &header]).run().code(2).stderr_has(&["for which server?"]);
    let (base, served) = serve(honest);
    let instead = format!("archivista+{base}");
    let done = place.affiant(["resume", "--archive", &instead, "--archivista-headers", &header]).run().code(0);
    let envelope = std::fs::read(place.beside("a.json")).expect("the outfile");
    let id = gitoid(&envelope);
    done.stderr_has(&[&format!("Stored in archivista as {id}"), &format!("is in archivista {base}")]);
    assert_eq!(held(&served), [envelope]);
    place.affiant(["resume"]).run().code(0).stderr_has(&["nothing waits"]);
}

/// A wanted place in the spool, which somebody else may have written, gets no header.
#[test]
fn a_planted_want_gets_no_header() {
    let down: Lie = |head| head.contains(" /upload").then(|| (503, "busy".to_owned()));
    let place = Place::new();
    let (base, served) = serve(down);
    run(&place, &["--archive", &format!("archivista+{base}")]).code(125);
    let header = format!("X-Api-Key: {KEY}");
    let other = ["resume", "--archivista-server", "https://ours.example", "--archivista-headers", &header];
    let told = format!("note: goes to {base}, ");
    // It is said before anything is sent, and before it fails.
    let said = place.affiant(other).run().code(4).stderr_has(&[&told]).stderr_text();
    assert!(said.find(&told) < said.find("still waits"), "{said}");
    assert!(served.lock().expect("no panic").heads.iter().all(|head| !head.contains(KEY)));
    place.affiant(["resume", "--archivista-server", &base, "--archivista-headers", &header]).run().code(4);
    assert!(served.lock().expect("no panic").heads.iter().any(|head| head.contains(KEY)));
}

#[test]
fn what_is_not_signed_waits_for_key_and_server() {
    // A 500 that is no repetition is an error, and told.
    let place = Place::new();
    let (base, _) = serve(|head| head.contains(" /upload").then(|| (500, "no such table".to_owned())));
    let store = format!("archivista+{base}");
    let ended = place.affiant(["run", "-k", "../k.pem", "--archive", &store, "--", "true"]).run().code(125);
    ended.stderr_has(&["answers 500: no such table", "evidence in the spool"]);
    // The command's own code wins.
    let failed =
        place.affiant(["run", "-k", "../k.pem", "--archive", &store, "--", "sh", "-c", "exit 7"]).run().code(7);
    failed.stderr_has(&["answers 500: no such table"]);
}

#[test]
fn archive_verbs_work_on_a_server() {
    let (base, served) = serve(honest);
    let store = format!("archivista+{base}");
    let place = Place::new();
    run(&place, &["--archive", &store]).code(0);
    let envelope = std::fs::read(place.beside("a.json")).expect("the outfile");
    let id = gitoid(&envelope);
    finds(&served, &envelope, "build");
    let archive = |args: &[&str]| place.affiant(["archive"]).with(args).with(["--archive", &store]).run();
    let text = String::from_utf8(envelope.clone()).expect("text");
    archive(&["get", &id]).code(0).stdout(&text);
    archive(&["get", &format!("gitoid:blob:sha256:{id}")]).code(0).stdout(&text);
    archive(&["get", &"0".repeat(64)]).code(4).stdout("").stderr_has(&["no such file"]);
    archive(&["get", "sha256:abcdef01"]).code(2).stderr_has(&["gitoid, 64 hex digits"]);
    let line = format!("gitoid:blob:sha256:{id}  build\n");
    archive(&["find", "app"]).code(0).stdout(&line);
    archive(&["find", "--step", "build"]).code(0).stdout(&line);
    archive(&["find", "app", "--step", "other"]).code(3).stdout("");
    let json = archive(&["find", "app", "--output", "json"]).code(0).stdout_text();
    assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON")[0]["gitoid"], id.as_str());
    archive(&["find"]).code(2).stderr_has(&["`--step NAME`"]);
    archive(&["list"]).code(2).stderr_has(&["here an archive is a folder"]);
    archive(&["check"]).code(2);
    let into = place.beside("fetched").display().to_string();
    let printed = archive(&["find", "app", "--into", &into]).code(0).stdout_text();
    assert!(printed.starts_with("[DIR]/fetched/") && printed.lines().count() == 1, "{printed}");
    let copied = std::fs::read_dir(place.beside("fetched")).expect("a folder").flatten().next().expect("a file");
    assert_eq!(std::fs::read(copied.path()).expect("a file"), envelope);
    archive(&["find", "app", "--into", &into, "--attestation-type", "none"]).code(3).stdout("");

    let app = affiant_core::digest::sha256_hex(b"hello\n");
    let bundle =
        |flags: &[&str]| place.affiant(["bundle", "create", "-s", &app, "-o", "../e.tar.gz"]).with(flags).run();
    bundle(&["--archive", &store]).code(0).stderr("1 envelopes in ../e.tar.gz\n");
    bundle(&["--enable-archivista", "--archivista-server", &base]).code(0).stderr("1 envelopes in ../e.tar.gz\n");
    let called = place.called("cilock", ["bundle", "create", "--subject", &app, "--archivista-url", &base]);
    called.with(["--output", "../f.tar.gz"]).run().code(0).stderr("1 envelopes in ../f.tar.gz\n");
}

/// As many as are wanted, one after the other; what cannot be read is passed over with a word, and does not count.
#[test]
fn as_much_as_is_wanted_is_copied() {
    let (base, served) = serve(honest);
    let store = format!("archivista+{base}");
    let place = Place::new();
    for number in 0..3 {
        let about = format!("it=sha256:{}", number.to_string().repeat(64));
        let call = place.affiant(["run", "-k", "../k.pem", "-s", "build", "-a", "environment", "--subjects", &about]);
        call.with(["--archive", "dir:../kept", "--archive", &store, "--", "true"]).run().code(0);
    }
    let all = held(&served);
    assert_eq!(all.len(), 3);
    for envelope in &all {
        finds(&served, envelope, "build");
    }
    let find = |archive: &str, more: &[&str]| {
        place.affiant(["archive", "find", "--step", "build", "--archive", archive]).with(more).run()
    };
    let count = |folder: &str| std::fs::read_dir(place.beside(folder)).map_or(0, Iterator::count);
    let fetched = || served.lock().expect("no panic").asked.iter().filter(|one| one.contains(" /download/")).count();
    let before = fetched();
    for (archive, folder) in [("dir:../kept", "a"), (&store, "b")] {
        let into = place.beside(folder).display().to_string();
        for (limit, there) in [("0", 0), ("2", 2), ("2", 2), ("9", 3)] {
            let ended = find(archive, &["--into", &into, "--limit", limit]);
            assert_eq!(ended.stdout_text().lines().count(), there, "{limit}");
            assert_eq!(count(folder), there, "{limit}: what was there before is not there twice");
            ended.code(if there == 0 { 3 } else { 0 });
        }
        find(archive, &["--into", &into, "--after", "sha256:0"]).code(2);
    }
    assert_eq!(fetched() - before, 2 + 2 + 3, "no more than is wanted");
    // One that is not what its name says, then all of them.
    let objects = place.beside("kept/objects");
    let mut files: Vec<_> = walk(&objects).into_iter().filter(|path| path.is_file()).collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    let spoil = |path: &Path| {
        std::fs::remove_file(path).expect("removes");
        std::fs::write(path, "{}").expect("writes");
    };
    let into = place.beside("c").display().to_string();
    spoil(&files[0]);
    let ended = find("dir:../kept", &["--into", &into, "--limit", "2"]).code(0).stderr_has(&["passed over: sha256:"]);
    assert_eq!((ended.stdout_text().lines().count(), count("c")), (2, 2));
    files[1..].iter().for_each(|path| spoil(path));
    find("dir:../kept", &["--into", &into]).code(4).stdout("").stderr_has(&["none of the 3 envelopes can be read"]);
}

/// All below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// What the tutorial calls `archivista_fetch_for_image`.
#[test]
fn evidence_about_an_image_becomes_a_list_for_the_gate() {
    let registry = Registry::start();
    let child = registry.put_image("app", "amd64", "a");
    let manifest = registry.manifest("app", child.as_str()).expect("it is there");
    let config = manifest["config"]["digest"].as_str().expect("a digest").to_owned();
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        { "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": child, "size": manifest.to_string().len(),
          "platform": { "os": "linux", "architecture": "amd64" } }] });
    let root = registry.put("app", Some("v1"), "application/vnd.oci.image.index.v1+json", index.to_string().as_bytes());
    let image = format!("{}/app:v1", registry.host());

    // One run about the config, one about the index, one about something else; a folder has them.
    let place = Place::new();
    let subject = |name: &str, digest: &str| format!("{name}={digest}");
    for (step, about) in
        [("config", config.as_str()), ("index", root.as_str()), ("other", &format!("sha256:{}", "1".repeat(64)))]
    {
        let about = subject("image", about);
        place
            .affiant(["run", "-k", "../k.pem", "-s", step, "-a", "environment", "--subjects", &about, "--", "true"])
            .run()
            .code(0);
    }
    let found = place.affiant(["archive", "find", "--image", &image]).run().code(0);
    let paths: Vec<_> = found.stdout_text().lines().map(str::to_owned).collect();
    assert_eq!(paths.len(), 2, "{paths:?}");
    let read =
        |path: &str| std::fs::read(path.replace("[DIR]", &place.beside("").display().to_string())).expect("a file");
    assert!(paths.iter().all(|path| read(path).starts_with(b"{")));
    let one = place.affiant(["archive", "find", "--image", &image, "--step", "index", "-o", "json"]).run().code(0);
    assert_eq!(serde_json::from_str::<Value>(&one.stdout_text()).expect("JSON").as_array().map(Vec::len), Some(1));

    // A server has them: they are fetched. The image is resolved once.
    let (base, served) = serve(honest);
    for path in &paths {
        let envelope = read(path);
        finds(&served, &envelope, "a");
        served.lock().expect("no panic").held.insert(gitoid(&envelope), envelope);
    }
    registry.forget();
    let store = format!("archivista+{base}");
    let fetched = place.affiant(["archive", "find", "--image", &image, "--archive", &store]).run().code(0);
    assert_eq!(fetched.stdout_text().lines().count(), 2);
    assert!(fetched.stdout_text().starts_with("[DIR]/home/.cache/affiant/fetched/"));
    let by_tag = registry.asked().iter().filter(|asked| asked.path().ends_with("/manifests/v1")).count();
    assert_eq!(by_tag, 1);
    let asked = served.lock().expect("no panic").variables[0]["digests"].clone();
    let hex = |digest: &str| json!(digest.trim_start_matches("sha256:"));
    for digest in [root.as_str(), child.as_str(), &config] {
        assert!(asked.as_array().expect("a list").contains(&hex(digest)), "{asked}");
    }
    place.affiant(["archive", "find", "--image", &format!("{}/app:v2", registry.host())]).run().code(4).stdout("");
    registry.put_image("app", "v3", "c");
    place.affiant(["archive", "find", "--image", &format!("{}/app:v3", registry.host())]).run().code(3).stdout("");
}

/// `affiant verify … -a "$(affiant archive find --image … | paste -sd,)"`, from a folder and from a server.
#[test]
fn the_gate_takes_what_find_prints() {
    let registry = Registry::start();
    let digest = registry.put_image("app", "v1", "a");
    let manifest = registry.manifest("app", digest.as_str()).expect("it is there");
    let config = manifest["config"]["digest"].as_str().expect("a digest").to_owned();
    let (base, served) = serve(honest);
    let store = format!("archivista+{base}");
    let place = Place::new();
    let folder = format!("dir:{}", place.beside("archive").display());
    let kept = ["--archive", &folder, "--archive", &store, "--subjects", &format!("image={config}")];
    run(&place, &kept).code(0);
    finds(&served, &std::fs::read(place.beside("a.json")).expect("the outfile"), "build");
    for line in [
        "policy init --from ../a.json --key ../k.pub --outfile ../policy.yaml",
        "policy sign ../policy.yaml --key ../k.pem --outfile ../policy.json",
    ] {
        let _ = place.affiant(line.split(' ')).env_remove("SOURCE_DATE_EPOCH").run().code(0);
    }
    let image = format!("{}/app:v1", registry.host());
    for archive in [&folder, &store] {
        let found = place.affiant(["archive", "find", "--image", &image, "--archive", archive]).run().code(0);
        let root = place.beside("").display().to_string();
        let found = found.stdout_text().replace("[DIR]", root.trim_end_matches('/'));
        let list: Vec<_> = found.lines().collect();
        let verify = place.affiant(["verify", "-p", "../policy.json", "-k", "../k.pub", "-a", &list.join(",")]);
        let passed = verify.env_remove("SOURCE_DATE_EPOCH").with(["-s", &config, "app"]).run().code(0);
        assert!(passed.stdout_text().contains("PASSED: app"), "{}", passed.stdout_text());
    }
}
