//! What the process finds around itself: variables, clock, host, container engine.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
#[cfg(feature = "remote")]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use affiant_core::attestor::{Engine, Environment, Host, Network};
use affiant_core::clock::{Clock, Fixed};
use affiant_core::image::{Reference, Repository};
use affiant_core::redact::{Redactor, VariableMask};
use affiant_core::snapshot;
use jiff::Timestamp;

use super::ci;
use super::failure::Failure;
#[cfg(feature = "remote")]
use super::failure::Kind;

/// A variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The names of all variables that begin like this and are not empty, sorted.
pub(crate) fn variables(prefix: &str) -> Vec<String> {
    let set = std::env::vars_os().filter(|(_, value)| !value.is_empty());
    let mut names: Vec<_> = set.filter_map(|(name, _)| name.into_string().ok()).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    names
}

/// All variables, but for the inputs of a CI step, which are for us and may hold secrets.
pub(crate) fn environment() -> Environment {
    Environment(
        std::env::vars_os()
            .filter(|(name, _)| name != ci::INPUTS)
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect(),
    )
}

/// The secret variables whose value a document holds, for a message: their names.
pub(crate) fn secrets_in(document: &[u8]) -> String {
    let names = Redactor::variables_in(&environment(), &VariableMask::default(), document);
    match names.as_slice() {
        [] => "a secret variable of this environment".to_owned(),
        names => format!("the secret variable {}", names.join(" and of ")),
    }
}

/// The values of sensitive variables that are not text: what [`environment`] holds of them is not what the command
/// prints.
pub(crate) fn raw_secrets(mask: &VariableMask) -> Vec<Vec<u8>> {
    std::env::vars_os()
        .filter(|(name, value)| value.to_str().is_none() && mask.is_sensitive(&name.to_string_lossy()))
        .map(|(_, value)| value.into_vec())
        .collect()
}

/// What is shorter, in bytes, may stand in another text by accident.
const TELLING: usize = 16;

/// The variables that hold one of these secrets, also within another text, with the one of this name where it is set.
pub(crate) fn holders(name: &str, secrets: &[Vec<u8>]) -> Vec<String> {
    let holds = |value: &std::ffi::OsStr| {
        use std::os::unix::ffi::OsStrExt as _;
        let value = value.as_bytes();
        secrets.iter().any(|secret| {
            let is_within = || secret.len() >= TELLING && value.windows(secret.len()).any(|part| part == secret);
            value.trim_ascii() == secret.as_slice() || value == secret.as_slice() || is_within()
        })
    };
    let held = std::env::vars_os().filter(|(own, value)| own == name || holds(value));
    held.filter_map(|(name, _)| name.into_string().ok()).collect()
}

struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The system's clock, or the fixed one of `SOURCE_DATE_EPOCH` (reproducible-builds.org specification: seconds since
/// 1970 in decimal).
pub(crate) fn clock() -> Result<Box<dyn Clock>, Failure> {
    let Some(epoch) = variable("SOURCE_DATE_EPOCH") else { return Ok(Box::new(System)) };
    epoch
        .to_str()
        .and_then(|text| text.parse().ok())
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map(|time| Box::new(Fixed(time)) as Box<dyn Clock>)
        .ok_or_else(|| {
            Failure::usage(format!("SOURCE_DATE_EPOCH={}: not a number of seconds since 1970", epoch.display()))
        })
}

/// The real clock, which snapshots compare with the times of files.
pub(crate) fn real_clock() -> snapshot::Timestamp {
    let now = Timestamp::now();
    snapshot::Timestamp { seconds: now.as_second(), nanos: u32::try_from(now.subsec_nanosecond()).unwrap_or(0) }
}

/// The real time.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Other machines, unless they may not be asked. Proxies and certificate authorities are those of the environment.
/// Questions end well before `limit`, in which whoever asks must be ready.
#[cfg(feature = "remote")]
pub(crate) fn network(offline: bool, limit: Duration) -> Network {
    use affiant_remote::http::{Client, Settings};
    if offline {
        return Network::Closed("--offline was given");
    }
    let usual = http_settings();
    let whole = usual.whole.min(limit / 2);
    Network::Open(Arc::new(Client::new(Settings { whole, attempt: usual.attempt.min(whole / 2), ..usual })))
}

