//! The verification summary that the gate writes.

use std::path::PathBuf;

use affiant_core::dsse::Envelope;
use affiant_core::outfile::Outfile;
use affiant_core::sign::Signer;
use affiant_core::statement::PAYLOAD_TYPE;
use affiant_core::verdict::Verdict;
use affiant_core::vsa;
use clap::Args;

use super::gate::Mode;
use crate::cli::failure::{Failure, Kind};
use crate::cli::{keys, outputs};

/// The verification summary.
#[derive(Args)]
pub(super) struct SummaryArgs {
    /// Write a signed verification summary (VSA) of the answer
    #[arg(long, value_name = "FILE", requires = "signer_file_key_path")]
    vsa_outfile: Option<PathBuf>,
    /// Key that signs the summary: a file, or `env:NAME` (repeatable)
    #[arg(long, value_name = "KEY", visible_alias = "vsa-key")]
    signer_file_key_path: Vec<String>,
    /// File whose first line is the password of that key
    #[arg(long, value_name = "FILE", hide = true, visible_alias = "signer-file-key-passphrase-path")]
    key_password_file: Option<PathBuf>,
    /// Who the summary says has verified
    #[arg(long, value_name = "ID", hide = true, default_value = "affiant")]
    vsa_verifier_id: String,
    /// What the summary calls the artifact (default: its name)
    #[arg(long, value_name = "URI", hide = true)]
    vsa_resource_uri: Option<String>,
}

/// A summary that is going to be written: everything that can be refused is refused before the answer.
pub(super) struct Summary<'a> {
    args: &'a SummaryArgs,
    outfile: Outfile,
    signers: Vec<affiant_core::sign::PrivateKey>,
}

impl SummaryArgs {
    /// What is read and written.
    pub(super) fn files(&self, files: &mut outputs::Files) {
        files.reads_keys(&self.signer_file_key_path);
        files.reads("the password file", &self.key_password_file);
        files.writes("--vsa-outfile", &self.vsa_outfile);
    }

    pub(super) fn prepare(&self) -> Result<Option<Summary<'_>>, Failure> {
        let Some(path) = &self.vsa_outfile else {
            return if self.signer_file_key_path.is_empty() {
                Ok(None)
            } else {
                Err(Failure::usage("--signer-file-key-path signs a verification summary, and none is asked for")
                    .hint("name it with `--vsa-outfile FILE`; the policy's key is `--publickey FILE`"))
            };
        };
        let outfile = Outfile::probe(path).map_err(|error| {
            Failure::because(Kind::NoAnswer, format!("the outfile {} cannot be written", path.display()), &error)
        })?;
        let signers = self
            .signer_file_key_path
            .iter()
            .map(|key| keys::signing_key(key, self.key_password_file.as_deref()).map(|loaded| loaded.key))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|mut failure| {
                failure.kind = Kind::NoAnswer;
                failure
            })?;
        Ok(Some(Summary { args: self, outfile, signers }))
    }
}

impl Summary<'_> {
    pub(super) fn write(&self, verdict: &Verdict, mode: Mode) -> Result<(), Failure> {
        let resource = self.args.vsa_resource_uri.as_deref();
        let Some(payload) = vsa::statement(verdict, &self.args.vsa_verifier_id, resource, mode == Mode::Enforce) else {
            return Err(Failure::usage("a verification summary is about an artifact, and none is named")
                .hint("name it: `affiant verify … --vsa-outfile FILE ARTIFACT`"));
        };
        let signers: Vec<&dyn Signer> = self.signers.iter().map(|key| key as &dyn Signer).collect();
        let envelope = Envelope::seal(payload, PAYLOAD_TYPE, &signers)
            .map_err(|error| Failure::because(Kind::NoAnswer, "the summary cannot be signed", &error))?;
        self.outfile
            .write(&envelope.to_json())
            .map_err(|error| Failure::because(Kind::NoAnswer, "the summary cannot be written", &error))
    }
}
