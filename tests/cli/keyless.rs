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
            .affiant(["image", "sign", "--signing-config", "config.json"])
            .with(more)
            .with([self.image().as_str()])
            .env("AFFIANT_RETRY_FOR", "3s")
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

/// Of the first log: what its promise proves stands under the tag; of a statement it gets nothing unless told.
#[test]
fn a_log_of_the_first_generation_proves_the_time() {
    let world = World::new(1, false);
    world.sign(&[]).run().code(0).stderr_has(&["no bundle is written", "--log rekor1"]);
    let layer = world.layer(".sig").expect("signed");
    let promise: Value =
        serde_json::from_str(layer["annotations"]["dev.sigstore.cosign/bundle"].as_str().expect("a promise"))
            .expect("JSON");
    let body = STANDARD.decode(promise["Payload"]["body"].as_str().expect("text")).expect("base64");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let payload = world.registry.blob("app", layer["digest"].as_str().expect("a digest"));
    assert_eq!(body["spec"]["data"]["hash"]["value"], affiant_core::digest::sha256_hex(&payload));
    assert_eq!(body["spec"]["signature"]["content"], layer["annotations"]["dev.cosignproject.cosign/signature"]);
    assert!(world.bundles().is_empty());
    world.sign(&["--format", "bundle"]).run().code(4).stdout("").stderr_has(&["nothing proves that the certificate"]);
    // Told to, it is sent the statement, and the bundle has its entry.
    world.sign(&["--log", "rekor1", "--format", "bundle"]).run().code(0);
    let (bundle, _) = world.bundles().remove(0);
    let entry = &bundle["verificationMaterial"]["tlogEntries"][0];
    assert_eq!(entry["kindVersion"], json!({"kind": "dsse", "version": "0.0.1"}));
    assert!(entry["inclusionPromise"]["signedEntryTimestamp"].is_string() && entry["integratedTime"].is_string());
}

#[test]
fn attestations_and_files_are_signed_in_every_form() {
    let world = World::new(2, true);
    world.place.write("p.json", "{\"a\": 1}");
    world.place.write("file", "content");
    let with = |args: &[&str]| {
        world.place.affiant(args).with(["--signing-config", "config.json"]).env("SIGSTORE_ID_TOKEN", token(&json!({})))
    };
    with(&["image", "attest", "--type", "https://a.example/t", "--predicate", "p.json", &world.image()]).run().code(0);
    let (bundle, bytes) = world.bundles().remove(0);
    assert_eq!(bundle["verificationMaterial"]["tlogEntries"].as_array().map(Vec::len), Some(1));
    let layer = world.layer(".att").expect("attested");
    // The timestamp under the tag is over the whole envelope, as readers of it want.
    let stamp: Value = serde_json::from_str(
        layer["annotations"]["dev.sigstore.cosign/rfc3161timestamp"].as_str().expect("a timestamp"),
    )
    .expect("JSON");
    let response = STANDARD.decode(stamp["SignedRFC3161Timestamp"].as_str().expect("text")).expect("base64");
    let token_of = affiant_core::trust::timestamp::token_of_response(&response).expect("granted");
    let envelope = world.registry.blob("app", layer["digest"].as_str().expect("a digest"));
    affiant_core::trust::timestamp::consistent(token_of, &envelope).expect("over the envelope");
    assert_eq!(layer["annotations"]["dev.sigstore.cosign/certificate"], certificate(&bytes).to_pem());
    // Files.
    let signed = with(&[
        "image",
        "sign-blob",
        "--bundle",
        "b.json",
        "--output-signature",
        "s",
        "--output-certificate",
        "c.pem",
        "--rfc3161-timestamp",
        "t.json",
        "file",
    ])
    .run()
    .code(0)
    .stdout("");
    no_token_in(&signed, &[]);
    let bytes = std::fs::read(world.place.work().join("b.json")).expect("written");
    let Content::Message { sha256: digest, signature } = Bundle::parse(&bytes).expect("a bundle").content else {
        panic!("a message")
    };
    assert_eq!(digest.as_deref(), Some(&sha256(b"content")[..]));
    let leaf = certificate(&bytes);
    leaf.public_key().verify(&[b"content"], &signature).expect("it is by the certificate's key");
    let read = |name: &str| std::fs::read_to_string(world.place.work().join(name)).expect("written");
    assert_eq!(read("c.pem"), leaf.to_pem());
    assert_eq!(read("s"), STANDARD.encode(&signature));
    assert!(read("t.json").contains("SignedRFC3161Timestamp"));
    let ended = with(&[
        "image",
        "attest-blob",
        "--type",
        "https://a.example/t",
        "--predicate",
        "p.json",
        "--bundle",
        "a.json",
        "file",
    ])
    .run();
    ended.code(0).stdout("");
    let bytes = std::fs::read(world.place.work().join("a.json")).expect("written");
    assert!(matches!(Bundle::parse(&bytes).expect("a bundle").content, Content::Envelope(_)));
}

