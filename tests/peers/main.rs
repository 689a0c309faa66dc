//! affiant with the real programs: buildkitd, buildx, dockerd, a registry, syft, crane, skopeo, openssl. What is attested
//! is compared with what those say themselves. `README.md` beside this file tells how to start them.
//!
//! A test whose peer is missing says `LEFT OUT: …` on standard error and passes; with `AFFIANT_PEERS_REQUIRED=1` it
//! fails.

mod actions;
mod arguments;
mod attach;
mod carry;
mod compare;
mod container;
mod cosign;
mod determinism;
mod engine;
mod first_path;
mod gitlab;
mod harness;
mod hosts;
mod images;
mod in_toto;
#[allow(dead_code, reason = "of the tests of the command line")]
#[path = "../cli/issuer.rs"]
mod issuer;
mod keyless;
mod keyless_login;
mod keyless_offline;
mod keyless_outages;
mod keyless_runs;
mod keyless_tampered;
mod keyless_tutorials;
mod layouts;
mod rego;
mod release;
mod samples;
mod signatures;
mod stack;
mod tampered;
mod tutorials;
mod weather;
mod writers;
