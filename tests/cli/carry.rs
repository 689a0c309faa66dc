//! Images are carried between registries, layouts and archives, with all that is kept about them.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use affiant_core::image::Digest;
use serde_json::{Value, json};

use crate::harness::Place;
use crate::registry::{Asked, Door, PASSWORD, Registry, Said, USER};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// An artifact about something, or signatures under a tag.
fn artifact(registry: &Registry, tag: Option<&str>, subject: Option<&Digest>, layers: &[&str]) -> Digest {
    let config = registry.put_blob("team/app", b"{}");
    let layers: Vec<_> = layers
        .iter()
        .map(|text| {
            let digest = registry.put_blob("team/app", text.as_bytes());
            json!({"mediaType": SIMPLE, "digest": digest, "size": text.len(),
                "annotations": {"dev.cosignproject.cosign/signature": text}})
        })
        .collect();
    let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "a/b",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2}, "layers": layers});
    if let Some(subject) = subject {
        manifest["subject"] = json!({"mediaType": MANIFEST, "digest": subject, "size": 1});
    }
    registry.put("team/app", tag, MANIFEST, manifest.to_string().as_bytes())
}

/// An index of two images and `BuildKit`'s attestations, and what is kept about them.
struct Tree {
    index: Digest,
    children: [Digest; 2],
    referrer: Digest,
    about_referrer: Digest,
}

fn tree(registry: &Registry) -> Tree {
    tree_of(registry, ["one", "two"])
}

