//! Signing with services: which there are, whose token is shown, and what is said when they do not do.

mod login;
mod named;
#[cfg(feature = "remote")]
mod person;
mod queue;
mod root;
mod signer;
mod token;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use affiant_core::keyless::config::{Chosen, SigningConfig};
use affiant_core::keyless::fulcio::Form;
use affiant_core::keyless::rekor::Version;
use affiant_core::keyless::sealer::{OnLogFailure, Sealer, SealerError, Sources};
use affiant_core::keyless::token::Claims;
use affiant_core::keyless::{NoServices, Services};
use affiant_core::sign::PrivateKey;
use clap::{Args, ValueEnum};

use super::failure::{Failure, Kind};
use super::names::Called;
use super::output::Output;
use super::outputs;
use super::surroundings;
use super::trust::{self, Getting};

use named::{NamedArgs, named};
pub(crate) use queue::Queue;
pub(crate) use signer::{SignerArgs, Signers, word};
pub(crate) use token::Secrets;

/// The domain of the services that everybody can read.
const PUBLIC: &str = "sigstore.dev";
/// Registries of many owners whose images are mostly public, so that the name of one is mostly no secret. They have private
/// repositories as well, and their names are not asked for: who has such ones names services of their own, or signs by key.
const PUBLIC_REGISTRIES: [&str; 8] = [
    "docker.io",
    "index.docker.io",
    "ghcr.io",
    "quay.io",
    "public.ecr.aws",
    "registry.gitlab.com",
    "registry.k8s.io",
    "mcr.microsoft.com",
];

/// Which generation of logs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Log {
    /// What the named services are
    Auto,
    /// No log
    None,
    /// Rekor 1; of a statement it is sent all
    Rekor1,
    /// Rekor 2
    Rekor2,
}

/// What a log's outage means.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFailure {
    /// Nothing is signed
    Fail,
    /// A timestamp is enough
    TimestampOnly,
    /// A timestamp is enough for now; `affiant resume` makes the entry
    Queue,
}

/// How a certificate is asked for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Request {
    Key,
    Csr,
    V1,
}

/// The services that vouch for signatures.
#[derive(Args)]
#[command(next_help_heading = "Services (keyless signing, logs, timestamps)")]
pub(crate) struct ServiceArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// Transparency log (Rekor); `--log` says of which generation
    #[arg(long, value_name = "URL", env = "AFFIANT_REKOR_URL", hide_env_values = true)]
    rekor_url: Option<String>,
    /// Use a signing configuration; `false`: only the flags
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "TRUTH", hide = true)]
    use_signing_config: Option<bool>,
    /// Which logs get an entry
    #[arg(long, value_enum, default_value = "auto", env = "AFFIANT_LOG", hide_env_values = true)]
    log: Log,
    /// Make an entry in a log; `false` is `--log none`
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "TRUTH", hide = true)]
    tlog_upload: Option<bool>,
    /// What happens when the log does not answer
    #[arg(long, value_enum, default_value = "fail", env = "AFFIANT_ON_LOG_FAILURE", hide_env_values = true)]
    on_log_failure: LogFailure,
    /// Where log entries wait with `--on-log-failure queue` (default: a folder in the user's state)
    #[arg(long, value_name = "DIR", env = "AFFIANT_SPOOL", hide_env_values = true)]
    spool: Option<PathBuf>,
    /// Get a certificate for the key of --key as well
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "TRUTH", hide = true)]
    issue_certificate: Option<bool>,
    /// How the certificate is asked for
    #[arg(long, value_enum, default_value = "key", hide = true)]
    fulcio_request: Request,
}

/// What signs, as soon as it is to be had.
pub(crate) type Later<'a> = Box<dyn FnOnce() -> Result<Sealer, Failure> + 'a>;

/// What is signed, as far as it decides who may hear of it.
pub(crate) struct Subject<'a> {
    /// Hosts of the images' registries; of files there are none.
    pub(crate) registries: &'a [String],
    pub(crate) called: Called,
    /// Under the name `cosign`, `--yes` is the answer to its question whether names may become public.
    pub(crate) yes: bool,
}

