//! Signing without a key of one's own, with logs and with timestamps: against services that are played.

use affiant_core::digest::sha256;
use affiant_core::image::Digest;
use affiant_core::image::sigstore::{Bundle, Content, Signer};
use affiant_core::trust::Certificate;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Call, Ended, Place};
use crate::registry::{Registry, Said};
use crate::sigstore_services::{Sigstore, Twist, token, token_with};

const IDENTITY: &str = "https://gitlab.example/group/app//.gitlab-ci.yml@refs/heads/main";

/// An image, services and a place with `config.json`.
struct World {
    registry: Registry,
    sigstore: Sigstore,
    place: Place,
    digest: Digest,
}

impl World {
    fn new(generation: u8, stamped: bool) -> Self {
        Self::of(Sigstore::start(), generation, stamped)
    }

    fn of(sigstore: Sigstore, generation: u8, stamped: bool) -> Self {
        let registry = Registry::start();
        let digest = registry.put_image("app", "v1", "a");
        let place = Place::without_key();
        place.write("config.json", sigstore.signing_config(generation, stamped));
        place.write("root.json", sigstore.trusted_root());
        Self { registry, sigstore, place, digest }
    }

    fn image(&self) -> String {
        format!("{}/app@{}", self.registry.host(), self.digest)
    }

    /// `affiant image sign` with a good token.
    fn sign(&self, more: &[&str]) -> Call {
        self.place
            .affiant(["image", "sign", "--signing-config", "config.json", "--retry-for", "3s"])
            .with(more)
            .with([self.image().as_str()])
            .env("SIGSTORE_ID_TOKEN", token(&json!({})))
    }

    /// The bundles that refer to the image.
    fn bundles(&self) -> Vec<(Value, Vec<u8>)> {
        let Some(referrer) = self.registry.manifest_about("app", &self.digest) else { return Vec::new() };
        let manifest = self.registry.manifest("app", referrer.as_str()).expect("it is there");
        let bytes = self.registry.blob("app", manifest["layers"][0]["digest"].as_str().expect("a digest"));
        vec![(serde_json::from_slice(&bytes).expect("JSON"), bytes)]
    }

    fn layer(&self, suffix: &str) -> Option<Value> {
        self.registry.manifest("app", &self.digest.tag(suffix)).map(|manifest| manifest["layers"][0].clone())
    }
}

/// The certificate of a bundle.
fn certificate(bundle: &[u8]) -> Certificate {
    let Signer::Certificate { chain } = Bundle::parse(bundle).expect("a bundle").signer else {
        panic!("a certificate")
    };
    assert_eq!(chain.len(), 1, "the leaf alone");
    Certificate::from_der(&chain[0]).expect("a certificate")
}

fn no_token_in(ended: &Ended, tokens: &[&str]) {
    for text in [ended.stdout_text(), ended.stderr_text()] {
        assert!(tokens.iter().all(|token| !text.contains(token)), "{text}");
        assert!(!text.contains(token(&json!({})).rsplit('.').next().expect("parts")), "{text}");
    }
}

#[test]
fn an_image_is_signed_by_the_identity_of_a_token() {
    let world = World::new(2, true);
    let ended =
        world.sign(&["-a", "tag=v1"]).run().code(0).stdout("").stderr_has(&[IDENTITY, "https://gitlab.example"]);
    no_token_in(&ended, &[]);
    let (json, bytes) = world.bundles().remove(0);
    let leaf = certificate(&bytes);
    assert_eq!(leaf.uris(), [IDENTITY]);
    // The envelope: one signature without key id, by the key of the certificate.
    let bundle = Bundle::parse(&bytes).expect("a bundle");
    let Content::Envelope(envelope) = bundle.content else { panic!("an envelope") };
    assert_eq!(
        (bundle.timestamps.len(), json["verificationMaterial"]["tlogEntries"].as_array().map(Vec::len)),
        (1, Some(1))
    );
    assert_eq!(envelope.signatures[0].key_id, "");
    let message = [
        format!("DSSEv1 28 application/vnd.in-toto+json {} ", envelope.payload.len()).into_bytes(),
        envelope.payload.clone(),
    ];
    let parts: Vec<&[u8]> = message.iter().map(Vec::as_slice).collect();
    leaf.public_key().verify(&parts, &envelope.signatures[0].sig).expect("it is by the certificate's key");
    // The log was told the digest of just that, and nothing of the statement.
    let asked = world.sigstore.asked();
    let entry = asked.iter().find(|asked| asked.target.contains("rekor2")).expect("asked");
    let entry: Value = serde_json::from_slice(&entry.body).expect("JSON");
    assert_eq!(entry["hashedRekordRequestV002"]["digest"], STANDARD.encode(sha256(&message.concat())));
    // Under the tag: certificate, chain, timestamp; what Rekor 2 proves has no place there.
    let layer = world.layer(".sig").expect("signed");
    let notes = layer["annotations"].as_object().expect("notes");
    assert!(notes["dev.sigstore.cosign/certificate"].as_str().is_some_and(|pem| pem == leaf.to_pem()), "one identity");
    assert_eq!(notes["dev.sigstore.cosign/chain"].as_str().map(|pem| pem.matches("BEGIN").count()), Some(2));
    assert!(notes["dev.sigstore.cosign/rfc3161timestamp"].as_str().is_some_and(|json| json.contains("SignedRFC3161")));
    assert!(!notes.contains_key("dev.sigstore.cosign/bundle"));
    assert_eq!(world.sigstore.count("signingCert"), 1, "one certificate for both forms");
    assert_eq!(world.sigstore.count("rekor2"), 1);
}
