//! What comes by TUF.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use affiant_remote::http::Client;
use affiant_remote::tuf::{From, Got, Instance, SIGNING_CONFIG, TRUSTED_ROOT, TufError};

use super::{
    Ending, ExportArgs, Failure, Form, Getting, ImportArgs, Kind, MAX_FILE, Output, PUBLIC, Timestamp, TrustedRoot,
    UpdateArgs, VARIABLES, Value, bounded, json, surroundings, write,
};
use crate::cli::places;
use crate::cli::surroundings::variable;

/// How long the public roots on this machine are used before the mirror is asked whether there are newer ones.
const FRESH: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);
const TARGETS: [&str; 2] = [TRUSTED_ROOT, SIGNING_CONFIG];
/// The folder of the copies of private mirrors.
const MIRRORS: &str = "mirrors";
/// When the mirror was asked last, in the folder of the copy.
const ASKED: &str = "asked";

/// The folder of all copies.
fn folder() -> Result<PathBuf, Failure> {
    places::trust().ok_or_else(|| {
        Failure::new(Kind::NoAnswer, "there is no folder for trust roots: neither HOME nor AFFIANT_HOME is set")
            .hint("name a trusted root with `--trusted-root FILE`, or set AFFIANT_HOME")
    })
}

/// The public instance, with its copy in the user's data folder.
fn instance() -> Result<Instance, Failure> {
    Ok(Instance::public(folder()?.join(PUBLIC)))
}

/// A private instance. What was seen of its mirror is kept: older versions are refused from then on. It is believed in
/// nothing else, for all of it is checked anew from the root that is named; of another root it says nothing.
fn private(mirror: &str, root: Vec<u8>) -> Result<Instance, Failure> {
    let mirror = mirror.trim_end_matches('/').to_owned();
    let copy = folder()?.join(MIRRORS).join(affiant_core::digest::sha256_hex(mirror.as_bytes()));
    Ok(Instance { mirror, root, copy })
}

/// The instance that cosign's variables name: `TUF_MIRROR`, and `TUF_ROOT_JSON` or `TUF_ROOT` (the root metadata, or a
/// folder with them). They count where something is signed; what is checked is believed by flags only (security rule 8).
fn of_variables() -> Result<Option<Instance>, Failure> {
    let path = |name: &str| -> Option<PathBuf> { variable(name).map(Into::into) };
    let named = path("TUF_ROOT_JSON").or_else(|| path("TUF_ROOT"));
    let root = named.map(|root| if root.is_dir() { root.join("root.json") } else { root });
    let mirror = variable("TUF_MIRROR").map(|url| url.to_string_lossy().into_owned());
    match (mirror, root) {
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(Failure::usage("TUF_MIRROR is set, and nothing says the root that its metadata begin with")
                .hint("name it with TUF_ROOT_JSON=FILE, or unset TUF_MIRROR"))
        }
        (mirror, Some(root)) => {
            private(mirror.as_deref().unwrap_or(affiant_remote::tuf::PUBLIC_MIRROR), bounded(&root)?).map(Some)
        }
    }
}

/// Refuses cosign's variables for what is not signing.
fn refuse_variables() -> Result<(), Failure> {
    match VARIABLES.into_iter().find(|name| variable(name).is_some()) {
        None => Ok(()),
        Some(name) => Err(Failure::usage(format!("{name} is set: which roots are trusted is taken from flags only"))
            .hint(format!(
                "unset {name}, and write `affiant trust update --mirror URL --root FILE -o trusted_root.json`"
            ))),
    }
}

fn client() -> Arc<Client> {
    Arc::new(Client::new(surroundings::http_settings()))
}

fn failed(error: &TufError) -> Failure {
    let kind =
        if matches!(error, TufError::Refused { .. } | TufError::NotOne(_)) { Kind::Denied } else { Kind::NoAnswer };
    let failure = Failure::because(kind, "no trust roots", error);
    match error {
        TufError::NoCopy { .. } => failure.hint("get them with `affiant trust update public`, or carry them: `affiant trust export` there, `affiant trust import FILE` here; or name a file with `--trusted-root FILE`"),
        _ => failure,
    }
}

/// The trusted root of the public instance, and its signing configuration.
pub(super) fn public(getting: Getting<'_>, output: &Output) -> Result<(Vec<u8>, Option<Vec<u8>>), Failure> {
    // Whoever asks wants an answer about something else: that there is none is no denial of it.
    roots(getting, output).map_err(|mut failure| {
        failure.kind = if failure.kind == Kind::Usage { Kind::Usage } else { Kind::NoAnswer };
        failure
    })
}

/// What variables name, where something is signed.
fn of_signing(getting: Getting<'_>) -> Result<Option<Instance>, Failure> {
    if getting.signs {
        return of_variables();
    }
    refuse_variables().map(|()| None)
}

