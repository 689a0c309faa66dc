//! Log entries at a signature, among its timestamps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp as Time;

use super::super::*;
use super::make::{World, at, key, noon, stamped};
use crate::digest::sha256_hex;
use crate::dsse::{TIMESTAMP_LOG_ENTRY, Timestamp};
use crate::sign::Signer as _;
use crate::sigstore::{Entry, Log, Window};

/// A log of the first sort, which promises when it took an entry.
#[derive(Clone, Copy)]
pub(crate) struct FakeLog {
    /// Its key.
    pub(crate) key: usize,
}

impl FakeLog {
    pub(crate) fn log(self) -> Log {
        Log::new("https://log.example", key(self.key).public_key().clone(), Window::default())
    }

    /// An entry about the signature over an envelope's payload by whoever has this certificate or key, in PEM.
    pub(crate) fn entry(self, envelope: &Envelope, verifier: &str, time: Time) -> Entry {
        let header = dsse::pae_header(&envelope.payload_type, envelope.payload.len());
        let digest = sha256_hex(&[header.as_slice(), &envelope.payload].concat());
        let content = STANDARD.encode(&envelope.signatures[0].sig);
        let body = serde_json::json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": digest}},
            "signature": {"content": content, "publicKey": {"content": STANDARD.encode(verifier)}}}});
        let body = body.to_string().into_bytes();
        let log = self.log();
        let promised = format!(
            r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":17}}"#,
            STANDARD.encode(&body),
            time.as_second(),
            hex::encode(&log.id)
        );
        let promise = key(self.key).sign(&[promised.as_bytes()]).expect("signs");
        Entry {
            index: 17,
            log_id: log.id,
            kind: "hashedrekord".to_owned(),
            version: "0.0.1".to_owned(),
            integrated_time: Some(time),
            promise: Some(promise),
            proof: None,
            body,
        }
    }
}

/// An entry as a signature brings it.
pub(crate) fn logged(entry: &Entry) -> Timestamp {
    Timestamp { kind: TIMESTAMP_LOG_ENTRY.to_owned(), data: entry.to_json().to_string().into_bytes() }
}

const LOG: FakeLog = FakeLog { key: 9 };

/// An envelope with certificate and log entry, without timestamp.
fn only_logged(world: &World, time: Time) -> Envelope {
    let mut envelope = world.envelope();
    let pem = String::from_utf8(envelope.signatures[0].certificate.clone().expect("a certificate")).expect("text");
    let entry = LOG.entry(&envelope, &pem, time);
    envelope.signatures[0].timestamps = vec![logged(&entry)];
    envelope
}

fn trusting(world: &World) -> Trust {
    Trust { logs: vec![LOG.log()], ..world.trust() }
}

fn refused(trust: &Trust, envelope: Envelope) -> String {
    match trust.check(envelope) {
        Ok(checked) => panic!("counts: {checked:?}"),
        Err(refused) => refused.reason.to_string(),
    }
}

#[test]
fn the_promise_of_a_trusted_log_proves_a_time() {
    let world = World::new();
    let (trust, envelope) = (trusting(&world), only_logged(&world, noon()));
    let checked = trust.check(envelope.clone()).expect("counts");
    let [signer] = checked.signers() else { panic!("one") };
    let time = signer.time.as_ref().expect("a time");
    assert_eq!(time.time, noon());
    assert!(time.authority.contains("https://log.example"), "{time:?}");
    assert_eq!((signer.logged.len(), signer.logged[0].index), (1, 17));
    // Without a trusted log, and with another, nothing proves a time: refused.
    let none = Trust { logs: Vec::new(), ..trust.clone() };
    assert!(refused(&none, envelope.clone()).contains("its log entry proves nothing: no log is trusted"));
    let other = Trust { logs: vec![FakeLog { key: 8 }.log()], ..trust.clone() };
    assert!(refused(&other, envelope.clone()).contains("which is not trusted"));
    let mut bare = envelope.clone();
    bare.signatures[0].timestamps.clear();
    assert!(refused(&trust, bare).contains("it has no timestamp"));
    // The certificate was not valid then.
    let late = only_logged(&world, at("2026-06-03T00:00:00Z"));
    assert!(refused(&trust, late).contains("was not valid at 2026-06-03"));
    // The log was not trusted then.
    let mut ended = LOG.log();
    ended.window.end = Some(at("2026-01-01T00:00:00Z"));
    let ended = Trust { logs: vec![ended], ..trust.clone() };
    assert!(refused(&ended, envelope.clone()).contains("is not trusted for 2026-06-01"));
    // An entry twice is one.
    let mut twice = envelope;
    let again = twice.signatures[0].timestamps[0].clone();
    twice.signatures[0].timestamps.push(again);
    assert_eq!(trust.check(twice).expect("counts").signers()[0].logged.len(), 1);
}

