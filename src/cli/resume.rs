//! `affiant resume`: finishes what was interrupted after a command had run, or waits for a log.

mod log;

use std::path::{Path, PathBuf};

use affiant_core::dsse::Envelope;
use affiant_core::sign::Signer;
use affiant_core::statement::PAYLOAD_TYPE;
use affiant_core::store::spool::{Entry, Kind as Spooled, Spool, Want};
use affiant_core::store::{Archive, ObjectId};
use clap::Args;

use super::archivista::{self, ServerArgs};
use super::failure::{Failure, Kind};
use super::image::TargetArgs;
use super::keyless::{SignerArgs, word};
use super::output::{Output, one_line};
use super::{Ending, keys, places, surroundings};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  affiant resume --list\n  affiant resume\n\nEvidence waits in the spool when its file or archive could not be written, or its key failed; a log entry, when its log gave no answer.\nExit codes: 0 all is finished, 2 usage, 3 nothing waits under the digest, 4 something still waits, or can never be finished.",
    mut_arg("archivista_server", |arg| arg.help("The archivista server that --archivista-headers are for, where it is among the places where it should have gone"))
)]
pub(crate) struct ResumeArgs {
    /// Only what waits under this digest; needed to sign what is not signed yet
    #[arg(long, value_name = "sha256:DIGEST")]
    digest: Option<String>,
    /// Signing key, for what is not signed yet
    #[arg(short = 'k', long = "key", value_name = "KEY", env = "AFFIANT_KEY", hide_env_values = true)]
    key: Vec<String>,
    /// File whose first line is the password of the signing key
    #[arg(long, value_name = "FILE", env = "AFFIANT_KEY_PASSWORD_FILE", hide_env_values = true)]
    key_password_file: Option<PathBuf>,
    #[command(flatten)]
    signer: SignerArgs,
    /// Write it here instead of where it should have gone; of a log entry: the file that has the bundle now
    #[arg(short, long, value_name = "FILE")]
    outfile: Option<PathBuf>,
    /// Archive it here instead of where it should have gone: `dir:PATH`, or `archivista+URL` for a server
    #[arg(long, value_name = "dir:PATH")]
    archive: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    /// The spool folder (default: a folder in the user's state)
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Only say what waits
    #[arg(long)]
    list: bool,
    /// Ask no other machine
    #[arg(long)]
    offline: bool,
    /// Drop a log entry that is not to be made any more; the signature stays as it is
    #[arg(long, requires = "digest", conflicts_with = "list")]
    forget: bool,
    #[command(flatten)]
    targets: TargetArgs,
}

impl ResumeArgs {
    /// How the spool is named once more.
    fn spool_flag(&self) -> String {
        let named = self.spool.as_ref().map(|folder| format!(" --spool {}", word(&folder.display().to_string())));
        named.unwrap_or_default()
    }
}

