//! The gate on images: what was built, pushed in the same or another form, signed, and asked about by its name.

use std::io::Write as _;

use affiant_core::image::Digest;
use base64::Engine as _;
use serde_json::{Value, json};

use crate::carry::tar_of;
use crate::harness::{Call, Ended, Place};
use crate::issuer::{Issuer, Lies};
use crate::registry::Registry;
use crate::sigstore_services::{Sigstore, token};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The rule of the container tutorial.
const SUBJECT_MATCH: &str = include_str!("../../fixtures/tutorials/subject_match.rego");

pub(crate) fn gz(bytes: &[u8], level: flate2::Compression) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), level);
    packed.write_all(bytes).expect("packs");
    packed.finish().expect("packs")
}

/// An image of one layer, as `docker save` keeps it.
pub(crate) struct Built {
    pub(crate) layer: Vec<u8>,
    pub(crate) config: Vec<u8>,
}

impl Built {
    pub(crate) fn of(text: &str, architecture: &str) -> Self {
        let layer = tar_of(&[("app", text.as_bytes())]);
        let config = json!({"architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]}});
        Self { layer, config: config.to_string().into_bytes() }
    }

    fn saved(&self) -> Vec<u8> {
        let name = format!("{}.json", Digest::of(&self.config).hex());
        let list = json!([{"Config": name, "RepoTags": ["app:1"], "Layers": ["layer.tar"]}]).to_string();
        tar_of(&[("layer.tar", &self.layer), (&name, &self.config), ("manifest.json", list.as_bytes())])
    }

    /// Pushes it, with `layer` in the place of its own where one is given.
    pub(crate) fn push(&self, registry: &Registry, tag: Option<&str>, layer: Option<&[u8]>, level: u32) -> Digest {
        let packed = gz(layer.unwrap_or(&self.layer), flate2::Compression::new(level));
        let (blob, config) = (registry.put_blob("team/app", &packed), registry.put_blob("team/app", &self.config));
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": self.config.len()},
            "layers": [{"mediaType": LAYER, "digest": blob, "size": packed.len()}]});
        registry.put("team/app", tag, MANIFEST, manifest.to_string().as_bytes())
    }
}

pub(crate) fn index(registry: &Registry, tag: &str, entries: &[(&Digest, &str)]) -> Digest {
    let entry = |(digest, platform): &(&Digest, &str)| {
        let size = registry.manifest("team/app", digest.as_str()).expect("there").to_string().len();
        let (os, architecture) = platform.split_once('/').expect("a platform");
        json!({"mediaType": MANIFEST, "digest": digest, "size": size,
            "platform": {"os": os, "architecture": architecture}})
    };
    let entries: Vec<Value> = entries.iter().map(entry).collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    registry.put("team/app", Some(tag), INDEX, index.to_string().as_bytes())
}

/// A place with keys: `../k.pem` of the builder, `../policy.pem`, `c.key` of whoever signs images.
pub(crate) fn place() -> Place {
    let place = Place::new();
    place.affiant(["key", "generate", "--kind", "ed25519", "--no-password", "-o", "../policy.pem"]).run().code(0);
    for name in ["c.key", "other.key"] {
        place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", name]).run().code(0);
    }
    place
}

/// The build of an image, recorded.
pub(crate) fn build(place: &Place, built: &Built, outfile: &str) {
    build_with(place, built, "oci", outfile, |call| call);
}

pub(crate) fn build_with(place: &Place, built: &Built, attestors: &str, outfile: &str, job: impl FnOnce(Call) -> Call) {
    std::fs::write(place.beside("built.tar"), built.saved()).expect("writes");
    let command = ["--", "sh", "-c", "cp ../built.tar image.tar"];
    let args = ["run", "-k", "../k.pem", "-s", "build", "-a", attestors, "-o", outfile];
    job(place.affiant(args.iter().chain(&command))).run().code(0);
    std::fs::remove_file(place.work().join("image.tar")).expect("removes");
}

/// Writes and signs a policy: the step `build` with `step`, and `top`.
fn policy(place: &Place, top: &Value, step: &Value, rule: Option<&str>) {
    let key = |file: &str| {
        let pem = std::fs::read(place.beside(file)).expect("a key");
        let id = place.affiant(["key", "id", &format!("../{file}")]).run().code(0).stdout_text().trim().to_owned();
        (id, base64::engine::general_purpose::STANDARD.encode(pem))
    };
    let ((build, build_key), (image, image_key)) = (key("k.pub"), key("work/c.pub"));
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let rules: Vec<Value> = rule.iter().map(|text| json!({"name": "rule.rego", "module": encode(text)})).collect();
    let mut step_of_build = json!({
        "name": "build",
        "functionaries": [{"type": "publickey", "publickeyid": build}],
        "attestations": [{"type": "https://witness.dev/attestations/oci/v0.1", "regopolicies": rules}],
    });
    let mut policy = json!({
        "expires": "2100-01-01T00:00:00Z",
        "publickeys": {build.clone(): {"keyid": build, "key": build_key}, image.clone(): {"keyid": image, "key": image_key}},
    });
    for (name, value) in step.as_object().expect("an object") {
        step_of_build[name] = value.clone();
    }
    for (name, value) in top.as_object().expect("an object") {
        policy[name] = serde_json::from_str(&value.to_string().replace("IMAGE-KEY", &image)).expect("JSON");
    }
    policy["steps"] = json!({"build": step_of_build});
    std::fs::write(place.beside("policy.json"), policy.to_string()).expect("written");
    let signed = "../policy.signed.json";
    place.affiant(["sign", "-k", "../policy.pem", "-f", "../policy.json", "-o", signed]).run().code(0);
}

fn signers() -> Value {
    json!({"images": {"functionaries": [{"type": "publickey", "publickeyid": "IMAGE-KEY"}]}})
}

