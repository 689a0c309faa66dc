use super::*;
use crate::sign::{KeyKind, PrivateKey, PublicKey, Scheme};

const LIMIT: usize = 1024 * 1024;
const TYPE: &str = "application/vnd.in-toto+json";

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/../../fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn recorded(name: &str) -> Envelope {
    Envelope::parse(&fixture(&format!("envelopes/{name}")), LIMIT).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn public(name: &str) -> PublicKey {
    PublicKey::from_file_bytes(&fixture(&format!("keys/{name}"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

const RECORDED: [&str; 14] = [
    "witness/docker-build.json",
    "witness/docker-build.tampered.json",
    "witness/docker-build.stranger.json",
    "witness/docker-sbom.json",
    "witness/certificate.json",
    "witness/policy-good.signed.json",
    "cilock/docker-build.json",
    "cilock/docker-build.tampered.json",
    "cilock/docker-build.stranger.json",
    "cilock/docker-sbom.json",
    "cilock/certificate.json",
    "go/p256.json",
    "go/p521.json",
    "go/rsa2048-pss.json",
];

#[test]
fn an_envelope_without_signers_is_not_made() {
    let refused = Envelope::seal(b"{}".to_vec(), TYPE, &[]).expect_err("nobody signs");
    assert!(matches!(refused, crate::sign::SignError::NoSigner), "{refused}");
}

#[test]
fn pae_is_that_of_the_specification() {
    // The example of the DSSE protocol.
    let header = pae_header("http://example.com/HelloWorld", b"hello world".len());
    assert_eq!([&header[..], b"hello world"].concat(), b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    assert_eq!(pae_header("é", 0), "DSSEv1 2 é 0 ".as_bytes());
}

#[test]
fn recorded_envelopes_are_written_again_byte_for_byte() {
    for name in RECORDED {
        let file = fixture(&format!("envelopes/{name}"));
        // `sign` of both peers ends its file with a newline.
        let body = file.strip_suffix(b"\n").unwrap_or(&file);
        let envelope = recorded(name);
        // The tampered ones were written by a script.
        assert!(name.contains("tampered") || envelope.to_json() == body, "{name}");
        assert_eq!(Envelope::parse(&envelope.to_json(), LIMIT), Ok(envelope), "{name}");
    }
    let signature = &recorded("witness/certificate.json").signatures[0];
    assert!(signature.certificate.as_ref().is_some_and(|pem| pem.starts_with(b"-----BEGIN CERTIFICATE-----\n")));
    assert!(!signature.intermediates.is_empty());
    assert_eq!(signature.timestamps[0].kind, TIMESTAMP_TSP);
}

#[test]
fn recorded_envelopes_verify_with_their_keys_only() {
    let functionary = public("functionary.pub");
    let stranger = public("stranger.pub");
    let both = [functionary.clone(), stranger.clone()];
    for tool in ["witness", "cilock"] {
        let name = |file: &str| format!("{tool}/docker-build{file}.json");
        let verified = recorded(&name("")).verify(&both).expect("the functionary signed it");
        assert_eq!(verified.signatures()[0].scheme, Scheme::Ed25519);
        assert_eq!(verified.key_ids().into_iter().collect::<Vec<_>>(), [functionary.key_id()]);
        assert_eq!(verified.payload(TYPE).expect("the type").first(), Some(&b'{'));
        let error = verified.payload("text/plain").expect_err("another type");
        assert_eq!(error.to_string(), format!("the payload type is `{TYPE}`, expected `text/plain`"));

        recorded(&name("")).verify(std::slice::from_ref(&stranger)).expect_err("not the stranger");
        let error = recorded(&name(".tampered")).verify(&both).expect_err("tampered");
        assert_eq!(
            error.to_string(),
            format!(
                "no signature of the envelope holds: signature 0 is not by its key {} over this payload",
                functionary.key_id()
            )
        );
        let error = recorded(&name(".stranger")).verify(std::slice::from_ref(&functionary)).expect_err("a stranger's");
        assert_eq!(
            error.to_string(),
            format!("no signature of the envelope holds: signature 0 is by another key ({})", stranger.key_id())
        );
        recorded(&name(".stranger")).verify(&both).expect("the stranger signed it");

        let sbom = recorded(&format!("{tool}/docker-sbom.json"));
        let verified = sbom.verify(&[public("sbom-functionary.pub")]).expect("P-384 with SHA-256");
        assert_eq!(verified.signatures()[0].scheme, Scheme::EcdsaSha256);
        recorded(&format!("{tool}/certificate.json")).verify(&[public("leaf.crt.pem")]).expect("the leaf's key");
    }
    recorded("witness/policy-good.signed.json").verify(&[public("policy.pub")]).expect("the policy key");
}

#[test]
fn what_go_signs_verifies() {
    for (name, key, scheme) in [
        ("p256", "p256", Scheme::EcdsaSha256),
        ("p521", "p521", Scheme::EcdsaSha256),
        ("rsa2048-pss", "rsa2048", Scheme::RsaPssSha256),
        ("rsa2048-pkcs1", "rsa2048", Scheme::RsaPkcs1Sha256),
    ] {
        let key = public(&format!("openssl/{key}.pub"));
        let verified =
            recorded(&format!("go/{name}.json")).verify(&[key]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(verified.signatures()[0].scheme, scheme, "{name}");
    }
}

fn key() -> PrivateKey {
    PrivateKey::generate(KeyKind::Ed25519).expect("a key can be made")
}

#[test]
fn several_signatures_count_by_key() {
    let (a, b, c) = (key(), key(), key());
    let keys: Vec<PublicKey> = [&a, &b].into_iter().map(|key| key.public_key().clone()).collect();
    let envelope = Envelope::seal(b"{}".to_vec(), TYPE, &[&a, &c, &b, &a]).expect("signs");
    let verified = envelope.verify(&keys).expect("two keys signed");
    assert_eq!(verified.signatures().iter().map(|s| (s.index, s.key)).collect::<Vec<_>>(), [(0, 0), (2, 1), (3, 0)]);
    assert_eq!(verified.key_ids().len(), 2);
    assert_eq!(verified.failed().len(), 1);
    assert_eq!(verified.failed()[0].index, 1);
    assert_eq!(verified.failed()[0].mismatch, Mismatch::UnknownKey);
}

#[test]
fn key_ids_are_hints_that_must_be_proven() {
    let (a, b) = (key(), key());
    let keys = [a.public_key().clone(), b.public_key().clone()];
    let sealed = Envelope::seal(b"{}".to_vec(), TYPE, &[&a]).expect("signs");
    for other in ["", "awskms:///alias/x", "ffff"] {
        let mut envelope = sealed.clone();
        envelope.signatures[0].key_id = other.to_owned();
        let verified = envelope.verify(&keys).expect("all keys are tried");
        assert_eq!(verified.signatures()[0].key_id, a.public_key().key_id());
    }
    let mut lying = sealed;
    lying.signatures[0].key_id = b.public_key().key_id().to_owned();
    let error = lying.verify(&keys).expect_err("b did not sign");
    assert!(matches!(&error.reason, VerifyError::NoneHolds { failed } if failed[0].mismatch == Mismatch::Altered));
}

#[test]
fn rule_17_a_policy_is_no_evidence_and_the_other_way_round() {
    let a = key();
    let keys = [a.public_key().clone()];
    let policy_type = "https://witness.testifysec.com/policy/v0.1";
    for (signed, other) in [(TYPE, policy_type), (policy_type, TYPE)] {
        let sealed = Envelope::seal(b"{}".to_vec(), signed, &[&a]).expect("signs");
        let mut relabelled = sealed.clone();
        relabelled.payload_type = other.to_owned();
        relabelled.verify(&keys).expect_err("the type is signed");
        let verified = sealed.verify(&keys).expect("verifies");
        assert_eq!(verified.payload(signed), Ok(&b"{}"[..]));
        assert!(verified.payload(other).is_err());
    }
}

#[test]
fn everything_that_is_signed_is_checked() {
    let a = key();
    let keys = [a.public_key().clone()];
    let sealed = Envelope::seal(b"{}".to_vec(), TYPE, &[&a]).expect("signs");
    let mut other_type = sealed.clone();
    other_type.payload_type = "https://witness.testifysec.com/policy/v0.1".to_owned();
    other_type.verify(&keys).expect_err("another type");
    let mut other_payload = sealed.clone();
    other_payload.payload.push(b'\n');
    other_payload.verify(&keys).expect_err("another payload");
    let mut unsigned = sealed.clone();
    unsigned.signatures.clear();
    assert_eq!(unsigned.verify(&keys).expect_err("unsigned").reason, VerifyError::NoSignature);
    assert_eq!(sealed.verify(&[]).expect_err("no key").reason, VerifyError::NoKey);
    // The lengths in the header keep type and payload apart.
    assert_ne!([pae_header("a", 1), b"b c".to_vec()].concat(), [pae_header("a 1 b", 1), b"c".to_vec()].concat());
}

#[test]
fn a_stranger_cannot_make_checking_endless() {
    let a = key();
    let keys: Vec<PublicKey> = (0..64).map(|_| key().public_key().clone()).collect();
    let signature = Envelope::seal(Vec::new(), TYPE, &[&a]).expect("signs").signatures.remove(0);
    let envelope = Envelope {
        payload: vec![0; LIMIT],
        payload_type: TYPE.to_owned(),
        signatures: vec![signature; MAX_SIGNATURES],
    };
    // 64 x 1024 tries of a megabyte.
    let error = envelope.verify(&keys).expect_err("none of the keys signed");
    assert!(matches!(error.reason, VerifyError::TooMuchWork { keys: 64, .. }), "{}", error.reason);
}

mod parse {
    use super::*;

    fn refused(json: &str) -> String {
        Envelope::parse(json.as_bytes(), LIMIT).expect_err(json).to_string()
    }

    const GOOD: &str = r#"{"payload":"e30=","payloadType":"t","signatures":[{"keyid":"k","sig":"AQ=="}]}"#;

    #[test]
    fn tolerant_where_go_is() {
        let good = Envelope::parse(GOOD.as_bytes(), LIMIT).expect("reads");
        for json in [
            format!(" {GOOD}\r\n "),
            GOOD.replace("e30=", r"e\r\n30=\n"),
            GOOD.replace("e30=", r"\u00653\u0030="),
            GOOD.replace("\"keyid\"", "\"\\u006beyid\""),
            GOOD.replace(
                "{\"keyid",
                "{\"x\":{\"sig\":1,\"sig\":2},\"certificate\":null,\"timestamps\":null,\"intermediates\":[],\"keyid",
            ),
            GOOD.replace("{\"keyid", "{\"certificate\":\"\",\"keyid"),
        ] {
            assert_eq!(Envelope::parse(json.as_bytes(), LIMIT).as_ref(), Ok(&good), "{json}");
        }
        let without_id = Envelope::parse(GOOD.replace("\"keyid\":\"k\",", "").as_bytes(), LIMIT).expect("reads");
        assert_eq!(without_id.signatures[0].key_id, "");
        let none = GOOD.replace("{\"keyid\":\"k\",\"sig\":\"AQ==\"}", "");
        assert!(Envelope::parse(none.as_bytes(), LIMIT).expect("reads").signatures.is_empty());
        let null = none.replace("[]", "null");
        assert!(Envelope::parse(null.as_bytes(), LIMIT).expect("reads").signatures.is_empty());
    }

    #[test]
    fn errors_name_the_member() {
        let with = |from: &str, to: &str| refused(&GOOD.replace(from, to));
        assert_eq!(with("\"payload\":\"e30=\",", ""), "not a DSSE envelope: `payload` is missing");
        assert_eq!(with("\"sig\":\"AQ==\"", "\"x\":1"), "not a DSSE envelope: `signatures[0].sig` is missing");
        assert_eq!(refused(r#"{"payload":"","payloadType":""}"#), "not a DSSE envelope: `signatures` is missing");
        assert_eq!(with("\"e30=\"", "null"), "not a DSSE envelope: `payload` is missing");
        assert_eq!(with("\"e30=\"", "[1]"), "not a DSSE envelope: `payload` is not a string");
        assert_eq!(
            with("[{\"keyid\":\"k\",\"sig\":\"AQ==\"}]", "{}"),
            "not a DSSE envelope: `signatures` is not a list"
        );
        assert_eq!(
            with("{\"keyid\":\"k\",\"sig\":\"AQ==\"}", "7"),
            "not a DSSE envelope: `signatures[0]` is not an object"
        );
        assert_eq!(refused("[]"), "not a DSSE envelope: `envelope` is not an object");
        assert!(with("AQ==", "AQ").starts_with("`signatures[0].sig` is not padded standard base64: "));
        assert!(with("e30=", "e30").starts_with("`payload` is not padded standard base64: "));
        assert!(with("e30=", "__-_").starts_with("`payload` is not padded standard base64: "), "URL-safe");
        assert!(with("e30=", "e31=").starts_with("`payload` is not padded standard base64: "), "bits left over");
        assert!(with("e30=", "e30= ").starts_with("`payload` is not padded standard base64: "), "a space");
        assert!(
            with("\"keyid\":\"k\"", "\"timestamps\":[{\"type\":\"tsp\",\"data\":\"!\"}]")
                .starts_with("`signatures[0].timestamps[0].data` is not padded")
        );
        assert!(refused(&format!("{GOOD}{GOOD}")).contains("trailing characters"));
        assert!(refused(&GOOD[..40]).starts_with("not a DSSE envelope: "));
        assert!(refused("").starts_with("not a DSSE envelope: "));
        assert!(Envelope::parse(b"{\"payload\":\"\xff\"}", LIMIT).is_err());
        let error = Envelope::parse(GOOD.as_bytes(), GOOD.len() - 1).expect_err("too large");
        assert_eq!(
            error.to_string(),
            format!("the envelope has {} bytes, the limit is {}", GOOD.len(), GOOD.len() - 1)
        );
    }

    #[test]
    fn rule_17_one_file_has_one_reading() {
        let with = |from: &str, to: &str| refused(&GOOD.replace(from, to));
        assert_eq!(with("\"payload\"", "\"payload\":\"e30=\",\"payload\""), "the envelope has `payload` twice");
        assert_eq!(with("\"payload\"", "\"p\\u0061yload\":\"e30=\",\"payload\""), "the envelope has `payload` twice");
        assert_eq!(with("\"payload\"", "\"x\":1,\"x\":1,\"payload\""), "the envelope has `x` twice");
        assert_eq!(with("\"sig\"", "\"sig\":\"AQ==\",\"sig\""), "the envelope has `signatures[0].sig` twice");
        // Go would take the last of these for the payload.
        assert_eq!(
            with("\"signatures\"", "\"Payload\":\"e30=\",\"signatures\""),
            "the envelope has `Payload`, which some readers take for `payload`"
        );
        assert!(with("\"signatures\"", "\"\u{17f}ignatures\":[],\"signatures\"").contains("take for `signatures`"));
        assert!(with("\"sig\"", "\"\u{212a}eyid\":\"\",\"sig\"").contains("take for `keyid`"));
    }

    #[test]
    fn lists_and_texts_are_limited() {
        let signature = "{\"keyid\":\"k\",\"sig\":\"AQ==\"}";
        let many = |count: usize, what: &str| vec![what; count].join(",");
        let with = |count: usize| GOOD.replace(signature, &many(count, signature));
        assert!(Envelope::parse(with(MAX_SIGNATURES).as_bytes(), LIMIT).is_ok());
        assert_eq!(refused(&with(MAX_SIGNATURES + 1)), "`signatures` has more than 1024 elements");
        let list = |member: &str, count: usize, what: &str| {
            GOOD.replace("\"keyid\"", &format!("\"{member}\":[{}],\"keyid\"", many(count, what)))
        };
        assert_eq!(
            refused(&list("intermediates", MAX_INTERMEDIATES + 1, "\"AQ==\"")),
            "`signatures[0].intermediates` has more than 32 elements"
        );
        let stamp = "{\"type\":\"tsp\",\"data\":\"AQ==\"}";
        assert!(Envelope::parse(list("timestamps", MAX_TIMESTAMPS, stamp).as_bytes(), LIMIT).is_ok());
        assert_eq!(
            refused(&list("timestamps", MAX_TIMESTAMPS + 1, stamp)),
            "`signatures[0].timestamps` has more than 32 elements"
        );
        let members: Vec<String> = (0..MAX_MEMBERS).map(|at| format!("\"m{at}\":0")).collect();
        assert_eq!(
            refused(&GOOD.replace("\"keyid\"", &format!("{},\"keyid\"", members.join(",")))),
            "`signatures[0]` has more than 64 members"
        );
        assert_eq!(
            refused(&GOOD.replace("\"k\"", &format!("\"{}\"", "k".repeat(MAX_NAME + 1)))),
            "`signatures[0].keyid` has more than 4096 bytes"
        );
        // Depth costs nothing: what is not known is passed over without recursion.
        let deep =
            GOOD.replace("\"payload\"", &format!("\"x\":{}{},\"payload\"", "[".repeat(100_000), "]".repeat(100_000)));
        let _ = Envelope::parse(deep.as_bytes(), LIMIT);
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..100)
    }

    fn signature() -> impl Strategy<Value = Signature> {
        let timestamp = (any::<String>(), bytes()).prop_map(|(kind, data)| Timestamp { kind, data });
        let certificate = prop::option::of(prop::collection::vec(any::<u8>(), 1..100));
        let lists = (prop::collection::vec(bytes(), 0..4), prop::collection::vec(timestamp, 0..4));
        (any::<String>(), bytes(), certificate, lists).prop_map(
            |(key_id, sig, certificate, (intermediates, timestamps))| Signature {
                key_id,
                sig,
                certificate,
                intermediates,
                timestamps,
            },
        )
    }

    fn envelope() -> impl Strategy<Value = Envelope> {
        let payload = prop::collection::vec(any::<u8>(), 0..2000);
        (payload, any::<String>(), prop::collection::vec(signature(), 0..4))
            .prop_map(|(payload, payload_type, signatures)| Envelope { payload, payload_type, signatures })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read_again(envelope in envelope()) {
            let json = envelope.to_json();
            let size = envelope_size(envelope.payload.len() as u64, &envelope.payload_type, &envelope.signatures);
            prop_assert_eq!(size, json.len() as u64);
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
            prop_assert_eq!(Envelope::parse(&json, LIMIT), Ok(envelope));
        }

        #[test]
        fn what_is_read_is_one_reading(envelope in envelope(), at in any::<prop::sample::Index>(), value in any::<u8>()) {
            let mut json = envelope.to_json();
            let at = at.index(json.len());
            json[at] = value;
            // Never a panic; and what is read after damage is written in a form that means the same.
            if let Ok(read) = Envelope::parse(&json, LIMIT) {
                prop_assert_eq!(Envelope::parse(&read.to_json(), LIMIT), Ok(read));
            }
        }

        #[test]
        fn headers_are_never_ambiguous(a in "[ 0-9a-z]{0,12}", b in "[ 0-9a-z]{0,12}", p in "[ 0-9a-z]{0,12}", q in "[ 0-9a-z]{0,12}") {
            let pae = |kind: &str, payload: &str| [&pae_header(kind, payload.len())[..], payload.as_bytes()].concat();
            prop_assert_eq!(pae(&a, &p) == pae(&b, &q), a == b && p == q);
        }
    }
}

#[test]
fn large_payloads_are_written_in_whole_pieces() {
    for length in [0, 1, 2, 3, 49_151, 49_152, 49_153, 49_154, 100_000] {
        let payload: Vec<u8> = (0..=255).cycle().take(length).collect();
        let envelope = Envelope { payload, payload_type: TYPE.to_owned(), signatures: Vec::new() };
        assert_eq!(Envelope::parse(&envelope.to_json(), LIMIT), Ok(envelope), "{length}");
    }
}
