//! Every file of the corpus through the functions that the fuzzer calls, with the stable compiler.

mod services;
mod sigstore;
mod targets;

use std::path::PathBuf;

fn each(target: &str, body: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("a corpus") {
        let path = entry.expect("a file").path();
        let data = std::fs::read(&path).expect("a file of the corpus");
        assert!(std::panic::catch_unwind(|| body(&data)).is_ok(), "{} fails", path.display());
        seen += 1;
    }
    assert!(seen >= 10, "{} has {seen} files", folder.display());
}

#[test]
fn corpus_of_envelopes() {
    each("dsse", targets::dsse);
}

#[test]
fn corpus_of_statements() {
    each("statement", targets::statement);
}

#[test]
fn corpus_of_policies() {
    each("policy", targets::policy);
}

#[test]
fn corpus_of_trees() {
    each("merkle", targets::merkle);
}

#[test]
fn corpus_of_timestamps() {
    each("timestamp", targets::timestamp);
}

#[test]
fn corpus_of_bundles_and_roots() {
    each("bundle", sigstore::bundle);
}

#[test]
fn corpus_of_log_entries() {
    each("entry", sigstore::entry);
}

#[test]
fn corpus_of_checkpoints() {
    each("checkpoint", sigstore::checkpoint);
}

#[test]
fn corpus_of_certificates() {
    each("certificate", sigstore::certificate);
}

#[test]
fn corpus_of_log_entries_that_wait() {
    each("queue", services::queue);
}

#[test]
fn corpus_of_answers() {
    each("answers", services::answers);
}
