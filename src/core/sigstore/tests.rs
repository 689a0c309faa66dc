//! What cosign and the services recorded: what holds, what was changed, and everything that can be mixed up.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::dsse::{Envelope, pae_header};
use crate::image::sigstore::{Bundle, Content, Signer};
use crate::sign::PublicKey;
use crate::trust::Certificate;

pub(super) fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cosign").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(super) fn trusted() -> TrustedRoot {
    TrustedRoot::parse(&fixture("trust/trusted_root.json")).expect("a trusted root")
}

pub(super) fn certificates(name: &str) -> Vec<Certificate> {
    Certificate::read_all(&fixture(name)).expect("certificates")
}

/// Something recorded, with its log entry.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) message: Vec<Vec<u8>>,
    pub(super) envelope: Option<Envelope>,
    /// The envelope as it was sent to the log.
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) signature: Vec<u8>,
    pub(super) certificate: Option<Certificate>,
    pub(super) key: Option<PublicKey>,
    pub(super) entry: Entry,
    pub(super) timestamps: Vec<Vec<u8>>,
}

impl Case {
    pub(super) fn check(&self) -> Result<Logged, EntryError> {
        self.check_with(&self.entry, &trusted().logs, &[])
    }

    pub(super) fn check_with(
        &self,
        entry: &Entry,
        logs: &[Log],
        times: &[jiff::Timestamp],
    ) -> Result<Logged, EntryError> {
        let message: Vec<&[u8]> = self.message.iter().map(Vec::as_slice).collect();
        let verifier = match (&self.certificate, &self.key) {
            (Some(certificate), _) => Verifier::Certificate(certificate),
            (None, Some(key)) => Verifier::Key(key),
            (None, None) => panic!("{} has a signer", self.name),
        };
        let mut signed = Signed::new(&message, &self.signature, verifier);
        if let Some(envelope) = &self.envelope {
            signed = signed.with_envelope(envelope);
        }
        if let Some(bytes) = &self.bytes {
            signed = signed.with_envelope_bytes(bytes);
        }
        check(entry, &signed, logs, times)
    }
}

fn key() -> PublicKey {
    PublicKey::from_file_bytes(&fixture("keys/cosign.pub")).expect("a key")
}

fn of_envelope(envelope: &Envelope) -> (Vec<Vec<u8>>, Vec<u8>) {
    let header = pae_header(&envelope.payload_type, envelope.payload.len());
    (vec![header.as_slice().to_vec(), envelope.payload.clone()], envelope.signatures[0].sig.clone())
}

pub(super) fn of_bundle(name: &str, bytes: &[u8]) -> Result<Case, String> {
    let mut bundle = Bundle::parse(bytes).map_err(|error| error.to_string())?;
    let (message, signature, envelope) = match bundle.content {
        Content::Envelope(envelope) => {
            let (message, signature) = of_envelope(&envelope);
            (message, signature, Some(envelope))
        }
        Content::Message { signature, .. } => (vec![fixture("bundles/blob.txt")], signature, None),
    };
    let certificate = match &bundle.signer {
        Signer::Certificate { chain } => Some(Certificate::from_der(&chain[0]).map_err(|error| error.to_string())?),
        Signer::Key { .. } => None,
    };
    Ok(Case {
        name: name.to_owned(),
        message,
        envelope,
        bytes: None,
        signature,
        key: certificate.is_none().then(key),
        certificate,
        entry: if bundle.entries.is_empty() { return Err("no entry".to_owned()) } else { bundle.entries.remove(0) },
        timestamps: bundle.timestamps,
    })
}

fn blobs(layout: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cosign/layouts").join(layout);
    let mut list: Vec<_> = std::fs::read_dir(folder.join("blobs/sha256"))
        .expect("blobs")
        .map(|entry| entry.expect("a blob").path())
        .map(|path| (path.clone(), std::fs::read(path).expect("a blob")))
        .collect();
    list.sort();
    list
}