fn tree_of(registry: &Registry, seeds: [&str; 2]) -> Tree {
    let children = [registry.put_image("team/app", "one", seeds[0]), registry.put_image("team/app", "two", seeds[1])];
    let size = |digest: &Digest| registry.manifest("team/app", digest.as_str()).expect("there").to_string().len();
    let entry = |digest: &Digest, architecture: &str| {
        json!({"mediaType": MANIFEST, "digest": digest, "size": size(digest),
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = json!({"schemaVersion": 2, "mediaType": INDEX,
        "manifests": [entry(&children[0], "amd64"), entry(&children[1], "arm64")], "x-unknown": {"kept": true}});
    let index = registry.put("team/app", Some("v1"), INDEX, index.to_string().as_bytes());
    artifact(registry, Some(&index.tag(".sig")), None, &["signature one"]);
    artifact(registry, Some(&children[0].tag(".att")), None, &["attestation"]);
    let referrer = artifact(registry, None, Some(&index), &["bundle"]);
    let about_referrer = artifact(registry, None, Some(&referrer), &["about the bundle"]);
    let has_list = registry.lists_referrers();
    for (of, referrer) in [(&index, &referrer), (&referrer, &about_referrer)].into_iter().filter(|_| !has_list) {
        let list = json!({"schemaVersion": 2, "mediaType": INDEX,
            "manifests": [{"mediaType": MANIFEST, "digest": referrer, "size": 1}]});
        registry.put("team/app", Some(&of.tag("")), INDEX, list.to_string().as_bytes());
    }
    Tree { index, children, referrer, about_referrer }
}

fn copy<const N: usize>(place: &Place, from: &str, to: &str, more: [&str; N]) -> crate::harness::Ended {
    log_in(place, &[from, to]);
    place.affiant(["image", "copy", from, to].into_iter().chain(more)).run()
}

/// Writes the password for the registries of these images where docker keeps it.
fn log_in(place: &Place, images: &[&str]) {
    let of = |image: &&str| {
        let host = image.split_once('/').map_or(*image, |(host, _)| host).to_owned();
        (host, json!({ "username": USER, "password": PASSWORD }))
    };
    let auths: serde_json::Map<String, Value> = images.iter().map(of).collect();
    std::fs::create_dir_all(place.beside("home/.docker")).expect("makes a folder");
    std::fs::write(place.beside("home/.docker/config.json"), json!({ "auths": auths }).to_string()).expect("written");
}

/// Whether all of it is there, under this tag.
#[track_caller]
fn is_whole(registry: &Registry, repository: &str, tag: &str, tree: &Tree) {
    let index = registry.manifest(repository, tag).expect("the tag is there");
    assert_eq!(index["x-unknown"]["kept"], true, "the index is as it was");
    for digest in tree.children.iter().chain([&tree.index, &tree.referrer, &tree.about_referrer]) {
        assert!(registry.manifest(repository, digest.as_str()).is_some(), "{digest}");
    }
    let tags = registry.tags(repository);
    let mut wanted = vec![tree.index.tag(".sig"), tree.children[0].tag(".att"), tag.to_owned()];
    if !registry.lists_referrers() {
        wanted.extend([tree.index.tag(""), tree.referrer.tag("")]);
        let list = registry.manifest(repository, &tree.index.tag("")).expect("a list");
        assert_eq!(list["manifests"][0]["digest"], tree.referrer.as_str());
        assert_eq!(list["manifests"][0]["artifactType"], "a/b");
        assert_ne!(list["manifests"][0]["size"], 1, "the list was made here, and not taken over");
    }
    wanted.sort();
    assert_eq!(tags, wanted);
}

#[test]
fn everything_arrives_in_every_registry() {
    for (from_lists, to_lists, door) in [
        (true, true, Door::Open),
        (true, false, Door::Password),
        (false, true, Door::Token),
        (true, true, Door::Brief),
        (false, false, Door::Open),
    ] {
        let place = Place::without_key();
        let (source, destination) = (Registry::with(door, from_lists, None), Registry::with(door, to_lists, None));
        let tree = tree(&source);
        let (from, to) = (format!("{}/team/app:v1", source.host()), format!("{}/other/app:v2", destination.host()));
        let ended = copy(&place, &from, &to, []).code(0);
        assert_eq!(ended.stdout_text(), format!("{}/other/app@{}\n", destination.host(), tree.index));
        is_whole(&destination, "other/app", "v2", &tree);
        // The second time nothing is sent.
        destination.forget();
        copy(&place, &from, &to, []).code(0);
        let asked = destination.asked();
        assert!(asked.iter().all(|asked| asked.method != "PATCH"), "blobs are there");
        is_whole(&destination, "other/app", "v2", &tree);
    }
}

#[test]
fn the_tag_comes_last_and_not_without_evidence() {
    let place = Place::without_key();
    let (source, destination) = (Registry::start(), Registry::start());
    let tree = tree(&source);
    copy(&place, &format!("{}/team/app:v1", source.host()), &format!("{}/team/app:v1", destination.host()), []).code(0);
    let asked = destination.asked();
    let put = |what: &str| {
        let path = format!("/v2/team/app/manifests/{what}");
        asked.iter().position(|asked| asked.method == "PUT" && asked.path() == path).expect("it was put")
    };
    let last = put("v1");
    for before in [tree.referrer.as_str(), tree.children[0].as_str(), &tree.index.tag(".sig")] {
        assert!(put(before) < last, "{before}");
    }
    let blob = asked.iter().rposition(|asked| asked.method == "PATCH").expect("blobs were sent");
    assert!(blob < put(tree.children[0].as_str()));
}

/// What takes its time is not waited for twice: the last bytes of the image are let in when its signatures are there.
#[test]
fn evidence_of_a_long_image_goes_beside_its_layers() {
    let long = "one".repeat(3 << 20);
    let layer = Digest::of(format!("layer of {long}").as_bytes());
    let signed = Arc::new(AtomicBool::new(false));
    let is_signed = Arc::clone(&signed);
    let waits = move |asked: &Asked| {
        if asked.method == "PUT" && asked.path().contains(".sig") {
            is_signed.store(true, Ordering::Relaxed);
        } else if asked.method == "PUT" && asked.target.contains(layer.hex()) {
            let begun = Instant::now();
            while !is_signed.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if !is_signed.load(Ordering::Relaxed) {
                return Some(Said::new(500));
            }
        }
        None
    };
    let place = Place::without_key();
    let (source, destination) =
        (Registry::with(Door::Open, false, None), Registry::with(Door::Open, false, Some(Box::new(waits))));
    let tree = tree_of(&source, [&long, "two"]);
    let (from, to) = (format!("{}/team/app:v1", source.host()), format!("{}/team/app:v1", destination.host()));
    copy(&place, &from, &to, []).code(0);
    is_whole(&destination, "team/app", "v1", &tree);
    let asked = destination.asked();
    let named = |asked: &Asked| asked.method == "PUT" && asked.path().ends_with("/manifests/v1");
    let at = asked.iter().position(named).expect("the name was put");
    assert!(asked[at..].iter().skip(1).all(|asked| asked.method != "PUT"), "the name is the last");
}

/// An artifact and its signatures have the same config, and a registry takes no manifest without it.
#[test]
fn what_a_long_artifact_and_its_evidence_both_have_goes_first() {
    let place = Place::without_key();
    let (source, destination) = (Registry::start(), Registry::start());
    let long = "long".repeat(3 << 20);
    let (config, layer) = (source.put_blob("team/app", b"{}"), source.put_blob("team/app", long.as_bytes()));
    let root = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "a/b",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "a/b", "digest": layer, "size": long.len()}]});
    let root = source.put("team/app", Some("v1"), MANIFEST, root.to_string().as_bytes());
    artifact(&source, Some(&root.tag(".sig")), None, &["signature"]);
    let (from, to) = (format!("{}/team/app:v1", source.host()), format!("{}/team/app:v1", destination.host()));
    // The layer is the longest: with one at a time the config would come behind it.
    copy(&place, &from, &to, ["--at-once", "1"]).code(0);
    assert!(destination.manifest("team/app", &root.tag(".sig")).is_some());
    let asked = destination.asked();
    let sent = |digest: &Digest| {
        asked
            .iter()
            .position(|asked| asked.method == "PUT" && asked.target.contains(digest.hex()))
            .expect("it was sent")
    };
    assert!(sent(&config) < sent(&layer));
}

