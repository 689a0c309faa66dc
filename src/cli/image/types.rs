//! `--type`: short names of predicate types, and what a predicate must be (sigstore-oci §6).

use affiant_core::image::claim::SIGN;
use serde_json::value::RawValue;

use crate::cli::failure::{Failure, nearest};

/// What is written into the statement of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// The file, a JSON object.
    Object,
    /// An object with the file as a text, and the time.
    Custom,
    /// The file as a text.
    Text,
}

/// A short name, the type that is written, and further types that it also means when it is looked for.
struct Alias {
    name: &'static str,
    written: &'static str,
    also: &'static [&'static str],
    taken: Taken,
}

const fn alias(name: &'static str, written: &'static str) -> Alias {
    Alias { name, written, also: &[], taken: Taken::Object }
}

const SPDX: &[&str] =
    &["https://spdx.dev/Document/v2.2", "https://spdx.dev/Document/v2.3", "https://spdx.dev/Document/v3"];
const CYCLONEDX: &[&str] = &[
    "https://cyclonedx.org/bom/v1.4",
    "https://cyclonedx.org/bom/v1.5",
    "https://cyclonedx.org/bom/v1.6",
    "https://cyclonedx.org/bom/v1.7",
];

const ALIASES: [Alias; 10] = [
    Alias { taken: Taken::Custom, ..alias("custom", "https://cosign.sigstore.dev/attestation/v1") },
    alias("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
    alias("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    alias("slsaprovenance1", "https://slsa.dev/provenance/v1"),
    alias("link", "https://in-toto.io/Link/v1"),
    Alias { taken: Taken::Text, also: SPDX, ..alias("spdx", "https://spdx.dev/Document") },
    Alias { also: SPDX, ..alias("spdxjson", "https://spdx.dev/Document") },
    Alias { also: CYCLONEDX, ..alias("cyclonedx", "https://cyclonedx.org/bom") },
    alias("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
    alias("openvex", "https://openvex.dev/ns"),
];

/// A type that was named.
pub(super) struct Named {
    pub(super) written: String,
    also: &'static [&'static str],
    taken: Taken,
}

impl Named {
    /// Reads a short name or a URI.
    pub(super) fn read(name: &str) -> Result<Self, Failure> {
        if let Some(alias) = ALIASES.iter().find(|alias| alias.name == name) {
            return Ok(Self { written: alias.written.to_owned(), also: alias.also, taken: alias.taken });
        }
        let is_uri = name.split_once(':').is_some_and(|(scheme, rest)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
                && !rest.is_empty()
        });
        if name == SIGN {
            return Err(Failure::usage(format!(
                "--type {SIGN}: that is a signature; `image sign` makes one, `image verify` checks it"
            )));
        }
        if !is_uri || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let known: Vec<&str> = ALIASES.iter().map(|alias| alias.name).collect();
            let failure = Failure::usage(format!("--type {name}: neither a URI nor one of {}", known.join(", ")));
            return Err(match nearest(name, known.iter().copied()) {
                Some(nearest) => failure.hint(format!("did you mean `{nearest}`?")),
                None => failure,
            });
        }
        Ok(Self { written: name.to_owned(), also: &[], taken: Taken::Object })
    }

    /// Whether its predicate is a text: in a bundle readers want a JSON object (sigstore-oci §6).
    pub(super) fn is_text(&self) -> bool {
        self.taken == Taken::Text
    }

    /// Whether a signed type is the one that is looked for.
    pub(super) fn is(&self, predicate_type: &str) -> bool {
        self.written == predicate_type || self.also.contains(&predicate_type)
    }

    /// The predicate that a file becomes.
    pub(super) fn predicate(&self, file: &str, bytes: &[u8], now: &str) -> Result<Box<RawValue>, Failure> {
        let text = std::str::from_utf8(bytes).map_err(|_| Failure::usage(format!("{file} is no text in UTF-8")))?;
        let json = match self.taken {
            Taken::Custom => serde_json::json!({ "Data": text, "Timestamp": now }).to_string(),
            Taken::Text => serde_json::Value::from(text).to_string(),
            Taken::Object => {
                affiant_core::image::claim::predicate(text).map_err(|error| {
                    Failure::because(crate::cli::failure::Kind::Usage, format!("{file} is no predicate"), &error)
                })?;
                let has_type =
                    || serde_json::from_str::<serde_json::Value>(text).is_ok_and(|link| link["_type"].is_string());
                if self.written == "https://in-toto.io/Link/v1" && !has_type() {
                    return Err(Failure::usage(format!("{file} is no link: it has no `_type`")));
                }
                text.trim().to_owned()
            }
        };
        RawValue::from_string(json).map_err(|error| Failure::usage(format!("{file} is no JSON: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_sets_of_types() {
        let of = |name: &str| Named::read(name).map_err(|failure| failure.one_line());
        assert_eq!(of("cyclonedx").expect("known").written, "https://cyclonedx.org/bom");
        assert!(of("cyclonedx").expect("known").is("https://cyclonedx.org/bom/v1.6"));
        assert!(!of("cyclonedx").expect("known").is("https://cyclonedx.org/bombs"));
        assert!(of("spdxjson").expect("known").is("https://spdx.dev/Document/v2.3"));
        let uri = of("https://cyclonedx.org/bom").expect("a URI");
        assert!(uri.is("https://cyclonedx.org/bom") && !uri.is("https://cyclonedx.org/bom/v1.6"), "a URI means itself");
        assert!(of("urn:x:y").is_ok());
        for bad in ["", "cyclondx", "https:", ":x", "1:x", "a b:c", SIGN] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn predicates_are_what_their_type_wants() {
        let of = |name: &str, text: &str| {
            let named = Named::read(name).unwrap_or_else(|failure| panic!("{failure}"));
            named.predicate("f", text.as_bytes(), "2026-01-01T00:00:00Z").map(|raw| raw.get().to_owned()).ok()
        };
        assert_eq!(of("custom", "a\n").as_deref(), Some(r#"{"Data":"a\n","Timestamp":"2026-01-01T00:00:00Z"}"#));
        assert_eq!(of("spdx", "a\n").as_deref(), Some(r#""a\n""#));
        assert_eq!(of("spdxjson", " {\"n\": 9007199254740993}\n").as_deref(), Some("{\"n\": 9007199254740993}"));
        assert_eq!(of("https://a.example/b", "[]"), None);
        assert_eq!(of("https://a.example/b", "{\"a\":1,\"a\":2}"), None);
        assert_eq!(of("https://a.example/b", "{} x"), None);
        assert_eq!(of("link", "{}"), None);
        assert_eq!(of("link", r#"{"a": {"_type": "link"}}"#), None);
        assert!(of("link", r#"{"_type": "link"}"#).is_some());
    }
}