/// The bundle in a layout.
fn of_layout(layout: &str) -> Case {
    let blobs = blobs(layout);
    let (_, bytes) = blobs.iter().find(|(_, bytes)| Bundle::parse(bytes).is_ok()).expect("a bundle");
    of_bundle(layout, bytes).expect("a case")
}

/// The layer in a layout, with its annotations.
pub(super) fn of_layer(layout: &str) -> Case {
    let blobs = blobs(layout);
    let manifest = blobs
        .iter()
        .filter_map(|(_, bytes)| serde_json::from_slice::<Value>(bytes).ok())
        .find(|value| value["layers"][0]["annotations"]["dev.sigstore.cosign/bundle"].is_string())
        .expect("a manifest with a log's promise");
    let layer = &manifest["layers"][0];
    let text = |name: &str| layer["annotations"][name].as_str();
    let hex = layer["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest");
    let (_, payload) = blobs.iter().find(|(path, _)| path.ends_with(hex)).expect("the layer");
    let certificate =
        text("dev.sigstore.cosign/certificate").map(|pem| Certificate::read(pem.as_bytes()).expect("a certificate"));
    Case {
        name: layout.to_owned(),
        message: vec![payload.clone()],
        envelope: None,
        bytes: None,
        signature: STANDARD.decode(text("dev.cosignproject.cosign/signature").expect("a signature")).expect("base64"),
        key: certificate.is_none().then(key),
        certificate,
        entry: Entry::from_annotation(text("dev.sigstore.cosign/bundle").expect("a promise")).expect("an entry"),
        timestamps: Vec::new(),
    }
}

/// What Rekor 1 answered.
fn answered(answer: &Value) -> Entry {
    let (_, answer) = answer.as_object().expect("an answer").iter().next().expect("one entry");
    let proof = &answer["verification"]["inclusionProof"];
    let from_hex = |value: &Value| STANDARD.encode(hex::decode(value.as_str().expect("hex")).expect("hex"));
    let body = answer["body"].as_str().expect("a body");
    let said: Value = serde_json::from_slice(&STANDARD.decode(body).expect("base64")).expect("JSON");
    let written = json!({
        "logIndex": answer["logIndex"],
        "logId": { "keyId": from_hex(&answer["logID"]) },
        "kindVersion": { "kind": said["kind"], "version": said["apiVersion"] },
        "integratedTime": answer["integratedTime"].to_string(),
        "inclusionPromise": { "signedEntryTimestamp": answer["verification"]["signedEntryTimestamp"] },
        "inclusionProof": {
            "logIndex": proof["logIndex"], "rootHash": from_hex(&proof["rootHash"]), "treeSize": proof["treeSize"],
            "hashes": proof["hashes"].as_array().expect("hashes").iter().map(from_hex).collect::<Vec<_>>(),
            "checkpoint": { "envelope": proof["checkpoint"] },
        },
        "canonicalizedBody": body,
    });
    Entry::parse(written.to_string().as_bytes()).expect("an entry")
}

fn exchange(name: &str) -> Value {
    serde_json::from_slice(&fixture(&format!("api/{name}.json"))).expect("JSON")
}

