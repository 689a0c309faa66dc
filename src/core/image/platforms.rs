//! The images of an index: what a machine would run.

use std::collections::BTreeSet;

use super::carry::fits;
use super::manifest::{Descriptor, Kind, Manifest, Platform};
use super::reference::{At, Digest};
use super::repository::{Repository, RepositoryError, Stored};

/// Most images of an index.
pub const MAX_IMAGES: usize = 1000;
/// How deep indexes may lie in each other.
pub const MAX_DEPTH: usize = 8;
/// Most bytes of all manifests of an index.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A manifest that a machine may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runnable {
    /// Its digest.
    pub digest: Digest,
    /// What it says.
    pub manifest: Manifest,
    /// For which machines, as the index says; `None` where there is no index, or it does not say.
    pub platform: Option<Platform>,
}

/// The images of an index and of those in it, or the one image that is no index. `BuildKit`'s attestations are none;
/// whatever else an index names has to be a manifest, as a machine may take it for one.
pub fn runnable(repository: &dyn Repository, root: &Stored) -> Result<Vec<Runnable>, RepositoryError> {
    let invalid = |reason: String| RepositoryError::Refused { place: repository.name(), reason, permission: false };
    let many = || invalid(format!("the index has more than {MAX_IMAGES} images, or is deeper than {MAX_DEPTH}"));
    let parse = |stored: &Stored| {
        stored.manifest().map_err(|source| RepositoryError::Manifest { digest: stored.digest().to_string(), source })
    };
    let mut found = Vec::new();
    let manifest = parse(root)?;
    if manifest.kind() == Kind::Image {
        return Ok(vec![Runnable { digest: root.digest().clone(), manifest, platform: None }]);
    }
    // An index is looked at once, and an image once for each machine, however often they are named.
    let mut seen: BTreeSet<(Digest, Option<String>)> = BTreeSet::new();
    let mut bytes = root.bytes().len();
    let entries_of =
        |manifest: Manifest, depth: usize| manifest.manifests.into_iter().flatten().rev().map(move |one| (one, depth));
    let mut next: Vec<(Descriptor, usize)> = entries_of(manifest, 1).collect();
    while let Some((entry, depth)) = next.pop() {
        if entry.platform.as_ref().is_some_and(Platform::is_unknown) {
            continue;
        }
        let is_index = Kind::of(&entry.media_type) == Some(Kind::Index);
        let platform = entry.platform.as_ref().filter(|_| !is_index).map(Platform::to_string);
        if !seen.insert((entry.digest.clone(), platform)) {
            continue;
        }
        if seen.len() > MAX_IMAGES || depth > MAX_DEPTH {
            return Err(many());
        }
        let child = repository.need(&At::Digest(entry.digest.clone()))?;
        fits(&entry, &child).map_err(&invalid)?;
        bytes += child.bytes().len();
        if bytes > MAX_BYTES {
            return Err(invalid(format!("the manifests of the index have more than {MAX_BYTES} bytes")));
        }
        let manifest = parse(&child)?;
        if manifest.kind() == Kind::Image {
            found.push(Runnable { digest: entry.digest, manifest, platform: entry.platform });
        } else {
            next.extend(entries_of(manifest, depth + 1));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Layout;
    use crate::image::manifest::{OCI_INDEX, OCI_MANIFEST};

    fn put(layout: &Layout, media_type: &str, text: &str) -> Stored {
        let stored = Stored::of(media_type, text.as_bytes().to_vec());
        layout.put_manifest(&At::Digest(stored.digest().clone()), media_type, stored.bytes()).expect("put");
        stored
    }

    fn index(layout: &Layout, entries: &[(&Stored, &str)]) -> Stored {
        let entry = |(stored, more): &(&Stored, &str)| {
            format!(
                r#"{{"mediaType":"{}","digest":"{}","size":{}{more}}}"#,
                stored.media_type(),
                stored.digest(),
                stored.bytes().len()
            )
        };
        let entries: Vec<String> = entries.iter().map(entry).collect();
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, entries.join(","));
        put(layout, OCI_INDEX, &text)
    }

    fn image(layout: &Layout, seed: &str) -> Stored {
        let config = Digest::of(seed.as_bytes());
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":1}},"layers":[]}}"#
        );
        put(layout, OCI_MANIFEST, &text)
    }

    const AMD64: &str = r#","platform":{"os":"linux","architecture":"amd64"}"#;

    #[test]
    fn indexes_that_name_each_other_often_come_to_an_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::create(&folder.path().join("l")).expect("a layout");
        let one = image(&layout, "a");
        let mut inner = index(&layout, &[(&one, AMD64)]);
        for _ in 1..MAX_DEPTH {
            inner = index(&layout, &[(&inner, ""); 140]);
        }
        assert_eq!(runnable(&layout, &inner).expect("an end").len(), 1);
        let deeper = index(&layout, &[(&inner, "")]);
        assert!(runnable(&layout, &deeper).expect_err("too deep").to_string().contains("deeper than"));
        // The same for another machine is another image.
        let arm = AMD64.replace("amd64", "arm64");
        let both = index(&layout, &[(&one, AMD64), (&one, AMD64), (&one, &arm), (&one, "")]);
        assert_eq!(runnable(&layout, &both).expect("read").len(), 3);
    }

    #[test]
    fn what_go_reads_otherwise_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::create(&folder.path().join("l")).expect("a layout");
        let one = image(&layout, "a");
        let hidden = r#","platform":{"os":"unknown","architecture":"unknown","OS":"linux","Architecture":"amd64"}"#;
        let text = |stored: &Stored| String::from_utf8(stored.bytes().to_vec()).expect("text");
        let good = index(&layout, &[(&one, AMD64)]);
        for (stored, from, to) in [
            (&good, AMD64, hidden),
            (&good, r#""manifests":"#, r#""Manifests":[],"manifests":"#),
            (&good, r#""manifests":"#, r#""manife\u017fts":[],"manifests":"#),
            (&good, r#""digest":"#, r#""DIGEST":"x","digest":"#),
            (&one, r#""layers":"#, r#""Layers":[],"layers":"#),
            (&one, r#""config":"#, r#""Config":{},"config":"#),
        ] {
            let bad = Stored::of(stored.media_type(), text(stored).replacen(from, to, 1).into_bytes());
            let error = bad.manifest().expect_err("readers disagree").to_string();
            assert!(error.contains("is read as `"), "{error}");
        }
        assert!(good.manifest().is_ok() && one.manifest().is_ok());
    }
}
