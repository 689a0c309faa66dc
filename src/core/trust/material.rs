//! What a signature brings to prove when it was made and where it was logged: timestamps and log entries.

use super::proof::{LogProblem, Note};
use super::timestamp::{self, ProvenTime, TimestampError};
use super::{COST_OF_READING, NoTime, OneEnvelope};
use crate::dsse::{Signature, TIMESTAMP_LOG_ENTRY, TIMESTAMP_TSP};
use crate::sigstore::{self, Entry, Logged, Signed, Verifier};

/// How many signatures of a log are checked for one entry at the most: promise and checkpoint.
const SIGNATURES: usize = 2;
/// How often what was signed may be hashed for all entries of a signature: three sorts of digests, and its payload.
const HASHES: u64 = 4;

/// What was read, and the times that authorities vouch for.
pub(super) struct Material {
    /// Earliest first. A later timestamp can be had by anybody at any time, so the earliest one says most.
    pub(super) times: Vec<ProvenTime>,
    /// Log entries with their places among the timestamps.
    entries: Vec<(usize, Entry)>,
}

/// The times that authorities and logs vouch for, earliest first.
pub(super) fn earliest(times: &[ProvenTime], logged: &[Logged]) -> Vec<ProvenTime> {
    let promised = |one: &Logged| one.time.map(|time| ProvenTime { time, authority: one.log.clone() });
    let mut all: Vec<ProvenTime> = times.iter().cloned().chain(logged.iter().filter_map(promised)).collect();
    all.sort();
    all.dedup();
    all
}

impl OneEnvelope<'_> {
    /// Reads what a signature brings. The times of log entries are proven later: they depend on who signed.
    pub(super) fn material(&self, signature: &Signature, notes: &mut Vec<Note>) -> Material {
        let mut material = Material { times: Vec::new(), entries: Vec::new() };
        for (place, timestamp) in signature.timestamps.iter().enumerate() {
            let within = self.work.spend(timestamp.data.len() as u64 * COST_OF_READING).is_ok();
            if timestamp.kind == TIMESTAMP_LOG_ENTRY {
                let entry = if within {
                    Entry::parse(&timestamp.data).map_err(LogProblem::from)
                } else {
                    Err(LogProblem::TooMuchWork)
                };
                match entry {
                    Ok(entry) => material.entries.push((place, entry)),
                    Err(error) => notes.push(Note::Log { place, error }),
                }
                continue;
            }
            let result = if timestamp.kind != TIMESTAMP_TSP {
                Err(TimestampError::UnknownKind { kind: timestamp.kind.clone() })
            } else if !within {
                Err(TimestampError::TooMuchWork)
            } else {
                let (data, windows) = (&timestamp.data, &self.trust.authority_windows);
                timestamp::verify_in_windows(data, &signature.sig, &self.trust.authorities, windows, &self.work)
            };
            match result {
                Ok(time) => material.times.push(time),
                Err(error) => notes.push(Note::Timestamp { place, error }),
            }
        }
        material.times = earliest(&material.times, &[]);
        material
    }

    /// The entries that a trusted log has about this very signature by this signer. The signature itself is checked by the
    /// caller.
    pub(super) fn logged(
        &self,
        signature: &Signature,
        signer: Verifier<'_>,
        material: &Material,
        notes: &mut Vec<Note>,
    ) -> Vec<Logged> {
        if material.entries.is_empty() {
            return Vec::new();
        }
        // Where no log is trusted nothing is compared.
        let hashed = self.work.spend(if self.trust.logs.is_empty() { 0 } else { self.payload as u64 * HASHES });
        let signed = Signed::new(self.parts, &signature.sig, signer).with_envelope(self.envelope);
        let times: Vec<jiff::Timestamp> = material.times.iter().map(|proven| proven.time).collect();
        let mut logged: Vec<Logged> = Vec::new();
        for (place, entry) in &material.entries {
            let asked = self.trust.logs.iter().filter(|log| log.id == entry.log_id);
            let affordable = hashed.is_ok()
                && asked.flat_map(|log| [log; SIGNATURES]).all(|log| self.work.spend_check(&log.key).is_ok());
            let result = if affordable {
                sigstore::check(entry, &signed, &self.trust.logs, &times).map_err(LogProblem::from)
            } else {
                Err(LogProblem::TooMuchWork)
            };
            match result {
                Ok(one) if logged.contains(&one) => {}
                Ok(one) => logged.push(one),
                Err(error) => {
                    let note = Note::Log { place: *place, error };
                    // The same entry is asked about the certificate and, where that does not count, about the key.
                    if !notes.contains(&note) {
                        notes.push(note);
                    }
                }
            }
        }
        logged
    }

    /// Why no time is proven, where no log has an entry either.
    pub(super) fn no_time(&self, signature: &Signature, notes: &[Note]) -> NoTime {
        let tokens = signature.timestamps.iter().filter(|one| one.kind != TIMESTAMP_LOG_ENTRY).count();
        if self.trust.authorities.is_empty() && tokens > 0 {
            return NoTime::NoAuthority;
        }
        let of_token = notes.iter().find_map(|note| match note {
            Note::Timestamp { error, .. } => Some(error.clone()),
            _ => None,
        });
        let of_entry = notes.iter().find_map(|note| match note {
            Note::Log { error, .. } => Some(Box::new(error.clone())),
            _ => None,
        });
        match (of_token, of_entry) {
            (Some(first), _) => NoTime::NoneHolds { count: tokens, first },
            (None, Some(first)) => NoTime::Log { first },
            (None, None) => NoTime::NoTimestamp,
        }
    }
}