fn of_answer(name: &str) -> Case {
    let exchange = exchange(name);
    let tiled = name.starts_with("rekor2");
    let entry = if tiled {
        Entry::parse(exchange["response"].to_string().as_bytes()).expect("an entry")
    } else {
        answered(&exchange["response"])
    };
    let decode = |value: &Value| STANDARD.decode(value.as_str().expect("base64")).expect("base64");
    // The envelope of these is the same.
    let sent = self::exchange("rekor1-dsse")["request"]["spec"]["proposedContent"]["envelope"].clone();
    let sent = sent.as_str().expect("an envelope").as_bytes().to_vec();
    let pem = |value: &Value| decode(value);
    let (verifier, signature) = match name {
        "rekor1-dsse" | "rekor1-intoto002" | "rekor2-hashedrekord-cert-pae" => {
            let envelope = Envelope::parse(&sent, sent.len()).expect("an envelope");
            let pem = pem(&self::exchange("rekor1-dsse")["request"]["spec"]["proposedContent"]["verifiers"][0]);
            let (message, signature) = of_envelope(&envelope);
            let bytes = (name == "rekor1-dsse").then_some(sent);
            return Case {
                name: name.to_owned(),
                message,
                envelope: Some(envelope),
                bytes,
                signature,
                certificate: Some(Certificate::read(&pem).expect("a certificate")),
                key: None,
                entry,
                timestamps: Vec::new(),
            };
        }
        _ if tiled => {
            let sent = &exchange["request"]["hashedRekordRequestV002"]["signature"];
            (decode(&sent["verifier"]["publicKey"]["rawBytes"]), decode(&sent["content"]))
        }
        _ => {
            let sent = &exchange["request"]["spec"]["signature"];
            (pem(&sent["publicKey"]["content"]), decode(&sent["content"]))
        }
    };
    let certificate = Certificate::read(&verifier).ok();
    Case {
        name: name.to_owned(),
        message: vec![fixture("bundles/blob.txt")],
        envelope: None,
        bytes: None,
        signature,
        key: certificate.is_none().then(|| PublicKey::from_file_bytes(&verifier).expect("a key")),
        certificate,
        entry,
        timestamps: Vec::new(),
    }
}

/// Everything that is good.
pub(super) fn good() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in [
        "attblob-keyed-rekor1",
        "attblob-keyless-rekor1",
        "attblob-keyless-rekor2",
        "blob-keyed-rekor1",
        "blob-keyed-rekor2",
        "blob-keyless-rekor1",
        "blob-keyless-rekor2",
    ] {
        let bytes = fixture(&format!("bundles/{name}.sigstore.json"));
        cases.push(of_bundle(name, &bytes).expect(name));
    }
    for layout in [
        "att-bundle-keyless-rekor1",
        "keyed-bundle-rekor1",
        "keyed-bundle-rekor2",
        "keyless-gitlab-bundle-rekor2",
        "keyless-mail-bundle-rekor2",
    ] {
        cases.push(of_layout(layout));
    }
    for layout in ["keyed-legacy-rekor1", "keyless-gitlab-legacy-rekor1", "keyless-gitlab-legacy-rekor1-tsa"] {
        cases.push(of_layer(layout));
    }
    for name in [
        "rekor1-dsse",
        "rekor1-intoto002",
        "rekor1-hashedrekord-key",
        "rekor1-hashedrekord-cert",
        "rekor2-hashedrekord-key",
        "rekor2-hashedrekord-cert-pae",
    ] {
        cases.push(of_answer(name));
    }
    let old = OldBundle::parse(&fixture("bundles/blob-oldbundle-rekor1.json")).expect("an old bundle");
    cases.push(Case {
        name: "old bundle".to_owned(),
        message: vec![fixture("bundles/blob.txt")],
        envelope: None,
        bytes: None,
        signature: old.signature,
        certificate: None,
        key: Some(key()),
        entry: old.entry.expect("an entry"),
        timestamps: Vec::new(),
    });
    cases
}

#[test]
fn what_was_recorded_holds() {
    for case in good() {
        let logged = case.check().unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let tiled = case.entry.version == "0.0.2" && case.entry.kind == "hashedrekord";
        assert_eq!(logged.time.is_some(), case.entry.promise.is_some(), "{}", case.name);
        assert_eq!(logged.time, case.entry.promise.as_ref().and(case.entry.integrated_time), "{}", case.name);
        assert_eq!(logged.included, case.entry.proof.is_some(), "{}", case.name);
        let url = if tiled { "http://localhost:3003" } else { "http://127.0.0.1:3100" };
        assert!(logged.log.ends_with(&format!("({url})")), "{}", logged.log);
        assert_eq!((logged.index, &logged.kind), (case.entry.index, &case.entry.kind));
        // Written and read again it is the same.
        let again = Entry::parse(case.entry.to_json().to_string().as_bytes());
        assert_eq!(again.as_ref(), Ok(&case.entry), "{}", case.name);
        if let Some(text) = case.entry.to_annotation() {
            let again = Entry::from_annotation(&text).expect("an entry");
            assert_eq!(again, Entry { proof: None, ..case.entry.clone() }, "{}", case.name);
        }
    }
}

