//! Metadata files and SBOMs as a stranger may make them, and of any size.

use std::path::Path;
use std::sync::Arc;

use affiant_attestors::BUILT_IN;
use affiant_attestors::docker::Metadata;
use affiant_attestors::sbom::describe;
use affiant_core::attestor::{After, Before, Environment, Found, Host, Outcome, Predicate, Prepared};
use affiant_core::digest::{DigestSet, sha256_hex};
use affiant_core::product::{Change, Product, Products};
use serde_json::{Value, json};

fn attest(attestor: &str, path: &str, bytes: &[u8], command: &[&str]) -> Outcome {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::fs::write(dir.path().join(path), bytes).expect("writes");
    let product = Product {
        path: path.into(),
        mime: "application/json".into(),
        digests: DigestSet::sha256_hex(sha256_hex(bytes)),
        length: bytes.len() as u64,
        change: Change::New,
    };
    let before = Before {
        step: "build".into(),
        dir: dir.path().to_owned(),
        env: Arc::new(Environment::default()),
        mask: Arc::default(),
        host: Host::default(),
        command: command.iter().map(Into::into).collect(),
        ..Before::default()
    };
    let products = Arc::new(Products::new(dir.path().to_owned(), vec![product]));
    let world = After { before: Arc::new(before), products, success: true, heard: Arc::default(), engine: None };
    let entry = BUILT_IN.iter().find(|entry| entry.about.name == attestor).expect("a built-in attestor");
    match entry.prepare(json!({}), &Before::default()).expect("no options").0 {
        Prepared::After(attest) => attest(&world),
        Prepared::Before(_) | Prepared::Whole(_) => panic!("runs after the command"),
    }
}

fn fixture(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(path)).expect("a fixture")
}

#[test]
fn unknown_options_are_refused() {
    for attestor in BUILT_IN {
        let Err(error) = attestor.prepare(json!({"no-such-option": 1}), &Before::default()) else {
            panic!("{}", attestor.about.name)
        };
        assert!(error.to_string().contains("no-such-option"), "{error}");
    }
}

#[test]
fn large_metadata_is_read_as_a_stream() {
    // 40 MB of build definitions around the few members that count.
    let filler =
        format!("[{}0]", r#"{"id":"step0","op":{"Op":{"source":{"identifier":"local://context"}}}},"#.repeat(200_000));
    let digest = format!("sha256:{}", "a".repeat(64));
    let text = format!(
        r#"{{"app":{{"buildx.build.provenance":{{"buildConfig":{{"llbDefinition":{filler}}},"materials":[{{"uri":"pkg:docker/a@1","digest":{{"sha256":"{0}"}}}}]}},"ignored":{filler},"containerimage.digest":"{digest}","image.name":"a:1"}}}}"#,
        "b".repeat(64)
    );
    assert!(text.len() > 25 << 20);
    match attest("docker", "m.json", text.as_bytes(), &["docker", "buildx", "bake", "--metadata-file", "m.json"]) {
        Ok(Found::Evidence { pieces, shortfalls }) => {
            assert_eq!(shortfalls, Vec::<String>::new());
            let names: Vec<&str> = pieces[0].subjects.iter().map(|subject| subject.name.as_str()).collect();
            assert!(names.contains(&format!("materialdigest:{}", "b".repeat(64)).as_str()), "{names:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn cut_off_metadata_is_a_reason_and_never_evidence() {
    let whole = fixture("docker/bake-max/products/out/metadata.json");
    for length in (0..whole.len()).step_by(211) {
        let command = ["docker", "buildx", "bake", "--metadata-file", "m.json"];
        let error = attest("docker", "m.json", &whole[..length], &command).expect_err("cut off");
        assert!(error.to_string().starts_with("m.json: "), "{error}");
    }
    // A stranger's file that is not named and says nothing of images is no concern of ours.
    assert!(matches!(attest("docker", "x.json", b"{\"a\":", &["make"]), Ok(Found::Nothing(_))));
}

#[test]
fn odd_types_and_depths_do_no_harm() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for text in [
        format!(r#"{{"buildx.build.provenance":{deep}}}"#),
        format!(r#"{{"x":{deep}}}"#),
        r#"{"containerimage.digest":{"a":1},"image.name":[],"containerimage.descriptor":7}"#.into(),
        r#"{"buildx.build.provenance":{"materials":{"uri":1},"buildDefinition":[]}}"#.into(),
        r#"{"buildx.build.provenance":{"a":{"b":{"c":{"d":{"e":{"materials":[{"uri":"x"}]}}}}}}}"#.into(),
    ] {
        let mut metadata = Metadata::default();
        let _ = metadata.read(text.as_bytes());
        assert!(metadata.single.digest.is_none());
    }
}

#[test]
fn the_document_is_kept_word_for_word() {
    let text = "\u{feff}{ \"specVersion\" : \"1.5\",\n\t\"x\": 1.50e+1, \"y\":\"\\u00e9\\/\",\"bomFormat\" : \"CycloneDX\" , \"z\" : { \"b\":1, \"a\" : [ ] } }\n";
    match attest("sbom", "x.json", text.as_bytes(), &[]) {
        Ok(Found::Evidence { pieces, .. }) => {
            let Predicate::Verbatim(kept) = &pieces[0].predicate else { panic!("verbatim") };
            let want = "{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\",\"x\":1.50e+1,\"y\":\"\\u00e9\\/\",\"z\":{ \"b\":1, \"a\" : [ ] }}";
            assert_eq!(kept.get(), want);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn cut_off_sboms_are_refused() {
    for (path, step) in
        [("sbom/syft-image.cdx/products/image.cdx.json", 37), ("sbom/syft-image.spdx/products/image.spdx.json", 41)]
    {
        let whole = fixture(path);
        let end = String::from_utf8(whole.clone()).expect("UTF-8").trim_end().len();
        for length in (0..end).step_by(step) {
            let error = attest("sbom", "x.cdx.json", &whole[..length], &[]).expect_err("cut off");
            assert!(error.to_string().starts_with("x.cdx.json: "), "{error}");
        }
    }
}

#[test]
fn summaries_of_real_documents() {
    let of = |path: &str| describe(&serde_json::from_slice::<Value>(&fixture(path)).expect("JSON"));
    let cdx = of("sbom/syft-image.cdx/products/image.cdx.json");
    assert_eq!((cdx.format.as_str(), cdx.spec_version.as_str()), ("CycloneDX", "1.6"));
    assert_eq!((cdx.tool.as_deref(), cdx.name.as_deref()), (Some("syft 1.42.4"), Some("image.tar")));
    assert!(cdx.components > 0 && cdx.version.is_some());
    let spdx = of("sbom/syft-dir.spdx/products/dir.spdx.json");
    assert_eq!((spdx.format.as_str(), spdx.spec_version.as_str()), ("SPDX", "2.3"));
    assert_eq!((spdx.tool.as_deref(), spdx.name.as_deref()), (Some("syft-1.42.4"), Some("app")));
    let spdx3 = of("sbom/spdx3/products/doc.spdx3.json");
    assert_eq!((spdx3.spec_version.as_str(), spdx3.name.as_deref(), spdx3.components), ("3.0.1", Some("app"), 1));
    assert_eq!(describe(&json!([])), affiant_attestors::sbom::SbomSummary::default());
}
