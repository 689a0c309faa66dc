//! The git repository at or above the working directory: commit, references, remotes and status (wire-formats §3.5).

mod facts;
mod open;
mod status;
mod text;
mod wait;

use std::collections::BTreeMap;
use std::path::Path;

use affiant_core::attestor::{About, AttestBefore, AttestError, Before, Evidence, Found, Outcome, Place, Predicate};
use affiant_core::digest::DigestSet;
use affiant_core::statement::Subject;
use gix::bstr::ByteSlice as _;
use serde::{Deserialize, Serialize};

/// The attestor `git`.
pub(crate) struct Git;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {}

static ABOUT: About = About {
    name: "git",
    predicate_type: "https://witness.dev/attestations/git/v0.1",
    summary: "Records the commit, references, remotes and status of the git repository; runs no program of it.",
    default_when: "where the working directory is in a git repository",
    subjects: &[
        "commithash:<hash>: the commit's own hash",
        "authoremail:<address>: SHA-256 of the text",
        "committeremail:<address>: SHA-256 of the text",
        "parenthash:<hash>: SHA-256 of the text",
        "refnameshort:<branch>: SHA-256 of the text",
    ],
    options: &[],
    schema: include_str!("schemas/git.json"),
};

/// The predicate, its members in witness's order. A repository without commits has the texts empty.
#[derive(Serialize)]
struct Shown {
    gittool: &'static str,
    commithash: String,
    author: String,
    authoremail: String,
    committername: String,
    committeremail: String,
    commitdate: String,
    commitmessage: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<String, PathStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commitdigest: Option<DigestSet>,
    #[serde(skip_serializing_if = "String::is_empty")]
    signature: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parenthashes: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    treehash: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remotes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<facts::Tag>,
    #[serde(skip_serializing_if = "String::is_empty")]
    branch: String,
    #[serde(skip_serializing_if = "Own::is_empty")]
    affiant: Own,
}

#[derive(Serialize)]
struct PathStatus {
    staging: String,
    worktree: String,
}

/// What the peers have no member for.
#[derive(Default, Serialize)]
struct Own {
    /// Whether history was cut off (`git clone --depth`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shallow: bool,
    /// Paths that are held modified because the filter that git would run was not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unfiltered: Vec<String>,
}

impl Own {
    fn is_empty(&self) -> bool {
        !self.shallow && self.unfiltered.is_empty()
    }
}

impl AttestBefore for Git {
    type Options = Options;
    const ABOUT: &'static About = &ABOUT;

    fn called_for(world: &Before) -> Option<String> {
        match open::find(&world.dir) {
            Ok(Some(folder)) => Some(format!("{} is a git repository", folder.display())),
            Ok(None) => None,
            Err(error) => Some(format!("there may be a git repository ({error})")),
        }
    }

    fn attest(_: Options, world: &Before) -> Outcome {
        let failed = |error: &dyn std::error::Error| AttestError::new(error.to_string());
        let Some(folder) = open::find(&world.dir).map_err(|e| failed(&e))? else {
            let reason = format!("there is no git repository at or above {}", world.dir.display());
            return Ok(Found::Nothing(reason));
        };
        let (repository, dir) = (folder.clone(), world.dir.clone());
        wait::patiently(&[&folder, &world.dir], &open::git_dirs(&folder), move || read(&repository, &dir))
            .map_err(|error| AttestError::new(format!("git repository {}: {error}", folder.display())))?
    }
}

/// Reads the repository in `folder`, as seen from the working directory `dir`.
fn read(folder: &Path, dir: &Path) -> Outcome {
    let failed = |error: &dyn std::error::Error| AttestError::new(error.to_string());
    let mut repository = open::open(folder).map_err(|e| failed(&e))?;
    let within = |what: &str, error: &gix::Error| {
        AttestError::new(format!("git repository {}: {what}: {}", folder.display(), open::reason(error)))
    };
    use_configured_worktree(&mut repository, dir)?;
    attest(&repository, &within, &|e| failed(e))
}

/// The URLs of the remotes of the repository at or above `dir`, as they are configured, for a search for the passwords
/// in them. None where there is no repository that can be read.
pub fn remote_urls(dir: &Path) -> Vec<String> {
    let repository = open::find(dir).ok().flatten().and_then(|folder| open::open(&folder).ok());
    let urls = repository.map(|repository| open::remotes(repository.config_snapshot().plumbing()));
    urls.into_iter().flatten().map(|url| url.to_str_lossy().into_owned()).collect()
}

