//! What checking the signatures that are kept about one image may cost, where strangers decide how many there are and how
//! much each brings.
//!
//! Each of them has a share of its own, enough for what signers write. So nothing that lies beside the right one takes away
//! what that needs. What brings more than its share takes it out of one pot for all; and what a first look shows to be a
//! stranger's is judged in full, for the text of a refusal, only as long as a pot for strangers lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::judge::{Material, Refused};
use crate::trust::Work;

/// Most log entries and timestamps that are checked for one image, besides those that are in the share of each signature.
pub const MAX_CHECKS: usize = 8192;
/// Log entries and timestamps of each signature that are checked whatever lies beside it.
pub const SHARE_CHECKS: usize = 4;
/// What checking the signatures for one image may cost: each is one, and one more for every [`SIGNED_FOR_ONE`] bytes that
/// are hashed for it. The first of each envelope is its own.
pub const MAX_SIGNATURES: usize = 65_536;
/// How many bytes that are signed count as much as a signature.
const SIGNED_FOR_ONE: usize = 256 * 1024;
/// Further signatures of one envelope that count as its own.
const SHARE_SIGNATURES: u64 = 16;
/// What checking all timestamps and chains for one image may cost, in bytes hashed: some seconds.
const MAX_WORK: u64 = 16 * 1024 * 1024 * 1024;
/// The same of each signature, whatever lies beside it.
const SHARE_WORK: u64 = 32 * 1024 * 1024;
/// Keys and certificates that may have signed for which the share of each signature grows, so that each of them is tried
/// whatever lies beside it. Beyond, what is tried comes out of [`MAX_SIGNATURES`].
pub const MAX_SIGNERS: usize = 512;
/// Log entries and timestamps of strangers that are looked at, to say who they are.
const MAX_STRANGERS: u64 = 64;
/// What that may cost, in bytes hashed.
const STRANGERS_WORK: u64 = 512 * 1024 * 1024;

/// What may still be checked; for everything that is kept about one image.
#[derive(Debug)]
pub struct Budget {
    /// Log entries and timestamps beyond the shares.
    checks: Work,
    /// Signatures beyond the shares.
    signatures: Work,
    /// Timestamps and chains beyond the shares, in bytes hashed.
    work: Arc<Work>,
    /// What strangers bring.
    strangers: Work,
    strangers_work: Work,
    own: Own,
}

/// What each signature has for itself.
#[derive(Clone, Copy, Debug)]
struct Own {
    checks: u64,
    signatures: u64,
    work: u64,
}

impl Default for Budget {
    fn default() -> Self {
        let own = Own { checks: SHARE_CHECKS as u64, signatures: SHARE_SIGNATURES, work: SHARE_WORK };
        Self { own, ..Self::of(MAX_CHECKS as u64, MAX_SIGNATURES as u64, MAX_WORK) }
    }
}

impl Budget {
    /// The same where each signature may be by any of so many, who are tried one after the other. How many there are is
    /// said by whoever judges, not by whoever brings signatures.
    #[must_use]
    pub fn of_signers(mut self, signers: usize) -> Self {
        self.own.signatures = SHARE_SIGNATURES + signers.min(MAX_SIGNERS) as u64;
        self
    }

    /// One without shares.
    pub(crate) fn of(checks: u64, signatures: u64, work: u64) -> Self {
        Self {
            checks: Work::new(checks),
            signatures: Work::new(signatures),
            work: Arc::new(Work::new(work)),
            strangers: Work::new(MAX_STRANGERS),
            strangers_work: Work::new(STRANGERS_WORK),
            own: Own { checks: 0, signatures: 0, work: 0 },
        }
    }

    /// What one thing that is kept may cost: a signature, or an envelope with all of its signatures.
    pub fn share(&self) -> Share<'_> {
        let Own { checks, signatures, work } = self.own;
        Share {
            budget: self,
            has_begun: AtomicBool::new(signatures == 0),
            checks: Work::new(checks),
            signatures: Work::new(signatures),
            work: Work::within(work, &self.work),
        }
    }
}

/// What may still be checked of one thing that is kept.
#[derive(Debug)]
pub struct Share<'a> {
    budget: &'a Budget,
    /// Whether its first signature was checked. What is hashed for that is limited by what is fetched.
    has_begun: AtomicBool,
    checks: Work,
    signatures: Work,
    work: Work,
}

impl Share<'_> {
    /// Before one signature over this message is checked.
    pub(crate) fn spend_signature(&self, message: &[&[u8]]) -> Result<(), Refused> {
        if !self.has_begun.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let bytes: usize = message.iter().map(|part| part.len()).sum();
        let price = 1 + (bytes / SIGNED_FOR_ONE) as u64;
        let spent = self.signatures.spend_or_leave(price).or_else(|_| self.budget.signatures.spend_or_leave(price));
        spent.map_err(|_| Refused::Signatures)
    }

    /// Before what a signature brings is checked that may be the right one; what checking it takes its work from.
    pub(super) fn spend_checks(&self, material: &Material) -> Result<&Work, Refused> {
        let count = (material.entries.len() + material.timestamps.len()) as u64;
        let spent = self.checks.spend_or_leave(count).or_else(|_| self.budget.checks.spend_or_leave(count));
        spent.map(|()| &self.work).map_err(|_| Refused::Budget)
    }

    /// The same of a signature that is a stranger's; nothing where no more of them are looked at.
    pub(super) fn spend_on_stranger(&self, material: &Material) -> Option<&Work> {
        let count = (material.entries.len() + material.timestamps.len()).max(1) as u64;
        self.budget.strangers.spend_or_leave(count).ok().map(|()| &self.budget.strangers_work)
    }
}
