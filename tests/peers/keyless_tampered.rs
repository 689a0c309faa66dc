//! What somebody made of a signature without a key: each member of a bundle is another or is missing, or comes from
//! another signature of the same signer; and the same of the annotations below a tag. Nothing of it passes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::harness::{Ended, Place, registry, text};
use crate::hosts::{call, parts, place, push, sh};
use crate::stack::{Stack, line, need_sigstore, proofs, with_token};

const AFFIANT: &str = env!("CARGO_BIN_EXE_affiant");

/// Members that prove nothing, so that another value changes nothing: the digest beside the signature is a hint, and so
/// is whatever cosign does not write.
const HINTS: &[&str] = &["/messageSignature/messageDigest/digest"];

/// Paths of all members, those of members first.
fn members(value: &Value, path: &str, into: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in inner {
        let path = format!("{path}/{name}");
        members(value, &path, into);
        into.push(path);
    }
}

/// Without the member.
fn without(bundle: &Value, path: &str) -> Value {
    let (parent, name) = path.rsplit_once('/').expect("a path");
    let mut bundle = bundle.clone();
    match bundle.pointer_mut(parent).expect("it is there") {
        Value::Object(members) => drop(members.remove(name)),
        Value::Array(list) => drop(list.remove(name.parse().expect("a number"))),
        other => panic!("{path}: {other}"),
    }
    bundle
}

/// The value one step further: a number, or the last bit of what stands there in base64, or one letter of a text.
fn further(value: &Value) -> Value {
    let text = text(value);
    if let Ok(number) = text.parse::<u64>() {
        return (number + 1).to_string().into();
    }
    match STANDARD.decode(text) {
        Ok(mut bytes) if bytes.len() > 16 => {
            *bytes.last_mut().expect("a byte") ^= 1;
            STANDARD.encode(bytes).into()
        }
        // A checkpoint or a name: its first letter.
        _ => {
            let mut letters: Vec<char> = text.chars().collect();
            letters[0] = if letters[0] == 'x' { 'y' } else { 'x' };
            letters.into_iter().collect::<String>().into()
        }
    }
}

fn check(place: &Place, stack: &Stack, program: &str, told: &[&str], bundle: &Value) -> Ended {
    std::fs::write(place.beside("changed.json"), bundle.to_string()).expect("written");
    let verb: &[&str] = if program == AFFIANT { &["image", "verify-blob"] } else { &["verify-blob"] };
    let flags = stack.gitlab_flags();
    call(place, program, &line(&[verb, told, &["--bundle", "../changed.json"]], &flags, &["hello.txt"]))
}

#[test]
fn no_member_of_a_bundle_can_be_another_or_missing() {
    need_sigstore!();
    let (place, stack) = (place(), Stack::new());
    for proof in proofs() {
        let bundles = ["hello.txt", "hello.txt", "Dockerfile"].map(|file| {
            let (config, root) = (stack.config(proof.name), stack.root());
            let words =
                ["sign-blob", "--signing-config", &config, "--trusted-root", &root, "--bundle", "../b.json", file];
            let _ = with_token(&place, &stack.gitlab(&place, &[]), "cosign3", &words, &[]).code(0);
            crate::hosts::read(&place.beside("b.json"))
        });
        let [good, same, other] = &bundles;
        let judge = |bundle: &Value| {
            let ours = check(&place, &stack, AFFIANT, proof.check, bundle);
            let theirs = check(&place, &stack, "cosign3", proof.check, bundle);
            assert!(!ours.stderr.contains("panicked"), "{}", ours.stderr);
            (ours, theirs)
        };
        for bundle in [good, same] {
            let (ours, theirs) = judge(bundle);
            assert!(ours.passed() && theirs.passed(), "{}: {}{}", proof.name, ours.stderr, theirs.stderr);
        }
        assert!(!judge(other).0.passed(), "{}: of another file", proof.name);
        let mut paths = Vec::new();
        members(good, "", &mut paths);
        assert!(paths.len() > 10, "{paths:?}");
        for path in paths {
            let who = format!("{}: {path}", proof.name);
            let is_hint = HINTS.iter().any(|hint| path.starts_with(hint) || hint.starts_with(&path));
            let mut changes = vec![("is missing", without(good, &path))];
            let value = good.pointer(&path).expect("it is there");
            if value.is_string() {
                let mut changed = good.clone();
                *changed.pointer_mut(&path).expect("it is there") = further(value);
                changes.push(("is another", changed));
            }
            // From another signature of the same signer over the same bytes, and over others.
            for (whose, from) in [("is of another signature", same), ("is of another file", other)] {
                let found = from.pointer(&path).filter(|found| *found != value);
                let mut changed = good.clone();
                found.cloned().map(|found| changed.pointer_mut(&path).map(|member| *member = found));
                if found.is_some() {
                    changes.push((whose, changed));
                }
            }
            for (what, changed) in changes {
                let (ours, theirs) = judge(&changed);
                assert!(is_hint || !ours.passed(), "{who} {what}: {}", ours.stdout);
                assert!(
                    is_hint || theirs.passed() || !ours.passed(),
                    "{who} {what}: cosign refuses: {}",
                    theirs.stderr
                );
            }
        }
    }
}

