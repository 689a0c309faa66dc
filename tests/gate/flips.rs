//! Whatever single bit of an authenticated byte is changed, nothing passes.

use std::path::Path;

use affiant_core::dsse::Envelope;
use affiant_core::sign::PublicKey;
use affiant_core::store::SubjectDigest;
use affiant_core::trust::Trust;
use affiant_core::verdict::Answer;
use affiant_core::verify::{Artifact, Files, ImageTrust, PolicyFile, PolicyTrust, Question, Source, verify};

use super::kit::{AT, fixtures};

/// Changes for each sort of bytes of each set. The same ones in each run.
const FLIPS: usize = 40;
const LIMIT: usize = 64 << 20;

/// A recorded question that passes.
struct Set {
    policy: Vec<u8>,
    key: PublicKey,
    evidence: Vec<Vec<u8>>,
    artifacts: Vec<Artifact>,
    seeds: Vec<SubjectDigest>,
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Set {
    fn of(set: &str, writer: &str, evidence: &[&str], artifact: Option<&str>, seeds: &[&str]) -> Self {
        let folder = fixtures().join("verdicts").join(set);
        Self {
            policy: read(&folder.join(writer).join("policy-good.signed.json")),
            key: PublicKey::from_file_bytes(&read(&folder.join("keys/policy.pub"))).expect("a key"),
            evidence: evidence.iter().map(|file| read(&folder.join(writer).join(file))).collect(),
            artifacts: artifact
                .map(|file| Artifact::read(&folder.join(writer).join(file)).expect("reads"))
                .into_iter()
                .collect(),
            seeds: seeds.iter().map(|seed| SubjectDigest::parse(seed)).collect(),
        }
    }

    fn all() -> Vec<(&'static str, Self)> {
        let image = "ff5d5f53ca1aebe5b0006629d210d9482eaefce16a47a5fce8138f8962514e81";
        let both = ["docker-build.json", "docker-sbom.json"];
        vec![
            ("witness, keys", Self::of("collections", "witness", &both, Some("image-bom.cdx.json"), &[image])),
            ("cilock, keys", Self::of("collections", "cilock", &both, Some("image-bom.cdx.json"), &[image])),
            ("witness, certificates", Self::of("certificates", "witness", &["good.json"], Some("app.bin"), &[])),
            ("cilock, certificates", Self::of("certificates", "cilock", &["good.json"], Some("app.bin"), &[])),
        ]
    }

    /// Whether it passes with these in the place of policy and evidence.
    fn passes(&self, policy: &[u8], evidence: &[Vec<u8>]) -> bool {
        let mut files = Files::default();
        for (number, bytes) in evidence.iter().enumerate() {
            files.add(&format!("{number}.json"), bytes.clone());
        }
        let verdict = verify(&Question {
            policy: PolicyFile { label: "policy.json", bytes: policy },
            policy_trust: PolicyTrust {
                trust: Trust { keys: vec![self.key.clone()], ..Trust::default() },
                ..PolicyTrust::default()
            },
            artifacts: self.artifacts.clone(),
            images: Vec::new(),
            image_trust: ImageTrust::default(),
            seeds: self.seeds.clone(),
            sources: vec![&files as &dyn Source],
            at: AT.parse().expect("a time"),
            origins: Vec::new(),
        });
        verdict.is_ok_and(|verdict| verdict.answer == Answer::Passed)
    }
}

/// Numbers that look random and are the same each time (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((number ^ (number >> 31)) % limit as u64).expect("below the limit")
    }
}

/// The places in an envelope whose bytes are authenticated.
fn parts(envelope: &mut Envelope) -> Vec<(&'static str, &mut Vec<u8>)> {
    let mut parts = vec![("payload", &mut envelope.payload)];
    for signature in &mut envelope.signatures {
        parts.push(("signature", &mut signature.sig));
        parts.extend(signature.certificate.as_mut().map(|pem| ("certificate", pem)));
        parts.extend(signature.intermediates.iter_mut().map(|pem| ("intermediate", pem)));
        parts.extend(signature.timestamps.iter_mut().map(|timestamp| ("token", &mut timestamp.data)));
    }
    parts
}

/// The DER in a PEM text and back: a bit of the text beside it authenticates nothing.
fn der(pem: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let text = String::from_utf8_lossy(pem);
    let lines: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(lines).expect("base64")
}

