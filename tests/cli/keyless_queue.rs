//! A log that does not answer while something is signed: the entry is queued, and `affiant resume` makes it
//! (`docs/decisions/024-queue.md`).

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use affiant_core::image::Digest;
use affiant_core::image::sigstore::Bundle;
use serde_json::{Value, json};

use crate::crash::SmallDisk;
use crate::harness::{Call, Ended, Place};
use crate::registry::{Asked, Door, Registry, Said};
use crate::sigstore_services::{SHORT, Sigstore, Twist, token};

const IDENTITY: &str = "https://gitlab.example/group/app//.gitlab-ci.yml@refs/heads/main";
const WELL: u16 = 0;
const LOG: &str = "dev.sigstore.cosign/bundle";

/// Services whose logs answer with a status that the test decides, an image, files and keys.
struct World {
    registry: Registry,
    sigstore: Sigstore,
    place: Place,
    digest: Digest,
    logs: Arc<AtomicU16>,
    /// Is done once, when a log is asked next and is well.
    meanwhile: Meanwhile,
}

type Meanwhile = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

impl World {
    fn new(generation: u8) -> Self {
        Self::of(generation, Twist::None, Registry::start())
    }

    fn of(generation: u8, twist: Twist, registry: Registry) -> Self {
        let logs = Arc::new(AtomicU16::new(502));
        let (status, meanwhile) = (Arc::clone(&logs), Meanwhile::default());
        let deed = Arc::clone(&meanwhile);
        let lie = move |asked: &Asked| {
            let is_well = asked.target.contains("/rekor") && status.load(Ordering::SeqCst) == WELL;
            if is_well && let Some(deed) = deed.lock().expect("no panic").take() {
                deed();
            }
            let status = Some(status.load(Ordering::SeqCst)).filter(|status| *status != WELL)?;
            let said = || Said::new(status).body(json!({"code": 3, "message": "not today"}).to_string());
            asked.target.contains("/rekor").then(said)
        };
        let sigstore = Sigstore::with(twist, Some(Box::new(lie)));
        let digest = registry.put_image("app", "v1", "a");
        let place = Place::without_key();
        place.write("config.json", sigstore.signing_config(generation, true));
        place.write("root.json", sigstore.trusted_root());
        place.write("file", "content");
        place.write("p.json", "{\"a\": 1}");
        Self { registry, sigstore, place, digest, logs, meanwhile }
    }

    fn with_key(self) -> Self {
        self.place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "c.key"]).run().code(0);
        self
    }

    fn logs_answer(&self, status: u16) {
        self.logs.store(status, Ordering::SeqCst);
    }

    fn image(&self) -> String {
        format!("{}/app@{}", self.registry.host(), self.digest)
    }

    fn call(&self, args: &[&str]) -> Call {
        self.place.affiant(args).env("AFFIANT_RETRY_FOR", "500ms").env("SIGSTORE_ID_TOKEN", token(&json!({})))
    }

    /// `affiant image VERB` that queues.
    fn sign(&self, verb: &[&str], more: &[&str]) -> Ended {
        let services =
            ["--signing-config", "config.json", "--on-log-failure", "queue", "--spool", "../spool", "--trusted-root"];
        self.call(&["image"]).with(verb).with(services).with(["root.json"]).with(more).run()
    }

    fn resume(&self, more: &[&str]) -> Ended {
        self.call(&["resume", "--spool", "../spool", "--trusted-root", "root.json"]).with(more).run()
    }

    /// What waits in the spool.
    fn records(&self) -> Vec<PathBuf> {
        records(&self.place.beside("spool"))
    }

    /// Whether an image or file passes, with a log entry demanded and without.
    fn passes(&self, verb: &[&str], of: &[&str]) -> (bool, bool) {
        let ask = |more: &[&str]| {
            let call = self.place.affiant(["image"]).with(verb).with(["--trusted-root", "root.json"]);
            let code = call.with(more).with(of).run().exit_code();
            assert!(code == 0 || code == 12, "{code}");
            code == 0
        };
        (ask(&[]), ask(&["--insecure-ignore-tlog", "--use-signed-timestamps"]))
    }

    /// The bundles that refer to the image.
    fn bundles(&self) -> Vec<Bundle> {
        let read = |digest: &String| {
            let manifest = self.registry.manifest("app", digest).expect("it is there");
            let bytes = self.registry.blob("app", manifest["layers"][0]["digest"].as_str().expect("a digest"));
            Bundle::parse(&bytes).expect("a bundle")
        };
        self.registry.all_about("app", &self.digest).iter().map(read).collect()
    }

    fn layers(&self, suffix: &str) -> Vec<Value> {
        let manifest = self.registry.manifest("app", &self.digest.tag(suffix)).expect("it is there");
        manifest["layers"].as_array().expect("layers").clone()
    }

    fn bundle(&self, name: &str) -> Bundle {
        Bundle::parse(&std::fs::read(self.place.work().join(name)).expect("written")).expect("a bundle")
    }
}

/// The flags of the signer.
const SIGNER: [&str; 4] = ["--certificate-identity", IDENTITY, "--certificate-oidc-issuer", "https://gitlab.example"];

fn records(spool: &Path) -> Vec<PathBuf> {
    let Ok(files) = std::fs::read_dir(spool) else { return Vec::new() };
    let mut all: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    all.retain(|path| path.to_str().is_some_and(|path| path.ends_with(".log.json")));
    all.sort();
    all
}

/// The digest that a record is called by.
fn digest_of(record: &Path) -> String {
    let name = record.file_name().and_then(|name| name.to_str()).expect("a name");
    format!("sha256:{}", name.split('.').next().expect("parts"))
}

fn sign_blob(bundle: &str) -> [&str; 4] {
    ["sign-blob", "--bundle", bundle, "file"]
}

