//! `affiant run`: flags → request → plan → evidence → report.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use affiant_attestors::{BUILT_IN, container_command, git_remote_urls};
use affiant_core::attestor::{Before, Environment};
use affiant_core::digest::{Algorithm, DigestSet};
use affiant_core::redact::{MaskOptions, Redactor, VariableMask};
use affiant_core::run::{self, Choice, Named, Observation, ObservationLevel, Outcome, Plan, PlanError, Request};
use affiant_core::select::{Glob, Selection};
use affiant_core::sign::Signer;
use affiant_core::snapshot;
use affiant_core::statement::Subject;
use affiant_core::step;
use affiant_supervise as supervise;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, ValueEnum};
use serde_json::{Map, Value};

use super::failure::{Failure, Kind, nearest};
use super::output::Output;
use super::{Ending, keys, surroundings};

mod keep;
mod progress;
mod summary;

/// How long the attestors of one phase may take when nothing else is said, in seconds.
const DEFAULT_TIME_LIMIT: u64 = 900;

const EXAMPLES: &str = "\
Examples:
  affiant run --key affiant.key -- make
  affiant run --key affiant.key --step docker-build --outfile build.att.json -- \\
      docker buildx build --metadata-file metadata.json -o type=oci,dest=image.tar .
  affiant run --plan -- make

The exit code is the command's own; 125 where affiant refuses before it starts, or where it succeeded and its \
evidence did not. Each option can also be set by a variable (`--step` by AFFIANT_STEP) or in a configuration file.";

/// Headings of the help.
const PLACES: &str = "Keys and places";
const RECORDED: &str = "What is recorded";
const ENDING: &str = "The command";

#[derive(Args)]
#[command(
    override_usage = "affiant run [OPTIONS] [--] COMMAND [ARGUMENT]…",
    after_help = EXAMPLES,
    mut_arg("key", |arg| arg.help_heading(PLACES)),
    mut_arg("key_password_file", |arg| arg.help_heading(PLACES))
)]
pub(crate) struct RunArgs {
    /// Name of the step (default: the program's name)
    #[arg(short, long, value_name = "NAME", env = "AFFIANT_STEP", hide_env_values = true)]
    step: Option<String>,
    /// Run these attestors, comma-separated, instead of those that the command calls for
    #[arg(short, long, value_name = "LIST", env = "AFFIANT_ATTESTATIONS", hide_env_values = true)]
    attestations: Vec<String>,
    /// The folder in which the command runs, and which is recorded
    #[arg(short = 'd', long, value_name = "DIR", env = "AFFIANT_WORKINGDIR", hide_env_values = true)]
    workingdir: Option<PathBuf>,
    /// Write the signed collection to this file, besides the archive
    #[arg(help_heading = PLACES, short, long, value_name = "FILE", env = "AFFIANT_OUTFILE", hide_env_values = true)]
    outfile: Option<PathBuf>,
    #[command(flatten)]
    keys: keys::KeyArgs,
    /// Archive the evidence in this folder (default: one in the user's data)
    #[arg(help_heading = PLACES, long, value_name = "dir:PATH", env = "AFFIANT_ARCHIVE", hide_env_values = true)]
    archive: Option<String>,
    /// Write a report of the run as JSON, also when it fails
    #[arg(help_heading = PLACES, long, value_name = "FILE", env = "AFFIANT_REPORT", hide_env_values = true)]
    report: Option<PathBuf>,
    /// Only products that this glob takes become subjects
    #[arg(help_heading = RECORDED, long, value_name = "GLOB", env = "AFFIANT_ATTESTOR_PRODUCT_INCLUDE_GLOB", hide_env_values = true)]
    attestor_product_include_glob: Vec<String>,
    /// Products that this glob takes become no subjects
    #[arg(help_heading = RECORDED, long, value_name = "GLOB", env = "AFFIANT_ATTESTOR_PRODUCT_EXCLUDE_GLOB", hide_env_values = true)]
    attestor_product_exclude_glob: Vec<String>,
    /// Only files that this glob takes are materials
    #[arg(help_heading = RECORDED, long, value_name = "GLOB", env = "AFFIANT_MATERIAL_INCLUDE_GLOB", hide_env_values = true)]
    material_include_glob: Vec<String>,
    /// Files that this glob takes are no materials
    #[arg(help_heading = RECORDED, long, value_name = "GLOB", env = "AFFIANT_MATERIAL_EXCLUDE_GLOB", hide_env_values = true)]
    material_exclude_glob: Vec<String>,
    /// End with 0 whatever the command's exit code is; it stands in the evidence
    #[arg(help_heading = ENDING, long, env = "AFFIANT_IGNORE_COMMAND_EXIT_CODE", hide_env_values = true)]
    ignore_command_exit_code: bool,
    /// What to do when an attestor named with `-a` finds nothing: end with 125, or only say so
    #[arg(help_heading = ENDING, long, value_enum, default_value = "fail", env = "AFFIANT_ON_GAP", hide_env_values = true)]
    on_gap: OnGap,
    /// End the command after this time (`90`, `30s`, `10m`, `2h`) with exit code 124, and keep its evidence
    #[arg(help_heading = ENDING, long, value_name = "TIME", value_parser = duration, env = "AFFIANT_TIMEOUT", hide_env_values = true)]
    timeout: Option<Duration>,
    /// Kill what is left of it this long after `--timeout` (default: 10s)
    #[arg(help_heading = ENDING, long, value_name = "TIME", value_parser = duration, env = "AFFIANT_KILL_AFTER", hide_env_values = true)]
    kill_after: Option<Duration>,
    /// Say what would be recorded, and why, and run nothing
    #[arg(long)]
    plan: bool,
    /// Ask no other machine and no container engine
    #[arg(help_heading = RECORDED, long, env = "AFFIANT_OFFLINE", hide_env_values = true)]
    offline: bool,
    /// Read settings from this file, instead of the user's configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Show every option
    #[arg(long)]
    help_all: bool,

