//! Evidence of runs is kept with images: only of runs that succeeded, only what names the image, never as a signature.

use affiant_core::image::Digest;
use serde_json::{Value, json};

use crate::harness::{Ended, Place};
use crate::registry::{Asked, Door, PASSWORD, Registry, Said, USER};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const COLLECTION: &str = "https://witness.testifysec.com/attestation-collection/v0.1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// What buildx says of an image that it pushed.
fn metadata(name: &str, digest: &Digest) -> String {
    json!({"image.name": name, "containerimage.digest": digest,
        "containerimage.descriptor": {"mediaType": MANIFEST, "digest": digest, "size": 1}})
    .to_string()
}

/// Runs a build that says it has made this image.
fn build(place: &Place, name: &str, digest: &Digest, more: &[&str], command: &str) -> Ended {
    std::fs::write(place.beside("m.json"), metadata(name, digest)).expect("written");
    place.capture(["-s", "build", "-a", "docker"]).with(more).with(["--", "sh", "-c", command]).run()
}

const BUILD: &str = "cp ../m.json m.json";

fn image(place: &Place, args: &[&str]) -> Ended {
    place.affiant(["image"]).with(args).run()
}

fn attested(place: &Place, target: &str, kind: &str) -> Ended {
    image(place, &["verify-attestation", "--key", "../k.pub", "--type", kind, target])
}

#[test]
fn a_run_attaches_its_evidence_to_what_it_pushed() {
    for lists in [true, false] {
        let place = Place::new();
        let registry = Registry::with(Door::Open, lists, None);
        let digest = registry.put_image("team/app", "v1", "a");
        registry.put_image("team/app", "other", "b");
        let name = format!("{}/team/app:v1", registry.host());
        let built = build(
            &place,
            &format!("{name},{name}-b"),
            &digest,
            &["-a", "slsa", "--attach", "--report", "../r.json"],
            BUILD,
        );
        built.code(0).stdout("").stderr_has(&["attached: the collection", "attached: slsa"]);
        let report: Value =
            serde_json::from_slice(&std::fs::read(place.beside("r.json")).expect("a report")).expect("JSON");
        assert_eq!(report["result"]["attached"].as_array().map(Vec::len), Some(2), "{report}");
        for kind in [COLLECTION, PROVENANCE] {
            assert_eq!(attested(&place, &name, kind).code(0).stdout_text().lines().count(), 1, "{kind}");
        }
        // It is no signature, for it is a statement of another type.
        image(&place, &["verify", "--key", "../k.pub", &name]).code(10).stdout("");
        let tree = image(&place, &["tree", &name]).code(0).stdout_text();
        assert!(tree.contains(COLLECTION) && tree.contains(PROVENANCE), "{tree}");
        image(&place, &["tree", &format!("{}/team/app:other", registry.host())]).code(0).stdout_text();
        // It goes along, and the evidence is what was written.
        let to = format!("{}/prod/app:v1", registry.host());
        image(&place, &["copy", &name, &to]).code(0);
        let said = attested(&place, &to, COLLECTION).code(0).stdout_text();
        let payload = serde_json::from_str::<Value>(&said).expect("an envelope")["payload"].clone();
        let written: Value =
            serde_json::from_slice(&std::fs::read(place.beside("a.json")).expect("read")).expect("JSON");
        assert_eq!(payload, written["payload"]);
    }
}

/// Verifiers of bundles take 1,024 subjects: what has more is attached whole, and the run signs the same of the image alone.
#[test]
fn a_collection_of_many_subjects_is_also_attached_about_the_image_alone() {
    let place = Place::new();
    let registry = Registry::start();
    let digest = registry.put_image("team/app", "v1", "a");
    let name = format!("{}/team/app:v1", registry.host());
    let command = format!("{BUILD}; for i in $(seq 1100); do echo $i > f$i; done");
    let built = build(&place, &name, &digest, &["--attach"], &command).code(0);
    built.stderr_has(&["kept as envelope", "the collection, about the image alone", "kept as bundle"]);
    // Our own check of attestations takes no more subjects either.
    let said = attested(&place, &name, COLLECTION).code(0).stdout_text();
    assert_eq!(said.lines().count(), 1);
    let (whole, alone) = (place.statement(), payload(&said));
    let subjects = |one: &Value| one["subject"].as_array().map(Vec::len);
    assert!(subjects(&whole) > Some(1024) && subjects(&alone) == Some(1), "{:?}", (subjects(&whole), subjects(&alone)));
    assert_eq!(alone["subject"][0]["digest"], json!({"sha256": digest.hex()}));
    assert!(alone["predicate"] == whole["predicate"] && alone["predicateType"] == whole["predicateType"]);
    // Whoever cannot sign attaches the whole, and says what is missing.
    let to = format!("{}/prod/app:v1", registry.host());
    image(&place, &["copy", "--no-evidence", &name, &to]).code(0);
    image(&place, &["attach", "--key", "../k.pub", &to, "../a.json"]).code(0).stderr_has(&[
        "kept as envelope",
        "subjects, so verifiers that read bundles alone do not see it",
        "image attest",
    ]);
    let tree = image(&place, &["tree", &to]).code(0).stdout_text();
    assert!(tree.contains("application/vnd.dsse.envelope.v1+json") && !tree.contains("bundle"), "{tree}");
    // Nothing of a run that failed, in either form.
    let name = format!("{}/team/app:v2", registry.host());
    let digest = registry.put_image("team/app", "v2", "b");
    build(&place, &name, &digest, &["--attach"], &format!("{command}; exit 3")).code(3);
    assert_eq!(registry.manifest_about("team/app", &digest), None);
}

