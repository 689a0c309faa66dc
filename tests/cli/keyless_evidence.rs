//! Evidence that is signed by an identity, or by a key with certificate and timestamps: as witness and cilock write it.

use affiant_core::trust::{Anchor, Certificate, Identity, Trust};
use serde_json::{Value, json};

use crate::harness::Place;
use crate::registry::Said;
use crate::sigstore_services::{Sigstore, Twist, token};

/// What believes these services.
fn trust(sigstore: &Sigstore) -> Trust {
    let anchor = |id: &str, pem: &str| Anchor {
        id: id.to_owned(),
        certificate: Certificate::read(pem.as_bytes()).expect("a certificate"),
        intermediates: Vec::new(),
    };
    Trust {
        keys: Vec::new(),
        roots: vec![anchor("root", &sigstore.root_pem())],
        authorities: vec![anchor("time", &sigstore.tsa_root_pem())],
        ..Trust::default()
    }
}

fn envelope(place: &Place, name: &str) -> affiant_core::dsse::Envelope {
    let bytes = std::fs::read(place.beside(name)).expect("written");
    affiant_core::dsse::Envelope::parse(&bytes, bytes.len()).expect("an envelope")
}

fn flags(sigstore: &Sigstore) -> [String; 6] {
    let [fulcio, tsa] = ["--signer-fulcio-url", "--timestamp-servers"].map(str::to_owned);
    [fulcio, sigstore.fulcio(), tsa, sigstore.tsa(), "--retry-for".to_owned(), "2s".to_owned()]
}

#[test]
fn a_run_is_signed_by_an_identity_and_the_command_sees_no_token() {
    let sigstore = Sigstore::start();
    let place = Place::without_key();
    let secret = token(&json!({}));
    let ended = place
        .affiant(["run", "-o", "../a.json", "--step", "build", "-a", "environment"])
        .with(flags(&sigstore))
        .with(["--", "sh", "-c", "env; cat /proc/$PPID/environ; echo made > product"])
        .env("SIGSTORE_ID_TOKEN", &secret)
        .run()
        .code(0);
    let signature = secret.rsplit('.').next().expect("parts");
    assert!(!ended.stdout_text().contains(signature) && !ended.stderr_text().contains(signature));
    for (path, bytes) in place.everything_written() {
        assert!(!String::from_utf8_lossy(&bytes).contains(signature), "{}", path.display());
    }
    let envelope = envelope(&place, "a.json");
    assert_eq!(envelope.signatures.len(), 1);
    let one = &envelope.signatures[0];
    assert_eq!((one.intermediates.len(), one.timestamps.len()), (2, 1));
    let leaf = Certificate::read(one.certificate.as_deref().expect("a certificate")).expect("a certificate");
    assert_eq!(one.key_id, leaf.key_id());
    let checked = trust(&sigstore).check(envelope).unwrap_or_else(|refused| panic!("{}", refused.reason));
    assert!(matches!(checked.signers()[0].identity, Identity::Certificate(_)));
    // The certificate is asked for when the command has ended: nothing of it was asked before.
    assert_eq!((sigstore.count("signingCert"), sigstore.count("tsa")), (1, 1));
}

#[test]
fn a_token_that_does_not_do_stops_the_run_before_it_begins() {
    let sigstore = Sigstore::start();
    let place = Place::without_key();
    let run = |text: String| {
        place
            .affiant(["run", "-o", "../a.json"])
            .with(flags(&sigstore))
            .with(["--", "touch", "ran"])
            .env("SIGSTORE_ID_TOKEN", text)
            .run()
    };
    run(token(&json!({"aud": "other"}))).code(125).stdout("").stderr_has(&["audience"]);
    let short = place.affiant(["run", "--signer-fulcio-url", "https://f.example", "--", "touch", "ran"]).run();
    short.code(125).stderr_has(&["--timestamp-servers URL"]);
    assert!(!place.work().join("ran").exists() && sigstore.asked().is_empty());
    run(token(&json!({}))).code(0);
    assert!(place.work().join("ran").exists());
}

