//! Attestors of CI providers, against a provider on this machine.

use serde_json::{Value, json};

use super::harness::{Call, Place};
use super::issuer::{Issuer, Lies, PERMISSION};

/// `affiant run` in a job of the provider.
fn job(place: &Place, issuer: &Issuer, provider: &str) -> Call {
    let call = place.capture(["-s", "build"]);
    issuer.variables(provider).iter().fold(call, |call, (name, value)| call.env(name, value))
}

/// No token and no permission stands in what was written or shown.
#[track_caller]
fn nothing_leaks(place: &Place, issuer: &Issuer, shown: &[String]) {
    let mut secrets = issuer.tokens();
    secrets.push(PERMISSION.to_owned());
    // A part of a token is one too: the signature makes it.
    secrets.extend(issuer.tokens().iter().filter_map(|token| Some(token.rsplit_once('.')?.1.to_owned())));
    for secret in &secrets {
        for text in shown {
            assert!(!text.contains(secret), "{text}");
        }
        for (path, bytes) in place.everything_written() {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{} holds a secret", path.display());
        }
    }
}

fn subjects_of<'a>(statement: &'a Value, kind: &str) -> Vec<&'a str> {
    let list = statement["subject"].as_array().expect("a list").iter();
    list.filter_map(|subject| subject["name"].as_str()).filter(|name| name.contains(kind)).collect()
}

#[test]
fn a_github_job_is_proven_by_its_token() {
    let place = Place::new();
    let issuer = Issuer::start("github", Lies::default());
    let ended = job(&place, &issuer, "github").with(["--", "sh", "-c", "env >../child"]).run().code(0).stdout("");
    let shown = [ended.stderr_text()];
    let predicate = place.predicate("/github/v0.1");
    let server = issuer.url();
    assert_eq!(predicate["affiant"], json!({"verified": true}), "{}", shown[0]);
    assert_eq!(predicate["jwt"]["claims"]["repository"], "octo-org/octo-repo");
    assert_eq!(predicate["jwt"]["claims"]["aud"], "affiant");
    assert_eq!(predicate["jwt"]["verifiedBy"]["jwksUrl"], format!("{server}/_services/token/keys"));
    assert_eq!(predicate["jwt"]["verifiedBy"]["jwk"]["kid"], "key-1");
    assert_eq!(predicate["pipelineurl"], format!("{server}/octo-org/octo-repo/actions/runs/6789012345"));
    assert_eq!(predicate["projecturl"], format!("{server}/octo-org/octo-repo"));
    assert_eq!(predicate["cihost"], server.trim_start_matches("http://"));
    let pipeline = format!("pipelineurl:{server}/octo-org/octo-repo/actions/runs/6789012345");
    let statement = place.statement();
    assert_eq!(
        subjects_of(&statement, "pipelineurl:"),
        [format!("https://witness.dev/attestations/github/v0.1/{pipeline}")]
    );
    assert_eq!(subjects_of(&statement, "projecturl:").len(), 1);
    let backrefs = statement["predicate"]["backrefs"].as_object().expect("back-references");
    assert!(backrefs.keys().any(|name| name.ends_with(&pipeline)), "{backrefs:?}");
    // Our audience was asked for, once, and the keys of the issuer.
    let asked = issuer.asked();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[0].ends_with("?api-version=2.0&audience=affiant"), "{asked:?}");
    // Security rule 2: the command cannot ask for a token.
    let child = std::fs::read_to_string(place.beside("child")).expect("the command ran");
    assert!(!child.contains("ACTIONS_ID_TOKEN_REQUEST") && !child.contains(PERMISSION), "{child}");
    assert!(child.contains("GITHUB_RUN_ID=6789012345"));
    std::fs::remove_file(place.beside("child")).expect("removes");
    nothing_leaks(&place, &issuer, &shown);
}
