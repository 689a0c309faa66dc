//! The two command lines that a team puts in front of its build, word for word.

use std::collections::BTreeMap;

use crate::harness::{Evidence, Place, hex, need, text};

const BUILD: &str = r#"affiant run -s docker-build -a environment,git,docker,oci --attestor-product-include-glob "{docker-metadata.json,image.tar}" -- docker buildx build --metadata-file docker-metadata.json -t localhost:5000/demo:1 -o type=docker,dest=image.tar ."#;
const SBOM: &str =
    "affiant run -s docker-sbom -a environment,git,sbom -- syft image.tar -o cyclonedx-json=image-bom.cdx.json";

/// Runs a line as written, with key and outfile from the environment.
fn line(place: &Place, line: &str, outfile: &str) -> Evidence {
    place.sh(&format!("export AFFIANT_KEY=../affiant.key AFFIANT_OUTFILE=../{outfile}; {line}"));
    place.evidence(outfile)
}

fn of_text(place: &Place, value: &str) -> String {
    place.sh(&format!("printf %s '{value}' | sha256sum | cut -c1-64"))
}

/// Subjects that git itself gives.
fn git_subjects(place: &Place) -> BTreeMap<String, String> {
    let commit = place.sh("git rev-parse HEAD");
    let by_text = |name: &str, value: &str| (format!("git {name}:{value}"), of_text(place, value));
    BTreeMap::from([
        (format!("git commithash:{commit}"), commit),
        by_text("authoremail", &place.sh("git log -1 --format=%ae")),
        by_text("committeremail", &place.sh("git log -1 --format=%ce")),
        by_text("refnameshort", &place.sh("git symbolic-ref --short HEAD")),
    ])
}

fn file_digest(place: &Place, file: &str) -> String {
    place.sh(&format!("sha256sum {file} | cut -c1-64"))
}

