//! Image archives as a stranger may make them: each gives evidence of what is true with a shortfall that names what is
//! not, or an error that names the file; never a panic and never a hang.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use affiant_attestors::oci::{Analysis, ArchiveError, Limits, Oci, Options, analyse, candidate};
use affiant_core::attestor::{After, AttestAfter as _, Before, Environment, Evidence, Found, Host, Outcome, Predicate};
use affiant_core::digest::{DigestSet, sha256_hex};
use affiant_core::product::{Change, Product, Products};
use serde_json::{Value, json};
use tar::EntryType;

/// An archive in the making.
struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Adds an entry whose name is written as it is, without the checks of a well-behaved writer.
    fn raw(mut self, name: &str, kind: EntryType, link: &str, data: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        if !link.is_empty() {
            header.set_link_name_literal(link).expect("a short link");
        }
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        self.0.append(&header, data).expect("appends");
        self
    }

    fn file(mut self, name: &str, data: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        self.0.append_data(&mut header, name, data).expect("appends");
        self
    }

    fn json(self, name: &str, value: &Value) -> Self {
        self.file(name, value.to_string().as_bytes())
    }

    fn blob(self, data: &[u8]) -> Self {
        self.file(&blob_name(data), data)
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().expect("finishes")
    }
}

fn blob_name(data: &[u8]) -> String {
    format!("blobs/sha256/{}", sha256_hex(data))
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).expect("writes to memory");
    encoder.finish().expect("writes to memory")
}

fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha256_hex(layer))).collect();
    json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string()
        .into_bytes()
}

fn descriptor(kind: &str, data: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{}", sha256_hex(data)), "size": data.len()})
}

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A docker archive with one image and one layer, stored as `stored`.
fn docker_archive(plain: &[u8], stored: &[u8]) -> Archive {
    let config = config(&[plain]);
    let name = format!("{}.json", sha256_hex(&config));
    Archive::new()
        .file("layer", stored)
        .file(&name, &config)
        .json("manifest.json", &json!([{"Config": name, "RepoTags": ["a:1"], "Layers": ["layer"]}]))
}

fn faults(bytes: &[u8], limits: &Limits) -> Vec<String> {
    let Analysis { contents, graph } = analyse(bytes, limits).expect("can be read");
    contents.faults.into_iter().chain(graph.expect("is an image").faults).collect()
}

fn world(dir: &Path, files: &[(&str, &str, &[u8])]) -> After {
    let list = files.iter().map(|(path, mime, bytes)| {
        std::fs::write(dir.join(path), bytes).expect("writes");
        Product {
            path: (*path).to_owned(),
            mime: (*mime).to_owned(),
            digests: DigestSet::sha256_hex(sha256_hex(bytes)),
            length: bytes.len() as u64,
            change: Change::New,
        }
    });
    let products = Arc::new(Products::new(dir.to_owned(), list.collect()));
    let before = Before {
        step: "build".into(),
        dir: dir.to_owned(),
        env: Arc::new(Environment::default()),
        mask: Arc::default(),
        host: Host::default(),
        command: Vec::new(),
        ..Before::default()
    };
    After { before: Arc::new(before), products, success: true, heard: Arc::default(), engine: None }
}

fn attest(files: &[(&str, &str, &[u8])]) -> Outcome {
    let dir = tempfile::tempdir().expect("temporary folder");
    Oci::attest(Options::default(), &world(dir.path(), files))
}

fn evidence(outcome: Outcome) -> (Vec<Evidence>, Vec<String>) {
    match outcome {
        Ok(Found::Evidence { pieces, shortfalls }) => (pieces, shortfalls),
        other => panic!("no evidence: {other:?}"),
    }
}

fn names(piece: &Evidence) -> Vec<&str> {
    piece.subjects.iter().map(|subject| subject.name.as_str()).collect()
}

const TAR: &str = "application/x-tar";

