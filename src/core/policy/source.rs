//! From a policy's source to the JSON that is signed.
//!
//! The source has the members of the policy (wire-formats §5.2), and these for what people cannot write:
//!
//! | where | in the source | in the policy |
//! |---|---|---|
//! | `expires`, `notBefore` | `90d`, `now` or a date besides RFC 3339 | RFC 3339 |
//! | `publickeys` | `NAME: FILE` or `NAME: {key: FILE}`, or the PEM text | key id and key |
//! | functionary | `key: NAME` or `key: FILE` | `type`, `publickeyid`; the key is added to `publickeys` |
//! | `roots`, `timestampauthorities` | `NAME: FILE` or `certificate: FILE`, or the PEM text | base64 of PEM |
//! | `transparencyLogs`, `certificateTransparencyLogs` | `NAME: FILE` or `key: FILE`, or the PEM text | base64 of PEM |
//! | `trustedRoot` | the file of a Sigstore trusted root, or several | what it says, added to the four |
//! | attestation | a short name of [`SHORT_TYPES`]; `rego:` a file, a list of files, `affiant:NAME` ([`shipped`]), or the text itself | `type`, `regopolicies` |
//! | step, external attestation | without `name` | `name` |
//!
//! What is compiled already stays as it is, so a policy is a source of itself.

mod folder;
mod keyless;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Map, Value, json};

pub use self::folder::Folder;
pub use self::keyless::believe;
use super::members::{below, duration};
use super::read::IMAGES;
use super::{Document, Policy, PolicyError, SourceError, shipped};
use crate::evidence::short_name;
use crate::nearest::nearest;
use crate::rego;
use crate::sign::PublicKey;
use crate::trust::Certificate;

/// How base64 of a PEM text begins.
const BASE64_OF_PEM: &str = "LS0tLS1CRUdJTi";

/// Attestation types that a source may name shortly, with the type that is meant.
pub const SHORT_TYPES: [(&str, &str); 29] = [
    ("aws", "https://witness.dev/attestations/aws/v0.1"),
    ("command-run", "https://witness.dev/attestations/command-run/v0.1"),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("docker", "https://witness.dev/attestations/docker/v0.1"),
    ("environment", "https://witness.dev/attestations/environment/v0.1"),
    ("gcp-iit", "https://witness.dev/attestations/gcp-iit/v0.1"),
    ("git", "https://witness.dev/attestations/git/v0.1"),
    ("github", "https://witness.dev/attestations/github/v0.1"),
    ("github-action", "https://aflock.ai/attestations/github-action/v0.1"),
    ("gitlab", "https://witness.dev/attestations/gitlab/v0.1"),
    ("jenkins", "https://witness.dev/attestations/jenkins/v0.1"),
    ("jwt", "https://witness.dev/attestations/jwt/v0.1"),
    ("k8smanifest", "https://witness.dev/attestations/k8smanifest/v0.2"),
    ("link", "https://in-toto.io/attestation/link/v0.3"),
    ("lockfiles", "https://witness.dev/attestations/lockfiles/v0.1"),
    ("material", "https://witness.dev/attestations/material/v0.1"),
    ("maven", "https://witness.dev/attestations/maven/v0.1"),
    ("oci", "https://witness.dev/attestations/oci/v0.1"),
    ("omnitrail", "https://witness.dev/attestations/omnitrail/v0.1"),
    ("pins", "urn:affiant:pins:v0.1"),
    ("product", "https://witness.dev/attestations/product/v0.1"),
    ("sarif", "https://witness.dev/attestations/sarif/v0.1"),
    ("secretscan", "https://witness.dev/attestations/secretscan/v0.1"),
    ("slsa", "https://slsa.dev/provenance/v1.0"),
    ("slsa-provenance", "https://slsa.dev/provenance/v1"),
    ("spdx", "https://spdx.dev/Document"),
    ("system-packages", "https://witness.dev/attestations/system-packages/v0.1"),
    ("vex", "https://witness.dev/attestations/vex/v0.1"),
    ("vsa", "https://slsa.dev/verification_summary/v1"),
];