fn roots(getting: Getting<'_>, output: &Output) -> Result<(Vec<u8>, Option<Vec<u8>>), Failure> {
    let instance = match of_signing(getting)? {
        Some(instance) => instance,
        None => instance()?,
    };
    let now = surroundings::now();
    let is_fresh = std::fs::read_to_string(instance.copy.join(ASKED))
        .ok()
        .and_then(|text| text.trim().parse::<Timestamp>().ok())
        .is_some_and(|asked| asked <= now && now.duration_since(asked) < FRESH);
    let copy = || instance.get(From::Copy, &TARGETS, now);
    let got = if getting.offline {
        let got = copy().map_err(|error| failed(&error))?;
        if got.expires < now || got.root_expires < now {
            output.message(&format!(
                "note: the public trust roots on this machine are of before {}; `affiant trust update public` gets newer ones",
                got.expires.min(got.root_expires)
            ));
        }
        got
    } else {
        match copy() {
            Ok(got) if got.expires > now && got.root_expires > now => {
                if is_fresh {
                    got
                } else {
                    match ask(&instance) {
                        Ok(newer) => newer,
                        Err(failure) if failure.kind == Kind::NoAnswer => {
                            output.message("note: the mirror of the public instance does not answer; the copy on this machine is still valid");
                            got
                        }
                        Err(failure) => return Err(failure),
                    }
                }
            }
            _ => ask(&instance)?,
        }
    };
    taken(got)
}

/// Asks the mirror, and remembers when.
fn ask(instance: &Instance) -> Result<Got, Failure> {
    let now = surroundings::now();
    let got = instance.get(From::Mirror(client()), &TARGETS, now).map_err(|error| failed(&error))?;
    // Whether it can be remembered changes nothing but how soon the mirror is asked again.
    let _ = std::fs::write(instance.copy.join(ASKED), now.to_string());
    Ok(got)
}

fn taken(mut got: Got) -> Result<(Vec<u8>, Option<Vec<u8>>), Failure> {
    let root = got
        .targets
        .remove(TRUSTED_ROOT)
        .ok_or_else(|| Failure::new(Kind::NoAnswer, format!("the mirror publishes no {TRUSTED_ROOT}")))?;
    Ok((root, got.targets.remove(SIGNING_CONFIG)))
}

fn expiry(got: &Got) -> Value {
    json!({
        "root metadata": format!("version {}, until {}", got.root_version, got.root_expires),
        "newest known until": got.expires.to_string(),
    })
}

/// What there is of the public instance, asking nobody.
pub(super) fn shown() -> Result<(TrustedRoot, Value), Failure> {
    refuse_variables()?;
    let got = instance()?.get(From::Copy, &TARGETS, surroundings::now()).map_err(|error| failed(&error))?;
    let expires = expiry(&got);
    let root = TrustedRoot::parse(&taken(got)?.0)
        .map_err(|error| Failure::because(Kind::NoAnswer, "the public trusted root cannot be used", &error))?;
    Ok((root, expires))
}

pub(super) fn update(args: &UpdateArgs, output: &Output) -> Result<Ending, Failure> {
    refuse_variables()?;
    let got = match (&args.mirror, &args.root) {
        (Some(mirror), Some(root)) => {
            // What is trusted by a flag is written where a flag says, and believed nowhere else (security rule 8).
            let instance = private(mirror, bounded(root)?)?;
            instance.get(From::Mirror(client()), &TARGETS, surroundings::now()).map_err(|error| failed(&error))?
        }
        _ => ask(&instance()?)?,
    };
    let expires = expiry(&got);
    let (bytes, _) = taken(got)?;
    let root = TrustedRoot::parse(&bytes)
        .map_err(|error| Failure::because(Kind::Denied, "what was fetched is no trusted root", &error))?;
    if let Some(outfile) = &args.outfile {
        write(Some(outfile), &bytes, output)?;
    }
    output.message(&format!(
        "{} certificate authorities, {} logs, {} timestamp authorities; {}, {}",
        root.authorities.len(),
        root.logs.len(),
        root.timestamp_authorities.len(),
        expires["root metadata"].as_str().unwrap_or_default(),
        format_args!("newest known until {}", expires["newest known until"].as_str().unwrap_or_default()),
    ));
    Ok(Ending::Done)
}

pub(super) fn export(args: &ExportArgs, output: &Output) -> Result<Ending, Failure> {
    refuse_variables()?;
    let instance = instance()?;
    let got = instance.get(From::Copy, &TARGETS, surroundings::now()).map_err(|error| failed(&error))?;
    output.message(&format!("of {}; newest known until {}", args.instance, got.expires));
    let bytes = match args.form {
        Form::TrustedRoot => taken(got)?.0,
        Form::SigningConfig => taken(got)?
            .1
            .ok_or_else(|| Failure::new(Kind::NotFound, "there is no signing configuration in what was fetched"))?,
        Form::Copy => packed(&instance.files().map_err(|error| failed(&error))?)?,
    };
    write(args.outfile.as_deref(), &bytes, output)?;
    Ok(Ending::Done)
}

fn packed(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, Failure> {
    affiant_core::packed::pack(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
        .map_err(|error| Failure::because(Kind::NoAnswer, "the copy cannot be packed", &error))
}

pub(super) fn import(args: &ImportArgs, output: &Output) -> Result<Ending, Failure> {
    let shown = args.file.display();
    let mut bytes = Vec::new();
    std::fs::File::open(&args.file)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| Failure::because(Kind::NoAnswer, format!("{shown} cannot be read"), &error))?;
    let files = affiant_core::packed::unpack(&bytes, MAX_FILE).map_err(|error| {
        Failure::because(Kind::Denied, format!("{shown} is not what `trust export` writes"), &error)
    })?;
    let got = instance()?.take(&files, &TARGETS).map_err(|error| failed(&error))?;
    output.message(&format!("taken: root metadata version {}, newest known until {}", got.root_version, got.expires));
    Ok(Ending::Done)
}
