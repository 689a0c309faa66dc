//! What is kept about images: given out, taken away, looked through.

use std::collections::BTreeSet;

use affiant_core::image::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Ended, Place};
use crate::registry::{Asked, Door, Registry, Said};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const KIND: &str = "https://a.example/t";

/// A place with a key, and a predicate.
fn place() -> Place {
    let place = Place::without_key();
    for name in ["c.key", "d.key"] {
        place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", name]).run().code(0);
    }
    place.write("p.json", "{\"a\": 1}");
    place
}

fn image(place: &Place, args: &[&str]) -> Ended {
    place.affiant(["image"]).with(args).run()
}

/// An image that is signed and attested, in both forms each.
fn signed(place: &Place, registry: &Registry, tag: &str, seed: &str) -> (String, Digest) {
    let digest = registry.put_image("team/app", tag, seed);
    let name = format!("{}/team/app:{tag}", registry.host());
    image(place, &["sign", "--key", "c.key", "-a", &format!("tag={tag}"), &name]).code(0);
    image(place, &["attest", "--key", "c.key", "--type", KIND, "--predicate", "p.json", &name]).code(0);
    (name, digest)
}

fn lines(ended: &Ended) -> Vec<Value> {
    ended.stdout_text().lines().map(|line| serde_json::from_str(line).expect("JSON on each line")).collect()
}

#[test]
fn what_is_kept_is_given_out_as_it_is() {
    for registry in [Registry::start(), Registry::old()] {
        let place = place();
        let (name, digest) = signed(&place, &registry, "v1", "a");
        for cosign in [true, false] {
            let download = |args: &[&str]| {
                let call =
                    if cosign { place.called("cosign", ["download"]) } else { place.affiant(["image", "download"]) };
                call.with(args).with([&name]).run()
            };
            let said = lines(&download(&["signature"]).code(0));
            assert_eq!(said.len(), 2, "{said:?}");
            let members: Vec<_> = said[0].as_object().expect("an object").keys().collect();
            assert_eq!(members.len(), 6, "{members:?}");
            let payload = STANDARD.decode(said[0]["Payload"].as_str().expect("text")).expect("base64");
            assert!(String::from_utf8(payload).expect("text").contains(digest.as_str()));
            assert_eq!(said[1]["mediaType"], "application/vnd.dev.sigstore.bundle.v0.3+json");
            let said = lines(&download(&["attestation"]).code(0));
            assert_eq!(said.len(), 2, "a signature is none: {said:?}");
            assert!(said[0]["payload"].is_string() && said[1]["dsseEnvelope"]["payload"] == said[0]["payload"]);
            assert_eq!(lines(&download(&["attestation", "--predicate-type", KIND]).code(0)).len(), 2);
            download(&["attestation", "--predicate-type", "cyclonedx"]).code(10).stdout("");
            download(&["sbom"]).code(10).stdout("");
            if !cosign {
                assert_eq!(lines(&download(&["bundle"]).code(0)).len(), 2);
            }
        }
        let sbom = registry.put_blob("team/app", b"an SBOM\nof lines");
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sbom, "size": 16},
            "layers": [{"mediaType": "text/spdx", "digest": sbom, "size": 16}]});
        registry.put("team/app", Some(&digest.tag(".sbom")), MANIFEST, manifest.to_string().as_bytes());
        image(&place, &["download", "sbom", &name])
            .code(0)
            .stdout("an SBOM\nof lines")
            .stderr_has(&["nobody has signed"]);
        let absent = format!("{}/team/app:none", registry.host());
        image(&place, &["download", "signature", &absent]).code(11).stdout("");
    }
}

