//! `affiant run` without a key: the collection, its certificate and its timestamp, judged by the gate and by openssl; what
//! the command sees of the identity; and evidence that outlives an outage.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::{Ended, Place, decode, text};
use crate::hosts::{affiant, call, place, sh};
use crate::keyless_outages::config_through;
use crate::stack::{GITLAB, Stack, line, need_sigstore, proofs, with_token};
use crate::weather::{Proxy, Weather};

const AFFIANT: &str = env!("CARGO_BIN_EXE_affiant");

/// A policy with the roots of the instance: who may build is said by the certificate.
const POLICY: &str = "expires: 30d
roots:
  fulcio: {certificate: fulcio-root.pem, intermediates: [fulcio-issuer.pem]}
timestampauthorities:
  tsa: tsa-root.pem
steps:
  build:
    functionaries:
      - certConstraint:
          commonname: ''
          uris: ['IDENTITY']
          roots: [fulcio]
          extensions: {Issuer: 'ISSUER', SourceRepositoryURI: 'https://gitlab.example.com/group/project'}
    attestations: [{type: environment}]
";

/// A run of the job, with its evidence at `../NAME`.
fn run(place: &Place, stack: &Stack, config: &str, more: &[&str], name: &str, command: &[&str]) -> Ended {
    let (token, outfile) = (stack.gitlab(place, &[]), format!("../{name}"));
    // What was there before is no product.
    let _ = std::fs::remove_file(place.work().join("made"));
    let root = stack.root();
    let services = ["--signing-config", config, "--trusted-root", &root, "-o", &outfile];
    let words = line(&[&["run", "-s", "build", "-a", "environment"], &services, more, &["--"], command], &[], &[]);
    with_token(place, &token, AFFIANT, &words, &[])
}

fn policy(place: &Place, stack: &Stack, name: &str, source: &str) {
    for file in ["fulcio-root.pem", "fulcio-issuer.pem", "tsa-root.pem", "tsa-2-root.pem"] {
        std::fs::copy(stack.file(file), place.beside(file)).expect("copied");
    }
    let source = source.replace("IDENTITY", GITLAB).replace("ISSUER", &stack.service("gitlab"));
    std::fs::write(place.beside(&format!("{name}.yaml")), source).expect("written");
    sh(
        place,
        &format!(
            "cd .. && affiant policy compile {name}.yaml -o {name}.json && affiant sign -k policy.key -f {name}.json -o {name}.signed.json"
        ),
    );
}

fn verify(place: &Place, policy: &str, evidence: &str, file: &str) -> Ended {
    let (policy, evidence) = (format!("../{policy}.signed.json"), format!("../{evidence}"));
    affiant(place, &["verify", "-p", &policy, "-k", "../policy.pub", "-a", &evidence, "-f", file])
}

fn policies(place: &Place, stack: &Stack) {
    sh(place, "affiant key generate --no-password --kind ed25519 -o ../policy.key");
    policy(place, stack, "good", POLICY);
    policy(
        place,
        stack,
        "stranger",
        &POLICY.replace("IDENTITY", "https://gitlab.example.com/group/other//.gitlab-ci.yml@refs/heads/main"),
    );
    policy(place, stack, "issuer", &POLICY.replace("ISSUER", "https://gitlab.com"));
    policy(place, stack, "clock", &POLICY.replace("tsa: tsa-root.pem", "tsa: tsa-2-root.pem"));
    policy(
        place,
        stack,
        "root",
        &POLICY
            .replace("certificate: fulcio-root.pem, intermediates: [fulcio-issuer.pem]", "certificate: tsa-2-root.pem"),
    );
}

