//! cilock's tutorial "Sign and verify a container image", end to end: build, SBOM, push, sign, evidence with the image,
//! and one question to the gate; then each row of its table of failures.

use crate::harness::{Ended, Place, variable};
use crate::hosts::{affiant, call, need_registries, place, registries, sh};

/// The rule of the tutorial, word for word.
const SUBJECT_MATCH: &str = include_str!("../../fixtures/tutorials/subject_match.rego");
const BRANCH: &str = r#"package git.branch
import rego.v1
deny contains msg if {
    input.branch != "main"
    msg := sprintf("built from the branch %s", [input.branch])
}
"#;
const POLICY: &str = "expires: 30d
publickeys: {builder: k.pub, signer: signer.pub}
images:
  functionaries: [{publickeyid: signer}]
steps:
  docker-build:
    functionaries: [{publickeyid: builder}]
    exitcode: 0
    attestations:
      - {type: git, rego: branch.rego}
      - {type: docker}
      - {type: oci, rego: subject_match.rego}
  docker-sbom:
    functionaries: [{publickeyid: builder}]
    artifactsFrom: docker-build
    attestations: [{type: cyclonedx}]
";

const BUILD: &str = r#"affiant run -s docker-build -a environment,git,docker,oci --attestor-product-include-glob "{docker-metadata.json,image.tar}" -- docker buildx build --metadata-file docker-metadata.json -t NAME:1 -o type=docker,dest=image.tar ."#;
const SBOM: &str = "affiant run -s docker-sbom -a environment,git,sbom --attestor-product-include-glob image-bom.cdx.json -- syft image.tar -o cyclonedx-json=image-bom.cdx.json";
const PUSH: &str = "docker buildx build --metadata-file pushed.json -t NAME:2 --push .";

/// A line of the pipeline, with key and outfile from the environment.
fn run(place: &Place, line: &str, name: &str, outfile: &str) {
    let line = line.replace("NAME", name);
    sh(place, &format!("export AFFIANT_KEY=../k.key AFFIANT_OUTFILE=../{outfile}; {line}"));
}

fn keys(place: &Place) {
    sh(
        place,
        "cd .. && affiant key generate --no-password -o k.key && affiant key generate --no-password --kind ed25519 -o policy.key\n\
         affiant image generate-key-pair --output-key-prefix signer",
    );
}

fn policy(place: &Place, source: &str) {
    for (name, text) in [("subject_match.rego", SUBJECT_MATCH), ("branch.rego", BRANCH), ("policy.yaml", source)] {
        std::fs::write(place.beside(name), text).expect("written");
    }
    sh(place, "cd .. && affiant policy compile policy.yaml -o policy.json && affiant policy check policy.json >&2");
    sh(place, "cd .. && affiant sign -k policy.key -f policy.json -o policy.signed.json");
}

/// The gate, with the evidence that is named and what lies with the image: the archive is not asked then.
fn verify(place: &Place, image: &str, more: &[&str]) -> Ended {
    let line = ["verify", "-p", "../policy.signed.json", "-k", "../policy.pub", "--image", image];
    affiant(place, &[&line[..], more].concat())
}

#[track_caller]
fn passes(ended: &Ended) {
    assert!(ended.passed(), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.starts_with("PASSED: "), "{}", ended.stdout);
}

#[track_caller]
fn denied(ended: &Ended, why: &str) {
    let words = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.starts_with("DENIED: ") && words.contains(why), "{why}: {}{}", ended.stdout, ended.stderr);
}

