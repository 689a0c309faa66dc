//! Images: signed, attested and checked in registries of both kinds, through all doors.

use std::path::{Path, PathBuf};

use affiant_core::image::Digest;
use serde_json::{Value, json};

use crate::harness::{Ended, Place};
use crate::registry::{Asked, Door, PASSWORD, Registry, Said, USER};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cosign")
}

/// A place with a key `c.key` in the clear and `c.pub`.
fn place() -> Place {
    let place = Place::without_key();
    key(&place, "p256", "c");
    place
}

fn key(place: &Place, kind: &str, name: &str) {
    let file = format!("{name}.key");
    place.affiant(["key", "generate", "--kind", kind, "--no-password", "-o", &file]).run().code(0);
}

fn json_of(ended: &Ended) -> Vec<Value> {
    let text = ended.stdout_text();
    assert!(text.ends_with('\n'), "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("not exactly one JSON array: {error}: {text}"))
}

fn sign(place: &Place, image: &str, more: &[&str]) -> Ended {
    place.affiant(["image", "sign", "--key", "c.key"]).with(more).with([image]).run()
}

fn verify(place: &Place, image: &str, more: &[&str]) -> Ended {
    place.affiant(["image", "verify", "--key", "c.pub"]).with(more).with([image]).run()
}

/// Puts a recorded layout into a registry.
pub(crate) fn load(registry: &Registry, layout: &Path, repository: &str) {
    for blob in std::fs::read_dir(layout.join("blobs/sha256")).expect("a layout").flatten() {
        registry.put_blob(repository, &std::fs::read(blob.path()).expect("a blob"));
    }
    let index = std::fs::read(layout.join("index.json")).expect("an index");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    for entry in index["manifests"].as_array().expect("a list") {
        let hex = entry["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
        let bytes = std::fs::read(layout.join("blobs/sha256").join(hex)).expect("a manifest");
        let tag = entry["annotations"]["org.opencontainers.image.ref.name"].as_str();
        registry.put(repository, tag, entry["mediaType"].as_str().expect("a type"), &bytes);
    }
}

/// Each recorded check, word for word under the name `cosign`.
#[test]
fn recorded_checks_end_as_recorded() {
    let (new, old) = (Registry::start(), Registry::old());
    for layout in std::fs::read_dir(fixtures().join("layouts")).expect("layouts").flatten() {
        let name = layout.file_name().into_string().expect("text");
        for registry in [&new, &old] {
            load(registry, &layout.path(), &format!("vec/{name}"));
        }
    }
    let place = Place::without_key();
    for folder in ["keys", "predicates", "bundles"] {
        for file in std::fs::read_dir(fixtures().join(folder)).expect("a folder").flatten() {
            std::fs::copy(file.path(), place.work().join(file.file_name())).expect("copies");
        }
    }
    let records = std::fs::read(fixtures().join("records.json")).expect("records");
    let records: Vec<Value> = serde_json::from_slice(&records).expect("JSON");
    assert_eq!(records.len(), 142);
    // Where affiant differs, it says why.
    let differing =
        |record: &&Value| record["affiant"].as_bool().is_some_and(|ours| Some(ours) != record["expect"].as_bool());
    assert_eq!(records.iter().filter(differing).count(), 8);
    let mut wrong = Vec::new();
    for record in &records {
        let text = |member: &str| record[member].as_str().expect("text").to_owned();
        let line = text("cmd")
            .replace("$TRUST", &fixtures().join("trust").display().to_string())
            .replace("$VEC", &fixtures().display().to_string())
            .replace("127.0.0.1:5001", &new.host())
            .replace("127.0.0.1:5000", &old.host());
        let ended = place.called("cosign", line.split(' ')).run();
        let expected = record["affiant"].as_bool().or(record["expect"].as_bool()).expect("a truth");
        assert!(record["affiant"].is_null() || record["why"].is_string());
        if (ended.exit_code() == 0) != expected {
            wrong.push(format!("{}: {}: {}", text("case"), text("what"), ended.stderr_text()));
        } else if expected && line.starts_with("verify ") {
            json_of(&ended);
        } else if !expected {
            assert_eq!(ended.stdout_text(), "", "{line}");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // RSA of cosign's is PKCS#1 v1.5; the key of another is refused.
    let image = format!("{}/vec/keyed-bundle-rsa3072:v1", new.host());
    place.affiant(["image", "verify", "--key", "rsa3072.pub", &image]).run().code(0);
    place.affiant(["image", "verify", "--key", "cosign.pub", &image]).run().code(12).stdout("");
}

#[test]
fn signed_and_checked_in_every_registry_through_every_door() {
    for door in [Door::Open, Door::Password, Door::Token] {
        for referrers in [true, false] {
            let registry = Registry::with(door, referrers, None);
            let digest = registry.put_image("team/app", "v1", "a");
            registry.put_image("team/app", "v2", "b");
            let place = place();
            let host = registry.host();
            let (image, other) = (format!("{host}/team/app:v1"), format!("{host}/team/app:v2"));
            if door != Door::Open {
                sign(&place, &image, &[]).code(4).stdout("").stderr_has(&["no answer", "no password for"]);
                let auth = json!({"auths": {host.as_str(): {"username": USER, "password": PASSWORD}}}).to_string();
                std::fs::create_dir_all(place.beside("home/.docker")).expect("makes a folder");
                std::fs::write(place.beside("home/.docker/config.json"), auth).expect("writes");
            }
            let said = sign(&place, &image, &["-a", "tag=v1", "-a", "by=Doe, Jane"]).code(0).stdout("");
            assert!(said.stderr_text().contains(".sig") && said.stderr_text().contains("bundle"));
            let fallback = registry.tags("team/app").contains(&digest.tag(""));
            assert_eq!(fallback, !referrers, "{door:?}");
            let checked = verify(&place, &image, &["-a", "by=Doe, Jane", "-a", "tag=v1"]).code(0);
            let payloads = json_of(&checked);
            assert_eq!(payloads.len(), 1, "one signature in two forms is one");
            assert_eq!(payloads[0]["critical"]["image"]["docker-manifest-digest"], digest.as_str());
            assert_eq!(payloads[0]["optional"], json!({"by": "Doe, Jane", "tag": "v1"}));
            assert_eq!(
                checked.stderr_text(),
                format!(
                    "\nVerification for {host}/team/app@{digest} --\nThe following checks were performed on each of these signatures:\n  - The cosign claims were validated\n  - The signatures were verified against the specified public key\n"
                )
            );
            verify(&place, &image, &["-a", "tag=v2"])
                .code(12)
                .stdout("")
                .stderr_has(&["missing or incorrect annotation"]);
            verify(&place, &other, &[]).code(10).stdout("").stderr_has(&["no signatures found"]);
            verify(&place, &format!("{host}/team/app:v3"), &[]).code(11).stdout("");
            key(&place, "p256", "d");
            place.affiant(["image", "verify", "--key", "d.pub", &image]).run().code(12).stdout("");
            // Signing again changes nothing.
            let before = registry.manifest("team/app", &digest.tag(".sig"));
            sign(&place, &image, &["-a", "tag=v1", "-a", "by=Doe, Jane"]).code(0).stderr_has(&["already in"]);
            assert_eq!(registry.manifest("team/app", &digest.tag(".sig")), before);
        }
    }
}

#[test]
fn every_kind_of_key_signs_images() {
    let registry = Registry::start();
    registry.put_image("app", "v1", "a");
    let place = Place::without_key();
    let image = format!("{}/app:v1", registry.host());
    for kind in ["p256", "p384", "p521", "ed25519", "rsa2048"] {
        key(&place, kind, kind);
        let (private, public) = (format!("{kind}.key"), format!("{kind}.pub"));
        place.affiant(["image", "sign", "--key", &private, "-a", &format!("k={kind}"), &image]).run().code(0);
        let said = place.affiant(["image", "verify", "--key", &public, &image]).run().code(0);
        assert_eq!(json_of(&said)[0]["optional"]["k"], kind);
    }
}

/// A signature of one image, put beside another in each form, and one whose bytes were changed, is none.
#[test]
fn tampered_and_moved_signatures_are_refused_in_every_form() {
    for referrers in [true, false] {
        for form in [
            &["--format", "tag"][..],
            &["--format", "tag", "--registry-referrers-mode", "oci-1-1"],
            &["--format", "bundle"],
        ] {
            let registry = Registry::with(Door::Open, referrers, None);
            let first = registry.put_image("app", "v1", "a");
            let second = registry.put_image("app", "v2", "b");
            let place = place();
            let (image, other) = (format!("{}/app:v1", registry.host()), format!("{}/app:v2", registry.host()));
            sign(&place, &image, form).code(0);
            verify(&place, &image, &[]).code(0);
            verify(&place, &other, &[]).code(10);
            let under_tag = registry.manifest("app", &first.tag(".sig"));
            let kept = under_tag.clone().unwrap_or_else(|| {
                let digest = registry.manifest_about("app", &first).expect("a referrer");
                registry.manifest("app", digest.as_str()).expect("it is there")
            });
            // Moved.
            let mut moved = kept.clone();
            if under_tag.is_some() {
                registry.put("app", Some(&second.tag(".sig")), MANIFEST, moved.to_string().as_bytes());
            } else {
                moved["subject"] = json!({"mediaType": MANIFEST, "digest": second, "size": 1});
                let bytes = moved.to_string();
                let digest = registry.put("app", None, MANIFEST, bytes.as_bytes());
                let list = json!({"schemaVersion": 2, "mediaType": INDEX,
                    "manifests": [{"mediaType": MANIFEST, "digest": digest, "size": bytes.len()}]});
                registry.put("app", Some(&second.tag("")), INDEX, list.to_string().as_bytes());
            }
            verify(&place, &other, &[]).code(12).stdout("").stderr_has(&["another image"]);
            // Spoilt: the bytes have another digest.
            let layer: Digest = kept["layers"][0]["digest"].as_str().expect("a digest").parse().expect("a digest");
            registry.spoil("app", &layer);
            verify(&place, &image, &[]).code(12).stdout("").stderr_has(&["passed over", layer.as_str()]);
        }
    }
}

/// Cosign v3 counts any bundle by the key; here only a signature is one.
#[test]
fn an_attestation_is_not_a_signature() {
    let registry = Registry::start();
    let digest = registry.put_image("app", "v1", "a");
    let place = place();
    let image = format!("{}/app@{digest}", registry.host());
    place.write("p.json", "{\"a\": 1}");
    let attest = |more: &[&str]| {
        place
            .affiant(["image", "attest", "--key", "c.key", "--predicate", "p.json"])
            .with(more)
            .with([image.as_str()])
            .run()
    };
    attest(&["--type", "https://a.example/t"]).code(0).stdout("");
    verify(&place, &image, &[]).code(10).stdout("");
    // Not under the tag of signatures, either.
    let attested = registry.manifest("app", &digest.tag(".att")).expect("attested");
    registry.put("app", Some(&digest.tag(".sig")), MANIFEST, attested.to_string().as_bytes());
    verify(&place, &image, &[]).code(12).stdout("");
    attest(&["--type", "https://sigstore.dev/cosign/sign/v1"]).code(2);
    sign(&place, &image, &[]).code(0);
    let check = |more: &[&str]| {
        place.affiant(["image", "verify-attestation", "--key", "c.pub"]).with(more).with([image.as_str()]).run()
    };
    let said = check(&["--type", "https://a.example/t"]).code(0);
    assert_eq!(said.stdout_text().lines().count(), 1, "each statement once: {}", said.stdout_text());
    assert!(serde_json::from_str::<Value>(&said.stdout_text()).expect("an envelope")["payload"].is_string());
    check(&["--type", "cyclonedx"]).code(12).stdout("").stderr_has(&["found: https://a.example/t"]);
    // Policies.
    place.write("yes.rego", "package signature\nallow { input.predicate.a == 1 }");
    place.write("no.rego", "package signature\nallow { input.predicate.b == 1 }");
    place.write("other.rego", "package other\nallow { true }");
    place.write("p.cue", "a: 1");
    let of = ["--type", "https://a.example/t", "--policy"];
    check(&[&of[..], &["yes.rego"]].concat()).code(0);
    check(&[&of[..], &["no.rego"]].concat()).code(1).stdout("");
    check(&[&of[..], &["other.rego"]].concat())
        .code(4)
        .stdout("")
        .stderr_has(&["other.rego has no package `signature`", "the package other"]);
    check(&[&of[..], &["yes.rego", "--policy", "no.rego"]].concat()).code(1).stdout("");
    check(&[&of[..], &["p.cue"]].concat()).code(2).stdout("").stderr_has(&["CUE"]);
    // One that fails is enough.
    place.write("p.json", "{\"a\": 2}");
    attest(&["--type", "https://a.example/t"]).code(0);
    check(&[&of[..], &["yes.rego"]].concat()).code(1).stdout("");
    // `--replace` takes the place of those under the tag, and of no other type.
    attest(&["--type", "https://a.example/u"]).code(0);
    attest(&["--type", "https://a.example/t", "--replace", "--format", "tag"]).code(0);
    let layers = registry.manifest("app", &digest.tag(".att")).expect("attested")["layers"].clone();
    let kinds: Vec<_> =
        layers.as_array().expect("a list").iter().map(|one| &one["annotations"]["predicateType"]).collect();
    assert_eq!(kinds, ["https://a.example/u", "https://a.example/t"]);
}

#[test]
fn a_log_that_is_demanded_is_not_forgotten() {
    let registry = Registry::start();
    registry.put_image("app", "v1", "a");
    let place = place();
    let image = format!("{}/app:v1", registry.host());
    sign(&place, &image, &[]).code(0);
    let root = fixtures().join("trust/trusted_root.json").display().to_string();
    let log = ["no log entry", "hint: signatures of keys need no log"];
    verify(&place, &image, &["--trusted-root", &root]).code(12).stdout("").stderr_has(&log);
    verify(&place, &image, &["--rekor-url", "https://rekor.example"]).code(12).stdout("").stderr_has(&log);
    verify(&place, &image, &["--insecure-ignore-tlog=false"]).code(12).stdout("").stderr_has(&log);
    verify(&place, &image, &["--trusted-root", &root, "--insecure-ignore-tlog"]).code(0);
    verify(&place, &image, &["--trusted-root", &root, "--insecure-ignore-tlog", "--use-signed-timestamps"])
        .code(12)
        .stdout("")
        .stderr_has(&["no timestamp"]);
    // Under cosign's name a log is demanded as cosign does.
    let cosign =
        |more: &[&str]| place.called("cosign", ["verify", "--key", "c.pub"]).with(more).with([image.as_str()]).run();
    cosign(&[]).code(12).stdout("").stderr_has(&log);
    cosign(&["--private-infrastructure"]).code(0);
    cosign(&["--insecure-ignore-tlog=true"]).code(0);
    let keyless = place.called("cosign", ["verify", "--certificate-identity", "x", &image]).run().code(2).stdout("");
    keyless.stderr_has(&["which issuer", "--certificate-oidc-issuer URL"]);
    place.called("cosign", ["sign", "--yes", &image]).run().code(4).stderr_has(&["there is no identity token"]);
    // Trust is not taken from the environment.
    let env = place.affiant(["image", "verify", &image]).env("AFFIANT_KEY", "c.pub").run();
    env.code(2).stdout("");
}

#[test]
fn an_index_is_signed_with_its_manifests_or_without() {
    let registry = Registry::start();
    let (one, two) = (registry.put_image("app", "one", "a"), registry.put_image("app", "two", "b"));
    let entry = |digest: &Digest| json!({"mediaType": MANIFEST, "digest": digest, "size": 395});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&one), entry(&two)]});
    registry.put("app", Some("v1"), INDEX, index.to_string().as_bytes());
    let place = place();
    let host = registry.host();
    let image = format!("{host}/app:v1");
    sign(&place, &image, &[]).code(0);
    verify(&place, &image, &[]).code(0);
    verify(&place, &format!("{host}/app@{one}"), &[]).code(10);
    sign(&place, &image, &["-r"]).code(0);
    for digest in [one, two] {
        verify(&place, &format!("{host}/app@{digest}"), &[]).code(0);
    }
}

