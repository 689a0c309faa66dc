//! Archivista's REST and GraphQL, as wire-formats §6 has them, against a small server.

#[path = "../../../tests/cli/archivista.rs"]
mod server;

use std::collections::BTreeMap;

use affiant_core::store::SubjectDigest;
use affiant_core::verify::Source;
use affiant_remote::archivista::{Archivista, gitoid};
use affiant_remote::http::{Client, Settings};
use serde_json::json;
use server::{Lie, honest, serve};

fn client() -> Client {
    Client::new(Settings::default())
}

fn store(base: &str) -> Archivista {
    Archivista::new(client(), base, &["Authorization: Bearer secret-0123456789".to_owned()]).expect("a store")
}

#[test]
fn envelopes_are_stored_byte_for_byte_and_given_again() {
    let (base, served) = serve(honest);
    let store = store(&base);
    let envelope = br#"{"payload":"e30=","payloadType":"x","signatures":[]}"#;
    let kept = store.put(envelope).expect("stored");
    let id = kept.gitoid;
    assert_eq!((id.as_str(), kept.already), (gitoid(envelope).as_str(), false));
    let again = store.put(envelope).expect("a second time is no error");
    assert_eq!((again.gitoid, again.already), (id.clone(), true));
    assert_eq!(store.get(&id, 1000).expect("there"), envelope);
    assert!(store.get(&id, 10).expect_err("long").to_string().contains("more than 10 bytes"));
    let asked = served.lock().expect("no panic").asked.clone();
    assert!(asked[0].starts_with("post /upload ") && asked[0].contains("authorization: bearer secret-0123456789"));
    // witness's and cilock's clients say the same.
    assert!(asked[0].contains("content-type: application/json"));
}

/// Its index refuses what it cannot read after the bytes are stored: that is not stored, for nobody finds it.
#[test]
fn what_is_there_and_not_indexed_is_not_stored() {
    let (base, served) = serve(honest);
    let store = store(&base);
    let envelope = br#"{"payload":"e30=","payloadType":"x","signatures":[]}"#;
    store.put(envelope).expect("stored");
    served.lock().expect("no panic").unindexed.insert(gitoid(envelope));
    let error = store.put(envelope).expect_err("not indexed").to_string();
    assert!(error.contains("answers 500: UNIQUE"), "{error}");
}

/// What fails for a moment is asked again, and not for ever.
#[test]
fn envelopes_are_sent_again_where_the_server_is_busy() {
    let busy: Lie = |_| Some((503, "busy".to_owned()));
    let (base, served) = serve(busy);
    let error = store(&base).put(b"{}").expect_err("busy");
    assert!(error.is_outage && error.to_string().contains("(3 attempts)"), "{error}");
    assert_eq!(served.lock().expect("no panic").lied, 3);
    let refused: Lie = |_| Some((401, "no".to_owned()));
    let (base, served) = serve(refused);
    assert!(!store(&base).put(b"{}").expect_err("refused").is_outage);
    assert_eq!(served.lock().expect("no panic").lied, 1);
}

#[test]
fn gitoids_are_gits() {
    // printf hello | git hash-object --stdin, in a repository made with --object-format=sha256
    assert_eq!(gitoid(b"hello"), "8aec4e4876f854f688d0ebfc8f37598f38e5fd6903cccc850ca36591175aeb60");
}

#[test]
fn what_is_found_once_is_not_asked_for_again() {
    let (base, served) = serve(honest);
    let store = store(&base);
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    served.lock().expect("no panic").found = vec![
        json!({ "gitoidSha256": one, "statement": { "predicate": "a/b", "attestationCollections": { "name": "build" } } }),
        json!({ "gitoidSha256": two, "statement": { "predicate": "c/d", "attestationCollections": null } }),
    ];
    let digests = [SubjectDigest::parse("sha256:abc"), SubjectDigest::parse("def")];
    let handles = Source::about(&store, &digests).expect("found");
    let told: Vec<_> =
        handles.iter().map(|one| (one.label.as_str(), one.step.as_deref(), one.predicate_type.as_deref())).collect();
    let label = |id: &str| format!("gitoid:blob:sha256:{id}");
    assert_eq!(told, [(label(&one).as_str(), Some("build"), Some("a/b")), (&label(&two), None, Some("c/d"))]);
    assert!(Source::about(&store, &digests).expect("found").is_empty());
    let asked = served.lock().expect("no panic").variables.clone();
    assert_eq!(asked[0], json!({ "digests": ["abc", "def"], "known": [] }), "values alone: it knows no algorithm");
    assert_eq!(asked[1]["known"], json!([one, two]));
    assert_eq!(Source::of_step(&store, "build", 1).expect("found").len(), 1);
}

