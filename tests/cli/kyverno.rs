//! `affiant kyverno check`, against what the real Kyverno said of the same images and policies.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use affiant_core::image::Digest;
use serde_json::{Value, json};

use crate::harness::{Ended, Place};
use crate::images::load;
use crate::registry::{Asked, Door, Registry, Said};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The image of all recorded layouts.
const IMAGE: &str = "sha256:b15245ece36593766b17936ef079a207be686c6db2e2a91da27a757a61c1832f";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn policy(name: &str) -> String {
    fixtures().join(format!("kyverno/pol-{name}.yaml")).display().to_string()
}

/// The recorded repositories.
fn recorded(registry: &Registry) {
    for name in ["att-bundle", "att-legacy", "keyed-bundle", "keyed-bundle-fallbacktag", "keyed-legacy"] {
        load(registry, &fixtures().join("cosign/layouts").join(name), &format!("vec/{name}"));
    }
    let keyless = "keyless-gitlab-legacy-rekor1";
    load(registry, &fixtures().join("kyverno/layouts").join(keyless), &format!("vec/{keyless}"));
    // These two were not recorded: the first is the signature of `keyed-legacy` as a referrer, the second has none.
    load(registry, &fixtures().join("cosign/layouts/keyed-legacy"), "vec/keyed-legacy-oci11");
    let tag = format!("{}.sig", IMAGE.replace(':', "-"));
    let mut signature = registry.manifest("vec/keyed-legacy-oci11", &tag).expect("recorded");
    let image = registry.manifest("vec/keyed-legacy-oci11", "v1").expect("recorded");
    for repository in ["vec/keyed-legacy-oci11", "vec/neg-subject-moved"] {
        let layout = fixtures().join("cosign/layouts/keyed-legacy/blobs/sha256");
        for blob in std::fs::read_dir(&layout).expect("a layout").flatten() {
            registry.put_blob(repository, &std::fs::read(blob.path()).expect("a blob"));
        }
        let hex = IMAGE.trim_start_matches("sha256:");
        registry.put(repository, Some("v1"), MANIFEST, &std::fs::read(layout.join(hex)).expect("the image"));
    }
    assert!(image.is_object());
    let kind = "application/vnd.dev.cosign.artifact.sig.v1+json";
    signature["artifactType"] = json!(kind);
    signature["config"]["mediaType"] = json!(kind);
    signature["subject"] = json!({ "mediaType": MANIFEST, "digest": IMAGE, "size": 1 });
    registry.put("vec/oci11", None, MANIFEST, signature.to_string().as_bytes());
    for blob in
        std::fs::read_dir(fixtures().join("cosign/layouts/keyed-legacy/blobs/sha256")).expect("a layout").flatten()
    {
        registry.put_blob("vec/oci11", &std::fs::read(blob.path()).expect("a blob"));
    }
    let bytes = std::fs::read(
        fixtures().join("cosign/layouts/keyed-legacy/blobs/sha256").join(IMAGE.trim_start_matches("sha256:")),
    );
    registry.put("vec/oci11", Some("v1"), MANIFEST, &bytes.expect("the image"));
}

fn check(place: &Place, image: &str, policy: &str, more: &[&str]) -> Ended {
    place.affiant(["kyverno", "check", image, "-f", policy]).with(more).run()
}

fn rules(ended: &Ended) -> Value {
    serde_json::from_str::<Value>(&ended.stdout_text()).expect("JSON")["rules"].take()
}

/// Whether a list of texts has this in one of them.
fn says(list: &Value, part: &str) -> bool {
    list.as_array().expect("a list").iter().any(|one| one.as_str().is_some_and(|one| one.contains(part)))
}

