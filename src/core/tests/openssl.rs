//! What affiant signs and writes is checked and read by openssl, and the other way round.
//!
//! Where there is no openssl on the PATH a loud line says so and nothing is checked.
#![allow(clippy::print_stderr, reason = "the loud line")]
#![allow(clippy::disallowed_methods, reason = "openssl is started")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use affiant_core::dsse::{Envelope, pae_header};
use affiant_core::sign::{BadSignature, KeyKind, PrivateKey, PublicKey, Scheme, Signer};

const TYPE: &str = "application/vnd.in-toto+json";
const PAYLOAD: &[u8] = br#"{"_type":"https://in-toto.io/Statement/v1"}"#;

const KINDS: [KeyKind; 6] = [
    KeyKind::Ed25519,
    KeyKind::P256,
    KeyKind::P384,
    KeyKind::P521,
    KeyKind::Rsa { bits: 2048 },
    KeyKind::Rsa { bits: 3072 },
];

/// A folder to work in, or `None` where there is no openssl.
fn bench() -> Option<Bench> {
    match Command::new("openssl").arg("version").output() {
        Ok(output) if output.status.success() => Some(Bench { dir: tempfile::tempdir().expect("a temporary folder") }),
        _ => {
            eprintln!("NOT CHECKED: there is no openssl on the PATH");
            None
        }
    }
}

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).expect("the temporary folder is writable");
        text(&path)
    }

    fn get(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("openssl did not write {name}: {error}"))
    }

    /// Runs openssl with the words of `line` and then `more`; returns stdout, or stderr when it failed.
    fn openssl(&self, line: &str, more: &[&str]) -> Result<Vec<u8>, String> {
        let output = Command::new("openssl")
            .args(line.split_whitespace())
            .args(more)
            .current_dir(self.dir.path())
            .output()
            .expect("openssl starts");
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(format!("openssl {line}: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("the temporary folder has a plain name").to_owned()
}

fn pae() -> Vec<u8> {
    [&pae_header(TYPE, PAYLOAD.len()), PAYLOAD].concat()
}

/// The options with which openssl signs or verifies as `kind` does.
fn options(kind: KeyKind, pss_salt: &str) -> String {
    match kind {
        KeyKind::Ed25519 => "-rawin".to_owned(),
        KeyKind::Rsa { .. } => format!(
            "-rawin -digest sha256 -pkeyopt rsa_padding_mode:pss -pkeyopt rsa_mgf1_md:sha256 -pkeyopt rsa_pss_saltlen:{pss_salt}"
        ),
        _ => "-rawin -digest sha256".to_owned(),
    }
}

#[test]
fn openssl_verifies_our_envelopes() {
    let Some(bench) = bench() else { return };
    for kind in KINDS {
        let key = PrivateKey::generate(kind).expect("a key can be made");
        let envelope = Envelope::seal(PAYLOAD.to_vec(), TYPE, &[&key]).expect("signs");
        bench.put("key.pub", key.public_key().to_pem());
        bench.put("message", pae());
        bench.put("signature", &envelope.signatures[0].sig);
        for salt in ["auto", "32"] {
            let line =
                format!("pkeyutl -verify -pubin -inkey key.pub -in message -sigfile signature {}", options(kind, salt));
            bench.openssl(&line, &[]).unwrap_or_else(|error| panic!("{kind}: {error}"));
        }
        bench.put("message", [&pae()[..], b" "].concat());
        let line =
            format!("pkeyutl -verify -pubin -inkey key.pub -in message -sigfile signature {}", options(kind, "auto"));
        bench.openssl(&line, &[]).expect_err("another message");
    }
}

#[test]
fn openssl_verifies_pkcs1_signatures_as_cosign_wants_them() {
    let Some(bench) = bench() else { return };
    let key = PrivateKey::generate(KeyKind::Rsa { bits: 2048 }).expect("a key can be made");
    bench.put("key.pub", key.public_key().to_pem());
    bench.put("message", pae());
    bench.put("signature", key.sign_as(Scheme::RsaPkcs1Sha256, &[&pae()]).expect("signs"));
    bench.openssl("dgst -sha256 -verify key.pub -signature signature message", &[]).expect("PKCS#1 v1.5");
}

#[test]
fn we_verify_what_openssl_signs() {
    let Some(bench) = bench() else { return };
    bench.put("message", pae());
    for kind in KINDS {
        let algorithm = match kind {
            KeyKind::Ed25519 => "ED25519".to_owned(),
            KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => format!("EC -pkeyopt ec_paramgen_curve:{kind}"),
            KeyKind::Rsa { bits } => format!("RSA -pkeyopt rsa_keygen_bits:{bits}"),
        };
        bench.openssl(&format!("genpkey -out key.pem -algorithm {algorithm}"), &[]).expect("openssl makes a key");
        bench.openssl("pkey -in key.pem -pubout -out key.pub", &[]).expect("openssl writes the public key");
        let public = PublicKey::from_file_bytes(&bench.get("key.pub")).expect("we read the public key");
        assert_eq!(public.kind(), kind);
        assert_eq!(public.to_pem().as_bytes(), bench.get("key.pub"), "{kind}");
        let private = PrivateKey::from_file_bytes(&bench.get("key.pem"), None).expect("we read the private key");
        assert_eq!(*private.public_key(), public, "{kind}");

        let is_rsa = matches!(kind, KeyKind::Rsa { .. });
        let salts: &[&str] = if is_rsa { &["max", "digest", "0", "20", "48", "64"] } else { &["-"] };
        for salt in salts {
            let line = format!("pkeyutl -sign -inkey key.pem -in message -out signature {}", options(kind, salt));
            bench.openssl(&line, &[]).unwrap_or_else(|error| panic!("{kind}: {error}"));
            let signature = bench.get("signature");
            let expected = match kind {
                KeyKind::Ed25519 => Scheme::Ed25519,
                KeyKind::Rsa { .. } => Scheme::RsaPssSha256,
                _ => Scheme::EcdsaSha256,
            };
            assert_eq!(public.verify(&[&pae()], &signature), Ok(expected), "{kind}, salt {salt}");
            assert_eq!(public.verify(&[b"other"], &signature), Err(BadSignature), "{kind}, salt {salt}");
        }
        if is_rsa {
            // SHA-256 with MGF1-SHA-1 is another scheme, and so is SHA-512.
            for other in ["-digest sha256 -pkeyopt rsa_mgf1_md:sha1", "-digest sha512 -pkeyopt rsa_mgf1_md:sha512"] {
                let line = format!(
                    "pkeyutl -sign -rawin -inkey key.pem -in message -out signature -pkeyopt rsa_padding_mode:pss {other}"
                );
                bench.openssl(&line, &[]).expect("openssl signs");
                assert_eq!(public.verify(&[&pae()], &bench.get("signature")), Err(BadSignature), "{other}");
            }
            bench.openssl("dgst -sha256 -sign key.pem -out signature message", &[]).expect("openssl signs");
            assert_eq!(public.verify(&[&pae()], &bench.get("signature")), Ok(Scheme::RsaPkcs1Sha256));
            bench.openssl("dgst -sha1 -sign key.pem -out signature message", &[]).expect("openssl signs");
            assert_eq!(public.verify(&[&pae()], &bench.get("signature")), Err(BadSignature), "SHA-1");
        } else if kind != KeyKind::Ed25519 {
            for (hash, curve) in [("sha384", KeyKind::P384), ("sha512", KeyKind::P521)] {
                let line = format!("dgst -{hash} -sign key.pem -out signature message");
                bench.openssl(&line, &[]).expect("openssl signs");
                let signature = bench.get("signature");
                assert_eq!(public.verify(&[&pae()], &signature), Err(BadSignature), "{kind} with {hash}");
                let of_curve = public.verify_with_hash_of_curve(&[&pae()[..9], &pae()[9..]], &signature);
                assert_eq!(of_curve.is_ok(), kind == curve, "{kind} with {hash}");
                assert_eq!(public.verify_with_hash_of_curve(&[b"other"], &signature), Err(BadSignature), "{kind}");
            }
        }
    }
}

#[test]
fn openssl_reads_the_keys_that_we_write_and_we_read_its() {
    let Some(bench) = bench() else { return };
    for kind in KINDS {
        let key = PrivateKey::generate(kind).expect("a key can be made");
        bench.put("plain.pem", key.to_pkcs8_pem().as_bytes());
        bench.put("encrypted.pem", key.to_encrypted_pem(b"p\xc3\xa4ss word").expect("writes").as_bytes());
        bench.put("password", b"p\xc3\xa4ss word\n");
        bench.put("wrong", b"pass word\n");
        let expected = key.public_key().to_pem();
        for line in ["pkey -in plain.pem -pubout", "pkey -in encrypted.pem -passin file:password -pubout"] {
            let public = bench.openssl(line, &[]).unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(String::from_utf8_lossy(&public), expected, "{kind}: {line}");
        }
        bench.openssl("pkey -in plain.pem -check -noout", &[]).unwrap_or_else(|error| panic!("{kind}: {error}"));
        bench.openssl("pkey -in encrypted.pem -passin file:wrong -pubout", &[]).expect_err("the wrong password");

        // And back: openssl writes it again, plain, encrypted, and in the older forms.
        let mut lines = vec![
            ("pkey -in plain.pem -out again.pem", None),
            ("pkcs8 -topk8 -in plain.pem -v2 aes-256-cbc -passout file:password -out again.pem", Some(true)),
            ("pkcs8 -topk8 -in plain.pem -scrypt -passout file:password -out again.pem", Some(true)),
            ("pkey -in plain.pem -outform DER -out again.pem", None),
        ];
        if kind != KeyKind::Ed25519 {
            lines.push(("pkey -in plain.pem -traditional -out again.pem", None));
        }
        for (line, encrypted) in lines {
            bench.openssl(line, &[]).unwrap_or_else(|error| panic!("{kind}: {error}"));
            let password: Option<&[u8]> = encrypted.map(|_| &b"p\xc3\xa4ss word"[..]);
            let again = PrivateKey::from_file_bytes(&bench.get("again.pem"), password)
                .unwrap_or_else(|error| panic!("{kind}: {line}: {error}"));
            assert_eq!(again.public_key(), key.public_key(), "{kind}: {line}");
            assert_eq!(*again.to_pkcs8_pem(), *key.to_pkcs8_pem(), "{kind}: {line}");
        }
    }
}

#[test]
fn certificates_of_openssl_give_their_keys() {
    let Some(bench) = bench() else { return };
    for kind in KINDS {
        let key = PrivateKey::generate(kind).expect("a key can be made");
        bench.put("key.pem", key.to_pkcs8_pem().as_bytes());
        bench
            .openssl("req -x509 -key key.pem -out cert.pem -subj /CN=test -days 1", &[])
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        let public = PublicKey::from_file_bytes(&bench.get("cert.pem")).expect("we read the certificate");
        assert_eq!(public, *key.public_key(), "{kind}");
    }
}