#[test]
fn names_that_lead_out_are_not_followed() {
    let plain = b"layer".as_slice();
    let bytes = docker_archive(plain, plain)
        .raw("../evil", EntryType::Regular, "", b"x")
        .raw("/etc/passwd", EntryType::Regular, "", b"x")
        .raw("a/../../manifest.json", EntryType::Regular, "", b"[]")
        .raw("out", EntryType::Symlink, "../../etc/passwd", b"")
        .raw("hard", EntryType::Link, "/etc/passwd", b"")
        .done();
    let faults = faults(&bytes, &Limits::DEFAULT);
    assert_eq!(faults.len(), 5, "{faults:?}");
    assert!(faults[0].contains("`../evil`") && faults[1].contains("`/etc/passwd`"), "{faults:?}");
    let (pieces, shortfalls) = evidence(attest(&[("image.tar", TAR, &bytes)]));
    assert!(shortfalls.iter().all(|text| text.starts_with("image.tar: ")), "{shortfalls:?}");
    // What is true stands all the same.
    assert!(names(&pieces[0]).contains(&format!("layerdiffid00:{}", sha256_hex(plain)).as_str()));
}

#[test]
fn links_inside_are_followed_and_loops_are_not() {
    let plain = b"layer".as_slice();
    let config = config(&[plain, plain, plain]);
    let bytes = Archive::new()
        .file("one/layer.tar", plain)
        .raw("two/layer.tar", EntryType::Symlink, "../one/layer.tar", b"")
        .raw("three/layer.tar", EntryType::Link, "one/layer.tar", b"")
        .raw("loop", EntryType::Symlink, "pool", b"")
        .raw("pool", EntryType::Symlink, "loop", b"")
        .file("config.json", &config)
        .json(
            "manifest.json",
            &json!([
                {"Config": "config.json", "RepoTags": null, "Layers": ["one/layer.tar", "two/layer.tar", "three/layer.tar"]},
                {"Config": "loop", "RepoTags": [], "Layers": ["pool"]},
            ]),
        )
        .done();
    let (pieces, shortfalls) = evidence(attest(&[("image.tar", TAR, &bytes)]));
    assert_eq!(
        shortfalls,
        [
            "image.tar: `manifest.json` names the configuration `loop`, which is not there",
            "image.tar: `manifest.json` names the layer `pool`, which is not there",
        ]
    );
    let diff_ids = names(&pieces[0]).iter().filter(|name| name.starts_with("layerdiffid")).count();
    assert_eq!(diff_ids, 3);
}

#[test]
fn duplicates_are_told() {
    let plain = b"layer".as_slice();
    let archive = docker_archive(plain, plain);
    let same = archive.file("layer", plain).done();
    assert_eq!(faults(&same, &Limits::DEFAULT), Vec::<String>::new());
    let other = docker_archive(plain, plain).file("layer", b"evil").done();
    let faults = faults(&other, &Limits::DEFAULT);
    assert!(faults[0].contains("`layer` is there twice"), "{faults:?}");
    // The last one counts, so it does not fit the configuration.
    assert!(faults[1].contains(&sha256_hex(b"evil")), "{faults:?}");
}

#[test]
fn a_truncated_archive_never_passes_as_whole() {
    let plain = vec![7; 3000];
    let whole = docker_archive(&plain, &gzip(&plain)).done();
    let good = faults(&whole, &Limits::DEFAULT);
    assert_eq!(good, Vec::<String>::new());
    // Up to the two zero blocks at the end: an archive without them is still whole.
    let end = whole.len() - 1024;
    for length in (0..end).step_by(97).chain([end - 1]) {
        match analyse(&whole[..length], &Limits::DEFAULT) {
            Err(ArchiveError::NotTar(_)) => {}
            Ok(analysis) => {
                let complete = analysis.contents.faults.is_empty() && analysis.graph.is_some();
                assert!(!complete, "{length} of {end} bytes");
            }
            Err(error) => panic!("{length}: {error}"),
        }
        match attest(&[("image.tar", TAR, &whole[..length])]) {
            Ok(Found::Evidence { shortfalls, .. }) => assert!(!shortfalls.is_empty(), "{length}"),
            // At the end of an entry a tar without its end is an ordinary one, as far as it goes.
            Ok(Found::Nothing(_)) => assert!(length % 512 == 0, "{length}: an image without a word"),
            Err(error) => assert!(error.to_string().starts_with("image.tar: "), "{error}"),
        }
    }
}

