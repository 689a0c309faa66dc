//! The functions that rules may call: the interpreter's, and ours where it has none or another than OPA.
//!
//! Numbers, names and results are OPA's; `fixtures/rego` compares. What is missing is named in
//! `docs/shortcomings.md`.

mod bytes;
mod certificates;
mod clock;
mod collections;
mod format;
mod network;
mod pattern;

use regorus::unstable::{BUILTINS, Expr, Ref, Span};
use regorus::{Engine, Source, Value};

use super::{Limits, budget};

/// Largest text or list that one call may make, in bytes: what is larger is looked at before, not after.
const MAX_RESULT: u64 = 32 * 1024 * 1024;
/// Sizes below this are not worth a look at the memory.
const SMALL: u64 = 1024 * 1024;

/// Functions of OPA that rules may not call here, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("crypto.md5", "MD5 is not among the digests here"),
    ("crypto.hmac.md5", "MD5 is not among the digests here"),
    ("http.send", "rules have no network"),
    ("net.lookup_ip_addr", "rules have no network"),
    ("opa.runtime", "rules do not see the environment"),
    ("rand.intn", "equal evidence must give equal answers"),
    ("uuid.rfc4122", "equal evidence must give equal answers"),
];

/// Functions of OPA that are missing.
const MISSING: &[&str] = &[
    "aws.sign_req",
    "providers.aws.sign_req",
    "cast_array",
    "cast_boolean",
    "cast_null",
    "cast_object",
    "cast_set",
    "cast_string",
    "crypto.parse_private_keys",
    "crypto.x509.parse_and_verify_certificates",
    "crypto.x509.parse_and_verify_certificates_with_options",
    "crypto.x509.parse_certificate_request",
    "crypto.x509.parse_keypair",
    "crypto.x509.parse_rsa_private_key",
    "graphql.is_valid",
    "graphql.parse",
    "graphql.parse_and_verify",
    "graphql.parse_query",
    "graphql.parse_schema",
    "graphql.schema_is_valid",
    "io.jwt.decode_verify",
    "io.jwt.encode_sign",
    "io.jwt.encode_sign_raw",
    "io.jwt.verify_eddsa",
    "io.jwt.verify_es256",
    "io.jwt.verify_es384",
    "io.jwt.verify_es512",
    "io.jwt.verify_hs256",
    "io.jwt.verify_hs384",
    "io.jwt.verify_hs512",
    "io.jwt.verify_ps256",
    "io.jwt.verify_ps384",
    "io.jwt.verify_ps512",
    "io.jwt.verify_rs256",
    "io.jwt.verify_rs384",
    "io.jwt.verify_rs512",
    "json.match_schema",
    "json.verify_schema",
    "net.cidr_contains_matches",
    "net.cidr_merge",
    "regex.globs_match",
    "rego.metadata.chain",
    "rego.metadata.rule",
    "rego.parse_module",
    "strings.render_template",
    "uuid.parse",
    "yaml.is_valid",
    "yaml.marshal",
    "yaml.unmarshal",
];

type Function = fn(&[Value]) -> Result<Value, Fault>;

/// Ours, with the number of their arguments.
const OURS: &[(&str, u8, Function)] = &[
    ("all", 1, collections::all),
    ("any", 1, collections::any),
    ("array.concat", 2, collections::array_concat),
    ("array.flatten", 1, collections::array_flatten),
    ("base64url.encode_no_pad", 1, bytes::base64url_encode_no_pad),
    ("bits.lsh", 2, collections::bits_lsh),
    ("concat", 2, collections::concat),
    ("count", 1, collections::count),
    ("crypto.hmac.equal", 2, bytes::hmac_equal),
    ("crypto.hmac.sha1", 2, bytes::hmac_sha1),
    ("crypto.hmac.sha256", 2, bytes::hmac_sha256),
    ("crypto.hmac.sha512", 2, bytes::hmac_sha512),
    ("crypto.sha1", 1, bytes::sha1),
    ("crypto.sha256", 1, bytes::sha256),
    ("crypto.x509.parse_certificates", 1, certificates::parse),
    ("glob.match", 3, pattern::glob_match),
    ("glob.quote_meta", 1, pattern::glob_quote_meta),
    ("graph.reachable_paths", 2, collections::reachable_paths),
    ("io.jwt.decode", 1, bytes::jwt_decode),
    ("json.marshal", 1, collections::json_marshal),
    ("json.marshal_with_options", 2, collections::json_marshal_with_options),
    ("lower", 1, collections::lower),
    ("net.cidr_contains", 2, network::contains),
    ("net.cidr_expand", 1, network::expand),
    ("net.cidr_intersects", 2, network::intersects),
    ("net.cidr_is_valid", 1, network::is_valid),
    ("net.cidr_overlap", 2, network::contains),
    ("numbers.range", 2, collections::range),
    ("numbers.range_step", 3, collections::range_step),
    ("re_match", 2, pattern::is_match),
    ("regex.find_all_string_submatch_n", 3, pattern::find_all_submatches),
    ("regex.find_n", 3, pattern::find),
    ("regex.is_valid", 1, pattern::is_valid),
    ("regex.match", 2, pattern::is_match),
    ("regex.replace", 3, pattern::replace),
    ("regex.split", 2, pattern::split),
    ("regex.template_match", 4, pattern::template_match),
    ("replace", 3, collections::replace),
    ("semver.compare", 2, collections::semver_compare),
    ("semver.is_valid", 1, collections::semver_is_valid),
    ("set_diff", 2, collections::set_diff),
    ("split", 2, collections::split),
    ("sprintf", 2, format::sprintf),
    ("strings.replace_n", 2, collections::replace_n),
    ("time.add_date", 4, clock::add_date),
    ("time.clock", 1, clock::clock),
    ("time.date", 1, clock::date),
    ("time.diff", 2, clock::diff),
    ("time.format", 1, clock::format),
    ("time.weekday", 1, clock::weekday),
    ("upper", 1, collections::upper),
    ("urlquery.decode", 1, network::query_decode),
    ("urlquery.decode_object", 1, network::query_decode_object),
    ("urlquery.encode", 1, network::query_encode),
    ("urlquery.encode_object", 1, network::query_encode_object),
];

