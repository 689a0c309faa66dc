//! The same step twice, in fresh equal folders under a fixed clock: nothing differs but what the command itself varies.

use crate::compare::{beyond, differing};
use crate::harness::{Evidence, Place, need};

/// Progress text has times in it.
const PROGRESS: &[&str] =
    &["/command-run/stderr", "/command-run/affiant/stderr/sha256", "/command-run/affiant/stderr/length"];
/// A metadata file names the build's record, which is new at each build.
const METADATA: &[&str] =
    &["/product/m.json/digest/sha256", "/subject/*/digest/sha256", "/docker/affiant/images/*/buildRef"];
/// Attestation manifests hold times of the build. With them index, `index.json` and tarball change; the platforms'
/// manifests and the image ids do not.
const ATTESTED: &[&str] = &[
    "/subject/*/name",
    "/predicate/backrefs/*",
    "/product/*/digest/sha256",
    "/docker/products/*",
    "/docker/affiant/images/*/digest",
    "/docker/affiant/images/*/size",
    "/oci/tardigest/sha256",
    "/oci/affiant/layoutIndex/sha256",
    "/oci/affiant/indexes/*/digest",
    "/oci/affiant/indexes/*/manifests/2",
    "/oci/affiant/indexes/*/manifests/3",
    "/oci/affiant/images/*/index",
    "/oci/affiant/notImages/*/digest",
];

/// What `run` says in the same folder, made anew before each of two calls. The builder keeps its cache, as on a build
/// machine.
fn twice(place: &Place, run: impl Fn() -> Evidence) -> [Evidence; 2] {
    [(), ()].map(|()| {
        place.refresh();
        run()
    })
}

/// The pointers that differ are among `allowed`, and the subjects that differ begin with one of `subjects`.
#[track_caller]
fn only_differ([one, two]: &[Evidence; 2], allowed: &[&[&str]], subjects: &[&str]) {
    let found = differing(&one.statement, &two.statement);
    let more = beyond(&found, &allowed.concat());
    assert!(more.is_empty(), "these differ too: {more:#?}");
    // Equal values in an equal order, written the same way.
    assert_eq!(found.is_empty(), one.payload == two.payload, "values and bytes do not agree: {found:?}");
    let (one, two) = (one.subjects(), two.subjects());
    let differ = one
        .iter()
        .chain(&two)
        .filter(|(name, digest)| one.get(*name) != Some(digest) || two.get(*name) != Some(digest));
    let more: Vec<_> = differ.filter(|(name, _)| !subjects.iter().any(|start| name.starts_with(start))).collect();
    assert!(more.is_empty(), "these subjects differ too: {more:#?}");
}

#[test]
fn a_script_gives_equal_payloads() {
    need!("git");
    let place = Place::new();
    let [one, two] = twice(&place, || place.run("docker-build", "environment,git,oci", "./build.sh image.tar"));
    assert!(one.payload == two.payload, "{:?}", differing(&one.statement, &two.statement));
    assert_eq!(one.envelope, two.envelope, "Ed25519 signs equal bytes equally");
}

/// One platform, and several where no attestations are asked for.
#[test]
fn builds_differ_in_progress_and_build_record() {
    need!("buildkitd", "docker", "git");
    let place = Place::new();
    for options in [
        "-o type=docker,dest=image.tar",
        "-o type=oci,dest=image.tar",
        "--provenance=false --platform linux/amd64,linux/arm64 -o type=oci,dest=image.tar",
    ] {
        let build = format!("docker buildx build --metadata-file m.json -t localhost:5000/demo:1 {options} .");
        let both = twice(&place, || place.run("docker-build", "environment,git,docker,oci", &build));
        only_differ(&both, &[PROGRESS, METADATA], &["product file:m.json"]);
    }
}

#[test]
fn builds_with_attestations_differ_in_those() {
    need!("buildkitd", "docker", "git");
    let place = Place::new();
    for build in [
        "docker buildx build --metadata-file m.json --platform linux/amd64,linux/arm64 -t localhost:5000/demo:1 -o type=oci,dest=image.tar .",
        "docker buildx bake --metadata-file m.json",
    ] {
        let both = twice(&place, || place.run("docker-build", "environment,git,docker,oci", build));
        let subjects = ["product file:", "oci tardigest:", "oci imagedigest:", "docker imagedigest:"];
        only_differ(&both, &[PROGRESS, METADATA, ATTESTED], &subjects);
        let platforms = |evidence: &Evidence| -> Vec<_> {
            let images = |oci: &&serde_json::Value| oci["affiant"]["images"].as_array().cloned().expect("images");
            evidence.predicates("oci").iter().flat_map(images).map(|image| image["digest"].clone()).collect()
        };
        assert_eq!(platforms(&both[0]), platforms(&both[1]));
        assert_eq!(both[0].subjects_of("oci imageid:"), both[1].subjects_of("oci imageid:"));
    }
}

#[test]
fn builds_of_the_engine_give_equal_payloads() {
    need!("dockerd", "docker", "git");
    let place = Place::new();
    let name = format!("localhost:5000/{}:1", place.unique());
    let build = format!("docker build -t {name} .");
    // Once before, so that both find the cache full: the engine writes the clock's time into an image.
    place.sh(&build);
    let both = twice(&place, || place.run("docker-build", "environment,git,docker", &build));
    place.sh(&format!("docker rmi -f {name}"));
    only_differ(&both, &[], &[]);
}

#[test]
fn sboms_differ_in_serial_number_and_time() {
    need!("syft", "git");
    let place = Place::new();
    let document: &[&str] = &["/product/bom.json/digest/sha256", "/subject/*/digest/sha256"];
    let allowed: [(&str, &[&str]); 2] = [
        ("cyclonedx", &["/cyclonedx/serialNumber", "/cyclonedx/metadata/timestamp"]),
        ("spdx", &["/spdx/documentNamespace", "/spdx/creationInfo/created"]),
    ];
    for (format, own) in allowed {
        let both = twice(&place, || {
            place.sh("./build.sh image.tar");
            place.run("docker-sbom", "environment,git,sbom", &format!("syft image.tar -o {format}-json=bom.json"))
        });
        only_differ(&both, &[own, document, PROGRESS], &["product file:bom.json", &format!("{format} file:bom.json")]);
        assert_ne!(both[0].payload, both[1].payload, "syft gives each document a number of its own");
    }
}
