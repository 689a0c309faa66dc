//! Times. The only time zone is UTC: others are not in the binary, and the machine's own is nobody's business.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use regorus::Value;

use super::{Fault, fault, integer, interpreters};

/// Go's names of layouts.
const LAYOUTS: &[(&str, &str)] = &[
    ("ANSIC", "Mon Jan _2 15:04:05 2006"),
    ("UnixDate", "Mon Jan _2 15:04:05 MST 2006"),
    ("RubyDate", "Mon Jan 02 15:04:05 -0700 2006"),
    ("RFC822", "02 Jan 06 15:04 MST"),
    ("RFC822Z", "02 Jan 06 15:04 -0700"),
    ("RFC850", "Monday, 02-Jan-06 15:04:05 MST"),
    ("RFC1123", "Mon, 02 Jan 2006 15:04:05 MST"),
    ("RFC1123Z", "Mon, 02 Jan 2006 15:04:05 -0700"),
    ("RFC3339", "2006-01-02T15:04:05Z07:00"),
    ("RFC3339Nano", "2006-01-02T15:04:05.999999999Z07:00"),
];
const RFC3339_NANO: &str = "2006-01-02T15:04:05.999999999Z07:00";

/// A time: nanoseconds, or `[nanoseconds, zone]`, or `[nanoseconds, zone, layout]`.
fn checked<'a>(function: &str, time: &'a Value) -> Result<(&'a Value, Option<&'a str>), Fault> {
    let Value::Array(parts) = time else { return Ok((time, None)) };
    let (Some(nanoseconds), Some(Ok(zone))) = (parts.first(), parts.get(1).map(Value::as_string)) else {
        return fault(format!("{function}: a time is nanoseconds, or an array of these and a time zone"));
    };
    if !matches!(zone.as_ref(), "" | "UTC") {
        return fault(format!("{function}: time zone {zone}: only UTC is known here"));
    }
    let layout = parts.get(2).and_then(|layout| layout.as_string().ok());
    Ok((nanoseconds, layout.map(AsRef::as_ref)))
}

fn plain(function: &str, name: &str, arguments: &[Value]) -> Result<Value, Fault> {
    for time in arguments {
        checked(function, time)?;
    }
    interpreters(name, arguments)
}

pub(super) fn clock(arguments: &[Value]) -> Result<Value, Fault> {
    plain("time.clock", "time.clock", arguments)
}

pub(super) fn date(arguments: &[Value]) -> Result<Value, Fault> {
    plain("time.date", "time.date", arguments)
}

pub(super) fn diff(arguments: &[Value]) -> Result<Value, Fault> {
    plain("time.diff", "time.diff", arguments)
}

pub(super) fn weekday(arguments: &[Value]) -> Result<Value, Fault> {
    plain("time.weekday", "time.weekday", arguments)
}

fn civil(function: &str, time: &Value) -> Result<(DateTime, Option<String>), Fault> {
    let (nanoseconds, layout) = checked(function, time)?;
    let nanoseconds = integer(function, std::slice::from_ref(nanoseconds), 0)?;
    let timestamp =
        Timestamp::from_nanosecond(i128::from(nanoseconds)).map_err(|error| Fault(format!("{function}: {error}")))?;
    Ok((timestamp.to_zoned(TimeZone::UTC).datetime(), layout.map(str::to_owned)))
}

/// Adds years, months and days, each as large as it is: the 31st of a shorter month is in the next one.
pub(super) fn add_date(arguments: &[Value]) -> Result<Value, Fault> {
    let function = "time.add_date";
    let Some(time) = arguments.first() else { return fault("time.add_date: operand 1 is missing") };
    let (start, _) = civil(function, time)?;
    let [years, months, days] = [1, 2, 3].map(|number| integer(function, arguments, number));
    let (years, months, days) = (years?, months?, days?);
    let out = || Fault(format!("{function}: time outside of valid range"));
    let months = months.checked_add(i64::from(start.month()) - 1).ok_or_else(out)?;
    let year = i64::from(start.year()).checked_add(years).and_then(|year| year.checked_add(months.div_euclid(12)));
    let year = year.and_then(|year| i16::try_from(year).ok()).ok_or_else(out)?;
    let month = i8::try_from(months.rem_euclid(12) + 1).map_err(|_| out())?;
    let days = days.checked_add(i64::from(start.day()) - 1).ok_or_else(out)?;
    let nanoseconds = Date::new(year, month, 1)
        .and_then(|first| first.checked_add(jiff::Span::new().try_days(days)?))
        .and_then(|date| date.to_datetime(start.time()).to_zoned(TimeZone::UTC))
        .map_err(|_| out())?
        .timestamp()
        .as_nanosecond();
    i64::try_from(nanoseconds).map(Value::from).map_err(|_| out())
}