/// How other machines are reached: by the proxies and certificate authorities of the environment.
#[cfg(feature = "remote")]
pub(crate) fn http_settings() -> affiant_remote::http::Settings {
    let text = |names: &[&str]| names.iter().find_map(|name| variable(name)?.into_string().ok());
    affiant_remote::http::Settings {
        proxy: text(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
        no_proxy: text(&["NO_PROXY", "no_proxy"]),
        authorities: variable("SSL_CERT_FILE").map(PathBuf::from),
        authorities_folder: variable("SSL_CERT_DIR").map(PathBuf::from),
        ..affiant_remote::http::Settings::default()
    }
}

/// How registries are asked.
#[derive(Clone, PartialEq)]
pub(crate) struct Asking {
    /// Registries that may be asked without TLS.
    pub(crate) plain: Vec<String>,
    /// Name and password for the one of them that is asked.
    pub(crate) password: Option<(String, String)>,
    /// A token for the one of them that is asked.
    pub(crate) token: Option<String>,
    /// Longest piece in which a blob is sent, in bytes; all at once without.
    pub(crate) chunk: Option<u64>,
}

/// Registries that are asked. Those that are asked in the same way share connections, passwords and tokens, so that many
/// images cost little more than one.
#[derive(Default)]
pub(crate) struct OpenRegistries {
    /// The registry that the password or token of the command line is for.
    #[cfg(feature = "remote")]
    bound: std::sync::Mutex<Option<String>>,
    #[cfg(feature = "remote")]
    opened: std::sync::Mutex<Vec<(Asking, Arc<affiant_remote::registry::Registries>)>>,
}

impl OpenRegistries {
    /// A repository in a registry. Passwords are those of docker and podman, unless one is given.
    #[cfg(feature = "remote")]
    pub(crate) fn repository(&self, asking: &Asking, reference: &Reference) -> Result<Arc<dyn Repository>, Failure> {
        use affiant_remote::http::{Client, Settings};
        use affiant_remote::registry::{Credential, Credentials, Registries};
        if asking.password.is_some() || asking.token.is_some() {
            self.bind(&reference.registry)?;
        }
        let mut opened = self.opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, registries)) = opened.iter().find(|(one, _)| one == asking) {
            return Ok(Arc::new(registries.repository(reference)));
        }
        let credentials = match (&asking.token, &asking.password) {
            (Some(token), _) => Credentials::given(&reference.registry, Credential::Bearer(token.clone())),
            (None, Some((user, password))) => {
                let password = Credential::Password { user: user.clone(), password: password.clone() };
                Credentials::given(&reference.registry, password)
            }
            (None, None) => passwords()?,
        };
        let client = Client::new(Settings { keep: true, plain: asking.plain.clone(), ..http_settings() });
        let registries = Arc::new(Registries::new(client, credentials, asking.plain.clone(), asking.chunk));
        opened.push((asking.clone(), Arc::clone(&registries)));
        Ok(Arc::new(registries.repository(reference)))
    }

    /// What proves who asks is for one registry: with a second one nobody knows whose it is, and each would be told it.
    #[cfg(feature = "remote")]
    fn bind(&self, registry: &str) -> Result<(), Failure> {
        let mut bound = self.bound.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match bound.as_deref() {
            Some(first) if !first.eq_ignore_ascii_case(registry) => Err(Failure::usage(format!(
                "--registry-username, --registry-password and --registry-token are for one registry, and {first} and {registry} are named"
            ))
            .hint("`docker login HOST` for each of them, or name a file of passwords: REGISTRY_AUTH_FILE=auth.json")),
            _ => {
                *bound = Some(registry.to_owned());
                Ok(())
            }
        }
    }

    /// A build without the remote crate asks nobody.
    #[cfg(not(feature = "remote"))]
    #[expect(clippy::unused_self, reason = "as where registries are asked")]
    pub(crate) fn repository(&self, _: &Asking, _: &Reference) -> Result<Arc<dyn Repository>, Failure> {
        Err(Failure::usage("this affiant was built without network"))
    }
}

