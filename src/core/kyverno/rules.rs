//! Which images a rule is about, and the parts of attestors that one has to have: keys, identities.

use regex_automata::meta::Regex;

use super::is_like;
use super::policy::{Keyless, Keys};
use crate::sign::PublicKey;
use crate::trust::Certificate;

/// Largest automaton of an identity's expression, in bytes.
const MAX_AUTOMATON: usize = 1 << 20;
/// How a block of PEM begins.
const BEGIN: &str = "-----BEGIN ";
/// Most keys of one attestor.
const MAX_KEYS: usize = 100;

/// The name by which Kyverno knows an image: with a registry and, without a digest, a tag.
pub(super) fn known_as(name: &str) -> String {
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let has_registry = first.contains(['.', ':']) || first == "localhost";
    let name = if has_registry { name.to_owned() } else { format!("docker.io/{name}") };
    let has_tag = rest.contains([':', '@']);
    if has_tag { name } else { format!("{name}:latest") }
}

/// Whether an image is among these and not among those.
pub(super) fn is_about(images: &[String], but: &[String], name: &str) -> bool {
    let name = known_as(name);
    images.iter().any(|pattern| is_like(pattern, &name)) && !but.iter().any(|pattern| is_like(pattern, &name))
}

/// The keys of an attestor, or why they are not known here.
pub(super) fn keys(keys: &Keys) -> Result<Vec<PublicKey>, String> {
    if let Some(algorithm) = keys.signature_algorithm.as_deref().filter(|name| !name.eq_ignore_ascii_case("sha256")) {
        return Err(format!("signatures with {} are not judged", algorithm.escape_debug()));
    }
    let Some(text) = keys.pem.as_deref().filter(|text| !text.trim().is_empty()) else {
        let what = match (&keys.kms, &keys.secret) {
            (Some(_), _) => "a key service (`kms`)",
            (_, Some(_)) => "a secret of the cluster (`secret`)",
            _ => "no `publicKeys`",
        };
        return Err(format!("its key is not in the policy: {what}"));
    };
    if !text.contains(BEGIN) {
        return Err("its key is not in the policy: `publicKeys` names a place".to_owned());
    }
    let blocks: Vec<_> = text.split(BEGIN).skip(1).map(|block| format!("{BEGIN}{block}")).collect();
    if blocks.len() > MAX_KEYS {
        return Err(format!("{} keys; {MAX_KEYS} are looked at", blocks.len()));
    }
    blocks
        .iter()
        .map(|block| PublicKey::from_file_bytes(block.as_bytes()).map_err(|error| format!("a key of it: {error}")))
        .collect()
}

/// What an identity is that a rule wants, for the reader.
pub(super) fn wanted(keyless: &Keyless) -> String {
    let mut parts = Vec::new();
    for (name, value) in [
        ("issuer", &keyless.issuer),
        ("issuerRegExp", &keyless.issuer_reg_exp),
        ("subject", &keyless.subject),
        ("subjectRegExp", &keyless.subject_reg_exp),
    ] {
        if !value.is_empty() {
            parts.push(format!("{name} {value}"));
        }
    }
    if parts.is_empty() { "any identity".to_owned() } else { parts.join(", ") }
}

/// Whether a certificate names the identity; else what it names. An error says that it cannot be compared.
pub(super) fn names(certificate: &Certificate, keyless: &Keyless) -> Result<Result<(), String>, String> {
    let issuer = certificate.extension("Issuer").unwrap_or_default();
    let mut subjects = certificate.emails().iter().chain(certificate.uris()).chain(certificate.dns_names());
    let fits = |pattern: &str, expression: &str, text: &str| -> Result<bool, String> {
        let is_match = |expression: &str| {
            Regex::builder()
                .configure(Regex::config().nfa_size_limit(Some(MAX_AUTOMATON)))
                .build(expression)
                .map(|regex| regex.is_match(text))
                .map_err(|_| format!("the expression `{}` cannot be read", expression.escape_debug()))
        };
        Ok((pattern.is_empty() || is_like(pattern, text)) && (expression.is_empty() || is_match(expression)?))
    };
    if !fits(&keyless.issuer, &keyless.issuer_reg_exp, issuer)? {
        return Ok(Err(format!("issuer mismatch: its certificate has {}", issuer.escape_debug())));
    }
    let all: Vec<_> = subjects.clone().map(|one| one.escape_debug().to_string()).collect();
    let found = subjects.try_fold(false, |found, one| {
        Ok::<_, String>(found || fits(&keyless.subject, &keyless.subject_reg_exp, one)?)
    })?;
    let wants_subject = !keyless.subject.is_empty() || !keyless.subject_reg_exp.is_empty();
    if wants_subject && !found {
        return Ok(Err(format!("subject mismatch: its certificate has {}", all.join(", "))));
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_the_names_that_kyverno_gives_them() {
        for (name, known) in [
            ("127.0.0.1:5001/vec/app:v1", "127.0.0.1:5001/vec/app:v1"),
            ("registry.company.com/app", "registry.company.com/app:latest"),
            ("registry.company.com/app@sha256:00", "registry.company.com/app@sha256:00"),
            ("nginx", "docker.io/nginx:latest"),
            ("team/app:1", "docker.io/team/app:1"),
            ("localhost/app:1", "localhost/app:1"),
        ] {
            assert_eq!(known_as(name), known);
        }
        let list = |text: &str| vec![text.to_owned()];
        assert!(is_about(&list("registry.company.com/*"), &[], "registry.company.com/a/b:c"));
        assert!(!is_about(&list("registry.company.com/*"), &list("*/a/*"), "registry.company.com/a/b:c"));
        assert!(!is_about(&[], &[], "registry.company.com/a"));
    }

    #[test]
    fn keys_that_are_not_in_the_policy_are_not_known() {
        let of = |text: &str| keys(&serde_json::from_str(text).expect("keys")).expect_err("no key");
        assert!(of(r#"{"kms": "awskms:///x"}"#).contains("kms"));
        assert!(of(r#"{"publicKeys": "k8s://a/b"}"#).contains("names a place"));
        assert!(of(r#"{"secret": {"name": "a"}}"#).contains("secret"));
        assert!(of(r#"{"publicKeys": "-----BEGIN PUBLIC KEY-----\nx"}"#).contains("a key of it"));
        assert!(of(r#"{"publicKeys": "x", "signatureAlgorithm": "sha512"}"#).contains("sha512"));
    }
}
