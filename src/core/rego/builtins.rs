//! The functions that rules may call: the interpreter's, and ours.

use regorus::unstable::BUILTINS;
use regorus::{Engine, Value};

use super::{Limits, budget};

/// Most numbers of one range.
const MAX_RANGE: u64 = 1_000_000;
/// Functions of OPA that rules may not call here, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("http.send", "rules have no network"),
    ("net.lookup_ip_addr", "rules have no network"),
    ("opa.runtime", "rules do not see the environment"),
    ("rand.intn", "equal evidence must give equal answers"),
    ("uuid.rfc4122", "equal evidence must give equal answers"),
];

/// A range that is none.
#[derive(Debug, thiserror::Error)]
enum RangeError {
    #[error("a range goes from one whole number to another, in whole steps")]
    Whole,
    #[error("the step of a range is 1 or more")]
    Step,
    #[error("a range has at most {MAX_RANGE} numbers")]
    TooLong,
}

/// Why a function cannot be called; nothing if it can.
pub(super) fn unavailable(name: &str) -> Option<String> {
    if let Some((_, reason)) = FORBIDDEN.iter().find(|(forbidden, _)| *forbidden == name) {
        return Some(format!("{name} cannot be called: {reason}"));
    }
    if name == "print" || BUILTINS.contains_key(name) {
        return None;
    }
    let nearest = BUILTINS.keys().map(|known| (strsim::damerau_levenshtein(known, name), *known)).min();
    let hint = match nearest {
        Some((distance, known)) if distance <= 3 => format!("; did you mean {known}?"),
        _ => String::new(),
    };
    Some(format!("there is no function {name}{hint}"))
}

/// Makes an engine ready to be asked within [`super::budget::begin`].
pub(super) fn prepare(engine: &mut Engine, limits: &Limits) {
    engine.set_execution_timer_config(budget::timer());
    engine.set_strict_builtin_errors(true);
    let now = Value::from_numeric_string(&limits.now.as_nanosecond().to_string()).unwrap_or(Value::Undefined);
    // Only a second function of that name could fail.
    let _ = engine.add_extension("time.now_ns".to_owned(), 0, Box::new(move |_| Ok(now.clone())));
    // The interpreter does not look at the clock, nor at the memory, while one of these is at work.
    let _ = engine.add_extension("numbers.range".to_owned(), 2, Box::new(|args| Ok(range(&args, None)?)));
    let _ = engine.add_extension("numbers.range_step".to_owned(), 3, Box::new(|args| Ok(range(&args, args.get(2))?)));
}

/// `numbers.range` and `numbers.range_step`: at most [`MAX_RANGE`] whole numbers, both ends included.
fn range(args: &[Value], step: Option<&Value>) -> Result<Value, RangeError> {
    let whole = |value: Option<&Value>| {
        let number = value.and_then(|value| value.as_i64().ok());
        number.ok_or(RangeError::Whole)
    };
    let (from, to) = (whole(args.first())?, whole(args.get(1))?);
    let step = match step {
        Some(step) => u64::try_from(whole(Some(step))?).ok().filter(|step| *step > 0),
        None => Some(1),
    };
    let step = step.ok_or(RangeError::Step)?;
    let last = from.abs_diff(to) / step;
    if last >= MAX_RANGE {
        return Err(RangeError::TooLong);
    }
    let number = |place: u64| {
        let away = place * step;
        Value::from(if from <= to { from.wrapping_add_unsigned(away) } else { from.wrapping_sub_unsigned(away) })
    };
    Ok(Value::from((0..=last).map(number).collect::<Vec<_>>()))
}