#[test]
fn what_is_interrupted_has_no_tag() {
    let refusing = |asked: &Asked| {
        (asked.method == "PUT" && asked.path().contains("/blobs/"))
            .then(|| Said::new(500))
            .filter(|_| asked.target.contains(Digest::of(b"layer of two").hex()))
    };
    let place = Place::without_key();
    let (source, destination) = (Registry::start(), Registry::with(Door::Open, true, Some(Box::new(refusing))));
    tree(&source);
    let to = format!("{}/team/app:v1", destination.host());
    copy(&place, &format!("{}/team/app:v1", source.host()), &to, []).code(4);
    assert!(destination.tags("team/app").is_empty(), "{:?}", destination.tags("team/app"));
}

#[test]
fn what_does_not_hash_is_not_published() {
    let place = Place::without_key();
    let source = Registry::start();
    tree(&source);
    source.spoil("team/app", &Digest::of(b"layer of two"));
    let from = format!("{}/team/app:v1", source.host());
    // One that takes whatever it is sent.
    let gullible =
        |asked: &Asked| (asked.method == "PUT" && asked.path().contains("/blobs/uploads/")).then(|| Said::new(201));
    for destination in [Registry::start(), Registry::with(Door::Open, true, Some(Box::new(gullible)))] {
        copy(&place, &from, &format!("{}/team/app:v1", destination.host()), []).code(4).stderr_has(&["came where"]);
        assert!(destination.tags("team/app").is_empty());
        let sent: Vec<_> = destination.asked().into_iter().filter(|asked| asked.method == "PUT").collect();
        assert!(!sent.iter().any(|asked| asked.target.contains(Digest::of(b"layer of two").hex())), "it was ended");
    }
    copy(&place, &from, "oci:layout:v1", []).code(4).stderr_has(&["came where"]);
    let blobs = place.work().join("layout/blobs/sha256");
    assert!(!blobs.join(Digest::of(b"layer of two").hex()).exists());
    let index: Value =
        serde_json::from_slice(&std::fs::read(place.work().join("layout/index.json")).expect("read")).expect("JSON");
    assert_eq!(index["manifests"], json!([]));
    copy(&place, &from, "oci-archive:a.tar:v1", []).code(4).stderr_has(&["to oci-archive:a.tar: not carried"]);
    let left: Vec<_> =
        std::fs::read_dir(place.work()).expect("a folder").flatten().map(|one| one.file_name()).collect();
    assert_eq!(left, ["layout"], "nothing half is left");
}

#[test]
fn blobs_of_the_same_registry_are_taken_over() {
    for door in [Door::Open, Door::Token] {
        let place = Place::without_key();
        let registry = Registry::with(door, true, None);
        let tree = tree(&registry);
        let (from, to) = (format!("{}/team/app:v1", registry.host()), format!("{}/prod/app:v1", registry.host()));
        copy(&place, &from, &to, []).code(0).stderr_has(&["0 blobs sent"]);
        is_whole(&registry, "prod/app", "v1", &tree);
    }
}

#[test]
fn signatures_that_are_there_stay() {
    let place = Place::without_key();
    let (source, destination) = (Registry::start(), Registry::start());
    let tree = tree(&source);
    let tag = tree.index.tag(".sig");
    artifact(&destination, Some(&tag), None, &["signature of the destination"]);
    let (from, to) = (format!("{}/team/app:v1", source.host()), format!("{}/team/app:v1", destination.host()));
    for _ in 0..2 {
        copy(&place, &from, &to, []).code(0);
        let merged = destination.manifest("team/app", &tag).expect("there");
        let layers: Vec<_> = merged["layers"]
            .as_array()
            .expect("layers")
            .iter()
            .map(|layer| layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().expect("one"))
            .collect();
        assert_eq!(layers, ["signature of the destination", "signature one"]);
    }
}

