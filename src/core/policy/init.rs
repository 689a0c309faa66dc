//! A first policy from real evidence: what each step attests, who signs it, and which files lead from step to step.
//!
//! Nobody becomes a functionary by a key id alone: only who is proven by the keys and roots that the caller gives.

mod write;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::source::believe;
use crate::collection::FAILED_SUFFIX;
use crate::digest::sha256_hex;
use crate::dsse::Envelope;
use crate::evidence::files::Files;
use crate::evidence::{CollectionView, EvidenceError, Statement, kinds};
use crate::run::RUN_SUBJECT;
use crate::sign::PublicKey;
use crate::sigstore::TrustedRoot;
use crate::statement::PAYLOAD_TYPE;
use crate::store::SubjectDigest;
use crate::trust::{Anchor, CheckError, Checked, Constraint, Trust};
use crate::verify::container;

/// Most envelopes that a policy is made from.
pub const MAX_EVIDENCE: usize = 1000;

/// A policy cannot be made of what was given.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file holds no envelope.
    #[error("{label} is no evidence: {reason}")]
    Unreadable {
        /// Which.
        label: String,
        /// Why.
        reason: String,
    },
    /// No key or root that was given proves a signature.
    #[error("{label}: nothing that was given proves its signature{}: {reason}", named(.key_ids))]
    Unproven {
        /// Which.
        label: String,
        /// The key ids that it names, unproven.
        key_ids: Vec<String>,
        /// Why.
        reason: CheckError,
    },
    /// A statement or collection cannot be read.
    #[error("{label} cannot be read")]
    Evidence {
        /// Which.
        label: String,
        /// Why.
        source: Box<EvidenceError>,
    },
    /// Not evidence, but another signed document.
    #[error("{label} is signed, but is no evidence: its payload type is `{found}`")]
    Type {
        /// Which.
        label: String,
        /// What it is.
        found: String,
    },
    /// No collection of a run that succeeded.
    #[error("there is no evidence of a step that succeeded")]
    NoSteps,
    /// [`MAX_EVIDENCE`].
    #[error("more than {MAX_EVIDENCE} envelopes")]
    TooMany,
}

fn named(key_ids: &[String]) -> String {
    match key_ids {
        [] => String::new(),
        ids => format!(" (it names the key {})", ids.join(", ")),
    }
}

/// A key that may have signed the evidence.
#[derive(Clone, Debug)]
pub struct NamedKey {
    /// How the policy will call it.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

/// What a policy is made from.
pub struct Request {
    /// Envelopes, bundles or JSON lines of envelopes, with their names.
    pub evidence: Vec<(String, Vec<u8>)>,
    /// Keys that may have signed it.
    pub keys: Vec<NamedKey>,
    /// Roots that certificates may lead to.
    pub roots: Vec<Anchor>,
    /// Timestamp authorities.
    pub authorities: Vec<Anchor>,
    /// Authorities and logs of Sigstore besides.
    pub trusted_root: Option<TrustedRoot>,
    /// `expires`, as it stands in the source.
    pub expires: String,
    /// Put before the name of each step.
    pub prefix: String,
    /// Who must have signed the image, where the policy is to say.
    pub images: ImageSigners,
}

/// Who signs images, as the caller says.
#[derive(Clone, Debug, Default)]
pub struct ImageSigners {
    /// By these keys.
    pub keys: Vec<NamedKey>,
    /// With a certificate of this name (a URI or an e-mail address), whose holder this issuer identified.
    pub identity: Option<(String, String)>,
    /// Repositories that the image may be in.
    pub names: Vec<String>,
}

impl ImageSigners {
    /// Whether nothing is asked of images.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.identity.is_none() && self.names.is_empty()
    }

    /// As functionaries of the policy.
    fn who(&self) -> BTreeSet<Who> {
        let keys = self.keys.iter().map(|named| Who::Key(named.name.clone()));
        let identity = self.identity.as_ref().map(|(name, issuer)| {
            let member = if name.contains("://") { "uris" } else { "emails" };
            let constraint = serde_json::json!({ member: [name], "roots": ["*"], "extensions": { "Issuer": issuer } });
            Who::Certificate(constraint.to_string())
        });
        keys.chain(identity).collect()
    }
}