pub(crate) fn resume(args: &ResumeArgs, output: &Output) -> Result<Ending, Failure> {
    let cannot =
        |error: &(dyn std::error::Error + 'static)| Failure::because(Kind::NoAnswer, "the spool cannot be used", error);
    if let Some(path) = &args.outfile {
        keys::refuse_as_outfile(&args.key, path)?;
    }
    let folder = args.spool.clone().or_else(|| places::places().spool).ok_or_else(|| {
        Failure::new(Kind::NoAnswer, "there is no spool: neither HOME nor AFFIANT_HOME is set")
            .hint("name it with --spool DIR")
    })?;
    let wanted = match &args.digest {
        None => None,
        Some(text) => Some(
            ObjectId::parse(text)
                .ok_or_else(|| Failure::usage(format!("--digest {text}: not `sha256:` and 64 hex digits")))?,
        ),
    };
    if !folder.exists() {
        return nothing(wanted, output);
    }
    let spool = Spool::open(&folder).map_err(|error| cannot(&error))?;
    let waiting = spool.list().map_err(|error| cannot(&error))?;
    for path in &waiting.strange {
        output.message(&format!("warning: {} is nothing of ours", path.display()));
    }
    let entries: Vec<_> =
        waiting.entries.iter().filter(|entry| wanted.is_none_or(|wanted| wanted == entry.digest)).collect();
    if entries.is_empty() {
        return nothing(wanted, output);
    }
    if args.list {
        let text: String = entries.iter().map(|entry| line(entry)).collect();
        output.data(output.masked(&text).as_bytes())?;
        return Ok(Ending::Done);
    }
    if args.forget {
        return log::forget(&spool, &entries, output);
    }
    headers_have_server(args, &entries)?;
    let mut left = 0;
    let mut logs = log::Logs::new(args, &spool);
    for entry in entries {
        let result = match entry.kind {
            Spooled::Envelope => deliver(args, &spool, &entry.digest, output),
            Spooled::Payload => sign(args, &spool, entry, wanted.is_some(), output),
            Spooled::LogEntry => logs.finish(entry, output),
        };
        if let Err(failure) = result {
            left += 1;
            output.failure(&failure);
        }
    }
    if left == 0 {
        return Ok(Ending::Done);
    }
    output.message(&format!("{left} still waiting in {}", folder.display()));
    Ok(Ending::Code(4))
}

fn nothing(wanted: Option<ObjectId>, output: &Output) -> Result<Ending, Failure> {
    if let Some(digest) = wanted {
        return Err(Failure::new(Kind::NotFound, format!("nothing waits under {digest}")));
    }
    output.message("nothing waits");
    Ok(Ending::Done)
}

fn line(entry: &Entry) -> String {
    let kind = match entry.kind {
        Spooled::Envelope => "signed",
        Spooled::Payload => "not signed",
        Spooled::LogEntry if entry.wants.first().is_some_and(|want| want.ended) => "ended",
        Spooled::LogEntry => "log entry",
    };
    let want = entry.wants.first();
    let step = want.and_then(|want| want.step.as_deref()).unwrap_or("?");
    let reason = want.map(|want| want.reason.as_str()).unwrap_or_default();
    format!("{}  {kind:<10}  {}\n", entry.digest, one_line(&format!("{step}  {reason}")))
}

/// Where the user wants it instead of where it should have gone.
fn instead(args: &ResumeArgs, clock: jiff::Timestamp) -> Result<Option<Want>, Failure> {
    if args.outfile.is_none() && args.archive.is_none() {
        return Ok(None);
    }
    let (archive, archivista) = archivista::named(args.archive.as_slice())?;
    Ok(Some(Want { outfile: args.outfile.clone(), archive, archivista, saved: clock, ..Want::default() }))
}

/// The server that the headers are for. The spool may have been written by somebody else: what it names gets none.
fn server(args: &ResumeArgs) -> Result<Option<String>, Failure> {
    let named = archivista::named(args.archive.as_slice())?.1;
    Ok(named.or_else(|| args.server.address().map(str::to_owned)))
}

/// Headers without a server go nowhere: that is an error where an envelope is to be sent to one.
fn headers_have_server(args: &ResumeArgs, entries: &[&Entry]) -> Result<(), Failure> {
    let is_sent = match instead(args, jiff::Timestamp::UNIX_EPOCH)? {
        Some(want) => want.archivista.is_some(),
        None => entries.iter().flat_map(|entry| &entry.wants).any(|want| want.archivista.is_some()),
    };
    if is_sent && server(args)?.is_none() && !args.server.headers().is_empty() {
        return Err(Failure::usage("--archivista-headers: for which server?")
            .hint("name it with `--archivista-server URL`, or with `--archive archivista+URL`"));
    }
    Ok(())
}

/// Stores an envelope on a server that was named, here or when it was spooled.
fn upload(
    args: &ResumeArgs,
    server: Option<&str>,
    url: &str,
    envelope: &[u8],
    output: &Output,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    if args.offline {
        return Err("--offline: it is not asked".into());
    }
    let is_named = server == Some(url);
    if !is_named {
        // Before anything is sent: only the spool says it, and evidence may hold what is not for everybody.
        output.message(&format!("note: goes to {url}, which the spool names and this command does not"));
    }
    let headers = if is_named { args.server.headers() } else { &[] };
    let store = archivista::open(url, headers).map_err(|failure| failure.one_line())?;
    Ok(store.put(envelope)?.gitoid)
}

fn deliver(args: &ResumeArgs, spool: &Spool, digest: &ObjectId, output: &Output) -> Result<(), Failure> {
    let now = surroundings::clock()?.now();
    let server = server(args)?;
    let delivered = spool
        .resume(digest, instead(args, now)?.as_ref(), now, &|url, envelope| {
            let gitoid = upload(args, server.as_deref(), url, envelope, output)?;
            output.message(&format!("Stored in archivista as {gitoid}"));
            Ok(gitoid)
        })
        .map_err(|error| Failure::because(Kind::NoAnswer, format!("{digest} still waits"), &error))?;
    keep_root(args, digest, &delivered.archives, output);
    let places: Vec<_> = delivered
        .outfiles
        .iter()
        .map(|path| path.display().to_string())
        .chain(delivered.archives.iter().map(|path| format!("the archive {}", path.display())))
        .chain(delivered.servers.iter().map(|(server, _)| format!("archivista {server}")))
        .collect();
    output.message(&format!("{digest} is in {}", places.join(" and ")));
    Ok(())
}

/// Keeps the trusted root of today beside evidence that was archived, as `run` does.
fn keep_root(args: &ResumeArgs, digest: &ObjectId, archives: &[PathBuf], output: &Output) {
    if archives.is_empty() {
        return;
    }
    let warn = |error: String| output.message(&format!("warning: the trusted root is not kept beside it: {error}"));
    let root = match args.signer.named_root(output) {
        Ok(Some(root)) => root,
        Ok(None) => return,
        Err(failure) => return warn(failure.one_line()),
    };
    for folder in archives {
        let now = surroundings::clock().map_or_else(|_| surroundings::now(), |clock| clock.now());
        let kept = Archive::open(folder).and_then(|archive| archive.put_trust(digest, &root, now));
        if let Err(error) = kept {
            warn(error.to_string());
        }
    }
}

/// Signs a payload that was named by its digest, and delivers the envelope. Nothing is signed that was not named: the
/// spool may have been written by somebody else (security rule 6).
fn sign(args: &ResumeArgs, spool: &Spool, entry: &Entry, named: bool, output: &Output) -> Result<(), Failure> {
    let digest = &entry.digest;
    if !named {
        let mut flags = keys::resume_flags(&args.key, args.key_password_file.as_deref(), &args.signer);
        if flags.is_empty() {
            flags.push_str(" --key KEY");
        }
        return Err(Failure::new(Kind::NoAnswer, format!("{digest} is not signed, so it must be named"))
            .hint(format!("affiant resume{}{flags} --digest {digest}", args.spool_flag())));
    }
    if args.offline {
        args.signer.refuse_offline(&args.key)?;
    }
    if args.key.is_empty() && !args.signer.is_keyless() {
        return Err(Failure::usage(format!("{digest} is not signed, and there is no signing key"))
            .hint("name one with --key KEY"));
    }
    let (signers, _) = args.signer.signers(&args.key, args.key_password_file.as_deref(), false, output)?;
    let signers: Vec<&dyn Signer> = signers.iter().map(AsRef::as_ref).collect();
    let cannot = |error: &(dyn std::error::Error + 'static)| {
        Failure::because(Kind::NoAnswer, format!("{digest} cannot be signed"), error)
    };
    let payload = spool.load(digest, Spooled::Payload).map_err(|error| cannot(&error))?;
    let want = entry.wants.first().cloned().unwrap_or_default();
    // The digest names the bytes, not what lies beside them: a planted want must not turn a statement into a policy.
    if want.payload_type.as_deref().is_some_and(|kind| kind != PAYLOAD_TYPE) {
        return Err(Failure::new(Kind::Denied, format!("{digest} is to be signed as another type than a run signs"))
            .hint("sign such a document with `affiant sign`"));
    }
    let envelope = Envelope::seal(payload, PAYLOAD_TYPE, &signers).map_err(|error| cannot(&error))?;
    let saved = spool.save(Spooled::Envelope, &want, &envelope.to_json()).map_err(|error| cannot(&error))?;
    spool.remove(digest, Spooled::Payload).map_err(|error| cannot(&error))?;
    deliver(args, spool, &saved.digest, output)
}

/// What waits in the spool at `folder`, for `doctor`.
pub(super) fn waiting(folder: &Path) -> usize {
    if !folder.exists() {
        return 0;
    }
    Spool::open(folder).and_then(|spool| spool.list()).map_or(0, |waiting| waiting.entries.len())
}
