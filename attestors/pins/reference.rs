//! What a reference to an action, a repository or an image says of itself: whether it is pinned, and whose it is.

use affiant_core::digest::DigestSet;

/// Hexadecimal digits of a commit: SHA-1 and SHA-256 repositories.
const COMMIT_LENGTHS: [usize; 2] = [40, 64];
/// Longest version that is kept from a comment, in bytes.
const MAX_VERSION: usize = 64;

/// What a reference says of itself.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    /// By what it is pinned: `commit`, `digest`, `repository` or `integrity`.
    pub(super) by: Option<&'static str>,
    /// The pin.
    pub(super) digest: Option<DigestSet>,
    /// Who publishes it.
    pub(super) publisher: Option<String>,
    /// Its version, for people.
    pub(super) version: Option<String>,
}

/// Whether a text has parts that are known only when the pipeline runs: `${{ … }}`, `$VAR`, `$[[ … ]]`, `%VAR%`.
pub(super) fn is_dynamic(text: &str) -> bool {
    text.contains('$') || text.contains("{{")
}

/// A full commit.
pub(super) fn commit(text: &str) -> Option<DigestSet> {
    let is_commit = COMMIT_LENGTHS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hex = text.to_ascii_lowercase();
    is_commit.then(|| if hex.len() == 40 { DigestSet::sha1_hex(hex) } else { DigestSet::sha256_hex(hex) })
}

/// `owner/repository[/path]@ref` of GitHub. `None` where it is not of this form.
pub(super) fn action(text: &str) -> Option<Said> {
    let (name, reference) = text.split_once('@').unwrap_or((text, ""));
    let mut parts = name.split('/');
    let (owner, repository) = (parts.next()?, parts.next()?);
    let is_name = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    if !is_name(owner) || !is_name(repository) || matches!(owner, "." | "..") {
        return None;
    }
    let digest = commit(reference);
    Some(Said {
        by: digest.is_some().then_some("commit"),
        version: (digest.is_none() && !reference.is_empty() && !is_dynamic(reference)).then(|| reference.to_owned()),
        digest,
        publisher: Some(owner.to_ascii_lowercase()),
    })
}

/// An image: `[registry/][namespace/]name[:tag][@digest]`, perhaps behind `docker://`.
pub(super) fn image(text: &str) -> Said {
    let text = text.strip_prefix("docker://").unwrap_or(text);
    let (name, digest) = text.rsplit_once('@').unwrap_or((text, ""));
    let digest = image_digest(digest);
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    Said {
        by: digest.is_some().then_some("digest"),
        digest,
        publisher: (!is_dynamic(path)).then(|| publisher_of_image(path)),
        version: tag.filter(|tag| !tag.is_empty() && !is_dynamic(tag)).map(str::to_owned),
    }
}

fn image_digest(text: &str) -> Option<DigestSet> {
    let (algorithm, hex) = text.split_once(':')?;
    // Registries and engines take lower case only.
    let is_hex = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let length = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return None,
    };
    (is_hex && hex.len() == length).then(|| DigestSet([(algorithm.to_owned(), hex.to_owned())].into()))
}

/// Registry and namespace of an image's name without tag: `docker.io/library` for `alpine`.
fn publisher_of_image(path: &str) -> String {
    let (first, rest) = path.split_once('/').unwrap_or(("", path));
    let (registry, rest) = match first {
        "index.docker.io" | "registry-1.docker.io" => ("docker.io", rest),
        host if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => ("docker.io", path),
    };
    match rest.rsplit_once('/') {
        Some((namespace, _)) => format!("{registry}/{namespace}"),
        None if registry == "docker.io" => "docker.io/library".to_owned(),
        None => registry.to_owned(),
    }
}

