//! A log that does not answer for a while, or for good, or whose answer is cut off: an image is signed with its entry, or
//! with what was permitted instead, or not at all.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Ended, Place, registry, variable};
use crate::hosts::{call, place, push};
use crate::stack::{Stack, line, need_sigstore, proofs, with_token};
use crate::weather::{Proxy, Weather};

const AFFIANT: &str = env!("CARGO_BIN_EXE_affiant");

/// A signing configuration in which a service is behind the proxy; its file.
pub(crate) fn config_through(place: &Place, stack: &Stack, proxy: &Proxy, log: &str, service: &str) -> String {
    let mut config: Value = serde_json::from_slice(&std::fs::read(stack.config(log)).expect("read")).expect("JSON");
    let url = stack.service(service);
    let list = match service {
        "fulcio" => "caUrls",
        "tsa" => "tsaUrls",
        _ => "rekorTlogUrls",
    };
    // An authority's URL is that of its server, or of its questions.
    let entry = config[list][0]["url"].take();
    config[list][0]["url"] = entry.as_str().expect("a URL").replace(&url, &proxy.url(&url)).into();
    let path = place.beside(&format!("through-{service}.json"));
    std::fs::write(&path, config.to_string()).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

fn sign(place: &Place, stack: &Stack, proxy: &Proxy, log: &str, more: &[&str], image: &str) -> Ended {
    let (config, root) = (config_through(place, stack, proxy, log, log), stack.root());
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

/// A real minute, of which the pauses between questions grow long: beside other tests it costs nothing but waiting.
#[test]
#[ignore = "a minute of waiting for each log: beside the others, with --ignored"]
fn a_log_that_is_down_for_a_minute() {
    const MINUTE: Duration = Duration::from_secs(60);
    need_sigstore!("cosign3", "crane");
    let (place, stack) = (place(), Stack::new());
    for log in ["rekor2", "rekor1"] {
        let Some(proof) = proofs().find(|proof| proof.name == log) else { continue };
        let image = image(&place, &format!("minute-{log}"));
        let proxy = Proxy::before(&stack.service(log), Weather::Broken);
        let begun = Instant::now();
        proxy.becomes_after(MINUTE, Weather::Well);
        let _ = sign(&place, &stack, &proxy, log, &["--retry-for", "5m", "--log", log], &image).code(0);
        assert!(begun.elapsed() >= MINUTE, "{log}");
        // Neither given up nor asked all the time.
        assert!((4..=60).contains(&proxy.asked()), "{log}: {}", proxy.asked());
        let _ = verify(&place, &stack, &[], &image).code(0);
        let taken = call(&place, "cosign3", &line(&[&["verify"], proof.check], &stack.gitlab_flags(), &[&image]));
        assert!(taken.passed(), "{log}: {}", taken.stderr);
    }
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

/// What was signed while the log was down is checked by its timestamp; when the log is back, `resume` has the entry made,
/// and cosign finds it where the signature is.
#[test]
fn a_log_entry_that_was_queued_is_made_when_the_log_is_back() {
    need_sigstore!("cosign2", "crane");
    let (place, stack) = (place(), Stack::new());
    let (fulcio, stamps, root) = (stack.service("fulcio"), stack.service("tsa"), stack.root());
    let hosts = [registry(), variable("AFFIANT_PEERS_REGISTRY_REFERRERS").expect("it runs")];
    for (host, proof) in proofs().flat_map(|proof| hosts.iter().map(move |host| (host, proof.clone()))) {
        for form in ["tag", "bundle"] {
            if proof.name == "tsa" || (form == "tag" && !proof.tag) {
                continue;
            }
            let who = format!("{host}, {}, {form}", proof.name);
            let image = push(&place, &format!("{host}/{}-queue-{}-{form}:1", place.unique(), proof.name));
            let proxy = Proxy::before(&stack.service(proof.name), Weather::Broken);
            let log = proxy.url(&stack.service(proof.name));
            let services =
                ["--fulcio-url", &fulcio, "--timestamp-servers", &stamps, "--rekor-url", &log, "--log", proof.name];
            let queue =
                ["--on-log-failure", "queue", "--spool", "../spool", "--retry-for", "2s", "--trusted-root", &root];
            let words = line(&[&["image", "sign", "--format", form], &services, &queue], &[], &[&image]);
            let ended = with_token(&place, &stack.gitlab(&place, &[]), AFFIANT, &words, &[]).code(0);
            assert!(ended.stderr.contains("it waits in"), "{who}: {}", ended.stderr);
            let judges =
                [("cosign3", proof.check), ("cosign2", if form == "bundle" { proof.cosign2 } else { proof.check })];
            let cosign = |program: &str, told: &[&str]| {
                call(&place, program, &line(&[&["verify"], told], &stack.gitlab_flags(), &[&image]))
            };
            for (program, told) in judges {
                let stamped = cosign(program, &["--insecure-ignore-tlog", "--use-signed-timestamps"]);
                assert!(stamped.passed(), "{who}: {program}: {}", stamped.stderr);
                assert!(!cosign(program, told).passed(), "{who}: {program}: there is no entry yet");
            }
            let resume = || {
                let words = ["resume", "--spool", "../spool", "--retry-for", "2s", "--trusted-root", &root];
                with_token(&place, "", AFFIANT, &words, &[])
            };
            let waits = resume().code(4);
            assert!(waits.stderr.contains("the log entry still waits"), "{who}: {}", waits.stderr);
            proxy.becomes(Weather::Well);
            let done = resume().code(0);
            assert!(done.stderr.contains(" is in "), "{who}: {}", done.stderr);
            for (program, told) in judges {
                let taken = cosign(program, told);
                assert!(taken.passed(), "{who}: {program}: {}", taken.stderr);
            }
            let _ = verify(&place, &stack, &[], &image).code(0);
        }
    }
}

/// What a log of the second generation has already it does not give again: it is found in the log's tree.
#[test]
fn an_entry_that_is_there_already_is_found_in_the_tree() {
    need_sigstore!();
    let (place, stack) = (place(), Stack::new());
    let tree = variable("AFFIANT_PEERS_SIGSTORE").map(|folder| std::path::Path::new(&folder).join("rekor2"));
    let own = stack.service("rekor2");
    let proxy = Proxy::with_tree(&own, tree.expect("it runs"));
    let log = proxy.url(&own);
    let root = std::fs::read_to_string(stack.root()).expect("read").replace(&own, &log);
    std::fs::write(place.beside("root.json"), root).expect("written");
    std::fs::write(place.work().join("file"), place.unique()).expect("written");
    let _ = call(&place, AFFIANT, &["key", "generate", "--kind", "rsa2048", "--no-password", "-o", "../r.key"]).code(0);
    let sign = |bundle: &str, more: &[&str]| {
        let services = ["--rekor-url", &log, "--log", "rekor2", "--retry-for", "2s", "--bundle", bundle];
        call(&place, AFFIANT, &line(&[&["image", "sign-blob", "--key", "../r.key"], &services, more], &[], &["file"]))
    };
    let with_root = ["--trusted-root", "../root.json"];
    let _ = sign("a.json", &with_root).code(0);
    // The same key signs the same: without a trusted root nobody says whose the log is.
    let refused = sign("b.json", &[]).code(4);
    for part in ["it has this entry already", "--trusted-root ROOT"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    let _ = sign("b.json", &with_root).code(0);
    let trusted = stack.root();
    for bundle in ["a.json", "b.json"] {
        let words = ["verify-blob", "--key", "../r.pub", "--trusted-root", &trusted, "--bundle", bundle, "file"];
        let taken = call(&place, "cosign3", &words);
        assert!(taken.passed(), "{bundle}: {}", taken.stderr);
        let _ = call(&place, AFFIANT, &[&["image"][..], &words].concat()).code(0);
    }
}
