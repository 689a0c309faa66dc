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
