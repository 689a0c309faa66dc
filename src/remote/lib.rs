//! The only crate that opens a socket. For now: read-only questions to a container engine on this machine.
#![deny(missing_docs)]

mod engine;

pub use engine::{DEFAULT_SOCKETS, UnixEngine, socket_of};