#[test]
fn what_is_kept_is_taken_away_by_its_kind() {
    for lists in [true, false] {
        let place = place();
        let registry = Registry::with(Door::Open, lists, None);
        let (name, digest) = signed(&place, &registry, "v1", "a");
        let (other, _) = signed(&place, &registry, "v2", "b");
        let clean = |more: &[&str]| image(&place, &[&["clean", &name][..], more].concat());
        let verify = |name: &str| image(&place, &["verify", "--key", "c.pub", name]);
        let attested = |name: &str| image(&place, &["verify-attestation", "--key", "c.pub", "--type", KIND, name]);
        // It asks, and here is nobody who answers.
        clean(&[]).code(2).stdout("").stderr_has(&["would be deleted", "hint: `--yes`"]);
        verify(&name).code(0);
        let said = clean(&["--type", "signature", "--yes"]).code(0).stdout("");
        assert_eq!(said.stderr_text().matches("deleted: signatures").count(), 2);
        verify(&name).code(10);
        attested(&name).code(0);
        let cosign = place.called("cosign", ["clean", "--type", "attestation", "-f", &name]).run();
        cosign.code(0).stderr_has(&["deleted: attestations"]);
        attested(&name).code(10);
        clean(&["--force"]).code(0).stderr_has(&["nothing to take away"]);
        // The image is there, and what is kept about another; of the first no tag is left.
        assert!(registry.manifest("team/app", "v1").is_some());
        verify(&other).code(0);
        let tags = registry.tags("team/app");
        assert!(!tags.iter().any(|tag| tag.contains(digest.hex())), "{tags:?}");
        image(&place, &["sign", "--key", "c.key", &name]).code(0);
        verify(&name).code(0);
        // What is of another kind stays, unless all that refers to it is meant.
        let config = registry.put_blob("team/app", b"{}");
        let strange = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "a/b",
            "config": {"mediaType": "a/b", "digest": config, "size": 2}, "layers": [],
            "subject": {"mediaType": MANIFEST, "digest": digest, "size": 1}});
        if lists {
            let strange = registry.put("team/app", None, MANIFEST, strange.to_string().as_bytes());
            clean(&["--yes"]).code(0).stderr_has(&["stays: a/b"]);
            assert!(registry.manifest("team/app", strange.as_str()).is_some());
            clean(&["--yes", "--type", "referrer"]).code(0);
            assert!(registry.manifest("team/app", strange.as_str()).is_none());
        }
    }
}

/// What is too long is passed over with a word, never fetched and never taken away by its kind: nobody knows what it is.
#[test]
fn what_is_too_long_is_passed_over() {
    const LONG: u64 = 128 << 20;
    const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let place = place();
    let registry = Registry::start();
    let (name, digest) = signed(&place, &registry, "v1", "a");
    let config = registry.put_blob("team/app", b"{}");
    let manifest = |kind: &str, seed: &str, size: u64| {
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": kind, "digest": Digest::of(seed.as_bytes()), "size": size}]})
    };
    let refer = |seed: &str, size: u64| {
        let mut manifest = manifest(BUNDLE, seed, size);
        manifest["subject"] = json!({"mediaType": MANIFEST, "digest": digest, "size": 1});
        registry.put("team/app", None, MANIFEST, manifest.to_string().as_bytes())
    };
    let long = refer("long", LONG + 1);
    let sbom = manifest("text/spdx", "sbom", LONG + 1).to_string();
    registry.put("team/app", Some(&digest.tag(".sbom")), MANIFEST, sbom.as_bytes());
    let said = format!("passed over: referrer {long}: {} bytes; {LONG} are read", LONG + 1);
    let download = |kind: &str| image(&place, &["download", kind, &name]);
    assert_eq!(lines(&download("bundle").code(0).stderr_has(&[&said])).len(), 2);
    assert_eq!(lines(&download("signature").code(0).stderr_has(&[&said])).len(), 2);
    let of_layer = format!("passed over: {}: {} bytes", Digest::of(b"sbom"), LONG + 1);
    download("sbom").code(10).stdout("").stderr_has(&[&of_layer]);
    image(&place, &["clean", "--yes", "--type", "signature", &name])
        .code(0)
        .stderr_has(&[&said, "deleted: signatures"]);
    assert!(registry.manifest("team/app", long.as_str()).is_some());
    let is_fetched = |seed: &str| {
        let hex = Digest::of(seed.as_bytes());
        registry.asked().iter().any(|asked| asked.path().contains(hex.hex()))
    };
    assert!(!is_fetched("long") && !is_fetched("sbom"));
    // Each is short enough, and all of them are too much: no answer, rather than a part of one.
    for number in 0..5 {
        refer(&number.to_string(), LONG);
    }
    let too_much = ["no answer", "all that is kept about"];
    download("bundle").code(4).stdout("").stderr_has(&too_much);
    image(&place, &["clean", "--yes", &name]).code(4).stderr_has(&too_much);
    image(&place, &["verify-attestation", "--key", "c.pub", "--type", KIND, &name]).code(4).stderr_has(&too_much);
}