/// What `BuildKit` says of a build is no image: `-r` signs the index and what a machine may run.
#[test]
fn the_attestations_of_a_build_are_not_signed_with_an_index() {
    let registry = Registry::start();
    let digests = ["a", "b", "c"].map(|seed| registry.put_image("app", seed, seed));
    let entry = |digest: &Digest, more: Value| {
        let mut entry = json!({"mediaType": MANIFEST, "digest": digest, "size": 395});
        entry.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        entry
    };
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        entry(&digests[0], json!({"platform": {"os": "linux", "architecture": "amd64"}})),
        entry(&digests[1], json!({"platform": {"os": "unknown", "architecture": "unknown"}})),
        entry(&digests[2], json!({"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}))]});
    let bytes = index.to_string();
    let root = registry.put("app", Some("v1"), INDEX, bytes.as_bytes());
    let place = place();
    let image = format!("{}/app:v1", registry.host());
    sign(&place, &image, &["-r"]).code(0);
    place.write("p.json", "{}");
    let attest = ["image", "attest", "--key", "c.key", "-r", "--type", "a:b", "--predicate", "p.json", &image];
    place.affiant(attest).run().code(0);
    let tags = registry.tags("app");
    let mut wanted: Vec<String> = ["a", "b", "c", "v1"].map(str::to_owned).into();
    wanted.extend([&root, &digests[0]].iter().flat_map(|digest| [digest.tag(".att"), digest.tag(".sig")]));
    wanted.sort();
    assert_eq!(tags, wanted);
    assert_eq!(registry.manifest("app", "v1").expect("there").to_string(), bytes, "the index is as it was");
}

/// Security rule 4: whatever is signed is public, wherever in it a secret stands.
#[test]
fn what_holds_a_secret_is_not_signed() {
    const SECRET: &str = "Zx9canary4Qw7Lm2Pt8Rk";
    let registry = Registry::start();
    registry.put_image("app", "v1", "a");
    registry.put_image(&format!("team/{}", SECRET.to_lowercase()), "v1", "a");
    let place = place();
    let image = format!("{}/app:v1", registry.host());
    place.write("p.json", "{}");
    place.write("secret.json", format!("{{\"a\": \"{SECRET}\"}}"));
    let (name, value) = (format!("{SECRET}=x"), format!("x={SECRET}"));
    let identity = format!("registry.example/team/{SECRET}");
    let named = format!("{}/team/{}:v1", registry.host(), SECRET.to_lowercase());
    let attest = ["attest", "--key", "c.key", "--type", "a:b", "--predicate"];
    let calls: [&[&str]; 9] = [
        &["sign", "--key", "c.key", "-a", &name, &image],
        &["sign", "--key", "c.key", "-a", &value, &image],
        &["sign", "--key", "c.key", "--format", "bundle", "-a", &name, &image],
        &["sign", "--key", "c.key", "--sign-container-identity", &identity, &image],
        &["sign", "--key", "c.key", &named],
        &[attest[0], attest[1], attest[2], attest[3], attest[4], attest[5], "secret.json", &image],
        &[attest[0], attest[1], attest[2], attest[3], attest[4], attest[5], "p.json", "--identity", &identity, &image],
        &[attest[0], attest[1], attest[2], attest[3], attest[4], attest[5], "p.json", &named],
        &[
            "attest",
            "--key",
            "c.key",
            "--type",
            &format!("https://a.example/{SECRET}"),
            "--predicate",
            "p.json",
            &image,
        ],
    ];
    for call in calls {
        let of = if call.contains(&named.as_str()) { SECRET.to_lowercase() } else { SECRET.to_owned() };
        let ended = place.affiant(["image"]).with(call).env("MY_TOKEN", &of).run().code(1).stdout("");
        let said = ended.stderr_has(&["holds the value of the secret variable MY_TOKEN"]).stderr_text();
        let file = call.contains(&"secret.json");
        assert!(said.contains(if file { "error: secret.json holds" } else { "image's name" }), "{call:?}: {said}");
        assert!(!said.contains(&of), "{call:?}: {said}");
    }
    assert_eq!(registry.tags("app"), ["v1"]);
    assert_eq!(registry.tags(&format!("team/{}", SECRET.to_lowercase())), ["v1"]);
    sign(&place, &image, &["-a", "x=y"]).code(0);
}

/// Nothing is said to be kept in an archive before it is there.
#[test]
fn what_an_archive_has_is_said_when_it_is_written() {
    let registry = Registry::start();
    registry.put_image("app", "v1", "a");
    let place = place();
    place.write("p.json", "{}");
    let image = format!("{}/app:v1", registry.host());
    place.affiant(["image", "copy", &image, "oci-archive:a.tar:v1"]).run().code(0);
    std::os::unix::fs::symlink("a.tar", place.work().join("link.tar")).expect("links");
    let before = std::fs::read(place.work().join("a.tar")).expect("read");
    let identity = ["--identity", "a.example/app"];
    let sign = ["image", "sign", "--key", "c.key"];
    let attest = ["image", "attest", "--key", "c.key", "--type", "a:b", "--predicate", "p.json"];
    for verb in [&sign[..], &attest] {
        let linked = place.affiant(verb).with(identity).with(["oci-archive:link.tar:v1"]).run();
        let said = linked.code(4).stdout("").stderr_has(&["it is a link"]).stderr_text();
        assert!(!said.contains("kept as"), "{said}");
        // A disk that is full: no file grows above 4 blocks.
        let line = format!(
            "trap '' XFSZ; ulimit -f 8; exec '{}' {} {} oci-archive:a.tar:v1",
            env!("CARGO_BIN_EXE_affiant"),
            verb.join(" "),
            identity.join(" ")
        );
        let full = place.command("sh", ["-c", &line]).run().code(4).stdout("");
        let said = full.stderr_has(&["a.tar: no answer"]).stderr_text();
        assert!(!said.contains("kept as"), "{said}");
    }
    assert_eq!(std::fs::read(place.work().join("a.tar")).expect("read"), before);
    let ended = place.affiant(sign).with(identity).with(["oci-archive:a.tar:v1"]).run().code(0);
    ended.stderr_has(&["signed: oci-archive:a.tar@", "kept as bundle oci-archive:a.tar@"]);
}

/// A key that cannot be written leaves nothing that is in the way of the next attempt.
#[test]
fn half_a_pair_of_keys_is_not_left() {
    let place = Place::without_key();
    let program = env!("CARGO_BIN_EXE_affiant");
    let line = |call: &str| format!("trap '' XFSZ; ulimit -f 0; COSIGN_PASSWORD= exec '{program}' {call}");
    for call in ["image generate-key-pair", "key generate --no-password -o k.pem"] {
        let ended = place.command("sh", ["-c", &line(call)]).run().code(4).stdout("");
        ended.stderr_has(&["cannot be written"]);
    }
    let left: Vec<_> = std::fs::read_dir(place.work()).expect("a folder").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    let cosign = || place.affiant(["image", "generate-key-pair"]).env("COSIGN_PASSWORD", "").run();
    cosign().code(0);
    cosign().code(2).stderr_has(&["--output-key-prefix PREFIX", "never overwritten"]);
}

/// SPDX as text is kept where a text may be: readers of bundles take objects.
#[test]
fn a_predicate_that_is_a_text_is_in_no_bundle() {
    let registry = Registry::start();
    let digest = registry.put_image("app", "v1", "a");
    let place = place();
    let image = format!("{}/app:v1", registry.host());
    place.write("sbom.spdx", "SPDXVersion: SPDX-2.3\n");
    let attest = |kind: &str, more: &[&str]| {
        let args = ["image", "attest", "--key", "c.key", "--type", kind, "--predicate", "sbom.spdx"];
        place.affiant(args).with(more).with([&image]).run()
    };
    let note = ["readers of bundles take a JSON object", "--type spdxjson"];
    attest("spdx", &["--format", "bundle"]).code(2).stdout("").stderr_has(&note);
    assert_eq!(registry.tags("app"), ["v1"]);
    attest("spdx", &[]).code(0).stderr_has(&["note: no bundle is written", note[0], note[1]]);
    assert!(
        registry.manifest("app", &digest.tag(".att")).is_some() && registry.manifest_about("app", &digest).is_none()
    );
    place.affiant(["image", "verify-attestation", "--key", "c.pub", "--type", "spdx", &image]).run().code(0);
    place.write("sbom.spdx", "{}");
    let ended = attest("spdxjson", &[]).code(0);
    assert!(!ended.stderr_text().contains("note: no bundle"));
    assert!(registry.manifest_about("app", &digest).is_some());
    let blob = ["image", "attest-blob", "--key", "c.key", "--type", "spdx", "--predicate", "sbom.spdx"];
    place.affiant(blob).with(["--bundle", "b.json", "sbom.spdx"]).run().code(0).stderr_has(&["note: ", note[0]]);
}

/// A flag that another one makes mean nothing is refused; under cosign's name it is said.
#[test]
fn flags_that_would_be_passed_over_are_refused() {
    let registry = Registry::start();
    registry.put_image("app", "v1", "a");
    let place = place();
    let image = format!("{}/app:v1", registry.host());
    sign(&place, &image, &["-a", "tag=1"]).code(0);
    let unheeded = ["--check-claims=false", "-a", "tag=2"];
    verify(&place, &image, &unheeded).code(2).stdout("").stderr_has(&["the annotations that are demanded"]);
    verify(&place, &image, &["--check-claims=false"]).code(0);
    let cosign = place.called("cosign", ["verify", "--key", "c.pub", "--private-infrastructure"]);
    cosign.with(unheeded).with([&image]).run().code(0).stderr_has(&["note: --check-claims=false"]);
    let mode = ["--format", "bundle", "--registry-referrers-mode", "oci-1-1"];
    sign(&place, &image, &mode).code(2).stdout("").stderr_has(&["--registry-referrers-mode", "`--format bundle`"]);
    sign(&place, &image, &["--format", "tag", "--registry-referrers-mode", "oci-1-1"]).code(0);
    let cosign = place.called("cosign", ["sign", "--yes", "--tlog-upload=false", "--key", "c.key"]);
    cosign.with(mode).with([&image]).run().code(0).stderr_has(&["note: --registry-referrers-mode"]);
}

/// A file that is missing is no answer about what is signed, for both kinds of it.
#[test]
fn a_bundle_that_is_missing_is_no_answer() {
    let place = place();
    place.write("f", "x");
    for verb in ["verify-blob", "verify-blob-attestation"] {
        let call = ["image", verb, "--key", "c.pub", "--bundle", "missing.json", "f"];
        place.affiant(call).run().code(4).stdout("").stderr_has(&["missing.json"]);
        place.write("broken.json", "{}");
        let call = ["image", verb, "--key", "c.pub", "--bundle", "broken.json", "f"];
        place.affiant(call).run().code(12).stdout("").stderr_has(&["broken.json"]);
    }
}

/// Junk among the referrers is passed over with a reason; the good one beside it counts.
#[test]
fn hostile_referrers_are_passed_over() {
    let registry = Registry::start();
    let digest = registry.put_image("app", "v1", "a");
    let place = place();
    let image = format!("{}/app:v1", registry.host());
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let deep = "[".repeat(100_000);
    for junk in ["not json", "{}", deep.as_str(), "\u{1b}[2J"] {
        let layer = registry.put_blob("app", junk.as_bytes());
        let empty = registry.put_blob("app", b"{}");
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
            "layers": [{"mediaType": kind, "digest": layer, "size": junk.len()}],
            "subject": {"mediaType": MANIFEST, "digest": digest, "size": 1}});
        registry.put("app", None, MANIFEST, manifest.to_string().as_bytes());
    }
    verify(&place, &image, &[]).code(12).stdout("").stderr_has(&["passed over: referrer sha256:", "bundle malformed"]);
    sign(&place, &image, &["--format", "bundle", "-a", "k=v"]).code(0);
    let said = verify(&place, &image, &["-a", "k=v"]).code(0).stderr_has(&["bundle malformed"]);
    assert_eq!(json_of(&said).len(), 1);
}

/// Twenty at once on one tag: each is there afterwards, in the tag and in the list of referrers.
#[test]
fn twenty_writers_lose_nothing() {
    const WRITERS: usize = 20;
    let registry = Registry::old();
    let digest = registry.put_image("app", "v1", "a");
    let place = place();
    let image = format!("{}/app@{digest}", registry.host());
    std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let (place, image) = (&place, &image);
            scope.spawn(move || {
                let file = format!("p{number}.json");
                place.write(&file, format!("{{\"n\": {number}}}"));
                let kind = "https://a.example/t";
                place
                    .affiant(["image", "attest", "--key", "c.key", "--type", kind, "--predicate", &file, image])
                    .run()
                    .code(0);
            });
        }
    });
    let count = |tag: &str, member: &str| {
        registry.manifest("app", &digest.tag(tag)).expect("it is there")[member].as_array().map_or(0, Vec::len)
    };
    assert_eq!((count(".att", "layers"), count("", "manifests")), (WRITERS, WRITERS));
    let said =
        place.affiant(["image", "verify-attestation", "--key", "c.pub", "--type", "https://a.example/t", &image]);
    assert_eq!(said.run().code(0).stdout_text().lines().count(), WRITERS);
}