#[test]
fn a_file_is_signed_with_its_timestamp_and_its_entry_is_made_later() {
    let world = World::new(2);
    let verify = [&["verify-blob"][..], &SIGNER].concat();
    let of = ["--bundle", "b.json", "file"];
    let ended = world.sign(&sign_blob("b.json"), &[]).code(0).stdout("");
    let ended = ended.stderr_has(&[
        "no log entry was made",
        "answers 502",
        "it waits in [DIR]/spool/",
        "finish with `affiant resume --spool [DIR]/spool --trusted-root root.json`",
    ]);
    assert_eq!(ended.stderr_text().matches("hint:").count(), 1);
    assert_eq!((world.bundle("b.json").entries.len(), world.bundle("b.json").timestamps.len()), (0, 1));
    assert_eq!(world.passes(&verify, &of), (false, true));

    // The record is its owner's alone, and holds no secret.
    let [record] = &world.records()[..] else { panic!("one record") };
    assert_eq!(std::fs::metadata(record).expect("there").permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(record).expect("text");
    assert!(!text.contains("PRIVATE") && !text.contains(token(&json!({})).rsplit('.').next().expect("parts")));
    let listed = world.resume(&["--list"]).code(0).stderr("").stdout_text();
    assert!(listed.starts_with(&digest_of(record)) && listed.contains("log entry") && listed.contains("b.json"));

    // Down, offline, refused: it waits, and the file is as it was.
    let asked = world.sigstore.asked().len();
    world.resume(&["--offline"]).code(4).stdout("").stderr_has(&["--offline", "/rekor2", "1 still waiting"]);
    assert_eq!(world.sigstore.asked().len(), asked, "nobody is asked");
    world.resume(&[]).code(4).stdout("").stderr_has(&["the log entry still waits", "answers 502"]);
    world.logs_answer(400);
    world.resume(&[]).code(4).stdout("").stderr_has(&["the log entry still waits", "answers 400", "not today"]);
    assert_eq!((world.records().len(), world.bundle("b.json").entries.len()), (1, 0));

    world.logs_answer(WELL);
    let ended = world
        .resume(&[])
        .code(0)
        .stdout("")
        .stderr_has(&["the entry 0 of http://127.0.0.1", "is in [DIR]/work/b.json"]);
    assert!(!ended.stderr_text().contains("note:"));
    assert_eq!(world.passes(&verify, &of), (true, true));
    assert_eq!(std::fs::read_dir(world.place.beside("spool")).expect("read").count(), 0);
    world.resume(&[]).code(0).stderr("nothing waits\n");
    assert_eq!(world.sigstore.count("signingCert"), 1, "no certificate is asked for again");
}

#[test]
fn attestations_of_files_and_the_usual_spool() {
    let world = World::new(2);
    let attest =
        ["attest-blob", "--type", "https://a.example/t", "--predicate", "p.json", "--bundle", "a.json", "file"];
    let services = ["--signing-config", "config.json", "--on-log-failure", "queue"];
    world.call(&["image"]).with(attest).with(services).run().code(0).stderr_has(&["finish with `affiant resume`"]);
    let spool = world.place.beside("home/.local/state/affiant/spool");
    assert_eq!(records(&spool).len(), 1);
    world.logs_answer(WELL);
    world.call(&["resume"]).run().code(0).stdout("");
    assert_eq!((world.bundle("a.json").entries.len(), records(&spool).len()), (1, 0));
    let verify = [&["verify-blob-attestation", "--type", "https://a.example/t"][..], &SIGNER].concat();
    assert_eq!(world.passes(&verify, &["--bundle", "a.json", "file"]), (true, true));
}

/// In registries of every sort: the completed bundle takes the place of the other.
#[test]
fn the_bundle_of_an_image_is_completed_in_every_registry() {
    let keep = |asked: &Asked| (asked.method == "DELETE").then(|| Said::new(405));
    for (name, registry) in [
        ("with a list of referrers", Registry::start()),
        ("with a tag as list", Registry::old()),
        ("with a strict tag", Registry::strict()),
        ("that deletes nothing", Registry::with(Door::Open, true, Some(Box::new(keep)))),
    ] {
        let deletes = name != "that deletes nothing";
        let world = World::of(2, Twist::None, registry);
        let verify = [&["verify"][..], &SIGNER].concat();
        world.sign(&["sign", &world.image()], &[]).code(0).stdout("").stderr_has(&["it waits in"]);
        // The tag has no room for an entry of the second generation: only the bundle waits for one.
        assert_eq!(
            (world.records().len(), world.bundles().len(), world.bundles()[0].entries.len()),
            (1, 1, 0),
            "{name}"
        );
        assert_eq!(world.passes(&verify, &[&world.image()]), (false, true), "{name}");
        world.logs_answer(WELL);
        let said = world.resume(&[]).code(0).stdout("").stderr_text();
        assert_eq!(said.contains("stays beside the one with it, and holds as before"), !deletes, "{name}: {said}");
        let bundles = world.bundles();
        assert_eq!(bundles.len(), if deletes { 1 } else { 2 }, "{name}");
        assert_eq!(bundles.iter().filter(|bundle| bundle.entries.len() == 1).count(), 1, "{name}");
        assert_eq!(world.passes(&verify, &[&world.image()]), (true, true), "{name}");
        assert!(world.records().is_empty(), "{name}");
        if !world.registry.lists_referrers() {
            let list = world.registry.manifest("app", &world.digest.tag("")).expect("a list");
            assert_eq!(list["manifests"].as_array().map(Vec::len), Some(1), "{name}: {list}");
            assert_eq!(list["manifests"][0]["digest"], world.registry.all_about("app", &world.digest)[0]);
        }
    }
}

#[test]
fn the_bundle_of_an_image_is_completed_in_layouts_and_archives() {
    let world = World::new(2);
    let verify = [&["verify"][..], &SIGNER].concat();
    for kind in ["oci", "oci-archive"] {
        world.logs_answer(502);
        let target = format!("{kind}:../{kind}");
        world.call(&["image", "copy", &world.image(), &target]).run().code(0);
        let pinned = format!("{target}@{}", world.digest);
        let name = ["--sign-container-identity", "registry.example/app", "--format", "bundle"];
        world.sign(&["sign", &pinned], &name).code(0).stderr_has(&["it waits in"]);
        assert_eq!(world.passes(&verify, &[&pinned]), (false, true), "{kind}");
        world.logs_answer(WELL);
        // From anywhere.
        std::fs::create_dir_all(world.place.beside("elsewhere")).expect("makes a folder");
        let mut resume =
            world.call(&["resume", "--spool", "../spool", "--trusted-root", "../work/root.json"]).command();
        let ended = resume.current_dir(world.place.beside("elsewhere")).output().expect("ends");
        assert!(ended.status.success(), "{kind}: {}", String::from_utf8_lossy(&ended.stderr));
        assert_eq!(world.passes(&verify, &[&pinned]), (true, true), "{kind}");
        assert!(world.records().is_empty());
    }
    // A layout has one entry for the image, and one for the bundle.
    let index: Value =
        serde_json::from_slice(&std::fs::read(world.place.beside("oci/index.json")).expect("read")).expect("JSON");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2), "{index}");
}

