//! Tests of the archive as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::statement::PAYLOAD_TYPE;

const COLLECTION: &str = "https://witness.testifysec.com/attestation-collection/v0.1";

pub(super) fn envelope_of(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let signature = json!({"keyid": "k", "sig": "c2ln"});
    let value = json!({"payload": STANDARD.encode(payload), "payloadType": payload_type, "signatures": [signature]});
    serde_json::to_vec(&value).expect("a value can be written")
}

fn collection(step: &str, subjects: &[(&str, &str, &str)]) -> Vec<u8> {
    let subjects: Vec<_> = subjects
        .iter()
        .map(|(name, algorithm, value)| {
            let digest: serde_json::Map<_, _> = [((*algorithm).to_owned(), json!(value))].into_iter().collect();
            json!({"name": name, "digest": digest})
        })
        .collect();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": COLLECTION,
        "predicate": {"name": step, "attestations": [
            {"type": "https://witness.dev/attestations/git/v0.1", "attestation": {"name": 1, "attestations": "x"}},
            {"type": "https://witness.dev/attestations/command-run/v0.1", "attestation": {}},
        ]},
    });
    envelope_of(PAYLOAD_TYPE, &serde_json::to_vec(&statement).expect("a value can be written"))
}

fn digest_of(number: u64) -> String {
    crate::digest::sha256_hex(&number.to_le_bytes())
}

/// Envelope `number` of a series: two subjects, the second one shared by all.
fn numbered(number: u64) -> Vec<u8> {
    collection("build", &[("file", "sha256", &digest_of(number)), ("commit", "sha1", "c0ffee")])
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a second within the range")
}

fn subject(text: &str) -> Query {
    Query { subject: Some(SubjectDigest::parse(text)), ..Query::default() }
}

fn archive() -> (tempfile::TempDir, Archive) {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let archive = Archive::create(&folder.path().join("archive"), Access::Shared).expect("a new archive");
    (folder, archive)
}

#[test]
fn what_is_put_is_found_by_everything_that_it_says() {
    let (_folder, archive) = archive();
    let envelope =
        collection("docker-build", &[("image", "sha256", "aa11"), ("tree", "gitoid:sha1", "gitoid:blob:sha1:bb22")]);
    let stored = archive.put(&envelope, at(1000)).expect("it is stored");
    assert_eq!(stored.digest, ObjectId::of(&envelope));
    assert!(!stored.already);
    let git = [format!("blob {}\0", envelope.len()).as_bytes(), &envelope].concat();
    assert_eq!(stored.gitoid, crate::digest::sha256_hex(&git));

    let record = archive.record(&stored.digest).expect("the index is read").expect("it is known");
    assert_eq!(record.step.as_deref(), Some("docker-build"));
    assert_eq!(record.predicate_type.as_deref(), Some(COLLECTION));
    assert_eq!(record.payload_type, PAYLOAD_TYPE);
    assert_eq!((record.subjects, record.signatures, record.size), (2, 1, envelope.len() as u64));
    assert_eq!(record.stored, at(1000));
    assert!(record.notes.is_empty(), "{:?}", record.notes);
    let types = ["https://witness.dev/attestations/command-run/v0.1", "https://witness.dev/attestations/git/v0.1"];
    assert_eq!(record.attestations, types);

    for text in ["aa11", "AA11", "sha256:aa11", "gitoid:blob:sha1:bb22"] {
        assert_eq!(archive.find(&subject(text)).expect("found"), [record.clone()], "{text}");
    }
    for text in ["sha1:aa11", "aa1", "aa12", "bb22", &stored.gitoid, &stored.digest.hex()] {
        assert_eq!(archive.find(&subject(text)).expect("an answer"), [], "{text}");
    }
    let by = |change: &dyn Fn(&mut Query)| {
        let mut query = Query::default();
        change(&mut query);
        archive.find(&query).expect("an answer").len()
    };
    assert_eq!(by(&|query| query.step = Some("docker-build".into())), 1);
    assert_eq!(by(&|query| query.step = Some("docker".into())), 0);
    assert_eq!(by(&|query| query.attestation_type = Some(types[1].into())), 1);
    assert_eq!(by(&|query| query.attestation_type = Some("x".into())), 0);
    assert_eq!(by(&|query| query.predicate_type = Some(COLLECTION.into())), 1);
    assert_eq!(by(&|query| query.predicate_type = Some("x".into())), 0);
    assert_eq!(by(&|query| query.since = Some(at(1000))), 1);
    assert_eq!(by(&|query| query.since = Some(at(1001))), 0);
    assert_eq!(by(&|query| query.until = Some(at(1000))), 0);
    assert_eq!(by(&|query| query.until = Some(at(1001))), 1);

    let hex = stored.digest.hex();
    let references = [hex.clone(), format!("sha256:{hex}"), hex[..8].to_uppercase(), stored.gitoid.clone()];
    for reference in references.iter().chain([&format!("gitoid:blob:sha256:{}", stored.gitoid)]) {
        assert_eq!(archive.resolve(reference).expect("resolved"), stored.digest, "{reference}");
    }
    assert_eq!(archive.get(&stored.digest).expect("it is there"), envelope);
    for reference in ["", "abcdefg", "sha256:", "../../../etc/passwd", "gitoid:blob:sha256:abcdef01", &hex[..7]] {
        assert!(matches!(archive.resolve(reference), Err(StoreError::Reference { .. })), "{reference}");
    }
    assert!(matches!(archive.resolve(&"0".repeat(64)), Err(StoreError::NotFound { .. })));
    assert!(matches!(archive.resolve("00000000"), Err(StoreError::NotFound { .. })));
    let again = archive.put(&envelope, at(2000)).expect("it is there");
    assert!(again.already);
    assert_eq!(archive.list(10, None).expect("an answer"), [record], "the first time stays");
    assert!(archive.check().expect("it is read").is_sound());
}
