//! `affiant image generate-key-pair` and `public-key`, in cosign's forms.

use std::path::PathBuf;

use affiant_core::sign::Signer as _;
use clap::Args;

use crate::cli::failure::{Failure, Kind};
use crate::cli::output::Output;
use crate::cli::{Ending, key, keys};

#[derive(Args)]
#[command(
    after_help = "The password comes from AFFIANT_KEY_PASSWORD, COSIGN_PASSWORD or the terminal; it may be empty. `affiant key generate` makes other kinds of keys."
)]
pub(crate) struct GenerateArgs {
    /// What the names of the files begin with: `.key` and `.pub` follow
    #[arg(long, value_name = "PREFIX", default_value = "cosign")]
    output_key_prefix: String,
    /// A key service instead of files
    #[arg(long, value_name = "REFERENCE", hide = true)]
    kms: Option<String>,
}

#[derive(Args)]
pub(crate) struct PublicKeyArgs {
    /// The private key: a file, or `env:NAME`
    #[arg(long, value_name = "KEY")]
    key: String,
    /// Where the public key goes (default: stdout)
    #[arg(long, value_name = "FILE")]
    outfile: Option<PathBuf>,
}

pub(super) fn generate(args: &GenerateArgs, output: &Output) -> Result<Ending, Failure> {
    if let Some(kms) = args.kms.as_deref().filter(|kms| !kms.is_empty()) {
        return Err(Failure::usage(format!("--kms {kms}: this build cannot use keys in key services")));
    }
    key::generate_pair(&args.output_key_prefix, output)
}

pub(super) fn public_key(args: &PublicKeyArgs, output: &Output) -> Result<Ending, Failure> {
    let loaded = keys::signing_key(&args.key, None).map_err(|mut failure| {
        failure.kind = Kind::NoAnswer;
        failure
    })?;
    let pem = loaded.key.public_key().to_pem();
    match &args.outfile {
        None => output.data(pem.as_bytes())?,
        Some(file) => {
            keys::refuse_as_outfile(std::slice::from_ref(&args.key), file)?;
            std::fs::write(file, pem).map_err(|error| {
                Failure::because(Kind::NoAnswer, format!("{} cannot be written", file.display()), &error)
            })?;
        }
    }
    Ok(Ending::Done)
}
