//! Keyless evidence at the gate (classes A, D, E, F, G; security rule 13): what cosign recorded with a private Fulcio,
//! logs and timestamp authority, as external statements beside the evidence of a build, in every form.

use std::path::PathBuf;
use std::process::Command;

use affiant_core::dsse::TIMESTAMP_LOG_ENTRY;
use affiant_core::policy::source::{Folder, compile};
use affiant_core::policy::{Document, Policy};
use affiant_core::sign::{PublicKey, Signer as _};
use affiant_core::store::{Access, Archive};
use affiant_core::verdict::{Answer, CheckKind, Verdict};
use affiant_core::verify::open_envelope;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::kit::{AT, COMMIT, Case, PRODUCT, PROVENANCE, Run, builder, fixtures, is_denied, policy, step, told};
use super::place::{Place, run};

/// Who signed what was recorded.
const IDENTITY: &str = "https://gitlab.example.test/mygroup/myproject//.gitlab-ci.yml@refs/heads/main";
const ISSUER: &str = "http://127.0.0.1:5558";
const REKOR1: &str = "bundles/attblob-keyless-rekor1.sigstore.json";
const REKOR2: &str = "bundles/attblob-keyless-rekor2.sigstore.json";
const KEYED: &str = "bundles/attblob-keyed-rekor1.sigstore.json";

