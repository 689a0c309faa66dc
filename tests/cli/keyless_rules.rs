//! Rules for those who sign and check without keys, whatever the surroundings say (security rules 2 and 8).

use serde_json::{Value, json};

use crate::harness::{Call, Place};
use crate::registry::{Asked, Registry, Said};
use crate::sigstore_services::{Sigstore, Twist, token};
use crate::tuf::{LATE, Mirror};

/// An identity signs evidence with these.
fn flags(sigstore: &Sigstore) -> [String; 6] {
    let [fulcio, tsa] = ["--fulcio-url", "--timestamp-servers"].map(str::to_owned);
    [fulcio, sigstore.fulcio(), tsa, sigstore.tsa(), "--retry-for".to_owned(), "2s".to_owned()]
}

/// The clock of reproducible builds is not the one by which anything is judged: a build step can set it.
#[test]
fn rule_8_what_is_judged_is_judged_by_the_real_clock() {
    let (registry, place) = (Registry::start(), Place::without_key());
    registry.put_image("app", "v1", "a");
    let image = format!("{}/app:v1", registry.host());
    place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "c.key"]).run().code(0);
    place.write("p.json", "{\"a\": 1}");
    let attest = ["image", "attest", "--key", "c.key", "--type", "https://a.example/t", "--predicate", "p.json"];
    place.affiant(attest).with([&image]).run().code(0);
    // Of before 2024, which is what the variable says in each of these calls.
    place.write("old.rego", "package signature\nimport rego.v1\nallow if time.now_ns() < 1704067200000000000\n");
    place.write("new.rego", "package signature\nimport rego.v1\nallow if time.now_ns() > 1704067200000000000\n");
    let check = |policy: &str| {
        place
            .affiant(["image", "verify-attestation", "--key", "c.pub", "--type", "https://a.example/t"])
            .with(["--policy", policy, &image])
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .run()
    };
    check("new.rego").code(0);
    check("old.rego").code(1).stdout("").stderr_has(&["old.rego does not allow"]);
    place.write(
        "deny.rego",
        "package a\nimport rego.v1\ndeny contains \"late\" if time.now_ns() > 1704067200000000000\n",
    );
    place.write("input.json", "{}");
    place.affiant(["policy", "eval", "--rego", "deny.rego", "--input", "input.json"]).run().code(1);
    let mut root: Value = serde_json::from_str(&Sigstore::start().trusted_root()).expect("JSON");
    root["ctlogs"][0]["publicKey"]["validFor"]["end"] = json!("2024-01-01T00:00:00Z");
    place.write("root.json", root.to_string());
    let shown = place.affiant(["trust", "show", "root.json", "-o", "json"]).run().code(0).stdout_text();
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["ctlogs"][0]["validFor"]["is"], "over");
}

/// A key's signature is told to nobody who is not named; the name of another tool does not change that, and it is said.
#[test]
fn a_key_tells_no_log_that_is_not_named() {
    let (registry, place) = (Registry::start(), Place::without_key());
    registry.put_image("app", "v1", "a");
    let image = format!("{}/app:v1", registry.host());
    place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "c.key"]).run().code(0);
    place.write("p.json", "{\"a\": 1}");
    let kind = ["--type", "https://a.example/t", "--predicate", "p.json"];
    for (verb, more) in [
        ("sign", &[&*image][..]),
        ("attest", &[&kind[..], &[&*image]].concat()),
        ("sign-blob", &["p.json"]),
        ("attest-blob", &[&kind[..], &["--bundle", "b.json", "p.json"]].concat()),
    ] {
        let call = |name: &str, first: &[&str]| {
            place.called(name, first).with([verb, "--yes", "--key", "c.key"]).with(more).run().code(0).stderr_text()
        };
        let said = call("cosign", &[]);
        for part in ["warning: no log is told", "--insecure-ignore-tlog", "--rekor-url URL", "--tlog-upload=false"] {
            assert!(said.contains(part), "{verb}: {part}: {said}");
        }
        assert!(!call("affiant", &["image"]).contains("no log is told"), "{verb}");
        let on_purpose = place.called("cosign", [verb, "--yes", "--key", "c.key", "--tlog-upload=false"]).with(more);
        assert!(!on_purpose.run().code(0).stderr_text().contains("no log is told"), "{verb}");
    }
}

