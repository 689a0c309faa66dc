//! Who signs evidence, documents and policies: keys, what vouches for them, or an identity without a key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use affiant_core::keyless::checking::LOG;
use affiant_core::keyless::config::Chosen;
use affiant_core::keyless::fulcio::Form;
use affiant_core::keyless::vouched::{Issue, Vouched};
use affiant_core::keyless::{NoServices, Services};
use affiant_core::sign::{KeyKind, PrivateKey, Signer};
use affiant_core::trust::Certificate;
use clap::Args;

use super::named::{NamedArgs, named};
use super::token::{Found, Secrets};
use super::{becomes_public, is_public, no_time, permitted, services, tell_unchecked};
use crate::cli::failure::{Failure, Kind};
use crate::cli::inspect::read_file;
use crate::cli::keys::{self, Loaded};
use crate::cli::names::Called;
use crate::cli::output::Output;
use crate::cli::outputs;

/// What vouches for signatures of evidence.
#[derive(Args, Clone)]
#[command(next_help_heading = "Certificates and timestamps")]
pub(crate) struct SignerArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// Transparency log of the first generation (Rekor 1): it is told a digest, the signature, and who signed
    #[arg(long, value_name = "URL")]
    rekor_url: Option<String>,
    /// Certificate of the key, as PEM
    #[arg(
        long,
        alias = "signer-file-cert-path",
        value_name = "FILE",
        env = "AFFIANT_CERTIFICATE",
        hide_env_values = true
    )]
    key_certificate: Option<PathBuf>,
    /// Certificates between it and a root (repeatable)
    #[arg(
        long,
        alias = "signer-file-intermediate-paths",
        value_name = "FILE",
        env = "AFFIANT_CERTIFICATE_CHAIN",
        value_delimiter = ',',
        hide_env_values = true
    )]
    key_certificate_chain: Vec<PathBuf>,
}

/// Those who sign, and the variables that were consumed for it (security rule 2).
pub(crate) type Signers = (Vec<Box<dyn Signer>>, Vec<String>);

impl SignerArgs {
    /// Says by which name affiant was called.
    pub(crate) fn call(&mut self, called: Called) {
        self.named.token.call(called);
    }

    /// Whether an identity is to sign, where no key does.
    pub(crate) fn is_keyless(&self) -> bool {
        self.named.authority().is_some() || self.named.config().is_some()
    }

    /// Whether an identity signs, alone or beside `keys`.
    pub(crate) fn is_identity(&self, keys: &[String]) -> bool {
        self.named.authority().is_some() || (keys.is_empty() && self.is_keyless())
    }

    /// What the command may not see of who signs.
    pub(crate) fn secrets(&self, keys: &[String]) -> Secrets {
        self.named.token.secrets(self.is_identity(keys))
    }

    /// The trusted root that the services' answers are checked with, to be kept beside what they vouch for.
    pub(crate) fn trusted_root(&self, keys: &[String], output: &Output) -> Result<Option<Vec<u8>>, Failure> {
        if !self.asks(keys)? {
            return Ok(None);
        }
        if self.is_identity(keys) && self.named.root.named().is_none() {
            output.message(
                "note: no roots of the day are kept with the evidence, for none are named: whoever checks it in years must have them from elsewhere (`--trusted-root ROOT` keeps them)",
            );
        }
        self.named.root.bytes(output)
    }

    /// The trusted root that is named, whatever is asked.
    pub(crate) fn named_root(&self, output: &Output) -> Result<Option<Vec<u8>>, Failure> {
        self.named.root.bytes(output)
    }

    /// Whether a trusted root is named.
    pub(crate) fn names_root(&self) -> bool {
        self.named.root.named().is_some()
    }

    /// How `resume` is told of that.
    pub(crate) fn root_flag(&self) -> String {
        self.named.root.named().map(|root| format!(" --trusted-root {}", word(root))).unwrap_or_default()
    }

    /// The same, and what else is said of logs that only a record names.
    pub(crate) fn log_flags(&self) -> String {
        let consent = if self.named.log_public_ok { " --log-public-ok" } else { "" };
        format!("{}{consent}", self.root_flag())
    }

    /// The way to logs, with one budget of time for all questions.
    pub(crate) fn logs(&self) -> Result<Arc<dyn Services>, Failure> {
        services(self.named.retry_for())
    }

    /// The same, or what stands before it, with the answers checked as those are that sign.
    pub(crate) fn checked(&self, services: Arc<dyn Services>, output: &Output) -> Result<Arc<dyn Services>, Failure> {
        Ok(self.named.root.check(services, false, output)?.0)
    }

