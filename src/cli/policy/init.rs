//! `affiant policy init` and `from-bundles`: a first policy from evidence.

use std::path::{Path, PathBuf};

use affiant_core::dsse::Envelope;
use affiant_core::outfile::Outfile;
use affiant_core::policy::init::{Draft, ImageSigners, InitError, NamedKey, Request, draft};
use affiant_core::policy::source::{Compiled, Folder, compile};
use affiant_core::policy::{Document, PAYLOAD_TYPE};
use affiant_core::sign::{KeyKind, PrivateKey, PublicKey, Signer as _};
use affiant_core::sigstore::TrustedRoot;
use affiant_core::store::SubjectDigest;
use affiant_core::trust::{Anchor, Certificate, Trust};
use affiant_core::verdict::{Answer, Verdict};
use affiant_core::verify::{
    Artifact, Files, ImageTrust, PolicyFile, PolicyTrust, Question, Source, VerifyError, verify as ask,
};
use clap::Args;
use jiff::Timestamp;

use super::{LoadError, write};
use crate::cli::failure::{Failure, Kind};
use crate::cli::inspect::read_file;
use crate::cli::output::Output;
use crate::cli::{Ending, keys, outputs, surroundings, verify};

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant policy init --from build.att.json,sbom.att.json --key ci.pub -o policy.yaml\n\nThe policy asks for what the evidence has. Read it, and change it to what you want: each part has a comment."
)]
pub(crate) struct InitArgs {
    /// Evidence of each step: files, folders of them, bundles, JSON lines (repeatable, comma-separated)
    #[arg(long, value_name = "FILE", value_delimiter = ',', required = true, num_args = 1..)]
    from: Vec<PathBuf>,
    /// Public key of somebody who signed evidence (repeatable)
    #[arg(short = 'k', long = "key", visible_alias = "publickey", value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Root of certificates that signed evidence (PEM; repeatable)
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    root: Vec<PathBuf>,
    /// Certificates between the signers' and the root (PEM; repeatable)
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    intermediate: Vec<PathBuf>,
    /// Certificate of the authority that timestamped the evidence (PEM; repeatable)
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    timestamp_authority: Vec<PathBuf>,
    /// Sigstore's trusted root (`trusted_root.json`) for evidence that was signed without a key
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// Public key of somebody who signs the image: the policy gets `images` (repeatable)
    #[arg(long, value_name = "FILE")]
    image_key: Vec<PathBuf>,
    /// Name in the certificate of whoever signs the image without a key: a URI or an e-mail address
    #[arg(long, value_name = "NAME", requires = "image_issuer")]
    image_identity: Option<String>,
    /// Who must have identified it
    #[arg(long, value_name = "URL", requires = "image_identity")]
    image_issuer: Option<String>,
    /// Repository that the image may be in, `*` in it stands for a part of it (repeatable)
    #[arg(long, value_name = "GLOB")]
    image_name: Vec<String>,
    /// When the policy expires: a time, a date, or counted from the day on which it is compiled
    #[arg(long, value_name = "TIME", default_value = "90d")]
    expires: String,
    /// Where the source goes (default: stdout)
    #[arg(short, long, value_name = "FILE")]
    outfile: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct FromBundlesArgs {
    /// Evidence
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Public key of somebody who signed evidence (repeatable)
    #[arg(short = 'k', long = "publickey", visible_alias = "key", value_name = "FILE")]
    publickey: Vec<PathBuf>,
    /// Where the policy goes (default: stdout)
    #[arg(short, long, value_name = "FILE")]
    outfile: Option<PathBuf>,
    /// When the policy expires
    #[arg(long, value_name = "TIME", default_value = "90d")]
    expires: String,
    /// Put before the name of each step
    #[arg(long, value_name = "TEXT", default_value = "")]
    step_prefix: String,
}

/// What both commands are given.
struct Given<'a> {
    files: &'a [PathBuf],
    keys: &'a [PathBuf],
    roots: &'a [PathBuf],
    intermediates: &'a [PathBuf],
    authorities: &'a [PathBuf],
    trusted_root: Option<&'a Path>,
    expires: &'a str,
    prefix: &'a str,
    image_keys: &'a [PathBuf],
    images: ImageSigners,
}

