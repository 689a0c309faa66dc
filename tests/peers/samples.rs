//! The kept evidence of `fixtures/samples` still reads as it was made. No peer is needed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::{Place, fixture, need, text};

/// Path and SHA-256 of each product, of either form.
fn products(predicate: &Value) -> BTreeMap<String, String> {
    if predicate["merkleRoot"].is_null() {
        let map = predicate.as_object().expect("a map");
        return map
            .iter()
            .map(|(path, product)| (path.clone(), text(&product["digest"]["sha256"]).to_owned()))
            .collect();
    }
    let lists = [&predicate["leaves"], &predicate["affiant"]["alike"]].into_iter().filter_map(Value::as_array);
    let of = |leaf: &Value| (text(&leaf["path"]).to_owned(), text(&leaf["fileDigest"]).to_owned());
    lists.flatten().map(of).collect()
}

#[test]
fn kept_evidence_is_read_and_names_the_products_beside_it() {
    need!("git", "jq", "sha256sum");
    let place = Place::new();
    let mut cases = 0;
    for entry in std::fs::read_dir(fixture("samples")).expect("fixtures").flatten() {
        let folder = entry.path();
        // `verdict` holds what the gate says, not evidence, `attached` evidence beside an image, and `keyless` is by no key:
        // tests of their own read them.
        if !folder.is_dir() || ["verdict", "attached", "keyless"].iter().any(|name| folder.ends_with(name)) {
            continue;
        }
        cases += 1;
        let (name, at) = (entry.file_name().to_string_lossy().into_owned(), folder.display());
        place.affiant(&format!("inspect --key {at}/functionary.pub {at}/evidence.json")).code(0);
        let stranger = fixture("keys/stranger.pub");
        place.affiant(&format!("inspect --key {} {at}/evidence.json", stranger.display())).code(1);

        let evidence = crate::harness::Evidence::read(&folder.join("evidence.json"));
        let collection = &evidence.statement["predicate"];
        let step = if name.starts_with("sbom-") { "docker-sbom" } else { "docker-build" };
        let step = if name == "failed" { format!("{step}#failed") } else { step.to_owned() };
        assert_eq!(collection["name"], step.as_str(), "{name}");
        assert_eq!(collection["gaps"].is_null(), name != "gaps", "{name}: {}", collection["gaps"]);
        if name == "attest" {
            assert_eq!(collection["affiant"]["ending"]["kind"], "none", "{name}");
        } else {
            assert_eq!(evidence.predicate("command-run")["exitcode"], if name == "failed" { 7 } else { 0 }, "{name}");
        }

        if ["slsa", "link"].contains(&name.as_str()) {
            let own = folder.join(format!("evidence.json-{name}.json"));
            place.affiant(&format!("inspect --key {at}/functionary.pub {}", own.display())).code(0);
            let own = crate::harness::Evidence::read(&own).statement;
            let subjects = own["subject"].as_array().expect("a list");
            assert!(subjects.iter().any(|subject| text(&subject["name"]).ends_with("image.tar")), "{name}");
            let run = subjects.iter().find(|subject| subject["name"] == "affiant:run").expect("the run");
            let payload = format!("jq -r .payload '{at}/evidence.json' | base64 -d | sha256sum | cut -c1-64");
            assert_eq!(text(&run["digest"]["sha256"]), place.sh(&payload), "{name}");
        }
        let products = products(evidence.predicate("product"));
        for (path, recorded) in &products {
            let digest = place.sh(&format!("sha256sum '{at}/{path}' | cut -c1-64"));
            assert_eq!(recorded, &digest, "{name}: {path}");
        }
        let beside: BTreeSet<_> = std::fs::read_dir(&folder)
            .expect("a folder")
            .flatten()
            .map(|file| file.file_name().to_string_lossy().into_owned())
            .filter(|file| !["command", "evidence.json", "functionary.pub"].contains(&file.as_str()))
            .filter(|file| !file.starts_with("evidence.json-") && !file.contains(".link"))
            .collect();
        assert_eq!(beside, products.keys().cloned().collect(), "{name}");
    }
    assert_eq!(cases, 18);
}

/// What was signed by an identity years ago is judged by the times that were proven then, with the roots beside it.
#[test]
fn kept_evidence_without_a_key_holds() {
    let place = Place::on_the_real_clock();
    let kept = fixture("samples/keyless");
    let (at, root) = (kept.display(), kept.join("trusted_root.json").display().to_string());
    let issuer = std::fs::read_to_string(kept.join("issuer")).expect("read");
    let flags = |identity: &str| {
        format!("--trusted-root {root} --certificate-oidc-issuer {} --certificate-identity {identity}", issuer.trim())
    };
    for (identity, code) in [(crate::stack::GITLAB, 0), (crate::stack::GITHUB, 12)] {
        let flags = flags(identity);
        for check in [
            format!("image verify {flags} -a tag=1 oci:{at}/layout:1"),
            format!("image verify-attestation {flags} --type https://a.example/t oci:{at}/layout:1"),
            format!("image verify-blob {flags} --bundle {at}/hello.txt.bundle.json {at}/hello.txt"),
        ] {
            place.affiant(&check).code(code);
        }
    }
    place.affiant("key generate --no-password -o ../policy.key").code(0);
    let policy = format!(
        "expires: 30d\nroots: {{fulcio: {{certificate: fulcio-root.pem, intermediates: [fulcio-issuer.pem]}}}}\n\
         timestampauthorities: {{tsa: tsa-root.pem}}\nsteps:\n  docker-build:\n    functionaries:\n      - certConstraint:\n          \
         uris: ['{}']\n          roots: [fulcio]\n          extensions: {{Issuer: '{}'}}\n    attestations: [{{type: oci}}]\n",
        crate::stack::GITLAB,
        issuer.trim()
    );
    std::fs::write(place.beside("policy.yaml"), policy).expect("written");
    place.sh(&format!(
        "cd .. && cp {at}/*.pem . && affiant policy compile policy.yaml -o policy.json && affiant sign -k policy.key -f policy.json -o signed.json"
    ));
    let ended = place
        .affiant(&format!("verify -p ../signed.json -k ../policy.pub -a {at}/evidence.json -f {at}/image.tar"))
        .code(0);
    ended.stdout_has(&["PASSED: "]);
}
