//! A person who logs in for an identity token: at a terminal, and nowhere else.
//!
//! The address is always shown. A browser is opened where there is a display, and never by root, whose browser nobody
//! means. In a job nobody is asked, however it is configured: a log is no place for a question.

use std::fmt;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use affiant_core::keyless::login::Redirect;
use clap::Args;
use zeroize::Zeroizing;

use super::token::secret_of;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::Output;
use crate::cli::run::duration;
use crate::cli::surroundings::variable;

/// How long a person may take when nothing else is said.
#[cfg(feature = "remote")]
const PATIENCE: Duration = Duration::from_secs(300);
/// Longest file with the secret of a client, in bytes.
const MAX_SECRET: usize = 4096;

/// How somebody logs in.
#[derive(Args, Clone)]
pub(crate) struct LoginArgs {
    /// How to log in: `normal` (a browser on this machine), `device` (a code that is typed elsewhere); `token`: not at all
    #[arg(long, value_name = "FLOW", env = "AFFIANT_FULCIO_AUTH_FLOW", hide_env_values = true)]
    fulcio_auth_flow: Option<String>,
    /// Where the browser comes back to, on this machine (default: 127.0.0.1, any port, /auth/callback)
    #[arg(
        long,
        alias = "signer-fulcio-oidc-redirect-url",
        value_name = "URL",
        env = "AFFIANT_OIDC_REDIRECT_URL",
        hide_env_values = true
    )]
    oidc_redirect_url: Option<String>,
    /// File with the secret of the client that asks, where the issuer demands one
    #[arg(long, value_name = "FILE", env = "AFFIANT_OIDC_CLIENT_SECRET_FILE", hide_env_values = true)]
    oidc_client_secret_file: Option<PathBuf>,
    /// How long a login may take (default: 5m)
    #[arg(long, value_name = "TIME", value_parser = duration, env = "AFFIANT_LOGIN_TIMEOUT", hide_env_values = true)]
    login_timeout: Option<Duration>,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// A browser on this machine.
    Normal,
    /// A code that is typed in elsewhere.
    Device,
    /// None: a token is there.
    Token,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Device => "device",
            Self::Token => "token",
        })
    }
}

/// Somebody can log in.
#[derive(Clone)]
pub(super) struct Login {
    /// Where.
    pub(super) issuer: String,
    #[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "nobody is asked then"))]
    flow: Flow,
}

/// What every CI system says of itself. Buildkite's jobs have a terminal, and nobody sits there.
const JOB: &str = "CI";

/// Whether somebody sits there who can be asked.
fn has_person() -> bool {
    let is_job = variable(JOB).is_some_and(|value| value != "false" && value != "0");
    !is_job && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// What is missing for a login.
pub(super) fn why_not(issuer: Option<&str>) -> &'static str {
    match issuer {
        _ if !has_person() => "a person can log in at a terminal only, and not in a job (`CI` is not set)",
        None => "or log in at an issuer that the authority trusts: `--oidc-issuer URL`",
        Some(_) => "or log in: leave `--oidc-provider` and `--fulcio-auth-flow token` out",
    }
}

impl LoginArgs {
    /// The way that is named.
    pub(super) fn flow(&self) -> Result<Option<Flow>, Failure> {
        match self.fulcio_auth_flow.as_deref().unwrap_or_default() {
            "" => Ok(None),
            "normal" => Ok(Some(Flow::Normal)),
            "device" => Ok(Some(Flow::Device)),
            "token" => Ok(Some(Flow::Token)),
            "client_credentials" => Err(Failure::usage(
                "--fulcio-auth-flow client_credentials: its token is that of a secret that somebody must keep, and of no person or job",
            )
            .hint("a job's own token: `--identity-token FILE`, SIGSTORE_ID_TOKEN; a secret that is kept anyway: `--key FILE`")),
            other => Err(Failure::usage(format!("--fulcio-auth-flow {other}: none of normal, device, token"))),
        }
    }

    fn redirect(&self) -> Result<Redirect, Failure> {
        let Some(url) = self.oidc_redirect_url.as_deref().filter(|url| !url.is_empty()) else {
            return Ok(Redirect::default());
        };
        Redirect::parse(url).map_err(|error| Failure::because(Kind::Usage, "--oidc-redirect-url", &error))
    }

    /// The file with the secret of whoever asks.
    pub(super) fn secret_file(&self) -> Option<&Path> {
        self.oidc_client_secret_file.as_deref().filter(|file| !file.as_os_str().is_empty())
    }