/// Tags that look like evidence, and mean images: they stay.
#[test]
fn an_image_under_a_tag_of_evidence_stays() {
    let place = place();
    let registry = Registry::start();
    let (name, digest) = signed(&place, &registry, "v1", "a");
    let manifest = registry.manifest("team/app", "v1").expect("the image").to_string();
    let other = registry.put_image("team/app", "v2", "b");
    let theirs = registry.manifest("team/app", "v2").expect("an image").to_string();
    let image_digest = registry.put("team/app", Some(&digest.tag(".sbom")), MANIFEST, manifest.as_bytes());
    registry.put("team/app", Some(&digest.tag(".att")), MANIFEST, theirs.as_bytes());
    assert_eq!((&image_digest, registry.manifest("team/app", other.as_str()).is_some()), (&digest, true));
    // The manifest of signatures has another name as well.
    let signatures = registry.manifest("team/app", &digest.tag(".sig")).expect("signatures").to_string();
    let signatures = registry.put("team/app", Some("backup"), MANIFEST, signatures.as_bytes());
    image(&place, &["clean", "--yes", &name]).code(0).stderr_has(&["the image itself", "no layer of the media type"]);
    for there in ["v1", "v2", "backup", digest.as_str(), other.as_str(), signatures.as_str()] {
        assert!(registry.manifest("team/app", there).is_some(), "{there}");
    }
}

#[test]
fn a_registry_that_does_not_delete_is_told() {
    let place = place();
    let refusing = |asked: &Asked| (asked.method == "DELETE").then(|| Said::new(405));
    let registry = Registry::with(Door::Open, true, Some(Box::new(refusing)));
    let (name, _) = signed(&place, &registry, "v1", "a");
    image(&place, &["clean", "--yes", &name])
        .code(4)
        .stdout("")
        .stderr_has(&["was not deleted; 0 of 4", "cannot delete"]);
    image(&place, &["verify", "--key", "c.pub", &name]).code(0);
    // One that says yes and does nothing.
    let lying = |asked: &Asked| (asked.method == "DELETE").then(|| Said::new(202));
    let registry = Registry::with(Door::Open, true, Some(Box::new(lying)));
    let (name, _) = signed(&place, &registry, "v1", "a");
    image(&place, &["clean", "--yes", "--type", "signature", &name]).code(4).stderr_has(&["which is there"]);
    // A layout does.
    image(&place, &["copy", &name, "oci-archive:a.tar:v1"]).code(0);
    image(&place, &["clean", "--yes", "oci-archive:a.tar"]).code(0);
    image(&place, &["verify", "--key", "c.pub", "oci-archive:a.tar"]).code(10);
    image(&place, &["copy", "oci-archive:a.tar", &format!("{}/other/app:v1", Registry::start().host())]).code(0);
}

/// A list of referrers in which one was deleted by somebody else is refused by registries that look into it.
#[test]
fn a_list_with_what_is_gone_is_written_without_it() {
    let place = place();
    let registry = Registry::strict();
    let (name, digest) = signed(&place, &registry, "v1", "a");
    let gone: Digest = {
        let list = registry.manifest("team/app", &digest.tag("")).expect("a list");
        list["manifests"][0]["digest"].as_str().expect("a digest").parse().expect("a digest")
    };
    registry.remove("team/app", &gone);
    image(&place, &["sign", "--key", "d.key", &name]).code(0);
    image(&place, &["verify", "--key", "d.pub", &name]).code(0);
    let list = registry.manifest("team/app", &digest.tag("")).expect("a list").to_string();
    assert!(!list.contains(gone.as_str()) && list.matches("sha256:").count() == 2, "{list}");
}

