//! What is asked of the readers for any bytes at all: one function for each fuzz target.
//!
//! None may panic, and beyond that something must hold that a second, simpler reading can tell. The fuzzer calls these
//! functions (`fuzz_targets/`), and so does a plain test for every file of the corpus (`main.rs`).

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::LazyLock;

use affiant_core::bundle::Bundle;
use affiant_core::digest::sha256;
use affiant_core::dsse::{Envelope, envelope_size};
use affiant_core::evidence::files::Files;
use affiant_core::evidence::{CollectionView, EntryView, Statement, input, links, merkle as tree};
use affiant_core::policy::check::{Surroundings, check};
use affiant_core::policy::{Document, Policy, strict_json};
use affiant_core::sign::PublicKey;
use affiant_core::trust::timestamp::{token_of_response, verify};
use affiant_core::trust::{Anchor, Certificate, Constraint, Trust};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

/// Largest envelope that the fuzzer may offer, in bytes.
const LIMIT: usize = 1 << 20;

macro_rules! fixture {
    ($path:literal) => {
        include_bytes!(concat!("../../fixtures/", $path)).as_slice()
    };
}

/// Keys that signed what is recorded.
const KEYS: [&[u8]; 2] = [fixture!("keys/functionary.pub"), fixture!("keys/sbom-functionary.pub")];

/// Everything that these keys and certificates ever signed and that a seed holds.
const SIGNED: [&[u8]; 21] = [
    fixture!("samples/bake/evidence.json"),
    fixture!("samples/docker-archive/evidence.json"),
    fixture!("samples/engine/evidence.json"),
    fixture!("samples/failed/evidence.json"),
    fixture!("samples/gaps/evidence.json"),
    fixture!("samples/oci-layout/evidence.json"),
    fixture!("samples/oci-platforms/evidence.json"),
    fixture!("samples/sbom-cyclonedx/evidence.json"),
    fixture!("samples/sbom-spdx/evidence.json"),
    fixture!("samples/script/evidence.json"),
    fixture!("verdicts/collections/witness/docker-build.json"),
    fixture!("verdicts/collections/witness/docker-sbom.json"),
    fixture!("verdicts/collections/cilock/docker-build.json"),
    fixture!("verdicts/collections/cilock/docker-sbom.json"),
    fixture!("verdicts/collections/cilock/failed.json"),
    fixture!("certificates/witness/good.json"),
    fixture!("certificates/witness/token-of-another.json"),
    fixture!("certificates/witness/bare.json"),
    fixture!("certificates/cilock/good.json"),
    fixture!("certificates/cilock/token-of-another.json"),
    fixture!("certificates/cilock/bare.json"),
];

/// Timestamp authorities: leaf and root, or the root alone.
const AUTHORITIES: [&[u8]; 4] = [
    fixture!("certificates/keys/tsa-root.pem"),
    fixture!("certificates/openssl/tsa-rsa.pem"),
    fixture!("certificates/openssl/tsa-p384.pem"),
    fixture!("certificates/sigstore/tsa-chain.pem"),
];

const OPENSSL_MESSAGE: &[u8] = fixture!("certificates/openssl/message");

/// Recorded tokens over [`OPENSSL_MESSAGE`].
const TOKENS: [&[u8]; 5] = [
    fixture!("certificates/openssl/token-rsa-chain.der"),
    fixture!("certificates/openssl/token-rsa-plain.der"),
    fixture!("certificates/openssl/token-rsa-no-certificate.der"),
    fixture!("certificates/openssl/token-rsa-named-by-sha1.der"),
    fixture!("certificates/openssl/token-p384.der"),
];

fn recorded(bytes: &[u8]) -> Envelope {
    Envelope::parse(bytes, LIMIT).expect("a recorded envelope")
}

fn authorities() -> Vec<Anchor> {
    let anchor = |(at, pem): (usize, &&[u8])| {
        let mut chain = Certificate::read_all(pem).expect("recorded certificates");
        let certificate = chain.pop().expect("at least one");
        Anchor { id: at.to_string(), certificate, intermediates: chain }
    };
    AUTHORITIES.iter().enumerate().map(anchor).collect()
}

