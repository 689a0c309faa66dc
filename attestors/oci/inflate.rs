//! Inflating entries while the archive streams by: one thread inflates, one hashes what comes out.
//!
//! Jobs come in the order of the archive; each is one gzip (RFC 1952, several members) or zstd (RFC 8878,
//! several frames, skippable frames) stream.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest as _, Sha256};

use super::Limits;

/// Size of the chunks in which bytes pass between the threads.
pub(super) const CHUNK: usize = 1 << 20;
/// Chunks that may wait between two threads.
pub(super) const WAITING: usize = 2;
/// Largest window that a zstd frame may ask for: what `zstd --ultra -22` writes.
const ZSTD_WINDOW: u64 = 128 << 20;

/// How an entry is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Number of bytes that [`Compression::sniff`] needs to see.
    pub(super) const SNIFF: usize = 4;

    /// What the first bytes of an entry say.
    pub fn sniff(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Some(Self::Gzip),
            // A frame, or a skippable frame before it (magic 0x184D2A50 to 0x184D2A5F).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    /// `gzip` or `zstd`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

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
        let mut inflater = Inflater::new(compression, &mut input, limits);
        let result = loop {
            let (buffer, filled) = pool.filled(|buffer| fill(&mut inflater, buffer));
            let (n, end) = match filled {
                Ok(filled) => filled,
                Err(error) => break Err(error.to_string()),
            };
            if given + inflater.given
                > limits.total_free.max(limits.total_ratio.saturating_mul(taken + inflater.taken()))
            {
                break Err(format!(
                    "all layers together inflate to more than {} bytes, the limit",
                    given + inflater.given
                ));
            }
            if n > 0 && out.send(Output::Data(buffer, n)).is_err() {
                return;
            }
            if end {
                break Ok(inflater.given);
            }
        };
        given += inflater.given;
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

/// Inflates a stream, within the limits for one layer.
pub(super) struct Inflater<B: BufRead> {
    stream: Stream<B>,
    given: u64,
    free: u64,
    ratio: u64,
}

enum Stream<B: BufRead> {
    Gzip(Box<flate2::bufread::MultiGzDecoder<Counted<B>>>),
    Zstd(Box<Frames<Counted<B>>>),
}

impl<B: BufRead> Inflater<B> {
    pub(super) fn new(compression: Compression, input: B, limits: &Limits) -> Self {
        let input = Counted { input, taken: 0 };
        let stream = match compression {
            Compression::Gzip => Stream::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Compression::Zstd => {
                let mut decoder = FrameDecoder::new();
                decoder.set_max_window_size(ZSTD_WINDOW);
                Stream::Zstd(Box::new(Frames { input, decoder }))
            }
        };
        Self { stream, given: 0, free: limits.inflated_free, ratio: limits.inflated_ratio }
    }

    /// Compressed bytes that were used.
    fn taken(&self) -> u64 {
        match &self.stream {
            Stream::Gzip(decoder) => decoder.get_ref().taken,
            Stream::Zstd(frames) => frames.input.taken,
        }
    }
}

impl<B: BufRead> Read for Inflater<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.stream {
            Stream::Gzip(decoder) => decoder.read(buffer),
            Stream::Zstd(frames) => frames.read(buffer),
        }?;
        self.given += n as u64;
        if self.given > self.free {
            let taken = self.taken();
            if self.given > self.ratio.saturating_mul(taken) {
                let text = format!("inflates to more than {} bytes from {taken}, which is past the limit", self.free);
                return Err(io::Error::other(text));
            }
        }
        Ok(n)
    }
}

/// Counts what is consumed.
struct Counted<B> {
    input: B,
    taken: u64,
}

impl<B: BufRead> Read for Counted<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.taken += n as u64;
        Ok(n)
    }
}

impl<B: BufRead> BufRead for Counted<B> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.input.consume(n);
        self.taken += n as u64;
    }
}

/// zstd frames one after the other; the decoder knows one only.
struct Frames<B: BufRead> {
    input: B,
    decoder: FrameDecoder,
}

impl<B: BufRead> Read for Frames<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { input, decoder } = self;
        while decoder.can_collect() == 0 {
            if !decoder.is_finished() {
                decoder.decode_blocks(&mut *input, BlockDecodingStrategy::UptoBlocks(1)).map_err(io::Error::other)?;
                continue;
            }
            if input.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match decoder.init(&mut *input) {
                Ok(()) => {}
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut input.by_ref().take(length), &mut io::sink())? != length {
                        return Err(io::Error::other("a skippable frame is cut off"));
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        decoder.read(buffer)
    }
}

/// Reads until `buffer` is full or the stream ends: `(bytes, ended)`.
pub(super) fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut n = 0;
    while n < buffer.len() {
        match reader.read(&mut buffer[n..]) {
            Ok(0) => return Ok((n, true)),
            Ok(more) => n += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((n, false))
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
        let inflater = Inflater::new(compression, BufReader::with_capacity(CHUNK, reader), limits);
        Self { compression, inflater, state: Sha256::new() }
    }

    /// Reads what is left, and says what the archive inflates to.
    pub(super) fn finish(mut self) -> Result<Inflated, String> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let (_, end) = fill(&mut self, &mut buffer).map_err(|error| error.to_string())?;
            if end {
                let sha256 = self.state.finalize().into();
                return Ok(Inflated { compression: self.compression, sha256, size: self.inflater.given });
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
    let mut inflater = Inflater::new(compression, BufReader::new(reader), &Limits::DEFAULT);
    let mut block = [0; 512];
    let (n, _) = fill(&mut inflater, &mut block)?;
    Ok((n == block.len()).then_some(block))
}
