//! Signatures of images with real cosign, both ways, on every registry.

use crate::harness::{Ended, Place, need};

/// A registry, and what lets us in.
fn registries() -> Vec<(String, bool)> {
    let one = |name: &str, asks| std::env::var(name).ok().map(|host| (host, asks));
    [
        one("AFFIANT_PEERS_REGISTRY", false),
        one("AFFIANT_PEERS_REGISTRY_REFERRERS", false),
        one("AFFIANT_PEERS_REGISTRY_PASSWORD", true),
        one("AFFIANT_PEERS_REGISTRY_TOKEN", true),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A program with its own docker configuration, in which the passwords are.
fn call(place: &Place, program: &str, line: &[&str]) -> Ended {
    let mut command = place.command(program);
    command.args(line).env("DOCKER_CONFIG", place.beside("docker")).env("COSIGN_PASSWORD", "x");
    Ended::of(&command.output().unwrap_or_else(|error| panic!("{program}: {error}")))
}

fn affiant(place: &Place, line: &[&str]) -> Ended {
    call(place, env!("CARGO_BIN_EXE_affiant"), line)
}

/// A new image there; its name by digest.
fn push(place: &Place, (host, asks): (&str, bool), name: &str) -> String {
    std::fs::create_dir_all(place.beside("docker")).expect("a folder");
    if asks {
        let variable = |name: &str| std::env::var(name).expect("set beside the registry");
        let (user, password) = (variable("AFFIANT_PEERS_REGISTRY_USER"), variable("AFFIANT_PEERS_REGISTRY_SECRET"));
        let _ = call(place, "crane", &["auth", "login", "-u", &user, "-p", &password, host]).code(0);
    }
    place.sh(&format!("echo {name} {} >unique && tar -cf layer.tar unique", place.unique()));
    let name = format!("{host}/peers/{}-{name}:1", place.unique());
    let said = call(place, "crane", &["append", "--oci-empty-base", "-f", "layer.tar", "-t", &name]).code(0);
    said.stdout.trim().to_owned()
}

const LOOSE: [&str; 3] = ["--insecure-ignore-tlog=true", "--allow-http-registry", "--key"];

/// Who takes what we sign, and refuses what we did not.
#[test]
fn cosign_takes_what_we_sign() {
    need!("crane", "cosign2", "cosign3", "registry");
    for (host, asks) in registries() {
        let place = Place::on_the_real_clock();
        for name in ["../k", "../other"] {
            let _ = affiant(&place, &["image", "generate-key-pair", "--output-key-prefix", name]).code(0);
        }
        for (name, form, judges) in [
            ("tag", "tag", &[("cosign2", &[][..]), ("cosign3", &["--new-bundle-format=false"][..])][..]),
            ("bundle", "bundle", &[("cosign3", &[][..])]),
            ("both", "tag,bundle", &[("cosign3", &[][..]), ("cosign3", &["--new-bundle-format=false"])]),
        ] {
            let image = push(&place, (&host, asks), name);
            let sign = ["image", "sign", "--key", "../k.key", "--yes", "--format", form, "-a", "tag=1"];
            let _ = affiant(&place, &[&sign[..], &["-a", "user=Doe, Jane", &image]].concat()).code(0);
            for (cosign, more) in judges {
                let judge = |key: &str, annotation: &str| {
                    call(&place, cosign, &[&["verify"][..], &LOOSE, &[key, "-a", annotation], more, &[&image]].concat())
                };
                for annotation in ["tag=1", "\"user=Doe, Jane\""] {
                    let taken = judge("../k.pub", annotation);
                    assert!(taken.passed(), "{host}, {form}, {cosign} {more:?}: {}", taken.stderr);
                }
                assert!(!judge("../k.pub", "tag=2").passed(), "{host}, {form}, {cosign}");
                assert!(!judge("../other.pub", "tag=1").passed(), "{host}, {form}, {cosign}");
            }
        }
    }
}

/// What cosign signs, we take; nothing else.
#[test]
fn we_take_what_cosign_signs() {
    need!("crane", "cosign2", "cosign3", "registry");
    for (host, asks) in registries() {
        for (cosign, more) in [
            ("cosign2", &[][..]),
            ("cosign3", &["--use-signing-config=false", "--new-bundle-format=false"]),
            ("cosign3", &["--use-signing-config=false"]),
        ] {
            let place = Place::on_the_real_clock();
            let image = push(&place, (&host, asks), "app");
            let _ = call(&place, cosign, &["generate-key-pair", "--output-key-prefix", "../c"]).code(0);
            let _ = call(&place, cosign, &["generate-key-pair", "--output-key-prefix", "../other"]).code(0);
            let sign =
                ["sign", "--key", "../c.key", "--yes", "--tlog-upload=false", "--allow-http-registry", "-a", "tag=1"];
            let _ = call(&place, cosign, &[&sign[..], more, &[&image]].concat()).code(0);
            let judge = |key: &str, annotation: &str, image: &str| {
                affiant(&place, &["image", "verify", "--key", key, "-a", annotation, image])
            };
            let taken = judge("../c.pub", "tag=1", &image).code(0);
            let payloads: serde_json::Value = serde_json::from_str(&taken.stdout).expect("one array and nothing else");
            assert_eq!(payloads[0]["optional"]["tag"], "1", "{host}, {cosign} {more:?}: {payloads}");
            let _ = judge("../c.pub", "tag=2", &image).code(12);
            let _ = judge("../other.pub", "tag=1", &image).code(12);
            let (name, _) = image.split_once('@').expect("a digest");
            let _ = judge("../c.pub", "tag=1", &format!("{name}:none")).code(11);
        }
    }
}
