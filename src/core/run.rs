//! The capture pipeline: each value is consumed by the next.
//!
//! ```text
//! Request ─plan()→ Plan ─observe()→ Observed ─spawn()→ Ran ─collect()→ Collected ─seal()→ Sealed
//! ```
//!
//! Everything that can be refused is refused by [`plan`], before anything has run. After the command has run
//! nothing is an error any more: what cannot be attested becomes a gap.

mod at_rest;
mod attest;
mod collect;
mod command_run;
mod listen;
mod plan;
mod seal;
mod spine;

pub use at_rest::AtRest;
pub use collect::{Collected, Counts, OwnEvidence, is_digest};
pub use command_run::{KEPT_TEXT, Observation, ObservationLevel};
pub use plan::{ALWAYS, Choice, Named, Plan, PlanError, Planned, Request, plan};
pub use seal::{RUN_SUBJECT, SealError, Sealed, SealedEnvelope};

use affiant_supervise as supervise;
use jiff::Timestamp;

use crate::clock::Clock;
use crate::snapshot::{self, Progress, Snapshot, SnapshotError};

use attest::{Attested, attest_before};

/// The world before the command: the attestors of before, and the materials.
pub struct Observed {
    plan: Plan,
    attested: Vec<Attested>,
    materials: Snapshot,
    /// When the snapshot began and ended.
    seen: (Timestamp, Timestamp),
}

impl Plan {
    /// Runs the attestors of before and takes the first snapshot. Nothing has run yet, so an error still refuses.
    /// `clock` is that of the evidence and may stand still; `real` is compared with the times of files.
    pub fn observe(
        mut self,
        clock: &dyn Clock,
        real: &snapshot::Clock<'_>,
        progress: &Progress,
    ) -> Result<Observed, SnapshotError> {
        let attested = attest_before(&mut self, clock);
        let start = clock.now();
        let materials = snapshot::first(self.snapshot.clone(), real, progress)?;
        Ok(Observed { plan: self, attested, materials, seen: (start, clock.now()) })
    }
}

/// How the command went, or why it did not start.
#[derive(Debug)]
pub enum Outcome {
    /// It ran.
    Ran(Box<supervise::Ran>),
    /// It did not start.
    NotStarted(supervise::Error),
    /// There was no command.
    NoCommand,
}

impl Outcome {
    /// The exit code that `run` passes on: the command's own, 128+n, 124, 126, 127; 125 where it could not be started
    /// for another reason.
    pub fn code(&self) -> i32 {
        match self {
            Self::Ran(ran) => ran.ending.code(),
            Self::NotStarted(error) => error.code(),
            Self::NoCommand => 0,
        }
    }

    /// Whether there was no command.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::NoCommand)
    }

    /// Whether the command ended with 0 by itself.
    pub fn success(&self) -> bool {
        match self {
            Self::Ran(ran) => ran.ending.success(),
            Self::NotStarted(_) => false,
            Self::NoCommand => true,
        }
    }
}

/// Why a command did not start, in one line with what the system said.
pub fn not_started(error: &supervise::Error) -> String {
    let system = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", system.unwrap_or_default())
}

/// The command has ended.
pub struct Ran {
    plan: Plan,
    attested: Vec<Attested>,
    materials: Snapshot,
    seen: (Timestamp, Timestamp),
    outcome: Outcome,
    lasted: (Timestamp, Timestamp),
}

impl Observed {
    /// Runs the command and waits for its end.
    pub fn spawn(self, clock: &dyn Clock) -> Ran {
        let start = clock.now();
        let outcome = match &self.plan.child {
            None => Outcome::NoCommand,
            Some(request) => match supervise::supervise(request) {
                Ok(ran) => Outcome::Ran(Box::new(ran)),
                Err(error) => Outcome::NotStarted(error),
            },
        };
        let Self { plan, attested, materials, seen } = self;
        Ran { plan, attested, materials, seen, outcome, lasted: (start, clock.now()) }
    }
}

impl Ran {
    /// How the command went.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }
}