pub(super) fn format(arguments: &[Value]) -> Result<Value, Fault> {
    let function = "time.format";
    let Some(time) = arguments.first() else { return fault("time.format: operand 1 is missing") };
    let (time, layout) = civil(function, time)?;
    let layout = layout.as_deref().unwrap_or(RFC3339_NANO);
    let layout = LAYOUTS.iter().find(|(name, _)| *name == layout).map_or(layout, |(_, layout)| layout);
    super::room(layout.len() as u64 * 8)?;
    Ok(Value::from(laid_out(time, layout)))
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A time in UTC by Go's example layout.
fn laid_out(time: DateTime, layout: &str) -> String {
    let day = DAYS[usize::try_from(time.weekday().to_sunday_zero_offset()).unwrap_or(0) % 7];
    let month = MONTHS[usize::try_from(time.month() - 1).unwrap_or(0) % 12];
    let twelve = if time.hour() % 12 == 0 { 12 } else { time.hour() % 12 };
    let (year, day_of_year) = (time.year(), time.day_of_year());
    let mut out = String::with_capacity(layout.len() + 16);
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        // Longer words first.
        let words: [(&str, String); 35] = [
            ("January", month.to_owned()),
            ("Jan", month.chars().take(3).collect()),
            ("Monday", day.to_owned()),
            ("Mon", day.chars().take(3).collect()),
            ("MST", "UTC".to_owned()),
            ("2006", format!("{year:04}")),
            ("002", format!("{day_of_year:03}")),
            ("01", format!("{:02}", time.month())),
            ("02", format!("{:02}", time.day())),
            ("03", format!("{twelve:02}")),
            ("04", format!("{:02}", time.minute())),
            ("05", format!("{:02}", time.second())),
            ("06", format!("{:02}", year.rem_euclid(100))),
            ("15", format!("{:02}", time.hour())),
            ("__2", format!("{day_of_year:3}")),
            ("_2006", format!("_{year:04}")),
            ("_2", format!("{:2}", time.day())),
            ("1", time.month().to_string()),
            ("2", time.day().to_string()),
            ("3", twelve.to_string()),
            ("4", time.minute().to_string()),
            ("5", time.second().to_string()),
            ("PM", if time.hour() < 12 { "AM" } else { "PM" }.to_owned()),
            ("pm", if time.hour() < 12 { "am" } else { "pm" }.to_owned()),
            ("-070000", "+000000".to_owned()),
            ("-07:00:00", "+00:00:00".to_owned()),
            ("-0700", "+0000".to_owned()),
            ("-07:00", "+00:00".to_owned()),
            ("-07", "+00".to_owned()),
            ("Z070000", "Z".to_owned()),
            ("Z07:00:00", "Z".to_owned()),
            ("Z0700", "Z".to_owned()),
            ("Z07:00", "Z".to_owned()),
            ("Z07", "Z".to_owned()),
            ("", c.to_string()),
        ];
        if let Some((fraction, length)) = fraction(rest, time.subsec_nanosecond()) {
            out.push_str(&fraction);
            rest = rest.get(length..).unwrap_or_default();
            continue;
        }
        // `Jan` in `Jane` is no month.
        let name = |word: &str| {
            rest.get(word.len()..).is_none_or(|after| !after.starts_with(|c: char| c.is_ascii_lowercase()))
        };
        let found =
            words.iter().find(|(word, _)| rest.starts_with(word) && (!matches!(*word, "Jan" | "Mon") || name(word)));
        let (word, text) = found.map_or(("", c.to_string()), |(word, text)| (*word, text.clone()));
        let _ = write!(out, "{text}");
        rest = rest.get(word.len().max(if word.is_empty() { c.len_utf8() } else { 0 })..).unwrap_or_default();
    }
    out
}

/// `.000` or `,999`: a fraction of a second, with or without its last zeros; and how long the word is.
fn fraction(layout: &str, nanoseconds: i32) -> Option<(String, usize)> {
    let point = layout.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = layout.chars().nth(1).filter(|c| matches!(c, '0' | '9'))?;
    let count = layout.get(1..)?.bytes().take_while(|byte| char::from(*byte) == digit).count();
    if layout.get(count + 1..)?.starts_with(|c: char| c.is_ascii_digit()) || count > 9 {
        return None;
    }
    let digits = format!("{nanoseconds:09}");
    let kept = digits.get(..count)?;
    let text = if digit == '0' { kept } else { kept.trim_end_matches('0') };
    let text = if text.is_empty() { String::new() } else { format!("{point}{text}") };
    Some((text, count + 1))
}
