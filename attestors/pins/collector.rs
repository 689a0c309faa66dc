//! What was found, and the files that are still to be read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use affiant_core::attestor::Environment;
use affiant_core::digest::DigestSet;
use serde::Serialize;

use super::files::Repository;
use super::reference::{Said, is_dynamic};
use super::{dockerfile, github, gitlab};
use crate::yaml::{Id, Tree};

/// Most references that are recorded: a rule can read so many within its limits.
pub(super) const MAX_PINS: usize = 10_000;
/// Most things that are told as not read.
const MAX_GAPS: usize = 1000;
/// Longest reference that is recorded, in bytes.
const MAX_REFERENCE: usize = 1024;

/// What a reference is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// An action of GitHub.
    Action,
    /// A reusable workflow of GitHub.
    Workflow,
    /// An image that a job, a service or an action runs in.
    Image,
    /// An image that a build takes in.
    Base,
    /// The image that reads a Dockerfile (`# syntax=`).
    Frontend,
    /// A repository that is a build's context.
    Context,
    /// A part of a pipeline of GitLab.
    Include,
}

/// A reference.
#[derive(Debug, Serialize)]
pub(super) struct Pin {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    kind: Kind,
    reference: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expanded: Option<String>,
    pinned: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dynamic: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<DigestSet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

impl Pin {
    /// What pins are sorted by.
    pub(super) fn place(&self) -> (&str, Option<u64>) {
        (&self.file, self.line)
    }
}

/// Where a reference stands.
#[derive(Clone, Debug)]
pub(super) struct At {
    /// The file, or in brackets what else it is.
    pub(super) file: String,
    /// The line, counted from 1.
    pub(super) line: Option<u64>,
}

impl At {
    /// A line of a file.
    pub(super) fn line(file: &str, line: u64) -> Self {
        Self { file: file.to_owned(), line: Some(line) }
    }

    /// What is no file: a variable or the command.
    pub(super) fn outside(name: &str) -> Self {
        Self { file: format!("({name})"), line: None }
    }
}

/// Something that was not read.
#[derive(Debug, Serialize)]
pub(super) struct Gap {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    kind: &'static str,
    reason: String,
}

impl Gap {
    /// As a text that begins with file and line.
    pub(super) fn text(&self) -> String {
        let file = self.file.as_deref().unwrap_or_default();
        match self.line {
            Some(line) => format!("{file}:{line}: {}", self.reason),
            None if file.is_empty() => self.reason.clone(),
            None => format!("{file}: {}", self.reason),
        }
    }
}

/// A Dockerfile and how it is built.
#[derive(Clone, Debug, Default)]
pub(super) struct Build {
    /// What it is called.
    pub(super) name: String,
    /// Where it is, if not in the repository under its name.
    pub(super) path: Option<PathBuf>,
    /// `--build-arg`; no value where it is not known.
    pub(super) args: BTreeMap<String, Option<String>>,
    /// Names of `--build-context`.
    pub(super) contexts: BTreeSet<String>,
}

/// A file to be read.
enum Task {
    /// A workflow of GitHub.
    Workflow(String),
    /// The folder of an action.
    Action(String),
    /// A pipeline of GitLab.
    Gitlab(String),
    Dockerfile(Build),
}

/// Collects.
pub(super) struct Collector<'a> {
    pub(super) repository: Repository,
    pub(super) env: &'a Environment,
    pub(super) pins: Vec<Pin>,
    pub(super) gaps: Vec<Gap>,
    /// Files by role, each once.
    met: BTreeSet<String>,
    queue: VecDeque<(Task, At)>,
    full: bool,
}

impl<'a> Collector<'a> {
    pub(super) fn new(repository: Repository, env: &'a Environment) -> Self {
        Self {
            repository,
            env,
            pins: Vec::new(),
            gaps: Vec::new(),
            met: BTreeSet::new(),
            queue: VecDeque::new(),
            full: false,
        }
    }

    /// Notes what was not read.
    pub(super) fn gap(&mut self, at: Option<&At>, kind: &'static str, reason: impl Into<String>) {
        let (file, line) = at.map(|at| (at.file.clone(), at.line)).unzip();
        match self.gaps.len() {
            0..MAX_GAPS => self.gaps.push(Gap { file, line: line.flatten(), kind, reason: reason.into() }),
            MAX_GAPS => {
                let reason = format!("more than {MAX_GAPS} things were not read");
                self.gaps.push(Gap { file: None, line: None, kind: "limit", reason });
            }
            _ => {}
        }
    }

    /// Notes a reference, as it is written and as it is expanded.
    pub(super) fn pin(&mut self, at: At, kind: Kind, reference: &str, expanded: Option<&str>, said: Said) {
        self.unpinned(at, kind, reference, expanded, said, None);
    }

    /// The same, where a variable's value is shown but does not count, for it may be another one tomorrow.
    pub(super) fn variable_pin(&mut self, at: At, kind: Kind, reference: &str, expanded: Option<&str>, said: Said) {
        let (dynamic, before) = (said.by.is_none() && is_dynamic(reference), self.pins.len());
        self.unpinned(at, kind, reference, expanded, said, None);
        for pin in &mut self.pins[before..] {
            pin.dynamic = dynamic;
        }
    }

