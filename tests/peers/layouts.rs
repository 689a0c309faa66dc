//! OCI layouts: the registry's digests are the attested ones, whatever is pushed: the layout's image or index, or its
//! `index.json` itself (`crane push --index`).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Evidence, Place, hex, need, registry, text};

const BOTH: &str = "--platform linux/amd64,linux/arm64";

fn build(place: &Place, options: &str) -> Evidence {
    let line = format!("docker buildx build --metadata-file m.json -t localhost:5000/demo:1 {options} .");
    place.run("docker-build", "docker,oci", &line)
}

/// What the registry has under a name after crane has pushed the layout in `folder`.
struct Pushed {
    digest: String,
    manifest: Value,
}

fn push(place: &Place, options: &str, name: &str) -> Pushed {
    let name = format!("{}/{}-{name}:1", registry(), place.unique());
    place.sh(&format!("crane push {options} {name}"));
    let digest = hex(&place.sh(&format!("crane digest {name}")));
    assert_eq!(place.sh(&format!("crane manifest {name} | sha256sum | cut -c1-64")), digest);
    let manifest = serde_json::from_str(&place.sh(&format!("crane manifest {name}"))).expect("JSON");
    Pushed { digest, manifest }
}

/// The digest under which the registry has the layout's `index.json`.
fn push_index(place: &Place, folder: &str, name: &str) -> String {
    push(place, &format!("--index {folder}"), &format!("{name}-whole")).digest
}

fn unpack(place: &Place, tar: &str, folder: &str) {
    place.sh(&format!("rm -rf ../{folder} && mkdir ../{folder} && tar xf {tar} -C ../{folder}"));
}

impl Pushed {
    /// Digests of an index's manifests: of images, and of attestations about them.
    fn manifests(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let list = self.manifest["manifests"].as_array().expect("an index");
        let digest = |one: &Value| hex(text(&one["digest"]));
        let (about, images): (Vec<_>, Vec<_>) =
            list.iter().partition(|one| one["annotations"]["vnd.docker.reference.type"] == "attestation-manifest");
        (images.into_iter().map(digest).collect(), about.into_iter().map(digest).collect())
    }
}

#[test]
fn one_platform() {
    need!("buildkitd", "registry", "docker", "crane", "skopeo", "git");
    let place = Place::new();
    for (output, name) in [("type=oci,dest=image.tar", "oci"), ("type=docker,dest=image.tar", "docker")] {
        let evidence = build(&place, &format!("-o {output}"));
        unpack(&place, "image.tar", name);
        let pushed = push(&place, &format!("../{name}"), name);
        let whole = push_index(&place, &format!("../{name}"), name);
        assert_eq!(evidence.subjects_of("oci imagedigest:"), [pushed.digest.clone(), whole].into(), "{output}");
        assert_eq!(evidence.subjects_of("docker imagedigest:"), [pushed.digest.clone()].into(), "{output}");
        let id = hex(text(&pushed.manifest["config"]["digest"]));
        assert_eq!(evidence.subjects_of("oci imageid:"), [id].into(), "{output}");
        let layers: Vec<_> =
            pushed.manifest["layers"].as_array().expect("a list").iter().map(|layer| &layer["digest"]).collect();
        let attested = evidence.predicate("oci")["affiant"]["images"][0]["layers"].as_array().expect("a list").clone();
        assert_eq!(attested.iter().map(|layer| &layer["digest"]).collect::<Vec<_>>(), layers, "{output}");
        assert!(evidence.statement["predicate"]["gaps"].is_null());
    }
}

#[test]
fn several_platforms() {
    need!("buildkitd", "registry", "docker", "crane", "skopeo", "git");
    let place = Place::new();
    let evidence = build(&place, &format!("{BOTH} -o type=oci,dest=image.tar"));
    unpack(&place, "image.tar", "layout");
    let pushed = push(&place, "../layout", "multi");
    let (images, about) = pushed.manifests();
    assert_eq!((images.len(), about.len()), (2, 2), "{}", pushed.manifest);

    let mut expected = images.clone();
    expected.insert(pushed.digest.clone());
    expected.insert(push_index(&place, "../layout", "multi"));
    assert_eq!(evidence.subjects_of("oci imagedigest:"), expected);
    assert_eq!(evidence.subjects_of("docker imagedigest:"), [pushed.digest.clone()].into());
    let name = format!("{}/{}-multi:1", registry(), place.unique());
    for platform in ["linux/amd64", "linux/arm64"] {
        let digest = place.sh(&format!("crane digest --platform {platform} {name}"));
        assert!(images.contains(&hex(&digest)));
        let attested = evidence.predicate("oci")["affiant"]["images"].as_array().expect("a list").clone();
        let ours = attested.iter().find(|image| image["platform"] == platform).expect("the platform");
        assert_eq!(ours["digest"], digest.as_str());
        let config = place.sh(&format!("crane config --platform {platform} {name} | sha256sum | cut -c1-64"));
        assert_eq!(ours["imageId"], format!("sha256:{config}").as_str());
        assert!(evidence.subjects_of("oci imageid:").contains(&config));
    }
    let named: BTreeSet<_> = evidence.predicate("oci")["affiant"]["notImages"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| hex(text(&one["digest"])))
        .collect();
    assert_eq!(named, about, "attestations are named, as what they are");

    // skopeo takes the tarball itself, and gets the same.
    let copy = format!("{}/{}-skopeo:1", registry(), place.unique());
    place.sh(&format!(
        "skopeo copy -q --all --preserve-digests --dest-tls-verify=false oci-archive:image.tar docker://{copy}"
    ));
    assert_eq!(hex(&place.sh(&format!("crane digest {copy}"))), pushed.digest);
}

