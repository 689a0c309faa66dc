//! Class H of user-needs §4: what a stranger puts into a bundle costs little. Limits of processor time and memory, which
//! the kernel enforces, stand in the place of a clock.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::Place;

/// Seconds of processor time, and KiB of address space, of one check by a program that was not made to be fast.
const LIMITS: &str = "ulimit -t 30; ulimit -v 1500000; exec \"$0\" \"$@\"";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cosign").join(name)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// How `verify-blob` ends within the limits, and what it says.
fn verify(place: &Place) -> (Option<i32>, String) {
    let args = [
        "image",
        "verify-blob",
        "--certificate-identity",
        "https://gitlab.example.test/mygroup/myproject//.gitlab-ci.yml@refs/heads/main",
        "--certificate-oidc-issuer",
        "http://127.0.0.1:5558",
        "--trusted-root",
        "trusted_root.json",
        "--bundle",
        "bundle.json",
        "blob.txt",
    ];
    let call = place.affiant(args).command();
    let done = Command::new("sh")
        .args(["-c", LIMITS])
        .arg(call.get_program())
        .args(call.get_args())
        .current_dir(place.work())
        .env_clear()
        .envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .output()
        .expect("starts");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "");
    (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
}

/// DER that says to be as long as it is.
fn der(tag: u8, length: u32) -> Vec<u8> {
    let mut bytes = vec![tag, 0x84];
    bytes.extend(length.to_be_bytes());
    bytes.resize(bytes.len() + usize::try_from(length).expect("small"), 0x30);
    bytes
}

#[test]
fn class_h_bundles_of_much_end() {
    let place = Place::without_key();
    place.write("blob.txt", read("bundles/blob.txt"));
    place.write("trusted_root.json", read("trust/trusted_root.json"));
    let good: Value = serde_json::from_slice(&read("bundles/blob-keyless-rekor1.sigstore.json")).expect("JSON");
    place.write("bundle.json", good.to_string());
    assert_eq!(verify(&place).0, Some(0), "{}", verify(&place).1);
    let with = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        changed.to_string()
    };
    let (material, entry) = ("/verificationMaterial", "/verificationMaterial/tlogEntries/0");
    let one = good.pointer(entry).expect("an entry").clone();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let stamped = |count: usize, one: &str| {
        let mut changed = good.clone();
        let all: Vec<Value> = (0..count).map(|_| json!({"signedTimestamp": one})).collect();
        changed[&material[1..]]["timestampVerificationData"] = json!({ "rfc3161Timestamps": all });
        changed.to_string()
    };
    let checkpoint = one["inclusionProof"]["checkpoint"]["envelope"].as_str().expect("a note").to_owned();
    let signature = checkpoint.lines().last().expect("a signature").to_owned();
    let hash = STANDARD.encode([7; 32]);
    let long = "a".repeat(1 << 20);
    let of_entry = |path: &str, value: Value| with(&format!("{entry}/{path}"), value);
    for (what, text, part) in [
        ("10^5 entries", with("/verificationMaterial/tlogEntries", json!(vec![json!({}); 100_000])), "more than 32"),
        (
            "10^4 whole entries",
            with("/verificationMaterial/tlogEntries", json!(vec![one.clone(); 10_000])),
            "more than 32",
        ),
        ("32 entries that are one", with("/verificationMaterial/tlogEntries", json!(vec![one.clone(); 32])), ""),
        ("10^5 hashes", of_entry("inclusionProof/hashes", json!(vec![hash.clone(); 100_000])), "more than"),
        ("as many hashes as are read", of_entry("inclusionProof/hashes", json!(vec![hash; 64])), ""),
        ("the largest tree", of_entry("inclusionProof/treeSize", json!("9223372036854775807")), ""),
        ("the largest place", of_entry("inclusionProof/logIndex", json!("9223372036854775807")), ""),
        ("a note of 1 MB", of_entry("inclusionProof/checkpoint/envelope", json!(long)), "bytes"),
        (
            "a note of 10^4 signatures",
            of_entry(
                "inclusionProof/checkpoint/envelope",
                json!(format!("{checkpoint}{}", format!("{signature}\n").repeat(10_000))),
            ),
            "are read",
        ),
        ("a body of 1 MB and more", of_entry("canonicalizedBody", json!(STANDARD.encode(long.repeat(2)))), "are read"),
        ("a deep body", of_entry("canonicalizedBody", json!(STANDARD.encode(&deep))), ""),
        ("a deep bundle", good.to_string().replacen('{', &format!("{{\"deep\":{deep},"), 1), "malformed"),
        ("10^4 timestamps", stamped(10_000, "AAAA"), "more than 32"),
        (
            "a certificate of 1 MB",
            with("/verificationMaterial/certificate/rawBytes", json!(STANDARD.encode(der(0x30, 1 << 20)))),
            "certificate",
        ),
        ("a signature of 1 MB", with("/messageSignature/signature", json!(STANDARD.encode(&long))), ""),
        ("an open string", format!("{{\"mediaType\":\"{long}"), "malformed"),
    ] {
        place.write("bundle.json", &text);
        let (code, said) = verify(&place);
        assert!(matches!(code, Some(4 | 10 | 12)), "{what}: {code:?} {said}");
        assert!(said.contains("error: ") && said.contains(part), "{what}: {part}: {said}");
        assert!(said.len() < 8 * 1024, "{what}: {} bytes are said", said.len());
    }
    // What is not needed is no reason to refuse what holds.
    let digest = with("/messageSignature/messageDigest/digest", json!(STANDARD.encode(&long)));
    for text in [stamped(32, &STANDARD.encode(der(0x30, 1 << 20))), digest] {
        place.write("bundle.json", text);
        let (code, said) = verify(&place);
        assert!(code == Some(0) && said.len() < 8 * 1024, "{code:?} {said}");
    }
    // Chains were part of the older versions.
    let mut chained = good.clone();
    chained["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.1");
    let certificate = chained[&material[1..]]["certificate"].take();
    let members = chained[&material[1..]].as_object_mut().expect("an object");
    members.remove("certificate");
    members.insert("x509CertificateChain".to_owned(), json!({"certificates": vec![certificate; 10_000]}));
    place.write("bundle.json", chained.to_string());
    let (code, said) = verify(&place);
    assert!(matches!(code, Some(4 | 10 | 12)) && said.contains("more than 32"), "{code:?} {said}");
}
