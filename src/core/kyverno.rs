//! What Kyverno's `verifyImages` rules will look for beside an image, and whether it is there.
//!
//! Source: Kyverno 1.16 and 1.19 (`kyverno.io/v1` policies), sigstore-oci §13; predicted against recordings of the real
//! one. What cannot be judged here is said to be *not judged*: it is neither a yes nor a no.

mod bundles;
mod condition;
mod evidence;
mod judge;
mod members;
mod outcome;
mod policy;
mod roots;
mod rules;
mod who;

use std::fmt;
use std::str::FromStr;

pub use evidence::{Evidence, MAX_BUNDLE_LAYER, MAX_REFERRERS, WARN_REFERRERS};
pub use judge::{Beside, check};
pub use outcome::{Answer, Asked, Outcome};
pub use policy::{Kind, Policy, PolicyError, Rule, VerifyImages};

/// A release of Kyverno.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// The newest one that is known.
    pub const NEWEST: Self = Self { major: 1, minor: 19 };
    /// The first in which rules of the type `SigstoreBundle` take keys.
    const BUNDLE_KEYS: Self = Self { major: 1, minor: 19 };
    /// The first that passes over a timestamp where the rule names no authority, instead of refusing the signature.
    const NO_AUTHORITY_NEEDED: Self = Self { major: 1, minor: 17 };
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.trim_start_matches('v').split('.');
        let mut number = || parts.next()?.parse::<u32>().ok();
        match (number(), number()) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err("a release of Kyverno, such as 1.16".to_owned()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Whether a text is what a pattern with `*` (anything) and `?` (any letter) means.
pub(crate) fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(c) if *c == '?' || *c == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                // The star takes one letter more.
                Some((place, from)) => {
                    at = place + 1;
                    seen = from + 1;
                    star = Some((place, seen));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_kyvernos() {
        for (pattern, text, is) in [
            ("*", "", true),
            ("127.0.0.1*", "127.0.0.1:5001/vec/app:v1", true),
            ("registry.company.com/*", "registry.company.com/team/app:v1", true),
            ("registry.company.com/*", "registry.company.com.evil/app", false),
            ("*/app:v?", "a/b/app:v1", true),
            ("*/app:v?", "a/b/app:v10", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
        ] {
            assert_eq!(is_like(pattern, text), is, "{pattern} {text}");
        }
        let long = "a".repeat(10_000);
        assert!(!is_like(&format!("{}b", "a*".repeat(100)), &long));
    }

    #[test]
    fn releases() {
        let of = |text: &str| text.parse::<Version>();
        assert!(of("1.16.1") < of("v1.19") && of("1.16") == of("1.16.9"));
        assert!(of("x").is_err() && of("1").is_err());
    }
}
