//! `affiant run` and `affiant attest`: flags → request → plan → evidence → report.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failure::{Failure, Kind, nearest};
use super::image::After;
use super::keyless::Signers;
use super::names::{needs, part_of};
use super::output::Output;
use super::{Ending, archivista, ci, keys, surroundings};
use affiant_attestors::{BUILT_IN, container_command, git_remote_urls};
use affiant_core::attestor::{Before, Environment};
use affiant_core::digest::{Algorithm, DigestSet};
use affiant_core::form::Form;
use affiant_core::redact::{MaskOptions, Redactor, VariableMask};
use affiant_core::run::{self, AtRest, Observation, ObservationLevel, Outcome, Plan, PlanError, Request};
use affiant_core::select::{Glob, Selection};
use affiant_core::snapshot;
use affiant_core::statement::Subject;
use affiant_core::step;
use affiant_supervise as supervise;

mod args;
mod exports;
mod keep;
mod kept;
mod links;
mod progress;
mod reports;
mod server;
mod summary;

pub(crate) use args::{AttestArgs, CaptureArgs, RunArgs, duration, with_attestor_options};
use args::{OnGap, PlanOutput, SnapshotMode, split};

/// How long the attestors of one phase may take when nothing else is said, in seconds.
const DEFAULT_TIME_LIMIT: u64 = 900;

/// What evidence is made of.
#[derive(Clone, Copy)]
pub(super) enum Work<'a> {
    /// A command that is run.
    Command(&'a RunArgs),
    /// Things as they are.
    AtRest(&'a AttestArgs),
}

impl<'a> Work<'a> {
    fn args(self) -> &'a CaptureArgs {
        match self {
            Self::Command(args) => &args.capture,
            Self::AtRest(args) => &args.capture,
        }
    }

    fn command(self) -> &'a [OsString] {
        match self {
            Self::Command(args) => &args.command,
            Self::AtRest(_) => &[],
        }
    }

    /// The action that is wrapped.
    fn action(self) -> Option<&'a ci::Action> {
        match self {
            Self::Command(args) => args.action.as_ref(),
            Self::AtRest(_) => None,
        }
    }

    /// The images that get the evidence too.
    fn attach(self) -> Result<Option<After>, Failure> {
        match self {
            Self::Command(args) if args.attach.is_some() && args.capture.offline => {
                Err(Failure::usage("--attach asks a registry, and --offline says that no other machine is asked"))
            }
            Self::Command(args) => args.attach.as_deref().map(After::read).transpose(),
            Self::AtRest(_) => Ok(None),
        }
    }

    /// The exit code where the evidence failed and nothing else did.
    fn code_of_failed_evidence(self) -> i32 {
        match self {
            Self::Command(_) => 125,
            Self::AtRest(_) => 1,
        }
    }

    /// What did not happen when this is refused.
    fn not_done(self) -> &'static str {
        match self {
            Self::Command(_) => "nothing was run",
            Self::AtRest(_) => "nothing was signed",
        }
    }
}

pub(crate) fn run(args: &RunArgs, output: &Output) -> Result<Ending, Failure> {
    capture(Work::Command(args), output)
}

pub(crate) fn attest(args: &AttestArgs, output: &Output) -> Result<Ending, Failure> {
    capture(Work::AtRest(args), output).map_err(|mut failure| {
        // 125 is what stands between affiant and a command's own codes: here is no command.
        if failure.kind == Kind::Run {
            failure.kind = Kind::NoAnswer;
        }
        failure
    })
}

fn capture(work: Work<'_>, output: &Output) -> Result<Ending, Failure> {
    let reports = keep::reports(work.args())?;
    let mut log = summary::Log::default();
    let result = attempt(work, output, &mut log);
    if !reports.is_empty() {
        log.failure = result.as_ref().err().map(Failure::one_line);
        log.code = match (&result, work) {
            (Ok(Ending::Code(code)), _) => *code,
            (Ok(Ending::Done), _) => 0,
            (Err(_), Work::Command(_)) => 125,
            (Err(failure), Work::AtRest(_)) => match failure.kind {
                Kind::Run => 4,
                _ => failure.code().into(),
            },
        };
        for problem in reports.write(&log.report()) {
            output.message(&format!("warning: {problem}"));
        }
    }
    result
}

