//! The built-in attestors, one file each. Adding one takes a file, two lines here, a fixture and a section in
//! `docs/attestors.md`.
#![deny(missing_docs)]

use affiant_core::attestor::Attestor;

mod ci_token;
pub mod container_command;
pub mod docker;
mod environment;
#[cfg(feature = "git")]
mod git;
mod github;
pub mod github_action;
mod gitlab;
mod jenkins;
mod jwt;
mod kinds;
mod link;
pub mod oci;
mod pins;
pub mod sbom;
mod slsa;
mod subjects;
mod yaml;

#[cfg(feature = "git")]
pub use git::{is_committed as git_is_committed, remote_urls as git_remote_urls};
pub use github::{REQUEST as GITHUB_REQUEST, token as github_token};

/// All built-in attestors. Their order here is their order in a collection and in the documentation.
pub const BUILT_IN: &[Attestor] = &[
    Attestor::before::<environment::Environment>(),
    #[cfg(feature = "git")]
    Attestor::before::<git::Git>(),
    Attestor::before::<github::Github>(),
    Attestor::before::<gitlab::Gitlab>(),
    Attestor::before::<jenkins::Jenkins>(),
    Attestor::before::<jwt::JsonWebToken>(),
    Attestor::before::<pins::Pins>(),
    Attestor::after::<docker::Docker>(),
    Attestor::after::<oci::Oci>(),
    Attestor::after::<sbom::Sbom>(),
    Attestor::whole::<github_action::GithubAction>(),
    Attestor::whole::<slsa::Slsa>(),
    Attestor::whole::<link::Link>(),
];