#[test]
fn an_outage_after_the_command_loses_nothing_and_resume_finishes() {
    let down = |asked: &crate::registry::Asked| asked.target.contains("signingCert").then(|| Said::new(503));
    let (broken, whole) = (Sigstore::with(Twist::None, Some(Box::new(down))), Sigstore::start());
    let place = Place::without_key();
    let ended = place
        .affiant(["run", "-o", "../a.json", "--step", "build", "--spool", "../spool"])
        .with(flags(&broken))
        .with(["--", "sh", "-c", "echo made > product"])
        .env("SIGSTORE_ID_TOKEN", token(&json!({})))
        .run()
        .code(125)
        .stderr_has(&[
            "answers 503",
            "the evidence waits in",
            "--spool [DIR]/spool",
            "--fulcio-url http://127.0.0.1",
            "--digest sha256:",
        ]);
    assert!(
        !place.beside("a.json").exists() || std::fs::read(place.beside("a.json")).is_ok_and(|bytes| bytes.is_empty())
    );
    let text = ended.stderr_text();
    let digest = text.split("--digest ").nth(1).and_then(|rest| rest.split(['`', ' ', '\n']).next()).expect("a digest");
    std::fs::write(place.beside("root.json"), whole.trusted_root()).expect("writes");
    let resume = |more: &[&str]| {
        place
            .affiant(["resume", "--spool", "../spool", "--trusted-root", "../root.json"])
            .with(flags(&whole))
            .with(more)
            .env("SIGSTORE_ID_TOKEN", token(&json!({})))
            .run()
    };
    resume(&[]).code(4).stderr_has(&["must be named", "resume --spool ../spool --fulcio-url http://127.0.0.1"]);
    resume(&["--digest", digest, "--offline"]).code(4).stderr_has(&["--offline"]);
    resume(&["--digest", digest]).code(0);
    // The archive keeps what it can be judged with, as after `run`.
    let digest = affiant_core::digest::sha256_hex(&std::fs::read(place.beside("a.json")).expect("written"));
    let kept = place.affiant(["archive", "get", "--trust", &format!("sha256:{digest}")]).run().code(0);
    assert_eq!(kept.stdout_text(), whole.trusted_root());
    trust(&whole).check(envelope(&place, "a.json")).unwrap_or_else(|refused| panic!("{}", refused.reason));
}

#[test]
fn keys_with_certificates_and_timestamps() {
    let sigstore = Sigstore::start();
    let place = Place::new();
    place.write("doc", "text");
    // A timestamp for a key.
    place
        .affiant(["sign", "-k", "../k.pem", "--datatype", "text/plain", "-f", "doc", "-o", "../d.json"])
        .with(["--timestamp-servers", &sigstore.tsa()])
        .run()
        .code(0);
    let one = envelope(&place, "d.json").signatures.remove(0);
    assert!(one.certificate.is_none());
    let anchors = trust(&sigstore).authorities;
    affiant_core::trust::timestamp::verify(&one.timestamps[0].data, &one.sig, &anchors).expect("over the signature");
    // A certificate that is another key's.
    place.write("other.pem", sigstore.root_pem());
    place
        .affiant(["sign", "-k", "../k.pem", "--datatype", "text/plain", "-f", "doc"])
        .with(["--signer-file-cert-path", "other.pem"])
        .run()
        .code(4)
        .stdout("")
        .stderr_has(&["for another key"]);
    // A policy by an identity, under a peer's name and with its flags.
    place.write("token", token(&json!({})));
    place
        .called("witness", ["sign", "-f", "doc", "--datatype", "text/plain", "-o", "../w.json"])
        .with(flags(&sigstore))
        .with(["--signer-fulcio-oidc-issuer", "https://login.example", "--signer-fulcio-token-path", "token"])
        .run()
        .code(0);
    trust(&sigstore).check(envelope(&place, "w.json")).unwrap_or_else(|refused| panic!("{}", refused.reason));
    let value: Value = serde_json::from_slice(&std::fs::read(place.beside("w.json")).expect("written")).expect("JSON");
    assert_eq!(value["signatures"][0]["timestamps"][0]["type"], "tsp");
}