const TOP: &[&str] = &[
    "expires",
    "roots",
    "timestampauthorities",
    "publickeys",
    "steps",
    "externalAttestations",
    "version",
    "minimumVersion",
    "notBefore",
    "images",
    "transparencyLogs",
    "certificateTransparencyLogs",
    "trustedRoot",
];
const STEP: &[&str] = &[
    "name",
    "functionaries",
    "attestations",
    "artifactsFrom",
    "attestationsFrom",
    "externalFrom",
    "allowedUntracked",
    "timestampConstraint",
    "threshold",
    "exitcode",
    "commandRun",
    "perPlatform",
    "log",
    "sct",
    "timestamp",
    "certificateMatches",
];
const EXTERNAL: &[&str] = &[
    "name",
    "predicateType",
    "functionaries",
    "regopolicies",
    "aipolicies",
    "required",
    "rego",
    "log",
    "sct",
    "timestamp",
];
const ATTESTATION: &[&str] = &["type", "regopolicies", "aipolicies", "maxAge", "rego"];
const FUNCTIONARY: &[&str] = &["type", "publickeyid", "certConstraint", "key"];
const KEY: &[&str] = &["keyid", "key"];
const ANCHOR: &[&str] = &["certificate", "intermediates", "start", "end"];

/// A compiled policy.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The policy as JSON, for the envelope.
    pub value: Value,
    /// The same, read.
    pub policy: Policy,
}

impl Compiled {
    /// The text to be signed or written.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(&self.value).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// Compiles a source. `now` is what `90d` counts from.
pub fn compile(document: &Document, folder: &Folder, now: Timestamp) -> Result<Compiled, SourceError> {
    let mut compiler = Compiler { document, folder, now, keys: Vec::new(), added: Map::new() };
    let value = compiler.policy()?;
    let policy = Policy::from_value(&value).map_err(|error| document.policy_error(error))?;
    if let Some(unknown) = policy.unknown.first() {
        let error = PolicyError::Unknown { at: unknown.at.clone(), nearest: unknown.nearest.clone() };
        return Err(document.policy_error(error));
    }
    for step in policy.steps.values() {
        for requirement in &step.attestations {
            rules(document, &requirement.at, &requirement.modules)?;
        }
    }
    for external in policy.external.values() {
        rules(document, &below("externalAttestations", &external.name), &external.modules)?;
    }
    Ok(Compiled { value, policy })
}

fn rules(document: &Document, at: &str, modules: &[super::RegoModule]) -> Result<(), SourceError> {
    let modules: Vec<rego::Module> =
        modules.iter().map(|one| rego::Module { name: one.name.clone(), text: one.text.clone() }).collect();
    let compiled = rego::Rules::compile(&modules);
    compiled.map(|_| ()).map_err(|error| document.wrong(&below(at, "rego"), error.to_string()))
}

struct Compiler<'a> {
    document: &'a Document,
    folder: &'a Folder,
    now: Timestamp,
    /// Name in the source and key id.
    keys: Vec<(String, String)>,
    /// `publickeys` of the policy.
    added: Map<String, Value>,
}

type Made<T> = Result<T, SourceError>;

