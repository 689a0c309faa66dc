//! The built-in attestors, one file each. Adding one takes a file, two lines here, a fixture and a section in
//! `docs/attestors.md`.
#![deny(missing_docs)]

use affiant_core::attestor::Attestor;

pub mod container_command;
pub mod docker;
mod environment;
mod kinds;
pub mod oci;
pub mod sbom;
mod subjects;

/// All built-in attestors. Their order here is their order in a collection and in the documentation.
pub const BUILT_IN: &[Attestor] = &[
    Attestor::before::<environment::Environment>(),
    Attestor::after::<docker::Docker>(),
    Attestor::after::<oci::Oci>(),
    Attestor::after::<sbom::Sbom>(),
];
