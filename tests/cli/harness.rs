//! One call of affiant in a folder of its own.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use serde_json::Value;

/// A folder with a home, a working directory and a key.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// A place with a key in `k.pem` and `k.pub`, in Ed25519 so that signatures repeat.
    pub(crate) fn new() -> Self {
        let place = Self::without_key();
        place.affiant(["key", "generate", "--kind", "ed25519", "--no-password", "-o", "../k.pem"]).run().code(0);
        place
    }

    pub(crate) fn without_key() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("work")).expect("makes a folder");
        std::fs::create_dir(dir.path().join("home")).expect("makes a folder");
        Self { dir }
    }

    /// The working directory.
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// A path beside the working directory.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file in the working directory.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.work().join(name);
        std::fs::create_dir_all(path.parent().expect("below the working directory")).expect("makes folders");
        std::fs::write(path, content).expect("writes a file");
    }

    /// A call with these arguments.
    pub(crate) fn affiant<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Call {
        self.of_program(env!("CARGO_BIN_EXE_affiant").as_ref(), args)
    }

    /// A call with these arguments under another name of the program.
    pub(crate) fn called<S: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = S>) -> Call {
        let link = self.beside(name);
        if !link.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_affiant"), &link).expect("links");
        }
        self.of_program(&link, args)
    }

    /// A call of another program, in the same surroundings.
    #[cfg(feature = "remote")]
    pub(crate) fn command<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Call {
        self.of_program(program.as_ref(), args)
    }

    fn of_program<S: AsRef<OsStr>>(&self, program: &Path, args: impl IntoIterator<Item = S>) -> Call {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.work())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.beside("home"))
            .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .stdin(Stdio::null());
        Call { command, input: None, folder: self.dir.path().to_owned() }
    }

    /// `affiant run -k ../k.pem -o ../a.json` and these arguments.
    pub(crate) fn capture<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Call {
        let mut call = self.affiant(["run", "-k", "../k.pem", "-o", "../a.json"]);
        call.command.args(args);
        call
    }

    /// The statement in the envelope `a.json`.
    pub(crate) fn statement(&self) -> Value {
        statement_of(&self.beside("a.json"))
    }

    /// The predicate of the entry whose type contains `kind`.
    pub(crate) fn predicate(&self, kind: &str) -> Value {
        let statement = self.statement();
        statement["predicate"]["attestations"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|entry| entry["type"].as_str().expect("a type").contains(kind))
            .unwrap_or_else(|| panic!("no {kind} in the collection"))["attestation"]
            .clone()
    }

    /// All files and folders of the place, sorted.
    pub(crate) fn all_paths(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path.clone());
                }
                found.push(path);
            }
        }
        found.sort();
        found
    }

    /// All files below the home and beside the working directory that affiant wrote, with decoded payloads.
    pub(crate) fn everything_written(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in walkdir(self.dir.path()) {
            if entry.starts_with(self.work()) {
                continue;
            }
            let bytes = std::fs::read(&entry).expect("reads");
            if let Ok(value) = serde_json::from_slice::<Value>(&bytes)
                && let Some(payload) = value["payload"].as_str()
            {
                found.push((entry.with_extension("payload"), decode(payload)));
            }
            found.push((entry, bytes));
        }
        found
    }
}

fn walkdir(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(walkdir(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn decode(base64: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(base64).expect("base64")
}

/// The statement in an envelope.
pub(crate) fn statement_of(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let envelope: Value = serde_json::from_slice(&text).expect("an envelope");
    serde_json::from_slice(&decode(envelope["payload"].as_str().expect("a payload"))).expect("a statement")
}

/// A call that has not run yet.
pub(crate) struct Call {
    command: Command,
    input: Option<Vec<u8>>,
    folder: PathBuf,
}

impl Call {
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Further arguments.
    pub(crate) fn with<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self.command.stdin(Stdio::piped());
        self
    }

    /// The command itself, for tests that start it their own way.
    pub(crate) fn command(self) -> Command {
        self.command
    }

    #[must_use]
    pub(crate) fn run(mut self) -> Ended {
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("affiant starts");
        if let Some(input) = self.input.take() {
            let mut stdin = child.stdin.take().expect("piped");
            std::thread::spawn(move || stdin.write_all(&input));
        }
        let output = child.wait_with_output().expect("affiant ends");
        Ended { output, folder: self.folder }
    }
}

/// A call that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    output: Output,
    folder: PathBuf,
}

impl Ended {
    fn show(&self, bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).replace(&self.folder.display().to_string(), "[DIR]")
    }

    /// Standard error with the folder's path replaced by `[DIR]`.
    pub(crate) fn stderr_text(&self) -> String {
        self.show(&self.output.stderr)
    }

    pub(crate) fn stdout_text(&self) -> String {
        self.show(&self.output.stdout)
    }

    pub(crate) fn exit_code(&self) -> i32 {
        self.output.status.code().expect("not ended by a signal")
    }

    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(
            self.output.status.code(),
            Some(code),
            "stdout: {}\nstderr: {}",
            self.stdout_text(),
            self.stderr_text()
        );
        self
    }

    #[track_caller]
    pub(crate) fn stdout(self, text: &str) -> Self {
        assert_eq!(self.stdout_text(), text, "stderr: {}", self.stderr_text());
        self
    }

    #[track_caller]
    pub(crate) fn stderr(self, text: &str) -> Self {
        assert_eq!(self.stderr_text(), text);
        self
    }

    /// What must not stand in stderr.
    #[track_caller]
    pub(crate) fn stderr_lacks(self, part: &str) -> Self {
        let text = self.stderr_text();
        assert!(!text.contains(part), "`{part}` is in: {text}");
        self
    }

    /// Each of these stands in standard error.
    #[track_caller]
    pub(crate) fn stderr_has(self, parts: &[&str]) -> Self {
        let text = self.stderr_text();
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
        self
    }
}

/// Says loudly that a part of a test was left out.
#[expect(clippy::print_stderr, reason = "this is how a test speaks")]
pub(crate) fn left_out(why: &str) {
    eprintln!("LEFT OUT: {why}");
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
