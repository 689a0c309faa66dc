//! `affiant image`: images in registries, layouts and archives.

mod compare;
mod copy;
mod push;
mod targets;

use clap::Subcommand;

use super::Ending;
use super::failure::Failure;
use super::output::Output;

#[derive(Subcommand)]
pub(crate) enum ImageVerb {
    /// Carry an image with all that is kept about it to another place
    Copy(Box<copy::CopyArgs>),
    /// Keep an image with all that is kept about it in a folder
    Save(Box<copy::SaveArgs>),
    /// Put what `save` kept into a registry
    Load(Box<copy::LoadArgs>),
    /// Push an archive or layout as it is, and print the name that can be deployed
    Push(Box<push::PushArgs>),
    /// Say whether two images are the same, by config and unpacked layers
    Compare(Box<compare::CompareArgs>),
}

pub(crate) fn image(verb: &ImageVerb, output: &Output) -> Result<Ending, Failure> {
    match verb {
        ImageVerb::Copy(args) => copy::copy(args, output),
        ImageVerb::Save(args) => copy::save(args, output),
        ImageVerb::Load(args) => copy::load(args, output),
        ImageVerb::Push(args) => push::push(args, output),
        ImageVerb::Compare(args) => compare::compare(args, output),
    }
}
