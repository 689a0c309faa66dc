//! Signatures of images with real cosign, both ways, on every registry: forms, kinds of keys, indexes.

use serde_json::Value;

use crate::harness::{Ended, Place};
use crate::hosts::{self, affiant, call, need_registries, parts, push, push_index, registries, sh};

/// A cosign, and how it is told to use one form; the form as affiant calls it.
struct Cosign {
    program: &'static str,
    form: &'static str,
    signing: &'static [&'static str],
    checking: &'static [&'static str],
}

const COSIGNS: [Cosign; 3] = [
    // Where a bundle is beside the tag, it judges the bundle, and wants a trusted root even for a key.
    Cosign { program: "cosign2", form: "tag", signing: &[], checking: &["--trusted-root", "../root.json"] },
    Cosign {
        program: "cosign3",
        form: "tag",
        signing: &["--use-signing-config=false", "--new-bundle-format=false"],
        checking: &["--new-bundle-format=false"],
    },
    Cosign { program: "cosign3", form: "bundle", signing: &["--use-signing-config=false"], checking: &[] },
];

impl Cosign {
    fn verify(&self, place: &Place, key: &str, annotation: &str, image: &str) -> Ended {
        let verify = ["verify", "--insecure-ignore-tlog=true", "--key", key, "-a", annotation];
        call(place, self.program, &[&verify[..], self.checking, &[image]].concat())
    }

    #[track_caller]
    fn sign(&self, place: &Place, key: &str, more: &[&str], image: &str) {
        let sign = ["sign", "--key", key, "--tlog-upload=false", "-a", "tag=1"];
        let _ = call(place, self.program, &[&sign[..], self.signing, more, &[image]].concat()).code(0);
    }

    /// v2.6 looks at a bundle where one is, and not at the annotations in it (`docs/reference/cosign.md`).
    fn is_blind(&self, forms: &str) -> bool {
        self.program == "cosign2" && forms.contains("bundle")
    }

    fn name(&self) -> String {
        format!("{} {}", self.program, self.form)
    }
}

fn verify(place: &Place, key: &str, annotation: &str, image: &str) -> Ended {
    affiant(place, &["image", "verify", "--key", key, "-a", annotation, image])
}

#[track_caller]
fn sign(place: &Place, key: &str, more: &[&str], image: &str) {
    let sign = ["image", "sign", "--key", key, "-a", "tag=1"];
    let _ = affiant(place, &[&sign[..], more, &[image]].concat()).code(0);
}

/// A trusted root in which nothing is trusted.
const ROOT: &str = r#"{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;

/// A place that cosign needs no network for.
fn place() -> Place {
    let place = hosts::place();
    std::fs::write(place.beside("root.json"), ROOT).expect("written");
    place
}

/// Two pairs of cosign's keys, `../k` and `../other`.
fn keys(place: &Place) {
    for name in ["../k", "../other"] {
        let _ = affiant(place, &["image", "generate-key-pair", "--output-key-prefix", name]).code(0);
    }
}

/// Who takes what we sign, and refuses what we did not.
#[test]
fn cosign_takes_what_we_sign() {
    need_registries!("crane", "cosign2", "cosign3");
    for host in registries() {
        let place = place();
        keys(&place);
        for form in ["tag", "bundle", "tag,bundle"] {
            let name = format!("{host}/{}-{}:1", place.unique(), form.replace(',', "-"));
            let image = push(&place, &name);
            sign(&place, "../k.key", &["--format", form, "-a", "user=Doe, Jane"], &image);
            for cosign in COSIGNS.iter().filter(|cosign| form.contains(cosign.form)) {
                let judge = |key: &str, annotation: &str| cosign.verify(&place, key, annotation, &image);
                for annotation in ["tag=1", "\"user=Doe, Jane\""] {
                    let taken = judge("../k.pub", annotation);
                    assert!(taken.passed(), "{host}, {form}, {}: {}", cosign.name(), taken.stderr);
                }
                assert_eq!(
                    judge("../k.pub", "tag=2").passed(),
                    cosign.is_blind(form),
                    "{host}, {form}, {}",
                    cosign.name()
                );
                assert!(!judge("../other.pub", "tag=1").passed(), "{host}, {form}, {}", cosign.name());
            }
        }
    }
}

/// What cosign signs, we take; nothing else.
#[test]
fn we_take_what_cosign_signs() {
    need_registries!("crane", "cosign2", "cosign3");
    for host in registries() {
        for cosign in COSIGNS {
            let place = place();
            let image = push(&place, &format!("{host}/{}-app:1", place.unique()));
            for name in ["../k", "../other"] {
                let _ = call(&place, cosign.program, &["generate-key-pair", "--output-key-prefix", name]).code(0);
            }
            cosign.sign(&place, "../k.key", &["-a", "\"user=Doe, Jane\""], &image);
            let taken = verify(&place, "../k.pub", "user=Doe, Jane", &image).code(0);
            let payloads: Value = serde_json::from_str(&taken.stdout).expect("one array and nothing else");
            assert_eq!(payloads[0]["optional"]["tag"], "1", "{host}, {}: {payloads}", cosign.name());
            assert_eq!(payloads[0]["critical"]["image"]["docker-manifest-digest"], parts(&image).1);
            let wrong = verify(&place, "../k.pub", "tag=2", &image).code(12);
            assert!(wrong.stderr.contains("missing or incorrect annotation: tag=2"), "{}", wrong.stderr);
            let _ = verify(&place, "../k.pub", "other=1", &image).code(12);
            let wrong = verify(&place, "../other.pub", "tag=1", &image).code(12);
            assert!(wrong.stderr.contains("invalid signature"), "{}", wrong.stderr);
            let _ = verify(&place, "../k.pub", "tag=1", &format!("{}:none", parts(&image).0)).code(11);
            let unsigned = push(&place, &format!("{host}/{}-unsigned:1", place.unique()));
            let _ = verify(&place, "../k.pub", "tag=1", &unsigned).code(10);
        }
    }
}

