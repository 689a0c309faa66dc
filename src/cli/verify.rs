//! `affiant verify`: the gate.

use std::path::{Path, PathBuf};

use affiant_core::bundle::Bundle;
use affiant_core::dsse::Envelope;
use affiant_core::outfile::Outfile;
use affiant_core::sign::Signer;
use affiant_core::statement::PAYLOAD_TYPE;
use affiant_core::store::{Archive, SubjectDigest};
use affiant_core::trust::{Anchor, Certificate, Constraint, Trust};
use affiant_core::verdict::{Answer, TrustInput, Verdict};
use affiant_core::verify::{
    Artifact, Files, Handle, PolicyFile, PolicyTrust, Question, Source, VerifyError, verify_with_evidence,
};
use affiant_core::vsa;
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::archivista::ArchivistaArgs;
use super::failure::{Failure, Kind};
use super::names::{Called, verdict_json};
use super::output::Output;
use super::report::{self, Reports};
use super::surroundings::{self, variable, variables};
use super::{Ending, keys, places};

/// Largest file of a signed policy, in bytes: its payload in base64, and signatures.
const MAX_POLICY_FILE: usize = 2 * affiant_core::policy::MAX_POLICY;
/// Files in one folder that is named for evidence.
const MAX_FOLDER: usize = 1_000_000;
/// Flags that say whom to trust or what a denial does, besides those that start with `--policy`.
const TRUST_FLAGS: [&str; 6] = ["publickey", "public-key", "keys", "mode", "at", "offline"];
/// Variables that peers take trust from; a build step can write them, so they are refused (security rule 8).
const PEERS_TRUST: [(&str, &str); 7] = [
    ("SIGSTORE_ROOT_FILE", "--policy-ca-roots"),
    ("SIGSTORE_REKOR_PUBLIC_KEY", "--policy-ca-roots"),
    ("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", "--policy-ca-roots"),
    ("SIGSTORE_TSA_CERTIFICATE_FILE", "--policy-timestamp-servers"),
    ("CILOCK_POLICY_HARDENING", "--mode"),
    ("WITNESS_POLICY", "--policy"),
    ("WITNESS_PUBLICKEY", "--publickey"),
];

#[derive(Args)]
#[command(
    mut_arg("enable_archivista", |arg| arg.hide(true)),
    mut_arg("archivista_server", |arg| arg.hide(true)),
    mut_arg("archivista_headers", |arg| arg.hide(true)),
    after_help = "Examples:\n  affiant verify -p policy.signed.json -k policy.pub image.tar\n  affiant verify -p policy.signed.json -k policy.pub -a build.att.json,sbom.att.json -f image.tar --report html=verdict.html\n\nExit codes: 0 passed, 1 denied, 2 usage, 3 no evidence found, 4 no answer possible."
)]
pub(crate) struct VerifyArgs {
    /// Files and folders that must have been made by accepted evidence, each of them
    #[arg(value_name = "ARTIFACT")]
    artifacts: Vec<PathBuf>,
    /// The signed policy
    #[arg(short, long, value_name = "FILE", required = true)]
    policy: PathBuf,
    /// Public key of the policy's signer (repeatable: any of them)
    #[arg(short = 'k', long = "publickey", visible_alias = "key", value_name = "FILE")]
    publickey: Vec<PathBuf>,
    /// Evidence: files, folders of them, JSON lines (repeatable, comma-separated; default: the archive)
    #[arg(short, long, value_name = "FILE", value_delimiter = ',')]
    attestations: Vec<PathBuf>,
    /// The same as a positional artifact
    #[arg(short = 'f', long = "artifactfile", value_name = "FILE")]
    artifactfile: Vec<PathBuf>,
    /// A folder that must be a product as a whole, or file by file
    #[arg(long, value_name = "DIR")]
    directory_path: Vec<PathBuf>,
    /// Find evidence by this digest of a subject as well; it proves nothing (repeatable, comma-separated)
    #[arg(short, long, value_name = "[ALG:]HEX", value_delimiter = ',')]
    subjects: Vec<String>,
    /// Archive to look in: `dir:PATH`, or `archivista+URL` for a server
    #[arg(long, value_name = "dir:PATH", env = "AFFIANT_ARCHIVE", hide_env_values = true)]
    archive: Option<String>,
    #[command(flatten)]
    archivista: ArchivistaArgs,
    /// Roots of the certificate that signed the policy (PEM; repeatable)
    #[arg(long, value_name = "FILE", value_delimiter = ',', visible_alias = "policy-ca")]
    policy_ca_roots: Vec<PathBuf>,
    /// Certificates between it and the roots (PEM; repeatable)
    #[arg(long, value_name = "FILE", value_delimiter = ',', hide = true)]
    policy_ca_intermediates: Vec<PathBuf>,
    /// Timestamp authorities of the policy's signature (PEM; repeatable)
    #[arg(long, value_name = "FILE", value_delimiter = ',', hide = true)]
    policy_timestamp_servers: Vec<PathBuf>,
    #[command(flatten)]
    identity: Identity,
    /// The oldest `version` of the policy that is accepted
    #[arg(long, value_name = "N", hide = true)]
    policy_minimum_version: Option<u64>,
    /// Judge as of this time (RFC 3339)
    #[arg(long, value_name = "TIME", hide = true)]
    at: Option<Timestamp>,
    /// What a denial does: `enforce` ends with 1, `warn` and `audit` say so and end with 0
    #[arg(long, value_enum, default_value = "enforce")]
    mode: Mode,
    /// Form of the verdict on stdout
    #[arg(short, long, value_enum, default_value = "text", visible_alias = "format")]
    output: Form,
    /// Write the verdict to a file as well: json, markdown, junit, html or text (repeatable)
    #[arg(long, value_name = "FORM=FILE")]
    report: Vec<String>,
    /// Evidence bundle, as `affiant bundle create` or cilock makes it (repeatable); the same as --attestations
    #[arg(long, value_name = "FILE")]
    bundle: Vec<PathBuf>,
    /// Write a bundle of the evidence that was looked at
    #[arg(long, value_name = "FILE", hide = true)]
    output_bundle: Option<PathBuf>,
    #[command(flatten)]
    summary: SummaryArgs,
    /// Use no network (nothing here does: the flag documents it)
    #[arg(long, hide = true)]
    offline: bool,
    /// Show every option
    #[arg(long)]
    help_all: bool,
    /// The name that affiant was called by.
    #[arg(skip)]
    pub(crate) called: Called,
}

