//! One call of the binary in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use affiant_core::sign::Signer as _;

use super::kit::{AT, key};

/// Most memory that a call may use, in KiB.
const MAX_MEMORY: i64 = 256 * 1024;

/// A working folder with a home beside it, and `policy.pub` in it.
pub(crate) struct Place(tempfile::TempDir);

/// How a call ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: std::time::Duration,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        for folder in ["work", "home"] {
            std::fs::create_dir(place.0.path().join(folder)).expect("makes a folder");
        }
        place.write("policy.pub", key("policy").public_key().to_pem());
        place
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.0.path().join("work")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.0.path().join("home")
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.work().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes folders");
        std::fs::write(path, content).expect("writes");
    }

    /// `affiant verify` with these arguments, at a fixed time, with nothing of our environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_as(Path::new(env!("CARGO_BIN_EXE_affiant")), args)
    }

    pub(crate) fn command_as(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .arg("verify")
            .args(args)
            .current_dir(self.work())
            .env_clear()
            .env("HOME", self.home())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null());
        command
    }

    /// Runs it; the memory of all calls so far stays below the limit.
    pub(crate) fn verify(&self, args: &[&str]) -> Ended {
        let at = ["--at", AT];
        let args: Vec<&str> = if args.contains(&"--at") { args.to_vec() } else { [&at, args].concat() };
        run(self.command(&args))
    }
}

pub(crate) fn run(mut command: Command) -> Ended {
    let begin = std::time::Instant::now();
    let output = command.output().expect("runs");
    let took = begin.elapsed();
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).expect("a usage");
    assert!(usage.max_rss() < MAX_MEMORY, "{} KiB: {command:?}", usage.max_rss());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr), took }
}

impl Ended {
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self
    }

    /// stdout and stderr have this text somewhere.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        // Lines are wrapped.
        let flat = format!("{} {}", self.stdout, self.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(text), "{text:?} in\n{}{}", self.stdout, self.stderr);
        self
    }
}