/// Host of a URL.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn is_public(url: &str) -> bool {
    let host = host(url).to_ascii_lowercase();
    // A dot at the end names the same host.
    let host = host.trim_end_matches('.');
    host == PUBLIC || host.strip_suffix(PUBLIC).is_some_and(|rest| rest.ends_with('.'))
}

impl ServiceArgs {
    /// Says by which name affiant was called.
    pub(crate) fn call(&mut self, called: Called) {
        self.named.token.call(called);
    }

    /// Files that are read.
    pub(crate) fn reads(&self, files: &mut outputs::Files) {
        self.named.reads(files);
    }

    /// The services that are named, chosen for now.
    fn chosen(&self) -> Result<Chosen, Failure> {
        let version = self.generation();
        let uses_file = self.use_signing_config != Some(false);
        let mut chosen = self.named.chosen(named(self.rekor_url.as_ref()), version, uses_file)?;
        if self.log == Log::None || self.tlog_upload == Some(false) {
            chosen.logs.clear();
        } else if version.is_some() && chosen.logs.is_empty() {
            return Err(Failure::usage("--log names a generation of logs, and no log is named")
                .hint("name one with `--rekor-url URL` or in a signing configuration"));
        }
        if self.tlog_upload == Some(true) && chosen.logs.is_empty() {
            return Err(Failure::usage("--tlog-upload: no log is named")
                .hint("name one with `--rekor-url URL`; or leave it out, or write `--tlog-upload=false`"));
        }
        Ok(chosen)
    }

    /// Whether a service is named that signing asks, as far as flags say.
    pub(crate) fn are_named(&self) -> bool {
        let by_flag = self.named.authority().is_some() || !self.named.timestamps().is_empty();
        by_flag || named(self.rekor_url.as_ref()).is_some() || self.named.config().is_some()
    }

    /// Whether a key's signature shall have a certificate as well.
    pub(crate) fn issues_certificate(&self) -> bool {
        self.issue_certificate == Some(true)
    }

    /// Refuses to sign statements by an identity where nothing would prove when.
    pub(crate) fn can_prove_statements(&self) -> Result<(), Failure> {
        let chosen = self.chosen()?;
        let promises = chosen.logs.iter().any(|(_, version)| *version == Version::One) && self.log == Log::Rekor1;
        if promises || !chosen.timestamps.is_empty() { Ok(()) } else { Err(no_time()) }
    }

    /// What a signature will have: a certificate; a timestamp, `None` where only the public services know.
    pub(crate) fn foresee(&self, has_key: bool) -> Result<(bool, Option<bool>), Failure> {
        let chosen = self.chosen()?;
        let has_certificate = !has_key || self.issues_certificate();
        let is_known = !has_certificate || chosen.authority.is_some();
        Ok((has_certificate, is_known.then_some(!chosen.timestamps.is_empty())))
    }

    fn sources(&self, chosen: &Chosen) -> Sources {
        Sources {
            logs: chosen.logs.clone(),
            timestamps: chosen.timestamps.clone(),
            // That there shall be an entry does not say that everybody may read the statement.
            send_envelopes: self.log == Log::Rekor1,
            on_log_failure: match self.on_log_failure {
                LogFailure::Fail => OnLogFailure::Fail,
                LogFailure::TimestampOnly => OnLogFailure::TimestampOnly,
                LogFailure::Queue => OnLogFailure::Queue,
            },
        }
    }

    /// What signs: the key with what the named services vouch for, or a new key with a certificate.
    pub(crate) fn sealer(
        &self,
        key: Option<PrivateKey>,
        subject: &Subject<'_>,
        output: &Output,
    ) -> Result<Sealer, Failure> {
        self.sealer_later(key, subject, output)?()
    }

