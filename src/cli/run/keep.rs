//! Where the evidence of a run is kept: archive and outfile, or the spool when they fail.
//!
//! The archive comes first: when the process is ended between the two, what was sealed is there.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use affiant_core::clock::Clock;
use affiant_core::outfile::{Outfile, OutfileError};
use affiant_core::run::{Collected, SealedEnvelope};
use affiant_core::sign::Signer;
use affiant_core::statement::PAYLOAD_TYPE;
use affiant_core::store::spool::{Kind as Spooled, RESERVE, Reserve, Spool, Want};
use affiant_core::store::{Access, Archive, StoreError, Stored};

use super::kept::{Kept, KeptEnvelope, Waiting};
use super::links::Links;
use super::reports::{self, Reports};
use super::server::Server;
use super::{CaptureArgs, OnGap};
use crate::cli::failure::{Failure, Kind};
use crate::cli::image::After;
use crate::cli::keyless::word;
use crate::cli::output::Output;
use crate::cli::{archivista, keys, places};

/// Envelopes of up to this many bytes are written by one thread.
const ALONE: usize = 256 * 1024;

/// The least room in bytes that is worth keeping for the evidence.
const MIN_RESERVE: u64 = RESERVE >> 6;

/// The places, checked before the command runs.
pub(super) struct Keep {
    pub(super) on_gap: OnGap,
    outfile: Option<(PathBuf, Outfile)>,
    archive: Option<Archive>,
    /// Whether the user named the archive: then its failure fails the run.
    archive_named: bool,
    server: Option<Server>,
    spool: Option<Spool>,
    /// Whether the user named it: then `resume` must be told.
    spool_named: bool,
    reports: Vec<PathBuf>,
    /// Classic metadata of in-toto.
    links: Option<Links>,
    /// Images that get the evidence too.
    attach: Option<After>,
    /// The public key beside the signing key, for the next command.
    public_key: Option<PathBuf>,
    /// How `resume` is told who signs.
    signer: String,
    /// How it is told whom today's trust is in, where nothing is signed any more.
    root: String,
    /// The trusted root of today, which is archived beside what services vouch for.
    pub(super) trusted_root: Option<Vec<u8>>,
    /// What is not as it should be, but does not stop a run.
    warnings: Vec<String>,
}

/// A file that can be written, or why not.
type Checked = Result<Outfile, OutfileError>;
/// What the archive said.
type Archived = Result<Stored, StoreError>;

