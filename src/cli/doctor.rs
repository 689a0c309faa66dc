//! `affiant doctor`: what would be attested here, and what is missing.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use affiant_attestors::BUILT_IN;
use affiant_core::attestor::{Before, Phase};
use affiant_core::outfile::Outfile;
use affiant_core::redact::VariableMask;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::failure::Failure;
use super::output::{Output, one_line};
use super::places::{self, places};
use super::{Ending, archivista, keys, surroundings};

#[derive(Args)]
#[command(
    after_help = "Example:\n  affiant doctor --key affiant.key -- docker buildx build .\n\nThe exit code is 1 where something is missing."
)]
pub(crate) struct DoctorArgs {
    /// The folder to look at
    #[arg(short = 'd', long, value_name = "DIR")]
    workingdir: Option<PathBuf>,
    /// Signing key that a run would use
    #[arg(short = 'k', long = "key", value_name = "KEY", env = "AFFIANT_KEY", hide_env_values = true)]
    key: Vec<String>,
    /// File whose first line is the password of the signing key
    #[arg(long, value_name = "FILE", env = "AFFIANT_KEY_PASSWORD_FILE", hide_env_values = true)]
    key_password_file: Option<PathBuf>,
    /// Archive that a run would use: `dir:PATH`, or `archivista+URL`
    #[arg(long, value_name = "dir:PATH", env = "AFFIANT_ARCHIVE", hide_env_values = true)]
    archive: Option<String>,
    /// Form of what is printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
    /// The command that would be wrapped
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// One thing that was looked at.
struct Finding {
    topic: &'static str,
    /// Whether a run can do with it.
    fine: bool,
    text: String,
    hint: Option<String>,
}

impl Finding {
    fn good(topic: &'static str, text: impl Into<String>) -> Self {
        Self { topic, fine: true, text: text.into(), hint: None }
    }

    fn bad(topic: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { topic, fine: false, text: text.into(), hint: Some(hint.into()) }
    }
}

pub(crate) fn doctor(args: &DoctorArgs, output: &Output) -> Result<Ending, Failure> {
    let dir = std::fs::canonicalize(args.workingdir.as_deref().unwrap_or(Path::new(".")))
        .map_err(|error| Failure::because(super::failure::Kind::NoAnswer, "the folder cannot be used", &error))?;
    let mut findings = vec![Finding::good("folder", dir.display().to_string())];
    findings.extend(attestors(args, dir));
    findings.push(key(args));
    findings.push(archive(args));
    findings.push(spool());
    findings.push(engine());
    findings.push(match surroundings::clock() {
        Ok(clock) => Finding::good("clock", clock.now().to_string()),
        Err(failure) => Finding::bad("clock", failure.one_line(), "unset SOURCE_DATE_EPOCH, or set it to a number"),
    });
    let text = match args.output {
        Format::Json => {
            let list: Vec<_> = findings
                .iter()
                .map(|one| json!({ "topic": one.topic, "fine": one.fine, "text": one.text, "hint": one.hint }))
                .collect();
            format!("{:#}\n", json!({ "schema": "affiant/doctor/v1", "findings": list }))
        }
        Format::Text => findings.iter().fold(String::new(), |mut text, one| {
            let mark = if one.fine { "ok     " } else { "missing" };
            let _ = writeln!(text, "{mark} {:<11} {}", one.topic, one_line(&one.text));
            if let Some(hint) = &one.hint {
                let _ = writeln!(text, "{:20}→ {}", "", one_line(hint));
            }
            text
        }),
    };
    output.data(text.as_bytes())?;
    Ok(Ending::Code(i32::from(findings.iter().any(|one| !one.fine))))
}

/// Which attestors a run would choose here, and why.
fn attestors(args: &DoctorArgs, dir: PathBuf) -> Vec<Finding> {
    let world = Before {
        step: "doctor".to_owned(),
        dir,
        env: Arc::new(surroundings::environment()),
        mask: Arc::new(VariableMask::default()),
        host: surroundings::host(),
        command: args.command.clone(),
        ..Before::default()
    };
    BUILT_IN
        .iter()
        .map(|attestor| {
            let about = attestor.about;
            let text = match (attestor.called_for)(&world) {
                Some(reason) => format!("{}: yes, {reason}", about.name),
                None if attestor.phase == Phase::After => format!("{}: {}", about.name, about.default_when),
                None => format!("{}: not here; it runs {}", about.name, about.default_when),
            };
            Finding::good("attestor", text)
        })
        .collect()
}

fn key(args: &DoctorArgs) -> Finding {
    let Some(name) = args.key.first() else {
        return Finding::bad(
            "key",
            "no signing key is named",
            "make one with `affiant key generate`, and name it with --key",
        );
    };
    match keys::signing_key(name, args.key_password_file.as_deref()) {
        Ok(loaded) => {
            use affiant_core::sign::Signer as _;
            let key = loaded.key.public_key();
            Finding::good("key", format!("{name}: {}, id {}", key.kind(), key.key_id()))
        }
        Err(failure) => Finding::bad("key", failure.one_line(), "name another key with --key, or mend this one"),
    }
}

fn archive(args: &DoctorArgs) -> Finding {
    if let Some(Ok(archivista::Archive::Server(url))) = args.archive.as_deref().map(archivista::Archive::parse) {
        return match archivista::open(&url, &[]) {
            Ok(_) => Finding::good("archive", format!("archivista {url}, which was not asked")),
            Err(failure) => Finding::bad("archive", failure.one_line(), "name a server as archivista+https://HOST"),
        };
    }
    let folder = match places::archive_folder(args.archive.as_deref()) {
        Ok(folder) => folder,
        Err(failure) => {
            return Finding::bad("archive", failure.one_line(), "set AFFIANT_HOME, or name a folder with --archive");
        }
    };
    // The nearest folder that exists must take new entries.
    let nearest = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    match Outfile::probe(&nearest.join(".affiant-doctor")) {
        Ok(_) => Finding::good("archive", folder.display().to_string()),
        Err(error) => Finding::bad(
            "archive",
            format!("{}: {error}", folder.display()),
            "name a folder that can be written with --archive dir:PATH, or set AFFIANT_HOME",
        ),
    }
}

fn spool() -> Finding {
    let Some(folder) = places().spool else {
        return Finding::bad(
            "spool",
            "there is no folder for it: neither HOME nor AFFIANT_HOME is set",
            "set AFFIANT_HOME",
        );
    };
    let waiting = super::resume::waiting(&folder);
    if waiting == 0 {
        Finding::good("spool", format!("{} (empty)", folder.display()))
    } else {
        Finding::bad("spool", format!("{waiting} waiting in {}", folder.display()), "run `affiant resume`")
    }
}

/// An engine is a help, not a need: its absence is fine.
fn engine() -> Finding {
    let Some(engine) = surroundings::engine() else {
        return Finding::good("engine", "no container engine on this machine; images are attested from files alone");
    };
    match engine.get("/version") {
        Ok(Some(_)) => Finding::good("engine", format!("{} answers", engine.endpoint())),
        Ok(None) => Finding::good("engine", format!("{} does not know its version", engine.endpoint())),
        Err(error) => Finding::good("engine", format!("{error}; images are attested from files alone")),
    }
}