/// Of a log of the first generation: what it promises goes into the annotations under the tag, beside those of others.
#[test]
fn annotations_under_a_tag_get_the_promise_of_a_log() {
    let world = World::new(1).with_key();
    let key = |name: &str| {
        world.place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", name]).run().code(0);
    };
    key("other.key");
    world.call(&["image", "sign", "--key", "other.key", "--format", "tag", &world.image()]).run().code(0);
    // With consent the log gets the statement as well: two entries wait, the statement in its record.
    world
        .sign(&["sign", "--key", "c.key", "--log", "rekor1", &world.image()], &[])
        .code(0)
        .stderr_has(&["it waits in"]);
    assert_eq!(world.records().len(), 2);
    let before = world.layers(".sig");
    assert!(before.len() == 2 && before.iter().all(|layer| layer["annotations"].get(LOG).is_none()), "{before:?}");
    let verify = ["verify", "--key", "c.pub"];
    assert_eq!(world.passes(&verify, &[&world.image()]), (false, true));
    world.logs_answer(WELL);
    world.resume(&[]).code(0).stdout("").stderr_has(&[&format!("app:{}", world.digest.tag(".sig"))]);
    let after = world.layers(".sig");
    assert_eq!(before[0], after[0], "another's signature is as it was");
    let notes = after[1]["annotations"].as_object().expect("notes");
    assert!(notes[LOG].as_str().is_some_and(|promise| promise.contains("SignedEntryTimestamp")), "{notes:?}");
    assert_eq!(notes.len(), before[1]["annotations"].as_object().expect("notes").len() + 1);
    assert_eq!(world.bundles()[0].entries[0].kind, "dsse");
    assert_eq!(world.passes(&verify, &[&world.image()]), (true, true));
    assert!(world.records().is_empty());
    // In the form `oci-1-1` the same stands in a referrer.
    let world = World::new(1).with_key();
    let more = ["--format", "tag", "--registry-referrers-mode", "oci-1-1"];
    world.sign(&["sign", "--key", "c.key", &world.image()], &more).code(0).stderr_has(&["it waits in"]);
    world.logs_answer(WELL);
    world.resume(&[]).code(0).stdout("");
    let [kept] = &world.registry.all_about("app", &world.digest)[..] else { panic!("one referrer") };
    let manifest = world.registry.manifest("app", kept).expect("it is there");
    assert!(manifest["layers"][0]["annotations"][LOG].is_string(), "{manifest}");
    assert_eq!(world.passes(&verify, &[&world.image()]), (true, true));
}

/// One entry of an attestation has two places.
#[test]
fn attestations_of_images_are_completed_in_every_form() {
    let attest = ["attest", "--type", "https://a.example/t", "--predicate", "p.json"];
    for (generation, log) in [(1, "rekor1"), (2, "rekor2")] {
        let world = World::new(generation).with_key();
        let more = ["--key", "c.key", "--log", log, &world.image()];
        world.sign(&attest, &more).code(0).stderr_has(&["it waits in"]);
        assert_eq!(world.records().len(), 1);
        world.logs_answer(WELL);
        let said = world.resume(&[]).code(0).stdout("").stderr_text();
        assert_eq!(said.matches(" is in ").count(), if generation == 1 { 2 } else { 1 }, "{said}");
        assert_eq!(world.bundles()[0].entries.len(), 1);
        assert_eq!(world.layers(".att")[0]["annotations"].get(LOG).is_some(), generation == 1);
        let verify = ["verify-attestation", "--type", "https://a.example/t", "--key", "c.pub"];
        assert_eq!(world.passes(&verify, &[&world.image()]), (true, true));
    }
    // Under a tag alone nothing has room for what a log of the second generation says.
    let world = World::new(2).with_key();
    let ended = world.sign(&attest, &["--key", "c.key", "--format", "tag", &world.image()]).code(0);
    ended.stderr_has(&["none is queued", "has no room for one"]);
    assert!(world.records().is_empty());
}