#[test]
fn through_folders_and_archives_and_back() {
    let place = Place::without_key();
    let (source, destination) = (Registry::old(), Registry::start());
    let tree = tree(&source);
    let from = format!("{}/team/app:v1", source.host());
    let ended = copy(&place, &from, "oci:layout", []).code(0);
    assert_eq!(ended.stdout_text(), format!("oci:layout@{}\n", tree.index));
    let index = std::fs::read_to_string(place.work().join("layout/index.json")).expect("read");
    assert!(index.contains("\"v1\""), "it keeps its name: {index}");
    copy(&place, ended.stdout_text().trim_end(), "oci-archive:a.tar:v1", []).code(0);
    copy(&place, "oci-archive:a.tar", "oci-archive:a.tar", []).code(4).stderr_has(&["there already"]);
    copy(&place, "oci-archive:a.tar:v1", &format!("{}/team/app:v1", destination.host()), ["--reread"]).code(0);
    is_whole(&destination, "team/app", "v1", &tree);
    // cosign's words.
    let registry = Registry::old();
    place.affiant(["image", "save", "--dir", "saved", &from]).run().code(0);
    place.affiant(["image", "load", "--dir", "saved", &format!("{}/a/b:v3", registry.host())]).run().code(0);
    is_whole(&registry, "a/b", "v3", &tree);
    copy(&place, &from, "docker-archive:b.tar", []).code(2).stderr_has(&["read only"]);
}

/// An image without a variant has a name of its own beside one with a variant, for every verb that chooses.
#[test]
fn an_image_without_a_variant_is_chosen_by_its_name() {
    let place = Place::without_key();
    let (source, destination) = (Registry::start(), Registry::start());
    let tree = tree(&source);
    let mut index = source.manifest("team/app", "v1").expect("there");
    for (entry, variant) in index["manifests"].as_array_mut().expect("a list").iter_mut().zip([None, Some("v7")]) {
        entry["platform"] = json!({"os": "linux", "architecture": "arm", "variant": variant});
    }
    let list = index["manifests"].as_array_mut().expect("a list");
    list[0]["platform"].as_object_mut().expect("an object").remove("variant");
    list.reverse();
    source.put("team/app", Some("v2"), INDEX, index.to_string().as_bytes());
    let (from, to) = (format!("{}/team/app:v2", source.host()), format!("{}/team/app:v2", destination.host()));
    for (wanted, child) in [("linux/arm", 0), ("linux/arm/v7", 1)] {
        copy(&place, &from, &to, ["--platform", wanted]).code(0).stdout(&format!(
            "{}/team/app@{}\n",
            destination.host(),
            tree.children[child]
        ));
        let download = place.affiant(["image", "download", "attestation", "--platform", wanted, &from]).run();
        let said = format!("no attestations found of {}/team/app@{}", source.host(), tree.children[child]);
        download.code(10).stderr_has(&[&said]);
    }
    copy(&place, &from, &to, ["--platform", "linux/arm/v6"]).code(11).stderr_has(&["it has: linux/arm/v7, linux/arm"]);
    let one = format!("{}/team/app:one", source.host());
    copy(&place, &one, &to, ["--platform", "linux/arm"]).code(11).stderr_has(&["a platform chooses nothing"]);
}

#[test]
fn an_index_is_carried_whole_or_one_image_of_it() {
    let place = Place::without_key();
    let (source, destination) = (Registry::start(), Registry::start());
    let tree = tree(&source);
    let (from, to) = (format!("{}/team/app:v1", source.host()), format!("{}/team/app:v1", destination.host()));
    copy(&place, &from, &to, ["--platform", "garbage"]).code(2).stderr_has(&["that is no platform"]);
    copy(&place, &from, &to, ["--platform", "linux/s390x"]).code(11).stderr_has(&["it has: linux/amd64, linux/arm64"]);
    let ended = copy(&place, &from, &to, ["--platform", "linux/amd64"]).code(0);
    let ended = ended.stderr_has(&["one image of the index"]);
    assert_eq!(ended.stdout_text(), format!("{}/team/app@{}\n", destination.host(), tree.children[0]));
    assert_eq!(destination.tags("team/app"), [tree.children[0].tag(".att"), "v1".to_owned()]);
    source.remove("team/app", &tree.children[1]);
    let third = Registry::start();
    let to = format!("{}/team/app:v1", third.host());
    copy(&place, &from, &to, []).code(4).stderr_has(&["which is not in"]);
    assert!(third.tags("team/app").is_empty());
    copy(&place, &from, &to, ["--no-evidence", "--platform", "linux/amd64"]).code(0);
    assert_eq!(third.tags("team/app"), ["v1"]);
    let wrong = format!("{}/team/app@{}", third.host(), Digest::of(b"x"));
    copy(&place, &format!("{}/team/app:one", source.host()), &wrong, []).code(4).stderr_has(&["nothing was written"]);
    let gone = format!("{}/team/gone:v1", source.host());
    copy(&place, &gone, "oci:gone", []).code(11).stderr_has(&["team/gone:v1 is not there", "was the image pushed?"]);
    place.affiant(["image", "save", &gone, "--dir", "gone"]).run().code(11).stderr_has(&["is not there"]);
}

