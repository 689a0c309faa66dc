//! The names `witness`, `cilock` and `cosign`: links to the binary that take those tools' command lines.
//!
//! A name chooses the syntax, and under `cilock` the form; it never chooses leniency (DESIGN §5, security rule 13). What
//! the peers' flags do is said by [`table`], from which `docs/reference/peers.md` is printed.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use affiant_attestors::BUILT_IN;
use affiant_core::verdict::{Answer, Verdict};
use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

use super::config;
use super::failure::Failure;
use super::output::Output;
use super::run::CaptureArgs;

mod table;

pub(crate) use table::{ATTESTORS, Part};
use table::{
    COSIGN_OTHER_VERBS, COSIGN_VERBS, Does, FLAGS, Flag, Meaning, OTHER_POLICY_VERBS, OTHER_VERBS, PREFIXES, Takes,
    VERBS,
};

/// The name that affiant was called by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Called {
    #[default]
    Affiant,
    Witness,
    Cilock,
    Cosign,
}

/// Flags that may stand before the command, and take a value.
const BEFORE: [&str; 9] = [
    "-c",
    "--config",
    "-l",
    "--log-level",
    "--debug-cpu-profile-file",
    "--debug-mem-profile-file",
    "-t",
    "--timeout",
    "--output-file",
];
/// The commands of `image` that sign.
const SIGNING: [&str; 4] = ["sign", "attest", "sign-blob", "attest-blob"];
/// Flags that cosign spells otherwise.
const COSIGN_SPELLED: [&str; 1] = ["timestamp-server-url"];
/// The file that witness once read by itself.
const WITNESS_FILE: &str = ".witness.yaml";
/// What witness and cilock run when nothing is named.
const MANUAL: &str = "environment,git";

impl Called {
    /// From the path of the program.
    pub(crate) fn of(args: &[OsString]) -> Self {
        match args.first().map(|program| Path::new(program).file_name()) {
            Some(Some(name)) if name == "witness" => Self::Witness,
            Some(Some(name)) if name == "cilock" => Self::Cilock,
            Some(Some(name)) if name == "cosign" => Self::Cosign,
            _ => Self::Affiant,
        }
    }

    /// The name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Affiant => "affiant",
            Self::Witness => "witness",
            Self::Cilock => "cilock",
            Self::Cosign => "cosign",
        }
    }

    /// A flag that says nothing beside another: wrong under our own name; cosign passes it over, and that is said.
    pub(crate) fn unheeded(self, text: &str, output: &Output) -> Result<(), Failure> {
        if self == Self::Cosign {
            output.message(&format!("note: {text}"));
            return Ok(());
        }
        Err(Failure::usage(text).hint("leave one of them out"))
    }

    /// The name, and its flag for a signing key.
    pub(crate) const fn spelled_key(self) -> (&'static str, &'static str) {
        match self {
            Self::Affiant | Self::Cosign => (self.name(), "--key"),
            Self::Witness | Self::Cilock => (self.name(), "--signer-file-key-path"),
        }
    }

    fn is_peer(self) -> bool {
        self != Self::Affiant
    }

    fn flags(self) -> impl Iterator<Item = &'static Flag> {
        FLAGS.iter().filter(move |flag| flag.of.contains(&self))
    }
}

