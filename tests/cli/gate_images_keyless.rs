//! Images that were signed without a key, judged by the policy alone: its functionaries are certificates, its trusted root
//! says which logs and authorities are believed, and no flag of the caller takes anything of that away.

use affiant_core::image::Digest;
use serde_json::{Value, json};

use crate::gate_images::{Built, build, denied, gz, place, verify};
use crate::harness::{Ended, Place};
use crate::registry::Registry;
use crate::sigstore_services::{Sigstore, token};

pub(crate) const IDENTITY: &str = "https://gitlab.example/group/app//.gitlab-ci.yml@refs/heads/main";
pub(crate) const ISSUER: &str = "https://gitlab.example";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A place, a registry, Sigstore's services, and an image whose build is recorded.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) registry: Registry,
    pub(crate) sigstore: Sigstore,
    pub(crate) built: Built,
}

impl World {
    pub(crate) fn new() -> Self {
        let (place, registry, sigstore) = (place(), Registry::start(), Sigstore::start());
        let built = Built::of("one", "amd64");
        build(&place, &built, "../a.json");
        std::fs::write(place.beside("root.json"), sigstore.trusted_root()).expect("written");
        Self { place, registry, sigstore, built }
    }

    /// The image under a tag, with a manifest of its own: nothing is kept with that yet.
    pub(crate) fn push(&self, tag: &str) -> String {
        let packed = gz(&self.built.layer, flate2::Compression::new(6));
        let put = |bytes: &[u8]| self.registry.put_blob("team/app", bytes);
        let (layer, config) = (put(&packed), put(&self.built.config));
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "annotations": {"tag": tag},
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config,
                "size": self.built.config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer,
                "size": packed.len()}]});
        self.registry.put("team/app", Some(tag), MANIFEST, manifest.to_string().as_bytes());
        format!("{}/team/app:{tag}", self.registry.host())
    }

    /// The tag below which signatures of a tagged image are kept.
    fn signatures(&self, tag: &str) -> String {
        let bytes = self.registry.manifest("team/app", tag).expect("there").to_string();
        Digest::of(bytes.as_bytes()).tag(".sig")
    }

    /// Writes and signs a policy with this for `images`, and `top` beside it.
    pub(crate) fn policy(&self, images: &Value, top: &Value) {
        let mut policy = json!({
            "expires": "2100-01-01",
            "trustedRoot": "root.json",
            "publickeys": {"ci": "k.pub", "image": "work/c.pub"},
            "steps": {"build": {"functionaries": [{"key": "ci"}], "attestations": ["oci"]}},
            "images": images,
        });
        for (name, value) in top.as_object().expect("an object") {
            policy[name] = value.clone();
        }
        std::fs::write(self.place.beside("policy.json"), policy.to_string()).expect("written");
        let out = ["-o", "../policy.signed.json", "-k", "../policy.pem"];
        self.place.affiant(["policy", "sign", "../policy.json"]).with(out).run().code(0);
    }

    /// Signs without a key: services, and claims of the token that differ.
    pub(crate) fn sign(&self, image: &str, generation: u8, stamped: bool, more: &[&str], claims: &Value) {
        self.place.write("config.json", self.sigstore.signing_config(generation, stamped));
        let args = ["image", "sign", "--signing-config", "config.json"];
        let call = self.place.affiant(args).with(more).with([image]);
        call.env("SIGSTORE_ID_TOKEN", token(claims)).run().code(0);
    }

    pub(crate) fn ask(&self, image: &str) -> Ended {
        verify(&self.place, image, [])
    }
}

pub(crate) fn certificate(uri: &str, issuer: &str) -> Value {
    json!({"certConstraint": {"uris": [uri], "roots": ["*"], "extensions": {"Issuer": issuer}}})
}

pub(crate) fn keyless() -> Value {
    json!({"functionaries": [certificate(IDENTITY, ISSUER)], "log": "required", "sct": "required"})
}

pub(crate) fn with(mut images: Value, member: &str, value: Value) -> Value {
    images[member] = value;
    images
}

pub(crate) fn without(mut images: Value, member: &str) -> Value {
    images.as_object_mut().expect("an object").remove(member);
    images
}