/// What lies in the working directory under the name of an image is not that image.
#[test]
fn a_planted_folder_is_not_the_registrys_image() {
    let place = Place::without_key();
    let (source, evil) = (Registry::start(), Registry::start());
    let tree = tree(&source);
    evil.put_image("team/app", "v1", "evil");
    let name = format!("{}/team/app:v1", source.host());
    place.affiant(["image", "save", "--dir", "evil", &format!("{}/team/app:v1", evil.host())]).run().code(0);
    let planted = place.work().join(&name);
    std::fs::create_dir_all(planted.parent().expect("a parent")).expect("makes folders");
    std::fs::rename(place.work().join("evil"), planted).expect("planted");
    let ended = copy(&place, &name, "oci:layout:v1", []).code(0);
    assert_eq!(ended.stdout_text(), format!("oci:layout@{}\n", tree.index));
    source.forget();
    let key = "-----BEGIN PUBLIC KEY-----\\nx\\n-----END PUBLIC KEY-----";
    let entry = |more: &str| {
        format!(
            r#"{{"imageReferences": ["*"], "attestors": [{{"entries": [{{"keys": {{"publicKeys": "{key}"}}{more}}}]}}]}}"#
        )
    };
    let repository = format!(r#", "repository": "{name}""#);
    for (file, text) in [("own.yaml", entry("")), ("other.yaml", entry(&repository))] {
        let policy = format!(
            r#"{{"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {{"name": "p"}}, "spec": {{"rules": [{{"name": "r", "verifyImages": [{text}]}}]}}}}"#
        );
        place.write(file, policy);
    }
    let check = |file: &str| place.affiant(["kyverno", "check", &name, "-f", file, "-o", "json"]).run();
    let said: Value = serde_json::from_str(&check("own.yaml").stdout_text()).expect("JSON");
    assert_eq!(said["digest"], tree.index.as_str());
    assert_ne!(check("other.yaml").exit_code(), 2);
    assert!(source.asked().iter().any(|asked| asked.path().contains(&tree.index.tag(".sig"))), "it was asked");
    source.forget();
    place.affiant(["key", "generate", "--no-password", "-o", "../k.pem"]).run().code(0);
    place.capture(["-s", "b", "-a", "environment", "--", "true"]).run().code(0);
    assert_ne!(place.affiant(["archive", "find", "--image", &name]).run().exit_code(), 0);
    assert!(source.asked().iter().any(|asked| asked.path().ends_with("/manifests/v1")), "it was asked");
    // A path is named as one.
    copy(&place, &format!("oci:{name}"), "oci:layout:v1", []).code(4).stderr_has(&["is no OCI layout"]);
}

/// A name and a password on the command line are for one registry.
#[test]
fn passwords_of_the_command_line_go_to_one_registry() {
    let place = Place::without_key();
    let (source, other) = (Registry::with(Door::Password, true, None), Registry::with(Door::Password, true, None));
    tree(&source);
    let (from, to) = (format!("{}/team/app:v1", source.host()), format!("{}/team/app:v1", other.host()));
    place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "c.key"]).run().code(0);
    let elsewhere = format!("{}/signatures", other.host());
    let second = format!("{}/team/app:one", source.host());
    other.put_image("team/app", "v1", "x");
    let before = source.tags("team/app");
    let calls: [&[&str]; 6] = [
        &["image", "copy", &from, &to],
        &["image", "copy", &from, "oci:layout", "--evidence-repository", &elsewhere],
        &["image", "sign", "--key", "c.key", &second, &from, &to],
        &["image", "sign", "--key", "c.key", &from, "--evidence-repository", &elsewhere],
        &["image", "attest", "--key", "c.key", "--predicate", "p.json", &from, &to],
        &["image", "compare", &from, &to],
    ];
    place.write("p.json", "{}");
    for proof in [&["--registry-username", USER, "--registry-password", PASSWORD][..], &["--registry-token", "secret"]]
    {
        for call in calls {
            let ended = place.affiant(call).with(proof).run().code(2).stdout("");
            ended.stderr_has(&["one registry", &source.host(), &other.host(), "docker login"]);
        }
    }
    let proven = |registry: &Registry| registry.asked().iter().any(|asked| asked.headers.contains_key("authorization"));
    assert!(!proven(&other) && other.tags("signatures").is_empty());
    assert_eq!(source.tags("team/app"), before, "nothing was signed");
    let proof = ["--registry-username", USER, "--registry-password", PASSWORD];
    place.affiant(["image", "digest", &from]).with(proof).run().code(0);
    log_in(&place, &[&from, &to]);
    place.affiant(["image", "copy", &from, &to]).run().code(0);
}

