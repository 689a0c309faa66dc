//! Loading signing and public keys: where they come from, and where their passwords come from.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use affiant_core::sign::{KeyError, PrivateKey, PublicKey};
use clap::Args;

use super::failure::{Failure, Kind};
use super::keyless::{Secrets, SignerArgs, Signers, word};
use super::output::{Output, one_line};
use super::surroundings::variable;

/// The longest key or password file.
const MAX_KEY_FILE: u64 = 1024 * 1024;
/// Variables that hold a key's password, in the order in which they are asked. Set but empty is a password.
pub(crate) const PASSWORD_VARIABLES: [&str; 4] =
    ["AFFIANT_KEY_PASSWORD", "COSIGN_PASSWORD", "AFLOCK_KEY_PASSPHRASE", "WITNESS_KEY_PASSPHRASE"];

/// The options that name signing keys.
#[derive(Args)]
pub(crate) struct KeyArgs {
    /// Sign with this key: a file, or `env:NAME` (repeatable: several signatures)
    #[arg(
        short = 'k',
        long = "key",
        visible_alias = "signer-file-key-path",
        value_name = "KEY",
        env = "AFFIANT_KEY",
        hide_env_values = true
    )]
    pub(crate) key: Vec<String>,
    /// File whose first line is the password of the signing key
    #[arg(
        long,
        visible_alias = "signer-file-key-passphrase-path",
        value_name = "FILE",
        env = "AFFIANT_KEY_PASSWORD_FILE",
        hide_env_values = true
    )]
    pub(crate) key_password_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) signer: SignerArgs,
}

impl KeyArgs {
    /// Whether anybody signs.
    pub(crate) fn names_signer(&self) -> bool {
        !self.key.is_empty() || self.signer.is_keyless()
    }

    /// What the command may not see of who signs.
    pub(crate) fn secrets(&self) -> Secrets {
        self.signer.secrets(&self.key)
    }

    /// How `resume` is told who signs.
    pub(crate) fn resume_flags(&self) -> String {
        resume_flags(&self.key, self.key_password_file.as_deref(), &self.signer)
    }

    /// Those who sign; `is_plan`: nobody will.
    pub(crate) fn signers(&self, is_plan: bool, output: &Output) -> Result<Signers, Failure> {
        self.signer.signers(&self.key, self.key_password_file.as_deref(), is_plan, output)
    }
}

/// How `resume` is told who signs: the whole of it, but for a password in a variable.
pub(crate) fn resume_flags(keys: &[String], password: Option<&Path>, signer: &SignerArgs) -> String {
    let mut flags = String::new();
    let mut add = |flag: &str, value: &str| flags.extend([" ", flag, " ", &word(value)]);
    for key in keys.iter().filter(|key| !key.is_empty()) {
        add("--key", key);
    }
    if let Some(file) = password.filter(|file| !file.as_os_str().is_empty()) {
        add("--key-password-file", &file.display().to_string());
    }
    flags.push_str(&signer.resume_flags());
    flags
}

/// A signing key, and the variables that were consumed for it.
pub(crate) struct Loaded {
    pub(crate) key: PrivateKey,
    /// Variables that the command must not see (security rule 2).
    pub(crate) consumed: Vec<String>,
}

/// Where a key is kept.
enum Reference<'a> {
    File(&'a Path),
    Variable(&'a str),
}

fn reference(key: &str) -> Result<Reference<'_>, Failure> {
    if let Some(name) = key.strip_prefix("env://").or_else(|| key.strip_prefix("env:")) {
        return Ok(Reference::Variable(name));
    }
    if let Some(path) = key.strip_prefix("file://").or_else(|| key.strip_prefix("file:")) {
        return Ok(Reference::File(Path::new(path)));
    }
    for scheme in ["awskms", "gcpkms", "azurekms", "hashivault", "pkcs11", "k8s", "gitlab"] {
        if key.strip_prefix(scheme).is_some_and(|rest| rest.starts_with(':')) && !Path::new(key).exists() {
            return Err(Failure::usage(format!("the key {key}: this build cannot use {scheme} keys"))
                .hint("name a key file with `--key FILE`, or a variable with `--key env:NAME`"));
        }
    }
    Ok(Reference::File(Path::new(key)))
}

/// The file that a signing key stands in, when it does in one.
pub(crate) fn file_of(key: &str) -> Option<&Path> {
    match reference(key) {
        Ok(Reference::File(path)) => Some(path),
        _ => None,
    }
}

