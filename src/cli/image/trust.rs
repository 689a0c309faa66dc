//! Whom a check of images and files trusts: a key, or the holders of certificates. Only flags say it (security rule 8).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use affiant_core::image::Digest;
use affiant_core::image::found::{Demand, Refused};
use affiant_core::sign::PublicKey;
use affiant_core::sigstore::budget::Budget;
use affiant_core::sigstore::identity::{
    CLAIMS, Claim, ISSUER_FLAG, Mismatch, Pattern, SUBJECT_FLAG, Wanted, claim_of, gate_flag,
};
use affiant_core::sigstore::judge::{self, Demands, Keyless, Signer};
use affiant_core::sigstore::{Authority, TrustedRoot, Window};
use affiant_core::trust::{Anchor, Certificate};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::cli::failure::{Failure, Kind};
use crate::cli::inspect::read_file;
use crate::cli::keys;
use crate::cli::names::Called;
use crate::cli::output::Output;
use crate::cli::surroundings::variable;
use crate::cli::trust::{self, Getting};
use crate::cli::verify::{flags_of_variables, has_flag};

/// Variables that cosign takes trust from, with the flags that take their place: a build step can write them, so at
/// checking they are refused (security rule 8).
const FROM_ENVIRONMENT: [(&str, &str); 7] = [
    ("TUF_ROOT", "--trusted-root FILE"),
    ("TUF_MIRROR", "--trusted-root FILE"),
    ("TUF_ROOT_JSON", "--trusted-root FILE"),
    ("SIGSTORE_ROOT_FILE", "--ca-roots FILE` or `--trusted-root FILE"),
    ("SIGSTORE_REKOR_PUBLIC_KEY", "--trusted-root FILE"),
    ("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", "--trusted-root FILE"),
    ("SIGSTORE_TSA_CERTIFICATE_FILE", "--timestamp-certificate-chain FILE` or `--trusted-root FILE"),
];
/// Flags of a check whose names signing has too, and takes from variables: those are no matter of a check.
const OF_SIGNING: [&str; 4] = ["key", "certificate", "certificate-chain", "rekor-url"];
/// What says what to do without a trusted root.
const GET_ROOT: &str = "`affiant trust export --form trusted-root -o trusted_root.json` writes the one of Sigstore's public instance; or get it from whoever runs the log and the authority";

/// How a constraint on a name is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Exact,
    Regex,
    Glob,
}

/// Constraints on signer and issuer: flag, form, what it is for, and whether it speaks of the issuer.
const NAMES: [(&str, Form, &str, bool); 5] = [
    (SUBJECT_FLAG, Form::Exact, "Name in the signer's certificate: a URI, e-mail address or user's name", false),
    ("certificate-identity-regexp", Form::Regex, "Regular expression that this whole name matches", false),
    ("identity-glob", Form::Glob, "Pattern of this whole name: `*` without `/` and `@`, `**` anything", false),
    (ISSUER_FLAG, Form::Exact, "Issuer that vouched for the signer: a URL", true),
    ("certificate-oidc-issuer-regexp", Form::Regex, "Regular expression that the whole issuer matches", true),
];