/// Annotations of a signature below a tag, and whether a signature that has none of it can still be good.
const ANNOTATIONS: [(&str, bool); 5] = [
    ("dev.cosignproject.cosign/signature", false),
    ("dev.sigstore.cosign/certificate", false),
    // The trusted root has the authorities, too.
    ("dev.sigstore.cosign/chain", true),
    ("dev.sigstore.cosign/bundle", false),
    ("dev.sigstore.cosign/rfc3161timestamp", false),
];

#[test]
fn no_annotation_below_a_tag_can_be_another_or_missing() {
    need_sigstore!("cosign2", "crane", "curl");
    let (place, stack) = (place(), Stack::new());
    for proof in proofs().filter(|proof| proof.tag) {
        let [image, other] = ["one", "two"].map(|name| {
            let image = push(&place, &format!("{}/{}-{}-{name}:1", registry(), place.unique(), proof.name));
            let (config, root) = (stack.config(proof.name), stack.root());
            let services = ["--signing-config", &config, "--trusted-root", &root];
            let line = line(&[&["image", "sign", "--format", "tag"], &services], &[], &[&image]);
            let _ = with_token(&place, &stack.gitlab(&place, &[]), AFFIANT, &line, &[]).code(0);
            image
        });
        let manifest = |image: &str| -> Value {
            let (name, digest) = parts(image);
            let shown = sh(&place, &format!("crane manifest {name}:{}.sig", digest.replace(':', "-")));
            serde_json::from_str(&shown).expect("JSON")
        };
        let (good, stranger) = (manifest(&image), manifest(&other));
        let put = |manifest: &Value| {
            std::fs::write(place.beside("m.json"), manifest.to_string()).expect("written");
            let (name, digest) = parts(&image);
            let path = name.split_once('/').expect("a path").1;
            sh(
                &place,
                &format!(
                    "curl -sf -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary @../m.json \
                     http://{}/v2/{path}/manifests/{}.sig",
                    registry(),
                    digest.replace(':', "-")
                ),
            );
        };
        let judge = |program: &[&str]| {
            let flags = stack.gitlab_flags();
            call(&place, program[0], &line(&[&program[1..], &["verify"], proof.check], &flags, &[&image]))
        };
        for (name, can_be_missing) in ANNOTATIONS {
            let pointer = format!("/layers/0/annotations/{}", name.replace('/', "~1"));
            let (Some(value), Some(foreign)) = (good.pointer(&pointer), stranger.pointer(&pointer)) else { continue };
            let mut changes = vec![("is missing", good.clone())];
            changes[0].1["layers"][0]["annotations"].as_object_mut().expect("members").remove(name);
            if value != foreign {
                let mut changed = good.clone();
                *changed.pointer_mut(&pointer).expect("it is there") = foreign.clone();
                changes.push(("is of another signature", changed));
            }
            for (what, changed) in changes {
                put(&changed);
                let (ours, theirs) = (judge(&[AFFIANT, "image"]), judge(&["cosign2"]));
                let who = format!("{}: {name} {what}", proof.name);
                assert!(!ours.stderr.contains("panicked"), "{who}");
                let fine = can_be_missing && what == "is missing";
                assert_eq!(ours.passed(), fine, "{who}: {}", ours.stderr);
                assert!(theirs.passed() || !ours.passed(), "{who}: cosign refuses: {}", theirs.stderr);
            }
            put(&good);
            assert!(judge(&[AFFIANT, "image"]).passed(), "{name}: as it was");
        }
    }
}
