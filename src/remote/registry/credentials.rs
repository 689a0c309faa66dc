//! Passwords for registries, as docker and podman keep them.
//!
//! Sources: docker's `config.json` (`auths`, `credHelpers`, `credsStore`) and its credential helper protocol;
//! containers-auth.json(5) for names with a path.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Longest file of passwords, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// Longest answer of a helper, in bytes.
const MAX_HELPER: u64 = 256 * 1024;
/// Characters of what a failing helper says that are shown, and longest word of it: a longer one may be a token.
const MAX_WORDS: usize = 200;
const MAX_WORD: usize = 30;
/// How long a helper may take.
const HELPER: Duration = Duration::from_secs(30);
/// How long the end of its answer is waited for when it has ended.
const BEHIND: Duration = Duration::from_secs(1);
/// Under which docker keeps the password of its hub.
const HUB: [&str; 3] = ["https://index.docker.io/v1/", "index.docker.io", "docker.io"];

/// What proves who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that a token service takes for another.
    Identity(String),
    /// A token that the registry takes itself.
    Bearer(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

impl Credential {
    /// The `Authorization` header of a name and a password.
    pub(super) fn basic(&self) -> Option<String> {
        let Self::Password { user, password } = self else { return None };
        Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }
}

/// Why a password cannot be had. Nothing of it is in the text.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file of passwords cannot be read.
    #[error("{} cannot be read: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A helper gave none.
    #[error("docker-credential-{helper}, named in {}, gives no password: {reason}", from)]
    Helper {
        /// Its name.
        helper: String,
        /// Which member of which file names it.
        from: String,
        /// Why.
        reason: String,
    },
}

/// Where passwords are, in the order in which they are looked for.
#[derive(Default)]
pub struct Credentials {
    given: Option<(String, Credential)>,
    files: Vec<File>,
    unread: Vec<PathBuf>,
}

struct File {
    path: PathBuf,
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default, deserialize_with = "or_null")]
    auths: BTreeMap<String, Auth>,
    #[serde(default, deserialize_with = "or_null")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

/// What a tool writes as `null` is empty.
fn or_null<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(rename = "auth")]
    both: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Credentials {
    /// One for one registry, host and port; no other is told it.
    pub fn given(registry: &str, credential: Credential) -> Self {
        Self { given: Some((registry.to_owned(), credential)), ..Self::default() }
    }

    fn given_for(&self, registry: &str) -> Option<&Credential> {
        let (of, credential) = self.given.as_ref()?;
        of.eq_ignore_ascii_case(registry).then_some(credential)
    }

    /// Those of the files that are there, the first with something for a registry counts. Default places that may not be
    /// read are passed over ([`Self::unread`]); where the user has named the first (`is_named`), that is an error of it.
    pub fn read(paths: &[PathBuf], is_named: bool) -> Result<Self, CredentialError> {
        let (mut files, mut unread) = (Vec::new(), Vec::new());
        for (number, path) in paths.iter().enumerate() {
            let failed = |reason: String| CredentialError::File { path: path.clone(), reason };
            let mut bytes = Vec::new();
            match std::fs::File::open(path) {
                Ok(file) => {
                    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                // A default place of another user, as where a container has HOME=/root and runs as somebody else.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !(is_named && number == 0) => {
                    unread.push(path.clone());
                    continue;
                }
                Err(error) => return Err(failed(error.to_string())),
            }
            if bytes.len() as u64 > MAX_FILE {
                return Err(failed(format!("more than {MAX_FILE} bytes")));
            }
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            // Line and column only: the words around may be a password.
            let config = serde_json::from_slice(&bytes).map_err(|error| {
                failed(format!("it is no such JSON, at line {} column {}", error.line(), error.column()))
            })?;
            files.push(File { path: path.clone(), config });
        }
        Ok(Self { given: None, files, unread })
    }

    /// Files that may not be read, and were passed over.
    pub fn unread(&self) -> &[PathBuf] {
        &self.unread
    }

    /// Whether nothing at all is known for a repository.
    pub(super) fn is_empty_for(&self, registry: &str, repository: &str) -> bool {
        self.given_for(registry).is_none()
            && self.files.iter().all(|file| {
                file.config.creds_store.is_none()
                    && !names(registry, repository)
                        .iter()
                        .any(|name| file.config.auths.contains_key(name) || file.config.cred_helpers.contains_key(name))
            })
    }

    /// The password for a repository, `None` where there is none.
    pub fn of(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        if let Some(given) = self.given_for(registry) {
            return Ok(Some(given.clone()));
        }
        let names = names(registry, repository);
        for File { path, config } in &self.files {
            let helper = names.iter().find_map(|name| Some((name, config.cred_helpers.get(name)?)));
            if let Some((name, helper)) = helper {
                let from = format!("`credHelpers` of {}", path.display());
                if let Some(found) = from_helper(helper, name, &from)? {
                    return Ok(Some(found));
                }
                continue;
            }
            for name in &names {
                let Some(auth) = config.auths.get(name) else { continue };
                let failed = |reason: &str| CredentialError::File {
                    path: path.clone(),
                    reason: format!("`auths`, `{name}`: {reason}"),
                };
                if let Some(found) = of_auth(auth).map_err(failed)? {
                    return Ok(Some(found));
                }
            }
            if let Some(store) = config.creds_store.as_deref().filter(|store| !store.is_empty()) {
                let from = format!("`credsStore` of {}", path.display());
                for name in &names {
                    if let Some(found) = from_helper(store, name, &from)? {
                        return Ok(Some(found));
                    }
                }
            }
        }
        Ok(None)
    }
}