    /// The same in two halves: the services are chosen and the token is looked at now, before work that may be denied or
    /// take long; the certificate is had when what is given back is called.
    pub(crate) fn sealer_later<'a>(
        &'a self,
        key: Option<PrivateKey>,
        subject: &Subject<'_>,
        output: &'a Output,
    ) -> Result<Later<'a>, Failure> {
        let mut chosen = self.chosen()?;
        let wants_certificate = key.is_none() || self.issues_certificate();
        let is_public = wants_certificate && chosen.authority.is_none();
        if is_public {
            chosen = self.public_services(&chosen, subject, output)?;
        }
        self.permit(&chosen, wants_certificate, subject)?;
        let sources = self.sources(&chosen);
        self.tell_unasked(&sources, wants_certificate, subject, output);
        if !wants_certificate && sources.logs.is_empty() && sources.timestamps.is_empty() {
            let key = key.ok_or_else(no_key)?;
            let sealer = Sealer::keyed(key, sources, Arc::new(NoServices));
            return Ok(Box::new(move || Ok(sealer)));
        }
        let (services, unchecked) = self.named.root.check(services(self.named.retry_for())?, is_public, output)?;
        let authority = chosen.authority.clone().filter(|_| wants_certificate);
        let logs = sources.logs.iter().map(|(url, _)| url);
        permitted(services.as_ref(), authority.iter().chain(logs).chain(&sources.timestamps))?;
        let Some(authority) = authority else {
            let sealer = Sealer::keyed(key.ok_or_else(no_key)?, sources, services);
            return Ok(Box::new(move || Ok(sealer)));
        };
        if sources.timestamps.is_empty() && !sources.logs.iter().any(|(_, version)| *version == Version::One) {
            return Err(no_time());
        }
        self.can_wait(&sources)?;
        let found = self.named.token.find(chosen.issuer.as_deref())?;
        Ok(Box::new(move || self.certified(key, &authority, found, sources, (services, &unchecked), output)))
    }

    /// Says which services are not asked although the line, or the name by which we are called, lets one expect it.
    fn tell_unasked(&self, sources: &Sources, wants_certificate: bool, subject: &Subject<'_>, output: &Output) {
        let is_given = |name: &str| surroundings::variable(name).is_none();
        if !wants_certificate && self.named.authority().is_some() && is_given("AFFIANT_FULCIO_URL") {
            output.message("note: --fulcio-url: no certificate is asked for, for the key of --key signs");
        }
        if !sources.logs.is_empty() || self.log == Log::None || self.tlog_upload == Some(false) {
            return;
        }
        if self.on_log_failure != LogFailure::Fail && is_given("AFFIANT_ON_LOG_FAILURE") {
            output.message("note: --on-log-failure: no log is named, so none can fail, and no entry waits for one");
        }
        // The tool of this name tells the public log: of a key, nobody is told who is not named (decision 022).
        let has_file = self.named.config().is_some() && self.use_signing_config != Some(false);
        if subject.called == Called::Cosign && !wants_certificate && !has_file {
            output.message(
                "warning: no log is told of this signature, for none is named: `cosign verify` refuses it unless it is called with `--insecure-ignore-tlog`",
            );
            output.message(
                "hint: name a log with `--rekor-url URL` or `--signing-config FILE`, or say that there is none with `--tlog-upload=false`",
            );
        }
    }

    /// Gets the certificate for the identity that was found.
    fn certified(
        &self,
        key: Option<PrivateKey>,
        authority: &str,
        found: token::Found,
        sources: Sources,
        (services, unchecked): (Arc<dyn Services>, &[&str]),
        output: &Output,
    ) -> Result<Sealer, Failure> {
        let token = found.fetch(services.as_ref(), &self.named.token, false, output)?;
        let form = match self.fulcio_request {
            Request::Key => Form::Key,
            Request::Csr => Form::Csr,
            Request::V1 => Form::V1,
        };
        let (again, args, told, is_new_key) =
            (Arc::clone(&services), self.named.token.clone(), output.clone(), key.is_none());
        let another =
            // An interrupt ends only the question: what was kept before has still to be told.
            Box::new(move || found.fetch(again.as_ref(), &args, true, &told).map_err(|failure| failure.one_line()));
        let sealer = match key {
            Some(key) => Sealer::certified(key, authority, form, &token, sources, services),
            None => Sealer::keyless(authority, form, &token, sources, services),
        };
        let sealer = sealer.map_err(|error| not_certified(&error, token.claims()))?;
        let sealer = sealer.renewing(authority, form, is_new_key, another);
        if let Some(issued) = sealer.issued() {
            let (label, issuer) = (issued.leaf.label(), issued.leaf.extension("Issuer").unwrap_or_default());
            // An authority may write what it was shown into the certificate.
            output.message(&token.keep_out_of(&format!("signing as {label}, identified by {issuer}")));
            tell_unchecked(unchecked, output);
        }
        Ok(sealer)
    }

    /// The services that everybody may use, for whoever calls us by the name of the tool that uses them. Who they are is
    /// asked last: when there is somebody to sign, and it may become known.
    fn public_services(&self, named: &Chosen, subject: &Subject<'_>, output: &Output) -> Result<Chosen, Failure> {
        let failure = Failure::usage("no key is named, and no certificate authority (keyless signing)");
        let has_named = !named.logs.is_empty() || !named.timestamps.is_empty();
        if subject.called != Called::Cosign || self.use_signing_config == Some(false) || has_named {
            return Err(failure.hint(
                "add `--fulcio-url URL --timestamp-servers URL`, or `--signing-config FILE`; or name a key with `--key FILE`",
            ));
        }
        let sigstore = Chosen { authority: Some(format!("fulcio.{PUBLIC}")), ..Chosen::default() };
        self.permit(&sigstore, true, subject)?;
        // Where somebody can log in is said there as well.
        self.named.token.find(Some(PUBLIC))?;
        let getting = Getting { flag: "--signing-config", offline: false, signs: true };
        let bytes = trust::public_signing_config(getting, output)?;
        let cannot = |error: &dyn std::error::Error| {
            Failure::because(Kind::NoAnswer, "the signing configuration of the public instance cannot be used", error)
        };
        let config = SigningConfig::parse(&bytes).map_err(|error| cannot(&error))?;
        let mut chosen = config.choose(surroundings::now(), self.generation()).map_err(|error| cannot(&error))?;
        if self.log == Log::None || self.tlog_upload == Some(false) {
            chosen.logs.clear();
        }
        Ok(chosen)
    }

    /// The generation of logs that is demanded.
    fn generation(&self) -> Option<Version> {
        match self.log {
            Log::Rekor1 => Some(Version::One),
            Log::Rekor2 => Some(Version::Two),
            Log::Auto | Log::None => None,
        }
    }

    /// Names of private places go to public services only where somebody said so.
    fn permit(&self, chosen: &Chosen, wants_certificate: bool, subject: &Subject<'_>) -> Result<(), Failure> {
        let logs = chosen.logs.iter().map(|(url, _)| url);
        let public = chosen.authority.iter().filter(|_| wants_certificate).chain(logs).find(|url| is_public(url));
        let Some(public) = public else { return Ok(()) };
        let consents = self.named.log_public_ok || (subject.called == Called::Cosign && subject.yes);
        may_become_known(public, subject.registries, consents)
    }
}

