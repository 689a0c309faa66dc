use super::*;

/// A file of `fixtures/keys`.
fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/../../fixtures/keys/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn public(name: &str) -> PublicKey {
    PublicKey::from_file_bytes(&fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn private(name: &str) -> PrivateKey {
    PrivateKey::from_file_bytes(&fixture(name), None).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn refused(name: &str, password: Option<&[u8]>) -> KeyError {
    PrivateKey::from_file_bytes(&fixture(name), password).expect_err(name)
}

const PASSWORD: &[u8] = b"test-password";
const MESSAGE: [&[u8]; 3] = [b"DSSEv1 4 text 5 ", b"", b"hello"];

/// One key of each kind, and a second one of the same kind.
fn pairs() -> Vec<(PrivateKey, PrivateKey)> {
    let kinds = [KeyKind::Ed25519, KeyKind::P256, KeyKind::P384, KeyKind::P521, KeyKind::Rsa { bits: 2048 }];
    let make = |kind| PrivateKey::generate(kind).expect("a key can be made");
    kinds.into_iter().map(|kind| (make(kind), make(kind))).collect()
}

#[test]
fn each_kind_signs_and_only_its_key_over_its_message_verifies() {
    for (key, other) in pairs() {
        let kind = key.public_key().kind();
        let signature = key.sign(&MESSAGE).expect("signs");
        let joined = MESSAGE.concat();
        key.public_key().verify(&[&joined], &signature).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert!(key.public_key().may_have_made(&signature), "{kind}");
        assert_eq!(other.public_key().verify(&MESSAGE, &signature), Err(BadSignature), "{kind}");
        assert_eq!(key.public_key().verify(&[b"DSSEv1 4 text 5 hellp"], &signature), Err(BadSignature), "{kind}");
        assert_eq!(key.public_key().verify(&[], &signature), Err(BadSignature), "{kind}");
        assert_eq!(key.public_key().verify(&MESSAGE, &[]), Err(BadSignature), "{kind}");
        for at in [0, 1, 4, signature.len() / 2, signature.len() - 1] {
            let mut bad = signature.clone();
            bad[at] ^= 1;
            assert_eq!(key.public_key().verify(&MESSAGE, &bad), Err(BadSignature), "{kind}, byte {at}");
        }
        for bad in [&signature[..signature.len() - 1], &[&signature[..], b"\0"].concat()[..]] {
            assert_eq!(key.public_key().verify(&MESSAGE, bad), Err(BadSignature), "{kind}, length");
        }
    }
}

#[test]
fn all_but_rsa_pss_sign_equal_bytes_for_equal_input() {
    for (key, _) in pairs() {
        let twice = [key.sign(&MESSAGE).expect("signs"), key.sign(&[&MESSAGE.concat()]).expect("signs")];
        let is_rsa = matches!(key.public_key().kind(), KeyKind::Rsa { .. });
        assert_eq!(twice[0] == twice[1], !is_rsa, "{}", key.public_key().kind());
    }
}

#[test]
fn a_signature_of_one_kind_is_none_of_another() {
    let keys: Vec<PrivateKey> = pairs().into_iter().map(|(key, _)| key).collect();
    for signer in &keys {
        let signature = signer.sign(&MESSAGE).expect("signs");
        for verifier in &keys {
            let same = signer.public_key() == verifier.public_key();
            assert_eq!(verifier.public_key().verify(&MESSAGE, &signature).is_ok(), same);
        }
    }
}

#[test]
fn rsa_schemes_are_told_apart_and_no_other_key_signs_as_rsa() {
    let key = private("openssl/rsa2048.pem");
    for scheme in [Scheme::RsaPssSha256, Scheme::RsaPkcs1Sha256] {
        let signature = key.sign_as(scheme, &MESSAGE).expect("signs");
        assert_eq!(key.public_key().verify(&MESSAGE, &signature), Ok(scheme));
    }
    let error = key.sign_as(Scheme::EcdsaSha256, &MESSAGE).expect_err("RSA is not ECDSA");
    assert_eq!(error.to_string(), "a RSA-2048 key cannot sign as ECDSA with SHA-256");
    for scheme in [Scheme::Ed25519, Scheme::RsaPkcs1Sha256] {
        private("openssl/p256.pem").sign_as(scheme, &MESSAGE).expect_err("an EC key signs with ECDSA only");
    }
}

mod malleability {
    use super::*;

    /// DER `SEQUENCE { INTEGER r, INTEGER s }` from the contents of the integers.
    fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
        let integer = |bytes: &[u8]| [&[2, u8::try_from(bytes.len()).expect("short")], bytes].concat();
        let content = [integer(r), integer(s)].concat();
        [&[0x30, u8::try_from(content.len()).expect("short")], &content[..]].concat()
    }

    /// The contents of the two integers of a signature below 128 bytes.
    fn integers(signature: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let r_end = 4 + usize::from(signature[3]);
        (signature[4..r_end].to_vec(), signature[r_end + 2..].to_vec())
    }

    #[test]
    fn ecdsa_takes_strict_der_only() {
        let key = private("openssl/p256.pem");
        let good = key.sign(&MESSAGE).expect("signs");
        let (r, s) = integers(&good);
        assert_eq!(der(&r, &s), good);
        let zero_in_front = |bytes: &[u8]| [&[0], bytes].concat();
        let n = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").expect("hex");
        let order = zero_in_front(&n);
        let long_form = [&[0x30, 0x81], &good[1..]].concat();
        let indefinite = [&[0x30, 0x80], &good[2..], &[0, 0]].concat();
        let raw: Vec<u8> = [&r[r.len() - 32..], &s[s.len() - 32..]].concat();
        for (what, bad) in [
            ("r with a needless zero", der(&zero_in_front(&zero_in_front(&r)), &s)),
            ("s with a needless zero", der(&r, &zero_in_front(&zero_in_front(&s)))),
            ("r = 0", der(&[0], &s)),
            ("s = 0", der(&r, &[0])),
            ("r = s = 0", der(&[0], &[0])),
            ("r = n", der(&order, &s)),
            ("s = n", der(&r, &order)),
            ("negative r", der(&[&[0xff], &r[..]].concat(), &s)),
            ("empty integer", der(&[], &s)),
            ("length in long form", long_form),
            ("indefinite length", indefinite),
            ("r and s without DER", raw),
            ("truncated", good[..good.len() - 1].to_vec()),
            ("trailing byte", [&good[..], &[0]].concat()),
            ("a byte after s inside", {
                let mut bad = good.clone();
                bad.push(0);
                bad[1] += 1;
                bad
            }),
        ] {
            assert_eq!(key.public_key().verify(&MESSAGE, &bad), Err(BadSignature), "{what}");
        }
    }

    #[test]
    fn ecdsa_takes_high_s_as_openssl_and_go_make_it() {
        let key = private("openssl/p256.pem");
        let good = key.sign(&MESSAGE).expect("signs");
        let signature = p256::ecdsa::Signature::from_der(&good).expect("own signature");
        let (r, s) = signature.split_scalars();
        let negated = p256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).expect("in range");
        assert_ne!(negated, signature);
        assert_eq!(key.public_key().verify(&MESSAGE, negated.to_der().as_bytes()), Ok(Scheme::EcdsaSha256));
    }

    #[test]
    fn ed25519_refuses_a_second_s_and_points_of_small_order() {
        let key = private("functionary.pem");
        let good = key.sign(&MESSAGE).expect("signs");
        // S + L, with L = 2^252 + 27742317777372353535851937790883648493 (little endian).
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").expect("hex");
        let mut bad = good.clone();
        let mut carry = 0;
        for (byte, add) in bad[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = u8::try_from(sum & 0xff).expect("one byte");
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
        assert_eq!(key.public_key().verify(&MESSAGE, &bad), Err(BadSignature));
        // R = the neutral point and S = H(R, A, M) * a: the owner of the key can make one that holds without
        // these checks. The second has the neutral point in its other spelling.
        let spki = key.public_key().to_der();
        let lax = ed25519_dalek::VerifyingKey::from_bytes(spki[12..].try_into().expect("32 bytes")).expect("point");
        for (bad, holds_without) in [
            (
                "0100000000000000000000000000000000000000000000000000000000000000\
                 520816351dcb79d49b3885dcaf00a1ed9237f2b8a3bf6efbae4cee2fb64a4702",
                true,
            ),
            (
                "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f\
                 1d288757c4a1802b1f70d470048a331f6de7bf045aa243aafa18fe3d77330802",
                false,
            ),
        ] {
            let bad = hex::decode(bad).expect("hex");
            let signature = ed25519_dalek::Signature::from_slice(&bad).expect("64 bytes");
            let accepted = ed25519_dalek::Verifier::verify(&lax, &MESSAGE.concat(), &signature).is_ok();
            assert_eq!(accepted, holds_without);
            assert_eq!(key.public_key().verify(&MESSAGE, &bad), Err(BadSignature));
        }
        // With the neutral point as key, R = S = 0 would hold for every message.
        let mut weak = [0; 44];
        weak[..12].copy_from_slice(&hex::decode("302a300506032b6570032100").expect("hex"));
        weak[12] = 1;
        assert!(matches!(PublicKey::from_file_bytes(&weak), Err(KeyError::Damaged { .. })));
    }
}

#[test]
fn key_ids_are_those_of_the_peers() {
    // What witness and cilock wrote into the envelopes that these keys signed.
    assert!(public("functionary.pub").key_id().starts_with("db27bc4bee6b2ccc5466a0a29f9b167ecd268c41cb4b15b4218c217d"));
    assert!(public("sbom-functionary.pub").key_id().starts_with("bbb9bd40"));
    for name in ["functionary.pub", "openssl/p256.pub", "openssl/p521.pub", "openssl/rsa2048.pub", "cosign/cosign.pub"]
    {
        let file = fixture(name);
        assert_eq!(public(name).to_pem().as_bytes(), file, "{name}");
        assert_eq!(public(name).key_id(), crate::digest::sha256_hex(&file), "{name}");
    }
}

#[test]
fn public_keys_are_read_in_every_form() {
    assert_eq!(public("leaf.crt.pem"), *private("leaf.pem").public_key());
    assert_eq!(public("openssl/rsa2048.pkcs1.pub"), public("openssl/rsa2048.pub"));
    for name in ["functionary.pub", "openssl/p256.pub", "openssl/rsa2048.pub"] {
        assert_eq!(PublicKey::from_file_bytes(public(name).to_der()), Ok(public(name)), "{name} as DER");
        let wrong_label = String::from_utf8(fixture(name)).expect("text").replace("PUBLIC KEY", "CERTIFICATE");
        assert_eq!(PublicKey::from_file_bytes(wrong_label.as_bytes()), Ok(public(name)), "{name} under another label");
    }
    let private_label = String::from_utf8(fixture("functionary.pub")).expect("text").replace("PUBLIC", "PRIVATE");
    assert_eq!(PublicKey::from_file_bytes(private_label.as_bytes()), Ok(public("functionary.pub")));
    // A compressed point is a spelling of the same key.
    let full = public("openssl/p256.pub").to_der().to_vec();
    let mut compressed = [&full[..26], &[2 | full[90] & 1], &full[27..59]].concat();
    compressed[1] -= 32;
    compressed[24] -= 32;
    assert_eq!(PublicKey::from_file_bytes(&compressed), Ok(public("openssl/p256.pub")));
    assert_eq!(PublicKey::from_file_bytes(&compressed).expect("reads").key_id(), public("openssl/p256.pub").key_id());
}

#[test]
fn public_keys_that_are_refused_say_why() {
    let refused = |bytes: &[u8]| PublicKey::from_file_bytes(bytes).expect_err("is refused").to_string();
    for name in
        ["functionary.pem", "leaf.pem", "openssl/rsa2048.pkcs1.pem", "openssl/enc-empty.pem", "cosign/cosign.key"]
    {
        assert_eq!(PublicKey::from_file_bytes(&fixture(name)), Err(KeyError::PrivateKeyGiven), "{name}");
    }
    assert_eq!(refused(&fixture("openssl/rsa1024.pub")), "unsupported key: RSA of 1024 bits, at least 2048 are needed");
    assert_eq!(refused(&fixture("openssl/ed448.pub")), "unsupported key: Ed448");
    assert_eq!(refused(b""), "not a key file: the file is empty");
    assert_eq!(refused(b"{}"), "not a key file: JSON");
    assert_eq!(refused(b"hello"), "not a key file: text without a PEM block");
    assert!(refused(&fixture("openssl/openssh.pub")).contains("ssh-keygen -e -m PKCS8"));
    assert_eq!(
        refused(b"-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----\n"),
        "damaged key: `PUBLIC KEY` is broken base64"
    );
    let der = public("openssl/p256.pub").to_der().to_vec();
    refused(&[&der[..], &[0]].concat());
    let mut off_curve = der;
    *off_curve.last_mut().expect("not empty") ^= 1;
    assert_eq!(refused(&off_curve), "damaged key: the point is not on the curve");
    refused(&vec![b'0'; MAX_KEY_FILE + 1]);
}

#[test]
fn private_keys_are_read_in_every_plain_form() {
    let p256 = public("openssl/p256.pub");
    for name in ["openssl/p256.pem", "openssl/p256.sec1.pem"] {
        assert_eq!(*private(name).public_key(), p256, "{name}");
    }
    for name in ["openssl/p521.pem", "openssl/p521.sec1.pem"] {
        assert_eq!(*private(name).public_key(), public("openssl/p521.pub"), "{name}");
    }
    for name in ["openssl/rsa2048.pem", "openssl/rsa2048.pkcs1.pem"] {
        assert_eq!(*private(name).public_key(), public("openssl/rsa2048.pub"), "{name}");
    }
    for name in ["functionary", "policy", "stranger", "sbom-functionary"] {
        assert_eq!(*private(&format!("{name}.pem")).public_key(), public(&format!("{name}.pub")), "{name}");
    }
    // A certificate before the key, a password that is not needed, another label.
    let both = [fixture("leaf.crt.pem"), fixture("leaf.pem")].concat();
    let key = PrivateKey::from_file_bytes(&both, Some(PASSWORD)).expect("the key after the certificate");
    assert_eq!(*key.public_key(), public("leaf.crt.pem"));
    let wrong_label =
        String::from_utf8(fixture("openssl/p256.pem")).expect("text").replace("PRIVATE KEY", "RSA PRIVATE KEY");
    assert_eq!(*PrivateKey::from_file_bytes(wrong_label.as_bytes(), None).expect("reads").public_key(), p256);
}

#[test]
fn encrypted_keys_of_openssl_are_read() {
    let expected = public("openssl/p256.pub");
    for name in
        ["enc-pbkdf2-sha1-aes128", "enc-pbkdf2-sha256-aes192", "enc-pbkdf2-sha512-aes256", "enc-scrypt", "enc-3des"]
    {
        let file = format!("openssl/{name}.pem");
        let key =
            PrivateKey::from_file_bytes(&fixture(&file), Some(PASSWORD)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(*key.public_key(), expected, "{name}");
        assert_eq!(refused(&file, None), KeyError::PasswordNeeded, "{name}");
        assert_eq!(refused(&file, Some(b"Test-password")), KeyError::WrongPassword, "{name}");
        assert_eq!(refused(&file, Some(b"")), KeyError::WrongPassword, "{name}");
    }
}

#[test]
fn an_empty_password_is_a_password() {
    for name in ["openssl/enc-empty.pem", "cosign/nopass.key"] {
        PrivateKey::from_file_bytes(&fixture(name), Some(b"")).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(refused(name, None), KeyError::PasswordNeeded);
        assert_eq!(refused(name, Some(PASSWORD)), KeyError::WrongPassword);
    }
}

#[test]
fn keys_of_cosign_are_read() {
    for name in ["cosign", "oldheader", "ed25519", "p384", "rsa3072"] {
        let file = format!("cosign/{name}.key");
        let key =
            PrivateKey::from_file_bytes(&fixture(&file), Some(PASSWORD)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let public_name = if name == "oldheader" { "cosign" } else { name };
        assert_eq!(*key.public_key(), public(&format!("cosign/{public_name}.pub")), "{name}");
    }
    assert_eq!(refused("cosign/cosign.key", None), KeyError::PasswordNeeded);
    assert_eq!(refused("cosign/cosign.key", Some(b"wrong")), KeyError::WrongPassword);
}

#[test]
fn private_keys_that_are_refused_say_why() {
    let text = |name: &str| refused(name, Some(PASSWORD)).to_string();
    assert_eq!(text("functionary.pub"), "this is a public key; a private key is wanted here");
    assert_eq!(text("leaf.crt.pem"), "this is a certificate; a private key is wanted here");
    assert!(text("openssl/enc-dek-info.pem").contains("`DEK-Info`; `openssl pkcs8 -topk8"));
    assert!(text("openssl/enc-pbes1.pem").contains("PBES1, which is weak; `openssl pkcs8"));
    assert!(text("openssl/enc-pkcs12.pem").contains("the method of PKCS#12, which is weak"));
    assert!(text("openssl/openssh").contains("ssh-keygen -p -m PKCS8"));
    assert_eq!(text("openssl/ed448.pem"), "unsupported key: Ed448");
    assert_eq!(text("openssl/secp256k1.pem"), "unsupported key: curve secp256k1");
    assert_eq!(text("openssl/p256-explicit.pem"), "unsupported key: an EC key without a named curve");
    assert_eq!(text("openssl/dsa-old.pem"), "unsupported key: DSA");
    assert!(text("openssl/rsa-pss.pem").starts_with("unsupported key: RSA with parameters for PSS"));
    assert_eq!(text("openssl/rsa1024.pem"), "unsupported key: RSA of 1024 bits, at least 2048 are needed");
    let refused = |bytes: &[u8]| PrivateKey::from_file_bytes(bytes, None).expect_err("is refused").to_string();
    assert_eq!(refused(b"hello"), "not a key file: text without a PEM block");
    assert_eq!(refused(b"-----BEGIN X-----\nAQID\n-----END X-----\n"), "not a key file: only `X`");
    assert_eq!(
        refused(b"-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n"),
        "damaged key: `PRIVATE KEY` holds no key in DER"
    );
    refused(&vec![b'-'; MAX_KEY_FILE + 1]);
}

#[test]
fn what_is_written_is_read_again() {
    for (key, _) in pairs() {
        let kind = key.public_key().kind();
        let plain = key.to_pkcs8_pem();
        let again = PrivateKey::from_file_bytes(plain.as_bytes(), None).unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(*again.to_pkcs8_pem(), *plain, "{kind}");
    }
    let key = private("openssl/p256.pem");
    for encrypted in [key.to_encrypted_pem(b"x").expect("writes"), key.to_cosign_pem(b"x").expect("writes")] {
        let again = PrivateKey::from_file_bytes(encrypted.as_bytes(), Some(b"x")).expect("reads");
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(PrivateKey::from_file_bytes(encrypted.as_bytes(), None).err(), Some(KeyError::PasswordNeeded));
        assert_eq!(PrivateKey::from_file_bytes(encrypted.as_bytes(), Some(b"y")).err(), Some(KeyError::WrongPassword));
    }
    let encrypted = key.to_cosign_pem(b"").expect("writes");
    PrivateKey::from_file_bytes(encrypted.as_bytes(), Some(b"")).expect("the empty password opens it");
}

#[test]
fn no_secret_is_in_debug_output() {
    let key = private("openssl/p256.pem");
    let text = format!("{key:?}");
    assert!(text.contains(key.public_key().key_id()));
    let secret = "831a3002b6f42d032bc6c67e8497"; // of the scalar in the file
    assert!(!text.replace(", ", "").contains(secret));
    assert!(text.len() < 200, "{text}");
}

#[test]
fn names_of_kinds() {
    assert_eq!("P-256".parse(), Ok(KeyKind::P256));
    assert_eq!("rsa3072".parse(), Ok(KeyKind::Rsa { bits: 3072 }));
    for (name, kind) in KeyKind::GENERATED {
        assert_eq!(kind.to_string().parse(), Ok(kind), "{name}");
    }
    assert!("rsa1024".parse::<KeyKind>().is_err());
    assert!(matches!(PrivateKey::generate(KeyKind::Rsa { bits: 1024 }), Err(KeyError::UnsupportedKind { .. })));
}

#[test]
fn a_public_key_inside_a_private_one_must_be_its_own() {
    let der =
        |name: &str| pem::blocks(std::str::from_utf8(&fixture(name)).expect("text"))[0].body.clone().expect("DER");
    let read = |der: &[u8]| PrivateKey::from_file_bytes(der, None);
    // Ed25519 in the newer form: version 1, and [1] IMPLICIT BIT STRING with the public key after the private one.
    let spki = public("functionary.pub").to_der().to_vec();
    let mut newer = [&der("functionary.pem")[..], &[0x81, 0x21, 0], &spki[12..]].concat();
    newer[1] += 35;
    newer[4] = 1;
    assert_eq!(*read(&newer).expect("reads").public_key(), public("functionary.pub"));
    *newer.last_mut().expect("not empty") ^= 1;
    assert!(matches!(read(&newer), Err(KeyError::Damaged { .. })));
    for name in ["openssl/p256.pem", "sbom-functionary.pem"] {
        let mut other = der(name).to_vec();
        read(&other).expect("reads");
        let last = other.len() - 1;
        other[last] ^= 1;
        assert!(matches!(read(&other), Err(KeyError::Damaged { .. })), "{name}");
    }
    let mut rsa = der("openssl/rsa2048.pkcs1.pem").to_vec();
    rsa[20] ^= 1; // of the modulus
    assert_eq!(read(&rsa).expect_err("damaged").to_string(), "damaged key: RSA private key that does not compute");
}

#[test]
fn costly_files_are_refused_before_they_are_opened() {
    let block =
        |name: &str| pem::blocks(std::str::from_utf8(&fixture(name)).expect("text"))[0].body.clone().expect("body");
    // PBKDF2 with 2048 = 0x0800 rounds in the file: 0x7fff.
    let patch = |name: &str, from: &[u8], to: &[u8]| {
        let mut der = block(name).to_vec();
        let at = der.windows(from.len()).position(|window| window == from).expect("the number is in the file");
        der[at..at + to.len()].copy_from_slice(to);
        PrivateKey::from_file_bytes(&der, Some(PASSWORD)).expect_err("is refused")
    };
    // scrypt: N = 0x4000, r = 8, p = 1.
    let error =
        patch("openssl/enc-scrypt.pem", &[2, 2, 0x40, 0, 2, 1, 8, 2, 1, 1], &[2, 2, 0x40, 0, 2, 1, 8, 2, 1, 0x7f]);
    assert!(error.to_string().contains("scrypt with N=16384, r=8, p=127, the limit is"), "{error}");
    let json = |from: &str, to: &str| {
        let text = String::from_utf8(block("cosign/cosign.key").to_vec()).expect("JSON");
        assert!(text.contains(from));
        let file = pem::encode("ENCRYPTED SIGSTORE PRIVATE KEY", text.replace(from, to).as_bytes());
        PrivateKey::from_file_bytes(file.as_bytes(), Some(PASSWORD)).expect_err("is refused").to_string()
    };
    assert!(json("65536", "1099511627776").contains("scrypt with N=1099511627776, r=8, p=1; cosign has N=32768"));
    assert!(json("65536", "65537").contains("scrypt with N=65537"));
    assert!(json("\"r\":8", "\"r\":9").contains("r=9"));
    assert!(json("nacl/secretbox", "rot13").contains("`rot13`"));
    assert!(json("\"nonce\":\"", "\"nonce\":\"AAAA").contains("`cipher.nonce` has not 24 bytes"));
    assert!(json("\"salt\":\"", "\"salt\":\"!").contains("`kdf.salt` is not base64"));
    assert!(json("\"kdf\":", "\"kdf\":{},\"kdf\":").contains("damaged key: encrypted sigstore key: "));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    const FILES: [&str; 12] = [
        "functionary.pem",
        "functionary.pub",
        "leaf.crt.pem",
        "leaf.pem",
        "openssl/p521.pem",
        "openssl/rsa2048.pem",
        "openssl/rsa2048.pkcs1.pem",
        "openssl/rsa2048.pkcs1.pub",
        "openssl/enc-pbkdf2-sha1-aes128.pem",
        "openssl/enc-3des.pem",
        "openssl/enc-pkcs12.pem",
        "openssl/p256-explicit.pem",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_damage_to_a_key_file_panics(
            name in prop::sample::select(&FILES[..]),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
            as_pem in any::<bool>(),
        ) {
            let file = fixture(name);
            let text = std::str::from_utf8(&file).expect("text");
            let mut bytes = if as_pem {
                file.clone()
            } else {
                pem::blocks(text)[0].body.as_ref().expect("DER").to_vec()
            };
            for (at, value) in edits {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            // Without a password: damage to the number of rounds must not make this test slow.
            let _ = PublicKey::from_file_bytes(&bytes);
            let _ = PrivateKey::from_file_bytes(&bytes, None);
        }

        #[test]
        fn no_signature_panics(
            name in prop::sample::select(&["functionary.pub", "openssl/p256.pub", "openssl/p521.pub", "cosign/p384.pub", "openssl/rsa2048.pub"][..]),
            signature in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            prop_assert_eq!(public(name).verify(&MESSAGE, &signature), Err(BadSignature));
        }

        #[test]
        fn keys_survive_writing_and_reading(seed in any::<[u8; 32]>()) {
            let mut der = hex::decode("302e020100300506032b657004220420").expect("hex");
            der.extend(seed);
            let key = PrivateKey::from_file_bytes(&der, None).expect("each seed is a key");
            let again = PrivateKey::from_file_bytes(key.to_pkcs8_pem().as_bytes(), None).expect("reads");
            let public = PublicKey::from_file_bytes(key.public_key().to_pem().as_bytes()).expect("reads");
            prop_assert_eq!(again.public_key(), &public);
            prop_assert_eq!(again.sign(&MESSAGE).expect("signs"), key.sign(&MESSAGE).expect("signs"));
        }
    }
}