static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let read = |pem| Certificate::read(pem).expect("a recorded certificate");
    let root = Anchor {
        id: "root".to_owned(),
        certificate: read(fixture!("certificates/keys/root.pem")),
        intermediates: vec![read(fixture!("certificates/keys/intermediate.pem"))],
    };
    Trust {
        keys: KEYS.iter().map(|pem| PublicKey::from_file_bytes(pem).expect("a recorded key")).collect(),
        roots: vec![root],
        authorities: authorities(),
        ..Trust::default()
    }
});

/// Payload type and payload of [`SIGNED`].
static SIGNED_PAYLOADS: LazyLock<BTreeSet<(String, Vec<u8>)>> = LazyLock::new(|| {
    let pair = |bytes: &&[u8]| {
        let envelope = recorded(bytes);
        (envelope.payload_type, envelope.payload)
    };
    SIGNED.iter().map(pair).collect()
});

/// What recorded tokens are over, and the times that they prove.
static STAMPED: LazyLock<(Vec<Vec<u8>>, BTreeSet<Timestamp>)> = LazyLock::new(|| {
    let of_signature = |bytes: &[u8]| {
        let signature = recorded(bytes).signatures.remove(0);
        (signature.sig, signature.timestamps.into_iter().map(|stamp| stamp.data).collect::<Vec<_>>())
    };
    let mut pairs = vec![(OPENSSL_MESSAGE.to_vec(), TOKENS.iter().map(|token| token.to_vec()).collect())];
    pairs.push(of_signature(fixture!("certificates/witness/good.json")));
    pairs.push(of_signature(fixture!("certificates/cilock/good.json")));
    let authorities = authorities();
    let mut times = BTreeSet::new();
    for (message, tokens) in &pairs {
        for token in tokens {
            times.insert(verify(token, message, &authorities).expect("a recorded token").time);
        }
    }
    (pairs.into_iter().map(|(message, _)| message).collect(), times)
});

/// The JSON object `text` with one more member in front.
fn with_member(text: &[u8], name: &str, value: &str) -> Vec<u8> {
    let inside = text.trim_ascii_start().strip_prefix(b"{").expect("what was read is an object");
    [format!("{{\"{name}\":{value},").as_bytes(), inside].concat()
}

/// Envelopes and bundles: what is read, written and read again is the same; a second reader sees the same payload; a
/// member twice is refused; and no key's signature holds over what it did not sign.
pub(crate) fn dsse(data: &[u8]) {
    bundles(data);
    let Ok(envelope) = Envelope::parse(data, LIMIT) else { return };
    let written = envelope.to_json();
    assert_eq!(Envelope::parse(&written, 2 * LIMIT).as_ref(), Ok(&envelope), "read, written, read again");
    let payload = envelope.payload.len() as u64;
    assert_eq!(written.len() as u64, envelope_size(payload, &envelope.payload_type, &envelope.signatures));

    let second: Value = serde_json::from_slice(data).expect("an envelope is JSON");
    let text: String =
        second["payload"].as_str().unwrap_or_default().chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    assert_eq!(STANDARD.decode(text).as_ref(), Ok(&envelope.payload), "another payload for another reader");
    assert_eq!(second["payloadType"].as_str().unwrap_or_default(), envelope.payload_type);
    for member in ["payload", "payloadType", "signatures", "Payload", "payloadtype", "ſignatures"] {
        let double = with_member(data, member, "null");
        assert!(Envelope::parse(&double, 2 * LIMIT).is_err(), "{member} twice");
    }

    // Checking costs a hundred times what reading does: two signatures say as much as many.
    if envelope.signatures.len() <= 2
        && let Ok(checked) = TRUST.check(envelope)
    {
        let envelope = checked.into_value();
        let signed = (envelope.payload_type, envelope.payload);
        assert!(SIGNED_PAYLOADS.contains(&signed), "a signature holds over what nobody signed: {signed:?}");
    }
}

