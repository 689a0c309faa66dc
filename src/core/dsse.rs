//! DSSE envelopes: a payload, its type, and signatures over both.
//!
//! Protocol: DSSE v1 (`DSSEv1`, secure-systems-lab/dsse). JSON form: that of witness and cilock, whose members
//! `certificate`, `intermediates` and `timestamps` are additions (wire-formats §1.1).
//!
//! Payloads may have hundreds of megabytes. They are decoded straight from the text of the file, written as a stream,
//! and signed and checked without being joined with their header.

mod parse;
mod verify;

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use self::parse::ParseError;
pub(crate) use self::parse::fold;
pub use self::verify::{
    FailedSignature, Mismatch, Unverified, Verified, VerifiedSignature, VerifyError, WrongPayloadType,
};
pub(crate) use self::verify::{MAX_COST, by_keys, cost_of_keys};
use crate::sign::{SignError, Signer};

/// Most signatures in an envelope.
pub const MAX_SIGNATURES: usize = 1024;
/// Most intermediate certificates of a signature.
pub const MAX_INTERMEDIATES: usize = 32;
/// Most timestamps of a signature.
pub const MAX_TIMESTAMPS: usize = 32;
/// Most members of one JSON object in an envelope, known and unknown.
pub const MAX_MEMBERS: usize = 64;
/// Longest `payloadType`, `keyid` and type of a timestamp, in bytes.
pub const MAX_NAME: usize = 4096;

/// `timestamps[].type` of an RFC 3161 token.
pub const TIMESTAMP_TSP: &str = "tsp";
/// `timestamps[].type` of an entry in a transparency log about this signature: `data` is the entry as a Sigstore bundle
/// has it in `tlogEntries`, JSON. Ours; witness and cilock pass over it.
pub const TIMESTAMP_LOG_ENTRY: &str = "sigstore-log-entry";

/// An envelope as it was read or made; nothing says yet that a signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The signed bytes, decoded, kept as they were.
    pub payload: Vec<u8>,
    /// What the payload is, for example [`crate::statement::PAYLOAD_TYPE`]. Covered by the signatures.
    pub payload_type: String,
    /// The signatures, in the order of the file.
    pub signatures: Vec<Signature>,
}

/// One signature of an envelope. Nothing in it but `sig` is proven by the signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// Which key is said to have signed: [`crate::sign::PublicKey::key_id`], a reference to a key service, or nothing.
    pub key_id: String,
    /// The signature over the pre-authentication encoding.
    pub sig: Vec<u8>,
    /// The certificate of the signer, as PEM text.
    pub certificate: Option<Vec<u8>>,
    /// Certificates between it and a root, as PEM texts, in any order.
    pub intermediates: Vec<Vec<u8>>,
    /// Timestamps over `sig`.
    pub timestamps: Vec<Timestamp>,
}

/// A timestamp over a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// [`TIMESTAMP_TSP`] or [`TIMESTAMP_LOG_ENTRY`].
    pub kind: String,
    /// For `tsp`: the RFC 3161 `TimeStampToken` in DER. For `sigstore-log-entry`: JSON.
    pub data: Vec<u8>,
}

/// The part of the pre-authentication encoding before the payload: `DSSEv1 <length> <type> <length> ` with a space at
/// its end, lengths in bytes as decimal numbers.
pub fn pae_header(payload_type: &str, payload_length: usize) -> Vec<u8> {
    format!("DSSEv1 {} {payload_type} {payload_length} ", payload_type.len()).into_bytes()
}

impl Envelope {
    /// Signs `payload` with each of `signers`, in their order.
    ///
    /// # Errors
    /// Also without signers: an envelope without signatures proves nothing, and no check would pass it.
    pub fn seal(payload: Vec<u8>, payload_type: &str, signers: &[&dyn Signer]) -> Result<Self, SignError> {
        if signers.is_empty() {
            return Err(SignError::NoSigner);
        }
        let header = pae_header(payload_type, payload.len());
        let signatures =
            signers.iter().map(|signer| signer.seal(&[&header, &payload])).collect::<Result<_, SignError>>()?;
        Ok(Self { payload, payload_type: payload_type.to_owned(), signatures })
    }

