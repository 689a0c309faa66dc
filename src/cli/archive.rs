//! `affiant archive`: put, get, find, list and check evidence.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use affiant_core::bundle::MAX_ENVELOPES;
use affiant_core::dsse::Envelope;
use affiant_core::store::{Access, Archive, Cursor, ObjectId, Query, Record, Report, StoreError, SubjectDigest};
use affiant_core::verify::{Source, SourceError};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::archivista::{self, Archivista, HeaderArgs};
use super::failure::{Failure, Kind};
use super::image::TargetArgs;
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
    Find(Box<FindArgs>),
    /// List all envelopes, the newest first
    List(ListArgs),
    /// Check that every envelope is whole and can be found
    Check(CheckArgs),
}

mod image;

#[derive(Args)]
struct Where {
    /// The archive's folder (default: one in the user's data), or `archivista+URL` for a server
    #[arg(long, value_name = "dir:PATH", env = "AFFIANT_ARCHIVE", hide_env_values = true)]
    archive: Option<String>,
    #[command(flatten)]
    headers: HeaderArgs,
}

#[derive(Args)]
struct Folder {
    /// The archive's folder (default: one in the user's data)
    #[arg(long, value_name = "dir:PATH", env = "AFFIANT_ARCHIVE", hide_env_values = true)]
    archive: Option<String>,
}

/// What is asked.
enum Place {
    Folder(Archive),
    Server(Box<Archivista>),
}

impl Place {
    fn name(&self) -> String {
        match self {
            Self::Folder(archive) => archive.name(),
            Self::Server(server) => server.name(),
        }
    }
}

impl Where {
    /// The server, where one is named.
    fn server(&self) -> Result<Option<Archivista>, Failure> {
        match self.archive.as_deref().map(archivista::Archive::parse).transpose()? {
            Some(archivista::Archive::Server(url)) => archivista::open(&url, self.headers.headers()).map(Some),
            _ => Ok(None),
        }
    }

    fn open(&self) -> Result<Place, Failure> {
        Ok(match self.server()? {
            Some(server) => Place::Server(Box::new(server)),
            None => Place::Folder(open(self.archive.as_deref())?),
        })
    }
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
    /// `sha256:…` (the first 8 digits are enough), or a gitoid; a server knows gitoids only
    #[arg(value_name = "DIGEST")]
    digest: String,
    /// Print the trusted root (`trusted_root.json`) that was current when the envelope was stored, instead of it
    #[arg(long)]
    trust: bool,
    #[command(flatten)]
    place: Where,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  affiant archive find image.tar\n  affiant archive find --step build --limit 10\n  affiant verify -p policy.signed.json -k policy.pub -s sha256:… \\\n      -a \"$(affiant archive find --image registry.example/app@sha256:… | paste -sd,)\""
)]
pub(crate) struct FindArgs {
    /// Digest of a subject, with or without its algorithm: `sha256:…`, `sha1:…`; or a file, whose digest is taken
    #[arg(value_name = "DIGEST|FILE")]
    subject: Option<String>,
    /// Print the files of the evidence about an image: about its manifest, the entries of its index, the configs, and
    /// about what that refers back to
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["subject", "after"])]
    image: Option<String>,
    /// Copy what is found into this folder, and print its files (default for a server, with --image: one in the user's
    /// cache)
    #[arg(long, value_name = "DIR", conflicts_with = "after")]
    into: Option<PathBuf>,
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
    #[command(flatten)]
    targets: TargetArgs,
}

#[derive(Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    place: Folder,
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
    place: Folder,
}

