//! The policy: which steps there must be, who may sign them, what they must attest, and how they hang together.
//!
//! Source: wire-formats §5.1 and §5.2 for the members of witness and cilock. Members of our own, which both peers pass
//! over: `version`, `minimumVersion`, `notBefore`, `images`, `transparencyLogs` and `certificateTransparencyLogs` of the
//! policy, `start` and `end` of a root or authority, `threshold`, `exitcode`, `commandRun`, `perPlatform` and
//! `certificateMatches` of a step, `log`, `sct` and `timestamp` of a step or external attestation, `maxAge` of an attestation. Names are
//! read in any letter case, as Go reads them.

pub mod check;
mod document;
pub mod init;
mod keyless;
mod members;
mod read;
pub mod shipped;
pub mod source;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

pub use self::document::{Document, SourceError};
pub use self::keyless::{Demands, Match, NamedLog};
pub use self::members::strict_json;
use crate::select::{Glob, GlobError};
use crate::sign::{KeyError, PublicKey};
use crate::sigstore::Window;

/// Payload type of a policy as `witness sign` and `cilock sign` write it.
pub const PAYLOAD_TYPE: &str = "https://witness.testifysec.com/policy/v0.1";
/// cilock's own payload type of a policy.
pub const PAYLOAD_TYPE_CILOCK: &str = "https://aflock.ai/policy/v0.1";
/// Largest policy, in bytes.
pub const MAX_POLICY: usize = 16 << 20;
/// Most steps, external attestations, keys, roots or authorities of a policy, and most entries of one of its lists.
pub const MAX_ENTRIES: usize = 10_000;

/// A document that is no policy, or one that cannot be relied on. `at` is the path of the member.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Too large.
    #[error("the policy has {size} bytes, the limit is {MAX_POLICY}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Not JSON, a member twice, or something behind the object.
    #[error("not JSON that every reader understands alike: {reason}")]
    Json {
        /// What the reader says, with line and column.
        reason: String,
    },
    /// A member is of another JSON type.
    #[error("`{at}` is not {expected}")]
    Type {
        /// Which.
        at: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A member that must be there is not.
    #[error("`{at}` is missing")]
    Missing {
        /// Which.
        at: String,
    },
    /// Two members differ only in letter case: readers differ in which they take.
    #[error("`{at}` stands there twice, in different letter case")]
    Twice {
        /// Which.
        at: String,
    },
    /// A member that nobody knows, in a policy with members of ours.
    #[error("`{at}` is not known{}", .nearest.as_ref().map(|name| format!(", did you mean `{name}`?")).unwrap_or_default())]
    Unknown {
        /// Which.
        at: String,
        /// The known name that is nearest.
        nearest: Option<String>,
    },
    /// A value cannot be read.
    #[error("`{at}`: {reason}")]
    Value {
        /// Which.
        at: String,
        /// Why.
        reason: String,
    },
    /// A public key cannot be read.
    #[error("`{at}` is no public key")]
    Key {
        /// Which.
        at: String,
        /// Why.
        source: KeyError,
    },
    /// A key id is not that of its key.
    #[error("`{at}` says {said}, but the key's id is {computed}")]
    KeyId {
        /// Which.
        at: String,
        /// What the policy says.
        said: String,
        /// What it is.
        computed: String,
    },
    /// A glob cannot be read.
    #[error("`{at}` is no glob")]
    Glob {
        /// Which.
        at: String,
        /// Why.
        source: GlobError,
    },
    /// The policy has no step.
    #[error("the policy has no steps: it would pass anything")]
    NoSteps,
    /// Another name than the one in the map.
    #[error("`{at}` is `{name}`, but the step stands under `{key}`")]
    StepName {
        /// Which.
        at: String,
        /// What it says.
        name: String,
        /// Where it stands.
        key: String,
    },
    /// The name is one that failed builds have.
    #[error("the step `{name}`: `#` marks the evidence of failed builds and cannot stand in a step's name")]
    Reserved {
        /// The name.
        name: String,
    },
    /// A reference to a step or external attestation that the policy does not have.
    #[error("`{at}` names `{name}`, which the policy does not have")]
    Dangling {
        /// Which.
        at: String,
        /// What it names.
        name: String,
    },
    /// Steps need each other's attestations in a circle.
    #[error("the steps {} need each other's attestations in a circle", .steps.join(" → "))]
    Circle {
        /// The steps on it.
        steps: Vec<String>,
    },
}

