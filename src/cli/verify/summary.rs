//! The verification summary that the gate writes.

use std::path::PathBuf;

use affiant_core::dsse::Envelope;
use affiant_core::outfile::Outfile;
use affiant_core::redact::{Redactor, VariableMask};
use affiant_core::sign::Signer;
use affiant_core::statement::PAYLOAD_TYPE;
use affiant_core::verdict::Verdict;
use affiant_core::vsa;
use clap::Args;

use super::gate::Mode;
use crate::cli::failure::{Failure, Kind};
use crate::cli::keyless::SignerArgs;
use crate::cli::names::Called;
use crate::cli::output::Output;
use crate::cli::{outputs, surroundings};

/// The verification summary.
#[derive(Args)]
#[command(
    mut_arg("fulcio_url", |arg| arg.help("Certificate authority (Fulcio) for the summary; without --vsa-key, an identity signs it")),
    mut_arg("trusted_root", |arg| arg.help("Check what these services answer with this root of trust: a file, or `public`; it says nothing of whom the gate trusts")),
)]
pub(super) struct SummaryArgs {
    /// Write a signed verification summary (VSA) of the answer
    #[arg(long, value_name = "FILE")]
    vsa_outfile: Option<PathBuf>,
    /// Key that signs the summary: a file, or `env:NAME` (repeatable)
    #[arg(long, value_name = "KEY", visible_alias = "vsa-key")]
    signer_file_key_path: Vec<String>,
    /// File whose first line is the password of that key
    #[arg(long, value_name = "FILE", hide = true, visible_alias = "signer-file-key-passphrase-path")]
    key_password_file: Option<PathBuf>,
    #[command(flatten)]
    signer: SignerArgs,
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
    signers: Vec<Box<dyn Signer>>,
}

impl SummaryArgs {
    /// What is read and written.
    pub(super) fn files(&self, files: &mut outputs::Files) {
        files.reads_keys(&self.signer_file_key_path);
        files.reads("the password file", &self.key_password_file);
        self.signer.reads(files);
        files.writes("--vsa-outfile", &self.vsa_outfile);
    }

    /// Says by which name affiant was called.
    pub(super) fn call(&mut self, called: Called) {
        self.signer.call(called);
    }

    /// Everything that can be refused is refused here, and a token that is there is looked at: the answer may take long.
    pub(super) fn prepare(&self, offline: bool, output: &Output) -> Result<Option<Summary<'_>>, Failure> {
        let Some(path) = &self.vsa_outfile else {
            return if self.signer.names_root() {
                Err(Failure::usage(
                    "--trusted-root is for the services that sign a verification summary, and none is asked for",
                )
                .hint("whom the gate trusts is said by the policy, `--policy-trusted-root` and `--image-trusted-root`"))
            } else if self.signer_file_key_path.is_empty() {
                Ok(None)
            } else {
                Err(Failure::usage("--signer-file-key-path signs a verification summary, and none is asked for")
                    .hint("name it with `--vsa-outfile FILE`; the policy's key is `--publickey FILE`"))
            };
        };
        let keys = &self.signer_file_key_path;
        if keys.is_empty() && !self.signer.is_keyless() {
            return Err(Failure::usage("--vsa-outfile: nobody is named who signs the summary").hint(
                "name a key with `--vsa-key FILE`, or sign with an identity token: `--fulcio-url URL --timestamp-servers URL`",
            ));
        }
        if offline && self.signer.asks(keys)? {
            return Err(Failure::usage("--offline, and a service is named that signing the summary would ask")
                .hint("sign it with a key alone, or leave out --offline"));
        }
        output.mask(Redactor::new(&surroundings::environment(), &[], &VariableMask::default()));
        let outfile = Outfile::probe(path).map_err(|error| {
            Failure::because(Kind::NoAnswer, format!("the outfile {} cannot be written", path.display()), &error)
        })?;
        let signers = self.signer.signers(keys, self.key_password_file.as_deref(), false, output);
        let (signers, _) = signers.map_err(|mut failure| {
            if failure.kind == Kind::Run {
                failure.kind = Kind::NoAnswer;
            }
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
        let signers: Vec<&dyn Signer> = self.signers.iter().map(AsRef::as_ref).collect();
        let envelope = Envelope::seal(payload, PAYLOAD_TYPE, &signers)
            .map_err(|error| Failure::because(Kind::NoAnswer, "the summary cannot be signed", &error))?;
        self.outfile
            .write(&envelope.to_json())
            .map_err(|error| Failure::because(Kind::NoAnswer, "the summary cannot be written", &error))
    }
}
