//! Images in layouts and archives: signed, attested, checked and shown as those in registries are.

use std::path::Path;

use affiant_core::image::Digest;
use serde_json::{Value, json};

use crate::carry::tar_of;
use crate::harness::{Ended, Place};
use crate::registry::Registry;

const NAME: &str = "registry.example/team/app";

/// A place with a key, and an image of two layers' worth in `oci:l` under the tag `v1`; its digest.
fn place() -> (Place, Digest) {
    let place = Place::without_key();
    place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "c.key"]).run().code(0);
    let registry = Registry::start();
    let digest = registry.put_image("team/app", "v1", "a");
    place.affiant(["image", "copy", &format!("{}/team/app:v1", registry.host()), "oci:l:v1"]).run().code(0);
    (place, digest)
}

fn image(place: &Place, args: &[&str]) -> Ended {
    place.affiant(["image"]).with(args).run()
}

fn sign(place: &Place, target: &str) -> Ended {
    image(place, &["sign", "--key", "c.key", "-a", "k=v", "--sign-container-identity", NAME, target])
}

fn verify(place: &Place, target: &str) -> Ended {
    image(place, &["verify", "--key", "c.pub", "-a", "k=v", target])
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON")
}

fn write(place: &Place, name: &str, value: &Value) {
    place.write(name, value.to_string());
}

#[test]
fn every_verb_takes_a_layout_and_an_archive() {
    let (place, digest) = place();
    image(&place, &["copy", "oci:l:v1", "oci-archive:a.tar:v1"]).code(0);
    place.write("p.json", "{\"a\": 1}");
    for (target, shown) in [("oci:l:v1", "oci:l"), ("oci-archive:a.tar", "oci-archive:a.tar")] {
        let kind = ["--type", "https://a.example/t"];
        verify(&place, target).code(10);
        sign(&place, target).code(0);
        sign(&place, target).code(0).stderr_has(&["already in"]);
        let said: Value = serde_json::from_str(&verify(&place, target).code(0).stdout_text()).expect("JSON");
        assert_eq!(said[0]["critical"]["identity"]["docker-reference"], NAME);
        assert_eq!(said[0]["critical"]["image"]["docker-manifest-digest"], digest.as_str());
        let attest = ["attest", "--key", "c.key", "--identity", NAME, "--predicate", "p.json"];
        image(&place, &[&attest[..], &kind, &[target]].concat()).code(0);
        image(&place, &[&["verify-attestation", "--key", "c.pub"][..], &kind, &[target]].concat()).code(0);
        image(&place, &["digest", "--full-ref", target]).code(0).stdout(&format!("{shown}@{digest}\n"));
        image(&place, &["triangulate", target]).code(0).stdout(&format!("{shown}:{}\n", digest.tag(".sig")));
        let tree = image(&place, &["tree", &format!("{shown}@{digest}")]).code(0).stdout_text();
        assert!(tree.contains(".sig") && tree.contains(".att") && tree.matches("referrer").count() == 2, "{tree}");
        // What was kept goes along, and is checked where it arrives.
        let registry = Registry::start();
        let to = format!("{}/team/app:v1", registry.host());
        image(&place, &["push", target.trim_start_matches("oci-archive:"), &to]).code(0);
        verify(&place, &to).code(0);
        let to = format!("{}/team/copied:v1", registry.host());
        image(&place, &["copy", target, &to]).code(0);
        verify(&place, &to).code(0);
        image(&place, &[&["verify-attestation", "--key", "c.pub"][..], &kind, &[&to]].concat()).code(0);
    }
    // Nothing of the work is left beside them.
    let mut left: Vec<_> =
        std::fs::read_dir(place.work()).expect("a folder").flatten().map(|one| one.file_name()).collect();
    left.sort();
    assert_eq!(left, ["a.tar", "c.key", "c.pub", "l", "p.json"]);
}

