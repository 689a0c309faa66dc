//! Lists of what refers to an image, and what they lead to: what cannot be read is said, and hides nothing silently.

use std::path::Path;

use affiant_core::image::Digest;
use serde_json::{Value, json};

use crate::harness::{Ended, Place};
use crate::registry::{Asked, Door, Registry, Said};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A place with a key `c.key` in the clear and `c.pub`.
fn place() -> Place {
    let place = Place::without_key();
    place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "c.key"]).run().code(0);
    place
}

fn image(place: &Place, args: &[&str]) -> Ended {
    place.affiant(["image"]).with(args).run()
}

/// An image that is signed in one form.
fn signed(place: &Place, registry: &Registry, format: &str) -> (String, Digest) {
    let digest = registry.put_image("app", "v1", "a");
    let name = format!("{}/app:v1", registry.host());
    image(place, &["sign", "--key", "c.key", "--format", format, &name]).code(0);
    (name, digest)
}

/// Lists that readers do not take, made of one that they do.
fn spoilt(list: &Value) -> Vec<(&'static str, Vec<u8>)> {
    let mut alias = list.clone();
    alias["Annotations"] = json!({});
    let mut long = list.clone();
    let entries = long["manifests"].as_array_mut().expect("a list");
    let first = entries[0].clone();
    entries.resize(10_001, first);
    let broken = list.to_string().into_bytes();
    vec![
        ("read as `annotations`", alias.to_string().into_bytes()),
        ("10001 layers or entries", long.to_string().into_bytes()),
        ("no manifest", broken[..broken.len() - 2].to_vec()),
        ("an image", list.to_string().replace("manifests", "layers").into_bytes()),
    ]
}

#[test]
fn a_list_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    let place = place();
    for (number, (says, _)) in spoilt(&json!({"manifests": [{}]})).iter().enumerate() {
        let registry = Registry::old();
        let (name, digest) = signed(&place, &registry, "bundle");
        let tag = digest.tag("");
        let list = registry.manifest("app", &tag).expect("a list");
        let (_, bytes) = &spoilt(&list)[number];
        registry.put("app", Some(&tag), INDEX, bytes);
        let verify = ["verify", "--key", "c.pub", &name];
        image(&place, &verify).code(4).stdout("").stderr_has(&["passed over: the list of referrers", says]);
        image(&place, &["tree", &name]).code(4).stderr_has(&["passed over: the list of referrers", says]);
        assert!(!image(&place, &["tree", &name]).stdout_text().contains("nothing is kept"));
        let to = format!("{}/copy:v1", registry.host());
        image(&place, &["copy", &name, &to]).code(4).stdout("").stderr_has(&[says, "--no-evidence"]);
        assert!(registry.tags("copy").is_empty());
        image(&place, &["copy", "--no-evidence", &name, &to]).code(0);
        // What else is there is judged, and what was passed over said.
        image(&place, &["sign", "--key", "c.key", "--format", "tag", &name]).code(0);
        image(&place, &verify).code(0).stderr_has(&["passed over: the list of referrers", says]);
        let other = ["verify", "--key", "d.pub", &name];
        place.affiant(["key", "generate", "--no-password", "-o", &format!("d{number}.key")]).run().code(0);
        std::fs::copy(place.work().join(format!("d{number}.pub")), place.work().join("d.pub")).expect("copied");
        image(&place, &other).code(4).stdout("").stderr_has(&["cannot be read"]);
        image(&place, &["download", "bundle", &name]).stderr_has(&[says]).stdout("");
    }
}

/// The same in the registry's own list; and one entry that is of another algorithm hides nobody else's.
#[test]
fn an_entry_of_another_algorithm_is_passed_over_by_itself() {
    let place = place();
    let other = format!("sha512:{}", "0".repeat(128));
    let entry = json!({"mediaType": MANIFEST, "digest": other, "size": 2});
    let old = Registry::old();
    let (name, digest) = signed(&place, &old, "bundle");
    let mut list = old.manifest("app", &digest.tag("")).expect("a list");
    list["manifests"].as_array_mut().expect("a list").insert(0, entry.clone());
    old.put("app", Some(&digest.tag("")), INDEX, list.to_string().as_bytes());
    let said = ["passed over: the list of referrers", other.as_str()];
    image(&place, &["verify", "--key", "c.pub", &name]).code(0).stderr_has(&said);
    image(&place, &["tree", &name]).code(0).stderr_has(&said);
    let to = format!("{}/copy:v1", old.host());
    image(&place, &["copy", &name, &to]).code(0).stderr_has(&[&other, "1 of evidence"]);
    image(&place, &["verify", "--key", "c.pub", &to]).code(0);
    // A registry that says so itself.
    for (more, code) in [(json!([entry]), 12), (json!([{"digest": "x"}]), 4)] {
        let lie = move |asked: &Asked| {
            let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": more}).to_string();
            asked.path().contains("/referrers/").then(|| Said::new(200).with("content-type", INDEX).body(list))
        };
        let registry = Registry::with(Door::Open, true, Some(Box::new(lie)));
        registry.put_image("app", "v1", "a");
        let name = format!("{}/app:v1", registry.host());
        image(&place, &["verify", "--key", "c.pub", &name]).code(code).stderr_has(&["passed over: the list"]);
        image(&place, &["sign", "--key", "c.key", "--format", "tag", &name]).code(0);
        image(&place, &["verify", "--key", "c.pub", &name]).code(0).stderr_has(&["passed over: the list"]);
    }
}

