//! Reading a timestamp token: CMS `SignedData` (RFC 5652 §5) with `TSTInfo` (RFC 3161 §2.4.2) in it.
//!
//! Own code over `der`, because the parts must be had as the bytes they were signed as, and because the crates for
//! them have no release for the generation of `der` that keys and certificates use.

use der::asn1::{AnyRef, IntRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Reader as _, SliceReader, Tag, TagNumber, Tagged as _};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use pkcs8::spki::AlgorithmIdentifierRef;

use super::{Algorithm, Hash, MAX_BAG, TimestampError};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");

/// Most signed attributes.
const MAX_ATTRIBUTES: usize = 32;
/// Tag and number of `[0]` and `[1]`, constructed.
const CONTEXT_0: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };
const CONTEXT_1: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber(1) };
/// `[0]` of a simple type.
const CONTEXT_0_SIMPLE: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber(0) };
/// The first byte of a `SET`.
const SET: u8 = 0x31;

/// A token, with its parts as they are encoded.
pub(super) struct Token<'a> {
    pub(super) info: Info,
    /// The `TSTInfo` as it was hashed.
    pub(super) content: &'a [u8],
    /// Certificates, unread.
    pub(super) bag: Vec<&'a [u8]>,
    pub(super) signer: SignerId<'a>,
    pub(super) digest: Hash,
    /// What the signed attributes say the content's digest is.
    pub(super) message_digest: &'a [u8],
    /// SHA-1 of the certificate that the attributes name.
    pub(super) named_sha1: Option<&'a [u8]>,
    /// Another hash of the certificate that the attributes name.
    pub(super) named: Option<(Hash, &'a [u8])>,
    pub(super) algorithm: Algorithm,
    /// The signed attributes as they are signed: as a `SET`.
    pub(super) signed_attributes: Vec<u8>,
    pub(super) signature: &'a [u8],
}

/// Which certificate the signer says is his.
#[derive(Clone, Copy)]
pub(super) enum SignerId<'a> {
    /// Both with tag and length.
    IssuerAndSerial {
        issuer: &'a [u8],
        serial: &'a [u8],
    },
    KeyId(&'a [u8]),
}

/// What of `TSTInfo` is used.
pub(super) struct Info {
    pub(super) imprint_hash: Hash,
    pub(super) imprint: Vec<u8>,
    pub(super) time: Timestamp,
    /// The number of the question, as it is encoded.
    pub(super) nonce: Option<Vec<u8>>,
}

/// `TimeStampResp`: a status, which must be that the token was granted, and the token.
pub(super) fn of_response(der: &[u8]) -> Result<&[u8], TimestampError> {
    let mut response = Elements::within("TimeStampResp", der, Tag::Sequence)?;
    let (status, _) = response.next()?;
    // 0 is granted, 1 granted with changes.
    if Elements::within("PKIStatusInfo", status, Tag::Sequence)?.decode::<u8>()? > 1 {
        return Err(bad("the authority refused to give a token"));
    }
    let Some((token, _)) = response.next_if(Tag::Sequence)? else {
        return Err(bad("the answer of the authority has no token"));
    };
    response.finish()?;
    Ok(token)
}

fn damaged(what: &'static str) -> impl Fn(der::Error) -> TimestampError {
    move |error| TimestampError::Damaged { reason: format!("{what}: {error}") }
}

fn bad(reason: impl Into<String>) -> TimestampError {
    TimestampError::Damaged { reason: reason.into() }
}

fn unsupported(what: impl Into<String>) -> TimestampError {
    TimestampError::Unsupported { what: what.into() }
}

/// The elements of a `SEQUENCE` or `SET`, one after the other.
struct Elements<'a> {
    what: &'static str,
    reader: SliceReader<'a>,
}

impl<'a> Elements<'a> {
    fn of(what: &'static str, value: &'a [u8]) -> Result<Self, TimestampError> {
        Ok(Self { what, reader: SliceReader::new(value).map_err(damaged(what))? })
    }

    /// The whole of `der` must be one element with the tag `tag`.
    fn within(what: &'static str, der: &'a [u8], tag: Tag) -> Result<Self, TimestampError> {
        let outer = AnyRef::from_der(der).map_err(damaged(what))?;
        if outer.tag() != tag {
            return Err(bad(format!("{what}: {} instead of {tag}", outer.tag())));
        }
        Self::of(what, outer.value())
    }

    fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    /// The next element as it is encoded, and its value.
    fn next(&mut self) -> Result<(&'a [u8], AnyRef<'a>), TimestampError> {
        let whole = self.reader.tlv_bytes().map_err(damaged(self.what))?;
        Ok((whole, AnyRef::from_der(whole).map_err(damaged(self.what))?))
    }

