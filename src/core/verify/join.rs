//! Putting accepted evidence together: one collection for each step, so that all hang together and prove the artifact.
//!
//! A chain holds one accepted collection of each step. It counts when they hang together and one of them is about what
//! was asked, when files that come from another step are the same as
//! there, when rules that see other steps agree with these very ones, and when each required external attestation is
//! about something that the chain has made. So evidence of another run cannot stand in where only its parts fit.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::accept::{Accepted, Evidence, Fitting, NAMED, State, entry_of, read_collection, statement};
use super::artifact::Made;
use super::edge::edge_check;
use super::rules::{Others, present as presented, rules};
use super::trusted::TrustedPolicy;
use super::{Artifact, Question};
use crate::digest::DigestSet;
use crate::evidence::files::Files;
use crate::evidence::input::ImageFacts;
use crate::evidence::links::Standing;
use crate::evidence::{kinds, links};
use crate::policy::Step;
use crate::store::SubjectDigest;
use crate::verdict::{Check, CheckKind, Link};

/// Partial chains that are tried for one artifact.
const MAX_TRIES: usize = 200_000;

/// A step, or an external attestation, and the number of what was accepted for it.
type Member<'a> = (&'a str, usize);

/// Accepted evidence of one policy.
pub(super) struct Pool<'a> {
    pub(super) policy: &'a TrustedPolicy,
    pub(super) question: &'a Question<'a>,
    pub(super) evidence: &'a [Evidence],
    /// Accepted collections, by step; in the order in which chains are tried.
    pub(super) steps: BTreeMap<&'a str, Vec<Accepted>>,
    /// Accepted external attestations, by name.
    pub(super) external: BTreeMap<&'a str, Vec<ExternalEvidence>>,
    /// What was compared already: taker and giver, each a step and the number of a collection.
    edges: RefCell<BTreeMap<[Member<'a>; 2], Option<Check>>>,
    /// Which collections were found to hang together.
    links: RefCell<BTreeMap<[Member<'a>; 2], bool>>,
}

/// An external attestation whose signer and rules are right.
pub(super) struct ExternalEvidence {
    pub(super) evidence: usize,
    /// The real digests that it is about.
    pub(super) subjects: Vec<(String, DigestSet)>,
}

/// A chain: the number of the accepted collection of each step.
pub(super) type Chain<'a> = BTreeMap<&'a str, usize>;

/// Why there is no chain.
#[derive(Clone, Debug, Default)]
pub(super) struct Broken {
    /// The check that failed in the chain that went furthest, by step; the name of an external attestation otherwise.
    pub(super) step: String,
    pub(super) check: Option<Check>,
    /// Whether what has made an image is of another job than the one that signed it: then no step is to blame.
    pub(super) is_mismatch: bool,
    depth: usize,
}

impl<'a> Pool<'a> {
    pub(super) fn new(policy: &'a TrustedPolicy, question: &'a Question<'a>, evidence: &'a [Evidence]) -> Self {
        let (steps, external) = (BTreeMap::new(), BTreeMap::new());
        Self { policy, question, evidence, steps, external, edges: RefCell::default(), links: RefCell::default() }
    }

    /// A chain that proves `artifact`, or any chain where there is none to prove.
    pub(super) fn chain(&'a self, artifact: Option<&Artifact>) -> Result<Chain<'a>, Box<Broken>> {
        let mut search = Search {
            pool: self,
            order: self.order(),
            artifact,
            tries: Cell::new(0),
            broken: RefCell::default(),
            about: RefCell::default(),
        };
        let Some(artifact) = artifact else {
            return search.from(0, &mut Chain::new()).ok_or_else(|| Box::new(search.broken.into_inner()));
        };
        // Every chain that counts has a member that proves the artifact: begin with that.
        let mut provers: Vec<(&str, usize)> = self
            .steps
            .iter()
            .flat_map(|(step, all)| all.iter().enumerate().map(move |(number, one)| (*step, number, one)))
            .filter(|(_, _, one)| proves(one, artifact))
            .map(|(step, number, _)| (step, number))
            .collect();
        let signed = artifact.image.as_ref().and_then(|image| image.signed.as_ref());
        if let Some(signed) = signed {
            // Only what is of the very job that signed the image says of it that it was made as asked.
            let mut mismatch = None;
            provers.retain(|(step, number)| {
                let accepted = &self.steps[step][*number];
                let checked = self.with_collection(accepted, |collection, label| signed.check(collection, label));
                checked.map_err(|check| mismatch.get_or_insert(check).clone()).is_ok()
            });
            if let Some(check) = mismatch.filter(|_| provers.is_empty()) {
                return Err(Box::new(Broken { check: Some(check), is_mismatch: true, ..Broken::default() }));
            }
        }
        for (step, number) in &provers {
            let mut chain = Chain::new();
            chain.insert(step, *number);
            if let Some(chain) = search.from(0, &mut chain) {
                return Ok(chain);
            }
        }
        if provers.is_empty() && signed.is_some() {
            let asked = "a collection of a step that has made the image (`images.certificateMatches`)";
            let check = Check::failed(CheckKind::Certificate, asked, "none").at(artifact.name.clone());
            return Err(Box::new(Broken { check: Some(check), is_mismatch: true, ..Broken::default() }));
        }
        if provers.is_empty() {
            // Many files of a folder may come from many steps; and an external attestation may prove it.
            search.artifact = Some(artifact);
            if let Some(chain) = search.from(0, &mut Chain::new()) {
                return Ok(chain);
            }
        }
        Err(Box::new(search.broken.into_inner()))
    }

    /// The steps, those that others depend on first.
    fn order(&self) -> Vec<&'a str> {
        let policy: &'a TrustedPolicy = self.policy;
        policy.policy.order().unwrap_or_default()
    }

    /// The links of a chain, for the verdict.
    pub(super) fn links(&self, chain: &Chain<'_>) -> Vec<Link> {
        let link = |(step, number): (&&str, &usize)| {
            let evidence = &self.evidence[self.steps[step][*number].evidence];
            Link { step: (*step).to_owned(), source: evidence.label.clone(), sha256: evidence.sha256.clone() }
        };
        chain.iter().map(link).collect()
    }

    /// Whether the files of `step` that come from `from` are the same as there.
    fn edge(&self, step: &'a str, number: usize, from: &'a str, other: usize) -> Option<Check> {
        let key = [(step, number), (from, other)];
        if let Some(known) = self.edges.borrow().get(&key) {
            return known.clone();
        }
        let (taker, giver) = (&self.steps[step][number], &self.steps[from][other]);
        let left = giver.materials.overlay(&giver.products);
        let edge = taker.materials.compare(&left);
        let (taker_label, giver_label) = (&self.evidence[taker.evidence].label, &self.evidence[giver.evidence].label);
        let check = edge_check(step, from, &edge, taker_label, giver_label);
        self.edges.borrow_mut().insert(key, check.clone());
        check
    }

    /// The digests that a chain has made or is about, as far as bytes go.
    fn has_made(&self, chain: &Chain<'_>, digests: &DigestSet) -> bool {
        chain.iter().any(|(step, number)| {
            let accepted = &self.steps[step][*number];
            accepted.has_made(digests, Made::Bytes)
                // The root of a tree is no file's digest, but names what the step has made.
                || accepted.subjects.iter().any(|(name, own)| is_tree(name) && shares(own, digests))
        })
    }

    /// Whether two members of a chain hang together: one is about what the other refers back to, both refer back to
    /// the same, or files of one come from the other (that these are the same is looked at elsewhere).
    fn linked(&self, one: Member<'a>, other: Member<'a>) -> bool {
        let key = if one < other { [one, other] } else { [other, one] };
        if let Some(known) = self.links.borrow().get(&key) {
            return *known;
        }
        let takes = |taker: Member<'a>, giver: Member<'a>| {
            self.policy.policy.steps[taker.0].artifacts_from.iter().any(|from| from == giver.0)
        };
        let [a, b] = [one, other].map(|(step, number)| &self.steps[step][number]);
        let [of_a, of_b] = [a, b].map(|accepted| accepted.backrefs.iter().flat_map(seeds_of).collect::<Vec<_>>());
        let linked = takes(one, other)
            || takes(other, one)
            || of_a.iter().any(|digest| of_b.contains(digest))
            || self.is_about(a, &of_b)
            || self.is_about(b, &of_a);
        self.links.borrow_mut().insert(key, linked);
        linked
    }
}

fn is_product(products: &Files, digests: &DigestSet) -> bool {
    digests.0.iter().any(|(algorithm, value)| is_strong(algorithm) && products.find(algorithm, value).is_some())
}

/// Whether two sets name the same bytes. SHA-1 alone proves nothing.
fn shares(one: &DigestSet, other: &DigestSet) -> bool {
    let is_digest = |value: &str| value.len() >= 64;
    one.0
        .iter()
        .any(|(algorithm, value)| is_strong(algorithm) && is_digest(value) && other.0.get(algorithm) == Some(value))
}

/// Algorithms of which nobody can make two files with one digest; not that of commits.
fn is_strong(algorithm: &str) -> bool {
    ["sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512", "gitoid:sha256", "dirHash"].contains(&algorithm)
}

/// Whether a collection proves an artifact: its own digest, or each file of a folder, is a product or a real subject.
pub(super) fn proves(accepted: &Accepted, artifact: &Artifact) -> bool {
    artifact.is_made(|digests, made| accepted.has_made(digests, made))
}

impl Accepted {
    /// Whether something with one of these digests was made.
    pub(super) fn has_made(&self, digests: &DigestSet, made: Made) -> bool {
        has_made(&self.products, &self.subjects, digests, made)
    }
}

/// Whether one of these digests is that of a product, or of a real subject that is what is wanted.
pub(super) fn has_made(products: &Files, subjects: &[(String, DigestSet)], digests: &DigestSet, made: Made) -> bool {
    let subject =
        |wanted: &dyn Fn(&str) -> bool| subjects.iter().any(|(name, own)| wanted(name) && shares(own, digests));
    match made {
        Made::Bytes => is_product(products, digests) || subject(&|name| !is_tree(name)),
        Made::Image => subject(&|name| links::standing(name) == Standing::Image),
        Made::ImageId => subject(&|name| links::standing(name) == Standing::ImageId),
    }
}

/// Whether a subject is the root of a tree over files. A file can be made that has it as its SHA-256: one that holds two
/// nodes of the tree, and for a tree without files any empty one.
fn is_tree(name: &str) -> bool {
    name.ends_with("/tree:products")
}

struct Search<'a, 'q> {
    pool: &'a Pool<'a>,
    order: Vec<&'a str>,
    artifact: Option<&'q Artifact>,
    tries: Cell<usize>,
    broken: RefCell<Broken>,
    /// Which collections are about the artifact, or about the seed with this number.
    about: RefCell<BTreeMap<(Member<'a>, usize), bool>>,
}

impl<'a> Search<'a, '_> {
    /// Completes a chain from the step at `depth` on.
    fn from(&self, depth: usize, chain: &mut Chain<'a>) -> Option<Chain<'a>> {
        if self.tries.get() >= MAX_TRIES {
            let check = Check::failed(
                CheckKind::Subject,
                "evidence that hangs together",
                format!("none among {MAX_TRIES} combinations that were tried"),
            )
            .fix("name the evidence of this one run with `--attestations`");
            self.note(usize::MAX, "", check);
            return None;
        }
        self.tries.set(self.tries.get() + 1);
        let Some(step) = self.order.get(depth).copied() else { return self.complete(chain) };
        if let Some(number) = chain.get(step).copied() {
            // The prover was set before the others: its edges are looked at now.
            return self.fits(depth, step, number, chain).then(|| self.from(depth + 1, chain)).flatten();
        }
        for number in 0..self.pool.steps.get(step).map_or(0, Vec::len) {
            chain.insert(step, number);
            if self.fits(depth, step, number, chain)
                && let Some(found) = self.from(depth + 1, chain)
            {
                return Some(found);
            }
            chain.remove(step);
        }
        None
    }

    fn note(&self, depth: usize, step: &str, check: Check) {
        let mut broken = self.broken.borrow_mut();
        if broken.check.is_none() || depth > broken.depth {
            *broken = Broken { step: step.to_owned(), check: Some(check), depth, ..Broken::default() };
        }
    }

    /// Whether the files of this member agree with those of the members that are there already, in both directions.
    fn fits(&self, depth: usize, step: &'a str, number: usize, chain: &Chain<'a>) -> bool {
        let steps = &self.pool.policy.policy.steps;
        if let Some(artifact) = self.artifact.filter(|artifact| artifact.image.is_some() && steps[step].per_platform) {
            let accepted = &self.pool.steps[step][number];
            if !proves(accepted, artifact) {
                let expected = format!("evidence of `{step}` about this very image (steps.{step}.perPlatform)");
                let check = Check::failed(CheckKind::Product, expected, "evidence about another one")
                    .at(&self.pool.evidence[accepted.evidence].label)
                    .fix(format!("run `{step}` for each platform, with the oci or docker attestor"));
                self.note(depth, step, check);
                return false;
            }
        }
        for (other, other_number) in chain {
            let ours = steps[step].artifacts_from.iter().any(|from| from == other);
            let theirs = *other != step && steps[*other].artifacts_from.iter().any(|from| from == step);
            let failed = ours
                .then(|| self.pool.edge(step, number, other, *other_number).map(|check| (step, check)))
                .flatten()
                .or_else(|| {
                    theirs.then(|| self.pool.edge(other, *other_number, step, number).map(|check| (*other, check)))?
                });
            if let Some((taker, check)) = failed {
                self.note(depth, taker, check);
                return false;
            }
        }
        true
    }

    /// What only a whole chain can say.
    fn complete(&self, chain: &Chain<'a>) -> Option<Chain<'a>> {
        let depth = self.order.len();
        if let Some((step, check)) = self.unconnected(chain) {
            self.note(depth, step, check);
            return None;
        }
        if let Some((step, check)) = self.untracked(chain) {
            self.note(depth + 1, step, check);
            return None;
        }
        let external = match self.external(chain) {
            Ok(external) => external,
            Err(failed) => {
                let (name, check) = *failed;
                self.note(depth + 2, &name, check);
                return None;
            }
        };
        for step in &self.order {
            if let Err(check) = self.joint_rules(step, chain, &external) {
                self.note(depth + 3, step, check);
                return None;
            }
        }
        if let Some(artifact) = self.artifact
            && !self.proven(artifact, chain, &external)
        {
            return None;
        }
        Some(chain.clone())
    }

    fn proven(&self, artifact: &Artifact, chain: &Chain<'a>, external: &[(&str, usize)]) -> bool {
        let has = |digests: &DigestSet, made: Made| {
            let by = |name: &&str, number: usize| {
                self.pool.external[name][number].subjects.iter().any(|(_, own)| shares(own, digests))
            };
            chain.iter().any(|(step, number)| self.pool.steps[step][*number].has_made(digests, made))
                || (made == Made::Bytes && external.iter().any(|(name, number)| by(name, *number)))
        };
        artifact.is_made(has)
    }

    /// The first member that does not hang together with those that are about what was asked.
    ///
    /// A chain for an artifact begins at those that are about the artifact. Other digests that were given find evidence,
    /// and without an artifact a chain begins at one of them; they join nothing: tests of one commit say nothing of
    /// another, whoever asks about both.
    fn unconnected(&self, chain: &Chain<'a>) -> Option<(&'a str, Check)> {
        let starts: Vec<Vec<SubjectDigest>> = match self.artifact {
            Some(artifact) => vec![artifact.seeds().collect()],
            None => self.pool.question.seeds.iter().map(|seed| vec![seed.clone()]).collect(),
        };
        let mut nearest: Option<BTreeSet<&'a str>> = None;
        for (number, start) in starts.iter().enumerate() {
            let mut open: BTreeSet<&'a str> = chain.keys().copied().collect();
            let mut reached: Vec<&'a str> =
                open.iter().copied().filter(|step| self.is_about((step, chain[step]), number, start)).collect();
            while let Some(from) = reached.pop() {
                open.remove(from);
                let linked = |to: &&'a str| self.pool.linked((from, chain[from]), (to, chain[to]));
                let more: Vec<&'a str> =
                    open.iter().copied().filter(|to| !reached.contains(to) && linked(to)).collect();
                reached.extend(more);
            }
            if nearest.as_ref().is_none_or(|nearest| open.len() < nearest.len()) {
                nearest = Some(open);
            }
        }
        let open = nearest.unwrap_or_default();
        let step = open.first().copied()?;
        let label = &self.pool.evidence[self.pool.steps[step][chain[step]].evidence].label;
        let check = Check::failed(
            CheckKind::Subject,
            "evidence that hangs together with that about what was asked: of the same commit, pipeline or image, or joined by `artifactsFrom`",
            "nothing links it to the rest of this chain",
        )
        .at(label)
        .fix(format!(
            "run `{step}` on the same commit as the other steps, with the git attestor, or say in the policy with \
             `artifactsFrom` from which step its files come"
        ));
        Some((step, check))
    }

    fn is_about(&self, member: Member<'a>, start: usize, digests: &[SubjectDigest]) -> bool {
        if let Some(known) = self.about.borrow().get(&(member, start)) {
            return *known;
        }
        let is_about = self.pool.is_about(&self.pool.steps[member.0][member.1], digests);
        self.about.borrow_mut().insert((member, start), is_about);
        is_about
    }

    /// Where a step allows only some files from elsewhere: one that comes from none of its steps and is not allowed.
    fn untracked(&self, chain: &Chain<'a>) -> Option<(&'a str, Check)> {
        for step in &self.order {
            let rules = &self.pool.policy.policy.steps[*step];
            if rules.allowed_untracked.is_empty() {
                continue;
            }
            let accepted = &self.pool.steps[step][chain[step]];
            let givers: Vec<&Accepted> = rules
                .artifacts_from
                .iter()
                .filter_map(|from| {
                    chain.get_key_value(from.as_str()).map(|(from, number)| &self.pool.steps[from][*number])
                })
                .collect();
            let tracked = |path: &str| {
                givers.iter().any(|giver| giver.products.get(path).is_some() || giver.materials.get(path).is_some())
            };
            let allowed = |path: &str| rules.allowed_untracked.iter().any(|glob| glob.matches(path));
            let mut foreign = accepted.materials.iter().filter(|file| !tracked(file.path) && !allowed(file.path));
            if let Some(file) = foreign.next() {
                let check = Check::failed(
                    CheckKind::Artifacts,
                    format!("only files of {} or of steps.{step}.allowedUntracked", rules.artifacts_from.join(", ")),
                    format!("{} and {} more come from elsewhere", file.path, foreign.count()),
                )
                .at(&self.pool.evidence[accepted.evidence].label)
                .fix("remove them before the step, or allow them in the policy");
                return Some((step, check));
            }
        }
        None
    }

    /// One external attestation of each name that is about something that the chain has made, or about the artifact.
    fn external(&self, chain: &Chain<'a>) -> Result<Vec<Member<'a>>, Box<(String, Check)>> {
        let mut chosen = Vec::new();
        for (name, external) in &self.pool.policy.policy.external {
            let candidates = self.pool.external.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
            let bound = |one: &ExternalEvidence| {
                one.subjects.iter().any(|(_, digests)| {
                    self.artifact.is_some_and(|artifact| shares(&artifact.digests, digests))
                        || self.pool.has_made(chain, digests)
                })
            };
            match candidates.iter().position(bound) {
                Some(number) => chosen.push((name.as_str(), number)),
                None if external.required && !candidates.is_empty() => {
                    let one = &candidates[0];
                    let about: Vec<&str> = one.subjects.iter().map(|(name, _)| name.as_str()).take(NAMED).collect();
                    let check = Check::failed(
                        CheckKind::Subject,
                        "a statement about something that an accepted step has made",
                        format!(
                            "it is about: {}",
                            if about.is_empty() { "no real digest".to_owned() } else { about.join(", ") }
                        ),
                    )
                    .at(&self.pool.evidence[one.evidence].label)
                    .fix("attest the digest of the artifact itself");
                    return Err(Box::new((name.clone(), check)));
                }
                None => {}
            }
        }
        Ok(chosen)
    }

    /// The rules of a step that see other steps and external attestations, asked with those of this chain.
    fn joint_rules(&self, step: &'a str, chain: &Chain<'a>, external: &[(&str, usize)]) -> Result<(), Check> {
        let pool = self.pool;
        let policy = pool.policy;
        let rules_of: &Step = &policy.policy.steps[step];
        if !policy.sees_others(rules_of) {
            return Ok(());
        }
        let mut steps = Map::new();
        for from in &rules_of.attestations_from {
            let Some((from, number)) = chain.get_key_value(from.as_str()) else { continue };
            steps.insert((*from).to_owned(), pool.predicates(&pool.steps[from][*number])?);
        }
        let mut seen = Map::new();
        for name in &rules_of.external_from {
            if let Some((_, number)) = external.iter().find(|(chosen, _)| chosen == name) {
                let evidence = &pool.evidence[pool.external[name.as_str()][*number].evidence];
                let State::Checked(checked) = &evidence.state else { continue };
                let statement = statement(checked, &evidence.label).map_err(|check| *check)?;
                seen.insert(
                    name.clone(),
                    present(&statement.predicate_type, &entry_of(&statement), &ImageFacts::default(), &evidence.label)?,
                );
            }
        }
        let others =
            Others { steps: Value::Object(steps), external: (!seen.is_empty()).then_some(Value::Object(seen)) };
        let accepted = &pool.steps[step][chain[step]];
        pool.with_collection(accepted, |collection, label| {
            let bound = pool.bound(accepted, rules_of);
            let facts = &accepted.facts;
            let fitting = Fitting { step: rules_of, collection, all: pool.evidence, bound: &bound, facts };
            rules(policy, &fitting, Some(&others), label).map(|_| ()).map_err(|check| *check)
        })
    }
}

fn present(
    wanted: &str,
    entry: &crate::evidence::EntryView<'_>,
    facts: &ImageFacts,
    label: &str,
) -> Result<Value, Check> {
    presented(entry, wanted, facts).map_err(|error| {
        Check::failed(CheckKind::Rules, "an attestation that rules can look at", error)
            .at(label)
            .fix("run the step again")
    })
}

/// The digests of a set, to find evidence by.
pub(super) fn seeds_of(digests: &DigestSet) -> impl Iterator<Item = SubjectDigest> + '_ {
    digests
        .0
        .iter()
        .map(|(algorithm, value)| SubjectDigest { algorithm: Some(algorithm.clone()), value: value.clone() })
}

impl Pool<'_> {
    fn with_collection<T>(
        &self,
        accepted: &Accepted,
        look: impl FnOnce(&crate::evidence::CollectionView<'_>, &str) -> Result<T, Check>,
    ) -> Result<T, Check> {
        let evidence = &self.evidence[accepted.evidence];
        let State::Checked(checked) = &evidence.state else {
            return Err(Check::failed(CheckKind::Signature, "checked evidence", "none"));
        };
        let statement = statement(checked, &evidence.label).map_err(|check| *check)?;
        let collection = read_collection(&statement, &evidence.label).map_err(|check| *check)?;
        look(&collection, &evidence.label)
    }

    fn bound(&self, accepted: &Accepted, step: &Step) -> Vec<(usize, String)> {
        let mut bound = Vec::new();
        for place in &accepted.bound {
            let kind = self.evidence[*place].predicate_type.clone().unwrap_or_default();
            if step.attestations.iter().any(|requirement| kinds::same(&requirement.kind, &kind)) {
                bound.push((*place, kind));
            }
        }
        bound
    }

    /// The predicates of a step by type, the first of each, as they are written.
    fn predicates(&self, accepted: &Accepted) -> Result<Value, Check> {
        self.with_collection(accepted, |collection, label| {
            let mut predicates = Map::new();
            for entry in &collection.attestations {
                if !predicates.contains_key(&entry.kind) {
                    // Where several images are asked about, what differs is what a rule must see.
                    let differs = |facts: &&ImageFacts| facts.image_digest.as_deref() != Some(&facts.cosign_subject);
                    let facts = accepted.facts.iter().find(differs).or(accepted.facts.first());
                    let facts = facts.cloned().unwrap_or_default();
                    predicates.insert(entry.kind.clone(), present(&entry.kind, entry, &facts, label)?);
                }
            }
            Ok(Value::Object(predicates))
        })
    }

    /// Whether the statement of a collection has a subject among `known`, or a file in Merkle form.
    fn is_about(&self, accepted: &Accepted, known: &[SubjectDigest]) -> bool {
        let evidence = &self.evidence[accepted.evidence];
        let State::Checked(checked) = &evidence.state else { return false };
        let Ok(statement) = statement(checked, &evidence.label) else { return false };
        // A collection is not about the commit before its own.
        let of_statement = statement.subject.iter().any(|subject| {
            !links::is_parent(&subject.name)
                && known.iter().any(|wanted| match &wanted.algorithm {
                    Some(algorithm) => {
                        subject.value(algorithm).is_some_and(|value| value.eq_ignore_ascii_case(&wanted.value))
                    }
                    None => subject.digest_set().0.values().any(|value| value.eq_ignore_ascii_case(&wanted.value)),
                })
        });
        of_statement
            || [&accepted.products, &accepted.materials].into_iter().filter(|files| files.is_tree()).any(|files| {
                known.iter().any(|wanted| {
                    let algorithm = wanted.algorithm.as_deref().unwrap_or("sha256");
                    files.find(algorithm, &wanted.value.to_ascii_lowercase()).is_some()
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::files::Digests;

    #[test]
    fn only_strong_digests_name_the_same_bytes() {
        let digests = Digests { sha1: Some([0xab; 20]), ..Digests::of_sha256([0xcd; 32]) };
        let products = Files::of([("app", digests)]).expect("a table");
        let of = |algorithm: &str, value: String| DigestSet([(algorithm.to_owned(), value)].into());
        let (weak, strong) = (of("sha1", "ab".repeat(20)), of("sha256", "cd".repeat(32)));
        assert!(products.find("sha1", &"ab".repeat(20)).is_some());
        assert!(!is_product(&products, &weak) && is_product(&products, &strong));
        assert!(!is_product(&products, &of("sha256", "ce".repeat(32))));
        assert!(shares(&strong, &strong) && !shares(&strong, &of("sha256", "ce".repeat(32))));
        // Nor is a long text under a weak algorithm's name, or a short one under a strong one's.
        for set in [weak, of("sha1", "ab".repeat(32)), of("sha256", String::new()), of("gitCommit", "ab".repeat(32))] {
            assert!(!shares(&set, &set), "{set:?}");
        }
        assert!(!shares(&strong, &of("sha512", "cd".repeat(32))));
    }
}