/// What the hint says can be typed as it is.
#[test]
fn the_hint_of_resume_is_the_whole_line() {
    let (status, seen) = (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true)), "signingCert");
    let is_down = std::sync::Arc::clone(&status);
    let lie = move |asked: &crate::registry::Asked| {
        let down = asked.target.contains(seen) && is_down.load(std::sync::atomic::Ordering::SeqCst);
        down.then(|| Said::new(503))
    };
    let sigstore = Sigstore::with(Twist::None, Some(Box::new(lie)));
    let place = Place::without_key();
    std::fs::write(place.beside("my root.json"), sigstore.trusted_root()).expect("writes");
    let said = place
        .affiant(["run", "-o", "../a.json", "--step", "build", "--spool", "../my spool"])
        .with(["--trusted-root", "../my root.json"])
        .with(flags(&sigstore))
        .with(["--", "true"])
        .env("SIGSTORE_ID_TOKEN", token(&json!({})))
        .run()
        .code(125)
        .stderr_text();
    let line = said.split("finish with `affiant ").nth(1).and_then(|rest| rest.split('`').next()).expect("a hint");
    let line = line.replace("[DIR]", place.beside("").to_str().expect("text").trim_end_matches('/'));
    status.store(false, std::sync::atomic::Ordering::SeqCst);
    let done = std::process::Command::new("sh")
        .args(["-c", &format!("exec \"$AFFIANT\" {line}")])
        .current_dir(place.work())
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", place.beside("home"))
        .env("AFFIANT", env!("CARGO_BIN_EXE_affiant"))
        .env("SIGSTORE_ID_TOKEN", token(&json!({})))
        .output()
        .expect("ends");
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    trust(&sigstore).check(envelope(&place, "a.json")).unwrap_or_else(|refused| panic!("{}", refused.reason));
}

/// What waits is signed as it was to be: nothing that vouches for it is forgotten.
#[test]
fn the_hint_of_resume_names_all_that_signs() {
    let down = |asked: &crate::registry::Asked| asked.target.contains("tsa").then(|| Said::new(503));
    let sigstore = Sigstore::with(Twist::None, Some(Box::new(down)));
    let place = Place::new();
    std::fs::write(place.beside("root of trust.json"), sigstore.trusted_root()).expect("writes");
    let run = |more: &[&str]| {
        place
            .affiant(["run", "-o", "../a.json", "--step", "build", "--trusted-root", "../root of trust.json"])
            .with(["--timestamp-servers", &sigstore.tsa(), "--retry-for", "1s"])
            .with(more)
            .with(["--", "true"])
            .env("AFFIANT_IDENTITY_TOKEN", token(&json!({})))
            .run()
            .code(125)
            .stderr_text()
    };
    let has = |text: &str, parts: &[&str]| {
        for part in parts.iter().chain(&["--trusted-root '../root of trust.json'", "--timestamp-servers http://"]) {
            assert!(text.contains(part), "{part}: {text}");
        }
    };
    std::fs::write(place.beside("pass word"), "").expect("writes");
    let said = run(&["-k", "../k.pem", "--key-password-file", "../pass word"]);
    has(&said, &["--key ../k.pem --key-password-file '../pass word' --timestamp-servers"]);
    assert!(!said.contains("--fulcio-url") && !said.contains("KEY"));
    let identity = ["--oidc-issuer", "https://gitlab.example", "--oidc-disable-ambient-providers"];
    let said = run(&[&["--fulcio-url", &sigstore.fulcio()][..], &identity].concat());
    has(&said, &["resume --fulcio-url", "--oidc-issuer https://gitlab.example", "--oidc-disable-ambient-providers"]);
    assert!(!said.contains(signature(&token(&json!({})))));
}

