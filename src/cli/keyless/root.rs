//! With what the answers of services are checked when something is signed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use affiant_core::keyless::Services;
use affiant_core::keyless::checking::Checking;
use affiant_core::sigstore::{Authority, Log, TrustedRoot, Window};
use clap::Args;

use crate::cli::failure::{Failure, Kind};
use crate::cli::inspect::read_file;
use crate::cli::keys::public_key;
use crate::cli::output::Output;
use crate::cli::surroundings::{self, variable};
use crate::cli::trust::{self, Getting, PUBLIC};

/// The variables of cosign for single files: roots of certificates, key of the certificates' log, key of the log,
/// certificates of the timestamp authority. They work for signing only (security rule 8).
const VARIABLES: [&str; 4] = [
    "SIGSTORE_ROOT_FILE",
    "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE",
    "SIGSTORE_REKOR_PUBLIC_KEY",
    "SIGSTORE_TSA_CERTIFICATE_FILE",
];

/// Whom the signer believes.
#[derive(Args, Clone)]
pub(crate) struct RootArgs {
    /// Check what the services answer with this root of trust: a file, or `public`
    #[arg(long, value_name = "ROOT")]
    trusted_root: Option<String>,
}

impl RootArgs {
    /// The root that is named.
    pub(crate) fn named(&self) -> Option<&str> {
        self.trusted_root.as_deref().filter(|root| !root.is_empty())
    }

    /// The services with their answers checked, and what is not checked. `is_public`: they are those of the public
    /// instance, whose root is known then.
    pub(crate) fn check(
        &self,
        services: Arc<dyn Services>,
        is_public: bool,
        output: &Output,
    ) -> Result<(Arc<dyn Services>, Vec<&'static str>), Failure> {
        let root = self.load(is_public, output)?;
        let unchecked = Checking::unchecked(&root);
        if root.is_empty() {
            return Ok((services, unchecked));
        }
        Ok((Arc::new(Checking::new(services, root, surroundings::now())), unchecked))
    }

    /// The bytes of the root that is named.
    pub(crate) fn bytes(&self, output: &Output) -> Result<Option<Vec<u8>>, Failure> {
        let getting = Getting { flag: "--trusted-root", offline: false, signs: true };
        self.named().map(|root| trust::bytes_of(root, getting, output)).transpose()
    }

    fn load(&self, is_public: bool, output: &Output) -> Result<TrustedRoot, Failure> {
        let cannot = |file: &Path, error: &dyn std::error::Error| {
            Failure::because(Kind::NoAnswer, format!("{} cannot be used", file.display()), error)
        };
        let public = is_public.then_some(PUBLIC);
        if let Some(root) = self.trusted_root.as_deref().filter(|root| !root.is_empty()).or(public) {
            return trust::load(root, Getting { flag: "--trusted-root", offline: false, signs: true }, output);
        }
        let mut root = TrustedRoot::default();
        for name in VARIABLES {
            let Some(file) = variable(name).map(PathBuf::from) else { continue };
            let authority =
                || Authority::new(&read_file(&file)?, name, Window::default()).map_err(|error| cannot(&file, &error));
            let log = || public_key(&file).map(|key| Log::new("", key, Window::default()));
            match name {
                "SIGSTORE_ROOT_FILE" => root.authorities.push(authority()?),
                "SIGSTORE_TSA_CERTIFICATE_FILE" => root.timestamp_authorities.push(authority()?),
                "SIGSTORE_REKOR_PUBLIC_KEY" => root.logs.push(log()?),
                _ => root.ct_logs.push(log()?),
            }
        }
        Ok(root)
    }
}