/// Class A: an entry, or any part of one, does not serve for another signature.
#[test]
fn no_part_of_one_entry_serves_another() {
    let cases = good();
    for one in &cases {
        for other in &cases {
            if one.name == other.name {
                continue;
            }
            let (mine, theirs) = (&one.entry, &other.entry);
            let refused = |what: &str, entry: Entry| {
                if entry != *mine {
                    let checked = one.check_with(&entry, &trusted().logs, &[]);
                    assert!(checked.is_err(), "{} with the {what} of {}", one.name, other.name);
                }
            };
            // Three were recorded of one signature: each of their entries is about it, their parts belong to themselves.
            if one.signature != other.signature {
                refused("entry", theirs.clone());
            }
            refused("body", Entry { body: theirs.body.clone(), ..mine.clone() });
            refused(
                "body and kind",
                Entry {
                    body: theirs.body.clone(),
                    kind: theirs.kind.clone(),
                    version: theirs.version.clone(),
                    ..mine.clone()
                },
            );
            refused("index", Entry { index: theirs.index, ..mine.clone() });
            refused("log", Entry { log_id: theirs.log_id.clone(), ..mine.clone() });
            if theirs.promise.is_some() {
                refused("promise", Entry { promise: theirs.promise.clone(), ..mine.clone() });
                refused(
                    "promise and time",
                    Entry { promise: theirs.promise.clone(), integrated_time: theirs.integrated_time, ..mine.clone() },
                );
            }
            if let Some(proof) = &theirs.proof {
                refused("proof", Entry { proof: Some(proof.clone()), ..mine.clone() });
                if let Some(own) = &mine.proof {
                    let with = |changed: Proof| Entry { proof: Some(changed), ..mine.clone() };
                    refused("checkpoint", with(Proof { checkpoint: proof.checkpoint.clone(), ..own.clone() }));
                    refused("hashes", with(Proof { hashes: proof.hashes.clone(), ..own.clone() }));
                    refused("root", with(Proof { root: proof.root.clone(), ..own.clone() }));
                    refused("size", with(Proof { size: proof.size, ..own.clone() }));
                    refused("place", with(Proof { index: proof.index, ..own.clone() }));
                }
            }
            // The other way round: this entry, and something else of what was signed.
            if one.signature != other.signature {
                let changed = Case { signature: other.signature.clone(), ..one.clone() };
                assert!(matches!(changed.check(), Err(EntryError::Signature { .. })), "{}: {}", one.name, other.name);
            }
            if (&one.certificate, &one.key) != (&other.certificate, &other.key) {
                let (certificate, key) = (other.certificate.clone(), other.key.clone());
                let changed = Case { certificate, key, ..one.clone() };
                assert!(matches!(changed.check(), Err(EntryError::Verifier { .. })), "{}: {}", one.name, other.name);
            }
            if one.message != other.message {
                let (message, envelope) = (other.message.clone(), other.envelope.clone());
                let changed = Case { message, envelope, ..one.clone() };
                let refused = changed.check().expect_err(&one.name);
                assert!(
                    matches!(
                        refused,
                        EntryError::Artifact { .. } | EntryError::Payload { .. } | EntryError::NotAnEnvelope
                    ),
                    "{} with what {} signs: {refused}",
                    one.name,
                    other.name
                );
            }
        }
    }
}

