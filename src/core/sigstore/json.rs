//! Protobuf's JSON form, as Sigstore's documents are written: members in two spellings, bytes in base64, 64-bit numbers as
//! texts, defaults left out.
//!
//! Source: protobuf, "`ProtoJSON` Format"; sigstore-oci §4.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Bytes in base64, standard or for URLs, as protobuf's JSON form allows; with or without padding.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let plain = text.trim_end_matches('=');
        if text.len() - plain.len() > 2 {
            return Err(serde::de::Error::custom("bytes that are no base64"));
        }
        let engine = if plain.contains(['-', '_']) { &URL_SAFE_NO_PAD } else { &STANDARD_NO_PAD };
        engine.decode(plain).map(Self).map_err(|_| serde::de::Error::custom("bytes that are no base64"))
    }
}

/// A 64-bit number: protobuf's JSON form writes a text, and reads both.
#[derive(Clone, Copy, Default)]
pub(crate) struct Whole(pub(crate) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a 64-bit number")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                i64::try_from(number).map(Whole).map_err(|_| E::custom("a number that is none"))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Whole, E> {
                whole(text).map(Whole).ok_or_else(|| E::custom("a number that is none"))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A number without sign for nothing, and without zeros in front.
fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain && (digits.len() == 1 || !digits.starts_with('0')) { text.parse().ok() } else { None }
}

/// A time as RFC 3339 writes it, and nothing else that a reader of times might take.
pub(crate) struct Time(pub(crate) Timestamp);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        rfc3339(&text).map(Self).ok_or_else(|| serde::de::Error::custom("a time that is not written as RFC 3339 says"))
    }
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    let fits = |text: &str, form: &str| {
        text.len() == form.len()
            && text.bytes().zip(form.bytes()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                form => byte == form,
            })
    };
    let seconds = text.get(..19).filter(|seconds| fits(seconds, "0000-00-00T00:00:00"))?;
    let rest = &text[seconds.len()..];
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 || digits > 9 {
                return None;
            }
            &fraction[digits..]
        }
        None => rest,
    };
    let is_zone = zone == "Z" || fits(zone, "+00:00") || fits(zone, "-00:00");
    if is_zone { text.parse().ok() } else { None }
}

/// Bytes in the base64 that is written: standard, padded.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A message of protobuf: every member may be left out or `null`; one that is not known is refused.
macro_rules! message {
    ($(#[$meta:meta])* $name:ident { $($(#[$field:meta])* $member:ident / $snake:literal : $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        pub(crate) struct $name { $($(#[$field])* #[serde(alias = $snake, default)] pub(crate) $member: Option<$type>),* }
    };
}

pub(crate) use message;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_have_one_form() {
        for (text, value) in [("0", Some(0)), ("7", Some(7)), ("-7", Some(-7)), ("9223372036854775807", Some(i64::MAX))]
        {
            assert_eq!(whole(text), value, "{text}");
        }
        for text in ["", "-", "+7", "07", " 7", "7 ", "7.0", "1e3", "9223372036854775808", "٧"] {
            assert_eq!(whole(text), None, "{text}");
        }
        for text in ["2021-03-07T03:20:29Z", "2021-03-07T03:20:29.000Z", "2021-03-07T04:20:29.123456789+01:00"] {
            assert!(rfc3339(text).is_some(), "{text}");
        }
        for text in [
            "",
            "2021-03-07",
            "2021-03-07 03:20:29Z",
            "2021-03-07t03:20:29Z",
            "2021-03-07T03:20:29z",
            "2021-03-07T03:20:29",
            "2021-03-07T03:20:29.Z",
            "2021-03-07T03:20:29.0123456789Z",
            "2021-13-07T03:20:29Z",
            "2021-03-07T03:20:29+0100",
            "2021-03-07T03:20:29Z[UTC]",
            "+002021-03-07T03:20:29Z",
            "é021-03-07T03:20:29Z",
        ] {
            assert!(rfc3339(text).is_none(), "{text}");
        }
    }
}
