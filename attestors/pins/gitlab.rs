//! Pipelines of GitLab: `include:`, `image:` and `services:`, of jobs, templates and defaults.

use super::collector::{At, Collector, Kind, Seen};
use super::files::Repository;
use super::reference::{self, Said, is_dynamic};
use crate::yaml::{Id, Tree};

/// Where the pipeline stands unless `CI_CONFIG_PATH` says otherwise.
const DEFAULT: &str = ".gitlab-ci.yml";
/// Keys at the top that are no job, and that name nothing.
const NO_JOBS: [&str; 8] =
    ["stages", "types", "variables", "workflow", "before_script", "after_script", "cache", "spec"];

/// The file of the pipeline that runs now. What is elsewhere is noted as a reference; `None` then, and where there is none.
pub(super) fn running(collector: &mut Collector<'_>) -> Option<String> {
    let path = collector.env.get("CI_CONFIG_PATH").filter(|path| !path.is_empty()).unwrap_or(DEFAULT).to_owned();
    let at = At::outside("CI_CONFIG_PATH");
    if path.contains('@') || path.contains("://") {
        let publisher =
            path.rsplit_once('@').map(|(_, project)| project.split(':').next().unwrap_or_default().to_owned());
        let commit = path.rsplit_once(':').and_then(|(_, reference)| reference::commit(reference));
        let said = Said {
            by: commit.is_some().then_some("commit"),
            digest: commit,
            publisher: publisher.or_else(|| reference::host(&path)),
            version: None,
        };
        collector.pin(at.clone(), Kind::Include, &path, None, said);
        collector.gap(Some(&at), "elsewhere", format!("the pipeline {path} lies elsewhere and was not read"));
        return None;
    }
    match Repository::normal(&path) {
        Ok(path) if collector.repository.has(&path) => Some(path),
        Ok(path) => {
            let reason = format!("the pipeline {path} is not in the project's folder: check the repository out first");
            collector.gap(Some(&at), "missing", reason);
            None
        }
        Err(reason) => {
            collector.gap(Some(&at), "unreadable", reason);
            None
        }
    }
}

/// What a walk through a file needs.
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

/// A file of a pipeline.
pub(super) fn pipeline(collector: &mut Collector<'_>, file: &str, tree: &Tree) {
    let mut walk = Walk { file, tree, seen: Seen::default() };
    if !tree.tops.iter().any(|top| tree.is_map(*top)) {
        collector.gap(Some(&At::line(file, 1)), "syntax", "this is no pipeline: it is no map");
    }
    for top in &tree.tops {
        for (key, value) in tree.entries(*top) {
            match tree.text(key) {
                Some("include") => include(collector, &mut walk, value),
                Some("image") => image(collector, &mut walk, value),
                Some("services") => services(collector, &mut walk, value),
                Some(key) if NO_JOBS.contains(&key) => {}
                // `default` has the members of a job that count here.
                _ => job(collector, &mut walk, value),
            }
        }
    }
}

fn job(collector: &mut Collector<'_>, walk: &mut Walk<'_>, job: Id) {
    let tree = walk.tree;
    if !walk.seen.first(job, "job") {
        return;
    }
    for value in tree.get(job, "image") {
        image(collector, walk, value);
    }
    for value in tree.get(job, "services") {
        services(collector, walk, value);
    }
    for trigger in tree.get(job, "trigger") {
        for value in tree.get(trigger, "include") {
            include(collector, walk, value);
        }
    }
    // Steps of GitLab: `run: [{step: …}]`.
    for run in tree.get(job, "run") {
        for step in tree.list(run) {
            for value in tree.get(*step, "step") {
                if let Some(text) = tree.text(value).filter(|text| !text.starts_with('.'))
                    && walk.seen.first(value, "step")
                {
                    component(collector, walk, value, text);
                }
            }
        }
    }
}

/// What `!reference [a, b]` names in this file, in any of its documents; none where it is not there.
fn resolve(tree: &Tree, id: Id) -> Vec<Id> {
    let mut found = tree.tops.clone();
    for part in tree.list(id) {
        let Some(name) = tree.text(*part) else { return Vec::new() };
        found = found.into_iter().flat_map(|id| tree.get(id, name)).collect();
        // A key given twice, over and over, is not followed each time.
        found.sort_unstable();
        found.dedup();
    }
    found
}