    /// The same, with why it is not pinned whatever it looks like.
    pub(super) fn unpinned(
        &mut self,
        at: At,
        kind: Kind,
        reference: &str,
        expanded: Option<&str>,
        said: Said,
        why: Option<&'static str>,
    ) {
        if self.pins.len() >= MAX_PINS {
            if !self.full {
                self.full = true;
                self.gap(Some(&at), "limit", format!("here and behind are more than {MAX_PINS} references"));
            }
            return;
        }
        let long = reference.len() > MAX_REFERENCE || expanded.is_some_and(|text| text.len() > MAX_REFERENCE);
        let why = if long { Some("it is too long") } else { why };
        let pinned = said.by.is_some() && why.is_none();
        self.pins.push(Pin {
            file: at.file,
            line: at.line,
            kind,
            reference: cut(reference),
            expanded: expanded.filter(|text| *text != reference).map(cut),
            pinned,
            by: said.by.filter(|_| pinned),
            dynamic: !pinned && is_dynamic(expanded.unwrap_or(reference)),
            digest: said.digest.filter(|_| pinned),
            publisher: said.publisher.map(|text| cut(&text)),
            version: said.version.map(|text| cut(&text)),
            why,
        });
    }

    fn later(&mut self, key: String, task: Task, from: At) {
        if self.met.insert(key) {
            self.queue.push_back((task, from));
        }
    }

    /// A workflow is to be read, which is named there.
    pub(super) fn workflow(&mut self, path: String, from: At) {
        self.later(format!("workflow {path}"), Task::Workflow(path), from);
    }

    /// An action is to be read.
    pub(super) fn action(&mut self, folder: String, from: At) {
        self.later(format!("action {folder}"), Task::Action(folder), from);
    }

    /// A pipeline of GitLab is to be read.
    pub(super) fn gitlab(&mut self, path: String, from: At) {
        self.later(format!("gitlab {path}"), Task::Gitlab(path), from);
    }

    /// A Dockerfile is to be read. It may be read several times, with other arguments.
    pub(super) fn dockerfile(&mut self, build: Build, from: At) {
        self.later(format!("build {build:?}"), Task::Dockerfile(build), from);
    }

    /// Reads all files, and those that they name.
    pub(super) fn run(&mut self) {
        while let Some((task, from)) = self.queue.pop_front() {
            match task {
                Task::Workflow(path) => self.tree(&path, &from, github::workflow),
                Task::Gitlab(path) => self.tree(&path, &from, gitlab::pipeline),
                Task::Action(folder) => {
                    let names = ["action.yml", "action.yaml"].map(|name| super::files::join(&folder, name));
                    let dockerfile = super::files::join(&folder, "Dockerfile");
                    match names.iter().find(|name| self.repository.has(name)) {
                        Some(name) => self.tree(name, &from, github::action),
                        None if self.repository.has(&dockerfile) => {
                            self.dockerfile(Build { name: dockerfile, ..Build::default() }, from);
                        }
                        None => {
                            let reason = format!("the action {} is not there: its files were not read", names[0]);
                            self.gap(Some(&from), "missing", reason);
                        }
                    }
                }
                Task::Dockerfile(build) => {
                    let text = match &build.path {
                        Some(path) => self.repository.text_of(&build.name, path),
                        None => self.repository.text(&build.name),
                    };
                    match text {
                        Ok(text) => dockerfile::read(self, &build, &text),
                        Err(reason) => self.unread(&build.name, &from, &reason),
                    }
                }
            }
        }
    }

    /// Notes where a file of the pipeline is not that of the commit which the provider runs. Where the repository does
    /// not have the commit, nothing can be said.
    #[cfg(feature = "git")]
    pub(super) fn compare(&mut self, path: &str, commit: &str) {
        let committed = self.repository.git_root().and_then(|root| crate::git::file_of_commit(root, commit, path));
        let (Some(committed), Ok(text)) = (committed, self.repository.peek(path)) else { return };
        // A checkout may convert the ends of lines.
        let plain = |bytes: &[u8]| bytes.iter().copied().filter(|byte| *byte != b'\r').collect::<Vec<u8>>();
        if plain(&committed) != plain(text.as_bytes()) {
            let at = At { file: path.to_owned(), line: None };
            let reason = format!("the file in the workspace is not that of the commit {}, which runs", cut(commit));
            self.gap(Some(&at), "differs", reason);
        }
    }

    /// Without git there is nothing to compare with.
    #[cfg(not(feature = "git"))]
    #[expect(clippy::unused_self, reason = "the same call with and without git")]
    pub(super) fn compare(&mut self, _: &str, _: &str) {}

    fn tree(&mut self, path: &str, from: &At, read: fn(&mut Self, &str, &Tree)) {
        let text = match self.repository.text(path) {
            Ok(text) => text,
            Err(reason) => return self.unread(path, from, &reason),
        };
        match Tree::read(&text) {
            Ok(tree) => {
                read(self, path, &tree);
                if let Some(line) = tree.given_up() {
                    self.gap(Some(&At::line(path, line)), "limit", "maps are merged (`<<`) without end");
                }
            }
            Err(error) => self.gap(Some(&At::line(path, error.line)), "syntax", error.reason),
        }
    }

    fn unread(&mut self, path: &str, from: &At, reason: &str) {
        self.gap(Some(from), "unreadable", format!("{path}, which is named here, was not read: it {reason}"));
    }
}

fn cut(text: &str) -> String {
    if text.len() <= MAX_REFERENCE {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(MAX_REFERENCE)])
}

/// Nodes of a tree that were looked at in a role: what aliases repeat is looked at once.
#[derive(Default)]
pub(super) struct Seen(BTreeSet<(Id, &'static str)>);

impl Seen {
    /// Whether it is the first time.
    pub(super) fn first(&mut self, id: Id, role: &'static str) -> bool {
        self.0.insert((id, role))
    }
}