pub(crate) fn verify<'a>(place: &Place, image: &'a str, more: impl IntoIterator<Item = &'a str>) -> Ended {
    let args = ["verify", "-p", "../policy.signed.json", "-k", "../policy.pub", "--image", image];
    place.affiant(args.into_iter().chain(more)).run()
}

fn sign(place: &Place, image: &str, more: &[&str]) {
    place.affiant(["image", "sign", "--key", "c.key"]).with(more).with([image]).run().code(0);
}

#[track_caller]
pub(crate) fn denied(ended: Ended, parts: &[&str]) {
    let text = ended.stdout_text();
    assert!(text.starts_with("DENIED: "), "{text}{}", ended.stderr_text());
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(words.contains(part), "{part}: {text}");
    }
    ended.code(1);
}

/// Whether a demanded signature is there cannot be said where it may be in a list that cannot be read.
#[test]
fn a_signature_that_may_be_in_an_unreadable_list_is_no_answer() {
    let (place, registry) = (place(), Registry::old());
    let built = Built::of("one", "amd64");
    build(&place, &built, "../a.json");
    policy(&place, &signers(), &json!({}), None);
    let digest = built.push(&registry, Some("v1"), None, 9);
    let image = format!("{}/team/app:v1", registry.host());
    denied(verify(&place, &image, []), &["none is kept with"]);
    sign(&place, &image, &["--format", "bundle"]);
    verify(&place, &image, []).code(0);
    let index = "application/vnd.oci.image.index.v1+json";
    registry.put("team/app", Some(&format!("sha256-{}", digest.hex())), index, b"{");
    verify(&place, &image, []).code(4).stdout("").stderr_has(&["the list of referrers", "no manifest"]);
    sign(&place, &image, &["--format", "tag"]);
    verify(&place, &image, []).code(0);
}