/// All are found through one door that is opened once; what is said is in the order in which they were named, and the
/// first of them that fails is the answer.
#[test]
fn many_images_are_checked_in_one_call() {
    let registry = Registry::with(Door::Password, true, None);
    let place = place();
    key(&place, "p256", "d");
    let login = ["--registry-username", USER, "--registry-password", PASSWORD];
    let images: Vec<String> = (0..12)
        .map(|number| {
            let name = format!("many/app{number}");
            let digest = registry.put_image(&name, "1", &name);
            format!("{}/{name}@{digest}", registry.host())
        })
        .collect();
    for image in &images[..11] {
        sign(&place, image, &[&login[..], &["--format", "tag"]].concat()).code(0);
    }
    let all = |images: &[String]| place.affiant(["image", "verify", "--key", "c.pub"]).with(login).with(images).run();
    registry.forget();
    let checked = all(&images[..11]).code(0);
    let names: Vec<String> = json_of(&checked)
        .iter()
        .map(|payload| payload["critical"]["image"]["docker-manifest-digest"].as_str().expect("text").to_owned())
        .collect();
    let wanted: Vec<&str> = images[..11].iter().map(|image| image.split_once('@').expect("a digest").1).collect();
    assert_eq!(names, wanted);
    let asked = registry.asked();
    assert_eq!(asked.iter().filter(|asked| asked.path() == "/v2/").count(), 1, "which scheme it has is asked once");

    // The last has no signature, and one before it is of another key: that one is the answer.
    let ended =
        place.affiant(["image", "sign", "--key", "d.key", "--format", "tag"]).with(login).with([&images[11]]).run();
    ended.code(0);
    let digest = registry.put_image("many/unsigned", "1", "unsigned");
    let unsigned = format!("{}/many/unsigned@{digest}", registry.host());
    let some = [&images[..2], &[images[11].clone(), unsigned.clone()], &images[2..9]].concat();
    let refused = all(&some).code(12);
    assert!(refused.stdout_text().is_empty());
    let said = refused.stderr_text();
    let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("`{text}` is not in: {said}"));
    assert!(at(&format!("Verification for {}", images[0])) < at(&format!("Verification for {}", images[1])));
    assert!(at(&images[1]) < at(&format!("no matching signatures of {}", images[11])));
    assert!(!said.contains(&unsigned));
    all(&[images[0].clone(), unsigned]).code(10);
}

