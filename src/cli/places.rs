//! Where things are kept: archive, spool, configuration (DESIGN §5 "Archive and spool").

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::failure::{Failure, Kind};
use super::surroundings::variable;

/// Where the archive and the spool are kept.
pub(crate) struct Places {
    /// The folder of the default archive; `None` where there is no home.
    pub(crate) archive: Option<PathBuf>,
    /// The folder of the spool; `None` where there is no home.
    pub(crate) spool: Option<PathBuf>,
}

/// `AFFIANT_HOME` names one folder for both; else the user's data and state folders (XDG base directories).
pub(crate) fn places() -> Places {
    // Our own variable was set for us: a relative path is meant.
    if let Some(home) = variable("AFFIANT_HOME").and_then(|home| std::path::absolute(home).ok()) {
        return Places { archive: Some(home.join("archive")), spool: Some(home.join("spool")) };
    }
    let home = folder("HOME");
    let data = folder("XDG_DATA_HOME").or_else(|| home.as_ref().map(|home| home.join(".local/share")));
    let state = folder("XDG_STATE_HOME").or_else(|| home.as_ref().map(|home| home.join(".local/state")));
    Places {
        archive: data.map(|data| data.join("affiant/archive")),
        spool: state.map(|state| state.join("affiant/spool")),
    }
}

/// The folder for evidence that was fetched from elsewhere: in `AFFIANT_HOME`, or in the user's cache.
pub(crate) fn fetched() -> Option<PathBuf> {
    if let Some(home) = variable("AFFIANT_HOME").and_then(|home| std::path::absolute(home).ok()) {
        return Some(home.join("fetched"));
    }
    let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("affiant/fetched"))
}

/// The folder of trust roots that were fetched: in `AFFIANT_HOME`, or in the user's data.
#[cfg(feature = "remote")]
pub(crate) fn trust() -> Option<PathBuf> {
    if let Some(home) = variable("AFFIANT_HOME").and_then(|home| std::path::absolute(home).ok()) {
        return Some(home.join("trust"));
    }
    let data = folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("affiant/trust"))
}

/// The user's own configuration file, whether it exists or not.
pub(crate) fn user_config() -> Option<PathBuf> {
    folder("XDG_CONFIG_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".config")))
        .map(|config| config.join("affiant/config.toml"))
}

/// An absolute folder named by a variable. Relative ones are ignored, as the XDG specification demands: they would be
/// found in the working directory.
fn folder(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The folder that `--archive` names: `dir:PATH`, or the path alone.
pub(crate) fn named_archive(value: &str) -> Result<PathBuf, Failure> {
    if let Some(path) = value.strip_prefix("dir:") {
        return if path.is_empty() { Err(Failure::usage("--archive dir: names no folder")) } else { Ok(path.into()) };
    }
    match value.split_once(':') {
        Some((scheme, _)) if scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') => {
            Err(Failure::usage(format!("--archive {value}: here an archive is a folder"))
                .hint("name one with `--archive dir:PATH`"))
        }
        _ if value.is_empty() => Err(Failure::usage("--archive names no folder")),
        _ => Ok(value.into()),
    }
}

/// The archive to use: the one named, or the default one.
pub(crate) fn archive_folder(named: Option<&str>) -> Result<PathBuf, Failure> {
    match named {
        Some(value) => named_archive(value),
        None => places().archive.ok_or_else(|| {
            Failure::new(Kind::NoAnswer, "there is no default archive: neither HOME nor AFFIANT_HOME is set")
                .hint("name a folder with `--archive dir:PATH`, or set AFFIANT_HOME")
        }),
    }
}

/// Whether two paths mean one file, whether it is there or not.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    let place = |path: &Path| {
        let path = std::path::absolute(path).ok()?;
        Some((path.parent()?.canonicalize().ok()?, path.file_name()?.to_owned()))
    };
    match (identity(one), identity(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => place(one).is_some_and(|one| place(other) == Some(one)),
        _ => false,
    }
}
