//! What a policy wants of a signer's certificate: `certConstraint`.
//!
//! Source: wire-formats §5.2 and §5.3. Where witness and cilock differ, the answer is no:
//!
//! | | here |
//! |---|---|
//! | `*` anywhere in a list, or as common name | any value, any number of values, also none |
//! | empty, missing, `""`, `[""]` | the certificate must have none of that kind |
//! | plain values | exactly these, each as often, letters as they are (cilock folds the case of common names) |
//! | values with `*`, `?`, `[` or `{` | globs (cilock; plain text to witness), each for exactly one value that no plain one takes |
//! | extensions | each must be there and match; an empty one is an error (witness passes it over); globs only where there are such characters (witness: always) |
//! | names of other kinds (IP addresses, user's names …) | refused, unless `*` allows any DNS name, e-mail address and URI (the peers do not see them) |
//! | certificates of Fulcio, which say the issuer of an identity | exactly one name, a URI, e-mail address or user's name, as it stands |
//! | nothing but roots | refused: any certificate of the root would pass |

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::certificate::Certificate;
use super::fulcio::{EXTENSIONS, has_incomparable};
use super::proof::SignerProof;
use crate::dsse::fold;
use crate::select::{Glob, GlobError};

/// Most values in one list.
pub const MAX_VALUES: usize = 1024;
/// Any value.
const ANY: &str = "*";

/// What a certificate must say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Constraint {
    #[serde(rename = "commonname", serialize_with = "single")]
    common_name: Values,
    #[serde(rename = "dnsnames")]
    dns_names: Values,
    emails: Values,
    organizations: Values,
    uris: Values,
    roots: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "singles")]
    extensions: BTreeMap<&'static str, Values>,
    #[serde(rename = "requiredpolicyoids", skip_serializing_if = "Vec::is_empty")]
    required_policies: Vec<String>,
}

/// A `certConstraint` that cannot be read. `member` is its path below the constraint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// A member has another JSON type.
    #[error("`{member}` is not {expected}")]
    Type {
        /// Which.
        member: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A member stands twice, spelled alike or with other letters, and readers differ in which they take.
    #[error("`{member}` stands twice")]
    Duplicate {
        /// Which, as it is spelled the second time.
        member: String,
    },
    /// A list is longer than [`MAX_VALUES`].
    #[error("`{member}` has more than {MAX_VALUES} values")]
    TooMany {
        /// Which.
        member: String,
    },
    /// A value has characters that no name has.
    #[error("`{member}` has a value with control characters")]
    ControlCharacters {
        /// Which.
        member: String,
    },
    /// A demand on an extension that says nothing.
    #[error("`{member}` is empty, and would demand nothing; `*` stands for any value")]
    Empty {
        /// Which.
        member: String,
    },
    /// A value is no glob, although it has the characters of one.
    #[error("`{member}`: {reason}")]
    Glob {
        /// Which.
        member: String,
        /// What is wrong with it.
        #[source]
        reason: GlobError,
    },
}

/// A demand that a certificate does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The member of the constraint, like `emails` or `extensions.Issuer`.
    pub field: String,
    /// What the policy demands.
    pub expected: String,
    /// What the certificate has.
    pub actual: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.field, self.expected, self.actual)
    }
}

/// A demand on the values of one kind.
#[derive(Clone, Debug, Default)]
struct Values {
    any: bool,
    plain: Vec<String>,
    globs: Vec<Glob>,
    /// As the policy has them.
    written: Vec<String>,
}

impl Constraint {
    /// Reads the JSON form. Names of members are taken as Go takes them, in any case; the second value lists the paths of
    /// members that are not known, for the caller to refuse or to report.
    pub fn read(value: &Value) -> Result<(Self, Vec<String>), ConstraintError> {
        let members = value
            .as_object()
            .ok_or_else(|| ConstraintError::Type { member: "certConstraint".to_owned(), expected: "an object" })?;
        let mut constraint = Self::default();
        let mut unknown = Vec::new();
        let mut seen = Vec::new();
        for (name, value) in members {
            let folded = fold(name);
            if seen.contains(&folded) {
                return Err(ConstraintError::Duplicate { member: name.clone() });
            }
            match folded.as_str() {
                "commonname" => constraint.common_name = Values::read(name, vec![text(name, value)?])?,
                "dnsnames" => constraint.dns_names = Values::read(name, texts(name, value)?)?,
                "emails" => constraint.emails = Values::read(name, texts(name, value)?)?,
                "organizations" => constraint.organizations = Values::read(name, texts(name, value)?)?,
                "uris" => constraint.uris = Values::read(name, texts(name, value)?)?,
                "roots" => constraint.roots = texts(name, value)?,
                "extensions" => constraint.extensions = extensions(name, value, &mut unknown)?,
                "requiredpolicyoids" => constraint.required_policies = texts(name, value)?,
                _ => unknown.push(name.clone()),
            }
            seen.push(folded);
        }
        Ok((constraint, unknown))
    }

