//! `supervise [--timeout SECONDS] [--kill-after SECONDS] [--dir DIR] [--path PATH] [--report FILE] -- COMMAND…`: the
//! crate as a program. The report has one `name=value` per line.

#![allow(clippy::print_stderr, reason = "a program")]

use std::ffi::OsString;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use affiant_supervise::{Ran, Request, Stream, supervise};

/// The program; the tests of the crate run it as well.
pub(crate) fn main() -> ExitCode {
    let mut request = Request { env: std::env::vars_os().collect(), head: 4096, tail: 4096, ..Request::default() };
    let mut report = None;
    let mut words = std::env::args_os().skip(1);
    let seconds = |word: Option<OsString>| word?.to_str()?.parse().ok().map(Duration::from_secs_f64);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--timeout") => request.timeout = seconds(words.next()),
            Some("--kill-after") => request.kill_after = seconds(words.next()),
            Some("--dir") => request.dir = words.next().map(Into::into),
            Some("--path") => {
                request.env.retain(|(name, _)| name != "PATH");
                request.env.extend(words.next().map(|path| ("PATH".into(), path)));
            }
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
                let _ = std::fs::write(report, describe(&ran));
            }
            ExitCode::from(u8::try_from(ran.ending.code()).unwrap_or(125))
        }
        Err(error) => {
            eprintln!("supervise: {error}");
            ExitCode::from(u8::try_from(error.code()).unwrap_or(125))
        }
    }
}

fn describe(ran: &Ran) -> String {
    let mut text = format!(
        "ending={:?}\nterminal={}\ninterrupted={:?}\nleft_behind={}\nchild_peak={}\nchild_user={:?}\n",
        ran.ending, ran.terminal, ran.interrupted, ran.left_behind, ran.usage.peak_memory, ran.usage.user
    );
    for (name, Stream { sha256, length, head, tail, connected, terminal, cut }) in
        [("stdout", &ran.stdout), ("stderr", &ran.stderr)]
    {
        let digest = sha256.iter().fold(String::new(), |mut digest, byte| {
            let _ = write!(digest, "{byte:02x}");
            digest
        });
        let _ = write!(
            text,
            "{name}.sha256={digest}\n{name}.length={length}\n{name}.head={}\n{name}.tail={}\n\
             {name}.connected={connected}\n{name}.terminal={terminal}\n{name}.cut={cut:?}\n",
            head.escape_ascii(),
            tail.escape_ascii()
        );
    }
    // What it has cost us, and whom we have not buried.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let _ = writeln!(text, "peak={}", peak.trim().trim_end_matches(" kB"));
    let task = format!("/proc/self/task/{}/children", std::process::id());
    let _ = writeln!(text, "children={}", std::fs::read_to_string(task).unwrap_or_default());
    text
}
