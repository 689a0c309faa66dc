//! What the gate is asked with: the policy, and whom to trust. All of it comes from flags (security rule 8).

use std::path::{Path, PathBuf};

use affiant_core::policy::source::believe;
use affiant_core::sigstore::TrustedRoot;
use affiant_core::store::SubjectDigest;
use affiant_core::trust::{Anchor, Certificate, Constraint, Trust};
use affiant_core::verdict::TrustInput;
use affiant_core::verify::{Files, PolicyTrust};
use clap::{Args, ValueEnum};

use crate::cli::archivista::ArchivistaArgs;
use crate::cli::failure::{Failure, Kind};
use crate::cli::{inspect, keys, outputs, places};

/// Largest file of a signed policy, in bytes: its payload in base64, and signatures.
const MAX_POLICY_FILE: usize = 2 * affiant_core::policy::MAX_POLICY;

/// The policy, whom to trust, and where evidence is.
#[derive(Args)]
#[command(
    mut_arg("enable_archivista", |arg| arg.hide(true)),
    mut_arg("archivista_server", |arg| arg.hide(true)),
    mut_arg("archivista_headers", |arg| arg.hide(true))
)]
pub(in crate::cli) struct GateArgs {
    /// The signed policy
    #[arg(short, long, value_name = "FILE", required = true)]
    policy: PathBuf,
    /// Public key of the policy's signer (repeatable: any of them)
    #[arg(short = 'k', long = "publickey", visible_alias = "key", value_name = "FILE")]
    publickey: Vec<PathBuf>,
    /// Evidence: files, folders of them, JSON lines (repeatable, comma-separated; default: the archive)
    #[arg(short, long, value_name = "FILE", value_delimiter = ',')]
    attestations: Vec<PathBuf>,
    /// Find evidence by this digest of a subject as well; it proves nothing (repeatable, comma-separated)
    #[arg(short, long, value_name = "[ALG:]HEX", value_delimiter = ',')]
    pub(super) subjects: Vec<String>,
    /// Archive to look in: `dir:PATH`, or `archivista+URL` for a server
    #[arg(long, value_name = "dir:PATH", env = "AFFIANT_ARCHIVE", hide_env_values = true)]
    pub(super) archive: Option<String>,
    #[command(flatten)]
    pub(super) archivista: ArchivistaArgs,
    /// Roots of the certificate that signed the policy (PEM; repeatable)
    #[arg(long, value_name = "FILE", value_delimiter = ',', visible_alias = "policy-ca")]
    policy_ca_roots: Vec<PathBuf>,
    /// Certificates between it and the roots (PEM; repeatable)
    #[arg(long, value_name = "FILE", value_delimiter = ',', hide = true)]
    policy_ca_intermediates: Vec<PathBuf>,
    /// Timestamp authorities of the policy's signature (PEM; repeatable)
    #[arg(long, value_name = "FILE", value_delimiter = ',', hide = true)]
    policy_timestamp_servers: Vec<PathBuf>,
    /// Sigstore's trusted root (`trusted_root.json`) for the policy's signature: authorities, and logs whose promise proves
    /// its time as a timestamp does
    #[arg(long, value_name = "FILE")]
    policy_trusted_root: Option<PathBuf>,
    #[command(flatten)]
    identity: Identity,
    /// The oldest `version` of the policy that is accepted
    #[arg(long, value_name = "N", hide = true)]
    policy_minimum_version: Option<u64>,
    /// Evidence bundle, as `affiant bundle create` or cilock makes it (repeatable); the same as --attestations
    #[arg(long, value_name = "FILE")]
    bundle: Vec<PathBuf>,
    /// Ask no registry and no server; what would be asked is refused
    #[arg(long, hide = true)]
    pub(in crate::cli) offline: bool,
}

/// The policy as it was given, and whom its signature is checked with.
pub(in crate::cli) struct Trusted {
    pub(super) label: String,
    pub(super) policy: Vec<u8>,
    pub(super) trust: PolicyTrust,
    pub(in crate::cli) origins: Vec<TrustInput>,
}

impl Trusted {
    pub(in crate::cli) fn origin(&mut self, what: &str, value: String, from: String) {
        self.origins.push(TrustInput { what: what.to_owned(), value, from });
    }
}

