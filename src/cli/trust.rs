//! `affiant trust`: whom keyless signatures are believed by: shown, fetched, carried, put together.

mod create;
#[cfg(feature = "remote")]
mod fetched;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use affiant_core::sigstore::{Authority, Log, TrustedRoot, Window};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::failure::{Failure, Kind};
use super::inspect::read_file;
use super::output::Output;
use super::{Ending, surroundings, verify};

/// The name by which Sigstore's public instance is meant, in place of a file.
pub(crate) const PUBLIC: &str = "public";
/// Variables by which cosign finds trust roots.
#[cfg(feature = "remote")]
const VARIABLES: [&str; 3] = ["TUF_ROOT", "TUF_MIRROR", "TUF_ROOT_JSON"];
/// Longest trusted root, and longest copy, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

#[derive(Subcommand)]
pub(crate) enum TrustVerb {
    /// Show authorities and logs of a trusted root, and until when they count
    Show(ShowArgs),
    /// Fetch trust roots by TUF: those of Sigstore's public instance, or of a mirror with a root of its own
    Update(UpdateArgs),
    /// Write what was fetched into one file, for machines without a network
    Export(ExportArgs),
    /// Take what `export` wrote, once it holds
    Import(ImportArgs),
    /// Put a trusted root together from certificates and keys
    Create(create::CreateArgs),
}

#[derive(Args)]
#[command(after_help = "Examples:\n  affiant trust show trusted_root.json\n  affiant trust show public")]
pub(crate) struct ShowArgs {
    /// A trusted root, or `public`: what was fetched of the public instance
    #[arg(value_name = "ROOT")]
    root: String,
    /// Form of what is printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    Text,
    Json,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  affiant trust update public\n  affiant trust update --mirror https://tuf.example.com --root root.json -o trusted_root.json\n\nOnly the mirror that is named is asked. Exit codes: 0 fetched, 1 it does not hold, 2 usage, 4 no answer."
)]
pub(crate) struct UpdateArgs {
    /// `public`: Sigstore's public instance, whose first root is built in
    #[arg(value_name = "INSTANCE", value_parser = [PUBLIC], required_unless_present = "mirror")]
    instance: Option<String>,
    /// Ask this mirror
    #[arg(long, value_name = "URL", requires = "root", conflicts_with = "instance")]
    mirror: Option<String>,
    /// The root metadata that the mirror's begin with
    #[arg(long, value_name = "FILE", requires = "mirror")]
    root: Option<PathBuf>,
    /// Where the trusted root goes as well
    #[arg(short, long, value_name = "FILE", required_unless_present = "instance")]
    outfile: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// All metadata, to be taken by `trust import`
    Copy,
    /// `trusted_root.json`, to be named by `--trusted-root`
    TrustedRoot,
    /// `signing_config.json`, to be named by `--signing-config`
    SigningConfig,
}

#[derive(Args)]
#[command(after_help = "Example:\n  affiant trust export -o trust.tar")]
pub(crate) struct ExportArgs {
    /// `public`: what was fetched of the public instance
    #[arg(value_name = "INSTANCE", value_parser = [PUBLIC], default_value = PUBLIC)]
    instance: String,
    /// What is written
    #[arg(long, value_enum, default_value = "copy")]
    form: Form,
    /// Where it goes (default: stdout)
    #[arg(short, long, value_name = "FILE")]
    outfile: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "Example:\n  affiant trust import trust.tar")]
pub(crate) struct ImportArgs {
    /// What `trust export` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn trust(verb: &TrustVerb, output: &Output) -> Result<Ending, Failure> {
    match verb {
        TrustVerb::Show(args) => show(args, output),
        TrustVerb::Update(args) => fetched::update(args, output),
        TrustVerb::Export(args) => fetched::export(args, output),
        TrustVerb::Import(args) => fetched::import(args, output),
        TrustVerb::Create(args) => create::create(args, output),
    }
}

/// How a trusted root that a flag names is got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Getting<'a> {
    /// The flag, for messages.
    pub(crate) flag: &'a str,
    /// Whether nobody may be asked.
    #[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "nobody is asked then"))]
    pub(crate) offline: bool,
    /// Whether it is for signing: then cosign's variables say which instance is meant.
    #[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "nobody is asked then"))]
    pub(crate) signs: bool,
}

/// The trusted root that a flag names: a file, or `public`. With `public` the mirror of the public instance is asked when
/// it was not for a day, unless nobody may be.
pub(crate) fn load(root: &str, getting: Getting<'_>, output: &Output) -> Result<TrustedRoot, Failure> {
    TrustedRoot::parse(&bytes_of(root, getting, output)?)
        .map_err(|error| Failure::because(Kind::NoAnswer, format!("{} {root} cannot be used", getting.flag), &error))
}

/// The signing configuration of the public instance, got in the same way.
pub(crate) fn public_signing_config(getting: Getting<'_>, output: &Output) -> Result<Vec<u8>, Failure> {
    fetched::public(getting, output)?.1.ok_or_else(|| {
        Failure::new(Kind::NoAnswer, "the public instance publishes no signing configuration")
            .hint("name one with `--signing-config FILE`")
    })
}

/// The bytes of a trusted root; not looked at.
pub(crate) fn bytes_of(root: &str, getting: Getting<'_>, output: &Output) -> Result<Vec<u8>, Failure> {
    // A file of that name is `./public`: what lies in the working directory is never believed by its name.
    if root == PUBLIC { Ok(fetched::public(getting, output)?.0) } else { bounded(Path::new(root)) }
}