/// A key has entries and timestamps made for it as well, and where nothing is named nobody is asked.
#[test]
fn keys_are_entered_and_stamped_where_services_are_named() {
    let world = World::new(2, true);
    world.place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "c.key"]).run().code(0);
    world.place.write("file", "content");
    let sign = |more: &[&str]| {
        world
            .place
            .affiant(["image", "sign-blob", "--key", "c.key", "--bundle", "b.json"])
            .with(more)
            .with(["file"])
            .run()
    };
    sign(&[]).code(0);
    assert!(world.sigstore.asked().is_empty());
    sign(&["--signing-config", "config.json"]).code(0).stderr("");
    assert_eq!(
        (world.sigstore.count("rekor2"), world.sigstore.count("tsa"), world.sigstore.count("fulcio")),
        (1, 1, 0)
    );
    let bytes = std::fs::read(world.place.work().join("b.json")).expect("written");
    let bundle = Bundle::parse(&bytes).expect("a bundle");
    assert!(matches!(bundle.signer, Signer::Key { .. }));
    // The same again is in the second log already, which does not give it again: so it gets another signature.
    sign(&["--signing-config", "config.json"]).code(0).stderr("");
    assert_eq!(world.sigstore.count("rekor2"), 3);
    // The first does.
    world.place.write("config.json", world.sigstore.signing_config(1, false));
    sign(&["--signing-config", "config.json"]).code(0);
    sign(&["--signing-config", "config.json"]).code(0);
    assert_eq!(world.sigstore.count("rekor1"), 3, "twice asked, once fetched");
    // A certificate for the key, by cosign's flag.
    let issued = world
        .place
        .called("cosign", ["sign-blob", "--yes", "--key", "c.key", "--issue-certificate", "--bundle", "b.json"])
        .with(["--fulcio-url", &world.sigstore.fulcio(), "--rekor-url", &world.sigstore.rekor(1), "file"])
        .env("COSIGN_IDENTITY_TOKEN", token(&json!({})))
        .run();
    issued.code(0);
    let bytes = std::fs::read(world.place.work().join("b.json")).expect("written");
    let public = std::fs::read(world.place.work().join("c.pub")).expect("a key");
    let public = affiant_core::sign::PublicKey::from_file_bytes(&public).expect("a key");
    assert_eq!(certificate(&bytes).public_key(), &public);
}