/// What is given and does nothing is said, or refused.
#[test]
fn what_is_not_heeded_is_said() {
    let (registry, place) = (Registry::start(), Place::without_key());
    registry.put_image("app", "v1", "a");
    let image = format!("{}/app:v1", registry.host());
    place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "c.key"]).run().code(0);
    let sign = |more: &[&str]| place.affiant(["image", "sign", "--key", "c.key"]).with(more).with([&image]).run();
    sign(&["--sign-container-identity", ""]).code(2).stdout("");
    for other in ["other:tag", &format!("other@sha256:{}", "0".repeat(64))] {
        let elsewhere = format!("{}/{other}", registry.host());
        let ended = sign(&["--evidence-repository", &elsewhere]).code(2).stdout("");
        ended.stderr_has(&["evidence is kept in a repository"]);
    }
    assert_eq!(registry.tags("app"), ["v1"]);
    sign(&["--on-log-failure", "queue", "--spool", "../spool"]).code(0).stderr_has(&["no log is named"]);
    sign(&["--fulcio-url", "http://x.example"]).code(0).stderr_has(&["--fulcio-url: no certificate is asked for"]);
    let ended = sign(&[]).code(0);
    assert!(!ended.stderr_text().contains("note: --"));
}

/// What is not checked, and not kept, is said by every command that signs evidence.
#[test]
fn what_nobody_checks_is_said() {
    let sigstore = Sigstore::start();
    let place = Place::without_key();
    place.write("root.json", sigstore.trusted_root());
    place.write("doc.json", "{}");
    let unchecked = ["note: not checked", "who issued the certificate, its SCT, whose the timestamp is"];
    let unkept = ["no roots of the day are kept", "--trusted-root ROOT"];
    let command = ["--", "true"];
    for (args, command, keeps) in [
        (&["run", "-o", "../a.json", "-s", "b"][..], &command[..], true),
        (&["attest", "-o", "../a.json", "-s", "b"], &[], true),
        (&["sign", "-f", "doc.json", "-o", "s.json", "-t", "https://a.example/t"], &[], false),
    ] {
        let call = |root: &[&str]| {
            let token = token(&json!({}));
            place.affiant(args).with(flags(&sigstore)).with(root).with(command).env("SIGSTORE_ID_TOKEN", token).run()
        };
        let ended = call(&[]).code(0).stderr_has(&unchecked);
        assert_eq!(ended.stderr_text().contains(unkept[0]), keeps, "{args:?}: {}", ended.stderr_text());
        let ended = if keeps { ended.stderr_has(&unkept) } else { ended };
        // Nobody has the key of the certificate any more.
        assert!(!ended.stderr_text().contains("PUBLIC_KEY"), "{}", ended.stderr_text());
        let quiet = call(&["--trusted-root", "root.json"]).code(0).stderr_text();
        assert!(!quiet.contains("not checked") && !quiet.contains("roots of the day"), "{args:?}: {quiet}");
    }
}

/// A token within another text is a token.
#[test]
fn rule_2_the_command_sees_no_variable_that_holds_the_token() {
    let sigstore = Sigstore::start();
    let place = Place::without_key();
    let secret = token(&json!({}));
    let ended = place
        .affiant(["run", "-o", "../a.json", "-s", "b"])
        .with(flags(&sigstore))
        .with(["--", "sh", "-c", "echo ${HEADER-unset} ${CONFIG-unset} ${OTHER-unset}"])
        .env("SIGSTORE_ID_TOKEN", &secret)
        .env("HEADER", format!("Bearer {secret}"))
        .env("CONFIG", format!("{{\"a\": \"{secret}\"}}"))
        .env("OTHER", "Bearer of news")
        .run()
        .code(0);
    ended.stdout("unset unset Bearer of news\n");
}