impl Keep {
    /// Looks at every place before the command runs.
    pub(super) fn check(
        args: &CaptureArgs,
        attach: Option<After>,
        dir: &Path,
        step: &str,
        signers: &[Box<dyn Signer>],
    ) -> Result<Self, Failure> {
        let refuse =
            |message: String, error: &(dyn std::error::Error + 'static)| Failure::because(Kind::Run, message, error);
        let outfile = match &args.outfile {
            None => None,
            Some(path) if path == Path::new("-") => {
                return Err(Failure::usage("--outfile -: stdout belongs to the command").hint("name a file"));
            }
            Some(path) => {
                let checked = Outfile::probe(path)
                    .map_err(|error| refuse(format!("the outfile {} cannot be written", path.display()), &error))?;
                Some((absolute(path), checked))
            }
        };
        let mut warnings: Vec<String> = args.archivista.unused().map(str::to_owned).into_iter().collect();
        let mut folders = places::places();
        if let Some(spool) = &args.spool {
            folders.spool = Some(absolute(spool));
        }
        let (named, server) = archivista::named(&args.archive)?;
        let named = named.map(|folder| absolute(&folder));
        let archive_named = named.is_some();
        if !args.archive.is_empty() {
            // What is named takes the place of the default one.
            folders.archive = None;
        }
        let server = Server::check(args, server)?;
        let used = [named.as_ref().or(folders.archive.as_ref()), folders.spool.as_ref()];
        if let Some(folder) = used.into_iter().flatten().find(|folder| holds(folder, dir)) {
            return Err(Failure::new(
                Kind::Run,
                format!("the working directory {} lies in {}, which is not recorded", dir.display(), folder.display()),
            )
            .hint("name another folder with `--archive dir:PATH` or AFFIANT_HOME"));
        }
        // A plan changes nothing, not even by making folders.
        let open = |folder: &Path, access| {
            if args.plan {
                return Archive::foresee(folder, access);
            }
            let archive = Archive::create(folder, access)?;
            archive.probe()?;
            Ok(archive)
        };
        let archive = match named {
            Some(folder) => Some(
                open(&folder, Access::Shared)
                    .map_err(|error| refuse(format!("the archive {} cannot be used", folder.display()), &error))?,
            ),
            None => folders.archive.and_then(|folder| {
                open(&folder, Access::Private)
                    .map_err(|error| warnings.push(format!("the default archive cannot be used: {error}")))
                    .ok()
            }),
        };
        // A plan needs none.
        let spool = match folders.spool.filter(|_| !args.plan).map(|folder| Spool::create(&folder)).transpose() {
            Ok(spool) => spool,
            Err(error) if args.spool.is_some() => {
                return Err(refuse("the spool that is named cannot be used".to_owned(), &error));
            }
            Err(error) => {
                warnings.push(format!("there is no spool: {error}"));
                None
            }
        };
        if outfile.is_none() && archive.is_none() && server.is_none() {
            let failure = Failure::new(Kind::Run, "there is nowhere to keep the evidence, so nothing was run")
                .hint("name a file with `--outfile FILE`, or a folder with `--archive dir:PATH` or AFFIANT_HOME");
            return Err(warnings.into_iter().fold(failure, Failure::hint));
        }
        let public_key =
            args.keys.key.first().map(|key| Path::new(key).with_extension("pub")).filter(|path| path.is_file());
        Ok(Self {
            on_gap: args.on_gap,
            outfile,
            archive,
            archive_named,
            server,
            spool,
            spool_named: args.spool.is_some(),
            links: Links::check(args, step, signers)?,
            attach,
            reports: reports::files(&args.report).map(|path| absolute(&path)).collect(),
            public_key,
            signer: args.keys.resume_flags(),
            root: args.keys.signer.root_flag(),
            trusted_root: None,
            warnings,
        })
    }

    /// Files and folders that affiant itself writes: no materials, no products.
    pub(super) fn own_outputs(&self) -> Vec<PathBuf> {
        let mut own = self.reports.clone();
        own.extend(self.links.iter().flat_map(Links::files).map(absolute));
        if let Some((path, outfile)) = &self.outfile {
            own.push(path.clone());
            own.extend(outfile.file().map(Path::to_owned));
        }
        own.extend(self.archive.as_ref().map(|archive| archive.root().to_owned()));
        own.extend(self.spool.as_ref().map(|spool| spool.folder().to_owned()));
        own.extend(places::fetched());
        own
    }

    /// The outfile, whose siblings `<outfile>-*.json` are ours too.
    pub(super) fn outfile(&self) -> Option<PathBuf> {
        self.outfile.as_ref().map(|(path, _)| path.clone())
    }

    /// The places, for the plan.
    pub(super) fn describe(&self) -> Vec<String> {
        let mut places: Vec<_> = self.outfile.iter().map(|(path, _)| path.display().to_string()).collect();
        places.extend(self.archive.as_ref().map(|archive| format!("archive {}", archive.root().display())));
        places.extend(self.server.as_ref().map(|server| format!("archivista {}", server.address())));
        places
    }

    pub(super) fn warn(&self, output: &Output) {
        for warning in &self.warnings {
            output.message(&format!("warning: {warning}"));
        }
    }

    /// Takes room on the disk before the command can fill it: less where there is little. `None` where nothing can be
    /// promised.
    pub(super) fn reserve(&self, output: &Output) -> Option<Reserve<'_>> {
        let spool = self.spool.as_ref()?;
        let mut room = RESERVE;
        loop {
            match spool.reserve(room) {
                Ok(reserve) => return Some(reserve),
                Err(_) if room > MIN_RESERVE => room /= 4,
                Err(error) => {
                    output.message(&format!("warning: no room can be kept for the evidence: {error}"));
                    return None;
                }
            }
        }
    }

