//! What went in: the commit, base images, and the files of the working directory.

use std::collections::BTreeSet;

use affiant_core::attestor::Whole;
use affiant_core::digest::DigestSet;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Resource;

/// Materials that are listed one by one, and images: what is more stands in the collection only. Provenance is carried
/// about, beside each image and through logs, and a thousand descriptors have about 150 kB already.
const LISTED: usize = 1000;

/// All sources, and what cannot be said of them.
pub(super) fn all<'a>(world: &'a Whole<'_>) -> (Vec<Resource<'a>>, Vec<String>) {
    let mut shortfalls = Vec::new();
    let mut all: Vec<_> = world.predicate("git").map(commit).unwrap_or_default();
    if all.is_empty() {
        all.extend(["github", "gitlab"].into_iter().filter_map(|name| commit_of_job(world.predicate(name)?)));
    }
    all.extend(images(world, &mut shortfalls));
    all.extend(pins(world, &mut shortfalls));
    all.extend(materials(world, &mut shortfalls));
    (all, shortfalls)
}

/// The commit, once for each remote.
fn commit(git: &Value) -> Vec<Resource<'_>> {
    let text = |name: &str| git.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(hash) = text("commithash") else { return Vec::new() };
    // `HEAD` is witness's word for none.
    let branch = text("branch").filter(|branch| *branch != "HEAD").map(|branch| format!("@refs/heads/{branch}"));
    let changes = git.get("status").and_then(Value::as_object).map(serde_json::Map::len).filter(|count| *count > 0);
    let annotations = changes.map(|count| json!({ "uncommittedChanges": count }));
    let one = |uri| Resource {
        uri,
        name: None,
        digest: DigestSet([("gitCommit".to_owned(), hash.to_owned())].into()),
        annotations: annotations.clone(),
    };
    let remotes: BTreeSet<&str> =
        git.get("remotes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if remotes.is_empty() {
        return vec![one(None)];
    }
    let uri = |remote| format!("{}{}", uri_of(remote), branch.as_deref().unwrap_or_default());
    remotes.into_iter().map(|remote| one(Some(uri(remote)))).collect()
}

/// The commit that the token of a CI proves to be the job's, where the repository was not looked at.
fn commit_of_job(job: &Value) -> Option<Resource<'_>> {
    let verified = job.pointer("/affiant/verified").and_then(Value::as_bool) == Some(true);
    let claim = |name: &str| job.pointer("/jwt/claims")?.get(name)?.as_str();
    let is_hash = |text: &&str| matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hash = claim("sha").filter(is_hash).filter(|_| verified)?;
    // GitLab's `ref` is a bare name.
    let reference = claim("ref_path").or_else(|| claim("ref")).map(|name| format!("@{name}")).unwrap_or_default();
    let project = job.get("projecturl")?.as_str().filter(|url| !url.is_empty())?;
    Some(Resource {
        uri: Some(format!("git+{project}{reference}")),
        name: None,
        digest: DigestSet([("gitCommit".to_owned(), hash.to_owned())].into()),
        annotations: None,
    })
}

/// A remote as a location of SPDX: `git+https://host/path`. Git's short form `user@host:path` is SSH.
fn uri_of(remote: &str) -> String {
    if remote.contains("://") {
        return format!("git+{remote}");
    }
    match remote.split_once(':').filter(|(host, _)| !host.contains('/')) {
        Some((host, path)) => format!("git+ssh://{host}/{}", path.trim_start_matches('/')),
        None => format!("git+file://{remote}"),
    }
}

/// What the builds of images took in, as buildx tells it.
fn images<'a>(world: &Whole<'_>, shortfalls: &mut Vec<String>) -> Vec<Resource<'a>> {
    let mut seen = BTreeSet::new();
    let docker = world.entries.iter().filter(|entry| entry.attestor == "docker");
    let products = docker.filter_map(|entry| entry.predicate.get("products")?.as_object()).flat_map(|map| map.values());
    let platforms = products.filter_map(|product| product.get("materials")?.as_object()).flat_map(|map| map.values());
    for material in platforms.filter_map(Value::as_array).flatten() {
        let uri = material.get("uri").and_then(Value::as_str).unwrap_or_default();
        let digest = material.get("digest").and_then(Value::as_object).into_iter().flatten();
        let digest: std::collections::BTreeMap<_, _> =
            digest.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
        seen.insert((uri.to_owned(), digest));
    }
    if seen.len() > LISTED {
        shortfalls.push(format!("{} of {} sources of images are not listed", seen.len() - LISTED, seen.len()));
    }
    let list = seen.into_iter().take(LISTED).filter(|(uri, digest)| !uri.is_empty() || !digest.is_empty());
    list.map(|(uri, digest)| Resource {
        uri: Some(uri).filter(|uri| !uri.is_empty()),
        name: None,
        digest: DigestSet(digest),
        annotations: None,
    })
    .collect()
}

/// What the pipeline itself runs on, as `pins` found it; what lies in the repository is the commit's already.
fn pins<'a>(world: &'a Whole<'_>, shortfalls: &mut Vec<String>) -> Vec<Resource<'a>> {
    let server = ["github", "gitlab"].into_iter().find_map(|name| world.predicate(name)?.get("ciserverurl")?.as_str());
    let pins = world.predicate("pins").and_then(|predicate| predicate.get("pins")?.as_array());
    let all: Vec<_> = pins
        .into_iter()
        .flatten()
        .filter(|pin| pin.get("by").and_then(Value::as_str) != Some("repository"))
        .filter_map(|pin| pin_of(pin, server))
        .collect();
    if all.len() > LISTED {
        shortfalls.push(format!("{} of {} references of the pipeline are not listed", all.len() - LISTED, all.len()));
    }
    all.into_iter().take(LISTED).collect()
}