/// A policy's source, and what the reader of it should know.
#[derive(Debug)]
pub struct Draft {
    /// The source, YAML.
    pub source: String,
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// What the evidence is about: with these it can be found.
    pub seeds: Vec<SubjectDigest>,
}

/// Makes a policy.
pub fn draft(request: &Request) -> Result<Draft, InitError> {
    let gathered = gather(request)?;
    let plan = plan(gathered)?;
    Ok(write::draft(request, plan))
}

/// Somebody who is proven to have signed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// By the name of the key.
    Key(String),
    /// `certConstraint`, as JSON text.
    Certificate(String),
}

/// A collection of a step.
struct Run {
    label: String,
    step: String,
    /// SHA-256 of the payload.
    sha256: String,
    who: Vec<Who>,
    exit_codes: Vec<i64>,
    /// The types with their predicates, without repeats.
    kinds: Vec<String>,
    /// Branch of the git attestation, where one is checked out.
    branch: Option<String>,
    materials: Files,
    products: Files,
    subjects: Vec<SubjectDigest>,
    timed: bool,
}

/// A statement that is no collection.
struct Bare {
    label: String,
    kind: String,
    who: Vec<Who>,
    /// SHA-256 of the document, as written and with a line break behind it.
    document: [String; 2],
    /// Runs that it names.
    runs: Vec<String>,
    subjects: Vec<SubjectDigest>,
}

#[derive(Default)]
struct Gathered {
    runs: Vec<Run>,
    bare: Vec<Bare>,
    notes: Vec<String>,
}

/// One step of the policy to be.
struct StepPlan {
    name: String,
    kinds: Vec<String>,
    who: BTreeSet<Who>,
    exit_codes: BTreeSet<i64>,
    has_command: bool,
    branches: BTreeSet<String>,
    from: Vec<Edge>,
    timed: bool,
    runs: usize,
}

/// A step whose files another one uses.
struct Edge {
    step: String,
    /// One of the files.
    example: String,
    files: usize,
}

struct ExternalPlan {
    name: String,
    kind: String,
    who: BTreeSet<Who>,
}

struct Plan {
    steps: Vec<StepPlan>,
    external: Vec<ExternalPlan>,
    notes: Vec<String>,
    seeds: Vec<SubjectDigest>,
}

fn gather(request: &Request) -> Result<Gathered, InitError> {
    let trust = trust(request);
    let mut gathered = Gathered::default();
    let mut count = 0;
    let mut seen = BTreeSet::new();
    for (label, bytes) in &request.evidence {
        for (label, envelope) in envelopes(label, bytes)? {
            count += 1;
            if count > MAX_EVIDENCE {
                return Err(InitError::TooMany);
            }
            if !seen.insert(sha256_hex(&envelope.payload)) {
                continue;
            }
            if let Some(inner) = container::nested_in(&envelope) {
                let label = format!("{label}, the envelope inside it");
                let unreadable = |error: crate::dsse::ParseError| InitError::Unreadable {
                    label: label.clone(),
                    reason: error.to_string(),
                };
                let envelope = container::open(&inner).map_err(unreadable)?;
                one(request, &trust, &label, envelope, &mut gathered)?;
                continue;
            }
            one(request, &trust, &label, envelope, &mut gathered)?;
        }
    }
    Ok(gathered)
}

/// Whom the evidence is checked with. Ids of roots are those that they get in the policy.
fn trust(request: &Request) -> Trust {
    let mut trust = Trust {
        keys: request.keys.iter().map(|named| named.key.clone()).collect(),
        roots: request.roots.clone(),
        authorities: request.authorities.clone(),
        ..Trust::default()
    };
    if let Some(root) = &request.trusted_root {
        believe(&mut trust, root);
    }
    trust
}

/// The envelopes of a file: one, or one on each line.
fn envelopes(label: &str, bytes: &[u8]) -> Result<Vec<(String, Envelope)>, InitError> {
    let whole = match container::open(bytes) {
        Ok(envelope) => return Ok(vec![(label.to_owned(), envelope)]),
        Err(error) => InitError::Unreadable { label: label.to_owned(), reason: error.to_string() },
    };
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
    if lines.len() < 2 {
        return Err(whole);
    }
    let read = |(number, line): (usize, &&[u8])| {
        container::open(line).map(|envelope| (format!("{label}, line {}", number + 1), envelope)).map_err(|_| ())
    };
    lines.iter().enumerate().map(read).collect::<Result<_, ()>>().map_err(|()| whole)
}

