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

/// A closed stdin is nobody's empty text.
#[test]
fn nothing_is_signed_of_a_stdin_that_is_closed() {
    let place = Place::new();
    place.write("empty", "");
    for (line, code) in [
        ("image sign-blob --key ../k.pem - <&-", 4),
        ("image sign-blob --key ../k.pem - </dev/null", 4),
        ("image attest-blob --key ../k.pem --type https://a.example/t --predicate - --bundle b.json empty <&-", 4),
        ("image sign-blob --key ../k.pem - <empty", 0),
        ("image sign-blob --key ../k.pem - <../k.pub", 0),
    ] {
        let call = place.command("sh", ["-c", &format!("{} {line}", env!("CARGO_BIN_EXE_affiant"))]);
        let ended = call.run().code(code);
        if code == 4 {
            ended.stdout("").stderr_has(&["stdin cannot be read: it is closed, or /dev/null"]);
        }
    }
    assert!(!place.work().join("b.json").exists());
}

/// The same command with this as its controlling terminal, which `setsid --ctty` makes it, as a login does.
fn on_terminal(call: &Command, slave: &OwnedFd) -> Command {
    let fd = || Stdio::from(slave.try_clone().expect("another descriptor"));
    let mut command = Command::new("setsid");
    command
        .args(["--ctty", "--wait"])
        .arg(call.get_program())
        .args(call.get_args())
        .env_clear()
        .envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(fd())
        .stdout(fd())
        .stderr(fd());
    if let Some(folder) = call.get_current_dir() {
        command.current_dir(folder);
    }
    command
}

/// Whatever ends the question for a password, the terminal shows again what is typed.
#[test]
fn a_terminal_is_as_before_when_a_password_is_not_given() {
    let place = Place::without_key();
    place.affiant(["key", "generate", "-o", "c.key"]).env("AFFIANT_KEY_PASSWORD", "a password").run().code(0);
    place.write("file", "content");
    for (typed, signs) in [("\u{3}", false), ("a password\n", true), ("term", false), ("\u{1c}\u{1a}\u{3}", false)] {
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        let flags = || nix::sys::termios::tcgetattr(&pty.slave).expect("a terminal").local_flags;
        let before = flags();
        let call = place.affiant(["image", "sign-blob", "--key", "c.key", "--bundle", "b.json", "file"]).command();
        let mut command = on_terminal(&call, &pty.slave);
        let mut child = command.spawn().expect("setsid is needed for this test");
        let mut master = std::fs::File::from(pty.master.try_clone().expect("another descriptor"));
        let mut screen = String::new();
        let mut piece = [0; 512];
        while !screen.contains("password of c.key: ") {
            let count = master.read(&mut piece).expect("reads");
            screen.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
        // When it asks, nothing is shown any more.
        assert!(!flags().contains(nix::sys::termios::LocalFlags::ECHO), "{screen}");
        if typed == "term" {
            let pid = i32::try_from(child.id()).expect("a process");
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).expect("sends");
        } else {
            master.write_all(typed.as_bytes()).expect("types");
        }
        let ended = child.wait().expect("ends");
        assert_eq!(ended.success(), signs, "{typed:?}: {ended}");
        assert_eq!(flags(), before, "{typed:?}");
        assert_eq!(place.work().join("b.json").exists(), signs);
        if signs {
            std::fs::remove_file(place.work().join("b.json")).expect("there");
        }
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
    let call = place.capture(["-s", "b", "--", "sh", "-c", script]);
    let call = call.command();
    let mut command = on_terminal(&call, &pty.slave);
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