/// One changed byte anywhere in what a log vouches for.
#[test]
fn every_byte_counts() {
    let cases = good();
    for name in ["attblob-keyed-rekor1", "blob-keyed-rekor2"] {
        let case = cases.iter().find(|case| case.name == name).expect("a case");
        let logs = trusted().logs;
        let entry = &case.entry;
        let proof = entry.proof.as_ref().expect("a proof");
        let refused = |what: &str, at: usize, entry: Entry| {
            assert!(case.check_with(&entry, &logs, &[]).is_err(), "{name}: byte {at} of the {what}");
        };
        let turned = |bytes: &[u8], at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1 << (at % 7);
            bytes
        };
        for at in 0..entry.body.len() {
            refused("body", at, Entry { body: turned(&entry.body, at), ..entry.clone() });
        }
        for at in 0..entry.log_id.len() {
            refused("log id", at, Entry { log_id: turned(&entry.log_id, at), ..entry.clone() });
        }
        for at in 0..entry.promise.as_ref().map_or(0, Vec::len) {
            let promise = entry.promise.as_ref().map(|promise| turned(promise, at));
            refused("promise", at, Entry { promise, ..entry.clone() });
        }
        let with = |changed: Proof| Entry { proof: Some(changed), ..entry.clone() };
        for at in 0..32 {
            refused("root", at, with(Proof { root: turned(&proof.root, at), ..proof.clone() }));
            for hash in 0..proof.hashes.len() {
                let mut hashes = proof.hashes.clone();
                hashes[hash] = turned(&hashes[hash], at);
                refused("hashes", at, with(Proof { hashes, ..proof.clone() }));
            }
        }
        let note = proof.checkpoint.as_ref().expect("a checkpoint");
        let signature = note.rfind(' ').expect("a signature");
        for at in 0..note.len() {
            // Who is said to have signed is not signed by Rekor 1, and there is only one key that may be.
            let is_name = at > note.find("\n\n").expect("an empty line") && at < signature;
            let Ok(changed) = String::from_utf8(turned(note.as_bytes(), at)) else { continue };
            if is_name && name.ends_with("rekor1") {
                continue;
            }
            refused("checkpoint", at, with(Proof { checkpoint: Some(changed), ..proof.clone() }));
        }
        for (index, size) in [(proof.index + 1, proof.size), (proof.index, proof.size + 1), (proof.index, 1), (0, 0)] {
            refused("place", 0, with(Proof { index, size, ..proof.clone() }));
        }
        let mut hashes = proof.hashes.clone();
        hashes.push(vec![0; 32]);
        refused("hashes", 99, with(Proof { hashes, ..proof.clone() }));
        let time = entry.integrated_time.map(|time| time + jiff::SignedDuration::from_secs(1));
        if entry.promise.is_some() {
            refused("time", 0, Entry { integrated_time: time, ..entry.clone() });
            refused("time", 1, Entry { integrated_time: None, ..entry.clone() });
        }
        let nothing = Entry { promise: None, proof: None, ..entry.clone() };
        assert_eq!(case.check_with(&nothing, &logs, &[]), Err(EntryError::Unsigned));
    }
}