/// A log of the first generation says when: an entry after the certificate's end would spoil what the timestamp proves.
#[test]
fn no_entry_is_made_that_would_spoil_the_signature() {
    let world = World::of(1, Twist::Short, Registry::start());
    let verify = [&["verify-blob"][..], &SIGNER].concat();
    let of = ["--bundle", "b.json", "file"];
    let begun = Instant::now();
    // One that the log makes in time, and whose answer is lost; and one that it does not make.
    world.sign(&sign_blob("a.json"), &[]).code(0);
    let record = world.records().remove(0);
    let lost = [record.clone(), world.place.work().join("a.json")].map(|path| {
        let bytes = std::fs::read(&path).expect("written");
        (path, bytes)
    });
    world.logs_answer(WELL);
    world.resume(&[]).code(0);
    assert_eq!(world.bundle("a.json").entries.len(), 1);
    world.logs_answer(502);
    world.sign(&sign_blob("b.json"), &[]).code(0).stderr_has(&["it waits in"]);
    for (path, bytes) in &lost {
        std::fs::write(path, bytes).expect("written");
    }
    let bytes = std::fs::read(world.place.work().join("b.json")).expect("written");
    world.logs_answer(WELL);
    let life = Duration::from_secs(SHORT.as_secs().unsigned_abs() + 2);
    std::thread::sleep(life.saturating_sub(begun.elapsed()) + Duration::from_secs(1));
    let made =
        || world.sigstore.asked().iter().filter(|one| one.method == "POST" && one.target.contains("rekor1")).count();
    let before = made();
    for number in 0..2 {
        let ended = world.resume(&[]).code(4).stdout("").stderr_has(&[
            "will never be made, and the timestamp stays as proof",
            "the certificate was valid until",
            "`affiant resume --spool ../spool --forget --digest sha256:",
            "1 still waiting",
        ]);
        assert_eq!(ended.stderr_text().contains("a.json"), number == 0);
    }
    assert_eq!(made(), before, "no entry is made");
    assert_eq!(world.bundle("a.json").entries.len(), 1, "what the log has made in time counts");
    assert_eq!(world.passes(&verify, &["--bundle", "a.json", "file"]), (true, true));
    assert_eq!(std::fs::read(world.place.work().join("b.json")).expect("there"), bytes);
    assert_eq!(world.passes(&verify, &of), (false, true));
    let listed = world.resume(&["--list"]).code(0).stdout_text();
    assert!(listed.contains("ended") && listed.contains("the certificate was valid until"), "{listed}");
    let digest = digest_of(&world.records()[0]);
    world.resume(&["--forget"]).code(2).stdout("");
    world.resume(&["--forget", "--digest", &digest]).code(0).stdout("").stderr_has(&["is dropped"]);
    world.resume(&[]).code(0).stderr("nothing waits\n");
}

/// Whatever was done before it was killed: a second `resume` gets to the same end.
#[test]
fn a_resume_that_was_killed_is_finished_by_the_next() {
    let world = World::new(2);
    world.sign(&["sign", &world.image()], &["--format", "bundle"]).code(0);
    world.sign(&sign_blob("b.json"), &[]).code(0);
    let spool = world.place.beside("spool");
    let saved: Vec<(PathBuf, Vec<u8>)> = std::fs::read_dir(&spool)
        .expect("read")
        .flatten()
        .map(|file| (file.path(), std::fs::read(file.path()).expect("read")))
        .collect();
    let unfinished = world.registry.all_about("app", &world.digest);
    let [unfinished] = &unfinished[..] else { panic!("one bundle") };
    let half = world.registry.manifest("app", unfinished).expect("it is there").to_string();
    world.logs_answer(WELL);
    world.resume(&[]).code(0);
    let [finished] = &world.registry.all_about("app", &world.digest)[..] else { panic!("one bundle") };
    let finished = finished.clone();
    let file = std::fs::read(world.place.work().join("b.json")).expect("written");
    let entered = world.sigstore.count("rekor2");
    // It was all done but for the spool: what a log of the second generation has it does not say again.
    let again = || saved.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).expect("written"));
    again();
    world.call(&["resume", "--spool", "../spool"]).run().code(4).stdout("").stderr_has(&[
        "it has this entry already",
        " --trusted-root ROOT`, with a root that has this log's key",
        "2 still waiting",
    ]);
    world.resume(&[]).code(0).stdout("");
    assert!(world.sigstore.count("/tile/0/000.p/") > 0 && world.sigstore.count("rekor2") > entered);
    let check = |what: &str| {
        assert_eq!(world.registry.all_about("app", &world.digest), std::slice::from_ref(&finished), "{what}");
        assert_eq!(std::fs::read(world.place.work().join("b.json")).expect("there"), file, "{what}");
        assert!(world.records().is_empty(), "{what}");
    };
    check("all but the spool");
    // The completed bundle was there, and the other not yet deleted.
    let bundle = world.bundle("b.json");
    assert_eq!(bundle.entries.len(), 1);
    again();
    world.registry.put("app", None, "application/vnd.oci.image.manifest.v1+json", half.as_bytes());
    world.resume(&[]).code(0).stdout("");
    assert_eq!(world.registry.all_about("app", &world.digest).len(), 1);
    check("both bundles");
}

/// Killed at moments that nobody chose.
#[test]
fn a_resume_that_is_killed_loses_nothing() {
    let world = World::new(2);
    for number in 0..4 {
        world.sign(&sign_blob(&format!("{number}.json")), &[]).code(0);
    }
    world.sign(&["sign", &world.image()], &["--format", "bundle"]).code(0);
    world.logs_answer(WELL);
    let mut pause = 1_u64;
    for _ in 0..25 {
        let mut child = world
            .call(&["resume", "--spool", "../spool", "--trusted-root", "root.json"])
            .command()
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        pause = pause.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros((pause >> 33) % 60_000));
        child.kill().expect("kills");
        child.wait().expect("ends");
    }
    world.resume(&[]).code(0).stdout("");
    let verify = [&["verify-blob"][..], &SIGNER].concat();
    for number in 0..4 {
        let name = format!("{number}.json");
        assert_eq!(world.bundle(&name).entries.len(), 1);
        assert_eq!(world.passes(&verify, &["--bundle", &name, "file"]), (true, true));
    }
    assert_eq!(world.bundles().len(), 1);
    assert_eq!(world.passes(&[&["verify"][..], &SIGNER].concat(), &[&world.image()]), (true, true));
    assert!(world.records().is_empty());
}

