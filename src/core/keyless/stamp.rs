//! Questions to a timestamp authority and what it answers (RFC 3161).

use crate::digest::sha256;
use crate::sign::fill_random;
use crate::trust::timestamp::{self, TimestampError, Unproven};
use jiff::Timestamp;

use super::der_element;

/// Media type of a question.
pub const QUERY: &str = "application/timestamp-query";
/// Media type of an answer.
pub const REPLY: &str = "application/timestamp-reply";
/// Longest answer, in bytes.
pub const MAX_REPLY: usize = timestamp::MAX_TOKEN + 1024;

/// `SEQUENCE { OBJECT IDENTIFIER 2.16.840.1.101.3.4.2.1, NULL }`
const SHA256: [u8; 15] = [0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00];

/// A timestamp as it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// The whole `TimeStampResp`, which bundles hold.
    pub response: Vec<u8>,
    /// The time that it says.
    pub time: Timestamp,
}

impl Stamped {
    /// The token in it, which witness's envelopes hold.
    pub fn token(&self) -> &[u8] {
        timestamp::token_of_response(&self.response).unwrap_or_default()
    }
}

/// The answer that a token came in: granted, with nothing else in it.
pub fn response_of(token: &[u8]) -> Vec<u8> {
    const GRANTED: [u8; 5] = [0x30, 0x03, 0x02, 0x01, 0x00];
    der_element(0x30, &[&GRANTED, token])
}

/// An answer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// No token, or not one over these bytes.
    #[error("its timestamp cannot be used: {0}")]
    Token(#[from] TimestampError),
    /// An answer to another question.
    #[error("its timestamp answers another question (the nonce differs)")]
    Nonce,
    /// No question can be made.
    #[error("the system gives no random bytes")]
    Random,
}

/// A question, and the number by which its answer is known.
pub struct Query {
    /// `TimeStampReq` in DER: SHA-256 of the message, a nonce, and the wish for the certificate.
    pub der: Vec<u8>,
    nonce: [u8; 9],
}

impl Query {
    /// A question for a timestamp over `message`.
    pub fn new(message: &[u8]) -> Result<Self, StampError> {
        let mut nonce = [0; 9];
        fill_random(&mut nonce[1..]).map_err(|_| StampError::Random)?;
        // A number of eight bytes that is positive, with no byte too many in DER.
        nonce[1] |= 0x80;
        let imprint = der_element(0x30, &[&SHA256, &der_element(0x04, &[&sha256(message)])]);
        let der =
            der_element(0x30, &[&[0x02, 0x01, 0x01], &imprint, &der_element(0x02, &[&nonce]), &[0x01, 0x01, 0xff]]);
        Ok(Self { der, nonce })
    }

    /// Takes the answer, if it is one to this question over `message`.
    pub fn answer(&self, response: Vec<u8>, message: &[u8]) -> Result<Stamped, StampError> {
        let token = timestamp::token_of_response(&response)?;
        let Unproven { time, nonce } = timestamp::consistent(token, message)?;
        if nonce.as_deref() != Some(&self.nonce[..]) {
            return Err(StampError::Nonce);
        }
        Ok(Stamped { response, time })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_question_has_the_form_of_a_recorded_one() {
        let query = Query::new(b"x").expect("a question");
        let record: Value = serde_json::from_str(include_str!("../../../fixtures/cosign/api/tsa.json")).expect("JSON");
        let recorded = STANDARD.decode(record["request_base64"].as_str().expect("text")).expect("base64");
        // The same but for the digest and the nonce, which is one byte longer.
        assert_eq!(query.der.len(), recorded.len() + 1);
        assert_eq!(query.der[2..24], recorded[2..24]);
        assert_eq!(query.der[24..56], sha256(b"x"));
        assert_eq!(query.der[56..58], [0x02, 9]);
        assert_eq!(query.der[67..], recorded[66..]);
        assert_ne!(Query::new(b"x").expect("a question").nonce, query.nonce);
    }

    #[test]
    fn a_recorded_answer_is_to_another_question() {
        let record: Value = serde_json::from_str(include_str!("../../../fixtures/cosign/api/tsa.json")).expect("JSON");
        let response = STANDARD.decode(record["response_base64"].as_str().expect("text")).expect("base64");
        let query = Query::new(b"x").expect("a question");
        let refused = query.answer(response.clone(), b"x");
        assert_eq!(refused, Err(StampError::Token(TimestampError::OtherMessage)));
        let granted = timestamp::token_of_response(&response).expect("granted");
        assert_eq!(timestamp::token_of_response(&response_of(granted)), Ok(granted));
        assert!(query.answer(b"\x30\x00".to_vec(), b"x").is_err());
    }
}
