//! The gate under attack: each security rule with the attacks that it was made for, bad input, changed bytes.
//!
//! Questions are asked in the process where the answer matters, and of the binary where flags, exit codes and texts do.
//! `AFFIANT_BLESS=1 cargo test --test gate` rewrites `golden/`.

#![allow(clippy::print_stderr)] // what is left out is said

mod bad_input;
mod certificates;
mod chains;
mod command_line;
mod flips;
mod keyless;
mod kit;
mod place;
mod quiet;
mod rego;
mod rules;
