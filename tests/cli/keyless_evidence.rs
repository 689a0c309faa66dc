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
    let resume = |more: &[&str]| {
        place
            .affiant(["resume", "--spool", "../spool"])
            .with(flags(&whole))
            .with(more)
            .env("SIGSTORE_ID_TOKEN", token(&json!({})))
            .run()
    };
    resume(&[]).code(4).stderr_has(&["must be named"]);
    resume(&["--digest", digest]).code(0);
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
