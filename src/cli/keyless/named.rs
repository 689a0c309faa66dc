//! The services that a command line names, by flags or by a file: the same for all commands that sign.

use std::path::{Path, PathBuf};
use std::time::Duration;

use affiant_core::keyless::config::{Chosen, SigningConfig};
use affiant_core::keyless::rekor::Version;
use clap::Args;

use super::root::RootArgs;
use super::token::TokenArgs;
use crate::cli::failure::{Failure, Kind};
use crate::cli::inspect::read_file;
use crate::cli::outputs;
use crate::cli::run::duration;
use crate::cli::surroundings;

/// How long a service that does not answer is asked again, when nothing else is said.
pub(super) const RETRY_FOR: Duration = Duration::from_secs(120);

/// Who vouches for signatures, and for whom.
#[derive(Args, Clone)]
pub(crate) struct NamedArgs {
    /// Certificate authority (Fulcio); without --key, an identity signs
    #[arg(long, alias = "signer-fulcio-url", value_name = "URL", env = "AFFIANT_FULCIO_URL", hide_env_values = true)]
    fulcio_url: Option<String>,
    /// Timestamp authority (RFC 3161; repeatable)
    #[arg(
        long,
        alias = "timestamp-server-url",
        value_name = "URL",
        env = "AFFIANT_TIMESTAMP_SERVERS",
        value_delimiter = ',',
        hide_env_values = true
    )]
    timestamp_servers: Vec<String>,
    /// File that names the services, instead of their flags
    #[arg(long, value_name = "FILE", env = "AFFIANT_SIGNING_CONFIG", hide_env_values = true)]
    signing_config: Option<PathBuf>,
    /// How long a service that does not answer is asked again, in all (default: 2m)
    #[arg(long, value_name = "TIME", value_parser = duration, env = "AFFIANT_RETRY_FOR", hide_env_values = true)]
    retry_for: Option<Duration>,
    /// Who signs, and the names of private registries, may become known to public services
    #[arg(long, env = "AFFIANT_LOG_PUBLIC_OK", hide_env_values = true)]
    pub(super) log_public_ok: bool,
    #[command(flatten)]
    pub(super) root: RootArgs,
    #[command(flatten)]
    pub(super) token: TokenArgs,
}

/// Whether something may be asked: a URL of a service, or an empty text, which names none.
pub(super) fn named(url: Option<&String>) -> Option<String> {
    url.map(|url| url.trim().trim_end_matches('/').to_owned()).filter(|url| !url.is_empty())
}

impl NamedArgs {
    /// Files that are read.
    pub(super) fn reads(&self, files: &mut outputs::Files) {
        files.reads("the signing configuration", &self.signing_config);
        files.reads("the root of trust", self.root.named());
        self.token.reads(files);
    }

    /// The certificate authority that a flag names.
    pub(super) fn authority(&self) -> Option<String> {
        named(self.fulcio_url.as_ref())
    }

    /// The timestamp authorities that flags name.
    pub(super) fn timestamps(&self) -> Vec<String> {
        self.timestamp_servers.iter().filter_map(|url| named(Some(url))).collect()
    }

    /// The file that names services.
    pub(super) fn config(&self) -> Option<&Path> {
        self.signing_config.as_deref().filter(|file| !file.as_os_str().is_empty())
    }

    /// How long a service that does not answer is asked again.
    pub(super) fn retry_for(&self) -> Duration {
        self.retry_for.unwrap_or(RETRY_FOR)
    }

    /// The services that are named, chosen for now: those of the file, unless it is not to be used, or those of the flags
    /// and `log`.
    pub(super) fn chosen(
        &self,
        log: Option<String>,
        version: Option<Version>,
        uses_file: bool,
    ) -> Result<Chosen, Failure> {
        let (authority, timestamps) = (self.authority(), self.timestamps());
        let Some(file) = self.config().filter(|_| uses_file) else {
            let logs = log.map(|url| (url, version.unwrap_or(Version::One)));
            return Ok(Chosen { authority, issuer: None, logs: logs.into_iter().collect(), timestamps });
        };
        let flags = [
            ("--fulcio-url", authority.is_some()),
            ("--rekor-url", log.is_some()),
            ("--timestamp-servers", !timestamps.is_empty()),
        ];
        if let Some((flag, _)) = flags.into_iter().find(|(_, is_given)| *is_given) {
            return Err(Failure::usage(format!("{flag} beside --signing-config: which of them is meant?"))
                .hint("leave one of them out"));
        }
        let cannot = |error: &dyn std::error::Error| {
            Failure::because(Kind::NoAnswer, format!("{} cannot be used", file.display()), error)
        };
        let config = SigningConfig::parse(&read_file(file)?).map_err(|error| cannot(&error))?;
        config.choose(surroundings::now(), version).map_err(|error| cannot(&error))
    }
}