/// The command line with the command first, in affiant's own words for commands.
pub(crate) fn translate(called: Called, args: &[OsString]) -> Result<Vec<OsString>, Failure> {
    if !called.is_peer() {
        return Ok(args.to_vec());
    }
    let mut at = 1;
    while let Some(flag) = args.get(at).and_then(|arg| arg.to_str()).filter(|arg| arg.starts_with('-')) {
        at += if BEFORE.contains(&flag) { 2 } else { 1 };
    }
    let before = args.get(1..at).unwrap_or_default();
    let Some(verb) = args.get(at).and_then(|verb| verb.to_str()) else {
        // Alone cosign shows its commands, which are ours of `image`.
        let asks = args.len() == 1 || before.iter().any(|flag| flag == "--help" || flag == "-h");
        let help = ["image", "--help"].map(OsString::from);
        return Ok(match called {
            Called::Cosign if asks => args[..1].iter().cloned().chain(help).collect(),
            _ => args.to_vec(),
        });
    };
    let rest = &args[at + 1..];
    if called == Called::Cosign {
        return cosign(args, before, verb, rest);
    }
    let refused = |verb: &str, table: &[(&[&str], &str)], word: &str| {
        let found = table.iter().find(|(verbs, _)| verbs.contains(&word));
        found.map(|(_, why)| Failure::usage(format!("affiant has no `{} {verb}`", called.name())).hint(*why))
    };
    if called == Called::Cilock
        && let Some(failure) = refused(verb, OTHER_VERBS, verb)
    {
        return Err(failure);
    }
    if verb == "policy"
        && let Some(word) = rest.first().and_then(|word| word.to_str())
        && let Some(failure) = refused(&format!("policy {word}"), OTHER_POLICY_VERBS, word)
    {
        return Err(failure);
    }
    let verbs: &[&str] = match verb {
        "plan" => &["run", "--plan"],
        "completion" => &["completions"],
        other => &[other],
    };
    let verbs = verbs.iter().map(OsString::from);
    Ok(args[..1].iter().cloned().chain(verbs).chain(before.iter().cloned()).chain(rest.iter().cloned()).collect())
}

/// cosign's commands are ours of `image`.
fn cosign(args: &[OsString], before: &[OsString], verb: &str, rest: &[OsString]) -> Result<Vec<OsString>, Failure> {
    if let Some((_, why)) = COSIGN_OTHER_VERBS.iter().find(|(verbs, _)| verbs.contains(&verb)) {
        return Err(Failure::usage(format!("affiant has no `cosign {verb}`")).hint(*why));
    }
    if verb == "initialize" && !rest.is_empty() {
        // What it would write is believed by later calls, and only flags say whom to trust (security rule 8).
        return Err(Failure::usage("`cosign initialize` of another instance is refused: later checks would believe it")
            .hint("write `affiant trust update --mirror URL --root FILE -o trusted_root.json`, and name the file with `--trusted-root`"));
    }
    let verbs: &[&str] = match verb {
        "initialize" => &["trust", "update", "public"],
        "trusted-root" => &["trust"],
        "version" => &[verb],
        "help" => &["image"],
        other => &["image", other],
    };
    let verbs = verbs.iter().map(OsString::from);
    if verb == "help" {
        let asked = rest.iter().cloned().chain([OsString::from("--help")]);
        return Ok(args[..1].iter().cloned().chain(verbs).chain(asked).collect());
    }
    Ok(args[..1].iter().cloned().chain(verbs).chain(before.iter().cloned()).chain(rest.iter().cloned()).collect())
}

/// The commands as this name takes them.
pub(crate) fn adapt(called: Called, command: Command) -> Command {
    if !called.is_peer() {
        return command;
    }
    let usage = format!("{} run [OPTIONS] [--] COMMAND [ARGUMENT]…", called.name());
    // It is not that tool, and says so.
    let version = concat!(env!("CARGO_PKG_VERSION"), " (affiant)");
    let verbs = if called == Called::Cosign { COSIGN_VERBS } else { VERBS };
    let command = verbs.iter().fold(command.name(called.name()).version(version), |command, verb| {
        command.mut_subcommand(*verb, |verb_command| adapt_verb(called, verb, verb_command))
    });
    if called == Called::Cosign {
        return command.mut_subcommand("image", |image| image.override_usage("cosign COMMAND [OPTIONS] …"));
    }
    command.mut_subcommand("run", |run| run.override_usage(usage).mut_arg("plan_output", |arg| arg.alias("format")))
}