#[test]
fn rule_13_the_policy_judges_every_form_of_keyless_signatures() {
    let world = World::new();
    // Generation of the log, whether it is stamped, form, and whether a log has it that the form has room for.
    let forms = [
        (1, false, "tag", true),
        (1, true, "tag", true),
        (1, false, "bundle", true),
        (2, true, "bundle", true),
        (2, true, "tag", false),
        (0, true, "tag", false),
        (0, true, "bundle", false),
    ];
    for (number, (generation, stamped, form, logged)) in forms.into_iter().enumerate() {
        let who = format!("{generation} {stamped} {form}");
        let image = world.push(&format!("form-{number}"));
        world.policy(&keyless(), &json!({}));
        denied(world.ask(&image), &["none is kept with sha256:", "--signing-config"]);
        // A statement is sent to a log of the first generation only where that is said.
        let log: &[&str] = if (generation, form) == (1, "bundle") { &["--log", "rekor1"] } else { &[] };
        let more = [&["--format", form, "-a", "tag=v1"], log].concat();
        world.sign(&image, generation, stamped, &more, &json!({}));
        if logged {
            let verdict = verify(&world.place, &image, ["-o", "json"]).code(0).stdout_text();
            let verdict: Value = serde_json::from_str(&verdict).expect("JSON");
            let signer = verdict["images"][0]["signers"][0].as_str().expect("a signer");
            // Who, by whose word, when and by whose word, and in which log.
            for part in [IDENTITY, ISSUER, " at 20", " by ", "entry ", "of the log "] {
                assert!(signer.contains(part), "{who}: {part}: {signer}");
            }
            let kinds: Vec<_> = verdict["images"][0]["checks"].as_array().expect("a list").iter().collect();
            let kinds: Vec<&str> = kinds.iter().filter_map(|check| check["kind"].as_str()).collect();
            assert_eq!(kinds, ["signature", "log", "certificate"], "{who}");
            let text = world.ask(&image).code(0).stdout_text();
            assert!(text.contains(IDENTITY), "{who}: {text}");
            let report = verify(&world.place, &image, ["--report", "markdown=../r.md"]).code(0);
            drop(report);
            let report = std::fs::read_to_string(world.place.beside("r.md")).expect("written");
            let name = "gitlab.example/group/app//.gitlab-ci.yml";
            assert!(report.contains(name) && report.contains("of the log"), "{who}: {report}");
        } else {
            denied(world.ask(&image), &["no entry of a trusted log", "in a trusted log, the certificate in a trusted"]);
        }
        // Where no log is demanded, what proves the time is enough.
        world.policy(&without(keyless(), "log"), &json!({}));
        world.ask(&image).code(0);
        // What it says is the policy's demand as well.
        world.policy(&with(without(keyless(), "log"), "annotations", json!({"tag": "v1"})), &json!({}));
        world.ask(&image).code(0);
        world.policy(&with(without(keyless(), "log"), "annotations", json!({"tag": "v2"})), &json!({}));
        denied(world.ask(&image), &["tag=v2 is wanted"]);
    }
}

#[test]
fn class_d_another_signer_is_told_with_what_would_accept_it() {
    let world = World::new();
    let image = world.push("v1");
    world.sign(&image, 2, true, &["--format", "bundle"], &json!({}));
    for (uri, issuer) in [
        ("https://gitlab.example/group/other//.gitlab-ci.yml@refs/heads/main", ISSUER),
        (&IDENTITY[..IDENTITY.len() - 1], ISSUER),
        (IDENTITY, "https://gitlab.com"),
    ] {
        world.policy(&with(keyless(), "functionaries", json!([certificate(uri, issuer)])), &json!({}));
        let verdict = verify(&world.place, &image, ["-o", "json"]).code(1).stdout_text();
        let verdict: Value = serde_json::from_str(&verdict).expect("JSON");
        let check = &verdict["images"][0]["checks"][0];
        assert_eq!(check["kind"], "functionary", "{check}");
        let text = |member: &str| check[member].as_str().expect("text").to_owned();
        assert!(text("expected").contains(uri) && text("expected").contains(issuer), "{check}");
        for part in [IDENTITY, ISSUER, "its certificate says: "] {
            assert!(text("found").contains(part), "{part}: {check}");
        }
        // What is offered is accepted as it stands.
        let fix = text("fix");
        let (_, rest) = fix.split_once("`\"certConstraint\": ").expect("a constraint");
        let (offered, rest) = rest.split_once("` would accept it").expect("its end");
        assert!(rest.contains("review"), "{fix}");
        let offered = json!([{"certConstraint": serde_json::from_str::<Value>(offered).expect("JSON")}]);
        world.policy(&with(keyless(), "functionaries", offered), &json!({}));
        world.ask(&image).code(0);
    }
    // A claim of the job is part of who it is.
    let mut of_ref = certificate(IDENTITY, ISSUER);
    of_ref["certConstraint"]["extensions"]["SourceRepositoryRef"] = json!("refs/heads/other");
    world.policy(&with(keyless(), "functionaries", json!([of_ref])), &json!({}));
    denied(world.ask(&image), &["extensions.SourceRepositoryRef: expected `refs/heads/other`"]);
    // Where all else is missing as well, whose certificate it is said to be is told.
    let unlogged = world.push("unlogged");
    world.sign(&unlogged, 0, true, &["--format", "bundle"], &json!({}));
    let stranger = certificate("https://gitlab.example/group/other", ISSUER);
    world.policy(&with(keyless(), "functionaries", json!([stranger])), &json!({}));
    denied(world.ask(&unlogged), &["it has no log entry", "nobody who may sign", IDENTITY]);
    let other = world.push("by-key");
    world.policy(&json!({"functionaries": [{"key": "image"}]}), &json!({}));
    denied(world.ask(&image), &["a signature of the image by key", "(images.functionaries)"]);
    world.place.affiant(["image", "sign", "--key", "c.key", &other]).run().code(0);
    world.ask(&other).code(0);
    world.policy(&keyless(), &json!({}));
    denied(world.ask(&other), &["it has no certificate, and one is demanded"]);
}

