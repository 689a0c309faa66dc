//! Random bytes straight from the kernel.
//!
//! The `getrandom` crate looks the C library's function up when it runs, which a static binary cannot, and falls back to
//! `/dev/random`, which an empty root does not have.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::Zeroizing;

/// Tries to get a number below a curve's order, of which each succeeds with a chance of one half at the least.
const TRIES: usize = 128;

/// Fills `buffer`.
pub(crate) fn fill(buffer: &mut [u8]) -> Result<(), Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match getrandom(&mut buffer[filled..], GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A random secret of `length` bytes (at most 66) that `accept` takes: numbers that are zero or not below the order are
/// drawn again, so that all others are equally likely (FIPS 186-5 A.2.2). `first` masks the first byte.
pub(super) fn scalar<T, E>(length: usize, first: u8, accept: impl Fn(&[u8]) -> Result<T, E>) -> Option<T> {
    let mut bytes = Zeroizing::new([0; 66]);
    let bytes = bytes.get_mut(..length)?;
    (0..TRIES).find_map(|_| {
        fill(bytes).ok()?;
        bytes[0] &= first;
        accept(bytes).ok()
    })
}

/// A random number that no secret rests on; 0 where the kernel gives none.
pub(crate) fn number() -> u16 {
    let mut bytes = [0; 2];
    fill(&mut bytes).map_or(0, |()| u16::from_le_bytes(bytes))
}