/// What is named by its digest at the destination has that digest, or nothing is written there.
#[test]
fn another_digest_than_was_named_is_not_written() {
    let place = Place::without_key();
    let (source, destination) = (Registry::start(), Registry::start());
    let tree = tree(&source);
    let from = format!("{}/team/app:v1", source.host());
    let wrong = Digest::of(b"x");
    for (to, digest, more) in [
        (format!("{}/team/app", destination.host()), &wrong, &["--platform", "linux/amd64"][..]),
        (format!("{}/team/app", destination.host()), &tree.index, &["--platform", "linux/amd64"]),
        (format!("{}/team/app", destination.host()), &wrong, &[]),
        ("oci:layout:v1".to_owned(), &wrong, &[]),
        ("oci:layout".to_owned(), &tree.children[1], &["--platform", "linux/amd64"]),
        ("oci-archive:a.tar:v1".to_owned(), &wrong, &[]),
    ] {
        let to = format!("{to}@{digest}");
        let call = place.affiant(["image", "copy", &from, &to]).with(more);
        call.run().code(4).stdout("").stderr_has(&["nothing was written", digest.as_str()]);
    }
    copy(&place, &from, "oci:layout:v1", ["--platform", "linux/s390x"]).code(11);
    assert!(destination.asked().iter().all(|asked| asked.method == "GET" || asked.method == "HEAD"));
    let left: Vec<_> = std::fs::read_dir(place.work()).expect("a folder").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    let right = format!("{}/team/app@{}", destination.host(), tree.children[0]);
    copy(&place, &from, &right, ["--platform", "linux/amd64"]).code(0).stdout(&format!("{right}\n"));
}

