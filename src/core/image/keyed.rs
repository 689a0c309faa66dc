//! How keys sign images: with SHA-256 for every curve and PKCS#1 v1.5 for RSA, which cosign checks without being told more
//! (sigstore-oci, corrections). cosign itself signs with the hash of the curve, and takes that only where a flag names the
//! hash; here both count.

use crate::sign::{KeyKind, PrivateKey, PublicKey, Scheme, SignError, Signer as _};

/// A signature of an image does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSignature {
    /// It is not one of the key.
    #[error("invalid signature: it is not by this key over these bytes")]
    Bad,
    /// It holds, and is of a scheme that images are not signed with.
    #[error("the signature is {scheme}, and images are signed with PKCS#1 v1.5")]
    Scheme {
        /// The scheme.
        scheme: Scheme,
    },
}

/// Signs the concatenation of `message`.
pub fn sign(key: &PrivateKey, message: &[&[u8]]) -> Result<Vec<u8>, SignError> {
    key.sign_as(scheme(key.public_key()), message)
}

/// How a key signs images.
pub(crate) fn scheme(key: &PublicKey) -> Scheme {
    match key.kind() {
        KeyKind::Ed25519 => Scheme::Ed25519,
        KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => Scheme::EcdsaSha256,
        KeyKind::Rsa { .. } => Scheme::RsaPkcs1Sha256,
    }
}

/// Whether a signature over the concatenation of `message` is one of the key, made as images are signed.
pub fn holds(key: &PublicKey, message: &[&[u8]], signature: &[u8]) -> Result<(), NoSignature> {
    match key.verify(message, signature) {
        Ok(scheme @ Scheme::RsaPssSha256) => Err(NoSignature::Scheme { scheme }),
        Ok(_) => Ok(()),
        Err(_) => key.verify_with_hash_of_curve(message, signature).map_err(|_| NoSignature::Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_key_signs_and_pss_does_not_count() {
        for (name, kind) in KeyKind::GENERATED {
            if matches!(kind, KeyKind::Rsa { bits } if bits > 2048) {
                continue;
            }
            let key = PrivateKey::generate(kind).expect("a key");
            let signature = sign(&key, &[b"a", b"b"]).expect("signs");
            assert_eq!(holds(key.public_key(), &[b"ab"], &signature), Ok(()), "{name}");
            assert_eq!(holds(key.public_key(), &[b"ac"], &signature), Err(NoSignature::Bad), "{name}");
        }
        let key = PrivateKey::generate(KeyKind::Rsa { bits: 2048 }).expect("a key");
        let pss = key.sign(&[b"ab"]).expect("signs");
        assert!(matches!(holds(key.public_key(), &[b"ab"], &pss), Err(NoSignature::Scheme { .. })));
    }
}