    /// The next element, if it has the tag `tag`.
    fn next_if(&mut self, tag: Tag) -> Result<Option<(&'a [u8], AnyRef<'a>)>, TimestampError> {
        if self.reader.is_finished() || Tag::peek(&self.reader).map_err(damaged(self.what))? != tag {
            return Ok(None);
        }
        self.next().map(Some)
    }

    fn decode<T: der::Decode<'a, Error = der::Error>>(&mut self) -> Result<T, TimestampError> {
        T::decode(&mut self.reader).map_err(damaged(self.what))
    }

    fn finish(self) -> Result<(), TimestampError> {
        self.reader.finish().map_err(damaged(self.what))
    }
}

impl<'a> Token<'a> {
    pub(super) fn read(der: &'a [u8]) -> Result<Self, TimestampError> {
        let mut outer = Elements::within("ContentInfo", der, Tag::Sequence)?;
        if outer.next_if(Tag::Sequence)?.is_some() {
            return Err(bad("it is a whole response, or something else; only the token of it is wanted"));
        }
        if outer.decode::<ObjectIdentifier>()? != SIGNED_DATA {
            return Err(bad("its content is not SignedData"));
        }
        let (_, content) = outer.next_if(CONTEXT_0)?.ok_or_else(|| bad("SignedData is missing"))?;
        outer.finish()?;
        Self::read_signed_data(content.value())
    }

    fn read_signed_data(der: &'a [u8]) -> Result<Self, TimestampError> {
        let mut data = Elements::within("SignedData", der, Tag::Sequence)?;
        // RFC 5652 §5.1: 3 for content that is not plain data.
        if data.decode::<u8>()? != 3 {
            return Err(unsupported("another version of SignedData than 3"));
        }
        let (_, digests) = data.next_if(Tag::Set)?.ok_or_else(|| bad("the digest algorithms are missing"))?;
        let (encapsulated, _) = data.next()?;
        let content = encapsulated_content(encapsulated)?;
        let bag = match data.next_if(CONTEXT_0)? {
            Some((_, certificates)) => read_bag(certificates.value())?,
            None => Vec::new(),
        };
        // Revocation lists are neither signed nor asked for.
        if data.next_if(CONTEXT_1)?.is_some() {
            return Err(unsupported("a revocation list"));
        }
        let (_, signers) = data.next_if(Tag::Set)?.ok_or_else(|| bad("the signers are missing"))?;
        data.finish()?;
        let mut signers = Elements::of("SignerInfos", signers.value())?;
        if signers.is_finished() {
            return Err(bad("it has no signer"));
        }
        let (signer, _) = signers.next()?;
        if !signers.is_finished() {
            return Err(unsupported("more than one signer"));
        }
        let token = Self::read_signer(signer, content, bag)?;
        let mut digests = Elements::of("DigestAlgorithms", digests.value())?;
        while !digests.is_finished() {
            if Hash::read(digests.decode()?).map_err(unsupported)? != token.digest {
                return Err(bad("the digest algorithms are not those of the signer"));
            }
        }
        Ok(token)
    }

    fn read_signer(der: &'a [u8], content: &'a [u8], bag: Vec<&'a [u8]>) -> Result<Self, TimestampError> {
        let mut signer = Elements::within("SignerInfo", der, Tag::Sequence)?;
        let version = signer.decode::<u8>()?;
        let (id, value) = signer.next()?;
        let id = match (value.tag(), version) {
            (Tag::Sequence, 1) => {
                let mut parts = Elements::within("SignerIdentifier", id, Tag::Sequence)?;
                let (issuer, _) = parts.next()?;
                let (serial, _) = parts.next()?;
                parts.finish()?;
                SignerId::IssuerAndSerial { issuer, serial }
            }
            (CONTEXT_0_SIMPLE, 3) => SignerId::KeyId(value.value()),
            _ => return Err(bad("the version of SignerInfo does not fit how it names its signer")),
        };
        let digest = Hash::read(signer.decode()?).map_err(unsupported)?;
        let Some((attributes, values)) = signer.next_if(CONTEXT_0)? else {
            return Err(bad("it has no signed attributes"));
        };
        let attributes = Attributes::read(values.value()).map(|read| (read, as_set(attributes)))?;
        let algorithm: AlgorithmIdentifierRef<'_> = signer.decode()?;
        let algorithm = Algorithm::read_cms(algorithm, digest).map_err(unsupported)?;
        let signature = signer.decode::<&'a OctetStringRef>()?.as_bytes();
        if !signer.is_finished() {
            return Err(unsupported("attributes that are not signed"));
        }
        let (attributes, signed_attributes) = attributes;
        Ok(Self {
            info: Info::read(content)?,
            content,
            bag,
            signer: id,
            digest,
            message_digest: attributes.message_digest,
            named_sha1: attributes.named_sha1,
            named: attributes.named,
            algorithm,
            signed_attributes,
            signature,
        })
    }
}

