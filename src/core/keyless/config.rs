//! Which services there are: `signing_config.json` of version 0.2, and which of them are used.
//!
//! Source: sigstore `protobuf-specs`, `sigstore_trustroot.proto`, message `SigningConfig`; sigstore-oci §11. The choice:
//! the newest generation that is known here, of those whose time it is, at most one of each operator.

use jiff::Timestamp;
use serde::Deserialize;

use super::rekor::Version;
use crate::evidence::strict;

/// Media type of what is read.
pub const SIGNING_CONFIG: &str = "application/vnd.dev.sigstore.signingconfig.v0.2+json";
/// Longest configuration, in bytes.
pub const MAX_CONFIG: usize = 256 * 1024;
/// Most services of one kind.
pub const MAX_SERVICES: usize = 64;
/// Generations that are spoken here: of certificate authorities, issuers and timestamp authorities, and of logs.
const KNOWN: &[u32] = &[1];
const KNOWN_LOGS: &[u32] = &[1, 2];

/// A configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not a configuration.
    #[error("no signing configuration: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// None of a kind can be used now.
    #[error("no {kind} of the signing configuration can be used at {at}: {reason}")]
    None {
        /// What is missing.
        kind: &'static str,
        /// When.
        at: Timestamp,
        /// Why none.
        reason: String,
    },
    /// Fewer than are demanded.
    #[error("the signing configuration demands {wanted} {kind}, and {found} can be used")]
    TooFew {
        /// Of what.
        kind: &'static str,
        /// How many.
        wanted: u32,
        /// How many there are.
        found: usize,
    },
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Where it is.
    pub url: String,
    /// Its generation.
    pub generation: u32,
    /// Who runs it.
    pub operator: String,
    start: Timestamp,
    end: Option<Timestamp>,
}

/// How many of a kind are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selector {
    All,
    Any,
    Exact(u32),
}

/// A configuration as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningConfig {
    authorities: Vec<Service>,
    issuers: Vec<Service>,
    logs: (Vec<Service>, Option<Selector>),
    timestamps: (Vec<Service>, Option<Selector>),
}

/// What is used of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// The certificate authority.
    pub authority: Option<String>,
    /// The issuer for interactive login.
    pub issuer: Option<String>,
    /// Logs, each with its generation.
    pub logs: Vec<(String, Version)>,
    /// Timestamp authorities.
    pub timestamps: Vec<String>,
}

macro_rules! message {
    ($name:ident { $($member:ident / $snake:literal : $type:ty),* $(,)? }) => {
        #[derive(Deserialize, Default)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct $name { $(#[serde(alias = $snake, default)] $member: Option<$type>),* }
    };
}

message!(Document {
    media_type / "media_type": String,
    ca_urls / "ca_urls": Vec<Entry>,
    oidc_urls / "oidc_urls": Vec<Entry>,
    rekor_tlog_urls / "rekor_tlog_urls": Vec<Entry>,
    rekor_tlog_config / "rekor_tlog_config": Choice,
    tsa_urls / "tsa_urls": Vec<Entry>,
    tsa_config / "tsa_config": Choice,
});
message!(Entry {
    url / "url": String,
    major_api_version / "major_api_version": u32,
    valid_for / "valid_for": Window,
    operator / "operator": String,
});
message!(Window { start / "start": Timestamp, end / "end": Timestamp });
message!(Choice { selector / "selector": String, count / "count": u32 });

fn malformed(reason: impl Into<String>) -> ConfigError {
    ConfigError::Malformed { reason: reason.into() }
}

impl SigningConfig {
    /// Reads a configuration strictly: members that are not known, and members twice, are refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > MAX_CONFIG {
            return Err(malformed(format!("{} bytes, of at most {MAX_CONFIG}", bytes.len())));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
        strict::document(text).map_err(|error| malformed(error.to_string()))?;
        let document: Document = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        let media_type = document.media_type.unwrap_or_default();
        if media_type != SIGNING_CONFIG {
            return Err(malformed(format!("media type {}, not `{SIGNING_CONFIG}`", strict::shown(&media_type))));
        }
        Ok(Self {
            authorities: services(document.ca_urls)?,
            issuers: services(document.oidc_urls)?,
            logs: (services(document.rekor_tlog_urls)?, selector(document.rekor_tlog_config)?),
            timestamps: (services(document.tsa_urls)?, selector(document.tsa_config)?),
        })
    }

    /// The services that are used at `now`. `log` demands a generation of logs. An empty configuration gives none: then
    /// only keys sign, and nobody is asked.
    pub fn choose(&self, now: Timestamp, log: Option<Version>) -> Result<Chosen, ConfigError> {
        let generations: Vec<u32> =
            log.map_or_else(|| KNOWN_LOGS.to_vec(), |version| vec![u32::from(version.number())]);
        let one = |all: &[Service], kind| -> Result<Option<String>, ConfigError> {
            let chosen = select(all, Some(Selector::Any), KNOWN, now, kind)?;
            Ok(chosen.first().map(|service| service.url.clone()))
        };
        let logs = select(&self.logs.0, self.logs.1, &generations, now, "log")?;
        let logs = logs.into_iter().map(|service| {
            let version = if service.generation == 2 { Version::Two } else { Version::One };
            (service.url.clone(), version)
        });
        let timestamps = select(&self.timestamps.0, self.timestamps.1, KNOWN, now, "timestamp authority")?;
        Ok(Chosen {
            authority: one(&self.authorities, "certificate authority")?,
            issuer: one(&self.issuers, "issuer")?,
            logs: logs.collect(),
            timestamps: timestamps.into_iter().map(|service| service.url.clone()).collect(),
        })
    }
}

