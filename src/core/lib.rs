//! The core of affiant: files, digests, evidence types, the capture pipeline, signing and storage.
//!
//! No network, no terminal and no clock: what they give comes in as values.
#![deny(missing_docs)]

pub mod attestor;
pub mod digest;
pub mod outfile;
pub mod product;
pub mod redact;
pub mod statement;
pub mod store;
