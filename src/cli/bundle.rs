//! `affiant bundle`: evidence in one file, to be carried elsewhere.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use affiant_core::bundle::{Bundle, MAX_ENVELOPES};
use affiant_core::dsse::Envelope;
use affiant_core::evidence::{Statement, links, short_name};
use affiant_core::outfile::Outfile;
use affiant_core::statement;
use affiant_core::store::SubjectDigest;
use affiant_core::verify::{MAX_ENVELOPE, Source};
use clap::{Args, Subcommand};
use serde_json::json;

use super::archivista::ArchivistaArgs;
use super::failure::{Failure, Kind};
use super::output::{Output, one_line};
use super::verify::{evidence, seed, write_bundle};
use super::{Ending, outputs, places};

#[derive(Subcommand)]
pub(crate) enum BundleVerb {
    /// Put the evidence about a digest, and what it refers back to, into one file
    Create(CreateArgs),
    /// Show what is in a bundle
    Inspect(InspectArgs),
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant bundle create -s sha256:9f86… -o evidence.tar.gz\n  affiant verify -p policy.signed.json -k policy.pub --bundle evidence.tar.gz image.tar"
)]
pub(crate) struct CreateArgs {
    /// Digest that the evidence is about (repeatable, comma-separated)
    #[arg(short, long, value_name = "[ALG:]HEX", value_delimiter = ',', required_unless_present = "attestations")]
    subjects: Vec<String>,
    /// Take these files instead of an archive's evidence (repeatable, comma-separated)
    #[arg(short, long, value_name = "FILE", value_delimiter = ',')]
    attestations: Vec<PathBuf>,
    /// Where the bundle goes
    #[arg(short, long, value_name = "FILE", required = true)]
    outfile: PathBuf,
    /// Archive to take evidence from: `dir:PATH`, or `archivista+URL` for a server
    #[arg(long, value_name = "dir:PATH", env = "AFFIANT_ARCHIVE", hide_env_values = true)]
    archive: Option<String>,
    #[command(flatten)]
    archivista: ArchivistaArgs,
    /// The same as --enable-archivista --archivista-server URL
    #[arg(long, value_name = "URL", hide = true)]
    archivista_url: Option<String>,
    /// Most envelopes
    #[arg(long, value_name = "N", default_value_t = MAX_ENVELOPES)]
    max_envelopes: usize,
    /// Rounds of back-references
    #[arg(long, value_name = "N", default_value_t = 5)]
    max_depth: usize,
}

#[derive(Args)]
pub(crate) struct InspectArgs {
    /// The bundle
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn bundle(verb: &BundleVerb, output: &Output) -> Result<Ending, Failure> {
    match verb {
        BundleVerb::Create(args) => create(args, output),
        BundleVerb::Inspect(args) => inspect(args, output),
    }
}

fn create(args: &CreateArgs, output: &Output) -> Result<Ending, Failure> {
    let mut clashes = outputs::Files::default();
    clashes.reads("evidence", &args.attestations);
    clashes.reads_trees("the archive", false, places::archive_folder(args.archive.as_deref()));
    clashes.writes("--outfile", [&args.outfile]);
    clashes.check()?;
    let outfile = Outfile::probe(&args.outfile).map_err(|error| {
        Failure::because(Kind::NoAnswer, format!("the outfile {} cannot be written", args.outfile.display()), &error)
    })?;
    let seeds = args.subjects.iter().map(|text| seed(text)).collect::<Result<Vec<_>, _>>()?;
    let files = if args.attestations.is_empty() { None } else { Some(evidence(&args.attestations)?) };
    if let Some((label, reason)) = files.as_ref().and_then(|files| files.unreadable().first()) {
        return Err(Failure::new(Kind::NoAnswer, format!("{label} is no evidence: {reason}")));
    }
    let url = args.archivista_url.as_deref().filter(|url| !url.is_empty());
    let server = args.archivista.server(url.map(|url| url.trim_end_matches('/').to_owned()))?;
    let stores = args.archivista.sources(args.archive.as_deref(), server, false, files.is_some())?;
    let mut sources: Vec<&dyn Source> = Vec::new();
    sources.extend(files.as_ref().map(|files| files as &dyn Source));
    sources.extend(stores.iter().map(|store| &**store));
    let envelopes = if seeds.is_empty() {
        files.as_ref().map(all).transpose()?.unwrap_or_default()
    } else {
        walk(&sources, seeds, args.max_envelopes, args.max_depth)?
    };
    if envelopes.is_empty() {
        return Err(Failure::new(Kind::NotFound, "no evidence was found about what was asked")
            .hint("`affiant archive list` shows what there is"));
    }
    let count = envelopes.len();
    write_bundle(&outfile, envelopes, "file", args.subjects.clone())?;
    output.message(&format!("{count} envelopes in {}", args.outfile.display()));
    Ok(Ending::Done)
}

fn all(files: &affiant_core::verify::Files) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut envelopes = Vec::new();
    for handle in files.handles() {
        let bytes =
            files.read(&handle).map_err(|error| Failure::because(Kind::NoAnswer, "evidence cannot be read", &error))?;
        envelopes.push((handle.label, bytes));
    }
    Ok(envelopes)
}

