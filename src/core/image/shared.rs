//! Tags that several writers write at the same time: lists of signatures, attestations and referrers.
//!
//! The distribution protocol has no write that fails when somebody else was faster. So a writer reads, adds, writes, and
//! then looks again and again whether what it wrote is still there, until the tag has not changed for longer than any
//! writer needs between reading and writing. What was lost meanwhile is written again; when that does not end, the
//! writer fails and says so.
//!
//! All that one command writes is written first, and then watched together: [`Settling`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::manifest::{Manifest, OCI_INDEX, OCI_MANIFEST};
use super::reference::{At, Digest};
use super::repository::{Put, Repository, RepositoryError, Stored, jitter};

/// Shortest time for which the tag must stay as it is, where nothing was seen of another writer.
const CALM: Duration = Duration::from_millis(150);
/// The same where another writer was seen.
const MIN_QUIET: Duration = Duration::from_millis(400);
/// Longest such time.
const MAX_QUIET: Duration = Duration::from_secs(10);
/// How much longer than our own writing another's may take.
const FACTOR: u32 = 8;
/// How often in a row a registry may answer with an error of its own.
const MAX_STUMBLES: u32 = 20;
/// How often is looked within that time.
const LOOKS: u32 = 4;
/// How many tags are looked at at the same time.
const AT_ONCE: usize = 8;

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
        "after {seconds} s and {attempts} attempts what was written as the tag {tag} of {place} is not seen to stay there: others write it all the time, or the place takes it and does not keep it"
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
    /// It was written, and the place does not say whether it is still there.
    #[error("the tag {tag} of {place} was written, and is not sure to have stayed: {source}")]
    Unseen {
        /// Which tag.
        tag: String,
        /// Where.
        place: String,
        /// Why.
        source: RepositoryError,
    },
    /// Several tags.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<SharedError>),
}

/// Something that was written under a shared tag, and is yet to be seen to stay there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What became of tags that were watched: whatever did not stay, with its reason. Some of it may share one reason.
#[derive(Debug, Default)]
#[must_use = "what did not stay has to be told"]
pub struct Settled {
    lost: Vec<(Vec<Ticket>, SharedError)>,
}

impl Settled {
    /// Whether this stayed.
    pub fn has(&self, ticket: Ticket) -> bool {
        !self.lost.iter().any(|(tickets, _)| tickets.contains(&ticket))
    }

    /// # Errors
    /// Which tags did not stay, and why.
    pub fn result(mut self) -> Result<(), SharedError> {
        match self.lost.len() {
            0 => Ok(()),
            1 => Err(self.lost.remove(0).1),
            _ => Err(SharedError::Several(self.lost.into_iter().map(|(_, error)| error).collect())),
        }
    }
}

type Changing<'a> = Box<dyn FnMut(Option<&Manifest>) -> Result<Change, String> + Send + 'a>;
type Holding<'a> = Box<dyn Fn(&Manifest) -> bool + Send + 'a>;
/// Place and tag.
type Name = (String, String);

/// Tags that were written, and are watched together until each has stayed as it is for long enough: many tags cost one
/// wait. Several threads may write; those of one tag do it one after the other.
#[must_use = "what was written may be lost until it is settled"]
pub struct Settling<'a> {
    pace: Pace,
    next: AtomicU64,
    watched: Mutex<BTreeMap<Name, Vec<Watched<'a>>>>,
    /// Tags that one of our own threads writes.
    busy: Mutex<BTreeMap<Name, Arc<Mutex<()>>>>,
}

impl<'a> Settling<'a> {
    /// Nothing is written yet.
    pub fn new(pace: Pace) -> Self {
        Self { pace, next: AtomicU64::new(0), watched: Mutex::default(), busy: Mutex::default() }
    }

    /// Writes a shared tag: `change` makes the new manifest of the one that is there, `holds` says whether a manifest has
    /// what is to be written. Both are asked again where it was lost. Gives `None` where it was there already. Where
    /// nobody else writes ([`Repository::is_own`]), it is not watched.
    pub fn write(
        &self,
        repository: &'a dyn Repository,
        tag: &str,
        change: impl FnMut(Option<&Manifest>) -> Result<Change, String> + Send + 'a,
        holds: impl Fn(&Manifest) -> bool + Send + 'a,
    ) -> Result<Option<Ticket>, SharedError> {
        let name = (repository.name(), tag.to_owned());
        let busy =
            Arc::clone(self.busy.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_default());
        let _alone = busy.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = Ticket(self.next.fetch_add(1, Ordering::Relaxed));
        let mut one = Watched::new(ticket, repository, name.clone(), Box::new(change), Box::new(holds));
        if !one.write(&self.pace)? {
            return Ok(None);
        }
        if !repository.is_own() {
            self.watched.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().push(one);
        }
        Ok(Some(ticket))
    }