#[test]
fn bombs_end_at_the_limit() {
    let zeros = vec![0; 4 << 20];
    let limits = Limits { inflated_free: 1 << 20, inflated_ratio: 10, ..Limits::DEFAULT };
    for stored in [gzip(&zeros), zstd(&zeros)] {
        assert!(stored.len() < 100_000);
        let bytes = docker_archive(&zeros, &stored).done();
        let faults_found = faults(&bytes, &limits);
        assert_eq!(faults_found.len(), 1, "{faults_found:?}");
        assert!(faults_found[0].starts_with("layer `layer`: inflates to more than"), "{faults_found:?}");
        assert_eq!(faults(&bytes, &Limits::DEFAULT), Vec::<String>::new());
        let all = Limits { total_free: 1 << 20, total_ratio: 10, ..Limits::DEFAULT };
        assert!(faults(&bytes, &all)[0].contains("all layers together"));
    }
}

#[test]
fn several_members_and_skippable_frames_are_one_layer() {
    let plain = b"one two".repeat(1000);
    let (a, b) = plain.split_at(3000);
    let members = [gzip(a), gzip(b)].concat();
    assert_eq!(faults(&docker_archive(&plain, &members).done(), &Limits::DEFAULT), Vec::<String>::new());
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let frames = [skippable.clone(), zstd(a), skippable, zstd(b)].concat();
    assert_eq!(faults(&docker_archive(&plain, &frames).done(), &Limits::DEFAULT), Vec::<String>::new());
    let cut = &frames[..frames.len() - 2];
    assert!(faults(&docker_archive(&plain, cut).done(), &Limits::DEFAULT)[0].starts_with("layer `layer`: "));
    let garbage = [gzip(&plain), b"garbage".to_vec()].concat();
    assert!(faults(&docker_archive(&plain, &garbage).done(), &Limits::DEFAULT)[0].starts_with("layer `layer`: "));
}

#[test]
fn a_stored_layer_may_begin_like_a_compressed_one() {
    let plain = [&[0x1f, 0x8b, 0x08][..], b" no gzip at all, but the configuration says this very file"].concat();
    let analysis = analyse(&docker_archive(&plain, &plain).done()[..], &Limits::DEFAULT).expect("reads");
    let graph = analysis.graph.expect("is an image");
    assert_eq!(graph.docker_images[0].layers[0].diff_id.as_deref(), Some(sha256_hex(&plain).as_str()));
    assert_eq!(graph.faults, Vec::<String>::new());
}

#[test]
fn absent_blobs_wrong_sizes_and_wrong_names() {
    let layer = gzip(b"layer");
    let config = config(&[b"layer"]);
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG, &config),
        "layers": [descriptor(OCI_LAYER, &layer), descriptor(OCI_LAYER, b"absent")]})
    .to_string()
    .into_bytes();
    let mut wrong_size = descriptor(OCI_MANIFEST, &manifest);
    wrong_size["size"] = json!(1);
    let index =
        json!({"manifests": [wrong_size, descriptor(OCI_MANIFEST, b"gone"), {"digest": "sha512:00", "size": 1}]});
    let bytes = Archive::new()
        .json("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))
        .blob(&layer)
        .blob(&config)
        .blob(&manifest)
        .file(&format!("blobs/sha256/{}", "0".repeat(64)), b"liar")
        .json("index.json", &index)
        .done();
    let faults = faults(&bytes, &Limits::DEFAULT);
    for (part, name) in [
        ("has the digest", "0".repeat(64)),
        ("says 1 bytes", sha256_hex(&manifest)),
        ("names the layer", sha256_hex(b"absent")),
        ("has 2 layers", sha256_hex(&manifest)),
        ("names the manifest", sha256_hex(b"gone")),
        ("no sha256 digest", "sha512:00".into()),
    ] {
        assert!(faults.iter().any(|fault| fault.contains(part) && fault.contains(&name)), "{part}: {faults:#?}");
    }
    assert_eq!(faults.len(), 6, "{faults:#?}");
}

