//! The options of `run` and `attest`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use affiant_attestors::BUILT_IN;
use affiant_core::form::Form;
use affiant_core::run::Named;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, ValueEnum};
use serde_json::{Map, Value};

use crate::cli::archivista::ArchivistaArgs;
use crate::cli::ci::Action;
use crate::cli::keys;
use crate::cli::names::Called;

const EXAMPLES: &str = "\
Examples:
  affiant run --key affiant.key -- make
  affiant run --key affiant.key --step docker-build --outfile build.att.json -- \\
      docker buildx build --metadata-file metadata.json -o type=oci,dest=image.tar .
  affiant run --plan -- make

The exit code is the command's own; 125 where affiant refuses before it starts, or where it succeeded and its \
evidence did not. Each option can also be set by a variable (`--step` by AFFIANT_STEP) or in a configuration file.";

const ATTEST_EXAMPLES: &str = "\
Examples:
  affiant attest --key affiant.key --step source
  affiant attest --key affiant.key --step package dist/app.tar.gz
  affiant attest --key affiant.key --step scan --attestations sbom --products '*.cdx.json'

No command is run, and the evidence has none: a policy takes it for a step that says `commandRun: optional`.";

/// Headings of the help.
const PLACES: &str = "Keys and places";
const RECORDED: &str = "What is recorded";
const ENDING: &str = "The command";

/// What `run` and `attest` have in common.
#[derive(Args)]
pub(crate) struct CaptureArgs {
    /// Name of the step (default: the program's name)
    #[arg(short, long, value_name = "NAME", env = "AFFIANT_STEP", hide_env_values = true)]
    pub(super) step: Option<String>,
    /// Run these attestors, comma-separated, instead of those that the command calls for
    #[arg(short, long, value_name = "LIST", env = "AFFIANT_ATTESTATIONS", hide_env_values = true)]
    pub(super) attestations: Vec<String>,
    /// The folder in which the command runs, and which is recorded
    #[arg(short = 'd', long, value_name = "DIR", env = "AFFIANT_WORKINGDIR", hide_env_values = true)]
    pub(super) workingdir: Option<PathBuf>,
    /// Write the signed collection to this file, besides the archive
    #[arg(help_heading = PLACES, short, long, value_name = "FILE", env = "AFFIANT_OUTFILE", hide_env_values = true)]
    pub(super) outfile: Option<PathBuf>,
    #[command(flatten)]
    pub(super) keys: keys::KeyArgs,
    /// Archive the evidence in this folder (default: one in the user's data), or on a server: `archivista+URL`; both can
    /// be named
    #[arg(help_heading = PLACES, long, value_name = "dir:PATH", env = "AFFIANT_ARCHIVE", hide_env_values = true)]
    pub(super) archive: Vec<String>,
    /// Where evidence waits that cannot be signed or kept (default: a folder in the user's state)
    #[arg(help_heading = PLACES, long, value_name = "DIR", env = "AFFIANT_SPOOL", hide_env_values = true)]
    pub(super) spool: Option<PathBuf>,
    #[command(flatten, next_help_heading = PLACES)]
    pub(super) archivista: ArchivistaArgs,
    /// Write a report of the run as JSON, also when it fails; FORM is json, markdown, junit or env (repeatable)
    #[arg(help_heading = PLACES, long, value_name = "[FORM=]FILE", env = "AFFIANT_REPORT", hide_env_values = true)]
    pub(super) report: Vec<String>,
    /// Only products that this glob takes become subjects
    #[arg(help_heading = RECORDED, long, value_name = "GLOB", env = "AFFIANT_ATTESTOR_PRODUCT_INCLUDE_GLOB", hide_env_values = true)]
    pub(super) attestor_product_include_glob: Vec<String>,
    /// Products that this glob takes become no subjects
    #[arg(help_heading = RECORDED, long, value_name = "GLOB", env = "AFFIANT_ATTESTOR_PRODUCT_EXCLUDE_GLOB", hide_env_values = true)]
    pub(super) attestor_product_exclude_glob: Vec<String>,
    /// Only files that this glob takes are materials
    #[arg(help_heading = RECORDED, long, value_name = "GLOB", env = "AFFIANT_MATERIAL_INCLUDE_GLOB", hide_env_values = true)]
    pub(super) material_include_glob: Vec<String>,
    /// Files that this glob takes are no materials
    #[arg(help_heading = RECORDED, long, value_name = "GLOB", env = "AFFIANT_MATERIAL_EXCLUDE_GLOB", hide_env_values = true)]
    pub(super) material_exclude_glob: Vec<String>,
    /// What to do when an attestor named with `-a` finds nothing: end with 125, or only say so
    #[arg(help_heading = ENDING, long, value_enum, default_value = "fail", env = "AFFIANT_ON_GAP", hide_env_values = true)]
    pub(super) on_gap: OnGap,
    /// Say what would be recorded, and why, and run nothing
    #[arg(long)]
    pub(super) plan: bool,
    /// In which form the evidence is written: what every reader takes, or all of it as cilock writes it
    #[arg(help_heading = RECORDED, long, value_enum, default_value = "portable", env = "AFFIANT_FORM", hide_env_values = true)]
    pub(super) form: WrittenForm,
    /// Form of the plan
    #[arg(long, value_enum, default_value = "text", hide = true)]
    pub(super) plan_output: PlanOutput,
    /// Besides those named with `-a`, run the attestors that the step calls for
    #[arg(help_heading = RECORDED, long, hide = true, env = "AFFIANT_ALSO_AUTOMATIC", hide_env_values = true)]
    pub(super) also_automatic: bool,
    /// Read settings from this file, instead of the user's configuration
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Show every option
    #[arg(long)]
    pub(super) help_all: bool,