/// Whether a public service may hear of what is signed for images in these registries, or for a file.
fn may_become_known(url: &str, registries: &[String], consents: bool) -> Result<(), Failure> {
    let are_public = !registries.is_empty() && registries.iter().all(|host| PUBLIC_REGISTRIES.contains(&host.as_str()));
    if consents || are_public {
        return Ok(());
    }
    let what = registries.first().map_or_else(
        || "who signs a file becomes known".to_owned(),
        |host| format!("{host} is no public registry, and what signs for it becomes known"),
    );
    Err(becomes_public(url, &what))
}

/// A service that everybody can read would hear of something, and nobody said that it may.
fn becomes_public(url: &str, what: &str) -> Failure {
    Failure::usage(format!("{url} is public and keeps what it is sent for ever: {what}"))
        .hint("`--log-public-ok` says that it may; `--signing-config FILE` names services of your own")
}

/// Says what of the services' answers nobody has checked.
fn tell_unchecked(unchecked: &[&str], output: &Output) {
    if !unchecked.is_empty() {
        let what = unchecked.join(", ");
        output.message(&format!("note: not checked, for no trusted root says whom to believe: {what}"));
    }
}

/// Refuses addresses that may not be asked, before anything is.
fn permitted<'a>(services: &dyn Services, urls: impl IntoIterator<Item = &'a String>) -> Result<(), Failure> {
    urls.into_iter().try_for_each(|url| {
        services.check(url).map_err(|error| Failure::because(Kind::Usage, "a service cannot be asked", &error))
    })
}

