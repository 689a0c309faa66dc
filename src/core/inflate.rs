//! Inflating gzip and zstd streams, within limits.
//!
//! Sources: RFC 1952 (gzip, several members), RFC 8878 (zstd, several frames, skippable frames).

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Largest window that a zstd frame may ask for: what `zstd --ultra -22` writes.
const ZSTD_WINDOW: u64 = 128 << 20;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Number of bytes that [`Compression::sniff`] needs to see.
    pub const SNIFF: usize = 4;

    /// What the first bytes say.
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

/// Inflates a stream, and ends with an error where it inflates to more than `free` bytes and more than `ratio` times its
/// length.
pub struct Inflater<B: BufRead> {
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
    /// Inflates `input`.
    pub fn new(compression: Compression, input: B, free: u64, ratio: u64) -> Self {
        let input = Counted { input, taken: 0 };
        let stream = match compression {
            Compression::Gzip => Stream::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Compression::Zstd => {
                let mut decoder = FrameDecoder::new();
                decoder.set_max_window_size(ZSTD_WINDOW);
                Stream::Zstd(Box::new(Frames { input, decoder }))
            }
        };
        Self { stream, given: 0, free, ratio }
    }

    /// Inflated bytes that were given.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Compressed bytes that were used.
    pub fn taken(&self) -> u64 {
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
pub fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
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