fn attempt(work: Work<'_>, output: &Output, log: &mut summary::Log) -> Result<Ending, Failure> {
    let args = work.args();
    let environment = Arc::new(surroundings::environment());
    let mask = Arc::new(mask(args)?);
    let identity = args.keys.secrets();
    let known = work.action().map(|action| action.known(&environment));
    // Passwords in the URLs of git remotes are secrets too.
    let redactor = git_remote_urls(args.workingdir.as_deref().unwrap_or(Path::new(".")))
        .iter()
        .fold(Redactor::new(known.as_ref().unwrap_or(&environment), work.command(), &mask), |redactor, url| {
            redactor.with_url(url)
        })
        .with_secrets(surroundings::raw_secrets(&mask))
        .with_secrets(args.archivista.header_args().secrets())
        .with_secrets(&identity.texts);
    output.mask(redactor.clone());
    log.redactor = Some(redactor.clone());

    let step = step_name(work)?;
    let clock = surroundings::clock()?;
    let dir = working_dir(args.workingdir.as_deref())?;
    // Neither is free text that could be masked (security rule 4).
    let names = std::iter::once(("step name", &step)).chain(args.subjects.iter().map(|text| ("subject", text)));
    for (what, text) in names {
        if redactor.hits_document(text.as_bytes()) {
            let not_done = work.not_done();
            return Err(Failure::new(
                Kind::Run,
                format!("the {what} holds the value of a secret variable, so {not_done}"),
            )
            .hint("take it out, or say with --env-allow-sensitive-key NAME that the variable is no secret"));
        }
    }
    let (signers, mut consumed) = signers(work, !args.plan, output)?;
    let mut secrets = args.archivista.header_args().secrets();
    consumed.extend(surroundings::holders(archivista::HEADERS, &secrets));
    consumed.extend(identity.variables);
    // Those of flags: others read this process's arguments.
    secrets.extend(identity.texts);
    let mut keep = keep::Keep::check(args, work.attach()?, &dir, &step, &signers)?;
    if !args.plan {
        keep.trusted_root = args.keys.signer.trusted_root(&args.keys.key, output)?;
    }
    keep.warn(output);
    let plan = make_plan(work, &keep, environment, mask, redactor, dir, step, &consumed)?;
    log.planned(&plan);
    if args.plan {
        let text = match args.plan_output {
            PlanOutput::Text => output.masked(&summary::plan_text(&plan, &keep, &signers)),
            PlanOutput::Json => log.plan_json(),
        };
        output.data(text.as_bytes())?;
        return Ok(Ending::Code(0));
    }
    if matches!(work, Work::AtRest(_)) && plan.always.contains(&"command-run") {
        return Err(Failure::usage("`command-run` needs a command, and `attest` runs none")
            .hint("`affiant run -- COMMAND` runs one"));
    }
    for name in &plan.always {
        output.message(&format!("note: `{name}` always runs and need not be named"));
    }
    if plan.form() == Form::Cilock && split(&args.hashes).iter().any(|hash| !hash.eq_ignore_ascii_case("sha256")) {
        output.message("note: the trees of cilock's form hold sha256 only; further digests stand in the subjects");
    }
    for (name, note) in plan.notes() {
        output.message(&format!("affiant: note: {name}: {note}"));
    }
    if let Some(action) = work.action() {
        for part in action.not_run() {
            output.message(&format!("affiant: note: `{part}` of the action is not run"));
        }
    }
    let reserve = keep.reserve(output);
    // No thread has been started yet.
    supervise::wipe_variables(&plan.withheld());
    if !supervise::wipe_arguments(&secrets) {
        output.message(
            "warning: the values of --archivista-headers and --identity-token may be in this process's arguments, where others read them: they could not be wiped",
        );
    }
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

    // Nothing was run that could not be done again: so this is refused, not told as a gap (security rule 4).
    if matches!(work, Work::AtRest(_)) && collected.counts.secret_documents > 0 {
        let reasons = collected.collection.gaps.iter().map(|gap| format!("{}: {}", gap.attestor, gap.reason));
        let failure = Failure::new(
            Kind::Denied,
            "a document holds the value of a secret variable of this environment, so nothing was signed",
        );
        return Err(reasons.fold(failure, Failure::hint).hint("take the value out of the document and make it again"));
    }
    let kept = keep.keep(&collected, &signers, reserve, &*clock, output)?;
    log.took("sealed and kept", begun);
    let evidence_failed =
        kept.failed || (keep.on_gap == OnGap::Fail && collected.collection.gaps.iter().any(|gap| gap.named));
    let code = exit_code(work, &collected, evidence_failed);
    log.collected(&collected, &kept, evidence_failed);
    summary::tell(&collected, &kept, output);
    Ok(Ending::Code(code))
}

