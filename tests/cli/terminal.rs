//! Descriptors that are closed, readers that went away, and a real terminal.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::Place;

/// The call in a shell that changes its descriptors.
fn in_shell(place: &Place, redirections: &str, script: &str) -> (Option<i32>, String) {
    let line = format!(
        "{} run -k ../k.pem -o ../a.json -s b -a environment -- sh -c '{script}' {redirections}",
        env!("CARGO_BIN_EXE_affiant")
    );
    let done = Command::new("sh")
        .args(["-c", &line])
        .current_dir(place.work())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", place.beside("home"))
        .stdin(Stdio::null())
        .output()
        .expect("starts");
    (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned())
}

/// No message of ours, and no byte of the command, lands in a file that took the number of a closed descriptor.
#[test]
fn closed_descriptors() {
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"] {
        let place = Place::new();
        let (code, out) = in_shell(&place, closed, "echo out; echo err >&2; cat; exit 3");
        // `echo` itself fails where nothing takes its output.
        assert_eq!(code, Some(3), "{closed}");
        assert_eq!(out, if closed.contains('>') && !closed.starts_with('2') { "" } else { "out\n" }, "{closed}");
        assert_eq!(place.statement()["predicate"]["name"], "b#failed", "{closed}");
        place.affiant(["inspect", "--key", "../k.pub", "../a.json"]).run().code(0);
        place.affiant(["archive", "check"]).run().code(0);
    }
}

/// `yes | head -1`: the command is ended by its broken pipe, as without us.
#[test]
fn a_reader_that_goes_away() {
    let place = Place::new();
    let mut child = place
        .capture(["-s", "b", "-a", "environment", "--", "yes"])
        .command()
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut first = [0; 2];
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_exact(&mut first).expect("a line");
    drop(stdout);
    assert_eq!((&first, child.wait().expect("ends").code()), (b"y\n", Some(141)));
    assert_eq!(place.predicate("command-run")["exitcode"], 141);
    assert_eq!(place.statement()["predicate"]["name"], "b#failed");
    // The same for our own data.
    let mut child = place
        .affiant(["inspect", "--all", "-o", "json", "../a.json"])
        .command()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("reads");
    assert_eq!((child.wait().expect("ends").code(), said.as_str()), (Some(0), ""));
}

/// On a terminal the command has one, and what it says steers it; what we say does not.
#[test]
fn on_a_terminal() {
    let place = Place::new();
    let script = "test -t 0 && test -t 1 && test -t 2 || exit 9; read line; printf '\\033[1mgot %s\\033[0m\\n' \"$line\"; \
                  touch \"$(printf 'x\\033]0;own\\007')\"; exit 5";
    let pty = nix::pty::openpty(None, None).expect("a terminal");
    let fd = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("another descriptor"));
    // `setsid --ctty` makes it the controlling terminal, as a login does.
    let call = place.capture(["-s", "b", "--", "sh", "-c", script]);
    let call = call.command();
    let mut command = Command::new("setsid");
    command
        .args(["--ctty", "--wait"])
        .arg(call.get_program())
        .args(call.get_args())
        .current_dir(place.work())
        .env_clear()
        .envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(fd(&pty.slave))
        .stdout(fd(&pty.slave))
        .stderr(fd(&pty.slave));
    let mut child = command.spawn().expect("setsid is needed for this test");
    drop(command);
    drop(pty.slave);
    let mut master = std::fs::File::from(pty.master);
    master.write_all(b"typed\n").expect("types");
    let mut screen = Vec::new();
    // The end of a terminal is an error (EIO).
    let _ = master.read_to_end(&mut screen);
    let screen = String::from_utf8_lossy(&screen).into_owned();
    assert_eq!(child.wait().expect("ends").code(), Some(5), "{screen}");
    assert!(screen.contains("\u{1b}[1mgot typed\u{1b}[0m\r\n"), "{screen:?}");
    let (_, ours) = screen.split_once("affiant: ").expect("our last lines");
    assert!(!ours.contains('\u{1b}') && !ours.contains('\u{7}'), "{ours:?}");
    assert_eq!(place.predicate("command-run")["affiant"]["terminal"], Value::Bool(true));
    assert_eq!(place.predicate("command-run")["exitcode"], 5);
}
