//! A limit on what checking may cost, because strangers write what is checked.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sign::PublicKey;

/// What is left to spend, in bytes hashed with SHA-256 (about two a nanosecond).
#[derive(Debug)]
pub(crate) struct Work(AtomicU64);

/// Nothing is left to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuchWork;

impl Work {
    pub(crate) fn new(limit: u64) -> Self {
        Self(AtomicU64::new(limit))
    }

    /// Spends `cost`, if so much is left; else nothing is left for anything that follows.
    pub(crate) fn spend(&self, cost: u64) -> Result<(), TooMuchWork> {
        let less = |left: u64| Some(left.saturating_sub(cost));
        let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or_default();
        if left < cost { Err(TooMuchWork) } else { Ok(()) }
    }

    /// Spends `cost`, if so much is left; else what is left remains for what costs less.
    pub(crate) fn spend_or_leave(&self, cost: u64) -> Result<(), TooMuchWork> {
        let less = |left: u64| left.checked_sub(cost);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).map(drop).map_err(|_| TooMuchWork)
    }

    #[cfg(test)]
    pub(crate) fn left(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Spends what checking one signature with `key` costs, without hashing a large message.
    pub(crate) fn spend_check(&self, key: &PublicKey) -> Result<(), TooMuchWork> {
        self.spend(key.cost_of_check())
    }
}
