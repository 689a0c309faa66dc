//! The built-in attestors, one file each. Adding one takes a file, two lines here, a fixture and a section in
//! `docs/attestors.md`.
#![deny(missing_docs)]

mod environment;
#[cfg(feature = "git")]
mod git;

use affiant_core::attestor::Attestor;

#[cfg(feature = "git")]
pub use git::remote_urls as git_remote_urls;

/// All built-in attestors. Their order here is their order in a collection and in the documentation.
pub const BUILT_IN: &[Attestor] = &[
    Attestor::before::<environment::Environment>(),
    #[cfg(feature = "git")]
    Attestor::before::<git::Git>(),
];