    /// Waits until all has stayed. What was lost is written again meanwhile.
    pub fn settle(self) -> Settled {
        let Self { pace, watched, .. } = self;
        let watched = watched.into_inner().unwrap_or_else(PoisonError::into_inner);
        let threads = watched.len().min(AT_ONCE);
        let next = Mutex::new(watched.into_values());
        let lost = Mutex::new(Vec::new());
        let work = || {
            loop {
                // Not within the lock.
                let members = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(members) = members else { return };
                let tickets = members.iter().map(|one| one.ticket).collect();
                if let Err(error) = Tag::new(members).settle(&pace) {
                    lost.lock().unwrap_or_else(PoisonError::into_inner).push((tickets, error));
                }
            }
        };
        if threads > 1 {
            std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        } else {
            work();
        }
        let mut lost: Vec<(Vec<Ticket>, SharedError)> = lost.into_inner().unwrap_or_else(PoisonError::into_inner);
        lost.sort_by_key(|(tickets, _)| tickets.first().copied());
        Settled { lost }
    }
}

/// Does work that writes shared tags, and waits then until all of them have stayed, also where the work has failed.
///
/// # Errors
/// That of the work, else what did not stay.
pub fn settled<'a, T, E: From<SharedError>>(
    pace: &Pace,
    work: impl FnOnce(&Settling<'a>) -> Result<T, E>,
) -> Result<T, E> {
    let settling = Settling::new(*pace);
    let worked = work(&settling);
    let settled = settling.settle().result();
    let done = worked?;
    settled?;
    Ok(done)
}

/// What one call wrote under a tag.
struct Watched<'a> {
    ticket: Ticket,
    repository: &'a dyn Repository,
    name: Name,
    change: Changing<'a>,
    holds: Holding<'a>,
    begun: Instant,
    attempts: u32,
    stumbles: u32,
    slowest: Duration,
    /// What was written last, and when.
    written: Option<Digest>,
    since: Instant,
    /// Whether nothing was seen of another writer.
    is_calm: bool,
}

/// What came of reading and writing once.
enum Once {
    /// It was there.
    There,
    /// It was written.
    Written,
    /// Somebody wrote between.
    Between,
}

impl<'a> Watched<'a> {
    fn new(
        ticket: Ticket,
        repository: &'a dyn Repository,
        name: Name,
        change: Changing<'a>,
        holds: Holding<'a>,
    ) -> Self {
        let now = Instant::now();
        Self {
            ticket,
            repository,
            name,
            change,
            holds,
            begun: now,
            attempts: 0,
            stumbles: 0,
            slowest: Duration::ZERO,
            written: None,
            since: now,
            is_calm: true,
        }
    }

    fn at(&self) -> At {
        At::Tag(self.name.1.clone())
    }

    fn unfit(&self, reason: String) -> SharedError {
        let (place, tag) = self.name.clone();
        SharedError::Unfit { tag, place, reason }
    }

    fn contended(&self) -> SharedError {
        let (place, tag) = self.name.clone();
        SharedError::Contended { tag, place, seconds: self.begun.elapsed().as_secs(), attempts: self.attempts }
    }

    fn once(&mut self) -> Result<Once, SharedError> {
        let at = self.at();
        let mut looked = Instant::now();
        let there = self.repository.manifest(&at)?;
        let parsed = there.as_ref().map(Stored::manifest).transpose().map_err(|error| self.unfit(error.to_string()))?;
        let change = (self.change)(parsed.as_ref()).map_err(|reason| self.unfit(reason))?;
        let Change::Write(manifest, blobs) = change else {
            (self.written, self.since) = (None, Instant::now());
            return Ok(Once::There);
        };
        for (media_type, bytes) in &blobs {
            self.repository.keep(media_type, bytes)?;
        }
        self.attempts += 1;
        let media_type = if manifest.manifests.is_some() { OCI_INDEX } else { OCI_MANIFEST };
        let bytes = manifest.to_json();
        // The less time passes between looking and writing, the less is lost. Where nothing came between, it has just been
        // looked.
        if !blobs.is_empty() {
            looked = Instant::now();
            let now = self.repository.resolve(&at)?.map(|descriptor| descriptor.digest);
            if now != there.map(|there| there.digest().clone()) {
                self.is_calm = false;
                return Ok(Once::Between);
            }
        }
        let _: Put = self.repository.put_manifest(&at, media_type, &bytes)?;
        self.slowest = self.slowest.max(looked.elapsed());
        (self.written, self.since) = (Some(Digest::of(&bytes)), Instant::now());
        Ok(Once::Written)
    }

