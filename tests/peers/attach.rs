//! What affiant attaches to images is read by real cosign, and the other way round: `download`, `clean`, attested files;
//! and `BuildKit`'s own attestations, signed. On registries of both kinds.

use serde_json::Value;

use crate::harness::{Ended, Place, decode, need, text, variable};

const COLLECTION: &str = "https://witness.testifysec.com/attestation-collection/v0.1";
const LOOSE: &str = "--insecure-ignore-tlog=true --private-infrastructure --allow-http-registry";

/// A registry without a list of referrers, and one with.
fn registries() -> Vec<String> {
    let of = |name: &str| variable(&format!("AFFIANT_PEERS_REGISTRY{name}")).expect("it runs");
    vec![of(""), of("_REFERRERS")]
}

/// A place with a P-256 key of cosign's form, which affiant and cosign sign with.
fn place() -> Place {
    let place = Place::on_the_real_clock();
    sh(&place, "cosign2 generate-key-pair --output-key-prefix ../c");
    place
}

/// A script that must succeed; its output.
fn sh(place: &Place, script: &str) -> String {
    place.sh(&format!("export COSIGN_PASSWORD= COSIGN_YES=true AFFIANT_KEY_PASSWORD=\n{script}"))
}

/// Whether a line succeeds, and what it says.
fn call(place: &Place, line: &str) -> Ended {
    let mut command = place.command("sh");
    command.args(["-c", line]).env("COSIGN_PASSWORD", "").env("COSIGN_YES", "true");
    Ended::of(&command.output().expect("a shell"))
}

/// A new image of crane's; its name by digest.
fn push(place: &Place, host: &str, name: &str) -> String {
    let name = format!("{host}/attach/{}-{name}", place.unique());
    sh(
        place,
        &format!(
            "echo {name} >unique; tar cf ../layer.tar unique; crane append --oci-empty-base -f ../layer.tar -t {name}:1 >/dev/null\n\
             echo {name}@$(crane digest {name}:1)"
        ),
    )
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON on each line")).collect()
}

/// The statements that a download prints, in whatever form.
fn statements(text: &str) -> Vec<Vec<u8>> {
    let of = |line: &Value| {
        let envelope = if line["dsseEnvelope"].is_object() { &line["dsseEnvelope"] } else { line };
        decode(&envelope["payload"])
    };
    let mut all: Vec<_> = lines(text).iter().map(of).collect();
    all.sort();
    all
}

#[test]
fn cosign_reads_what_a_run_attaches() {
    need!("registry", "registry-referrers", "crane", "cosign2", "cosign3", "docker", "buildkitd");
    for host in registries() {
        let place = place();
        let name = format!("{host}/attach/{}-built", place.unique());
        sh(
            &place,
            &format!(
                "affiant run --key ../c.key -s build -a docker,slsa --attach -o ../build.json -- \
                 docker buildx build --provenance=false --metadata-file m.json -t {name}:1 --push . 2>&1"
            ),
        );
        let image = format!("{name}@{}", sh(&place, &format!("crane digest {name}:1")));
        let verify = |cosign: &str, kind: &str, key: &str| {
            call(&place, &format!("{cosign} verify-attestation --key {key} --type {kind} {LOOSE} {image}"))
        };
        for kind in [COLLECTION, "https://slsa.dev/provenance/v1"] {
            let said = verify("cosign3", kind, "../c.pub");
            assert!(said.passed(), "{host}: {kind}: {}", said.stderr);
            assert!(verify("affiant image", kind, "../c.pub").passed());
        }
        sh(&place, "cosign2 generate-key-pair --output-key-prefix ../other");
        assert!(!verify("cosign3", COLLECTION, "../other.pub").passed(), "another key");
        // Byte for byte what was archived.
        let written: Value =
            serde_json::from_slice(&std::fs::read(place.beside("build.json")).expect("read")).expect("JSON");
        let kept =
            statements(&sh(&place, &format!("cosign3 download attestation --predicate-type {COLLECTION} {image}")));
        assert_eq!(kept, [decode(&written["payload"])]);
        // Under the tag, for cosign of old.
        sh(&place, &format!("affiant image attach --key ../c.pub --format att {image} ../build.json"));
        sh(
            &place,
            &format!(
                "affiant image copy {name}:1 {name}-tag:1 && affiant image clean --yes --type referrer {name}-tag:1"
            ),
        );
        let tagged = image.replace(&name, &format!("{name}-tag"));
        let said =
            call(&place, &format!("cosign2 verify-attestation --key ../c.pub --type {COLLECTION} {LOOSE} {tagged}"));
        assert!(said.passed(), "{host}: {}", said.stderr);
        // It is no signature: for us. cosign v3 takes any bundle of the key for one, which is why nothing of a failed
        // run is ever attached.
        assert!(!call(&place, &format!("affiant image verify --key ../c.pub {image}")).passed());
        assert!(
            call(&place, &format!("cosign3 verify --key ../c.pub {LOOSE} {image}")).passed(),
            "rule 16 has a reason"
        );
    }
}

