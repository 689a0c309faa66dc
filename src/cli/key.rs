//! `affiant key`: make, show and convert keys.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use affiant_core::sign::{KeyKind, PrivateKey, PublicKey, Signer as _};
use clap::{Args, Subcommand, ValueEnum};

use super::failure::{Failure, Kind};
use super::output::Output;
use super::{Ending, keys};

#[derive(Subcommand)]
pub(crate) enum KeyVerb {
    /// Make a new signing key and its public key
    Generate(GenerateArgs),
    /// Show kind, id and public key of a key file
    Show(ShowArgs),
    /// Print the id of a key: SHA-256 of its public key as PEM
    Id(ShowArgs),
    /// Write a private key in another form
    Convert(ConvertArgs),
}

/// The form of a private key file.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    // PKCS#8 PEM, encrypted when there is a password.
    Pkcs8,
    // cosign's encrypted form.
    Cosign,
}

#[derive(Args)]
#[command(
    after_help = "The password comes from --key-password-file, AFFIANT_KEY_PASSWORD, COSIGN_PASSWORD, WITNESS_KEY_PASSPHRASE or the terminal. Where none of them gives one, the key is not encrypted."
)]
pub(crate) struct GenerateArgs {
    /// Where the private key goes; the public key goes beside it, ending in `.pub`
    #[arg(short, long, value_name = "FILE", default_value = "affiant.key")]
    output: PathBuf,
    /// Kind of key: p256, p384, p521, ed25519, rsa2048, rsa3072, rsa4096
    #[arg(long, default_value = "p256")]
    kind: KeyKind,
    /// Form of the private key: PKCS#8 as PEM, or cosign's, which is always encrypted
    #[arg(long, value_enum, default_value = "pkcs8")]
    form: Form,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE")]
    key_password_file: Option<PathBuf>,
    /// Do not encrypt the private key, and do not ask for a password
    #[arg(long)]
    no_password: bool,
}

#[derive(Args)]
pub(crate) struct ShowArgs {
    /// A private key, a public key or a certificate, as PEM
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE")]
    key_password_file: Option<PathBuf>,
    /// Form of what is printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Pem,
}

#[derive(Args)]
#[command(after_help = "Example:\n  affiant key convert --form cosign -o cosign.key affiant.key")]
pub(crate) struct ConvertArgs {
    /// The private key to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the new file goes
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Form to write: PKCS#8 as PEM, or cosign's, which is always encrypted
    #[arg(long, value_enum)]
    form: Form,
    /// File whose first line is the password of the key that is read
    #[arg(long, value_name = "FILE")]
    key_password_file: Option<PathBuf>,
    /// File whose first line is the password of the key that is written
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// Write the private key without encryption
    #[arg(long)]
    no_password: bool,
}

pub(crate) fn key(verb: KeyVerb, output: &Output) -> Result<Ending, Failure> {
    match verb {
        KeyVerb::Generate(args) => generate(&args, "--output FILE", output),
        KeyVerb::Show(args) => show(&args, output),
        KeyVerb::Id(args) => {
            let key = public_of(&args)?;
            output.data(format!("{}\n", key.key_id()).as_bytes())?;
            Ok(Ending::Done)
        }
        KeyVerb::Convert(args) => convert(&args, output),
    }
}

/// Makes a pair of keys as cosign does: P-256, its own encrypted form, `<prefix>.key` and `<prefix>.pub`.
pub(crate) fn generate_pair(prefix: &str, output: &Output) -> Result<Ending, Failure> {
    let file = PathBuf::from(format!("{prefix}.key"));
    if keys::new_password_missing() {
        return Err(
            Failure::usage("there is no password for the new key").hint("set COSIGN_PASSWORD; empty is a password")
        );
    }
    let args = GenerateArgs {
        output: file,
        kind: KeyKind::P256,
        form: Form::Cosign,
        key_password_file: None,
        no_password: false,
    };
    generate(&args, "--output-key-prefix PREFIX", output)
}