/// Whose certificates count: flags for signer, issuer and every claim. The gate has the same ones, as [`gate_flag`] names
/// them.
#[derive(Default)]
pub(in crate::cli) struct IdentityArgs<const GATE: bool = false> {
    given: Vec<(&'static str, String)>,
}

/// Each flag: as it is called here, what it is for, and whether it is of a claim.
fn flags() -> impl Iterator<Item = (&'static str, String, bool)> {
    let names = NAMES.iter().map(|(flag, _, about, _)| (*flag, (*about).to_owned(), false));
    names
        .chain(CLAIMS.iter().map(|claim| (claim.flag, format!("What the certificate must say: {}", claim.about), true)))
}

/// What a flag is called on the command line.
fn called<const GATE: bool>(flag: &str) -> String {
    if GATE { gate_flag(flag) } else { flag.to_owned() }
}

impl<const GATE: bool> Args for IdentityArgs<GATE> {
    fn augment_args(command: Command) -> Command {
        let command = if GATE { command } else { command.next_help_heading("Identity of the signer (keyless)") };
        flags().fold(command, |command, (flag, about, is_claim)| {
            let value = if flag.ends_with("regexp") { "REGEXP" } else { "TEXT" };
            let name = called::<GATE>(flag);
            let arg = Arg::new(name.clone()).long(name).value_name(value).help(about);
            // The gate has many flags: what is needed rarely stands under `--help-all`, and so do claims everywhere.
            command.arg(arg.hide(is_claim || GATE && ![SUBJECT_FLAG, ISSUER_FLAG].contains(&flag)))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const GATE: bool> FromArgMatches for IdentityArgs<GATE> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given =
            flags().filter_map(|(flag, ..)| Some((flag, matches.get_one::<String>(&called::<GATE>(flag))?.clone())));
        Ok(Self { given: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<const GATE: bool> IdentityArgs<GATE> {
    /// The first of its flags on the command line.
    pub(in crate::cli) fn first(&self) -> Option<&'static str> {
        self.given.first().map(|(flag, _)| *flag)
    }

    /// All that are on the command line, as they are called there.
    pub(in crate::cli) fn given(&self) -> impl Iterator<Item = (String, &str)> {
        self.given.iter().map(|(flag, text)| (called::<GATE>(flag), text.as_str()))
    }

    /// Whose certificates count.
    pub(in crate::cli) fn wanted(&self) -> Result<Wanted, Failure> {
        let (mut subjects, mut issuers) = (Vec::new(), Vec::new());
        let unusable = |flag: &str, error: &dyn std::error::Error| {
            Failure::because(Kind::Usage, format!("--{} cannot be used", called::<GATE>(flag)), error)
        };
        for (flag, text) in &self.given {
            let Some((flag, form, _, is_issuer)) = NAMES.iter().find(|(name, ..)| name == flag) else { continue };
            let pattern = match form {
                Form::Exact => Pattern::exact(text),
                Form::Regex => Pattern::regex(text),
                Form::Glob => Pattern::glob(text),
            };
            let pattern = pattern.map_err(|error| unusable(flag, &error))?;
            if *is_issuer { &mut issuers } else { &mut subjects }.push((*flag, pattern));
        }
        let (what, of_issuer) = if subjects.is_empty() {
            ("say whose certificate counts", false)
        } else {
            ("say who vouched for the signer", true)
        };
        let names = NAMES.iter().filter(|(.., is_issuer)| *is_issuer == of_issuer);
        let names: Vec<String> = names
            .map(|(flag, form, ..)| {
                let value = match form {
                    Form::Exact if of_issuer => "URL",
                    Form::Exact => "NAME",
                    Form::Regex => "REGEXP",
                    Form::Glob => "PATTERN",
                };
                format!("`--{} {value}`", called::<GATE>(flag))
            })
            .collect();
        let add = format!("{what}: {}", names.join(" or "));
        let mut wanted = Wanted::new(subjects, issuers).map_err(|error| Failure::usage(error.to_string()).hint(add))?;
        for (flag, text) in &self.given {
            let claim: Option<&'static Claim> = claim_of(flag);
            if let Some(claim) = claim {
                wanted = wanted.claim(claim, text).map_err(|error| unusable(flag, &error))?;
            }
        }
        Ok(wanted)
    }
}

/// Whom a check trusts.
#[derive(Args)]
#[command(next_help_heading = "Trust")]
pub(super) struct TrustArgs {
    /// Public key that must have signed
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Logs and authorities that are believed: `trusted_root.json`, or `public` for Sigstore's public instance; an entry in one of its logs is demanded, unless --insecure-ignore-tlog
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// Demand no entry in a transparency log
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "TRUTH", conflicts_with = "rekor_url")]
    insecure_ignore_tlog: Option<bool>,
    /// The same as --insecure-ignore-tlog
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "TRUTH", hide = true)]
    private_infrastructure: Option<bool>,
    /// Demand an entry in the log of the trusted root that has this URL
    #[arg(long, value_name = "URL", hide = true)]
    rekor_url: Option<String>,
    /// Demand a timestamp by a trusted authority
    #[arg(long)]
    use_signed_timestamps: bool,
    /// Timestamp authority that is believed, instead of those of the trusted root: its certificates, the root last; a timestamp is demanded
    #[arg(long, value_name = "FILE", hide = true)]
    timestamp_certificate_chain: Option<PathBuf>,
    /// The signer's certificate, where the signature does not bring it; one that brings another does not count
    #[arg(long, value_name = "FILE", hide = true)]
    certificate: Option<PathBuf>,
    /// Certificate authority that is believed, instead of those of the trusted root: its certificates, the root last
    #[arg(long, value_name = "FILE", hide = true, conflicts_with = "ca_roots")]
    certificate_chain: Option<PathBuf>,
    /// Roots of certificate authorities that are believed, instead of those of the trusted root
    #[arg(long, value_name = "FILE", hide = true)]
    ca_roots: Option<PathBuf>,
    /// Certificates that lead to --ca-roots
    #[arg(long, value_name = "FILE", hide = true, requires = "ca_roots")]
    ca_intermediates: Option<PathBuf>,
    /// Proof that the certificate is in a log of certificates, where it is not in the certificate
    #[arg(long, value_name = "FILE", hide = true)]
    sct: Option<PathBuf>,
    /// Demand no proof that the certificate is in a log of certificates
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "TRUTH", hide = true)]
    insecure_ignore_sct: Option<bool>,
    /// Ask nobody, neither for what is trusted nor for the image; what is missing is said
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "TRUTH")]
    offline: Option<bool>,
    /// Compare image and annotations with what was signed; `--check-claims=false` does not
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "TRUTH", hide = true)]
    check_claims: Option<bool>,
    #[command(flatten)]
    identity: IdentityArgs,
    #[arg(skip)]
    pub(super) called: Called,
}