/// Refuses an outfile that is one of the keys.
pub(crate) fn refuse_as_outfile(keys: &[String], outfile: &Path) -> Result<(), Failure> {
    if keys.iter().filter_map(|key| file_of(key)).any(|key| super::places::is_same(key, outfile)) {
        return Err(Failure::usage(format!("the outfile {} is the signing key", outfile.display()))
            .hint("name another file with `--outfile FILE`"));
    }
    Ok(())
}

/// Loads a signing key. `password_file` and the variables are asked only when the key is encrypted; the terminal last.
pub(crate) fn signing_key(key: &str, password_file: Option<&Path>) -> Result<Loaded, Failure> {
    let mut consumed = Vec::new();
    let bytes = match reference(key)? {
        Reference::File(path) => read_small(path).map_err(|error| unusable(key, &error))?,
        Reference::Variable(name) => {
            consumed.push(name.to_owned());
            variable(name)
                .ok_or_else(|| {
                    Failure::usage(format!("the signing key cannot be used: the variable {name} is not set"))
                })?
                .into_string()
                .map_err(|_| Failure::usage(format!("the signing key in {name} is not text")))?
                .into_bytes()
        }
    };
    match PrivateKey::from_file_bytes(&bytes, None) {
        Ok(key) => return Ok(Loaded { key, consumed }),
        Err(KeyError::PasswordNeeded) => {}
        Err(error) => return Err(unusable(key, &error)),
    }
    let (password, source) = password(password_file, key)?;
    if let Some(name) = &source {
        consumed.push(name.clone());
    }
    match PrivateKey::from_file_bytes(&bytes, Some(&password)) {
        Ok(key) => Ok(Loaded { key, consumed }),
        Err(error) => {
            let from =
                source.unwrap_or_else(|| password_file.map_or("the terminal".into(), |f| f.display().to_string()));
            Err(unusable(key, &error).hint(format!("the password came from {from}")))
        }
    }
}

fn unusable(key: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::because(Kind::Run, format!("the signing key {key} cannot be used"), error)
}

/// The password, and the variable that it came from.
fn password(file: Option<&Path>, key: &str) -> Result<(Vec<u8>, Option<String>), Failure> {
    if let Some(file) = file {
        let mut bytes = read_small(file).map_err(|error| {
            Failure::because(Kind::Run, format!("the password file {} cannot be read", file.display()), &error)
        })?;
        // One line, as the peers read it.
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        return Ok((bytes, None));
    }
    for name in PASSWORD_VARIABLES {
        if let Some(value) = std::env::var_os(name) {
            return Ok((bytes_of(value), Some(name.to_owned())));
        }
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(Kind::Run, format!("the signing key {key} is encrypted, and there is no password"))
            .hint(format!("set {} or name a file with --key-password-file", PASSWORD_VARIABLES[0])));
    }
    let text = affiant_supervise::ask_unseen(&format!("password of {}: ", one_line(key)))
        .map_err(|error| Failure::because(Kind::Run, "the password cannot be read from the terminal", &error))?;
    Ok((text, None))
}

/// A new password: from the variables or file, else asked for twice on the terminal. `None` when nobody gives one.
pub(crate) fn new_password(file: Option<&Path>, what: &str) -> Result<Option<Vec<u8>>, Failure> {
    if file.is_some() || PASSWORD_VARIABLES.iter().any(|name| std::env::var_os(name).is_some()) {
        return password(file, what).map(|(password, _)| Some(password));
    }
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let ask = |prompt: String| {
        affiant_supervise::ask_unseen(&prompt)
            .map_err(|error| Failure::because(Kind::NoAnswer, "the password cannot be read from the terminal", &error))
    };
    let first = ask(format!("new password of {}: ", one_line(what)))?;
    if first == ask("again: ".to_owned())? { Ok(Some(first)) } else { Err(Failure::usage("the two passwords differ")) }
}

/// Whether nobody gives a password for a new key: no variable is set, and there is no terminal.
pub(crate) fn new_password_missing() -> bool {
    !std::io::stdin().is_terminal() && PASSWORD_VARIABLES.iter().all(|name| std::env::var_os(name).is_none())
}

fn bytes_of(value: OsString) -> Vec<u8> {
    use std::os::unix::ffi::OsStringExt as _;
    value.into_vec()
}

/// Loads a public key (or the key of a certificate) from a file.
pub(crate) fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    let message = || format!("the public key {} cannot be used", path.display());
    let bytes = read_small(path).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
    PublicKey::from_file_bytes(&bytes).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))
}

/// Reads a file of at most [`MAX_KEY_FILE`] bytes. Pipes are allowed: `--key <(…)`.
fn read_small(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_KEY_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_KEY_FILE {
        return Err(std::io::Error::other(format!("longer than {MAX_KEY_FILE} bytes")));
    }
    Ok(bytes)
}
