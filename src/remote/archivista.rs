//! A store of evidence that others write to as well: witness's and cilock's archivista.
//!
//! Source: wire-formats §6 (its REST and GraphQL, and what its clients ask). The store is believed in nothing: an envelope
//! has the identity that it was asked for by, or it is not given, and finding is no judging.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use affiant_core::store::SubjectDigest;
use affiant_core::verify::{Handle, MAX_ENVELOPE, Source, SourceError};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use ureq::http::Method;
use ureq::http::header::{HeaderName, HeaderValue};

use crate::http::Client;
use crate::http::exchange::{Answer, Question};

/// Longest answer to a search, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Most envelopes that one search may find.
const MAX_FOUND: usize = 100_000;
/// Digests of one question; more are asked about in several.
const MAX_DIGESTS: usize = 1_000;
/// Longest error text that is shown, in characters.
const MAX_WORDS: usize = 300;
/// How often an envelope is sent at most: what is stored twice is the same.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Envelopes about any of these digests.
const ABOUT: &str = "query ($digests: [String!], $known: [String!]) { dsses(where: { gitoidSha256NotIn: $known, \
    hasStatementWith: { hasSubjectsWith: { hasSubjectDigestsWith: { valueIn: $digests } } } }) \
    { edges { node { gitoidSha256 statement { predicate attestationCollections { name } } } } } }";
/// Envelopes of a step.
const OF_STEP: &str = "query ($step: String!) { dsses(where: { hasStatementWith: { \
    hasAttestationCollectionsWith: { name: $step } } }) \
    { edges { node { gitoidSha256 statement { predicate attestationCollections { name } } } } } }";

/// An envelope by its gitoid.
const ONE: &str = "query ($gitoid: String!) { dsses(where: { gitoidSha256: $gitoid }) \
    { edges { node { gitoidSha256 } } } }";

/// Why the store did not do what was asked. No header and no query is in the text.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ArchivistaError {
    /// What was asked.
    pub place: String,
    /// Why, as a clause.
    pub reason: String,
    /// Whether it could not be asked at all, or is busy: the next question will fare no better.
    pub is_outage: bool,
}

impl ArchivistaError {
    fn new(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { place: place.into(), reason: reason.into(), is_outage: false }
    }
}

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its git object id, 64 hex digits.
    pub gitoid: String,
    /// Whether it was there before.
    pub already: bool,
}

/// A store at an address.
pub struct Archivista {
    client: Client,
    base: String,
    headers: Vec<(String, String)>,
    /// What was found already is not asked for again.
    known: Mutex<BTreeSet<String>>,
}

/// The git object id of an envelope's exact bytes (SHA-256 object format), without a prefix: how archivista calls it.
pub fn gitoid(envelope: &[u8]) -> String {
    let mut sum = Sha256::new();
    sum.update(format!("blob {}\0", envelope.len()));
    sum.update(envelope);
    hex::encode(sum.finalize())
}

/// An envelope that a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its git object id, 64 hex digits.
    pub gitoid: String,
    /// The step that its collection names.
    pub step: Option<String>,
    /// Its predicate type.
    pub predicate_type: Option<String>,
}

