//! Signatures without keys, checked: what cosign recorded, and what a stranger makes of it (user-needs §4).

use std::path::{Path, PathBuf};

use affiant_core::sigstore::identity::CLAIMS;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Ended, Place, left_out};
use crate::images::load;
use crate::registry::Registry;
use crate::sigstore_services::{Sigstore, token};

const SUBJECT: &str = "https://gitlab.example.test/mygroup/myproject//.gitlab-ci.yml@refs/heads/main";
const ISSUER: &str = "http://127.0.0.1:5558";
const IMAGE: &str = "sha256:b15245ece36593766b17936ef079a207be686c6db2e2a91da27a757a61c1832f";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LOG: &str = "dev.sigstore.cosign/bundle";
const NO_MATCH: i32 = 12;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cosign")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn document(name: &str) -> Value {
    serde_json::from_slice(&read(name)).expect("JSON")
}

/// A place with the files that were signed, and the trusted root.
fn place() -> Place {
    let place = Place::without_key();
    for name in ["bundles/blob.txt", "bundles/blob2.txt", "trust/trusted_root.json", "keys/cosign.pub"] {
        place.write(name.rsplit('/').next().expect("a name"), read(name));
    }
    place
}

/// The flags of the signer that was recorded.
const SIGNER: [&str; 4] = ["--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER];
const ROOT: [&str; 2] = ["--trusted-root", "trusted_root.json"];

fn call(place: &Place, verb: &str, flags: &[&str], of: &[&str]) -> Ended {
    place.affiant(["image", verb]).with(flags).with(of).run()
}

fn keyless(place: &Place, verb: &str, of: &[&str]) -> Ended {
    call(place, verb, &[&SIGNER[..], &ROOT].concat(), of)
}

/// A way to a layout that was recorded.
fn layout(name: &str) -> String {
    format!("oci:{}@{IMAGE}", fixtures().join("layouts").join(name).display())
}

/// A leaf in PEM.
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {value}"))
}

/// A bundle over bytes in cosign's older form.
fn old_form(bundle: &Value) -> Value {
    let entry = &bundle["verificationMaterial"]["tlogEntries"][0];
    let number = |pointer: &str| text(entry, pointer).parse::<i64>().expect("a number");
    let log = STANDARD.decode(text(entry, "/logId/keyId")).expect("base64");
    let certificate = &bundle["verificationMaterial"]["certificate"]["rawBytes"];
    let mut old = json!({
        "base64Signature": bundle["messageSignature"]["signature"],
        "rekorBundle": {
            "SignedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
            "Payload": {
                "body": entry["canonicalizedBody"],
                "integratedTime": number("/integratedTime"),
                "logIndex": number("/logIndex"),
                "logID": crate::harness::hex(&log),
            },
        },
    });
    if let Some(der) = certificate.as_str() {
        let pem = pem(&STANDARD.decode(der).expect("base64"));
        old["cert"] = STANDARD.encode(pem).into();
    }
    old
}

const ENTRIES: &str = "/verificationMaterial/tlogEntries";

/// Puts one part of the log entry of another bundle into a bundle.
fn with_part(good: &Value, other: &Value, part: &str) -> Value {
    let mut edited = good.clone();
    let pointer = format!("{ENTRIES}/0{part}");
    *edited.pointer_mut(&pointer).unwrap_or_else(|| panic!("{pointer}")) =
        other.pointer(&pointer).unwrap_or_else(|| panic!("{pointer}")).clone();
    edited
}

