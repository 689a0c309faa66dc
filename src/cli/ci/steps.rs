//! `affiant ci action`: the process that runs a wrapped action, as the command of `affiant run`.
//!
//! It does what GitHub's runner does around a step: inputs as variables, a file each for outputs, variables and the path,
//! and what was written there is passed on to the job.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use affiant_attestors::github_action::expression::{Reference, expand};
use affiant_attestors::github_action::files;
use affiant_attestors::github_action::metadata::{Metadata, Runs, Shell, Step};
use affiant_core::digest::sha256_hex;
use affiant_supervise as supervise;

use super::action::{OUTPUTS, TASK, Task, input_variable, plain, write_private};
use crate::cli::surroundings::variable;

/// Largest file of outputs, variables or paths that a step may write, in bytes: GitHub's limit for all outputs of a job.
const MAX_FILE: u64 = 50 << 20;
/// Largest task that is read, in bytes.
const MAX_TASK: u64 = 64 << 20;
/// The output that has all outputs of the action: an action that is composite itself can name no others.
const ALL_OUTPUTS: &str = "action-outputs";
/// Outputs of ours. One of the action that is called so stands in [`ALL_OUTPUTS`] only.
const OURS: [&str; 6] =
    [ALL_OUTPUTS, "attestation_file", "attestation_digest", "attestation_kind", "evidence_folder", "git_oid"];
/// Variables that a step cannot give to later ones, as with GitHub's runner.
const FIXED: [&str; 4] = ["GITHUB_", "RUNNER_", "NODE_OPTIONS", TASK];

/// Runs the action whose task this process was given. The exit code, or why there is none.
pub(crate) fn run() -> Result<i32, String> {
    let file = variable(TASK).map(PathBuf::from).ok_or("this is called by `affiant ci github`")?;
    let scratch = file.parent().ok_or("the task has no folder")?.to_owned();
    let within = |error: &dyn std::fmt::Display| format!("the task of the action cannot be read: {error}");
    let text = files::read(&file, MAX_TASK).map_err(|error| within(&error))?;
    std::fs::remove_file(&file).map_err(|error| within(&error))?;
    let task: Task = serde_json::from_str(&text).map_err(|error| within(&error))?;
    let metadata = Metadata::read(&task.text).map_err(|error| within(&error))?;
    let mut runner = Runner::new(task, scratch);
    let (code, outputs) = runner.action(&metadata)?;
    runner.hand_over(&outputs)?;
    Ok(code)
}

type Outputs = BTreeMap<String, String>;

struct Runner {
    task: Task,
    scratch: PathBuf,
    env: BTreeMap<OsString, OsString>,
    /// Outputs of the steps that have an id.
    steps: BTreeMap<String, Outputs>,
    /// How many steps were begun.
    begun: usize,
}

impl Runner {
    fn new(task: Task, scratch: PathBuf) -> Self {
        let mut env: BTreeMap<OsString, OsString> = std::env::vars_os().filter(|(name, _)| name != TASK).collect();
        for (name, value) in &task.env {
            env.insert(name.into(), value.into());
        }
        env.insert("GITHUB_ACTION_PATH".into(), task.folder.clone().into());
        for (name, value) in [
            ("GITHUB_ACTION_REPOSITORY", task.origin.as_ref().map(|(repository, _)| repository)),
            ("GITHUB_ACTION_REF", task.origin.as_ref().map(|(_, reference)| reference)),
        ] {
            match value {
                Some(value) => env.insert(name.into(), value.into()),
                None => env.remove(std::ffi::OsStr::new(name)),
            };
        }
        Self { task, scratch, env, steps: BTreeMap::new(), begun: 0 }
    }

    /// Runs all of it; the exit code and the outputs.
    fn action(&mut self, metadata: &Metadata) -> Result<(i32, Outputs), String> {
        match &metadata.runs {
            Runs::JavaScript { using, main, .. } => {
                for (name, value) in &self.task.inputs {
                    self.env.insert(input_variable(name).into(), value.into());
                }
                let program = self.node(using);
                let args = vec![self.task.folder.join(main).into_os_string()];
                self.one(program, args, Vec::new(), None)
            }
            Runs::Composite(steps) => {
                let mut code = 0;
                for step in steps {
                    code = self.step(step)?;
                    if code != 0 {
                        break;
                    }
                }
                let mut outputs = Outputs::new();
                for (name, value) in &metadata.outputs {
                    outputs.insert(name.clone(), self.expand(value.as_deref().unwrap_or_default())?);
                }
                Ok((code, outputs))
            }
        }
    }

    /// Node.js of the runner, else that of the path.
    fn node(&self, using: &str) -> OsString {
        let temp = self.env.get(std::ffi::OsStr::new("RUNNER_TEMP")).map(Path::new);
        let root = temp.and_then(|temp| temp.parent()?.parent());
        let own = root.map(|root| root.join("externals").join(using).join("bin/node"));
        own.filter(|own| own.is_file()).map_or_else(|| "node".into(), PathBuf::into_os_string)
    }

