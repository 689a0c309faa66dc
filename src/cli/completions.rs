//! `affiant completions`, and the pages of the reference that are printed from the code.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::failure::{self, Failure};
use super::output::Output;
use super::{Ending, attestors, command};

#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Pages of the reference; `tests/docs.rs` compares them with the files.
#[derive(Subcommand)]
pub(crate) enum DocsVerb {
    /// docs/reference/cli.md
    Cli,
    /// docs/reference/exit-codes.md
    ExitCodes,
    /// The heads of docs/attestors.md
    Attestors,
}

pub(crate) fn completions(args: &CompletionsArgs, output: &Output) -> Result<Ending, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "affiant", &mut script);
    output.data(&script)?;
    Ok(Ending::Done)
}

pub(crate) fn docs(verb: &DocsVerb, output: &Output) -> Result<Ending, Failure> {
    let page = match verb {
        DocsVerb::Cli => cli_reference(),
        DocsVerb::ExitCodes => failure::reference(),
        DocsVerb::Attestors => {
            affiant_attestors::BUILT_IN.iter().map(attestors::describe).collect::<Vec<_>>().join("\n")
        }
    };
    output.data(page.as_bytes())?;
    Ok(Ending::Done)
}

/// The help of every command with every option, as Markdown.
fn cli_reference() -> String {
    let mut page = String::from(
        "# Command line\n\nPrinted from the code. Every option that is no trust input can also be set by the variable named with it, and\nby a configuration file; the order is flag, variable, file, default.\n",
    );
    let mut root = command().term_width(100).disable_help_flag(false);
    root.build();
    section(&mut page, &root, "affiant");
    page
}

fn section(page: &mut String, command: &clap::Command, name: &str) {
    if name != "affiant" {
        let mut shown = command.clone().mut_args(|arg| arg.hide(false)).bin_name(name.to_owned()).term_width(100);
        let help = shown.render_long_help().to_string();
        let help: Vec<_> = help.lines().map(str::trim_end).collect();
        let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    }
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        section(page, sub, &format!("{name} {}", sub.get_name()));
    }
}
