//! The command line: the only code that prints, ends the process, or reads flags and environment.

mod archive;
mod archivista;
mod attestors;
mod bundle;
mod ci;
mod completions;
mod config;
mod doctor;
mod failure;
mod help;
mod image;
mod inspect;
mod key;
mod keyless;
mod keys;
mod kyverno;
mod names;
mod output;
mod outputs;
mod places;
mod policy;
mod report;
mod resume;
mod run;
mod sign;
mod surroundings;
mod trust;
mod verify;
mod vsa;

use std::ffi::{OsStr, OsString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use failure::{Failure, Kind};
use names::Called;
use output::Output;

/// Wraps build commands in signed evidence, shows it and keeps it
#[derive(Parser)]
#[command(name = "affiant", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Start with:\n  affiant key generate\n  affiant run --key affiant.key -- make\n\n`affiant COMMAND --help` says more about each."
)]
pub(crate) struct App {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a command and keep signed evidence of it
    Run(Box<run::RunArgs>),
    /// Keep signed evidence of things as they are, without a command
    Attest(Box<run::AttestArgs>),
    /// Sign a document, such as a policy
    Sign(sign::SignArgs),
    /// Say whether an artifact may be promoted: a signed policy, evidence, and a verdict that says why
    Verify(Box<verify::VerifyArgs>),
    /// Check a verification summary (VSA) that a gate has signed
    VerifyVsa(vsa::VerifyVsaArgs),
    /// Write, check, try and sign policies
    #[command(subcommand)]
    Policy(Box<policy::PolicyVerb>),
    /// Sign, check and attest images
    #[command(subcommand)]
    Image(Box<image::ImageVerb>),
    /// Copy an image to where it is deployed from, once the gate says yes
    Promote(Box<image::promote::PromoteArgs>),
    /// Say what Kyverno will say of an image
    #[command(subcommand)]
    Kyverno(kyverno::KyvernoVerb),
    /// Show, fetch and carry trust roots of keyless signatures
    #[command(subcommand)]
    Trust(trust::TrustVerb),
    /// Make, show and convert keys
    #[command(subcommand)]
    Key(key::KeyVerb),
    /// Show evidence, and check its signatures
    Inspect(inspect::InspectArgs),
    /// List and describe the attestors
    #[command(subcommand)]
    Attestors(attestors::AttestorsVerb),
    /// Sign, write and archive evidence that could not be kept at once
    Resume(resume::ResumeArgs),
    /// Say what would be attested here, and what is missing
    Doctor(doctor::DoctorArgs),
    /// Find, read, add and check archived evidence
    #[command(subcommand)]
    Archive(archive::ArchiveVerb),
    /// Carry evidence in one file
    #[command(subcommand)]
    Bundle(bundle::BundleVerb),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print the version
    Version,
    /// Print pages of the reference
    #[command(hide = true, subcommand)]
    Docs(completions::DocsVerb),
}

/// How a command ended.
pub(crate) enum Ending {
    /// Done.
    Done,
    /// `run`: this exit code, the command's own or ours.
    Code(i32),
}

/// Parses the command line, runs the command, and says how it ended.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let output = Output::new();
    if ci::is_action(args) {
        return match ci::run_action() {
            Ok(code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(125)),
            Err(reason) => {
                output.failure(&Failure::new(Kind::Run, reason));
                ExitCode::from(1)
            }
        };
    }
    let called = Called::of(args);
    let translated = names::translate(called, args).and_then(ci::translate);
    let verb = translated.as_ref().ok().and_then(|translated| first_word(&translated.args)).map(str::to_owned);
    let attempt = || {
        let ci::Translated { args, action } = translated?;
        parse(called, args, &output).and_then(|parsed| match parsed {
            Parsed::Shown(text) => output.data(text.as_bytes()).map(|()| Ending::Done),
            Parsed::Nothing(text) => {
                text.lines().for_each(|line| output.message(line));
                Ok(Ending::Code(2))
            }
            Parsed::App(mut app) => {
                if let Verb::Run(run) = &mut app.command {
                    run.action = action;
                }
                dispatch(*app, &output)
            }
        })
    };
    // A panic must not look like an exit code of the command.
    let result = catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_| {
        Err(Failure::new(
            Kind::NoAnswer,
            format!("this is a bug of affiant {}, please report it", env!("CARGO_PKG_VERSION")),
        ))
    });
    match result {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Code(code)) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(125)),
        Err(mut failure) => {
            // `run` says 125 for everything that is ours, so that it cannot be taken for the command's own code.
            if verb.as_deref() == Some("run") {
                failure.kind = Kind::Run;
            }
            output.failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}

