//! `affiant ci github|gitlab`: a step of a pipeline, described by the inputs of the GitHub action or by `CILOCK_*`
//! variables, as the command line of `affiant run` that it stands for.
//!
//! The inputs are those of cilock's action and template. What a workflow hands in is text: nothing in it is expanded, and
//! it never becomes part of a script but where it is the script.

mod action;
mod steps;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::Value;

use super::failure::{Failure, nearest};
use super::names::Part;
use super::surroundings::{variable, variables};

pub(crate) use action::Action;
pub(crate) use steps::run as run_action;

/// The variable in which the GitHub action hands over its inputs, a JSON object. It may hold secrets: the command does
/// not get it.
pub(crate) const INPUTS: &str = "AFFIANT_INPUTS";
/// What the variables of the GitLab template begin with.
const PREFIX: &str = "CILOCK_";

/// What an input becomes.
#[derive(Clone, Copy)]
enum Becomes {
    /// A flag with the value.
    Flag(&'static str),
    /// A flag for each word of a list, separated by commas or blanks.
    List(&'static str),
    /// A flag for each line.
    Lines(&'static str),
    /// A flag where it is true.
    Switch(&'static str),
    /// A flag for each line, where another input is true.
    With(&'static str, &'static str),
    /// Flags, quoted as for a shell.
    Words,
    /// Read here, or by the script that calls us.
    Own,
    /// Nothing: it says more of what is refused, or chooses between ways that are one here.
    Nothing,
    /// A failure where it is neither empty nor false: a part that is not there.
    Needs(Part),
    /// A failure where it is neither empty nor false, with what to do.
    Refused(&'static str),
}

use Becomes::{Flag, Lines, List, Needs, Nothing, Own, Refused, Switch, With, Words};

/// Each input, in the order in which their flags stand.
const TABLE: &[(&str, Becomes)] = &[
    ("step", Flag("--step")),
    ("attestations", List("--attestations")),
    ("workingdir", Flag("--workingdir")),
    ("working-directory", Flag("--workingdir")),
    ("product-include-glob", Flag("--attestor-product-include-glob")),
    ("product-exclude-glob", Flag("--attestor-product-exclude-glob")),
    ("hashes", List("--hashes")),
    ("subjects", Lines("--subjects")),
    ("env-add-sensitive-key", List("--env-add-sensitive-key")),
    ("env-filter-sensitive-vars", Switch("--env-filter-sensitive-vars")),
    ("attestor-sbom-export", Switch("--attestor-sbom-export")),
    ("attestor-slsa-export", Switch("--attestor-slsa-export")),
    ("trace", Needs(Part::Tracing)),
    ("key", Flag("--key")),
    ("certificate", Flag("--key-certificate")),
    ("intermediates", List("--key-certificate-chain")),
    ("kms-ref", Needs(Part::Kms)),
    ("fulcio-url", With("enable-sigstore", "--fulcio-url")),
    ("fulcio-oidc-client-id", With("enable-sigstore", "--oidc-client-id")),
    ("fulcio-oidc-issuer", Nothing),
    ("timestamp-servers", List("--timestamp-servers")),
    ("enable-archivista", Switch("--enable-archivista")),
    ("archivista-server", With("enable-archivista", "--archivista-server")),
    ("archivista-headers", With("enable-archivista", "--archivista-headers")),
    ("cilock-args", Words),
    ("args", Words),
    ("outfile", Own),
    ("evidence-folder", Own),
    ("command", Own),
    ("summary", Own),
    ("enable-sigstore", Own),
    ("binary", Own),
    ("binary-sha256", Own),
    ("cilock-binary-url", Own),
    ("version", Own),
    ("fulcio-use-http", Nothing),
    ("platform-binding", Nothing),
    ("script-capture", Nothing),
    ("platform-url", Refused("leave it empty: there is no platform behind affiant")),
    ("product", Refused("leave it empty: there is no platform behind affiant")),
    ("action-ref", Own),
    ("action-inputs", Own),
    ("action-env", Own),
    ("kms-aws-profile", Needs(Part::Kms)),
    ("kms-gcp-credentials-file", Needs(Part::Kms)),
    ("vault-url", Needs(Part::Vault)),
    ("vault-token", Needs(Part::Vault)),
    ("builder-manifest", Refused("affiant has all its attestors in one binary")),
    ("builder-preset", Refused("affiant has all its attestors in one binary")),
];

/// A command line, and the action that it wraps.
pub(crate) struct Translated {
    pub(crate) args: Vec<OsString>,
    pub(crate) action: Option<Action>,
}

/// Whether this process is the one that runs a wrapped action.
pub(crate) fn is_action(args: &[OsString]) -> bool {
    args.get(1).is_some_and(|verb| verb == "ci") && args.get(2).is_some_and(|what| what == "action")
}

/// The command line that `affiant ci …` stands for; others as they are.
pub(crate) fn translate(args: Vec<OsString>) -> Result<Translated, Failure> {
    if args.get(1).is_none_or(|verb| verb != "ci") {
        return Ok(Translated { args, action: None });
    }
    let is_github = args.get(2).is_some_and(|name| name == "github");
    let (inputs, what, name): (_, _, fn(&str) -> String) = match args.get(2).and_then(|word| word.to_str()) {
        Some("github") => (of_github()?, "input", str::to_owned),
        Some("gitlab") => {
            (of_variables()?, "variable", |name| PREFIX.to_owned() + &name.to_uppercase().replace('-', "_"))
        }
        _ => {
            return Err(Failure::usage("no pipeline is named").hint(
                "`affiant ci github` reads the inputs of the GitHub action, `affiant ci gitlab` the variables CILOCK_…",
            ));
        }
    };
    let more = args[3..].iter().cloned();
    let on_path = |name: &str| {
        variable("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
    };
    let temp = variable("RUNNER_TEMP").and_then(|folder| folder.into_string().ok());
    let named = |failure: (&str, String)| Failure::usage(format!("the {what} {}: {}", name(failure.0), failure.1));
    let affiant = std::env::current_exe()
        .map_err(|error| Failure::because(super::failure::Kind::Run, "affiant does not find itself", &error))?;
    let shell = Shell { bash: on_path("bash"), affiant: affiant.to_string_lossy().into_owned() };
    let words = run(&inputs, temp.as_deref(), &shell).map_err(named)?;
    let action = if !wraps(&inputs) {
        None
    } else if is_github {
        Some(prepare(&inputs).map_err(named)?)
    } else {
        return Err(named(("action-ref", "actions are of GitHub: only `affiant ci github` runs them".to_owned())));
    };
    let args = args[..1]
        .iter()
        .cloned()
        .chain(["run".into()])
        .chain(more)
        .chain(words.into_iter().map(OsString::from))
        .collect();
    Ok(Translated { args, action })
}

/// What a command is run by.
struct Shell {
    /// Whether there is a bash.
    bash: bool,
    /// Where affiant itself is.
    affiant: String,
}

/// Whether an action is wrapped.
fn wraps(inputs: &BTreeMap<String, String>) -> bool {
    inputs.get("action-ref").is_some_and(|reference| !reference.trim().is_empty())
}

/// The action that is wrapped.
fn prepare(inputs: &BTreeMap<String, String>) -> Result<Action, (&'static str, String)> {
    let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
    let here = || std::env::current_dir().map_err(|error| ("action-ref", format!("there is no folder: {error}")));
    let workspace = text("GITHUB_WORKSPACE").map_or_else(here, |path| Ok(PathBuf::from(path)))?;
    let job = action::Job { workspace, fetched: action::fetched_folders(&text), variable: &text };
    let scratch = text("RUNNER_TEMP").map_or_else(std::env::temp_dir, PathBuf::from);
    Action::prepare(inputs, &job, &scratch)
}

/// The inputs of the action.
fn of_github() -> Result<BTreeMap<String, String>, Failure> {
    let hint = "this is called by the GitHub action: `uses: OWNER/REPOSITORY/.github/actions/affiant@COMMIT`";
    let text = variable(INPUTS).ok_or_else(|| Failure::usage(format!("{INPUTS} is not set")).hint(hint))?;
    let Ok(Value::Object(members)) = serde_json::from_slice(text.as_encoded_bytes()) else {
        return Err(Failure::usage(format!("{INPUTS} is no JSON object")).hint(hint));
    };
    let mut inputs = BTreeMap::new();
    for (name, value) in members {
        let value = match value {
            Value::String(text) => text,
            Value::Null => continue,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                return Err(Failure::usage(format!("the input {name} is neither text, number nor truth value")));
            }
        };
        inputs.insert(name, value);
    }
    Ok(inputs)
}

/// The variables of the template, under the names of the inputs.
fn of_variables() -> Result<BTreeMap<String, String>, Failure> {
    let mut inputs = BTreeMap::new();
    for variable_name in variables(PREFIX) {
        let name = variable_name[PREFIX.len()..].to_ascii_lowercase().replace('_', "-");
        let known = TABLE.iter().map(|(name, _)| *name);
        if !known.clone().any(|known| known == name) {
            let failure = Failure::usage(format!("the variable {variable_name} is not known"));
            return Err(match nearest(&name, known) {
                Some(name) => failure.hint(format!("did you mean {PREFIX}{}?", name.to_uppercase().replace('-', "_"))),
                None => failure.hint("remove it, or say it with CILOCK_ARGS"),
            });
        }
        if let Some(value) = variable(&variable_name) {
            let value = value.into_string();
            let bad = |_| Failure::usage(format!("the variable {variable_name} is not UTF-8"));
            inputs.insert(name, value.map_err(bad)?);
        }
    }
    Ok(inputs)
}

/// The words behind `affiant run`, or the input that is wrong and why.
fn run(
    inputs: &BTreeMap<String, String>,
    runner_temp: Option<&str>,
    shell: &Shell,
) -> Result<Vec<String>, (&'static str, String)> {
    let get = |name: &str| inputs.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let truth = |name: &'static str| truth(get(name)).map_err(|why| (name, why));
    let step = get("step").ok_or(("step", "is needed".to_owned()))?;
    if truth("enable-sigstore")? && get("fulcio-url").is_none() {
        return Err(("enable-sigstore", "it needs fulcio-url, the address of the authority".to_owned()));
    }
    let mut words = Vec::new();
    for (name, becomes) in TABLE {
        let Some(value) = get(name) else { continue };
        let mut flag = |flag: &str, value: &str| words.push(format!("{flag}={value}"));
        match becomes {
            Flag(name) => flag(name, value),
            List(name) => {
                let list = value.split([',', ' ', '\t', '\n', '\r']).filter(|word| !word.is_empty());
                list.for_each(|word| flag(name, word));
            }
            Lines(name) => {
                value.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| flag(name, line));
            }
            With(other, name) if truth(other)? => {
                value.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| flag(name, line));
            }
            Switch(flag) if truth(name)? => words.push((*flag).to_owned()),
            Words => words.extend(split(value).map_err(|why| (*name, why))?),
            Refused(why) => return Err((name, format!("affiant does not take it; {why}"))),
            Needs(part) if value != "false" => {
                return Err((name, format!("it needs {}, a part that this affiant does not have", part.name())));
            }
            Needs(_) | Switch(_) | With(..) | Own | Nothing => {}
        }
    }
    let folder = get("evidence-folder").map(str::to_owned).or_else(|| Some(format!("{}/affiant", runner_temp?)));
    match (get("outfile"), &folder) {
        (Some(outfile), _) => words.push(format!("--outfile={outfile}")),
        (None, Some(folder)) => words.push(format!("--outfile={folder}/{}.att.json", file_name(step))),
        (None, None) => words.push(format!("--outfile={}.att.json", file_name(step))),
    }
    if let Some(folder) = &folder {
        words.push(format!("--archive=dir:{folder}/archive"));
    }
    words.push("--".to_owned());
    let command = match (get("command"), get("action-ref")) {
        (Some(command), None) => command,
        (None, Some(reference)) => {
            words.extend([shell.affiant.as_str(), "ci", "action", reference].map(str::to_owned));
            return Ok(words);
        }
        (Some(_), Some(_)) => {
            return Err(("action-ref", "is given beside `command`: only one of them can be run".to_owned()));
        }
        (None, None) => return Err(("command", "is needed, or `action-ref`".to_owned())),
    };
    if let Some(name) = ["action-inputs", "action-env"].into_iter().find(|name| get(name).is_some()) {
        return Err((name, "is for an action, and `action-ref` names none".to_owned()));
    }
    let shell: &[&str] =
        if shell.bash { &["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"] } else { &["sh", "-e", "-c"] };
    words.extend(shell.iter().map(|&word| word.to_owned()));
    words.push(command.to_owned());
    Ok(words)
}

/// `true` or `false`, as CI systems write them.
fn truth(value: Option<&str>) -> Result<bool, String> {
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("false" | "0" | "no" | "off") => Ok(false),
        Some("true" | "1" | "yes" | "on") => Ok(true),
        Some(_) => Err("is true or false".to_owned()),
    }
}

/// A file name made of a step's name.
fn file_name(step: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    step.trim_start_matches('.').chars().map(safe).collect()
}

/// The words of a text as a shell would split it: blanks separate, quotes and backslashes hold together. Nothing is
/// expanded.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a single quote is not closed".to_owned()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        // Within double quotes a backslash holds only these (POSIX 2.2.3).
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some('\n') => {}
                            Some(c) => word.extend(['\\', c]),
                            None => return Err("a double quote is not closed".to_owned()),
                        },
                        Some(c) => word.push(c),
                        None => return Err("a double quote is not closed".to_owned()),
                    }
                }
            }
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err("it ends in a backslash".to_owned()),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if words.iter().any(|word| word == "--") {
        return Err("`--` begins the command, which stands in `command`".to_owned());
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(inputs: &[(&str, &str)]) -> Result<Vec<String>, (&'static str, String)> {
        let inputs = inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        run(&inputs, Some("/runner"), &Shell { bash: true, affiant: "/bin/affiant".to_owned() })
    }

    #[test]
    fn the_tutorials_steps_are_command_lines() {
        let command = "docker buildx build --metadata-file docker-metadata.json -o type=docker,dest=image.tar .";
        let words = words(&[
            ("step", "docker-build"),
            ("command", command),
            ("attestations", "environment git github docker oci"),
            ("cilock-args", "--attestor-product-include-glob \"{docker-metadata.json,image.tar}\""),
            ("enable-archivista", "false"),
            ("platform-url", ""),
        ]);
        let expected = [
            "--step=docker-build",
            "--attestations=environment",
            "--attestations=git",
            "--attestations=github",
            "--attestations=docker",
            "--attestations=oci",
            "--attestor-product-include-glob",
            "{docker-metadata.json,image.tar}",
            "--outfile=/runner/affiant/docker-build.att.json",
            "--archive=dir:/runner/affiant/archive",
            "--",
            "bash",
            "--noprofile",
            "--norc",
            "-eo",
            "pipefail",
            "-c",
            command,
        ];
        assert_eq!(words.unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let with = |name, value| words(&[("step", "s"), ("command", "true"), (name, value)]).unwrap_err();
        assert_eq!(
            with("env-filter-sensitive-vars", "maybe"),
            ("env-filter-sensitive-vars", "is true or false".to_owned())
        );
        assert_eq!(with("platform-url", "https://platform.example").0, "platform-url");
        assert_eq!(with("action-ref", "actions/checkout@v4").0, "action-ref");
        assert_eq!(with("action-inputs", "a=b").0, "action-inputs");
        assert_eq!(with("cilock-args", "--a 'b").1, "a single quote is not closed");
        assert_eq!(with("cilock-args", "-- rm").0, "cilock-args");
        assert_eq!(words(&[("step", "s")]).unwrap_err(), ("command", "is needed, or `action-ref`".to_owned()));
        let action = words(&[("step", "s"), ("action-ref", "./a")]).unwrap();
        assert_eq!(action[action.len() - 5..], ["--", "/bin/affiant", "ci", "action", "./a"]);
        assert_eq!(words(&[("step", "  "), ("command", "true")]).unwrap_err(), ("step", "is needed".to_owned()));
    }

    #[test]
    fn a_list_of_words_is_split_and_never_expanded() {
        let split = |text: &str| split(text).unwrap();
        assert_eq!(split(r#"a 'b c' "d \"e\" $HOME" f\ g h'i'"j""#), ["a", "b c", "d \"e\" $HOME", "f g", "hij"]);
        assert_eq!(split("'' \"\"\n`id` $(id)"), ["", "", "`id`", "$(id)"]);
        assert_eq!(file_name("../../etc/x y"), "-..-etc-x-y");
    }

    #[test]
    fn every_flag_is_one_of_run() {
        let command = crate::cli::command(crate::cli::names::Called::Affiant);
        let run = command.find_subcommand("run").unwrap();
        for (name, becomes) in TABLE {
            if let Flag(flag) | List(flag) | Lines(flag) | Switch(flag) = becomes {
                assert!(run.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--")), "{name}");
            }
        }
    }

    #[test]
    fn every_input_of_the_action_is_known() {
        let action =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.github/actions/affiant/action.yml"));
        let action = action.expect("the action");
        let inputs = action.split_once("\ninputs:\n").and_then(|(_, rest)| rest.split_once("\noutputs:\n")).unwrap().0;
        let names =
            inputs.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ") && !line.contains('#'));
        let names: Vec<_> = names.map(|line| line.trim().trim_end_matches(':')).collect();
        assert!(names.len() > 30);
        for name in names {
            assert!(TABLE.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
