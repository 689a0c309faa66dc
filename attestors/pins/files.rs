//! Reads files of the repository that is built, and none that lie elsewhere.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use affiant_core::digest::sha256_hex;

/// Largest file that is read, in bytes.
pub(super) const MAX_FILE: u64 = 16 << 20;
/// Most bytes that are read in all.
const MAX_TOTAL: u64 = 64 << 20;
/// Most files that are read.
const MAX_FILES: usize = 1000;
/// Most entries of a folder, and of all folders that a pattern passes.
const MAX_ENTRIES: usize = 10_000;
/// Deepest folder that a pattern reaches.
const MAX_DEPTH: usize = 32;
/// Most `**` in a pattern: each multiplies the ways to match.
const MAX_STARS: usize = 4;

/// The folder that holds the pipeline's files.
pub(super) struct Repository {
    root: PathBuf,
    /// What was read: name and SHA-256.
    pub(super) read: BTreeMap<String, String>,
    total: u64,
}

impl Repository {
    /// The repository at a folder, which must be there.
    pub(super) fn at(folder: &Path) -> Option<Self> {
        let root = folder.canonicalize().ok().filter(|root| root.is_dir())?;
        Some(Self { root, read: BTreeMap::new(), total: 0 })
    }

    /// The nearest folder at or above this one that has a `.git`; else the folder itself.
    pub(super) fn around(folder: &Path) -> Option<Self> {
        let folder = folder.canonicalize().ok()?;
        let root = folder.ancestors().find(|above| above.join(".git").exists()).unwrap_or(&folder).to_owned();
        Self::at(&root)
    }

    /// Whether a folder is in it.
    pub(super) fn holds(&self, folder: &Path) -> bool {
        folder.canonicalize().is_ok_and(|folder| folder.starts_with(&self.root))
    }

    /// The root, where it is the top of a git repository.
    #[cfg(feature = "git")]
    pub(super) fn git_root(&self) -> Option<&Path> {
        self.root.join(".git").exists().then_some(&self.root)
    }