#[test]
fn a_blob_under_another_name_is_not_followed() {
    let config = config(&[]);
    let manifest = json!({"config": descriptor(OCI_CONFIG, &config), "layers": []}).to_string().into_bytes();
    let name = "1".repeat(64);
    let bytes = Archive::new()
        .blob(&config)
        .file(&format!("blobs/sha256/{name}"), &manifest)
        .json("index.json", &json!({"manifests": [{"digest": format!("sha256:{name}"), "size": manifest.len()}]}))
        .done();
    let (pieces, shortfalls) = evidence(attest(&[("image.tar", TAR, &bytes)]));
    assert_eq!(shortfalls.len(), 1, "{shortfalls:?}");
    assert!(!names(&pieces[0]).iter().any(|name| name.starts_with("imagedigest:")), "{:?}", names(&pieces[0]));
}

#[test]
fn deep_and_wide_indexes_end() {
    let mut archive = Archive::new();
    let mut inner = json!({"mediaType": OCI_INDEX, "manifests": []}).to_string().into_bytes();
    for _ in 0..20 {
        archive = archive.blob(&inner);
        inner = json!({"mediaType": OCI_INDEX, "manifests": [descriptor(OCI_INDEX, &inner)]}).to_string().into_bytes();
    }
    let bytes = archive.file("index.json", &inner).done();
    let deep = faults(&bytes, &Limits::DEFAULT);
    assert_eq!(deep.len(), 1, "{deep:?}");
    assert!(deep[0].contains("indexes deep"), "{deep:?}");

    // The same index again and again: looked at once.
    let empty = json!({"manifests": []}).to_string().into_bytes();
    let many: Vec<Value> = (0..20_000).map(|_| descriptor(OCI_INDEX, &empty)).collect();
    let bytes = Archive::new().blob(&empty).json("index.json", &json!({"manifests": many})).done();
    let wide = faults(&bytes, &Limits::DEFAULT);
    assert_eq!(wide.len(), 1, "{wide:?}");
}

#[test]
fn documents_that_are_too_large_too_deep_or_ambiguous() {
    let deep = format!("[{}1{}]", "[".repeat(100_000), "]".repeat(100_000));
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("deep", deep.into_bytes(), "`manifest.json`: "),
        ("large", [b"[".to_vec(), vec![b' '; 5 << 20], b"]".to_vec()].concat(), "within the limits"),
        ("cut", b"[{\"Config\":".to_vec(), "`manifest.json`: "),
        ("twice", br#"[{"Config":"a","Config":"b","Layers":[]}]"#.to_vec(), "duplicate field"),
        ("empty", b"[]".to_vec(), "lists no image"),
    ];
    for (what, text, want) in cases {
        let bytes = Archive::new().blob(b"x").file("manifest.json", &text).done();
        let faults = faults(&bytes, &Limits::DEFAULT);
        assert!(faults.iter().any(|fault| fault.contains(want)), "{what}: {faults:?}");
    }
    let both = json!({"manifests": [], "layers": [], "config": descriptor(OCI_CONFIG, b"")}).to_string().into_bytes();
    let bytes =
        Archive::new().blob(&both).json("index.json", &json!({"manifests": [descriptor(OCI_INDEX, &both)]})).done();
    assert!(faults(&bytes, &Limits::DEFAULT)[0].contains("as an index and as a manifest"));
}

