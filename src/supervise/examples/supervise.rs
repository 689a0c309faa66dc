//! `supervise [--timeout SECONDS] [--kill-after SECONDS] [--report FILE] -- COMMAND…`: the crate as a program.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use affiant_supervise::{Request, supervise};

fn main() -> ExitCode {
    let mut request = Request { env: std::env::vars_os().collect(), head: 4096, tail: 4096, ..Request::default() };
    let mut report = None;
    let mut words = std::env::args_os().skip(1);
    let seconds =
        |word: Option<OsString>| word.and_then(|word| word.to_str()?.parse().ok()).map(Duration::from_secs_f64);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--timeout") => request.timeout = seconds(words.next()),
            Some("--kill-after") => request.kill_after = seconds(words.next()),
            Some("--report") => report = words.next(),
            Some("--") => break,
            _ => return ExitCode::from(125),
        }
    }
    request.program = words.next().unwrap_or_default();
    request.args = words.collect();
    match supervise(&request) {
        Ok(ran) => {
            if let Some(report) = report {
                let _ = std::fs::write(report, format!("{ran:#?}\n"));
            }
            ExitCode::from(u8::try_from(ran.ending.code()).unwrap_or(125))
        }
        Err(error) => {
            eprintln!("supervise: {error}");
            ExitCode::from(u8::try_from(error.code()).unwrap_or(125))
        }
    }
}