fn generate(args: &GenerateArgs, flag: &str, output: &Output) -> Result<Ending, Failure> {
    let public = public_path(&args.output);
    if public == args.output {
        return Err(Failure::usage(format!("{} is where the public key goes", public.display()))
            .hint("name the private key with another ending"));
    }
    for path in [&args.output, &public] {
        if path.exists() {
            return Err(Failure::usage(format!("{} exists already", path.display()))
                .hint(format!("name another file with `{flag}`; a key is never overwritten")));
        }
    }
    let password = if args.no_password {
        None
    } else {
        keys::new_password(args.key_password_file.as_deref(), &args.output.display().to_string())?
    };
    let key = PrivateKey::generate(args.kind)
        .map_err(|error| Failure::because(Kind::NoAnswer, "no key can be made", &error))?;
    // An empty answer on the terminal means that no password is wanted.
    let password = password.filter(|password| !password.is_empty() || args.form == Form::Cosign);
    write_private(&args.output, &encode(&key, args.form, password.as_deref())?)?;
    write_new(&public, key.public_key().to_pem().as_bytes(), 0o644).inspect_err(|_| {
        // Nobody has used it yet, and alone it would be in the way of the next attempt.
        let _ = std::fs::remove_file(&args.output);
    })?;
    let state = if password.is_some() { "encrypted" } else { "not encrypted: keep it to yourself" };
    output.message(&format!("private key: {} ({}, {state})", args.output.display(), key.public_key().kind()));
    output.message(&format!("public key:  {}", public.display()));
    output.message(&format!("key id:      {}", key.public_key().key_id()));
    output.message(&format!("next: affiant run --key {} -- make", args.output.display()));
    Ok(Ending::Done)
}

fn encode(key: &PrivateKey, form: Form, password: Option<&[u8]>) -> Result<Vec<u8>, Failure> {
    let written = match (form, password) {
        (Form::Pkcs8, None) => Ok(key.to_pkcs8_pem()),
        (Form::Pkcs8, Some(password)) => key.to_encrypted_pem(password),
        // cosign's form is always encrypted; an empty password is a password there.
        (Form::Cosign, password) => key.to_cosign_pem(password.unwrap_or_default()),
    };
    written
        .map(|pem| pem.as_bytes().to_vec())
        .map_err(|error| Failure::because(Kind::NoAnswer, "the key cannot be written in this form", &error))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_new(path, bytes, 0o600)
}

/// Writes a file that must not exist yet.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let written = File::options().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if written.is_err() {
            // It is ours, and in the way of the next attempt.
            let _ = std::fs::remove_file(path);
        }
        written
    });
    written.map_err(|error| Failure::because(Kind::NoAnswer, format!("{} cannot be written", path.display()), &error))
}

/// `k.pem` → `k.pub`, `cosign.key` → `cosign.pub`, `k` → `k.pub`.
fn public_path(private: &Path) -> PathBuf {
    private.with_extension("pub")
}

/// The public key of whatever key file it is.
fn public_of(args: &ShowArgs) -> Result<PublicKey, Failure> {
    match keys::public_key(&args.file) {
        Ok(key) => Ok(key),
        Err(failure) => {
            let name = args.file.to_string_lossy();
            match keys::signing_key(&name, args.key_password_file.as_deref()) {
                Ok(loaded) => Ok(loaded.key.public_key().clone()),
                // The file is no private key either: what was said first tells more.
                Err(second) if second.one_line().contains("not a key") => Err(failure),
                Err(mut second) => {
                    second.kind = Kind::NoAnswer;
                    Err(second)
                }
            }
        }
    }
}

fn show(args: &ShowArgs, output: &Output) -> Result<Ending, Failure> {
    let key = public_of(args)?;
    let text = match args.output {
        Format::Pem => key.to_pem(),
        Format::Json => format!(
            "{}\n",
            serde_json::json!({ "kind": key.kind().to_string(), "keyid": key.key_id(), "publicKey": key.to_pem() })
        ),
        Format::Text => format!("kind:   {}\nkey id: {}\n{}", key.kind(), key.key_id(), key.to_pem()),
    };
    output.data(text.as_bytes())?;
    Ok(Ending::Done)
}

fn convert(args: &ConvertArgs, output: &Output) -> Result<Ending, Failure> {
    let loaded =
        keys::signing_key(&args.file.to_string_lossy(), args.key_password_file.as_deref()).map_err(|mut failure| {
            failure.kind = Kind::NoAnswer;
            failure
        })?;
    let password = if args.no_password {
        None
    } else {
        let password = keys::new_password(args.new_password_file.as_deref(), &args.output.display().to_string())?;
        if password.is_none() {
            return Err(Failure::usage("there is no password for the new file")
                .hint("name one with --new-password-file, or say --no-password"));
        }
        password
    };
    write_private(&args.output, &encode(&loaded.key, args.form, password.as_deref())?)?;
    output.message(&format!("wrote {}; key id {}", args.output.display(), loaded.key.public_key().key_id()));
    Ok(Ending::Done)
}