/// Who must have signed.
enum Who {
    Key(Box<PublicKey>),
    Keyless(Box<Keyless>),
}

/// Whom a check trusts, read.
pub(super) struct Trusted {
    who: Who,
    root: TrustedRoot,
    logs: usize,
    timestamps: usize,
    claims: bool,
}

impl TrustArgs {
    /// Reads everything that says whom to trust.
    pub(super) fn read(&self, output: &Output) -> Result<Trusted, Failure> {
        refuse_trust_from_environment()?;
        if self.private_infrastructure == Some(true)
            && (self.rekor_url.is_some() || self.insecure_ignore_tlog == Some(false))
        {
            return Err(Failure::usage(
                "--private-infrastructure says that no log entry is demanded, and another flag demands one",
            )
            .hint("leave one of them out"));
        }
        let who = self.who()?;
        let is_keyless = matches!(who, Who::Keyless(_));
        let logs = usize::from(self.demands_log(is_keyless));
        let stamped = self.use_signed_timestamps || self.timestamp_certificate_chain.is_some();
        let root = self.root(is_keyless, logs > 0, output)?;
        if stamped && root.timestamp_authorities.is_empty() {
            return Err(Failure::usage("a timestamp is demanded, and no timestamp authority is trusted")
                .hint("name one with `--timestamp-certificate-chain FILE`, or a `--trusted-root FILE` that has one"));
        }
        Ok(Trusted { who, root, logs, timestamps: usize::from(stamped), claims: self.check_claims != Some(false) })
    }

    /// Whether no registry may be asked. Under cosign's name the flag is about logs and roots, as there.
    pub(super) fn asks_no_registry(&self) -> bool {
        self.offline == Some(true) && self.called != Called::Cosign
    }

    /// Annotations are claims: who demands some, and compares none, would believe that they were compared.
    pub(super) fn needs_claims(&self, annotations: &BTreeMap<String, String>, output: &Output) -> Result<(), Failure> {
        if self.check_claims != Some(false) || annotations.is_empty() {
            return Ok(());
        }
        self.called.unheeded("--check-claims=false: the annotations that are demanded are not compared", output)
    }