fn one(
    request: &Request,
    trust: &Trust,
    label: &str,
    envelope: Envelope,
    gathered: &mut Gathered,
) -> Result<(), InitError> {
    let key_ids: Vec<String> =
        envelope.signatures.iter().map(|one| one.key_id.clone()).filter(|id| !id.is_empty()).collect();
    let checked = trust.check(envelope).map_err(|refused| InitError::Unproven {
        label: label.to_owned(),
        key_ids,
        reason: refused.reason.clone(),
    })?;
    let payload = checked
        .payload(PAYLOAD_TYPE)
        .map_err(|_| InitError::Type { label: label.to_owned(), found: checked.value().payload_type.clone() })?;
    let fault = |source| InitError::Evidence { label: label.to_owned(), source: Box::new(source) };
    let statement = Statement::parse_strict(payload).map_err(fault)?;
    let who = signers(request, &checked);
    let timed = checked.signers().iter().any(|signer| signer.time.is_some());
    match statement.collection() {
        None => gathered.bare.push(bare(label, &statement, who)),
        Some(collection) => {
            let collection = collection.map_err(fault)?;
            if let Some(step) = collection.name.strip_suffix(FAILED_SUFFIX) {
                gathered.notes.push(format!("{label} is left out: it is evidence of a run of `{step}` that failed"));
                return Ok(());
            }
            let sha256 = sha256_hex(payload);
            gathered.runs.push(run(request, label, &statement, &collection, sha256, who, timed).map_err(fault)?);
        }
    }
    Ok(())
}

/// Who signed, as a policy names it.
fn signers(request: &Request, checked: &Checked<Envelope>) -> Vec<Who> {
    let mut who = BTreeSet::new();
    for signer in checked.signers() {
        match signer.certificate() {
            None => {
                let named = request.keys.iter().find(|named| named.key.key_id() == signer.key_id);
                who.extend(named.map(|named| Who::Key(named.name.clone())));
            }
            Some(certificate) => {
                let list = |values: &[String]| Value::from(values.to_vec());
                let mut constraint = serde_json::json!({
                    "commonname": certificate.common_name().unwrap_or_default(),
                    "dnsnames": list(certificate.dns_names()),
                    "emails": list(certificate.emails()),
                    "organizations": list(certificate.organizations()),
                    "uris": list(certificate.uris()),
                    "roots": list(signer.roots()),
                });
                // What differs from run to run would deny the next one.
                let lasting =
                    ["Issuer", "SourceRepositoryURI", "SourceRepositoryRef", "BuildConfigURI", "RunnerEnvironment"];
                let extensions: serde_json::Map<_, _> = certificate
                    .extensions()
                    .filter(|(name, _)| lasting.contains(name))
                    .map(|(name, value)| (name.to_owned(), value.into()))
                    .collect();
                if !extensions.is_empty() {
                    constraint["extensions"] = Value::Object(extensions);
                }
                // Where glob characters stand in a name, the constraint would mean more than it.
                if Constraint::read(&constraint).is_ok_and(|(read, _)| read.check(signer).is_ok()) {
                    who.insert(Who::Certificate(constraint.to_string()));
                }
            }
        }
    }
    who.into_iter().collect()
}

fn seeds(statement: &Statement<'_>) -> Vec<SubjectDigest> {
    let mut seeds = Vec::new();
    for subject in statement.subject.iter() {
        for (algorithm, value) in subject.digest_set().0 {
            seeds.push(SubjectDigest { algorithm: Some(algorithm), value });
        }
    }
    seeds
}

fn bare(label: &str, statement: &Statement<'_>, who: Vec<Who>) -> Bare {
    let text = statement.predicate.get();
    let runs = statement.subject.iter().filter(|subject| subject.name == RUN_SUBJECT);
    Bare {
        label: label.to_owned(),
        kind: statement.predicate_type.clone(),
        who,
        document: [sha256_hex(text.as_bytes()), sha256_hex(format!("{text}\n").as_bytes())],
        runs: runs.filter_map(|subject| subject.value("sha256").map(str::to_owned)).collect(),
        subjects: seeds(statement),
    }
}

