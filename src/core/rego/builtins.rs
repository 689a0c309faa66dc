//! The functions that rules may call: the interpreter's, and ours.

use regorus::unstable::BUILTINS;
use regorus::{Engine, Value};

use super::{Limits, budget};

/// Functions of OPA that rules may not call here, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("http.send", "rules have no network"),
    ("net.lookup_ip_addr", "rules have no network"),
    ("opa.runtime", "rules do not see the environment"),
    ("rand.intn", "equal evidence must give equal answers"),
    ("uuid.rfc4122", "equal evidence must give equal answers"),
];

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
}
