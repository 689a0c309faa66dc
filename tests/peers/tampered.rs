//! What somebody made of a signature: a byte of the payload, of the signature, of an annotation or of the digest in it is
//! another, or it stands beside another image. Refused in every form, on every registry, by us and by cosign.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Ended, Place, text};
use crate::hosts::{affiant, call, need_registries, parts, place, push, registries, sh};

/// Who signs, and how it is kept.
struct Form {
    name: &'static str,
    /// Program and arguments of signing.
    sign: (&'static str, &'static [&'static str]),
    /// Whether it is a referrer, not a tag.
    refers: bool,
    /// The cosign that reads this form, and its arguments.
    judge: Option<(&'static str, &'static [&'static str])>,
}

const FORMS: [Form; 5] = [
    Form {
        name: "ours-tag",
        sign: ("affiant", &["--format", "tag"]),
        refers: false,
        judge: Some(("cosign2", &["--trusted-root", "../root.json"])),
    },
    Form {
        name: "ours-bundle",
        sign: ("affiant", &["--format", "bundle"]),
        refers: true,
        judge: Some(("cosign3", &[])),
    },
    Form {
        name: "ours-referrer",
        sign: ("affiant", &["--format", "tag", "--registry-referrers-mode", "oci-1-1"]),
        refers: true,
        judge: None,
    },
    Form {
        name: "cosign2-tag",
        sign: ("cosign2", &[]),
        refers: false,
        judge: Some(("cosign3", &["--new-bundle-format=false"])),
    },
    Form {
        name: "cosign3-bundle",
        sign: ("cosign3", &["--use-signing-config=false"]),
        refers: true,
        judge: Some(("cosign3", &[])),
    },
];

/// What is done to a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Nothing: it is only written once more.
    None,
    /// A byte more in what was signed, which says the same.
    Payload,
    /// A bit of the signature.
    Signature,
    /// The value of an annotation in what was signed.
    Annotation,
    /// The digest in what was signed is that of another image, beside which it stands.
    Digest,
    /// As it is, beside another image.
    Moved,
    /// As it is, in the list of another image's referrers.
    Listed,
}

/// A manifest, its layer, and its config.
struct Kept {
    manifest: Value,
    layer: Vec<u8>,
    config: Vec<u8>,
}

/// A blob as it is in the registry.
fn blob(place: &Place, name: &str, digest: &str) -> Vec<u8> {
    sh(place, &format!("crane blob {name}@{digest} > ../blob"));
    std::fs::read(place.beside("blob")).expect("read")
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", affiant_core::digest::sha256_hex(bytes))
}

/// What is kept about an image in this form.
fn kept(place: &Place, form: &Form, image: &str) -> Kept {
    let (name, digest) = parts(image);
    let tag = digest.replace(':', "-");
    let manifest = if form.refers {
        let [.., with_list] = registries();
        let index = if name.starts_with(&with_list) {
            let path = name.strip_prefix(&format!("{with_list}/")).expect("a repository");
            sh(place, &format!("curl -sf http://{with_list}/v2/{path}/referrers/{digest}"))
        } else {
            sh(place, &format!("crane manifest {name}:{tag}"))
        };
        let index: Value = serde_json::from_str(&index).expect("an index");
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1), "{index}");
        sh(place, &format!("crane manifest {name}@{}", text(&index["manifests"][0]["digest"])))
    } else {
        sh(place, &format!("crane manifest {name}:{tag}.sig"))
    };
    let manifest: Value = serde_json::from_str(&manifest).expect("a manifest");
    let layer = blob(place, name, text(&manifest["layers"][0]["digest"]));
    let config = blob(place, name, text(&manifest["config"]["digest"]));
    Kept { manifest, layer, config }
}

fn flipped(base64: &str) -> String {
    let mut bytes = STANDARD.decode(base64).expect("base64");
    *bytes.last_mut().expect("a byte") ^= 1;
    STANDARD.encode(bytes)
}

/// What was signed, changed; `digests` are those of the image and of the other.
fn altered(signed: &[u8], change: Change, digests: [&str; 2]) -> Vec<u8> {
    let text = std::str::from_utf8(signed).expect("JSON");
    let hex = digests.map(|digest| digest.strip_prefix("sha256:").expect("SHA-256"));
    let new = match change {
        Change::Payload => format!("{text} "),
        Change::Annotation => text.replace(r#""tag":"1""#, r#""tag":"2""#),
        Change::Digest => text.replace(hex[0], hex[1]),
        Change::None | Change::Signature | Change::Moved | Change::Listed => return signed.to_vec(),
    };
    assert_ne!(text, new, "{change:?}");
    new.into_bytes()
}

impl Kept {
    fn change(&mut self, change: Change, digests: [&str; 2]) {
        let annotation = &mut self.manifest["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"];
        if let Some(signature) = annotation.as_str() {
            if change == Change::Signature {
                *annotation = flipped(signature).into();
            }
            self.layer = altered(&self.layer, change, digests);
        } else {
            let mut bundle: Value = serde_json::from_slice(&self.layer).expect("a bundle");
            let envelope = &mut bundle["dsseEnvelope"];
            let payload = STANDARD.decode(text(&envelope["payload"])).expect("base64");
            envelope["payload"] = STANDARD.encode(altered(&payload, change, digests)).into();
            if change == Change::Signature {
                let signature = &mut envelope["signatures"][0]["sig"];
                *signature = flipped(text(signature)).into();
            }
            self.layer = bundle.to_string().into_bytes();
            self.manifest["layers"][0].as_object_mut().expect("a descriptor").remove("annotations");
        }
    }

    /// Writes it beside an image, as crane does.
    fn push(&mut self, place: &Place, image: &str) {
        let (name, digest) = parts(image);
        let layer = &mut self.manifest["layers"][0];
        layer["digest"] = sha256(&self.layer).into();
        layer["size"] = self.layer.len().into();
        let mut tag = "referrer".to_owned();
        if self.manifest["subject"].is_object() {
            let manifest = sh(place, &format!("crane manifest {image}"));
            let read: Value = serde_json::from_str(&manifest).expect("a manifest");
            assert_eq!(sha256(manifest.as_bytes()), digest, "crane ends it with no newline of its own");
            self.manifest["subject"] =
                json!({"mediaType": read["mediaType"], "digest": digest, "size": manifest.len()});
        } else {
            tag = format!("{}.sig", digest.replace(':', "-"));
        }
        let manifest = self.manifest.to_string();
        let folder = place.work().join("layout");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("blobs/sha256")).expect("made");
        for bytes in [manifest.as_bytes(), &self.layer, &self.config] {
            let digest = sha256(bytes);
            std::fs::write(folder.join("blobs").join(digest.replace(':', "/")), bytes).expect("written");
        }
        let entry = json!({
            "mediaType": self.manifest["mediaType"],
            "digest": sha256(manifest.as_bytes()),
            "size": manifest.len(),
        });
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        std::fs::write(folder.join("index.json"), index).expect("written");
        std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
        sh(place, &format!("crane push layout {name}:{tag}"));
    }
}

/// The image in a repository of its own.
fn copied(place: &Place, image: &str, to: &str) -> String {
    sh(place, &format!("crane copy {image} {to}:1"));
    format!("{to}@{}", parts(image).1)
}

fn judge(place: &Place, (program, more): (&str, &[&str]), value: &str, image: &str) -> Ended {
    let line = ["verify", "--insecure-ignore-tlog=true", "--key", "../k.pub", "-a", value];
    call(place, program, &[&line[..], more, &[image]].concat())
}

fn refused_by_all(form: &Form) {
    let place = place();
    std::fs::write(
        place.beside("root.json"),
        r#"{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#,
    )
    .expect("written");
    let _ = affiant(&place, &["image", "generate-key-pair", "--output-key-prefix", "../k"]).code(0);
    for host in registries() {
        let base = format!("{host}/{}-{}", place.unique(), form.name);
        let (image, other) = (push(&place, &format!("{base}:1")), push(&place, &format!("{base}-other:1")));
        let digests = [parts(&image).1, parts(&other).1];
        let (program, more) = form.sign;
        let of_program: &[&str] =
            if program == "affiant" { &["image", "sign"] } else { &["sign", "--tlog-upload=false"] };
        let line = ["--key", "../k.key", "-a", "tag=1"];
        let _ = call(&place, program, &[of_program, &line, more, &[&image]].concat()).code(0);
        for change in [
            Change::None,
            Change::Payload,
            Change::Signature,
            Change::Annotation,
            Change::Digest,
            Change::Moved,
            Change::Listed,
        ] {
            let who = format!("{host}, {}, {change:?}", form.name);
            let is_moved = matches!(change, Change::Digest | Change::Moved | Change::Listed);
            let to = format!("{base}-{}", format!("{change:?}").to_lowercase());
            let target = copied(&place, if is_moved { &other } else { &image }, &to);
            if change == Change::Listed && !form.refers {
                continue;
            }
            let mut kept = kept(&place, form, &image);
            if change == Change::Listed {
                let beside = copied(&place, &image, &to);
                kept.push(&place, &beside);
                let entry = format!("{to}:referrer");
                let tag = digests[1].replace(':', "-");
                sh(&place, &format!("crane index append -m {entry} -t {to}:{tag}"));
            } else {
                kept.change(change, digests);
                kept.push(&place, &target);
            }
            // Asked for what the forger wants to be believed.
            let value = if change == Change::Annotation { "tag=2" } else { "tag=1" };
            let ours = affiant(&place, &["image", "verify", "--key", "../k.pub", "-a", value, &target]);
            let theirs = form.judge.map(|cosign| judge(&place, cosign, value, &target));
            if change == Change::None {
                let _ = ours.code(0);
                assert!(theirs.as_ref().is_none_or(Ended::passed), "{who}: {theirs:?}");
                continue;
            }
            let reason = match change {
                Change::Moved => "it is about another image",
                Change::Listed => "it is about another manifest",
                _ => "invalid signature",
            };
            let ours = ours.code(12);
            assert!(ours.stderr.contains(reason) && ours.stdout.is_empty(), "{who}: {ours:?}");
            assert!(!theirs.as_ref().is_some_and(Ended::passed), "{who}: {theirs:?}");
        }
    }
}

#[test]
fn our_signature_under_a_tag() {
    need_registries!("crane", "cosign2", "curl");
    refused_by_all(&FORMS[0]);
}

#[test]
fn our_bundle() {
    need_registries!("crane", "cosign3", "curl");
    refused_by_all(&FORMS[1]);
}

#[test]
fn our_signature_as_a_referrer() {
    need_registries!("crane", "curl");
    refused_by_all(&FORMS[2]);
}

#[test]
fn a_signature_of_cosign_under_a_tag() {
    need_registries!("crane", "cosign2", "cosign3", "curl");
    refused_by_all(&FORMS[3]);
}

#[test]
fn a_bundle_of_cosign() {
    need_registries!("crane", "cosign3", "curl");
    refused_by_all(&FORMS[4]);
}
