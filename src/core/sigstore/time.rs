//! Times that authorities of a trusted root vouch for.
//!
//! Source: sigstore-oci §10; RFC 3161.

use jiff::Timestamp;

use super::root::{Authority, Window};
use crate::trust::timestamp::{self, ProvenTime, TimestampError, Windows};
use crate::trust::{COST_OF_READING, Work};

/// Most timestamps of one signature.
pub const MAX_TIMESTAMPS: usize = 32;
/// What checking the timestamps of one signature may cost, in bytes hashed: some seconds.
const COST: u64 = 4 * 1024 * 1024 * 1024;

/// The earliest time that one of the authorities vouches for. `responses` are `TimeStampResp` over `message`.
pub fn proven_time(responses: &[Vec<u8>], message: &[u8], authorities: &[Authority]) -> Result<ProvenTime, String> {
    Ok(proven_times(responses, message, authorities)?.swap_remove(0))
}

/// All times that authorities vouch for, earliest first, at least one. Timestamps that do not hold beside one that does
/// are nothing: anybody can add them.
///
/// # Errors
/// Why the last one does not hold.
pub fn proven_times(
    responses: &[Vec<u8>],
    message: &[u8],
    authorities: &[Authority],
) -> Result<Vec<ProvenTime>, String> {
    proven_times_within(responses, message, authorities, &Work::new(COST))
}

/// The same, of those whose timestamps are counted together.
pub(super) fn proven_times_within(
    responses: &[Vec<u8>],
    message: &[u8],
    authorities: &[Authority],
    work: &Work,
) -> Result<Vec<ProvenTime>, String> {
    if responses.len() > MAX_TIMESTAMPS {
        return Err(format!("{} timestamps; {MAX_TIMESTAMPS} are read", responses.len()));
    }
    if responses.is_empty() {
        return Err("it has no timestamp, and one is demanded".to_owned());
    }
    let mut why = "the trusted root names no timestamp authority".to_owned();
    let mut times = Vec::new();
    for response in responses {
        let token = match timestamp::token_of_response(response) {
            Ok(token) => token,
            Err(error) => {
                why = error.to_string();
                continue;
            }
        };
        for authority in authorities {
            let anchors = std::slice::from_ref(&authority.anchor);
            // With a window, however long, what a stranger brings does not lead from its intermediates to its root.
            let window = Window { start: authority.window.start.or(Some(Timestamp::MIN)), ..authority.window };
            let windows = Windows::from([(authority.anchor.id.clone(), window)]);
            let proven = match work.spend(token.len() as u64 * COST_OF_READING) {
                Ok(()) => timestamp::verify_in_windows(token, message, anchors, &windows, work),
                Err(_) => Err(TimestampError::TooMuchWork),
            };
            match proven {
                Ok(time) => times.push(time),
                Err(TimestampError::Window { time, .. }) => {
                    let (id, window) = (&authority.anchor.id, authority.window);
                    why = format!("the authority {id} is not trusted for {time}, only {window}");
                }
                Err(error) => why = error.to_string(),
            }
        }
    }
    if times.is_empty() {
        return Err(why);
    }
    times.sort();
    times.dedup();
    Ok(times)
}