#[test]
fn a_name_is_demanded_where_the_layout_says_none() {
    let (place, _) = place();
    let bare = ["sign", "--key", "c.key", "oci:l"];
    image(&place, &bare).code(2).stderr_has(&["--sign-container-identity"]);
    // A bundle has no name in it.
    image(&place, &["sign", "--key", "c.key", "--format", "bundle", "oci:l"]).code(0);
    let file = place.work().join("l/index.json");
    let mut index = read(&file);
    index["manifests"][0]["annotations"]["io.containerd.image.name"] = json!("docker.io/team/app:v1");
    write(&place, "l/index.json", &index);
    image(&place, &bare).code(0);
    let said = image(&place, &["verify", "--key", "c.pub", "oci:l"]).code(0).stdout_text();
    assert!(said.contains(r#""docker-reference":"index.docker.io/team/app""#), "{said}");
    // A folder without a prefix is a name of a registry's image.
    image(&place, &["digest", "./l"]).code(2).stderr_has(&["oci:./l"]);
}

/// The names in a tar file, in their order.
fn names_of(mut tar: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while tar.len() > 512 && tar[0] != 0 {
        let text =
            |range: std::ops::Range<usize>| String::from_utf8_lossy(&tar[range]).trim_end_matches('\0').to_owned();
        names.push(text(0..100));
        let size = usize::from_str_radix(text(124..136).trim(), 8).expect("a size");
        tar = &tar[512 + size.next_multiple_of(512)..];
    }
    names
}

#[test]
fn an_archive_is_written_whole_or_not_at_all() {
    let (place, digest) = place();
    // What else lies in it stays: `docker load` reads `manifest.json`.
    let mut files = vec![("manifest.json".to_owned(), b"[]".to_vec())];
    for name in ["oci-layout", "index.json"] {
        files.push((name.to_owned(), std::fs::read(place.work().join("l").join(name)).expect("read")));
    }
    for blob in std::fs::read_dir(place.work().join("l/blobs/sha256")).expect("a folder").flatten() {
        let name = format!("blobs/sha256/{}", blob.file_name().display());
        files.push((name, std::fs::read(blob.path()).expect("read")));
    }
    let entries: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    let path = place.work().join("a.tar");
    std::fs::write(&path, tar_of(&entries)).expect("written");
    let before = std::fs::read(&path).expect("read");
    // What changes nothing writes nothing.
    image(&place, &["verify", "--key", "c.pub", "oci-archive:a.tar"]).code(10);
    assert_eq!(std::fs::read(&path).expect("read"), before);
    sign(&place, "oci-archive:a.tar").code(0);
    let names = names_of(&std::fs::read(&path).expect("read"));
    assert_eq!(names[..2], ["oci-layout", "index.json"]);
    assert!(names.contains(&"manifest.json".to_owned()), "{names:?}");
    assert!(names.contains(&format!("blobs/sha256/{}", digest.hex())));
    let after = std::fs::read(&path).expect("read");
    sign(&place, "oci-archive:a.tar").code(0);
    assert_eq!(std::fs::read(&path).expect("read"), after, "signed already");
    // A docker archive has no room.
    sign(&place, "docker-archive:a.tar")
        .code(2)
        .stderr_has(&["nothing can be kept in a docker archive", "copy it first"]);
}

#[test]
fn evidence_is_kept_in_a_layout_of_its_own() {
    let (place, digest) = place();
    let before = std::fs::read(place.work().join("l/index.json")).expect("read");
    let with =
        |verb: &str, key: &str| image(&place, &[verb, "--key", key, "--evidence-repository", "oci:kept", "oci:l:v1"]);
    image(&place, &["sign", "--key", "c.key", "--identity", NAME, "--evidence-repository", "oci:kept", "oci:l:v1"])
        .code(0);
    assert_eq!(std::fs::read(place.work().join("l/index.json")).expect("read"), before, "the image's is untouched");
    with("verify", "c.pub").code(0);
    image(&place, &["verify", "--key", "c.pub", "oci:l:v1"]).code(10);
    let index = read(&place.work().join("kept/index.json")).to_string();
    assert!(index.contains(&digest.tag(".sig")), "{index}");
}

/// cosign's `save` has kinds in place of tags: a second signature takes the place of the first list and keeps its kind.
#[test]
fn what_cosign_saved_is_signed_again() {
    let (place, digest) = place();
    sign(&place, "oci:l").code(0);
    let file = place.work().join("l/index.json");
    let mut index = read(&file);
    let entries = index["manifests"].as_array_mut().expect("a list");
    entries.retain(|entry| entry["annotations"].is_object());
    for entry in entries.iter_mut() {
        let is_list = entry["annotations"]["org.opencontainers.image.ref.name"] == digest.tag(".sig").as_str();
        let kind = if is_list { "sigs" } else { "image" };
        entry["annotations"] = json!({"kind": format!("dev.cosignproject.cosign/{kind}")});
    }
    assert_eq!(entries.len(), 2);
    write(&place, "l/index.json", &index);
    verify(&place, "oci:l").code(0);
    place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "d.key"]).run().code(0);
    image(&place, &["sign", "--key", "d.key", "--format", "tag", "--identity", NAME, "oci:l"]).code(0);
    verify(&place, "oci:l").code(0);
    image(&place, &["verify", "--key", "d.pub", "oci:l"]).code(0);
    let index = read(&file);
    let kinds: Vec<_> =
        index["manifests"].as_array().expect("a list").iter().map(|one| &one["annotations"]["kind"]).collect();
    assert_eq!(kinds, ["dev.cosignproject.cosign/image", "dev.cosignproject.cosign/sigs"]);
}

/// What is in no place that is read, or named as nothing is, is said with what to do, and without a password.
#[test]
fn names_that_other_tools_take_are_refused_with_a_hint() {
    let place = Place::without_key();
    let ask = |name: &str| place.affiant(["image", "digest", name]).run().code(2).stdout("").stderr_text();
    for name in
        ["ann:hunter2-secret@127.0.0.1:5978/ok:1", "hunter2-secret@host.example/ok", "a:hunter2-secret@h/x@sha256:1"]
    {
        let said = ask(name);
        assert!(said.contains("before the host is not taken") && !said.contains("hunter2"), "{said}");
    }
    std::fs::create_dir_all(place.work().join("empty/blobs")).expect("a folder");
    place.write("empty/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    place.write("empty/index.json", r#"{"schemaVersion":2,"manifests":[]}"#);
    let none = place.affiant(["image", "digest", "oci:empty"]).run().code(11);
    none.stderr_has(&["there is no image in empty"]);
    place.write(
        "two.tar",
        tar_of(&[("manifest.json", br#"[{"Config":"c","RepoTags":["app:1"]},{"Config":"c","RepoTags":["app:2"]}]"#)]),
    );
    let two = |name: &str, code| {
        place.affiant(["image", "digest", &format!("docker-archive:two.tar{name}")]).run().code(code)
    };
    two("", 4).stderr_has(&["it has 2 images, name one: app:1, app:2"]);
    two(":app:9", 11).stderr_has(&["docker-archive:two.tar:app:9 is not there"]);
    assert!(ask("docker://127.0.0.1:5978/app:1").contains("leave the prefix out: 127.0.0.1:5978/app:1"));
    assert!(ask("dir:x").contains("`dir:` is a place that is not read"));
    assert!(ask("containers-storage:app").contains("`containers-storage:` is a place that is not read"));
}