/// A remote repository as a build's context: `https://host/owner/app.git#<ref>[:folder]`, or `…?ref=…`.
pub(super) fn context(text: &str) -> Said {
    let (place, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    let asked = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let reference = fragment.split(':').next().unwrap_or_default();
    let digest =
        [Some(reference), asked("checksum"), asked("commit"), asked("ref")].into_iter().flatten().find_map(commit);
    Said {
        by: digest.is_some().then_some("commit"),
        digest,
        publisher: host_and_owner(place),
        version: (!reference.is_empty() && commit(reference).is_none()).then(|| reference.to_owned()),
    }
}

/// `host/owner` of a URL or of `git@host:owner/name`.
fn host_and_owner(place: &str) -> Option<String> {
    let rest = place.split_once("://").map_or(place, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest).replacen(':', "/", 1);
    let mut parts = rest.split('/').filter(|part| !part.is_empty());
    let host = parts.next()?.to_ascii_lowercase();
    let owner = parts.next();
    Some(owner.map_or(host.clone(), |owner| format!("{host}/{owner}")))
}

/// The host of a URL.
pub(super) fn host(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let host = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    (!host.is_empty() && !is_dynamic(host)).then(|| host.to_ascii_lowercase())
}

/// The version in a comment such as `# v4.1.0`, `# tag=v4`, `# pin@v4.1` or `# ratchet:actions/checkout@v4`.
pub(super) fn version(comment: &str) -> Option<String> {
    comment.split_whitespace().take(4).find_map(|word| {
        let version = word.rsplit(['@', '=']).next()?.trim_matches(|end: char| matches!(end, ',' | ';' | '(' | ')'));
        let digits = version.strip_prefix(['v', 'V']).unwrap_or(version);
        let fits = digits.starts_with(|first: char| first.is_ascii_digit())
            && version.len() <= MAX_VERSION
            && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+' | b'_'));
        fits.then(|| version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "08c6903cd8c0fde910a37f88322edcfb5dd907a8";

    #[test]
    fn an_action_is_pinned_by_a_whole_commit_only() {
        for (text, pinned, publisher) in [
            (format!("actions/checkout@{SHA}"), true, "actions"),
            (format!("Actions/cache/save@{}", SHA.to_uppercase()), true, "actions"),
            (format!("a/b@{}", "ab".repeat(32)), true, "a"),
            ("actions/checkout@v4".to_owned(), false, "actions"),
            ("actions/checkout@08c6903".to_owned(), false, "actions"),
            (format!("a/b@refs/heads/{SHA}"), false, "a"),
            (format!("a/b@{SHA}0"), false, "a"),
            (format!("a/b@x@{SHA}"), false, "a"),
            ("a/b".to_owned(), false, "a"),
            ("a/b@".to_owned(), false, "a"),
        ] {
            let said = action(&text).expect(&text);
            assert_eq!((said.by.is_some(), said.publisher.as_deref()), (pinned, Some(publisher)), "{text}");
        }
        for text in ["checkout@v4", "", "@v1", "../x/y@v1", "a//b@v1", "${{ x }}/b@v1"] {
            assert_eq!(action(text), None, "{text}");
        }
    }

    #[test]
    fn an_image_is_pinned_by_a_digest_only() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, pinned, publisher, version) in [
            (format!("alpine@{digest}"), true, "docker.io/library", None),
            (format!("docker://alpine:3.20@{digest}"), true, "docker.io/library", Some("3.20")),
            (format!("ghcr.io/o/p/app:1@{digest}"), true, "ghcr.io/o/p", Some("1")),
            ("alpine".to_owned(), false, "docker.io/library", None),
            ("o/app:1".to_owned(), false, "docker.io/o", Some("1")),
            ("index.docker.io/library/alpine".to_owned(), false, "docker.io/library", None),
            ("localhost:5000/app:1".to_owned(), false, "localhost:5000", Some("1")),
            ("localhost/app".to_owned(), false, "localhost", None),
            ("alpine@sha256:00".to_owned(), false, "docker.io/library", None),
            (format!("alpine@{}", digest.to_uppercase()), false, "docker.io/library", None),
            ("alpine@md5:00000000000000000000000000000000".to_owned(), false, "docker.io/library", None),
        ] {
            let said = image(&text);
            let found = (said.by.is_some(), said.publisher.as_deref(), said.version.as_deref());
            assert_eq!(found, (pinned, Some(publisher), version), "{text}");
        }
        // What a variable stands for does not matter beside a digest, but nobody can say whose it is.
        let said = image(&format!("$REGISTRY/app@{digest}"));
        assert_eq!((said.by, said.publisher), (Some("digest"), None));
    }

    #[test]
    fn versions_are_read_from_comments() {
        for (comment, expected) in [
            (" v4.1.0", Some("v4.1.0")),
            ("4", Some("4")),
            (" tag=v1.2", Some("v1.2")),
            (" ratchet:actions/checkout@v4", Some("v4")),
            (" pin v3", Some("v3")),
            (" see below", None),
            ("", None),
        ] {
            assert_eq!(version(comment).as_deref(), expected, "{comment}");
        }
    }

    #[test]
    fn a_context_is_pinned_by_its_fragment() {
        let url = "https://user@git.example/o/app.git";
        assert_eq!(context(&format!("{url}#{SHA}:sub")).by, Some("commit"));
        assert_eq!(context(&format!("{url}?checksum={SHA}#main")).by, Some("commit"));
        assert_eq!(context(&format!("{url}#main:{SHA}")).by, None);
        assert_eq!(context(url).publisher.as_deref(), Some("git.example/o"));
        assert_eq!(context("git@git.example:o/app.git").publisher.as_deref(), Some("git.example/o"));
        assert_eq!(host("https://u@Git.example:8443/x").as_deref(), Some("git.example:8443"));
    }
}