/// What is wrong with a token is said before any service is asked, with what the job needs.
#[test]
fn tokens_that_no_authority_takes_are_refused_at_once() {
    let world = World::new(2, true);
    let now = jiff::Timestamp::now().as_second();
    for (text, parts) in [
        (token(&json!({"exp": now - 100})), &["expired at", "GitLab makes it when the job begins"][..]),
        (token(&json!({"aud": "other"})), &["audience `other`", "id_tokens: SIGSTORE_ID_TOKEN: aud: sigstore"]),
        (token(&json!({"sub": null})), &["no claim `sub`"]),
        (token(&json!({"iss": null})), &["no claim `iss`"]),
        (token(&json!({"email": "a@b.example"})), &["has not verified"]),
        (token(&json!({"iat": now + 7200})), &["clock"]),
        (token_with("none", &json!({})), &["not signed"]),
        (token_with("HS256", &json!({})), &["shared secret"]),
        ("ey.no.token".to_owned(), &["no JSON Web Token"]),
    ] {
        let ended = world.sign(&[]).env("SIGSTORE_ID_TOKEN", &text).run().code(4).stdout("").stderr_has(parts);
        no_token_in(&ended, &[&text]);
    }
    let other = world.sign(&["--oidc-issuer", "https://other.example"]).run();
    other.code(4).stdout("").stderr_has(&["https://gitlab.example", "https://other.example"]);
    let none = || world.sign(&[]).env_remove("SIGSTORE_ID_TOKEN");
    none().run().code(4).stdout("").stderr_has(&["no identity token", "--identity-token"]);
    none().env("GITLAB_CI", "true").run().code(4).stderr_has(&["id_tokens:"]);
    none().env("GITHUB_ACTIONS", "true").run().code(4).stderr_has(&["permissions: id-token: write"]);
    world.sign(&["--oidc-disable-ambient-providers"]).run().code(2).stderr_has(&["--identity-token"]);
    world.sign(&["--oidc-provider", "spiffe"]).run().code(2).stderr_has(&["envvar"]);
    assert!(world.sigstore.asked().is_empty(), "nobody was asked");
    // From a file, and from the flag.
    world.place.write("token", format!("{}\n", token(&json!({}))));
    none().with(["--identity-token", "token", "--format", "tag"]).run().code(0);
    none().with(["--identity-token", &token(&json!({})), "--format", "tag"]).run().code(0);
    none().with(["--identity-token", "nothing"]).run().code(4).stderr_has(&["--identity-token"]);
}

/// What a service says falsely is found out before anything is kept.
#[test]
fn false_answers_are_refused_and_nothing_is_kept() {
    for (twist, generation, part) in [
        (Twist::OtherKey, 2, "for another key"),
        (Twist::NoSct, 2, "no signed certificate timestamp"),
        (Twist::OtherIssuer, 2, "https://other.example"),
        (Twist::Forged, 2, "not signed by the authority"),
        (Twist::TwoNames, 2, "has 2 alternative names, and a signer has exactly one, so no verifier takes it"),
        (Twist::NoName, 2, "is no e-mail address, URI or user's name, so no verifier takes it"),
        (Twist::OtherEntry, 2, "another artifact"),
        (Twist::OtherEntry, 1, "another artifact"),
        (Twist::OtherProof, 2, "proves another entry"),
        (Twist::OtherProof, 1, "proves another entry"),
        (Twist::OtherImprint, 2, "another signature"),
        (Twist::NoNonce, 2, "nonce"),
        (Twist::TwoHoursOff, 2, "is the clock of one of the services wrong?"),
    ] {
        let world = World::of(Sigstore::twisted(twist), generation, generation == 2);
        let ended = world.sign(&[]).run().code(4).stdout("").stderr_has(&[part]);
        no_token_in(&ended, &[]);
        assert!(world.layer(".sig").is_none() && world.bundles().is_empty(), "{twist:?}");
    }
    // An authority with the first API only, and signing requests.
    let world = World::of(Sigstore::twisted(Twist::OnlyV1), 2, true);
    world.sign(&[]).run().code(0);
    let world = World::new(2, true);
    world.sign(&["--fulcio-request", "csr"]).run().code(0);
}