#[test]
fn many_entries_end_at_the_limit() {
    let mut archive = docker_archive(b"layer", b"layer");
    for at in 0..400 {
        archive = archive.file(&format!("junk/{at}"), b"");
    }
    let bytes = archive.json("manifest.json", &json!([])).done();
    let names = Limits { names: 100, ..Limits::DEFAULT };
    assert!(faults(&bytes, &names).iter().any(|fault| fault.contains("more than 100 entries")));
    let entries = Limits { entries: 200, ..Limits::DEFAULT };
    assert!(faults(&bytes, &entries).iter().any(|fault| fault.contains("more than 200 entries; it was not read")));
}

/// Small documents that name the same thing again and again: neither time nor evidence grows without end.
#[test]
fn repetition_ends_at_the_limits() {
    let config = config(&[b"layer"]);
    let padding = " ".repeat(3 << 20);
    let config = [config, padding.into_bytes()].concat();
    let image = json!({"Config": "c.json", "RepoTags": null, "Layers": ["l"]});
    let many = vec![image; 5000];
    let bytes = Archive::new().file("c.json", &config).file("l", b"layer").json("manifest.json", &json!(many)).done();
    let found = faults(&bytes, &Limits::DEFAULT);
    assert!(found.iter().any(|fault| fault.contains("more than 4096 images")), "{found:?}");
    assert!(found.iter().any(|fault| fault.contains("named so often")), "{found:?}");

    let cut = &gzip(b"layer")[..12];
    let tags: Vec<String> = (0..20_000).map(|at| format!("a:{at}")).collect();
    let image = json!([{"Config": "c.json", "RepoTags": tags, "Layers": vec!["l"; 500_000]}]);
    let bytes = Archive::new().file("c.json", b"{}").file("l", cut).json("manifest.json", &image).done();
    let found = faults(&bytes, &Limits::DEFAULT);
    assert!(found.iter().any(|fault| fault.contains("more than 1024 layers")), "{found:?}");
    assert!(found.iter().any(|fault| fault.contains("more than 16384 names")), "{found:?}");
    assert_eq!(found.iter().filter(|fault| fault.starts_with("layer `l`: ")).count(), 1);
}

/// A tar of this many entries, made as it is read: 10^6 take a second in a release build, a minute in this one.
const MANY: u32 = 70_000;

struct Many {
    at: u32,
    block: Vec<u8>,
}

impl Read for Many {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.block.is_empty() && self.at < MANY {
            let mut header = tar::Header::new_ustar();
            header.set_path(format!("blobs/{}", self.at)).expect("a short name");
            header.set_size(0);
            header.set_cksum();
            self.block = header.as_bytes().to_vec();
            self.at += 1;
        }
        let n = self.block.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.block[..n]);
        self.block.drain(..n);
        Ok(n)
    }
}

#[test]
fn a_flood_of_entries_is_walked_and_few_are_kept() {
    let analysis = analyse(Many { at: 0, block: Vec::new() }, &Limits::DEFAULT).expect("reads");
    assert_eq!(analysis.contents.entries, u64::from(MANY));
    assert_eq!(analysis.contents.files.len(), Limits::DEFAULT.names);
    assert_eq!(analysis.contents.faults.len(), 1, "{:?}", analysis.contents.faults);
}