/// Under which names a password may be kept, the closest first.
fn names(registry: &str, repository: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut path = Some(repository);
    while let Some(part) = path {
        names.push(format!("{registry}/{part}"));
        path = part.rsplit_once('/').map(|(front, _)| front);
    }
    names.push(registry.to_owned());
    if registry == HUB[1] {
        names.extend(HUB.map(str::to_owned));
    } else {
        names.push(format!("{registry}/"));
        for scheme in ["https://", "http://"] {
            names.extend(["", "/", "/v2/", "/v1/"].map(|rest| format!("{scheme}{registry}{rest}")));
        }
    }
    names
}

fn of_auth(auth: &Auth) -> Result<Option<Credential>, &'static str> {
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(token) = some(&auth.registrytoken) {
        return Ok(Some(Credential::Bearer(token)));
    }
    if let Some(token) = some(&auth.identitytoken) {
        return Ok(Some(Credential::Identity(token)));
    }
    if let Some(both) = some(&auth.both) {
        let text = STANDARD.decode(both.trim()).map_err(|_| "`auth` is no base64")?;
        let text = String::from_utf8(text).map_err(|_| "`auth` is no text")?;
        let (user, password) = text.split_once(':').ok_or("`auth` has no colon between name and password")?;
        return Ok(Some(Credential::Password {
            user: user.to_owned(),
            // Docker once padded with zeros.
            password: password.trim_end_matches('\0').to_owned(),
        }));
    }
    Ok(some(&auth.username)
        .map(|user| Credential::Password { user, password: auth.password.clone().unwrap_or_default() }))
}

