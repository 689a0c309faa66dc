//! What is left out of a snapshot on purpose, and counted: our own outputs, the parts of git's folders that
//! change without the command's doing, and what the globs do not select.

use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{LeftOut, Options};

/// Names in a git folder that change honestly or repeat the work tree.
const GIT: [(&[u8], &str); 4] = [
    (b"FETCH_HEAD", ".git/FETCH_HEAD"),
    (b"index", ".git/index"),
    (b"logs", ".git/logs"),
    (b"objects", ".git/objects"),
];

/// What a folder is to git.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Git {
    /// Nothing.
    No,
    /// `.git` itself, or the git folder of a submodule or work tree in it.
    Dir,
    /// `modules` of a git folder, or a folder in it that only groups submodules by name.
    Modules,
    /// `worktrees` of a git folder.
    Worktrees,
}

impl Git {
    /// What the folder `name` of this folder is.
    pub(super) fn child(self, name: &[u8]) -> Self {
        match (self, name) {
            (Self::Dir, b"worktrees") => Self::Worktrees,
            (Self::Dir, b"modules") | (Self::Modules, _) => Self::Modules,
            (Self::Worktrees, _) | (_, b".git") => Self::Dir,
            _ => Self::No,
        }
    }

    /// What this folder is, now that its names are known: the name of a submodule may be `logs` or `a/index`, so
    /// that only a folder that looks like a git folder is one.
    pub(super) fn with_names(self, has: impl Fn(&[u8]) -> bool) -> Self {
        if self == Self::Modules && has(b"HEAD") && (has(b"config") || has(b"objects")) { Self::Dir } else { self }
    }
}

/// One of our own outputs, below the root.
struct Own {
    /// Path of the folder that holds it, with a final `/`, empty for the root.
    folder: Vec<u8>,
    name: Vec<u8>,
    /// Whether `<name>-*.json` is meant instead of `<name>`.
    exports: bool,
    rule: usize,
}

/// The rules of a run, with counts.
pub(super) struct Rules {
    counts: Vec<(String, AtomicU64)>,
    own: Vec<Own>,
    globs: usize,
}

impl Rules {
    pub(super) fn new(options: &Options, canonical_root: &Path) -> Self {
        let mut rules: Vec<String> = GIT.iter().map(|(_, rule)| (*rule).to_owned()).collect();
        let mut own = Vec::new();
        let paths = options.own_outputs.iter().map(|path| (path, false));
        for (path, exports) in paths.chain(options.own_exports_of.iter().map(|path| (path, true))) {
            let Some(relative) = below(path, &options.root, canonical_root) else { continue };
            let shown = relative.to_string_lossy();
            let rule = if exports { format!("own output {shown}-*.json") } else { format!("own output {shown}") };
            let bytes = relative.as_os_str().as_encoded_bytes();
            let cut = bytes.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            own.push(Own { folder: bytes[..cut].to_vec(), name: bytes[cut..].to_vec(), exports, rule: rules.len() });
            rules.push(rule);
        }
        let globs = rules.len();
        rules.push("not selected by the globs for materials and products".to_owned());
        Self { counts: rules.into_iter().map(|rule| (rule, AtomicU64::new(0))).collect(), own, globs }
    }

    fn count(&self, rule: usize) {
        self.counts[rule].1.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_unselected(&self) {
        self.count(self.globs);
    }

    /// Whether `name` in `folder` (with a final `/`) is left out; counts it when it is.
    pub(super) fn leaves_out(&self, folder: &[u8], git: Git, name: &[u8]) -> bool {
        let rule = if git == Git::Dir { GIT.iter().position(|(known, _)| *known == name) } else { None };
        let rule =
            rule.or_else(|| self.own.iter().find(|own| own.folder == folder && own.is(name)).map(|own| own.rule));
        if let Some(rule) = rule {
            self.count(rule);
        }
        rule.is_some()
    }

    /// Whether the path is one of our own outputs or lies in one; counts it when it is.
    pub(super) fn is_own(&self, path: &[u8]) -> bool {
        let found = self.own.iter().find(|own| {
            path.strip_prefix(own.folder.as_slice())
                .is_some_and(|rest| own.is(rest.split(|&byte| byte == b'/').next().unwrap_or(rest)))
        });
        if let Some(own) = found {
            self.count(own.rule);
        }
        found.is_some()
    }

    /// The rules that left something out, with the number of entries; what is in a folder is not counted.
    pub(super) fn applied(&self) -> Vec<LeftOut> {
        let counts = self.counts.iter().map(|(rule, count)| (rule, count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).map(|(rule, count)| LeftOut { rule: rule.clone(), count }).collect()
    }
}

impl Own {
    fn is(&self, name: &[u8]) -> bool {
        if self.exports {
            name.strip_prefix(self.name.as_slice())
                .is_some_and(|rest| rest.first() == Some(&b'-') && rest.ends_with(b".json"))
        } else {
            name == self.name
        }
    }
}

/// `path` relative to the root, `None` when it does not lie below it. The root itself and what holds it are not
/// below it: an archive in the working folder's parent must not hide the tree.
fn below(path: &Path, root: &Path, canonical_root: &Path) -> Option<PathBuf> {
    let relative = |path: &Path| {
        let rest = path.strip_prefix(canonical_root).or_else(|_| path.strip_prefix(root)).ok()?;
        let plain = rest.components().all(|part| matches!(part, Component::Normal(_)));
        (plain && !rest.as_os_str().is_empty()).then(|| rest.to_path_buf())
    };
    // The path may lead through links and need not exist yet: the longest part that does is resolved.
    let mut missing = Vec::new();
    let mut part = path;
    while let (Some(parent), Some(name)) = (part.parent(), part.file_name()) {
        missing.push(name);
        part = parent;
        if let Ok(real) = part.canonicalize() {
            let full: PathBuf = std::iter::once(real.as_os_str()).chain(missing.iter().rev().copied()).collect();
            if let Some(found) = relative(&full) {
                return Some(found);
            }
            break;
        }
    }
    relative(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_folders_of_submodules_are_known_by_their_names() {
        let dir = Git::No.child(b".git");
        assert_eq!(dir, Git::Dir);
        assert_eq!(dir.child(b"refs"), Git::No);
        let modules = dir.child(b"modules");
        assert_eq!(modules.with_names(|_| false), Git::Modules);
        let module = modules.child(b"logs").with_names(|name| name == b"HEAD" || name == b"config");
        assert_eq!(module, Git::Dir);
        assert_eq!(module.child(b"refs"), Git::No);
        assert_eq!(dir.child(b"worktrees").child(b"any"), Git::Dir);
    }
}