enum Parsed {
    App(Box<App>),
    /// Help or version: goes to stdout.
    Shown(String),
    /// Nothing was asked for: help goes to stderr.
    Nothing(String),
}

fn first_word(args: &[OsString]) -> Option<&str> {
    args.iter().skip(1).filter_map(|arg| arg.to_str()).find(|arg| !arg.starts_with('-'))
}

/// The whole command line, with the options of the attestors, under the name that affiant was called by.
pub(crate) fn command(called: Called) -> Command {
    let with_attestors = |command: Command, verb| command.mut_subcommand(verb, run::with_attestor_options);
    names::adapt(called, forgiving(["run", "attest"].into_iter().fold(help::tidy(App::command()), with_attestors)))
}

/// Variables as CI systems set them: an empty one is not set, and a truth value may be `1`, `yes` or `on` as well.
fn forgiving(command: Command) -> Command {
    let verbs: Vec<_> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let command = verbs.into_iter().fold(command, |command, verb| command.mut_subcommand(verb, forgiving));
    command.mut_args(|arg| {
        let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
        let arg = if arg.get_env().is_some_and(is_empty) { arg.env(None::<&'static str>) } else { arg };
        if matches!(arg.get_action(), ArgAction::SetTrue) && arg.get_env().is_some() {
            arg.value_parser(BoolishValueParser::new())
        } else {
            arg
        }
    })
}

/// The same for the ordinary help: without the variables, of which one line tells for all options.
fn brief(command: Command) -> Command {
    let verbs: Vec<_> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let command = verbs.into_iter().fold(command, |command, verb| command.mut_subcommand(verb, brief));
    command.mut_args(|arg| arg.hide_env(true))
}

/// What has to be known before the command line is parsed: it says what the defaults are.
#[derive(Default)]
struct Early {
    /// The words of the command of which all options are asked for.
    help_all: Option<Vec<String>>,
    config: Option<PathBuf>,
}

impl Early {
    /// Reads only our own flags: what stands behind a command's name belongs to the command.
    fn of(command: &Command, args: &[OsString]) -> Self {
        let Ok(matches) = command.clone().ignore_errors(true).try_get_matches_from(args) else {
            return Self::default();
        };
        let Some((first, matches)) = matches.subcommand() else { return Self::default() };
        let config = matches.try_get_one("config").ok().flatten().cloned();
        let (mut path, mut last) = (vec![first.to_owned()], matches);
        while let Some((next, below)) = last.subcommand() {
            path.push(next.to_owned());
            last = below;
        }
        let is_asked = last.try_get_one("help_all").ok().flatten().is_some_and(|all: &bool| *all);
        Self { help_all: is_asked.then_some(path), config }
    }
}

fn parse(called: Called, mut args: Vec<OsString>, output: &Output) -> Result<Parsed, Failure> {
    let command = command(called);
    let early = Early::of(&command, &args);
    if let Some(path) = early.help_all {
        return Ok(Parsed::Shown(help_all(command, &path)));
    }
    let command = match early.config {
        // Witness's file is one of flags, also of the gate's (security rule 8).
        Some(file) if called == Called::Witness => {
            args = names::with_config(&command, args, &file)?;
            config::apply_none(command, &args)?
        }
        config => config::apply(command, &args, config)?,
    };
    let command = brief(command);
    match command.clone().try_get_matches_from(&args) {
        Ok(matches) => {
            names::judge(called, &matches, output)?;
            Ok(Parsed::App(Box::new(read(called, &matches, output)?)))
        }
        Err(error) => {
            if let Some(failure) = names::unknown(called, &error) {
                return Err(failure);
            }
            let text = error.render().to_string();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Parsed::Shown(text)),
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Ok(Parsed::Nothing(text)),
                _ => Err(usage(&text)),
            }
        }
    }
}

