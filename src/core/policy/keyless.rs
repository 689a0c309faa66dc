//! What a policy says of logs, of certificates that are in one, and of what a certificate and the evidence have in common.
//! All members are ours.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::PolicyError;
use super::members::{Members, Seen, below};
use crate::sign::{KeyKind, PublicKey};
use crate::sigstore::{Log, Window};

/// Members of a log.
pub(super) const LOG: [&str; 6] = ["key", "url", "start", "end", "logID", "checkpointID"];
/// Longest id of a log, in bytes.
const MAX_ID: usize = 64;
/// The word by which a log entry, a certificate that is in a log, and a timestamp are demanded.
const REQUIRED: &str = "required";

/// What is demanded of each signature that counts, whatever form it comes in (security rule 13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// That a trusted log has an entry about it.
    pub log: bool,
    /// That its certificate is in a trusted log of certificates; a key has none.
    pub sct: bool,
    /// That one of the policy's timestamp authorities vouches for when it was made; a log's promise is no timestamp.
    pub timestamp: bool,
}

/// What the signer's certificate and the collection must have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// The repository.
    Repository,
    /// The commit.
    Commit,
    /// The run of the CI system.
    Run,
}

impl Match {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Repository, Self::Commit, Self::Run];

    /// The word for it, as in policies.
    pub fn word(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Commit => "commit",
            Self::Run => "run",
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A log of a policy, by the name that it has there.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedLog {
    /// Its name.
    pub id: String,
    /// The log; twice where its key can be that of either sort of log and nothing says which it is.
    pub logs: Vec<Log>,
}

pub(super) fn demands(members: &Members<'_>) -> Result<Demands, PolicyError> {
    let is_required = |name: &str| match members.text(name)? {
        None => Ok(false),
        Some(REQUIRED) => Ok(true),
        Some(_) => Err(PolicyError::Type { at: members.at(name), expected: "`required`" }),
    };
    Ok(Demands { log: is_required("log")?, sct: is_required("sct")?, timestamp: is_required("timestamp")? })
}

pub(super) fn matches(members: &Members<'_>) -> Result<Vec<Match>, PolicyError> {
    let mut matches = Vec::new();
    for (index, text) in members.texts("certificateMatches")?.iter().enumerate() {
        let known = Match::ALL.into_iter().find(|known| known.word() == text);
        let at = || format!("{}[{index}]", members.at("certificateMatches"));
        let known = known.ok_or_else(|| PolicyError::Type { at: at(), expected: "`repository`, `commit` or `run`" })?;
        if matches.contains(&known) {
            return Err(PolicyError::Twice { at: at() });
        }
        matches.push(known);
    }
    if matches.is_empty() && members.get("certificateMatches").is_some() {
        let reason = "an empty list: leave it out if nothing must match".to_owned();
        return Err(PolicyError::Value { at: members.at("certificateMatches"), reason });
    }
    Ok(matches)
}

/// From when until when; `start` and `end`.
pub(super) fn window(members: &Members<'_>) -> Result<Window, PolicyError> {
    let time = |name: &str| match members.time(name)? {
        // Empty is no way to say that there is no limit: it may have been meant to be filled.
        None if members.get(name).is_some() => {
            Err(PolicyError::Value { at: members.at(name), reason: "is empty".to_owned() })
        }
        time => Ok(time),
    };
    let window = Window { start: time("start")?, end: time("end")? };
    if let (Some(start), Some(end)) = (window.start, window.end)
        && start > end
    {
        let reason = format!("it ends before it begins ({start})");
        return Err(PolicyError::Value { at: members.at("end"), reason });
    }
    Ok(window)
}

pub(super) fn logs(top: &Members<'_>, name: &str, seen: &mut Seen) -> Result<Vec<NamedLog>, PolicyError> {
    let mut logs = Vec::new();
    for (id, value) in top.map(name)? {
        let at = below(&top.at(name), id);
        let members = Members::read(&at, value, &[], &LOG, seen)?;
        let pem = members.base64("key")?.ok_or_else(|| PolicyError::Missing { at: members.at("key") })?;
        let key =
            PublicKey::from_file_bytes(&pem).map_err(|source| PolicyError::Key { at: members.at("key"), source })?;
        let url = members.text("url")?.unwrap_or_default();
        let window = window(&members)?;
        let hex = |name: &str| -> Result<Option<Vec<u8>>, PolicyError> {
            let decode = |text: &str| {
                hex::decode(text)
                    .ok()
                    .filter(|bytes| !bytes.is_empty() && bytes.len() <= MAX_ID)
                    .ok_or_else(|| PolicyError::Type { at: members.at(name), expected: "an id in hex digits" })
            };
            members.text(name)?.map(decode).transpose()
        };
        let mut made = vec![Log::new(url, key.clone(), window)];
        made[0].checkpoint_id = hex("checkpointID")?;
        match hex("logID")? {
            Some(id) => made[0].id = id,
            // A log of tiles has an id that is made of its name, too, and most have such a key.
            None if key.kind() == KeyKind::Ed25519 && !url.is_empty() && made[0].checkpoint_id.is_none() => {
                let tiled = Log::tiled(url, key, window);
                made.push(
                    tiled.map_err(|error| PolicyError::Value { at: members.at("url"), reason: error.to_string() })?,
                );
            }
            None => {}
        }
        logs.push(NamedLog { id: id.clone(), logs: made });
    }
    Ok(logs)
}

/// A log as a policy has it.
pub(super) fn written(log: &Log) -> Value {
    let mut out = Map::new();
    out.insert("key".to_owned(), STANDARD.encode(log.key.to_pem()).into());
    out.insert("url".to_owned(), log.base_url.clone().into());
    window_into(&mut out, log.window);
    let plain = Log::new(&log.base_url, log.key.clone(), log.window);
    if log.id != plain.id || log.key.kind() == KeyKind::Ed25519 {
        out.insert("logID".to_owned(), hex::encode(&log.id).into());
    }
    if let Some(id) = &log.checkpoint_id {
        out.insert("checkpointID".to_owned(), hex::encode(id).into());
    }
    Value::Object(out)
}

/// The same of an authority's chain, root last.
pub(super) fn anchor_written(anchor: &crate::trust::Anchor, window: Window) -> Value {
    let pem = |certificate: &crate::trust::Certificate| STANDARD.encode(certificate.to_pem());
    let mut out = Map::new();
    out.insert("certificate".to_owned(), pem(&anchor.certificate).into());
    if !anchor.intermediates.is_empty() {
        out.insert("intermediates".to_owned(), json!(anchor.intermediates.iter().map(pem).collect::<Vec<_>>()));
    }
    window_into(&mut out, window);
    Value::Object(out)
}

fn window_into(out: &mut Map<String, Value>, window: Window) {
    let text = |time: Timestamp| Value::from(time.to_string());
    out.extend(window.start.map(|time| ("start".to_owned(), text(time))));
    out.extend(window.end.map(|time| ("end".to_owned(), text(time))));
}