fn pem(der: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n").into_bytes()
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Flips one bit of the part with this number; what was flipped, and the envelope.
fn flipped(envelope: &[u8], part: usize, bit: impl FnOnce(usize) -> usize) -> (&'static str, usize, Vec<u8>) {
    let mut envelope = Envelope::parse(envelope, LIMIT).expect("an envelope");
    let mut parts = parts(&mut envelope);
    let (name, bytes) = parts.swap_remove(part);
    let is_pem = matches!(name, "certificate" | "intermediate");
    let mut raw = if is_pem { der(bytes) } else { std::mem::take(bytes) };
    let bit = bit(raw.len() * 8);
    flip(&mut raw, bit);
    *bytes = if is_pem { pem(&raw) } else { raw };
    (name, bit, envelope.to_json())
}

#[test]
fn no_changed_bit_of_the_evidence_passes() {
    for (name, set) in Set::all() {
        assert!(set.passes(&set.policy, &set.evidence), "{name}: the recorded set");
        let mut numbers = Numbers(1);
        for file in 0..set.evidence.len() {
            let mut whole = Envelope::parse(&set.evidence[file], LIMIT).expect("an envelope");
            let count = parts(&mut whole).len();
            for part in 0..count {
                for _ in 0..FLIPS {
                    let (what, bit, changed) = flipped(&set.evidence[file], part, |bits| numbers.below(bits));
                    let mut evidence = set.evidence.clone();
                    evidence[file] = changed;
                    // A token may hold bytes that nobody signs: then what they say must not matter.
                    let passes = set.passes(&set.policy, &evidence);
                    assert!(
                        !passes || (what == "token" && is_beside(&set, file, &evidence)),
                        "{name}, file {file}: {what}, bit {bit}"
                    );
                }
            }
        }
    }
}

/// Whether the changed token proves the very same: it is another spelling of what is not signed in it, like the version
/// of a structure or a certificate that is not needed.
fn is_beside(set: &Set, file: usize, evidence: &[Vec<u8>]) -> bool {
    let at = |files: &[Vec<u8>]| {
        let envelope = Envelope::parse(&files[file], LIMIT).expect("an envelope");
        envelope.signatures[0].timestamps[0].data.clone()
    };
    let (before, after) = (at(&set.evidence), at(evidence));
    let place = before.iter().zip(&after).position(|(a, b)| a != b).expect("a difference");
    eprintln!(
        "a token with byte {place} of {} changed from {:02x} to {:02x} proves the same",
        before.len(),
        before[place],
        after[place]
    );
    false
}

#[test]
fn no_changed_bit_of_the_policy_passes() {
    for (name, set) in Set::all() {
        let mut numbers = Numbers(2);
        let mut whole = Envelope::parse(&set.policy, LIMIT).expect("an envelope");
        let count = parts(&mut whole).len();
        for part in 0..count {
            for _ in 0..FLIPS * 2 {
                let (what, bit, changed) = flipped(&set.policy, part, |bits| numbers.below(bits));
                assert!(!set.passes(&changed, &set.evidence), "{name}: {what}, bit {bit}");
            }
        }
    }
}

#[test]
fn no_changed_bit_of_the_artifact_or_the_key_passes() {
    for (name, mut set) in Set::all() {
        for place in 0..64 {
            for bit in 0..4 {
                let mut changed = set.artifacts[0].clone();
                let digest = changed.digests.0.get_mut("sha256").expect("a digest");
                let digit = u32::from_str_radix(&digest[place..=place], 16).expect("a digit") ^ (1 << bit);
                digest.replace_range(place..=place, &format!("{digit:x}"));
                let good = std::mem::replace(&mut set.artifacts[0], changed);
                assert!(!set.passes(&set.policy, &set.evidence), "{name}: digit {place}, bit {bit}");
                set.artifacts[0] = good;
            }
        }
        let der = set.key.to_der().to_vec();
        for bit in 0..der.len() * 8 {
            let mut changed = der.clone();
            flip(&mut changed, bit);
            let Ok(key) = PublicKey::from_der(&changed) else { continue };
            let good = std::mem::replace(&mut set.key, key);
            assert!(!set.passes(&set.policy, &set.evidence), "{name}: bit {bit} of the key");
            set.key = good;
        }
    }
}

#[test]
fn no_byte_of_a_file_is_cut_off_or_changed_and_passes_as_something_else() {
    // Bytes of the files themselves, where not all is authenticated: the answer is the same or no, and never a panic.
    for (name, set) in Set::all() {
        let mut numbers = Numbers(3);
        for _ in 0..FLIPS {
            let mut evidence = set.evidence.clone();
            let file = numbers.below(evidence.len());
            let bits = evidence[file].len() * 8;
            flip(&mut evidence[file], numbers.below(bits));
            if set.passes(&set.policy, &evidence) {
                let (before, after) = (parsed(&set.evidence[file]), parsed(&evidence[file]));
                assert_eq!(before.map(|one| one.payload), after.map(|one| one.payload), "{name}");
            }
            let cut = numbers.below(evidence[file].len());
            evidence[file].truncate(cut);
            assert!(!set.passes(&set.policy, &evidence), "{name}: cut at {cut}");
        }
    }
}

fn parsed(bytes: &[u8]) -> Option<Envelope> {
    Envelope::parse(bytes, LIMIT).ok()
}