/// The exit codes are cosign's: 12 for what is not demanded.
#[test]
fn files_are_attested_under_the_name_cosign() {
    let place = place();
    place.write("f", "bytes");
    place.write("g", "others");
    let cosign = |line: &str| place.called("cosign", line.split(' ')).run();
    let attest = "attest-blob --yes --tlog-upload=false --key c.key --type https://a.example/t --predicate p.json";
    cosign(&format!("{attest} --bundle b.json f")).code(0).stdout("");
    cosign(&format!("{attest} --output-signature s.json --output-attestation a.json f")).code(0).stdout("");
    let hex = Digest::of(b"bytes").hex().to_owned();
    let envelope: Value =
        serde_json::from_str(&cosign(&format!("{attest} --hash {hex} f")).code(0).stdout_text()).expect("JSON");
    let written = std::fs::read(place.work().join("a.json")).expect("written");
    assert_eq!(envelope["payload"], STANDARD.encode(&written));
    let statement: Value = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(statement["subject"], json!([{"name": "f", "digest": {"sha256": hex}}]));
    place.write("encoded", STANDARD.encode(std::fs::read(place.work().join("s.json")).expect("written")));
    let check = "verify-blob-attestation --insecure-ignore-tlog --key c.pub --type https://a.example/t";
    for from in ["--bundle b.json", "--signature s.json", "--signature encoded"] {
        cosign(&format!("{check} {from} f")).code(0).stdout("").stderr("Verified OK\n");
        cosign(&format!("{check} {from} --digest {hex} --digestAlg sha256")).code(0);
        cosign(&format!("{check} {from} g")).code(12).stderr_has(&["none of the attestation's subjects"]);
        cosign(&format!("{check} --check-claims=false {from} g")).code(0);
        cosign(&format!("verify-blob-attestation --insecure-ignore-tlog --key c.pub {from} f")).code(12);
        cosign(&format!(
            "verify-blob-attestation --insecure-ignore-tlog --key d.pub --type https://a.example/t {from} f"
        ))
        .code(12);
        cosign(&format!("verify-blob-attestation --key c.pub --type https://a.example/t {from} f"))
            .code(12)
            .stderr_has(&["log"]);
    }
    cosign(&format!("{attest} --bundle b.json")).code(2);
    cosign("attest-blob --tlog-upload=false --key c.key --statement a.json --output-signature t.json").code(0);
    cosign(&format!("{check} --signature t.json f")).code(0);
    cosign("sign-blob --yes --tlog-upload=false --key c.key --bundle m.json f").code(0);
    cosign(&format!("{check} --bundle m.json f")).code(12).stderr_has(&["no attestation"]);
    cosign("version").code(0).stdout(concat!("affiant ", env!("CARGO_PKG_VERSION"), "\n"));
    // Rule 4: a secret is not signed.
    place.write("p.json", "{\"a\": \"hunter2-hunter2-hunter2\"}");
    let secret =
        place.called("cosign", attest.split(' ')).with(["f"]).env("API_TOKEN", "hunter2-hunter2-hunter2").run();
    secret.code(1).stdout("");
}

#[test]
fn a_repository_is_looked_through() {
    for lists in [true, false] {
        let place = place();
        let registry = Registry::with(Door::Open, lists, None);
        let (_, old) = signed(&place, &registry, "v1", "a");
        signed(&place, &registry, "v2", "b");
        let (_, gone) = signed(&place, &registry, "v3", "c");
        let unsigned = registry.put_image("team/app", "v4", "d");
        // v1 is another image now, v3 is gone, v5 is signed by somebody else.
        let now = registry.put_image("team/app", "v1", "e");
        registry.remove("team/app", &gone);
        registry.untag("team/app", "v3");
        registry.put_image("team/app", "v5", "f");
        let name = format!("{}/team/app", registry.host());
        image(&place, &["sign", "--key", "d.key", "-a", "tag=v4", &format!("{name}:v5")]).code(0);
        registry.forget();
        let said = image(&place, &["audit", "--key", "c.pub", "-o", "json", &name]).code(0);
        let found: Value = serde_json::from_str(&said.stdout_text()).expect("JSON");
        let of_images: Vec<_> = found["images"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| (one["tag"].as_str().expect("text"), one["signed"].as_bool().expect("a truth")))
            .collect();
        assert_eq!(of_images, [("v1", false), ("v2", true), ("v4", false), ("v5", false)]);
        assert_eq!(found["replaced"], json!([{"tag": "v1", "was": old, "now": now, "signed": false}]));
        assert_eq!(found["untagged"][0]["digest"], old.as_str());
        assert_eq!(found["untagged"].as_array().map(Vec::len), Some(1));
        assert_eq!(found["orphaned"][0]["digest"], gone.as_str());
        assert_eq!(found["orphaned"].as_array().map(Vec::len), Some(1));
        let tags = found["orphaned"][0]["tags"].as_array().expect("a list").len();
        assert_eq!(tags, if lists { 2 } else { 3 }, "the list of referrers is one too");
        assert!(registry.asked().iter().all(|asked| asked.method == "GET" || asked.method == "HEAD"));
        // Not checked, all counts: what somebody else says of v4 too.
        let said = image(&place, &["audit", &name]).code(0).stdout_text();
        assert!(said.starts_with(&format!("{name}: 4 tags, 2 signed (not checked), 2 unsigned, 2 replaced")), "{said}");
        assert!(said.contains("replaced  v4 was") && said.contains(unsigned.as_str()), "{said}");
        let said = image(&place, &["audit", "--key", "c.pub", "-o", "prometheus", &name]).code(0).stdout_text();
        for line in said.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            assert!(series.starts_with("affiant_") && series.ends_with('}') && value.parse::<u64>().is_ok(), "{line}");
        }
        assert!(said.contains(&format!("affiant_repository_orphaned{{repository=\"{name}\"}} 1\n")), "{said}");
        image(&place, &["audit", &format!("{name}:v1")]).code(2);
        image(&place, &["audit", "--fail", &name]).code(1);
        // A layout is looked through as well.
        image(&place, &["copy", &format!("{name}:v2"), "oci:l:v2"]).code(0);
        let said = image(&place, &["audit", "--fail", "--key", "c.pub", "oci:l"]).code(0).stdout_text();
        assert!(said.contains("(1 signatures, 1 attestations)"), "one signature in two forms: {said}");
        assert!(
            said.starts_with("oci:l: 1 tags, 1 signed (by the key), 0 unsigned, 0 replaced, 0 untagged, 0 orphaned\n"),
            "{said}"
        );
    }
}

