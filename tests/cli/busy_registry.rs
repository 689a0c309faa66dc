//! Signing in registries that trip over what several write at the same time.

use serde_json::json;

use crate::harness::Place;
use crate::registry::{Asked, Door, Registry, Said};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const PLATFORMS: usize = 8;

fn place() -> Place {
    let place = Place::without_key();
    place.affiant(["key", "generate", "--kind", "p256", "--no-password", "-o", "c.key"]).run().code(0);
    place
}

/// An index of images for several platforms.
fn put_index(registry: &Registry, repository: &str) {
    let entry = |number: usize| {
        let digest = registry.put_image(repository, &format!("p{number}"), &format!("{repository}/{number}"));
        let size = registry.manifest(repository, digest.as_str()).expect("put").to_string().len();
        json!({"mediaType": MANIFEST, "digest": digest, "size": size})
    };
    let entries: Vec<_> = (0..PLATFORMS).map(entry).collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    registry.put(repository, Some("v1"), INDEX, index.to_string().as_bytes());
}

/// A registry that keeps links in files does not see a blob while it is written again.
#[test]
fn many_images_are_signed_where_a_blob_is_not_seen_while_it_is_written() {
    let place = place();
    place.write("p.json", "{}");
    let registry = Registry::of_files();
    for (number, more) in [
        &["sign"][..],
        &["sign", "--format", "bundle"],
        &["attest", "--type", "https://a.example/t", "--predicate", "p.json"],
    ]
    .into_iter()
    .enumerate()
    {
        let repository = format!("fresh{number}");
        put_index(&registry, &repository);
        let image = format!("{}/{repository}:v1", registry.host());
        let call = place.affiant(["image", more[0], "-r", "--key", "c.key"]).with(&more[1..]);
        call.with([image.as_str()]).run().code(0);
        let verb = if more[0] == "sign" { "verify" } else { "verify-attestation" };
        let verify = place.affiant(["image", verb, "--key", "c.pub", &image]);
        let kind: &[&str] = if more[0] == "sign" { &[] } else { &["--type", "https://a.example/t"] };
        verify.with(kind).run().code(0);
    }
    // Several processes in one repository.
    put_index(&registry, "shared");
    std::thread::scope(|scope| {
        for number in 0..4 {
            let image = format!("{}/shared:p{number}", registry.host());
            let place = &place;
            scope.spawn(move || {
                let call = place.affiant(["image", "sign", "--key", "c.key", "--format", "bundle", &image]);
                call.run().code(0);
            });
        }
    });
}

/// What was not begun after a failure is named, with what to do.
#[test]
fn what_was_not_begun_is_named() {
    let place = place();
    let refusing = |asked: &Asked| {
        (asked.method == "PUT" && asked.path().contains("/manifests/sha256-"))
            .then(|| Said::new(400).body(r#"{"errors":[{"code":"A","message":"one"},{"code":"B","message":"two"}]}"#))
    };
    let registry = Registry::with(Door::Open, true, Some(Box::new(refusing)));
    put_index(&registry, "app");
    put_index(&registry, "other");
    let images = ["app", "other"].map(|name| format!("{}/{name}:v1", registry.host()));
    let call = place.affiant(["image", "sign", "-r", "--format", "tag", "--key", "c.key", &images[0], &images[1]]);
    call.run().code(4).stderr_has(&[
        "could not be kept",
        "answers 400: one (A); two (B)",
        "not begun: ",
        "the same again does the rest",
    ]);
}

/// A helper that fails: what it said, and which file names it.
#[test]
fn what_a_helper_for_passwords_says_is_told() {
    let place = Place::without_key();
    let registry = Registry::with(Door::Password, true, None);
    registry.put_image("app", "v1", "x");
    let helper = place.work().join("docker-credential-locked");
    std::fs::write(&helper, "#!/bin/sh\necho 'the keychain is locked for ann:hunter2@host'\nexit 1\n")
        .expect("written");
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    std::fs::create_dir_all(place.beside("home/.docker")).expect("makes a folder");
    std::fs::write(place.beside("home/.docker/config.json"), r#"{"auths": null, "credsStore": "locked"}"#)
        .expect("written");
    let path = format!("{}:/usr/bin:/bin", place.work().display());
    let image = format!("{}/app:v1", registry.host());
    let said = place.affiant(["image", "digest", &image]).env("PATH", path).run().code(4).stderr_text();
    assert!(
        said.contains("docker-credential-locked, named in `credsStore` of ") && said.contains("config.json"),
        "{said}"
    );
    assert!(said.contains("the keychain is locked for") && !said.contains("hunter2"), "{said}");
}