impl Archivista {
    /// The store at `https://…` (or `http://` on this machine), with further headers as `Name: value`.
    pub fn new(client: Client, base: &str, headers: &[String]) -> Result<Self, ArchivistaError> {
        let refused = |reason: &str| ArchivistaError::new("archivista", reason);
        let headers = headers
            .iter()
            .map(|header| {
                // What is wrong with one is not shown: it may hold a password.
                let (name, value) = header.split_once(':').ok_or_else(|| refused("a header is no `Name: value`"))?;
                let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
                if HeaderName::try_from(&name).is_err() || HeaderValue::try_from(&value).is_err() {
                    return Err(refused("a header has characters that no header has"));
                }
                Ok((name, value))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), headers, known: Mutex::default() })
    }

    fn ask(&self, method: Method, path: &str, body: Option<&[u8]>, expected: u64) -> Result<Answer, ArchivistaError> {
        let mut bytes = body.unwrap_or_default();
        let body: Option<(u64, &mut dyn std::io::Read)> = body.map(|body| (body.len() as u64, &mut bytes as _));
        let headers = body.iter().map(|_| ("content-type", "application/json".to_owned())).collect();
        let url = format!("{}{path}", self.base);
        let question = Question { method, url: &url, headers, more: &self.headers, body, expected, repeats: false };
        self.client.exchange(question).map_err(|failed| ArchivistaError {
            is_outage: failed.again,
            ..ArchivistaError::new(failed.place, failed.reason)
        })
    }

    /// Whether the address is one that may be asked: `https`, or `http` on this machine. Asks nobody.
    pub fn check(&self) -> Result<(), ArchivistaError> {
        self.client.check(&self.base).map_err(|(place, reason)| ArchivistaError::new(place, reason))
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.base
    }

    /// Sends an envelope; again where the server could not be reached, or is busy.
    fn send(&self, envelope: &[u8]) -> Result<Answer, ArchivistaError> {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let answer = self.ask(Method::POST, "/upload", Some(envelope), 0);
            let failed = match answer {
                Ok(answer) if matches!(answer.status, 429 | 502..=504) => ArchivistaError {
                    is_outage: true,
                    ..ArchivistaError::new(answer.place.clone(), self.said(answer.status, answer))
                },
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if !failed.is_outage || attempts == ATTEMPTS {
                let times = if attempts > 1 { format!(" ({attempts} attempts)") } else { String::new() };
                return Err(ArchivistaError { reason: format!("{}{times}", failed.reason), ..failed });
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    /// Stores an envelope byte for byte; gives its git object id. One that is there already is no error.
    pub fn put(&self, envelope: &[u8]) -> Result<Kept, ArchivistaError> {
        #[derive(Deserialize)]
        struct Stored {
            gitoid: String,
        }

        let ours = gitoid(envelope);
        let answer = self.send(envelope)?;
        let (place, status) = (answer.place.clone(), answer.status);
        let failed = |reason: String| ArchivistaError::new(place.clone(), reason);
        if status != 200 {
            // The same envelope a second time is an error of its index. So is one that its index does not take, and
            // that one lies there all the same: nobody would find it.
            if matches!(status, 409 | 500)
                && self.get(&ours, envelope.len()).is_ok_and(|there| there == envelope)
                && self.is_indexed(&ours)
            {
                return Ok(Kept { gitoid: ours, already: true });
            }
            return Err(failed(self.said(status, answer)));
        }
        let bytes = answer.bytes(MAX_ANSWER).map_err(failed)?;
        let stored: Stored = serde_json::from_slice(&bytes)
            .map_err(|_| failed("does not say under which gitoid it stored the envelope".to_owned()))?;
        if stored.gitoid != ours {
            return Err(failed("stored the envelope under another gitoid than its bytes have".to_owned()));
        }
        Ok(Kept { gitoid: ours, already: false })
    }

    /// Whether a search can find it.
    fn is_indexed(&self, gitoid: &str) -> bool {
        let found = self.search(ONE, &json!({ "gitoid": gitoid }));
        found.is_ok_and(|found| found.iter().any(|one| one.gitoid == gitoid))
    }

    /// The bytes of an envelope, which have this git object id.
    pub fn get(&self, wanted: &str, limit: usize) -> Result<Vec<u8>, ArchivistaError> {
        if wanted.len() != 64 || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ArchivistaError::new(&self.base, "a gitoid has 64 hex digits"));
        }
        let answer = self.ask(Method::GET, &format!("/download/{wanted}"), None, limit as u64)?;
        let place = answer.place.clone();
        let failed = |reason: String| ArchivistaError::new(place.clone(), reason);
        if answer.status != 200 {
            return Err(failed(self.said(answer.status, answer)));
        }
        let bytes = answer.bytes(limit).map_err(failed)?;
        if gitoid(&bytes) != wanted.to_ascii_lowercase() {
            return Err(failed("gives other bytes than those of this gitoid".to_owned()));
        }
        Ok(bytes)
    }

    /// Envelopes about any of these digests, but those that were found before.
    pub fn about(&self, digests: &[SubjectDigest]) -> Result<Vec<Found>, ArchivistaError> {
        let mut all = Vec::new();
        for digests in digests.chunks(MAX_DIGESTS) {
            let values: Vec<_> = digests.iter().map(|digest| digest.value.as_str()).collect();
            let known = self.known.lock().map(|known| known.clone()).unwrap_or_default();
            let found = self.search(ABOUT, &json!({ "digests": values, "known": known }))?;
            if let Ok(mut known) = self.known.lock() {
                known.extend(found.iter().map(|one| one.gitoid.clone()));
            }
            all.extend(found);
        }
        Ok(all)
    }

    /// Envelopes of a step, whatever they are about.
    pub fn of_step(&self, step: &str) -> Result<Vec<Found>, ArchivistaError> {
        self.search(OF_STEP, &json!({ "step": step }))
    }

    fn search(&self, query: &str, variables: &Value) -> Result<Vec<Found>, ArchivistaError> {
        #[derive(Deserialize)]
        struct Outcome {
            data: Option<Data>,
            #[serde(default)]
            errors: Vec<Problem>,
        }
        #[derive(Deserialize)]
        struct Problem {
            #[serde(default)]
            message: String,
        }
        #[derive(Deserialize)]
        struct Data {
            dsses: Connection,
        }
        #[derive(Deserialize)]
        struct Connection {
            edges: Option<Vec<Edge>>,
        }
        #[derive(Deserialize)]
        struct Edge {
            node: Node,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Node {
            gitoid_sha256: String,
            statement: Option<Statement>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Statement {
            predicate: Option<String>,
            attestation_collections: Option<Named>,
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }

        let body = json!({ "query": query, "variables": variables }).to_string();
        let answer = self.ask(Method::POST, "/query", Some(body.as_bytes()), MAX_ANSWER as u64)?;
        let place = answer.place.clone();
        let failed = |reason: String| ArchivistaError::new(place.clone(), reason);
        if answer.status != 200 {
            return Err(failed(self.said(answer.status, answer)));
        }
        let bytes = answer.bytes(MAX_ANSWER).map_err(failed)?;
        let outcome: Outcome = serde_json::from_slice(&bytes).map_err(|error| {
            failed(format!("does not answer as archivista does: {}", self.told(&error.to_string())))
        })?;
        if let Some(problem) = outcome.errors.first() {
            return Err(failed(format!("cannot search: {}", self.told(&problem.message))));
        }
        let edges = outcome.data.and_then(|data| data.dsses.edges).unwrap_or_default();
        if edges.len() > MAX_FOUND {
            return Err(failed(format!("finds {} envelopes; {MAX_FOUND} are looked at", edges.len())));
        }
        let found = edges.into_iter().map(|edge| {
            let statement = edge.node.statement;
            Found {
                gitoid: edge.node.gitoid_sha256,
                predicate_type: statement.as_ref().and_then(|statement| statement.predicate.clone()),
                step: statement.and_then(|statement| Some(statement.attestation_collections?.name)),
            }
        });
        Ok(found.collect())
    }

    /// What an answer other than 200 means. Words with a header of the user's in them are not told.
    fn said(&self, status: u16, answer: Answer) -> String {
        let words = match status {
            401 | 403 => return format!("answers {status}: it does not permit the question (--archivista-headers)"),
            404 => return "answers 404: is that the address of an archivista?".to_owned(),
            _ => answer.bytes(MAX_ANSWER).unwrap_or_default(),
        };
        match self.told(&String::from_utf8_lossy(&words)) {
            words if words.is_empty() => format!("answers {status}"),
            words => format!("answers {status}: {words}"),
        }
    }

    fn told(&self, words: &str) -> String {
        let secrets = self.headers.iter().flat_map(|(_, value)| value.split(' ')).filter(|part| part.len() >= 8);
        if secrets.into_iter().any(|part| words.contains(part)) { String::new() } else { line(words) }
    }

    fn handles(found: Vec<Found>) -> Vec<Handle> {
        found
            .into_iter()
            .map(|one| {
                Handle::elsewhere(
                    format!("gitoid:blob:sha256:{}", one.gitoid),
                    one.step,
                    one.predicate_type,
                    one.gitoid,
                )
            })
            .collect()
    }

    fn silent(&self, error: ArchivistaError) -> SourceError {
        SourceError::Elsewhere { place: self.name(), source: Box::new(error) }
    }
}

fn line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect()
}

impl Source for Archivista {
    fn name(&self) -> String {
        format!("archivista {}", self.base)
    }

    fn count(&self) -> Option<usize> {
        None
    }

    fn about(&self, digests: &[SubjectDigest]) -> Result<Vec<Handle>, SourceError> {
        self.about(digests).map(Self::handles).map_err(|error| self.silent(error))
    }

    fn of_step(&self, step: &str, limit: usize) -> Result<Vec<Handle>, SourceError> {
        let mut found = self.of_step(step).map_err(|error| self.silent(error))?;
        found.truncate(limit);
        Ok(Self::handles(found))
    }

    /// None: a policy is about nothing, and is not found by what it is about.
    fn policies(&self) -> Vec<Handle> {
        Vec::new()
    }

    fn read(&self, handle: &Handle) -> Result<Vec<u8>, SourceError> {
        self.get(handle.id().unwrap_or_default(), MAX_ENVELOPE).map_err(|error| self.silent(error))
    }
}
