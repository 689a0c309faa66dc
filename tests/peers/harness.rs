//! Peers, places to work in, and evidence to look at.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use serde_json::Value;

/// Variables by which the peers' clients find their servers; `setup env` sets them.
const CLIENTS: &[&str] = &[
    "BUILDKIT_HOST",
    "BUILDX_BUILDER",
    "BUILDX_CONFIG",
    "DOCKER_API_VERSION",
    "DOCKER_CONFIG",
    "DOCKER_HOST",
    "SYFT_CHECK_FOR_APP_UPDATE",
];
const SERVERS: &[&str] = &[
    "buildkitd",
    "dockerd",
    "registry",
    "registry-password",
    "registry-token",
    "registry-referrers",
    "rekor1",
    "sigstore",
];
/// Servers that cost minutes to build: their tests run where they are, and are never required.
const HEAVY: &[&str] = &["rekor1"];

/// The fixed clock of most tests.
pub(crate) const EPOCH: &str = "1700000000";

pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// affiant's folder and the peers' before the system's, and nothing else: what the tests run is what `setup` installed.
fn path() -> OsString {
    let affiant = Path::new(env!("CARGO_BIN_EXE_affiant")).parent().expect("a file has a folder");
    let peers = variable("AFFIANT_PEERS_BIN").map(PathBuf::from);
    let system = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let all = [affiant.to_owned()].into_iter().chain(peers).chain(system);
    std::env::join_paths(all).expect("no folder of these has a colon")
}

/// Whether all these servers and programs are there; says what is not.
#[must_use]
pub(crate) fn peers(test: &str, needed: &[&str]) -> bool {
    let running = variable("AFFIANT_PEERS_RUNNING").unwrap_or_default();
    let missing: Vec<&str> = needed
        .iter()
        .copied()
        .filter(|name| {
            if SERVERS.contains(name) {
                !running.split(' ').any(|server| server == *name)
            } else {
                !std::env::split_paths(&path()).any(|folder| folder.join(name).exists())
            }
        })
        .collect();
    if missing.is_empty() {
        return true;
    }
    let line = format!("LEFT OUT: {test}: {} not there (tests/peers/README.md)", missing.join(", "));
    let is_heavy = missing.iter().all(|name| HEAVY.contains(name));
    assert!(is_heavy || variable("AFFIANT_PEERS_REQUIRED").is_none(), "{line}");
    // Not `eprintln!`: the test runner keeps that to itself when the test passes.
    let _ = writeln!(std::io::stderr(), "{line}");
    false
}

/// Says that a part of the running test is left out.
pub(crate) fn left_out(why: &str) {
    let _ = writeln!(std::io::stderr(), "LEFT OUT: {}: {why}", std::thread::current().name().unwrap_or("a test"));
}

/// Leaves the test when a peer is missing.
macro_rules! need {
    ($($name:literal),+ $(,)?) => {
        if !crate::harness::peers(
            std::thread::current().name().unwrap_or("a test"),
            &[$($name),+],
        ) {
            return;
        }
    };
}
pub(crate) use need;

/// `localhost:PORT` of the registry that runs.
pub(crate) fn registry() -> String {
    variable("AFFIANT_PEERS_REGISTRY").expect("the registry runs")
}

/// A folder with a home, a key and a git repository that holds the example image.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    epoch: Option<&'static str>,
}

impl Place {
    /// The clock is fixed; the key is Ed25519, so that signatures repeat.
    pub(crate) fn new() -> Self {
        let place = Self::on_the_real_clock();
        place.affiant("key generate --kind ed25519 --no-password -o ../k.pem").code(0);
        Self { epoch: Some(EPOCH), ..place }
    }

    /// Without a key and with the machine's clock.
    pub(crate) fn on_the_real_clock() -> Self {
        let place = Self { dir: tempfile::tempdir().expect("a temporary folder"), epoch: None };
        place.refresh();
        place
    }