    /// Digest algorithms of materials and products, besides sha256: sha1, gitoid:sha256, gitoid:sha1
    #[arg(help_heading = RECORDED, long, value_name = "LIST", hide = true, env = "AFFIANT_HASHES", hide_env_values = true)]
    hashes: Vec<String>,
    /// Folders that are recorded as one digest
    #[arg(help_heading = RECORDED, long, value_name = "GLOB", hide = true, env = "AFFIANT_DIRHASH_GLOB", hide_env_values = true)]
    dirhash_glob: Vec<String>,
    /// Further subject: `NAME` (with the SHA-256 of this text) or `NAME=ALGORITHM:HEX`
    #[arg(help_heading = RECORDED, long, value_name = "NAME[=ALG:HEX]", hide = true, env = "AFFIANT_SUBJECTS", hide_env_values = true)]
    subjects: Vec<String>,
    /// After the command, read again what by its keys may have changed, or every file
    #[arg(help_heading = RECORDED, long, value_enum, default_value = "keys", hide = true, env = "AFFIANT_SNAPSHOT", hide_env_values = true)]
    snapshot: SnapshotMode,
    /// Leave sensitive variables out, instead of masking their values
    #[arg(help_heading = RECORDED, long, hide = true, env = "AFFIANT_ENV_FILTER_SENSITIVE_VARS", hide_env_values = true)]
    env_filter_sensitive_vars: bool,
    /// Further sensitive variable (a name, or a glob with `*`)
    #[arg(help_heading = RECORDED, long, value_name = "NAME", hide = true, env = "AFFIANT_ENV_ADD_SENSITIVE_KEY", hide_env_values = true)]
    env_add_sensitive_key: Vec<String>,
    /// Variable that is shown although its name says otherwise
    #[arg(help_heading = RECORDED, long, value_name = "NAME", hide = true, env = "AFFIANT_ENV_ALLOW_SENSITIVE_KEY", hide_env_values = true)]
    env_allow_sensitive_key: Vec<String>,
    /// Only variables added with `--env-add-sensitive-key` are sensitive
    #[arg(help_heading = RECORDED, long, hide = true, env = "AFFIANT_ENV_DISABLE_DEFAULT_SENSITIVE_VARS", hide_env_values = true)]
    env_disable_default_sensitive_vars: bool,
    /// Record only these variables (a name, or a glob with `*`)
    #[arg(help_heading = RECORDED, long, value_name = "NAME", hide = true, env = "AFFIANT_ENV_CAPTURE_ALLOWLIST", hide_env_values = true)]
    env_capture_allowlist: Vec<String>,
    /// Leave this variable to the command, although affiant took a key or password from it
    #[arg(help_heading = ENDING, long, value_name = "NAME", hide = true, env = "AFFIANT_CHILD_ENV_KEEP", hide_env_values = true)]
    child_env_keep: Vec<String>,
    /// How long all attestors before the command, and all after it, may take (default: 15m)
    #[arg(help_heading = RECORDED, long, value_name = "TIME", value_parser = duration, hide = true, env = "AFFIANT_ATTESTOR_TIME_LIMIT", hide_env_values = true)]
    attestor_time_limit: Option<Duration>,

    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<OsString>,