/// A layout has after cleaning what it had before it was signed; another image of it keeps all that it has.
#[test]
fn cleaning_a_layout_leaves_no_blobs_behind() {
    let place = place();
    let registry = Registry::start();
    for (tag, seed) in [("v1", "a"), ("v2", "b")] {
        registry.put_image("team/app", tag, seed);
        image(&place, &["copy", &format!("{}/team/app:{tag}", registry.host()), &format!("oci:layout:{tag}")]).code(0);
    }
    let blobs = || -> BTreeSet<String> {
        let folder = std::fs::read_dir(place.work().join("layout/blobs/sha256")).expect("a folder");
        folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
    };
    let before = blobs();
    let keep = |name: &str, key: &str| {
        let identity = ["--key", key, "--identity", "a.example/app"];
        image(&place, &[&["sign"], &identity[..], &[name]].concat()).code(0);
        let attest = ["attest", "--type", KIND, "--predicate", "p.json"];
        image(&place, &[&attest[..], &identity, &[name]].concat()).code(0);
    };
    keep("oci:layout:v2", "c.key");
    let of_other = blobs();
    keep("oci:layout:v1", "c.key");
    assert!(blobs().len() >= of_other.len() + 8, "manifests, configs, payloads");
    // One kind of it, then the rest.
    image(&place, &["clean", "--yes", "--type", "signature", "oci:layout:v1"])
        .code(0)
        .stderr_has(&["blobs that nothing"]);
    let type_of = ["verify-attestation", "--key", "c.pub", "--type", KIND];
    for name in ["oci:layout:v1", "oci:layout:v2"] {
        image(&place, &[&type_of[..], &[name]].concat()).code(0);
    }
    image(&place, &["clean", "--yes", "oci:layout:v1"]).code(0);
    assert_eq!(blobs(), of_other);
    image(&place, &["verify", "--key", "c.pub", "oci:layout:v2"]).code(0);
    image(&place, &["clean", "--yes", "oci:layout:v2"]).code(0);
    let empty = Digest::of(b"{}").hex().to_owned();
    assert_eq!(blobs().into_iter().filter(|name| *name != empty).collect::<BTreeSet<_>>(), before);
    for tag in ["v1", "v2"] {
        image(&place, &["copy", &format!("oci:layout:{tag}"), &format!("oci:other:{tag}")]).code(0);
    }
    // Where something cannot be read, nobody knows what it needs: it is said.
    keep("oci:layout:v1", "c.key");
    let digest = image(&place, &["digest", "oci:layout:v2"]).code(0).stdout_text();
    let hex = digest.trim().rsplit(':').next().expect("a digest").to_owned();
    std::fs::remove_file(place.work().join("layout/blobs/sha256").join(&hex)).expect("removed");
    image(&place, &["clean", "--yes", "oci:layout:v1"]).code(0).stderr_has(&["note: blobs stay in oci:layout", &hex]);
    assert!(blobs().len() > before.len());
}