    fn who(&self) -> Result<Who, Failure> {
        let of_certificates = [
            ("certificate", self.certificate.is_some()),
            ("certificate-chain", self.certificate_chain.is_some()),
            ("ca-roots", self.ca_roots.is_some()),
            ("sct", self.sct.is_some()),
        ];
        let of_certificates = of_certificates.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag);
        let keyless = self.identity.first().or(of_certificates);
        if let Some(path) = &self.key {
            if let Some(flag) = keyless {
                return Err(Failure::usage(format!("--key and --{flag}: a key has no certificate"))
                    .hint("leave out `--key` where a certificate must have signed, else what is said of one"));
            }
            return public_key(path).map(|key| Who::Key(Box::new(key)));
        }
        if keyless.is_none() {
            return Err(Failure::usage("nothing says who must have signed").hint(
                "name a public key with `--key FILE`, or whose certificate counts with `--certificate-identity NAME --certificate-oidc-issuer URL`",
            ));
        }
        let read = |path: &Option<PathBuf>| path.as_deref().map(read_file).transpose();
        let certificate = self.certificate.as_deref().map(certificate).transpose()?;
        let wanted = self.identity.wanted()?;
        let sct = self.insecure_ignore_sct != Some(true);
        Ok(Who::Keyless(Box::new(Keyless { whose: wanted.into(), certificate, sct, detached_sct: read(&self.sct)? })))
    }

    /// Whether an entry in a log is demanded: of every certificate, of a key where a log is named, and under cosign's
    /// name always, as cosign does.
    fn demands_log(&self, is_keyless: bool) -> bool {
        let ignored = self.insecure_ignore_tlog == Some(true) || self.private_infrastructure == Some(true);
        let named = self.rekor_url.is_some() || self.trusted_root.is_some() || self.insecure_ignore_tlog == Some(false);
        !ignored && (named || is_keyless || self.called == Called::Cosign)
    }

    /// The logs and authorities that are believed.
    fn root(&self, is_keyless: bool, needs_log: bool, output: &Output) -> Result<TrustedRoot, Failure> {
        let own = self.certificate_chain.is_some() || self.ca_roots.is_some();
        // The name stands for the public instance where the line names no other (DESIGN §5).
        let public = self.called == Called::Cosign && is_keyless && !own;
        let offline = self.offline == Some(true);
        let mut root = match &self.trusted_root {
            Some(file) => {
                trust::load(&file.to_string_lossy(), Getting { flag: "--trusted-root", offline, signs: false }, output)?
            }
            None if public => {
                trust::load(trust::PUBLIC, Getting { flag: "the trusted root", offline, signs: false }, output)?
            }
            None => TrustedRoot::default(),
        };
        if let Some(file) = &self.certificate_chain {
            root.authorities = vec![authority(file)?];
        }
        if let Some(file) = &self.ca_roots {
            let intermediates = self.ca_intermediates.as_deref().map(certificates).transpose()?.unwrap_or_default();
            let anchored = |certificate: Certificate| Authority {
                anchor: Anchor {
                    id: certificate.subject().to_owned(),
                    certificate,
                    intermediates: intermediates.clone(),
                },
                window: Window::default(),
                uri: String::new(),
                operator: String::new(),
            };
            root.authorities = certificates(file)?.into_iter().map(anchored).collect();
        }
        if let Some(file) = &self.timestamp_certificate_chain {
            root.timestamp_authorities = vec![authority(file)?];
        }
        if let Some(url) = &self.rekor_url
            && !root.logs.is_empty()
        {
            root.logs.retain(|log| log.base_url.trim_end_matches('/') == url.trim_end_matches('/'));
            if root.logs.is_empty() {
                return Err(Failure::new(Kind::NoAnswer, format!("the trusted root has no log of the URL {url}")));
            }
        }
        let missing = if is_keyless && root.authorities.is_empty() {
            Some("a check of certificates needs --trusted-root FILE: it says which authorities are believed")
        } else if is_keyless && needs_log && root.logs.is_empty() {
            Some("a log entry is demanded, and needs --trusted-root FILE: it says which logs are believed")
        } else {
            None
        };
        // A root that was named and has none of them refuses each signature, with the reason.
        match missing.filter(|_| self.trusted_root.is_none()) {
            Some(missing) => Err(Failure::new(Kind::NoAnswer, missing).hint(GET_ROOT)),
            None => Ok(root),
        }
    }
}

/// Trust that a variable would bring.
pub(in crate::cli) fn refuse_trust_from_environment() -> Result<(), Failure> {
    let mut ours = flags_of_variables().filter(|(_, flag)| !OF_SIGNING.contains(&flag.as_str()));
    if let Some((name, flag)) = ours.find(|(_, flag)| has_flag::<TrustArgs>(flag)) {
        return Err(Failure::usage(format!("{name} is set: whom a check trusts is taken from flags only"))
            .hint(format!("unset {name}, and say what it is for with `--{flag}`"))
            .hint("a build step can write variables for the steps after it"));
    }
    match FROM_ENVIRONMENT.into_iter().find(|(name, _)| variable(name).is_some()) {
        Some((name, flag)) => {
            Err(Failure::usage(format!("{name} is set: whom a check trusts is taken from flags only"))
                .hint(format!("unset {name}, and say what it is for with `{flag}`"))
                .hint("a build step can write variables for the steps after it"))
        }
        None => Ok(()),
    }
}

fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    let text = path.to_string_lossy();
    let schemes =
        ["env:", "http:", "https:", "awskms:", "gcpkms:", "azurekms:", "hashivault:", "k8s:", "gitlab:", "pkcs11:"];
    if let Some(scheme) = schemes.iter().find(|scheme| text.starts_with(**scheme)).filter(|_| !path.exists()) {
        return Err(Failure::usage(format!("--key {text}: a key to check with is named by a file, not by {scheme}"))
            .hint("write the public key into a file"));
    }
    let path = text.strip_prefix("file://").map_or(path, Path::new);
    match keys::public_key(path) {
        // As cosign does: the public half of a private key in the clear.
        Err(failure) if failure.one_line().contains("private key") => keys::signing_key(&path.to_string_lossy(), None)
            .map(|loaded| {
                use affiant_core::sign::Signer as _;
                loaded.key.public_key().clone()
            })
            .map_err(|_| failure),
        other => other,
    }
}

