//! `affiant image push`: the very bytes that were attested.

use affiant_core::image::carry::Options;
use affiant_core::image::{Digest, Target};
use clap::Args;

use super::copy::{Way, chosen};
use super::targets::{TargetArgs, named};
use crate::cli::Ending;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::Output;

#[derive(Args)]
#[command(
    after_help = "The registry has the digest of what lies in the archive, or the command fails. What `docker save` writes has\nno manifest of a registry in it where it has no OCI layout: then one is made from its config and layers, always\nthe same one.\n\n  affiant image push image.tar registry.example.com/app:1"
)]
pub(crate) struct PushArgs {
    /// Archive or layout: a plain file or folder, or oci:FOLDER, oci-archive:FILE, docker-archive:FILE, with :tag or :name
    #[arg(value_name = "TARGET")]
    target: String,
    /// Where in a registry it is put
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Digest that it must have, as the evidence lists it; another ends the command before anything is sent
    #[arg(long, value_name = "DIGEST")]
    expect: Option<Digest>,
    #[command(flatten)]
    targets: TargetArgs,
}

pub(super) fn push(args: &PushArgs, output: &Output) -> Result<Ending, Failure> {
    let source = args.targets.source_or_path(&args.target)?;
    if source.reference.is_some() {
        return Err(Failure::usage(format!("{}: push takes an archive or a layout", args.target))
            .hint("from one registry to another: affiant image copy"));
    }
    let target = named(&args.image)?;
    if !matches!(target, Target::Registry(_)) {
        return Err(Failure::usage(format!("{}: push goes to a registry", args.image))
            .hint("to a layout or archive: affiant image copy"));
    }
    let chosen = chosen(&source, None)?;
    let attested = chosen.digest().clone();
    if let Some(wanted) = &args.expect
        && *wanted != attested
    {
        return Err(Failure::new(Kind::Denied, format!("{} is {attested}, and not {wanted}", args.target))
            .hint("nothing was sent"));
    }
    let destination = args.targets.destination(&args.image, target, &attested)?;
    let way = Way { to: &destination, tag: destination.tag.as_deref(), options: &Options::default() };
    let report = way.transfer(&source, chosen, output)?;
    if report.root.digest != attested {
        return Err(Failure::new(Kind::Denied, format!("the registry has {}, and not {attested}", report.root.digest)));
    }
    output.data(format!("{}@{attested}\n", destination.shown).as_bytes())?;
    Ok(Ending::Done)
}