fn path(name: &str) -> PathBuf {
    fixtures().join("cosign").join(name)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn text(name: &str) -> String {
    String::from_utf8(read(name)).expect("text")
}

/// What a trusted root says, as a policy has it.
fn trusted(file: &str) -> Value {
    let source = format!(
        "expires: 2036-01-01\ntrustedRoot: {}\nsteps:\n  a: {{attestations: [product]}}\n",
        path(file).display()
    );
    let document = Document::parse(source.as_bytes()).expect("reads");
    let compiled = compile(&document, &Folder::of(&path("policy.yaml")), AT.parse().expect("a time"));
    compiled.unwrap_or_else(|error| panic!("{file}: {error}")).value
}

fn constraint(uri: &str, issuer: &str) -> Value {
    json!({"certConstraint": {"uris": [uri], "roots": ["*"], "extensions": {"Issuer": issuer}}})
}

/// A build that makes the recorded file, and a statement about it that `functionary` must have signed.
fn demanding(functionary: &Value, root: &str) -> Value {
    let mut demanding = policy(&[step("build", &[&builder()], &[PRODUCT])]);
    let parts = trusted(root);
    for member in ["roots", "timestampauthorities", "transparencyLogs", "certificateTransparencyLogs"] {
        if let Some(value) = parts.get(member) {
            demanding[member] = value.clone();
        }
    }
    demanding["externalAttestations"] = json!({"provenance": {
        "name": "provenance", "predicateType": PROVENANCE, "functionaries": [functionary], "required": true}});
    demanding
}

fn keyless() -> Value {
    demanding(&constraint(IDENTITY, ISSUER), "trust/trusted_root.json")
}

fn external(mut policy: Value, member: &str, value: &str) -> Value {
    policy["externalAttestations"]["provenance"][member] = json!(value);
    policy
}

/// A question about the recorded file with this statement beside the build's evidence.
fn case(policy: &Value, statement: Vec<u8>) -> Case {
    let blob = text("bundles/blob.txt");
    let made = Run::of("build", COMMIT, &[("main.c", "int main;\n")], &[("blob.txt", &blob)]);
    Case::of(policy).about(&[("blob.txt", &blob)]).build(&made).with(statement)
}

fn edited(name: &str, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(&read(name)).expect("JSON");
    edit(&mut value);
    serde_json::to_vec(&value).expect("writes")
}

/// A bundle in the form of witness: its envelope with certificate, timestamps and log entries.
fn as_envelope(name: &str) -> Vec<u8> {
    open_envelope(&read(name)).expect("a bundle").to_json()
}

/// The same without its log entries.
fn without_entries(name: &str) -> [Vec<u8>; 2] {
    let bundle = edited(name, |bundle| bundle["verificationMaterial"]["tlogEntries"] = json!([]));
    let mut envelope = open_envelope(&read(name)).expect("a bundle");
    envelope.signatures[0].timestamps.retain(|one| one.kind != TIMESTAMP_LOG_ENTRY);
    [bundle, envelope.to_json()]
}

fn ask(case: &Case) -> Verdict {
    case.ask().unwrap_or_else(|error| panic!("no answer: {error:?}"))
}

#[test]
fn recorded_keyless_statements_pass_with_a_trusted_root() {
    let policy = external(external(keyless(), "log", "required"), "sct", "required");
    for name in [REKOR1, REKOR2] {
        let verdict = ask(&case(&policy, read(name)));
        assert_eq!(verdict.answer, Answer::Passed, "{name}: {}", told(&verdict));
        let signer = &verdict.external[0].candidates[0].signers[0];
        // Who, by whose word, when and by whose word, and where it is logged.
        for part in [IDENTITY, ISSUER, "2026-11-21T11:09:30Z", "entry ", "of the log "] {
            assert!(signer.contains(part), "{signer}");
        }
        let kinds: Vec<CheckKind> = verdict.external[0].candidates[0].checks.iter().map(|check| check.kind).collect();
        assert!(kinds.contains(&CheckKind::Log) && kinds.contains(&CheckKind::Certificate), "{kinds:?}");
    }
}

#[test]
fn rule_13_the_form_of_keyless_evidence_never_matters() {
    let plain = keyless();
    let log = external(keyless(), "log", "required");
    for name in [REKOR1, REKOR2] {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = Archive::create(&folder.path().join("archive"), Access::Private).expect("an archive");
        archive.put(&as_envelope(name), AT.parse().expect("a time")).expect("stores");
        for policy in [&plain, &log] {
            case(policy, read(name)).passes();
            case(policy, as_envelope(name)).passes();
            let blob = text("bundles/blob.txt");
            let made = Run::of("build", COMMIT, &[], &[("blob.txt", &blob)]);
            archive.put(&made.signed(&[&builder()]), AT.parse().expect("a time")).expect("stores");
            let case = Case::of(policy).about(&[("blob.txt", &blob)]);
            let verdict = case.ask_of(&archive).expect("an answer");
            assert_eq!(verdict.answer, Answer::Passed, "{}", told(&verdict));
        }
        // Without its log entry, in either form: denied where one is demanded, whatever else proves the time.
        for stripped in without_entries(name) {
            let verdict = ask(&case(&log, stripped.clone()));
            assert_ne!(verdict.answer, Answer::Passed);
            if name == REKOR2 {
                is_denied(&verdict, CheckKind::Log, "it has no log entry");
                case(&plain, stripped).passes();
            } else {
                // Only the log has proven the time: without it the certificate counts for nothing.
                is_denied(&verdict, CheckKind::Signature, "it has no timestamp");
                case(&plain, stripped).denied(CheckKind::Signature, "it has no timestamp");
            }
        }
    }
}

#[test]
fn rule_13_a_log_is_demanded_of_keys_as_well() {
    let key = PublicKey::from_file_bytes(&read("keys/cosign.pub")).expect("a key");
    let mut policy = demanding(&json!({"publickeyid": key.key_id()}), "trust/trusted_root.json");
    policy["publickeys"][key.key_id()] = json!({"keyid": key.key_id(), "key": STANDARD.encode(key.to_pem())});
    let log = external(policy.clone(), "log", "required");
    for demanded in [&policy, &log] {
        case(demanded, read(KEYED)).passes();
        case(demanded, as_envelope(KEYED)).passes();
    }
    for stripped in without_entries(KEYED) {
        case(&policy, stripped.clone()).passes();
        case(&log, stripped).denied(CheckKind::Log, "it has no log entry");
    }
    // Of a step, too: nobody has logged the build.
    let mut build = keyless();
    build["steps"]["build"]["log"] = json!("required");
    case(&build, read(REKOR1)).denied(CheckKind::Log, "it has no log entry");
    // A key is in no log of certificates.
    case(&external(policy, "sct", "required"), read(KEYED)).denied(CheckKind::Certificate, "a key is in no log");
}

#[test]
fn class_a_an_entry_about_something_else_is_none() {
    let policy = external(keyless(), "log", "required");
    let entries = |name: &str| -> Value {
        serde_json::from_slice::<Value>(&read(name)).expect("JSON")["verificationMaterial"]["tlogEntries"].clone()
    };
    for (of, name, text) in [
        (REKOR2, "bundles/blob-keyless-rekor2.sigstore.json", "is not what the log writes"),
        (REKOR2, REKOR1, "about another"),
        (REKOR2, KEYED, "about another"),
    ] {
        let other = edited(of, |bundle| bundle["verificationMaterial"]["tlogEntries"] = entries(name));
        let verdict = ask(&case(&policy, other.clone()));
        is_denied(&verdict, CheckKind::Log, "log entry 1: ");
        assert!(told(&verdict).contains(text) || told(&verdict).contains("about another"), "{}", told(&verdict));
        // Where no log is demanded it harms nothing.
        case(&keyless(), other).passes();
    }
    // The timestamp of another signature proves nothing.
    let other: Value = serde_json::from_slice(&read("bundles/blob-keyless-rekor2.sigstore.json")).expect("JSON");
    let stamps = &other["verificationMaterial"]["timestampVerificationData"];
    let swapped = edited(REKOR2, |bundle| bundle["verificationMaterial"]["timestampVerificationData"] = stamps.clone());
    case(&policy, swapped).denied(CheckKind::Signature, "the token is for another signature");
}

#[test]
fn every_recorded_change_is_denied() {
    let policy = external(external(keyless(), "log", "required"), "sct", "required");
    let mut seen = 0;
    for entry in std::fs::read_dir(path("negative")).expect("a folder") {
        let file = entry.expect("an entry").path();
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        // What differs in these is the container alone, and the gate asks of the signature what it asks in any form: an
        // unknown media type or member, a chain in place of the certificate, the same entry twice.
        let harmless = ["mediatype", "unknown-field", "chain", "log-twice", "no-promise", "no-proof"];
        if !name.starts_with("att-") {
            continue;
        }
        seen += 1;
        let verdict = ask(&case(&policy, std::fs::read(&file).expect("reads")));
        let passed = verdict.answer == Answer::Passed;
        if !harmless.iter().any(|part| name.contains(part)) {
            assert!(!passed, "{name} passes");
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn class_d_and_e_another_identity_is_told_with_its_claims() {
    for (uri, issuer) in [
        ("https://gitlab.example.test/mygroup/other//.gitlab-ci.yml@refs/heads/main", ISSUER),
        (&IDENTITY[..IDENTITY.len() - 1], ISSUER),
        (IDENTITY, "https://gitlab.com"),
        (IDENTITY, "http://127.0.0.1:555"),
    ] {
        let policy = demanding(&constraint(uri, issuer), "trust/trusted_root.json");
        let verdict = ask(&case(&policy, read(REKOR1)));
        is_denied(&verdict, CheckKind::Functionary, IDENTITY);
        let reasons = verdict.reasons();
        let (_, check) = reasons.iter().find(|(_, check)| check.kind == CheckKind::Functionary).expect("a reason");
        for part in [ISSUER, "SourceRepositoryURI `https://gitlab.example.test/mygroup/myproject`", "RunInvocationURI"]
        {
            assert!(check.found.contains(part), "{}", check.found);
        }
        assert!(check.expected.contains(uri) && check.expected.contains(issuer), "{}", check.expected);
        // What would accept it is said, and to be looked at; taken as it is, it does.
        let (_, rest) = check.fix.split_once("`\"certConstraint\": ").expect("a constraint");
        let (json, rest) = rest.split_once("` would accept it").expect("its end");
        assert!(rest.contains("review"), "{}", check.fix);
        let functionary = json!({"certConstraint": serde_json::from_str::<Value>(json).expect("JSON")});
        case(&demanding(&functionary, "trust/trusted_root.json"), read(REKOR1)).passes();
    }
}

#[test]
fn classes_f_and_g_who_is_trusted_and_when() {
    let log = |policy| external(policy, "log", "required");
    let good = log(keyless());
    // Other services' root, or a part of it missing or ended.
    for (root, name, kind) in [
        ("negative/trusted_root-no-ca.json", REKOR2, CheckKind::Signature),
        ("negative/trusted_root-ca-expired.json", REKOR2, CheckKind::Signature),
        ("negative/trusted_root-no-tsa.json", REKOR2, CheckKind::Signature),
        ("negative/trusted_root-rekor-expired.json", REKOR2, CheckKind::Log),
        ("negative/trusted_root-no-ctlog.json", REKOR2, CheckKind::Certificate),
    ] {
        let mut policy = external(log(demanding(&constraint(IDENTITY, ISSUER), root)), "sct", "required");
        for member in ["roots", "timestampauthorities", "transparencyLogs", "certificateTransparencyLogs"] {
            if policy[member].is_null() {
                policy[member] = json!({});
            }
        }
        let verdict = ask(&case(&policy, read(name)));
        assert!(verdict.reasons().iter().any(|(_, check)| check.kind == kind), "{root}: {}", told(&verdict));
    }
    // Neither log nor authority: nothing proves the time, whatever the clock says.
    let mut timeless = keyless();
    timeless["transparencyLogs"] = json!({});
    timeless["timestampauthorities"] = json!({});
    for name in [REKOR1, REKOR2] {
        case(&timeless, read(name)).denied(CheckKind::Signature, "the time of its certificate");
    }
    // Within the root's window, and outside of it.
    for (member, start, passes) in [
        ("roots", "2026-11-21T11:09:30Z", true),
        ("roots", "2026-11-21T11:09:40Z", false),
        ("timestampauthorities", "2026-11-21T11:09:40Z", false),
        ("transparencyLogs", "2026-11-21T11:09:40Z", false),
    ] {
        let mut policy = good.clone();
        for (_, value) in policy[member].as_object_mut().expect("a map") {
            value["start"] = json!(start);
        }
        let verdict = ask(&case(&policy, read(REKOR2)));
        assert_eq!(verdict.answer == Answer::Passed, passes, "{member} {start}: {}", told(&verdict));
    }
    // The intermediate alone, named as a root, is the end of the chain; offered by the bundle, a root is none.
    let own = edited(REKOR2, |bundle| {
        // Chains are of the versions before 0.3.
        bundle["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.2");
        let material = &mut bundle["verificationMaterial"];
        let leaf = material["certificate"]["rawBytes"].clone();
        let chain = affiant_core::trust::Certificate::read_all(&read("trust/fulcio-chain.pem")).expect("certificates");
        let mut list = vec![json!({"rawBytes": leaf})];
        list.extend(chain.iter().map(|one| json!({"rawBytes": STANDARD.encode(one.der())})));
        material["x509CertificateChain"] = json!({"certificates": list});
        material.as_object_mut().expect("a map").remove("certificate");
    });
    case(&good, own.clone()).passes();
    let mut foreign = good.clone();
    let anchor = STANDARD.encode(std::fs::read(fixtures().join("gate/evil-root.pem")).expect("reads"));
    foreign["roots"] = json!({"r": {"certificate": anchor}});
    case(&foreign, own).denied(CheckKind::Signature, "not one of those that are trusted");
}

/// The trusted root that is kept with evidence is believed by nobody's leave; that it is there is said.
#[test]
fn a_kept_trusted_root_is_told_of_and_not_believed() {
    let foreign = |policy: Value| {
        let mut policy = policy;
        let anchor = STANDARD.encode(std::fs::read(fixtures().join("gate/evil-root.pem")).expect("reads"));
        policy["roots"] = json!({"r": {"certificate": anchor}});
        policy
    };
    let folder = tempfile::tempdir().expect("a folder");
    let now = AT.parse().expect("a time");
    let archive = Archive::create(&folder.path().join("archive"), Access::Private).expect("an archive");
    let id = archive.put(&as_envelope(REKOR2), now).expect("stores").digest;
    let blob = text("bundles/blob.txt");
    let made = Run::of("build", COMMIT, &[], &[("blob.txt", &blob)]);
    archive.put(&made.signed(&[&builder()]), now).expect("stores");
    let fix = || {
        let verdict = Case::of(&foreign(keyless())).about(&[("blob.txt", &blob)]).ask_of(&archive).expect("an answer");
        assert_ne!(verdict.answer, Answer::Passed);
        verdict.external[0].candidates[0].first_failed().expect("a reason").fix.clone()
    };
    assert!(!fix().contains("archive get"), "{}", fix());
    archive.put_trust(&id, &read("trust/trusted_root.json"), now).expect("keeps");
    let command = format!(
        "`affiant archive get --trust --archive 'dir:{}' sha256:{}`",
        folder.path().join("archive").display(),
        id.hex()
    );
    assert!(fix().contains(&command), "{}", fix());
    // What it prints is the root, and with it the evidence passes.
    let mut command = Command::new(env!("CARGO_BIN_EXE_affiant"));
    command.args(["archive", "get", "--trust", "--archive"]).arg(format!("dir:{}", archive.root().display()));
    let printed = command.arg(format!("sha256:{}", id.hex())).output().expect("runs").stdout;
    assert_eq!(printed, read("trust/trusted_root.json"));
    let verdict = Case::of(&keyless()).about(&[("blob.txt", &blob)]).ask_of(&archive).expect("an answer");
    assert_eq!(verdict.answer, Answer::Passed, "{}", told(&verdict));
}

#[test]
fn a_trusted_root_becomes_a_policy_s_members() {
    let value = trusted("trust/trusted_root.json");
    let compiled = Policy::from_value(&value).expect("a policy");
    assert_eq!((compiled.roots.len(), compiled.authorities.len()), (1, 1));
    assert_eq!((compiled.logs.len(), compiled.ct_logs.len()), (2, 1));
    assert!(compiled.roots.values().all(|root| root.window.start.is_some() && root.intermediates.len() == 1));
    let ids: Vec<&[u8]> = compiled.logs.iter().map(|named| named.logs[0].id.as_slice()).collect();
    let root = affiant_core::sigstore::TrustedRoot::parse(&read("trust/trusted_root.json")).expect("a root");
    for log in &root.logs {
        assert!(ids.contains(&log.id.as_slice()), "{}", log.label());
    }
    // Twice the same is once.
    let twice = format!(
        "expires: 2036-01-01\ntrustedRoot: [{0}, {0}]\nsteps:\n  a: {{attestations: [product]}}\n",
        path("trust/trusted_root.json").display()
    );
    let document = Document::parse(twice.as_bytes()).expect("reads");
    let at = AT.parse().expect("a time");
    assert_eq!(compile(&document, &Folder::of(&path("policy.yaml")), at).expect("compiles").value, value);
    for (wrong, text) in [("keys/cosign.pub", "no trusted root"), ("missing.json", "cannot be read")] {
        let source = format!(
            "expires: 2036-01-01\ntrustedRoot: {}\nsteps:\n  a: {{attestations: [product]}}\n",
            path(wrong).display()
        );
        let document = Document::parse(source.as_bytes()).expect("reads");
        let error = compile(&document, &Folder::of(&path("policy.yaml")), at).expect_err(wrong);
        assert!(error.to_string().contains(text) && error.line() == Some(2), "{error}");
    }
}

#[test]
fn a_policy_is_made_from_keyless_evidence() {
    let place = Place::new();
    let blob = text("bundles/blob.txt");
    let build = Run::of("build", COMMIT, &[], &[("blob.txt", &blob)]);
    place.write("build.json", build.signed(&[&builder()]));
    place.write("builder.pub", builder().public_key().to_pem());
    place.write("blob.txt", &blob);
    place.write("trusted_root.json", read("trust/trusted_root.json"));
    place.write("empty.json", "{}");
    let affiant = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_affiant"));
        command.args(args).current_dir(place.work()).env_clear().env("HOME", place.home());
        run(command)
    };
    let files = "build.json,provenance.json";
    let from = ["policy", "init", "--from", files, "--key", "builder.pub", "--expires", "2036-01-01"];
    for name in [REKOR1, REKOR2] {
        place.write("provenance.json", read(name));
        affiant(&[&from[..], &["--trusted-root", "trusted_root.json", "-o", "policy.yaml"]].concat()).code(0);
        let source = std::fs::read_to_string(place.work().join("policy.yaml")).expect("reads");
        for part in [IDENTITY, ISSUER, "Issuer:", "review who this is", "trustedRoot: |"] {
            assert!(source.contains(part), "{part}: {source}");
        }
        affiant(&["policy", "check", "policy.yaml"]).code(0);
        // It accepts what it was made from, and without the root nothing proves the signer.
        let document = Document::parse(source.as_bytes()).expect("reads");
        let at = AT.parse().expect("a time");
        let compiled = compile(&document, &Folder::of(&place.work().join("policy.yaml")), at).expect("compiles");
        case(&compiled.value, read(name)).passes();
        affiant(&from).code(1).says("nothing that was given proves its signature");
    }
    affiant(&[&from[..], &["--trusted-root", "empty.json"]].concat()).says("is no trusted root");
}
