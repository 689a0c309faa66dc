#![no_main]
#[path = "../services.rs"]
#[allow(dead_code, reason = "one of them is called here")]
mod services;

libfuzzer_sys::fuzz_target!(|data: &[u8]| services::answers(data));