impl GateArgs {
    /// Reads the policy and everything that decides whom to trust.
    pub(in crate::cli) fn trusted(&self) -> Result<Trusted, Failure> {
        let label = self.policy.display().to_string();
        let policy = inspect::read_file_within(&self.policy, MAX_POLICY_FILE)
            .map_err(|failure| failure.hint("name the signed policy with `--policy`"))?;
        let mut trusted = Trusted { label, policy, trust: PolicyTrust::default(), origins: Vec::new() };
        let digest = format!("sha256:{}", affiant_core::digest::sha256_hex(&trusted.policy));
        trusted.origin("policy", digest, format!("--policy {}", trusted.label));
        let mut trust = Trust::default();
        for path in &self.publickey {
            let key = keys::public_key(path)?;
            trusted.origin("policy key", key.key_id().to_owned(), format!("--publickey {}", path.display()));
            trust.keys.push(key);
        }
        let intermediates = certificates(&self.policy_ca_intermediates, "--policy-ca-intermediates")?;
        for (path, certificate) in certificates(&self.policy_ca_roots, "--policy-ca-roots")? {
            let from = format!("--policy-ca-roots {}", path.display());
            trusted.origin("policy root", certificate.subject().to_string(), from);
            trust.roots.push(Anchor {
                id: certificate.key_id().to_owned(),
                certificate,
                intermediates: intermediates.iter().map(|(_, certificate)| certificate.clone()).collect(),
            });
        }
        for (path, certificate) in certificates(&self.policy_timestamp_servers, "--policy-timestamp-servers")? {
            let from = format!("--policy-timestamp-servers {}", path.display());
            trusted.origin("policy timestamp authority", certificate.subject().to_string(), from);
            let id = certificate.key_id().to_owned();
            trust.authorities.push(Anchor { id, certificate, intermediates: Vec::new() });
        }
        let mut sct = false;
        if let Some(path) = &self.policy_trusted_root {
            let bytes = inspect::read_file(path)?;
            let root = TrustedRoot::parse(&bytes).map_err(|error| {
                Failure::because(
                    Kind::NoAnswer,
                    format!("--policy-trusted-root {} cannot be used", path.display()),
                    &error,
                )
            })?;
            let digest = format!("sha256:{}", affiant_core::digest::sha256_hex(&bytes));
            trusted.origin("policy trusted root", digest, format!("--policy-trusted-root {}", path.display()));
            believe(&mut trust, &root);
            // Whoever names the logs of an authority says that it logs what it issues.
            sct = !root.ct_logs.is_empty();
        }
        if self.policy_trusted_root.is_some() && self.identity.policy_fulcio_oidc_issuer.is_none() {
            return Err(Failure::usage("--policy-trusted-root: nothing says which issuer must have vouched for the signer")
                .hint("add `--policy-fulcio-oidc-issuer URL`: its authority takes identities from several, and one may let anybody choose a name"));
        }
        if trust.keys.is_empty() && trust.roots.is_empty() {
            return Err(Failure::usage("nothing says who may sign the policy")
                .hint("name the public key of the policy's signer with `--publickey FILE`, or roots with `--policy-trusted-root FILE` or `--policy-ca-roots FILE`"));
        }
        let constraint = if trust.roots.is_empty() {
            None
        } else if self.identity.is_anybody() {
            return Err(Failure::usage(
                "roots alone would let anybody with a certificate sign the policy, and so would an issuer alone",
            )
            .hint("say who: `--policy-emails`, `--policy-uris`, `--policy-commonname` …; `'*'` stands for anybody"));
        } else {
            Some(self.identity.constraint()?)
        };
        if let Some(constraint) = &constraint {
            let value = serde_json::to_string(constraint).unwrap_or_default();
            trusted.origin("policy signer", value, "the --policy-* flags".to_owned());
        }
        trusted.trust = PolicyTrust { trust, constraint, sct, minimum_version: self.policy_minimum_version };
        Ok(trusted)
    }

    /// What is read.
    pub(in crate::cli) fn reads(&self, files: &mut outputs::Files) {
        files.reads("the policy", [&self.policy]);
        files.reads_trees("the archive", false, places::archive_folder(self.archive.as_deref()));
        files.reads("a key of the policy", &self.publickey);
        files.reads("evidence", self.attestations.iter().chain(&self.bundle));
        let certificates = [&self.policy_ca_roots, &self.policy_ca_intermediates, &self.policy_timestamp_servers];
        files.reads("a certificate of the policy", certificates.into_iter().flatten());
        files.reads("the root of trust of the policy", &self.policy_trusted_root);
    }

    /// Digests to find evidence by.
    pub(super) fn seeds(&self) -> Result<Vec<SubjectDigest>, Failure> {
        self.subjects.iter().map(|text| super::seed(text)).collect()
    }

    /// Whether evidence is named.
    pub(super) fn has_evidence(&self) -> bool {
        !self.attestations.is_empty() || !self.bundle.is_empty()
    }

    /// The evidence that is named.
    pub(super) fn files(&self) -> Result<Option<Files>, Failure> {
        let named: Vec<PathBuf> = self.attestations.iter().chain(&self.bundle).cloned().collect();
        self.has_evidence().then(|| super::evidence(&named)).transpose()
    }
}

