//! After the command: the second snapshot, the attestors of after, and the collection.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::attest::{Attested, attest_after, attest_whole};
use super::command_run::{self, Facts};
use super::listen::{self, Ear};
use super::plan::Plan;
use super::spine::{self, Part};
use super::{Outcome, Ran, at_rest};
use crate::attestor::{After, Evidence, Heard, Materials, Phase, Place, Predicate, Told, Whole};
use crate::clock::Clock;
use crate::collection::{Body, COMMAND_RUN_TYPE, COMMAND_RUN_TYPE_CILOCK, Collection, Entry, FAILED_SUFFIX, Gap};
use crate::evidence::short_name;
use crate::form::Form;
use crate::product::{Change, Products};
use crate::redact::Redactor;
use crate::snapshot::{self, Changes, Progress, Snapshot};
use crate::statement::Subject;

/// All evidence of a run, not yet signed.
pub struct Collected {
    /// The plan, for what follows.
    pub plan: Plan,
    /// How the command went.
    pub outcome: Outcome,
    /// The collection.
    pub collection: Collection,
    /// Evidence that gets envelopes of its own.
    pub own: Vec<OwnEvidence>,
    /// Counts for the summary.
    pub counts: Counts,
}

/// Evidence that stands in an envelope of its own.
pub struct OwnEvidence {
    /// Name of the attestor.
    pub attestor: &'static str,
    /// The predicate type.
    pub predicate_type: String,
    /// The predicate.
    pub body: Body,
    /// Its subjects.
    pub subjects: Vec<Subject>,
}

/// Counts for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Files recorded as materials.
    pub materials: usize,
    /// Files recorded as products.
    pub products: usize,
    /// Files that went away.
    pub deleted: usize,
    /// What was left out of the snapshots, with a reason each.
    pub omissions: usize,
    /// Places where a secret was masked.
    pub redactions: usize,
    /// Documents that hold a secret, and so became gaps.
    pub secret_documents: usize,
}