#[test]
fn each_functionary_counts_once_by_key_or_by_certificate() {
    let world = World::new();
    let image = world.push("v1");
    let two = json!({"functionaries": [certificate(IDENTITY, ISSUER), {"key": "image"}], "threshold": 2});
    world.policy(&two, &json!({}));
    // Twice the same identity, with another key each time, is one signer.
    world.sign(&image, 1, true, &["--format", "tag"], &json!({}));
    world.sign(&image, 2, true, &["--format", "bundle"], &json!({}));
    denied(world.ask(&image), &["2 signatures of the image", "only 1 of 2 signed it"]);
    world.place.affiant(["image", "sign", "--key", "c.key", &image]).run().code(0);
    world.ask(&image).code(0);
    // Of each of them all is demanded: the key's signature is in no log.
    world.policy(&with(two, "log", json!("required")), &json!({}));
    denied(world.ask(&image), &["only 1 of 2 signed it", "no entry of a trusted log"]);
}

#[test]
fn classes_f_and_g_the_policy_says_who_is_believed_and_when() {
    let world = World::new();
    let image = world.push("v1");
    world.sign(&image, 2, true, &["--format", "bundle"], &json!({}));
    world.policy(&keyless(), &json!({}));
    world.ask(&image).code(0);
    let root: Value = serde_json::from_str(&world.sigstore.trusted_root()).expect("JSON");
    let ended = json!({"start": "2020-01-01T00:00:00Z", "end": "2020-06-01T00:00:00Z"});
    for (list, part) in [
        ("certificateAuthorities", "no certificate authority is trusted at"),
        ("tlogs", "no entry of a trusted log"),
        ("ctlogs", "no log of certificates vouches"),
    ] {
        let mut over = root.clone();
        for one in over[list].as_array_mut().expect("a list") {
            let one = if one.get("publicKey").is_some() { &mut one["publicKey"] } else { one };
            one["validFor"] = ended.clone();
        }
        std::fs::write(world.place.beside("root.json"), over.to_string()).expect("written");
        world.policy(&keyless(), &json!({}));
        denied(world.ask(&image), &[part]);
    }
    // Another instance of the same services is believed for nothing.
    std::fs::write(world.place.beside("root.json"), Sigstore::start().trusted_root()).expect("written");
    world.policy(&keyless(), &json!({}));
    denied(world.ask(&image), &["(images.functionaries)"]);
    // Neither does a flag help: what the caller believes is asked besides, and instead of nothing.
    world.place.write("mine.json", world.sigstore.trusted_root());
    let flags = ["--image-identity", IDENTITY, "--image-issuer", ISSUER, "--image-trusted-root", "mine.json"];
    denied(verify(&world.place, &image, flags), &["(images.functionaries)"]);
    let ignoring = flags.into_iter().chain(["--image-insecure-ignore-tlog"]);
    denied(verify(&world.place, &image, ignoring), &["(images.functionaries)"]);
    verify(&world.place, &image, ["--image-insecure-ignore-tlog"]).code(2).stderr_has(&["nothing says who"]);
}