#[test]
fn recorded_verdicts_are_predicted() {
    let (new, old) = (Registry::start(), Registry::old());
    recorded(&new);
    load(&old, &fixtures().join("cosign/layouts/keyed-bundle-fallbacktag"), "vec/keyed-bundle-fallbacktag");
    let place = Place::without_key();
    let records = std::fs::read(fixtures().join("kyverno/results.json")).expect("records");
    let records: Vec<Value> = serde_json::from_slice(&records).expect("JSON");
    assert_eq!(records.len(), 21);
    let mut wrong = Vec::new();
    let mut not_judged = Vec::new();
    for record in &records {
        let text = |member: &str| record[member].as_str().expect("text").to_owned();
        let image = text("image")
            .replace("keyed-legacy-oci11", "oci11")
            .replace("127.0.0.1:5001", &new.host())
            .replace("127.0.0.1:5000", &old.host());
        let ended = check(&place, &image, &policy(&text("policy")), &["--kyverno", "1.16.1", "-o", "json"]);
        let admitted = record["admitted"].as_bool().expect("a truth");
        let rules = rules(&ended);
        match (ended.exit_code(), admitted) {
            (0, true) => {}
            (1, false) => {
                // For the reason that the real one gives, where it gives one that says something.
                let why = text("why");
                let reason = [
                    "no signatures found",
                    "annotations mismatch: v1 does not match expected value v2 for key tag",
                    "there must be subject alternative name criteria",
                    "subject mismatch",
                    "nil certificate provided",
                    "no matching attestations",
                ];
                let same = reason.iter().filter(|reason| why.contains(**reason)).all(|reason| {
                    // Without any bundle, that is said.
                    let of_bundles = says(&rules[0]["looksFor"], "Sigstore bundles");
                    says(&rules[0]["reasons"], reason)
                        || (of_bundles && says(&rules[0]["reasons"], "no bundle is there"))
                });
                if !same {
                    wrong.push(format!("{} {image}: {rules:#} instead of {why}", text("policy")));
                }
            }
            (4, _) => not_judged.push((text("policy"), admitted)),
            _ => wrong.push(format!("{} {image}: {}{}", text("policy"), ended.stdout_text(), ended.stderr_text())),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(not_judged.is_empty(), "{not_judged:?}");
}

/// Whom the recorded keyless rule wants.
const SUBJECT: &str = "subject: \"https://gitlab.example.test/mygroup/*\"";

/// What is signed for the recorded rule, and what was changed after that.
#[test]
fn each_part_beside_a_keyless_signature_counts() {
    let registry = Registry::start();
    let place = Place::without_key();
    for (layout, code, says_so) in [
        ("keyless-gitlab-legacy-rekor1", 0, ""),
        ("keyless-gitlab-legacy-rekor1-tsa", 0, ""),
        ("neg-legacy-cert", 1, "no matching signatures"),
        ("neg-legacy-bundle-time", 1, "no matching signatures"),
        ("neg-legacy-bundle-gone", 4, "no log entry beside it"),
    ] {
        load(&registry, &fixtures().join("cosign/layouts").join(layout), &format!("vec/{layout}"));
        let image = format!("{}/vec/{layout}:v1", registry.host());
        let ended = check(&place, &image, &policy("keyless"), &["-o", "json"]);
        let rule = rules(&ended)[0].take();
        assert_eq!(ended.exit_code(), code, "{layout}: {rule:#}");
        assert!(says_so.is_empty() || says(&rule["reasons"], says_so), "{layout}: {rule:#}");
    }
}

/// The recorded keyless rule, and what becomes of it where one of its parts is another.
#[test]
fn each_part_of_a_keyless_rule_counts() {
    let registry = Registry::start();
    recorded(&registry);
    let place = Place::without_key();
    let image = format!("{}/vec/keyless-gitlab-legacy-rekor1:v1", registry.host());
    let recorded = std::fs::read_to_string(policy("keyless")).expect("a policy");
    let between = |text: &str, from: &str, to: &str| {
        let (_, rest) = text.split_once(from).expect("it begins");
        rest.split_once(to).expect("it ends").0.to_owned()
    };
    let roots = between(&recorded, "            roots: |-\n", "            rekor:");
    let (log, ct_log) = {
        let of = |what: &str, text: &str| between(text, &format!("            {what}:"), "-----END PUBLIC KEY-----");
        (of("rekor", &recorded), of("ctlog", &recorded))
    };
    let key = |text: &str| text.split_once("-----BEGIN PUBLIC KEY-----").expect("a key").1.to_owned();
    let stranger =
        std::fs::read_to_string(fixtures().join("certificates/openssl/p256-sha256.pem")).expect("a certificate");
    let stranger: String = stranger.lines().flat_map(|line| ["              ", line, "\n"]).collect();
    let (intermediate, root) = roots.split_at(roots.match_indices("-----BEGIN").nth(1).expect("two").0 - 14);
    let with = |line: &str| recorded.replace(SUBJECT, &format!("{SUBJECT}\n            {line}"));
    let named = |line: &str| recorded.replace(SUBJECT, line);
    let issued = |line: &str| recorded.replace("issuer: http://127.0.0.1:5558", line);
    let ignoring = |what: &str, line: &str| {
        recorded.replace(&format!("            {what}:\n"), &format!("            {what}:\n              {line}\n"))
    };
    for (what, text, code, says_so) in [
        ("as recorded", recorded.clone(), 0, ""),
        ("the root alone", recorded.replace(&roots, root), 0, ""),
        ("the intermediate alone", recorded.replace(&roots, intermediate), 0, ""),
        ("another root", recorded.replace(&roots, &stranger), 1, "leads to none of the `roots`"),
        ("no roots", recorded.replace(&roots, "").replace("            roots: |-\n", ""), 4, "no `roots`"),
        ("another log", recorded.replace(&key(&log), &key(&ct_log)), 1, "log"),
        ("another log of certificates", recorded.replace(&key(&ct_log), &key(&log)), 1, "log of certificates"),
        ("no log is wanted", ignoring("rekor", "ignoreTlog: true"), 1, "it must be valid now"),
        ("no SCT is wanted", ignoring("ctlog", "ignoreSCT: true").replace(&key(&ct_log), &key(&log)), 0, ""),
        ("an expression for a part", named("subjectRegExp: mygroup"), 0, ""),
        ("an expression besides a pattern", with("subjectRegExp: nobody"), 0, ""),
        ("a pattern besides an expression", named("subject: nobody\n            subjectRegExp: mygroup"), 0, ""),
        ("nobody", named("subject: nobody\n            subjectRegExp: nobody"), 1, "subject mismatch"),
        ("an expression that is none", named("subjectRegExp: '('"), 4, "cannot be read"),
        ("a pattern of the issuer", issued("issuer: 'http://127.0.0.?:*'"), 0, ""),
        ("issuers", issued("issuer: '*'\n            issuerRegExp: nobody"), 1, "issuer mismatch"),
        ("an extension", with("additionalExtensions: {oidcIssuer: 'http://127.*'}"), 0, ""),
        ("an extension's number", with("additionalExtensions: {1.3.6.1.4.1.57264.1.1: '*:5558'}"), 0, ""),
        ("an extension's value", with("additionalExtensions: {oidcIssuer: x}"), 1, "extension mismatch"),
        ("an absent one", with("additionalExtensions: {githubWorkflowRef: main}"), 1, "extension mismatch"),
        (
            "an unknown one",
            with("additionalExtensions: {sourceRepositoryURI: '*'}"),
            1,
            "invalid certificate extension",
        ),
    ] {
        assert!(what == "as recorded" || text != recorded, "{what}: nothing was changed");
        place.write("keyless.yaml", text);
        let ended = check(&place, &image, "keyless.yaml", &["-o", "json"]);
        let rule = rules(&ended)[0].take();
        assert_eq!(ended.exit_code(), code, "{what}: {rule:#}");
        assert!(says_so.is_empty() || says(&rule["reasons"], says_so), "{what}: {rule:#}");
    }
}

#[test]
fn what_is_looked_for_is_told_with_what_helps() {
    let registry = Registry::start();
    recorded(&registry);
    let place = Place::without_key();
    let of = |image: &str| format!("{}/vec/{image}:v1", registry.host());
    let text = check(&place, &of("keyed-legacy"), &policy("key-ann"), &[]).code(0).stdout_text();
    assert!(text.starts_with("PASS: ClusterPolicy key-ann, rule r: 127.0.0.1:"), "{text}");
    assert!(
        text.contains(&format!("  looks for  signatures under the tag {}.sig, by the key ", IMAGE.replace(':', "-")))
    );
    assert!(
        text.contains(", annotated tag=v1\n") && text.contains("  found      2 signatures under the tag "),
        "{text}"
    );
    let of_json = |image: &str, name: &str, more: &[&str], code: i32| {
        let ended = check(&place, &of(image), &policy(name), &[&["-o", "json"], more].concat()).code(code);
        rules(&ended)[0].take()
    };
    let bundle = of_json("keyed-bundle", "key", &[], 1);
    assert!(says(&bundle["reasons"], "there are bundles, which a rule of the type Cosign does not read"), "{bundle:#}");
    assert!(
        says(&bundle["fixes"], "affiant image sign --format tag,bundle") && says(&bundle["fixes"], "SigstoreBundle")
    );
    let referrer = of_json("oci11", "key", &[], 1);
    assert!(says(&referrer["fixes"], "cosignOCI11: true"), "{referrer:#}");
    let banned = of_json("att-legacy", "att-banned", &[], 1);
    assert!(says(&banned["reasons"], "AllNotIn") && says(&banned["reasons"], "zlib"), "{banned:#}");
    let missing = of_json("att-legacy", "att-missing", &[], 1);
    assert!(says(&missing["reasons"], "there are: ") && says(&missing["fixes"], "--type https://example.test/none"));
    // Newer releases take keys for bundles.
    let newer = of_json("keyed-bundle", "bundle-key", &[], 0);
    assert!(says(&newer["warnings"], "Kyverno before 1.19"), "{newer:#}");
    of_json("att-bundle", "attb-ok", &[], 0);
    let banned = of_json("att-bundle", "attb-banned", &[], 1);
    assert!(says(&banned["reasons"], "attestation checks failed for https://cyclonedx.org/bom"), "{banned:#}");
    let stranger = of_json("att-bundle", "bundle-key", &[], 0);
    assert!(says(&stranger["warnings"], "Kyverno takes any bundle for a signature"), "{stranger:#}");
    let keyless = of_json("keyless-gitlab-legacy-rekor1", "keyless", &[], 0);
    assert!(says(&keyless["looksFor"], "by a certificate of issuer http://127.0.0.1:5558, subject "), "{keyless:#}");
    // Another name in the cluster, and one that no rule is about.
    let elsewhere = of_json("keyed-legacy", "key", &["--name", "registry.example/app:1"], 3);
    assert_eq!(elsewhere["answer"], "not matched");
    check(&place, &of("keyed-legacy").replace(":v1", ":v9"), &policy("key"), &[]).code(4).stdout("");
}

const KEYED: &str = r#"
kind: ClusterPolicy
metadata: {name: p}
spec:
  rules:
  - name: r
    verifyImages:
    - imageReferences: ["127.0.0.1*"]
      TYPE
      attestors: [{ATTESTORS}]
"#;

#[test]
fn traps_are_told() {
    let registry = Registry::start();
    let digest = registry.put_image("app", "v1", "a");
    let image = format!("{}/app:v1", registry.host());
    let place = Place::without_key();
    for name in ["c", "d"] {
        let file = format!("{name}.key");
        place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", &file]).run().code(0);
    }
    let key = |name: &str| std::fs::read_to_string(place.work().join(format!("{name}.pub"))).expect("a key");
    let keys = |names: &[&str], more: &str| {
        let text: String = names.iter().map(|name| key(name)).collect();
        format!(
            "{{keys: {{publicKeys: {}, rekor: {{ignoreTlog: true}}, ctlog: {{ignoreSCT: true}}}}{more}}}",
            json!(text)
        )
    };
    let ask = |kind: &str, attestors: &str| {
        place.write("p.yaml", KEYED.replace("TYPE", kind).replace("ATTESTORS", attestors));
        let ended = check(&place, &image, "p.yaml", &["-o", "json"]);
        (ended.exit_code(), rules(&ended)[0].take())
    };
    place.affiant(["image", "sign", "--key", "c.key", "-a", "tag=v1", &image]).run().code(0);
    let one = |attestors: &str| ask("type: Cosign", &format!("entries: [{attestors}]"));
    assert_eq!(one(&keys(&["c"], "")).0, 0);
    assert_eq!(one(&keys(&["d"], "")).0, 1);
    let (code, both) = one(&keys(&["c", "d"], ""));
    assert_eq!(code, 1);
    assert!(says(&both["warnings"], "several keys in one `publicKeys`"), "{both:#}");
    let any = ask("type: Cosign", &format!("count: 1, entries: [{}]", keys(&["c", "d"], "")));
    assert_eq!(any.0, 0, "{:#}", any.1);
    // A log is demanded where nothing says that none is.
    let logged = keys(&["c"], "").replace("rekor: {ignoreTlog: true}", "rekor: {url: https://rekor.example}");
    let (code, unlogged) = one(&logged);
    assert_eq!(code, 1);
    assert!(says(&unlogged["fixes"], "ignoreTlog: true"), "{unlogged:#}");
    assert_eq!(one("{keys: {kms: 'awskms:///x'}}").0, 4);
    assert_eq!(one("{certificates: {cert: x}}").0, 4);
    assert_eq!(one("{keyless: {subject: '*', issuer: '*'}}").0, 1, "a key has no certificate");
    assert_eq!(ask("type: Notary", &format!("entries: [{}]", keys(&["c"], ""))).0, 4);
    assert_eq!(ask("mutateDigest: false", &format!("entries: [{}]", keys(&["c"], ""))).0, 1, "a tag is no digest");
    assert_eq!(ask("key: x", &format!("entries: [{}]", keys(&["c"], ""))).0, 4, "members of early releases");
    // Elsewhere.
    let (code, elsewhere) = one(&keys(&["c"], &format!(", repository: {}/signatures", registry.host())));
    assert_eq!(code, 1);
    assert!(says(&elsewhere["looksFor"], "/signatures"), "{elsewhere:#}");
    // Both forms are read.
    let bundles = |attestors: &str| ask("type: SigstoreBundle", &format!("entries: [{attestors}]"));
    assert_eq!(bundles(&keys(&["c"], "")).0, 0);
    assert_eq!(bundles(&keys(&["d"], "")).0, 1);
    // An attestation has no annotations: asking for some fails, whoever has attested.
    place.write("sbom.json", "{}");
    let attest = ["image", "attest", "--key", "c.key", "--type", "https://a.example/t", "--predicate", "sbom.json"];
    place.affiant(attest).with([&*image]).run().code(0);
    let attested = |attestor: &str| {
        let attestations =
            format!("attestations: [{{type: https://a.example/t, attestors: [{{entries: [{attestor}]}}]}}]");
        ask(&attestations, &format!("entries: [{}]", keys(&["c"], "")))
    };
    assert_eq!(attested(&keys(&["c"], "")).0, 0);
    let (code, annotated) = attested(&keys(&["c"], ", annotations: {tag: v1}"));
    assert_eq!(code, 1);
    assert!(
        says(&annotated["reasons"], "annotations mismatch: nothing does not match expected value v1"),
        "{annotated:#}"
    );
    // From 40 referrers on one is warned, above 50 nothing passes: whatever they are.
    let mut refer = |number: usize| {
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x.test",
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
                "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" },
            "layers": [], "annotations": { "n": number.to_string() },
            "subject": { "mediaType": MANIFEST, "digest": digest, "size": 1 } });
        registry.put("app", None, MANIFEST, manifest.to_string().as_bytes());
    };
    (0..40).for_each(&mut refer);
    let (code, many) = bundles(&keys(&["c"], ""));
    assert_eq!(code, 0);
    assert!(says(&many["warnings"], "42 referrers"), "{many:#}");
    (40..49).for_each(&mut refer);
    let (code, more) = bundles(&keys(&["c"], ""));
    assert_eq!(code, 1);
    assert!(says(&more["reasons"], "51 referrers"), "{more:#}");
    assert_eq!(one(&keys(&["c"], "")).0, 0, "tags do not mind");
}