/// A long manifest that somebody has put beside an image, with that image as its subject.
#[test]
fn a_referrer_that_is_too_long_does_not_hide_the_others() {
    let place = place();
    for registry in [Registry::start(), Registry::old()] {
        let (name, digest) = signed(&place, &registry, "bundle");
        let long = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "a/b", "layers": [],
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}"), "size": 2},
            "subject": {"mediaType": MANIFEST, "digest": digest, "size": 1}, "x-unknown": "x".repeat(5 << 20)});
        let long = registry.put("app", None, MANIFEST, long.to_string().as_bytes());
        if !registry.lists_referrers() {
            let mut list = registry.manifest("app", &digest.tag("")).expect("a list");
            let entry = json!({"mediaType": MANIFEST, "digest": long, "size": 5});
            list["manifests"].as_array_mut().expect("a list").insert(0, entry);
            registry.put("app", Some(&digest.tag("")), INDEX, list.to_string().as_bytes());
        }
        let said = [&*format!("passed over: referrer {long}"), "more than 4194304 bytes"];
        image(&place, &["verify", "--key", "c.pub", &name]).code(0).stderr_has(&said);
        let bundles = image(&place, &["download", "bundle", &name]).code(0).stderr_has(&said);
        assert_eq!(bundles.stdout_text().lines().count(), 1);
        // The same under the tag of signatures.
        let tag = digest.tag(".sig");
        registry.put("app", Some(&tag), MANIFEST, &vec![b' '; 5 << 20]);
        image(&place, &["verify", "--key", "c.pub", &name]).code(0).stderr_has(&[&format!("passed over: {tag}")]);
        image(&place, &["tree", &name]).code(4).stderr_has(&[&tag]);
    }
}

/// Long annotations make the registry's own list long.
#[test]
fn a_list_that_is_too_long_is_not_taken_for_an_empty_one() {
    let place = place();
    let registry = Registry::start();
    let (name, digest) = signed(&place, &registry, "bundle");
    let long = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "a/b", "layers": [],
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}"), "size": 2},
        "subject": {"mediaType": MANIFEST, "digest": digest, "size": 1}, "annotations": {"a": "x".repeat(5 << 20)}});
    registry.put("app", None, MANIFEST, long.to_string().as_bytes());
    let verify = ["verify", "--key", "c.pub", &name];
    let said = ["passed over: the list of referrers", "more than 4194304 bytes"];
    image(&place, &verify).code(4).stdout("").stderr_has(&said);
    image(&place, &["sign", "--key", "c.key", "--format", "tag", &name]).code(0);
    image(&place, &verify).code(0).stderr_has(&said);
    image(&place, &["copy", &name, "oci:layout"]).code(4).stdout("").stderr_has(&said[1..]);
}

/// Longer than is fetched, and not longer than is read: the same for whoever looks.
#[test]
fn more_referrers_than_are_fetched_are_told_by_all_who_look() {
    let place = place();
    let registry = Registry::old();
    let (name, digest) = signed(&place, &registry, "bundle");
    let tag = digest.tag("");
    let mut list = registry.manifest("app", &tag).expect("a list");
    let entries = list["manifests"].as_array_mut().expect("a list");
    let first = entries[0].clone();
    entries.extend((0..2000).map(|number| {
        let mut entry = first.clone();
        entry["digest"] = json!(Digest::of(format!("{number}").as_bytes()));
        entry
    }));
    registry.put("app", Some(&tag), INDEX, list.to_string().as_bytes());
    for verb in [&["verify", "--key", "c.pub"][..], &["download", "attestation"]] {
        let ended = image(&place, &[verb, &[&name]].concat()).code(4).stdout("");
        ended.stderr_has(&["the list of referrers of sha256:", "2001", "2000"]);
    }
    // Who asks what there is sees the first, and how many more there are.
    let shown = image(&place, &["tree", &name]).code(4).stderr_has(&["1 more are not fetched: 2000 are"]);
    assert_eq!(shown.stdout_text().matches("── referrer ").count(), 2000);
}