impl Compiler<'_> {
    fn wrong<T>(&self, at: &str, reason: impl Into<String>) -> Made<T> {
        Err(self.document.wrong(at, reason))
    }

    fn object<'v>(&self, at: &str, value: &'v Value, known: &[&str]) -> Made<&'v Map<String, Value>> {
        let Some(object) = value.as_object() else {
            return self.wrong(if at.is_empty() { "the policy" } else { at }, "not an object");
        };
        for name in object.keys() {
            if !known.iter().any(|one| one.eq_ignore_ascii_case(name)) {
                let hint = nearest(name, known.iter().copied());
                let hint = hint.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
                return self.wrong(&below(at, name), format!("not known{hint}"));
            }
        }
        Ok(object)
    }

    fn policy(&mut self) -> Made<Value> {
        let document = self.document;
        let top = self.object("", &document.value, TOP)?;
        let mut out = Map::new();
        for name in TOP {
            let Some((written, value)) = top.iter().find(|(written, _)| written.eq_ignore_ascii_case(name)) else {
                if *name == "publickeys" {
                    // Functionaries may add keys.
                    out.insert((*name).to_owned(), Value::Null);
                }
                continue;
            };
            if top.keys().filter(|other| other.eq_ignore_ascii_case(name)).count() > 1 {
                return Err(document.policy_error(PolicyError::Twice { at: written.clone() }));
            }
            let value = match *name {
                "expires" | "notBefore" => self.time(written, value)?,
                "roots" | "timestampauthorities" => self.anchors(written, value)?,
                "publickeys" => {
                    self.public_keys(written, value)?;
                    Value::Null
                }
                "steps" => self.entries(written, value, Self::step)?,
                "externalAttestations" => self.entries(written, value, Self::external)?,
                "images" => self.images(written, value)?,
                "transparencyLogs" | "certificateTransparencyLogs" => self.logs(written, value)?,
                "trustedRoot" => {
                    self.trusted_roots(written, value, &mut out)?;
                    continue;
                }
                _ => value.clone(),
            };
            out.insert((*name).to_owned(), value);
        }
        let keys = std::mem::take(&mut self.added);
        if keys.is_empty() {
            out.shift_remove("publickeys");
        } else {
            out.insert("publickeys".to_owned(), Value::Object(keys));
        }
        Ok(Value::Object(out))
    }

    fn time(&self, at: &str, value: &Value) -> Made<Value> {
        let Some(text) = value.as_str() else { return Ok(value.clone()) };
        let time = if text == "now" {
            Some(self.now)
        } else if let Some(ahead) = duration(text) {
            self.now.checked_add(ahead).ok()
        } else if let Ok(date) = text.parse::<Date>().and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC)) {
            // A time has a date in it; that one is read below.
            if text.len() == "2026-01-01".len() { Some(date.timestamp()) } else { text.parse().ok() }
        } else {
            text.parse().ok()
        };
        match time {
            // Both peers keep whole seconds.
            Some(time) => Ok(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()),
            None => self.wrong(at, format!("`{text}` is no time: write `90d`, `2027-01-31` or `2027-01-31T12:00:00Z`")),
        }
    }

    /// Each entry of a map whose names are data.
    fn entries(
        &mut self,
        at: &str,
        value: &Value,
        mut one: impl FnMut(&mut Self, &str, &str, &Value) -> Made<Value>,
    ) -> Made<Value> {
        let Some(map) = value.as_object() else {
            return if value.is_null() { Ok(Value::Null) } else { self.wrong(at, "not an object") };
        };
        let mut out = Map::new();
        for (name, value) in map {
            out.insert(name.clone(), one(self, &below(at, name), name, value)?);
        }
        Ok(Value::Object(out))
    }

    fn anchors(&mut self, at: &str, value: &Value) -> Made<Value> {
        self.entries(at, value, |this, at, _, value| {
            if let Value::String(text) = value {
                return Ok(json!({ "certificate": this.certificate(at, text)? }));
            }
            let members = this.object(at, value, ANCHOR)?;
            let mut out = Map::new();
            for (name, value) in members {
                let at = below(at, name);
                let value = match value {
                    Value::String(text) if name.eq_ignore_ascii_case("certificate") => {
                        this.certificate(&at, text)?.into()
                    }
                    value if ["start", "end"].iter().any(|one| name.eq_ignore_ascii_case(one)) => {
                        this.time(&at, value)?
                    }
                    Value::String(text) => vec![this.certificate(&at, text)?].into(),
                    Value::Array(list) => {
                        let read = |(index, value): (usize, &Value)| match value {
                            Value::String(text) => this.certificate(&format!("{at}[{index}]"), text).map(Value::from),
                            other => Ok(other.clone()),
                        };
                        list.iter().enumerate().map(read).collect::<Made<Vec<Value>>>()?.into()
                    }
                    other => other.clone(),
                };
                out.insert(name.clone(), value);
            }
            Ok(Value::Object(out))
        })
    }

    /// The bytes that a text names: PEM as it stands, base64 of it, or a file.
    fn bytes(&self, at: &str, text: &str) -> Made<Vec<u8>> {
        if text.contains("-----BEGIN ") {
            return Ok(text.as_bytes().to_vec());
        }
        if text.trim_start().starts_with(BASE64_OF_PEM) {
            return super::members::base64(at, text).map_err(|error| self.document.policy_error(error));
        }
        self.folder.read(text).map_err(|reason| self.document.wrong(at, reason))
    }

    fn certificate(&self, at: &str, text: &str) -> Made<String> {
        let bytes = self.bytes(at, text)?;
        let all = Certificate::read_all(&bytes).map_err(|error| self.document.wrong(at, error.to_string()))?;
        match all.as_slice() {
            [one] => Ok(STANDARD.encode(one.to_pem())),
            many => self.wrong(at, format!("{} certificates where one is meant", many.len())),
        }
    }

    fn key(&self, at: &str, text: &str) -> Made<PublicKey> {
        let bytes = self.bytes(at, text)?;
        PublicKey::from_file_bytes(&bytes).map_err(|error| self.document.wrong(at, error.to_string()))
    }

    fn add_key(&mut self, name: &str, id: &str, key: &PublicKey) {
        self.keys.push((name.to_owned(), id.to_owned()));
        self.added.insert(id.to_owned(), json!({ "keyid": id, "key": STANDARD.encode(key.to_pem()) }));
    }

    fn public_keys(&mut self, at: &str, value: &Value) -> Made<()> {
        let Some(map) = value.as_object() else {
            return if value.is_null() { Ok(()) } else { self.wrong(at, "not an object") };
        };
        for (name, value) in map {
            let at = below(at, name);
            let (key, said) = if let Value::String(text) = value {
                (self.key(&at, text)?, None)
            } else {
                let members = self.object(&at, value, KEY)?;
                let get = |wanted: &str| {
                    members.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).and_then(|(_, one)| one.as_str())
                };
                let at = below(&at, "key");
                let Some(text) = get("key") else { return self.wrong(&at, "missing") };
                (self.key(&at, text)?, get("keyid").filter(|id| !id.is_empty()))
            };
            // What is said is checked when the policy is read; a reference to a key service is its own id.
            let id = said.unwrap_or(key.key_id()).to_owned();
            self.add_key(name, &id, &key);
        }
        Ok(())
    }

    fn step(&mut self, at: &str, name: &str, value: &Value) -> Made<Value> {
        let members = self.object(at, value, STEP)?;
        let mut out = Map::new();
        out.insert("name".to_owned(), name.into());
        for (member, value) in members {
            let at = below(at, member);
            let value = match STEP.iter().find(|one| one.eq_ignore_ascii_case(member)).copied().unwrap_or_default() {
                "functionaries" => self.functionaries(&at, value)?,
                "attestations" => self.list(&at, value, Self::attestation)?,
                "artifactsFrom" | "attestationsFrom" | "externalFrom" | "allowedUntracked" | "certificateMatches"
                    if value.is_string() =>
                {
                    json!([value])
                }
                _ => value.clone(),
            };
            out.insert(member.clone(), value);
        }
        Ok(Value::Object(out))
    }

    fn images(&mut self, at: &str, value: &Value) -> Made<Value> {
        let members = self.object(at, value, IMAGES)?;
        let mut out = Map::new();
        for (member, value) in members {
            let at = below(at, member);
            let value = match member.to_ascii_lowercase().as_str() {
                "functionaries" => self.functionaries(&at, value)?,
                "names" if value.is_string() => json!([value]),
                _ => value.clone(),
            };
            out.insert(member.clone(), value);
        }
        Ok(Value::Object(out))
    }

    fn external(&mut self, at: &str, name: &str, value: &Value) -> Made<Value> {
        let members = self.object(at, value, EXTERNAL)?;
        let mut out = Map::new();
        out.insert("name".to_owned(), name.into());
        for (member, value) in members {
            let inner = below(at, member);
            match member.to_ascii_lowercase().as_str() {
                "functionaries" => {
                    out.insert(member.clone(), self.functionaries(&inner, value)?);
                }
                "predicatetype" => {
                    out.insert(member.clone(), full_type(value));
                }
                "rego" => self.rego(at, value, &mut out)?,
                "regopolicies" => append(&mut out, value),
                _ => {
                    out.insert(member.clone(), value.clone());
                }
            }
        }
        Ok(Value::Object(out))
    }

    fn list(
        &mut self,
        at: &str,
        value: &Value,
        mut one: impl FnMut(&mut Self, &str, &Value) -> Made<Value>,
    ) -> Made<Value> {
        let single;
        let list = match value {
            Value::Array(list) => list,
            Value::Null => return Ok(Value::Null),
            other => {
                single = vec![other.clone()];
                &single
            }
        };
        let made = list
            .iter()
            .enumerate()
            .map(|(index, value)| one(self, &format!("{at}[{index}]"), value))
            .collect::<Made<Vec<_>>>()?;
        Ok(Value::Array(made))
    }

    fn functionaries(&mut self, at: &str, value: &Value) -> Made<Value> {
        self.list(at, value, Self::functionary)
    }

    fn functionary(&mut self, at: &str, value: &Value) -> Made<Value> {
        if let Value::String(text) = value {
            let id = self.key_id(at, text)?;
            return Ok(json!({ "type": "publickey", "publickeyid": id }));
        }
        let members = self.object(at, value, FUNCTIONARY)?;
        let mut out = Map::new();
        for (name, value) in members {
            let inner = below(at, name);
            match (name.to_ascii_lowercase().as_str(), value) {
                ("key", Value::String(text)) => {
                    let id = self.key_id(&inner, text)?;
                    out.insert("publickeyid".to_owned(), id.into());
                }
                ("publickeyid", Value::String(text)) => {
                    let id = self.keys.iter().find(|(known, _)| known == text).map_or(text, |(_, id)| id);
                    out.insert(name.clone(), id.as_str().into());
                }
                _ => {
                    out.insert(name.clone(), value.clone());
                }
            }
        }
        if !out.contains_key("type") {
            let kind = if out.contains_key("certConstraint") { "root" } else { "publickey" };
            // Both peers write it first.
            out.shift_insert(0, "type".to_owned(), kind.into());
        }
        Ok(Value::Object(out))
    }

    /// The id of a key that is named as in `publickeys`, by its file, or by its id.
    fn key_id(&mut self, at: &str, text: &str) -> Made<String> {
        if let Some((_, id)) = self.keys.iter().find(|(name, id)| name == text || id == text) {
            return Ok(id.clone());
        }
        let named = self.keys.iter().map(|(name, _)| name.as_str());
        let hint = nearest(text, named).map(|name| format!("; did you mean `{name}` of `publickeys`?"));
        let key = self.key(at, text).map_err(|error| match (hint, error) {
            (Some(hint), SourceError::Member { at, line, reason }) => {
                SourceError::Member { at, line, reason: format!("{reason}{hint}") }
            }
            (_, error) => error,
        })?;
        let id = key.key_id().to_owned();
        self.add_key(text, &id, &key);
        Ok(id)
    }

    fn attestation(&mut self, at: &str, value: &Value) -> Made<Value> {
        if value.is_string() {
            return self.kind(at, value).map(|kind| json!({ "type": kind }));
        }
        let members = self.object(at, value, ATTESTATION)?;
        let mut out = Map::new();
        for (name, value) in members {
            match name.to_ascii_lowercase().as_str() {
                "type" => {
                    out.insert(name.clone(), self.kind(&below(at, name), value)?);
                }
                "rego" => self.rego(at, value, &mut out)?,
                "regopolicies" => append(&mut out, value),
                _ => {
                    out.insert(name.clone(), value.clone());
                }
            }
        }
        Ok(Value::Object(out))
    }

    /// The full type; a name that is neither a type nor a short one is a mistake.
    fn kind(&self, at: &str, value: &Value) -> Made<Value> {
        let full = full_type(value);
        match full.as_str() {
            Some(text) if !text.contains(':') => {
                if text == "sbom" {
                    return self.wrong(at, "an SBOM is attested as what it is: write `cyclonedx` or `spdx`");
                }
                let known = SHORT_TYPES.iter().map(|(short, _)| *short);
                let hint = nearest(text, known).map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
                self.wrong(at, format!("`{text}` is no attestation type{hint}"))
            }
            _ => Ok(full),
        }
    }

    fn rego(&self, at: &str, value: &Value, out: &mut Map<String, Value>) -> Made<()> {
        let inner = below(at, "rego");
        let module = |at: &str, value: &Value| -> Made<Value> {
            let Some(text) = value.as_str() else { return self.wrong(at, "neither a file of Rego nor Rego itself") };
            let (name, text) = if text.trim_end().contains('\n') || text.trim_start().starts_with("package ") {
                (format!("{at}.rego"), text.to_owned())
            } else if let Some(name) = text.strip_prefix(shipped::PREFIX) {
                let Some(shipped) = shipped::find(name) else {
                    let known = shipped::SHIPPED.iter().map(|shipped| shipped.name);
                    let hint = nearest(name, known).map(|name| format!(", did you mean `{}{name}`?", shipped::PREFIX));
                    let hint = hint.unwrap_or_else(|| "; `affiant policy rules` lists them".to_owned());
                    return self.wrong(at, format!("`{text}` is no rule of affiant{hint}"));
                };
                (text.to_owned(), shipped.text.to_owned())
            } else {
                let bytes = self.folder.read(text).map_err(|reason| self.document.wrong(at, reason))?;
                let read = String::from_utf8(bytes);
                (text.to_owned(), read.map_err(|_| self.document.wrong(at, format!("the file {text} is not UTF-8")))?)
            };
            Ok(json!({ "name": name, "module": STANDARD.encode(text) }))
        };
        let modules = match value {
            Value::Array(list) => list
                .iter()
                .enumerate()
                .map(|(index, value)| module(&format!("{inner}[{index}]"), value))
                .collect::<Made<Vec<_>>>()?,
            Value::Null => Vec::new(),
            one => {
                let mut made = module(&inner, one)?;
                if let Some(name) = made["name"].as_str().and_then(|name| name.strip_suffix(".rego.rego")) {
                    made["name"] = format!("{name}.rego").into();
                }
                vec![made]
            }
        };
        append(out, &Value::Array(modules));
        Ok(())
    }
}