/// The statement in an envelope.
fn payload(envelope: &str) -> Value {
    let envelope: Value = serde_json::from_str(envelope).expect("an envelope");
    let text = envelope["payload"].as_str().expect("a payload");
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).expect("base64");
    serde_json::from_slice(&bytes).expect("a statement")
}

#[test]
fn what_cannot_be_attached_fails_the_run_and_keeps_the_evidence() {
    let place = Place::new();
    let registry = Registry::start();
    let digest = registry.put_image("team/app", "v1", "a");
    let name = format!("{}/team/app:v1", registry.host());
    let is_kept = || {
        let statement = place.statement();
        std::fs::remove_file(place.beside("a.json")).expect("it was written");
        assert_eq!(statement["predicateType"], COLLECTION);
        statement["predicate"]["name"].clone()
    };
    // A failed command: nothing is attached, and its code stays.
    registry.forget();
    build(&place, &name, &digest, &["--attach"], &format!("{BUILD}; exit 3"))
        .code(3)
        .stderr_has(&["attached to no image"]);
    assert_eq!(is_kept(), "build#failed");
    build(&place, &name, &digest, &["--attach", "--ignore-command-exit-code"], &format!("{BUILD}; exit 3"))
        .code(0)
        .stderr_has(&["attached to no image"]);
    is_kept();
    assert!(registry.asked().is_empty(), "nobody was asked");
    // An image that was not pushed, one that the evidence does not name, one without a name, none.
    let absent = build(&place, &name, &Digest::of(b"nothing"), &["--attach"], BUILD);
    absent.code(125).stderr_has(&["is not there", "affiant image attach IMAGE sha256:"]);
    is_kept();
    let attach = format!("--attach={name}");
    build(&place, &name, &Digest::of(b"nothing"), &[&attach], BUILD).code(125).stderr_has(&[
        "nothing was attached",
        "none of its subjects",
        &format!("affiant image attach {name} sha256:"),
    ]);
    is_kept();
    build(&place, "", &digest, &["--attach"], BUILD).code(125).stderr_has(&["names no image"]);
    is_kept();
    build(&place, "", &digest, &["--attach=oci:"], BUILD).code(125).stderr_has(&["names no image"]);
    build(&place, &name, &digest, &["--attach", "--offline"], BUILD).code(125).stderr_has(&["--offline"]);
    build(&place, &name, &digest, &["--attach=docker-archive:x.tar"], BUILD).code(125).stderr_has(&["docker archive"]);
    std::fs::create_dir(place.beside("broken")).expect("made");
    std::fs::write(place.beside("broken/config.json"), "{").expect("written");
    let run = place.capture(["-s", "build", "-a", "docker", "--attach", "--", "sh", "-c", BUILD]);
    run.env("DOCKER_CONFIG", place.beside("broken")).run().code(125).stderr_has(&["broken/config.json"]);
    assert!(!place.beside("a.json").exists(), "refused before the command");
    assert_eq!(registry.manifest_about("team/app", &digest), None);
    build(&place, "", &digest, &[&attach], BUILD).code(0);
    assert!(registry.manifest_about("team/app", &digest).is_some());
    // A registry that refuses; what it was told is nowhere in the evidence.
    let refusing = |asked: &Asked| (asked.method != "GET" && asked.method != "HEAD").then(|| Said::new(403));
    let registry = Registry::with(Door::Password, true, Some(Box::new(refusing)));
    let digest = registry.put_image("team/app", "v1", "a");
    let name = format!("{}/team/app:v1", registry.host());
    std::fs::create_dir(place.beside("home").join(".docker")).expect("made");
    let proof = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{USER}:{PASSWORD}"));
    let config = json!({"auths": {registry.host(): {"auth": proof}}});
    std::fs::write(place.beside("home/.docker/config.json"), config.to_string()).expect("written");
    let ended = build(&place, &name, &digest, &["--attach"], BUILD).code(125).stderr_has(&["403"]);
    let evidence = std::fs::read_to_string(place.beside("a.json")).expect("kept");
    for text in [evidence, place.statement().to_string(), ended.stderr_text()] {
        assert!(!text.contains(PASSWORD) && !text.contains(&proof), "{text}");
    }
}

