//! Questions to the container engine: `GET /images/<name>/json` (Docker Engine API, "Inspect an image").

use std::fmt::Write as _;

use affiant_core::attestor::Engine;
use serde::Deserialize;

use super::evidence::{Answer, Facts};
use super::hex_of;
use crate::oci::is_hex64;

/// Images that are asked for.
const QUESTION_LIMIT: usize = 256;
/// Longest name that is asked for: the grammar of references allows 255 bytes and a tag.
const NAME_LIMIT: usize = 512;

/// What is read of the engine's answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inspected {
    id: String,
    repo_digests: Option<Vec<String>>,
    architecture: Option<String>,
    os: Option<String>,
    variant: Option<String>,
    #[serde(rename = "RootFS")]
    root_fs: Option<RootFs>,
    descriptor: Option<Descriptor>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RootFs {
    layers: Option<Vec<String>>,
}

/// The descriptor that engines with the containerd store give.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Descriptor {
    media_type: Option<String>,
    digest: Option<String>,
}

/// Asks for each name; returns what could not be answered.
pub(super) fn ask(engine: &dyn Engine, names: &[String], facts: &mut Facts) -> Vec<String> {
    let mut failed = Vec::new();
    if names.len() > QUESTION_LIMIT {
        failed.push(format!("only the first {QUESTION_LIMIT} of {} images are asked for", names.len()));
    }
    for name in names.iter().take(QUESTION_LIMIT) {
        match one(engine, name) {
            Ok(answer) => facts.answers.push(answer),
            Err(reason) => failed.push(reason),
        }
    }
    failed
}

fn one(engine: &dyn Engine, name: &str) -> Result<Answer, String> {
    let path = path(name).ok_or_else(|| format!("`{name}` is no name of an image, so the engine is not asked"))?;
    let body = engine.get(&path).map_err(|error| error.to_string())?;
    let endpoint = engine.endpoint();
    let body = body.ok_or_else(|| format!("the container engine at {endpoint} has no image `{name}`"))?;
    let broken = |reason: &str| format!("the container engine at {endpoint} about `{name}`: {reason}");
    let inspected: Inspected = serde_json::from_slice(&body).map_err(|error| broken(&error.to_string()))?;
    let id = inspected.id.strip_prefix("sha256:").unwrap_or(&inspected.id);
    if !is_hex64(id) {
        return Err(broken("its answer has no image id"));
    }
    let repository = repository(name);
    let digests = inspected.repo_digests.unwrap_or_default();
    let own = digests.iter().filter_map(|digest| {
        let (repo, digest) = digest.split_once('@')?;
        // Digests of other repositories are of the same image, but not what this name was pushed as.
        (full(repo) == full(repository)).then(|| hex_of(digest)).flatten().map(str::to_owned)
    });
    let platform = match (&inspected.os, &inspected.architecture) {
        (Some(os), Some(architecture)) => {
            let variant = inspected.variant.filter(|variant| !variant.is_empty());
            Some(variant.map_or_else(|| format!("{os}/{architecture}"), |v| format!("{os}/{architecture}/{v}")))
        }
        _ => None,
    };
    let descriptor = inspected.descriptor.unwrap_or_default();
    let id_is_manifest = descriptor.digest.as_deref().and_then(hex_of) == Some(id);
    Ok(Answer {
        id_is_manifest,
        name: name.to_owned(),
        endpoint,
        id: id.to_owned(),
        digests: own.collect(),
        repo_digests: digests.clone(),
        layers: inspected.root_fs.and_then(|root| root.layers).unwrap_or_default(),
        platform,
        media_type: descriptor.media_type,
        descriptor_digest: descriptor.digest,
    })
}

/// The path of the question. The name's own slashes and colons stay, as the API takes them; all else that is not
/// unreserved (RFC 3986 §2.3) is percent-encoded.
fn path(name: &str) -> Option<String> {
    if name.is_empty() || name.len() > NAME_LIMIT || name.starts_with(['/', '.', '-']) || name.contains("..") {
        return None;
    }
    let mut path = String::from("/images/");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@' => {
                path.push(char::from(byte));
            }
            // What a shell would have expanded, or no name at all.
            b'$' | b'`' | b'{' | b'}' | b'\\' | b'?' | b'#' | b'%' | 0..=b' ' => return None,
            _ => {
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
    path.push_str("/json");
    Some(path)
}

/// A name without tag and digest.
fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// A repository with docker's defaults filled in: `a` is `docker.io/library/a`.
fn full(repository: &str) -> String {
    let (host, rest) = match repository.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => ("docker.io", repository),
    };
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    if host == "docker.io" && !rest.contains('/') {
        return format!("docker.io/library/{rest}");
    }
    format!("{host}/{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        assert_eq!(path("localhost:5000/demo:1").as_deref(), Some("/images/localhost:5000/demo:1/json"));
        assert_eq!(path("a+b").as_deref(), Some("/images/a%2Bb/json"));
        for bad in ["", "../x", "a/../../info", "/x", "-t", "$TAG", "a?b", "a b", "a%2f"] {
            assert_eq!(path(bad), None, "{bad}");
        }
        assert_eq!(repository("localhost:5000/demo"), "localhost:5000/demo");
        assert_eq!(repository("localhost:5000/demo:1@sha256:aa"), "localhost:5000/demo");
        assert_eq!(full("demo"), full("docker.io/library/demo"));
        assert_ne!(full("demo"), full("localhost:5000/demo"));
    }
}