#[test]
fn long_names_pax_and_sparse_headers() {
    let long = format!("{}/layer.tar", "d".repeat(300));
    let config = config(&[b"layer"]);
    let manifest = json!([{"Config": "c.json", "RepoTags": null, "Layers": [long]}]);
    // The builder writes a GNU long name.
    let gnu = Archive::new().file(&long, b"layer").file("c.json", &config).json("manifest.json", &manifest).done();
    assert_eq!(faults(&gnu, &Limits::DEFAULT), Vec::<String>::new());
    let record = format!(" path={long}\n");
    let length = record.len() + 3;
    let pax = Archive::new()
        .raw("PaxHeaders/x", EntryType::XHeader, "", format!("{length}{record}").as_bytes())
        .raw("short", EntryType::Regular, "", b"layer")
        .file("c.json", &config)
        .json("manifest.json", &manifest)
        .done();
    assert_eq!(faults(&pax, &Limits::DEFAULT), Vec::<String>::new());
    let sparse = docker_archive(b"layer", b"layer").raw("holes", EntryType::GNUSparse, "", b"data").done();
    assert!(faults(&sparse, &Limits::DEFAULT)[0].contains("`holes` is stored as a sparse file"));
    let huge = docker_archive(b"layer", b"layer").raw("x", EntryType::GNULongName, "", &vec![b'n'; 2 << 20]).done();
    assert!(faults(&huge, &Limits::DEFAULT)[0].contains("an extended header of 2097152 bytes"));
}