/// What a run says that could not attach its evidence does it later, from wherever the evidence is.
#[test]
fn the_hint_after_a_failed_attachment_attaches_later() {
    let registry = Registry::start();
    let digest = registry.put_image("team/app", "v1", "a");
    let (name, absent) = (format!("{}/team/app:v1", registry.host()), format!("{}/team/app:none", registry.host()));
    for (more, home, begins) in [
        (&[][..], true, format!("it is archived; later: affiant image attach {absent} sha256:")),
        (&["--archive", "dir:../kept"], true, format!("it is archived; later: affiant image attach {absent} sha256:")),
        (&["-a", "slsa"], false, format!("it is written; later: affiant image attach {absent} ")),
    ] {
        let place = Place::new();
        std::fs::write(place.beside("m.json"), metadata(&name, &digest)).expect("written");
        let attach = format!("--attach={absent}");
        let mut call = place.capture(["-s", "build", "-a", "docker", &attach]).with(more);
        call = if home { call } else { call.env_remove("HOME") };
        let ended = call.with(["--", "sh", "-c", BUILD]).run().code(125).stderr_has(&[&begins]);
        let said = ended.stderr_text();
        let hint = said.split("later: ").nth(1).and_then(|rest| rest.lines().next()).expect("a hint");
        assert_eq!(hint.contains(" --archive "), more.contains(&"--archive"), "{hint}");
        let folder = place.work().parent().expect("a folder").display().to_string();
        let words: Vec<String> =
            hint.split(' ').skip(1).map(|word| word.replace(&absent, &name).replace("[DIR]", &folder)).collect();
        assert!(registry.manifest_about("team/app", &digest).is_none());
        place.affiant(&words).run().code(0).stderr_has(&["attached: "]);
        attested(&place, &name, COLLECTION).code(0);
        if !home {
            attested(&place, &name, PROVENANCE).code(0);
        }
        while let Some(kept) = registry.manifest_about("team/app", &digest) {
            registry.remove("team/app", &kept);
        }
    }
}

#[test]
fn of_several_images_none_gets_evidence_where_one_may_not() {
    let place = Place::new();
    let registry = Registry::start();
    let digest = registry.put_image("team/app", "v1", "a");
    let is_bare = || registry.manifest_about("team/app", &digest).is_none();
    // The last of them was not pushed.
    let names = format!("{0}/team/app:v1,{0}/team/zzz:v1", registry.host());
    build(&place, &names, &digest, &["--attach"], BUILD).code(125).stderr_has(&["team/zzz@sha256:", "is not there"]);
    assert!(is_bare());
    // Nor where nobody may read it.
    registry.put_image("team/zzz", "v1", "a");
    let refusing = |asked: &Asked| asked.path().contains("/team/zzz/").then(|| Said::new(403));
    let strict = Registry::with(Door::Open, true, Some(Box::new(refusing)));
    strict.put_image("team/app", "v1", "a");
    let others = format!("{0}/team/app:v1,{0}/team/zzz:v1", strict.host());
    build(&place, &others, &digest, &["--attach"], BUILD).code(125).stderr_has(&["403"]);
    assert!(strict.manifest_about("team/app", &digest).is_none());
    build(&place, &names, &digest, &["--attach"], BUILD).code(0);
    assert!(!is_bare() && registry.manifest_about("team/zzz", &digest).is_some());
}

#[test]
fn a_run_keeps_its_evidence_in_the_repository_for_evidence() {
    let place = Place::new();
    let registry = Registry::start();
    let digest = registry.put_image("team/app", "v1", "a");
    let (name, keeper) = (format!("{}/team/app:v1", registry.host()), format!("{}/team/evidence", registry.host()));
    std::fs::write(place.beside("m.json"), metadata(&name, &digest)).expect("written");
    let run = |keeper: &str| {
        let call = place.capture([
            "-s",
            "build",
            "-a",
            "docker",
            "--attach",
            "--",
            "sh",
            "-c",
            "touch ran; cp ../m.json m.json",
        ]);
        call.env("COSIGN_REPOSITORY", keeper).run()
    };
    run("oci-archive:x.tar").code(125).stderr_has(&["evidence is kept in a repository", "COSIGN_REPOSITORY"]);
    assert!(!place.work().join("ran").exists(), "refused before the command");
    run(&keeper).code(0).stderr_has(&[&format!("kept as bundle {keeper}@sha256:")]);
    assert!(registry.manifest_about("team/app", &digest).is_none());
    assert!(registry.manifest_about("team/evidence", &digest).is_some());
    attested(&place, &name, COLLECTION).code(10);
    let args =
        ["verify-attestation", "--key", "../k.pub", "--type", COLLECTION, "--evidence-repository", &keeper, &name];
    image(&place, &args).code(0);
}