/// That an entry is wanted does not say that everybody may read the statement.
#[test]
fn only_the_log_by_its_name_is_sent_statements() {
    let (sigstore, place) = (Sigstore::start(), Place::without_key());
    place.write("p.json", "{\"a\": 1}");
    place.write("file", "content");
    let attest = |program: &str, verb: &[&str]| -> Call {
        let (fulcio, rekor, tsa) = (sigstore.fulcio(), sigstore.rekor(1), sigstore.tsa());
        place
            .called(program, verb)
            .with(["--fulcio-url", &fulcio, "--rekor-url", &rekor, "--timestamp-servers", &tsa])
            .with(["--type", "https://a.example/t", "--predicate", "p.json", "--bundle", "b.json"])
            .env("SIGSTORE_ID_TOKEN", token(&json!({})))
    };
    let own = ["image", "attest-blob"];
    for call in [
        attest("affiant", &own).with(["--tlog-upload"]),
        attest("affiant", &own).with(["--tlog-upload=true"]),
        attest("cosign", &["attest-blob", "--yes"]).env("COSIGN_TLOG_UPLOAD", "true"),
    ] {
        call.with(["file"]).run().code(0).stderr_has(&["was not asked", "--log rekor1"]);
    }
    assert_eq!(sigstore.count("rekor1"), 0);
    attest("affiant", &own).with(["--log", "rekor1", "file"]).run().code(0);
    assert_eq!(sigstore.count("rekor1"), 1);
}

/// A flag that forbids the network is about registries too, and says how to do without.
#[test]
fn offline_asks_no_registry() {
    let (registry, place) = (Registry::start(), Place::without_key());
    registry.put_image("app", "v1", "a");
    let image = format!("{}/app:v1", registry.host());
    place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "c.key"]).run().code(0);
    place.affiant(["image", "sign", "--key", "c.key", &image]).run().code(0);
    let asked = registry.asked().len();
    for verb in ["verify", "verify-attestation"] {
        let call = || place.affiant(["image", verb, "--key", "c.pub", "--offline"]);
        let save = format!("affiant image save --dir FOLDER {image}");
        call().with([&image]).run().code(2).stdout("").stderr_has(&["--offline", &registry.host(), &save]);
        // Nor one in which the evidence is.
        let ended = call().with(["oci:kept", "--evidence-repository", &image.replace(":v1", "")]).run();
        ended.code(2).stdout("").stderr_has(&["--offline", &registry.host()]);
        let help = place.affiant(["image", verb, "-h"]).run().code(0).stdout_text();
        assert!(help.contains("--offline"), "{help}");
    }
    assert_eq!(registry.asked().len(), asked, "nobody was asked");
    // What is said to do does.
    place.affiant(["image", "save", "--dir", "kept", &image]).run().code(0);
    place.affiant(["image", "verify", "--key", "c.pub", "--offline", "oci:kept"]).run().code(0);
}

/// A mirror of the services' roots and configuration, with the root that it begins with.
fn mirror(sigstore: &Sigstore, place: &Place) -> Mirror {
    let mirror = Mirror::new();
    let (root, config) = (sigstore.trusted_root(), sigstore.signing_config(2, true));
    let targets = [("trusted_root.json", root.as_bytes()), ("signing_config.v0.2.json", config.as_bytes())];
    mirror.publish(2, LATE, &targets);
    std::fs::create_dir_all(place.work().join("tuf")).expect("a folder");
    place.write("tuf/root.json", mirror.root());
    mirror
}