/// Class A: an entry of a log counts for this artifact, key and signature alone, in every form.
#[test]
fn class_a_an_entry_of_another_signature_is_refused_in_every_form() {
    let place = place();
    let blob = document("bundles/blob-keyless-rekor1.sigstore.json");
    let attestation = document("bundles/attblob-keyless-rekor1.sigstore.json");
    let by_key = document("bundles/blob-keyed-rekor1.sigstore.json");
    let attested_by_key = document("bundles/attblob-keyed-rekor1.sigstore.json");
    let whole = ["", "/canonicalizedBody", "/inclusionPromise", "/inclusionProof"];
    let check = |name: &str, flags: &[&str], bundle: &Value, more: &[&str]| {
        place.write("b.json", bundle.to_string());
        call(&place, name, &[flags, &ROOT].concat(), &[&["--bundle", "b.json"], more, &["blob.txt"]].concat())
    };
    let (blob_of, attested) =
        (("verify-blob", &[][..]), ("verify-blob-attestation", &["--type", "slsaprovenance1"][..]));
    let key = ["--key", "cosign.pub"];
    // Same file, other key; same key, other file; another of both.
    for (what, (verb, more), flags, good, others) in [
        ("file", blob_of, &SIGNER[..], &blob, [&by_key, &attestation]),
        ("file by a key", blob_of, &key, &by_key, [&blob, &attested_by_key]),
        ("attestation", attested, &SIGNER, &attestation, [&blob, &attested_by_key]),
    ] {
        check(verb, flags, good, more).code(0);
        for (number, other) in others.into_iter().enumerate() {
            for part in whole {
                let ended = check(verb, flags, &with_part(good, other, part), more);
                let ended = ended.code(NO_MATCH).stdout("");
                assert!(ended.stderr_text().contains("no entry of a trusted log"), "{what} {number} {part}");
            }
        }
    }
    // The older form.
    let old = old_form(&blob);
    let stranger = document("bundles/blob-oldbundle-rekor1.json");
    check("verify-blob", &SIGNER, &old, &[]).code(0);
    check("verify-blob", &key, &stranger, &[]).code(0);
    for part in
        ["/rekorBundle", "/rekorBundle/SignedEntryTimestamp", "/rekorBundle/Payload", "/rekorBundle/Payload/body"]
    {
        for (flags, good, other) in [(&SIGNER[..], &old, &stranger), (&key, &stranger, &old)] {
            let mut edited = good.clone();
            *edited.pointer_mut(part).expect("there") = other.pointer(part).expect("there").clone();
            check("verify-blob", flags, &edited, &[]).code(NO_MATCH).stdout("");
        }
    }
    // Under a tag, and as a referrer.
    let registry = Registry::start();
    let (name, other) = ("keyless-gitlab-legacy-rekor1", "keyless-gitlab-legacy-rekor1-tsa");
    for case in [name, other] {
        load(&registry, &fixtures().join("layouts").join(case), case);
    }
    let tag = format!("{}.sig", IMAGE.replace(':', "-"));
    let good = registry.manifest(name, &tag).expect("signed");
    let other = registry.manifest(other, &tag).expect("signed");
    let entry = |manifest: &Value| -> Value {
        let text = manifest["layers"][0]["annotations"][LOG].as_str().expect("an entry");
        serde_json::from_str(text).expect("JSON")
    };
    let image = format!("{}/{name}@{IMAGE}", registry.host());
    for part in ["", "/SignedEntryTimestamp", "/Payload", "/Payload/body", "/Payload/integratedTime"] {
        let mut edited = entry(&good);
        *edited.pointer_mut(part).expect("there") = entry(&other).pointer(part).expect("there").clone();
        let mut manifest = good.clone();
        manifest["layers"][0]["annotations"][LOG] = edited.to_string().into();
        registry.put(name, Some(&tag), MANIFEST, manifest.to_string().as_bytes());
        keyless(&place, "verify", &[&image]).code(NO_MATCH).stdout("");
    }
    registry.put(name, Some(&tag), MANIFEST, good.to_string().as_bytes());
    keyless(&place, "verify", &[&image]).code(0);
    // Nothing says which logs are believed.
    call(&place, "verify", &SIGNER, &[&image])
        .code(4)
        .stdout("")
        .stderr_has(&["--trusted-root", "affiant trust export"]);
    let root: Value = document("trust/trusted_root.json");
    let mut bare = root.clone();
    bare["tlogs"] = json!([]);
    place.write("bare.json", bare.to_string());
    call(&place, "verify", &SIGNER, &["--trusted-root", "bare.json", &image]).code(NO_MATCH).stdout("");
}