    /// Whether this log, which only a record names, may be asked. What the record says of registries is no consent.
    pub(crate) fn permit_log(&self, services: &dyn Services, url: &str) -> Result<(), Failure> {
        permitted(services, [&url.to_owned()])?;
        if is_public(url) && !self.named.log_public_ok {
            return Err(becomes_public(url, "the digest of what was signed, and who signed, becomes known"));
        }
        Ok(())
    }

    /// Files that are read.
    pub(crate) fn reads(&self, files: &mut outputs::Files) {
        self.named.reads(files);
        files.reads("the certificate of the key", &self.key_certificate);
        files.reads("a certificate above that of the key", &self.key_certificate_chain);
    }

    /// Whether signing asks a service.
    pub(crate) fn asks(&self, keys: &[String]) -> Result<bool, Failure> {
        let chosen = self.services()?;
        let asks = !chosen.timestamps.is_empty() || !self.log_urls().is_empty();
        Ok(asks || (chosen.authority.is_some() && self.is_identity(keys)))
    }

    /// Refuses services where no other machine may be asked.
    pub(crate) fn refuse_offline(&self, keys: &[String]) -> Result<(), Failure> {
        if !self.asks(keys)? {
            return Ok(());
        }
        Err(Failure::usage("--offline, and a service is named that signing would ask").hint(
            "leave --offline out: where a service does not answer, the evidence waits, and `affiant resume` signs it later",
        ))
    }

    /// How `resume` is told the same.
    pub(crate) fn resume_flags(&self) -> String {
        let mut flags = String::new();
        let mut add = |flag: &str, value: &str| flags.extend([" ", flag, " ", &word(value)]);
        if let Some(url) = self.named.authority() {
            add("--fulcio-url", &url);
        }
        for url in self.named.timestamps() {
            add("--timestamp-servers", &url);
        }
        for url in self.log_urls() {
            add("--rekor-url", &url);
        }
        if let Some(file) = self.named.config() {
            add("--signing-config", &file.display().to_string());
        }
        if let Some(file) = &self.key_certificate {
            add("--key-certificate", &file.display().to_string());
        }
        for file in &self.key_certificate_chain {
            add("--key-certificate-chain", &file.display().to_string());
        }
        if let Some(root) = self.named.root.named() {
            add("--trusted-root", root);
        }
        for (flag, value) in self.named.token.resume_flags() {
            add(flag, &value);
        }
        if self.named.token.oidc_disable_ambient_providers {
            flags.push_str(" --oidc-disable-ambient-providers");
        }
        if self.named.log_public_ok {
            flags.push_str(" --log-public-ok");
        }
        flags
    }