/// What happens to evidence in a registry, and what is said of it.
type Harm = dyn Fn(&Registry, &Digest) -> [&'static str; 2];

/// Whether evidence is there cannot be said either where it may be in what cannot be read; what is proven stays proven, and
/// what is wrong with the image itself stays wrong.
#[test]
fn evidence_that_may_be_in_what_cannot_be_read_is_no_answer() {
    let broken_list = |registry: &Registry, digest: &Digest| {
        registry.put("team/app", Some(&digest.tag("")), INDEX, b"{");
        ["the list of referrers", "no manifest"]
    };
    let broken_tag = |registry: &Registry, digest: &Digest| {
        registry.put("team/app", Some(&digest.tag(".att")), MANIFEST, &vec![b' '; 5 << 20]);
        [".att", "more than 4194304 bytes"]
    };
    let no_manifest = |registry: &Registry, digest: &Digest| {
        registry.put("team/app", Some(&digest.tag(".att")), MANIFEST, b"{");
        [".att", "no manifest"]
    };
    let harms: [&Harm; 3] = [&broken_list, &broken_tag, &no_manifest];
    for harm in harms {
        let (place, registry) = (place(), Registry::old());
        let built = Built::of("one", "amd64");
        build(&place, &built, "../a.json");
        policy(&place, &json!({}), &json!({}), None);
        let digest = built.push(&registry, Some("v1"), None, 9);
        let image = format!("{}/team/app:v1", registry.host());
        // Nothing but what is kept with the image.
        std::fs::rename(place.beside("home"), place.beside("away")).expect("moved");
        std::fs::create_dir(place.beside("home")).expect("a folder");
        verify(&place, &image, []).code(3);
        let said = harm(&registry, &digest);
        let missed = verify(&place, &image, []).code(4).stdout("").stderr_has(&said);
        missed.stderr_has(&["evidence of it may be in what cannot be read", "step build", "affiant image tree"]);
        let all = ["--mode", "warn", "--digest-out", "digest", "--report", "json=verdict.json"];
        verify(&place, &image, all).code(4).stdout("").stderr_has(&said);
        assert!(!place.work().join("digest").exists() && !place.work().join("verdict.json").exists());
        let promote = ["promote", &image, "oci:live:v1", "-p", "../policy.signed.json", "-k", "../policy.pub"];
        place.affiant(promote).with(["--vsa-key", "../k.pem"]).run().code(4).stdout("").stderr_has(&said);
        assert!(!place.work().join("live").exists());
        // Evidence of another step, or of a stranger, proves no more than none.
        place.affiant(["key", "generate", "--no-password", "-o", "../stranger.pem"]).run().code(0);
        let stranger = ["run", "-k", "../stranger.pem", "-s", "build", "-o", "../b.json", "--", "true"];
        place.affiant(stranger).run().code(0);
        verify(&place, &image, ["-a", "../b.json"]).code(4).stdout("").stderr_has(&said);
        // What proves it elsewhere is enough, and what cannot be read is said.
        let passed = verify(&place, &image, ["-a", "../a.json"]).code(0);
        let text = passed.stdout_text();
        assert!(text.starts_with("PASSED") && said.iter().all(|part| text.contains(part)), "{text}");
        // An image that nobody who may has signed is denied, whatever evidence there is.
        let key = ["--image-key", "c.pub", "-a", "../a.json"];
        if said[0] == ".att" {
            denied(verify(&place, &image, key), &["none is kept with"]);
            denied(verify(&place, &image, key.into_iter().take(2)), &["none is kept with"]);
        } else {
            verify(&place, &image, key).code(4);
        }
        // And a policy that is none, is none.
        policy(&place, &json!({"expires": "2020-01-01T00:00:00Z"}), &json!({}), None);
        denied(verify(&place, &image, []), &["expire"]);
    }
}

/// Nothing that the gate reads is overwritten or taken away, and no output replaces another.
#[test]
fn outputs_never_replace_what_the_gate_reads() {
    let (place, registry) = (place(), Registry::start());
    let built = Built::of("one", "amd64");
    build(&place, &built, "../a.json");
    policy(&place, &signers(), &json!({}), None);
    let digest = built.push(&registry, Some("v1"), None, 9);
    let image = format!("{}/team/app:v1", registry.host());
    sign(&place, &image, &[]);
    std::fs::create_dir(place.beside("evidence")).expect("makes a folder");
    std::fs::copy(place.beside("a.json"), place.beside("evidence/b.json")).expect("copied");
    std::os::unix::fs::symlink("policy.signed.json", place.beside("link.json")).expect("links");
    std::fs::hard_link(place.beside("k.pem"), place.beside("hard.pem")).expect("links");
    for name in ["artifact", "password", "archive.tar"] {
        std::fs::write(place.beside(name), "x").expect("written");
    }
    let files: Vec<_> = place.all_paths().into_iter().filter(|path| path.is_file()).collect();
    let read = || files.iter().map(|path| std::fs::read(path).expect("it is there")).collect::<Vec<_>>();
    let before = read();
    let evidence = ["-a", "../evidence", "-a", "../a.json", "--image-key", "c.pub"];
    let summary = ["--vsa-key", "../k.pem", "--key-password-file", "../password"];
    let inputs =
        ["../policy.signed.json", "../link.json", "../work/../policy.pub", "../a.json", "../evidence/b.json", "c.pub"];
    let of_summary = ["../k.pem", "../hard.pem", "../password"];
    let gate = |out: &[&str]| verify(&place, &image, evidence.into_iter().chain(out.iter().copied())).code(2);
    for input in inputs {
        gate(&["--digest-out", input]).stdout("").stderr_has(&["--digest-out", input]);
        gate(&["--output-bundle", input]).stdout("").stderr_has(&["--output-bundle"]);
        gate(&["--report", &format!("json={input}")]).stdout("").stderr_has(&["--report", input]);
    }
    for input in inputs.into_iter().chain(of_summary) {
        gate(&[&summary[..], &["--vsa-outfile", input]].concat()).stdout("");
        gate(&[&summary[..], &["--vsa-outfile", "new", "--digest-out", input]].concat()).stdout("");
    }
    for (one, other) in [
        (["--digest-out", "new"], ["--vsa-outfile", "./new"]),
        (["--digest-out", "new"], ["--report", "env=new"]),
        (["--vsa-outfile", "new"], ["--report", "html=../work/new"]),
        (["--output-bundle", "new"], ["--digest-out", "new"]),
    ] {
        gate(&[&summary[..], &one, &other].concat()).stdout("").stderr_has(&["new", one[0]]);
    }
    gate(&["../artifact", "--digest-out", "../artifact"]);
    std::fs::write(place.beside("root.json"), "{}").expect("written");
    for root in ["--policy-trusted-root", "--image-trusted-root"] {
        gate(&[root, "../root.json", "--digest-out", "../root.json"]).stdout("").stderr_has(&["--digest-out"]);
        assert!(place.beside("root.json").exists(), "{root}");
    }
    let archive = ["--image", "oci-archive:../archive.tar", "--digest-out", "../archive.tar"];
    gate(&archive).stdout("").stderr_has(&["is the image"]);
    let to = format!("{}/live/app:1", registry.host());
    for (flag, input) in
        inputs.into_iter().chain(of_summary).flat_map(|input| [("--vsa-outfile", input), ("--report", input)])
    {
        let value = if flag == "--report" { format!("text={input}") } else { input.to_owned() };
        let args = ["promote", &image, &to, "-p", "../policy.signed.json", "-k", "../policy.pub"];
        place.affiant(args).with(evidence).with(summary).with([flag, &value]).run().code(2).stdout("");
    }
    assert_eq!(read(), before, "nothing was touched");
    assert!(!place.work().join("new").exists() && registry.tags("live/app").is_empty());
    // And what clashes with nothing is written.
    let ended = verify(&place, &image, evidence.into_iter().chain(["--digest-out", "new", "--report", "env=ci.env"]));
    ended.code(0);
    let told = std::fs::read_to_string(place.work().join("new")).expect("written");
    assert_eq!(told, format!("{}/team/app@{digest}\n", registry.host()));
}

#[test]
fn what_was_built_passes_under_its_name_when_it_was_pushed_in_another_form() {
    let (place, registry) = (place(), Registry::start());
    let built = Built::of("one", "amd64");
    build(&place, &built, "../a.json");
    policy(&place, &signers(), &json!({}), Some(SUBJECT_MATCH));
    let digest = built.push(&registry, Some("v1"), None, 9);
    let image = format!("{}/team/app:v1", registry.host());
    sign(&place, &image, &[]);
    // The evidence is found in the archive by the config's digest alone.
    let (out, env) = (place.beside("digest.txt"), place.beside("ci.env"));
    let report = format!("env={}", env.display());
    let more = ["--digest-out", out.to_str().expect("text"), "--report", &report];
    let ended = verify(&place, &image, more).code(0).stderr("");
    assert!(ended.stdout_text().starts_with(&format!("PASSED: {image} under policy")), "{}", ended.stdout_text());
    let pinned = format!("{}/team/app@{digest}", registry.host());
    assert_eq!(std::fs::read_to_string(&out).expect("written"), format!("{pinned}\n"));
    assert_eq!(std::fs::read_to_string(&env).expect("written"), format!("verdict=passed\nimage={pinned}\n"));
    let shown = verify(&place, &image, ["--digest-out", "/dev/stderr"]).code(0);
    assert!(shown.stderr_text().contains(&pinned) && std::path::Path::new("/dev/stderr").exists());
    let verdict: Value =
        serde_json::from_str(&verify(&place, &image, ["-o", "json"]).code(0).stdout_text()).expect("JSON");
    assert_eq!(verdict["images"][0]["reference"], pinned.as_str());
    assert_eq!(verdict["images"][0]["signed"], digest.as_str());
    // Another image under the name: denied, and what the last answer left is taken away.
    Built::of("two", "amd64").push(&registry, Some("v1"), None, 9);
    let ended = verify(&place, &image, more);
    assert_ne!(ended.exit_code(), 0);
    assert!(!out.exists(), "a name that was not judged");
    let lines = std::fs::read_to_string(&env).expect("written");
    assert!(lines.ends_with("verdict=denied\nimage=\n"), "the last word counts: {lines}");
    // Neither does it stay where the question itself is wrong.
    std::fs::write(&out, &pinned).expect("written");
    verify(&place, &image, ["--digest-out", out.to_str().expect("text"), "-k", "nowhere"]).code(4);
    assert!(!out.exists());
    // An index in which it is, signed as such.
    let provenance = built.push(&registry, None, Some(b"no layer of an image"), 1);
    let whole = index(&registry, "v2", &[(&digest, "linux/amd64"), (&provenance, "unknown/unknown")]);
    let image = format!("{}/team/app:v2", registry.host());
    sign(&place, &image, &[]);
    let verdict = verify(&place, &image, ["-o", "json"]).code(0);
    let verdict: Value = serde_json::from_str(&verdict.stdout_text()).expect("JSON");
    assert_eq!(verdict["images"][0]["signed"], whole.as_str());
    assert_eq!(verdict["artifacts"][0]["digest"], digest.as_str());
    assert_eq!(verdict["artifacts"][0]["name"], format!("{image} (linux/amd64)"));
}

#[test]
fn rule_11_a_config_stands_for_its_layers_only_where_they_are_proven() {
    let (place, registry) = (place(), Registry::start());
    let built = Built::of("one", "amd64");
    build(&place, &built, "../a.json");
    // The config that was attested, over another layer.
    let evil = built.push(&registry, Some("v1"), Some(&tar_of(&[("app", &b"evil"[..])])), 6);
    let image = format!("{}/team/app:v1", registry.host());
    policy(&place, &json!({}), &json!({}), None);
    denied(verify(&place, &image, []), &["about its config, but its layer 0 unpacks to sha256:"]);
    // Whoever the policy trusts has signed this manifest.
    policy(&place, &signers(), &json!({}), None);
    denied(verify(&place, &image, []), &["none is kept with sha256:"]);
    sign(&place, &image, &[]);
    verify(&place, &image, []).code(0);
    // A rule that compares what was built with what was signed is not content with that.
    policy(&place, &signers(), &json!({}), Some(SUBJECT_MATCH));
    denied(verify(&place, &image, []), &["image digest mismatch", evil.as_str()]);
    // The image that was built beside it does not speak for it, in one question or in one index.
    let good = built.push(&registry, Some("good"), None, 9);
    let beside = format!("{}/team/app:good", registry.host());
    sign(&place, &beside, &[]);
    verify(&place, &beside, []).code(0);
    denied(verify(&place, &image, ["--image", &beside]), &["image digest mismatch", evil.as_str()]);
    denied(verify(&place, &beside, ["--image", &image]), &["image digest mismatch", evil.as_str()]);
    index(&registry, "both", &[(&good, "linux/amd64"), (&evil, "linux/arm64")]);
    let both = format!("{}/team/app:both", registry.host());
    sign(&place, &both, &[]);
    denied(verify(&place, &both, []), &["image digest mismatch"]);
    // A layer that does not arrive whole is no answer, rather than a denial.
    policy(&place, &json!({}), &json!({}), None);
    let layer =
        registry.manifest("team/app", "v1").expect("there")["layers"][0]["digest"].as_str().expect("text").to_owned();
    registry.spoil("team/app", &layer.parse().expect("a digest"));
    verify(&place, &image, []).code(4).stderr_has(&["cannot be judged", &layer]);
}

#[test]
fn rule_11_every_image_that_a_machine_would_run_passes_by_itself() {
    let (place, registry) = (place(), Registry::old());
    let (one, two) = (Built::of("one", "amd64"), Built::of("two", "arm64"));
    let digests = [one.push(&registry, None, None, 6), two.push(&registry, None, None, 6)];
    index(&registry, "v1", &[(&digests[0], "linux/amd64"), (&digests[1], "linux/arm64")]);
    let image = format!("{}/team/app:v1", registry.host());
    policy(&place, &json!({}), &json!({"perPlatform": true}), None);
    build(&place, &one, "../a.json");
    denied(verify(&place, &image, []), &["(linux/arm64)"]);
    // One image of it alone: then that is what may be deployed.
    let verdict = verify(&place, &image, ["--platform", "linux/amd64", "-o", "json"]).code(0);
    let verdict: Value = serde_json::from_str(&verdict.stdout_text()).expect("JSON");
    assert_eq!(verdict["images"][0]["reference"], format!("{}/team/app@{}", registry.host(), digests[0]));
    verify(&place, &image, ["--platform", "linux/arm64"]).code(3);
    verify(&place, &image, ["--platform", "linux/s390x"]).code(4).stderr_has(&["no image for linux/s390x"]);
    build(&place, &two, "../b.json");
    verify(&place, &image, []).code(0);
    // An image that the index has without a platform is run as well.
    let bare = Built::of("three", "amd64").push(&registry, None, None, 6);
    let size = registry.manifest("team/app", bare.as_str()).expect("there").to_string().len();
    let mut index = registry.manifest("team/app", "v1").expect("there");
    index["manifests"]
        .as_array_mut()
        .expect("a list")
        .push(json!({"mediaType": MANIFEST, "digest": bare, "size": size}));
    registry.put("team/app", Some("v3"), INDEX, index.to_string().as_bytes());
    denied(verify(&place, &format!("{}/team/app:v3", registry.host()), []), &[bare.as_str()]);
}

#[test]
fn rule_11_an_index_is_enough_where_a_step_has_made_it_as_an_image() {
    let (place, registry) = (place(), Registry::start());
    let (one, two) = (Built::of("one", "amd64"), Built::of("two", "arm64"));
    let digests = [one.push(&registry, None, None, 6), two.push(&registry, None, None, 6)];
    let whole = index(&registry, "v1", &[(&digests[0], "linux/amd64"), (&digests[1], "linux/arm64")]);
    let image = format!("{}/team/app:v1", registry.host());
    let docker = |more: Value| {
        let mut step = json!({"attestations": [{"type": "https://witness.dev/attestations/docker/v0.1"}]});
        for (name, value) in more.as_object().expect("an object") {
            step[name] = value.clone();
        }
        step
    };
    policy(&place, &json!({}), &docker(json!({})), None);
    let metadata = json!({"containerimage.digest": whole, "image.name": image}).to_string();
    std::fs::write(place.beside("m.json"), metadata).expect("written");
    let build = |command: &str, attestor: &str, outfile: &str| {
        let args = ["run", "-k", "../k.pem", "-s", "build", "-a", attestor, "-o", outfile, "--on-gap", "warn", "--"];
        place.affiant(args).with(["sh", "-c", command]).run().code(0);
    };
    build("cp ../m.json docker-metadata.json", "docker", "../a.json");
    let verdict = verify(&place, &image, ["-a", "../a.json", "-o", "json"]).code(0);
    let verdict: Value = serde_json::from_str(&verdict.stdout_text()).expect("JSON");
    assert_eq!(verdict["artifacts"].as_array().map(Vec::len), Some(1));
    assert_eq!(verdict["artifacts"][0]["digest"], whole.as_str());
    policy(&place, &json!({}), &docker(json!({"perPlatform": true})), None);
    denied(verify(&place, &image, ["-a", "../a.json"]), &["(linux/amd64)", "(linux/arm64)"]);
    // A copy of the index among the products says nothing of what is in it.
    let bytes = registry.manifest("team/app", "v1").expect("there").to_string();
    std::fs::write(place.beside("index.json"), bytes).expect("written");
    let product = json!({"attestations": [{"type": "https://witness.dev/attestations/product/v0.1"}]});
    policy(&place, &json!({}), &product, None);
    build("cp ../index.json index.json", "environment", "../b.json");
    place
        .affiant(["verify", "-p", "../policy.signed.json", "-k", "../policy.pub", "-a", "../b.json"])
        .with(["../index.json"])
        .run()
        .code(0);
    denied(verify(&place, &image, ["-a", "../b.json"]), &["(linux/amd64)"]);
}

#[test]
fn the_policy_says_who_must_have_signed_and_where_an_image_may_be() {
    let (place, registry) = (place(), Registry::start());
    let built = Built::of("one", "amd64");
    build(&place, &built, "../a.json");
    built.push(&registry, Some("v1"), None, 6);
    let image = format!("{}/team/app:v1", registry.host());
    let name = |name: &str| json!({"images": {"names": [name.replace("HOST", &registry.host())]}});
    policy(&place, &name("HOST/team/*"), &json!({}), None);
    verify(&place, &image, []).code(0);
    policy(&place, &name("*/app"), &json!({}), None);
    denied(verify(&place, &image, []), &["(images.names)"]);
    policy(&place, &name("HOST/other/*"), &json!({}), None);
    denied(verify(&place, &image, []), &["an image in", "(images.names)"]);

    let mut demand = signers();
    demand["images"]["annotations"] = json!({"env": "prod"});
    policy(&place, &demand, &json!({}), None);
    place.affiant(["image", "sign", "--key", "other.key", "-a", "env=prod", &image]).run().code(0);
    denied(verify(&place, &image, []), &["a signature of the image by key", "with env=prod"]);
    sign(&place, &image, &["-a", "env=test"]);
    denied(verify(&place, &image, []), &["env=prod is wanted"]);
    sign(&place, &image, &["-a", "env=prod"]);
    verify(&place, &image, []).code(0);
    // A log is demanded of keys as well, and a key is in no log of certificates.
    for (member, part) in [("log", "in a trusted log (images.functionaries)"), ("sct", "a key is in no log")] {
        let mut logged = demand.clone();
        logged["images"][member] = json!("required");
        policy(&place, &logged, &json!({}), None);
        denied(verify(&place, &image, []), &[part]);
    }
    policy(&place, &demand, &json!({}), None);
    // The command line demands more.
    verify(&place, &image, ["--image-key", "other.pub"]).code(0);
    verify(&place, &image, ["--image-key", "other.pub", "--image-annotations", "env=prod"]).code(0);
    denied(verify(&place, &image, ["--image-key", "other.pub", "--image-annotations", "env=x"]), &["(--image-key)"]);
    denied(verify(&place, &image, ["--image-key", "../k.pub"]), &["(--image-key)"]);
    // A policy that asks for an image is not answered without one.
    place.write("x", "x");
    let args = ["verify", "-p", "../policy.signed.json", "-k", "../policy.pub", "x"];
    place.affiant(args).run().code(4).stderr_has(&["`images`", "--image REF"]);
    // Both names in one question: each must pass.
    Built::of("two", "amd64").push(&registry, Some("v2"), None, 6);
    let second = format!("{}/team/app:v2", registry.host());
    denied(verify(&place, &image, ["--image", &second]), &[&second]);
}

/// The command line can ask whose certificate signed the image, besides whom the policy asks for.
#[test]
fn the_command_line_says_whose_certificate_must_have_signed() {
    const IDENTITY: &str = "https://gitlab.example/group/app//.gitlab-ci.yml@refs/heads/main";
    let (place, registry, sigstore) = (place(), Registry::start(), Sigstore::start());
    let built = Built::of("one", "amd64");
    build(&place, &built, "../a.json");
    policy(&place, &signers(), &json!({}), Some(SUBJECT_MATCH));
    built.push(&registry, Some("v1"), None, 9);
    let image = format!("{}/team/app:v1", registry.host());
    sign(&place, &image, &[]);
    place.write("config.json", sigstore.signing_config(2, true));
    place.write("root.json", sigstore.trusted_root());
    let ask = |more: &[&'static str]| {
        let root = ["--image-trusted-root", "root.json"];
        verify(&place, &image, root.into_iter().chain(more.iter().copied()))
    };
    let signer = ["--image-identity", IDENTITY, "--image-issuer", "https://gitlab.example"];
    denied(ask(&signer), &["(--image-identity)", "no certificate"]);
    let keyless = ["image", "sign", "--signing-config", "config.json", "-a", "tag=v1", &image];
    place.affiant(keyless).env("SIGSTORE_ID_TOKEN", token(&json!({}))).run().code(0);
    let passed = ask(&[&signer[..], &["-o", "json"]].concat()).code(0);
    let verdict: Value = serde_json::from_str(&passed.stdout_text()).expect("JSON");
    assert!(verdict["images"][0]["signers"].to_string().contains(IDENTITY), "{verdict}");
    assert!(verdict.to_string().contains("--image-trusted-root root.json"), "the verdict says where trust came from");
    ask(&["--image-identity-regexp", ".*/group/app//.*", "--image-issuer", "https://gitlab.example"]).code(0);
    ask(&[
        "--image-identity-glob",
        "https://gitlab.example/group/*//.gitlab-ci.yml@refs/heads/*",
        signer[2],
        signer[3],
    ])
    .code(0);
    ask(&[&signer[..], &["--image-annotations", "tag=v1"]].concat()).code(0);
    for bad in [
        ["--image-identity", "https://gitlab.example/group/app", signer[2], signer[3]],
        ["--image-identity-regexp", "group/app", signer[2], signer[3]],
        [signer[0], IDENTITY, "--image-issuer", "https://gitlab.example/"],
        [signer[0], IDENTITY, "--image-issuer-regexp", "gitlab"],
    ] {
        denied(ask(&bad), &["(--image-identity)", "signed by", "wants"]);
    }
    denied(ask(&[&signer[..], &["--image-annotations", "tag=v2"]].concat()), &["tag=v2 is wanted"]);
    // The log is demanded.
    let mut root: Value = serde_json::from_str(&sigstore.trusted_root()).expect("JSON");
    root["tlogs"] = json!([]);
    place.write("no-log.json", root.to_string());
    let no_log = |more: &[&'static str]| {
        let flags = ["--image-trusted-root", "no-log.json"].into_iter().chain(signer).chain(more.iter().copied());
        verify(&place, &image, flags)
    };
    denied(no_log(&[]), &["no entry of a trusted log"]);
    no_log(&["--image-insecure-ignore-tlog"]).code(0);
    // Half of it is a mistake, and so is nothing.
    for half in [&signer[..2], &signer[2..], &[], &["--image-identity", "", signer[2], signer[3]]] {
        ask(half).code(2).stdout("");
    }
    verify(&place, &image, signer).code(2).stdout("").stderr_has(&["--image-trusted-root is missing"]);
    verify(&place, &image, ["--image-annotations", "a=b"]).code(2).stdout("").stderr_has(&["nothing says who"]);
    for name in ["AFFIANT_IMAGE_IDENTITY", "AFFIANT_IMAGE_ISSUER", "AFFIANT_IMAGE_TRUSTED_ROOT"] {
        let args = ["verify", "-p", "../policy.signed.json", "-k", "../policy.pub", "--image", &image];
        place.affiant(args).env(name, "x").run().code(2).stdout("").stderr_has(&[name]);
    }
}

#[test]
fn evidence_is_found_with_the_image() {
    for registry in [Registry::start(), Registry::old()] {
        let place = place();
        let built = Built::of("one", "amd64");
        build(&place, &built, "../a.json");
        policy(&place, &json!({}), &json!({}), None);
        built.push(&registry, Some("v1"), None, 6);
        let image = format!("{}/team/app:v1", registry.host());
        std::fs::remove_dir_all(place.beside("home/.local/share/affiant")).expect("removes the archive");
        verify(&place, &image, []).code(3);
        // As the tutorial does it, `cosign attest --predicate FILE`: an envelope inside an envelope.
        let attest =
            ["image", "attest", "--key", "other.key", "--type", "https://aflock.ai/attestation-collection/v0.1"];
        place.affiant(attest).with(["--predicate", "../a.json", &image]).run().code(0);
        let ended = verify(&place, &image, []).code(0);
        assert!(ended.stdout_text().contains("with the image"), "{}", ended.stdout_text());
    }
}

/// The run's own evidence, kept with the image by `image attach`: nothing else is needed.
#[test]
fn attached_evidence_is_judged() {
    for format in ["bundle", "att"] {
        let (place, registry) = (place(), Registry::start());
        let built = Built::of("one", "amd64");
        build(&place, &built, "../a.json");
        policy(&place, &json!({}), &json!({}), None);
        built.push(&registry, Some("v1"), None, 6);
        let image = format!("{}/team/app:v1", registry.host());
        std::fs::remove_dir_all(place.beside("home/.local/share/affiant")).expect("removes the archive");
        verify(&place, &image, []).code(3);
        let attach = ["image", "attach", "--key", "../k.pub", "--format", format, &image, "../a.json"];
        place.affiant(attach).run().code(0);
        let ended = verify(&place, &image, []).code(0);
        assert!(ended.stdout_text().contains("with the image"), "{}", ended.stdout_text());
        // It goes with the image into a folder, where it is found without a network.
        place.affiant(["image", "save", "--dir", "kept", &image]).run().code(0);
        verify(&place, "oci:kept", ["--offline"]).code(0);
    }
}

/// A repository for evidence beside the image's own: both are looked into, and the verdict says in which something lies.
#[test]
fn evidence_in_a_repository_of_its_own_is_told_by_its_place() {
    let (place, registry) = (place(), Registry::start());
    let built = Built::of("one", "amd64");
    build(&place, &built, "../a.json");
    policy(&place, &json!({}), &json!({}), None);
    let digest = built.push(&registry, Some("v1"), None, 6);
    let host = registry.host();
    let image = format!("{host}/team/app:v1");
    let keeper = format!("{host}/team/evidence");
    std::fs::remove_dir_all(place.beside("home/.local/share/affiant")).expect("removes the archive");
    // With the image lies what is no evidence.
    let strange = gz(&std::fs::read(place.beside("a.json")).expect("read"), flate2::Compression::new(6));
    let (blob, config) = (registry.put_blob("team/app", &strange), registry.put_blob("team/app", b"{}"));
    let kind = "application/vnd.dsse.envelope.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": kind, "digest": blob, "size": strange.len()}],
        "subject": {"mediaType": MANIFEST, "digest": digest, "size": 1}});
    registry.put("team/app", None, MANIFEST, manifest.to_string().as_bytes());
    for format in ["bundle", "att"] {
        let attach = ["image", "attach", "--key", "../k.pub", "--format", format, "--evidence-repository", &keeper];
        place.affiant(attach).with([&*image, "../a.json"]).run().code(0);
        verify(&place, &image, []).code(3);
        let ended = verify(&place, &image, ["--evidence-repository", &keeper, "-o", "json"]).code(0);
        let said = ended.stdout_text();
        let place_of = if format == "att" { digest.tag(".att") } else { "referrer sha256:".to_owned() };
        assert!(said.contains(&format!("\"{keeper}, {place_of}")), "{said}");
        let both = said.clone() + &ended.stderr_text();
        assert!(both.contains(&format!("{host}/team/app, referrer sha256:")), "what is packed is told of: {both}");
        place.affiant(["image", "clean", "--yes", "--evidence-repository", &keeper, &image]).run().code(0);
    }
}

