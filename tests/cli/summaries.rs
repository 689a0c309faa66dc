//! Verification summaries that an identity signs, without a key: of the gate, and of `promote`.

use serde_json::{Value, json};

use crate::gate_images_keyless::{IDENTITY, ISSUER, World, keyless};
use crate::harness::Call;
use crate::registry::Registry;
use crate::sigstore_services::{Sigstore, token};

const TYPE: &str = "https://slsa.dev/verification_summary/v1";

/// A world with an image that its policy passes.
fn world() -> (World, String) {
    let world = World::new();
    let image = world.push("v1");
    world.sign(&image, 1, true, &["--format", "tag"], &json!({}));
    world.policy(&keyless(), &json!({}));
    (world, image)
}

fn digest(world: &World) -> String {
    let bytes = world.registry.manifest("team/app", "v1").expect("there").to_string();
    affiant_core::image::Digest::of(bytes.as_bytes()).to_string()
}

/// Asks whether a summary counts that this identity is said to have signed.
fn check(world: &World, artifact: &str, resource: &str, identity: &str) -> Call {
    let who = ["--trusted-root", "../root.json", "--certificate-identity", identity];
    let args = ["verify-vsa", "../vsa.json", artifact, "--resource-uri", resource];
    world.place.affiant(args).with(who).with(["--certificate-oidc-issuer", ISSUER])
}

#[test]
fn a_summary_of_the_gate_is_signed_without_a_key() {
    let (world, image) = world();
    let (fulcio, tsa) = (world.sigstore.fulcio(), world.sigstore.tsa());
    let ask = |more: &[&str], token: Option<String>| {
        let args = ["verify", "-p", "../policy.signed.json", "-k", "../policy.pub", "--image", &image];
        let call = world.place.affiant(args).with(["--vsa-outfile", "../vsa.json", "--vsa-resource-uri", "urn:app"]);
        let call = call.with(more);
        match token {
            Some(token) => call.env("SIGSTORE_ID_TOKEN", token).run(),
            None => call.run(),
        }
    };
    let services = ["--fulcio-url", &*fulcio, "--timestamp-servers", &*tsa];
    let good = || Some(token(&json!({})));
    // What can be refused is refused before the image is looked at.
    world.registry.forget();
    let certificates = world.sigstore.count("fulcio");
    ask(&[], good()).code(2).stdout("").stderr_has(&["nobody is named who signs", "--vsa-key FILE"]);
    ask(&services[..2], good()).code(2).stdout("").stderr_has(&["nothing would prove when"]);
    ask(&services, None).code(4).stdout("").stderr_has(&["there is no identity token"]);
    let old = token(&json!({"exp": 1_700_000_000}));
    ask(&services, Some(old)).code(4).stdout("").stderr_has(&["expired"]);
    ask(&[&services[..], &["--offline"]].concat(), good()).code(2).stdout("").stderr_has(&["signing the summary"]);
    let public = ["--fulcio-url", "https://fulcio.sigstore.dev", "--timestamp-servers", &tsa];
    ask(&public, good()).code(2).stdout("").stderr_has(&["is public and keeps", "--log-public-ok"]);
    assert!(world.registry.asked().is_empty());
    // Without a summary, a root of trust for its services would look like one for the gate.
    let args = ["verify", "-p", "../policy.signed.json", "-k", "../policy.pub", "--image", &image];
    let told = world.place.affiant(args).with(["--trusted-root", "../root.json"]).run();
    told.code(2).stdout("").stderr_has(&["sign a verification summary", "--image-trusted-root"]);
    assert_eq!(world.sigstore.count("fulcio"), certificates);

    let text = ask(&services, good()).code(0).stdout_text();
    assert!(text.starts_with("PASSED"), "{text}");
    let envelope: Value =
        serde_json::from_slice(&std::fs::read(world.place.beside("vsa.json")).expect("written")).expect("JSON");
    // The form of witness: certificate and token beside the signature.
    assert!(envelope["signatures"][0]["certificate"].is_string(), "{envelope}");
    assert_eq!(envelope["signatures"][0]["timestamps"][0]["type"], "tsp");
    let artifact = digest(&world);
    let text = check(&world, &artifact, "urn:app", IDENTITY).run().code(0).stdout_text();
    assert!(text.starts_with("PASSED"), "{text}");
    let other = check(&world, &artifact, "urn:app", "https://gitlab.example/other").run().code(1).stdout_text();
    assert!(other.contains("check      functionary") && other.contains(IDENTITY), "{other}");
    // Who vouched is part of who it is, and neither is left out.
    let args = ["verify-vsa", "../vsa.json", &artifact, "--resource-uri", "urn:app", "--trusted-root", "../root.json"];
    world.place.affiant(args).run().code(2);
    let named = ["--certificate-identity", IDENTITY];
    world.place.affiant(args).with(named).run().code(2);
    world.place.affiant(args).with(named).with(["--certificate-oidc-issuer", "https://gitlab.com"]).run().code(1);
    // Where the root names logs of certificates, one of them has the signer's.
    let root = std::fs::read(world.place.beside("root.json")).expect("there");
    let other: Value = serde_json::from_slice(Sigstore::start().trusted_root().as_ref()).expect("JSON");
    let mut mixed: Value = serde_json::from_slice(&root).expect("JSON");
    mixed["ctlogs"] = other["ctlogs"].clone();
    std::fs::write(world.place.beside("root.json"), mixed.to_string()).expect("written");
    let text = check(&world, &artifact, "urn:app", IDENTITY).run().code(1).stdout_text();
    assert!(text.contains("check      functionary") && text.contains("must be in a log"), "{text}");
    // Another instance of the services is believed for nothing.
    std::fs::write(world.place.beside("root.json"), Sigstore::start().trusted_root()).expect("written");
    let text = check(&world, &artifact, "urn:app", IDENTITY).run().code(1).stdout_text();
    assert!(text.contains("check      signature"), "{text}");
}

