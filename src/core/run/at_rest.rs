//! Evidence without a command: the products are files that the user names.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::collection::Gap;
use crate::digest::{Algorithm, BUFFER, Hasher};
use crate::mime;
use crate::product::{Change, Product};
use crate::select::Glob;
use crate::snapshot::{Changes, Snapshot, Tap, digest_set};

/// What counts as product where no command was run.
#[derive(Clone, Debug, Default)]
pub struct AtRest {
    /// Files and folders, relative to the working directory, with `/`. Of a folder every recorded file counts.
    pub paths: Vec<String>,
    /// Every recorded file that one of these takes.
    pub globs: Vec<Glob>,
}

/// Reads the products. What was named and cannot be read is a gap.
pub(super) fn products(at_rest: &AtRest, files: &Snapshot, tap: &Listen<'_>, gaps: &mut Vec<Gap>) -> Changes {
    let mut gap = |reason: String| gaps.push(Gap { attestor: "product".to_owned(), reason, named: true });
    let mut paths = Vec::new();
    for named in &at_rest.paths {
        if files.root().join(named).is_dir() {
            // A whole folder stands for itself: what is in it was recorded as one digest.
            let prefix = if named.is_empty() { String::new() } else { format!("{named}/") };
            let inside: Vec<_> = files.iter().filter(|file| file.path.starts_with(&prefix)).collect();
            if inside.is_empty() {
                gap(format!("{named}: no file of this folder is recorded"));
            }
            paths.extend(inside.into_iter().map(|file| file.path.to_owned()));
        } else {
            paths.push(named.clone());
        }
    }
    for glob in &at_rest.globs {
        let before = paths.len();
        paths.extend(files.iter().filter(|file| glob.matches(file.path)).map(|file| file.path.to_owned()));
        if paths.len() == before {
            gap(format!("`{}` takes no recorded file", glob.pattern()));
        }
    }
    paths.sort();
    paths.dedup();
    let mut products = Vec::new();
    for path in paths {
        match product(&path, files, tap) {
            Ok(product) => products.push(product),
            Err(error) => gap(format!("{path}: {error}")),
        }
    }
    Changes { products, ..Changes::default() }
}

/// Asks the attestors who listens to a product.
pub(super) type Listen<'a> = dyn Fn(&str, &[u8], u64) -> Option<Box<dyn Tap>> + Sync + 'a;

/// Reads one product, once. It must be what the snapshot recorded.
fn product(path: &str, files: &Snapshot, tap: &Listen<'_>) -> io::Result<Product> {
    let recorded = files.get(path);
    if let Some(folder) = recorded.filter(|_| path.ends_with('/')) {
        return Ok(Product {
            path: path.to_owned(),
            mime: "unknown".to_owned(),
            digests: folder.digest_set(),
            length: folder.length,
            change: Change::Named,
        });
    }
    let mut file = open(files.root(), path)?;
    let length = file.metadata()?.len();
    let algorithms: Vec<Algorithm> = files.options().hashes.clone();
    let mut hasher = Hasher::new(&algorithms, length);
    let mut buffer = vec![0; BUFFER];
    let mut filled = fill(&mut file, &mut buffer)?;
    let head = &buffer[..filled.min(mime::HEAD)];
    let mime = mime::detect(head).into_owned();
    let mut listener = tap(path, head, length);
    while filled > 0 {
        hasher.update(&buffer[..filled]);
        if let Some(listener) = &mut listener {
            listener.bytes(&buffer[..filled]);
        }
        filled = fill(&mut file, &mut buffer)?;
    }
    if hasher.length() != length {
        return Err(io::Error::other("it changed while it was read"));
    }
    let digests = digest_set(&algorithms, &hasher.finish());
    if recorded.is_some_and(|recorded| recorded.digest_set() != digests) {
        return Err(io::Error::other("it changed after its digest was recorded"));
    }
    if let Some(listener) = listener {
        listener.done(&digests);
    }
    Ok(Product { path: path.to_owned(), mime, digests, length, change: Change::Named })
}

/// Opens a regular file that lies in `root`, also when links lead to it.
fn open(root: &Path, path: &str) -> io::Result<File> {
    let root = root.canonicalize()?;
    let target = root.join(path).canonicalize()?;
    if !target.starts_with(&root) {
        return Err(io::Error::other("it leads out of the working directory"));
    }
    // O_NONBLOCK: a FIFO that took the file's place must not hang us.
    let file = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC | nix::libc::O_NOFOLLOW)
        .open(target)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Options, Progress, Timestamp, first};

    /// What is wrong with the products that `at_rest` names, and their paths, after `change` has been made.
    fn products_after(at_rest: &AtRest, change: impl Fn(&Path)) -> (Vec<String>, Vec<String>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().canonicalize().expect("it is there");
        std::fs::create_dir(root.join("dist")).expect("makes a folder");
        for (path, content) in [("dist/app", "app"), ("dist/copy", "app"), ("other", "other")] {
            std::fs::write(root.join(path), content).expect("writes");
        }
        std::os::unix::fs::symlink("/etc/hostname", root.join("out")).expect("links");
        let clock = || Timestamp { seconds: 1, nanos: 0 };
        let snapshot = first(Options::new(&root), &clock, &Progress::default()).expect("a snapshot");
        change(&root);
        let mut gaps = Vec::new();
        let changes = products(at_rest, &snapshot, &|_, _, _| None, &mut gaps);
        assert!(gaps.iter().all(|gap| gap.named && gap.attestor == "product"));
        (
            changes.products.into_iter().map(|product| product.path).collect(),
            gaps.into_iter().map(|gap| gap.reason).collect(),
        )
    }

    fn named(paths: &[&str]) -> AtRest {
        AtRest { paths: paths.iter().map(|path| (*path).to_owned()).collect(), globs: Vec::new() }
    }

    #[test]
    fn files_folders_and_globs_name_each_product_once() {
        let glob = Glob::new("*app").expect("a glob");
        let at_rest = AtRest { globs: vec![glob], ..named(&["dist", "dist/app"]) };
        let (paths, gaps) = products_after(&at_rest, |_| {});
        assert_eq!((paths, gaps), (vec!["dist/app".to_owned(), "dist/copy".to_owned()], Vec::new()));
        let (paths, _) = products_after(&named(&[""]), |_| {});
        assert_eq!(paths, ["dist/app", "dist/copy", "other"]);
    }

    #[test]
    fn what_is_not_as_it_was_recorded_is_a_gap() {
        let write =
            |content: &'static str| move |root: &Path| std::fs::write(root.join("other"), content).expect("writes");
        let (paths, gaps) = products_after(&named(&["other", "dist/app"]), write("edited"));
        assert_eq!(paths, ["dist/app"]);
        assert_eq!(gaps, ["other: it changed after its digest was recorded"]);
        let gone = |root: &Path| std::fs::remove_file(root.join("other")).expect("is there");
        assert_eq!(products_after(&named(&["other"]), gone).1.len(), 1);
        let fifo = |root: &Path| {
            std::fs::remove_file(root.join("other")).expect("is there");
            nix::unistd::mkfifo(&root.join("other"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        };
        assert_eq!(products_after(&named(&["other"]), fifo).1, ["other: it is no file"]);
        assert_eq!(products_after(&named(&["out"]), |_| {}).1, ["out: it leads out of the working directory"]);
        let (paths, gaps) =
            products_after(&AtRest { globs: vec![Glob::new("*.tar").expect("a glob")], ..named(&[]) }, |_| {});
        assert_eq!((paths.len(), gaps), (0, vec!["`*.tar` takes no recorded file".to_owned()]));
    }
}