    /// Ask no other machine and no container engine
    #[arg(help_heading = RECORDED, long, env = "AFFIANT_OFFLINE", hide_env_values = true)]
    pub(super) offline: bool,
    /// Digest algorithms of materials and products, besides sha256: sha1, gitoid:sha256, gitoid:sha1
    #[arg(help_heading = RECORDED, long, value_name = "LIST", hide = true, env = "AFFIANT_HASHES", hide_env_values = true)]
    pub(super) hashes: Vec<String>,
    /// Folders that are recorded as one digest
    #[arg(help_heading = RECORDED, long, value_name = "GLOB", hide = true, env = "AFFIANT_DIRHASH_GLOB", hide_env_values = true)]
    pub(super) dirhash_glob: Vec<String>,
    /// Further subject: `NAME` (with the SHA-256 of this text) or `NAME=ALGORITHM:HEX`
    #[arg(help_heading = RECORDED, long, value_name = "NAME[=ALG:HEX]", hide = true, env = "AFFIANT_SUBJECTS", hide_env_values = true)]
    pub(super) subjects: Vec<String>,
    /// Leave sensitive variables out, instead of masking their values
    #[arg(help_heading = RECORDED, long, hide = true, env = "AFFIANT_ENV_FILTER_SENSITIVE_VARS", hide_env_values = true)]
    pub(super) env_filter_sensitive_vars: bool,
    /// Further sensitive variable (a name, or a glob with `*`)
    #[arg(help_heading = RECORDED, long, value_name = "NAME", hide = true, env = "AFFIANT_ENV_ADD_SENSITIVE_KEY", hide_env_values = true)]
    pub(super) env_add_sensitive_key: Vec<String>,
    /// Variable that is shown although its name says otherwise
    #[arg(help_heading = RECORDED, long, value_name = "NAME", hide = true, env = "AFFIANT_ENV_ALLOW_SENSITIVE_KEY", hide_env_values = true)]
    pub(super) env_allow_sensitive_key: Vec<String>,
    /// Only variables added with `--env-add-sensitive-key` are sensitive
    #[arg(help_heading = RECORDED, long, hide = true, env = "AFFIANT_ENV_DISABLE_DEFAULT_SENSITIVE_VARS", hide_env_values = true)]
    pub(super) env_disable_default_sensitive_vars: bool,
    /// Record only these variables (a name, or a glob with `*`)
    #[arg(help_heading = RECORDED, long, value_name = "NAME", hide = true, env = "AFFIANT_ENV_CAPTURE_ALLOWLIST", hide_env_values = true)]
    pub(super) env_capture_allowlist: Vec<String>,
    /// How long all attestors before the command, and all after it, may take (default: 15m)
    #[arg(help_heading = RECORDED, long, value_name = "TIME", value_parser = duration, hide = true, env = "AFFIANT_ATTESTOR_TIME_LIMIT", hide_env_values = true)]
    pub(super) attestor_time_limit: Option<Duration>,

