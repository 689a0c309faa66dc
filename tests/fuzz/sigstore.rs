//! What is asked of the readers of Sigstore's documents for any bytes at all; as in `targets.rs`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use affiant_core::dsse::{Envelope, pae_header};
use affiant_core::image::sigstore::{Bundle, Content, Signer};
use affiant_core::sign::PublicKey;
use affiant_core::sigstore::note::Checkpoint;
use affiant_core::sigstore::{Entry, Log, OldBundle, Signed, TrustedRoot, Verifier, check, check_scts};
use affiant_core::trust::Certificate;
use jiff::Timestamp;
use serde_json::Value;

macro_rules! fixture {
    ($path:literal) => {
        include_bytes!(concat!("../../fixtures/cosign/", $path)).as_slice()
    };
}

const BLOB: &[u8] = fixture!("bundles/blob.txt");

/// Bundles whose entries the logs of [`ROOT`] made.
const BUNDLES: [&[u8]; 7] = [
    fixture!("bundles/attblob-keyed-rekor1.sigstore.json"),
    fixture!("bundles/attblob-keyless-rekor1.sigstore.json"),
    fixture!("bundles/attblob-keyless-rekor2.sigstore.json"),
    fixture!("bundles/blob-keyed-rekor1.sigstore.json"),
    fixture!("bundles/blob-keyed-rekor2.sigstore.json"),
    fixture!("bundles/blob-keyless-rekor1.sigstore.json"),
    fixture!("bundles/blob-keyless-rekor2.sigstore.json"),
];

static ROOT: LazyLock<TrustedRoot> =
    LazyLock::new(|| TrustedRoot::parse(fixture!("trust/trusted_root.json")).expect("a recorded trusted root"));

static ISSUER: LazyLock<Certificate> = LazyLock::new(|| {
    Certificate::read_all(fixture!("trust/fulcio-chain.pem")).expect("recorded certificates").remove(0)
});

static KEY: LazyLock<PublicKey> =
    LazyLock::new(|| PublicKey::from_file_bytes(fixture!("keys/cosign.pub")).expect("a recorded key"));

/// What is recorded: what was signed, by whom, and its entry.
struct Recorded {
    header: Vec<u8>,
    payload: Vec<u8>,
    envelope: Option<Envelope>,
    signature: Vec<u8>,
    certificate: Option<Certificate>,
}

impl Recorded {
    fn of(bundle: &Bundle) -> Option<Self> {
        let certificate = match &bundle.signer {
            Signer::Certificate { chain } => Some(Certificate::from_der(chain.first()?).ok()?),
            Signer::Key { .. } => None,
        };
        Some(match &bundle.content {
            Content::Envelope(envelope) => Self {
                header: pae_header(&envelope.payload_type, envelope.payload.len()).as_slice().to_vec(),
                payload: envelope.payload.clone(),
                signature: envelope.signatures.first()?.sig.clone(),
                envelope: Some(envelope.clone()),
                certificate,
            },
            Content::Message { signature, .. } => Self {
                header: Vec::new(),
                payload: BLOB.to_vec(),
                signature: signature.clone(),
                envelope: None,
                certificate,
            },
        })
    }

    /// Whether a log has the entry and it is about this.
    fn has(&self, entry: &Entry) -> bool {
        let message: [&[u8]; 2] = [&self.header, &self.payload];
        let verifier = self.certificate.as_ref().map_or(Verifier::Key(&KEY), Verifier::Certificate);
        let mut signed = Signed::new(&message, &self.signature, verifier);
        if let Some(envelope) = &self.envelope {
            signed = signed.with_envelope(envelope);
        }
        let result = check(entry, &signed, &ROOT.logs, &[]);
        assert!(check(entry, &signed, &[], &[]).is_err(), "nobody is believed");
        if let Ok(logged) = &result {
            assert_eq!(logged.time.is_some(), entry.promise.is_some());
            assert!(BODIES.contains(&entry.body), "a log has what it never took");
            let place = (entry.log_id.clone(), entry.index, logged.time);
            assert!(logged.time.is_none() || PROMISED.contains(&place), "a log promised {place:?}");
        }
        result.is_ok()
    }
}

static RECORDED: LazyLock<Vec<Recorded>> =
    LazyLock::new(|| bundles().iter().map(|bundle| Recorded::of(bundle).expect("recorded whole")).collect());

fn bundles() -> Vec<Bundle> {
    BUNDLES.iter().map(|bytes| Bundle::parse(bytes).expect("a recorded bundle")).collect()
}

fn entries() -> Vec<Entry> {
    let old = OldBundle::parse(fixture!("bundles/blob-oldbundle-rekor1.json")).expect("a recorded bundle");
    bundles().into_iter().flat_map(|bundle| bundle.entries).chain(old.entry).collect()
}

/// A log, a place in it, and when it took what is there.
type Place = (Vec<u8>, u64, Option<Timestamp>);

/// All that the logs ever took, and the times that they promised.
static BODIES: LazyLock<BTreeSet<Vec<u8>>> = LazyLock::new(|| entries().into_iter().map(|entry| entry.body).collect());
static PROMISED: LazyLock<BTreeSet<Place>> = LazyLock::new(|| {
    let place = |entry: Entry| (entry.log_id, entry.index, entry.integrated_time);
    entries().into_iter().map(place).collect()
});

/// What the logs signed about their trees.
static NOTES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let notes = entries().into_iter().filter_map(|entry| entry.proof?.checkpoint);
    notes.map(|note| note.split("\n\n").next().unwrap_or_default().to_owned()).collect()
});

/// The JSON object `text` with one more member in front.
fn with_member(text: &[u8], name: &str) -> Vec<u8> {
    let inside = text.trim_ascii_start().strip_prefix(b"{").expect("what was read is an object");
    [format!("{{\"{name}\":null,").as_bytes(), inside].concat()
}

fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{")
}

/// Bundles and trusted roots: a member twice or in both spellings is refused, a root that is written is read again, and no
/// log has anything about a bundle that it did not take.
pub(crate) fn bundle(data: &[u8]) {
    if let Ok(root) = TrustedRoot::parse(data) {
        assert!(!root.is_empty());
        // Windows without a beginning get one when they are written.
        let again = TrustedRoot::parse(&root.to_json()).expect("what is written is read");
        assert_eq!(TrustedRoot::parse(&again.to_json()).as_ref(), Ok(&again), "read, written, read again");
        let mut merged = again.clone();
        merged.merge(again.clone());
        assert!(merged.logs.len() <= again.logs.len() && merged.authorities.len() <= again.authorities.len());
    }
    let Ok(bundle) = Bundle::parse(data) else { return };
    if is_object(data) {
        for member in ["mediaType", "media_type", "verificationMaterial", "x"] {
            assert!(Bundle::parse(&with_member(data, member)).is_err(), "{member} twice");
        }
    }
    let places: BTreeSet<_> = bundle.entries.iter().map(|entry| (entry.index, &entry.log_id)).collect();
    assert_eq!(places.len(), bundle.entries.len(), "no entry twice");
    for entry in &bundle.entries {
        let written = entry.to_json().to_string();
        assert_eq!(Entry::parse(written.as_bytes()).as_ref(), Ok(entry), "read, written, read again");
    }
    let Some(recorded) = Recorded::of(&bundle) else { return };
    for entry in bundle.entries.iter().take(2) {
        let _: bool = recorded.has(entry);
    }
}

/// Log entries in every form: what is read is written and read again; a log's promise and proof hold for nothing that it
/// did not take, and for one signature alone.
pub(crate) fn entry(data: &[u8]) {
    let mut found = Vec::new();
    if let Ok(entry) = Entry::parse(data) {
        assert_eq!(Entry::parse(entry.to_json().to_string().as_bytes()).as_ref(), Ok(&entry));
        if is_object(data) {
            for member in ["logIndex", "log_index", "canonicalizedBody", "x"] {
                let double = Entry::parse(&with_member(data, member));
                let was_there = serde_json::from_slice::<Value>(data).is_ok_and(|value| {
                    ["logIndex", "log_index"].iter().any(|name| value.get(name).is_some()) || !member.starts_with("log")
                });
                assert!(double.is_err() || !was_there, "{member} twice");
            }
        }
        found.push(entry);
    }
    if let Some(entry) = std::str::from_utf8(data).ok().and_then(|text| Entry::from_annotation(text).ok()) {
        let written = entry.to_annotation().expect("an annotation has a promise");
        assert_eq!(Entry::from_annotation(&written).as_ref(), Ok(&entry), "read, written, read again");
        found.push(entry);
    }
    if let Ok(old) = OldBundle::parse(data) {
        assert!(!old.signature.is_empty() && (old.certificate.is_none() || old.key.is_none()));
        found.extend(old.entry);
    }
    for entry in &found {
        let holds = RECORDED.iter().filter(|recorded| recorded.has(entry)).count();
        assert!(holds <= 1, "one entry for {holds} signatures");
    }
}

/// Checkpoints: what is read stands there, and the logs' signatures hold over nothing but what they signed.
pub(crate) fn checkpoint(data: &[u8]) {
    let Ok(note) = std::str::from_utf8(data) else { return };
    let Ok(checkpoint) = Checkpoint::parse(note) else { return };
    let mut lines = note.split('\n');
    assert_eq!(lines.next(), Some(checkpoint.origin));
    assert_eq!(lines.next(), Some(checkpoint.size.to_string().as_str()));
    let text = note.rsplit_once("\n\n").expect("two parts").0;
    for log in &ROOT.logs {
        let signed = [checkpoint.verify_rekor1(log).is_ok(), checkpoint.verify_tiled(log).is_ok()];
        assert!(signed == [false, false] || NOTES.contains(text), "a log signed {text:?}");
        assert!(!signed[1] || checkpoint.origin == log.origin, "under another name");
    }
}

/// Certificates: their extensions are read one way, and a log of certificates has no other certificates than those it
/// took.
pub(crate) fn certificate(data: &[u8]) {
    // What comes beside a certificate.
    let recorded = RECORDED.iter().find_map(|recorded| recorded.certificate.as_ref()).expect("one has a certificate");
    assert_ne!(check_scts(&ISSUER, &ISSUER, &ROOT.ct_logs, Some(data)), Ok(1), "over nothing that was recorded");
    assert_eq!(check_scts(recorded, &ISSUER, &ROOT.ct_logs, Some(data)), Ok(1), "the one inside still holds");
    let Ok(certificate) = Certificate::from_der(data) else { return };
    for (name, value) in certificate.extensions() {
        assert_eq!(certificate.extension(&name.to_uppercase()), Some(value), "{name}");
    }
    assert!(check_scts(&certificate, &ISSUER, &[] as &[Log], None).is_err(), "nobody is believed");
    if check_scts(&certificate, &ISSUER, &ROOT.ct_logs, None).is_ok() {
        let said = |of: &Certificate| {
            let extensions: Vec<_> = of.extensions().map(|(name, value)| (name, value.to_owned())).collect();
            (of.public_key().clone(), of.uris().to_vec(), of.emails().to_vec(), extensions, of.not_before())
        };
        let known = RECORDED.iter().filter_map(|recorded| recorded.certificate.as_ref());
        assert!(known.into_iter().any(|known| said(known) == said(&certificate)), "in a log that never took it");
    }
}
