//! A certificate as it is encoded.

use der::asn1::AnyRef;
use der::{Decode as _, Reader as _, SliceReader};

/// Parts of a certificate as they are encoded: signatures and comparisons need the very bytes.
pub(super) struct Raw<'a> {
    pub(super) tbs: std::ops::Range<usize>,
    pub(super) serial: &'a [u8],
    pub(super) inner_algorithm: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    pub(super) key: &'a [u8],
    pub(super) outer_algorithm: &'a [u8],
}

impl<'a> Raw<'a> {
    pub(super) fn read(der: &'a [u8]) -> der::Result<Self> {
        let outer = AnyRef::from_der(der)?;
        let start = der.len() - outer.value().len();
        let mut outer = SliceReader::new(outer.value())?;
        let tbs = outer.tlv_bytes()?;
        let outer_algorithm = outer.tlv_bytes()?;
        let mut inner = SliceReader::new(AnyRef::from_der(tbs)?.value())?;
        let mut serial = inner.tlv_bytes()?;
        if serial.first() == Some(&0xa0) {
            serial = inner.tlv_bytes()?; // the version stood before it
        }
        let inner_algorithm = inner.tlv_bytes()?;
        let issuer = inner.tlv_bytes()?;
        inner.tlv_bytes()?; // validity
        let subject = inner.tlv_bytes()?;
        let key = inner.tlv_bytes()?;
        Ok(Self { tbs: start..start + tbs.len(), serial, inner_algorithm, issuer, subject, key, outer_algorithm })
    }
}