/// A folder and a tag and a digest, each as it was named.
#[test]
fn layouts_are_named_by_folder_tag_and_digest() {
    let place = Place::without_key();
    let (source, destination) = (Registry::start(), Registry::start());
    let tree = tree(&source);
    let from = format!("{}/team/app:v1", source.host());
    let to = format!("{}/a/b:v3", destination.host());
    // A folder with a colon in its name.
    place.affiant(["image", "save", "--dir", "a:b", &from]).run().code(0).stdout(&format!("oci:a:b/@{}\n", tree.index));
    for name in ["oci:a:b/", "oci:a:b/:v1"] {
        place.affiant(["image", "digest", name]).run().code(0).stdout(&format!("{}\n", tree.index));
    }
    assert!(place.work().join("a:b/oci-layout").exists() && !place.work().join("a").exists());
    place.affiant(["image", "load", "--dir", "a:b", &to]).run().code(0);
    is_whole(&destination, "a/b", "v3", &tree);
    for kind in ["oci:layout", "oci-archive:layout.tar"] {
        let named = format!("{kind}:v7@{}", tree.index);
        copy(&place, &from, &named, []).code(0).stdout(&format!("{kind}@{}\n", tree.index));
        for name in
            [&named, &format!("{kind}:v7"), &format!("{kind}@{}", tree.index), &format!("{kind}:v8@{}", tree.index)]
        {
            let shown = place.affiant(["image", "digest", name]).run().code(0);
            assert_eq!(shown.stdout_text(), format!("{}\n", tree.index), "{name}");
        }
        place.affiant(["image", "digest", &format!("{kind}:v8")]).run().code(11);
    }
    let left: Vec<_> =
        std::fs::read_dir(place.work()).expect("a folder").flatten().map(|one| one.file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

/// What is no image says what it is, and nothing of what is in it.
#[test]
fn what_is_pushed_is_a_plain_file_or_a_folder() {
    let place = Place::without_key();
    let registry = Registry::start();
    let image = format!("{}/team/app:1", registry.host());
    nix::unistd::mkfifo(&place.work().join("fifo"), nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
    place.write("secret", format!("TOPSECRET-{}", "hunter2 ".repeat(200)));
    place.write("empty", "");
    place.write("zeros", vec![0; 4096]);
    for target in ["/dev/null", "fifo", "./fifo"] {
        let ended = place.affiant(["image", "push", target, &image]).run().code(4).stdout("");
        ended.stderr_has(&[target, "a device, a pipe or a socket"]);
    }
    for target in ["oci-archive:fifo", "docker-archive:/dev/null"] {
        place.affiant(["image", "push", target, &image]).run().code(4).stdout("").stderr_has(&["no plain file"]);
    }
    for target in ["secret", "oci-archive:secret", "docker-archive:secret", "empty", "zeros"] {
        let said = place.affiant(["image", "push", target, &image]).run().code(4).stdout("").stderr_text();
        assert!(!said.contains("TOPSECRET") && !said.contains("hunter2"), "{said}");
    }
    assert!(registry.asked().iter().all(|asked| asked.method == "GET" || asked.method == "HEAD"));
}

/// A helper that has ended is not waited for, whatever it has started.
#[test]
fn a_helper_for_passwords_leaves_nothing_to_wait_for() {
    let place = Place::without_key();
    let registry = Registry::with(Door::Password, true, None);
    let digest = registry.put_image("team/app", "v1", "x");
    let helper = place.work().join("docker-credential-slow");
    let script =
        format!("#!/bin/sh\nsleep 60 &\nread server\nprintf '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n");
    std::fs::write(&helper, script).expect("written");
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    std::fs::create_dir_all(place.beside("home/.docker")).expect("makes a folder");
    std::fs::write(place.beside("home/.docker/config.json"), r#"{"credsStore": "slow"}"#).expect("written");
    let begun = Instant::now();
    let path = format!("{}:/usr/bin:/bin", place.work().display());
    let image = format!("{}/team/app:v1", registry.host());
    place.affiant(["image", "digest", &image]).env("PATH", path).run().code(0).stdout(&format!("{digest}\n"));
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
}

pub(crate) fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in entries {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[148..156].fill(b' ');
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// What `docker save` writes: one image of one layer.
fn saved(layer: &[u8], created: &str) -> Vec<u8> {
    let config = json!({"architecture": "amd64", "os": "linux", "created": created,
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer)]}})
    .to_string();
    let list = json!([{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["layer.tar"]}]).to_string();
    tar_of(&[("layer.tar", layer), ("c.json", config.as_bytes()), ("manifest.json", list.as_bytes())])
}

#[test]
fn what_was_attested_is_what_is_pushed() {
    let place = Place::without_key();
    let registry = Registry::start();
    let image = format!("{}/team/app:1", registry.host());
    place.write("image.tar", saved(b"a layer", "2026-01-01T00:00:00Z"));
    let push = |target: &str, more: &[&str]| place.affiant(["image", "push", target, &image].iter().chain(more)).run();
    let ended = push("image.tar", &[]).code(0);
    let digest = ended.stdout_text().trim_end().rsplit_once('@').expect("a digest").1.to_owned();
    assert_eq!(ended.stdout_text(), format!("{}/team/app@{digest}\n", registry.host()));
    assert_eq!(
        push("docker-archive:image.tar:app:1", &["--expect", &digest]).code(0).stdout_text(),
        ended.stdout_text()
    );
    registry.forget();
    let other = Digest::of(b"x").to_string();
    push("image.tar", &["--expect", &other]).code(1).stderr_has(&["nothing was sent"]);
    assert!(registry.asked().is_empty());
    // A layout keeps the digest that it has, packed or not.
    copy(&place, "docker-archive:image.tar", "oci:layout:1", []).code(0);
    copy(&place, "oci:layout", "oci-archive:layout.tar:1", []).code(0);
    for target in ["layout", "layout.tar", "oci:layout:1"] {
        assert_eq!(push(target, &["--expect", &digest]).code(0).stdout_text(), ended.stdout_text(), "{target}");
    }
    push(&image, &[]).code(2).stderr_has(&["archive or a layout"]);
    push("./nothing.tar", &[]).code(4).stderr_has(&["not there"]);
    place.write("image.tar", &saved(b"a layer", "2026-01-01T00:00:00Z")[..700]);
    push("image.tar", &[]).code(4);
}

#[test]
fn a_registry_that_stores_something_else_is_found_out() {
    let lying = |asked: &Asked| {
        (asked.method == "GET" && asked.path().contains("/manifests/sha256:"))
            .then(|| Said::new(200).with("content-type", MANIFEST).body("{}"))
    };
    let place = Place::without_key();
    let registry = Registry::with(Door::Open, true, Some(Box::new(lying)));
    place.write("image.tar", saved(b"a layer", "2026-01-01T00:00:00Z"));
    let ended = place.affiant(["image", "push", "image.tar", &format!("{}/team/app:1", registry.host())]).run();
    ended.code(4).stderr_has(&["came where"]);
    let forgetful =
        |asked: &Asked| (asked.method == "HEAD" && asked.path().ends_with("/manifests/1")).then(|| Said::new(404));
    let registry = Registry::with(Door::Open, true, Some(Box::new(forgetful)));
    let ended = place.affiant(["image", "push", "image.tar", &format!("{}/team/app:1", registry.host())]).run();
    assert_eq!(ended.code(4).stderr_has(&["means nothing"]).stdout_text(), "");
}

#[test]
fn equal_images_are_equal_in_every_form() {
    let place = Place::without_key();
    let registry = Registry::start();
    let layer = b"the bytes of a layer, as they are unpacked";
    place.write("image.tar", saved(layer, "2026-01-01T00:00:00Z"));
    place.write("rebuilt.tar", saved(layer, "2026-02-02T00:00:00Z"));
    place.write("other.tar", saved(b"another layer", "2026-01-01T00:00:00Z"));
    // The same config, the layer compressed, in an index with another image.
    let config = json!({"architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer)]}})
    .to_string();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(layer).expect("packed");
    let packed = packed.finish().expect("packed");
    let manifest = |packed: &[u8]| {
        json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(),
                "digest": registry.put_blob("team/app", config.as_bytes())},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": packed.len(),
                "digest": registry.put_blob("team/app", packed)}]})
        .to_string()
    };
    let recompressed = manifest(&packed);
    let digest = registry.put("team/app", Some("packed"), MANIFEST, recompressed.as_bytes());
    let unlike = registry.put_image("team/app", "unlike", "x");
    let size = |digest: &Digest| registry.manifest("team/app", digest.as_str()).expect("there").to_string().len();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": unlike, "size": size(&unlike), "platform": {"os": "linux", "architecture": "arm64"}},
        {"mediaType": MANIFEST, "digest": digest, "size": recompressed.len(),
            "platform": {"os": "linux", "architecture": "amd64"}}]});
    registry.put("team/app", Some("index"), INDEX, index.to_string().as_bytes());
    let lie = manifest(b"something else");
    registry.put("team/app", Some("lie"), MANIFEST, lie.as_bytes());
    let compare = |one: &str, other: &str| {
        let other = other.replace("R/", &format!("{}/", registry.host()));
        let (here, back) = (
            place.affiant(["image", "compare", one, &other]).run(),
            place.affiant(["image", "compare", &other, one]).run(),
        );
        assert_eq!(here.exit_code(), back.exit_code(), "{one} {other}");
        here
    };
    assert!(compare("image.tar", "image.tar").code(0).stdout_text().starts_with("equal: the same manifest"));
    let said = compare("image.tar", "R/team/app:packed").code(0).stdout_text();
    assert!(said.contains("1 of them compressed differently and proven by diff id"), "{said}");
    let said = compare("image.tar", "R/team/app:index").code(0).stdout_text();
    assert!(said.starts_with("equal: the config"), "{said}");
    let said = compare("image.tar", "rebuilt.tar").code(1).stdout_text();
    assert_eq!(said, "different: the same layers, and a config that differs in created\n");
    let said = compare("image.tar", "other.tar").code(1).stdout_text();
    assert!(said.starts_with(&format!("different: layer 0: diff id {} and sha256:", Digest::of(layer))), "{said}");
    let said = compare("image.tar", "R/team/app:lie").code(1).stdout_text();
    assert!(said.contains("its config says"), "{said}");
    compare("image.tar", "R/team/app:nothing").code(11);
}