    /// Seals the evidence and puts it where it belongs. The command has run: nothing is an error any more that loses
    /// what is known.
    pub(super) fn keep(
        &self,
        collected: &Collected,
        signers: &[Box<dyn Signer>],
        reserve: Option<Reserve<'_>>,
        clock: &dyn Clock,
        output: &Output,
    ) -> Result<Kept, Failure> {
        let sealed = collected
            .seal(signers)
            .map_err(|error| Failure::because(Kind::Run, "the evidence cannot be composed", &error))?;
        let mut kept = Kept::default();
        let mut reserve = reserve;
        let step = collected.collection.name.clone();
        if let Some(error) = sealed.error {
            kept.failed = true;
            let failure = Failure::because(Kind::Run, "the evidence cannot be signed", &error);
            output.failure(&failure);
            for envelope in &sealed.envelopes {
                let want = self.want(envelope, &step, clock, output.masked(&failure.one_line()));
                let saved =
                    self.spool(Spooled::Payload, &want, reserve.take(), output, |out| out.write_all(&envelope.payload));
                kept.envelopes.push(KeptEnvelope { spool: saved, ..KeptEnvelope::of(envelope) });
            }
            return Ok(kept);
        }
        let mut names = Names::default();
        for envelope in &sealed.envelopes {
            let mut one = KeptEnvelope::of(envelope);
            let mut troubles = Vec::new();
            let (path, outfile) = self.outfile_of(envelope, &mut names).unzip();
            let (stored, written) = self.put_and_write(envelope, outfile, clock);
            if let Some((archive, stored)) = self.archive.as_ref().zip(stored) {
                match stored {
                    Ok(stored) => {
                        let kept = self.trusted_root.as_deref();
                        let kept = kept.map(|root| archive.put_trust(&stored.digest, root, clock.now()));
                        if let Some(Err(error)) = kept {
                            output.message(&format!("warning: the trusted root is not kept beside it: {error}"));
                        }
                        one.digest = Some(stored.digest.to_string());
                        one.gitoid = Some(stored.gitoid);
                        one.archive = Some(archive.root().to_owned());
                        if let Some(warning) = stored.warning {
                            output.message(&format!("warning: {warning}"));
                        }
                    }
                    Err(error) => {
                        let only = self.outfile.is_none() && self.server.is_none();
                        troubles.push((self.archive_named || only, format!("not archived: {error}")));
                    }
                }
            }
            if let Some((path, written)) = path.zip(written) {
                match written {
                    Ok(()) => one.outfile = Some(path),
                    Err(error) => troubles.push((true, format!("the outfile was not written: {error}"))),
                }
            }
            // Last: what is kept here does not wait for another machine.
            if let Some(server) = &self.server {
                match server.keep(envelope, output) {
                    Ok(gitoid) => {
                        one.server = Some(server.address().to_owned());
                        one.gitoid = Some(gitoid);
                    }
                    Err(reason) => troubles.push((true, format!("not stored in archivista: {reason}"))),
                }
            }
            if !troubles.is_empty() {
                let reasons: Vec<_> = troubles.iter().map(|(_, reason)| reason.as_str()).collect();
                let failed = troubles.iter().any(|(fails, _)| *fails);
                kept.failed |= failed;
                output.message(&format!("{}: {}", if failed { "error" } else { "warning" }, reasons.join("; ")));
                let mut want = self.want(envelope, &step, clock, output.masked(&reasons.join("; ")));
                // What is written already need not be written again.
                if one.outfile.is_some() {
                    want.outfile = None;
                }
                if one.archive.is_some() {
                    want.archive = None;
                }
                if one.server.is_some() {
                    want.archivista = None;
                }
                let saved =
                    self.spool(Spooled::Envelope, &want, reserve.take(), output, |out| envelope.write(&mut &mut *out));
                if let Some(waiting) = saved {
                    one.digest.get_or_insert_with(|| waiting.digest.clone());
                    one.spool = Some(waiting);
                }
            }
            kept.envelopes.push(one);
        }
        if let Some(links) = &self.links {
            kept.failed |= !links.write(collected, &sealed, signers, output);
        }
        if let Some(attach) = &self.attach {
            kept.attach(attach, collected, &sealed, signers, output);
        }
        kept.shown = kept.envelopes.first().and_then(|first| first.outfile.as_deref()).map(|path| self.shown(path));
        kept.next = self.next(&kept);
        Ok(kept)
    }