    /// Options of attestors, by attestor: read from the flags that [`with_attestor_options`] adds.
    #[arg(skip)]
    attestor_options: BTreeMap<String, Map<String, Value>>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnGap {
    Fail,
    Warn,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SnapshotMode {
    Keys,
    Full,
}

/// A time span: seconds, or a number with `ms`, `s`, `m`, `h`.
fn duration(text: &str) -> Result<Duration, String> {
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

impl RunArgs {
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

    /// The attestors named, however they were separated.
    fn named(&self) -> Vec<Named> {
        split(&self.attestations).into_iter().map(Named).collect()
    }
}

fn split(lists: &[String]) -> Vec<String> {
    lists
        .iter()
        .flat_map(|list| list.split([',', ' ', '\t', '\n']))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

pub(crate) fn run(args: &RunArgs, output: &Output) -> Result<Ending, Failure> {
    let report = keep::report(args)?;
    let mut log = summary::Log::default();
    let result = attempt(args, output, &mut log);
    if let Some(file) = report {
        log.failure = result.as_ref().err().map(Failure::one_line);
        log.code = match &result {
            Ok(Ending::Code(code)) => *code,
            Ok(Ending::Done) => 0,
            Err(_) => 125,
        };
        if let Err(error) = log.write(&file) {
            output.message(&format!("warning: the report cannot be written: {error}"));
        }
    }
    result
}

fn attempt(args: &RunArgs, output: &Output, log: &mut summary::Log) -> Result<Ending, Failure> {
    let environment = Arc::new(surroundings::environment());
    let mask = Arc::new(mask(args)?);
    // Passwords in the URLs of git remotes are secrets too.
    let redactor = git_remote_urls(args.workingdir.as_deref().unwrap_or(Path::new(".")))
        .iter()
        .fold(Redactor::new(&environment, &args.command, &mask), |redactor, url| redactor.with_url(url))
        .with_secrets(surroundings::raw_secrets(&mask));
    output.mask(redactor.clone());
    log.redactor = Some(redactor.clone());

    if args.command.is_empty() {
        return Err(Failure::usage("there is no command to run").hint("put it behind `--`: affiant run -- make"));
    }
    let clock = surroundings::clock()?;
    let dir = working_dir(args.workingdir.as_deref())?;
    let step = match &args.step {
        Some(step) => step.clone(),
        None => step::step_name_of(&args.command[0]).ok_or_else(|| {
            Failure::usage("no step name can be made from the command").hint("name the step with `--step NAME`")
        })?,
    };
    // Neither is free text that could be masked (security rule 4).
    let names = std::iter::once(("step name", &step)).chain(args.subjects.iter().map(|text| ("subject", text)));
    for (what, text) in names {
        if redactor.hits_document(text.as_bytes()) {
            return Err(Failure::new(
                Kind::Run,
                format!("the {what} holds the value of a secret variable, so nothing was run"),
            )
            .hint("take it out, or say with --env-allow-sensitive-key NAME that the variable is no secret"));
        }
    }
    let (signers, consumed) = signers(args, !args.plan)?;
    let keep = keep::Keep::check(args, &dir)?;
    keep.warn(output);
    let plan = make_plan(args, &keep, environment, mask, redactor, dir, step, &consumed)?;
    log.planned(&plan);
    if args.plan {
        output.data(output.masked(&summary::plan_text(&plan, &keep, &signers)).as_bytes())?;
        return Ok(Ending::Code(0));
    }
    for name in &plan.always {
        output.message(&format!("note: `{name}` always runs and need not be named"));
    }
    for (name, note) in plan.notes() {
        output.message(&format!("affiant: note: {name}: {note}"));
    }
    let reserve = keep.reserve(output);
    // No thread has been started yet.
    supervise::wipe_variables(&plan.withheld());
    if let Err(error) = supervise::protect_process() {
        output.message(&format!("warning: this process's memory is readable for others of this account: {error}"));
    }

    let begun = Instant::now();
    let bar = progress::Bar::start("materials");
    let observed = plan
        .observe(&*clock, &surroundings::real_clock, bar.progress())
        .map_err(|error| Failure::because(Kind::Run, "the working directory cannot be recorded", &error))?;
    bar.finish();
    log.took("materials", begun);
    let begun = Instant::now();
    let ran = observed.spawn(&*clock);
    log.took("command", begun);
    let begun = Instant::now();
    let bar = progress::Bar::start("products");
    let collected = ran.collect(&*clock, &surroundings::real_clock, bar.progress());
    bar.finish();
    log.took("products", begun);
    let begun = Instant::now();

    let kept = keep.keep(&collected, &signers, reserve, &*clock, output)?;
    log.took("sealed and kept", begun);
    let evidence_failed =
        kept.failed || (keep.on_gap == OnGap::Fail && collected.collection.gaps.iter().any(|gap| gap.named));
    log.collected(&collected, &kept, evidence_failed);
    summary::tell(&collected, &kept, output);
    Ok(Ending::Code(exit_code(&collected, evidence_failed)))
}

/// The command's own code; 125 where it succeeded and the evidence did not.
fn exit_code(collected: &run::Collected, evidence_failed: bool) -> i32 {
    let own = collected.outcome.code();
    let ignored = collected.plan.ignores_exit_code() && matches!(collected.outcome, Outcome::Ran(_));
    let code = if ignored { 0 } else { own };
    if code == 0 && evidence_failed { 125 } else { code }
}

fn mask(args: &RunArgs) -> Result<VariableMask, Failure> {
    let options = MaskOptions {
        filter: args.env_filter_sensitive_vars,
        add_keys: split(&args.env_add_sensitive_key).into_iter().chain(token_variables(args)).collect(),
        allow_keys: split(&args.env_allow_sensitive_key),
        disable_defaults: args.env_disable_default_sensitive_vars,
        capture_allowlist: split(&args.env_capture_allowlist),
    };
    VariableMask::new(&options)
        .map_err(|error| Failure::because(Kind::Run, "a pattern for variables cannot be used", &error))
}

/// Variables that hold tokens for attestors: secrets whatever their names are.
fn token_variables(args: &RunArgs) -> impl Iterator<Item = String> {
    let named = args.attestor_options.values().filter_map(|options| options.get("token_variable")?.as_str());
    named.map(str::to_owned)
}

fn working_dir(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let dir = named.unwrap_or(Path::new("."));
    let absolute = std::fs::canonicalize(dir).map_err(|error| {
        Failure::because(Kind::Run, format!("the working directory {} cannot be used", dir.display()), &error)
    })?;
    if absolute.is_dir() {
        Ok(absolute)
    } else {
        Err(Failure::new(Kind::Run, format!("the working directory {} is not a folder", dir.display())))
    }
}

/// The opened signing keys.
type Signers = Vec<Box<dyn Signer>>;

/// Loads and probes the keys. Without a key there is nothing to seal with, so nothing is run.
fn signers(args: &RunArgs, needed: bool) -> Result<(Signers, Vec<String>), Failure> {
    if args.keys.key.is_empty() && needed {
        let rest = if args.command.len() > 1 { " …" } else { "" };
        let program = args.command.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
        return Err(Failure::new(Kind::Run, "there is no signing key, so nothing was run")
            .hint("make one:  affiant key generate")
            .hint(format!("then:      affiant run --key affiant.key -- {program}{rest}")));
    }
    let mut signers: Signers = Vec::new();
    let mut consumed = Vec::new();
    for name in &args.keys.key {
        let loaded = keys::signing_key(name, args.keys.key_password_file.as_deref())?;
        loaded
            .key
            .sign(&[b"affiant probes its key before the command runs"])
            .map_err(|error| Failure::because(Kind::Run, format!("the signing key {name} cannot sign"), &error))?;
        if signers.iter().any(|signer| signer.public_key().key_id() == loaded.key.public_key().key_id()) {
            return Err(Failure::usage(format!("the signing key {name} is named twice")));
        }
        consumed.extend(loaded.consumed);
        signers.push(Box::new(loaded.key));
    }
    Ok((signers, consumed))
}

#[allow(clippy::too_many_arguments)] // each is one value of the request, made where it is checked
fn make_plan(
    args: &RunArgs,
    keep: &keep::Keep,
    environment: Arc<Environment>,
    mask: Arc<VariableMask>,
    redactor: Redactor,
    dir: PathBuf,
    step: String,
    consumed: &[String],
) -> Result<Plan, Failure> {
    let time_limit = args.attestor_time_limit.unwrap_or(Duration::from_secs(DEFAULT_TIME_LIMIT));
    let selection = |flag: &str, include: &[String], exclude: &[String]| {
        Selection::new(include, exclude)
            .map_err(|error| Failure::because(Kind::Run, format!("a glob of {flag} cannot be used"), &error))
    };
    let request = Request {
        child: Some(supervise::Request {
            program: args.command[0].clone(),
            args: args.command[1..].to_vec(),
            dir: Some(dir.clone()),
            env: Vec::new(), // once it is known what the attestors consume
            timeout: args.timeout,
            kill_after: args.kill_after,
            head: run::KEPT_TEXT,
            tail: run::KEPT_TEXT,
        }),
        snapshot: snapshot_options(
            args,
            keep,
            &dir,
            selection("--material-…-glob", &args.material_include_glob, &args.material_exclude_glob)?,
        )?,
        product_subjects: selection(
            "--attestor-product-…-glob",
            &args.attestor_product_include_glob,
            &args.attestor_product_exclude_glob,
        )?,
        subjects: subjects(&args.subjects)?,
        before: Before {
            step,
            dir,
            env: environment,
            mask,
            host: surroundings::host(),
            command: args.command.clone(),
            now: surroundings::now(),
            network: surroundings::network(args.offline, time_limit),
        },
        choice: if args.attestations.is_empty() { Choice::Automatic } else { Choice::Named(args.named()) },
        options: args.attestor_options.clone(),
        ignore_exit_code: args.ignore_command_exit_code,
        redactor,
        observation: observation(&args.command),
        engine: if args.offline { None } else { surroundings::engine() },
        time_limit,
    };
    let mut plan = run::plan(request, BUILT_IN).map_err(|error| match &error {
        PlanError::UnknownAttestor { name } => {
            let names = BUILT_IN.iter().map(|attestor| attestor.about.name);
            let failure = Failure::new(Kind::Run, error.to_string());
            match nearest(name, names.clone()) {
                Some(near) => failure.hint(format!("did you mean `{near}`?")),
                None => failure.hint(format!("known attestors: {}", names.collect::<Vec<_>>().join(", "))),
            }
        }
        _ => Failure::because(Kind::Run, "the run cannot be planned", &error),
    })?;
    let mut consumed = consumed.to_vec();
    consumed.extend(plan.consumed().map(str::to_owned));
    let (environment, withheld) = child_environment(&consumed, &args.child_env_keep);
    plan.set_environment(environment, withheld);
    Ok(plan)
}

fn snapshot_options(
    args: &RunArgs,
    keep: &keep::Keep,
    dir: &Path,
    materials: Selection,
) -> Result<snapshot::Options, Failure> {
    let mut hashes = split(&args.hashes)
        .iter()
        .map(|name| name.parse::<Algorithm>())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::because(Kind::Run, "--hashes cannot be used", &error))?;
    // Attestors and subjects lean on SHA-256: it is always there.
    hashes.push(Algorithm::Sha256);
    hashes.sort();
    hashes.dedup();
    let mut options = snapshot::Options::new(dir.to_owned());
    options.hashes = hashes;
    options.dirhash = args
        .dirhash_glob
        .iter()
        .map(|pattern| Glob::new(pattern))
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::because(Kind::Run, "a glob of --dirhash-glob cannot be used", &error))?;
    options.materials = materials;
    options.own_outputs = keep.own_outputs();
    options.own_exports_of = keep.outfile();
    options.threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    options.mode = match args.snapshot {
        SnapshotMode::Keys => snapshot::Mode::Keys,
        SnapshotMode::Full => snapshot::Mode::Full,
    };
    Ok(options)
}

/// How much of the command's work happens where we can see it.
fn observation(command: &[OsString]) -> Observation {
    match container_command::talks_to_daemon(command) {
        Some(reason) => Observation { level: ObservationLevel::ClientOnly, reason: reason.to_owned() },
        None => Observation {
            level: ObservationLevel::Command,
            reason: "the command worked in the recorded folder".to_owned(),
        },
    }
}

/// The command's environment: ours, less what this run itself consumed (security rule 2).
fn child_environment(consumed: &[String], keep: &[String]) -> (Vec<(OsString, OsString)>, Vec<String>) {
    let consumed_values: Vec<OsString> =
        consumed.iter().filter_map(std::env::var_os).filter(|v| !v.is_empty()).collect();
    let mut withheld = Vec::new();
    let env = std::env::vars_os()
        .filter(|(name, value)| {
            let name = name.to_string_lossy();
            let consumed = consumed.iter().any(|consumed| *consumed == name)
                || name == keys::PASSWORD_VARIABLES[0]
                || consumed_values.contains(value);
            let kept = keep.iter().any(|keep| *keep == name);
            if consumed && !kept {
                withheld.push(name.into_owned());
            }
            !consumed || kept
        })
        .collect();
    withheld.sort();
    (env, withheld)
}

/// `NAME` or `NAME=ALGORITHM:HEX`.
fn subjects(values: &[String]) -> Result<Vec<Subject>, Failure> {
    values
        .iter()
        .map(|value| {
            let bad = |reason: &str| Failure::usage(format!("--subjects {value}: {reason}"));
            let Some((name, digest)) = value.rsplit_once('=').filter(|(_, digest)| digest.contains(':')) else {
                return if value.is_empty() {
                    Err(bad("is empty"))
                } else {
                    Ok(Subject::new(value, DigestSet::of_text(value)))
                };
            };
            let (algorithm, hex) = digest.split_once(':').unwrap_or_default();
            let size = match algorithm {
                "sha1" => 40,
                "sha256" => 64,
                "sha384" => 96,
                "sha512" => 128,
                _ => return Err(bad("the algorithm is none of sha1, sha256, sha384, sha512")),
            };
            if name.is_empty() {
                Err(bad("has no name"))
            } else if hex.len() != size || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                Err(bad(&format!("a {algorithm} digest has {size} lower-case hex digits")))
            } else {
                Ok(Subject::new(name, DigestSet([(algorithm.to_owned(), hex.to_owned())].into())))
            }
        })
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

    #[test]
    fn subjects_of_the_user() {
        let ok = subjects(&["release=1".into(), format!("a=b=sha256:{}", "0".repeat(64))]).expect("valid");
        assert_eq!(ok[0].digest, DigestSet::of_text("release=1"));
        assert_eq!(ok[1].name, "a=b");
        for bad in ["", "x=md5:00", "x=sha256:00", &format!("x=sha1:{}", "G".repeat(40))] {
            assert!(subjects(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