#[test]
fn a_collection_without_a_key_passes_the_gate_and_openssl() {
    need_sigstore!("openssl");
    let (place, stack) = (place(), Stack::new());
    policies(&place, &stack);
    for proof in proofs() {
        // The gate wants a timestamp, whatever a log says.
        if proof.name == "rekor1" {
            continue;
        }
        let evidence = format!("{}.json", proof.name);
        let config = stack.config(proof.name);
        let _ = run(&place, &stack, &config, &[], &evidence, &["sh", "-c", "echo made > made"]).code(0);
        let passed = verify(&place, "good", &evidence, "made");
        assert!(
            passed.passed() && passed.stdout.starts_with("PASSED: "),
            "{}: {}{}",
            proof.name,
            passed.stdout,
            passed.stderr
        );
        for policy in ["stranger", "issuer", "clock", "root"] {
            let denied = verify(&place, policy, &evidence, "made").code(1);
            assert!(denied.stdout.starts_with("DENIED: "), "{policy}: {}", denied.stdout);
        }
        // Of the whole: one signature with certificate, the authorities above it, and a token of RFC 3161 over the signature.
        let written = crate::hosts::read(&place.beside(&evidence));
        let signatures = written["signatures"].as_array().expect("a list");
        assert_eq!(signatures.len(), 1, "{written}");
        let mut members: Vec<&str> = signatures[0].as_object().expect("members").keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, ["certificate", "intermediates", "keyid", "sig", "timestamps"], "{written}");
        assert_eq!(signatures[0]["timestamps"][0]["type"], "tsp");
        std::fs::write(place.beside("leaf.pem"), decode(&signatures[0]["certificate"])).expect("written");
        let above: Vec<u8> =
            signatures[0]["intermediates"].as_array().expect("a list").iter().flat_map(decode).collect();
        std::fs::write(place.beside("above.pem"), above).expect("written");
        std::fs::write(place.beside("sig"), decode(&signatures[0]["sig"])).expect("written");
        std::fs::write(place.beside("token.der"), decode(&signatures[0]["timestamps"][0]["data"])).expect("written");
        let payload = decode(&written["payload"]);
        let kind = text(&written["payloadType"]);
        let mut pae = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
        pae.extend(&payload);
        std::fs::write(place.beside("pae"), pae).expect("written");
        sh(
            &place,
            "cd .. && openssl verify -CAfile fulcio-root.pem -untrusted above.pem -purpose any leaf.pem\n\
             openssl x509 -in leaf.pem -noout -ext extendedKeyUsage | grep -q 'Code Signing'\n\
             openssl x509 -in leaf.pem -noout -pubkey >leaf.pub && openssl dgst -sha256 -verify leaf.pub -signature sig pae\n\
             openssl ts -verify -token_in -in token.der -data sig -CAfile tsa-root.pem",
        );
        let ended = call(
            &place,
            "openssl",
            &["ts", "-verify", "-token_in", "-in", "../token.der", "-data", "../pae", "-CAfile", "../tsa-root.pem"],
        );
        assert!(!ended.passed(), "over the signature, and over nothing else");
    }
}

/// Everything that a command can look at: environment, descriptors, and who called it: its variables, arguments and memory.
const LOOK: &str = r"
env >../seen-env
ls -l /proc/self/fd >../seen-fds
cat /proc/$PPID/environ >../seen-environ 2>&1 || true
cat /proc/$PPID/cmdline >../seen-cmdline 2>&1 || true
if (: </proc/$PPID/mem) 2>/dev/null; then echo open; else echo closed; fi >../seen-mem
echo made >made
";

/// affiant as a user who may not look into everybody's memory, as root may.
fn as_nobody(place: &Place) -> std::process::Command {
    let ours = place.beside("affiant");
    std::fs::copy(AFFIANT, &ours).expect("copied");
    if place.sh("id -u") != "0" {
        return place.command(ours.to_str().expect("UTF-8"));
    }
    place.sh("chown -R 65534:65534 ..");
    let mut command = place.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(ours);
    command
}

struct Job {
    name: &'static str,
    variables: Vec<(&'static str, String)>,
    secret: String,
}

#[test]
fn the_command_finds_no_token_and_no_key() {
    need_sigstore!("setpriv");
    let (place, stack) = (place(), Stack::new());
    for (file, name) in [(stack.config("tsa"), "config.json"), (stack.root(), "root.json")] {
        std::fs::copy(file, place.beside(name)).expect("copied");
        place.sh(&format!("chmod 644 ../{name}"));
    }
    let permission = std::fs::read_to_string(stack.file("github.password")).expect("read").trim().to_owned();
    let token = stack.gitlab(&place, &[]);
    let jobs = [
        Job {
            name: "gitlab",
            variables: vec![("SIGSTORE_ID_TOKEN", token.clone()), ("A_COPY", token.clone())],
            secret: token,
        },
        Job {
            name: "github",
            variables: vec![
                ("GITHUB_ACTIONS", "true".to_owned()),
                ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", permission.clone()),
                ("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{}/token?", stack.service("github"))),
            ],
            secret: permission,
        },
    ];
    for job in jobs {
        let (name, secret) = (job.name, &job.secret);
        let outfile = format!("../{name}.json");
        let services = ["--signing-config", "../config.json", "--trusted-root", "../root.json", "-o", &outfile];
        let words =
            line(&[&["run", "-s", "build", "-a", "environment"], &services, &["--", "sh", "-c", LOOK]], &[], &[]);
        let mut command = as_nobody(&place);
        let ended = Ended::of(&command.args(words).envs(job.variables).output().expect("affiant starts")).code(0);
        for text in [&ended.stdout, &ended.stderr] {
            assert!(!text.contains(secret), "{name}: {text}");
        }
        // In nothing that the command saw, and in nothing that was written.
        for (path, bytes) in place.everything_written() {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{name}: {}", path.display());
        }
        let seen = |what: &str| {
            String::from_utf8_lossy(&std::fs::read(place.beside(&format!("seen-{what}"))).expect("read")).into_owned()
        };
        for what in ["env", "environ", "cmdline"] {
            assert!(!seen(what).contains("ID_TOKEN") && !seen(what).contains("eyJ"), "{name}: {what}: {}", seen(what));
        }
        assert_eq!(seen("mem"), "closed\n", "{name}: the memory with the token, or with the key");
        // What this test was given itself, and nothing that is ours.
        let numbers = |listed: &str| -> BTreeSet<String> {
            let lines = listed.lines().filter(|line| line.contains(" -> ") && !line.contains(" -> /proc/"));
            lines.filter_map(|line| Some(line.split(" -> ").next()?.rsplit(' ').next()?.to_owned())).collect()
        };
        assert_eq!(numbers(&seen("fds")), numbers(&place.sh("ls -l /proc/self/fd")), "{name}: {}", seen("fds"));
        let written = crate::hosts::read(&place.beside(&format!("{name}.json")));
        assert!(written["signatures"][0]["certificate"].is_string(), "{name}: it was signed without a key");
    }
}

