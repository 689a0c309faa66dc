//! Blobs on their way: several at the same time, in pieces, and none whole that does not hash to its digest.

use std::io::{self, Read};

use super::{CarryError, Options, Report};
use crate::at_once;
use crate::image::manifest::Descriptor;
use crate::image::reference::Digest;
use crate::image::repository::{Repository, RepositoryError, patiently};

/// What became of a blob.
enum Done {
    Present,
    Mounted,
    Sent,
    /// It is nowhere, and need not be: a layer that is not distributed.
    Absent,
}

/// Carries what is missing, several at the same time; the first that fails ends all.
pub(super) fn carry(
    from: &dyn Repository,
    to: &dyn Repository,
    blobs: &[Descriptor],
    options: &Options,
    report: &mut Report,
) -> Result<(), CarryError> {
    let done = at_once::all(blobs, options.at_once, |blob| one_blob(from, to, blob, options))?;
    for (blob, done) in blobs.iter().zip(done) {
        match done {
            Done::Present => report.present += 1,
            Done::Mounted => report.mounted += 1,
            Done::Sent => report.sent = (report.sent.0 + 1, report.sent.1 + blob.size),
            Done::Absent => {
                report.notes.push(format!("the layer {} is kept elsewhere and was not carried", blob.digest));
            }
        }
    }
    Ok(())
}

/// A layer of which a registry need not have the bytes (OCI image specification, "Non-distributable layers").
pub(super) fn is_elsewhere(blob: &Descriptor) -> bool {
    blob.media_type.contains("nondistributable") || blob.media_type.contains("rootfs.foreign")
}

fn one_blob(
    from: &dyn Repository,
    to: &dyn Repository,
    blob: &Descriptor,
    options: &Options,
) -> Result<Done, RepositoryError> {
    if to.has_blob(&blob.digest)? {
        return Ok(Done::Present);
    }
    if is_elsewhere(blob) && !from.has_blob(&blob.digest)? {
        return Ok(Done::Absent);
    }
    if let Some(source) = &options.mount_from
        && to.mount_blob(&blob.digest, source)?
    {
        return Ok(Done::Mounted);
    }
    let mut is_first = true;
    patiently(|| {
        // What was sent, and whose answer was lost, need not be sent again.
        if !std::mem::take(&mut is_first) && to.has_blob(&blob.digest)? {
            return Ok(());
        }
        send(from, to, blob)
    })?;
    Ok(Done::Sent)
}

fn send(from: &dyn Repository, to: &dyn Repository, blob: &Descriptor) -> Result<(), RepositoryError> {
    let reader = from.blob(&blob.digest, blob.size)?;
    let mut whole = Whole::new(reader, blob.digest.clone(), blob.size);
    let put = to.put_blob(&blob.digest, blob.size, &mut whole);
    // Whoever takes the bytes sees only that they end.
    if let Some(fault) = whole.fault {
        return Err(RepositoryError::Io { what: format!("{} of {}", blob.digest, from.name()), source: fault });
    }
    put
}

/// Gives the last bytes of a blob only when all of them hash to its digest: what does not is never whole anywhere. The
/// hashing is done by the repository's reader, which fails at its end ([`Repository::blob`]).
struct Whole<R> {
    inner: R,
    wanted: Digest,
    left: u64,
    ended: bool,
    fault: Option<io::Error>,
}

impl<R: Read> Whole<R> {
    fn new(inner: R, wanted: Digest, size: u64) -> Self {
        Self { inner, wanted, left: size, ended: false, fault: None }
    }

    fn fail(&mut self, text: String) -> io::Error {
        self.ended = true;
        self.fault = Some(io::Error::new(io::ErrorKind::InvalidData, text.clone()));
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    /// The end of the inner reader, where it says whether the bytes are the right ones.
    fn end(&mut self) -> io::Result<()> {
        loop {
            match self.inner.read(&mut [0]) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(_) => {
                    let text = format!("{} is longer than was said", self.wanted);
                    return Err(self.fail(text));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fail(error.to_string())),
            }
        }
    }
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let count = match self.inner.read(&mut buffer[..wanted]) {
            _ if wanted == 0 => 0,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => return Err(self.fail(error.to_string())),
        };
        if count == 0 && self.left > 0 {
            let text = format!("{} ends {} bytes early", self.wanted, self.left);
            return Err(self.fail(text));
        }
        self.left -= count as u64;
        if self.left == 0 {
            self.end()?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::repository::Checked;

    /// Reads in pieces of `piece` bytes: what came before it ended, and how it ended.
    fn read(bytes: &[u8], wanted: &[u8], size: u64, piece: usize) -> (Vec<u8>, Option<String>) {
        let checked = Checked::new(bytes, Digest::of(wanted), size + 1);
        let mut whole = Whole::new(checked, Digest::of(wanted), size);
        let mut out = Vec::new();
        let mut buffer = vec![0; piece];
        loop {
            match whole.read(&mut buffer) {
                Ok(0) => return (out, whole.fault.map(|fault| fault.to_string())),
                Ok(count) => out.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    assert_eq!(whole.fault.map(|fault| fault.to_string()), Some(error.to_string()));
                    return (out, Some(error.to_string()));
                }
            }
        }
    }

    #[test]
    fn the_end_of_a_blob_that_does_not_hash_is_never_given() {
        for piece in [1, 2, 5, 100] {
            assert_eq!(read(b"hello", b"hello", 5, piece), (b"hello".to_vec(), None));
            assert_eq!(read(b"", b"", 0, piece), (Vec::new(), None));
            for (bytes, says) in [
                (&b"hellp"[..], "came where"),
                (b"hell", "came where"),
                (b"", "came where"),
                (b"hello!", "longer than was said"),
                (b"hello and more", "longer than was said"),
            ] {
                let (given, fault) = read(bytes, b"hello", 5, piece);
                assert!(given.len() < 5, "{piece}");
                assert!(fault.as_ref().is_some_and(|fault| fault.contains(says)), "{fault:?}");
            }
        }
    }
}