#[test]
fn an_image_in_a_folder_is_judged_without_a_network() {
    let (place, registry) = (place(), Registry::start());
    let built = Built::of("one", "amd64");
    build(&place, &built, "../a.json");
    policy(&place, &json!({}), &json!({}), None);
    built.push(&registry, Some("v1"), None, 6);
    let image = format!("{}/team/app:v1", registry.host());
    verify(&place, &image, ["--offline"]).code(2).stderr_has(&["--offline", "affiant image save"]);
    place.affiant(["image", "save", "--dir", "kept", &image]).run().code(0);
    verify(&place, "oci:kept", ["--offline"]).code(0);
}

#[test]
fn what_keeps_an_image_from_being_judged_is_no_answer() {
    let (place, registry) = (place(), Registry::start());
    policy(&place, &json!({}), &json!({}), None);
    verify(&place, &format!("{}/team/app:none", registry.host()), []).code(4).stderr_has(&["is not there"]);
    verify(&place, "127.0.0.1:1/team/app:v1", []).code(4).stderr_has(&["no answer"]);
    verify(&place, "UPPER/case:v1", []).code(2);
    place.affiant(["verify", "-p", "x", "-k", "y", "--digest-out", "z", "f"]).run().code(2);
}

#[test]
fn rule_15_what_is_promoted_was_judged_here_and_there() {
    for target in [Registry::start(), Registry::old()] {
        let (place, registry) = (place(), Registry::start());
        place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "../gate.key"]).run().code(0);
        let built = Built::of("one", "amd64");
        build(&place, &built, "../a.json");
        policy(&place, &signers(), &json!({}), Some(SUBJECT_MATCH));
        let digest = built.push(&registry, Some("v1"), None, 6);
        let (from, to) = (format!("{}/team/app:v1", registry.host()), format!("{}/live/app:1", target.host()));
        let promote = |more: &[&str]| {
            let args = ["promote", &from, &to, "-p", "../policy.signed.json", "-k", "../policy.pub"];
            place.affiant(args).with(["--vsa-key", "../gate.key"]).with(more).run()
        };
        // No signature: nothing is sent.
        let ended = promote(&[]).code(1).stdout("");
        assert!(ended.stderr_text().contains("is not promoted"), "{}", ended.stderr_text());
        assert!(target.asked().iter().all(|asked| asked.method == "GET" || asked.method == "HEAD"));
        assert!(target.tags("live/app").is_empty());
        for flag in [["--mode", "warn"], ["--at", "2026-01-01T00:00:00Z"]] {
            promote(&flag).code(2);
        }
        sign(&place, &from, &[]);
        registry.forget();
        let ended = promote(&["--vsa-outfile", "../vsa.json"]).code(0);
        let pinned = format!("{}/live/app@{digest}", target.host());
        assert_eq!(ended.stdout_text(), format!("{pinned}\n"));
        let resolved = registry.asked().iter().filter(|asked| asked.path().ends_with("/manifests/v1")).count();
        assert_eq!(resolved, 1, "a tag is resolved once");
        assert!(target.manifest("live/app", "1").is_some(), "the tag is there");
        // With its signature, and the summary.
        verify(&place, &pinned, []).code(0);
        let args = ["verify-vsa", "../vsa.json", &pinned, "-k", "../gate.pub", "--resource-uri", &pinned];
        place.affiant(args).run().code(0);
        place
            .affiant(["verify-vsa", "../vsa.json", &format!("sha256:{}", "0".repeat(64)), "-k", "../gate.pub"])
            .with(["--resource-uri", &pinned])
            .run()
            .code(1);
        let args = ["image", "verify-attestation", "--key", "../gate.pub", "--type"];
        place.affiant(args).with(["https://slsa.dev/verification_summary/v1", &pinned]).run().code(0);
        // Within one repository it gets another tag.
        let live = format!("{}/team/app:live", registry.host());
        let args =
            ["promote", &from, &live, "-p", "../policy.signed.json", "-k", "../policy.pub", "--vsa-key", "../gate.key"];
        let within = format!("{}/team/app@{digest}\n", registry.host());
        assert_eq!(place.affiant(args).run().code(0).stdout_text(), within);
        verify(&place, &live, []).code(0);
        // A policy that lets no image be there: it was copied, and gets no tag.
        let mut only_here = signers();
        only_here["images"]["names"] = json!([format!("{}/**", registry.host())]);
        policy(&place, &only_here, &json!({}), None);
        let other = format!("{}/live/app:2", target.host());
        let args = [
            "promote",
            &from,
            &other,
            "-p",
            "../policy.signed.json",
            "-k",
            "../policy.pub",
            "--vsa-key",
            "../gate.key",
        ];
        place.affiant(args).run().code(1).stdout("").stderr_has(&["was copied, and gets no tag", "is not promoted"]);
        assert!(target.manifest("live/app", "2").is_none());
    }
}