impl Ran {
    /// Takes the second snapshot, runs the attestors of after and composes the collection.
    pub fn collect(self, clock: &dyn Clock, real: &snapshot::Clock<'_>, progress: &Progress) -> Collected {
        let Self { mut plan, attested: before, materials, seen, outcome, lasted } = self;
        let mut composer = Composer { form: plan.form, ..Composer::default() };
        let products_start = clock.now();
        let heard = Arc::new(Heard::default());
        let listening = Arc::default();
        let ears: Vec<Ear> = plan
            .attestors
            .iter()
            .filter(|one| one.phase == Phase::After)
            .map(|one| (one.about.name, one.listen))
            .collect();
        let tap = |path: &str, head: &[u8], length: u64| listen::tap(&ears, &heard, &listening, path, head, length);
        let changes = match outcome {
            Outcome::NoCommand => at_rest::products(&plan.at_rest, &materials, &tap, &mut composer.gaps),
            Outcome::Ran(_) | Outcome::NotStarted(_) => materials.second(real, progress, Some(&tap)),
        };
        let Changes { products, deleted, omissions, omitted, links, .. } = changes;
        let products = Arc::new(Products::new(plan.before.dir.clone(), products));
        let products_end = clock.now();
        let world = After {
            before: Arc::clone(&plan.before),
            products: Arc::clone(&products),
            success: outcome.success(),
            heard,
            engine: plan.engine.clone(),
        };
        let after = attest_after(&mut plan, world, clock);

        let redactor = plan.redactor.clone();
        let redactor = &redactor;
        let hidden = composer.hide(redactor, &materials, &products);
        let untold = Hidden { materials: hidden.materials.clone(), products: hidden.products.clone() };
        for one in before {
            composer.take(one, redactor);
        }
        let materials = Arc::new(materials);
        let recorded = materials.len() - hidden.materials.len();
        composer.spine(spine::materials(plan.form, &materials, hidden.materials), seen);
        // Its place is here; what it says of masked places is known at the end.
        let command_at = composer.entries.len();
        if !matches!(outcome, Outcome::NoCommand) {
            let predicate_type = match plan.form {
                Form::Portable => COMMAND_RUN_TYPE,
                Form::Cilock => COMMAND_RUN_TYPE_CILOCK,
            };
            composer.spine(Part::new(predicate_type, Body::Composed(Value::Null)), lasted);
        }
        // Most are there before and after; what is beyond the lists cannot be told apart.
        let listed: BTreeSet<_> = materials.omissions().iter().chain(&omissions).collect();
        let unlisted = materials
            .omitted()
            .saturating_sub(materials.omissions().len() as u64)
            .max(omitted.saturating_sub(omissions.len() as u64));
        let mut counts = Counts {
            materials: recorded,
            products: products.len() - hidden.products.len(),
            deleted: deleted.len(),
            omissions: listed.len().saturating_add(usize::try_from(unlisted).unwrap_or(usize::MAX)),
            redactions: 0,
            secret_documents: 0,
        };
        let part = spine::products(plan.form, &products, hidden.products, &plan.product_subjects);
        composer.spine(part, (products_start, products_end));
        for one in after {
            composer.take(one, redactor);
        }

        let facts = Facts {
            command: &plan.before.command,
            outcome: &outcome,
            observation: &plan.observation,
            withheld: &plan.withheld,
            snapshot_method: if outcome.is_none() { "once" } else { materials.mode().name() },
            omissions: listed.into_iter().collect(),
            left_out: materials.left_out().iter().map(|one| json!({ "rule": one.rule, "count": one.count })).collect(),
            links: materials.links().chain(links.iter().map(|(path, text)| (path.as_str(), text.as_str()))).collect(),
            deleted: deleted.iter().map(String::as_str).collect(),
            rewritten: products
                .iter()
                .filter(|product| product.change == Change::Rewritten)
                .map(|product| product.path.as_str())
                .collect(),
            selection: selection(&plan),
        };
        let mut ours = if let Outcome::NoCommand = outcome {
            Some(command_run::without_command(&facts, redactor, "/predicate/affiant", &mut composer.masked))
        } else {
            let pointer = entry_pointer(command_at);
            let predicate = command_run::predicate(&facts, plan.form, redactor, &pointer, &mut composer.masked);
            composer.entries[command_at].body = Body::Composed(predicate);
            None
        };
        let mut name = plan.before.step.clone();
        let passed = outcome.success() || plan.ignore_exit_code;
        if !passed {
            name.push_str(FAILED_SUFFIX);
        }
        let subjects = plan.product_subjects.clone();
        let told = products
            .iter()
            .filter(|product| !untold.products.contains(&product.path) && subjects.takes(&product.path))
            .collect();
        let before = Arc::clone(&plan.before);
        let world = Whole {
            before: &before,
            name: &name,
            passed,
            lasted,
            entries: composer.told(),
            materials: Materials::new(&materials, &untold.materials),
            products: told,
            redactor,
        };
        let whole = attest_whole(&mut plan, &world, clock);
        drop(world);
        for one in whole {
            composer.take(one, redactor);
        }

        composer.masked.sort();
        if !composer.masked.is_empty() {
            let redactions = json!(composer.masked);
            match (&mut ours, composer.entries.get_mut(command_at).map(|entry| &mut entry.body)) {
                (Some(ours), _) => ours["redactions"] = redactions,
                (None, Some(Body::Composed(predicate))) => predicate["affiant"]["redactions"] = redactions,
                (None, _) => {}
            }
        }
        counts.redactions = composer.masked.len();
        counts.secret_documents = composer.secret_documents;

        let Composer { entries, own, gaps, .. } = composer;
        let subjects = plan.subjects.clone();
        let collection = Collection { form: plan.form, name, entries, gaps, subjects, facts: ours };
        Collected { plan, outcome, collection, own, counts }
    }
}