    /// The name that affiant was called by.
    #[arg(skip)]
    pub(crate) called: Called,

    /// Options of attestors, by attestor: read from the flags that [`with_attestor_options`] adds.
    #[arg(skip)]
    pub(super) attestor_options: BTreeMap<String, Map<String, Value>>,
}

#[derive(Args)]
#[command(
    override_usage = "affiant run [OPTIONS] [--] COMMAND [ARGUMENT]…",
    after_help = EXAMPLES,
    mut_arg("key", |arg| arg.help_heading(PLACES)),
    mut_arg("key_password_file", |arg| arg.help_heading(PLACES)),
    mut_arg("timestamp_servers", |arg| arg.short('t')),
    mut_arg("enable_archivista", |arg| arg.hide(true)),
    mut_arg("archivista_server", |arg| arg.hide(true)),
    mut_arg("archivista_headers", |arg| arg.hide(true))
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
    /// End with 0 whatever the command's exit code is; it stands in the evidence
    #[arg(help_heading = ENDING, long, env = "AFFIANT_IGNORE_COMMAND_EXIT_CODE", hide_env_values = true)]
    pub(super) ignore_command_exit_code: bool,
    /// End the command after this time (`90`, `30s`, `10m`, `2h`) with exit code 124, and keep its evidence
    #[arg(help_heading = ENDING, long, value_name = "TIME", value_parser = duration, env = "AFFIANT_TIMEOUT", hide_env_values = true)]
    pub(super) timeout: Option<Duration>,
    /// Kill what is left of it this long after `--timeout` (default: 10s)
    #[arg(help_heading = ENDING, long, value_name = "TIME", value_parser = duration, env = "AFFIANT_KILL_AFTER", hide_env_values = true)]
    pub(super) kill_after: Option<Duration>,
    /// Keep the evidence with the images that the command pushed as well, or with this one, unless the command failed
    #[arg(help_heading = PLACES, long, value_name = "IMAGE", num_args = 0..=1, require_equals = true, default_missing_value = "", env = "AFFIANT_ATTACH", hide_env_values = true)]
    pub(super) attach: Option<String>,
    /// After the command, read again what by its keys may have changed, or every file
    #[arg(help_heading = RECORDED, long, value_enum, default_value = "keys", hide = true, env = "AFFIANT_SNAPSHOT", hide_env_values = true)]
    pub(super) snapshot: SnapshotMode,
    /// Leave this variable to the command, although affiant took a key or password from it
    #[arg(help_heading = ENDING, long, value_name = "NAME", hide = true, env = "AFFIANT_CHILD_ENV_KEEP", hide_env_values = true)]
    pub(super) child_env_keep: Vec<String>,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub(super) command: Vec<OsString>,
    /// The action of GitHub that the command runs.
    #[arg(skip)]
    pub(crate) action: Option<Action>,
}

