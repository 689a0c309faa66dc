//! `affiant verify`: the gate.

mod gate;
mod images;
mod summary;

use std::path::{Path, PathBuf};

use affiant_core::bundle::Bundle;
use affiant_core::outfile::Outfile;
use affiant_core::store::{Archive, SubjectDigest};
use affiant_core::verdict::{Answer, Verdict};
use affiant_core::verify::{
    Artifact, Files, Handle, ImageTrust, PolicyFile, Question, Source, VerifyError, verify_with_evidence,
};
use clap::{Args, ValueEnum};
use jiff::Timestamp;

pub(super) use self::gate::{GateArgs, Mode, Trusted};
use self::images::ImageArgs;
pub(super) use self::images::{HowArgs, Opened};
use self::summary::SummaryArgs;
use super::failure::{Failure, Kind};
use super::names::{Called, verdict_json};
use super::output::Output;
use super::outputs;
use super::report::{self, Reports};
use super::surroundings::{self, variable, variables};
use super::{Ending, places};

/// Files in one folder that is named for evidence.
const MAX_FOLDER: usize = 1_000_000;
/// Names of flags that say whom to trust or what a denial does, besides those that start with `--policy` or `--image-`.
const TRUST_FLAGS: [&str; 7] = ["publickey", "public-key", "keys", "mode", "at", "offline", "platform"];
/// Variables that peers take trust from; a build step can write them, so they are refused (security rule 8).
const PEERS_TRUST: [(&str, &str); 10] = [
    ("TUF_ROOT", "--image-trusted-root"),
    ("TUF_MIRROR", "--image-trusted-root"),
    ("TUF_ROOT_JSON", "--image-trusted-root"),
    ("SIGSTORE_ROOT_FILE", "--policy-ca-roots"),
    ("SIGSTORE_REKOR_PUBLIC_KEY", "--image-trusted-root"),
    ("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", "--image-trusted-root"),
    ("SIGSTORE_TSA_CERTIFICATE_FILE", "--policy-timestamp-servers"),
    ("CILOCK_POLICY_HARDENING", "--mode"),
    ("WITNESS_POLICY", "--policy"),
    ("WITNESS_PUBLICKEY", "--publickey"),
];

#[derive(Args)]
#[command(
    after_help = "Examples:\n  affiant verify -p policy.signed.json -k policy.pub image.tar\n  affiant verify -p policy.signed.json -k policy.pub -a build.att.json,sbom.att.json -f image.tar --report html=verdict.html\n\nExit codes: 0 passed, 1 denied, 2 usage, 3 no evidence found, 4 no answer possible."
)]
pub(crate) struct VerifyArgs {
    /// Files and folders that must have been made by accepted evidence, each of them
    #[arg(value_name = "ARTIFACT")]
    artifacts: Vec<PathBuf>,
    /// The same as a positional artifact
    #[arg(short = 'f', long = "artifactfile", value_name = "FILE")]
    artifactfile: Vec<PathBuf>,
    /// A folder that must be a product as a whole, or file by file
    #[arg(long, value_name = "DIR")]
    directory_path: Vec<PathBuf>,
    #[command(flatten)]
    gate: GateArgs,
    #[command(flatten)]
    images: ImageArgs,
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
    /// Write a bundle of the evidence that was looked at
    #[arg(long, value_name = "FILE", hide = true)]
    output_bundle: Option<PathBuf>,
    #[command(flatten)]
    summary: SummaryArgs,
    /// Show every option
    #[arg(long)]
    help_all: bool,
    /// The name that affiant was called by.
    #[arg(skip)]
    pub(crate) called: Called,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

impl VerifyArgs {
    /// Says by which name affiant was called.
    pub(crate) fn call(&mut self, called: Called) {
        self.called = called;
        self.summary.call(called);
    }
}

pub(crate) fn verify(args: &VerifyArgs, output: &Output) -> Result<Ending, Failure> {
    let reports = Reports::parse(&args.report);
    refuse_clashes(args, reports.as_ref().ok())?;
    // Before all else: what an earlier answer named must not stay there, whatever comes.
    let digest_out = args.images.digest_out()?;
    refuse_trust_from_environment()?;
    let reports = reports?;
    let summary = args.summary.prepare(args.gate.offline, output)?;
    if summary.is_some() && args.at.is_some() {
        return Err(Failure::usage("a verification summary says when was verified: --at cannot decide that")
            .hint("leave out `--at` or `--vsa-outfile`"));
    }
    let bundle = args.output_bundle.as_deref().map(probe).transpose()?;
    let mut trusted = args.gate.trusted()?;
    let image_trust = args.images.trust(&mut trusted.origins, output)?;
    // The real clock, whatever SOURCE_DATE_EPOCH says: it would decide whether a policy has expired.
    let at = args.at.unwrap_or_else(Timestamp::now);
    trusted.origin("time", at.to_string(), if args.at.is_some() { "--at".to_owned() } else { "the clock".to_owned() });
    trusted.origin("mode", args.mode.word().to_owned(), "--mode".to_owned());

    let artifacts = args
        .artifacts
        .iter()
        .chain(&args.artifactfile)
        .chain(&args.directory_path)
        .map(|path| artifact(path))
        .collect::<Result<Vec<_>, _>>()?;
    if artifacts.is_empty() && args.images.is_empty() && args.gate.subjects.is_empty() {
        return Err(Failure::usage("nothing is named that must be proven").hint(
            "name an artifact: `affiant verify … FILE`, an image: `--image REF`, or a digest to find evidence by: `--subjects sha256:…`",
        ));
    }
    let opened = args.images.open(args.gate.offline)?;
    let asked = Asked { gate: &args.gate, trusted: &trusted, at, artifacts, opened: &opened, image_trust };
    let (verdict, envelopes) = asked.answer(bundle.is_some())?;
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
        let subjects = verdict.artifacts.iter().map(|artifact| artifact.digest.clone());
        let subjects = subjects.chain(args.gate.subjects.iter().cloned()).collect();
        write_bundle(outfile, envelopes, "verify-export", subjects)?;
    }
    digest_out.write(&verdict)?;
    Ok(Ending::Code(code(&verdict, args.mode)))
}