#[test]
fn a_store_is_believed_in_nothing() {
    let other: Lie = |head| head.contains(" /download/").then(|| (200, "other bytes".to_owned()));
    let error = store(&serve(other).0).get(&"1".repeat(64), 1000).expect_err("other bytes");
    assert!(error.to_string().contains("other bytes than those of this gitoid"), "{error}");
    let wrong: Lie = |head| head.contains(" /upload").then(|| (200, format!("{{\"gitoid\":\"{}\"}}", "1".repeat(64))));
    let error = store(&serve(wrong).0).put(b"{}").expect_err("another gitoid");
    assert!(error.to_string().contains("under another gitoid"), "{error}");
    for answer in ["", "[]", "<html>", "{\"data\":{\"dsses\":{\"edges\":[{\"node\":{}}]}}}"] {
        let lies: BTreeMap<&str, Lie> = BTreeMap::from([
            ("", (|_| Some((200, String::new()))) as Lie),
            ("[]", |_| Some((200, "[]".to_owned()))),
            ("<html>", |_| Some((200, "<html>".to_owned()))),
            ("{\"data\":{\"dsses\":{\"edges\":[{\"node\":{}}]}}}", |_| {
                Some((200, "{\"data\":{\"dsses\":{\"edges\":[{\"node\":{}}]}}}".to_owned()))
            }),
        ]);
        let error = Source::about(&store(&serve(lies[answer]).0), &[SubjectDigest::parse("x")]).expect_err(answer);
        let error = std::error::Error::source(&error).expect("a reason").to_string();
        assert!(error.contains("does not answer as archivista does"), "{error}");
    }
}

#[test]
fn refusals_are_told_in_one_line_without_secrets() {
    let cases: [(Lie, &str); 9] = [
        (|_| Some((400, "who is secret-0123456789?".to_owned())), "answers 400"),
        (|_| Some((200, "{\"errors\":[{\"message\":\"Bearer secret-0123456789\"}]}".to_owned())), "cannot search"),
        // The reader of JSON says what it found.
        (|_| Some((200, "\"secret-0123456789\"".to_owned())), "does not answer as archivista does"),
        (|_| Some((200, "{\"data\":\"Bearer secret-0123456789\"}".to_owned())), "does not answer as archivista does"),
        (|_| Some((200, "{\"data\":\"a\\nb\"}".to_owned())), "invalid type: string \"a"),
        (|_| Some((401, "no".to_owned())), "does not permit"),
        (|_| Some((404, "no".to_owned())), "is that the address of an archivista?"),
        (|_| Some((400, "bad\nrequest\u{1b}[31m".to_owned())), "answers 400: bad request [31m"),
        (|_| Some((200, "{\"errors\":[{\"message\":\"input: no\\nsuch field\"}]}".to_owned())), "input: no such field"),
    ];
    for (lie, says) in cases {
        let store = store(&serve(lie).0);
        let error = store.about(&[SubjectDigest::parse("x")]).expect_err(says).to_string();
        assert!(error.contains(says) && !error.contains("secret-0123456789") && !error.contains('\n'), "{error}");
    }
    let long = store(&serve(|_| Some((400, "x".repeat(5000)))).0);
    let error = long.about(&[SubjectDigest::parse("x")]).expect_err("long").to_string();
    assert!(error.len() < 500 && error.contains("xxx"), "{} bytes", error.len());
    for header in ["hunter2", "a b: hunter2", "a: hunter2\r\nx: y"] {
        let error = Archivista::new(client(), "https://a.example", &[header.to_owned()]).err().expect("no header");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let error = store("http://archivista.example").put(b"{}").expect_err("no TLS");
    assert!(error.to_string().contains("only https"), "{error}");
}
