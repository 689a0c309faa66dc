//! Images that affiant carries are carried on by skopeo and crane, and signatures hold for cosign; what those have
//! pushed, affiant carries. On all registries.

use crate::harness::{Place, need, registry, text};
use crate::hosts::{need_registries, place, read, registries, sh};

fn affiant(place: &Place, line: &str) -> String {
    sh(place, &format!("affiant {line}"))
}

/// An index of two images, pushed by crane and signed by cosign in both forms; its name and digest.
fn signed(place: &Place) -> (String, String) {
    let name = format!("{}/{}-from", registry(), place.unique());
    sh(
        place,
        &format!(
            "for one in amd64 arm64; do mkdir $one; head -c 200000 /dev/urandom > $one/file; tar cf $one.tar $one\n\
             crane append --oci-empty-base -f $one.tar -t {name}:$one; crane mutate --set-platform linux/$one {name}:$one -t {name}:$one; done\n\
             crane index append -m {name}:amd64 -m {name}:arm64 -t {name}:1\n\
             cosign2 generate-key-pair --output-key-prefix ../cosign\n\
             image={name}@$(crane digest {name}:1)\n\
             cosign2 sign --key ../cosign.key --tlog-upload=false $image\n\
             cosign3 sign --key ../cosign.key --use-signing-config=false --tlog-upload=false $image"
        ),
    );
    let digest = sh(place, &format!("crane digest {name}:1"));
    (name, digest)
}

