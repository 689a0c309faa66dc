//! The kept evidence of `fixtures/samples` still reads as it was made. No peer is needed.

use std::collections::BTreeSet;

use crate::harness::{Place, fixture, need, text};

#[test]
fn kept_evidence_is_read_and_names_the_products_beside_it() {
    need!("git", "sha256sum");
    let place = Place::new();
    let mut cases = 0;
    for entry in std::fs::read_dir(fixture("samples")).expect("fixtures").flatten() {
        let folder = entry.path();
        // `verdict` holds what the gate says, not evidence: the tests of its forms read it.
        if !folder.is_dir() || folder.ends_with("verdict") {
            continue;
        }
        cases += 1;
        let (name, at) = (entry.file_name().to_string_lossy().into_owned(), folder.display());
        place.affiant(&format!("inspect --key {at}/functionary.pub {at}/evidence.json")).code(0);
        let stranger = fixture("keys/stranger.pub");
        place.affiant(&format!("inspect --key {} {at}/evidence.json", stranger.display())).code(1);

        let evidence = crate::harness::Evidence::read(&folder.join("evidence.json"));
        let collection = &evidence.statement["predicate"];
        let step = if name.starts_with("sbom-") { "docker-sbom" } else { "docker-build" };
        let step = if name == "failed" { format!("{step}#failed") } else { step.to_owned() };
        assert_eq!(collection["name"], step.as_str(), "{name}");
        assert_eq!(collection["gaps"].is_null(), name != "gaps", "{name}: {}", collection["gaps"]);
        assert_eq!(evidence.predicate("command-run")["exitcode"], if name == "failed" { 7 } else { 0 }, "{name}");

        let products = evidence.predicate("product").as_object().expect("a map");
        for (path, product) in products {
            let digest = place.sh(&format!("sha256sum '{at}/{path}' | cut -c1-64"));
            assert_eq!(text(&product["digest"]["sha256"]), digest, "{name}: {path}");
        }
        let beside: BTreeSet<_> = std::fs::read_dir(&folder)
            .expect("a folder")
            .flatten()
            .map(|file| file.file_name().to_string_lossy().into_owned())
            .filter(|file| !["command", "evidence.json", "functionary.pub"].contains(&file.as_str()))
            .collect();
        assert_eq!(beside, products.keys().cloned().collect(), "{name}");
    }
    assert_eq!(cases, 12);
}