/// Refuses to write over what is read.
fn refuse_clashes(args: &VerifyArgs, reports: Option<&Reports>) -> Result<(), Failure> {
    let mut files = outputs::Files::default();
    args.gate.reads(&mut files);
    let artifacts = args.artifacts.iter().chain(&args.artifactfile).chain(&args.directory_path);
    let (folders, artifacts): (Vec<&PathBuf>, Vec<&PathBuf>) = artifacts.partition(|path| path.is_dir());
    files.reads("the artifact", artifacts);
    files.reads_trees("the artifact", true, folders);
    args.images.files(&mut files);
    args.summary.files(&mut files);
    files.writes("--output-bundle", &args.output_bundle);
    files.writes("--report", reports.into_iter().flat_map(Reports::files));
    files.check()
}

/// A question to the gate, with all that it is answered by.
pub(super) struct Asked<'a> {
    pub(super) gate: &'a GateArgs,
    pub(super) trusted: &'a Trusted,
    pub(super) at: Timestamp,
    pub(super) artifacts: Vec<Artifact>,
    pub(super) opened: &'a [Opened<'a>],
    pub(super) image_trust: ImageTrust,
}

/// Envelopes that were looked at, each with its label.
type Envelopes = Vec<(String, Vec<u8>)>;

impl Asked<'_> {
    /// The answer and, where they are wanted, the envelopes that were looked at.
    pub(super) fn answer(self, with_envelopes: bool) -> Result<(Verdict, Envelopes), Failure> {
        let Self { gate, trusted, at, artifacts, opened, image_trust } = self;
        let images = opened.iter().map(Opened::look).collect::<Result<Vec<_>, _>>()?;
        let mut attached = images::Attached::default();
        images.iter().try_for_each(|image| attached.add(image))?;
        let files = gate.files()?;
        let archive = gate.archive.as_deref();
        let stores = gate.archivista.sources(archive, None, gate.offline, gate.has_evidence())?;
        let mut sources: Vec<&dyn Source> = Vec::new();
        sources.extend(files.as_ref().map(|files| files as &dyn Source));
        sources.extend(stores.iter().map(|store| &**store));
        sources.extend((!images.is_empty()).then_some(&attached as &dyn Source));
        let question = Question {
            policy: PolicyFile { label: &trusted.label, bytes: &trusted.policy },
            policy_trust: trusted.trust.clone(),
            artifacts,
            images,
            image_trust,
            seeds: gate.seeds()?,
            sources,
            at,
            origins: trusted.origins.clone(),
        };
        let (mut verdict, handles) =
            verify_with_evidence(&question).map_err(|error| no_answer(&trusted.label, &error))?;
        let unreadable = files.iter().flat_map(Files::unreadable).chain(attached.unreadable());
        verdict.notes.extend(unreadable.map(|(label, reason)| format!("{label}: {reason}")));
        let envelopes = if with_envelopes { read_all(&question.sources, &handles)? } else { Vec::new() };
        Ok((verdict, envelopes))
    }
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
        VerifyError::Unsupported { .. } => failure.hint("name the image that the policy is about with `--image REF`"),
        VerifyError::Image { .. } | VerifyError::Hidden { .. } => {
            failure.hint("see `affiant image tree`, and whether the registry can be reached")
        }
        VerifyError::Source(_) => failure.hint("name evidence that can be read with `--attestations` or `--archive`"),
        VerifyError::TooMuch => failure.hint("name the evidence of one run with `--attestations`"),
        VerifyError::NoSeed => failure,
    }
}

/// Trust comes from flags only (security rule 8): a build step can write variables for the steps after it.
pub(crate) fn refuse_trust_from_environment() -> Result<(), Failure> {
    let of_images = |flag: &str| flag.starts_with("image-") && has_flag::<VerifyArgs>(flag);
    for (name, flag) in flags_of_variables() {
        // Every flag that starts with `--policy` says whom to trust.
        if flag.starts_with("policy") || TRUST_FLAGS.contains(&flag.as_str()) || of_images(&flag) {
            return Err(from_environment(&name, &format!("--{flag}")));
        }
    }
    match PEERS_TRUST.into_iter().find(|(name, _)| variable(name).is_some()) {
        Some((name, flag)) => Err(from_environment(name, flag)),
        None => Ok(()),
    }
}

/// Our variables that are set, each with the flag that it would be of.
pub(crate) fn flags_of_variables() -> impl Iterator<Item = (String, String)> {
    let flag = |name: &str| name["AFFIANT_".len()..].to_ascii_lowercase().replace('_', "-");
    variables("AFFIANT_").into_iter().map(move |name| (name.clone(), flag(&name)))
}

/// Whether a command has this flag, by whatever name.
pub(crate) fn has_flag<A: Args>(flag: &str) -> bool {
    let command = A::augment_args(clap::Command::new("affiant"));
    command.get_arguments().any(|arg| super::config::names(arg, flag))
}

fn from_environment(name: &str, flag: &str) -> Failure {
    Failure::usage(format!("{name} is set: whom the gate trusts is taken from flags only"))
        .hint(format!("unset {name}, and say what it is for with `{flag}`"))
        .hint("a build step can write variables for the steps after it")
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
