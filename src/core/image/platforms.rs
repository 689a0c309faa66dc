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

/// A manifest or index, and how the index names it in which it was found.
#[derive(Clone, Debug)]
pub struct Member {
    /// As it lies there.
    pub stored: Stored,
    /// What it says.
    pub manifest: Manifest,
    /// The entry of the index; the first of all has none.
    pub entry: Option<Descriptor>,
}

/// A manifest or index and, before what follows it, all that it leads to. Whatever an index names has to be a manifest, as
/// a machine may take it for one. Of entries with an equal `key` the first is looked at, and none without a key.
///
/// Carrying has its own walk: it puts what follows first, and counts what is kept about the image as well.
///
/// # Errors
/// Above [`MAX_IMAGES`], [`MAX_DEPTH`] and the bytes of all, and where something is not there or not as its entry says.
pub fn members<K: Ord>(
    repository: &dyn Repository,
    root: &Stored,
    key: impl Fn(&Descriptor) -> Option<K>,
) -> Result<Vec<Member>, RepositoryError> {
    let absent =
        |entry: Descriptor| Err(RepositoryError::Absent { what: entry.digest.to_string(), place: repository.name() });
    members_there(repository, root, key, absent)
}

/// As [`members`]; `absent` gets the entries of which nothing is there, and says whether that ends it.
///
/// # Errors
/// Those of [`members`], but for what is not there.
pub fn members_there<K: Ord>(
    repository: &dyn Repository,
    root: &Stored,
    key: impl Fn(&Descriptor) -> Option<K>,
    mut absent: impl FnMut(Descriptor) -> Result<(), RepositoryError>,
) -> Result<Vec<Member>, RepositoryError> {
    let invalid =
        |reason: String| RepositoryError::Refused { place: repository.name(), reason, permission: false, again: None };
    let parse = |stored: &Stored| {
        stored.manifest().map_err(|source| RepositoryError::Manifest { digest: stored.digest().to_string(), source })
    };
    let below = |manifest: &Manifest, depth: usize| {
        manifest.entries().iter().rev().map(|entry| (entry.clone(), depth)).collect::<Vec<(Descriptor, usize)>>()
    };
    let manifest = parse(root)?;
    let mut bytes = root.bytes().len();
    let mut seen = BTreeSet::from_iter(key(&root.descriptor()));
    let mut next = below(&manifest, 1);
    let mut all = vec![Member { stored: root.clone(), manifest, entry: None }];
    while let Some((entry, depth)) = next.pop() {
        if !key(&entry).is_some_and(|key| seen.insert(key)) {
            continue;
        }
        // The first of all is none of its own images.
        if seen.len() > MAX_IMAGES + 1 || depth > MAX_DEPTH {
            return Err(invalid(format!("the index has more than {MAX_IMAGES} images, or is deeper than {MAX_DEPTH}")));
        }
        let Some(stored) = repository.manifest(&At::Digest(entry.digest.clone()))? else {
            absent(entry)?;
            continue;
        };
        fits(&entry, &stored).map_err(&invalid)?;
        bytes += stored.bytes().len();
        if bytes > MAX_BYTES {
            return Err(invalid(format!("the manifests of the index have more than {MAX_BYTES} bytes")));
        }
        let manifest = parse(&stored)?;
        next.extend(below(&manifest, depth + 1));
        all.push(Member { stored, manifest, entry: Some(entry) });
    }
    Ok(all)
}

/// The images of an index and of those in it, or the one image that is no index. `BuildKit`'s attestations are none.
pub fn runnable(repository: &dyn Repository, root: &Stored) -> Result<Vec<Runnable>, RepositoryError> {
    // An index is looked at once, and an image once for each machine, however often they are named.
    let key = |entry: &Descriptor| {
        let platform = entry.platform.as_ref().filter(|_| Kind::of(&entry.media_type) != Some(Kind::Index));
        let is_known = !entry.platform.as_ref().is_some_and(Platform::is_unknown);
        is_known.then(|| (entry.digest.clone(), platform.map(Platform::to_string)))
    };
    let images = members(repository, root, key)?.into_iter().filter(|member| member.manifest.kind() == Kind::Image);
    let runnable = |Member { stored, manifest, entry }: Member| Runnable {
        digest: stored.digest().clone(),
        manifest,
        platform: entry.and_then(|entry| entry.platform),
    };
    Ok(images.map(runnable).collect())
}

/// Why no image of an index was chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoChoice {
    /// It is no index.
    #[error("{0} is one image and no index: a platform chooses nothing")]
    NoIndex(Digest),
    /// There is none for this machine.
    #[error("the index has no image for {wanted}; it has: {known}")]
    None {
        /// The machine.
        wanted: String,
        /// For which there are some.
        known: String,
    },
    /// There are several for it.
    #[error("the index has {count} images for {wanted}: say which variant, or name one by its digest; it has: {known}")]
    Several {
        /// How many.
        count: usize,
        /// The machine.
        wanted: String,
        /// For which there are some.
        known: String,
    },
}

