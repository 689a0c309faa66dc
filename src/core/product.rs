//! Products: the files that a command made or changed, and the only reader that attestors get for them.
//!
//! The reader checks the recorded digest (security rule 3): what an attestor says of a product is said of
//! the very bytes that stand in the collection.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use crate::digest::{BUFFER, DigestSet};

/// How a file became a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there before.
    New,
    /// Its content differs.
    Changed,
    /// It was written again with equal content.
    Rewritten,
    /// No command was run: the user named it.
    Named,
}

/// A file that the command made or changed.
#[derive(Clone, Debug)]
pub struct Product {
    /// Path relative to the working directory, with `/`.
    pub path: String,
    /// MIME type found in the first bytes (wire-formats §4.5).
    pub mime: String,
    /// Digests of the content.
    pub digests: DigestSet,
    /// Length in bytes.
    pub length: u64,
    /// How it became a product.
    pub change: Change,
}

/// A product that could not be read as it was recorded.
#[derive(Debug, thiserror::Error)]
pub enum ProductError {
    /// The file cannot be opened or read.
    #[error("{path}: {source}")]
    Read {
        /// Path of the product.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The content is not the recorded one.
    #[error("{path}: changed after its digest was recorded")]
    Changed {
        /// Path of the product.
        path: String,
    },
    /// The file is longer than the reader's limit.
    #[error("{path}: {length} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Path of the product.
        path: String,
        /// Its length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

/// The products of a run, sorted by path.
#[derive(Debug, Default)]
pub struct Products {
    root: PathBuf,
    list: Vec<Product>,
}

impl Products {
    /// Products below `root` (absolute); they are sorted by path here.
    pub fn new(root: PathBuf, mut list: Vec<Product>) -> Self {
        list.sort_by(|a, b| a.path.cmp(&b.path));
        Self { root, list }
    }

    /// All products, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = &Product> {
        self.list.iter()
    }

    /// The folder that the paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Number of products.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The product with this path.
    pub fn get(&self, path: &str) -> Option<&Product> {
        self.list.binary_search_by(|product| product.path.as_str().cmp(path)).ok().map(|at| &self.list[at])
    }

    /// Opens a product for streaming. [`CheckedReader::finish`] must be called: only it says whether the
    /// bytes were the recorded ones.
    pub fn open(&self, product: &Product) -> Result<CheckedReader, ProductError> {
        let read = |source| ProductError::Read { path: product.path.clone(), source };
        // O_NONBLOCK: a FIFO that took the file's place must not hang us.
        let file = File::options()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
            .open(self.root.join(&product.path))
            .map_err(read)?;
        if !file.metadata().map_err(read)?.is_file() {
            return Err(ProductError::Changed { path: product.path.clone() });
        }
        Ok(CheckedReader {
            file,
            state: sha2::Sha256::new(),
            path: product.path.clone(),
            want: product.digests.sha256().unwrap_or_default().to_owned(),
        })
    }

    /// Reads a product of at most `limit` bytes and checks its digest.
    pub fn read(&self, product: &Product, limit: u64) -> Result<Vec<u8>, ProductError> {
        if product.length > limit {
            return Err(ProductError::TooLarge { path: product.path.clone(), length: product.length, limit });
        }
        let mut reader = self.open(product)?;
        let mut bytes = Vec::with_capacity(usize::try_from(product.length).unwrap_or(0));
        // One byte more than recorded: a file that grew is caught without reading all of it.
        (&mut reader)
            .take(product.length + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| ProductError::Read { path: product.path.clone(), source })?;
        reader.finish()?;
        Ok(bytes)
    }
}

/// A reader of one product that hashes what passes.
pub struct CheckedReader {
    file: File,
    state: sha2::Sha256,
    path: String,
    want: String,
}

impl CheckedReader {
    /// Reads what is left and compares the digest of all bytes with the recorded one.
    pub fn finish(mut self) -> Result<(), ProductError> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ProductError::Read { path: self.path, source }),
            }
        }
        if hex::encode(self.state.finalize()) == self.want {
            Ok(())
        } else {
            Err(ProductError::Changed { path: self.path })
        }
    }
}

impl Read for CheckedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.state.update(&buffer[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256_hex;

    fn one(root: &Path, content: &[u8]) -> Products {
        std::fs::write(root.join("a"), content).expect("writes");
        Products::new(
            root.to_owned(),
            vec![Product {
                path: "a".into(),
                mime: "text/plain".into(),
                digests: DigestSet::sha256_hex(sha256_hex(content)),
                length: content.len() as u64,
                change: Change::New,
            }],
        )
    }

    #[test]
    fn a_product_that_changed_is_refused() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let products = one(dir.path(), b"first");
        let product = products.get("a").expect("recorded");
        assert_eq!(products.read(product, 100).expect("reads"), b"first");
        std::fs::write(dir.path().join("a"), b"other").expect("writes");
        assert!(matches!(products.read(product, 100), Err(ProductError::Changed { .. })));
        std::fs::write(dir.path().join("a"), b"first and more").expect("writes");
        assert!(matches!(products.read(product, 100), Err(ProductError::Changed { .. })));
    }

    #[test]
    fn a_fifo_in_its_place_does_not_hang() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let products = one(dir.path(), b"first");
        std::fs::remove_file(dir.path().join("a")).expect("removes");
        nix::unistd::mkfifo(&dir.path().join("a"), nix::sys::stat::Mode::S_IRWXU).expect("makes a fifo");
        assert!(products.read(products.get("a").expect("recorded"), 100).is_err());
    }
}
