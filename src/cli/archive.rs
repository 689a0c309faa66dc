//! `affiant archive`: put, get, find, list and check evidence.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use affiant_core::dsse::Envelope;
use affiant_core::store::{Access, Archive, Cursor, ObjectId, Query, Record, Report, StoreError, SubjectDigest};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::failure::{Failure, Kind};
use super::inspect::{MAX_ENVELOPE, read_file};
use super::output::{Output, one_line};
use super::{Ending, places, surroundings};

#[derive(Subcommand)]
pub(crate) enum ArchiveVerb {
    /// Add envelopes
    Put(PutArgs),
    /// Print an envelope
    Get(GetArgs),
    /// Find the envelopes about a file, a digest, a step, a type
    Find(FindArgs),
    /// List all envelopes, the newest first
    List(ListArgs),
    /// Check that every envelope is whole and can be found
    Check(CheckArgs),
}

#[derive(Args)]
struct Where {
    /// The archive's folder (default: one in the user's data)
    #[arg(long, value_name = "dir:PATH", env = "AFFIANT_ARCHIVE", hide_env_values = true)]
    archive: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Args)]
pub(crate) struct PutArgs {
    /// Envelopes to keep; `-` for stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    place: Where,
}

#[derive(Args)]
pub(crate) struct GetArgs {
    /// `sha256:…` (the first 8 digits are enough), or a gitoid
    #[arg(value_name = "DIGEST")]
    digest: String,
    #[command(flatten)]
    place: Where,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  affiant archive find image.tar\n  affiant archive find --step build --limit 10")]
pub(crate) struct FindArgs {
    /// Digest of a subject, with or without its algorithm: `sha256:…`, `sha1:…`; or a file, whose digest is taken
    #[arg(value_name = "DIGEST|FILE")]
    subject: Option<String>,
    /// Name of the step
    #[arg(short, long, value_name = "NAME")]
    step: Option<String>,
    /// Type of the statement's predicate
    #[arg(long, value_name = "TYPE")]
    predicate_type: Option<String>,
    /// Type of an attestation in the collection
    #[arg(long, value_name = "TYPE")]
    attestation_type: Option<String>,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    place: Where,
}

#[derive(Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    place: Where,
}

#[derive(Args)]
struct Shown {
    /// How many at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Go on behind this envelope, the last of a former answer
    #[arg(long, value_name = "DIGEST")]
    after: Option<String>,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Make the index again from the envelopes, and the file that says that this is an archive
    #[arg(long)]
    repair: bool,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
    #[command(flatten)]
    place: Where,
}

pub(crate) fn archive(verb: &ArchiveVerb, output: &Output) -> Result<Ending, Failure> {
    match verb {
        ArchiveVerb::Put(args) => put(args, output),
        ArchiveVerb::Get(args) => get(args, output),
        ArchiveVerb::Find(args) => find(args, output),
        ArchiveVerb::List(args) => {
            let archive = open(&args.place)?;
            show(&archive, Query::default(), &args.shown, output)
        }
        ArchiveVerb::Check(args) => check(args, output),
    }
}

fn failure(message: impl Into<String>, error: &StoreError) -> Failure {
    let kind = match error {
        StoreError::NotFound { .. } | StoreError::NotAnArchive { .. } => Kind::NotFound,
        StoreError::Reference { .. } | StoreError::Ambiguous { .. } => Kind::Usage,
        StoreError::Mismatch { .. } => Kind::Denied,
        _ => Kind::NoAnswer,
    };
    Failure::because(kind, message, error)
}

fn open(place: &Where) -> Result<Archive, Failure> {
    let folder = places::archive_folder(place.archive.as_deref())?;
    Archive::open(&folder).map_err(|error| unusable(&folder, &error))
}

fn unusable(folder: &Path, error: &StoreError) -> Failure {
    let failure = failure(format!("the archive {} cannot be used", folder.display()), error);
    match error {
        StoreError::Marker { .. } => failure.hint("`affiant archive check --repair` writes it again"),
        _ => failure,
    }
}

fn put(args: &PutArgs, output: &Output) -> Result<Ending, Failure> {
    let folder = places::archive_folder(args.place.archive.as_deref())?;
    let access = if args.place.archive.is_some() { Access::Shared } else { Access::Private };
    let archive = Archive::create(&folder, access).map_err(|error| unusable(&folder, &error))?;
    let clock = surroundings::clock()?;
    for file in &args.files {
        let bytes = read_file(file)?;
        let message = || format!("{} cannot be kept", file.display());
        Envelope::parse(&bytes, MAX_ENVELOPE).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
        let stored = archive.put(&bytes, clock.now()).map_err(|error| failure(message(), &error))?;
        let state = if stored.already { "there already" } else { "kept" };
        output.data(format!("{}  {}  {state}\n", stored.digest, one_line(&file.display().to_string())).as_bytes())?;
        if let Some(warning) = stored.warning {
            output.message(&format!("warning: {warning}"));
        }
    }
    Ok(Ending::Done)
}

