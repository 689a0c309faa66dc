//! A code that somebody types in elsewhere: RFC 8628.

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{LoginError, MAX_ADDRESS, Session, malformed, plain};

/// Longest code that a person types, in characters.
const MAX_USER_CODE: usize = 64;
/// The pause between questions of a device where nothing is said, and by how much it grows (RFC 8628 §3.2, §3.5), in seconds.
const INTERVAL: u64 = 5;
/// Longest pause that is taken from an issuer, in seconds.
pub(super) const MAX_INTERVAL: u64 = 60;

/// A code that somebody types in elsewhere.
pub struct Device {
    pub(super) code: Zeroizing<String>,
    /// What is typed.
    pub user_code: String,
    /// Where.
    pub address: String,
    /// Where it is typed already.
    pub complete: Option<String>,
    /// How long it counts, in seconds.
    pub expires: u64,
    /// The pause between questions, in seconds.
    pub interval: u64,
}

#[derive(Deserialize)]
struct DeviceAnswer {
    device_code: Option<String>,
    user_code: Option<String>,
    // Some issuers are older than the specification.
    #[serde(alias = "verification_url")]
    verification_uri: Option<String>,
    #[serde(alias = "verification_url_complete")]
    verification_uri_complete: Option<String>,
    expires_in: Option<u64>,
    interval: Option<u64>,
    error: Option<String>,
    error_description: Option<String>,
}

impl Device {
    /// Reads an answer to [`Session::device`]. `permits` says whether an address may be asked.
    pub fn parse(
        session: &Session,
        body: &[u8],
        permits: &dyn Fn(&str) -> Result<(), String>,
    ) -> Result<Self, LoginError> {
        const NONE: &str = "gives no code to type";
        let answer: DeviceAnswer = serde_json::from_slice(body).map_err(|_| malformed(NONE))?;
        if let Some(error) = answer.error {
            return Err(session.refused(&error, &answer.error_description.unwrap_or_default(), &[]));
        }
        let code = answer.device_code.filter(|code| !code.is_empty()).ok_or(malformed(NONE))?;
        let fits = |text: &String, limit: usize| !text.is_empty() && text.len() <= limit && plain(text, limit) == *text;
        let user_code = answer.user_code.filter(|text| fits(text, MAX_USER_CODE)).ok_or(malformed(NONE))?;
        let is_address = |url: &String| fits(url, MAX_ADDRESS) && permits(url).is_ok();
        let address = answer.verification_uri.filter(is_address);
        Ok(Self {
            code: Zeroizing::new(code),
            user_code,
            address: address.ok_or(malformed("gives no address that a code could be typed at"))?,
            complete: answer.verification_uri_complete.filter(is_address),
            expires: answer.expires_in.ok_or(malformed("gives a code that does not say how long it counts"))?,
            interval: answer.interval.unwrap_or(INTERVAL).clamp(1, MAX_INTERVAL),
        })
    }

    /// What was told of it in a question for its token.
    pub fn told(&self) -> &str {
        &self.code
    }

    /// The pause is to be longer.
    pub fn slow_down(&mut self) {
        self.interval = (self.interval + INTERVAL).min(MAX_INTERVAL);
    }
}