fn run(
    request: &Request,
    label: &str,
    statement: &Statement<'_>,
    collection: &CollectionView<'_>,
    sha256: String,
    who: Vec<Who>,
    timed: bool,
) -> Result<Run, EvidenceError> {
    let files = |sort: &str| -> Result<Files, EvidenceError> {
        let mut all = Files::default();
        for entry in collection.attestations.iter().filter(|entry| entry.short_name() == sort) {
            if let Some(files) = Files::read(entry) {
                all = all.overlay(&files?);
            }
        }
        Ok(all)
    };
    let mut kinds: Vec<String> = Vec::new();
    for entry in &collection.attestations {
        if !kinds.iter().any(|kind| self::kinds::same(kind, &entry.kind)) {
            kinds.push(entry.kind.clone());
        }
    }
    let git = collection.attestations.iter().find(|entry| entry.short_name() == "git");
    let branch = git.and_then(|entry| serde_json::from_str::<Value>(entry.attestation.get()).ok());
    let branch = branch.and_then(|value| value.get("branch")?.as_str().map(str::to_owned));
    Ok(Run {
        label: label.to_owned(),
        step: format!("{}{}", request.prefix, collection.name),
        sha256,
        who,
        exit_codes: collection.exit_codes()?,
        kinds,
        branch: branch.filter(|branch| !branch.is_empty() && branch != "HEAD"),
        materials: files("material")?,
        products: files("product")?,
        subjects: seeds(statement),
        timed,
    })
}

fn plan(gathered: Gathered) -> Result<Plan, InitError> {
    let Gathered { runs, bare, mut notes } = gathered;
    if runs.is_empty() {
        return Err(InitError::NoSteps);
    }
    let mut steps: BTreeMap<&str, StepPlan> = BTreeMap::new();
    for run in &runs {
        if run.who.is_empty() {
            notes.push(format!("{}: the names of its certificate cannot be written into a policy", run.label));
        }
        let step = steps.entry(&run.step).or_insert_with(|| StepPlan {
            name: run.step.clone(),
            kinds: run.kinds.clone(),
            who: BTreeSet::new(),
            exit_codes: BTreeSet::new(),
            has_command: true,
            branches: BTreeSet::new(),
            from: Vec::new(),
            timed: true,
            runs: 0,
        });
        // What not every run attests cannot be asked for.
        step.kinds.retain(|kind| run.kinds.iter().any(|other| kinds::same(kind, other)));
        step.who.extend(run.who.iter().cloned());
        step.exit_codes.extend(&run.exit_codes);
        step.has_command &= !run.exit_codes.is_empty();
        step.branches.extend(run.branch.clone());
        step.timed &= run.timed;
        step.runs += 1;
    }
    let mut external: Vec<ExternalPlan> = Vec::new();
    for one in &bare {
        match bind(one, &runs) {
            Some(Bound::Step(run)) => {
                let step = steps.get_mut(run.step.as_str()).expect("each run has its step");
                if !step.kinds.iter().any(|kind| kinds::same(kind, &one.kind)) {
                    step.kinds.push(one.kind.clone());
                }
            }
            Some(Bound::Product) => {
                let name = external_name(&one.kind, &external);
                match external.iter_mut().find(|known| known.kind == one.kind) {
                    Some(known) => known.who.extend(one.who.iter().cloned()),
                    None => external.push(ExternalPlan {
                        name,
                        kind: one.kind.clone(),
                        who: one.who.iter().cloned().collect(),
                    }),
                }
            }
            None => notes.push(format!(
                "{} is left out: it neither names a run that was given nor is about anything that one has made",
                one.label
            )),
        }
    }
    let mut edges: BTreeMap<&str, Vec<Edge>> = BTreeMap::new();
    for taker in steps.keys() {
        for giver in steps.keys().filter(|giver| *giver != taker) {
            let of = |name: &str| runs.iter().filter(|run| run.step == name).collect::<Vec<_>>();
            match edge(&of(taker), &of(giver)) {
                Joined::Yes(edge) => edges.entry(taker).or_default().push(edge),
                Joined::Differs { path } => notes.push(format!(
                    "`{taker}` is not joined to `{giver}`: {path} was changed in between, so `artifactsFrom` would deny this evidence"
                )),
                Joined::No => {}
            }
        }
    }
    let edges: Vec<(String, Vec<Edge>)> = edges.into_iter().map(|(name, list)| (name.to_owned(), list)).collect();
    let mut steps: Vec<StepPlan> = steps.into_values().collect();
    for (name, list) in edges {
        if let Some(step) = steps.iter_mut().find(|step| step.name == name) {
            step.from = list;
        }
    }
    steps = in_order(steps);
    let mut all: Vec<SubjectDigest> = runs.iter().flat_map(|run| run.subjects.iter().cloned()).collect();
    all.sort_by(|one, other| (&one.algorithm, &one.value).cmp(&(&other.algorithm, &other.value)));
    all.dedup();
    Ok(Plan { steps, external, notes, seeds: all })
}

