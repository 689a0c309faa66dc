//! Carrying an image, with all that is kept about it, from one place to another.
//!
//! Nothing is written anew: manifests and blobs arrive with the bytes that they had. Blobs go first, manifests after what
//! they need, the name last; so what was interrupted has no name, and who sees the image sees its evidence. The two things
//! that are composed at the destination are shared tags: the list of referrers where the place keeps none itself, and a
//! tag of signatures that has others already. They take time, in which is seen whether others write them, too: so the
//! evidence of a long image is put while the image's blobs are on their way.

mod blobs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use super::attached::{self, MAX_LAYERS};
use super::layout::is_evidence_tag;
use super::manifest::{Descriptor, Kind, Manifest, OCI_CONFIG, OCI_MANIFEST};
use super::platforms::{NoChoice, choose_entry};
use super::reference::{At, Digest};
use super::repository::{Listed, MAX_REFERRERS, Put, Repository, RepositoryError, Skipped, Stored};
use super::shared::{self, Change, Pace, Settling, SharedError};

/// Most manifests of an image with its evidence.
const MAX_MANIFESTS: usize = 20_000;
/// Most bytes of all its manifests.
const MAX_MANIFEST_BYTES: usize = 256 << 20;
/// How deep indexes lie in each other.
const MAX_DEPTH: usize = 8;
/// How far evidence about evidence is followed.
const EVIDENCE_DEPTH: usize = 4;
/// An image of more bytes is on its way for so long that its evidence is put meanwhile.
const LONG: u64 = 8 << 20;
/// What stands behind the digest in tags of evidence.
const SUFFIXES: [&str; 3] = [".sig", ".att", ".sbom"];

/// What is carried, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Signatures, attestations and other referrers too.
    pub evidence: bool,
    /// Blobs that are carried at the same time.
    pub at_once: usize,
    /// What stands before the tags of evidence.
    pub prefix: String,
    /// The source's repository, where source and destination are in the same registry: its blobs may be taken over.
    pub mount_from: Option<String>,
    /// All blobs are read again at the destination.
    pub reread: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { evidence: true, at_once: 4, prefix: String::new(), mount_from: None, reread: false }
    }
}

/// What is going to be carried, found once.
#[derive(Clone, Debug)]
pub struct Chosen {
    root: Stored,
    taken_from: Option<Digest>,
}

impl Chosen {
    /// Its digest, here and there.
    pub fn digest(&self) -> &Digest {
        self.root.digest()
    }
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was carried: the digest is the same in both places.
    pub root: Descriptor,
    /// The index from which it was taken, where that was asked for.
    pub taken_from: Option<Digest>,
    /// Manifests and indexes of the image.
    pub manifests: usize,
    /// Manifests of evidence.
    pub evidence: usize,
    /// Blobs that were sent, and their bytes.
    pub sent: (usize, u64),
    /// Blobs that were taken over from the source's repository.
    pub mounted: usize,
    /// Blobs that were there.
    pub present: usize,
    /// What was passed over, with a reason.
    pub notes: Vec<String>,
}

/// Why an image was not carried.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// A place cannot be asked, or does not do it.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A tag that others write too was not written.
    #[error(transparent)]
    Shared(#[from] SharedError),
    /// What was named is not there.
    #[error("{what} is not in {place}")]
    Absent {
        /// The tag or digest.
        what: String,
        /// Where.
        place: String,
    },
    /// The index has no image that a platform chooses.
    #[error(transparent)]
    Choice(#[from] NoChoice),
    /// It cannot be carried whole.
    #[error("{0}")]
    Image(String),
    /// Nobody knows what is kept about it, so that it cannot be carried.
    #[error("what is kept about {of} cannot be read: {place}: {reason}")]
    Evidence {
        /// About what.
        of: Digest,
        /// Where it should be.
        place: String,
        /// Why it cannot be read.
        reason: String,
    },
    /// It was carried, and is not there as it was.
    #[error("{place} has not what was put there: {what}")]
    NotThere {
        /// Where.
        place: String,
        /// What is wrong.
        what: String,
    },
}

/// How far a manifest has been gathered.
struct Gathered {
    stored: Stored,
    manifest: Manifest,
}

/// All that is carried, in the order in which it can be put.
struct Plan<'a> {
    from: &'a dyn Repository,
    options: &'a Options,
    all: BTreeMap<Digest, Gathered>,
    /// Image and index manifests, each after what it leads to.
    order: Vec<Digest>,
    /// The image's own.
    images: usize,
    /// Manifests under tags of evidence.
    tags: Vec<(String, Digest)>,
    bytes: usize,
    notes: Vec<String>,
}