#[test]
fn rule_16_nothing_of_a_failed_run_and_nothing_unrelated_is_attached() {
    let place = Place::new();
    let registry = Registry::start();
    let digest = registry.put_image("team/app", "v1", "a");
    let name = format!("{}/team/app:v1", registry.host());
    let attach = |files: &[&str]| image(&place, &[&["attach", "--key", "../k.pub", &name][..], files].concat());
    build(&place, &name, &digest, &["-a", "slsa"], &format!("{BUILD}; exit 1")).code(1);
    attach(&["../a.json"]).code(1).stdout("").stderr_has(&["of a run that failed", "build#failed"]);
    build(&place, &name, &digest, &["-a", "slsa"], BUILD).code(0);
    attach(&["../a.json-slsa.json"]).code(1).stderr_has(&["the collection of its run is not named"]);
    // The provenance of one run beside the collection of another.
    std::fs::rename(place.beside("a.json-slsa.json"), place.beside("other-slsa.json")).expect("moved");
    build(&place, &name, &digest, &["-a", "slsa"], &format!("{BUILD}; true")).code(0);
    attach(&["../a.json", "../other-slsa.json"]).code(1).stderr_has(&["the collection of its run is not named"]);
    // Another image, the key of another, and no evidence at all.
    let other = format!("{}/team/app:v2", registry.host());
    registry.put_image("team/app", "v2", "b");
    image(&place, &["attach", &other, "../a.json"]).code(1).stderr_has(&["none of its subjects"]);
    place.affiant(["key", "generate", "--no-password", "-o", "../d.key"]).run().code(0);
    image(&place, &["attach", "--key", "../d.pub", &name, "../a.json"]).code(1).stderr_has(&["none of the keys"]);
    place.write("x.json", "{}");
    attach(&["x.json"]).code(4).stdout("");
    assert_eq!(registry.manifest_about("team/app", &digest), None, "all or nothing");
    // What was attested without a command says so.
    place.write("m2.json", metadata(&name, &digest));
    place
        .affiant(["attest", "-k", "../k.pem", "-o", "../b.json", "-s", "scan", "-a", "docker", "m2.json"])
        .run()
        .code(0);
    attach(&["../b.json"]).code(0);
}

#[test]
fn evidence_is_attached_from_files_bundles_and_the_archive_once() {
    let place = Place::new();
    let registry = Registry::old();
    let digest = registry.put_image("team/app", "v1", "a");
    let name = format!("{}/team/app@{digest}", registry.host());
    build(&place, &name, &digest, &["-a", "slsa", "--archive", "dir:../archive"], BUILD).code(0);
    let said = image(&place, &["attach", &name, "../a.json"]).code(0).stderr_has(&["no signature was checked"]);
    let kept: Digest = said.stdout_text().trim().rsplit_once('@').expect("a name").1.parse().expect("a digest");
    let manifest = registry.manifest("team/app", kept.as_str()).expect("it is there");
    assert_eq!(manifest["artifactType"], "application/vnd.dev.sigstore.bundle.v0.3+json");
    assert_eq!(manifest["annotations"]["dev.sigstore.bundle.predicateType"], COLLECTION);
    assert_eq!(manifest["subject"]["digest"], digest.as_str());
    // A bundle of both: one is there, the other is new. From the archive: both are there.
    let bundle = ["bundle", "create", "--outfile", "../e.tgz", "--attestations"];
    place.affiant(bundle).with(["../a.json", "--attestations", "../a.json-slsa.json"]).run().code(0);
    let said =
        image(&place, &["attach", "--key", "../k.pub", &name, "../e.tgz"]).code(0).stderr_has(&["there already"]);
    assert_eq!(said.stdout_text().lines().count(), 1);
    let found = place.affiant(["archive", "list", "--archive", "dir:../archive"]).run().code(0).stdout_text();
    let is_digest = |word: &&str| word.len() > 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = found.split(|c: char| c.is_whitespace() || c == ':').filter(is_digest);
    let digests: Vec<String> = words.map(|word| format!("sha256:{word}")).collect();
    assert_eq!(digests.len(), 2, "{found}");
    let digests: Vec<&str> = digests.iter().map(String::as_str).collect();
    let all = [&["attach", "--archive", "dir:../archive", &name][..], &digests].concat();
    image(&place, &all).code(0).stdout("");
    assert_eq!(attested(&place, &name, COLLECTION).code(0).stdout_text().lines().count(), 1);
    // Under the tag as well.
    let said = image(&place, &["attach", "--format", "att", &name, "../a.json"]).code(0);
    assert_eq!(said.stdout_text(), format!("{}/team/app:{}\n", registry.host(), digest.tag(".att")));
    let layers = registry.manifest("team/app", &digest.tag(".att")).expect("there")["layers"].clone();
    assert_eq!(layers[0]["annotations"]["predicateType"], COLLECTION);
}

