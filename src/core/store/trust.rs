//! The trusted roots of the day, kept beside keyless evidence so that it can be judged long after they were replaced.
//!
//! ```text
//! trust/sha256/<hex>.json                the exact bytes of a trusted root, named by their SHA-256
//! trust/of/ab/<62 hex>.<64 hex>.json     that the envelope ab<62 hex> was stored while this root was the current one
//! ```
//! A root gets its name before a link to it does, each is written aside and renamed, and a link says nothing that its
//! name does not but the time: any number of processes can write the same ones at once. Nothing of it is believed by
//! itself: whoever judges old evidence by a kept root decides to.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::check::Problem;
use super::{Archive, ObjectId, StoreError, disk};
use crate::sigstore::{MAX_ROOT, TrustedRoot};

/// Length in bytes of a link.
const MAX_LINK: u64 = 4096;
/// What the names of roots and links end with.
const ENDING: &str = ".json";

/// That a root was the current one when an envelope was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustLink {
    /// SHA-256 of the root's bytes.
    pub root: ObjectId,
    /// When it was said.
    pub stored: Timestamp,
}

/// What is kept of roots: the numbers, and what is wrong.
#[derive(Default)]
pub(super) struct TrustReport {
    pub(super) roots: u64,
    pub(super) links: u64,
    pub(super) mismatched: Vec<Problem>,
    pub(super) unreadable: Vec<Problem>,
    pub(super) foreign: Vec<PathBuf>,
}

/// Whether there is an object.
fn there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

impl Archive {
    fn trust_folder(&self) -> PathBuf {
        self.root.join("trust")
    }

    /// The file of a trusted root, whether it is there or not.
    pub fn trust_path(&self, root: &ObjectId) -> PathBuf {
        self.trust_folder().join("sha256").join(format!("{}{ENDING}", root.hex()))
    }

    /// Keeps the bytes of a trusted root (`trusted_root.json`), and that it was the current one when `envelope`, which
    /// must be stored already, was: `now`. What is there already stays as it is. The answer names the root.
    ///
    /// # Errors
    /// Where the envelope is not there, the bytes are no trusted root, or the disk refuses.
    pub fn put_trust(&self, envelope: &ObjectId, root: &[u8], now: Timestamp) -> Result<ObjectId, StoreError> {
        if !self.exists(envelope) {
            return Err(StoreError::NotFound { reference: envelope.to_string(), archive: self.root.clone() });
        }
        if root.len() > MAX_ROOT {
            return Err(StoreError::TooLarge { limit: MAX_ROOT as u64 });
        }
        TrustedRoot::parse(root).map_err(|source| StoreError::NotARoot { source })?;
        let id = ObjectId::of(root);
        let path = self.trust_path(&id);
        // One that is there but no longer whole is replaced.
        if self.get_trust(&id).is_err() {
            self.write_trust(&path, root)?;
        }
        let link = self.link_path(envelope, &id);
        if !there(&link) {
            let text = serde_json::to_vec(&TrustLink { root: id, stored: now }).unwrap_or_default();
            self.write_trust(&link, &text)?;
        }
        Ok(id)
    }

    fn write_trust(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let failed = |source| StoreError::Io { action: "write", path: path.to_owned(), source };
        // Beside the envelopes, where what an ended process left is tidied away.
        let mut file = disk::temporary(&self.objects, self.modes).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        if let Some(folder) = path.parent() {
            disk::make_folders(folder, self.modes).map_err(failed)?;
        }
        disk::publish(file, path).map_err(failed)
    }

    fn link_path(&self, envelope: &ObjectId, root: &ObjectId) -> PathBuf {
        let digits = envelope.hex();
        let (first, rest) = digits.split_at(2);
        self.trust_folder().join("of").join(first).join(format!("{rest}.{}{ENDING}", root.hex()))
    }

    /// The roots that were the current ones when an envelope was stored, the latest first; none where nobody said so.
    pub fn trust_of(&self, envelope: &ObjectId) -> Result<Vec<TrustLink>, StoreError> {
        let digits = envelope.hex();
        let (first, rest) = digits.split_at(2);
        let folder = self.trust_folder().join("of").join(first);
        let mut links = Vec::new();
        for path in list(&folder)? {
            let is_its = name_of(&path).is_some_and(|name| name.starts_with(rest));
            if let Some((_, root)) = is_its.then(|| link_of(first, &path)).flatten() {
                let link = read_link(&path)?;
                if link.root != root {
                    return Err(wrong_link(&path));
                }
                links.push(link);
            }
        }
        links.sort_by_key(|link| (std::cmp::Reverse(link.stored), link.root));
        Ok(links)
    }

