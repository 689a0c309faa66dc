//! The wrapped command cannot tell: exit code, stdin, output, signals, time limit.

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::Place;

#[test]
fn the_exit_code_is_the_commands_own_and_the_evidence_says_failed() {
    let place = Place::new();
    place
        .capture(["-s", "build", "-a", "environment", "--", "sh", "-c", "echo out; echo err >&2; exit 7"])
        .run()
        .code(7)
        .stdout("out\n")
        .stderr_has(&["err\n", "affiant: the command exited with 7", "build#failed"]);
    assert_eq!(place.statement()["predicate"]["name"], "build#failed");
    let command = place.predicate("command-run");
    assert_eq!(command["exitcode"], 7);
    assert_eq!(command["stdout"], "out\n");
    assert_eq!(command["stderr"], "err\n");
}

/// Security rule 1.
#[test]
fn a_failed_build_cannot_pass() {
    let place = Place::new();
    for (script, code) in [("exit 1", 1), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
        place.capture(["-s", "b", "-a", "environment", "--", "sh", "-c", script]).run().code(code);
        assert_eq!(place.statement()["predicate"]["name"], "b#failed", "{script}");
        assert_eq!(place.predicate("command-run")["exitcode"], code, "{script}");
    }
    place.capture(["-s", "b#failed", "--", "true"]).run().code(125).stdout("").stderr_has(&["holds `#`"]);
}

#[test]
fn an_ignored_exit_code_stands_in_the_evidence() {
    let place = Place::new();
    place
        .capture(["-s", "b", "-a", "environment", "--ignore-command-exit-code", "--", "sh", "-c", "exit 7"])
        .run()
        .code(0);
    assert_eq!(place.statement()["predicate"]["name"], "b");
    assert_eq!(place.predicate("command-run")["exitcode"], 7);
}

#[test]
fn commands_that_do_not_start_have_the_codes_of_env() {
    let place = Place::new();
    place.write("not-executable", "x");
    place.capture(["-s", "b", "-a", "environment", "--", "/no/such/thing"]).run().code(127).stdout("");
    assert_eq!(place.predicate("command-run")["exitcode"], 127);
    place.capture(["-s", "b", "-a", "environment", "--", "./not-executable"]).run().code(126).stdout("");
}

#[test]
fn stdin_reaches_the_command() {
    let place = Place::new();
    place.capture(["-s", "b", "-a", "environment", "--", "cat"]).stdin("x").run().code(0).stdout("x");
}

#[test]
fn flags_behind_the_command_are_its_own() {
    let place = Place::new();
    for flag in ["--help-all", "--help", "--config", "--config=nowhere.toml", "--plan"] {
        let echo = ["-a", "environment", "sh", "-c", "echo \"$1\"", "sh", flag];
        place.capture(echo).run().code(0).stdout(&format!("{flag}\n"));
    }
    place.affiant(["run", "--config", "nowhere.toml", "echo", "x"]).run().code(125).stdout("");
}

#[test]
fn a_time_limit_ends_the_whole_group_and_keeps_the_evidence() {
    let place = Place::new();
    let begun = Instant::now();
    place
        .capture([
            "-s",
            "b",
            "-a",
            "environment",
            "--timeout",
            "1",
            "--kill-after",
            "1",
            "--",
            "sh",
            "-c",
            "trap '' TERM; (trap '' TERM; sleep 600) & sleep 600; sleep 600",
        ])
        .run()
        .code(124)
        .stderr_has(&["ended by --timeout"]);
    assert!(begun.elapsed() < Duration::from_secs(60));
    let command = place.predicate("command-run");
    assert_eq!(command["exitcode"], 124);
    assert_eq!(command["affiant"]["ending"]["kind"], "timed-out");
}

#[test]
fn a_signal_is_passed_on() {
    let place = Place::new();
    let call = place.capture([
        "-s",
        "b",
        "-a",
        "environment",
        "--",
        "sh",
        "-c",
        "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.1; done",
    ]);
    let mut child = call.command().stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut stdout = child.stdout.take().expect("piped");
    let mut ready = [0; 6];
    stdout.read_exact(&mut ready).expect("the command has begun");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("can signal");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("reads");
    assert_eq!((rest.as_str(), child.wait().expect("ends").code()), ("got\n", Some(3)));
    assert_eq!(place.predicate("command-run")["exitcode"], 3);
}

#[test]
fn long_output_is_kept_in_part_and_digested_whole() {
    let place = Place::new();
    place.capture(["-s", "b", "-a", "environment", "--", "sh", "-c", "yes 0123456 | head -c 1000000"]).run().code(0);
    let command = place.predicate("command-run");
    assert_eq!(command["affiant"]["stdout"]["length"], 1_000_000);
    assert!(command["stdout"].as_str().expect("text").len() < 140_000);
    assert!(command["affiant"]["stdout"]["leftOut"].as_u64().expect("a number") > 800_000);
}

/// Security rule 2: the variables.
#[test]
fn key_isolation() {
    let place = Place::new();
    place
        .affiant(["key", "generate", "-o", "../locked.pem"])
        .env("AFFIANT_KEY_PASSWORD", "correct horse battery")
        .run()
        .code(0);
    let script = "env; echo fds:; ls /proc/self/fd; cat /proc/$PPID/environ || echo unreadable";
    let ended = place
        .affiant([
            "run",
            "-k",
            "../locked.pem",
            "-o",
            "../a.json",
            "-s",
            "b",
            "-a",
            "environment",
            "--",
            "sh",
            "-c",
            script,
        ])
        .env("AFFIANT_KEY_PASSWORD", "correct horse battery")
        .env("OTHER_COPY", "correct horse battery")
        .env("STAYS", "here")
        .run()
        .code(0);
    let shown = ended.stdout_text();
    assert!(!shown.contains("correct horse"), "{shown}");
    assert!(shown.contains("STAYS=here"), "{shown}");
    let withheld = &place.predicate("command-run")["affiant"]["withheldVariables"];
    assert_eq!(withheld, &serde_json::json!(["AFFIANT_KEY_PASSWORD", "OTHER_COPY"]));

    let ended = place
        .affiant([
            "run",
            "-k",
            "../locked.pem",
            "-s",
            "b",
            "-a",
            "environment",
            "--child-env-keep",
            "AFFIANT_KEY_PASSWORD",
            "--",
            "env",
        ])
        .env("AFFIANT_KEY_PASSWORD", "correct horse battery")
        .run()
        .code(0);
    assert!(ended.stdout_text().contains("AFFIANT_KEY_PASSWORD=correct horse battery"));
}