    /// The secret of whoever asks.
    pub(super) fn secret(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        let Some(file) = self.secret_file() else { return Ok(None) };
        let cannot = |reason: String| {
            Failure::new(Kind::NoAnswer, format!("--oidc-client-secret-file {}: {reason}", file.display()))
        };
        let text = secret_of(file, MAX_SECRET).map_err(cannot)?;
        let secret = Zeroizing::new(text.trim().to_owned());
        if secret.is_empty() { Err(cannot("it is empty".to_owned())) } else { Ok(Some(secret)) }
    }

    /// The way to log in that is named; refused where nobody can be asked.
    pub(super) fn find(&self, issuer: Option<&str>) -> Result<Login, Failure> {
        let flow = self.flow()?.unwrap_or(Flow::Normal);
        let Some(issuer) = issuer else {
            return Err(Failure::usage(format!("--fulcio-auth-flow {flow}: no issuer is named to log in at"))
                .hint("name it with `--oidc-issuer URL`, or in a signing configuration (`oidcUrls`)"));
        };
        if !has_person() {
            return Err(Failure::new(
                Kind::NoAnswer,
                format!(
                    "--fulcio-auth-flow {flow}: a person logs in at a terminal (stdin and stderr), and not in a job (CI is set there)"
                ),
            )
            .hint("give a token with `--identity-token FILE`, or SIGSTORE_ID_TOKEN"));
        }
        // What is wrong with the other flags is said before a build, and not after it.
        self.redirect()?;
        self.secret()?;
        Ok(Login { issuer: issuer.to_owned(), flow })
    }

    /// The way to log in where none is named, and there is no token.
    pub(super) fn possible(&self, issuer: Option<&str>) -> Option<Result<Login, Failure>> {
        let may = self.flow().ok()? != Some(Flow::Token);
        (may && issuer.is_some() && has_person()).then(|| self.find(issuer))
    }

    /// How `resume` is told the same.
    pub(super) fn resume_flags(&self) -> impl Iterator<Item = (&'static str, String)> {
        let secret = self.secret_file().map(|file| file.display().to_string());
        let flags = [
            ("--fulcio-auth-flow", self.fulcio_auth_flow.clone()),
            ("--oidc-redirect-url", self.oidc_redirect_url.clone()),
            ("--oidc-client-secret-file", secret),
        ];
        flags.into_iter().filter_map(|(flag, value)| Some((flag, value.filter(|value| !value.is_empty())?)))
    }

    /// Asks the person: the token, and the issuer as it names itself.
    #[cfg(feature = "remote")]
    pub(super) fn log_in(
        &self,
        login: &Login,
        client: &str,
        must_go_on: bool,
        output: &Output,
    ) -> Result<(Zeroizing<String>, String), Failure> {
        use affiant_core::keyless::login::Client;
        use affiant_remote::sigstore::{Sigstore, login};
        use affiant_supervise::Interrupts;

        use super::person::AtTerminal;

        let client = Client { id: client.to_owned(), secret: self.secret()? };
        let redirect = self.redirect()?;
        let asked = login::Login {
            issuer: &login.issuer,
            client: &client,
            redirect: &redirect,
            limit: self.login_timeout.unwrap_or(PATIENCE),
        };
        // Where nothing is lost, the signal itself is the end.
        let interrupts = must_go_on.then(Interrupts::catch).and_then(Result::ok);
        let person = AtTerminal { issuer: &login.issuer, interrupts, output };
        let services = Sigstore::new(crate::cli::surroundings::http_settings(), super::named::RETRY_FOR);
        let done = match login.flow {
            Flow::Device => services.log_in_elsewhere(&asked, &person),
            Flow::Normal | Flow::Token => services.log_in(&asked, &person),
        };
        done.map(|done| (done.token, done.issuer))
            .map_err(|error| Failure::because(Kind::NoAnswer, "nobody is logged in", &error))
    }

    /// A build without the remote crate asks nobody.
    #[cfg(not(feature = "remote"))]
    #[expect(clippy::unused_self, reason = "as where somebody is asked")]
    pub(super) fn log_in(
        &self,
        _: &Login,
        _: &str,
        _: bool,
        _: &Output,
    ) -> Result<(Zeroizing<String>, String), Failure> {
        Err(Failure::usage("this affiant was built without network"))
    }
}