fn bundles(data: &[u8]) {
    let again = |bundle: &Bundle| {
        let mut bytes = Vec::new();
        bundle.write(&mut bytes).expect("written to memory");
        assert_eq!(Bundle::read(bytes.as_slice()).as_ref().ok(), Some(bundle), "read, written, read again");
    };
    let read = if Bundle::is_one(data) {
        Bundle::read(data)
    } else if data.get(257..262) == Some(b"ustar") {
        // A bundle's tar as it is: gzip's checksum would keep the fuzzer out.
        let mut bytes = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        bytes.write_all(data).expect("written to memory");
        Bundle::read(bytes.finish().expect("written to memory").as_slice())
    } else {
        let lines = data.split(|byte| *byte == b'\n').map(|line| ("line".to_owned(), line.to_vec())).collect();
        Bundle::make(lines, "file", Vec::new(), Timestamp::UNIX_EPOCH)
    };
    if let Ok(bundle) = read {
        // A line may hold what is no envelope: the bundle only carries it.
        if bundle.envelopes.iter().all(|line| !line.contains(&b'\n')) {
            again(&bundle);
        }
    }
}

/// Statements and collections: what the strict reader takes has no member twice, for another reader too; tables hold
/// what they list; and what is shown to a rule is JSON without doubles.
pub(crate) fn statement(data: &[u8]) {
    let Ok(statement) = Statement::parse_strict(data) else { return };
    strict_json(data).map(|_| ()).or_else(|error| other_limit(&error.to_string())).expect("read alike");
    // `subject` alone may be missing.
    let without_subject = serde_json::from_slice::<Value>(data).is_ok_and(|value| value.get("subject").is_none());
    let members = ["_type", "predicateType", "predicate", "PredicateType", "Subject", "subject"];
    for member in members.into_iter().filter(|member| *member != "subject" || !without_subject) {
        assert!(Statement::parse_strict(&with_member(data, member, "null")).is_err(), "{member} twice");
    }
    assert_eq!(statement.subject.iter().count(), statement.subject.len(), "each subject can be had");
    for subject in statement.subject.iter().take(64) {
        assert!(subject.digest.windows(2).all(|pair| pair[0].0 < pair[1].0), "sorted, none twice: {subject:?}");
        let (_, _) = (links::standing(&subject.name), links::is_real_external(&subject));
    }
    if let Some(Ok(collection)) = statement.collection() {
        of_collection(&statement, &collection);
    }
}

/// Where the strict reader of policies has a limit that evidence does not have.
fn other_limit(reason: &str) -> Result<(), String> {
    if reason.contains("number out of range") { Ok(()) } else { Err(reason.to_owned()) }
}

fn of_collection(statement: &Statement<'_>, collection: &CollectionView<'_>) {
    let _: Result<Vec<i64>, _> = collection.exit_codes();
    for reference in links::backrefs(statement, collection) {
        assert!(!reference.digest.0.is_empty(), "{} leads nowhere", reference.name);
        assert!(!reference.name.to_lowercase().contains("/parenthash:"), "{} is a parent commit", reference.name);
    }
    for entry in collection.attestations.iter().take(8) {
        if let Some(Ok(files)) = Files::read(entry) {
            table(&files);
        }
        let stem = entry.kind.rsplit_once('/').map_or("", |(stem, _)| stem);
        for version in ["v0.1", "v0.2", "v0.3"] {
            shown_as(entry, &format!("{stem}/{version}"));
        }
    }
}

/// A table of files holds what it lists, and is itself when it is joined with itself.
fn table(files: &Files) {
    for file in files.iter().take(64) {
        assert_eq!(files.get(file.path).map(|found| found.digests), Some(file.digests), "{}", file.path);
        if let Some(sha256) = file.digests.sha256 {
            let path = files.find_sha256(&sha256).expect("a listed digest is found");
            assert_eq!(files.get(path).and_then(|found| found.digests.sha256), Some(sha256));
        }
    }
    assert!(files.iter().map(|file| file.path).is_sorted(), "sorted by path");
    let joined = files.overlay(files);
    assert!(files.iter().map(|file| (file.path, file.digests)).eq(joined.iter().map(|file| (file.path, file.digests))));
    assert_eq!(files.compare(files).shared, files.len());
}

