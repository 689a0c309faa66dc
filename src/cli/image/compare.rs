//! `affiant image compare`: whether two images are the same.

use affiant_core::image::compare::compare as compare_images;
use clap::Args;

use super::targets::{TargetArgs, no_answer, no_tag};
use crate::cli::Ending;
use crate::cli::failure::Failure;
use crate::cli::output::{Output, one_line};

#[derive(Args)]
#[command(
    after_help = "Equal are images with the same config, whose layers are the same or inflate to what the config says (diff ids):\npushed, recompressed, or taken into an index. Exit code 0 where they are equal, 1 where they differ."
)]
pub(crate) struct CompareArgs {
    /// An image: in a registry, a layout or an archive
    #[arg(value_name = "A")]
    first: String,
    /// Another
    #[arg(value_name = "B")]
    second: String,
    #[command(flatten)]
    targets: TargetArgs,
}

pub(super) fn compare(args: &CompareArgs, output: &Output) -> Result<Ending, Failure> {
    let first = args.targets.source_or_path(&args.first)?;
    let second = args.targets.source_or_path(&args.second)?;
    for place in [&first, &second] {
        let there = place.repository.resolve(&place.at).map_err(|error| no_answer(&place.shown, &error))?;
        if there.is_none() {
            return Err(no_tag(place));
        }
    }
    let outcomes = compare_images((&*first.repository, &first.at), (&*second.repository, &second.at))
        .map_err(|error| no_answer(&format!("{} and {}", args.first, args.second), &error))?;
    let mut lines = String::new();
    for outcome in &outcomes {
        lines += &one_line(&outcome.to_string());
        lines.push('\n');
    }
    output.data(lines.as_bytes())?;
    let is_equal = outcomes.iter().all(affiant_core::image::compare::Outcome::is_equal);
    Ok(if is_equal { Ending::Done } else { Ending::Code(1) })
}