#[test]
fn the_container_tutorial_of_cilock_with_a_key() {
    need_registries!("buildkitd", "docker", "git", "syft", "crane", "cosign2", "cosign3");
    for host in registries() {
        let place = place();
        // buildx is a plugin of the docker that the setup has made.
        let plugins = format!("{}/cli-plugins", variable("DOCKER_CONFIG").expect("it is set"));
        sh(&place, &format!("ln -s '{plugins}' ../home/.docker/cli-plugins"));
        keys(&place);
        let name = format!("{host}/{}", place.unique());
        run(&place, BUILD, &name, "build.json");
        run(&place, SBOM, &name, "sbom.json");
        policy(&place, POLICY);

        // The tarball itself is pushed; what was pushed is signed, and gets its evidence.
        let image = format!("{name}:1");
        let _ = affiant(&place, &["image", "push", "image.tar", &image]).code(0);
        denied(&verify(&place, &image, &["-a", "../build.json,../sbom.json"]), "none is kept with sha256:");
        let _ = affiant(&place, &["image", "sign", "--key", "../signer.key", &image]).code(0);
        passes(&verify(&place, &image, &["-a", "../build.json,../sbom.json"]));
        let attach = ["image", "attach", "--key", "../k.pub", &image, "../build.json"];
        let _ = affiant(&place, &attach).code(0);
        passes(&verify(&place, &image, &["-a", "../sbom.json"]));

        // Built a second time, into an index with its provenance, and signed by cosign.
        sh(&place, &PUSH.replace("NAME", &name));
        let second = format!("{name}:2");
        assert!(sh(&place, &format!("crane manifest {second}")).contains("attestation-manifest"), "an index");
        let digest = sh(&place, &format!("crane digest {second}"));
        let by_digest = format!("{name}@{digest}");
        for (cosign, more) in [("cosign2", "--tlog-upload=false"), ("cosign3", "--use-signing-config=false")] {
            let line = ["sign", "--yes", "--key", "../signer.key", "--tlog-upload=false", more, &by_digest];
            let line: Vec<&str> = line
                .iter()
                .enumerate()
                .filter(|(at, one)| *at < 5 || **one != "--tlog-upload=false")
                .map(|(_, one)| *one)
                .collect();
            let _ = call(&place, cosign, &line).code(0);
        }
        let evidence = ["-a", "../build.json,../sbom.json"];
        let ended = verify(&place, &second, &[&evidence[..], &["--digest-out", "../deploy.txt"]].concat());
        passes(&ended);
        assert_eq!(sh(&place, "cat ../deploy.txt"), by_digest);

        rows(&place, &name);
    }
}

/// The tutorial's table of failures, and the reason of each.
fn rows(place: &Place, name: &str) {
    let evidence = ["-a", "../build.json,../sbom.json"];
    // The manifest is replaced in the registry.
    let evil = format!("{name}:evil");
    sh(place, &format!("echo evil >evil && tar -cf evil.tar evil && crane append -b {name}:1 -f evil.tar -t {evil}"));
    denied(&verify(place, &evil, &evidence), "none is kept with sha256:");
    // Also where somebody who may not signs it, and where the signer signs it blindly.
    sh(place, "cd .. && COSIGN_PASSWORD= affiant image generate-key-pair --output-key-prefix stranger");
    let _ = affiant(place, &["image", "sign", "--key", "../stranger.key", &evil]).code(0);
    denied(&verify(place, &evil, &evidence), "invalid signature");
    let _ = affiant(place, &["image", "sign", "--key", "../signer.key", &evil]).code(0);
    denied(&verify(place, &evil, &evidence), "none of what there is (../build.json) is about it");
    // The evidence of the image that was there before says so, where it is asked.
    let id = sh(place, &format!("crane config {name}:1 | sha256sum | cut -c1-64"));
    let found = verify(place, &evil, &[&evidence[..], &["-s", &format!("sha256:{id}")]].concat());
    denied(&found, "image digest mismatch: cilock has sha256:");
    // The SBOM is missing from the collection, and the step is missing at all.
    run(
        place,
        "affiant run -s docker-sbom -a environment,git -- sh -c 'touch image-bom.cdx.json; cp image.tar kept.tar'",
        name,
        "no-sbom.json",
    );
    let image = format!("{name}:1");
    denied(&verify(place, &image, &["-a", "../build.json,../no-sbom.json"]), "missing https://cyclonedx.org/bom");
    denied(&verify(place, &image, &["-a", "../build.json"]), "step docker-sbom: no evidence");
    // Another branch: what was built there is another image, with evidence of its own.
    sh(
        place,
        "git checkout -q -b feature && rm -f image.tar kept.tar && echo feature >app/hello && git commit -qam feature",
    );
    run(place, BUILD, name, "branch.json");
    run(place, SBOM, name, "branch-sbom.json");
    let branch = format!("{name}:3");
    let _ = affiant(place, &["image", "push", "image.tar", &branch]).code(0);
    let _ = affiant(place, &["image", "sign", "--key", "../signer.key", &branch]).code(0);
    let evidence = ["-a", "../branch.json,../branch-sbom.json"];
    denied(&verify(place, &branch, &evidence), "built from the branch feature");
}