fn pin_of<'a>(pin: &'a Value, server: Option<&str>) -> Option<Resource<'a>> {
    let text = |name: &str| pin.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let reference = text("expanded").or_else(|| text("reference"))?;
    let kind = text("kind")?;
    let uri = match kind {
        "image" | "base" | "frontend" => {
            format!("docker://{}", reference.strip_prefix("docker://").unwrap_or(reference))
        }
        _ if reference.contains("://") => reference.to_owned(),
        // A job of GitHub that says no server is one of github.com.
        "action" | "workflow" => {
            format!("git+{}/{reference}", server.unwrap_or("https://github.com").trim_end_matches('/'))
        }
        _ => format!("git+{}/{reference}", server.unwrap_or_default().trim_end_matches('/')),
    };
    let commits = text("by") == Some("commit");
    let digest = pin.get("digest").and_then(Value::as_object).into_iter().flatten();
    let digest = digest.filter_map(|(name, value)| {
        let name = if commits { "gitCommit" } else { name };
        Some((name.to_owned(), value.as_str()?.to_owned()))
    });
    let line = pin.get("line").map(|line| format!(":{line}")).unwrap_or_default();
    let at = format!("{}{line}", text("file").unwrap_or_default());
    Some(Resource {
        uri: Some(uri),
        name: Some(reference),
        digest: DigestSet(digest.collect()),
        annotations: Some(json!({ "kind": kind, "at": at, "pinned": pin.get("pinned") == Some(&Value::Bool(true)) })),
    })
}

/// The materials: one digest of all, and each of them where they are few.
fn materials<'a>(world: &'a Whole<'_>, shortfalls: &mut Vec<String>) -> Vec<Resource<'a>> {
    let count = world.materials.len();
    if count == 0 {
        return Vec::new();
    }
    let listed = count <= LISTED;
    let mut all = Vec::with_capacity(if listed { count + 1 } else { 1 });
    // The digest of a folder as in-toto's digest sets have it (`dirHash`): Go's Hash1 of the files.
    let mut sum = Some(Sha256::new());
    for entry in world.materials.iter() {
        let digests = entry.digest_set();
        // Hash1 has lines: a name with a line feed could pass for two.
        match digests.sha256().filter(|_| !entry.path.contains('\n')) {
            Some(hex) => {
                if let Some(sum) = &mut sum {
                    sum.update(format!("{hex}  {}\n", entry.path));
                }
            }
            None => sum = None,
        }
        if listed {
            all.push(Resource { uri: None, name: Some(entry.path), digest: digests, annotations: None });
        }
    }
    match sum {
        Some(sum) => {
            let digest = DigestSet([("dirHash".to_owned(), hex::encode(sum.finalize()))].into());
            let annotations = Some(json!({ "files": count, "listed": listed }));
            all.insert(0, Resource { uri: None, name: Some("materials"), digest, annotations });
        }
        None if listed => {}
        None => shortfalls.push(format!(
            "the {count} materials have no common digest: a name holds a line feed, or a folder is recorded as one digest"
        )),
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_become_locations_with_their_digests() {
        let of = |pin: Value, server| {
            let found = pin_of(&pin, server).expect("a reference");
            (found.uri.expect("a location"), found.digest.0.into_iter().collect::<Vec<_>>(), found.annotations)
        };
        let commit = "08c6903cd8c0fde910a37f88322edcfb5dd907a8";
        let action = json!({"file": "a.yml", "line": 3, "kind": "action", "reference": format!("o/a@{commit}"), "pinned": true,
            "by": "commit", "digest": {"sha1": commit}});
        let (uri, digest, annotations) = of(action.clone(), Some("https://ghe.test/"));
        assert_eq!(uri, format!("git+https://ghe.test/o/a@{commit}"));
        assert_eq!(digest, [("gitCommit".to_owned(), commit.to_owned())]);
        assert_eq!(annotations, Some(json!({"kind": "action", "at": "a.yml:3", "pinned": true})));
        assert!(of(action, None).0.starts_with("git+https://github.com/o/a@"));
        let base =
            json!({"file": "Dockerfile", "kind": "base", "reference": "$R/x", "expanded": "r.test/x", "pinned": false});
        assert_eq!((of(base.clone(), None).0.as_str(), of(base, None).1.len()), ("docker://r.test/x", 0));
        let include =
            json!({"file": ".gitlab-ci.yml", "kind": "include", "reference": "https://e.test/ci.yml", "pinned": false});
        assert_eq!(of(include, Some("https://gitlab.test")).0, "https://e.test/ci.yml");
        assert!(pin_of(&json!({"kind": "base"}), None).is_none());
    }

    #[test]
    fn remotes_become_locations() {
        for (remote, uri) in [
            ("https://git.test/a/b.git", "git+https://git.test/a/b.git"),
            ("git@git.test:a/b.git", "git+ssh://git@git.test/a/b.git"),
            ("ssh://git@git.test:22/a", "git+ssh://git@git.test:22/a"),
            ("/srv/git/a:b", "git+file:///srv/git/a:b"),
            ("file:///srv/a", "git+file:///srv/a"),
        ] {
            assert_eq!(uri_of(remote), uri);
        }
    }
}