/// More subjects than a bundle may have: cosign v3 verifies what the run signs of the image alone.
#[test]
fn cosign_verifies_the_statement_about_the_image_alone() {
    need!("registry", "registry-referrers", "crane", "cosign2", "cosign3");
    for host in registries() {
        let place = place();
        let image = push(&place, &host, "many");
        let (name, digest) = image.split_once('@').expect("a digest");
        let metadata = serde_json::json!({"image.name": name, "containerimage.digest": digest,
            "containerimage.descriptor": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1}});
        std::fs::write(place.beside("m.json"), metadata.to_string()).expect("written");
        sh(
            &place,
            "affiant run --key ../c.key -s build -a docker --attach -o ../many.json -- \
             sh -c 'cp ../m.json m.json; for i in $(seq 1100); do echo $i > f$i; done' 2>&1",
        );
        let verify = |cosign: &str, key: &str| {
            call(&place, &format!("{cosign} verify-attestation --key {key} --type {COLLECTION} {LOOSE} {image}"))
        };
        let said = verify("cosign3", "../c.pub");
        assert!(said.passed(), "{host}: {}", said.stderr);
        let of_cosign = statements(&said.stdout);
        assert_eq!(of_cosign.len(), 1, "the whole is none that cosign reads");
        let alone: Value = serde_json::from_slice(&of_cosign[0]).expect("a statement");
        assert_eq!(alone["subject"].as_array().map(Vec::len), Some(1));
        let written: Value =
            serde_json::from_slice(&std::fs::read(place.beside("many.json")).expect("read")).expect("JSON");
        let whole: Value = serde_json::from_slice(&decode(&written["payload"])).expect("a statement");
        assert_eq!(alone["predicate"], whole["predicate"]);
        sh(&place, "cosign2 generate-key-pair --output-key-prefix ../other");
        assert!(!verify("cosign3", "../other.pub").passed(), "another key");
        assert!(verify("affiant image", "../c.pub").passed());
    }
}

