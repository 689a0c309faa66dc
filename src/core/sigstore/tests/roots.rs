//! Trusted roots, as documents.

use serde_json::{Value, json};

use super::{certificates, fixture, trusted};
use crate::sign::{KeyKind, PrivateKey, PublicKey, Signer as _};
use crate::sigstore::*;

fn document() -> Value {
    serde_json::from_slice(&fixture("trust/trusted_root.json")).expect("JSON")
}

fn parse(document: &Value) -> Result<TrustedRoot, RootError> {
    TrustedRoot::parse(document.to_string().as_bytes())
}

#[test]
fn what_is_written_is_read_again() {
    let root = trusted();
    assert_eq!((root.logs.len(), root.ct_logs.len()), (2, 1));
    assert_eq!((root.authorities.len(), root.timestamp_authorities.len()), (1, 1));
    assert_eq!(root.logs[0].origin, "localhost");
    assert_eq!(root.authorities[0].anchor.intermediates.len(), 1);
    assert_eq!(TrustedRoot::parse(&root.to_json()), Ok(root.clone()));
    let later = String::from_utf8(root.to_json()).expect("text").replace("+json;version=0.1", ".v0.2+json");
    assert_eq!(TrustedRoot::parse(later.as_bytes()), Ok(root));
}

#[test]
fn a_root_can_be_made_of_single_files() {
    let start = Some("2020-01-01T00:00:00Z".parse().expect("a time"));
    let window = Window { start, end: None };
    let key = |name: &str| PublicKey::from_file_bytes(&fixture(name)).expect("a key");
    let made = TrustedRoot {
        logs: vec![
            Log::tiled("http://localhost:3003", key("trust/rekor2.pub"), window).expect("a log"),
            Log::new("http://127.0.0.1:3100", key("trust/rekor1.pub"), window),
        ],
        ct_logs: vec![Log::new("http://127.0.0.1:6962/test", key("trust/ctlog.key.pub"), window)],
        authorities: vec![
            Authority::new(&fixture("trust/fulcio-chain.pem"), "http://127.0.0.1:5555", window).expect("an authority"),
        ],
        timestamp_authorities: vec![
            Authority::new(&fixture("trust/tsa-chain.pem"), "http://127.0.0.1:3200/api/v1/timestamp", window)
                .expect("an authority"),
        ],
    };
    assert_eq!(made, trusted());
    let mut merged = TrustedRoot::default();
    merged.merge(made.clone());
    merged.merge(trusted());
    assert_eq!(merged, made, "nobody twice");
    assert!(Log::tiled("localhost", key("trust/rekor2.pub"), window).is_err());
    assert!(Authority::new(b"", "", window).is_err());
    for (name, kind) in KeyKind::GENERATED.iter().filter(|(name, _)| *name != "rsa4096" && *name != "rsa3072") {
        let private = PrivateKey::generate(*kind).expect("a key");
        let log = Log::new("https://log.example", private.public_key().clone(), window);
        let root = TrustedRoot { ct_logs: vec![log], ..TrustedRoot::default() };
        assert_eq!(TrustedRoot::parse(&root.to_json()), Ok(root), "{name}");
    }
}

#[test]
fn empty_and_expired_roots_say_so() {
    assert_eq!(parse(&json!({ "mediaType": TRUSTED_ROOT })), Err(RootError::Empty));
    assert_eq!(parse(&json!({ "mediaType": TRUSTED_ROOT, "tlogs": [], "ctlogs": null })), Err(RootError::Empty));
    assert_eq!(TrustedRoot::default().check_current(jiff::Timestamp::UNIX_EPOCH), Err(RootError::Empty));
    let mut root = trusted();
    let now = "2026-11-22T00:00:00Z".parse().expect("a time");
    assert_eq!(root.check_current(now), Ok(()));
    let last = "2026-11-21T00:00:00Z".parse().expect("a time");
    for log in root.logs.iter_mut().chain(&mut root.ct_logs) {
        log.window.end = Some(last);
    }
    assert_eq!(root.check_current(now), Ok(()), "authorities are left");
    // Authorities end with their certificates.
    let much_later = "2040-01-01T00:00:00Z".parse().expect("a time");
    assert!(matches!(root.check_current(much_later), Err(RootError::Expired { .. })));
    for authority in root.authorities.iter_mut().chain(&mut root.timestamp_authorities) {
        authority.window.end = Some(last);
    }
    let error = root.check_current(now).expect_err("expired").to_string();
    assert!(error.contains("nothing in it is to be believed after 2026-11-21T00:00:00Z"), "{error}");
}

/// Sets the value at a JSON pointer.
fn with(pointer: &str, value: Value) -> Value {
    let mut document = document();
    *document.pointer_mut(pointer).expect(pointer) = value;
    document
}

