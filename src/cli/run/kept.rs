//! What became of the evidence of a run, and how it is told.

use std::path::PathBuf;

use affiant_core::run::{Collected, Sealed, SealedEnvelope};
use affiant_core::sign::Signer;
use serde_json::{Value, json};

use crate::cli::failure::{Failure, Kind};
use crate::cli::image::After;
use crate::cli::output::Output;
use crate::cli::places;

/// What became of the evidence.
#[derive(Default)]
pub(super) struct Kept {
    /// Whether something that was asked for could not be kept.
    pub(super) failed: bool,
    pub(super) envelopes: Vec<KeptEnvelope>,
    /// The collection's outfile, as people are told of it.
    pub(super) shown: Option<String>,
    pub(super) next: Option<String>,
    /// Names of what was attached to images.
    pub(super) attached: Option<Vec<String>>,
}

pub(super) struct KeptEnvelope {
    pub(super) attestor: Option<&'static str>,
    pub(super) payload_digest: String,
    pub(super) digest: Option<String>,
    pub(super) gitoid: Option<String>,
    pub(super) outfile: Option<PathBuf>,
    pub(super) archive: Option<PathBuf>,
    pub(super) server: Option<String>,
    pub(super) spool: Option<Waiting>,
}

/// Evidence in a spool.
pub(super) struct Waiting {
    pub(super) digest: String,
    pub(super) path: PathBuf,
    /// The command that finishes the job.
    pub(super) resume: String,
}

impl KeptEnvelope {
    pub(super) fn of(envelope: &SealedEnvelope) -> Self {
        Self {
            attestor: envelope.attestor,
            payload_digest: envelope.payload_digest().to_owned(),
            digest: None,
            gitoid: None,
            outfile: None,
            archive: None,
            server: None,
            spool: None,
        }
    }

    fn in_archivista(&self) -> Option<String> {
        let gitoid = self.server.as_ref().and(self.gitoid.as_deref())?;
        Some(format!("archivista as {}", gitoid.get(..12).unwrap_or(gitoid)))
    }
}

impl Kept {
    /// Keeps the evidence with images as well. It is in the archive already; what fails here fails the run, and is told.
    pub(super) fn attach(
        &mut self,
        attach: &After,
        collected: &Collected,
        sealed: &Sealed,
        signers: &[Box<dyn Signer>],
        output: &Output,
    ) {
        if collected.outcome.code() != 0 {
            output.message("note: the command failed, so its evidence is attached to no image");
            return;
        }
        let label = |envelope: &SealedEnvelope| envelope.attestor.map_or("the collection", |name| name).to_owned();
        let json = |envelope: &SealedEnvelope| {
            let mut bytes = Vec::new();
            envelope.write(&mut bytes).map(|()| (label(envelope), bytes))
        };
        let keys: Vec<_> = signers.iter().map(|signer| signer.public_key().clone()).collect();
        let envelopes = sealed.envelopes.iter().map(json).collect::<Result<Vec<_>, _>>();
        let result = envelopes
            .map_err(|error| Failure::because(Kind::Run, "the evidence cannot be written", &error))
            .and_then(|envelopes| {
                let signers: Vec<&dyn Signer> = signers.iter().map(|signer| &**signer).collect();
                attach.attach(&envelopes, &keys, &signers, output)
            });
        match result {
            Ok(names) => self.attached = Some(names),
            Err(failure) => {
                self.failed = true;
                let failure = match self.later(attach.named().unwrap_or("IMAGE")) {
                    Some(later) => failure.hint(later),
                    None => failure,
                };
                output.failure(&failure);
            }
        }
    }

    /// How what was not attached is attached later: from the archive, or else from the outfiles.
    fn later(&self, image: &str) -> Option<String> {
        let archived: Vec<_> =
            self.envelopes.iter().filter_map(|one| one.archive.as_ref().zip(one.digest.as_deref())).collect();
        if let Some((folder, _)) = archived.first() {
            let digests: Vec<_> = archived.iter().map(|(_, digest)| *digest).collect();
            let is_default = places::archive_folder(None).is_ok_and(|default| default == **folder);
            let named = if is_default { String::new() } else { format!(" --archive dir:{}", folder.display()) };
            return Some(format!("it is archived; later: affiant image attach {image} {}{named}", digests.join(" ")));
        }
        let files = self.envelopes.iter().filter_map(|one| one.outfile.as_ref());
        let files: Vec<_> = files.map(|file| file.display().to_string()).collect();
        (!files.is_empty()).then(|| format!("it is written; later: affiant image attach {image} {}", files.join(" ")))
    }

    /// What was attached to images, where that was asked for.
    pub(super) fn attached(&self) -> Option<&[String]> {
        self.attached.as_deref()
    }

    /// For the report.
    pub(super) fn report(&self) -> Value {
        let show = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        self.envelopes
            .iter()
            .map(|one| {
                json!({
                    "attestor": one.attestor,
                    "payloadSha256": one.payload_digest,
                    "sha256": one.digest.as_ref().map(|digest| digest.trim_start_matches("sha256:")),
                    "gitoid": one.gitoid,
                    "outfile": show(&one.outfile),
                    "archive": show(&one.archive),
                    "archivista": one.server,
                    "spool": one.spool.as_ref().map(|waiting| waiting.path.display().to_string()),
                })
            })
            .collect()
    }

    /// Where the envelopes beside the collection are, each with its attestor.
    pub(super) fn beside(&self) -> impl Iterator<Item = (&'static str, String)> {
        let main = self.envelopes.first().and_then(|first| first.outfile.as_ref());
        let main = main.zip(self.shown.as_ref()).map(|(path, shown)| (path.display().to_string(), shown));
        self.envelopes.iter().filter_map(move |one| {
            let place = match (&one.outfile, &one.archive, &one.digest, &one.spool) {
                (Some(path), ..) => {
                    let path = path.display().to_string();
                    let rest = main.as_ref().and_then(|(whole, shown)| Some((path.strip_prefix(whole)?, shown)));
                    rest.map(|(rest, shown)| format!("{shown}{rest}")).unwrap_or(path)
                }
                (None, Some(_), Some(digest), _) => format!("the archive as {}", digest.get(..19).unwrap_or(digest)),
                (.., Some(waiting)) => format!("the spool: {}", waiting.path.display()),
                _ => one.in_archivista()?,
            };
            Some((one.attestor?, place))
        })
    }

    /// Where the evidence is, and the next command: the last line.
    pub(super) fn last_line(&self) -> Option<String> {
        let first = self.envelopes.first()?;
        let mut places = Vec::new();
        places.extend(self.shown.clone());
        places.extend(first.archive.as_ref().map(|_| {
            let digest = first.digest.as_deref().unwrap_or_default();
            format!("the archive as {}", digest.get(..19).unwrap_or(digest))
        }));
        places.extend(first.in_archivista());
        places.extend(first.spool.as_ref().map(|waiting| format!("the spool: {}", waiting.path.display())));
        if places.is_empty() {
            return Some("the evidence is lost: no place took it".to_owned());
        }
        let next = self.next.as_ref().map(|next| format!("; next: {next}")).unwrap_or_default();
        Some(format!("evidence in {}{next}", places.join(" and ")))
    }
}