    /// Home and working directory as they were in the beginning, at the same paths; keys and evidence beside them stay.
    pub(crate) fn refresh(&self) {
        for name in ["home", "data", "work"] {
            let folder = self.beside(name);
            if folder.exists() {
                std::fs::remove_dir_all(&folder).expect("removes a folder");
            }
            std::fs::create_dir(folder).expect("makes a folder");
        }
        self.sh(&format!(
            "cp -R '{}/.' . && git init -q -b main && git add . && git commit -qm 'the example image'",
            fixture("hello-image").display()
        ));
    }

    /// The working directory.
    pub(crate) fn work(&self) -> PathBuf {
        self.beside("work")
    }

    /// A path beside the working directory.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A name that no other place has.
    pub(crate) fn unique(&self) -> String {
        let name = self.dir.path().file_name().expect("a folder has a name").to_string_lossy();
        // Names of images have small letters and digits only; the process's number keeps them apart.
        let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("{}{}", letters.to_lowercase(), std::process::id())
    }

    /// A file of the working directory as JSON.
    pub(crate) fn json(&self, name: &str) -> Value {
        let bytes = std::fs::read(self.work().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.work()).env_clear().stdin(Stdio::null());
        command.envs(CLIENTS.iter().filter_map(|name| Some((*name, variable(name)?))));
        command
            .env("PATH", path())
            .env("HOME", self.beside("home"))
            .env("AFFIANT_HOME", self.beside("data"))
            .env("GIT_AUTHOR_NAME", "Ada")
            .env("GIT_AUTHOR_EMAIL", "ada@example.org")
            .env("GIT_COMMITTER_NAME", "Ben")
            .env("GIT_COMMITTER_EMAIL", "ben@example.org")
            .env("GIT_AUTHOR_DATE", "1690000000 +0000")
            .env("GIT_COMMITTER_DATE", "1690000000 +0000");
        if let Some(epoch) = self.epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        command
    }

    /// Standard output of a script that ends with 0, without the last line's end.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        let output = self.command("sh").args(["-euc", script]).output().expect("a shell is there");
        let ended = Ended::of(&output).code(0);
        ended.stdout.trim_end_matches('\n').to_owned()
    }

    /// affiant with the words of a line.
    #[must_use]
    pub(crate) fn affiant(&self, line: &str) -> Ended {
        self.affiant_with(&words(line), &[])
    }

    #[must_use]
    pub(crate) fn affiant_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let mut command = self.command(env!("CARGO_BIN_EXE_affiant"));
        Ended::of(&command.args(arguments).envs(variables.iter().copied()).output().expect("affiant starts"))
    }

    /// `affiant run` of a command line with the place's key: the evidence of a run that ends with 0.
    #[track_caller]
    pub(crate) fn run(&self, step: &str, attestors: &str, line: &str) -> Evidence {
        self.affiant(&format!("run -k ../k.pem -o ../evidence.json -s {step} -a {attestors} -- {line}")).code(0);
        self.evidence("evidence.json")
    }

    /// What the envelope of this name beside the working directory says.
    #[track_caller]
    pub(crate) fn evidence(&self, name: &str) -> Evidence {
        Evidence::read(&self.beside(name))
    }

    /// All files beside the working directory: home, archive, evidence, reports.
    pub(crate) fn everything_written(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                if path == self.work() {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push((path.clone(), std::fs::read(&path).expect("reads")));
                }
            }
        }
        found
    }
}

/// The words of a line without quotes.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn passed(&self) -> bool {
        self.code == Some(0)
    }

    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    #[allow(clippy::must_use_candidate)] // often the code is all that matters
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn stdout_has(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stdout.contains(part), "`{part}` is not in: {}", self.stdout);
        }
    }
}

/// A signed collection.
pub(crate) struct Evidence {
    pub(crate) envelope: Value,
    /// The payload's bytes.
    pub(crate) payload: Vec<u8>,
    pub(crate) statement: Value,
}

