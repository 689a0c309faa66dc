//! What was signed without keys, carried into a folder, and verified where there is no network: in a namespace without
//! interfaces, in every form.

use crate::harness::{Ended, Place, registry};
use crate::hosts::{place, push, sh};
use crate::stack::{Stack, line, need_sigstore, proofs, with_token};

const AFFIANT: &str = env!("CARGO_BIN_EXE_affiant");

/// affiant where nothing can be reached, not even this machine.
fn alone(place: &Place, words: &[&str]) -> Ended {
    let through = ["--net", "--", AFFIANT];
    let mut command = place.command("unshare");
    Ended::of(&command.args(through).args(words).output().expect("unshare is there"))
}

#[test]
fn every_form_is_verified_where_there_is_no_network() {
    need_sigstore!("cosign2", "crane", "unshare");
    let (place, stack) = (place(), Stack::new());
    if !place.command("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success()) {
        crate::harness::left_out("no namespace can be made");
        return;
    }
    sh(&place, r#"echo '{"a": 1}' >../p.json"#);
    let kind = ["--type", "https://a.example/t"];
    for proof in proofs() {
        let (config, root) = (stack.config(proof.name), stack.root());
        let log: &[&str] = if proof.name == "rekor1" { &["--log", "rekor1"] } else { &[] };
        let services = [&["--signing-config", &config, "--trusted-root", &root], log].concat();
        for form in ["tag", "bundle", "referrer"].into_iter().filter(|form| *form == "bundle" || proof.tag) {
            let who = format!("{}, {form}", proof.name);
            let image = push(&place, &format!("{}/{}-{}-{form}:1", registry(), place.unique(), proof.name));
            let keep: &[&str] = match form {
                "referrer" => &["--format", "tag", "--registry-referrers-mode", "oci-1-1"],
                _ => &["--format", form],
            };
            let token = stack.gitlab(&place, &[]);
            let words = line(&[&["image", "sign"], keep, &services, &["-a", "tag=1"]], &[], &[&image]);
            let _ = with_token(&place, &token, AFFIANT, &words, &[]).code(0);
            let attested = form != "referrer";
            if attested {
                let attest = ["image", "attest", "--format", form, "--predicate", "../p.json"];
                let words = line(&[&attest, &kind, &services], &[], &[&image]);
                let _ = with_token(&place, &token, AFFIANT, &words, &[]).code(0);
            }
            let layout = format!("oci:../{}-{form}:1", proof.name);
            sh(&place, &format!("affiant image copy {image} {layout}"));
            let flags = stack.gitlab_flags();
            let verify = |verb: &str, more: &[&str]| {
                alone(&place, &line(&[&["image", verb], proof.check, more], &flags, &[&layout]))
            };
            let taken = verify("verify", &["-a", "tag=1"]);
            assert!(taken.passed(), "{who}: {}", taken.stderr);
            let taken = verify("verify", &["--offline", "-a", "tag=1"]);
            assert!(taken.passed(), "{who}: {}", taken.stderr);
            let _ = verify("verify", &["-a", "tag=2"]).code(12);
            if attested {
                let taken = verify("verify-attestation", &kind);
                assert!(taken.passed(), "{who}: {}", taken.stderr);
            }
        }
        // Files, with the bundles of both.
        let token = stack.gitlab(&place, &[]);
        let blob = [&["image", "sign-blob", "--bundle", "../ours.json"], &services[..]].concat();
        let _ = with_token(&place, &token, AFFIANT, &line(&[&blob], &[], &["hello.txt"]), &[]).code(0);
        let blob = ["sign-blob", "--bundle", "../theirs.json", "--signing-config", &config, "--trusted-root", &root];
        let _ = with_token(&place, &token, "cosign3", &line(&[&blob], &[], &["hello.txt"]), &[]).code(0);
        for bundle in ["../ours.json", "../theirs.json"] {
            let verify = ["image", "verify-blob", "--bundle", bundle];
            let taken = alone(&place, &line(&[&verify, proof.check], &stack.gitlab_flags(), &["hello.txt"]));
            assert!(taken.passed(), "{}, {bundle}: {}", proof.name, taken.stderr);
            let other = alone(&place, &line(&[&verify, proof.check], &stack.gitlab_flags(), &["Dockerfile"]));
            assert!(!other.passed(), "{}, {bundle}: another file", proof.name);
        }
    }
}