#[test]
fn an_image_whose_index_alone_is_signed_is_not_promoted_without_it() {
    let (place, registry, target) = (place(), Registry::start(), Registry::start());
    let built = Built::of("one", "amd64");
    build(&place, &built, "../a.json");
    policy(&place, &signers(), &json!({}), None);
    let digest = built.push(&registry, None, None, 6);
    index(&registry, "v1", &[(&digest, "linux/amd64")]);
    let from = format!("{}/team/app:v1", registry.host());
    let to = format!("{}/live/app:1", target.host());
    let promote = || {
        let args =
            ["promote", &from, &to, "-p", "../policy.signed.json", "-k", "../policy.pub", "--vsa-key", "../k.pem"];
        place.affiant(args).with(["--platform", "linux/amd64"]).run()
    };
    sign(&place, &from, &[]);
    promote().code(1).stdout("").stderr_has(&["which stays behind", "nothing was sent", "--recursive"]);
    assert!(target.tags("live/app").is_empty());
    // With a signature of its own it goes.
    sign(&place, &from, &["--recursive"]);
    assert_eq!(promote().code(0).stdout_text(), format!("{}/live/app@{digest}\n", target.host()));
}

#[test]
fn an_image_is_promoted_into_a_folder() {
    let (place, registry) = (place(), Registry::start());
    let built = Built::of("one", "amd64");
    build(&place, &built, "../a.json");
    policy(&place, &json!({}), &json!({}), None);
    let digest = built.push(&registry, Some("v1"), None, 6);
    let from = format!("{}/team/app:v1", registry.host());
    let promote = |to: &str| {
        let args =
            ["promote", &from, to, "-p", "../policy.signed.json", "-k", "../policy.pub", "--vsa-key", "../k.pem"];
        place.affiant(args).run()
    };
    let kept =
        ["promote", &from, "oci:kept:1", "-p", "../policy.signed.json", "-k", "../policy.pub", "--vsa-key", "../k.pem"];
    place.affiant(kept).with(["--offline"]).run().code(2);
    place.affiant(["image", "save", "--dir", "saved", &from]).run().code(0);
    let args =
        ["promote", "oci:saved", &from, "-p", "../policy.signed.json", "-k", "../policy.pub", "--vsa-key", "../k.pem"];
    place.affiant(args).with(["--offline"]).run().code(2).stderr_has(&["nothing can be sent"]);
    promote("oci-archive:x.tar:1").code(2).stderr_has(&["an archive is no place to deploy from"]);
    assert_eq!(promote("oci:kept:1").code(0).stdout_text(), format!("oci:kept@{digest}\n"));
    verify(&place, "oci:kept:1", []).code(0);
}

