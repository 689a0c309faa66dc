//! How long `oci` takes for a large image archive, against one `openssl dgst -sha256` over the tar.
//!
//! ```text
//! cargo run --release -p affiant-attestors --example oci_scale -- generate stored 900 /tmp/image.tar
//! cargo run --release -p affiant-attestors --example oci_scale -- measure /tmp/image.tar
//! ```
//! Kinds: `stored` (plain layers), `random` (gzip that does not compress), `text` (gzip, about 3 to 1), `zstd`.
//! For compressed layers the second figure is against openssl over the inflated bytes.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a program for people at the terminal

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use affiant_attestors::oci::{Limits, Oci, analyse};
use affiant_core::attestor::{After, AttestAfter as _, Before, Environment, Found, Host};
use affiant_core::digest::{DigestSet, sha256_hex, sha256_reader};
use affiant_core::product::{Change, Product, Products};

const LAYERS: usize = 3;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["generate", kind, megabytes, path] => generate(kind, megabytes.parse().unwrap(), path),
        ["measure", path] => measure(path),
        ["analyse", path] => {
            let start = Instant::now();
            let analysis = analyse(File::open(path).unwrap(), &Limits::DEFAULT).unwrap();
            println!(
                "{} entries, {:?}, {:.2} s",
                analysis.contents.entries,
                analysis.contents.faults,
                start.elapsed().as_secs_f64()
            );
        }
        _ => println!("usage: generate stored|random|text|zstd MEGABYTES PATH | measure PATH"),
    }
}

/// One megabyte of a layer.
fn block(kind: &str, state: &mut u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    while out.len() < 1 << 20 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        if matches!(kind, "text" | "zstd") {
            let _ = writeln!(out, "/usr/lib/module-{:04x}/file.so: needed by {:06x}", *state & 0xfff, *state >> 40);
        } else {
            out.extend_from_slice(&state.to_le_bytes());
        }
    }
    out.truncate(1 << 20);
    out
}

fn generate(kind: &str, megabytes: usize, path: &str) {
    let mut tar = tar::Builder::new(BufWriter::new(File::create(path).unwrap()));
    let mut append = |name: &str, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, data).unwrap();
    };
    let (mut diff_ids, mut layers, mut state) = (Vec::new(), Vec::new(), 0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..LAYERS {
        let mut content = Vec::new();
        for _ in 0..megabytes / LAYERS {
            content.extend_from_slice(&block(kind, &mut state));
        }
        diff_ids.push(format!("sha256:{}", sha256_hex(&content)));
        let stored = match kind {
            "stored" => content,
            "zstd" => ruzstd::encoding::compress_to_vec(&content[..], ruzstd::encoding::CompressionLevel::Fastest),
            _ => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
                encoder.write_all(&content).unwrap();
                encoder.finish().unwrap()
            }
        };
        let name = format!("blobs/sha256/{}", sha256_hex(&stored));
        append(&name, &stored);
        layers.push(name);
    }
    let config =
        serde_json::json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = config.to_string().into_bytes();
    let name = format!("blobs/sha256/{}", sha256_hex(&config));
    append(&name, &config);
    let manifest = serde_json::json!([{"Config": name, "RepoTags": ["example/large:1"], "Layers": layers}]);
    append("manifest.json", manifest.to_string().as_bytes());
    tar.into_inner().unwrap().flush().unwrap();
}

fn openssl(path: &str) -> f64 {
    let start = Instant::now();
    let status = Command::new("openssl").args(["dgst", "-sha256", path]).stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    start.elapsed().as_secs_f64()
}

/// Processor time of this process and of its children, in ticks (proc(5), `/proc/pid/stat`, fields 14 to 17).
fn ticks() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|field| field.parse().unwrap())
        .collect();
    (fields[0] + fields[1], fields[2] + fields[3])
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list[list.len() / 2]
}

fn measure(path: &str) {
    let path = std::fs::canonicalize(path).unwrap();
    let (folder, name) = (path.parent().unwrap().to_owned(), path.file_name().unwrap().to_str().unwrap().to_owned());
    let (digest, length) = sha256_reader(File::open(&path).unwrap()).unwrap();
    let digest = hex::encode(digest);
    let attest = || {
        let product = Product {
            path: name.clone(),
            mime: "application/x-tar".into(),
            digests: DigestSet::sha256_hex(digest.clone()),
            length,
            change: Change::New,
        };
        let before = Before {
            step: "build".into(),
            dir: folder.clone(),
            env: Arc::new(Environment::default()),
            mask: Arc::default(),
            host: Host::default(),
            command: Vec::new(),
            ..Before::default()
        };
        let products = Arc::new(Products::new(folder.clone(), vec![product]));
        let world = After { before: Arc::new(before), products, success: true, heard: Arc::default(), engine: None };
        let start = Instant::now();
        let found = Oci::attest(affiant_attestors::oci::Options::default(), &world);
        let took = start.elapsed().as_secs_f64();
        match found {
            Ok(Found::Evidence { shortfalls, .. }) => assert_eq!(shortfalls, Vec::<String>::new()),
            other => panic!("{other:?}"),
        }
        took
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let before = ticks();
    for _ in 0..5 {
        theirs.push(openssl(path.to_str().unwrap()));
        ours.push(attest());
    }
    let after = ticks();
    let (ours, theirs) = (median(ours), median(theirs));
    let inflated: u64 = analyse(File::open(&path).unwrap(), &Limits::DEFAULT)
        .unwrap()
        .contents
        .files
        .values()
        .filter_map(|file| file.inflated.as_ref()?.as_ref().ok())
        .map(|inflated| inflated.size)
        .sum();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    #[allow(clippy::cast_precision_loss)] // sizes of files on a disk
    let (tar, inflated) = (length as f64, inflated as f64);
    println!("tar {:.0} MB: openssl {theirs:.2} s, attestor {ours:.2} s: {:.2} x", tar / 1e6, ours / theirs);
    if inflated > 0.0 {
        println!(
            "inflated {:.0} MB: {:.2} x openssl over these bytes",
            inflated / 1e6,
            ours / (theirs * inflated / tar)
        );
    }
    #[allow(clippy::cast_precision_loss)] // ticks of a few seconds
    let (own, child) = ((after.0 - before.0) as f64, (after.1 - before.1) as f64);
    println!("processor time: {:.2} x openssl's", own / child.max(1.0));
    println!("{peak}");
}