#[test]
fn ordinary_archives_are_nothing() {
    let source = Archive::new().file("src/main.rs", b"fn main() {}").file("index.json", b"{\"manifests\":[]}").done();
    let web = Archive::new().file("manifest.json", b"{\"name\":\"a web application\"}").done();
    let compressed = gzip(&source);
    let outcome =
        attest(&[("a.tar", TAR, &source), ("b.tar", TAR, &web), ("c.tar.gz", "application/gzip", &compressed)]);
    match outcome {
        Ok(Found::Nothing(reason)) => assert!(reason.contains("none of 3 archives"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let blobs = Archive::new().blob(b"x").done();
    let error = attest(&[("a.tar", TAR, &blobs)]).expect_err("an image without its entry point");
    assert!(error.to_string().starts_with("a.tar: has the files of an image"), "{error}");
    let error = attest(&[("a.tar", TAR, b"no tar at all, whatever the detector said".repeat(99).as_slice())]);
    assert!(error.expect_err("is no tar").to_string().starts_with("a.tar: is no tar archive"));
}

#[test]
fn a_compressed_archive_is_the_same_image() {
    let config_first = {
        let config = config(&[b"layer"]);
        let name = format!("sha256:{}", sha256_hex(&config));
        Archive::new()
            .file(&name, &config)
            .file("layer.tar.gz", &gzip(b"layer"))
            .json("manifest.json", &json!([{"Config": name, "RepoTags": ["a:1"], "Layers": ["layer.tar.gz"]}]))
            .done()
    };
    for (mime, stored) in [("application/gzip", gzip(&config_first)), ("application/zstd", zstd(&config_first))] {
        let (pieces, shortfalls) = evidence(attest(&[("image.tar.gz", mime, &stored)]));
        assert_eq!(shortfalls, Vec::<String>::new());
        let Predicate::Composed(predicate) = &pieces[0].predicate else { panic!("composed") };
        assert_eq!(predicate["tardigest"]["sha256"], sha256_hex(&stored));
        assert_eq!(predicate["affiant"]["inflated"]["sha256"], sha256_hex(&config_first));
        assert_eq!(predicate["diffids"][0]["sha256"], sha256_hex(b"layer"));
        // A docker archive says no registry digest; what it may become is no subject.
        let candidate = &predicate["affiant"]["registryDigests"]["candidates"][0]["digest"];
        assert!(candidate.as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{candidate}");
        assert!(!names(&pieces[0]).iter().any(|name| name.starts_with("imagedigest:")));
        let cut = &stored[..stored.len() - 20];
        let error = attest(&[("image.tar.gz", mime, cut)]).expect_err("cut off");
        assert!(error.to_string().starts_with("image.tar.gz: "), "{error}");
    }
}

/// `crane digest --tarball` (0.21.7) of the same file.
#[test]
fn the_candidate_is_what_crane_would_push() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/oci/docker-two-tags/products/out/image.tar");
    let analysis = analyse(std::fs::File::open(path).expect("a fixture"), &Limits::DEFAULT).expect("reads");
    let graph = analysis.graph.expect("is an image");
    assert_eq!(
        candidate(&graph.docker_images[0], &analysis.contents).as_deref(),
        Some("7cda1e485a8681c9f35df6d7878106efcba3404d1ddcb501831d695b6d355804")
    );
}

#[test]
fn all_images_of_an_archive_are_told() {
    let (a, b) = (config(&[b"layer"]), config(&[b"layer", b"other"]));
    let bytes = Archive::new()
        .file("a.json", &a)
        .file("b.json", &b)
        .file("l0", b"layer")
        .file("l1", b"other")
        .json(
            "manifest.json",
            &json!([
                {"Config": "a.json", "RepoTags": ["a:1", "a:2"], "Layers": ["l0"]},
                {"Config": "b.json", "RepoTags": ["b:1"], "Layers": ["l0", "l1"]},
            ]),
        )
        .done();
    let (pieces, shortfalls) = evidence(attest(&[("image.tar", TAR, &bytes)]));
    assert_eq!(shortfalls, Vec::<String>::new());
    let names = names(&pieces[0]);
    for want in [
        format!("imageid:{}", sha256_hex(&a)),
        format!("imageid:{}", sha256_hex(&b)),
        "imagetag:a:2".into(),
        "imagetag:b:1".into(),
        format!("layerdiffid01:{}", sha256_hex(b"other")),
    ] {
        assert!(names.contains(&want.as_str()), "{want} in {names:?}");
    }
    let Predicate::Composed(predicate) = &pieces[0].predicate else { panic!("composed") };
    assert_eq!(predicate["affiant"]["images"].as_array().map(Vec::len), Some(2));
    assert_eq!(predicate["diffids"].as_array().map(Vec::len), Some(1), "those of the first image");
}

#[test]
fn a_product_that_changed_gives_no_evidence() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let bytes = docker_archive(b"layer", b"layer").done();
    let world = world(dir.path(), &[("image.tar", TAR, &bytes)]);
    std::fs::write(dir.path().join("image.tar"), docker_archive(b"other", b"other").done()).expect("writes");
    let error = Oci::attest(Options::default(), &world).expect_err("changed");
    assert_eq!(error.to_string(), "image.tar: changed after its digest was recorded");
}

/// Small steps of a generator that needs no crate (xorshift).
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 33).unwrap_or(0)
}

#[test]
fn damaged_archives_never_panic_and_give_the_same_answer_twice() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/oci");
    let mut state = 0x2545_f491_4f6c_dd1d;
    for case in
        ["recorded-witness/products/image.tar", "multi-max/products/out/image.tar", "oci-zstd/products/out/image.tar"]
    {
        let whole = std::fs::read(fixtures.join(case)).expect("a fixture");
        for _ in 0..150 {
            let mut bytes = whole.clone();
            for _ in 0..=next(&mut state) % 4 {
                let at = next(&mut state) % bytes.len();
                match next(&mut state) % 3 {
                    0 => bytes[at] ^= 1 << (next(&mut state) % 8),
                    1 => bytes.truncate(at.max(1)),
                    _ => {
                        let end = (at + next(&mut state) % 600).min(bytes.len());
                        bytes.drain(at..end);
                    }
                }
                if bytes.is_empty() {
                    bytes.push(0);
                }
            }
            let tell = |bytes: &[u8]| match analyse(bytes, &Limits::DEFAULT) {
                Ok(Analysis { contents, graph }) => format!("{contents:?} {graph:?}"),
                Err(error) => error.to_string(),
            };
            assert_eq!(tell(&bytes), tell(&bytes));
        }
    }
}