#[test]
fn names_digests_and_trees_are_shown() {
    let registry = Registry::start();
    let digest = registry.put_image("app", "v1", "a");
    let place = place();
    let host = registry.host();
    let image = format!("{host}/app:v1");
    let shown = |args: &[&str]| {
        place.affiant(["image"]).with(args).with([image.as_str()]).run().code(0).stderr("").stdout_text()
    };
    assert_eq!(shown(&["digest"]), format!("{digest}\n"));
    assert_eq!(shown(&["digest", "--full-ref"]), format!("{host}/app@{digest}\n"));
    assert_eq!(shown(&["triangulate"]), format!("{host}/app:{}\n", digest.tag(".sig")));
    assert_eq!(shown(&["triangulate", "--type", "attestation"]), format!("{host}/app:{}\n", digest.tag(".att")));
    assert!(shown(&["tree"]).contains("nothing is kept"));
    sign(&place, &image, &[]).code(0);
    let tree = shown(&["tree"]);
    assert!(tree.contains(".sig") && tree.contains("referrer") && tree.contains("sign/v1"), "{tree}");
    // Elsewhere.
    let elsewhere = format!("{host}/signatures");
    registry.put_image("app", "v2", "b");
    let image = format!("{host}/app:v2");
    let of = |verb: &str, key: &str| {
        place.affiant(["image", verb, "--key", key, &image]).env("COSIGN_REPOSITORY", &elsewhere).run()
    };
    of("sign", "c.key").code(0).stderr_has(&["/signatures"]);
    of("verify", "c.pub").code(0);
    verify(&place, &image, &[]).code(10);
    // What is carried brings it along, whatever lies beside the image itself.
    sign(&place, &image, &["-a", "own=1"]).code(0);
    for to in [format!("{host}/copied:v2"), "oci:copied:v2".to_owned(), "oci-archive:copied.tar:v2".to_owned()] {
        let copy = place.affiant(["image", "copy", &image, &to]).env("COSIGN_REPOSITORY", &elsewhere);
        copy.run().code(0);
        let said: Value = serde_json::from_str(&verify(&place, &to, &[]).code(0).stdout_text()).expect("JSON");
        let owned = said.as_array().expect("a list").iter().filter(|one| one["optional"]["own"] == "1").count();
        assert_eq!((said.as_array().map(Vec::len), owned), (Some(2), 1), "{to}: {said}");
    }
    let audit = place.affiant(["image", "audit", "--key", "c.pub", &format!("{host}/app")]);
    let said = audit.env("COSIGN_REPOSITORY", &elsewhere).run().code(0).stdout_text();
    assert!(said.contains("2 tags, 2 signed"), "{said}");
}