#[test]
fn a_build_and_its_sbom() {
    need!("buildkitd", "docker", "git", "skopeo", "syft");
    let place = Place::on_the_real_clock();
    place.sh("cd .. && affiant key generate");
    let committed = place.sh("git ls-files | xargs sha256sum");

    let build = line(&place, BUILD, "build.json");
    assert_eq!(build.statement["predicate"]["name"], "docker-build");
    assert_eq!(build.kinds(), ["environment", "git", "material", "command-run", "product", "docker", "oci"]);
    assert!(build.statement["predicate"]["gaps"].is_null(), "{}", build.statement["predicate"]["gaps"]);

    // Materials: each file of the commit, with the digest that sha256sum gave before the build.
    let materials = build.predicate("material").as_object().expect("a map");
    for row in committed.lines() {
        let (digest, path) = row.split_once("  ").expect("sha256sum's form");
        assert_eq!(materials[path]["sha256"], digest, "{path}");
    }
    let beyond: Vec<_> = materials.keys().filter(|path| !path.starts_with(".git/")).collect();
    assert_eq!(beyond.len(), committed.lines().count(), "{beyond:?}");

    let products = build.predicate("product");
    let tar = file_digest(&place, "image.tar");
    assert_eq!(products["image.tar"]["digest"]["sha256"], tar.as_str());
    assert_eq!(products["image.tar"]["mime_type"], "application/x-tar");
    assert_eq!(
        products["docker-metadata.json"]["digest"]["sha256"],
        file_digest(&place, "docker-metadata.json").as_str()
    );
    assert_eq!(products["docker-metadata.json"]["mime_type"], "application/json");
    assert_eq!(products.as_object().map(serde_json::Map::len), Some(2));

    // The image, as buildx's file, the tarball's own files and skopeo have it.
    let metadata = place.json("docker-metadata.json");
    let image = hex(text(&metadata["containerimage.digest"]));
    let id = hex(text(&metadata["containerimage.config.digest"]));
    assert_eq!(place.sh("skopeo inspect --raw --config docker-archive:image.tar | sha256sum | cut -c1-64"), id);
    assert_eq!(place.sh("skopeo inspect --raw oci-archive:image.tar | sha256sum | cut -c1-64"), image);
    let docker_manifest = place.sh("tar xOf image.tar manifest.json | sha256sum | cut -c1-64");
    let layers = place.sh("skopeo inspect --format '{{range .Layers}}{{println .}}{{end}}' docker-archive:image.tar");

    let mut expected = git_subjects(&place);
    let mut expect = |name: String, digest: &str| expected.insert(name, digest.to_owned());
    expect("product file:image.tar".into(), &tar);
    expect("product file:docker-metadata.json".into(), &file_digest(&place, "docker-metadata.json"));
    let tag = of_text(&place, "localhost:5000/demo:1");
    expect("docker imagereference:localhost:5000/demo:1".into(), &tag);
    expect(format!("docker imagedigest:{image}"), &image);
    expect(format!("docker imageid:{id}"), &id);
    expect(format!("oci tardigest:{tar}"), &tar);
    expect(format!("oci manifestdigest:{docker_manifest}"), &docker_manifest);
    expect(format!("oci imagedigest:{image}"), &image);
    let layout = place.sh("tar xOf image.tar index.json | sha256sum | cut -c1-64");
    expect(format!("oci imagedigest:{layout}"), &layout);
    expect(format!("oci imageid:{id}"), &id);
    expect("oci imagetag:localhost:5000/demo:1".into(), &tag);
    let layers: Vec<String> = layers.lines().map(hex).collect();
    assert_eq!(layers.len(), 3);
    for (number, layer) in layers.iter().enumerate() {
        expect(format!("oci layerdiffid{number:02}:{layer}"), layer);
    }
    assert_eq!(build.subjects(), expected);

    let docker = &build.predicate("docker")["products"][&image];
    assert_eq!(docker["imagereferences"], serde_json::json!(["localhost:5000/demo:1"]));
    assert_eq!(docker["imagedigest"]["sha256"], image.as_str());
    let git = build.predicate("git");
    assert_eq!(git["commithash"], place.sh("git rev-parse HEAD").as_str());
    assert_eq!(git["treehash"], place.sh("git rev-parse HEAD^{tree}").as_str());
    assert_eq!(git["branch"], "main");
    assert!(git["status"].is_null(), "the worktree is clean: {}", git["status"]);
    let command = build.predicate("command-run");
    assert_eq!(command["exitcode"], 0);
    assert_eq!(command["affiant"]["observation"]["level"], "client-only");

    // The SBOM of that very tarball.
    let before_sbom = place.sh("git status --porcelain");
    let sbom = line(&place, SBOM, "sbom.json");
    assert_eq!(sbom.statement["predicate"]["name"], "docker-sbom");
    assert_eq!(sbom.kinds(), ["environment", "git", "material", "command-run", "product", "cyclonedx"]);
    assert!(sbom.statement["predicate"]["gaps"].is_null(), "{}", sbom.statement["predicate"]["gaps"]);
    assert_eq!(sbom.predicate("material")["image.tar"]["sha256"], tar.as_str(), "the first step's product");
    let status = sbom.predicate("git")["status"].as_object().expect("what the build left");
    let untracked = serde_json::json!({"staging": "untracked", "worktree": "untracked"});
    assert!(status.values().all(|state| *state == untracked), "{status:?}");
    let paths: Vec<_> = status.keys().map(|path| format!("?? {path}")).collect();
    assert_eq!(paths.join("\n"), before_sbom);
    let document = place.json("image-bom.cdx.json");
    assert_eq!(sbom.predicate("cyclonedx"), &document);
    assert_eq!(
        sbom.predicate("cyclonedx").as_object().and_then(|map| map.keys().next()).map(String::as_str),
        Some("bomFormat")
    );
    let bom = file_digest(&place, "image-bom.cdx.json");
    let version = text(&document["metadata"]["component"]["version"]);
    let mut expected = git_subjects(&place);
    let mut expect = |name: String, digest: String| expected.insert(name, digest);
    expect("product file:image-bom.cdx.json".into(), bom.clone());
    expect("cyclonedx file:image-bom.cdx.json".into(), bom);
    expect("cyclonedx name:image.tar".into(), of_text(&place, "image.tar"));
    expect(format!("cyclonedx version:{version}"), of_text(&place, version));
    expect(format!("cyclonedx imagedigest:{}", hex(version)), hex(version));
    assert_eq!(sbom.subjects(), expected);

    // Signed by our key and by no other, shown, and kept.
    for (file, step) in [("build.json", "docker-build"), ("sbom.json", "docker-sbom")] {
        let file = format!("../{file}");
        let shown = place.affiant(&format!("inspect --key ../affiant.pub {file}")).code(0);
        shown.stdout_has(&["signature    valid", step, "client-only"][..if step == "docker-build" { 3 } else { 2 }]);
        let stranger = crate::harness::fixture("keys/stranger.pub");
        place.affiant(&format!("inspect --key {} {file}", stranger.display())).code(1);
    }
    let listed = place.affiant("archive find image.tar").code(0).stdout;
    let digest = listed.split_whitespace().next().expect("a digest");
    let kept = place.affiant(&format!("archive get {digest}")).code(0).stdout;
    assert_eq!(kept.as_bytes(), std::fs::read(place.beside("build.json")).expect("evidence"));
}

