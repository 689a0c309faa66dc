//! Workflows and actions of GitHub: every `uses:`, `container:` and service image.

use super::collector::{At, Build, Collector, Kind, Seen};
use super::files::{self, Repository};
use super::reference::{self, Said, is_dynamic};
use crate::yaml::{Id, Tree};

/// The folder of workflows.
const FOLDER: &str = ".github/workflows";
const EXTENSIONS: [&str; 2] = ["yml", "yaml"];
/// Most workflows that are looked at for their name.
const MAX_WORKFLOWS: usize = 500;

/// The files of the workflow that runs now; a reason where they are not found.
pub(super) fn running(collector: &mut Collector<'_>) -> Result<Vec<String>, String> {
    let get = |name: &str| collector.env.get(name).filter(|value| !value.is_empty());
    if let Some(reference) = get("GITHUB_WORKFLOW_REF") {
        let path = EXTENSIONS.iter().find_map(|extension| {
            let end = format!(".{extension}");
            reference.find(&format!("{end}@")).map(|at| &reference[..at + end.len()])
        });
        let path = path.unwrap_or(reference);
        let (owner_and_name, file) = match path.match_indices('/').nth(1) {
            Some((at, _)) => (&path[..at], &path[at + 1..]),
            None => ("", path),
        };
        if let Some(repository) = get("GITHUB_REPOSITORY")
            && !repository.eq_ignore_ascii_case(owner_and_name)
        {
            return Err(format!("the workflow that runs is that of another repository: {reference}"));
        }
        let file = Repository::normal(file)?;
        return if collector.repository.has(&file) {
            Ok(vec![file])
        } else {
            Err(format!("the workflow that runs, {file}, is not in the workspace: check the repository out first"))
        };
    }
    let Some(name) = get("GITHUB_WORKFLOW") else {
        return Err("neither GITHUB_WORKFLOW_REF nor GITHUB_WORKFLOW says which workflow runs".to_owned());
    };
    let files = collector.repository.files_in(FOLDER, &EXTENSIONS).map_err(|reason| format!("{FOLDER} {reason}"))?;
    if files.len() > MAX_WORKFLOWS {
        return Err(format!("{FOLDER} has more than {MAX_WORKFLOWS} workflows"));
    }
    // A workflow without a name is called by its path.
    let by_path: Vec<String> =
        files.iter().filter(|file| *file == name || file.rsplit('/').next() == Some(name)).cloned().collect();
    if !by_path.is_empty() {
        return Ok(by_path);
    }
    let name = name.to_owned();
    let mut found = Vec::new();
    for file in files {
        // Only what is called so counts as read.
        let Ok(text) = collector.repository.peek(&file) else { continue };
        let Ok(tree) = Tree::read(&text) else { continue };
        let names = tree.tops.first().map(|top| tree.get(*top, "name")).unwrap_or_default();
        if names.iter().any(|id| tree.text(*id) == Some(&name)) {
            found.push(file);
        }
    }
    if found.is_empty() {
        return Err(format!("no workflow below {FOLDER} that can be read is called `{name}`"));
    }
    Ok(found)
}

/// Where in a file, and what of it was looked at.
struct Walk<'t> {
    file: &'t str,
    tree: &'t Tree,
    seen: Seen,
}

impl Walk<'_> {
    fn at(&self, id: Id) -> At {
        At::line(self.file, self.tree.line(id))
    }
}

/// A workflow.
pub(super) fn workflow(collector: &mut Collector<'_>, file: &str, tree: &Tree) {
    let mut walk = Walk { file, tree, seen: Seen::default() };
    let mut has_jobs = false;
    for top in &tree.tops {
        for jobs in tree.get(*top, "jobs") {
            has_jobs |= tree.is_map(jobs);
            for (_, job) in tree.entries(jobs) {
                self::job(collector, &mut walk, job);
            }
        }
    }
    if !has_jobs {
        collector.gap(Some(&At::line(file, 1)), "syntax", "this is no workflow: it has no jobs");
    }
}

fn job(collector: &mut Collector<'_>, walk: &mut Walk<'_>, job: Id) {
    let tree = walk.tree;
    if !walk.seen.first(job, "job") {
        return;
    }
    if !tree.is_map(job) {
        return collector.gap(Some(&walk.at(job)), "syntax", "a job that is no map");
    }
    for uses in tree.get(job, "uses") {
        self::uses(collector, walk, uses, Kind::Workflow);
    }
    for container in tree.get(job, "container") {
        image(collector, walk, container);
    }
    for services in tree.get(job, "services") {
        if tree.text(services).is_some() {
            image(collector, walk, services);
        }
        for (_, service) in tree.entries(services) {
            image(collector, walk, service);
        }
    }
    for list in tree.get(job, "steps") {
        steps(collector, walk, list);
    }
}