#[test]
fn an_entry_counts_for_its_own_signature_only() {
    let world = World::new();
    let trust = trusting(&world);
    let envelope = only_logged(&world, noon());
    let pem = String::from_utf8(envelope.signatures[0].certificate.clone().expect("a certificate")).expect("text");
    let with = |entry: &Entry| {
        let mut envelope = envelope.clone();
        envelope.signatures[0].timestamps = vec![logged(entry)];
        refused(&trust, envelope)
    };
    // Of another artifact by the same signer.
    let mut other = Envelope::seal(b"{\"x\":1}".to_vec(), &envelope.payload_type, &[key(2)]).expect("signs");
    let entry = LOG.entry(&other, &pem, noon());
    assert!(with(&entry).contains("about another"), "{}", with(&entry));
    // The signature replaced by ours, the payload still the other one.
    other.signatures.clone_from(&envelope.signatures);
    let entry = LOG.entry(&other, &pem, noon());
    assert!(with(&entry).contains("about another artifact"), "{}", with(&entry));
    // By another certificate for the same key, and by the bare key.
    let renewed = super::make::Draft { serial: 99, ..world.leaf.clone() }.certificate(&world.intermediate).to_pem();
    for verifier in [renewed, key(2).public_key().to_pem()] {
        let entry = LOG.entry(&envelope, &verifier, noon());
        assert!(with(&entry).contains("about another signer"), "{}", with(&entry));
    }
    // A promise for another time, a body that was changed, a damaged entry.
    let mut entry = LOG.entry(&envelope, &pem, noon());
    entry.integrated_time = Some(at("2026-06-01T13:00:00Z"));
    assert!(with(&entry).contains("is not by the log"), "{}", with(&entry));
    let mut damaged = envelope.clone();
    damaged.signatures[0].timestamps[0].data.truncate(20);
    assert!(refused(&trust, damaged).contains("log entry malformed"));
}

#[test]
fn a_key_s_signature_may_be_logged_and_needs_no_time() {
    let log = LOG.log();
    let keys = vec![key(5).public_key().clone()];
    let mut envelope = Envelope::seal(b"{}".to_vec(), "application/vnd.in-toto+json", &[key(5)]).expect("signs");
    let entry = LOG.entry(&envelope, &key(5).public_key().to_pem(), noon());
    let stranger = LOG.entry(&envelope, &key(6).public_key().to_pem(), noon());
    envelope.signatures[0].timestamps = vec![logged(&stranger), logged(&entry)];
    let trust = Trust { keys: keys.clone(), logs: vec![log], ..Trust::default() };
    let checked = trust.check(envelope.clone()).expect("counts");
    let [signer] = checked.signers() else { panic!("one") };
    assert_eq!((signer.logged.len(), signer.time.as_ref().map(|time| time.time)), (1, Some(noon())));
    assert!(signer.notes.iter().any(|note| note.to_string().contains("another signer")), "{:?}", signer.notes);
    // Where no log is trusted the key is enough, and nothing is logged.
    let without = Trust { keys, ..Trust::default() };
    let checked = without.check(envelope).expect("counts");
    assert!(checked.signers()[0].logged.is_empty() && checked.signers()[0].time.is_none());
}

#[test]
fn roots_and_authorities_count_within_their_windows() {
    let world = World::new();
    let envelope = world.envelope();
    let window = |start: Option<&str>, end: Option<&str>| Window { start: start.map(at), end: end.map(at) };
    let (before, after) = ("2026-06-01T11:59:59Z", "2026-06-01T12:00:01Z");
    for (start, end, holds) in [
        (None, None, true),
        (Some("2026-06-01T12:00:00Z"), Some("2026-06-01T12:00:00Z"), true),
        (Some(after), None, false),
        (None, Some(before), false),
    ] {
        let windows = |id: &str| [(id.to_owned(), window(start, end))].into();
        let roots = Trust { root_windows: windows("r"), ..world.trust() };
        let times = Trust { authority_windows: windows("t"), ..world.trust() };
        assert_eq!(roots.check(envelope.clone()).is_ok(), holds, "{start:?} {end:?}");
        assert_eq!(times.check(envelope.clone()).is_ok(), holds, "{start:?} {end:?}");
        if !holds {
            assert!(refused(&roots, envelope.clone()).contains("leads to `r`, which is trusted only"));
            assert!(refused(&times, envelope.clone()).contains("the authority `t` is trusted only"));
        }
    }
    // The same root under another id, without a window, is another matter; it alone is named then.
    let mut two = Trust { root_windows: [("r".to_owned(), window(None, Some(before)))].into(), ..world.trust() };
    two.roots.push(world.root.anchor("s"));
    assert_eq!(two.check(envelope).expect("counts").signers()[0].roots(), ["s"]);
}

#[test]
fn the_earliest_proven_time_says_most() {
    let world = World::new();
    let trust = trusting(&world);
    let mut envelope = only_logged(&world, at("2026-06-01T13:00:00Z"));
    let sig = envelope.signatures[0].sig.clone();
    envelope.signatures[0].timestamps.push(stamped(world.stamp(&sig).token()));
    let checked = trust.check(envelope).expect("counts");
    let signer = &checked.signers()[0];
    assert_eq!(signer.time.as_ref().map(|time| (time.time, time.authority.as_str())), Some((noon(), "t")));
    assert_eq!(signer.logged.len(), 1);
}
