//! Signing in its order: certificate, signature, log, timestamp; and whether what came of it will be believed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::fulcio::{Form, FulcioError, Issued};
use super::material::Material;
use super::rekor::{LogEntry, RekorError, Submission, Verifier, Version};
use super::stamp::Stamped;
use super::token::IdentityToken;
use super::{ServiceError, Services, sha256_of};
use crate::image::keyed;
use crate::sign::{KeyError, KeyKind, PrivateKey, PublicKey, SignError, Signer as _};
use crate::trust::Certificate;

/// Signing did not come to its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SealerError {
    /// A service gave nothing that can be used.
    #[error("{0}")]
    Service(#[from] ServiceError),
    /// A certificate that is not for us.
    #[error("{place}: {reason}")]
    Certificate {
        /// Who gave it.
        place: String,
        /// What is wrong.
        #[source]
        reason: FulcioError,
    },
    /// No log takes what was signed.
    #[error("{0}")]
    Log(#[from] RekorError),
    /// No key could be made.
    #[error("no key for the certificate can be made")]
    Key(#[from] KeyError),
    /// The key refuses.
    #[error("the key cannot sign")]
    Sign(#[source] Arc<SignError>),
    /// Nothing proves when it was signed.
    #[error("nothing proves that the certificate was valid when it signed, so no verifier could take the signature")]
    NoTime,
    /// The identity is not shown a second time.
    #[error("no identity token for another certificate, for the first one is almost over: {0}")]
    Token(String),
    /// What proves the time is of another time than the certificate.
    #[error(
        "{place} says {time}, when the certificate (valid from {from} to {until}) was not valid; is the clock of one of the services wrong?"
    )]
    OtherTime {
        /// Who says so.
        place: &'static str,
        /// The time that it says.
        time: Timestamp,
        /// Of the certificate.
        from: Timestamp,
        /// Of the certificate.
        until: Timestamp,
    },
}

impl From<SignError> for SealerError {
    fn from(error: SignError) -> Self {
        Self::Sign(Arc::new(error))
    }
}

impl SealerError {
    /// Whether a service did not answer: later it may.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Service(error) if error.is_outage)
    }
}

/// What happens when a log does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLogFailure {
    /// Nothing is signed.
    #[default]
    Fail,
    /// A timestamp is enough.
    TimestampOnly,
    /// A timestamp is enough for now, and what is needed to make the entry later is given back ([`Proof::pending`]).
    Queue,
}

/// What is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes whose proof is kept in a bundle or in files.
    Message,
    /// Bytes whose proof is kept in annotations, which have no room for an entry of Rekor 2.
    Annotated,
    /// The payload of an envelope.
    Envelope,
}

/// The same, with the envelope as it is stored.
#[derive(Clone, Copy)]
enum What<'a> {
    Message,
    Annotated,
    Envelope(&'a [u8]),
}

/// What proves a signature's time and place in a log.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// Entries of logs.
    pub entries: Vec<LogEntry>,
    /// Answers of timestamp authorities.
    pub timestamps: Vec<Vec<u8>>,
    /// What did not go as asked, as sentences.
    pub notes: Vec<String>,
    /// The time that is said first.
    pub time: Option<Timestamp>,
    /// Entries that are to be made later.
    pub pending: Vec<Pending>,
}

/// An entry that a log did not make, for it gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The log.
    pub log: String,
    /// Its generation.
    pub version: Version,
    /// SHA-256 of what was signed.
    pub sha256: [u8; 32],
    /// The signature.
    pub signature: Vec<u8>,
    /// The envelope, where this log is to have it whole.
    pub envelope: Option<Vec<u8>>,
    /// What became of asking.
    pub reason: String,
}

/// Where entries and timestamps come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Logs.
    pub logs: Vec<(String, Version)>,
    /// Timestamp authorities.
    pub timestamps: Vec<String>,
    /// Whether Rekor 1 may be sent whole envelopes (`dsse` 0.0.1).
    pub send_envelopes: bool,
    /// What happens when a log does not answer.
    pub on_log_failure: OnLogFailure,
}

/// What is left of a certificate when another one is asked for; half of its time where it has less than twice that.
const LEFT: (SignedDuration, i32) = (SignedDuration::from_mins(2), 2);
/// How little must be left of a certificate before the lack of another one is a failure; the eighth of a short one.
const LAST: (SignedDuration, i32) = (SignedDuration::from_secs(30), 8);

/// Gives an identity token that is still valid.
pub type AnotherToken = Box<dyn Fn() -> Result<IdentityToken, String> + Send + Sync>;

