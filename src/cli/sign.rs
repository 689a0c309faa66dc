//! `affiant sign`: signs a document into a DSSE envelope.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use affiant_core::dsse::Envelope;
use affiant_core::redact::{Redactor, VariableMask};
use affiant_core::sign::Signer;
use clap::Args;
use serde::de::IgnoredAny;

use super::failure::{Failure, Kind};
use super::inspect::read_file;
use super::output::Output;
use super::{Ending, keys, surroundings, verify};

/// `payloadType` of a policy, as both peers sign it (wire-formats §5.1).
pub(crate) const POLICY_TYPE: &str = "https://witness.testifysec.com/policy/v0.1";

#[derive(Args)]
#[command(after_help = "Example:\n  affiant sign --key affiant.key -f policy.json -o policy.signed.json")]
pub(crate) struct SignArgs {
    /// The document to sign; `-` for stdin
    #[arg(value_name = "FILE", required_unless_present = "infile")]
    file: Option<PathBuf>,
    /// The document to sign
    #[arg(
        short = 'f',
        long,
        value_name = "FILE",
        conflicts_with = "file",
        env = "AFFIANT_INFILE",
        hide_env_values = true
    )]
    infile: Option<PathBuf>,
    /// Where the envelope goes (default: stdout)
    #[arg(short, long, value_name = "FILE", env = "AFFIANT_OUTFILE", hide_env_values = true)]
    outfile: Option<PathBuf>,
    /// Payload type of the envelope
    #[arg(short = 't', long, value_name = "TYPE", default_value = POLICY_TYPE, env = "AFFIANT_DATATYPE", hide_env_values = true)]
    datatype: String,
    #[command(flatten)]
    pub(crate) keys: keys::KeyArgs,
    /// Read settings from this file, instead of the user's configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Show every option
    #[arg(long)]
    help_all: bool,
}

pub(crate) fn sign(args: &SignArgs, output: &Output) -> Result<Ending, Failure> {
    let Some(file) = args.infile.as_ref().or(args.file.as_ref()) else {
        return Err(Failure::usage("no document is named"));
    };
    if args.datatype.is_empty() {
        return Err(Failure::usage("--datatype is empty"));
    }
    let order = Order { what: file, datatype: &args.datatype, keys: &args.keys, outfile: args.outfile.as_deref() };
    seal(&order, output, || {
        let document = read_file(file)?;
        if args.datatype == POLICY_TYPE {
            serde_json::from_slice::<IgnoredAny>(&document).map_err(|error| {
                Failure::because(Kind::Usage, format!("{} is no policy", file.display()), &error).hint(
                    "a policy is a JSON document; `affiant policy sign` signs a source in YAML, `--datatype TYPE` another document",
                )
            })?;
        }
        Ok(document)
    })
}

/// What is signed, by whom, and where it goes.
pub(crate) struct Order<'a> {
    /// The document's name.
    pub(crate) what: &'a Path,
    pub(crate) datatype: &'a str,
    pub(crate) keys: &'a keys::KeyArgs,
    pub(crate) outfile: Option<&'a Path>,
}

/// Signs what `document` gives. The outfile is tried before.
pub(crate) fn seal(
    order: &Order<'_>,
    output: &Output,
    document: impl FnOnce() -> Result<Vec<u8>, Failure>,
) -> Result<Ending, Failure> {
    let environment = Arc::new(surroundings::environment());
    let redactor = Redactor::new(&environment, &[], &VariableMask::default());
    output.mask(redactor.clone());
    if let Some(path) = order.outfile {
        keys::refuse_as_outfile(&order.keys.key, path)?;
    }
    let outfile = order.outfile.map(verify::probe).transpose()?;
    let document = document()?;
    // A document is kept as it was written, so a secret in it cannot be masked (security rule 4).
    if redactor.hits_document(&document) {
        let what = order.what.display();
        return Err(Failure::new(
            Kind::Denied,
            format!("{what} holds the value of {}, so it is not signed", surroundings::secrets_in(&document)),
        )
        .hint("take the value out of the document, or the variable out of the environment"));
    }
    if !order.keys.names_signer() {
        return Err(Failure::usage("there is no signing key").hint(
            "name one with `--key FILE`, or sign with an identity token: `--fulcio-url URL --timestamp-servers URL`",
        ));
    }
    let (signers, _) = order.keys.signers(false, output).map_err(|mut failure| {
        if failure.kind == Kind::Run {
            failure.kind = Kind::NoAnswer;
        }
        failure
    })?;
    let signers: Vec<&dyn Signer> = signers.iter().map(AsRef::as_ref).collect();
    let envelope = Envelope::seal(document, order.datatype, &signers)
        .map_err(|error| Failure::because(Kind::NoAnswer, "the document cannot be signed", &error))?;
    let mut bytes = envelope.to_json();
    bytes.push(b'\n');
    match outfile {
        Some(outfile) => outfile
            .write(&bytes)
            .map_err(|error| Failure::because(Kind::NoAnswer, "the envelope cannot be written", &error))?,
        None => output.data(&bytes)?,
    }
    Ok(Ending::Done)
}