/// The image id is what the engine calls the image once it has loaded the tarball.
#[test]
fn the_engine_loads_the_image_that_was_attested() {
    need!("buildkitd", "dockerd", "docker", "git");
    let place = Place::new();
    let name = format!("localhost:5000/{}:1", place.unique());
    let label = format!("of={}", place.unique());
    let build =
        format!("docker buildx build --metadata-file m.json --label {label} -t {name} -o type=docker,dest=image.tar .");
    let evidence = place.run("docker-build", "docker,oci", &build);
    place.sh("docker load -q -i image.tar");
    let inspect = |format: &str| place.sh(&format!("docker image inspect --format '{format}' {name}"));
    let id = hex(&inspect("{{.Id}}"));
    let layers = inspect("{{range .RootFS.Layers}}{{println .}}{{end}}");
    place.sh(&format!("docker rmi -f {name}"));
    assert_eq!(evidence.subjects_of("docker imageid:"), [id.clone()].into());
    assert_eq!(evidence.subjects_of("oci imageid:"), [id].into());
    assert_eq!(evidence.diff_ids(), layers.lines().map(hex).collect::<Vec<_>>());
}

const OCI: &str = "docker buildx build --metadata-file m.json -o type=oci,dest=image.tar .";

/// Without `-a` the build itself calls for its attestors.
#[test]
fn the_default_attestors_fit_the_build() {
    need!("buildkitd", "docker", "git");
    let place = Place::new();
    let plan = place.affiant(&format!("run -k ../k.pem --plan -- {OCI}")).code(0);
    assert!(!place.work().join("image.tar").exists(), "a plan runs nothing");
    let said = format!("{}{}", plan.stdout, plan.stderr);
    for part in ["docker", "oci", "`docker buildx build`"] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    place.affiant(&format!("run -k ../k.pem -o ../evidence.json -- {OCI}")).code(0);
    let evidence = place.evidence("evidence.json");
    assert_eq!(evidence.kinds(), ["environment", "git", "material", "command-run", "product", "docker", "oci"]);
    assert_eq!(evidence.statement["predicate"]["name"], "docker");
}

/// A build that fails gives its own exit code, and evidence that no gate takes for a success.
#[test]
fn a_failed_build_is_evidence_too() {
    need!("buildkitd", "docker", "git");
    let place = Place::new();
    place.sh("printf 'FROM scratch\\nCOPY absent /\\n' >Dockerfile");
    let own: i32 = place.sh(&format!("code=0; {OCI} 2>said || code=$?; echo $code")).parse().expect("a code");
    assert_ne!(own, 0);
    place.affiant(&format!("run -k ../k.pem -o ../evidence.json -s docker-build -a docker,oci -- {OCI}")).code(own);
    let evidence = place.evidence("evidence.json");
    assert_eq!(evidence.statement["predicate"]["name"], "docker-build#failed");
    assert_eq!(evidence.predicate("command-run")["exitcode"], own);
    assert!(text(&evidence.predicate("command-run")["stderr"]).contains("absent"));
    assert!(evidence.subjects_of("docker ").is_empty() && evidence.subjects_of("oci ").is_empty());
}

/// Nothing is known of an image that a build pushes without a metadata file: the gap tells what to add.
#[test]
fn a_build_that_tells_nothing_is_a_gap_with_advice() {
    need!("buildkitd", "docker", "git");
    let place = Place::new();
    let build = "docker buildx build -o type=cacheonly .";
    let ended = place.affiant(&format!("run -k ../k.pem -o ../evidence.json -s b -a docker -- {build}")).code(125);
    let gap =
        "no product is a buildx metadata file (the command is `docker buildx build`; `--metadata-file FILE` makes one)";
    assert!(ended.stderr.contains(gap), "{}", ended.stderr);
    assert!(place.evidence("evidence.json").statement["predicate"]["gaps"].to_string().contains(gap));
}