fn large(what: String, found: usize, limit: usize) -> CarryError {
    RepositoryError::Large { what, found: found as u64, limit: limit as u64 }.into()
}

impl Plan<'_> {
    fn take(&mut self, stored: Stored) -> Result<Manifest, CarryError> {
        let manifest = stored
            .manifest()
            .map_err(|source| RepositoryError::Manifest { digest: stored.digest().to_string(), source })?;
        self.bytes += stored.bytes().len();
        if self.all.len() >= MAX_MANIFESTS || self.bytes > MAX_MANIFEST_BYTES {
            return Err(large("the image with its evidence".to_owned(), self.bytes, MAX_MANIFEST_BYTES));
        }
        self.all.insert(stored.digest().clone(), Gathered { stored, manifest: manifest.clone() });
        Ok(manifest)
    }

    /// A manifest and all that it leads to.
    fn image(&mut self, stored: Stored, depth: usize) -> Result<(), CarryError> {
        if self.all.contains_key(stored.digest()) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return Err(CarryError::Image(format!("indexes lie in each other more than {MAX_DEPTH} deep")));
        }
        let digest = stored.digest().clone();
        let manifest = self.take(stored)?;
        for entry in manifest.entries() {
            if Kind::of(&entry.media_type).is_none() {
                continue;
            }
            let child = self.from.manifest(&At::Digest(entry.digest.clone()))?.ok_or_else(|| {
                let platform = entry.platform.as_ref().map(|one| format!(" ({one})")).unwrap_or_default();
                CarryError::Image(format!(
                    "the index {digest} names {}{platform}, which is not in {}: it is carried whole or, with --platform, one image of it",
                    entry.digest,
                    self.from.name()
                ))
            })?;
            fits(entry, &child).map_err(CarryError::Image)?;
            self.image(child, depth + 1)?;
        }
        self.order.push(digest);
        Ok(())
    }

    /// What is kept about all that was gathered so far, and what is kept about that.
    fn evidence(&mut self) -> Result<(), CarryError> {
        let mut next: VecDeque<(Digest, usize)> = self.order.iter().map(|digest| (digest.clone(), 0)).collect();
        while let Some((of, depth)) = next.pop_front() {
            if depth == EVIDENCE_DEPTH {
                self.notes.push(format!("what is kept about {of} was not looked for: {EVIDENCE_DEPTH} deep is enough"));
                continue;
            }
            let known = self.order.len();
            for suffix in SUFFIXES {
                let tag = format!("{}{}", self.options.prefix, of.tag(suffix));
                if let Some(stored) = self.from.manifest(&At::Tag(tag.clone()))? {
                    self.tags.push((tag, stored.digest().clone()));
                    self.image(stored, 0)?;
                }
            }
            for entry in self.referrers(&of)? {
                let Some(stored) = self.from.manifest(&At::Digest(entry.digest.clone()))? else {
                    self.notes.push(format!("{} is listed as a referrer of {of}, and is not there", entry.digest));
                    continue;
                };
                let is_about = stored
                    .manifest()
                    .is_ok_and(|manifest| manifest.subject.is_some_and(|subject| subject.digest == of));
                if is_about {
                    self.image(stored, 0)?;
                } else {
                    self.notes.push(format!("{} is listed as a referrer of {of}, and is about another", entry.digest));
                }
            }
            next.extend(self.order[known..].iter().map(|digest| (digest.clone(), depth + 1)));
        }
        Ok(())
    }

    /// Who is said to refer to a manifest: by the place's list, and by the tag that a writer keeps.
    fn referrers(&mut self, of: &Digest) -> Result<Vec<Descriptor>, CarryError> {
        let Listed { entries, skipped } = attached::referrers(self.from, of)?;
        for Skipped { place, reason, hides } in skipped {
            if hides {
                return Err(CarryError::Evidence { of: of.clone(), place, reason });
            }
            self.notes.push(format!("{place}: {reason}"));
        }
        if entries.len() > MAX_REFERRERS {
            return Err(large(format!("the list of referrers of {of}"), entries.len(), MAX_REFERRERS));
        }
        Ok(entries)
    }

    /// All blobs, each once: those that both the image and its evidence have, those of the image, those of the evidence.
    fn blobs(&self) -> Result<[Vec<Descriptor>; 3], CarryError> {
        let mut blobs: BTreeMap<Digest, Descriptor> = BTreeMap::new();
        let (mut of_images, mut of_evidence) = (BTreeSet::new(), BTreeSet::new());
        for (number, digest) in self.order.iter().enumerate() {
            let manifest = &self.all[digest].manifest;
            let entries = manifest.entries().iter().filter(|entry| Kind::of(&entry.media_type).is_none());
            for blob in manifest.config.iter().chain(manifest.layers()).chain(entries) {
                if let Some(other) = blobs.get(&blob.digest)
                    && other.size != blob.size
                {
                    return Err(CarryError::Image(format!(
                        "{} is said to have {} and {} bytes",
                        blob.digest, other.size, blob.size
                    )));
                }
                blobs.insert(blob.digest.clone(), blob.clone());
                let whose = if number < self.images { &mut of_images } else { &mut of_evidence };
                whose.insert(blob.digest.clone());
            }
        }
        let mut blobs: Vec<Descriptor> = blobs.into_values().collect();
        // The longest first: then all end at about the same time.
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        let (images, evidence): (Vec<_>, _) = blobs.into_iter().partition(|blob| of_images.contains(&blob.digest));
        let (both, images) = images.into_iter().partition(|blob| of_evidence.contains(&blob.digest));
        Ok([both, images, evidence])
    }
}

