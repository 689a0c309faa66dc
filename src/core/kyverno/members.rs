//! Members of a rule that no release of Kyverno knows: a cluster prunes or refuses them, and who wrote them meant
//! something.
//!
//! Source: `kyverno.io/v1`, `ImageVerification` and `Rule`, of Kyverno 1.16 and 1.19.

use serde_json::Value;

use crate::nearest::nearest;

/// Most members that are named.
const MAX_NAMED: usize = 20;

/// A member that is known, and what is known below it; everything may be where that is nothing.
struct Member(&'static str, Option<&'static [Self]>);

const fn any(name: &'static str) -> Member {
    Member(name, None)
}

const fn of(name: &'static str, below: &'static [Member]) -> Member {
    Member(name, Some(below))
}

static RULE: [Member; 13] = [
    any("name"),
    any("context"),
    any("match"),
    any("exclude"),
    any("imageExtractors"),
    any("preconditions"),
    any("celPreconditions"),
    any("mutate"),
    any("validate"),
    any("generate"),
    any("verifyImages"),
    any("skipBackgroundRequests"),
    any("reportProperties"),
];
static ENTRY: [Member; 21] = [
    any("type"),
    any("image"),
    any("imageReferences"),
    any("skipImageReferences"),
    any("key"),
    any("roots"),
    any("subject"),
    any("issuer"),
    any("additionalExtensions"),
    of("attestors", &SET),
    of("attestations", &ATTESTATION),
    any("annotations"),
    any("repository"),
    any("cosignOCI11"),
    any("mutateDigest"),
    any("verifyDigest"),
    any("validate"),
    any("required"),
    of("imageRegistryCredentials", &CREDENTIALS),
    any("useCache"),
    any("failureAction"),
];
static SET: [Member; 2] = [any("count"), of("entries", &ATTESTOR)];
static ATTESTOR: [Member; 6] = [
    of("keys", &KEYS),
    of("certificates", &CERTIFICATES),
    of("keyless", &KEYLESS),
    of("attestor", &SET),
    any("annotations"),
    any("repository"),
];
static KEYS: [Member; 6] = [
    any("publicKeys"),
    any("signatureAlgorithm"),
    any("kms"),
    of("secret", &SECRET),
    of("rekor", &REKOR),
    of("ctlog", &CTLOG),
];
static SECRET: [Member; 2] = [any("name"), any("namespace")];
static CERTIFICATES: [Member; 4] = [any("cert"), any("certChain"), of("rekor", &REKOR), of("ctlog", &CTLOG)];
static KEYLESS: [Member; 8] = [
    any("issuer"),
    any("issuerRegExp"),
    any("subject"),
    any("subjectRegExp"),
    any("roots"),
    any("additionalExtensions"),
    of("rekor", &REKOR),
    of("ctlog", &CTLOG),
];
static REKOR: [Member; 3] = [any("url"), any("pubkey"), any("ignoreTlog")];
static CTLOG: [Member; 3] = [any("ignoreSCT"), any("pubkey"), any("tsaCertChain")];
static ATTESTATION: [Member; 5] =
    [any("name"), any("type"), any("predicateType"), of("attestors", &SET), of("conditions", &CONDITIONS)];
static CONDITIONS: [Member; 2] = [of("any", &CONDITION), of("all", &CONDITION)];
static CONDITION: [Member; 4] = [any("key"), any("operator"), any("value"), any("message")];
static CREDENTIALS: [Member; 3] = [any("allowInsecureRegistry"), any("providers"), any("secrets")];

/// Members of an entry of `verifyImages`, and of what is in it, that are not known, each with what may be meant.
pub(super) fn of_entry(entry: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(entry, &ENTRY, "", &mut found);
    found
}

/// Members of a rule itself that are not known.
pub(super) fn of_rule<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let unknown = names.filter(|name| RULE.iter().all(|Member(known, _)| known != name));
    unknown.take(MAX_NAMED).map(|name| shown("", name, &RULE)).collect()
}

/// Whether a member that is not known may be `verifyImages`.
pub(super) fn is_like_verify_images(name: &str) -> bool {
    const NAME: &str = "verifyImages";
    name != NAME && (name.eq_ignore_ascii_case(NAME) || nearest(name, [NAME]).is_some())
}

/// As deep as the document, which its reader limits.
fn walk(value: &Value, known: &'static [Member], path: &str, found: &mut Vec<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|one| walk(one, known, path, found)),
        Value::Object(members) => {
            for (name, value) in members {
                match known.iter().find(|Member(known, _)| known == name) {
                    Some(Member(_, Some(below))) => walk(value, below, &format!("{path}{name}."), found),
                    Some(_) => {}
                    None if found.len() < MAX_NAMED => {
                        let text = shown(path, name, known);
                        // The same in several entries is said once.
                        if !found.contains(&text) {
                            found.push(text);
                        }
                    }
                    None => return,
                }
            }
        }
        _ => {}
    }
}

fn shown(path: &str, name: &str, known: &[Member]) -> String {
    let meant = nearest(name, known.iter().map(|Member(known, _)| *known));
    let meant = meant.map(|meant| format!(" (`{meant}`?)")).unwrap_or_default();
    format!("`{path}{}`{meant}", name.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_every_depth_are_known_or_named() {
        let of = |text: &str| of_entry(&serde_json::from_str(text).expect("JSON"));
        let whole = r#"{"type": "Cosign", "imageReferences": ["*"], "required": true, "useCache": false, "validate": {"x": 1},
            "imageRegistryCredentials": {"providers": [], "secrets": []}, "annotations": {"anything": "x"},
            "attestors": [{"count": 1, "entries": [
                {"keys": {"publicKeys": "x", "secret": {"name": "a", "namespace": "b"}, "rekor": {"ignoreTlog": true, "url": "x", "pubkey": "x"},
                    "ctlog": {"ignoreSCT": true, "pubkey": "x", "tsaCertChain": "x"}}, "annotations": {"a": "b"}},
                {"attestor": {"entries": [{"keyless": {"subjectRegExp": "x", "additionalExtensions": {"a": "b"}}}]}},
                {"certificates": {"cert": "x", "certChain": "x"}, "repository": "x"}]}],
            "attestations": [{"type": "x", "predicateType": "x", "name": "x", "attestors": [],
                "conditions": [{"all": [{"key": "{{ a }}", "operator": "Equals", "value": {"any": "thing"}, "message": "x"}]}]}]}"#;
        assert_eq!(of(whole), [] as [&str; 0]);
        assert_eq!(of(r#"{"atestations": []}"#), ["`atestations` (`attestations`?)"]);
        let deep =
            r#"{"attestors": [{"entries": [{"attestor": {"entries": [{"keys": {"rekor": {"ignoreTLog": true}}}]}}]}]}"#;
        let named = of(deep);
        assert_eq!(named.len(), 1, "{named:?}");
        assert!(named[0].starts_with("`attestors.entries.attestor.entries.keys.rekor.ignoreTLog`"), "{named:?}");
        assert_eq!(of(r#"{"attestations": [{"conditions": [{"al": []}]}, {"conditions": [{"al": []}]}]}"#).len(), 1);
        assert!(is_like_verify_images("verifyimages") && !is_like_verify_images("validate"));
        assert!(!is_like_verify_images("verifyImages"));
    }
}