    /// The bytes of a trusted root, checked against its digest.
    pub fn get_trust(&self, root: &ObjectId) -> Result<Vec<u8>, StoreError> {
        let path = self.trust_path(root);
        let bytes = read(&path, MAX_ROOT as u64).map_err(|error| match error {
            StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                StoreError::NotFound { reference: format!("{root} (a trusted root)"), archive: self.root.clone() }
            }
            other => other,
        })?;
        let found = ObjectId::of(&bytes);
        if found == *root { Ok(bytes) } else { Err(StoreError::Mismatch { path, expected: *root, found }) }
    }

    /// Reads every root and every link.
    pub(super) fn check_trust(&self) -> Result<TrustReport, StoreError> {
        let mut report = TrustReport::default();
        let mut whole = BTreeSet::new();
        let folder = self.trust_folder();
        let known = ["sha256", "of"];
        report
            .foreign
            .extend(list(&folder)?.into_iter().filter(|path| !name_of(path).is_some_and(|name| known.contains(&name))));
        for path in list(&folder.join("sha256"))? {
            let id = name_of(&path).and_then(|name| name.strip_suffix(ENDING)).and_then(ObjectId::from_hex);
            let Some(id) = id.filter(|id| self.trust_path(id) == path) else {
                report.foreign.push(path);
                continue;
            };
            match self.get_trust(&id) {
                Ok(_) => {
                    report.roots += 1;
                    whole.insert(id);
                }
                Err(error @ StoreError::Mismatch { .. }) => report.mismatched.push(Problem::new(&path, &error)),
                Err(error) => report.unreadable.push(Problem::new(&path, &error)),
            }
        }
        for folder in list(&folder.join("of"))? {
            let Some(first) = name_of(&folder).filter(|_| folder.is_dir()).map(str::to_owned) else {
                report.foreign.push(folder);
                continue;
            };
            for path in list(&folder)? {
                let Some((envelope, root)) = link_of(&first, &path) else {
                    report.foreign.push(path);
                    continue;
                };
                let problem = match read_link(&path) {
                    Err(error) => Some(error.to_string()),
                    Ok(link) if link.root != root => Some(wrong_link(&path).to_string()),
                    Ok(_) if !self.exists(&envelope) => Some(format!("the envelope {envelope} is gone")),
                    Ok(_) if !whole.contains(&root) && !there(&self.trust_path(&root)) => {
                        Some(format!("the trusted root {root} is gone"))
                    }
                    Ok(_) => None,
                };
                match problem {
                    Some(reason) => report.unreadable.push(Problem::new(&path, &reason)),
                    None => report.links += 1,
                }
            }
        }
        Ok(report)
    }
}

fn wrong_link(path: &Path) -> StoreError {
    let source = io::Error::new(io::ErrorKind::InvalidData, "it names another root than its own name does");
    StoreError::Io { action: "read", path: path.to_owned(), source }
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}

/// The envelope and the root that the name of a link says.
fn link_of(first: &str, path: &Path) -> Option<(ObjectId, ObjectId)> {
    let (rest, root) = name_of(path)?.strip_suffix(ENDING)?.split_once('.')?;
    Some((ObjectId::from_hex(&format!("{first}{rest}"))?, ObjectId::from_hex(root)?))
}