    /// The ids of the roots of which the certificate must lead to one; `*` stands for all of the policy.
    pub fn roots(&self) -> &[String] {
        &self.roots
    }

    /// Whether it names nobody: it has roots at the most. [`Constraint::check`] refuses everybody then.
    pub fn is_vacuous(&self) -> bool {
        let lists = [&self.common_name, &self.dns_names, &self.emails, &self.organizations, &self.uris];
        lists.into_iter().all(Values::is_empty)
            && self.extensions.values().all(Values::is_empty)
            && self.required_policies.is_empty()
    }

    /// Whether it says who must have identified the signer; `*` says so on purpose.
    pub fn names_issuer(&self) -> bool {
        self.extensions.contains_key("Issuer")
    }

    /// Checks the certificate of a signer.
    ///
    /// # Errors
    /// Every demand that is not met.
    pub fn check(&self, signer: &SignerProof) -> Result<(), Vec<Mismatch>> {
        let mut mismatches = Vec::new();
        let mut fail = |field: &str, expected: String, actual: String| {
            mismatches.push(Mismatch { field: field.to_owned(), expected, actual });
        };
        let Some(certificate) = signer.certificate() else {
            fail("certConstraint", "a certificate".to_owned(), "a signature by a key".to_owned());
            return Err(mismatches);
        };
        if self.is_vacuous() {
            let expected = "a constraint that names somebody (`*` allows anybody on purpose)";
            fail("certConstraint", expected.to_owned(), "an empty one".to_owned());
        }
        if self.roots.is_empty() {
            fail("roots", "at least one root in the constraint".to_owned(), "none".to_owned());
        } else if !self.roots.iter().any(|root| root == ANY || signer.roots().contains(root)) {
            fail("roots", quoted(&self.roots), quoted(signer.roots()));
        }
        mismatches.extend(self.names(certificate));
        if mismatches.is_empty() { Ok(()) } else { Err(mismatches) }
    }

    /// Whether a certificate has the names that are demanded, whoever issued it: what nobody has proven yet and can
    /// be looked at before anything that costs more.
    pub(crate) fn may_be(&self, certificate: &Certificate) -> bool {
        !self.is_vacuous() && self.names(certificate).is_empty()
    }

    /// What of the certificate's own names and claims is not as demanded.
    fn names(&self, certificate: &Certificate) -> Vec<Mismatch> {
        let mut mismatches = Vec::new();
        let mut fail = |field: &str, expected: String, actual: String| {
            mismatches.push(Mismatch { field: field.to_owned(), expected, actual });
        };
        for (field, demand, found) in [
            ("commonname", &self.common_name, certificate.common_names()),
            ("dnsnames", &self.dns_names, certificate.dns_names()),
            ("emails", &self.emails, certificate.emails()),
            ("organizations", &self.organizations, certificate.organizations()),
            ("uris", &self.uris, certificate.uris()),
        ] {
            if !demand.take_exactly(found) {
                fail(field, demand.shown(), quoted(found));
            }
        }
        // Policies for Fulcio name one signer, and what is compared must be all that the certificate says of it.
        if certificate.extension("Issuer").is_some()
            && let Err(found) = certificate.signer_name()
        {
            fail("names", "exactly one name, a URI, e-mail address or user's name".to_owned(), found);
        }
        let any_name = [&self.dns_names, &self.emails, &self.uris].into_iter().all(|list| list.any);
        if has_incomparable(certificate.alternative_names()) && !any_name {
            let expected = "no name but DNS names, e-mail addresses and URIs (`*` for each of them allows others)";
            fail("names", expected.to_owned(), "a name of another kind".to_owned());
        }
        for (name, demand) in &self.extensions {
            let found = certificate.extension(name);
            if !found.is_some_and(|found| demand.takes(found)) {
                let actual = found.map_or_else(|| "no such extension".to_owned(), |found| quoted(&[found]));
                fail(&format!("extensions.{name}"), demand.shown(), actual);
            }
        }
        let has_policies = certificate.policy_oids();
        if !self.required_policies.iter().all(|oid| has_policies.contains(oid)) {
            fail("requiredpolicyoids", format!("all of {}", quoted(&self.required_policies)), quoted(has_policies));
        }
        mismatches
    }
}

impl Values {
    fn read(member: &str, written: Vec<String>) -> Result<Self, ConstraintError> {
        let mut values = Self::default();
        for value in written.iter().filter(|value| !value.is_empty()) {
            if value.chars().any(char::is_control) {
                return Err(ConstraintError::ControlCharacters { member: member.to_owned() });
            }
            if value == ANY {
                values.any = true;
            } else if value.contains(['*', '?', '[', '{']) {
                let glob =
                    Glob::new(value).map_err(|reason| ConstraintError::Glob { member: member.to_owned(), reason })?;
                values.globs.push(glob);
            } else {
                values.plain.push(value.clone());
            }
        }
        values.plain.sort_unstable();
        values.written = written;
        Ok(values)
    }