#[test]
fn refusals_are_told_with_their_cause_and_outages_are_waited_out() {
    // The authority's own words, and what the token says.
    let lie = |asked: &crate::registry::Asked| {
        asked.target.contains("signingCert").then(|| {
            let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
            let token = body["credentials"]["oidcIdentityToken"].as_str().expect("a token");
            Said::new(400).body(json!({"code": 3, "message": format!("error processing {token}")}).to_string())
        })
    };
    let world = World::of(Sigstore::with(Twist::None, Some(Box::new(lie))), 2, true);
    let ended = world.sign(&[]).run().code(4).stderr_has(&["answers 400", "is not shown", "`https://gitlab.example`"]);
    no_token_in(&ended, &[]);
    assert_eq!(world.sigstore.count("signingCert"), 1, "a refusal is final");
    // Twice 502, then the truth.
    let times = std::sync::atomic::AtomicUsize::new(0);
    let lie = move |asked: &crate::registry::Asked| {
        let is_early = asked.target.contains("rekor2") && times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2;
        is_early.then(|| Said::new(502))
    };
    let world = World::of(Sigstore::with(Twist::None, Some(Box::new(lie))), 2, true);
    world.sign(&["--retry-for", "60s", "--format", "bundle"]).run().code(0);
    assert_eq!(world.sigstore.count("rekor2"), 3);
    // Always 502: an end, and nothing is kept; a timestamp alone where that is said to do.
    let down = |asked: &crate::registry::Asked| asked.target.contains("rekor2").then(|| Said::new(502));
    let world = World::of(Sigstore::with(Twist::None, Some(Box::new(down))), 2, true);
    world.sign(&[]).run().code(4).stderr_has(&["answers 502", "attempts", "--retry-for 10m"]);
    assert!(world.layer(".sig").is_none() && world.bundles().is_empty());
    world.sign(&["--on-log-failure", "timestamp-only"]).run().code(0).stderr_has(&["no log entry was made"]);
    let (bundle, _) = world.bundles().remove(0);
    assert!(bundle["verificationMaterial"].get("tlogEntries").is_none());
    // Asked to come back at once: not more often than without. In an hour: once more when the time is up.
    for (wait, at_most) in [("0", 5), ("3600", 2), ("Fri, 31 Dec 2100 00:00:00 GMT", 2)] {
        let busy = move |asked: &crate::registry::Asked| {
            asked.target.contains("signingCert").then(|| Said::new(429).with("retry-after", wait))
        };
        let world = World::of(Sigstore::with(Twist::None, Some(Box::new(busy))), 2, true);
        world.sign(&["--retry-for", "1s"]).run().code(4).stderr_has(&["answers 429", "attempts"]);
        let count = world.sigstore.count("signingCert");
        assert!((2..=at_most).contains(&count), "{wait}: {count}");
    }
    // A redirect is not followed.
    let moved = |asked: &crate::registry::Asked| {
        asked.target.contains("signingCert").then(|| Said::new(307).with("location", "http://127.0.0.1:1/"))
    };
    let world = World::of(Sigstore::with(Twist::None, Some(Box::new(moved))), 2, true);
    world.sign(&[]).run().code(4).stderr_has(&["redirects are not followed"]);
}

#[test]
fn services_are_named_or_nobody_is_asked() {
    let world = World::new(2, true);
    let image = world.image();
    let sign = |more: &[&str]| {
        world
            .place
            .affiant(["image", "sign"])
            .with(more)
            .with([image.as_str()])
            .env("SIGSTORE_ID_TOKEN", token(&json!({})))
    };
    sign(&[])
        .run()
        .code(2)
        .stdout("")
        .stderr_has(&["--fulcio-url URL --timestamp-servers URL", "--signing-config FILE"]);
    sign(&["--fulcio-url", &world.sigstore.fulcio()]).run().code(2).stderr_has(&["nothing would prove when"]);
    sign(&["--signing-config", "config.json", "--rekor-url", "http://127.0.0.1:1"])
        .run()
        .code(2)
        .stderr_has(&["--rekor-url beside --signing-config"]);
    sign(&["--fulcio-url", "http://fulcio.example", "--timestamp-servers", &world.sigstore.tsa()])
        .run()
        .code(2)
        .stderr_has(&["only https"]);
    // Public services, and a registry that is not.
    let public = ["--fulcio-url", "https://fulcio.sigstore.dev", "--timestamp-servers", "http://127.0.0.1:1"];
    sign(&public).run().code(2).stderr_has(&["no public registry", "--log-public-ok"]);
    // A variable that says nothing else is being told; one that says no, or answers cosign's question, is not.
    let over = token(&json!({"exp": 1_700_000_000}));
    let consent = |name: &str, value: &str| sign(&public).env("SIGSTORE_ID_TOKEN", &over).env(name, value).run();
    consent("AFFIANT_LOG_PUBLIC_OK", "true").code(4).stderr_has(&["expired"]);
    for (name, value) in [("AFFIANT_LOG_PUBLIC_OK", "false"), ("AFFIANT_LOG_PUBLIC_OK", "0"), ("COSIGN_YES", "true")] {
        consent(name, value).code(2).stderr_has(&["no public registry", "--log-public-ok"]);
    }
    world.place.called("cosign", ["sign", "--yes", &image]).run().code(4).stderr_has(&["there is no identity token"]);
    world.place.called("cosign", ["sign", &image]).run().code(2).stderr_has(&["fulcio.sigstore.dev is public"]);
    assert!(world.sigstore.asked().is_empty());
    // By flags, and by cosign's name and variables.
    let (fulcio, tsa, rekor) = (world.sigstore.fulcio(), world.sigstore.tsa(), world.sigstore.rekor(1));
    sign(&["--fulcio-url", &fulcio, "--timestamp-servers", &tsa, "--log", "none"]).run().code(0);
    assert_eq!(world.sigstore.count("rekor"), 0);
    world
        .place
        .called("cosign", ["sign", "--yes", "--annotations", "a=b", &image])
        .env("COSIGN_FULCIO_URL", &fulcio)
        .env("COSIGN_REKOR_URL", &rekor)
        .env("COSIGN_TIMESTAMP_SERVER_URL", &tsa)
        .env("SIGSTORE_ID_TOKEN", token(&json!({})))
        .run()
        .code(0)
        .stdout("");
    assert_eq!(world.sigstore.count("rekor1"), 1);
    // Of commands that check, no variable names a service.
    let checked =
        world.place.called("cosign", ["verify", "--key", "nothing.pub", &image]).env("COSIGN_REKOR_URL", "x").run();
    assert!(!checked.stderr_text().contains("COSIGN_REKOR_URL"));
}