/// RFC 5652 §5.4: the attributes are signed as a `SET OF`, not under the tag that they have in the message.
fn as_set(attributes: &[u8]) -> Vec<u8> {
    let mut set = attributes.to_vec();
    if let Some(first) = set.first_mut() {
        *first = SET;
    }
    set
}

fn encapsulated_content(der: &[u8]) -> Result<&[u8], TimestampError> {
    let mut content = Elements::within("EncapsulatedContentInfo", der, Tag::Sequence)?;
    if content.decode::<ObjectIdentifier>()? != TST_INFO {
        return Err(bad("its content is not TSTInfo"));
    }
    let (_, explicit) = content.next_if(CONTEXT_0)?.ok_or_else(|| bad("TSTInfo is missing"))?;
    content.finish()?;
    let octets = AnyRef::from_der(explicit.value()).map_err(damaged("EncapsulatedContentInfo"))?;
    octets.decode_as::<&OctetStringRef>().map(OctetStringRef::as_bytes).map_err(damaged("EncapsulatedContentInfo"))
}

/// The certificates of the bag. It may also hold attribute certificates, which have other tags and say nothing here.
fn read_bag(value: &[u8]) -> Result<Vec<&[u8]>, TimestampError> {
    let mut elements = Elements::of("certificates", value)?;
    let mut bag = Vec::new();
    while !elements.is_finished() {
        if bag.len() == MAX_BAG {
            return Err(unsupported(format!("more than {MAX_BAG} certificates")));
        }
        let (whole, value) = elements.next()?;
        if value.tag() != Tag::Sequence {
            return Err(unsupported("something else than certificates beside them"));
        }
        bag.push(whole);
    }
    Ok(bag)
}

/// The signed attributes that say something here.
struct Attributes<'a> {
    message_digest: &'a [u8],
    named_sha1: Option<&'a [u8]>,
    named: Option<(Hash, &'a [u8])>,
}

impl<'a> Attributes<'a> {
    fn read(value: &'a [u8]) -> Result<Self, TimestampError> {
        let mut elements = Elements::of("signed attributes", value)?;
        let mut seen: Vec<ObjectIdentifier> = Vec::new();
        let (mut content_type, mut message_digest, mut named_sha1, mut named) = (None, None, None, None);
        while !elements.is_finished() {
            let (attribute, _) = elements.next()?;
            let mut attribute = Elements::within("attribute", attribute, Tag::Sequence)?;
            let oid = attribute.decode::<ObjectIdentifier>()?;
            let (_, values) = attribute.next_if(Tag::Set)?.ok_or_else(|| bad("an attribute without values"))?;
            attribute.finish()?;
            if seen.contains(&oid) {
                return Err(bad(format!("the attribute {oid} stands twice")));
            }
            if seen.len() == MAX_ATTRIBUTES {
                return Err(unsupported(format!("more than {MAX_ATTRIBUTES} signed attributes")));
            }
            seen.push(oid);
            // Exactly one value for each of these.
            let single = || AnyRef::from_der(values.value()).map_err(damaged("attribute"));
            match oid {
                CONTENT_TYPE => {
                    content_type = Some(single()?.decode_as::<ObjectIdentifier>().map_err(damaged("content type"))?);
                }
                MESSAGE_DIGEST => {
                    let digest = single()?.decode_as::<&OctetStringRef>().map_err(damaged("message digest"))?;
                    message_digest = Some(digest.as_bytes());
                }
                SIGNING_CERTIFICATE => named_sha1 = Some(first_certificate(values.value())?.1),
                SIGNING_CERTIFICATE_V2 => named = Some(first_certificate(values.value())?),
                _ => {}
            }
        }
        if content_type != Some(TST_INFO) {
            return Err(bad("its signed attributes do not say that the content is TSTInfo"));
        }
        let message_digest = message_digest.ok_or_else(|| bad("its signed attributes have no message digest"))?;
        Ok(Self { message_digest, named_sha1, named })
    }
}

