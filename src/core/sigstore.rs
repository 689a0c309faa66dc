//! Checking what Sigstore's services vouch for: that a signature is in a log, that a certificate is, and when something was
//! signed; and whom of them to believe.
//!
//! Nothing here knows what time it is or opens a socket. That a signature holds over its message is not asked here: who
//! checks it checks it with the same [`Verifier`].
//! Own code, because no crate makes all the comparisons: `docs/decisions/021-sigstore-checks.md`.

mod body;
mod check;
mod entry;
pub mod identity;
pub(crate) mod json;
pub mod judge;
pub mod note;
mod root;
mod sct;
mod time;
pub mod tree;

pub use check::{EntryError, Logged, Signed, Verifier, check};
pub use entry::{Entry, EntryMalformed, MAX_BODY, OldBundle, Proof};
pub(crate) use entry::{WrittenEntry, no_duplicates};
pub(crate) use root::host;
pub use root::{Authority, Log, MAX_OF_A_KIND, MAX_ROOT, RootError, TRUSTED_ROOT, TrustedRoot, Window};
pub use sct::{MAX_SCTS, SctError, check_scts};
pub use time::{MAX_TIMESTAMPS, proven_time, proven_times};

#[cfg(test)]
mod tests;