/// Adds rules to those that are there.
fn append(out: &mut Map<String, Value>, modules: &Value) {
    match (out.get_mut("regopolicies"), modules) {
        (Some(Value::Array(list)), Value::Array(more)) => list.extend(more.iter().cloned()),
        _ => {
            out.insert("regopolicies".to_owned(), modules.clone());
        }
    }
}

fn full_type(value: &Value) -> Value {
    let full = value.as_str().and_then(|text| SHORT_TYPES.iter().find(|(short, _)| *short == text));
    full.map_or_else(|| value.clone(), |(_, full)| (*full).into())
}

/// The short name by which a source can name a type, where there is one.
pub fn short_type(kind: &str) -> &str {
    SHORT_TYPES.iter().find(|(_, full)| *full == kind).map_or(kind, |(short, _)| short)
}

/// How a type is called in sentences.
pub(super) fn spoken(kind: &str) -> &str {
    let short = short_type(kind);
    if short == kind { short_name(kind) } else { short }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn at() -> Timestamp {
        "2026-06-01T12:00:00.5Z".parse().expect("a time")
    }

    fn made(text: &str, folder: &Path) -> Result<Compiled, String> {
        let folder = Folder::of(&folder.join("policy.yaml"));
        let document = Document::parse(text.as_bytes()).map_err(|error| error.to_string())?;
        compile(&document, &folder, at()).map_err(|error| format!("{}: {error}", error.line().unwrap_or(0)))
    }

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
    }

    const SOURCE: &str = "\
expires: 90d
publickeys:
  ci: keys/functionary.pub