/// A call that failed: an error of the rule.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Fault(String);

fn fault<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault(text.into()))
}

/// Why a function cannot be called; nothing if it can.
pub(super) fn unavailable(name: &str) -> Option<String> {
    if let Some((_, reason)) = FORBIDDEN.iter().find(|(forbidden, _)| *forbidden == name) {
        return Some(format!("{name} cannot be called: {reason}"));
    }
    if MISSING.contains(&name) {
        return Some(format!("{name} is a function of OPA that is missing here"));
    }
    let ours = || OURS.iter().map(|(name, ..)| *name);
    if name == "print" || ours().any(|known| known == name) || BUILTINS.contains_key(name) {
        return None;
    }
    let nearest = crate::nearest::nearest(name, ours().chain(BUILTINS.keys().copied()));
    let hint = nearest.map(|known| format!("; did you mean {known}?")).unwrap_or_default();
    Some(format!("there is no function {name}{hint}"))
}

/// Gives an engine our functions. Once: a function cannot be replaced.
pub(super) fn install(engine: &mut Engine) {
    for (name, arguments, function) in OURS {
        let call = move |given: Vec<Value>| Ok(function(&given)?);
        // Only a second function of that name could fail.
        let _ = engine.add_extension((*name).to_owned(), *arguments, Box::new(call));
    }
}

/// Makes an engine ready to be asked within [`super::budget::begin`].
pub(super) fn prepare(engine: &mut Engine, limits: &Limits) {
    engine.set_execution_timer_config(budget::timer());
    engine.set_strict_builtin_errors(true);
    let now = Value::from_numeric_string(&limits.now.as_nanosecond().to_string()).unwrap_or(Value::Undefined);
    let _ = engine.add_extension("time.now_ns".to_owned(), 0, Box::new(move |_| Ok(now.clone())));
}

thread_local! {
    /// Where a call of the interpreter's own function stands: its messages name the place of the outer call.
    static NOWHERE: Option<(Span, Ref<Expr>)> = Source::from_contents("builtin".to_owned(), " ".to_owned())
        .ok()
        .map(|source| {
            let span = Span { source, line: 1, col: 1, start: 0, end: 0 };
            let argument = Expr::Null { span: span.clone(), value: Value::Null, eidx: 0 };
            (span, Ref::new(argument))
        });
}

/// Calls the interpreter's function of this name.
fn interpreters(name: &str, arguments: &[Value]) -> Result<Value, Fault> {
    let (Some((function, _)), Some((span, argument))) = (
        BUILTINS.get(name),
        NOWHERE.with(|nowhere| nowhere.as_ref().map(|(span, argument)| (span.clone(), argument.clone()))),
    ) else {
        return fault(format!("{name} is not there"));
    };
    let parameters = vec![argument; arguments.len()];
    function(&span, &parameters, arguments, true)
        .map_err(|error| Fault(super::syntax::complaint(&error.to_string()).text))
}

/// Whether the text of a value would have more than `bytes` bytes, about.
pub(super) fn text_exceeds(value: &Value, bytes: u64) -> bool {
    collections::measure(value, &mut |so_far| if so_far > bytes { Err(()) } else { Ok(()) }).is_err()
}

/// Refuses a result of so many bytes where that is too much.
fn room(bytes: u64) -> Result<(), Fault> {
    if bytes > MAX_RESULT || (bytes > SMALL && budget::spends(bytes)) {
        return fault(format!("the result would be too large ({} MiB)", bytes / (1024 * 1024)));
    }
    Ok(())
}

/// Looks at a growing result, but not at each step.
#[derive(Default)]
struct Growth {
    next: u64,
}

impl Growth {
    fn to(&mut self, bytes: u64) -> Result<(), Fault> {
        if bytes >= self.next {
            room(bytes)?;
            self.next = bytes + SMALL;
        }
        Ok(())
    }
}

fn string<'a>(function: &str, arguments: &'a [Value], number: usize) -> Result<&'a str, Fault> {
    match arguments.get(number) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => wrong(function, number, "string", other),
        None => fault(format!("{function}: operand {} is missing", number + 1)),
    }
}

fn integer(function: &str, arguments: &[Value], number: usize) -> Result<i64, Fault> {
    match arguments.get(number) {
        Some(Value::Number(value)) => match value.as_i64() {
            Some(value) => Ok(value),
            None => fault(format!("{function}: operand {} must be integer number", number + 1)),
        },
        Some(other) => wrong(function, number, "number", other),
        None => fault(format!("{function}: operand {} is missing", number + 1)),
    }
}

fn wrong<T>(function: &str, number: usize, wanted: &str, found: &Value) -> Result<T, Fault> {
    fault(format!("{function}: operand {} must be {wanted} but got {}", number + 1, kind(found)))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Set(_) => "set",
        Value::Object(_) => "object",
        Value::Undefined => "undefined",
    }
}
