//! Logs and trusted roots in a policy's source.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Compiler, Made};
use crate::policy::keyless::{LOG, anchor_written, written};
use crate::policy::members::below;
use crate::sigstore::{Authority, Log, TrustedRoot, Window};
use crate::trust::Anchor;

/// What a log, root or authority without a URL is called.
const NAMELESS: &str = "trusted";

impl Compiler<'_> {
    /// Logs: `NAME: FILE`, or the members of one with a file, or the PEM text, for its key.
    pub(super) fn logs(&mut self, at: &str, value: &Value) -> Made<Value> {
        self.entries(at, value, |this, at, _, value| {
            if let Value::String(text) = value {
                let key = this.key(at, text)?;
                return Ok(json!({ "key": STANDARD.encode(key.to_pem()) }));
            }
            let members = this.object(at, value, &LOG)?;
            let mut out = Map::new();
            for (name, value) in members {
                let inner = below(at, name);
                let value = match (name.to_ascii_lowercase().as_str(), value) {
                    ("key", Value::String(text)) => STANDARD.encode(this.key(&inner, text)?.to_pem()).into(),
                    ("start" | "end", value) => this.time(&inner, value)?,
                    (_, value) => value.clone(),
                };
                out.insert(name.clone(), value);
            }
            Ok(Value::Object(out))
        })
    }

    /// Adds what the files of `trustedRoot` say to roots, authorities and logs.
    pub(super) fn trusted_roots(&mut self, at: &str, value: &Value, out: &mut Map<String, Value>) -> Made<()> {
        let files = match value {
            Value::Null => return Ok(()),
            Value::String(_) => vec![(at.to_owned(), value)],
            Value::Array(list) => {
                list.iter().enumerate().map(|(index, value)| (format!("{at}[{index}]"), value)).collect()
            }
            _ => return self.wrong(at, "neither a file nor a list of files"),
        };
        for (at, file) in files {
            let Some(text) = file.as_str() else { return self.wrong(&at, "no file") };
            // The document itself, for a source that has all in one place.
            let bytes = if text.trim_start().starts_with('{') {
                text.as_bytes().to_vec()
            } else {
                self.folder.read(text).map_err(|reason| self.document.wrong(&at, reason))?
            };
            let root = TrustedRoot::parse(&bytes).map_err(|error| self.document.wrong(&at, error.to_string()))?;
            self.trusted_root(&at, &root, out)?;
        }
        Ok(())
    }

    fn trusted_root(&self, at: &str, root: &TrustedRoot, out: &mut Map<String, Value>) -> Made<()> {
        let authorities = [("roots", &root.authorities), ("timestampauthorities", &root.timestamp_authorities)];
        for (member, list) in authorities {
            for Authority { anchor, window, uri, .. } in list {
                add(out, member, host(uri), anchor_written(anchor, *window));
            }
        }
        for (member, list) in [("transparencyLogs", &root.logs), ("certificateTransparencyLogs", &root.ct_logs)] {
            for log in list {
                let mut plain = Log::new(&log.base_url, log.key.clone(), log.window);
                (plain.id, plain.checkpoint_id) = (log.id.clone(), log.checkpoint_id.clone());
                plain.operator.clone_from(&log.operator);
                if plain != *log {
                    let reason = format!("the log {} signs in a way that a policy has no words for", log.label());
                    return self.wrong(at, reason);
                }
                add(out, member, host(&log.base_url), written(log));
            }
        }
        Ok(())
    }
}

/// The host that a URL names.
fn host(url: &str) -> &str {
    match crate::sigstore::host(url) {
        "" => NAMELESS,
        host => host,
    }
}

/// The anchors of a trusted root under the names that they get in a policy, where `taken` are there before.
pub(in crate::policy) fn anchors_of(list: &[Authority], taken: &[Anchor]) -> Vec<(Anchor, Window)> {
    let mut out: Vec<(Anchor, Window)> = Vec::new();
    for Authority { anchor, window, uri, .. } in list {
        let is_taken = |name: &str| taken.iter().chain(out.iter().map(|(one, _)| one)).any(|one| one.id == name);
        let id = free(host(uri), is_taken);
        out.push((Anchor { id, ..anchor.clone() }, *window));
    }
    out
}

/// A name like this one that nothing has.
fn free(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut free = name.to_owned();
    let mut number = 2;
    while is_taken(&free) {
        free = format!("{name}-{number}");
        number += 1;
    }
    free
}

/// Adds an entry under a name that nothing has; one that is there already is not added again.
fn add(out: &mut Map<String, Value>, member: &str, name: &str, value: Value) {
    let entries = out.entry(member).or_insert_with(|| Value::Object(Map::new()));
    if entries.is_null() {
        *entries = Value::Object(Map::new());
    }
    // Something else under this name was refused before.
    let Some(entries) = entries.as_object_mut() else { return };
    if entries.values().any(|known| *known == value) {
        return;
    }
    let name = free(name, |name| entries.contains_key(name));
    entries.insert(name, value);
}
