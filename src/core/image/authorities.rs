//! Timestamp authorities of a Sigstore trusted root, and the timestamps that signatures of images bring.
//!
//! Source: sigstore `protobuf-specs`, `sigstore_trustroot.proto`; sigstore-oci §10, §11.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;

use crate::evidence::strict;
use crate::trust::timestamp::{self, ProvenTime};
use crate::trust::{Anchor, Certificate};

/// Longest trusted root, in bytes.
const MAX_ROOT: usize = 4 * 1024 * 1024;
/// Most authorities of a trusted root.
const MAX_AUTHORITIES: usize = 64;
/// Most timestamps of one signature.
pub const MAX_TIMESTAMPS: usize = 32;

/// Who may say when something was signed, and in which time.
#[derive(Clone, Debug)]
pub struct Authority {
    anchor: Anchor,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

/// A document is no trusted root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no trusted root: {reason}")]
pub struct RootError {
    /// What is wrong.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Root {
    media_type: String,
    #[serde(default)]
    timestamp_authorities: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    uri: String,
    cert_chain: Chain,
    #[serde(default)]
    valid_for: Window,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    raw_bytes: String,
}

#[derive(Default, Deserialize)]
struct Window {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

/// The timestamp authorities of a trusted root: `application/vnd.dev.sigstore.trustedroot…+json`.
pub fn of_root(bytes: &[u8]) -> Result<Vec<Authority>, RootError> {
    let failed = |reason: String| RootError { reason };
    if bytes.len() > MAX_ROOT {
        return Err(failed(format!("{} bytes; {MAX_ROOT} are read", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| failed(error.to_string()))?;
    strict::document(text).map_err(|error| failed(error.to_string()))?;
    let root: Root = serde_json::from_str(text).map_err(|error| failed(error.to_string()))?;
    if !root.media_type.starts_with("application/vnd.dev.sigstore.trustedroot") {
        return Err(failed(format!("its media type is {}", strict::shown(&root.media_type))));
    }
    if root.timestamp_authorities.len() > MAX_AUTHORITIES {
        return Err(failed(format!("more than {MAX_AUTHORITIES} timestamp authorities")));
    }
    let read = |(number, written): (usize, Written)| {
        let certificate = |raw: &Raw| {
            let der = STANDARD.decode(&raw.raw_bytes).map_err(|error| failed(format!("a certificate: {error}")))?;
            Certificate::from_der(&der).map_err(|error| failed(format!("a certificate: {error}")))
        };
        let mut chain =
            written.cert_chain.certificates.iter().map(certificate).collect::<Result<Vec<_>, RootError>>()?;
        let root = chain.pop().ok_or_else(|| failed("an authority without certificates".to_owned()))?;
        let id = if written.uri.is_empty() { format!("timestampAuthorities[{number}]") } else { written.uri };
        let anchor = Anchor { id, certificate: root, intermediates: chain };
        Ok(Authority { anchor, start: written.valid_for.start, end: written.valid_for.end })
    };
    root.timestamp_authorities.into_iter().enumerate().map(read).collect()
}

/// The time that one of the authorities vouches for. `responses` are `TimeStampResp` over `message`.
pub fn proven_time(responses: &[Vec<u8>], message: &[u8], authorities: &[Authority]) -> Result<ProvenTime, String> {
    if responses.len() > MAX_TIMESTAMPS {
        return Err(format!("{} timestamps; {MAX_TIMESTAMPS} are read", responses.len()));
    }
    let mut why = "it has no timestamp, and one is demanded".to_owned();
    for response in responses {
        let token = match timestamp::token_of_response(response) {
            Ok(token) => token,
            Err(error) => {
                why = error.to_string();
                continue;
            }
        };
        for authority in authorities {
            match timestamp::verify(token, message, std::slice::from_ref(&authority.anchor)) {
                Ok(time)
                    if authority.start.is_some_and(|start| time.time < start)
                        || authority.end.is_some_and(|end| time.time > end) =>
                {
                    why = format!("the authority {} is not trusted for {}", authority.anchor.id, time.time);
                }
                Ok(time) => return Ok(time),
                Err(error) => why = error.to_string(),
            }
        }
    }
    Err(why)
}
