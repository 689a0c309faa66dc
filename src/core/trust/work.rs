//! A limit on what checking may cost, because strangers write what is checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sign::PublicKey;

/// What is left to spend, in bytes hashed with SHA-256 (about two a nanosecond).
#[derive(Debug)]
pub(crate) struct Work {
    left: AtomicU64,
    /// What is spent once nothing is left.
    more: Option<Arc<Work>>,
}

/// Nothing is left to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuchWork;

impl Work {
    pub(crate) fn new(limit: u64) -> Self {
        Self { left: AtomicU64::new(limit), more: None }
    }

    /// So much of one's own, and what others leave of `more`.
    pub(crate) fn within(limit: u64, more: &Arc<Self>) -> Self {
        Self { left: AtomicU64::new(limit), more: Some(more.clone()) }
    }

    /// Spends `cost`, if so much is left; else nothing is left for anything that follows.
    pub(crate) fn spend(&self, cost: u64) -> Result<(), TooMuchWork> {
        let less = |left: u64| Some(left.saturating_sub(cost));
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or_default();
        match &self.more {
            _ if left >= cost => Ok(()),
            Some(more) => more.spend(cost - left),
            None => Err(TooMuchWork),
        }
    }

    /// Spends `cost`, if so much is left; else what is left remains for what costs less.
    pub(crate) fn spend_or_leave(&self, cost: u64) -> Result<(), TooMuchWork> {
        let less = |left: u64| left.checked_sub(cost);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).map(drop).map_err(|_| TooMuchWork)
    }

    #[cfg(test)]
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Spends what checking one signature with `key` costs, without hashing a large message.
    pub(crate) fn spend_check(&self, key: &PublicKey) -> Result<(), TooMuchWork> {
        self.spend(key.cost_of_check())
    }
}