/// The edited files: which check finds what was done to them.
#[test]
fn every_edited_bundle_fails_for_its_own_reason() {
    for (file, wanted) in [
        ("att-rekor1-body-edited", "the body of the log entry cannot be read"),
        ("att-rekor1-cert-bit", "the log entry is about another signer"),
        ("att-rekor1-chain", "a chain of certificates, which version 0.3 has not"),
        ("att-rekor1-checkpoint-sig", "its signature by the log's key 5ca0bee6 does not hold"),
        ("att-rekor1-log-other", "the log entry is about another signature"),
        ("att-rekor1-logid", "is of the log 01010101"),
        ("att-rekor1-mediatype", "bundle malformed: media type"),
        ("att-rekor1-no-log", "no entry"),
        ("att-rekor1-no-proof", "without inclusion proof"),
        ("att-rekor1-no-sig", "it has not exactly one signature"),
        ("att-rekor1-payload-edited", "the log entry is about another payload: its digest is f5d06644"),
        ("att-rekor1-payloadtype", "bundle malformed: payload type"),
        ("att-rekor1-root-edited", "its signature by the log's key 5ca0bee6 does not hold"),
        ("att-rekor1-sig-bit", "the log entry is about another signature"),
        ("att-rekor1-time", "the promise in the log entry (signed entry timestamp) is not by the log 5ca0bee6"),
        ("att-rekor1-unknown-field", "unknown field `extra`"),
        ("att-rekor2-body-absent", "`canonicalizedBody` is missing"),
        ("att-rekor2-cert-bit", "the log entry is about another signer"),
        ("att-rekor2-cert-swapped", "the log entry is about another signer"),
        ("att-rekor2-chain", "a chain of certificates, which version 0.3 has not"),
        ("att-rekor2-index", "is older than the entry: it is about 39 entries, and this one is number 999999"),
        ("att-rekor2-log-twice", "entry 38 of the log d51926a0"),
        ("att-rekor2-logid", "is of the log 01010101"),
        ("att-rekor2-mediatype", "bundle malformed: media type"),
        ("att-rekor2-no-log", "no entry"),
        ("att-rekor2-no-sig", "it has not exactly one signature"),
        ("att-rekor2-payload-reencoded", "the log entry is about another artifact: its digest is SHA2_256:b6aabdaf"),
        ("att-rekor2-payloadtype", "bundle malformed: payload type"),
        ("att-rekor2-root-edited", "its signature by the log's key d51926a0 does not hold"),
        ("att-rekor2-sig-bit", "the log entry is about another signature"),
        ("att-rekor2-two-sigs", "it has not exactly one signature"),
        ("blob-rekor2-sig", "the log entry is about another signature"),
    ] {
        let case = of_bundle(file, &fixture(&format!("negative/{file}.sigstore.json")));
        let error = match case.as_ref().map(Case::check) {
            Ok(Ok(_)) => panic!("{file} holds"),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.clone(),
        };
        assert!(error.contains(wanted), "{file}: {error}");
    }
    for (layout, wanted) in [
        ("neg-legacy-bundle-time", "the promise in the log entry"),
        ("neg-legacy-cert", "the log entry is about another signer"),
        ("neg-legacy-digest", "the log entry is about another artifact"),
        ("neg-legacy-payload", "the log entry is about another artifact: its digest is sha256:4fe412a8"),
        ("neg-legacy-sig", "the log entry is about another signature"),
    ] {
        let error = of_layer(layout).check().expect_err(layout).to_string();
        assert!(error.contains(wanted), "{layout}: {error}");
    }
    assert!(of_layer("neg-legacy-same").check().is_ok(), "copied unchanged");
    // Nothing is wrong with their entries: the time, or its lack, is found elsewhere.
    for file in ["att-rekor1-no-promise", "att-rekor2-no-tsa", "att-rekor2-tsa-bit"] {
        let case = of_bundle(file, &fixture(&format!("negative/{file}.sigstore.json"))).expect(file);
        assert_eq!(case.check().map(|logged| logged.time), Ok(None), "{file}");
    }
}