fn bounded(file: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = read_file(file)?;
    if bytes.len() as u64 > MAX_FILE {
        let reason = format!("{} has {} bytes; {MAX_FILE} are read", file.display(), bytes.len());
        return Err(Failure::new(Kind::NoAnswer, reason));
    }
    Ok(bytes)
}

fn show(args: &ShowArgs, output: &Output) -> Result<Ending, Failure> {
    let (root, expires) = if args.root == PUBLIC {
        fetched::shown()?
    } else {
        let bytes = bounded(Path::new(&args.root))?;
        let root = TrustedRoot::parse(&bytes)
            .map_err(|error| Failure::because(Kind::NoAnswer, format!("{} cannot be used", args.root), &error))?;
        (root, Value::Null)
    };
    // The real clock: what is over is over, whatever SOURCE_DATE_EPOCH says (security rule 8).
    let now = surroundings::now();
    let text = match args.output {
        Shape::Json => format!("{:#}\n", as_json(&root, &expires, now)),
        Shape::Text => as_text(&root, &expires, now),
    };
    output.data(text.as_bytes())?;
    if let Err(error) = root.check_current(now) {
        output.message(&format!("note: {error}"));
    }
    Ok(Ending::Done)
}

fn state(window: &Window, now: Timestamp) -> &'static str {
    match window.end {
        _ if window.covers(now) => "now",
        Some(end) if end < now => "over",
        _ => "later",
    }
}

fn as_text(root: &TrustedRoot, expires: &Value, now: Timestamp) -> String {
    let mut text = String::new();
    for (name, time) in expires.as_object().into_iter().flatten() {
        let _ = writeln!(text, "{name}: {}", time.as_str().map_or_else(|| time.to_string(), str::to_owned));
    }
    let authorities = |text: &mut String, title: &str, list: &[Authority]| {
        let _ = writeln!(text, "{title}: {}", if list.is_empty() { "none" } else { "" }.trim());
        for one in list {
            let _ =
                writeln!(text, "  {} ({}, {})", one.anchor.certificate.label(), one.window, state(&one.window, now));
            let _ = writeln!(text, "    {}", one.anchor.id);
        }
    };
    let logs = |text: &mut String, title: &str, list: &[Log]| {
        let _ = writeln!(text, "{title}: {}", if list.is_empty() { "none" } else { "" }.trim());
        for one in list {
            let _ = writeln!(text, "  {} ({}, {})", one.label(), one.window, state(&one.window, now));
        }
    };
    authorities(&mut text, "certificate authorities", &root.authorities);
    logs(&mut text, "certificate transparency logs", &root.ct_logs);
    logs(&mut text, "transparency logs", &root.logs);
    authorities(&mut text, "timestamp authorities", &root.timestamp_authorities);
    text.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

fn as_json(root: &TrustedRoot, expires: &Value, now: Timestamp) -> Value {
    let window = |window: &Window| json!({ "start": window.start, "end": window.end, "is": state(window, now) });
    let authority = |one: &Authority| json!({ "uri": one.uri, "subject": one.anchor.certificate.label(), "keyId": one.anchor.certificate.key_id(), "validFor": window(&one.window) });
    let log = |one: &Log| json!({ "baseUrl": one.base_url, "logId": STANDARD.encode(&one.id), "keyId": one.key.key_id(), "validFor": window(&one.window) });
    json!({
        "tuf": expires,
        "certificateAuthorities": root.authorities.iter().map(authority).collect::<Vec<_>>(),
        "ctlogs": root.ct_logs.iter().map(log).collect::<Vec<_>>(),
        "tlogs": root.logs.iter().map(log).collect::<Vec<_>>(),
        "timestampAuthorities": root.timestamp_authorities.iter().map(authority).collect::<Vec<_>>(),
    })
}

/// Writes to a file, or to stdout.
fn write(outfile: Option<&Path>, bytes: &[u8], output: &Output) -> Result<(), Failure> {
    match outfile {
        None => output.data(bytes),
        Some(path) => verify::probe(path)?
            .write(bytes)
            .map_err(|error| Failure::because(Kind::NoAnswer, format!("{} cannot be written", path.display()), &error)),
    }
}

/// Without the network there is nothing that was fetched.
#[cfg(not(feature = "remote"))]
mod fetched {
    use super::{Ending, ExportArgs, Failure, Getting, ImportArgs, Output, TrustedRoot, UpdateArgs, Value};

    fn none() -> Failure {
        Failure::usage("this affiant was built without the network, so it fetches no trust roots")
            .hint("name a trusted root with `--trusted-root FILE`")
    }

    pub(super) fn public(_: Getting<'_>, _: &Output) -> Result<(Vec<u8>, Option<Vec<u8>>), Failure> {
        Err(none())
    }

    pub(super) fn shown() -> Result<(TrustedRoot, Value), Failure> {
        Err(none())
    }

    pub(super) fn update(_: &UpdateArgs, _: &Output) -> Result<Ending, Failure> {
        Err(none())
    }

    pub(super) fn export(_: &ExportArgs, _: &Output) -> Result<Ending, Failure> {
        Err(none())
    }

    pub(super) fn import(_: &ImportArgs, _: &Output) -> Result<Ending, Failure> {
        Err(none())
    }
}