    fn expand(&self, text: &str) -> Result<String, String> {
        let variable = |name: &str| {
            let value = self.env.get(std::ffi::OsStr::new(name))?;
            value.to_str().filter(|value| !value.is_empty()).map(str::to_owned)
        };
        expand(text, &|reference| match reference {
            Reference::Input(name) => {
                let mut inputs = self.task.inputs.iter();
                let found = inputs.find(|(known, _)| known.eq_ignore_ascii_case(name));
                Ok(found.map(|(_, value)| value.clone()).unwrap_or_default())
            }
            Reference::Output(id, name) => {
                let outputs = self.steps.get(id).into_iter().flatten();
                let mut found = outputs.filter(|(known, _)| known.eq_ignore_ascii_case(name));
                Ok(found.next().map(|(_, value)| value.clone()).unwrap_or_default())
            }
            reference => plain(reference, &self.task.folder, &variable),
        })
    }

    fn step(&mut self, step: &Step) -> Result<i32, String> {
        let script = self.scratch.join(format!("{}.sh", self.begun));
        let text = self.expand(&step.run)?;
        write_private(&script, text.as_bytes()).map_err(|error| format!("{}: {error}", script.display()))?;
        let (program, args): (&str, &[&str]) = match step.shell {
            Shell::Bash => ("bash", &["--noprofile", "--norc", "-eo", "pipefail"]),
            Shell::Sh => ("sh", &["-e"]),
        };
        let args = args.iter().map(OsString::from).chain([script.into_os_string()]).collect();
        let mut env = Vec::new();
        for (name, value) in &step.env {
            let value = self.expand(value)?;
            if value.contains('\0') {
                return Err(format!("the variable {name} of a step holds a zero byte"));
            }
            env.push((OsString::from(name), OsString::from(value)));
        }
        let dir = step.dir.as_deref().map(|dir| self.expand(dir)).transpose()?.map(PathBuf::from);
        let (code, outputs) = self.one(program.into(), args, env, dir)?;
        if let Some(id) = &step.id {
            self.steps.insert(id.clone(), outputs);
        }
        Ok(code)
    }

    /// Runs one program, and takes what it tells the runner.
    fn one(
        &mut self,
        program: OsString,
        args: Vec<OsString>,
        more: Vec<(OsString, OsString)>,
        dir: Option<PathBuf>,
    ) -> Result<(i32, Outputs), String> {
        let mut env = self.env.clone();
        env.extend(more);
        let mut told = BTreeMap::new();
        for name in ["GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE"] {
            let file = self.scratch.join(format!("{}-{name}", self.begun));
            write_private(&file, b"").map_err(|error| format!("{}: {error}", file.display()))?;
            env.insert(name.into(), file.clone().into_os_string());
            told.insert(name, file);
        }
        self.begun += 1;
        let shown = program.to_string_lossy().into_owned();
        let request = supervise::Request { program, args, dir, env: env.into_iter().collect(), ..Default::default() };
        let ran = supervise::supervise(&request)
            .map_err(|error| format!("{shown}: {}", affiant_core::run::not_started(&error)))?;
        let read = |name: &str| {
            let text = files::read(&told[name], MAX_FILE).map_err(|error| format!("{name}: {error}"))?;
            if text.contains('\0') { Err(format!("{name}: a zero byte")) } else { Ok(text) }
        };
        let outputs = files::parse(&read("GITHUB_OUTPUT")?).map_err(|why| format!("GITHUB_OUTPUT: {why}"))?;
        let variables = read("GITHUB_ENV")?;
        for (name, value) in files::parse(&variables).map_err(|why| format!("GITHUB_ENV: {why}"))? {
            if !FIXED.iter().any(|fixed| name.starts_with(fixed)) {
                self.env.insert(name.into(), value.into());
            }
        }
        let paths = read("GITHUB_PATH")?;
        for folder in paths.lines().filter(|line| !line.is_empty()) {
            let path = self.env.entry("PATH".into()).or_default();
            let rest = std::mem::take(path);
            path.push(folder);
            path.push(":");
            path.push(rest);
        }
        pass_on("GITHUB_ENV", &variables)?;
        pass_on("GITHUB_PATH", &paths)?;
        Ok((ran.ending.code(), outputs.into_iter().collect()))
    }

    /// Leaves the outputs for the evidence, and passes them on to the job.
    fn hand_over(&self, outputs: &Outputs) -> Result<(), String> {
        let all = serde_json::to_string(outputs).map_err(|error| error.to_string())?;
        write_private(&self.scratch.join(OUTPUTS), all.as_bytes())
            .map_err(|error| format!("the outputs cannot be kept: {error}"))?;
        let own = (ALL_OUTPUTS.to_owned(), all);
        let theirs = outputs.iter().filter(|(name, _)| !OURS.contains(&name.as_str()));
        let mut text = String::new();
        for (name, value) in theirs.chain([(&own.0, &own.1)]) {
            // A value cannot hold its own digest.
            let end = format!("affiant_{}", sha256_hex(value.as_bytes()));
            text.extend([name, "<<", &end, "\n", value, "\n", &end, "\n"]);
        }
        pass_on("GITHUB_OUTPUT", &text)
    }
}

/// Appends to a file of the job, where there is one.
fn pass_on(name: &str, text: &str) -> Result<(), String> {
    let Some(path) = variable(name).map(PathBuf::from).filter(|_| !text.is_empty()) else { return Ok(()) };
    let within = |error: std::io::Error| format!("{name} of the job: {error}");
    // What others wrote stays on its own line.
    let open = files::read(&path, u64::MAX - 1).is_ok_and(|old| !old.is_empty() && !old.ends_with('\n'));
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(&path).map_err(within)?;
    let (before, after) = (if open { "\n" } else { "" }, if text.ends_with('\n') { "" } else { "\n" });
    file.write_all(format!("{before}{text}{after}").as_bytes()).map_err(within)
}