/// With a root of trust, what another instance says does not do; without one, it is said what was not checked.
#[test]
fn a_root_of_trust_is_asked_before_anything_is_kept() {
    let world = World::new(2, true);
    let other = Sigstore::start();
    world.place.write("other.json", other.trusted_root());
    world.sign(&["--trusted-root", "other.json"]).run().code(4).stderr_has(&["not one of the trusted root"]);
    let mut mixed: Value = serde_json::from_str(&world.sigstore.trusted_root()).expect("JSON");
    let foreign: Value = serde_json::from_str(&other.trusted_root()).expect("JSON");
    for (kind, part) in [
        ("ctlogs", "the SCT of its certificate does not hold"),
        ("tlogs", "its entry does not hold"),
        ("timestampAuthorities", "its timestamp does not hold"),
    ] {
        let own = mixed[kind].clone();
        mixed[kind] = foreign[kind].clone();
        world.place.write("mixed.json", mixed.to_string());
        world.sign(&["--trusted-root", "mixed.json"]).run().code(4).stderr_has(&[part]);
        mixed[kind] = own;
    }
    assert!(world.layer(".sig").is_none() && world.bundles().is_empty());
    let said = world.sign(&["--trusted-root", "root.json"]).run().code(0).stderr_text();
    assert!(!said.contains("not checked"), "{said}");
    // The older variables, of single files.
    world.place.write("root.pem", world.sigstore.root_pem());
    world.place.write("other.pem", other.root_pem());
    let old = |file: &str| world.sign(&[]).env("SIGSTORE_ROOT_FILE", file).run();
    old("root.pem").code(0).stderr_has(&["note: not checked", "its SCT, whose the log is, whose the timestamp is"]);
    old("other.pem").code(4).stderr_has(&["not one of the trusted root"]);
    for generation in [1, 2] {
        world.place.write("config.json", world.sigstore.signing_config(generation, true));
        world.sign(&["--trusted-root", "root.json", "--log", &format!("rekor{generation}")]).run().code(0);
    }
}