fn services(entries: Option<Vec<Entry>>) -> Result<Vec<Service>, ConfigError> {
    let entries = entries.unwrap_or_default();
    if entries.len() > MAX_SERVICES {
        return Err(malformed(format!("{} services of one kind, of at most {MAX_SERVICES}", entries.len())));
    }
    entries
        .into_iter()
        .map(|entry| {
            let url = entry.url.filter(|url| !url.is_empty()).ok_or_else(|| malformed("a service without `url`"))?;
            let window = entry.valid_for.unwrap_or_default();
            let start = window.start.ok_or_else(|| malformed(format!("{url}: `validFor.start` is missing")))?;
            Ok(Service {
                generation: entry.major_api_version.unwrap_or_default(),
                operator: entry.operator.unwrap_or_default(),
                url: url.trim_end_matches('/').to_owned(),
                start,
                end: window.end,
            })
        })
        .collect()
}

fn selector(choice: Option<Choice>) -> Result<Option<Selector>, ConfigError> {
    let choice = choice.unwrap_or_default();
    match choice.selector.as_deref() {
        None | Some("SERVICE_SELECTOR_UNDEFINED") => Ok(None),
        Some("ALL") => Ok(Some(Selector::All)),
        Some("ANY") => Ok(Some(Selector::Any)),
        Some("EXACT") => match choice.count {
            Some(count) if count > 0 => Ok(Some(Selector::Exact(count))),
            _ => Err(malformed("`EXACT` without `count`")),
        },
        Some(other) => Err(malformed(format!("selector {}", strict::shown(other)))),
    }
}