/// Class C: the same verdict of one signature in every form that it can have.
#[test]
fn class_c_the_form_never_changes_the_verdict() {
    let place = place();
    let bundle = document("bundles/blob-keyless-rekor1.sigstore.json");
    let old = old_form(&bundle);
    place.write("new.json", bundle.to_string());
    place.write("old.json", old.to_string());
    place.write("s.sig", text(&bundle, "/messageSignature/signature"));
    let der = STANDARD.decode(text(&bundle, "/verificationMaterial/certificate/rawBytes")).expect("base64");
    place.write("c.pem", pem(&der));
    let mut bare = old.clone();
    bare.as_object_mut().expect("an object").remove("cert");
    place.write("bare.json", bare.to_string());
    let detached = ["--signature", "s.sig", "--certificate", "c.pem", "--bundle", "bare.json"];
    let blobs: [&[&str]; 3] = [&["--bundle", "new.json"], &["--bundle", "old.json"], &detached];
    let registry = Registry::start();
    let case = "keyless-gitlab-legacy-rekor1";
    load(&registry, &fixtures().join("layouts").join(case), case);
    load(&registry, &fixtures().join("layouts").join(case), "referrer");
    let under_tag = format!("{}/{case}@{IMAGE}", registry.host());
    // The same layers as a referrer, in the form that cosign calls oci-1-1.
    let tag = format!("{}.sig", IMAGE.replace(':', "-"));
    let mut manifest = registry.manifest("referrer", &tag).expect("signed");
    manifest["artifactType"] = "application/vnd.dev.cosign.artifact.sig.v1+json".into();
    manifest["config"]["mediaType"] = manifest["artifactType"].clone();
    manifest["subject"] = json!({"mediaType": MANIFEST, "digest": IMAGE, "size": 1});
    registry.put("referrer", None, MANIFEST, manifest.to_string().as_bytes());
    registry.put(
        "referrer",
        Some(&tag),
        MANIFEST,
        registry.manifest("referrer", IMAGE).expect("there").to_string().as_bytes(),
    );
    let referrer = format!("{}/referrer@{IMAGE}", registry.host());
    let (folder, as_bundle) = (layout(case), layout("keyless-gitlab-bundle-rekor2"));
    let images: [&[&str]; 4] = [&[&under_tag], &[&referrer], &[&folder], &[&as_bundle]];
    let root = document("trust/trusted_root.json");
    for (name, list) in [("no-logs", "tlogs"), ("no-ca", "certificateAuthorities"), ("no-ct", "ctlogs")] {
        let mut edited = root.clone();
        edited[list] = json!([]);
        place.write(&format!("{name}.json"), edited.to_string());
    }
    let identity = |subject: &'static str, issuer: &'static str| {
        vec!["--certificate-identity", subject, "--certificate-oidc-issuer", issuer]
    };
    let good = identity(SUBJECT, ISSUER);
    let with = |more: &[&'static str]| [&good[..], more].concat();
    let questions: [(&str, Vec<&str>, i32); 11] = [
        ("good", with(&ROOT), 0),
        ("claim", with(&["--trusted-root", "trusted_root.json", "--ref", "refs/heads/main"]), 0),
        ("other claim", with(&["--trusted-root", "trusted_root.json", "--ref", "refs/heads/mai"]), NO_MATCH),
        ("other signer", [&identity("https://gitlab.example.test/x", ISSUER)[..], &ROOT].concat(), NO_MATCH),
        ("other issuer", [&identity(SUBJECT, "http://127.0.0.1:5559")[..], &ROOT].concat(), NO_MATCH),
        ("no log known", with(&["--trusted-root", "no-logs.json"]), NO_MATCH),
        ("no authority known", with(&["--trusted-root", "no-ca.json"]), NO_MATCH),
        ("no certificate log known", with(&["--trusted-root", "no-ct.json"]), NO_MATCH),
        ("but not demanded", with(&["--trusted-root", "no-ct.json", "--insecure-ignore-sct"]), 0),
        ("a key", vec!["--key", "cosign.pub", "--trusted-root", "trusted_root.json"], NO_MATCH),
        ("no root", with(&[]), 4),
    ];
    for (what, flags, code) in &questions {
        for form in blobs {
            let flags: Vec<&str> = flags.clone();
            let is_detached_by_key = form.contains(&"--certificate") && flags.contains(&"--key");
            let ended = call(&place, "verify-blob", &flags, &[form, &["blob.txt"]].concat());
            assert_eq!(
                ended.exit_code(),
                if is_detached_by_key { 2 } else { *code },
                "{what} {form:?}: {}",
                ended.stderr_text()
            );
        }
        for image in images {
            let ended = call(&place, "verify", flags, image);
            assert_eq!(ended.exit_code(), *code, "{what} {image:?}: {}", ended.stderr_text());
            assert_eq!(ended.stdout_text().is_empty(), *code != 0, "{what} {image:?}");
        }
    }
    for form in blobs {
        let other = keyless(&place, "verify-blob", &[form, &["blob2.txt"]].concat());
        assert_eq!(other.exit_code(), NO_MATCH, "{form:?}");
    }
    for image in images {
        keyless(&place, "verify", &[&["-a", "tag=v1"], image].concat()).code(0);
        keyless(&place, "verify", &[&["-a", "tag=v2"], image].concat()).code(NO_MATCH).stdout("");
    }
}

/// Class D: each constraint can turn a yes into a no by itself, and an empty one is none.
#[test]
fn class_d_each_constraint_alone_decides() {
    let place = place();
    place.write("b.json", read("bundles/attblob-keyless-rekor2.sigstore.json"));
    let check = |flags: &[&str]| {
        let of = ["--type", "slsaprovenance1", "--bundle", "b.json", "blob.txt"];
        call(&place, "verify-blob-attestation", &[&ROOT[..], flags].concat(), &of)
    };
    let with = |more: &[&'static str]| check(&[&SIGNER[..], more].concat());
    check(&SIGNER).code(0);
    // What the certificate says, as a refusal tells it.
    let said = with(&["--ref", "x"]).code(NO_MATCH).stderr_has(&["review before use"]).stderr_text();
    let value = |flag: &str| {
        let line = said.lines().find(|line| line.starts_with(&format!("  --{flag} ")))?;
        Some(line.split_once('\'')?.1.trim_end_matches('\'').to_owned())
    };
    let mut there = 0;
    for claim in &CLAIMS {
        let flag = format!("--{}", claim.flag);
        let ask = |value: &str| check(&[&SIGNER[..], &[&*flag, value]].concat());
        ask("no such value").code(NO_MATCH).stdout("").stderr_has(&[&flag]);
        ask("").code(2).stdout("").stderr_has(&[&flag, "empty"]);
        if let Some(value) = value(claim.flag) {
            there += 1;
            ask(&value).code(0);
            ask(&value[..value.len() - 1]).code(NO_MATCH);
            ask(&format!("{value}x")).code(NO_MATCH);
        }
    }
    assert_eq!(there, 15, "{said}");
    for (flag, good, bad) in [
        ("--certificate-identity", SUBJECT, "https://gitlab.example.test/other"),
        (
            "--certificate-identity-regexp",
            "https://gitlab.example.test/mygroup/.*",
            "https://gitlab.example.test/mygroup/",
        ),
        (
            "--identity-glob",
            "https://gitlab.example.test/mygroup/*//.gitlab-ci.yml@refs/heads/*",
            "https://gitlab.example.test/*",
        ),
        ("--certificate-oidc-issuer", ISSUER, "http://127.0.0.1:555"),
        ("--certificate-oidc-issuer-regexp", "http://127.0.0.1:[0-9]+", "127.0.0.1"),
    ] {
        // Alone among those of its kind, and beside others that hold.
        let other: &[&str] = if flag.contains("issuer") { &SIGNER[..2] } else { &SIGNER[2..] };
        check(&[other, &[flag, good]].concat()).code(0);
        check(&[other, &[flag, bad]].concat()).code(NO_MATCH).stdout("");
        let beside: &[&str] = if flag == SIGNER[0] || flag == SIGNER[2] { &[] } else { &SIGNER };
        if !beside.is_empty() {
            check(&[beside, &[flag, bad]].concat()).code(NO_MATCH).stdout("");
        }
        check(&[other, &[flag, ""]].concat()).code(2).stdout("").stderr_has(&[flag, "empty"]);
        // One kind is not enough.
        check(&[flag, good]).code(2).stdout("").stderr_has(&["say who"]);
    }
    check(&[]).code(2).stdout("").stderr_has(&["nothing says who must have signed", "--certificate-identity"]);
    check(&["--ref", "refs/heads/main"]).code(2).stdout("");
    with(&["--key", "cosign.pub"]).code(2).stdout("").stderr_has(&["--key and --certificate-identity"]);
    check(&["--certificate-identity-regexp", "(", SIGNER[2], SIGNER[3]]).code(2).stderr_has(&["no regular expression"]);
    // What a refusal offers is accepted as it stands.
    let hint = said.lines().find_map(|line| line.split_once("it would be accepted by ")).expect("a hint").1;
    let words: Vec<&str> = hint.split(' ').map(|word| word.trim_matches('\'')).collect();
    check(&words).code(0);
}

/// Class E: a name is compared as a whole.
#[test]
fn class_e_part_of_a_name_is_not_enough() {
    let place = place();
    let image = layout("keyless-gitlab-bundle-rekor2");
    let check = |expression: &str| {
        let flags = ["--certificate-identity-regexp", expression, SIGNER[2], ISSUER];
        call(&place, "verify", &[&flags[..], &ROOT].concat(), &[&image])
    };
    for part in ["mygroup", "https://gitlab.example.test/mygroup/", "refs/heads/main", "main$", "^https://gitlab", "|"]
    {
        check(part).code(NO_MATCH).stdout("");
    }
    for whole in [".*mygroup.*", "^https://gitlab\\.example\\.test/mygroup/.*@refs/heads/main$", "mygroup|.*/main"] {
        check(whole).code(0);
    }
    let mail = layout("keyless-mail-bundle-rekor2");
    let of_mail = |name: &str| {
        let flags = ["--certificate-identity", name, "--certificate-oidc-issuer", "http://127.0.0.1:5557"];
        call(&place, "verify", &[&flags[..], &ROOT].concat(), &[&mail]).exit_code()
    };
    let found = ["dev@example.test", "ev@example.test", "dev@example.tes", "DEV@example.test", "dev@example.test "]
        .map(of_mail);
    assert_eq!(found, [0, NO_MATCH, NO_MATCH, NO_MATCH, NO_MATCH]);
}

/// Classes F and G: without a time that somebody trusted has signed, and authorities that are trusted then, a
/// certificate does not count.
#[test]
fn classes_f_and_g_times_and_authorities() {
    let place = place();
    let root = document("trust/trusted_root.json");
    let check = |root: &Value, bundle: &Value, more: &[&str]| {
        place.write("root.json", root.to_string());
        place.write("b.json", bundle.to_string());
        let flags = [&SIGNER[..], &["--trusted-root", "root.json"], more].concat();
        call(&place, "verify-blob", &flags, &["--bundle", "b.json", "blob.txt"])
    };
    let one = document("bundles/blob-keyless-rekor1.sigstore.json");
    let two = document("bundles/blob-keyless-rekor2.sigstore.json");
    let without = |bundle: &Value, member: &str| {
        let mut bundle = bundle.clone();
        bundle["verificationMaterial"].as_object_mut().expect("an object").remove(member);
        bundle
    };
    let (no_log, no_time) = (without(&one, "tlogEntries"), without(&two, "timestampVerificationData"));
    check(&root, &one, &[]).code(0);
    check(&root, &two, &[]).code(0);
    check(&root, &two, &["--use-signed-timestamps"]).code(0);
    // No log and no timestamp.
    check(&root, &no_log, &[]).code(NO_MATCH);
    check(&root, &no_log, &["--insecure-ignore-tlog"])
        .code(NO_MATCH)
        .stderr_has(&["nothing proves when it was signed"]);
    // An inclusion proof says nothing about time.
    check(&root, &no_time, &[]).code(NO_MATCH);
    check(&root, &no_time, &["--insecure-ignore-tlog"])
        .code(NO_MATCH)
        .stderr_has(&["nothing proves when it was signed"]);
    check(&root, &one, &["--use-signed-timestamps"]).code(NO_MATCH).stderr_has(&["timestamp"]);
    let windowed = |list: &str, place: usize, start: &str, end: Option<&str>| {
        let mut root = root.clone();
        let entry = &mut root[list][place];
        let entry = if entry.get("publicKey").is_some() { &mut entry["publicKey"] } else { entry };
        entry["validFor"] = match end {
            Some(end) => json!({"start": start, "end": end}),
            None => json!({"start": start}),
        };
        root
    };
    let (long_ago, before, later) = ("2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2030-01-01T00:00:00Z");
    for (list, at, bundle) in [
        ("certificateAuthorities", 0, &one),
        ("certificateAuthorities", 0, &two),
        ("timestampAuthorities", 0, &two),
        ("tlogs", 0, &two),
        ("tlogs", 1, &one),
        ("ctlogs", 0, &one),
    ] {
        check(&windowed(list, at, long_ago, Some(later)), bundle, &[]).code(0);
        check(&windowed(list, at, long_ago, Some(before)), bundle, &[]).code(NO_MATCH).stdout("");
        check(&windowed(list, at, later, None), bundle, &[]).code(NO_MATCH).stdout("");
    }
    // Other authorities: the root of timestamps vouches for no certificate, and the other way round.
    let files = [
        ("fulcio.pem", "trust/fulcio-chain.pem"),
        ("root.pem", "trust/fulcio-root.pem"),
        ("int.pem", "trust/fulcio-int.pem"),
        ("tsa.pem", "trust/tsa-chain.pem"),
    ];
    for (name, from) in files {
        place.write(name, read(from));
    }
    check(&root, &two, &["--certificate-chain", "fulcio.pem"]).code(0);
    check(&root, &two, &["--certificate-chain", "tsa.pem"]).code(NO_MATCH);
    check(&root, &two, &["--timestamp-certificate-chain", "tsa.pem"]).code(0);
    check(&root, &two, &["--timestamp-certificate-chain", "fulcio.pem"]).code(NO_MATCH);
    check(&root, &two, &["--ca-roots", "root.pem", "--ca-intermediates", "int.pem"]).code(0);
    // What leads to a root is no root: without it the chain is not found, and none is taken from a stranger.
    check(&root, &two, &["--ca-roots", "root.pem"])
        .code(NO_MATCH)
        .stderr_has(&["neither a root nor among the intermediates"]);
    check(&root, &two, &["--ca-roots", "tsa.pem", "--ca-intermediates", "int.pem"]).code(NO_MATCH);
    // All in files of their own, but the log.
    let files = [
        "--certificate-chain",
        "fulcio.pem",
        "--timestamp-certificate-chain",
        "tsa.pem",
        "--insecure-ignore-sct",
        "--insecure-ignore-tlog",
    ];
    let of = ["--bundle", "b.json", "blob.txt"];
    place.write("b.json", two.to_string());
    call(&place, "verify-blob", &[&SIGNER[..], &files].concat(), &of).code(0);
    call(&place, "verify-blob", &[&SIGNER[..], &files[..5]].concat(), &of).code(4).stderr_has(&["--trusted-root"]);
    place.write("b.json", one.to_string());
    call(&place, "verify-blob", &[&SIGNER[..], &files].concat(), &of).code(NO_MATCH);
}

/// Class R: the envelope is signed as bytes, and read as one thing.
#[test]
fn class_r_envelopes_are_not_ambiguous() {
    let place = place();
    let good = String::from_utf8(read("bundles/attblob-keyless-rekor2.sigstore.json")).expect("text");
    let check = |text: &str| {
        place.write("b.json", text);
        keyless(&place, "verify-blob-attestation", &["--type", "slsaprovenance1", "--bundle", "b.json", "blob.txt"])
    };
    check(&good).code(0);
    let value: Value = serde_json::from_str(&good).expect("JSON");
    let payload = text(&value, "/dsseEnvelope/payload").to_owned();
    let bytes = STANDARD.decode(&payload).expect("base64");
    let again: Value = serde_json::from_slice(&bytes).expect("JSON");
    let compact = value.to_string();
    let edit = |pointer: &str, new: Value| {
        let mut edited = value.clone();
        *edited.pointer_mut(pointer).expect("there") = new;
        edited.to_string()
    };
    let signature = value.pointer("/dsseEnvelope/signatures/0").expect("there").clone();
    let mut lying = signature.clone();
    lying["keyid"] = "SHA256:somebody".into();
    let mut spoilt = signature.clone();
    spoilt["sig"] = STANDARD.encode(b"another").into();
    for (what, edited) in [
        ("same JSON, other bytes", edit("/dsseEnvelope/payload", STANDARD.encode(format!("{again:#}")).into())),
        ("payload type", edit("/dsseEnvelope/payloadType", "application/json".into())),
        ("no signature", edit("/dsseEnvelope/signatures", json!([]))),
        ("a good and a bad one", edit("/dsseEnvelope/signatures", json!([signature, spoilt]))),
        ("a bad and a good one", edit("/dsseEnvelope/signatures", json!([spoilt, signature]))),
        ("empty signature", edit("/dsseEnvelope/signatures/0/sig", "".into())),
        ("member twice", compact.replacen("\"payload\":", "\"payload\":\"e30=\",\"payload\":", 1)),
        ("trailing data", format!("{compact}{{}}")),
        ("unknown member", compact.replacen('{', "{\"x\":1,", 1)),
        ("as a signature of bytes", compact.replacen("\"dsseEnvelope\"", "\"messageSignature\"", 1)),
    ] {
        assert_ne!(edited, compact, "{what}");
        let ended = check(&edited);
        assert_eq!(ended.exit_code(), NO_MATCH, "{what}: {}", ended.stderr_text());
    }
    // Nobody believes a key id; and base64 for URLs is the same bytes.
    check(&edit("/dsseEnvelope/signatures/0", lying)).code(0);
    check(&edit("/dsseEnvelope/payload", base64::engine::general_purpose::URL_SAFE.encode(&bytes).into())).code(0);
    // An attestation is no signature of the file, nor the other way round.
    place.write("b.json", good);
    keyless(&place, "verify-blob", &["--bundle", "b.json", "blob.txt"]).code(NO_MATCH);
    place.write("b.json", read("bundles/blob-keyless-rekor2.sigstore.json"));
    keyless(&place, "verify-blob-attestation", &["--type", "slsaprovenance1", "--bundle", "b.json", "blob.txt"])
        .code(NO_MATCH);
    // The type that is signed decides.
    check(&value.to_string()).code(0);
    keyless(&place, "verify-blob-attestation", &["--type", "cyclonedx", "--bundle", "b.json", "blob.txt"])
        .code(NO_MATCH);
}

/// Class S: another encoding of a signature, or another algorithm, is another signature.
#[test]
fn class_s_signatures_are_not_malleable() {
    let place = place();
    for name in ["blob-keyless-rekor1", "blob-keyless-rekor2", "blob-keyed-rekor1", "blob-keyed-rekor2"] {
        let good = document(&format!("bundles/{name}.sigstore.json"));
        let flags = if name.contains("keyed") { vec!["--key", "cosign.pub"] } else { SIGNER.to_vec() };
        let check = |bundle: &Value| {
            place.write("b.json", bundle.to_string());
            call(&place, "verify-blob", &[&flags[..], &ROOT].concat(), &["--bundle", "b.json", "blob.txt"])
        };
        check(&good).code(0);
        let der = STANDARD.decode(text(&good, "/messageSignature/signature")).expect("base64");
        for (what, bytes) in malleated(&der) {
            let mut edited = good.clone();
            edited["messageSignature"]["signature"] = STANDARD.encode(bytes).into();
            let ended = check(&edited);
            assert_eq!(ended.exit_code(), NO_MATCH, "{name}, {what}: {}", ended.stderr_text());
        }
    }
    // The key of a certificate says the algorithm: a key's signature is none of it.
    let mut mixed = document("bundles/blob-keyless-rekor1.sigstore.json");
    mixed["messageSignature"] = document("bundles/blob-keyed-rekor1.sigstore.json")["messageSignature"].clone();
    place.write("b.json", mixed.to_string());
    keyless(&place, "verify-blob", &["--bundle", "b.json", "blob.txt"]).code(NO_MATCH);
}

/// Other encodings of what an ECDSA signature on P-256 says.
fn malleated(der: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let integer = |at: usize| {
        let length = usize::from(der[at + 1]);
        (&der[at + 2..at + 2 + length], at + 2 + length)
    };
    let (r, next) = integer(2);
    let (s, _) = integer(next);
    let fixed = |value: &[u8]| {
        let value = value.strip_prefix(&[0]).unwrap_or(value);
        [&vec![0; 32 - value.len()][..], value].concat()
    };
    let order: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&ORDER[2 * at..2 * at + 2], 16).expect("hex")).collect();
    let mut negated = vec![0; 32];
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(order[at]) - i16::from(fixed(s)[at]) - borrow;
        borrow = i16::from(difference < 0);
        negated[at] = u8::try_from(difference.rem_euclid(256)).expect("a byte");
    }
    let number = |value: &[u8]| {
        let value: Vec<u8> = value.iter().copied().skip_while(|byte| *byte == 0).collect();
        let value = if value[0] >= 0x80 { [&[0], &value[..]].concat() } else { value };
        [&[2, u8::try_from(value.len()).expect("short")], &value[..]].concat()
    };
    let sequence = |inner: &[u8]| [&[0x30, u8::try_from(inner.len()).expect("short")], inner].concat();
    let inner = [number(&fixed(r)), number(&fixed(s))].concat();
    let long = [&[0x30, 0x81, u8::try_from(inner.len()).expect("short")], &inner[..]].concat();
    let padded = [&[2, u8::try_from(r.len() + 2).expect("short"), 0, 0], r, &number(&fixed(s))].concat();
    vec![
        ("the other s", sequence(&[number(&fixed(r)), number(&negated)].concat())),
        ("length in long form", long),
        ("padded number", sequence(&padded)),
        ("trailing byte", [der, &[0]].concat()),
        ("bare numbers", [fixed(r), fixed(s)].concat()),
        ("nothing", Vec::new()),
    ]
}

