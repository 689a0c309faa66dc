#![no_main]
#[path = "../sigstore.rs"]
#[allow(dead_code, reason = "one of them is called here")]
mod sigstore;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sigstore::entry(data));
