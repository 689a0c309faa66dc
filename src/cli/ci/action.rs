//! An action that is wrapped (`action-ref`): found, read and checked before anything runs.
//!
//! Source: "Metadata syntax for GitHub Actions" and "Variables reference" (docs.github.com); the folder `_actions` is
//! where GitHub's runner puts the actions that a job uses.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use affiant_attestors::git_is_committed;
use affiant_attestors::github_action::expression::{Reference, expand};
use affiant_attestors::github_action::metadata::{MAX_METADATA, Metadata, Runs, is_variable, texts};
use affiant_attestors::github_action::{Wrapped, files};
use affiant_core::attestor::Environment;
use affiant_core::digest::sha256_hex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::cli::failure::nearest;

/// Names the file with the task for the process that runs the action.
pub(crate) const TASK: &str = "AFFIANT_ACTION_TASK";
/// Its file with the outputs, beside the task.
pub(super) const OUTPUTS: &str = "outputs.json";

/// What the process that runs the action is told. It lies in a folder that only this account can read.
#[derive(Deserialize, Serialize)]
pub(super) struct Task {
    pub(super) folder: PathBuf,
    /// The text of `action.yml` that was checked.
    pub(super) text: String,
    pub(super) inputs: BTreeMap<String, String>,
    pub(super) env: Vec<(String, String)>,
    /// Owner and repository, and the reference, of an action of another repository.
    pub(super) origin: Option<(String, String)>,
}

/// What is known of the job.
pub(super) struct Job<'a> {
    /// Below it are actions that are named by their path.
    pub(super) workspace: PathBuf,
    /// Folders into which the runner fetches actions.
    pub(super) fetched: Vec<PathBuf>,
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
}

/// An action that can be run.
#[derive(Debug)]
pub(crate) struct Action {
    reference: String,
    folder: PathBuf,
    metadata: Metadata,
    file: &'static str,
    text: String,
    inputs: BTreeMap<String, String>,
    /// Inputs that are the job's token.
    secrets: Vec<String>,
    env: Vec<(String, String)>,
    origin: Option<(String, String)>,
    pinned: bool,
    scratch: Scratch,
}