#[derive(Args)]
#[command(
    after_help = ATTEST_EXAMPLES,
    mut_arg("key", |arg| arg.help_heading(PLACES)),
    mut_arg("key_password_file", |arg| arg.help_heading(PLACES)),
    mut_arg("timestamp_servers", |arg| arg.short('t')),
    mut_arg("enable_archivista", |arg| arg.hide(true)),
    mut_arg("archivista_server", |arg| arg.hide(true)),
    mut_arg("archivista_headers", |arg| arg.hide(true)),
    mut_arg("step", |arg| arg.help("Name of the step"))
)]
pub(crate) struct AttestArgs {
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
    /// Files that count as products; of a folder every recorded file
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Every recorded file that this glob takes counts as product (repeatable)
    #[arg(help_heading = RECORDED, long, value_name = "GLOB", env = "AFFIANT_PRODUCTS", hide_env_values = true)]
    pub(super) products: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnGap {
    Fail,
    Warn,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SnapshotMode {
    Keys,
    Full,
}

/// [`Form`] as `--form` names it.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum WrittenForm {
    /// Witness, cilock and archivista read it
    Portable,
    /// Cilock's types, and trees of files; witness does not read it
    Cilock,
}

impl From<WrittenForm> for Form {
    fn from(form: WrittenForm) -> Self {
        match form {
            WrittenForm::Portable => Self::Portable,
            WrittenForm::Cilock => Self::Cilock,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PlanOutput {
    Text,
    Json,
}

/// A time span: seconds, or a number with `ms`, `s`, `m`, `h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{unit}` is not a unit of time (ms, s, m, h)")),
    };
    let number: f64 = number.parse().map_err(|_| "not a time span such as `90`, `30s`, `10m` or `2h`".to_owned())?;
    let seconds = number * factor;
    if !(0.001..=31_536_000.0).contains(&seconds) {
        return Err("a time span is between 1ms and one year".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Adds the options of the built-in attestors as flags: `--attestor-<attestor>-<option>`.
pub(crate) fn with_attestor_options(mut command: Command) -> Command {
    for attestor in BUILT_IN {
        for option in attestor.about.options {
            let id: &'static str = Box::leak(flag(attestor.about.name, option.name).into_boxed_str());
            let variable: &'static str =
                Box::leak(format!("AFFIANT_{}", id.to_uppercase().replace('-', "_")).into_boxed_str());
            command = command.arg(
                Arg::new(id)
                    .long(id)
                    .value_name("VALUE")
                    .help(option.help)
                    .help_heading("Attestors")
                    .hide(true)
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .action(ArgAction::Append)
                    .env(variable)
                    .hide_env_values(true),
            );
        }
    }
    command
}

fn flag(attestor: &str, option: &str) -> String {
    format!("attestor-{attestor}-{option}")
}

impl CaptureArgs {
    /// Reads the flags that [`with_attestor_options`] added. A value that is JSON is taken as such, others as text.
    pub(crate) fn read_attestor_options(&mut self, matches: &ArgMatches) {
        for attestor in BUILT_IN {
            for option in attestor.about.options {
                let id = flag(attestor.about.name, option.name);
                if matches.value_source(&id).is_none_or(|source| source == ValueSource::DefaultValue) {
                    continue;
                }
                let mut values: Vec<Value> = matches
                    .get_many::<String>(&id)
                    .into_iter()
                    .flatten()
                    .map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())))
                    .collect();
                let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
                self.attestor_options
                    .entry(attestor.about.name.to_owned())
                    .or_default()
                    .insert(option.name.replace('-', "_"), value);
            }
        }
    }

    /// Says by which name affiant was called.
    pub(crate) fn call(&mut self, called: Called) {
        self.called = called;
        self.keys.signer.call(called);
    }

    /// As `--plan` says.
    pub(crate) fn ask_for_plan(&mut self, asked: bool) {
        self.plan |= asked;
    }

    /// As `--also-automatic` says.
    pub(crate) fn also_automatic(&mut self) {
        self.also_automatic = true;
    }

    /// Names attestors where none are named.
    pub(crate) fn name_by_default(&mut self, list: &str) {
        if self.attestations.is_empty() {
            self.attestations.push(list.to_owned());
        }
    }

    /// Takes an attestor out of those that are named. `false` where it is not.
    pub(crate) fn leave_out(&mut self, attestor: &str) -> bool {
        let mut names = split(&self.attestations);
        let before = names.len();
        names.retain(|name| name != attestor);
        let found = names.len() < before;
        if found {
            self.attestations = names;
        }
        found
    }

    /// The attestors named, however they were separated.
    pub(super) fn named(&self) -> Vec<Named> {
        split(&self.attestations).into_iter().map(Named).collect()
    }
}

pub(super) fn split(lists: &[String]) -> Vec<String> {
    lists
        .iter()
        .flat_map(|list| list.split([',', ' ', '\t', '\n']))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        for bad in ["", "x", "0", "5d", "-1", "1e99h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
