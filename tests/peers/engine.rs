//! Plain `docker build` and `docker push`: the engine's own answer.

use crate::harness::{Place, hex, need, registry, text, words};

fn inspect(place: &Place, format: &str, name: &str) -> String {
    place.sh(&format!("docker image inspect --format '{format}' {name}"))
}

#[test]
fn built_and_pushed() {
    need!("dockerd", "registry", "docker", "crane", "git");
    for builder in ["DOCKER_BUILDKIT=0", "DOCKER_BUILDKIT=1"] {
        let place = Place::new();
        let name = format!("{}/{}:1", registry(), place.unique());
        // The label makes an image of its own: one that the engine has from another test may have been pushed already.
        let build = format!("env {builder} docker build --label of={} -t {name} .", place.unique());
        let built = place.run("docker-build", "docker", &build);
        let id = hex(&inspect(&place, "{{.Id}}", &name));
        assert_eq!(built.subjects_of("docker imageid:"), [id.clone()].into(), "{builder}");
        assert_eq!(built.subjects_of("docker imagereference:"), [name.clone()].into());
        assert!(built.subjects_of("docker imagedigest:").is_empty(), "no registry has it yet");
        assert!(built.statement["predicate"]["gaps"].is_null());
        let answer = &built.predicate("docker")["affiant"]["engine"][0];
        let layers: Vec<_> = answer["layers"].as_array().expect("a list").iter().map(text).collect();
        let layers_of_engine = inspect(&place, "{{range .RootFS.Layers}}{{println .}}{{end}}", &name);
        assert_eq!(layers, words(&layers_of_engine));
        assert!(text(&answer["source"]).starts_with("engine at unix:///"), "{answer}");

        let pushed = place.run("docker-push", "docker", &format!("docker push {name}"));
        let digest = place.sh(&format!("crane digest {name}"));
        assert_eq!(pushed.subjects_of("docker imagedigest:"), [hex(&digest)].into(), "{builder}");
        assert_eq!(pushed.subjects_of("docker imageid:"), [id.clone()].into());
        let (repository, _) = name.rsplit_once(':').expect("a tag");
        let answer = &pushed.predicate("docker")["affiant"]["engine"][0];
        assert_eq!(answer["repoDigests"], serde_json::json!([format!("{repository}@{digest}")]));

        // Built once more from the cache, the engine knows where it was pushed.
        let again = place.run("docker-build", "docker", &build);
        assert_eq!(again.subjects_of("docker imagedigest:"), [hex(&digest)].into());
        assert_eq!(again.subjects_of("docker imageid:"), [id].into());
        place.sh(&format!("docker rmi -f {name}"));
    }
}

/// buildx that gives its image to the engine: the metadata, and beside it what the engine made of it.
#[test]
fn loaded_by_the_build() {
    need!("buildkitd", "dockerd", "docker", "git");
    let place = Place::new();
    let name = format!("localhost:5000/{}:1", place.unique());
    let label = format!("of={}", place.unique());
    let build = format!("docker buildx build --metadata-file m.json --label {label} -t {name} --load .");
    let evidence = place.run("docker-build", "docker", &build);
    let id = hex(&inspect(&place, "{{.Id}}", &name));
    place.sh(&format!("docker rmi -f {name}"));
    assert_eq!(evidence.subjects_of("docker imageid:"), [id].into());
    let digest = hex(text(&place.json("m.json")["containerimage.digest"]));
    assert_eq!(evidence.subjects_of("docker imagedigest:"), [digest].into());
}

/// An image that the engine does not have afterwards is a gap with a reason, and the evidence is kept.
#[test]
fn an_image_that_is_gone() {
    need!("dockerd", "docker", "git");
    let place = Place::new();
    let name = format!("localhost:5000/{}:1", place.unique());
    let script = format!("docker build -q -t {name} . && docker rmi -f {name}");
    let run = words("run -k ../k.pem -o ../evidence.json -s b -a docker -- sh -c");
    let ended = place.affiant_with(&[&run[..], &[&script]].concat(), &[]).code(125);
    let gaps = place.evidence("evidence.json").statement["predicate"]["gaps"].to_string();
    assert!(gaps.contains(&name), "{gaps}");
    assert!(ended.stderr.contains("docker"), "{}", ended.stderr);
}