/// Whether what came is what a descriptor says.
pub(super) fn fits(entry: &Descriptor, stored: &Stored) -> Result<(), String> {
    if entry.size != stored.bytes().len() as u64 || entry.media_type != stored.media_type() {
        return Err(format!(
            "{} is {} of {} bytes, and the index says {} of {}",
            entry.digest,
            stored.media_type(),
            stored.bytes().len(),
            entry.media_type,
            entry.size
        ));
    }
    Ok(())
}

/// The one image of an index that is for a machine.
fn for_platform(from: &dyn Repository, root: &Stored, wanted: &str) -> Result<Stored, CarryError> {
    let manifest =
        root.manifest().map_err(|source| RepositoryError::Manifest { digest: root.digest().to_string(), source })?;
    let entry = choose_entry(root, &manifest, wanted)?;
    let child = from.need(&At::Digest(entry.digest.clone()))?;
    fits(entry, &child).map_err(CarryError::Image)?;
    Ok(child)
}

/// Finds what `at` means in `from`; of an index only the image for a platform, `os/architecture[/variant]`, where one is
/// named.
pub fn choose(from: &dyn Repository, at: &At, platform: Option<&str>) -> Result<Chosen, CarryError> {
    let absent = || CarryError::Absent { what: at.to_string(), place: from.name() };
    let named = from.manifest(at)?.ok_or_else(absent)?;
    Ok(match platform {
        Some(wanted) => Chosen { root: for_platform(from, &named, wanted)?, taken_from: Some(named.digest().clone()) },
        None => Chosen { root: named, taken_from: None },
    })
}

/// Carries what was chosen in `from` to `to`, there under `tag` or under its digest alone.
pub fn carry(
    from: &dyn Repository,
    chosen: Chosen,
    to: &dyn Repository,
    tag: Option<&str>,
    options: &Options,
) -> Result<Report, CarryError> {
    let Chosen { root, taken_from } = chosen;
    let descriptor = root.descriptor();
    let mut plan = Plan {
        from,
        options,
        all: BTreeMap::new(),
        order: Vec::new(),
        images: 0,
        tags: Vec::new(),
        bytes: 0,
        notes: Vec::new(),
    };
    plan.image(root, 0)?;
    plan.images = plan.order.len();
    if options.evidence {
        plan.evidence()?;
    }
    let [of_both, of_images, only_evidence] = plan.blobs()?;
    let mut report = Report {
        root: descriptor.clone(),
        taken_from,
        manifests: plan.images,
        evidence: plan.order.len() - plan.images,
        sent: (0, 0),
        mounted: 0,
        present: 0,
        notes: Vec::new(),
    };
    let mut of_evidence = report.clone();
    // A place takes no manifest without its blobs: what both need is there before either is put.
    blobs::carry(from, to, &of_both, options, &mut report)?;
    let is_long = of_images.iter().fold(0_u64, |sum, blob| sum.saturating_add(blob.size)) > LONG;
    let mut evidence = || {
        blobs::carry(from, to, &only_evidence, options, &mut of_evidence)?;
        put_evidence(&plan, to)
    };
    if is_long {
        std::thread::scope(|scope| {
            let evidence = scope.spawn(evidence);
            blobs::carry(from, to, &of_images, options, &mut report)?;
            let ended = evidence.join();
            ended.unwrap_or_else(|_| Err(CarryError::Image("carrying the evidence panicked".to_owned())))
        })?;
    } else {
        blobs::carry(from, to, &of_images, options, &mut report)?;
        evidence()?;
    }
    put_images(&plan, to, &descriptor, tag)?;
    verify(&plan, to, &descriptor, tag, &[of_both, of_images, only_evidence].concat())?;
    report.sent = (report.sent.0 + of_evidence.sent.0, report.sent.1 + of_evidence.sent.1);
    report.mounted += of_evidence.mounted;
    report.present += of_evidence.present;
    report.notes = [plan.notes, report.notes, of_evidence.notes].concat();
    Ok(report)
}

