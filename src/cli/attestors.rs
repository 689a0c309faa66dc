//! `affiant attestors`: list and describe the built-in attestors.

use std::fmt::Write as _;

use affiant_attestors::BUILT_IN;
use affiant_core::attestor::{Attestor, Phase};
use affiant_core::run::ALWAYS;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::Ending;
use super::failure::{Failure, nearest};
use super::output::Output;

#[derive(Subcommand)]
pub(crate) enum AttestorsVerb {
    /// List all attestors
    List(ListArgs),
    /// Describe one attestor
    Show(OneArgs),
    /// Print the JSON schema of an attestor's predicate
    Schema(OneArgs),
}

#[derive(Args)]
pub(crate) struct ListArgs {
    /// Form of the list
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Args)]
pub(crate) struct OneArgs {
    /// Name or type of the attestor
    #[arg(value_name = "NAME")]
    name: String,
}

pub(crate) fn attestors(verb: &AttestorsVerb, output: &Output) -> Result<Ending, Failure> {
    let text = match verb {
        AttestorsVerb::List(args) => list(args.output),
        AttestorsVerb::Show(args) => describe(find(&args.name)?),
        AttestorsVerb::Schema(args) => {
            let mut schema = find(&args.name)?.about.schema.trim_end().to_owned();
            schema.push('\n');
            schema
        }
    };
    output.data(text.as_bytes())?;
    Ok(Ending::Done)
}

fn find(name: &str) -> Result<&'static Attestor, Failure> {
    BUILT_IN.iter().find(|attestor| attestor.about.name == name || attestor.about.predicate_type == name).ok_or_else(
        || {
            let names = BUILT_IN.iter().map(|attestor| attestor.about.name);
            if ALWAYS.contains(&name) {
                return Failure::usage(format!("`{name}` is no attestor: it is part of every run"))
                    .hint("docs/attestors.md describes it");
            }
            let failure = Failure::usage(format!("unknown attestor `{name}`"));
            match nearest(name, names.clone()) {
                Some(near) => failure.hint(format!("did you mean `{near}`?")),
                None => failure.hint(format!("known attestors: {}", names.collect::<Vec<_>>().join(", "))),
            }
        },
    )
}

fn list(format: Format) -> String {
    match format {
        Format::Json => {
            let all: Vec<_> = BUILT_IN
                .iter()
                .map(|attestor| {
                    let about = attestor.about;
                    json!({
                        "name": about.name,
                        "type": about.predicate_type,
                        "phase": phase(attestor),
                        "summary": about.summary,
                        "default": about.default_when,
                    })
                })
                .collect();
            format!("{:#}\n", json!(all))
        }
        Format::Text => {
            let mut text = String::new();
            for attestor in BUILT_IN {
                let about = attestor.about;
                let _ = writeln!(text, "{:<12} {:<7} {}", about.name, phase(attestor), about.summary);
            }
            let _ = writeln!(text, "\n{} are part of every run.", ALWAYS.join(", "));
            text
        }
    }
}

fn phase(attestor: &Attestor) -> &'static str {
    match attestor.phase {
        Phase::Before => "before",
        Phase::After | Phase::Whole => "after",
    }
}

/// One attestor as Markdown: also the head of its section in `docs/attestors.md`.
pub(crate) fn describe(attestor: &Attestor) -> String {
    let about = attestor.about;
    let mut text = format!("## {}\n\n{}\n\n", about.name, about.summary);
    let _ = writeln!(text, "- type: `{}`", about.predicate_type);
    let _ = writeln!(text, "- runs {} the command; by default {}", phase(attestor), about.default_when);
    for subject in about.subjects {
        // Between backticks, or a reader of Markdown takes `<hex>` for HTML.
        let (pattern, meaning) = subject.split_once(": ").unwrap_or((subject, ""));
        let _ = writeln!(text, "- subject `{pattern}`: {meaning}");
    }
    for option in about.options {
        let _ = writeln!(text, "- option `--attestor-{}-{}`: {}", about.name, option.name, option.help);
    }
    text
}