/// An envelope has no room for log entries: what it needs are the certificate and the time.
#[test]
fn evidence_outlives_an_outage() {
    need_sigstore!();
    let (place, stack) = (place(), Stack::new());
    policies(&place, &stack);
    for service in ["fulcio", "tsa"] {
        outage(&place, &stack, service);
    }
}

fn outage(place: &Place, stack: &Stack, service: &str) {
    let made = ["sh", "-c", "echo made > made"];
    let name = |what: &str| format!("{service}-{what}.json");

    // For a while.
    let proxy = Proxy::before(&stack.service(service), Weather::Broken);
    let config = config_through(place, stack, &proxy, "rekor2", service);
    proxy.becomes_after(Duration::from_secs(6), Weather::Well);
    let _ = run(place, stack, &config, &["--retry-for", "60s"], &name("while"), &made).code(0);
    assert!(proxy.asked() >= 2);
    let passed = verify(place, "good", &name("while"), "made");
    assert!(passed.passed(), "{}{}", passed.stdout, passed.stderr);

    // Cut off in the middle.
    proxy.becomes(Weather::Cut(1));
    let _ = run(place, stack, &config, &["--retry-for", "60s"], &name("cut"), &made).code(0);
    let passed = verify(place, "good", &name("cut"), "made");
    assert!(passed.passed(), "{}{}", passed.stdout, passed.stderr);

    // A command's own failure stays its own.
    proxy.becomes(Weather::Broken);
    let spool_at = format!("../{service}-spool");
    let failed = run(
        place,
        stack,
        &config,
        &["--spool", &format!("{spool_at}-2"), "--retry-for", "3s"],
        &name("failed"),
        &["sh", "-c", "exit 7"],
    );
    let _ = failed.code(7);
    // For good: the command's success is not the run's, and what is known of it waits.
    let spool = ["--spool", &spool_at, "--retry-for", "3s"];
    let ended = run(place, stack, &config, &spool, &name("never"), &made).code(125);
    assert!(ended.stderr.contains("502"), "{}", ended.stderr);
    assert!(place.work().join("made").exists() && !place.beside(&name("never")).exists());
    let waiting: Vec<_> = std::fs::read_dir(place.beside(&format!("{service}-spool")))
        .expect("a spool")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".payload.json").map(str::to_owned))
        .collect();
    let [digest] = &waiting[..] else { panic!("one payload waits, not {waiting:?}") };
    let digest = format!("sha256:{digest}");
    let root = stack.root();
    let resume = [
        "resume",
        "--spool",
        &spool_at,
        "--digest",
        &digest,
        "--signing-config",
        &config,
        "--trusted-root",
        &root,
        "--retry-for",
        "3s",
    ];
    let resumed = |place: &Place| with_token(place, &stack.gitlab(place, &[]), AFFIANT, &resume, &[]);
    assert!(!resumed(place).passed(), "still down");
    assert!(
        std::fs::read_dir(place.beside(&format!("{service}-spool"))).expect("a spool").count() >= 2,
        "and still kept"
    );
    proxy.becomes(Weather::Well);
    let _ = resumed(place).code(0);
    let passed = verify(place, "good", &name("never"), "made");
    assert!(passed.passed(), "{}{}", passed.stdout, passed.stderr);
    let listed = sh(place, &format!("affiant resume --list --spool {spool_at}"));
    assert!(!listed.contains(&digest), "{listed}");
}

#[test]
fn a_run_is_refused_before_the_command_where_no_identity_will_be_believed() {
    need_sigstore!();
    let (place, stack) = (place(), Stack::new());
    let (config, root) = (stack.config("rekor2"), stack.root());
    let expired = stack.gitlab(&place, &["-for", "-1h"]);
    let other = stack.gitlab(&place, &["-aud", "somebody"]);
    for (token, why) in
        [(expired.as_str(), "expired"), (other.as_str(), "somebody"), ("nonsense", "token"), ("", "token")]
    {
        let words = ["run", "-s", "build", "--signing-config", &config, "--trusted-root", &root, "--", "touch", "ran"];
        let ended = with_token(&place, token, AFFIANT, &words, &[]).code(125);
        assert!(ended.stderr.contains(why), "{why}: {}", ended.stderr);
        assert!(!place.work().join("ran").exists(), "{why}: the command did not run");
        assert!(token.is_empty() || !ended.stderr.contains(token), "{why}");
    }
}