fn adapt_verb(called: Called, verb: &'static str, mut command: Command) -> Command {
    if command.has_subcommands() {
        let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        return names
            .into_iter()
            .fold(command, |command, name| command.mut_subcommand(name, |sub| adapt_verb(called, verb, sub)));
    }
    // As their flags are: a truth may have its value behind `=`, and of a flag that is repeated the last counts.
    command = command.args_override_self(true).mut_args(|arg| {
        if matches!(arg.get_action(), ArgAction::SetTrue) { truth(arg).default_value("false") } else { arg }
    });
    let has = |command: &Command, name: &str| {
        command.get_arguments().any(|arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        })
    };
    let has_short = |command: &Command, short: char| command.get_arguments().any(|arg| arg.get_short() == Some(short));
    for flag in called.flags().filter(|flag| flag.verbs.contains(&verb)) {
        if has(&command, flag.long) {
            continue;
        }
        let mut arg = Arg::new(flag.long).long(flag.long).hide(true);
        arg = match flag.takes {
            Takes::Truth => truth(arg),
            Takes::Value => arg.action(ArgAction::Append).value_name("VALUE"),
        };
        if let Some(short) = flag.short.filter(|short| !has_short(&command, *short)) {
            arg = arg.short(short);
        }
        if let Some(alias) = flag.alias {
            arg = arg.alias(alias);
        }
        command = command.arg(arg);
    }
    if called == Called::Cosign {
        if SIGNING.contains(&command.get_name()) {
            command = command.mut_args(of_cosign);
        }
        // Its commands are not below `image`.
        let name = format!("cosign {}", command.get_name());
        let usage = command.clone().bin_name(name).render_usage().to_string();
        command = command.override_usage(usage.trim_start_matches("Usage: ").to_owned());
    }
    if called == Called::Cilock && command.get_arguments().any(|arg| arg.get_id() == "form") {
        command = command.mut_arg("form", |arg| arg.default_value("cilock"));
    }
    if called == Called::Witness {
        command = if has(&command, "config") {
            command.mut_arg("config", |arg| arg.short('c'))
        } else {
            let config = Arg::new("config").long("config").short('c').value_name("FILE");
            command.arg(config.value_parser(clap::value_parser!(PathBuf)))
        };
    }
    for (id, alias) in [("subjects", "subject"), ("outfile", "output")] {
        if verb == "bundle" && has(&command, id) {
            command = command.mut_arg(id, |arg| arg.alias(alias));
        }
    }
    command
}

/// cosign takes every flag of a command that signs from a variable too: `COSIGN_<FLAG>`. Of commands that check it is not
/// done here: whom to trust is said by flags only (security rule 8).
fn of_cosign(arg: Arg) -> Arg {
    let Some(long) = arg.get_long() else { return arg };
    if matches!(long, "help" | "version")
        || arg.get_env().is_some_and(|name| name.as_encoded_bytes().starts_with(b"COSIGN_"))
    {
        return arg;
    }
    let aliases = arg.get_all_aliases().unwrap_or_default();
    let name = aliases.iter().find(|alias| COSIGN_SPELLED.contains(alias)).copied().unwrap_or(long);
    let variable: &'static str =
        Box::leak(format!("COSIGN_{}", name.to_uppercase().replace('-', "_")).into_boxed_str());
    // An empty variable is not set.
    if std::env::var_os(variable).is_some_and(|value| value.is_empty()) {
        return arg.env(None::<&'static str>);
    }
    arg.env(variable).hide_env_values(true)
}

fn truth(arg: Arg) -> Arg {
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(BoolishValueParser::new())
}

/// Says what a flag that affiant does not know at all would need.
pub(crate) fn unknown(called: Called, error: &clap::Error) -> Option<Failure> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg).filter(|_| called.is_peer()) else {
        return None;
    };
    let name = flag.split('=').next()?.strip_prefix("--")?;
    if let Some((_, part)) = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        return Some(needs(&format!("--{name}"), *part));
    }
    let rest = name.strip_prefix("attestor-")?;
    let is_of = |attestor: &str| rest.strip_prefix(attestor).is_some_and(|rest| rest.starts_with('-'));
    if BUILT_IN.iter().any(|attestor| is_of(attestor.about.name)) {
        return None;
    }
    let (_, part) = ATTESTORS.iter().find(|(names, _)| names.iter().any(|name| is_of(name)))?;
    Some(needs(&format!("--{name}"), *part))
}