/// The verification summary.
#[derive(Args)]
struct SummaryArgs {
    /// Write a signed verification summary (VSA) of the answer
    #[arg(long, value_name = "FILE", requires = "signer_file_key_path")]
    vsa_outfile: Option<PathBuf>,
    /// Key that signs the summary: a file, or `env:NAME` (repeatable)
    #[arg(long, value_name = "KEY", visible_alias = "vsa-key")]
    signer_file_key_path: Vec<String>,
    /// File whose first line is the password of that key
    #[arg(long, value_name = "FILE", hide = true, visible_alias = "signer-file-key-passphrase-path")]
    key_password_file: Option<PathBuf>,
    /// Who the summary says has verified
    #[arg(long, value_name = "ID", hide = true, default_value = "affiant")]
    vsa_verifier_id: String,
    /// What the summary calls the artifact (default: its name)
    #[arg(long, value_name = "URI", hide = true)]
    vsa_resource_uri: Option<String>,
}

/// A summary that is going to be written: everything that can be refused is refused before the answer.
struct Summary<'a> {
    args: &'a SummaryArgs,
    outfile: Outfile,
    signers: Vec<affiant_core::sign::PrivateKey>,
}

impl SummaryArgs {
    fn prepare(&self) -> Result<Option<Summary<'_>>, Failure> {
        let Some(path) = &self.vsa_outfile else {
            return if self.signer_file_key_path.is_empty() {
                Ok(None)
            } else {
                Err(Failure::usage("--signer-file-key-path signs a verification summary, and none is asked for")
                    .hint("name it with `--vsa-outfile FILE`; the policy's key is `--publickey FILE`"))
            };
        };
        keys::refuse_as_outfile(&self.signer_file_key_path, path)?;
        let outfile = Outfile::probe(path).map_err(|error| {
            Failure::because(Kind::NoAnswer, format!("the outfile {} cannot be written", path.display()), &error)
        })?;
        let signers = self
            .signer_file_key_path
            .iter()
            .map(|key| keys::signing_key(key, self.key_password_file.as_deref()).map(|loaded| loaded.key))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|mut failure| {
                failure.kind = Kind::NoAnswer;
                failure
            })?;
        Ok(Some(Summary { args: self, outfile, signers }))
    }
}