/// The rows of the container tutorial's table that rest on the CI: the branch, by the provider's own word, and actions
/// without a pin.
#[test]
fn an_image_from_another_branch_or_made_with_unpinned_actions_is_denied() {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let branch = |name: &str| {
        format!(
            "package github.branch\nimport rego.v1\ndeny contains msg if {{\n  input.jwt.claims.ref != \"refs/heads/{name}\"\n  msg := sprintf(\"built from %s\", [input.jwt.claims.ref])\n}}\n"
        )
    };
    let pinned = include_str!("../../src/core/policy/rules/pins.rego");
    let asked = |kind: &str, rule: &str| {
        json!({"attestations": [{"type": "https://witness.dev/attestations/oci/v0.1"},
            {"type": kind, "regopolicies": [{"name": "rule.rego", "module": encode(rule)}]}]})
    };
    let (place, registry) = (place(), Registry::start());
    let image = format!("{}/team/app:v1", registry.host());
    let built = Built::of("one", "amd64");
    built.push(&registry, Some("v1"), None, 6);
    sign(&place, &image, &[]);
    let issuer = Issuer::start("github", Lies::default());
    let variables = issuer.variables("github");
    build_with(&place, &built, "oci,github", "../a.json", |call| {
        variables.iter().fold(call, |call, (name, value)| call.env(name, value))
    });
    let github = "https://witness.dev/attestations/github/v0.1";
    policy(&place, &signers(), &asked(github, &branch("main")), None);
    verify(&place, &image, ["-a", "../a.json"]).code(0);
    policy(&place, &signers(), &asked(github, &branch("release")), None);
    denied(verify(&place, &image, ["-a", "../a.json"]), &["github.branch: built from refs/heads/main"]);

    let workflow = |action: &str| {
        format!("on: push\njobs:\n  build:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: {action}\n")
    };
    let file = ".github/workflows/build.yml";
    policy(&place, &signers(), &asked("urn:affiant:pins:v0.1", pinned), None);
    let commit = "actions/checkout@b4ffde65f46336ab88eb53be808477a3936bae11";
    for (action, outfile, passes) in [(commit, "../b.json", true), ("actions/checkout@v4", "../c.json", false)] {
        place.write(file, workflow(action));
        build_with(&place, &built, "oci,pins", outfile, |call| {
            call.env("GITHUB_ACTIONS", "true")
                .env("GITHUB_REPOSITORY", "octo/app")
                .env("GITHUB_WORKFLOW_REF", format!("octo/app/{file}@refs/heads/main"))
                .env("GITHUB_WORKSPACE", place.work())
        });
        let evidence = format!("{outfile},{outfile}-pins.json");
        let ended = verify(&place, &image, ["-a", &evidence]);
        if passes {
            ended.code(0);
        } else {
            denied(ended, &["actions/checkout@v4 is not pinned: write its commit"]);
        }
    }
}