/// The bytes of a file in a commit of the repository at a folder; none where the commit has no such file. `None`
/// where nothing can be said: no repository, or without the commit (a shallow clone of another one).
pub(crate) fn file_of_commit(root: &Path, commit: &str, path: &str) -> Option<Vec<u8>> {
    let repository = open::open(&open::find(root).ok()??).ok()?;
    let id = gix::ObjectId::from_hex(commit.as_bytes()).ok()?;
    let tree = repository.find_object(id).ok()?.try_into_commit().ok()?.tree().ok()?;
    match tree.lookup_entry_by_path(path).ok()? {
        Some(entry) => Some(entry.object().ok()?.detach().data),
        None => Some(Vec::new()),
    }
}

/// Whether a folder is that of the checked-out commit, at or above which `dir` has its repository: nothing in it differs
/// from HEAD, nothing is untracked, and HEAD has these files of it. What `.gitignore` names is not looked at.
pub fn is_committed(dir: &Path, folder: &Path, files: &[&str]) -> bool {
    let (Ok(Some(root)), Ok(Some(other))) = (open::find(dir), open::find(folder)) else { return false };
    if root != other {
        return false;
    }
    let (repository, folder, files) =
        (root.clone(), folder.to_owned(), files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>());
    let asked = wait::patiently(&[&root], &open::git_dirs(&root), move || {
        let repository = open::open(&repository).ok()?;
        let workdir = repository.workdir()?.canonicalize().ok()?;
        let within = folder.canonicalize().ok()?.strip_prefix(workdir).ok()?.to_str()?.to_owned();
        let below = |file: &str| if within.is_empty() { file.to_owned() } else { format!("{within}/{file}") };
        let tree = repository.head_commit().ok()?.tree().ok()?;
        if !files.iter().all(|file| matches!(tree.lookup_entry_by_path(below(file)), Ok(Some(_)))) {
            return Some(false);
        }
        let status = status::take(&repository).ok()??;
        let touches = |path: &str| {
            let path = path.trim_end_matches('/');
            let is_below = |one: &str, other: &str| {
                other.is_empty() || one == other || one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
            };
            is_below(path, &within) || is_below(&within, path)
        };
        let mut paths = status.entries.keys().chain(&status.filtered).chain(status.unchecked.iter().map(|one| &one.0));
        let differs = paths.any(|path| path.to_str_lossy().split(" -> ").any(touches));
        Some(!differs && status.more == 0 && status.untracked_unknown.is_none())
    });
    matches!(asked, Ok(Some(true)))
}

/// Takes `core.worktree` for what it says only where the working directory is in it: elsewhere it would let a repository
/// have us read any folder.
fn use_configured_worktree(repository: &mut gix::Repository, dir: &Path) -> Result<(), AttestError> {
    let Some(value) = repository.config_snapshot().string("core.worktree") else { return Ok(()) };
    let refused = |reason: &str| AttestError::new(format!("core.worktree `{value}` of the git repository: {reason}"));
    let path = gix::path::from_bstr(value.as_bstr()).map_err(|_| refused("not a path"))?;
    let path = repository.git_dir().join(path).canonicalize().map_err(|error| refused(&error.to_string()))?;
    let dir = dir.canonicalize().map_err(|error| refused(&error.to_string()))?;
    if !dir.starts_with(&path) || path.parent().is_none() {
        return Err(refused("the working directory is not in this folder, so the status cannot be told"));
    }
    repository.set_workdir(path).map_err(|error| refused(&open::reason(&error)))?;
    Ok(())
}

