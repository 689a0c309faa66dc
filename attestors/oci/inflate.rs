//! Inflating entries while the archive streams by: one thread inflates, one hashes what comes out.
//!
//! Jobs come in the order of the archive; each is one gzip (RFC 1952, several members) or zstd (RFC 8878,
//! several frames, skippable frames) stream.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

pub use affiant_core::inflate::Compression;
pub(super) use affiant_core::inflate::{Inflater, fill};
use sha2::{Digest as _, Sha256};

use super::Limits;

/// Size of the chunks in which bytes pass between the threads.
pub(super) const CHUNK: usize = 1 << 20;
/// Chunks that may wait between two threads.
pub(super) const WAITING: usize = 2;
/// What a compressed entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inflated {
    /// How it was compressed.
    pub compression: Compression,
    /// SHA-256 of the inflated bytes: the diff id of a layer.
    pub sha256: [u8; 32],
    /// Number of inflated bytes.
    pub size: u64,
}

/// A reusable buffer, shared by the threads that read from it.
pub(super) type Buffer = Arc<Vec<u8>>;

/// Buffers that are used again once all readers are done with them.
#[derive(Default)]
pub(super) struct Pool(Vec<Buffer>);

impl Pool {
    /// A buffer of [`CHUNK`] bytes that nobody else holds, filled by `fill`, and what `fill` returned.
    pub(super) fn filled<T>(&mut self, fill: impl FnOnce(&mut [u8]) -> T) -> (Buffer, T) {
        let free = self.0.iter().position(|buffer| Arc::strong_count(buffer) == 1);
        let mut buffer = free.map_or_else(|| Arc::new(vec![0; CHUNK]), |at| self.0.swap_remove(at));
        // The count was 1 and this pool is the only one that clones from it, so the content is ours.
        let bytes: &mut Vec<u8> = Arc::make_mut(&mut buffer);
        let result = fill(bytes);
        self.0.push(Arc::clone(&buffer));
        (buffer, result)
    }
}

/// What the walking thread tells the inflating thread.
pub(super) enum Job {
    /// An entry begins.
    Start(Compression),
    /// Bytes of it.
    Data(Buffer, Range<usize>),
    /// It is complete.
    End,
}

/// What the inflating thread tells the hashing thread.
pub(super) enum Output {
    /// Bytes.
    Data(Buffer, usize),
    /// The stream is complete, or broken for the given reason.
    End(Compression, Result<u64, String>),
}

/// Runs until the walking thread hangs up.
pub(super) fn inflate_all(jobs: &Receiver<Job>, out: &SyncSender<Output>, limits: &Limits) {
    let mut pool = Pool::default();
    let (mut taken, mut given) = (0, 0);
    while let Ok(job) = jobs.recv() {
        let Job::Start(compression) = job else { continue };
        let mut input = Input { jobs, buffer: None, at: 0, end: 0, ended: false };
        let mut inflater = Inflater::new(compression, &mut input, limits.inflated_free, limits.inflated_ratio);
        let result = loop {
            let (buffer, filled) = pool.filled(|buffer| fill(&mut inflater, buffer));
            let (n, end) = match filled {
                Ok(filled) => filled,
                Err(error) => break Err(error.to_string()),
            };
            if given + inflater.given()
                > limits.total_free.max(limits.total_ratio.saturating_mul(taken + inflater.taken()))
            {
                break Err(format!(
                    "all layers together inflate to more than {} bytes, the limit",
                    given + inflater.given()
                ));
            }
            if n > 0 && out.send(Output::Data(buffer, n)).is_err() {
                return;
            }
            if end {
                break Ok(inflater.given());
            }
        };
        given += inflater.given();
        taken += inflater.taken();
        drop(inflater);
        input.drain();
        if out.send(Output::End(compression, result)).is_err() {
            return;
        }
    }
}

/// Hashes what the inflating thread sends; one result for each job, in their order.
pub(super) fn hash_all(input: &Receiver<Output>) -> Vec<Result<Inflated, String>> {
    let mut results = Vec::new();
    let mut state = Sha256::new();
    while let Ok(output) = input.recv() {
        match output {
            Output::Data(buffer, length) => state.update(&buffer[..length]),
            Output::End(compression, result) => {
                let sha256 = state.finalize_reset().into();
                results.push(result.map(|size| Inflated { compression, sha256, size }));
            }
        }
    }
    results
}

/// The bytes of one job.
struct Input<'a> {
    jobs: &'a Receiver<Job>,
    buffer: Option<Buffer>,
    at: usize,
    end: usize,
    ended: bool,
}

impl Input<'_> {
    /// Throws away what the decoder did not want.
    fn drain(&mut self) {
        self.buffer = None;
        while !self.ended {
            match self.jobs.recv() {
                Ok(Job::Data(..)) => {}
                _ => self.ended = true,
            }
        }
    }
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.end && !self.ended {
            self.buffer = None;
            match self.jobs.recv() {
                Ok(Job::Data(buffer, range)) => {
                    (self.at, self.end) = (range.start, range.end);
                    self.buffer = Some(buffer);
                }
                _ => self.ended = true,
            }
        }
        Ok(self.buffer.as_ref().map_or(&[], |buffer| &buffer[self.at..self.end]))
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let n = from.len().min(buffer.len());
        buffer[..n].copy_from_slice(&from[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// A whole archive that is compressed, inflated and hashed as it is read.
pub(super) struct Inflating<R: Read> {
    compression: Compression,
    inflater: Inflater<BufReader<R>>,
    state: Sha256,
}

impl<R: Read> Inflating<R> {
    pub(super) fn new(reader: R, compression: Compression, limits: &Limits) -> Self {
        let inflater = Inflater::new(
            compression,
            BufReader::with_capacity(CHUNK, reader),
            limits.inflated_free,
            limits.inflated_ratio,
        );
        Self { compression, inflater, state: Sha256::new() }
    }

    /// Reads what is left, and says what the archive inflates to.
    pub(super) fn finish(mut self) -> Result<Inflated, String> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let (_, end) = fill(&mut self, &mut buffer).map_err(|error| error.to_string())?;
            if end {
                let sha256 = self.state.finalize().into();
                return Ok(Inflated { compression: self.compression, sha256, size: self.inflater.given() });
            }
        }
    }
}

impl<R: Read> Read for Inflating<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inflater.read(buffer)?;
        self.state.update(&buffer[..n]);
        Ok(n)
    }
}

/// The first block of 512 bytes of a compressed file; `None` where it holds less.
pub(super) fn first_block(reader: impl Read, compression: Compression) -> io::Result<Option<[u8; 512]>> {
    let mut inflater = Inflater::new(
        compression,
        BufReader::new(reader),
        Limits::DEFAULT.inflated_free,
        Limits::DEFAULT.inflated_ratio,
    );
    let mut block = [0; 512];
    let (n, _) = fill(&mut inflater, &mut block)?;
    Ok((n == block.len()).then_some(block))
}