impl InitArgs {
    /// Who signs images, under names that no other key of the policy has.
    fn image_signers(&self) -> Result<ImageSigners, Failure> {
        if let Some(name) = self.image_identity.as_deref().filter(|name| !name.contains("://") && !name.contains('@')) {
            return Err(Failure::usage(format!("--image-identity {name}: neither a URI nor an e-mail address"))
                .hint("name it as `affiant image verify` shows who has signed"));
        }
        let wild = |text: &String| text.trim().is_empty() || text.contains('*');
        for (flag, given) in [("--image-identity", &self.image_identity), ("--image-issuer", &self.image_issuer)] {
            if let Some(text) = given.as_ref().filter(|text| wild(text)) {
                return Err(Failure::usage(format!("{flag} {text:?}: it must be one name, and whole"))
                    .hint("write patterns into the policy by hand, after a look at whom they let in"));
            }
        }
        if self.image_name.iter().any(|name| name.trim().is_empty()) {
            return Err(
                Failure::usage("--image-name: it is empty").hint("name a repository, as `registry.example/app`")
            );
        }
        let proves_time = self.trusted_root.is_some() || !self.timestamp_authority.is_empty();
        if self.image_identity.is_some() && !(proves_time && (self.trusted_root.is_some() || !self.root.is_empty())) {
            return Err(Failure::usage("--image-identity: nothing says whose certificates and times are believed")
                .hint("add `--trusted-root FILE`, or `--root FILE --timestamp-authority FILE`"));
        }
        Ok(ImageSigners {
            keys: named_keys(&self.image_key, &named_keys(&self.key, &[])?)?,
            identity: self.image_identity.clone().zip(self.image_issuer.clone()),
            names: self.image_name.clone(),
        })
    }
}

impl Given<'_> {
    /// Where the policy goes: none of the files that it is made from.
    fn outfile(&self, named: Option<&Path>) -> Result<Option<Outfile>, Failure> {
        let mut clashes = outputs::Files::default();
        clashes.reads("evidence", self.files);
        clashes.reads("a key", self.keys.iter().chain(self.image_keys));
        clashes.reads("a certificate", self.roots.iter().chain(self.intermediates).chain(self.authorities));
        clashes.reads("the root of trust", self.trusted_root);
        clashes.writes("--outfile", named);
        clashes.check()?;
        named.map(verify::probe).transpose()
    }
}

pub(crate) fn init(args: &InitArgs, output: &Output) -> Result<Ending, Failure> {
    let given = Given {
        files: &args.from,
        keys: &args.key,
        roots: &args.root,
        intermediates: &args.intermediate,
        authorities: &args.timestamp_authority,
        trusted_root: args.trusted_root.as_deref(),
        expires: &args.expires,
        prefix: "",
        image_keys: &args.image_key,
        images: args.image_signers()?,
    };
    let outfile = given.outfile(args.outfile.as_deref())?;
    let (draft, _) = make(&given, output)?;
    write(outfile, draft.source.as_bytes(), output)?;
    if let Some(path) = &args.outfile {
        output.message(&format!("{} is written; next: read it, then `affiant policy check {0}`", path.display()));
    }
    Ok(Ending::Done)
}

pub(crate) fn from_bundles(args: &FromBundlesArgs, output: &Output) -> Result<Ending, Failure> {
    let given = Given {
        files: &args.files,
        keys: &args.publickey,
        roots: &[],
        intermediates: &[],
        authorities: &[],
        trusted_root: None,
        expires: &args.expires,
        prefix: &args.step_prefix,
        image_keys: &[],
        images: ImageSigners::default(),
    };
    let outfile = given.outfile(args.outfile.as_deref())?;
    let (_, compiled) = make(&given, output)?;
    write(outfile, &compiled.to_json(), output)?;
    Ok(Ending::Done)
}

