//! `affiant policy rules`: the rules that affiant brings along.

use affiant_core::nearest::nearest;
use affiant_core::policy::shipped::{PREFIX, SHIPPED, find};
use clap::Args;

use crate::cli::Ending;
use crate::cli::failure::Failure;
use crate::cli::output::Output;

#[derive(Args)]
#[command(after_help = "Example:\n  affiant policy rules pins > pins.rego")]
pub(crate) struct RulesArgs {
    /// The rule to print: all are listed without it
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub(super) fn rules(args: &RulesArgs, output: &Output) -> Result<Ending, Failure> {
    let Some(name) = &args.name else {
        let width = SHIPPED.iter().map(|one| PREFIX.len() + one.name.len()).max().unwrap_or_default();
        let lines = SHIPPED.iter().map(|one| format!("{:width$}  {}\n", format!("{PREFIX}{}", one.name), one.about));
        output.data(lines.collect::<String>().as_bytes())?;
        return Ok(Ending::Done);
    };
    let short = name.strip_prefix(PREFIX).unwrap_or(name);
    let Some(shipped) = find(short) else {
        let failure = Failure::usage(format!("affiant has no rule `{name}`"));
        return Err(match nearest(short, SHIPPED.iter().map(|one| one.name)) {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None => failure.hint("`affiant policy rules` lists them"),
        });
    };
    output.data(shipped.text.as_bytes())?;
    Ok(Ending::Done)
}