#[test]
fn every_edited_trusted_root_says_what_it_lacks() {
    let root = |name: &str| TrustedRoot::parse(&fixture(&format!("negative/trusted_root-{name}.json"))).expect(name);
    let cases = good();
    let case = |name: &str| cases.iter().find(|case| case.name == name).expect(name);
    let (rekor1, rekor2) = (case("blob-keyless-rekor1"), case("blob-keyless-rekor2"));
    let check =
        |case: &Case, root: &TrustedRoot, times: &[jiff::Timestamp]| case.check_with(&case.entry, &root.logs, times);

    // The URL is part of the id of a log of tiles alone.
    for name in ["rekor-baseurl", "rekor-baseurl-v1"] {
        let elsewhere = root(name);
        let error = check(rekor2, &elsewhere, &[]).expect_err("another name").to_string();
        assert!(error.contains("its id is not that of its key under the name `elsewhere.test`"), "{error}");
        assert!(check(rekor1, &elsewhere, &[]).is_ok());
    }
    let expired = root("rekor-expired");
    assert!(matches!(check(rekor1, &expired, &[]), Err(EntryError::Window { .. })));
    let time =
        proven_time(&rekor2.timestamps, &rekor2.signature, &trusted().timestamp_authorities).expect("a time").time;
    assert!(matches!(check(rekor2, &expired, &[time]), Err(EntryError::Window { .. })));
    assert!(matches!(check(rekor2, &expired, &[]), Err(EntryError::Retired { .. })));
    assert!(check(rekor2, &trusted(), &[time]).is_ok());

    assert!(root("no-ca").authorities.is_empty());
    let window = root("ca-expired").authorities[0].window;
    assert!(!window.covers(time) && trusted().authorities[0].window.covers(time));
    let no_authority = proven_time(&rekor2.timestamps, &rekor2.signature, &root("no-tsa").timestamp_authorities);
    assert_eq!(no_authority, Err("the trusted root names no timestamp authority".to_owned()));
    let chain = certificates("trust/fulcio-chain.pem");
    let leaf = rekor2.certificate.as_ref().expect("a certificate");
    assert_eq!(check_scts(leaf, &chain[0], &root("no-ctlog").ct_logs, None), Err(SctError::NoLogs));
    assert_eq!(rekor1.check_with(&rekor1.entry, &[], &[]), Err(EntryError::NoLogs));
}

#[test]
fn a_key_is_believed_in_its_window_alone() {
    let cases = good();
    for case in &cases {
        let logged = case.check().expect(&case.name);
        let second = jiff::SignedDuration::from_secs(1);
        let time = logged.time.unwrap_or("2026-11-21T11:09:00Z".parse().expect("a time"));
        let times: &[_] = if logged.time.is_some() { &[] } else { &[time] };
        let within = |start, end| {
            let mut logs = trusted().logs;
            for log in &mut logs {
                log.window = Window { start, end };
            }
            case.check_with(&case.entry, &logs, times)
        };
        assert_eq!(within(Some(time), Some(time)), Ok(logged.clone()), "{}", case.name);
        for (start, end) in [(Some(time + second), None), (None, Some(time - second))] {
            let error = within(start, end).expect_err(&case.name);
            assert!(matches!(&error, EntryError::Window { time: found, .. } if *found == time), "{error}");
        }
        // Two windows of one key: one that fits is enough, in whatever order.
        let mut logs = trusted().logs;
        for log in trusted().logs {
            logs.insert(0, Log { window: Window { start: Some(time + second), end: None }, ..log.clone() });
            logs.push(Log { window: Window { start: Some(time + second), end: None }, ..log });
        }
        assert_eq!(case.check_with(&case.entry, &logs, times), Ok(logged), "{}", case.name);
    }
}

