#![no_main]
#[path = "../targets.rs"]
#[allow(dead_code, reason = "one of them is called here")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::merkle(data));