impl PolicyError {
    /// The path of the member, where the error is about one.
    pub fn at(&self) -> Option<&str> {
        match self {
            Self::TooLarge { .. } | Self::Json { .. } | Self::NoSteps | Self::Circle { .. } => None,
            Self::Reserved { .. } => Some("steps"),
            Self::Type { at, .. }
            | Self::Missing { at }
            | Self::Twice { at }
            | Self::Unknown { at, .. }
            | Self::Value { at, .. }
            | Self::Key { at, .. }
            | Self::KeyId { at, .. }
            | Self::Glob { at, .. }
            | Self::StepName { at, .. }
            | Self::Dangling { at, .. } => Some(at),
        }
    }
}

/// A policy. Nothing says yet that it was signed.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Until when it is in force; `None`: it is not, as in both peers.
    pub expires: Option<Timestamp>,
    /// From when on it is in force.
    pub not_before: Option<Timestamp>,
    /// Its version, a number that grows.
    pub version: Option<u64>,
    /// Policies of the same signer with a smaller version are withdrawn.
    pub minimum_version: Option<u64>,
    /// Roots of the signers' certificates, by id.
    pub roots: BTreeMap<String, AnchorText>,
    /// Timestamp authorities, by id.
    pub authorities: BTreeMap<String, AnchorText>,
    /// Transparency logs whose entries count.
    pub logs: Vec<NamedLog>,
    /// Logs of certificates.
    pub ct_logs: Vec<NamedLog>,
    /// The keys, and by which ids functionaries name them.
    pub keys: Vec<PolicyKey>,
    /// The steps, by name.
    pub steps: BTreeMap<String, Step>,
    /// External attestations, by name.
    pub external: BTreeMap<String, External>,
    /// What an image must be besides what its evidence says.
    pub images: Option<Images>,
    /// Members that nobody knows, passed over as both peers do.
    pub unknown: Vec<UnknownMember>,
    /// What both peers pass over in silence and a reader should know.
    pub notes: Vec<String>,
}

/// A member that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMember {
    /// Its path.
    pub at: String,
    /// The known name that is nearest, if one is near.
    pub nearest: Option<String>,
}

/// A root or authority: PEM texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorText {
    /// The certificate, PEM.
    pub certificate: Vec<u8>,
    /// Certificates between it and the leaves, PEM.
    pub intermediates: Vec<Vec<u8>>,
    /// From when until when it is trusted.
    pub window: Window,
}

/// A key of the policy.
#[derive(Clone, Debug)]
pub struct PolicyKey {
    /// How functionaries name it: its key id, or the reference to a key service.
    pub id: String,
    /// The key.
    pub key: PublicKey,
}

/// What is asked of one step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name, which is that of its collections.
    pub name: String,
    /// Who may sign.
    pub functionaries: Vec<Functionary>,
    /// How many of them must have signed; each counts once.
    pub threshold: usize,
    /// What must be attested.
    pub attestations: Vec<Requirement>,
    /// Steps from which its files come.
    pub artifacts_from: Vec<String>,
    /// Files that may come from elsewhere, where the policy lists any: then all others may not.
    pub allowed_untracked: Vec<Glob>,
    /// Steps whose attestations its rules see.
    pub attestations_from: Vec<String>,
    /// External attestations that its rules see.
    pub external_from: Vec<String>,
    /// When it must have been signed.
    pub time: TimeConstraint,
    /// Exit codes that the command may have ended with; empty: any, as in both peers.
    pub exit_codes: Vec<i64>,
    /// Whether evidence without a command will do.
    pub command_optional: bool,
    /// Whether each platform of an image must have its own evidence of this step.
    pub per_platform: bool,
    /// What each of its signatures must have.
    pub demands: Demands,
    /// What the signer's certificate and the collection must have in common.
    pub matches: Vec<Match>,
}

/// What is asked of an image itself: where it is, and who has signed it, as `affiant image sign` and cosign do.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// Who may sign it; empty: no signature is asked for.
    pub functionaries: Vec<Functionary>,
    /// How many of them must have signed; each counts once.
    pub threshold: usize,
    /// What each of these signatures must say of it.
    pub annotations: BTreeMap<String, String>,
    /// Repositories that it may be in, `host/repository`; empty: any.
    pub names: Vec<Glob>,
    /// What each of these signatures must have.
    pub demands: Demands,
    /// When each of them must have been made.
    pub time: TimeConstraint,
    /// What the signers' certificates and the collection of the run that made the image must have in common.
    pub matches: Vec<Match>,
}

