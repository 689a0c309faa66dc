//! The recorded questions of witness and cilock (`fixtures/verdicts`), asked of affiant.
//!
//! The answer is the peer's, but where the table below says why not. `AFFIANT_BLESS=1 cargo test --test compat` writes
//! the page that shows both side by side.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Questions that are answered otherwise: set, who answered, question, our exit code, why.
const DIFFERENT: &[(&str, &str, &str, i32, &str)] = &[
    (
        "collections",
        "cilock",
        "seed: image id only",
        0,
        "cilock cannot follow a git commit, because it does not search SHA-1 digests: the SBOM step is of the same commit",
    ),
    (
        "collections",
        "cilock",
        "seed: sbom file only",
        0,
        "the same: the build step is of the same commit, and the files of both are the same",
    ),
    (
        "certificates",
        "witness",
        "no timestamp authority in the policy",
        1,
        "witness judges the certificate at the current time; a certificate needs a proven time",
    ),
];
/// When the questions were recorded.
const AT: &str = "2026-11-21T18:00:00Z";

struct Question {
    verifier: String,
    name: String,
    writer: &'static str,
    args: Vec<String>,
    peer: i64,
}

fn folder(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/verdicts").join(set)
}

fn questions(set: &str) -> Vec<Question> {
    let mut questions = Vec::new();
    for writer in ["witness", "cilock"] {
        let text = std::fs::read_to_string(folder(set).join(writer).join("verdicts.json")).expect("reads");
        let list: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        for question in &list {
            let text = |name: &str| question[name].as_str().expect("a text").to_owned();
            let texts = |name: &str| {
                let list = question[name].as_array().expect("a list");
                list.iter().map(|one| one.as_str().expect("a text").to_owned()).collect::<Vec<_>>()
            };
            let mut args = vec!["-p".to_owned(), text("policy"), "-k".to_owned(), text("publickey")];
            for file in texts("attestations") {
                args.extend(["-a".to_owned(), file]);
            }
            args.extend(texts("args"));
            questions.push(Question {
                verifier: text("verifier"),
                name: text("name"),
                writer,
                args,
                peer: question["exit"].as_i64().expect("a number"),
            });
        }
    }
    questions
}

/// Exit code, stdout and stderr.
fn ask(set: &str, args: &[String]) -> (i32, String, String) {
    let home = tempfile::tempdir().expect("a folder");
    let done = Command::new(env!("CARGO_BIN_EXE_affiant"))
        .args(["verify", "--at", AT])
        .args(args)
        .current_dir(folder(set))
        .env_clear()
        .env("HOME", home.path())
        .output()
        .expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
}

#[test]
fn recorded_questions_are_answered_as_the_peers_did_or_better() {
    let mut page = String::from(
        "# Recorded verdicts of the peers\n\n\
         Questions that were put to witness and cilock, with their own answers and ours (`tests/compat` asks them in each\n\
         run of the tests). An answer is their exit code: 0 is yes. Where ours differs, the reason stands beside it.\n",
    );
    let mut wrong = Vec::new();
    for set in ["collections", "certificates"] {
        let _ = write!(
            page,
            "\n## {set}\n\n| evidence of | asked | question | peer | affiant | why it differs |\n|---|---|---|---|---|---|\n"
        );
        for question in questions(set) {
            let (code, stdout, stderr) = ask(set, &question.args);
            let different = DIFFERENT.iter().find(|(in_set, verifier, name, ..)| {
                *in_set == set && *verifier == question.verifier && *name == question.name
            });
            let expected = different.map_or(i64::from(question.peer != 0), |(_, _, _, ours, _)| i64::from(*ours));
            if i64::from(code.min(1)) != expected || !matches!(code, 0 | 1 | 3) {
                wrong.push(format!(
                    "{set}, {} asked about {}: {}: {code}, expected {expected}\n{stdout}{stderr}",
                    question.verifier, question.writer, question.name
                ));
            }
            assert_eq!(stdout.starts_with("PASSED"), code == 0, "{stdout}{stderr}");
            assert_eq!(stderr, "", "{}", question.name);
            let why = different.map_or("", |(.., why)| why);
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {code} | {why} |",
                question.writer, question.verifier, question.name, question.peer
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/recorded-verdicts.md");
    if std::env::var_os("AFFIANT_BLESS").is_some() {
        std::fs::write(&path, &page).expect("writes");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), page, "AFFIANT_BLESS=1 writes the page");
}

#[test]
fn a_certificate_without_a_proven_time_or_of_another_purpose_is_no_signature() {
    // The digests of what these two were made of.
    let bare = "sha256:9d7d2fef9a8724f8bc2db9bbb25acce146552cee16ad02a468e679001c2680ae";
    let eku = "sha256:e8483c7683d55274b39db5bf6d0e7a65a2553696bc817dc2c2e3fe6793fe1d24";
    for writer in ["witness", "cilock"] {
        for (file, subject, reason) in [("bare", bare, "it has no timestamp"), ("eku", eku, "codeSigning")] {
            let evidence = format!("{writer}/{file}.json");
            let policy = format!("{writer}/policy-good.signed.json");
            let args = ["-p", &policy, "-k", "keys/policy.pub", "-a", &evidence, "-s", subject].map(str::to_owned);
            let (code, stdout, stderr) = ask("certificates", &args);
            assert_eq!((code, stderr.as_str()), (1, ""), "{evidence}: {stdout}");
            assert!(stdout.contains(reason), "{evidence}: {stdout}");
        }
    }
}