/// Under an index stands what is kept about its images.
#[test]
fn a_tree_has_the_images_of_an_index() {
    let place = place();
    let registry = Registry::start();
    let images = ["a", "b"].map(|seed| registry.put_image("app", seed, seed));
    let entries = images.iter().zip(["amd64", "arm64"]).map(|(digest, machine)| {
        let platform = json!({"os": "linux", "architecture": machine});
        json!({"mediaType": MANIFEST, "digest": digest, "size": 395, "platform": platform})
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries.collect::<Vec<_>>()});
    let index = registry.put("app", Some("v1"), INDEX, index.to_string().as_bytes());
    let name = format!("{}/app", registry.host());
    place.affiant(["image", "sign", "--key", "c.key", &format!("{name}@{}", images[0])]).run().code(0);
    let tree = || place.affiant(["image", "tree", &format!("{name}:v1")]).run().code(0).stdout_text();
    let first = tree();
    assert!(first.starts_with(&format!("{name}@{index}\n├── image {name}@{} linux/", images[0])), "{first}");
    assert!(first.contains(&format!("\n│   ├── signatures in the tag {name}:{}", images[0].tag(".sig"))), "{first}");
    assert!(!first.contains(images[1].as_str()), "nothing is kept about it: {first}");
    place.affiant(["image", "copy", &format!("{name}:v1"), "oci:l:v1"]).run().code(0);
    let layout = place.affiant(["image", "tree", "oci:l:v1"]).run().code(0).stdout_text();
    assert!(layout.starts_with(&format!("oci:l@{index}\n├── image oci:l@{}", images[0])), "{layout}");
    registry.remove("app", &images[1]);
    assert!(tree().contains(&format!("├── image {name}@{} (not there)", images[1])));
}

