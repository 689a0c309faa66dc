//! Signals sent to us, without a terminal.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use crate::world::{Folder, number_in, output, program, script, send, shell, state, text, until, until_exists};

crate::tests![
    every_signal_is_forwarded,
    goes_to_the_whole_group,
    death_by_a_forwarded_signal,
    several_signals,
    ignored_stays_ignored,
    stop_and_continue,
    stopped_by_others,
    sigchld_ignored,
    blocked_signals,
];

/// A child that has told that it is ready.
fn ready(folder: &Folder, text: &str) -> std::process::Child {
    let mut command = script(folder, &[], text);
    command.env("READY", folder.path("ready")).stdout(Stdio::piped());
    // A session without a terminal, whatever the tests were started from.
    // SAFETY: `setsid` is async-signal-safe.
    unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?)) };
    let child = command.spawn().unwrap();
    until_exists(&folder.path("ready"));
    child
}

fn every_signal_is_forwarded() {
    for signal in ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH", "TSTP", "CONT"] {
        let folder = Folder::new();
        // No process of its own in the group: a shell waits for one that has stopped.
        let text = format!("trap 'echo got; exit 9' {signal}; : >$READY; while :; do :; done");
        let child = ready(&folder, &text);
        send(&child, format!("SIG{signal}").parse().unwrap());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(9), &b"got\n"[..]), "{signal}");
    }
}

fn goes_to_the_whole_group() {
    let folder = Folder::new();
    // The shell's own trap comes first: once the grandchild is ready, both are.
    let text = "trap 'wait; exit 3' USR1; \
                sh -c 'trap \"echo grandchild; exit\" USR1; : >$READY; while :; do sleep 0.05; done' & wait";
    let child = ready(&folder, text);
    send(&child, Signal::SIGUSR1);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"grandchild\n"[..]));
}

fn death_by_a_forwarded_signal() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let folder = Folder::new();
        let child = ready(&folder, ": >$READY; exec sleep 300");
        // The shell may not have become `sleep` yet; it dies of them as well.
        send(&child, signal);
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(code));
        let report = folder.report();
        assert_eq!(report["ending"], format!("Signalled {{ signal: {}, core: false }}", signal as i32));
        assert_eq!(report["interrupted"], format!("Some({})", signal as i32));
    }
}

fn several_signals() {
    // The first does not end it: we live as long as it does.
    let folder = Folder::new();
    let text =
        "n=0; trap 'n=$((n+1)); : >$READY.$n; [ $n = 3 ] && exit 30' TERM; : >$READY; while :; do sleep 0.05; done";
    let child = ready(&folder, text);
    for number in 1..=3 {
        send(&child, Signal::SIGTERM);
        until_exists(&folder.path(&format!("ready.{number}")));
    }
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(30));
}

fn ignored_stays_ignored() {
    // As under nohup.
    let folder = Folder::new();
    let command = format!(
        "trap '' HUP INT; exec $S -- sh -c 'grep SigIgn /proc/self/status; echo $$ >{0}; while ! [ -e {1} ]; do sleep 0.05; done; exit 6'",
        folder.path("ready").display(),
        folder.path("go").display()
    );
    let child = shell(&command).stdout(Stdio::piped()).spawn().unwrap();
    number_in(&folder.path("ready"));
    send(&child, Signal::SIGHUP);
    send(&child, Signal::SIGINT);
    thread::sleep(Duration::from_millis(300));
    fs::write(folder.path("go"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    let mask = u64::from_str_radix(text(&output.stdout).trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_eq!(mask & 0b11, 0b11, "INT and HUP are ignored in the child");
}

/// Runs in a process group of its own in a session without terminal, so that stops are not discarded. The leader of the
/// session is the test executable (see `lead` in `main.rs`): shells do strange things when a job stops.
fn in_a_group(folder: &Folder, text: &str) -> std::process::Child {
    let mut command = script(folder, &[], text);
    command.env("SUPERVISE_ROLE", "leader").env("OURS", folder.path("ours")).env("CODE", folder.path("code"));
    command.env("READY", folder.path("ready")).spawn().unwrap()
}

fn stop_and_continue() {
    let folder = Folder::new();
    // It must not start processes: while it does it cannot be stopped.
    let mut outer = in_a_group(&folder, "echo $$ >$READY; while ! [ -e $READY.go ]; do :; done; exit 8");
    let (ours, child) = (number_in(&folder.path("ours")), number_in(&folder.path("ready")));
    let tell = |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(ours), signal).unwrap();
    for _ in 0..2 {
        tell(Signal::SIGTSTP);
        until("both stop", || state(ours) == Some('T') && state(child) == Some('T'));
        tell(Signal::SIGCONT);
        until("both run", || state(ours) != Some('T') && state(child) != Some('T'));
    }
    fs::write(folder.path("ready.go"), "").unwrap();
    assert_eq!(number_in(&folder.path("code")), 8);
    outer.wait().unwrap();
}

fn stopped_by_others() {
    // Without a terminal nobody would continue us, only the child.
    let folder = Folder::new();
    let mut outer = in_a_group(&folder, "echo $$ >$READY; while ! [ -e $READY.go ]; do sleep 0.05; done; exit 8");
    let (ours, child) = (number_in(&folder.path("ours")), number_in(&folder.path("ready")));
    let child = nix::unistd::Pid::from_raw(child);
    nix::sys::signal::kill(child, Signal::SIGSTOP).unwrap();
    until("it stops", || state(child.as_raw()) == Some('T'));
    thread::sleep(Duration::from_millis(300));
    assert_ne!(state(ours), Some('T'));
    nix::sys::signal::kill(child, Signal::SIGCONT).unwrap();
    fs::write(folder.path("ready.go"), "").unwrap();
    assert_eq!(number_in(&folder.path("code")), 8);
    outer.wait().unwrap();
}

fn sigchld_ignored() {
    let output = output(
        Command::new("bash")
            .args(["-c", "trap '' CHLD; exec $S -- grep SigIgn /proc/self/status"])
            .env("S", program())
            .env("SUPERVISE_ROLE", "program"),
    );
    assert_eq!(output.status.code(), Some(0));
    let mask = u64::from_str_radix(text(&output.stdout).trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_ne!(mask & 1 << (Signal::SIGCHLD as i32 - 1), 0);
}

fn blocked_signals() {
    // A parent that blocks them all, the end of a child among them.
    let masks =
        crate::world::with_and_without(&["sh", "-c", "grep SigBlk /proc/self/status; exit 3"]).map(|mut command| {
            // SAFETY: `sigprocmask` is async-signal-safe.
            unsafe { command.pre_exec(|| Ok(SigSet::all().thread_set_mask()?)) };
            let output = output(&mut command);
            assert_eq!(output.status.code(), Some(3));
            text(&output.stdout)
        });
    assert_eq!(masks[0], masks[1]);
}
