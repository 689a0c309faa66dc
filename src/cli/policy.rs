//! `affiant policy`: policies from evidence and sources, checked, tried and signed.

mod cases;
mod check;
mod eval;
mod init;
mod rules;
mod show;
mod test;

use std::path::{Path, PathBuf};

use affiant_core::dsse::Envelope;
use affiant_core::policy::source::{Compiled, Folder, compile};
use affiant_core::policy::{Document, PAYLOAD_TYPE_CILOCK, Policy, SourceError};
use affiant_core::verify::open_envelope;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::failure::{Failure, Kind};
use super::inspect::read_file;
use super::names::Called;
use super::output::Output;
use super::sign::{self, Order, POLICY_TYPE};
use super::{Ending, keys, outputs, surroundings, verify};

#[derive(Subcommand)]
pub(crate) enum PolicyVerb {
    /// Write a first policy from real evidence
    Init(init::InitArgs),
    /// Make the policy that is signed from its source
    Compile(CompileArgs),
    /// Sign a policy, or its source
    Sign(Box<SignArgs>),
    /// Show a policy as text
    Show(show::ShowArgs),
    /// Say what is wrong, weak or surprising in a policy
    Check(check::CheckArgs),
    /// The same as `check`, with cilock's flags
    Validate(check::ValidateArgs),
    /// Print a policy, unsigned, as cilock does from bundles of evidence
    FromBundles(init::FromBundlesArgs),
    /// Ask the rules of a policy about a document
    Eval(eval::EvalArgs),
    /// List the rules that affiant brings along, or print one
    Rules(rules::RulesArgs),
    /// Judge cases of evidence, and compare with what is expected
    Test(test::TestArgs),
}

#[derive(Args)]
#[command(after_help = "Example:\n  affiant policy compile policy.yaml -o policy.json")]
pub(crate) struct CompileArgs {
    /// The source, YAML or JSON
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Where the policy goes (default: stdout)
    #[arg(short, long, value_name = "FILE")]
    outfile: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "Example:\n  affiant policy sign policy.yaml --key policy.key -o policy.signed.json")]
pub(crate) struct SignArgs {
    /// The policy: a source in YAML or JSON, or what `policy compile` made of one
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the envelope goes (default: stdout)
    #[arg(short, long, value_name = "FILE")]
    outfile: Option<PathBuf>,
    #[command(flatten)]
    keys: keys::KeyArgs,
}

impl PolicyVerb {
    /// Says by which name affiant was called.
    pub(crate) fn call(&mut self, called: Called) {
        if let Self::Sign(args) = self {
            args.keys.signer.call(called);
        }
    }
}

pub(crate) fn policy(verb: &PolicyVerb, output: &Output) -> Result<Ending, Failure> {
    match verb {
        PolicyVerb::Init(args) => init::init(args, output),
        PolicyVerb::Compile(args) => {
            let mut clashes = outputs::Files::default();
            clashes.reads("the policy's source", [&args.source]);
            clashes.writes("--outfile", &args.outfile);
            clashes.check()?;
            let outfile = args.outfile.as_deref().map(verify::probe).transpose()?;
            let loaded = load(&args.source)?;
            if loaded.envelope.is_some() {
                return Err(Failure::usage(format!("{} is signed: it is compiled already", args.source.display()))
                    .hint("`affiant policy show FILE` shows it"));
            }
            write(outfile, &loaded.json, output)?;
            Ok(Ending::Done)
        }
        PolicyVerb::Sign(args) => sign(args, output),
        PolicyVerb::Show(args) => show::show(args, output),
        PolicyVerb::Check(args) => check::check(args, output),
        PolicyVerb::Validate(args) => check::validate(args, output),
        PolicyVerb::FromBundles(args) => init::from_bundles(args, output),
        PolicyVerb::Eval(args) => eval::eval(args, output),
        PolicyVerb::Rules(args) => rules::rules(args, output),
        PolicyVerb::Test(args) => test::test(args, output),
    }
}