    /// Those who sign: each of `keys` with what vouches for it, or an identity where there is none. Every token that is
    /// here is looked at, and every key tried, before anything is done that cannot be done again; a token that is to be
    /// asked for, and the certificate, are had when the first signature is made. `is_plan`: nobody will sign.
    pub(crate) fn signers(
        &self,
        keys: &[String],
        password: Option<&Path>,
        is_plan: bool,
        output: &Output,
    ) -> Result<Signers, Failure> {
        let Chosen { authority, timestamps, issuer, .. } = self.services()?;
        // Under the peers' names too: their flag says where to ask, and not that what is said there is kept for all to read.
        if let Some(public) = authority.as_ref().filter(|url| self.is_identity(keys) && is_public(url))
            && !self.named.log_public_ok
        {
            return Err(becomes_public(public, "who signs becomes known"));
        }
        let logs = self.log_urls();
        if let Some(public) = logs.iter().find(|url| is_public(url))
            && !self.named.log_public_ok
        {
            return Err(becomes_public(public, "the digest of what is signed, and who signs, becomes known"));
        }
        let services = if timestamps.is_empty() && logs.is_empty() && authority.is_none() {
            Arc::new(NoServices)
        } else if is_plan {
            // Nobody is asked, not even for a root of trust.
            services(self.named.retry_for())?
        } else {
            let (services, mut unchecked) = self.named.root.check(services(self.named.retry_for())?, false, output)?;
            // Without a log that is named, evidence is in none.
            unchecked.retain(|what| if *what == LOG { !logs.is_empty() } else { self.is_identity(keys) });
            tell_unchecked(&unchecked, output);
            services
        };
        permitted(services.as_ref(), authority.iter().chain(&timestamps).chain(&logs))?;
        let mut signers: Vec<Box<dyn Signer>> = Vec::new();
        let mut consumed = Vec::new();
        for name in keys {
            let Loaded { key, consumed: more } = keys::signing_key(name, password)?;
            key.sign(&[b"affiant probes its key before the command runs"])
                .map_err(|error| Failure::because(Kind::Run, format!("the signing key {name} cannot sign"), &error))?;
            if signers.iter().any(|signer| signer.public_key().key_id() == key.public_key().key_id()) {
                return Err(Failure::usage(format!("the signing key {name} is named twice")));
            }
            consumed.extend(more);
            let certificate = self.certificate(&key, keys.len())?;
            if certificate.is_none() && timestamps.is_empty() && logs.is_empty() {
                signers.push(Box::new(key));
                continue;
            }
            let vouched = Vouched::new(key, certificate, timestamps.clone(), Arc::clone(&services));
            let vouched = vouched.map_err(|error| {
                Failure::because(
                    Kind::Run,
                    format!("the certificate cannot be used with the signing key {name}"),
                    &error,
                )
            })?;
            signers.push(Box::new(vouched.logged_in(logs.clone())));
        }
        // A configuration also says where a key's timestamps come from; an authority that is named itself is to sign too.
        if !keys.is_empty() && self.named.authority().is_none() {
            return Ok((signers, consumed));
        }
        if keys.is_empty() && self.key_certificate.is_some() {
            return Err(Failure::usage("a certificate is named, and no key").hint("name its key with `--key FILE`"));
        }
        let Some(authority) = authority else {
            if keys.is_empty() && self.is_keyless() {
                return Err(Failure::usage(
                    "the signing configuration names no certificate authority, and there is no key",
                )
                .hint("name a key with `--key FILE`, or a configuration with `caUrls`"));
            }
            return Ok((signers, consumed));
        };
        if timestamps.is_empty() && logs.is_empty() {
            return Err(no_time());
        }
        if is_plan {
            return Ok((signers, consumed));
        }
        let found = self.named.token.find(issuer.as_deref())?;
        if let Some(issuer) = found.login() {
            output.message(&format!(
                "note: there is no identity token: when it is to be signed, you are asked to log in at {issuer}"
            ));
        }
        consumed.extend(found.consumed.iter().cloned());
        let key = PrivateKey::generate(KeyKind::P256)
            .map_err(|error| Failure::because(Kind::Run, "no key for the certificate can be made", &error))?;
        let issue = self.issue(authority, found, &services, output);
        signers.push(Box::new(Vouched::later(key, issue, timestamps, services).logged_in(logs)));
        Ok((signers, consumed))
    }

    /// Where certificates and timestamps come from. An entry in a log is made only where a flag asks for it: a
    /// configuration is often one for images.
    fn services(&self) -> Result<Chosen, Failure> {
        self.named.chosen(named(self.rekor_url.as_ref()), None, true)
    }

    /// Where the signature is entered.
    fn log_urls(&self) -> Vec<String> {
        named(self.rekor_url.as_ref()).into_iter().collect()
    }

    fn certificate(&self, key: &PrivateKey, keys: usize) -> Result<Option<(Certificate, Vec<Certificate>)>, Failure> {
        let Some(file) = self.key_certificate.as_deref().filter(|file| !file.as_os_str().is_empty()) else {
            return if self.key_certificate_chain.is_empty() {
                Ok(None)
            } else {
                Err(Failure::usage("certificates above that of the key are named, and not its own")
                    .hint("name it with `--key-certificate FILE`"))
            };
        };
        if keys > 1 {
            return Err(Failure::usage("one certificate is named, and several keys").hint("name one key"));
        }
        let read = |file: &Path| {
            Certificate::read_all(&read_file(file)?).map_err(|error| {
                Failure::because(Kind::Run, format!("the certificate {} cannot be used", file.display()), &error)
            })
        };
        let mut own = read(file)?;
        // A file may have the whole chain, the key's certificate first.
        let leaf = own.remove(0);
        let mut chain = own;
        for file in &self.key_certificate_chain {
            chain.extend(read(file)?);
        }
        if leaf.public_key() != key.public_key() {
            return Err(Failure::new(Kind::Run, format!("the certificate {} is for another key", file.display())));
        }
        Ok(Some((leaf, chain)))
    }

    /// What gets the certificate when the first signature is made. Whatever comes between then, what is to be signed is
    /// not lost: a login that is broken off is an error like another.
    fn issue(&self, authority: String, found: Found, services: &Arc<dyn Services>, output: &Output) -> Issue {
        let (services, token, output) = (Arc::clone(services), self.named.token.clone(), output.clone());
        Box::new(move |key| {
            let token = found.fetch(services.as_ref(), &token, true, &output).map_err(|failure| failure.one_line())?;
            let issued = services.certificate(&authority, Form::Key, &token, key).map_err(|error| error.to_string())?;
            issued.check(key.public_key(), token.claims()).map_err(|error| format!("{authority}: {error}"))?;
            Ok(issued)
        })
    }
}

/// A value as a shell takes it.
pub(crate) fn word(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', "'\\''"))
}