/// cosign reads no RSA-PSS, which is what the readers of collections take: then the envelope itself is kept.
#[test]
fn what_is_no_bundle_is_kept_as_it_is() {
    let place = Place::new();
    let registry = Registry::start();
    let digest = registry.put_image("team/app", "v1", "a");
    let name = format!("{}/team/app:v1", registry.host());
    place.affiant(["key", "generate", "--kind", "rsa2048", "--no-password", "-o", "../r.pem"]).run().code(0);
    let built = build(&place, &name, &digest, &["-k", "../r.pem", "--attach"], BUILD).code(0);
    built.stderr_has(&["kept as bundle", "kept as envelope", "RSA-PSS"]);
    let tree = image(&place, &["tree", &name]).code(0).stdout_text();
    assert!(tree.contains("application/vnd.dsse.envelope.v1+json") && tree.matches(COLLECTION).count() == 2, "{tree}");
    // The key that can be read is found in both, the statement is shown once.
    assert_eq!(attested(&place, &name, COLLECTION).code(0).stdout_text().lines().count(), 1);
}

#[test]
fn of_an_index_the_named_manifest_gets_it() {
    let place = Place::new();
    let registry = Registry::start();
    let (one, two) = (registry.put_image("app", "one", "a"), registry.put_image("app", "two", "b"));
    let size = |digest: &Digest| registry.manifest("app", digest.as_str()).expect("there").to_string().len();
    let entry = |digest: &Digest| json!({"mediaType": MANIFEST, "digest": digest, "size": size(digest)});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&one), entry(&two)]});
    let index = registry.put("app", Some("v1"), INDEX, index.to_string().as_bytes());
    let name = format!("{}/app:v1", registry.host());
    build(&place, &name, &two, &[], BUILD).code(0);
    image(&place, &["attach", &name, "../a.json"]).code(0).stderr_has(&[two.as_str()]);
    assert!(registry.manifest_about("app", &two).is_some());
    assert!(registry.manifest_about("app", &index).is_none());
    build(&place, &name, &index, &[], BUILD).code(0);
    image(&place, &["attach", &name, "../a.json"]).code(0);
    assert!(registry.manifest_about("app", &index).is_some());
    // By the image's id, which the manifest's config proves.
    let config = registry.manifest("app", one.as_str()).expect("there")["config"]["digest"].clone();
    let id = json!({"containerimage.digest": Digest::of(b"elsewhere"), "containerimage.config.digest": config,
        "containerimage.descriptor": {"mediaType": MANIFEST, "digest": Digest::of(b"elsewhere"), "size": 1}});
    std::fs::write(place.beside("m.json"), id.to_string()).expect("written");
    place.capture(["-a", "docker", "--", "sh", "-c", BUILD]).run().code(0);
    image(&place, &["attach", &name, "../a.json"]).code(0).stderr_has(&[one.as_str()]);
    assert!(registry.manifest_about("app", &one).is_some());
    // In a layout as well.
    image(&place, &["copy", &name, "oci:l:v1", "--no-evidence"]).code(0);
    image(&place, &["attach", "oci:l", "../a.json"]).code(0).stderr_has(&[one.as_str()]);
    let tree = image(&place, &["tree", &format!("oci:l@{one}")]).code(0).stdout_text();
    assert!(tree.contains(COLLECTION), "{tree}");
}

/// An index as `BuildKit` pushes it: an image, and beside it a statement about `subject`; its digest.
fn index_with(registry: &Registry, about: &Digest, refers_to: &str, subjects: &Value, said: &str) -> Digest {
    let statement = json!({"_type": "https://in-toto.io/Statement/v0.1", "predicateType": PROVENANCE,
        "subject": subjects, "predicate": {"buildType": "x", "n": 1.0}})
    .to_string();
    let (layer, config) = (registry.put_blob("app", statement.as_bytes()), registry.put_blob("app", b"{}"));
    let unsigned = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.in-toto+json", "digest": layer, "size": statement.len(),
            "annotations": {"in-toto.io/predicate-type": said}}]});
    let unsigned = registry.put("app", None, MANIFEST, unsigned.to_string().as_bytes());
    let size = |digest: &Digest| registry.manifest("app", digest.as_str()).expect("there").to_string().len();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": about, "size": size(about), "platform": {"os": "linux", "architecture": "amd64"}},
        {"mediaType": MANIFEST, "digest": unsigned, "size": size(&unsigned),
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": refers_to}}]});
    registry.put("app", Some("v1"), INDEX, index.to_string().as_bytes())
}