#[test]
fn records_that_were_tampered_with_are_told_and_the_others_finished() {
    let world = World::new(2);
    for name in ["a.json", "b.json", "c.json"] {
        world.sign(&sign_blob(name), &[]).code(0);
    }
    let records = world.records();
    let texts: Vec<String> = records.iter().map(|path| std::fs::read_to_string(path).expect("text")).collect();
    let at = |name: &str| texts.iter().position(|text| text.contains(name)).expect("its record");
    // Changed in place; and a name that fits, around something else.
    std::fs::write(&records[at("a.json")], texts[at("a.json")].replace("a.json", "c.json")).expect("written");
    let named = |text: &str| {
        let digest = affiant_core::digest::sha256_hex(text.as_bytes());
        world.place.beside(&format!("spool/{digest}.log.json"))
    };
    std::fs::write(named("garbage"), "garbage").expect("written");
    // Another's signature for our file, and for a log that hears of it: its record is whole, and its place is not its own.
    let planted = texts[at("b.json")].replace("b.json", "c.json");
    std::fs::write(named(&planted), &planted).expect("written");
    world.logs_answer(WELL);
    let ended = world.resume(&[]).code(4).stdout("").stderr_has(&[
        "the content has changed",
        "the record cannot be read",
        "another signature by now",
        "`--outfile FILE` names the file that has the bundle now",
        "3 still waiting",
    ]);
    assert!(!ended.stderr_text().contains("panicked"));
    let entries = |name: &str| world.bundle(name).entries.len();
    assert_eq!((entries("a.json"), entries("b.json"), entries("c.json")), (0, 1, 1));
    let verify = [&["verify-blob"][..], &SIGNER].concat();
    assert_eq!(world.passes(&verify, &["--bundle", "c.json", "file"]), (true, true));
}

/// The file is another by now, or elsewhere.
#[test]
fn a_bundle_that_was_moved_is_named() {
    let world = World::new(2);
    world.sign(&sign_blob("b.json"), &[]).code(0);
    world.logs_answer(WELL);
    let (work, asked) = (world.place.work(), world.sigstore.count("rekor2"));
    std::fs::rename(work.join("b.json"), work.join("moved.json")).expect("moved");
    world.resume(&[]).code(4).stdout("").stderr_has(&["b.json cannot be read", "--outfile FILE"]);
    world.place.write("b.json", "something else");
    world.resume(&[]).code(4).stdout("").stderr_has(&["b.json stays as it is, and gets no log entry"]);
    assert_eq!(std::fs::read_to_string(work.join("b.json")).expect("there"), "something else");
    assert_eq!(world.sigstore.count("rekor2"), asked, "a log hears of nothing that is not at its place");
    let digest = digest_of(&world.records()[0]);
    world.resume(&["--digest", &digest, "--outfile", "moved.json"]).code(0).stdout("");
    assert_eq!((world.bundle("moved.json").entries.len(), world.records().len()), (1, 0));
    assert_eq!(world.sigstore.count("rekor2"), asked + 1, "what was answered once is kept");
    // An image's signature that was taken away is told, and its record can be dropped.
    world.logs_answer(502);
    world.sign(&["sign", &world.image()], &["--format", "bundle"]).code(0);
    for digest in world.registry.all_about("app", &world.digest) {
        world.registry.remove("app", &digest.parse().expect("a digest"));
    }
    world.logs_answer(WELL);
    let asked = world.sigstore.count("rekor2");
    let nowhere = ["has no such signature", "is not asked before the signature is found", "--forget"];
    world.resume(&[]).code(4).stdout("").stderr_has(&nowhere);
    assert_eq!(world.sigstore.count("rekor2"), asked);
    world.resume(&["--outfile", "x"]).code(4).stdout("").stderr_has(&["--outfile: the log entry is for an image"]);
}

/// Of the layers of a tag and the referrers in their place: where none has the signature any more, no log hears of it.
/// Where one of two has, the log is asked, and the other told.
#[test]
fn what_is_taken_from_a_tag_is_not_sent_to_a_log() {
    for (mode, gone) in [("legacy", ".sig"), ("oci-1-1", "")] {
        let world = World::new(1).with_key();
        let more = ["--format", "tag", "--registry-referrers-mode", mode];
        world.sign(&["sign", "--key", "c.key", &world.image()], &more).code(0).stderr_has(&["it waits in"]);
        world.logs_answer(WELL);
        let asked = world.sigstore.count("rekor1");
        if gone.is_empty() {
            for digest in world.registry.all_about("app", &world.digest) {
                world.registry.remove("app", &digest.parse().expect("a digest"));
            }
        } else {
            world.registry.untag("app", &world.digest.tag(gone));
        }
        world.resume(&[]).code(4).stdout("").stderr_has(&["has no such signature", "is not asked before"]);
        assert_eq!((world.sigstore.count("rekor1"), world.records().len()), (asked, 1), "{mode}");
    }
    let world = World::new(1).with_key();
    let attest = ["attest", "--type", "https://a.example/t", "--predicate", "p.json", "--log", "rekor1"];
    world.sign(&attest, &["--key", "c.key", &world.image()]).code(0).stderr_has(&["it waits in"]);
    world.registry.untag("app", &world.digest.tag(".att"));
    world.logs_answer(WELL);
    world.resume(&[]).code(4).stdout("").stderr_has(&[" is in ", "has no such signature", "1 still waiting"]);
    assert_eq!(world.bundles()[0].entries.len(), 1);
}

