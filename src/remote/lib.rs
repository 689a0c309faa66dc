//! The only crate that opens a socket: HTTP to other machines, and read-only questions to a container engine on this one.
#![deny(missing_docs)]

pub mod archivista;
mod engine;
pub mod http;
pub mod registry;
pub mod sigstore;
pub mod tuf;

pub use engine::{DEFAULT_SOCKETS, UnixEngine, socket_of};