/// Whatever is said about one manifest is said with one certificate, also where each thing that is signed would have another;
/// another manifest has its own.
#[test]
fn one_signer_says_all_about_one_manifest() {
    use crate::sigstore_services::{Sigstore, Twist, token};
    const MANY: usize = 6;
    let (place, registry) = (Place::new(), Registry::start());
    let sigstore = Sigstore::twisted(Twist::AlmostOver);
    let images = [registry.put_image("app", "one", "a"), registry.put_image("app", "two", "b")];
    let size = |digest: &Digest| registry.manifest("app", digest.as_str()).expect("there").to_string().len();
    let mut entries: Vec<Value> = Vec::new();
    for (about, architecture) in images.iter().zip(["amd64", "arm64"]) {
        let layers = (0..MANY).map(|number| {
            let statement = json!({"_type": "https://in-toto.io/Statement/v0.1", "predicateType": PROVENANCE,
                "subject": [{"name": "app", "digest": {"sha256": about.hex()}}], "predicate": {"n": number}})
            .to_string();
            let layer = registry.put_blob("app", statement.as_bytes());
            json!({"mediaType": "application/vnd.in-toto+json", "digest": layer, "size": statement.len(),
                "annotations": {"in-toto.io/predicate-type": PROVENANCE}})
        });
        let unsigned = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers.collect::<Vec<_>>(),
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
                "digest": registry.put_blob("app", b"{}")}});
        let unsigned = registry.put("app", None, MANIFEST, unsigned.to_string().as_bytes());
        entries.push(json!({"mediaType": MANIFEST, "digest": about, "size": size(about),
            "platform": {"os": "linux", "architecture": architecture}}));
        entries.push(json!({"mediaType": MANIFEST, "digest": unsigned, "size": size(&unsigned),
            "platform": {"os": "unknown", "architecture": "unknown"}, "annotations": {
                "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about}}));
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    let index = registry.put("app", Some("v1"), INDEX, index.to_string().as_bytes());
    let name = format!("{}/app:v1", registry.host());
    build(&place, &name, &index, &[], BUILD).code(0);
    let services = ["--fulcio-url", &sigstore.fulcio(), "--timestamp-servers", &sigstore.tsa(), "--format", "bundle"];
    place
        .affiant(["image", "import-buildkit", "--attested-by", "../a.json", "--attested-by-key", "../k.pub", &name])
        .with(services)
        .env("SIGSTORE_ID_TOKEN", token(&json!({})))
        .run()
        .code(0);
    let signer = |digest: &String| {
        let manifest = registry.manifest("app", digest).expect("it is there");
        let bytes = registry.blob("app", manifest["layers"][0]["digest"].as_str().expect("a digest"));
        let bundle: Value = serde_json::from_slice(&bytes).expect("JSON");
        bundle["verificationMaterial"]["certificate"]["rawBytes"].as_str().expect("a certificate").to_owned()
    };
    let signers = images.each_ref().map(|about| {
        let bundles = registry.all_about("app", about);
        assert_eq!(bundles.len(), MANY);
        let mut signers: Vec<String> = bundles.iter().map(signer).collect();
        signers.dedup();
        assert_eq!(signers.len(), 1, "one for {about}");
        signers.remove(0)
    });
    assert_ne!(signers[0], signers[1], "each was almost over");
    assert_eq!(sigstore.count("signingCert"), 2);
}

/// A log that is down while a build's attestations are signed: what is under the tag and the bundle get its entry later.
#[test]
fn imported_attestations_wait_for_their_log() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let (place, registry, down) = (Place::new(), Registry::start(), Arc::new(AtomicBool::new(true)));
    let is_down = Arc::clone(&down);
    let lie = move |_: &crate::registry::Asked| is_down.load(Ordering::SeqCst).then(|| crate::registry::Said::new(503));
    let sigstore = crate::sigstore_services::Sigstore::with(crate::sigstore_services::Twist::None, Some(Box::new(lie)));
    let about = registry.put_image("app", "one", "a");
    let name = format!("{}/app:v1", registry.host());
    let subjects = json!([{"name": "pkg:docker/app@v1", "digest": {"sha256": about.hex()}}]);
    let index = index_with(&registry, &about, about.as_str(), &subjects, PROVENANCE);
    build(&place, &name, &index, &[], BUILD).code(0);
    place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "../p.key"]).run().code(0);
    let rekor = sigstore.rekor(1);
    let by = ["import-buildkit", "--key", "../p.key", "--attested-by", "../a.json", "--attested-by-key", "../k.pub"];
    let log = ["--rekor-url", &rekor, "--log", "rekor1", "--on-log-failure", "queue", "--spool", "../spool"];
    image(&place, &[&by[..], &log, &["--retry-for", "500ms", &name]].concat()).code(0).stderr_has(&["it waits in"]);
    down.store(false, Ordering::SeqCst);
    let said = place.affiant(["resume", "--spool", "../spool"]).run().code(0).stdout("").stderr_text();
    assert_eq!(said.matches(" is in ").count(), 2, "{said}");
    let under_tag = registry.manifest("app", &about.tag(".att")).expect("it is there");
    assert!(under_tag["layers"][0]["annotations"]["dev.sigstore.cosign/bundle"].is_string(), "{under_tag}");
    let [bundle] = &registry.all_about("app", &about)[..] else { panic!("one bundle") };
    let bundle = registry.manifest("app", bundle).expect("it is there");
    let bytes = registry.blob("app", bundle["layers"][0]["digest"].as_str().expect("a digest"));
    let bundle: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(bundle["verificationMaterial"]["tlogEntries"].as_array().map(Vec::len), Some(1));
}