/// An outage is no answer, whatever else was found.
#[test]
fn an_outage_is_no_answer() {
    let place = place();
    for what in ["/referrers/", "/manifests/sha256-"] {
        let registry = Registry::start();
        let (name, _) = signed(&place, &registry, "tag");
        let lie = move |asked: &Asked| asked.path().contains(what).then(|| Said::new(503));
        let away = Registry::with(Door::Open, true, Some(Box::new(lie)));
        away.put_image("app", "v1", "a");
        let away = format!("{}/app:v1", away.host());
        image(&place, &["verify", "--key", "c.pub", &name]).code(0);
        image(&place, &["verify", "--key", "c.pub", &away]).code(4).stdout("").stderr_has(&["503"]);
        image(&place, &["tree", &away]).code(4).stdout("").stderr_has(&["503"]);
        image(&place, &["copy", &away, "oci:away"]).code(4).stdout("").stderr_has(&["503"]);
    }
}

/// The file of a manifest in a layout about which nothing but the digest is known: the one of the bundle.
fn referrer(layout: &Path, of: &Digest) -> std::path::PathBuf {
    let index = std::fs::read(layout.join("index.json")).expect("read");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let entries = index["manifests"].as_array().expect("a list");
    let other = entries.iter().find(|entry| entry["digest"] != of.as_str()).expect("a referrer");
    layout.join("blobs/sha256").join(other["digest"].as_str().expect("a digest").trim_start_matches("sha256:"))
}

/// What happens to a file.
type Harm = fn(&Path);

#[test]
fn what_a_layout_has_lost_of_its_evidence_is_said() {
    let place = place();
    let registry = Registry::start();
    let (name, digest) = signed(&place, &registry, "bundle");
    let harms: [(&str, Harm); 4] = [
        ("came where", |file| {
            let text = std::fs::read_to_string(file).expect("read");
            std::fs::write(file, text.replace("created", "cheated")).expect("written");
        }),
        ("not there", |file| std::fs::remove_file(file).expect("removed")),
        ("link", |file| {
            std::fs::rename(file, file.with_extension("moved")).expect("moved");
            std::os::unix::fs::symlink(file.with_extension("moved"), file).expect("linked");
        }),
        ("no manifest", |file| std::fs::write(file, "{}").expect("written")),
    ];
    for (number, (says, harm)) in harms.iter().enumerate() {
        let layout = format!("layout{number}");
        let target = format!("oci:{layout}:v1");
        image(&place, &["copy", &name, &target]).code(0);
        image(&place, &["verify", "--key", "c.pub", &target]).code(0);
        harm(&referrer(&place.work().join(&layout), &digest));
        image(&place, &["verify", "--key", "c.pub", &target]).code(4).stdout("").stderr_has(&["passed over", says]);
        image(&place, &["tree", &target]).code(4).stderr_has(&["passed over", says]);
        let to = format!("{}/copy{number}:v1", registry.host());
        image(&place, &["copy", &target, &to]).code(4).stdout("").stderr_has(&[says]);
        assert!(registry.tags(&format!("copy{number}")).is_empty());
        // Judged is what is left.
        image(&place, &["sign", "--key", "c.key", "--format", "tag", "--identity", "a.example/app", &target]).code(0);
        image(&place, &["verify", "--key", "c.pub", &target]).code(0).stderr_has(&["passed over", says]);
    }
}