#[test]
fn what_promote_says_is_signed_without_a_key() {
    let (world, image) = world();
    let target = Registry::start();
    let to = format!("{}/live/app:1", target.host());
    let call = |more: &[&str]| {
        let args = ["promote", &image, &to, "-p", "../policy.signed.json", "-k", "../policy.pub"];
        world.place.affiant(args).with(more).env("SIGSTORE_ID_TOKEN", token(&json!({})))
    };
    let (fulcio, tsa) = (world.sigstore.fulcio(), world.sigstore.tsa());
    let services = ["--fulcio-url", &*fulcio, "--timestamp-servers", &*tsa];
    let certificates = world.sigstore.count("fulcio");
    call(&[]).run().code(2).stdout("").stderr_has(&["nobody is named who signs", "--vsa-key FILE"]);
    call(&services[..2]).run().code(2).stdout("").stderr_has(&["nothing would prove when"]);
    // A log of the first generation alone proves the time of a statement only where it is sent all of it.
    let log = world.sigstore.rekor(1);
    let logged = ["--fulcio-url", &*fulcio, "--rekor-url", &*log];
    call(&logged).run().code(2).stdout("").stderr_has(&["nothing would prove when"]);
    let old = token(&json!({"exp": 1_700_000_000}));
    call(&services).env("SIGSTORE_ID_TOKEN", old).run().code(4).stdout("").stderr_has(&["expired"]);
    // Names of either place become known only where somebody said so, by the flag or by its variable.
    let public = ["--fulcio-url", "https://fulcio.sigstore.dev", "--timestamp-servers", "http://127.0.0.1:1"];
    call(&public).run().code(2).stdout("").stderr_has(&["no public registry", "--log-public-ok"]);
    // Nothing is written over what the image becomes part of, and nobody is asked where nobody shall be.
    let to_layout = |more: &[&str]| {
        let args = ["promote", &image, "oci:../live:v1", "-p", "../policy.signed.json", "-k", "../policy.pub"];
        let call = world.place.affiant(args).with(services).with(more);
        call.env("SIGSTORE_ID_TOKEN", token(&json!({}))).run()
    };
    std::fs::create_dir(world.place.beside("live")).expect("made");
    std::fs::write(world.place.beside("live/index.json"), "{}").expect("written");
    to_layout(&["--vsa-outfile", "../live/index.json"]).code(2).stdout("").stderr_has(&["would be overwritten"]);
    to_layout(&["--offline"]).code(2).stdout("").stderr_has(&["--offline"]);
    std::fs::remove_dir_all(world.place.beside("live")).expect("removed");
    // A denial costs no certificate.
    let unsigned = world.push("unsigned");
    let args = ["promote", &unsigned, &to, "-p", "../policy.signed.json", "-k", "../policy.pub"];
    let denied = world.place.affiant(args).with(services).env("SIGSTORE_ID_TOKEN", token(&json!({})));
    denied.run().code(1).stdout("").stderr_has(&["is not promoted"]);
    assert!(target.tags("live/app").is_empty());
    assert_eq!(world.sigstore.count("fulcio"), certificates);

    let who = ["--certificate-identity", IDENTITY, "--certificate-oidc-issuer", ISSUER];
    world.place.write("config.json", world.sigstore.signing_config(2, true));
    let sent = [&logged[..], &["--log", "rekor1"]].concat();
    for (services, entries) in [(&services[..], 0), (&["--signing-config", "config.json"], 1), (&sent, 1)] {
        let ended = call(services).with(["--vsa-outfile", "../vsa.json"]).run().code(0);
        let pinned = ended.stdout_text().trim().to_owned();
        assert!(target.manifest("live/app", "1").is_some(), "the tag is there");
        // In a file it is the bundle, which has room for all that vouches for it.
        let bundle: Value =
            serde_json::from_slice(&std::fs::read(world.place.beside("vsa.json")).expect("written")).expect("JSON");
        let material = &bundle["verificationMaterial"];
        assert_eq!(material["tlogEntries"].as_array().map_or(0, Vec::len), entries, "{bundle}");
        assert!(material["certificate"].is_object(), "{bundle}");
        let (_, artifact) = pinned.rsplit_once('@').expect("a digest");
        let text = check(&world, artifact, &pinned, IDENTITY).run().code(0).stdout_text();
        assert!(text.starts_with("PASSED"), "{text}");
        check(&world, artifact, &pinned, "https://gitlab.example/other").run().code(1);
        // With the image it is kept so that others find and check it.
        let args = ["image", "verify-attestation", "--type", TYPE, "--trusted-root", "../root.json"];
        let ignoring: &[&str] = if entries == 0 { &["--insecure-ignore-tlog"] } else { &[] };
        world.place.affiant(args).with(who).with(ignoring).with([&*pinned]).run().code(0);
    }
    // By a key nothing has changed, and the file names it.
    world.place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "../gate.key"]).run().code(0);
    call(&["--vsa-key", "../gate.key", "--vsa-outfile", "../vsa.json"]).run().code(0);
    let envelope: Value =
        serde_json::from_slice(&std::fs::read(world.place.beside("vsa.json")).expect("written")).expect("JSON");
    assert_eq!(envelope["signatures"][0]["keyid"].as_str().map(str::len), Some(64), "{envelope}");
}
