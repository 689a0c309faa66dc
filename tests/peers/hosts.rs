//! The four registries, and tools that are let into them.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Ended, Place, variable};

/// The registries: open, with a password, with tokens, and with a list of referrers.
pub(crate) fn registries() -> [String; 4] {
    ["", "_PASSWORD", "_TOKEN", "_REFERRERS"]
        .map(|name| variable(&format!("AFFIANT_PEERS_REGISTRY{name}")).expect("it runs"))
}

/// Leaves the test when a registry or one of these programs is missing.
macro_rules! need_registries {
    ($($name:literal),* $(,)?) => {
        crate::harness::need!("registry", "registry-password", "registry-token", "registry-referrers", $($name),*)
    };
}
pub(crate) use need_registries;

/// A place whose tools are let into all registries.
pub(crate) fn place() -> Place {
    let place = Place::on_the_real_clock();
    let secret = |name: &str| variable(&format!("AFFIANT_PEERS_REGISTRY_{name}")).expect("it is set");
    let auth = place.sh(&format!("printf %s '{}:{}' | base64 -w0", secret("USER"), secret("SECRET")));
    let [_, password, token, _] = registries();
    let auths: serde_json::Map<_, _> =
        [password, token].into_iter().map(|host| (host, serde_json::json!({ "auth": auth }))).collect();
    let folder = place.beside("home").join(".docker");
    std::fs::create_dir(&folder).expect("made");
    let config = serde_json::json!({ "auths": auths });
    std::fs::write(folder.join("config.json"), config.to_string()).expect("written");
    place
}

/// A program with the place's own passwords, whatever the setup's docker has.
pub(crate) fn call(place: &Place, program: &str, line: &[&str]) -> Ended {
    let folder = place.beside("home/.docker");
    let mut command = place.command(program);
    command.args(line).env("DOCKER_CONFIG", &folder).env("REGISTRY_AUTH_FILE", folder.join("config.json"));
    command.env("COSIGN_PASSWORD", "").env("COSIGN_YES", "true");
    Ended::of(&command.output().unwrap_or_else(|error| panic!("{program}: {error}")))
}

/// Standard output of a script that ends with 0, with the same passwords.
#[track_caller]
pub(crate) fn sh(place: &Place, script: &str) -> String {
    call(place, "sh", &["-euc", script]).code(0).stdout.trim_end_matches('\n').to_owned()
}

/// The affiant of this build.
pub(crate) fn affiant(place: &Place, line: &[&str]) -> Ended {
    call(place, env!("CARGO_BIN_EXE_affiant"), line)
}

/// A new image under this name and tag; its name by digest.
#[track_caller]
pub(crate) fn push(place: &Place, name: &str) -> String {
    sh(
        place,
        &format!(
            "mkdir -p layer && echo {name} > layer/unique && tar -cf layer.tar -C layer unique\n\
             crane append --oci-empty-base -f layer.tar -t {name}"
        ),
    )
}

/// An index of two new images; its name by digest, and those of the images.
#[track_caller]
pub(crate) fn push_index(place: &Place, name: &str) -> (String, [String; 2]) {
    let (repository, _) = name.rsplit_once(':').expect("a tag");
    let images = ["amd64", "arm64"].map(|one| {
        let image = push(place, &format!("{repository}:{one}"));
        sh(place, &format!("crane mutate --set-platform linux/{one} {image} -t {repository}:{one}"))
    });
    sh(place, &format!("crane index append -m {} -m {} -t {name}", images[0], images[1]));
    let digest = sh(place, &format!("crane digest {name}"));
    (format!("{repository}@{digest}"), images)
}

/// `repository@digest` as its two parts.
pub(crate) fn parts(image: &str) -> (&str, &str) {
    image.split_once('@').expect("a digest")
}

pub(crate) fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON")
}