/// Two writers of one tag: the one that signed still watches it when the other completes what was signed. Neither has lost
/// anything by that.
#[test]
fn a_layer_that_is_completed_while_its_writer_watches_is_still_there() {
    let (written, finished) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (looked, done) = (Arc::new(AtomicBool::new(false)), Arc::clone(&finished));
    let (is_written, is_looked) = (Arc::clone(&written), Arc::clone(&looked));
    let hold = move |asked: &Asked| {
        let is_tag = asked.target.strip_suffix(".sig").is_some_and(|tag| tag.contains("/manifests/sha256-"));
        if is_tag && asked.method == "PUT" {
            is_written.store(true, Ordering::SeqCst);
        } else if is_tag && is_written.load(Ordering::SeqCst) && !is_looked.swap(true, Ordering::SeqCst) {
            // The first look of the one that signed: until the other is done.
            let begun = Instant::now();
            while !done.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        None
    };
    let world = World::of(1, Twist::None, Registry::with(Door::Open, true, Some(Box::new(hold)))).with_key();
    let begun = Instant::now();
    let services = ["--signing-config", "config.json", "--on-log-failure", "queue", "--spool", "../spool"];
    let child = world
        .call(&["image", "sign", "--key", "c.key", "--format", "tag", &world.image()])
        .with(services)
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    while !looked.load(Ordering::SeqCst) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it signs, and watches");
        std::thread::sleep(Duration::from_millis(10));
    }
    world.logs_answer(WELL);
    let resumed = world.resume(&[]);
    finished.store(true, Ordering::SeqCst);
    resumed.code(0).stdout("").stderr_has(&["is in ", "app:sha256-"]);
    let ended = child.wait_with_output().expect("ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(begun.elapsed() < Duration::from_secs(100), "it did not try until its time was over");
    let [layer] = &world.layers(".sig")[..] else { panic!("one layer") };
    assert!(layer["annotations"][LOG].is_string(), "{layer}");
    assert_eq!(world.passes(&["verify", "--key", "c.pub"], &[&world.image()]), (true, true));
}

/// What could not be used, or could not wait, is refused before any service is asked.
#[test]
fn a_queue_needs_a_time_and_a_place() {
    let world = World::new(2);
    world.place.write("config.json", world.sigstore.signing_config(1, false));
    world
        .sign(&sign_blob("b.json"), &[])
        .code(2)
        .stdout("")
        .stderr_has(&["nothing would prove when", "--timestamp-servers URL"]);
    world.place.write("config.json", world.sigstore.signing_config(2, true));
    world.sign(&["sign-blob", "file"], &[]).code(2).stdout("").stderr_has(&["no file is written", "--bundle FILE"]);
    world
        .sign(&["sign-blob", "--bundle", "/dev/stdout", "file"], &[])
        .code(2)
        .stdout("")
        .stderr_has(&["--bundle FILE"]);
    std::fs::remove_dir(world.place.beside("spool")).expect("it is empty");
    std::fs::write(world.place.beside("spool"), "a file").expect("written");
    world.sign(&sign_blob("b.json"), &[]).code(4).stdout("").stderr_has(&["the spool cannot be used"]);
    assert!(world.sigstore.asked().is_empty() && !world.place.work().join("b.json").exists());
    std::fs::remove_file(world.place.beside("spool")).expect("removed");
    // A log that answers leaves nothing behind; a key needs no timestamp.
    world.logs_answer(WELL);
    world.sign(&sign_blob("b.json"), &[]).code(0).stderr_has(&["signing as"]);
    assert!(world.records().is_empty());
    let world = world.with_key();
    world.logs_answer(502);
    world.place.write("config.json", world.sigstore.signing_config(1, false));
    world
        .sign(&["sign-blob", "--key", "c.key", "--bundle", "k.json", "file"], &[])
        .code(0)
        .stderr_has(&["it waits in"]);
    world.logs_answer(WELL);
    world.resume(&[]).code(0);
    assert_eq!(world.bundle("k.json").entries.len(), 1);
    // Where nothing is stamped either, nothing is signed, and nothing waits.
    let unstamped = World::of(2, Twist::OtherImprint, Registry::start());
    unstamped.sign(&sign_blob("b.json"), &[]).code(4).stdout("").stderr_has(&["another signature"]);
    assert!(unstamped.records().is_empty() && !unstamped.place.work().join("b.json").exists());
    // What a log refuses is no outage.
    world.logs_answer(400);
    world.sign(&["sign-blob", "--key", "c.key", "--bundle", "r.json", "file"], &[]).code(4).stdout("");
    assert!(world.records().is_empty() && !world.place.work().join("r.json").exists());
    // Without the queue the same is said with what would help.
    world.logs_answer(503);
    world
        .call(&[
            "image",
            "sign-blob",
            "--key",
            "c.key",
            "--signing-config",
            "config.json",
            "--bundle",
            "r.json",
            "file",
        ])
        .run()
        .code(4)
        .stdout("")
        .stderr_has(&["--on-log-failure queue"]);
}

/// A record that somebody else wrote sends nothing to a public log without consent.
#[test]
fn a_public_log_hears_of_nothing_that_it_may_not() {
    let world = World::new(2);
    world.sign(&["sign", &world.image()], &["--format", "bundle"]).code(0);
    let record = world.records().remove(0);
    let text =
        std::fs::read_to_string(&record).expect("text").replace(&world.sigstore.rekor(2), "https://rekor.sigstore.dev");
    world.resume(&["--forget", "--digest", &digest_of(&record)]).code(0);
    let digest = affiant_core::digest::sha256_hex(text.as_bytes());
    std::fs::write(world.place.beside(&format!("spool/{digest}.log.json")), &text).expect("written");
    world.resume(&[]).code(4).stdout("").stderr_has(&["is public and keeps what it is sent", "--log-public-ok"]);
    // Nor is one asked over a line that others read.
    let text = text.replace("https://rekor.sigstore.dev", "http://rekor.example");
    let digest = affiant_core::digest::sha256_hex(text.as_bytes());
    std::fs::write(world.place.beside(&format!("spool/{digest}.log.json")), &text).expect("written");
    world.resume(&["--digest", &format!("sha256:{digest}")]).code(4).stdout("").stderr_has(&["only https"]);
}

/// Signatures of RSA repeat, and a log of the second generation does not give an entry again: whose the log is a trusted
/// root says, and then the entry is found in its tiles.
#[test]
fn an_rsa_key_signs_the_same_twice() {
    let world = World::new(2);
    world.logs_answer(WELL);
    world.place.affiant(["key", "generate", "--kind", "rsa2048", "--no-password", "-o", "r.key"]).run().code(0);
    let sign = |more: &[&str]| {
        let services = ["--key", "r.key", "--signing-config", "config.json", "--bundle", "b.json"];
        world.call(&["image", "sign-blob"]).with(services).with(more).with(["file"]).run()
    };
    sign(&[]).code(0);
    sign(&[]).code(4).stdout("").stderr_has(&["it has this entry already", "`--trusted-root ROOT`", "`--log none`"]);
    sign(&["--trusted-root", "root.json"]).code(0).stdout("").stderr("");
    assert_eq!(world.bundle("b.json").entries.len(), 1);
    assert_eq!(world.passes(&["verify-blob", "--key", "r.pub"], &["--bundle", "b.json", "file"]), (true, true));
    // Other leaves in the tree do not matter.
    for number in 0..5 {
        world.place.write("other", number.to_string());
        let services = ["--key", "r.key", "--signing-config", "config.json", "--bundle", "o.json"];
        world.call(&["image", "sign-blob"]).with(services).with(["other"]).run().code(0);
    }
    sign(&["--trusted-root", "root.json"]).code(0).stdout("").stderr("");
    assert_eq!(world.passes(&["verify-blob", "--key", "r.pub"], &["--bundle", "b.json", "file"]), (true, true));
    // The log says whose it is, under whatever address it is asked.
    world.place.write(
        "moved.json",
        world.sigstore.trusted_root().replace(&world.sigstore.rekor(2), "https://127.0.0.1/elsewhere"),
    );
    sign(&["--trusted-root", "moved.json"]).code(0).stdout("").stderr("");
    assert_eq!(world.passes(&["verify-blob", "--key", "r.pub"], &["--bundle", "b.json", "file"]), (true, true));
    // Of another instance it is no use.
    world.place.write("other.json", Sigstore::start().trusted_root());
    sign(&["--trusted-root", "other.json"]).code(4).stdout("").stderr_has(&["it has this entry already"]);
}

/// The log's answer comes once: there is room for it before the log is asked.
#[test]
fn a_full_disk_asks_no_log() {
    let world = World::new(2);
    let Some(disk) = SmallDisk::mount(world.place.beside("disk"), "1m") else { return };
    std::os::unix::fs::symlink(world.place.beside("disk"), world.place.beside("spool")).expect("a link");
    world.sign(&sign_blob("b.json"), &[]).code(0).stderr_has(&["it waits in"]);
    world.logs_answer(WELL);
    disk.fill();
    let asked = world.sigstore.count("rekor2");
    world.resume(&[]).code(4).stdout("").stderr_has(&[
        "its answer could not be kept",
        "No space left",
        "make room there, then `affiant resume --spool ../spool --trusted-root root.json --digest sha256:",
    ]);
    assert_eq!((world.sigstore.count("rekor2"), world.records().len()), (asked, 1));
    disk.free();
    world.resume(&[]).code(0).stdout("");
    assert_eq!((world.bundle("b.json").entries.len(), world.records().len()), (1, 0));
}

/// What is said of an answer that could not be put into its bundle is true.
#[test]
fn an_answer_is_said_to_be_kept_where_it_is() {
    for keeps in [true, false] {
        let world = World::new(2);
        world.sign(&sign_blob("b.json"), &[]).code(0);
        world.logs_answer(WELL);
        let (bundle, spool) = (world.place.work().join("b.json"), world.place.beside("spool"));
        let (saved, away) = (std::fs::read(&bundle).expect("written"), world.place.beside("away"));
        let (other, from, to) = (bundle.clone(), spool.clone(), away.clone());
        *world.meanwhile.lock().expect("no panic") = Some(Box::new(move || {
            std::fs::write(other, "something else").expect("written");
            if !keeps {
                std::fs::rename(from, to).expect("moved");
            }
        }));
        let said = world.resume(&[]).code(4).stdout("").stderr_text();
        let line = "`affiant resume --spool ../spool --trusted-root root.json --digest sha256:";
        assert!(said.contains(line) && said.contains("`affiant resume --spool ../spool --forget"), "{said}");
        assert_eq!(said.contains("what the log has answered is kept"), keeps, "{said}");
        assert_eq!(said.contains("could not be kept (") && said.contains("` asks it again"), !keeps, "{said}");
        if !keeps {
            std::fs::rename(&away, &spool).expect("moved back");
        }
        std::fs::write(&bundle, saved).expect("written");
        let asked = world.sigstore.count("rekor2");
        world.resume(&[]).code(0).stdout("");
        // What was kept needs no log; what was not is in its tiles.
        assert_eq!(world.sigstore.count("rekor2") == asked, keeps);
        assert_eq!((world.bundle("b.json").entries.len(), world.records().len()), (1, 0));
    }
}

/// What stands before a log gives a question up, or a batch is broken off by another's: that is over soon.
#[test]
fn a_question_that_was_given_up_is_an_outage() {
    for status in [408, 499] {
        let world = World::new(2);
        world.logs_answer(status);
        let reason = format!("answers {status}");
        world.sign(&sign_blob("b.json"), &[]).code(0).stderr_has(&[&reason, "attempts", "it waits in"]);
        world.logs_answer(WELL);
        world.resume(&[]).code(0).stdout("");
        assert_eq!(world.bundle("b.json").entries.len(), 1);
    }
    // What is not there will not come.
    let world = World::new(2);
    world.logs_answer(501);
    world.sign(&sign_blob("b.json"), &[]).code(4).stdout("").stderr_lacks("attempts");
    assert!(world.records().is_empty());
}

/// In the default form, of which the part under the tag has no room for an entry: whose it is says more.
#[test]
fn a_wrong_identity_is_explained_whatever_form_there_is() {
    let world = World::new(2);
    world.logs_answer(WELL);
    world.sign(&["sign", &world.image()], &[]).code(0);
    let verify = |identity: &str| {
        let who = ["--certificate-identity", identity, "--certificate-oidc-issuer", "https://gitlab.example"];
        let call = world.place.affiant(["image", "verify", "--trusted-root", "root.json"]).with(who);
        call.with([&world.image()]).run()
    };
    verify(IDENTITY).code(0);
    let said = verify("x").code(12).stdout("").stderr_has(&["the certificate that was found says:", "hint: "]);
    let said = said.stderr_text();
    let error = said.lines().find(|line| line.starts_with("error: ")).expect("an error");
    assert!(
        !error.contains("log") && said.contains(&format!("accepted by --certificate-identity '{IDENTITY}'")),
        "{said}"
    );
}

/// A policy that demands a log takes the signature when it was completed, and says how until then.
#[test]
fn a_policy_can_demand_completion() {
    let world = World::new(2);
    let place = &world.place;
    for (kind, name) in [("ed25519", "../k.pem"), ("ed25519", "../policy.pem")] {
        place.affiant(["key", "generate", "--kind", kind, "--no-password", "-o", name]).run().code(0);
    }
    place
        .affiant(["run", "-k", "../k.pem", "-o", "../a.json", "-s", "build", "--", "cp", "file", "app.tar"])
        .run()
        .code(0);
    let attest =
        ["attest-blob", "--type", "https://a.example/t", "--predicate", "p.json", "--bundle", "v.json", "app.tar"];
    world.sign(&attest, &[]).code(0).stderr_has(&["it waits in"]);
    place.write("source.yaml", "expires: 2100-01-01\ntrustedRoot: root.json\nsteps:\n  a: {attestations: [product]}\n");
    let compiled = place.affiant(["policy", "compile", "source.yaml"]).run().code(0).stdout_text();
    let mut policy: Value = serde_json::from_str(&compiled).expect("JSON");
    let id = place.affiant(["key", "id", "../k.pub"]).run().code(0).stdout_text().trim().to_owned();
    let pem = std::fs::read(place.beside("k.pub")).expect("a key");
    let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    policy["publickeys"] = json!({id.clone(): {"keyid": id, "key": key}});
    policy["steps"] = json!({"build": {"name": "build", "functionaries": [{"type": "publickey", "publickeyid": id}],
        "attestations": [{"type": "https://witness.dev/attestations/product/v0.1"}]}});
    policy["externalAttestations"] = json!({"vetting": {"name": "vetting", "predicateType": "https://a.example/t",
        "functionaries": [{"certConstraint": {"uris": [IDENTITY], "roots": ["*"],
            "extensions": {"Issuer": "https://gitlab.example"}}}], "required": true, "log": "required"}});
    place.write("policy.json", policy.to_string());
    place.affiant(["sign", "-k", "../policy.pem", "-f", "policy.json", "-o", "policy.signed.json"]).run().code(0);
    let verify = || {
        place
            .affiant(["verify", "-p", "policy.signed.json", "-k", "../policy.pub", "-a", "../a.json", "-a", "v.json"])
            .with(["-f", "app.tar"])
            .run()
    };
    let denied = verify().code(1).stderr("").stdout_text();
    for part in ["DENIED", "it has no log entry", "finish an upload that waits with `affiant resume`"] {
        assert!(denied.split_whitespace().collect::<Vec<_>>().join(" ").contains(part), "{part}: {denied}");
    }
    world.logs_answer(WELL);
    world.resume(&[]).code(0);
    let passed = verify().code(0).stderr("").stdout_text();
    assert!(passed.starts_with("PASSED"), "{passed}");
}

/// A log that is down for a while, and not for good.
#[test]
fn an_outage_within_the_time_for_it_leaves_nothing_to_finish() {
    let begun = Instant::now();
    let lie = move |asked: &Asked| {
        (asked.target.contains("rekor2") && begun.elapsed() < Duration::from_secs(6)).then(|| Said::new(502))
    };
    let sigstore = Sigstore::with(Twist::None, Some(Box::new(lie)));
    let place = Place::without_key();
    place.write("config.json", sigstore.signing_config(2, true));
    place.write("file", "content");
    place
        .affiant(["image", "sign-blob", "--signing-config", "config.json", "--on-log-failure", "queue"])
        .with(["--spool", "../spool", "--retry-for", "2m", "--bundle", "b.json", "file"])
        .env("SIGSTORE_ID_TOKEN", token(&json!({})))
        .run()
        .code(0)
        .stdout("");
    assert!(begun.elapsed() >= Duration::from_secs(6) && sigstore.count("rekor2") > 2);
    let bundle = Bundle::parse(&std::fs::read(place.work().join("b.json")).expect("written")).expect("a bundle");
    assert_eq!((bundle.entries.len(), records(&place.beside("spool")).len()), (1, 0));
}

/// Files of their own: whoever is killed between them leaves no signature without what proves it.
#[test]
fn a_signature_is_written_after_its_proof() {
    let sigstore = Sigstore::start();
    let place = Place::without_key();
    place.write("config.json", sigstore.signing_config(2, true));
    place.write("file", "content");
    // Writing the certificate waits for somebody who reads it.
    nix::unistd::mkfifo(&place.work().join("c.pem"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let files = ["--output-signature", "s", "--output-certificate", "c.pem", "--rfc3161-timestamp", "t.json"];
    let mut child = place
        .affiant(["image", "sign-blob", "--signing-config", "config.json"])
        .with(files)
        .with(["file"])
        .env("SIGSTORE_ID_TOKEN", token(&json!({})))
        .command()
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let begun = Instant::now();
    while sigstore.count("tsa") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it signs");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(500));
    child.kill().expect("kills");
    child.wait().expect("ends");
    let there = |name: &str| place.work().join(name).exists();
    assert!(!there("s"), "a signature without its certificate");
}