fn make(given: &Given<'_>, output: &Output) -> Result<(Draft, Compiled), Failure> {
    let (files, _) = verify::evidence_files(given.files)?;
    let evidence = files
        .iter()
        .map(|path| Ok((path.display().to_string(), read_file(path)?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let intermediates: Vec<Certificate> =
        anchors(given.intermediates, &[])?.into_iter().map(|anchor| anchor.certificate).collect();
    let request = Request {
        evidence,
        keys: named_keys(given.keys, &[])?,
        roots: anchors(given.roots, &intermediates)?,
        authorities: anchors(given.authorities, &[])?,
        trusted_root: given.trusted_root.map(trusted_root).transpose()?,
        expires: given.expires.to_owned(),
        prefix: given.prefix.to_owned(),
        images: given.images.clone(),
    };
    let draft = draft(&request).map_err(|error| no_draft(&error))?;
    let now = surroundings::clock()?.now();
    // It must be a source that compiles; `--expires` may be none.
    let compiled = Document::parse(draft.source.as_bytes())
        .and_then(|document| compile(&document, &Folder::of(Path::new("policy.yaml")), now))
        .map_err(|error| LoadError::Source(error).failure(Path::new("the policy")))?;
    for note in &draft.notes {
        output.message(&format!("note: {note}"));
    }
    if given.prefix.is_empty() {
        prove(&files, &draft, &compiled, now, output)?;
    }
    Ok((draft, compiled))
}

fn trusted_root(file: &Path) -> Result<TrustedRoot, Failure> {
    TrustedRoot::parse(&read_file(file)?).map_err(|error| {
        Failure::because(Kind::NoAnswer, format!("{} is no trusted root", file.display()), &error)
            .hint("name the `trusted_root.json` of the services that signed the evidence")
    })
}

fn no_draft(error: &InitError) -> Failure {
    let failure = Failure::because(Kind::Denied, "no policy can be made of this evidence", error);
    match error {
        InitError::Unproven { .. } => failure
            .hint("name the public key of its signer with `--key FILE`, or `--trusted-root FILE`, or `--root FILE` and `--timestamp-authority FILE`, for certificates")
            .hint("a key id alone proves nothing: anybody can write it"),
        InitError::NoSteps => failure.hint("name the collection of each step with `--from FILE`"),
        _ => failure,
    }
}

/// Keys under the names of their files; one that is among `known` has the name that it has there, and no other has it.
fn named_keys(paths: &[PathBuf], known: &[NamedKey]) -> Result<Vec<NamedKey>, Failure> {
    let mut named: Vec<NamedKey> = Vec::new();
    for path in paths {
        let key: PublicKey = keys::public_key(path)?;
        if named.iter().any(|other| other.key.key_id() == key.key_id()) {
            continue;
        }
        let of_known = known.iter().find(|other| other.key.key_id() == key.key_id()).map(|other| other.name.clone());
        let is_taken = |name: &str| named.iter().chain(known).any(|other| other.name == name);
        let name = of_known.unwrap_or_else(|| unused(path, is_taken));
        named.push(NamedKey { name, key });
    }
    Ok(named)
}

fn anchors(paths: &[PathBuf], intermediates: &[Certificate]) -> Result<Vec<Anchor>, Failure> {
    let mut anchors: Vec<Anchor> = Vec::new();
    for path in paths {
        let message = || format!("the certificate {} cannot be read", path.display());
        let bytes = read_file(path)?;
        let all = Certificate::read_all(&bytes).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
        for certificate in all {
            let id = unused(path, |name| anchors.iter().any(|other| other.id == name));
            anchors.push(Anchor { id, certificate, intermediates: intermediates.to_vec() });
        }
    }
    Ok(anchors)
}

/// A name from a file's that is not taken.
fn unused(path: &Path, taken: impl Fn(&str) -> bool) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).filter(|stem| !stem.is_empty());
    // A dot would look like the path of a member.
    let stem = stem.unwrap_or_else(|| "key".to_owned()).replace(['.', '['], "-");
    let numbered = (2..).map(|number| format!("{stem}-{number}"));
    std::iter::once(stem.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(stem)
}

/// Whether the policy passes what it was made of: all of it is asked about at once.
fn prove(
    files: &[PathBuf],
    draft: &Draft,
    compiled: &Compiled,
    now: Timestamp,
    output: &Output,
) -> Result<(), Failure> {
    let loaded =
        Files::load(files).map_err(|error| Failure::because(Kind::NoAnswer, "evidence cannot be read", &error))?;
    // Whether an image is signed is not asked here, where there is none.
    let mut value = compiled.value.clone();
    if let Some(members) = value.as_object_mut() {
        members.remove("images");
    }
    match judge(value.to_string().as_bytes(), &[&loaded], Vec::new(), draft.seeds.clone(), now) {
        Ok(verdict) if verdict.answer == Answer::Passed => {}
        Ok(verdict) => {
            output.message("note: the policy does not pass this evidence as it stands:");
            for (name, check) in verdict.reasons() {
                output.message(&format!("  {name}: expected {}, found {}", check.expected, check.found));
            }
        }
        Err(error) => {
            output.message(&Failure::because(Kind::NoAnswer, "note: the policy cannot be tried", &error).one_line());
        }
    }
    Ok(())
}

/// Judges by a policy that is signed for this one question, with a key that nobody keeps.
pub(super) fn judge(
    policy: &[u8],
    sources: &[&dyn Source],
    artifacts: Vec<Artifact>,
    seeds: Vec<SubjectDigest>,
    at: Timestamp,
) -> Result<Verdict, VerifyError> {
    let key = PrivateKey::generate(KeyKind::Ed25519).expect("the system gives random bytes");
    let envelope = Envelope::seal(policy.to_vec(), PAYLOAD_TYPE, &[&key]).expect("an Ed25519 key signs anything");
    let trust = Trust { keys: vec![key.public_key().clone()], ..Trust::default() };
    ask(&Question {
        policy: PolicyFile { label: "the policy", bytes: &envelope.to_json() },
        policy_trust: PolicyTrust { trust, ..PolicyTrust::default() },
        artifacts,
        images: Vec::new(),
        image_trust: ImageTrust::default(),
        seeds,
        sources: sources.to_vec(),
        at,
        origins: Vec::new(),
    })
}