/// Rule 9 and 11: the signature says who released it; that it was built as the policy asks must be proven all the same.
#[test]
fn rule_9_a_keyless_signature_is_no_evidence_of_a_build() {
    let world = World::new();
    world.policy(&keyless(), &json!({}));
    let other = Built::of("never built", "amd64");
    other.push(&world.registry, Some("evil"), None, 6);
    let image = format!("{}/team/app:evil", world.registry.host());
    world.sign(&image, 1, true, &[], &json!({}));
    assert_ne!(world.ask(&image).exit_code(), 0);
    // Another image's signature, copied.
    let good = world.push("good");
    world.sign(&good, 1, true, &["--format", "tag"], &json!({}));
    world.ask(&good).code(0);
    let copied = world.registry.manifest("team/app", &world.signatures("good")).expect("signed").to_string();
    let third = world.push("third");
    world.registry.put("team/app", Some(&world.signatures("third")), MANIFEST, copied.as_bytes());
    denied(world.ask(&third), &["it is about another image"]);
}

/// Strangers may keep what they want beside an image: the right signature, last of all, is found by gate and check alike.
#[test]
fn a_crowd_of_strangers_hides_no_signature() {
    const CROWD: usize = 120;
    let world = World::new();
    let image = world.push("v1");
    world.policy(&keyless(), &json!({}));
    // A stranger's signature with a certificate of the same authority, and one of the right signer without what it signs.
    let other = json!({"ci_config_ref_uri": "gitlab.example/evil/app//.gitlab-ci.yml@refs/heads/main"});
    world.sign(&image, 1, true, &["--format", "tag"], &other);
    let signatures = world.signatures("v1");
    let strange = world.registry.manifest("team/app", &signatures).expect("signed")["layers"][0].clone();
    world.registry.untag("team/app", &signatures);
    world.sign(&image, 1, true, &["--format", "tag"], &json!({}));
    let mut manifest = world.registry.manifest("team/app", &signatures).expect("signed");
    let good = manifest["layers"][0].clone();
    let mut forged = good.clone();
    forged["annotations"]["dev.cosignproject.cosign/signature"] =
        strange["annotations"]["dev.cosignproject.cosign/signature"].clone();
    let mut layers: Vec<Value> =
        (0..CROWD).map(|number| if number % 10 == 0 { forged.clone() } else { strange.clone() }).collect();
    layers.push(good.clone());
    manifest["layers"] = layers.into();
    world.registry.put("team/app", Some(&signatures), MANIFEST, manifest.to_string().as_bytes());
    world.ask(&image).code(0);
    let flags = ["--certificate-identity", IDENTITY, "--certificate-oidc-issuer", ISSUER];
    let check = ["image", "verify", "--trusted-root", "../root.json"];
    world.place.affiant(check).with(flags).with([&image]).run().code(0);
    // Without it they are told of, and not more than one can read.
    manifest["layers"].as_array_mut().expect("a list").pop();
    world.registry.put("team/app", Some(&signatures), MANIFEST, manifest.to_string().as_bytes());
    denied(world.ask(&image), &["more reasons"]);
    world.place.affiant(check).with(flags).with([&image]).run().code(12);
}

