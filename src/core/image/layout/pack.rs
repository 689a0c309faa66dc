//! An OCI layout as a tar file: equal layouts give equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Files, Over};
use super::{Layout, failed, refused, replace};
use crate::image::repository::RepositoryError;
use crate::store::disk::{self, Aside, Modes};

/// The folder of a layout's blobs.
const BLOBS: &str = "blobs/sha256";

/// Packs a layout into a file that is not there yet: names in their order, no owners, no times.
pub fn pack(layout: &Path, file: &Path) -> Result<(), RepositoryError> {
    let what = || file.display().to_string();
    let aside = Aside::new(beside(file), Modes::SHARED).map_err(failed(what()))?;
    write(layout, aside.as_file()).map_err(failed(what()))?;
    let aside = aside.named(beside(file), Modes::SHARED).map_err(failed(what()))?;
    aside.persist_noclobber(file).map_err(|error| failed(what())(error.error))?;
    Ok(())
}

fn write(layout: &Path, file: &File) -> io::Result<()> {
    let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 20, file));
    for name in ["oci-layout", "index.json"] {
        append(&mut archive, &layout.join(name), name)?;
    }
    for name in ["blobs/", "blobs/sha256/"] {
        let mut header = plain_header(0, 0o755);
        header.set_entry_type(tar::EntryType::Directory);
        archive.append_data(&mut header, name, io::empty())?;
    }
    for blob in blobs(layout)? {
        append(&mut archive, &layout.join(&blob), &blob)?;
    }
    archive.into_inner()?.flush()
}

/// The folder in which a file is.
fn beside(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The names of a folder's blobs, sorted.
fn blobs(layout: &Path) -> io::Result<BTreeSet<String>> {
    let mut blobs = BTreeSet::new();
    for entry in fs::read_dir(layout.join(BLOBS))? {
        let name = entry?.file_name();
        // What somebody is still writing has no name of a blob.
        let name = name.to_str().filter(|name| name.len() == 64 && !name.starts_with('.'));
        blobs.extend(name.map(|name| format!("{BLOBS}/{name}")));
    }
    Ok(blobs)
}

/// By what a file is known again: device, inode, size and time of change.
type Same = (u64, u64, u64, i64, i64);

fn same(about: &Metadata) -> Same {
    (about.dev(), about.ino(), about.size(), about.mtime(), about.mtime_nsec())
}

/// A layout in a tar file that is changed: what is new lies in a folder until the file is written anew.
pub struct Edited {
    layout: Arc<Layout>,
    path: PathBuf,
    before: Same,
    index: Vec<u8>,
}

impl Edited {
    /// Opens a layout in a tar file for changes, which are kept in the empty folder `scratch` until [`Self::finish`].
    pub fn open(file: &Path, scratch: &Path) -> Result<Self, RepositoryError> {
        let what = || file.display().to_string();
        // It is written anew under its name: what a link leads to would stay as it was.
        if fs::symlink_metadata(file).is_ok_and(|about| about.file_type().is_symlink()) {
            return Err(refused(file, "it is a link: name the file that it leads to"));
        }
        let Files::Tar(handle, files) = Files::of_tar(file).map_err(failed(what()))? else {
            return Err(refused(file, "it is no tar file"));
        };
        let before = same(&handle.metadata().map_err(failed(what()))?);
        let below = Layout { path: file.to_owned(), files: Files::Tar(handle.clone(), files.clone()) };
        let (marker, index) = (below.marker()?, below.index_bytes()?);
        fs::create_dir_all(scratch.join(BLOBS)).map_err(failed(what()))?;
        replace(scratch, "index.json", &index).map_err(failed(what()))?;
        replace(scratch, "oci-layout", &marker).map_err(failed(what()))?;
        let layout = Layout::checked(file, Files::Over(Over::new(scratch.to_owned(), handle, files)))?;
        Ok(Self { layout: Arc::new(layout), path: file.to_owned(), before, index })
    }

    /// The layout, with its changes.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Writes the file anew, beside the old one, whose name it takes then. Other files in it stay. Nothing is written
    /// where nothing was changed, or where the old file is another one by now.
    pub fn finish(&self) -> Result<(), RepositoryError> {
        let what = || self.path.display().to_string();
        let Files::Over(over) = &self.layout.files else { return Ok(()) };
        if !over.folder.join("index.json").exists() {
            return Err(refused(&self.path, "the folder of its changes is gone: nothing was written"));
        }
        if self.layout.index_bytes()? == self.index && over.left().len() == over.files.len() {
            return Ok(());
        }
        let aside = Aside::new(beside(&self.path), Modes::SHARED).map_err(failed(what()))?;
        self.write(over, aside.as_file()).map_err(failed(what()))?;
        let now = fs::symlink_metadata(&self.path).map_err(failed(what()))?;
        if same(&now) != self.before {
            return Err(refused(&self.path, "it was changed meanwhile, or is a link: nothing was written"));
        }
        aside.as_file().set_permissions(now.permissions()).map_err(failed(what()))?;
        let aside = aside.named(beside(&self.path), Modes::SHARED).map_err(failed(what()))?;
        disk::rename(aside, &self.path).map_err(failed(what()))
    }

    fn write(&self, over: &Over, file: &File) -> io::Result<()> {
        let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 20, file));
        let first = ["oci-layout", "index.json"];
        let new = blobs(&over.folder)?;
        let rest: BTreeSet<&str> =
            over.left().into_iter().chain(&new).map(String::as_str).filter(|name| !first.contains(name)).collect();
        // What has several names in the old file has its bytes once in the new one: a stranger's links must not make it
        // grow with every signature.
        let mut written: BTreeMap<(u64, u64), &str> = BTreeMap::new();
        // Where a blob has other names as well, its own is the one that has the bytes: not all readers follow links.
        let (own, others): (Vec<&str>, Vec<&str>) = rest.into_iter().partition(|name| name.starts_with(BLOBS));
        for name in first.into_iter().chain(own).chain(others) {
            // A name in the folder takes the place of one in the file.
            let is_old = !first.contains(&name) && !new.contains(name);
            if let Some(place) = over.files.get(name).filter(|_| is_old) {
                if let Some(target) = written.get(place) {
                    let mut header = plain_header(0, 0o644);
                    header.set_entry_type(tar::EntryType::Link);
                    archive.append_link(&mut header, name, target)?;
                    continue;
                }
                written.insert(*place, name);
            }
            let Some((size, reader)) = self.layout.files.open(name)? else { continue };
            archive.append_data(&mut plain_header(size, 0o644), name, reader.take(size))?;
        }
        archive.into_inner()?.flush()
    }
}

fn plain_header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

fn append(archive: &mut tar::Builder<BufWriter<&File>>, path: &Path, name: &str) -> io::Result<()> {
    let file = File::open(path)?;
    let mut header = plain_header(file.metadata()?.len(), 0o644);
    archive.append_data(&mut header, name, file)
}