/// The refusal of what needs a part that is not there.
pub(crate) fn needs(what: &str, part: Part) -> Failure {
    Failure::usage(format!("{what} needs {}, a part that this affiant does not have", part.name())).hint(part.hint())
}

/// Looks at the peers' flags on a command line: refuses what cannot be done, and says what was passed over.
pub(crate) fn judge(called: Called, matches: &ArgMatches, output: &Output) -> Result<(), Failure> {
    let Some((verb, mut matches)) = matches.subcommand().filter(|_| called.is_peer()) else { return Ok(()) };
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    for flag in called.flags().filter(|flag| flag.verbs.contains(&verb)) {
        let values = values(matches, flag);
        if values.is_empty() {
            continue;
        }
        let allowed = |allowed: &[&str]| values.iter().all(|value| allowed.contains(&value.as_str()));
        match flag.does {
            Does::Needs(part, fine) if !allowed(fine) => return Err(needs(&format!("--{}", flag.long), part)),
            Does::Refused(fine, why, instead) if !allowed(fine) => {
                return Err(Failure::usage(format!("--{} is refused: {why}", flag.long)).hint(instead));
            }
            Does::Needs(..) | Does::Refused(..) | Does::Nothing(_) | Does::Means(..) => {}
        }
    }
    if called == Called::Witness && matches.get_one::<PathBuf>("config").is_none() && Path::new(WITNESS_FILE).exists() {
        output.message(&format!("note: {WITNESS_FILE} is not read by itself; name it with `-c {WITNESS_FILE}`"));
    }
    Ok(())
}

/// The values that a flag was given, as text.
fn values(matches: &ArgMatches, flag: &Flag) -> Vec<String> {
    // An argument of this name may be affiant's own, or not be there for this subcommand.
    match flag.takes {
        Takes::Truth => match matches.try_get_one::<bool>(flag.long) {
            Ok(Some(value)) if matches.value_source(flag.long) != Some(ValueSource::DefaultValue) => {
                vec![value.to_string()]
            }
            _ => Vec::new(),
        },
        Takes::Value => match matches.try_get_many::<String>(flag.long) {
            Ok(Some(values)) => values.cloned().collect(),
            _ => Vec::new(),
        },
    }
}

/// Does what the peers' flags mean for evidence.
pub(crate) fn apply(
    called: Called,
    matches: &ArgMatches,
    args: &mut CaptureArgs,
    output: &Output,
) -> Result<(), Failure> {
    args.call(called);
    for flag in called.flags() {
        let Does::Means(_, meaning) = flag.does else { continue };
        let Some(value) = values(matches, flag).pop() else { continue };
        match (meaning, value.as_str()) {
            (Meaning::Plan, value) => args.ask_for_plan(value == "true"),
            (Meaning::Workload, "auto") => args.also_automatic(),
            (Meaning::Workload, "manual") => args.name_by_default(MANUAL),
            (Meaning::Workload, other) => {
                return Err(Failure::usage(format!("--workload {other}: neither `auto` nor `manual`")));
            }
        }
    }
    if called == Called::Cilock && args.leave_out("platform") {
        output.message("note: the attestor `platform` is left out: it tells of cilock's platform, which is not used");
    }
    Ok(())
}

