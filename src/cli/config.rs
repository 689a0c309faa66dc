//! Configuration files: flag > environment > file > default.
//!
//! A file has a table for each command, whose keys are the long names of its flags. Its values take the place of the
//! defaults, so they are checked like flags. It is named with `--config`, or stands in the user's own configuration
//! folder. A file in the working directory is never read (DESIGN §5).

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Command};
use toml::{Table, Value};

use super::failure::{Failure, Kind, nearest};
use super::surroundings::variable;
use super::{first_word, places};

/// Commands that take a configuration.
const CONFIGURED: [&str; 3] = ["run", "attest", "sign"];
/// Commands that never take one.
const GATE: [&str; 2] = ["verify", "verify-vsa"];
/// Flags that a file cannot set.
const NEVER: [&str; 4] = ["config", "help", "help-all", "plan"];
/// The longest configuration file.
const MAX_CONFIG: u64 = 1024 * 1024;

/// Puts the values of the configuration in the place of the defaults.
/// `named` is the file that the command line names.
pub(crate) fn apply(command: Command, args: &[OsString], named: Option<PathBuf>) -> Result<Command, Failure> {
    if let Some(verb) = first_word(args).filter(|verb| GATE.contains(verb)) {
        refuse_for_the_gate(verb)?;
        return Ok(command);
    }
    let Some(verb) = first_word(args).filter(|verb| CONFIGURED.contains(verb)).map(str::to_owned) else {
        return Ok(command);
    };
    let named = named.or_else(|| variable("AFFIANT_CONFIG").map(PathBuf::from));
    let Some(path) = named.or_else(|| places::user_config().filter(|path| path.exists())) else {
        return Ok(command);
    };
    let config = read(&path)?;
    if let Some(unknown) = config.keys().find(|key| !CONFIGURED.contains(&key.as_str())) {
        return Err(Failure::usage(format!("{}: unknown table `{unknown}`", path.display()))
            .hint(format!("known tables: {}", CONFIGURED.join(", "))));
    }
    let Some(settings) = config.get(&verb) else { return Ok(command) };
    let Value::Table(settings) = settings else {
        return Err(Failure::usage(format!("{}: `{verb}` is not a table", path.display())));
    };
    let sub = command.find_subcommand(&verb).cloned().unwrap_or_default();
    let mut defaults = Vec::new();
    for (key, value) in settings {
        let known = || sub.get_arguments().filter_map(clap::Arg::get_long).filter(|name| !NEVER.contains(name));
        let Some(arg) = sub.get_arguments().find(|arg| names(arg, key) && !NEVER.contains(&key.as_str())) else {
            let failure = Failure::usage(format!("{}: unknown setting `{verb}.{key}`", path.display()));
            return Err(match nearest(key, known()) {
                Some(name) => failure.hint(format!("did you mean `{name}`?")),
                None => failure.hint(format!("`affiant {verb} --help-all` lists what can be set")),
            });
        };
        let values = strings(value).ok_or_else(|| {
            Failure::usage(format!(
                "{}: `{verb}.{key}` is neither text, number, truth value nor a list of text",
                path.display()
            ))
        })?;
        if matches!(arg.get_action(), ArgAction::SetTrue) && values != ["true"] && values != ["false"] {
            return Err(Failure::usage(format!("{}: `{verb}.{key}` is true or false", path.display())));
        }
        if !matches!(arg.get_action(), ArgAction::Append) && values.len() != 1 {
            return Err(Failure::usage(format!("{}: `{verb}.{key}` takes one value", path.display())));
        }
        defaults.push((arg.get_id().clone(), values));
    }
    Ok(command.mut_subcommand(&verb, |mut sub| {
        for (id, values) in defaults {
            sub = sub.mut_arg(id, |arg| arg.default_values(values.into_iter().map(OsString::from).collect::<Vec<_>>()));
        }
        sub
    }))
}

/// The same where another file was read already: only what holds for the gate.
pub(crate) fn apply_none(command: Command, args: &[OsString]) -> Result<Command, Failure> {
    if let Some(verb) = first_word(args).filter(|verb| GATE.contains(verb)) {
        refuse_for_the_gate(verb)?;
    }
    Ok(command)
}

/// Whom the gate trusts is said by flags only (security rule 8): a build step can write this file too.
fn refuse_for_the_gate(verb: &str) -> Result<(), Failure> {
    let named = variable("AFFIANT_CONFIG").map(PathBuf::from);
    let Some(path) = named.or_else(|| places::user_config().filter(|path| path.exists())) else { return Ok(()) };
    match read(&path)?.keys().find(|key| !CONFIGURED.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(Failure::usage(format!(
            "{}: `{key}` cannot stand in a configuration: whom `{verb}` trusts is taken from flags only",
            path.display()
        ))
        .hint(format!("remove it there, and give `affiant {verb}` the flags themselves"))),
    }
}

pub(crate) fn names(arg: &clap::Arg, key: &str) -> bool {
    arg.get_long() == Some(key) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&key))
}

fn read(path: &Path) -> Result<Table, Failure> {
    read_with(path, |text| {
        text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("line {line}: {}", error.message())
        })
    })
}

/// Reads a configuration; `parse` says what is wrong with its text.
pub(crate) fn read_with(path: &Path, parse: impl Fn(&str) -> Result<Table, String>) -> Result<Table, Failure> {
    let message = || format!("the configuration {} cannot be read", path.display());
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_CONFIG + 1).read_to_string(&mut text))
        .map_err(|error| Failure::because(Kind::Usage, message(), &error))?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(Failure::usage(format!("{}: more than {MAX_CONFIG} bytes", message())));
    }
    parse(&text).map_err(|error| Failure::usage(format!("{}: {error}", message())))
}

/// A value as the texts that a flag would have.
pub(crate) fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(list) => list.iter().map(|item| strings(item)?.pop()).collect(),
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Boolean(truth) => Some(vec![truth.to_string()]),
        Value::Float(number) => Some(vec![number.to_string()]),
        Value::Datetime(_) | Value::Table(_) => None,
    }
}
