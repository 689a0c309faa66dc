//! Finds the repository and opens it without trusting it (security rule 5).
//!
//! The repository, its configuration and its worktree may be written by a stranger. So the configuration of system and
//! user is not read, nor is the process environment; includes are not followed; and of the repository's own
//! configuration nothing counts that names a program or a file (filters, fsmonitor, hooks, textconv, excludes files).
//! Nothing is ever executed, so it does not matter who owns the folder: `safe.directory` is not asked.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gix::bstr::{BString, ByteSlice as _};
use gix::config::File as Config;
use gix::sec::Trust;

/// What of our own stands above the repository's configuration.
const OVERRIDES: [&str; 5] = [
    // A replaced commit is not the commit whose hash is attested.
    "core.useReplaceRefs=false",
    // Relaxed rules would let a changed file pass for an unchanged one.
    "core.trustCTime=true",
    "core.checkStat=default",
    // Line endings are converted for the comparison; that they cannot be converted back is no error of ours.
    "core.safecrlf=false",
    ALLOCATION,
];

/// The largest object or pack entry that is taken into memory, in bytes: 256 MiB.
const ALLOCATION: &str = "gitoxide.objects.allocLimit=268435456";

/// Longest path in a `.git` or `commondir` file, in bytes: what the system takes.
const MAX_LINE: u64 = 4096 + 16;

/// Files that are read as a whole. A FIFO in the place of one would keep us waiting for ever.
const FILES: [&str; 11] = [
    "HEAD",
    "commondir",
    "config",
    "config.worktree",
    "gitdir",
    "index",
    "info/attributes",
    "info/exclude",
    "objects/info/alternates",
    "packed-refs",
    "shallow",
];

/// Extensions of the repository format that change nothing for a reader.
const EXTENSIONS: [&str; 9] = [
    "compatobjectformat",
    "noop",
    "noop-v1",
    "objectformat",
    "partialclone",
    "preciousobjects",
    "relativeworktrees",
    "submodulepathconfig",
    "worktreeconfig",
];

/// A repository that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The way to it cannot be read.
    #[error("{}: {source}", path.display())]
    Search {
        /// What was looked at.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is there, but broken, or of a kind that is not known.
    #[error("git repository {}: {reason}", path.display())]
    Open {
        /// The folder that holds it.
        path: PathBuf,
        /// Why it cannot be opened.
        reason: String,
    },
}

/// The folder at or above `dir` that holds a repository: a worktree (with `.git` in it) or a bare one.
///
/// As git does, the search stays within one file system. Other than git, it ends at a broken `.git`.
pub(super) fn find(dir: &Path) -> Result<Option<PathBuf>, OpenError> {
    let error = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Search { path, source }
    };
    let dir = dir.canonicalize().map_err(error(dir))?;
    let device = dir.metadata().map_err(error(&dir))?.dev();
    for folder in dir.ancestors() {
        if folder.metadata().map_err(error(folder))?.dev() != device {
            break;
        }
        let dot_git = folder.join(".git");
        match dot_git.symlink_metadata() {
            Ok(_) => return Ok(Some(folder.to_owned())),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(OpenError::Search { path: dot_git, source }),
        }
        if is_readable(folder) && gix::discover::is_git(folder).is_ok() {
            return Ok(Some(folder.to_owned()));
        }
    }
    Ok(None)
}

/// Whether what is read to find out if `folder` is a repository can be read, and is no FIFO.
fn is_readable(folder: &Path) -> bool {
    ["HEAD", "commondir", "gitdir"]
        .iter()
        .all(|name| folder.join(name).metadata().map_or(*name != "HEAD", |data| data.is_file()))
}