    fn is_empty(&self) -> bool {
        !self.any && self.plain.is_empty() && self.globs.is_empty()
    }

    /// Whether a single value is the one that is demanded.
    fn takes(&self, found: &str) -> bool {
        self.any || self.plain.iter().any(|plain| plain == found) || self.globs.iter().any(|glob| glob.matches(found))
    }

    /// Whether plain values and globs on one side and `found` on the other can be paired without a rest.
    fn take_exactly(&self, found: &[String]) -> bool {
        if self.any {
            return true;
        }
        let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
        for plain in &self.plain {
            *missing.entry(plain).or_default() += 1;
        }
        let mut rest = Vec::new();
        // A certificate's empty name is nobody's, as with both peers.
        for value in found.iter().filter(|value| !value.is_empty()) {
            match missing.get_mut(value.as_str()) {
                Some(count) if *count > 0 => *count -= 1,
                _ => rest.push(value.as_str()),
            }
        }
        missing.values().all(|count| *count == 0) && rest.len() == self.globs.len() && pair(&self.globs, &rest)
    }

    fn shown(&self) -> String {
        if self.is_empty() { "none".to_owned() } else { quoted(&self.written) }
    }
}

/// Whether each glob can have one of `values` of its own; both have the same number, at most
/// [`super::MAX_NAMES`]. A first come, first served choice would miss pairings.
fn pair(globs: &[Glob], values: &[&str]) -> bool {
    let fits: Vec<Vec<usize>> =
        globs.iter().map(|glob| (0..values.len()).filter(|value| glob.matches(values[*value])).collect()).collect();
    let mut holders = vec![None; values.len()];
    (0..globs.len()).all(|glob| place(glob, &fits, &mut holders, &mut vec![false; values.len()]))
}

/// Gives `glob` a value, moving others to another one where they have a choice (Kuhn's algorithm).
fn place(glob: usize, fits: &[Vec<usize>], holders: &mut [Option<usize>], asked: &mut [bool]) -> bool {
    for &value in &fits[glob] {
        if std::mem::replace(&mut asked[value], true) {
            continue;
        }
        let free = match holders[value] {
            Some(other) => place(other, fits, holders, asked),
            None => true,
        };
        if free {
            holders[value] = Some(glob);
            return true;
        }
    }
    false
}

fn quoted(values: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 8;
    if values.is_empty() {
        return "none".to_owned();
    }
    let mut parts: Vec<String> =
        values.iter().take(SHOWN).map(|value| format!("`{}`", value.as_ref().escape_debug())).collect();
    if values.len() > SHOWN {
        parts.push(format!("and {} more", values.len() - SHOWN));
    }
    parts.join(", ")
}

fn text(member: &str, value: &Value) -> Result<String, ConstraintError> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        _ => Err(ConstraintError::Type { member: member.to_owned(), expected: "a text" }),
    }
}

fn texts(member: &str, value: &Value) -> Result<Vec<String>, ConstraintError> {
    let list = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        _ => return Err(ConstraintError::Type { member: member.to_owned(), expected: "a list of texts" }),
    };
    if list.len() > MAX_VALUES {
        return Err(ConstraintError::TooMany { member: member.to_owned() });
    }
    list.iter().enumerate().map(|(index, value)| text(&format!("{member}[{index}]"), value)).collect()
}

fn extensions(
    member: &str,
    value: &Value,
    unknown: &mut Vec<String>,
) -> Result<BTreeMap<&'static str, Values>, ConstraintError> {
    let members = match value {
        Value::Null => return Ok(BTreeMap::new()),
        Value::Object(members) => members,
        _ => return Err(ConstraintError::Type { member: member.to_owned(), expected: "an object" }),
    };
    let mut found = BTreeMap::new();
    for (name, value) in members {
        let path = format!("{member}.{name}");
        let Some((known, _)) = EXTENSIONS.iter().find(|(known, _)| fold(known) == fold(name)) else {
            unknown.push(path);
            continue;
        };
        if found.contains_key(known) {
            return Err(ConstraintError::Duplicate { member: path });
        }
        let written = text(&path, value)?;
        if written.is_empty() {
            return Err(ConstraintError::Empty { member: path });
        }
        found.insert(*known, Values::read(&path, vec![written])?);
    }
    Ok(found)
}

impl Serialize for Values {
    /// As the policy has them.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written.serialize(serializer)
    }
}

/// The one value of a kind that has no list.
fn single<S: Serializer>(values: &Values, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(values.written.first().map_or("", String::as_str))
}

fn singles<S: Serializer>(map: &BTreeMap<&'static str, Values>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.iter().map(|(name, values)| (name, values.written.first().map_or("", String::as_str))))
}