/// Variables of cosign choose the mirror where something is signed, and nothing where something is checked.
#[test]
fn rule_8_variables_choose_the_mirror_for_signing_only() {
    let (sigstore, place) = (Sigstore::start(), Place::without_key());
    let mirror = mirror(&sigstore, &place);
    place.write("file", "content");
    let sign = || {
        place
            .called("cosign", ["sign-blob", "--yes", "--bundle", "b.json", "file"])
            .env("SIGSTORE_ID_TOKEN", token(&json!({})))
            .env("https_proxy", "http://127.0.0.1:1")
            .env("no_proxy", "127.0.0.1")
    };
    let base = mirror.base();
    sign().env("TUF_MIRROR", &base).env("TUF_ROOT_JSON", "tuf/root.json").run().code(0);
    assert_eq!(sigstore.count("signingCert"), 1);
    // The same by a folder with the root; without any it is not known whom to believe.
    sign().env("TUF_MIRROR", &base).env("TUF_ROOT", "tuf").run().code(0);
    sign().env("TUF_MIRROR", &base).run().code(2).stdout("").stderr_has(&["TUF_MIRROR", "TUF_ROOT_JSON"]);
    sign().env("TUF_MIRROR", &base).env("TUF_ROOT", "none").run().code(4).stdout("");
    assert_eq!(sigstore.count("signingCert"), 2);
    // Nobody's folder of the public instance has anything of it.
    assert!(!place.all_paths().iter().any(|path| path.ends_with("trust/public/timestamp.json")));
    place.write("root.json", sigstore.trusted_root());
    let signer = ["--certificate-identity", "x", "--certificate-oidc-issuer", "https://x.example"];
    for name in ["TUF_ROOT", "TUF_MIRROR", "TUF_ROOT_JSON"] {
        for call in [
            place.affiant(["image", "verify-blob", "--trusted-root", "root.json", "--bundle", "b.json"]).with(signer),
            place.called("cosign", ["verify-blob", "--bundle", "b.json"]).with(signer),
            place.affiant(["verify", "-p", "p.json", "-k", "k.pub"]),
            place.affiant(["kyverno", "check", "a.example/b", "--trusted-root", "public", "-f"]),
        ] {
            let ended = call.with(["file"]).env(name, "x").run();
            ended.code(2).stdout("").stderr_has(&[&format!("{name} is set"), "flags only", "trusted-root"]);
        }
        place.affiant(["trust", "update", "public"]).env(name, "x").run().code(2).stderr_has(&[name, "--mirror URL"]);
    }
}

/// What was seen of a private mirror is the floor of the next time.
#[test]
fn an_older_state_of_a_private_mirror_is_refused() {
    let (sigstore, place) = (Sigstore::start(), Place::without_key());
    let mirror = mirror(&sigstore, &place);
    let base = mirror.base();
    let update = || {
        place
            .affiant(["trust", "update", "--mirror", &base, "--root", "tuf/root.json", "-o", "trusted_root.json"])
            .run()
    };
    update().code(0);
    let other = sigstore.trusted_root().replace("\"here\"", "\"there\"");
    mirror.publish(1, LATE, &[("trusted_root.json", other.as_bytes())]);
    update().code(1).stdout("").stderr_has(&["the roots of", "do not hold"]);
    let kept = std::fs::read_to_string(place.work().join("trusted_root.json")).expect("written");
    assert_eq!(kept, sigstore.trusted_root(), "what was taken before stays");
    mirror.publish(3, LATE, &[("trusted_root.json", other.as_bytes())]);
    update().code(0);
    assert_eq!(std::fs::read_to_string(place.work().join("trusted_root.json")).expect("written"), other);
}

/// Asked to come back at once, nobody is stormed with tokens.
#[test]
fn a_service_that_wants_to_be_asked_at_once_is_asked_with_pauses() {
    let busy = |asked: &Asked| asked.target.contains("signingCert").then(|| Said::new(503).with("retry-after", "0"));
    let sigstore = Sigstore::with(Twist::None, Some(Box::new(busy)));
    let place = Place::without_key();
    place.write("file", "content");
    place
        .affiant(["image", "sign-blob", "--bundle", "b.json"])
        .with(flags(&sigstore))
        .with(["file"])
        .env("SIGSTORE_ID_TOKEN", token(&json!({})))
        .run()
        .code(4)
        .stderr_has(&["answers 503"]);
    let count = sigstore.count("signingCert");
    assert!((2..=8).contains(&count), "{count} questions in two seconds");
}
