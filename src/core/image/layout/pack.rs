//! An OCI layout as a tar file: equal layouts give equal bytes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::{aside, failed};
use crate::image::repository::RepositoryError;

/// Packs a layout into a file that is not there yet: names in their order, no owners, no times.
pub fn pack(layout: &Path, file: &Path) -> Result<(), RepositoryError> {
    let what = || file.display().to_string();
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let aside = aside(folder).map_err(failed(what()))?;
    write(layout, aside.as_file()).map_err(failed(what()))?;
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
    let mut blobs = Vec::new();
    for entry in fs::read_dir(layout.join("blobs/sha256"))? {
        let name = entry?.file_name();
        // What somebody is still writing has no name of a blob.
        blobs.extend(name.to_str().filter(|name| name.len() == 64 && !name.starts_with('.')).map(str::to_owned));
    }
    blobs.sort_unstable();
    for blob in blobs {
        append(&mut archive, &layout.join("blobs/sha256").join(&blob), &format!("blobs/sha256/{blob}"))?;
    }
    archive.into_inner()?.flush()
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