/// What was signed before, and is to be in a log or stamped now, is another signature; a name that is mistyped tells nobody
/// who wanted to sign it.
#[test]
fn what_is_asked_for_a_keyed_image_is_kept_and_nothing_asked_for_no_image() {
    let world = World::new(2, true);
    world.place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "c.key"]).run().code(0);
    world.place.write("p.json", "{\"a\": 1}");
    let image = world.image();
    let layers = |suffix: &str| {
        let manifest = world.registry.manifest("app", &world.digest.tag(suffix)).expect("it is there");
        manifest["layers"].as_array().expect("layers").clone()
    };
    let stamped = |layer: &Value| layer["annotations"].get("dev.sigstore.cosign/rfc3161timestamp").is_some();
    let attest = ["attest", "--type", "https://a.example/t", "--predicate", "p.json"];
    for (verb, suffix) in [(&["sign"][..], ".sig"), (&attest, ".att")] {
        let run = |more: &[&str]| {
            let call = world.place.affiant(["image"]).with(verb).with(["--key", "c.key"]).with(more);
            call.with([image.as_str()]).run().code(0).stderr_text()
        };
        run(&[]);
        assert_eq!((layers(suffix).len(), stamped(&layers(suffix)[0])), (1, false));
        let said = run(&["--signing-config", "config.json"]);
        assert!(said.contains("kept as bundle") && !said.contains("already in"), "{said}");
        assert_eq!((layers(suffix).len(), stamped(&layers(suffix)[1])), (2, true), "{suffix}");
        // Then it is the same; a statement that the second log has already gets another signature.
        if suffix == ".sig" {
            let said = run(&["--signing-config", "config.json"]);
            assert!(said.matches("already in").count() == 2, "{said}");
        }
        run(&[]);
        assert_eq!(layers(suffix).len(), 2, "{suffix}");
    }
    let asked = world.sigstore.asked().len();
    let missing = format!("{}/app:no-such-tag", world.registry.host());
    for verb in [&["sign"][..], &attest] {
        let call =
            world.place.affiant(["image"]).with(verb).with(["--signing-config", "config.json", &image, &missing]);
        call.env("SIGSTORE_ID_TOKEN", token(&json!({}))).run().code(11).stdout("");
    }
    assert_eq!(world.sigstore.asked().len(), asked, "nobody was asked");
}

/// What cannot be written, or will not be there, is said before anything is signed.
#[test]
fn outputs_of_files_are_looked_at_before_anything_is_signed() {
    let world = World::new(2, true);
    world.place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "c.key"]).run().code(0);
    world.place.write("file", "content");
    world.place.write("p.json", "{\"a\": 1}");
    let attest = ["attest-blob", "--type", "https://a.example/t", "--predicate", "p.json"];
    for verb in [&["sign-blob"][..], &attest] {
        let run = |more: &[&str]| {
            let call = world.place.affiant(["image"]).with(verb).with(more).with(["file"]);
            call.env("SIGSTORE_ID_TOKEN", token(&json!({}))).run()
        };
        let keyed = ["--key", "c.key", "--bundle", "b.json"];
        run(&[&keyed[..], &["--output-certificate", "c.pem"]].concat())
            .code(2)
            .stdout("")
            .stderr_has(&["a key has none"]);
        run(&[&keyed[..], &["--rfc3161-timestamp", "t.json"]].concat())
            .code(2)
            .stdout("")
            .stderr_has(&["no timestamp was made"]);
        for flag in ["--bundle", "--output-signature", "--output-certificate", "--rfc3161-timestamp"] {
            let more = ["--signing-config", "config.json", flag, "missing/x"];
            let ended = run(&more).code(4).stdout("").stderr_has(&["missing/x"]);
            no_token_in(&ended, &[]);
        }
    }
    assert!(world.sigstore.asked().is_empty() && !world.place.work().join("b.json").exists());
}

#[test]
fn a_certificate_that_is_almost_over_is_not_used_for_the_next_image() {
    let seen = |twist: Twist| {
        let world = World::of(Sigstore::twisted(twist), 2, true);
        let others = ["b", "c"].map(|name| {
            let digest = world.registry.put_image(name, "v1", name);
            format!("{}/{name}@{digest}", world.registry.host())
        });
        world.sign(&["--format", "bundle", &others[0], &others[1]]).run().code(0);
        world.sigstore.count("signingCert")
    };
    assert_eq!(seen(Twist::None), 1, "one is enough while it lasts");
    assert_eq!(seen(Twist::AlmostOver), 3);
}