fn shown_as(entry: &EntryView<'_>, kind: &str) {
    let Ok(document) = input::present(entry, kind) else { return };
    let read = strict_json(document.get().as_bytes()).map(|_| ()).or_else(|error| other_limit(&error.to_string()));
    read.unwrap_or_else(|error| panic!("{kind}: {error}"));
    // What was converted can be read in its new form, and has the same files.
    let shown =
        EntryView { kind: kind.to_owned(), attestation: &document, starttime: String::new(), endtime: String::new() };
    if let (Some(Ok(before)), Some(after)) = (Files::read(entry), Files::read(&shown)) {
        let after = after.expect("what was converted can be read");
        let slashed = |path: &str| path.replace('\\', "/");
        let mut list: Vec<_> = before.iter().map(|file| (slashed(file.path), file.digests.sha256)).collect();
        list.sort_unstable();
        let mut other: Vec<_> = after.iter().map(|file| (slashed(file.path), file.digests.sha256)).collect();
        other.sort_unstable();
        assert_eq!(list, other, "{kind}");
    }
}

/// Policies: what is read, written and read again is the same; JSON is the same through both readers; a member twice is
/// refused; the order of the steps has each once; and `check` has an answer, errors first.
pub(crate) fn policy(data: &[u8]) {
    let document = Document::parse(data);
    if data.trim_ascii_start().starts_with(b"{") {
        assert_eq!(document.as_ref().ok().map(|document| &document.value), strict_json(data).ok().as_ref());
    }
    let Ok(Document { value, .. }) = &document else { return };
    let Ok(policy) = Policy::from_value(value) else { return };
    let order: BTreeSet<_> = policy.order().expect("what was read has an order").into_iter().collect();
    assert!(order.into_iter().eq(policy.steps.keys().map(String::as_str)), "each step once");
    let functionaries = policy.steps.values().flat_map(|step| &step.functionaries);
    for constraint in functionaries.filter_map(|functionary| functionary.constraint.as_ref()) {
        let _: bool = Constraint::read(constraint).is_ok_and(|(constraint, _)| constraint.is_vacuous());
    }
    let around =
        Surroundings { document: document.as_ref().ok(), now: Timestamp::UNIX_EPOCH, members: &|_| None, signers: &[] };
    let found = check(&policy, value, &around);
    assert!(found.is_sorted_by_key(|finding| finding.severity), "errors first");

    let Ok(from_json) = Policy::parse(data) else { return };
    assert_eq!(format!("{from_json:?}"), format!("{policy:?}"), "both readers");
    let written = serde_json::to_vec(value).expect("JSON");
    assert_eq!(strict_json(&written).ok().as_ref(), Some(value), "read, written, read again");
    for member in ["steps", "Steps", "EXPIRES", "publicKeys"] {
        let has = |name: &String| name.eq_ignore_ascii_case(member);
        if value.as_object().is_some_and(|object| object.keys().any(has)) {
            assert!(Policy::parse(&with_member(data, member, "{}")).is_err(), "{member} twice");
        }
    }
}

/// RFC 6962 §2.1 as it is written there.
fn tree_hash(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => sha256(&[]),
        [leaf] => sha256(&[&[0], leaf.as_slice()].concat()),
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            sha256(&[&[1], tree_hash(left).as_slice(), tree_hash(right).as_slice()].concat())
        }
    }
}

fn read_tree(text: &str) -> Option<Files> {
    let attestation: &RawValue = serde_json::from_str(text).ok()?;
    let kind = "https://aflock.ai/attestations/material/v0.3".to_owned();
    let entry = EntryView { kind, attestation, starttime: String::new(), endtime: String::new() };
    Files::read(&entry)?.ok()
}