    /// The file of an envelope: the outfile, or one beside it for own envelopes.
    fn outfile_of(&self, envelope: &SealedEnvelope, names: &mut Names) -> Option<(PathBuf, Checked)> {
        let (path, outfile) = self.outfile.as_ref()?;
        Some(match envelope.attestor {
            None => (path.clone(), Ok(outfile.clone())),
            Some(attestor) => {
                let path = names.own(path, attestor);
                let outfile = Outfile::probe(&path);
                (path, outfile)
            }
        })
    }

    /// Archives an envelope; meanwhile another thread writes it beside the outfile, which gets it when the archive has.
    fn put_and_write(
        &self,
        envelope: &SealedEnvelope,
        outfile: Option<Checked>,
        clock: &dyn Clock,
    ) -> (Option<Archived>, Option<Result<(), OutfileError>>) {
        let (outfile, refused) = match outfile.transpose() {
            Ok(outfile) => (outfile, None),
            Err(error) => (None, Some(Err(error))),
        };
        let write = |mut out: &mut dyn Write| envelope.write(&mut out);
        let large = envelope.payload.len() > ALONE;
        let (stored, written) = std::thread::scope(|scope| {
            let other = match (&self.archive, &outfile) {
                (Some(_), Some(outfile)) if large => std::thread::Builder::new()
                    .name("outfile".to_owned())
                    .spawn_scoped(scope, move || outfile.stage(write))
                    .ok(),
                _ => None,
            };
            let stored = self
                .archive
                .as_ref()
                .map(|archive| archive.put_outlined(clock.now(), &envelope.outline, &envelope.signatures, write));
            let staged = other.and_then(|other| other.join().ok());
            let written = outfile.as_ref().map(|outfile| {
                let staged = staged.unwrap_or_else(|| outfile.stage(write))?;
                outfile.commit(staged, write)
            });
            (stored, written)
        });
        (stored, written.or(refused))
    }

    fn want(&self, envelope: &SealedEnvelope, step: &str, clock: &dyn Clock, reason: String) -> Want {
        Want {
            outfile: self.outfile.as_ref().map(|(path, _)| match envelope.attestor {
                None => path.clone(),
                Some(attestor) => Names::default().own(path, attestor),
            }),
            archive: self.archive.as_ref().map(|archive| archive.root().to_owned()),
            archivista: self.server.as_ref().map(|server| server.address().to_owned()),
            payload_type: Some(PAYLOAD_TYPE.to_owned()),
            step: Some(step.to_owned()),
            reason,
            ended: false,
            saved: clock.now(),
        }
    }

    /// Spools in the reserved room; where that fails, in a new folder among the temporary ones.
    fn spool(
        &self,
        kind: Spooled,
        want: &Want,
        reserve: Option<Reserve<'_>>,
        output: &Output,
        produce: impl Fn(&mut dyn Write) -> std::io::Result<()>,
    ) -> Option<Waiting> {
        let first = match (reserve, &self.spool) {
            (Some(reserve), _) => Some(reserve.save_with(kind, want, &produce)),
            (None, Some(spool)) => Some(spool.save_with(kind, want, &produce)),
            (None, None) => None,
        };
        let named = self.spool.as_ref().filter(|_| self.spool_named).map(|spool| spool.folder().to_owned());
        let (saved, folder) = match first {
            Some(Ok(saved)) => (saved, named),
            failed => {
                if let Some(Err(error)) = failed {
                    output.message(&format!("warning: the evidence cannot be spooled: {error}"));
                }
                let saved = Spool::fresh_below(&std::env::temp_dir())
                    .and_then(|spool| Ok((spool.save_with(kind, want, &produce)?, Some(spool.folder().to_owned()))));
                match saved {
                    Ok(saved) => saved,
                    Err(error) => {
                        output.message(&format!("error: the evidence is lost, for it cannot be spooled: {error}"));
                        return None;
                    }
                }
            }
        };
        output.message(&format!("affiant: the evidence waits in {}", saved.path.display()));
        let mut resume = "affiant resume".to_owned();
        if let Some(folder) = folder {
            let _ = write!(resume, " --spool {}", word(&folder.display().to_string()));
        }
        if kind == Spooled::Payload {
            let _ = write!(resume, "{} --digest {}", self.signer, saved.digest);
        } else if want.archive.is_some() {
            resume.push_str(&self.root);
        }
        if want.archivista.is_some() {
            resume.extend(self.server.as_ref().map(Server::resume_flags));
        }
        output.message(&format!("hint: finish with `{resume}`"));
        Some(Waiting { digest: saved.digest.to_string(), path: saved.path, resume })
    }