/// Kinds of keys, and how openssl makes them.
const KINDS: [(&str, &str); 5] = [
    ("p256", "ecparam -name prime256v1 -genkey -noout -out"),
    ("p384", "ecparam -name secp384r1 -genkey -noout -out"),
    ("p521", "ecparam -name secp521r1 -genkey -noout -out"),
    ("rsa2048", "genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048 -out"),
    ("rsa3072", "genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:3072 -out"),
];

/// Keys that openssl made and cosign read in: each signs, and the other checks.
#[test]
fn every_kind_of_key_both_ways() {
    need_registries!("crane", "cosign2", "cosign3", "openssl");
    let place = place();
    for (kind, line) in KINDS {
        sh(&place, &format!("openssl {line} ../{kind}.pem"));
        for cosign in ["cosign2", "cosign3"] {
            let line = ["import-key-pair", "--key"];
            let (from, to) = (format!("../{kind}.pem"), format!("../{kind}-{cosign}"));
            let _ = call(&place, cosign, &[&line[..], &[&from, "--output-key-prefix", &to]].concat()).code(0);
        }
    }
    for (host, (kind, _)) in registries().iter().flat_map(|host| KINDS.map(|kind| (host, kind))) {
        let ours = push(&place, &format!("{host}/{}-ours-{kind}:1", place.unique()));
        // The key as it was made, and as cosign keeps it: one public key, so one signature.
        sign(&place, &format!("../{kind}.pem"), &[], &ours);
        sign(&place, &format!("../{kind}-cosign3.key"), &[], &ours);
        for cosign in &COSIGNS {
            let public = format!("../{kind}-{}.pub", cosign.program);
            let taken = cosign.verify(&place, &public, "tag=1", &ours);
            assert!(taken.passed(), "{host}, {kind}, {}: {}", cosign.name(), taken.stderr);
            let payloads: Value = serde_json::from_str(&taken.stdout).expect("JSON");
            assert_eq!(payloads.as_array().map(Vec::len), Some(1), "{host}, {kind}, {}: {payloads}", cosign.name());
            let other = if kind == "p256" { "p384" } else { "p256" };
            assert!(!cosign.verify(&place, &format!("../{other}-cosign2.pub"), "tag=1", &ours).passed());

            let name = format!("{host}/{}-{}-{kind}:1", place.unique(), cosign.name().replace(' ', "-"));
            let theirs = push(&place, &name);
            cosign.sign(&place, &format!("../{kind}-{}.key", cosign.program), &[], &theirs);
            let _ = verify(&place, &public, "tag=1", &theirs).code(0);
            let _ = verify(&place, &format!("../{other}-cosign2.pub"), "tag=1", &theirs).code(12);
        }
    }
}

/// An index signed alone, and with all that is in it.
#[test]
fn indexes_both_ways() {
    need_registries!("crane", "cosign2", "cosign3");
    for host in registries() {
        let place = place();
        keys(&place);
        for recursive in [false, true] {
            let more: &[&str] = if recursive { &["--recursive"] } else { &[] };
            let name = |who: &str| format!("{host}/{}-{who}-{recursive}:1", place.unique());
            let (index, images) = push_index(&place, &name("ours"));
            let before = sh(&place, &format!("crane manifest {}", name("ours")));
            sign(&place, "../k.key", more, &index);
            assert_eq!(sh(&place, &format!("crane manifest {}", name("ours"))), before, "an index is never altered");
            for cosign in &COSIGNS {
                let who = format!("{host}, {recursive}, {}", cosign.name());
                let taken = cosign.verify(&place, "../k.pub", "tag=1", &index);
                assert!(taken.passed(), "{who}: {}", taken.stderr);
                let wrong = cosign.verify(&place, "../k.pub", "tag=2", &index);
                assert_eq!(wrong.passed(), cosign.is_blind("tag,bundle"), "{who}");
                for image in &images {
                    let taken = cosign.verify(&place, "../k.pub", "tag=1", image);
                    assert_eq!(taken.passed(), recursive, "{who}: {}", taken.stderr);
                }
                let (index, images) = push_index(&place, &name(&cosign.name().replace(' ', "-")));
                cosign.sign(&place, "../k.key", more, &index);
                let _ = verify(&place, "../k.pub", "tag=1", &index).code(0);
                let _ = verify(&place, "../k.pub", "tag=2", &index).code(12);
                for image in &images {
                    let _ = verify(&place, "../k.pub", "tag=1", image).code(if recursive { 0 } else { 10 });
                }
            }
            for image in &images {
                let _ = verify(&place, "../k.pub", "tag=1", image).code(if recursive { 0 } else { 10 });
            }
        }
    }
}
