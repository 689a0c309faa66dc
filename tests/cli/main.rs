//! The command line, hermetically: own home, own key, fixed clock, no network. Each test checks exit code, stdout and
//! stderr of each call, always all three.

mod action;
mod attest;
mod bad_input;
mod ci;
mod crash;
mod evidence;
mod exports;
mod forms;
mod gate;
mod harness;
mod hostile;
#[cfg(feature = "remote")]
mod issuer;
mod keys;
mod peers_names;
mod pins;
mod policy;
#[cfg(feature = "remote")]
mod providers;
mod release;
mod schema;
mod secrets;
mod terminal;
mod transparent;
