//! Signing without a key of one's own: an identity token, a certificate that lives for minutes, and proof of the time.
//!
//! What the services are asked and what they answer are documents here; who asks them is the `remote` crate, through
//! [`Services`]. Nothing that a service answers is taken over without being compared with what it was asked: the
//! certificate must be for our key and our token, the log's entry of our signature, the timestamp over our bytes.
//!
//! | module | what | source |
//! |---|---|---|
//! | [`checking`] | what they answer, checked with a root of trust | `docs/decisions/021-sigstore-checks.md` |
//! | [`config`] | which services there are | sigstore `protobuf-specs`, `sigstore_trustroot.proto`, `SigningConfig` v0.2 |
//! | [`token`] | whether a token can do before anybody is asked | RFC 7519 |
//! | [`login`] | getting one from a person | RFC 6749, 7636, 8252, 8628 |
//! | [`fulcio`] | certificates | sigstore/fulcio, `fulcio.proto` v2, its API v1 |
//! | [`rekor`] | entries in logs | sigstore/rekor `openapi.yaml`, sigstore/rekor-tiles `rekor_service.proto` |
//! | [`stamp`] | timestamps | RFC 3161 |
//! | [`tiles`] | entries that a log has already | C2SP `tlog-tiles` |
//! | [`material`] | what is written of it | `sigstore_bundle.proto`, cosign's `SIGNATURE_SPEC.md` |
//! | [`queue`] | entries of logs that are made later | `docs/decisions/024-queue.md` |
//! | [`sealer`] | all of it in its order | |
//! | [`vouched`] | the same for evidence, as witness and cilock write it | wire-formats §1, §7 |

pub mod checking;
pub mod config;
pub mod fulcio;
pub mod login;
pub mod material;
pub mod queue;
pub mod rekor;
pub mod sealer;
pub mod stamp;
pub mod tiles;
pub mod token;
pub mod vouched;

use zeroize::Zeroizing;

use crate::sign::PrivateKey;

use self::fulcio::Issued;
use self::rekor::{LogEntry, Submission};
use self::stamp::Stamped;
use self::token::IdentityToken;

/// The id of the log that has signed a checkpoint, where one that is trusted has: its entries have this id.
pub type Whose<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// Asks the services that are named, and nobody else.
pub trait Services: Send + Sync {
    /// Whether an address may be asked: `https`, or `http` on this machine. Asks nobody.
    fn check(&self, url: &str) -> Result<(), ServiceError>;

    /// A certificate for `key` and the identity of `token`.
    fn certificate(
        &self,
        url: &str,
        form: fulcio::Form,
        token: &IdentityToken,
        key: &PrivateKey,
    ) -> Result<Issued, ServiceError>;

    /// An entry in a log.
    fn entry(&self, url: &str, version: rekor::Version, submission: &Submission<'_>) -> Result<LogEntry, ServiceError>;

    /// The entry that a log of the second generation has already and does not give again, from its tiles.
    fn existing(&self, url: &str, submission: &Submission<'_>, whose: Whose<'_>) -> Result<LogEntry, ServiceError> {
        let _ = (submission, whose);
        Err(ServiceError::bad(url, "its tiles are not read here"))
    }

    /// The entry that a log of the first generation has of this submission, if it has one; none is made.
    fn made(&self, url: &str, submission: &Submission<'_>) -> Result<Option<LogEntry>, ServiceError> {
        let _ = submission;
        Err(ServiceError::bad(url, "it is not looked for here"))
    }

    /// A timestamp over `message`.
    fn timestamp(&self, url: &str, message: &[u8]) -> Result<Stamped, ServiceError>;

    /// An identity token of the agent that runs a Buildkite job, for `audience`.
    fn buildkite(&self, job: &AgentJob, audience: &str) -> Result<Zeroizing<String>, ServiceError>;
}

/// A Buildkite job, as its agent tells of it.
#[derive(Clone)]
pub struct AgentJob {
    /// The address of the agents' service.
    pub endpoint: String,
    /// What permits the agent to ask it.
    pub access: Zeroizing<String>,
    /// The job's id.
    pub id: String,
}

/// Asks nobody: for keys that sign without services.
pub struct NoServices;

impl Services for NoServices {
    fn check(&self, url: &str) -> Result<(), ServiceError> {
        Err(ServiceError::bad(url, NOBODY))
    }

    fn certificate(
        &self,
        url: &str,
        _: fulcio::Form,
        _: &IdentityToken,
        _: &PrivateKey,
    ) -> Result<Issued, ServiceError> {
        Err(ServiceError::bad(url, NOBODY))
    }

    fn entry(&self, url: &str, _: rekor::Version, _: &Submission<'_>) -> Result<LogEntry, ServiceError> {
        Err(ServiceError::bad(url, NOBODY))
    }

    fn timestamp(&self, url: &str, _: &[u8]) -> Result<Stamped, ServiceError> {
        Err(ServiceError::bad(url, NOBODY))
    }

    fn buildkite(&self, job: &AgentJob, _: &str) -> Result<Zeroizing<String>, ServiceError> {
        Err(ServiceError::bad(&job.endpoint, NOBODY))
    }
}

/// Why nobody is asked.
const NOBODY: &str = "no service is asked here";

/// A service gave nothing that can be used. No text of it holds a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ServiceError {
    /// What was asked: scheme, host, port, path.
    pub place: String,
    /// Why, as a clause.
    pub reason: String,
    /// It did not answer, or was busy or broken: later it may.
    pub is_outage: bool,
    /// It refused the question.
    pub is_refusal: bool,
    /// A log that has this entry already, and does not give it again.
    pub is_duplicate: bool,
}

impl ServiceError {
    /// An answer that cannot be used.
    #[allow(clippy::needless_pass_by_value)] // what is shown is mostly made for it
    pub fn bad(place: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self {
            place: place.into(),
            reason: reason.to_string(),
            is_outage: false,
            is_refusal: false,
            is_duplicate: false,
        }
    }
}

/// SHA-256 of the concatenation of `message`.
pub fn sha256_of(message: &[&[u8]]) -> [u8; 32] {
    *crate::sign::Message::new(message).sha256()
}

/// The element `tag` of DER with this content.
fn der_element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    let length = content.len().to_be_bytes();
    let short = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    if content.len() < 128 {
        out.push(u8::try_from(content.len()).unwrap_or_default());
    } else {
        out.push(0x80 | u8::try_from(short.len()).unwrap_or_default());
        out.extend(short);
    }
    out.extend(content);
    out
}