/// clap's message without its own `error:` prefix; its tips become hints.
fn usage(text: &str) -> Failure {
    let text = text.trim_start_matches("error: ").trim_end();
    let mut message = Vec::new();
    let mut hints = Vec::new();
    for line in text.lines() {
        let line = line.trim_end();
        if let Some(tip) = line.trim_start().strip_prefix("tip: ") {
            hints.push(tip.to_owned());
        } else if line.starts_with("For more information") || line.is_empty() {
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            hints.push(format!("usage: {usage}"));
        } else {
            message.push(line.trim().to_owned());
        }
    }
    hints.into_iter().fold(Failure::usage(message.join(" ")), Failure::hint)
}

fn read(called: Called, matches: &ArgMatches, output: &Output) -> Result<App, Failure> {
    let mut app = App::from_arg_matches(matches).map_err(|error| usage(&error.render().to_string()))?;
    match &mut app.command {
        Verb::Verify(verify) => verify.call(called),
        Verb::Image(verb) => verb.call(called),
        Verb::Sign(args) => args.keys.signer.call(called),
        Verb::Policy(verb) => verb.call(called),
        _ => {}
    }
    let capture = match &mut app.command {
        Verb::Run(run) => Some(&mut run.capture),
        Verb::Attest(attest) => Some(&mut attest.capture),
        _ => None,
    };
    if let (Some(capture), Some((_, matches))) = (capture, matches.subcommand()) {
        capture.read_attestor_options(matches);
        names::apply(called, matches, capture, output)?;
    }
    Ok(app)
}

/// The help of a command with every option, for `--help-all`.
fn help_all(mut command: Command, path: &[String]) -> String {
    command.build();
    let asked = path.iter().try_fold(&command, |command, name| command.find_subcommand(name)).unwrap_or(&command);
    asked.clone().mut_args(|arg| arg.hide(false)).render_long_help().to_string()
}

fn dispatch(app: App, output: &Output) -> Result<Ending, Failure> {
    match app.command {
        Verb::Run(args) => run::run(&args, output),
        Verb::Attest(args) => run::attest(&args, output),
        Verb::Sign(args) => sign::sign(&args, output),
        Verb::Verify(args) => verify::verify(&args, output),
        Verb::VerifyVsa(args) => vsa::verify_vsa(&args, output),
        Verb::Policy(verb) => policy::policy(&verb, output),
        Verb::Image(verb) => image::image(&verb, output),
        Verb::Promote(args) => image::promote::promote(&args, output),
        Verb::Kyverno(verb) => kyverno::kyverno(&verb, output),
        Verb::Trust(verb) => trust::trust(&verb, output),
        Verb::Key(verb) => key::key(verb, output),
        Verb::Inspect(args) => inspect::inspect(&args, output),
        Verb::Attestors(verb) => attestors::attestors(&verb, output),
        Verb::Resume(args) => resume::resume(&args, output),
        Verb::Doctor(args) => doctor::doctor(&args, output),
        Verb::Archive(verb) => archive::archive(&verb, output),
        Verb::Bundle(verb) => bundle::bundle(&verb, output),
        Verb::Completions(args) => completions::completions(&args, output),
        Verb::Docs(verb) => completions::docs(&verb, output),
        Verb::Version => {
            output.data(format!("affiant {}\n", env!("CARGO_PKG_VERSION")).as_bytes())?;
            Ok(Ending::Done)
        }
    }
}