/// A rule by the key in this file.
fn rule_by(place: &Place, name: &str, kind: &str) -> String {
    let key = std::fs::read_to_string(place.work().join(format!("{name}.pub"))).expect("a key");
    let keys = json!({"publicKeys": key, "rekor": {"ignoreTlog": true}, "ctlog": {"ignoreSCT": true}});
    let file = format!("{name}-{kind}.yaml");
    let attestors = format!("entries: [{{keys: {keys}}}]");
    place.write(&file, KEYED.replace("TYPE", &format!("type: {kind}")).replace("ATTESTORS", &attestors));
    file
}

/// An image `app:v1` that `c.key` has signed in both forms.
fn signed_image(registry: &Registry) -> (Place, String, Digest) {
    let digest = registry.put_image("app", "v1", "a");
    let image = format!("{}/app:v1", registry.host());
    let place = Place::without_key();
    for name in ["c", "d"] {
        let file = format!("{name}.key");
        place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", &file]).run().code(0);
    }
    place.affiant(["image", "sign", "--key", "c.key", &image]).run().code(0);
    (place, image, digest)
}

/// Wherever a registry gives no answer, a rule that fails for it and one that passes are equally unknown.
#[test]
fn an_outage_is_no_verdict() {
    let down: Arc<Mutex<&str>> = Arc::default();
    let part = Arc::clone(&down);
    let lie = move |asked: &Asked| {
        let part = *part.lock().expect("no panic");
        (!part.is_empty() && asked.path().contains(part)).then(|| Said::new(500))
    };
    let registry = Registry::with(Door::Open, true, Some(Box::new(lie)));
    let (place, image, _) = signed_image(&registry);
    let by = ["c", "d"].map(|name| rule_by(&place, name, "Cosign"));
    for (policy, code) in by.iter().zip([0, 1]) {
        check(&place, &image, policy, &[]).code(code);
    }
    for part in ["/manifests/v1", "/manifests/sha256-", "/manifests/sha256:", "/referrers/", "/blobs/"] {
        *down.lock().expect("no panic") = part;
        for policy in &by {
            check(&place, &image, policy, &[]).code(4).stdout("").stderr_has(&["no answer", "500"]);
        }
    }
}

