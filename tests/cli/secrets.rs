//! Security rule 4: a secret is in no byte that affiant composes.

use std::process::Command;

use crate::harness::{Place, hex, left_out};

const CANARY: &str = "Zx9canary4Qw7Lm2Pt8Rk";

fn encodings() -> Vec<String> {
    use base64::Engine as _;
    let hex = hex(CANARY.as_bytes());
    let mut all = vec![CANARY.to_owned(), hex.to_uppercase(), hex];
    // At each of the three places that it can have in a base64 text, only the characters that it alone decides.
    for before in 0..3 {
        let text = base64::engine::general_purpose::STANDARD.encode([&b"xxx"[..before], CANARY.as_bytes()].concat());
        let first = (before * 8).div_ceil(6);
        let last = ((before + CANARY.len()) * 8) / 6;
        all.push(text[first..last].to_owned());
    }
    all
}

fn git(place: &Place, args: &[&str]) {
    let done = Command::new("git")
        .args(args)
        .current_dir(place.work())
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", place.beside("home"))
        .output()
        .expect("git is needed for this test");
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn redaction() {
    if Command::new("git").arg("--version").output().is_err() {
        left_out("git is not there");
        return;
    }
    let place = Place::new();
    place.write("a", "x");
    git(&place, &["init", "-q"]);
    git(&place, &["add", "a"]);
    git(&place, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", &format!("use {CANARY}")]);
    git(&place, &["remote", "add", "origin", &format!("https://user:{CANARY}@git.example/a.git")]);
    let script = format!(
        "echo out {CANARY}; echo err $DEPLOY_TOKEN >&2; touch f-{CANARY}; printf '%s' {CANARY} | base64; \
         printf 'x%s' {CANARY} | base64; printf 'xx%s' {CANARY} | base64; printf '%s' {CANARY} | od -An -tx1 | tr -d ' \\n'; \
         printf '{{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\",\"x\":\"{CANARY}\"}}' > s.cdx.json; \
         printf '{{\"containerimage.digest\":\"sha256:{zeros}\",\"image.name\":\"a:{CANARY}\"}}' > m.json",
        zeros = "0".repeat(64)
    );
    place
        .capture(["-s", "b", "--report", "../report.json", "--", "sh", "-c", &script, CANARY])
        .env("DEPLOY_TOKEN", CANARY)
        .env("SEEN", "plain value")
        .run()
        .code(0);
    for (path, bytes) in place.everything_written() {
        for encoding in encodings() {
            let found = bytes.windows(encoding.len()).any(|window| window == encoding.as_bytes());
            assert!(!found, "{encoding} in {}", path.display());
        }
    }
    let environment = place.predicate("environment");
    assert_eq!(environment["variables"]["DEPLOY_TOKEN"], "******");
    assert_eq!(environment["variables"]["SEEN"], "plain value");
    assert_eq!(environment["variables"]["PATH"], "/usr/local/bin:/usr/bin:/bin");
    let redactions = place.predicate("command-run")["affiant"]["redactions"].clone();
    assert!(redactions.as_array().expect("a list").len() >= 4, "{redactions}");
    let gaps = place.statement()["predicate"]["gaps"].to_string();
    assert!(gaps.contains("whose name holds a secret") && gaps.contains("sha256:e3b0c442"), "{gaps}");
    assert!(gaps.contains("the document holds a secret"), "{gaps}");
}

#[test]
fn messages_on_stderr_are_masked_too() {
    let place = Place::new();
    let ended =
        place.affiant(["run", "-k", CANARY, "--", "true"]).env("DEPLOY_TOKEN", CANARY).run().code(125).stdout("");
    assert!(!ended.stderr_text().contains(CANARY), "{}", ended.stderr_text());
}

#[test]
fn sign_refuses_a_document_with_a_secret() {
    let place = Place::new();
    place.write("policy.json", format!("{{\"x\":\"{CANARY}\"}}"));
    place
        .affiant(["sign", "-k", "../k.pem", "policy.json"])
        .env("DEPLOY_TOKEN", CANARY)
        .run()
        .code(1)
        .stdout("")
        .stderr_has(&["policy.json holds the value of the secret variable DEPLOY_TOKEN"]);
}