/// Manifests that the place does not list itself, by what they are about.
#[derive(Default)]
struct Unlisted<'a>(BTreeMap<&'a Digest, Vec<Descriptor>>);

impl<'a> Unlisted<'a> {
    fn put(&mut self, to: &dyn Repository, at: &At, one: &'a Gathered) -> Result<(), CarryError> {
        let put = to.put_patiently(at, one.stored.media_type(), one.stored.bytes())?;
        if put == Put::Unlisted
            && let Some(subject) = &one.manifest.subject
        {
            self.0.entry(&subject.digest).or_default().push(Descriptor {
                artifact_type: one.manifest.artifact_type().map(str::to_owned),
                annotations: one.manifest.annotations.clone(),
                ..one.stored.descriptor()
            });
        }
        Ok(())
    }

    fn enlist<'r>(&mut self, settling: &Settling<'r>, to: &'r dyn Repository) -> Result<(), CarryError> {
        for (subject, entries) in std::mem::take(&mut self.0) {
            attached::enlist(settling, to, subject, &entries)?;
        }
        Ok(())
    }
}

/// What is kept about the image, and about that.
fn put_evidence(plan: &Plan<'_>, to: &dyn Repository) -> Result<(), CarryError> {
    let tagged: BTreeSet<&Digest> = plan.tags.iter().map(|(_, digest)| digest).collect();
    let mut unlisted = Unlisted::default();
    for digest in &plan.order[plan.images..] {
        let one = &plan.all[digest];
        if !tagged.contains(digest) || one.manifest.subject.is_some() {
            unlisted.put(to, &At::Digest(digest.clone()), one)?;
        }
    }
    shared::settled(&Pace::default(), |settling| {
        unlisted.enlist(settling, to)?;
        plan.tags.iter().try_for_each(|(tag, digest)| tagged_evidence(settling, to, tag, &plan.all[digest]))
    })
}

/// What is not named, then the root.
fn put_images(plan: &Plan<'_>, to: &dyn Repository, root: &Descriptor, tag: Option<&str>) -> Result<(), CarryError> {
    let mut unlisted = Unlisted::default();
    for digest in plan.order[..plan.images].iter().filter(|digest| **digest != root.digest) {
        unlisted.put(to, &At::Digest(digest.clone()), &plan.all[digest])?;
    }
    // The root comes last, when all that it leads to is sure to have stayed.
    shared::settled(&Pace::default(), |settling| unlisted.enlist(settling, to))?;
    let at = tag.map_or_else(|| At::Digest(root.digest.clone()), |tag| At::Tag(tag.to_owned()));
    unlisted.put(to, &at, &plan.all[&root.digest])?;
    shared::settled(&Pace::default(), |settling| unlisted.enlist(settling, to))
}

/// Whether a manifest has this layer, with these notes.
fn has_layer(manifest: &Manifest, layer: &Descriptor) -> bool {
    manifest.layers().iter().any(|one| {
        one.digest == layer.digest && one.media_type == layer.media_type && one.annotations == layer.annotations
    })
}

/// Whether a manifest has all layers of another.
fn has_all(manifest: &Manifest, one: &Gathered) -> bool {
    one.manifest.kind() == Kind::Image && one.manifest.layers().iter().all(|layer| has_layer(manifest, layer))
}