#[test]
fn no_public_authority_hears_of_a_run_unless_it_may() {
    let place = Place::without_key();
    place.write("doc", "text");
    let services = ["--fulcio-url", "https://fulcio.sigstore.dev./", "--timestamp-servers", "http://127.0.0.1:1"];
    let sign = ["sign", "--datatype", "text/plain", "-f", "doc"];
    let attest = ["attest", "-o", "../a.json", "--step", "s"];
    let run = ["run", "-o", "../a.json"];
    for (args, command, refused, without) in
        [(&sign[..], &[][..], 2, 4), (&attest, &[], 2, 4), (&run, &["--", "touch", "ran"], 125, 125)]
    {
        // Looked at before any token is.
        let call = |more: &[&str]| place.affiant(args).with(services).with(more).with(command).run();
        call(&[]).code(refused).stdout("").stderr_has(&["is public and keeps", "--log-public-ok"]);
        call(&["--log-public-ok"]).code(without).stdout("").stderr_has(&["there is no identity token"]);
    }
    let flag = ["-s", "b", "--signer-fulcio-url", "https://fulcio.sigstore.dev", "--timestamp-servers"];
    let peer = place.called("witness", ["run"]).with(flag).with(["http://127.0.0.1:1", "--", "touch", "ran"]).run();
    peer.code(125).stderr_has(&["--log-public-ok"]);
    assert!(!place.work().join("ran").exists());
}

/// The archive has what the evidence can be judged with when its authorities are gone from the root of that day.
#[test]
fn the_trusted_root_of_a_run_is_archived_beside_its_evidence() {
    let (sigstore, place) = (Sigstore::start(), Place::without_key());
    std::fs::write(place.beside("root.json"), sigstore.trusted_root()).expect("writes");
    place
        .affiant(["run", "-o", "../a.json", "--step", "build", "--trusted-root", "../root.json"])
        .with(flags(&sigstore))
        .with(["--archive", &format!("dir:{}", place.beside("archive").display()), "--", "true"])
        .env("SIGSTORE_ID_TOKEN", token(&json!({})))
        .run()
        .code(0);
    let digest = affiant_core::digest::sha256_hex(&std::fs::read(place.beside("a.json")).expect("written"));
    place
        .affiant(["archive", "get", "--trust", "--archive", &format!("dir:{}", place.beside("archive").display())])
        .with([&format!("sha256:{digest}")])
        .run()
        .code(0)
        .stdout(&sigstore.trusted_root());
}

/// What the command can see: its variables, and the variables and arguments of the process above it.
const SPY: &str = "env >spied; cat /proc/$PPID/cmdline | tr '\\0' ' ' >>spied; \
    cat /proc/$PPID/environ >above 2>/dev/null; echo hello >app";

/// The last part of a token: nobody but the authority has seen it.
fn signature(token: &str) -> &str {
    token.rsplit('.').next().expect("parts")
}

/// What the command saw, in which the token is not; nor is it in anything that was written or signed.
#[track_caller]
fn spied(place: &Place, token: &str) -> String {
    let spied = std::fs::read_to_string(place.work().join("spied")).expect("the command ran");
    assert!(spied.contains("PATH=") && !spied.contains(signature(token)), "{spied}");
    for (path, bytes) in place.everything_written() {
        // The file that has it is the test's own.
        let is_own = path.file_name().is_some_and(|name| name == "token");
        assert!(is_own || !String::from_utf8_lossy(&bytes).contains(signature(token)), "{}", path.display());
    }
    let payload = envelope(place, "a.json").payload;
    assert!(!String::from_utf8_lossy(&payload).contains(signature(token)));
    spied
}

#[test]
fn a_token_of_a_flag_reaches_no_command() {
    for (name, flag) in
        [("affiant", "--identity-token"), ("witness", "--signer-fulcio-token"), ("cilock", "--signer-fulcio-token")]
    {
        let (sigstore, place, secret) = (Sigstore::start(), Place::without_key(), token(&json!({})));
        let call = if name == "affiant" { place.affiant(["run"]) } else { place.called(name, ["run"]) };
        let ended = call
            .with(["-o", "../a.json", "--step", "build", "-a", "environment", flag, &secret])
            .with(flags(&sigstore))
            .env("TENANT_OF_A_TEST", &secret)
            .with(["--", "sh", "-c", SPY])
            .run()
            .code(0);
        assert!(!(ended.stdout_text() + &ended.stderr_text()).contains(signature(&secret)), "{name}");
        let spied = spied(&place, &secret);
        assert!(!spied.contains("TENANT_OF_A_TEST=") && spied.contains(&format!("{flag} ***")), "{spied}");
    }
}