/// Who must have signed the policy, where a certificate did. What is not given may be anything; one must be given.
#[derive(Args)]
#[expect(clippy::struct_field_names, reason = "the names of the flags")]
struct Identity {
    /// Common name
    #[arg(long, value_name = "NAME", hide = true)]
    policy_commonname: Option<String>,
    /// DNS names, all of them
    #[arg(long, value_name = "NAME", value_delimiter = ',', hide = true)]
    policy_dns_names: Vec<String>,
    /// E-mail addresses, all of them
    #[arg(long, value_name = "MAIL", value_delimiter = ',')]
    policy_emails: Vec<String>,
    /// Organizations, all of them
    #[arg(long, value_name = "NAME", value_delimiter = ',', hide = true)]
    policy_organizations: Vec<String>,
    /// URIs, all of them
    #[arg(long, value_name = "URI", value_delimiter = ',')]
    policy_uris: Vec<String>,
    /// Fulcio: issuer of the identity token
    #[arg(long, value_name = "URL", hide = true)]
    policy_fulcio_oidc_issuer: Option<String>,
    /// Fulcio: build trigger
    #[arg(long, value_name = "TEXT", hide = true)]
    policy_fulcio_build_trigger: Option<String>,
    /// Fulcio: commit of the source repository
    #[arg(long, value_name = "TEXT", hide = true)]
    policy_fulcio_source_repository_digest: Option<String>,
    /// Fulcio: URI of the run
    #[arg(long, value_name = "TEXT", hide = true)]
    policy_fulcio_run_invocation_uri: Option<String>,
    /// Fulcio: id of the source repository
    #[arg(long, value_name = "TEXT", hide = true)]
    policy_fulcio_source_repository_identifier: Option<String>,
    /// Fulcio: ref of the source repository
    #[arg(long, value_name = "TEXT", hide = true)]
    policy_fulcio_source_repository_ref: Option<String>,
    /// Fulcio: URI of the source repository
    #[arg(long, value_name = "TEXT", hide = true)]
    policy_fulcio_source_repository_uri: Option<String>,
    /// Fulcio: URI of the build's configuration
    #[arg(long, value_name = "TEXT", hide = true)]
    policy_fulcio_build_config_uri: Option<String>,
    /// Fulcio: `github-hosted` or `self-hosted`
    #[arg(long, value_name = "TEXT", hide = true)]
    policy_fulcio_runner_environment: Option<String>,
}

impl Identity {
    fn extensions(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("Issuer", &self.policy_fulcio_oidc_issuer),
            ("BuildTrigger", &self.policy_fulcio_build_trigger),
            ("SourceRepositoryDigest", &self.policy_fulcio_source_repository_digest),
            ("RunInvocationURI", &self.policy_fulcio_run_invocation_uri),
            ("SourceRepositoryIdentifier", &self.policy_fulcio_source_repository_identifier),
            ("SourceRepositoryRef", &self.policy_fulcio_source_repository_ref),
            ("SourceRepositoryURI", &self.policy_fulcio_source_repository_uri),
            ("BuildConfigURI", &self.policy_fulcio_build_config_uri),
            ("RunnerEnvironment", &self.policy_fulcio_runner_environment),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }

    /// Whether nobody is named: an issuer alone identifies whoever has an account there.
    fn is_anybody(&self) -> bool {
        self.policy_commonname.is_none()
            && self.policy_dns_names.is_empty()
            && self.policy_emails.is_empty()
            && self.policy_organizations.is_empty()
            && self.policy_uris.is_empty()
            && self.extensions().iter().all(|(name, _)| *name == "Issuer")
    }

    /// As the constraint of a policy.
    fn constraint(&self) -> Result<Constraint, Failure> {
        let list = |values: &[String]| if values.is_empty() { vec!["*".to_owned()] } else { values.to_vec() };
        let extensions: serde_json::Map<_, _> =
            self.extensions().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let value = serde_json::json!({
            "commonname": self.policy_commonname.as_deref().unwrap_or("*"),
            "dnsnames": list(&self.policy_dns_names),
            "emails": list(&self.policy_emails),
            "organizations": list(&self.policy_organizations),
            "uris": list(&self.policy_uris),
            "roots": ["*"],
            "extensions": extensions,
        });
        Constraint::read(&value)
            .map(|(constraint, _)| constraint)
            .map_err(|error| Failure::because(Kind::Usage, "the identity of the policy's signer is not one", &error))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Mode {
    Enforce,
    Warn,
    Audit,
}

impl Mode {
    pub(in crate::cli) fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Warn => "warn",
            Self::Audit => "audit",
        }
    }
}

fn certificates<'a>(paths: &'a [PathBuf], flag: &str) -> Result<Vec<(&'a Path, Certificate)>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        let message = || format!("{flag} {} cannot be read", path.display());
        let bytes = std::fs::read(path).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
        let read =
            Certificate::read_all(&bytes).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
        all.extend(read.into_iter().map(|certificate| (path.as_path(), certificate)));
    }
    Ok(all)
}