/// `attest --replace` takes away what the same key has said before, of the same type, and nothing else; in every place.
#[test]
fn a_replaced_attestation_is_gone_as_a_bundle_too() {
    for lists in [true, false] {
        let place = place();
        let registry = Registry::with(Door::Open, lists, None);
        registry.put_image("team/app", "v1", "a");
        let name = format!("{}/team/app:v1", registry.host());
        image(&place, &["copy", &name, "oci:layout:v1"]).code(0);
        image(&place, &["copy", &name, "oci-archive:a.tar:v1"]).code(0);
        for (name, forms) in
            [(&*name, "tag,bundle"), (&name, "bundle"), ("oci:layout:v1", "bundle"), ("oci-archive:a.tar:v1", "bundle")]
        {
            image(&place, &["clean", "--yes", name]).code(0);
            let attest = |key: &str, kind: &str, value: &str, more: &[&str]| {
                place.write("p.json", format!("{{\"a\": {value}}}"));
                let call = ["attest", "--key", key, "--type", kind, "--predicate", "p.json", "--format", forms];
                image(&place, &[&call[..], &["--identity", "a.example/app"], more, &[name]].concat()).code(0)
            };
            let said = |key: &str, kind: &str| {
                let ended = image(&place, &["verify-attestation", "--key", key, "--type", kind, name]).code(0);
                let mut values: Vec<Value> = lines(&ended)
                    .iter()
                    .map(|line| {
                        let payload = STANDARD.decode(line["payload"].as_str().expect("text")).expect("base64");
                        serde_json::from_slice::<Value>(&payload).expect("JSON")["predicate"]["a"].clone()
                    })
                    .collect();
                values.sort_by_key(ToString::to_string);
                values
            };
            let other = "https://a.example/other";
            attest("c.key", KIND, "1", &[]);
            attest("c.key", KIND, "2", &[]);
            attest("c.key", other, "3", &[]);
            attest("d.key", KIND, "4", &[]);
            assert_eq!(said("c.pub", KIND), [json!(1), json!(2)], "{name}");
            let told = attest("c.key", KIND, "5", &["--replace"]);
            assert_eq!(told.stderr_text().matches("replaced: the bundle").count(), 2, "{name}: {}", told.stderr_text());
            told.stderr_has(&["stay: 1 of this type, signed by other keys"]);
            assert_eq!(said("c.pub", KIND), [json!(5)], "{name}");
            assert_eq!(said("c.pub", other), [json!(3)], "{name}");
            if forms == "bundle" {
                assert_eq!(said("d.pub", KIND), [json!(4)], "{name}");
            }
            // Again, with nothing to replace but that one; what is kept about it is in order.
            let told = attest("c.key", KIND, "6", &["--replace"]);
            assert_eq!(told.stderr_text().matches("replaced: the bundle").count(), 1, "{name}: {}", told.stderr_text());
            assert_eq!(said("c.pub", KIND), [json!(6)], "{name}");
            image(&place, &["tree", name]).code(0).stderr("");
            image(&place, &["copy", name, "oci:copied"]).code(0).stderr_lacks("passed over");
        }
    }
}

/// Where a registry does not delete, what stays is named, or at least out of the list that writers keep.
#[test]
fn what_cannot_be_replaced_is_named() {
    for lists in [true, false] {
        let place = place();
        let refusing = |asked: &Asked| (asked.method == "DELETE").then(|| Said::new(405));
        let registry = Registry::with(Door::Open, lists, Some(Box::new(refusing)));
        registry.put_image("team/app", "v1", "a");
        let name = format!("{}/team/app:v1", registry.host());
        let attest = |value: &str, more: &[&str]| {
            place.write("p.json", format!("{{\"a\": {value}}}"));
            let call = ["attest", "--key", "c.key", "--type", KIND, "--predicate", "p.json", "--format", "bundle"];
            image(&place, &[&call[..], more, &[&name]].concat()).code(0)
        };
        attest("1", &[]);
        let told = attest("2", &["--replace"]);
        let count =
            lines(&image(&place, &["verify-attestation", "--key", "c.pub", "--type", KIND, &name]).code(0)).len();
        if lists {
            told.stderr_has(&["the earlier bundle", "stays, and counts beside the new one", "cannot delete"]);
            assert_eq!(count, 2);
        } else {
            told.stderr_has(&["replaced: the bundle"]);
            assert_eq!(count, 1);
        }
    }
}
