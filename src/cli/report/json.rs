//! A verdict as JSON; the schema is `docs/reference/verdict.schema.json`.

use affiant_core::verdict::{SCHEMA, Verdict};
use serde::Serialize;

use super::VERSION;
use crate::cli::output::is_invisible;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    version: &'static str,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

/// The whole verdict, indented, with a line break at the end.
pub(crate) fn render(verdict: &Verdict) -> String {
    let document = Document { schema: SCHEMA, version: VERSION, verdict };
    let text = serde_json::to_string_pretty(&document).expect("a verdict has string keys and no other writer");
    let mut out = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        // These can only stand within strings: what JSON leaves as it is may still steer a terminal.
        if (c.is_control() && c != '\n') || is_invisible(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                use std::fmt::Write as _;
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out.push('\n');
    out
}