fn unusable(file: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::because(Kind::NoAnswer, format!("{} cannot be used", file.display()), error)
}

fn authority(file: &Path) -> Result<Authority, Failure> {
    Authority::new(&read_file(file)?, "", Window::default()).map_err(|error| unusable(file, &error))
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, Failure> {
    Certificate::read_all(&read_file(file)?).map_err(|error| unusable(file, &error))
}

/// One certificate; cosign also writes them in base64 once more.
fn certificate(file: &Path) -> Result<Certificate, Failure> {
    use base64::Engine as _;
    let mut bytes = read_file(file)?;
    if let Ok(inner) = base64::engine::general_purpose::STANDARD.decode(bytes.trim_ascii())
        && inner.starts_with(b"-----BEGIN ")
    {
        bytes = inner;
    }
    Certificate::read(&bytes).map_err(|error| unusable(file, &error))
}

impl Trusted {
    fn signer(&self) -> Signer<'_> {
        match &self.who {
            Who::Key(key) => Signer::Key(key),
            Who::Keyless(keyless) => Signer::Certificate(keyless),
        }
    }

    /// What is demanded of something signed about a manifest or file.
    pub(super) fn demand<'a>(
        &'a self,
        digest: &'a Digest,
        annotations: &'a BTreeMap<String, String>,
        budget: &'a Budget,
    ) -> Demand<'a> {
        let Self { root, logs, timestamps, claims, .. } = self;
        Demand {
            digest,
            signer: self.signer(),
            root,
            logs: *logs,
            timestamps: *timestamps,
            budget: Some(budget),
            annotations,
            claims: *claims,
        }
    }

    /// What is demanded of a signature, whatever it is over.
    pub(super) fn demands(&self) -> Demands<'_> {
        let Self { root, logs, timestamps, .. } = self;
        Demands { signer: self.signer(), root, logs: *logs, timestamps: *timestamps, share: None }
    }

    /// Adds to a failure what would help with what was refused.
    pub(super) fn advise(&self, refused: &judge::Refused, mut failure: Failure, output: &Output) -> Failure {
        match refused {
            judge::Refused::Log { .. } if matches!(self.who, Who::Key(_)) => {
                failure =
                    failure.hint("signatures of keys need no log: `--insecure-ignore-tlog` says that none is demanded");
                if self.root.logs.is_empty() {
                    failure = failure.hint("`--trusted-root FILE` says which logs are believed");
                }
            }
            judge::Refused::Identity(mismatch) => {
                tell_identity(mismatch, output);
                let accepting = mismatch.accepting();
                if !accepting.is_empty() {
                    let flags: Vec<String> =
                        accepting.iter().map(|(flag, value)| format!("--{flag} {}", quoted(value))).collect();
                    failure = failure.hint(format!("review before use: it would be accepted by {}", flags.join(" ")));
                }
            }
            judge::Refused::Authority { .. } | judge::Refused::Sct { .. } => {
                failure = failure.hint("is the trusted root that of the instance that signed?");
            }
            _ => {}
        }
        failure
    }

    /// The kind of a refusal.
    pub(super) fn kind(refused: &judge::Refused) -> Kind {
        match refused {
            judge::Refused::NoCertificate { .. } => Kind::NoCertificate,
            _ => Kind::NoMatch,
        }
    }
}

/// Whose certificate it is that was found, with all its claims.
fn tell_identity(mismatch: &Mismatch, output: &Output) {
    output.message("the certificate that was found says:");
    let found = &mismatch.found;
    let names = [(SUBJECT_FLAG, Some(found.subject.as_str())), (ISSUER_FLAG, found.issuer.as_deref())];
    let names = names.into_iter().filter_map(|(flag, value)| Some((flag, value.filter(|value| !value.is_empty())?)));
    for (flag, value) in names.chain(found.claims.iter().map(|(claim, value)| (claim.flag, value.as_str()))) {
        output.message(&format!("  --{flag} {}", quoted(value)));
    }
}

/// A text as a shell takes it for one word.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What of a refusal is about the signature.
pub(super) fn of_proof(refused: &Refused) -> Option<&judge::Refused> {
    match refused {
        Refused::Proof(reason) => Some(reason),
        _ => None,
    }
}