/// What is there and too long to be read might count.
#[test]
fn what_is_too_long_is_not_judged() {
    const LONG: u64 = (128 << 20) + 1;
    let registry = Registry::start();
    let (place, image, digest) = signed_image(&registry);
    let of = |name: &str, kind: &str| {
        let ended = check(&place, &image, &rule_by(&place, name, kind), &["-o", "json"]);
        (ended.exit_code(), rules(&ended)[0].take())
    };
    let sig = digest.tag(".sig");
    let mut signatures = registry.manifest("app", &sig).expect("signatures");
    let mut long = signatures["layers"][0].clone();
    long["size"] = json!(LONG);
    signatures["layers"].as_array_mut().expect("a list").push(long);
    registry.put("app", Some(&sig), MANIFEST, signatures.to_string().as_bytes());
    registry.forget();
    for name in ["c", "d"] {
        let (code, rule) = of(name, "Cosign");
        assert_eq!((code, rule["answer"].as_str()), (4, Some("not judged")), "{rule:#}");
        assert!(says(&rule["reasons"], &format!(".sig, layer 1: {LONG} bytes")), "{rule:#}");
    }
    // Bundles are elsewhere, and stay what they are.
    assert_eq!([of("c", "SigstoreBundle").0, of("d", "SigstoreBundle").0], [0, 1]);
    // A bundle that is too long for Kyverno fails all of them, as it does there.
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
        "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" },
        "layers": [{ "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "size": (10 << 20) + 1,
            "digest": Digest::of(b"long") }],
        "subject": { "mediaType": MANIFEST, "digest": digest, "size": 1 } });
    registry.put("app", None, MANIFEST, manifest.to_string().as_bytes());
    let (code, rule) = of("c", "SigstoreBundle");
    assert_eq!(code, 1);
    assert!(says(&rule["reasons"], "a bundle of 10485761 bytes; Kyverno reads 10485760"), "{rule:#}");
    let long = Digest::of(b"long");
    assert!(registry.asked().iter().all(|asked| !asked.path().contains(long.hex())), "it was not fetched");
}