/// Steps behind those whose files they use, else by name.
fn in_order(mut open: Vec<StepPlan>) -> Vec<StepPlan> {
    let mut done: Vec<StepPlan> = Vec::new();
    while !open.is_empty() {
        let is_ready = |step: &StepPlan| step.from.iter().all(|edge| done.iter().any(|other| other.name == edge.step));
        // Steps that use each other's files have no order.
        let next = open.iter().position(is_ready).unwrap_or(0);
        done.push(open.remove(next));
    }
    done
}

enum Bound<'a> {
    Step(&'a Run),
    Product,
}

/// What a statement belongs to, by the rules by which the gate takes it.
fn bind<'a>(one: &Bare, runs: &'a [Run]) -> Option<Bound<'a>> {
    let names = |run: &&Run| {
        one.runs.contains(&run.sha256)
            || one.document.iter().any(|digest| run.products.find("sha256", digest).is_some())
    };
    if let Some(run) = runs.iter().find(|run| names(run) && one.who.iter().any(|who| run.who.contains(who))) {
        return Some(Bound::Step(run));
    }
    let strong = |digest: &&SubjectDigest| digest.algorithm.as_deref() == Some("sha256");
    let made = one.subjects.iter().filter(strong).any(|digest| {
        runs.iter().any(|run| run.products.find("sha256", &digest.value).is_some() || run.subjects.contains(digest))
    });
    made.then_some(Bound::Product)
}

/// A name for external attestations of a type.
fn external_name(kind: &str, taken: &[ExternalPlan]) -> String {
    let spoken = super::source::spoken(kind);
    let last = spoken
        .trim_end_matches('/')
        .rsplit('/')
        .find(|part| part.chars().any(char::is_alphabetic) && !part.starts_with('v'));
    let name: String = last
        .unwrap_or("statement")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let mut candidate = name.clone();
    let mut number = 2;
    while taken.iter().any(|one| one.name == candidate && one.kind != kind) {
        candidate = format!("{name}-{number}");
        number += 1;
    }
    candidate
}

enum Joined {
    Yes(Edge),
    No,
    Differs { path: String },
}

/// Whether each run of a step has used files that some run of another has made.
fn edge(takers: &[&Run], givers: &[&Run]) -> Joined {
    let mut found = None;
    for taker in takers {
        let mut fits = false;
        let mut differs = None;
        for giver in givers {
            let shared = giver.products.compare(&taker.materials);
            let used = giver.products.iter().find(|file| {
                taker.materials.get(file.path).is_some_and(|material| material.digests.same(&file.digests))
            });
            // The gate compares all that both have, not only what was made.
            let whole = taker.materials.compare(&giver.materials.overlay(&giver.products));
            match used {
                Some(file) if whole.different_total == 0 => {
                    fits = true;
                    found.get_or_insert(Edge {
                        step: giver.step.clone(),
                        example: file.path.to_owned(),
                        files: shared.shared,
                    });
                }
                Some(_) => differs = whole.different.first().map(|one| one.path.clone()),
                None => {}
            }
        }
        if !fits {
            return differs.map_or(Joined::No, |path| Joined::Differs { path });
        }
    }
    found.map_or(Joined::No, Joined::Yes)
}