/// Asks `docker-credential-<helper> get` on the search path of this process.
fn from_helper(helper: &str, server: &str, from: &str) -> Result<Option<Credential>, CredentialError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }

    let failed = |reason: &str| CredentialError::Helper {
        helper: helper.to_owned(),
        from: from.to_owned(),
        reason: reason.to_owned(),
    };
    if helper.contains('/') || helper.is_empty() {
        return Err(failed("that is no name of a helper"));
    }
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(&format!("it cannot be started: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read what it is asked will say so by its answer.
        let _ = stdin.write_all(server.as_bytes());
    }
    let pieces = read_aside(child.stdout.take());
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < HELPER => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(&format!("it does not end within {} s", HELPER.as_secs())));
            }
            Err(error) => return Err(failed(&error.to_string())),
        }
    };
    // Something that it started may hold its stdout open for ever; what it said itself was said before it ended.
    let ended = Instant::now();
    let mut bytes = Vec::new();
    while let Ok(piece) = pieces.recv_timeout(BEHIND.saturating_sub(ended.elapsed())) {
        bytes.extend(piece);
    }
    if !status.success() {
        let said = String::from_utf8_lossy(&bytes);
        // The protocol's own words for "none".
        if said.contains("credentials not found") {
            return Ok(None);
        }
        let said = words_of(&said);
        return Err(failed(&format!("it ends with an error{}{said}", if said.is_empty() { "" } else { ": " })));
    }
    let answer: Answer =
        serde_json::from_slice(&bytes).map_err(|_| failed("its answer is not that of the protocol"))?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(if answer.username == "<token>" {
        Credential::Identity(answer.secret)
    } else {
        Credential::Password { user: answer.username, password: answer.secret }
    }))
}

/// The first line of what a helper said as it failed, bounded. What looks like an answer may hold a password, and is not
/// shown; neither is a word that is long, or has an equals sign or a name and password before a host.
fn words_of(said: &str) -> String {
    let Some(line) = said.lines().map(str::trim).find(|line| !line.is_empty()) else { return String::new() };
    if line.starts_with(['{', '[']) || said.contains("\"Secret\"") {
        return String::new();
    }
    let is_plain = |word: &str| word.chars().count() <= MAX_WORD && !word.contains(['=', '@']);
    let words = line.split_whitespace().map(|word| if is_plain(word) { word } else { "…" });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect()
}

/// Reads a stream in a thread, which ends when nobody waits for it any more.
fn read_aside(stream: Option<impl io::Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, pieces) = mpsc::channel();
    std::thread::spawn(move || {
        let Some(mut stream) = stream.map(|stream| stream.take(MAX_HELPER + 1)) else { return };
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count @ 1..) if sender.send(buffer[..count].to_vec()).is_ok() => {}
                _ => return,
            }
        }
    });
    pieces
}

