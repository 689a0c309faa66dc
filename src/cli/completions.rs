//! `affiant completions`, and the pages of the reference that are printed from the code.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::failure::{self, Failure, Kind};
use super::names::{self, Called};
use super::output::Output;
use super::{Ending, attestors, command};

#[derive(Args)]
#[command(after_help = "Example:\n  affiant completions bash > ~/.local/share/bash-completion/completions/affiant")]
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
    /// The flags in docs/reference/peers.md
    Peers,
    /// Write a manual page of each command into a folder
    Man(ManArgs),
    /// Only parse a command line, `affiant` first, as the pages show it
    Parse(ParseArgs),
}

#[derive(Args)]
pub(crate) struct ParseArgs {
    /// The command line
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<OsString>,
}

#[derive(Args)]
pub(crate) struct ManArgs {
    /// The folder; it is there already
    folder: PathBuf,
}

pub(crate) fn completions(args: &CompletionsArgs, output: &Output) -> Result<Ending, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(Called::Affiant), "affiant", &mut script);
    output.data(&script)?;
    Ok(Ending::Done)
}

pub(crate) fn docs(verb: &DocsVerb, output: &Output) -> Result<Ending, Failure> {
    let page = match verb {
        DocsVerb::Cli => cli_reference(),
        DocsVerb::ExitCodes => failure::reference(),
        DocsVerb::Peers => names::reference(),
        DocsVerb::Man(args) => {
            clap_mangen::generate_to(whole(command(Called::Affiant)), &args.folder).map_err(|error| {
                let message = format!("manual pages cannot be written to {}", args.folder.display());
                Failure::because(Kind::NoAnswer, message, &error)
            })?;
            String::new()
        }
        DocsVerb::Parse(args) => match command(Called::Affiant).try_get_matches_from(&args.words) {
            Ok(_) => String::new(),
            Err(error) => return Err(Failure::usage(error.render().to_string())),
        },
        DocsVerb::Attestors => {
            affiant_attestors::BUILT_IN.iter().map(attestors::describe).collect::<Vec<_>>().join("\n")
        }
    };
    output.data(page.as_bytes())?;
    Ok(Ending::Done)
}

/// With the options that the ordinary help leaves out.
fn whole(command: clap::Command) -> clap::Command {
    let verbs: Vec<_> =
        command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(|verb| verb.get_name().to_owned()).collect();
    verbs.into_iter().fold(command, |command, verb| command.mut_subcommand(verb, whole)).mut_args(|arg| arg.hide(false))
}

/// The help of every command with every option, as Markdown.
fn cli_reference() -> String {
    let mut page = String::from(
        "# Command line\n\nPrinted from the code (`affiant docs cli`). Options with a variable (`env`) can be set by it; those of `run` and `sign` also by a\nconfiguration file: see [configuration](configuration.md). How commands end: [exit codes](exit-codes.md).\n",
    );
    let mut root = command(Called::Affiant).term_width(100).disable_help_flag(false);
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
    let mut subs: Vec<_> =
        command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help").collect();
    // Changing a subcommand moves it to the end; `run` comes first.
    subs.sort_by_key(|sub| sub.get_name() != "run");
    for sub in subs {
        section(page, sub, &format!("{name} {}", sub.get_name()));
    }
}