#[test]
fn a_token_of_a_file_reaches_no_evidence_and_its_copies_no_command() {
    let (sigstore, place, secret) = (Sigstore::start(), Place::without_key(), token(&json!({})));
    std::fs::write(place.beside("token"), format!("{secret}\n")).expect("writes");
    let ended = place
        .affiant(["run", "-o", "../a.json", "--step", "build", "-a", "environment", "--identity-token", "../token"])
        .with(flags(&sigstore))
        .env("TENANT_OF_A_TEST", &secret)
        .with(["--", "sh", "-c", &format!("{SPY}; cat ../token")])
        .run()
        .code(0);
    // What the command prints is its own affair; what is signed of it is ours.
    assert!(ended.stdout_text().contains(signature(&secret)));
    assert!(!spied(&place, &secret).contains("TENANT_OF_A_TEST="));
}

#[test]
fn what_gives_tokens_is_withheld_whichever_was_taken() {
    let (sigstore, secret) = (Sigstore::start(), token(&json!({})));
    let run = |place: &Place, more: &[&str]| {
        place
            .affiant(["run", "-o", "../a.json", "--step", "build", "-a", "environment"])
            .with(flags(&sigstore))
            .with(more)
            .with(["--", "sh", "-c", SPY])
            .env("SIGSTORE_ID_TOKEN", &secret)
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "bearer-of-a-test-0123")
            .env("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:1/of-a-test")
            .env("BUILDKITE_AGENT_ACCESS_TOKEN", "agent-of-a-test-0123")
            .env("COPY_OF_A_TEST", "agent-of-a-test-0123")
            .run()
            .code(0)
    };
    let place = Place::without_key();
    run(&place, &[]);
    let saw = spied(&place, &secret);
    for part in ["of-a-test", "SIGSTORE_ID_TOKEN", "ACTIONS_ID_TOKEN", "BUILDKITE", "COPY_OF_A_TEST"] {
        assert!(!saw.contains(part), "{part}: {saw}");
    }
    let above = std::fs::read(place.work().join("above")).expect("the command ran");
    assert!(!String::from_utf8_lossy(&above).contains("of-a-test"));
    let place = Place::without_key();
    run(&place, &["--child-env-keep", "BUILDKITE_AGENT_ACCESS_TOKEN"]);
    let saw = spied(&place, &secret);
    assert!(saw.contains("BUILDKITE_AGENT_ACCESS_TOKEN=agent") && !saw.contains("COPY_OF_A_TEST"), "{saw}");
}

#[test]
fn a_pause_without_end_loses_no_evidence() {
    let down = |asked: &crate::registry::Asked| {
        let answer = || Said::new(503).with("retry-after", "18446744073709551615");
        asked.target.contains("signingCert").then(answer)
    };
    let sigstore = Sigstore::with(Twist::None, Some(Box::new(down)));
    let place = Place::without_key();
    let ended = place
        .affiant(["run", "-o", "../a.json", "--step", "build", "--spool", "../spool"])
        .with(flags(&sigstore))
        .with(["--", "sh", "-c", "echo made > product"])
        .env("SIGSTORE_ID_TOKEN", token(&json!({})))
        .run()
        .code(125)
        .stderr_has(&["answers 503", "the evidence waits in"]);
    assert!(!ended.stderr_text().contains("panicked"), "{}", ended.stderr_text());
    let text = ended.stderr_text();
    let digest = text.split("--digest ").nth(1).and_then(|rest| rest.split(['`', ' ', '\n']).next()).expect("a digest");
    // A configuration without authority signs nothing, also not later.
    let mut config: Value = serde_json::from_str(&Sigstore::start().signing_config(0, true)).expect("JSON");
    config.as_object_mut().expect("members").remove("caUrls");
    place.write("none.json", config.to_string());
    let resume = ["resume", "--spool", "../spool", "--digest", digest, "--signing-config", "none.json"];
    place.affiant(resume).run().code(4).stderr_has(&["names no certificate authority"]);
    assert!(
        std::fs::read(place.beside("a.json")).is_ok_and(|bytes| bytes.is_empty()) || !place.beside("a.json").exists()
    );
}