/// A proxy before the registry takes no long bodies.
#[test]
fn blobs_are_sent_in_pieces() {
    const MEGABYTE: usize = 1 << 20;
    let place = Place::without_key();
    let small = |asked: &Asked| (asked.body.len() > MEGABYTE).then(|| Said::new(413));
    let registry = Registry::with(Door::Open, true, Some(Box::new(small)));
    let image = format!("{}/app:1", registry.host());
    let layer: Vec<u8> = (0..MEGABYTE * 5 / 2).map(|at| u8::try_from(at % 251).expect("below 251")).collect();
    place.write("image.tar", saved(&layer, "2026-01-01T00:00:00Z"));
    let push = |more: &[&str]| place.affiant(["image", "push", "image.tar", &image].iter().chain(more)).run();
    push(&[]).code(4).stdout("").stderr_has(&["413", "--upload-chunk"]);
    registry.forget();
    push(&["--upload-chunk", "1"]).code(0);
    let pieces =
        registry.asked().iter().filter(|asked| asked.method == "PATCH" && asked.body.len() == MEGABYTE).count();
    assert_eq!(pieces, 2, "two whole ones and a rest");
    assert_eq!(registry.blob("app", Digest::of(&layer).as_str()), layer);
    push(&["--upload-chunk", "0"]).code(2);
}