/// `!reference`, as it is written.
fn spelled(tree: &Tree, id: Id) -> String {
    let parts: Vec<&str> = tree.list(id).iter().filter_map(|part| tree.text(*part)).collect();
    format!("!reference [{}]", parts.join(", "))
}

fn image(collector: &mut Collector<'_>, walk: &mut Walk<'_>, id: Id) {
    let tree = walk.tree;
    let mut waiting = vec![id];
    while let Some(id) = waiting.pop() {
        if tree.is_null(id) || !walk.seen.first(id, "image") {
            continue;
        }
        if tree.is_reference(id) {
            let found = resolve(tree, id);
            if found.is_empty() {
                let said = Said::default();
                let why = Some("it stands in another file");
                collector.unpinned(walk.at(id), Kind::Image, &spelled(tree, id), None, said, why);
            }
            waiting.extend(found);
        } else if tree.is_map(id) {
            waiting.extend(tree.get(id, "name"));
        } else if let Some(text) = tree.text(id) {
            let expanded = expanded(collector, text);
            let mut said = reference::image(expanded.as_deref().unwrap_or(text));
            // A variable may be set elsewhere, and be another one tomorrow: only what is written counts.
            let written = reference::image(text);
            (said.by, said.digest) = (written.by, written.digest);
            if !text.is_empty() {
                collector.variable_pin(walk.at(id), Kind::Image, text, expanded.as_deref(), said);
            }
        } else {
            collector.gap(Some(&walk.at(id)), "syntax", "an image that is no text");
        }
    }
}

fn services(collector: &mut Collector<'_>, walk: &mut Walk<'_>, id: Id) {
    let tree = walk.tree;
    let mut waiting = vec![id];
    while let Some(id) = waiting.pop() {
        if tree.is_null(id) || !walk.seen.first(id, "services") {
            continue;
        }
        if tree.is_reference(id) {
            let found = resolve(tree, id);
            if found.is_empty() {
                // Says so by itself.
                image(collector, walk, id);
            }
            waiting.extend(found);
        } else if tree.is_list(id) {
            waiting.extend(tree.list(id).iter().rev());
        } else {
            image(collector, walk, id);
        }
    }
}

/// A text with the variables of this job; `None` where it has none or some that are not set.
fn expanded(collector: &Collector<'_>, text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    let mut any = false;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, left) = if let Some(braced) = after.strip_prefix('{') {
            braced.split_once('}')?
        } else {
            let end = after.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(after.len());
            after.split_at(end)
        };
        out.push_str(collector.env.get(name).filter(|value| !value.is_empty())?);
        any = true;
        rest = left;
    }
    out.push_str(rest);
    any.then_some(out)
}

fn include(collector: &mut Collector<'_>, walk: &mut Walk<'_>, id: Id) {
    let tree = walk.tree;
    let mut waiting = vec![id];
    while let Some(id) = waiting.pop() {
        if tree.is_null(id) || !walk.seen.first(id, "include") {
            continue;
        }
        if tree.is_list(id) && !tree.is_reference(id) {
            waiting.extend(tree.list(id).iter().rev());
        } else if let Some(text) = tree.text(id) {
            if text.contains("://") {
                remote(collector, walk, id, text, None);
            } else {
                local(collector, walk, id, text);
            }
        } else if tree.is_map(id) {
            entry(collector, walk, id);
        } else {
            collector.gap(Some(&walk.at(id)), "syntax", "an include that is not understood");
        }
    }
}