    /// Writes until it is written. Gives `false` where it was there before anything was tried.
    fn write(&mut self, pace: &Pace) -> Result<bool, SharedError> {
        loop {
            match self.once() {
                Ok(Once::There) => return Ok(self.attempts > 0),
                Ok(Once::Written) => return Ok(true),
                Ok(Once::Between) => self.stumbles = 0,
                // Some registries trip over a tag that another is writing.
                Err(SharedError::Repository(error)) if error.is_passing() && self.stumbles < MAX_STUMBLES => {
                    std::thread::sleep(error.again().unwrap_or_default());
                    self.stumbles += 1;
                    self.attempts = self.attempts.max(1);
                    self.is_calm = false;
                }
                Err(error) => return Err(error),
            }
            if self.begun.elapsed() >= pace.budget {
                return Err(self.contended());
            }
            self.pause();
        }
    }

    /// Those that were refused together do not try again together.
    fn pause(&self) {
        let longest = f64::from(self.attempts.clamp(1, 8));
        std::thread::sleep(self.slowest.max(Duration::from_millis(20)).mul_f64(jitter() * longest));
    }
}

/// A tag, with all that was written under it.
struct Tag<'a> {
    members: Vec<Watched<'a>>,
    /// What was there at the last look, and since when.
    seen: Option<Digest>,
    since: Instant,
    stumbles: u32,
}

impl<'a> Tag<'a> {
    fn new(mut members: Vec<Watched<'a>>) -> Self {
        let now = Instant::now();
        // What the command did since it wrote was no trying.
        for one in &mut members {
            one.begun = now;
        }
        let mut tag = Self { members, seen: None, since: now, stumbles: 0 };
        tag.written();
        tag
    }

    /// Something was written: what was written last is what is there, as far as is known. Of several, one may have lost
    /// what another wrote: then it is looked.
    fn written(&mut self) {
        self.seen = match &self.members[..] {
            [one] => one.written.clone(),
            _ => None,
        };
        self.since = self.members.iter().map(|one| one.since).max().unwrap_or(self.since);
    }

    fn quiet(&self) -> Duration {
        let slowest = self.members.iter().map(|one| one.slowest).max().unwrap_or_default();
        let is_calm = self.members.iter().all(|one| one.is_calm);
        (slowest * FACTOR).clamp(if is_calm { CALM } else { MIN_QUIET }, MAX_QUIET)
    }

    fn settle(mut self, pace: &Pace) -> Result<(), SharedError> {
        loop {
            let quiet = self.quiet();
            if self.seen.is_some() {
                let left = quiet.saturating_sub(self.since.elapsed());
                std::thread::sleep(left.min((quiet / LOOKS).mul_f64(0.5 + jitter())));
            }
            match self.look(pace) {
                // What was seen of others meanwhile makes the time longer.
                Ok(true) if self.since.elapsed() >= self.quiet() => return Ok(()),
                Ok(_) => self.stumbles = 0,
                Err(SharedError::Repository(error)) if error.is_passing() && self.stumbles < MAX_STUMBLES => {
                    std::thread::sleep(error.again().unwrap_or_default());
                    self.stumbles += 1;
                    self.members.iter().for_each(Watched::pause);
                }
                Err(SharedError::Repository(source)) => {
                    let (place, tag) = self.members[0].name.clone();
                    return Err(SharedError::Unseen { tag, place, source });
                }
                Err(error) => return Err(error),
            }
            if let Some(late) = self.members.iter().find(|one| one.begun.elapsed() >= pace.budget) {
                return Err(late.contended());
            }
        }
    }