#[test]
fn a_long_build_leaves_the_services_their_time() {
    let times = std::sync::atomic::AtomicUsize::new(0);
    let lie = move |asked: &crate::registry::Asked| {
        let is_early =
            asked.target.contains("signingCert") && times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2;
        is_early.then(|| Said::new(502))
    };
    let sigstore = Sigstore::with(Twist::None, Some(Box::new(lie)));
    let place = Place::without_key();
    place
        .affiant(["run", "-o", "../a.json", "--step", "build", "--fulcio-url", &sigstore.fulcio()])
        .with(["--timestamp-servers", &sigstore.tsa(), "--retry-for", "5s", "--", "sleep", "6"])
        .env("SIGSTORE_ID_TOKEN", token(&json!({})))
        .run()
        .code(0);
    assert_eq!((sigstore.count("signingCert"), envelope(&place, "a.json").signatures.len()), (3, 1));
}

#[test]
fn a_configuration_without_authority_signs_nothing() {
    let (sigstore, place) = (Sigstore::start(), Place::without_key());
    let mut config: Value = serde_json::from_str(&sigstore.signing_config(0, true)).expect("JSON");
    config.as_object_mut().expect("members").remove("caUrls");
    place.write("none.json", config.to_string());
    place.write("doc", "text");
    for (args, code) in [
        (&["run", "-o", "../a.json", "--signing-config", "none.json", "--", "touch", "ran"][..], 125),
        (&["attest", "-o", "../a.json", "--signing-config", "none.json", "--step", "s"], 2),
        (&["sign", "-o", "../a.json", "--signing-config", "none.json", "--datatype", "text/plain", "-f", "doc"], 2),
    ] {
        place
            .affiant(args)
            .env("SIGSTORE_ID_TOKEN", token(&json!({})))
            .run()
            .code(code)
            .stdout("")
            .stderr_has(&["names no certificate authority", "--key FILE"]);
    }
    assert!(!place.work().join("ran").exists() && !place.beside("a.json").exists() && sigstore.asked().is_empty());
}

#[test]
fn offline_asks_no_service_that_signs() {
    let (sigstore, place) = (Sigstore::start(), Place::new());
    let refused = ["--offline, and a service is named that signing would ask", "affiant resume"];
    for (args, code) in [
        (&["run", "-o", "../a.json", "--offline"][..], 125),
        (&["run", "-k", "../k.pem", "-o", "../a.json", "--offline"], 125),
        (&["attest", "-o", "../a.json", "--offline", "--step", "s"], 2),
    ] {
        let command: &[&str] = if args[0] == "run" { &["--", "touch", "ran"] } else { &[] };
        place
            .affiant(args)
            .with(flags(&sigstore))
            .with(command)
            .env("SIGSTORE_ID_TOKEN", token(&json!({})))
            .run()
            .code(code)
            .stderr_has(&refused);
    }
    assert!(!place.work().join("ran").exists());
    // A plan asks nobody, not even for a root of trust.
    place
        .affiant(["run", "--plan", "-o", "../a.json", "--trusted-root", "public"])
        .with(flags(&sigstore))
        .env("https_proxy", "http://127.0.0.1:1")
        .with(["--", "touch", "ran"])
        .run()
        .code(0);
    assert!(sigstore.asked().is_empty());
    // A key alone asks nobody either.
    place.capture(["-s", "b", "--offline", "--", "true"]).run().code(0);
}
