//! Tags that several writers write at the same time: lists of signatures, attestations and referrers.
//!
//! The distribution protocol has no write that fails when somebody else was faster. So a writer reads, adds, writes, and
//! then looks again and again whether what it wrote is still there, until the tag has not changed for longer than any
//! writer needs between reading and writing. What was lost meanwhile is written again; when that does not end, the
//! writer fails and says so.

use std::time::{Duration, Instant};

use super::manifest::{Manifest, OCI_INDEX, OCI_MANIFEST};
use super::reference::At;
use super::repository::{Put, Repository, RepositoryError, Stored};

/// Shortest time for which the tag must stay as it is.
const MIN_QUIET: Duration = Duration::from_millis(400);
/// Longest such time.
const MAX_QUIET: Duration = Duration::from_secs(10);
/// How much longer than our own writing another's may take.
const FACTOR: u32 = 8;
/// How often in a row a registry may answer with an error of its own.
const MAX_STUMBLES: u32 = 20;
/// How often is looked within that time.
const LOOKS: u32 = 4;

/// How long a writer of a shared tag tries.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When it gives up.
    pub budget: Duration,
}

impl Default for Pace {
    /// Two minutes, in which some tens of writers finish.
    fn default() -> Self {
        Self { budget: Duration::from_secs(120) }
    }
}

/// What a writer makes of what it read.
pub enum Change {
    /// It is there already.
    Nothing,
    /// This manifest, which needs these blobs (media type and bytes).
    Write(Box<Manifest>, Vec<(&'static str, Vec<u8>)>),
}

/// Why a shared tag was not written.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// The place cannot be asked, or does not do it.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// What is there is not what should be under this tag.
    #[error("the tag {tag} of {place}: {reason}")]
    Unfit {
        /// Which tag.
        tag: String,
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
    /// Others wrote all the time.
    #[error(
        "the tag {tag} of {place} was written by others all the time: after {seconds} s and {attempts} attempts what was written is not sure to have stayed"
    )]
    Contended {
        /// Which tag.
        tag: String,
        /// Where.
        place: String,
        /// How long it was tried.
        seconds: u64,
        /// How often.
        attempts: u32,
    },
}

/// Writes a shared tag: `change` makes the new manifest of the one that is there, `holds` says whether a manifest has what
/// is to be written. Gives `false` where it was there already.
pub fn write(
    repository: &dyn Repository,
    tag: &str,
    pace: &Pace,
    mut change: impl FnMut(Option<&Manifest>) -> Result<Change, String>,
    holds: impl Fn(&Manifest) -> bool,
) -> Result<bool, SharedError> {
    let begun = Instant::now();
    let at = At::Tag(tag.to_owned());
    let place = repository.name();
    let unfit = |reason: String| SharedError::Unfit { tag: tag.to_owned(), place: place.clone(), reason };
    let mut attempts = 0;
    let mut slowest = Duration::ZERO;
    let mut once = |attempts: &mut u32, slowest: &mut Duration| -> Result<Option<bool>, SharedError> {
        let there = repository.manifest(&at)?;
        let parsed = there.as_ref().map(Stored::manifest).transpose().map_err(|error| unfit(error.to_string()))?;
        let is_written = match change(parsed.as_ref()).map_err(&unfit)? {
            Change::Nothing if *attempts == 0 => return Ok(Some(false)),
            Change::Nothing => true,
            Change::Write(manifest, blobs) => {
                for (media_type, bytes) in &blobs {
                    repository.keep(media_type, bytes)?;
                }
                *attempts += 1;
                // The less time passes between looking and writing, the less is lost.
                let looked = Instant::now();
                let now = repository.resolve(&at)?.map(|descriptor| descriptor.digest);
                let is_same = now == there.as_ref().map(|there| there.digest().clone());
                if is_same {
                    let media_type = if manifest.manifests.is_some() { OCI_INDEX } else { OCI_MANIFEST };
                    let _: Put = repository.put_manifest(&at, media_type, &manifest.to_json())?;
                    *slowest = (*slowest).max(looked.elapsed());
                }
                is_same
            }
        };
        let quiet = (*slowest * FACTOR).clamp(MIN_QUIET, MAX_QUIET);
        Ok((is_written && stays(repository, &at, quiet, begun, pace, &holds)?).then_some(true))
    };
    let mut stumbles = 0;
    loop {
        match once(&mut attempts, &mut slowest) {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => stumbles = 0,
            // Some registries trip over a tag that another is writing.
            Err(SharedError::Repository(error)) if error.is_passing() && stumbles < MAX_STUMBLES => {
                stumbles += 1;
                attempts = attempts.max(1);
            }
            Err(error) => return Err(error),
        }
        if begun.elapsed() >= pace.budget {
            return Err(SharedError::Contended {
                tag: tag.to_owned(),
                place,
                seconds: begun.elapsed().as_secs(),
                attempts,
            });
        }
        // Those that were refused together do not try again together.
        std::thread::sleep(slowest.max(Duration::from_millis(20)).mul_f64(jitter() * f64::from(attempts.min(8))));
    }
}