/// Trees over files: a tree that is accepted has the root that the RFC's own words give, and one bit of a digest or of
/// the root more or less is refused.
pub(crate) fn merkle(data: &[u8]) {
    if let Some(text) = std::str::from_utf8(data).ok().filter(|text| text.trim_start().starts_with('{')) {
        let Some(files) = read_tree(text) else { return };
        table(&files);
        let digests: BTreeSet<[u8; 32]> = files.iter().filter_map(|file| file.digests.sha256).collect();
        assert_eq!(files.iter().filter(|file| file.digests.sha256.is_none()).count(), 0, "each leaf has a digest");
        let leaves: Vec<[u8; 32]> = digests.iter().map(|digest| sha256(digest)).collect();
        let value: Value = serde_json::from_str(text).expect("what was read is JSON");
        assert_eq!(value["merkleRoot"].as_str(), Some(hex::encode(tree_hash(&leaves)).as_str()));
        assert_eq!(value["treeSize"].as_u64(), Some(leaves.len() as u64));
        let built = tree::build(&files).expect("files of a tree have a tree");
        assert_eq!((built.root, built.size), (tree_hash(&leaves), leaves.len()));
        for member in
            ["merkleRoot", "treeSize", "leaves", "hashAlgorithm"].into_iter().filter(|name| !value[name].is_null())
        {
            let double = with_member(data, member, &value[member].to_string());
            assert!(read_tree(std::str::from_utf8(&double).expect("text")).is_none(), "{member} twice");
        }
        return;
    }
    // Any bytes as file digests; the first byte says which bit of the tree is turned.
    let Some((turned, bytes)) = data.split_first() else { return };
    let digests: BTreeSet<[u8; 32]> = bytes.chunks(32).take(256).map(sha256).collect();
    let leaves: Vec<[u8; 32]> = digests.iter().map(tree::leaf_hash).collect();
    let root = tree_hash(&leaves);
    assert_eq!(tree::root(leaves.iter().copied()), root);
    let text = |root: &[u8; 32], digests: &[[u8; 32]]| {
        let leaf = |(at, digest): (usize, &[u8; 32])| serde_json::json!({ "path": format!("f/{at}"), "fileDigest": hex::encode(digest) });
        let leaves: Vec<Value> = digests.iter().enumerate().map(leaf).collect();
        serde_json::json!({
            "merkleRoot": hex::encode(root), "treeSize": digests.len(), "hashAlgorithm": "sha256",
            "construction": "RFC6962", "leaves": leaves,
        })
        .to_string()
    };
    let mut digests: Vec<[u8; 32]> = digests.into_iter().collect();
    assert_eq!(read_tree(&text(&root, &digests)).map(|files| files.len()), Some(digests.len()));
    let bit = usize::from(*turned);
    let mut other = root;
    other[bit / 8] ^= 1 << (bit % 8);
    assert!(read_tree(&text(&other, &digests)).is_none(), "another root");
    if let Some(last) = digests.last_mut() {
        last[bit / 8] ^= 1 << (bit % 8);
        assert!(read_tree(&text(&root, &digests)).is_none(), "another digest");
    }
}

/// Timestamps and certificates: a token holds over what it was made for alone, and proves no time but the recorded
/// ones; what is read as a certificate is read again from its PEM.
pub(crate) fn timestamp(data: &[u8]) {
    let authorities = &TRUST.authorities;
    let token = token_of_response(data).unwrap_or(data);
    let (messages, times) = &*STAMPED;
    let mut holds = 0;
    for message in messages {
        if let Ok(proven) = verify(token, message, authorities) {
            holds += 1;
            assert!(times.contains(&proven.time), "nobody vouched for {}", proven.time);
            assert!(verify(token, message, &[]).is_err());
            let mut longer = message.clone();
            longer.push(0);
            assert!(verify(token, &longer, authorities).is_err(), "over other bytes");
        }
    }
    assert!(holds <= 1, "one token over {holds} messages");
    assert!(verify(token, data, authorities).is_err(), "nobody stamped this");

    if let Ok(certificate) = Certificate::from_der(data) {
        assert_eq!(certificate.der(), data);
        assert_eq!(Certificate::read(certificate.to_pem().as_bytes()).as_ref(), Ok(&certificate));
    }
    if let Ok(list) = Certificate::read_all(data) {
        assert!(!list.is_empty());
    }
}
