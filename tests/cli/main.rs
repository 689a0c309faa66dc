//! The command line, hermetically: own home, own key, fixed clock, no network. Each test checks exit code, stdout and
//! stderr of each call, always all three.

mod bad_input;
mod evidence;
mod harness;
mod keys;
mod secrets;
mod transparent;
