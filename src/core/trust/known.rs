//! What a certificate's key was seen to have signed, for as long as the certificate is held.
//!
//! A trusted root is read once and then judges a thousand bundles: that the same intermediate is signed by the same root,
//! and the same timestamper by its authority, is the same answer a thousand times. Whether a key made a signature depends
//! on nothing but the key and the bytes, so it may be remembered: the key is that of the certificate in which this lies,
//! and the bytes are known by the SHA-256 of the whole certificate below. Times, names and purposes are no part of it;
//! they are looked at each time. A signature that did not hold is not remembered.

use std::sync::{Mutex, PoisonError};

/// Most that are remembered of one key; then the oldest makes room. Leaves come and go, and what is asked for every time
/// are the few authorities.
const MAX_KNOWN: usize = 8;

/// SHA-256 of certificates.
#[derive(Default)]
pub(super) struct Known(Mutex<Vec<[u8; 32]>>);

impl Known {
    pub(super) fn has(&self, fingerprint: &[u8; 32]) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(fingerprint)
    }

    pub(super) fn add(&self, fingerprint: &[u8; 32]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(fingerprint) {
            return;
        }
        if known.len() >= MAX_KNOWN {
            known.remove(0);
        }
        known.push(*fingerprint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let known = Known::default();
        for number in 0..20 {
            known.add(&[number; 32]);
            known.add(&[number; 32]);
        }
        assert_eq!(known.0.lock().expect("no panic").len(), MAX_KNOWN);
        assert!(known.has(&[19; 32]) && known.has(&[12; 32]));
        assert!(!known.has(&[11; 32]));
    }
}