pub(crate) fn decode(base64: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(base64.as_str().expect("text")).expect("base64")
}

/// `git` of `https://witness.dev/attestations/git/v0.1`; the SBOM formats' types have names of their own.
pub(crate) fn short(kind: &str) -> &str {
    match kind {
        "https://cyclonedx.org/bom" => "cyclonedx",
        "https://spdx.dev/Document" => "spdx",
        _ => kind
            .strip_prefix("https://witness.dev/attestations/")
            .and_then(|rest| rest.strip_suffix("/v0.1"))
            .or_else(|| kind.strip_prefix("https://aflock.ai/attestations/")?.split('/').next())
            .unwrap_or(kind),
    }
}

impl Evidence {
    #[track_caller]
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let envelope: Value = serde_json::from_slice(&bytes).expect("an envelope");
        let payload = decode(&envelope["payload"]);
        let statement = serde_json::from_slice(&payload).expect("a statement");
        Self { envelope, payload, statement }
    }

    fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        let list = self.statement["predicate"]["attestations"].as_array().expect("a list");
        list.iter().map(|entry| (short(entry["type"].as_str().expect("a type")), &entry["attestation"]))
    }

    /// Short names of the entries, in order.
    pub(crate) fn kinds(&self) -> Vec<&str> {
        self.entries().map(|(kind, _)| kind).collect()
    }

    /// The only predicate of this short name.
    #[track_caller]
    pub(crate) fn predicate(&self, kind: &str) -> &Value {
        let all: Vec<_> = self.predicates(kind);
        assert_eq!(all.len(), 1, "{kind} among {:?}", self.kinds());
        all[0]
    }

    pub(crate) fn predicates(&self, kind: &str) -> Vec<&Value> {
        self.entries().filter(|(name, _)| *name == kind).map(|(_, predicate)| predicate).collect()
    }

    /// Digests of the subjects (SHA-256, or the commit's SHA-1) by name, the type's URI as its short name:
    /// `docker imagedigest:…`.
    pub(crate) fn subjects(&self) -> BTreeMap<String, String> {
        let list = self.statement["subject"].as_array().expect("a list");
        let found: BTreeMap<_, _> = list
            .iter()
            .map(|subject| {
                let name = subject["name"].as_str().expect("a name");
                let kinds: BTreeSet<_> = self.statement["predicate"]["attestations"]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|entry| entry["type"].as_str().expect("a type"))
                    .collect();
                let kind = kinds.into_iter().find(|kind| name.starts_with(&format!("{kind}/")));
                let kind = kind.unwrap_or_else(|| panic!("{name} belongs to no entry"));
                let digests = subject["digest"].as_object().expect("digests");
                let digest = digests.get("sha256").or_else(|| digests.get("sha1")).expect("a digest");
                (format!("{} {}", short(kind), &name[kind.len() + 1..]), digest.as_str().expect("hex").to_owned())
            })
            .collect();
        assert_eq!(found.len(), list.len(), "a subject stands twice");
        found
    }

    /// Values behind the colon of the subjects that begin with this.
    pub(crate) fn subjects_of(&self, prefix: &str) -> BTreeSet<String> {
        let subjects = self.subjects();
        subjects.keys().filter_map(|name| name.strip_prefix(prefix)).map(str::to_owned).collect()
    }

    /// Digests of the uncompressed layers in the only OCI predicate, from the lowest up.
    #[track_caller]
    pub(crate) fn diff_ids(&self) -> Vec<&str> {
        let list = self.predicate("oci")["diffids"].as_array().expect("a list");
        list.iter().map(|one| text(&one["sha256"])).collect()
    }
}

/// The hexadecimal digits of `sha256:…`.
#[track_caller]
pub(crate) fn hex(digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").unwrap_or_else(|| panic!("{digest} is no SHA-256 digest"));
    assert_eq!(hex.len(), 64, "{digest}");
    hex.to_owned()
}

/// The text of a JSON string.
#[track_caller]
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