/// The globs that chose what is recorded, so that a policy sees them.
fn selection(plan: &Plan) -> Value {
    let mut globs = serde_json::Map::new();
    for (name, patterns) in [
        ("materialInclude", plan.snapshot.materials.include()),
        ("materialExclude", plan.snapshot.materials.exclude()),
        ("productSubjectInclude", plan.product_subjects.include()),
        ("productSubjectExclude", plan.product_subjects.exclude()),
    ] {
        if !patterns.is_empty() {
            globs.insert(name.to_owned(), patterns.iter().map(|glob| json!(glob.pattern())).collect());
        }
    }
    Value::Object(globs)
}

/// Whether a value is a digest or a type by its place and its form: they are never masked (security rule 4). The form
/// counts as well, for members of these names stand in documents of others and in the environment.
pub fn is_digest(pointer: &str, value: &Value) -> bool {
    const DIGESTS: [&str; 11] = [
        "sha1",
        "sha256",
        "sha512",
        "gitoid:sha1",
        "gitoid:sha256",
        "dirHash",
        "digest",
        "commithash",
        "treehash",
        "parenthashes",
        "gitCommit",
    ];
    const TYPES: [&str; 4] = ["mime_type", "mediaType", "type", "payloadType"];
    let Some((before, name)) = pointer.rsplit_once('/') else { return false };
    if ["/variables", "/actioninputs", "/actionoutputs"].iter().any(|free| before.ends_with(free)) {
        return false;
    }
    (DIGESTS.contains(&name) && is_all_hex(value)) || (TYPES.contains(&name) && value.as_str().is_some_and(is_type))
}

/// Whether all strings in it are digests: hex digits, perhaps with their algorithms before.
fn is_all_hex(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            let digits = text.rsplit(':').next().unwrap_or_default();
            digits.len() >= 32 && digits.bytes().all(|b| b.is_ascii_hexdigit())
        }
        Value::Array(items) => items.iter().all(is_all_hex),
        Value::Object(members) => members.values().all(is_all_hex),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// A media type, or the URI of a type.
fn is_type(text: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase());
    match text.split_once("://") {
        Some((_, rest)) => !rest.contains(['@', '?', ' ']),
        None => text
            .split_once('/')
            .is_some_and(|(kind, rest)| is_part(kind) && rest.split(';').next().is_some_and(is_part)),
    }
}

/// Whether what follows the kind in a subject's name is its own digest.
fn is_own_digest(subject: &Subject) -> bool {
    subject.digest.0.values().any(|value| subject.name.ends_with(value.as_str()))
}

fn entry_pointer(at: usize) -> String {
    format!("/predicate/attestations/{at}/attestation")
}

/// Paths that hold a secret.
struct Hidden {
    materials: BTreeSet<String>,
    products: BTreeSet<String>,
}

#[derive(Default)]
struct Composer {
    form: Form,
    entries: Vec<Entry>,
    own: Vec<OwnEvidence>,
    gaps: Vec<Gap>,
    /// JSON pointers of the places where a secret was masked.
    masked: Vec<String>,
    secret_documents: usize,
}

impl Composer {
    /// Files whose name holds a secret are left out; the gap carries the digest only (security rule 4).
    fn hide(&mut self, redactor: &Redactor, materials: &Snapshot, products: &Products) -> Hidden {
        let mut hidden = Hidden { materials: BTreeSet::new(), products: BTreeSet::new() };
        let mut gap = |kind: &str, digest: &str| {
            self.gaps.push(Gap {
                attestor: kind.to_owned(),
                reason: format!("left out a file whose name holds a secret (sha256:{digest})"),
                named: false,
            });
        };
        for entry in materials.iter() {
            if redactor.hits_name(entry.path.as_bytes()) {
                gap("material", entry.digest_set().sha256().unwrap_or("unknown"));
                hidden.materials.insert(entry.path.to_owned());
            }
        }
        for product in products.iter() {
            if redactor.hits_name(product.path.as_bytes()) {
                gap("product", product.digests.sha256().unwrap_or("unknown"));
                hidden.products.insert(product.path.clone());
            }
        }
        hidden
    }

