//! A few small files in one: a tar (POSIX ustar), always the same bytes for the same files.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

/// Most files of one.
pub const MAX_FILES: usize = 1024;

/// Packs files, in the order in which they come.
pub fn pack<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(&mut header, name, content)?;
    }
    archive.into_inner()
}

/// The files that were packed. Anything but plain files of different names, and more than `limit` bytes or [`MAX_FILES`]
/// of them, is an error.
pub fn unpack(bytes: &[u8], limit: u64) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut left = limit;
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let name = String::from_utf8(entry.path_bytes().into_owned()).map_err(io::Error::other)?;
        let shown = name.escape_debug().to_string();
        if !entry.header().entry_type().is_file() {
            return Err(io::Error::other(format!("`{shown}` is no regular file")));
        }
        left = left.checked_sub(entry.size()).ok_or_else(|| io::Error::other(format!("more than {limit} bytes")))?;
        if files.len() == MAX_FILES {
            return Err(io::Error::other(format!("more than {MAX_FILES} files")));
        }
        let mut content = Vec::new();
        entry.by_ref().take(limit).read_to_end(&mut content)?;
        if files.insert(name, content).is_some() {
            return Err(io::Error::other(format!("`{shown}` stands there twice")));
        }
    }
    if files.is_empty() { Err(io::Error::other("nothing in it")) } else { Ok(files) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        let files = BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b/c.json".to_owned(), Vec::new())]);
        let pairs = || files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        let packed = pack(pairs()).expect("packed");
        assert_eq!(packed, pack(pairs()).expect("packed"));
        assert_eq!(unpack(&packed, 100).expect("read"), files);
        assert!(unpack(&packed, 0).is_err());
        assert!(unpack(b"x", 100).is_err() && unpack(b"", 100).is_err());
        let twice = pack([("a", &b"1"[..]), ("a", &b"2"[..])]).expect("packed");
        assert!(unpack(&twice, 100).expect_err("twice").to_string().contains("twice"));
    }

    #[test]
    fn only_plain_files_come_out() {
        for kind in
            [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Directory, tar::EntryType::GNUSparse]
        {
            let mut archive = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_path("a").expect("a path");
            header.set_link_name("/etc/passwd").expect("a path");
            header.set_cksum();
            archive.append(&header, io::empty()).expect("written");
            let bytes = archive.into_inner().expect("written");
            assert!(unpack(&bytes, 100).is_err(), "{kind:?}");
        }
    }
}
