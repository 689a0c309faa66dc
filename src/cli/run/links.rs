//! Classic metadata of in-toto, `<step>.<key>.link`: one file for each key, made of the link that was signed.

use std::path::{Path, PathBuf};

use affiant_core::collection::FAILED_SUFFIX;
use affiant_core::link::{Key, classic};
use affiant_core::outfile::Outfile;
use affiant_core::run::{Collected, Sealed};
use affiant_core::sign::Signer;
use serde_json::Value;

use super::CaptureArgs;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::Output;

/// The attestor whose envelope holds the link.
const ATTESTOR: &str = "link";

/// The files, in the order of the keys.
pub(super) struct Links(Vec<Outfile>);

impl Links {
    /// Looks at the files before the command runs; `None` where they are not asked for.
    pub(super) fn check(args: &CaptureArgs, step: &str, signers: &[Box<dyn Signer>]) -> Result<Option<Self>, Failure> {
        let folder = match args.attestor_options.get(ATTESTOR).and_then(|options| options.get("classic")) {
            None | Some(Value::Bool(false)) => return Ok(None),
            Some(Value::Bool(true)) => {
                let beside = args.outfile.as_deref().and_then(Path::parent);
                beside.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
            }
            Some(Value::String(folder)) => PathBuf::from(folder),
            Some(_) => return Err(Failure::usage("--attestor-link-classic takes one folder")),
        };
        if args.keys.signer.is_identity(&args.keys.key) {
            return Err(Failure::usage(
                "--attestor-link-classic: its readers know keys only, and an identity signs with a new one each time",
            )
            .hint("name a key with `--key FILE`, or leave the classic link out"));
        }
        if step.contains('/') || step.starts_with('.') {
            return Err(Failure::usage(format!(
                "--attestor-link-classic: the step `{step}` cannot be the name of a file"
            ))
            .hint("name the step with `--step NAME`, as the layout does"));
        }
        let refuse = |what: String, error: &(dyn std::error::Error + 'static)| Failure::because(Kind::Run, what, error);
        let file = |signer: &dyn Signer| {
            let key = Key::of(signer.public_key())
                .map_err(|error| refuse("--attestor-link-classic: this key cannot sign it".to_owned(), &error))?;
            let path = folder.join(key.file_name(step));
            Outfile::probe(&path)
                .map_err(|error| refuse(format!("the link {} cannot be written", path.display()), &error))
        };
        signers.iter().map(|signer| file(signer.as_ref())).collect::<Result<_, _>>().map(|files| Some(Self(files)))
    }

    /// The files.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(Outfile::path)
    }

    /// Writes them. `false` where one could not be written; the link itself is kept as evidence in any case.
    pub(super) fn write(
        &self,
        collected: &Collected,
        sealed: &Sealed,
        signers: &[Box<dyn Signer>],
        output: &Output,
    ) -> bool {
        if collected.collection.name.ends_with(FAILED_SUFFIX) {
            // Security rule 1: in-toto-verify looks neither at the name in it nor at the exit code.
            output.message("note: no classic link is written of a command that failed; its reader would take it");
            return true;
        }
        let Some(envelope) = sealed.envelopes.iter().find(|envelope| envelope.attestor == Some(ATTESTOR)) else {
            return true;
        };
        let mut fine = true;
        for (signer, file) in signers.iter().zip(&self.0) {
            let written = classic(&envelope.payload, signer.as_ref())
                .map_err(|error| error.to_string())
                .and_then(|link| file.write(&link).map_err(|error| error.to_string()));
            match written {
                Ok(()) => output.message(&format!("affiant: in-toto link in {}", file.path().display())),
                Err(error) => {
                    fine = false;
                    output.message(&format!(
                        "error: the link {} was not written: {error}; the collection has all that it would say",
                        file.path().display()
                    ));
                }
            }
        }
        fine
    }
}