fn sign(args: &SignArgs, output: &Output) -> Result<Ending, Failure> {
    let order = Order { what: &args.file, datatype: POLICY_TYPE, keys: &args.keys, outfile: args.outfile.as_deref() };
    sign::seal(&order, output, || {
        let loaded = load(&args.file)?;
        if loaded.envelope.is_some() {
            return Err(Failure::usage(format!("{} is signed already", args.file.display()))
                .hint("sign its source; several signatures are made at once, with several `--key`"));
        }
        check::warn(&args.file, &loaded, output)?;
        Ok(loaded.json)
    })
}

/// Writes to a file that was probed, or to stdout.
fn write(outfile: Option<affiant_core::outfile::Outfile>, bytes: &[u8], output: &Output) -> Result<(), Failure> {
    match outfile {
        Some(outfile) => outfile
            .write(bytes)
            .map_err(|error| Failure::because(Kind::NoAnswer, "the policy cannot be written", &error)),
        None => output.data(bytes),
    }
}

/// A policy of a file: signed, compiled, or a source.
struct Loaded {
    /// The document as it stands in the file or envelope, for its lines. Of an envelope there are none to tell.
    document: Option<Document>,
    value: Value,
    policy: Policy,
    /// The JSON to be signed.
    json: Vec<u8>,
    /// Where it is signed: nothing says yet by whom.
    envelope: Option<Envelope>,
}

/// Why a policy cannot be loaded: the file, or what stands in it.
enum LoadError {
    File(Failure),
    Source(SourceError),
}

impl LoadError {
    fn failure(self, file: &Path) -> Failure {
        match self {
            Self::File(failure) => failure,
            Self::Source(error) => {
                let line = error.line().map(|line| format!(":{line}")).unwrap_or_default();
                Failure::new(Kind::Usage, format!("{}{line}: {error}", file.display()))
                    .hint("docs/reference/policy.md lists what a policy may have")
            }
        }
    }
}

fn load(file: &Path) -> Result<Loaded, Failure> {
    try_load(file).map_err(|error| error.failure(file))
}

fn try_load(file: &Path) -> Result<Loaded, LoadError> {
    let bytes = read_file(file).map_err(LoadError::File)?;
    if let Ok(envelope) = open_envelope(&bytes) {
        let kind = envelope.payload_type.as_str();
        if kind != POLICY_TYPE && kind != PAYLOAD_TYPE_CILOCK {
            let failure = Failure::usage(format!("{} is signed, but no policy: it is a `{kind}`", file.display()));
            return Err(LoadError::File(failure));
        }
        let wrong = |error| LoadError::Source(SourceError::Policy { line: None, source: Box::new(error) });
        let policy = Policy::parse(&envelope.payload).map_err(wrong)?;
        let value = affiant_core::policy::strict_json(&envelope.payload).map_err(wrong)?;
        return Ok(Loaded { document: None, value, policy, json: envelope.payload.clone(), envelope: Some(envelope) });
    }
    let document = Document::parse(&bytes).map_err(LoadError::Source)?;
    // A policy of witness or cilock may have members that nobody knows: they are passed over, and told.
    if bytes.trim_ascii_start().starts_with(b"{")
        && let Ok(policy) = Policy::from_value(&document.value)
        && !policy.unknown.iter().any(|one| is_of_sources(&one.at))
    {
        return Ok(Loaded {
            value: document.value.clone(),
            document: Some(document),
            policy,
            json: bytes,
            envelope: None,
        });
    }
    let now = surroundings::clock().map_err(LoadError::File)?.now();
    let compiled: Compiled = compile(&document, &Folder::of(file), now).map_err(LoadError::Source)?;
    let json = compiled.to_json();
    Ok(Loaded { document: Some(document), value: compiled.value, policy: compiled.policy, json, envelope: None })
}

/// Whether a member is one that only sources have.
fn is_of_sources(at: &str) -> bool {
    at.rsplit('.').next().is_some_and(|name| name == "rego" || name == "key")
}

/// A number of things in words.
fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}
