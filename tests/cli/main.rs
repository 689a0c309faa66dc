//! The command line, hermetically: own home, own key, fixed clock, no network. Each test checks exit code, stdout and
//! stderr of each call, always all three.

mod action;
#[cfg(feature = "remote")]
mod archivista;
#[cfg(feature = "remote")]
mod attach;
mod attest;
mod bad_input;
#[cfg(feature = "remote")]
mod busy_registry;
mod carry;
mod ci;
mod crash;
mod evidence;
mod exports;
mod forms;
mod gate;
#[cfg(feature = "remote")]
mod gate_images;
#[cfg(feature = "remote")]
mod gate_images_demands;
#[cfg(feature = "remote")]
mod gate_images_keyless;
mod harness;
mod help;
mod hostile;
#[cfg(feature = "remote")]
mod images;
#[cfg(feature = "remote")]
mod issuer;
#[cfg(feature = "remote")]
mod keeping;
#[cfg(feature = "remote")]
mod keyless;
#[cfg(feature = "remote")]
mod keyless_checks;
#[cfg(feature = "remote")]
mod keyless_evidence;
#[cfg(feature = "remote")]
mod keyless_hostile;
#[cfg(feature = "remote")]
mod keyless_queue;
#[cfg(feature = "remote")]
mod keyless_rules;
mod keyless_tokens;
mod keys;
#[cfg(feature = "remote")]
mod kyverno;
#[cfg(feature = "remote")]
mod lists;
#[cfg(feature = "remote")]
mod login;
mod peers_names;
mod pins;
#[cfg(feature = "remote")]
mod places;
mod policy;
#[cfg(feature = "remote")]
mod providers;
#[cfg(feature = "remote")]
#[allow(dead_code, reason = "other tests use more of it")]
mod registry;
mod release;
mod schema;
mod secrets;
#[cfg(feature = "remote")]
mod sigstore_services;
#[cfg(feature = "remote")]
mod stores;
#[cfg(feature = "remote")]
mod stores_run;
#[cfg(feature = "remote")]
mod summaries;
mod terminal;
mod transparent;
#[cfg(feature = "remote")]
mod trust;
#[cfg(feature = "remote")]
#[allow(dead_code, reason = "other tests use more of it")]
mod tuf;