#[test]
fn downloads_are_cosigns() {
    need!("registry", "registry-referrers", "crane", "cosign2", "cosign3");
    for host in registries() {
        let place = place();
        let (old, new) = (push(&place, &host, "old"), push(&place, &host, "new"));
        let attest = "--type https://a.example/t --predicate ../p.json --key ../c.key --tlog-upload=false";
        sh(
            &place,
            &format!(
                "echo '{{\"a\":1}}' > ../p.json\n\
                 cosign2 sign --key ../c.key --tlog-upload=false -a k=v {old}; cosign2 attest {attest} {old}\n\
                 cosign3 sign --key ../c.key --use-signing-config=false --tlog-upload=false -a k=v {new}\n\
                 cosign3 attest --use-signing-config=false {attest} {new}"
            ),
        );
        // The same members with the same values.
        let both = |line: &str, cosign: &str| {
            (sh(&place, &format!("{cosign} download {line}")), sh(&place, &format!("affiant image download {line}")))
        };
        let (theirs, ours) = both(&format!("signature {old}"), "cosign2");
        assert_eq!(lines(&ours), lines(&theirs));
        assert_eq!(ours, theirs, "to the byte");
        let (theirs, ours) = both(&format!("attestation {old}"), "cosign2");
        assert_eq!(lines(&ours), lines(&theirs));
        // cosign prints attestations as signatures and signatures as attestations; together it is the same.
        let (theirs, ours) = both(&format!("attestation {new}"), "cosign3");
        let signatures = sh(&place, &format!("affiant image download signature {new}"));
        let mut all = [statements(&ours), statements(&signatures)].concat();
        all.sort();
        assert_eq!(all, statements(&theirs));
        assert_eq!(statements(&signatures).len(), 1);
        let (theirs, ours) = both(&format!("attestation --predicate-type https://a.example/t {new}"), "cosign3");
        assert_eq!(statements(&ours), statements(&theirs));
        assert_eq!(statements(&sh(&place, &format!("affiant image download bundle {new}"))).len(), 2);
        for cosign in ["cosign2", "cosign3", "affiant image"] {
            assert!(
                !call(&place, &format!("{cosign} download attestation --predicate-type https://a.example/none {old}"))
                    .passed()
            );
        }
    }
}

#[test]
fn what_either_has_made_is_taken_away() {
    need!("registry", "registry-referrers", "crane", "cosign2", "cosign3");
    let place = place();
    for host in registries() {
        for maker in [
            "cosign2 sign --tlog-upload=false",
            "cosign3 sign --use-signing-config=false --tlog-upload=false",
            "affiant image sign",
        ] {
            let image = push(&place, &host, "clean");
            let is_signed = || call(&place, &format!("affiant image verify --key ../c.pub {image}")).passed();
            sh(&place, &format!("{maker} --key ../c.key {image}"));
            assert!(is_signed(), "{host}: {maker}");
            let said = call(&place, &format!("affiant image clean --type signature --yes {image}"));
            // Debian's registry deletes only where it is told to.
            if said.passed() {
                assert!(said.stderr.contains("deleted: signatures"), "{}", said.stderr);
                assert!(!is_signed(), "{host}: {maker}");
                assert!(call(&place, &format!("crane manifest {image}")).passed(), "the image is there");
                sh(&place, &format!("{maker} --key ../c.key {image}"));
                assert!(is_signed(), "signed anew");
                let cleaned = call(&place, &format!("cosign3 clean --force --type all {image}"));
                assert!(cleaned.passed(), "{}", cleaned.stderr);
                assert!(call(&place, &format!("affiant image tree {image}")).passed(), "what is left is read");
            } else {
                assert!(said.stderr.contains("was not deleted; 0 of"), "{}", said.stderr);
                assert!(is_signed(), "nothing was lost");
            }
        }
    }
}

#[test]
fn files_attested_by_one_are_checked_by_the_other() {
    need!("cosign2", "cosign3");
    let place = place();
    sh(&place, "echo bytes > f; echo '{\"a\":1}' > p.json; ln -s $(command -v affiant) ../cosign");
    let kind = "--type https://a.example/t";
    let attest = format!("attest-blob --key ../c.key --tlog-upload=false --predicate p.json {kind}");
    sh(
        &place,
        &format!(
            "../cosign {attest} --bundle ours.json f; ../cosign {attest} --output-signature ours.sig f\n\
             cosign2 {attest} --output-signature old.sig f; cosign3 {attest} --use-signing-config=false --bundle new.json f"
        ),
    );
    let check = format!("verify-blob-attestation --key ../c.pub --insecure-ignore-tlog {kind}");
    for (who, from) in [
        ("cosign3", "--bundle ours.json"),
        ("cosign2", "--signature ours.sig"),
        ("../cosign", "--bundle new.json"),
        ("../cosign", "--signature old.sig"),
        ("../cosign", "--bundle ours.json"),
    ] {
        let said = call(&place, &format!("{who} {check} {from} f"));
        assert!(said.passed(), "{who} {from}: {}", said.stderr);
        assert!(!call(&place, &format!("{who} {check} {from} p.json")).passed(), "another file");
    }
}