impl Summary<'_> {
    fn write(&self, verdict: &Verdict, mode: Mode) -> Result<(), Failure> {
        let resource = self.args.vsa_resource_uri.as_deref();
        let Some(payload) = vsa::statement(verdict, &self.args.vsa_verifier_id, resource, mode == Mode::Enforce) else {
            return Err(Failure::usage("a verification summary is about an artifact, and none is named")
                .hint("name it: `affiant verify … --vsa-outfile FILE ARTIFACT`"));
        };
        let signers: Vec<&dyn Signer> = self.signers.iter().map(|key| key as &dyn Signer).collect();
        let envelope = Envelope::seal(payload, PAYLOAD_TYPE, &signers)
            .map_err(|error| Failure::because(Kind::NoAnswer, "the summary cannot be signed", &error))?;
        self.outfile
            .write(&envelope.to_json())
            .map_err(|error| Failure::because(Kind::NoAnswer, "the summary cannot be written", &error))
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

    fn is_empty(&self) -> bool {
        self.policy_commonname.is_none()
            && self.policy_dns_names.is_empty()
            && self.policy_emails.is_empty()
            && self.policy_organizations.is_empty()
            && self.policy_uris.is_empty()
            && self.extensions().is_empty()
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
enum Mode {
    Enforce,
    Warn,
    Audit,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Warn => "warn",
            Self::Audit => "audit",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

pub(crate) fn verify(args: &VerifyArgs, output: &Output) -> Result<Ending, Failure> {
    refuse_trust_from_environment()?;
    let reports = Reports::parse(&args.report)?;
    let summary = args.summary.prepare()?;
    if summary.is_some() && args.at.is_some() {
        return Err(Failure::usage("a verification summary says when was verified: --at cannot decide that")
            .hint("leave out `--at` or `--vsa-outfile`"));
    }
    let bundle = args.output_bundle.as_deref().map(probe).transpose()?;
    let mut origins = Vec::new();
    let mut origin = |what: &str, value: String, from: String| {
        origins.push(TrustInput { what: what.to_owned(), value, from });
    };
    let label = args.policy.display().to_string();
    let policy = super::inspect::read_file_within(&args.policy, MAX_POLICY_FILE)
        .map_err(|failure| failure.hint("name the signed policy with `--policy`"))?;
    origin("policy", format!("sha256:{}", affiant_core::digest::sha256_hex(&policy)), format!("--policy {label}"));
    let mut trust = Trust::default();
    for path in &args.publickey {
        let key = keys::public_key(path)?;
        origin("policy key", key.key_id().to_owned(), format!("--publickey {}", path.display()));
        trust.keys.push(key);
    }
    let intermediates = certificates(&args.policy_ca_intermediates, "--policy-ca-intermediates")?;
    for (path, certificate) in certificates(&args.policy_ca_roots, "--policy-ca-roots")? {
        origin("policy root", certificate.subject().to_string(), format!("--policy-ca-roots {}", path.display()));
        trust.roots.push(Anchor {
            id: certificate.key_id().to_owned(),
            certificate,
            intermediates: intermediates.iter().map(|(_, certificate)| certificate.clone()).collect(),
        });
    }
    for (path, certificate) in certificates(&args.policy_timestamp_servers, "--policy-timestamp-servers")? {
        origin(
            "policy timestamp authority",
            certificate.subject().to_string(),
            format!("--policy-timestamp-servers {}", path.display()),
        );
        trust.authorities.push(Anchor { id: certificate.key_id().to_owned(), certificate, intermediates: Vec::new() });
    }
    if trust.keys.is_empty() && trust.roots.is_empty() {
        return Err(Failure::usage("nothing says who may sign the policy")
            .hint("name the public key of the policy's signer with `--publickey FILE`, or roots with `--policy-ca-roots FILE`"));
    }
    let constraint = if trust.roots.is_empty() {
        None
    } else if args.identity.is_empty() {
        return Err(Failure::usage("--policy-ca-roots alone would let anybody with a certificate sign the policy")
            .hint("say who: `--policy-emails`, `--policy-uris`, `--policy-commonname` …; `'*'` stands for anybody"));
    } else {
        Some(args.identity.constraint()?)
    };
    if let Some(constraint) = &constraint {
        origin(
            "policy signer",
            serde_json::to_string(constraint).unwrap_or_default(),
            "the --policy-* flags".to_owned(),
        );
    }
    // The real clock, whatever SOURCE_DATE_EPOCH says: it would decide whether a policy has expired.
    let at = args.at.unwrap_or_else(Timestamp::now);
    origin("time", at.to_string(), if args.at.is_some() { "--at".to_owned() } else { "the clock".to_owned() });
    origin("mode", args.mode.word().to_owned(), "--mode".to_owned());

    let artifacts = args
        .artifacts
        .iter()
        .chain(&args.artifactfile)
        .chain(&args.directory_path)
        .map(|path| artifact(path))
        .collect::<Result<Vec<_>, _>>()?;
    let seeds = args.subjects.iter().map(|text| seed(text)).collect::<Result<Vec<_>, _>>()?;
    if artifacts.is_empty() && seeds.is_empty() {
        return Err(Failure::usage("nothing is named that must be proven").hint(
            "name an artifact: `affiant verify … FILE`, or a digest to find evidence by: `--subjects sha256:…`",
        ));
    }
    let named: Vec<PathBuf> = args.attestations.iter().chain(&args.bundle).cloned().collect();
    let files = if named.is_empty() { None } else { Some(evidence(&named)?) };
    let stores = args.archivista.sources(args.archive.as_deref(), None, args.offline, !named.is_empty())?;
    let mut sources: Vec<&dyn Source> = Vec::new();
    sources.extend(files.as_ref().map(|files| files as &dyn Source));
    sources.extend(stores.iter().map(|store| &**store));

    let question = Question {
        policy: PolicyFile { label: &label, bytes: &policy },
        policy_trust: PolicyTrust { trust, constraint, minimum_version: args.policy_minimum_version },
        artifacts,
        seeds,
        sources,
        at,
        origins,
    };
    let (mut verdict, handles) = verify_with_evidence(&question).map_err(|error| no_answer(&label, &error))?;
    if let Some(files) = &files {
        let notes = files.unreadable().iter().map(|(label, reason)| format!("{label}: {reason}"));
        verdict.notes.extend(notes);
    }
    let text = match args.output {
        Form::Text => report::text::render(&verdict),
        Form::Json if args.called == Called::Cilock => {
            // cilock's object says no more than yes or no.
            report::text::render(&verdict).lines().for_each(|line| output.message(line));
            verdict_json(&verdict)
        }
        Form::Json => report::json::render(&verdict),
    };
    output.data(text.as_bytes())?;
    reports.write(&verdict)?;
    if let Some(summary) = &summary {
        summary.write(&verdict, args.mode)?;
    }
    if let Some(outfile) = &bundle {
        let subjects = question.artifacts.iter().map(Artifact::digest).chain(args.subjects.iter().cloned()).collect();
        let envelopes = read_all(&question.sources, &handles)?;
        write_bundle(outfile, envelopes, "verify-export", subjects)?;
    }
    Ok(Ending::Code(code(&verdict, args.mode)))
}

fn code(verdict: &Verdict, mode: Mode) -> i32 {
    match (verdict.answer, mode) {
        (Answer::Passed, _) | (_, Mode::Warn | Mode::Audit) => 0,
        (Answer::Denied, Mode::Enforce) => 1,
        (Answer::NoEvidence, Mode::Enforce) => 3,
    }
}

fn no_answer(policy: &str, error: &VerifyError) -> Failure {
    let failure = Failure::because(Kind::NoAnswer, format!("no answer can be given under the policy {policy}"), error);
    match error {
        VerifyError::Policy(_) => failure
            .hint("have this corrected by whoever writes the policy, and signed again")
            .hint("`affiant policy check FILE` says more about a policy"),
        VerifyError::Envelope { .. } => {
            failure.hint("name the signed policy, a DSSE envelope, as `affiant sign` writes it")
        }
        VerifyError::Unsupported { .. } => failure.hint("leave it out of the policy as long as no image is judged"),
        VerifyError::Source(_) => failure.hint("name evidence that can be read with `--attestations` or `--archive`"),
        VerifyError::TooMuch => failure.hint("name the evidence of one run with `--attestations`"),
        VerifyError::NoSeed => failure,
    }
}

/// Trust comes from flags only (security rule 8): a build step can write variables for the steps after it.
pub(crate) fn refuse_trust_from_environment() -> Result<(), Failure> {
    for name in variables("AFFIANT_") {
        let flag = name["AFFIANT_".len()..].to_ascii_lowercase().replace('_', "-");
        // Every flag that starts with `--policy` says whom to trust.
        if flag.starts_with("policy") || TRUST_FLAGS.contains(&flag.as_str()) {
            return Err(from_environment(&name, &format!("--{flag}")));
        }
    }
    match PEERS_TRUST.into_iter().find(|(name, _)| variable(name).is_some()) {
        Some((name, flag)) => Err(from_environment(name, flag)),
        None => Ok(()),
    }
}

fn from_environment(name: &str, flag: &str) -> Failure {
    Failure::usage(format!("{name} is set: whom the gate trusts is taken from flags only"))
        .hint(format!("unset {name}, and say what it is for with `{flag}`"))
        .hint("a build step can write variables for the steps after it")
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

pub(crate) fn artifact(path: &Path) -> Result<Artifact, Failure> {
    Artifact::read(path).map_err(|error| {
        let failure =
            Failure::because(Kind::NoAnswer, format!("the artifact {} cannot be looked at", path.display()), &error);
        if path.exists() { failure } else { failure.hint("an artifact is a file or a folder") }
    })
}

/// A digest to find evidence by: `ALG:HEX`, or the digits alone.
pub(crate) fn seed(text: &str) -> Result<SubjectDigest, Failure> {
    let digest = SubjectDigest::parse(text.trim());
    let digits = digest.value.rsplit(':').next().unwrap_or_default();
    if digits.len() < 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::usage(format!("--subjects {text}: not a digest"))
            .hint("write `sha256:` and 64 hex digits, or `sha1:` and 40"));
    }
    Ok(digest)
}

pub(crate) fn evidence(paths: &[PathBuf]) -> Result<Files, Failure> {
    let (files, empty) = evidence_files(paths)?;
    let mut files =
        Files::load(&files).map_err(|error| Failure::because(Kind::NoAnswer, "evidence cannot be read", &error))?;
    for folder in empty {
        files.tell(folder, "the folder has no file".to_owned());
    }
    Ok(files)
}

/// The files that are named, and those in the folders that are; and the folders that have none.
pub(crate) fn evidence_files(paths: &[PathBuf]) -> Result<(Vec<PathBuf>, Vec<String>), Failure> {
    let mut files = Vec::new();
    let mut empty = Vec::new();
    for path in paths {
        let message = || format!("the evidence {} cannot be read", path.display());
        let data = std::fs::metadata(path).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
        if !data.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))? {
            let entry = entry.map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
            if entry.path().is_file() {
                found.push(entry.path());
            }
            if found.len() > MAX_FOLDER {
                return Err(Failure::new(Kind::NoAnswer, format!("{}: more than {MAX_FOLDER} files", message())));
            }
        }
        if found.is_empty() {
            empty.push(path.display().to_string());
        }
        found.sort();
        files.extend(found);
    }
    files.dedup();
    Ok((files, empty))
}

