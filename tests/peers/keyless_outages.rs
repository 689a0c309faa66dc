//! A log that does not answer for a while, or for good, or whose answer is cut off: an image is signed with its entry, or
//! with what was permitted instead, or not at all.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Ended, Place, registry};
use crate::hosts::{call, place, push};
use crate::stack::{Stack, line, need_sigstore, proofs, with_token};
use crate::weather::{Proxy, Weather};

const AFFIANT: &str = env!("CARGO_BIN_EXE_affiant");

/// A signing configuration in which the log is behind the proxy; its file.
pub(crate) fn config_through(place: &Place, stack: &Stack, proxy: &Proxy, log: &str) -> String {
    let mut config: Value = serde_json::from_slice(&std::fs::read(stack.config(log)).expect("read")).expect("JSON");
    config["rekorTlogUrls"][0]["url"] = proxy.url(&stack.service(log)).into();
    let path = place.beside("through.json");
    std::fs::write(&path, config.to_string()).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

fn sign(place: &Place, stack: &Stack, proxy: &Proxy, log: &str, more: &[&str], image: &str) -> Ended {
    let (config, root) = (config_through(place, stack, proxy, log), stack.root());
    let services = ["--signing-config", &config, "--trusted-root", &root];
    let line = line(&[&["image", "sign", "--format", "bundle"], more, &services], &[], &[image]);
    with_token(place, &stack.gitlab(place, &[]), AFFIANT, &line, &[])
}

fn verify(place: &Place, stack: &Stack, more: &[&str], image: &str) -> Ended {
    call(place, AFFIANT, &line(&[&["image", "verify"], more], &stack.gitlab_flags(), &[image]))
}

fn image(place: &Place, name: &str) -> String {
    push(place, &format!("{}/{}-{name}:1", registry(), place.unique()))
}

#[test]
fn a_log_that_is_down_for_a_while() {
    need_sigstore!("crane");
    let (place, stack) = (place(), Stack::new());
    let image = image(&place, "while");
    let proxy = Proxy::before(&stack.service("rekor2"), Weather::Broken);
    let begun = Instant::now();
    proxy.becomes_after(Duration::from_secs(6), Weather::Well);
    let _ = sign(&place, &stack, &proxy, "rekor2", &["--retry-for", "60s"], &image).code(0);
    assert!(begun.elapsed() >= Duration::from_secs(5) && proxy.asked() >= 2, "{}", proxy.asked());
    let _ = verify(&place, &stack, &[], &image).code(0);
}

#[test]
fn a_log_that_never_answers() {
    need_sigstore!("crane");
    let (place, stack) = (place(), Stack::new());
    let proxy = Proxy::before(&stack.service("rekor2"), Weather::Broken);
    let nothing = image(&place, "nothing");
    let begun = Instant::now();
    let ended = sign(&place, &stack, &proxy, "rekor2", &["--retry-for", "3s"], &nothing).code(4);
    assert!(begun.elapsed() < Duration::from_secs(30), "it gives up");
    for part in [&*proxy.url(&stack.service("rekor2")), "502"] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    // Nothing was kept that nobody could verify.
    let _ = verify(&place, &stack, &[], &nothing).code(10);

    let stamped = image(&place, "stamped");
    let more = ["--retry-for", "3s", "--on-log-failure", "timestamp-only"];
    let ended = sign(&place, &stack, &proxy, "rekor2", &more, &stamped).code(0);
    assert!(ended.stderr.contains("no log entry was made"), "{}", ended.stderr);
    let _ = verify(&place, &stack, &["--insecure-ignore-tlog", "--use-signed-timestamps"], &stamped).code(0);
    let _ = verify(&place, &stack, &[], &stamped).code(12);
}

#[test]
fn a_line_that_is_cut_in_the_middle() {
    need_sigstore!("crane");
    let (place, stack) = (place(), Stack::new());
    for proof in proofs().filter(|proof| proof.name != "tsa") {
        for (name, weather) in [("cut", Weather::Cut(1)), ("deaf", Weather::Deaf(2))] {
            let image = image(&place, &format!("{}-{name}", proof.name));
            let proxy = Proxy::before(&stack.service(proof.name), weather);
            let more = ["--retry-for", "60s", "--log", proof.name];
            let _ = sign(&place, &stack, &proxy, proof.name, &more, &image).code(0);
            assert!(proxy.asked() >= 2, "{name}");
            let _ = verify(&place, &stack, &[], &image).code(0);
        }
    }
}