fn get(args: &GetArgs, output: &Output) -> Result<Ending, Failure> {
    let archive = open(&args.place)?;
    let bytes = archive
        .resolve(&args.digest)
        .and_then(|id| archive.get(&id))
        .map_err(|error| failure(format!("{} cannot be read from the archive", args.digest), &error))?;
    output.data(&bytes)?;
    Ok(Ending::Done)
}

fn find(args: &FindArgs, output: &Output) -> Result<Ending, Failure> {
    let archive = open(&args.place)?;
    let subject = match &args.subject {
        None => None,
        Some(text) if std::path::Path::new(text).is_file() => {
            let message = format!("{text} cannot be read");
            let (digest, _) = std::fs::File::open(text)
                .and_then(affiant_core::digest::sha256_reader)
                .map_err(|error| Failure::because(Kind::NoAnswer, message, &error))?;
            let hex = ObjectId(digest).hex();
            Some(SubjectDigest { algorithm: Some("sha256".to_owned()), value: hex })
        }
        Some(text) => Some(SubjectDigest::parse(text)),
    };
    let query = Query {
        subject,
        step: args.step.clone(),
        predicate_type: args.predicate_type.clone(),
        attestation_type: args.attestation_type.clone(),
        ..Query::default()
    };
    show(&archive, query, &args.shown, output)
}

/// Prints what fits; 3 when nothing does.
fn show(archive: &Archive, mut query: Query, shown: &Shown, output: &Output) -> Result<Ending, Failure> {
    let cannot = |error: &StoreError| failure("the archive cannot be searched", error);
    query.limit = shown.limit;
    if let Some(after) = &shown.after {
        let id = archive.resolve(after).map_err(|error| cannot(&error))?;
        query.after = archive.record(&id).map_err(|error| cannot(&error))?.as_ref().map(Cursor::from);
    }
    let found = archive.find(&query).map_err(|error| cannot(&error))?;
    if matches!(shown.output, Format::Json) {
        output.data(format!("{:#}\n", json!(found)).as_bytes())?;
    } else {
        let text: String = found.iter().map(line).collect();
        output.data(text.as_bytes())?;
    }
    if found.is_empty() {
        output.message("nothing found");
        return Ok(Ending::Code(3));
    }
    Ok(Ending::Code(0))
}

fn line(record: &Record) -> String {
    let what = record.step.as_deref().or(record.predicate_type.as_deref()).unwrap_or(&record.payload_type);
    format!("{}  {}  {:>10}  {}\n", record.digest, record.stored, record.size, one_line(what))
}

fn report_text(report: &Report) -> String {
    let mut text = format!("{} envelopes, {} bytes\n", report.objects, report.bytes);
    let problems =
        [("changed", &report.mismatched), ("unreadable", &report.unreadable), ("damaged index", &report.damaged)];
    for (what, list) in problems {
        for problem in list {
            let _ = writeln!(text, "{what}: {}", one_line(&format!("{}: {}", problem.path, problem.reason)));
        }
    }
    for (what, list) in [
        ("not in the index", &report.unindexed),
        ("in the index only", &report.missing),
        ("differs from the index", &report.differing),
    ] {
        for digest in list {
            let _ = writeln!(text, "{what}: {digest}");
        }
    }
    for path in &report.foreign {
        let _ = writeln!(text, "nothing of ours: {}", one_line(path));
    }
    for (what, count) in [
        ("interrupted writes, tidied by the next one", report.interrupted),
        ("left-over temporary files", report.temporary),
    ] {
        if count > 0 {
            let _ = writeln!(text, "{what}: {count}");
        }
    }
    text.push_str(if report.is_sound() { "sound\n" } else { "NOT SOUND\n" });
    text
}

fn check(args: &CheckArgs, output: &Output) -> Result<Ending, Failure> {
    let archive = if args.repair {
        let folder = places::archive_folder(args.place.archive.as_deref())?;
        let (archive, made) = Archive::repair(&folder).map_err(|error| unusable(&folder, &error))?;
        if made {
            output.message(&format!("what made {} an archive was gone and is there again", folder.display()));
        }
        archive.reindex().map_err(|error| failure("the index cannot be made again", &error))?;
        archive
    } else {
        open(&args.place)?
    };
    let report = archive.check().map_err(|error| failure("the archive cannot be checked", &error))?;
    let whole = report.is_sound();
    match args.output {
        Format::Json => output.data(format!("{:#}\n", json!(report)).as_bytes())?,
        Format::Text => output.data(report_text(&report).as_bytes())?,
    }
    if !whole && !args.repair {
        output.message("hint: `affiant archive check --repair` makes the index again from the envelopes");
    }
    Ok(Ending::Code(i32::from(!whole)))
}
