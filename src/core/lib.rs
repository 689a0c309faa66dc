//! The core of affiant: files, digests, evidence types, the capture pipeline, signing and storage.
//!
//! No network, no terminal and no clock: what they give comes in as values.
#![deny(missing_docs)]

pub mod at_once;
pub mod attestor;
pub mod bundle;
pub mod clock;
pub mod collection;
pub mod digest;
pub mod dsse;
pub mod evidence;
pub mod form;
pub mod image;
pub mod inflate;
pub mod jwt;
pub mod keyless;
pub mod kyverno;
pub mod link;
pub mod mime;
pub mod nearest;
pub mod outfile;
pub mod packed;
pub mod policy;
pub mod product;
pub mod redact;
pub mod rego;
pub mod run;
pub mod select;
pub mod sign;
pub mod sigstore;
pub mod snapshot;
pub mod statement;
pub mod step;
pub mod store;
pub mod trust;
pub mod verdict;
pub mod verify;
pub mod vsa;
