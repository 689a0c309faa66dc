//! Entries of logs that were queued: where they go, and how they get there.

use affiant_core::image::Digest;
use affiant_core::image::attached::Layer;
use affiant_core::image::complete::{self, Completed};
use affiant_core::image::shared::Pace;
use affiant_core::keyless::queue::{Place, Queued};
use affiant_core::keyless::rekor::LogEntry;

use super::place::Image;
use super::targets::{self, Place as Opened, TargetArgs, Use, no_answer};
use crate::cli::failure::{Failure, Kind};

impl Image {
    /// The name by which what is kept about the image is found from anywhere.
    fn keeper_for_later(&self) -> String {
        let name = self.keeper_name();
        for prefix in ["oci:", "oci-archive:"] {
            if let Some(path) = name.strip_prefix(prefix) {
                return std::path::absolute(path)
                    .map_or_else(|_| name.to_owned(), |path| format!("{prefix}{}", path.display()));
            }
        }
        name.to_owned()
    }

    /// Where the bundle of a statement about one of its manifests will be.
    pub(super) fn place_of_bundle(&self, subject: &Digest) -> Place {
        Place::Bundle { keeper: self.keeper_for_later(), subject: subject.clone() }
    }

    /// Where a layer will be.
    pub(super) fn place_of(&self, subject: &Digest, layer: &Layer, is_referrer: bool) -> Place {
        let (keeper, subject) = (self.keeper_for_later(), subject.clone());
        let tag = format!("{}{}", self.prefix(), subject.tag(layer.kind.suffix()));
        let layer = Digest::of(&layer.bytes);
        if is_referrer {
            Place::Referrer { keeper, subject, layer }
        } else {
            Place::Tag { keeper, subject, tag, layer }
        }
    }

    /// Where an attestation will be.
    pub(super) fn places_of(&self, subject: &Digest, layer: Option<&Layer>, bundle: bool) -> Vec<Place> {
        let layer = layer.map(|layer| self.place_of(subject, layer, false));
        layer.into_iter().chain(bundle.then(|| self.place_of_bundle(subject))).collect()
    }
}

/// Looks whether the signature is still kept about an image.
pub(crate) fn look(args: &TargetArgs, place: &Place, queued: &Queued) -> Result<(), Failure> {
    let (keeper, opened) = open(args, place, Use::Read)?;
    complete::look(&*opened.repository, place, queued).map_err(|error| no_answer(keeper, &error))
}

/// Puts an entry where the signature is kept about an image.
pub(crate) fn complete(
    args: &TargetArgs,
    place: &Place,
    queued: &Queued,
    entry: &LogEntry,
) -> Result<Completed, Failure> {
    let (keeper, opened) = open(args, place, Use::Change)?;
    let completed = complete::complete(&*opened.repository, place, queued, entry, &Pace::default())
        .map_err(|error| no_answer(keeper, &error))?;
    opened.finish()?;
    Ok(completed)
}

fn open<'p>(args: &TargetArgs, place: &'p Place, purpose: Use) -> Result<(&'p str, Opened), Failure> {
    let (Place::Bundle { keeper, subject }
    | Place::Tag { keeper, subject, .. }
    | Place::Referrer { keeper, subject, .. }) = place
    else {
        return Err(Failure::new(Kind::NoAnswer, format!("{place} is no image")));
    };
    let text = format!("{keeper}@{subject}");
    Ok((keeper, args.open_target(&text, targets::named(&text)?, purpose)?))
}
