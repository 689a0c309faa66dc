//! Files that a policy's source names.

use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

/// Largest file that a source may name, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The folder that a source's relative names of files start from, and must not leave.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of a source file.
    pub fn of(source: &Path) -> Self {
        Self(source.parent().unwrap_or(Path::new("")).to_owned())
    }

    /// Reads a file of at most [`MAX_FILE`] bytes; a reason otherwise.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        let path = self.path(name)?;
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| {
            if !file.metadata()?.is_file() {
                return Err(std::io::Error::other("not a file"));
            }
            file.take(MAX_FILE + 1).read_to_end(&mut bytes)
        });
        read.map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(format!("the file {} has more than {MAX_FILE} bytes", path.display()));
        }
        Ok(bytes)
    }

    fn path(&self, name: &str) -> Result<PathBuf, String> {
        let path = Path::new(name);
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        let leaves = || {
            format!("the file {name} is outside of the policy's folder; move it below, or name it from the root (`/…`)")
        };
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(leaves());
        }
        let full = self.0.join(path);
        // A link may lead out as well. What is not there is told when it is read.
        let root = if self.0.as_os_str().is_empty() { Path::new(".") } else { &self.0 };
        if let (Ok(real), Ok(root)) = (full.canonicalize(), root.canonicalize())
            && !real.starts_with(root)
        {
            return Err(leaves());
        }
        Ok(full)
    }
}