#[test]
fn keys_of_cosign_are_made_and_used() {
    let registry = Registry::start();
    registry.put_image("app", "v1", "a");
    let place = Place::without_key();
    let image = format!("{}/app:v1", registry.host());
    let cosign = |args: &[&str]| place.called("cosign", args).env("COSIGN_PASSWORD", "").run();
    place.called("cosign", ["generate-key-pair"]).run().code(2).stderr_has(&["no password"]);
    cosign(&["generate-key-pair"]).code(0).stdout("");
    let private = std::fs::read_to_string(place.work().join("cosign.key")).expect("written");
    assert!(private.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----"));
    let public = std::fs::read_to_string(place.work().join("cosign.pub")).expect("written");
    cosign(&["public-key", "--key", "cosign.key"]).code(0).stdout(&public);
    cosign(&["generate-key-pair"]).code(2);
    cosign(&["sign", "--yes", "--tlog-upload=false", "--key", "cosign.key", "-a", "\"name=Doe, Jane\"", &image])
        .code(0);
    let said = cosign(&[
        "verify",
        "--insecure-ignore-tlog=true",
        "--key",
        "cosign.pub",
        "--annotations",
        "name=Doe, Jane",
        &image,
    ]);
    assert_eq!(json_of(&said.code(0))[0]["optional"]["name"], "Doe, Jane");
    cosign(&["signing-config", "create"]).code(2).stdout("").stderr_has(&["affiant has no `cosign signing-config`"]);
    // Files.
    place.write("f", "bytes");
    cosign(&["sign-blob", "--yes", "--tlog-upload=false", "--key", "cosign.key", "--bundle", "b.json", "f"]).code(0);
    let check = ["verify-blob", "--insecure-ignore-tlog", "--key", "cosign.pub", "--bundle", "b.json", "f"];
    cosign(&check).code(0).stdout("").stderr("Verified OK\n");
    place.write("f", "bytez");
    cosign(&check).code(12).stdout("");
}

/// Both forms as referrers: a registry lists them in any order, and what was said in both is said once.
#[test]
fn what_is_said_in_two_referrers_is_shown_once() {
    let place = place();
    let registry = Registry::start();
    for seed in ["a", "b", "c", "d", "e", "f"] {
        registry.put_image("app", seed, seed);
        let image = format!("{}/app:{seed}", registry.host());
        sign(&place, &image, &["-a", "tag=v1", "--registry-referrers-mode", "oci-1-1"]).code(0);
        let said: Value = serde_json::from_str(&verify(&place, &image, &[]).code(0).stdout_text()).expect("JSON");
        assert_eq!(said.as_array().map(Vec::len), Some(1), "{said}");
        assert_eq!(said[0]["critical"]["type"], "cosign container image signature");
    }
}

/// What was signed beside an image that could not be is told all the same.
#[test]
fn what_was_signed_beside_a_failure_is_told() {
    let place = place();
    let refusing = |asked: &Asked| {
        (asked.method == "PUT" && asked.path().contains("/bad/")).then(|| {
            // The other one is under way by then.
            std::thread::sleep(std::time::Duration::from_secs(1));
            Said::new(400)
        })
    };
    let registry = Registry::with(Door::Open, true, Some(Box::new(refusing)));
    let [bad, good] = ["bad", "good"].map(|name| {
        registry.put_image(name, "v1", name);
        format!("{}/{name}:v1", registry.host())
    });
    let ended = place.affiant(["image", "sign", "--key", "c.key", &bad, &good]).run().code(4);
    ended.stderr_has(&["/bad@sha256:", "could not be kept", &format!("signed: {}/good@sha256:", registry.host())]);
    verify(&place, &good, &[]).code(0);
}