/// The name that was given, or the program's.
fn step_name(work: Work<'_>) -> Result<String, Failure> {
    match (work, &work.args().step) {
        (Work::Command(args), _) if args.command.is_empty() => {
            Err(Failure::usage("there is no command to run").hint("put it behind `--`: affiant run -- make"))
        }
        (_, Some(step)) => Ok(step.clone()),
        (Work::Command(args), None) => step::step_name_of(&args.command[0]).ok_or_else(|| {
            Failure::usage("no step name can be made from the command").hint("name the step with `--step NAME`")
        }),
        (Work::AtRest(_), None) => Err(Failure::usage("no step is named, and there is no command that could name it")
            .hint("name it with `--step NAME`")),
    }
}

/// The command's own code; 125 where it succeeded and the evidence did not, 1 where there was no command.
fn exit_code(work: Work<'_>, collected: &run::Collected, evidence_failed: bool) -> i32 {
    let own = collected.outcome.code();
    let ignored = collected.plan.ignores_exit_code() && matches!(collected.outcome, Outcome::Ran(_));
    let code = if ignored { 0 } else { own };
    if code == 0 && evidence_failed { work.code_of_failed_evidence() } else { code }
}

fn mask(args: &CaptureArgs) -> Result<VariableMask, Failure> {
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
fn token_variables(args: &CaptureArgs) -> impl Iterator<Item = String> {
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

/// Loads and probes the keys. Without a key or identity there is nothing to seal with, so nothing is done.
fn signers(work: Work<'_>, needed: bool, output: &Output) -> Result<Signers, Failure> {
    let args = work.args();
    if !args.keys.names_signer() && needed {
        let (tool, flag) = args.called.spelled_key();
        let rest = match work {
            Work::Command(args) => {
                let rest = if args.command.len() > 1 { " …" } else { "" };
                let program = args.command.first().map(|program| program.to_string_lossy().into_owned());
                format!("run {flag} affiant.key -- {}{rest}", program.unwrap_or_default())
            }
            Work::AtRest(_) => format!("attest {flag} affiant.key …"),
        };
        let not_done = work.not_done();
        return Err(Failure::new(Kind::Run, format!("there is no signing key, so {not_done}"))
            .hint("make one:  affiant key generate")
            .hint(format!("then:      {tool} {rest}"))
            .hint("or sign with an identity token: `--fulcio-url URL --timestamp-servers URL`"));
    }
    if args.offline {
        args.keys.signer.refuse_offline(&args.keys.key)?;
    }
    args.keys.signers(!needed, output)
}

#[allow(clippy::too_many_arguments)] // each is one value of the request, made where it is checked
fn make_plan(
    work: Work<'_>,
    keep: &keep::Keep,
    environment: Arc<Environment>,
    mask: Arc<VariableMask>,
    redactor: Redactor,
    dir: PathBuf,
    step: String,
    consumed: &[String],
) -> Result<Plan, Failure> {
    let args = work.args();
    let time_limit = args.attestor_time_limit.unwrap_or(Duration::from_secs(DEFAULT_TIME_LIMIT));
    let exports::Chosen { choice, options } = exports::choose(work)?;
    let child = match work {
        Work::Command(args) => Some(supervise::Request {
            program: args.command[0].clone(),
            args: args.command[1..].to_vec(),
            dir: Some(dir.clone()),
            env: Vec::new(), // once it is known what the attestors consume
            timeout: args.timeout,
            kill_after: args.kill_after,
            head: run::KEPT_TEXT,
            tail: run::KEPT_TEXT,
        }),
        Work::AtRest(_) => None,
    };
    let selection = |flag: &str, include: &[String], exclude: &[String]| {
        Selection::new(include, exclude)
            .map_err(|error| Failure::because(Kind::Run, format!("a glob of {flag} cannot be used"), &error))
    };
    let request = Request {
        child,
        at_rest: match work {
            Work::Command(_) => AtRest::default(),
            Work::AtRest(args) => at_rest(args, &dir)?,
        },
        form: args.form.into(),
        snapshot: snapshot_options(
            work,
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
            command: work.command().to_vec(),
            now: surroundings::now(),
            network: surroundings::network(args.offline, time_limit),
        },
        choice,
        options,
        ignore_exit_code: matches!(work, Work::Command(args) if args.ignore_command_exit_code),
        redactor,
        observation: observation(work.command()),
        engine: if args.offline { None } else { surroundings::engine() },
        time_limit,
    };
    let mut plan = run::plan(request, BUILT_IN).map_err(|error| match &error {
        PlanError::UnknownAttestor { name } => {
            let names = BUILT_IN.iter().map(|attestor| attestor.about.name);
            if let Some(part) = part_of(name) {
                return needs(&format!("the attestor `{name}`"), part);
            }
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
    if let Work::Command(args) = work {
        let (mut environment, withheld) = child_environment(&consumed, &args.child_env_keep);
        if let Some(action) = &args.action {
            let (name, value) = action.variable();
            environment.push((name.into(), value.into_os_string()));
        }
        plan.set_environment(environment, withheld);
    }
    Ok(plan)
}

/// The products of `attest`. Each must be there: nothing has been done yet.
fn at_rest(args: &AttestArgs, dir: &Path) -> Result<AtRest, Failure> {
    let globs = args
        .products
        .iter()
        .map(|pattern| Glob::new(pattern))
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::because(Kind::Usage, "a glob of --products cannot be used", &error))?;
    let paths = args.files.iter().map(|file| inside(file, dir)).collect::<Result<_, _>>()?;
    Ok(AtRest { paths, globs })
}

/// A file's path in the working directory `dir`, with `/`.
fn inside(file: &Path, dir: &Path) -> Result<String, Failure> {
    let wrong = |reason: String| Failure::usage(format!("the product {} {reason}", file.display()));
    let data = std::fs::metadata(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if !data.is_file() && !data.is_dir() {
        return Err(wrong("is neither a file nor a folder".to_owned()));
    }
    // A link counts under its own name, so the name is not resolved; folders are.
    let place = match (file.parent(), file.file_name()) {
        (Some(parent), Some(name)) if !data.is_dir() => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            parent.canonicalize().map(|parent| parent.join(name))
        }
        _ => file.canonicalize(),
    };
    let place = place.map_err(|error| wrong(format!("cannot be found: {error}")))?;
    let target = file.canonicalize().map_err(|error| wrong(format!("cannot be found: {error}")))?;
    match place.strip_prefix(dir).ok().filter(|_| target.starts_with(dir)).map(Path::to_str) {
        Some(Some(path)) => Ok(path.to_owned()),
        Some(None) => Err(wrong("has a name that is not UTF-8".to_owned())),
        None => Err(wrong(format!("does not lie in {}", dir.display()))
            .hint("name the folder that is recorded with `--workingdir DIR`")),
    }
}

fn snapshot_options(
    work: Work<'_>,
    keep: &keep::Keep,
    dir: &Path,
    materials: Selection,
) -> Result<snapshot::Options, Failure> {
    let args = work.args();
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
    options.mode = match work {
        Work::Command(args) if args.snapshot == SnapshotMode::Full => snapshot::Mode::Full,
        Work::Command(_) | Work::AtRest(_) => snapshot::Mode::Keys,
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
                || name == ci::INPUTS
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
    fn subjects_of_the_user() {
        let ok = subjects(&["release=1".into(), format!("a=b=sha256:{}", "0".repeat(64))]).expect("valid");
        assert_eq!(ok[0].digest, DigestSet::of_text("release=1"));
        assert_eq!(ok[1].name, "a=b");
        for bad in ["", "x=md5:00", "x=sha256:00", &format!("x=sha1:{}", "G".repeat(40))] {
            assert!(subjects(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
