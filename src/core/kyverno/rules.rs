//! Which images a rule is about, and the parts of attestors that one has to have: keys, identities.

use regex_automata::meta::Regex;

use super::is_like;
use super::policy::{Keyless, Keys};
use super::who::Unknown;
use crate::sign::PublicKey;
use crate::sigstore::identity::{IdentityError, Pattern, Wanted};
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

/// Whose certificates a rule wants of bundles: there a name is the whole text, and an expression matches a part of it.
pub(super) fn identity(keyless: &Keyless) -> Result<Wanted, Unknown> {
    let patterns = |names: [(&'static str, &String); 2]| -> Result<Vec<_>, IdentityError> {
        let [(exact, name), (part, expression)] = names;
        let mut patterns = Vec::new();
        if !name.is_empty() {
            patterns.push((exact, Pattern::exact(name)?));
        }
        if !expression.is_empty() {
            // By itself first, so that what is put around it cannot close what it leaves open.
            Pattern::regex(expression)?;
            patterns.push((part, Pattern::regex(&format!("(?s:.*)(?:{expression})(?s:.*)"))?));
        }
        Ok(patterns)
    };
    let subjects = patterns([("subject", &keyless.subject), ("subjectRegExp", &keyless.subject_reg_exp)]);
    let issuers = patterns([("issuer", &keyless.issuer), ("issuerRegExp", &keyless.issuer_reg_exp)]);
    subjects
        .and_then(|subjects| Wanted::new(subjects, issuers?))
        .map_err(|error| Unknown(format!("an identity of the rule: {error}")))
}

/// What `additionalExtensions` knows: the numbers of 1.3.6.1.4.1.57264.1, cosign's names, and ours.
const EXTENSIONS: [(&str, &str, &str); 6] = [
    ("1.3.6.1.4.1.57264.1.1", "oidcIssuer", "Issuer"),
    ("1.3.6.1.4.1.57264.1.2", "githubWorkflowTrigger", "GithubWorkflowTrigger"),
    ("1.3.6.1.4.1.57264.1.3", "githubWorkflowSha", "GithubWorkflowSHA"),
    ("1.3.6.1.4.1.57264.1.4", "githubWorkflowName", "GithubWorkflowName"),
    ("1.3.6.1.4.1.57264.1.5", "githubWorkflowRepository", "GithubWorkflowRepository"),
    ("1.3.6.1.4.1.57264.1.6", "githubWorkflowRef", "GithubWorkflowRef"),
];

/// Whether a certificate names the identity; else what it names. An error says that it cannot be compared.
///
/// As Kyverno compares: patterns and expressions of the issuer must all hold, of the subject's one is enough, for any of
/// the certificate's names; expressions match a part of the text.
pub(super) fn names(certificate: &Certificate, keyless: &Keyless) -> Result<Result<(), String>, String> {
    let is_match = |expression: &str, text: &str| -> Result<bool, String> {
        Regex::builder()
            .configure(Regex::config().nfa_size_limit(Some(MAX_AUTOMATON)))
            .build(expression)
            .map(|regex| regex.is_match(text))
            .map_err(|_| format!("the expression `{}` cannot be read", expression.escape_debug()))
    };
    let wants_subject = !keyless.subject.is_empty() || !keyless.subject_reg_exp.is_empty();
    let subjects: Vec<&String> =
        certificate.emails().iter().chain(certificate.uris()).chain(certificate.dns_names()).collect();
    if wants_subject && subjects.is_empty() {
        return Err("the certificate has no name of a kind that is read here".to_owned());
    }
    let mut found = !wants_subject;
    for one in &subjects {
        found |= !keyless.subject.is_empty() && is_like(&keyless.subject, one);
        found |= !keyless.subject_reg_exp.is_empty() && is_match(&keyless.subject_reg_exp, one)?;
    }
    if !found {
        let all: Vec<String> = subjects.iter().map(|one| one.escape_debug().to_string()).collect();
        return Ok(Err(format!("subject mismatch: its certificate has {}", all.join(", "))));
    }
    let issuer = certificate.extension("Issuer").unwrap_or_default();
    if (!keyless.issuer.is_empty() && !is_like(&keyless.issuer, issuer))
        || (!keyless.issuer_reg_exp.is_empty() && !is_match(&keyless.issuer_reg_exp, issuer)?)
    {
        return Ok(Err(format!("issuer mismatch: its certificate has {}", issuer.escape_debug())));
    }
    for (name, wanted) in &keyless.additional_extensions {
        let Some((.., ours)) = EXTENSIONS.iter().find(|(oid, theirs, _)| name == oid || name == theirs) else {
            return Ok(Err(format!("invalid certificate extension {}", name.escape_debug())));
        };
        let value = certificate.extension(ours).unwrap_or_default();
        if !is_like(wanted, value) {
            let (name, value) = (name.escape_debug(), value.escape_debug());
            return Ok(Err(format!("extension mismatch: its certificate has {value} for {name}")));
        }
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
