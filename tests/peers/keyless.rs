//! Signing without keys against the Sigstore instance of the peers, with real cosign, both ways: tags, bundles and
//! attestations, proven by Rekor 1, by Rekor 2, or by a timestamp alone; and what somebody made of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Ended, Place, registry, variable};
use crate::hosts::{affiant, call, parts, place, push, sh};
use crate::stack::{GITHUB, GITLAB, Proof, Stack, line, need_sigstore, proofs, with_token};

const AFFIANT: &str = env!("CARGO_BIN_EXE_affiant");

/// A registry without a list of referrers, and one with.
fn hosts() -> [String; 2] {
    [registry(), variable("AFFIANT_PEERS_REGISTRY_REFERRERS").expect("it runs")]
}

/// affiant's `image VERB` with a job's token and the services of a proof.
fn sign(place: &Place, stack: &Stack, proof: &str, verb: &[&str], image: &str) -> Ended {
    let (config, root) = (stack.config(proof), stack.root());
    let services = ["--signing-config", &config, "--trusted-root", &root];
    // A log of the first generation is sent whole statements, and only when that is said.
    let log: &[&str] = if proof == "rekor1" { &["--log", "rekor1"] } else { &[] };
    let line = line(&[&["image"], verb, &services, log], &[], &[image]);
    with_token(place, &stack.gitlab(place, &[]), AFFIANT, &line, &[])
}

/// Who verifies, with what.
fn verify(place: &Place, program: &[&str], verb: &str, proof: &[&str], flags: &[String], image: &str) -> Ended {
    call(place, program[0], &line(&[&program[1..], &[verb], proof], flags, &[image]))
}

/// Flags that ask for somebody else, each in one way.
fn strangers(stack: &Stack) -> [Vec<String>; 3] {
    let issuer = stack.service("gitlab");
    [
        stack.flags("https://gitlab.example.com/group/other//.gitlab-ci.yml@refs/heads/main", &issuer),
        stack.flags(GITLAB, &stack.service("github")),
        stack.flags("", &issuer)[..2].iter().cloned().chain(key_flags()).collect(),
    ]
}

/// A key that has signed nothing.
fn key_flags() -> [String; 2] {
    ["--key".to_owned(), "../other.pub".to_owned()]
}

fn keyed(place: &Place) {
    let _ = affiant(place, &["image", "generate-key-pair", "--output-key-prefix", "../other"]).code(0);
}

/// What cosign must be told for each of our forms.
fn judges<'a>(proof: &'a Proof, form: &str) -> [(&'static [&'static str], &'a [&'static str]); 3] {
    let cosign2 = if form == "bundle" { proof.cosign2 } else { proof.check };
    [(&[AFFIANT, "image"], proof.check), (&["cosign3"], proof.check), (&["cosign2"], cosign2)]
}

#[test]
fn cosign_takes_what_we_sign_without_a_key() {
    need_sigstore!("cosign2", "crane");
    let (place, stack) = (place(), Stack::new());
    keyed(&place);
    for (host, proof) in proofs().flat_map(|proof| hosts().map(|host| (host, proof.clone()))) {
        for form in ["tag", "bundle"].into_iter().filter(|form| *form == "bundle" || proof.tag) {
            let who = format!("{host}, {}, {form}", proof.name);
            let image = push(&place, &format!("{host}/{}-{}-{form}:1", place.unique(), proof.name));
            let verb = ["sign", "--format", form, "-a", "tag=1", "-a", "user=Doe, Jane"];
            let _ = sign(&place, &stack, proof.name, &verb, &image).code(0);
            for (program, told) in judges(&proof, form) {
                let judge = |flags: &[String], more: &[&'static str]| {
                    verify(&place, program, "verify", &[told, more].concat(), flags, &image)
                };
                let taken = judge(&stack.gitlab_flags(), &["-a", "tag=1"]);
                assert!(taken.passed(), "{who}: {program:?}: {}", taken.stderr);
                let shown: Value = serde_json::from_str(&taken.stdout).expect("JSON");
                assert_eq!(shown[0]["critical"]["image"]["docker-manifest-digest"], parts(&image).1, "{who}: {shown}");
                // cosign 2 does not look at the annotations of a bundle.
                let blind = program == ["cosign2"] && form == "bundle";
                let other = judge(&stack.gitlab_flags(), &["-a", "tag=2"]);
                assert_eq!(other.passed(), blind, "{who}: {program:?}: another annotation");
                for flags in strangers(&stack) {
                    let refused = judge(&flags, &[]);
                    assert!(!refused.passed(), "{who}: {program:?}: {flags:?}: {}", refused.stdout);
                }
            }
        }
    }
}