fn no_key() -> Failure {
    Failure::usage("no key is named").hint("name a key with `--key FILE`")
}

fn no_time() -> Failure {
    Failure::usage("nothing would prove when the certificate signed, so nobody could check it: it lives for minutes")
        .hint(
            "name a timestamp authority with `--timestamp-servers URL`; a log of the second generation proves no time",
        )
}

/// What is said of a certificate that was not had.
fn not_certified(error: &SealerError, claims: &Claims) -> Failure {
    let failure = failed(error, "no certificate was issued");
    let is_refusal = matches!(error, SealerError::Service(error) if error.is_refusal);
    if is_refusal {
        failure.hint(format!(
            "the token is by `{}` for `{}`, and expires at {}: does the authority trust that issuer, and this audience?",
            claims.issuer,
            claims.challenge(),
            claims.expires
        ))
    } else {
        failure
    }
}

/// What is said when signing does not come to its end.
pub(crate) fn failed(error: &SealerError, what: &str) -> Failure {
    let failure = Failure::because(Kind::NoAnswer, what, error);
    match error {
        SealerError::NoTime => failure.hint(
            "name a timestamp authority with `--timestamp-servers URL`, or a log of the first generation, which for statements takes `--log rekor1`",
        ),
        error if error.is_outage() => failure.hint(
            "`--retry-for 10m` asks again for longer; of a log's entry, `--on-log-failure queue` has `affiant resume` make it",
        ),
        SealerError::Service(error) if error.is_duplicate => failure.hint(
            "`--trusted-root ROOT`, with a root that has this log's key, takes its entry from its tiles; `--log none` does without",
        ),
        _ => failure,
    }
}

pub(crate) fn not_signed(error: &SealerError) -> Failure {
    failed(error, "it was not signed")
}

/// The way to services.
#[cfg(feature = "remote")]
#[allow(clippy::unnecessary_wraps)] // a build without the remote crate has none
pub(crate) fn services(retry_for: Duration) -> Result<Arc<dyn Services>, Failure> {
    Ok(Arc::new(affiant_remote::sigstore::Sigstore::new(surroundings::http_settings(), retry_for)))
}

/// A build without the remote crate asks nobody.
#[cfg(not(feature = "remote"))]
pub(crate) fn services(_: Duration) -> Result<Arc<dyn Services>, Failure> {
    Err(Failure::usage("this affiant was built without network"))
}

/// Whether a path is where something is.
fn is_file(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_services_are_known_by_their_domain() {
        for public in [
            "https://rekor.sigstore.dev",
            "https://sigstore.dev/x",
            "https://LOG.rekor.Sigstore.dev:443/",
            "https://fulcio.sigstore.dev./api",
        ] {
            assert!(is_public(public), "{public}");
        }
        for own in
            ["https://rekor.example", "https://notsigstore.dev", "https://sigstore.dev.example", "http://localhost:1"]
        {
            assert!(!is_public(own), "{own}");
        }
    }
}