/// An authority that says back what it was shown, in whatever it answers, gets nothing of it printed.
#[test]
fn nothing_of_a_token_is_said_back() {
    type Answer = fn(&str) -> (u16, String);
    let shown = |asked: &crate::registry::Asked| {
        let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
        body["credentials"]["oidcIdentityToken"].as_str().expect("a token").to_owned()
    };
    let answers: [Answer; 7] = [
        |token| (200, json!({"signedCertificateEmbeddedSct": token}).to_string()),
        |token| (200, json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": token}}}).to_string()),
        |token| (200, json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": [token]}}}).to_string()),
        |token| (200, json!({ token: 1 }).to_string()),
        |token| (200, token.to_owned()),
        |token| (403, token.rsplit_once('.').expect("parts").0.to_owned()),
        |token| (400, json!({"message": token.split('.').nth(1)}).to_string()),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        let lie = move |asked: &crate::registry::Asked| {
            let is_asked = asked.target.contains("signingCert");
            is_asked.then(|| answer(&shown(asked))).map(|(status, body)| Said::new(status).body(body))
        };
        let world = World::of(Sigstore::with(Twist::None, Some(Box::new(lie))), 2, true);
        let (token, place) = (token(&json!({})), &world.place);
        let ended = world.sign(&[]).env("SIGSTORE_ID_TOKEN", &token).run().code(4).stdout("");
        let parts: Vec<&str> = token.split('.').skip(1).collect();
        no_token_in(&ended, &parts);
        // The same where it is told after a command.
        let services = ["--fulcio-url", &world.sigstore.fulcio(), "--timestamp-servers", &world.sigstore.tsa()];
        let call = place.affiant(["run", "-o", "../a.json", "--step", "s", "--report", "../r.json"]).with(services);
        let ended = call.with(["--retry-for", "1s", "--", "true"]).env("SIGSTORE_ID_TOKEN", &token).run().code(125);
        no_token_in(&ended, &parts);
        for (path, bytes) in place.everything_written() {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert!(parts.iter().all(|part| !text.contains(part)), "{number}: {}: {text}", path.display());
        }
    }
    // In the certificate itself.
    let world = World::of(Sigstore::twisted(Twist::SaysBack), 2, true);
    let token = token(&json!({}));
    let ended = world.sign(&[]).env("SIGSTORE_ID_TOKEN", &token).run().code(4).stdout("").stderr_has(&["is not shown"]);
    no_token_in(&ended, &token.split('.').skip(1).collect::<Vec<_>>());
}

/// Every command of the page, with services that are played in the place of those that it names.
#[test]
fn the_page_does_what_it_shows() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/how-to/keyless.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let world = World::new(2, true);
    let place = &world.place;
    place.write("signing_config.json", world.sigstore.signing_config(2, true));
    place.write("policy.json", "{}");
    place.write("file", "content");
    place.write("Makefile", "all:\n\techo made > product\n");
    // A certificate of one's own.
    place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "app.key"]).run().code(0);
    place.write("ca.pem", world.sigstore.root_pem());
    let certified =
        ["image", "sign-blob", "--key", "app.key", "--issue-certificate", "--output-certificate", "app.pem"];
    let call = place.affiant(certified).with(["--signing-config", "signing_config.json", "--bundle", "b.json", "file"]);
    call.env("SIGSTORE_ID_TOKEN", token(&json!({}))).run().code(0);
    let here = |text: &str| {
        text.replace("registry.example", &world.registry.host())
            .replace("sha256:…", world.digest.as_str())
            .replace("https://fulcio.example", &world.sigstore.fulcio())
            .replace("https://time.example/api/v1/timestamp", &world.sigstore.tsa())
            .replace("https://time.example", &world.sigstore.tsa())
    };
    let blocks: Vec<&str> =
        page.split("```sh\n").skip(1).map(|part| part.split_once("\n```").expect("an end").0).collect();
    let mut ran = 0;
    for line in blocks.iter().flat_map(|block| block.lines()) {
        let words = here(line.strip_prefix("affiant ").expect("a command"));
        assert!(!words.contains("example") && !words.contains('…'), "{words}");
        let call = place.affiant(words.split_ascii_whitespace()).env("SIGSTORE_ID_TOKEN", token(&json!({})));
        let ended = call.run().code(0);
        no_token_in(&ended, &[]);
        ran += 1;
    }
    assert_eq!(ran, 7);
    assert!(!world.bundles().is_empty() && world.layer(".sig").is_some());
}