/// Trust is taken from flags only (security rule 8).
#[test]
fn trust_of_the_environment_is_refused() {
    let place = place();
    let image = layout("keyless-gitlab-bundle-rekor2");
    for name in [
        "SIGSTORE_ROOT_FILE",
        "SIGSTORE_REKOR_PUBLIC_KEY",
        "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE",
        "SIGSTORE_TSA_CERTIFICATE_FILE",
    ] {
        for program in ["affiant", "cosign"] {
            let verb: &[&str] = if program == "affiant" { &["image", "verify"] } else { &["verify"] };
            let call = place.called(program, verb).with(SIGNER).with(ROOT).with([&image]);
            call.env(name, "trusted_root.json").run().code(2).stdout("").stderr_has(&[name, "flags only", "FILE"]);
        }
    }
    for (name, flag) in [
        ("AFFIANT_TRUSTED_ROOT", "--trusted-root"),
        ("AFFIANT_CERTIFICATE_IDENTITY", "--certificate-identity"),
        ("AFFIANT_CERTIFICATE_OIDC_ISSUER_REGEXP", "--certificate-oidc-issuer-regexp"),
        ("AFFIANT_IDENTITY_GLOB", "--identity-glob"),
        ("AFFIANT_SOURCE_REPOSITORY", "--source-repository"),
        ("AFFIANT_INSECURE_IGNORE_TLOG", "--insecure-ignore-tlog"),
        ("AFFIANT_INSECURE_IGNORE_SCT", "--insecure-ignore-sct"),
        ("AFFIANT_CA_ROOTS", "--ca-roots"),
        ("AFFIANT_CHECK_CLAIMS", "--check-claims"),
        ("AFFIANT_OFFLINE", "--offline"),
    ] {
        for verb in ["verify", "verify-attestation"] {
            let call = || place.affiant(["image", verb]).with(SIGNER).with(ROOT).with([&image]);
            let ended = call().env(name, "true").run().code(2).stdout("");
            ended.stderr_has(&[&format!("{name} is set"), "flags only", &format!("`{flag}`")]);
            let empty = call().env(name, "").run();
            assert_ne!(empty.exit_code(), 2, "{name}: {}", empty.stderr_text());
        }
    }
    // What signing reads is no matter of a check.
    for name in ["AFFIANT_KEY", "AFFIANT_REKOR_URL", "AFFIANT_FULCIO_URL", "AFFIANT_SUBJECTS"] {
        let call = place.affiant(["image", "verify"]).with(SIGNER).with(ROOT).with([&image]);
        call.env(name, "https://x.example").run().code(0);
    }
}