/// The git folder of the repository in `folder`, and the one that it shares with other worktrees; as git finds them,
/// but without opening anything that could keep us waiting. What is not understood is left out: `open` tells it.
pub(super) fn git_dirs(folder: &Path) -> Vec<PathBuf> {
    let dot_git = folder.join(".git");
    let git_dir = match dot_git.metadata() {
        Ok(data) if data.is_dir() => Some(dot_git),
        Ok(_) => line(&dot_git).and_then(|text| Some(folder.join(text.strip_prefix("gitdir:")?.trim_start()))),
        Err(_) => Some(folder.to_owned()),
    };
    let shared = git_dir.as_ref().and_then(|dir| Some(dir.join(line(&dir.join("commondir"))?)));
    git_dir.into_iter().chain(shared).collect()
}

/// The path that a small regular file holds.
fn line(path: &Path) -> Option<String> {
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(MAX_LINE).read_to_string(&mut text).ok()?;
    Some(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Opens the repository in `folder`.
pub(super) fn open(folder: &Path) -> Result<gix::Repository, OpenError> {
    let error = |reason: String| OpenError::Open { path: folder.to_owned(), reason };
    if folder.join(".git").metadata().is_ok_and(|data| !data.is_dir() && !data.is_file()) {
        return Err(error(".git is neither file nor folder".to_owned()));
    }
    for git_dir in git_dirs(folder) {
        only_regular_files(&git_dir).map_err(error)?;
    }
    let repository = gix::open_opts(folder, options()).map_err(|e| error(reason(&e)))?;
    for git_dir in [repository.git_dir(), repository.common_dir()] {
        only_regular_files(git_dir).map_err(error)?;
    }
    for name in extensions(repository.config_snapshot().plumbing()) {
        if name == "refstorage" {
            return Err(error("references are kept as reftable, which is not supported".to_owned()));
        }
        if !EXTENSIONS.contains(&name.as_str()) {
            return Err(error(format!("the extension `{name}` of the repository format is not known")));
        }
    }
    Ok(repository)
}

/// Refuses a repository in which something else stands in the place of a file.
fn only_regular_files(git_dir: &Path) -> Result<(), String> {
    match FILES.iter().find(|name| git_dir.join(name).metadata().is_ok_and(|data| !data.is_file())) {
        Some(name) => Err(format!("{} is not a regular file", git_dir.join(name).display())),
        None => Ok(()),
    }
}

/// Options under which nothing that the repository says is trusted.
fn options() -> gix::open::Options {
    gix::open::Options::isolated()
        .with(Trust::Reduced)
        // Trust is taken from the owner where gix opens further repositories, so it is denied here as well.
        .filter_config_section(|section| section.source.kind() != gix::config::source::Kind::Repository)
        .config_overrides(OVERRIDES)
}

/// The names in `extensions.*`, in lower case; `refStorage = files` is the usual way and left out.
fn extensions(config: &Config) -> Vec<String> {
    let mut names = Vec::new();
    for section in config.sections_by_name("extensions").into_iter().flatten() {
        for name in section.body().value_names() {
            let name = name.to_lowercase();
            let is_usual = name == "refstorage" && section.value("refStorage").is_some_and(|value| value == "files");
            if !is_usual {
                names.push(name);
            }
        }
    }
    names
}

/// The URLs of all remotes as they are configured, in the order of the remotes' names. `insteadOf` is not applied.
pub(super) fn remotes(config: &Config) -> Vec<BString> {
    let mut urls: Vec<(BString, BString)> = Vec::new();
    for section in config.sections_by_name("remote").into_iter().flatten() {
        if let Some(name) = section.header().subsection_name() {
            urls.extend(section.values("url").into_iter().map(|url| (name.to_owned(), url)));
        }
    }
    urls.sort_by(|(a, _), (b, _)| a.cmp(b)); // stable: the URLs of one remote keep their order
    urls.into_iter().map(|(_, url)| url).filter(|url| !url.trim().is_empty()).collect()
}

/// The whole chain of an error as one fragment.
pub(super) fn reason(error: &gix::Error) -> String {
    let mut reason = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !reason.contains(&text) {
            if !reason.is_empty() {
                reason.push_str(": ");
            }
            reason.push_str(&text);
        }
        next = error.source();
    }
    reason.replace('\n', " ")
}