/// Every policy and command of the page, in a registry in the place of the one that it names.
#[test]
fn the_page_does_what_it_shows() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/how-to/kyverno.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let registry = Registry::start();
    registry.put_image("app", "1.2", "a");
    let place = Place::without_key();
    place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "cosign.key"]).run().code(0);
    let key = std::fs::read_to_string(place.work().join("cosign.pub")).expect("a key");
    place.write("sbom.cdx.json", r#"{"bomFormat": "CycloneDX", "components": [{"name": "zlib"}]}"#);
    place.write("provenance.json", r#"{"runDetails": {"builder": {"id": "https://ci.company.com/builder"}}}"#);
    let here = |text: &str| text.replace("registry.company.com", &registry.host());
    let blocks = |language: &str| -> Vec<String> {
        let fence = format!("```{language}\n");
        let parts = page.split(&fence).skip(1);
        parts.filter_map(|part| Some(part.split_once("\n```")?.0.to_owned())).collect()
    };
    let policies = blocks("yaml");
    assert_eq!(policies.len(), 4);
    for text in &policies {
        let name = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a name");
        let indented = |line: &str| {
            let (before, _) = line.split_once('…').expect("the key");
            let lines: Vec<_> = key.lines().filter(|line| !line.starts_with('-')).collect();
            lines.iter().map(|line| format!("{before}{line}")).collect::<Vec<_>>().join("\n")
        };
        let lines: Vec<_> =
            text.lines().map(|line| if line.contains('…') { indented(line) } else { line.to_owned() }).collect();
        place.write(name, here(&lines.join("\n")));
    }
    let mut ran = 0;
    for line in blocks("sh").iter().flat_map(|block| block.lines()) {
        let (words, comment) = line.split_once(" # ").unwrap_or((line, "0"));
        let code = comment.split(':').next().and_then(|code| code.trim().parse().ok()).expect("a code");
        let words = here(words.strip_prefix("affiant ").expect("a command"));
        let _ = place.affiant(words.split_ascii_whitespace()).run().code(code);
        ran += 1;
    }
    assert_eq!(ran, 5);
    // Each policy keeps out what it should.
    let check = |policy: &str, more: &[&str]| check(&place, &here("registry.company.com/app:1.2"), policy, more);
    let sbom = std::fs::read_to_string(place.work().join("require-sbom.yaml")).expect("a policy");
    place.write("banned.yaml", sbom.replace("banned-package", "zlib"));
    check("banned.yaml", &[]).code(1);
    let provenance = std::fs::read_to_string(place.work().join("require-provenance.yaml")).expect("a policy");
    place.write("other.yaml", provenance.replace("https://ci.company.com/*", "https://ci.company.com/other/*"));
    check("other.yaml", &[]).code(1);
    // As the article has it, anybody may attest the SBOM.
    let at = sbom.find("              attestors:").expect("attestors");
    let end = sbom.find("              conditions:").expect("conditions");
    place.write("anybody.yaml", format!("{}{}", &sbom[..at], &sbom[end..]));
    let anybody = rules(&check("anybody.yaml", &["-o", "json"]).code(1))[0].take();
    assert!(says(&anybody["warnings"], "has no attestors: anybody with a certificate"), "{anybody:#}");
    registry.put_image("app", "1.3", "b");
    let unsigned = here("registry.company.com/app:1.3");
    for policy in ["verify-signatures.yaml", "require-sbom.yaml", "require-provenance.yaml", "keyless.yaml"] {
        place.affiant(["kyverno", "check", &unsigned, "-f", policy]).run().code(1);
    }
}

/// Rules about bundles: names are whole texts there, and whom to believe comes from Kyverno's TUF repository.
#[test]
fn keyless_bundles_are_judged_with_a_root_of_trust() {
    const GITLAB: &str = "keyless-gitlab-bundle-rekor2";
    const STAMPED: &str = "keyless-gitlab-bundle-tsaonly";
    const LOGGED: &str = "att-bundle-keyless-rekor1";
    let registry = Registry::start();
    for layout in [GITLAB, STAMPED, LOGGED, "keyed-bundle-rekor1", "keyed-bundle-tsa", "keyed-bundle"] {
        load(&registry, &fixtures().join("cosign/layouts").join(layout), &format!("vec/{layout}"));
    }
    let place = Place::without_key();
    let root = fixtures().join("cosign/trust/trusted_root.json").display().to_string();
    let key = std::fs::read_to_string(fixtures().join("cosign/keys/cosign.pub")).expect("a key");
    let ask = |layout: &str, attestor: &str, more: &[&str]| {
        let text =
            KEYED.replace("TYPE", "type: SigstoreBundle").replace("ATTESTORS", &format!("entries: [{attestor}]"));
        place.write("p.yaml", text);
        let image = format!("{}/vec/{layout}:v1", registry.host());
        let ended = check(&place, &image, "p.yaml", &[&["-o", "json"], more].concat());
        (ended.exit_code(), rules(&ended)[0].take())
    };
    let subject = "subject: https://gitlab.example.test/mygroup/myproject//.gitlab-ci.yml@refs/heads/main";
    let keyless = |names: &str, more: &str| format!("{{keyless: {{{names}{more}}}}}");
    let theirs = format!("{subject}, issuer: 'http://127.0.0.1:5558'");
    let by_key = |more: &str| format!("{{keys: {{publicKeys: {}{more}}}}}", json!(key));
    let no_log = ", rekor: {ignoreTlog: true}";
    let no_sct = ", ctlog: {ignoreSCT: true}";
    let old = &["--kyverno", "1.16", "--trusted-root", &root][..];
    let new = &["--trusted-root", &root][..];
    for (layout, attestor, more, code, says_so) in [
        (GITLAB, keyless(&theirs, ""), old, 0, ""),
        (GITLAB, keyless(&theirs, ""), new, 0, ""),
        (GITLAB, keyless(&theirs, ""), &[], 4, "TUF repository: `--trusted-root`"),
        (GITLAB, keyless(&theirs.replace("main", "dev"), ""), &[], 1, "refs/heads/main"),
        (GITLAB, keyless(&theirs.replace("main", "*"), ""), new, 1, "refs/heads/main"),
        (GITLAB, keyless(&theirs.replace("5558", "5557"), ""), new, 1, "issuer"),
        (GITLAB, keyless("subjectRegExp: mygroup, issuerRegExp: '^http://127'", ""), new, 0, ""),
        (GITLAB, keyless("subjectRegExp: nobody, issuerRegExp: '^http://127'", ""), new, 1, "nobody"),
        (
            GITLAB,
            keyless("subjectRegExp: 'a)|(', issuer: 'http://127.0.0.1:5558'", ""),
            new,
            4,
            "an identity of the rule",
        ),
        (GITLAB, keyless(subject, ""), new, 1, "both subject and issuer"),
        (GITLAB, keyless(&theirs, no_sct), new, 1, "makes no verifier"),
        (GITLAB, keyless(&theirs, &format!("{no_log}{no_sct}")), old, 1, "makes no verifier"),
        (GITLAB, keyless(&theirs, &format!("{no_log}{no_sct}")), new, 4, "must be valid now"),
        (STAMPED, keyless(&theirs, ""), new, 1, "no log entry"),
        (STAMPED, keyless(&theirs, no_log), new, 0, ""),
        (LOGGED, keyless(&theirs, ""), new, 0, ""),
        ("keyed-bundle", keyless(&theirs, ""), new, 1, "no certificate"),
        ("keyed-bundle-rekor1", by_key(""), new, 0, ""),
        ("keyed-bundle-rekor1", by_key(""), &[], 4, "`--trusted-root`"),
        ("keyed-bundle-rekor1", by_key(""), old, 1, "takes no keys"),
        ("keyed-bundle-rekor1", by_key(no_sct), new, 1, "makes no verifier"),
        ("keyed-bundle-tsa", by_key(no_log), new, 0, ""),
        ("keyed-bundle-tsa", by_key(""), new, 1, "log"),
        ("keyed-bundle", by_key(no_log), new, 1, "no timestamp"),
        ("keyed-bundle", by_key(&format!("{no_log}{no_sct}")), &[], 0, ""),
        (GITLAB, by_key(&format!("{no_log}{no_sct}")), new, 1, "by a certificate, not by a key"),
    ] {
        let (found, rule) = ask(layout, &attestor, more);
        assert_eq!(found, code, "{layout} {attestor}: {rule:#}");
        assert!(says_so.is_empty() || says(&rule["reasons"], says_so), "{layout} {attestor}: {rule:#}");
    }
    let (_, rule) = ask(GITLAB, &keyless(&theirs.replace("main", "*"), ", roots: x"), new);
    assert!(says(&rule["warnings"], "are no patterns") && says(&rule["warnings"], "pass over roots"), "{rule:#}");
    check(&place, &format!("{}/vec/{GITLAB}:v1", registry.host()), "p.yaml", &["--trusted-root", "none.json"])
        .code(4)
        .stdout("")
        .stderr_has(&["none.json"]);
}

/// Log entries beside keys, timestamps, and what Kyverno asks Sigstore's services for.
#[test]
fn logs_and_timestamps_under_tags_are_judged() {
    const LOGGED: &str = "keyed-legacy-rekor1";
    const KEYLESS: &str = "keyless-gitlab-legacy-rekor1";
    const STAMPED: &str = "keyless-gitlab-legacy-rekor1-tsa";
    let registry = Registry::start();
    for layout in [LOGGED, KEYLESS, STAMPED] {
        load(&registry, &fixtures().join("cosign/layouts").join(layout), &format!("vec/{layout}"));
    }
    let place = Place::without_key();
    let trust = |name: &str| fixtures().join("cosign/trust").join(name);
    let root = trust("trusted_root.json").display().to_string();
    let read = |file: PathBuf| json!(std::fs::read_to_string(file).expect("PEM"));
    let key = read(fixtures().join("cosign/keys/cosign.pub"));
    let (log, other) = (read(trust("rekor1.pub")), read(trust("ctlog.key.pub")));
    let (authority, stranger) = (read(trust("tsa-chain.pem")), read(trust("fulcio-chain.pem")));
    let by_key = |more: &str| format!("{{keys: {{publicKeys: {key}{more}}}}}");
    let keyless = |more: &str| format!("{{keyless: {{subject: 'https://gitlab.example.test/*', issuer: '*'{more}}}}}");
    let old = &["--kyverno", "1.16", "--trusted-root", &root][..];
    let new = &["--trusted-root", &root][..];
    for (layout, attestor, more, code, says_so) in [
        (LOGGED, by_key(&format!(", rekor: {{pubkey: {log}}}")), &[][..], 0, ""),
        (LOGGED, by_key(&format!(", rekor: {{pubkey: {other}}}")), &[], 1, "log"),
        (LOGGED, by_key(&format!(", rekor: {{pubkey: {other}}}")), new, 1, "log"),
        (LOGGED, by_key(", rekor: {pubkey: x}"), &[], 4, "rekor.pubkey"),
        (LOGGED, by_key(""), &[], 4, "no `rekor.pubkey`"),
        (LOGGED, by_key(""), new, 0, ""),
        (KEYLESS, keyless(""), &[], 4, "no `roots`"),
        (KEYLESS, keyless(""), new, 0, ""),
        (KEYLESS, keyless(", rekor: {ignoreTlog: true}"), new, 1, "it must be valid now"),
        (STAMPED, keyless(""), new, 0, ""),
        (STAMPED, keyless(""), old, 1, "no TSA root certificate(s) provided"),
        (STAMPED, keyless(&format!(", ctlog: {{tsaCertChain: {authority}}}")), old, 0, ""),
        (STAMPED, keyless(&format!(", ctlog: {{tsaCertChain: {stranger}}}")), new, 1, "its timestamp"),
        (STAMPED, keyless(&format!(", rekor: {{ignoreTlog: true}}, ctlog: {{tsaCertChain: {authority}}}")), new, 0, ""),
        (STAMPED, keyless(", rekor: {ignoreTlog: true}"), new, 1, "it must be valid now"),
    ] {
        place.write(
            "p.yaml",
            KEYED.replace("TYPE", "type: Cosign").replace("ATTESTORS", &format!("entries: [{attestor}]")),
        );
        let image = format!("{}/vec/{layout}:v1", registry.host());
        let ended = check(&place, &image, "p.yaml", &[&["-o", "json"], more].concat());
        let rule = rules(&ended)[0].take();
        assert_eq!(ended.exit_code(), code, "{layout} {attestor}: {rule:#}");
        assert!(says_so.is_empty() || says(&rule["reasons"], says_so), "{layout} {attestor}: {rule:#}");
        assert_eq!(says(&rule["fixes"], "tsaCertChain"), says_so.starts_with("no TSA"), "{rule:#}");
    }
}

#[test]
fn files_that_are_no_policies_are_refused() {
    let registry = Registry::start();
    registry.put_image("app", "v1", "a");
    let image = format!("{}/app:v1", registry.host());
    let place = Place::without_key();
    for (text, part) in [
        ("", "no ClusterPolicy"),
        ("kind: Pod\n---\nkind: Service", "(there is: Pod, Service)"),
        ("kind: ClusterPolicy\nspec: {rules: [{name: a, validate: {}}]}", "no ClusterPolicy"),
        ("kind: ClusterPolicy\nspec: {rules: [{verifyImages: [{type: Sigstore}]}]}", "unknown variant `Sigstore`"),
        ("kind: [", "document 1"),
        ("kind: a\nkind: b", "document 1"),
    ] {
        place.write("p.yaml", text);
        check(&place, &image, "p.yaml", &[]).code(4).stdout("").stderr_has(&["p.yaml cannot be used", part]);
    }
    check(&place, &image, "none.yaml", &[]).code(4).stdout("");
    check(&place, &image, &policy("key"), &["--kyverno", "new"]).code(2).stdout("");
}

/// A member that no release knows was meant to say something: what it says is not judged, and never passes.
#[test]
fn members_that_kyverno_does_not_know_are_not_judged() {
    let registry = Registry::start();
    recorded(&registry);
    let place = Place::without_key();
    let image = format!("{}/vec/keyed-legacy:v1", registry.host());
    let good = std::fs::read_to_string(policy("key")).expect("a policy");
    check(&place, &image, &policy("key"), &[]).code(0);
    for (from, to, part) in [
        ("attestors:", "atestations: []\n      attestors:", "`atestations` (`attestations`?)"),
        ("ignoreTlog", "ignoreTLog", "`attestors.entries.keys.rekor.ignoreTLog`"),
        ("verifyImages:", "verifyImage: []\n    verifyImages:", "`verifyImage`"),
    ] {
        assert!(good.contains(from), "{good}");
        place.write("p.yaml", good.replacen(from, to, 1));
        let ended = check(&place, &image, "p.yaml", &["-o", "json"]).code(4);
        if part == "`verifyImage`" {
            ended.stdout("").stderr_has(&[part]);
            continue;
        }
        let rules = rules(&ended);
        assert_eq!(rules[0]["answer"], "not judged");
        assert!(says(&rules[0]["reasons"], part), "{rules:#}");
    }
    // Known ones that say nothing of the image pass silently.
    let more = "required: true\n      useCache: true\n      imageRegistryCredentials: {secrets: [a]}\n      attestors:";
    place.write("p.yaml", good.replacen("attestors:", more, 1));
    let known = rules(&check(&place, &image, "p.yaml", &["-o", "json"]).code(0));
    assert!(!says(&known[0]["warnings"], "not judged"));
    // A release that nobody here knows.
    let newer = rules(&check(&place, &image, &policy("key"), &["-o", "json", "--kyverno", "1.99"]).code(0));
    assert!(says(&newer[0]["warnings"], "Kyverno 1.99 is newer than"), "{newer:#}");
    let known = rules(&check(&place, &image, &policy("key"), &["-o", "json"]).code(0));
    assert!(!says(&known[0]["warnings"], "newer"));
}