#[test]
fn everything_else_is_refused_with_its_place() {
    let ed25519 = document()["tlogs"][0]["publicKey"]["rawBytes"].clone();
    let certificate = certificates("trust/fulcio-root.pem")[0].der().to_vec();
    let many = vec![document()["ctlogs"][0].clone(); MAX_OF_A_KIND + 1];
    for (changed, wanted) in [
        (with("/mediaType", json!("application/vnd.dev.sigstore.trustedroot+json;version=0.9")), "its media type"),
        (with("/mediaType", Value::Null), "its media type"),
        (with("/tlogs/1/logId/keyId", json!("AAAA")), "tlogs[1]: its id 000000 is not that of its key"),
        (with("/tlogs/0/logId/keyId", json!("AAAA")), "tlogs[0]: its id 000000"),
        (with("/ctlogs/0/logId", Value::Null), "ctlogs[0]: `logId.keyId` is missing"),
        (with("/ctlogs/0/publicKey/rawBytes", ed25519), "said to be PKIX_ECDSA_P256_SHA_256"),
        (with("/ctlogs/0/publicKey/rawBytes", json!("AAAA")), "ctlogs[0]: "),
        (with("/ctlogs/0/publicKey/rawBytes", json!(json::base64(&certificate))), "ctlogs[0]: "),
        (with("/ctlogs/0/publicKey/rawBytes", json!("A*==")), "no base64"),
        (with("/ctlogs/0/publicKey/keyDetails", json!("LMS_SHA256")), "the kind \"LMS_SHA256\", which is not read"),
        (with("/ctlogs/0/publicKey/keyDetails", json!("PKIX_ED25519")), "said to be PKIX_ED25519"),
        (with("/ctlogs/0/hashAlgorithm", json!("SHA2_512")), "the hash \"SHA2_512\""),
        (with("/ctlogs/0/hashAlgorithm", Value::Null), "the hash \"none\""),
        (with("/ctlogs/0/publicKey/validFor/start", json!("2020-01-01")), "RFC 3339"),
        (with("/ctlogs/0/publicKey/validFor/start", json!(1_577_836_800)), "invalid type"),
        (
            with(
                "/ctlogs/0/publicKey/validFor",
                json!({ "start": "2021-01-01T00:00:00Z", "end": "2020-01-01T00:00:00Z" }),
            ),
            "before it begins",
        ),
        (with("/ctlogs/0/baseUrl", json!("x".repeat(5000))), "`baseUrl` of 5000 bytes"),
        (with("/ctlogs", json!(many)), "65 `ctlogs`; 64 are read"),
        (
            with("/certificateAuthorities/0/certChain/certificates", json!([])),
            "certificateAuthorities[0] has no certificate",
        ),
        (
            with("/certificateAuthorities/0/certChain/certificates/0/rawBytes", json!("AAAA")),
            "certificateAuthorities[0]: ",
        ),
        (with("/certificateAuthorities/0/certChain/certificates/0", json!({})), "without `rawBytes`"),
        (with("/timestampAuthorities/0/subject", json!({ "country": "DE" })), "unknown field `country`"),
        (with("/timestampAuthorities/0/validFor", json!({ "until": null })), "unknown field `until`"),
        (json!({ "mediaType": TRUSTED_ROOT, "logs": [] }), "unknown field `logs`"),
        (json!([]), "its media type"),
    ] {
        let error = parse(&changed).expect_err(wanted).to_string();
        assert!(error.starts_with("no trusted root: ") && error.contains(wanted), "{wanted}: {error}");
    }
    let text = document().to_string();
    for bad in [
        text.replacen("\"tlogs\":", "\"tlogs\":[],\"tlogs\":", 1),
        text.replacen("\"tlogs\":", "\"ctlogs\":[],\"tlogs\":", 1),
        format!("{text}x"),
        format!("\u{feff}{text}"),
        " ".repeat(MAX_ROOT + 1),
    ] {
        assert!(matches!(TrustedRoot::parse(bad.as_bytes()), Err(RootError::Malformed { .. })));
    }
    assert!(TrustedRoot::parse(&[0xff]).is_err());
}

#[test]
fn members_that_are_new_are_known() {
    let mut document = document();
    document["tlogs"][0]["operator"] = json!("example");
    document["tlogs"][0]["checkpointKeyId"] = document["tlogs"][0]["logId"]["keyId"].clone();
    document["timestampAuthorities"][0]["operator"] = json!("example");
    let root = parse(&document).expect("a root");
    assert_eq!(
        (root.logs[0].operator.as_str(), root.timestamp_authorities[0].operator.as_str()),
        ("example", "example")
    );
    assert_eq!(root.logs[0].checkpoint_id.as_ref(), Some(&root.logs[0].id));
    assert_eq!(TrustedRoot::parse(&root.to_json()), Ok(root));
}

#[test]
fn the_name_of_a_log_is_the_host_of_its_url() {
    let private = PrivateKey::generate(KeyKind::Ed25519).expect("a key");
    for (url, host) in [
        ("https://log2025-1.rekor.example", "log2025-1.rekor.example"),
        ("http://localhost:3003", "localhost"),
        ("https://log.example/path?x#y", "log.example"),
        ("https://user:pass@log.example:1/", "log.example"),
        ("https://[::1]:3003/", "::1"),
        ("https://", ""),
        ("localhost:3003", ""),
        ("", ""),
    ] {
        assert_eq!(Log::new(url, private.public_key().clone(), Window::default()).origin, host, "{url}");
    }
}