/// A key, with or without a certificate, and the services that vouch for what it signs.
#[derive(Clone)]
pub struct Sealer {
    services: Arc<dyn Services>,
    sources: Sources,
    key: Arc<PrivateKey>,
    /// Made for this certificate: nobody has seen a signature of it.
    is_new: bool,
    issued: Option<Issued>,
    /// Since when we have that.
    since: Instant,
    renewal: Option<Arc<Renewal>>,
}

/// How another certificate is had.
struct Renewal {
    authority: String,
    form: Form,
    /// Whether the key was made for the certificate: then another is made for the next.
    is_new_key: bool,
    token: AnotherToken,
    current: Mutex<Current>,
}

/// What signs now.
struct Current {
    key: Arc<PrivateKey>,
    issued: Issued,
    /// Since when we have it.
    since: Instant,
    is_used: bool,
}

/// Whether less than this, or than that part of the whole, is left of a certificate that we have since then: by this clock
/// or by the time that has passed.
fn has_less_than(issued: &Issued, since: Instant, (least, part): (SignedDuration, i32), now: Timestamp) -> bool {
    let (from, until) = (issued.leaf.not_before(), issued.leaf.not_after());
    let whole = until.duration_since(from);
    let passed = SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX);
    let left = until.duration_since(now).min(whole.saturating_sub(passed));
    left < least.min(whole / part)
}

impl Current {
    fn has_less_than(&self, limit: (SignedDuration, i32), now: Timestamp) -> bool {
        has_less_than(&self.issued, self.since, limit, now)
    }
}

/// A certificate for this key and the identity of `token`.
fn issue(
    services: &dyn Services,
    authority: &str,
    form: Form,
    token: &IdentityToken,
    key: &PrivateKey,
) -> Result<Issued, SealerError> {
    let issued = services.certificate(authority, form, token, key)?;
    issued
        .check(key.public_key(), token.claims())
        .map_err(|reason| SealerError::Certificate { place: authority.to_owned(), reason })?;
    Ok(issued)
}

impl Sealer {
    /// One for a key: logs and timestamps are made for it where sources are named.
    pub fn keyed(key: PrivateKey, sources: Sources, services: Arc<dyn Services>) -> Self {
        Self {
            services,
            sources,
            key: Arc::new(key),
            is_new: false,
            issued: None,
            since: Instant::now(),
            renewal: None,
        }
    }

    /// One with a new key and a certificate for the identity of `token`.
    pub fn keyless(
        authority: &str,
        form: Form,
        token: &IdentityToken,
        sources: Sources,
        services: Arc<dyn Services>,
    ) -> Result<Self, SealerError> {
        let key = PrivateKey::generate(KeyKind::P256)?;
        Ok(Self { is_new: true, ..Self::certified(key, authority, form, token, sources, services)? })
    }

    /// One with this key and a certificate for it and the identity of `token`.
    pub fn certified(
        key: PrivateKey,
        authority: &str,
        form: Form,
        token: &IdentityToken,
        sources: Sources,
        services: Arc<dyn Services>,
    ) -> Result<Self, SealerError> {
        let issued = issue(services.as_ref(), authority, form, token, &key)?;
        let (issued, since) = (Some(issued), Instant::now());
        Ok(Self { services, sources, key: Arc::new(key), is_new: false, issued, since, renewal: None })
    }

    /// The same, with another certificate when this one is almost over: see [`Self::fresh`]. `is_new_key`: the key was made
    /// for the certificate.
    #[must_use]
    pub fn renewing(mut self, authority: &str, form: Form, is_new_key: bool, token: AnotherToken) -> Self {
        let issued = self.issued.clone();
        self.renewal = issued.map(|issued| {
            let key = Arc::clone(&self.key);
            let current = Mutex::new(Current { key, issued, since: self.since, is_used: false });
            Arc::new(Renewal { authority: authority.to_owned(), form, is_new_key, token, current })
        });
        self
    }