    /// Looks once, and writes again what is not there. Gives whether the tag is as it was.
    fn look(&mut self, pace: &Pace) -> Result<bool, SharedError> {
        let (repository, at) = (self.members[0].repository, self.members[0].at());
        let now = repository.resolve(&at)?.map(|descriptor| descriptor.digest);
        if now.is_some() && now == self.seen {
            return Ok(true);
        }
        let is_other = !self.members.iter().any(|one| one.written.is_some() && one.written == now);
        let manifest = match &now {
            Some(digest) => repository.manifest(&At::Digest(digest.clone()))?,
            None => None,
        };
        let manifest = manifest.and_then(|stored| stored.manifest().ok());
        let mut is_lost = false;
        for one in &mut self.members {
            one.is_calm &= !is_other;
            if !manifest.as_ref().is_some_and(|manifest| (one.holds)(manifest)) {
                is_lost = true;
                one.is_calm = false;
                one.pause();
                one.write(pace)?;
            }
        }
        if is_lost {
            self.written();
        } else {
            let is_own_first = self.seen.is_none() && !is_other;
            self.seen = now;
            if !is_own_first {
                self.since = Instant::now();
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::image::Listed;
    use crate::image::manifest::Descriptor;

    /// Tags that another writer overwrites, in a registry that trips over its first.
    #[derive(Default)]
    struct Busy {
        tags: Mutex<BTreeMap<String, Vec<u8>>>,
        all: Mutex<BTreeMap<Digest, Vec<u8>>>,
        puts: Mutex<u32>,
        /// Whether the first two writes go wrong.
        stumbles: bool,
        /// A tag that is overwritten all the time.
        always: Option<&'static str>,
        looks: Mutex<u32>,
        own: bool,
    }

    fn index(names: &[&str]) -> Manifest {
        let entries = names.iter().map(|name| Descriptor::of("a/b", name.as_bytes())).collect();
        let text = r#"{"schemaVersion":2,"manifests":[]}"#;
        Manifest { manifests: Some(entries), ..Manifest::parse(OCI_INDEX, text.as_bytes()).expect("an index") }
    }

    impl Busy {
        fn set(&self, tag: &str, bytes: &[u8]) {
            self.all.lock().expect("no panic").insert(Digest::of(bytes), bytes.to_vec());
            self.tags.lock().expect("no panic").insert(tag.to_owned(), bytes.to_vec());
        }

        fn kept(&self, tag: &str) -> Vec<Descriptor> {
            let bytes = self.tags.lock().expect("no panic").get(tag).cloned().expect("written");
            Manifest::parse(OCI_INDEX, &bytes).expect("an index").entries().to_vec()
        }
    }

    impl Repository for Busy {
        fn name(&self) -> String {
            "busy".to_owned()
        }

        fn resolve(&self, at: &At) -> Result<Option<Descriptor>, RepositoryError> {
            *self.looks.lock().expect("no panic") += 1;
            Ok(self.manifest(at)?.map(|stored| stored.descriptor()))
        }

        fn manifest(&self, at: &At) -> Result<Option<Stored>, RepositoryError> {
            let bytes = match at {
                At::Tag(tag) => self.tags.lock().expect("no panic").get(tag).cloned(),
                At::Digest(digest) => self.all.lock().expect("no panic").get(digest).cloned(),
            };
            Ok(bytes.map(|bytes| Stored::of(OCI_INDEX, bytes)))
        }

        fn put_manifest(&self, at: &At, _: &str, bytes: &[u8]) -> Result<Put, RepositoryError> {
            let At::Tag(tag) = at else { panic!("a tag is written") };
            let mut puts = self.puts.lock().expect("no panic");
            *puts += 1;
            if self.stumbles && *puts == 1 {
                let (place, reason) = ("busy".to_owned(), "answers 500".to_owned());
                return Err(RepositoryError::Refused { place, reason, permission: false, again: Some(0) });
            }
            // Somebody who had read before writes after.
            let is_lost = (self.stumbles && *puts == 2) || self.always == Some(tag);
            let bytes = if is_lost { index(&["other"]).to_json() } else { bytes.to_vec() };
            self.set(tag, &bytes);
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

        fn is_own(&self) -> bool {
            self.own
        }
    }

    /// Adds an entry to a tag.
    fn add<'a>(
        settling: &Settling<'a>,
        repository: &'a Busy,
        tag: &str,
        name: &'static str,
    ) -> Result<Option<Ticket>, SharedError> {
        let holds = move |manifest: &Manifest| {
            let mine = Digest::of(name.as_bytes());
            manifest.entries().iter().any(|entry| entry.digest == mine)
        };
        let change = move |there: Option<&Manifest>| {
            if there.is_some_and(holds) {
                return Ok(Change::Nothing);
            }
            let mut new = index(&[name]);
            let entries = there.map(|there| there.entries().to_vec()).unwrap_or_default();
            new.manifests = new.manifests.map(|mine| [entries, mine].concat());
            Ok(Change::Write(Box::new(new), Vec::new()))
        };
        settling.write(repository, tag, change, holds)
    }

    fn add_one(repository: &Busy, budget: Duration) -> Result<bool, SharedError> {
        settled(&Pace { budget }, |settling| add(settling, repository, "t", "mine")).map(|ticket| ticket.is_some())
    }

    #[test]
    fn what_was_lost_is_written_again() {
        let busy = Busy { stumbles: true, ..Busy::default() };
        assert!(add_one(&busy, Duration::from_secs(60)).expect("written"));
        assert_eq!(busy.kept("t"), index(&["other", "mine"]).entries(), "nobody's is lost");
        assert!(!add_one(&busy, Duration::from_secs(60)).expect("there"), "a second time changes nothing");
    }

    #[test]
    fn what_is_lost_all_the_time_is_a_failure() {
        let busy = Busy { always: Some("t"), ..Busy::default() };
        let failed = add_one(&busy, Duration::from_millis(300)).expect_err("not written");
        assert!(matches!(failed, SharedError::Contended { .. }), "{failed}");
    }

    #[test]
    fn all_that_was_written_is_watched_at_the_same_time() {
        const TAGS: u32 = 40;
        let busy = Busy::default();
        let settling = Settling::new(Pace::default());
        for number in 0..TAGS {
            add(&settling, &busy, &number.to_string(), "mine").expect("written").expect("new");
        }
        let begun = Instant::now();
        settling.settle().result().expect("all stayed");
        assert!(begun.elapsed() < CALM * TAGS / 4, "{:?}", begun.elapsed());
    }

    #[test]
    fn what_is_lost_while_others_are_written_is_written_again() {
        let busy = Busy::default();
        let settling = Settling::new(Pace::default());
        let first = add(&settling, &busy, "t", "mine").expect("written").expect("new");
        busy.set("t", &index(&["other"]).to_json());
        let second = add(&settling, &busy, "t", "more").expect("written").expect("new");
        let third = add(&settling, &busy, "u", "mine").expect("written").expect("new");
        busy.set("u", &index(&["other"]).to_json());
        let settled = settling.settle();
        assert!([first, second, third].iter().all(|ticket| settled.has(*ticket)));
        settled.result().expect("all stayed");
        assert_eq!(busy.kept("t"), index(&["other", "more", "mine"]).entries());
        assert_eq!(busy.kept("u"), index(&["other", "mine"]).entries());
    }

    #[test]
    fn each_tag_that_did_not_stay_is_named_and_the_others_are_known_to_have_stayed() {
        let busy = Busy { always: Some("bad"), ..Busy::default() };
        let settling = Settling::new(Pace { budget: Duration::from_millis(600) });
        let good = add(&settling, &busy, "good", "mine").expect("written").expect("new");
        let bad = add(&settling, &busy, "bad", "mine").expect("written").expect("new");
        let settled = settling.settle();
        assert!(settled.has(good) && !settled.has(bad));
        let said = settled.result().expect_err("one was lost").to_string();
        assert!(
            said.contains("what was written as the tag bad of busy is not seen to stay there: others write it"),
            "{said}"
        );
        // Also where the work itself has failed.
        let failed = settled_work_of(&busy);
        assert!(failed.to_string().contains("the work"), "{failed}");
        assert_eq!(busy.kept("good"), index(&["mine", "again"]).entries());
    }

    fn settled_work_of(busy: &Busy) -> SharedError {
        let unfit = || SharedError::Unfit { tag: "x".to_owned(), place: "y".to_owned(), reason: "the work".to_owned() };
        settled(&Pace::default(), |settling| -> Result<(), SharedError> {
            add(settling, busy, "good", "again")?;
            // Somebody overwrites it, and it has to come again although the work is about to fail.
            busy.set("good", &index(&["mine"]).to_json());
            Err(unfit())
        })
        .expect_err("the work failed")
    }

    #[test]
    fn where_nobody_else_writes_nothing_is_watched() {
        let busy = Busy { own: true, ..Busy::default() };
        assert!(add_one(&busy, Duration::from_secs(60)).expect("written"));
        assert_eq!(*busy.looks.lock().expect("no panic"), 0, "it was read and written");
    }

    #[test]
    fn threads_of_one_command_do_not_overwrite_each_other() {
        let busy = Busy::default();
        let settling = Settling::new(Pace::default());
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        std::thread::scope(|scope| {
            for name in names {
                let (settling, busy) = (&settling, &busy);
                scope.spawn(move || add(settling, busy, "t", name).expect("written").expect("new"));
            }
        });
        assert_eq!(*busy.puts.lock().expect("no panic"), 8, "nobody had to write twice");
        settling.settle().result().expect("all stayed");
        let kept: Vec<_> = busy.kept("t").into_iter().map(|entry| entry.digest).collect();
        assert!(names.iter().all(|name| kept.contains(&Digest::of(name.as_bytes()))));
    }
}