fn select<'a>(
    all: &'a [Service],
    selector: Option<Selector>,
    generations: &[u32],
    now: Timestamp,
    kind: &'static str,
) -> Result<Vec<&'a Service>, ConfigError> {
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let none = |reason: String| ConfigError::None { kind, at: now, reason };
    let selector =
        selector.ok_or_else(|| malformed(format!("it has services of the kind `{kind}`, and no selector")))?;
    let mut current: Vec<&Service> =
        all.iter().filter(|one| one.start <= now && one.end.is_none_or(|end| now <= end)).collect();
    if current.is_empty() {
        return Err(none("the time of none is now; is this machine's clock right?".to_owned()));
    }
    let newest = current.iter().map(|one| one.generation).filter(|one| generations.contains(one)).max();
    let newest = newest.ok_or_else(|| {
        let there: Vec<_> = current.iter().map(|one| one.generation.to_string()).collect();
        let known: Vec<_> = generations.iter().map(ToString::to_string).collect();
        none(format!("they are of the generation {}, and {} is asked for", there.join(", "), known.join(", ")))
    })?;
    current.retain(|one| one.generation == newest);
    // Of each operator the one that began last.
    current.sort_by_key(|one| std::cmp::Reverse(one.start));
    let mut chosen: Vec<&Service> = Vec::new();
    for one in current {
        if !chosen.iter().any(|other| other.operator == one.operator) {
            chosen.push(one);
        }
    }
    match selector {
        Selector::All => {}
        Selector::Any => chosen.truncate(1),
        Selector::Exact(wanted) => {
            let count = usize::try_from(wanted).unwrap_or(usize::MAX);
            if chosen.len() < count {
                return Err(ConfigError::TooFew { kind, wanted, found: chosen.len() });
            }
            chosen.truncate(count);
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn service(url: &str, generation: u32, operator: &str, start: &str, end: Option<&str>) -> Value {
        let mut value = json!({"url": url, "majorApiVersion": generation, "operator": operator,
            "validFor": {"start": start}});
        if let Some(end) = end {
            value["validFor"]["end"] = end.into();
        }
        value
    }

    fn config(logs: &Value, choice: &Value) -> SigningConfig {
        let text = json!({"mediaType": SIGNING_CONFIG, "rekorTlogUrls": logs, "rekorTlogConfig": choice});
        SigningConfig::parse(text.to_string().as_bytes()).expect("a configuration")
    }

    const NOW: &str = "2026-06-01T00:00:00Z";

    #[test]
    fn recorded_configurations() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/cosign/trust/");
        let chosen = |name: &str, log| {
            let bytes = std::fs::read(format!("{folder}signing_config_{name}.json")).expect("a configuration");
            SigningConfig::parse(&bytes).expect("a configuration").choose(at(NOW), log)
        };
        assert_eq!(chosen("none", None), Ok(Chosen::default()));
        let two = chosen("rekor2", None).expect("services");
        assert_eq!(two.authority.as_deref(), Some("http://127.0.0.1:5555"));
        assert_eq!(two.logs, [("http://localhost:3003".to_owned(), Version::Two)]);
        assert_eq!(two.timestamps, ["http://127.0.0.1:3200/api/v1/timestamp"]);
        assert!(matches!(chosen("rekor2", Some(Version::One)), Err(ConfigError::None { .. })));
        assert_eq!(chosen("rekor1", None).expect("services").logs[0].1, Version::One);
        assert!(chosen("tsaonly", None).expect("services").logs.is_empty());
    }

    #[test]
    fn the_newest_known_generation_whose_time_it_is_one_of_each_operator() {
        let logs = json!([
            service("https://old.example", 1, "a", "2020-01-01T00:00:00Z", None),
            service("https://a1.example", 2, "a", "2025-01-01T00:00:00Z", None),
            service("https://a2.example/", 2, "a", "2026-01-01T00:00:00Z", Some("2026-12-01T00:00:00Z")),
            service("https://b.example", 2, "b", "2025-06-01T00:00:00Z", None),
            service("https://later.example", 2, "c", "2027-01-01T00:00:00Z", None),
            service("https://over.example", 2, "d", "2020-01-01T00:00:00Z", Some("2021-01-01T00:00:00Z")),
            service("https://unknown.example", 3, "e", "2020-01-01T00:00:00Z", None),
        ]);
        let urls = |choice: Value, log, now: &str| {
            config(&logs, &choice)
                .choose(at(now), log)
                .map(|chosen| chosen.logs.into_iter().map(|(url, _)| url).collect::<Vec<_>>())
        };
        assert_eq!(
            urls(json!({"selector": "ALL"}), None, NOW).expect("services"),
            ["https://a2.example", "https://b.example"]
        );
        assert_eq!(urls(json!({"selector": "ANY"}), None, NOW).expect("services"), ["https://a2.example"]);
        assert_eq!(urls(json!({"selector": "EXACT", "count": 2}), None, NOW).expect("services").len(), 2);
        assert!(matches!(
            urls(json!({"selector": "EXACT", "count": 3}), None, NOW),
            Err(ConfigError::TooFew { wanted: 3, found: 2, .. })
        ));
        assert_eq!(
            urls(json!({"selector": "ANY"}), Some(Version::One), NOW).expect("services"),
            ["https://old.example"]
        );
        assert_eq!(
            urls(json!({"selector": "ANY"}), None, "2024-01-01T00:00:00Z").expect("services"),
            ["https://old.example"]
        );
        assert!(matches!(
            urls(json!({"selector": "ANY"}), None, "2019-01-01T00:00:00Z"),
            Err(ConfigError::None { .. })
        ));
        assert!(matches!(urls(json!({}), None, NOW), Err(ConfigError::Malformed { .. })), "no selector");
    }

    #[test]
    fn other_documents_are_refused() {
        let good = json!({"mediaType": SIGNING_CONFIG}).to_string();
        SigningConfig::parse(good.as_bytes()).expect("an empty one");
        for bad in [
            String::new(),
            "[]".to_owned(),
            "{}".to_owned(),
            good.replace("v0.2", "v0.1"),
            good.replace('}', ",\"x\":1}"),
            good.replace('}', ",\"tsaUrls\":[{}]}"),
            good.replace('}', ",\"tsaUrls\":[{\"url\":\"https://a.example\"}]}"),
            good.replace('}', ",\"tsaConfig\":{\"selector\":\"SOME\"}}"),
            good.replace('}', ",\"tsaConfig\":{\"selector\":\"EXACT\"}}"),
            good.replace('}', ",\"tsaConfig\":{},\"tsaConfig\":{}}"),
        ] {
            assert!(SigningConfig::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let many = vec![service("https://a.example", 1, "a", NOW, None); MAX_SERVICES + 1];
        let text = json!({"mediaType": SIGNING_CONFIG, "caUrls": many}).to_string();
        assert!(SigningConfig::parse(text.as_bytes()).is_err());
    }
}