/// The layout as a folder: its files are products, and the same digests are attested.
#[test]
fn a_folder() {
    need!("buildkitd", "registry", "docker", "crane", "git");
    let place = Place::new();
    let evidence = build(&place, &format!("{BOTH} -o type=oci,dest=image,tar=false"));
    let pushed = push(&place, "image", "folder");
    let (mut expected, _) = pushed.manifests();
    expected.insert(pushed.digest);
    expected.insert(push_index(&place, "image", "folder"));
    assert_eq!(evidence.subjects_of("oci imagedigest:"), expected);
}

#[test]
fn bake() {
    need!("buildkitd", "registry", "docker", "crane", "skopeo", "git");
    let place = Place::new();
    let evidence = place.run("docker-build", "docker,oci", "docker buildx bake --metadata-file m.json");
    let metadata = place.json("m.json");
    let mut indexes = BTreeSet::new();
    let mut all = BTreeSet::new();
    for (target, tag) in [("app", "localhost:5000/demo:1"), ("text", "localhost:5000/demo-text:1")] {
        unpack(&place, &format!("{target}.tar"), target);
        let pushed = push(&place, &format!("../{target}"), target);
        assert_eq!(hex(text(&metadata[target]["containerimage.digest"])), pushed.digest);
        let ours = &evidence.predicate("docker")["products"][&pushed.digest];
        assert_eq!(ours["imagereferences"], serde_json::json!([tag]));
        let tar = place.sh(&format!("sha256sum {target}.tar | cut -c1-64"));
        assert!(evidence.subjects_of("oci tardigest:").contains(&tar));
        all.extend(pushed.manifests().0);
        all.insert(push_index(&place, &format!("../{target}"), target));
        all.insert(pushed.digest.clone());
        indexes.insert(pushed.digest);
    }
    assert_eq!(evidence.subjects_of("docker imagedigest:"), indexes);
    assert_eq!(evidence.predicates("oci").len(), 2);
    assert_eq!(evidence.subjects_of("oci imagedigest:"), all);
}

/// Pushed by the build: no tarball, and the metadata's digest is the registry's.
#[test]
fn pushed_by_the_build() {
    need!("buildkitd", "registry", "docker", "crane", "git");
    let place = Place::new();
    let name = format!("{}/{}-push:1", registry(), place.unique());
    let line = format!("docker buildx build --metadata-file m.json -t {name} {BOTH} --push .");
    let evidence = place.run("docker-build", "docker", &line);
    let digest = hex(&place.sh(&format!("crane digest {name}")));
    assert_eq!(evidence.subjects_of("docker imagedigest:"), [digest].into());
    assert_eq!(evidence.subjects_of("docker imagereference:"), [name].into());
}

/// A docker archive holds no registry manifest: nothing is claimed of one, and the image id holds whoever pushes.
#[test]
fn packed_by_a_script() {
    need!("registry", "crane", "skopeo", "git");
    let place = Place::new();
    let evidence = place.run("docker-build", "oci", "./build.sh image.tar");
    assert!(evidence.subjects_of("oci imagedigest:").is_empty());
    let digests = &evidence.predicate("oci")["affiant"]["registryDigests"];
    assert!(text(&digests["known"]).starts_with("none"), "{digests}");
    assert_eq!(
        digests["candidates"],
        serde_json::json!([]),
        "the layers are not compressed, so each client does it its way"
    );
    let name = format!("{}/{}-script:1", registry(), place.unique());
    place.sh(&format!("crane push image.tar {name}"));
    let config = place.sh(&format!("crane config {name} | sha256sum | cut -c1-64"));
    assert_eq!(evidence.subjects_of("oci imageid:"), [config].into());
    let manifest = place.sh("tar xOf image.tar manifest.json | sha256sum | cut -c1-64");
    assert_eq!(evidence.subjects_of("oci manifestdigest:"), [manifest].into());
    assert_eq!(evidence.subjects_of("oci tardigest:"), [place.sh("sha256sum image.tar | cut -c1-64")].into());
    let layers = place.sh("skopeo inspect --format '{{range .Layers}}{{println .}}{{end}}' docker-archive:image.tar");
    assert_eq!(evidence.diff_ids(), layers.lines().map(hex).collect::<Vec<_>>());
}

/// A docker archive with compressed layers: what `crane push` of the tarball makes is the candidate, and no subject.
#[test]
fn pushed_as_docker_archive() {
    need!("buildkitd", "registry", "docker", "crane", "git");
    let place = Place::new();
    let evidence = build(&place, "-o type=docker,dest=image.tar");
    let name = format!("{}/{}:1", registry(), place.unique());
    place.sh(&format!("crane push image.tar {name}"));
    let digest = place.sh(&format!("crane digest {name}"));
    let candidates =
        |evidence: &Evidence| evidence.predicate("oci")["affiant"]["registryDigests"]["candidates"].clone();
    assert_eq!(candidates(&evidence)[0]["digest"], digest.as_str());
    assert!(!evidence.subjects_of("oci imagedigest:").contains(&hex(&digest)));
    // crane writes an archive without a layout, as builders did once.
    let pulled = place.run("pull", "oci", &format!("crane pull {name} pulled.tar"));
    assert_eq!(candidates(&pulled)[0]["digest"], digest.as_str());
    assert!(pulled.subjects_of("oci imagedigest:").is_empty());
}