/// Where the one is that is for the machine that is called `wanted` (`os/architecture`, perhaps with a variant). One
/// that is called just so comes before those that are called so without their variant.
pub fn choose(platforms: &[Option<&Platform>], wanted: &str) -> Result<usize, NoChoice> {
    let called = |is: &dyn Fn(&Platform) -> bool| -> Vec<usize> {
        let numbered = platforms.iter().enumerate();
        numbered.filter(|(_, one)| one.is_some_and(is)).map(|(number, _)| number).collect()
    };
    let mut found = called(&|platform| platform.to_string() == wanted);
    if found.is_empty() {
        found = called(&|platform| platform.is_called(wanted));
    }
    let known = || -> String {
        let all: Vec<String> = platforms.iter().flatten().map(ToString::to_string).collect();
        if all.is_empty() { "none that says its machine".to_owned() } else { all.join(", ") }
    };
    match found[..] {
        [number] => Ok(number),
        [] => Err(NoChoice::None { wanted: wanted.to_owned(), known: known() }),
        _ => Err(NoChoice::Several { count: found.len(), wanted: wanted.to_owned(), known: known() }),
    }
}

/// The entry of an index that is for a machine.
pub fn choose_entry<'i>(root: &Stored, index: &'i Manifest, wanted: &str) -> Result<&'i Descriptor, NoChoice> {
    if index.kind() != Kind::Index {
        return Err(NoChoice::NoIndex(root.digest().clone()));
    }
    let platforms: Vec<_> = index.entries().iter().map(|entry| entry.platform.as_ref()).collect();
    choose(&platforms, wanted).map(|number| &index.entries()[number])
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
    fn all_that_an_index_leads_to_comes_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::create(&folder.path().join("l")).expect("a layout");
        let unknown = r#","platform":{"os":"unknown","architecture":"unknown"}"#;
        let (one, two, note) = (image(&layout, "a"), image(&layout, "b"), image(&layout, "c"));
        let inner = index(&layout, &[(&two, AMD64), (&one, AMD64)]);
        let outer = index(&layout, &[(&one, AMD64), (&inner, ""), (&note, unknown), (&inner, AMD64)]);
        let by_digest = |root: &Stored| members(&layout, root, |entry| Some(entry.digest.clone()));
        let found: Vec<Digest> =
            by_digest(&outer).expect("read").iter().map(|one| one.stored.digest().clone()).collect();
        assert_eq!(found, [&outer, &one, &inner, &two, &note].map(|one| one.digest().clone()));
        assert_eq!(by_digest(&one).expect("read").len(), 1);
        // What is not there ends it, or is told of; each is asked for, and that is counted.
        let gone = Stored::of(OCI_MANIFEST, b"gone".to_vec());
        let partly = index(&layout, &[(&gone, AMD64), (&one, AMD64)]);
        assert!(matches!(by_digest(&partly), Err(RepositoryError::Absent { .. })));
        let mut absent = Vec::new();
        let key = |entry: &Descriptor| Some(entry.digest.clone());
        let there = members_there(&layout, &partly, key, |entry| {
            absent.push(entry.digest);
            Ok(())
        });
        assert_eq!(there.expect("read").len(), 2);
        assert_eq!(absent, [gone.digest().clone()]);
        let many: Vec<Stored> =
            (0..=MAX_IMAGES).map(|number| Stored::of(OCI_MANIFEST, number.to_string().into_bytes())).collect();
        let of = |count: usize| {
            let entries: Vec<(&Stored, &str)> = many[..count].iter().map(|one| (one, AMD64)).collect();
            members_there(&layout, &index(&layout, &entries), key, |_| Ok(())).map(|found| found.len())
        };
        assert_eq!(of(MAX_IMAGES).expect("as many as may be"), 1);
        assert!(of(MAX_IMAGES + 1).expect_err("more").to_string().contains("more than 1000 images"));
        // What is there is what the index says.
        let mut longer = String::from_utf8(outer.bytes().to_vec()).expect("text");
        longer = longer.replace(&format!("\"size\":{}", note.bytes().len()), "\"size\":1");
        let wrong = put(&layout, OCI_INDEX, &longer);
        assert!(by_digest(&wrong).expect_err("another size").to_string().contains("and the index says"));
    }

    #[test]
    fn a_machine_is_called_by_its_name() {
        let platform = |text: &str| {
            let mut parts = text.split('/').map(str::to_owned);
            let mut next = || parts.next();
            let (os, architecture) = (next().expect("an os"), next().expect("an architecture"));
            Platform { architecture, os, os_version: None, os_features: None, variant: next() }
        };
        let all = ["linux/arm/v7", "linux/arm", "linux/amd64", "linux/arm64/v8", "windows/amd64", "windows/amd64"];
        let all = all.map(platform);
        let all: Vec<_> = all.iter().map(Some).chain([None]).collect();
        for (wanted, number) in
            [("linux/arm", 1), ("linux/arm/v7", 0), ("linux/amd64", 2), ("linux/arm64", 3), ("linux/arm64/v8", 3)]
        {
            assert_eq!(choose(&all, wanted), Ok(number), "{wanted}");
        }
        let why = |all: &[Option<&Platform>], wanted: &str| choose(all, wanted).expect_err(wanted).to_string();
        assert!(why(&all, "linux/arm/v6").contains("no image for linux/arm/v6; it has: linux/arm/v7, linux/arm, "));
        assert!(why(&all, "windows/amd64").contains("2 images for windows/amd64"));
        assert!(why(&all, "linux").contains("no image for linux"));
        assert!(why(&[None], "linux/arm").ends_with("it has: none that says its machine"));
        let two = ["linux/arm/v7", "linux/arm/v6"].map(platform);
        assert!(why(&[Some(&two[0]), Some(&two[1])], "linux/arm").contains("say which variant"));
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