/// What is kept about the image, without the name of the repository, sorted: lists of referrers have no order.
#[track_caller]
fn tree(place: &Place, name: &str, tag: &str) -> String {
    let shown = affiant(place, &format!("image tree {name}:{tag}")).replace(name, "NAME");
    let mut lines: Vec<&str> = shown.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Whether cosign takes the image's signatures: `cosign2` the tag's, `cosign3` the bundle.
#[track_caller]
fn verifies(place: &Place, image: &str) {
    sh(place, &format!("cosign3 verify --key ../cosign.pub --insecure-ignore-tlog --private-infrastructure {image}"));
    sh(
        place,
        &format!(
            "cosign3 verify --key ../cosign.pub --insecure-ignore-tlog --private-infrastructure --new-bundle-format=false {image}"
        ),
    );
}

#[test]
fn what_is_carried_is_carried_on_by_others() {
    need_registries!("crane", "skopeo", "cosign2", "cosign3");
    let place = place();
    std::fs::write(
        place.beside("root.json"),
        r#"{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#,
    )
    .expect("written");
    let (from, digest) = signed(&place);
    sh(
        &place,
        &format!("echo '{{}}' > p.json && affiant image attest --key ../cosign.key --predicate p.json {from}@{digest}"),
    );
    verifies(&place, &format!("{from}:1"));
    let shown = tree(&place, &from, "1");
    // The tag of the signatures, the bundle, and an attestation in both forms.
    for what in [".sig", ".att", "sigstore.bundle"] {
        assert!(shown.contains(what), "{shown}");
    }
    for (number, host) in registries().into_iter().enumerate() {
        let to = format!("{host}/{}-to", place.unique());
        assert_eq!(affiant(&place, &format!("image copy {from}:1 {to}:1")), format!("{to}@{digest}"));
        assert_eq!(sh(&place, &format!("crane digest {to}:1")), digest);
        sh(&place, &format!("crane validate --remote {to}:1"));
        verifies(&place, &format!("{to}:1"));
        assert_eq!(tree(&place, &to, "1"), shown, "{host}");
        // skopeo and crane take it from there, and affiant takes it from them.
        sh(&place, &format!("skopeo copy -q --all --src-tls-verify=false docker://{to}:1 oci:skopeo{number}:1"));
        affiant(&place, &format!("image compare oci:skopeo{number} {from}:1"));
        sh(&place, &format!("crane copy {to}:1 {to}-crane:1"));
        affiant(&place, &format!("image copy {to}-crane:1 oci:layout{number}:1"));
        let index = read(&place.work().join(format!("layout{number}/index.json")));
        assert_eq!(text(&index["manifests"][0]["digest"]), digest);
        // A layout of ours, pushed by them; an archive of ours, read by them.
        affiant(&place, &format!("image copy {to}:1 oci-archive:a{number}.tar:1"));
        sh(
            &place,
            &format!(
                "skopeo copy -q --all --dest-tls-verify=false oci-archive:a{number}.tar:1 docker://{to}-archive:1"
            ),
        );
        // skopeo writes an index anew; the images in it are the same.
        affiant(&place, &format!("image compare {to}-archive:1 {from}:1"));
        // With its evidence from an archive.
        assert_eq!(
            affiant(&place, &format!("image copy oci-archive:a{number}.tar {to}-back:1")),
            format!("{to}-back@{digest}")
        );
        verifies(&place, &format!("{to}-back:1"));
        assert_eq!(tree(&place, &format!("{to}-back"), "1"), shown, "{host}");
        // What crane carries by its tags is the same, too, as far as tags go; affiant takes it from there.
        for suffix in ["", ".sig"] {
            let tag = format!("{}{suffix}", digest.replace(':', "-"));
            let is_there = format!(
                "if crane manifest {to}:{tag} >/dev/null 2>&1; then crane copy {to}:{tag} {to}-crane:{tag}; fi"
            );
            sh(&place, &is_there);
        }
        affiant(&place, &format!("image copy {to}-crane:1 {to}-again:1"));
        sh(
            &place,
            &format!(
                "cosign2 verify --key ../cosign.pub --insecure-ignore-tlog --private-infrastructure --trusted-root ../root.json {to}-again:1"
            ),
        );
        // What affiant saves cosign loads: the index, and what is under tags.
        affiant(&place, &format!("image save --dir saved{number} {to}:1"));
        for cosign in ["cosign2", "cosign3"] {
            sh(&place, &format!("{cosign} load --dir saved{number} {to}-{cosign}:1"));
            assert_eq!(sh(&place, &format!("crane digest {to}-{cosign}:1")), digest);
            sh(
                &place,
                &format!(
                    "cosign3 verify --key ../cosign.pub --insecure-ignore-tlog --private-infrastructure --new-bundle-format=false {to}-{cosign}:1"
                ),
            );
        }
        // Within the registry everything is taken over.
        affiant(&place, &format!("image copy {to}:1 {to}-mounted:1 2>&1 | grep -q '0 blobs sent'"));
        verifies(&place, &format!("{to}-mounted:1"));
        assert_eq!(tree(&place, &format!("{to}-mounted"), "1"), shown, "{host}");
    }
}

#[test]
fn what_others_saved_is_pushed() {
    need!("registry", "registry-password", "registry-token", "registry-referrers", "crane", "skopeo", "git");
    let place = place();
    let name = format!("{}/{}-push", registry(), place.unique());
    sh(
        &place,
        &format!("mkdir d; echo {name} > d/file; tar cf l.tar d; crane append --oci-empty-base -f l.tar -t {name}:1"),
    );
    sh(&place, &format!("crane pull {name}:1 docker.tar; crane pull --format oci {name}:1 layout"));
    sh(&place, &format!("skopeo copy -q --src-tls-verify=false docker://{name}:1 oci-archive:oci.tar:1"));
    sh(&place, &format!("skopeo copy -q --src-tls-verify=false docker://{name}:1 docker-archive:plain.tar:app:1"));
    let digest = sh(&place, &format!("crane digest {name}:1"));
    for target in ["layout", "oci.tar"] {
        assert_eq!(
            affiant(&place, &format!("image push {target} {name}-b:1 --expect {digest}")),
            format!("{name}-b@{digest}")
        );
    }
    for target in ["docker.tar", "plain.tar"] {
        let pushed = affiant(&place, &format!("image push ./{target} {name}-c:1"));
        assert_eq!(pushed, format!("{name}-c@{}", sh(&place, &format!("crane digest {name}-c:1"))));
        // crane does not validate layers that are not compressed; skopeo takes them.
        sh(&place, &format!("skopeo copy -q --src-tls-verify=false docker://{pushed} oci:of-{target}:1"));
        affiant(&place, &format!("image compare oci:of-{target} {target}"));
        let said = affiant(&place, &format!("image compare {target} {name}:1"));
        assert!(said.starts_with("equal: "), "{target}: {said}");
    }
}