    /// What signs the next thing: this, or the same identity with another certificate where the last one has so little time
    /// left that its proofs might come too late. All that belongs together is signed by one of them.
    pub fn fresh(&self, now: Timestamp) -> Result<Self, SealerError> {
        let Some(renewal) = &self.renewal else { return Ok(self.clone()) };
        let mut current = renewal.current.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut current.is_used, true) && current.has_less_than(LEFT, now) {
            let another = || {
                let token = (renewal.token)().map_err(SealerError::Token)?;
                let key = if renewal.is_new_key {
                    Arc::new(PrivateKey::generate(KeyKind::P256)?)
                } else {
                    Arc::clone(&current.key)
                };
                let issued = issue(self.services.as_ref(), &renewal.authority, renewal.form, &token, &key)?;
                Ok(Current { key, issued, since: Instant::now(), is_used: true })
            };
            match another() {
                Ok(another) => *current = another,
                // Where none is had, this one does as long as it lasts.
                Err(_) if !current.has_less_than(LAST, now) => {}
                Err(error) => return Err(error),
            }
        }
        let (issued, since) = (Some(current.issued.clone()), current.since);
        Ok(Self { key: Arc::clone(&current.key), issued, since, ..self.clone() })
    }

    /// What signs the next of many things that belong together: what has signed the `earlier` ones, as long as its
    /// certificate lasts, else [`Self::fresh`].
    pub fn continued(&self, earlier: Option<&Self>, now: Timestamp) -> Result<Self, SealerError> {
        let is_over =
            |one: &Self| one.issued.as_ref().is_some_and(|issued| has_less_than(issued, one.since, LAST, now));
        match earlier.filter(|one| !is_over(one)) {
            Some(earlier) => Ok(earlier.clone()),
            None => self.fresh(now),
        }
    }

    /// The key that signs.
    pub fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    /// Whether the key was made for this certificate, so that nothing is anywhere that it has signed before.
    pub fn has_new_key(&self) -> bool {
        self.is_new
    }

    /// The certificate, where one was issued.
    pub fn issued(&self) -> Option<&Issued> {
        self.issued.as_ref()
    }

    /// The certificates above that of the signer.
    pub fn chain(&self) -> &[Certificate] {
        self.issued.as_ref().map_or(&[], |issued| &issued.chain)
    }

    /// Who signs.
    pub fn verifier(&self) -> Verifier<'_> {
        match &self.issued {
            Some(issued) => Verifier::Certificate(&issued.leaf),
            None => Verifier::Key(self.key.public_key()),
        }
    }

    /// What is written of a proof.
    pub fn material<'a>(&'a self, proof: &'a Proof) -> Material<'a> {
        Material {
            verifier: self.verifier(),
            chain: self.chain(),
            entries: &proof.entries,
            timestamps: &proof.timestamps,
        }
    }

    /// Signs the concatenation of `message`, as images are signed, and has the signature entered and stamped. A log that
    /// has this very entry already, maybe since an attempt whose answer was lost, and does not give it again, is told
    /// another signature over the same. `envelope` makes an envelope as it is stored of a signature, where one is signed.
    pub fn seal(
        &self,
        what: Kind,
        message: &[&[u8]],
        envelope: &dyn Fn(&[u8]) -> Vec<u8>,
    ) -> Result<(Vec<u8>, Proof), SealerError> {
        let once = |signature: Vec<u8>| {
            let stored;
            let what = match what {
                Kind::Message => What::Message,
                Kind::Annotated => What::Annotated,
                Kind::Envelope => {
                    stored = envelope(&signature);
                    What::Envelope(&stored)
                }
            };
            self.prove(what, message, &signature).map(|proof| (signature, proof))
        };
        match once(keyed::sign(&self.key, message)?) {
            Err(SealerError::Service(error)) if error.is_duplicate => match self.key.sign_anew(message) {
                Some(signature) => once(signature?),
                None => Err(error.into()),
            },
            sealed => sealed,
        }
    }

    /// Has the signature over the concatenation of `message` entered in the logs and stamped.
    ///
    /// # Errors
    /// Also where nothing proves a time at which the certificate was valid.
    fn prove(&self, what: What<'_>, message: &[&[u8]], signature: &[u8]) -> Result<Proof, SealerError> {
        let mut proof = Proof::default();
        let mut stamped = Proof::default();
        if self.sources.logs.is_empty() || self.sources.timestamps.is_empty() {
            self.enter(what, message, signature, &mut proof)?;
            self.stamp(signature, &mut stamped)?;
        } else {
            // Neither needs the other's answer, and a log takes its time.
            std::thread::scope(|scope| {
                let stamping = scope.spawn(|| self.stamp(signature, &mut stamped));
                let entered = self.enter(what, message, signature, &mut proof);
                let stamping = stamping.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                entered.and(stamping)
            })?;
        }
        (proof.timestamps, proof.time) = (stamped.timestamps, stamped.time);
        self.judge(&proof)?;
        Ok(proof)
    }

    /// The same for an envelope that is kept as a layer: readers take the timestamp over all of its bytes, and the entry
    /// that was made for the envelope elsewhere counts here too.
    pub fn prove_layer(&self, envelope: &[u8], earlier: &Proof) -> Result<Proof, SealerError> {
        let entries = earlier.entries.iter().filter(|entry| entry.annotation.is_some()).cloned().collect();
        let mut proof = Proof { entries, ..Proof::default() };
        self.stamp(envelope, &mut proof)?;
        self.judge(&proof)?;
        Ok(proof)
    }

    /// Whether anything could prove when this was signed, or nothing need.
    pub fn can_prove(&self, what: Kind) -> bool {
        let promises = self.sources.logs.iter().any(|(_, version)| *version == Version::One)
            && (self.sources.send_envelopes || what != Kind::Envelope);
        self.issued.is_none() || promises || !self.sources.timestamps.is_empty()
    }

    /// What a signature of this sort gets when nothing fails: an entry of a log, a timestamp.
    pub fn will_have(&self, what: Kind) -> (bool, bool) {
        let enters = |version: Version| match (version, what) {
            (Version::Two, Kind::Annotated) => false,
            (Version::One, Kind::Envelope) => self.sources.send_envelopes,
            _ => true,
        };
        (self.sources.logs.iter().any(|(_, version)| enters(*version)), !self.sources.timestamps.is_empty())
    }

    fn enter(&self, what: What<'_>, message: &[&[u8]], signature: &[u8], proof: &mut Proof) -> Result<(), SealerError> {
        for (url, version) in &self.sources.logs {
            let envelope = match (version, what) {
                (Version::Two, What::Annotated) => continue,
                (Version::One, What::Envelope(envelope)) if self.sources.send_envelopes => Some(envelope),
                (Version::One, What::Envelope(envelope)) => {
                    proof.notes.push(format!(
                        "{url} was not asked: a log of the first generation would be sent the whole statement, {} bytes; `--log rekor1` says that it may",
                        envelope.len()
                    ));
                    continue;
                }
                _ => None,
            };
            let verifier = self.verifier();
            let submission = Submission { message, sha256: sha256_of(message), signature, verifier, envelope };
            submission.check()?;
            match self.services.entry(url, *version, &submission) {
                Ok(entry) => proof.entries.push(entry),
                Err(error)
                    if error.is_outage
                        && self.sources.on_log_failure == OnLogFailure::TimestampOnly
                        && !self.sources.timestamps.is_empty() =>
                {
                    proof.notes.push(format!("no log entry was made ({error}); --on-log-failure timestamp-only"));
                }
                // Where nothing else proves the time nobody could use the signature until then, and the log's own time
                // would come too late.
                Err(error)
                    if error.is_outage
                        && self.sources.on_log_failure == OnLogFailure::Queue
                        && (self.issued.is_none() || !self.sources.timestamps.is_empty()) =>
                {
                    proof.pending.push(Pending {
                        log: url.clone(),
                        version: *version,
                        sha256: submission.sha256,
                        signature: signature.to_vec(),
                        envelope: envelope.map(<[u8]>::to_vec),
                        reason: error.to_string(),
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn stamp(&self, message: &[u8], proof: &mut Proof) -> Result<(), SealerError> {
        for url in &self.sources.timestamps {
            let Stamped { response, time } = self.services.timestamp(url, message)?;
            self.inside("the timestamp authority", time)?;
            proof.time = proof.time.or(Some(time));
            proof.timestamps.push(response);
        }
        Ok(())
    }

    /// Whether the times prove that the certificate was valid.
    fn judge(&self, proof: &Proof) -> Result<(), SealerError> {
        let mut has_time = !proof.timestamps.is_empty();
        for time in proof.entries.iter().filter_map(|entry| entry.time) {
            let time = Timestamp::from_second(time).unwrap_or_default();
            self.inside("the log", time)?;
            has_time = true;
        }
        if self.issued.is_some() && !has_time { Err(SealerError::NoTime) } else { Ok(()) }
    }

    fn inside(&self, place: &'static str, time: Timestamp) -> Result<(), SealerError> {
        let Some(issued) = &self.issued else { return Ok(()) };
        let (from, until) = (issued.leaf.not_before(), issued.leaf.not_after());
        // The log's time has no fraction, and the certificate begins in a second too.
        if time.as_second() < from.as_second() || time > until {
            return Err(SealerError::OtherTime { place, time, from, until });
        }
        Ok(())
    }
}