/// Whether what was written is there each time somebody looks, until the tag has not changed for a while.
fn stays(
    repository: &dyn Repository,
    at: &At,
    quiet: Duration,
    begun: Instant,
    pace: &Pace,
    holds: &impl Fn(&Manifest) -> bool,
) -> Result<bool, SharedError> {
    let mut seen = None;
    let mut since = Instant::now();
    loop {
        let Some(now) = repository.resolve(at)?.map(|descriptor| descriptor.digest) else { return Ok(false) };
        if seen.as_ref() != Some(&now) {
            let manifest = repository.manifest(&At::Digest(now.clone()))?;
            if !manifest.and_then(|stored| stored.manifest().ok()).is_some_and(|manifest| holds(&manifest)) {
                return Ok(false);
            }
            seen = Some(now);
            since = Instant::now();
        } else if since.elapsed() >= quiet {
            return Ok(true);
        }
        if begun.elapsed() >= pace.budget {
            return Ok(false);
        }
        std::thread::sleep((quiet / LOOKS).mul_f64(0.5 + jitter()));
    }
}

/// Between 0 and 1.
fn jitter() -> f64 {
    f64::from(crate::sign::some_number()) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;
    use std::sync::Mutex;

    use super::*;
    use crate::image::Listed;
    use crate::image::manifest::Descriptor;
    use crate::image::reference::Digest;

    /// A tag that another writer overwrites once, in a registry that trips once.
    #[derive(Default)]
    struct Busy {
        tag: Mutex<Option<Vec<u8>>>,
        all: Mutex<BTreeMap<Digest, Vec<u8>>>,
        puts: Mutex<u32>,
        always: bool,
    }

    fn index(names: &[&str]) -> Manifest {
        let entries = names.iter().map(|name| Descriptor::of("a/b", name.as_bytes())).collect();
        let text = r#"{"schemaVersion":2,"manifests":[]}"#;
        Manifest { manifests: Some(entries), ..Manifest::parse(OCI_INDEX, text.as_bytes()).expect("an index") }
    }

    impl Repository for Busy {
        fn name(&self) -> String {
            "busy".to_owned()
        }

        fn resolve(&self, at: &At) -> Result<Option<Descriptor>, RepositoryError> {
            Ok(self.manifest(at)?.map(|stored| stored.descriptor()))
        }

        fn manifest(&self, at: &At) -> Result<Option<Stored>, RepositoryError> {
            let bytes = match at {
                At::Tag(_) => self.tag.lock().expect("no panic").clone(),
                At::Digest(digest) => self.all.lock().expect("no panic").get(digest).cloned(),
            };
            Ok(bytes.map(|bytes| Stored::of(OCI_INDEX, bytes)))
        }

        fn put_manifest(&self, _: &At, _: &str, bytes: &[u8]) -> Result<Put, RepositoryError> {
            let mut puts = self.puts.lock().expect("no panic");
            *puts += 1;
            if *puts == 1 {
                let (place, reason) = ("busy".to_owned(), "answers 500".to_owned());
                return Err(RepositoryError::Refused { place, reason, permission: false });
            }
            // Somebody who had read before writes after.
            let lost = *puts == 2 || self.always;
            let bytes = if lost { index(&["other"]).to_json() } else { bytes.to_vec() };
            self.all.lock().expect("no panic").insert(Digest::of(&bytes), bytes.clone());
            *self.tag.lock().expect("no panic") = Some(bytes);
            Ok(Put::Known)
        }

        fn has_blob(&self, _: &Digest) -> Result<bool, RepositoryError> {
            Ok(true)
        }

        fn blob(&self, _: &Digest, _: u64) -> Result<Box<dyn Read + Send + '_>, RepositoryError> {
            Ok(Box::new(std::io::empty()))
        }

        fn put_blob(&self, _: &Digest, _: u64, _: &mut dyn Read) -> Result<(), RepositoryError> {
            Ok(())
        }

        fn referrers(&self, _: &Digest) -> Result<Option<Listed>, RepositoryError> {
            Ok(None)
        }

        fn tags(&self) -> Result<Vec<String>, RepositoryError> {
            Ok(Vec::new())
        }

        fn delete(&self, _: &At) -> Result<(), RepositoryError> {
            Ok(())
        }
    }

    fn add(repository: &Busy, budget: Duration) -> Result<bool, SharedError> {
        let mine = Digest::of(b"mine");
        let holds = |manifest: &Manifest| manifest.entries().iter().any(|entry| entry.digest == mine);
        let change = |there: Option<&Manifest>| {
            if there.is_some_and(holds) {
                return Ok(Change::Nothing);
            }
            let mut new = index(&["mine"]);
            let entries = there.map(|there| there.entries().to_vec()).unwrap_or_default();
            new.manifests = new.manifests.map(|mine| [entries, mine].concat());
            Ok(Change::Write(Box::new(new), Vec::new()))
        };
        write(repository, "t", &Pace { budget }, change, holds)
    }

    #[test]
    fn what_was_lost_is_written_again() {
        let busy = Busy::default();
        assert!(add(&busy, Duration::from_secs(60)).expect("written"));
        let bytes = busy.tag.lock().expect("no panic").clone().expect("written");
        let kept = Manifest::parse(OCI_INDEX, &bytes).expect("an index");
        assert_eq!(kept.entries(), index(&["other", "mine"]).entries(), "nobody's is lost");
        assert!(!add(&busy, Duration::from_secs(60)).expect("there"), "a second time changes nothing");
    }

    #[test]
    fn what_is_lost_all_the_time_is_a_failure() {
        let busy = Busy { always: true, ..Busy::default() };
        let failed = add(&busy, Duration::from_millis(300)).expect_err("not written");
        assert!(matches!(failed, SharedError::Contended { .. }), "{failed}");
    }
}