/// A signature of a key has no certificate: cosign's code 13.
#[test]
fn a_signature_without_certificate_has_its_own_code() {
    let place = place();
    for case in ["keyed-legacy-rekor1", "keyed-bundle-rekor1"] {
        keyless(&place, "verify", &[&layout(case)]).code(13).stdout("").stderr_has(&["no certificate"]);
    }
    keyless(&place, "verify", &[&layout("att-legacy")]).code(10).stdout("");
    place.write("b.json", read("bundles/blob-keyed-rekor1.sigstore.json"));
    keyless(&place, "verify-blob", &["--bundle", "b.json", "blob.txt"]).code(13).stdout("");
}

/// What cosign prints of a certificate stands in `optional`, beside what was signed.
#[test]
fn what_is_printed_says_who_signed() {
    let place = place();
    let optional = |case: &str| {
        let ended = keyless(&place, "verify", &["--use-signed-timestamps", &layout(case)]).code(0);
        let payloads: Vec<Value> = serde_json::from_str(&ended.stdout_text()).expect("one array");
        assert_eq!(payloads.len(), 1);
        payloads[0]["optional"].clone()
    };
    let legacy = optional("keyless-gitlab-legacy-rekor1-tsa");
    for said in [&legacy, &optional("keyless-gitlab-bundle-rekor2")] {
        assert_eq!(said["tag"], "v1");
        assert_eq!(said["Subject"], SUBJECT);
        assert_eq!(said["Issuer"], ISSUER);
        assert_eq!(said["1.3.6.1.4.1.57264.1.1"], ISSUER);
        assert!(said["RFC3161Timestamp"]["SignedRFC3161Timestamp"].is_string());
    }
    assert_eq!(legacy["Bundle"]["Payload"]["logIndex"], 15);
    assert!(legacy["Bundle"]["SignedEntryTimestamp"].is_string());
}

