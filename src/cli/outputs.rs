//! Files that a command writes: none of them is a file that it reads, and no two of them are one.

use std::path::{Path, PathBuf};

use affiant_core::outfile::Outfile;

use super::failure::Failure;
use super::{keys, places};

/// Files that a command reads and writes.
#[derive(Default)]
pub(crate) struct Files {
    /// What each is, and where.
    read: Vec<(&'static str, PathBuf)>,
    /// Folders of which all files are read.
    folders: Vec<(&'static str, PathBuf)>,
    /// Folders of which all is read, however deep it lies; and whether they are judged as they are.
    trees: Vec<(&'static str, PathBuf, bool)>,
    /// The flag that names each, and where.
    written: Vec<(&'static str, PathBuf)>,
}

impl Files {
    /// These are read; `-` is stdin.
    pub(crate) fn reads<P: AsRef<Path>>(&mut self, what: &'static str, paths: impl IntoIterator<Item = P>) {
        for path in paths {
            let path = path.as_ref();
            if path.is_dir() {
                self.folders.push((what, path.to_owned()));
            } else {
                let path = if path == Path::new("-") { Path::new("/dev/stdin") } else { path };
                self.read.push((what, path.to_owned()));
            }
        }
    }

    /// All that lies in these folders is read. Those that are `judged` must stay as they are: a new file would be judged
    /// the next time.
    pub(crate) fn reads_trees<P: AsRef<Path>>(
        &mut self,
        what: &'static str,
        judged: bool,
        folders: impl IntoIterator<Item = P>,
    ) {
        self.trees.extend(folders.into_iter().map(|folder| (what, folder.as_ref().to_owned(), judged)));
    }

    /// Signing keys are read, where they stand in files.
    pub(crate) fn reads_keys<'a>(&mut self, keys: impl IntoIterator<Item = &'a String>) {
        self.reads("the signing key", keys.into_iter().filter_map(|key| keys::file_of(key)));
    }

    /// These are written.
    pub(crate) fn writes<P: AsRef<Path>>(&mut self, flag: &'static str, paths: impl IntoIterator<Item = P>) {
        self.written.extend(paths.into_iter().map(|path| (flag, path.as_ref().to_owned())));
    }

    /// Refuses to write over a file that is read, and to write one file twice. Nothing may be changed before.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let mut before: Vec<(&str, PathBuf)> = Vec::new();
        for (flag, named) in &self.written {
            // Devices and descriptors take what they are given; what cannot be written is refused later.
            let file = match Outfile::probe(named) {
                Ok(outfile) => outfile.file().map(Path::to_owned),
                Err(_) => Some(named.clone()),
            };
            let Some(file) = file else { continue };
            let failure = |text: String| {
                Failure::usage(format!("{flag} {} {text}", named.display()))
                    .hint(format!("name another file with `{flag}`"))
            };
            if let Some((what, _)) = self.read.iter().find(|(_, input)| places::is_same(input, &file)) {
                return Err(failure(format!("is {what}: it would be overwritten")));
            }
            if let Some((what, folder)) = self.folders.iter().find(|(_, folder)| is_in(&file, folder)) {
                return Err(failure(format!("is {what}, in {}: it would be overwritten", folder.display())));
            }
            let lies_in = |tree: &Path, judged: bool| (judged || file.is_file()) && is_under(&file, tree);
            if let Some((what, tree, judged)) = self.trees.iter().find(|(_, tree, judged)| lies_in(tree, *judged)) {
                let why = if *judged { "it would not stay what is judged" } else { "it would be overwritten" };
                return Err(failure(format!("lies in {what}, {}: {why}", tree.display())));
            }
            if let Some((other, _)) = before.iter().find(|(_, output)| places::is_same(output, &file)) {
                return Err(failure(if other == flag {
                    "is named twice".to_owned()
                } else {
                    format!("is written by {other} as well")
                }));
            }
            before.push((flag, file));
        }
        Ok(())
    }
}

/// Whether a file that is there lies in a folder itself.
fn is_in(file: &Path, folder: &Path) -> bool {
    file.is_file() && file.parent().is_some_and(|parent| places::is_same(parent, folder))
}

/// Whether a file, there or not, lies somewhere below a folder.
fn is_under(file: &Path, folder: &Path) -> bool {
    let Some(Ok(parent)) = file.parent().map(Path::canonicalize) else { return false };
    folder.canonicalize().is_ok_and(|folder| parent.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn checked(folder: &Path, judged: bool, file: &Path) -> Result<(), String> {
        let mut files = Files::default();
        files.reads_trees("the artifact", judged, [folder]);
        files.writes("--report", [file]);
        files.check().map_err(|failure| failure.one_line())
    }

    #[test]
    fn nothing_is_written_into_what_is_judged_however_deep() {
        let home = tempfile::tempdir().expect("a folder");
        let dist = home.path().join("dist");
        fs::create_dir_all(dist.join("deep/er")).expect("folders");
        fs::write(dist.join("deep/er/app"), "app").expect("a file");
        for name in ["new", "deep/er/app", "deep/er/new", "deep/../new"] {
            let refused = checked(&dist, true, &dist.join(name)).expect_err(name);
            assert!(
                refused.contains("lies in the artifact") && refused.contains("not stay what is judged"),
                "{refused}"
            );
        }
        // A link does not hide where it leads, and a name that begins alike is another folder.
        std::os::unix::fs::symlink(&dist, home.path().join("link")).expect("a link");
        checked(&dist, true, &home.path().join("link/deep/new")).expect_err("through a link");
        checked(&home.path().join("link"), true, &dist.join("deep/new")).expect_err("the folder is a link");
        fs::create_dir(home.path().join("dist2")).expect("a folder");
        checked(&dist, true, &home.path().join("dist2/new")).expect("beside it");
        checked(&dist, true, Path::new("/dev/null")).expect("a device");
    }

    #[test]
    fn what_is_only_read_may_get_a_new_neighbour() {
        let home = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(home.path().join("blobs/sha256")).expect("folders");
        fs::write(home.path().join("blobs/sha256/00"), "blob").expect("a file");
        let refused = checked(home.path(), false, &home.path().join("blobs/sha256/00")).expect_err("a blob");
        assert!(refused.contains("would be overwritten"), "{refused}");
        checked(home.path(), false, &home.path().join("verdict.json")).expect("a new file");
    }
}