    /// Reads the JSON form. `limit` is the largest size of `json` in bytes.
    ///
    /// Read as Go reads it, so that nobody sees another payload in the same file: padded standard base64 in which line
    /// breaks do not count, `null` for what is empty, members that are not known are passed over. Stricter: a member
    /// twice, or a known one in other letters (Go would take either), and anything after the object are refused.
    pub fn parse(json: &[u8], limit: usize) -> Result<Self, ParseError> {
        parse::envelope(json, limit)
    }

    /// Writes the JSON form; see [`write_envelope`].
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        write_envelope(&self.payload, &self.payload_type, &self.signatures, out)
    }

    /// The JSON form in memory.
    #[expect(clippy::missing_panics_doc, reason = "memory takes every byte")]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.payload.len().div_ceil(3) * 4 + 4096);
        self.write(&mut out).expect("writing to memory does not fail");
        out
    }
}

/// Writes an envelope as witness does: members in the order of wire-formats §1.1, no space between them, no newline at
/// the end (`witness run` writes none, `witness sign` one: the caller adds it). Empty additions are left out.
pub fn write_envelope(
    payload: &[u8],
    payload_type: &str,
    signatures: &[Signature],
    mut out: impl Write,
) -> io::Result<()> {
    out.write_all(b"{\"payload\":")?;
    write_base64(payload, &mut out)?;
    out.write_all(b",\"payloadType\":")?;
    serde_json::to_writer(&mut out, payload_type)?;
    out.write_all(b",\"signatures\":[")?;
    for (index, signature) in signatures.iter().enumerate() {
        out.write_all(if index == 0 { b"{\"keyid\":" } else { b",{\"keyid\":" })?;
        serde_json::to_writer(&mut out, &signature.key_id)?;
        out.write_all(b",\"sig\":")?;
        write_base64(&signature.sig, &mut out)?;
        if let Some(certificate) = &signature.certificate {
            out.write_all(b",\"certificate\":")?;
            write_base64(certificate, &mut out)?;
        }
        for (at, pem) in signature.intermediates.iter().enumerate() {
            out.write_all(if at == 0 { b",\"intermediates\":[" } else { b"," })?;
            write_base64(pem, &mut out)?;
        }
        if !signature.intermediates.is_empty() {
            out.write_all(b"]")?;
        }
        for (at, timestamp) in signature.timestamps.iter().enumerate() {
            out.write_all(if at == 0 { b",\"timestamps\":[{\"type\":" } else { b",{\"type\":" })?;
            serde_json::to_writer(&mut out, &timestamp.kind)?;
            out.write_all(b",\"data\":")?;
            write_base64(&timestamp.data, &mut out)?;
            out.write_all(b"}")?;
        }
        if !signature.timestamps.is_empty() {
            out.write_all(b"]")?;
        }
        out.write_all(b"}")?;
    }
    out.write_all(b"]}")
}

/// Length in bytes of what [`write_envelope`] writes for a payload of `payload` bytes.
#[expect(clippy::missing_panics_doc, reason = "counting takes every byte")]
pub fn envelope_size(payload: u64, payload_type: &str, signatures: &[Signature]) -> u64 {
    struct Counter(u64);
    impl Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut around = Counter(0);
    write_envelope(&[], payload_type, signatures, &mut around).expect("counting does not fail");
    around.0 + payload.div_ceil(3) * 4
}

/// Writes `bytes` as a JSON string of padded standard base64, a piece at a time.
fn write_base64(bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    /// A multiple of three, so that only the last piece is padded.
    const PIECE: usize = 3 * 16 * 1024;
    let mut buffer = vec![0; bytes.len().min(PIECE).div_ceil(3) * 4];
    out.write_all(b"\"")?;
    for piece in bytes.chunks(PIECE) {
        let length = STANDARD.encode_slice(piece, &mut buffer).expect("the buffer has the length of the base64");
        out.write_all(&buffer[..length])?;
    }
    out.write_all(b"\"")
}

#[cfg(test)]
mod tests;
