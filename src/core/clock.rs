//! The clock is an input: the binary gives the system's, or the fixed one of `SOURCE_DATE_EPOCH`.

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still, so that equal inputs give equal payloads.
#[derive(Clone, Copy, Debug)]
pub struct Fixed(pub Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
}