/// Puts what witness's configuration file says into the command line, behind the command. A flag or variable wins.
pub(crate) fn with_config(command: &Command, mut args: Vec<OsString>, file: &Path) -> Result<Vec<OsString>, Failure> {
    let Some(verb) = args.get(1).and_then(|verb| verb.to_str()).map(str::to_owned) else { return Ok(args) };
    let settings =
        config::read_with(file, |text| serde_saphyr::from_str::<Table>(text).map_err(|error| error.to_string()))?;
    let shown = file.display();
    let Some(settings) = settings.get(&verb) else { return Ok(args) };
    let Value::Table(settings) = settings else {
        return Err(Failure::usage(format!("{shown}: `{verb}` is not a map")));
    };
    let Some(sub) = command.find_subcommand(&verb) else { return Ok(args) };
    let given = command.clone().ignore_errors(true).try_get_matches_from(&args).ok();
    let given = given.as_ref().and_then(|matches| matches.subcommand_matches(&verb));
    let mut inserted = Vec::new();
    for (key, value) in settings {
        let known = sub.get_arguments().find(|arg| config::names(arg, key));
        let Some(arg) = known.filter(|arg| arg.get_id() != "config") else {
            let needed = PREFIXES.iter().find(|(prefix, _)| key.starts_with(prefix));
            return Err(match needed {
                Some((_, part)) => needs(&format!("{shown}: `{verb}.{key}`"), *part),
                None => Failure::usage(format!("{shown}: unknown setting `{verb}.{key}`")),
            });
        };
        let source = given.and_then(|given| given.value_source(arg.get_id().as_str()));
        if matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        let values = config::strings(value).ok_or_else(|| {
            Failure::usage(format!("{shown}: `{verb}.{key}` is neither text, number, truth value nor a list of text"))
        })?;
        inserted.extend(values.into_iter().map(|value| OsString::from(format!("--{key}={value}"))));
    }
    args.splice(2..2, inserted);
    Ok(args)
}

/// A verdict as `cilock verify --format json` prints it (wire-formats §5.7). What was not proven has no subject.
pub(crate) fn verdict_json(verdict: &Verdict) -> String {
    let passed = verdict.answer == Answer::Passed;
    let mut said = serde_json::json!({ "passed": passed });
    if let Some(artifact) = verdict.artifacts.first().filter(|_| passed) {
        if let [only] = &artifact.chain[..] {
            said["step"] = only.step.clone().into();
        }
        said["matchedSubject"] = artifact.digest.clone().into();
        said["observedSubjectName"] = artifact.name.clone().into();
    }
    format!("{said}\n")
}

/// The flags of the peers as a table, for `docs/reference/peers.md`.
pub(crate) fn reference() -> String {
    let mut text = String::from("| flag | of | with | what it does |\n|---|---|---|---|\n");
    for flag in FLAGS {
        let short = flag.short.map(|short| format!("`-{short}`, ")).unwrap_or_default();
        let alias = flag.alias.map(|alias| format!(", `--{alias}`")).unwrap_or_default();
        let of: Vec<_> = flag.of.iter().map(|called| called.name()).collect();
        let fine = |values: &[&str]| {
            let shown: Vec<_> =
                values.iter().map(|value| format!("`{value}`").replace("``", "an empty value")).collect();
            if shown.is_empty() { String::new() } else { format!("{} is accepted; else ", shown.join(" or ")) }
        };
        let does = match flag.does {
            Does::Nothing(why) => format!("accepted: {why}"),
            Does::Needs(part, values) => format!("{}refused: needs {}", fine(values), part.name()),
            Does::Refused(values, why, _) => format!("{}refused: {why}", fine(values)),
            Does::Means(what, _) => format!("means {what}"),
        };
        let verbs = if flag.verbs == VERBS { "all".to_owned() } else { flag.verbs.join(", ") };
        let _ = writeln!(text, "| {short}`--{}`{alias} | {} | {verbs} | {does} |", flag.long, of.join(", "));
    }
    for (prefix, part) in PREFIXES {
        let _ = writeln!(text, "| `--{prefix}…` | witness, cilock | all | refused: needs {} |", part.name());
    }
    text.push_str("\n| attestor | what it needs |\n|---|---|\n");
    for (names, part) in ATTESTORS {
        let built = |name: &&&str| BUILT_IN.iter().all(|attestor| attestor.about.name != **name);
        let names: Vec<_> = names.iter().filter(built).map(|name| format!("`{name}`")).collect();
        if !names.is_empty() {
            let _ = writeln!(text, "| {} | {} |", names.join(" "), part.name());
        }
    }
    text
}

/// The part that an unknown attestor belongs to.
pub(crate) fn part_of(attestor: &str) -> Option<Part> {
    ATTESTORS.iter().find(|(names, _)| names.contains(&attestor)).map(|(_, part)| *part)
}