/// The hash of the first certificate of `SigningCertificate` (RFC 2634 §5.4) or `SigningCertificateV2` (RFC 5035 §3):
/// that of the signer. The old form has no algorithm, the new one leaves SHA-256 out.
fn first_certificate(der: &[u8]) -> Result<(Hash, &[u8]), TimestampError> {
    const WHAT: &str = "signing certificate";
    let mut attribute = Elements::within(WHAT, der, Tag::Sequence)?;
    let (list, _) = attribute.next()?;
    let mut list = Elements::within(WHAT, list, Tag::Sequence)?;
    let (first, _) = list.next()?;
    let mut first = Elements::within(WHAT, first, Tag::Sequence)?;
    let hash = match first.next_if(Tag::Sequence)? {
        Some((algorithm, _)) => {
            let algorithm = AlgorithmIdentifierRef::from_der(algorithm).map_err(damaged(WHAT))?;
            Hash::read(algorithm).map_err(unsupported)?
        }
        None => Hash::Sha256,
    };
    Ok((hash, first.decode::<&OctetStringRef>()?.as_bytes()))
}

impl Info {
    fn read(der: &[u8]) -> Result<Self, TimestampError> {
        let mut info = Elements::within("TSTInfo", der, Tag::Sequence)?;
        if info.decode::<u8>()? != 1 {
            return Err(unsupported("another version of TSTInfo than 1"));
        }
        info.decode::<ObjectIdentifier>()?; // the policy of the authority
        let (imprint, _) = info.next()?;
        let mut imprint = Elements::within("MessageImprint", imprint, Tag::Sequence)?;
        let imprint_hash =
            Hash::read(imprint.decode()?).map_err(|name| unsupported(format!("an imprint over {name}")))?;
        let hashed = imprint.decode::<&OctetStringRef>()?.as_bytes().to_vec();
        imprint.finish()?;
        info.decode::<IntRef<'_>>()?; // serial number
        let (_, time) = info.next()?;
        if time.tag() != Tag::GeneralizedTime {
            return Err(bad("TSTInfo has no time"));
        }
        let time = general_time(time.value()).ok_or_else(|| bad("the time is not one"))?;
        info.next_if(Tag::Sequence)?; // accuracy
        info.next_if(Tag::Boolean)?; // ordering
        let nonce = info.next_if(Tag::Integer)?.map(|(_, nonce)| nonce.value().to_vec());
        info.next_if(CONTEXT_0)?; // name of the authority, which its certificate proves
        if let Some((_, extensions)) = info.next_if(CONTEXT_1)? {
            refuse_critical(extensions.value())?;
        }
        info.finish()?;
        Ok(Self { imprint_hash, imprint: hashed, time, nonce })
    }
}

fn refuse_critical(value: &[u8]) -> Result<(), TimestampError> {
    let mut list = Elements::of("extensions", value)?;
    while !list.is_finished() {
        let (extension, _) = list.next()?;
        let mut extension = Elements::within("extension", extension, Tag::Sequence)?;
        let oid = extension.decode::<ObjectIdentifier>()?;
        if extension.next_if(Tag::Boolean)?.is_some_and(|(_, critical)| critical.value() != [0]) {
            return Err(unsupported(format!("the critical extension {oid}")));
        }
    }
    Ok(())
}

/// `YYYYMMDDhhmmss[.f…]Z` (RFC 3161 §2.4.2), to the nanosecond.
fn general_time(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str, most: usize| text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
    if whole.len() != 14 || !digits(whole, 14) || fraction.is_empty() || !digits(fraction, 9) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| whole[range].parse::<i8>().ok();
    let date = Date::new(whole[..4].parse().ok()?, number(4..6)?, number(6..8)?).ok()?;
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    let hour = number(8..10)?;
    if !(0..24).contains(&hour) {
        return None;
    }
    let (minute, second) = (number(10..12)?, number(12..14)?);
    let time = jiff::civil::Time::new(hour, minute, second, nanoseconds).ok()?;
    date.to_datetime(time).to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_and_without_fractions() {
        let read = |text: &str| general_time(text.as_bytes()).map(|time| time.to_string());
        assert_eq!(read("20261121123300Z").as_deref(), Some("2026-11-21T12:33:00Z"));
        assert_eq!(read("20261121123300.25Z").as_deref(), Some("2026-11-21T12:33:00.25Z"));
        assert_eq!(read("20240229235959.123456789Z").as_deref(), Some("2024-02-29T23:59:59.123456789Z"));
        for wrong in [
            "",
            "Z",
            "20261121123300",
            "20261121123300.Z",
            "20261121123300.1234567890Z",
            "20261121123360Z",
            "20261121243300Z",
            "20260229123300Z",
            "20261321123300Z",
            "2026112112330Z",
            "20261121123300+0100",
            "20261121 23300Z",
            "+0261121123300Z",
            "20261121123300.2.5Z",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