#[test]
fn cosign_takes_what_we_attest_without_a_key() {
    need_sigstore!("cosign2", "crane");
    let (place, stack) = (place(), Stack::new());
    sh(&place, r#"echo '{"a": 1}' >../p.json"#);
    let kind = ["--type", "https://a.example/t"];
    for (host, proof) in proofs().flat_map(|proof| hosts().map(|host| (host, proof.clone()))) {
        for form in ["tag", "bundle"].into_iter().filter(|form| *form == "bundle" || proof.tag) {
            let who = format!("{host}, {}, {form}", proof.name);
            let image = push(&place, &format!("{host}/{}-att-{}-{form}:1", place.unique(), proof.name));
            let verb = [&["attest", "--format", form, "--predicate", "../p.json"], &kind[..]].concat();
            let _ = sign(&place, &stack, proof.name, &verb, &image).code(0);
            for (program, told) in judges(&proof, form) {
                let flags = stack.gitlab_flags();
                // cosign 2 has no trusted root here: it has the variables of old.
                let is_old = program == ["cosign2"] && form == "tag";
                let flags = if is_old { flags[2..].to_vec() } else { flags };
                let more = if is_old { stack.older_variables().to_vec() } else { Vec::new() };
                let told = [told, &kind].concat();
                let words = line(&[&program[1..], &["verify-attestation"], &told], &flags, &[&image]);
                let taken = with_token(&place, "", program[0], &words, &more);
                assert!(taken.passed(), "{who}: {program:?}: {}", taken.stderr);
                let words: Vec<&str> =
                    words.iter().map(|word| if *word == kind[1] { "https://a.example/other" } else { word }).collect();
                assert!(!with_token(&place, "", program[0], &words, &more).passed(), "{who}: {program:?}: a type");
            }
        }
    }
}

/// cosign's `sign` or `attest` of each kind, and what a verifier needs for it.
pub(crate) fn signed_by_cosign(place: &Place, stack: &Stack, proof: &Proof, image: &str, form: &str, verb: &[&str]) {
    let (config, root) = (stack.config(proof.name), stack.root());
    let [fulcio, rekor, stamps] = ["fulcio", "rekor1", "tsa"].map(|service| stack.service(service));
    let token = stack.gitlab(place, &[]);
    let more = stack.older_variables();
    let services: Vec<&str> = match form {
        "bundle" => vec!["--signing-config", &config, "--trusted-root", &root],
        _ if proof.name == "tsa" => {
            vec!["--fulcio-url", &fulcio, "--tlog-upload=false", "--timestamp-server-url", &stamps]
        }
        _ => vec!["--fulcio-url", &fulcio, "--rekor-url", &rekor],
    };
    let program = if form == "bundle" { "cosign3" } else { "cosign2" };
    let words = line(&[verb, &["--identity-token", &token], &services], &[], &[image]);
    // With a trusted root, the variables of old would be a second one.
    let more = if form == "bundle" { &[][..] } else { &more[..] };
    let _ = with_token(place, "", program, &words, more).code(0);
}

#[test]
fn we_take_what_cosign_signs_without_a_key() {
    need_sigstore!("cosign2", "crane");
    let (place, stack) = (place(), Stack::new());
    keyed(&place);
    sh(&place, r#"echo '{"a": 1}' >../p.json"#);
    for (host, proof) in proofs().flat_map(|proof| hosts().map(|host| (host, proof.clone()))) {
        for form in ["tag", "bundle"].into_iter().filter(|form| *form == "bundle" || proof.tag) {
            let who = format!("{host}, {}, {form}", proof.name);
            let image = push(&place, &format!("{host}/{}-their-{}-{form}:1", place.unique(), proof.name));
            signed_by_cosign(&place, &stack, &proof, &image, form, &["sign", "-a", "tag=1"]);
            let attest = ["attest", "--predicate", "../p.json", "--type", "https://a.example/t"];
            // An attestation below the tag whose time is proven by a timestamp alone: cosign 2 takes it over the envelope.
            signed_by_cosign(&place, &stack, &proof, &image, form, &attest);
            let judge = |flags: &[String], more: &[&'static str]| {
                verify(&place, &[AFFIANT, "image"], "verify", &[proof.check, more].concat(), flags, &image)
            };
            let taken = judge(&stack.gitlab_flags(), &["-a", "tag=1"]);
            assert!(taken.passed(), "{who}: {}", taken.stderr);
            let refused = judge(&stack.gitlab_flags(), &["-a", "tag=2"]).code(12);
            assert!(refused.stderr.contains("missing or incorrect annotation: tag=2"), "{who}: {}", refused.stderr);
            let [identity, issuer, key] = strangers(&stack).map(|flags| judge(&flags, &[]).code(12));
            // Who it was is said, so that the command can be mended after a look.
            for refused in [identity, issuer] {
                for part in [GITLAB, &stack.service("gitlab")] {
                    assert!(refused.stderr.contains(part), "{who}: {part}: {}", refused.stderr);
                }
            }
            assert!(!key.stderr.contains("panicked"), "{who}");
            let kind = ["--type", "https://a.example/t"];
            let told = [proof.check, &kind].concat();
            let flags = stack.gitlab_flags();
            let taken = verify(&place, &[AFFIANT, "image"], "verify-attestation", &told, &flags, &image);
            assert!(taken.passed(), "{who}: {}", taken.stderr);
            // Nobody's word for the time, where it is asked for.
            let other = other_root(&place, &stack, "timestampAuthorities");
            if proof.name != "rekor1" {
                let refused = judge(&with_root(&stack, &other), &[]).code(12);
                assert!(!refused.stderr.contains("panicked"), "{who}: {}", refused.stderr);
            }
            for kind in ["certificateAuthorities", "ctlogs"] {
                let other = other_root(&place, &stack, kind);
                let refused = judge(&with_root(&stack, &other), &[]).code(12);
                assert!(!refused.stderr.contains("panicked"), "{who}: {kind}: {}", refused.stderr);
            }
            if proof.name != "tsa" {
                let other = other_root(&place, &stack, "tlogs");
                let _ = judge(&with_root(&stack, &other), &[]).code(12);
                // What is demanded by no flag is demanded by the file.
                let alone = ["--insecure-ignore-tlog=false"];
                let _ = judge(&with_root(&stack, &other), &alone).code(12);
            }
        }
    }
}

#[test]
fn jobs_and_people_are_told_apart() {
    need_sigstore!();
    let (place, stack) = (place(), Stack::new());
    let person = "jane@example.com";
    let signers = [
        ("gitlab", GITLAB, stack.gitlab(&place, &[])),
        ("github", GITHUB, stack.github(&place, &[])),
        ("mail", person, stack.person(&place, person)),
    ];
    let root = stack.root();
    for (issuer, identity, token) in &signers {
        let config = stack.config("tsa");
        let words =
            ["image", "sign-blob", "--signing-config", &config, "--trusted-root", &root, "--bundle", "../b.json"];
        let _ = with_token(&place, token, AFFIANT, &line(&[&words], &[], &["hello.txt"]), &[]).code(0);
        let check = ["--bundle", "../b.json", "--insecure-ignore-tlog", "--use-signed-timestamps"];
        for program in [&[AFFIANT, "image", "verify-blob"][..], &["cosign3", "verify-blob"]] {
            let judge = |flags: &[String], more: &[&str]| {
                call(&place, program[0], &line(&[&program[1..], &check, more], flags, &["hello.txt"]))
            };
            for (other, name, _) in &signers {
                let taken = judge(&stack.flags(name, &stack.service(other)), &[]);
                assert_eq!(taken.passed(), other == issuer, "{program:?}: {issuer}, {other}: {}", taken.stderr);
            }
            // Of the workflow, only GitHub's jobs have something to say.
            let flags = stack.flags(identity, &stack.service(issuer));
            let workflow = [
                ("--certificate-github-workflow-repository", "example/project"),
                ("--certificate-github-workflow-ref", "refs/heads/main"),
                ("--certificate-github-workflow-trigger", "push"),
                ("--certificate-github-workflow-name", "release"),
                ("--certificate-github-workflow-sha", "0123456789012345678901234567890123456789"),
            ];
            for (flag, value) in workflow {
                let taken = judge(&flags, &[flag, value]);
                assert_eq!(taken.passed(), *issuer == "github", "{program:?}: {issuer}, {flag}: {}", taken.stderr);
                assert!(!judge(&flags, &[flag, "other"]).passed(), "{program:?}: {issuer}, {flag}");
            }
        }
    }
}

/// The flags of the job with another trusted root.
fn with_root(stack: &Stack, root: &str) -> Vec<String> {
    let mut flags = stack.gitlab_flags();
    root.clone_into(&mut flags[1]);
    flags
}

/// A trusted root in which all of one kind are those of another instance: what was there has another key.
fn other_root(place: &Place, stack: &Stack, kind: &str) -> String {
    let mut root: Value = serde_json::from_slice(&std::fs::read(stack.root()).expect("read")).expect("JSON");
    let path = place.beside(&format!("root-{kind}.json"));
    if !path.exists() {
        sh(
            place,
            &format!(
                "cd .. && openssl req -new -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=other \
                 -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -keyout {kind}.key -out {kind}.pem 2>/dev/null\n\
                 openssl x509 -in {kind}.pem -outform der -out {kind}.der; openssl pkey -in {kind}.key -pubout -outform der -out {kind}.spki"
            ),
        );
    }
    let read = |what: &str| std::fs::read(place.beside(&format!("{kind}.{what}"))).expect("read");
    let list = root[kind].as_array_mut().expect("a list");
    for one in list {
        if one["certChain"].is_object() {
            one["certChain"] = json!({ "certificates": [{ "rawBytes": STANDARD.encode(read("der")) }] });
        } else {
            let key = read("spki");
            one["publicKey"]["rawBytes"] = STANDARD.encode(&key).into();
            one["publicKey"]["keyDetails"] = "PKIX_ECDSA_P256_SHA_256".into();
            one["logId"]["keyId"] = STANDARD.encode(affiant_core::digest::sha256(&key)).into();
        }
    }
    std::fs::write(&path, root.to_string()).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}