/// A folder that only this account can read, until it is dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new(within: &Path) -> Result<Self, String> {
        for number in 0..1000_u16 {
            let path = within.join(format!("affiant-action-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("{} cannot be made: {error}", path.display())),
            }
        }
        Err(format!("{} is full of folders of ours", within.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is the runner's to remove with its temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes a new file that only this account can read.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

impl Action {
    /// Finds and checks an action; the error is the input that is wrong, and why. `scratch` is the folder for temporary
    /// files.
    pub(super) fn prepare(
        inputs: &BTreeMap<String, String>,
        job: &Job<'_>,
        scratch: &Path,
    ) -> Result<Self, (&'static str, String)> {
        let get = |name: &str| inputs.get(name).map(String::as_str).unwrap_or_default();
        let of = |name: &'static str| move |why: String| (name, why);
        let reference = get("action-ref").trim();
        let found = find(reference, job).map_err(of("action-ref"))?;
        let within = |why: String| ("action-ref", format!("{}: {why}", found.folder.join(found.file).display()));
        let metadata = Metadata::read(&found.text).map_err(|error| within(error.to_string()))?;
        let given = given(get("action-inputs")).map_err(of("action-inputs"))?;
        let (inputs, secrets) = inputs_of(&metadata, given, job, &found.folder).map_err(of("action-inputs"))?;
        let env = variables_of(get("action-env")).map_err(of("action-env"))?;
        check(&metadata, &found.folder, job).map_err(within)?;
        let pinned = if let Some((_, reference)) = &found.origin {
            is_commit(reference)
        } else {
            let mut files = vec![found.file];
            if let Runs::JavaScript { main, .. } = &metadata.runs {
                files.push(main.trim_start_matches("./"));
            }
            git_is_committed(&job.workspace, &found.folder, &files)
        };
        let scratch = Scratch::new(scratch).map_err(of("action-ref"))?;
        let Found { folder, file, text, origin } = found;
        let reference = reference.to_owned();
        let action = Self { reference, folder, metadata, file, text, inputs, secrets, env, origin, pinned, scratch };
        action.write_task().map_err(|error| ("action-ref", format!("its task cannot be written: {error}")))?;
        Ok(action)
    }

    fn task_file(&self) -> PathBuf {
        self.scratch.0.join("task.json")
    }

    fn write_task(&self) -> std::io::Result<()> {
        let task = Task {
            folder: self.folder.clone(),
            text: self.text.clone(),
            inputs: self.inputs.clone(),
            env: self.env.clone(),
            origin: self.origin.clone(),
        };
        write_private(&self.task_file(), &serde_json::to_vec(&task)?)
    }

    /// The variable that the process that runs the action gets.
    pub(crate) fn variable(&self) -> (&'static str, PathBuf) {
        (TASK, self.task_file())
    }

    /// The environment, and what the action gets besides: where a name says that a value is a secret, it is masked.
    pub(crate) fn known(&self, environment: &Environment) -> Environment {
        let inputs = self.inputs.iter().map(|(name, value)| (input_variable(name), value.clone()));
        let mut all = environment.0.clone();
        for (name, value) in inputs.chain(self.env.iter().cloned()) {
            // Both are secrets where the job has another value under the same name.
            let mut name = name;
            while all.contains_key(&name) {
                name.push('_');
            }
            all.insert(name, value);
        }
        Environment(all)
    }

    /// Parts of the action that are not run.
    pub(crate) fn not_run(&self) -> &[&'static str] {
        match &self.metadata.runs {
            Runs::JavaScript { others, .. } => others,
            Runs::Composite(_) => &[],
        }
    }

    /// What the attestor is told.
    pub(crate) fn options(&self) -> Map<String, Value> {
        let wrapped = Wrapped {
            reference: self.reference.clone(),
            kind: self.metadata.runs.name().to_owned(),
            name: self.metadata.name.clone(),
            folder: self.folder.display().to_string(),
            pinned: self.pinned,
            inputs: self.inputs.clone(),
            secrets: self.secrets.clone(),
            metadata: (self.file.to_owned(), sha256_hex(self.text.as_bytes())),
            not_run: self.not_run().iter().map(|name| (*name).to_owned()).collect(),
            outputs: self.scratch.0.join(OUTPUTS),
        };
        match serde_json::to_value(wrapped) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(), // the folder is not UTF-8: refused by `find`
        }
    }
}

/// The variable in which a program of Node.js finds an input.
pub(super) fn input_variable(name: &str) -> String {
    format!("INPUT_{}", name.to_uppercase())
}

/// A full commit: SHA-1 or SHA-256 in hex.
fn is_commit(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[derive(Debug)]
struct Found {
    folder: PathBuf,
    file: &'static str,
    text: String,
    origin: Option<(String, String)>,
}

/// Finds the folder of an action and reads its metadata.
fn find(reference: &str, job: &Job<'_>) -> Result<Found, String> {
    if reference.chars().any(|c| c.is_control() || c.is_whitespace()) || reference.contains("${{") {
        return Err("is no reference to an action".to_owned());
    }
    let (folder, origin) = if reference.starts_with("docker://") {
        return Err("an image is not wrapped: wrap its `docker run`, with `command`".to_owned());
    } else if reference == "." || reference.starts_with("./") {
        (below(&job.workspace, &job.workspace.join(reference))?, None)
    } else {
        let (folder, origin) = fetched(reference, job)?;
        (folder, Some(origin))
    };
    if folder.to_str().is_none() {
        return Err("its folder's name is not UTF-8".to_owned());
    }
    for file in ["action.yml", "action.yaml"] {
        let path = folder.join(file);
        if path.symlink_metadata().is_err() {
            continue;
        }
        let path = below(&folder, &path)?;
        let text = files::read(&path, MAX_METADATA).map_err(|error| format!("{}: {error}", path.display()))?;
        return Ok(Found { folder, file, text, origin });
    }
    Err(format!("{} has neither action.yml nor action.yaml", folder.display()))
}

/// The real path of something that must lie in a folder.
fn below(root: &Path, path: &Path) -> Result<PathBuf, String> {
    let real = |path: &Path| path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
    let found = real(path)?;
    if path.components().any(|part| part == Component::ParentDir) || !found.starts_with(real(root)?) {
        return Err(format!("{} leads out of {}", path.display(), root.display()));
    }
    Ok(found)
}

/// The folder of an action that the runner has fetched.
fn fetched(reference: &str, job: &Job<'_>) -> Result<(PathBuf, (String, String)), String> {
    let wrong =
        || "names no action: it is `./path` for one in the workspace, or `owner/repository/path@reference`".to_owned();
    let (name, version) = reference.split_once('@').ok_or_else(wrong)?;
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+'))
    };
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() < 2 || !parts.iter().copied().chain(version.split('/')).all(is_part) {
        return Err(wrong());
    }
    for actions in &job.fetched {
        let repository = actions.join(parts[0]).join(parts[1]).join(version);
        if repository.is_dir() {
            let repository = below(actions, &repository)?;
            let folder = below(&repository, &repository.join(parts[2..].join("/")))?;
            return Ok((folder, (parts[..2].join("/"), version.to_owned())));
        }
    }
    Err(format!(
        "the runner has not fetched it: add a step `uses: {reference}` with `if: false` to the job (a runner fetches all \
         actions of a job when it begins), or check {} out with `path:` and name it `./PATH`",
        parts[..2].join("/")
    ))
}

/// `action-inputs`: a JSON object, lines `name=value`, or a map in YAML.
fn given(text: &str) -> Result<Vec<(String, String)>, String> {
    let text = text.trim();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let Some(first) = first else { return Ok(Vec::new()) };
    if text.starts_with('{') {
        let members: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("is no JSON object: {error}"))?;
        let value = |(name, value): (String, Value)| match value {
            Value::String(text) => Ok((name, text)),
            Value::Null => Ok((name, String::new())),
            Value::Bool(_) | Value::Number(_) => Ok((name, value.to_string())),
            Value::Array(_) | Value::Object(_) => Err(format!("{name} is neither text, number nor truth value")),
        };
        return members.into_iter().map(value).collect();
    }
    if first.find('=').is_some_and(|at| first.find(':').is_none_or(|colon| at < colon)) {
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let pair = |(index, line): (usize, &str)| match line.split_once('=') {
            Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
            None => Err(format!("line {} has no `=`", index + 1)),
        };
        return lines.map(pair).collect();
    }
    texts(text).map_err(|error| error.to_string())
}

/// The values of the inputs, and the names of those that are the job's token.
fn inputs_of(
    metadata: &Metadata,
    given: Vec<(String, String)>,
    job: &Job<'_>,
    folder: &Path,
) -> Result<(BTreeMap<String, String>, Vec<String>), String> {
    let (mut inputs, mut secrets) = (BTreeMap::new(), Vec::new());
    for (name, value) in given {
        let Some(input) = metadata.inputs.iter().find(|input| input.name.eq_ignore_ascii_case(&name)) else {
            let near = nearest(&name, metadata.inputs.iter().map(|input| input.name.as_str()));
            let near = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            return Err(format!("the action has no input `{name}`{near}"));
        };
        if value.contains('\0') {
            return Err(format!("the input `{name}` holds a zero byte"));
        }
        if inputs.insert(input.name.clone(), value).is_some() {
            return Err(format!("the input `{name}` is given twice"));
        }
    }
    for input in &metadata.inputs {
        if inputs.contains_key(&input.name) {
            continue;
        }
        let name = &input.name;
        let Some(default) = &input.default else {
            if input.required {
                return Err(format!("the action needs the input `{name}`"));
            }
            inputs.insert(name.clone(), String::new());
            continue;
        };
        let token = std::cell::Cell::new(false);
        let value = expand(default, &|reference| {
            token.set(token.get() || *reference == Reference::Token);
            match reference {
                Reference::Input(_) | Reference::Output(..) => Err("it depends on another value".to_owned()),
                reference => plain(reference, folder, job.variable),
            }
        });
        let hint = "give this input a value in action-inputs";
        inputs.insert(name.clone(), value.map_err(|why| format!("the default of the input `{name}`: {why}; {hint}"))?);
        if token.get() {
            secrets.push(name.clone());
        }
    }
    Ok((inputs, secrets))
}

/// What a name stands for that needs neither inputs nor outputs.
pub(super) fn plain(
    reference: &Reference,
    folder: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    match reference {
        Reference::ActionPath => Ok(folder.display().to_string()),
        Reference::Token => variable("GITHUB_TOKEN").ok_or_else(|| {
            "`${{ github.token }}` is not handed on unless the step has it in `env` as GITHUB_TOKEN".to_owned()
        }),
        Reference::Variable(name) => Ok(variable(name).unwrap_or_default()),
        Reference::Input(name) | Reference::Output(name, _) => Err(format!("there is no `{name}`")),
    }
}

/// `action-env`: lines `NAME=VALUE`.
fn variables_of(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = index + 1;
        let (name, value) = line.split_once('=').ok_or_else(|| format!("line {at} has no `=`"))?;
        let name = name.trim();
        if !is_variable(name) {
            return Err(format!("line {at} has no name of a variable before its `=`"));
        }
        if ["GITHUB_", "RUNNER_", "INPUT_", "AFFIANT_"].iter().any(|prefix| name.starts_with(prefix)) {
            return Err(format!("{name} is not set by a step"));
        }
        if value.contains('\0') || variables.iter().any(|(known, _)| known == name) {
            return Err(format!("{name} is given twice, or holds a zero byte"));
        }
        variables.push((name.to_owned(), value.to_owned()));
    }
    Ok(variables)
}