/// The passwords of registries, as docker and podman keep them.
#[cfg(feature = "remote")]
fn passwords() -> Result<affiant_remote::registry::Credentials, Failure> {
    use affiant_remote::registry::{Credentials, credential_files};
    let path = |name: &str| variable(name).map(PathBuf::from);
    let files = credential_files(
        path("REGISTRY_AUTH_FILE").as_deref(),
        path("DOCKER_CONFIG").as_deref(),
        path("XDG_RUNTIME_DIR").as_deref(),
        path("XDG_CONFIG_HOME").as_deref(),
        path("HOME").as_deref(),
    );
    Credentials::read(&files, path("REGISTRY_AUTH_FILE").or_else(|| path("DOCKER_CONFIG")).is_some())
        .map_err(|error| Failure::because(Kind::NoAnswer, "the passwords of registries cannot be read", &error))
}

/// Whether the passwords of registries can be read. They are not kept: a command may log in.
#[cfg(feature = "remote")]
pub(crate) fn check_passwords() -> Result<(), Failure> {
    passwords().map(drop)
}

/// A build without the remote crate reads none.
#[cfg(not(feature = "remote"))]
#[expect(clippy::unnecessary_wraps, reason = "as where registries are asked")]
pub(crate) fn check_passwords() -> Result<(), Failure> {
    Ok(())
}

/// A build without the remote crate asks nobody.
#[cfg(not(feature = "remote"))]
pub(crate) fn network(offline: bool, _: Duration) -> Network {
    if offline { Network::Closed("--offline was given") } else { Network::default() }
}

/// Machine and account.
pub(crate) fn host() -> Host {
    let hostname = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let uid = nix::unistd::Uid::effective();
    // The password file is read directly: name services need the host's C library, which a static binary does without.
    let username = std::fs::read_to_string("/etc/passwd")
        .ok()
        .and_then(|text| account_name(&text, uid.as_raw()))
        .unwrap_or_else(|| uid.to_string());
    Host { hostname, username }
}

fn account_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The container engine on this machine: `DOCKER_HOST`, the docker context in use, or the usual sockets. `None` when
/// there is no socket, or when the engine is on another machine.
#[cfg(feature = "remote")]
pub(crate) fn engine() -> Option<Arc<dyn Engine>> {
    use affiant_remote::{DEFAULT_SOCKETS, UnixEngine, socket_of};
    let named = match variable("DOCKER_HOST").or_else(|| variable("CONTAINER_HOST")) {
        Some(host) => Some(socket_of(host.to_str()?)?),
        None => match docker_context() {
            Some(host) => Some(socket_of(&host)?),
            None => None,
        },
    };
    let rootless = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
    let usual = rootless
        .iter()
        .flat_map(|dir| [dir.join("docker.sock"), dir.join("podman/podman.sock")])
        .chain(DEFAULT_SOCKETS.iter().map(PathBuf::from))
        .find(|socket| socket.exists());
    named.or(usual).map(|socket| Arc::new(UnixEngine::new(socket)) as Arc<dyn Engine>)
}

/// A build without the remote crate asks nobody.
#[cfg(not(feature = "remote"))]
pub(crate) fn engine() -> Option<Arc<dyn Engine>> {
    None
}

/// The host of the docker context in use, when one other than `default` is (docker's `config.json` and
/// `contexts/meta/<sha256 of the name>/meta.json`).
#[cfg(feature = "remote")]
fn docker_context() -> Option<String> {
    let config = variable("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".docker")))?;
    let name = if let Some(name) = variable("DOCKER_CONTEXT") {
        name.into_string().ok()?
    } else {
        let text = std::fs::read(config.join("config.json")).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
        value.get("currentContext")?.as_str()?.to_owned()
    };
    if name.is_empty() || name == "default" {
        return None;
    }
    let folder = affiant_core::digest::sha256_hex(name.as_bytes());
    let text = std::fs::read(config.join("contexts/meta").join(folder).join("meta.json")).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(value.pointer("/Endpoints/docker/Host")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_found_by_its_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nci:x:1000:1000::/home/ci:/bin/sh\n";
        assert_eq!(account_name(passwd, 1000).as_deref(), Some("ci"));
        assert_eq!(account_name(passwd, 7), None);
    }
}