fn attest(
    repository: &gix::Repository,
    within: &dyn Fn(&str, &gix::Error) -> AttestError,
    failed: &dyn Fn(&dyn std::error::Error) -> AttestError,
) -> Outcome {
    let mut notes = facts::Notes::default();
    let head = repository.head().map_err(|e| within("HEAD", &e))?;
    let branch = match head.referent_name() {
        Some(name) => name.shorten().to_str_lossy().into_owned(),
        None => "HEAD".to_owned(), // detached: witness's word for it
    };
    let id = head.id();
    let (commit, refs, tags) = match id {
        Some(id) => {
            let commit = facts::commit(id, &mut notes).map_err(|e| within(&format!("commit {id}"), &e))?;
            let (refs, tags) = facts::references(repository, id, &mut notes).map_err(|e| within("references", &e))?;
            (commit, refs, tags)
        }
        None => (facts::Commit::default(), Vec::new(), Vec::new()),
    };
    let remotes = facts::remotes(repository, &mut notes);
    let status = status::take(repository).map_err(|e| failed(&e))?.unwrap_or_default();

    let commitdate = commit.author.time.and_then(text::go_time);
    if commitdate.is_none() && commit.author.time.is_some() {
        notes.0.push("author: the time is out of range".to_owned());
    }
    let commitdigest = id.map(|id| match id.kind() {
        gix::hash::Kind::Sha1 => DigestSet::sha1_hex(&commit.hash),
        _ => DigestSet::sha256_hex(&commit.hash),
    });
    let mut subjects = Vec::new();
    let mut back_references = Vec::new();
    if let Some(digest) = &commitdigest {
        let subject = Subject::new(format!("commithash:{}", commit.hash), digest.clone());
        back_references.push(subject.clone());
        subjects.push(subject);
        let mut add = |kind: &str, text: &str| {
            let subject = Subject::of_text(kind, text);
            if !text.is_empty() && !subjects.contains(&subject) {
                subjects.push(subject);
            }
        };
        add("authoremail", &commit.author.email);
        add("committeremail", &commit.committer.email);
        for parent in &commit.parents {
            add("parenthash", parent);
        }
        add("refnameshort", &branch);
    }

    let mut own = Own { shallow: repository.is_shallow().map_err(|e| within("shallow", &e))?, ..Own::default() };
    let entries = show_status(status, &mut own, &mut notes);
    let shown = Shown {
        gittool: "gix",
        commithash: commit.hash,
        author: commit.author.name,
        authoremail: commit.author.email,
        committername: commit.committer.name,
        committeremail: commit.committer.email,
        commitdate: commitdate.unwrap_or_default(),
        commitmessage: commit.message,
        status: entries,
        commitdigest,
        signature: commit.signature,
        parenthashes: commit.parents,
        treehash: commit.tree,
        refs,
        remotes,
        tags,
        branch,
        affiant: own,
    };
    Ok(Found::Evidence {
        pieces: vec![Evidence {
            predicate_type: ABOUT.predicate_type.to_owned(),
            predicate: Predicate::Composed(serde_json::to_value(shown).map_err(|e| failed(&e))?),
            subjects,
            back_references,
            place: Place::Collection,
        }],
        shortfalls: notes.0,
    })
}

fn show_status(status: status::Status, own: &mut Own, notes: &mut facts::Notes) -> BTreeMap<String, PathStatus> {
    let total = status.entries.len();
    let entries: BTreeMap<String, PathStatus> = status
        .entries
        .into_iter()
        .map(|(path, letters)| {
            let shown = PathStatus { staging: word(letters.staging), worktree: word(letters.worktree) };
            (path.to_str_lossy().into_owned(), shown)
        })
        .collect();
    if entries.len() < total {
        notes.0.push(format!("status: {} paths differ only in bytes that are not UTF-8", total - entries.len()));
    }
    if status.more > 0 {
        notes.0.push(format!(
            "status: {} more entries than the {} that are recorded",
            status.more,
            status::MAX_ENTRIES
        ));
    }
    if let Some(reason) = status.untracked_unknown {
        notes.0.push(format!("status: untracked files are not listed: {reason}"));
    }
    for (path, reason) in status.unchecked {
        notes.0.push(format!("status: {path} cannot be compared and is held modified: {reason}"));
    }
    own.unfiltered = status.filtered.iter().map(|path| path.to_str_lossy().into_owned()).collect();
    entries
}

/// witness's word for a letter of git's short format; letters that it has no word for stay.
fn word(letter: u8) -> String {
    match letter {
        b' ' => "unmodified",
        b'?' => "untracked",
        b'M' => "modified",
        b'A' => "added",
        b'D' => "deleted",
        b'R' => "renamed",
        b'C' => "copied",
        b'U' => "updated",
        other => return char::from(other).to_string(),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_lacks_is_said() {
        let modified = status::Letters { staging: b' ', worktree: b'M' };
        let status = status::Status {
            entries: [&b"a"[..], b"b\xff", b"b\xfe"].map(|path| (path.into(), modified)).into(),
            more: 2,
            filtered: vec!["a".into()],
            unchecked: vec![("b".into(), "denied".into())],
            untracked_unknown: Some("folder d".into()),
        };
        let (mut own, mut notes) = (Own::default(), facts::Notes::default());
        let entries = show_status(status, &mut own, &mut notes);
        assert_eq!(entries.into_keys().collect::<Vec<_>>(), ["a", "b\u{fffd}"]);
        assert_eq!(own.unfiltered, ["a"]);
        assert_eq!(
            notes.0,
            [
                "status: 1 paths differ only in bytes that are not UTF-8",
                "status: 2 more entries than the 100000 that are recorded",
                "status: untracked files are not listed: folder d",
                "status: b cannot be compared and is held modified: denied",
            ]
        );
    }
}