/// Puts signatures or attestations under their tag. What is there already stays, and what is new comes behind it.
fn tagged_evidence<'a>(
    settling: &Settling<'a>,
    to: &'a dyn Repository,
    tag: &str,
    one: &'a Gathered,
) -> Result<(), CarryError> {
    let at = At::Tag(tag.to_owned());
    let Some(there) = to.manifest(&at)? else {
        // The same bytes: then somebody's digest of the evidence stays good.
        let _: Put = to.put_patiently(&at, one.stored.media_type(), one.stored.bytes())?;
        return Ok(());
    };
    if there.digest() == one.stored.digest() {
        return Ok(());
    }
    let change = move |there: Option<&Manifest>| {
        if one.manifest.kind() != Kind::Image || there.is_some_and(|there| there.kind() != Kind::Image) {
            return Err("an index is there, or is to be put there: two cannot be one".to_owned());
        }
        if there.is_some_and(|there| has_all(there, one)) {
            return Ok(Change::Nothing);
        }
        let mut layers = there.map(|manifest| manifest.layers().to_vec()).unwrap_or_default();
        let is_new = |layer: &&Descriptor| !there.is_some_and(|there| has_layer(there, layer));
        layers.extend(one.manifest.layers().iter().filter(is_new).cloned());
        if layers.len() > MAX_LAYERS {
            return Err(format!("{} layers; {MAX_LAYERS} are read", layers.len()));
        }
        let config = attached::config(&layers);
        let merged = Manifest {
            media_type: Some(OCI_MANIFEST.to_owned()),
            config: Some(Descriptor::of(OCI_CONFIG, &config)),
            layers: Some(layers),
            ..there.unwrap_or(&one.manifest).clone()
        };
        Ok(Change::Write(Box::new(merged), vec![(OCI_CONFIG, config)]))
    };
    settling.write(to, tag, change, move |there| has_all(there, one))?;
    Ok(())
}

/// Reads again what was put.
fn verify(
    plan: &Plan<'_>,
    to: &dyn Repository,
    root: &Descriptor,
    tag: Option<&str>,
    blobs: &[Descriptor],
) -> Result<(), CarryError> {
    let not_there = |what: String| CarryError::NotThere { place: to.name(), what };
    if let Some(tag) = tag {
        let found = to.resolve(&At::Tag(tag.to_owned()))?.map(|found| found.digest);
        if found.as_ref() != Some(&root.digest) {
            let found = found.map_or("nothing".to_owned(), |found| found.to_string());
            return Err(not_there(format!("the tag {tag} means {found}, and not {}", root.digest)));
        }
    }
    let mut lists: BTreeMap<&Digest, BTreeSet<Digest>> = BTreeMap::new();
    let merged: BTreeSet<&Digest> = plan.tags.iter().map(|(_, digest)| digest).collect();
    for digest in &plan.order {
        let one = &plan.all[digest];
        // Those under tags may have been added to others.
        if !merged.contains(digest) || one.manifest.subject.is_some() {
            let found = to.manifest(&At::Digest(digest.clone()))?;
            if found.is_none_or(|found| found.media_type() != one.stored.media_type()) {
                return Err(not_there(format!("the manifest {digest} is not there, or is of another type")));
            }
        }
        let Some(subject) = one.manifest.subject.as_ref().filter(|_| *digest != root.digest) else { continue };
        if !lists.contains_key(&subject.digest) {
            let list =
                attached::referrers(to, &subject.digest)?.entries.into_iter().map(|entry| entry.digest).collect();
            lists.insert(&subject.digest, list);
        }
        if !lists[&subject.digest].contains(digest) {
            return Err(not_there(format!("{digest} is not listed as a referrer of {}", subject.digest)));
        }
    }
    for (tag, digest) in &plan.tags {
        let there = to.manifest(&At::Tag(tag.clone()))?;
        let is_whole = there.is_some_and(|there| {
            there.digest() == digest || there.manifest().is_ok_and(|there| has_all(&there, &plan.all[digest]))
        });
        if !is_whole {
            return Err(not_there(format!("the tag {tag} has not all that it had")));
        }
    }
    for blob in blobs {
        if plan.options.reread && to.has_blob(&blob.digest)? {
            let mut reader = to.blob(&blob.digest, blob.size)?;
            io::copy(&mut reader, &mut io::sink())
                .map_err(|source| RepositoryError::Io { what: format!("{} of {}", blob.digest, to.name()), source })?;
        } else if !blobs::is_elsewhere(blob) && !to.has_blob(&blob.digest)? {
            return Err(not_there(format!("the blob {} is not there", blob.digest)));
        }
    }
    Ok(())
}

/// The tags of a place under which images are, and not what is kept about them.
pub fn image_tags(place: &dyn Repository) -> Result<Vec<String>, RepositoryError> {
    Ok(place.tags()?.into_iter().filter(|tag| !is_evidence_tag(tag)).collect())
}