/// Evidence about `seeds`, and about what that refers back to. Nothing is checked here: `verify` does that.
pub(crate) fn walk(
    sources: &[&dyn Source],
    seeds: Vec<SubjectDigest>,
    max_envelopes: usize,
    max_depth: usize,
) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut found = Vec::new();
    let mut labels = BTreeSet::new();
    let mut known: BTreeSet<(Option<String>, String)> = BTreeSet::new();
    let mut frontier = seeds;
    for _ in 0..=max_depth {
        let digests = std::mem::take(&mut frontier);
        if digests.is_empty() {
            break;
        }
        for source in sources {
            let handles = source
                .about(&digests)
                .map_err(|error| Failure::because(Kind::NoAnswer, "evidence cannot be looked for", &error))?;
            for handle in handles {
                if !labels.insert(handle.label.clone()) {
                    continue;
                }
                let bytes = source
                    .read(&handle)
                    .map_err(|error| Failure::because(Kind::NoAnswer, "evidence cannot be read", &error))?;
                if found.len() == max_envelopes {
                    return Err(Failure::new(
                        Kind::NoAnswer,
                        format!("more than {max_envelopes} envelopes are about what was asked"),
                    )
                    .hint("name fewer digests, or allow more with `--max-envelopes N`"));
                }
                for digest in backrefs(&bytes) {
                    if known.insert((digest.algorithm.clone(), digest.value.clone())) {
                        frontier.push(digest);
                    }
                }
                found.push((handle.label, bytes));
            }
        }
    }
    Ok(found)
}

fn backrefs(bytes: &[u8]) -> Vec<SubjectDigest> {
    let Ok(envelope) = Envelope::parse(bytes, MAX_ENVELOPE) else { return Vec::new() };
    let Ok(statement) = Statement::parse(&envelope.payload) else { return Vec::new() };
    let Some(Ok(collection)) = statement.collection() else { return Vec::new() };
    links::backrefs(&statement, &collection)
        .into_iter()
        .flat_map(|one| one.digest.0)
        .map(|(algorithm, value)| SubjectDigest { algorithm: Some(algorithm), value })
        .collect()
}

fn inspect(args: &InspectArgs, output: &Output) -> Result<Ending, Failure> {
    let message = || format!("the bundle {} cannot be read", args.file.display());
    let file = std::fs::File::open(&args.file).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
    let bundle = Bundle::read(file).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
    let text = if args.json {
        let mut list = json!(bundle.list);
        if let Some(envelopes) = list["envelopes"].as_array_mut() {
            for (entry, bytes) in envelopes.iter_mut().zip(&bundle.envelopes) {
                let (step, kind) = about(bytes);
                entry["step"] = json!(step);
                entry["predicateType"] = json!(kind);
            }
        }
        format!("{list:#}\n")
    } else {
        let list = &bundle.list;
        let mut text = format!("{}\n", one_line(&args.file.display().to_string()));
        let _ = writeln!(text, "  made         {} from {}", list.created_at, one_line(&list.source));
        if !list.subjects.is_empty() {
            let _ = writeln!(text, "  about        {}", one_line(&list.subjects.join(", ")));
        }
        let _ = writeln!(text, "  envelopes ({}), none checked", list.count);
        for (listed, bytes) in list.envelopes.iter().zip(&bundle.envelopes) {
            let (step, kind) = about(bytes);
            let what = step.or(kind.as_deref().map(|kind| short_name(kind).to_owned())).unwrap_or_default();
            let keys = listed.signer_key_ids.join(", ");
            let _ = writeln!(
                text,
                "    sha256:{}  {}  said to be by {}",
                one_line(&listed.sha256),
                one_line(&what),
                one_line(&keys)
            );
        }
        text
    };
    output.data(text.as_bytes())?;
    Ok(Ending::Done)
}

/// Step and predicate type of an envelope.
fn about(bytes: &[u8]) -> (Option<String>, Option<String>) {
    let Ok(envelope) = Envelope::parse(bytes, MAX_ENVELOPE) else { return (None, None) };
    if envelope.payload_type != statement::PAYLOAD_TYPE {
        return (None, Some(envelope.payload_type));
    }
    let Ok(statement) = Statement::parse(&envelope.payload) else { return (None, None) };
    let step = statement.collection().and_then(Result::ok).map(|collection| collection.name.clone());
    (step, Some(statement.predicate_type.clone()))
}