/// The files that docker and podman look in, in podman's order.
pub fn credential_files(
    auth_file: Option<&Path>,
    docker_config: Option<&Path>,
    runtime_folder: Option<&Path>,
    config_folder: Option<&Path>,
    home: Option<&Path>,
) -> Vec<PathBuf> {
    if let Some(file) = auth_file {
        return vec![file.to_owned()];
    }
    let mut files = Vec::new();
    let mut add = |folder: Option<PathBuf>, rest: &str| files.extend(folder.map(|folder| folder.join(rest)));
    add(docker_config.map(Path::to_owned).or_else(|| home.map(|home| home.join(".docker"))), "config.json");
    add(runtime_folder.map(Path::to_owned), "containers/auth.json");
    add(config_folder.map(Path::to_owned).or_else(|| home.map(|home| home.join(".config"))), "containers/auth.json");
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.json");
        std::fs::write(&path, text).expect("written");
        (folder, vec![path, "/nonexistent/auth.json".into()])
    }

    fn password(user: &str, password: &str) -> Credential {
        Credential::Password { user: user.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn the_closest_name_counts() {
        // ann:one, ben:two
        let (_folder, paths) = written(
            r#"{"auths": {"r.example": {"auth": "YW5uOm9uZQ=="}, "r.example/team": {"auth": "YmVuOnR3bw=="},
                "https://index.docker.io/v1/": {"username": "hub", "password": "p"},
                "t.example": {"identitytoken": "it"}, "u.example": {"registrytoken": "rt"}, "v.example": {}}}"#,
        );
        let credentials = Credentials::read(&paths, true).expect("read");
        let of = |registry: &str, name: &str| credentials.of(registry, name).expect("no helper");
        assert_eq!(of("r.example", "app"), Some(password("ann", "one")));
        assert_eq!(of("r.example", "team/app"), Some(password("ben", "two")));
        assert_eq!(of("r.example", "teams/app"), Some(password("ann", "one")));
        assert_eq!(of("index.docker.io", "library/alpine"), Some(password("hub", "p")));
        assert_eq!(of("t.example", "app"), Some(Credential::Identity("it".to_owned())));
        assert_eq!(of("u.example", "app"), Some(Credential::Bearer("rt".to_owned())));
        assert_eq!(of("v.example", "app"), None);
        assert_eq!(of("w.example", "app"), None);
        assert!(credentials.is_empty_for("w.example", "app") && !credentials.is_empty_for("r.example", "app"));
    }

    #[test]
    fn nothing_of_a_broken_file_is_shown() {
        for text in [r#"{"auths": {"r.example": {"auth": "hunter2 hunter2"}}}"#, "{hunter2", r#"{"auths": "hunter2"}"#]
        {
            let (_folder, paths) = written(text);
            let error = match Credentials::read(&paths, true) {
                Err(error) => error,
                Ok(credentials) => credentials.of("r.example", "app").expect_err("no password"),
            };
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(error.to_string().contains("config.json"), "{error}");
        }
        assert!(!format!("{:?}", password("a", "hunter2")).contains("hunter2"));
    }

    #[test]
    fn helpers_are_named_not_placed() {
        for helper in ["../x", "/bin/x", ""] {
            assert!(from_helper(helper, "r.example", "x").is_err());
        }
        let (_folder, paths) = written(r#"{"credsStore": "that-is-not-there"}"#);
        let error = Credentials::read(&paths, true).expect("read").of("r.example", "app").expect_err("no such helper");
        let text = error.to_string();
        assert!(text.contains("docker-credential-that-is-not-there, named in `credsStore` of /"), "{text}");
        assert!(text.contains("config.json"), "{text}");
    }

    #[test]
    fn what_a_failing_helper_says_is_shown_without_secrets() {
        assert_eq!(
            words_of("\n  error getting credentials: locked \x1b[1m\nmore"),
            "error getting credentials: locked  [1m"
        );
        assert_eq!(words_of("no password=hunter2 for ann:hunter2@host"), "no … for …");
        assert_eq!(words_of(&format!("bad {}", "t".repeat(31))), "bad …");
        assert_eq!(words_of(r#"{"Username":"ann","Secret":"hunter2"}"#), "");
        assert_eq!(words_of("note\n{\"Secret\": \"hunter2\"}"), "");
        assert!(words_of(&"ab ".repeat(1000)).chars().count() <= MAX_WORDS);
    }

    #[test]
    fn files_of_other_tools_are_read() {
        for text in [r#"{"auths": null}"#, r#"{"credHelpers": null, "credsStore": null}"#, "{}"] {
            let (_folder, paths) = written(text);
            let credentials = Credentials::read(&paths, false).expect(text);
            assert_eq!(credentials.of("r.example", "app").expect("no helper"), None);
        }
        for name in
            ["r.example/", "http://r.example", "https://r.example/", "https://r.example", "http://r.example/v2/"]
        {
            let (_folder, paths) = written(&format!(r#"{{"auths": {{"{name}": {{"auth": "YW5uOm9uZQ=="}}}}}}"#));
            let credentials = Credentials::read(&paths, false).expect(name);
            assert_eq!(credentials.of("r.example", "app").expect("no helper"), Some(password("ann", "one")), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_default_file_of_somebody_else_is_passed_over() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, paths) = written("{}");
        std::fs::set_permissions(&paths[0], std::fs::Permissions::from_mode(0o000)).expect("chmod");
        if std::fs::File::open(&paths[0]).is_ok() {
            return; // Whoever is root reads everything.
        }
        assert_eq!(Credentials::read(&paths, false).expect("passed over").unread(), &paths[..1]);
        assert!(Credentials::read(&paths, true).is_err());
        drop(folder);
    }
}