/// Another image of the layout that is broken is said, and stands in the way of nothing but itself; neither do its
/// signatures.
#[test]
fn a_broken_image_of_a_layout_is_no_other_images_matter() {
    let place = place();
    let registry = Registry::start();
    let (name, _) = signed(&place, &registry, "tag,bundle");
    let other = registry.put_image("app", "v2", "b");
    let neighbour = format!("{}/app:v2", registry.host());
    image(&place, &["sign", "--key", "c.key", "--format", "tag", &neighbour]).code(0);
    let harms: [(&str, Harm); 4] = [
        ("came where", |file| {
            let text = std::fs::read_to_string(file).expect("read");
            std::fs::write(file, text.replace("size", "Size")).expect("written");
        }),
        ("not there", |file| std::fs::remove_file(file).expect("removed")),
        ("link", |file| {
            std::fs::rename(file, file.with_extension("moved")).expect("moved");
            std::os::unix::fs::symlink(file.with_extension("moved"), file).expect("linked");
        }),
        ("no manifest", |file| std::fs::write(file, "{}").expect("written")),
    ];
    let named = |layout: &Path, tag: &str| {
        let index = std::fs::read(layout.join("index.json")).expect("read");
        let index: Value = serde_json::from_slice(&index).expect("JSON");
        let mut entries = index["manifests"].as_array().expect("a list").iter();
        let entry = entries.find(|one| one["annotations"]["org.opencontainers.image.ref.name"] == tag).expect("named");
        layout.join("blobs/sha256").join(entry["digest"].as_str().expect("a digest").trim_start_matches("sha256:"))
    };
    for (number, (says, harm)) in harms.iter().enumerate() {
        for (tag, what) in [("v2".to_owned(), "image"), (other.tag(".sig"), "signatures")] {
            let layout = format!("layout-{what}{number}");
            let target = format!("oci:{layout}:v1");
            image(&place, &["copy", &name, &target]).code(0);
            image(&place, &["copy", &neighbour, &format!("oci:{layout}:v2")]).code(0);
            harm(&named(&place.work().join(&layout), &tag));
            let said = ["passed over", says, &*format!("as `{tag}`")];
            image(&place, &["verify", "--key", "c.pub", &target]).code(0).stderr_has(&said);
            image(&place, &["tree", &target]).code(0).stderr_has(&said);
            let to = format!("{}/{what}{number}:v1", registry.host());
            image(&place, &["copy", &target, &to]).code(0).stderr_has(&said).stderr_has(&["2 of evidence"]);
            image(&place, &["verify", "--key", "c.pub", &to]).code(0).stderr_lacks("passed over");
            image(&place, &["save", &target, "--dir", &format!("saved-{what}{number}")]).code(0).stderr_has(&said);
            let sign =
                ["sign", "--key", "c.key", "--format", "tag", "--identity", "a.example/app", "-a", "n=1", &target];
            image(&place, &sign).code(0);
            image(&place, &["verify", "--key", "c.pub", "-a", "n=1", &target]).code(0);
            // What is not there is not in the neighbour either; and that one itself is refused.
            image(&place, &["verify", "--key", "c.pub", "-a", "n=2", &target]).code(12).stdout("").stderr_has(&said);
            image(&place, &["copy", &format!("oci:{layout}:v2"), "oci:broken"])
                .code(4)
                .stdout("")
                .stderr_has(&["not carried"]);
            // Without a name nobody knows which is meant.
            image(&place, &["digest", &format!("oci:{layout}")]).code(4).stdout("").stderr_has(&["several images"]);
        }
    }
}

/// What is under the tag of signatures in a layout, and cannot be read, hides no bundle.
#[test]
fn a_tag_of_a_layout_that_cannot_be_read_does_not_hide_the_others() {
    let place = place();
    let registry = Registry::start();
    let digest = registry.put_image("app", "v1", "a");
    let name = format!("{}/app:v1", registry.host());
    image(&place, &["sign", "--key", "c.key", &name]).code(0);
    for (number, says) in ["it is not there", "index.json says 1"].iter().enumerate() {
        let layout = place.work().join(format!("layout{number}"));
        let target = format!("oci:layout{number}:v1");
        image(&place, &["copy", &name, &target]).code(0);
        let file = layout.join("index.json");
        let mut index: Value = serde_json::from_slice(&std::fs::read(&file).expect("read")).expect("JSON");
        let tag = digest.tag(".sig");
        let entries = index["manifests"].as_array_mut().expect("a list");
        let entry = entries
            .iter_mut()
            .find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag.as_str())
            .expect("signatures");
        if number == 0 {
            let hex = entry["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
            std::fs::remove_file(layout.join("blobs/sha256").join(hex)).expect("removed");
        } else {
            entry["size"] = json!(1);
            std::fs::write(&file, index.to_string()).expect("written");
        }
        image(&place, &["verify", "--key", "c.pub", &target]).code(0).stderr_has(&["passed over", &tag, says]);
        image(&place, &["tree", &target]).code(4).stderr_has(&["passed over", says]);
        image(&place, &["copy", &target, &format!("oci:other{number}")]).code(4).stdout("").stderr_has(&[says]);
    }
}