/// Who may sign. Where both are given, both must hold.
#[derive(Clone, Debug)]
pub struct Functionary {
    /// A key, by its id in the policy.
    pub key_id: Option<String>,
    /// A certificate: the constraint as it stands in the policy.
    pub constraint: Option<Value>,
    /// Its path in the policy.
    pub at: String,
}

/// An attestation that must be there, and its rules.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// The type.
    pub kind: String,
    /// The rules: name and text of each module.
    pub modules: Vec<RegoModule>,
    /// How old it may be, by the proven time of the signature.
    pub max_age: Option<SignedDuration>,
    /// Its path in the policy.
    pub at: String,
}

/// One module of Rego.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegoModule {
    /// Its name, shown in messages.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// When a signature must have been made, by its proven time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeConstraint {
    /// Not before this time.
    pub not_before: Option<Timestamp>,
    /// Not after this time.
    pub not_after: Option<Timestamp>,
    /// At most this long ago.
    pub max_age: Option<SignedDuration>,
}

impl TimeConstraint {
    /// Whether it asks for nothing.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Evidence that no step of this policy made.
#[derive(Clone, Debug)]
pub struct External {
    /// Its name in the policy.
    pub name: String,
    /// The predicate type.
    pub predicate_type: String,
    /// Who may sign.
    pub functionaries: Vec<Functionary>,
    /// The rules.
    pub modules: Vec<RegoModule>,
    /// Whether it must be there.
    pub required: bool,
    /// What each of its signatures must have.
    pub demands: Demands,
}

impl Policy {
    /// Reads the payload of a policy's envelope.
    pub fn parse(payload: &[u8]) -> Result<Self, PolicyError> {
        if payload.len() > MAX_POLICY {
            return Err(PolicyError::TooLarge { size: payload.len() });
        }
        Self::from_value(&strict_json(payload)?)
    }

    /// Reads a policy that is JSON already.
    pub fn from_value(value: &Value) -> Result<Self, PolicyError> {
        let policy = read::policy(value)?;
        policy.check_references()?;
        Ok(policy)
    }

    fn check_references(&self) -> Result<(), PolicyError> {
        if self.steps.is_empty() {
            return Err(PolicyError::NoSteps);
        }
        for step in self.steps.values() {
            let lists = [("artifactsFrom", &step.artifacts_from), ("attestationsFrom", &step.attestations_from)];
            for (member, names) in lists {
                if let Some(name) = names.iter().find(|name| !self.steps.contains_key(*name)) {
                    let at = format!("steps.{}.{member}", step.name);
                    return Err(PolicyError::Dangling { at, name: name.clone() });
                }
            }
            if let Some(name) = step.external_from.iter().find(|name| !self.external.contains_key(*name)) {
                let at = format!("steps.{}.externalFrom", step.name);
                return Err(PolicyError::Dangling { at, name: name.clone() });
            }
        }
        self.order().map(|_| ())
    }

    /// The names of the steps, each after those whose attestations its rules see; otherwise by name.
    pub fn order(&self) -> Result<Vec<&str>, PolicyError> {
        let mut order: Vec<&str> = Vec::new();
        let mut placed = BTreeSet::new();
        while order.len() < self.steps.len() {
            let ready: Vec<&str> = self
                .steps
                .values()
                .filter(|step| !placed.contains(step.name.as_str()))
                .filter(|step| step.attestations_from.iter().all(|from| placed.contains(from.as_str())))
                .map(|step| step.name.as_str())
                .collect();
            if ready.is_empty() {
                let open = self.steps.keys().filter(|name| !placed.contains(name.as_str()));
                return Err(PolicyError::Circle { steps: open.cloned().collect() });
            }
            placed.extend(ready.iter().copied());
            order.extend(ready);
        }
        Ok(order)
    }

    /// The keys alone, in their order.
    pub fn public_keys(&self) -> Vec<PublicKey> {
        self.keys.iter().map(|key| key.key.clone()).collect()
    }

    /// The ids by which functionaries may name the key with this computed id.
    pub fn ids_of<'a>(&'a self, key_id: &'a str) -> impl Iterator<Item = &'a str> {
        self.keys.iter().filter(move |key| key.key.key_id() == key_id).map(|key| key.id.as_str())
    }
}

#[cfg(test)]
mod tests;