/// The archive that was named; without named evidence the default one, where there is one.
pub(crate) fn archive(named: Option<&str>, has_evidence: bool) -> Result<Option<Archive>, Failure> {
    if named.is_none() && has_evidence {
        return Ok(None);
    }
    let folder = places::archive_folder(named)?;
    if named.is_none() && !folder.exists() {
        return Ok(None);
    }
    let message = || format!("the archive {} cannot be opened", folder.display());
    Archive::open(&folder).map(Some).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))
}

pub(crate) fn probe(path: &Path) -> Result<Outfile, Failure> {
    Outfile::probe(path).map_err(|error| {
        Failure::because(Kind::NoAnswer, format!("the outfile {} cannot be written", path.display()), &error)
    })
}

/// The envelopes that were found, each with its label.
pub(crate) fn read_all(
    sources: &[&dyn Source],
    handles: &[(usize, Handle)],
) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    handles
        .iter()
        .map(|(source, handle)| {
            let bytes = sources[*source]
                .read(handle)
                .map_err(|error| Failure::because(Kind::NoAnswer, "evidence cannot be read again", &error))?;
            Ok((handle.label.clone(), bytes))
        })
        .collect()
}

/// Writes a bundle.
pub(crate) fn write_bundle(
    outfile: &Outfile,
    envelopes: Vec<(String, Vec<u8>)>,
    source: &str,
    subjects: Vec<String>,
) -> Result<(), Failure> {
    let now = surroundings::clock()?.now();
    let bundle = Bundle::make(envelopes, source, subjects, now)
        .map_err(|error| Failure::because(Kind::NoAnswer, "the bundle cannot be made", &error))?;
    let mut bytes = Vec::new();
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::because(Kind::NoAnswer, "the bundle cannot be written", error)
    };
    bundle.write(&mut bytes).map_err(|error| failed(&error))?;
    outfile.write(&bytes).map_err(|error| failed(&error))
}