/// Refuses what could not be done once the action runs.
fn check(metadata: &Metadata, folder: &Path, job: &Job<'_>) -> Result<(), String> {
    let steps = match &metadata.runs {
        Runs::JavaScript { main, .. } => {
            let file = below(folder, &folder.join(main))?;
            return if file.is_file() { Ok(()) } else { Err(format!("{} is no file", file.display())) };
        }
        Runs::Composite(steps) => steps,
    };
    let is_known = |text: &str, earlier: usize| {
        let of = |reference: &Reference| match reference {
            Reference::Input(name) if metadata.inputs.iter().any(|input| input.name.eq_ignore_ascii_case(name)) => {
                Ok(String::new())
            }
            Reference::Input(name) => Err(format!("the action has no input `{name}`")),
            Reference::Output(id, _) if steps[..earlier].iter().any(|step| step.id.as_ref() == Some(id)) => {
                Ok(String::new())
            }
            Reference::Output(id, _) => Err(format!("no earlier step has the id `{id}`")),
            reference => plain(reference, folder, job.variable),
        };
        expand(text, &of).map(|_| ())
    };
    for (index, step) in steps.iter().enumerate() {
        let texts = step.env.iter().map(|(_, value)| value).chain([&step.run]).chain(&step.dir);
        for text in texts {
            is_known(text, index).map_err(|why| format!("step {}: {why}", index + 1))?;
        }
    }
    for (name, value) in &metadata.outputs {
        is_known(value.as_deref().unwrap_or_default(), steps.len())
            .map_err(|why| format!("the output `{name}`: {why}"))?;
    }
    Ok(())
}

/// Folders into which the runner of this job fetches actions: `_actions` beside its temporary folder and beside the
/// folder of the repository, and the one in which our own action lies.
pub(super) fn fetched_folders(variable: &dyn Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let beside = ["RUNNER_TEMP", "RUNNER_WORKSPACE"].into_iter().filter_map(variable);
    let mut folders: Vec<PathBuf> =
        beside.filter_map(|folder| Some(Path::new(&folder).parent()?.join("_actions"))).collect();
    if let Some(own) = variable("GITHUB_ACTION_PATH") {
        folders.extend(Path::new(&own).ancestors().find(|above| above.ends_with("_actions")).map(Path::to_owned));
    }
    folders
}