#[test]
fn rule_16_only_what_the_run_observed_is_signed_for_a_build() {
    let place = Place::new();
    let registry = Registry::start();
    let about = registry.put_image("app", "one", "a");
    let other = registry.put_image("app", "two", "b");
    let name = format!("{}/app:v1", registry.host());
    let subject = |digest: &Digest| json!({"name": "pkg:docker/app@v1", "digest": {"sha256": digest.hex()}});
    let good = json!([subject(&about)]);
    let import = |more: &[&str]| image(&place, &[&["import-buildkit", "--key", "../k.pem", &name][..], more].concat());
    let by = ["--attested-by", "../a.json"];
    // A run of another image, of the platform alone, a failed one, another's key.
    let index = index_with(&registry, &about, about.as_str(), &good, PROVENANCE);
    for observed in [&other, &about] {
        build(&place, &name, observed, &[], BUILD).code(0);
        import(&by).code(1).stderr_has(&["has made no such index"]);
    }
    build(&place, &name, &index, &[], &format!("{BUILD}; exit 1")).code(1);
    import(&by).code(1).stderr_has(&["of a run that failed"]);
    build(&place, &name, &index, &["-a", "slsa"], BUILD).code(0);
    import(&["--attested-by", "../a.json-slsa.json"]).code(1).stderr_has(&["the collection of its run"]);
    place.affiant(["key", "generate", "--no-password", "-o", "../d.key"]).run().code(0);
    import(&[&by[..], &["--attested-by-key", "../d.pub"]].concat()).code(1).stderr_has(&["none of the keys"]);
    import(&[]).code(2);
    assert_eq!(registry.manifest_about("app", &about), None);
    // The one that it pushed.
    let before = registry.manifest("app", "v1");
    import(&by).code(0).stderr_has(&["kept as bundle", ".att"]);
    assert_eq!(registry.manifest("app", "v1"), before, "the index is as it was");
    let platform = format!("{}/app@{about}", registry.host());
    let said = attested(&place, &platform, PROVENANCE).code(0).stdout_text();
    let envelope: Value = serde_json::from_str(said.trim()).expect("an envelope");
    let payload =
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, envelope["payload"].as_str().expect("text"));
    assert!(String::from_utf8(payload.expect("base64")).expect("text").contains(r#""n":1.0"#), "byte for byte");
    image(&place, &["verify", "--key", "../k.pub", &platform]).code(10);
    import(&by).code(0).stderr_has(&["already under the tag", "already in a bundle"]);
    // What is wrong with one signs none of them.
    for (refers_to, subjects, said, why) in [
        (other.as_str(), &good, PROVENANCE, "no image of the index"),
        ("", &good, PROVENANCE, "no image of the index"),
        (about.as_str(), &json!([subject(&other)]), PROVENANCE, "which is not"),
        (about.as_str(), &json!([subject(&about), subject(&other)]), PROVENANCE, "which is not"),
        (about.as_str(), &json!([{"name": "x", "digest": {"sha1": "00"}}]), PROVENANCE, "which is not"),
        (about.as_str(), &json!([]), PROVENANCE, "no subject"),
        (about.as_str(), &good, "https://slsa.dev/provenance/v0.2", "it is called"),
    ] {
        let registry = Registry::start();
        assert_eq!(registry.put_image("app", "one", "a"), about);
        let index = index_with(&registry, &about, refers_to, subjects, said);
        build(&place, "x", &index, &[], BUILD).code(0);
        let name = format!("{}/app:v1", registry.host());
        let ended = image(&place, &["import-buildkit", "--key", "../k.pem", &name, "--attested-by", "../a.json"]);
        ended.code(1).stdout("").stderr_has(&["nothing was signed", why]);
        assert_eq!(registry.manifest_about("app", &about), None);
    }
    // An image alone has none.
    build(&place, "x", &other, &[], BUILD).code(0);
    let alone = format!("{}/app:two", registry.host());
    image(&place, &["import-buildkit", "--key", "../k.pem", &alone, "--attested-by", "../a.json"])
        .code(1)
        .stderr_has(&["is a single image"]);
}

/// The kept sample (`fixtures/samples/attached`): a layout with an image, and evidence attached in every form;
/// `AFFIANT_SAMPLES=1` makes it anew.
#[test]
fn the_kept_sample_is_read() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let folder = root.join("samples/attached");
    let layout = format!("oci:{}", folder.join("layout").display());
    let place = Place::without_key();
    if std::env::var_os("AFFIANT_SAMPLES").is_some() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("made");
        let registry = Registry::start();
        let digest = registry.put_image("demo", "1", "sample");
        image(&place, &["copy", &format!("{}/demo:1", registry.host()), &format!("{layout}:1")]).code(0);
        std::fs::write(place.beside("m.json"), metadata("localhost:5000/demo:1", &digest)).expect("written");
        let keys = ["leaf.pem", "openssl/rsa2048.pem"].map(|name| root.join("keys").join(name).display().to_string());
        let attach = format!("--attach={layout}");
        let run =
            ["run", "-k", &keys[0], "-k", &keys[1], "-s", "build", "-a", "docker,slsa", "-o", "../a.json", &attach];
        place.affiant(run).with(["--", "sh", "-c", BUILD]).env("AFFIANT_ENV_CAPTURE_ALLOWLIST", "LANG").run().code(0);
        image(&place, &["attach", "--format", "att", &layout, "../a.json"]).code(0);
        image(&place, &["sign", "--key", &keys[0], "--identity", "localhost:5000/demo", &layout]).code(0);
        let lines = [
            "affiant run -k leaf.pem -k rsa2048.pem -s build -a docker,slsa --attach=oci:layout -- sh -c 'cp ../m.json m.json'",
            "affiant image attach --format att oci:layout build.json",
            "affiant image sign --key leaf.pem --identity localhost:5000/demo oci:layout",
        ];
        std::fs::write(folder.join("command"), lines.join("\n") + "\n").expect("written");
        std::fs::copy(place.beside("a.json"), folder.join("evidence.json")).expect("copied");
        for (name, key) in [("leaf.pub", &keys[0]), ("rsa2048.pub", &keys[1])] {
            let public = image(&place, &["public-key", "--key", key]).code(0).stdout_text();
            std::fs::write(folder.join(name), public).expect("written");
        }
    }
    let public = |name: &str| folder.join(name).display().to_string();
    let leaf = public("leaf.pub");
    for kind in [COLLECTION, PROVENANCE] {
        let check = ["verify-attestation", "--type", kind, "--key"];
        assert_eq!(image(&place, &[&check[..], &[&leaf, &layout]].concat()).code(0).stdout_text().lines().count(), 1);
        // RSA-PSS is found, and is no signature that images are signed with.
        image(&place, &[&check[..], &[&public("rsa2048.pub"), &layout]].concat()).code(12).stderr_has(&["PKCS#1"]);
    }
    image(&place, &["verify", "--key", &leaf, &layout]).code(0);
    let tree = image(&place, &["tree", &layout]).code(0).stdout_text();
    for (form, count) in
        [("bundle.v0.3", 3), ("application/vnd.dsse.envelope.v1+json", 2), (".att\n", 1), (".sig\n", 1)]
    {
        assert_eq!(tree.matches(form).count(), count, "{form}: {tree}");
    }
    // The envelope is the run's own, to the byte.
    let said =
        image(&place, &["download", "attestation", "--predicate-type", COLLECTION, &layout]).code(0).stdout_text();
    let evidence = std::fs::read_to_string(folder.join("evidence.json")).expect("kept");
    assert!(said.lines().any(|line| line == evidence.trim()), "{said}");
    image(&place, &["attach", "--key", &leaf, &layout.replace("oci:", "oci-archive:"), &public("evidence.json")])
        .code(4);
}
