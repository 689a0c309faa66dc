//! What the tests need: the program, its report, and terminals.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take on a busy machine before it counts as hanging.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A folder that goes with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("supervise-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What the program reported to the file `report`.
    pub(crate) fn report(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.path("report")).expect("there is a report");
        text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The path of the program, to be run with `SUPERVISE_ROLE=program`.
pub(crate) fn program() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// The program with its arguments, before `--` and after.
pub(crate) fn supervise(options: &[&str], command: &[&str]) -> Command {
    let mut program = Command::new(program());
    program.env("SUPERVISE_ROLE", "program").args(options).arg("--").args(command);
    program.stdin(Stdio::null());
    program
}

/// The program on a shell script, reporting to `folder`.
pub(crate) fn script(folder: &Folder, options: &[&str], script: &str) -> Command {
    let report = folder.path("report");
    let mut all = vec!["--report", report.to_str().unwrap()];
    all.extend_from_slice(options);
    supervise(&all, &["sh", "-c", script])
}

/// A shell script without the program, in which `$S` runs it: `$S -- COMMAND`.
pub(crate) fn shell(script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).env("S", program()).env("SUPERVISE_ROLE", "program").stdin(Stdio::null());
    shell
}

/// Runs to the end and takes the output.
pub(crate) fn output(command: &mut Command) -> Output {
    let (send, receive) = std::sync::mpsc::channel();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    thread::spawn(move || send.send(child.wait_with_output()));
    let Ok(output) = receive.recv_timeout(PATIENCE) else {
        let _ = kill(pid, Signal::SIGKILL);
        panic!("hangs: {command:?}");
    };
    output.unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn until_exists(file: &Path) {
    until(&format!("{} exists", file.display()), || file.exists());
}

pub(crate) fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// The state letter of a process, or `None` when it has gone.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 2..].chars().next()
}

/// Is it there and not dead?
pub(crate) fn lives(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

pub(crate) fn number_in(file: &Path) -> i32 {
    until_exists(file);
    let mut number = None;
    until("a number in the file", || {
        number =
            fs::read_to_string(file).ok().filter(|text| text.ends_with('\n')).and_then(|text| text.trim().parse().ok());
        number.is_some()
    });
    number.unwrap()
}

/// A terminal with something running on it, as its controlling terminal.
pub(crate) struct Terminal {
    master: File,
    /// Kept open, so that the modes can be looked at after the end.
    pub(crate) slave: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
    pub(crate) child: Child,
}

/// The number of a stream that a terminal's command does not get from the terminal.
pub(crate) type Elsewhere = (i32, Stdio);

impl Terminal {
    /// Runs `command` with all three streams on a new terminal of 33 rows and 99 columns, except those given in
    /// `elsewhere`.
    pub(crate) fn run(command: &mut Command, elsewhere: Vec<Elsewhere>) -> Self {
        let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        // `openpty` makes inheritable descriptors, and other tests start processes at the same time.
        let (master, slave) = (pty.master.try_clone().unwrap(), pty.slave.try_clone().unwrap());
        drop(pty);
        command.stdin(slave.try_clone().unwrap());
        command.stdout(slave.try_clone().unwrap());
        command.stderr(slave.try_clone().unwrap());
        for (number, stream) in elsewhere {
            match number {
                0 => command.stdin(stream),
                1 => command.stdout(stream),
                _ => command.stderr(stream),
            };
        }
        let terminal = slave.as_raw_fd();
        // SAFETY: `setsid` and `ioctl` are async-signal-safe; close-on-exec has not yet closed the slave.
        unsafe {
            command.pre_exec(move || {
                nix::unistd::setsid()?;
                if libc::ioctl(terminal, libc::TIOCSCTTY, 0) == -1 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, screen) = (File::from(master.try_clone().unwrap()), Arc::clone(&seen));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                screen.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { master: master.into(), slave, seen, child }
    }

    /// An interactive shell with job control, in which `$S` runs the program. It has printed its prompt `> `.
    pub(crate) fn shell() -> Self {
        let mut shell = Command::new("bash");
        shell.args(["--norc", "--noprofile", "--noediting", "-i"]);
        shell.env("S", program()).env("SUPERVISE_ROLE", "program").env("PS1", "> ").env("LC_ALL", "C");
        shell.env_remove("PROMPT_COMMAND");
        let terminal = Self::run(&mut shell, Vec::new());
        terminal.expect("> ");
        terminal
    }

    pub(crate) fn keys(&self, keys: impl AsRef<[u8]>) {
        (&self.master).write_all(keys.as_ref()).unwrap();
    }

    pub(crate) fn screen(&self) -> String {
        text(&self.seen.lock().unwrap())
    }

    /// Waits until the text stands on the screen, and forgets everything up to there.
    pub(crate) fn expect(&self, wanted: &str) {
        let start = Instant::now();
        loop {
            let mut seen = self.seen.lock().unwrap();
            if let Some(at) = seen.windows(wanted.len()).position(|window| window == wanted.as_bytes()) {
                seen.drain(..at + wanted.len());
                return;
            }
            if start.elapsed() > PATIENCE {
                let session = self.child.id().to_string();
                let fields = "pid,ppid,pgid,tpgid,stat,wchan:20,pending,args";
                let there = Command::new("ps").args(["-s", &session, "-o", fields]).output().unwrap();
                panic!("never on the screen: {wanted:?} in {:?}\n{}", text(&seen), text(&there.stdout));
            }
            drop(seen);
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads the struct, which lives through the call.
        assert_eq!(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0);
    }

    /// Is the terminal as a shell wants it: echo, lines, signals, and output processed?
    pub(crate) fn is_cooked(&self) -> bool {
        use nix::sys::termios::{LocalFlags, OutputFlags, tcgetattr};
        let modes = tcgetattr(&self.slave).unwrap();
        let lines = LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG;
        modes.local_flags.contains(lines) && modes.output_flags.contains(OutputFlags::OPOST)
    }

    /// Waits for the end of what runs on it.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let screen = Arc::clone(&self.seen);
        let start = Instant::now();
        while status.is_none() {
            assert!(start.elapsed() < PATIENCE, "does not end; screen: {:?}", text(&screen.lock().unwrap()));
            status = self.child.try_wait().unwrap();
            thread::sleep(Duration::from_millis(10));
        }
        // What was written last may not have been read yet.
        thread::sleep(Duration::from_millis(100));
        status.unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same command with the program and without, on the same script.
pub(crate) fn with_and_without(command: &[&str]) -> [Command; 2] {
    let with = supervise(&[], command);
    let mut without = Command::new(command[0]);
    // The same environment.
    without.args(command[1..].iter().map(OsStr::new)).env("SUPERVISE_ROLE", "program").stdin(Stdio::null());
    [with, without]
}
