//! Twenty processes that write to one tag at the same time: nobody's work is lost without a word.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Ended, Place, decode, text};
use crate::hosts::{affiant, need_registries, place, push, registries, sh};

const WRITERS: usize = 20;

/// Runs all at the same time, each with its number; those that say that they have written.
fn at_once(place: &Place, line: impl Fn(usize) -> Vec<String>) -> BTreeSet<String> {
    let children: Vec<_> = (0..WRITERS)
        .map(|number| {
            let mut command = place.command(env!("CARGO_BIN_EXE_affiant"));
            command.args(line(number)).env("DOCKER_CONFIG", place.beside("home/.docker"));
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("affiant starts")
        })
        .collect();
    let ended = children.into_iter().map(|child| Ended::of(&child.wait_with_output().expect("it ends")));
    let written: BTreeSet<String> = ended
        .enumerate()
        .filter_map(|(number, ended)| {
            if ended.passed() {
                return Some(number.to_string());
            }
            // What did not stay is said.
            let ended = ended.code(4);
            assert!(ended.stderr.contains("could not be kept"), "{}", ended.stderr);
            None
        })
        .collect();
    // A registry of this machine does not need the two minutes that a writer has.
    assert!(written.len() > WRITERS / 2, "{written:?}");
    written
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn twenty_writers_of_one_tag() {
    need_registries!("crane");
    let place = place();
    let _ = affiant(&place, &["key", "generate", "--no-password", "-o", "../k.pem"]).code(0);
    for number in 0..WRITERS {
        std::fs::write(place.work().join(format!("{number}.json")), format!("{{\"n\":\"{number}\"}}"))
            .expect("written");
    }
    for host in registries() {
        // The tag `.sig`, the list of referrers, and the tag `.att`.
        for form in ["tag", "bundle"] {
            let image = push(&place, &format!("{host}/{}-{form}:1", place.unique()));
            let sign = |n: usize| words(&format!("image sign --key ../k.pem --format {form} -a n={n} {image}"));
            let written = at_once(&place, sign);
            let found = affiant(&place, &["image", "verify", "--key", "../k.pub", &image]).code(0);
            let found: Value = serde_json::from_str(&found.stdout).expect("JSON");
            let found = found.as_array().expect("an array").iter();
            let found: BTreeSet<String> = found.map(|one| text(&one["optional"]["n"]).to_owned()).collect();
            assert!(found.is_superset(&written), "{host}, {form}: {written:?}, and {found:?} are there");
        }
        let image = push(&place, &format!("{host}/{}-attested:1", place.unique()));
        let attest = |n: usize| {
            let type_of = "--type https://example.com/n";
            words(&format!("image attest --key ../k.pem --format tag {type_of} --predicate {n}.json {image}"))
        };
        let written = at_once(&place, attest);
        let check = ["image", "verify-attestation", "--key", "../k.pub", "--type", "https://example.com/n", &image];
        let found: BTreeSet<String> = affiant(&place, &check)
            .code(0)
            .stdout
            .lines()
            .map(|line| {
                let envelope: Value = serde_json::from_str(line).expect("an envelope");
                let statement: Value = serde_json::from_slice(&decode(&envelope["payload"])).expect("a statement");
                text(&statement["predicate"]["n"]).to_owned()
            })
            .collect();
        assert!(found.is_superset(&written), "{host}, att: {written:?}, and {found:?} are there");
        let (name, digest) = crate::hosts::parts(&image);
        let manifest = sh(&place, &format!("crane manifest {name}:{}.att", digest.replace(':', "-")));
        let manifest: Value = serde_json::from_str(&manifest).expect("a manifest");
        assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(found.len()), "each stands there once");
    }
}