roots:
  r: certificates/keys/root.pem
timestampauthorities:
  t:
    certificate: certificates/keys/tsa-root.pem
steps:
  build:
    functionaries:
      - key: ci
      - certConstraint: {commonname: '*', roots: [r]}
    attestations:
      - git
      - type: command-run
        rego: |
          package a
          import rego.v1
          deny contains \"no\" if input.exitcode != 0
    exitcode: 0
  test:
    functionaries: [keys/functionary.pub]
    attestations: [product]
    artifactsFrom: build
";

    #[test]
    fn a_source_becomes_a_policy_and_a_policy_is_its_own_source() {
        let compiled = made(SOURCE, &fixtures()).expect("compiles");
        assert_eq!(compiled.value["expires"], "2026-08-30T12:00:00Z");
        let pem = std::fs::read(fixtures().join("keys/functionary.pub")).expect("a key");
        let key = PublicKey::from_file_bytes(&pem).expect("a key");
        assert_eq!(compiled.policy.keys.len(), 1, "one key under two names");
        let build = &compiled.policy.steps["build"];
        assert_eq!(build.functionaries[0].key_id.as_deref(), Some(key.key_id()));
        assert_eq!(compiled.value["steps"]["build"]["functionaries"][1]["type"], "root");
        assert_eq!(build.attestations[0].kind, "https://witness.dev/attestations/git/v0.1");
        assert!(build.attestations[1].modules[0].text.starts_with("package a\n"));
        assert_eq!(build.attestations[1].modules[0].name, "steps.build.attestations[1].rego");
        assert_eq!(compiled.policy.steps["test"].artifacts_from, ["build"]);
        assert_eq!(compiled.value["steps"]["test"]["name"], "test");
        let text = String::from_utf8(compiled.to_json()).expect("text");
        let again = made(&text, Path::new("/nonexistent")).expect("compiles again");
        assert_eq!(again.value, compiled.value);
    }

    #[test]
    fn each_mistake_has_its_line() {
        for (find, replace, expected) in [
            ("expires: 90d", "expires: soon", "1: `expires`: `soon` is no time"),
            ("expires: 90d", "expire: 90d", "1: `expire`: not known, did you mean `expires`?"),
            ("key: ci", "key: cj", "12: `steps.build.functionaries[0].key`: the file "),
            ("key: ci", "kei: ci", "12: `steps.build.functionaries[0].kei`: not known, did you mean `key`?"),
            ("ci: keys/functionary.pub", "ci: keys/functionary.pem", "3: `publickeys.ci`: "),
            ("ci: keys/functionary.pub", "ci: ../keys/x", "3: `publickeys.ci`: the file ../keys/x is outside"),
            ("- git", "- gti", "15: `steps.build.attestations[0]`: `gti` is no attestation type, did you mean `git`?"),
            ("artifactsFrom: build", "artifactsFrom: bild", "25: `steps.test.artifactsFrom` names `bild`"),
            ("package a", "pakage a", "17: `steps.build.attestations[1].rego`: Rego module"),
            ("exitcode: 0", "exitcode: none", "21: `steps.build.exitcode` is not an exit code"),
            ("certificates/keys/root.pem", "keys/functionary.pub", "5: `roots.r`: "),
        ] {
            let error = made(&SOURCE.replace(find, replace), &fixtures()).expect_err(replace);
            assert!(error.starts_with(expected), "{error}\n{expected}");
        }
        let private = made(&SOURCE.replace("ci: keys/functionary.pub", "ci: keys/functionary.pem"), &fixtures());
        assert!(private.expect_err("refused").contains("private"));
    }

    #[test]
    fn files_stay_in_the_folder_unless_named_from_the_root() {
        let dir = tempfile::tempdir().expect("a folder");
        let inside = dir.path().join("policies");
        std::fs::create_dir(&inside).expect("makes a folder");
        std::fs::write(dir.path().join("outside.rego"), "package a\ndeny[\"x\"] { false }\n").expect("writes");
        std::os::unix::fs::symlink("../outside.rego", inside.join("link.rego")).expect("links");
        let step = |file: &str| {
            format!("expires: 1d\nsteps:\n  a:\n    attestations:\n      - type: git\n        rego: {file}\n")
        };
        for file in ["../outside.rego", "link.rego", "x/../../outside.rego"] {
            let error = made(&step(file), &inside).expect_err(file);
            assert!(error.contains("is outside of the policy's folder"), "{error}");
        }
        let absolute = dir.path().join("outside.rego");
        made(&step(&absolute.display().to_string()), &inside).expect("named on purpose");
        assert!(made(&step("/dev/zero"), &inside).expect_err("refused").contains("not a file"));
    }

    #[test]
    fn times_are_relative_dates_or_exact() {
        let expires = |text: &str| {
            let source = format!("expires: {text}\nsteps:\n  a: {{attestations: [git]}}\n");
            made(&source, &fixtures()).expect(text).value["expires"].as_str().expect("a time").to_owned()
        };
        assert_eq!(expires("now"), "2026-06-01T12:00:00Z");
        assert_eq!(expires("2027-01-31"), "2027-01-31T00:00:00Z");
        assert_eq!(expires("2027-01-31T10:00:00+02:00"), "2027-01-31T08:00:00Z");
        assert_eq!(expires("2w"), "2026-06-15T12:00:00Z");
    }
}