/// A policy that a job has signed: its time is proven by the promise of a log, or by a timestamp, of a root that a flag names.
#[test]
fn a_policy_that_was_signed_without_a_key_is_proven_by_log_or_timestamp() {
    let world = World::new();
    let image = world.push("v1");
    world.sign(&image, 1, true, &[], &json!({}));
    world.policy(&keyless(), &json!({}));
    let (fulcio, log, stamps) = (world.sigstore.fulcio(), world.sigstore.rekor(1), world.sigstore.tsa());
    let sign = |more: &[&str]| {
        let args = ["policy", "sign", "../policy.json", "-o", "../keyless.json", "--fulcio-url", &fulcio];
        world.place.affiant(args).with(more).env("SIGSTORE_ID_TOKEN", token(&json!({}))).run()
    };
    let ask = |more: &[&str]| {
        let args = ["verify", "-p", "../keyless.json", "--image", &image];
        world.place.affiant(args).with(more).run()
    };
    let believed = ["--policy-trusted-root", "../root.json"];
    let of = |uri: &'static str, issuer: &'static str| ["--policy-uris", uri, "--policy-fulcio-oidc-issuer", issuer];
    sign(&[]).code(2).stderr_has(&["nothing would prove when"]);
    sign(&["--rekor-url", "https://rekor.sigstore.dev"]).code(2).stderr_has(&["--log-public-ok"]);
    for proof in [["--rekor-url", &log], ["--timestamp-servers", &stamps]] {
        sign(&proof).code(0);
        let envelope: Value =
            serde_json::from_slice(&std::fs::read(world.place.beside("keyless.json")).expect("written")).expect("JSON");
        let kind = if proof[0] == "--rekor-url" { "sigstore-log-entry" } else { "tsp" };
        assert_eq!(envelope["signatures"][0]["timestamps"][0]["type"], kind);
        let text = ask(&[&believed[..], &of(IDENTITY, ISSUER)].concat()).code(0).stdout_text();
        assert!(text.starts_with("PASSED"), "{text}");
        denied(ask(&[&believed[..], &of("https://gitlab.example/x", ISSUER)].concat()), &[IDENTITY]);
        denied(ask(&[&believed[..], &of(IDENTITY, "https://gitlab.com")].concat()), &[ISSUER]);
        // Who vouched is part of who it is.
        ask(&[&believed[..], &["--policy-uris", IDENTITY]].concat())
            .code(2)
            .stderr_has(&["--policy-fulcio-oidc-issuer"]);
        ask(&believed).code(2);
        // So is who: an issuer alone lets everybody sign who has an account there.
        ask(&[&believed[..], &["--policy-fulcio-oidc-issuer", ISSUER]].concat()).code(2).stderr_has(&["anybody"]);
        // Another instance, and a root without what proves the time or the certificate.
        let root: Value = serde_json::from_str(&world.sigstore.trusted_root()).expect("JSON");
        let times = if proof[0] == "--rekor-url" { "tlogs" } else { "timestampAuthorities" };
        for list in [times, "certificateAuthorities"] {
            let mut bare = root.clone();
            bare[list] = json!([]);
            world.place.write("bare.json", bare.to_string());
            let ended = ask(&[&["--policy-trusted-root", "bare.json"][..], &of(IDENTITY, ISSUER)].concat());
            assert_ne!(ended.exit_code(), 0, "{list}: {}", ended.stdout_text());
        }
        world.place.write("other.json", Sigstore::start().trusted_root());
        let ended = ask(&[&["--policy-trusted-root", "other.json"][..], &of(IDENTITY, ISSUER)].concat());
        denied(ended, &["--policy-trusted-root"]);
    }
    let text = sign(&["--rekor-url", &log, "--timestamp-servers", &stamps]).code(0).stderr_text();
    assert!(!text.contains("warning"), "{text}");
    ask(&[&believed[..], &of(IDENTITY, ISSUER)].concat()).code(0);
    // The log is told a digest, and never the document.
    let asked = world.sigstore.asked();
    let told: Vec<String> = asked.iter().map(|asked| String::from_utf8_lossy(&asked.body).into_owned()).collect();
    assert!(told.iter().any(|body| body.contains("hashedrekord")));
    assert!(told.iter().all(|body| !body.contains("proposedContent")), "{told:?}");
}

/// Evidence of a run with an entry in a log, which the policy demands.
#[test]
fn evidence_of_a_run_is_entered_in_a_log_where_a_flag_says_so() {
    let world = World::new();
    let root = world.sigstore.trusted_root();
    std::fs::write(world.place.beside("root.json"), root).expect("written");
    let policy = json!({"expires": "2100-01-01", "trustedRoot": "root.json", "steps": {"build": {"log": "required",
        "sct": "required", "functionaries": [certificate(IDENTITY, ISSUER)], "attestations": ["product"]}}});
    std::fs::write(world.place.beside("policy.json"), policy.to_string()).expect("written");
    let out = ["-o", "../policy.signed.json", "-k", "../policy.pem"];
    world.place.affiant(["policy", "sign", "../policy.json"]).with(out).run().code(0);
    let (fulcio, log, stamps) = (world.sigstore.fulcio(), world.sigstore.rekor(1), world.sigstore.tsa());
    let run = |more: &[&str]| {
        let _ = std::fs::remove_file(world.place.work().join("made"));
        let args = ["run", "-s", "build", "-a", "environment", "--fulcio-url", &fulcio, "-o", "../e.json"];
        let call = world.place.affiant(args).with(more).with(["--", "sh", "-c", "echo made >made"]);
        call.env("SIGSTORE_ID_TOKEN", token(&json!({}))).run()
    };
    let ask = || {
        let args = ["verify", "-p", "../policy.signed.json", "-k", "../policy.pub", "-a", "../e.json", "made"];
        world.place.affiant(args).run()
    };
    run(&["--timestamp-servers", &stamps]).code(0);
    denied(ask(), &["it has no log entry"]);
    for services in [&["--rekor-url", &*log][..], &["--rekor-url", &log, "--timestamp-servers", &stamps]] {
        run(services).code(0);
        let text = ask().code(0).stdout_text();
        assert!(text.contains("of the log"), "{text}");
    }
}