    /// The outfile's path as it was given, when it still leads there.
    fn shown(&self, path: &Path) -> String {
        let given = self.outfile.as_ref().map(|(_, outfile)| outfile.path());
        given.filter(|given| places::is_same(given, path)).unwrap_or(path).display().to_string()
    }

    /// The next command to type.
    fn next(&self, kept: &Kept) -> Option<String> {
        let first = kept.envelopes.first()?;
        let key = self.public_key.as_ref().map_or_else(|| "PUBLIC_KEY".to_owned(), |path| path.display().to_string());
        let place = match (&first.outfile, &first.archive, &first.digest, &first.spool) {
            (Some(path), ..) => self.shown(path),
            (None, Some(_), Some(digest), _) => digest.clone(),
            (.., Some(waiting)) => return Some(waiting.resume.clone()),
            _ => return self.server.as_ref().zip(first.gitoid.as_deref()).map(|(server, id)| server.next(id)),
        };
        Some(format!("affiant inspect --key {key} {place}"))
    }
}

/// The reports. Their files must be none that this run reads or writes otherwise; neither must the outfile.
pub(super) fn reports(args: &CaptureArgs) -> Result<Reports, Failure> {
    let reports = Reports::parse(&args.report)?;
    // One that cannot be written is refused later, and reported.
    let outfile = args.outfile.as_ref().and_then(|path| Outfile::probe(path).ok());
    let keys = args.keys.key.iter().filter_map(|key| keys::file_of(key)).map(|path| ("the signing key", path));
    let inputs: Vec<_> = keys
        .chain(args.keys.key_password_file.iter().map(|path| ("the password file", path.as_path())))
        .chain(args.config.iter().map(|path| ("the configuration", path.as_path())))
        .collect();
    let written = outfile.iter().map(|file| ("outfile", file.file().unwrap_or(file.path()), file.path()));
    for (what, file, named) in written.chain(reports.files().map(|(file, named)| ("report", file, named))) {
        if let Some((input, _)) = inputs.iter().find(|(_, path)| places::is_same(path, file)) {
            return Err(Failure::usage(format!("the {what} {} is {input}", named.display()))
                .hint(format!("name another file with `--{what} FILE`")));
        }
    }
    if let Some(outfile) = outfile.as_ref().and_then(Outfile::file)
        && reports.files().any(|(report, _)| places::is_same(outfile, report))
    {
        return Err(Failure::usage(format!("{} is to be outfile and report", outfile.display()))
            .hint("name another file with `--report FILE`"));
    }
    Ok(reports)
}

/// Whether `folder` is `inner` or above it.
fn holds(folder: &Path, inner: &Path) -> bool {
    folder.canonicalize().is_ok_and(|folder| inner.starts_with(folder))
}

/// Names of own envelopes: `<outfile>-<attestor>.json`, from the second on `<outfile>-<attestor>-2.json`.
#[derive(Default)]
struct Names(Vec<PathBuf>);

impl Names {
    fn own(&mut self, outfile: &Path, attestor: &str) -> PathBuf {
        let mut number = 1;
        loop {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let path = PathBuf::from(format!("{}-{attestor}{suffix}.json", outfile.display()));
            if !self.0.contains(&path) {
                self.0.push(path.clone());
                return path;
            }
            number += 1;
        }
    }
}

/// The absolute path, the folder's links resolved: it holds when the working directory goes away.
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (path.parent().and_then(|folder| folder.canonicalize().ok()), path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path,
    }
}