/// A map below `include`.
fn entry(collector: &mut Collector<'_>, walk: &mut Walk<'_>, map: Id) {
    let tree = walk.tree;
    let text = |key: &str| -> Vec<(Id, String)> {
        tree.get(map, key).into_iter().filter_map(|id| Some((id, tree.text(id)?.to_owned()))).collect()
    };
    let mut known = false;
    for (id, path) in text("local") {
        known = true;
        local(collector, walk, id, &path);
    }
    for (id, url) in text("remote") {
        known = true;
        let integrity = text("integrity").pop().map(|(_, text)| text);
        remote(collector, walk, id, &url, integrity.as_deref());
    }
    for (id, name) in text("template") {
        known = true;
        let said = Said { publisher: Some("gitlab-templates".to_owned()), ..Said::default() };
        let why = Some("a template is whatever the server ships");
        collector.unpinned(walk.at(id), Kind::Include, &name, None, said, why);
    }
    for (id, name) in text("component") {
        known = true;
        component(collector, walk, id, &name);
    }
    for (id, project) in text("project") {
        known = true;
        let references = text("ref");
        let commit = match references.as_slice() {
            [(_, one)] => reference::commit(one),
            _ => None,
        };
        let reference = references.first().map(|(_, text)| text.clone());
        let name = reference.as_ref().map_or(project.clone(), |reference| format!("{project}@{reference}"));
        let comment = references.first().and_then(|(id, _)| tree.comment(tree.line(*id))).and_then(reference::version);
        let said = Said {
            by: commit.is_some().then_some("commit"),
            version: if commit.is_some() { comment } else { reference },
            digest: commit,
            publisher: (!is_dynamic(&project)).then(|| project.clone()),
        };
        // The line is that of the reference, where one is written: there it is to be changed.
        let at = walk.at(references.first().map_or(id, |(id, _)| *id));
        collector.pin(at, Kind::Include, &name, None, said);
    }
    // `artifact` of a child pipeline is made by a job of this one; nobody can read it now.
    for (id, name) in text("artifact") {
        known = true;
        let why = Some("a job writes it");
        collector.unpinned(walk.at(id), Kind::Include, &name, None, Said::default(), why);
    }
    if !known {
        collector.gap(Some(&walk.at(map)), "syntax", "an include that is not understood");
    }
}

fn component(collector: &mut Collector<'_>, walk: &Walk<'_>, id: Id, text: &str) {
    let expanded = expanded(collector, text);
    let shown = expanded.as_deref().unwrap_or(text);
    let (place, _) = shown.rsplit_once('@').unwrap_or((shown, ""));
    let reference = text.rsplit_once('@').map_or("", |(_, reference)| reference);
    let commit = reference::commit(reference);
    let comment = walk.tree.comment(walk.tree.line(id)).and_then(reference::version);
    let said = Said {
        by: commit.is_some().then_some("commit"),
        version: if commit.is_some() { comment } else { Some(reference.to_owned()).filter(|text| !text.is_empty()) },
        digest: commit,
        publisher: place.rsplit_once('/').map(|(project, _)| project.to_owned()).filter(|project| !is_dynamic(project)),
    };
    collector.pin(walk.at(id), Kind::Include, text, expanded.as_deref(), said);
}

/// A file at a URL. Only a digest beside it holds it fast (GitLab 17.9).
fn remote(collector: &mut Collector<'_>, walk: &Walk<'_>, id: Id, url: &str, integrity: Option<&str>) {
    use base64::Engine as _;
    let digest = integrity.and_then(|text| text.strip_prefix("sha256-")).and_then(|text| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        (bytes.len() == 32).then(|| affiant_core::digest::DigestSet::sha256_hex(hex::encode(bytes)))
    });
    let said =
        Said { by: digest.is_some().then_some("integrity"), digest, publisher: reference::host(url), version: None };
    collector.pin(walk.at(id), Kind::Include, url, None, said);
}

/// Files of the repository, also by a pattern.
fn local(collector: &mut Collector<'_>, walk: &Walk<'_>, id: Id, text: &str) {
    let at = walk.at(id);
    if is_dynamic(text) {
        return collector.pin(at, Kind::Include, text, None, Said::default());
    }
    let path = match Repository::normal(text) {
        Ok(path) => path,
        Err(reason) => return collector.gap(Some(&at), "unreadable", reason),
    };
    let files = if path.contains('*') {
        match collector.repository.matching(&path) {
            Ok(files) if files.is_empty() => return collector.gap(Some(&at), "missing", format!("no file is {path}")),
            Ok(files) => files,
            Err(reason) => return collector.gap(Some(&at), "unreadable", format!("{path} {reason}")),
        }
    } else {
        vec![path]
    };
    let said = Said { by: Some("repository"), ..Said::default() };
    collector.pin(at.clone(), Kind::Include, text, None, said);
    for file in files {
        collector.gitlab(file, at.clone());
    }
}
