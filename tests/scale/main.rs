//! How long things take. `AFFIANT_BINARY` names the binary to measure, or else the tests' own is; limits are those of an
//! optimised binary on a quiet machine, and count only with `AFFIANT_SCALE=1`:
//!
//! ```sh
//! AFFIANT_SCALE=1 AFFIANT_BINARY=$PWD/target/release/affiant cargo test --test scale -- --nocapture
//! ```

#![cfg(feature = "remote")]
#![allow(clippy::print_stderr)] // measurements are to be seen

#[path = "../cli/issuer.rs"]
#[allow(dead_code)]
mod issuer;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use issuer::{Issuer, Lies};

/// Runs of one measurement; the median counts.
const RUNS: usize = 15;

fn affiant(dir: &Path) -> Command {
    let binary = std::env::var_os("AFFIANT_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_affiant").into());
    let mut command = Command::new(binary);
    let home = dir.join("home");
    command.current_dir(dir.join("work")).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The median of what `command` takes.
fn median(mut command: impl FnMut() -> Command) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let begun = Instant::now();
            let output = command().output().expect("affiant starts");
            let took = begun.elapsed();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            took
        })
        .collect();
    times.sort();
    times[RUNS / 2]
}

#[track_caller]
fn within(what: &str, took: Duration, limit: Duration) {
    let counts = std::env::var_os("AFFIANT_SCALE").is_some();
    let note = if counts { "" } else { ", which does not count here" };
    eprintln!("{what}: {:.1} ms (limit {} ms{note})", took.as_secs_f64() * 1000.0, limit.as_millis());
    assert!(took < if counts { limit } else { Duration::from_secs(30) }, "{what}");
}

#[test]
fn a_run_with_all_providers() {
    let dir = tempfile::tempdir().expect("a folder");
    for folder in ["work", "home"] {
        std::fs::create_dir(dir.path().join(folder)).expect("makes a folder");
    }
    let key = ["key", "generate", "--no-password", "-o", "../k.pem"];
    assert!(affiant(dir.path()).args(key).output().is_ok_and(|output| output.status.success()));
    let (github, gitlab) = (Issuer::start("github", Lies::default()), Issuer::start("gitlab", Lies::default()));
    let run = || {
        let mut command = affiant(dir.path());
        command.args(["run", "-k", "../k.pem", "--", "true"]);
        command
    };
    let plain = median(run);
    let all = median(|| {
        let mut command = run();
        command.envs(github.variables("github")).envs(gitlab.variables("gitlab"));
        command.env("JENKINS_URL", "https://jenkins.example.com/");
        command
    });
    within("run -- true", plain, Duration::from_millis(60));
    within("run -- true with github, gitlab and jenkins, a local issuer", all, Duration::from_millis(60));
}

/// What the GitHub action adds to a step whose binary the runner has kept.
#[test]
fn a_step_of_the_action() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = |name: &str| dir.path().join(name);
    for folder in ["work", "home", "temp", "action"] {
        std::fs::create_dir(home(folder)).expect("makes a folder");
    }
    assert!(
        affiant(dir.path())
            .args(["key", "generate", "--no-password", "-o", "../k.pem"])
            .output()
            .is_ok_and(|output| output.status.success())
    );
    let binary = affiant(dir.path()).get_program().to_owned();
    let digest = affiant_core::digest::sha256_hex(&std::fs::read(&binary).expect("the binary"));
    let kept = home("tools/affiant").join(&digest);
    std::fs::create_dir_all(&kept).expect("makes folders");
    std::fs::copy(&binary, kept.join("affiant")).expect("copied");
    std::fs::write(home("action/release.txt"), format!("version v0.1.0\nlinux-amd64 {digest}\nlinux-arm64 {digest}\n"))
        .expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/actions/affiant/run");
    let bash = || {
        let mut bash = Command::new("bash");
        bash.current_dir(home("work")).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home("home"));
        bash.stdin(Stdio::null()).stdout(Stdio::null());
        bash
    };
    let step = median(|| {
        let mut step = bash();
        step.arg(&script).env("AFFIANT_ACTION", home("action")).env("AFFIANT_KEY", home("k.pem"));
        step.env("RUNNER_TEMP", home("temp")).env("RUNNER_TOOL_CACHE", home("tools"));
        step.env("GITHUB_ACTIONS", "true").env("GITHUB_SERVER_URL", "https://github.com");
        step.env("GITHUB_REPOSITORY", "o/r").env("GITHUB_OUTPUT", home("output"));
        step.env("GITHUB_STEP_SUMMARY", home("summary"));
        step.env("AFFIANT_INPUTS", r#"{"step": "s", "command": "true", "attestations": "environment github"}"#);
        step
    });
    let plain = median(|| {
        let mut plain = bash();
        plain.args(["-eo", "pipefail", "-c", "true"]);
        plain
    });
    within("a step of the GitHub action, less what bash takes", step.saturating_sub(plain), Duration::from_secs(1));
}
