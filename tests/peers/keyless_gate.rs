//! Images that cosign and affiant have signed without a key, judged by the policy of the gate alone; and a policy that was
//! itself signed so.

use crate::harness::{Ended, Place, registry};
use crate::hosts::{affiant, parts, place, push, sh};
use crate::keyless::signed_by_cosign;
use crate::stack::{GITLAB, Proof, Stack, line, need_sigstore, proofs, with_token};

const AFFIANT: &str = env!("CARGO_BIN_EXE_affiant");
const OTHER: &str = "https://gitlab.example.com/group/other//.gitlab-ci.yml@refs/heads/main";

/// The evidence of a build that has pushed the image.
fn built(place: &Place, image: &str, outfile: &str) {
    let (name, digest) = parts(image);
    sh(
        place,
        &format!(
            "echo '{{\"containerimage.digest\": \"{digest}\", \"image.name\": \"{name}:1\"}}' >../m.json\n\
             affiant run -k ../build.key -s build -a docker --on-gap warn -o ../{outfile} -- cp ../m.json docker-metadata.json\n\
             rm docker-metadata.json"
        ),
    );
}

/// A policy under which `uri` must have signed images, with an entry in a log or without.
fn policy(place: &Place, stack: &Stack, name: &str, uri: &str, logged: bool) {
    let log = if logged { "\n  log: required" } else { "" };
    let source = format!(
        "expires: 30d\ntrustedRoot: {}\npublickeys: {{build: build.pub}}\nsteps:\n  build:\n    functionaries: [{{key: build}}]\n    \
         attestations: [docker]\nimages:\n  functionaries:\n    - certConstraint:\n        uris: ['{uri}']\n        roots: ['*']\n        \
         extensions: {{Issuer: '{}'}}\n  sct: required{log}\n",
        stack.root(),
        stack.service("gitlab"),
    );
    std::fs::write(place.beside(&format!("{name}.yaml")), source).expect("written");
    sh(place, &format!("affiant policy sign -k ../policy.key ../{name}.yaml -o ../{name}.signed.json"));
}

fn verify(place: &Place, policy: &str, evidence: &str, image: &str) -> Ended {
    let (policy, evidence) = (format!("../{policy}.signed.json"), format!("../{evidence}"));
    affiant(place, &["verify", "-p", &policy, "-k", "../policy.pub", "-a", &evidence, "--image", image])
}

fn signed(place: &Place, stack: &Stack, proof: &Proof, form: &str, who: &str, image: &str) {
    if who == "cosign" {
        return signed_by_cosign(place, stack, proof, image, form, &["sign", "-a", "tag=1"]);
    }
    let (config, root) = (stack.config(proof.name), stack.root());
    let log: &[&str] = if proof.name == "rekor1" { &["--log", "rekor1"] } else { &[] };
    let services = [&["--signing-config", &config, "--trusted-root", &root], log].concat();
    let words = line(&[&["image", "sign", "--format", form, "-a", "tag=1"], &services], &[], &[image]);
    let _ = with_token(place, &stack.gitlab(place, &[]), AFFIANT, &words, &[]).code(0);
}

#[test]
fn the_policy_judges_images_that_were_signed_without_a_key() {
    need_sigstore!("cosign2", "crane");
    let (place, stack) = (place(), Stack::new());
    sh(
        &place,
        "affiant key generate --no-password --kind ed25519 -o ../policy.key\n\
         affiant key generate --no-password --kind ed25519 -o ../build.key",
    );
    for (name, uri, logged) in
        [("logged", GITLAB, true), ("stamped", GITLAB, false), ("other", OTHER, false), ("other-logged", OTHER, true)]
    {
        policy(&place, &stack, name, uri, logged);
    }
    for proof in proofs() {
        for form in ["tag", "bundle"].into_iter().filter(|form| *form == "bundle" || proof.tag) {
            for who in ["cosign", "affiant"] {
                let told = format!("{}, {form}, {who}", proof.name);
                let image =
                    push(&place, &format!("{}/{}-gate-{}-{form}-{who}:1", registry(), place.unique(), proof.name));
                built(&place, &image, "build.json");
                let unsigned = verify(&place, "stamped", "build.json", &image).code(1);
                assert!(unsigned.stdout.contains("none is kept with"), "{told}: {}", unsigned.stdout);
                signed(&place, &stack, &proof, form, who, &image);
                let is_logged = proof.name != "tsa";
                let taken = verify(&place, "stamped", "build.json", &image);
                assert!(taken.passed(), "{told}: {}{}", taken.stdout, taken.stderr);
                for part in [GITLAB, &stack.service("gitlab")] {
                    assert!(taken.stdout.contains(part), "{told}: {part}: {}", taken.stdout);
                }
                let logged = verify(&place, "logged", "build.json", &image);
                assert_eq!(logged.passed(), is_logged, "{told}: {}{}", logged.stdout, logged.stderr);
                for policy in ["other", "other-logged"] {
                    let denied = verify(&place, policy, "build.json", &image).code(1);
                    // Who it was is said, where all that is demanded besides is there.
                    if is_logged || policy == "other" {
                        let words = denied.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
                        assert!(words.contains(GITLAB) && words.contains("would accept it"), "{told}: {words}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_policy_that_was_signed_without_a_key_is_proven_by_timestamp_or_log() {
    need_sigstore!("crane");
    let (place, stack) = (place(), Stack::new());
    sh(
        &place,
        "affiant key generate --no-password --kind ed25519 -o ../policy.key\n\
         affiant key generate --no-password --kind ed25519 -o ../build.key",
    );
    policy(&place, &stack, "keyed", GITLAB, false);
    let image = push(&place, &format!("{}/{}-policy:1", registry(), place.unique()));
    built(&place, &image, "build.json");
    let root = stack.root();
    let tsa = proofs().find(|proof| proof.name == "tsa").expect("it is always there");
    signed(&place, &stack, &tsa, "bundle", "affiant", &image);
    let (fulcio, issuer) = (stack.service("fulcio"), stack.service("gitlab"));
    for proof in proofs() {
        let time = match proof.name {
            "rekor1" => ["--rekor-url".to_owned(), stack.service("rekor1")],
            "tsa" => ["--timestamp-servers".to_owned(), stack.service("tsa")],
            _ => continue,
        };
        let sign = ["policy", "sign", "--fulcio-url", &fulcio, "--trusted-root", &root, "-o", "../keyless.signed.json"];
        let words = line(&[&sign], &time, &["../keyed.yaml"]);
        let _ = with_token(&place, &stack.gitlab(&place, &[]), AFFIANT, &words, &[]).code(0);
        let ask = |who: &str, issuer: &str| {
            let policy = ["verify", "-p", "../keyless.signed.json", "--policy-trusted-root", &root];
            let who = ["--policy-uris", who, "--policy-fulcio-oidc-issuer", issuer, "-a", "../build.json", "--image"];
            affiant(&place, &line(&[&policy, &who], &[], &[&image]))
        };
        let taken = ask(GITLAB, &issuer);
        assert!(taken.passed(), "{}: {}{}", proof.name, taken.stdout, taken.stderr);
        let _ = ask(OTHER, &issuer).code(1);
        let _ = ask(GITLAB, "https://gitlab.com").code(1);
    }
}