    /// Puts an entry of the pipeline itself: materials, command, products.
    fn spine(&mut self, part: Part, (start, end): (Timestamp, Timestamp)) {
        let Part { predicate_type, body, subjects, back_references, gap } = part;
        self.gaps.extend(gap);
        self.entries.push(Entry { predicate_type, body, subjects, back_references, start, end });
    }

    /// What is composed so far, for those that tell of the run as a whole.
    fn told(&self) -> Vec<Told<'_>> {
        fn tell<'a>(attestor: &'a str, body: &'a Body, subjects: &'a [Subject]) -> Option<Told<'a>> {
            match body {
                Body::Composed(predicate) => Some(Told { attestor, predicate, subjects }),
                // Documents, and the files, which stand beside it.
                Body::Verbatim(_)
                | Body::Materials(..)
                | Body::Products(..)
                | Body::MaterialTree(_)
                | Body::ProductTree(_) => None,
            }
        }
        let entries = self
            .entries
            .iter()
            .filter_map(|entry| tell(short_name(&entry.predicate_type), &entry.body, &entry.subjects));
        let told = entries.chain(self.own.iter().filter_map(|own| tell(own.attestor, &own.body, &own.subjects)));
        told.collect()
    }

    /// Puts what an attestor found.
    fn take(&mut self, attested: Attested, redactor: &Redactor) {
        let Attested { name, named, result, start, end, .. } = attested;
        let gap =
            |reason: &str| Gap { attestor: name.to_owned(), reason: redactor.redact_text(reason).into_owned(), named };
        let pieces = match result {
            Ok(pieces) => pieces,
            Err(reason) => return self.gaps.push(gap(&reason)),
        };
        self.gaps.extend(pieces.shortfalls.iter().map(|reason| gap(reason)));
        for piece in pieces.evidence {
            let Evidence { predicate_type, predicate, mut subjects, mut back_references, place } = piece;
            // In cilock's form everything stands in the collection: it reads types that it does not know.
            let place = match place {
                Place::OwnEnvelope if self.form == Form::Cilock => Place::Collection,
                place => place,
            };
            let predicate_type = self.form.spell(&predicate_type).into_owned();
            let pointer = match place {
                Place::Collection => entry_pointer(self.entries.len()),
                Place::OwnEnvelope | Place::Exported => format!("/own/{}/predicate", self.own.len()),
            };
            let body = match predicate {
                Predicate::Composed(mut value) => {
                    let mut masked = Vec::new();
                    redactor.redact_json(&mut value, &pointer, &is_digest, &mut masked);
                    // Half a document is none.
                    if masked.iter().any(|place| place.ends_with("/manifestraw")) {
                        self.secret_documents += 1;
                        self.gaps.push(gap("the image's manifest holds a secret, so it was not kept"));
                        continue;
                    }
                    self.masked.extend(masked);
                    Body::Composed(value)
                }
                Predicate::Verbatim(text) if redactor.hits_document(text.get().as_bytes()) => {
                    self.secret_documents += 1;
                    self.gaps.push(gap("the document holds a secret, so it was not kept"));
                    continue;
                }
                Predicate::Verbatim(text) | Predicate::Masked(text) => Body::Verbatim(text),
            };
            // A subject's digest may be that of its text: with a secret in it, both must go.
            for list in [&mut subjects, &mut back_references] {
                list.retain(|subject| is_own_digest(subject) || !redactor.hits_name(subject.name.as_bytes()));
                *list = std::mem::take(list).into_iter().map(|subject| self.form.subject(subject)).collect();
            }
            match place {
                Place::Collection => {
                    self.entries.push(Entry { predicate_type, body, subjects, back_references, start, end });
                }
                Place::OwnEnvelope | Place::Exported => {
                    subjects.extend(back_references);
                    self.own.push(OwnEvidence { attestor: name, predicate_type, body, subjects });
                }
            }
        }
    }
}
