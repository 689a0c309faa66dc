//! The crate as a program, with real shells, signals and terminals.
//!
//! The test executable plays the supervisor itself: started with `SUPERVISE_ROLE` set it is the program of
//! `examples/supervise.rs`. That needs a `main` of its own, which understands as much of the usual test arguments as cargo
//! and nextest use.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and this one is its own runner")]

mod pipes;
mod signals;
mod terminal;
mod timeout;
mod world;

#[path = "../examples/supervise.rs"]
mod program;

use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A test: its name, and what it does.
type Test = (&'static str, fn());

/// `tests![a, b]`: the functions of a module with their names.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[crate::Test] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}
pub(crate) use tests;

/// Most of the time of a test is waiting.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    match std::env::var("SUPERVISE_ROLE").as_deref() {
        Ok("program") => return program::main(),
        Ok("leader") => return lead(),
        Ok("panics") => {
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_millis(500));
                panic!("a panic in another thread");
            });
            return program::main();
        }
        _ => {}
    }
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut has = |flag: &str| {
        let before = arguments.len();
        arguments.retain(|argument| argument != flag);
        arguments.len() < before
    };
    let (list, exact, ignored) = (has("--list"), has("--exact"), has("--ignored"));
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted: Vec<Test> = [pipes::TESTS, signals::TESTS, terminal::TESTS, timeout::TESTS]
        .concat()
        .into_iter()
        .filter(|(name, _)| {
            names.is_empty() || names.iter().any(|wanted| if exact { name == wanted } else { name.contains(*wanted) })
        })
        .filter(|_| !ignored)
        .collect();
    if list {
        for (name, _) in wanted {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    run(&wanted)
}

/// Leads a session and runs the program in it as a job, as a shell would.
fn lead() -> ExitCode {
    let _ = nix::unistd::setsid();
    let mut job = Command::new(std::env::current_exe().expect("we have a path"));
    job.args(std::env::args_os().skip(1)).env("SUPERVISE_ROLE", "program").process_group(0);
    let mut job = job.spawn().expect("the job starts");
    let file = |name| std::env::var_os(name).expect("the test names the file");
    std::fs::write(file("OURS"), format!("{}\n", job.id())).expect("writable");
    let status = job.wait().expect("a status");
    std::fs::write(file("CODE"), format!("{}\n", status.code().unwrap_or(-1))).expect("writable");
    ExitCode::SUCCESS
}

fn run(wanted: &[Test]) -> ExitCode {
    println!("\nrunning {} tests", wanted.len());
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, test)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
                    let verdict = if passed { "ok" } else { "FAILED" };
                    println!("test {name} ... {verdict} ({:.1} s)", start.elapsed().as_secs_f32());
                    if !passed {
                        failed.lock().expect("no panic while held").push(*name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic while held");
    let verdict = if failed.is_empty() { "ok".to_owned() } else { format!("FAILED {failed:?}") };
    println!("\ntest result: {verdict}. {} passed; {} failed\n", wanted.len() - failed.len(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
