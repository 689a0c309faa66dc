//! `affiant image tree`, `triangulate` and `digest`.

use std::fmt::Write as _;

use affiant_core::image::attached::{BUNDLE_TYPE, IN_TOTO_TYPE, PREDICATE_TYPE};
use affiant_core::image::platforms::members_there;
use affiant_core::image::walk::{self, Referring};
use affiant_core::image::{Descriptor, Digest, RepositoryError, Skipped};
use clap::{Args, ValueEnum};

use super::place::{Image, RegistryArgs, tell_skipped};
use super::targets::no_answer;
use crate::cli::Ending;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{Output, one_line};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Signature,
    Attestation,
    Sbom,
    Digest,
}

#[derive(Args)]
pub(crate) struct TriangulateArgs {
    /// The image; a tag is resolved once
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Whose name is printed
    #[arg(long = "type", value_enum, default_value = "signature")]
    what: What,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Args)]
pub(crate) struct TreeArgs {
    /// The image; a tag is resolved once
    #[arg(value_name = "IMAGE")]
    image: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Args)]
pub(crate) struct DigestArgs {
    /// The image; a tag is resolved once
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Print `name@digest`
    #[arg(long)]
    full_ref: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) fn triangulate(args: &TriangulateArgs, output: &Output) -> Result<Ending, Failure> {
    let image = args.registry.image(&args.image)?;
    let suffix = match args.what {
        What::Signature => ".sig",
        What::Attestation => ".att",
        What::Sbom => ".sbom",
        What::Digest => {
            output.data(format!("{}\n", image.pinned()).as_bytes())?;
            return Ok(Ending::Done);
        }
    };
    let tag = format!("{}{}", image.prefix(), image.digest().tag(suffix));
    output.data(format!("{}:{tag}\n", image.keeper_name()).as_bytes())?;
    Ok(Ending::Done)
}

pub(super) fn digest(args: &DigestArgs, output: &Output) -> Result<Ending, Failure> {
    let image = args.registry.image(&args.image)?;
    let text = if args.full_ref { image.pinned() } else { image.digest().to_string() };
    output.data(format!("{text}\n").as_bytes())?;
    Ok(Ending::Done)
}

pub(super) fn tree(args: &TreeArgs, output: &Output) -> Result<Ending, Failure> {
    let image = args.registry.image(&args.image)?;
    let failed = |error: RepositoryError| no_answer(&image.pinned(), &error);
    let mut text = format!("{}\n", image.pinned());
    let mut lines = 0;
    let mut skipped = Vec::new();
    let mut gone = Vec::new();
    let absent = |entry: Descriptor| {
        gone.push(entry.digest);
        Ok(())
    };
    let key = |entry: &Descriptor| Some(entry.digest.clone());
    for member in members_there(image.repository(), &image.stored, key, absent).map_err(failed)? {
        let kept = kept_about(&image, member.stored.digest(), &mut skipped).map_err(failed)?;
        lines += kept.len();
        let indent = if let Some(entry) = &member.entry {
            // Of the manifests of an index those about which something is kept.
            if kept.is_empty() {
                continue;
            }
            let platform = entry.platform.as_ref().map(|platform| format!(" {platform}")).unwrap_or_default();
            let _ = writeln!(text, "├── image {}@{}{}", image.name(), entry.digest, one_line(&platform));
            "│   "
        } else {
            ""
        };
        for line in kept {
            let _ = writeln!(text, "{indent}{line}");
        }
    }
    for digest in gone {
        let _ = writeln!(text, "├── image {}@{digest} (not there)", image.name());
    }
    tell_skipped(&skipped, output);
    let is_whole = !skipped.iter().any(|one| one.hides);
    if lines == 0 && is_whole {
        text.push_str("└── nothing is kept about it\n");
    }
    output.data(text.as_bytes())?;
    if is_whole {
        Ok(Ending::Done)
    } else {
        Err(Failure::new(Kind::NoAnswer, format!("{}: not all that is kept about it can be read", image.pinned())))
    }
}

/// Lines about what is kept about a manifest; what cannot be read is passed over.
fn kept_about(image: &Image, of: &Digest, skipped: &mut Vec<Skipped>) -> Result<Vec<String>, RepositoryError> {
    let mut lines = Vec::new();
    for (shown, keeper) in image.keepers_shown() {
        for (what, suffix) in [("signatures", ".sig"), ("attestations", ".att"), ("SBOMs", ".sbom")] {
            let tag = format!("{}{}", image.prefix(), of.tag(suffix));
            let Some(stored) = walk::tagged(keeper, &tag, skipped)? else { continue };
            lines.push(format!("├── {what} in the tag {shown}:{tag}"));
            let layers = stored.manifest().map(|manifest| manifest.layers().to_vec()).unwrap_or_default();
            for layer in layers {
                let kind = layer.annotation(PREDICATE_TYPE).unwrap_or(&layer.media_type);
                lines.push(format!("│   ├── {} {}", layer.digest, one_line(kind)));
            }
        }
        let unread = walk::first_referrers(keeper, of, |entry, referring| {
            let (kind, manifest) = match &referring {
                Referring::Manifest(manifest) => (manifest.artifact_type().unwrap_or("(of no type)"), Some(manifest)),
                Referring::Other(manifest) => ("(about another manifest)", Some(manifest)),
                Referring::Absent | Referring::Malformed(_) | Referring::Unreadable(_) => ("(cannot be read)", None),
            };
            let noted = manifest.and_then(|manifest| manifest.annotations.as_ref());
            let predicate = noted.and_then(|noted| noted.get(BUNDLE_TYPE).or_else(|| noted.get(IN_TOTO_TYPE)));
            let predicate = predicate.map(|predicate| format!(", {}", one_line(predicate))).unwrap_or_default();
            lines.push(format!("├── referrer {shown}@{} {}{predicate}", entry.digest, one_line(kind)));
            Ok(())
        })?;
        skipped.extend(unread);
    }
    Ok(lines)
}