fn read_link(path: &Path) -> Result<TrustLink, StoreError> {
    let text = read(path, MAX_LINK)?;
    serde_json::from_slice(&text).map_err(|error| StoreError::Io {
        action: "read",
        path: path.to_owned(),
        source: error.into(),
    })
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, StoreError> {
    let failed = |source| StoreError::Io { action: "read", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = disk::open_regular(path).map_err(failed)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit { Err(StoreError::TooLarge { limit }) } else { Ok(bytes) }
}

/// What is in a folder, sorted; nothing where there is no such folder.
fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |source| StoreError::Io { action: "read", path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{archive, numbered};
    use super::*;

    const ROOT: &[u8] = include_bytes!("../../../fixtures/cosign/trust/trusted_root.json");

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a second")
    }

    /// Another root: the same with a line more.
    fn other() -> Vec<u8> {
        [ROOT, b"\n"].concat()
    }

    #[test]
    fn the_roots_of_the_day_are_found_by_the_envelope() {
        let (_folder, archive) = archive();
        let envelope = archive.put(&numbered(1), at(1)).expect("stores").digest;
        let neighbour = archive.put(&numbered(2), at(1)).expect("stores").digest;
        assert_eq!(archive.trust_of(&envelope).expect("reads"), []);
        let first = archive.put_trust(&envelope, ROOT, at(10)).expect("keeps");
        assert_eq!(first, ObjectId::of(ROOT));
        // Said again, nothing changes, not even the time.
        assert_eq!(archive.put_trust(&envelope, ROOT, at(99)).expect("keeps"), first);
        let second = archive.put_trust(&envelope, &other(), at(20)).expect("keeps");
        let links = archive.trust_of(&envelope).expect("reads");
        assert_eq!(
            links,
            [TrustLink { root: second, stored: at(20) }, TrustLink { root: first, stored: at(10) }],
            "the latest first"
        );
        assert_eq!(archive.trust_of(&neighbour).expect("reads"), []);
        assert_eq!(archive.get_trust(&first).expect("reads"), ROOT);
        let report = archive.check().expect("checks");
        assert!(report.is_sound(), "{report:?}");
        assert_eq!((report.roots, report.links, report.objects), (2, 2, 2));
        assert!(report.foreign.is_empty(), "{report:?}");
        // The folder is still an archive for whoever opens, repairs and indexes it.
        Archive::repair(archive.root()).expect("repairs").0.reindex().expect("indexes");
        assert_eq!(archive.trust_of(&envelope).expect("reads").len(), 2);
    }

    #[test]
    fn only_roots_are_kept_and_only_beside_envelopes() {
        let (_folder, archive) = archive();
        let envelope = ObjectId::of(&numbered(1));
        let refused = archive.put_trust(&envelope, ROOT, at(1));
        assert!(matches!(refused, Err(StoreError::NotFound { .. })), "{refused:?}");
        archive.put(&numbered(1), at(1)).expect("stores");
        for wrong in [&b""[..], b"{}", b"{\"mediaType\":\"text/plain\"}", &ROOT[..ROOT.len() / 2]] {
            let refused = archive.put_trust(&envelope, wrong, at(1));
            assert!(matches!(refused, Err(StoreError::NotARoot { .. })), "{refused:?}");
        }
        let large = vec![b' '; MAX_ROOT + 1];
        let refused = archive.put_trust(&envelope, &large, at(1));
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
        assert_eq!(archive.trust_of(&envelope).expect("reads"), []);
        assert_eq!(archive.check().expect("checks").roots, 0);
    }

    #[test]
    fn what_was_changed_is_told_and_put_right_by_keeping_it_again() {
        let (_folder, archive) = archive();
        let envelope = archive.put(&numbered(1), at(1)).expect("stores").digest;
        let root = archive.put_trust(&envelope, ROOT, at(1)).expect("keeps");
        fs::write(archive.trust_path(&root), other()).expect("writes");
        assert!(matches!(archive.get_trust(&root), Err(StoreError::Mismatch { .. })));
        let report = archive.check().expect("checks");
        assert!(!report.is_sound() && report.mismatched.len() == 1, "{report:?}");
        archive.put_trust(&envelope, ROOT, at(2)).expect("keeps");
        assert!(archive.check().expect("checks").is_sound());
        // A root that is gone, and an envelope that is gone, are told at the link.
        fs::remove_file(archive.trust_path(&root)).expect("removes");
        let report = archive.check().expect("checks");
        assert!(report.unreadable.iter().any(|problem| problem.reason.contains("root")), "{report:?}");
        archive.put_trust(&envelope, ROOT, at(2)).expect("keeps");
        let link = archive.link_path(&envelope, &root);
        let strange = link.with_file_name("strange");
        fs::write(&strange, b"x").expect("writes");
        assert_eq!(archive.check().expect("checks").foreign, [strange.display().to_string()]);
        assert_eq!(archive.trust_of(&envelope).expect("reads").len(), 1);
        let text = serde_json::to_vec(&TrustLink { root: ObjectId::of(b"x"), stored: at(1) }).expect("writes");
        fs::write(&link, text).expect("writes");
        assert!(archive.trust_of(&envelope).is_err());
        assert!(!archive.check().expect("checks").is_sound());
    }

    #[test]
    fn many_writers_at_once_lose_nothing() {
        let (_folder, archive) = archive();
        let envelopes: Vec<ObjectId> =
            (0..4).map(|number| archive.put(&numbered(number), at(1)).expect("stores").digest).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let archive = Archive::open(archive.root()).expect("opens");
                    for envelope in &envelopes {
                        archive.put_trust(envelope, ROOT, at(1)).expect("keeps");
                        archive.put_trust(envelope, &other(), at(2)).expect("keeps");
                    }
                });
            }
        });
        let report = archive.check().expect("checks");
        assert!(report.is_sound(), "{report:?}");
        assert_eq!((report.roots, report.links, report.temporary), (2, 8, 0));
    }
}
