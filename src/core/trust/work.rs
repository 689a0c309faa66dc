//! A limit on what checking may cost, because strangers write what is checked.

use std::cell::Cell;

use crate::sign::PublicKey;

/// What is left to spend, in bytes hashed with SHA-256 (about two a nanosecond).
pub(crate) struct Work(Cell<u64>);

/// Nothing is left to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuchWork;

impl Work {
    pub(crate) fn new(limit: u64) -> Self {
        Self(Cell::new(limit))
    }

    /// Spends `cost`, if so much is left; else nothing is left for anything that follows.
    pub(crate) fn spend(&self, cost: u64) -> Result<(), TooMuchWork> {
        let left = self.0.get().checked_sub(cost);
        self.0.set(left.unwrap_or(0));
        left.map(drop).ok_or(TooMuchWork)
    }

    #[cfg(test)]
    pub(crate) fn left(&self) -> u64 {
        self.0.get()
    }

    /// Spends what checking one signature with `key` costs, without hashing a large message.
    pub(crate) fn spend_check(&self, key: &PublicKey) -> Result<(), TooMuchWork> {
        self.spend(key.cost_of_check())
    }
}