/// The same record in other bytes is another leaf.
#[test]
fn a_record_has_one_form() {
    let cases = good();
    for case in &cases {
        let text = String::from_utf8(case.entry.body.clone()).expect("text");
        for (what, changed) in [
            ("white space", text.replacen(':', ": ", 1)),
            ("a member more", text.replacen('{', r#"{"x":1,"#, 1)),
            ("a member twice", text.replacen('{', r#"{"kind":"dsse","#, 1)),
            ("data after it", format!("{text} {{}}")),
            ("another kind", text.replacen(r#""kind":""#, r#""kind":"x"#, 1)),
            ("another version", text.replacen("\"0.0.", "\"0.1.", 1)),
        ] {
            let entry = Entry { body: changed.into_bytes(), ..case.entry.clone() };
            let error = case.check_with(&entry, &trusted().logs, &[]).expect_err(what);
            let is_form = matches!(
                error,
                EntryError::Body { .. } | EntryError::Leaf | EntryError::Promise { .. } | EntryError::Inclusion { .. }
            );
            assert!(is_form, "{}: {what}: {error}", case.name);
        }
        for (kind, version) in [("rekord", "0.0.1"), ("intoto", "0.0.1"), ("dsse", "0.0.2"), ("", "")] {
            let entry = Entry { kind: kind.to_owned(), version: version.to_owned(), ..case.entry.clone() };
            let error = case.check_with(&entry, &trusted().logs, &[]).expect_err(kind);
            assert!(matches!(error, EntryError::Kind { .. }), "{error}");
        }
    }
}

#[test]
fn stored_envelopes_are_compared_as_they_were_sent() {
    let case = of_answer("rekor1-dsse");
    let bytes = case.bytes.clone().expect("what was sent");
    assert!(case.check().is_ok());
    let other = [&bytes[..bytes.len() - 1], b" }"].concat();
    let changed = Case { bytes: Some(other), ..case.clone() };
    assert!(matches!(changed.check(), Err(EntryError::Envelope { .. })));
    let bundle = Case { bytes: None, ..case.clone() };
    assert!(bundle.check().is_ok(), "a bundle does not have those bytes");
    let bare = Case { envelope: None, ..case };
    assert_eq!(bare.check(), Err(EntryError::NotAnEnvelope));
    let mut intoto = of_answer("rekor1-intoto002");
    let envelope = intoto.envelope.as_mut().expect("an envelope");
    envelope.payload_type = "text/plain".to_owned();
    assert!(matches!(intoto.check(), Err(EntryError::Payload { what: "type", .. })));
}

#[test]
fn old_bundles_are_read() {
    let text = String::from_utf8(fixture("bundles/blob-oldbundle-rekor1.json")).expect("text");
    let pem = certificates("trust/fulcio-chain.pem")[0].to_pem();
    let key = String::from_utf8(fixture("keys/cosign.pub")).expect("text");
    for written in [pem.clone(), STANDARD.encode(&pem)] {
        let with = text.replacen('{', &format!("{{\"cert\":{},", json!(written)), 1);
        let old = OldBundle::parse(with.as_bytes()).expect("an old bundle");
        assert_eq!((old.certificate.as_deref(), old.key), (Some(pem.as_bytes()), None));
        let with = with.replace(&json!(written).to_string(), &json!(STANDARD.encode(&key)).to_string());
        let old = OldBundle::parse(with.as_bytes()).expect("an old bundle");
        assert_eq!((old.certificate, old.key.as_deref()), (None, Some(key.as_bytes())));
    }
    for bad in [
        String::new(),
        "{}".to_owned(),
        text.replacen('{', r#"{"x":1,"#, 1),
        text.replacen('{', r#"{"base64Signature":"AA==","#, 1),
        text.replacen('{', r#"{"cert":"AAAA","#, 1),
        text.replace("\"logIndex\":23", "\"logIndex\":-1"),
        text.replace("\"logIndex\":23", "\"logIndex\":\"23\""),
        text.replace("\"integratedTime\":1795259372", "\"integratedTime\":0"),
        text.replace("\"integratedTime\":1795259372", "\"integratedTime\":9223372036854775807"),
        text.replace("\"logID\":\"5ca0bee6", "\"logID\":\"5CA0bee6"),
        text.replace("\"logID\":\"5ca0bee6", "\"logID\":\"x"),
        text.replace("SignedEntryTimestamp", "signedEntryTimestamp"),
    ] {
        assert_ne!(bad, text);
        assert!(OldBundle::parse(bad.as_bytes()).is_err(), "{bad:.100}");
    }
}

mod roots;
mod scts;