    /// A path relative to the root without `.` and `..`; a reason where it leads out.
    pub(super) fn normal(path: &str) -> Result<String, String> {
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop().ok_or_else(|| leads_out(path))?;
                }
                part => parts.push(part),
            }
        }
        Ok(parts.join("/"))
    }

    /// Whether there is such a file.
    pub(super) fn has(&self, path: &str) -> bool {
        self.root.join(path).is_file()
    }

    /// The name of a file by its path: relative to the root where it is in it.
    pub(super) fn name_of(&self, path: &Path) -> String {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        real.strip_prefix(&self.root).unwrap_or(&real).to_string_lossy().into_owned()
    }

    /// The text of a file of the repository, and its bytes' digest noted.
    pub(super) fn text(&mut self, path: &str) -> Result<String, String> {
        let real = self.root.join(path).canonicalize().map_err(|error| reason(&error))?;
        if !real.starts_with(&self.root) {
            return Err("leads out of the repository".to_owned());
        }
        self.text_of(path, &real)
    }

    /// The text of a file that does not count as read.
    pub(super) fn peek(&mut self, path: &str) -> Result<String, String> {
        let (read, total) = (self.read.clone(), self.total);
        let text = self.text(path);
        (self.read, self.total) = (read, total);
        text
    }

    /// The text of a file that the command line names, wherever it is.
    pub(super) fn text_of(&mut self, name: &str, path: &Path) -> Result<String, String> {
        if self.read.len() >= MAX_FILES {
            return Err(format!("more than {MAX_FILES} files"));
        }
        // O_NONBLOCK: a FIFO must not hang us.
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| reason(&error))?;
        let metadata = file.metadata().map_err(|error| reason(&error))?;
        if !metadata.is_file() {
            return Err("is not a file".to_owned());
        }
        let limit = MAX_FILE.min(MAX_TOTAL - self.total);
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
        let length = bytes.len() as u64;
        if length > MAX_FILE {
            return Err(format!("has more than {MAX_FILE} bytes"));
        }
        if length > limit {
            return Err(format!("with it, more than {MAX_TOTAL} bytes of files"));
        }
        self.total += length;
        let sha256 = sha256_hex(&bytes);
        let text = String::from_utf8(bytes).map_err(|_| "is not text in UTF-8".to_owned())?;
        self.read.insert(name.to_owned(), sha256);
        Ok(text)
    }

    /// Whether a folder below the root is, or lies in, a repository of its own.
    pub(super) fn is_other_checkout(&self, folder: &str) -> bool {
        let path = self.root.join(folder);
        path.ancestors().take_while(|above| *above != self.root).any(|above| above.join(".git").exists())
    }

    /// The files of a folder with one of these extensions, in the order of their names.
    pub(super) fn files_in(&self, folder: &str, extensions: &[&str]) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        for (count, entry) in std::fs::read_dir(self.root.join(folder)).map_err(|error| reason(&error))?.enumerate() {
            if count >= MAX_ENTRIES {
                return Err(format!("has more than {MAX_ENTRIES} entries"));
            }
            let entry = entry.map_err(|error| reason(&error))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if extensions.iter().any(|extension| crate::kinds::has_extension(&name, extension)) {
                names.push(format!("{folder}/{name}"));
            }
        }
        names.sort();
        Ok(names)
    }

    /// The files that a pattern with `*` and `**` names, in the order of their names.
    pub(super) fn matching(&self, pattern: &str) -> Result<Vec<String>, String> {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().filter(|part| part.contains("**")).count() > MAX_STARS {
            return Err(format!("has more than {MAX_STARS} `**`"));
        }
        let (mut found, mut waiting, mut passed) = (Vec::new(), vec![(String::new(), 0)], 0);
        while let Some((folder, depth)) = waiting.pop() {
            if depth > MAX_DEPTH {
                return Err(format!("{folder} lies deeper than {MAX_DEPTH} folders"));
            }
            for entry in std::fs::read_dir(self.root.join(&folder)).map_err(|error| reason(&error))? {
                passed += 1;
                if passed > MAX_ENTRIES {
                    return Err(format!("passes more than {MAX_ENTRIES} files"));
                }
                let entry = entry.map_err(|error| reason(&error))?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                if path == ".git" {
                    continue;
                }
                let path_parts: Vec<&str> = path.split('/').collect();
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_folder {
                    if leads_to(&parts, &path_parts) {
                        waiting.push((path, depth + 1));
                    }
                } else if matches(&parts, &path_parts) {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Whether files below a folder can match: each part of it does, up to a `**`.
fn leads_to(pattern: &[&str], folder: &[&str]) -> bool {
    for (index, part) in folder.iter().enumerate() {
        match pattern.get(index) {
            Some(wanted) if wanted.contains("**") => return true,
            Some(wanted) if index + 1 < pattern.len() && part_matches(wanted.as_bytes(), part.as_bytes()) => {}
            _ => return false,
        }
    }
    true
}

/// `**` stands for any folders, also none; a part with `**` and more (`**.yml`) for a path that ends so.
fn matches(pattern: &[&str], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((&"**", rest)) => (0..=path.len()).any(|skip| matches(rest, &path[skip..])),
        Some((part, [])) if part.contains("**") => {
            part_matches(part.replace("**", "*").as_bytes(), path.join("/").as_bytes())
        }
        Some((part, rest)) => path
            .split_first()
            .is_some_and(|(first, left)| part_matches(part.as_bytes(), first.as_bytes()) && matches(rest, left)),
    }
}

/// `*` stands for any characters.
fn part_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

fn leads_out(path: &str) -> String {
    let shown: String = path.chars().take(200).collect();
    format!("{shown} leads out of the repository")
}

/// What the system says, without our path.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "is not there".to_owned(),
        std::io::ErrorKind::PermissionDenied => "cannot be read: permission denied".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

/// The folder part of a path; empty at the root.
pub(super) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path below a folder of the repository.
pub(super) fn join(folder: &str, path: &str) -> String {
    if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") }
}

/// A path as text, without `.`.
pub(super) fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::CurDir)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_files() {
        let fits = |pattern: &str, path: &str| {
            matches(&pattern.split('/').collect::<Vec<_>>(), &path.split('/').collect::<Vec<_>>())
        };
        assert!(fits("ci/*.yml", "ci/a.yml") && !fits("ci/*.yml", "ci/b/a.yml") && !fits("ci/*.yml", "ci/a.yaml"));
        assert!(fits("ci/**/*.yml", "ci/b/c/a.yml") && fits("ci/**/*.yml", "ci/a.yml"));
        assert!(fits("ci/**.yml", "ci/b/a.yml") && fits("**/x*.yml", "x.yml") && !fits("**/x*.yml", "a.yml"));
        assert!(part_matches(b"a*b*c", b"aXbbYc") && !part_matches(b"a*b*c", b"aXbbY"));
    }

    #[test]
    fn nothing_outside_is_read() {
        let place = tempfile::tempdir().expect("a folder");
        let root = place.path().join("repository");
        std::fs::create_dir_all(root.join("ci")).expect("a folder");
        std::fs::write(place.path().join("secret.yml"), "x").expect("written");
        std::fs::write(root.join("ci/a.yml"), "a: b").expect("written");
        std::os::unix::fs::symlink("../secret.yml", root.join("out.yml")).expect("a link");
        std::os::unix::fs::symlink("ci/a.yml", root.join("in.yml")).expect("a link");
        std::os::unix::fs::symlink("loop.yml", root.join("loop.yml")).expect("a link");
        nix::unistd::mkfifo(&root.join("pipe.yml"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        std::fs::File::create(root.join("large.yml")).expect("a file").set_len(100 << 20).expect("made large");
        let mut repository = Repository::at(&root).expect("a repository");
        assert_eq!(repository.text("ci/a.yml").as_deref(), Ok("a: b"));
        assert_eq!(repository.text("in.yml").as_deref(), Ok("a: b"));
        for (path, why) in [
            ("out.yml", "leads out of the repository"),
            ("loop.yml", "cannot be read"),
            ("pipe.yml", "is not a file"),
            ("ci", "is not a file"),
            ("none.yml", "is not there"),
            ("large.yml", "has more than 16777216 bytes"),
        ] {
            let reason = repository.text(path).expect_err(path);
            assert!(reason.starts_with(why), "{path}: {reason}");
        }
        assert_eq!(repository.read.keys().collect::<Vec<_>>(), ["ci/a.yml", "in.yml"]);
        assert_eq!(Repository::normal("./a/../b//c").as_deref(), Ok("b/c"));
        assert!(Repository::normal("a/../../b").is_err());
        assert_eq!(repository.matching("**/*.yml").map(|found| found.len()), Ok(6));
        assert!(repository.matching(&"**/a/".repeat(20)).is_err());
    }
}
