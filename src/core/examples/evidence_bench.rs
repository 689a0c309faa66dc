//! Joins two collections by their files: `evidence_bench make FOLDER [FILES] [flat|tree]` writes what a build and a test
//! of its files would leave, `evidence_bench join FOLDER` checks and joins them as the gate does for `artifactsFrom`.
//!
//! In a process of its own, so that the memory told is that of the joining alone.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use affiant_core::digest::sha256;
use affiant_core::dsse::Envelope;
use affiant_core::evidence::files::{Digests, Files};
use affiant_core::evidence::{Statement, links, merkle};
use affiant_core::sign::{KeyKind, PrivateKey, PublicKey, Signer as _};
use affiant_core::statement::PAYLOAD_TYPE;

type Failed = Box<dyn std::error::Error>;

/// Paths as long as those of a source tree.
fn path(number: usize) -> String {
    format!("packages/module-{:03}/src/component-{:02}/file-{number:06}.source.ts", number % 211, number % 17)
}

fn hex(number: usize) -> String {
    hex::encode(sha256(&number.to_le_bytes()))
}

/// An entry over the files of `range`, in the flat form or as a tree.
fn entry(name: &str, range: std::ops::Range<usize>, tree: bool) -> Result<String, Failed> {
    let paths: Vec<_> = range.map(|number| (path(number), number)).collect();
    if !tree {
        let mut paths = paths;
        paths.sort();
        let files: Vec<_> = paths
            .iter()
            .map(|(path, number)| match name {
                "product" => format!(
                    r#""{path}":{{"mime_type":"text/plain; charset=utf-8","digest":{{"sha256":"{}"}}}}"#,
                    hex(*number)
                ),
                _ => format!(r#""{path}":{{"sha256":"{}"}}"#, hex(*number)),
            })
            .collect();
        return Ok(format!(
            r#"{{"type":"https://witness.dev/attestations/{name}/v0.1","attestation":{{{}}}}}"#,
            files.join(",")
        ));
    }
    let digests = paths.iter().map(|(path, number)| (path.as_str(), Digests::of_sha256(sha256(&number.to_le_bytes()))));
    let files = Files::of(digests)?;
    let tree = merkle::build(&files)?;
    let mut leaves = String::new();
    for leaf in tree.leaves() {
        let comma = if leaves.is_empty() { "" } else { "," };
        write!(
            leaves,
            r#"{comma}{{"path":"{}","fileDigest":"{}","leafHash":"{}"}}"#,
            leaf.path,
            hex::encode(leaf.digest),
            hex::encode(leaf.leaf_hash)
        )?;
    }
    Ok(format!(
        r#"{{"type":"https://aflock.ai/attestations/{name}/v0.3","attestation":{{"merkleRoot":"{}","treeSize":{},"hashAlgorithm":"sha256","construction":"RFC6962","leaves":[{leaves}]}}}}"#,
        hex::encode(tree.root),
        tree.size
    ))
}

fn make(folder: &Path, files: usize, tree: bool) -> Result<(), Failed> {
    let key = PrivateKey::generate(KeyKind::P256)?;
    std::fs::write(folder.join("bench.pub"), key.public_key().to_pem())?;
    let half = files / 2;
    // The build makes one half of its files of the other; the test finds all of them.
    let build = [entry("material", 0..half, tree)?, entry("product", half..files, tree)?];
    let test = [entry("material", 0..files, tree)?, entry("product", 0..0, tree)?];
    let products: Vec<_> = (half..files)
        .map(|number| {
            format!(
                r#"{{"name":"https://witness.dev/attestations/product/v0.1/file:{}","digest":{{"sha256":"{}"}}}}"#,
                path(number),
                hex(number)
            )
        })
        .collect();
    for (step, entries, subjects) in [("build", build, products), ("test", test, Vec::new())] {
        let payload = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v0.1","subject":[{}],"predicateType":"https://witness.testifysec.com/attestation-collection/v0.1","predicate":{{"name":"{step}","attestations":[{}]}}}}"#,
            subjects.join(","),
            entries.join(",")
        );
        let envelope = Envelope::seal(payload.into_bytes(), PAYLOAD_TYPE, &[&key])?.to_json();
        writeln!(io::stdout(), "{step}: {files} files, {} MB", envelope.len() / 1_000_000)?;
        std::fs::write(folder.join(format!("{step}.json")), envelope)?;
    }
    Ok(())
}

/// Materials and products of an envelope.
fn read(folder: &Path, step: &str, key: &PublicKey) -> Result<(Files, Files), Failed> {
    let mut out = io::stdout();
    let mut from = Instant::now();
    let mut tell = |what: &str| -> io::Result<()> {
        let took = std::mem::replace(&mut from, Instant::now()).elapsed();
        writeln!(out, "  {step:<6} {what:<24} {:>6.1} ms", took.as_secs_f64() * 1000.0)
    };
    let bytes = std::fs::read(folder.join(format!("{step}.json")))?;
    let envelope = Envelope::parse(&bytes, 1 << 30)?;
    drop(bytes);
    tell("read and decode")?;
    let verified = envelope.verify(std::slice::from_ref(key)).map_err(|error| error.reason.to_string())?;
    let payload = verified.payload(PAYLOAD_TYPE)?;
    tell("signature")?;
    let statement = Statement::parse_strict(payload)?;
    tell("statement, strict")?;
    let collection = statement.collection().ok_or("no collection")??;
    let references = links::backrefs(&statement, &collection);
    tell("collection and links")?;
    let mut files = collection.attestations.iter().filter_map(Files::read);
    let (materials, products) = (files.next().ok_or("no materials")??, files.next().ok_or("no products")??);
    tell("files")?;
    assert!(references.is_empty() && statement.subject.len() == products.len());
    Ok((materials, products))
}

fn join(folder: &Path) -> Result<(), Failed> {
    let key = PublicKey::from_file_bytes(&std::fs::read(folder.join("bench.pub"))?)?;
    let begun = Instant::now();
    let (materials, products) = read(folder, "build", &key)?;
    let (found, _) = read(folder, "test", &key)?;
    let from = Instant::now();
    let edge = found.compare(&materials.overlay(&products));
    let compared = from.elapsed();
    let mut out = io::stdout();
    writeln!(
        out,
        "  overlay and compare {:.1?}: {} shared, {} different",
        compared, edge.shared, edge.different_total
    )?;
    let from = Instant::now();
    for file in products.iter() {
        let sha256 = file.digests.sha256.ok_or("no SHA-256")?;
        assert_eq!(products.find_sha256(&sha256), Some(file.path));
    }
    writeln!(out, "  {} lookups of a product {:.1?}", products.len(), from.elapsed())?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown");
    writeln!(out, "whole {:.2?}, {peak}", begun.elapsed())?;
    Ok(())
}

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match words[..] {
        ["make", folder] => make(Path::new(folder), 100_000, false),
        ["make", folder, files] => make(Path::new(folder), files.parse()?, false),
        ["make", folder, files, form] => make(Path::new(folder), files.parse()?, form == "tree"),
        ["join", folder] => join(Path::new(folder)),
        _ => Err("evidence_bench make FOLDER [FILES] [flat|tree] | evidence_bench join FOLDER".into()),
    }
}