/// The container tutorial's second build: pushed as an index with provenance and an SBOM, which nobody has signed.
#[test]
fn attestations_of_buildkit_are_signed_for_each_platform() {
    need!("registry", "registry-referrers", "crane", "cosign3", "docker", "buildkitd");
    for host in registries() {
        let place = place();
        let name = format!("{host}/attach/{}-multi", place.unique());
        sh(
            &place,
            &format!(
                "affiant run --key ../c.key -s build -a docker --attach -o ../build.json -- docker buildx build \
                 --provenance=mode=max --platform linux/amd64,linux/arm64 --metadata-file m.json -t {name}:1 --push . 2>&1"
            ),
        );
        let before = sh(&place, &format!("crane manifest {name}:1"));
        sh(&place, &format!("affiant image import-buildkit --key ../c.key --attested-by ../build.json {name}:1"));
        assert_eq!(sh(&place, &format!("crane manifest {name}:1")), before, "the index is as it was");
        let index: Value = serde_json::from_str(&before).expect("JSON");
        let platforms: Vec<&Value> = index["manifests"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|one| one["platform"]["os"] == "linux")
            .collect();
        assert_eq!(platforms.len(), 2);
        for platform in platforms {
            let image = format!("{name}@{}", text(&platform["digest"]));
            let said = sh(&place, &format!("affiant image download attestation {image}"));
            let kind: Value = serde_json::from_slice(&statements(&said)[0]).expect("JSON");
            let kind = text(&kind["predicateType"]).to_owned();
            assert!(kind.starts_with("https://slsa.dev/provenance/"), "{kind}");
            for cosign in ["cosign3", "cosign3 --new-bundle-format=false", "affiant image"] {
                let (program, more) = cosign
                    .split_once(" --")
                    .map_or((cosign, String::new()), |(program, flag)| (program, format!("--{flag}")));
                let said = call(
                    &place,
                    &format!("{program} verify-attestation {more} --key ../c.pub --type {kind} {LOOSE} {image}"),
                );
                assert!(said.passed(), "{host}: {cosign}: {}", said.stderr);
            }
        }
        // A build that nobody observed.
        sh(
            &place,
            &format!(
                "echo more >> hello.txt; docker buildx build --provenance=mode=max --platform linux/amd64,linux/arm64 -t {name}:2 --push . 2>&1"
            ),
        );
        let said =
            call(&place, &format!("affiant image import-buildkit --key ../c.key --attested-by ../build.json {name}:2"));
        assert!(!said.passed() && said.stderr.contains("has made no such index"), "{}", said.stderr);
    }
}

#[test]
fn a_repository_that_others_filled_is_looked_through() {
    need!("registry", "registry-referrers", "crane", "cosign2", "cosign3");
    for host in registries() {
        let place = place();
        let image = push(&place, &host, "audit");
        let name = image.split('@').next().expect("a name").to_owned();
        sh(
            &place,
            &format!(
                "cosign2 sign --key ../c.key --tlog-upload=false -a tag=1 {image}\n\
                 date +%N > more; tar cf ../more.tar more; crane append --oci-empty-base -f ../more.tar -t {name}:1"
            ),
        );
        let said = sh(&place, &format!("affiant image audit --key ../c.pub -o json {name}"));
        let found: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(found["images"][0]["signed"], false, "{said}");
        assert_eq!(found["replaced"][0]["tag"], "1", "{said}");
        assert_eq!(format!("{name}@{}", text(&found["replaced"][0]["was"])), image);
        assert_eq!(found["orphaned"], Value::Array(Vec::new()));
    }
}