fn steps(collector: &mut Collector<'_>, walk: &mut Walk<'_>, list: Id) {
    let tree = walk.tree;
    if !walk.seen.first(list, "steps") {
        return;
    }
    if !tree.is_list(list) && !tree.is_null(list) {
        return collector.gap(Some(&walk.at(list)), "syntax", "steps that are no list");
    }
    for step in tree.list(list) {
        if !walk.seen.first(*step, "step") {
            continue;
        }
        if !tree.is_map(*step) {
            collector.gap(Some(&walk.at(*step)), "syntax", "a step that is no map");
        }
        for uses in tree.get(*step, "uses") {
            self::uses(collector, walk, uses, Kind::Action);
        }
    }
}

/// An image: as text, or as the member `image` of a map.
fn image(collector: &mut Collector<'_>, walk: &mut Walk<'_>, id: Id) {
    let tree = walk.tree;
    let ids = if tree.is_map(id) { tree.get(id, "image") } else { vec![id] };
    for id in ids.into_iter().filter(|id| !tree.is_null(*id)) {
        if !walk.seen.first(id, "image") {
            continue;
        }
        match tree.text(id) {
            Some("") => {}
            Some(text) => one_image(collector, walk, id, text),
            None => collector.gap(Some(&walk.at(id)), "syntax", "an image that is no text"),
        }
    }
}

fn one_image(collector: &mut Collector<'_>, walk: &Walk<'_>, id: Id, text: &str) {
    let text = text.trim();
    let said = with_comment(reference::image(text), walk, id);
    collector.pin(walk.at(id), Kind::Image, text, None, said);
}

/// The version that stands behind a reference as a comment.
fn with_comment(said: Said, walk: &Walk<'_>, id: Id) -> Said {
    let comment = walk.tree.comment(walk.tree.line(id)).and_then(reference::version);
    Said { version: comment.filter(|_| said.by.is_some()).or(said.version), ..said }
}

fn uses(collector: &mut Collector<'_>, walk: &mut Walk<'_>, id: Id, kind: Kind) {
    let tree = walk.tree;
    if !walk.seen.first(id, if kind == Kind::Action { "uses" } else { "calls" }) || tree.is_null(id) {
        return;
    }
    let at = walk.at(id);
    let Some(text) = tree.text(id) else {
        return collector.gap(Some(&at), "syntax", "`uses` that is no text");
    };
    let text = text.trim();
    if let Some(path) = text.strip_prefix("./").or((text == ".").then_some("")) {
        return local(collector, at, text, path, kind);
    }
    if text.starts_with("docker://") {
        return one_image(collector, walk, id, text);
    }
    match reference::action(text) {
        Some(said) => {
            let said = with_comment(said, walk, id);
            collector.pin(at, kind, text, None, said);
        }
        None if is_dynamic(text) => collector.pin(at, kind, text, None, Said::default()),
        None => collector.unpinned(at, kind, text, None, Said::default(), Some("it is not understood")),
    }
}

/// What lies in the repository is pinned by its commit, unless it is another repository that was checked out there.
fn local(collector: &mut Collector<'_>, at: At, text: &str, path: &str, kind: Kind) {
    if is_dynamic(text) {
        return collector.pin(at, kind, text, None, Said::default());
    }
    let path = match Repository::normal(path) {
        Ok(path) => path,
        Err(reason) => return collector.gap(Some(&at), "unreadable", reason),
    };
    let folder = if kind == Kind::Workflow { files::folder_of(&path) } else { &path };
    let other = collector.repository.is_other_checkout(folder);
    let said = Said { by: Some("repository"), ..Said::default() };
    collector.unpinned(at.clone(), kind, text, None, said, other.then_some("it lies in another checkout"));
    if kind == Kind::Workflow {
        collector.workflow(path, at);
    } else {
        collector.action(path, at);
    }
}

/// The metadata of an action.
pub(super) fn action(collector: &mut Collector<'_>, file: &str, tree: &Tree) {
    let mut walk = Walk { file, tree, seen: Seen::default() };
    let runs: Vec<Id> = tree.tops.iter().flat_map(|top| tree.get(*top, "runs")).collect();
    if !runs.iter().any(|runs| tree.is_map(*runs)) {
        return collector.gap(Some(&At::line(file, 1)), "syntax", "this is no action: `runs` is missing");
    }
    for runs in runs {
        for list in tree.get(runs, "steps") {
            steps(collector, &mut walk, list);
        }
        for id in tree.get(runs, "image") {
            match tree.text(id) {
                None => {}
                Some(text) if text.starts_with("docker://") => one_image(collector, &walk, id, text),
                Some(text) => match Repository::normal(&files::join(files::folder_of(file), text)) {
                    Ok(name) => collector.dockerfile(Build { name, ..Build::default() }, walk.at(id)),
                    Err(reason) => collector.gap(Some(&walk.at(id)), "unreadable", reason),
                },
            }
        }
    }
}