/// Every form is checked where there is no network at all.
#[test]
fn nothing_is_asked_of_anybody() {
    let place = place();
    let alone = |args: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(["-rn", "--"]).arg(env!("CARGO_BIN_EXE_affiant")).args(args).current_dir(place.work());
        command.env("HOME", place.beside("home")).output()
    };
    match alone(&["--version"]) {
        Ok(output) if output.status.success() => {}
        _ => return left_out("this machine gives no network namespace of one's own (unshare -rn)"),
    }
    for (name, from) in [
        ("one.json", "bundles/blob-keyless-rekor1.sigstore.json"),
        ("two.json", "bundles/blob-keyless-rekor2.sigstore.json"),
        ("old.json", "bundles/blob-oldbundle-rekor1.json"),
        ("a1.json", "bundles/attblob-keyless-rekor1.sigstore.json"),
        ("a2.json", "bundles/attblob-keyless-rekor2.sigstore.json"),
    ] {
        place.write(name, read(from));
    }
    let key = ["--key", "cosign.pub"];
    let blob = |name: &'static str| vec!["--bundle", name, "blob.txt"];
    let attested = |name: &'static str| vec!["--type", "slsaprovenance1", "--bundle", name, "blob.txt"];
    let layouts: Vec<(String, &[&str])> = [
        ("keyless-gitlab-legacy-rekor1", &SIGNER[..]),
        ("keyless-gitlab-legacy-rekor1-tsa", &SIGNER),
        ("keyless-gitlab-bundle-rekor2", &SIGNER),
        ("keyed-legacy-rekor1", &key),
        ("keyed-bundle-rekor1", &key),
        ("keyed-bundle-rekor2", &key),
    ]
    .map(|(case, flags)| (layout(case), flags))
    .into();
    let attestation = layout("att-bundle-keyless-rekor1");
    let mut calls: Vec<(&str, &[&str], Vec<&str>)> = vec![
        ("verify-blob", &SIGNER, blob("one.json")),
        ("verify-blob", &SIGNER, blob("two.json")),
        ("verify-blob", &key, blob("old.json")),
        ("verify-blob-attestation", &SIGNER, attested("a1.json")),
        ("verify-blob-attestation", &SIGNER, attested("a2.json")),
        ("verify-attestation", &SIGNER, vec!["--type", "cyclonedx", &attestation]),
    ];
    calls.extend(layouts.iter().map(|(image, flags)| ("verify", *flags, vec![image.as_str()])));
    for (verb, flags, of) in calls {
        let args = [&["image", verb, "--offline"], flags, &ROOT, &of[..]].concat();
        let output = alone(&args).expect("runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What affiant signs without a key it checks, in both forms and of both generations of logs.
#[test]
fn what_was_signed_by_a_token_is_checked() {
    const IDENTITY: &str = "https://gitlab.example/group/app//.gitlab-ci.yml@refs/heads/main";
    let signer = ["--certificate-identity", IDENTITY, "--certificate-oidc-issuer", "https://gitlab.example"];
    for (generation, stamped, format) in [(1, false, "tag"), (2, true, "bundle")] {
        let (registry, sigstore, place) = (Registry::start(), Sigstore::start(), place());
        registry.put_image("app", "v1", "a");
        let image = format!("{}/app:v1", registry.host());
        place.write("config.json", sigstore.signing_config(generation, stamped));
        place.write("root.json", sigstore.trusted_root());
        place.write("p.json", "{\"a\": 1}");
        let sign = |args: &[&str]| {
            let services = ["--signing-config", "config.json", "--format", format];
            place.affiant(args).with(services).with([&image]).env("SIGSTORE_ID_TOKEN", token(&json!({}))).run().code(0);
        };
        sign(&["image", "sign", "-a", "tag=v1"]);
        let check = |verb: &str, root: &str, more: &[&str]| {
            call(&place, verb, &[&signer[..], &["--trusted-root", root], more].concat(), &[&image])
        };
        let said = check("verify", "root.json", &["-a", "tag=v1"]).code(0);
        let payloads: Vec<Value> = serde_json::from_str(&said.stdout_text()).expect("one array");
        assert_eq!(payloads[0]["optional"]["Subject"], IDENTITY, "{generation} {format}");
        check("verify", "trusted_root.json", &[]).code(NO_MATCH).stdout("");
        let job = "project_path:group/app:ref_type:branch:ref:main";
        check("verify", "root.json", &["--token-subject", job]).code(0);
        check("verify", "root.json", &["--token-subject", "project_path:group/app"]).code(NO_MATCH);
        if format == "bundle" {
            sign(&["image", "attest", "--type", "https://a.example/t", "--predicate", "p.json"]);
            check("verify-attestation", "root.json", &["--type", "https://a.example/t"]).code(0);
            check("verify-attestation", "trusted_root.json", &["--type", "https://a.example/t"]).code(NO_MATCH);
        }
    }
}