pub(crate) fn archive(verb: &ArchiveVerb, output: &Output) -> Result<Ending, Failure> {
    match verb {
        ArchiveVerb::Put(args) => put(args, output),
        ArchiveVerb::Get(args) => get(args, output),
        ArchiveVerb::Find(args) => find(args, output),
        ArchiveVerb::List(args) => {
            let archive = open(args.place.archive.as_deref())?;
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

fn open(named: Option<&str>) -> Result<Archive, Failure> {
    let folder = places::archive_folder(named)?;
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
    if let Some(server) = args.place.server()? {
        return send(&server, &args.files, output);
    }
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

/// Stores envelopes on a server.
fn send(server: &Archivista, files: &[PathBuf], output: &Output) -> Result<Ending, Failure> {
    for file in files {
        let bytes = read_file(file)?;
        let message = || format!("{} cannot be kept", file.display());
        Envelope::parse(&bytes, MAX_ENVELOPE).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
        let kept = server.put(&bytes).map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
        let state = if kept.already { "there already" } else { "kept" };
        let file = one_line(&file.display().to_string());
        output.data(format!("gitoid:blob:sha256:{}  {file}  {state}\n", kept.gitoid).as_bytes())?;
    }
    Ok(Ending::Done)
}

/// An envelope of a server, by its gitoid.
fn fetch(server: &Archivista, name: &str) -> Result<Vec<u8>, Failure> {
    let digits = name.strip_prefix("gitoid:blob:sha256:").unwrap_or(name).to_ascii_lowercase();
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::usage(format!("{name}: a server knows an envelope by its gitoid, 64 hex digits"))
            .hint("`affiant archive find` says which there are"));
    }
    let message = format!("{name} cannot be read from {}", server.name());
    server.get(&digits, MAX_ENVELOPE).map_err(|error| Failure::because(Kind::NoAnswer, message, &error))
}

fn get(args: &GetArgs, output: &Output) -> Result<Ending, Failure> {
    let archive = match args.place.open()? {
        Place::Folder(archive) => archive,
        Place::Server(_) if args.trust => {
            return Err(Failure::usage("a server keeps no trusted roots: `--trust` asks a folder"));
        }
        Place::Server(server) => {
            output.data(&fetch(&server, &args.digest)?)?;
            return Ok(Ending::Done);
        }
    };
    if args.trust {
        return root_of(&archive, &args.digest, output);
    }
    let bytes = archive
        .resolve(&args.digest)
        .and_then(|id| archive.get(&id))
        .map_err(|error| failure(format!("{} cannot be read from the archive", args.digest), &error))?;
    output.data(&bytes)?;
    Ok(Ending::Done)
}

/// Prints the trusted root that was current when an envelope was stored; of several the one that was said last.
fn root_of(archive: &Archive, digest: &str, output: &Output) -> Result<Ending, Failure> {
    let message = || format!("the trusted root of {digest} cannot be read from the archive");
    let cannot = |error: StoreError| failure(message(), &error);
    let links = archive.resolve(digest).and_then(|id| archive.trust_of(&id)).map_err(cannot)?;
    let Some((link, older)) = links.split_first() else {
        return Err(Failure::new(Kind::NotFound, format!("no trusted root was kept with {digest}"))
            .hint("one is kept with what is signed without a key by services whose root is known"));
    };
    output.data(&archive.get_trust(&link.root).map_err(cannot)?)?;
    let more = if older.is_empty() { String::new() } else { format!("; {} others were before", older.len()) };
    output.message(&format!("{}, current at {}{more}", link.root, link.stored));
    Ok(Ending::Done)
}

fn find(args: &FindArgs, output: &Output) -> Result<Ending, Failure> {
    let place = args.place.open()?;
    if let Some(name) = &args.image {
        return image::find(args, name, &place, output);
    }
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
    let archive = match &place {
        Place::Folder(archive) => archive,
        Place::Server(server) => return search(args, subject, server, &place, output),
    };
    let query = Query {
        subject,
        step: args.step.clone(),
        predicate_type: args.predicate_type.clone(),
        attestation_type: args.attestation_type.clone(),
        ..Query::default()
    };
    if args.into.is_some() {
        let cannot = |error: &StoreError| failure("the archive cannot be searched", error);
        let found = archive.find(&query).map_err(|error| cannot(&error))?;
        let read = found.iter().map(|record| {
            (
                record.digest.to_string(),
                archive
                    .get(&record.digest)
                    .map_err(|error| Failure::because(Kind::NoAnswer, "it cannot be read", &error).one_line()),
            )
        });
        return image::files(args, read, &place, output);
    }
    show(archive, query, &args.shown, output)
}

/// Finds on a server, by a digest or a step.
fn search(
    args: &FindArgs,
    subject: Option<SubjectDigest>,
    server: &Archivista,
    place: &Place,
    output: &Output,
) -> Result<Ending, Failure> {
    if args.shown.after.is_some() || (args.attestation_type.is_some() && args.into.is_none()) {
        return Err(Failure::usage("a server is not asked for the types of attestations, nor where to go on")
            .hint("`--into DIR` fetches what is found, and looks at it"));
    }
    let limit = args.shown.limit.unwrap_or(MAX_ENVELOPES);
    let found = match (subject, &args.step) {
        (Some(subject), _) => Source::about(server, &[subject]),
        (None, Some(step)) => Source::of_step(server, step, MAX_ENVELOPES),
        (None, None) => {
            return Err(Failure::usage("a server is asked for a digest, a step or an image, and none is named")
                .hint("name a digest or a file, `--step NAME` or `--image IMAGE`"));
        }
    };
    let cannot = |error: &SourceError| Failure::because(Kind::NoAnswer, "the server cannot be searched", error);
    let mut found = found.map_err(|error| cannot(&error))?;
    let is_wanted = |wanted: &Option<String>, has: &Option<String>| wanted.is_none() || wanted == has;
    found.retain(|one| is_wanted(&args.step, &one.step) && is_wanted(&args.predicate_type, &one.predicate_type));
    if args.into.is_some() {
        let read = found.iter().map(|one| {
            let read = server.read(one);
            let why = |error: SourceError| Failure::because(Kind::NoAnswer, "it cannot be read", &error).one_line();
            (one.label.clone(), read.map_err(why))
        });
        return image::files(args, read, place, output);
    }
    found.truncate(limit);
    let text: String = match args.shown.output {
        Format::Json => {
            let list: Vec<_> = found
                .iter()
                .map(|one| json!({ "gitoid": one.id(), "step": one.step, "predicateType": one.predicate_type }))
                .collect();
            format!("{:#}\n", json!(list))
        }
        Format::Text => found
            .iter()
            .flat_map(|one| {
                let what = one.step.as_deref().or(one.predicate_type.as_deref()).unwrap_or_default();
                [one_line(&one.label), "  ".to_owned(), one_line(what), "\n".to_owned()]
            })
            .collect(),
    };
    output.data(text.as_bytes())?;
    if found.is_empty() {
        output.message("nothing found");
        return Ok(Ending::Code(3));
    }
    Ok(Ending::Code(0))
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
    if report.roots > 0 {
        let _ = writeln!(text, "{} trusted roots, linked to envelopes {} times", report.roots, report.links);
    }
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
        open(args.place.archive.as_deref())?
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
