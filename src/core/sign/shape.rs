//! What a DER document is, told by its structure: labels of PEM blocks are only hints.

use der::asn1::AnyRef;
use der::{Decode as _, Reader as _, SliceReader, Tag, Tagged as _};

/// The documents that hold keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `PrivateKeyInfo` (RFC 5208, RFC 5958).
    Pkcs8,
    /// `EncryptedPrivateKeyInfo` (RFC 5208 §6).
    EncryptedPkcs8,
    /// `ECPrivateKey` (RFC 5915).
    Sec1,
    /// `RSAPrivateKey` (RFC 8017 §A.1.2), or an old DSA key.
    Pkcs1Private,
    /// `RSAPublicKey` (RFC 8017 §A.1.1).
    Pkcs1Public,
    /// `SubjectPublicKeyInfo` (RFC 5280 §4.1).
    Spki,
    /// `Certificate` (RFC 5280 §4.1).
    Certificate,
}

/// Tells what `der` is from the tags of its first elements. Trailing bytes make it nothing.
pub(super) fn shape(der: &[u8]) -> Option<Shape> {
    let outer = AnyRef::from_der(der).ok()?;
    if outer.tag() != Tag::Sequence {
        return None;
    }
    let tags = first_tags(outer.value());
    let integer = Some(Tag::Integer);
    let sequence = Some(Tag::Sequence);
    match tags {
        [first, second, Some(Tag::OctetString)] if first == integer && second == sequence => Some(Shape::Pkcs8),
        [first, Some(Tag::OctetString), _] if first == integer => Some(Shape::Sec1),
        [first, second, None] if first == integer && second == integer => Some(Shape::Pkcs1Public),
        [first, second, third] if first == integer && second == integer && third == integer => {
            Some(Shape::Pkcs1Private)
        }
        [first, Some(Tag::OctetString), None] if first == sequence => Some(Shape::EncryptedPkcs8),
        [first, Some(Tag::BitString), None] if first == sequence => Some(Shape::Spki),
        [first, second, Some(Tag::BitString)] if first == sequence && second == sequence => Some(Shape::Certificate),
        _ => None,
    }
}

fn first_tags(content: &[u8]) -> [Option<Tag>; 3] {
    let mut tags = [None; 3];
    let Ok(mut reader) = SliceReader::new(content) else { return tags };
    for tag in &mut tags {
        if reader.is_finished() {
            break;
        }
        match AnyRef::decode(&mut reader) {
            Ok(any) => *tag = Some(any.tag()),
            Err(_) => break,
        }
    }
    tags
}
